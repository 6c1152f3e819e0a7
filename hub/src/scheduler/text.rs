//! Plans and explanations as text for people. Pure: the same input gives the same lines, which golden files review.

use super::decision::{Anchor, Fulfilment, Plan, Standing};
use super::explain::{Check, DeviceExplanation, Outcome, Rival};
use super::reason::{failure, km_short, labels, region_names, regions, success, summary};
use super::terms::{Apartness, SpreadBy};
use super::workload::{Wanted, WorkloadSpecView};
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
            Wanted::Replicas(replicas) => format!("{} of {replicas} replicas cannot be placed", decision.shortfall),
            Wanted::Every => format!("{} missing over all anchors", decision.shortfall),
        };
        let others = match decision.fulfilment {
            Fulfilment::Complete => "",
            Fulfilment::Partial => "; the others are (onShortfall: partial)",
            Fulfilment::Waiting => "; the others wait for them (onShortfall: wait)",
            Fulfilment::Failed => "; nothing is started (onShortfall: fail)",
        };
        let others = match spec.wanted {
            Wanted::Every => others.replace("others are (", "others are placed ("),
            Wanted::Replicas(_) => others.to_owned(),
        };
        out.push_str(&format!("  {whole}{others}\n"));
        if decision.held_back > 0 {
            out.push_str(&format!("  {} could be placed and are held back\n", decision.held_back));
        }
        let misses: Vec<String> =
            plan.near_misses.iter().map(|line| format!("{} {}", line.count, summary(spec, line.code))).collect();
        out.push_str(&wrapped("  Fail only one thing: ", &misses, ", "));
    }
    out
}

/// Why replicas are missing, in one line: the counts that sum, in words.
pub fn shortfall_line(spec: &WorkloadSpecView, plan: &Plan) -> String {
    let Plan { decision, tally, .. } = plan;
    let noun = if tally.considered == 1 { "device" } else { "devices" };
    let mut parts: Vec<String> = decision.unresolved.iter().map(|name| format!("{name} matches nothing")).collect();
    parts.extend(tally.failed.iter().map(|line| format!("{} {}", line.count, summary(spec, line.code))));
    if tally.feasible > 0 {
        parts.push(format!("{} feasible, for one replica each", tally.feasible));
    }
    let lead = format!("{} {noun} considered", tally.considered);
    if parts.is_empty() { lead } else { format!("{lead}: {}", parts.join(", ")) }
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

/// Thousandths as a fraction with two decimals, as scores are shown.
fn milli(value: u16) -> String {
    format!("{}.{:02}", value / 1000, value % 1000 / 10)
}
