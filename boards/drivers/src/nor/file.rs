//! A file of the machine that an emulated board runs on, used as NOR flash. Bits are only cleared by a write and only set by the
//! erasure of a sector, as on a real chip, so that code which forgets to erase fails here too.

use crate::semihosting::{Host, Request};
use embedded_storage::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

/// The longest path of the file, its final zero included.
pub const PATH_BYTES_MAX: usize = 256;
/// Bytes that are moved at once.
const BUFFER_BYTES: usize = 64;
const SECTOR_BYTES: usize = 4096;
static ERASED: [u8; 256] = [0xff; 256];
const _: () = assert!(SECTOR_BYTES.is_multiple_of(ERASED.len()));

/// The file that the emulator's command line names.
pub struct FileFlash<H> {
    host: H,
    handle: i32,
    bytes: usize,
}

/// Why there is no flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The emulator gave no path, or one of more than `PATH_BYTES_MAX`.
    NoPath,
    /// The file cannot be opened for reads and writes.
    NoFile,
    /// It has so many bytes instead of what the board's table says.
    Length(i32),
}

impl<H: Host> FileFlash<H> {
    /// `bytes` is a multiple of the sector.
    pub fn open(mut host: H, bytes: usize) -> Result<Self, OpenError> {
        let mut path = [0; PATH_BYTES_MAX];
        let answer = host.ask(Request::CommandLine(&mut path));
        let end = path.iter().position(|byte| *byte == 0).filter(|end| answer == 0 && *end > 0);
        let path = end.and_then(|end| path.get(..=end)).ok_or(OpenError::NoPath)?;
        let handle = host.ask(Request::Open(path));
        if handle < 0 {
            return Err(OpenError::NoFile);
        }
        let length = host.ask(Request::Length { handle });
        if usize::try_from(length) != Ok(bytes) {
            return Err(OpenError::Length(length));
        }
        Ok(Self { host, handle, bytes })
    }

    fn seek(&mut self, to: u32) -> Result<(), NorFlashErrorKind> {
        done(self.host.ask(Request::Seek { handle: self.handle, to }))
    }

    fn read_at(&mut self, at: u32, into: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        self.seek(at)?;
        done(self.host.ask(Request::Read { handle: self.handle, into }))
    }

    fn write_at(&mut self, at: u32, from: &[u8]) -> Result<(), NorFlashErrorKind> {
        self.seek(at)?;
        done(self.host.ask(Request::Write { handle: self.handle, from }))
    }
}

/// All of these requests are answered with what is missing.
fn done(missing: i32) -> Result<(), NorFlashErrorKind> {
    if missing == 0 { Ok(()) } else { Err(NorFlashErrorKind::Other) }
}

impl<H> ErrorType for FileFlash<H> {
    type Error = NorFlashErrorKind;
}

impl<H: Host> ReadNorFlash for FileFlash<H> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        check_read(self, offset, bytes.len())?;
        self.read_at(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.bytes
    }
}

impl<H: Host> NorFlash for FileFlash<H> {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = SECTOR_BYTES;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        check_erase(self, from, to)?;
        (from..to).step_by(ERASED.len()).try_for_each(|at| self.write_at(at, &ERASED))
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        check_write(self, offset, bytes.len())?;
        let mut at = offset;
        for part in bytes.chunks(BUFFER_BYTES) {
            let mut buffer = [0; BUFFER_BYTES];
            let there = &mut buffer[..part.len()];
            self.read_at(at, there)?;
            for (old, new) in there.iter_mut().zip(part) {
                *old &= new;
            }
            self.write_at(at, there)?;
            at += part.len() as u32;
        }
        Ok(())
    }
}

impl<H: Host> MultiwriteNorFlash for FileFlash<H> {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const HANDLE: i32 = 7;

    /// A machine with one file, which fails after so many requests.
    struct Machine {
        arguments: &'static [u8],
        file: Vec<u8>,
        at: usize,
        requests_left: usize,
    }

    impl Host for Machine {
        fn ask(&mut self, request: Request<'_>) -> i32 {
            let Some(left) = self.requests_left.checked_sub(1) else { return -1 };
            self.requests_left = left;
            match request {
                Request::CommandLine(into) => match into.get_mut(..=self.arguments.len()) {
                    Some(place) => {
                        let (text, zero) = place.split_at_mut(self.arguments.len());
                        text.copy_from_slice(self.arguments);
                        zero.fill(0);
                        0
                    }
                    None => -1,
                },
                Request::Open(path) => {
                    if path == b"/a/a flash\0" {
                        HANDLE
                    } else {
                        -1
                    }
                }
                Request::Seek { handle, to } => {
                    assert_eq!(handle, HANDLE);
                    self.at = to as usize;
                    0
                }
                Request::Read { handle, into } => {
                    assert_eq!(handle, HANDLE);
                    into.copy_from_slice(&self.file[self.at..self.at + into.len()]);
                    self.at += into.len();
                    0
                }
                Request::Write { handle, from } => {
                    assert_eq!(handle, HANDLE);
                    self.file[self.at..self.at + from.len()].copy_from_slice(from);
                    self.at += from.len();
                    0
                }
                Request::Length { handle } => {
                    assert_eq!(handle, HANDLE);
                    self.file.len() as i32
                }
            }
        }
    }

    fn machine() -> Machine {
        Machine { arguments: b"/a/a flash", file: std::vec![0; 8192], at: 0, requests_left: usize::MAX }
    }

    fn flash() -> FileFlash<Machine> {
        FileFlash::open(machine(), 8192).expect("the file is there")
    }

    #[test]
    fn a_file_that_is_not_the_flash_is_refused_with_the_reason() {
        let open = |machine| FileFlash::open(machine, 8192).err();
        assert_eq!(open(Machine { arguments: b"", ..machine() }), Some(OpenError::NoPath));
        assert_eq!(open(Machine { arguments: &[b'a'; PATH_BYTES_MAX], ..machine() }), Some(OpenError::NoPath));
        assert_eq!(open(Machine { arguments: &[b'a'; PATH_BYTES_MAX - 1], ..machine() }), Some(OpenError::NoFile));
        assert_eq!(open(Machine { file: std::vec![0; 4096], ..machine() }), Some(OpenError::Length(4096)));
    }

    #[test]
    fn a_write_only_clears_bits_and_an_erasure_sets_them() {
        let mut flash = flash();
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
    fn a_write_longer_than_the_buffer_is_whole() {
        let mut flash = flash();
        flash.erase(0, 4096).expect("a sector");
        let long: Vec<u8> = (0..3 * BUFFER_BYTES + 4).map(|byte| byte as u8).collect();
        flash.write(100, &long).expect("aligned");
        assert_eq!(flash.host.file[100..100 + long.len()], long);
        assert_eq!((flash.host.file[99], flash.host.file[100 + long.len()]), (0xff, 0xff));
    }

    #[test]
    fn an_erasure_leaves_the_next_sector_alone() {
        let mut flash = flash();
        flash.erase(0, 4096).expect("the first");
        assert_eq!(flash.host.file[..4096], [0xff; 4096]);
        assert_eq!(flash.host.file[4096..], [0; 4096]);
    }

    #[test]
    fn what_is_unaligned_or_outside_is_refused_and_touches_nothing() {
        let mut flash = flash();
        assert_eq!(flash.write(2, &[0; 4]), Err(NorFlashErrorKind::NotAligned));
        assert_eq!(flash.write(0, &[0; 3]), Err(NorFlashErrorKind::NotAligned));
        assert_eq!(flash.write(8192, &[0; 4]), Err(NorFlashErrorKind::OutOfBounds));
        assert_eq!(flash.erase(4, 4096), Err(NorFlashErrorKind::NotAligned));
        assert_eq!(flash.erase(0, 12288), Err(NorFlashErrorKind::OutOfBounds));
        assert_eq!(flash.read(8190, &mut [0; 3]), Err(NorFlashErrorKind::OutOfBounds));
        assert_eq!(flash.host.file, [0; 8192]);
    }

    #[test]
    fn a_host_that_stops_answering_is_a_flash_that_fails() {
        let mut flash = flash();
        flash.host.requests_left = 1;
        assert_eq!(flash.read(0, &mut [0; 4]), Err(NorFlashErrorKind::Other));
        assert_eq!(flash.write(0, &[0; 4]), Err(NorFlashErrorKind::Other));
        assert_eq!(flash.erase(0, 4096), Err(NorFlashErrorKind::Other));
    }
}
