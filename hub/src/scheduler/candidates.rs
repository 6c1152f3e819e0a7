//! Feasible devices without looking at the whole fleet, where a term of the workload is selective.
//!
//! An index only narrows down who is asked: every candidate still passes every filter, and the result must be the one
//! that a scan gives.

use super::filters::first_failure;
use super::plan::{Holdings, Ranked, best};
use super::question::{LabelTerm, Question};
use super::rank;
use super::snapshot::{Device, DeviceIndex};
use std::collections::BTreeSet;

/// Up to this many carriers of a label are asked one by one, before a walk by distance is tried.
const LABEL_CARRIERS_FEW: usize = 256;

/// The best feasible devices that do not hold the workload yet; all of them when no number is wanted.
pub(super) fn newcomers<'a>(question: &Question<'a>, holdings: &Holdings, wanted: Option<usize>) -> Vec<Ranked<'a>> {
    let terms = &question.spec.terms;
    let fleet = question.snapshot.fleet;
    let is_new =
        |device: &Device| !holdings.contains_key(&device.index) && first_failure(question, device, None).is_none();
    let from_set = |indexes: &mut dyn Iterator<Item = DeviceIndex>| {
        let ranked = indexes
            .filter_map(|index| fleet.get(index))
            .filter(|device| is_new(device))
            .map(|device| (rank::key(question, device), device));
        best(ranked.collect(), wanted)
    };
    if !terms.on.is_empty() {
        return from_set(&mut question.named.iter().copied());
    }
    let carriers = fewest_carriers(question);
    if let Some(few) = carriers.filter(|set| set.len() <= LABEL_CARRIERS_FEW) {
        return from_set(&mut few.iter().copied());
    }
    if question.labels.contains(&LabelTerm::Nowhere) {
        return Vec::new();
    }
    if let Some(near) = terms.near {
        // Nearest first is the order of the ranking, so the walk ends as soon as enough are found.
        return fleet
            .positions
            .nearest(near.point)
            .take_while(|(distance, _)| near.distance_max.is_none_or(|max| *distance <= max))
            .filter_map(|(_, index)| fleet.get(DeviceIndex(index)))
            .filter(|device| is_new(device))
            .take(wanted.unwrap_or(usize::MAX))
            .map(|device| (rank::key(question, device), device))
            .collect();
    }
    if !terms.within.is_empty() {
        let inside: BTreeSet<u32> = question.regions().flat_map(|region| fleet.positions.inside(region)).collect();
        return from_set(&mut inside.into_iter().map(DeviceIndex));
    }
    match (carriers, wanted) {
        (Some(set), None) => from_set(&mut set.iter().copied()),
        (None, None) => from_set(&mut fleet.iter().map(|device| device.index)),
        // Least loaded first is the order of the ranking, so this walk ends early too.
        (_, Some(wanted)) => fleet
            .loads
            .from(question.start)
            .filter_map(|index| fleet.get(index))
            .filter(|device| is_new(device))
            .take(wanted)
            .map(|device| (rank::key(question, device), device))
            .collect(),
    }
}

/// The devices that carry the rarest of the wanted labels.
fn fewest_carriers<'a>(question: &Question<'a>) -> Option<&'a BTreeSet<DeviceIndex>> {
    let labels = &question.snapshot.fleet.labels;
    let sets = question.labels.iter().filter_map(|term| match term {
        LabelTerm::Carried(label) => labels.devices(*label),
        LabelTerm::Nowhere => None,
    });
    sets.min_by_key(|set| set.len())
}
