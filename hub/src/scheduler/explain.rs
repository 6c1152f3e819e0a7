//! Why one device was chosen or not: every filter's answer with its figures, and where the device ranks or would rank.

use super::decision::Standing;
use super::filters::{self, Code, FILTERS, Figures, Held, Verdict, first_failure};
use super::plan::{self, Survey};
use super::question::Question;
use super::rank::{self, RankKey};
use super::relation;
use super::select::holdings;
use super::snapshot::{Device, DeviceIndex, Snapshot};
use super::workload::{CurrentPlacement, WorkloadSpecView};
use crate::geo::Distance;
use serde::Serialize;

/// One filter's answer. Filters that the workload does not ask for are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    pub code: Code,
    pub passed: bool,
    #[serde(skip_serializing_if = "Figures::is_none")]
    pub figures: Figures,
    /// What the answer is about, by name: the taint, the other workload, the other replica's device, the site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// What became of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    Chosen(Standing),
    /// Feasible, but others ranked before it or were kept.
    Outranked,
    /// It would be chosen, but replicas are missing and the workload waits for all of them.
    HeldBack,
    NotFeasible,
}

/// A feasible device next to the explained one in the ranking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rival {
    pub device: DeviceIndex,
    pub name: String,
    #[serde(rename = "distanceKm")]
    pub distance: Option<Distance>,
}

/// The whole answer for one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceExplanation {
    pub device: DeviceIndex,
    pub name: String,
    pub outcome: Outcome,
    /// In order of evaluation; all that fail, not only the first.
    pub checks: Vec<Check>,
    /// Among all feasible devices, from 1: its place, or the one that it would have if it were feasible. None when it
    /// cannot be ranked, for want of a position.
    pub rank: Option<u32>,
    /// The feasible device that comes next after it.
    pub ahead_of: Option<Rival>,
    /// Feasible devices in the fleet.
    pub feasible: u32,
}

/// Explains one device; none when it is not known.
pub fn explain_device(
    snapshot: &Snapshot<'_>,
    spec: &WorkloadSpecView,
    current: &[CurrentPlacement],
    device: DeviceIndex,
) -> Option<DeviceExplanation> {
    let device = snapshot.fleet.get(device)?;
    let question = Question::new(snapshot, spec);
    let holdings = holdings(current);
    let held = holdings.get(&device.index).copied();
    let (decision, arrangement) = plan::place_in(&question, &holdings);
    let is_feasible = first_failure(&question, device, held).is_none();
    let mut checks = checks(&question, device, held);
    let relations = relation::verdicts(&question, &arrangement, device, is_feasible);
    checks.extend(relations.into_iter().filter_map(|(code, verdict, subject)| check(code, verdict, subject)));
    let chosen = decision.chosen.iter().find(|chosen| chosen.device == device.index);
    let outcome = match chosen {
        Some(chosen) => Outcome::Chosen(chosen.standing),
        None if arrangement.chosen.contains(&device.index) => Outcome::HeldBack,
        None if checks.iter().all(|check| check.passed) => Outcome::Outranked,
        None => Outcome::NotFeasible,
    };
    let (tally, mut feasible) = Survey::new(&question, &holdings).tally(&question, &arrangement);
    let (mut own, mut can_rank) =
        (rank::key(&question, device), spec.terms.near.is_none() || device.position.is_some());
    if let Some(serving) = &arrangement.serving {
        feasible = serving.ranked(&feasible);
        let served = serving.of(device.index);
        can_rank = served.is_some();
        own = served.map_or(own, |(distance, ..)| RankKey::nearest(distance, device));
    }
    let distance = |rival: &Device| match &arrangement.serving {
        Some(serving) => serving.of(rival.index).map(|(distance, ..)| distance),
        None => rank::distance(&question, rival),
    };
    let before = feasible.iter().filter(|(key, _)| *key < own).count();
    let next = feasible.iter().filter(|(key, _)| *key > own).min_by_key(|(key, _)| *key);
    Some(DeviceExplanation {
        device: device.index,
        name: device.name.to_string(),
        outcome,
        checks,
        rank: can_rank.then(|| u32::try_from(before + 1).unwrap_or(u32::MAX)),
        ahead_of: next.filter(|_| can_rank).map(|(_, rival)| Rival {
            device: rival.index,
            name: rival.name.to_string(),
            distance: distance(rival),
        }),
        feasible: tally.feasible,
    })
}

fn checks(question: &Question<'_>, device: &Device, held: Held) -> Vec<Check> {
    let ask = |filter: &filters::Filter| {
        let subject = filters::subject(question, device, held, filter.code);
        check(filter.code, filter.ask(question, device, held), subject)
    };
    FILTERS.iter().filter_map(ask).collect()
}

fn check(code: Code, verdict: Verdict, subject: Option<String>) -> Option<Check> {
    match verdict {
        Verdict::NotAsked => None,
        Verdict::Pass(figures) => Some(Check { code, passed: true, figures, subject }),
        Verdict::Fail(figures) => Some(Check { code, passed: false, figures, subject }),
    }
}
