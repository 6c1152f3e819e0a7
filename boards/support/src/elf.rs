//! As much of the ELF format (System V ABI, chapter 4) as sizes need: sections of a 32-bit little-endian image, and a symbol.
//! The images are ours, but a cut or foreign file must be told, not believed.

use crate::Mistake;

const HEADER_BYTES: usize = 52;
const SECTION_BYTES: usize = 40;
const SYMBOL_BYTES: usize = 16;
const SEGMENT_BYTES: usize = 32;
const PT_LOAD: u32 = 1;
/// Above every slot.
const PROGRAM_BYTES_MAX: usize = 64 * 1024 * 1024;
const SHT_SYMTAB: u32 = 2;
const SHT_NOBITS: u32 = 8;
const SHF_ALLOC: u32 = 2;

/// A section that takes memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub name: String,
    pub address: u32,
    pub bytes: u32,
    /// It has bytes in the image; else it is memory that starts empty.
    pub is_loaded: bool,
    pub is_writable: bool,
}

pub struct Elf<'a> {
    bytes: &'a [u8],
    sections: Vec<[u32; 10]>,
}

impl<'a> Elf<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Mistake> {
        let not_one = || Mistake("this is no whole 32-bit little-endian ELF file".into());
        if bytes.len() < HEADER_BYTES || bytes[..6] != [0x7f, b'E', b'L', b'F', 1, 1] {
            return Err(not_one());
        }
        let half = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let start = word(bytes, 32).ok_or_else(not_one)? as usize;
        let mut sections = Vec::new();
        for index in 0..half(48) {
            let mut section = [0; 10];
            for (field, value) in section.iter_mut().enumerate() {
                *value = word(bytes, start + index * SECTION_BYTES + field * 4).ok_or_else(not_one)?;
            }
            sections.push(section);
        }
        if half(50) >= sections.len() {
            return Err(not_one());
        }
        Ok(Self { bytes, sections })
    }

    /// Sections that take memory when the program runs, empty ones left out.
    pub fn sections(&self) -> Vec<Section> {
        let names = usize::from(u16::from_le_bytes([self.bytes[50], self.bytes[51]]));
        let all = self.sections.iter().filter(|section| section[2] & SHF_ALLOC != 0 && section[5] > 0);
        all.map(|section| Section {
            name: self.text(names, section[0]),
            address: section[3],
            bytes: section[5],
            is_loaded: section[1] != SHT_NOBITS,
            is_writable: section[2] & 1 != 0,
        })
        .collect()
    }

    /// What is loaded, as it lies in flash: the bytes of the program from `origin` on, gaps filled with ones.
    pub fn program(&self, origin: u64) -> Result<Vec<u8>, Mistake> {
        let cut = || Mistake("a part of the program lies outside of the file".into());
        let mut program = Vec::new();
        for index in 0..usize::from(u16::from_le_bytes([self.bytes[44], self.bytes[45]])) {
            let at = word(self.bytes, 28).ok_or_else(cut)? as usize + index * SEGMENT_BYTES;
            let field = |number: usize| word(self.bytes, at + number * 4).ok_or_else(cut);
            let (kind, from, address, length) = (field(0)?, field(1)? as usize, field(3)?, field(4)? as usize);
            if kind != PT_LOAD || length == 0 {
                continue;
            }
            let content = from.checked_add(length).and_then(|end| self.bytes.get(from..end)).ok_or_else(cut)?;
            let place = u64::from(address).checked_sub(origin).and_then(|place| usize::try_from(place).ok());
            let place = place.filter(|place| place + length <= PROGRAM_BYTES_MAX).ok_or_else(|| {
                Mistake(format!("{length} bytes at {address:#x} are not in the slot that begins at {origin:#x}"))
            })?;
            if program.len() < place + length {
                program.resize(place + length, 0xff);
            }
            program[place..place + length].copy_from_slice(content);
        }
        Ok(program)
    }

    /// Address and length of the first symbol whose name satisfies `is_it`.
    pub fn symbol(&self, is_it: impl Fn(&str) -> bool) -> Option<(u32, u32)> {
        self.symbols().find(|(name, ..)| is_it(name)).map(|(_, address, bytes)| (address, bytes))
    }

    /// Every symbol: name, address, length.
    pub fn symbols(&self) -> impl Iterator<Item = (String, u32, u32)> {
        let table = self.sections.iter().find(|section| section[1] == SHT_SYMTAB);
        let (start, bytes, names) = table.map_or((0, 0, 0), |table| (table[4] as usize, table[5] as usize, table[6]));
        (0..bytes / SYMBOL_BYTES).map_while(move |index| {
            let at = start + index * SYMBOL_BYTES;
            let name = self.text(names as usize, word(self.bytes, at)?);
            Some((name, word(self.bytes, at + 4)?, word(self.bytes, at + 8)?))
        })
    }

    fn text(&self, section: usize, offset: u32) -> String {
        let start = self.sections.get(section).map_or(usize::MAX, |section| section[4] as usize);
        let bytes = self.bytes.get(start.saturating_add(offset as usize)..).unwrap_or_default();
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small image: names, 8 loaded bytes of program, 32 empty bytes of memory, and a symbol in it.
    fn image() -> Vec<u8> {
        let names = b"\0.names\0.text\0.bss\0HEAP\0";
        let (text_at, symbols_at) = (HEADER_BYTES + names.len(), HEADER_BYTES + names.len() + 8);
        let sections_at = symbols_at + SYMBOL_BYTES;
        let mut file = vec![0; HEADER_BYTES];
        file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 1, 1]);
        file[32..36].copy_from_slice(&(sections_at as u32).to_le_bytes());
        file[48..50].copy_from_slice(&5u16.to_le_bytes());
        file[50..52].copy_from_slice(&1u16.to_le_bytes());
        file.extend(names);
        file.extend([0x11; 8]);
        let words = |file: &mut Vec<u8>, words: &[usize]| {
            words.iter().for_each(|word| file.extend((*word as u32).to_le_bytes()));
        };
        words(&mut file, &[19, 0x2000_0010, 16, 0]);
        words(&mut file, &[0; 10]);
        words(&mut file, &[1, 3, 0, 0, HEADER_BYTES, names.len(), 0, 0, 1, 0]);
        words(&mut file, &[8, 1, 6, 0x1000, text_at, 8, 0, 0, 4, 0]);
        words(&mut file, &[14, 8, 3, 0x2000_0000, 0, 32, 0, 0, 4, 0]);
        words(&mut file, &[0, 2, 0, 0, symbols_at, SYMBOL_BYTES, 1, 0, 4, 16]);
        file
    }

    #[test]
    fn sections_and_symbols_are_found() {
        let file = image();
        let elf = Elf::parse(&file).expect("an image");
        let text = Section { name: ".text".into(), address: 0x1000, bytes: 8, is_loaded: true, is_writable: false };
        let bss = Section { name: ".bss".into(), address: 0x2000_0000, bytes: 32, is_loaded: false, is_writable: true };
        assert_eq!(elf.sections(), [text, bss]);
        assert_eq!(elf.symbol(|name| name == "HEAP"), Some((0x2000_0010, 16)));
        assert_eq!(elf.symbol(|name| name == "STACK"), None);
    }

    #[test]
    fn a_program_is_as_it_lies_in_flash() {
        let mut file = image();
        let at = file.len();
        file[28..32].copy_from_slice(&(at as u32).to_le_bytes());
        file[44..46].copy_from_slice(&2u16.to_le_bytes());
        let text_at = (HEADER_BYTES + b"\0.names\0.text\0.bss\0HEAP\0".len()) as u32;
        // The second one is copied to memory at the start, and lies in flash behind the first.
        for fields in [[1, text_at, 0x1000, 0x1000, 4, 4, 5, 4], [1, text_at, 0x2000_0000, 0x1006, 2, 2, 6, 4]] {
            fields.into_iter().for_each(|field: u32| file.extend(field.to_le_bytes()));
        }
        let elf = Elf::parse(&file).expect("an image");
        assert_eq!(elf.program(0x1000).expect("in its slot"), [0x11, 0x11, 0x11, 0x11, 0xff, 0xff, 0x11, 0x11]);
        assert!(elf.program(0x1004).is_err(), "it begins before its slot");
        assert!(Elf::parse(&image()).expect("an image").program(0).expect("nothing is loaded").is_empty());
    }

    #[test]
    fn every_cut_of_a_file_is_told_or_harmless() {
        let file = image();
        for length in 0..file.len() {
            assert!(Elf::parse(&file[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn every_changed_byte_is_told_or_harmless() {
        let file = image();
        for at in 0..file.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = file.clone();
                changed[at] = value;
                if let Ok(elf) = Elf::parse(&changed) {
                    elf.sections();
                    let _ = elf.program(0x1000);
                    elf.symbol(|name| name == "HEAP");
                }
            }
        }
    }
}
