//! The fleet ordered by load, so that "the least loaded device that fits" is found without looking at all of them.
//!
//! Devices with the same number of placements lie on a circle by a hash of their ids; each workload starts at its own
//! place on it and goes round (consistent hashing). That spreads workloads, is the same on every machine, and needs no
//! hash per device and workload. Since a device that takes work moves on to the next load, no arc of the circle can
//! collect more than its share.

use super::snapshot::DeviceIndex;
use std::collections::BTreeSet;

/// A device's place among the devices of equal load.
type Place = (u32, u64, DeviceIndex);

#[derive(Debug, Default, Clone)]
pub(super) struct LoadOrder {
    places: BTreeSet<Place>,
}

impl LoadOrder {
    pub(super) fn insert(&mut self, placements: u32, hash: u64, device: DeviceIndex) {
        self.places.insert((placements, hash, device));
    }

    pub(super) fn remove(&mut self, placements: u32, hash: u64, device: DeviceIndex) {
        self.places.remove(&(placements, hash, device));
    }

    /// All devices, least loaded first, each load once round the circle from `start`.
    pub(super) fn from(&self, start: u64) -> impl Iterator<Item = DeviceIndex> + '_ {
        let loads = std::iter::successors(self.next_load(0), |load| self.next_load(load.checked_add(1)?));
        loads.flat_map(move |load| {
            let first = (load, 0, DeviceIndex(0));
            let middle = (load, start, DeviceIndex(0));
            let last = (load, u64::MAX, DeviceIndex(u32::MAX));
            let round = self.places.range(middle..=last).chain(self.places.range(first..middle));
            round.map(|(_, _, device)| *device)
        })
    }

    /// The least load from `load` on that any device has.
    fn next_load(&self, load: u32) -> Option<u32> {
        let place = self.places.range((load, 0, DeviceIndex(0))..).next();
        place.map(|(load, _, _)| *load)
    }
}

/// FNV-1a, then the finisher of MurmurHash3. Chosen to be the same for ever on every machine; it protects against
/// nothing.
pub(super) fn stable_hash(text: &str) -> u64 {
    let mut hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_same_for_ever() {
        assert_eq!(stable_hash("device-a"), 9_342_399_664_416_502_432);
        assert_ne!(stable_hash("device-a"), stable_hash("device-b"));
    }

    #[test]
    fn each_load_is_walked_once_round_from_the_start() {
        let mut order = LoadOrder::default();
        for (placements, hash, device) in
            [(0, 5, 1), (0, 9, 2), (0, 9, 0), (3, 1, 3), (3, u64::MAX, 4), (u32::MAX, 7, 5)]
        {
            order.insert(placements, hash, DeviceIndex(device));
        }
        let walk = |start| order.from(start).map(|device| device.0).collect::<Vec<_>>();
        assert_eq!(walk(0), [1, 0, 2, 3, 4, 5]);
        assert_eq!(walk(6), [0, 2, 1, 4, 3, 5]);
        assert_eq!(walk(u64::MAX), [1, 0, 2, 4, 3, 5]);
    }
}
