//! A workload's terms resolved against one snapshot: names to indexes, labels to ids, regions to shapes.
//!
//! Names that resolve to nothing stay in the question and match nothing, so that the counts show what is missing.

use super::labels::LabelId;
use super::load_order::stable_hash;
use super::snapshot::{DeviceIndex, Snapshot};
use super::workload::WorkloadSpecView;
use crate::geo::Region;
use std::collections::BTreeSet;

/// A wanted label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LabelTerm {
    Carried(LabelId),
    /// No device carries it.
    Nowhere,
}

/// What filters and ranking are asked with.
pub struct Question<'a> {
    pub(super) snapshot: &'a Snapshot<'a>,
    pub(super) spec: &'a WorkloadSpecView,
    pub(super) labels: Vec<LabelTerm>,
    pub(super) named: BTreeSet<DeviceIndex>,
    /// Where the workload starts on the circle of equally loaded devices.
    pub(super) start: u64,
    within: Vec<Option<&'a Region>>,
}

impl<'a> Question<'a> {
    pub fn new(snapshot: &'a Snapshot<'a>, spec: &'a WorkloadSpecView) -> Self {
        let fleet = snapshot.fleet;
        let labels = spec
            .terms
            .labels
            .iter()
            .map(|(key, value)| fleet.labels.find(key, value).map_or(LabelTerm::Nowhere, LabelTerm::Carried));
        let named = spec.terms.on.iter().filter_map(|name| fleet.by_name(name));
        let within = spec.terms.within.iter().map(|name| snapshot.regions.get(name));
        Self {
            snapshot,
            spec,
            labels: labels.collect(),
            named: named.map(|device| device.index).collect(),
            start: stable_hash(&spec.uid),
            within: within.collect(),
        }
    }

    /// Names in the terms that match nothing in this snapshot, as `kind/name`.
    pub(super) fn unresolved(&self) -> Vec<String> {
        let terms = &self.spec.terms;
        let regions = terms.within.iter().zip(&self.within);
        let labels = terms.labels.iter().zip(&self.labels);
        let mut unresolved: Vec<String> =
            regions.filter(|(_, region)| region.is_none()).map(|(name, _)| format!("region/{name}")).collect();
        unresolved.extend(
            labels
                .filter(|(_, term)| **term == LabelTerm::Nowhere)
                .map(|((key, value), _)| format!("label/{key}={value}")),
        );
        unresolved.extend(
            terms
                .on
                .iter()
                .filter(|name| self.snapshot.fleet.by_name(name).is_none())
                .map(|name| format!("device/{name}")),
        );
        unresolved
    }

    /// The regions of `within` that exist.
    pub(super) fn regions(&self) -> impl Iterator<Item = &'a Region> + '_ {
        self.within.iter().copied().flatten()
    }
}
