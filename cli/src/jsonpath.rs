//! `-o jsonpath=...` in the dialect that operators know from kubectl: `{.items[*].metadata.name}`, `{range ...}{end}`, filters.
//!
//! Parsing is total and bounded; what a path does not find is empty, as scripts expect.

use serde_json::Value;
use std::cmp::Ordering;

/// Nested `{range}` of one template.
const RANGE_DEPTH_MAX: usize = 8;
/// Bytes of one template.
const TEMPLATE_BYTES_MAX: usize = 4096;

/// A parsed template.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Vec<Node>);

/// A path into a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    Path(Path),
    Range(Path, Vec<Self>),
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    /// Negative from the end.
    Index(i64),
    All,
    Filter {
        path: Path,
        is_equal: bool,
        wanted: Value,
    },
}

impl Template {
    /// A template, or a bare path without braces.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(format!("a jsonpath has at most {TEMPLATE_BYTES_MAX} bytes"));
        }
        if !text.contains('{') {
            return Ok(Self(vec![Node::Path(Path::parse(text)?)]));
        }
        let mut rest = text;
        let nodes = nodes(&mut rest, 0)?;
        Ok(Self(nodes))
    }

    /// The text for a document, with a line end.
    pub fn render(&self, document: &Value) -> String {
        let mut out = String::new();
        render(&self.0, document, &mut out);
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        out
    }
}

/// Nodes up to the end of the text or, inside a range, its `{end}`.
fn nodes(rest: &mut &str, depth: usize) -> Result<Vec<Node>, String> {
    if depth > RANGE_DEPTH_MAX {
        return Err(format!("at most {RANGE_DEPTH_MAX} ranges are nested"));
    }
    let mut nodes = Vec::new();
    loop {
        let Some((text, after)) = rest.split_once('{') else {
            if depth > 0 {
                return Err("a {range} has no {end}".to_owned());
            }
            nodes.extend((!rest.is_empty()).then(|| Node::Text((*rest).to_owned())));
            return Ok(nodes);
        };
        nodes.extend((!text.is_empty()).then(|| Node::Text(text.to_owned())));
        let end = closing(after).ok_or_else(|| format!("{{{after} has no closing brace"))?;
        let (inside, after) = (after.get(..end).unwrap_or_default().trim(), after.get(end + 1..).unwrap_or_default());
        *rest = after;
        if inside == "end" {
            return if depth > 0 { Ok(nodes) } else { Err("{end} without {range}".to_owned()) };
        }
        if let Some(path) = inside.strip_prefix("range ") {
            let path = Path::parse(path)?;
            nodes.push(Node::Range(path, self::nodes(rest, depth + 1)?));
        } else if inside.starts_with('"') || inside.starts_with('\'') {
            nodes.push(Node::Text(literal(inside)?));
        } else {
            nodes.push(Node::Path(Path::parse(inside)?));
        }
    }
}

/// Where the brace closes, outside of quotes.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '}') => return Some(at),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (_, _) => {}
        }
    }
    None
}

fn literal(text: &str) -> Result<String, String> {
    let quote = text.chars().next().unwrap_or('"');
    let inner = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    let inner = inner.ok_or_else(|| format!("{text} is not a quoted text"))?;
    Ok(inner.replace("\\n", "\n").replace("\\t", "\t"))
}

impl Path {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text.trim();
        rest = rest.strip_prefix(['$', '@']).unwrap_or(rest);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('[') {
                let end = bracket(after).ok_or_else(|| format!("[{after} has no closing bracket"))?;
                steps.push(step(after.get(..end).unwrap_or_default().trim())?);
                rest = after.get(end + 1..).unwrap_or_default();
                continue;
            }
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            match name.trim() {
                "*" => steps.push(Step::All),
                "" if after.starts_with('[') => {}
                // `{.}` is the whole document.
                "" if after.is_empty() && steps.is_empty() => {}
                "" => return Err(format!("{text:?} has a step without a name")),
                name => steps.push(Step::Field(name.to_owned())),
            }
            rest = after;
        }
        Ok(Self(steps))
    }

    /// Everything that the path finds, in order.
    pub fn find<'v>(&self, document: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![document];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.take(value)).collect();
        }
        found
    }

    pub fn first<'v>(&self, document: &'v Value) -> Option<&'v Value> {
        self.find(document).into_iter().next()
    }
}

/// The end of a bracket, over nested ones and quotes.
fn bracket(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0u32, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            (None, '[') => depth += 1,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (_, _) => {}
        }
    }
    None
}

fn step(inside: &str) -> Result<Step, String> {
    if inside == "*" {
        return Ok(Step::All);
    }
    if inside.starts_with(['"', '\'']) {
        return literal(inside).map(Step::Field);
    }
    if let Some(condition) = inside.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        let (path, is_equal, wanted) = match (condition.split_once("!="), condition.split_once("==")) {
            (Some((path, wanted)), _) => (path, false, wanted),
            (None, Some((path, wanted))) => (path, true, wanted),
            (None, None) => return Err(format!("{condition:?} is not a condition: write @.field==\"value\"")),
        };
        let wanted = wanted.trim();
        let wanted = match wanted.starts_with(['"', '\'']) {
            true => Value::String(literal(wanted)?),
            false => serde_json::from_str(wanted).map_err(|_| format!("{wanted} is not a value"))?,
        };
        return Ok(Step::Filter { path: Path::parse(path)?, is_equal, wanted });
    }
    inside.parse().map(Step::Index).map_err(|_| format!("[{inside}] is not an index, a name, * or a condition"))
}

impl Step {
    fn take<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match (self, value) {
            (Self::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
            (Self::Index(index), Value::Array(list)) => {
                let from_end = index.checked_add(i64::try_from(list.len()).unwrap_or(i64::MAX));
                let at = if *index < 0 { from_end } else { Some(*index) };
                at.and_then(|at| usize::try_from(at).ok()).and_then(|at| list.get(at)).into_iter().collect()
            }
            (Self::All, Value::Array(list)) => list.iter().collect(),
            (Self::All, Value::Object(map)) => map.values().collect(),
            (Self::Filter { path, is_equal, wanted }, Value::Array(list)) => {
                list.iter().filter(|item| (path.first(item) == Some(wanted)) == *is_equal).collect()
            }
            (_, _) => Vec::new(),
        }
    }
}

fn render(nodes: &[Node], document: &Value, out: &mut String) {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Path(path) => {
                let texts: Vec<String> = path.find(document).into_iter().map(shown).collect();
                out.push_str(&texts.join(" "));
            }
            Node::Range(path, inner) => path.find(document).into_iter().for_each(|value| render(inner, value, out)),
        }
    }
}

/// Text as it is, but for what could drive a terminal; everything else as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => {
            text.chars().map(|c| if c.is_control() && c != '\t' && c != '\n' { '\u{fffd}' } else { c }).collect()
        }
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// `--sort-by`: a path, with `-` in front the other way round.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    path: Path,
    is_descending: bool,
}

impl Order {
    pub fn parse(text: &str) -> Result<Self, String> {
        let bare = text.trim_start_matches('{').trim_end_matches('}');
        let (bare, is_descending) = bare.strip_prefix('-').map_or((bare, false), |rest| (rest, true));
        Ok(Self { path: Path::parse(bare)?, is_descending })
    }

    /// What has no such field comes last, either way.
    pub fn sort(&self, items: &mut [Value]) {
        items.sort_by(|a, b| match (self.path.first(a), self.path.first(b)) {
            (Some(a), Some(b)) if self.is_descending => compare(b, a),
            (Some(a), Some(b)) => compare(a, b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        });
    }
}

fn compare(a: &Value, b: &Value) -> Ordering {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => shown(a).cmp(&shown(b)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn list() -> Value {
        json!({"items": [
            {"metadata": {"name": "b", "labels": {"a.b/c": "x"}}, "spec": {"n": 10, "on": true}},
            {"metadata": {"name": "a"}, "spec": {"n": 9, "on": false}, "status": {"tags": ["p", "q"]}},
        ]})
    }

    fn shown(template: &str) -> String {
        Template::parse(template).unwrap().render(&list())
    }

    #[test]
    fn templates_of_kubectl_give_the_same_text() {
        assert_eq!(shown("{.items[*].metadata.name}"), "b a\n");
        assert_eq!(shown(".items[0].metadata.name"), "b\n");
        assert_eq!(shown("{.items[-1].status.tags}"), "[\"p\",\"q\"]\n");
        assert_eq!(shown("{range .items[*]}{.metadata.name}{\"\\t\"}{.spec.n}{\"\\n\"}{end}"), "b\t10\na\t9\n");
        assert_eq!(shown("{.items[?(@.spec.on==true)].metadata.name}"), "b\n");
        assert_eq!(shown("{.items[?(@.metadata.name!=\"b\")].spec.n}"), "9\n");
        assert_eq!(shown("{.items[0].metadata.labels['a.b/c']}"), "x\n");
        assert_eq!(shown("names: {$.items[*].metadata.name}!"), "names: b a!\n");
        assert_eq!(shown("{.items[7].nothing}"), "");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in ["{.a", "{range .a}", "{end}", "{.a[x]}", "{.a[0}", "{..a}", "{\"a}", "{.a[?(b)]}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
        assert!(Template::parse(&"{range .a}".repeat(100)).is_err());
    }

    #[test]
    fn sorting_knows_numbers_and_puts_what_lacks_the_field_last() {
        let names = |order: &str| {
            let mut items = list()["items"].as_array().unwrap().clone();
            items.push(json!({"metadata": {"name": "c"}}));
            Order::parse(order).unwrap().sort(&mut items);
            items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect::<String>()
        };
        assert_eq!(names(".spec.n"), "abc");
        assert_eq!(names("-spec.n"), "bac");
        assert_eq!(names("{.metadata.name}"), "abc");
    }

    #[test]
    fn text_of_a_device_does_not_drive_the_terminal() {
        assert_eq!(Template::parse("{.a}").unwrap().render(&json!({"a": "x\u{1b}[2J"})), "x\u{fffd}[2J\n");
    }
}
