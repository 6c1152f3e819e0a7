//! Component schemas: the model's types as they are shown, and as manifests may write them.
//!
//! A manifest may leave out what has a default, so that nothing of a spec is required there by its form.

use super::parts::reference;
use crate::engine::port::{ClassAccount, EventLine, HubStatus, LogLine, SampleLine};
use crate::model::{
    API_VERSION, ArtifactSpec, DeviceSnapshot, DeviceSpec, DeviceStatus, FieldError, Kind, Metadata, NamespaceSpec,
    PlacedSpec, PlacedStatus, Queue, RegionSpec, Rollout, RolloutRequest, TokenSpec, TokenStatus, WorkloadSpec,
    WorkloadStatus,
};
use crate::problem_code::ProblemCode;
use schemars::SchemaGenerator;
use schemars::generate::{Contract, SchemaSettings};
use serde_json::{Map, Value, json};

/// Behind the names of what manifests may write.
const INPUT: &str = "Input";

fn generator(contract: Contract) -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
        settings.contract = contract;
    });
    settings.into_generator()
}

/// Takes `required` out and lets references lead to the input forms.
fn as_input(value: &mut Value) {
    match value {
        Value::Object(map) => {
            // A schema's own list, not a property that has this name.
            if map.get("required").is_some_and(Value::is_array) {
                map.remove("required");
            }
            if let Some(Value::String(target)) = map.get_mut("$ref") {
                target.push_str(INPUT);
            }
            map.values_mut().for_each(as_input);
        }
        Value::Array(list) => list.iter_mut().for_each(as_input),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn shown_of(kind: Kind, spec: &str, status: Option<&str>) -> Value {
    let mut properties = json!({
        "apiVersion": {"const": API_VERSION},
        "kind": {"const": kind.name()},
        "metadata": reference("Metadata"),
        "spec": reference(spec),
    });
    if let Some(status) = status {
        properties["status"] = reference(status);
    }
    json!({"type": "object", "required": ["apiVersion", "kind", "metadata", "spec"], "properties": properties})
}

fn manifest_of(kind: Kind, spec: &str) -> Value {
    let mut metadata = json!({
        "name": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
        "uid": {"description": "Taken from what was read; ignored"},
        "generation": {"description": "Taken from what was read; ignored"},
        "resourceVersion": {"description": "Taken from what was read; ignored"},
        "creationTimestamp": {"description": "Taken from what was read; ignored"},
    });
    if kind.is_namespaced() {
        metadata["namespace"] = json!({"type": "string"});
    }
    let mut required = vec!["apiVersion", "kind", "metadata"];
    if kind != Kind::Namespace {
        required.push("spec");
    }
    json!({
        "type": "object", "required": required, "additionalProperties": false,
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": kind.name()},
            "metadata": {
                "type": "object", "required": ["name"], "additionalProperties": false, "properties": metadata,
            },
            "spec": reference(&format!("{spec}{INPUT}")),
            "status": {"description": "Taken from what was read; ignored"},
        },
    })
}

fn list_of(kind: Kind) -> Value {
    json!({
        "type": "object", "required": ["apiVersion", "kind", "metadata", "items"],
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": format!("{}List", kind.name())},
            "metadata": reference("ListMetadata"),
            "items": {"type": "array", "items": reference(kind.name())},
        },
    })
}

/// Spec and status of each kind, by the names of their types.
fn types(kind: Kind) -> (&'static str, Option<&'static str>) {
    match kind {
        Kind::Namespace => ("NamespaceSpec", None),
        Kind::Region => ("RegionSpec", None),
        Kind::Device => ("DeviceSpec", Some("DeviceStatus")),
        Kind::Workload => ("WorkloadSpec", Some("WorkloadStatus")),
        Kind::Artifact => ("ArtifactSpec", None),
        Kind::Placement => ("PlacedSpec", Some("PlacedStatus")),
        Kind::Token => ("TokenSpec", Some("TokenStatus")),
    }
}

pub(super) fn all() -> Map<String, Value> {
    let mut shown = generator(Contract::Serialize);
    shown.subschema_for::<Metadata>();
    shown.subschema_for::<NamespaceSpec>();
    shown.subschema_for::<RegionSpec>();
    shown.subschema_for::<DeviceSpec>();
    shown.subschema_for::<DeviceStatus>();
    shown.subschema_for::<WorkloadSpec>();
    shown.subschema_for::<WorkloadStatus>();
    shown.subschema_for::<ArtifactSpec>();
    shown.subschema_for::<PlacedSpec>();
    shown.subschema_for::<PlacedStatus>();
    shown.subschema_for::<TokenSpec>();
    shown.subschema_for::<TokenStatus>();
    shown.subschema_for::<FieldError>();
    shown.subschema_for::<LogLine>();
    shown.subschema_for::<EventLine>();
    shown.subschema_for::<SampleLine>();
    shown.subschema_for::<ClassAccount>();
    shown.subschema_for::<HubStatus>();
    shown.subschema_for::<Queue>();
    shown.subschema_for::<DeviceSnapshot>();
    shown.subschema_for::<Rollout>();
    shown.subschema_for::<RolloutRequest>();
    let mut all = shown.take_definitions(true);
    let mut written = generator(Contract::Deserialize);
    written.subschema_for::<NamespaceSpec>();
    written.subschema_for::<RegionSpec>();
    written.subschema_for::<DeviceSpec>();
    written.subschema_for::<WorkloadSpec>();
    for (name, mut schema) in written.take_definitions(true) {
        as_input(&mut schema);
        all.insert(format!("{name}{INPUT}"), schema);
    }
    for kind in Kind::ALL {
        let (spec, status) = types(kind);
        all.insert(kind.name().to_owned(), shown_of(kind, spec, status));
        all.insert(format!("{}List", kind.name()), list_of(kind));
        if all.contains_key(&format!("{spec}{INPUT}")) {
            all.insert(format!("{}Manifest", kind.name()), manifest_of(kind, spec));
        }
    }
    for (name, schema) in by_hand() {
        all.insert(name.to_owned(), schema);
    }
    let spec = json!({
        "type": "object", "required": ["role"], "additionalProperties": false,
        "properties": {
            "role": reference("TokenRole"),
            "expiresIn": {"type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$", "examples": ["30d"]},
        },
    });
    all.insert("TokenSpecInput".to_owned(), spec);
    all.insert("TokenManifest".to_owned(), manifest_of(Kind::Token, "TokenSpec"));
    all.sort_keys();
    all
}

fn by_hand() -> [(&'static str, Value); 19] {
    let string = || json!({"type": "string"});
    [
        (
            "ListMetadata",
            json!({
                "type": "object", "required": ["resourceVersion"],
                "properties": {
                    "resourceVersion": {"type": "string", "pattern": "^[0-9]+\\.[0-9]+$", "description": "Where a watch goes on"},
                    "continue": {"type": "string", "description": "For the next page; absent at the end"},
                },
            }),
        ),
        (
            "Problem",
            json!({
                "type": "object", "required": ["type", "title", "status", "detail", "code"],
                "description": "RFC 9457.",
                "properties": {
                    "type": string(), "title": string(), "status": {"type": "integer"}, "detail": string(),
                    "code": {"enum": ProblemCode::ALL.map(ProblemCode::as_str).as_slice(), "description": "Stable"},
                    "errors": {"type": "array", "items": reference("FieldError")},
                    "next": {"type": "array", "items": string(), "description": "What to do; commands can be pasted"},
                    "docs": {"type": "string", "description": "Where the documentation has this code"},
                },
            }),
        ),
        (
            "FeatureCollection",
            json!({
                "type": "object", "required": ["type", "features"], "description": "RFC 7946.",
                "properties": {
                    "type": {"const": "FeatureCollection"},
                    "metadata": reference("ListMetadata"),
                    "features": {"type": "array", "items": {
                        "type": "object", "required": ["type", "id", "geometry", "properties"],
                        "properties": {
                            "type": {"const": "Feature"}, "id": string(), "properties": {"type": "object"},
                            "geometry": {"type": ["object", "null"], "properties": {
                                "type": {"enum": ["Point", "Polygon", "MultiPolygon"]}, "coordinates": {"type": "array"},
                            }},
                        },
                    }},
                },
            }),
        ),
        (
            "JoinTokenRequest",
            json!({
                "type": "object", "additionalProperties": false,
                "properties": {
                    "expiresIn": {"type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$"},
                    "approve": {"type": "boolean"},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            }),
        ),
        (
            "JoinToken",
            json!({
                "type": "object", "required": ["token", "id", "expiresMs"],
                "properties": {"token": string(), "id": string(), "expiresMs": {"type": "integer"}},
            }),
        ),
        (
            "RejectionList",
            json!({
                "type": "object", "required": ["apiVersion", "kind", "metadata", "items"],
                "properties": {
                    "apiVersion": {"const": API_VERSION}, "kind": {"const": "RejectionList"},
                    "metadata": reference("ListMetadata"),
                    "items": {"type": "array", "items": {
                        "type": "object", "required": ["id", "name", "rejected"],
                        "properties": {
                            "id": {"type": "string", "description": "Of the key"},
                            "name": {"type": "string", "description": "What the device called itself"},
                            "rejected": {"type": "string", "description": "RFC 3339"},
                        },
                    }},
                },
            }),
        ),
        (
            "Relocation",
            json!({"oneOf": [
                {
                    "type": "object", "required": ["point"], "additionalProperties": false,
                    "properties": {"point": reference("Point"), "uncertaintyM": {"type": "integer", "minimum": 0}},
                },
                {
                    "type": "object", "required": ["reset"], "additionalProperties": false,
                    "properties": {"reset": {"const": true, "description": "The device's own word counts again"}},
                },
            ]}),
        ),
        (
            "Decommission",
            json!({
                "type": "object", "additionalProperties": false,
                "properties": {"force": {"type": "boolean", "description": "Do not wait for the device"}},
            }),
        ),
        (
            "QueuedId",
            json!({
                "type": "object", "required": ["id"], "additionalProperties": false,
                "properties": {"id": {"type": "string", "description": "As the queue shows it"}},
            }),
        ),
        (
            "ConfirmedLoss",
            json!({
                "type": "object", "required": ["confirmed", "devices"],
                "properties": {
                    "confirmed": {"type": "boolean", "description": "False: no verdict was held back, and nothing was done"},
                    "devices": {"type": "integer"},
                },
            }),
        ),
        (
            "HubDecision",
            json!({
                "type": "object", "additionalProperties": false,
                "properties": {"devices": {
                    "type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": crate::api::DEVICES_NAMED_MAX,
                    "description": "Names; all devices without it",
                }},
            }),
        ),
        (
            "HubTakeover",
            json!({
                "type": "object", "required": ["confirm"], "additionalProperties": false,
                "properties": {"confirm": {"const": true, "description": "The other hub is ended, or is to stay silent"}},
            }),
        ),
        (
            "PlanRequest",
            json!({
                "type": "object", "required": ["documents"], "additionalProperties": false,
                "properties": {"documents": {
                    "type": "array", "items": {"type": "object"}, "minItems": 1, "maxItems": crate::engine::PLAN_DOCUMENTS_MAX,
                }},
            }),
        ),
        (
            "Plan",
            json!({
                "type": "object", "required": ["apiVersion", "kind", "spec", "digest"],
                "properties": {
                    "apiVersion": {"const": API_VERSION}, "kind": {"const": "Plan"},
                    "spec": {"type": "object"}, "status": {"type": "object"}, "digest": string(),
                },
            }),
        ),
        (
            "AppliedPlan",
            json!({
                "type": "object", "required": ["apiVersion", "kind", "status", "digest"],
                "properties": {"kind": {"const": "AppliedPlan"}, "status": {"type": "object"}, "digest": string()},
            }),
        ),
        (
            "WhatIf",
            json!({
                "type": "object", "required": ["workload"], "additionalProperties": false,
                "properties": {
                    "workload": {"type": ["string", "object"], "description": "A name, or a manifest"},
                    "namespace": string(), "device": string(),
                    "near": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
                    "maxKm": {"type": "number", "minimum": 0, "description": "In place of the workload's own limit; goes with near"},
                    "overrides": {"type": "object", "additionalProperties": {"type": "object"}},
                },
            }),
        ),
        (
            "WhoAmI",
            json!({
                "type": "object", "required": ["name", "role", "namespace"],
                "properties": {
                    "name": string(), "role": {"enum": ["admin", "viewer"]}, "namespace": {"type": "null"},
                    "allowed": {"type": "boolean"},
                },
            }),
        ),
        (
            "UploadedArtifact",
            json!({
                "type": "object", "required": ["reference", "digest", "bytes"],
                "properties": {"reference": string(), "digest": string(), "bytes": {"type": "integer"}},
            }),
        ),
        ("Explanation", json!({"type": "object", "required": ["text"], "properties": {"text": string()}})),
    ]
}
