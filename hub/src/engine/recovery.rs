//! A database that does not know everything that was said in its name: restored from a backup, or run beside a second hub.
//!
//! Devices know more than it then. What one of them proves with the hub's own signature is kept as it is (`hold`) until an
//! operator decides that this hub's sets count (`apply`); what it only claims concerns that device alone. A revision that was
//! claimed is never a reason for a number: what this hub says next is above all of it because its incarnation is.

use super::Engine;
use super::device::{Ahead, Durable};
use super::event::Draft;
use super::object::Done;
use super::pending::Release;
use super::port::{AheadDevice, Answer, Instant, Now, RecoveryStatus, Ticket};
use super::problem;
use super::quarantine::RELEASE;
use super::rival::Stop;
use super::stored::timestamp;
use crate::commit::{AuditEntry, RecoveryCause, RecoveryRow, WORKLOAD_IDS_SKIPPED, Write};
use crate::model::{Condition, ConditionStatus, ObjectKey};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire::dalek::Ed25519;
use wire::desired::SignedHeader;
use wire::hello::Asks;
use wire::id::Order;
use wire::lease::{LEASE_MS_MAX, regrant_ms};
use wire::{DigestPrefix, Revision};

/// Nothing exclusive is granted for so long after something was forgotten: the longest lease and a margin, because somebody
/// may hold a grant that nobody here remembers.
pub const GRANTS_PAUSE: Duration = Duration::from_millis(regrant_ms(LEASE_MS_MAX));
/// Times that a device is asked to prove what it claims.
pub const PROOF_ASKED_MAX: u8 = 3;
/// Devices that are ahead and are named in the hub's status.
pub const AHEAD_SHOWN_MAX: usize = 100;
/// Names in a condition.
const NAMED_MAX: usize = 3;
/// How often it is looked whether everything is known again.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
const ACTOR: &str = "system:recovery";

/// What this run knows of it.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// Grants may be given from then on.
    grants_from: Option<Instant>,
    /// Devices that get this hub's set under a new revision, and who says so.
    reissue: BTreeMap<u32, String>,
    look_at: Option<Instant>,
}

/// What a device says that it holds.
pub(super) type Claim = (Revision, DigestPrefix);

impl Engine {
    /// Whether anything exclusive may be granted now: nobody else may grant, and nobody can hold a grant that was forgotten.
    pub(super) fn may_grant(&self, now: Now) -> bool {
        self.link.is_settled()
            && !self.clock.is_in_doubt()
            && !self.rivals.is_stopped()
            && !self.leases.is_witness_above
            && self.grants_paused_for(now).is_zero()
    }

    /// Zero: not paused by what was forgotten.
    pub(super) fn grants_paused_for(&self, now: Now) -> Duration {
        match &self.state.recovery {
            Some(row) if row.holds_grants => {
                self.recovery.grants_from.map_or(GRANTS_PAUSE, |from| from.since(now.monotonic))
            }
            Some(_) | None => Duration::ZERO,
        }
    }

    /// The pause begins anew.
    pub(super) fn recovery_began(&mut self, now: Now) {
        self.leases.is_witness_above = false;
        self.recovery.grants_from = Some(now.monotonic.after(GRANTS_PAUSE));
        self.recovery.look_at = Some(now.monotonic.after(LOOK_PAUSE));
        self.held_again();
    }

    /// A batch was taken back: what was to be sent anew is found again by what devices say.
    pub(super) fn recovery_failed(&mut self) {
        self.held_again();
    }

    /// The note of a gap that reaches from `remembered` to below `until`; one that is open already grows. Numbers of workloads
    /// that may have been given in it are passed over: a device takes what has the same number for the same workload.
    pub(super) fn recovery_writes(&self, now: Now, cause: RecoveryCause, remembered: Order, until: u32) -> [Write; 2] {
        let before = self.state.recovery.as_ref();
        let next = self.state.workload_id_next.saturating_add(WORKLOAD_IDS_SKIPPED);
        let row = RecoveryRow {
            cause,
            since_ms: now.wall_ms,
            remembered: before.map_or(remembered, |row| row.remembered.min(remembered)),
            until_incarnation: before.map_or(until, |row| row.until_incarnation.max(until)),
            is_overruled: false,
            holds_grants: true,
        };
        [Write::WorkloadIdNext { next }, Write::RecoveryPut(row)]
    }

    /// Admittance follows from who is held.
    fn held_again(&mut self) {
        let indexes: Vec<u32> = self.state.devices.iter().map(|(index, _)| index).collect();
        for index in indexes {
            self.state.refresh(index);
        }
        self.placement.mark_all(self.state.workloads.keys());
        self.queue_unacknowledged();
    }

    pub(super) fn held_changed(&mut self, now: Now, index: u32) {
        self.state.refresh(index);
        self.placement.mark_all(self.state.workloads.keys());
        self.touch_device(now, index);
        self.dispatch_changed(index);
    }

    /// Whether a device holds what this hub cannot have given it, or has forgotten.
    fn is_above(&self, index: u32, revision: Revision) -> bool {
        let Some(device) = self.state.devices.get(index) else { return false };
        if revision == Revision::default() {
            return false;
        }
        let durable = device.durable.as_ref().map(Durable::revision);
        let newest = durable.max(device.desired.as_ref().map(|desired| desired.revision));
        match (newest, &self.state.recovery) {
            (Some(newest), _) => revision > newest,
            (None, Some(row)) if row.covers(revision) => true,
            // A device that was deleted and joins again holds a revision of its former life, which is none of those.
            (None, _) => Order::new(self.incarnation, self.pipeline.next()).is_none_or(|next| revision.0 >= next),
        }
    }

    /// Whether a device holds another set under the very revision that this hub gave it.
    fn is_other(&self, index: u32, (revision, digest): Claim) -> bool {
        let durable = self.state.devices.get(index).and_then(|device| device.durable.as_ref());
        durable.is_some_and(|durable| durable.revision() == revision && durable.digest() != digest)
    }

    /// Judges what a device says that it holds. The first value: whether it may go on; the second: whether it is to show the
    /// signed header.
    pub(super) fn claimed(&mut self, now: Now, index: u32, claim: Claim, proof: Option<&SignedHeader>) -> (bool, bool) {
        let (is_above, is_other) = (self.is_above(index, claim.0), self.is_other(index, claim));
        if !is_above && !is_other {
            self.ahead_set(now, index, None);
            return (true, false);
        }
        let Some(device) = self.state.devices.get(index) else { return (false, false) };
        let ahead = device.observed.ahead;
        let Some(proof) = proof else {
            return match ahead {
                Some(Ahead::Proven { revision, digest }) if (revision, digest) == claim => (true, false),
                // What it holds may be of a set that is on its way to it.
                _ if is_other => (true, true),
                Some(Ahead::Unproven) => (false, false),
                Some(Ahead::Claimed { asked }) if asked >= PROOF_ASKED_MAX => self.unproven(now, index, claim),
                Some(Ahead::Claimed { .. }) => (true, true),
                Some(Ahead::Proven { .. }) | None => {
                    self.ahead_set(now, index, Some(Ahead::Claimed { asked: 0 }));
                    (true, true)
                }
            };
        };
        let header = &proof.header;
        let is_of_claim = (header.revision, header.body.prefix()) == claim;
        if !is_of_claim || !proof.verify(&Ed25519, &self.hub_signing, &self.state.fleet_name, device.id()) {
            return self.unproven(now, index, claim);
        }
        if ahead != Some(Ahead::Proven { revision: claim.0, digest: claim.1 }) {
            self.proven(now, index, claim);
        }
        (true, false)
    }

    /// A status says what a device holds, and cannot show a header: that goes with its next Hello.
    pub(super) fn reported_claim(&mut self, now: Now, index: u32, claim: Claim) {
        if !self.is_above(index, claim.0) {
            return;
        }
        match self.state.devices.get(index).and_then(|device| device.observed.ahead) {
            Some(Ahead::Proven { revision, digest }) if (revision, digest) == claim => return,
            Some(Ahead::Claimed { .. } | Ahead::Unproven) => {}
            Some(Ahead::Proven { .. }) | None => self.ahead_set(now, index, Some(Ahead::Claimed { asked: 0 })),
        }
        self.ask(now, index, Asks::PROOF);
    }

    /// A device was given two sets with one revision, and kept what it holds now.
    pub(super) fn equivocated(&mut self, now: Now, accepted: Option<Claim>) {
        let is_settled = |row: &RecoveryRow| accepted.is_some_and(|(revision, _)| row.covers(revision));
        if !self.state.recovery.as_ref().is_some_and(is_settled) {
            self.rival_stop(now, Stop::Equivocation);
        }
    }

    fn ahead_set(&mut self, now: Now, index: u32, ahead: Option<Ahead>) {
        let Some(device) = self.state.devices.get_mut(index) else { return };
        if std::mem::replace(&mut device.observed.ahead, ahead) != ahead {
            self.held_changed(now, index);
        }
    }

    /// A Fresh asks it for the signed header. Only that counts: a Hello that is not answered, while the clock is in doubt or
    /// before the device is approved, asks nobody for anything.
    pub(super) fn proof_asked(&mut self, index: u32) {
        let ahead = self.state.devices.get_mut(index).and_then(|device| device.observed.ahead.as_mut());
        if let Some(Ahead::Claimed { asked }) = ahead {
            *asked = asked.saturating_add(1);
        }
    }

    /// It is asked once more to prove what it claims.
    pub(super) fn ahead_released(&mut self, now: Now, index: u32) {
        if self.state.devices.get(index).is_some_and(|device| device.observed.ahead == Some(Ahead::Unproven)) {
            self.ahead_set(now, index, Some(Ahead::Claimed { asked: 0 }));
        }
    }

    /// It shows nothing for what it claims: a concern of this device alone.
    fn unproven(&mut self, now: Now, index: u32, (revision, _): Claim) -> (bool, bool) {
        let Some(device) = self.state.devices.get(index) else { return (false, false) };
        let name = device.keys.name.clone();
        let is_news = device.observed.ahead != Some(Ahead::Unproven);
        self.ahead_set(now, index, Some(Ahead::Unproven));
        if is_news {
            let text = format!(
                "claims revision {revision}, which this hub does not know, and does not prove it: it is kept apart, and the others \
                 go on. Look at the device, then: {RELEASE} {name}"
            );
            self.tell(now, Draft::warning("Unproven", &ObjectKey::device(&name), text).on(&name));
        }
        (false, false)
    }

    /// The hub's own key signed what the device holds, and this database does not know it.
    fn proven(&mut self, now: Now, index: u32, (revision, digest): Claim) {
        let Some(device) = self.state.devices.get(index) else { return };
        let (name, id) = (device.keys.name.clone(), device.id());
        let durable = device.durable.as_ref();
        let is_same = durable.is_some_and(|durable| durable.digest() == digest);
        let remembered = durable.map_or(Order::ZERO, |durable| durable.revision().0);
        let is_covered = self.state.recovery.as_ref().is_some_and(|row| row.covers(revision));
        self.ahead_set(now, index, Some(Ahead::Proven { revision, digest }));
        if !is_covered && revision.0.incarnation() == self.incarnation {
            // No earlier run had this incarnation, so another one has it now.
            return self.rival_stop(now, Stop::Equivocation);
        }
        if !is_covered && !self.pipeline.is_full() {
            self.forgotten(now, remembered, revision.0.incarnation());
        }
        let row = self.state.recovery.as_ref();
        let is_overruled = row.is_some_and(|row| row.is_overruled) && !self.state.holds.contains(&id);
        if is_same || is_overruled {
            self.recovery.reissue.insert(index, ACTOR.to_owned());
            return;
        }
        let text = format!(
            "holds revision {revision}, which this hub's key signed and its database does not know: it keeps what it runs. To give \
             it this hub's set: fulmar hub apply {name}"
        );
        self.tell(now, Draft::warning("RevisionAhead", &ObjectKey::device(&name), text).on(&name));
    }

    /// A device knows more than this database.
    fn forgotten(&mut self, now: Now, remembered: Order, incarnation: u32) {
        let above = incarnation.saturating_add(1).max(self.incarnation);
        let mut writes = Vec::new();
        if above > self.incarnation && above <= Order::INCARNATION_MAX {
            writes.push(Write::IncarnationRaise { incarnation: above });
        }
        writes.extend(self.recovery_writes(now, RecoveryCause::Ahead, remembered, above));
        let entry = audit(now, ACTOR, "recover", "hub".to_owned());
        self.commit(writes, vec![entry], Vec::new());
        self.recovery_began(now);
        self.state_again();
    }

    /// Gives out what is to be given out, and notes when everything is known again.
    pub(super) fn recovery_run(&mut self, now: Now) {
        if self.rivals.is_stopped() {
            return;
        }
        while !self.pipeline.is_full()
            && let Some((index, actor)) = self.recovery.reissue.pop_first()
        {
            self.reissue(now, index, &actor);
        }
        if self.leases.is_witness_above && !self.pipeline.is_full() {
            let remembered = self.leases.remembered();
            let writes = self.recovery_writes(now, RecoveryCause::Behind, remembered, self.incarnation).into();
            self.commit(writes, vec![audit(now, ACTOR, "recover", "hub".to_owned())], Vec::new());
            self.recovery_began(now);
        }
        let Some(row) = &self.state.recovery else { return };
        if self.recovery.grants_from.is_none() && row.holds_grants {
            self.recovery.grants_from = Some(now.monotonic.after(GRANTS_PAUSE));
        }
        if self.recovery.look_at.is_some_and(|at| at > now.monotonic) || self.pipeline.is_full() {
            return;
        }
        self.recovery.look_at = Some(now.monotonic.after(LOOK_PAUSE));
        let is_over = self.grants_paused_for(now).is_zero();
        if is_over {
            self.leases.settled(self.incarnation);
        }
        let is_known =
            |device: &super::device::Device| device.observed.accepted.is_some() && device.observed.ahead.is_none();
        if is_over && self.state.devices.iter().all(|(_, device)| is_known(device)) {
            let holds = self.state.holds.iter().map(|device| Write::HoldDelete { device: *device });
            let writes = holds.chain([Write::RecoveryDelete]).collect();
            self.commit(writes, vec![audit(now, ACTOR, "recovered", "hub".to_owned())], Vec::new());
            self.pipeline.release_last(Release::Event(Draft::about(
                "Recovered",
                "hub".to_owned(),
                "every device was heard of, and none holds what this hub has forgotten".to_owned(),
            )));
            self.held_again();
        } else if is_over && row.holds_grants {
            let row = RecoveryRow { holds_grants: false, ..row.clone() };
            self.commit(vec![Write::RecoveryPut(row)], vec![audit(now, ACTOR, "grant", "hub".to_owned())], Vec::new());
        }
    }

    pub(super) fn recovery_timeout(&self) -> Option<Instant> {
        let is_open = self.state.recovery.is_some() && !self.rivals.is_stopped();
        self.recovery.look_at.filter(|_| is_open)
    }

    /// What this hub decided for a device, under a revision that is above everything it holds.
    fn reissue(&mut self, now: Now, index: u32, actor: &str) {
        let Some(device) = self.state.devices.get(index) else { return };
        let Some(Ahead::Proven { revision, .. }) = device.observed.ahead else { return };
        let name = device.keys.name.clone();
        let desired = device.desired.as_ref();
        let set: BTreeSet<u32> = desired.map(|desired| desired.assigned.keys().copied().collect()).unwrap_or_default();
        let Some(write) = self.desired_anew(index, &set) else { return };
        if let Write::DesiredPut { revision: new, .. } = &write
            && *new <= revision
        {
            tracing::error!(device = name, %revision, "a set cannot be given to a device that holds a higher one");
            return;
        }
        let key = ObjectKey::device(&name);
        self.commit(vec![write], vec![audit(now, actor, "apply", key.to_string())], Vec::new());
        let text = "gets what this hub decided, in place of what was forgotten";
        self.pipeline.release_last(Release::Event(Draft::normal("Applied", &key, text).on(&name)));
        self.ahead_set(now, index, None);
    }

    /// What devices hold and this hub does not know counts no more: for the named ones, or for all.
    pub(super) fn hub_apply(&mut self, now: Now, ticket: Ticket, actor: &str, devices: &[String]) -> Done {
        let indexes = match self.named(devices) {
            Ok(indexes) => indexes,
            Err(problem) => return Some(Err(problem)),
        };
        let mut writes = Vec::new();
        let chosen: Vec<u32> = if devices.is_empty() {
            let Some(row) = &self.state.recovery else {
                return Some(Err(problem::not_needed("this hub has forgotten nothing, as far as it knows")));
            };
            writes.push(Write::RecoveryPut(RecoveryRow { is_overruled: true, ..row.clone() }));
            let holds = &self.state.holds;
            let all = self.state.devices.iter().filter(|(_, device)| !holds.contains(&device.id()));
            all.filter(|(_, device)| is_proven(device.observed.ahead)).map(|(index, _)| index).collect()
        } else {
            for (name, index) in devices.iter().zip(&indexes) {
                let device = self.state.devices.get(*index);
                if !is_proven(device.and_then(|device| device.observed.ahead)) {
                    let text = format!("{name} has not proven that it holds what this hub has forgotten");
                    return Some(Err(problem::not_needed(&text)));
                }
                let held = device.map(super::device::Device::id).filter(|id| self.state.holds.contains(id));
                writes.extend(held.map(|device| Write::HoldDelete { device }));
            }
            indexes
        };
        self.recovery.reissue.extend(chosen.into_iter().map(|index| (index, actor.to_owned())));
        self.decided(now, ticket, actor, "apply", devices, writes)
    }

    /// Devices keep what they run: the named ones whatever is decided for the others, or all until it is decided again.
    pub(super) fn hub_hold(&mut self, now: Now, ticket: Ticket, actor: &str, devices: &[String]) -> Done {
        let indexes = match self.named(devices) {
            Ok(indexes) => indexes,
            Err(problem) => return Some(Err(problem)),
        };
        let Some(row) = &self.state.recovery else {
            return Some(Err(problem::not_needed("this hub has forgotten nothing, as far as it knows")));
        };
        let mut writes = Vec::new();
        if devices.is_empty() {
            writes.push(Write::RecoveryPut(RecoveryRow { is_overruled: false, ..row.clone() }));
            self.recovery.reissue.clear();
        }
        for index in indexes {
            self.recovery.reissue.remove(&index);
            let device = self.state.devices.get(index).map(super::device::Device::id);
            writes.extend(device.map(|device| Write::HoldPut { device }));
        }
        self.decided(now, ticket, actor, "hold", devices, writes)
    }

    fn decided(
        &mut self,
        now: Now,
        ticket: Ticket,
        actor: &str,
        action: &'static str,
        devices: &[String],
        writes: Vec<Write>,
    ) -> Done {
        let objects: Vec<String> = if devices.is_empty() {
            vec!["hub".to_owned()]
        } else {
            devices.iter().map(|name| ObjectKey::device(name).to_string()).collect()
        };
        if writes.is_empty() {
            // What follows from it is noted with each device's new set.
            return Some(Ok(Answer::Status(self.hub_status(now))));
        }
        let entries = objects.into_iter().map(|object| audit(now, actor, action, object)).collect();
        self.commit(writes, entries, Vec::new());
        let status = self.hub_status(now);
        self.pipeline.release_last(Release::Answer(ticket, Ok(Answer::Status(status))));
        self.held_again();
        None
    }

    fn named(&self, devices: &[String]) -> Result<Vec<u32>, super::port::Problem> {
        let index = |name: &String| {
            let index = self.state.devices.index_named(name);
            index.ok_or_else(|| problem::not_found(&ObjectKey::device(name)))
        };
        devices.iter().map(index).collect()
    }

    pub(super) fn recovery_status(&self, now: Now) -> Option<RecoveryStatus> {
        let row = self.state.recovery.as_ref()?;
        let mut ahead = Vec::new();
        let (mut count, mut unheard) = (0_u32, 0_u32);
        for (_, device) in self.state.devices.iter() {
            unheard += u32::from(device.observed.accepted.is_none());
            let Some(state) = device.observed.ahead else { continue };
            count += 1;
            if ahead.len() < AHEAD_SHOWN_MAX {
                let revision = device.observed.accepted.map(|(revision, _)| revision.to_string());
                ahead.push(AheadDevice {
                    device: device.keys.name.clone(),
                    revision: revision.unwrap_or_default(),
                    state: match state {
                        Ahead::Claimed { .. } => "Asked",
                        Ahead::Proven { .. } => "Held",
                        Ahead::Unproven => "Unproven",
                    }
                    .to_owned(),
                });
            }
        }
        Some(RecoveryStatus {
            cause: row.cause.name().to_owned(),
            since: timestamp(row.since_ms),
            decision: if row.is_overruled { "apply" } else { "hold" }.to_owned(),
            grants_paused_s: self.grants_paused_for(now).as_secs(),
            devices_ahead: count,
            devices_unheard: unheard,
            ahead,
        })
    }

    /// What needs attention; nothing when only devices that are away are waited for, and it is decided what they get.
    pub(super) fn recovery_condition(&self, now: Now) -> Option<Condition> {
        let row = self.state.recovery.as_ref()?;
        let status = self.recovery_status(now)?;
        if row.is_overruled && status.grants_paused_s == 0 && status.devices_ahead == 0 {
            return None;
        }
        let cause = match row.cause {
            RecoveryCause::Restored => "this database was restored from a backup",
            RecoveryCause::Behind => "this database is an old copy",
            RecoveryCause::Ahead => "devices know more than this database",
            RecoveryCause::SecondHub => "a second hub ran on a copy of this database",
        };
        let mut names: Vec<&str> = status.ahead.iter().take(NAMED_MAX).map(|ahead| ahead.device.as_str()).collect();
        if usize::try_from(status.devices_ahead).is_ok_and(|count| count > names.len()) {
            names.push("...");
        }
        let named = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
        let mut message = format!(
            "{cause}: since {} {} devices hold newer sets{named}, {} were not heard of yet",
            status.since, status.devices_ahead, status.devices_unheard
        );
        message.push_str(match row.is_overruled {
            false => {
                "; they keep what they run. Give this hub's sets to all of them with: fulmar hub apply, or to some: fulmar hub apply \
                 NAME..."
            }
            true => "; they get this hub's sets when they come",
        });
        if status.grants_paused_s > 0 {
            let minutes = status.grants_paused_s.div_ceil(60);
            message.push_str(&format!("; nothing exclusive is granted for another {minutes} min"));
        }
        Some(Condition {
            name: "Recovery".to_owned(),
            status: ConditionStatus::True,
            reason: row.cause.name().to_owned(),
            message,
        })
    }
}

impl RecoveryRow {
    /// Whether a revision may have been said by a run that this database does not know.
    pub(super) fn covers(&self, revision: Revision) -> bool {
        revision.0 > self.remembered && revision.0.incarnation() < self.until_incarnation
    }
}

fn is_proven(ahead: Option<Ahead>) -> bool {
    matches!(ahead, Some(Ahead::Proven { .. }))
}

fn audit(now: Now, actor: &str, action: &'static str, object: String) -> AuditEntry {
    AuditEntry { time_ms: now.wall_ms, actor: actor.to_owned(), action, object, before: None, after: None }
}
