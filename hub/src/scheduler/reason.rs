//! A reason in words: for the counts, for one device with its figures, and for a check that it passes.
//!
//! Every code has its words here, so a new code does not compile without them.

use super::explain::Check;
use super::filters::{Code, Figures};
use super::selector::selector_text;
use super::snapshot::{PositionSource, Runtime};
use super::terms::{SpreadBy, Terms};
use super::workload::WorkloadSpecView;
use crate::geo::Distance;
use wire::record::CapabilitySet;

/// A reason without one device's figures, for the counts.
pub(super) fn summary(spec: &WorkloadSpecView, code: Code) -> String {
    let terms = &spec.terms;
    let needs = spec.needs.resources;
    match code {
        Code::NotApproved => "not approved".to_owned(),
        Code::Cordoned => "cordoned".to_owned(),
        Code::Draining => "draining".to_owned(),
        Code::Held => "held, because it runs or may run what this hub has forgotten".to_owned(),
        Code::ClassMismatch => format!("class is not {}", terms.class.join(" or ")),
        Code::LabelMismatch => format!("without {}", labels(terms)),
        Code::StaleLocation => match terms.position_age_max {
            Some(max) => format!("position older than {}", age(max.as_secs())),
            None => "position too old".to_owned(),
        },
        Code::Taint => "tainted".to_owned(),
        Code::NoDomain => match terms.spread.as_ref().map(|spread| &spread.by) {
            Some(SpreadBy::Regions(names)) => format!("in none of {}", region_names(names, ", ")),
            Some(SpreadBy::Site | SpreadBy::Cell(_)) | None => "in no site".to_owned(),
        },
        Code::AntiAffinity => "together with a workload to stay away from".to_owned(),
        Code::NotNearest => match &terms.nearest_per {
            Some(nearest) if nearest.k.get() > 1 => format!("not among the {} nearest", nearest.k),
            Some(_) | None => "not the nearest".to_owned(),
        },
        Code::MinDistance => match terms.spacing() {
            Some(min) => format!("closer than {} km to a chosen device", min.km()),
            None => "too close to a chosen device".to_owned(),
        },
        Code::Spread => match &terms.spread {
            Some(spread) => format!("enough replicas in its {}", domain_noun(&spread.by)),
            None => "enough replicas there".to_owned(),
        },
        Code::NotNamed => "not named in `on`".to_owned(),
        Code::PositionUnknown => "position unknown".to_owned(),
        Code::OutsideRegion => format!("outside {}", regions(terms, " and ")),
        Code::PositionUncertain => {
            format!("not certainly inside {}", regions(terms, " or "))
        }
        Code::TooFar => match terms.near.and_then(|near| near.distance_max) {
            Some(max) => format!("farther than {} km", max.km()),
            None => "too far".to_owned(),
        },
        Code::NoRuntime => format!("no {} runtime", runtime(spec.needs.runtime)),
        Code::AgentTooOld => format!("agent below wire version {}", spec.needs.wire_min),
        Code::InsufficientRam => format!("RAM free < {}", bytes(needs.ram_bytes)),
        Code::InsufficientSlots => format!("slots free < {}", needs.slots),
        Code::SetTooLarge => format!("desired set has no room for {}", bytes(u64::from(needs.body_bytes))),
        Code::DeviceGone => "no longer in the fleet".to_owned(),
        Code::Surplus => "more than the wanted replicas".to_owned(),
        Code::NoInterface => format!("does not give functions {}", interfaces(spec.needs.interfaces)),
        Code::NoBootClock => "no clock that goes on while it sleeps (partition.exclusive needs one)".to_owned(),
        Code::DeviceLost => "lost: not heard of".to_owned(),
        Code::OriginalReturned => "the device that had it before is back".to_owned(),
        Code::Withheld => "taken back with `fulmar queue cancel`".to_owned(),
    }
}

/// A reason with the figures of one device, and the name that it is about.
pub(super) fn failure(spec: &WorkloadSpecView, code: Code, figures: Figures, about: Option<&str>) -> String {
    let subject = summary(spec, code);
    match figures {
        Figures::None => match (code, about) {
            (Code::Taint, Some(taint)) => format!("{taint} is not tolerated"),
            (Code::AntiAffinity, Some(other)) => format!("together with {other}"),
            // The one label of many that it lacks.
            (Code::LabelMismatch, Some(one)) if subject != format!("without {one}") => format!("{subject} (not {one})"),
            (_, Some(_) | None) => subject,
        },
        // Rounded down, so that "closer than 5 km" never stands beside "5.0".
        Figures::Spacing { km, .. } => format!("{subject} ({} km to {})", km_down(km), about.unwrap_or("one")),
        Figures::Spread { replicas, replicas_least, skew_max } => format!(
            "{subject} ({} has {replicas}, the emptiest {replicas_least}, skew {skew_max} allowed)",
            about.unwrap_or("it")
        ),
        Figures::Anchor { km, km_served } => {
            let anchor = about.unwrap_or("a device");
            match km_served {
                Some(served) => {
                    format!(
                        "{subject} ({} km to {anchor}, which has nearer ones up to {} km)",
                        km_short(km),
                        km_short(served)
                    )
                }
                None => format!("{subject} ({} km to {anchor})", km_short(km)),
            }
        }
        Figures::Amount { needs, free, total } => {
            let amount = |value: u64| match code {
                Code::InsufficientSlots => value.to_string(),
                _ => bytes(value),
            };
            let noun = match code {
                Code::InsufficientRam => "RAM",
                Code::InsufficientSlots => "slots",
                _ => "desired set",
            };
            let (needs, free, total) = (amount(needs), amount(free), amount(total));
            format!("{noun}: needs {needs}, free {free} of {total}")
        }
        Figures::Distance { km, .. } => format!("{subject} ({} km)", km_short(km)),
        Figures::Position { uncertainty_km, source, age_seconds } => format!(
            "{subject} (position +-{} m, {}, {} old)",
            uncertainty_km.millimetres().div_ceil(1000),
            match source {
                PositionSource::Operator => "set by operator",
                PositionSource::Static => "static",
                PositionSource::Reported => "reported",
            },
            age(age_seconds)
        ),
        Figures::Runtime { .. } => subject,
        // Of many the ones that it lacks.
        Figures::Interfaces { missing } => format!("does not give functions {}", interfaces(missing)),
        Figures::Wire { speaks, .. } => format!("{subject} (speaks {speaks})"),
    }
}

/// A passed check in a few words; none for those that go without saying.
pub(super) fn success(spec: &WorkloadSpecView, check: &Check) -> Option<String> {
    let terms = &spec.terms;
    match (check.code, check.figures) {
        (Code::ClassMismatch, _) => Some(format!("class {}", terms.class.join(" or "))),
        (Code::LabelMismatch, _) => Some(format!("labels {}", labels(terms))),
        (Code::NotNamed, _) => Some("named".to_owned()),
        (Code::PositionUncertain, _) => Some(format!("certainly inside {}", regions(terms, " or "))),
        (Code::TooFar, Figures::Distance { km, km_max: Some(max) }) => {
            Some(format!("within {} km ({})", max.km(), km_short(km)))
        }
        (Code::TooFar, Figures::Distance { km, km_max: None }) => Some(format!("{} km away", km_short(km))),
        (Code::NoBootClock, _) => Some("can measure a lease".to_owned()),
        (Code::NoInterface, _) => Some(format!("gives {}", interfaces(spec.needs.interfaces))),
        (Code::NoRuntime, _) => Some(format!("runtime {}", runtime(spec.needs.runtime))),
        (Code::InsufficientRam, Figures::Amount { free, .. }) => Some(format!("RAM (free {})", bytes(free))),
        (Code::InsufficientSlots, Figures::Amount { free, .. }) => Some(format!("slots (free {free})")),
        (Code::SetTooLarge, Figures::Amount { free, .. }) => Some(format!("desired set (room {})", bytes(free))),
        (Code::NotApproved, _) => Some("approved".to_owned()),
        (Code::Taint, _) => Some("taints tolerated".to_owned()),
        (Code::DeviceLost, _) => Some("lost, and not given up".to_owned()),
        (Code::AntiAffinity, _) => Some("no workload to stay away from".to_owned()),
        (Code::NotNearest, Figures::Anchor { km, .. }) => {
            Some(format!("nearest to {} ({} km)", check.subject.as_deref().unwrap_or("a device"), km_short(km)))
        }
        (Code::MinDistance, Figures::Spacing { km, .. }) => {
            let other = check.subject.as_deref().unwrap_or("the next");
            Some(format!("{} km to {other}", km_short(km)))
        }
        (Code::Spread, Figures::Spread { replicas, replicas_least, .. }) => {
            let domain = check.subject.as_deref().unwrap_or("its domain");
            Some(format!("{domain} (has {replicas}, the emptiest {replicas_least})"))
        }
        // Inside and known are said by "certainly inside"; the rest is the normal state of a device.
        (
            Code::PositionUnknown
            | Code::OutsideRegion
            | Code::TooFar
            | Code::Cordoned
            | Code::Draining
            | Code::Held
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
            | Code::OriginalReturned
            | Code::Withheld,
            _,
        ) => None,
    }
}

pub(super) fn regions(terms: &Terms, joint: &str) -> String {
    region_names(&terms.within, joint)
}

pub(super) fn region_names(names: &[String], joint: &str) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("region/{name}")).collect();
    names.join(joint)
}

pub(super) fn labels(terms: &Terms) -> String {
    selector_text(&terms.labels, &terms.requirements)
}

fn domain_noun(by: &SpreadBy) -> &'static str {
    match by {
        SpreadBy::Site => "site",
        SpreadBy::Regions(_) => "region",
        SpreadBy::Cell(_) => "cell",
    }
}

fn interfaces(set: CapabilitySet) -> String {
    set.names().collect::<Vec<_>>().join(", ")
}

fn runtime(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Function => "function",
        Runtime::Container => "container",
    }
}

/// Kilometres with one decimal.
pub(super) fn km_short(distance: Distance) -> String {
    km_down(distance.plus(Distance::from_metres(50)))
}

/// Kilometres with one decimal, rounded down.
fn km_down(distance: Distance) -> String {
    let tenths = distance.millimetres() / 100_000;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// Bytes in the largest binary unit that leaves at least 1, with a decimal where it is not whole.
fn bytes(value: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, size)| value >= *size) {
        None => format!("{value} B"),
        Some((unit, size)) if value.is_multiple_of(size) => format!("{} {unit}", value / size),
        // Rounded down, so that "free" never looks like enough when it is not.
        Some((unit, size)) => format!("{}.{} {unit}", value / size, value % size * 10 / size),
    }
}

fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        86_400.. => format!("{}d", seconds / 86_400),
    }
}
