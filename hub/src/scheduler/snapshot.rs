//! What a plan is made from: the fleet as the scheduler sees it, and the named regions, at one revision.
//!
//! The engine keeps a `Fleet` beside its own registry, under the same dense device indexes, and changes it with the same
//! commits; a `Snapshot` only borrows. Nothing here reads a clock: ages are differences of times that were passed in.

use super::fleet::Fleet;
use super::labels::LabelId;
use super::taint::Taint;
use crate::geo::{Distance, Point, Region};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use thiserror::Error;
use wire::record::CapabilitySet;

/// A device's place in the engine's dense table. Stable while the device is known, reused afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct DeviceIndex(pub u32);

/// A workload's number, as the engine gives it: unique while any device runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct WorkloadNumber(pub u32);

/// Bounds the dense table: an index at or above this is a mistake of the caller.
pub const FLEET_DEVICES_MAX: usize = 4_000_000;

/// A device index beyond what one hub can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("device index {index} is not below {FLEET_DEVICES_MAX}, the most devices that one hub holds")]
pub struct IndexTooLarge {
    pub index: u32,
}

/// How the hub came to know a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PositionSource {
    /// Set by an operator; wins over what the device reports.
    Operator,
    /// Configured on the device.
    Static,
    /// Measured by the device.
    Reported,
}

/// Where a device is, how well that is known, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub point: Point,
    pub uncertainty: Distance,
    pub source: PositionSource,
    /// When it was learned, on the same scale as `Snapshot::taken_at`.
    pub known_at: Duration,
}

/// Whether the operators let work onto a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admittance {
    /// Joined, but nobody approved it yet.
    Pending,
    Open,
    /// Keeps what it has, takes nothing new.
    Cordoned,
    /// Is to lose what it has.
    Draining,
    /// Runs what the hub has forgotten: its set is not changed until an operator has decided.
    Held,
}

/// What a workload runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Runtime {
    Function,
    Container,
}

/// The runtimes that a device's agent has reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Runtimes {
    pub function: bool,
    pub container: bool,
}

impl Runtimes {
    pub fn has(self, runtime: Runtime) -> bool {
        match runtime {
            Runtime::Function => self.function,
            Runtime::Container => self.container,
        }
    }
}

/// Wire versions that a device's agent speaks, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireRange {
    pub min: u16,
    pub max: u16,
}

/// Amounts of what a placement takes from a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    pub ram_bytes: u64,
    /// Records of the desired set; one per component.
    pub slots: u32,
    /// Bytes of the desired set's body.
    pub body_bytes: u32,
}

impl Resources {
    pub fn plus(self, other: Self) -> Self {
        Self {
            ram_bytes: self.ram_bytes.saturating_add(other.ram_bytes),
            slots: self.slots.saturating_add(other.slots),
            body_bytes: self.body_bytes.saturating_add(other.body_bytes),
        }
    }

    pub fn minus(self, other: Self) -> Self {
        Self {
            ram_bytes: self.ram_bytes.saturating_sub(other.ram_bytes),
            slots: self.slots.saturating_sub(other.slots),
            body_bytes: self.body_bytes.saturating_sub(other.body_bytes),
        }
    }
}

/// Everything that the scheduler knows of one device.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceFacts {
    /// The device's id in text; it seeds the stable choice between equals.
    pub id: Box<str>,
    pub name: Box<str>,
    pub class: Box<str>,
    pub labels: BTreeMap<String, String>,
    pub position: Option<Position>,
    pub admittance: Admittance,
    pub wire: WireRange,
    pub runtimes: Runtimes,
    /// What its agent gives functions.
    pub interfaces: CapabilitySet,
    /// Its clock goes on while it sleeps, so that a lease can be measured.
    pub has_boot_clock: bool,
    pub total: Resources,
    /// Taken by all placements, the planned workload's own included.
    pub used: Resources,
    /// Number of placements, the planned workload's own included.
    pub placements: u32,
    /// Where the device stands, as the operators name it.
    pub site: Option<Box<str>>,
    pub taints: Vec<Taint>,
    /// The workloads placed on it, in any order.
    pub runs: Vec<WorkloadNumber>,
    /// It was silent for so long that it counts as lost.
    pub is_lost: bool,
}

/// A device that nothing is known of and that nobody approved.
impl Default for DeviceFacts {
    fn default() -> Self {
        Self {
            id: Box::default(),
            name: Box::default(),
            class: Box::default(),
            labels: BTreeMap::new(),
            position: None,
            admittance: Admittance::Pending,
            wire: WireRange { min: 0, max: 0 },
            runtimes: Runtimes::default(),
            interfaces: CapabilitySet::default(),
            has_boot_clock: false,
            total: Resources::default(),
            used: Resources::default(),
            placements: 0,
            site: None,
            taints: Vec::new(),
            runs: Vec::new(),
            is_lost: false,
        }
    }
}

/// A device in the fleet: the facts, with labels interned.
#[derive(Debug, Clone)]
pub struct Device {
    pub index: DeviceIndex,
    pub id: Box<str>,
    pub name: Box<str>,
    pub class: Box<str>,
    pub position: Option<Position>,
    pub admittance: Admittance,
    pub wire: WireRange,
    pub runtimes: Runtimes,
    /// What its agent gives functions.
    pub interfaces: CapabilitySet,
    pub has_boot_clock: bool,
    pub total: Resources,
    pub used: Resources,
    pub placements: u32,
    pub taints: Box<[Taint]>,
    pub is_lost: bool,
    pub(super) site: Option<LabelId>,
    /// Sorted.
    pub(super) runs: Vec<WorkloadNumber>,
    /// Of the id; where the device lies among equals.
    pub(super) hash: u64,
    /// Sorted.
    pub(super) labels: Box<[LabelId]>,
}

impl Device {
    pub(super) fn has_label(&self, label: LabelId) -> bool {
        self.labels.binary_search(&label).is_ok()
    }

    pub(super) fn runs(&self, workload: WorkloadNumber) -> bool {
        self.runs.binary_search(&workload).is_ok()
    }
}

/// The regions by name.
pub type Regions = BTreeMap<String, Region>;

/// One consistent view to plan from.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot<'a> {
    /// The commit that this view shows.
    pub revision: u64,
    /// Only for the ages of positions.
    pub taken_at: Duration,
    pub fleet: &'a Fleet,
    pub regions: &'a Regions,
}
