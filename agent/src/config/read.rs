//! The file: TOML with sections, every key with its place. Keeps going after a mistake, so that all are told at once.
//!
//! Must never judge what a value means: that is its key's.
use super::{CONFIG_BYTES_MAX, KEYS, Key, Problem};
use crate::disk;
use std::io;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Mistakes that are told; a file with more is not a configuration.
const PROBLEMS_MAX: usize = 50;
/// A name that is further away from each known one is not a slip of the pen.
const STEPS_MAX: usize = 2;

/// Key, text and place.
pub type Value = (&'static Key, String, String);

/// `None`: there is no such file.
pub fn text(path: &Path) -> io::Result<Option<String>> {
    let Some(content) = disk::read_bounded(path, CONFIG_BYTES_MAX)? else { return Ok(None) };
    String::from_utf8(content).map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

struct Reader<'t> {
    file: &'t str,
    text: &'t str,
    values: Vec<Value>,
    /// With where they begin.
    problems: Vec<(usize, Problem)>,
}

/// What the file says, and its mistakes.
pub fn values(file: &str, text: &str) -> (Vec<Value>, Vec<Problem>) {
    let mut reader = Reader { file, text, values: Vec::new(), problems: Vec::new() };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().unwrap_or(0..0);
        reader.problem(&at, format!("this is not TOML: {}", error.message()), "correct the line");
    }
    reader.table("", document.get_ref());
    let Reader { values, mut problems, .. } = reader;
    problems.sort_by_key(|(start, _)| *start);
    problems.truncate(PROBLEMS_MAX);
    (values, problems.into_iter().map(|(_, problem)| problem).collect())
}

impl Reader<'_> {
    fn place(&self, at: &Range<usize>) -> String {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{}:{line}:{column}", self.file)
    }

    fn problem(&mut self, at: &Range<usize>, what: String, next: &str) {
        let problem = Problem { place: self.place(at), what, next: next.to_owned() };
        self.problems.push((at.start, problem));
    }

    fn table(&mut self, section: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name: &str = key.get_ref();
            let full = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
            let is_section = KEYS.iter().any(|key| key.name.split_once('.').is_some_and(|(of, _)| of == full));
            match (value.get_ref(), KEYS.iter().find(|key| key.name == full)) {
                (DeValue::Table(inner), None) if is_section => self.table(&full, inner),
                (_, None) if is_section => {
                    self.problem(
                        &key.span(),
                        format!("{full} is a section"),
                        &format!("write [{full}] and its keys below"),
                    );
                }
                (_, None) => self.unknown(&key.span(), &full),
                (_, Some(known)) => self.value(known, value),
            }
        }
    }

    fn unknown(&mut self, at: &Range<usize>, name: &str) {
        let sections = KEYS.iter().filter_map(|key| key.name.split_once('.').map(|(section, _)| section));
        let names = KEYS.iter().map(|key| key.name).chain(sections);
        let next = match names.map(|known| (distance(name, known), known)).min() {
            Some((steps, known)) if steps <= STEPS_MAX => format!("did you mean {known}?"),
            Some(_) | None => "remove it; `fulmar-agent config show` lists the keys".to_owned(),
        };
        let shown: String = name.chars().take(80).collect();
        self.problem(at, format!("{shown:?} is not a key"), &next);
    }

    fn value(&mut self, key: &'static Key, value: &Spanned<DeValue<'_>>) {
        let text = match value.get_ref() {
            DeValue::String(text) if !key.is_number => text.to_string(),
            DeValue::Integer(number) if key.is_number && number.radix() == 10 => number.as_str().to_owned(),
            other => {
                let what = format!("{} is of the wrong type: {}", key.name, other.type_str());
                self.problem(&value.span(), what, &format!("{} takes {}{}", key.name, key.form, quotes(key)));
                return;
            }
        };
        self.values.push((key, text, self.place(&value.span())));
    }
}

fn quotes(key: &Key) -> &'static str {
    if key.is_number { ", without quotes" } else { ", in quotes" }
}

/// Levenshtein distance over bytes; known names are short.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 2 * b.len() {
        return a.len();
    }
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
