//! The terms of a placement as the scheduler takes them.
//!
//! An empty list and `None` ask for nothing. `Terms::problems` is for admission: the scheduler expects terms without any.

use super::selector::{Requirement, Selector};
use super::snapshot::WorkloadNumber;
use super::taint::Toleration;
use crate::geo::{CELL_LEVEL_MAX, Distance, Point};
use serde::Serialize;
use std::num::NonZeroU32;
use std::time::Duration;
use thiserror::Error;

/// Nearest to a point first, and no farther than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Near {
    pub point: Point,
    /// Measured to the device's nominal position; use `within` for a guarantee.
    pub distance_max: Option<Distance>,
}

/// The `k` nearest feasible devices of every matching device, together. How many that makes follows from the matching
/// devices; a number of replicas beside it is the most that is placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearestPer {
    /// The anchors: approved devices with a known position.
    pub devices: Selector,
    pub k: NonZeroU32,
}

/// What replicas are spread over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpreadBy {
    Site,
    /// By name; where they overlap, the first of the list that contains the device's nominal position counts.
    Regions(Vec<String>),
    /// `geo::Cell` of this level.
    Cell(u8),
}

/// Replicas per site, region or cell may differ by at most `skew_max`. All count in which at least one device is
/// feasible; a device in none of them is not feasible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    pub by: SpreadBy,
    pub skew_max: NonZeroU32,
}

/// How far from another workload's placements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Apartness {
    /// Not on the same device.
    Device,
    /// Not in the same site. A device without a site is a site of its own.
    Site,
}

/// Another workload that is kept away from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherWorkload {
    pub name: String,
    /// None when there is no such workload.
    pub number: Option<WorkloadNumber>,
}

/// Not where the named workloads are. It is asked of this workload only: whoever wants the others to keep away too gives
/// each of them the mirrored term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AntiAffinity {
    pub workloads: Vec<OtherWorkload>,
    pub domain: Apartness,
}

/// What to do when not all replicas can be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum OnShortfall {
    /// Place those that can be.
    #[default]
    Partial,
    /// Start nothing until all can be; what runs and is feasible for itself stays.
    Wait,
    /// As `Wait`, and the decision counts as failed.
    Fail,
}

/// The terms of a placement. An empty list asks for nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Terms {
    /// Region names: certainly inside at least one of them.
    pub within: Vec<String>,
    pub near: Option<Near>,
    /// `key=value` pairs, all of them.
    pub labels: Vec<(String, String)>,
    /// Beside the labels, all of them.
    pub requirements: Vec<Requirement>,
    /// Device names: one of them.
    pub on: Vec<String>,
    /// Device classes: one of them.
    pub class: Vec<String>,
    pub tolerations: Vec<Toleration>,
    pub nearest_per: Option<NearestPer>,
    /// Between any two replicas, at least, by their nominal positions.
    pub distance_min: Option<Distance>,
    pub spread: Option<Spread>,
    pub anti_affinity: Vec<AntiAffinity>,
    pub on_shortfall: OnShortfall,
    /// A position that the device reported longer ago than this is not trusted.
    pub position_age_max: Option<Duration>,
}

/// Why terms make no sense. The path is the field in `placement`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TermsProblem {
    #[error("requirements: `{requirement}` names no value; give at least one")]
    NoValues { requirement: String },
    #[error("spread.by: a list of regions to spread over is empty; name at least one")]
    NoRegions,
    #[error("spread.by: cell:{level} is not one of cell:0 to cell:{CELL_LEVEL_MAX}")]
    CellLevel { level: u8 },
    #[error("antiAffinity.workloads: {name} is this workload itself; use `spread` or `minDistanceKm` to part replicas")]
    ApartFromItself { name: String },
    #[error("antiAffinity.workloads: the list is empty; name at least one workload")]
    NoWorkloads,
    #[error("near and nearestPer: both order the devices; keep one of them")]
    NearTwice,
}

impl Terms {
    /// Everything that admission must refuse, for the workload of that name.
    pub fn problems(&self, name: &str) -> Vec<TermsProblem> {
        let anchors = self.nearest_per.iter().flat_map(|nearest| &nearest.devices.requirements);
        let valueless = self.requirements.iter().chain(anchors).filter(|requirement| match requirement {
            Requirement::In { values, .. } | Requirement::NotIn { values, .. } => values.is_empty(),
            Requirement::Exists { .. } | Requirement::NotExists { .. } => false,
        });
        let mut problems: Vec<TermsProblem> =
            valueless.map(|r| TermsProblem::NoValues { requirement: r.to_string() }).collect();
        match self.spread.as_ref().map(|spread| &spread.by) {
            Some(SpreadBy::Regions(names)) if names.is_empty() => problems.push(TermsProblem::NoRegions),
            Some(SpreadBy::Cell(level)) if *level > CELL_LEVEL_MAX => {
                problems.push(TermsProblem::CellLevel { level: *level });
            }
            Some(SpreadBy::Regions(_) | SpreadBy::Cell(_) | SpreadBy::Site) | None => {}
        }
        for term in &self.anti_affinity {
            if term.workloads.is_empty() {
                problems.push(TermsProblem::NoWorkloads);
            }
            if term.workloads.iter().any(|other| other.name == name) {
                problems.push(TermsProblem::ApartFromItself { name: name.to_owned() });
            }
        }
        if self.near.is_some() && self.nearest_per.is_some() {
            problems.push(TermsProblem::NearTwice);
        }
        problems
    }

    /// The regions to spread over, if it is regions.
    pub(super) fn spread_regions(&self) -> &[String] {
        match self.spread.as_ref().map(|spread| &spread.by) {
            Some(SpreadBy::Regions(names)) => names,
            Some(SpreadBy::Site | SpreadBy::Cell(_)) | None => &[],
        }
    }

    /// The minimum distance that is worth asking for.
    pub(super) fn spacing(&self) -> Option<Distance> {
        self.distance_min.filter(|min| *min > Distance::ZERO)
    }
}
