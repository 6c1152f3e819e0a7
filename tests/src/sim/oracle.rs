//! What must never be seen, whatever happens: judged by what flash, runtimes, disk and wire hold, never by what code believes.
//!
//! Numbers in brackets are the invariants of the reliability contract.
use super::device::PACKET_BYTES_MAX;
use super::network::Client;
use super::record::{Kept, Key, Policy, Set};
use super::runtime::Phase;
use super::world::{FLEET, World};
use agent_nostd::machine::port::{Inbound, JournalKey, LaunchId};
use hub::engine::Publication;
use std::collections::{BTreeMap, BTreeSet};
use wire::desired::Desired;
use wire::event::Log;
use wire::record::Role;
use wire::status::{State, Status};
use wire::topic::{Down, Topic, Up};
use wire::{Digest, Kind, LiveContext, Revision, WorkloadId};

/// QoS 1 publications of one device without their PUBACK: hellos 2, status, heartbeat, four logs, four events, and repeats
/// that a new Hello brings.
pub const OUTSTANDING_MAX: u32 = 16;
/// Old desired messages kept for replays.
const FRAMES_MAX: usize = 8;
/// Failures of a workload after which a device may go back to an earlier version of it.
const FAILURES_FOR_ROLL_BACK: u32 = 3;

/// What happened to a flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A write succeeded and the machine is told so.
    Written,
    /// A write failed. What it left counts for nothing until a boot finds it.
    Failed,
    PowerOff,
    Rot,
    Boot,
}

impl Change {
    /// What the flash holds then is what the device acts upon.
    fn is_acted_upon(self) -> bool {
        match self {
            Self::Written | Self::Boot => true,
            Self::Failed | Self::PowerOff | Self::Rot => false,
        }
    }
}

/// What was seen of one device.
#[derive(Debug, Default)]
pub struct Seen {
    /// The highest set that the device has acted upon; only rot lowers it.
    floor: Option<(Revision, Digest)>,
    truth: Vec<u8>,
    /// Sets that were durable on this device.
    accepted: BTreeMap<Revision, Set>,
    /// What the machine was told to be durable, newest last.
    told: Vec<Revision>,
    pub frames: Vec<Vec<u8>>,
    pub crashes: u32,
    outstanding: u32,
    hellos: u32,
    hello_bytes: usize,
    /// At the first Fresh of a measurement: how many Hellos it took, and the application bytes of both.
    pub first_fresh: Option<(u32, usize)>,
    pub desired_bytes: usize,
    /// Log sequences of this boot that reached the broker, and what the device says it lost.
    logs: BTreeSet<u32>,
    logs_lost: u32,
    /// What its last status said of each component.
    pub states: Vec<(WorkloadId, State)>,
}

impl Seen {
    pub fn connected(&mut self) {
        self.outstanding = 0;
    }

    pub fn acknowledged(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
    }

    pub fn received(&mut self, from: Inbound, bytes: usize) {
        match from {
            Inbound::Down(Down::Fresh) => {
                let before = (self.hellos, self.hello_bytes);
                self.first_fresh.get_or_insert((before.0, before.1 + bytes));
            }
            Inbound::Down(Down::Desired) => self.desired_bytes += bytes,
            Inbound::Down(_) | Inbound::HubState => {}
        }
    }

    pub fn begin_measuring(&mut self) {
        (self.hellos, self.hello_bytes, self.first_fresh, self.desired_bytes) = (0, 0, None, 0);
    }

    pub fn forget_floor(&mut self) {
        self.floor = None;
        self.truth.clear();
    }

    pub fn told(&self) -> Option<Revision> {
        self.told.last().copied()
    }

    /// What the device acts upon. After rot that is in its memory only, until the next write.
    pub fn holds(&self) -> Option<&Set> {
        let revision = self.floor.map(|(revision, _)| revision).or(self.told())?;
        self.accepted.get(&revision)
    }

    /// The set that the machine was told of last.
    pub fn newest(&self) -> Option<&Set> {
        self.accepted.get(&self.told()?)
    }

    /// The sets that the machine may act upon: the last two that it was told of.
    pub fn current(&self) -> impl Iterator<Item = &Set> {
        self.told.iter().rev().take(2).filter_map(|revision| self.accepted.get(revision))
    }

    /// Log records that neither arrived nor were reported lost (I7).
    pub fn logs_missing(&self) -> u32 {
        let highest = self.logs.last().copied().unwrap_or(0);
        highest.saturating_sub(self.logs.len() as u32).saturating_sub(self.logs_lost)
    }
}

impl World<'_> {
    // --- What flash holds ---

    /// After every change of a device's flash.
    pub fn judge_flash(&mut self, device: usize, why: Change) {
        let node = &mut self.devices[device];
        let floor = node.seen.floor;
        let Some(value) = node.flash.value(JournalKey::Accepted) else {
            if floor.is_some() {
                self.fail(|| format!("[I1] dev-{device} held {floor:?} and holds nothing ({why:?})"));
            }
            return;
        };
        if value == node.seen.truth.as_slice() && !why.is_acted_upon() {
            return;
        }
        node.seen.truth = value.to_vec();
        let Some((signed, set)) = Set::of_journal(value) else {
            return self.fail(|| format!("[I2] the journal of dev-{device} holds what is not a set"));
        };
        let (id, revision, digest) = (node.id, set.revision, set.digest);
        if why.is_acted_upon() {
            node.seen.floor = Some((revision, digest));
            node.seen.accepted.insert(revision, set);
        }
        if let Some((before, digest_before)) = floor {
            if revision < before {
                return self.fail(|| format!("[I1] dev-{device} went back from {before} to {revision} ({why:?})"));
            }
            if revision == before && digest != digest_before {
                return self.fail(|| format!("[I1] dev-{device} holds another set under {revision} than before"));
            }
        }
        if !signed.verify(&*self.ground.verifier, &self.ground.signer.public_key(), FLEET, id) {
            return self.fail(|| format!("[I2] dev-{device} accepted {revision} with a signature of a stranger"));
        }
        if !self.was_signed(id, revision, digest) {
            return self.fail(|| format!("[I2] dev-{device} accepted {revision} which this hub never signed"));
        }
        if floor.is_none_or(|(before, _)| before != revision) {
            self.say(|_| format!("dev-{device} holds {revision} ({why:?})"));
        }
    }

    pub fn judge_boot(&mut self, device: usize) {
        self.judge_flash(device, Change::Boot);
        let node = &mut self.devices[device];
        node.samples.begin_boot(node.flash.value(JournalKey::Alarms));
        let seen = &mut self.devices[device].seen;
        seen.told.clear();
        seen.told.extend(seen.floor.map(|(revision, _)| revision));
        seen.outstanding = 0;
        seen.logs.clear();
        seen.logs_lost = 0;
    }

    pub fn judge_told(&mut self, device: usize) {
        self.devices[device].trials.clear();
        let seen = &mut self.devices[device].seen;
        seen.told.extend(seen.floor.map(|(revision, _)| revision));
    }

    // --- What runs ---

    fn failures(&self, device: usize, key: Key) -> u32 {
        let node = &self.devices[device];
        let of_workload = node.runtime.failures.iter().filter(|((workload, _), _)| *workload == key.0);
        of_workload.map(|(_, count)| count).sum::<u32>() + node.seen.crashes
    }

    pub fn judge_start(&mut self, device: usize, launch: LaunchId, kept: &Kept) {
        self.trial_starts(device, kept);
        let node = &self.devices[device];
        let key = kept.key();
        let same: Vec<LaunchId> = node.runtime.of_key(key).map(|(launch, _)| *launch).collect();
        if !same.is_empty() || node.runtime.instances.contains_key(&launch) {
            return self.fail(|| format!("dev-{device} starts {launch:?} of {key:?} beside {same:?}"));
        }
        if !node.store.contains(&kept.core.artifact) && self.counts.of(super::fault::Fault::StoreLoss) == 0 {
            return self.fail(|| format!("dev-{device} starts {key:?} without its artifact"));
        }
        let is_exact = node.seen.current().any(|set| set.records.contains(kept));
        let is_listed = node.seen.current().any(|set| set.get(key).is_some());
        if !is_listed {
            return self.fail(|| format!("[I2] dev-{device} starts {key:?}, which its accepted set lacks"));
        }
        if let Some(missing) = kept.after.iter().find(|component| !self.is_ready(device, kept, **component)) {
            return self.fail(|| format!("dev-{device} starts {key:?} before component {missing}"));
        }
        if is_exact {
            return;
        }
        if !node.seen.accepted.values().any(|set| set.records.contains(kept)) {
            return self.fail(|| format!("[I2] dev-{device} starts a version of {key:?} that was never durable"));
        }
        // Until the artifacts of the wanted version are there, the last good one may go on.
        let of_workload = |kept: &&Kept| kept.core.workload == key.0;
        let wanted = node.seen.current().flat_map(|set| set.records.iter().filter(of_workload));
        let is_missing = wanted.into_iter().any(|kept| !node.store.contains(&kept.core.artifact));
        if self.failures(device, key) == 0 && !is_missing {
            self.fail(|| format!("dev-{device} starts an older version of {key:?} although nothing failed"));
        }
    }

    /// Whether a component that comes before `kept` runs or is done, in the version that belongs to it.
    fn is_ready(&self, device: usize, kept: &Kept, component: u8) -> bool {
        let node = &self.devices[device];
        let key = (kept.core.workload, component);
        let of_same_set = node.seen.current().find(|set| set.records.contains(kept)).and_then(|set| set.get(key));
        let fits = |version: Digest| of_same_set.is_none_or(|other| other.version == version);
        let mut running = node.runtime.of_key(key).filter(|(_, other)| other.kept.core.role == Role::Service);
        let mut done = node.runtime.completed.iter().chain(&node.runtime.jobs_done);
        running.any(|(_, other)| other.phase == Phase::Running && fits(other.kept.version))
            || done.any(|(of, version)| *of == key && fits(*version))
    }

    /// Nothing is stopped but for a reason on this device (I6).
    pub fn judge_stop(&mut self, device: usize, launch: LaunchId) {
        let node = &self.devices[device];
        let Some(instance) = node.runtime.instances.get(&launch) else { return };
        let key = instance.kept.key();
        let version = instance.kept.version;
        let is_wanted = node.seen.current().all(|set| set.get(key).is_some_and(|kept| kept.version == version));
        // Work that ends without the hub is stopped a little before it would be cut, and when the journal cannot count its time.
        let ends = instance.kept.policy != Policy::Autonomous;
        let has_reason = ends
            || instance.hangs
            || instance.phase == Phase::Stopping
            || self.failures(device, key) >= FAILURES_FOR_ROLL_BACK;
        self.say(|_| format!("dev-{device} stops {key:?}"));
        if is_wanted && !has_reason {
            self.fail(|| format!("[I6] dev-{device} stops {key:?}, which runs well and is wanted"));
        }
    }

    // --- What crosses the air ---

    pub fn judge_publish(&mut self, device: usize, is_answered: bool, payload: &[u8]) {
        let seen = &mut self.devices[device].seen;
        seen.outstanding += u32::from(is_answered);
        let outstanding = seen.outstanding;
        if outstanding > OUTSTANDING_MAX {
            self.fail(|| format!("[I7] dev-{device} has {outstanding} publications in flight"));
        }
        if payload.len() > PACKET_BYTES_MAX as usize {
            self.fail(|| format!("[I7] dev-{device} publishes {} bytes", payload.len()));
        }
    }

    pub fn judge_publication(&mut self, parsed: Topic, publication: &Publication) {
        let Publication { topic, payload, retain, .. } = publication;
        let may_retain = match parsed {
            Topic::Down(_, down) => down.is_retained(),
            Topic::HubState => true,
            Topic::Up(..) => payload.is_empty(),
            Topic::JoinRequest(_) | Topic::JoinAnswer(_) => false,
        };
        if *retain && !may_retain {
            return self.fail(|| format!("the hub retains {topic}"));
        }
        self.judge_silence(&parsed);
        let Topic::Down(device, Down::Desired) = parsed else { return };
        if payload.is_empty() {
            return;
        }
        match Desired::decode(payload) {
            Ok(desired) => {
                let header = &desired.signed.header;
                let durable = self.hub.durable.signed.get(&(device, header.revision));
                if durable != Some(&header.body) {
                    let revision = header.revision;
                    return self.fail(|| format!("the hub publishes {revision} of {device}, which is not durable"));
                }
            }
            Err(error) => return self.fail(|| format!("the hub publishes a set that does not decode: {error}")),
        }
        if let Some(index) = self.ids.iter().position(|id| *id == device) {
            let frames = &mut self.devices[index].seen.frames;
            if frames.last() != Some(payload) {
                frames.push(payload.clone());
            }
            if frames.len() > FRAMES_MAX {
                frames.remove(0);
            }
        }
    }

    /// What the broker took over from a device.
    pub fn observe_up(&mut self, client: Client, topic: Topic, payload: &[u8]) {
        let (Client::Device(device), Topic::Up(id, up)) = (client, topic) else { return };
        match up {
            Up::Hello => {
                let seen = &mut self.devices[device].seen;
                seen.hellos += 1;
                seen.hello_bytes += payload.len();
            }
            Up::Sample => self.samples_arrive(device, payload),
            Up::Log | Up::Status => {
                let Some(boot) = self.devices[device].agent.as_ref().map(|agent| agent.boot()) else { return };
                let key = &self.ground.pair_keys[device];
                let kind = if up == Up::Log { Kind::Log } else { Kind::Status };
                let Ok(body) = wire::frame::live_body_unchecked(payload, kind) else { return };
                let seen = &mut self.devices[device].seen;
                // A frame of an earlier boot does not verify, and belongs to an account that was closed.
                let is_of = |session| {
                    let context = LiveContext { fleet: FLEET, device: id, boot, session };
                    wire::frame::open_live(payload, kind, key, &context).is_ok()
                };
                if kind == Kind::Log {
                    if let Ok(log) = Log::decode(body)
                        && is_of(log.fixed.session)
                    {
                        let first = log.fixed.sequence;
                        seen.logs.extend(first..first + u32::from(log.fixed.count));
                    }
                } else if let Ok(status) = Status::decode(body)
                    && is_of(status.fixed.session)
                {
                    seen.logs_lost = status.fixed.lost.logs;
                    self.devices[device].samples.lost(status.fixed.lost);
                    let seen = &mut self.devices[device].seen;
                    seen.states.clear();
                    seen.states.extend(status.entries().map(|entry| (entry.workload, entry.state)));
                    self.glance_at(device);
                }
            }
            _ => {}
        }
    }
}
