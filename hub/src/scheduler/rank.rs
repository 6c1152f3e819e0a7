//! Which of two feasible devices is better: exact keys that decide, and scores that explain.
//!
//! Near a point or an anchor the nearer device is better. Otherwise the one with fewer placements is, and among equals the one that
//! comes first on the workload's way round the circle of device hashes (see `load_order`).
//! Scores are for people and follow from the keys; no decision is made with them.

use super::question::Question;
use super::snapshot::Device;
use crate::geo::Distance;
use serde::Serialize;

/// Lower is better; the device index makes it total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RankKey {
    cost: u64,
    /// How far round the circle of equal loads, from where the workload starts.
    turn: u64,
    index: u32,
}

impl RankKey {
    /// Nearest first.
    pub(super) fn nearest(distance: Distance, device: &Device) -> Self {
        Self { cost: distance.millimetres(), turn: 0, index: device.index.0 }
    }
}

/// A device with what orders it.
pub(super) type Ranked<'a> = (RankKey, &'a Device);

/// One part of a score, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScorePart {
    pub name: &'static str,
    pub milli: u16,
}

/// Distance at which the score is one half when there is no limit to measure against.
const HALF_SCORE_KM: u64 = 100;

pub(super) fn key(question: &Question<'_>, device: &Device) -> RankKey {
    match distance(question, device) {
        Some(distance) => RankKey::nearest(distance, device),
        None => RankKey {
            cost: u64::from(device.placements),
            turn: device.hash.wrapping_sub(question.start),
            index: device.index.0,
        },
    }
}

/// Distance to the point of `near`, if the workload has one and the device's position is known.
pub(super) fn distance(question: &Question<'_>, device: &Device) -> Option<Distance> {
    let near = question.spec.terms.near?;
    Some(Distance::between(near.point, device.position?.point))
}

/// Parts that sum to the score. The distance is the one to the point of `near`, or to the nearest anchor.
pub(super) fn score(question: &Question<'_>, device: &Device, distance: Option<Distance>) -> Vec<ScorePart> {
    let part = match distance {
        Some(distance) => {
            let max = question.spec.terms.near.and_then(|near| near.distance_max);
            ScorePart { name: "distance", milli: distance_milli(distance, max) }
        }
        None => ScorePart { name: "idle", milli: share_milli(1, 1 + u64::from(device.placements)) },
    };
    vec![part]
}

/// Falls linearly to 0 at the limit; without a limit it halves at `HALF_SCORE_KM`.
fn distance_milli(distance: Distance, max: Option<Distance>) -> u16 {
    let millimetres = distance.millimetres();
    match max.map(Distance::millimetres) {
        Some(0) => 1000,
        Some(max) => share_milli(max.saturating_sub(millimetres), max),
        None => {
            let half = HALF_SCORE_KM * 1_000_000;
            share_milli(half, half + millimetres)
        }
    }
}

fn share_milli(part: u64, whole: u64) -> u16 {
    let milli = part.saturating_mul(1000).checked_div(whole).unwrap_or(0);
    u16::try_from(milli.min(1000)).unwrap_or(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_fall_with_distance_and_stay_in_range() {
        let km = |km: u32| Distance::from_metres(km * 1000);
        assert_eq!(distance_milli(km(25), Some(km(100))), 750);
        assert_eq!(distance_milli(km(100), Some(km(100))), 0);
        assert_eq!(distance_milli(km(0), Some(Distance::ZERO)), 1000);
        assert_eq!(distance_milli(km(100), None), 500);
        assert_eq!(distance_milli(km(0), None), 1000);
    }
}
