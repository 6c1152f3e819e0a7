//! NOR flash of boards: what each kind does, and named parts of it. Only the partitions of `board.toml` are ever touched.

pub mod cfi;
pub mod file;
pub mod psram;
pub mod window;

use crate::registers::Registers;
use core::ops::Range;
use embedded_storage::nor_flash::{ErrorType, MultiwriteNorFlash, NorFlash, ReadNorFlash};
use embedded_storage_async::nor_flash as asynchronous;

/// A named part of the board's flash, from `board.toml`. Offsets count from the start of the flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    pub name: &'static str,
    pub offset: u32,
    pub bytes: u32,
}

impl Partition {
    pub const fn range(&self) -> Range<u32> {
        self.offset..self.offset + self.bytes
    }

    /// The one of that name.
    pub fn named(table: &[Partition], name: &str) -> Option<Partition> {
        table.iter().find(|partition| partition.name == name).copied()
    }
}

/// Reads flash that is memory of whole words, from any byte on.
fn read_words(words: &impl Registers, offset: usize, bytes: &mut [u8]) {
    let mut at = offset;
    let mut rest = bytes;
    while !rest.is_empty() {
        let word = words.read(at & !3).to_le_bytes();
        let from = &word[at & 3..];
        let (now, later) = rest.split_at_mut(from.len().min(rest.len()));
        now.copy_from_slice(&from[..now.len()]);
        at += now.len();
        rest = later;
    }
}

/// A flash whose operations end before they return, under the interface for those that do not. A sector's erasure holds
/// everything up; how long is in `board.toml`.
pub struct Blocking<F>(pub F);

impl<F: ErrorType> ErrorType for Blocking<F> {
    type Error = F::Error;
}

impl<F: ReadNorFlash> asynchronous::ReadNorFlash for Blocking<F> {
    const READ_SIZE: usize = F::READ_SIZE;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.0.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<F: NorFlash> asynchronous::NorFlash for Blocking<F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        self.0.erase(from, to)
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0.write(offset, bytes)
    }
}

impl<F: MultiwriteNorFlash> asynchronous::MultiwriteNorFlash for Blocking<F> {}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: [Partition; 2] = [
        Partition { name: "config", offset: 0, bytes: 4096 },
        Partition { name: "journal", offset: 4096, bytes: 8192 },
    ];

    #[test]
    fn a_partition_is_found_by_its_name() {
        assert_eq!(Partition::named(&TABLE, "journal").map(|journal| journal.range()), Some(4096..12288));
        assert_eq!(Partition::named(&TABLE, "journa"), None);
    }
}
