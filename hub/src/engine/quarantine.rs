//! A device that floods the hub with what does not count is kept out for a while: its credential is taken away at the broker,
//! which ends its connection, and given back later.
//!
//! Soft: a hub that restarts begins with nobody in quarantine. What the device runs goes on, and nothing is decided from this.

use super::Engine;
use super::device::{Ahead, Bucket};
use super::event::Draft;
use super::port::{AccessChange, Effect, Instant, Now, Problem};
use super::problem;
use crate::model::ObjectKey;
use std::collections::VecDeque;
use std::time::Duration;
use wire::DeviceId;

/// The command that lets a device try again.
pub(super) const RELEASE: &str = "fulmar device release";
/// Messages of one device that may be refused, per second and at once. A device that is in order has a few after a restart.
pub const REFUSED_PER_SECOND: u64 = 10;
pub const REFUSED_BURST: u64 = 1_000;
/// How long a device is kept out.
pub const QUARANTINE: Duration = Duration::from_secs(600);

/// Who is kept out, and until when; in the order of time.
#[derive(Debug, Default)]
pub(super) struct Quarantine(VecDeque<(Instant, DeviceId)>);

impl Engine {
    /// One more message of this device was refused.
    pub(super) fn suspect(&mut self, now: Now, index: u32) {
        let Some(device) = self.state.devices.get_mut(index) else { return };
        let has_patience = device.observed.refusals.take(now.monotonic, REFUSED_PER_SECOND, REFUSED_BURST);
        if has_patience || device.observed.quarantined {
            return;
        }
        device.observed.quarantined = true;
        let (id, name) = (device.id(), device.keys.name.clone());
        self.quarantine.0.push_back((now.monotonic.after(QUARANTINE), id));
        self.effects.push_back(Effect::Access(AccessChange::DeviceRemove { id }));
        let minutes = QUARANTINE.as_secs() / 60;
        let text = format!(
            "it sent more than {REFUSED_BURST} messages that do not count, and is kept out for {minutes} minutes; its work goes on. \
             Look at the device; to let it in before: {RELEASE} {name}; if it is not yours any more: fulmar delete device {name}"
        );
        self.tell(now, Draft::warning("Quarantined", &ObjectKey::device(&name), text).on(&name));
        self.suspected(now, index, "it is in quarantine");
        self.touch_device(now, index);
    }

    pub(super) fn is_quarantined(&self, index: u32) -> bool {
        self.state.devices.get(index).is_some_and(|device| device.observed.quarantined)
    }

    /// Lets in again whose time is over.
    pub(super) fn quarantine_run(&mut self, now: Now) {
        while let Some((until, id)) = self.quarantine.0.front().copied()
            && until <= now.monotonic
        {
            self.quarantine.0.pop_front();
            // Deleted in the meantime, or joined anew.
            let Some(index) = self.state.devices.index_of(id) else { continue };
            let Some(device) = self.state.devices.get_mut(index).filter(|device| device.observed.quarantined) else {
                continue;
            };
            device.observed.quarantined = false;
            let (change, name) = (device.keys.access(), device.keys.name.clone());
            self.effects.push_back(Effect::Access(change));
            self.touch_device(now, index);
            self.tell(now, Draft::normal("Released", &ObjectKey::device(&name), "its quarantine is over").on(&name));
        }
    }

    /// An operator lets a device try again at once, of whatever kind its quarantine is.
    pub(super) fn release(&mut self, now: Now, name: &str, actor: &str) -> Option<Problem> {
        let not_there = || Some(problem::not_found(&ObjectKey::device(name)));
        let Some(index) = self.state.devices.index_named(name) else { return not_there() };
        let Some(device) = self.state.devices.get_mut(index) else { return not_there() };
        let id = device.id();
        if !device.observed.quarantined && device.observed.ahead != Some(Ahead::Unproven) {
            return Some(problem::not_needed(&format!("{name} is not in quarantine")));
        }
        device.observed.refusals = Bucket::default();
        if std::mem::take(&mut device.observed.quarantined) {
            let change = device.keys.access();
            self.quarantine.0.retain(|(_, other)| *other != id);
            self.effects.push_back(Effect::Access(change));
        }
        self.ahead_released(now, index);
        self.touch_device(now, index);
        let text = format!("{actor} ended its quarantine");
        self.tell(now, Draft::normal("Released", &ObjectKey::device(name), text).on(name));
        None
    }

    pub(super) fn quarantine_timeout(&self) -> Option<Instant> {
        self.quarantine.0.front().map(|(until, _)| *until)
    }
}
