//! Joining: tokens are made here, and spent by the device that proves to hold the key that it names.
//!
//! Keys, object and the spent token are one batch; the answer leaves when it is durable. A token's entropy comes with the
//! input.

use super::Engine;
use super::event::Draft;
use super::object::Act;
use super::pending::Release;
use super::port::{AccessChange, Answer, CredentialOrigin, Now, Problem, Ticket};
use super::problem;
use super::stored::{Body, DeviceBody, Reported, Spec};
use crate::commit::{AuditEntry, DeviceKeysRow, TokenRow, Write};
use crate::geo::Point;
use crate::model::{DevicePosition, DeviceSpec, ObjectKey, Reader, Refusal, pointer_at};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use wire::dalek::Ed25519;
use wire::frame::{Body as _, decode_plain, encode_plain};
use wire::join::{Accepted, ExchangeKey, JoinAnswer, JoinClaim, JoinRefusal, JoinRequest, JoinToken, hub_fingerprint};
use wire::limits::JOIN_SECRET_BYTES;
use wire::topic::{TokenId, Topic, is_label};
use wire::{DeviceId, Digest, PairKey};

/// Life of a token that says nothing else.
pub const TOKEN_LIFE_DEFAULT: Duration = Duration::from_secs(24 * 3600);
pub const TOKEN_LIFE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// Expired tokens that one sweep forgets.
pub const TOKENS_PER_SWEEP_MAX: usize = 256;
/// Tokens at one time, spent and expired ones that are not swept yet included.
pub const TOKENS_MAX: usize = 100_000;
/// Devices of one hub.
pub const DEVICES_MAX: usize = 1_000_000;
/// Joins that may be tried per second, over all tokens: a signature costs more than a message.
const JOINS_PER_SECOND: u64 = 200;
/// Refusals that become events; the others are counted, or they would push out what matters.
const REFUSALS_TOLD_PER_SECOND: u64 = 1;
const REFUSALS_TOLD_BURST: u64 = 20;
const JOIN_ANSWER_BYTES_MAX: usize = 1024;
const CREDENTIAL_DOMAIN: &[u8] = b"fulmar/v1/broker-credential\0";

type Done = Option<Result<Answer, Problem>>;

impl Engine {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn token_create(
        &mut self,
        now: Now,
        ticket: Ticket,
        actor: &str,
        expires_in: Option<Duration>,
        approve: bool,
        labels: &Value,
        entropy: &[u8; 32],
    ) -> Done {
        let labels = match read_labels(labels) {
            Ok(labels) => labels,
            Err(refusal) => return Some(Err(problem::refused(refusal))),
        };
        let life = expires_in.unwrap_or(TOKEN_LIFE_DEFAULT);
        if life > TOKEN_LIFE_MAX || life.is_zero() {
            return Some(Err(problem::invalid("/expiresIn", "a token lives for 1ms to 365d".to_owned())));
        }
        if self.state.tokens.len() >= TOKENS_MAX {
            return Some(Err(problem::limit(format!("{TOKENS_MAX} join tokens are open, the most there can be"))));
        }
        let mut id = [0; 8];
        id.copy_from_slice(&entropy[..8]);
        let id = TokenId(id);
        let Some(secret) = self.state.exchange.join_secret(&self.state.fleet_name, id) else {
            return Some(Err(problem::invalid("/", "the hub's key gives no secret for a token".to_owned())));
        };
        let token = JoinToken {
            id,
            secret,
            fleet: &self.state.fleet_name,
            broker: &self.config.broker,
            certificate: self.config.certificate,
            hub: hub_fingerprint(&self.hub_signing, &self.state.exchange.public_key()),
        };
        let Ok(text) = token.text() else {
            return Some(Err(problem::invalid("/", "the broker's address is too long for a token".to_owned())));
        };
        let expires_ms = now.wall_ms.saturating_add(u64::try_from(life.as_millis()).unwrap_or(u64::MAX));
        let secret_sha256 = Digest::of(join_password(&secret).as_bytes()).0;
        let labels = serde_json::to_string(&labels).unwrap_or_default();
        let row = TokenRow { id, secret_sha256, expires_ms, approve, labels, used_by: None };
        let mut releases = vec![Release::Access(AccessChange::JoinPut { token: id, secret_sha256 })];
        let answer = Answer::Token { text: text.as_str().to_owned(), id, expires_ms };
        releases.push(Release::Answer(ticket, Ok(answer)));
        let audit = AuditEntry {
            time_ms: now.wall_ms,
            actor: actor.to_owned(),
            action: "token-create",
            object: format!("token/{id}"),
            before: None,
            after: None,
        };
        self.commit(vec![Write::TokenPut(row)], vec![audit], releases);
        None
    }

    /// Forgets tokens that are over; the broker lets nobody in with them any more.
    pub(super) fn tokens_sweep(&mut self, now: Now) {
        let over = self.state.tokens.values().filter(|token| token.expires_ms <= now.wall_ms).map(|token| token.id);
        let mut over: Vec<TokenId> = over.collect();
        over.sort_unstable();
        over.truncate(TOKENS_PER_SWEEP_MAX);
        if over.is_empty() || self.pipeline.is_full() {
            return;
        }
        let entry = |token: &TokenId| AuditEntry {
            time_ms: now.wall_ms,
            actor: "system:join".to_owned(),
            action: "token-expire",
            object: format!("token/{token}"),
            before: None,
            after: None,
        };
        let audit = over.iter().map(entry).collect();
        let writes = over.iter().map(|id| Write::TokenDelete { id: *id }).collect();
        let releases = over.iter().map(|token| Release::Access(AccessChange::JoinRemove { token: *token }));
        let releases = releases.collect();
        self.commit(writes, audit, releases);
    }

    pub(super) fn join(&mut self, now: Now, token: TokenId, payload: &[u8], retained: bool) {
        if retained {
            if !payload.is_empty()
                && let Ok(topic) = Topic::JoinRequest(token).print(&self.state.fleet_name)
            {
                self.publish(topic.as_str().to_owned(), Vec::new(), true);
            }
            return;
        }
        if self.rivals.is_stopped() {
            // The device asks again.
            return;
        }
        let Ok(request) = decode_plain::<JoinRequest<'_>>(payload) else {
            // Without a nonce there is nothing to answer to.
            self.messages_refused += 1;
            return;
        };
        let nonce = request.claim.nonce;
        if let Err(reason) = self.admit(now, token, &request) {
            self.messages_refused += 1;
            if self.joins_told.take(now.monotonic, REFUSALS_TOLD_PER_SECOND, REFUSALS_TOLD_BURST) {
                self.tell(now, Draft::hub("JoinRefused", format!("token {token}: {reason:?}")));
            }
            if let Some((topic, payload)) = self.join_answer(token, &JoinAnswer::Refused { nonce, reason }) {
                self.publish(topic, payload, false);
            }
        }
    }

    fn admit(&mut self, now: Now, token: TokenId, request: &JoinRequest<'_>) -> Result<(), JoinRefusal> {
        if self.pipeline.is_full() || !self.joins.take(now.monotonic, JOINS_PER_SECOND, JOINS_PER_SECOND) {
            return Err(JoinRefusal::Busy);
        }
        let row = self.state.tokens.get(&token).cloned().ok_or(JoinRefusal::TokenExpired)?;
        if row.expires_ms <= now.wall_ms {
            return Err(JoinRefusal::TokenExpired);
        }
        let id = match request.verify(&Ed25519, &self.state.fleet_name, token) {
            Ok(id) => id,
            Err(wire::WireError::NotAuthentic) => return Err(JoinRefusal::NotAuthentic),
            Err(_) => return Err(JoinRefusal::Malformed),
        };
        if self.state.rejections.contains_key(&id) {
            // The nearest word that agents know.
            return Err(JoinRefusal::NotAuthentic);
        }
        // The same device may come again: its first answer may not have reached it.
        if row.used_by.is_some_and(|used_by| used_by != id) {
            return Err(JoinRefusal::TokenUsed);
        }
        let claim = &request.claim;
        let name = self.name_for(id, claim)?;
        let exchange = &claim.exchange;
        let fleet = &self.state.fleet_name;
        let pair = self.state.exchange.pair_key(exchange, fleet, id).ok_or(JoinRefusal::Malformed)?;
        let credential = credential(&pair, &claim.nonce);
        if self.state.devices.index_of(id).is_none() && self.state.devices.len() >= DEVICES_MAX {
            return Err(JoinRefusal::Busy);
        }
        let credential_sha256 = Digest::of(device_password(&credential).as_bytes()).0;
        let body = self.joined_body(now, &name, claim, &row);
        let approved = matches!(&body.spec, Spec::Device(device) if device.spec.approved);
        let unsealed = Accepted {
            nonce: claim.nonce,
            device: id,
            hub_signing: self.hub_signing,
            hub_exchange: self.state.exchange.public_key(),
            sealed: &[],
            artifacts: &self.config.artifacts,
            name: &name,
            approved,
        };
        let covered = unsealed.covered().map_err(|_| JoinRefusal::Malformed)?;
        let sealed = self.state.exchange.seal(exchange, &covered, &credential).ok_or(JoinRefusal::Malformed)?;
        let accepted = Accepted { sealed: &sealed, ..unsealed };
        let (topic, payload) =
            self.join_answer(token, &JoinAnswer::Accepted(accepted)).ok_or(JoinRefusal::Malformed)?;
        let keys = DeviceKeysRow {
            device: id,
            name: name.clone(),
            identity: claim.identity.0,
            exchange: claim.exchange.0,
            credential_sha256,
            join_nonce: Some(claim.nonce),
            joined_ms: now.wall_ms,
        };
        let access = keys.access();
        let key = ObjectKey::device(&name);
        let mut writes = vec![Write::DeviceKeysPut(keys), Write::TokenPut(TokenRow { used_by: Some(id), ..row })];
        let actor = format!("token:{token}");
        let audit = self.put_writes(now, &Act { actor: &actor, action: "join" }, &key, body, &mut writes);
        let how = if approved { "joined, approved by its token" } else { "joined and waits for its approval" };
        let releases = vec![
            Release::Access(access),
            Release::Event(Draft::normal("Joined", &key, how).on(&name)),
            Release::Publish { topic, payload, retain: false },
        ];
        self.commit(writes, vec![audit], releases);
        self.placement.mark_all(self.state.workloads.keys());
        Ok(())
    }

    /// The claimed name, the present one of a device that is known, or one made from the id.
    fn name_for(&self, id: DeviceId, claim: &JoinClaim<'_>) -> Result<String, JoinRefusal> {
        let known = self.state.devices.index_of(id).and_then(|index| self.state.devices.get(index));
        if let Some(device) = known {
            return Ok(device.keys.name.clone());
        }
        let name = match claim.name {
            "" => format!("dev-{}", id.text().get(..8).unwrap_or_default()),
            name if is_label(name, wire::limits::NAME_BYTES_MAX) => name.to_owned(),
            _ => return Err(JoinRefusal::Malformed),
        };
        let is_taken = self.state.devices.index_named(&name).is_some()
            || self.state.objects.contains_key(&ObjectKey::device(&name));
        if is_taken { Err(JoinRefusal::NameTaken) } else { Ok(name) }
    }

    /// A device that comes again keeps what operators said of it.
    fn joined_body(&self, now: Now, name: &str, claim: &JoinClaim<'_>, token: &TokenRow) -> Body {
        let position = claim.position.and_then(|position| {
            let point = Point::from_e7(position.longitude_e7, position.latitude_e7).ok()?;
            Some(DevicePosition { point, uncertainty_m: position.uncertainty_m })
        });
        let class = super::device::class_name(claim.class).to_owned();
        if let Some(before) = self.state.objects.get(&ObjectKey::device(name)) {
            let mut body = before.body.clone();
            if let Spec::Device(device) = &mut body.spec {
                device.reported.class = class;
                if position.is_some() {
                    device.reported.position = position;
                    device.reported.position_ms = now.wall_ms;
                }
                device.spec.approved |= token.approve;
            }
            return body;
        }
        Body {
            labels: serde_json::from_str(&token.labels).unwrap_or_default(),
            annotations: BTreeMap::new(),
            spec: Spec::Device(DeviceBody {
                spec: DeviceSpec { approved: token.approve, ..DeviceSpec::default() },
                reported: Reported { class, position, position_ms: now.wall_ms, ..Reported::default() },
            }),
            managed: Vec::new(),
        }
    }

    fn join_answer(&self, token: TokenId, answer: &JoinAnswer<'_>) -> Option<(String, Vec<u8>)> {
        answer.check().ok()?;
        let topic = Topic::JoinAnswer(token).print(&self.state.fleet_name).ok()?;
        let mut buffer = [0; JOIN_ANSWER_BYTES_MAX];
        let payload = encode_plain(&mut buffer, answer).ok()?.to_vec();
        Some((topic.as_str().to_owned(), payload))
    }
}

/// One credential per nonce: a request that is repeated, even after a restart, gets the same bytes under the same seal.
/// Whoever knows the pair's key could talk as the device anyway.
pub fn credential(pair: &PairKey, nonce: &[u8; 16]) -> [u8; 32] {
    let mut text = Vec::with_capacity(CREDENTIAL_DOMAIN.len() + 48);
    text.extend_from_slice(CREDENTIAL_DOMAIN);
    text.extend_from_slice(&pair.0);
    text.extend_from_slice(nonce);
    Digest::of(&text).0
}

/// How a device shows its credential to the broker.
pub fn device_password(credential: &[u8; 32]) -> String {
    data_encoding::HEXLOWER.encode(credential)
}

/// How the holder of a join token shows its secret to the broker.
pub fn join_password(secret: &[u8; JOIN_SECRET_BYTES]) -> String {
    data_encoding::HEXLOWER.encode(secret)
}

impl DeviceKeysRow {
    /// What the broker has to know of this device.
    pub fn access(&self) -> AccessChange {
        let exchange = ExchangeKey(self.exchange);
        let origin = self.join_nonce.map(|nonce| CredentialOrigin { exchange, nonce });
        AccessChange::DevicePut { id: self.device, credential_sha256: self.credential_sha256, origin }
    }
}

fn read_labels(labels: &Value) -> Result<BTreeMap<String, String>, Refusal> {
    if labels.is_null() {
        return Ok(BTreeMap::new());
    }
    let mut reader = Reader::default();
    let read = reader.labels(&pointer_at("", "labels"), labels);
    reader.finish().map(|_| read)
}
