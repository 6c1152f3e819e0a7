//! What waits for devices that are away, their last word, and taking back what they have not heard of.
use super::device::Double;
use super::liveness::fleet;
use super::world::{World, workload};
use crate::engine::port::*;
use crate::model::{ObjectKey, WITHHELD_MAX};
use serde_json::{Value, json};
use std::time::Duration;
use wire::status::{Reason, State};

fn report(world: &mut World, request: Request) -> Value {
    match world.answer(request) {
        Ok(Answer::Report(report)) => report,
        other => panic!("{other:?}"),
    }
}

fn queue(world: &mut World) -> Vec<Value> {
    let report = report(world, Request::Queue { device: Some("gw-0".into()) });
    report["items"].as_array().unwrap().clone()
}

fn change(world: &mut World, id: &str, verb: QueueVerb) -> Result<Answer, Problem> {
    world.answer(Request::QueueChange { id: id.into(), verb })
}

fn run(world: &mut World, name: &str, fill: u8) {
    let artifact = world.upload("app", fill);
    world.put(&ObjectKey::workload("default", name), workload(name, &artifact, json!({"on": ["gw-0"]}))).unwrap();
}

/// It runs `old` and `other`, and is away since.
fn away(world: &mut World) -> Double {
    let mut device = fleet(world, 1).remove(0);
    run(world, "old", 0x11);
    run(world, "other", 0x11);
    device.run_all(world);
    device.will(world, device.boot);
    world.pass(Duration::from_secs(5));
    device
}

#[test]
fn what_waits_is_the_difference_to_what_the_device_said_to_hold() {
    let mut world = World::new();
    let mut device = away(&mut world);
    assert!(queue(&mut world).is_empty());
    run(&mut world, "new", 0x11);
    world.pass(Duration::from_secs(60));
    run(&mut world, "other", 0x22);
    world.answer(Request::Delete { key: ObjectKey::workload("default", "old"), if_match: None }).unwrap();
    world.pass(Duration::from_secs(10));
    let shown: Vec<Value> = queue(&mut world);
    let brief = |item: &Value| json!([item["id"], item["action"], item["from"], item["to"], item["canCancel"]]);
    let brief: Vec<Value> = shown.iter().map(brief).collect();
    assert_eq!(
        brief,
        [
            json!(["gw-0:#1", "remove", 1, null, false]),
            json!(["gw-0:default/other", "update", 1, 2, false]),
            json!(["gw-0:default/new", "add", null, 1, true]),
        ]
    );
    assert_eq!((&shown[2]["ageMs"], &shown[1]["ageMs"]), (&json!(70_000), &json!(10_000)));
    let all = report(&mut world, Request::Queue { device: None });
    assert_eq!((all["items"].as_array().unwrap().len(), &all["omitted"]), (3, &json!(0)));
    assert_eq!(world.answer(Request::Queue { device: Some("gw-9".into()) }).unwrap_err().code.as_str(), "NOT_FOUND");
    device.hello(&mut world, false).unwrap();
    device.run_all(&mut world);
    assert!(queue(&mut world).is_empty(), "it is here: nothing waits");
}

#[test]
fn an_addition_is_taken_back_until_the_workload_changes() {
    let mut world = World::new();
    let mut device = away(&mut world);
    run(&mut world, "new", 0x11);
    world.batches.clear();
    change(&mut world, "gw-0:default/new", QueueVerb::Cancel).unwrap();
    let audit = &world.batches[0].audit[0];
    assert_eq!((audit.action, audit.actor.as_str()), ("queue-cancel", "admin"));
    assert!(queue(&mut world).is_empty());
    assert_eq!(device.accept(&world).len(), 2, "it never hears of it");
    world.restart();
    world.pass(Duration::from_secs(35));
    assert_eq!(device.accept(&world).len(), 2, "also not of another hub");
    let explained =
        world.answer(Request::Explain { namespace: "default".into(), name: "new".into(), device: Some("gw-0".into()) });
    assert!(matches!(explained, Ok(Answer::Explanation(value)) if value.to_string().contains("WITHHELD")));
    let conditions = world.get(&ObjectKey::device("gw-0"))["status"]["conditions"].to_string();
    assert!(conditions.contains("fulmar queue restore gw-0:default/new"), "{conditions}");
    run(&mut world, "new", 0x22);
    assert_eq!(device.accept(&world).len(), 3, "a new version is a new decision");
}

#[test]
fn what_was_taken_back_can_be_given_after_all() {
    let mut world = World::new();
    let mut device = away(&mut world);
    run(&mut world, "new", 0x11);
    change(&mut world, "gw-0:default/new", QueueVerb::Cancel).unwrap();
    assert_eq!(device.accept(&world).len(), 2);
    change(&mut world, "gw-0:default/new", QueueVerb::Restore).unwrap();
    assert_eq!(device.accept(&world).len(), 3);
    assert_eq!(change(&mut world, "gw-0:default/new", QueueVerb::Restore).unwrap_err().code.as_str(), "NOT_FOUND");
}

#[test]
fn updates_and_removals_cannot_be_taken_back_and_the_reason_is_told() {
    let mut world = World::new();
    away(&mut world);
    run(&mut world, "other", 0x22);
    world.answer(Request::Delete { key: ObjectKey::workload("default", "old"), if_match: None }).unwrap();
    let refused = change(&mut world, "gw-0:default/other", QueueVerb::Cancel).unwrap_err();
    assert_eq!(refused.code.as_str(), "NOT_CANCELLABLE");
    assert!(refused.detail.contains("apply the earlier manifest"), "{}", refused.detail);
    for id in ["gw-0:#1", "gw-0:default/old", "gw-0", "gw-0:", ":", "gw-0:default/nothing"] {
        assert_eq!(change(&mut world, id, QueueVerb::Cancel).unwrap_err().code.as_str(), "NOT_FOUND", "{id}");
    }
}

#[test]
fn no_more_workloads_than_the_limit_are_withheld_from_one_device() {
    let mut world = World::new();
    away(&mut world);
    for number in 0..=WITHHELD_MAX {
        run(&mut world, &format!("new-{number}"), 0x11);
    }
    for number in 0..WITHHELD_MAX {
        change(&mut world, &format!("gw-0:default/new-{number}"), QueueVerb::Cancel).unwrap();
    }
    let last = format!("gw-0:default/new-{WITHHELD_MAX}");
    assert_eq!(change(&mut world, &last, QueueVerb::Cancel).unwrap_err().code.as_str(), "LIMIT_REACHED");
    // Those of workloads that changed hold nothing back and make room.
    run(&mut world, "new-0", 0x22);
    change(&mut world, &last, QueueVerb::Cancel).unwrap();
}

#[test]
fn after_a_restart_it_is_said_that_what_a_device_holds_is_not_known() {
    let mut world = World::new();
    away(&mut world);
    world.restart();
    let waiting = queue(&mut world);
    assert_eq!((&waiting[0]["id"], &waiting[0]["action"]), (&json!("gw-0"), &json!("set")));
    assert!(waiting[0]["detail"].to_string().contains("2 workloads"));
}

#[test]
fn the_last_word_of_a_device_is_kept_with_its_age() {
    let mut world = World::new();
    let mut device = away(&mut world);
    device.hello(&mut world, false).unwrap();
    device.status(&mut world, &[Double::entry(1, 1, State::Failed, Reason::TRAPPED, "unreachable")]);
    device.will(&mut world, device.boot);
    world.pass(Duration::from_secs(240));
    let shown = report(&mut world, Request::Snapshot { name: "gw-0".into() });
    assert_eq!((&shown["ageMs"], &shown["online"]["verdict"]), (&json!(240_000), &json!("Lost")));
    let entry = &shown["entries"][0];
    assert_eq!(
        (&entry["name"], &entry["state"], &entry["reason"]),
        (&json!("old"), &json!("Failed"), &json!("TRAPPED"))
    );
    assert!(shown["position"]["point"].is_array());
    world.restart();
    let shown = report(&mut world, Request::Snapshot { name: "gw-0".into() });
    assert_eq!((&shown["takenAt"], &shown["entries"]), (&Value::Null, &json!([])));
    assert!(shown["position"]["ageMs"].as_u64().unwrap() >= 240_000, "that is kept");
    assert_eq!(world.answer(Request::Snapshot { name: "no".into() }).unwrap_err().code.as_str(), "NOT_FOUND");
}

#[test]
fn an_answer_holds_no_more_than_the_limit_and_counts_the_rest() {
    let mut world = World::new();
    let most = crate::engine::queue::QUEUE_SHOWN_MAX;
    let mut devices = fleet(&mut world, 30);
    devices.iter_mut().for_each(|device| {
        device.run_all(&mut world);
    });
    devices.iter().for_each(|device| device.will(&mut world, device.boot));
    let artifact = world.upload("app", 0x11);
    // One more than the limit: 30 devices with 33 workloads are 990, and 11 more.
    for number in 0..33 {
        let mut document = workload(&format!("w{number}"), &artifact, json!({"labels": {"zone": "a"}}));
        document["spec"]["every"] = json!(true);
        world.put(&ObjectKey::workload("default", &format!("w{number}")), document).unwrap();
    }
    let shown = |world: &mut World| {
        let all = report(world, Request::Queue { device: None });
        (all["items"].as_array().unwrap().len(), all["omitted"].as_u64().unwrap())
    };
    assert_eq!(shown(&mut world), (990, 0));
    let names: Vec<String> = (0..11).map(|number| format!("gw-{number}")).collect();
    let mut document = workload("more", &artifact, json!({"on": names}));
    document["spec"]["every"] = json!(true);
    world.put(&ObjectKey::workload("default", "more"), document).unwrap();
    assert_eq!(shown(&mut world), (most, 1));
}
