//! ARM's PL011 (TRM chapter 3), as on Stellaris parts.

use super::BAUD;
use crate::registers::Registers;

const DATA: usize = 0x00;
const FLAGS: usize = 0x18;
const DIVIDER: usize = 0x24;
const DIVIDER_FRACTION: usize = 0x28;
const LINE: usize = 0x2c;
const CONTROL: usize = 0x30;
const FLAG_FULL: u32 = 1 << 5;
/// Eight bits, and a queue.
const LINE_8_BITS: u32 = (3 << 5) | (1 << 4);
/// Sender, and the whole.
const CONTROL_ON: u32 = (1 << 8) | 1;
/// The divider has 16 bits and 6 of a fraction.
const DIVIDER_MIN: u32 = 1 << 6;
const DIVIDER_MAX: u32 = (1 << 22) - 1;

pub struct Pl011<R>(R);

impl<R: Registers> Pl011<R> {
    /// Switches the sender on. Its clock, of `clock_hz`, runs already.
    pub fn start(registers: R, clock_hz: u32) -> Self {
        // In parts of 64: a sixteenth of the clock over the rate, rounded.
        let divider = (clock_hz / BAUD * 8 + clock_hz % BAUD * 8 / BAUD).div_ceil(2).clamp(DIVIDER_MIN, DIVIDER_MAX);
        registers.write(CONTROL, 0);
        registers.write(DIVIDER, divider >> 6);
        registers.write(DIVIDER_FRACTION, divider & 0x3f);
        // The divider is taken when the line is set.
        registers.write(LINE, LINE_8_BITS);
        registers.write(CONTROL, CONTROL_ON);
        Self(registers)
    }

    /// One that was started before: for sinks of the log, which keep nothing.
    pub const fn attach(registers: R) -> Self {
        Self(registers)
    }

    pub fn write(&self, bytes: &[u8]) {
        for byte in bytes {
            while self.0.read(FLAGS) & FLAG_FULL != 0 {}
            self.0.write(DATA, u32::from(*byte));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::fake::{Device, Fake};
    use std::vec::Vec;

    #[derive(Default)]
    struct Chip {
        written: [u32; 2],
        taken: [u32; 2],
        on: bool,
        full_for: u32,
        sent: Vec<u8>,
    }

    impl Device for Chip {
        fn read(&mut self, offset: usize) -> u32 {
            assert_eq!(offset, FLAGS);
            let is_full = self.full_for > 0;
            self.full_for = self.full_for.saturating_sub(1);
            if is_full { FLAG_FULL } else { 0 }
        }
        fn write(&mut self, offset: usize, value: u32) {
            match offset {
                CONTROL => self.on = value == CONTROL_ON,
                DATA => {
                    assert!(self.on && self.full_for == 0);
                    self.full_for = 2;
                    self.sent.push(value as u8);
                }
                _ if self.on => panic!("{offset:#x} is written while it sends"),
                DIVIDER => self.written[0] = value,
                DIVIDER_FRACTION => self.written[1] = value,
                LINE => {
                    assert_eq!(value, LINE_8_BITS);
                    self.taken = self.written;
                }
                other => panic!("write of {other:#x}"),
            }
        }
    }

    fn divider(clock_hz: u32) -> [u32; 2] {
        let fake = Fake::new(Chip::default());
        Pl011::start(fake.clone(), clock_hz);
        fake.0.borrow().taken
    }

    #[test]
    fn every_byte_waits_until_there_is_room() {
        let fake = Fake::new(Chip { on: true, ..Chip::default() });
        Pl011::start(fake.clone(), 12_500_000).write(b"hello");
        assert_eq!(fake.0.borrow().sent, b"hello");
    }

    #[test]
    fn the_rate_is_as_the_manual_computes_it() {
        // 12.5 MHz / (16 * 115200) = 6.78, and .78 of 64 is 50.
        assert_eq!(divider(12_500_000), [6, 50]);
        assert_eq!(divider(50_000_000), [27, 8]);
        assert_eq!(divider(1_000), [1, 0], "the least divider");
        assert_eq!(divider(u32::MAX), [2330, 11]);
    }
}
