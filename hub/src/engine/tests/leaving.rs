//! Devices that go, are refused or are put elsewhere by an operator.
use super::device::Double;
use super::world::World;
use crate::commit::CommitFailure;
use crate::engine::REJECTIONS_MAX;
use crate::engine::port::*;
use crate::geo::Point;
use crate::model::{DevicePosition, Kind, ObjectKey};
use serde_json::{Value, json};
use std::time::Duration;
use wire::join::JoinRefusal;

fn change(world: &mut World, change: DeviceChange) -> Result<Answer, Problem> {
    world.answer(Request::DeviceChange { name: "gw-1".to_owned(), change })
}

fn document(answer: Result<Answer, Problem>) -> Value {
    match answer {
        Ok(Answer::Object { document, .. }) => document,
        other => panic!("{other:?}"),
    }
}

/// One device that runs one workload.
fn busy() -> (World, Double) {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    world.run("w", json!({"on": ["gw-1"]})).unwrap();
    device.run_all(&mut world);
    (world, device)
}

#[test]
fn a_device_is_deleted_when_it_says_that_it_holds_nothing() {
    let (mut world, mut device) = busy();
    let document = document(change(&mut world, DeviceChange::Decommission));
    assert_eq!((&document["spec"]["draining"], &document["spec"]["decommissioning"]), (&json!(true), &json!(true)));
    world.pass(Duration::from_secs(60));
    let conditions = world.get(&ObjectKey::device("gw-1"))["status"]["conditions"].to_string();
    assert!(conditions.contains("\"Decommissioning\""), "{conditions}");
    // It holds the empty set, and still stops what it ran.
    device.accept(&world);
    let stopping = Double::entry(1, 1, wire::status::State::Stopping, wire::status::Reason::NONE, "");
    device.status(&mut world, &[stopping]);
    assert_eq!(world.list(Kind::Device).len(), 1);
    device.run_all(&mut world);
    assert!(world.list(Kind::Device).is_empty());
    assert_eq!(world.events("Decommissioned").len(), 1);
    assert!(world.access.contains(&AccessChange::DeviceRemove { id: device.id }));
    assert!(world.retained_desired(device.id).is_none(), "nothing of it stays at the broker");
}

#[test]
fn a_device_that_never_had_anything_is_deleted_at_once_and_an_undrain_ends_it() {
    let mut world = World::new();
    let _device = Double::online(&mut world, 1, "gw-1");
    document(change(&mut world, DeviceChange::Decommission));
    assert!(world.list(Kind::Device).is_empty());
    let (mut world, mut device) = busy();
    document(change(&mut world, DeviceChange::Decommission));
    let document = document(change(&mut world, DeviceChange::Undrain));
    assert_eq!((&document["spec"]["draining"], document["spec"].get("decommissioning")), (&json!(false), None));
    device.run_all(&mut world);
    assert_eq!(world.list(Kind::Placement).len(), 1, "it has its work again");
}

#[test]
fn a_silent_device_is_deleted_by_force_alone_and_a_restart_forgets_nothing() {
    let (mut world, mut device) = busy();
    document(change(&mut world, DeviceChange::Decommission));
    world.restart();
    world.pass(Duration::from_secs(3600));
    assert_eq!(world.list(Kind::Device).len(), 1);
    device.hello(&mut world, false).unwrap();
    device.run_all(&mut world);
    assert!(world.list(Kind::Device).is_empty(), "it came back and said so");
    let (mut world, _) = busy();
    assert_eq!(change(&mut world, DeviceChange::DecommissionNow), Ok(Answer::Deleted));
    assert!(world.list(Kind::Device).is_empty() && world.list(Kind::Placement).is_empty());
}

#[test]
fn a_deletion_that_the_database_refused_is_tried_again() {
    let (mut world, mut device) = busy();
    document(change(&mut world, DeviceChange::Decommission));
    world.fail_next(CommitFailure::DiskFull);
    device.run_all(&mut world);
    assert!(world.list(Kind::Device).is_empty());
    assert_eq!(world.events("CommitFailed").len(), 1);
}

#[test]
fn a_rejected_key_does_not_join_again() {
    let mut world = World::new();
    let token = world.token(false);
    let mut device = Double::new(1);
    device.join(&mut world, &token, "gw-1");
    assert_eq!(change(&mut world, DeviceChange::Reject), Ok(Answer::Deleted));
    assert!(world.list(Kind::Device).is_empty());
    for restarts in [false, true] {
        if restarts {
            world.restart();
        }
        for token in [token.clone(), world.token(true)] {
            assert_eq!(device.join(&mut world, &token, "gw-1"), Some(Err(JoinRefusal::NotAuthentic)));
        }
    }
    let token = world.token(true);
    assert_eq!(Double::new(2).join(&mut world, &token, "gw-1"), Some(Ok(true)), "the name is free");
    let problem = change(&mut world, DeviceChange::Reject).unwrap_err();
    assert_eq!((problem.status(), problem.code.as_str()), (409, "APPROVED"));
}

#[test]
fn a_key_whose_rejection_is_lifted_joins_again() {
    let mut world = World::new();
    let mut device = Double::new(1);
    for (seed, name) in [(2, "gw-2"), (3, "gw-3")] {
        let token = world.token(false);
        Double::new(seed).join(&mut world, &token, name);
        world.answer(Request::DeviceChange { name: name.to_owned(), change: DeviceChange::Reject }).unwrap();
    }
    let token = world.token(false);
    device.join(&mut world, &token, "gw-1");
    assert_eq!(change(&mut world, DeviceChange::Reject), Ok(Answer::Deleted));
    world.restart();
    let page = |world: &mut World, limit, after| match world.answer(Request::Rejections { limit, after }) {
        Ok(Answer::List { items, next, .. }) => (items, next),
        other => panic!("{other:?}"),
    };
    let (first, next) = page(&mut world, 2, None);
    let after = next.map(|next| wire::DeviceId::parse(&next).unwrap());
    let (rest, end) = page(&mut world, 2, after);
    assert_eq!((first.len(), rest.len(), end), (2, 1, None));
    let mut rows = [first, rest].concat();
    rows.sort_by_key(|row| row["name"].to_string());
    assert_eq!(rows[0]["id"], device.id.to_string());
    assert!(rows[0]["rejected"].as_str().unwrap().starts_with("2023-11-14T"), "{rows:?}");

    let lift = || Request::RejectionLift { device: device.id };
    assert_eq!(world.answer(lift()), Ok(Answer::Deleted));
    let entry = world.batches.last().unwrap().audit[0].clone();
    assert_eq!((entry.action, entry.object.as_str(), entry.after), ("allow", "device/gw-1", None));
    assert_eq!(world.events("Allowed").len(), 1);
    assert_eq!(world.answer(lift()).unwrap_err().code.as_str(), "NOT_FOUND");
    world.restart();
    assert_eq!(page(&mut world, 500, None).0.len(), 2, "it stays lifted");
    let token = world.token(true);
    assert_eq!(device.join(&mut world, &token, "gw-1"), Some(Ok(true)));
}

#[test]
fn a_lifted_rejection_that_is_not_durable_stays() {
    let mut world = World::new();
    let mut device = Double::new(1);
    let token = world.token(false);
    device.join(&mut world, &token, "gw-1");
    change(&mut world, DeviceChange::Reject).unwrap();
    world.fail_next(CommitFailure::DiskFull);
    let problem = world.answer(Request::RejectionLift { device: device.id }).unwrap_err();
    assert_eq!(problem.status(), 507);
    let token = world.token(true);
    assert_eq!(device.join(&mut world, &token, "gw-1"), Some(Err(JoinRefusal::NotAuthentic)));
}

#[test]
fn rejections_have_a_limit() {
    let mut world = World::new();
    let rejection = |n: usize| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        crate::commit::RejectionRow { device: wire::DeviceId(id), name: "x".to_owned(), rejected_ms: 1 }
    };
    let rows = (0..REJECTIONS_MAX - 1).map(rejection);
    world.engine.state.rejections.extend(rows.map(|row| (row.device, row)));
    let join = |world: &mut World, seed: u16, name: &str| {
        let token = world.token(false);
        Double::new(seed).join(world, &token, name);
        world.answer(Request::DeviceChange { name: name.to_owned(), change: DeviceChange::Reject })
    };
    assert_eq!(join(&mut world, 1, "at"), Ok(Answer::Deleted));
    assert_eq!(join(&mut world, 2, "beyond").unwrap_err().code.as_str(), "LIMIT_REACHED");
}

#[test]
fn a_device_is_relocated_and_left_to_its_own_word_again() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    device.status(&mut world, &[]);
    let position = DevicePosition { point: Point::from_degrees(11.0, 48.0).unwrap(), uncertainty_m: 5 };
    let relocated = document(change(&mut world, DeviceChange::Relocate(Some(position))));
    assert_eq!(relocated["status"]["position"], json!({"point": [11.0, 48.0], "uncertaintyM": 5}));
    assert_eq!(relocated["status"]["positionSource"], "operator");
    let Ok(Answer::Object { outcome, .. }) = change(&mut world, DeviceChange::Relocate(Some(position))) else {
        panic!()
    };
    assert_eq!(outcome, Outcome::Unchanged);
    let reset = document(change(&mut world, DeviceChange::Relocate(None)));
    assert_eq!(reset["status"]["positionSource"], "device");
    assert!(reset["spec"].get("position").is_none());
}

#[test]
fn a_device_that_was_deleted_and_joins_again_holds_nothing_and_is_not_ahead() {
    let (mut world, mut device) = busy();
    assert_ne!(device.accepted.0, wire::Revision::default());
    world.answer(Request::Delete { key: ObjectKey::device("gw-1"), if_match: None }).unwrap();
    let key = ObjectKey::workload("default", "w");
    world.answer(Request::Delete { key, if_match: None }).unwrap();
    let token = world.token(true);
    assert_eq!(device.join(&mut world, &token, "gw-1"), Some(Ok(true)));
    device.hello(&mut world, true).unwrap();
    assert!(world.events("RevisionAhead").is_empty());
    assert!(device.accept(&world).is_empty(), "what it ran in its former life is taken away");
    device.status(&mut world, &[]);
    let shown = world.get(&ObjectKey::device("gw-1"));
    assert_eq!(shown["status"]["revision"]["synced"], true, "{shown}");
    assert!(!shown["status"]["conditions"].to_string().contains("RevisionAhead"));
}
