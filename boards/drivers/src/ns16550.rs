//! The UART NS16550A (data sheet of National Semiconductor) with registers of a byte, for the log: it sends, and waits while it is full.

use crate::registers::Registers;

const THR: usize = 0;
const DLL: usize = 0;
const DLM: usize = 1;
const IER: usize = 1;
const FCR: usize = 2;
const LCR: usize = 3;
const LSR: usize = 5;
/// Eight bits, no parity; then the same with the divider in the place of data.
const LCR_8N1: u8 = 0b11;
const LCR_DIVIDER: u8 = 1 << 7;
/// On, both queues empty.
const FCR_ON: u8 = 0b111;
const LSR_THR_EMPTY: u8 = 1 << 5;
const BAUD: u32 = 115_200;

pub struct Ns16550<R>(R);

impl<R: Registers<u8>> Ns16550<R> {
    /// Switches the sender on, without interrupts. `clock_hz` is the UART's own clock.
    pub fn start(registers: R, clock_hz: u32) -> Self {
        let [low, high, ..] = u16::try_from(clock_hz / (16 * BAUD)).unwrap_or(u16::MAX).max(1).to_le_bytes();
        registers.write(IER, 0);
        registers.write(LCR, LCR_DIVIDER | LCR_8N1);
        registers.write(DLL, low);
        registers.write(DLM, high);
        registers.write(LCR, LCR_8N1);
        registers.write(FCR, FCR_ON);
        Self(registers)
    }

    /// One that was started before: for sinks of the log, which keep nothing.
    pub const fn attach(registers: R) -> Self {
        Self(registers)
    }

    pub fn write(&self, bytes: &[u8]) {
        for byte in bytes {
            while self.0.read(LSR) & LSR_THR_EMPTY == 0 {}
            self.0.write(THR, *byte);
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
        divider: [u8; 2],
        lcr: u8,
        is_on: bool,
        full_for: u32,
        sent: Vec<u8>,
    }

    impl Device<u8> for Chip {
        fn read(&mut self, offset: usize) -> u8 {
            assert_eq!(offset, LSR);
            let is_full = self.full_for > 0;
            self.full_for = self.full_for.saturating_sub(1);
            if is_full { 0 } else { LSR_THR_EMPTY }
        }
        fn write(&mut self, offset: usize, value: u8) {
            match (offset, self.lcr & LCR_DIVIDER != 0) {
                (LCR, _) => self.lcr = value,
                (FCR, _) => self.is_on = value & 1 != 0,
                (0 | 1, true) => self.divider[offset] = value,
                (IER, false) => assert_eq!(value, 0, "nobody serves its interrupt"),
                (THR, false) => {
                    assert!(self.is_on && self.full_for == 0);
                    self.full_for = 2;
                    self.sent.push(value);
                }
                (other, _) => panic!("write of {other:#x}"),
            }
        }
    }

    #[test]
    fn every_byte_waits_until_the_one_before_has_gone() {
        let fake = Fake::new(Chip::default());
        Ns16550::start(fake.clone(), 3_686_400).write(b"hello");
        let chip = fake.0.borrow();
        assert_eq!(chip.sent, b"hello");
        assert_eq!((chip.divider, chip.lcr), ([2, 0], LCR_8N1));
    }

    #[test]
    fn a_clock_without_a_divider_gets_the_nearest() {
        for (clock_hz, divider) in [(1_000, 1u16), (u32::MAX, 2330)] {
            let fake = Fake::new(Chip::default());
            Ns16550::start(fake.clone(), clock_hz);
            assert_eq!(u16::from_le_bytes(fake.0.borrow().divider), divider);
        }
    }
}
