//! The placement controller: looks at workloads that may have changed, plans, and commits new sets for changed devices.
//!
//! Idempotent: it compares what is with what should be, so that running it once more changes nothing. One batch holds one
//! workload's changes, bounded; the rest follows. A plan is made and committed in one step against current state.

use super::Engine;
use super::desired;
use super::event::Draft;
use super::pending::{OpenBatch, Release};
use super::port::{Instant, Now};
use super::stored::{Stored, WorkloadBody};
use super::terms::fulfilment;
use crate::commit::{AuditEntry, Write};
use crate::model::{Fulfilment, ObjectKey, OnReturn};
use crate::scheduler::{self, Code, CurrentPlacement, DeviceIndex, Snapshot, Wanted, WorkloadSpecView};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use wire::Revision;
use wire::desired::ClassLimits;
use wire::id::Order;

/// Devices whose set changes in one batch.
pub const DEVICES_PER_BATCH_MAX: usize = 256;
/// Placement waits while so many batches are on their way to the database.
const BATCHES_AHEAD_MAX: usize = 64;
/// Everything is looked at again after this.
const PERIOD: Duration = Duration::from_secs(30);
/// After a failed commit.
const RETRY: Duration = Duration::from_secs(5);
pub(super) const ACTOR: &str = "system:placement";
/// Devices that an event names.
const NAMED_MAX: usize = 4;
/// Events of one batch; the rest is summed up.
const EVENTS_PER_BATCH_MAX: usize = 32;

/// What placement last found for a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub generation: u64,
    pub wanted: u32,
    pub missing: u32,
    /// Could be placed, but others cannot.
    pub held_back: u32,
    pub fulfilment: Fulfilment,
    pub reason: String,
}

impl Found {
    /// What `onShortfall` made of the shortfall, to be put behind a count.
    pub fn held(&self) -> &'static str {
        match self.fulfilment {
            Fulfilment::Complete | Fulfilment::Partial => "",
            Fulfilment::Waiting => ", nothing new starts until all can be placed (onShortfall: wait)",
            Fulfilment::Failed => ", nothing new starts and this counts as failed (onShortfall: fail)",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Placement {
    dirty: BTreeSet<u32>,
    is_all_due: bool,
    again_at: Option<Instant>,
    retry_at: Option<Instant>,
    /// When to look at whom again, because a lost device is to be given up then.
    later: BTreeSet<(Instant, u32)>,
    pub found: BTreeMap<u32, Found>,
    /// Counts since start, for who measures.
    pub runs: u64,
    pub placed: u64,
    pub removed: u64,
}

impl Placement {
    pub fn mark(&mut self, workload: u32) {
        self.dirty.insert(workload);
    }

    pub fn mark_all<'a>(&mut self, workloads: impl Iterator<Item = &'a u32>) {
        self.dirty.extend(workloads);
    }

    /// As `mark`, at a time.
    pub fn mark_at(&mut self, at: Instant, workload: u32) {
        self.later.insert((at, workload));
    }

    /// A commit failed: everything is looked at again, a little later.
    pub fn failed(&mut self, now: Instant) {
        self.is_all_due = true;
        self.retry_at = Some(now.after(RETRY));
    }

    pub fn timeout(&self) -> Option<Instant> {
        self.retry_at.or_else(|| self.again_at.into_iter().chain(self.later.first().map(|(at, _)| *at)).min())
    }
}

/// What one workload changes.
struct Round {
    /// Device and the set of workloads that it is to hold.
    sets: Vec<(u32, BTreeSet<u32>)>,
    releases: Vec<Release>,
    /// Lost devices that it left and may come back to, and devices that are back and of which that is decided.
    displaced: Vec<u32>,
    settled: Vec<u32>,
    is_cut: bool,
}

impl Round {
    fn new() -> Self {
        let (sets, releases, displaced, settled) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { sets, releases, displaced, settled, is_cut: false }
    }
}

impl Engine {
    pub(super) fn placement_run(&mut self, now: Now) {
        if self.placement.retry_at.is_some_and(|at| at > now.monotonic) {
            return;
        }
        self.placement.retry_at = None;
        if self.placement.is_all_due || self.placement.again_at.is_none_or(|at| at <= now.monotonic) {
            self.placement.is_all_due = false;
            self.placement.again_at = Some(now.monotonic.after(PERIOD));
            self.placement.mark_all(self.state.workloads.keys());
            // Workloads that are gone and still held.
            self.placement.mark_all(self.state.holders.keys());
        }
        while let Some((at, workload)) = self.placement.later.first().copied()
            && at <= now.monotonic
        {
            self.placement.later.pop_first();
            self.placement.mark(workload);
        }
        // Many workloads of the same devices make one set for each of these.
        let mut open = OpenBatch::default();
        while self.pipeline.len() < BATCHES_AHEAD_MAX
            && let Some(workload) = self.placement.dirty.pop_first()
        {
            self.place(now, workload, &mut open);
            if open.devices() > DEVICES_PER_BATCH_MAX / 2 {
                self.batch_send(std::mem::take(&mut open));
            }
        }
        self.batch_send(open);
    }

    fn place(&mut self, now: Now, workload: u32, open: &mut OpenBatch) {
        let room = DEVICES_PER_BATCH_MAX - open.devices();
        self.placement.runs += 1;
        let key = self.state.workloads.get(&workload).cloned();
        let stored = key.as_ref().and_then(|key| self.state.objects.get(key)).cloned();
        let (object, round) = match (&key, stored.as_deref().map(|stored| (stored, stored.workload()))) {
            (Some(key), Some((stored, Some(body)))) => (key.to_string(), self.plan(now, key, stored, body, room)),
            _ => (format!("workload #{workload}"), self.plan_removal(workload, room)),
        };
        if round.is_cut {
            self.placement.mark(workload);
        }
        let mut writes: Vec<Write> =
            round.sets.iter().filter_map(|(index, set)| self.desired_write(*index, set)).collect();
        let mut audit = self.displacement_writes(now, workload, &round.displaced, &round.settled, &mut writes);
        if writes.is_empty() {
            // What is only told, such as a shortfall, needs no commit.
            for release in round.releases {
                if let Release::Event(draft) = release {
                    self.tell(now, draft);
                }
            }
            return;
        }
        let entry = AuditEntry {
            time_ms: now.wall_ms,
            actor: ACTOR.to_owned(),
            action: "place",
            object,
            before: None,
            after: None,
        };
        audit.push(entry);
        self.batch_add(open, writes, audit, round.releases);
        self.mark_avoiding(key.as_ref());
    }

    /// A workload moved: those that keep away from it and lack replicas may find room now. Those that must leave because of
    /// it do so with the next look at everything, so that workloads in a circle cannot chase each other at full speed.
    fn mark_avoiding(&mut self, key: Option<&ObjectKey>) {
        let all = match key {
            Some(key) => self.state.avoided_by.get(key).cloned().unwrap_or_default(),
            // A deleted one has lost its name.
            None => self.state.avoided_by.values().flatten().copied().collect(),
        };
        let lacks = |id: &u32| self.placement.found.get(id).is_some_and(|found| found.missing > 0);
        let lacking: Vec<u32> = all.into_iter().filter(lacks).collect();
        self.placement.mark_all(lacking.iter());
    }

    fn plan_removal(&mut self, workload: u32, room: usize) -> Round {
        self.placement.found.remove(&workload);
        let holders: Vec<u32> = self.state.holders.get(&workload).into_iter().flatten().copied().collect();
        let holders: Vec<u32> = holders.into_iter().filter(|index| !self.state.is_held(*index)).collect();
        let is_cut = holders.len() > room;
        let sets = holders.into_iter().take(room);
        Round { sets: sets.map(|index| (index, self.set_without(index, workload))).collect(), is_cut, ..Round::new() }
    }

    fn plan(&mut self, now: Now, key: &ObjectKey, stored: &Stored, body: &WorkloadBody, room: usize) -> Round {
        let mut round = Round::new();
        let Some((view, current)) = self.asked(now, key, stored, body) else { return round };
        let snapshot = self.snapshot(now);
        let decision = scheduler::place(&snapshot, &view, &current);
        let news = decision.chosen.iter().filter(|chosen| self.held(chosen.device.0, body.id).is_none());
        let newcomers: Vec<&str> = news.map(|chosen| chosen.name.as_str()).take(NAMED_MAX).collect();
        // What nobody can take in place of a lost device stays with it: it goes on there, or begins when it is back.
        let mut waits = usize::try_from(decision.shortfall).unwrap_or(usize::MAX);
        let mut waiting = 0;
        for removed in &decision.removed {
            let index = removed.device.0;
            if self.held(index, body.id).is_none() || self.state.is_held(index) {
                continue;
            }
            let is_lost = removed.code == Code::DeviceLost;
            if is_lost && (waits > 0 || decision.held_back > 0) {
                waits = waits.saturating_sub(1);
                waiting += 1;
                continue;
            }
            round.sets.push((index, self.set_without(index, body.id)));
            self.placement.removed += 1;
            let draft = if is_lost {
                self.replacement_done(now, index);
                if body.spec.partition.on_return() != OnReturn::KeepReplacement {
                    round.displaced.push(index);
                }
                self.replaced_draft(now, key, index, &newcomers)
            } else {
                let name = removed.name.clone().unwrap_or_default();
                let text = format!("taken off {name}: {}", removed.code.as_str());
                Draft::normal("Removed", key, text).on(&name)
            };
            round.releases.push(Release::Event(draft));
        }
        for chosen in &decision.chosen {
            let index = chosen.device.0;
            let held = self.held(index, body.id);
            if held.is_some_and(|held| held.generation == body.record_generation) || self.state.is_held(index) {
                continue;
            }
            let mut set = self.set_without(index, body.id);
            set.insert(body.id);
            round.sets.push((index, set));
            if held.is_none() {
                self.placement.placed += 1;
                let far = chosen.distance.map(|distance| format!(", {:.1} km away", distance.km())).unwrap_or_default();
                let text = format!("placed on {}{far}", chosen.name);
                round.releases.push(Release::Event(Draft::normal("Placed", key, text).on(&chosen.name)));
            }
        }
        round.settled = self.settled(body);
        if let (_, Some(at)) = self.given_up(now, body) {
            self.placement.mark_at(at, body.id);
        }
        round.is_cut = round.sets.len() > room;
        round.sets.truncate(room);
        let events = round.releases.len();
        if events > EVENTS_PER_BATCH_MAX {
            round.releases.truncate(EVENTS_PER_BATCH_MAX);
            let text = format!("and {} more placements changed", events - EVENTS_PER_BATCH_MAX);
            round.releases.push(Release::Event(Draft::normal("Placed", key, text)));
        }
        let chosen = u32::try_from(decision.chosen.len()).unwrap_or(u32::MAX).saturating_add(waiting);
        let missing = decision.shortfall.saturating_sub(waiting);
        let wanted = match decision.wanted {
            Wanted::Replicas(replicas) => replicas,
            // With `nearestPer` some of the devices that it follows from can be missing.
            Wanted::Every => chosen.saturating_add(decision.held_back).saturating_add(missing),
        };
        let reason = if missing > 0 || chosen == 0 && wanted > 0 || !decision.unresolved.is_empty() {
            self.shortfall_reason(now, &view, &current)
        } else {
            String::new()
        };
        let found = Found {
            generation: stored.generation,
            wanted,
            missing,
            held_back: decision.held_back,
            fulfilment: fulfilment(decision.fulfilment),
            reason,
        };
        let before = self.placement.found.insert(body.id, found.clone());
        if before.as_ref() != Some(&found) {
            self.touch(now, key.clone());
        }
        if found.missing > 0 && before.as_ref() != Some(&found) {
            let text = format!("{chosen} of {wanted} placed{}; {}", found.held(), found.reason);
            round.releases.push(Release::Event(Draft::warning("Shortfall", key, text)));
        }
        round
    }

    fn shortfall_reason(&self, now: Now, view: &WorkloadSpecView, current: &[CurrentPlacement]) -> String {
        scheduler::text::shortfall_line(view, &scheduler::plan(&self.snapshot(now), view, current))
    }

    /// Times are of the wall clock: positions are known from before a restart.
    pub(super) fn snapshot(&self, now: Now) -> Snapshot<'_> {
        Snapshot {
            revision: self.pipeline.next() - 1,
            taken_at: Duration::from_millis(now.wall_ms),
            fleet: &self.state.fleet,
            regions: &self.state.regions,
        }
    }

    pub(super) fn current(&self, workload: u32) -> Vec<CurrentPlacement> {
        let holders = self.state.holders.get(&workload).into_iter().flatten();
        let held = |index: &u32| {
            let holds = self.held(*index, workload)?.holds;
            Some(CurrentPlacement { device: DeviceIndex(*index), holds })
        };
        holders.filter_map(held).collect()
    }

    pub(super) fn held(&self, index: u32, workload: u32) -> Option<super::device::Assigned> {
        self.state.devices.get(index)?.desired.as_ref()?.assigned.get(&workload).copied()
    }

    pub(super) fn set_without(&self, index: u32, workload: u32) -> BTreeSet<u32> {
        let desired = self.state.devices.get(index).and_then(|device| device.desired.as_ref());
        let all = desired.into_iter().flat_map(|desired| desired.assigned.keys().copied());
        all.filter(|other| *other != workload).collect()
    }

    /// The new set of a device; `None` if its bytes are the same.
    pub(super) fn desired_write(&self, index: u32, set: &BTreeSet<u32>) -> Option<Write> {
        self.desired_of(index, set, false)
    }

    /// The set of a device under a new revision, even if its bytes are the same.
    pub(super) fn desired_anew(&self, index: u32, set: &BTreeSet<u32>) -> Option<Write> {
        self.desired_of(index, set, true)
    }

    fn desired_of(&self, index: u32, set: &BTreeSet<u32>, is_anew: bool) -> Option<Write> {
        let device = self.state.devices.get(index)?;
        let objects: Vec<Arc<Stored>> =
            set.iter().filter_map(|id| self.state.objects.get(self.state.workloads.get(id)?).cloned()).collect();
        let encoded = objects.iter().filter_map(|stored| stored.workload()?.encoded.as_ref());
        let body = match desired::body(encoded) {
            Ok(body) => body,
            Err(error) => {
                tracing::error!(device = %device.id(), %error, "a desired set cannot be written and stays as it was");
                return None;
            }
        };
        if !is_anew && device.desired.as_ref().is_some_and(|desired| *desired.body == *body) {
            return None;
        }
        // Numbers of batches never come back within an incarnation, so a revision is never given twice.
        let revision = Revision(Order::new(self.incarnation, self.pipeline.next())?);
        let limits = match (&device.known, &device.durable) {
            (Some(known), _) => known.limits(),
            (None, Some(durable)) => durable.signed.header.limits,
            (None, None) => ClassLimits { records: 0, memory_bytes: 0 },
        };
        Some(Write::DesiredPut { device: device.id(), revision, limits, body })
    }
}
