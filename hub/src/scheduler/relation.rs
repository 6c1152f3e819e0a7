//! The questions that compare devices: whether one more replica on a device would fit beside the chosen ones.
//!
//! They are asked after the filters and against the finished selection, so the answers do not depend on the order in
//! which devices were looked at. When replicas are missing, every feasible device that was not chosen fails one of them.

use super::candidates::admits;
use super::filters::{Code, Figures, Verdict};
use super::question::Question;
use super::select::Arrangement;
use super::snapshot::{Device, DeviceIndex};

/// In order of evaluation, after the filters.
pub(super) const RELATIONS: [Code; 3] = [Code::NotNearest, Code::MinDistance, Code::Spread];

/// The place in `RELATIONS` of the first that keeps a feasible device out of the selection; none for chosen ones.
pub(super) fn first_failure(question: &Question<'_>, arrangement: &Arrangement, device: &Device) -> Option<usize> {
    if arrangement.chosen.contains(&device.index) {
        return None;
    }
    let nearest = arrangement.serving.as_ref().is_some_and(|serving| serving.of(device.index).is_none());
    if nearest {
        return Some(0);
    }
    if !admits(arrangement.spacing.as_ref(), device) {
        return Some(1);
    }
    let is_full = arrangement.balance.as_ref().zip(question.domain(device));
    is_full.is_some_and(|(balance, domain)| !balance.admits(domain)).then_some(2)
}

/// The answers with figures and whom they are about. Devices that no filter stops are asked as above.
pub(super) fn verdicts(
    question: &Question<'_>,
    arrangement: &Arrangement,
    device: &Device,
    is_feasible: bool,
) -> [(Code, Verdict, Option<String>); 3] {
    let [nearest, distance, spread] = RELATIONS;
    let (nearest_verdict, anchor) = not_nearest(question, arrangement, device, is_feasible);
    let (distance_verdict, rival) = min_distance(question, arrangement, device);
    let (spread_verdict, domain) = spread_over(question, arrangement, device);
    [(nearest, nearest_verdict, anchor), (distance, distance_verdict, rival), (spread, spread_verdict, domain)]
}

type Answer = (Verdict, Option<String>);

const NOT_ASKED: Answer = (Verdict::NotAsked, None);

fn verdict(passes: bool, figures: Figures) -> Verdict {
    if passes { Verdict::Pass(figures) } else { Verdict::Fail(figures) }
}

fn name(question: &Question<'_>, device: DeviceIndex) -> Option<String> {
    question.snapshot.fleet.get(device).map(|device| device.name.to_string())
}

fn not_nearest(question: &Question<'_>, arrangement: &Arrangement, device: &Device, is_feasible: bool) -> Answer {
    let (Some(serving), Some(position)) = (&arrangement.serving, device.position) else {
        return NOT_ASKED;
    };
    if let Some((km, anchor, _)) = serving.of(device.index) {
        return (Verdict::Pass(Figures::Anchor { km, km_served: None }), name(question, anchor));
    }
    let passes = !is_feasible && serving.would_serve(position.point, device);
    match serving.nearest_anchor(position.point) {
        Some((km, anchor, km_served)) => (verdict(passes, Figures::Anchor { km, km_served }), name(question, anchor)),
        None => (Verdict::Fail(Figures::None), None),
    }
}

fn min_distance(question: &Question<'_>, arrangement: &Arrangement, device: &Device) -> Answer {
    let (Some(spacing), Some(position)) = (&arrangement.spacing, device.position) else {
        return NOT_ASKED;
    };
    let passes = arrangement.chosen.contains(&device.index) || spacing.admits(position.point);
    match spacing.nearest(position.point, device.index.0) {
        Some((km, other)) => {
            let figures = Figures::Spacing { km, km_min: spacing.min() };
            (verdict(passes, figures), name(question, DeviceIndex(other)))
        }
        None => (Verdict::Pass(Figures::None), None),
    }
}

fn spread_over(question: &Question<'_>, arrangement: &Arrangement, device: &Device) -> Answer {
    let (Some(balance), Some(domain)) = (&arrangement.balance, question.domain(device)) else {
        return NOT_ASKED;
    };
    let is_chosen = arrangement.chosen.contains(&device.index);
    let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let figures = Figures::Spread {
        replicas: small(balance.replicas(domain).saturating_sub(u64::from(is_chosen))),
        replicas_least: small(balance.least()),
        skew_max: small(balance.skew_max()),
    };
    (verdict(is_chosen || balance.admits(domain), figures), question.domain_name(device))
}
