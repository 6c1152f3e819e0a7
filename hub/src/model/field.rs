//! The field selector grammar of lists and watches: `status.online.state=Online,spec.cordoned!=true`.
//!
//! It looks at the document as shown. Parsing is total; an empty selector selects everything. A field that is not there
//! satisfies `!=` only.

use serde_json::Value;

/// Terms of one field selector.
pub const FIELD_TERMS_MAX: usize = 16;
/// Steps of one path.
pub const FIELD_STEPS_MAX: usize = 16;

/// All terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    path: Vec<String>,
    value: String,
    is_equal: bool,
}

/// Why a text is not a field selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    #[error("{term:?} is not a term: write path.to.field=value or path.to.field!=value, joined by commas")]
    Term { term: String },
    #[error("a field selector has at most {FIELD_TERMS_MAX} terms of at most {FIELD_STEPS_MAX} steps")]
    TooMany,
}

impl FieldSelector {
    pub fn parse(text: &str) -> Result<Self, FieldSelectorError> {
        let mut terms = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let wrong = || FieldSelectorError::Term { term: part.chars().take(80).collect() };
            let (path, value, is_equal) = match (part.split_once("!="), part.split_once('=')) {
                (Some((path, value)), _) => (path, value, false),
                (None, Some((path, value))) => (path, value.strip_prefix('=').unwrap_or(value), true),
                (None, None) => return Err(wrong()),
            };
            let path: Vec<String> = path.trim().trim_start_matches('.').split('.').map(str::to_owned).collect();
            let is_step = |step: &String| {
                !step.is_empty() && step.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            };
            if !path.iter().all(is_step) {
                return Err(wrong());
            }
            if terms.len() == FIELD_TERMS_MAX || path.len() > FIELD_STEPS_MAX {
                return Err(FieldSelectorError::TooMany);
            }
            terms.push(Term { path, value: value.trim().to_owned(), is_equal });
        }
        Ok(Self { terms })
    }

    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    pub fn matches(&self, document: &Value) -> bool {
        self.terms.iter().all(|term| term.matches(document))
    }
}

impl Term {
    fn matches(&self, document: &Value) -> bool {
        let found = self.path.iter().try_fold(document, |value, step| match value {
            Value::Array(list) => step.parse::<usize>().ok().and_then(|at| list.get(at)),
            other => other.get(step),
        });
        let is_it = match found {
            Some(Value::String(text)) => *text == self.value,
            Some(value @ (Value::Bool(_) | Value::Number(_))) => format!("{value}") == self.value,
            Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => false,
        };
        is_it == self.is_equal
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn every_term_looks_at_its_field() {
        let document = json!({"spec": {"replicas": 3, "on": true, "list": [{"a": "x"}]}, "metadata": {"name": "n"}});
        for (text, expected) in [
            ("", true),
            ("metadata.name=n", true),
            (".metadata.name==n", true),
            ("spec.replicas=3,spec.on=true", true),
            ("spec.replicas!=3", false),
            ("spec.missing=1", false),
            ("spec.missing!=1", true),
            ("spec.list.0.a=x", true),
            ("spec.list.1.a=x", false),
            ("spec.list=x", false),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap().matches(&document), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_field_selector_is_refused() {
        for text in ["a", "=b", "a..b=c", "a b=c", "$.a=1", "a[0]=1"] {
            assert!(FieldSelector::parse(text).is_err(), "{text}");
        }
        assert!(FieldSelector::parse(&"a=1,".repeat(FIELD_TERMS_MAX)).is_ok());
        assert_eq!(FieldSelector::parse(&"a=1,".repeat(FIELD_TERMS_MAX + 1)), Err(FieldSelectorError::TooMany));
        let deep = |steps: usize| format!("{}=1", vec!["a"; steps].join("."));
        assert!(FieldSelector::parse(&deep(FIELD_STEPS_MAX)).is_ok());
        assert_eq!(FieldSelector::parse(&deep(FIELD_STEPS_MAX + 1)), Err(FieldSelectorError::TooMany));
    }
}
