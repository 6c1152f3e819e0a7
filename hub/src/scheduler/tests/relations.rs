//! Terms that compare devices, against brute force and against what they promise: distances, skew, nearest, stability.

use super::oracle::{World, world};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::num::NonZeroU32;

/// Places close enough for distances of kilometres to matter: around a town, a pole, the antimeridian, or one point.
fn crowd() -> impl Strategy<Value = Point> {
    let base = prop_oneof![
        3 => Just((86_000_000_i64, 500_000_000_i64)),
        1 => Just((1_800_000_000, 10_000_000)),
        1 => Just((0, 900_000_000)),
        1 => Just((-700_000_000, -900_000_000)),
    ];
    let steps = prop_oneof![1 => Just((0, 0)), 4 => (-2_000_000_i64..2_000_000, -2_000_000_i64..2_000_000)];
    (base, steps, 0_i64..3).prop_map(|(base, step, turn)| {
        // Near a pole all longitudes are close.
        let turn = if base.1.abs() == 900_000_000 { turn * 1_200_000_000 } else { 0 };
        let longitude = (base.0 + step.0 + turn + 1_800_000_000).rem_euclid(3_600_000_000) - 1_800_000_000;
        let latitude = (base.1 + step.1).clamp(-900_000_000, 900_000_000);
        Point::from_e7(longitude as i32, latitude as i32).unwrap()
    })
}

fn spread() -> impl Strategy<Value = Spread> {
    let regions = prop::collection::vec(prop_oneof![Just("r0"), Just("r1"), Just("nowhere")], 1..4);
    let by = prop_oneof![
        3 => Just(SpreadBy::Site),
        1 => regions.prop_map(|names| SpreadBy::Regions(names.into_iter().map(str::to_owned).collect())),
        2 => (0_u8..14).prop_map(SpreadBy::Cell),
    ];
    (by, 1_u32..4).prop_map(|(by, skew)| Spread { by, skew_max: NonZeroU32::new(skew).unwrap() })
}

fn nearest_per() -> impl Strategy<Value = NearestPer> {
    let devices = prop_oneof![
        1 => Just(Selector::default()),
        2 => Just(Selector { labels: vec![("zone".into(), "a".into())], requirements: Vec::new() }),
        1 => Just(Selector { labels: Vec::new(), requirements: vec![Requirement::Exists { key: "rack".into() }] }),
    ];
    (devices, 1_u32..4).prop_map(|(devices, k)| NearestPer { devices, k: NonZeroU32::new(k).unwrap() })
}

#[derive(Debug, Clone, Copy)]
enum Ask {
    Distance,
    Spread,
    Nearest,
    All,
}

/// A small fleet, most of it feasible, and terms that compare its devices.
fn related(ask: Ask) -> impl Strategy<Value = World> {
    let km = prop_oneof![4 => 0.0..40.0_f64, 1 => 40.0..20_000.0];
    let places = prop::collection::vec(prop::option::weighted(0.95, crowd()), 14);
    let marks = prop::collection::vec((0_u8..10, 0_u8..10), 14);
    (world(), places, marks, km, spread(), nearest_per(), prop::collection::btree_set(0..14_u32, 0..7), 0_u8..8)
        .prop_map(move |(mut world, places, marks, km, spread, nearest, current, which)| {
            world.devices.truncate(12);
            for ((device, place), mark) in world.devices.iter_mut().zip(&places).zip(marks) {
                match (place, &mut device.position) {
                    (Some(point), Some(position)) if which != 0 => {
                        (position.point, position.uncertainty) = (*point, Distance::ZERO);
                    }
                    (_, position) => *position = place.and(*position),
                }
                // Most devices can take it, so that it is the comparison that decides.
                if mark.0 > 1 {
                    device.admittance = Admittance::Open;
                    device.wire.max = 2;
                    device.runtimes.function = true;
                    device.total = resources(1000, 20, 5000);
                    device.taints.clear();
                }
                if mark.1 > 1 {
                    device.runs.clear();
                }
            }
            let terms = &mut world.spec.terms;
            if which < 6 {
                (terms.within, terms.on, terms.class, terms.labels, terms.requirements) = Default::default();
            }
            if let Some(near) = &mut terms.near
                && which > 2
            {
                near.distance_max = None;
            }
            let min = Distance::from_km(km);
            match ask {
                Ask::Distance => terms.distance_min = min,
                Ask::Spread => terms.spread = Some(spread),
                Ask::Nearest => (terms.nearest_per, terms.near) = (Some(nearest), None),
                Ask::All => {
                    terms.distance_min = min.filter(|_| which % 3 != 0);
                    terms.spread = Some(spread).filter(|_| which % 3 != 1);
                    terms.nearest_per = Some(nearest).filter(|_| which % 4 == 2);
                    if terms.nearest_per.is_some() {
                        terms.near = None;
                    }
                }
            }
            world.current = current.into_iter().collect();
            world
        })
}

/// What brute force knows of a world.
struct Facts {
    regions: Regions,
    held: BTreeMap<usize, Resources>,
    /// Passing every filter.
    feasible: Vec<usize>,
    replicas: usize,
}

impl Facts {
    fn of(world: &World) -> Option<Self> {
        let regions = world.regions()?;
        let current = world.placements();
        let held: BTreeMap<usize, Resources> = current.iter().map(|p| (p.device.0 as usize, p.holds)).collect();
        let feasible =
            (0..world.devices.len()).filter(|i| world.reason(&regions, *i, held.get(i).copied()).is_none()).collect();
        let replicas = match world.spec.wanted {
            Wanted::Replicas(n) => n as usize,
            Wanted::Every => usize::MAX,
        };
        Some(Self { regions, held, feasible, replicas })
    }

    fn kept(&self) -> Vec<usize> {
        self.feasible.iter().copied().filter(|i| self.held.contains_key(i)).collect()
    }
}

fn distance(world: &World, a: usize, b: usize) -> Distance {
    Distance::between(world.devices[a].position.unwrap().point, world.devices[b].position.unwrap().point)
}

fn is_apart(world: &World, a: usize, b: usize) -> bool {
    world.spec.terms.distance_min.is_none_or(|min| min == Distance::ZERO || distance(world, a, b) >= min)
}

/// Size of the largest subset whose members are all apart, by trying all subsets.
fn largest_apart(world: &World, of: &[usize]) -> usize {
    let apart = |set: u32| {
        let members: Vec<usize> = (0..of.len()).filter(|bit| set >> bit & 1 == 1).map(|bit| of[bit]).collect();
        members.iter().enumerate().all(|(at, a)| members[at + 1..].iter().all(|b| is_apart(world, *a, *b)))
    };
    (0..1_u32 << of.len()).filter(|set| apart(*set)).map(|set| set.count_ones() as usize).max().unwrap()
}

/// Replicas per domain, over the domains of `of`.
fn counts(world: &World, of: &[usize], chosen: &BTreeSet<usize>) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for i in of {
        *counts.entry(world.domain(*i).unwrap()).or_default() += usize::from(chosen.contains(i));
    }
    counts
}

fn skew(world: &World) -> usize {
    world.spec.terms.spread.as_ref().unwrap().skew_max.get() as usize
}

/// Approved devices with a position that match.
fn anchors(world: &World) -> Vec<usize> {
    let selector = &world.spec.terms.nearest_per.as_ref().unwrap().devices;
    let matches = |device: &DeviceFacts| {
        selector.labels.iter().all(|(key, value)| device.labels.get(key) == Some(value))
            && (selector.requirements.is_empty() || device.labels.contains_key("rack"))
    };
    let is_anchor =
        |device: &DeviceFacts| device.admittance != Admittance::Pending && device.position.is_some() && matches(device);
    (0..world.devices.len()).filter(|i| is_anchor(&world.devices[*i])).collect()
}

/// The k nearest of every anchor, together.
fn nearest_union(world: &World, of: &[usize]) -> BTreeSet<usize> {
    let k = world.spec.terms.nearest_per.as_ref().unwrap().k.get() as usize;
    let nearest = |anchor: &usize| {
        let mut order = of.to_vec();
        order.sort_by_key(|i| (distance(world, *anchor, *i), *i));
        order.truncate(k);
        order
    };
    anchors(world).iter().flat_map(nearest).collect()
}

fn chosen_of(decision: &Decision) -> BTreeSet<usize> {
    decision.chosen.iter().map(|c| c.device.0 as usize).collect()
}

/// Everything that holds for every world: feasible, apart, balanced, nearest; counts; the same by indexes; explained.
fn check(world: &World) -> Result<(Facts, Plan), TestCaseError> {
    let Some(facts) = Facts::of(world) else {
        return Err(TestCaseError::reject("no area"));
    };
    let fleet = fleet(world.devices.clone());
    let view = snapshot(&fleet, &facts.regions);
    let current = world.placements();
    let found = plan(&view, &world.spec, &current);
    let chosen = chosen_of(&found.decision);
    let terms = &world.spec.terms;

    prop_assert!(chosen.len() <= facts.replicas);
    prop_assert!(chosen.iter().all(|i| facts.feasible.contains(i)));
    for a in &chosen {
        prop_assert!(chosen.range(a + 1..).all(|b| is_apart(world, *a, *b)));
    }
    // Whom the nearest leave out is known exactly only when nothing runs yet; else the answer itself says it.
    let not_nearest = |i: &usize| {
        let explanation = explain_device(&view, &world.spec, &current, DeviceIndex(*i as u32)).unwrap();
        explanation.checks.iter().any(|c| c.code == Code::NotNearest && !c.passed)
    };
    let in_reach: Vec<usize> = match &terms.nearest_per {
        None => facts.feasible.clone(),
        Some(_) if facts.kept().is_empty() => {
            let union = nearest_union(world, &facts.feasible);
            facts.feasible.iter().copied().filter(|i| union.contains(i)).collect()
        }
        Some(_) => facts.feasible.iter().copied().filter(|i| !not_nearest(i)).collect(),
    };
    prop_assert!(chosen.iter().all(|i| in_reach.contains(i)));
    let per_domain = terms.spread.as_ref().map(|_| counts(world, &in_reach, &chosen));
    let least = per_domain.as_ref().and_then(|counts| counts.values().min()).copied().unwrap_or(0);
    if let Some(counts) = &per_domain {
        prop_assert!(counts.values().all(|count| *count <= least + skew(world)), "{counts:?}");
    }

    // Counts: the first reason of every device, and the sum is the fleet.
    let reason = |i: usize| {
        if let Some(code) = world.reason(&facts.regions, i, facts.held.get(&i).copied()) {
            return Some(code);
        }
        if chosen.contains(&i) {
            None
        } else if !in_reach.contains(&i) {
            Some(Code::NotNearest)
        } else if chosen.iter().any(|other| !is_apart(world, i, *other)) {
            Some(Code::MinDistance)
        } else if let Some(counts) = &per_domain
            && counts[&world.domain(i).unwrap()] + 1 > least + skew(world)
        {
            Some(Code::Spread)
        } else {
            None
        }
    };
    let mut expected: BTreeMap<Code, u32> = BTreeMap::new();
    let mut feasible = 0;
    for i in 0..world.devices.len() {
        match reason(i) {
            Some(code) => *expected.entry(code).or_default() += 1,
            None => feasible += 1,
        }
    }
    let tally: BTreeMap<Code, u32> = found.tally.failed.iter().map(|l| (l.code, l.count)).collect();
    prop_assert_eq!(&tally, &expected);
    prop_assert_eq!(found.tally.feasible, feasible);
    prop_assert_eq!(tally.values().sum::<u32>() + feasible, found.tally.considered);
    prop_assert_eq!(found.tally.considered as usize, world.devices.len());
    // Whenever replicas are missing, every device that was not chosen has its reason.
    if chosen.len() < facts.replicas {
        prop_assert_eq!(feasible as usize, chosen.len());
    }
    if facts.replicas != usize::MAX {
        prop_assert_eq!(found.decision.shortfall as usize, facts.replicas - chosen.len());
    }

    // What goes has the reason that it is counted under.
    let mut going: BTreeSet<usize> = facts.held.keys().copied().collect();
    going.retain(|i| !chosen.contains(i));
    let removed: Vec<usize> = found.decision.removed.iter().map(|r| r.device.0 as usize).collect();
    prop_assert_eq!(going.into_iter().collect::<Vec<_>>(), removed);
    for removed in &found.decision.removed {
        let i = removed.device.0 as usize;
        let expected = match world.devices.get(i) {
            None => Code::DeviceGone,
            Some(_) => reason(i).unwrap_or(Code::Surplus),
        };
        prop_assert_eq!(removed.code, expected);
    }

    // The indexes lead to the same decision, and one device's explanation begins with the reason that it is counted under.
    prop_assert_eq!(&place(&view, &world.spec, &current), &found.decision);
    for i in 0..world.devices.len() {
        let explanation = explain_device(&view, &world.spec, &current, DeviceIndex(i as u32)).unwrap();
        prop_assert_eq!(explanation.checks.iter().find(|c| !c.passed).map(|c| c.code), reason(i));
        prop_assert_eq!(matches!(explanation.outcome, Outcome::Chosen(_)), chosen.contains(&i));
        prop_assert_eq!(matches!(explanation.outcome, Outcome::NotFeasible), reason(i).is_some());
        // Rendering has no input on which it fails.
        prop_assert!(!text::device_text(&world.spec, &explanation).is_empty());
    }
    prop_assert!(text::plan_text(&world.spec, &found).contains("considered"));
    Ok((facts, found))
}

/// Planning again right after a commit changes nothing.
fn check_again(world: &World, facts: &Facts, decision: &Decision) -> Result<(), TestCaseError> {
    let mut fleet = fleet(world.devices.clone());
    let current = commit(&mut fleet, &world.spec, &world.placements(), decision);
    let again = place(&snapshot(&fleet, &facts.regions), &world.spec, &current);
    prop_assert!(again.removed.is_empty(), "{:?}", again.removed);
    prop_assert!(again.chosen.iter().all(|c| c.standing == Standing::Kept));
    prop_assert_eq!(again.shortfall, decision.shortfall);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replicas_keep_their_distance_and_as_many_stay_as_can(world in related(Ask::Distance)) {
        let (facts, found) = check(&world)?;
        let chosen = chosen_of(&found.decision);
        let kept = facts.kept();
        let stay = chosen.iter().filter(|i| kept.contains(i)).count();
        prop_assert_eq!(stay, largest_apart(&world, &kept).min(facts.replicas));
        // Never fewer than a fifth of what hindsight could place.
        let most = largest_apart(&world, &facts.feasible).min(facts.replicas);
        prop_assert!(chosen.len() * 5 >= most);
        // From nothing and near a point it is the first fit by distance.
        if let (Some(near), true) = (world.spec.terms.near, kept.is_empty()) {
            let mut order = facts.feasible.clone();
            order.sort_by_key(|i| (Distance::between(near.point, world.devices[*i].position.unwrap().point), *i));
            let mut first_fit = BTreeSet::new();
            for i in order {
                if first_fit.len() < facts.replicas && first_fit.iter().all(|other| is_apart(&world, i, *other)) {
                    first_fit.insert(i);
                }
            }
            prop_assert_eq!(&chosen, &first_fit);
        }
        check_again(&world, &facts, &found.decision)?;
    }

    #[test]
    fn spreading_places_the_most_and_moves_the_fewest(world in related(Ask::Spread)) {
        let (facts, found) = check(&world)?;
        let chosen = chosen_of(&found.decision);
        let all: BTreeSet<usize> = facts.feasible.iter().copied().collect();
        let capacity: Vec<usize> = counts(&world, &facts.feasible, &all).into_values().collect();
        let kept = facts.kept().into_iter().collect();
        let held: Vec<usize> = counts(&world, &facts.feasible, &kept).into_values().collect();
        // All ways to fill the domains within the skew: how many can be placed, and how many of those are there already.
        let (mut most, mut stay) = (0, 0);
        let mut fill = vec![0; capacity.len()];
        loop {
            let (low, high) = (fill.iter().min().copied().unwrap_or(0), fill.iter().max().copied().unwrap_or(0));
            let sum: usize = fill.iter().sum();
            if high - low <= skew(&world) && sum <= facts.replicas {
                most = most.max(sum);
                stay = stay.max(fill.iter().zip(&held).map(|(a, b)| *a.min(b)).sum());
            }
            let Some(next) = (0..fill.len()).find(|at| fill[*at] < capacity[*at]) else { break };
            fill[..next].fill(0);
            fill[next] += 1;
        }
        prop_assert_eq!(chosen.len(), most);
        prop_assert_eq!(chosen.iter().filter(|i| facts.held.contains_key(i)).count(), stay);
        check_again(&world, &facts, &found.decision)?;
    }

    #[test]
    fn every_anchor_has_its_nearest(world in related(Ask::Nearest)) {
        let mut world = world;
        world.spec.wanted = Wanted::Every;
        let (facts, found) = check(&world)?;
        let k = world.spec.terms.nearest_per.as_ref().unwrap().k.get();
        let anchors = anchors(&world);
        let listed: Vec<usize> = found.decision.anchors.iter().map(|a| a.device.0 as usize).collect();
        prop_assert_eq!(&listed, &anchors);
        for anchor in &found.decision.anchors {
            prop_assert_eq!(anchor.served_by.len(), facts.feasible.len().min(k as usize));
            prop_assert_eq!(anchor.missing, k - anchor.served_by.len() as u32);
        }
        let missing: u32 = found.decision.anchors.iter().map(|a| a.missing).sum();
        prop_assert_eq!(found.decision.shortfall, missing);
        let serving: BTreeSet<u32> =
            found.decision.anchors.iter().flat_map(|a| &a.served_by).map(|server| server.device.0).collect();
        let chosen: BTreeSet<u32> = found.decision.chosen.iter().map(|c| c.device.0).collect();
        prop_assert_eq!(serving, chosen);
        check_again(&world, &facts, &found.decision)?;
    }

    #[test]
    fn a_device_that_comes_or_goes_moves_nobody_else(
        world in related(Ask::Nearest),
        newcomer in crowd(),
        lost in any::<prop::sample::Index>(),
        is_by_distance in any::<bool>(),
    ) {
        let mut world = world;
        world.current.clear();
        if is_by_distance {
            world.spec.terms.nearest_per = None;
            world.spec.terms.distance_min = Some(Distance::from_metres(9_000));
        } else {
            world.spec.wanted = Wanted::Every;
        }
        let Some(facts) = Facts::of(&world) else {
            return Err(TestCaseError::reject("no area"));
        };
        let mut fleet = fleet(world.devices.clone());
        let first = place(&snapshot(&fleet, &facts.regions), &world.spec, &[]);
        let current = commit(&mut fleet, &world.spec, &[], &first);
        let near = DeviceFacts { position: exactly(newcomer.longitude(), newcomer.latitude()), ..gateway("new") };
        fleet.put(DeviceIndex(40), near).unwrap();
        let after = place(&snapshot(&fleet, &facts.regions), &world.spec, &current);
        prop_assert!(after.removed.is_empty(), "{:?}", after.removed);
        prop_assert!(after.chosen.iter().all(|c| c.standing == Standing::Kept || c.device.0 == 40));
        fleet.remove(DeviceIndex(40));
        // Whom an anchor leaves behind stops with it, so what is lost is not one.
        let anchors = world.spec.terms.nearest_per.as_ref().map(|_| anchors(&world)).unwrap_or_default();
        let losable: Vec<DeviceIndex> =
            current.iter().map(|p| p.device).filter(|d| !anchors.contains(&(d.0 as usize))).collect();
        if !losable.is_empty() {
            let lost = *lost.get(&losable);
            fleet.remove(lost);
            let after = place(&snapshot(&fleet, &facts.regions), &world.spec, &current);
            prop_assert!(after.removed.iter().all(|removed| removed.device == lost), "{:?}", after.removed);
        }
    }

    #[test]
    fn all_comparisons_together_hold(world in related(Ask::All)) {
        let (facts, found) = check(&world)?;
        if world.spec.terms.nearest_per.is_none() {
            check_again(&world, &facts, &found.decision)?;
        }
    }

    #[test]
    fn who_waits_starts_nothing_and_moves_nothing(world in related(Ask::All), is_failing in any::<bool>()) {
        let Some(facts) = Facts::of(&world) else {
            return Err(TestCaseError::reject("no area"));
        };
        let fleet = fleet(world.devices.clone());
        let view = snapshot(&fleet, &facts.regions);
        let current = world.placements();
        let partial = plan(&view, &world.spec, &current);
        let mut spec = world.spec.clone();
        spec.terms.on_shortfall = if is_failing { OnShortfall::Fail } else { OnShortfall::Wait };
        let found = plan(&view, &spec, &current);
        prop_assert_eq!(&place(&view, &spec, &current), &found.decision);
        prop_assert_eq!(&found.tally, &partial.tally);
        prop_assert_eq!(found.decision.shortfall, partial.decision.shortfall);
        if partial.decision.shortfall == 0 {
            prop_assert_eq!(&found.decision, &partial.decision);
        } else {
            let expected = if is_failing { Fulfilment::Failed } else { Fulfilment::Waiting };
            prop_assert_eq!(found.decision.fulfilment, expected);
            prop_assert!(found.decision.chosen.iter().all(|c| c.standing == Standing::Kept));
            prop_assert_eq!(found.decision.chosen.len(), facts.kept().len().min(facts.replicas));
            let has_surplus = facts.kept().len() > facts.replicas;
            let may_go = |removed: &Removed| !facts.feasible.contains(&(removed.device.0 as usize)) || has_surplus;
            prop_assert!(found.decision.removed.iter().all(may_go));
        }
    }
}
