//! One component on this device: what should run, what does run, and the one step that is in flight.
//!
//! Only data and its small transitions live here; which step comes next is decided in `reconcile`.
use super::port::{LaunchId, Source, Terms};
use super::random::{Random, doubled};
use super::set::Print;
use super::stale::Limits;
use super::time::{Duration, Instant};
use wire::clause::{Clause, OnStale, StaleAction};
use wire::limits::DETAIL_BYTES_MAX;
use wire::record::{Record, Role};
use wire::status::{Reason, State};
use wire::{Digest, WorkloadId};

/// `Start` must be answered within this.
pub const START_DEADLINE: Duration = Duration::from_secs(60);
/// `Stop` must be answered within its grace and this; then it is asked again.
pub const STOP_MARGIN: Duration = Duration::from_secs(10);
/// `Activate` must be answered within this.
pub const ACTIVATION_DEADLINE: Duration = Duration::from_secs(60);
/// A fetch is asked again after this.
pub const FETCH_DEADLINE: Duration = Duration::from_secs(600);
/// Grace of a component that states none.
pub const STOP_GRACE: Duration = Duration::from_secs(10);
/// Longest grace that is honoured.
pub const STOP_GRACE_MAX: Duration = Duration::from_secs(600);
/// Failures in `RETRY_WINDOW` after which a version counts as bad.
pub const ATTEMPTS_MAX: u8 = 3;
pub const RETRY_WINDOW: Duration = Duration::from_secs(600);
/// A run of this length forgets earlier failures.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(600);
/// A run of this length counts as settled.
pub const SETTLED_AFTER: Duration = Duration::from_secs(10);
/// A version that counts as bad, with nothing to go back to, is tried again after this.
pub const SLOW_RETRY: Duration = Duration::from_secs(1800);
/// Shortest period of a timer.
pub const PERIOD_MIN: Duration = Duration::from_millis(10);
const BACK_OFF_BASE: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(300);

/// Which stored set a goal is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Current,
    LastGood,
}

/// What should run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    pub from: From,
    pub offset: u32,
    pub print: Print,
    pub generation: u32,
    pub role: Role,
    pub artifact: Digest,
    pub artifact_bytes: u32,
    pub is_unconfirmed_allowed: bool,
    pub every: Option<Duration>,
    pub grace: Duration,
    pub limits: Limits,
    pub attempts_max: u8,
    pub window: Duration,
    /// Not part of the last good set: its starts are recorded, its failures lead back.
    pub is_new: bool,
    /// Has an `After` clause.
    pub waits_for_others: bool,
}

impl Goal {
    pub fn of(record: &Record<'_>, from: From, offset: u32, print: Print, is_new: bool) -> Self {
        let mut goal = Self {
            from,
            offset,
            print,
            generation: record.core.generation,
            role: record.core.role,
            artifact: record.core.artifact,
            artifact_bytes: record.core.artifact_bytes,
            is_unconfirmed_allowed: false,
            every: None,
            grace: STOP_GRACE,
            limits: Limits::default(),
            attempts_max: ATTEMPTS_MAX,
            window: RETRY_WINDOW,
            is_new,
            waits_for_others: false,
        };
        for stated in record.clauses.iter() {
            match stated.clause {
                Clause::Every(ms) => goal.every = Some(Duration::from_millis(ms).max(PERIOD_MIN)),
                Clause::StopGrace(ms) => goal.grace = Duration::from_millis(ms).min(STOP_GRACE_MAX),
                Clause::Unconfirmed => goal.is_unconfirmed_allowed = true,
                Clause::After(components) => goal.waits_for_others = !components.is_empty(),
                Clause::Retry(retry) => {
                    goal.attempts_max = retry.attempts.max(1);
                    goal.window = Duration::from_secs(u64::from(retry.window_s.max(1)));
                }
                Clause::Lease(ms) => goal.limits.lease_of(ms),
                Clause::StopAfter(ms) => goal.limits.stop_after(ms),
                Clause::OnStale(OnStale { after_ms, action }) => match action {
                    StaleAction::Continue => {}
                    StaleAction::Degrade => goal.limits.degrade_after(after_ms),
                    StaleAction::Stop => goal.limits.stop_after(after_ms),
                },
                Clause::Name(_)
                | Clause::Config(_)
                | Clause::ConfigReference(_)
                | Clause::Topics(_)
                | Clause::Limits(_)
                | Clause::Secret(_)
                | Clause::Schedule(_)
                | Clause::Trace(_)
                | Clause::Residency(_)
                | Clause::ChunkRoot(_)
                | Clause::PublisherSignature(_)
                | Clause::Unknown { .. } => {}
            }
        }
        goal
    }
}

/// The artifact of the goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fetch {
    Unknown,
    /// `is_mine`: this slot's effect is in flight; otherwise it waits for another slot's fetch of the same digest.
    Asked {
        deadline: Instant,
        source: Source,
        is_mine: bool,
    },
    Present,
    /// Not on the device, and new code waits for Fresh.
    Absent,
    Failed {
        until: Instant,
        reason: Reason,
    },
}

/// What is known to run, exist, or be on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live {
    pub launch: LaunchId,
    pub print: Print,
    pub generation: u32,
    pub role: Role,
    pub artifact: Digest,
    pub every: Option<Duration>,
    pub grace: Duration,
    pub limits: Limits,
    /// The terms that the shell was told last.
    pub told: Terms,
    pub stage: Stage,
}

/// The step in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    Starting { deadline: Instant },
    Running { since: Instant, timer_at: Instant, activation: Option<Instant> },
    Stopping { deadline: Instant },
}

/// After a reset between the acceptance of a new version and its arrival, the old one runs on from the last good set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StandIn {
    pub goal: Goal,
    pub fetch: Fetch,
}

/// Why nothing runs although something should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    Ready,
    BackOff { until: Instant },
    Failed { until: Instant },
    Completed { since: Instant },
}

/// What is recorded about the accepted version of a component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trial {
    pub print: Print,
    pub failures: u8,
    /// Started and not proven: a crash of the agent is put down to it.
    pub is_open: bool,
    pub is_given_up: bool,
    /// A job that needs not run again.
    pub is_completed: bool,
    /// The attempts record that holds this state.
    pub epoch: u32,
}

impl Trial {
    pub fn is_empty(&self) -> bool {
        !self.is_open && !self.is_given_up && !self.is_completed && self.failures == 0
    }
}

/// Failures of the goal's version.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Streak {
    pub window_start: Instant,
    pub in_window: u8,
    pub consecutive: u32,
    pub is_exhausted: bool,
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub workload: WorkloadId,
    pub component: u8,
    /// The accepted set lists it.
    pub is_listed: bool,
    pub accepted_generation: u32,
    /// Where the last good set has this component, and in which version.
    pub good: Option<(u32, Print)>,
    pub goal: Option<Goal>,
    /// Listed, and not to run; why.
    pub held: Option<Reason>,
    pub is_rolled_back: bool,
    pub live: Option<Live>,
    pub fetch: Fetch,
    pub fetch_tries: u32,
    /// The last good version, while the wanted one cannot be had and nothing runs.
    pub stand_in: Option<StandIn>,
    pub rest: Rest,
    pub trial: Trial,
    pub streak: Streak,
    pub restarts: u32,
    pub has_started: bool,
    pub waits: Reason,
    pub reason: Reason,
    pub detail: heapless::String<DETAIL_BYTES_MAX>,
}

impl Slot {
    pub fn new(workload: WorkloadId, component: u8) -> Self {
        Self {
            workload,
            component,
            is_listed: false,
            accepted_generation: 0,
            good: None,
            goal: None,
            held: None,
            is_rolled_back: false,
            live: None,
            fetch: Fetch::Unknown,
            fetch_tries: 0,
            stand_in: None,
            rest: Rest::Ready,
            trial: Trial::default(),
            streak: Streak::default(),
            restarts: 0,
            has_started: false,
            waits: Reason::NONE,
            reason: Reason::NONE,
            detail: heapless::String::new(),
        }
    }

    pub fn key(&self) -> (WorkloadId, u8) {
        (self.workload, self.component)
    }

    /// Runs the version that is wanted, since when.
    pub fn running_goal_since(&self) -> Option<Instant> {
        match (&self.goal, &self.live) {
            (Some(goal), Some(Live { print, stage: Stage::Running { since, .. }, .. })) if *print == goal.print => {
                Some(*since)
            }
            _ => None,
        }
    }

    /// A version that is not part of the last good set has to start here, and has not.
    pub fn is_to_start(&self) -> bool {
        let is_running = |goal: &Goal| self.live.is_some_and(|live| live.print == goal.print);
        let is_completed = matches!(self.rest, Rest::Completed { .. });
        self.goal.is_some_and(|goal| goal.is_new && !is_running(&goal)) && !is_completed
    }

    /// Since when this component needs nothing more done.
    pub fn well_since(&self) -> Option<Instant> {
        match self.rest {
            Rest::Completed { since } if self.live.is_none() => Some(since),
            Rest::Completed { .. } | Rest::Ready | Rest::BackOff { .. } | Rest::Failed { .. } => {
                self.running_goal_since()
            }
        }
    }

    /// Replaces what should run. A change of version forgets what was known about the one before.
    pub fn set_goal(&mut self, goal: Option<Goal>, held: Option<Reason>) {
        let print = |goal: &Option<Goal>| goal.as_ref().map(|goal| goal.print);
        if print(&self.goal) != print(&goal) {
            self.stand_in = None;
            self.rest = Rest::Ready;
            self.streak = Streak::default();
            self.waits = Reason::NONE;
            self.reason = Reason::NONE;
            self.detail.clear();
        }
        let artifact = |goal: &Option<Goal>| goal.as_ref().map(|goal| goal.artifact);
        if artifact(&self.goal) != artifact(&goal) {
            self.fetch = Fetch::Unknown;
            self.fetch_tries = 0;
        }
        if let (Some(goal), Some(live)) = (&goal, &mut self.live) {
            if goal.print == live.print {
                live.generation = goal.generation;
                live.grace = goal.grace;
                live.limits = goal.limits;
            } else {
                live.limits.follow(&goal.limits);
            }
        }
        self.goal = goal;
        self.held = held;
    }

    pub fn explain(&mut self, reason: Reason, detail: &str) {
        self.reason = reason;
        self.detail.clear();
        let _ = self.detail.push_str(wire::status::truncate(detail, DETAIL_BYTES_MAX));
    }

    pub fn back_off(&mut self, now: Instant, random: &mut Random) {
        let pause = doubled(BACK_OFF_BASE, self.streak.consecutive.saturating_sub(1), BACK_OFF_MAX);
        self.rest = Rest::BackOff { until: now.after(random.about(pause)) };
    }

    pub fn fetch_failed(&mut self, now: Instant, reason: Reason, random: &mut Random) {
        let pause = doubled(BACK_OFF_BASE, self.fetch_tries, BACK_OFF_MAX);
        self.fetch_tries = self.fetch_tries.saturating_add(1);
        self.fetch = Fetch::Failed { until: now.after(random.about(pause)), reason };
    }

    /// State and reason as reported.
    pub fn state(&self) -> (State, Reason) {
        if let Some(live) = &self.live {
            let reason = if self.is_rolled_back { Reason::ROLLED_BACK } else { self.reason };
            return match live.stage {
                Stage::Starting { .. } => (State::Starting, reason),
                Stage::Running { .. } => (State::Running, self.running_reason(live)),
                Stage::Stopping { .. } => (State::Stopping, reason),
            };
        }
        if let Some(held) = self.held {
            let state = match held {
                Reason::ROLLED_BACK => State::Stopped,
                Reason::SAFE_MODE => State::Failed,
                _ => State::Refused,
            };
            return (state, held);
        }
        if self.goal.is_none() {
            return (State::Stopped, Reason::NONE);
        }
        match (self.rest, self.fetch) {
            (Rest::BackOff { .. }, _) => (State::BackOff, self.reason),
            (Rest::Failed { .. }, _) => (State::Failed, self.reason),
            (Rest::Completed { .. }, _) => {
                (State::Completed, if self.is_rolled_back { Reason::ROLLED_BACK } else { Reason::NONE })
            }
            (Rest::Ready, Fetch::Failed { reason, .. }) => (State::Fetching, reason),
            (Rest::Ready, Fetch::Absent) => (State::Waiting, Reason::WAITS_FOR_FRESH),
            (Rest::Ready, Fetch::Asked { source: Source::Anywhere, .. }) => (State::Fetching, Reason::NONE),
            (Rest::Ready, Fetch::Asked { .. } | Fetch::Unknown | Fetch::Present) => (State::Waiting, self.waits),
        }
    }

    /// While an older version runs on, the reason says what keeps the wanted one.
    fn running_reason(&self, live: &Live) -> Reason {
        if self.is_rolled_back {
            return Reason::ROLLED_BACK;
        }
        match (&self.goal, self.fetch) {
            (Some(goal), Fetch::Failed { reason, .. }) if goal.print != live.print => reason,
            (Some(goal), Fetch::Absent) if goal.print != live.print => Reason::WAITS_FOR_FRESH,
            (Some(goal), _) if goal.print != live.print => self.waits,
            _ => Reason::NONE,
        }
    }
}
