//! Who owns which fields of an object: leaves of labels, annotations and spec by their JSON pointers.
//!
//! Arrays and scalars are leaves, so that nobody owns half a list. Nothing here may know what a field means.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Managers of one object.
pub const MANAGERS_MAX: usize = 16;
/// Bytes of a manager's name.
pub const MANAGER_BYTES_MAX: usize = 63;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ManagedBy {
    /// Server-side apply: what the manager leaves out next time is removed.
    Apply,
    /// A whole document.
    Update,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Managed {
    pub manager: String,
    pub operation: ManagedBy,
    /// JSON pointers, sorted.
    pub fields: Vec<String>,
}

impl Managed {
    pub fn owns(&self, pointer: &str) -> bool {
        self.fields.binary_search_by(|field| field.as_str().cmp(pointer)).is_ok()
    }
}

/// The leaves of labels, annotations and spec of a document, sorted.
pub fn leaves(document: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for part in ["/metadata/labels", "/metadata/annotations", "/spec"] {
        if let Some(Value::Object(map)) = document.pointer(part) {
            map.iter().for_each(|(key, value)| collect(value, child(part, key), &mut out));
        }
    }
    out.sort();
    out
}

fn child(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn collect(value: &Value, pointer: String, out: &mut Vec<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(key, value)| collect(value, child(&pointer, key), out));
        }
        _ => out.push(pointer),
    }
}

fn steps(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect()
}

/// Sets a leaf, and makes what is above it an object if it is none.
pub fn set(document: &mut Value, pointer: &str, leaf: Value) {
    let mut at = document;
    for step in steps(pointer) {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(map) = at else { return };
        at = map.entry(step).or_insert(Value::Null);
    }
    *at = leaf;
}

/// Removes a leaf, and what becomes empty above it.
pub fn remove(document: &mut Value, pointer: &str) {
    fn within(value: &mut Value, steps: &[String]) {
        let (Some((first, rest)), Value::Object(map)) = (steps.split_first(), value) else { return };
        if rest.is_empty() {
            map.remove(first);
        } else if let Some(inner) = map.get_mut(first) {
            within(inner, rest);
            if inner.as_object().is_some_and(Map::is_empty) {
                map.remove(first);
            }
        }
    }
    within(document, &steps(pointer));
}

/// Whether one pointer leads to the other, or through it.
pub fn meet(a: &str, b: &str) -> bool {
    let through = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    through(a, b) || through(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn leaves_are_scalars_lists_and_empty_objects() {
        let document = json!({"kind": "X", "metadata": {"name": "n", "labels": {"a/b": "1"}},
            "spec": {"list": [{"x": 1}], "deep": {"er": true, "none": {}}}});
        assert_eq!(leaves(&document), ["/metadata/labels/a~1b", "/spec/deep/er", "/spec/deep/none", "/spec/list"]);
    }

    #[test]
    fn what_is_removed_leaves_nothing_empty_behind() {
        let mut document = json!({"spec": {"a": {"b": {"c": 1}}, "d": 1}});
        remove(&mut document, "/spec/a/b/c");
        assert_eq!(document, json!({"spec": {"d": 1}}));
        set(&mut document, "/spec/d/e~1f", json!([1]));
        assert_eq!(document, json!({"spec": {"d": {"e/f": [1]}}}));
        remove(&mut document, "/spec/nothing/here");
        assert!(meet("/spec/a", "/spec/a/b") && meet("/spec/a", "/spec/a") && !meet("/spec/a", "/spec/ab"));
    }
}
