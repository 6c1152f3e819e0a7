//! NOR flash behind the Common Flash Interface (JEDEC JESD68) with Intel's command set, two chips of 16 bits side by side: reads as memory,
//! programs by the buffer, erases by the sector. It leaves the chips readable, and waits for them.
//!
//! A program only clears bits here, as on silicon; emulators that overwrite are given what silicon would hold.

use crate::registers::Registers;
use embedded_storage::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read,
    check_write,
};

/// What both chips erase at once.
pub const SECTOR_BYTES: usize = 256 * 1024;
/// What both chips program at once: thirty-two words of 16 bits each, which every chip of the family has.
const BUFFER_WORDS: usize = 32;
const BUFFER_BYTES: usize = BUFFER_WORDS * 4;

/// Each command goes to both chips.
const READ_ARRAY: u32 = both(0xff);
const CFI_QUERY: u32 = both(0x98);
const CLEAR_STATUS: u32 = both(0x50);
const ERASE: u32 = both(0x20);
const CONFIRM: u32 = both(0xd0);
const WRITE_BUFFER: u32 = both(0xe8);
const READY: u32 = both(0x80);
/// Erase failed, program failed, voltage too low, sector locked.
const FAILED: u32 = both(0x3a);
/// A status is read this often: data sheets say four seconds for a sector at most, and no bus is faster than half a microsecond.
const POLLS_MAX: u32 = 10_000_000;
/// Where the query answers, in words.
const QUERY_AT: usize = 0x55;
const QUERY_QRY: usize = 0x10;
const QUERY_SECTOR: usize = 0x2f;
/// The query counts sectors in so many bytes.
const QUERY_SECTOR_UNIT: usize = 256;

const fn both(byte: u32) -> u32 {
    byte << 16 | byte
}

/// Why there is no flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// Nothing answers the query.
    Missing,
    /// Sectors of both chips together have another length.
    Sector(usize),
}

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CfiError {
    Bounds(NorFlashErrorKind),
    /// The chips' status, of both.
    Status(u32),
    /// The chips never became ready.
    Stuck,
}

impl NorFlashError for CfiError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::Bounds(kind) => *kind,
            Self::Status(_) | Self::Stuck => NorFlashErrorKind::Other,
        }
    }
}

pub struct CfiFlash<R> {
    words: R,
    bytes: usize,
}

impl<R: Registers> CfiFlash<R> {
    /// `bytes` is a multiple of the sector.
    pub fn start(words: R, bytes: usize) -> Result<Self, StartError> {
        words.write(0, CLEAR_STATUS);
        words.write(QUERY_AT * 4, CFI_QUERY);
        // Both chips must say the same.
        let byte = |word: usize| -> Option<u8> {
            let read = words.read(word * 4);
            let low = read as u8;
            (read == both(u32::from(low))).then_some(low)
        };
        let name = [byte(QUERY_QRY), byte(QUERY_QRY + 1), byte(QUERY_QRY + 2)];
        let sector = byte(QUERY_SECTOR).zip(byte(QUERY_SECTOR + 1)).map(|(low, high)| u16::from_le_bytes([low, high]));
        words.write(0, READ_ARRAY);
        if name != [Some(b'Q'), Some(b'R'), Some(b'Y')] {
            return Err(StartError::Missing);
        }
        match sector.map_or(0, |sector| usize::from(sector) * QUERY_SECTOR_UNIT * 2) {
            SECTOR_BYTES => Ok(Self { words, bytes }),
            other => Err(StartError::Sector(other)),
        }
    }

    /// Waits until both chips are ready, and answers what they say of the operation. They stay in the state in which they were.
    fn wait(&self, at: usize) -> Result<(), CfiError> {
        for _ in 0..POLLS_MAX {
            let status = self.words.read(at);
            if status & READY == READY {
                return if status & FAILED == 0 { Ok(()) } else { Err(CfiError::Status(status)) };
            }
        }
        Err(CfiError::Stuck)
    }

    /// After an operation, however it went: readable again, with nothing to tell.
    fn end<T>(&self, result: Result<T, CfiError>) -> Result<T, CfiError> {
        if result.is_err() {
            self.words.write(0, CLEAR_STATUS);
        }
        self.words.write(0, READ_ARRAY);
        result
    }

    fn erase_sector(&self, at: usize) -> Result<(), CfiError> {
        self.words.write(at, ERASE);
        self.words.write(at, CONFIRM);
        self.wait(at)
    }

    /// Programs a part of a buffer's range: whole words, which do not cross it.
    fn program(&self, at: usize, bytes: &[u8]) -> Result<(), CfiError> {
        let mut words = [0; BUFFER_WORDS];
        let mut count = 0;
        let mut is_changed = false;
        for (place, chunk) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            let old = self.words.read(at + count * 4);
            let mut new = [0; 4];
            new.copy_from_slice(chunk);
            *place = old & u32::from_le_bytes(new);
            is_changed |= *place != old;
            count += 1;
        }
        // What is there already need not be programmed, and blank flash is what all ones leave.
        if !is_changed {
            return Ok(());
        }
        self.words.write(at, WRITE_BUFFER);
        let result = self.wait(at).and_then(|()| {
            self.words.write(at, both(count as u32 - 1));
            for (index, word) in words.iter().take(count).enumerate() {
                self.words.write(at + index * 4, *word);
            }
            self.words.write(at, CONFIRM);
            self.wait(at)
        });
        self.end(result)
    }
}

impl<R> ErrorType for CfiFlash<R> {
    type Error = CfiError;
}

impl<R: Registers> ReadNorFlash for CfiFlash<R> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), CfiError> {
        check_read(self, offset, bytes.len()).map_err(CfiError::Bounds)?;
        super::read_words(&self.words, offset as usize, bytes);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes
    }
}

impl<R: Registers> NorFlash for CfiFlash<R> {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = SECTOR_BYTES;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), CfiError> {
        check_erase(self, from, to).map_err(CfiError::Bounds)?;
        let result = (from as usize..to as usize).step_by(SECTOR_BYTES).try_for_each(|at| self.erase_sector(at));
        self.end(result)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), CfiError> {
        check_write(self, offset, bytes.len()).map_err(CfiError::Bounds)?;
        let mut at = offset as usize;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at((BUFFER_BYTES - at % BUFFER_BYTES).min(rest.len()));
            self.program(at, now)?;
            at += now.len();
            rest = later;
        }
        Ok(())
    }
}

impl<R: Registers> MultiwriteNorFlash for CfiFlash<R> {}

#[cfg(test)]
#[path = "cfi/tests.rs"]
mod tests;
