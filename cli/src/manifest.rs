//! Manifests: files and directories into documents with their targets, in the order in which they are applied.
//!
//! Only what is needed to address the hub is judged here; everything else is the hub's to judge, and its JSON pointers are
//! turned back into lines. All mistakes of all files are reported at once.

use crate::args::Files;
use crate::code::Code;
use crate::failure::{Failure, Place};
use crate::judge::{self, Judged};
use crate::target::Target;
use crate::yaml::{self, Position, Spans};
use hub::model::{Kind, nearest};
use hub::problem_code::ProblemCode;
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Bytes of one file; the hub takes 64 KiB for one document.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Files of one directory.
const FILES_MAX: usize = 1_000;
/// Folders inside folders, with `-R`.
const FOLDERS_DEPTH_MAX: usize = 32;
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];
/// Bytes of one line that are shown.
const SOURCE_CHARS_MAX: usize = 160;

/// One document.
#[derive(Clone, Debug)]
pub struct Document {
    pub target: Target,
    pub value: Value,
    /// The folder to which `file:` is relative.
    pub folder: PathBuf,
    pub source: Source,
}

/// Where a document was written.
#[derive(Clone, Debug)]
pub struct Source {
    file: Rc<SourceFile>,
    spans: Spans,
}

#[derive(Debug)]
struct SourceFile {
    name: String,
    folder: PathBuf,
    text: String,
}

impl SourceFile {
    fn place(&self, position: Option<Position>, pointer: &str, detail: &str) -> Place {
        let mut place = Place {
            file: self.name.clone(),
            pointer: pointer.to_owned(),
            detail: detail.to_owned(),
            ..Place::default()
        };
        if let Some(Position { line, column, width }) = position {
            let number = usize::try_from(line).unwrap_or(usize::MAX).saturating_sub(1);
            let source = self.text.lines().nth(number).unwrap_or_default().trim_end();
            let shown: String =
                source.chars().take(SOURCE_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
            let left = shown.chars().count().saturating_sub(usize::try_from(column).unwrap_or(1) - 1);
            (place.line, place.column, place.width) = (line, column, width.min(left.max(1)));
            place.source = shown;
        }
        place
    }
}

impl Source {
    /// The place of a JSON pointer into the document.
    pub fn place(&self, pointer: &str, detail: &str) -> Place {
        self.file.place(self.spans.find(pointer), pointer, detail)
    }

    /// A refusal of the hub with its pointers turned into lines.
    pub fn locate(&self, mut failure: Failure) -> Failure {
        for place in &mut failure.places {
            *place = self.place(&place.pointer, &place.detail);
        }
        failure
    }
}

/// Kinds in the order in which they are applied: what others refer to comes first.
const fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::Namespace => 0,
        Kind::Region => 1,
        Kind::Device => 2,
        Kind::Artifact => 3,
        Kind::Workload => 4,
        Kind::Placement | Kind::Token => 5,
    }
}

/// What was read, and what cannot be.
struct Collected {
    documents: Vec<Document>,
    mistakes: Vec<Place>,
}

fn collect(files: &Files, namespace: &str) -> Result<Collected, Failure> {
    let (mut documents, mut mistakes) = (Vec::new(), Vec::new());
    for path in expand(files)? {
        let file = Rc::new(load(&path)?);
        let (parsed, errors) = yaml::parse_all(&file.text);
        mistakes.extend(errors.into_iter().map(|error| file.place(error.position, "", &error.detail)));
        for document in parsed {
            let source = Source { file: Rc::clone(&file), spans: document.spans };
            match target(&document.value, namespace, &source) {
                Ok(target) => {
                    documents.push(Document { target, value: document.value, folder: file.folder.clone(), source });
                }
                Err(places) => mistakes.extend(places),
            }
        }
    }
    mistakes.extend(repeated(&documents));
    Ok(Collected { documents, mistakes })
}

/// Reads files, directories and `-` into documents, in order of application. Judges no more than which objects they are.
pub fn read(files: &Files, namespace: &str) -> Result<Vec<Document>, Failure> {
    finish(files, collect(files, namespace)?, Vec::new())
}

/// Judges every field too, as far as that can be done without the hub.
pub fn read_judged(files: &Files, namespace: &str) -> Result<Vec<Document>, Failure> {
    let collected = collect(files, namespace)?;
    let judged = collected.documents.iter().map(judge::judge).collect();
    finish(files, collected, judged)
}

fn finish(files: &Files, collected: Collected, judged: Vec<Judged>) -> Result<Vec<Document>, Failure> {
    let Collected { mut documents, mut mistakes } = collected;
    let what = "a manifest is not valid";
    let mut failure = match (mistakes.is_empty(), judged.iter().any(|judged| judged.not_built)) {
        (false, _) => Failure::new(Code::Manifest, what),
        (true, true) => Failure::hub(ProblemCode::NotBuiltYet, what),
        (true, false) => Failure::hub(ProblemCode::Invalid, what),
    };
    let mut next = None;
    for judged in judged {
        mistakes.extend(judged.mistakes);
        next = next.or(judged.next);
    }
    if !mistakes.is_empty() {
        failure.places = mistakes;
        failure.next.extend(next);
        return Err(failure);
    }
    if documents.is_empty() {
        let names: Vec<String> = files.files.iter().map(|path| path.display().to_string()).collect();
        return Err(Failure::new(Code::Empty, format!("there is no document in {}", names.join(", "))));
    }
    documents.sort_by_key(|document| rank(document.target.kind));
    Ok(documents)
}

fn repeated(documents: &[Document]) -> Vec<Place> {
    let mut places = Vec::new();
    for (number, document) in (0usize..).zip(documents) {
        if documents.iter().take(number).any(|earlier| earlier.target == document.target) {
            places.push(
                document.source.place("/metadata/name", &format!("{} is described twice", document.target.key())),
            );
        }
    }
    places
}

/// Directories become their manifests, by name.
fn expand(files: &Files) -> Result<Vec<PathBuf>, Failure> {
    let mut all = Vec::new();
    for path in &files.files {
        if !path.is_dir() {
            all.push(path.clone());
            continue;
        }
        let mut inside = Vec::new();
        walk(path, files.recursive, 0, &mut inside)?;
        if inside.is_empty() {
            let why = format!("it has no file that ends in .{}", EXTENSIONS.join(", ."));
            return Err(file_failure(path, &why));
        }
        inside.sort();
        all.extend(inside);
    }
    Ok(all)
}

fn walk(folder: &Path, is_recursive: bool, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    if depth > FOLDERS_DEPTH_MAX {
        return Err(file_failure(folder, &format!("it is more than {FOLDERS_DEPTH_MAX} folders down")));
    }
    let entries = std::fs::read_dir(folder).map_err(|error| file_failure(folder, &error.to_string()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_dir() {
            if is_recursive {
                walk(&path, is_recursive, depth + 1, found)?;
            }
        } else if extension.is_some_and(|text| EXTENSIONS.contains(&text)) {
            found.push(path);
        }
        if found.len() > FILES_MAX {
            return Err(file_failure(folder, &format!("more than {FILES_MAX} manifests")));
        }
    }
    Ok(())
}

fn load(path: &Path) -> Result<SourceFile, Failure> {
    let mut bytes = Vec::new();
    let is_stdin = path == Path::new("-");
    let result = if is_stdin {
        std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
    };
    result.map_err(|error| file_failure(path, &error.to_string()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(file_failure(path, &format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| file_failure(path, "it is not UTF-8"))?;
    let (name, folder) = if is_stdin {
        ("standard input".to_owned(), PathBuf::from("."))
    } else {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        (path.display().to_string(), folder.unwrap_or(Path::new(".")).to_owned())
    };
    Ok(SourceFile { name, folder, text })
}

pub fn file_failure(path: &Path, why: &str) -> Failure {
    Failure::new(Code::File, format!("cannot read {}", path.display())).why(why)
}

/// Which object a document is.
fn target(value: &Value, namespace: &str, source: &Source) -> Result<Target, Vec<Place>> {
    if !value.is_object() {
        return Err(vec![source.place("", "a manifest is an object with apiVersion, kind, metadata and spec")]);
    }
    let mut mistakes = Vec::new();
    let kinds: Vec<&str> = Kind::ALL
        .iter()
        .filter(|kind| !matches!(kind, Kind::Artifact | Kind::Placement | Kind::Token))
        .map(|kind| kind.name())
        .collect();
    let kind = match value.get("kind").and_then(Value::as_str) {
        Some("Artifact") => {
            let detail = "artifacts are made by upload: write artifact: file:PATH in a workload";
            mistakes.push(source.place("/kind", detail));
            None
        }
        Some(text) => Kind::parse(text).or_else(|| {
            let detail = match nearest(text, &kinds) {
                Some(near) => format!("{text:?} is not a kind; did you mean `{near}`?"),
                None => format!("{text:?} is not a kind; known are {}", kinds.join(", ")),
            };
            mistakes.push(source.place("/kind", &detail));
            None
        }),
        None => {
            mistakes.push(source.place("/kind", &format!("kind is missing; one of {}", kinds.join(", "))));
            None
        }
    };
    let name = match value.pointer("/metadata/name").and_then(Value::as_str) {
        Some(name) if !name.is_empty() => Some(name),
        Some(_) | None => {
            mistakes.push(source.place("/metadata/name", "metadata.name is missing; an object needs a name"));
            None
        }
    };
    let namespace = value.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or(namespace);
    match (kind, name) {
        (Some(kind), Some(name)) if mistakes.is_empty() => Ok(Target::new(kind, namespace, name)),
        (_, _) => Err(mistakes),
    }
}

#[cfg(test)]
mod tests;
