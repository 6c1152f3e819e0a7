//! Which devices a selector means: labels that must be equal, and requirements on sets of values.
//!
//! The grammar is the one that people know from `-l`: `key=value`, `key in (a,b)`, `key notin (a,b)`, `key`, `!key`. A
//! device without the key satisfies `notin`, as everywhere. Nothing here knows what a selector is asked for.

use super::fleet::Fleet;
use super::labels::LabelId;
use super::snapshot::Device;
use std::fmt;

/// One requirement on a device's labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    In {
        key: String,
        values: Vec<String>,
    },
    /// Also satisfied by a device without the key.
    NotIn {
        key: String,
        values: Vec<String>,
    },
    Exists {
        key: String,
    },
    NotExists {
        key: String,
    },
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Requirement::In { key, values } => write!(f, "{key} in ({})", values.join(",")),
            Requirement::NotIn { key, values } => write!(f, "{key} notin ({})", values.join(",")),
            Requirement::Exists { key } => write!(f, "{key}"),
            Requirement::NotExists { key } => write!(f, "!{key}"),
        }
    }
}

/// All of its labels and all of its requirements. An empty selector means every device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    pub labels: Vec<(String, String)>,
    pub requirements: Vec<Requirement>,
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&selector_text(&self.labels, &self.requirements))
    }
}

/// The selector as it is written on a command line.
pub(super) fn selector_text(labels: &[(String, String)], requirements: &[Requirement]) -> String {
    let labels = labels.iter().map(|(key, value)| format!("{key}={value}"));
    let all: Vec<String> = labels.chain(requirements.iter().map(Requirement::to_string)).collect();
    all.join(",")
}

/// A wanted label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LabelTerm {
    Carried(LabelId),
    /// No device carries it.
    Nowhere,
}

impl LabelTerm {
    pub(super) fn is_nowhere(&self) -> bool {
        *self == LabelTerm::Nowhere
    }
}

/// A requirement with its labels as numbers; labels that no device carries are left out.
#[derive(Debug)]
enum Demand<'a> {
    AnyOf(Vec<LabelId>),
    NoneOf(Vec<LabelId>),
    Key(&'a str),
    NoKey(&'a str),
}

/// A selector resolved against one fleet.
#[derive(Debug)]
pub(super) struct Matcher<'a> {
    pub(super) labels: Vec<LabelTerm>,
    demands: Vec<Demand<'a>>,
}

impl<'a> Matcher<'a> {
    pub(super) fn new(fleet: &Fleet, labels: &[(String, String)], requirements: &'a [Requirement]) -> Self {
        let find = |key: &str, value: &str| fleet.labels.find(key, value);
        let ids = |key: &str, values: &[String]| values.iter().filter_map(|value| find(key, value)).collect();
        let demands = requirements.iter().map(|requirement| match requirement {
            Requirement::In { key, values } => Demand::AnyOf(ids(key, values)),
            Requirement::NotIn { key, values } => Demand::NoneOf(ids(key, values)),
            Requirement::Exists { key } => Demand::Key(key),
            Requirement::NotExists { key } => Demand::NoKey(key),
        });
        let labels = labels.iter().map(|(key, value)| find(key, value).map_or(LabelTerm::Nowhere, LabelTerm::Carried));
        Self { labels: labels.collect(), demands: demands.collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.demands.is_empty()
    }

    pub(super) fn matches(&self, fleet: &Fleet, device: &Device) -> bool {
        self.failing(fleet, device).is_none()
    }

    /// The first label or, counted on from the labels, the first requirement that the device does not satisfy.
    pub(super) fn failing(&self, fleet: &Fleet, device: &Device) -> Option<usize> {
        let lacks = |term: &LabelTerm| match term {
            LabelTerm::Carried(label) => !device.has_label(*label),
            LabelTerm::Nowhere => true,
        };
        if let Some(place) = self.labels.iter().position(lacks) {
            return Some(place);
        }
        let has_key = |wanted: &str| {
            device.labels.iter().filter_map(|label| fleet.labels.text(*label)).any(|(key, _)| key == wanted)
        };
        let place = self.demands.iter().position(|demand| match demand {
            Demand::AnyOf(labels) => !labels.iter().any(|label| device.has_label(*label)),
            Demand::NoneOf(labels) => labels.iter().any(|label| device.has_label(*label)),
            Demand::Key(key) => !has_key(key),
            Demand::NoKey(key) => has_key(key),
        })?;
        Some(self.labels.len() + place)
    }

    /// Sets of labels one of which every matching device carries.
    pub(super) fn alternatives(&self) -> impl Iterator<Item = &[LabelId]> {
        let single = self.labels.iter().filter_map(|term| match term {
            LabelTerm::Carried(label) => Some(std::slice::from_ref(label)),
            LabelTerm::Nowhere => None,
        });
        let several = self.demands.iter().filter_map(|demand| match demand {
            Demand::AnyOf(labels) => Some(labels.as_slice()),
            Demand::NoneOf(_) | Demand::Key(_) | Demand::NoKey(_) => None,
        });
        single.chain(several)
    }

    /// Requirements that no device can satisfy, by their place.
    pub(super) fn hopeless(&self) -> impl Iterator<Item = usize> + '_ {
        let is_hopeless = |demand: &Demand<'_>| match demand {
            Demand::AnyOf(labels) => labels.is_empty(),
            Demand::NoneOf(_) | Demand::Key(_) | Demand::NoKey(_) => false,
        };
        self.demands.iter().enumerate().filter(move |(_, demand)| is_hopeless(demand)).map(|(place, _)| place)
    }
}
