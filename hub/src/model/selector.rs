//! The one label selector grammar, for URLs, the command line and manifests: `a=b,c!=d,e,!f,g in (x,y),h notin (z)`.
//!
//! Parsing is total; an empty selector selects everything. An object without the key satisfies `!=` and `notin`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Terms of one selector.
pub const SELECTOR_TERMS_MAX: usize = 16;
/// Values of one term.
pub const SELECTOR_VALUES_MAX: usize = 32;

/// All terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    terms: Vec<Expression>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// One term, as manifests write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expression {
    pub key: String,
    pub operator: Operator,
    /// At least one with `In` and `NotIn`, none with the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// Why a text is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error(
        "{term:?} is not a selector term: write key=value, key!=value, key in (a,b), key notin (a,b), key or !key, joined by commas"
    )]
    Term { term: String },
    #[error("a selector has at most {SELECTOR_TERMS_MAX} terms")]
    TooMany,
    #[error("a term of a selector has at most {SELECTOR_VALUES_MAX} values")]
    TooManyValues,
}

impl Selector {
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut terms = Vec::new();
        for part in parts(text).into_iter().map(str::trim).filter(|part| !part.is_empty()) {
            if terms.len() == SELECTOR_TERMS_MAX {
                return Err(SelectorError::TooMany);
            }
            let is_right = |term: &Expression| is_key(&term.key) && term.values.iter().all(|value| is_value(value));
            let term = term(part).filter(is_right);
            let term = term.ok_or_else(|| SelectorError::Term { term: part.chars().take(80).collect() })?;
            if term.values.len() > SELECTOR_VALUES_MAX {
                return Err(SelectorError::TooManyValues);
            }
            terms.push(term);
        }
        Ok(Self { terms })
    }

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.terms.iter().all(|term| term.matches(labels))
    }

    pub fn into_terms(self) -> Vec<Expression> {
        self.terms
    }
}

impl Expression {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// Cut at the commas that are not in parentheses.
fn parts(text: &str) -> Vec<&str> {
    let mut is_inside = false;
    let is_cut = |c: char| {
        match c {
            '(' => is_inside = true,
            ')' => is_inside = false,
            _ => {}
        }
        c == ',' && !is_inside
    };
    text.split(is_cut).collect()
}

/// `None` for what has not the form of a term.
fn term(part: &str) -> Option<Expression> {
    let new = |key: &str, operator, values: Vec<&str>| Expression {
        key: key.trim().to_owned(),
        operator,
        values: values.into_iter().map(|value| value.trim().to_owned()).collect(),
    };
    if let Some((head, list)) = part.strip_suffix(')').and_then(|part| part.split_once('(')) {
        let (key, word) = head.trim_end().rsplit_once(char::is_whitespace)?;
        let operator = match word {
            "in" => Operator::In,
            "notin" => Operator::NotIn,
            _ => return None,
        };
        let has_values = !list.trim().is_empty();
        return has_values.then(|| new(key, operator, list.split(',').collect()));
    }
    Some(match (part.split_once("!="), part.split_once('='), part.strip_prefix('!')) {
        (Some((key, value)), _, _) => new(key, Operator::NotIn, vec![value]),
        (None, Some((key, value)), _) => new(key, Operator::In, vec![value.strip_prefix('=').unwrap_or(value)]),
        (None, None, Some(key)) => new(key, Operator::DoesNotExist, Vec::new()),
        (None, None, None) => new(part, Operator::Exists, Vec::new()),
    })
}

/// Letters, digits, `-`, `_`, `.`, `/`; starts and ends with a letter or digit; at most 63 bytes.
pub(crate) fn is_key(text: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || b"-_./".contains(b);
    bytes.len() <= wire::limits::NAME_BYTES_MAX && ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(inner)
}

/// As a key, or empty.
pub(crate) fn is_value(text: &str) -> bool {
    text.is_empty() || is_key(text)
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
            ("a==1", true),
            ("a=2", false),
            ("a!=2,!c", true),
            ("!a", false),
            ("c", false),
            ("c!=1", true),
            ("a in (0, 1),b", true),
            ("a in (0,2)", false),
            ("a notin (0,2), b in(2)", true),
            ("a notin (1)", false),
            ("c notin (1)", true),
            ("c in (1)", false),
        ] {
            assert_eq!(Selector::parse(text).unwrap().matches(&labels), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in
            ["=", "a b", "!", "-a=1", "ä=1", "a in ()", "a in", "a within (b)", "in (b)", "a=(b)", "a in (b", "a=b c"]
        {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
        assert_eq!(Selector::parse(&"a,".repeat(SELECTOR_TERMS_MAX + 1)), Err(SelectorError::TooMany));
        assert!(Selector::parse(&"a,".repeat(SELECTOR_TERMS_MAX)).is_ok());
        let values = |count: usize| format!("a in ({})", vec!["v"; count].join(","));
        assert!(Selector::parse(&values(SELECTOR_VALUES_MAX)).is_ok());
        assert_eq!(Selector::parse(&values(SELECTOR_VALUES_MAX + 1)), Err(SelectorError::TooManyValues));
    }
}
