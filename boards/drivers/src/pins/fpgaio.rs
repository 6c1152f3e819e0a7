//! The user LEDs of ARM's MPS2 boards: two bits of the FPGA's system registers (ARM DAI0386, FPGAIO), 1 is on.

use crate::registers::Registers;
use core::convert::Infallible;
use embedded_hal::digital::{ErrorType, OutputPin, StatefulOutputPin};

const LED: usize = 0x000;
/// LEDs that there are.
pub const LINES: u8 = 2;

/// One of them.
#[derive(Debug)]
pub struct Led<R> {
    registers: R,
    mask: u32,
}

impl<R: Registers> Led<R> {
    /// `None`: there is no such line.
    pub fn new(registers: R, line: u8) -> Option<Self> {
        (line < LINES).then(|| Self { registers, mask: 1 << line })
    }
}

impl<R> ErrorType for Led<R> {
    type Error = Infallible;
}

impl<R: Registers> OutputPin for Led<R> {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.registers.modify(LED, |all| all & !self.mask);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        self.registers.modify(LED, |all| all | self.mask);
        Ok(())
    }
}

impl<R: Registers> StatefulOutputPin for Led<R> {
    fn is_set_high(&mut self) -> Result<bool, Infallible> {
        Ok(self.registers.read(LED) & self.mask != 0)
    }

    fn is_set_low(&mut self) -> Result<bool, Infallible> {
        self.is_set_high().map(|is_high| !is_high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::fake::{Device, Fake};

    struct Leds(u32);

    impl Device for Leds {
        fn read(&mut self, offset: usize) -> u32 {
            assert_eq!(offset, LED);
            self.0
        }
        fn write(&mut self, offset: usize, value: u32) {
            assert_eq!(offset, LED);
            self.0 = value;
        }
    }

    #[test]
    fn each_led_is_its_own_bit() {
        let fake = Fake::new(Leds(0xff00));
        let mut one = Led::new(fake.clone(), 0).expect("a line");
        let mut two = Led::new(fake.clone(), 1).expect("a line");
        one.set_high().expect("set");
        two.set_high().expect("set");
        assert_eq!(fake.0.borrow().0, 0xff03);
        one.set_low().expect("set");
        assert_eq!(fake.0.borrow().0, 0xff02);
        assert_eq!((one.is_set_high(), two.is_set_high(), one.is_set_low()), (Ok(false), Ok(true), Ok(true)));
        assert!(Led::new(fake, LINES).is_none());
    }
}
