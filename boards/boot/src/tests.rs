//! The boot code on a flash that loses its power at every operation: there is always an image that starts, and it is one of the two.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
#[path = "../../../agent-nostd/src/store/tests/mock.rs"]
mod mock;

use super::*;
use crate::flash::Fed;
use agent_nostd::store::Partition as Part;
use agent_nostd::store::slot::slot_head;
use drivers::watchdog::Watchdog;
use embedded_storage::nor_flash::ReadNorFlash;
use mock::{MockFlash, TORN, Torn};
use std::rc::Rc;
use std::vec::Vec;
use wire::Digest;
use wire::firmware::ImageHead;

const BOARD: &str = "garden-node";
const SECTOR: u32 = 512;
const PAGES: u32 = 3;
const TABLE: [Partition; 3] = [
    Partition { name: RUNNING, offset: 0, bytes: PAGES * SECTOR },
    Partition { name: OTHER, offset: PAGES * SECTOR, bytes: (PAGES + 1) * SECTOR },
    Partition { name: STATE, offset: (2 * PAGES + 1) * SECTOR, bytes: 2 * SECTOR },
];
const SECTORS: usize = (2 * PAGES + 3) as usize;
type Mock = MockFlash<4, { SECTOR as usize }>;

fn slot_of(board: &str, version: u32) -> Vec<u8> {
    let head = ImageHead { board, version }.encode().unwrap();
    let image: Vec<u8> = head.into_iter().chain((0..400u32).map(|at| (at * 7 + version) as u8)).collect();
    [&slot_head(&Digest::of(&image), image.len() as u32)[..], &image].concat()
}

/// A flash with these images, nothing marked.
fn flash_with(running: &[u8], other: &[u8]) -> Mock {
    let mut flash = Mock::new(SECTORS);
    for (place, content) in [(TABLE[0], running), (TABLE[1], other)] {
        flash.write(place.offset, content).unwrap();
    }
    flash
}

fn marked() -> Mock {
    marking(flash_with(&slot_of(BOARD, 1), &slot_of(BOARD, 2))).1
}

/// Power is there until it is cut; then the flash comes back as it is.
fn with<T>(flash: Mock, act: impl FnOnce(&RefCell<Mock>) -> T) -> (T, Mock) {
    let flash = RefCell::new(flash);
    let result = act(&flash);
    (result, flash.into_inner().reboot())
}

fn boot(flash: Mock) -> (Result<Ready, Fault>, Mock) {
    with(flash, |flash| prepare(flash, &TABLE, BOARD, |_| ()))
}

fn marking(flash: Mock) -> (bool, Mock) {
    with(flash, |flash| mark(Sure(Part::new(flash, TABLE[2].offset, TABLE[2].bytes).unwrap())))
}

fn confirming(flash: Mock) -> (bool, Mock) {
    with(flash, |flash| confirm(Sure(Part::new(flash, TABLE[2].offset, TABLE[2].bytes).unwrap())))
}

fn started(flash: Mock) -> (u32, Done, Mock) {
    let (ready, flash) = boot(flash);
    let ready = ready.expect("something starts");
    assert_eq!(flash.violations, 0, "a unit was programmed twice");
    (ready.image.version, ready.done, flash)
}

/// Every torn operation of `act`, with the flash that it leaves.
fn cuts(from: &Mock, act: impl Fn(Mock) -> Mock, mut see: impl FnMut(Torn, u64, Mock)) {
    let operations = act(from.clone()).operations - from.operations;
    assert!(operations > 2, "{operations}");
    for torn in TORN {
        for cut in 0..operations {
            see(torn, cut, act(from.clone().cut_at(cut, torn)));
        }
    }
}

#[test]
fn an_update_is_swapped_in_tried_and_confirmed_or_taken_back() {
    let (version, done, trial) = started(marked());
    assert_eq!((version, done), (2, Done::Swapped));
    let (confirmed, flash) = confirming(trial.clone());
    assert!(confirmed);
    let (version, done, flash) = started(flash);
    assert_eq!((version, done), (2, Done::Nothing));
    assert_eq!(started(flash).0, 2);
    // A start without a confirmation is the only one.
    let (version, done, flash) = started(trial);
    assert_eq!((version, done), (1, Done::Reverted));
    let (version, done, _) = started(flash);
    assert_eq!((version, done), (1, Done::Nothing));
}

#[test]
fn an_image_that_came_back_can_be_marked_again() {
    let (_, _, trial) = started(marked());
    let (_, _, flash) = started(trial);
    let (is_marked, flash) = marking(flash);
    assert!(is_marked);
    let (version, done, flash) = started(flash);
    assert_eq!((version, done), (2, Done::Swapped));
    assert_eq!(started(confirming(flash).1).0, 2);
}

#[test]
fn c19_a_cut_at_each_operation_of_the_swap_leaves_an_image_that_starts() {
    let mut came_back = 0;
    cuts(
        &marked(),
        |flash| boot(flash).1,
        |torn, cut, flash| {
            let (version, done, flash) = started(flash);
            match done {
                Done::Swapped => assert_eq!(version, 2, "{torn:?} at {cut}"),
                // The last mark was there already: that start counts as the one that there is.
                Done::Reverted => came_back += 1,
                Done::Nothing | Done::Refused => panic!("{torn:?} at {cut}: {done:?}"),
            }
            assert_eq!(started(flash).0, 1, "{torn:?} at {cut}: it was not confirmed");
        },
    );
    assert!(came_back <= TORN.len(), "only after the last operation: {came_back}");
}

#[test]
fn c19_a_cut_at_each_operation_of_taking_back_ends_with_the_old_image() {
    let (_, _, trial) = started(marked());
    cuts(
        &trial,
        |flash| boot(flash).1,
        |torn, cut, flash| {
            let (version, _, flash) = started(flash);
            assert_eq!(version, 1, "{torn:?} at {cut}");
            assert_eq!(started(flash).0, 1, "{torn:?} at {cut}");
        },
    );
}

#[test]
fn c19_a_second_cut_at_each_operation_after_each_first_one_leaves_an_image_that_starts() {
    let (_, _, trial) = started(marked());
    for from in [marked(), trial] {
        cuts(
            &from,
            |flash| boot(flash).1,
            |first, at, once| {
                let operations = boot(once.clone()).1.operations - once.operations;
                for (second, cut) in TORN.into_iter().flat_map(|torn| (0..operations).map(move |cut| (torn, cut))) {
                    let (_, twice) = boot(once.clone().cut_at(cut, second));
                    let (version, _, flash) = started(twice);
                    assert!([1, 2].contains(&version));
                    assert_eq!(started(started(flash).2).0, 1, "{first:?} at {at}, {second:?} at {cut}");
                }
            },
        );
    }
}

#[test]
fn c19_a_cut_while_it_is_marked_or_confirmed_leaves_an_image_that_stays() {
    let unmarked = flash_with(&slot_of(BOARD, 1), &slot_of(BOARD, 2));
    let (_, _, trial) = started(marked());
    // As the state is left by a confirmation.
    let (_, after) = confirming(marked());
    for from in [&unmarked, &after] {
        cuts(
            from,
            |flash| marking(flash).1,
            |torn, cut, flash| {
                let (_, done, flash) = started(flash);
                if done == Done::Swapped {
                    return;
                }
                // Not marked; and it can be marked again.
                let (is_marked, flash) = marking(flash);
                assert!(is_marked, "{torn:?} at {cut}");
                assert_eq!(started(flash).1, Done::Swapped, "{torn:?} at {cut}");
            },
        );
    }
    cuts(
        &trial,
        |flash| confirming(flash).1,
        |torn, cut, flash| {
            let (version, _, flash) = started(flash);
            assert_eq!(started(flash).0, version, "{torn:?} at {cut}: what starts twice stays");
        },
    );
}

#[test]
fn what_is_not_whole_or_for_another_board_is_not_swapped_in() {
    let mut bent = slot_of(BOARD, 2);
    *bent.last_mut().unwrap() ^= 1;
    let foreign = slot_of("another-board", 2);
    for other in [&bent[..], &foreign[..], &[0xff; 4][..]] {
        let (is_marked, flash) = marking(flash_with(&slot_of(BOARD, 1), other));
        assert!(is_marked);
        let (version, done, flash) = started(flash);
        assert_eq!((version, done), (1, Done::Refused));
        assert_eq!(started(flash).1, Done::Nothing);
    }
}

#[test]
fn an_image_that_rotted_in_its_place_is_taken_back_or_not_started() {
    let (_, _, mut trial) = started(marked());
    let last = slot_of(BOARD, 2).len() - 1;
    trial.bytes[last] ^= 1;
    assert_eq!(started(trial).0, 1);
    let mut alone = flash_with(&slot_of(BOARD, 1), &[0xff; 4]);
    alone.bytes[last] ^= 1;
    let (fault, alone) = boot(alone);
    assert_eq!(fault, Err(Fault::NoImage));
    assert_eq!(boot(alone).0, Err(Fault::NoImage), "whoever flashes it helps");
}

#[test]
fn a_sector_that_takes_nothing_keeps_the_image_that_is_whole() {
    for worn in 0..SECTORS {
        let mut flash = marked();
        flash.worn = std::vec![worn];
        for _ in 0..4 {
            let (result, after) = boot(flash);
            if let Ok(ready) = result {
                assert!([1, 2].contains(&ready.image.version));
            }
            flash = after;
        }
    }
}

#[test]
fn partitions_that_the_loader_would_panic_about_are_a_fault() {
    let flash = RefCell::new(marked());
    let bent = |index: usize, bytes: u32| {
        let mut table = TABLE;
        table[index].bytes = bytes;
        table
    };
    for table in [&TABLE[..2], &bent(1, PAGES * SECTOR), &bent(2, 0), &bent(2, 9 * SECTOR), &bent(0, 100)] {
        assert_eq!(prepare(&flash, table, BOARD, |_| panic!("nothing is moved")), Err(Fault::Partitions));
    }
}

#[derive(Default)]
struct Counted(Rc<core::cell::Cell<u32>>);

impl Watchdog for Counted {
    fn feed(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn the_watchdog_is_fed_at_each_operation_of_a_swap() {
    let fed = Rc::new(core::cell::Cell::new(0));
    let before = marked();
    let flash = RefCell::new(Fed { flash: before.clone(), watchdog: Counted(fed.clone()) });
    prepare(&flash, &TABLE, BOARD, |_| ()).unwrap();
    let mut flash = flash.into_inner();
    assert!(u64::from(fed.get()) > flash.flash.operations - before.operations);
    // An erasure of several sectors is one step for each.
    let count = fed.get();
    flash.erase(0, 2 * SECTOR).unwrap();
    assert_eq!(fed.get(), count + 2);
    assert_eq!(flash.capacity(), SECTORS * SECTOR as usize);
}
