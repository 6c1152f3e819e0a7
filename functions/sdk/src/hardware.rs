//! Pins and buses of a board, by the handles of its table. An output goes to its safe state when the function ends.

use crate::{Error, done, length, sys};

/// Whether a digital pin is high: an input as it is, an output as it was set. Needs `gpio`.
pub fn gpio_read(handle: u16) -> Result<bool, Error> {
    length(sys::gpio_read(handle)).map(|level| level > 0)
}

/// Sets a digital output. Needs `gpio`.
pub fn gpio_write(handle: u16, is_high: bool) -> Result<(), Error> {
    done(sys::gpio_write(handle, i32::from(is_high)))
}

/// An analogue input, of its whole range. Needs `adc`.
pub fn adc_read(handle: u16) -> Result<u16, Error> {
    let value = length(sys::adc_read(handle))?;
    u16::try_from(value).map_err(|_| Error::Invalid)
}

/// How much of the time an output is on: 0 never, `u16::MAX` always. Needs `pwm`.
pub fn pwm_set(handle: u16, duty: u16) -> Result<(), Error> {
    done(sys::pwm_set(handle, duty))
}

/// Writes `out` to the device with this address of seven bits, then fills `into` from it; what is empty is left out. At most 256
/// bytes each. Needs `i2c`.
pub fn i2c_write_read(handle: u16, address: u8, out: &[u8], into: &mut [u8]) -> Result<(), Error> {
    done(sys::i2c_write_read(handle, address, out, into))
}
