//! Where a workload may run, as manifests say it. Defaults are filled in, so that what is stored shows them.
//!
//! Only shapes; `placement_read` reads them, the engine turns them into the scheduler's terms.

use super::selector::Expression;
use crate::geo::Point;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroU32;

/// At least one of `within`, `near`, `nearestPer`, `labels`, `selector`, `on`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlacementSpec {
    /// Regions; certainly inside one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub near: Option<Near>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest_per: Option<NearestPer>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Beside `labels`, all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// `mcu`, `gateway`; empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class: Vec<String>,
    /// Devices by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Between any two replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_distance_km: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anti_affinity: Option<AntiAffinity>,
    #[serde(default)]
    pub on_shortfall: OnShortfall,
}

impl PlacementSpec {
    /// All regions that it names.
    pub fn regions(&self) -> impl Iterator<Item = &String> {
        let spread = match self.spread.as_ref().map(|spread| &spread.by) {
            Some(SpreadBy::Regions(regions)) => regions.as_slice(),
            Some(SpreadBy::Site | SpreadBy::Cell(_)) | None => &[],
        };
        self.within.iter().chain(spread)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Near {
    /// `[longitude, latitude]` in degrees.
    pub point: Point,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_km: Option<f64>,
}

/// Labels that must be equal, and demands on sets of values; all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelector {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Expression>,
}

/// The `k` nearest devices of each of these devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NearestPer {
    pub devices: DevicesByLabel,
    pub k: NonZeroU32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DevicesByLabel {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// Takes nothing new, keeps what it has.
    NoSchedule,
    /// Takes nothing new and loses what it has.
    NoExecute,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TolerationOperator {
    Equal,
    /// Whatever the value.
    Exists,
}

/// A taint that the workload bears. Without a key: all taints; without an effect: both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Toleration {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    pub operator: TolerationOperator,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}

/// Replicas per site, region or cell differ by at most `max_skew`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spread {
    pub by: SpreadBy,
    pub max_skew: NonZeroU32,
}

/// `site`, `{regions: [..]}`, or `cell:` and a level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "SpreadByText", try_from = "SpreadByText")]
pub enum SpreadBy {
    Site,
    Regions(Vec<String>),
    Cell(u8),
}

impl SpreadBy {
    /// One of the forms that are words.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("cell:") {
            Some(level) => level.parse().ok().map(Self::Cell),
            None => (text == "site").then_some(Self::Site),
        }
    }
}

/// As it is written.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum SpreadByText {
    Word(String),
    Regions { regions: Vec<String> },
}

impl From<SpreadBy> for SpreadByText {
    fn from(by: SpreadBy) -> Self {
        match by {
            SpreadBy::Site => Self::Word("site".to_owned()),
            SpreadBy::Regions(regions) => Self::Regions { regions },
            SpreadBy::Cell(level) => Self::Word(format!("cell:{level}")),
        }
    }
}

impl TryFrom<SpreadByText> for SpreadBy {
    type Error = String;

    fn try_from(text: SpreadByText) -> Result<Self, String> {
        match text {
            SpreadByText::Word(word) => Self::parse(&word).ok_or_else(|| format!("{word:?} is not site or cell:N")),
            SpreadByText::Regions { regions } => Ok(Self::Regions(regions)),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AntiAffinityDomain {
    #[default]
    Device,
    /// A device without a site is a site of its own.
    Site,
}

/// Not on the same device, or in the same site, as these workloads of its namespace. The others need not keep away too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AntiAffinity {
    pub workloads: Vec<String>,
    pub domain: AntiAffinityDomain,
}

/// What happens when not all replicas can be placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnShortfall {
    /// Those that can be are.
    #[default]
    Partial,
    /// None is started until all can be; what runs stays.
    Wait,
    /// As `Wait`, and the workload counts as failed.
    Fail,
}
