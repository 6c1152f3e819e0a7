//! The journal under cuts at every operation, rot of every bit, and sectors that wear out.
use super::mock::{MockFlash, TORN, Torn};
use crate::machine::port::{JournalKey, PersistFailure};
use crate::store::journal::{Journal, Key};
use std::collections::BTreeMap;
use std::vec::Vec;

type Small = MockFlash<4, 512>;

fn value(journal: &mut Journal<impl embedded_storage::nor_flash::NorFlash>, key: impl Into<Key>) -> Option<Vec<u8>> {
    let mut into = [0; 4096];
    journal.load(key, &mut into).map(<[u8]>::to_vec)
}

/// Writes of several keys and lengths, over several changes of the bank: number, key, value.
fn script() -> Vec<(Key, Vec<u8>)> {
    let keys = [JournalKey::Accepted, JournalKey::Boot, JournalKey::Attempts, JournalKey::LastGood, JournalKey::Clock];
    (0..24u8)
        .map(|step| {
            let key = keys[usize::from(step) % keys.len()];
            let length = [300, 5, 40, 260, 16][usize::from(step) % keys.len()] + usize::from(step % 3);
            (Key::from(key), (0..length).map(|at| step.wrapping_mul(31) ^ at as u8).collect())
        })
        .collect()
}

/// Does the script as far as the power lasts: what was acknowledged, and what was being written when it went.
type Truth = BTreeMap<Key, Vec<u8>>;
fn run<const W: usize, const E: usize>(
    flash: MockFlash<W, E>,
    script: &[(Key, Vec<u8>)],
) -> (MockFlash<W, E>, Truth, Option<(Key, Vec<u8>)>) {
    let mut journal = Journal::open(flash);
    let mut truth = Truth::new();
    for (key, new) in script {
        if journal.persist(*key, new).is_err() {
            return (journal.into_flash(), truth, Some((*key, new.clone())));
        }
        truth.insert(*key, new.clone());
    }
    (journal.into_flash(), truth, None)
}

/// Every key has its acknowledged value, or the one that was being written.
fn check<const W: usize, const E: usize>(
    flash: MockFlash<W, E>,
    truth: &Truth,
    pending: Option<&(Key, Vec<u8>)>,
    at: &str,
) -> MockFlash<W, E> {
    let mut journal = Journal::open(flash);
    for (key, acknowledged) in truth {
        let found = value(&mut journal, *key);
        let is_pending = pending.is_some_and(|(of, new)| of == key && found.as_ref() == Some(new));
        assert!(found.as_ref() == Some(acknowledged) || is_pending, "{at}: {key:?} stepped back to {found:?}");
    }
    journal.into_flash()
}

#[test]
fn the_last_value_of_each_key_is_read_back() {
    let (flash, truth, pending) = run(Small::new(8), &script());
    assert_eq!(pending, None);
    assert!(flash.erases.len() == 8, "the script is to change banks, both of them: {:?}", flash.erases);
    let flash = check(flash, &truth, None, "whole");
    assert_eq!(flash.violations, 0, "a unit was programmed twice");
    let mut journal = Journal::open(flash);
    assert_eq!(value(&mut journal, JournalKey::Alarms), None);
    assert_eq!(journal.length(JournalKey::Boot), truth.get(&JournalKey::Boot.into()).map(Vec::len));
}

#[test]
fn every_programming_unit_works() {
    fn works<const W: usize, const E: usize>() {
        let (flash, truth, pending) = run(MockFlash::<W, E>::new(8), &script());
        assert_eq!((pending, flash.violations), (None, 0), "unit {W}");
        check(flash, &truth, None, "whole");
    }
    works::<1, 512>();
    works::<2, 512>();
    works::<8, 512>();
    works::<16, 1024>();
    works::<32, 4096>();
}

/// Every cut of the script, each way an operation can be torn; then everything goes on as if nothing had been.
fn cut_everywhere<const W: usize, const E: usize>(sectors: usize) {
    let script = script();
    let (whole, _, _) = run(MockFlash::<W, E>::new(sectors), &script);
    assert!(whole.operations > 40, "{}", whole.operations);
    for torn in TORN {
        for operation in 0..whole.operations {
            let at = std::format!("{torn:?} at operation {operation}");
            let (flash, truth, pending) = run(MockFlash::<W, E>::new(sectors).cut_at(operation, torn), &script);
            assert!(pending.is_some(), "{at}: the cut was not noticed");
            let flash = check(flash.reboot(), &truth, pending.as_ref(), &at);
            let (flash, after, failed) = run(flash, &script);
            assert_eq!(failed, None, "{at}: a value is refused after the cut");
            let flash = check(flash, &after, None, &at);
            assert_eq!(flash.violations, 0, "{at}: a unit was programmed twice");
        }
    }
}

#[test]
fn c20_a_cut_at_every_operation_leaves_the_old_value_or_the_new_one() {
    cut_everywhere::<4, 512>(8);
}

#[test]
fn c20_also_where_the_smallest_unit_is_a_byte_or_32() {
    cut_everywhere::<1, 2048>(2);
    cut_everywhere::<32, 2048>(2);
}

#[test]
fn c20_a_second_cut_while_the_first_is_repaired_takes_nothing() {
    let script = script();
    let (whole, _, _) = run(Small::new(8), &script);
    // Around each change of the bank, where most is at stake: the first cut there, the second within the next ten operations.
    for torn in [Torn::Bits, Torn::Zeroes] {
        for first in 0..whole.operations {
            let (flash, truth, pending) = run(Small::new(8).cut_at(first, torn), &script);
            let flash = check(flash.reboot(), &truth, pending.as_ref(), "first");
            for second in 0..10 {
                let at = std::format!("{torn:?} at {first}, then at {second}");
                let mut journal = Journal::open(flash.clone().cut_at(second, torn));
                let key = Key::from(JournalKey::Clock);
                let written = journal.persist(key, b"another");
                let mut expected = truth.clone();
                let mut pending = pending.clone();
                if written.is_ok() {
                    expected.insert(key, b"another".to_vec());
                } else if expected.contains_key(&key) && pending.as_ref().is_none_or(|(of, _)| *of != key) {
                    // Either of them may be there now.
                    expected.remove(&key);
                } else if pending.as_ref().is_some_and(|(of, _)| *of == key) {
                    expected.remove(&key);
                    pending = None;
                }
                check(journal.into_flash().reboot(), &expected, pending.as_ref(), &at);
            }
        }
    }
}

#[test]
fn a_bit_that_rots_costs_its_own_value_at_most() {
    let script = script();
    let (flash, truth, _) = run(Small::new(8), &script);
    let history =
        |key: &Key| script.iter().filter(|(of, _)| of == key).map(|(_, value)| value.clone()).collect::<Vec<_>>();
    let mut stepped_back = 0;
    for bit in 0..flash.bytes.len() * 8 {
        let mut rotten = flash.clone();
        rotten.bytes[bit / 8] ^= 1 << (bit % 8);
        let mut journal = Journal::open(rotten);
        let mut wrong = 0;
        for (key, newest) in &truth {
            let found = value(&mut journal, *key);
            if found.as_ref() != Some(newest) {
                wrong += 1;
                let older = history(key);
                assert!(found.is_none_or(|found| older.contains(&found)), "bit {bit}: a value that never was");
            }
        }
        assert!(wrong <= 1, "bit {bit}: {wrong} values were lost");
        stepped_back += wrong;
        journal.persist(JournalKey::Boot, b"goes on").expect("a journal with a rotten bit takes values");
    }
    assert!(stepped_back > 0, "no bit mattered: the test looks at nothing");
}

#[test]
fn bytes_within_a_value_are_never_taken_for_a_record() {
    // A workload that knows the format, and a cut that makes the walk look inside of its value.
    let forged = |sequence: u64| {
        let mut bytes = std::vec![0; 8];
        bytes.extend(crate::journal::seal(JournalKey::Accepted, sequence, b"forged"));
        bytes.extend(b"forged");
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    for torn in TORN {
        let mut journal = Journal::open(Small::new(8));
        journal.persist(JournalKey::Accepted, b"true").unwrap();
        let hostile: Vec<u8> = (0..8).flat_map(|_| forged(1000)).collect();
        let mut journal = Journal::open(journal.into_flash().cut_at(0, torn));
        let _ = journal.persist(JournalKey::Alarms, &hostile);
        let mut journal = Journal::open(journal.into_flash().reboot());
        assert_eq!(value(&mut journal, JournalKey::Accepted).unwrap(), b"true", "{torn:?}");
    }
}

#[test]
fn a_worn_sector_costs_writes_and_neither_values_nor_the_start() {
    let script = script();
    for sector in 0..8 {
        let mut flash = Small::new(8);
        flash.worn.push(sector);
        let (flash, truth, pending) = run(flash, &script);
        assert!(pending.is_some(), "sector {sector} is never erased");
        let flash = check(flash, &truth, None, "worn");
        let mut journal = Journal::open(flash);
        // For ever: it neither comes back by itself nor takes what is there.
        for _ in 0..20 {
            assert_eq!(
                journal.persist(pending.as_ref().unwrap().0, &pending.as_ref().unwrap().1),
                Err(PersistFailure::Storage)
            );
        }
        assert!(journal.wear().failures >= 20);
        check(journal.into_flash(), &truth, None, "worn, later");
    }
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_erased() {
    let mut journal = Journal::open(Small::new(4));
    assert_eq!(journal.room(), 1024 - 64);
    journal.persist(JournalKey::Accepted, &[7; 500]).unwrap();
    assert_eq!(journal.persist(JournalKey::LastGood, &[8; 500]), Err(PersistFailure::NoSpace));
    assert_eq!(journal.persist(JournalKey::LastGood, &[8; 960]), Err(PersistFailure::NoSpace));
    journal.persist(JournalKey::LastGood, &[8; 396]).unwrap();
    let flash = journal.into_flash();
    let erases = flash.erases.clone();
    let mut journal = Journal::open(flash);
    assert_eq!(journal.persist(JournalKey::Boot, b"one more"), Err(PersistFailure::NoSpace));
    assert_eq!(value(&mut journal, JournalKey::Accepted).unwrap(), [7; 500]);
    assert_eq!(journal.into_flash().erases, erases);
}

#[test]
fn the_number_of_keys_is_limited() {
    let mut journal = Journal::open(MockFlash::<4, 4096>::new(2));
    for number in 0..crate::store::limits::KEYS_MAX as u8 {
        journal.persist(Key::own(number), &[number]).unwrap();
    }
    assert_eq!(journal.persist(Key::own(40), b"x"), Err(PersistFailure::NoSpace));
    journal.persist(Key::own(3), b"known ones go on").unwrap();
}

#[test]
fn a_flash_that_cannot_be_used_refuses_and_does_not_stop_the_device() {
    let mut journal = Journal::open(MockFlash::<64, 512>::new(4));
    assert_eq!(journal.persist(JournalKey::Boot, b"x"), Err(PersistFailure::Storage));
    assert_eq!(value(&mut journal, JournalKey::Boot), None);
    let mut journal = Journal::open(Small::new(1));
    assert_eq!(journal.persist(JournalKey::Boot, b"x"), Err(PersistFailure::Storage));
    let mut off = Small::new(4);
    off.is_off = true;
    let mut journal = Journal::open(off);
    assert_eq!(journal.persist(JournalKey::Boot, b"x"), Err(PersistFailure::Storage));
}

#[test]
fn wear_is_what_the_flash_counted() {
    let mut journal = Journal::open(Small::new(4));
    for step in 0..400u32 {
        journal.persist(JournalKey::Clock, &step.to_le_bytes()).unwrap();
    }
    let said = journal.wear();
    let flash = journal.into_flash();
    let most = flash.erases.values().copied().max().unwrap();
    assert_eq!((said.erases_per_sector, said.failures), (most, 0));
    assert!(most > 5);
    assert_eq!(Journal::open(flash).wear(), said, "it is durable");
}

#[test]
fn a_journal_of_junk_is_an_empty_one() {
    for fill in [0x00, 0x55, 0xa5] {
        let mut flash = Small::new(4);
        flash.bytes.fill(fill);
        let mut journal = Journal::open(flash);
        assert_eq!(value(&mut journal, JournalKey::Accepted), None);
        journal.persist(JournalKey::Accepted, b"first").unwrap();
        assert_eq!(value(&mut journal, JournalKey::Accepted).unwrap(), b"first");
    }
}
