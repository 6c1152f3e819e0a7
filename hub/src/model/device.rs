//! Devices: what the operator says of one (spec) and what it says of itself (status).
//!
//! A device is made by joining, never by a manifest. Nothing here may decide whether it is alive.

use super::away::{WITHHELD_MAX, Withheld, read_withheld};
use super::metadata::Condition;
use super::placement::TaintEffect;
use super::placement_read::{EFFECTS, TAINTS_MAX, items, read_key, read_value};
use super::read::{Reader, Refusal, Shape};
use crate::geo::Point;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Largest uncertainty of a position: beyond half the circumference a position says nothing.
pub const UNCERTAINTY_M_MAX: u64 = 20_015_000;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceSpec {
    /// The operator's word; wins over what the device reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<DevicePosition>,
    /// Takes nothing new; what it has stays.
    #[serde(default)]
    pub cordoned: bool,
    /// Takes nothing new and loses what it has.
    #[serde(default)]
    pub draining: bool,
    /// As `draining`, and deleted when it holds nothing any more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub decommissioning: bool,
    /// May receive work at all.
    #[serde(default)]
    pub approved: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Keep work off that does not tolerate them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<DeviceTaint>,
    /// What `fulmar queue cancel` took back: workloads that it does not get until they change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<Withheld>,
}

impl DeviceSpec {
    /// Loses what it has.
    pub fn is_leaving(&self) -> bool {
        self.draining || self.decommissioning
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceTaint {
    pub key: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    pub effect: TaintEffect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DevicePosition {
    /// `[longitude, latitude]` in degrees.
    pub point: Point,
    /// Radius that certainly contains the device.
    #[serde(default)]
    pub uncertainty_m: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeviceStatus {
    /// Base32; client id, user name and topic level.
    pub id: String,
    pub class: String,
    pub architecture: String,
    pub agent_version: String,
    pub online: Online,
    /// Since the agent's start: as reported, and grown since while it is online.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_s: Option<u64>,
    pub revision: RevisionStatus,
    /// What counts for placement: the operator's or the reported one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<DevicePosition>,
    /// `operator` or `device`; empty without a position.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub position_source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// What functions may be given there: `log`, `gpio`, ...
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<String>,
    /// Of a microcontroller: why it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reset: Option<LastReset>,
    /// Of a microcontroller: its flash.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wear: Vec<FlashWear>,
    /// Of a leaf: the gateway that relays for it, as that says itself. Its name, or its id if this fleet has no such device.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub behind: String,
    pub workloads: Vec<DeviceWorkload>,
    /// Of a board that takes updates; nothing until it has said it since this hub's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<super::DeviceFirmware>,
    /// What became of the alarms, states and metrics of its functions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<crate::engine::port::ClassAccount>,
    /// The latest states and metrics.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latest: Vec<crate::engine::port::SampleLine>,
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnlineState {
    Online,
    /// Not heard of in time. What it runs goes on running.
    Unknown,
    /// Not heard of since this hub started, or ever.
    Never,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Online {
    pub state: OnlineState,
    /// RFC 3339; empty: not since this hub started.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_seen: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_age_ms: Option<u64>,
    /// What the silence counts as; only of a device that is not heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Silence>,
}

/// What the silence of a device counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Silence {
    /// Its connection ended or its heartbeats stopped, just now or while no verdict is made.
    Suspect,
    /// Its work may be moved, as each workload says.
    Lost,
}

/// `<incarnation>.<counter>`; empty: none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    pub desired: String,
    /// What the device says to hold.
    pub accepted: String,
    pub synced: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastReset {
    /// `power-on`, `brown-out`, `pin`, `software`, `watchdog`, `panic` or `unknown`.
    pub cause: String,
    /// Program counter at which the firmware ended; empty: not known, or it did not end itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// What it said as it ended.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlashWear {
    /// `journal` or `artifacts`.
    pub partition: String,
    /// Of the sector that was erased most.
    pub erases: u32,
    /// At the rate of this boot, once it is an hour old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erases_per_day: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// What a manifest says of a device. What it leaves out stays as commands have set it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceManifest {
    pub position: Option<DevicePosition>,
    pub cordoned: Option<bool>,
    pub draining: Option<bool>,
    pub decommissioning: Option<bool>,
    pub approved: Option<bool>,
    pub site: Option<String>,
    pub pool: Option<String>,
    pub taints: Vec<DeviceTaint>,
    pub withheld: Option<Vec<Withheld>>,
}

const SPEC: Shape = Shape {
    known: &["position", "cordoned", "draining", "decommissioning", "approved", "site", "pool", "taints", "withheld"],
    not_built: &[],
};
const TAINT: Shape = Shape { known: &["key", "value", "effect"], not_built: &[] };
const POSITION: Shape = Shape { known: &["point", "uncertaintyM"], not_built: &[] };
const RELOCATION: Shape = Shape { known: &["point", "uncertaintyM", "reset"], not_built: &[] };

fn is_false(value: &bool) -> bool {
    !*value
}

pub(super) fn read_device(reader: &mut Reader, pointer: &str, value: &Value) -> Option<DeviceManifest> {
    let map = reader.object(pointer, value, &SPEC)?;
    let field = |name: &str| map.get(name).map(|value| (format!("{pointer}/{name}"), value));
    Some(DeviceManifest {
        position: field("position").and_then(|(place, value)| read_position(reader, &place, value)),
        cordoned: field("cordoned").and_then(|(place, value)| reader.boolean(&place, value)),
        draining: field("draining").and_then(|(place, value)| reader.boolean(&place, value)),
        decommissioning: field("decommissioning").and_then(|(place, value)| reader.boolean(&place, value)),
        approved: field("approved").and_then(|(place, value)| reader.boolean(&place, value)),
        site: field("site").and_then(|(place, value)| reader.label(&place, value)),
        pool: field("pool").and_then(|(place, value)| reader.label(&place, value)),
        taints: field("taints").and_then(|(place, value)| read_taints(reader, &place, value)).unwrap_or_default(),
        withheld: field("withheld")
            .and_then(|(place, value)| items(reader, &place, value, WITHHELD_MAX, read_withheld)),
    })
}

fn read_taints(reader: &mut Reader, pointer: &str, value: &Value) -> Option<Vec<DeviceTaint>> {
    let taints = items(reader, pointer, value, TAINTS_MAX, read_taint)?;
    for (i, taint) in taints.iter().enumerate() {
        if taints.iter().take(i).any(|other| (&other.key, other.effect) == (&taint.key, taint.effect)) {
            reader.error::<()>(&format!("{pointer}/{i}/key"), format!("{:?} has this effect already", taint.key));
        }
    }
    Some(taints)
}

fn read_taint(reader: &mut Reader, pointer: &str, value: &Value) -> Option<DeviceTaint> {
    let map = reader.object(pointer, value, &TAINT)?;
    let key = read_key(reader, pointer, map.get("key"));
    let value = match map.get("value") {
        Some(value) => read_value(reader, &format!("{pointer}/value"), value),
        None => Some(String::new()),
    };
    let place = format!("{pointer}/effect");
    let effect = match map.get("effect") {
        Some(value) => reader.choice(&place, value, &EFFECTS),
        None => reader.error(&place, "missing; NoSchedule keeps new work off, NoExecute takes running work off too"),
    };
    Some(DeviceTaint { key: key?, value: value?, effect: effect? })
}

/// The taints of a device by themselves, as `spec.taints` has them.
pub fn read_taint_list(value: &Value) -> Result<Vec<DeviceTaint>, Refusal> {
    let mut reader = Reader::default();
    let taints = read_taints(&mut reader, "", value);
    reader.finish().map(|_| taints.unwrap_or_default())
}

/// What is asked of `relocate`: `{point, uncertaintyM?}`, or `{reset: true}`, which gives `None`.
pub fn read_relocation(document: &Value) -> Result<Option<DevicePosition>, Refusal> {
    let mut reader = Reader::default();
    let position = reader.object("", document, &RELOCATION).and_then(|map| {
        let is_reset = match map.get("reset") {
            Some(value) => reader.boolean("/reset", value)?,
            None => false,
        };
        match (is_reset, map.len()) {
            (true, 1) => Some(None),
            (true, _) => reader.error("/reset", "a position that is taken back has no point: leave out the rest"),
            (false, _) => placed_at(&mut reader, "", map).map(Some),
        }
    });
    reader.finish().map(|_| position.flatten())
}

fn read_position(reader: &mut Reader, pointer: &str, value: &Value) -> Option<DevicePosition> {
    let map = reader.object(pointer, value, &POSITION)?;
    placed_at(reader, pointer, map)
}

fn placed_at(reader: &mut Reader, pointer: &str, map: &Map<String, Value>) -> Option<DevicePosition> {
    let uncertainty_m = match map.get("uncertaintyM") {
        Some(value) => reader.integer(&format!("{pointer}/uncertaintyM"), value, 0..=UNCERTAINTY_M_MAX),
        None => Some(0),
    };
    let place = format!("{pointer}/point");
    let point = match map.get("point") {
        Some(value) => read_point(reader, &place, value),
        None => reader.error(&place, "missing; write point: [longitude, latitude]"),
    };
    Some(DevicePosition { point: point?, uncertainty_m: u32::try_from(uncertainty_m?).ok()? })
}

/// `[longitude, latitude]`.
pub(super) fn read_point(reader: &mut Reader, pointer: &str, value: &Value) -> Option<Point> {
    let list = reader.list(pointer, value, 2)?;
    let [longitude, latitude] = list else {
        return reader.error(pointer, "a point is [longitude, latitude]");
    };
    let longitude = reader.number(&format!("{pointer}/0"), longitude);
    let latitude = reader.number(&format!("{pointer}/1"), latitude);
    match Point::from_degrees(longitude?, latitude?) {
        Ok(point) => Some(point),
        Err(error) => reader.error(pointer, error.to_string()),
    }
}
