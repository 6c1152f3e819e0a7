//! Resets at every point: power cuts, torn slots, crashes of the agent itself.
use super::rig::*;
use crate::journal;
use crate::machine::port::*;
use wire::hello::ResetCause;
use wire::status::{Reason, State};

#[test]
fn c15_a_version_that_crashes_the_agent_is_rolled_back_after_three_crashes() {
    let mut rig = Rig::new();
    rig.publish(set(1, &[service(1, 0, "good"), service(2, 0, "other")]));
    rig.run(secs(40));
    rig.artifact_does("bad", Behaviour::CrashesTheAgent);
    rig.publish(set(2, &[service(1, 0, "bad"), service(2, 0, "other")]));
    rig.run(secs(300));
    assert_eq!(rig.starts_of("bad"), 3);
    assert!(rig.runs("good") && rig.runs("other"));
    assert_eq!((rig.accepted(), rig.entry(1, 0).reason), (2, Reason::ROLLED_BACK));
}

#[test]
fn c15_a_first_version_that_crashes_the_agent_stays_out_and_the_rest_runs() {
    let mut rig = Rig::new();
    rig.artifact_does("bad", Behaviour::CrashesTheAgent);
    rig.publish(set(1, &[service(1, 0, "bad"), service(2, 0, "other")]));
    rig.run(secs(600));
    assert!(rig.starts_of("bad") <= 4, "{}", rig.starts_of("bad"));
    assert!(rig.runs("other"));
    assert_eq!((rig.entry(1, 0).state, rig.entry(1, 0).reason), (State::Failed, Reason::SAFE_MODE));
    assert!(rig.store.restored().last_good.is_none(), "a set with a suspect is not good");
    // A new version gets its chance.
    rig.publish(set(2, &[service(1, 0, "fixed"), service(2, 0, "other")]));
    rig.run(secs(120));
    assert!(rig.runs("fixed"));
}

#[test]
fn a_proven_version_that_starts_to_crash_the_agent_is_found_out() {
    let mut rig = Rig::new();
    rig.publish(set(1, &[service(1, 0, "a"), service(2, 0, "b"), service(3, 0, "c")]));
    rig.run(secs(60));
    rig.artifact_does("b", Behaviour::CrashesTheAgent);
    rig.reboot(ResetCause::PowerOn);
    rig.run(secs(600));
    assert!(rig.starts_of("b") <= 6, "{}", rig.starts_of("b"));
    assert!(rig.runs("a") && rig.runs("c") && !rig.runs("b"));
    assert_eq!(rig.entry(2, 0).reason, Reason::SAFE_MODE);
}

#[test]
fn traps_and_crashes_of_a_version_are_added_up() {
    let mut rig = Rig::new();
    rig.publish(set(1, &[service(1, 0, "good")]));
    rig.run(secs(40));
    rig.artifact_does("bad", Behaviour::TrapsAfter(100));
    rig.publish(set(2, &[service(1, 0, "bad")]));
    while rig.starts_of("bad") < 2 {
        rig.run(ms(10));
    }
    rig.artifact_does("bad", Behaviour::CrashesTheAgent);
    rig.run(secs(60));
    assert_eq!((rig.starts_of("bad"), rig.runs("good")), (3, true));
}

#[test]
fn brown_outs_do_not_count_against_a_version() {
    let mut rig = Rig::new();
    rig.publish(set(1, &[service(1, 0, "good")]));
    rig.run(secs(40));
    rig.publish(set(2, &[service(1, 0, "new")]));
    rig.run(secs(1));
    for _ in 0..10 {
        rig.reboot(ResetCause::BrownOut);
        rig.run(secs(3));
    }
    assert!(rig.runs("new"));
}

#[test]
fn a_loop_of_crashes_stops_writing() {
    let mut rig = Rig::new();
    rig.publish(set(1, &[service(1, 0, "a")]));
    rig.run(secs(40));
    for _ in 0..10 {
        rig.reboot(ResetCause::Watchdog);
        rig.run(ms(50));
    }
    let writes = rig.count(|done| matches!(done, Done::Persist(JournalKey::Boot)));
    assert_eq!(writes, 3);
    rig.run(secs(700));
    assert_eq!(rig.count(|done| matches!(done, Done::Persist(JournalKey::Boot))), 4);
}

/// Runs the same switch again and again, each time with the power cut at another write of the journal and the slot torn at
/// another byte; whatever happens, the device comes up with the old set or the new one and ends with the new one.
#[test]
fn c19_a_power_cut_at_every_write_boots_the_old_set_or_the_new_one() {
    let mut before = Rig::new();
    before.publish(set(1, &[service(1, 0, "a"), service(2, 0, "b")]));
    before.run(secs(40));
    let (store, artifacts) = (before.store.clone(), before.artifacts.clone());
    let new = set(2, &[service(1, 0, "a2"), service(3, 0, "c")]);
    // First without a cut, to learn every write of the switch and of the promotion after it.
    let mut rig = Rig::with_store(store.clone(), artifacts.clone());
    rig.publish(new.clone());
    rig.run(secs(40));
    let total = rig.count(|done| matches!(done, Done::Persist(_)));
    assert!(total >= 3 && rig.runs("a2") && rig.runs("c"), "{total}");
    for cut in 0..total {
        for tear in 0..=6 {
            let mut rig = Rig::with_store(store.clone(), artifacts.clone());
            rig.publish(new.clone());
            // Up to the write, which is then not finished.
            let mut earlier = rig.store.clone();
            while rig.count(|done| matches!(done, Done::Persist(_))) <= cut {
                earlier = rig.store.clone();
                rig.run(ms(1));
            }
            let written = rig.store.clone();
            for (key, slots) in &written.slots {
                let old = earlier.slots.get(key).cloned().unwrap_or_default();
                for slot in 0..2 {
                    if slots[slot] != old[slot] {
                        let keep = slots[slot].len() * tear / 6;
                        let mut torn = slots[slot][..keep].to_vec();
                        torn.extend(old[slot].iter().skip(keep));
                        rig.store.slots.get_mut(key).unwrap()[slot] = torn;
                    }
                }
            }
            let is_old_or_new = |store: &Store| {
                let value = store.value(JournalKey::Accepted).expect("never none");
                value == store_value(&earlier) || value == store_value(&written)
            };
            assert!(is_old_or_new(&rig.store), "cut {cut} tear {tear}");
            let accepted = rig.accepted();
            rig.broker_up = false;
            rig.reboot(ResetCause::PowerOn);
            assert!(rig.accepted() >= accepted.min(1), "cut {cut} tear {tear}");
            rig.run(secs(5));
            assert!(!rig.running.is_empty(), "cut {cut} tear {tear}: boots something");
            let revision = rig.accepted();
            assert!(revision == 1 || revision == 2);
            rig.broker_up = true;
            rig.run(secs(200));
            assert!(rig.accepted() == 2 && rig.runs("a2") && rig.runs("c") && !rig.runs("b"), "cut {cut} tear {tear}");
        }
    }
}

fn store_value(store: &Store) -> &[u8] {
    store.value(JournalKey::Accepted).unwrap()
}

#[test]
fn what_was_reported_survives_a_power_cut() {
    let mut rig = Rig::new();
    for counter in 1..20 {
        rig.publish(set(counter, &[service(1, 0, "a").generation(counter as u32)]));
        rig.run(ms(37 * counter));
        let reported = rig.status.as_ref().map_or(0, |status| status.0.revision.0.counter());
        rig.reboot(ResetCause::PowerOn);
        assert!(rig.accepted() >= reported, "{} < {reported}", rig.accepted());
        rig.run(secs(5));
    }
}

#[test]
fn a_rotten_attempts_or_boot_record_is_as_if_there_were_none() {
    let mut rig = Rig::new();
    rig.publish(set(1, &[service(1, 0, "a")]));
    rig.run(secs(40));
    for garbage in [&b""[..], b"\x01", b"\x02\x09", b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
        rig.store.write(JournalKey::Attempts, garbage);
        rig.store.write(JournalKey::Boot, garbage);
        rig.store.write(JournalKey::LastGood, garbage);
        rig.reboot(ResetCause::PowerOn);
        rig.run(secs(60));
        assert!(rig.runs("a"));
    }
}

#[test]
fn a_stored_set_of_another_device_class_is_not_taken_up() {
    let mut rig = Rig::new();
    rig.publish(set(1, &[service(1, 0, "a")]));
    rig.run(secs(40));
    let [a, b] = rig.store.slots.get(&(JournalKey::Accepted as u8)).unwrap().clone();
    let value = journal::pick(JournalKey::Accepted, &a, &b).unwrap().value.to_vec();
    // The body is not what the header covers any more.
    let mut changed = value.clone();
    *changed.last_mut().unwrap() ^= 1;
    rig.store.write(JournalKey::Accepted, &changed);
    rig.broker_up = false;
    rig.reboot(ResetCause::PowerOn);
    rig.run(secs(5));
    assert_eq!((rig.accepted(), rig.running.len()), (0, 0));
}
