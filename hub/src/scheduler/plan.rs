//! The decision: what stays, what goes, what is new, and what is missing.
//!
//! A placement that is still feasible stays, even when a better device has appeared: nothing moves without a reason.

use super::candidates;
use super::filters::{Code, FILTERS, Figures, Verdict, first_failure};
use super::question::Question;
use super::rank::{self, RankKey, ScorePart};
use super::snapshot::{Device, DeviceIndex, Resources, Snapshot};
use super::workload::{CurrentPlacement, Wanted, WorkloadSpecView};
use crate::geo::Distance;
use serde::Serialize;
use std::collections::BTreeMap;

/// Whether a chosen device runs the workload already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    Kept,
    New,
}

/// A device that is to run the workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Chosen {
    pub device: DeviceIndex,
    pub name: String,
    pub standing: Standing,
    /// Kilometres to the point of `near`.
    #[serde(rename = "distanceKm")]
    pub distance: Option<Distance>,
    pub score_milli: u16,
    pub score: Vec<ScorePart>,
}

/// A device that is to stop running the workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Removed {
    pub device: DeviceIndex,
    /// None when the device is no longer known.
    pub name: Option<String>,
    pub code: Code,
    #[serde(skip_serializing_if = "Figures::is_none")]
    pub figures: Figures,
}

/// What to do, best device first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    pub workload: String,
    /// The commit that the snapshot showed.
    pub revision: u64,
    pub wanted: Wanted,
    pub chosen: Vec<Chosen>,
    pub removed: Vec<Removed>,
    /// Replicas that no device can take; what can be placed is placed.
    pub shortfall: u32,
    /// Names in the terms that match nothing, as `kind/name`.
    pub unresolved: Vec<String>,
}

/// One reason and how many devices it is the first for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TallyLine {
    pub code: Code,
    pub count: u32,
}

/// The whole fleet by first failing filter; counts and feasible sum to considered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    pub considered: u32,
    /// In order of evaluation, without zeros.
    pub failed: Vec<TallyLine>,
    pub feasible: u32,
}

/// A decision and its reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    #[serde(flatten)]
    pub decision: Decision,
    pub tally: Tally,
    /// When replicas are missing: devices that fail this one filter only, so that lifting it would help.
    pub near_misses: Vec<TallyLine>,
}

/// A feasible device with what orders it.
pub(super) type Ranked<'a> = (RankKey, &'a Device);

/// What the workload holds now, by device.
pub(super) type Holdings = BTreeMap<DeviceIndex, Resources>;

/// Decides and counts, looking at every device.
pub fn plan(snapshot: &Snapshot<'_>, spec: &WorkloadSpecView, current: &[CurrentPlacement]) -> Plan {
    let question = Question::new(snapshot, spec);
    let holdings = holdings(current);
    let (tally, feasible) = survey(&question, &holdings);
    let decision = decide(&question, &holdings, |wanted| {
        let newcomers = feasible.iter().filter(|(_, device)| !holdings.contains_key(&device.index));
        best(newcomers.copied().collect(), wanted)
    });
    let near_misses = match decision.shortfall {
        0 => Vec::new(),
        1.. => near_misses(&question, &holdings),
    };
    Plan { decision, tally, near_misses }
}

/// The same decision without counts, through the indexes where a term is selective.
pub fn place(snapshot: &Snapshot<'_>, spec: &WorkloadSpecView, current: &[CurrentPlacement]) -> Decision {
    let question = Question::new(snapshot, spec);
    let holdings = holdings(current);
    decide(&question, &holdings, |wanted| candidates::newcomers(&question, &holdings, wanted))
}

pub(super) fn holdings(current: &[CurrentPlacement]) -> Holdings {
    current.iter().map(|placement| (placement.device, placement.holds)).collect()
}

/// Every device through every filter up to its first failure.
pub(super) fn survey<'a>(question: &Question<'a>, holdings: &Holdings) -> (Tally, Vec<Ranked<'a>>) {
    let mut counts = [0_u32; FILTERS.len()];
    let mut feasible = Vec::new();
    for device in question.snapshot.fleet.iter() {
        let held = holdings.get(&device.index).copied();
        match first_failure(question, device, held) {
            Some((place, _, _)) => {
                if let Some(count) = counts.get_mut(place) {
                    *count += 1;
                }
            }
            None => feasible.push((rank::key(question, device), device)),
        }
    }
    let tally = Tally {
        considered: question.snapshot.fleet.len(),
        failed: lines(counts),
        feasible: u32::try_from(feasible.len()).unwrap_or(u32::MAX),
    };
    (tally, feasible)
}

/// Counts the devices that fail exactly one filter, by that filter.
fn near_misses(question: &Question<'_>, holdings: &Holdings) -> Vec<TallyLine> {
    let mut counts = [0_u32; FILTERS.len()];
    for device in question.snapshot.fleet.iter() {
        let held = holdings.get(&device.index).copied();
        let mut failing = FILTERS
            .iter()
            .zip(&mut counts)
            .filter(|(filter, _)| matches!(filter.ask(question, device, held), Verdict::Fail(_)));
        if let (Some((_, count)), None) = (failing.next(), failing.next()) {
            *count += 1;
        }
    }
    lines(counts)
}

/// Counts in filter order, without zeros.
fn lines(counts: [u32; FILTERS.len()]) -> Vec<TallyLine> {
    let failed = FILTERS.iter().zip(counts).filter(|(_, count)| *count > 0);
    failed.map(|(filter, count)| TallyLine { code: filter.code, count }).collect()
}

/// The best of the ranked devices, in order; all of them when no number is wanted.
pub(super) fn best(mut ranked: Vec<Ranked<'_>>, wanted: Option<usize>) -> Vec<Ranked<'_>> {
    if let Some(wanted) = wanted.filter(|wanted| *wanted < ranked.len()) {
        ranked.select_nth_unstable_by_key(wanted, |(key, _)| *key);
        ranked.truncate(wanted);
    }
    ranked.sort_unstable_by_key(|(key, _)| *key);
    ranked
}

/// Keeps what is feasible, then asks for as many newcomers as are missing (none: all that can be had).
fn decide<'a>(
    question: &Question<'a>,
    holdings: &Holdings,
    newcomers: impl FnOnce(Option<usize>) -> Vec<Ranked<'a>>,
) -> Decision {
    let (mut kept, mut removed) = review(question, holdings);
    let replicas = match question.spec.wanted {
        Wanted::Replicas(replicas) => Some(usize::try_from(replicas).unwrap_or(usize::MAX)),
        Wanted::Every => None,
    };
    if let Some(replicas) = replicas.filter(|replicas| *replicas < kept.len()) {
        let surplus = kept.split_off(replicas);
        removed.extend(surplus.iter().map(|(_, device)| remove(device, Code::Surplus, Figures::None)));
    }
    removed.sort_by_key(|removed| removed.device);
    let missing = replicas.map(|replicas| replicas - kept.len());
    let new = match missing {
        Some(0) => Vec::new(),
        Some(_) | None => newcomers(missing),
    };
    let shortfall = missing.map_or(0, |missing| missing.saturating_sub(new.len()));
    let mut all: Vec<(Ranked<'a>, Standing)> = kept
        .into_iter()
        .map(|ranked| (ranked, Standing::Kept))
        .chain(new.into_iter().map(|ranked| (ranked, Standing::New)))
        .collect();
    all.sort_unstable_by_key(|((key, _), _)| *key);
    Decision {
        workload: question.spec.name.clone(),
        revision: question.snapshot.revision,
        wanted: question.spec.wanted,
        chosen: all.into_iter().map(|((_, device), standing)| choose(question, device, standing)).collect(),
        removed,
        shortfall: u32::try_from(shortfall).unwrap_or(u32::MAX),
        unresolved: question.unresolved(),
    }
}

/// Parts the current placements into those that may stay, best first, and those that must go.
fn review<'a>(question: &Question<'a>, holdings: &Holdings) -> (Vec<Ranked<'a>>, Vec<Removed>) {
    let mut kept = Vec::new();
    let mut removed = Vec::new();
    for (index, holds) in holdings {
        match question.snapshot.fleet.get(*index) {
            None => {
                removed.push(Removed { device: *index, name: None, code: Code::DeviceGone, figures: Figures::None })
            }
            Some(device) => match first_failure(question, device, Some(*holds)) {
                None => kept.push((rank::key(question, device), device)),
                Some((_, code, figures)) => removed.push(remove(device, code, figures)),
            },
        }
    }
    kept.sort_unstable_by_key(|(key, _)| *key);
    (kept, removed)
}

fn remove(device: &Device, code: Code, figures: Figures) -> Removed {
    Removed { device: device.index, name: Some(device.name.to_string()), code, figures }
}

fn choose(question: &Question<'_>, device: &Device, standing: Standing) -> Chosen {
    let score = rank::score(question, device);
    Chosen {
        device: device.index,
        name: device.name.to_string(),
        standing,
        distance: rank::distance(question, device),
        score_milli: score.iter().map(|part| part.milli).sum(),
        score,
    }
}
