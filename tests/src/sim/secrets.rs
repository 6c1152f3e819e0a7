//! Secrets in places where nobody may find them (I11): every payload, every row, every answer and every line of the logs is
//! searched for all key material of the world.
//!
//! Runs with real signatures only, as only those have all of it. A join token's text is the one answer that has to show a secret.
use super::network::hexadecimal;
use super::world::{FLEET, Ground, World};
use hub::commit::{Batch, Write};
use hub::engine::{Answer, Problem, StreamItem};
use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use wire::topic::TokenId;

/// Of each secret so many bytes are looked for: a part of it is too much already.
const PART_BYTES: usize = 16;
/// Of these, so many as numbers, as `{:?}` prints them.
const PRINTED_BYTES: usize = 8;
const HEAD_BYTES: usize = 8;
const SIEVE_WORDS: usize = 256;

/// The last two characters of the alphabets of base64: for mail, and for addresses.
const BASE64: [[u8; 2]; 2] = [*b"+/", *b"-_"];

/// The characters of base64 that stand for these bytes and nothing beside them, when so many bytes stand before them in a group
/// of three.
fn base64_inside(bytes: &[u8], before: usize, last: &[u8; 2]) -> Vec<u8> {
    let bit = |at: usize| bytes.get(at / 8).is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1);
    let first = (6 - before * 8 % 6) % 6;
    let sextet = |from: usize| (from..from + 6).fold(0, |value: u8, at| value << 1 | u8::from(bit(at)));
    let character = |sextet: u8| match sextet {
        0..26 => b'A' + sextet,
        26..52 => b'a' + (sextet - 26),
        52..62 => b'0' + (sextet - 52),
        _ => last[usize::from(sextet & 1)],
    };
    (first..=(bytes.len() * 8).saturating_sub(6)).step_by(6).map(|from| character(sextet(from))).collect()
}

/// What is looked for, by its first bytes.
#[derive(Default)]
pub struct Secrets {
    needles: BTreeMap<u64, Vec<(Vec<u8>, String)>>,
    /// Which heads there may be: nearly all places of a text are passed over with one look.
    sieve: Vec<u64>,
    heard: Option<Heard>,
}

/// Lines of the logs since the last look.
pub type Heard = Arc<Mutex<String>>;

fn bit(head: u64) -> (usize, u64) {
    let number = head.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50;
    ((number / 64) as usize, 1 << (number % 64))
}

impl Secrets {
    /// All that is there before the first event.
    pub fn of(ground: &Ground, heard: Option<Heard>) -> Self {
        let mut secrets = Self { heard, ..Self::default() };
        if !ground.is_real {
            return secrets;
        }
        secrets.add(&ground.signing_seed, "the hub's signing key");
        secrets.add(&ground.hub_exchange_seed, "the hub's key for agreement");
        for (device, (identity, exchange)) in ground.identities.iter().enumerate() {
            secrets.add(identity, &format!("the identity of dev-{device}"));
            secrets.add(exchange, &format!("the key for agreement of dev-{device}"));
        }
        for (device, key) in ground.pair_keys.iter().enumerate() {
            secrets.add(&key.0, &format!("the pair key of dev-{device}"));
        }
        secrets
    }

    /// Made while the run goes on.
    pub fn learn(&mut self, secret: &[u8], what: impl FnOnce() -> String) {
        if self.is_searching() {
            self.add(secret, &what());
        }
    }

    pub fn is_searching(&self) -> bool {
        !self.sieve.is_empty()
    }

    /// As bytes, as hexadecimal digits, as numbers and in base64.
    pub fn add(&mut self, secret: &[u8], what: &str) {
        let part = &secret[..secret.len().min(PART_BYTES)];
        let numbers: Vec<String> = part.iter().take(PRINTED_BYTES).map(u8::to_string).collect();
        let plain = [part.to_vec(), hexadecimal(part).into_bytes(), numbers.join(", ").into_bytes()];
        let coded = BASE64.iter().flat_map(|last| (0..3).map(move |before| base64_inside(part, before, last)));
        for needle in plain.into_iter().chain(coded) {
            let Some(head) = needle.first_chunk::<HEAD_BYTES>().map(|head| u64::from_le_bytes(*head)) else { continue };
            self.sieve.resize(SIEVE_WORDS, 0);
            let (word, bit) = bit(head);
            self.sieve[word] |= bit;
            self.needles.entry(head).or_default().push((needle, what.to_owned()));
        }
    }

    pub fn find(&self, text: &[u8]) -> Option<&str> {
        if !self.is_searching() {
            return None;
        }
        let mut head = 0;
        for (at, byte) in text.iter().enumerate() {
            head = head >> 8 | u64::from(*byte) << 56;
            let (word, bit) = bit(head);
            if self.sieve[word] & bit == 0 || at + 1 < HEAD_BYTES {
                continue;
            }
            let rest = &text[at + 1 - HEAD_BYTES..];
            let mut here = self.needles.get(&head).into_iter().flatten();
            if let Some((_, what)) = here.find(|(needle, _)| rest.starts_with(needle)) {
                return Some(what);
            }
        }
        None
    }
}

impl World<'_> {
    fn judge_secret(&mut self, text: &[u8], place: impl FnOnce() -> String) {
        if let Some(what) = self.secrets.find(text) {
            let text = format!("[I11] {what} is in {}", place());
            self.fail(|| text);
        }
    }

    /// Before it is made: it must not be in the row that says so either.
    pub fn learn_token(&mut self, device: usize, entropy: &[u8; 32]) {
        let mut id = [0; 8];
        id.copy_from_slice(&entropy[..8]);
        if let Some(secret) = self.hub_exchange.join_secret(FLEET, TokenId(id)) {
            self.secrets.learn(&secret, || format!("the join token of dev-{device}"));
        }
    }

    pub fn judge_payload(&mut self, payload: &[u8], place: &impl Debug) {
        self.judge_secret(payload, || format!("a message on {place:?}"));
    }

    pub fn judge_batch(&mut self, batch: &Batch) {
        if !self.secrets.is_searching() {
            return;
        }
        for write in &batch.writes {
            let bytes = match write {
                Write::ObjectPut(row) => row.json.clone(),
                Write::DesiredPut { body, .. } => body.clone(),
                Write::CapabilitiesPut { bytes, .. } => bytes.clone(),
                other => format!("{other:?}").into_bytes(),
            };
            self.judge_secret(&bytes, || "the database".to_owned());
        }
        let entries = format!("{:?}", batch.audit);
        self.judge_secret(entries.as_bytes(), || "the audit".to_owned());
    }

    pub fn judge_answer(&mut self, result: &Result<Answer, Problem>) {
        if self.secrets.is_searching() && !matches!(result, Ok(Answer::Token { .. })) {
            let text = format!("{result:?}");
            self.judge_secret(text.as_bytes(), || "an answer".to_owned());
        }
    }

    pub fn judge_item(&mut self, item: &StreamItem) {
        if self.secrets.is_searching() {
            let text = format!("{item:?}");
            self.judge_secret(text.as_bytes(), || "a stream".to_owned());
        }
    }

    /// What was logged since the last look.
    pub fn judge_logs(&mut self) {
        let Some(heard) = &self.secrets.heard else { return };
        let lines = heard.lock().map(|mut lines| std::mem::take(&mut *lines)).unwrap_or_default();
        if !lines.is_empty() {
            self.judge_secret(lines.as_bytes(), || format!("the logs: {lines}"));
        }
    }
}

/// Keeps all lines that are logged, of every level.
pub struct Listener(pub Heard);

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut Line(&self.0));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Line(&self.0));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Line(&self.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line<'a>(&'a Heard);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if let Ok(mut lines) = self.0.lock() {
            let _ = writeln!(lines, "{field}={value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_secret_is_found_in_each_form_and_at_each_place_and_nothing_else_is() {
        let secret: Vec<u8> = (0..32u8).map(|n| n.wrapping_mul(37).wrapping_add(251)).collect();
        let mut secrets = Secrets::default();
        assert_eq!(secrets.find(&secret), None);
        secrets.add(&secret, "it");
        let plain = [secret.clone(), hexadecimal(&secret).into_bytes(), format!("{secret:?}").into_bytes()];
        // After none, one and two other bytes, as another encoder wrote them.
        let coded = [
            "+yBFao+02f4jSG2St9wBJktwlbrfBClOc5i94gcsUXY=",
            "-yBFao-02f4jSG2St9wBJktwlbrfBClOc5i94gcsUXY=",
            "ePsgRWqPtNn+I0htkrfcASZLcJW63wQpTnOYveIHLFF2",
            "ePsgRWqPtNn-I0htkrfcASZLcJW63wQpTnOYveIHLFF2",
            "eHn7IEVqj7TZ/iNIbZK33AEmS3CVut8EKU5zmL3iByxRdg==",
            "eHn7IEVqj7TZ_iNIbZK33AEmS3CVut8EKU5zmL3iByxRdg==",
        ];
        let coded = coded.map(|text| text.as_bytes().to_vec());
        for form in plain.into_iter().chain(coded) {
            for before in [0, 1, 9] {
                let text = [vec![b'x'; before], form.clone(), b"after".to_vec()].concat();
                assert_eq!(secrets.find(&text), Some("it"));
            }
            let mut other = form.clone();
            other[9] ^= 1;
            assert_eq!(secrets.find(&other), None);
            assert_eq!(secrets.find(&form[..7]), None);
        }
    }
}
