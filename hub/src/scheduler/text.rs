//! Plans and explanations as text for people. Pure: the same input gives the same lines, which golden files review.

use super::explain::{Check, DeviceExplanation, Outcome, Rival};
use super::filters::{Code, Figures};
use super::plan::{Anchor, Fulfilment, Plan, Standing};
use super::selector::selector_text;
use super::snapshot::{PositionSource, Runtime};
use super::terms::{Apartness, SpreadBy, Terms};
use super::workload::{Wanted, WorkloadSpecView};
use crate::geo::Distance;
use std::fmt::Write;

/// Lists of reasons are broken before this column.
const WIDTH: usize = 100;
/// Anchors of `nearestPer` that a text lists.
const ANCHORS_SHOWN_MAX: usize = 10;

/// The plan: what was asked, the counts that sum, the devices with their reasons, what goes and what is missing.
pub fn plan_text(spec: &WorkloadSpecView, plan: &Plan) -> String {
    let decision = &plan.decision;
    let mut out = format!("{}   Fleet revision {}\n", asked(spec), decision.revision);
    out.push_str(&tally_text(spec, plan));
    for name in &decision.unresolved {
        out.push_str(&format!("  ! {name} matches nothing\n"));
    }
    if !decision.chosen.is_empty() {
        let width = decision.chosen.iter().map(|c| c.name.len()).max();
        let width = width.unwrap_or(0).max("DEVICE".len());
        let has_km = decision.chosen.iter().any(|c| c.distance.is_some());
        let km_head = if has_km { "      KM" } else { "" };
        out.push_str(&format!("  RANK {:width$}{km_head}  SCORE  WHY\n", "DEVICE"));
        for (rank, chosen) in (1..).zip(&decision.chosen) {
            let km = match chosen.distance {
                Some(distance) => format!("{:>8}", km_short(distance)),
                None => String::new(),
            };
            let parts: Vec<String> =
                chosen.score.iter().map(|part| format!("{} {}", part.name, milli(part.milli))).collect();
            let standing = match chosen.standing {
                Standing::Kept => "kept",
                Standing::New => "new",
            };
            let (name, score) = (&chosen.name, milli(chosen.score_milli));
            out.push_str(&format!("  {rank:>4} {name:width$}{km}   {score}  {}  {standing}\n", parts.join("  ")));
        }
    }
    for removed in &decision.removed {
        let name = match &removed.name {
            Some(name) => name.clone(),
            None => format!("device #{}", removed.device.0),
        };
        let reason = failure(spec, removed.code, removed.figures, removed.subject.as_deref());
        out.push_str(&format!("  - {name} loses it: {reason}\n"));
    }
    out.push_str(&anchors_text(&decision.anchors));
    if decision.shortfall > 0 {
        let whole = match spec.wanted {
            Wanted::Replicas(replicas) => format!("{} of {replicas} replicas", decision.shortfall),
            Wanted::Every => format!("{} instances near the devices they are for", decision.shortfall),
        };
        let others = match decision.fulfilment {
            Fulfilment::Complete => "",
            Fulfilment::Partial => "; the others are (onShortfall: partial)",
            Fulfilment::Waiting => "; the others wait for them (onShortfall: wait)",
            Fulfilment::Failed => "; nothing is started (onShortfall: fail)",
        };
        out.push_str(&format!("  {whole} cannot be placed{others}\n"));
        if decision.held_back > 0 {
            out.push_str(&format!("  {} could be placed and are held back\n", decision.held_back));
        }
        let misses: Vec<String> =
            plan.near_misses.iter().map(|line| format!("{} {}", line.count, summary(spec, line.code))).collect();
        out.push_str(&wrapped("  Fail only one thing: ", &misses, ", "));
    }
    out
}

/// One device: the verdict, every failing check with its figures, the passing ones, and the rank.
pub fn device_text(spec: &WorkloadSpecView, explanation: &DeviceExplanation) -> String {
    let name = &explanation.name;
    let verdict = match explanation.outcome {
        Outcome::Chosen(Standing::Kept) => "was chosen: it has it already and stays feasible",
        Outcome::Chosen(Standing::New) => "was chosen",
        Outcome::Outranked => "was NOT chosen: feasible, but not needed",
        Outcome::HeldBack => "was NOT chosen: it would be, but others are missing and the workload waits for them",
        Outcome::NotFeasible => "was NOT chosen: not feasible",
    };
    let mut out = format!("{name} {verdict}\n");
    let failed: Vec<&Check> = explanation.checks.iter().filter(|c| !c.passed).collect();
    let width = failed.iter().map(|c| c.code.as_str().len()).max().unwrap_or(0);
    for check in &failed {
        let code = check.code.as_str();
        let reason = failure(spec, check.code, check.figures, check.subject.as_deref());
        out.push_str(&format!("  x  {code:width$}  {reason}\n"));
    }
    let passed = explanation.checks.iter().filter(|c| c.passed);
    let passed: Vec<String> =
        passed.filter_map(|check| success(spec, check).map(|text| format!("ok {text}"))).collect();
    out.push_str(&wrapped("  ", &passed, "   "));
    if let Some(rank) = explanation.rank {
        let rival = explanation.ahead_of.as_ref().map(rival_text);
        let ahead = rival.map_or(String::new(), |rival| format!(", ahead of {rival}"));
        let feasible = explanation.feasible;
        out.push_str(&match explanation.outcome {
            Outcome::Chosen(_) | Outcome::HeldBack => format!("  It ranks {rank} of {feasible} feasible{ahead}.\n"),
            Outcome::Outranked => format!(
                "  It ranks {rank} of {feasible} feasible{ahead}; {} wanted, and a placement that is feasible stays where it is.\n",
                match spec.wanted {
                    Wanted::Replicas(replicas) => replicas.to_string(),
                    Wanted::Every => "every one".to_owned(),
                }
            ),
            Outcome::NotFeasible => format!("  If it were feasible it would rank {rank}{ahead}.\n"),
        });
    }
    out
}

fn rival_text(rival: &Rival) -> String {
    match rival.distance {
        Some(distance) => format!("{} ({} km)", rival.name, km_short(distance)),
        None => rival.name.clone(),
    }
}

/// The workload's wish in one line.
fn asked(spec: &WorkloadSpecView) -> String {
    let terms = &spec.terms;
    let kind =
        if terms.class.is_empty() { "device".to_owned() } else { format!("{} device", terms.class.join(" or ")) };
    let mut out = match (spec.wanted, terms.near.is_some()) {
        _ if terms.nearest_per.is_some() => nearest_per(spec, &kind),
        (Wanted::Every, _) => format!("every {kind}"),
        (Wanted::Replicas(1), true) => format!("1 nearest {kind}"),
        (Wanted::Replicas(1), false) => format!("1 {kind}"),
        (Wanted::Replicas(replicas), true) => format!("{replicas} nearest {kind}s"),
        (Wanted::Replicas(replicas), false) => format!("{replicas} {kind}s"),
    };
    if let Some(near) = terms.near {
        let preposition = match spec.wanted {
            Wanted::Every => "near",
            Wanted::Replicas(_) => "to",
        };
        let _ = write!(out, " {preposition} {}", near.point);
        if let Some(max) = near.distance_max {
            let _ = write!(out, " (at most {} km)", max.km());
        }
    }
    if !terms.within.is_empty() {
        let _ = write!(out, ", inside {}", regions(terms, " or "));
    }
    if !terms.labels.is_empty() || !terms.requirements.is_empty() {
        let _ = write!(out, ", with {}", labels(terms));
    }
    if !terms.on.is_empty() {
        let _ = write!(out, ", on {}", terms.on.join(", "));
    }
    if let Some(min) = terms.spacing() {
        let _ = write!(out, ", {} km or more apart", min.km());
    }
    if let Some(spread) = &terms.spread {
        let _ = write!(out, ", spread by {} (skew {} or less)", spread_by(&spread.by), spread.skew_max);
    }
    for term in &terms.anti_affinity {
        let names: Vec<String> = term.workloads.iter().map(|other| format!("wl/{}", other.name)).collect();
        let place = match term.domain {
            Apartness::Device => "on a device",
            Apartness::Site => "in a site",
        };
        let _ = write!(out, ", not {place} with {}", names.join(" or "));
    }
    out.push('.');
    out
}

fn tally_text(spec: &WorkloadSpecView, plan: &Plan) -> String {
    let tally = &plan.tally;
    let noun = if tally.considered == 1 { "device" } else { "devices" };
    let lead = format!("  {} {noun} considered: ", tally.considered);
    let mut reasons: Vec<String> =
        tally.failed.iter().map(|line| format!("{} {}", line.count, summary(spec, line.code))).collect();
    let feasible = format!("->  {} feasible", tally.feasible);
    match reasons.last_mut() {
        Some(last) => {
            let _ = write!(last, "  {feasible}");
        }
        None => reasons.push(feasible),
    }
    wrapped(&lead, &reasons, ", ")
}

/// Joins items, breaking lines before `WIDTH` and indenting them under the first item.
fn wrapped(lead: &str, items: &[String], separator: &str) -> String {
    let mut out = String::new();
    let mut line = lead.to_owned();
    let mut is_first = true;
    for item in items {
        if !is_first {
            if line.len() + separator.len() + item.len() > WIDTH {
                out.push_str((line + separator).trim_end());
                out.push('\n');
                line = " ".repeat(lead.len());
            } else {
                line.push_str(separator);
            }
        }
        line.push_str(item);
        is_first = false;
    }
    if !is_first {
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// A reason without one device's figures, for the counts.
fn summary(spec: &WorkloadSpecView, code: Code) -> String {
    let terms = &spec.terms;
    let needs = spec.needs.resources;
    match code {
        Code::NotApproved => "not approved".to_owned(),
        Code::Cordoned => "cordoned".to_owned(),
        Code::Draining => "draining".to_owned(),
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
    }
}

/// A reason with the figures of one device, and the name that it is about.
fn failure(spec: &WorkloadSpecView, code: Code, figures: Figures, about: Option<&str>) -> String {
    let subject = summary(spec, code);
    match figures {
        Figures::None => match (code, about) {
            (Code::Taint, Some(taint)) => format!("{taint} is not tolerated"),
            (Code::AntiAffinity, Some(other)) => format!("together with {other}"),
            // The one label of many that it lacks.
            (Code::LabelMismatch, Some(one)) if subject != format!("without {one}") => format!("{subject} (not {one})"),
            (_, Some(_) | None) => subject,
        },
        Figures::Spacing { km, .. } => format!("{subject} ({} km to {})", km_short(km), about.unwrap_or("one")),
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
        Figures::Wire { speaks, .. } => format!("{subject} (speaks {speaks})"),
    }
}

/// A passed check in a few words; none for those that go without saying.
fn success(spec: &WorkloadSpecView, check: &Check) -> Option<String> {
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
        (Code::NoRuntime, _) => Some(format!("runtime {}", runtime(spec.needs.runtime))),
        (Code::InsufficientRam, Figures::Amount { free, .. }) => Some(format!("RAM (free {})", bytes(free))),
        (Code::InsufficientSlots, Figures::Amount { free, .. }) => Some(format!("slots (free {free})")),
        (Code::SetTooLarge, Figures::Amount { free, .. }) => Some(format!("desired set (room {})", bytes(free))),
        (Code::NotApproved, _) => Some("approved".to_owned()),
        (Code::Taint, _) => Some("taints tolerated".to_owned()),
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
            | Code::Spread,
            _,
        ) => None,
    }
}

fn regions(terms: &Terms, joint: &str) -> String {
    region_names(&terms.within, joint)
}

fn region_names(names: &[String], joint: &str) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("region/{name}")).collect();
    names.join(joint)
}

fn labels(terms: &Terms) -> String {
    selector_text(&terms.labels, &terms.requirements)
}

fn nearest_per(spec: &WorkloadSpecView, kind: &str) -> String {
    let Some(nearest) = &spec.terms.nearest_per else {
        return String::new();
    };
    let nouns = match nearest.k.get() {
        1 => format!("the nearest {kind}"),
        k => format!("the {k} nearest {kind}s"),
    };
    let anchors = nearest.devices.to_string();
    let anchors = if anchors.is_empty() { "device".to_owned() } else { format!("device with {anchors}") };
    match spec.wanted {
        Wanted::Every => format!("{nouns} of every {anchors}"),
        Wanted::Replicas(replicas) => format!("{nouns} of every {anchors}, at most {replicas}"),
    }
}

fn spread_by(by: &SpreadBy) -> String {
    match by {
        SpreadBy::Site => "site".to_owned(),
        SpreadBy::Regions(names) => region_names(names, ", "),
        SpreadBy::Cell(level) => format!("cell:{level}"),
    }
}

fn domain_noun(by: &SpreadBy) -> &'static str {
    match by {
        SpreadBy::Site => "site",
        SpreadBy::Regions(_) => "region",
        SpreadBy::Cell(_) => "cell",
    }
}

/// The first anchors with who serves them, those that lack one before all others.
fn anchors_text(anchors: &[Anchor]) -> String {
    let mut order: Vec<&Anchor> = anchors.iter().collect();
    order.sort_by_key(|anchor| std::cmp::Reverse(anchor.missing));
    let mut out = String::new();
    for anchor in order.iter().take(ANCHORS_SHOWN_MAX) {
        let by: Vec<String> = anchor
            .served_by
            .iter()
            .map(|server| format!("{} ({} km)", server.name, km_short(server.distance)))
            .collect();
        let by = if by.is_empty() { "nobody".to_owned() } else { by.join(", ") };
        let missing = match anchor.missing {
            0 => String::new(),
            missing => format!(", {missing} missing"),
        };
        let _ = writeln!(out, "  for {}: {by}{missing}", anchor.name);
    }
    if order.len() > ANCHORS_SHOWN_MAX {
        let _ = writeln!(out, "  and for {} more", order.len() - ANCHORS_SHOWN_MAX);
    }
    out
}

fn runtime(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Function => "function",
        Runtime::Container => "container",
    }
}

/// Thousandths as a fraction with two decimals, as scores are shown.
fn milli(value: u16) -> String {
    format!("{}.{:02}", value / 1000, value % 1000 / 10)
}

/// Kilometres with one decimal.
fn km_short(distance: Distance) -> String {
    let tenths = (distance.millimetres() + 50_000) / 100_000;
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
