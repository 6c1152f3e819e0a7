//! Limits of the engine at their value and one beyond.
use super::world::{World, put_request, region, workload};
use crate::commit::TokenRow;
use crate::engine::Applier;
use crate::engine::event::FOLLOWERS_MAX;
use crate::engine::join::TOKENS_MAX;
use crate::engine::pending::{ANSWERS_PARKED_MAX, BATCHES_PENDING_MAX};
use crate::engine::port::*;
use crate::engine::token::API_TOKENS_MAX;
use crate::model::managed::{MANAGER_BYTES_MAX, MANAGERS_MAX};
use crate::model::{ARTIFACT_VERSIONS_MAX, ObjectKey};
use serde_json::{Value, json};
use wire::Digest;
use wire::topic::TokenId;

fn refusal<T: std::fmt::Debug>(result: Result<T, Problem>) -> (u16, &'static str) {
    let problem = result.expect_err("one beyond the limit");
    (problem.status(), problem.code.as_str())
}

#[test]
fn there_are_so_many_api_tokens_and_not_one_more() {
    let mut world = World::new();
    let mut make = |number: usize| {
        let metadata = json!({"name": format!("t{number}")});
        let document =
            json!({"apiVersion": "fulmar/v1", "kind": "Token", "metadata": metadata, "spec": {"role": "viewer"}});
        let sha256 = Digest::of(&number.to_be_bytes()).0;
        world.answer(Request::ApiTokenCreate { document, sha256 })
    };
    for number in 0..API_TOKENS_MAX {
        assert!(make(number).is_ok(), "{number}");
    }
    assert_eq!(refusal(make(API_TOKENS_MAX)), (409, "LIMIT_REACHED"));
}

#[test]
fn there_are_so_many_join_tokens_and_not_one_more() {
    let mut world = World::new();
    for number in 1..TOKENS_MAX as u64 {
        let id = TokenId(number.to_be_bytes());
        let (secret_sha256, expires_ms, labels) = ([0; 32], u64::MAX, "{}".to_owned());
        let row = TokenRow { id, secret_sha256, expires_ms, approve: false, labels, used_by: None };
        world.engine.state.tokens.insert(id, row);
    }
    let mut make = |fill: u8| {
        world.answer(Request::TokenCreate { expires_in: None, approve: false, labels: json!({}), entropy: [fill; 32] })
    };
    assert!(make(0xaa).is_ok());
    assert_eq!(refusal(make(0xbb)), (409, "LIMIT_REACHED"));
}

#[test]
fn so_many_follow_events_and_one_that_ends_makes_room() {
    let mut world = World::new();
    let follow = || Request::Events { object: None, tail: 0, follow: Follow::Follow };
    let tickets: Vec<Ticket> = (0..FOLLOWERS_MAX).map(|_| world.ask(follow())).collect();
    assert!(tickets.iter().all(|ticket| world.answers[ticket].is_ok()));
    assert_eq!(refusal(world.answer(follow())), (503, "BUSY"));
    world.input(Input::Cancel { ticket: tickets[0] });
    assert!(world.answer(follow()).is_ok());
}

#[test]
fn so_many_changes_wait_for_the_disk_and_then_they_are_refused() {
    let mut world = World::new();
    world.writer.holds = true;
    let put = |number: usize| {
        let name = format!("r{number}");
        put_request(&ObjectKey::region(&name), region(&name, [8.0, 50.0], 1.0))
    };
    for number in 0..BATCHES_PENDING_MAX {
        let ticket = world.ask(put(number));
        assert!(!world.answers.contains_key(&ticket), "{number} waits");
    }
    assert_eq!(refusal(world.answer(put(BATCHES_PENDING_MAX))), (503, "BUSY"));
    world.writer.holds = false;
    world.write();
    assert!(world.answer(put(BATCHES_PENDING_MAX)).is_ok());
}

#[test]
fn so_many_answers_wait_for_one_batch_and_then_they_are_refused() {
    let mut world = World::new();
    world.writer.holds = true;
    world.ask(put_request(&ObjectKey::region("r"), region("r", [8.0, 50.0], 1.0)));
    for _ in 0..ANSWERS_PARKED_MAX {
        world.ask(Request::Status);
    }
    assert!(world.answers.is_empty(), "none shows what is not durable");
    assert_eq!(refusal(world.answer(Request::Status)), (503, "BUSY"));
    world.writer.holds = false;
    world.write();
    assert_eq!(world.answers.len(), 1 + ANSWERS_PARKED_MAX);
}

#[test]
fn an_object_has_so_many_managers_with_names_of_so_many_bytes() {
    let mut world = World::new();
    let mut apply = |manager: String| {
        let labels: Value = json!({manager.chars().take(20).collect::<String>(): "x"});
        let mut document = region("r", [8.0, 50.0], 1.0);
        document["metadata"]["labels"] = labels;
        let applier = Applier { manager, force: false };
        let key = ObjectKey::region("r");
        world.answer(Request::Apply { key, document, applier, mode: Mode::Commit, if_match: None })
    };
    assert_eq!(refusal(apply("m".repeat(MANAGER_BYTES_MAX + 1))), (422, "INVALID"));
    assert!(apply("m".repeat(MANAGER_BYTES_MAX)).is_ok());
    for number in 1..MANAGERS_MAX {
        assert!(apply(format!("m{number}")).is_ok(), "{number}");
    }
    assert_eq!(refusal(apply("one-more".to_owned())), (409, "LIMIT_REACHED"));
}

#[test]
fn an_artifact_keeps_so_many_versions_and_those_that_run() {
    let mut world = World::new();
    let first = world.upload("app", 0);
    world.put(&ObjectKey::workload("default", "w"), workload("w", &first, json!({"labels": {"a": "b"}}))).unwrap();
    let versions = |world: &mut World| {
        let shown = world.get(&ObjectKey::artifact("default", "app"));
        let versions = shown["spec"]["versions"].as_array().unwrap().clone();
        versions.iter().map(|version| version["digest"].as_str().unwrap().to_owned()).collect::<Vec<String>>()
    };
    let text = |fill: usize| format!("sha256:{}", Digest([u8::try_from(fill).unwrap(); 32]));
    for fill in 1..ARTIFACT_VERSIONS_MAX {
        world.upload("app", u8::try_from(fill).unwrap());
    }
    assert_eq!(versions(&mut world).len(), ARTIFACT_VERSIONS_MAX);
    world.upload("app", u8::try_from(ARTIFACT_VERSIONS_MAX).unwrap());
    let kept = versions(&mut world);
    assert_eq!((kept.len(), kept[0].clone()), (ARTIFACT_VERSIONS_MAX, text(ARTIFACT_VERSIONS_MAX)));
    assert!(kept.contains(&text(0)) && !kept.contains(&text(1)), "the oldest that nothing runs is gone");
}
