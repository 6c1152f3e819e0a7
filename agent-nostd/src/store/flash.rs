//! Flash as the store sees it: partitions of one device, and memory that behaves like one.
//!
//! Nothing here may hide that a flash failed.
use super::limits::WRITE_SIZE_MAX;
use core::cell::RefCell;
use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

/// A range of a flash that several users share in turn, as a flash of its own.
#[derive(Debug)]
pub struct Partition<'a, F> {
    flash: &'a RefCell<F>,
    start: u32,
    bytes: u32,
}

impl<'a, F: NorFlash> Partition<'a, F> {
    /// `None` if the range does not lie on sectors of the flash.
    pub fn new(flash: &'a RefCell<F>, start: u32, bytes: u32) -> Option<Self> {
        let erase = u32::try_from(F::ERASE_SIZE).ok()?;
        let end = start.checked_add(bytes)?;
        let capacity = flash.try_borrow().ok()?.capacity();
        let fits = start.is_multiple_of(erase) && bytes.is_multiple_of(erase) && usize::try_from(end).ok()? <= capacity;
        fits.then_some(Self { flash, start, bytes })
    }
}

/// An operation on a partition failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionError<E> {
    /// Outside of it, or not aligned.
    Bounds(NorFlashErrorKind),
    /// Another partition's operation is going on.
    Busy,
    Flash(E),
}

impl<E: NorFlashError> NorFlashError for PartitionError<E> {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::Bounds(kind) => *kind,
            Self::Busy => NorFlashErrorKind::Other,
            Self::Flash(error) => error.kind(),
        }
    }
}

impl<F: NorFlash> ErrorType for Partition<'_, F> {
    type Error = PartitionError<F::Error>;
}

impl<F: NorFlash> ReadNorFlash for Partition<'_, F> {
    const READ_SIZE: usize = F::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        check_read(self, offset, bytes.len()).map_err(PartitionError::Bounds)?;
        let mut flash = self.flash.try_borrow_mut().map_err(|_| PartitionError::Busy)?;
        flash.read(self.start + offset, bytes).map_err(PartitionError::Flash)
    }

    fn capacity(&self) -> usize {
        self.bytes as usize
    }
}

impl<F: NorFlash> NorFlash for Partition<'_, F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        check_erase(self, from, to).map_err(PartitionError::Bounds)?;
        let mut flash = self.flash.try_borrow_mut().map_err(|_| PartitionError::Busy)?;
        flash.erase(self.start + from, self.start + to).map_err(PartitionError::Flash)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        check_write(self, offset, bytes.len()).map_err(PartitionError::Bounds)?;
        let mut flash = self.flash.try_borrow_mut().map_err(|_| PartitionError::Busy)?;
        flash.write(self.start + offset, bytes).map_err(PartitionError::Flash)
    }
}

/// Memory that behaves like a flash: for hosts, and for boards whose memory keeps its contents.
#[derive(Clone, Debug)]
pub struct RamFlash<const BYTES: usize, const WRITE: usize, const ERASE: usize>(pub [u8; BYTES]);

impl<const BYTES: usize, const WRITE: usize, const ERASE: usize> Default for RamFlash<BYTES, WRITE, ERASE> {
    fn default() -> Self {
        Self([0xff; BYTES])
    }
}

impl<const BYTES: usize, const WRITE: usize, const ERASE: usize> ErrorType for RamFlash<BYTES, WRITE, ERASE> {
    type Error = NorFlashErrorKind;
}

impl<const BYTES: usize, const WRITE: usize, const ERASE: usize> ReadNorFlash for RamFlash<BYTES, WRITE, ERASE> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        check_read(self, offset, bytes.len())?;
        let start = offset as usize;
        bytes.copy_from_slice(&self.0[start..start + bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        BYTES
    }
}

impl<const BYTES: usize, const WRITE: usize, const ERASE: usize> NorFlash for RamFlash<BYTES, WRITE, ERASE> {
    const WRITE_SIZE: usize = WRITE;
    const ERASE_SIZE: usize = ERASE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        check_erase(self, from, to)?;
        self.0[from as usize..to as usize].fill(0xff);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        check_write(self, offset, bytes.len())?;
        for (at, byte) in self.0[offset as usize..].iter_mut().zip(bytes) {
            *at &= byte;
        }
        Ok(())
    }
}

/// Whether this store can work on such a flash: powers of two, and units that fit its buffers.
pub(crate) fn is_usable<F: NorFlash>() -> bool {
    F::WRITE_SIZE.is_power_of_two()
        && F::WRITE_SIZE <= WRITE_SIZE_MAX
        && F::READ_SIZE <= F::WRITE_SIZE
        && F::WRITE_SIZE.is_multiple_of(F::READ_SIZE.max(1))
        && F::ERASE_SIZE.is_multiple_of(WRITE_SIZE_MAX)
        && F::ERASE_SIZE > 0
        && u32::try_from(F::ERASE_SIZE).is_ok()
}
