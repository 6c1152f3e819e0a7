//! Time from a hardware counter that runs by itself. Interrupts that come late, or not at all, cost no time: an emulator that is
//! starved of its machine drops them, and so does a processor that erases its flash.

/// A 32-bit counter that counts up and passes zero, as one that does not. It has to be asked once per round.
#[derive(Clone, Copy)]
pub struct Extended {
    last: u32,
    rounds: u32,
}

impl Extended {
    pub const fn new() -> Self {
        Self { last: 0, rounds: 0 }
    }

    /// Ticks since the counter was 0 for the first time, given where it stands, and what to count on from.
    pub fn ticks(self, counter: u32) -> (Self, u64) {
        let rounds = if counter < self.last { self.rounds.wrapping_add(1) } else { self.rounds };
        (Self { last: counter, rounds }, (u64::from(rounds) << 32) | u64::from(counter))
    }
}

impl Default for Extended {
    fn default() -> Self {
        Self::new()
    }
}

/// Ticks in microseconds. It does not overflow in the lifetime of a counter with 32 bits of rounds.
pub fn microseconds(ticks: u64, hz: u32) -> u64 {
    let hz = u64::from(hz.max(1));
    (ticks / hz) * 1_000_000 + (ticks % hz) * 1_000_000 / hz
}

/// The first tick that is not before a time in microseconds; never for one that no counter reaches.
pub fn ticks_at(microseconds: u64, hz: u32) -> u64 {
    let (seconds, rest) = (microseconds / 1_000_000, microseconds % 1_000_000);
    let part = (rest * u64::from(hz)).div_ceil(1_000_000);
    seconds.checked_mul(u64::from(hz)).and_then(|ticks| ticks.checked_add(part)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_when_the_counter_passes_zero() {
        let (clock, ticks) = Extended::new().ticks(u32::MAX - 1);
        assert_eq!(ticks, u64::from(u32::MAX) - 1);
        let (clock, ticks) = clock.ticks(3);
        assert_eq!(ticks, (1 << 32) + 3);
        let (clock, ticks) = clock.ticks(3);
        assert_eq!(ticks, (1 << 32) + 3);
        assert_eq!(clock.ticks(2).1, (2 << 32) + 2, "a whole round, as far as anybody knows");
    }

    #[test]
    fn a_pause_without_any_interrupt_is_counted() {
        let (clock, before) = Extended::new().ticks(25_000);
        let (_, after) = clock.ticks(25_000 + 100 * 25_000_000);
        assert_eq!((microseconds(before, 25_000_000), microseconds(after, 25_000_000)), (1_000, 100_001_000));
    }

    #[test]
    fn microseconds_are_exact_after_years() {
        let year = 365 * 86_400;
        assert_eq!(microseconds(year * 25_000_000 + 25, 25_000_000), year * 1_000_000 + 1);
        assert_eq!(microseconds(u64::MAX, 1_000_000), u64::MAX);
    }

    #[test]
    fn a_time_is_reached_by_its_tick_and_by_none_before() {
        for (at, hz) in [(1, 10_000_000), (3, 32_768), (1_000_001, 32_768), (7, 999_999)] {
            let ticks = ticks_at(at, hz);
            assert!(microseconds(ticks, hz) >= at && microseconds(ticks - 1, hz) < at, "{at} us at {hz} Hz: {ticks}");
        }
        assert_eq!(ticks_at(u64::MAX, 10_000_000), u64::MAX);
        assert_eq!(ticks_at(0, 10_000_000), 0);
    }
}
