//! What is different between two documents, field by field: lists and scalars are whole, as for field managers.

use crate::output::plain;
use hub::model::managed::leaves;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Characters of a value that are shown.
const VALUE_CHARS_MAX: usize = 72;

/// One field.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// JSON pointer.
    pub pointer: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

/// The part of a document that people write.
pub fn written(document: &Value) -> Value {
    let part = |pointer: &str| document.pointer(pointer).cloned().unwrap_or_else(|| json!({}));
    json!({"metadata": {"labels": part("/metadata/labels"), "annotations": part("/metadata/annotations")}, "spec": part("/spec")})
}

pub fn between(before: &Value, after: &Value) -> Vec<Change> {
    let (before, after) = (written(before), written(after));
    let pointers: BTreeSet<String> = leaves(&before).into_iter().chain(leaves(&after)).collect();
    let changes = pointers.into_iter().map(|pointer| Change {
        before: before.pointer(&pointer).cloned(),
        after: after.pointer(&pointer).cloned(),
        pointer,
    });
    changes.filter(|change| change.before != change.after).collect()
}

/// As far as a part of a document says: what it leaves out is not looked at.
pub fn wanted(before: &Value, part: &Value) -> Vec<Change> {
    let after = written(part);
    let wanted: BTreeSet<String> = leaves(&after).into_iter().collect();
    between(before, part).into_iter().filter(|change| wanted.contains(&change.pointer)).collect()
}

/// `spec.placement.within`.
pub fn path(pointer: &str) -> String {
    let steps = pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"));
    steps.collect::<Vec<String>>().join(".")
}

/// A value in one line.
pub fn shown(value: &Value) -> String {
    let full = match value {
        Value::String(text) => plain(text),
        other => other.to_string(),
    };
    match full.chars().count() {
        0..=VALUE_CHARS_MAX => full,
        count => format!("{}... ({count} characters)", full.chars().take(VALUE_CHARS_MAX).collect::<String>()),
    }
}

/// `+` new, `-` gone, `~` other, one line each.
pub fn lines(changes: &[Change]) -> String {
    let width = changes.iter().map(|change| path(&change.pointer).chars().count()).max().unwrap_or_default();
    let mut out = String::new();
    for change in changes {
        let name = path(&change.pointer);
        let _ = match (&change.before, &change.after) {
            (Some(before), Some(after)) => writeln!(out, "  ~ {name:width$}   {}  ->  {}", shown(before), shown(after)),
            (None, Some(after)) => writeln!(out, "  + {name:width$}   {}", shown(after)),
            (Some(before), None) => writeln!(out, "  - {name:width$}   {}", shown(before)),
            (None, None) => Ok(()),
        };
    }
    out
}

pub fn json(changes: &[Change]) -> Value {
    let shown = |change: &Change| json!({"pointer": change.pointer, "before": change.before, "after": change.after});
    Value::Array(changes.iter().map(shown).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_compared_and_what_the_hub_fills_in_is_not() {
        let before = json!({"metadata": {"name": "a", "generation": 1}, "spec": {"replicas": 1, "placement": {"within": ["x"]}}, "status": {"n": 1}});
        let after = json!({"metadata": {"name": "a", "generation": 2, "labels": {"a/b": "c"}}, "spec": {"placement": {"within": ["x", "y"]}, "every": true}});
        let expected = "  \
  + metadata.labels.a/b     c
  + spec.every              true
  ~ spec.placement.within   [\"x\"]  ->  [\"x\",\"y\"]
  - spec.replicas           1
";
        assert_eq!(lines(&between(&before, &after)), expected);
        let part = json!({"spec": {"replicas": 2}});
        assert_eq!(lines(&wanted(&before, &part)), "  ~ spec.replicas   1  ->  2\n");
        assert!(between(&before, &before).is_empty());
    }

    #[test]
    fn long_values_are_cut_and_say_how_long_they_are() {
        let text = shown(&json!("x".repeat(1000)));
        assert!(text.len() < 120 && text.ends_with("... (1000 characters)"), "{text}");
    }
}
