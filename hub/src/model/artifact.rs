//! Artifacts: content by its hash, under a name. Made by upload, never by a manifest.
//!
//! A name keeps its last versions, because workloads are pinned to hashes and not to names.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use wire::Digest;

/// Versions that one name keeps; the oldest goes first.
pub const ARTIFACT_VERSIONS_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArtifactSpec {
    /// Of the newest version: `sha256:<hexadecimal>`.
    pub digest: String,
    pub bytes: u64,
    /// Newest first, the newest included.
    #[serde(default)]
    pub versions: Vec<ArtifactVersion>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArtifactVersion {
    pub digest: String,
    pub bytes: u64,
}

/// `name@sha256:<64 hexadecimal digits>`, a name of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactReference {
    pub name: String,
    pub digest: Digest,
}

impl ArtifactReference {
    pub fn parse(text: &str) -> Option<Self> {
        let (name, digest) = text.split_once("@sha256:")?;
        let digest = Digest::parse(digest)?;
        wire::topic::is_label(name, wire::limits::NAME_BYTES_MAX).then(|| Self { name: name.to_owned(), digest })
    }
}

impl std::fmt::Display for ArtifactReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@sha256:{}", self.name, self.digest)
    }
}

impl Serialize for ArtifactReference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ArtifactReference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("expected name@sha256:<64 hexadecimal digits>"))
    }
}
