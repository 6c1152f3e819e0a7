//! What an answer must be to be believed, without a network; and what stops a join before it begins.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use wire::dalek::{Ed25519, Ed25519Key, ExchangeSecret};
use wire::topic::TokenId;

const NONCE: [u8; 16] = [9; 16];

struct Hub {
    signing: Ed25519Key,
    exchange: ExchangeSecret,
}

fn hub(seed: u8) -> Hub {
    Hub { signing: Ed25519Key::from_seed(&[seed; 32]), exchange: ExchangeSecret::from_seed([seed + 1; 32]) }
}

fn token(hub: &Hub) -> JoinToken<'static> {
    JoinToken {
        id: TokenId([1; 8]),
        secret: [2; 16],
        fleet: "north",
        broker: "mqtt://127.0.0.1:1",
        certificate: None,
        hub: hub_fingerprint(&hub.signing.public_key(), &hub.exchange.public_key()),
    }
}

fn options(data: &std::path::Path, token: &JoinToken<'_>) -> JoinOptions {
    JoinOptions {
        token: token.text().unwrap().to_string(),
        name: Some("gate-1".to_owned()),
        position: None,
        class: DeviceClass::Gateway,
        data: data.to_owned(),
    }
}

/// The hub's answer to this identity, changed by `change`.
fn answer(hub: &Hub, identity: &Identity, change: impl FnOnce(&mut Accepted<'_>)) -> Vec<u8> {
    let unsealed = Accepted {
        nonce: NONCE,
        device: identity.device(),
        hub_signing: hub.signing.public_key(),
        hub_exchange: hub.exchange.public_key(),
        sealed: &[],
        artifacts: "http://127.0.0.1:2",
        name: "gate-1",
        approved: true,
    };
    let covered = unsealed.covered().unwrap();
    let sealed = hub.exchange.seal(&identity.exchange_secret().public_key(), &covered, &[5; 32]).unwrap();
    let mut accepted = Accepted { sealed: &sealed, ..unsealed };
    change(&mut accepted);
    let mut buffer = [0; 1024];
    encode_plain(&mut buffer, &JoinAnswer::Accepted(accepted)).unwrap().to_vec()
}

fn read(hub: &Hub, identity: &Identity, payload: &[u8]) -> Option<Result<Answer, JoinError>> {
    let data = tempfile::tempdir().unwrap();
    let token = token(hub);
    read_answer(payload, &NONCE, identity, &token, &options(data.path(), &token))
}

#[test]
fn an_answer_of_the_right_hub_gives_the_credential() {
    let (hub, identity) = (hub(10), Identity::generate().unwrap());
    let answer = read(&hub, &identity, &answer(&hub, &identity, |_| {})).unwrap().unwrap();
    assert_eq!(answer.membership.credential, Secret([5; 32]));
    assert_eq!(answer.membership.fleet, "north");
    assert!(answer.approved);
}

#[test]
fn an_answer_of_another_hub_is_not_believed() {
    let (right, wrong, identity) = (hub(10), hub(20), Identity::generate().unwrap());
    let forged = answer(&wrong, &identity, |_| {});
    assert!(matches!(read(&right, &identity, &forged), Some(Err(JoinError::WrongHub))));
    // The right keys, but sealed by someone who does not have them.
    let forged = answer(&wrong, &identity, |accepted| {
        accepted.hub_signing = right.signing.public_key();
        accepted.hub_exchange = right.exchange.public_key();
    });
    assert!(matches!(read(&right, &identity, &forged), Some(Err(JoinError::WrongHub))));
}

#[test]
fn an_answer_to_another_question_or_device_is_not_taken() {
    let (hub, identity) = (hub(10), Identity::generate().unwrap());
    assert!(read(&hub, &identity, &answer(&hub, &identity, |accepted| accepted.nonce = [1; 16])).is_none());
    let other = answer(&hub, &identity, |accepted| accepted.device = DeviceId([0; 16]));
    assert!(matches!(read(&hub, &identity, &other), Some(Err(JoinError::Answer(_)))));
    assert!(read(&hub, &identity, b"noise").is_none());
}

#[test]
fn a_failed_join_keeps_its_keys_for_the_next_try() {
    let data = tempfile::tempdir().unwrap();
    // Port 1 refuses.
    let options = options(data.path(), &token(&hub(10)));
    assert!(matches!(join(&options), Err(JoinError::Unreachable { .. })));
    let first = Identity::load(data.path()).unwrap().unwrap();
    assert_eq!(first.membership, None);
    assert!(matches!(join(&options), Err(JoinError::Unreachable { .. })));
    assert_eq!(Identity::load(data.path()).unwrap().unwrap(), first);
}

#[test]
fn a_device_that_joined_does_not_join_again() {
    let (hub, data) = (hub(10), tempfile::tempdir().unwrap());
    let mut identity = Identity::generate().unwrap();
    let answer = read(&hub, &identity, &answer(&hub, &identity, |_| {})).unwrap().unwrap();
    identity.membership = Some(answer.membership);
    identity.save(data.path()).unwrap();
    let error = join(&options(data.path(), &token(&hub))).unwrap_err();
    assert!(matches!(error, JoinError::AlreadyJoined { .. }), "{error}");
    assert!(error.to_string().contains("fulmar-agent run"));
    assert_eq!(Identity::load(data.path()).unwrap(), Some(identity));
}

#[test]
fn bad_input_is_refused_before_any_key_is_made() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().join("d");
    let good = options(&data, &token(&hub(10)));
    let tls = JoinToken { broker: "mqtts://h:8883", ..token(&hub(10)) };
    let far = Position { longitude_e7: 0, latitude_e7: 900_000_001, uncertainty_m: 0 };
    assert!(matches!(join(&JoinOptions { token: "x".to_owned(), ..good.clone() }), Err(JoinError::Token(_))));
    assert!(matches!(join(&JoinOptions { name: Some("A b".to_owned()), ..good.clone() }), Err(JoinError::Name(_))));
    assert!(matches!(join(&JoinOptions { position: Some(far), ..good }), Err(JoinError::Position)));
    assert!(matches!(join(&options(&data, &tls)), Err(JoinError::NoPin(_))));
    assert!(!data.exists());
}

#[test]
fn the_request_proves_possession_of_the_key() {
    let identity = Identity::generate().unwrap();
    let claim = JoinClaim {
        identity: identity.signing_key().public_key(),
        exchange: identity.exchange_secret().public_key(),
        nonce: NONCE,
        name: "",
        class: DeviceClass::Gateway,
        position: None,
    };
    let signature = claim.sign(&identity.signing_key(), "north", TokenId([1; 8])).unwrap();
    let request = JoinRequest { claim, signature };
    assert_eq!(request.verify(&Ed25519, "north", TokenId([1; 8])), Ok(identity.device()));
}
