//! The terms of a placement from manifest to device, and how their result is told.
use super::device::Double;
use super::world::{World, region, workload};
use crate::engine::port::*;
use crate::model::ObjectKey;
use serde_json::{Value, json};
use std::time::Duration;

/// All devices have the label `zone: a` from their token.
fn everywhere() -> Value {
    json!({"labels": {"zone": "a"}})
}

/// A device as the operators describe it.
fn describe(world: &mut World, name: &str, labels: Value, spec: Value) {
    let mut all = labels;
    all["zone"] = json!("a");
    let document =
        json!({"apiVersion": "fulmar/v1", "kind": "Device", "metadata": {"name": name, "labels": all}, "spec": spec});
    world.put(&ObjectKey::device(name), document).unwrap();
}

fn at(longitude: f64) -> Value {
    json!({"point": [longitude, 50.0]})
}

/// Devices of these names, one degree of longitude (72 km) apart.
fn fleet(world: &mut World, names: &[&str]) -> Vec<Double> {
    let mut devices = Vec::new();
    for (seed, name) in (1..).zip(names) {
        devices.push(Double::online(world, seed, name));
        describe(world, name, json!({}), json!({"position": at(f64::from(seed))}));
    }
    devices
}

fn put(world: &mut World, name: &str, placement: Value, replicas: Option<u32>) -> Result<Answer, Problem> {
    let artifact = world.upload("app", 0x11);
    let mut document = workload(name, &artifact, placement);
    if let Some(replicas) = replicas {
        document["spec"]["replicas"] = json!(replicas);
    }
    world.put(&ObjectKey::workload("default", name), document)
}

fn status(world: &mut World, name: &str) -> Value {
    world.get(&ObjectKey::workload("default", name))["status"].clone()
}

fn placed_on(world: &mut World, name: &str) -> Vec<String> {
    let status = status(world, name);
    let devices = status["devices"].as_array().unwrap().iter();
    let mut names: Vec<String> = devices.map(|entry| entry["device"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn explained(world: &mut World, name: &str) -> Value {
    let request = Request::Explain { namespace: "default".to_owned(), name: name.to_owned(), device: None };
    match world.answer(request) {
        Ok(Answer::Explanation(value)) => value,
        other => panic!("no explanation: {other:?}"),
    }
}

fn failed(plan: &Value, code: &str) -> u64 {
    let lines = plan["tally"]["failed"].as_array().unwrap();
    lines.iter().find(|line| line["code"] == code).map_or(0, |line| line["count"].as_u64().unwrap())
}

#[test]
fn a_selector_chooses_by_sets_of_values() {
    let mut world = World::new();
    fleet(&mut world, &["a", "b", "c"]);
    describe(&mut world, "a", json!({"tier": "edge"}), json!({}));
    describe(&mut world, "b", json!({"tier": "core"}), json!({}));
    put(&mut world, "hello", json!({"selector": "tier in (core, none)"}), Some(3)).unwrap();
    assert_eq!(placed_on(&mut world, "hello"), ["b"]);
    let placement = json!({"selector": {"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}});
    put(&mut world, "hello", placement, Some(3)).unwrap();
    assert_eq!(placed_on(&mut world, "hello"), ["c"]);
    assert_eq!(failed(&explained(&mut world, "hello"), "LABEL_MISMATCH"), 2);
}

#[test]
fn a_taint_keeps_off_what_does_not_tolerate_it() {
    let mut world = World::new();
    fleet(&mut world, &["a", "b"]);
    put(&mut world, "hello", everywhere(), Some(2)).unwrap();
    let taint = |effect: &str| json!({"taints": [{"key": "lab", "value": "x", "effect": effect}]});
    describe(&mut world, "a", json!({}), taint("NoSchedule"));
    assert_eq!(placed_on(&mut world, "hello"), ["a", "b"], "what it has stays");
    put(&mut world, "late", everywhere(), Some(2)).unwrap();
    assert_eq!(placed_on(&mut world, "late"), ["b"]);
    assert!(explained(&mut world, "late")["text"].as_str().unwrap().contains("tainted"));
    describe(&mut world, "a", json!({}), taint("NoExecute"));
    assert_eq!(placed_on(&mut world, "hello"), ["b"]);
    let mut placement = everywhere();
    placement["tolerations"] = json!([{"key": "lab", "value": "x"}]);
    put(&mut world, "late", placement, Some(2)).unwrap();
    assert_eq!(placed_on(&mut world, "late"), ["a", "b"]);
    world.restart();
    world.pass(Duration::from_secs(60));
    assert_eq!(placed_on(&mut world, "hello"), ["b"]);
    assert_eq!(world.get(&ObjectKey::device("a"))["spec"]["taints"][0]["effect"], "NoExecute");
}

#[test]
fn replicas_keep_their_distance() {
    let mut world = World::new();
    fleet(&mut world, &["a", "b", "c"]);
    let placement = json!({"near": {"point": [1.0, 50.0]}, "minDistanceKm": 100});
    put(&mut world, "hello", placement, Some(2)).unwrap();
    assert_eq!(placed_on(&mut world, "hello"), ["a", "c"]);
    assert_eq!(status(&mut world, "hello")["fulfilment"], "complete");
    assert_eq!(failed(&explained(&mut world, "hello"), "MIN_DISTANCE"), 1);
}

#[test]
fn replicas_spread_over_sites() {
    let mut world = World::new();
    fleet(&mut world, &["a", "b", "c"]);
    describe(&mut world, "a", json!({}), json!({"site": "north"}));
    describe(&mut world, "b", json!({}), json!({"site": "north"}));
    describe(&mut world, "c", json!({}), json!({"site": "south"}));
    let mut placement = everywhere();
    placement["spread"] = json!({"by": "site"});
    put(&mut world, "hello", placement, Some(2)).unwrap();
    let placed = placed_on(&mut world, "hello");
    assert_eq!(placed.len(), 2);
    assert!(placed.contains(&"c".to_owned()), "{placed:?}");
}

#[test]
fn replicas_spread_over_regions_which_are_then_in_use() {
    let mut world = World::new();
    fleet(&mut world, &["a", "b", "c"]);
    world.put(&ObjectKey::region("west"), region("west", [1.5, 50.0], 50.0)).unwrap();
    world.put(&ObjectKey::region("east"), region("east", [3.0, 50.0], 10.0)).unwrap();
    let mut placement = everywhere();
    placement["spread"] = json!({"by": {"regions": ["west", "east"]}, "maxSkew": 1});
    put(&mut world, "hello", placement, Some(2)).unwrap();
    assert!(placed_on(&mut world, "hello").contains(&"c".to_owned()));
    let problem = world.answer(Request::Delete { key: ObjectKey::region("east"), if_match: None }).unwrap_err();
    assert_eq!(problem.code.as_str(), "IN_USE");
}

#[test]
fn a_workload_keeps_away_from_another_and_returns_when_that_goes() {
    let mut world = World::new();
    fleet(&mut world, &["a", "b"]);
    let away = |domain: &str| {
        let mut placement = everywhere();
        placement["antiAffinity"] = json!({"workloads": ["first"], "domain": domain});
        placement
    };
    put(&mut world, "second", away("device"), Some(2)).unwrap();
    assert_eq!(placed_on(&mut world, "second"), ["a", "b"], "there is no such workload yet");
    put(&mut world, "first", json!({"on": ["a"]}), None).unwrap();
    world.pass(Duration::from_secs(31));
    assert_eq!(placed_on(&mut world, "second"), ["b"]);
    assert_eq!(failed(&explained(&mut world, "second"), "ANTI_AFFINITY"), 1);
    let batches = world.batches.len();
    world.restart();
    world.pass(Duration::from_secs(300));
    assert_eq!(world.batches.len(), batches, "the same decision after a restart");
    for name in ["a", "b"] {
        describe(&mut world, name, json!({}), json!({"site": "one"}));
    }
    put(&mut world, "second", away("site"), Some(2)).unwrap();
    assert_eq!(placed_on(&mut world, "second"), Vec::<String>::new());
    let key = ObjectKey::workload("default", "first");
    world.answer(Request::Delete { key, if_match: None }).unwrap();
    assert_eq!(placed_on(&mut world, "second"), ["a", "b"], "at once, since replicas were missing");
}

#[test]
fn the_nearest_of_each_device_are_chosen_and_what_is_missing_is_told() {
    let mut world = World::new();
    fleet(&mut world, &["a", "b", "c", "d"]);
    describe(&mut world, "a", json!({"sensor": "pm25"}), json!({"position": at(1.0), "cordoned": true}));
    describe(&mut world, "d", json!({"sensor": "pm25"}), json!({"position": at(4.0), "cordoned": true}));
    let nearest = |k: u32| json!({"nearestPer": {"devices": {"labels": {"sensor": "pm25"}}, "k": k}});
    put(&mut world, "hello", nearest(1), None).unwrap();
    assert_eq!(placed_on(&mut world, "hello"), ["b", "c"]);
    let status_now = status(&mut world, "hello");
    assert_eq!((&status_now["desired"], &status_now["fulfilment"]), (&json!(2), &json!("complete")));
    put(&mut world, "hello", nearest(3), None).unwrap();
    let status_now = status(&mut world, "hello");
    assert_eq!((&status_now["fulfilment"], &status_now["placed"]), (&json!("partial"), &json!(2)));
    assert_eq!(status_now["shortfall"]["missing"], 2);
}

#[test]
fn whoever_waits_starts_when_all_can() {
    let mut world = World::new();
    fleet(&mut world, &["a"]);
    let mut placement = everywhere();
    placement["onShortfall"] = json!("wait");
    put(&mut world, "hello", placement, Some(2)).unwrap();
    let waiting = status(&mut world, "hello");
    assert_eq!((&waiting["placed"], &waiting["fulfilment"]), (&json!(0), &json!("waiting")));
    assert_eq!((&waiting["heldBack"], &waiting["shortfall"]["missing"]), (&json!(1), &json!(2)));
    assert_eq!(waiting["conditions"][0]["reason"], "WaitsForAll");
    Double::online(&mut world, 9, "b");
    assert_eq!(placed_on(&mut world, "hello"), ["a", "b"]);
    let complete = status(&mut world, "hello");
    assert_eq!((&complete["fulfilment"], &complete["heldBack"]), (&json!("complete"), &json!(0)));
}

#[test]
fn what_shall_fail_is_accepted_starts_nothing_and_says_why() {
    let mut world = World::new();
    fleet(&mut world, &["a"]);
    let mut placement = everywhere();
    placement["onShortfall"] = json!("fail");
    put(&mut world, "hello", placement, Some(2)).unwrap();
    let failed = status(&mut world, "hello");
    assert_eq!((&failed["placed"], &failed["fulfilment"]), (&json!(0), &json!("failed")));
    assert_eq!(failed["conditions"][0]["status"], "False");
    assert_eq!(failed["conditions"][0]["reason"], "Unplaceable");
    assert!(failed["conditions"][0]["message"].as_str().unwrap().contains("considered"), "{failed}");
    assert_eq!(world.events("Shortfall").len(), 1);
}

#[test]
fn terms_that_make_no_sense_together_are_refused() {
    let mut world = World::new();
    let mut placement = everywhere();
    placement["antiAffinity"] = json!({"workloads": ["hello"]});
    let problem = put(&mut world, "hello", placement, None).unwrap_err();
    assert_eq!((problem.status(), problem.code.as_str()), (422, "INVALID"));
    assert_eq!(problem.errors[0].pointer, "/spec/placement/antiAffinity/workloads");
}

#[test]
fn the_age_of_a_reported_position_is_told_across_a_restart() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "a");
    world.put(&ObjectKey::region("r"), region("r", [8.68, 50.11], 20.0)).unwrap();
    put(&mut world, "hello", json!({"within": ["r"]}), None).unwrap();
    let age = |world: &mut World| {
        let (namespace, name) = ("default".to_owned(), "hello".to_owned());
        let request = Request::Explain { namespace, name, device: Some("a".to_owned()) };
        let Ok(Answer::Explanation(value)) = world.answer(request) else { panic!() };
        let checks = value["checks"].as_array().unwrap().clone();
        let inside = checks.into_iter().find(|check| check["code"] == "OUTSIDE_REGION").unwrap();
        inside["figures"]["position"]["ageSeconds"].as_u64().unwrap()
    };
    assert_eq!(age(&mut world), 0);
    world.pass(Duration::from_secs(40));
    assert_eq!(age(&mut world), 40);
    device.heartbeat(&mut world, true);
    assert_eq!(age(&mut world), 0, "it has not moved");
    world.pass(Duration::from_secs(600));
    world.restart();
    assert!((600..700).contains(&age(&mut world)), "stored with the position");
    describe(&mut world, "a", json!({}), json!({"position": {"point": [8.68, 50.11]}}));
    assert_eq!(age(&mut world), 0, "the operator's word does not age");
}

#[test]
fn a_drained_device_loses_its_work_to_another_until_it_is_undrained() {
    let mut world = World::new();
    fleet(&mut world, &["a", "b"]);
    put(&mut world, "hello", json!({"near": {"point": [1.0, 50.0]}}), None).unwrap();
    assert_eq!(placed_on(&mut world, "hello"), ["a"]);
    let change = |change| Request::DeviceChange { name: "a".to_owned(), change };
    world.answer(change(DeviceChange::Drain)).unwrap();
    assert_eq!(placed_on(&mut world, "hello"), ["b"]);
    assert!(world.events("Removed").iter().any(|line| line.message.contains("DRAINING")));
    assert_eq!(failed(&explained(&mut world, "hello"), "DRAINING"), 1);
    // Uncordoning is not undraining, and a manifest leaves both switches alone.
    world.answer(change(DeviceChange::Uncordon)).unwrap();
    describe(&mut world, "a", json!({}), json!({"position": at(1.0)}));
    world.restart();
    world.pass(Duration::from_secs(60));
    assert_eq!(world.get(&ObjectKey::device("a"))["spec"]["draining"], true);
    assert_eq!(placed_on(&mut world, "hello"), ["b"]);
    world.answer(change(DeviceChange::Undrain)).unwrap();
    assert_eq!(placed_on(&mut world, "hello"), ["b"], "what runs is not moved");
    put(&mut world, "late", json!({"on": ["a"]}), None).unwrap();
    assert_eq!(placed_on(&mut world, "late"), ["a"]);
}
