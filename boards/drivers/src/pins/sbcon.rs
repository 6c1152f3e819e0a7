//! I2C over ARM's two-wire controller (SBCon; ARM DDI0271, serial bus interface): two open drains that software moves. A bit of SET
//! lets go of a line, a bit of CLEAR pulls it low; reading gives what the lines are.
//!
//! Must never hold a line after a transaction, however it ended.

use crate::registers::Registers;
use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation};

const SET: usize = 0x0;
const CLEAR: usize = 0x4;
const CLOCK: u32 = 1;
const DATA: u32 = 2;

/// One bus. `pause` takes a quarter of a bit: 2.5 us at 100 kHz.
pub struct Sbcon<R> {
    registers: R,
    pause: fn(),
}

impl<R: Registers> Sbcon<R> {
    pub const fn new(registers: R, pause: fn()) -> Self {
        Self { registers, pause }
    }

    fn release(&self, line: u32) {
        self.registers.write(SET, line);
        (self.pause)();
    }

    fn pull(&self, line: u32) {
        self.registers.write(CLEAR, line);
        (self.pause)();
    }

    /// Also a repeated one: data falls while the clock is high.
    fn start(&self) {
        self.release(DATA);
        self.release(CLOCK);
        self.pull(DATA);
        self.pull(CLOCK);
    }

    /// Data rises while the clock is high.
    fn stop(&self) {
        self.pull(DATA);
        self.release(CLOCK);
        self.release(DATA);
    }

    /// One clock with data as it is wanted; what the line was.
    fn bit(&self, is_high: bool) -> bool {
        if is_high {
            self.release(DATA)
        } else {
            self.pull(DATA)
        }
        self.release(CLOCK);
        let read = self.registers.read(SET) & DATA != 0;
        self.pull(CLOCK);
        read
    }

    /// The most significant bit first. Whether somebody acknowledged.
    fn send(&self, byte: u8) -> bool {
        for at in (0..8).rev() {
            self.bit(byte >> at & 1 != 0);
        }
        !self.bit(true)
    }

    fn receive(&self, is_last: bool) -> u8 {
        let byte = (0..8).fold(0, |byte, _| byte << 1 | u8::from(self.bit(true)));
        self.bit(is_last);
        byte
    }

    fn address(&self, address: u8, is_read: bool) -> Result<(), ErrorKind> {
        self.start();
        let is_there = self.send(address << 1 | u8::from(is_read));
        if is_there { Ok(()) } else { Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address)) }
    }

    fn carry_out(&self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
        let mut direction = None;
        let count = operations.len();
        for at in 0..count {
            // What is read on without a new start is acknowledged, all but the last byte.
            let goes_on = matches!(operations.get(at + 1), Some(Operation::Read(_)));
            let Some(operation) = operations.get_mut(at) else { break };
            let is_read = matches!(operation, Operation::Read(_));
            if direction.replace(is_read) != Some(is_read) {
                self.address(address, is_read)?;
            }
            match operation {
                Operation::Write(bytes) => {
                    for byte in bytes.iter() {
                        if !self.send(*byte) {
                            return Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Data));
                        }
                    }
                }
                Operation::Read(bytes) => {
                    let last = bytes.len().saturating_sub(1);
                    for (at, byte) in bytes.iter_mut().enumerate() {
                        *byte = self.receive(at == last && !goes_on);
                    }
                }
            }
        }
        Ok(())
    }
}

impl<R> ErrorType for Sbcon<R> {
    type Error = ErrorKind;
}

impl<R: Registers> I2c for Sbcon<R> {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
        let result = self.carry_out(address, operations);
        self.stop();
        result
    }
}

#[cfg(test)]
mod tests;
