//! A NOR flash as it really is: programming clears bits of blank units alone, an erase takes a whole sector, and a cut of the power
//! leaves of the operation under way anything that it can leave.
use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};
use std::collections::BTreeMap;
use std::vec::Vec;

/// What a cut leaves of the operation that it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Torn {
    /// Nothing of it was done.
    Before,
    /// All of it was done, and nobody was told.
    After,
    /// The first half of the units.
    FirstHalf,
    /// The last half: controllers need not go upwards.
    LastHalf,
    /// Some of the bits, all over the place.
    Bits,
    /// An erase that had only got to clear everything, as it does first; a program that went too far.
    Zeroes,
}

pub const TORN: [Torn; 6] = [Torn::Before, Torn::After, Torn::FirstHalf, Torn::LastHalf, Torn::Bits, Torn::Zeroes];

/// A programming unit since the last erase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Blank,
    Programmed,
    /// A cut hit it. It may look blank; but programming it fails, as where units have check bits of their own.
    Suspect,
}

#[derive(Clone, Debug)]
pub struct MockFlash<const WRITE: usize, const ERASE: usize> {
    pub bytes: Vec<u8>,
    units: Vec<Unit>,
    pub operations: u64,
    /// The power goes at this operation.
    pub cut: Option<(u64, Torn)>,
    pub is_off: bool,
    /// Sectors that cannot be erased any more.
    pub worn: Vec<usize>,
    /// Bytes whose unit takes nothing.
    pub stuck: Vec<usize>,
    /// Erases by sector.
    pub erases: BTreeMap<usize, u32>,
    /// A unit was programmed twice: its user is wrong.
    pub violations: u32,
}

impl<const WRITE: usize, const ERASE: usize> MockFlash<WRITE, ERASE> {
    pub fn new(sectors: usize) -> Self {
        Self {
            bytes: std::vec![0xff; sectors * ERASE],
            units: std::vec![Unit::Blank; sectors * ERASE / WRITE],
            operations: 0,
            cut: None,
            is_off: false,
            worn: Vec::new(),
            stuck: Vec::new(),
            erases: BTreeMap::new(),
            violations: 0,
        }
    }

    /// The power is back.
    pub fn reboot(mut self) -> Self {
        self.is_off = false;
        self.cut = None;
        self
    }

    pub fn cut_at(mut self, operation: u64, torn: Torn) -> Self {
        self.cut = Some((self.operations + operation, torn));
        self
    }

    /// Whether this operation is cut, and how.
    fn step(&mut self) -> Result<Option<Torn>, NorFlashErrorKind> {
        if self.is_off {
            return Err(NorFlashErrorKind::Other);
        }
        let cut = self.cut.filter(|(at, _)| *at == self.operations).map(|(_, torn)| torn);
        self.operations += 1;
        self.is_off = cut.is_some();
        Ok(cut)
    }

    /// Which byte of an operation of `length` is reached, and with which bits of the change.
    fn reaches(torn: Option<Torn>, at: usize, length: usize) -> u8 {
        let half = (length / 2).next_multiple_of(WRITE);
        match torn {
            None | Some(Torn::After | Torn::Zeroes) => 0xff,
            Some(Torn::Before) => 0,
            Some(Torn::FirstHalf) => {
                if at < half {
                    0xff
                } else {
                    0
                }
            }
            Some(Torn::LastHalf) => {
                if at >= half {
                    0xff
                } else {
                    0
                }
            }
            // Well mixed, and the same each time.
            Some(Torn::Bits) => ((at as u32 + 1).wrapping_mul(0x9e37_79b1) >> 13) as u8,
        }
    }
}

impl<const WRITE: usize, const ERASE: usize> ErrorType for MockFlash<WRITE, ERASE> {
    type Error = NorFlashErrorKind;
}

impl<const WRITE: usize, const ERASE: usize> ReadNorFlash for MockFlash<WRITE, ERASE> {
    const READ_SIZE: usize = if WRITE < 4 { 1 } else { 4 };

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        check_read(self, offset, bytes.len())?;
        if self.is_off {
            return Err(NorFlashErrorKind::Other);
        }
        bytes.copy_from_slice(&self.bytes[offset as usize..offset as usize + bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl<const WRITE: usize, const ERASE: usize> NorFlash for MockFlash<WRITE, ERASE> {
    const WRITE_SIZE: usize = WRITE;
    const ERASE_SIZE: usize = ERASE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        check_erase(self, from, to)?;
        for sector in from as usize / ERASE..to as usize / ERASE {
            if self.worn.contains(&sector) {
                return Err(NorFlashErrorKind::Other);
            }
            let torn = self.step()?;
            *self.erases.entry(sector).or_default() += 1;
            for at in 0..ERASE {
                let byte = &mut self.bytes[sector * ERASE + at];
                match torn {
                    Some(Torn::Zeroes) => *byte = 0,
                    Some(_) | None => *byte |= Self::reaches(torn, at, ERASE),
                }
            }
            for unit in &mut self.units[sector * ERASE / WRITE..(sector + 1) * ERASE / WRITE] {
                match torn {
                    None => *unit = Unit::Blank,
                    Some(Torn::Before) => {}
                    Some(_) => *unit = Unit::Suspect,
                }
            }
            if torn.is_some() {
                return Err(NorFlashErrorKind::Other);
            }
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        check_write(self, offset, bytes.len())?;
        let torn = self.step()?;
        let places = offset as usize..offset as usize + bytes.len();
        if self.stuck.iter().any(|stuck| places.contains(stuck)) {
            return Err(NorFlashErrorKind::Other);
        }
        let mut is_taken = torn.is_none();
        for (at, byte) in bytes.iter().enumerate() {
            let place = offset as usize + at;
            let unit = &mut self.units[place / WRITE];
            if torn != Some(Torn::Before) && at.is_multiple_of(WRITE) {
                self.violations += u32::from(*unit == Unit::Programmed);
                is_taken &= *unit == Unit::Blank;
                *unit = if torn.is_some() { Unit::Suspect } else { Unit::Programmed };
            }
            self.bytes[place] &= match torn {
                Some(Torn::Zeroes) if at + WRITE >= bytes.len() => 0,
                Some(_) | None => byte | !Self::reaches(torn, at, bytes.len()),
            };
        }
        if is_taken { Ok(()) } else { Err(NorFlashErrorKind::Other) }
    }
}
