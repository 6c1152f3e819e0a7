//! From a token to a device that waits for work.
use super::device::Double;
use super::world::World;
use crate::commit::CommitFailure;
use crate::engine::port::*;
use crate::model::ObjectKey;
use std::time::Duration;
use wire::hello::RefusalReason;
use wire::join::JoinRefusal;

#[test]
fn a_device_joins_is_approved_says_hello_and_gets_fresh() {
    let mut world = World::new();
    let token = world.token(false);
    let mut device = Double::new(1);
    assert_eq!(device.join(&mut world, &token, "gw-1"), Some(Ok(false)));
    assert!(world.access.iter().any(|change| matches!(change, AccessChange::DevicePut { id, .. } if *id == device.id)));
    let refusal = device.hello(&mut world, true).unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::NotApproved);
    let from = world.sent.len();
    world.answer(Request::DeviceChange { name: "gw-1".to_owned(), change: DeviceChange::Approve }).unwrap();
    let fresh = device.take_fresh(&world, from).expect("its question is answered at once").unwrap();
    assert_ne!(fresh.session.0, 0);
    assert_eq!(world.get(&ObjectKey::device("gw-1"))["status"]["online"]["state"], "Online");
    assert_eq!(world.get(&ObjectKey::device("gw-1"))["metadata"]["labels"]["zone"], "a", "labels of the token");
}

#[test]
fn an_old_question_is_not_answered_at_approval() {
    let mut world = World::new();
    let token = world.token(false);
    let mut device = Double::new(1);
    device.join(&mut world, &token, "gw-1");
    device.hello(&mut world, true).unwrap_err();
    world.pass(Duration::from_secs(31));
    let from = world.sent.len();
    world.answer(Request::DeviceChange { name: "gw-1".to_owned(), change: DeviceChange::Approve }).unwrap();
    assert!(device.take_fresh(&world, from).is_none());
}

#[test]
fn nothing_of_a_join_is_said_before_it_is_durable() {
    let mut world = World::new();
    let token = world.token(true);
    world.access.clear();
    world.writer.holds = true;
    let mut device = Double::new(1);
    assert_eq!(device.join(&mut world, &token, "gw-1"), None);
    assert!(world.access.is_empty());
    world.fail_next(CommitFailure::Io);
    world.write();
    assert!(world.access.is_empty());
    world.writer.holds = false;
    assert_eq!(device.join(&mut world, &token, "gw-1"), Some(Ok(true)), "the token is not spent");
}

#[test]
fn a_token_is_spent_once_but_answers_its_own_device_again() {
    let mut world = World::new();
    let token = world.token(true);
    assert_eq!(Double::new(1).join(&mut world, &token, "gw-1"), Some(Ok(true)));
    let first = world.sent.iter().find(|p| p.topic.contains("/join/")).unwrap().payload.clone();
    assert_eq!(Double::new(2).join(&mut world, &token, "gw-2"), Some(Err(JoinRefusal::TokenUsed)));
    world.restart();
    world.sent.clear();
    assert_eq!(Double::new(1).join(&mut world, &token, "gw-1"), Some(Ok(true)));
    let again = world.sent.iter().find(|p| p.topic.contains("/join/")).unwrap().payload.clone();
    assert_eq!(first, again, "one nonce has one answer");
}

#[test]
fn names_and_dates_are_judged() {
    let mut world = World::new();
    let (one, two) = (world.token(true), world.token(true));
    assert_eq!(Double::new(1).join(&mut world, &one, "gw-1"), Some(Ok(true)));
    assert_eq!(Double::new(2).join(&mut world, &two, "gw-1"), Some(Err(JoinRefusal::NameTaken)));
    assert_eq!(Double::new(2).join(&mut world, &two, "Not A Name"), Some(Err(JoinRefusal::Malformed)));
    assert_eq!(Double::new(2).join(&mut world, &two, ""), Some(Ok(true)));
    let made = format!("dev-{}", &Double::new(2).id.text()[..8]);
    assert_eq!(world.get(&ObjectKey::device(&made))["status"]["class"], "gateway");
    let late = world.token(true);
    world.now.wall_ms += 25 * 3_600_000;
    assert_eq!(Double::new(3).join(&mut world, &late, "gw-3"), Some(Err(JoinRefusal::TokenExpired)));
}

#[test]
fn a_deleted_device_is_forgotten_by_the_broker() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    world.run("hello", serde_json::json!({"on": ["gw-1"]})).unwrap();
    device.run_all(&mut world);
    assert!(world.retained_desired(device.id).is_some());
    world.answer(Request::Delete { key: ObjectKey::device("gw-1"), if_match: None }).unwrap();
    assert_eq!(world.retained_desired(device.id), None, "cleared");
    assert!(world.access.contains(&AccessChange::DeviceRemove { id: device.id }));
    let status = &world.get(&ObjectKey::workload("default", "hello"))["status"];
    assert_eq!(status["placed"], 0);
}

#[test]
fn an_expired_token_is_forgotten_by_the_broker_too() {
    let mut world = World::new();
    world.token(true);
    world.pass(Duration::from_secs(25 * 3600));
    assert!(world.access.iter().any(|change| matches!(change, AccessChange::JoinRemove { .. })));
    assert!(world.writer.database.tokens.is_empty());
}

#[test]
fn a_flood_of_refused_joins_does_not_push_out_all_other_events() {
    let mut world = World::new();
    let token = world.token(true);
    assert_eq!(Double::new(1).join(&mut world, &token, "gw-1"), Some(Ok(true)));
    let mut other = Double::new(2);
    for _ in 0..100 {
        assert_eq!(other.join(&mut world, &token, "gw-2"), Some(Err(JoinRefusal::TokenUsed)));
    }
    assert_eq!(world.events("JoinRefused").len(), 20);
    assert_eq!(world.events("Joined").len(), 1);
}
