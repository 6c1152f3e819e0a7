//! Faults M10 to M14 as the engine meets them: floods, retained reports, clones, and packets that are too small.
use super::device::Double;
use super::world::World;
use crate::engine::port::*;
use crate::engine::quarantine::{QUARANTINE, REFUSED_BURST};
use crate::model::ObjectKey;
use serde_json::json;
use std::time::Duration;
use wire::BootId;
use wire::desired::Desired;
use wire::topic::{Down, Up};

fn conditions(world: &mut World, name: &str) -> String {
    world.get(&ObjectKey::device(name))["status"]["conditions"].to_string()
}

fn online(world: &mut World, name: &str) -> bool {
    world.get(&ObjectKey::device(name))["status"]["online"]["state"] == "Online"
}

#[test]
fn m10_a_device_that_floods_is_quarantined_and_let_in_again_later() {
    let mut world = World::new();
    let mut bad = Double::online(&mut world, 1, "bad");
    let mut good = Double::online(&mut world, 2, "good");
    world.access.clear();
    let topics = [Up::Status, Up::Log, Up::Hello, Up::Will, Up::Heartbeat, Up::Event, Up::Sample];
    for round in 0..4_000_usize {
        bad.up(&mut world, topics[round % topics.len()], vec![0xa5; 64]);
    }
    assert_eq!(world.access, [AccessChange::DeviceRemove { id: bad.id }], "once");
    assert_eq!(world.events("Quarantined").len(), 1);
    assert!(conditions(&mut world, "bad").contains("Quarantined"));
    assert!(!online(&mut world, "bad"));
    // What was on its way does not count, not even a good message.
    bad.heartbeat(&mut world, true);
    assert!(!online(&mut world, "bad"));
    good.heartbeat(&mut world, true);
    assert!(online(&mut world, "good"));
    world.run("hello", json!({"on": ["good"]})).unwrap();
    world.access.clear();
    world.pass(QUARANTINE);
    assert!(matches!(world.access.as_slice(), [AccessChange::DevicePut { id, .. }] if *id == bad.id));
    assert!(!conditions(&mut world, "bad").contains("Quarantined"));
    bad.hello(&mut world, true).unwrap();
    assert!(online(&mut world, "bad"));
}

#[test]
fn m10_a_few_bad_messages_and_a_long_time_are_no_flood() {
    let mut world = World::new();
    let device = Double::online(&mut world, 1, "gw-1");
    for _ in 0..10 {
        for _ in 0..REFUSED_BURST - 1 {
            device.up(&mut world, Up::Log, vec![1; 8]);
        }
        world.pass(Duration::from_secs(120));
    }
    assert!(world.events("Quarantined").is_empty());
}

#[test]
fn m11_what_is_retained_among_reports_is_cleared_and_believed_by_nobody() {
    let mut world = World::new();
    let device = Double::online(&mut world, 1, "gw-1");
    let refused = world.get(&ObjectKey::device("gw-1"));
    world.sent.clear();
    for topic in [Up::Status, Up::Will, Up::Hello] {
        world.input(Input::Up { device: device.id, topic, payload: vec![9; 40], retained: true });
    }
    let cleared = world.sent.iter().filter(|sent| sent.retain && sent.payload.is_empty()).count();
    assert_eq!(cleared, 3);
    assert_eq!(
        world.get(&ObjectKey::device("gw-1"))["status"]["online"]["state"],
        refused["status"]["online"]["state"]
    );
}

#[test]
fn m12_two_boots_that_take_turns_are_told_as_a_clone() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    let (first, second) = (device.boot, BootId([42; 8]));
    device.boot = second;
    device.hello(&mut world, false).unwrap();
    device.hello(&mut world, false).unwrap();
    assert!(world.events("Cloned").is_empty(), "a reset is no clone");
    for boot in [first, second, first, second] {
        device.boot = boot;
        device.hello(&mut world, false).unwrap();
    }
    assert_eq!(world.events("Cloned").len(), 1, "said once");
    assert!(conditions(&mut world, "gw-1").contains("Cloned"));
}

#[test]
fn m14_what_a_client_of_512_bytes_cannot_take_is_never_sent() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    device.packet_bytes_max = 512;
    device.hello(&mut world, false).unwrap();
    for number in 0..60 {
        world.run(&format!("work-{number}"), json!({"on": ["gw-1"]})).unwrap();
    }
    world.pass(Duration::from_secs(60));
    assert!(world.sent_to(device.id, Down::Desired).iter().all(|sent| sent.payload.len() < 512));
    // The header alone fits, and the device asks for the rest.
    let kept = Desired::decode(world.retained_desired(device.id).unwrap()).unwrap();
    assert!(kept.body.is_none() && kept.signed.header.body_bytes > 512);
    assert!(world.events("TooLarge").is_empty());
    device.packet_bytes_max = 200;
    device.hello(&mut world, false).unwrap();
    assert_eq!(world.retained_desired(device.id), None, "not even the header fits");
    assert_eq!(world.events("TooLarge").len(), 1);
    assert!(conditions(&mut world, "gw-1").contains("largest packet of 200 bytes"));
}
