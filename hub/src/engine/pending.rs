//! The commit pipeline: changes apply at once, and whatever they cause leaves when they are durable.
//!
//! Each batch in flight keeps what takes it back. A failure takes back all of them, newest first: each may build upon
//! the one before. No answer may leave that shows what is not durable.

use super::Engine;
use super::changes::Did;
use super::device::Durable;
use super::event::Draft;
use super::port::{AccessChange, Answer, Effect, Now, Problem, Request, Ticket};
use super::problem;
use super::state::{State, Undo};
use crate::commit::{AuditEntry, Batch, CommitFailure, Write};
use crate::model::{Kind, ObjectKey};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use wire::desired::SignedHeader;
use wire::{DeviceId, Fence};

/// Batches that may wait for the writer; further writes are refused until some are durable.
pub const BATCHES_PENDING_MAX: usize = 4_096;
/// Answers that may wait for one batch.
pub const ANSWERS_PARKED_MAX: usize = 16_384;

/// What leaves when a batch is durable.
pub(super) enum Release {
    /// The answer to the request that made the batch.
    Answer(Ticket, Result<Answer, Problem>),
    Access(AccessChange),
    Publish {
        topic: String,
        payload: Vec<u8>,
        retain: bool,
    },
    Event(Draft),
    /// An operator changed this device.
    DeviceChanged(String),
    /// The right to exclusive work is durable.
    Lease {
        workload: u32,
        fence: Fence,
    },
    /// An operator said that who is missing is lost.
    LossConfirmed,
}

/// An answer that saw this batch, and its question, in case the batch fails.
struct Parked {
    ticket: Ticket,
    actor: String,
    request: Request,
    result: Result<Answer, Problem>,
}

struct Pending {
    sequence: u64,
    undo: Vec<Undo>,
    releases: Vec<Release>,
    parked: Vec<Parked>,
    /// Bodies that become publishable with their signed headers.
    bodies: BTreeMap<DeviceId, Arc<[u8]>>,
    removed: Vec<DeviceId>,
    /// What becomes of objects.
    done: Vec<(ObjectKey, Did)>,
    /// Workloads whose labels change.
    relabelled: Vec<ObjectKey>,
}

/// A batch in the making: applied already, not sent.
#[derive(Default)]
pub(super) struct OpenBatch {
    /// `None`: replaced by a later one.
    writes: Vec<Option<Write>>,
    /// Where the set of a device is among them.
    sets: BTreeMap<DeviceId, usize>,
    audit: Vec<AuditEntry>,
    undo: Vec<Undo>,
    releases: Vec<Release>,
    bodies: BTreeMap<DeviceId, Arc<[u8]>>,
    removed: Vec<DeviceId>,
    done: Vec<(ObjectKey, Did)>,
    relabelled: Vec<ObjectKey>,
}

impl OpenBatch {
    /// Devices that get a new set.
    pub fn devices(&self) -> usize {
        self.sets.len()
    }
}

/// The pipeline.
#[derive(Default)]
pub(super) struct Pipeline {
    pending: VecDeque<Pending>,
    /// Of the last durable batch.
    durable: u64,
    era: u32,
    /// The last batch that came to an end was taken back.
    has_failed: bool,
}

impl Pipeline {
    pub fn new(durable: u64) -> Self {
        Self { durable, ..Self::default() }
    }

    pub fn durable(&self) -> u64 {
        self.durable
    }

    pub fn is_writable(&self) -> bool {
        !self.has_failed
    }

    pub fn len(&self) -> usize {
        self.pending.len()
    }

    pub fn is_full(&self) -> bool {
        self.pending.len() >= BATCHES_PENDING_MAX
    }

    /// Adds to what leaves with the batch made last.
    pub fn release_last(&mut self, release: Release) {
        if let Some(last) = self.pending.back_mut() {
            last.releases.push(release);
        }
    }

    /// What the next batch will be numbered.
    pub fn next(&self) -> u64 {
        self.pending.back().map_or(self.durable, |last| last.sequence) + 1
    }
}

impl Engine {
    /// Applies and sends one batch. The sequence is `self.pipeline.next()` as of before.
    pub(super) fn commit(&mut self, writes: Vec<Write>, audit: Vec<AuditEntry>, releases: Vec<Release>) {
        let mut open = OpenBatch::default();
        self.batch_add(&mut open, writes, audit, releases);
        self.batch_send(open);
    }

    /// Applies more to a batch that is not sent yet. Nothing else may be committed meanwhile: its number is not taken yet.
    pub(super) fn batch_add(
        &mut self,
        open: &mut OpenBatch,
        writes: Vec<Write>,
        audit: Vec<AuditEntry>,
        releases: Vec<Release>,
    ) {
        let done = self.done_by(&writes);
        self.changes.begin(&done);
        let labels = |state: &State, key: &ObjectKey| state.objects.get(key).map(|stored| stored.body.labels.clone());
        let workloads = done.iter().map(|(key, _)| key).filter(|key| key.kind == Kind::Workload);
        let before: Vec<_> = workloads.map(|key| (key.clone(), labels(&self.state, key))).collect();
        open.undo.extend(writes.iter().map(|write| self.state.apply(write)));
        self.incarnation = self.state.incarnation;
        let is_relabelled = |(key, before): &(ObjectKey, _)| labels(&self.state, key) != *before;
        open.relabelled.extend(before.into_iter().filter(is_relabelled).map(|(key, _)| key));
        open.done.extend(done);
        open.audit.extend(audit);
        open.releases.extend(releases);
        for write in writes {
            match &write {
                Write::DesiredPut { device, body, .. } => {
                    open.bodies.insert(*device, Arc::from(body.as_slice()));
                    // One set for a device in a batch: they share a revision, and the last one is what holds.
                    let next = open.writes.len();
                    if let Some(earlier) = open.sets.insert(*device, next).and_then(|at| open.writes.get_mut(at)) {
                        *earlier = None;
                    }
                }
                Write::DesiredDelete { device } => open.removed.push(*device),
                Write::ObjectPut(_)
                | Write::ObjectDelete { .. }
                | Write::DeviceKeysPut(_)
                | Write::DeviceKeysDelete { .. }
                | Write::TokenPut(_)
                | Write::TokenDelete { .. }
                | Write::RejectionPut(_)
                | Write::RejectionDelete { .. }
                | Write::CapabilitiesPut { .. }
                | Write::CapabilitiesDelete { .. }
                | Write::WorkloadIdNext { .. }
                | Write::LeasePut(_)
                | Write::LeaseDelete { .. }
                | Write::IncarnationRaise { .. }
                | Write::RecoveryPut(_)
                | Write::RecoveryDelete
                | Write::HoldPut { .. }
                | Write::HoldDelete { .. } => {}
            }
            open.writes.push(Some(write));
        }
    }

    /// Sends a batch, unless it is empty.
    pub(super) fn batch_send(&mut self, open: OpenBatch) {
        let OpenBatch { writes, sets: _, audit, undo, releases, bodies, removed, done, relabelled } = open;
        if writes.is_empty() && audit.is_empty() && releases.is_empty() {
            return;
        }
        let sequence = self.pipeline.next();
        let parked = Vec::new();
        self.pipeline.pending.push_back(Pending {
            sequence,
            undo,
            releases,
            parked,
            bodies,
            removed,
            done,
            relabelled,
        });
        let era = self.pipeline.era;
        let writes = writes.into_iter().flatten().collect();
        self.effects.push_back(Effect::Commit(Batch { sequence, era, writes, audit }));
    }

    /// Answers now if everything visible is durable, else with the batch that was last seen.
    pub(super) fn respond(&mut self, ticket: Ticket, actor: &str, request: Request, result: Result<Answer, Problem>) {
        match self.pipeline.pending.back_mut() {
            None => self.effects.push_back(Effect::Answer { ticket, result }),
            Some(last) if last.parked.len() < ANSWERS_PARKED_MAX => {
                last.parked.push(Parked { ticket, actor: actor.to_owned(), request, result });
            }
            Some(_) => {
                let result = Err(problem::busy("too many answers wait for the database"));
                self.effects.push_back(Effect::Answer { ticket, result });
            }
        }
    }

    pub(super) fn cancel(&mut self, ticket: Ticket) {
        self.followers.remove(&ticket);
        self.watchers.remove(&ticket);
        for pending in &mut self.pipeline.pending {
            pending.parked.retain(|parked| parked.ticket != ticket);
            pending.releases.retain(|release| !matches!(release, Release::Answer(of, _) if *of == ticket));
        }
    }

    pub(super) fn committed(&mut self, now: Now, sequence: u64, signed: Vec<(DeviceId, SignedHeader)>) {
        if self.pipeline.pending.front().is_none_or(|front| front.sequence != sequence) {
            tracing::error!(sequence, "the writer confirmed a batch that does not wait; it is ignored");
            return;
        }
        let Some(done) = self.pipeline.pending.pop_front() else { return };
        self.pipeline.durable = sequence;
        self.pipeline.has_failed = false;
        self.link.is_state_stale = true;
        for (id, header) in signed {
            let Some(index) = self.state.devices.index_of(id) else { continue };
            if let (Some(body), Some(device)) = (done.bodies.get(&id), self.state.devices.get_mut(index)) {
                device.durable = Some(Durable { signed: header, body: body.clone() });
                self.state.waits_note(index, now.wall_ms);
                self.dispatch_changed(index);
            }
            self.touch_device(now, index);
        }
        for key in done.relabelled {
            self.touch_placements(now, &key);
        }
        for (key, did) in done.done {
            self.changes.end(&key);
            // A device that moved takes its placements into other places.
            if key.kind == Kind::Device
                && let Some(index) = self.state.devices.index_named(&key.name)
            {
                self.touch_device(now, index);
            }
            self.changes.push(key, did);
        }
        for id in done.removed {
            if let Some(device) = self.state.devices.index_of(id).and_then(|index| self.state.devices.get_mut(index)) {
                device.durable = None;
            }
        }
        // Who is told of a token may use it at once, so that rights are in force before anybody hears of them.
        let (rights, rest): (Vec<_>, Vec<_>) =
            done.releases.into_iter().partition(|release| matches!(release, Release::Access(_)));
        for release in rights.into_iter().chain(rest) {
            match release {
                Release::Answer(ticket, result) => self.effects.push_back(Effect::Answer { ticket, result }),
                Release::Access(change) => self.effects.push_back(Effect::Access(change)),
                Release::Publish { topic, payload, retain } => {
                    self.publish(topic, payload, retain);
                }
                Release::Event(draft) => self.tell(now, draft),
                Release::DeviceChanged(name) => self.device_changed(now, &name),
                Release::Lease { workload, fence } => self.lease_durable(now, workload, fence),
                Release::LossConfirmed => self.loss_confirmed(now),
            }
        }
        for Parked { ticket, actor: _, request: _, result } in done.parked {
            self.effects.push_back(Effect::Answer { ticket, result });
        }
    }

    /// Takes back the failed batch and everything after it.
    pub(super) fn failed(&mut self, now: Now, sequence: u64, reason: CommitFailure) {
        if self.pipeline.pending.front().is_none_or(|front| front.sequence > sequence) {
            tracing::error!(sequence, "the writer reported the failure of a batch that does not wait; it is ignored");
            return;
        }
        self.pipeline.era += 1;
        self.pipeline.has_failed = true;
        let mut again = Vec::new();
        while let Some(last) = self.pipeline.pending.pop_back_if(|last| last.sequence >= sequence) {
            for undo in last.undo.into_iter().rev() {
                self.state.undo(undo);
            }
            for (key, _) in last.done {
                self.changes.end(&key);
                self.touch(now, key);
            }
            for release in last.releases {
                if let Release::Answer(ticket, _) = release {
                    let result = Err(problem::commit_failed(reason));
                    self.effects.push_back(Effect::Answer { ticket, result });
                }
            }
            again.push(last.parked);
        }
        self.incarnation = self.state.incarnation;
        self.recovery_failed();
        self.placement.failed(now.monotonic);
        self.namespaces.failed(sequence, now.monotonic);
        self.leaving_mark_all();
        let message = match reason {
            CommitFailure::DiskFull => "the disk is full: changes are refused until there is room",
            CommitFailure::Io => "the database could not be written: changes were taken back",
        };
        self.tell(now, Draft::hub("CommitFailed", message));
        for Parked { ticket, actor, request, result: _ } in again.into_iter().rev().flatten() {
            self.request(now, ticket, &actor, request);
        }
    }
}
