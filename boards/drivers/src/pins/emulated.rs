//! Pins that nobody soldered: words in a memory, which whoever runs an emulated board reads and writes from outside. This plays
//! what an emulator has no model of; on silicon nothing of it is used.
//!
//! | word | |
//! |---|---|
//! | 0 | levels of the inputs, one bit each |
//! | 16 to 23 | values of the analogue inputs, 0 to 65535 |
//! | 32 to 39 | duties of the outputs that are on for a part of the time, 0 to 65535 |

use super::AnalogInput;
use crate::registers::Registers;
use core::convert::Infallible;
use embedded_hal::digital::{self, InputPin};
use embedded_hal::pwm::{self, SetDutyCycle};

const LEVELS: usize = 0;
const ANALOG: usize = 16 * 4;
const DUTIES: usize = 32 * 4;
pub const INPUTS: u8 = 32;
pub const ANALOG_INPUTS: u8 = 8;
pub const DUTY_OUTPUTS: u8 = 8;
/// All that it takes of the memory.
pub const BYTES: usize = 40 * 4;

/// A digital input.
#[derive(Debug)]
pub struct Level<R> {
    words: R,
    mask: u32,
}

impl<R: Registers> Level<R> {
    /// `None`: there is no such line.
    pub fn new(words: R, line: u8) -> Option<Self> {
        (line < INPUTS).then(|| Self { words, mask: 1 << line })
    }
}

impl<R> digital::ErrorType for Level<R> {
    type Error = Infallible;
}

impl<R: Registers> InputPin for Level<R> {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        Ok(self.words.read(LEVELS) & self.mask != 0)
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        self.is_high().map(|is_high| !is_high)
    }
}

/// An analogue input.
#[derive(Debug)]
pub struct Analog<R> {
    words: R,
    at: usize,
}

impl<R: Registers> Analog<R> {
    /// `None`: there is no such line.
    pub fn new(words: R, line: u8) -> Option<Self> {
        (line < ANALOG_INPUTS).then(|| Self { words, at: ANALOG + usize::from(line) * 4 })
    }
}

impl<R: Registers> AnalogInput for Analog<R> {
    type Error = Infallible;

    fn read(&mut self) -> Result<u16, Infallible> {
        // A memory that nobody wrote is above the range: that is its end.
        Ok(u16::try_from(self.words.read(self.at)).unwrap_or(u16::MAX))
    }
}

/// An output with a duty.
#[derive(Debug)]
pub struct Duty<R> {
    words: R,
    at: usize,
}

impl<R: Registers> Duty<R> {
    /// `None`: there is no such line.
    pub fn new(words: R, line: u8) -> Option<Self> {
        (line < DUTY_OUTPUTS).then(|| Self { words, at: DUTIES + usize::from(line) * 4 })
    }
}

impl<R> pwm::ErrorType for Duty<R> {
    type Error = Infallible;
}

impl<R: Registers> SetDutyCycle for Duty<R> {
    fn max_duty_cycle(&self) -> u16 {
        u16::MAX
    }

    fn set_duty_cycle(&mut self, duty: u16) -> Result<(), Infallible> {
        self.words.write(self.at, u32::from(duty));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::fake::{Device, Fake};

    struct Memory([u32; BYTES / 4]);

    impl Device for Memory {
        fn read(&mut self, offset: usize) -> u32 {
            self.0[offset / 4]
        }
        fn write(&mut self, offset: usize, value: u32) {
            self.0[offset / 4] = value;
        }
    }

    #[test]
    fn each_line_is_its_own_bit_or_word() {
        let fake = Fake::new(Memory([0; BYTES / 4]));
        fake.0.borrow_mut().0[0] = 1 << 31 | 1 << 3;
        let level = |line| Level::new(fake.clone(), line).expect("a line").is_high();
        assert_eq!([level(3), level(4), level(31)], [Ok(true), Ok(false), Ok(true)]);
        fake.0.borrow_mut().0[23] = 1234;
        fake.0.borrow_mut().0[22] = u32::MAX;
        let analog = |line| Analog::new(fake.clone(), line).expect("a line").read();
        assert_eq!([analog(7), analog(6), analog(0)], [Ok(1234), Ok(u16::MAX), Ok(0)]);
        let mut duty = Duty::new(fake.clone(), 7).expect("a line");
        duty.set_duty_cycle_fraction(1, 2).expect("set");
        assert_eq!(fake.0.borrow().0[39], 32_767);
    }

    #[test]
    fn a_line_that_is_not_there_is_none() {
        let fake = Fake::new(Memory([0; BYTES / 4]));
        assert!(Level::new(fake.clone(), INPUTS).is_none());
        assert!(Analog::new(fake.clone(), ANALOG_INPUTS).is_none());
        assert!(Duty::new(fake, DUTY_OUTPUTS).is_none());
    }
}
