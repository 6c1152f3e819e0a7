//! A device that says in its Hello that it runs exactly what it should, and nothing else: then no status has to be sent to a
//! hub that was started again.
//!
//! What such a device would say is made here from its set, as its agent makes it, and compared by digest. Everything that is
//! not right, or was not always right in this boot, has another digest and is told whole.

use super::Engine;
use super::device::{Durable, Entry, Reported};
use super::port::{Instant, Now};
use crate::model::ObjectKey;
use std::time::Duration;
use wire::codec::Writer;
use wire::hello::{Asks, HelloFixed};
use wire::record::{Body, Role};
use wire::status::{Reason, State, StatusFixed, StatusWriter};
use wire::{BootId, DeviceId, DigestPrefix};

/// What a status says beside its digest (free memory, uptime) is asked for when a device was recognised for so long,
/// and up to twice as long, so that a fleet does not answer at once.
pub const WHOLE_AFTER: Duration = Duration::from_secs(600);
/// Bytes of a status before its entries, and of an entry without details: numbers at their longest.
const HEAD_BYTES: usize = 256;
const ENTRY_BYTES: usize = 64;

/// What a device reports when all of its set is as it should be and never failed since the device started.
#[derive(Debug, PartialEq)]
struct AllRight {
    content: DigestPrefix,
    entries: Vec<Entry>,
}

fn all_right(now: Instant, durable: &Durable) -> Option<AllRight> {
    let body = Body::decode(&durable.body).ok()?;
    let fixed = StatusFixed { revision: durable.revision(), digest: durable.digest(), ..StatusFixed::default() };
    let mut buffer = vec![0; HEAD_BYTES + ENTRY_BYTES * body.len()];
    let mut writer = Writer::new(&mut buffer);
    let mut status = StatusWriter::new(&mut writer, fixed, u16::try_from(body.len()).ok()?).ok()?;
    let mut entries = Vec::with_capacity(body.len());
    for record in body.iter() {
        let generation = record.core.generation;
        let (state, running) = match record.core.role {
            Role::Service => (State::Running, generation),
            Role::Init | Role::Job => (State::Completed, 0),
        };
        let (workload, component) = record.key();
        status
            .entry(&wire::status::Entry {
                workload,
                component,
                generation,
                running,
                state,
                reason: Reason::NONE,
                attempts: 0,
                restarts: 0,
                detail: "",
            })
            .ok()?;
        entries.push(Entry {
            workload: workload.0,
            component,
            generation,
            running,
            state,
            reason: Reason::NONE,
            attempts: 0,
            restarts: 0,
            detail: "".into(),
            since: now,
        });
    }
    Some(AllRight { content: status.finish(), entries })
}

impl Engine {
    /// True if what the device runs is known by this Hello alone.
    pub(super) fn recognise(&mut self, now: Now, index: u32, fixed: &HelloFixed) -> bool {
        let Some(device) = self.state.devices.get(index) else { return false };
        let Some(durable) = device.durable.as_ref().filter(|_| device.observed.reported.is_none()) else {
            return false;
        };
        if fixed.status == DigestPrefix::default()
            || (fixed.revision, fixed.digest) != (durable.revision(), durable.digest())
            || device.observed.ahead.is_some()
        {
            return false;
        }
        // How old a position is counts for placement, and only a status says that it is still the same.
        let stored = self.state.objects.get(&ObjectKey::device(&device.keys.name));
        if stored.and_then(|stored| stored.device()).is_none_or(|body| body.reported.position.is_some()) {
            return false;
        }
        let Some(right) = all_right(now.monotonic, durable).filter(|right| right.content == fixed.status) else {
            return false;
        };
        self.recognised(now, index, fixed.boot, right);
        true
    }

    fn recognised(&mut self, now: Now, index: u32, boot: BootId, AllRight { content, entries }: AllRight) {
        let Some(device) = self.state.devices.get_mut(index) else { return };
        device.observed.reported = Some(Reported { content, at: now.monotonic, boot, told: None, entries });
        self.tell_transitions(now, index, None);
        self.touch_device(now, index);
    }

    /// Asks for the rest of what was recognised, some time later.
    pub(super) fn ask_for_the_rest(&mut self, now: Now, index: u32) {
        let Some(device) = self.state.devices.get(index) else { return };
        let Some(reported) = device.observed.reported.as_ref().filter(|reported| reported.told.is_none()) else {
            return;
        };
        if now.monotonic.since(reported.at) >= WHOLE_AFTER.saturating_add(share(device.id())) {
            self.ask(now, index, Asks::STATUS);
        }
    }
}

/// A part of `WHOLE_AFTER` that is a device's own.
fn share(id: DeviceId) -> Duration {
    let part = id.0.first().copied().unwrap_or_default();
    WHOLE_AFTER * u32::from(part) / 256
}
