//! A part of a chip's flash, under offsets of its own: a program and what it keeps often share one chip, and nobody must reach the
//! program through the storage.

use embedded_storage::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read,
    check_write,
};

/// `bytes` of a flash from `start` on.
pub struct Window<F> {
    flash: F,
    start: u32,
    bytes: u32,
}

impl<F: ReadNorFlash> Window<F> {
    /// Cut to what the flash has.
    pub fn new(flash: F, start: u32, bytes: u32) -> Self {
        let all = u32::try_from(flash.capacity()).unwrap_or(u32::MAX);
        let start = start.min(all);
        Self { flash, start, bytes: bytes.min(all - start) }
    }
}

impl<F> ErrorType for Window<F> {
    type Error = NorFlashErrorKind;
}

impl<F: ReadNorFlash> ReadNorFlash for Window<F> {
    const READ_SIZE: usize = F::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        check_read(self, offset, bytes.len())?;
        self.flash.read(self.start + offset, bytes).map_err(|error| error.kind())
    }

    fn capacity(&self) -> usize {
        self.bytes as usize
    }
}

impl<F: NorFlash> NorFlash for Window<F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        check_erase(self, from, to)?;
        self.flash.erase(self.start + from, self.start + to).map_err(|error| error.kind())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        check_write(self, offset, bytes.len())?;
        self.flash.write(self.start + offset, bytes).map_err(|error| error.kind())
    }
}

impl<F: MultiwriteNorFlash> MultiwriteNorFlash for Window<F> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nor::psram::Psram;
    use crate::registers::fake::{Device, Fake};
    use std::vec;
    use std::vec::Vec;

    const SECTOR: u32 = 4096;

    struct Words(Vec<u32>);

    impl Device for Words {
        fn read(&mut self, offset: usize) -> u32 {
            self.0[offset / 4]
        }
        fn write(&mut self, offset: usize, value: u32) {
            self.0[offset / 4] = value;
        }
    }

    /// Four sectors of zeroes, of which the second and third are the window.
    fn window() -> (Fake<Words>, Window<Psram<Fake<Words>>>) {
        let fake = Fake::new(Words(vec![0; 4 * SECTOR as usize / 4]));
        let chip = Psram::new(fake.clone(), 4 * SECTOR as usize);
        (fake, Window::new(chip, SECTOR, 2 * SECTOR))
    }

    #[test]
    fn what_is_outside_is_never_touched() {
        let (fake, mut window) = window();
        window.erase(0, 2 * SECTOR).expect("all of the window");
        window.write(0, &[1, 2, 3, 4]).expect("its first word");
        let words = &fake.0.borrow().0;
        let outside = words[..1024].iter().chain(&words[3072..]);
        assert!(outside.into_iter().all(|word| *word == 0));
        assert_eq!(words[1024], 0x0403_0201);
        assert!(words[1025..3072].iter().all(|word| *word == u32::MAX));
    }

    #[test]
    fn its_end_is_an_end() {
        let (_, mut window) = window();
        assert_eq!(window.capacity(), 2 * SECTOR as usize);
        assert_eq!(window.read(2 * SECTOR, &mut [0; 4]), Err(NorFlashErrorKind::OutOfBounds));
        assert_eq!(window.write(2 * SECTOR, &[0; 4]), Err(NorFlashErrorKind::OutOfBounds));
        assert_eq!(window.erase(SECTOR, 3 * SECTOR), Err(NorFlashErrorKind::OutOfBounds));
        window.erase(SECTOR, 2 * SECTOR).expect("the last sector");
    }

    #[test]
    fn a_window_beyond_the_chip_is_cut_to_it() {
        let chip = || Psram::new(Fake::new(Words(vec![0; 1024])), SECTOR as usize);
        assert_eq!(Window::new(chip(), SECTOR - 4, SECTOR).capacity(), 4);
        assert_eq!(Window::new(chip(), 2 * SECTOR, SECTOR).capacity(), 0);
    }
}
