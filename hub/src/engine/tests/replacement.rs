//! Where the work of lost devices goes, and who has it when they are back.
use super::device::Double;
use super::liveness::{beat, condition, fleet, presence, site};
use super::world::{World, workload};
use crate::engine::port::*;
use crate::engine::replacement::{EXCLUSIVE_WAIT_MAX, REPLACEMENT_DWELL};
use crate::model::ObjectKey;
use serde_json::{Value, json};
use std::time::Duration;
use wire::topic::Down;

fn run(world: &mut World, name: &str, partition: Value, placement: Value, replicas: Option<u32>) {
    let artifact = world.upload("app", 0x11);
    let mut document = workload(name, &artifact, placement);
    if !partition.is_null() {
        document["spec"]["partition"] = partition;
    }
    if let Some(replicas) = replicas {
        document["spec"]["replicas"] = json!(replicas);
    }
    world.put(&ObjectKey::workload("default", name), document).unwrap();
}

fn one(world: &mut World, partition: Value) {
    run(world, "hello", partition, json!({"labels": {"zone": "a"}}), Some(1));
}

fn placed_on(world: &mut World, name: &str) -> Vec<String> {
    let status = world.get(&ObjectKey::workload("default", name))["status"].clone();
    let devices = status["devices"].as_array().unwrap().iter();
    let mut names: Vec<String> = devices.map(|device| device["device"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn explained(world: &mut World, device: &str) -> String {
    let request = Request::Explain { namespace: "default".into(), name: "hello".into(), device: Some(device.into()) };
    match world.answer(request) {
        Ok(Answer::Explanation(value)) => value.to_string(),
        other => panic!("{other:?}"),
    }
}

/// The device that runs `hello`, and the others.
fn part(world: &mut World, devices: Vec<Double>) -> (Double, Vec<Double>) {
    let on = placed_on(world, "hello");
    let number: usize = on[0].strip_prefix("gw-").unwrap().parse().unwrap();
    let mut devices = devices;
    let holder = devices.remove(number);
    (holder, devices)
}

/// Time passes; the others stay.
fn wait(world: &mut World, others: &mut [Double], time: Duration) {
    let mut left = time;
    while !left.is_zero() {
        let step = left.min(Duration::from_secs(20));
        world.pass(step);
        beat(world, others.iter_mut());
        left -= step;
    }
}

const S: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn c3_autonomous_work_stays_where_it_is_unless_it_says_otherwise() {
    let mut world = World::new();
    let devices = fleet(&mut world, 2);
    one(&mut world, Value::Null);
    let (holder, mut others) = part(&mut world, devices);
    let before = placed_on(&mut world, "hello");
    holder.will(&mut world, holder.boot);
    wait(&mut world, &mut others, S(3_600));
    assert_eq!(placed_on(&mut world, "hello"), before);
    let detail = world.get(&ObjectKey::workload("default", "hello"))["status"]["devices"][0]["detail"].to_string();
    assert!(detail.contains("last seen 1h ago, autonomous: it goes on running"), "{detail}");
}

#[test]
fn c3_after_grace_the_work_is_placed_elsewhere_and_the_lost_device_loses_it() {
    let mut world = World::new();
    let devices = fleet(&mut world, 2);
    one(&mut world, json!({"replace": "afterGrace", "grace": "5m"}));
    let (mut holder, mut others) = part(&mut world, devices);
    holder.run_all(&mut world);
    let before = placed_on(&mut world, "hello");
    let original = before[0].clone();
    holder.will(&mut world, holder.boot);
    wait(&mut world, &mut others, S(295));
    assert_eq!(placed_on(&mut world, "hello"), before, "not yet");
    wait(&mut world, &mut others, S(10));
    assert_ne!(placed_on(&mut world, "hello"), before);
    assert_eq!(others[0].accept(&world).len(), 1);
    let events = world.events("Replaced");
    assert_eq!((events.len(), events[0].device.as_deref()), (1, Some(original.as_str())));
    assert!(events[0].message.contains("DEVICE_LOST"), "{}", events[0].message);
    assert!(explained(&mut world, &original).contains("DEVICE_LOST"));
    // It comes back, and stops by itself what its set does not hold.
    assert!(holder.accept(&world).is_empty(), "a new revision, retained");
    holder.hello(&mut world, false).unwrap();
    holder.run_all(&mut world);
    wait(&mut world, &mut others, S(120));
    assert_ne!(placed_on(&mut world, "hello"), before, "keepReplacement");
}

#[test]
fn c3_what_nobody_else_can_take_waits_on_the_lost_device() {
    let mut world = World::new();
    let devices = fleet(&mut world, 2);
    run(&mut world, "hello", json!({"replace": "afterGrace", "grace": "0s"}), json!({"on": ["gw-0"]}), Some(1));
    let (mut holder, mut others) = part(&mut world, devices);
    holder.run_all(&mut world);
    let before = holder.accepted;
    holder.will(&mut world, holder.boot);
    wait(&mut world, &mut others, S(120));
    assert_eq!(placed_on(&mut world, "hello"), ["gw-0"]);
    holder.accept(&world);
    assert_eq!(holder.accepted, before, "nothing to restart when it comes back");
    let status = world.get(&ObjectKey::workload("default", "hello"))["status"].clone();
    assert_eq!((&status["placed"], &status["shortfall"]), (&json!(1), &Value::Null));
    assert!(world.events("Replaced").is_empty());
}

#[test]
fn c3_exclusive_work_gets_a_successor_soon_and_not_for_a_moment_of_silence() {
    let mut world = World::new();
    let devices = fleet(&mut world, 2);
    run(&mut world, "hello", json!({"exclusive": {"lease": "60s"}}), json!({"labels": {"zone": "a"}}), Some(1));
    let (mut holder, mut others) = part(&mut world, devices);
    holder.run_all(&mut world);
    let original = placed_on(&mut world, "hello");
    for _ in 0..2 {
        holder.will(&mut world, holder.boot);
        wait(&mut world, &mut others, S(5));
        beat(&mut world, [&mut holder]);
        assert_eq!(placed_on(&mut world, "hello"), original, "lost and back");
    }
    holder.will(&mut world, holder.boot);
    wait(&mut world, &mut others, S(1) + EXCLUSIVE_WAIT_MAX + S(1));
    assert_ne!(placed_on(&mut world, "hello"), original);
}

#[test]
fn c3_work_that_stops_itself_is_placed_elsewhere_only_when_it_must_have_stopped() {
    let mut world = World::new();
    let devices = fleet(&mut world, 2);
    one(&mut world, json!({"stopAfter": "10m"}));
    let (mut holder, mut others) = part(&mut world, devices);
    holder.run_all(&mut world);
    let original = placed_on(&mut world, "hello");
    // The hub vouches for freshness: the ten minutes begin.
    holder.hello(&mut world, false).unwrap();
    world.pass(S(20));
    holder.will(&mut world, holder.boot);
    wait(&mut world, &mut others, S(579));
    assert_eq!(placed_on(&mut world, "hello"), original);
    wait(&mut world, &mut others, S(2));
    assert_eq!(placed_on(&mut world, "hello"), original, "the margin is not over");
    wait(&mut world, &mut others, S(2));
    assert_ne!(placed_on(&mut world, "hello"), original);
}

#[test]
fn on_return_the_original_gets_it_back_and_the_reason_is_told() {
    let mut world = World::new();
    let devices = fleet(&mut world, 2);
    one(&mut world, json!({"replace": "afterGrace", "grace": "0s", "onReturn": "keepOriginal"}));
    let (mut holder, mut others) = part(&mut world, devices);
    holder.run_all(&mut world);
    let original = placed_on(&mut world, "hello");
    holder.will(&mut world, holder.boot);
    wait(&mut world, &mut others, S(10));
    let other = placed_on(&mut world, "hello");
    assert_ne!(other, original);
    // Also over a restart of the hub.
    world.restart();
    others[0].hello(&mut world, false).unwrap();
    wait(&mut world, &mut others, S(60));
    assert_eq!(placed_on(&mut world, "hello"), other);
    holder.hello(&mut world, false).unwrap();
    assert_eq!(placed_on(&mut world, "hello"), original, "moved back");
    let removed = world.events("Removed");
    assert!(removed.last().unwrap().message.contains("ORIGINAL_RETURNED"), "{removed:?}");
    // That is settled: the next time is a new story.
    wait(&mut world, &mut others, S(60));
    assert_eq!(placed_on(&mut world, "hello"), original);
}

#[test]
fn on_return_the_nearer_has_it_with_best() {
    let mut world = World::new();
    let devices = fleet(&mut world, 3);
    let near = json!({"near": {"point": [8.6821, 50.1109], "maxKm": 500}});
    run(&mut world, "hello", json!({"replace": "afterGrace", "grace": "0s", "onReturn": "best"}), near, Some(1));
    let (mut holder, mut others) = part(&mut world, devices);
    holder.run_all(&mut world);
    let original = placed_on(&mut world, "hello");
    // The others are farther away.
    for name in ["gw-0", "gw-1", "gw-2"].iter().filter(|name| original[0] != **name) {
        let document = json!({"apiVersion": "fulmar/v1", "kind": "Device", "metadata": {"name": name},
            "spec": {"position": {"point": [9.5, 50.5]}}});
        world.put(&ObjectKey::device(name), document).unwrap();
    }
    holder.will(&mut world, holder.boot);
    wait(&mut world, &mut others, S(10));
    assert_ne!(placed_on(&mut world, "hello"), original);
    holder.hello(&mut world, false).unwrap();
    assert_eq!(placed_on(&mut world, "hello"), original);
}

#[test]
fn c5_a_device_that_flaps_for_an_hour_loses_its_work_at_most_once_in_a_dwell() {
    let mut world = World::new();
    let mut devices = fleet(&mut world, 2);
    let partition = json!({"replace": "afterGrace", "grace": "0s", "onReturn": "keepOriginal"});
    run(&mut world, "hello", partition, json!({"labels": {"zone": "a"}}), Some(1));
    let index: usize = placed_on(&mut world, "hello")[0].strip_prefix("gw-").unwrap().parse().unwrap();
    let mut other = devices.remove(1 - index);
    let mut device = devices.remove(0);
    device.run_all(&mut world);
    for _ in 0..360 {
        device.will(&mut world, device.boot);
        world.pass(S(5));
        device.hello(&mut world, false).unwrap();
        device.accept(&world);
        device.heartbeat(&mut world, true);
        other.heartbeat(&mut world, true);
        world.pass(S(5));
    }
    let moves = world.events("Replaced").len();
    let most = usize::try_from(3_600 / REPLACEMENT_DWELL.as_secs()).unwrap();
    assert!((1..=most).contains(&moves), "{moves} re-placements in an hour");
}

#[test]
fn c4_one_way_silence_is_judged_by_what_arrives() {
    let mut world = World::new();
    let devices = fleet(&mut world, 2);
    one(&mut world, json!({"replace": "afterGrace", "grace": "0s"}));
    let (mut holder, mut others) = part(&mut world, devices);
    holder.run_all(&mut world);
    let original = placed_on(&mut world, "hello");
    // Down is lost, up arrives: the hub hears of it, and nothing moves.
    for _ in 0..10 {
        world.pass(S(25));
        beat(&mut world, others.iter_mut().chain([&mut holder]));
    }
    assert_eq!(placed_on(&mut world, "hello"), original);
    // Up is lost: silence, without a will.
    wait(&mut world, &mut others, S(60));
    assert_eq!(presence(&mut world, &original[0]).1, "Lost");
    assert_ne!(placed_on(&mut world, "hello"), original);
}

#[test]
fn n8_a_restarted_hub_moves_nothing_before_its_verdicts_and_then_what_is_due() {
    let mut world = World::new();
    let devices = fleet(&mut world, 2);
    one(&mut world, json!({"replace": "afterGrace", "grace": "0s"}));
    let (mut holder, mut others) = part(&mut world, devices);
    holder.run_all(&mut world);
    let original = placed_on(&mut world, "hello");
    world.restart();
    let batches = world.batches.len();
    others[0].hello(&mut world, false).unwrap();
    world.pass(S(40));
    others[0].heartbeat(&mut world, true);
    assert_eq!((world.batches.len(), placed_on(&mut world, "hello")), (batches, original.clone()));
    wait(&mut world, &mut others, S(10));
    assert_ne!(placed_on(&mut world, "hello"), original, "it was gone while the hub was");
}

#[test]
fn a_guard_holds_placement_back_until_an_operator_has_spoken() {
    let mut world = World::new();
    let mut devices = fleet(&mut world, 20);
    run(
        &mut world,
        "hello",
        json!({"replace": "afterGrace", "grace": "0s"}),
        json!({"labels": {"zone": "a"}}),
        Some(10),
    );
    let before = placed_on(&mut world, "hello");
    let number = |name: &String| name.strip_prefix("gw-").unwrap().parse::<usize>().unwrap();
    let gone: Vec<usize> = before.iter().map(number).collect();
    for at in &gone {
        let device = &devices[*at];
        device.will(&mut world, device.boot);
    }
    for _ in 0..10 {
        world.pass(S(20));
        for at in (0..20).filter(|at| !gone.contains(at)) {
            devices[at].heartbeat(&mut world, true);
        }
    }
    assert_eq!(placed_on(&mut world, "hello"), before);
    assert!(condition(&mut world, "MassLoss").is_some());
    world.answer(Request::LossConfirm).unwrap();
    world.pass(S(1));
    let after = placed_on(&mut world, "hello");
    assert!(after.iter().all(|name| !before.contains(name)), "{after:?}");
    assert_eq!((after.len(), condition(&mut world, "MassLoss")), (10, None));
}

#[test]
fn a_lost_site_costs_one_look_at_each_workload_and_one_set_for_each_device() {
    let mut world = World::new();
    let devices = fleet(&mut world, 40);
    (0..20).for_each(|number| site(&mut world, &format!("gw-{number}"), "harz"));
    let there = json!({"on": (0..20).map(|number| format!("gw-{number}")).collect::<Vec<_>>()});
    for number in 0..30 {
        // Placed there while it is the only place, allowed everywhere afterwards.
        let name = format!("w{number}");
        run(&mut world, &name, json!({"replace": "afterGrace", "grace": "0s"}), there.clone(), Some(10));
    }
    for number in 0..30 {
        let everywhere = json!({"labels": {"zone": "a"}});
        run(&mut world, &format!("w{number}"), json!({"replace": "afterGrace", "grace": "0s"}), everywhere, Some(10));
    }
    run(&mut world, "elsewhere", Value::Null, json!({"on": ["gw-30"]}), None);
    world.batches.clear();
    world.sent.clear();
    let runs = world.engine.scheduler_runs();
    for device in &devices[..20] {
        device.will(&mut world, device.boot);
    }
    world.pass(Duration::from_millis(1_500));
    assert_eq!(world.engine.scheduler_runs() - runs, 30, "those that had something there, once");
    assert!((0..30).all(|number| {
        placed_on(&mut world, &format!("w{number}"))
            .iter()
            .all(|name| name.strip_prefix("gw-").unwrap().parse::<u32>().unwrap() >= 20)
    }));
    // 300 placements left 20 devices for 20 others.
    let writes: usize = world.batches.iter().map(|batch| batch.writes.len()).sum();
    assert!(writes <= 2 * 40, "{writes} sets were written");
    for device in &devices {
        assert!(world.sent_to(device.id, Down::Desired).len() <= 2);
    }
}

#[test]
fn changes_made_while_a_device_was_away_are_applied_when_it_returns() {
    let mut world = World::new();
    let mut devices = fleet(&mut world, 1);
    for name in ["stays", "changes", "goes"] {
        run(&mut world, name, Value::Null, json!({"on": ["gw-0"]}), None);
    }
    devices[0].run_all(&mut world);
    devices[0].will(&mut world, devices[0].boot);
    world.pass(S(600));
    let artifact = world.upload("app", 0x22);
    let document = workload("changes", &artifact, json!({"on": ["gw-0"]}));
    world.put(&ObjectKey::workload("default", "changes"), document).unwrap();
    let key = ObjectKey::workload("default", "goes");
    world.answer(Request::Delete { key, if_match: None }).unwrap();
    run(&mut world, "new", Value::Null, json!({"on": ["gw-0"]}), None);
    devices[0].hello(&mut world, false).unwrap();
    assert_eq!(devices[0].accept(&world).into_iter().collect::<Vec<_>>(), [((1, 0), 1), ((2, 0), 2), ((4, 0), 1)]);
}
