//! Which devices the workload names by class, label or name.

use super::{Figures, Held, Verdict, pass_if};
use crate::scheduler::question::{LabelTerm, Question};
use crate::scheduler::snapshot::Device;

pub(super) fn class(question: &Question<'_>, device: &Device, _: Held) -> Verdict {
    let classes = &question.spec.terms.class;
    if classes.is_empty() {
        return Verdict::NotAsked;
    }
    pass_if(classes.iter().any(|class| **class == *device.class), Figures::None)
}

pub(super) fn labels(question: &Question<'_>, device: &Device, _: Held) -> Verdict {
    if question.labels.is_empty() {
        return Verdict::NotAsked;
    }
    let has = |term: &LabelTerm| match term {
        LabelTerm::Carried(label) => device.has_label(*label),
        LabelTerm::Nowhere => false,
    };
    pass_if(question.labels.iter().all(has), Figures::None)
}

pub(super) fn named(question: &Question<'_>, device: &Device, _: Held) -> Verdict {
    if question.spec.terms.on.is_empty() {
        return Verdict::NotAsked;
    }
    pass_if(question.named.contains(&device.index), Figures::None)
}
