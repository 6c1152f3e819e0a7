//! Bearer tokens: known by a hash only, told to the edge when durable, and there again after a restart.
use super::world::World;
use super::writer::Said;
use crate::engine::loaded_grants;
use crate::engine::port::*;
use crate::grants::Grant;
use crate::model::{Kind, ObjectKey, TokenRole};
use serde_json::{Value, json};

fn token(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "fulmar/v1", "kind": "Token", "metadata": {"name": name}, "spec": spec})
}

fn create(world: &mut World, document: Value) -> Result<Answer, Problem> {
    world.answer(Request::ApiTokenCreate { document, sha256: [7; 32] })
}

#[test]
fn a_token_is_granted_when_durable_survives_a_restart_and_is_revoked() {
    let mut world = World::new();
    world.writer.holds = true;
    let document = token("ci", json!({"role": "viewer", "expiresIn": "1d"}));
    let ticket = world.ask(Request::ApiTokenCreate { document, sha256: [7; 32] });
    assert!(world.answers.is_empty() && world.access.is_empty(), "not before it is durable");
    world.writer.holds = false;
    world.write();
    let Some(Ok(Answer::Object { document, .. })) = world.answers.remove(&ticket) else { panic!() };
    assert_eq!(document["spec"]["role"], "viewer");
    assert!(!document.to_string().contains("0707"), "the hash is not shown");
    let grant =
        Grant { name: "ci".to_owned(), role: TokenRole::Viewer, expires_ms: Some(world.now.wall_ms + 86_400_000) };
    assert_eq!(world.access, [AccessChange::GrantPut { sha256: [7; 32], grant: grant.clone() }]);
    world.restart();
    assert_eq!(loaded_grants(&world.writer.database.load()), [([7; 32], grant)]);
    let key = ObjectKey { kind: Kind::Token, namespace: String::new(), name: "ci".to_owned() };
    assert_eq!(world.get(&key)["spec"]["role"], "viewer");
    let again = create(&mut world, token("ci", json!({"role": "admin"}))).unwrap_err();
    assert_eq!((again.status(), again.code.as_str()), (409, "EXISTS"));
    world.answer(Request::Delete { key, if_match: None }).unwrap();
    assert_eq!(world.access.last(), Some(&AccessChange::GrantRemove { sha256: [7; 32] }));
}

#[test]
fn a_token_is_in_force_before_anybody_hears_of_it() {
    let mut world = World::new();
    world.writer.holds = true;
    world.ask(Request::ApiTokenCreate { document: token("ci", json!({"role": "viewer"})), sha256: [7; 32] });
    world.writer.holds = false;
    let Some(Said::Committed(sequence, signed)) = world.writer.step() else { panic!() };
    world.engine.handle(world.now, Input::Committed { sequence, signed });
    let effects = std::iter::from_fn(|| world.engine.poll(world.now));
    let told: Vec<bool> = effects
        .filter(|effect| matches!(effect, Effect::Access(_) | Effect::Answer { .. }))
        .map(|effect| matches!(effect, Effect::Answer { .. }))
        .collect();
    assert_eq!(told, [false, true], "the right, then the answer");
}

#[test]
fn a_request_for_a_token_says_what_is_wrong_with_it() {
    let mut world = World::new();
    for (document, pointer) in [
        (token("x", json!({})), "/spec/role"),
        (token("x", json!({"role": "root"})), "/spec/role"),
        (token("x", json!({"role": "admin", "expiresIn": "0s"})), "/spec/expiresIn"),
        (token("X!", json!({"role": "admin"})), "/metadata/name"),
        (json!({"kind": "Token"}), "/metadata/name"),
    ] {
        let problem = create(&mut world, document).unwrap_err();
        assert_eq!(problem.status(), 422);
        assert!(problem.errors.iter().any(|error| error.pointer == pointer), "{:?}", problem.errors);
    }
}
