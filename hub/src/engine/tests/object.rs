//! Generation, resource version, preconditions, use, lists.
use super::device::Double;
use super::world::{World, put_request, region, workload};
use crate::engine::port::*;
use crate::model::{Kind, ObjectKey, Selector};
use serde_json::json;

#[test]
fn an_equal_spec_makes_no_batch_and_no_generation() {
    let mut world = World::new();
    let key = ObjectKey::region("r");
    world.put(&key, region("r", [8.0, 50.0], 1.0)).unwrap();
    let batches = world.batches.len();
    let Ok(Answer::Object { outcome, document, .. }) = world.put(&key, region("r", [8.0, 50.0], 1.0)) else { panic!() };
    assert_eq!(outcome, Outcome::Unchanged);
    assert_eq!(document["metadata"]["generation"], 1);
    assert_eq!(world.batches.len(), batches);
}

#[test]
fn labels_raise_the_resource_version_and_a_spec_raises_both() {
    let mut world = World::new();
    let key = ObjectKey::region("r");
    world.put(&key, region("r", [8.0, 50.0], 1.0)).unwrap();
    let versions = |world: &mut World| {
        let document = world.get(&key);
        let version: u64 = document["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        (document["metadata"]["generation"].as_u64().unwrap(), version)
    };
    let (_, first) = versions(&mut world);
    let mut document = region("r", [8.0, 50.0], 1.0);
    document["metadata"]["labels"] = json!({"a": "b"});
    world.put(&key, document.clone()).unwrap();
    assert_eq!(versions(&mut world), (1, first + 1));
    document["spec"]["circle"]["radiusKm"] = json!(3.0);
    world.put(&key, document).unwrap();
    assert_eq!(versions(&mut world), (2, first + 2));
}

#[test]
fn a_stale_precondition_is_refused() {
    let mut world = World::new();
    let key = ObjectKey::region("r");
    let put = |if_match| Request::Put {
        key: key.clone(),
        document: region("r", [8.0, 50.0], 9.0),
        mode: Mode::Commit,
        if_match,
    };
    assert_eq!(world.answer(put(Some(1))).unwrap_err().status(), 412);
    let Ok(Answer::Object { resource_version, .. }) = world.answer(put(None)) else { panic!() };
    assert_eq!(world.answer(put(Some(resource_version + 1))).unwrap_err().code.as_str(), "STALE");
    assert!(world.answer(put(Some(resource_version))).is_ok());
    let delete = Request::Delete { key: key.clone(), if_match: Some(resource_version + 1) };
    assert_eq!(world.answer(delete).unwrap_err().status(), 412);
}

#[test]
fn a_dry_run_changes_nothing() {
    let mut world = World::new();
    let key = ObjectKey::region("r");
    let document = region("r", [8.0, 50.0], 1.0);
    let request = Request::Put { key: key.clone(), document, mode: Mode::DryRun, if_match: None };
    assert!(matches!(world.answer(request), Ok(Answer::Object { outcome: Outcome::Created, .. })));
    assert_eq!(world.answer(Request::Get { key }).unwrap_err().status(), 404);
    assert!(world.batches.is_empty());
}

#[test]
fn what_is_in_use_is_not_deleted() {
    let mut world = World::new();
    world.put(&ObjectKey::region("r"), region("r", [8.0, 50.0], 1.0)).unwrap();
    world.run("hello", json!({"within": ["r"]})).unwrap();
    for key in [ObjectKey::region("r"), ObjectKey::artifact("default", "app")] {
        let problem = world.answer(Request::Delete { key, if_match: None }).unwrap_err();
        assert_eq!((problem.status(), problem.code.as_str()), (409, "IN_USE"));
    }
    let key = ObjectKey::workload("default", "hello");
    assert_eq!(world.answer(Request::Delete { key, if_match: None }), Ok(Answer::Deleted));
    assert_eq!(world.answer(Request::Delete { key: ObjectKey::region("r"), if_match: None }), Ok(Answer::Deleted));
}

#[test]
fn a_workload_needs_its_artifact() {
    let mut world = World::new();
    let artifact = format!("app@sha256:{}", "11".repeat(32));
    let document = workload("hello", &artifact, json!({"on": ["gw-1"]}));
    let problem = world.put(&ObjectKey::workload("default", "hello"), document).unwrap_err();
    assert_eq!(problem.status(), 422);
    assert_eq!(problem.errors[0].pointer, "/spec/artifact");
}

#[test]
fn what_is_not_built_has_its_own_code() {
    let mut world = World::new();
    let artifact = world.upload("app", 0x11);
    let mut document = workload("hello", &artifact, json!({"on": ["gw-1"]}));
    document["spec"]["rollout"] = json!({"canary": 1});
    let problem = world.put(&ObjectKey::workload("default", "hello"), document).unwrap_err();
    assert_eq!((problem.status(), problem.code.as_str()), (422, "NOT_BUILT_YET"));
}

#[test]
fn a_list_comes_in_pages_and_by_labels() {
    let mut world = World::new();
    for n in 0..5 {
        let name = format!("r{n}");
        let mut document = region(&name, [8.0, 50.0], 1.0);
        document["metadata"]["labels"] = json!({"odd": (n % 2 == 1).to_string()});
        world.put(&ObjectKey::region(&name), document).unwrap();
    }
    let page = |after, labels| {
        let selection = Selection { labels, ..Selection::default() };
        Request::List { kind: Kind::Region, selection, limit: 2, after }
    };
    let mut names = Vec::new();
    let mut after = None;
    loop {
        let Ok(Answer::List { items, next, .. }) = world.answer(page(after, Selector::default())) else { panic!() };
        names.extend(items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()));
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(names, ["r0", "r1", "r2", "r3", "r4"]);
    let Ok(Answer::List { items, next, .. }) = world.answer(page(None, Selector::parse("odd=true").unwrap())) else {
        panic!()
    };
    assert_eq!((items.len(), next), (2, None));
}

#[test]
fn a_manifest_of_a_device_keeps_its_switches() {
    let mut world = World::new();
    let device = json!({"apiVersion": "fulmar/v1", "kind": "Device", "metadata": {"name": "gw-1", "labels": {"a": "b"}},
        "spec": {"position": {"point": [9.0, 48.0]}}});
    let problem = world.put(&ObjectKey::device("gw-1"), device.clone()).unwrap_err();
    assert_eq!(problem.status(), 404, "devices are made by joining");
    Double::online(&mut world, 1, "gw-1");
    world.answer(Request::DeviceChange { name: "gw-1".to_owned(), change: DeviceChange::Cordon }).unwrap();
    world.put(&ObjectKey::device("gw-1"), device).unwrap();
    let document = world.get(&ObjectKey::device("gw-1"));
    assert_eq!(document["spec"]["approved"], true);
    assert_eq!(document["spec"]["cordoned"], true);
    assert_eq!(document["status"]["position"]["point"], json!([9.0, 48.0]));
    assert_eq!(document["status"]["positionSource"], "operator");
}

#[test]
fn every_change_has_its_audit_entry() {
    let mut world = World::new();
    Double::online(&mut world, 1, "gw-1");
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    let key = ObjectKey::workload("default", "hello");
    world.answer(Request::Delete { key, if_match: None }).unwrap();
    let actions: Vec<&str> = world.batches.iter().flat_map(|batch| &batch.audit).map(|entry| entry.action).collect();
    for action in ["token-create", "join", "upload", "apply", "place", "delete"] {
        assert!(actions.contains(&action), "{action} in {actions:?}");
    }
    let put = world.ask(put_request(&ObjectKey::region("r"), region("r", [8.0, 50.0], 1.0)));
    assert!(world.answers.contains_key(&put));
    let entry = &world.batches.last().unwrap().audit[0];
    assert_eq!((entry.actor.as_str(), entry.object.as_str()), ("admin", "region/r"));
    assert!(entry.before.is_none() && entry.after.is_some());
}
