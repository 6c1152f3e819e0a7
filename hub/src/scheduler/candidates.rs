//! Feasible devices without looking at the whole fleet, where a term of the workload is selective.
//!
//! An index only narrows down who is asked: every candidate still passes every filter, and the result must be the one
//! that a scan gives.

use super::filters::first_failure;
use super::labels::LabelId;
use super::question::Question;
use super::rank::{self, Ranked};
use super::select::Holdings;
use super::selector::LabelTerm;
use super::snapshot::{Device, DeviceIndex};
use crate::geo::Spacing;
use std::collections::BTreeSet;

/// Up to this many carriers of labels are asked one by one, before a walk by distance is tried.
const LABEL_CARRIERS_FEW: usize = 256;

/// The best feasible devices that do not hold the workload yet and keep their distance from what is spaced already; all
/// of them when no number is wanted.
pub(super) fn newcomers<'a>(
    question: &Question<'a>,
    holdings: &Holdings,
    wanted: Option<usize>,
    mut spacing: Option<&mut Spacing>,
) -> Vec<Ranked<'a>> {
    let terms = &question.spec.terms;
    let fleet = question.snapshot.fleet;
    let is_new =
        |device: &Device| !holdings.contains_key(&device.index) && first_failure(question, device, None).is_none();
    let from_set = |indexes: &mut dyn Iterator<Item = DeviceIndex>, spacing: Option<&mut Spacing>| {
        let ranked = indexes
            .filter_map(|index| fleet.get(index))
            .filter(|device| is_new(device))
            .map(|device| (rank::key(question, device), device));
        best(ranked.collect(), wanted, spacing)
    };
    if !terms.on.is_empty() {
        return from_set(&mut question.named.iter().copied(), spacing);
    }
    let labels = &question.selector.labels;
    if labels.iter().any(LabelTerm::is_nowhere) || question.selector.hopeless().next().is_some() {
        return Vec::new();
    }
    let carriers = fewest_carriers(question);
    if let Some((few, _)) = carriers.filter(|(_, count)| *count <= LABEL_CARRIERS_FEW) {
        return from_set(&mut carriers_of(question, few).into_iter(), spacing);
    }
    if let Some(near) = terms.near {
        // Nearest first is the order of the ranking, so the walk ends as soon as enough are found.
        return fleet
            .positions
            .nearest(near.point)
            .take_while(|(distance, _)| near.distance_max.is_none_or(|max| *distance <= max))
            .filter_map(|(_, index)| fleet.get(DeviceIndex(index)))
            .filter(|device| keep_apart(spacing.as_deref_mut(), device, is_new))
            .take(wanted.unwrap_or(usize::MAX))
            .map(|device| (rank::key(question, device), device))
            .collect();
    }
    if !terms.within.is_empty() {
        let inside: BTreeSet<u32> = question.regions().flat_map(|region| fleet.positions.inside(region)).collect();
        return from_set(&mut inside.into_iter().map(DeviceIndex), spacing);
    }
    match (carriers, wanted) {
        (Some((labels, _)), None) => from_set(&mut carriers_of(question, labels).into_iter(), spacing),
        (None, None) => from_set(&mut fleet.iter().map(|device| device.index), spacing),
        // Least loaded first is the order of the ranking, so this walk ends early too.
        (_, Some(wanted)) => fleet
            .loads
            .from(question.start)
            .filter_map(|index| fleet.get(index))
            .filter(|device| keep_apart(spacing.as_deref_mut(), device, is_new))
            .take(wanted)
            .map(|device| (rank::key(question, device), device))
            .collect(),
    }
}

/// The best of the ranked devices that keep their distance, in order; all of them when no number is wanted.
pub(super) fn best<'a>(
    mut ranked: Vec<Ranked<'a>>,
    wanted: Option<usize>,
    spacing: Option<&mut Spacing>,
) -> Vec<Ranked<'a>> {
    let Some(spacing) = spacing else {
        if let Some(wanted) = wanted.filter(|wanted| *wanted < ranked.len()) {
            ranked.select_nth_unstable_by_key(wanted, |(key, _)| *key);
            ranked.truncate(wanted);
        }
        ranked.sort_unstable_by_key(|(key, _)| *key);
        return ranked;
    };
    ranked.sort_unstable_by_key(|(key, _)| *key);
    let mut chosen = Vec::new();
    for (key, device) in ranked {
        if wanted.is_some_and(|wanted| chosen.len() >= wanted) {
            break;
        }
        if admits(Some(spacing), device) {
            space(Some(spacing), device);
            chosen.push((key, device));
        }
    }
    chosen
}

/// Takes a device that keeps its distance and may be taken. The distance is asked first, since it is the cheaper one.
fn keep_apart(spacing: Option<&mut Spacing>, device: &Device, may: impl Fn(&Device) -> bool) -> bool {
    let is_taken = admits(spacing.as_deref(), device) && may(device);
    if is_taken {
        space(spacing, device);
    }
    is_taken
}

/// Whether a device keeps its distance; without a position it cannot.
pub(super) fn admits(spacing: Option<&Spacing>, device: &Device) -> bool {
    match (spacing, device.position) {
        (Some(spacing), Some(position)) => spacing.admits(position.point),
        (Some(_), None) => false,
        (None, _) => true,
    }
}

pub(super) fn space(spacing: Option<&mut Spacing>, device: &Device) {
    if let (Some(spacing), Some(position)) = (spacing, device.position) {
        spacing.insert(device.index.0, position.point);
    }
}

/// Of the label sets one of which every match carries: the one with the fewest carriers, and their number (devices that
/// carry two of them counted twice).
fn fewest_carriers<'q>(question: &'q Question<'_>) -> Option<(&'q [LabelId], usize)> {
    let labels = &question.snapshot.fleet.labels;
    let count = |set: &[LabelId]| set.iter().filter_map(|label| labels.devices(*label)).map(BTreeSet::len).sum();
    question.selector.alternatives().map(|set| (set, count(set))).min_by_key(|(_, count)| *count)
}

/// The devices that carry one of the labels, each once.
fn carriers_of(question: &Question<'_>, set: &[LabelId]) -> BTreeSet<DeviceIndex> {
    let labels = &question.snapshot.fleet.labels;
    set.iter().filter_map(|label| labels.devices(*label)).flatten().copied().collect()
}
