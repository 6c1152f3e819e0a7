//! Objects as the engine keeps them: the parsed form beside the bytes that are stored.
//!
//! A row is read back by the same types that wrote it. Nothing here may look at the rest of the engine's state.

use super::desired::Encoded;
use crate::commit::ObjectRow;
use crate::model::managed::Managed;
use crate::model::{
    API_VERSION, ArtifactSpec, DevicePosition, DeviceSpec, Kind, Metadata, NamespaceSpec, Object, ObjectKey,
    RegionSpec, TokenSpec, WorkloadSpec,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use wire::Digest;

/// One object, whole. Shared, so that a before-image costs a pointer.
#[derive(Debug)]
pub(super) struct Stored {
    pub key: ObjectKey,
    pub uid: String,
    pub generation: u64,
    pub resource_version: u64,
    pub created_ms: u64,
    pub body: Body,
}

/// The part that an operator or the device determines.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Body {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub spec: Spec,
    /// Who owns which fields.
    pub managed: Vec<Managed>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Spec {
    Namespace(NamespaceSpec),
    Region(RegionSpec),
    Device(DeviceBody),
    Workload(Box<WorkloadBody>),
    Artifact(ArtifactSpec),
    Token(TokenBody),
}

/// A bearer token without its secret.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TokenBody {
    pub spec: TokenSpec,
    pub expires_ms: Option<u64>,
    pub sha256: [u8; 32],
}

#[derive(Serialize, Deserialize)]
struct Grant {
    sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_ms: Option<u64>,
}

/// A device's spec, and what it said of itself that placement must know after a restart.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct DeviceBody {
    pub spec: DeviceSpec,
    pub reported: Reported,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Reported {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub class: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<DevicePosition>,
    /// When it was stored, in milliseconds since 1970.
    #[serde(default)]
    pub position_ms: u64,
    /// Workloads, by number, that were moved away while it was lost, and may go back.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub displaced: BTreeSet<u32>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct WorkloadBody {
    pub spec: WorkloadSpec,
    /// Number on the wire.
    pub id: u32,
    /// The generation that last changed what devices get: a new replica count alone must not restart anything.
    pub record_generation: u32,
    /// Derived; `None` when an artifact is missing.
    pub encoded: Option<Encoded>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    spec: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wire: Option<WireNumbers>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reported: Option<Reported>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grant: Option<Grant>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    managed: Vec<Managed>,
}

#[derive(Serialize, Deserialize)]
struct WireNumbers {
    id: u32,
    generation: u32,
}

impl Spec {
    fn value(&self) -> Value {
        let value = match self {
            Self::Namespace(spec) => serde_json::to_value(spec),
            Self::Region(spec) => serde_json::to_value(spec),
            Self::Device(body) => serde_json::to_value(&body.spec),
            Self::Workload(body) => serde_json::to_value(&body.spec),
            Self::Artifact(spec) => serde_json::to_value(spec),
            Self::Token(body) => serde_json::to_value(&body.spec),
        };
        // Maps with text keys and finite numbers only: serialising cannot fail.
        value.unwrap_or_default()
    }
}

impl Body {
    /// The spec as shown.
    pub fn spec_value(&self) -> Value {
        self.spec.value()
    }

    /// The bytes of the database row.
    pub fn json(&self) -> Vec<u8> {
        let (wire, reported) = match &self.spec {
            Spec::Workload(body) => (Some(WireNumbers { id: body.id, generation: body.record_generation }), None),
            Spec::Device(body) => (None, Some(body.reported.clone())),
            Spec::Namespace(_) | Spec::Region(_) | Spec::Artifact(_) | Spec::Token(_) => (None, None),
        };
        let grant = match &self.spec {
            Spec::Token(body) => {
                let sha256 = data_encoding::HEXLOWER.encode(&body.sha256);
                Some(Grant { sha256, expires_ms: body.expires_ms })
            }
            Spec::Namespace(_) | Spec::Region(_) | Spec::Artifact(_) | Spec::Device(_) | Spec::Workload(_) => None,
        };
        let document = Document {
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
            spec: self.spec.value(),
            wire,
            reported,
            grant,
            managed: self.managed.clone(),
        };
        serde_json::to_vec(&document).unwrap_or_default()
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.json())
    }
}

impl Stored {
    /// `None` for a row that this build cannot read.
    pub fn from_row(row: &ObjectRow) -> Option<Self> {
        let kind = Kind::parse(&row.kind)?;
        let document: Document = serde_json::from_slice(&row.json).ok()?;
        let spec = match kind {
            Kind::Namespace => Spec::Namespace(serde_json::from_value(document.spec).ok()?),
            Kind::Region => Spec::Region(serde_json::from_value(document.spec).ok()?),
            Kind::Artifact => Spec::Artifact(serde_json::from_value(document.spec).ok()?),
            Kind::Placement => return None,
            Kind::Token => {
                let Grant { sha256, expires_ms } = document.grant?;
                let sha256 = data_encoding::HEXLOWER.decode(sha256.as_bytes()).ok()?.try_into().ok()?;
                Spec::Token(TokenBody { spec: serde_json::from_value(document.spec).ok()?, expires_ms, sha256 })
            }
            Kind::Device => {
                let spec = serde_json::from_value(document.spec).ok()?;
                Spec::Device(DeviceBody { spec, reported: document.reported.unwrap_or_default() })
            }
            Kind::Workload => {
                let WireNumbers { id, generation: record_generation } = document.wire?;
                let spec = serde_json::from_value(document.spec).ok()?;
                Spec::Workload(Box::new(WorkloadBody { spec, id, record_generation, encoded: None }))
            }
        };
        Some(Self {
            key: ObjectKey { kind, namespace: row.namespace.clone(), name: row.name.clone() },
            uid: row.uid.clone(),
            generation: row.generation,
            resource_version: row.resource_version,
            created_ms: row.created_ms,
            body: Body { labels: document.labels, annotations: document.annotations, spec, managed: document.managed },
        })
    }

    pub fn device(&self) -> Option<&DeviceBody> {
        match &self.body.spec {
            Spec::Device(body) => Some(body),
            Spec::Namespace(_) | Spec::Region(_) | Spec::Workload(_) | Spec::Artifact(_) | Spec::Token(_) => None,
        }
    }

    pub fn workload(&self) -> Option<&WorkloadBody> {
        match &self.body.spec {
            Spec::Workload(body) => Some(body),
            Spec::Namespace(_) | Spec::Region(_) | Spec::Device(_) | Spec::Artifact(_) | Spec::Token(_) => None,
        }
    }

    pub fn artifact(&self) -> Option<&ArtifactSpec> {
        match &self.body.spec {
            Spec::Artifact(spec) => Some(spec),
            Spec::Namespace(_) | Spec::Region(_) | Spec::Device(_) | Spec::Workload(_) | Spec::Token(_) => None,
        }
    }

    /// The document as shown.
    pub fn document(&self, status: Value) -> Value {
        let object = Object {
            api_version: API_VERSION.to_owned(),
            kind: self.key.kind,
            metadata: Metadata {
                name: self.key.name.clone(),
                namespace: self.key.namespace.clone(),
                labels: self.body.labels.clone(),
                annotations: self.body.annotations.clone(),
                uid: self.uid.clone(),
                generation: self.generation,
                resource_version: self.resource_version.to_string(),
                creation_timestamp: timestamp(self.created_ms),
            },
            spec: self.body.spec.value(),
            status,
        };
        serde_json::to_value(object).unwrap_or_default()
    }
}

/// RFC 3339 in UTC; empty for what is no time of the calendar.
pub fn timestamp(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms).ok();
    ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).map(|time| time.to_string()).unwrap_or_default()
}
