//! What can be made to go wrong for an agent that shares a process with whoever asks for it: a simulated fleet, or a test.
//!
//! Only code of the same process can hold one. `fulmar-agent` makes none: it has no option, variable, file or message that would.
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

/// Faults of one device; none when made.
#[derive(Debug, Default)]
pub struct Faults {
    is_cut_off: AtomicBool,
    is_disk_full: AtomicBool,
    skew_ms: AtomicI64,
}

impl Faults {
    /// No source of artifacts answers. The link to the broker is not touched.
    pub fn cut_off(&self, is_cut_off: bool) {
        self.is_cut_off.store(is_cut_off, Ordering::Relaxed);
    }

    /// The disk takes nothing more: no journal, no artifact that is not there, nothing that functions remember.
    pub fn fill_disk(&self, is_full: bool) {
        self.is_disk_full.store(is_full, Ordering::Relaxed);
    }

    /// The wall clock of the operating system is off by so much.
    pub fn skew_clock(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
    }

    pub fn is_cut_off(&self) -> bool {
        self.is_cut_off.load(Ordering::Relaxed)
    }

    pub fn is_disk_full(&self) -> bool {
        self.is_disk_full.load(Ordering::Relaxed)
    }

    /// Time since 1970 as the device's clock shows it.
    pub fn wall(&self, real: Duration) -> Duration {
        let skew = self.skew_ms.load(Ordering::Relaxed);
        let amount = Duration::from_millis(skew.unsigned_abs());
        if skew < 0 { real.saturating_sub(amount) } else { real.saturating_add(amount) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_off_in_both_directions_and_never_before_1970() {
        let faults = Faults::default();
        let real = Duration::from_secs(1000);
        assert_eq!(faults.wall(real), real);
        faults.skew_clock(5_000);
        assert_eq!(faults.wall(real), Duration::from_secs(1005));
        faults.skew_clock(-2_000_000);
        assert_eq!(faults.wall(real), Duration::ZERO);
    }
}
