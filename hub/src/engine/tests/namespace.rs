//! Namespaces: objects like others, nothing is in one that is not there, and `default` always is.
use super::device::Double;
use super::world::{World, put_request, region, workload};
use super::writer::Writer;
use crate::commit::CommitFailure;
use crate::engine::Applier;
use crate::engine::port::*;
use crate::model::{Kind, ObjectKey};
use serde_json::{Value, json};
use std::time::Duration;
use wire::Digest;

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "fulmar/v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {}})
}

fn make(world: &mut World, name: &str) {
    world.put(&ObjectKey::namespace(name), namespace(name)).unwrap();
}

fn upload(world: &mut World, namespace: &str) -> Result<Answer, Problem> {
    let (namespace, name, digest) = (namespace.to_owned(), "app".to_owned(), Digest([0x11; 32]));
    world.answer(Request::ArtifactPut { namespace, name, digest, bytes: 1234 })
}

/// A workload in a namespace, with its artifact there.
fn run(world: &mut World, namespace: &str, name: &str) -> Result<Answer, Problem> {
    upload(world, namespace)?;
    let artifact = format!("app@sha256:{}", Digest([0x11; 32]));
    world.put(&ObjectKey::workload(namespace, name), workload(name, &artifact, json!({"labels": {"a": "b"}})))
}

fn names(world: &mut World) -> Vec<String> {
    let items = world.list(Kind::Namespace);
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

fn in_namespace(name: &str) -> Selection {
    Selection { namespace: Some(name.to_owned()), ..Selection::default() }
}

fn delete(world: &mut World, key: ObjectKey) -> Result<Answer, Problem> {
    world.answer(Request::Delete { key, if_match: None })
}

#[test]
fn default_is_there_from_the_first_start_and_stays() {
    let mut world = World::new();
    assert_eq!(names(&mut world), ["default"]);
    let shown = world.get(&ObjectKey::namespace("default"));
    assert_eq!((&shown["spec"], &shown["metadata"]["generation"]), (&json!({}), &json!(1)));
    let problem = delete(&mut world, ObjectKey::namespace("default")).unwrap_err();
    assert_eq!((problem.status(), problem.code.as_str()), (409, "PROTECTED"));
    world.restart();
    assert_eq!(world.get(&ObjectKey::namespace("default"))["metadata"], shown["metadata"], "it is not made again");
    assert!(world.batches.is_empty());
}

#[test]
fn the_start_that_makes_default_is_in_the_audit() {
    let mut world = World::new();
    // As at the first start of all.
    world.writer = Writer::default();
    world.restart();
    let entry = &world.batches[0].audit[0];
    assert_eq!(
        (entry.actor.as_str(), entry.action, entry.object.as_str()),
        ("system:start", "create", "namespace/default")
    );
    assert!(entry.before.is_none() && entry.after.is_some());
}

#[test]
fn what_is_no_name_is_not_suggested_to_a_shell() {
    let mut world = World::new();
    for name in ["x'; reboot; echo '", "", "Lab", "a/b"] {
        let selection = in_namespace(name);
        let asked = Request::List { kind: Kind::Workload, selection, limit: 1, after: None };
        let problem = world.answer(asked).unwrap_err();
        assert_eq!(problem.code.as_str(), "NAMESPACE_NOT_FOUND");
        assert_eq!(problem.next, ["fulmar get namespaces"], "{name}");
    }
}

#[test]
fn a_namespace_is_an_object_like_others() {
    let mut world = World::new();
    let key = ObjectKey::namespace("lab");
    let request = Request::Put { key: key.clone(), document: namespace("lab"), mode: Mode::DryRun, if_match: None };
    assert!(matches!(world.answer(request), Ok(Answer::Object { outcome: Outcome::Created, .. })));
    assert_eq!(names(&mut world), ["default"], "a dry run makes nothing");
    assert_eq!(upload(&mut world, "lab").unwrap_err().code.as_str(), "NAMESPACE_NOT_FOUND");
    let from = match world.answer(Request::List {
        kind: Kind::Namespace,
        selection: Selection::default(),
        limit: 1,
        after: None,
    }) {
        Ok(Answer::List { position, .. }) => position,
        other => panic!("{other:?}"),
    };
    let request = Request::Watch { kind: Kind::Namespace, selection: Selection::default(), from: Some(from) };
    let watch = world.ask(request);
    let applier = Applier { manager: "ci".to_owned(), force: false };
    let document = json!({"apiVersion": "fulmar/v1", "kind": "Namespace",
        "metadata": {"name": "lab", "labels": {"team": "x"}, "annotations": {"why": "trials"}}});
    let apply = |document: Value| Request::Apply {
        key: key.clone(),
        document,
        applier: applier.clone(),
        mode: Mode::Commit,
        if_match: None,
    };
    let Ok(Answer::Object { outcome, resource_version, document: shown, .. }) = world.answer(apply(document.clone()))
    else {
        panic!("a namespace needs no spec")
    };
    assert_eq!((outcome, &shown["spec"]), (Outcome::Created, &json!({})));
    assert_eq!(shown["metadata"]["annotations"], json!({"why": "trials"}));
    let again = world.answer(apply(document));
    assert!(matches!(again, Ok(Answer::Object { outcome: Outcome::Unchanged, .. })), "{again:?}");
    let stale = Request::Delete { key: key.clone(), if_match: Some(resource_version + 1) };
    assert_eq!(world.answer(stale).unwrap_err().code.as_str(), "STALE");
    assert!(matches!(
        world.answer(Request::Delete { key: key.clone(), if_match: Some(resource_version) }),
        Ok(Answer::Deleted)
    ));
    world.pass(Duration::from_secs(1));
    let told = world.streams.iter().filter(|(ticket, _)| *ticket == watch);
    let kinds: Vec<ChangeKind> = told
        .filter_map(|(_, item)| match item {
            StreamItem::Change { kind, document, .. } if document["metadata"]["name"] == "lab" => Some(*kind),
            _ => None,
        })
        .collect();
    assert_eq!(kinds, [ChangeKind::Added, ChangeKind::Deleted]);
    assert_eq!(names(&mut world), ["default"]);
}

#[test]
fn a_namespace_has_no_spec_and_a_name_that_is_one() {
    let mut world = World::new();
    let key = ObjectKey::namespace("lab");
    let mut document = namespace("lab");
    document["spec"] = json!({"colour": "red"});
    assert_eq!(world.put(&key, document.clone()).unwrap_err().errors[0].pointer, "/spec/colour");
    document["spec"] = json!({"quotas": {"workloads": 3}});
    assert_eq!(world.put(&key, document).unwrap_err().code.as_str(), "NOT_BUILT_YET");
    let mut within = namespace("lab");
    within["metadata"]["namespace"] = json!("default");
    assert_eq!(world.put(&key, within).unwrap_err().errors[0].pointer, "/metadata/namespace");
    let name = "Lab_1";
    assert_eq!(world.put(&ObjectKey::namespace(name), namespace(name)).unwrap_err().status(), 422);
}

#[test]
fn nothing_goes_into_or_is_asked_of_a_namespace_that_is_not_there() {
    let mut world = World::new();
    let artifact = world.upload("app", 0x11);
    let key = ObjectKey::workload("lab", "w");
    let document = workload("w", &artifact, json!({"labels": {"a": "b"}}));
    let applier = Applier { manager: "ci".to_owned(), force: false };
    let (namespace, name) = ("lab".to_owned(), "w".to_owned());
    let applied = |mode| Request::Apply {
        key: key.clone(),
        document: document.clone(),
        applier: applier.clone(),
        mode,
        if_match: None,
    };
    let listed = |kind| Request::List { kind, selection: in_namespace("lab"), limit: 10, after: None };
    let supposed = WhatIf {
        workload: json!("w"),
        namespace: namespace.clone(),
        device: None,
        near: None,
        distance_max: None,
        overrides: Value::Null,
    };
    let mut planned = document.clone();
    planned["metadata"]["namespace"] = json!("lab");
    for request in [
        put_request(&key, document.clone()),
        applied(Mode::Commit),
        applied(Mode::DryRun),
        Request::Get { key: key.clone() },
        Request::Managed { key: key.clone() },
        Request::Get { key: ObjectKey { kind: Kind::Placement, ..key.clone() } },
        Request::Delete { key: key.clone(), if_match: None },
        listed(Kind::Workload),
        listed(Kind::Artifact),
        listed(Kind::Placement),
        Request::Watch { kind: Kind::Workload, selection: in_namespace("lab"), from: None },
        Request::Explain { namespace: namespace.clone(), name: name.clone(), device: None },
        Request::Logs { namespace: namespace.clone(), name, device: None, tail: 1, follow: Follow::Once },
        Request::ArtifactPut { namespace, name: "app".to_owned(), digest: Digest([0x11; 32]), bytes: 1234 },
        Request::WhatIf(Box::new(supposed)),
        Request::Plan { documents: vec![planned], applier: applier.clone() },
    ] {
        let shown = format!("{request:?}");
        let problem = world.answer(request).unwrap_err();
        assert_eq!((problem.status(), problem.code.as_str()), (404, "NAMESPACE_NOT_FOUND"), "{shown}");
        assert!(problem.detail.contains("\"lab\"") && problem.next.len() == 2, "{problem:?}");
    }
    make(&mut world, "lab");
    assert_eq!(world.answer(Request::Get { key: key.clone() }).unwrap_err().code.as_str(), "NOT_FOUND");
    assert!(run(&mut world, "lab", "w").is_ok());
    // Of all namespaces, and of kinds that are in none.
    assert_eq!(world.list(Kind::Workload).len(), 1);
    let selection = in_namespace("moon");
    assert!(world.answer(Request::List { kind: Kind::Region, selection, limit: 1, after: None }).is_ok());
}

#[test]
fn a_namespace_that_holds_something_is_not_deleted() {
    let mut world = World::new();
    make(&mut world, "lab");
    for name in ["a", "b", "c", "d", "e"] {
        run(&mut world, "lab", name).unwrap();
    }
    let problem = delete(&mut world, ObjectKey::namespace("lab")).unwrap_err();
    assert_eq!((problem.status(), problem.code.as_str()), (409, "IN_USE"));
    assert!(problem.detail.contains("artifact/lab/app, workload/lab/a") && problem.detail.contains("and 1 more"));
    assert_eq!(problem.next[0], "fulmar delete workload/e -n lab", "{:?}", problem.next);
    for name in ["a", "b", "c", "d", "e"] {
        delete(&mut world, ObjectKey::workload("lab", name)).unwrap();
    }
    let problem = delete(&mut world, ObjectKey::namespace("lab")).unwrap_err();
    assert_eq!(problem.next, ["fulmar delete artifact/app -n lab"]);
    delete(&mut world, ObjectKey::artifact("lab", "app")).unwrap();
    assert!(matches!(delete(&mut world, ObjectKey::namespace("lab")), Ok(Answer::Deleted)));
    assert_eq!(run(&mut world, "lab", "a").unwrap_err().code.as_str(), "NAMESPACE_NOT_FOUND");
    world.restart();
    assert_eq!(names(&mut world), ["default"], "what was deleted does not come back");
}

#[test]
fn objects_of_an_old_database_find_their_namespaces_made() {
    let mut world = World::new();
    for name in ["lab", "field"] {
        make(&mut world, name);
        run(&mut world, name, "w").unwrap();
    }
    world.writer.database.forget_namespaces();
    world.batches.clear();
    world.restart();
    assert_eq!(names(&mut world), ["default", "field", "lab"]);
    assert_eq!((world.batches.len(), world.batches[0].audit.len()), (1, 3), "in one batch, each with its entry");
    assert_eq!(world.list(Kind::Workload).len(), 2);
    let selection = in_namespace("lab");
    let listed = world.answer(Request::List { kind: Kind::Workload, selection, limit: 9, after: None });
    assert!(matches!(listed, Ok(Answer::List { items, .. }) if items.len() == 1));
    let uids: Vec<Value> = ["default", "field", "lab"]
        .map(|name| world.get(&ObjectKey::namespace(name))["metadata"]["uid"].clone())
        .to_vec();
    assert!(uids[0] != uids[1] && uids[1] != uids[2]);
}

#[test]
fn a_disk_that_is_full_at_the_start_keeps_no_namespace_away() {
    let mut world = World::new();
    world.writer = Writer::default();
    world.fail_next(CommitFailure::DiskFull);
    world.engine = super::world::engine(&mut world.writer);
    world.connect();
    assert_eq!(world.batches.len(), 1, "it is not tried again at once");
    assert!(upload(&mut world, "default").is_ok(), "what is owed counts as being there");
    assert_eq!(upload(&mut world, "lab").unwrap_err().code.as_str(), "NAMESPACE_NOT_FOUND");
    world.pass(Duration::from_secs(10));
    assert_eq!(names(&mut world), ["default"]);
}

#[test]
fn a_plan_may_make_a_namespace_and_is_of_what_goes_into_it() {
    let mut world = World::new();
    let applier = || Applier { manager: "ci".to_owned(), force: false };
    let documents = vec![region("r", [8.0, 50.0], 1.0), namespace("lab")];
    let Ok(Answer::Plan(plan)) = world.answer(Request::Plan { documents, applier: applier() }) else { panic!() };
    assert_eq!(plan["status"]["changes"][0]["object"], "namespace/lab", "what others are in comes first");
    assert_eq!(names(&mut world), ["default"], "a plan stores nothing");
    world.answer(Request::PlanApply { plan }).unwrap();
    assert_eq!(names(&mut world), ["default", "lab"]);
    upload(&mut world, "lab").unwrap();
    let artifact = format!("app@sha256:{}", Digest([0x11; 32]));
    let mut document = workload("w", &artifact, json!({"labels": {"a": "b"}}));
    document["metadata"]["namespace"] = json!("lab");
    let documents = vec![document, namespace("lab")];
    let Ok(Answer::Plan(plan)) = world.answer(Request::Plan { documents, applier: applier() }) else { panic!() };
    assert_eq!(plan["status"]["changes"][1]["object"], "workload/lab/w", "{plan}");
    world.answer(Request::PlanApply { plan }).unwrap();
    assert_eq!(world.list(Kind::Workload).len(), 1);
}

#[test]
fn h14_a_namespace_of_a_thousand_goes_while_devices_are_away_and_its_names_are_free() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    make(&mut world, "lab");
    upload(&mut world, "lab").unwrap();
    let artifact = format!("app@sha256:{}", Digest([0x11; 32]));
    let keys: Vec<ObjectKey> = (0..1_000).map(|n| ObjectKey::workload("lab", &format!("w{n}"))).collect();
    let put = |world: &mut World, key: &ObjectKey, on: &str| {
        world.put(key, workload(&key.name, &artifact, json!({"on": [on]}))).unwrap();
    };
    for (number, key) in (0..).zip(&keys) {
        put(&mut world, key, if number < 3 { "gw-1" } else { "elsewhere" });
    }
    device.run_all(&mut world);
    let ran = device.accept(&world);
    assert_eq!((ran.len(), world.list(Kind::Placement).len()), (3, 3));
    device.will(&mut world, device.boot);

    for key in &keys {
        delete(&mut world, key.clone()).unwrap();
    }
    delete(&mut world, ObjectKey::artifact("lab", "app")).unwrap();
    assert!(matches!(delete(&mut world, ObjectKey::namespace("lab")), Ok(Answer::Deleted)));
    assert!(world.list(Kind::Placement).is_empty() && world.list(Kind::Workload).is_empty());
    make(&mut world, "lab");
    upload(&mut world, "lab").unwrap();
    put(&mut world, &keys[0], "gw-1");

    // The device comes back: what it ran is not in its set, and the new one is no continuation of the old one.
    assert!(device.hello(&mut world, true).is_ok());
    let now = device.accept(&world);
    assert_eq!(now.len(), 1);
    assert!(ran.keys().all(|old| !now.contains_key(old)), "{ran:?} {now:?}");
    device.run_all(&mut world);
    let shown = world.get(&keys[0]);
    assert_eq!((&shown["status"]["running"], &shown["metadata"]["generation"]), (&json!(1), &json!(1)), "{shown}");
}
