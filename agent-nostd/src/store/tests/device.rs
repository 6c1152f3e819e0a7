//! Journal and artifacts behind the shell's own trait.
use super::mock::MockFlash;
use crate::machine::port::{FetchFailure, JournalKey};
use crate::shell::port::{Key, Store, StoreError};
use crate::store::device::Flash;
use crate::store::limits::STATES_MAX;
use wire::Digest;

type Small = MockFlash<4, 1024>;

fn flash() -> Flash<Small, Small> {
    Flash::open(Small::new(8), Small::new(16))
}

fn again(flash: Flash<Small, Small>) -> Flash<Small, Small> {
    let (journal, artifacts) = flash.into_flash();
    Flash::open(journal, artifacts)
}

fn state(instance: u16) -> Key {
    Key::State { workload: 7, component: 1, instance }
}

fn load(flash: &mut Flash<Small, Small>, key: Key) -> Option<std::vec::Vec<u8>> {
    let mut out = [0; 600];
    flash.load(key, &mut out).unwrap().map(|length| out[..length].to_vec())
}

#[test]
fn values_are_kept_by_key_over_a_restart() {
    let mut flash = flash();
    let keys = [Key::Journal(JournalKey::Accepted), Key::Journal(JournalKey::Clock), Key::Identity, state(0), state(1)];
    for (number, key) in keys.into_iter().enumerate() {
        assert_eq!(flash.load(key, &mut []), Ok(None));
        flash.save(key, &[number as u8; 9]).unwrap();
    }
    let mut flash = again(flash);
    for (number, key) in keys.into_iter().enumerate() {
        assert_eq!(load(&mut flash, key).unwrap(), [number as u8; 9]);
    }
    assert_eq!(flash.load(Key::Identity, &mut [0; 8]), Err(StoreError::TooLong));
    flash.remove(Key::Identity).unwrap();
    flash.remove(state(0)).unwrap();
    flash.remove(state(5)).unwrap();
    let mut flash = again(flash);
    assert_eq!((load(&mut flash, Key::Identity), load(&mut flash, state(0))), (None, None));
    assert_eq!(load(&mut flash, state(1)).unwrap(), [4; 9]);
}

#[test]
fn what_was_removed_stays_removed_when_the_bank_changes() {
    let mut flash = flash();
    flash.save(Key::Identity, b"secret of a fleet that this device has left").unwrap();
    flash.remove(Key::Identity).unwrap();
    for step in 0..400u32 {
        flash.save(Key::Journal(JournalKey::Clock), &step.to_le_bytes()).unwrap();
        if step % 50 == 0 {
            flash = again(flash);
            assert_eq!(load(&mut flash, Key::Identity), None, "step {step}");
        }
    }
    assert!(flash.wear().0.erases_per_sector > 1);
}

#[test]
fn memories_of_functions_are_limited_in_number_and_go_with_their_workload() {
    let mut flash = flash();
    for instance in 0..STATES_MAX as u16 {
        flash.save(state(instance), &instance.to_le_bytes()).unwrap();
    }
    assert_eq!(flash.save(state(99), b"x"), Err(StoreError::NoSpace));
    flash.save(state(3), b"known ones go on").unwrap();
    flash.retain_states(&mut |workload, component| (workload, component) != (7, 1)).unwrap();
    assert_eq!(load(&mut flash, state(3)), None);
    flash.save(Key::State { workload: 8, component: 0, instance: 0 }, b"new").unwrap();
    flash.retain_states(&mut |workload, _| workload == 8).unwrap();
    let mut flash = again(flash);
    assert_eq!(load(&mut flash, Key::State { workload: 8, component: 0, instance: 0 }).unwrap(), b"new");
}

#[test]
fn an_artifact_comes_in_parts_is_held_read_and_collected() {
    let mut flash = flash();
    let content: std::vec::Vec<u8> = (0..3000).map(|at| at as u8).collect();
    let digest = Digest::of(&content);
    assert!(!flash.holds(&digest, 3000));
    assert_eq!(flash.sink().begin(&digest, 3000), Ok(0));
    flash.sink().append(0, &content[..2000]).unwrap();
    let mut flash = again(flash);
    let there = flash.sink().begin(&digest, 3000).unwrap();
    // The granule that was being filled was in memory, and the one before may be torn.
    assert!((1488..=2000).contains(&there), "{there}");
    flash.sink().append(there, &content[there as usize..]).unwrap();
    flash.sink().finish().unwrap();
    assert!(flash.holds(&digest, 3000));
    let mut part = [0; 10];
    Store::read(&mut flash, &digest, 2990, &mut part).unwrap();
    assert_eq!(part, content[2990..]);
    let erased = flash.wear().1.erases_per_sector;
    assert!(erased > 0);
    let mut flash = again(flash);
    assert_eq!(flash.wear().1.erases_per_sector, erased, "wear is counted over restarts");
    let free = flash.artifact_bytes().1;
    assert_eq!(flash.collect(&mut |_| false), Ok(1));
    assert!(!flash.holds(&digest, 3000) && flash.artifact_bytes().1 > free);
}

#[test]
fn another_content_than_was_asked_for_is_refused_and_forgotten() {
    let mut flash = flash();
    let digest = Digest::of(b"right");
    flash.sink().begin(&digest, 5).unwrap();
    flash.sink().append(0, b"wrong").unwrap();
    assert_eq!(flash.sink().finish(), Err(FetchFailure::HashMismatch));
    flash.sink().discard();
    assert_eq!(flash.sink().begin(&digest, 5), Ok(0), "from the start");
}
