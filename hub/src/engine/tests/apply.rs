//! Server-side apply: who owns what, what is taken away, and who stands against it.
use super::world::{World, region, workload};
use crate::engine::Applier;
use crate::engine::port::*;
use crate::model::ObjectKey;
use serde_json::{Value, json};

fn key() -> ObjectKey {
    ObjectKey::workload("default", "w")
}

fn partial(labels: Value, spec: Value) -> Value {
    json!({"apiVersion": "fulmar/v1", "kind": "Workload", "metadata": {"name": "w", "labels": labels}, "spec": spec})
}

fn request(manager: &str, force: bool, mode: Mode, document: Value) -> Request {
    let applier = Applier { manager: manager.to_owned(), force };
    Request::Apply { key: key(), document, applier, mode, if_match: None }
}

fn apply(world: &mut World, manager: &str, force: bool, document: Value) -> Result<(Outcome, Value), Problem> {
    match world.answer(request(manager, force, Mode::Commit, document))? {
        Answer::Object { outcome, document, .. } => Ok((outcome, document)),
        other => panic!("{other:?}"),
    }
}

/// The fields of each manager.
fn owners(world: &mut World) -> Value {
    let Ok(Answer::Object { document, .. }) = world.answer(Request::Managed { key: key() }) else { panic!() };
    let managed = document["metadata"]["managedFields"].as_array().unwrap().clone();
    managed.into_iter().map(|one| (one["manager"].as_str().unwrap().to_owned(), one["fields"].clone())).collect()
}

fn base(artifact: &str) -> Value {
    json!({"type": "function", "artifact": artifact, "placement": {"labels": {"a": "1"}},
        "function": {"triggers": {"every": "5s"}, "capabilities": ["log"]}, "replicas": 2})
}

fn world() -> (World, Value) {
    let mut world = World::new();
    let artifact = world.upload("app", 0x11);
    (world, base(&artifact))
}

#[test]
fn an_apply_creates_owns_and_takes_away_what_it_no_longer_says() {
    let (mut world, mut spec) = world();
    let (outcome, document) = apply(&mut world, "ci", false, partial(json!({"team": "x"}), spec.clone())).unwrap();
    assert_eq!((outcome, document["spec"]["replicas"].as_u64()), (Outcome::Created, Some(2)));
    assert!(document["metadata"].get("managedFields").is_none());
    let fields = owners(&mut world)["ci"].to_string();
    for field in ["/spec/replicas", "/metadata/labels/team", "/spec/placement/labels/a", "/spec/function/capabilities"]
    {
        assert!(fields.contains(&format!("\"{field}\"")), "{fields}");
    }
    assert!(!fields.contains("/spec/retry"), "a default has no owner: {fields}");
    let (outcome, same) = apply(&mut world, "ci", false, partial(json!({"team": "x"}), spec.clone())).unwrap();
    assert_eq!((outcome, &same["metadata"]), (Outcome::Unchanged, &document["metadata"]));
    spec.as_object_mut().unwrap().remove("replicas");
    spec["every"] = json!(true);
    let (outcome, document) = apply(&mut world, "ci", false, partial(json!({}), spec)).unwrap();
    assert_eq!(outcome, Outcome::Updated);
    assert_eq!((document["spec"].get("replicas"), &document["spec"]["every"]), (None, &json!(true)));
    assert!(document["metadata"].get("labels").is_none());
}

#[test]
fn another_managers_field_is_not_changed_without_force() {
    let (mut world, spec) = world();
    apply(&mut world, "ci", false, partial(json!({}), spec)).unwrap();
    let scaled = |replicas: u32| partial(json!({}), json!({"replicas": replicas}));
    let problem = apply(&mut world, "scaler", false, scaled(5)).unwrap_err();
    assert_eq!((problem.status(), problem.code.as_str()), (409, "FIELD_CONFLICT"));
    assert_eq!(problem.errors[0].pointer, "/spec/replicas");
    assert!(problem.errors[0].detail.contains("\"ci\""), "{:?}", problem.errors);
    let dry = world.answer(request("scaler", true, Mode::DryRun, scaled(5))).unwrap();
    assert!(
        matches!(dry, Answer::Object { outcome: Outcome::Updated, document, .. } if document["spec"]["replicas"] == 5)
    );
    assert_eq!(world.get(&key())["spec"]["replicas"], 2, "nothing was stored");
    // The same value is owned together; then neither changes it alone.
    apply(&mut world, "scaler", false, scaled(2)).unwrap();
    assert_eq!(owners(&mut world)["scaler"], json!(["/spec/replicas"]));
    assert_eq!(apply(&mut world, "scaler", false, scaled(3)).unwrap_err().code.as_str(), "FIELD_CONFLICT");
    let (_, document) = apply(&mut world, "scaler", true, scaled(3)).unwrap();
    assert_eq!(document["spec"]["replicas"], 3);
    assert_eq!(document["spec"]["placement"]["labels"]["a"], "1", "the rest is as it was");
    assert!(!owners(&mut world)["ci"].to_string().contains("replicas"), "taken over");
}

#[test]
fn what_two_own_stays_when_one_leaves_it_out() {
    let (mut world, spec) = world();
    apply(&mut world, "ci", false, partial(json!({}), spec.clone())).unwrap();
    apply(&mut world, "scaler", false, partial(json!({}), json!({"replicas": 2}))).unwrap();
    let mut less = spec;
    less.as_object_mut().unwrap().remove("replicas");
    let (_, document) = apply(&mut world, "ci", false, partial(json!({}), less)).unwrap();
    assert_eq!(document["spec"]["replicas"], 2);
    assert_eq!(owners(&mut world)["scaler"], json!(["/spec/replicas"]));
}

#[test]
fn a_whole_document_takes_over_what_it_changes_and_owners_survive_a_restart() {
    let (mut world, spec) = world();
    apply(&mut world, "ci", false, partial(json!({}), spec.clone())).unwrap();
    let mut document = partial(json!({}), spec.clone());
    document["spec"]["replicas"] = json!(7);
    world.put(&key(), document).unwrap();
    let before = owners(&mut world);
    assert_eq!(before["put"], json!(["/spec/replicas"]));
    world.restart();
    assert_eq!(owners(&mut world), before);
    assert_eq!(apply(&mut world, "ci", false, partial(json!({}), spec)).unwrap_err().code.as_str(), "FIELD_CONFLICT");
}

#[test]
fn what_was_there_without_owners_is_kept_and_mistakes_have_pointers() {
    let mut world = World::new();
    let artifact = world.upload("app", 0x11);
    world.put(&key(), workload("w", &artifact, json!({"on": ["gw-1"]}))).unwrap();
    world.writer.database.forget_owners();
    world.restart();
    assert_eq!(owners(&mut world), json!({}), "as an older hub stored it");
    let (_, document) = apply(&mut world, "ci", false, partial(json!({"a": "b"}), json!({"replicas": 1}))).unwrap();
    assert_eq!(document["spec"]["placement"]["on"], json!(["gw-1"]));
    let (_, document) = apply(&mut world, "ci", false, partial(json!({"a": "c"}), json!({"replicas": 1}))).unwrap();
    assert_eq!(document["spec"]["placement"]["on"], json!(["gw-1"]), "also the second time");
    let problem = apply(&mut world, "ci", false, partial(json!({}), json!({"replicsa": 1}))).unwrap_err();
    assert_eq!((problem.status(), problem.errors[0].pointer.as_str()), (422, "/spec/replicsa"));
    for manager in ["", "a b", &"x".repeat(64)] {
        assert_eq!(apply(&mut world, manager, false, partial(json!({}), json!({}))).unwrap_err().status(), 422);
    }
    let r = ObjectKey::region("r");
    let applier = Applier { manager: "ci".to_owned(), force: false };
    let mut on_region = |document: Value| {
        let applier = applier.clone();
        world.answer(Request::Apply { key: r.clone(), document, applier, mode: Mode::Commit, if_match: None })
    };
    on_region(region("r", [8.0, 50.0], 1.0)).unwrap();
    let mut square = region("r", [8.0, 50.0], 1.0);
    square["spec"] = json!({"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}});
    on_region(square).unwrap();
    assert_eq!(world.get(&r)["spec"]["geometry"]["type"], "Polygon", "one form takes the place of the other");
}
