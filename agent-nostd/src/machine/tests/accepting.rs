//! Which sets become the device's own, and when.
use super::rig::*;
use crate::machine::port::*;
use std::vec::Vec;
use wire::DeviceId;
use wire::dalek::Ed25519Key;
use wire::desired::ClassLimits;
use wire::hello::ResetCause;
use wire::status::State;
use wire::topic::Down;

fn joined() -> Rig {
    let mut rig = Rig::new();
    rig.publish(set(1, &[service(1, 0, "a")]));
    rig.run(secs(20));
    assert_eq!(rig.accepted(), 1);
    rig
}

#[test]
fn a_set_is_accepted_fetched_started_and_reported() {
    let rig = joined();
    assert!(rig.runs("a"));
    let entry = rig.entry(1, 0);
    assert_eq!((entry.state, entry.generation, entry.running), (State::Running, 1, 1));
    assert_eq!(rig.status.as_ref().unwrap().0.revision, revision(1));
}

#[test]
fn nothing_is_acted_on_or_reported_before_it_is_durable() {
    let mut rig = Rig::new();
    rig.disk = Disk::Silent;
    rig.publish(set(1, &[service(1, 0, "a")]));
    rig.run(secs(30));
    assert_eq!(rig.count(|done| matches!(done, Done::Start(..))), 0);
    assert_eq!(rig.status.as_ref().map(|status| status.0.revision), Some(Default::default()));
    rig.disk = Disk::Good;
    rig.run(secs(120));
    assert!(rig.runs("a"));
    assert_eq!(rig.status.as_ref().unwrap().0.revision, revision(1));
}

#[test]
fn a_lower_revision_is_counted_and_ignored() {
    let mut rig = joined();
    rig.publish(set(3, &[service(1, 0, "b")]));
    rig.run(secs(20));
    rig.down(Down::Desired, set(2, &[service(1, 0, "c")]).frame);
    rig.run(secs(5));
    rig.ask_status();
    assert_eq!((rig.accepted(), rig.refused().lower_revision), (3, 1));
    assert!(rig.runs("b") && !rig.runs("c"));
}

#[test]
fn an_equal_revision_with_another_digest_is_equivocation_and_the_first_stays() {
    let mut rig = joined();
    rig.down(Down::Desired, set(1, &[service(1, 0, "evil twin")]).frame);
    rig.run(secs(5));
    rig.ask_status();
    assert_eq!(rig.refused().equivocation, 1);
    assert!(rig.runs("a"));
    assert!(rig.logs.iter().any(|(_, text)| text.contains("equivocation")));
}

/// Found by seed 52 of the simulator: a hub that had known the device again by what it runs heard of it with the next whole
/// status, twenty minutes later.
#[test]
fn an_equivocation_is_reported_unasked_and_again_if_the_report_is_lost() {
    let mut rig = joined();
    rig.run(secs(60));
    rig.acknowledges = false;
    let before = rig.count(|done| *done == Done::Status);
    rig.down(Down::Desired, set(1, &[service(1, 0, "evil twin")]).frame);
    rig.run(secs(3));
    assert_eq!(rig.count(|done| *done == Done::Status), before + 1);
    rig.status = None;
    rig.acknowledges = true;
    rig.cut();
    rig.run(secs(30));
    assert_eq!(rig.status.as_ref().unwrap().0.refused.equivocation, 1);
}

#[test]
fn the_same_set_again_changes_nothing() {
    let mut rig = joined();
    for _ in 0..3 {
        rig.down(Down::Desired, rig.set.as_ref().unwrap().frame.clone());
        rig.run(secs(2));
    }
    assert_eq!(rig.starts_of("a"), 1);
    assert_eq!(rig.count(|done| *done == Done::Persist(JournalKey::Accepted)), 1);
    rig.ask_status();
    assert_eq!(rig.refused(), Default::default());
}

#[test]
fn a_set_for_another_device_or_by_another_key_is_not_authentic() {
    let mut rig = joined();
    let limits = ClassLimits { records: 8, memory_bytes: 1 };
    let other = signed_set(2, body(&[]), limits, DeviceId([8; 16]), &hub_key());
    let forged = signed_set(3, body(&[]), limits, DEVICE, &Ed25519Key::from_seed(&[4; 32]));
    rig.down(Down::Desired, other.frame);
    rig.down(Down::Desired, forged.frame);
    rig.run(secs(2));
    rig.ask_status();
    assert_eq!((rig.accepted(), rig.refused().not_authentic), (1, 2));
}

#[test]
fn every_flipped_bit_of_a_set_is_refused() {
    let mut rig = joined();
    let frame = set(2, &[service(1, 0, "b")]).frame;
    for bit in 0..frame.len() * 8 {
        let mut bad = frame.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        rig.give(Answer::Message(Inbound::Down(Down::Desired), bad));
        rig.drain();
    }
    rig.run(secs(2));
    assert_eq!(rig.accepted(), 1);
}

#[test]
fn trailing_bytes_and_truncation_are_malformed() {
    let mut rig = joined();
    let frame = set(2, &[service(1, 0, "b")]).frame;
    let mut longer = frame.clone();
    longer.push(0);
    rig.down(Down::Desired, longer);
    rig.down(Down::Desired, frame[..frame.len() - 1].to_vec());
    rig.run(secs(2));
    rig.ask_status();
    assert_eq!((rig.accepted(), rig.refused().malformed), (1, 2));
}

#[test]
fn the_first_set_needs_this_boots_fresh() {
    let mut rig = Rig::new();
    rig.hub_up = false;
    rig.publish(set(1, &[service(1, 0, "a")]));
    rig.retained = rig.set.as_ref().map(|set| set.frame.clone());
    rig.run(secs(60));
    assert_eq!(rig.accepted(), 0);
    // The hub says something else: the broker's copy stays refused.
    rig.hub_up = true;
    rig.publishes = false;
    let old = rig.retained.clone();
    rig.set = Some(set(9, &[service(1, 0, "z")]));
    rig.run(secs(120));
    assert_eq!((rig.accepted(), rig.retained == old), (0, true));
    rig.ask_status();
    assert!(rig.refused().unconfirmed > 0);
    rig.publish(rig.set.clone().unwrap());
    rig.run(secs(400));
    assert_eq!(rig.accepted(), 9);
}

/// A new device at a hub where much is applied at once: sets come faster than it is told of the first or can store it. They were
/// dropped, and nothing asked for them again for a quarter of an hour.
#[test]
fn sets_above_what_fresh_said_are_news_also_while_nothing_is_held() {
    let mut rig = Rig::new();
    rig.publishes = false;
    rig.set = Some(set(1, &[service(1, 0, "a")]));
    rig.run(secs(3));
    assert_eq!(rig.accepted(), 0);
    rig.down(Down::Desired, set(2, &[service(1, 0, "a")]).frame);
    rig.down(Down::Desired, set(3, &[service(1, 0, "a"), service(2, 0, "b")]).frame);
    rig.run(secs(20));
    assert_eq!(rig.accepted(), 3);
    assert!(rig.runs("a") && rig.runs("b"));
}

#[test]
fn with_a_stored_set_the_brokers_copy_serves_while_the_hub_is_away() {
    let mut rig = joined();
    rig.hub_up = false;
    rig.retained = Some(set(2, &[]).frame);
    rig.cut();
    rig.run(secs(60));
    assert_eq!(rig.accepted(), 2);
    assert!(!rig.runs("a"));
}

#[test]
fn a_set_over_the_devices_limits_is_refused_unread() {
    let mut rig = joined();
    let limits = ClassLimits { records: 9, memory_bytes: 1 };
    rig.down(Down::Desired, signed_set(2, body(&[]), limits, DEVICE, &hub_key()).frame);
    let many: Vec<_> = (0..9).map(|workload| service(workload, 0, "a")).collect();
    rig.down(Down::Desired, set(3, &many).frame);
    rig.run(secs(2));
    rig.ask_status();
    assert_eq!((rig.accepted(), rig.refused().too_large), (1, 2));
    assert!(rig.runs("a"));
}

/// Many small clauses, so that the body is longer than the message may be.
fn long_body(records: u32) -> Vec<u8> {
    static FILL: [u8; 500] = [7; 500];
    static CONFIG: [u8; 256] = [8; 256];
    static NAME: &str = "a-name-that-is-rather-long-because-long-bodies-are-wanted-here";
    let component = |workload| {
        service(workload, 0, "a")
            .with(wire::clause::Clause::Name(wire::clause::Name { namespace: NAME, name: NAME, component: NAME }))
            .with(wire::clause::Clause::Config(&CONFIG))
            .with(wire::clause::Clause::Unknown { number: 899, bytes: &FILL })
            .with(wire::clause::Clause::Unknown { number: 900, bytes: &FILL })
    };
    body(&(1..=records).map(component).collect::<Vec<_>>())
}

#[test]
fn a_long_body_is_fetched_by_its_hash() {
    let mut rig = joined();
    let set = set_of_body(2, long_body(7));
    assert!(set.body.len() > wire::limits::BODY_INLINE_BYTES_MAX, "{}", set.body.len());
    rig.publish(set.clone());
    rig.bodies.clear();
    rig.run(secs(10));
    assert_eq!(rig.accepted(), 1);
    rig.bodies.insert(set.header.body, b"something else".to_vec());
    rig.run(secs(20));
    assert_eq!(rig.accepted(), 1);
    rig.bodies.insert(set.header.body, set.body);
    rig.run(secs(60));
    assert_eq!(rig.accepted(), 2);
}

#[test]
fn c18_a_full_disk_keeps_the_old_set_and_is_tried_again() {
    let mut rig = joined();
    rig.disk = Disk::Full;
    rig.publish(set(2, &[service(1, 0, "b")]));
    rig.run(secs(60));
    assert!(rig.runs("a") && rig.accepted() == 1);
    assert!(rig.logs.iter().any(|(_, text)| text.contains("no_space")), "{:?}", rig.logs);
    rig.disk = Disk::Good;
    rig.run(secs(400));
    assert!(rig.runs("b") && rig.accepted() == 2);
}

#[test]
fn a_newer_set_overtakes_one_that_is_being_stored() {
    let mut rig = joined();
    rig.disk = Disk::Silent;
    rig.publish(set(2, &[service(1, 0, "b")]));
    rig.run(secs(1));
    rig.disk = Disk::Good;
    rig.publish(set(3, &[service(1, 0, "c")]));
    rig.run(secs(120));
    assert!(rig.runs("c") && rig.accepted() == 3);
    assert_eq!(rig.starts_of("b"), 0);
}

#[test]
fn a_signed_set_that_is_malformed_never_empties_the_journal() {
    let mut rig = joined();
    // Its predecessor is being stored when it comes.
    rig.publish(set(2, &[service(1, 0, "b")]));
    while rig.count(|done| *done == Done::Persist(JournalKey::Accepted)) < 2 {
        rig.run(ms(1));
    }
    rig.give(Answer::Message(Inbound::Down(Down::Desired), set_of_body(3, b"no body at all".to_vec()).frame));
    rig.run(secs(400));
    rig.ask_status();
    assert_eq!(rig.refused().malformed + rig.refused().too_large, 1);
    assert!(rig.store.restored().accepted.is_some_and(|value| !value.is_empty()));
    rig.reboot(ResetCause::PowerOn);
    rig.run(secs(30));
    assert!(rig.accepted() == 2 && rig.runs("b"));
}

#[test]
fn the_accepted_set_starts_from_the_journal_without_a_hub() {
    let mut rig = joined();
    rig.broker_up = false;
    rig.reboot(ResetCause::PowerOn);
    rig.run(secs(2));
    assert!(rig.runs("a"));
    assert_eq!(rig.accepted(), 1);
}

#[test]
fn after_a_boot_without_fresh_new_artifacts_wait_unless_allowed() {
    let mut rig = joined();
    rig.served = Some(Default::default());
    rig.publish(set(
        2,
        &[service(1, 0, "b"), service(2, 0, "a"), service(3, 0, "c").with(wire::clause::Clause::Unconfirmed)],
    ));
    rig.run(secs(5));
    assert_eq!(rig.accepted(), 2);
    rig.served = None;
    rig.hub_up = false;
    rig.reboot(ResetCause::PowerOn);
    rig.done.clear();
    rig.run(secs(60));
    assert!(rig.runs("a") && rig.runs("c") && !rig.runs("b"));
    assert_eq!(rig.count(|done| *done == Done::Fetch(artifact("b"), Source::Anywhere)), 0);
    rig.hub_up = true;
    rig.run(secs(120));
    assert!(rig.runs("b"));
}

#[test]
fn c20_both_slots_bad_means_no_works_and_rejoining_by_fresh() {
    let mut rig = joined();
    for slots in rig.store.slots.values_mut() {
        slots.iter_mut().for_each(|slot| slot.iter_mut().for_each(|byte| *byte ^= 0x55));
    }
    rig.hub_up = false;
    rig.reboot(ResetCause::PowerOn);
    rig.run(secs(60));
    assert!(rig.running.is_empty() && rig.accepted() == 0);
    rig.hub_up = true;
    rig.run(secs(120));
    assert!(rig.runs("a") && rig.accepted() == 1);
}
