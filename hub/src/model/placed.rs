//! A workload on a device, as an object of its own: what was decided, and what the device reports of it. Derived, never written.

use super::workload::{LeaseStatus, WorkloadDevice};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacedSpec {
    pub workload: String,
    pub device: String,
    /// Generation that the device is to run.
    pub generation: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacedStatus {
    /// Of the component that is worst off: `Running`, `Fetching`, `BackOff`, ...; `Pending`: not yet reported; `Unknown`:
    /// device not heard of; `Stopping`: the workload is gone.
    pub state: String,
    /// Stable code such as `TRAPPED`; `NONE` when there is nothing to say.
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Generation that runs; 0: none.
    pub running: u64,
    pub restarts: u32,
    /// The device holds the set that says so.
    pub synced: bool,
    /// Of exclusive work that this device holds the lease of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseStatus>,
    pub components: Vec<WorkloadDevice>,
}
