//! `fulmar-agent join`: turns a token into a membership, as often as it takes, always as the same device.
//!
//! Keys are durable before the first question, and the membership before success is reported. Must never trust an answer
//! whose hub keys are not the ones that the token names.
use crate::disk;
use crate::identity::{Identity, IdentityError, Membership, Secret};
use crate::link::exchange::{ExchangeError, exchange};
use crate::link::{Endpoint, EndpointError, Security, Settings};
use crate::lock::{DataLock, LockError};
use crate::tls::{self, Pin, Trust};
use data_encoding::HEXLOWER;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use wire::frame::{decode_plain, encode_plain};
use wire::hello::DeviceClass;
use wire::join::{
    Accepted, JoinAnswer, JoinClaim, JoinRefusal, JoinRequest, JoinToken, TOKEN_TEXT_BYTES_MAX, hub_fingerprint,
};
use wire::limits::{FLEET_BYTES_MAX, NAME_BYTES_MAX};
use wire::position::Position;
use wire::sign::Sign;
use wire::topic::{Topic, is_label};
use wire::{DeviceId, WireError};

/// From the start to the answer.
const JOIN_DEADLINE: Duration = Duration::from_secs(30);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// An answer has a few hundred bytes.
const PACKET_BYTES_MAX: u32 = 8 * 1024;
/// A request has at most three hundred bytes.
const REQUEST_BYTES_MAX: usize = 1024;

/// What an operator gives to a new device.
#[derive(Clone, Debug)]
pub struct JoinOptions {
    pub token: String,
    /// `None`: the hub makes one.
    pub name: Option<String>,
    pub position: Option<Position>,
    pub class: DeviceClass,
    pub data: PathBuf,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    pub device: DeviceId,
    pub name: String,
    pub fleet: String,
    /// False: an operator has to approve it first.
    pub approved: bool,
}

/// Why a device did not join. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("the token cannot be read: {0}. Copy the whole text that `fulmar device join-token` printed")]
    Token(WireError),
    #[error("the token names the fleet {0:?}, which is not a name. Make a new token with `fulmar device join-token`")]
    Fleet(String),
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error("{0:?} cannot be the name of a device. Use at most 63 small letters, digits and hyphens")]
    Name(String),
    #[error("this position is not on Earth. Use --at latitude,longitude in degrees")]
    Position,
    #[error(
        "{data} belongs to device {name} ({device}) of fleet {fleet} already. To run it: `fulmar-agent run`; to make a second device: --data with another directory; to start over: remove the directory"
    )]
    AlreadyJoined { data: String, name: String, device: DeviceId, fleet: String },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(
        "cannot reach the broker at {broker}: {why}. Check that the hub runs and that this address is reachable from here"
    )]
    Unreachable { broker: String, why: String },
    #[error(
        "the broker at {broker} is not trusted: {why}. Check the address, and make a new token on the hub that this device is to join"
    )]
    NotTrusted { broker: String, why: String },
    #[error(
        "the token says that {0} is encrypted, but not which certificate is the right one. Make a new token with `fulmar device join-token`"
    )]
    NoPin(String),
    #[error(
        "the broker at {broker} does not accept the token: it is unknown, used up or expired. Make a new one with `fulmar device join-token`"
    )]
    NotAuthorized { broker: String },
    #[error(
        "the broker at {broker} does not let the request pass. Check the access rules of the broker for join users"
    )]
    BrokerRefused { broker: String },
    #[error("the hub did not answer within {} s. Run the same command again: the device keeps its keys", JOIN_DEADLINE.as_secs())]
    NoAnswer,
    #[error("the hub refused: {}", refusal_text(*.0))]
    Refused(JoinRefusal),
    #[error(
        "the answer came from another hub than the token names, and was not believed. Make a new token on the right hub; if it happens again, someone is in between"
    )]
    WrongHub,
    #[error("the answer is not valid ({0}), and was not believed. Update the agent, or make a new token")]
    Answer(&'static str),
}

/// What happened, why, and what to do.
const fn refusal_text(reason: JoinRefusal) -> &'static str {
    match reason {
        JoinRefusal::TokenUsed => "another device has used this token. Make a new one with `fulmar device join-token`",
        JoinRefusal::TokenExpired => "the token has expired. Make a new one with `fulmar device join-token`",
        JoinRefusal::NotAuthentic => {
            "the request was not signed for this fleet and token. Check that the token was copied whole, and update the agent"
        }
        JoinRefusal::NameTaken => "another device has this name. Choose another with --name, or remove the old device",
        JoinRefusal::Malformed => {
            "it could not read the request. Check the name and the position, and update the agent"
        }
        JoinRefusal::Busy => "it has too much to do. Run the same command again in a minute",
    }
}

/// Joins; blocks until it is done or has failed.
pub fn join(options: &JoinOptions) -> Result<Joined, JoinError> {
    let mut buffer = [0; TOKEN_TEXT_BYTES_MAX];
    let token = JoinToken::parse(&options.token, &mut buffer).map_err(JoinError::Token)?;
    if !is_label(token.fleet, FLEET_BYTES_MAX) {
        return Err(JoinError::Fleet(token.fleet.to_owned()));
    }
    let endpoint = Endpoint::parse(token.broker)?;
    let pin = match (endpoint.security, token.certificate) {
        (Security::Plain, _) => None,
        (Security::Tls, Some(digest)) => Some(Pin::new(digest)),
        (Security::Tls, None) => return Err(JoinError::NoPin(endpoint.to_string())),
    };
    let name = options.name.as_deref().unwrap_or("");
    if !name.is_empty() && !is_label(name, NAME_BYTES_MAX) {
        return Err(JoinError::Name(name.to_owned()));
    }
    if options.position.is_some_and(|position| !position.is_valid()) {
        return Err(JoinError::Position);
    }
    let data = &options.data;
    disk::directory_create(data).map_err(|source| IdentityError::Io { path: data.clone(), source })?;
    let _lock = DataLock::take(data)?;
    let mut identity = keys(options)?;
    let mut answer = smol::block_on(ask(&identity, &token, endpoint, pin.clone(), name, options))?;
    answer.membership.authority = pin.and_then(|pin| pin.found());
    let joined = Joined {
        device: identity.device(),
        name: answer.membership.name.clone(),
        fleet: answer.membership.fleet.clone(),
        approved: answer.approved,
    };
    identity.membership = Some(answer.membership);
    identity.save(data)?;
    tracing::info!(device = %joined.device, name = joined.name, fleet = joined.fleet, "joined");
    Ok(joined)
}

/// The keys of an earlier try, or new ones; durable on return.
fn keys(options: &JoinOptions) -> Result<Identity, JoinError> {
    let data = &options.data;
    match Identity::load(data)? {
        Some(Identity { membership: Some(membership), identity_seed, exchange_seed }) => {
            let device = Identity { identity_seed, exchange_seed, membership: None }.device();
            let data = data.display().to_string();
            Err(JoinError::AlreadyJoined { data, name: membership.name, device, fleet: membership.fleet })
        }
        Some(identity) => Ok(identity),
        None => {
            let identity = Identity::generate()?;
            identity.save(data)?;
            Ok(identity)
        }
    }
}

struct Answer {
    membership: Membership,
    approved: bool,
}

async fn ask(
    identity: &Identity,
    token: &JoinToken<'_>,
    endpoint: Endpoint,
    pin: Option<Arc<Pin>>,
    name: &str,
    options: &JoinOptions,
) -> Result<Answer, JoinError> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(IdentityError::Entropy)?;
    let user = format!("join:{}", token.id);
    let broker = endpoint.to_string();
    let tls = pin.map(|pin| tls::client(Trust::Pinned(pin), None)).transpose();
    let tls = tls.map_err(|error| JoinError::NotTrusted { broker: broker.clone(), why: tls::explain(&error) })?;
    let settings = Settings {
        tls,
        // The only one that an external broker lets this user have.
        client: user.clone(),
        user,
        password: HEXLOWER.encode(&token.secret),
        keep_alive: KEEP_ALIVE,
        packet_bytes_max: PACKET_BYTES_MAX,
        will: None,
        endpoint,
    };
    let signer = identity.signing_key();
    let claim = JoinClaim {
        identity: signer.public_key(),
        exchange: identity.exchange_secret().public_key(),
        nonce,
        name,
        class: options.class,
        position: options.position,
    };
    let signature = claim.sign(&signer, token.fleet, token.id).map_err(JoinError::Token)?;
    let mut buffer = [0; REQUEST_BYTES_MAX];
    let request = encode_plain(&mut buffer, &JoinRequest { claim, signature }).map_err(JoinError::Token)?.to_vec();
    let answer_topic = Topic::JoinAnswer(token.id).print(token.fleet).map_err(JoinError::Token)?;
    let request_topic = Topic::JoinRequest(token.id).print(token.fleet).map_err(JoinError::Token)?;
    let read = |payload: &[u8]| read_answer(payload, &nonce, identity, token, options);
    match exchange(&settings, &answer_topic, &request_topic, request, JOIN_DEADLINE, read).await {
        Ok(answer) => answer,
        Err(ExchangeError::NotAuthorized) => Err(JoinError::NotAuthorized { broker }),
        Err(ExchangeError::Link(why)) => Err(JoinError::Unreachable { broker, why }),
        Err(ExchangeError::NotTrusted(why)) => Err(JoinError::NotTrusted { broker, why }),
        Err(ExchangeError::NoAnswer) => Err(JoinError::NoAnswer),
        Err(ExchangeError::Refused) => Err(JoinError::BrokerRefused { broker }),
    }
}

/// `None`: not an answer to this question; another is waited for.
fn read_answer(
    payload: &[u8],
    asked: &[u8; 16],
    identity: &Identity,
    token: &JoinToken<'_>,
    options: &JoinOptions,
) -> Option<Result<Answer, JoinError>> {
    let answer: JoinAnswer<'_> = decode_plain(payload).ok()?;
    match answer {
        JoinAnswer::Refused { nonce, reason } => (nonce == *asked).then_some(Err(JoinError::Refused(reason))),
        JoinAnswer::Accepted(accepted) => {
            (accepted.nonce == *asked).then(|| accept(&accepted, identity, token, options))
        }
    }
}

/// Believes an answer only if the hub that the token names can have made it.
fn accept(
    accepted: &Accepted<'_>,
    identity: &Identity,
    token: &JoinToken<'_>,
    options: &JoinOptions,
) -> Result<Answer, JoinError> {
    if hub_fingerprint(&accepted.hub_signing, &accepted.hub_exchange) != token.hub {
        return Err(JoinError::WrongHub);
    }
    if accepted.device != identity.device() {
        return Err(JoinError::Answer("it is for another device"));
    }
    if !is_label(accepted.name, NAME_BYTES_MAX) {
        return Err(JoinError::Answer("its name is not a name"));
    }
    let covered = accepted.covered().map_err(|_| JoinError::Answer("it is too long"))?;
    let credential = identity
        .exchange_secret()
        .open(&accepted.hub_exchange, &covered, accepted.sealed)
        .ok_or(JoinError::WrongHub)?;
    let membership = Membership {
        fleet: token.fleet.to_owned(),
        name: accepted.name.to_owned(),
        credential: Secret(credential),
        hub_signing: accepted.hub_signing,
        hub_exchange: accepted.hub_exchange,
        broker: token.broker.to_owned(),
        artifacts: accepted.artifacts.to_owned(),
        // Known once the connection is over.
        authority: None,
        class: options.class,
        position: options.position,
    };
    Ok(Answer { membership, approved: accepted.approved })
}

#[cfg(test)]
mod tests;
