//! A workload as the scheduler sees it: what it asks for, and where it is now.

use super::snapshot::{DeviceIndex, Resources, Runtime};
use super::terms::Terms;
use serde::Serialize;
use wire::record::CapabilitySet;

/// How many instances are wanted. A device runs at most one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Wanted {
    Replicas(u32),
    /// One on every device that can take it.
    Every,
}

/// What an instance needs from its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    pub runtime: Runtime,
    /// What its functions may use.
    pub interfaces: CapabilitySet,
    /// Exclusive work: its device must be able to measure a lease.
    pub boot_clock: bool,
    /// Lowest wire version that can express the workload.
    pub wire_min: u16,
    pub resources: Resources,
}

/// What a workload does about devices that are away. The lists are sorted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Losses {
    /// Takes no lost device that does not have it already.
    pub avoids_lost: bool,
    /// Lost devices that have it, and from which it is to be moved now.
    pub given_up: Vec<DeviceIndex>,
    /// Devices that had it before they were lost, and that get it back if they can take it.
    pub preferred: Vec<DeviceIndex>,
    /// Devices of which an operator took it back before they heard of it.
    pub withheld: Vec<DeviceIndex>,
}

/// One workload to plan.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkloadSpecView {
    /// Seeds the stable choice between equal devices; constant over the workload's life.
    pub uid: String,
    /// For output, as in `wl/<name>`.
    pub name: String,
    pub terms: Terms,
    pub wanted: Wanted,
    pub needs: Needs,
    pub losses: Losses,
}

/// A committed placement of the planned workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrentPlacement {
    pub device: DeviceIndex,
    /// What it holds there now; included in the device's `used`.
    pub holds: Resources,
}
