//! C12: two hubs on copies of one database, at one broker.
use super::device::Double;
use super::recovery::status;
use super::world::{World, workload};
use crate::commit::WORKLOAD_IDS_SKIPPED;
use crate::engine::Engine;
use crate::engine::port::*;
use crate::engine::recovery::GRANTS_PAUSE;
use crate::engine::rival::{ANNOUNCE_PAUSE, RIVAL_JUMP_MAX, RIVAL_SILENCE, RIVALS_MAX};
use crate::model::ObjectKey;
use serde_json::json;
use std::time::Duration;
use wire::Instance;
use wire::frame::{decode_plain, encode_plain};
use wire::hello::HubState;
use wire::id::{Fence, Order};
use wire::topic::{Down, Topic};

fn state(incarnation: u32, instance: u8) -> HubState {
    HubState { incarnation, spread_ms: 0, watermark: 0, fence: Fence(Order::ZERO), instance: Instance([instance; 8]) }
}

fn hears(world: &mut World, state: &HubState, retained: bool) {
    let mut buffer = [0; 64];
    let payload = encode_plain(&mut buffer, state).unwrap().to_vec();
    world.input(Input::HubStateSeen { payload, retained });
}

fn is_stopped(world: &mut World) -> bool {
    let status = status(world);
    let is_stopped = status.conditions.iter().any(|condition| condition.name == "SecondHub");
    assert!(!is_stopped || !status.may_grant, "who says nothing grants nothing");
    is_stopped
}

/// Announcements since the last look, which are never retained.
fn announced(world: &mut World) -> Vec<HubState> {
    let topic = Topic::HubState.print("test").unwrap();
    let sent = std::mem::take(&mut world.sent);
    let states = sent.into_iter().filter(|sent| sent.topic == topic.as_str() && !sent.retain);
    states.map(|sent| decode_plain(&sent.payload).unwrap()).collect()
}

#[test]
fn c12_a_hub_that_hears_a_higher_incarnation_says_nothing_more() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    world.run("one", json!({"on": ["gw-1"]})).unwrap();
    device.run_all(&mut world);
    world.sent.clear();
    hears(&mut world, &state(2, 9), false);
    assert!(is_stopped(&mut world));
    assert_eq!(world.events("SecondHub").len(), 1);
    let artifact = world.upload("app", 0x22);
    let changed = workload("one", &artifact, json!({"on": ["gw-1"]}));
    world.put(&ObjectKey::workload("default", "one"), changed).unwrap();
    assert!(device.try_hello(&mut world, false).is_none(), "no Fresh either");
    world.pass(Duration::from_secs(60));
    assert!(world.sent_to(device.id, Down::Desired).is_empty());
    let retained = world.sent.iter().filter(|sent| sent.retain).count();
    assert_eq!(retained, 0, "what devices find at the broker is the other one's now");
    let online = world.get(&ObjectKey::device("gw-1"))["status"]["online"]["state"].clone();
    assert_eq!(online, "Online", "the silence is this hub's own");
    assert!(announced(&mut world).len() >= 5, "and the other one is told");
}

#[test]
fn c12_a_lower_one_that_goes_on_speaking_is_alive_and_last_words_are_not() {
    let mut world = World::new();
    world.restart();
    hears(&mut world, &state(1, 9), true);
    hears(&mut world, &state(1, 9), false);
    hears(&mut world, &state(1, 9), false);
    assert!(!is_stopped(&mut world), "the words of a process that has just ended come late, all at once");
    assert_eq!(announced(&mut world).len(), 1, "it is told at once that it is not alone");
    world.pass(ANNOUNCE_PAUSE);
    hears(&mut world, &state(1, 9), false);
    assert!(is_stopped(&mut world));
}

#[test]
fn c12_the_same_incarnation_in_another_instance_is_another_hub() {
    for retained in [true, false] {
        let mut world = World::new();
        hears(&mut world, &state(1, 0), retained);
        assert!(!is_stopped(&mut world), "its own words");
        hears(&mut world, &state(1, 9), retained);
        assert!(is_stopped(&mut world));
    }
}

#[test]
fn c12_when_the_other_one_is_silent_this_one_goes_on_above_it() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    world.run("one", json!({"on": ["gw-1"]})).unwrap();
    device.run_all(&mut world);
    hears(&mut world, &state(7, 9), false);
    for _ in 0..30 {
        world.pass(ANNOUNCE_PAUSE);
        hears(&mut world, &state(7, 9), false);
    }
    assert!(is_stopped(&mut world), "as long as it speaks");
    world.input(Input::LinkDown);
    world.pass(RIVAL_SILENCE * 2);
    world.connect();
    assert!(is_stopped(&mut world), "who was cut off heard nobody");
    world.pass(RIVAL_SILENCE);
    let status = status(&mut world);
    assert!(!is_stopped(&mut world));
    assert_eq!((status.incarnation, status.may_grant), (8, false));
    assert_eq!(status.recovery.unwrap().cause, "SecondHub");
    device.hello_and_prove(&mut world).unwrap();
    let artifact = world.upload("app", 0x22);
    world.put(&ObjectKey::workload("default", "one"), workload("one", &artifact, json!({"on": ["gw-1"]}))).unwrap();
    world.pass(Duration::from_secs(1));
    device.run_all(&mut world);
    assert_eq!(device.accepted.0.0.incarnation(), 8);
    world.pass(GRANTS_PAUSE);
    assert!(world.engine.may_grant(world.now));
}

#[test]
fn c12_an_operator_may_take_over_while_the_other_one_still_speaks() {
    let mut world = World::new();
    hears(&mut world, &state(7, 9), false);
    assert!(is_stopped(&mut world));
    let answer = world.answer(Request::HubTakeover);
    assert!(matches!(&answer, Ok(Answer::Status(status)) if status.incarnation == 8), "{answer:?}");
    let entry = world.batches.last().unwrap().audit.last().unwrap();
    assert_eq!((entry.actor.as_str(), entry.action, entry.object.as_str()), ("admin", "takeover", "hub"));
    assert!(world.access.contains(&AccessChange::HubPut), "its account at the broker too");
    announced(&mut world);
    for _ in 0..3 {
        world.pass(ANNOUNCE_PAUSE);
        hears(&mut world, &state(7, 9), false);
        assert!(!is_stopped(&mut world), "it was dismissed");
    }
    assert!(!announced(&mut world).is_empty(), "so that it stays stopped");
    hears(&mut world, &state(9, 8), false);
    assert!(is_stopped(&mut world), "one that started anew is another one");
}

/// A hub that says nothing does nothing either: what it would look at, were it alone, must not keep it awake.
#[test]
fn c12_a_hub_that_says_nothing_sleeps() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    world.run("one", json!({"on": ["gw-1"]})).unwrap();
    device.run_all(&mut world);
    let sleeps = |world: &World| world.engine.poll_timeout().is_none_or(|at| at > world.now.monotonic);
    hears(&mut world, &state(7, 9), false);
    for _ in 0..30 {
        world.pass(ANNOUNCE_PAUSE);
        hears(&mut world, &state(7, 9), false);
        assert!(is_stopped(&mut world) && sleeps(&world), "a heartbeat is overdue");
    }
    world.answer(Request::HubTakeover).unwrap();
    hears(&mut world, &state(20, 8), false);
    world.pass(Duration::from_secs(60));
    assert!(is_stopped(&mut world) && sleeps(&world), "what was forgotten is looked for later");
}

/// The other hub gave the same numbers to workloads of its own, and devices tell workloads apart by their numbers.
#[test]
fn c12_numbers_of_workloads_that_the_other_hub_may_have_given_are_given_to_no_other() {
    let mut world = World::new();
    world.run("one", json!({"on": ["gw-1"]})).unwrap();
    let before = world.writer.database.workload_id_next;
    hears(&mut world, &state(7, 9), false);
    world.answer(Request::HubTakeover).unwrap();
    let next = world.writer.database.workload_id_next;
    assert_eq!(next, before + WORKLOAD_IDS_SKIPPED);
    world.run("two", json!({"on": ["gw-1"]})).unwrap();
    assert_eq!(world.writer.database.workload_id_next, next + 1);
}

#[test]
fn c12_an_incarnation_that_was_made_up_uses_up_none() {
    let mut world = World::new();
    hears(&mut world, &state(1 + RIVAL_JUMP_MAX + 1, 9), false);
    world.pass(RIVAL_SILENCE * 3);
    assert!(is_stopped(&mut world), "hub/state is not signed: nobody goes that far without a word");
    let mut world = World::new();
    hears(&mut world, &state(Order::INCARNATION_MAX, 9), false);
    world.pass(RIVAL_SILENCE * 3);
    assert!(is_stopped(&mut world));
    world.answer(Request::HubTakeover).unwrap();
    assert_eq!(status(&mut world).incarnation, 2);
}

#[test]
fn c12_a_device_that_proves_another_set_with_our_revision_stops_the_hub() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    world.run("one", json!({"on": ["gw-1"]})).unwrap();
    device.run_all(&mut world);
    let ours = device.signed.unwrap().header;
    let theirs = wire::desired::Header::of(ours.revision, &[0], ours.limits).unwrap();
    device.signed = Some(theirs.sign(&super::writer::hub_key(), super::writer::FLEET, device.id).unwrap());
    device.accepted.1 = theirs.body.prefix();
    assert!(!is_stopped(&mut world));
    device.hello_and_prove(&mut world).unwrap();
    assert!(is_stopped(&mut world));
    // Nobody speaks: after a while this one goes on, and the device keeps what it has until it is decided.
    world.pass(RIVAL_SILENCE + Duration::from_secs(11));
    assert!(!is_stopped(&mut world));
    device.hello_and_prove(&mut world).unwrap();
    assert!(!is_stopped(&mut world), "settled");
    assert_eq!(status(&mut world).recovery.unwrap().ahead[0].state, "Held");
    world.answer(Request::HubApply { devices: vec!["gw-1".to_owned()] }).unwrap();
    world.pass(Duration::from_secs(1));
    assert_eq!(device.accept(&world).len(), 1);
}

#[test]
fn c12_a_device_that_counts_an_equivocation_stops_the_hub_once() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    world.run("one", json!({"on": ["gw-1"]})).unwrap();
    device.run_all(&mut world);
    device.equivocations = 1;
    device.run_all(&mut world);
    assert!(is_stopped(&mut world));
    assert_eq!(world.events("Equivocation").len(), 1);
    world.answer(Request::HubTakeover).unwrap();
    world.restart();
    device.hello_and_prove(&mut world).unwrap();
    device.run_all(&mut world);
    assert!(!is_stopped(&mut world), "what it counted before is settled");
}

/// A new boot counts anew: its first one was taken for the one of the boot before.
#[test]
fn c12_an_equivocation_of_a_new_boot_stops_the_hub_again() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    world.run("one", json!({"on": ["gw-1"]})).unwrap();
    device.equivocations = 1;
    device.run_all(&mut world);
    world.answer(Request::HubTakeover).unwrap();
    // Given anew, so that what it holds is of no gap.
    device.hello_and_prove(&mut world).unwrap();
    world.run("two", json!({"on": ["gw-1"]})).unwrap();
    device.run_all(&mut world);
    assert!(!is_stopped(&mut world), "settled");
    device.boot = wire::BootId([9; 8]);
    device.hello_and_prove(&mut world).unwrap();
    device.run_all(&mut world);
    assert!(is_stopped(&mut world));
}

#[test]
fn c12_an_account_that_was_taken_is_given_back_by_an_operator_alone() {
    let mut world = World::new();
    world.input(Input::AccountTaken);
    world.pass(RIVAL_SILENCE * 3);
    assert!(is_stopped(&mut world), "who cannot connect hears nobody");
    world.input(Input::LinkDown);
    world.answer(Request::HubTakeover).unwrap();
    assert!(!is_stopped(&mut world));
    // With its account it reads what the other one has left at the broker.
    let mut buffer = [0; 64];
    let left = encode_plain(&mut buffer, &state(5, 9)).unwrap().to_vec();
    let topic = Topic::HubState.print("test").unwrap();
    world.retained.insert(topic.as_str().to_owned(), left);
    world.connect();
    assert!(!is_stopped(&mut world), "that is history");
    assert_eq!(status(&mut world).incarnation, 6);
    hears(&mut world, &state(7, 8), false);
    assert!(is_stopped(&mut world), "and this is not");
}

#[test]
fn other_hubs_are_remembered_up_to_a_limit() {
    let mut world = World::new();
    world.restart();
    for instance in 0..=u8::try_from(RIVALS_MAX).unwrap() {
        hears(&mut world, &state(1, 100 + instance), false);
        world.pass(Duration::from_millis(10));
    }
    assert_eq!(world.engine.rivals.len(), RIVALS_MAX);
}

/// Two engines on copies, whose words reach one another as over one broker.
#[test]
fn c12_two_hubs_on_copies_both_stop_and_the_one_that_is_left_goes_on() {
    let mut first = World::new();
    let mut device = Double::online(&mut first, 1, "gw-1");
    first.run("one", json!({"on": ["gw-1"]})).unwrap();
    device.run_all(&mut first);
    let mut second = World::new();
    second.writer = super::writer::Writer { database: first.writer.database.clone(), ..Default::default() };
    second.retained = first.retained.clone();
    let mut config = EngineConfig::new(String::new(), String::new(), Box::new(super::writer::hub_exchange()));
    config.instance = Instance([2; 8]);
    second.engine = Engine::new(config, second.writer.database.load());
    first.sent.clear();
    second.sent.clear();
    second.connect();
    let topic = Topic::HubState.print("test").unwrap();
    let carry = |from: &mut World, to: &mut World| {
        for sent in std::mem::take(&mut from.sent).into_iter().filter(|sent| sent.topic == topic.as_str()) {
            if sent.retain {
                to.retained.insert(sent.topic, sent.payload.clone());
            }
            to.input(Input::HubStateSeen { payload: sent.payload, retained: false });
        }
    };
    let exchange = |first: &mut World, second: &mut World| {
        carry(second, first);
        carry(first, second);
    };
    exchange(&mut first, &mut second);
    assert!(is_stopped(&mut first), "the one that is behind, at the first word");
    for _ in 0..2 {
        first.pass(ANNOUNCE_PAUSE);
        second.pass(ANNOUNCE_PAUSE);
        exchange(&mut first, &mut second);
    }
    assert!(is_stopped(&mut second) && is_stopped(&mut first));
    // The second one is ended.
    first.pass(RIVAL_SILENCE + ANNOUNCE_PAUSE);
    assert!(!is_stopped(&mut first));
    assert_eq!(status(&mut first).incarnation, 3);
}
