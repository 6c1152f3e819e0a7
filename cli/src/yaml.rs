//! YAML (and JSON, which is YAML) into JSON values, remembering where each field was written.
//!
//! Parsing is bounded and total; keys may not repeat. Nothing here may know what a manifest is.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Spanned};
use std::collections::BTreeMap;

/// Nested lists and objects of one document; the hub takes fewer.
const DEPTH_MAX: usize = 48;
/// Values of one file.
const NODES_MAX: usize = 200_000;
/// Documents of one file.
const DOCUMENTS_MAX: usize = 1_000;

/// Documents of a file with a mistake that are read apart.
const PARTS_MAX: usize = 100;

/// Where something is written. Lines and columns count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub line: u64,
    pub column: u64,
    pub width: usize,
}

/// Positions by JSON pointer: of a field, its key; of an entry of a list, the entry.
#[derive(Clone, Debug, Default)]
pub struct Spans(BTreeMap<String, Position>);

/// One document of a file.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub value: Value,
    pub spans: Spans,
}

/// Why a file is not YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    pub position: Option<Position>,
    pub detail: String,
}

impl Spans {
    /// Of the pointer, or of the nearest thing around it: what is missing has no place of its own.
    pub fn find(&self, pointer: &str) -> Option<Position> {
        let mut pointer = pointer;
        loop {
            if let Some(position) = self.0.get(pointer) {
                return Some(*position);
            }
            pointer = pointer.rsplit_once('/')?.0;
        }
    }
}

/// All documents that can be read, and what is wrong with the others.
pub fn parse_all(text: &str) -> (Vec<Parsed>, Vec<SyntaxError>) {
    let first = match parse(text) {
        Ok(parsed) => return (parsed, Vec::new()),
        Err(error) => error,
    };
    let starts: Vec<usize> =
        (0usize..).zip(text.lines()).filter(|(_, line)| is_marker(line)).map(|(at, _)| at).collect();
    if starts.is_empty() || starts.len() > PARTS_MAX {
        return (Vec::new(), vec![first]);
    }
    let lines: Vec<&str> = text.lines().collect();
    let (mut documents, mut errors) = (Vec::new(), Vec::new());
    let ends = starts.iter().copied().chain([lines.len()]);
    for (start, end) in std::iter::once(0).chain(starts.iter().copied()).zip(ends) {
        // Empty lines in front keep the numbers of the lines.
        let part = lines.get(start..end).unwrap_or_default().join("\n");
        match parse(&format!("{}{part}\n", "\n".repeat(start))) {
            Ok(parsed) => documents.extend(parsed),
            Err(error) => errors.push(error),
        }
    }
    // Apart, each may be read although the whole is not.
    if errors.is_empty() { (documents, vec![first]) } else { (documents, errors) }
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\r']))
}

/// All documents that are not empty.
pub fn parse(text: &str) -> Result<Vec<Parsed>, SyntaxError> {
    let mut options = serde_saphyr::Options::default();
    let mut budget = serde_saphyr::Budget::default();
    budget.max_depth = DEPTH_MAX;
    budget.max_nodes = NODES_MAX;
    budget.max_documents = DOCUMENTS_MAX;
    options.budget = Some(budget);
    options.with_snippet = false;
    let documents: Vec<Spanned<Tree>> = serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let position = error.location().and_then(position);
        let mut detail = error.without_snippet().to_string();
        // The position is given apart; the library repeats it in its own words.
        if let (Some(_), Some(cut)) = (position, detail.find(" at line ")) {
            detail.truncate(cut);
        }
        SyntaxError { position, detail: detail.lines().next().unwrap_or_default().to_owned() }
    })?;
    Ok(documents
        .into_iter()
        .map(|document| {
            let mut spans = BTreeMap::new();
            let start = position(document.referenced);
            spans.extend(start.map(|start| (String::new(), Position { width: 1, ..start })));
            Parsed { value: flatten(document.value, "", &mut spans), spans: Spans(spans) }
        })
        .collect())
}

fn position(location: Location) -> Option<Position> {
    let width = usize::try_from(location.span().len()).unwrap_or(1).max(1);
    (location.line() > 0).then(|| Position { line: location.line(), column: location.column(), width })
}

/// A value with positions in it. Its depth is bounded by the parser.
enum Tree {
    Leaf(Value),
    List(Vec<Spanned<Tree>>),
    Object(Vec<(Spanned<String>, Spanned<Tree>)>),
}

fn flatten(tree: Tree, pointer: &str, spans: &mut BTreeMap<String, Position>) -> Value {
    match tree {
        Tree::Leaf(value) => value,
        Tree::List(items) => Value::Array(
            (0usize..)
                .zip(items)
                .map(|(index, item)| {
                    let place = format!("{pointer}/{index}");
                    // Lists and objects have no useful width.
                    let width = |found: Position| match item.value {
                        Tree::Leaf(_) => found,
                        Tree::List(_) | Tree::Object(_) => Position { width: 1, ..found },
                    };
                    spans.extend(position(item.referenced).map(|found| (place.clone(), width(found))));
                    flatten(item.value, &place, spans)
                })
                .collect(),
        ),
        Tree::Object(fields) => {
            let mut map = Map::new();
            for (key, item) in fields {
                let place = format!("{pointer}/{}", key.value.replace('~', "~0").replace('/', "~1"));
                spans.extend(position(key.referenced).map(|found| (place.clone(), found)));
                let value = flatten(item.value, &place, spans);
                map.insert(key.value, value);
            }
            Value::Object(map)
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a text, number, list or object")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Tree, E> {
        Number::from_f64(value)
            .map(|number| Tree::Leaf(Value::Number(number)))
            .ok_or_else(|| E::custom("infinite numbers and not-a-number have no place in a manifest"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::String(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Tree, A::Error> {
        let mut list: Vec<(Spanned<String>, Spanned<Tree>)> = Vec::new();
        while let Some((key, value)) = fields.next_entry::<Spanned<String>, Spanned<Tree>>()? {
            if list.iter().any(|(known, _)| known.value == key.value) {
                return Err(A::Error::custom(format!("the key `{}` is there twice", key.value)));
            }
            list.push((key, value));
        }
        Ok(Tree::Object(list))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    const TEXT: &str = "# comment\nkind: Region\nspec:\n  circle: {center: [8.5, -50], radiusKm: 1}\n---\n---\nkind: Workload\nspec:\n  list:\n    - name: a\n      n: \"7\"\n    - b\n  empty:\n  yes: true\n";

    fn at(parsed: &Parsed, pointer: &str) -> (u64, u64, usize) {
        let Position { line, column, width } = parsed.spans.find(pointer).unwrap();
        (line, column, width)
    }

    #[test]
    fn documents_become_json_and_empty_ones_are_skipped() {
        let parsed = parse(TEXT).unwrap();
        assert_eq!(parsed.len(), 2);
        assert_eq!(
            parsed[0].value,
            json!({"kind": "Region", "spec": {"circle": {"center": [8.5, -50], "radiusKm": 1}}})
        );
        assert_eq!(
            parsed[1].value,
            json!({"kind": "Workload", "spec": {"list": [{"name": "a", "n": "7"}, "b"], "empty": null, "yes": true}})
        );
    }

    #[test]
    fn positions_count_through_the_whole_file() {
        let parsed = parse(TEXT).unwrap();
        assert_eq!(at(&parsed[0], "/kind"), (2, 1, 4));
        assert_eq!(at(&parsed[0], "/spec/circle/center/1"), (4, 26, 3));
        assert_eq!(at(&parsed[0], "/spec/circle/radiusKm"), (4, 32, 8));
        assert_eq!(at(&parsed[1], "/spec/list/0/n"), (11, 7, 1));
        assert_eq!(at(&parsed[1], "/spec/list/1"), (12, 7, 1));
    }

    #[test]
    fn what_is_missing_is_shown_at_what_is_around_it() {
        let parsed = parse(TEXT).unwrap();
        assert_eq!(at(&parsed[1], "/spec/placement/within/0"), at(&parsed[1], "/spec"));
        assert_eq!(at(&parsed[1], "/metadata"), (7, 1, 1));
    }

    #[test]
    fn mistakes_have_a_line_and_a_column() {
        for (text, line) in
            [("a: 1\nb: [1, 2\nc: 3\n", 3), ("a: 1\n  b: 2\n", 2), ("a: 1\nb: 2\na: 3\n", 3), ("a: \"x\n", 2)]
        {
            let error = parse(text).err().unwrap();
            let position = error.position.unwrap();
            assert_eq!(position.line, line, "{text:?}: {error:?}");
            assert!(!error.detail.is_empty() && !error.detail.contains(" at line"), "{error:?}");
        }
    }

    #[test]
    fn a_mistake_in_one_document_does_not_hide_the_others() {
        let (documents, errors) = parse_all("a: 1\n---\nb: [\n---\nc: 3\nc: 4\n---\nd: 5\n");
        let lines: Vec<u64> = errors.iter().filter_map(|error| Some(error.position?.line)).collect();
        assert_eq!((documents.len(), errors.len()), (2, 2), "{errors:?}");
        assert!(lines[0] >= 3 && lines[0] <= 4 && lines[1] == 6, "{errors:?}");
        assert_eq!(at(&documents[1], "/d").0, 8);
    }

    #[test]
    fn deep_and_exploding_files_are_refused() {
        assert!(parse(&"[".repeat(DEPTH_MAX * 1000)).is_err());
        let deep = format!("{}{}", "[".repeat(DEPTH_MAX + 1), "]".repeat(DEPTH_MAX + 1));
        assert!(parse(&deep).is_err());
        let mut bomb = String::from("a: &a [x, x, x, x, x, x, x, x, x, x]\n");
        for (name, last) in ('b'..='i').zip('a'..) {
            bomb.push_str(&format!("{name}: &{name} [*{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}]\n"));
        }
        assert!(parse(&bomb).is_err());
    }

    #[test]
    fn json_is_yaml() {
        let text = "{\n\t\"kind\": \"Region\",\n\t\"spec\": {\"a\": [1.5, null, true]}\n}\n";
        let parsed = parse(text).unwrap();
        assert_eq!(parsed[0].value, json!({"kind": "Region", "spec": {"a": [1.5, null, true]}}));
        assert_eq!(at(&parsed[0], "/spec/a").0, 3);
    }
}
