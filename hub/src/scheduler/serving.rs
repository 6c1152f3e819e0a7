//! `nearestPer`: which devices serve which anchor.
//!
//! An anchor is served by the `k` feasible devices that are nearest to it, ties by device index; the workload runs on
//! all of them together. One thing changes that, so that a new device does not take work away from one that does it:
//! a device that does not run the workload is passed over when every anchor that it would serve falls back to a device
//! that runs it already, and one of those would otherwise stop. Devices are looked at in order of their index. Planning
//! again then finds the same devices: those passed over before are the only ones left to look at, each meets the same
//! fallback, and that one runs now.
//!
//! Where yet another feasible device without the workload stands between, the nearest take over: how long a device has
//! been known is not asked.

use super::question::Question;
use super::rank::{RankKey, Ranked};
use super::select::Holdings;
use super::snapshot::{Admittance, Device, DeviceIndex};
use crate::geo::{Distance, GeoIndex, Point};
use std::collections::{BTreeMap, BTreeSet};

/// A device that counts, and who serves it, nearest first.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) anchor: DeviceIndex,
    point: Point,
    pub(super) by: Vec<(Distance, DeviceIndex)>,
}

/// The anchors in order of their index.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) anchors: Vec<Served>,
    k: usize,
    /// For each serving device its nearest anchor, and how many it serves.
    nearest: BTreeMap<DeviceIndex, (Distance, DeviceIndex, u32)>,
}

impl Serving {
    /// None when the terms ask for no anchors.
    pub(super) fn new(question: &Question<'_>, holdings: &Holdings, feasible: &[Ranked<'_>]) -> Option<Self> {
        let k = usize::try_from(question.spec.terms.nearest_per.as_ref()?.k.get()).unwrap_or(usize::MAX);
        let points = feasible.iter().filter_map(|(_, device)| Some((device.index.0, device.position?.point)));
        let index = GeoIndex::from_points(points);
        let mut anchors: Vec<Served> = anchors(question)
            .map(|(anchor, point)| Served { anchor, point, by: nearest(&index, point).take(k).collect() })
            .collect();
        let held: BTreeSet<DeviceIndex> =
            feasible.iter().map(|(_, device)| device.index).filter(|device| holdings.contains_key(device)).collect();
        pass_over(&mut anchors, &index, &held);
        let mut serving = Self { anchors, k, nearest: BTreeMap::new() };
        for served in &serving.anchors {
            for (distance, device) in &served.by {
                let entry = serving.nearest.entry(*device).or_insert((*distance, served.anchor, 0));
                entry.2 += 1;
                if (*distance, served.anchor) < (entry.0, entry.1) {
                    (entry.0, entry.1) = (*distance, served.anchor);
                }
            }
        }
        Some(serving)
    }

    /// The serving devices among the feasible ones, by the distance to the nearest anchor that they serve.
    pub(super) fn ranked<'a>(&self, feasible: &[Ranked<'a>]) -> Vec<Ranked<'a>> {
        let serving = feasible.iter().filter_map(|(_, device)| {
            let (distance, ..) = self.nearest.get(&device.index)?;
            Some((RankKey::nearest(*distance, device), *device))
        });
        serving.collect()
    }

    /// The nearest anchor that a device serves, how far it is, and how many it serves.
    pub(super) fn of(&self, device: DeviceIndex) -> Option<(Distance, DeviceIndex, u32)> {
        self.nearest.get(&device).copied()
    }

    /// The anchor nearest to a place, and how far its own nearest reach; none for those when it has fewer than it wants.
    pub(super) fn nearest_anchor(&self, point: Point) -> Option<(Distance, DeviceIndex, Option<Distance>)> {
        let distances = self.anchors.iter().map(|served| (Distance::between(served.point, point), served));
        let (distance, served) = distances.min_by_key(|(distance, served)| (*distance, served.anchor))?;
        Some((distance, served.anchor, self.reach(served).map(|(distance, _)| distance)))
    }

    /// Whether a device that is not feasible would serve an anchor if it were.
    pub(super) fn would_serve(&self, point: Point, device: &Device) -> bool {
        self.anchors.iter().any(|served| {
            let own = (Distance::between(served.point, point), device.index);
            self.reach(served).is_none_or(|last| own < last)
        })
    }

    /// How many of the chosen an anchor still lacks.
    pub(super) fn missing(&self, served: &Served, chosen: &BTreeSet<DeviceIndex>) -> u32 {
        let by = served.by.iter().filter(|(_, device)| chosen.contains(device)).count();
        u32::try_from(self.k.saturating_sub(by)).unwrap_or(u32::MAX)
    }

    fn reach(&self, served: &Served) -> Option<(Distance, DeviceIndex)> {
        served.by.last().copied().filter(|_| served.by.len() >= self.k)
    }
}

/// Approved devices with a position that the selector means.
fn anchors<'q>(question: &'q Question<'_>) -> impl Iterator<Item = (DeviceIndex, Point)> + 'q {
    let fleet = question.snapshot.fleet;
    fleet
        .iter()
        .filter(|device| device.admittance != Admittance::Pending)
        .filter(|device| question.anchors.as_ref().is_some_and(|anchors| anchors.matches(fleet, device)))
        .filter_map(|device| Some((device.index, device.position?.point)))
}

fn nearest(index: &GeoIndex, point: Point) -> impl Iterator<Item = (Distance, DeviceIndex)> + '_ {
    index.nearest(point).map(|(distance, device)| (distance, DeviceIndex(device)))
}

/// Passes over newcomers that would only take the place of what runs already.
fn pass_over(anchors: &mut [Served], index: &GeoIndex, held: &BTreeSet<DeviceIndex>) {
    let mut serves: BTreeMap<DeviceIndex, Vec<usize>> = BTreeMap::new();
    for (place, served) in anchors.iter().enumerate() {
        for (_, device) in &served.by {
            serves.entry(*device).or_default().push(place);
        }
    }
    let mut stopping: BTreeSet<DeviceIndex> = held.iter().filter(|d| !serves.contains_key(d)).copied().collect();
    let newcomers: Vec<DeviceIndex> = serves.keys().filter(|device| !held.contains(device)).copied().collect();
    let mut passed: BTreeSet<DeviceIndex> = BTreeSet::new();
    for newcomer in newcomers {
        if stopping.is_empty() {
            return;
        }
        // Nobody falls back to a newcomer, so the anchors that it serves are those from the beginning.
        let places = serves.get(&newcomer).cloned().unwrap_or_default();
        let fall_back = |place: &usize| {
            let served = anchors.get(*place)?;
            let is_free = |device: &DeviceIndex| {
                *device != newcomer && !passed.contains(device) && served.by.iter().all(|(_, by)| by != device)
            };
            nearest(index, served.point).find(|(_, device)| is_free(device)).filter(|(_, device)| held.contains(device))
        };
        let fallbacks: Option<Vec<(Distance, DeviceIndex)>> = places.iter().map(fall_back).collect();
        let Some(fallbacks) = fallbacks.filter(|all| all.iter().any(|(_, device)| stopping.contains(device))) else {
            continue;
        };
        passed.insert(newcomer);
        for (place, (distance, device)) in places.into_iter().zip(fallbacks) {
            stopping.remove(&device);
            if let Some(served) = anchors.get_mut(place) {
                served.by.retain(|(_, by)| *by != newcomer);
                served.by.push((distance, device));
                served.by.sort_unstable();
            }
        }
    }
}
