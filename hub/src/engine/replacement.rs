//! What becomes of the work of lost devices: when it is given up, and where it goes when they are back.
//!
//! Each workload says it (`partition.replace`, `grace`, `onReturn`). Work is taken off a lost device only when another takes
//! its place; what nobody can take waits where it is. A device that comes and goes loses work at most once in a dwell.

use super::Engine;
use super::event::Draft;
use super::object::Act;
use super::port::{Instant, Now};
use super::stored::{Spec, Stored, WorkloadBody};
use crate::commit::{AuditEntry, Write};
use crate::model::{ObjectKey, OnReturn, PartitionMode, Replace, WorkloadSpec};
use crate::scheduler::{self, CurrentPlacement, DeviceIndex, Losses, Resources, Standing, WorkloadSpecView};
use std::collections::BTreeSet;
use std::time::Duration;

/// Between the time at which a device must have stopped and that at which another may begin.
const LEASE_MARGIN: Duration = Duration::from_millis(wire::lease::LEASE_MARGIN_MS);
/// Work is moved away from one device at most once in this time, however often it is lost.
pub const REPLACEMENT_DWELL: Duration = Duration::from_secs(600);
/// The successor of exclusive work is placed after a quarter of its lease and at most this: it can begin only when the lease
/// is over, and a connection that broke for a moment should not move it.
pub const EXCLUSIVE_WAIT_MAX: Duration = Duration::from_secs(10);

/// When a workload leaves a lost device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaves {
    Never,
    /// So long after the verdict.
    After(Duration),
    /// When the device must have stopped it by itself: so long after freshness was vouched for last.
    WhenStopped(Duration),
}

impl Engine {
    /// A workload as placement asks about it now: with what lost devices mean to it, and who had it before.
    pub(super) fn asked(
        &self,
        now: Now,
        key: &ObjectKey,
        stored: &Stored,
        body: &WorkloadBody,
    ) -> Option<(WorkloadSpecView, Vec<CurrentPlacement>)> {
        let mut view = self.view(key, stored, body, body.encoded.as_ref()?);
        let mut current = self.current(body.id);
        let given_up = self.given_up(now, body).0;
        let mut preferred = Vec::new();
        for index in self.originals_back(body) {
            // It holds nothing yet: zero is what it has of what it counts as used.
            current.push(CurrentPlacement { device: DeviceIndex(index), holds: Resources::default() });
            if body.spec.partition.on_return() == OnReturn::KeepOriginal {
                preferred.push(DeviceIndex(index));
            }
        }
        preferred.sort_unstable();
        let withheld = self.withheld(key, stored.generation);
        let avoids_lost = is_movable(&body.spec) && self.state.fleet.lost() > 0;
        view.losses = Losses { avoids_lost, given_up, preferred, withheld };
        if avoids_lost && view.losses.given_up.is_empty() {
            self.admit_lost(now, &mut view, &mut current);
        }
        Some((view, current))
    }

    /// If too few devices are heard of, the lost ones may have it too: it begins when they are back. Those that were found
    /// without them stay chosen.
    fn admit_lost(&self, now: Now, view: &mut WorkloadSpecView, current: &mut Vec<CurrentPlacement>) {
        let decision = scheduler::place(&self.snapshot(now), view, current);
        if decision.shortfall == 0 {
            return;
        }
        view.losses.avoids_lost = false;
        let new = decision.chosen.iter().filter(|chosen| chosen.standing == Standing::New);
        current.extend(new.map(|chosen| CurrentPlacement { device: chosen.device, holds: Resources::default() }));
    }

    /// The lost devices that a workload leaves now, sorted; and when to look again.
    pub(super) fn given_up(&self, now: Now, body: &WorkloadBody) -> (Vec<DeviceIndex>, Option<Instant>) {
        let (mut given_up, mut next) = (Vec::new(), None::<Instant>);
        let holders = self.state.holders.get(&body.id);
        for index in holders.into_iter().flatten().copied() {
            let Some(due) = self.replacement_due(now, index, body) else { continue };
            if due <= now.monotonic {
                given_up.push(DeviceIndex(index));
            } else {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        (given_up, next)
    }

    /// When a workload leaves a lost device.
    fn replacement_due(&self, now: Now, index: u32, body: &WorkloadBody) -> Option<Instant> {
        self.is_lost_for(now, index)?;
        let observed = &self.state.devices.get(index)?.observed;
        let lost_since = observed.lost_since?;
        let due = match leaves(&body.spec) {
            Leaves::Never => return None,
            Leaves::After(wait) => lost_since.after(wait),
            Leaves::WhenStopped(stop) => {
                // What a former hub vouched for was before this one started.
                let vouched = observed.fresh_at.or(self.watch.started).unwrap_or(now.monotonic);
                lost_since.max(vouched.after(stop))
            }
        };
        match observed.replaced {
            Some((at, loss)) if loss != lost_since => Some(due.max(at.after(REPLACEMENT_DWELL))),
            Some(_) | None => Some(due),
        }
    }

    /// Has what a lost device holds looked at: each workload when it is due.
    pub(super) fn replacement_mark(&mut self, now: Now, index: u32) {
        let Some(device) = self.state.devices.get(index) else { return };
        let held: Vec<u32> = device.desired.iter().flat_map(|desired| desired.assigned.keys().copied()).collect();
        for id in held {
            let key = self.state.workloads.get(&id);
            let Some(stored) = key.and_then(|key| self.state.objects.get(key)) else { continue };
            let due = stored.workload().and_then(|body| self.replacement_due(now, index, body));
            if let Some(due) = due {
                self.placement.mark_at(due.max(now.monotonic), id);
            }
        }
    }

    /// A device is back: who lacks replicas may find room, and who was moved away from it may return.
    pub(super) fn returned(&mut self, now: Now, index: u32) {
        let lacks = self.placement.found.iter().filter(|(_, found)| found.missing > 0);
        let lacking: Vec<u32> = lacks.map(|(id, _)| *id).collect();
        self.placement.mark_all(lacking.iter());
        let displaced = self.displaced(index);
        for id in displaced.iter().filter(|id| self.state.workloads.contains_key(id)) {
            self.placement.mark(*id);
        }
        if displaced.iter().any(|id| !self.state.workloads.contains_key(id)) {
            self.displacement_settle(now, index, |id, engine| engine.state.workloads.contains_key(&id));
        }
    }

    /// What was moved away from a device while it was lost, and may go back.
    fn displaced(&self, index: u32) -> BTreeSet<u32> {
        let device = self.state.devices.get(index);
        let stored = device.and_then(|device| self.state.objects.get(&ObjectKey::device(&device.keys.name)));
        stored.and_then(|stored| stored.device()).map(|body| body.reported.displaced.clone()).unwrap_or_default()
    }

    /// Devices that had a workload before they were lost, and that are there again.
    pub(super) fn originals_back(&self, body: &WorkloadBody) -> Vec<u32> {
        let is_wanted = match body.spec.partition.on_return() {
            OnReturn::KeepReplacement => false,
            OnReturn::KeepOriginal => true,
            // The nearer of both; among equals the one that has it is as good.
            OnReturn::Best => body.spec.placement.near.is_some(),
        };
        let names = self.state.displaced.get(&body.id).into_iter().flatten().filter(|_| is_wanted);
        let indexes = names.filter_map(|name| self.state.devices.index_named(name));
        let is_back = |index: &u32| {
            let device = self.state.devices.get(*index);
            device.is_some_and(super::status::is_online) && self.held(*index, body.id).is_none()
        };
        indexes.filter(is_back).collect()
    }

    /// What a device's object says of moved work, after a plan: gone from a lost one, settled with one that is back.
    pub(super) fn displacement_writes(
        &self,
        now: Now,
        id: u32,
        away: &[u32],
        settled: &[u32],
        writes: &mut Vec<Write>,
    ) -> Vec<AuditEntry> {
        let mut audit = Vec::new();
        let changes = away.iter().map(|index| (*index, true)).chain(settled.iter().map(|index| (*index, false)));
        for (index, is_away) in changes {
            let Some(device) = self.state.devices.get(index) else { continue };
            let key = ObjectKey::device(&device.keys.name);
            let Some(stored) = self.state.objects.get(&key) else { continue };
            let mut body = stored.body.clone();
            let Spec::Device(spec) = &mut body.spec else { continue };
            let is_news = match is_away {
                true => spec.reported.displaced.insert(id),
                false => spec.reported.displaced.remove(&id),
            };
            if is_news {
                let action = if is_away { "displace" } else { "settle" };
                audit.push(self.put_writes(now, &Act { actor: super::placement::ACTOR, action }, &key, body, writes));
            }
        }
        audit
    }

    /// Forgets displacements that mean nothing any more.
    fn displacement_settle(&mut self, now: Now, index: u32, keeps: impl Fn(u32, &Self) -> bool) {
        if self.pipeline.is_full() {
            return;
        }
        let Some(device) = self.state.devices.get(index) else { return };
        let key = ObjectKey::device(&device.keys.name);
        let Some(stored) = self.state.objects.get(&key) else { return };
        let mut body = stored.body.clone();
        let Spec::Device(spec) = &mut body.spec else { return };
        spec.reported.displaced.retain(|id| keeps(*id, self));
        let mut writes = Vec::new();
        let act = Act { actor: super::placement::ACTOR, action: "settle" };
        let audit = self.put_writes(now, &act, &key, body, &mut writes);
        self.commit(writes, vec![audit], Vec::new());
    }

    /// Devices that are back and of which is decided whether they get a workload again.
    pub(super) fn settled(&self, body: &WorkloadBody) -> Vec<u32> {
        let names = self.state.displaced.get(&body.id).into_iter().flatten();
        let indexes = names.filter_map(|name| self.state.devices.index_named(name));
        indexes.filter(|index| self.state.devices.get(*index).is_some_and(super::status::is_online)).collect()
    }

    /// Work is moved away from a device in its present loss.
    pub(super) fn replacement_done(&mut self, now: Now, index: u32) {
        if let Some(device) = self.state.devices.get_mut(index)
            && let Some(loss) = device.observed.lost_since
            && device.observed.replaced.is_none_or(|(_, of)| of != loss)
        {
            device.observed.replaced = Some((now.monotonic, loss));
        }
    }

    /// The event of work that leaves a lost device for others.
    pub(super) fn replaced_draft(&self, now: Now, key: &ObjectKey, index: u32, to: &[&str]) -> Draft {
        let device = self.state.devices.get(index);
        let name = device.map(|device| device.keys.name.clone()).unwrap_or_default();
        let lost = device.and_then(|device| device.observed.lost_since).unwrap_or(now.monotonic);
        let seconds = now.monotonic.since(lost).as_secs();
        let to = to.join(", ");
        let text = format!("{name} is lost since {seconds} s: {to} has it instead (DEVICE_LOST)");
        Draft::warning("Replaced", key, text).on(&name)
    }
}

/// Whether another device can stand in for a lost one. One replica on every device cannot, unless the nearest of each anchor
/// are meant.
fn is_movable(spec: &WorkloadSpec) -> bool {
    spec.replicas.is_some() || spec.placement.nearest_per.is_some()
}

/// When a workload leaves a lost device.
fn leaves(spec: &WorkloadSpec) -> Leaves {
    let partition = &spec.partition;
    match (partition.replace(), partition.mode()) {
        _ if !is_movable(spec) => Leaves::Never,
        (Replace::Never, _) => Leaves::Never,
        (Replace::AfterGrace, _) => Leaves::After(partition.grace().duration()),
        (Replace::AfterLease, PartitionMode::Exclusive { lease }) => {
            Leaves::After((lease.duration() / 4).min(EXCLUSIVE_WAIT_MAX))
        }
        (Replace::AfterLease, PartitionMode::StopAfter(after)) => {
            Leaves::WhenStopped(after.duration().saturating_add(LEASE_MARGIN))
        }
        // Autonomous work never stops by itself; the reader refuses to wait for that.
        (Replace::AfterLease, PartitionMode::Autonomous) => Leaves::Never,
    }
}
