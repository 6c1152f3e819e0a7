//! What was asked of the hub while workloads were in which state and which faults were about: new bugs come from combinations
//! that were never reached before.
use super::fault::{FAULTS, Fault};
use std::fmt::Write;
use wire::status::State;

/// Everything that an operator can ask of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Verb {
    Put,
    PutDryRun,
    Apply,
    Get,
    Managed,
    List,
    Watch,
    Delete,
    ArtifactPut,
    Approve,
    Cordon,
    Uncordon,
    Drain,
    Undrain,
    Relocate,
    Rejections,
    TokenCreate,
    ApiTokenCreate,
    Explain,
    Plan,
    PlanApply,
    WhatIf,
    Logs,
    LogsFollow,
    Events,
    EventsFollow,
    EventsWatch,
    HubApply,
    HubHold,
    HubTakeover,
    Queue,
    Status,
    Measure,
    Cancel,
}

pub const VERBS: usize = 34;

impl Verb {
    pub const ALL: [Self; VERBS] = [
        Self::Put,
        Self::PutDryRun,
        Self::Apply,
        Self::Get,
        Self::Managed,
        Self::List,
        Self::Watch,
        Self::Delete,
        Self::ArtifactPut,
        Self::Approve,
        Self::Cordon,
        Self::Uncordon,
        Self::Drain,
        Self::Undrain,
        Self::Relocate,
        Self::Rejections,
        Self::TokenCreate,
        Self::ApiTokenCreate,
        Self::Explain,
        Self::Plan,
        Self::PlanApply,
        Self::WhatIf,
        Self::Logs,
        Self::LogsFollow,
        Self::Events,
        Self::EventsFollow,
        Self::EventsWatch,
        Self::HubApply,
        Self::HubHold,
        Self::HubTakeover,
        Self::Queue,
        Self::Status,
        Self::Measure,
        Self::Cancel,
    ];
}

/// Verbs of the interface that no run uses, and why.
pub const UNREACHED_VERBS: [(&str, &str); 5] = [
    (
        "RolloutCreate, RolloutChange, Rollout, Rollouts",
        "no simulated device has slots of firmware; the engine's tests and system tests do it",
    ),
    ("QueueChange, Release", "of one device and workload that must wait just then; the engine's tests do it"),
    (
        "Decommission, DecommissionNow, Reject",
        "the device would have to be joined anew; the engine's tests and the system tests do it",
    ),
    ("RejectionLift", "needs a rejected key; the engine's tests do it"),
    ("Body", "bodies are read from what is durable, as the edge does after it has asked for one"),
];

/// What a workload is like: absent, on no device, or what a device last reported of one of its components.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Condition {
    Absent,
    Unplaced,
    Unreported,
    Waiting,
    Fetching,
    Starting,
    Running,
    Stopping,
    Stopped,
    BackOff,
    Completed,
    Failed,
    Refused,
}

pub const CONDITIONS: usize = 13;

/// Conditions that no run reaches, and why.
pub const UNREACHED_CONDITIONS: [(Condition, &str); 1] = [(
    Condition::Refused,
    "every device of a run can do what its workloads ask for: admission and placement see to that",
)];

/// Pairs that cannot be: a device is the object of these verbs, and what it does not hold is not absent on it but somewhere else.
const OF_DEVICES: [Verb; 6] = [Verb::Approve, Verb::Cordon, Verb::Uncordon, Verb::Drain, Verb::Undrain, Verb::Relocate];

/// True unless one of the reasons above, or below for pairs, says that no run can be there.
fn is_reachable(verb: Verb, condition: Condition) -> bool {
    let is_absent = condition == Condition::Absent;
    // Devices are joined before anything is applied.
    let is_joined = verb != Verb::TokenCreate || is_absent;
    is_joined
        && !(is_absent && OF_DEVICES.contains(&verb))
        && UNREACHED_CONDITIONS.iter().all(|(of, _)| *of != condition)
}

impl Condition {
    pub const ALL: [Self; CONDITIONS] = [
        Self::Absent,
        Self::Unplaced,
        Self::Unreported,
        Self::Waiting,
        Self::Fetching,
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::Stopped,
        Self::BackOff,
        Self::Completed,
        Self::Failed,
        Self::Refused,
    ];

    pub const fn of(state: State) -> Self {
        match state {
            State::Waiting => Self::Waiting,
            State::Fetching => Self::Fetching,
            State::Starting => Self::Starting,
            State::Running => Self::Running,
            State::Stopping => Self::Stopping,
            State::Stopped => Self::Stopped,
            State::BackOff => Self::BackOff,
            State::Completed => Self::Completed,
            State::Failed => Self::Failed,
            State::Refused => Self::Refused,
        }
    }
}

/// A set of conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions(u16);

impl Conditions {
    pub fn add(&mut self, condition: Condition) {
        self.0 |= 1 << condition as u16;
    }

    pub fn join(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn iter(self) -> impl Iterator<Item = Condition> {
        Condition::ALL.into_iter().filter(move |condition| self.0 >> *condition as u16 & 1 == 1)
    }
}

/// One more than there are kinds: the last stands for no fault at all.
const COLUMNS: usize = FAULTS + 1;

/// Counts of verb x condition x fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    cells: Vec<u32>,
}

impl Default for Coverage {
    fn default() -> Self {
        Self { cells: vec![0; VERBS * CONDITIONS * COLUMNS] }
    }
}

impl Coverage {
    fn at(verb: Verb, condition: Condition, column: usize) -> usize {
        (verb as usize * CONDITIONS + condition as usize) * COLUMNS + column
    }

    pub fn count(&mut self, verb: Verb, conditions: Conditions, faults: impl Iterator<Item = Fault>) {
        let mut is_calm = true;
        for fault in faults {
            is_calm = false;
            for condition in conditions.iter() {
                self.cells[Self::at(verb, condition, fault as usize)] += 1;
            }
        }
        for condition in conditions.iter().filter(|_| is_calm) {
            self.cells[Self::at(verb, condition, FAULTS)] += 1;
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.cells.iter_mut().zip(&other.cells).for_each(|(sum, count)| *sum = sum.saturating_add(*count));
    }

    fn pair(&self, verb: Verb, condition: Condition) -> u64 {
        (0..COLUMNS).map(|column| u64::from(self.cells[Self::at(verb, condition, column)])).sum()
    }

    /// Verbs that were never asked.
    pub fn missing_verbs(&self) -> Vec<Verb> {
        let is_missing = |verb: &Verb| Condition::ALL.into_iter().all(|condition| self.pair(*verb, condition) == 0);
        Verb::ALL.into_iter().filter(is_missing).collect()
    }

    /// Conditions in which nothing was ever asked, without those that have a reason.
    pub fn missing_conditions(&self) -> Vec<Condition> {
        let is_missing = |condition: &Condition| Verb::ALL.into_iter().all(|verb| self.pair(verb, *condition) == 0);
        let has_reason = |condition: &Condition| UNREACHED_CONDITIONS.iter().any(|(of, _)| of == condition);
        Condition::ALL.into_iter().filter(|condition| is_missing(condition) && !has_reason(condition)).collect()
    }

    /// Faults during which nothing was ever asked.
    pub fn missing_faults(&self) -> Vec<Fault> {
        let is_missing = |fault: &Fault| {
            let cells = self.cells.iter().skip(*fault as usize).step_by(COLUMNS);
            cells.into_iter().all(|count| *count == 0)
        };
        Fault::ALL.into_iter().filter(is_missing).collect()
    }

    /// Pairs of verb and reachable condition that were reached, and how many there are.
    pub fn pairs(&self) -> (usize, usize) {
        let all = || Verb::ALL.into_iter().flat_map(|verb| Condition::ALL.into_iter().map(move |of| (verb, of)));
        let pairs: Vec<_> = all().filter(|(verb, condition)| is_reachable(*verb, *condition)).collect();
        (pairs.iter().filter(|(verb, condition)| self.pair(*verb, *condition) > 0).count(), pairs.len())
    }

    /// Triples that were reached, and how many there are.
    pub fn triples(&self) -> (usize, usize) {
        (self.cells.iter().filter(|count| **count > 0).count(), self.pairs().1 * COLUMNS)
    }

    pub fn summary(&self) -> String {
        let ((pairs, of_pairs), (triples, of_triples)) = (self.pairs(), self.triples());
        let percent = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
        format!(
            "coverage: {pairs} of {of_pairs} verb x condition ({:.1} %), {triples} of {of_triples} verb x condition x fault ({:.1} %)",
            percent(pairs, of_pairs),
            percent(triples, of_triples)
        )
    }

    /// Verbs by conditions, how often; then what is not reached, and why.
    pub fn table(&self) -> String {
        let mut out = format!("{:<15}", "");
        for condition in Condition::ALL {
            let _ = write!(out, "{:>11}", format!("{condition:?}"));
        }
        for verb in Verb::ALL {
            let _ = write!(out, "\n{:<15}", format!("{verb:?}"));
            for condition in Condition::ALL {
                let _ = write!(out, "{:>11}", self.pair(verb, condition));
            }
        }
        for (verbs, why) in UNREACHED_VERBS {
            let _ = write!(out, "\nnot used: {verbs}: {why}");
        }
        for (condition, why) in UNREACHED_CONDITIONS {
            let _ = write!(out, "\nnot reached: {condition:?}: {why}");
        }
        let _ = write!(out, "\nnot reached: TokenCreate: tokens are made before anything is applied");
        let _ = write!(
            out,
            "\nnot reached: {OF_DEVICES:?} with Absent: what a device does not hold is elsewhere, not absent"
        );
        out
    }
}
