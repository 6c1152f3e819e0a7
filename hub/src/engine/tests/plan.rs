//! Plans that are made, done once and become stale; and questions of what if, which leave nothing behind.
use super::device::Double;
use super::world::{World, region, workload};
use crate::engine::port::*;
use crate::engine::{Applier, OVERRIDES_MAX, PLAN_DOCUMENTS_MAX};
use crate::model::{Kind, ObjectKey};
use serde_json::{Value, json};

fn plan(world: &mut World, documents: Vec<Value>) -> Result<Value, Problem> {
    let applier = Applier { manager: "ci".to_owned(), force: false };
    match world.answer(Request::Plan { documents, applier })? {
        Answer::Plan(plan) => Ok(plan),
        other => panic!("{other:?}"),
    }
}

fn apply(world: &mut World, plan: &Value) -> Result<Answer, Problem> {
    world.answer(Request::PlanApply { plan: plan.clone() })
}

/// Two devices, and documents of a region and of a workload in it.
fn world() -> (World, Vec<Double>, Vec<Value>) {
    let mut world = World::new();
    let devices = vec![Double::online(&mut world, 1, "gw-1"), Double::online(&mut world, 2, "gw-2")];
    let artifact = world.upload("app", 0x11);
    let mut document = workload("w", &artifact, json!({"within": ["r"]}));
    document["spec"]["every"] = json!(true);
    // The region comes second, and is first in effect.
    (world, devices, vec![document, region("r", [8.68, 50.11], 5.0)])
}

#[test]
fn a_plan_says_what_happens_then_and_does_it_in_one_batch() {
    let (mut world, _devices, documents) = world();
    let batches = world.batches.len();
    let plan_ = plan(&mut world, documents.clone()).unwrap();
    assert_eq!(world.batches.len(), batches, "a plan stores nothing");
    assert!(world.list(Kind::Workload).is_empty() && world.list(Kind::Region).is_empty());
    assert_eq!(plan_["status"]["changes"][0]["object"], "region/r");
    assert_eq!(plan_["status"]["changes"][1]["generation"], json!({"from": null, "to": 1}));
    assert_eq!(plan_["status"]["placements"][0]["gains"], json!(["gw-1", "gw-2"]), "{plan_}");
    assert!(matches!(apply(&mut world, &plan_), Ok(Answer::Plan(_))));
    let batch = &world.batches[batches];
    assert_eq!((batch.audit.len(), world.list(Kind::Placement).len()), (2, 2), "as it was said");
    let uids: Vec<Value> = [ObjectKey::region("r"), ObjectKey::workload("default", "w")]
        .iter()
        .map(|key| world.get(key)["metadata"]["uid"].clone())
        .collect();
    assert_ne!(uids[0], uids[1]);
    let again = plan(&mut world, documents).unwrap();
    let actions: Vec<&Value> = again["status"]["changes"].as_array().unwrap().iter().map(|c| &c["action"]).collect();
    assert_eq!(actions, ["unchanged", "unchanged"]);
    let batches = world.batches.len();
    assert!(apply(&mut world, &again).is_ok());
    assert_eq!(world.batches.len(), batches);
}

#[test]
fn a_plan_is_stale_when_an_object_has_moved() {
    let (mut world, _devices, documents) = world();
    let stale = plan(&mut world, documents.clone()).unwrap();
    world.put(&ObjectKey::region("r"), region("r", [8.68, 50.11], 9.0)).unwrap();
    let problem = apply(&mut world, &stale).unwrap_err();
    assert_eq!((problem.status(), problem.code.as_str()), (409, "PLAN_STALE"));
    assert!(problem.detail.contains("region/r"), "{}", problem.detail);
    assert!(world.list(Kind::Workload).is_empty(), "nothing of it was done");
    // A region that the workload only names counts too.
    let stale = plan(&mut world, documents[..1].to_vec()).unwrap();
    world.put(&ObjectKey::region("r"), region("r", [8.68, 50.11], 8.0)).unwrap();
    assert_eq!(apply(&mut world, &stale).unwrap_err().code.as_str(), "PLAN_STALE");
}

#[test]
fn a_plan_is_stale_when_the_devices_are_not_the_same() {
    let (mut world, mut devices, documents) = world();
    let fresh = plan(&mut world, documents.clone()).unwrap();
    // What devices report does not make it stale.
    devices[0].position = Some(wire::position::Position { longitude_e7: 0, latitude_e7: 0, uncertainty_m: 1 });
    devices[0].status(&mut world, &[]);
    devices.push(Double::online(&mut world, 3, "gw-3"));
    let problem = apply(&mut world, &fresh).unwrap_err();
    assert_eq!((problem.code.as_str(), problem.errors.len()), ("PLAN_STALE", 1));
    assert!(problem.detail.contains("2 then, 3 now") && problem.detail.contains("gw-3"), "{}", problem.detail);
    let fresh = plan(&mut world, documents.clone()).unwrap();
    let cordon = Request::DeviceChange { name: "gw-1".to_owned(), change: DeviceChange::Cordon };
    world.answer(cordon).unwrap();
    assert_eq!(apply(&mut world, &fresh).unwrap_err().code.as_str(), "PLAN_STALE");
    let fresh = plan(&mut world, documents).unwrap();
    assert!(apply(&mut world, &fresh).is_ok());
}

#[test]
fn a_plan_with_a_mistake_is_refused_whole_and_one_that_was_edited_too() {
    let (mut world, _devices, mut documents) = world();
    documents[0]["spec"]["replicsa"] = json!(1);
    let problem = plan(&mut world, documents.clone()).unwrap_err();
    assert_eq!((problem.status(), problem.errors[0].pointer.as_str()), (422, "/documents/0/spec/replicsa"));
    assert!(world.list(Kind::Region).is_empty());
    let good = vec![documents[1].clone()];
    let mut edited = plan(&mut world, good.clone()).unwrap();
    edited["spec"]["documents"][0]["spec"]["circle"]["radiusKm"] = json!(500);
    assert_eq!(apply(&mut world, &edited).unwrap_err().errors[0].pointer, "/digest");
    assert_eq!(apply(&mut world, &json!({})).unwrap_err().status(), 422);
    assert_eq!(plan(&mut world, vec![good[0].clone(), good[0].clone()]).unwrap_err().status(), 422);
    let many = |count: usize| (0..count).map(|n| region(&format!("r{n}"), [8.0, 50.0], 1.0)).collect::<Vec<_>>();
    assert!(plan(&mut world, many(PLAN_DOCUMENTS_MAX)).is_ok());
    assert_eq!(plan(&mut world, many(PLAN_DOCUMENTS_MAX + 1)).unwrap_err().status(), 422);
    assert_eq!(plan(&mut world, Vec::new()).unwrap_err().status(), 422);
}

#[test]
fn what_if_of_another_place_is_told_in_words() {
    let (mut world, mut devices, documents) = world();
    for (device, longitude_e7) in devices.iter_mut().zip([86_800_000, 87_000_000]) {
        device.position = Some(wire::position::Position { longitude_e7, latitude_e7: 501_100_000, uncertainty_m: 1 });
        device.status(&mut world, &[]);
    }
    let mut document = documents[0].clone();
    document["spec"]["placement"] = json!({"near": {"point": [8.68, 50.11], "maxKm": 1}});
    let mut asked = WhatIf {
        workload: document,
        namespace: "default".to_owned(),
        device: None,
        near: None,
        distance_max: None,
        overrides: json!({"device/gw-1": {"taints": [{"key": "wet", "effect": "NoSchedule"}]}}),
    };
    let mut told = |asked: &WhatIf| match world.answer(Request::WhatIf(Box::new(asked.clone()))).unwrap() {
        Answer::Explanation(value) => {
            let text = value["text"].as_str().unwrap();
            let (head, rest) = text.split_once("   Fleet revision ").unwrap();
            format!("{head}\n{}", rest.split_once('\n').unwrap().1)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(
        told(&asked),
        "every device near 8.68,50.11 (at most 1 km).\n  2 devices considered: 1 farther than 1 km, 1 tainted  ->  0 feasible\n"
    );
    asked.near = crate::geo::Point::from_degrees(8.69, 50.11).ok();
    asked.distance_max = crate::geo::Distance::from_km(5.0);
    assert_eq!(
        told(&asked),
        "every device near 8.69,50.11 (at most 5 km).\n  2 devices considered: 1 tainted  ->  1 feasible\n  RANK DEVICE      KM  SCORE  WHY\n     1 gw-2       0.7   0.85  distance 0.85  new\n"
    );
}

fn what_if(world: &mut World, workload: Value, device: Option<&str>, overrides: Value) -> Result<Value, Problem> {
    let namespace = "default".to_owned();
    let asked =
        WhatIf { workload, namespace, device: device.map(str::to_owned), near: None, distance_max: None, overrides };
    match world.answer(Request::WhatIf(Box::new(asked)))? {
        Answer::Explanation(value) => Ok(value),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_if_answers_for_what_is_supposed_and_leaves_nothing_behind() {
    let (mut world, _devices, documents) = world();
    world.put(&ObjectKey::region("r"), documents[1].clone()).unwrap();
    world.put(&ObjectKey::workload("default", "w"), documents[0].clone()).unwrap();
    let batches = world.batches.len();
    let names = |value: &Value| -> Vec<Value> {
        let chosen = value["chosen"].as_array().unwrap().iter();
        let mut names: Vec<Value> = chosen.map(|chosen| chosen["name"].clone()).collect();
        names.sort_by_key(Value::to_string);
        names
    };
    let sums = |value: &Value| {
        let failed: u64 =
            value["tally"]["failed"].as_array().unwrap().iter().map(|l| l["count"].as_u64().unwrap()).sum();
        assert_eq!(
            failed + value["tally"]["feasible"].as_u64().unwrap(),
            value["tally"]["considered"].as_u64().unwrap()
        );
    };
    let as_it_is = what_if(&mut world, json!("w"), None, Value::Null).unwrap();
    assert_eq!(names(&as_it_is), ["gw-1", "gw-2"]);
    for (field, value) in [
        ("draining", json!(true)),
        ("approved", json!(false)),
        ("position", json!([11.0, 48.0])),
        ("position", Value::Null),
        ("taints", json!([{"key": "wet", "effect": "NoExecute"}])),
        ("free.memory", json!("1KiB")),
    ] {
        let supposed = what_if(&mut world, json!("w"), None, json!({"device/gw-1": {field: value}}));
        let supposed = supposed.unwrap_or_else(|problem| panic!("{field}: {problem:?}"));
        if field != "free.memory" {
            assert_eq!(names(&supposed), ["gw-2"], "{field}");
        }
        sums(&supposed);
    }
    let mut other = documents[0].clone();
    other["metadata"]["name"] = json!("new");
    other["spec"]["placement"] = json!({"labels": {"zone": "b"}});
    let relabelled = json!({"device/gw-2": {"labels.zone": "b"}});
    let supposed = what_if(&mut world, other.clone(), None, relabelled.clone()).unwrap();
    assert_eq!(names(&supposed), ["gw-2"]);
    sums(&supposed);
    let mut wrong = other.clone();
    wrong["spec"]["replicsa"] = json!(1);
    let refused = what_if(&mut world, wrong, None, Value::Null).unwrap_err();
    assert_eq!(refused.errors[0].pointer, "/workload/spec/replicsa");
    let one = what_if(&mut world, other, Some("gw-1"), relabelled).unwrap();
    assert_eq!(one["outcome"], "notFeasible");
    assert_eq!((world.batches.len(), world.list(Kind::Workload).len()), (batches, 1), "nothing was stored");
    assert_eq!(what_if(&mut world, json!("w"), None, Value::Null).unwrap(), as_it_is, "and nothing stayed");
    for (overrides, pointer) in [
        (json!({"device/gw-9": {}}), "/overrides/device~1gw-9"),
        (json!({"device/gw-1": {"colour": 1}}), "/overrides/device~1gw-1/colour"),
        (json!({"device/gw-1": {"free.memory": "much"}}), "/overrides/device~1gw-1/free.memory"),
        (json!({"device/gw-1": {"taints": [{"key": "wet", "effect": "Never"}]}}), "/overrides/device~1gw-1/taints"),
        (json!({"device/gw-1": {"taints": true}}), "/overrides/device~1gw-1/taints"),
        (json!([]), "/overrides"),
    ] {
        let problem = what_if(&mut world, json!("w"), None, overrides).unwrap_err();
        assert_eq!(problem.errors[0].pointer, pointer);
    }
    assert_eq!(what_if(&mut world, json!("x"), None, Value::Null).unwrap_err().status(), 404);
    let many: serde_json::Map<String, Value> =
        (0..=OVERRIDES_MAX).map(|n| (format!("device/d{n}"), json!({}))).collect();
    assert_eq!(what_if(&mut world, json!("w"), None, Value::Object(many)).unwrap_err().errors[0].pointer, "/overrides");
}
