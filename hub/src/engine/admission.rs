//! How many devices are greeted per second. What comes beyond it is told when to come again, each at its own time, so that a whole
//! fleet that comes back at once is in as fast as the hub can take it, and nobody's question waits behind it.
//!
//! Devices that an operator has let in and others are treated alike: the rate bounds the hub's work, not anybody's right.

use super::Engine;
use super::port::{Instant, Now};
use std::time::Duration;

/// A small fleet is spread over this.
pub(super) const SPREAD: Duration = Duration::from_secs(2);
/// Hellos that are answered per second, unless the shell says otherwise. Two cores answer about 20,000.
pub const HELLOS_PER_SECOND: u32 = 4_000;
/// Hellos that are answered at once, as a time of that rate: half a second's work. Devices are back within a second of a cut, and who
/// is sent away says and hears everything twice.
pub const HELLOS_BURST: Duration = Duration::from_secs(2);
/// The longest time that a device is told to wait; devices follow no longer one than their own limit of ten minutes.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// Both are on the clock of the engine, in microseconds.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// When the Hellos that were let in are worked off at the rate.
    busy_until: u64,
    /// When the last of those that were sent away comes back.
    promised_until: u64,
}

impl Admission {
    /// `None`: come in. Else after so many whole seconds.
    pub fn ask(&mut self, now: Instant, per_second: u32) -> Option<u32> {
        let now = now.0.saturating_mul(1_000);
        let each = 1_000_000 / u64::from(per_second.max(1));
        let burst = u64::try_from(HELLOS_BURST.as_micros()).unwrap_or(u64::MAX);
        self.busy_until = self.busy_until.max(now);
        if self.busy_until + each <= now + burst {
            self.busy_until += each;
            return None;
        }
        // Those who come back find the rate as it is then: a slot each, from the next whole second on.
        self.promised_until = self.promised_until.max(now + 1_000_000) + each;
        let longest = u64::try_from(RETRY_AFTER_MAX.as_micros()).unwrap_or(u64::MAX);
        let wait = (self.promised_until - now).min(longest);
        self.promised_until = self.promised_until.min(now + longest);
        // Rounded down: the device adds up to a second of its own.
        Some(u32::try_from(wait / 1_000_000).unwrap_or(u32::MAX).max(1))
    }
}

impl Engine {
    /// What a Hello is to be told if there are too many.
    pub(super) fn send_away(&mut self, now: Now) -> Option<u32> {
        let wait = self.admission.ask(now.monotonic, self.config.hellos_per_second);
        self.hellos_sent_away += u64::from(wait.is_some());
        wait
    }

    /// Devices announce themselves to a new hub within this time: what it greets in that time is the whole fleet.
    pub(super) fn spread(&self) -> Duration {
        spread(self.state.devices.len(), self.config.spread, self.config.hellos_per_second)
    }
}

/// Of a fleet of this size.
pub(super) fn spread(devices: usize, least: Duration, hellos_per_second: u32) -> Duration {
    let per_second = u64::from(hellos_per_second.max(1));
    let devices = u64::try_from(devices).unwrap_or(u64::MAX);
    least.max(Duration::from_millis(devices.saturating_mul(1_000) / per_second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_rate_is_let_in_and_the_next_is_told_to_come_again() {
        for (count, sent_away) in [(199, 0), (200, 0), (201, 1)] {
            let mut admission = Admission::default();
            let waits = (0..count).filter_map(|_| admission.ask(Instant(5_000), 100)).count();
            assert_eq!(waits, sent_away, "{count}");
        }
        let mut admission = Admission::default();
        assert!((0..200).all(|_| admission.ask(Instant(5_000), 100).is_none()));
        assert_eq!(admission.ask(Instant(5_009), 100), Some(1));
        assert_eq!(admission.ask(Instant(5_010), 100), None, "a hundredth of a second gives one back");
    }

    #[test]
    fn those_who_are_sent_away_are_spread_over_the_backlog() {
        let mut admission = Admission::default();
        let mut waits: BTreeMap<u32, usize> = BTreeMap::new();
        for _ in 0..1_100 {
            *waits.entry(admission.ask(Instant(0), 100).unwrap_or(0)).or_default() += 1;
        }
        assert_eq!(waits[&0], 200);
        assert!((1..=9).all(|second| (99..=101).contains(&waits[&second])), "{waits:?}");
    }

    #[test]
    fn nobody_is_told_to_wait_for_longer_than_devices_follow() {
        let mut admission = Admission::default();
        let longest = (0..2_000).filter_map(|_| admission.ask(Instant(0), 1)).max();
        assert_eq!(longest, Some(600));
    }
}
