//! What a plan is made from: the fleet as the scheduler sees it, and the named regions, at one revision.
//!
//! The engine keeps a `Fleet` beside its own registry, under the same dense device indexes, and changes it with the same
//! commits; a `Snapshot` only borrows. Nothing here reads a clock: ages are differences of times that were passed in.

use super::labels::{LabelId, Labels};
use super::load_order::{LoadOrder, stable_hash};
use crate::geo::{Distance, GeoIndex, Point, Region};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use thiserror::Error;

/// A device's place in the engine's dense table. Stable while the device is known, reused afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct DeviceIndex(pub u32);

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
    pub total: Resources,
    /// Taken by all placements, the planned workload's own included.
    pub used: Resources,
    /// Number of placements, the planned workload's own included.
    pub placements: u32,
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
    pub total: Resources,
    pub used: Resources,
    pub placements: u32,
    /// Of the id; where the device lies among equals.
    pub(super) hash: u64,
    /// Sorted.
    pub(super) labels: Box<[LabelId]>,
}

impl Device {
    pub(super) fn has_label(&self, label: LabelId) -> bool {
        self.labels.binary_search(&label).is_ok()
    }
}

/// All devices by dense index, with the indexes that keep selective questions from scanning.
#[derive(Debug, Default)]
pub struct Fleet {
    devices: Vec<Option<Device>>,
    count: u32,
    names: HashMap<Box<str>, DeviceIndex>,
    pub(super) labels: Labels,
    pub(super) positions: GeoIndex,
    pub(super) loads: LoadOrder,
}

impl Fleet {
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of known devices.
    pub fn len(&self) -> u32 {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// A whole fleet at once, as at start-up: the position index is built in bulk, many times faster than by `put`.
    pub fn load(devices: impl IntoIterator<Item = (DeviceIndex, DeviceFacts)>) -> Result<Self, IndexTooLarge> {
        let mut fleet = Self::new();
        for (index, facts) in devices {
            fleet.enter(index, facts)?;
        }
        let positions = fleet.iter().filter_map(|device| Some((device.index.0, device.position?.point)));
        fleet.positions = GeoIndex::from_points(positions);
        Ok(fleet)
    }

    /// Adds a device or replaces what is known of it. Indexes are dense: the caller gives the lowest free one.
    pub fn put(&mut self, index: DeviceIndex, facts: DeviceFacts) -> Result<(), IndexTooLarge> {
        let position = facts.position;
        self.enter(index, facts)?;
        if let Some(position) = position {
            self.positions.put(index.0, position.point);
        }
        Ok(())
    }

    /// All of `put` but the position index.
    fn enter(&mut self, index: DeviceIndex, facts: DeviceFacts) -> Result<(), IndexTooLarge> {
        let slot = usize::try_from(index.0)
            .ok()
            .filter(|slot| *slot < FLEET_DEVICES_MAX)
            .ok_or(IndexTooLarge { index: index.0 })?;
        self.remove(index);
        let labels = self.labels.put(index, &facts.labels);
        self.names.insert(facts.name.clone(), index);
        if slot >= self.devices.len() {
            self.devices.resize_with(slot + 1, || None);
        }
        let hash = stable_hash(&facts.id);
        self.loads.insert(facts.placements, hash, index);
        if let Some(entry) = self.devices.get_mut(slot) {
            *entry = Some(Device {
                index,
                id: facts.id,
                name: facts.name,
                class: facts.class,
                position: facts.position,
                admittance: facts.admittance,
                wire: facts.wire,
                runtimes: facts.runtimes,
                total: facts.total,
                used: facts.used,
                placements: facts.placements,
                hash,
                labels,
            });
            self.count += 1;
        }
        Ok(())
    }

    /// Forgets a device.
    pub fn remove(&mut self, index: DeviceIndex) {
        let entry = usize::try_from(index.0).ok().and_then(|slot| self.devices.get_mut(slot));
        let Some(device) = entry.and_then(Option::take) else {
            return;
        };
        self.count -= 1;
        self.labels.remove(index, &device.labels);
        self.loads.remove(device.placements, device.hash, index);
        self.positions.remove(index.0);
        if self.names.get(&device.name) == Some(&index) {
            self.names.remove(&device.name);
        }
    }

    /// Moves a device, or forgets where it is, at the price of the position index only.
    pub fn relocate(&mut self, index: DeviceIndex, position: Option<Position>) {
        let Some(device) = self.get_mut(index) else {
            return;
        };
        device.position = position;
        match position {
            Some(position) => self.positions.put(index.0, position.point),
            None => {
                self.positions.remove(index.0);
            }
        }
    }

    /// Opens or closes a device for work.
    pub fn admit(&mut self, index: DeviceIndex, admittance: Admittance) {
        if let Some(device) = self.get_mut(index) {
            device.admittance = admittance;
        }
    }

    /// Counts a placement onto a device, so that the next plan sees it.
    pub fn hold(&mut self, index: DeviceIndex, holds: Resources) {
        if let Some(device) = self.get_mut(index) {
            device.used = device.used.plus(holds);
            let placements = device.placements.saturating_add(1);
            self.set_load(index, placements);
        }
    }

    /// Takes a placement off again.
    pub fn release(&mut self, index: DeviceIndex, holds: Resources) {
        if let Some(device) = self.get_mut(index) {
            device.used = device.used.minus(holds);
            let placements = device.placements.saturating_sub(1);
            self.set_load(index, placements);
        }
    }

    fn set_load(&mut self, index: DeviceIndex, placements: u32) {
        if let Some(device) = self.get_mut(index) {
            let before = std::mem::replace(&mut device.placements, placements);
            let hash = device.hash;
            self.loads.remove(before, hash, index);
            self.loads.insert(placements, hash, index);
        }
    }

    pub fn get(&self, index: DeviceIndex) -> Option<&Device> {
        self.devices.get(usize::try_from(index.0).ok()?)?.as_ref()
    }

    pub fn by_name(&self, name: &str) -> Option<&Device> {
        self.get(*self.names.get(name)?)
    }

    /// All devices by index.
    pub fn iter(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter().flatten()
    }

    /// A device's labels as text, by key.
    pub fn labels_of(&self, device: &Device) -> BTreeMap<&str, &str> {
        device.labels.iter().filter_map(|label| self.labels.text(*label)).collect()
    }

    fn get_mut(&mut self, index: DeviceIndex) -> Option<&mut Device> {
        self.devices.get_mut(usize::try_from(index.0).ok()?)?.as_mut()
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
