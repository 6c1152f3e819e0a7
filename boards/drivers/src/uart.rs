//! The UART of ARM's CMSDK (Cortex-M System Design Kit, TRM section 4.3), for the log: it sends, and waits while it is full.

mod pl011;
mod port;

use crate::registers::Registers;
pub use pl011::Pl011;
pub use port::{CmsdkPort, PortMemory, PortReader, PortWriter};

const DATA: usize = 0x00;
const STATE: usize = 0x04;
const CTRL: usize = 0x08;
const BAUDDIV: usize = 0x10;
const STATE_TX_FULL: u32 = 1;
const CTRL_TX_ON: u32 = 1;
const BAUD: u32 = 115_200;
/// The least divider that the device takes.
const BAUDDIV_MIN: u32 = 16;

pub struct CmsdkUart<R>(R);

impl<R: Registers> CmsdkUart<R> {
    /// Switches the sender on.
    pub fn start(registers: R, clock_hz: u32) -> Self {
        registers.write(BAUDDIV, (clock_hz / BAUD).max(BAUDDIV_MIN));
        registers.write(CTRL, CTRL_TX_ON);
        Self(registers)
    }

    /// One that was started before: for sinks of the log, which keep nothing.
    pub const fn attach(registers: R) -> Self {
        Self(registers)
    }

    pub fn write(&self, bytes: &[u8]) {
        for byte in bytes {
            while self.0.read(STATE) & STATE_TX_FULL != 0 {}
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
        divider: u32,
        on: bool,
        full_for: u32,
        sent: Vec<u8>,
    }

    impl Device for Chip {
        fn read(&mut self, offset: usize) -> u32 {
            assert_eq!(offset, STATE);
            let is_full = self.full_for > 0;
            self.full_for = self.full_for.saturating_sub(1);
            u32::from(is_full)
        }
        fn write(&mut self, offset: usize, value: u32) {
            match offset {
                BAUDDIV => self.divider = value,
                CTRL => self.on = value == CTRL_TX_ON,
                DATA => {
                    assert!(self.on && self.full_for == 0);
                    self.full_for = 2;
                    self.sent.push(value as u8);
                }
                other => panic!("write of {other:#x}"),
            }
        }
    }

    #[test]
    fn every_byte_waits_until_the_one_before_has_gone() {
        let fake = Fake::new(Chip::default());
        CmsdkUart::start(fake.clone(), 25_000_000).write(b"hello");
        assert_eq!(fake.0.borrow().sent, b"hello");
        assert_eq!(fake.0.borrow().divider, 217);
    }

    #[test]
    fn a_slow_clock_gets_the_least_divider() {
        let fake = Fake::new(Chip::default());
        CmsdkUart::start(fake.clone(), 1_000_000);
        assert_eq!(fake.0.borrow().divider, BAUDDIV_MIN);
    }
}
