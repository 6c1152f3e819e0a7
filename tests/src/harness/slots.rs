//! The slots of firmware in the flash file of an emulated board: images are taken from there, changed, and put back.
use super::board::Board;
use agent_nostd::store::slot::{PROGRAM_OFFSET, slot_head};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use wire::Digest;
use wire::firmware::ImageHead;

pub const AN386: &str = "qemu-mps2-an386";
/// Of its table: the slots, and the state of their swap.
const SLOT_A: u64 = 0x10_0000;
pub const SLOT_B: u64 = 0x20_0000;
const SLOT_BYTES: usize = 0x10_0000;
pub const STATE: u64 = 0x30_1000;
/// The last mark of a swap.
pub const LAST_PAGE: u64 = 2 * (SLOT_BYTES as u64 / 0x1000) - 1;
/// Where the first slot is in memory.
const SLOT_ADDRESS: u32 = 0x2110_0000;
/// To be swapped, as the loader writes it.
const SWAP: [u8; 4] = [0xf0; 4];
pub const IMAGE_AT: usize = 256;
/// Thumb: a branch to itself.
pub const SPIN: [u8; 2] = [0xfe, 0xe7];
/// The number of the program counter in a debugger's view of a Cortex-M, memory that nothing uses, and no instruction.
pub const PC: u32 = 15;
/// Where the processor reads how far the chip's timer has counted.
pub const TIMER_VALUE: u32 = 0x4000_0004;
pub const UNUSED: u32 = 0x2020_0000;
pub const UNDEFINED: [u8; 2] = [0x00, 0xde];

/// A flash file with version 1 in its first slot, and no power.
pub struct Flash(pub PathBuf);

impl Flash {
    pub fn new(folder: &Path) -> Self {
        let path = folder.join("flash");
        let mut board = Board::start(AN386, &path);
        board.wait_line("boot: version 1");
        board.wait_line("fulmar on qemu-mps2-an386");
        board.cut_power();
        Self(path)
    }

    fn file(&self) -> File {
        OpenOptions::new().read(true).write(true).open(&self.0).unwrap()
    }

    pub fn power_up(&self) -> Board {
        Board::power_up(AN386, &self.0)
    }

    /// The running image, as it was sent.
    pub fn image(&self) -> Vec<u8> {
        let mut slot = vec![0; SLOT_BYTES];
        self.file().read_exact_at(&mut slot, SLOT_A).unwrap();
        let length = u32::from_le_bytes(slot[4..8].try_into().unwrap()) as usize;
        slot[IMAGE_AT..IMAGE_AT + length].to_vec()
    }

    /// Whether so many pages were moved by the swap that is under way.
    pub fn has_moved(&self, pages: u64) -> bool {
        let mut word = [0; 4];
        self.file().read_exact_at(&mut word, STATE + (2 + pages) * 4).unwrap();
        word != [0xff; 4]
    }

    /// Puts an image into the second slot and marks it, as the agent does.
    pub fn update(&self, image: &[u8]) {
        let file = self.file();
        file.write_all_at(&slot_head(&Digest::of(image), image.len() as u32), SLOT_B).unwrap();
        file.write_all_at(image, SLOT_B + IMAGE_AT as u64).unwrap();
        file.write_all_at(&SWAP, STATE).unwrap();
    }
}

/// The same program under another number.
pub fn renumbered(image: &[u8], version: u32) -> Vec<u8> {
    let head = ImageHead { board: AN386, version }.encode().unwrap();
    [&head[..], &image[head.len()..]].concat()
}

/// The image with other code at its first instruction.
pub fn beginning_with(mut image: Vec<u8>, code: &[u8]) -> Vec<u8> {
    let program = PROGRAM_OFFSET as usize - IMAGE_AT;
    let start = u32::from_le_bytes(image[program + 4..program + 8].try_into().unwrap()) & !1;
    let at = (start - SLOT_ADDRESS) as usize - IMAGE_AT;
    image[at..at + code.len()].copy_from_slice(code);
    image
}

/// The image whose program takes itself for one of another board.
pub fn estranged(image: &[u8]) -> Vec<u8> {
    let (head, program) = image.split_at(wire::firmware::IMAGE_HEAD_BYTES);
    let mut program = program.to_vec();
    let places: Vec<usize> = (0..program.len()).filter(|at| program[*at..].starts_with(AN386.as_bytes())).collect();
    assert!(!places.is_empty());
    for at in places {
        program[at + AN386.len() - 1] = b'x';
    }
    [head, &program].concat()
}
