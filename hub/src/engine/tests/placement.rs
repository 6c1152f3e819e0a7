//! Work lands where it was asked for, stays there, and goes when it is deleted.
use super::device::{Double, FRANKFURT};
use super::world::{World, region, workload};
use crate::engine::placement::DEVICES_PER_BATCH_MAX;
use crate::engine::port::*;
use crate::model::ObjectKey;
use serde_json::{Value, json};
use wire::position::Position;
use wire::topic::Down;

const PARIS: Position = Position { longitude_e7: 23_522_000, latitude_e7: 488_566_000, uncertainty_m: 10 };

fn status(world: &mut World, name: &str) -> Value {
    world.get(&ObjectKey::workload("default", name))["status"].clone()
}

fn two_cities(world: &mut World) -> (Double, Double) {
    let online = |world: &mut World, seed: u16, name: &str, position| {
        let mut device = Double::new(seed);
        device.position = Some(position);
        let token = world.token(true);
        device.join(world, &token, name);
        device.hello(world, true).unwrap();
        device.status(world, &[]);
        device
    };
    let pair = (online(world, 1, "gw-fra", FRANKFURT), online(world, 2, "gw-par", PARIS));
    world.put(&ObjectKey::region("frankfurt"), region("frankfurt", [8.68, 50.11], 20.0)).unwrap();
    pair
}

#[test]
fn a_workload_is_placed_by_region_and_becomes_healthy() {
    let mut world = World::new();
    let (mut frankfurt, paris) = two_cities(&mut world);
    world.run("hello", json!({"within": ["frankfurt"]})).unwrap();
    assert_eq!(world.retained_desired(paris.id), None);
    let before = status(&mut world, "hello");
    assert_eq!(before["devices"][0]["state"], "Pending");
    assert_eq!(before["conditions"][1]["reason"], "Progressing");
    frankfurt.run_all(&mut world);
    let after = status(&mut world, "hello");
    assert_eq!((&after["desired"], &after["placed"], &after["running"]), (&json!(1), &json!(1), &json!(1)));
    assert_eq!(after["observedGeneration"], 1);
    for condition in after["conditions"].as_array().unwrap() {
        assert_eq!(condition["status"], "True", "{after}");
    }
    assert_eq!(after["devices"][0]["device"], "gw-fra");
    let device = world.get(&ObjectKey::device("gw-fra"))["status"].clone();
    assert_eq!(device["workloads"][0]["state"], "Running");
    assert_eq!(device["revision"]["synced"], true);
    let uptime = device["uptimeS"].as_u64().unwrap();
    world.pass(std::time::Duration::from_secs(10));
    assert_eq!(world.get(&ObjectKey::device("gw-fra"))["status"]["uptimeS"], uptime + 10);
    assert_eq!(world.events("Placed").len(), 1);
    assert_eq!(world.events("Started").len(), 1);
}

#[test]
fn deletion_removes_the_record() {
    let mut world = World::new();
    let (mut frankfurt, _) = two_cities(&mut world);
    world.run("hello", json!({"within": ["frankfurt"]})).unwrap();
    world.run("other", json!({"on": ["gw-fra"]})).unwrap();
    assert_eq!(frankfurt.accept(&world).len(), 2);
    let key = ObjectKey::workload("default", "hello");
    world.answer(Request::Delete { key, if_match: None }).unwrap();
    assert_eq!(frankfurt.accept(&world).into_keys().collect::<Vec<_>>(), [(2, 0)]);
    let key = ObjectKey::workload("default", "other");
    world.answer(Request::Delete { key, if_match: None }).unwrap();
    assert!(frankfurt.accept(&world).is_empty(), "an empty set is a set");
}

#[test]
fn a_number_of_a_deleted_workload_never_comes_back() {
    let mut world = World::new();
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    let key = ObjectKey::workload("default", "hello");
    assert_eq!(status(&mut world, "hello")["id"], 1);
    world.answer(Request::Delete { key, if_match: None }).unwrap();
    world.restart();
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    assert_eq!(status(&mut world, "hello")["id"], 2);
}

#[test]
fn a_shortfall_says_why_and_is_filled_when_it_can_be() {
    let mut world = World::new();
    let artifact = world.upload("app", 0x11);
    let mut document = workload("hello", &artifact, json!({"labels": {"zone": "a"}}));
    document["spec"]["replicas"] = json!(2);
    world.put(&ObjectKey::workload("default", "hello"), document).unwrap();
    let mut one = Double::online(&mut world, 1, "gw-1");
    one.run_all(&mut world);
    let short = status(&mut world, "hello");
    assert_eq!((&short["placed"], &short["shortfall"]["missing"]), (&json!(1), &json!(1)));
    assert_eq!(short["shortfall"]["reason"], "1 device considered: 1 feasible, for one replica each");
    assert!(!world.events("Shortfall").is_empty());
    let mut two = Double::online(&mut world, 2, "gw-2");
    two.run_all(&mut world);
    let full = status(&mut world, "hello");
    assert_eq!((&full["running"], &full["shortfall"]), (&json!(2), &Value::Null));
}

#[test]
fn a_shortfall_is_told_in_words() {
    let mut world = World::new();
    let artifact = world.upload("app", 0x11);
    world
        .put(&ObjectKey::workload("default", "hello"), workload("hello", &artifact, json!({"labels": {"zone": "b"}})))
        .unwrap();
    let reason = |world: &mut World| status(world, "hello")["shortfall"]["reason"].clone();
    assert_eq!(reason(&mut world), "0 devices considered: label/zone=b matches nothing");
    Double::online(&mut world, 1, "gw-1");
    assert_eq!(reason(&mut world), "1 device considered: label/zone=b matches nothing, 1 without zone=b");
}

#[test]
fn replicas_alone_touch_no_running_device() {
    let mut world = World::new();
    let mut one = Double::online(&mut world, 1, "gw-1");
    world.run("hello", json!({"labels": {"zone": "a"}})).unwrap();
    one.run_all(&mut world);
    world.sent.clear();
    let artifact = world.upload("app", 0x11);
    let mut document = workload("hello", &artifact, json!({"labels": {"zone": "a"}}));
    document["spec"]["replicas"] = json!(3);
    world.put(&ObjectKey::workload("default", "hello"), document.clone()).unwrap();
    assert_eq!(world.get(&ObjectKey::workload("default", "hello"))["metadata"]["generation"], 2);
    assert_eq!(world.sent_to(one.id, Down::Desired).len(), 0);
    document["spec"]["function"]["config"] = json!("changed");
    world.put(&ObjectKey::workload("default", "hello"), document).unwrap();
    assert_eq!(world.sent_to(one.id, Down::Desired).len(), 1);
    assert_eq!(one.accept(&world).into_iter().collect::<Vec<_>>(), [((1, 0), 3)]);
    assert_eq!(status(&mut world, "hello")["running"], 0, "the old generation runs");
}

#[test]
fn an_unapproved_device_gets_nothing_until_it_is_approved() {
    let mut world = World::new();
    let token = world.token(false);
    let mut device = Double::new(1);
    device.join(&mut world, &token, "gw-1");
    device.hello(&mut world, true).unwrap_err();
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    assert_eq!(status(&mut world, "hello")["placed"], 0);
    world.answer(Request::DeviceChange { name: "gw-1".to_owned(), change: DeviceChange::Approve }).unwrap();
    assert_eq!(status(&mut world, "hello")["placed"], 1);
}

#[test]
fn a_restart_moves_nothing_before_devices_are_heard_of() {
    let mut world = World::new();
    let (mut frankfurt, _) = two_cities(&mut world);
    world.run("hello", json!({"within": ["frankfurt"]})).unwrap();
    frankfurt.run_all(&mut world);
    let batches = world.batches.len();
    world.restart();
    world.pass(std::time::Duration::from_secs(300));
    assert_eq!(world.batches.len(), batches, "nothing to change");
    let after = status(&mut world, "hello");
    assert_eq!((&after["placed"], &after["devices"][0]["state"]), (&json!(1), &json!("Unknown")));
}

#[test]
fn explanations_have_counts_and_text() {
    let mut world = World::new();
    two_cities(&mut world);
    world.run("hello", json!({"within": ["frankfurt"]})).unwrap();
    let explain = |device: Option<&str>| Request::Explain {
        namespace: "default".to_owned(),
        name: "hello".to_owned(),
        device: device.map(str::to_owned),
    };
    let Ok(Answer::Explanation(plan)) = world.answer(explain(None)) else { panic!() };
    assert_eq!(plan["tally"]["considered"], 2);
    assert!(plan["text"].as_str().unwrap().contains("gw-fra"));
    let Ok(Answer::Explanation(device)) = world.answer(explain(Some("gw-par"))) else { panic!() };
    assert_eq!(device["outcome"], "notFeasible");
    assert_eq!(world.answer(explain(Some("nobody"))).unwrap_err().status(), 404);
}

#[test]
fn many_devices_are_served_in_bounded_batches() {
    let mut world = World::new();
    let count = u16::try_from(DEVICES_PER_BATCH_MAX + 44).unwrap();
    for seed in 0..count {
        Double::online(&mut world, seed, &format!("gw-{seed}"));
        // Joins have a rate.
        world.pass(std::time::Duration::from_millis(10));
    }
    let artifact = world.upload("app", 0x11);
    let mut document = workload("all", &artifact, json!({"labels": {"zone": "a"}}));
    document["spec"]["every"] = json!(true);
    let from = world.batches.len();
    world.put(&ObjectKey::workload("default", "all"), document).unwrap();
    assert_eq!(status(&mut world, "all")["placed"], count);
    let largest = world.batches[from..].iter().map(|batch| batch.writes.len()).max().unwrap();
    assert_eq!(largest, DEVICES_PER_BATCH_MAX, "the rest follows in the next one");
}
