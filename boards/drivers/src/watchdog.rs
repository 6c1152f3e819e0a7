//! Watchdogs, and the one of ARM's CMSDK (TRM section 4.6), which Stellaris parts have too: it counts down, interrupts at zero, and
//! resets at the second zero. The interrupt, the processor's NMI or one like it, leaves the record. Once on, nothing in here
//! switches it off.

use crate::registers::Registers;

/// Resets the board unless it is fed in time.
pub trait Watchdog {
    /// All is well: count anew.
    fn feed(&mut self);
}

/// A board without a watchdog.
impl Watchdog for () {
    fn feed(&mut self) {}
}

/// Two that watch each other's blind spots.
impl<A: Watchdog, B: Watchdog> Watchdog for (A, B) {
    fn feed(&mut self) {
        self.0.feed();
        self.1.feed();
    }
}

const LOAD: usize = 0x000;
const CONTROL: usize = 0x008;
const INTCLR: usize = 0x00c;
const LOCK: usize = 0xc00;
/// Interrupt at zero, reset at the second zero.
const CONTROL_ON: u32 = 0b11;
/// Any other value locks the registers, so that wild writes do not switch the watchdog off.
const UNLOCK: u32 = 0x1acc_e551;

pub struct CmsdkWatchdog<R> {
    registers: R,
}

impl<R: Registers> CmsdkWatchdog<R> {
    /// From now on `feed` is due within `timeout_ms`. Times beyond the counter's are cut to it.
    pub fn start(registers: R, clock_hz: u32, timeout_ms: u32) -> Self {
        let ticks = u64::from(clock_hz) * u64::from(timeout_ms) / 1000;
        registers.write(LOCK, UNLOCK);
        registers.write(LOAD, u32::try_from(ticks).unwrap_or(u32::MAX).max(1));
        registers.write(CONTROL, CONTROL_ON);
        registers.write(LOCK, 0);
        Self { registers }
    }
}

impl<R: Registers> Watchdog for CmsdkWatchdog<R> {
    fn feed(&mut self) {
        self.registers.write(LOCK, UNLOCK);
        // Any write takes the interrupt back and loads the counter.
        self.registers.write(INTCLR, 1);
        self.registers.write(LOCK, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::fake::{Device, Fake};

    #[derive(Default)]
    struct Chip {
        unlocked: bool,
        load: u32,
        count: u32,
        control: u32,
        pending: bool,
        reset: bool,
    }

    impl Chip {
        fn pass(&mut self, ticks: u32) {
            if self.control & 1 == 0 {
                return;
            }
            if ticks < self.count {
                self.count -= ticks;
                return;
            }
            self.reset |= self.pending && self.control & 2 != 0;
            self.pending = true;
            self.count = self.load;
        }
    }

    impl Device for Chip {
        fn read(&mut self, offset: usize) -> u32 {
            panic!("read of {offset:#x}")
        }
        fn write(&mut self, offset: usize, value: u32) {
            if offset == LOCK {
                self.unlocked = value == UNLOCK;
                return;
            }
            assert!(self.unlocked, "a locked register was written");
            match offset {
                LOAD => (self.load, self.count) = (value, value),
                CONTROL => self.control = value,
                INTCLR => (self.pending, self.count) = (false, self.load),
                other => panic!("write of {other:#x}"),
            }
        }
    }

    #[test]
    fn a_fed_one_never_bites_and_a_hungry_one_resets() {
        let fake = Fake::new(Chip::default());
        let mut watchdog = CmsdkWatchdog::start(fake.clone(), 25_000_000, 2000);
        assert_eq!(fake.0.borrow().load, 50_000_000);
        for _ in 0..10 {
            fake.0.borrow_mut().pass(49_999_999);
            watchdog.feed();
        }
        assert!(!fake.0.borrow().pending);
        fake.0.borrow_mut().pass(50_000_000);
        assert!(fake.0.borrow().pending && !fake.0.borrow().reset);
        fake.0.borrow_mut().pass(50_000_000);
        assert!(fake.0.borrow().reset);
        assert!(!fake.0.borrow().unlocked);
    }

    #[test]
    fn a_time_beyond_the_counter_is_cut() {
        let fake = Fake::new(Chip::default());
        CmsdkWatchdog::start(fake.clone(), 25_000_000, u32::MAX);
        assert_eq!(fake.0.borrow().load, u32::MAX);
    }
}
