//! Devices: what the operator says of one (spec) and what it says of itself (status).
//!
//! A device is made by joining, never by a manifest. Nothing here may decide whether it is alive.

use super::metadata::Condition;
use crate::geo::Point;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceSpec {
    /// The operator's word; wins over what the device reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<DevicePosition>,
    /// Takes nothing new; what it has stays.
    #[serde(default)]
    pub cordoned: bool,
    /// May receive work at all.
    #[serde(default)]
    pub approved: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DevicePosition {
    /// `[longitude, latitude]` in degrees.
    pub point: Point,
    /// Radius that certainly contains the device.
    #[serde(default)]
    pub uncertainty_m: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceStatus {
    /// Base32; client id, user name and topic level.
    pub id: String,
    pub class: String,
    pub architecture: String,
    pub agent_version: String,
    pub online: Online,
    pub revision: RevisionStatus,
    /// What counts for placement: the operator's or the reported one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<DevicePosition>,
    /// `operator` or `device`; empty without a position.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub position_source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    pub workloads: Vec<DeviceWorkload>,
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnlineState {
    Online,
    /// Not heard of in time. What it runs goes on running.
    Unknown,
    /// Not heard of since this hub started, or ever.
    Never,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Online {
    pub state: OnlineState,
    /// RFC 3339; empty: not since this hub started.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_seen: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_age_ms: Option<u64>,
}

/// `<incarnation>.<counter>`; empty: none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    pub desired: String,
    /// What the device says to hold.
    pub accepted: String,
    pub synced: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    pub memory_bytes: u64,
    pub storage_bytes: u64,
    pub records: u32,
    pub body_bytes: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_free_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_free_bytes: Option<u64>,
}

/// One component as the device reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceWorkload {
    pub namespace: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub component: String,
    /// `Running`, `Fetching`, `BackOff`, ...; `Pending`: assigned and not yet reported.
    pub state: String,
    /// Stable code such as `TRAPPED`; `NONE` when there is nothing to say.
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    pub generation: u64,
    /// Generation that runs; 0: none.
    pub running: u64,
    pub restarts: u32,
}
