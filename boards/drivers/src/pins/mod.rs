//! Pins and buses of chips, under the traits of `embedded-hal`. Each is made for the length of one use: registers keep what was
//! set, drivers keep nothing.

pub mod emulated;
pub mod fpgaio;
pub mod sbcon;

use core::convert::Infallible;
use embedded_hal::digital::{self, InputPin, OutputPin, StatefulOutputPin};
use embedded_hal::i2c::{self, I2c, Operation};
use embedded_hal::pwm::{self, SetDutyCycle};

/// An analogue input, for which `embedded-hal` has no trait.
pub trait AnalogInput {
    type Error: core::fmt::Debug;

    /// From 0 to `u16::MAX`: the whole range of the input.
    fn read(&mut self) -> Result<u16, Self::Error>;
}

/// In place of a kind of pin that a chip does not have: there is none of it.
#[derive(Debug)]
pub enum NoPin {}

impl digital::ErrorType for NoPin {
    type Error = Infallible;
}

impl InputPin for NoPin {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        match *self {}
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        match *self {}
    }
}

impl OutputPin for NoPin {
    fn set_low(&mut self) -> Result<(), Infallible> {
        match *self {}
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        match *self {}
    }
}

impl StatefulOutputPin for NoPin {
    fn is_set_high(&mut self) -> Result<bool, Infallible> {
        match *self {}
    }

    fn is_set_low(&mut self) -> Result<bool, Infallible> {
        match *self {}
    }
}

impl AnalogInput for NoPin {
    type Error = Infallible;

    fn read(&mut self) -> Result<u16, Infallible> {
        match *self {}
    }
}

impl pwm::ErrorType for NoPin {
    type Error = Infallible;
}

impl SetDutyCycle for NoPin {
    fn max_duty_cycle(&self) -> u16 {
        match *self {}
    }

    fn set_duty_cycle(&mut self, _: u16) -> Result<(), Infallible> {
        match *self {}
    }
}

impl i2c::ErrorType for NoPin {
    type Error = Infallible;
}

impl I2c for NoPin {
    fn transaction(&mut self, _: u8, _: &mut [Operation<'_>]) -> Result<(), Infallible> {
        match *self {}
    }
}
