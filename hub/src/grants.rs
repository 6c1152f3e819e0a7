//! Who may use the API by bearer token: hashes in memory, each with what it is good for. Filled at start, changed when a
//! change is durable.
//!
//! No token is ever kept, only its SHA-256. A lookup by hash tells a guesser nothing: who knows a prefix of a hash knows
//! nothing about a token that has it.

use crate::keys::secret_hash;
use crate::model::TokenRole;
use data_encoding::HEXLOWER;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

/// Before every token, so that people and scanners know one when they see it.
pub const TOKEN_PREFIX: &str = "fulmar_";
const SECRET_BYTES: usize = 32;
const CHECK_BYTES: usize = 4;

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub name: String,
    pub role: TokenRole,
    /// Unix time; `None`: it does not end.
    pub expires_ms: Option<u64>,
}

#[derive(Debug)]
struct Entry {
    grant: Grant,
    last_used_ms: AtomicU64,
}

/// All tokens by the hash of their text.
#[derive(Debug, Default)]
pub struct Grants(RwLock<HashMap<[u8; 32], Entry>>);

impl Grants {
    pub fn put(&self, sha256: [u8; 32], grant: Grant) {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        entries.insert(sha256, Entry { grant, last_used_ms: AtomicU64::new(0) });
    }

    pub fn remove(&self, sha256: &[u8; 32]) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(sha256);
    }

    /// What a presented token is good for now; notes that it was used.
    pub fn check(&self, token: &str, now_ms: u64) -> Option<Grant> {
        if !is_token(token) {
            return None;
        }
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(&secret_hash(token.as_bytes()))?;
        if entry.grant.expires_ms.is_some_and(|end| end <= now_ms) {
            return None;
        }
        entry.last_used_ms.store(now_ms, Ordering::Relaxed);
        Some(entry.grant.clone())
    }

    /// When a token was used last since this hub started, in Unix time.
    pub fn last_used_ms(&self, name: &str) -> Option<u64> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.values().find(|entry| entry.grant.name == name)?;
        Some(entry.last_used_ms.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }
}

/// A token's text: prefix, 256 random bits, and a checksum that finds a mistyped one before anybody is asked.
#[must_use]
pub fn token_text(entropy: &[u8; SECRET_BYTES]) -> String {
    let secret = HEXLOWER.encode(entropy);
    format!("{TOKEN_PREFIX}{secret}{}", check_of(&secret))
}

fn check_of(secret: &str) -> String {
    let hash = secret_hash(format!("{TOKEN_PREFIX}check:{secret}").as_bytes());
    HEXLOWER.encode(hash.get(..CHECK_BYTES).unwrap_or_default())
}

/// Whether a text has the form of a token, checksum included.
#[must_use]
pub fn is_token(text: &str) -> bool {
    text.strip_prefix(TOKEN_PREFIX)
        .and_then(|rest| rest.split_at_checked(2 * SECRET_BYTES))
        .is_some_and(|(secret, check)| check_of(secret) == check)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_token_is_known_by_its_hash_until_it_ends_or_is_taken_away() {
        let (grants, text) = (Grants::default(), token_text(&[7; 32]));
        let hash = secret_hash(text.as_bytes());
        let grant = Grant { name: "ci".to_owned(), role: TokenRole::Viewer, expires_ms: Some(100) };
        assert_eq!(grants.check(&text, 1), None);
        grants.put(hash, grant.clone());
        assert_eq!(grants.last_used_ms("ci"), None);
        assert_eq!(grants.check(&text, 99), Some(grant));
        assert_eq!(grants.last_used_ms("ci"), Some(99));
        assert_eq!(grants.check(&text, 100), None, "it has ended");
        grants.remove(&hash);
        assert_eq!(grants.check(&text, 1), None);
    }

    #[test]
    fn a_mistyped_token_is_told_by_its_checksum() {
        let text = token_text(&[7; 32]);
        assert!(is_token(&text) && text.len() == 7 + 64 + 8);
        for at in 0..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[at] = if wrong[at] == b'0' { b'1' } else { b'0' };
            assert!(!is_token(&String::from_utf8(wrong).unwrap()), "{at}");
        }
        for wrong in ["", "fulmar_", "fulmar_ä", &text[..text.len() - 1]] {
            assert!(!is_token(wrong));
        }
    }
}
