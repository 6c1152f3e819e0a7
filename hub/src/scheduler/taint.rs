//! What keeps work off a device unless the workload says that it can bear it.

use serde::Serialize;
use std::fmt;

/// What a taint does to a workload that does not tolerate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Effect {
    /// Takes nothing new, keeps what it has.
    NoSchedule,
    /// Takes nothing new and loses what it has.
    NoExecute,
}

impl Effect {
    pub fn as_str(self) -> &'static str {
        match self {
            Effect::NoSchedule => "NoSchedule",
            Effect::NoExecute => "NoExecute",
        }
    }
}

/// A mark on a device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Taint {
    pub key: Box<str>,
    pub value: Box<str>,
    pub effect: Effect,
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, value, effect) = (&self.key, &self.value, self.effect.as_str());
        if value.is_empty() { write!(f, "{key}:{effect}") } else { write!(f, "{key}={value}:{effect}") }
    }
}

/// Taints that a workload bears. What is left out stands for all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Toleration {
    pub key: Option<String>,
    pub value: Option<String>,
    pub effect: Option<Effect>,
}

impl Toleration {
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.key.as_deref().is_none_or(|key| *key == *taint.key)
            && self.value.as_deref().is_none_or(|value| *value == *taint.value)
            && self.effect.is_none_or(|effect| effect == taint.effect)
    }
}

/// The first taint that keeps the workload off, whether it is on the device already or not.
pub(super) fn repelling<'a>(taints: &'a [Taint], tolerations: &[Toleration], is_held: bool) -> Option<&'a Taint> {
    taints.iter().find(|taint| {
        let applies = match taint.effect {
            Effect::NoSchedule => !is_held,
            Effect::NoExecute => true,
        };
        applies && !tolerations.iter().any(|toleration| toleration.tolerates(taint))
    })
}
