//! Which of the present placements stay when some have come too close to each other: as many as can.
//!
//! Placements that are too close are joined; in each connected group the largest set without a join stays, and among
//! equals the one with the better ranked devices. Groups up to `GROUP_EXACT_MAX` are solved exactly. Larger ones, and
//! fleets with more than `JOINS_MAX` joins, are thinned best first: around one device at most five others can be that
//! close to it and not to each other, so at least a fifth of the largest set stays.

use super::candidates::{admits, space};
use super::rank::Ranked;
use crate::geo::{Distance, Spacing};

/// Largest group that is solved exactly; the search visits some 10,000 sets.
const GROUP_EXACT_MAX: usize = 20;
/// Most joins that are looked at.
const JOINS_MAX: usize = 100_000;

/// The placements that stay, in their order. They come best first.
pub(super) fn independent<'a>(placements: Vec<Ranked<'a>>, min: Distance) -> Vec<Ranked<'a>> {
    let Some(joins) = joins(&placements, min) else {
        return thinned(&placements, &(0..placements.len()).collect::<Vec<_>>(), min)
            .into_iter()
            .filter_map(|at| placements.get(at).copied())
            .collect();
    };
    let mut stay = Vec::with_capacity(placements.len());
    for group in groups(&joins) {
        if let [only] = group.as_slice() {
            stay.push(*only);
        } else if group.len() <= GROUP_EXACT_MAX {
            stay.extend(largest(&group, &joins));
        } else {
            stay.extend(thinned(&placements, &group, min));
        }
    }
    stay.sort_unstable();
    stay.into_iter().filter_map(|at| placements.get(at).copied()).collect()
}

/// For each placement those that are too close to it; none when there are too many.
fn joins(placements: &[Ranked<'_>], min: Distance) -> Option<Vec<Vec<usize>>> {
    let mut spacing = Spacing::new(min);
    let mut joins = vec![Vec::new(); placements.len()];
    let mut count = 0;
    for (at, (_, device)) in placements.iter().enumerate() {
        let position = device.position?;
        // Ids are places in the list here, so that what comes back can be looked up.
        for (_, other) in spacing.too_close(position.point) {
            let other = usize::try_from(other).ok()?;
            joins.get_mut(at)?.push(other);
            joins.get_mut(other)?.push(at);
            count += 1;
        }
        if count > JOINS_MAX {
            return None;
        }
        spacing.insert(u32::try_from(at).ok()?, position.point);
    }
    Some(joins)
}

/// Connected placements, each group in order.
fn groups(joins: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut seen = vec![false; joins.len()];
    let mut groups = Vec::new();
    for first in 0..joins.len() {
        let mut group = Vec::new();
        let mut open = vec![first];
        while let Some(at) = open.pop() {
            let Some(is_seen) = seen.get_mut(at) else { continue };
            if !std::mem::replace(is_seen, true) {
                group.push(at);
                open.extend(joins.get(at).into_iter().flatten());
            }
        }
        if !group.is_empty() {
            group.sort_unstable();
            groups.push(group);
        }
    }
    groups
}

/// The largest set without a join, by branch and bound over bit sets; the first found in order wins among equals.
fn largest(group: &[usize], joins: &[Vec<usize>]) -> Vec<usize> {
    let masks: Vec<u32> = group
        .iter()
        .map(|at| {
            let others = joins.get(*at).into_iter().flatten();
            others.filter_map(|other| group.binary_search(other).ok()).fold(0, |mask, bit| mask | 1 << bit)
        })
        .collect();
    let all = u32::MAX >> (32 - group.len().min(32));
    let mut best = 0_u32;
    // Taken so far, and still open; the branch that takes the best ranked is looked at first.
    let mut branches = vec![(0_u32, all)];
    while let Some((taken, open)) = branches.pop() {
        if taken.count_ones() + open.count_ones() <= best.count_ones() {
            continue;
        }
        if open == 0 {
            best = taken;
            continue;
        }
        let bit = open.trailing_zeros();
        let mask = usize::try_from(bit).ok().and_then(|bit| masks.get(bit)).copied().unwrap_or(0);
        let rest = open & !(1 << bit);
        branches.push((taken, rest));
        branches.push((taken | 1 << bit, rest & !mask));
    }
    let is_taken = |place: usize| best >> place & 1 == 1;
    group.iter().enumerate().filter(|(place, _)| is_taken(*place)).map(|(_, at)| *at).collect()
}

/// Best first, whatever keeps its distance.
fn thinned(placements: &[Ranked<'_>], group: &[usize], min: Distance) -> Vec<usize> {
    let mut spacing = Spacing::new(min);
    let mut stay = Vec::new();
    for at in group {
        let Some((_, device)) = placements.get(*at) else { continue };
        if admits(Some(&spacing), device) {
            space(Some(&mut spacing), device);
            stay.push(*at);
        }
    }
    stay
}
