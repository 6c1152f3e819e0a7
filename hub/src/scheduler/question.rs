//! A workload's terms resolved against one snapshot: names to indexes, labels to ids, regions to shapes.
//!
//! Names that resolve to nothing stay in the question and match nothing, so that the counts show what is missing.

use super::load_order::stable_hash;
use super::selector::{Matcher, Requirement};
use super::snapshot::{Device, DeviceIndex, Snapshot, WorkloadNumber};
use super::terms::{Apartness, SpreadBy};
use super::workload::WorkloadSpecView;
use crate::geo::{Cell, Distance, Region};
use std::collections::BTreeSet;

/// A site, region or cell that replicas are spread over, as a number that is only compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct DomainKey(u64);

/// What filters and ranking are asked with.
pub struct Question<'a> {
    pub(super) snapshot: &'a Snapshot<'a>,
    pub(super) spec: &'a WorkloadSpecView,
    pub(super) selector: Matcher<'a>,
    /// Of the devices that `nearest_per` counts from.
    pub(super) anchors: Option<Matcher<'a>>,
    pub(super) named: BTreeSet<DeviceIndex>,
    /// Where the workload starts on the circle of equally loaded devices.
    pub(super) start: u64,
    /// The minimum distance between replicas.
    pub(super) spacing: Option<Distance>,
    /// Whether any term needs to know where a device is.
    pub(super) needs_position: bool,
    within: Vec<Option<&'a Region>>,
    spread_regions: Vec<Option<&'a Region>>,
    apart: Vec<(WorkloadNumber, Apartness, &'a str)>,
}

impl<'a> Question<'a> {
    pub fn new(snapshot: &'a Snapshot<'a>, spec: &'a WorkloadSpecView) -> Self {
        let (fleet, terms) = (snapshot.fleet, &spec.terms);
        let named = terms.on.iter().filter_map(|name| fleet.by_name(name));
        let find = |name: &String| snapshot.regions.get(name);
        let anchors = terms.nearest_per.as_ref().map(|nearest| &nearest.devices);
        let apart = terms.anti_affinity.iter().flat_map(|term| {
            let known = term.workloads.iter().filter_map(|other| Some((other.number?, other.name.as_str())));
            known.map(|(number, name)| (number, term.domain, name))
        });
        let spacing = terms.spacing();
        let is_spread_by_place = match terms.spread.as_ref().map(|spread| &spread.by) {
            Some(SpreadBy::Regions(_) | SpreadBy::Cell(_)) => true,
            Some(SpreadBy::Site) | None => false,
        };
        Self {
            snapshot,
            spec,
            selector: Matcher::new(fleet, &terms.labels, &terms.requirements),
            anchors: anchors.map(|selector| Matcher::new(fleet, &selector.labels, &selector.requirements)),
            named: named.map(|device| device.index).collect(),
            start: stable_hash(&spec.uid),
            spacing,
            needs_position: !terms.within.is_empty()
                || terms.near.is_some()
                || terms.nearest_per.is_some()
                || spacing.is_some()
                || is_spread_by_place,
            within: terms.within.iter().map(find).collect(),
            spread_regions: terms.spread_regions().iter().map(find).collect(),
            apart: apart.collect(),
        }
    }

    /// Names in the terms that match nothing in this snapshot, as `kind/name`.
    pub(super) fn unresolved(&self) -> Vec<String> {
        let terms = &self.spec.terms;
        let regions = terms.within.iter().zip(&self.within);
        let spread = terms.spread_regions().iter().zip(&self.spread_regions);
        let missing = regions.chain(spread).filter(|(_, region)| region.is_none());
        let mut unresolved: Vec<String> = missing.map(|(name, _)| format!("region/{name}")).collect();
        unresolved.extend(nowhere(&self.selector, &terms.labels, &terms.requirements));
        let names = terms.on.iter().filter(|name| self.snapshot.fleet.by_name(name).is_none());
        unresolved.extend(names.map(|name| format!("device/{name}")));
        if let (Some(nearest), Some(anchors)) = (&terms.nearest_per, &self.anchors) {
            unresolved.extend(nowhere(anchors, &nearest.devices.labels, &nearest.devices.requirements));
        }
        let others = terms.anti_affinity.iter().flat_map(|term| &term.workloads);
        unresolved
            .extend(others.filter(|other| other.number.is_none()).map(|other| format!("workload/{}", other.name)));
        unresolved
    }

    /// The regions of `within` that exist.
    pub(super) fn regions(&self) -> impl Iterator<Item = &'a Region> + '_ {
        self.within.iter().copied().flatten()
    }

    /// The first other workload that keeps this one off the device, and how.
    pub(super) fn repelled_by(&self, device: &Device) -> Option<(&'a str, Apartness)> {
        let is_there = |workload: WorkloadNumber, domain: Apartness| match (domain, device.site) {
            (Apartness::Site, Some(site)) => self.snapshot.fleet.occupancy.is_in(workload, site),
            (Apartness::Site, None) | (Apartness::Device, _) => device.runs(workload),
        };
        let found = self.apart.iter().find(|(workload, domain, _)| is_there(*workload, *domain));
        found.map(|(_, domain, name)| (*name, *domain))
    }

    pub(super) fn is_apart(&self) -> bool {
        !self.apart.is_empty()
    }

    /// Where the device counts for spreading; none if the terms do not spread or it is nowhere in them.
    pub(super) fn domain(&self, device: &Device) -> Option<DomainKey> {
        match &self.spec.terms.spread.as_ref()?.by {
            SpreadBy::Site => device.site.map(|site| DomainKey(u64::from(site.number()))),
            SpreadBy::Regions(_) => self.spread_region(device).map(|(place, _)| DomainKey(place)),
            SpreadBy::Cell(level) => Some(DomainKey(Cell::of(device.position?.point, *level).number())),
        }
    }

    /// The domain as people call it.
    pub(super) fn domain_name(&self, device: &Device) -> Option<String> {
        match &self.spec.terms.spread.as_ref()?.by {
            SpreadBy::Site => self.snapshot.fleet.site_of(device).map(|site| format!("site/{site}")),
            SpreadBy::Regions(_) => self.spread_region(device).map(|(_, name)| format!("region/{name}")),
            SpreadBy::Cell(level) => Some(Cell::of(device.position?.point, *level).to_string()),
        }
    }

    fn spread_region(&self, device: &Device) -> Option<(u64, &'a String)> {
        let point = device.position?.point;
        let named = self.spec.terms.spread_regions().iter().zip(&self.spread_regions);
        let mut numbered = (0..).zip(named);
        let found = numbered.find(|(_, (_, region))| region.is_some_and(|region| region.contains(point)));
        found.map(|(place, (name, _))| (place, name))
    }
}

/// What a selector asks for that no device has.
fn nowhere(matcher: &Matcher<'_>, labels: &[(String, String)], requirements: &[Requirement]) -> Vec<String> {
    let labels = labels.iter().zip(&matcher.labels).filter(|(_, term)| term.is_nowhere());
    let mut nowhere: Vec<String> = labels.map(|((key, value), _)| format!("label/{key}={value}")).collect();
    let hopeless = matcher.hopeless().filter_map(|place| requirements.get(place));
    nowhere.extend(hopeless.map(|requirement| format!("label/{requirement}")));
    nowhere
}
