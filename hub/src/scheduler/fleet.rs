//! All devices as the scheduler sees them, and the indexes over them, changed together.
//!
//! The engine keeps it beside its own registry, under the same dense device indexes, and changes it with the same
//! commits. An index that disagrees with its device would make `place` differ from `plan`; the oracle tests look for that.

use super::labels::Labels;
use super::load_order::{LoadOrder, stable_hash};
use super::occupancy::Occupancy;
use super::snapshot::{
    Admittance, Device, DeviceFacts, DeviceIndex, FLEET_DEVICES_MAX, IndexTooLarge, Position, Resources, WorkloadNumber,
};
use crate::geo::GeoIndex;
use std::collections::{BTreeMap, HashMap};

/// All devices by dense index, with the indexes that keep selective questions from scanning.
#[derive(Debug, Default, Clone)]
pub struct Fleet {
    devices: Vec<Option<Device>>,
    count: u32,
    lost: u32,
    names: HashMap<Box<str>, DeviceIndex>,
    pub(super) labels: Labels,
    /// Site names, in the table that labels use; the key is empty.
    sites: Labels,
    pub(super) occupancy: Occupancy,
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

    /// Number of devices that count as lost.
    pub fn lost(&self) -> u32 {
        self.lost
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
        self.track(index, position);
        Ok(())
    }

    /// All of `put` but the position index.
    fn enter(&mut self, index: DeviceIndex, facts: DeviceFacts) -> Result<(), IndexTooLarge> {
        let slot = usize::try_from(index.0)
            .ok()
            .filter(|slot| *slot < FLEET_DEVICES_MAX)
            .ok_or(IndexTooLarge { index: index.0 })?;
        self.forget(index);
        let labels = self.labels.put(index, &facts.labels);
        let site = facts.site.and_then(|name| {
            let named = BTreeMap::from([(String::new(), String::from(name))]);
            self.sites.put(index, &named).first().copied()
        });
        let mut runs = facts.runs;
        runs.sort_unstable();
        runs.dedup();
        for (workload, site) in runs.iter().filter_map(|workload| Some((*workload, site?))) {
            self.occupancy.add(workload, site);
        }
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
                interfaces: facts.interfaces,
                has_boot_clock: facts.has_boot_clock,
                total: facts.total,
                used: facts.used,
                placements: facts.placements,
                taints: facts.taints.into_boxed_slice(),
                is_lost: facts.is_lost,
                site,
                runs,
                hash,
                labels,
            });
            self.count += 1;
            self.lost += u32::from(facts.is_lost);
        }
        Ok(())
    }

    /// Forgets a device.
    pub fn remove(&mut self, index: DeviceIndex) {
        self.forget(index);
        self.positions.remove(index.0);
    }

    /// All of `remove` but the position index.
    fn forget(&mut self, index: DeviceIndex) {
        let entry = usize::try_from(index.0).ok().and_then(|slot| self.devices.get_mut(slot));
        let Some(device) = entry.and_then(Option::take) else {
            return;
        };
        self.count -= 1;
        self.lost -= u32::from(device.is_lost);
        self.labels.remove(index, &device.labels);
        if let Some(site) = device.site {
            self.sites.remove(index, &[site]);
            device.runs.iter().for_each(|workload| self.occupancy.remove(*workload, site));
        }
        self.loads.remove(device.placements, device.hash, index);
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
        self.track(index, position);
    }

    /// A device that stays where it was costs nothing.
    fn track(&mut self, index: DeviceIndex, position: Option<Position>) {
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

    /// Notes that a device is lost, or is back.
    pub fn lose(&mut self, index: DeviceIndex, is_lost: bool) {
        if let Some(device) = self.get_mut(index) {
            let before = std::mem::replace(&mut device.is_lost, is_lost);
            self.lost = self.lost + u32::from(is_lost) - u32::from(before);
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

    /// As `hold`, and notes which workload it is, for those that keep away from it.
    pub fn hold_for(&mut self, index: DeviceIndex, workload: WorkloadNumber, holds: Resources) {
        self.hold(index, holds);
        let Some(device) = slot_mut(&mut self.devices, index) else {
            return;
        };
        if let Err(place) = device.runs.binary_search(&workload) {
            device.runs.insert(place, workload);
            if let Some(site) = device.site {
                self.occupancy.add(workload, site);
            }
        }
    }

    /// Takes back what `hold_for` did.
    pub fn release_for(&mut self, index: DeviceIndex, workload: WorkloadNumber, holds: Resources) {
        self.release(index, holds);
        let Some(device) = slot_mut(&mut self.devices, index) else {
            return;
        };
        if let Ok(place) = device.runs.binary_search(&workload) {
            device.runs.remove(place);
            if let Some(site) = device.site {
                self.occupancy.remove(workload, site);
            }
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

    /// The name of the site where a device stands.
    pub fn site_of(&self, device: &Device) -> Option<&str> {
        self.sites.text(device.site?).map(|(_, name)| name)
    }

    /// What is known of a device, as it would be given to `put`: for asking "what if" of a clone of the fleet.
    pub fn facts(&self, index: DeviceIndex) -> Option<DeviceFacts> {
        let device = self.get(index)?;
        let labels = self.labels_of(device).into_iter();
        Some(DeviceFacts {
            id: device.id.clone(),
            name: device.name.clone(),
            class: device.class.clone(),
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            position: device.position,
            admittance: device.admittance,
            wire: device.wire,
            runtimes: device.runtimes,
            interfaces: device.interfaces,
            has_boot_clock: device.has_boot_clock,
            total: device.total,
            used: device.used,
            placements: device.placements,
            site: self.site_of(device).map(Into::into),
            taints: device.taints.to_vec(),
            runs: device.runs.clone(),
            is_lost: device.is_lost,
        })
    }

    fn get_mut(&mut self, index: DeviceIndex) -> Option<&mut Device> {
        slot_mut(&mut self.devices, index)
    }
}

fn slot_mut(devices: &mut [Option<Device>], index: DeviceIndex) -> Option<&mut Device> {
    devices.get_mut(usize::try_from(index.0).ok()?)?.as_mut()
}
