//! What every object has: kind, key, metadata, conditions; and the place of a mistake in a document.
//!
//! Nothing here may know what a particular kind means.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The kinds of objects that the API shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// First, because everything else may be in one.
    Namespace,
    Region,
    Device,
    Artifact,
    Workload,
    /// Derived: a workload on a device.
    Placement,
    Token,
}

impl Kind {
    pub const ALL: [Self; 7] =
        [Self::Namespace, Self::Region, Self::Device, Self::Artifact, Self::Workload, Self::Placement, Self::Token];

    /// As in a manifest.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Region => "Region",
            Self::Device => "Device",
            Self::Artifact => "Artifact",
            Self::Workload => "Workload",
            Self::Placement => "Placement",
            Self::Token => "Token",
        }
    }

    /// As in messages and on the command line.
    pub const fn singular(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Region => "region",
            Self::Device => "device",
            Self::Artifact => "artifact",
            Self::Workload => "workload",
            Self::Placement => "placement",
            Self::Token => "token",
        }
    }

    /// As in URLs.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Namespace => "namespaces",
            Self::Region => "regions",
            Self::Device => "devices",
            Self::Artifact => "artifacts",
            Self::Workload => "workloads",
            Self::Placement => "placements",
            Self::Token => "tokens",
        }
    }

    pub const fn is_namespaced(self) -> bool {
        match self {
            Self::Namespace | Self::Region | Self::Device | Self::Token => false,
            Self::Artifact | Self::Workload | Self::Placement => true,
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Names one object. The namespace is empty for what is hub-wide.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
}

impl ObjectKey {
    pub fn namespace(name: &str) -> Self {
        Self { kind: Kind::Namespace, namespace: String::new(), name: name.to_owned() }
    }

    pub fn region(name: &str) -> Self {
        Self { kind: Kind::Region, namespace: String::new(), name: name.to_owned() }
    }

    pub fn device(name: &str) -> Self {
        Self { kind: Kind::Device, namespace: String::new(), name: name.to_owned() }
    }

    pub fn workload(namespace: &str, name: &str) -> Self {
        Self { kind: Kind::Workload, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub fn artifact(namespace: &str, name: &str) -> Self {
        Self { kind: Kind::Artifact, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// `workload/default/hello`, `device/gw-1`.
impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.kind.singular();
        if self.namespace.is_empty() {
            write!(f, "{kind}/{}", self.name)
        } else {
            write!(f, "{kind}/{}/{}", self.namespace, self.name)
        }
    }
}

/// `metadata`. What the hub fills in is empty in what operators write.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Counts changes of the spec, from 1.
    #[serde(default)]
    pub generation: u64,
    /// The commit that last changed it; in text, compared for equality only.
    #[serde(default)]
    pub resource_version: String,
    /// RFC 3339.
    #[serde(default)]
    pub creation_timestamp: String,
}

/// Any object as shown, with the parts of its kind left as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    pub api_version: String,
    pub kind: Kind,
    pub metadata: Metadata,
    pub spec: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub status: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

/// One judgement about an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Condition {
    #[serde(rename = "type")]
    pub name: String,
    pub status: ConditionStatus,
    /// Stable, in CamelCase.
    pub reason: String,
    pub message: String,
}

/// One mistake in a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldError {
    /// JSON pointer (RFC 6901).
    pub pointer: String,
    pub detail: String,
}
