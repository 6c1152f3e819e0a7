//! What a device's agent can do at all.

use super::{Figures, Held, Verdict, pass_if};
use crate::scheduler::question::Question;
use crate::scheduler::snapshot::Device;
use wire::record::CapabilitySet;

pub(super) fn runtime(question: &Question<'_>, device: &Device, _: Held) -> Verdict {
    let needs = question.spec.needs.runtime;
    pass_if(device.runtimes.has(needs), Figures::Runtime { needs })
}

/// A function that may use a pin is of no use where there is none.
pub(super) fn interfaces(question: &Question<'_>, device: &Device, _: Held) -> Verdict {
    let needs = question.spec.needs.interfaces;
    if needs == CapabilitySet::default() {
        return Verdict::NotAsked;
    }
    let missing = needs.without(device.interfaces);
    pass_if(missing == CapabilitySet::default(), Figures::Interfaces { missing })
}

/// Exclusive work stops in time only where the clock goes on while the device sleeps.
pub(super) fn boot_clock(question: &Question<'_>, device: &Device, _: Held) -> Verdict {
    match question.spec.needs.boot_clock {
        true => pass_if(device.has_boot_clock, Figures::None),
        false => Verdict::NotAsked,
    }
}

pub(super) fn wire(question: &Question<'_>, device: &Device, _: Held) -> Verdict {
    let needs = question.spec.needs.wire_min;
    let speaks = device.wire.max;
    pass_if(speaks >= needs, Figures::Wire { needs, speaks })
}
