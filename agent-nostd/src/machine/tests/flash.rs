//! The real machine on the real flash store, with the power cut at every operation of the flash: a set comes, runs, is good, and is
//! switched for another one.
use super::rig::*;
use crate::machine::port::*;
use crate::store::tests::artifact::fetch;
use crate::store::tests::mock::{MockFlash, TORN, Torn};
use crate::store::{Artifacts, Journal};
use std::boxed::Box;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::string::String;
use std::vec::Vec;
use wire::Digest;
use wire::hello::ResetCause;

type Mock = MockFlash<4, 512>;

/// One chip with two partitions: the power goes for both.
struct Chip {
    journal: Journal<Mock>,
    artifacts: Artifacts<Mock>,
    /// What the network has.
    contents: Vec<Vec<u8>>,
}

impl Chip {
    fn new() -> Self {
        Self {
            // So small that the switch changes the bank.
            journal: Journal::open(Mock::new(4)),
            artifacts: Artifacts::open(Mock::new(48)),
            contents: CODES.iter().map(|code| code.repeat(150).into_bytes()).collect(),
        }
    }

    /// Operations so far, of the journal and of the artifacts.
    fn operations(self) -> (u64, u64) {
        (self.journal.into_flash().operations, self.artifacts.into_flash().operations)
    }

    fn cut(self, at: Cut, torn: Torn) -> Self {
        let (mut journal, mut artifacts) = (self.journal.into_flash(), self.artifacts.into_flash());
        match at {
            Cut::Journal(operation) => journal = journal.cut_at(operation, torn),
            Cut::Artifacts(operation) => artifacts = artifacts.cut_at(operation, torn),
        }
        Self { journal: Journal::open(journal), artifacts: Artifacts::open(artifacts), contents: self.contents }
    }

    fn is_off(&mut self) -> bool {
        self.journal.flash_mut().is_off || self.artifacts.flash_mut().is_off
    }
}

#[derive(Clone, Copy, Debug)]
enum Cut {
    Journal(u64),
    Artifacts(u64),
}

/// Shared with the test, which turns the power on again.
#[derive(Clone)]
struct Shared(Rc<RefCell<Option<Chip>>>);

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut Chip) -> T) -> T {
        act(self.0.borrow_mut().as_mut().expect("the chip is there"))
    }

    fn power_on(&self) {
        let chip = self.0.borrow_mut().take().unwrap();
        let (journal, artifacts) = (chip.journal.into_flash().reboot(), chip.artifacts.into_flash().reboot());
        let chip =
            Chip { journal: Journal::open(journal), artifacts: Artifacts::open(artifacts), contents: chip.contents };
        *self.0.borrow_mut() = Some(chip);
    }
}

impl Keeper for Shared {
    fn persist(&mut self, key: JournalKey, value: &[u8]) -> Result<(), PersistFailure> {
        self.with(|chip| {
            let done = chip.journal.persist(key, value);
            if chip.is_off() { Err(PersistFailure::Storage) } else { done }
        })
    }

    fn fetch(&mut self, digest: &Digest, source: Source) -> Result<(), FetchFailure> {
        self.with(|chip| {
            let content = chip.contents.iter().find(|content| Digest::of(content) == *digest).cloned();
            let content = content.ok_or(FetchFailure::Unreachable)?;
            if chip.artifacts.holds(digest, content.len() as u32) {
                return Ok(());
            }
            if source == Source::Store {
                return Err(FetchFailure::Absent);
            }
            fetch(&mut chip.artifacts, &content)
        })
    }

    fn collect(&mut self, is_kept: &mut dyn FnMut(&Digest) -> bool) {
        self.with(|chip| chip.artifacts.collect(is_kept));
    }

    fn is_off(&self) -> bool {
        self.with(Chip::is_off)
    }

    fn restored(&mut self) -> (Store, BTreeSet<Digest>) {
        self.with(|chip| {
            let mut store = Store::default();
            let mut value = [0; 4096];
            for key in JournalKey::ALL {
                if let Some(value) = chip.journal.load(key, &mut value) {
                    store.write(key, value);
                }
            }
            let held =
                chip.contents.iter().filter(|content| chip.artifacts.holds(&Digest::of(content), content.len() as u32));
            (store, held.map(|content| Digest::of(content)).collect())
        })
    }
}

const CODES: [&str; 4] = ["old code ", "new code ", "other code ", "third code "];

fn code(number: usize) -> String {
    CODES[number].repeat(150)
}

fn runs(rig: &Rig, number: usize) -> bool {
    rig.running.values().any(|run| run.artifact == Digest::of(code(number).as_bytes()))
}

fn work(workload: u32, number: usize, generation: u32) -> Component {
    let mut work = service(workload, 0, &code(number)).generation(generation);
    work.core.artifact_bytes = code(number).len() as u32;
    work
}

fn sets() -> [Set; 2] {
    [set(1, &[work(1, 0, 1), work(2, 2, 1)]), set(2, &[work(1, 1, 2), work(2, 2, 1), work(3, 3, 1)])]
}

fn rig(chip: Chip) -> (Rig, Shared) {
    let shared = Shared(Rc::new(RefCell::new(Some(chip))));
    let mut rig = Rig::new();
    rig.keeper = Some(Box::new(shared.clone()));
    (rig, shared)
}

/// Until the first set is good, then until the second one is, or the power goes. The highest revision that the hub was told.
fn story(rig: &mut Rig, from: usize) -> u64 {
    let mut told = rig.accepted();
    for set in sets().into_iter().skip(from) {
        rig.publish(set);
        for _ in 0..45 {
            rig.run(secs(1));
            if rig.is_off() {
                return told;
            }
            told = told.max(rig.status.as_ref().map_or(0, |(fixed, _)| fixed.revision.0.counter()));
        }
    }
    told
}

fn power_cut(at: Cut, torn: Torn, chip: Chip, from: usize) {
    let name = std::format!("{torn:?} at {at:?} of part {from}");
    let (mut rig, shared) = rig(chip);
    shared.with(|chip| {
        let bare = std::mem::replace(chip, Chip::new());
        *chip = bare.cut(at, torn);
    });
    rig.reboot(ResetCause::PowerOn);
    let told = story(&mut rig, from);
    assert!(rig.is_off(), "{name}: no cut");
    // Without a hub at first: what it has must do.
    shared.power_on();
    (rig.hub_up, rig.broker_up) = (false, false);
    rig.reboot(ResetCause::PowerOn);
    assert!(rig.accepted() >= told, "{name}: back to {} from {told}", rig.accepted());
    rig.run(secs(30));
    if from == 1 {
        assert!(runs(&rig, 0) || runs(&rig, 1), "{name}: neither version runs");
        assert!(runs(&rig, 2), "{name}: what was not touched does not run");
    }
    (rig.hub_up, rig.broker_up) = (true, true);
    rig.publish(sets()[1].clone());
    rig.run(secs(120));
    assert!(!rig.is_off());
    assert_eq!(rig.accepted(), 2, "{name}");
    assert!(runs(&rig, 1) && runs(&rig, 2) && runs(&rig, 3) && !runs(&rig, 0), "{name}: it does not go on");
    let violations = shared.with(|chip| chip.journal.flash_mut().violations + chip.artifacts.flash_mut().violations);
    assert_eq!(violations, 0, "{name}: a unit was programmed twice");
}

/// The power goes at one operation, and again at one of those that follow the next start.
fn power_cut_twice(first: Cut, second: Cut, torn: Torn, chip: Chip) {
    let name = std::format!("{torn:?} at {first:?}, then at {second:?}");
    let (mut rig, shared) = rig(chip.cut(first, torn));
    rig.reboot(ResetCause::PowerOn);
    let mut told = story(&mut rig, 1);
    assert!(rig.is_off(), "{name}: no cut");
    shared.power_on();
    let bare = shared.0.borrow_mut().take().unwrap();
    *shared.0.borrow_mut() = Some(bare.cut(second, torn));
    rig.reboot(ResetCause::PowerOn);
    if !rig.is_off() {
        told = told.max(story(&mut rig, 1));
    }
    shared.power_on();
    (rig.hub_up, rig.broker_up) = (false, false);
    rig.reboot(ResetCause::PowerOn);
    assert!(rig.accepted() >= told, "{name}: back to {} from {told}", rig.accepted());
    rig.run(secs(30));
    assert!((runs(&rig, 0) || runs(&rig, 1)) && runs(&rig, 2), "{name}: a workload is gone");
    (rig.hub_up, rig.broker_up) = (true, true);
    rig.publish(sets()[1].clone());
    rig.run(secs(120));
    assert!(rig.accepted() == 2 && runs(&rig, 1) && runs(&rig, 2) && runs(&rig, 3), "{name}: it does not go on");
}

/// A chip as it is when the first set is good.
fn with_first_set() -> Chip {
    let (mut rig, shared) = rig(Chip::new());
    rig.publish(sets()[0].clone());
    rig.run(secs(60));
    assert!(runs(&rig, 0) && runs(&rig, 2) && rig.accepted() == 1);
    shared.0.borrow_mut().take().unwrap()
}

fn again(chip: &Chip) -> Chip {
    let copy = Chip::new();
    let journal = chip.journal.flash().clone();
    let artifacts = chip.artifacts.flash().clone();
    Chip { journal: Journal::open(journal), artifacts: Artifacts::open(artifacts), contents: copy.contents }
}

#[test]
fn c19_a_cut_at_every_flash_operation_of_a_set_switch_boots_the_old_set_or_the_new_one() {
    let first = with_first_set();
    let before = again(&first).operations();
    let (mut whole, shared) = rig(again(&first));
    whole.reboot(ResetCause::PowerOn);
    assert_eq!(story(&mut whole, 1), 2);
    assert!(runs(&whole, 1) && runs(&whole, 2) && runs(&whole, 3) && !runs(&whole, 0));
    let generations = |chip: &Chip| chip.journal.flash().erases.values().sum::<u32>() / 2;
    let chip = shared.0.borrow_mut().take().unwrap();
    let changes = generations(&chip) - generations(&first);
    assert!(changes > 0, "the switch is to change the bank, {changes}");
    let after = chip.operations();
    let (journal, artifacts) = (after.0 - before.0, after.1 - before.1);
    assert!(journal >= 6 && artifacts >= 15, "{journal} and {artifacts} operations");
    for torn in TORN {
        for operation in 0..journal {
            power_cut(Cut::Journal(operation), torn, again(&first), 1);
        }
        for operation in 0..artifacts {
            power_cut(Cut::Artifacts(operation), torn, again(&first), 1);
        }
    }
}

#[test]
fn c19_pairs_of_cuts_on_the_way_of_a_set_into_the_journal() {
    let first = with_first_set();
    let before = again(&first).operations();
    let (mut whole, shared) = rig(again(&first));
    whole.reboot(ResetCause::PowerOn);
    story(&mut whole, 1);
    let operations = shared.0.borrow_mut().take().unwrap().operations().0 - before.0;
    for torn in [Torn::Bits, Torn::Zeroes] {
        for one in 0..operations {
            for other in 0..10 {
                power_cut_twice(Cut::Journal(one), Cut::Journal(other), torn, again(&first));
            }
        }
    }
}

#[test]
fn c20_a_cut_at_every_journal_write_of_the_first_set_leaves_a_device_that_joins_in() {
    let (mut whole, shared) = rig(Chip::new());
    whole.reboot(ResetCause::PowerOn);
    story(&mut whole, 0);
    let (journal, _) = shared.0.borrow_mut().take().unwrap().operations();
    for torn in [Torn::Bits, Torn::Zeroes, Torn::After] {
        for operation in 0..journal {
            power_cut(Cut::Journal(operation), torn, Chip::new(), 0);
        }
    }
}

#[test]
fn c20_a_rotten_bit_of_the_accepted_set_is_never_a_step_below_fresh() {
    let first = with_first_set();
    let bytes = first.journal.flash().bytes.len();
    let mut lost = 0;
    for bit in (0..bytes * 8).step_by(97) {
        let mut chip = again(&first);
        chip.journal.flash_mut().bytes[bit / 8] ^= 1 << (bit % 8);
        chip.journal = Journal::open(chip.journal.into_flash());
        let (mut rig, _shared) = rig(chip);
        rig.publish(sets()[1].clone());
        rig.reboot(ResetCause::PowerOn);
        lost += u32::from(rig.accepted() == 0);
        rig.run(secs(60));
        assert_eq!(rig.accepted(), 2, "bit {bit}");
        assert!(runs(&rig, 1) && runs(&rig, 2), "bit {bit}");
    }
    assert!(lost > 0, "no bit of the set was hit: the test looks at nothing");
}

#[test]
fn a_journal_that_takes_nothing_any_more_keeps_what_runs() {
    let first = with_first_set();
    let mut chip = again(&first);
    chip.journal.flash_mut().stuck = (0..2048).collect();
    chip.journal.flash_mut().worn = (0..4).collect();
    let (mut rig, _shared) = rig(chip);
    rig.reboot(ResetCause::PowerOn);
    rig.publish(sets()[1].clone());
    rig.run(secs(60));
    assert_eq!(rig.accepted(), 1, "what is not durable is not accepted");
    assert!(runs(&rig, 0) && runs(&rig, 2));
    rig.reboot(ResetCause::PowerOn);
    rig.run(secs(30));
    assert!(runs(&rig, 0) && runs(&rig, 2), "also after the next start");
}
