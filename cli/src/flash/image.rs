//! Firmware as its compiler leaves it: an ELF file, of which the parts that are loaded into flash are taken.
//!
//! An image of another processor, or one that lies outside of the board's program memory, is refused before anything is written.

use crate::code::Code;
use crate::failure::{Failure, system};
use board::Table;
use object::Endianness;
use object::elf::{EM_ARM, EM_RISCV, FileHeader32, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use std::path::Path;

/// Above every chip's flash that this is for; with debug information an ELF file is larger than what it loads.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Bytes and where they belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub address: u64,
    pub bytes: Vec<u8>,
}

impl Part {
    pub fn end(&self) -> u64 {
        self.address + self.bytes.len() as u64
    }
}

/// The loaded parts of an image, in order, none over another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image(pub Vec<Part>);

impl Image {
    /// Reads an image for a board.
    pub fn read(path: &Path, table: &Table) -> Result<Self, Failure> {
        let unreadable = |error: std::io::Error| {
            system(format!("cannot read the image {}", path.display()), &error)
                .next(format!("scripts/firmware {}    (in the source tree: builds it)", table.name))
        };
        let length = std::fs::metadata(path).map_err(unreadable)?.len();
        let wrong = |why: String| {
            Failure::new(Code::Image, format!("{} is no image for {}", path.display(), table.name)).why(why)
        };
        if length > FILE_BYTES_MAX {
            return Err(wrong(format!("it has {length} bytes, more than {FILE_BYTES_MAX}")));
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        Self::parse(&bytes, table).map_err(wrong)
    }

    fn parse(bytes: &[u8], table: &Table) -> Result<Self, String> {
        let not_elf = |error: object::read::Error| format!("it is not a 32-bit ELF file: {error}");
        let header = FileHeader32::<Endianness>::parse(bytes).map_err(not_elf)?;
        let endian = header.endian().map_err(not_elf)?;
        let machine = if table.triple.starts_with("riscv") { EM_RISCV } else { EM_ARM };
        let found = header.e_machine(endian);
        if found != machine {
            return Err(format!(
                "it is for another processor than {}: ELF machine {found}, not {machine}",
                table.triple
            ));
        }
        let mut parts = Vec::new();
        for segment in header.program_headers(endian, bytes).map_err(not_elf)? {
            let content =
                segment.data(endian, bytes).map_err(|()| "a part of it lies outside of the file".to_owned())?;
            if segment.p_type(endian) == PT_LOAD && !content.is_empty() {
                parts.push(Part { address: u64::from(segment.p_paddr(endian)), bytes: content.to_vec() });
            }
        }
        parts.sort_by_key(|part| part.address);
        let image = Self(parts);
        image.check(table)?;
        Ok(image)
    }

    fn check(&self, table: &Table) -> Result<(), String> {
        let (start, end) = (table.program.origin, table.program.origin + table.program.bytes);
        if self.0.is_empty() {
            return Err("nothing in it is loaded".to_owned());
        }
        for pair in self.0.windows(2) {
            if let [first, second] = pair
                && second.address < first.end()
            {
                return Err(format!("parts of it overlap at {:#x}", second.address));
            }
        }
        match self.0.iter().find(|part| part.address < start || part.end() > end) {
            Some(part) => Err(format!(
                "it has {} bytes at {:#x}, and the program of this board is from {start:#x} to {end:#x}",
                part.bytes.len(),
                part.address
            )),
            None => Ok(()),
        }
    }

    /// Bytes that are written.
    pub fn len(&self) -> usize {
        self.0.iter().map(|part| part.bytes.len()).sum()
    }
}

#[cfg(test)]
pub mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub const EXAMPLE: &str = include_str!("../../../board/example.toml");

    pub fn table() -> Table {
        Table::parse(EXAMPLE).unwrap()
    }

    /// An ELF file of 32 bits: (type, physical address, bytes in the file, bytes in memory) for each part.
    pub fn elf(machine: u16, parts: &[(u32, u32, &[u8], u32)]) -> Vec<u8> {
        const HEADER: u32 = 52;
        const ENTRY: u32 = 32;
        let word = |number: u32| number.to_le_bytes().to_vec();
        let half = |number: u16| number.to_le_bytes().to_vec();
        let mut out = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        let count = u16::try_from(parts.len()).unwrap();
        out.extend([half(2), half(machine), word(1), word(0), word(HEADER), word(0), word(0)].concat());
        out.extend([half(52), half(32), half(count), half(40), half(0), half(0)].concat());
        let mut at = HEADER + ENTRY * u32::from(count);
        for (kind, address, bytes, memory) in parts {
            let length = u32::try_from(bytes.len()).unwrap();
            // The virtual address is another one: what is copied to memory at the start lies in flash before.
            let fields = [*kind, at, 0x2000_0000, *address, length, *memory, 5, 4];
            out.extend(fields.into_iter().flat_map(u32::to_le_bytes));
            at += length;
        }
        out.extend(parts.iter().flat_map(|(_, _, bytes, _)| bytes.iter().copied()));
        out
    }

    #[test]
    fn what_is_loaded_is_taken_at_its_physical_address_and_in_order() {
        let file = elf(40, &[(1, 0x400, b"data", 4), (1, 0, b"code!", 5), (1, 0x500, b"", 64), (4, 0, b"note", 4)]);
        let image = Image::parse(&file, &table()).unwrap();
        let part = |address, bytes: &[u8]| Part { address, bytes: bytes.to_vec() };
        assert_eq!(image, Image(vec![part(0, b"code!"), part(0x400, b"data")]));
        assert_eq!(image.len(), 9);
    }

    #[test]
    fn an_image_that_does_not_belong_here_is_refused_in_words() {
        let last = 0x40_0000 - 4;
        assert!(Image::parse(&elf(40, &[(1, last, b"last", 4)]), &table()).is_ok());
        for (file, why) in [
            (b"MZ".to_vec(), "it is not a 32-bit ELF file"),
            (elf(62, &[(1, 0, b"code", 4)]), "another processor than thumbv7em-none-eabihf: ELF machine 62, not 40"),
            (elf(40, &[(1, 0, b"", 64)]), "nothing in it is loaded"),
            (elf(40, &[(1, 0, b"code", 4), (1, 3, b"more", 4)]), "parts of it overlap at 0x3"),
            (
                elf(40, &[(1, last + 1, b"last", 4)]),
                "it has 4 bytes at 0x3ffffd, and the program of this board is from 0x0",
            ),
            (elf(40, &[(1, 0x2000_0000, b"ram", 3)]), "it has 3 bytes at 0x20000000"),
        ] {
            let got = Image::parse(&file, &table()).unwrap_err();
            assert!(got.contains(why), "{got}");
        }
    }

    #[test]
    fn a_cut_or_bent_file_is_refused_and_breaks_nothing() {
        let file = elf(40, &[(1, 0, b"code", 4), (1, 0x100, b"data", 4)]);
        for length in 0..file.len() {
            assert!(Image::parse(&file[..length], &table()).is_err(), "{length}");
        }
        for at in 0..file.len() {
            for byte in [0, 0x7f, 0xff] {
                let mut bent = file.clone();
                bent[at] = byte;
                // Any answer is fine, but there must be one.
                let _ = Image::parse(&bent, &table());
            }
        }
    }

    #[test]
    fn a_missing_image_says_how_to_build_it() {
        let failure = Image::read(Path::new("/nonexistent/image"), &table()).unwrap_err();
        assert!(failure.next[0].starts_with("scripts/firmware example"), "{failure:?}");
    }
}
