//! From a token to an identity: one question to the hub over a connection of its own, as often as it takes.
//!
//! Must never believe an answer whose hub keys are not the ones that the token names, nor report success before the identity is
//! in flash.
use super::identity::{Identity, Provisioning, Seeds, hex};
use super::limits::{JOIN_PAUSE_MAX, JOIN_PAUSE_MIN, JOIN_REQUEST_BYTES, JOIN_TIMEOUT};
use super::mqtt::{Client, Connect, End, Event};
use super::port::{Board, Clock, Crypto, Enrolment, Network, Parts, Platform, Socket, StoreError};
use super::random::Random;
use super::transport::{Pulse, Pumped, address_for, by, pump, rest};
use crate::machine::port::{KEEP_ALIVE, Quality, RetainHandling, Subscription, Ticket};
use crate::machine::time::{Duration, Instant};
use core::fmt::Write as _;
use wire::event::Level;
use wire::frame::{decode_plain, encode_plain};
use wire::hello::DeviceClass;
use wire::join::{Accepted, JoinAnswer, JoinClaim, JoinRefusal, JoinRequest, hub_fingerprint};
use wire::limits::{JOIN_SECRET_BYTES, NAME_BYTES_MAX};
use wire::sign::Sign;
use wire::topic::{TOKEN_ID_TEXT_BYTES, Topic, is_label};
use wire::{DeviceId, WireError};

const USER_PREFIX: &str = "join:";
const USER_BYTES: usize = USER_PREFIX.len() + TOKEN_ID_TEXT_BYTES;

/// Why a try did not end in an identity.
#[derive(Debug)]
pub enum JoinError {
    /// No connection to the broker in time.
    Unreachable,
    Link(End),
    NotAuthorized,
    /// The broker let the question or the answer not pass.
    BrokerRefused,
    NoAnswer,
    Refused(JoinRefusal),
    /// Keys of another hub than the token names, or a seal that is not its.
    WrongHub,
    /// What was given to this device makes no request, or what was answered no identity.
    Malformed(WireError),
    Store(StoreError),
}

impl From<WireError> for JoinError {
    fn from(error: WireError) -> Self {
        Self::Malformed(error)
    }
}

impl From<End> for JoinError {
    fn from(end: End) -> Self {
        if end.is_not_authorized() { Self::NotAuthorized } else { Self::Link(end) }
    }
}

impl core::fmt::Display for JoinError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unreachable => f.write_str(
                "the broker cannot be reached; check that the hub runs and that its address is reachable from here",
            ),
            Self::Link(end) => write!(f, "{end}"),
            Self::NotAuthorized => f.write_str(
                "the broker does not accept the token: it is unknown, used up or expired; flash the board again",
            ),
            Self::BrokerRefused => {
                f.write_str("the broker does not let the request pass; check its access rules for join users")
            }
            Self::NoAnswer => f.write_str("the hub did not answer in time"),
            Self::Refused(JoinRefusal::TokenUsed) => {
                f.write_str("another device has used this token; flash the board again")
            }
            Self::Refused(JoinRefusal::TokenExpired) => f.write_str("the token has expired; flash the board again"),
            Self::Refused(JoinRefusal::NotAuthentic) => {
                f.write_str("the request was not signed for this fleet and token; flash the board again")
            }
            Self::Refused(JoinRefusal::NameTaken) => {
                f.write_str("another device has this name; flash the board with another one, or remove the old device")
            }
            Self::Refused(JoinRefusal::Malformed) => {
                f.write_str("the hub could not read the request; update hub or firmware")
            }
            Self::Refused(JoinRefusal::Busy) => f.write_str("the hub has too much to do"),
            Self::WrongHub => f.write_str(
                "the answer came from another hub than the token names, and was not believed; flash the board again",
            ),
            Self::Malformed(error) => write!(f, "{error}"),
            Self::Store(error) => write!(f, "the flash takes no identity: {error:?}"),
        }
    }
}

/// Asks until there is an identity; it is in flash on return.
pub async fn join<P: Platform>(
    parts: &mut Parts<'_, P>,
    provisioning: &Provisioning,
    random: &mut Random,
    receive: &mut [u8],
    send: &mut [u8],
) -> Identity {
    let mut pulse = Pulse::new(parts.board);
    let mut pause = JOIN_PAUSE_MIN;
    loop {
        let error = match attempt(parts, provisioning, &mut pulse, random, receive, send).await {
            Ok(identity) => return identity,
            Err(error) => error,
        };
        let jitter = u32::from_le_bytes(random.array()) % 1000;
        let wait = pause + pause * jitter / 1000;
        parts.board.log(Level::Error, format_args!("not joined: {error}; again in {} s", wait.as_secs()));
        rest(parts.clock, parts.board, &mut pulse, parts.clock.now().after(wait)).await;
        pause = (pause * 2).min(JOIN_PAUSE_MAX);
    }
}

async fn attempt<P: Platform>(
    parts: &mut Parts<'_, P>,
    provisioning: &Provisioning,
    pulse: &mut Pulse,
    random: &mut Random,
    receive: &mut [u8],
    send: &mut [u8],
) -> Result<Identity, JoinError> {
    let enrolment = parts.enrolment;
    let seeds = provisioning.seeds(&enrolment);
    let (host, port) = address_for::<P::Network>(enrolment.token.broker).ok_or(WireError::Malformed)?;
    let (clock, board, crypto) = (parts.clock, parts.board, parts.crypto);
    let deadline = clock.now().after(JOIN_TIMEOUT);
    let question = Question::new(crypto, &seeds, &enrolment, random)?;
    let connecting = parts.network.connect(host, port);
    let mut socket = match by(clock, board, pulse, deadline, connecting).await {
        Some(Ok(socket)) => socket,
        Some(Err(error)) => {
            board.log(Level::Debug, format_args!("no connection: {error:?}"));
            return Err(JoinError::Unreachable);
        }
        None => return Err(JoinError::Unreachable),
    };
    let asking = question.ask(clock, crypto, &mut socket, receive, send);
    let identity = by(clock, board, pulse, deadline, asking).await.ok_or(JoinError::NoAnswer)??;
    provisioning.save(parts.store, Some(&identity)).map_err(JoinError::Store)?;
    Ok(identity)
}

/// Everything that one try needs.
struct Question<'a> {
    enrolment: &'a Enrolment<'a>,
    seeds: &'a Seeds,
    device: DeviceId,
    nonce: [u8; 16],
    request: heapless::Vec<u8, JOIN_REQUEST_BYTES>,
}

/// What has to be done next.
enum Step {
    Subscribe,
    Ask,
    Wait,
}

impl<'a> Question<'a> {
    fn new<C: Crypto>(
        crypto: &C,
        seeds: &'a Seeds,
        enrolment: &'a Enrolment<'a>,
        random: &mut Random,
    ) -> Result<Self, JoinError> {
        let signer = crypto.signer(&seeds.identity);
        let nonce = random.array();
        let claim = JoinClaim {
            identity: signer.public_key(),
            exchange: crypto.exchange_key(&seeds.exchange),
            nonce,
            name: enrolment.name,
            class: DeviceClass::Mcu,
            position: enrolment.position,
        };
        let token = &enrolment.token;
        let signature = claim.sign(&signer, token.fleet, token.id)?;
        let mut buffer = [0; JOIN_REQUEST_BYTES];
        let frame = encode_plain(&mut buffer, &JoinRequest { claim, signature })?;
        let request = heapless::Vec::from_slice(frame).map_err(|_| WireError::NoRoom)?;
        let device = DeviceId::of_key(&signer.public_key().0);
        Ok(Self { enrolment, seeds, device, nonce, request })
    }

    async fn ask<C: Clock, K: Crypto, S: Socket>(
        &self,
        clock: &C,
        crypto: &K,
        socket: &mut S,
        receive: &mut [u8],
        send: &mut [u8],
    ) -> Result<Identity, JoinError> {
        let token = &self.enrolment.token;
        let mut user = heapless::String::<USER_BYTES>::new();
        write!(user, "{USER_PREFIX}{}", token.id).map_err(|_| WireError::NoRoom)?;
        let password: [u8; 2 * JOIN_SECRET_BYTES] = hex(&token.secret);
        let answers = Topic::JoinAnswer(token.id).print(token.fleet)?;
        let questions = Topic::JoinRequest(token.id).print(token.fleet)?;
        // The only client id that an external broker lets this user have.
        let connect = Connect { client: &user, user: &user, password: &password, keep_alive: KEEP_ALIVE, will: None };
        let full = |_| JoinError::Malformed(WireError::NoRoom);
        let mut client = Client::open(clock.now(), receive, send, &connect).map_err(full)?;
        let (mut reader, mut writer) = socket.split();
        loop {
            while let Some(event) = client.next(clock.now())? {
                let step = match event {
                    Event::Open => Step::Subscribe,
                    Event::Subscribed(_) => Step::Ask,
                    Event::SubscribeRefused(_) | Event::Refused { .. } => return Err(JoinError::BrokerRefused),
                    Event::Message { payload, .. } => match self.read(crypto, payload) {
                        Some(answer) => return answer,
                        None => Step::Wait,
                    },
                    Event::Acknowledged(_) => Step::Wait,
                };
                match step {
                    Step::Subscribe => {
                        client
                            .subscribe(clock.now(), Subscription::Live, &[(&answers, RetainHandling::Send)])
                            .map_err(full)?;
                    }
                    Step::Ask => {
                        let quality = Quality::AtLeastOnce;
                        client.publish(clock.now(), &questions, &self.request, quality, Ticket(0)).map_err(full)?;
                    }
                    Step::Wait => {}
                }
            }
            client.tick(clock.now())?;
            let at = client.timeout().unwrap_or(Instant::from_ms(u64::MAX));
            match pump(&mut reader, &mut writer, &mut client, clock, clock.until(at)).await {
                Pumped::Moved | Pumped::Woken => {}
                Pumped::Lost => return Err(JoinError::Unreachable),
            }
        }
    }

    /// `None`: not an answer to this question; another is waited for.
    fn read<K: Crypto>(&self, crypto: &K, payload: &[u8]) -> Option<Result<Identity, JoinError>> {
        match decode_plain(payload).ok()? {
            JoinAnswer::Refused { nonce, reason } => (nonce == self.nonce).then_some(Err(JoinError::Refused(reason))),
            JoinAnswer::Accepted(accepted) => (accepted.nonce == self.nonce).then(|| self.accept(crypto, &accepted)),
        }
    }

    /// Believes an answer only if the hub that the token names can have made it.
    fn accept<K: Crypto>(&self, crypto: &K, accepted: &Accepted<'_>) -> Result<Identity, JoinError> {
        let token = &self.enrolment.token;
        let is_this_hub = hub_fingerprint(&accepted.hub_signing, &accepted.hub_exchange) == token.hub;
        if !is_this_hub || accepted.device != self.device {
            return Err(JoinError::WrongHub);
        }
        if !is_label(accepted.name, NAME_BYTES_MAX) {
            return Err(WireError::Malformed.into());
        }
        let covered = accepted.covered()?;
        let credential = crypto
            .open(&self.seeds.exchange, &accepted.hub_exchange, &covered, accepted.sealed)
            .ok_or(JoinError::WrongHub)?;
        let (signing, exchange) = (accepted.hub_signing, accepted.hub_exchange);
        Identity::new(credential, signing, exchange, accepted.name).ok_or(WireError::TooLarge { limit: 0 }.into())
    }
}

const _: () = assert!(JOIN_PAUSE_MIN.as_millis() < JOIN_PAUSE_MAX.as_millis());
const _: () = assert!(JOIN_TIMEOUT.as_millis() > Duration::from_secs(1).as_millis());
