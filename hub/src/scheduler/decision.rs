//! What planning gives: the decision, its reasons, and how many devices each reason stopped. Only shapes; `plan` fills them.

use super::filters::{Code, Figures};
use super::rank::ScorePart;
use super::snapshot::DeviceIndex;
use super::workload::Wanted;
use crate::geo::Distance;
use serde::Serialize;

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
    /// Kilometres to the point of `near`, or to the nearest anchor that it serves.
    #[serde(rename = "distanceKm")]
    pub distance: Option<Distance>,
    /// With `nearestPer`: the name of that anchor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anchor: Option<String>,
    /// With `nearestPer`: how many anchors it serves.
    #[serde(skip_serializing_if = "is_zero")]
    pub serves: u32,
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
    /// What the code is about, by name: the taint, the other workload, the other replica's device, the site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// What became of the wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Fulfilment {
    Complete,
    /// Replicas are missing; the others are placed.
    Partial,
    /// Replicas are missing, so none is started.
    Waiting,
    /// As `Waiting`, and to be reported as a failure.
    Failed,
}

/// A device that `nearestPer` counts from, and its share of the chosen, nearest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Anchor {
    pub device: DeviceIndex,
    pub name: String,
    pub served_by: Vec<AnchorServer>,
    /// How many fewer than `k`.
    pub missing: u32,
}

/// One of the nearest devices of an anchor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AnchorServer {
    pub device: DeviceIndex,
    pub name: String,
    #[serde(rename = "distanceKm")]
    pub distance: Distance,
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
    /// Replicas that no device can take; with `nearestPer` on every device, the sum over the anchors.
    pub shortfall: u32,
    pub fulfilment: Fulfilment,
    /// New replicas that could be placed and are not, because others cannot.
    #[serde(skip_serializing_if = "is_zero")]
    pub held_back: u32,
    /// With `nearestPer`: by device index.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub anchors: Vec<Anchor>,
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

/// The whole fleet by first failing reason; counts and feasible sum to considered. After the filters come the reasons
/// that compare devices: those count feasible devices that were not chosen and would not fit beside the chosen ones.
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
    /// When replicas are missing: devices that fail this one filter only, so that lifting it would help, and devices that
    /// fail no filter and one comparison.
    pub near_misses: Vec<TallyLine>,
}

/// For leaving the member out of JSON.
fn is_zero(count: &u32) -> bool {
    *count == 0
}
