//! `artifact: file:PATH` in a manifest: the file is uploaded, and the manifest pinned to its content.
//!
//! A hash that the hub has already is not sent again. What runs is named by content, never by a path.

use crate::client::Client;
use crate::code::Code;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::manifest::Document;
use crate::target::{Target, with_query};
use hub::model::Kind;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

const SCHEME: &str = "file:";
/// Bytes of a DNS label.
const NAME_BYTES_MAX: usize = 63;
/// Bytes that are hashed at once.
const PIECE_BYTES: usize = 64 * 1024;

/// A file that a manifest names, before it is known to the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    pub path: PathBuf,
    pub target: Target,
    /// `sha256:<hexadecimal>`.
    pub digest: String,
    pub bytes: u64,
}

impl Pin {
    /// What a workload refers to.
    pub fn reference(&self) -> String {
        format!("{}@{}", self.target.name, self.digest)
    }
}

/// What an upload did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upload {
    Uploaded,
    Unchanged,
}

impl Upload {
    pub const fn text(self) -> &'static str {
        match self {
            Self::Uploaded => "uploaded",
            Self::Unchanged => "unchanged",
        }
    }
}

/// The JSON pointers of a workload's `file:` references.
pub fn file_pointers(document: &Document) -> Vec<String> {
    if document.target.kind != Kind::Workload {
        return Vec::new();
    }
    let components = document.value.pointer("/spec/components").and_then(Value::as_array).map_or(0, Vec::len);
    std::iter::once("/spec/artifact".to_owned())
        .chain((0..components).map(|index| format!("/spec/components/{index}/artifact")))
        .filter(|pointer| {
            document.value.pointer(pointer).and_then(Value::as_str).is_some_and(|t| t.starts_with(SCHEME))
        })
        .collect()
}

/// What the `file:` references of a workload are uploaded as.
pub fn named(document: &Document) -> Vec<Target> {
    let pointers = file_pointers(document).into_iter();
    let mut names: Vec<String> = pointers
        .filter_map(|pointer| {
            let path = document.value.pointer(&pointer)?.as_str()?.strip_prefix(SCHEME)?;
            label(Path::new(path).file_stem()?.to_str()?)
        })
        .collect();
    names.sort();
    names.dedup();
    names.iter().map(|name| Target::new(Kind::Artifact, &document.target.namespace, name)).collect()
}

/// The file that a `file:` reference means; nothing if it is another kind of reference.
pub fn path_of(reference: &str, folder: &Path) -> Option<PathBuf> {
    reference.strip_prefix(SCHEME).map(|file| folder.join(file))
}

/// Replaces every `file:` reference by the pinned one; gives back the files, each once.
pub fn pin(documents: &mut [Document]) -> Result<Vec<Pin>, Failure> {
    let mut pins: BTreeMap<(PathBuf, String), Pin> = BTreeMap::new();
    let mut mistakes = Failure::new(Code::Artifact, "an artifact of a manifest cannot be read");
    for document in documents {
        for pointer in file_pointers(document) {
            let text = document.value.pointer(&pointer).and_then(Value::as_str).unwrap_or_default();
            let path = path_of(text, &document.folder).unwrap_or_else(|| document.folder.join(text));
            let key = (path.clone(), document.target.namespace.clone());
            let known = pins.get(&key).cloned();
            match known.map_or_else(|| measure(&path, &document.target.namespace), Ok) {
                Ok(pin) => {
                    if let Some(place) = document.value.pointer_mut(&pointer) {
                        *place = Value::String(pin.reference());
                    }
                    pins.insert(key, pin);
                }
                Err(detail) => mistakes.places.push(document.source.place(&pointer, &detail)),
            }
        }
    }
    if mistakes.places.is_empty() { Ok(pins.into_values().collect()) } else { Err(mistakes) }
}

/// What a file is for the hub.
pub fn measure(path: &Path, namespace: &str) -> Result<Pin, String> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let name = label(stem)
        .ok_or_else(|| format!("the name of {} gives no artifact name: it needs a letter or digit", path.display()))?;
    let unreadable = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut file = File::open(path).map_err(unreadable)?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = file.read(&mut piece).map_err(unreadable)?;
        if count == 0 {
            break;
        }
        hash.update(piece.get(..count).unwrap_or_default());
        bytes += count as u64;
    }
    let mut digest = "sha256:".to_owned();
    for byte in hash.finalize() {
        let _ = write!(digest, "{byte:02x}");
    }
    Ok(Pin { path: path.to_owned(), target: Target::new(Kind::Artifact, namespace, &name), digest, bytes })
}

/// A DNS label from any text; `None` if nothing is left.
pub fn label(text: &str) -> Option<String> {
    let mapped: String = text
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .take(NAME_BYTES_MAX)
        .collect();
    let trimmed = mapped.trim_matches('-');
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

/// True if the hub has this very content under this name.
pub fn is_known(client: &Client, pin: &Pin) -> Result<bool, Failure> {
    let document = match client.get(&pin.target.path()) {
        Ok(document) => document,
        Err(failure) if failure.exit == Exit::NotFound => return Ok(false),
        Err(failure) => return Err(failure),
    };
    let versions = document.pointer("/spec/versions").and_then(Value::as_array);
    let is_this = |version: &Value| version.get("digest").and_then(Value::as_str) == Some(&pin.digest);
    Ok(versions.is_some_and(|versions| versions.iter().any(is_this)) || document.get("spec").is_some_and(is_this))
}

/// Sends the file, unless the hub has it.
pub fn upload(client: &Client, pin: &Pin) -> Result<Upload, Failure> {
    if is_known(client, pin)? {
        return Ok(Upload::Unchanged);
    }
    let file = File::open(&pin.path).map_err(|error| crate::manifest::file_failure(&pin.path, &error.to_string()))?;
    let path = with_query(&pin.target.path(), &[("digest", Some(pin.digest.clone()))]);
    client.upload(&path, file).map_err(|failure| failure.why(format!("the file is {}", pin.path.display())))?;
    Ok(Upload::Uploaded)
}

pub fn json(pin: &Pin, upload: Upload) -> Value {
    json!({
        "kind": Kind::Artifact.name(),
        "namespace": pin.target.namespace,
        "name": pin.target.name,
        "outcome": upload.text(),
        "reference": pin.reference(),
        "bytes": pin.bytes,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MANIFEST: &str = "kind: Workload\nmetadata: {name: a}\nspec:\n  components:\n    - {name: one, artifact: \"file:Hello_2.wasm\"}\n    - {name: two, artifact: \"file:Hello_2.wasm\"}\n    - {name: three, artifact: x@sha256:00}\n";

    #[test]
    fn files_are_pinned_to_their_content_and_listed_once() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yaml"), MANIFEST).unwrap();
        std::fs::write(folder.path().join("Hello_2.wasm"), "abc").unwrap();
        let mut documents =
            crate::manifest::read(&crate::args::Files::of(&folder.path().join("a.yaml")), "default").unwrap();
        let pins = pin(&mut documents).unwrap();
        assert_eq!(pins.len(), 1);
        // The test vector of FIPS 180-4.
        let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((pins[0].digest.as_str(), pins[0].bytes), (digest, 3));
        let value = |index: usize| documents[0].value["spec"]["components"][index]["artifact"].clone();
        assert_eq!(value(0), format!("hello-2@{digest}"));
        assert_eq!(value(1), value(0));
        assert_eq!(value(2), "x@sha256:00");
    }

    #[test]
    fn a_missing_file_is_shown_where_the_manifest_names_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yaml"), MANIFEST).unwrap();
        let mut documents =
            crate::manifest::read(&crate::args::Files::of(&folder.path().join("a.yaml")), "default").unwrap();
        let failure = pin(&mut documents).unwrap_err();
        assert_eq!((failure.exit, failure.places.len()), (Exit::Usage, 2));
        assert_eq!(failure.places[1].line, 6);
        assert!(failure.places[1].detail.contains("Hello_2.wasm"), "{}", failure.text());
    }

    #[test]
    fn any_file_name_gives_a_label_or_none() {
        assert_eq!(label("My Function.v2").as_deref(), Some("my-function-v2"));
        assert_eq!(label("__"), None);
        assert_eq!(label(&"x".repeat(100)).map(|name| name.len()), Some(63));
    }
}
