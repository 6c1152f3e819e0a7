//! The timer of RISC-V's core-local interruptor (SiFive's CLINT, ACLINT specification, chapter 2): a counter of 64 bits, and a time at which
//! it interrupts the first processor.

use crate::registers::Registers;

const MTIMECMP_LOW: usize = 0x4000;
const MTIMECMP_HIGH: usize = 0x4004;
const MTIME_LOW: usize = 0xbff8;
const MTIME_HIGH: usize = 0xbffc;

/// Where the counter stands.
pub fn count(registers: &impl Registers) -> u64 {
    loop {
        let high = registers.read(MTIME_HIGH);
        let low = registers.read(MTIME_LOW);
        // Else the low half has passed zero between both reads.
        if registers.read(MTIME_HIGH) == high {
            return join(high, low);
        }
    }
}

/// Interrupts from `at` on, until a later time is set.
pub fn interrupt_at(registers: &impl Registers, at: u64) {
    // The time is never earlier than the old or the new one while it is half written.
    registers.write(MTIMECMP_LOW, u32::MAX);
    registers.write(MTIMECMP_HIGH, (at >> 32) as u32);
    registers.write(MTIMECMP_LOW, at as u32);
}

const fn join(high: u32, low: u32) -> u64 {
    ((high as u64) << 32) | low as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::fake::{Device, Fake};

    #[derive(Default)]
    struct Timer {
        mtime: u64,
        /// Passes at each read of the counter.
        step: u64,
        mtimecmp: u64,
        has_interrupted: bool,
    }

    impl Device for Timer {
        fn read(&mut self, offset: usize) -> u32 {
            self.mtime += self.step;
            match offset {
                MTIME_LOW => self.mtime as u32,
                MTIME_HIGH => (self.mtime >> 32) as u32,
                other => panic!("read of {other:#x}"),
            }
        }
        fn write(&mut self, offset: usize, value: u32) {
            match offset {
                MTIMECMP_LOW => self.mtimecmp = join((self.mtimecmp >> 32) as u32, value),
                MTIMECMP_HIGH => self.mtimecmp = join(value, self.mtimecmp as u32),
                other => panic!("write of {other:#x}"),
            }
            self.has_interrupted |= self.mtime >= self.mtimecmp;
        }
    }

    #[test]
    fn a_counter_that_passes_a_round_between_both_reads_is_read_again() {
        let fake = Fake::new(Timer { mtime: 0x1_ffff_fffe, step: 1, ..Timer::default() });
        let read = count(&fake);
        assert!((0x2_0000_0000..0x2_0000_0010).contains(&read), "{read:#x}");
    }

    #[test]
    fn setting_a_time_interrupts_at_that_time_only() {
        for (old, new) in [(0x1_ffff_ffff, 0x2_0000_0001), (0x3_0000_0000, 0x2_0000_0000), (u64::MAX, 0x1_9000_0000)] {
            let fake = Fake::new(Timer { mtime: 0x1_8000_0000, mtimecmp: old, ..Timer::default() });
            interrupt_at(&fake, new);
            assert_eq!((fake.0.borrow().mtimecmp, fake.0.borrow().has_interrupted), (new, false), "{old:#x}");
        }
        let fake = Fake::new(Timer { mtime: 5, mtimecmp: u64::MAX, ..Timer::default() });
        interrupt_at(&fake, 5);
        assert!(fake.0.borrow().has_interrupted);
    }
}
