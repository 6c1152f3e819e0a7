//! Workloads: what should run, where, and how it fares.
//!
//! A spec in hand has passed the reader: limits hold, references have their form. Nothing here may place anything.

use super::artifact::ArtifactReference;
use super::metadata::Condition;
use super::partition::PartitionSpec;
use super::placement::PlacementSpec;
use super::quantity::{Size, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Written either as one component (`artifact` and `function`) or as a list of `components`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadSpec {
    #[serde(rename = "type")]
    pub component_type: ComponentType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactReference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionSpec>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<ComponentSpec>,
    pub placement: PlacementSpec,
    /// `None`: on every device that fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub every: bool,
    #[serde(default)]
    pub partition: PartitionSpec,
    pub retry: RetrySpec,
    pub unconfirmed: Unconfirmed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ComponentType {
    #[default]
    Function,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    #[default]
    Service,
    Init,
    Job,
}

/// Whether new code may start after a boot without word from the hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Unconfirmed {
    #[default]
    Wait,
    Run,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ComponentSpec {
    pub name: String,
    #[serde(default)]
    pub role: Role,
    /// Names of components that come first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    #[serde(rename = "type", default)]
    pub component_type: ComponentType,
    pub artifact: ArtifactReference,
    #[serde(default)]
    pub function: FunctionSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FunctionSpec {
    #[serde(default)]
    pub triggers: Triggers,
    /// A text is given to the function as it is, everything else as JSON.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub config: Value,
    #[serde(default)]
    pub limits: FunctionLimitsSpec,
    #[serde(default)]
    pub capabilities: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Triggers {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
}

/// Of one activation, but for memory and state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FunctionLimitsSpec {
    pub memory: Size,
    pub fuel: u32,
    pub host_calls: u32,
    pub state_bytes: Size,
    pub log_bytes: Size,
    pub emit_bytes: Size,
    /// Alarms, states and metrics, keys included.
    #[serde(default = "sample_bytes")]
    pub sample_bytes: Size,
}

const fn sample_bytes() -> Size {
    Size(1024)
}

impl Default for FunctionLimitsSpec {
    fn default() -> Self {
        Self {
            memory: Size(128 * 1024),
            fuel: 1_000_000,
            host_calls: 1_000,
            state_bytes: Size(4 * 1024),
            log_bytes: Size(4 * 1024),
            emit_bytes: Size(4 * 1024),
            sample_bytes: sample_bytes(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetrySpec {
    /// Failures in the window after which a version counts as bad.
    pub attempts: u8,
    pub window: Span,
}

impl Default for RetrySpec {
    fn default() -> Self {
        Self { attempts: 5, window: Span(10 * 60 * 1000) }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    /// Number on the wire.
    pub id: u32,
    /// Devices that should run it: `replicas`, or all that fit.
    pub desired: u32,
    /// Devices that it was given to.
    pub placed: u32,
    /// Devices where every component of this generation runs, or is complete if that is its purpose.
    pub running: u32,
    /// What became of the wish; empty before placement has looked at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fulfilment: Option<Fulfilment>,
    /// Could be placed, and are held back because others cannot (`onShortfall: wait` and `fail`).
    #[serde(default)]
    pub held_back: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortfall: Option<Shortfall>,
    /// Generation that placement has looked at.
    pub observed_generation: u64,
    /// Of exclusive work: who may run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseStatus>,
    /// `Synced`: devices hold what was asked for. `Healthy`: it runs there.
    pub conditions: Vec<Condition>,
    pub devices: Vec<WorkloadDevice>,
    /// Devices left out of the list above because of its limit.
    #[serde(default)]
    pub devices_omitted: u32,
}

/// What became of the wish for replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Fulfilment {
    Complete,
    /// Some are missing; the others are placed.
    Partial,
    /// Some are missing, so none is started.
    Waiting,
    /// As `Waiting`, and it counts as a failure.
    Failed,
}

/// The right to run exclusive work, as it was given last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseStatus {
    pub state: LeaseState,
    /// Name of the device that has or had it; its id if it is gone.
    pub device: String,
    /// `<incarnation>.<counter>`; a later lease has a higher one.
    pub fence: String,
    /// While it is held: when another device could get it, if it were not renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
    /// The device that asked and waits for its end.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub waiting: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LeaseState {
    /// The device may run the work.
    Held,
    /// It is on its way to the device.
    Issued,
    /// It was given back or has run out.
    Ended,
}

/// How many devices are missing, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Shortfall {
    pub missing: u32,
    pub reason: String,
}

/// One component on one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadDevice {
    pub device: String,
    /// Empty where the workload has one component only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub component: String,
    /// `Running`, `Fetching`, `BackOff`, ...; `Pending`: assigned and not yet reported; `Unknown`: device not heard of.
    pub state: String,
    /// Stable code such as `TRAPPED`.
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    pub generation: u64,
    /// Generation that runs; 0: none.
    pub running: u64,
    pub restarts: u32,
}

/// One component, whichever way it was written. The name is empty for the only one of the short form.
#[derive(Clone, Copy, Debug)]
pub struct ComponentView<'a> {
    pub name: &'a str,
    pub role: Role,
    pub after: &'a [String],
    pub artifact: &'a ArtifactReference,
    pub function: &'a FunctionSpec,
}

impl WorkloadSpec {
    /// All components, in the order of their numbers on the wire.
    pub fn views<'a>(&'a self) -> Vec<ComponentView<'a>> {
        if let (Some(artifact), Some(function)) = (&self.artifact, &self.function) {
            return vec![ComponentView { name: "", role: Role::Service, after: &[], artifact, function }];
        }
        let view = |c: &'a ComponentSpec| {
            let ComponentSpec { name, role, after, component_type: ComponentType::Function, artifact, function } = c;
            ComponentView { name, role: *role, after, artifact, function }
        };
        self.components.iter().map(view).collect()
    }
}

/// Configuration as the function reads it.
pub fn config_bytes(config: &Value) -> Vec<u8> {
    match config {
        Value::Null => Vec::new(),
        Value::String(text) => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    }
}
