//! Which of the feasible devices are to run the workload, with all terms that compare devices.
//!
//! What runs already and still fits stays, as many of it as can. Then the best ranked of the others is added, again and
//! again, as long as it keeps its distance and its domain may take one more. With a minimum distance this may place
//! fewer than could be placed with hindsight, never fewer than a fifth (see `independent`); it never stops while any
//! device could still be added.

use super::balance::{self, Balance};
use super::candidates::space;
use super::independent::independent;
use super::question::Question;
use super::rank::Ranked;
use super::serving::Serving;
use super::snapshot::{DeviceIndex, Resources};
use super::workload::{CurrentPlacement, Wanted};
use crate::geo::Spacing;
use std::collections::{BTreeMap, BTreeSet};

/// What the workload holds now, by device.
pub(super) type Holdings = BTreeMap<DeviceIndex, Resources>;

pub(super) fn holdings(current: &[CurrentPlacement]) -> Holdings {
    current.iter().map(|placement| (placement.device, placement.holds)).collect()
}

/// The finished selection, as far as terms compare devices.
#[derive(Debug, Default)]
pub(super) struct Arrangement {
    pub(super) chosen: BTreeSet<DeviceIndex>,
    pub(super) spacing: Option<Spacing>,
    pub(super) balance: Option<Balance>,
    pub(super) serving: Option<Serving>,
}

/// The devices that run it, best first.
pub(super) struct Selection<'a> {
    pub(super) chosen: Vec<Ranked<'a>>,
    pub(super) arrangement: Arrangement,
}

/// Gives feasible devices without the workload, best first: as many as wanted (none: all), each keeping its distance.
pub(super) trait Newcomers<'a> {
    fn newcomers(&self, wanted: Option<usize>, spacing: Option<&mut Spacing>) -> Vec<Ranked<'a>>;
}

/// Chooses. `kept` are the placements that pass every filter, best first.
pub(super) fn select<'a>(
    question: &Question<'a>,
    holdings: &Holdings,
    kept: &[Ranked<'a>],
    source: &impl Newcomers<'a>,
) -> Selection<'a> {
    let terms = &question.spec.terms;
    let wanted = wanted(question);
    if terms.nearest_per.is_none() && terms.spread.is_none() {
        let (chosen, spacing) = fill(question, kept.to_vec(), wanted, source);
        return finish(chosen, Arrangement { spacing, ..Arrangement::default() });
    }
    // These terms look at every feasible device; what runs already comes first.
    let mut all = kept.to_vec();
    all.extend(source.newcomers(None, None));
    let serving = Serving::new(question, holdings, &all);
    if let Some(serving) = &serving {
        all = serving.ranked(&all);
        all.sort_by_key(|(key, device)| (!holdings.contains_key(&device.index), *key));
    }
    let count = all.iter().filter(|(_, device)| holdings.contains_key(&device.index)).count();
    let (kept, others) = all.split_at(count);
    if terms.spread.is_none() {
        let (chosen, spacing) = fill(question, kept.to_vec(), wanted, &Listed(others));
        return finish(chosen, Arrangement { spacing, serving, ..Arrangement::default() });
    }
    let stay = match question.spacing {
        Some(min) => independent(kept.to_vec(), min),
        None => kept.to_vec(),
    };
    let stay = stay.iter().map(|(_, device)| device.index).collect();
    let (chosen, balance, spacing) = balance::fill(question, &all, &stay, wanted);
    finish(chosen, Arrangement { spacing, balance: Some(balance), serving, ..Arrangement::default() })
}

fn finish<'a>(mut chosen: Vec<Ranked<'a>>, mut arrangement: Arrangement) -> Selection<'a> {
    chosen.sort_unstable_by_key(|(key, _)| *key);
    arrangement.chosen = chosen.iter().map(|(_, device)| device.index).collect();
    Selection { chosen, arrangement }
}

/// The number of replicas; none for all that can be had.
pub(super) fn wanted(question: &Question<'_>) -> Option<usize> {
    match question.spec.wanted {
        Wanted::Replicas(replicas) => Some(usize::try_from(replicas).unwrap_or(usize::MAX)),
        Wanted::Every => None,
    }
}

/// Without domains: what may stay, then the best of the rest.
fn fill<'a>(
    question: &Question<'a>,
    kept: Vec<Ranked<'a>>,
    wanted: Option<usize>,
    source: &impl Newcomers<'a>,
) -> (Vec<Ranked<'a>>, Option<Spacing>) {
    let mut spacing = question.spacing.map(Spacing::new);
    let mut chosen = match question.spacing {
        Some(min) => independent(kept, min),
        None => kept,
    };
    chosen.truncate(wanted.unwrap_or(usize::MAX));
    for (_, device) in &chosen {
        space(spacing.as_mut(), device);
    }
    let missing = wanted.map(|wanted| wanted - chosen.len());
    if missing != Some(0) {
        chosen.extend(source.newcomers(missing, spacing.as_mut()));
    }
    (chosen, spacing)
}

/// Newcomers that are known already, in any order.
pub(super) struct Listed<'l, 'a>(pub(super) &'l [Ranked<'a>]);

impl<'a> Newcomers<'a> for Listed<'_, 'a> {
    fn newcomers(&self, wanted: Option<usize>, spacing: Option<&mut Spacing>) -> Vec<Ranked<'a>> {
        super::candidates::best(self.0.to_vec(), wanted, spacing)
    }
}
