//! From goals to steps: looks at one slot and says what to do next, if anything.
//!
//! At most one step is in flight per slot, each with a deadline. Nothing starts that is not durable: goals come only from a set
//! that was persisted, and a version that is not proven starts only after its attempt was.
use super::port::{Content, JournalKey, LaunchId, Source, Trigger};
use super::slot::{
    ACTIVATION_DEADLINE, FETCH_DEADLINE, Fetch, From, Goal, HEALTHY_AFTER, Live, Rest, SETTLED_AFTER, START_DEADLINE,
    STOP_MARGIN, Slot, Stage, StandIn, Streak,
};
use super::time::{Duration, Instant, earliest};
use super::{Agent, Todo};
use wire::WorkloadId;
use wire::clause::Clause;
use wire::record::{Record, Role};
use wire::status::Reason;

/// Distinct artifacts that are fetched at the same time.
pub const FETCHES_IN_FLIGHT_MAX: usize = 4;

/// A deadline that is noticed so long after it was not watched: the process stood still, and so did whoever was to answer.
pub const LATE: Duration = Duration::from_secs(5);

fn was_asleep(deadline: Instant, now: Instant) -> bool {
    now >= deadline.after(LATE)
}

impl<const SLOTS: usize> Agent<'_, SLOTS> {
    pub(crate) fn poll_slots(&mut self, now: Instant) -> Option<Todo> {
        (0..self.slots.len()).find_map(|at| self.poll_slot(at, now))
    }

    fn poll_slot(&mut self, at: usize, now: Instant) -> Option<Todo> {
        self.prove(at, now);
        if let Some(todo) = self.poll_live(at, now) {
            return Some(todo);
        }
        if self.is_shutting_down {
            return None;
        }
        let slot = self.slots.get_mut(at)?;
        match slot.rest {
            Rest::BackOff { until } | Rest::Failed { until } if until <= now => {
                slot.rest = Rest::Ready;
                self.report.changed();
            }
            Rest::BackOff { .. } | Rest::Failed { .. } | Rest::Ready | Rest::Completed { .. } => {}
        }
        if let Some(todo) = self.poll_fetch(at, now) {
            return Some(todo);
        }
        if self.slots.get(at)?.live.is_some() {
            return None;
        }
        if self.is_ready(at, now) {
            let goal = self.slots.get(at)?.goal?;
            return self.start(at, now, &goal);
        }
        self.poll_stand_in(at, now)
    }

    /// Better the last good version than none. Services only, and only those that wait for no other component.
    fn poll_stand_in(&mut self, at: usize, now: Instant) -> Option<Todo> {
        let slot = self.slots.get(at)?;
        let goal = slot.goal?;
        if slot.rest != Rest::Ready
            || !self.is_workload_missing(slot.workload)
            || goal.from == From::LastGood
            || !goal.is_new
        {
            return None;
        }
        let (offset, print) = slot.good?;
        let is_overdue =
            |stand_in: &StandIn| matches!(stand_in.fetch, Fetch::Asked { deadline, .. } if deadline <= now);
        let Some(stand_in) = slot.stand_in.filter(|stand_in| !is_overdue(stand_in)) else {
            let record = self.last_good.record_at(offset)?;
            let goal = Goal::of(&record, From::LastGood, offset, print, false);
            let fetch = Fetch::Asked { deadline: now.after(FETCH_DEADLINE), source: Source::Store, is_mine: true };
            let (digest, bytes) = (goal.artifact, goal.artifact_bytes);
            self.slots.get_mut(at)?.stand_in = Some(StandIn { goal, fetch });
            return Some(Todo::Fetch { content: Content::Artifact, digest, bytes, source: Source::Store });
        };
        let can_stand_in = stand_in.goal.role == Role::Service && !stand_in.goal.waits_for_others;
        let is_present = stand_in.fetch == Fetch::Present && stand_in.goal.print == print;
        let may_run = is_present && self.hindrance(slot.workload, &stand_in.goal.limits, now).is_none();
        if can_stand_in && may_run { self.start(at, now, &stand_in.goal) } else { None }
    }

    /// What has to be done about what runs.
    fn poll_live(&mut self, at: usize, now: Instant) -> Option<Todo> {
        let slot = self.slots.get(at)?;
        let (live, goal) = (slot.live?, slot.goal);
        match live.stage {
            Stage::Starting { deadline } if was_asleep(deadline, now) => self.wait_again(at, now),
            Stage::Starting { deadline } if deadline <= now => {
                self.give_up_waiting(live.launch, at, now, "start gave no answer in time")
            }
            Stage::Stopping { deadline } if deadline <= now => self.stop(at, now),
            Stage::Starting { .. } => self.poll_terms(at, now),
            Stage::Stopping { .. } => None,
            Stage::Running { .. } if self.is_shutting_down => self.stop(at, now),
            Stage::Running { activation, .. } => match goal {
                None => self.stop(at, now),
                Some(goal) if goal.print != live.print && self.is_ready(at, now) => self.stop(at, now),
                Some(_) if activation.is_some_and(|deadline| was_asleep(deadline, now)) => self.wait_again(at, now),
                Some(_) if activation.is_some_and(|deadline| deadline <= now) => {
                    self.give_up_waiting(live.launch, at, now, "an activation gave no answer in time")
                }
                Some(_) => self.poll_terms(at, now).or_else(|| self.poll_timer(at, now)),
            },
        }
    }

    /// Tells the shell when the terms of what runs have changed.
    fn poll_terms(&mut self, at: usize, now: Instant) -> Option<Todo> {
        let slot = self.slots.get(at)?;
        let live = slot.live?;
        let terms = self.terms_of(slot.workload, &live.limits, now).filter(|terms| *terms != live.told)?;
        self.slots.get_mut(at)?.live.as_mut()?.told = terms;
        self.report.changed();
        Some(Todo::Extend { launch: live.launch, terms })
    }

    /// What must not go on is ended before anything else is begun.
    pub(crate) fn poll_ends(&mut self, now: Instant) -> Option<Todo> {
        if !self.has_terms {
            return None;
        }
        (0..self.slots.len()).find_map(|at| {
            let slot = self.slots.get(at)?;
            if matches!(slot.live?.stage, Stage::Stopping { .. }) {
                return None;
            }
            let reason = self.must_end(slot, now)?;
            self.slots.get_mut(at)?.explain(reason, "");
            self.stop(at, now)
        })
    }

    /// The answer may come now: as much time as when it was asked for.
    fn wait_again(&mut self, at: usize, now: Instant) -> Option<Todo> {
        match &mut self.slots.get_mut(at)?.live.as_mut()?.stage {
            Stage::Starting { deadline } => *deadline = now.after(START_DEADLINE),
            Stage::Running { activation, .. } => *activation = Some(now.after(ACTIVATION_DEADLINE)),
            Stage::Stopping { .. } => {}
        }
        None
    }

    fn give_up_waiting(&mut self, launch: LaunchId, at: usize, now: Instant, detail: &str) -> Option<Todo> {
        self.failed(at, now, Reason::START_TIMED_OUT, detail);
        // Giving a version up assigns anew, which may move slots.
        self.stop(self.slot_of(launch)?, now)
    }

    fn poll_timer(&mut self, at: usize, now: Instant) -> Option<Todo> {
        let live = self.slots.get_mut(at)?.live.as_mut()?;
        let (Some(period), Stage::Running { timer_at, activation, .. }) = (live.every, &mut live.stage) else {
            return None;
        };
        if *timer_at > now {
            return None;
        }
        // Periods that passed unseen are skipped, not made up for.
        *timer_at = timer_at.after(period);
        if *timer_at <= now {
            *timer_at = now.after(period);
        }
        if activation.is_some() {
            return None;
        }
        *activation = Some(now.after(ACTIVATION_DEADLINE));
        Some(Todo::Activate { launch: live.launch, trigger: Trigger::Timer })
    }

    fn stop(&mut self, at: usize, now: Instant) -> Option<Todo> {
        let live = self.slots.get_mut(at)?.live.as_mut()?;
        let grace = live.told.until().map_or(live.grace, |until| live.grace.min(until.since(now)));
        live.stage = Stage::Stopping { deadline: now.after(grace).after(STOP_MARGIN) };
        self.report.changed();
        Some(Todo::Stop { launch: live.launch, grace })
    }

    fn start(&mut self, at: usize, now: Instant, goal: &Goal) -> Option<Todo> {
        let launch = LaunchId(self.next_launch);
        let workload = self.slots.get(at)?.workload;
        let terms = self.terms_of(workload, &goal.limits, now)?;
        let slot = self.slots.get_mut(at)?;
        self.next_launch = self.next_launch.wrapping_add(1);
        if slot.has_started {
            slot.restarts = slot.restarts.saturating_add(1);
        }
        slot.has_started = true;
        if matches!(slot.reason, Reason::LEASE_EXPIRED | Reason::STALE) {
            slot.explain(Reason::NONE, "");
        }
        slot.waits = Reason::NONE;
        slot.stand_in = None;
        slot.live = Some(Live {
            launch,
            print: goal.print,
            generation: goal.generation,
            role: goal.role,
            artifact: goal.artifact,
            every: goal.every,
            grace: goal.grace,
            limits: goal.limits,
            told: terms,
            stage: Stage::Starting { deadline: now.after(START_DEADLINE) },
        });
        self.report.changed();
        Some(Todo::Start { launch, from: goal.from, offset: goal.offset, terms })
    }

    /// Asks for the artifact of a goal that does not run yet.
    fn poll_fetch(&mut self, at: usize, now: Instant) -> Option<Todo> {
        let may_download = self.session.is_fresh_this_boot();
        let slot = self.slots.get(at)?;
        let goal = slot.goal?;
        if slot.live.is_some_and(|live| live.print == goal.print) || matches!(slot.rest, Rest::Completed { .. }) {
            return None;
        }
        let is_due = match slot.fetch {
            Fetch::Unknown => true,
            Fetch::Asked { deadline, .. } => deadline <= now,
            Fetch::Failed { until, .. } => until <= now,
            Fetch::Absent => may_download || goal.is_unconfirmed_allowed,
            Fetch::Present => false,
        };
        if !is_due {
            return None;
        }
        let source = if may_download || goal.is_unconfirmed_allowed { Source::Anywhere } else { Source::Store };
        let in_flight =
            |slot: &&Slot| matches!(slot.fetch, Fetch::Asked { is_mine: true, deadline, .. } if deadline > now);
        let others = self.slots.iter().filter(in_flight);
        let shared = others.clone().find_map(|slot| match (slot.goal, slot.fetch) {
            (Some(other), Fetch::Asked { deadline, source, .. }) if other.artifact == goal.artifact => {
                Some(Fetch::Asked { deadline, source, is_mine: false })
            }
            _ => None,
        });
        let has_room = others.count() < FETCHES_IN_FLIGHT_MAX;
        let slot = self.slots.get_mut(at)?;
        if let Some(shared) = shared {
            slot.fetch = shared;
            return None;
        }
        if !has_room {
            // Asked again when a fetch in flight ends.
            slot.fetch = Fetch::Unknown;
            return None;
        }
        slot.fetch = Fetch::Asked { deadline: now.after(FETCH_DEADLINE), source, is_mine: true };
        self.report.changed();
        Some(Todo::Fetch { content: Content::Artifact, digest: goal.artifact, bytes: goal.artifact_bytes, source })
    }

    /// Everything that a start needs is there and durable.
    fn is_ready(&mut self, at: usize, now: Instant) -> bool {
        let Some(slot) = self.slots.get(at) else { return false };
        let Some(goal) = slot.goal else { return false };
        if slot.rest != Rest::Ready || slot.fetch != Fetch::Present {
            return false;
        }
        let waits = !self.others_are_ready(slot, &goal)
            || !self.is_workload_here(slot, &goal)
            || (self.is_careful && self.is_anyone_unsettled(at));
        let hindrance = self.hindrance(slot.workload, &goal.limits, now).filter(|_| !waits);
        let reason = if waits { Reason::WAITS_FOR_COMPONENT } else { hindrance.unwrap_or(Reason::NONE) };
        if let Some(slot) = self.slots.get_mut(at)
            && slot.waits != reason
        {
            slot.waits = reason;
            self.report.changed();
        }
        !waits && hindrance.is_none() && self.is_attempt_durable(at, &goal)
    }

    /// A workload switches as a whole: no component starts a new version before the artifacts of all of them are here.
    /// One that has started already may start again.
    fn is_workload_here(&self, slot: &Slot, goal: &Goal) -> bool {
        let has_started = slot.trial.is_open || slot.trial.failures > 0;
        !goal.is_new || has_started || self.awaited_by(slot.workload).all(|fetch| fetch == Fetch::Present)
    }

    /// An artifact of this workload cannot be had now.
    fn is_workload_missing(&self, workload: WorkloadId) -> bool {
        self.awaited_by(workload).any(|fetch| matches!(fetch, Fetch::Absent | Fetch::Failed { .. }))
    }

    /// How far the artifacts are of what a workload is still to start.
    fn awaited_by(&self, workload: WorkloadId) -> impl Iterator<Item = Fetch> {
        let of_workload = self.slots.iter().filter(move |slot| slot.workload == workload && slot.is_listed);
        of_workload.filter(|slot| slot.is_to_start()).map(|slot| slot.fetch)
    }

    fn is_attempt_durable(&mut self, at: usize, goal: &Goal) -> bool {
        if goal.from == From::LastGood || (!goal.is_new && !self.is_careful) {
            return true;
        }
        let Some(slot) = self.slots.get_mut(at) else { return false };
        if !slot.trial.is_open {
            slot.trial.is_open = true;
            slot.trial.epoch = self.keep.change(JournalKey::Attempts);
        }
        self.keep.is_durable(JournalKey::Attempts, slot.trial.epoch)
    }

    /// After a series of crashes of the agent, components start one by one, so that the culprit is known.
    fn is_anyone_unsettled(&self, except: usize) -> bool {
        self.slots.iter().enumerate().any(|(at, slot)| {
            at != except
                && (slot.trial.is_open || matches!(slot.live, Some(Live { stage: Stage::Starting { .. }, .. })))
        })
    }

    fn others_are_ready(&self, slot: &Slot, goal: &Goal) -> bool {
        if !goal.waits_for_others {
            return true;
        }
        let Some(record) = self.record_of(goal.from, goal.offset) else { return false };
        let mut after = record.clauses.iter().filter_map(|stated| match stated.clause {
            Clause::After(components) => Some(components),
            _ => None,
        });
        after.all(|components| components.iter().all(|&component| self.is_component_ready(slot, component)))
    }

    fn is_component_ready(&self, of: &Slot, component: u8) -> bool {
        let other = self.slots.iter().find(|slot| slot.key() == (of.workload, component) && slot.is_listed);
        let Some(other) = other else { return false };
        match other.goal.map(|goal| goal.role) {
            Some(Role::Service) => other.running_goal_since().is_some(),
            Some(Role::Init | Role::Job) => matches!(other.rest, Rest::Completed { .. }) && other.live.is_none(),
            None => false,
        }
    }

    pub(crate) fn record_of(&self, from: From, offset: u32) -> Option<Record<'_>> {
        match from {
            From::Current => self.current.record_at(offset),
            From::LastGood => self.last_good.record_at(offset),
        }
    }

    /// A long enough run forgets failures and closes the attempt.
    fn prove(&mut self, at: usize, now: Instant) {
        let proven_after = if self.is_careful { SETTLED_AFTER } else { HEALTHY_AFTER };
        let Some(slot) = self.slots.get_mut(at) else { return };
        let Some(since) = slot.running_goal_since() else { return };
        let run = now.since(since);
        if run >= HEALTHY_AFTER && (slot.streak.consecutive > 0 || slot.streak.is_exhausted) {
            slot.streak = Streak::default();
            slot.reason = Reason::NONE;
            slot.detail.clear();
            self.report.changed();
        }
        if run >= proven_after && !slot.is_rolled_back && (slot.trial.is_open || slot.trial.failures > 0) {
            slot.trial.is_open = false;
            slot.trial.failures = 0;
            slot.trial.epoch = self.keep.change(JournalKey::Attempts);
        }
    }

    pub(crate) fn slots_deadline(&self) -> Option<Instant> {
        self.slots.iter().fold(None, |first, slot| earliest(first, self.slot_deadline(slot)))
    }

    fn slot_deadline(&self, slot: &Slot) -> Option<Instant> {
        let live = slot.live.and_then(|live| match live.stage {
            Stage::Starting { deadline } | Stage::Stopping { deadline } => Some(deadline),
            Stage::Running { since, timer_at, activation } => {
                let timer = live.every.map(|_| timer_at);
                let has_failed = slot.streak.consecutive > 0 || slot.streak.is_exhausted;
                let is_goal = slot.running_goal_since().is_some();
                let is_open = is_goal && !slot.is_rolled_back && (slot.trial.is_open || slot.trial.failures > 0);
                let proven_after = if self.is_careful { SETTLED_AFTER } else { HEALTHY_AFTER };
                let forgets = (is_goal && has_failed).then(|| since.after(HEALTHY_AFTER));
                let proves = is_open.then(|| since.after(proven_after));
                earliest(earliest(timer, activation), earliest(forgets, proves))
            }
        });
        let live = earliest(live, self.terms_deadline(slot));
        if self.is_shutting_down {
            return live;
        }
        let stand_in = match slot.stand_in {
            Some(StandIn { fetch: Fetch::Asked { deadline, .. }, .. })
                if slot.live.is_none() && slot.rest == Rest::Ready && self.is_workload_missing(slot.workload) =>
            {
                Some(deadline)
            }
            _ => None,
        };
        let rest = match slot.rest {
            Rest::BackOff { until } | Rest::Failed { until } => Some(until),
            Rest::Ready | Rest::Completed { .. } => None,
        };
        let needs_artifact = slot.goal.is_some_and(|goal| slot.live.is_none_or(|live| live.print != goal.print));
        let fetch = match slot.fetch {
            Fetch::Asked { deadline, .. } if needs_artifact => Some(deadline),
            Fetch::Failed { until, .. } if needs_artifact => Some(until),
            Fetch::Asked { .. } | Fetch::Failed { .. } | Fetch::Unknown | Fetch::Present | Fetch::Absent => None,
        };
        earliest(earliest(live, stand_in), earliest(rest, fetch))
    }
}
