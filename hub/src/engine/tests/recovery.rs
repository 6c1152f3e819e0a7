//! C13, S5: a database that is older than what its devices have seen. What they prove is held until somebody decides; what
//! they only claim concerns one device.
use super::device::Double;
use super::world::{World, workload};
use super::writer::{Database, FLEET, Writer, hub_key};
use crate::commit::{RecoveryCause, RecoveryRow, WORKLOAD_IDS_SKIPPED};
use crate::engine::port::*;
use crate::engine::recovery::{GRANTS_PAUSE, PROOF_ASKED_MAX};
use crate::model::ObjectKey;
use serde_json::json;
use std::time::Duration;
use wire::hello::{Asks, RefusalReason};
use wire::id::Order;
use wire::status::{Reason, State};
use wire::topic::Down;
use wire::{DigestPrefix, Revision};

/// Two devices with a workload each; a backup; a change of the first one's workload; the backup is restored.
struct Restored {
    world: World,
    ahead: Double,
    equal: Double,
}

pub fn status(world: &mut World) -> HubStatus {
    match world.answer(Request::Status) {
        Ok(Answer::Status(status)) => status,
        other => panic!("{other:?}"),
    }
}

/// As the store does it after a restore.
pub fn restore(world: &mut World, backup: Database) {
    let highest = world.writer.database.incarnation;
    let mut database = backup;
    database.recovery = Some(RecoveryRow {
        cause: RecoveryCause::Restored,
        since_ms: world.now.wall_ms,
        remembered: Order::new(database.incarnation, database.sequence).unwrap(),
        until_incarnation: highest + 1,
        is_overruled: false,
        holds_grants: true,
    });
    database.incarnation = highest;
    world.writer = Writer { database, ..Writer::default() };
    world.sent.clear();
    world.restart();
}

impl Restored {
    fn new() -> Self {
        let mut world = World::new();
        let mut ahead = Double::online(&mut world, 1, "gw-1");
        let mut equal = Double::online(&mut world, 2, "gw-2");
        world.run("one", json!({"on": ["gw-1"]})).unwrap();
        world.run("two", json!({"on": ["gw-2"]})).unwrap();
        ahead.run_all(&mut world);
        equal.run_all(&mut world);
        let backup = world.writer.database.clone();
        let artifact = world.upload("app", 0x22);
        world.put(&ObjectKey::workload("default", "one"), workload("one", &artifact, json!({"on": ["gw-1"]}))).unwrap();
        ahead.run_all(&mut world);
        restore(&mut world, backup);
        Self { world, ahead, equal }
    }

    fn condition(&mut self) -> String {
        let status = status(&mut self.world);
        status
            .conditions
            .iter()
            .find(|condition| condition.name == "Recovery")
            .map_or(String::new(), |c| c.message.clone())
    }
}

#[test]
fn c13_a_device_that_proves_more_is_held_and_nothing_is_published_to_it() {
    let Restored { mut world, mut ahead, mut equal } = Restored::new();
    let before = ahead.accepted;
    let fresh = ahead.hello(&mut world, true).unwrap();
    assert!(fresh.asks.contains(Asks::PROOF) && fresh.revision < before.0);
    ahead.hello(&mut world, true).unwrap();
    equal.hello_and_prove(&mut world).unwrap();
    assert_eq!(world.events("RevisionAhead").len(), 1);
    assert_eq!(world.events("RevisionAhead")[0].device.as_deref(), Some("gw-1"));
    // Whatever is decided meanwhile: its set is neither changed nor published.
    world.run("more", json!({"on": ["gw-1", "gw-2"]})).unwrap();
    let held = world.answer(Request::Delete { key: ObjectKey::workload("default", "one"), if_match: None });
    held.unwrap();
    world.pass(Duration::from_secs(120));
    assert!(world.sent_to(ahead.id, Down::Desired).is_empty());
    assert_eq!(equal.accept(&world).len(), 2, "the other one goes on");
    let shown = status(&mut world).recovery.unwrap();
    assert_eq!((shown.cause.as_str(), shown.decision.as_str(), shown.devices_ahead), ("Restored", "hold", 1));
    assert_eq!((shown.ahead[0].device.as_str(), shown.ahead[0].state.as_str()), ("gw-1", "Held"));
    let conditions = world.get(&ObjectKey::device("gw-1"))["status"]["conditions"].to_string();
    assert!(conditions.contains("fulmar hub apply gw-1"), "{conditions}");
    let explained = world.answer(Request::Explain {
        namespace: "default".to_owned(),
        name: "more".to_owned(),
        device: Some("gw-1".to_owned()),
    });
    assert!(format!("{explained:?}").contains("HELD"), "{explained:?}");
}

#[test]
fn c13_apply_gives_this_hubs_set_above_everything_that_was_forgotten() {
    let mut restored = Restored::new();
    restored.ahead.hello_and_prove(&mut restored.world).unwrap();
    restored.equal.hello_and_prove(&mut restored.world).unwrap();
    let text = restored.condition();
    assert!(text.contains("restored from a backup") && text.contains("1 devices hold newer sets (gw-1)"), "{text}");
    let Restored { mut world, mut ahead, equal } = restored;
    let forgotten = ahead.accepted.0;
    assert!(world.answer(Request::HubApply { devices: vec!["gw-1".to_owned()] }).is_ok());
    world.pass(Duration::from_secs(1));
    ahead.run_all(&mut world);
    assert!(ahead.accepted.0 > forgotten, "{} above {forgotten}", ahead.accepted.0);
    let (accepted, mut equal) = (equal.accepted, equal);
    equal.accept(&world);
    assert_eq!(equal.accepted, accepted, "who is right is left alone");
    let entries: Vec<_> = world.batches.iter().flat_map(|batch| &batch.audit).collect();
    let applied: Vec<_> =
        entries.iter().filter(|entry| entry.action == "apply" && entry.object == "device/gw-1").collect();
    assert_eq!((applied.len(), applied[0].actor.as_str()), (1, "admin"));
    assert_eq!(world.get(&ObjectKey::device("gw-1"))["status"]["revision"]["synced"], true);
    assert_eq!(status(&mut world).recovery.unwrap().devices_ahead, 0);
    // It is over when nobody can hold a forgotten grant any more and everybody was heard of.
    world.pass(GRANTS_PAUSE + Duration::from_secs(2));
    assert_eq!(status(&mut world).recovery, None);
    assert_eq!(world.events("Recovered").len(), 1);
}

#[test]
fn c13_apply_for_all_heals_those_that_come_later_and_holds_are_exceptions() {
    let Restored { mut world, mut ahead, mut equal } = Restored::new();
    world.answer(Request::HubHold { devices: vec!["gw-2".to_owned()] }).unwrap();
    world.answer(Request::HubApply { devices: Vec::new() }).unwrap();
    world.restart();
    let forgotten = ahead.accepted.0;
    ahead.hello_and_prove(&mut world).unwrap();
    world.pass(Duration::from_secs(1));
    ahead.run_all(&mut world);
    assert!(ahead.accepted.0 > forgotten);
    // The other one as if it had been given something too.
    let header =
        wire::desired::Header::of(Revision(Order::new(1, 9_000).unwrap()), &[0], equal.signed.unwrap().header.limits);
    equal.signed = Some(header.unwrap().sign(&hub_key(), FLEET, equal.id).unwrap());
    let header = equal.signed.unwrap().header;
    equal.accepted = (header.revision, header.body.prefix());
    equal.hello_and_prove(&mut world).unwrap();
    world.pass(Duration::from_secs(120));
    assert!(world.sent_to(equal.id, Down::Desired).is_empty());
    assert_eq!(status(&mut world).recovery.unwrap().ahead[0].device, "gw-2");
    world.answer(Request::HubApply { devices: vec!["gw-2".to_owned()] }).unwrap();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.sent_to(equal.id, Down::Desired).len(), 1);
}

#[test]
fn c13_the_same_content_under_a_forgotten_revision_is_healed_without_a_word() {
    let Restored { mut world, mut equal, .. } = Restored::new();
    let header = equal.signed.unwrap().header;
    let newer = wire::desired::Header { revision: Revision(Order::new(1, 9_000).unwrap()), ..header };
    equal.signed = Some(newer.sign(&hub_key(), FLEET, equal.id).unwrap());
    equal.accepted.0 = newer.revision;
    equal.hello_and_prove(&mut world).unwrap();
    world.pass(Duration::from_secs(1));
    let digest = equal.accepted.1;
    equal.run_all(&mut world);
    assert_eq!(equal.accepted.1, digest, "the same bytes");
    assert!(equal.accepted.0 > newer.revision && world.events("RevisionAhead").is_empty());
}

#[test]
fn c13_nobody_is_given_anything_before_it_was_heard_and_nothing_exclusive_for_the_longest_lease() {
    let Restored { mut world, mut equal, ahead } = Restored::new();
    world.run("more", json!({"on": ["gw-2"]})).unwrap();
    world.pass(Duration::from_secs(60));
    assert!(world.sent_to(equal.id, Down::Desired).is_empty() && world.sent_to(ahead.id, Down::Desired).is_empty());
    assert!(!status(&mut world).may_grant);
    equal.hello_and_prove(&mut world).unwrap();
    world.pass(Duration::from_secs(60));
    assert_eq!(equal.accept(&world).len(), 2, "heard, and not ahead");
    world.pass(GRANTS_PAUSE - Duration::from_secs(125));
    assert!(!world.engine.may_grant(world.now));
    // A restart in between begins anew: nobody knows how long it took.
    world.restart();
    world.pass(Duration::from_secs(60));
    assert!(!world.engine.may_grant(world.now));
    world.pass(GRANTS_PAUSE);
    assert!(world.engine.may_grant(world.now));
    world.restart();
    assert!(world.engine.may_grant(world.now), "the pause was noted as over");
    assert!(status(&mut world).recovery.is_some(), "gw-1 was not heard of: it may still be ahead");
}

#[test]
fn c13_a_claim_without_a_proof_concerns_one_device_and_is_no_reason_for_a_number() {
    let Restored { mut world, mut ahead, mut equal } = Restored::new();
    let (signed, accepted) = (ahead.signed.take(), ahead.accepted);
    ahead.accepted = (Revision(Order::new(Order::INCARNATION_MAX, Order::COUNTER_MAX).unwrap()), DigestPrefix([1; 8]));
    for _ in 0..PROOF_ASKED_MAX {
        assert!(ahead.hello(&mut world, true).unwrap().asks.contains(Asks::PROOF));
    }
    let refused = ahead.hello(&mut world, true).unwrap_err();
    assert_eq!(refused.reason, RefusalReason::Quarantined);
    ahead.hello(&mut world, true).unwrap_err();
    assert_eq!(world.events("Unproven").len(), 1, "told once");
    ahead.status(&mut world, &[Double::entry(1, 1, State::Failed, Reason::TRAPPED, "x")]);
    assert!(world.events("Failed").is_empty(), "nothing it says counts");
    equal.hello_and_prove(&mut world).unwrap();
    world.run("more", json!({"on": ["gw-2"]})).unwrap();
    world.pass(Duration::from_secs(2));
    equal.run_all(&mut world);
    assert_eq!(equal.accepted.0.0.incarnation(), 2, "the fleet goes on, under its own numbers");
    let shown = status(&mut world).recovery.unwrap();
    assert_eq!((shown.devices_ahead, shown.ahead[0].state.as_str()), (1, "Unproven"));
    // Nobody can overrule what was not proven; an operator can let it try again.
    let problem = world.answer(Request::HubApply { devices: vec!["gw-1".to_owned()] }).unwrap_err();
    assert_eq!(problem.code.as_str(), "NOT_NEEDED");
    let release = || Request::DeviceChange { name: "gw-1".to_owned(), change: DeviceChange::Release };
    assert!(world.answer(release()).is_ok());
    (ahead.signed, ahead.accepted) = (signed, accepted);
    ahead.hello_and_prove(&mut world).unwrap();
    assert_eq!(status(&mut world).recovery.unwrap().ahead[0].state, "Held");
    assert_eq!(world.answer(release()).unwrap_err().code.as_str(), "NOT_NEEDED");
}

/// Found by seed 923 of the simulator: the clock of the hub was in doubt, so that its questions were never sent.
#[test]
fn c13_a_question_that_was_not_sent_is_not_one_that_was_not_answered() {
    let Restored { mut world, mut ahead, .. } = Restored::new();
    let before = world.now.wall_ms;
    world.now.wall_ms += 6 * 60_000;
    world.pass(Duration::from_secs(1));
    for _ in 0..=PROOF_ASKED_MAX {
        assert!(ahead.try_hello(&mut world, true).is_none(), "a clock in doubt answers nobody");
    }
    assert!(world.events("Unproven").is_empty());
    world.now.wall_ms = before;
    world.pass(Duration::from_secs(1));
    ahead.hello_and_prove(&mut world).unwrap();
    assert_eq!(status(&mut world).recovery.unwrap().ahead[0].state, "Held");
}

/// A device that waits for its approval is asked nothing, however often it comes, and is asked once it is approved.
#[test]
fn c13_a_device_that_waits_for_its_approval_is_asked_for_its_proof_when_it_has_it() {
    let mut world = World::new();
    let token = world.token(false);
    let mut device = Double::new(1);
    device.join(&mut world, &token, "gw-1").unwrap().unwrap();
    device.accepted = (Revision(Order::new(9, 9).unwrap()), DigestPrefix([1; 8]));
    for _ in 0..=PROOF_ASKED_MAX {
        assert_eq!(device.hello(&mut world, true).unwrap_err().reason, RefusalReason::NotApproved);
    }
    let from = world.sent.len();
    let approve = Request::DeviceChange { name: "gw-1".to_owned(), change: DeviceChange::Approve };
    assert!(world.answer(approve).is_ok());
    let fresh = device.take_fresh(&world, from).unwrap().unwrap();
    assert!(fresh.asks.contains(Asks::PROOF));
}

#[test]
fn c13_a_proof_of_something_else_is_none() {
    let Restored { mut world, mut ahead, equal } = Restored::new();
    let signed = ahead.signed.unwrap();
    for wrong in [
        equal.signed.unwrap(),
        wire::desired::SignedHeader { key: wire::sign::KeyId([9; 4]), ..signed },
        wire::desired::SignedHeader { signature: wire::sign::Signature([7; 64]), ..signed },
    ] {
        (ahead.signed, ahead.shows) = (Some(wrong), false);
        ahead.hello(&mut world, true).unwrap();
        ahead.hello(&mut world, true).unwrap_err();
        assert_eq!(status(&mut world).recovery.unwrap().ahead[0].state, "Unproven");
        let change = DeviceChange::Release;
        world.answer(Request::DeviceChange { name: "gw-1".to_owned(), change }).unwrap();
    }
}

#[test]
fn c13_a_device_ahead_of_a_hub_that_believes_itself_whole_makes_it_look_again() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    world.run("one", json!({"on": ["gw-1"]})).unwrap();
    device.run_all(&mut world);
    let backup = world.writer.database.clone();
    let numbers = backup.workload_id_next;
    let artifact = world.upload("app", 0x22);
    world.put(&ObjectKey::workload("default", "one"), workload("one", &artifact, json!({"on": ["gw-1"]}))).unwrap();
    device.run_all(&mut world);
    for _ in 0..5 {
        world.restart();
    }
    let artifact = world.upload("app", 0x33);
    world.put(&ObjectKey::workload("default", "one"), workload("one", &artifact, json!({"on": ["gw-1"]}))).unwrap();
    device.hello(&mut world, false).unwrap();
    device.run_all(&mut world);
    assert_eq!(device.accepted.0.0.incarnation(), 6);
    // The whole directory of an earlier day: nothing here knows that anything is missing.
    world.writer = Writer { database: backup, ..Writer::default() };
    world.retained.clear();
    world.restart();
    assert!(status(&mut world).may_grant);
    device.hello_and_prove(&mut world).unwrap();
    let shown = status(&mut world);
    assert_eq!((shown.incarnation, shown.may_grant), (7, false), "above what was proven");
    assert_eq!(shown.recovery.unwrap().cause, "Ahead");
    let skipped = world.writer.database.workload_id_next - numbers;
    assert_eq!(skipped, WORKLOAD_IDS_SKIPPED, "what was forgotten may have had numbers of its own");
    world.answer(Request::HubApply { devices: vec!["gw-1".to_owned()] }).unwrap();
    world.pass(Duration::from_secs(1));
    device.run_all(&mut world);
    assert_eq!(device.accepted.0.0.incarnation(), 7);
    world.restart();
    assert_eq!(status(&mut world).incarnation, 8, "and it is durable");
}

#[test]
fn c13_a_set_that_was_forgotten_altogether_is_not_taken_for_one_of_a_former_life() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    let backup = world.writer.database.clone();
    world.run("one", json!({"on": ["gw-1"]})).unwrap();
    device.run_all(&mut world);
    restore(&mut world, backup);
    device.hello_and_prove(&mut world).unwrap();
    // After the next start too, when its revision is far below what this hub says.
    world.restart();
    device.hello_and_prove(&mut world).unwrap();
    world.pass(Duration::from_secs(60));
    assert!(world.sent_to(device.id, Down::Desired).is_empty(), "an empty set would end what it runs");
    world.answer(Request::HubApply { devices: Vec::new() }).unwrap();
    world.pass(Duration::from_secs(1));
    assert_eq!(device.accept(&world).len(), 0, "the operator wants what the hub knows");
}

#[test]
fn c13_a_status_that_is_ahead_is_asked_to_prove_it() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    world.run("one", json!({"on": ["gw-1"]})).unwrap();
    device.run_all(&mut world);
    world.pass(Duration::from_secs(31));
    world.sent.clear();
    device.accepted.0 = Revision(Order::new(1, 9_000).unwrap());
    device.status(&mut world, &[]);
    assert_eq!(world.sent_to(device.id, Down::Command).len(), 1);
    assert!(status(&mut world).recovery.is_none(), "a claim alone proves nothing");
}

#[test]
fn c13_decisions_about_nothing_are_refused() {
    let mut world = World::new();
    for request in
        [Request::HubApply { devices: Vec::new() }, Request::HubHold { devices: Vec::new() }, Request::HubTakeover]
    {
        assert_eq!(world.answer(request).unwrap_err().code.as_str(), "NOT_NEEDED");
    }
    let unknown = world.answer(Request::HubApply { devices: vec!["gw-9".to_owned()] });
    assert_eq!(unknown.unwrap_err().code.as_str(), "NOT_FOUND");
}
