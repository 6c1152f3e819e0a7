//! Replicas over sites, regions or cells: what stays and what is added so that no domain has too many more than another.
//!
//! A domain counts when at least one device in it is feasible; the difference between the fullest and the emptiest is at
//! most `skew_max`. Of the placements as many stay as any allowed result can hold (see `levels`). What is added is the
//! best ranked device of all domains that may take one more, again and again. Without a minimum distance that ends at
//! the greatest possible number: the emptiest domain is full then, and every other one is full or at the limit above it.
//! With one, devices that are too close to a chosen one are passed over, so the emptiest domain may be left emptier than
//! it could be, and with it all others; the bound of `independent` holds inside a domain, none is promised across them.

use super::candidates::{admits, space};
use super::question::{DomainKey, Question};
use super::rank::Ranked;
use super::snapshot::DeviceIndex;
use crate::geo::Spacing;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// Most levels that are tried when a minimum distance keeps the best one from being reached; then level 0, which always
/// can be.
const LEVELS_TRIED_MAX: u64 = 8;

/// Replicas per domain, empty ones included.
#[derive(Debug)]
pub(super) struct Balance {
    replicas: BTreeMap<DomainKey, u64>,
    skew_max: u64,
}

impl Balance {
    pub(super) fn replicas(&self, domain: DomainKey) -> u64 {
        self.replicas.get(&domain).copied().unwrap_or(0)
    }

    pub(super) fn least(&self) -> u64 {
        self.replicas.values().copied().min().unwrap_or(0)
    }

    pub(super) fn skew_max(&self) -> u64 {
        self.skew_max
    }

    /// Whether the domain may take one more. One that does not count yet would, with this device.
    pub(super) fn admits(&self, domain: DomainKey) -> bool {
        self.replicas(domain) < self.least() + self.skew_max || !self.replicas.contains_key(&domain)
    }
}

/// One domain's devices by their place in the list of all.
#[derive(Debug, Default)]
struct Domain {
    /// Placements that may stay as far as distances go.
    kept: Vec<usize>,
    /// All others.
    others: Vec<usize>,
}

/// What a fill makes: the chosen, the counts, the distances.
type Filled<'a> = (Vec<Ranked<'a>>, Balance, Option<Spacing>);

/// Chooses from all feasible devices, which come in the order of preference. `kept` are the placements that may stay as far as distances go.
pub(super) fn fill<'a>(
    question: &Question<'a>,
    all: &[Ranked<'a>],
    kept: &BTreeSet<DeviceIndex>,
    wanted: Option<usize>,
) -> Filled<'a> {
    let skew_max = question.spec.terms.spread.as_ref().map_or(1, |spread| u64::from(spread.skew_max.get()));
    let mut domains: BTreeMap<DomainKey, Domain> = BTreeMap::new();
    for (at, (_, device)) in all.iter().enumerate() {
        let Some(key) = question.domain(device) else { continue };
        let domain = domains.entry(key).or_default();
        if kept.contains(&device.index) { domain.kept.push(at) } else { domain.others.push(at) }
    }
    let (keys, domains): (Vec<DomainKey>, Vec<Domain>) = domains.into_iter().unzip();
    let wanted = wanted.map_or(u64::MAX, |wanted| wanted as u64);
    let mut filled = None;
    for level in levels(&domains, skew_max, wanted) {
        let mut run = Run::new(question, all, &domains, skew_max, wanted);
        run.keep(level);
        run.add(|replicas, _| replicas < level);
        run.add(|replicas, least| replicas < least + skew_max);
        let is_balanced = run.most() <= run.least() + skew_max;
        filled = Some(run);
        if is_balanced {
            break;
        }
    }
    match filled {
        Some(run) => {
            let replicas = keys.into_iter().zip(run.replicas).collect();
            (run.chosen, Balance { replicas, skew_max }, run.spacing)
        }
        None => (Vec::new(), Balance { replicas: BTreeMap::new(), skew_max }, question.spacing.map(Spacing::new)),
    }
}

/// Which numbers of replicas in the emptiest domain to aim at, the best first.
///
/// At level L every domain has at least L and at most L + skew_max, so that of k placements in a domain min(k, L +
/// skew_max) stay, and what is missing to L must be left of the wanted number. The first grows with L, the second
/// shrinks, so the best level is where they cross. Of equals the lower is taken: it forces less.
fn levels(domains: &[Domain], skew_max: u64, wanted: u64) -> Vec<u64> {
    let placed: Vec<u64> = domains.iter().map(|domain| domain.kept.len() as u64).collect();
    let capacity = domains.iter().map(|domain| (domain.kept.len() + domain.others.len()) as u64).min().unwrap_or(0);
    let fullest = placed.iter().copied().max().unwrap_or(0);
    let count = domains.len() as u64;
    let highest = capacity.min(wanted.checked_div(count).unwrap_or(0)).min(fullest.saturating_sub(skew_max));
    let stay = |level: u64| placed.iter().map(|k| (*k).min(level + skew_max)).sum::<u64>();
    let room = |level: u64| wanted.saturating_sub(placed.iter().map(|k| level.saturating_sub(*k)).sum());
    let (mut low, mut high) = (0, highest);
    while low < high {
        let middle = low + (high - low) / 2;
        if stay(middle) >= room(middle) { high = middle } else { low = middle + 1 }
    }
    let held = |level: u64| stay(level).min(room(level));
    let best = match low.checked_sub(1) {
        Some(below) if held(below) >= held(low) => below,
        Some(_) | None => low,
    };
    let mut levels: Vec<u64> = (best.saturating_sub(LEVELS_TRIED_MAX)..=best).rev().collect();
    if levels.last() != Some(&0) {
        levels.push(0);
    }
    levels
}

/// One attempt.
struct Run<'r, 'a> {
    all: &'r [Ranked<'a>],
    domains: &'r [Domain],
    skew_max: u64,
    wanted: u64,
    replicas: Vec<u64>,
    /// How many domains have how many replicas.
    histogram: BTreeMap<u64, usize>,
    /// For each domain how many of its others were looked at.
    next: Vec<usize>,
    chosen: Vec<Ranked<'a>>,
    spacing: Option<Spacing>,
}

impl<'r, 'a> Run<'r, 'a> {
    fn new(question: &Question<'a>, all: &'r [Ranked<'a>], domains: &'r [Domain], skew_max: u64, wanted: u64) -> Self {
        Self {
            all,
            domains,
            skew_max,
            wanted,
            replicas: vec![0; domains.len()],
            histogram: BTreeMap::from([(0, domains.len())]),
            next: vec![0; domains.len()],
            chosen: Vec::new(),
            spacing: question.spacing.map(Spacing::new),
        }
    }

    fn least(&self) -> u64 {
        self.histogram.first_key_value().map_or(0, |(replicas, _)| *replicas)
    }

    fn most(&self) -> u64 {
        self.histogram.last_key_value().map_or(0, |(replicas, _)| *replicas)
    }

    /// Keeps as many placements as the level allows: the best of each domain, less the worst of all if they are too many.
    fn keep(&mut self, level: u64) {
        let limit = usize::try_from(level.saturating_add(self.skew_max)).unwrap_or(usize::MAX);
        let of = |(place, domain): (usize, &Domain)| {
            domain.kept.iter().take(limit).map(|at| (*at, place)).collect::<Vec<_>>()
        };
        let mut stay: Vec<(usize, usize)> = self.domains.iter().enumerate().flat_map(of).collect();
        stay.sort_unstable();
        let mut left: Vec<u64> = self.domains.iter().map(|domain| domain.kept.len().min(limit) as u64).collect();
        let missing: u64 = left.iter().map(|replicas| level.saturating_sub(*replicas)).sum();
        let mut excess = (stay.len() as u64).saturating_sub(self.wanted.saturating_sub(missing));
        let mut kept = Vec::with_capacity(stay.len());
        for (at, place) in stay.into_iter().rev() {
            match left.get_mut(place) {
                Some(replicas) if excess > 0 && *replicas > level => {
                    *replicas -= 1;
                    excess -= 1;
                }
                Some(_) | None => kept.push((at, place)),
            }
        }
        for (at, place) in kept.into_iter().rev() {
            self.choose(at, place);
        }
    }

    /// Adds the best devices of the domains that may take one more, as long as any may.
    fn add(&mut self, may: impl Fn(u64, u64) -> bool) {
        let mut heads = BinaryHeap::new();
        let mut waiting: Vec<usize> = (0..self.domains.len()).collect();
        let mut least_before = None;
        while (self.chosen.len() as u64) < self.wanted {
            let least = self.least();
            if least_before != Some(least) {
                least_before = Some(least);
                for place in std::mem::take(&mut waiting) {
                    if !may(self.replicas.get(place).copied().unwrap_or(0), least) {
                        waiting.push(place);
                    } else if let Some(at) = self.head(place) {
                        heads.push(Reverse((at, place)));
                    }
                }
            }
            let Some(Reverse((at, place))) = heads.pop() else {
                return;
            };
            let has_room = self.all.get(at).is_some_and(|(_, device)| admits(self.spacing.as_ref(), device));
            if let (false, Some(next)) = (has_room, self.next.get_mut(place)) {
                *next += 1;
            } else {
                self.choose(at, place);
                if let Some(next) = self.next.get_mut(place) {
                    *next += 1;
                }
            }
            if !may(self.replicas.get(place).copied().unwrap_or(0), self.least()) {
                waiting.push(place);
            } else if let Some(at) = self.head(place) {
                heads.push(Reverse((at, place)));
            }
        }
    }

    /// The next of a domain's others that keeps its distance.
    fn head(&mut self, place: usize) -> Option<usize> {
        let others = &self.domains.get(place)?.others;
        let next = self.next.get_mut(place)?;
        while let Some(at) = others.get(*next) {
            if self.all.get(*at).is_some_and(|(_, device)| admits(self.spacing.as_ref(), device)) {
                return Some(*at);
            }
            *next += 1;
        }
        None
    }

    fn choose(&mut self, at: usize, place: usize) {
        let (Some(ranked), Some(replicas)) = (self.all.get(at), self.replicas.get_mut(place)) else {
            return;
        };
        if let Some(count) = self.histogram.get_mut(replicas) {
            *count -= 1;
            if *count == 0 {
                self.histogram.remove(replicas);
            }
        }
        *replicas += 1;
        *self.histogram.entry(*replicas).or_default() += 1;
        space(self.spacing.as_mut(), ranked.1);
        self.chosen.push(*ranked);
    }
}
