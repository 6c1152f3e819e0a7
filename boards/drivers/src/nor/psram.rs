//! Memory that is used as NOR flash: an emulated board's PSRAM, which a file backs. Bits are only cleared by a write and only
//! set by the erasure of a sector, as on a real chip, so that code which forgets to erase fails here too.

use crate::registers::Registers;
use embedded_storage::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

/// The words of a memory as flash.
pub struct Psram<R> {
    words: R,
    bytes: usize,
}

impl<R: Registers> Psram<R> {
    /// `bytes` is a multiple of the sector.
    pub const fn new(words: R, bytes: usize) -> Self {
        Self { words, bytes }
    }
}

impl<R> ErrorType for Psram<R> {
    type Error = NorFlashErrorKind;
}

impl<R: Registers> ReadNorFlash for Psram<R> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        check_read(self, offset, bytes.len())?;
        super::read_words(&self.words, offset as usize, bytes);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes
    }
}

impl<R: Registers> NorFlash for Psram<R> {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        check_erase(self, from, to)?;
        for at in (from as usize..to as usize).step_by(4) {
            self.words.write(at, u32::MAX);
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        check_write(self, offset, bytes.len())?;
        for (index, chunk) in bytes.chunks_exact(4).enumerate() {
            let mut word = [0; 4];
            word.copy_from_slice(chunk);
            self.words.modify(offset as usize + index * 4, |old| old & u32::from_le_bytes(word));
        }
        Ok(())
    }
}

impl<R: Registers> MultiwriteNorFlash for Psram<R> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::fake::{Device, Fake};
    use std::vec::Vec;

    struct Memory(Vec<u32>);

    impl Device for Memory {
        fn read(&mut self, offset: usize) -> u32 {
            self.0[offset / 4]
        }
        fn write(&mut self, offset: usize, value: u32) {
            assert_eq!(offset % 4, 0);
            self.0[offset / 4] = value;
        }
    }

    fn psram() -> Psram<Fake<Memory>> {
        Psram::new(Fake::new(Memory(std::vec![0; 2 * 1024])), 2 * 4096)
    }

    #[test]
    fn a_write_only_clears_bits_and_an_erasure_sets_them() {
        let mut flash = psram();
        flash.erase(0, 8192).expect("both sectors");
        flash.write(8, &[0xf0, 0xff, 0x12, 0x00]).expect("aligned");
        flash.write(8, &[0x3c, 0x0f, 0xff, 0xff]).expect("a second time");
        let mut read = [0; 8];
        flash.read(6, &mut read).expect("at any byte");
        assert_eq!(read, [0xff, 0xff, 0x30, 0x0f, 0x12, 0x00, 0xff, 0xff]);
        flash.erase(0, 4096).expect("a sector");
        flash.read(6, &mut read).expect("at any byte");
        assert_eq!(read, [0xff; 8]);
    }

    #[test]
    fn an_erasure_leaves_the_next_sector_alone() {
        let mut flash = psram();
        flash.erase(0, 8192).expect("both sectors");
        flash.write(4096, &[1, 2, 3, 4]).expect("aligned");
        flash.erase(0, 4096).expect("the first");
        let mut read = [0; 4];
        flash.read(4096, &mut read).expect("in range");
        assert_eq!(read, [1, 2, 3, 4]);
    }

    #[test]
    fn what_is_unaligned_or_outside_is_refused() {
        let mut flash = psram();
        assert_eq!(flash.write(2, &[0; 4]), Err(NorFlashErrorKind::NotAligned));
        assert_eq!(flash.write(0, &[0; 3]), Err(NorFlashErrorKind::NotAligned));
        assert_eq!(flash.write(8192, &[0; 4]), Err(NorFlashErrorKind::OutOfBounds));
        assert_eq!(flash.erase(4, 4096), Err(NorFlashErrorKind::NotAligned));
        assert_eq!(flash.erase(0, 12288), Err(NorFlashErrorKind::OutOfBounds));
        assert_eq!(flash.read(8190, &mut [0; 3]), Err(NorFlashErrorKind::OutOfBounds));
    }
}
