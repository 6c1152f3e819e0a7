//! A slot takes an image at its beginning or not at all, whatever lay there, and tells a whole one from any other.
use super::mock::{MockFlash, TORN};
use crate::machine::port::FetchFailure;
use crate::store::slot::{PROGRAM_OFFSET, Slot, slot_head};
use crate::transfer::Sink;
use embedded_storage::nor_flash::NorFlash;
use std::vec::Vec;
use wire::Digest;
use wire::firmware::ImageHead;

const BOARD: &str = "garden-node";
type Small = MockFlash<4, 512>;

fn image(version: u32, program: usize) -> Vec<u8> {
    let head = ImageHead { board: BOARD, version }.encode().unwrap();
    head.into_iter().chain((0..program).map(|at| (at * 7 + version as usize) as u8)).collect()
}

fn fetch<F: NorFlash>(slot: &mut Slot<F>, image: &[u8]) -> Result<(), FetchFailure> {
    for _ in 0..4 {
        let mut at = slot.begin(&Digest::of(image), image.len() as u32)? as usize;
        while at < image.len() && slot.append(at as u32, &image[at..image.len().min(at + 300)]).is_ok() {
            at = image.len().min(at + 300);
        }
        if at == image.len() {
            return slot.finish();
        }
    }
    Err(FetchFailure::Absent)
}

fn version<F: NorFlash>(slot: &mut Slot<F>) -> Option<u32> {
    slot.image(BOARD).map(|image| image.version)
}

#[test]
fn an_image_is_at_the_beginning_and_its_program_where_it_runs_from() {
    let mut slot = Slot::open(Small::new(8));
    assert_eq!(version(&mut slot), None);
    let bytes = image(3, 1500);
    fetch(&mut slot, &bytes).unwrap();
    let found = slot.image(BOARD).unwrap();
    assert_eq!((found.version, found.bytes, found.digest), (3, bytes.len() as u32, Digest::of(&bytes)));
    assert_eq!(slot.image("another-board"), None);
    let flash = slot.into_flash();
    let program = &bytes[bytes.len() - 1500..];
    assert!(flash.bytes[PROGRAM_OFFSET as usize..].starts_with(program));
    // What is written from outside is the same.
    let outside = [&slot_head(&found.digest, found.bytes)[..], &bytes].concat();
    assert!(flash.bytes[..64] == outside[..64] && flash.bytes[256..].starts_with(&outside[256..]));
}

#[test]
fn the_image_that_a_swap_left_one_sector_further_on_gives_way() {
    let mut slot = Slot::open(Small::new(8));
    fetch(&mut slot, &image(1, 1500)).unwrap();
    let mut flash = slot.into_flash();
    flash.bytes.rotate_right(512);
    let mut slot = Slot::open(flash);
    assert_eq!(version(&mut slot), None, "a program could not run there");
    fetch(&mut slot, &image(2, 1900)).unwrap();
    assert_eq!(version(&mut slot), Some(2));
}

#[test]
fn one_changed_bit_or_another_board_is_no_image() {
    let mut slot = Slot::open(Small::new(8));
    let bytes = image(1, 600);
    fetch(&mut slot, &bytes).unwrap();
    let flash = slot.into_flash();
    for at in (0..256 + bytes.len()).filter(|at| !(64..256).contains(at)).step_by(11) {
        let mut bent = flash.clone();
        bent.bytes[at] ^= 4;
        assert_eq!(version(&mut Slot::open(bent)), None, "byte {at}");
    }
}

#[test]
fn a_slot_whose_beginning_is_spoiled_takes_nothing() {
    let mut flash = Small::new(8);
    flash.worn = std::vec![0];
    let mut slot = Slot::open(flash);
    assert_eq!(fetch(&mut slot, &image(1, 600)), Err(FetchFailure::NoSpace));
    let mut slot = Slot::open(Small::new(8));
    assert_eq!(fetch(&mut slot, &image(1, 8 * 512)), Err(FetchFailure::NoSpace), "it is too long");
}

#[test]
fn a_fetch_goes_on_after_a_cut_at_every_operation() {
    let (old, new) = (image(1, 1500), image(2, 1700));
    let mut slot = Slot::open(Small::new(8));
    fetch(&mut slot, &old).unwrap();
    let begun = slot.into_flash();
    let mut uncut = Slot::open(begun.clone());
    fetch(&mut uncut, &new).unwrap();
    let operations = uncut.into_flash().operations - begun.operations;
    assert!(operations > 10, "{operations}");
    for torn in TORN {
        for cut in 0..operations {
            let mut slot = Slot::open(begun.clone().cut_at(cut, torn));
            // Ends in an error, as all does without power.
            assert!(fetch(&mut slot, &new).is_err());
            let mut slot = Slot::open(slot.into_flash().reboot());
            fetch(&mut slot, &new).unwrap();
            assert_eq!(version(&mut slot), Some(2), "{torn:?} at {cut}");
        }
    }
}
