//! Nothing leaves before it is durable, and what failed never was.
use super::device::Double;
use super::world::{World, put_request, region, workload};
use crate::commit::CommitFailure;
use crate::engine::port::*;
use crate::model::ObjectKey;
use serde_json::json;
use std::time::Duration;
use wire::topic::Down;

#[test]
fn an_answer_leaves_only_after_the_commit() {
    let mut world = World::new();
    world.writer.holds = true;
    let put = world.ask(put_request(&ObjectKey::region("r"), region("r", [8.0, 50.0], 1.0)));
    let get = world.ask(Request::Get { key: ObjectKey::region("r") });
    assert!(world.answers.is_empty(), "neither the write nor the read that saw it is answered");
    world.write();
    assert!(matches!(world.answers.get(&put), Some(Ok(Answer::Object { outcome: Outcome::Created, .. }))));
    assert!(matches!(world.answers.get(&get), Some(Ok(Answer::Object { outcome: Outcome::Read, .. }))));
}

#[test]
fn a_failed_group_is_undone_and_the_next_write_works() {
    let mut world = World::new();
    world.put(&ObjectKey::region("old"), region("old", [8.0, 50.0], 1.0)).unwrap();
    world.writer.holds = true;
    let first = world.ask(put_request(&ObjectKey::region("old"), region("old", [8.0, 50.0], 2.0)));
    let second = world.ask(put_request(&ObjectKey::region("new"), region("new", [8.0, 50.0], 1.0)));
    let third = world.ask(Request::Delete { key: ObjectKey::region("old"), if_match: None });
    let read = world.ask(Request::Get { key: ObjectKey::region("old") });
    world.fail_next(CommitFailure::DiskFull);
    world.writer.holds = false;
    world.write();
    for ticket in [first, second, third] {
        let problem = world.answers.remove(&ticket).unwrap().unwrap_err();
        assert_eq!((problem.status(), problem.code.as_str()), (507, "DISK_FULL"));
    }
    let Some(Ok(Answer::Object { document, .. })) = world.answers.remove(&read) else {
        panic!("the read is run again")
    };
    assert_eq!(document["spec"]["circle"]["radiusKm"], 1.0, "it shows what is durable");
    let missing = world.answer(Request::Get { key: ObjectKey::region("new") }).unwrap_err();
    assert_eq!(missing.status(), 404);
    world.put(&ObjectKey::region("new"), region("new", [8.0, 50.0], 1.0)).unwrap();
    assert_eq!(world.get(&ObjectKey::region("new"))["metadata"]["generation"], 1);
}

#[test]
fn an_io_failure_is_a_500() {
    let mut world = World::new();
    world.fail_next(CommitFailure::Io);
    let problem = world.put(&ObjectKey::region("r"), region("r", [8.0, 50.0], 1.0)).unwrap_err();
    assert_eq!((problem.status(), problem.code.as_str()), (500, "STORE_FAILED"));
}

#[test]
fn a_failed_placement_publishes_nothing_and_is_tried_again() {
    let mut world = World::new();
    let device = Double::online(&mut world, 1, "gw-1");
    let artifact = world.upload("app", 0x11);
    world.writer.holds = true;
    let ticket = world.ask(put_request(
        &ObjectKey::workload("default", "hello"),
        workload("hello", &artifact, json!({"on": ["gw-1"]})),
    ));
    // The object itself becomes durable; the placement, in the next batch, fails.
    assert_eq!(world.writer.queue.len(), 2);
    let placement = world.writer.queue.pop_back().unwrap();
    world.write();
    assert!(matches!(world.answers.get(&ticket), Some(Ok(_))));
    world.writer.queue.push_back(placement);
    world.fail_next(CommitFailure::DiskFull);
    world.writer.holds = false;
    world.write();
    assert_eq!(world.retained_desired(device.id), None);
    assert_eq!(world.get(&ObjectKey::workload("default", "hello"))["status"]["placed"], 0);
    world.pass(Duration::from_secs(6));
    assert!(world.retained_desired(device.id).is_some());
    assert_eq!(world.sent_to(device.id, Down::Desired).len(), 1);
}

#[test]
fn a_failed_deletion_brings_the_device_back_whole() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    device.run_all(&mut world);
    let before = world.get(&ObjectKey::device("gw-1"));
    world.fail_next(CommitFailure::Io);
    let delete = Request::Delete { key: ObjectKey::device("gw-1"), if_match: None };
    assert_eq!(world.answer(delete).unwrap_err().status(), 500);
    assert_eq!(world.get(&ObjectKey::device("gw-1")), before);
    device.heartbeat(&mut world, true);
    assert!(world.events("BadTag").is_empty(), "its session is still there");
    world.pass(Duration::from_secs(6));
    assert_eq!(world.get(&ObjectKey::workload("default", "hello"))["status"]["running"], 1);
}

#[test]
fn a_canceled_question_is_not_answered() {
    let mut world = World::new();
    world.writer.holds = true;
    let put = world.ask(put_request(&ObjectKey::region("r"), region("r", [8.0, 50.0], 1.0)));
    let get = world.ask(Request::Get { key: ObjectKey::region("r") });
    world.input(Input::Cancel { ticket: put });
    world.input(Input::Cancel { ticket: get });
    world.write();
    assert!(world.answers.is_empty());
}
