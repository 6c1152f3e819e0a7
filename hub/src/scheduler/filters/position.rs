//! Where a device is, as far as that is known.

use super::{Figures, Held, Verdict, pass_if};
use crate::geo::{Distance, Membership};
use crate::scheduler::question::Question;
use crate::scheduler::snapshot::{Device, Position, PositionSource};

pub(super) fn known(question: &Question<'_>, device: &Device, _: Held) -> Verdict {
    if !question.needs_position {
        return Verdict::NotAsked;
    }
    match device.position {
        Some(position) => Verdict::Pass(figures(question, &position)),
        None => Verdict::Fail(Figures::None),
    }
}

/// The questions below have no answer without a position; `known` has failed then.
pub(super) fn inside(question: &Question<'_>, device: &Device, _: Held) -> Verdict {
    match device.position {
        Some(position) if !question.spec.terms.within.is_empty() => {
            pass_if(question.regions().any(|region| region.contains(position.point)), figures(question, &position))
        }
        _ => Verdict::NotAsked,
    }
}

/// Asked only of devices that are inside, so that "outside" is not reported twice.
pub(super) fn certain(question: &Question<'_>, device: &Device, _: Held) -> Verdict {
    let Some(position) = device.position else {
        return Verdict::NotAsked;
    };
    let mut verdict = Verdict::NotAsked;
    for region in question.regions() {
        match region.membership(position.point, position.uncertainty) {
            Membership::Certain => return Verdict::Pass(figures(question, &position)),
            Membership::Uncertain => verdict = Verdict::Fail(figures(question, &position)),
            Membership::Outside => {}
        }
    }
    verdict
}

pub(super) fn near(question: &Question<'_>, device: &Device, _: Held) -> Verdict {
    match (question.spec.terms.near, device.position) {
        (Some(near), Some(position)) => {
            let km = Distance::between(near.point, position.point);
            pass_if(near.distance_max.is_none_or(|max| km <= max), Figures::Distance { km, km_max: near.distance_max })
        }
        (None, _) | (_, None) => Verdict::NotAsked,
    }
}

/// What an operator or the device's configuration says does not age.
pub(super) fn fresh(question: &Question<'_>, device: &Device, _: Held) -> Verdict {
    match (question.spec.terms.position_age_max, device.position) {
        (Some(max), Some(position)) => {
            let age = question.snapshot.taken_at.saturating_sub(position.known_at);
            let is_fresh = match position.source {
                PositionSource::Operator | PositionSource::Static => true,
                PositionSource::Reported => age <= max,
            };
            pass_if(is_fresh, figures(question, &position))
        }
        (None, _) | (_, None) => Verdict::NotAsked,
    }
}

fn figures(question: &Question<'_>, position: &Position) -> Figures {
    Figures::Position {
        uncertainty_km: position.uncertainty,
        source: position.source,
        age_seconds: question.snapshot.taken_at.saturating_sub(position.known_at).as_secs(),
    }
}
