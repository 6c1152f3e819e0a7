//! The two slots of an emulated board, with the boot code and the firmware that ship, over real resets and losses of power.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use tests::harness::slots::{
    Flash, IMAGE_AT, LAST_PAGE, PC, SLOT_B, SPIN, TIMER_VALUE, UNDEFINED, UNUSED, beginning_with, estranged, renumbered,
};

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

/// What says the time to the log is then in the middle of it, as it may be when the watchdog's interrupt or a fault comes.
#[test]
fn a_fault_while_the_time_is_read_leaves_its_record() {
    let folder = tempfile::tempdir().unwrap();
    let flash = Flash::new(folder.path());
    let mut board = flash.power_up();
    board.wait_line("network: ");
    board.jump_when_it_reads(TIMER_VALUE, PC, UNUSED, &UNDEFINED);
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
    // The loader notes each page that it moved; the power goes when it has come so far. A machine that is busy sees it late.
    let mut cuts = 0;
    for pages in [3, 40, 150, 300] {
        if flash.has_moved(LAST_PAGE) {
            break;
        }
        let mut board = flash.power_up();
        board.wait_line("boot: swapping");
        let begin = std::time::Instant::now();
        while !flash.has_moved(pages) {
            assert!(begin.elapsed() < tests::harness::PATIENCE, "page {pages} is not moved");
            std::thread::yield_now();
        }
        board.cut_power();
        cuts += u32::from(!flash.has_moved(LAST_PAGE));
    }
    assert!(cuts > 0, "no cut came before the end of the swap");
    let mut board = flash.power_up();
    if flash.has_moved(LAST_PAGE) {
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

#[test]
fn an_image_that_faults_at_its_first_instruction_or_takes_itself_for_another_board_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let flash = Flash::new(folder.path());
    let first = flash.image();
    flash.update(&beginning_with(renumbered(&first, 2), &UNDEFINED));
    let mut board = flash.power_up();
    board.wait_line("boot: version 2, for a trial");
    board.wait_line("boot: version 1, after one that was not confirmed");
    board.wait_line("network: ");
    board.cut_power();
    // It runs, and never confirms anything: nobody feeds its watchdog.
    flash.update(&estranged(&renumbered(&first, 3)));
    let mut board = flash.power_up();
    board.wait_line("boot: version 3, for a trial");
    board.wait_line("firmware: on trial, and for another board");
    board.wait_line("boot: version 1, after one that was not confirmed");
    board.wait_line("reset: Watchdog");
    board.wait_line("firmware: version 1");
}
