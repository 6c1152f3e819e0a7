//! Whether what the workload needs fits beside what the device holds already.
//!
//! What the workload itself holds there counts as free: staying must not fail for its own weight.

use super::{Figures, Held, Verdict, pass_if};
use crate::scheduler::question::Question;
use crate::scheduler::snapshot::{Device, Resources};

pub(super) fn ram(question: &Question<'_>, device: &Device, held: Held) -> Verdict {
    let amount = |resources: Resources| resources.ram_bytes;
    fits(question, device, held, amount)
}

pub(super) fn slots(question: &Question<'_>, device: &Device, held: Held) -> Verdict {
    let amount = |resources: Resources| u64::from(resources.slots);
    fits(question, device, held, amount)
}

pub(super) fn body(question: &Question<'_>, device: &Device, held: Held) -> Verdict {
    let amount = |resources: Resources| u64::from(resources.body_bytes);
    fits(question, device, held, amount)
}

fn fits(question: &Question<'_>, device: &Device, held: Held, amount: impl Fn(Resources) -> u64) -> Verdict {
    let needs = amount(question.spec.needs.resources);
    if needs == 0 {
        return Verdict::NotAsked;
    }
    let others = device.used.minus(held.unwrap_or_default());
    let total = amount(device.total);
    let free = total.saturating_sub(amount(others));
    pass_if(needs <= free, Figures::Amount { needs, free, total })
}
