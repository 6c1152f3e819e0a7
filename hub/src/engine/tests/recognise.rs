//! P13: a hub that starts again with its broker says nothing twice, and asks for nothing that a Hello tells it.
use super::device::{Double, FRANKFURT};
use super::recovery::restore;
use super::world::{TRUST, World};
use crate::engine::{WHOLE_AFTER, retained};
use crate::model::ObjectKey;
use serde_json::{Value, json};
use std::time::Duration;
use wire::hello::Asks;
use wire::status::{Reason, State};
use wire::topic::Down;
use wire::{BootId, Instance};

/// A device without a position that runs `hello`, and has said so.
fn running(world: &mut World) -> Double {
    let mut device = Double::new(1);
    device.position = None;
    let token = world.token(true);
    device.join(world, &token, "gw-1").unwrap().unwrap();
    device.hello(world, true).unwrap();
    device.status(world, &[]);
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    device.run_all(world);
    device
}

/// As a hub starts its embedded broker: nobody can connect before the database's sets are there.
fn restart_with_broker(world: &mut World) {
    let loaded = world.writer.database.clone().load();
    world.retained = retained(&loaded, TRUST, Instance::default()).into_iter().collect();
    world.sent.clear();
    world.restart();
}

fn status(world: &mut World) -> Value {
    world.get(&ObjectKey::device("gw-1"))["status"].clone()
}

#[test]
fn a_device_that_runs_what_it_should_is_known_by_its_hello_after_a_restart() {
    let mut world = World::new();
    let mut device = running(&mut world);
    restart_with_broker(&mut world);
    let fresh = device.hello(&mut world, false).unwrap();
    assert_eq!(fresh.asks, Asks::default());
    let said = status(&mut world);
    assert_eq!((&said["workloads"][0]["state"], &said["workloads"][0]["running"]), (&json!("Running"), &json!(1)));
    assert_eq!(said["uptimeS"], Value::Null, "what it did not say is not made up");
    assert_eq!(world.get(&ObjectKey::workload("default", "hello"))["status"]["running"], 1);
    world.pass(Duration::from_secs(60));
    let said: Vec<_> = world.sent.iter().map(|publication| publication.topic.rsplit('/').next().unwrap()).collect();
    assert_eq!(said, ["fresh"], "neither the set, nor the chain, nor the hub's state is said again");
    // A heartbeat of that content is what the hub expects.
    device.heartbeat(&mut world, true);
    assert_eq!(world.sent_to(device.id, Down::Command).len(), 0);
}

#[test]
fn whatever_is_not_as_expected_is_told_whole() {
    let mut world = World::new();
    let mut device = running(&mut world);
    let asks = |device: &mut Double, world: &mut World| {
        restart_with_broker(world);
        device.hello(world, false).unwrap().asks.contains(Asks::STATUS)
    };
    assert!(!asks(&mut device, &mut world));
    for wrong in [
        wire::status::Entry { restarts: 1, ..Double::entry(1, 1, State::Running, Reason::NONE, "") },
        Double::entry(1, 1, State::BackOff, Reason::TRAPPED, "trap"),
        Double::entry(1, 2, State::Running, Reason::NONE, ""),
    ] {
        device.status(&mut world, &[wrong]);
        assert!(asks(&mut device, &mut world), "{wrong:?}");
    }
    // That it was given two sets with one revision.
    device.equivocations = 1;
    device.run_all(&mut world);
    assert!(asks(&mut device, &mut world));
    device.equivocations = 0;
    device.run_all(&mut world);
    assert!(!asks(&mut device, &mut world));
    // Another set than the hub's.
    device.accepted.1.0[0] ^= 1;
    assert!(asks(&mut device, &mut world));
    device.accept(&world);
    // Where it is, and whether it still is, only a status says.
    device.position = Some(FRANKFURT);
    device.run_all(&mut world);
    assert!(asks(&mut device, &mut world));
}

#[test]
fn a_boot_that_said_nothing_yet_is_not_recognised() {
    let mut world = World::new();
    let mut device = running(&mut world);
    restart_with_broker(&mut world);
    device.boot = BootId([9; 8]);
    let content = device.forget_status();
    assert!(device.hello(&mut world, false).unwrap().asks.contains(Asks::STATUS));
    // One that it recognised and that starts anew afterwards is asked too.
    restart_with_broker(&mut world);
    device.remember_status(content);
    assert!(!device.hello(&mut world, false).unwrap().asks.contains(Asks::STATUS));
    device.boot = BootId([10; 8]);
    assert!(device.hello(&mut world, false).unwrap().asks.contains(Asks::STATUS));
}

#[test]
fn the_rest_of_a_status_is_asked_for_once_and_later() {
    let mut world = World::new();
    let mut device = running(&mut world);
    restart_with_broker(&mut world);
    device.hello(&mut world, false).unwrap();
    let mut asked_after = None;
    for seconds in (0..2 * WHOLE_AFTER.as_secs()).step_by(20) {
        device.heartbeat(&mut world, true);
        if !world.sent_to(device.id, Down::Command).is_empty() {
            asked_after.get_or_insert(seconds);
            device.run_all(&mut world);
            world.sent.clear();
        }
        world.pass(Duration::from_secs(20));
    }
    let asked_after = asked_after.expect("it is asked");
    assert!(asked_after >= WHOLE_AFTER.as_secs(), "{asked_after}");
    assert_eq!(status(&mut world)["uptimeS"].as_u64().map(|uptime| uptime > 0), Some(true));
}

#[test]
fn a_broker_that_holds_less_is_filled_as_before() {
    let mut world = World::new();
    let device = running(&mut world);
    for keep in ["hub/state", "nothing"] {
        let loaded = world.writer.database.clone().load();
        world.retained = retained(&loaded, TRUST, Instance::default()).into_iter().collect();
        // What finds no room is not stored, and nothing after it.
        let is_kept = |topic: &str| keep == "hub/state" || topic.ends_with("desired");
        world.retained.retain(|topic, _| keep != "nothing" && is_kept(topic));
        world.sent.clear();
        world.restart();
        world.pass(Duration::from_secs(10));
        let expected = usize::from(keep == "nothing");
        assert_eq!(world.sent_to(device.id, Down::Desired).len(), expected, "{keep}");
        assert!(world.retained_desired(device.id).is_some());
    }
}

#[test]
fn a_database_that_has_forgotten_something_fills_no_broker() {
    let mut world = World::new();
    running(&mut world);
    let backup = world.writer.database.clone();
    assert_eq!(retained(&world.writer.database.clone().load(), TRUST, Instance::default()).len(), 3);
    restore(&mut world, backup);
    assert_eq!(retained(&world.writer.database.clone().load(), TRUST, Instance::default()), []);
}
