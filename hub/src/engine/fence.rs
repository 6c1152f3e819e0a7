//! What fences are compared with: what the broker has kept of them, and what events carry.
//!
//! A lease alone protects nothing from a clock that is wrong or from a process that was suspended while it sent; a number that
//! only rises does. Nothing here may lower what was seen.

use super::Engine;
use super::event::Draft;
use super::port::Now;
use wire::event::Event;
use wire::{Fence, Order, Revision};

/// Events about refused fences, per second and at once.
const FENCED_TOLD_PER_SECOND: u64 = 1;
const FENCED_TOLD_BURST: u64 = 8;

/// An event whose sender has lost its right, or never had one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused;

impl Engine {
    /// What the broker has kept of the fences of earlier lives. A word above the database means that it was restored from a
    /// backup: devices may run under fences that it does not know.
    pub(super) fn witness_seen(&mut self, now: Now, witness: Order) {
        // What this life of the hub issued is never above; of an earlier one the database knows the batch.
        let is_above = Fence(witness) > self.leases.issued
            && (witness.incarnation() >= self.incarnation || witness.counter() > self.leases.sequence_loaded);
        // It is never lowered, or the next start would not see it.
        self.leases.issued = self.leases.issued.max(Fence(witness));
        let is_known = self.state.recovery.as_ref().is_some_and(|row| row.covers(Revision(witness)));
        if is_above && !is_known && !self.leases.is_witness_above {
            self.leases.is_witness_above = true;
            let text = format!(
                "the broker has seen fence {witness}, which this database has not issued: was it restored from a backup? \
                 Nothing exclusive is granted for as long as a lease can last"
            );
            self.tell(now, Draft::hub("FenceAhead", text));
        }
    }

    /// The broker has taken over a word about fences.
    pub(super) fn witness_acknowledged(&mut self, now: Now, publication: u64) -> bool {
        let Some(fence) = self.leases.flights.remove(&publication) else { return false };
        self.leases.witnessed = self.leases.witnessed.max(fence);
        self.leases_try_all(now);
        true
    }

    /// Whether an event may go on, and under which fence: of leased work, only from whoever holds the present lease. A device
    /// that was granted something in an earlier life of this hub, which the database has forgotten, counts until it grants anew.
    pub(super) fn fence_of(&mut self, index: u32, event: &Event<'_>) -> Result<Option<Fence>, Refused> {
        let workload = event.workload.0;
        if self.lease_ms(workload).is_none() {
            return Ok(None);
        }
        let fence = event.fence.ok_or(Refused)?;
        let row = self.state.leases.get(&workload).cloned();
        let id = self.state.devices.get(index).map(|device| device.id()).ok_or(Refused)?;
        let seen = self.leases.seen.get(&workload).copied();
        let floor = row.as_ref().map(|row| row.fence).max(seen);
        if floor.is_some_and(|floor| fence < floor) {
            return Err(Refused);
        }
        if row.is_some_and(|row| (row.device, row.fence) == (id, fence)) {
            return Ok(Some(fence));
        }
        if fence.0.incarnation() >= self.incarnation || !self.is_assigned(index, workload) {
            return Err(Refused);
        }
        self.leases.seen.insert(workload, fence);
        Ok(Some(fence))
    }

    pub(super) fn tell_fenced(&mut self, now: Now, index: u32, event: &Event<'_>) {
        self.leases.counts.fenced += 1;
        if !self.leases.told.take(now.monotonic, FENCED_TOLD_PER_SECOND, FENCED_TOLD_BURST) {
            return;
        }
        let Some(device) = self.state.devices.get(index) else { return };
        let Some(key) = self.state.workloads.get(&event.workload.0) else { return };
        let what = event.fence.map_or_else(|| "without a fence".to_owned(), |fence| format!("with fence {}", fence.0));
        let now_held = self.state.leases.get(&event.workload.0).map_or_else(
            || "nothing was granted".to_owned(),
            |row| format!("{} is granted to {}", row.fence.0, self.holder_name(row.device)),
        );
        let name = device.keys.name.clone();
        let text = format!("an event {what} was refused: {now_held}");
        self.tell(now, Draft::warning("Fenced", key, text).on(&name));
    }
}
