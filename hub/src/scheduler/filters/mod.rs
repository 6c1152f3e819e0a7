//! The questions that a device must pass to take a workload, in the order in which they are asked and counted.
//!
//! A new question is a code, a line in `FILTERS` and a function. A filter sees one device and the resolved question, and
//! never another device: whatever compares devices belongs to ranking and to `relation`.

mod capability;
mod position;
mod resources;
mod selection;
mod state;

use super::question::Question;
use super::snapshot::{Admittance, Device, PositionSource, Resources, Runtime};
use super::taint::{Taint, repelling};
use super::terms::Apartness;
use crate::geo::Distance;
use serde::Serialize;
use wire::record::CapabilitySet;

/// Stable reason codes, part of the API: append, never rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    NotApproved,
    Cordoned,
    Draining,
    ClassMismatch,
    LabelMismatch,
    NotNamed,
    PositionUnknown,
    OutsideRegion,
    PositionUncertain,
    TooFar,
    NoRuntime,
    AgentTooOld,
    InsufficientRam,
    InsufficientSlots,
    SetTooLarge,
    /// Not a filter: the device is no longer known.
    DeviceGone,
    /// Not a filter: more placements than are wanted now.
    Surplus,
    StaleLocation,
    Taint,
    /// In no site, or in none of the regions that replicas are spread over.
    NoDomain,
    AntiAffinity,
    /// Compares devices: not among the nearest of any anchor.
    NotNearest,
    /// Compares devices: too close to another replica.
    MinDistance,
    /// Compares devices: its site, region or cell has enough replicas.
    Spread,
    /// A lease cannot be measured there.
    NoBootClock,
    /// Not heard of for too long.
    DeviceLost,
    /// Not a filter: the device that had it before is back.
    OriginalReturned,
    /// An operator took back that the device gets this version.
    Withheld,
    Held,
    /// The device gives functions not all that the workload's may use.
    NoInterface,
}

impl Code {
    /// The code as it appears in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::NotApproved => "NOT_APPROVED",
            Code::Cordoned => "CORDONED",
            Code::Draining => "DRAINING",
            Code::Held => "HELD",
            Code::NoInterface => "NO_INTERFACE",
            Code::ClassMismatch => "CLASS_MISMATCH",
            Code::LabelMismatch => "LABEL_MISMATCH",
            Code::NotNamed => "NOT_NAMED",
            Code::PositionUnknown => "POSITION_UNKNOWN",
            Code::OutsideRegion => "OUTSIDE_REGION",
            Code::PositionUncertain => "POSITION_UNCERTAIN",
            Code::TooFar => "TOO_FAR",
            Code::NoRuntime => "NO_RUNTIME",
            Code::AgentTooOld => "AGENT_TOO_OLD",
            Code::InsufficientRam => "INSUFFICIENT_RAM",
            Code::InsufficientSlots => "INSUFFICIENT_SLOTS",
            Code::SetTooLarge => "SET_TOO_LARGE",
            Code::DeviceGone => "DEVICE_GONE",
            Code::Surplus => "SURPLUS",
            Code::StaleLocation => "STALE_LOCATION",
            Code::Taint => "TAINT",
            Code::NoDomain => "NO_DOMAIN",
            Code::AntiAffinity => "ANTI_AFFINITY",
            Code::NotNearest => "NOT_NEAREST",
            Code::MinDistance => "MIN_DISTANCE",
            Code::Spread => "SPREAD",
            Code::NoBootClock => "NO_BOOT_CLOCK",
            Code::DeviceLost => "DEVICE_LOST",
            Code::OriginalReturned => "ORIGINAL_RETURNED",
            Code::Withheld => "WITHHELD",
        }
    }
}

/// The figures behind a verdict, enough to explain it without asking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Figures {
    None,
    /// Bytes or records: needed against free of total.
    Amount {
        needs: u64,
        free: u64,
        total: u64,
    },
    Distance {
        km: Distance,
        km_max: Option<Distance>,
    },
    Position {
        uncertainty_km: Distance,
        source: PositionSource,
        age_seconds: u64,
    },
    Runtime {
        needs: Runtime,
    },
    Wire {
        needs: u16,
        speaks: u16,
    },
    /// Host interfaces that the device lacks.
    Interfaces {
        #[serde(serialize_with = "names")]
        missing: CapabilitySet,
    },
    /// To the nearest other replica.
    Spacing {
        km: Distance,
        km_min: Distance,
    },
    /// Replicas in the device's domain, without the device, against the domain that has the fewest.
    Spread {
        replicas: u32,
        replicas_least: u32,
        skew_max: u32,
    },
    /// To the nearest anchor, and how far that one's own nearest reach; none when it has fewer than it wants.
    Anchor {
        km: Distance,
        km_served: Option<Distance>,
    },
}

fn names<S: serde::Serializer>(set: &CapabilitySet, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(set.names())
}

impl Figures {
    /// For leaving the member out of JSON.
    pub(super) fn is_none(&self) -> bool {
        *self == Figures::None
    }
}

/// A filter's answer for one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The workload asks nothing of this kind.
    NotAsked,
    Pass(Figures),
    Fail(Figures),
}

/// One question about one device.
pub struct Filter {
    pub code: Code,
    ask: fn(&Question<'_>, &Device, Held) -> Verdict,
}

/// What the planned workload holds on the device already, if it is there.
pub type Held = Option<Resources>;

/// In order of evaluation. The summary counts a device under the first that fails.
pub const FILTERS: [Filter; 24] = [
    Filter { code: Code::NotApproved, ask: state::approved },
    Filter { code: Code::ClassMismatch, ask: selection::class },
    Filter { code: Code::LabelMismatch, ask: selection::labels },
    Filter { code: Code::NotNamed, ask: selection::named },
    Filter { code: Code::PositionUnknown, ask: position::known },
    Filter { code: Code::OutsideRegion, ask: position::inside },
    Filter { code: Code::PositionUncertain, ask: position::certain },
    Filter { code: Code::TooFar, ask: position::near },
    Filter { code: Code::StaleLocation, ask: position::fresh },
    Filter { code: Code::NoDomain, ask: selection::domain },
    Filter { code: Code::Cordoned, ask: state::open },
    Filter { code: Code::Draining, ask: state::staying },
    Filter { code: Code::DeviceLost, ask: state::heard },
    Filter { code: Code::Withheld, ask: state::granted },
    Filter { code: Code::Held, ask: state::known },
    Filter { code: Code::Taint, ask: state::tolerated },
    Filter { code: Code::NoRuntime, ask: capability::runtime },
    Filter { code: Code::NoInterface, ask: capability::interfaces },
    Filter { code: Code::NoBootClock, ask: capability::boot_clock },
    Filter { code: Code::AgentTooOld, ask: capability::wire },
    Filter { code: Code::InsufficientRam, ask: resources::ram },
    Filter { code: Code::InsufficientSlots, ask: resources::slots },
    Filter { code: Code::SetTooLarge, ask: resources::body },
    Filter { code: Code::AntiAffinity, ask: selection::apart },
];

impl Filter {
    pub fn ask(&self, question: &Question<'_>, device: &Device, held: Held) -> Verdict {
        (self.ask)(question, device, held)
    }
}

/// The position in `FILTERS` of the first filter that the device fails, with its figures; none when it is feasible.
pub fn first_failure(question: &Question<'_>, device: &Device, held: Held) -> Option<(usize, Code, Figures)> {
    FILTERS.iter().enumerate().find_map(|(place, filter)| match filter.ask(question, device, held) {
        Verdict::Fail(figures) => Some((place, filter.code, figures)),
        Verdict::Pass(_) | Verdict::NotAsked => None,
    })
}

/// What a filter's answer is about, by name: the taint, the requirement, the other workload.
pub(super) fn subject(question: &Question<'_>, device: &Device, held: Held, code: Code) -> Option<String> {
    match code {
        Code::Taint => {
            let tolerations = &question.spec.terms.tolerations;
            repelling(&device.taints, tolerations, held.is_some()).map(Taint::to_string)
        }
        Code::LabelMismatch => selection::failing(question, device),
        Code::AntiAffinity => question.repelled_by(device).map(|(name, domain)| match domain {
            Apartness::Device => format!("wl/{name}"),
            Apartness::Site => match question.snapshot.fleet.site_of(device) {
                Some(site) => format!("wl/{name} in site/{site}"),
                None => format!("wl/{name}"),
            },
        }),
        Code::NotApproved
        | Code::Cordoned
        | Code::Draining
        | Code::ClassMismatch
        | Code::NotNamed
        | Code::PositionUnknown
        | Code::OutsideRegion
        | Code::PositionUncertain
        | Code::TooFar
        | Code::NoRuntime
        | Code::AgentTooOld
        | Code::InsufficientRam
        | Code::InsufficientSlots
        | Code::SetTooLarge
        | Code::DeviceGone
        | Code::Surplus
        | Code::StaleLocation
        | Code::NoDomain
        | Code::NotNearest
        | Code::MinDistance
        | Code::Spread
        | Code::NoBootClock
        | Code::DeviceLost
        | Code::OriginalReturned
        | Code::Withheld
        | Code::Held
        | Code::NoInterface => None,
    }
}

fn pass_if(passes: bool, figures: Figures) -> Verdict {
    if passes { Verdict::Pass(figures) } else { Verdict::Fail(figures) }
}

/// Cordoned and draining are asked apart, so they share this.
fn admittance_allows(admittance: Admittance, refused: Admittance) -> Verdict {
    pass_if(admittance != refused, Figures::None)
}
