//! The flash as boot code sees it: every operation is a sign of life, and what a write left is believed rather than what it answered.
//!
//! A cut leaves units that may look blank and take nothing, or hold what was to be written and say that it failed. What reads back
//! right is right: the loader's marks are then never written in vain, and a swap always goes on.

use drivers::watchdog::Watchdog;
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};

/// Compared at once.
const COMPARED_BYTES: usize = 64;

/// A flash whose writes count when they can be read.
#[derive(Debug)]
pub struct Sure<F>(pub F);

impl<F: ReadNorFlash> Sure<F> {
    fn has(&mut self, offset: u32, bytes: &[u8]) -> Result<bool, F::Error> {
        let mut at = offset;
        for expected in bytes.chunks(COMPARED_BYTES) {
            let mut there = [0; COMPARED_BYTES];
            let there = &mut there[..expected.len()];
            self.0.read(at, there)?;
            if there != expected {
                return Ok(false);
            }
            at += expected.len() as u32;
        }
        Ok(true)
    }
}

impl<F: ErrorType> ErrorType for Sure<F> {
    type Error = F::Error;
}

impl<F: ReadNorFlash> ReadNorFlash for Sure<F> {
    const READ_SIZE: usize = F::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.0.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<F: NorFlash> NorFlash for Sure<F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        self.0.erase(from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        // The loader writes some marks again that a cut let through; units with check bits take nothing twice.
        if self.has(offset, bytes)? {
            return Ok(());
        }
        let Err(error) = self.0.write(offset, bytes) else { return Ok(()) };
        if self.has(offset, bytes)? { Ok(()) } else { Err(error) }
    }
}

/// A flash that feeds the watchdog with each operation: a swap takes longer than a watchdog waits.
#[derive(Debug)]
pub struct Fed<F, W> {
    pub flash: F,
    pub watchdog: W,
}

impl<F: ErrorType, W> ErrorType for Fed<F, W> {
    type Error = F::Error;
}

impl<F: ReadNorFlash, W: Watchdog> ReadNorFlash for Fed<F, W> {
    const READ_SIZE: usize = F::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.watchdog.feed();
        self.flash.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.flash.capacity()
    }
}

impl<F: NorFlash, W: Watchdog> NorFlash for Fed<F, W> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        // Sector by sector: the erasure of a whole partition may take longer than a watchdog waits, too.
        for at in (from..to).step_by(F::ERASE_SIZE) {
            self.watchdog.feed();
            self.flash.erase(at, to.min(at + F::ERASE_SIZE as u32))?;
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        self.watchdog.feed();
        self.flash.write(offset, bytes)
    }
}
