//! `edit`: an object in the operator's editor, written back if it is still the one that was read.
//!
//! What was written is never lost: a refused text stays in its file, which is named.

use crate::args::{Files, Global, One};
use crate::client::Client;
use crate::code::Code;
use crate::failure::{Failure, system};
use crate::get::read;
use crate::manifest;
use crate::output::{line, warn, yaml};
use crate::show::{number, text};
use crate::target::{Target, parse_one};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const HEAD: &str = "# Save and leave the editor to write this back. Nothing happens if it is unchanged or empty.\n";

pub fn run(global: &Global, args: &One) -> Result<(), Failure> {
    let target = parse_one(&args.kind, args.name.as_deref(), &global.namespace)?;
    let client = &Client::connect(global)?;
    let object = read(client, &target, false)?;
    let version = text(&object, "/metadata/resourceVersion");
    let before = format!("{HEAD}{}", yaml(&editable(&object))?);
    let mut file = tempfile::Builder::new()
        .prefix(&format!("fulmar-{}-", target.name))
        .suffix(".yaml")
        .tempfile()
        .map_err(|error| system("cannot make a file for the editor", &error))?;
    let path = file.path().to_owned();
    file.write_all(before.as_bytes()).map_err(|error| system(format!("cannot write {}", path.display()), &error))?;
    open_editor(&path)?;
    let after = std::fs::read_to_string(&path).map_err(|error| manifest::file_failure(&path, &error.to_string()))?;
    if after == before || after.lines().all(|line| line.trim().is_empty() || line.starts_with('#')) {
        return line(&format!("{target} unchanged: nothing was edited"));
    }
    match write_back(client, &target, &path, &version, global) {
        Ok(outcome) => line(&outcome),
        Err(failure) => Err(kept(failure, file)),
    }
}

/// What people may change, and what names the object.
fn editable(object: &Value) -> Value {
    let part = |pointer: &str| object.pointer(pointer).cloned();
    let mut metadata = json!({});
    for name in ["name", "namespace", "labels", "annotations"] {
        if let Some(value) = part(&format!("/metadata/{name}")) {
            metadata[name] = value;
        }
    }
    json!({"apiVersion": object.get("apiVersion"), "kind": object.get("kind"), "metadata": metadata, "spec": object.get("spec")})
}

fn open_editor(path: &Path) -> Result<(), Failure> {
    crate::output::may_ask("the new text")?;
    let named = ["VISUAL", "EDITOR"].iter().filter_map(|name| std::env::var(name).ok()).find(|text| !text.is_empty());
    let editor = named.unwrap_or_else(|| "vi".to_owned());
    let mut words = editor.split_whitespace();
    let failure = |why: String| {
        Failure::new(Code::Editor, format!("the editor {editor:?} did not do its work"))
            .why(why)
            .next("EDITOR=nano fulmar edit ...")
    };
    let status = Command::new(words.next().unwrap_or("vi")).args(words).arg(path).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failure(format!("it ended with {status}; nothing was changed"))),
        Err(error) => Err(failure(error.to_string())),
    }
}

fn write_back(
    client: &Client,
    target: &Target,
    path: &Path,
    version: &str,
    global: &Global,
) -> Result<String, Failure> {
    let documents = manifest::read(&Files::of(path), &global.namespace)?;
    let [document] = documents.as_slice() else { return Err(Failure::usage("the text is more than one document")) };
    if document.target != *target {
        return Err(Failure::usage(format!("the text is about {}, not {target}", document.target))
            .why("kind, name and namespace of an object stay as they are"));
    }
    let written = client
        .put(&target.path(), &document.value, Some(version))
        .map_err(|failure| document.source.locate(failure))?;
    written.warnings.iter().for_each(|warning| warn(&format!("warning: {target}: {warning}")));
    let generation = number(&written.document, "/metadata/generation");
    let outcome = if written.outcome == "updated" { "configured" } else { &written.outcome };
    Ok(format!("{target} {outcome} (generation {generation})"))
}

/// Keeps the text, and says where it is.
fn kept(failure: Failure, file: tempfile::NamedTempFile) -> Failure {
    let path: PathBuf = match file.keep() {
        Ok((_, path)) => path,
        Err(error) => return failure.why(format!("the text could not be kept: {error}")),
    };
    let path = path.display();
    match failure.code.as_str() {
        "STALE" => failure.why(format!("your text is in {path}")).next(format!("fulmar diff -f {path}")),
        _ => failure
            .why(format!("nothing was changed; your text is in {path}"))
            .next(format!("correct it, then: fulmar apply -f {path}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_what_people_may_change_and_no_more() {
        let object = json!({"apiVersion": "fulmar/v1", "kind": "Region", "metadata": {"name": "a", "uid": "u", "resourceVersion": "7", "labels": {"x": "y"}}, "spec": {"n": 1}, "status": {}});
        let text = editable(&object);
        assert_eq!(
            text,
            json!({"apiVersion": "fulmar/v1", "kind": "Region", "metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {"n": 1}})
        );
        assert!(crate::changes::between(&object, &text).is_empty());
    }
}
