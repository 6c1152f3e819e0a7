//! Which devices the workload names by class, label or name.

use super::{Figures, Held, Verdict, pass_if};
use crate::scheduler::question::Question;
use crate::scheduler::snapshot::Device;
use crate::scheduler::terms::SpreadBy;

pub(super) fn class(question: &Question<'_>, device: &Device, _: Held) -> Verdict {
    let classes = &question.spec.terms.class;
    if classes.is_empty() {
        return Verdict::NotAsked;
    }
    pass_if(classes.iter().any(|class| **class == *device.class), Figures::None)
}

pub(super) fn labels(question: &Question<'_>, device: &Device, _: Held) -> Verdict {
    if question.selector.is_empty() {
        return Verdict::NotAsked;
    }
    pass_if(question.selector.matches(question.snapshot.fleet, device), Figures::None)
}

/// The first label or requirement that the device does not satisfy.
pub(super) fn failing(question: &Question<'_>, device: &Device) -> Option<String> {
    let terms = &question.spec.terms;
    let place = question.selector.failing(question.snapshot.fleet, device)?;
    match terms.labels.get(place) {
        Some((key, value)) => Some(format!("{key}={value}")),
        None => terms.requirements.get(place - terms.labels.len()).map(ToString::to_string),
    }
}

pub(super) fn named(question: &Question<'_>, device: &Device, _: Held) -> Verdict {
    if question.spec.terms.on.is_empty() {
        return Verdict::NotAsked;
    }
    pass_if(question.named.contains(&device.index), Figures::None)
}

/// Cells cover everything, so only sites and regions can leave a device out. Without a position `known` has failed.
pub(super) fn domain(question: &Question<'_>, device: &Device, _: Held) -> Verdict {
    match question.spec.terms.spread.as_ref().map(|spread| &spread.by) {
        None => Verdict::NotAsked,
        Some(SpreadBy::Regions(_) | SpreadBy::Cell(_)) if device.position.is_none() => Verdict::NotAsked,
        Some(SpreadBy::Site | SpreadBy::Regions(_) | SpreadBy::Cell(_)) => {
            pass_if(question.domain(device).is_some(), Figures::None)
        }
    }
}

/// What arrives later on the same device or site sends a placement away too.
pub(super) fn apart(question: &Question<'_>, device: &Device, _: Held) -> Verdict {
    if !question.is_apart() {
        return Verdict::NotAsked;
    }
    pass_if(question.repelled_by(device).is_none(), Figures::None)
}
