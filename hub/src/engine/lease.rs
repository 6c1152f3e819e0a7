//! Who may run exclusive work: at most one boot of one device, for a time that it measures itself.
//!
//! A *new* fence is durable, and then witnessed by the broker, before anything is said of it; a renewal writes nothing. Whoever
//! asks too early is remembered. Nothing here may let a second boot run before the first has certainly stopped, whatever is
//! lost, repeated or forgotten: what is unknown counts as granted now.

use super::Engine;
use super::device::{Bucket, Talk};
use super::event::Draft;
use super::pending::Release;
use super::port::{Effect, Instant, Now, Publication};
use super::stored::{Body, Spec, Stored};
use crate::commit::{AuditEntry, LeaseRow, Write};
use crate::model::{LeaseState, LeaseStatus, ObjectKey};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use wire::grant::{Grant, Released};
use wire::lease::regrant_ms;
use wire::topic::Down;
use wire::transfer::{Need, Want};
use wire::{BootId, DeviceId, Fence, Nonce, Order, WorkloadId};

/// Questions of one device that are looked at, per second and at once: a full device on the shortest leases asks less.
pub const NEEDS_PER_SECOND: u64 = 32;
pub const NEEDS_BURST: u64 = 128;
/// Workloads whose leases are kept, those of deleted ones that may still run included; beyond, new ones get none.
pub const LEASES_MAX: usize = 65_536;
/// Pause between two words to the broker about new fences: many grants share one.
pub const WITNESS_PAUSE: Duration = Duration::from_secs(1);
/// A question is answered within this time of its arrival, or a third of the lease: later the answer would be worth little.
const NEED_FRESH: Duration = Duration::from_secs(30);
/// Answered questions of one lease that are recognised when they come again.
const ANSWERED_MAX: usize = 8;
/// When the database is behind, or its queue full.
const RETRY: Duration = Duration::from_secs(1);
const ACTOR: &str = "system:lease";

/// A question that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct Asked {
    device: DeviceId,
    talk: Talk,
    nonce: Nonce,
    at: Instant,
}

/// What is known of one lease beside its row; learned again after a restart.
#[derive(Debug, Default)]
struct Soft {
    /// Nobody else gets it before; `None`: nothing was said under the present fence.
    until: Option<Instant>,
    asked: Option<Asked>,
    answered: VecDeque<Nonce>,
    /// The batch that made the row.
    batch: u64,
    /// Its entry in `due`.
    due: Option<Instant>,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LeaseCounts {
    pub granted: u64,
    pub renewed: u64,
    pub expired: u64,
    pub fenced: u64,
}

#[derive(Debug, Default)]
pub(super) struct Leases {
    soft: BTreeMap<u32, Soft>,
    /// When to look at which workload.
    due: BTreeSet<(Instant, u32)>,
    is_started: bool,
    /// Of the last batch in the database when this hub started: what it knew then.
    pub(super) sequence_loaded: u64,
    /// The highest fence that is durable.
    pub(super) issued: Fence,
    /// The highest that the broker has taken over, in this life of the hub.
    pub(super) witnessed: Fence,
    /// Words on their way to the broker.
    pub(super) flights: BTreeMap<u64, Fence>,
    /// The broker knows a fence that this database does not.
    pub(super) is_witness_above: bool,
    /// By workload, the highest fence of an earlier life of this hub that was seen in an event and is not in the database.
    pub(super) seen: BTreeMap<u32, Fence>,
    /// Somebody waits for `may_grant`.
    is_blocked: bool,
    pub(super) told: Bucket,
    pub counts: LeaseCounts,
}

impl Leases {
    pub fn new(rows: &BTreeMap<u32, LeaseRow>, sequence: u64) -> Self {
        let issued = rows.values().map(|row| row.fence).max().unwrap_or_default();
        Self { issued, sequence_loaded: sequence, ..Self::default() }
    }

    /// What `hub/state` has to say.
    pub fn issued(&self) -> Fence {
        self.issued
    }

    pub fn is_witness_owed(&self) -> bool {
        self.issued > self.witnessed
    }

    /// The present word is on its way.
    pub fn is_witness_sent(&self) -> bool {
        self.flights.values().any(|fence| *fence >= self.issued)
    }

    pub fn witness_sent(&mut self, publication: u64) {
        self.flights.insert(publication, self.issued);
    }

    pub fn link_lost(&mut self) {
        self.flights.clear();
    }

    /// True if it was about fences.
    pub fn witness_refused(&mut self, publication: u64) -> bool {
        self.flights.remove(&publication).is_some()
    }

    /// The last order that the database knows of the incarnation that the witness speaks of.
    pub fn remembered(&self) -> Order {
        Order::new(self.issued.0.incarnation(), self.sequence_loaded).unwrap_or(Order::ZERO)
    }

    /// Everything that was said of fences before this incarnation is accounted for, so that the next start takes none of it
    /// for news.
    pub fn settled(&mut self, incarnation: u32) {
        let begin = Order::new(incarnation, 0).map_or(self.issued, Fence);
        self.issued = self.issued.max(begin);
    }

    /// One entry for each workload: the earliest.
    fn wake(&mut self, at: Instant, workload: u32) {
        let soft = self.soft.entry(workload).or_default();
        if soft.due.is_some_and(|due| due <= at) {
            return;
        }
        if let Some(due) = soft.due.replace(at) {
            self.due.remove(&(due, workload));
        }
        self.due.insert((at, workload));
    }

    fn forget(&mut self, workload: u32) {
        self.seen.remove(&workload);
        if let Some(due) = self.soft.remove(&workload).and_then(|soft| soft.due) {
            self.due.remove(&(due, workload));
        }
    }

    pub fn timeout(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }
}

impl Engine {
    /// What may still be running from before this start counts as granted now.
    pub(super) fn leases_start(&mut self, now: Now) {
        if self.leases.is_started {
            return;
        }
        self.leases.is_started = true;
        for row in self.state.leases.values().filter(|row| !row.ended) {
            let until = now.monotonic.after(Duration::from_millis(regrant_ms(row.ms)));
            self.leases.soft.entry(row.workload).or_default().until = Some(until);
            self.leases.wake(until, row.workload);
        }
    }

    pub(super) fn leases_run(&mut self, now: Now) {
        self.leases_start(now);
        if self.leases.is_blocked && self.may_grant(now) {
            self.leases.is_blocked = false;
            self.leases_try_all(now);
        }
        while let Some((at, workload)) = self.leases.due.first().copied()
            && at <= now.monotonic
        {
            self.leases.due.remove(&(at, workload));
            if let Some(soft) = self.leases.soft.get_mut(&workload) {
                soft.due = None;
            }
            self.lease_look(now, workload);
        }
    }

    pub(super) fn leases_try_all(&mut self, now: Now) {
        let asked = self.leases.soft.iter().filter(|(_, soft)| soft.asked.is_some());
        let asked: Vec<u32> = asked.map(|(workload, _)| *workload).collect();
        for workload in asked {
            self.lease_try(now, workload);
        }
    }

    /// What time does to a lease.
    fn lease_look(&mut self, now: Now, workload: u32) {
        let row = self.state.leases.get(&workload).cloned();
        let until = self.leases.soft.get(&workload).and_then(|soft| soft.until);
        match (row, until) {
            (Some(row), Some(until)) if !row.ended && until <= now.monotonic => {
                if self.lease_end(now, &row) {
                    self.leases.counts.expired += 1;
                    let name = self.holder_name(row.device);
                    let text = format!(
                        "the lease of {name} has run out (fence {}): another device may get it now",
                        row.fence.0
                    );
                    self.tell_lease(now, "LeaseExpired", workload, &name, text);
                } else {
                    self.leases.wake(now.monotonic.after(RETRY), workload);
                    return;
                }
            }
            (Some(row), Some(until)) if !row.ended => self.leases.wake(until, workload),
            (Some(_) | None, _) => {}
        }
        self.lease_try(now, workload);
    }

    /// Nobody runs under this row any more. False if the database cannot take it now.
    fn lease_end(&mut self, now: Now, row: &LeaseRow) -> bool {
        if self.pipeline.is_full() {
            return false;
        }
        let workload = row.workload;
        // A deleted workload's number never comes back, and nobody compares with its fences.
        let write = match self.state.workloads.contains_key(&workload) {
            true => Write::LeasePut(LeaseRow { ended: true, ..row.clone() }),
            false => Write::LeaseDelete { workload },
        };
        if matches!(write, Write::LeaseDelete { .. }) {
            self.leases.forget(workload);
        } else if let Some(soft) = self.leases.soft.get_mut(&workload) {
            soft.until = None;
            soft.batch = self.pipeline.next();
        }
        let entry = self.lease_audit(now, "lease-end", workload);
        self.commit(vec![write], vec![entry], Vec::new());
        self.touch_lease(now, workload);
        true
    }

    /// Who runs a workload without a lease goes on without one until the change has reached it.
    pub(super) fn lease_warning(&self, before: Option<&Stored>, after: &Body) -> Option<String> {
        let before = before.and_then(Stored::workload)?;
        let Spec::Workload(after) = &after.spec else { return None };
        let becomes = before.spec.partition.lease().is_none() && after.spec.partition.lease().is_some();
        (becomes && self.state.holders.contains_key(&before.id)).then(|| {
            "devices that run it now go on without a lease until this change has reached them: it is exclusive from when they              are in sync"
                .to_owned()
        })
    }

    /// A workload is deleted: its row goes with it, unless somebody may still run under it; then it goes when it has run out.
    pub(super) fn lease_of_gone(&mut self, workload: u32) -> Option<Write> {
        let row = self.state.leases.get(&workload)?;
        let is_held = !row.ended && self.leases.soft.get(&workload).is_some_and(|soft| soft.until.is_some());
        if is_held {
            return None;
        }
        self.leases.forget(workload);
        Some(Write::LeaseDelete { workload })
    }

    fn lease_audit(&self, now: Now, action: &'static str, workload: u32) -> AuditEntry {
        let key = self.state.workloads.get(&workload).map(ObjectKey::to_string);
        let object = key.unwrap_or_else(|| format!("workload #{workload}"));
        AuditEntry { time_ms: now.wall_ms, actor: ACTOR.to_owned(), action, object, before: None, after: None }
    }

    pub(super) fn holder_name(&self, device: DeviceId) -> String {
        let known = self.state.devices.index_of(device).and_then(|index| self.state.devices.get(index));
        known.map_or_else(|| device.text().as_str().to_owned(), |known| known.keys.name.clone())
    }

    fn tell_lease(&mut self, now: Now, reason: &'static str, workload: u32, device: &str, text: String) {
        let draft = match self.state.workloads.get(&workload) {
            Some(key) => Draft::normal(reason, key, text),
            None => Draft::about(reason, format!("workload #{workload}"), text),
        };
        self.tell(now, draft.on(device));
        self.touch_lease(now, workload);
    }

    fn touch_lease(&mut self, now: Now, workload: u32) {
        if let Some(key) = self.state.workloads.get(&workload).cloned() {
            self.touch_placements(now, &key);
            self.touch(now, key);
        }
    }

    /// How long the present manifest grants; `None` if it is not exclusive, or gone.
    pub(super) fn lease_ms(&self, workload: u32) -> Option<u64> {
        let stored = self.state.objects.get(self.state.workloads.get(&workload)?)?;
        stored.workload()?.spec.partition.lease().map(|lease| lease.0)
    }

    pub(super) fn is_assigned(&self, index: u32, workload: u32) -> bool {
        self.state.holders.get(&workload).is_some_and(|holders| holders.contains(&index))
    }

    pub(super) fn on_need(&mut self, now: Now, index: u32, talk: Talk, body: &[u8]) {
        use wire::frame::Body as _;
        let need = wire::codec::decode::<Need>(body).ok().filter(|need| need.check().is_ok());
        match need {
            Some(Need { session, want: Want::Lease { workload, nonce } }) if session == talk.session => {
                self.on_lease_need(now, index, talk, workload.0, nonce);
            }
            Some(Need { session, want: want @ (Want::Artifact { .. } | Want::Body { .. }) })
                if session == talk.session =>
            {
                self.on_content_need(now, index, talk, want);
            }
            // Links of the chain come with what uses them; until then they are counted.
            Some(_) | None => self.messages_refused += 1,
        }
    }

    fn on_lease_need(&mut self, now: Now, index: u32, talk: Talk, workload: u32, nonce: Nonce) {
        let Some(device) = self.state.devices.get_mut(index) else { return };
        let id = device.id();
        if !device.observed.needs.take(now.monotonic, NEEDS_PER_SECOND, NEEDS_BURST) {
            self.messages_refused += 1;
            return;
        }
        let Some(ms) = self.lease_ms(workload) else { return };
        // One that has lost the work and does not know it yet is no offender, and gets nothing.
        if !self.is_assigned(index, workload) {
            return;
        }
        let row = self.state.leases.get(&workload).cloned();
        let own = row.filter(|row| (row.device, row.boot, row.ended) == (id, talk.boot, false));
        let soft = self.leases.soft.entry(workload).or_default();
        if let Some(row) = own.filter(|_| soft.answered.contains(&nonce)) {
            // The same question again, by whoever repeats it: the same answer, which is worth what it was worth. The hub's own
            // wait is not lengthened.
            self.send_grant(index, talk, nonce, &row, ms.min(row.ms));
            return;
        }
        soft.asked = Some(Asked { device: id, talk, nonce, at: now.monotonic });
        self.lease_try(now, workload);
    }

    /// Answers the question that waits, or does the next step towards its answer. Does nothing if it is called too early or
    /// too often.
    fn lease_try(&mut self, now: Now, workload: u32) {
        let Some(asked) = self.leases.soft.get(&workload).and_then(|soft| soft.asked) else { return };
        let Some((index, ms)) = self.still_wanted(now, workload, &asked) else {
            if let Some(soft) = self.leases.soft.get_mut(&workload) {
                soft.asked = None;
            }
            return;
        };
        if !self.may_grant(now) {
            self.leases.is_blocked = true;
            return;
        }
        let row = self.state.leases.get(&workload).cloned();
        let soft = self.leases.soft.entry(workload).or_default();
        match row {
            Some(row) if (row.device, row.boot, row.ended) == (asked.device, asked.talk.boot, false) => {
                if ms > row.ms {
                    // A longer one than the database knows of: it must know before the device does.
                    return self.lease_put(now, LeaseRow { ms, ..row }, "lease");
                }
                if soft.batch <= self.pipeline.durable() && row.fence <= self.leases.witnessed {
                    self.lease_grant(now, index, &asked, &row, ms);
                }
            }
            Some(row) if !row.ended && soft.until.is_some_and(|until| until > now.monotonic) => {}
            Some(_) | None => {
                if row.is_none() && self.state.leases.len() >= LEASES_MAX {
                    self.messages_refused += 1;
                    return;
                }
                let next = Order::new(self.incarnation, self.pipeline.next()).map(Fence);
                // Above whatever was issued or seen; an incarnation that is used up grants nothing.
                let Some(fence) = next.filter(|fence| *fence > self.leases.issued) else { return };
                if let Some(until) = self.namesake_until(now, workload) {
                    return self.leases.wake(until, workload);
                }
                let (device, boot) = (asked.device, asked.talk.boot);
                let name = self.lease_name(workload);
                self.lease_put(now, LeaseRow { workload, name, device, boot, fence, ms, ended: false }, "lease");
            }
        }
    }

    fn lease_name(&self, workload: u32) -> String {
        self.state.workloads.get(&workload).map(|key| format!("{}/{}", key.namespace, key.name)).unwrap_or_default()
    }

    /// Until when a workload of the same name that was deleted may still run.
    fn namesake_until(&self, now: Now, workload: u32) -> Option<Instant> {
        let name = self.lease_name(workload);
        let gone = self.state.leases.values().filter(|row| row.name == name && row.workload != workload && !row.ended);
        let until = gone.filter_map(|row| self.leases.soft.get(&row.workload)?.until);
        until.filter(|until| *until > now.monotonic).max()
    }

    /// Whether the question is still open, of whom, and for how long the lease is.
    fn still_wanted(&self, now: Now, workload: u32, asked: &Asked) -> Option<(u32, u64)> {
        let index = self.state.devices.index_of(asked.device)?;
        let device = self.state.devices.get(index)?;
        let ms = self.lease_ms(workload)?;
        let is_fresh = now.monotonic.since(asked.at) <= NEED_FRESH.min(Duration::from_millis(ms / 3));
        let is_current = device.observed.current == Some(asked.talk);
        (is_fresh && is_current && self.is_assigned(index, workload) && !device.observed.quarantined)
            .then_some((index, ms))
    }

    fn lease_put(&mut self, now: Now, row: LeaseRow, action: &'static str) {
        let workload = row.workload;
        if self.pipeline.is_full() {
            return self.leases.wake(now.monotonic.after(RETRY), workload);
        }
        let before = self.state.leases.get(&workload).map(|row| row.fence);
        let soft = self.leases.soft.entry(workload).or_default();
        if before == Some(row.fence) && soft.batch > self.pipeline.durable() {
            // On its way already.
            return;
        }
        soft.batch = self.pipeline.next();
        if before != Some(row.fence) {
            soft.until = None;
            soft.answered.clear();
        }
        let entry = self.lease_audit(now, action, workload);
        let release = Release::Lease { workload, fence: row.fence };
        self.commit(vec![Write::LeasePut(row)], vec![entry], vec![release]);
    }

    /// A row became durable.
    pub(super) fn lease_durable(&mut self, now: Now, workload: u32, fence: Fence) {
        self.leases.issued = self.leases.issued.max(fence);
        self.lease_try(now, workload);
    }

    fn lease_grant(&mut self, now: Now, index: u32, asked: &Asked, row: &LeaseRow, ms: u64) {
        let until = now.monotonic.after(Duration::from_millis(regrant_ms(ms)));
        let soft = self.leases.soft.entry(row.workload).or_default();
        let is_new = soft.until.is_none();
        let until = soft.until.map_or(until, |before| before.max(until));
        soft.until = Some(until);
        soft.asked = None;
        if soft.answered.len() == ANSWERED_MAX {
            soft.answered.pop_front();
        }
        soft.answered.push_back(asked.nonce);
        // The entry of an earlier end finds the lease renewed, and looks again at the later one.
        self.leases.wake(until, row.workload);
        self.send_grant(index, asked.talk, asked.nonce, row, ms);
        if is_new {
            self.leases.counts.granted += 1;
            let name = self.holder_name(row.device);
            let text = format!("{name} may run it (fence {}, {} s, renewed by itself)", row.fence.0, ms / 1000);
            self.tell_lease(now, "LeaseGranted", row.workload, &name, text);
        } else {
            self.leases.counts.renewed += 1;
        }
    }

    fn send_grant(&mut self, index: u32, talk: Talk, nonce: Nonce, row: &LeaseRow, ms: u64) {
        if !self.link.is_up {
            return;
        }
        let grant = Grant {
            nonce,
            workload: WorkloadId(row.workload),
            fence: row.fence,
            ms: u32::try_from(ms).unwrap_or(u32::MAX),
        };
        let Some((topic, payload)) = self.live(index, Down::Grant, talk, &grant) else { return };
        self.link.publication += 1;
        let publication = self.link.publication;
        // Not retained and not repeated: a late one is worth less with every second.
        self.effects.push_back(Effect::Publish(Publication {
            publication,
            topic,
            payload,
            retain: false,
            qos1: false,
        }));
    }

    pub(super) fn on_released(&mut self, now: Now, index: u32, talk: Talk, body: &[u8]) {
        let Some(device) = self.state.devices.get_mut(index) else { return };
        let id = device.id();
        let has_patience = device.observed.needs.take(now.monotonic, NEEDS_PER_SECOND, NEEDS_BURST);
        let released = wire::codec::decode::<Released>(body).ok().filter(|released| released.session == talk.session);
        let Some(released) = released.filter(|_| has_patience) else {
            self.messages_refused += 1;
            return;
        };
        let row = self.state.leases.get(&released.workload.0).cloned();
        let row = row.filter(|row| (row.device, row.boot, row.fence) == (id, talk.boot, released.fence));
        // Of another fence or boot, or said once more: it ends nothing.
        let Some(row) = row.filter(|row| !row.ended) else { return };
        if !self.lease_end(now, &row) {
            // It is said again, or runs out.
            return;
        }
        let name = self.holder_name(id);
        let text = format!("{name} has stopped it and gave its lease back (fence {})", row.fence.0);
        self.tell_lease(now, "LeaseReleased", row.workload, &name, text);
        self.lease_try(now, row.workload);
    }

    /// Whether what a boot reports of a workload counts: of exclusive work, only from the holder of the lease.
    pub(super) fn is_leased_to(&self, workload: u32, device: DeviceId, boot: Option<BootId>) -> bool {
        let row = self.state.leases.get(&workload);
        row.is_some_and(|row| row.device == device && Some(row.boot) == boot && !row.ended)
    }

    /// For people; nothing for work that was never leased.
    pub(super) fn lease_status(&self, now: Now, workload: u32) -> Option<LeaseStatus> {
        let row = self.state.leases.get(&workload)?;
        let soft = self.leases.soft.get(&workload);
        let until = soft.and_then(|soft| soft.until).filter(|_| !row.ended);
        let waiting = soft.and_then(|soft| soft.asked).map(|asked| asked.device).filter(|device| *device != row.device);
        Some(LeaseStatus {
            state: match (row.ended, until) {
                (true, _) => LeaseState::Ended,
                (false, Some(_)) => LeaseState::Held,
                (false, None) => LeaseState::Issued,
            },
            device: self.holder_name(row.device),
            fence: row.fence.0.to_string(),
            seconds_left: until.map(|until| until.since(now.monotonic).as_secs()),
            waiting: waiting.map_or_else(String::new, |device| self.holder_name(device)),
        })
    }

    /// Leases that somebody may run under.
    pub(super) fn leases_held(&self) -> u64 {
        self.state.leases.values().filter(|row| !row.ended).count() as u64
    }
}
