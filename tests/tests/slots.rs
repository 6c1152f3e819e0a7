//! The two slots of an emulated board, with the boot code and the firmware that ship, over real resets and losses of power.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use agent_nostd::store::slot::{PROGRAM_OFFSET, slot_head};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tests::harness::board::Board;
use wire::Digest;
use wire::firmware::ImageHead;

const AN386: &str = "qemu-mps2-an386";
/// Of its table: the slots, and the state of their swap.
const SLOT_A: u64 = 0x10_0000;
const SLOT_B: u64 = 0x20_0000;
const SLOT_BYTES: usize = 0x10_0000;
const STATE: u64 = 0x30_1000;
/// The last mark of a swap.
const LAST_PAGE: u64 = 2 * (SLOT_BYTES as u64 / 0x1000) - 1;
/// Where the first slot is in memory.
const SLOT_ADDRESS: u32 = 0x2110_0000;
/// To be swapped, as the loader writes it.
const SWAP: [u8; 4] = [0xf0; 4];
const IMAGE_AT: usize = 256;
/// Thumb: a branch to itself.
const SPIN: [u8; 2] = [0xfe, 0xe7];
/// The number of the program counter in a debugger's view of a Cortex-M, memory that nothing uses, and no instruction.
const PC: u32 = 15;
const UNUSED: u32 = 0x2020_0000;
const UNDEFINED: [u8; 2] = [0x00, 0xde];

/// A flash file with version 1 in its first slot, and no power.
struct Flash(PathBuf);

impl Flash {
    fn new(folder: &Path) -> Self {
        let path = folder.join("flash");
        let mut board = Board::start(AN386, &path);
        board.wait_line("boot: version 1");
        board.wait_line("fulmar on qemu-mps2-an386");
        board.cut_power();
        Self(path)
    }

    fn power_up(&self) -> Board {
        Board::power_up(AN386, &self.0)
    }

    /// The running image, as it was sent.
    fn image(&self) -> Vec<u8> {
        let mut slot = vec![0; SLOT_BYTES];
        OpenOptions::new().read(true).open(&self.0).unwrap().read_exact_at(&mut slot, SLOT_A).unwrap();
        let length = u32::from_le_bytes(slot[4..8].try_into().unwrap()) as usize;
        slot[IMAGE_AT..IMAGE_AT + length].to_vec()
    }

    /// Puts an image into the second slot and marks it, as the agent does.
    fn update(&self, image: &[u8]) {
        let file = OpenOptions::new().write(true).open(&self.0).unwrap();
        file.write_all_at(&slot_head(&Digest::of(image), image.len() as u32), SLOT_B).unwrap();
        file.write_all_at(image, SLOT_B + IMAGE_AT as u64).unwrap();
        file.write_all_at(&SWAP, STATE).unwrap();
    }
}

/// The same program under another number.
fn renumbered(image: &[u8], version: u32) -> Vec<u8> {
    let head = ImageHead { board: AN386, version }.encode().unwrap();
    [&head[..], &image[head.len()..]].concat()
}

/// The image with other code at its first instruction.
fn beginning_with(mut image: Vec<u8>, code: &[u8]) -> Vec<u8> {
    let program = PROGRAM_OFFSET as usize - IMAGE_AT;
    let start = u32::from_le_bytes(image[program + 4..program + 8].try_into().unwrap()) & !1;
    let at = (start - SLOT_ADDRESS) as usize - IMAGE_AT;
    image[at..at + code.len()].copy_from_slice(code);
    image
}

#[test]
fn an_image_is_swapped_in_for_one_start_and_the_reset_line_takes_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let flash = Flash::new(folder.path());
    let first = flash.image();
    flash.update(&renumbered(&first, 2));
    let mut board = flash.power_up();
    board.wait_line("boot: swapping");
    board.wait_line("boot: version 2, for a trial");
    board.wait_line("fulmar on qemu-mps2-an386");
    board.control("system_reset");
    board.wait_line("boot: taking back");
    board.wait_line("boot: version 1, after one that was not confirmed");
    board.wait_line("fulmar on qemu-mps2-an386");
    board.cut_power();
    assert!(flash.image() == first, "it is what it was, byte for byte");
}

#[test]
fn an_image_that_hangs_before_it_has_a_watchdog_of_its_own_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let flash = Flash::new(folder.path());
    flash.update(&beginning_with(renumbered(&flash.image(), 2), &SPIN));
    let mut board = flash.power_up();
    board.wait_line("boot: version 2, for a trial");
    board.wait_line("boot: version 1, after one that was not confirmed");
    board.wait_line("reset: ");
    board.wait_line("network: ");
}

#[test]
fn an_image_that_faults_is_taken_back_and_the_next_one_says_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let flash = Flash::new(folder.path());
    flash.update(&renumbered(&flash.image(), 2));
    let mut board = flash.power_up();
    board.wait_line("boot: version 2, for a trial");
    board.wait_line("network: ");
    board.jump(PC, UNUSED, &UNDEFINED);
    board.wait_line("boot: version 1, after one that was not confirmed");
    board.wait_line("reset: Panic at 0x20200000, 1 since power came");
    board.wait_line("last words: fault");
}

#[test]
fn a_damaged_or_foreign_image_is_never_moved() {
    let folder = tempfile::tempdir().unwrap();
    let flash = Flash::new(folder.path());
    let mut damaged = renumbered(&flash.image(), 2);
    flash.update(&damaged);
    damaged[5000] ^= 1;
    OpenOptions::new().write(true).open(&flash.0).unwrap().write_all_at(&damaged, SLOT_B + IMAGE_AT as u64).unwrap();
    let mut board = flash.power_up();
    board.wait_line("boot: version 1, what was to replace it is not whole");
    board.wait_line("fulmar on qemu-mps2-an386");
}

#[test]
fn power_that_goes_while_slots_are_swapped_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let flash = Flash::new(folder.path());
    flash.update(&renumbered(&flash.image(), 2));
    let page = |file: &std::fs::File, number: u64| {
        let mut word = [0; 4];
        file.read_exact_at(&mut word, STATE + (2 + number) * 4).unwrap();
        word != [0xff; 4]
    };
    let file = OpenOptions::new().read(true).open(&flash.0).unwrap();
    // The loader notes each page that it moved; the power goes when it has come so far. A machine that is busy sees it late.
    let mut cuts = 0;
    for pages in [3, 40, 150, 300] {
        if page(&file, LAST_PAGE) {
            break;
        }
        let mut board = flash.power_up();
        board.wait_line("boot: swapping");
        let begin = std::time::Instant::now();
        while !page(&file, pages) {
            assert!(begin.elapsed() < tests::harness::PATIENCE, "page {pages} is not moved");
            std::thread::yield_now();
        }
        board.cut_power();
        cuts += u32::from(!page(&file, LAST_PAGE));
    }
    assert!(cuts > 0, "no cut came before the end of the swap");
    let mut board = flash.power_up();
    if page(&file, LAST_PAGE) {
        // The last cut came behind the last mark: that was the one start.
        board.wait_line("boot: taking back");
        board.wait_line("fulmar on qemu-mps2-an386");
        return;
    }
    board.wait_line("boot: version 2, for a trial");
    board.wait_line("fulmar on qemu-mps2-an386");
    board.cut_power();
    let mut board = flash.power_up();
    board.wait_line("boot: version 1, after one that was not confirmed");
    board.wait_line("fulmar on qemu-mps2-an386");
}
