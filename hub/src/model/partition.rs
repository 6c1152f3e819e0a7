//! What happens to a workload while a device and the hub do not hear of each other.
//!
//! What was written is kept as it was written, and the rest is answered by methods: what is left out depends on the mode, and a
//! stored default of one mode would stand against another mode. `partition_read` refuses what does not go together.

use super::quantity::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `autonomous`, which is also what an object without `stopAfter` and `exclusive` means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Form", into = "Form")]
pub struct PartitionSpec {
    pub(super) fields: PartitionFields,
}

/// The long form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PartitionFields {
    /// The device stops the work after so long without word from the hub; also over reboots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_after: Option<Span>,
    /// At most one device runs the work at any time: it needs a lease, and stops when it runs out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<ExclusiveSpec>,
    /// When the time of `stopAfter` is over: `stop`, or `degrade`: go on and be told. Exclusive work stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_expire: Option<OnExpire>,
    /// Whether another device takes over when one is lost: `never`, `afterLease`: when it has certainly stopped, `afterGrace`:
    /// after `grace`, and then both may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<Replace>,
    /// How long a device must be lost until `afterGrace` places the work elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Span>,
    /// When a lost device comes back: who keeps the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_return: Option<OnReturn>,
    /// What the device does when it has not been shown for so long that its orders are the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_stale: Option<OnStaleSpec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExclusiveSpec {
    /// 15 s to 1 h. Short: another device takes over soon. Long: short gaps in the connection do not stop the work.
    pub lease: Span,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnExpire {
    #[default]
    Stop,
    /// It goes on, and can ask its host how old its orders are.
    Degrade,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Replace {
    Never,
    /// When the lost device has certainly stopped.
    AfterLease,
    /// After `grace`; until the lost device hears of it, both may run.
    AfterGrace,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnReturn {
    /// The work moves back.
    KeepOriginal,
    #[default]
    KeepReplacement,
    /// Whichever placement would choose now.
    Best,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OnStaleSpec {
    pub after: Span,
    pub action: StaleAction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StaleAction {
    Continue,
    /// It goes on, and is told.
    Degrade,
    Stop,
}

/// Who decides when the work ends without the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionMode {
    /// Nobody: it goes on.
    Autonomous,
    /// The device, by its own clock.
    StopAfter(Span),
    /// The device, by the lease that the hub gave it.
    Exclusive { lease: Span },
}

/// How long a device is lost before `afterGrace` acts, unless the manifest says otherwise.
pub const GRACE_DEFAULT: Span = Span(5 * 60 * 1000);

impl PartitionSpec {
    pub fn mode(&self) -> PartitionMode {
        match (self.fields.exclusive, self.fields.stop_after) {
            (Some(exclusive), _) => PartitionMode::Exclusive { lease: exclusive.lease },
            (None, Some(after)) => PartitionMode::StopAfter(after),
            (None, None) => PartitionMode::Autonomous,
        }
    }

    /// Of exclusive work.
    pub fn lease(&self) -> Option<Span> {
        self.fields.exclusive.map(|exclusive| exclusive.lease)
    }

    pub fn on_expire(&self) -> OnExpire {
        self.fields.on_expire.unwrap_or_default()
    }

    /// Work that certainly stops is replaced when it has; other work stays where it is.
    pub fn replace(&self) -> Replace {
        let by_mode = match (self.mode(), self.on_expire()) {
            (PartitionMode::Exclusive { .. }, _) | (PartitionMode::StopAfter(_), OnExpire::Stop) => Replace::AfterLease,
            (PartitionMode::StopAfter(_), OnExpire::Degrade) | (PartitionMode::Autonomous, _) => Replace::Never,
        };
        self.fields.replace.unwrap_or(by_mode)
    }

    /// Between the loss of a device and a replacement, with `Replace::AfterGrace`.
    pub fn grace(&self) -> Span {
        self.fields.grace.unwrap_or(GRACE_DEFAULT)
    }

    pub fn on_return(&self) -> OnReturn {
        self.fields.on_return.unwrap_or_default()
    }

    pub fn on_stale(&self) -> Option<OnStaleSpec> {
        self.fields.on_stale
    }
}

/// As it is written and stored.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Form {
    Word(Word),
    Fields(PartitionFields),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Word {
    Autonomous,
}

impl From<Form> for PartitionSpec {
    fn from(form: Form) -> Self {
        match form {
            Form::Word(Word::Autonomous) => Self::default(),
            Form::Fields(fields) => Self { fields },
        }
    }
}

impl From<PartitionSpec> for Form {
    fn from(spec: PartitionSpec) -> Self {
        match spec == PartitionSpec::default() {
            true => Self::Word(Word::Autonomous),
            false => Self::Fields(spec.fields),
        }
    }
}
