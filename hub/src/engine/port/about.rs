//! What the hub says about itself, as plain data.

use crate::model::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The hub about itself: `GET /v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HubStatus {
    pub fleet: String,
    pub incarnation: u32,
    pub resource_version: u64,
    /// The hub's own connection to the broker.
    pub link: bool,
    pub devices: u32,
    pub devices_online: u32,
    pub devices_unapproved: u32,
    pub regions: u32,
    pub workloads: u32,
    pub artifacts: u32,
    /// Messages that were not authentic, malformed or of an old session, since start.
    pub messages_refused: u64,
    /// Batches that wait for the writer.
    pub commits_pending: u32,
    /// The last batch became durable, or none was tried yet.
    #[serde(default)]
    pub writable: bool,
    /// Exclusive work may be granted now.
    #[serde(default)]
    pub may_grant: bool,
    /// What was said in this database's name and is not in it, if there is such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<RecoveryStatus>,
    /// What needs attention.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Of the API and the broker, if one of them speaks TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateStatus>,
}

/// A database that is older than what its devices have seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryStatus {
    /// `Restored`, `Behind`, `Ahead` or `SecondHub`.
    pub cause: String,
    pub since: String,
    /// What devices get that hold more than the hub knows: `hold`, what they have, or `apply`, what the hub knows.
    pub decision: String,
    /// Nothing exclusive is granted for so long.
    pub grants_paused_s: u64,
    pub devices_ahead: u32,
    /// Not heard of since this hub started: each of them may be ahead.
    pub devices_unheard: u32,
    /// The first of those that are ahead.
    pub ahead: Vec<AheadDevice>,
}

/// A device that says that it holds more than the hub knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AheadDevice {
    pub device: String,
    /// As it says.
    pub revision: String,
    /// `Asked` for its proof, `Held` with one, or `Unproven`.
    pub state: String,
}

/// The certificate that the hub shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// SHA-256 of the certificate of the authority that clients have to trust.
    pub authority: String,
    /// The operator's, not one of the development authority.
    pub is_own: bool,
    /// Never, if it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}
