//! The broker's listener for devices, as seen from the hub's own machine: whether a connection can be made there.
//!
//! The hub's connection may use another way in, so that it says nothing of this one. Looked at when somebody is suspect, so that
//! a verdict finds an answer, and never because time passes: a broker's log is no place for a heartbeat. A listener that was
//! never reached from here (another network, address translation) proves nothing.

use super::Engine;
use super::port::{Effect, Instant, Now};
use std::time::Duration;

/// An answer counts for so long.
pub const DOOR_KNOWN_FOR: Duration = Duration::from_secs(5);
/// Pause between two looks.
pub const DOOR_LOOK_PAUSE: Duration = Duration::from_millis(250);
/// After it takes connections again, devices have so long to come back: they wait up to a minute between two tries.
pub const DOOR_GRACE: Duration = Duration::from_secs(90);

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Door {
    /// It was reached from here at some time.
    was_open: bool,
    /// The last answer, and when it came.
    seen: Option<(bool, Instant)>,
    asked_at: Option<Instant>,
    /// Since when it is open again.
    opened_at: Option<Instant>,
}

impl Door {
    /// It was open, and no connection can be made there now.
    pub fn is_lost(&self, now: Instant) -> bool {
        self.was_open && self.seen.is_some_and(|(is_open, at)| !is_open && now.since(at) < DOOR_KNOWN_FOR)
    }

    /// Devices had time to come back through it.
    pub fn has_settled(&self, now: Instant) -> bool {
        !self.is_lost(now) && self.opened_at.is_none_or(|at| now.since(at) >= DOOR_GRACE)
    }
}

impl Engine {
    /// Somebody is suspect, or the hub has just connected.
    pub(super) fn door_look(&mut self, now: Now) {
        if self.door.asked_at.is_none_or(|at| at.after(DOOR_LOOK_PAUSE) <= now.monotonic) {
            self.door.asked_at = Some(now.monotonic);
            self.effects.push_back(Effect::Probe);
        }
    }

    pub(super) fn door_seen(&mut self, now: Now, is_open: bool) {
        let before = self.door.seen.replace((is_open, now.monotonic));
        self.door.was_open |= is_open;
        if is_open && before.is_some_and(|(was_open, _)| !was_open) {
            self.door.opened_at = Some(now.monotonic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(was_open: bool, is_open: bool) -> Door {
        Door { was_open, seen: Some((is_open, Instant(1_000))), ..Door::default() }
    }

    #[test]
    fn a_listener_is_lost_when_it_was_reached_before_and_is_not_now() {
        assert!(seen(true, false).is_lost(Instant(1_500)));
        assert!(!seen(true, true).is_lost(Instant(1_500)));
        assert!(!seen(false, false).is_lost(Instant(1_500)), "never reached: it proves nothing");
        assert!(!Door::default().is_lost(Instant(1_500)), "nobody looks");
        let old = Instant(1_000).after(DOOR_KNOWN_FOR);
        assert!(!seen(true, false).is_lost(old), "an answer of some time ago");
    }
}
