//! What the operators decided about a device.

use super::{Figures, Held, Verdict, admittance_allows, pass_if};
use crate::scheduler::question::Question;
use crate::scheduler::snapshot::{Admittance, Device};
use crate::scheduler::taint::repelling;

pub(super) fn approved(_: &Question<'_>, device: &Device, _: Held) -> Verdict {
    admittance_allows(device.admittance, Admittance::Pending)
}

/// A cordon keeps new work away and leaves what is there.
pub(super) fn open(_: &Question<'_>, device: &Device, held: Held) -> Verdict {
    match held {
        Some(_) => Verdict::Pass(Figures::None),
        None => admittance_allows(device.admittance, Admittance::Cordoned),
    }
}

pub(super) fn staying(_: &Question<'_>, device: &Device, _: Held) -> Verdict {
    admittance_allows(device.admittance, Admittance::Draining)
}

/// A lost device keeps what it has until the workload gives it up, and gets nothing that could run elsewhere.
pub(super) fn heard(question: &Question<'_>, device: &Device, held: Held) -> Verdict {
    if !device.is_lost {
        return Verdict::NotAsked;
    }
    let losses = &question.spec.losses;
    let is_kept = match held {
        Some(_) => losses.given_up.binary_search(&device.index).is_err(),
        None => !losses.avoids_lost,
    };
    pass_if(is_kept, Figures::None)
}

/// Whether the device may have this version, as far as operators have said so.
pub(super) fn granted(question: &Question<'_>, device: &Device, _: Held) -> Verdict {
    match question.spec.losses.withheld.as_slice() {
        [] => Verdict::NotAsked,
        withheld => pass_if(withheld.binary_search(&device.index).is_err(), Figures::None),
    }
}

/// Asked only of a device that is held, so that it is no word of every explanation.
pub(super) fn known(_: &Question<'_>, device: &Device, held: Held) -> Verdict {
    match (device.admittance, held) {
        (Admittance::Held, None) => Verdict::Fail(Figures::None),
        (Admittance::Held, Some(_)) => Verdict::Pass(Figures::None),
        (Admittance::Pending | Admittance::Open | Admittance::Cordoned | Admittance::Draining, _) => Verdict::NotAsked,
    }
}

pub(super) fn tolerated(question: &Question<'_>, device: &Device, held: Held) -> Verdict {
    if device.taints.is_empty() {
        return Verdict::NotAsked;
    }
    pass_if(repelling(&device.taints, &question.spec.terms.tolerations, held.is_some()).is_none(), Figures::None)
}
