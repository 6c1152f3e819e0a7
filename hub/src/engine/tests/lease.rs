//! Exclusive work: the hub's half of "at most one at any time", with devices that ask in real frames.
use super::device::Double;
use super::world::{World, workload};
use super::writer::FLEET;
use crate::commit::{CommitFailure, LeaseRow};
use crate::engine::port::*;
use crate::engine::{LEASES_MAX, NEEDS_BURST};
use crate::model::ObjectKey;
use serde_json::{Value, json};
use std::time::Duration;
use wire::event::Fenced;
use wire::frame::decode_plain;
use wire::grant::Grant;
use wire::hello::HubState;
use wire::id::Order;
use wire::lease::regrant_ms;
use wire::status::{Reason, State};
use wire::topic::{Topic, Up};
use wire::{BootId, DeviceId, Fence, WorkloadId};

const SECOND: Duration = Duration::from_secs(1);
const LEASE: &str = "60s";
/// Of `LEASE`: so long nobody else gets it.
const WAIT: Duration = Duration::from_millis(regrant_ms(60_000));

fn key() -> ObjectKey {
    ObjectKey::workload("default", "pump")
}

fn put(world: &mut World, lease: &str) {
    let artifact = world.upload("app", 0x11);
    let mut document = workload("pump", &artifact, json!({"labels": {"zone": "a"}}));
    document["spec"]["partition"] = json!({"exclusive": {"lease": lease}});
    world.put(&key(), document).unwrap();
}

/// Two devices, the first of which has the work (number 1) and has taken in its set.
fn pair() -> (World, Double, Double) {
    let mut world = World::new();
    let mut first = Double::online(&mut world, 1, "gw-1");
    put(&mut world, LEASE);
    first.accept(&world);
    let second = Double::online(&mut world, 2, "gw-2");
    (world, first, second)
}

fn change(world: &mut World, device: &str, change: DeviceChange) {
    world.answer(Request::DeviceChange { name: device.to_owned(), change }).unwrap();
}

/// The work goes to the other device; the first one does not hear of it.
fn move_away(world: &mut World) {
    change(world, "gw-1", DeviceChange::Drain);
    let status = world.get(&key())["status"].clone();
    assert_eq!(status["devices"][0]["device"], "gw-2", "{status}");
}

fn lease(world: &mut World) -> Value {
    world.get(&key())["status"]["lease"].clone()
}

/// Asks every second; how long it took, and what came.
fn ask_until_granted(world: &mut World, device: &mut Double) -> (Duration, Grant) {
    let start = world.now.monotonic;
    for _ in 0..4000 {
        let from = world.sent.len();
        let frame = device.need_frame(1);
        device.up(world, Up::Need, frame);
        world.pass(SECOND);
        if let Some(grant) = device.grants(world, from).pop() {
            return (world.now.monotonic.since(start), grant);
        }
    }
    panic!("never granted");
}

fn witness(world: &World) -> HubState {
    let topic = Topic::HubState.print(FLEET).unwrap();
    decode_plain(world.retained.get(topic.as_str()).unwrap()).unwrap()
}

#[test]
fn c3_the_first_grant_is_durable_and_witnessed_before_it_leaves() {
    let (mut world, mut first, _second) = pair();
    world.writer.holds = true;
    world.acknowledges = false;
    let from = world.sent.len();
    assert_eq!(first.need(&mut world, 1), None);
    world.pass(5 * SECOND);
    assert!(witness(&world).fence == Fence(Order::ZERO) && first.grants(&world, from).is_empty(), "not durable yet");
    world.write();
    world.pass(2 * SECOND);
    let fence = witness(&world).fence;
    assert!(fence > Fence(Order::ZERO) && first.grants(&world, from).is_empty(), "durable, and not acknowledged yet");
    let publication = world.sent.iter().rfind(|sent| sent.topic.ends_with("hub/state")).unwrap().publication;
    world.input(Input::Acknowledged { publication });
    let grants = first.grants(&world, from);
    assert_eq!(grants.len(), 1);
    assert_eq!((grants[0].fence, grants[0].ms, grants[0].workload), (fence, 60_000, WorkloadId(1)));
    assert_eq!(world.writer.database.leases[&1].fence, fence);
    let told = world.events("LeaseGranted");
    assert!(told.len() == 1 && told[0].device.as_deref() == Some("gw-1"), "{told:?}");
    let shown = lease(&mut world);
    assert_eq!((&shown["state"], &shown["device"]), (&json!("Held"), &json!("gw-1")), "{shown}");
    assert_eq!(shown["fence"], fence.0.to_string());
}

#[test]
fn renewals_keep_their_fence_and_write_nothing() {
    let (mut world, mut first, _second) = pair();
    let (_, granted) = ask_until_granted(&mut world, &mut first);
    let (batches, states) = (world.batches.len(), world.sent.iter().filter(|sent| sent.retain).count());
    for _ in 0..100 {
        world.pass(20 * SECOND);
        first.heartbeat(&mut world, true);
        assert_eq!(first.need(&mut world, 1).map(|grant| (grant.fence, grant.ms)), Some((granted.fence, 60_000)));
    }
    assert_eq!(world.batches.len(), batches);
    assert_eq!(world.sent.iter().filter(|sent| sent.retain).count(), states, "and nothing is said to the fleet");
    assert_eq!(world.events("LeaseGranted").len(), 1);
    let Ok(Answer::Measures(measures)) = world.answer(Request::Measure) else { panic!() };
    assert_eq!((measures.leases, measures.leases_granted, measures.leases_renewed), (1, 1, 100));
}

#[test]
fn c3_another_device_gets_it_only_when_the_first_has_certainly_stopped() {
    let (mut world, mut first, mut second) = pair();
    ask_until_granted(&mut world, &mut first);
    world.pass(30 * SECOND);
    let renewed = first.need(&mut world, 1).unwrap();
    let at = world.now.monotonic;
    move_away(&mut world);
    second.accept(&world);
    let (_, granted) = ask_until_granted(&mut world, &mut second);
    let waited = world.now.monotonic.since(at);
    assert!(waited >= WAIT && waited <= WAIT + 2 * SECOND, "{waited:?}");
    assert!(granted.fence > renewed.fence, "a new right is above the old one");
    assert_eq!(world.events("LeaseExpired").len(), 1);
    assert_eq!(first.need(&mut world, 1), None, "it has lost the work");
    let shown = lease(&mut world);
    assert_eq!((&shown["device"], &shown["fence"]), (&json!("gw-2"), &json!(granted.fence.0.to_string())));
}

#[test]
fn a_question_that_comes_too_early_is_answered_when_its_time_comes() {
    let (mut world, mut first, mut second) = pair();
    let (_, before) = ask_until_granted(&mut world, &mut first);
    move_away(&mut world);
    second.accept(&world);
    world.pass(WAIT - 10 * SECOND);
    let from = world.sent.len();
    assert_eq!(second.need(&mut world, 1), None);
    assert_eq!(lease(&mut world)["waiting"], "gw-2");
    world.pass(5 * SECOND);
    assert!(second.grants(&world, from).is_empty());
    world.pass(6 * SECOND);
    let grants = second.grants(&world, from);
    assert!(grants.len() == 1 && grants[0].fence > before.fence, "without asking again: {grants:?}");
    // A question that is too old is worth nothing.
    change(&mut world, "gw-1", DeviceChange::Undrain);
    change(&mut world, "gw-2", DeviceChange::Drain);
    let from = world.sent.len();
    assert_eq!(first.need(&mut world, 1), None);
    world.pass(WAIT + 10 * SECOND);
    assert!(first.grants(&world, from).is_empty());
}

#[test]
fn what_is_given_back_goes_on_at_once() {
    let (mut world, mut first, mut second) = pair();
    let (_, granted) = ask_until_granted(&mut world, &mut first);
    move_away(&mut world);
    second.accept(&world);
    let from = world.sent.len();
    assert_eq!(second.need(&mut world, 1), None);
    first.released(&mut world, 1, granted.fence);
    world.pass(2 * SECOND);
    let grants = second.grants(&world, from);
    assert!(grants.len() == 1 && grants[0].fence > granted.fence, "{grants:?}");
    assert_eq!((world.events("LeaseReleased").len(), world.events("LeaseExpired").len()), (1, 0));
    // Said once more by a broker that repeats it: it is about the lease before.
    first.released(&mut world, 1, granted.fence);
    assert_eq!(lease(&mut world)["state"], "Held");
}

#[test]
fn only_the_holder_gives_its_own_present_lease_back() {
    let (mut world, mut first, second) = pair();
    let (_, old) = ask_until_granted(&mut world, &mut first);
    first.released(&mut world, 1, old.fence);
    let (_, present) = ask_until_granted(&mut world, &mut first);
    assert!(present.fence > old.fence, "what was given back is never renewed");
    let higher = Fence(Order::new(9, 9).unwrap());
    for fence in [old.fence, higher] {
        first.released(&mut world, 1, fence);
        assert_eq!(lease(&mut world)["state"], "Held", "of another fence");
    }
    second.released(&mut world, 1, present.fence);
    assert_eq!(lease(&mut world)["state"], "Held", "of another device");
    let mut copy = Double::new(1);
    (copy.boot, copy.session) = (BootId([0x77; 8]), first.session);
    copy.released(&mut world, 1, present.fence);
    assert_eq!(lease(&mut world)["state"], "Held", "of another boot, which has no session");
    let refused = world.engine.messages_refused;
    let mut stranger = Double::new(3);
    (stranger.id, stranger.session) = (first.id, first.session);
    stranger.released(&mut world, 1, present.fence);
    assert_eq!(lease(&mut world)["state"], "Held", "with another key");
    assert_eq!(world.engine.messages_refused, refused + 1);
    first.released(&mut world, 1, present.fence);
    assert_eq!(lease(&mut world)["state"], "Ended");
}

#[test]
fn c6_a_boot_does_not_inherit_the_lease_of_the_one_before() {
    let (mut world, mut first, _second) = pair();
    let (_, before) = ask_until_granted(&mut world, &mut first);
    let at = world.now.monotonic;
    world.pass(10 * SECOND);
    first.reboot(&mut world);
    let (_, after) = ask_until_granted(&mut world, &mut first);
    let waited = world.now.monotonic.since(at);
    assert!(waited >= WAIT && waited <= WAIT + 2 * SECOND, "{waited:?}");
    assert!(after.fence > before.fence);
}

#[test]
fn c7_a_hundred_boots_get_one_lease() {
    let (mut world, mut first, _second) = pair();
    ask_until_granted(&mut world, &mut first);
    let (start, from) = (world.now.monotonic, world.sent.len());
    let mut granted = 0;
    for _ in 0..100 {
        first.reboot(&mut world);
        granted += usize::from(first.need(&mut world, 1).is_some());
        world.pass(SECOND / 2);
    }
    assert!(world.now.monotonic.since(start) < WAIT);
    let topic = Topic::Down(first.id, wire::topic::Down::Grant).print(FLEET).unwrap();
    let sent = world.sent[from..].iter().filter(|sent| sent.topic == topic.as_str()).count();
    assert_eq!((granted, sent), (0, 0), "until the first has certainly stopped");
    assert_eq!(world.events("LeaseGranted").len(), 1);
}

#[test]
fn c1_a_hub_that_restarts_renews_for_the_same_boot_and_makes_others_wait() {
    let (mut world, mut first, mut second) = pair();
    let (_, before) = ask_until_granted(&mut world, &mut first);
    world.restart();
    first.hello(&mut world, false).unwrap();
    let renewed = first.need(&mut world, 1).unwrap();
    assert_eq!(renewed.fence, before.fence, "it runs on");
    // What was granted just before the end of the hub is not known to it: everything counts as granted at its start.
    world.pass(55 * SECOND);
    world.restart();
    let at = world.now.monotonic;
    second.hello(&mut world, false).unwrap();
    move_away(&mut world);
    second.accept(&world);
    let (_, granted) = ask_until_granted(&mut world, &mut second);
    // The restart itself took three seconds.
    let waited = world.now.monotonic.since(at) + 3 * SECOND;
    assert!(waited >= WAIT && waited <= WAIT + 5 * SECOND, "{waited:?}");
    assert!(granted.fence > before.fence);
    // One that has ended is not waited for after a restart.
    second.released(&mut world, 1, granted.fence);
    world.restart();
    second.hello(&mut world, false).unwrap();
    let (waited, again) = ask_until_granted(&mut world, &mut second);
    assert!(waited <= 2 * SECOND && again.fence > granted.fence, "{waited:?}");
}

#[test]
fn c1_a_hub_that_ends_between_commit_and_witness_has_granted_nothing_yet() {
    let (mut world, mut first, _second) = pair();
    world.acknowledges = false;
    let from = world.sent.len();
    first.need(&mut world, 1);
    world.pass(3 * SECOND);
    let issued = world.writer.database.leases[&1].fence;
    assert!(first.grants(&world, from).is_empty());
    // The word was lost with the broker, too.
    world.retained.clear();
    world.restart();
    first.hello(&mut world, false).unwrap();
    let from = world.sent.len();
    assert_eq!(first.need(&mut world, 1), None, "the broker has not taken over any word of this hub");
    world.acknowledges = true;
    world.connect();
    let (_, granted) = ask_until_granted(&mut world, &mut first);
    assert_eq!(granted.fence, issued);
    let place = |found: &dyn Fn(&Publication) -> bool| world.sent[from..].iter().position(found).unwrap();
    let said = place(&|sent| {
        sent.topic.ends_with("hub/state") && decode_plain::<HubState>(&sent.payload).unwrap().fence >= issued
    });
    assert!(said < place(&|sent| sent.topic.ends_with("down/grant")), "first the word, then the grant");
}

#[test]
fn c13_a_database_below_the_witness_grants_nothing() {
    let (mut world, mut first, _second) = pair();
    let backup = world.writer.database.clone();
    let (_, granted) = ask_until_granted(&mut world, &mut first);
    let incarnation = world.writer.database.incarnation;
    // The high-water file beside the database is not restored with it.
    world.writer.database = crate::engine::tests::writer::Database { incarnation, ..backup };
    world.restart();
    first.hello(&mut world, false).unwrap();
    for _ in 0..100 {
        world.pass(5 * SECOND);
        first.heartbeat(&mut world, true);
        assert_eq!(first.need(&mut world, 1), None);
    }
    assert_eq!(world.events("FenceAhead").len(), 1);
    assert!(witness(&world).fence >= granted.fence, "the word is not taken back");
}

#[test]
fn a_witness_of_a_deleted_workload_is_no_alarm() {
    let (mut world, mut first, _second) = pair();
    let (_, granted) = ask_until_granted(&mut world, &mut first);
    first.released(&mut world, 1, granted.fence);
    world.answer(Request::Delete { key: key(), if_match: None }).unwrap();
    assert!(world.writer.database.leases.is_empty(), "it goes with the workload");
    world.restart();
    first.hello(&mut world, false).unwrap();
    change(&mut world, "gw-2", DeviceChange::Cordon);
    put(&mut world, LEASE);
    assert!(world.events("FenceAhead").is_empty());
    let from = world.sent.len();
    let frame = first.need_frame(2);
    first.up(&mut world, Up::Need, frame);
    world.pass(2 * SECOND);
    assert_eq!(first.grants(&world, from).len(), 1);
}

#[test]
fn a_repeated_question_lengthens_nothing() {
    let (mut world, mut first, mut second) = pair();
    ask_until_granted(&mut world, &mut first);
    let frame = first.need_frame(1);
    first.up(&mut world, Up::Need, frame.clone());
    let at = world.now.monotonic;
    for _ in 0..5 {
        world.pass(10 * SECOND);
        let from = world.sent.len();
        first.up(&mut world, Up::Need, frame.clone());
        assert_eq!(first.grants(&world, from).len(), 1, "the same answer, if it was lost");
    }
    move_away(&mut world);
    second.accept(&world);
    let (_, granted) = ask_until_granted(&mut world, &mut second);
    let waited = world.now.monotonic.since(at);
    assert!(waited <= WAIT + 2 * SECOND, "{waited:?}");
    // And once it is somebody else's, not even that.
    let from = world.sent.len();
    first.up(&mut world, Up::Need, frame);
    assert!(first.grants(&world, from).is_empty());
    assert_eq!(lease(&mut world)["fence"], granted.fence.0.to_string());
}

#[test]
fn of_two_devices_that_ask_only_the_assigned_one_is_heard() {
    let (mut world, mut first, mut second) = pair();
    for _ in 0..5 {
        assert_eq!(second.need(&mut world, 1), None);
        world.pass(SECOND);
    }
    let (_, granted) = ask_until_granted(&mut world, &mut first);
    assert_eq!(second.need(&mut world, 1), None);
    assert!(first.need(&mut world, 1).is_some_and(|renewed| renewed.fence == granted.fence));
    assert_eq!(first.need(&mut world, 7), None, "there is no such workload");
    world.run("plain", json!({"on": ["gw-1"]})).unwrap();
    first.accept(&world);
    assert_eq!(first.need(&mut world, 2), None, "one that needs no lease");
}

#[test]
fn the_longest_lease_that_was_granted_counts_when_the_manifest_changes() {
    let (mut world, mut first, mut second) = pair();
    ask_until_granted(&mut world, &mut first);
    let at = world.now.monotonic;
    put(&mut world, "15s");
    move_away(&mut world);
    second.accept(&world);
    let (_, granted) = ask_until_granted(&mut world, &mut second);
    assert!(world.now.monotonic.since(at) >= WAIT);
    assert_eq!(granted.ms, 15_000);
    // A longer one is known to the database before it is known to the device.
    put(&mut world, "1h");
    world.writer.holds = true;
    let from = world.sent.len();
    assert_eq!(second.need(&mut world, 1), None);
    world.write();
    let renewed = second.grants(&world, from);
    assert_eq!((renewed[0].fence, renewed[0].ms), (granted.fence, 3_600_000));
    assert_eq!(world.writer.database.leases[&1].ms, 3_600_000);
}

#[test]
fn a_workload_that_is_made_anew_waits_for_the_lease_of_the_one_before() {
    let (mut world, mut first, _second) = pair();
    ask_until_granted(&mut world, &mut first);
    let at = world.now.monotonic;
    world.answer(Request::Delete { key: key(), if_match: None }).unwrap();
    change(&mut world, "gw-2", DeviceChange::Cordon);
    put(&mut world, LEASE);
    let start = world.sent.len();
    loop {
        let frame = first.need_frame(2);
        first.up(&mut world, Up::Need, frame);
        world.pass(SECOND);
        if !first.grants(&world, start).is_empty() {
            break;
        }
        assert!(world.now.monotonic.since(at) < WAIT + 3 * SECOND);
    }
    assert!(world.now.monotonic.since(at) >= WAIT, "the old one may have run until now");
    let kept: Vec<u32> = world.writer.database.leases.keys().copied().collect();
    assert_eq!(kept, [2], "the row of the old one went when it had run out");
}

#[test]
fn work_that_becomes_exclusive_is_not_at_once() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    let artifact = world.upload("app", 0x11);
    let mut document = workload("pump", &artifact, json!({"labels": {"zone": "a"}}));
    world.put(&key(), document.clone()).unwrap();
    device.accept(&world);
    document["spec"]["partition"] = json!({"exclusive": {"lease": LEASE}});
    let Ok(Answer::Object { warnings, .. }) = world.put(&key(), document.clone()) else { panic!() };
    assert!(warnings.len() == 1 && warnings[0].contains("until this change has reached them"), "{warnings:?}");
    document["spec"]["partition"] = json!({"exclusive": {"lease": "30s"}});
    let Ok(Answer::Object { warnings, .. }) = world.put(&key(), document) else { panic!() };
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn a_device_that_is_deleted_keeps_its_lease_until_it_has_run_out() {
    let (mut world, mut first, mut second) = pair();
    ask_until_granted(&mut world, &mut first);
    let at = world.now.monotonic;
    change(&mut world, "gw-1", DeviceChange::DecommissionNow);
    second.accept(&world);
    assert_eq!(lease(&mut world)["device"], first.id.text().as_str());
    ask_until_granted(&mut world, &mut second);
    assert!(world.now.monotonic.since(at) >= WAIT);
}

#[test]
fn c9_a_hub_that_doubts_its_clock_grants_nothing_and_answers_when_it_is_sure_again() {
    let (mut world, mut first, _second) = pair();
    let wall_ms = world.now.wall_ms;
    world.now.wall_ms += 3_600_000;
    let from = world.sent.len();
    assert_eq!(first.need(&mut world, 1), None);
    world.pass(2 * SECOND);
    assert!(first.grants(&world, from).is_empty());
    world.now.wall_ms = wall_ms + 2_000;
    first.heartbeat(&mut world, true);
    world.pass(2 * SECOND);
    assert_eq!(first.grants(&world, from).len(), 1, "without asking again");
}

#[test]
fn a_lease_that_the_database_did_not_take_was_never_given() {
    let (mut world, mut first, mut second) = pair();
    world.fail_next(CommitFailure::DiskFull);
    let from = world.sent.len();
    assert_eq!(first.need(&mut world, 1), None);
    assert!(first.grants(&world, from).is_empty() && world.writer.database.leases.is_empty());
    assert!(lease(&mut world).is_null());
    let (waited, granted) = ask_until_granted(&mut world, &mut first);
    assert!(waited <= 2 * SECOND, "{waited:?}");
    // The end of a lease that is not durable is no end: after a restart it counts.
    world.fail_next(CommitFailure::Io);
    first.released(&mut world, 1, granted.fence);
    assert!(!world.writer.database.leases[&1].ended);
    world.pass(6 * SECOND);
    move_away(&mut world);
    second.accept(&world);
    let (waited, next) = ask_until_granted(&mut world, &mut second);
    assert!(waited <= 2 * SECOND && next.fence > granted.fence, "nobody runs under it: {waited:?}");
}

#[test]
fn c8_only_events_of_the_present_lease_reach_others() {
    let (mut world, mut first, mut second) = pair();
    world.run("listener", json!({"on": ["gw-2"]})).unwrap();
    second.accept(&world);
    let (_, old) = ask_until_granted(&mut world, &mut first);
    let from = world.sent.len();
    first.emit_as(&mut world, 1, "alarm/a", 1, Some(old.fence));
    let fenced = |fence| Some(Fenced { workload: WorkloadId(1), fence });
    assert_eq!(second.inputs(&world, from), [(WorkloadId(2), fenced(old.fence))], "and its right goes with it");
    first.emit_as(&mut world, 2, "alarm/a", 1, None);
    let above = Fence(Order::new(old.fence.0.incarnation(), old.fence.0.counter() + 1000).unwrap());
    first.emit_as(&mut world, 3, "alarm/a", 1, Some(above));
    second.emit_as(&mut world, 1, "alarm/a", 1, Some(old.fence));
    assert_eq!(
        second.inputs(&world, from).len(),
        1,
        "without a fence, with one that was never issued, of another device"
    );
    move_away(&mut world);
    second.accept(&world);
    let (_, present) = ask_until_granted(&mut world, &mut second);
    let from = world.sent.len();
    first.emit_as(&mut world, 4, "alarm/a", 1, Some(old.fence));
    assert!(second.inputs(&world, from).is_empty(), "who was late to stop reaches nobody");
    second.emit_as(&mut world, 2, "alarm/a", 1, Some(present.fence));
    assert_eq!(second.inputs(&world, from), [(WorkloadId(2), fenced(present.fence))]);
    let told = world.events("Fenced");
    assert_eq!(told.len(), 4);
    assert!(told[3].message.contains(&present.fence.0.to_string()), "{told:?}");
    let Ok(Answer::Measures(measures)) = world.answer(Request::Measure) else { panic!() };
    assert_eq!(measures.events_fenced, 4);
    // Work that needs no lease has no fence to show.
    let from = world.sent.len();
    second.emit_as(&mut world, 3, "alarm/a", 3, Some(above));
    world.run("other", json!({"on": ["gw-1"]})).unwrap();
    first.accept(&world);
    second.emit_as(&mut world, 4, "alarm/a", 2, Some(above));
    assert_eq!(first.inputs(&world, from).iter().filter(|(_, fence)| fence.is_some()).count(), 0);
}

#[test]
fn c8_a_right_that_the_database_has_forgotten_counts_until_there_is_a_new_one() {
    let (mut world, mut first, mut second) = pair();
    world.run("listener", json!({"on": ["gw-2"]})).unwrap();
    second.accept(&world);
    let (_, old) = ask_until_granted(&mut world, &mut first);
    world.writer.database.leases.clear();
    world.restart();
    first.hello(&mut world, false).unwrap();
    second.hello(&mut world, false).unwrap();
    second.heartbeat(&mut world, true);
    let from = world.sent.len();
    let order = |incarnation, counter| Some(Fence(Order::new(incarnation, counter).unwrap()));
    let counter = old.fence.0.counter();
    first.emit_as(&mut world, 1, "alarm/a", 1, order(1, counter));
    assert_eq!(second.inputs(&world, from).len(), 1);
    first.emit_as(&mut world, 2, "alarm/a", 1, order(1, counter - 1));
    second.emit_as(&mut world, 1, "alarm/a", 1, order(1, counter));
    first.emit_as(&mut world, 3, "alarm/a", 1, order(2, counter));
    assert_eq!(second.inputs(&world, from).len(), 1, "lower, of a device without the work, of this life of the hub");
    ask_until_granted(&mut world, &mut first);
    first.emit_as(&mut world, 4, "alarm/a", 1, order(1, counter));
    assert_eq!(second.inputs(&world, from).len(), 1, "there is a new one");
}

#[test]
fn c8_what_runs_without_the_lease_does_not_count_as_running() {
    let (mut world, mut first, _second) = pair();
    let running = [Double::entry(1, 1, State::Running, Reason::NONE, "")];
    let shown = |world: &mut World| {
        let status = world.get(&key())["status"].clone();
        (status["running"].as_u64().unwrap(), status["devices"][0]["reason"].as_str().unwrap().to_owned())
    };
    first.status(&mut world, &running);
    assert_eq!(shown(&mut world), (0, "WAITS_FOR_GRANT".to_owned()), "it was never granted");
    ask_until_granted(&mut world, &mut first);
    assert_eq!(shown(&mut world), (1, "NONE".to_owned()));
    first.reboot(&mut world);
    first.status(&mut world, &running);
    assert_eq!(shown(&mut world), (0, "WAITS_FOR_GRANT".to_owned()), "the boot before had it");
    let (_, granted) = ask_until_granted(&mut world, &mut first);
    first.status(&mut world, &running);
    assert_eq!(shown(&mut world).0, 1);
    first.released(&mut world, 1, granted.fence);
    assert_eq!(shown(&mut world).0, 0, "given back");
}

#[test]
fn questions_of_one_device_have_a_limit() {
    let (mut world, mut first, _second) = pair();
    ask_until_granted(&mut world, &mut first);
    world.pass(60 * SECOND);
    let before = world.engine.messages_refused;
    let frames: Vec<Vec<u8>> = (0..NEEDS_BURST + 1).map(|_| first.need_frame(1)).collect();
    for (count, frame) in (1..).zip(frames) {
        first.up(&mut world, Up::Need, frame);
        let refused = world.engine.messages_refused - before;
        assert_eq!(refused, u64::from(count > NEEDS_BURST), "{count}");
    }
}

#[test]
fn leases_have_a_limit() {
    let (mut world, mut first, _second) = pair();
    let row = |workload: u32| LeaseRow {
        workload,
        name: format!("default/w{workload}"),
        device: DeviceId([9; 16]),
        boot: BootId([9; 8]),
        fence: Fence(Order::new(1, 1).unwrap()),
        ms: 15_000,
        ended: true,
    };
    let rows = u32::try_from(LEASES_MAX).unwrap();
    // Of workloads that are there no more, for whichever reason.
    world.writer.database.leases = (1000..1000 + rows).map(|workload| (workload, row(workload))).collect();
    world.restart();
    first.hello(&mut world, false).unwrap();
    let from = world.sent.len();
    first.need(&mut world, 1);
    world.pass(3 * SECOND);
    assert!(first.grants(&world, from).is_empty(), "one more than there may be");
    world.writer.database.leases.remove(&1000);
    world.restart();
    first.hello(&mut world, false).unwrap();
    ask_until_granted(&mut world, &mut first);
    assert_eq!(world.writer.database.leases.len(), LEASES_MAX);
}
