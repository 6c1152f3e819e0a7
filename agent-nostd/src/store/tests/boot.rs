//! A seed is used once, whatever resets and cuts do.
use super::mock::{MockFlash, TORN};
use crate::store::boot::{Retained, Seed};
use crate::store::journal::Journal;
use std::collections::BTreeSet;

type Small = MockFlash<4, 512>;

#[test]
fn no_seed_comes_twice_over_resets_and_losses_of_power() {
    let mut flash = Small::new(4);
    let mut retained = Retained::EMPTY;
    let mut seen = BTreeSet::new();
    for boot in 0..300u32 {
        if boot % 3 == 0 {
            // Memory without power holds anything.
            retained = Retained::EMPTY;
        }
        let mut journal = Journal::open(flash);
        let seed = Seed::draw(&mut journal, &mut retained, b"provisioned", b"");
        assert!(seed.is_unique);
        assert!(seen.insert(seed.bytes), "boot {boot} got an old seed");
        flash = journal.into_flash();
    }
}

#[test]
fn a_reset_loop_writes_nothing() {
    let mut journal = Journal::open(Small::new(4));
    let mut retained = Retained::EMPTY;
    Seed::draw(&mut journal, &mut retained, b"provisioned", b"");
    let mut flash = journal.into_flash();
    let operations = flash.operations;
    for _ in 0..1000 {
        let mut journal = Journal::open(flash);
        Seed::draw(&mut journal, &mut retained, b"provisioned", b"");
        flash = journal.into_flash();
    }
    assert_eq!(flash.operations, operations);
}

#[test]
fn c20_no_seed_comes_twice_when_the_power_goes_while_it_is_drawn() {
    for torn in TORN {
        let mut flash = Small::new(4);
        let mut seen = BTreeSet::new();
        for boot in 0..200u64 {
            let mut retained = Retained::EMPTY;
            let mut journal = Journal::open(flash.cut_at(boot % 12, torn));
            let seed = Seed::draw(&mut journal, &mut retained, b"provisioned", b"");
            flash = journal.into_flash();
            // With the power gone nobody used it.
            if !flash.is_off {
                assert!(seed.is_unique);
                assert!(seen.insert(seed.bytes), "{torn:?}: boot {boot} got an old seed");
            }
            flash = flash.reboot();
        }
        assert!(seen.len() > 20);
    }
}

#[test]
fn a_flash_that_keeps_nothing_is_told_unless_there_is_a_random_source() {
    let mut flash = Small::new(4);
    flash.worn = (0..4).collect();
    let mut journal = Journal::open(flash);
    let mut retained = Retained::EMPTY;
    let first = Seed::draw(&mut journal, &mut retained, b"provisioned", b"");
    assert!(!first.is_unique);
    assert!(
        !Seed::draw(&mut journal, &mut retained, b"provisioned", b"").is_unique,
        "the copy in memory vouches for nothing"
    );
    assert!(Seed::draw(&mut journal, &mut retained, b"provisioned", b"of a ring oscillator").is_unique);
}

#[test]
fn seeds_differ_by_what_was_provisioned_and_by_the_random_source() {
    let draw = |provisioned: &[u8], hardware: &[u8]| {
        Seed::draw(&mut Journal::open(Small::new(4)), &mut Retained::EMPTY.clone(), provisioned, hardware).bytes
    };
    assert_eq!(draw(b"a", b""), draw(b"a", b""));
    assert_ne!(draw(b"a", b""), draw(b"b", b""));
    assert_ne!(draw(b"a", b""), draw(b"a", b"x"));
}
