//! How long a function takes on this device, for whoever reads its log: what it took to begin, and the shortest and longest call.
//!
//! Only tells: nothing is decided by it.
use super::super::port::Clock;
use core::fmt;

/// Microseconds of one run so far, as the device's clock counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Reading it from flash, with the check of its hash.
    pub read_us: u64,
    /// Checking and compiling it.
    pub load_us: u64,
    /// From there to the return of its start, of the slowest instance.
    pub start_us: u64,
    calls: u32,
    shortest_us: u64,
    longest_us: u64,
}

/// What `work` gives, and how long it took.
pub fn timed<C: Clock, T>(clock: &C, work: impl FnOnce() -> T) -> (T, u64) {
    let begin = clock.now_us();
    let done = work();
    (done, clock.now_us().saturating_sub(begin))
}

impl Pace {
    /// A start returned.
    pub fn started(&mut self, us: u64) {
        self.start_us = self.start_us.max(us);
    }

    /// A call returned, all its slices together.
    pub fn called(&mut self, us: u64) {
        self.shortest_us = if self.calls == 0 { us } else { self.shortest_us.min(us) };
        self.longest_us = self.longest_us.max(us);
        self.calls = self.calls.saturating_add(1);
    }

    /// Of a run that began.
    pub fn beginning(&self) -> impl fmt::Display {
        let Self { read_us, load_us, start_us, .. } = *self;
        fmt::from_fn(move |f| write!(f, "read in {read_us} us, compiled in {load_us} us, begun in {start_us} us"))
    }

    /// Of a run that is over; `None` if it was never called.
    pub fn calls(&self) -> Option<impl fmt::Display> {
        let Self { calls, shortest_us, longest_us, .. } = *self;
        (calls > 0).then(|| fmt::from_fn(move |f| write!(f, "{calls} calls, of {shortest_us} to {longest_us} us each")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_run_tells_its_beginning_and_its_shortest_and_longest_call() {
        let mut pace = Pace { read_us: 1, load_us: 2, ..Pace::default() };
        assert!(pace.calls().is_none());
        pace.started(9);
        pace.started(3);
        assert_eq!(pace.beginning().to_string(), "read in 1 us, compiled in 2 us, begun in 9 us");
        for us in [50, 7, 80] {
            pace.called(us);
        }
        assert_eq!(pace.calls().map(|text| text.to_string()).as_deref(), Some("3 calls, of 7 to 80 us each"));
    }
}
