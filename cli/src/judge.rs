//! Manifests judged without a hub, by the hub's own reader, so that all mistakes of all files are told at once.
//!
//! A manifest may be a part of an object: what it leaves out is the hub's to judge. The hub has the last word anyway.

use crate::artifact;
use crate::failure::Place;
use crate::manifest::Document;
use hub::model::{FieldError, Manifest, ObjectKey};
use serde_json::Value;

/// What was found in one document.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    pub mistakes: Vec<Place>,
    pub warnings: Vec<String>,
    pub not_built: bool,
    /// Where more can be read.
    pub next: Option<String>,
}

pub fn judge(document: &Document) -> Judged {
    let target = &document.target;
    let key = ObjectKey { kind: target.kind, namespace: target.namespace.clone(), name: target.name.clone() };
    let refusal = match Manifest::read(&key, &document.value) {
        Ok(manifest) => return Judged { warnings: manifest.warnings, ..Judged::default() },
        Err(refusal) => refusal,
    };
    let files = artifact::file_pointers(document);
    let errors: Vec<FieldError> = refusal
        .errors
        .into_iter()
        .filter(|error| !files.contains(&error.pointer) && is_present(document, error))
        .collect();
    let next = errors.first().map(|error| format!("fulmar explain {}", topic(document, &error.pointer)));
    let not_built = refusal.not_built && errors.iter().any(|error| error.detail.contains("not built yet"));
    let mistakes = errors
        .iter()
        .map(|error| {
            let detail = format!("{}{}", error.detail, swapped(&document.value, error));
            document.source.place(&error.pointer, &detail)
        })
        .collect();
    Judged { mistakes, warnings: Vec::new(), not_built, next }
}

/// True if the mistake is in what is written, and not in what is left out.
fn is_present(document: &Document, error: &FieldError) -> bool {
    let is_about_itself = ["unknown field", "expected"].iter().any(|start| error.detail.starts_with(start));
    match document.value.pointer(&error.pointer) {
        None => error.pointer == "/apiVersion",
        Some(Value::Object(_)) => is_about_itself || error.detail.contains("not built yet"),
        Some(_) => true,
    }
}

/// What a point with an impossible latitude was probably meant to be.
fn swapped(document: &Value, error: &FieldError) -> String {
    if !error.detail.contains("were they swapped?") {
        return String::new();
    }
    // The mistake may point at the coordinate or at the position.
    let around = error.pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
    let position = [error.pointer.as_str(), around].into_iter().find_map(|pointer| {
        let list = document.pointer(pointer)?.as_array()?;
        match list.as_slice() {
            [longitude, latitude, ..] if longitude.is_number() && latitude.is_number() => Some((longitude, latitude)),
            _ => None,
        }
    });
    match position {
        Some((first, second)) if first.as_f64().is_some_and(|degrees| degrees.abs() <= 90.0) => {
            format!("; write [{second}, {first}]")
        }
        Some(_) | None => String::new(),
    }
}

/// What `explain` can say about the place of a mistake.
fn topic(document: &Document, pointer: &str) -> String {
    let mut steps: Vec<&str> = pointer.split('/').skip(1).filter(|step| step.parse::<usize>().is_err()).collect();
    // What is around it: the field itself may not exist.
    steps.pop();
    std::iter::once(document.target.kind.singular()).chain(steps).collect::<Vec<&str>>().join(".")
}
