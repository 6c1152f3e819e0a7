//! The arithmetic of exclusive work, in one place for both sides: when a device must have stopped, and when the hub may grant again.
//!
//! A device counts from the moment it *sent* its question, on a clock that counts suspend and may be wrong by a stated part. The
//! hub counts from the moment it sent its grant. Whatever is changed here must keep the device's end before the hub's.

/// Shortest lease: below, a slow link cannot renew it in time.
pub const LEASE_MS_MIN: u64 = 15_000;
/// Longest lease: what a hub without its memory has to wait before it grants anything.
pub const LEASE_MS_MAX: u64 = 3_600_000;
/// Both sides keep this apart: the hub grants again after the lease and this, the device stops earlier by this.
pub const LEASE_MARGIN_MS: u64 = 2_000;
/// How wrong a device's clock may be, in parts per million: what an RC oscillator is.
pub const DRIFT_PPM_MAX: u32 = 50_000;
/// A lease is renewed after this part of it, so that two renewals may get lost.
pub const RENEWALS_PER_LEASE: u32 = 3;
/// A device must be able to stop within this part of a lease, else it cannot hold it.
pub const STOPS_PER_LEASE: u32 = 4;

/// How long after sending its question a device may go on: `ms * (1 - drift) - margin - stop_latency`, rounded down.
pub const fn hold_ms(ms: u64, drift_ppm: u32, stop_latency_ms: u64) -> u64 {
    let drift_ppm = if drift_ppm > DRIFT_PPM_MAX { DRIFT_PPM_MAX } else { drift_ppm };
    let steady = ms as u128 * (1_000_000 - drift_ppm as u128) / 1_000_000;
    // Not longer than what was given, so it fits again.
    (steady as u64).saturating_sub(LEASE_MARGIN_MS).saturating_sub(stop_latency_ms)
}

/// How long after sending a grant the hub must wait before it grants to anybody else.
pub const fn regrant_ms(ms: u64) -> u64 {
    ms.saturating_add(LEASE_MARGIN_MS)
}

/// A lease that this device can hold: within the limits, and long enough for its way of stopping.
pub const fn is_holdable(ms: u64, stop_latency_ms: u64) -> bool {
    LEASE_MS_MIN <= ms && ms <= LEASE_MS_MAX && stop_latency_ms.saturating_mul(STOPS_PER_LEASE as u64) <= ms
}

// The shortest lease on the worst clock, with the slowest stop that is allowed, still runs for more than half its time.
const _: () = assert!(hold_ms(LEASE_MS_MIN, DRIFT_PPM_MAX, LEASE_MS_MIN / STOPS_PER_LEASE as u64) * 2 > LEASE_MS_MIN);
const _: () = assert!(LEASE_MS_MAX <= u32::MAX as u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_on_the_worst_clock_is_left_after_fifty_five_seconds() {
        assert_eq!(hold_ms(60_000, DRIFT_PPM_MAX, 0), 55_000);
        assert_eq!(hold_ms(60_000, DRIFT_PPM_MAX, 500), 54_500);
        assert_eq!(hold_ms(60_000, 0, 0), 58_000);
        assert_eq!(hold_ms(60_000, u32::MAX, 0), 55_000);
        assert_eq!(hold_ms(1, 0, 0), 0);
    }

    #[test]
    fn the_end_of_a_device_is_before_the_beginning_of_the_next_on_every_clock_that_is_allowed() {
        for ms in [LEASE_MS_MIN, 60_000, LEASE_MS_MAX] {
            for drift_ppm in [0u32, 100, 1000, DRIFT_PPM_MAX] {
                // A clock that is slow by `drift_ppm` needs so much real time to show what the device waits for.
                let held = u128::from(hold_ms(ms, drift_ppm, 0));
                let real_ms = held * 1_000_000 / (1_000_000 - u128::from(drift_ppm)) + 1;
                assert!(real_ms < u128::from(ms), "{ms} {drift_ppm}");
                assert!(real_ms + 2 * u128::from(LEASE_MARGIN_MS) <= u128::from(regrant_ms(ms)) + 1, "{ms}");
            }
        }
    }

    #[test]
    fn limits_of_a_lease_hold_at_their_value_and_one_beyond() {
        assert!(is_holdable(LEASE_MS_MIN, 0) && !is_holdable(LEASE_MS_MIN - 1, 0));
        assert!(is_holdable(LEASE_MS_MAX, 0) && !is_holdable(LEASE_MS_MAX + 1, 0));
        assert!(is_holdable(60_000, 15_000) && !is_holdable(60_000, 15_001));
        assert_eq!(regrant_ms(u64::MAX), u64::MAX);
    }
}
