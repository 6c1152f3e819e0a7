//! Reading of JSON that people wrote: every mistake is collected with its pointer, nothing is ignored in silence.
//!
//! A reading method notes a mistake and returns `None`; the caller goes on with the next field. Nothing here may know a
//! particular kind of object.

use super::metadata::FieldError;
use super::quantity::{Size, Span};
use super::selector::{is_key, is_value};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use wire::limits::NAME_BYTES_MAX;
use wire::topic::is_label;

/// Mistakes that are reported; more would not help anyone.
pub const FIELD_ERRORS_MAX: usize = 50;
/// Labels, and annotations, of one object.
pub const LABELS_MAX: usize = 32;
/// Bytes of the value of one annotation.
pub const ANNOTATION_BYTES_MAX: usize = 1024;
/// Bytes of any foreign text that a message repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// Why a document was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub errors: Vec<FieldError>,
    /// Something in it is right but not built yet.
    pub not_built: bool,
}

/// Collects mistakes over one document.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    errors: Vec<FieldError>,
    not_built: bool,
    pub(crate) warnings: Vec<String>,
}

/// What fields an object may have.
pub(crate) struct Shape {
    pub known: &'static [&'static str],
    /// Designed, and refused until they work.
    pub not_built: &'static [&'static str],
}

pub(crate) fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

/// `pointer` plus one field or index, escaped as in RFC 6901.
pub(crate) fn at(pointer: &str, field: &str) -> String {
    format!("{pointer}/{}", field.replace('~', "~0").replace('/', "~1"))
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

impl Reader {
    pub fn finish(self) -> Result<Vec<String>, Refusal> {
        if self.errors.is_empty() {
            Ok(self.warnings)
        } else {
            Err(Refusal { errors: self.errors, not_built: self.not_built })
        }
    }

    pub fn error<T>(&mut self, pointer: &str, detail: impl Into<String>) -> Option<T> {
        if self.errors.len() < FIELD_ERRORS_MAX {
            self.errors.push(FieldError { pointer: pointer.to_owned(), detail: detail.into() });
        }
        None
    }

    pub fn not_built<T>(&mut self, pointer: &str, what: &str) -> Option<T> {
        self.not_built = true;
        self.error(pointer, format!("{what} is not built yet; it is refused rather than ignored, so leave it out"))
    }

    fn expected<T>(&mut self, pointer: &str, what: &str, found: &Value) -> Option<T> {
        self.error(pointer, format!("expected {what}, found {}", type_name(found)))
    }

    /// An object of this shape; unknown fields are mistakes, with a suggestion where one is near.
    pub fn object<'v>(&mut self, pointer: &str, value: &'v Value, shape: &Shape) -> Option<&'v Map<String, Value>> {
        let Value::Object(map) = value else {
            return self.expected(pointer, "an object", value);
        };
        for field in map.keys() {
            if shape.known.contains(&field.as_str()) {
                continue;
            }
            let place = at(pointer, field);
            if shape.not_built.contains(&field.as_str()) {
                self.not_built::<()>(&place, &format!("`{field}`"));
                continue;
            }
            let mut detail = format!("unknown field `{}`", shown(field));
            if let Some(near) = nearest(field, shape.known) {
                detail.push_str(&format!("; did you mean `{near}`?"));
            } else {
                detail.push_str(&format!("; known here: {}", shape.known.join(", ")));
            }
            self.error::<()>(&place, detail);
        }
        Some(map)
    }

    pub fn text<'v>(&mut self, pointer: &str, value: &'v Value) -> Option<&'v str> {
        match value {
            Value::String(text) => Some(text),
            other => self.expected(pointer, "a text", other),
        }
    }

    pub fn boolean(&mut self, pointer: &str, value: &Value) -> Option<bool> {
        match value {
            Value::Bool(value) => Some(*value),
            other => self.expected(pointer, "true or false", other),
        }
    }

    pub fn integer(&mut self, pointer: &str, value: &Value, range: RangeInclusive<u64>) -> Option<u64> {
        let (least, most) = (range.start(), range.end());
        match value.as_u64() {
            Some(number) if range.contains(&number) => Some(number),
            Some(number) => self.error(pointer, format!("{number} is not in the range {least} to {most}")),
            None if value.is_number() => {
                self.error(pointer, format!("expected a whole number from {least} to {most}, found {value}"))
            }
            None => self.expected(pointer, &format!("a whole number from {least} to {most}"), value),
        }
    }

    pub fn number(&mut self, pointer: &str, value: &Value) -> Option<f64> {
        match value.as_f64() {
            Some(number) if number.is_finite() => Some(number),
            Some(_) | None => self.expected(pointer, "a number", value),
        }
    }

    pub fn list<'v>(&mut self, pointer: &str, value: &'v Value, most: usize) -> Option<&'v [Value]> {
        match value {
            Value::Array(list) if list.len() <= most => Some(list),
            Value::Array(list) => self.error(pointer, format!("{} entries, at most {most} are allowed", list.len())),
            other => self.expected(pointer, "a list", other),
        }
    }

    /// A list of texts, each judged by `check`.
    pub fn texts(
        &mut self,
        pointer: &str,
        value: &Value,
        most: usize,
        check: fn(&mut Self, &str, &Value) -> Option<String>,
    ) -> Option<Vec<String>> {
        let list = self.list(pointer, value, most)?;
        let read: Vec<Option<String>> =
            list.iter().enumerate().map(|(i, item)| check(self, &format!("{pointer}/{i}"), item)).collect();
        read.into_iter().collect()
    }

    /// A DNS label.
    pub fn label(&mut self, pointer: &str, value: &Value) -> Option<String> {
        let text = self.text(pointer, value)?;
        if is_label(text, NAME_BYTES_MAX) {
            return Some(text.to_owned());
        }
        let shown = shown(text);
        self.error(
            pointer,
            format!(
                "{shown:?} is not a name: lower-case letters, digits and `-`, starting and ending with a letter or digit, at most {NAME_BYTES_MAX} bytes"
            ),
        )
    }

    pub fn size(&mut self, pointer: &str, value: &Value, range: RangeInclusive<u64>) -> Option<Size> {
        let text = self.text(pointer, value)?;
        let size = match Size::parse(text) {
            Ok(size) => size,
            Err(error) => return self.error(pointer, error.to_string()),
        };
        if range.contains(&size.0) {
            return Some(size);
        }
        let (least, most) = (Size(*range.start()), Size(*range.end()));
        self.error(pointer, format!("{size} is not in the range {least} to {most}"))
    }

    pub fn span(&mut self, pointer: &str, value: &Value, range: RangeInclusive<u64>) -> Option<Span> {
        let text = self.text(pointer, value)?;
        let span = match Span::parse(text) {
            Ok(span) => span,
            Err(error) => return self.error(pointer, error.to_string()),
        };
        if range.contains(&span.0) {
            return Some(span);
        }
        let (least, most) = (Span(*range.start()), Span(*range.end()));
        self.error(pointer, format!("{span} is not in the range {least} to {most}"))
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&mut self, pointer: &str, value: &Value, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(pointer, value)?;
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(*choice);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        self.error(pointer, format!("{:?} is not one of {}", shown(text), names.join(", ")))
    }

    /// Labels: keys as in selectors, values of the same letters or empty.
    pub fn labels(&mut self, pointer: &str, value: &Value) -> BTreeMap<String, String> {
        self.pairs(pointer, value, is_value, "letters, digits, `-`, `_`, `.`, `/`, at most 63 bytes")
    }

    /// Annotations: any text up to a limit.
    pub fn annotations(&mut self, pointer: &str, value: &Value) -> BTreeMap<String, String> {
        self.pairs(pointer, value, |text| text.len() <= ANNOTATION_BYTES_MAX, "at most 1024 bytes")
    }

    fn pairs(
        &mut self,
        pointer: &str,
        value: &Value,
        is_value: fn(&str) -> bool,
        rule: &str,
    ) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        let Value::Object(map) = value else {
            self.expected::<()>(pointer, "an object of texts", value);
            return out;
        };
        if map.len() > LABELS_MAX {
            self.error::<()>(pointer, format!("{} entries, at most {LABELS_MAX} are allowed", map.len()));
            return out;
        }
        for (key, value) in map {
            let place = at(pointer, key);
            if !is_key(key) {
                let shown = shown(key);
                self.error::<()>(
                    &place,
                    format!("{shown:?} is not a key: letters, digits, `-`, `_`, `.`, `/`, at most 63 bytes"),
                );
                continue;
            }
            let Some(text) = self.text(&place, value) else { continue };
            if is_value(text) {
                out.insert(key.clone(), text.to_owned());
            } else {
                self.error::<()>(&place, format!("{:?} is not allowed as a value: {rule}", shown(text)));
            }
        }
        out
    }
}

/// The known name that was probably meant.
pub fn nearest<'k>(field: &str, known: &[&'k str]) -> Option<&'k str> {
    if field.len() > SHOWN_CHARS_MAX {
        return None;
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace(['_', '-'], "");
    let wanted = plain(field);
    let close = known.iter().map(|name| (distance(&wanted, &plain(name)), *name)).min();
    if let Some((steps, name)) = close
        && steps <= 2
        && steps < name.len()
    {
        return Some(name);
    }
    known.iter().find(|name| name.len() > 2 && wanted.starts_with(&plain(name))).copied()
}

/// Levenshtein distance over bytes; both texts are short.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn an_unknown_field_names_the_nearest_known_one() {
        let shape = Shape { known: &["within", "near", "maxKm"], not_built: &["spread"] };
        let mut reader = Reader::default();
        let value = json!({"within_region": 1, "neer": 1, "max_km": 1, "zzz": 1, "spread": 1});
        assert!(reader.object("/spec", &value, &shape).is_some());
        let refusal = reader.finish().unwrap_err();
        assert!(refusal.not_built);
        let detail =
            |pointer: &str| refusal.errors.iter().find(|e| e.pointer == pointer).map(|e| e.detail.clone()).unwrap();
        assert!(detail("/spec/within_region").contains("did you mean `within`?"));
        assert!(detail("/spec/neer").contains("did you mean `near`?"));
        assert!(detail("/spec/max_km").contains("did you mean `maxKm`?"));
        assert!(detail("/spec/zzz").contains("known here: within, near, maxKm"));
        assert!(detail("/spec/spread").contains("not built yet"));
    }

    #[test]
    fn reports_are_bounded() {
        let mut reader = Reader::default();
        for i in 0..FIELD_ERRORS_MAX + 7 {
            reader.error::<()>(&format!("/{i}"), "wrong");
        }
        assert_eq!(reader.finish().unwrap_err().errors.len(), FIELD_ERRORS_MAX);
    }

    #[test]
    fn pointers_are_escaped() {
        assert_eq!(at("/a", "b/c~d"), "/a/b~1c~0d");
    }
}
