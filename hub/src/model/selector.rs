//! The one label selector grammar, for URLs, the command line and manifests: `a=b,c!=d,e,!f`.
//!
//! Parsing is total; an empty selector selects everything.

use std::collections::BTreeMap;

/// Terms of one selector.
pub const SELECTOR_TERMS_MAX: usize = 16;

/// All terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Equals(String, String),
    Differs(String, String),
    Exists(String),
    Absent(String),
}

/// Why a text is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error("{term:?} is not a selector term: write key=value, key!=value, key or !key, joined by commas")]
    Term { term: String },
    #[error("a selector has at most {SELECTOR_TERMS_MAX} terms")]
    TooMany,
}

impl Selector {
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut terms = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            if terms.len() == SELECTOR_TERMS_MAX {
                return Err(SelectorError::TooMany);
            }
            let term = match (part.split_once("!="), part.split_once('='), part.strip_prefix('!')) {
                (Some((key, value)), _, _) => Term::Differs(key.trim().to_owned(), value.trim().to_owned()),
                (None, Some((key, value)), _) => Term::Equals(key.trim().to_owned(), value.trim().to_owned()),
                (None, None, Some(key)) => Term::Absent(key.trim().to_owned()),
                (None, None, None) => Term::Exists(part.to_owned()),
            };
            if !is_key(term.key()) {
                return Err(SelectorError::Term { term: part.chars().take(80).collect() });
            }
            terms.push(term);
        }
        Ok(Self { terms })
    }

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.terms.iter().all(|term| match term {
            Term::Equals(key, value) => labels.get(key) == Some(value),
            Term::Differs(key, value) => labels.get(key) != Some(value),
            Term::Exists(key) => labels.contains_key(key),
            Term::Absent(key) => !labels.contains_key(key),
        })
    }
}

impl Term {
    fn key(&self) -> &str {
        match self {
            Self::Equals(key, _) | Self::Differs(key, _) | Self::Exists(key) | Self::Absent(key) => key,
        }
    }
}

/// Letters, digits, `-`, `_`, `.`, `/`; starts and ends with a letter or digit; at most 63 bytes.
pub(crate) fn is_key(text: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || b"-_./".contains(b);
    bytes.len() <= wire::limits::NAME_BYTES_MAX && ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_term_must_hold() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        for (text, expected) in [
            ("", true),
            ("a=1,b", true),
            ("a=2", false),
            ("a!=2,!c", true),
            ("!a", false),
            ("c", false),
            ("c!=1", true),
        ] {
            assert_eq!(Selector::parse(text).unwrap().matches(&labels), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in ["=", "a b", "!", "-a=1", "ä=1"] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
        assert_eq!(Selector::parse(&"a,".repeat(SELECTOR_TERMS_MAX + 1)), Err(SelectorError::TooMany));
        assert!(Selector::parse(&"a,".repeat(SELECTOR_TERMS_MAX)).is_ok());
    }
}
