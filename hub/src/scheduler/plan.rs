//! The decision: what stays, what goes, what is new, and what is missing.
//!
//! A placement that is still feasible stays, even when a better device has appeared: nothing moves without a reason.

use super::candidates;
use super::decision::{Anchor, AnchorServer, Chosen, Decision, Fulfilment, Plan, Removed, Standing, Tally, TallyLine};
use super::filters::{self, Code, FILTERS, Figures, Verdict, first_failure};
use super::question::Question;
use super::rank::{self, Ranked};
use super::relation::{self, RELATIONS};
use super::select::{self, Arrangement, Holdings, Listed, Newcomers, Selection, holdings};
use super::snapshot::{Device, DeviceIndex, Snapshot};
use super::terms::OnShortfall;
use super::workload::{CurrentPlacement, WorkloadSpecView};
use crate::geo::Spacing;

/// Decides and counts, looking at every device.
pub fn plan(snapshot: &Snapshot<'_>, spec: &WorkloadSpecView, current: &[CurrentPlacement]) -> Plan {
    let question = Question::new(snapshot, spec);
    let holdings = holdings(current);
    let survey = Survey::new(&question, &holdings);
    let is_new = |ranked: &&Ranked<'_>| !holdings.contains_key(&ranked.1.index);
    let newcomers: Vec<Ranked<'_>> = survey.feasible.iter().filter(is_new).copied().collect();
    let (decision, arrangement) = decide(&question, &holdings, &Listed(&newcomers));
    let (tally, _) = survey.tally(&question, &arrangement);
    let near_misses = match decision.shortfall {
        0 => Vec::new(),
        1.. => near_misses(&question, &holdings, &arrangement),
    };
    Plan { decision, tally, near_misses }
}

/// The same decision without counts, through the indexes where a term is selective.
pub fn place(snapshot: &Snapshot<'_>, spec: &WorkloadSpecView, current: &[CurrentPlacement]) -> Decision {
    let question = Question::new(snapshot, spec);
    let holdings = holdings(current);
    place_in(&question, &holdings).0
}

pub(super) fn place_in(question: &Question<'_>, holdings: &Holdings) -> (Decision, Arrangement) {
    decide(question, holdings, &Indexed { question, holdings })
}

/// Newcomers by way of the fleet's indexes.
struct Indexed<'q, 'a> {
    question: &'q Question<'a>,
    holdings: &'q Holdings,
}

impl<'a> Newcomers<'a> for Indexed<'_, 'a> {
    fn newcomers(&self, wanted: Option<usize>, spacing: Option<&mut Spacing>) -> Vec<Ranked<'a>> {
        candidates::newcomers(self.question, self.holdings, wanted, spacing)
    }
}

/// One count per filter and comparison.
type Counts = [u32; FILTERS.len() + RELATIONS.len()];

/// Every device through every filter up to its first failure.
pub(super) struct Survey<'a> {
    counts: Counts,
    pub(super) feasible: Vec<Ranked<'a>>,
}

impl<'a> Survey<'a> {
    pub(super) fn new(question: &Question<'a>, holdings: &Holdings) -> Self {
        let mut survey = Self { counts: Counts::default(), feasible: Vec::new() };
        for device in question.snapshot.fleet.iter() {
            let held = holdings.get(&device.index).copied();
            match first_failure(question, device, held) {
                Some((place, _, _)) => count(&mut survey.counts, place),
                None => survey.feasible.push((rank::key(question, device), device)),
            }
        }
        survey
    }

    /// Counts the devices that do not fit beside the chosen ones too; gives the rest, which are feasible in every way.
    pub(super) fn tally(mut self, question: &Question<'_>, arrangement: &Arrangement) -> (Tally, Vec<Ranked<'a>>) {
        self.feasible.retain(|(_, device)| match relation::first_failure(question, arrangement, device) {
            Some(place) => {
                count(&mut self.counts, FILTERS.len() + place);
                false
            }
            None => true,
        });
        let tally = Tally {
            considered: question.snapshot.fleet.len(),
            failed: lines(self.counts),
            feasible: u32::try_from(self.feasible.len()).unwrap_or(u32::MAX),
        };
        (tally, self.feasible)
    }
}

fn count(counts: &mut Counts, place: usize) {
    if let Some(count) = counts.get_mut(place) {
        *count += 1;
    }
}

/// Counts the devices that fail exactly one filter, or no filter and exactly one comparison.
fn near_misses(question: &Question<'_>, holdings: &Holdings, arrangement: &Arrangement) -> Vec<TallyLine> {
    let mut counts = Counts::default();
    for device in question.snapshot.fleet.iter() {
        let held = holdings.get(&device.index).copied();
        let mut failing = FILTERS
            .iter()
            .enumerate()
            .filter(|(_, filter)| matches!(filter.ask(question, device, held), Verdict::Fail(_)))
            .map(|(place, _)| place);
        match (failing.next(), failing.next()) {
            (Some(place), None) => count(&mut counts, place),
            (Some(_), Some(_)) => {}
            (None, _) if arrangement.chosen.contains(&device.index) => {}
            (None, _) => {
                let verdicts = relation::verdicts(question, arrangement, device, true);
                let failing = verdicts.iter().enumerate().filter(|(_, (_, v, _))| matches!(v, Verdict::Fail(_)));
                let places: Vec<usize> = failing.map(|(place, _)| place).collect();
                if let [place] = places.as_slice() {
                    count(&mut counts, FILTERS.len() + place);
                }
            }
        }
    }
    lines(counts)
}

/// Counts in order of evaluation, without zeros.
fn lines(counts: Counts) -> Vec<TallyLine> {
    let codes = FILTERS.iter().map(|filter| filter.code).chain(RELATIONS);
    codes.zip(counts).filter(|(_, count)| *count > 0).map(|(code, count)| TallyLine { code, count }).collect()
}

/// Keeps what may stay, adds what is missing, and says what goes.
fn decide<'a>(question: &Question<'a>, holdings: &Holdings, source: &impl Newcomers<'a>) -> (Decision, Arrangement) {
    let (kept, mut removed) = review(question, holdings);
    let Selection { chosen, arrangement } = select::select(question, holdings, &kept, source);
    let anchors = anchors(question, &arrangement);
    let shortfall = match select::wanted(question) {
        Some(wanted) => wanted.saturating_sub(chosen.len()),
        None => anchors.iter().map(|anchor| usize::try_from(anchor.missing).unwrap_or(usize::MAX)).sum(),
    };
    let fulfilment = match (shortfall, question.spec.terms.on_shortfall) {
        (0, _) => Fulfilment::Complete,
        (1.., OnShortfall::Partial) => Fulfilment::Partial,
        (1.., OnShortfall::Wait) => Fulfilment::Waiting,
        (1.., OnShortfall::Fail) => Fulfilment::Failed,
    };
    let (chosen, held_back) = match fulfilment {
        Fulfilment::Complete | Fulfilment::Partial => (chosen, 0),
        // Whoever waits does not move either: what is feasible for itself stays where it is.
        Fulfilment::Waiting | Fulfilment::Failed => {
            let mut frozen = kept.clone();
            frozen.truncate(select::wanted(question).unwrap_or(usize::MAX));
            let held_back = chosen.len().saturating_sub(frozen.len());
            (frozen, held_back)
        }
    };
    let stays: std::collections::BTreeSet<DeviceIndex> = chosen.iter().map(|(_, device)| device.index).collect();
    let going = kept.iter().filter(|(_, device)| !stays.contains(&device.index));
    removed.extend(going.map(|(_, device)| part(question, &arrangement, device)));
    removed.sort_by_key(|removed| removed.device);
    let decision = Decision {
        workload: question.spec.name.clone(),
        revision: question.snapshot.revision,
        wanted: question.spec.wanted,
        chosen: chosen.into_iter().map(|(_, device)| choose(question, holdings, &arrangement, device)).collect(),
        removed,
        shortfall: u32::try_from(shortfall).unwrap_or(u32::MAX),
        fulfilment,
        held_back: u32::try_from(held_back).unwrap_or(u32::MAX),
        anchors,
        unresolved: question.unresolved(),
    };
    (decision, arrangement)
}

/// Parts the current placements into those that pass every filter, best first, and those that must go.
fn review<'a>(question: &Question<'a>, holdings: &Holdings) -> (Vec<Ranked<'a>>, Vec<Removed>) {
    let mut kept = Vec::new();
    let mut removed = Vec::new();
    for (index, holds) in holdings {
        match question.snapshot.fleet.get(*index) {
            None => {
                let (code, figures) = (Code::DeviceGone, Figures::None);
                removed.push(Removed { device: *index, name: None, code, figures, subject: None });
            }
            Some(device) => match first_failure(question, device, Some(*holds)) {
                None => kept.push((rank::key(question, device), device)),
                Some((_, code, figures)) => {
                    let subject = filters::subject(question, device, Some(*holds), code);
                    removed.push(remove(device, code, figures, subject));
                }
            },
        }
    }
    let is_other = |device: &Device| question.spec.losses.preferred.binary_search(&device.index).is_err();
    kept.sort_unstable_by_key(|(key, device)| (is_other(device), *key));
    (kept, removed)
}

/// Why a placement that passes every filter goes: it does not fit beside the others, or there are more than are wanted.
fn part(question: &Question<'_>, arrangement: &Arrangement, device: &Device) -> Removed {
    let failing = relation::verdicts(question, arrangement, device, true).into_iter().find_map(|answer| match answer {
        (code, Verdict::Fail(figures), subject) => Some((code, figures, subject)),
        (_, Verdict::Pass(_) | Verdict::NotAsked, _) => None,
    });
    match failing {
        Some((code, figures, subject)) => remove(device, code, figures, subject),
        None => {
            let mut preferred = question.spec.losses.preferred.iter();
            let is_displaced = preferred.any(|original| arrangement.chosen.contains(original));
            let code = if is_displaced { Code::OriginalReturned } else { Code::Surplus };
            remove(device, code, Figures::None, None)
        }
    }
}

fn remove(device: &Device, code: Code, figures: Figures, subject: Option<String>) -> Removed {
    Removed { device: device.index, name: Some(device.name.to_string()), code, figures, subject }
}

fn choose(question: &Question<'_>, holdings: &Holdings, arrangement: &Arrangement, device: &Device) -> Chosen {
    let served = arrangement.serving.as_ref().and_then(|serving| serving.of(device.index));
    let (distance, anchor, serves) = match served {
        Some((distance, anchor, serves)) => {
            let anchor = question.snapshot.fleet.get(anchor).map(|anchor| anchor.name.to_string());
            (Some(distance), anchor, serves)
        }
        None => (rank::distance(question, device), None, 0),
    };
    let score = rank::score(question, device, distance);
    Chosen {
        device: device.index,
        name: device.name.to_string(),
        standing: if holdings.contains_key(&device.index) { Standing::Kept } else { Standing::New },
        distance,
        anchor,
        serves,
        score_milli: score.iter().map(|part| part.milli).sum(),
        score,
    }
}

fn anchors(question: &Question<'_>, arrangement: &Arrangement) -> Vec<Anchor> {
    let fleet = question.snapshot.fleet;
    let name = |device: DeviceIndex| fleet.get(device).map(|device| device.name.to_string()).unwrap_or_default();
    let Some(serving) = &arrangement.serving else {
        return Vec::new();
    };
    let anchor = |served: &super::serving::Served| Anchor {
        device: served.anchor,
        name: name(served.anchor),
        served_by: served
            .by
            .iter()
            .filter(|(_, device)| arrangement.chosen.contains(device))
            .map(|(distance, device)| AnchorServer { device: *device, name: name(*device), distance: *distance })
            .collect(),
        missing: serving.missing(served, &arrangement.chosen),
    };
    serving.anchors.iter().map(anchor).collect()
}
