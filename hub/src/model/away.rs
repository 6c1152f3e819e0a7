//! What operators see of devices that are away: what waits for them, and their last word.
//!
//! Shapes only; the engine fills them.

use super::device::Online;
use super::read::{Reader, Shape};
use crate::geo::Point;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Workloads that can be withheld from one device.
pub const WITHHELD_MAX: usize = 64;

/// One version of a workload that a device does not get. It ends with the next change of the workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Withheld {
    pub namespace: String,
    pub workload: String,
    pub generation: u64,
}

const WITHHELD: Shape = Shape { known: &["namespace", "workload", "generation"], not_built: &[] };

pub(super) fn read_withheld(reader: &mut Reader, pointer: &str, value: &Value) -> Option<Withheld> {
    let map = reader.object(pointer, value, &WITHHELD)?;
    let mut field = |name: &str| match map.get(name) {
        Some(value) => Some((format!("{pointer}/{name}"), value)),
        None => reader.error(&format!("{pointer}/{name}"), "missing; `fulmar queue cancel` writes this list"),
    };
    let (namespace, workload, generation) = (field("namespace")?, field("workload")?, field("generation")?);
    Some(Withheld {
        namespace: reader.label(&namespace.0, namespace.1)?,
        workload: reader.label(&workload.0, workload.1)?,
        generation: reader.integer(&generation.0, generation.1, 1..=u64::MAX)?,
    })
}

/// What a device that is away is to do when it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum QueueAction {
    Add,
    Update,
    Remove,
    /// It takes its whole set; what of that it has is not known since the hub started.
    Set,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueuedAction {
    /// `<device>:<namespace>/<workload>`; with `set` the device's name.
    pub id: String,
    pub device: String,
    pub action: QueueAction,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workload: String,
    /// Generation that the device said to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// RFC 3339; empty: not known since the hub started.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub since: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    pub can_cancel: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// All that waits for devices that are away, by device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    pub items: Vec<QueuedAction>,
    /// Left out of the list because of its limit.
    #[serde(default)]
    pub omitted: u32,
}

/// The last word of a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeviceSnapshot {
    pub device: String,
    pub online: Online,
    /// RFC 3339, of its last whole status; empty: none since the hub started.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub taken_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// The revision that it said to hold.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub accepted: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_s: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_free_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_free_bytes: Option<u64>,
    /// As it reported it; over restarts of the hub too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<SnapshotPosition>,
    pub entries: Vec<SnapshotEntry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotPosition {
    pub point: Point,
    pub uncertainty_m: u32,
    /// Since it was last there for certain.
    pub age_ms: u64,
}

/// One component, as the device said it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotEntry {
    /// Empty for a workload that is gone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// `#` and its number for a workload that is gone.
    pub name: String,
    pub component: u8,
    pub state: String,
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    pub generation: u64,
    /// Generation that ran; 0: none.
    pub running: u64,
    pub restarts: u32,
}
