//! A whole document as an operator sends it: envelope, metadata, then the spec of its kind.
//!
//! What the hub fills in itself (status, uid, generation, ...) may be present, so that what was read can be written back,
//! and counts for nothing.

use super::device::{DeviceManifest, read_device};
use super::metadata::{Kind, ObjectKey};
use super::namespace::{NamespaceSpec, read_namespace};
use super::read::{Reader, Refusal, Shape, shown};
use super::region::{RegionSpec, read_region};
use super::token::{TokenManifest, read_token};
use super::workload::WorkloadSpec;
use super::workload_read::read_workload;
use super::{API_VERSION, NAMESPACE_DEFAULT};
use serde_json::Value;
use std::collections::BTreeMap;

/// An accepted document.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub spec: ManifestSpec,
    /// Accepted, but probably not what was meant.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ManifestSpec {
    Namespace(NamespaceSpec),
    Region(RegionSpec),
    Device(DeviceManifest),
    Workload(Box<WorkloadSpec>),
    Token(TokenManifest),
}

const DOCUMENT: Shape = Shape { known: &["apiVersion", "kind", "metadata", "spec", "status"], not_built: &[] };
const METADATA: Shape = Shape {
    known: &[
        "name",
        "namespace",
        "labels",
        "annotations",
        "uid",
        "generation",
        "resourceVersion",
        "creationTimestamp",
        "managedFields",
    ],
    not_built: &["ownerReferences", "finalizers"],
};

impl Manifest {
    /// Judges a document that is to become `key`; all mistakes at once.
    pub fn read(key: &ObjectKey, document: &Value) -> Result<Self, Refusal> {
        let mut reader = Reader::default();
        let mut labels = BTreeMap::new();
        let mut annotations = BTreeMap::new();
        let mut spec = None;
        check_key(&mut reader, key);
        if let Some(map) = reader.object("", document, &DOCUMENT) {
            match map.get("apiVersion") {
                None => reader.error("/apiVersion", format!("missing; write apiVersion: {API_VERSION}")),
                Some(value) => reader.choice("/apiVersion", value, &[(API_VERSION, ())]),
            };
            match map.get("kind") {
                None => reader.error("/kind", format!("missing; write kind: {}", key.kind.name())),
                Some(value) => reader.choice("/kind", value, &[(key.kind.name(), ())]),
            };
            match map.get("metadata") {
                None => reader.error("/metadata", "missing; an object needs metadata with a name").unwrap_or_default(),
                Some(value) => (labels, annotations) = read_metadata(&mut reader, key, value),
            }
            match map.get("spec") {
                // There is nothing that it could say.
                None if key.kind == Kind::Namespace => spec = Some(ManifestSpec::Namespace(NamespaceSpec {})),
                None => reader.error::<()>("/spec", "missing; it says what is wanted").unwrap_or_default(),
                Some(value) => spec = read_spec(&mut reader, key.kind, value),
            }
        }
        let warnings = reader.finish()?;
        match spec {
            Some(spec) => Ok(Self { labels, annotations, spec, warnings }),
            // A spec that is missing has left an error behind; this arm only keeps the function total.
            None => Err(Refusal { errors: Vec::new(), not_built: false }),
        }
    }
}

fn check_key(reader: &mut Reader, key: &ObjectKey) {
    reader.label("/metadata/name", &Value::String(key.name.clone()));
    if key.kind.is_namespaced() {
        reader.label("/metadata/namespace", &Value::String(key.namespace.clone()));
    }
}

type Pairs = BTreeMap<String, String>;

fn read_metadata(reader: &mut Reader, key: &ObjectKey, value: &Value) -> (Pairs, Pairs) {
    let Some(map) = reader.object("/metadata", value, &METADATA) else {
        return Default::default();
    };
    let same = |reader: &mut Reader, pointer: &str, value: &Value, expected: &str| {
        if let Some(text) = reader.text(pointer, value)
            && text != expected
        {
            reader.error::<()>(pointer, format!("{:?} is not {expected:?}, which the address says", shown(text)));
        }
    };
    match map.get("name") {
        None => reader.error("/metadata/name", "missing; an object needs a name").unwrap_or_default(),
        Some(name) => same(reader, "/metadata/name", name, &key.name),
    }
    if let Some(namespace) = map.get("namespace") {
        if key.kind.is_namespaced() {
            let expected = if key.namespace.is_empty() { NAMESPACE_DEFAULT } else { &key.namespace };
            same(reader, "/metadata/namespace", namespace, expected);
        } else {
            let kind = key.kind.name();
            reader
                .error::<()>("/metadata/namespace", format!("a {kind} belongs to the whole hub and has no namespace"));
        }
    }
    let labels = map.get("labels").map(|value| reader.labels("/metadata/labels", value));
    let annotations = map.get("annotations").map(|value| reader.annotations("/metadata/annotations", value));
    (labels.unwrap_or_default(), annotations.unwrap_or_default())
}

fn read_spec(reader: &mut Reader, kind: Kind, value: &Value) -> Option<ManifestSpec> {
    match kind {
        Kind::Namespace => read_namespace(reader, "/spec", value).map(ManifestSpec::Namespace),
        Kind::Region => read_region(reader, "/spec", value).map(ManifestSpec::Region),
        Kind::Device => read_device(reader, "/spec", value).map(ManifestSpec::Device),
        Kind::Workload => {
            read_workload(reader, "/spec", value).map(|workload| ManifestSpec::Workload(Box::new(workload)))
        }
        Kind::Token => read_token(reader, "/spec", value).map(ManifestSpec::Token),
        Kind::Placement => reader.error("/kind", "placements follow from workloads and are only read"),
        Kind::Artifact => reader.error(
            "/kind",
            "artifacts are made by upload: POST the content to /v1/namespaces/<namespace>/artifacts/<name>",
        ),
    }
}
