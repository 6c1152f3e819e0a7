//! Desired sets on their way: only durable, only signed, only what fits, and only when something changed.
use super::device::Double;
use super::world::{World, put_request, workload};
use crate::engine::port::*;
use crate::model::ObjectKey;
use serde_json::json;
use std::time::Duration;
use wire::topic::Down;

#[test]
fn a_set_is_published_retained_and_signed_only_after_the_commit() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    let artifact = world.upload("app", 0x11);
    world.writer.holds = true;
    let document = workload("hello", &artifact, json!({"on": ["gw-1"]}));
    world.ask(put_request(&ObjectKey::workload("default", "hello"), document));
    assert_eq!(world.retained_desired(device.id), None);
    world.write();
    let set = device.accept(&world);
    assert_eq!(set.into_iter().collect::<Vec<_>>(), [((1, 0), 1)]);
}

#[test]
fn a_hello_with_an_equal_digest_causes_no_publication() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    device.run_all(&mut world);
    world.sent.clear();
    let fresh = device.hello(&mut world, false).unwrap();
    assert_eq!((fresh.revision, fresh.digest), device.accepted);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.sent_to(device.id, Down::Desired).len(), 0);
    device.accepted.1.0[0] ^= 1;
    device.hello(&mut world, false).unwrap();
    world.pass(Duration::from_secs(2));
    assert_eq!(world.sent_to(device.id, Down::Desired).len(), 1, "a different one gets it again");
}

#[test]
fn a_device_without_a_set_is_asked_for_a_hello_with_its_first_one() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    world.sent.clear();
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    assert_eq!(world.sent_to(device.id, Down::Command).len(), 1);
    let fresh = device.hello(&mut world, true).unwrap();
    device.accept(&world);
    assert_eq!((fresh.revision, fresh.digest), device.accepted, "and Fresh confirms it");
}

#[test]
fn an_oversize_set_is_never_sent_and_is_cleared() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    assert!(world.retained_desired(device.id).is_some());
    device.packet_bytes_max = 128;
    device.hello(&mut world, false).unwrap();
    assert_eq!(world.retained_desired(device.id), None);
    world.sent.clear();
    device.hello(&mut world, false).unwrap();
    world.pass(Duration::from_secs(60));
    assert_eq!(world.sent_to(device.id, Down::Desired).len(), 0);
    assert_eq!(world.events("TooLarge").len(), 1);
    let conditions = world.get(&ObjectKey::device("gw-1"))["status"]["conditions"].to_string();
    assert!(conditions.contains("TooLarge"), "{conditions}");
    device.packet_bytes_max = 65_536;
    device.hello(&mut world, false).unwrap();
    world.pass(Duration::from_secs(1));
    assert!(world.retained_desired(device.id).is_some(), "sent when it fits again");
}

#[test]
fn what_was_not_acknowledged_is_sent_again_after_a_reconnect() {
    let mut world = World::new();
    let device = Double::online(&mut world, 1, "gw-1");
    world.acknowledges = false;
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    assert_eq!(world.sent_to(device.id, Down::Desired).len(), 1);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.sent_to(device.id, Down::Desired).len(), 1, "once per connection");
    world.input(Input::LinkDown);
    world.acknowledges = true;
    world.connect();
    assert_eq!(world.sent_to(device.id, Down::Desired).len(), 2);
    world.pass(Duration::from_secs(6));
    world.input(Input::LinkDown);
    world.connect();
    assert_eq!(world.sent_to(device.id, Down::Desired).len(), 2, "acknowledged, and the watermark shows it");
}

#[test]
fn a_broker_that_lost_its_memory_gets_everything_again() {
    let mut world = World::new();
    let device = Double::online(&mut world, 1, "gw-1");
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    world.pass(Duration::from_secs(6));
    world.restart();
    world.sent.clear();
    world.pass(Duration::from_secs(6));
    assert_eq!(world.sent_to(device.id, Down::Desired).len(), 0, "a restart alone sends no set");
    world.input(Input::LinkDown);
    world.retained.clear();
    world.connect();
    assert!(world.retained_desired(device.id).is_some());
}

#[test]
fn a_refused_publication_is_tried_again_later() {
    let mut world = World::new();
    let device = Double::online(&mut world, 1, "gw-1");
    world.acknowledges = false;
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    let publication = world.sent_to(device.id, Down::Desired)[0].publication;
    world.input(Input::PublishRefused { publication });
    assert_eq!(world.sent_to(device.id, Down::Desired).len(), 1);
    world.pass(Duration::from_secs(6));
    assert_eq!(world.sent_to(device.id, Down::Desired).len(), 2);
}

#[test]
fn the_state_of_the_hub_is_retained_and_quiet_when_nothing_changes() {
    let mut world = World::new();
    let topic = wire::topic::Topic::HubState.print("test").unwrap();
    let state = |world: &World| {
        let frame = world.retained.get(topic.as_str()).expect("retained");
        wire::frame::decode_plain::<wire::hello::HubState>(frame).unwrap()
    };
    assert_eq!(state(&world).incarnation, 1);
    let before = state(&world).watermark;
    world.upload("app", 1);
    world.pass(Duration::from_secs(6));
    assert_eq!(state(&world).watermark, before + 1);
    world.sent.clear();
    world.pass(Duration::from_secs(120));
    assert!(world.sent.iter().all(|publication| publication.topic != topic.as_str()));
    world.restart();
    assert_eq!(state(&world).incarnation, 2, "a new incarnation is announced");
}

#[test]
fn the_sweep_finds_what_a_device_does_not_hold() {
    let mut world = World::new();
    let device = Double::online(&mut world, 1, "gw-1");
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    world.sent.clear();
    world.pass(Duration::from_secs(3_700));
    assert_eq!(world.sent_to(device.id, Down::Desired).len(), 1, "it never reported to have accepted it");
}

/// The broker takes a set over, says so, and drops it: the device goes on reporting the old one. It is found within one period of
/// the sweep, whatever that is, and an unchanged device is sent nothing.
#[test]
fn c22_a_set_that_the_broker_dropped_is_found_within_one_period_of_the_sweep() {
    let mut world = World::new();
    world.engine.config.sweep = Duration::from_secs(60);
    world.engine.sweep_at = None;
    let mut device = Double::online(&mut world, 1, "gw-1");
    let mut other = Double::online(&mut world, 2, "gw-2");
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    world.run("other", json!({"on": ["gw-2"]})).unwrap();
    device.run_all(&mut world);
    other.run_all(&mut world);
    let artifact = world.upload("app", 0x22);
    let hello = ObjectKey::workload("default", "hello");
    world.put(&hello, workload("hello", &artifact, json!({"on": ["gw-1"]}))).unwrap();
    other.run_all(&mut world);
    // The first device did not see it, and says in a status what it still holds.
    let old = device.accepted;
    device.status(&mut world, &[]);
    world.sent.clear();
    world.pass(Duration::from_secs(61));
    assert_eq!(world.sent_to(device.id, Down::Desired).len(), 1);
    assert_eq!(world.sent_to(other.id, Down::Desired).len(), 0);
    device.run_all(&mut world);
    assert!(device.accepted.0 > old.0);
    world.sent.clear();
    world.pass(Duration::from_secs(200));
    assert_eq!(world.sent_to(device.id, Down::Desired).len(), 0, "once it is there, nothing more");
}

#[test]
fn the_chain_of_trust_is_there_before_the_set_and_goes_with_the_device() {
    let mut world = World::new();
    let device = Double::online(&mut world, 1, "gw-1");
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    let at = |world: &World, down| {
        let topic = wire::topic::Topic::Down(device.id, down).print(super::writer::FLEET).unwrap();
        world.sent.iter().position(|publication| publication.topic == topic.as_str())
    };
    assert!(at(&world, Down::Trust).unwrap() < at(&world, Down::Desired).unwrap());
    let trust = world.sent_to(device.id, Down::Trust);
    assert_eq!((trust.len(), trust[0].retain, trust[0].payload.as_slice()), (1, true, super::world::TRUST));
    let artifact = world.upload("app", 0x22);
    world.put(&ObjectKey::workload("default", "hello"), workload("hello", &artifact, json!({"on": ["gw-1"]}))).unwrap();
    assert_eq!(world.sent_to(device.id, Down::Trust).len(), 1, "once for a connection");
    world.input(Input::LinkDown);
    world.retained.clear();
    world.connect();
    assert_eq!(world.retained.values().filter(|payload| *payload == super::world::TRUST).count(), 1, "a broker forgot");
    world.answer(Request::Delete { key: ObjectKey::device("gw-1"), if_match: None }).unwrap();
    assert_eq!(world.retained.values().filter(|payload| *payload == super::world::TRUST).count(), 0);
}

#[test]
fn a_new_set_does_not_wait_behind_those_that_are_only_repeated() {
    let mut world = World::new();
    let devices: Vec<Double> = (0..10).map(|n| Double::online(&mut world, n + 1, &format!("gw-{n}"))).collect();
    world.run("all", json!({"labels": {"zone": "a"}})).unwrap();
    let artifact = world.upload("app", 0x11);
    let mut document = workload("all", &artifact, json!({"labels": {"zone": "a"}}));
    document["spec"]["replicas"] = json!(10);
    world.put(&ObjectKey::workload("default", "all"), document).unwrap();
    world.engine.config.republish_per_second = 1;
    world.input(Input::LinkDown);
    world.retained.clear();
    world.connect();
    let repeated = |world: &World| devices.iter().filter(|device| world.retained_desired(device.id).is_some()).count();
    assert!((1..=4).contains(&repeated(&world)), "{} of 10 so far", repeated(&world));
    let last = devices.iter().rposition(|device| world.retained_desired(device.id).is_none()).unwrap();
    world.run("new", json!({"on": [format!("gw-{last}")]})).unwrap();
    assert!(world.retained_desired(devices[last].id).is_some(), "at once");
    assert!(repeated(&world) < 10);
    world.pass(Duration::from_secs(10));
    assert_eq!(repeated(&world), 10);
    for device in &devices {
        let sent = world.sent_to(device.id, Down::Desired);
        assert!(sent.len() <= 3, "{}", sent.len());
    }
}

#[test]
fn no_more_new_sets_than_the_limit_are_on_their_way() {
    let mut world = World::new();
    let devices: Vec<Double> = (0..3).map(|n| Double::online(&mut world, n + 1, &format!("gw-{n}"))).collect();
    world.acknowledges = false;
    let flights = u64::try_from(crate::engine::dispatch::NEWS_FLIGHTS_MAX).unwrap() - 1;
    // As many as there can be are waiting for the broker, but for one.
    world.engine.link.flights.extend((0..flights).map(|number| (u64::MAX - number, 0)));
    for number in 0..2 {
        world.run(&format!("w{number}"), json!({"on": [format!("gw-{number}")]})).unwrap();
    }
    let sent = |world: &World, number: usize| world.sent_to(devices[number].id, Down::Desired).len();
    assert_eq!((sent(&world, 0), sent(&world, 1)), (1, 0));
    world.input(Input::Acknowledged { publication: u64::MAX });
    assert_eq!((sent(&world, 0), sent(&world, 1)), (1, 1), "an acknowledgement makes room");
}
