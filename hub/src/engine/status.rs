//! Status of objects, derived when somebody looks: nothing here is stored, and nothing is decided by it.

use super::Engine;
use super::alone::{alone, span};
use super::device::{Ahead, Device, Entry, Presence, class_name};
use super::fare::Fare;
use super::placement::Found;
use super::port::Now;
use super::quarantine::RELEASE;
use super::stored::{DeviceBody, Spec, Stored, WorkloadBody, timestamp};
use crate::model::{
    Capacity, ComponentView, Condition, ConditionStatus, DeviceStatus, DeviceWorkload, Fulfilment, ObjectKey, Online,
    OnlineState, RevisionStatus, Shortfall, Silence, WorkloadDevice, WorkloadSpec, WorkloadStatus,
};
use crate::scheduler::PositionSource;
use serde_json::Value;
use std::time::Duration;
use wire::hello::Architecture;
use wire::status::{Reason, State};

/// Entries of `status.devices`; failing ones come first.
pub const DEVICES_SHOWN_MAX: usize = 200;
/// A component that failed lately counts as right again when it has run for so long, and through one period of its timer.
const RECOVERED_AFTER: Duration = Duration::from_secs(10);
/// For periods that are longer than this, it is long enough: then the device forgets its failures too.
const RECOVERED_AFTER_MAX: Duration = Duration::from_secs(600);

pub(super) fn is_online(device: &Device) -> bool {
    device.observed.presence == Presence::Online
}

/// A component on a device, as a class of its own for counting.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    Failing,
    Unknown,
    OnItsWay,
    /// Runs, and failed not long ago.
    Recovering,
    Right,
}

pub(super) fn state_name(state: State) -> &'static str {
    match state {
        State::Waiting => "Waiting",
        State::Fetching => "Fetching",
        State::Starting => "Starting",
        State::Running => "Running",
        State::Stopping => "Stopping",
        State::Stopped => "Stopped",
        State::BackOff => "BackOff",
        State::Completed => "Completed",
        State::Failed => "Failed",
        State::Refused => "Refused",
    }
}

fn architecture_name(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "x86_64",
        Architecture::Aarch64 => "aarch64",
        Architecture::Armv7 => "armv7",
        Architecture::Thumbv6m => "thumbv6m",
        Architecture::Thumbv7m => "thumbv7m",
        Architecture::Thumbv7em => "thumbv7em",
        Architecture::Thumbv8m => "thumbv8m",
        Architecture::Riscv32 => "riscv32",
        Architecture::Riscv64 => "riscv64",
    }
}

fn condition(name: &str, status: ConditionStatus, reason: &str, message: impl Into<String>) -> Condition {
    Condition { name: name.to_owned(), status, reason: reason.to_owned(), message: message.into() }
}

impl Engine {
    /// The whole document of an object, with its status.
    pub(super) fn document(&self, now: Now, stored: &Stored) -> Value {
        let status = match &stored.body.spec {
            Spec::Namespace(_) | Spec::Region(_) | Spec::Artifact(_) | Spec::Token(_) => Ok(Value::Null),
            Spec::Device(body) => serde_json::to_value(self.device_status(now, &stored.key, body)),
            Spec::Workload(body) => serde_json::to_value(self.workload_status(now, stored, body)),
        };
        stored.document(status.unwrap_or_default())
    }

    fn device_status(&self, now: Now, key: &ObjectKey, body: &DeviceBody) -> Option<DeviceStatus> {
        let index = self.state.devices.index_named(&key.name)?;
        let device = self.state.devices.get(index)?;
        let observed = &device.observed;
        let position = self.state.position(&key.name);
        let source = position.map_or("", |(_, source)| match source {
            PositionSource::Operator => "operator",
            PositionSource::Static | PositionSource::Reported => "device",
        });
        let desired = device.durable.as_ref().map(|durable| (durable.revision(), durable.digest()));
        let accepted = observed.accepted.filter(|(revision, _)| *revision != wire::Revision::default());
        let known = device.known.as_ref();
        let told = observed.reported.as_ref().and_then(|reported| Some((reported.at, reported.told?)));
        let free = told.map(|(_, told)| told);
        let (samples, latest) = self.sample_status(&key.name, observed.told.as_deref());
        Some(DeviceStatus {
            id: device.id().text().as_str().to_owned(),
            class: known.map_or(body.reported.class.clone(), |known| class_name(known.class).to_owned()),
            architecture: known.map_or("", |known| architecture_name(known.architecture)).to_owned(),
            agent_version: known.map_or_else(String::new, |known| known.agent_version.clone()),
            online: self.online(now, device),
            uptime_s: told.map(|(at, told)| {
                let since = if is_online(device) { now.monotonic.since(at).as_secs() } else { 0 };
                u64::from(told.uptime_s) + since
            }),
            revision: RevisionStatus {
                desired: desired.map_or_else(String::new, |(revision, _)| revision.to_string()),
                accepted: accepted.map_or_else(String::new, |(revision, _)| revision.to_string()),
                synced: desired == accepted,
            },
            position: position.map(|(position, _)| position),
            position_source: source.to_owned(),
            capacity: known.map(|known| Capacity {
                memory_bytes: u64::from(known.memory_bytes),
                storage_bytes: known.storage_bytes,
                records: u32::from(known.records),
                body_bytes: known.body_bytes,
                memory_free_bytes: free.map(|free| u64::from(free.memory_free_bytes)),
                storage_free_bytes: free.map(|free| free.storage_free_bytes),
            }),
            interfaces: known.map_or_else(Vec::new, |known| known.interfaces.names().map(str::to_owned).collect()),
            last_reset: observed.fare.as_ref().map(Fare::last_reset),
            wear: observed.fare.as_ref().map(Fare::wear).unwrap_or_default(),
            behind: self.gateway(device).map_or_else(String::new, |(name, _)| name),
            workloads: self.device_workloads(now, device),
            firmware: observed.firmware.as_ref().map(super::firmware::shown),
            samples,
            latest,
            conditions: self.device_conditions(device, body, desired == accepted),
        })
    }

    pub(super) fn online(&self, now: Now, device: &Device) -> Online {
        let observed = &device.observed;
        Online {
            state: match observed.presence {
                Presence::Online => OnlineState::Online,
                Presence::Never => OnlineState::Never,
                Presence::Suspect | Presence::Lost if observed.last_seen.is_none() => OnlineState::Never,
                Presence::Suspect | Presence::Lost => OnlineState::Unknown,
            },
            last_seen: observed.last_seen.map_or_else(String::new, |_| timestamp(observed.last_seen_wall_ms)),
            last_seen_age_ms: observed.last_seen.map(|at| now.monotonic.0.saturating_sub(at.0)),
            verdict: match observed.presence {
                Presence::Never | Presence::Online => None,
                Presence::Suspect => Some(Silence::Suspect),
                Presence::Lost => Some(Silence::Lost),
            },
        }
    }

    /// The gateway of a leaf, by name, and whether it is online.
    fn gateway(&self, device: &Device) -> Option<(String, bool)> {
        let id = device.observed.fare.as_ref()?.behind?;
        let gateway = self.state.devices.index_of(id).and_then(|index| self.state.devices.get(index));
        Some(gateway.map_or_else(|| (id.to_string(), false), |found| (found.keys.name.clone(), is_online(found))))
    }

    fn device_workloads(&self, now: Now, device: &Device) -> Vec<DeviceWorkload> {
        let assigned = device.desired.iter().flat_map(|desired| desired.assigned.keys());
        let mut out = Vec::new();
        for id in assigned {
            let Some(key) = self.state.workloads.get(id) else { continue };
            let stored = self.state.objects.get(key);
            let Some(body) = stored.and_then(|stored| stored.workload()) else { continue };
            out.extend(self.components(now, device, body).into_iter().map(|(_, shown)| DeviceWorkload {
                namespace: key.namespace.clone(),
                name: key.name.clone(),
                component: shown.component,
                state: shown.state,
                reason: shown.reason,
                detail: shown.detail,
                generation: shown.generation,
                running: shown.running,
                restarts: shown.restarts,
            }));
        }
        out
    }

    fn device_conditions(&self, device: &Device, body: &DeviceBody, is_synced: bool) -> Vec<Condition> {
        let mut out = Vec::new();
        if !body.spec.approved {
            let text = format!("approve it with: fulmar devices approve {}", device.keys.name);
            out.push(condition("Approved", ConditionStatus::False, "WaitsForApproval", text));
        }
        out.push(match (is_synced, is_online(device)) {
            (true, _) => condition("Synced", ConditionStatus::True, "Synced", "holds the set that is desired"),
            (false, true) => {
                condition("Synced", ConditionStatus::False, "OnItsWay", "the newest set is not accepted yet")
            }
            (false, false) => {
                condition("Synced", ConditionStatus::Unknown, "NotHeardOf", "gets the newest set when it comes back")
            }
        });
        if body.spec.decommissioning {
            let text = "is deleted when it has given up what it runs; while it is not heard of, only force deletes it";
            out.push(condition("Decommissioning", ConditionStatus::True, "WaitsForDevice", text));
        }
        if let Some((gateway, is_there)) = self.gateway(device).filter(|_| !is_online(device)) {
            out.push(if is_there {
                let text = format!(
                    "{gateway} is online and does not hear it: look at the board, its line and the log of {gateway}"
                );
                condition("Relayed", ConditionStatus::False, "LineLost", text)
            } else {
                let text = format!("its gateway {gateway} is not heard of either; what the leaf runs goes on");
                condition("Relayed", ConditionStatus::Unknown, "GatewayLost", text)
            });
        }
        if device.dispatch.too_large {
            let limit = device.observed.packet_bytes_max.unwrap_or_default();
            let text = format!("its set does not fit into its largest packet of {limit} bytes");
            out.push(condition("TooLarge", ConditionStatus::True, "TooLarge", text));
        }
        let withheld = body.spec.withheld.iter().filter(|entry| self.is_withheld_now(entry));
        let withheld: Vec<String> = withheld
            .map(|entry| format!("fulmar queue restore {}:{}/{}", device.keys.name, entry.namespace, entry.workload))
            .collect();
        if !withheld.is_empty() {
            let text = format!("does not get what was taken back; to give it after all: {}", withheld.join(", "));
            out.push(condition("Withheld", ConditionStatus::True, "TakenBack", text));
        }
        if device.observed.bad_tags > 0 {
            let text = format!("{} messages were not authentic since the hub started", device.observed.bad_tags);
            out.push(condition("NotAuthentic", ConditionStatus::True, "BadTag", text));
        }
        if device.observed.quarantined {
            let text = "kept out for a while, because it sent too many messages that do not count";
            out.push(condition("Quarantined", ConditionStatus::True, "Flood", text));
        }
        if device.observed.is_cloned {
            let text = "two machines used its keys in turn since the hub started";
            out.push(condition("Cloned", ConditionStatus::True, "TwoBoots", text));
        }
        let lost = device.observed.lost;
        let (lines, events) = (lost.logs, lost.events.max(device.observed.events_missing));
        let accounts = device.observed.told.as_ref().map(|told| told.losses()).unwrap_or_default();
        if lines > 0 || events > 0 || !accounts.is_empty() {
            let mut text = format!("{lines} lines and {events} events of its workloads were lost");
            accounts.iter().for_each(|more| text.push_str(more));
            out.push(condition("Losses", ConditionStatus::True, "Lost", text));
        }
        match device.observed.ahead {
            None => {}
            Some(Ahead::Claimed { .. }) => {
                let text = "claims a revision that this hub does not know, and was asked to prove it";
                out.push(condition("RevisionAhead", ConditionStatus::True, "Asked", text));
            }
            Some(Ahead::Proven { .. }) => {
                let name = &device.keys.name;
                let text =
                    format!("holds a set that this hub has forgotten, and keeps it until: fulmar hub apply {name}");
                out.push(condition("RevisionAhead", ConditionStatus::True, "Held", text));
            }
            Some(Ahead::Unproven) => {
                let name = &device.keys.name;
                let text = format!(
                    "kept apart, because it claims a revision that this hub does not know and does not prove it; to try again: \
                     {RELEASE} {name}"
                );
                out.push(condition("Quarantined", ConditionStatus::True, "Unproven", text));
            }
        }
        out
    }

    /// All components of a workload on one device.
    pub(super) fn components(&self, now: Now, device: &Device, body: &WorkloadBody) -> Vec<(Health, WorkloadDevice)> {
        let reported = device.observed.reported.as_ref();
        let boot = reported.map(|reported| reported.boot);
        // What a boot runs that lost its lease, or never had one, does not count: it is about to stop.
        let counts = body.spec.partition.lease().is_none() || self.is_leased_to(body.id, device.id(), boot);
        (0_u8..)
            .zip(body.spec.views())
            .map(|(number, view)| {
                let entries = reported.iter().flat_map(|reported| &reported.entries);
                let mut own = entries.filter(|entry| (entry.workload, entry.component) == (body.id, number));
                let entry = own.next();
                let settles = settle_time(&view);
                let is_unleased =
                    !counts && is_online(device) && entry.is_some_and(|entry| entry.state == State::Running);
                let (health, state, reason, detail) = match is_unleased {
                    true => unleased(),
                    false => judge(now, device, entry, body, settles),
                };
                let shown = WorkloadDevice {
                    device: device.keys.name.clone(),
                    component: view.name.to_owned(),
                    state: state.to_owned(),
                    reason: reason.to_owned(),
                    detail,
                    generation: u64::from(entry.map_or(body.record_generation, |entry| entry.generation)),
                    running: u64::from(entry.map_or(0, |entry| entry.running)),
                    restarts: entry.map_or(0, |entry| entry.restarts),
                };
                (health, shown)
            })
            .collect()
    }

    /// What failed lately counts as right some time later, without a message.
    pub(super) fn touch_when_settled(&mut self, now: Now, index: u32) {
        let Some(device) = self.state.devices.get(index) else { return };
        let entries = device.observed.reported.iter().flat_map(|reported| &reported.entries);
        let recovering = entries.filter(|entry| entry.state == State::Running && entry.attempts > 0);
        let mut later: Vec<(Duration, ObjectKey)> = Vec::new();
        for entry in recovering {
            let Some(key) = self.state.workloads.get(&entry.workload).cloned() else { continue };
            let stored = self.state.objects.get(&key);
            let Some(body) = stored.and_then(|stored| stored.workload()) else { continue };
            let settles = body.spec.views().iter().map(settle_time).max().unwrap_or(RECOVERED_AFTER);
            later.push((settles, key));
        }
        for (settles, key) in later {
            self.touch_later(now.monotonic.after(settles), key);
        }
    }

    pub(super) fn workload_status(&self, now: Now, stored: &Stored, body: &WorkloadBody) -> WorkloadStatus {
        let holders = self.state.holders.get(&body.id);
        let mut shown = Vec::new();
        let (mut placed, mut running, mut synced) = (0_u32, 0_u32, 0_u32);
        let mut worst = Health::Right;
        for device in holders.into_iter().flatten().filter_map(|index| self.state.devices.get(*index)) {
            placed += 1;
            let components = self.components(now, device, body);
            let health = components.iter().map(|(health, _)| *health).min().unwrap_or(Health::Unknown);
            running += u32::from(health >= Health::Recovering);
            worst = worst.min(health);
            let durable = device.durable.as_ref().map(|durable| (durable.revision(), durable.digest()));
            let is_current =
                device.desired.as_ref().map(|desired| desired.revision) == durable.map(|(revision, _)| revision);
            synced += u32::from(is_current && durable == device.observed.accepted);
            shown.extend(components);
        }
        shown.sort_by(|(a, x), (b, y)| (a, &x.device).cmp(&(b, &y.device)));
        let found = self.placement.found.get(&body.id);
        let wanted = found.map_or_else(|| body.spec.replicas.unwrap_or(placed), |found| found.wanted);
        let missing = wanted.saturating_sub(placed);
        let reason = found.map(|found| found.reason.clone()).unwrap_or_default();
        let observed_generation = found.map_or(0, |found| found.generation);
        let is_observed = observed_generation == stored.generation;
        let conditions = vec![
            synced_condition(found.filter(|_| is_observed), wanted, placed, synced),
            healthy_condition(&body.spec, worst, wanted, running, shown.first().map(|(_, shown)| shown)),
        ];
        let devices_omitted = u32::try_from(shown.len().saturating_sub(DEVICES_SHOWN_MAX)).unwrap_or(u32::MAX);
        WorkloadStatus {
            id: body.id,
            desired: wanted,
            placed,
            running,
            fulfilment: found.filter(|_| is_observed).map(|found| found.fulfilment),
            held_back: found.filter(|_| is_observed).map_or(0, |found| found.held_back),
            shortfall: (missing > 0 && is_observed).then_some(Shortfall { missing, reason }),
            observed_generation,
            lease: self.lease_status(now, body.id),
            conditions,
            devices: shown.into_iter().take(DEVICES_SHOWN_MAX).map(|(_, shown)| shown).collect(),
            devices_omitted,
        }
    }
}

fn synced_condition(found: Option<&Found>, wanted: u32, placed: u32, synced: u32) -> Condition {
    let name = "Synced";
    let Some(found) = found else {
        return condition(
            name,
            ConditionStatus::False,
            "NotPlacedYet",
            "placement has not looked at this generation yet",
        );
    };
    if placed < wanted {
        let text = format!("{placed} of {wanted} placed{}; {}", found.held(), found.reason);
        let reason = match found.fulfilment {
            Fulfilment::Complete | Fulfilment::Partial => "Shortfall",
            Fulfilment::Waiting => "WaitsForAll",
            Fulfilment::Failed => "Unplaceable",
        };
        return condition(name, ConditionStatus::False, reason, text);
    }
    let text = format!("{synced} of {placed} devices hold the newest set");
    match synced == placed {
        true => condition(name, ConditionStatus::True, "Synced", text),
        false => condition(name, ConditionStatus::False, "OnItsWay", text),
    }
}

fn healthy_condition(
    spec: &WorkloadSpec,
    worst: Health,
    wanted: u32,
    running: u32,
    first: Option<&WorkloadDevice>,
) -> Condition {
    let name = "Healthy";
    let text = format!("{running} of {wanted} run");
    if wanted == 0 {
        let why = if spec.every { "no device matches" } else { "no replicas are wanted" };
        return condition(name, ConditionStatus::True, "NothingWanted", why);
    }
    let about = first.map(|shown| {
        let mut about = format!("{text}; {}: {}", shown.device, shown.state);
        if shown.reason != Reason::NONE.code() {
            about.push_str(&format!(" {}", shown.reason));
        }
        if !shown.detail.is_empty() {
            about.push_str(&format!(": {}", shown.detail));
        }
        about
    });
    match worst {
        Health::Failing => condition(name, ConditionStatus::False, "Failing", about.unwrap_or(text)),
        Health::Right if running >= wanted => condition(name, ConditionStatus::True, "Running", text),
        Health::Right => condition(name, ConditionStatus::False, "Shortfall", text),
        Health::Recovering => condition(name, ConditionStatus::False, "Recovering", about.unwrap_or(text)),
        Health::OnItsWay => condition(name, ConditionStatus::False, "Progressing", about.unwrap_or(text)),
        Health::Unknown => condition(name, ConditionStatus::Unknown, "NotHeardOf", about.unwrap_or(text)),
    }
}

/// How long a component must run after a failure to count as right.
fn settle_time(view: &ComponentView<'_>) -> Duration {
    view.function.triggers.every.map_or(RECOVERED_AFTER, |every| {
        every.duration().saturating_add(Duration::from_secs(1)).clamp(RECOVERED_AFTER, RECOVERED_AFTER_MAX)
    })
}

/// What to show of exclusive work that is reported to run without its lease.
fn unleased<'a>() -> (Health, &'a str, &'a str, String) {
    let detail = "reported as running by a boot that does not hold the lease: it does not count".to_owned();
    (Health::OnItsWay, state_name(State::Waiting), Reason::WAITS_FOR_GRANT.code(), detail)
}

/// What to show of one component, and how it counts.
fn judge<'a>(
    now: Now,
    device: &Device,
    entry: Option<&Entry>,
    body: &WorkloadBody,
    settles: Duration,
) -> (Health, &'a str, &'a str, String) {
    let generation = body.record_generation;
    if !is_online(device) {
        let last = entry.map(|entry| format!("; last reported {}", state_name(entry.state))).unwrap_or_default();
        let detail = match device.observed.last_seen {
            Some(at) => {
                let ago = span(now.monotonic.since(at));
                format!("last seen {ago} ago, {}{last}", alone(now, device, &body.spec.partition))
            }
            None => "not seen since this hub started".to_owned(),
        };
        return (Health::Unknown, "Unknown", "NONE", detail);
    }
    if device.dispatch.too_large {
        let detail = "the device's set does not fit into its largest packet".to_owned();
        return (Health::Failing, "Pending", "TOO_LARGE", detail);
    }
    let Some(entry) = entry.filter(|entry| entry.generation >= generation) else {
        return (Health::OnItsWay, "Pending", "NONE", "assigned, not yet reported by the device".to_owned());
    };
    let is_settled = entry.attempts == 0 || now.monotonic.since(entry.since) >= settles;
    let health = match entry.state {
        State::Running if entry.running == generation && entry.reason == Reason::NONE && !is_settled => {
            let (count, seconds) = (entry.attempts, settles.as_secs());
            let detail = format!("failures lately: {count}; it counts as healthy when it has run for {seconds} s");
            return (Health::Recovering, state_name(entry.state), entry.reason.code(), detail);
        }
        State::Running if entry.running == generation && entry.reason != Reason::ROLLED_BACK => Health::Right,
        // A service that runs an older version was rolled back, or is being replaced.
        State::Running if entry.reason == Reason::ROLLED_BACK => Health::Failing,
        State::Completed => Health::Right,
        State::Running | State::Waiting | State::Fetching | State::Starting | State::Stopping | State::Stopped => {
            Health::OnItsWay
        }
        State::BackOff | State::Failed | State::Refused => Health::Failing,
    };
    (health, state_name(entry.state), entry.reason.code(), entry.detail.to_string())
}
