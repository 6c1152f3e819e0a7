//! What runtimes and fetches answer, and what follows: the count of failures, back-off, roll-back, completion.
//!
//! An answer about a launch that is not the one in flight changes nothing.
use super::Agent;
use super::port::{Exit, Failure, FetchFailure, JournalKey, LaunchId, Source};
use super::slot::{Fetch, Live, Rest, SLOW_RETRY, Stage};
use super::time::Instant;
use wire::Digest;
use wire::event::Level;
use wire::record::Role;
use wire::status::Reason;

/// How a launch came to its end.
#[derive(Clone, Copy)]
pub(crate) enum End {
    Stopped,
    StartFailed(Failure),
    Exited(Exit),
}

impl<const SLOTS: usize> Agent<'_, SLOTS> {
    pub(crate) fn slot_of(&self, launch: LaunchId) -> Option<usize> {
        self.slots.iter().position(|slot| slot.live.is_some_and(|live| live.launch == launch))
    }

    pub(crate) fn started(&mut self, now: Instant, launch: LaunchId) {
        let Some(live) = self.slot_of(launch).and_then(|at| self.slots.get_mut(at)?.live.as_mut()) else { return };
        match live.stage {
            Stage::Starting { .. } => {
                let timer_at = live.every.map_or(now, |period| now.after(period));
                live.stage = Stage::Running { since: now, timer_at, activation: None };
                self.report.changed();
            }
            Stage::Running { .. } | Stage::Stopping { .. } => {}
        }
    }

    pub(crate) fn activated(&mut self, launch: LaunchId) {
        let Some(live) = self.slot_of(launch).and_then(|at| self.slots.get_mut(at)?.live.as_mut()) else { return };
        if let Stage::Running { activation, .. } = &mut live.stage {
            *activation = None;
        }
    }

    pub(crate) fn ended(&mut self, now: Instant, launch: LaunchId, end: End, detail: &str) {
        let Some(at) = self.slot_of(launch) else { return };
        let Some(live) = self.slots.get(at).and_then(|slot| slot.live) else { return };
        // A shell cuts what has come to the end of its terms without being asked.
        let had_to_end = self.slots.get(at).and_then(|slot| self.must_end(slot, now));
        match (live.stage, had_to_end) {
            // What led to the stop was counted then.
            (Stage::Stopping { .. }, _) => {}
            (Stage::Starting { .. } | Stage::Running { .. }, Some(reason)) => {
                if let Some(slot) = self.slots.get_mut(at) {
                    slot.explain(reason, "");
                }
            }
            (Stage::Starting { .. } | Stage::Running { .. }, None) => match (end, live.role) {
                (End::Exited(Exit::Completed), Role::Init | Role::Job) => self.completed(at, now, &live),
                (End::Exited(Exit::Completed), Role::Service) | (End::Stopped, _) => {
                    self.failed(at, now, Reason::EXITED, detail);
                }
                (End::StartFailed(failure) | End::Exited(Exit::Failed(failure)), _) => {
                    self.failed(at, now, failure.reason(), detail);
                }
            },
        }
        // Giving a version up assigns anew, which may move slots.
        if let Some(slot) = self.slot_of(launch).and_then(|at| self.slots.get_mut(at)) {
            slot.live = None;
            if matches!(end, End::StartFailed(_)) {
                // What was there may be gone or rotten: the store looks again.
                slot.fetch = Fetch::Unknown;
            }
            if !slot.is_listed || self.has_unassigned {
                self.assign();
            }
        }
        self.collect_at = Some(now);
        self.report.changed();
    }

    fn completed(&mut self, at: usize, now: Instant, live: &Live) {
        let Some(slot) = self.slots.get_mut(at) else { return };
        if slot.goal.is_none_or(|goal| goal.print != live.print) {
            return;
        }
        slot.rest = Rest::Completed { since: now };
        slot.streak = Default::default();
        slot.explain(Reason::NONE, "");
        if slot.is_rolled_back {
            return;
        }
        let is_job = live.role == Role::Job;
        if slot.trial.is_open || is_job {
            slot.trial.is_open = false;
            slot.trial.failures = 0;
            slot.trial.is_completed = is_job;
            slot.trial.epoch = self.keep.change(JournalKey::Attempts);
        }
    }

    /// Counts a failure of the running version and decides what comes next. The caller ends the launch.
    pub(crate) fn failed(&mut self, at: usize, now: Instant, reason: Reason, detail: &str) {
        let Some(slot) = self.slots.get_mut(at) else { return };
        slot.explain(reason, detail);
        let (Some(goal), Some(live)) = (slot.goal, slot.live) else { return };
        if goal.print != live.print {
            // An older version: it may come back as a stand-in, but not at once and not for ever.
            slot.streak.consecutive = slot.streak.consecutive.saturating_add(1);
            slot.back_off(now, &mut self.config.random);
            return;
        }
        if now.since(slot.streak.window_start) > goal.window {
            slot.streak.in_window = 0;
        }
        if slot.streak.in_window == 0 {
            slot.streak.window_start = now;
        }
        slot.streak.in_window = slot.streak.in_window.saturating_add(1);
        slot.streak.consecutive = slot.streak.consecutive.saturating_add(1);
        if !slot.is_rolled_back {
            slot.trial.is_open = false;
            slot.trial.failures = slot.streak.in_window;
        }
        let (workload, component) = slot.key();
        let is_bad = slot.streak.in_window >= goal.attempts_max || slot.streak.is_exhausted;
        if !is_bad {
            slot.back_off(now, &mut self.config.random);
            return;
        }
        slot.streak.is_exhausted = true;
        slot.rest = Rest::Failed { until: now.after(SLOW_RETRY) };
        if goal.is_new && self.can_roll_back(workload, at) {
            if let Some(slot) = self.slots.get_mut(at) {
                slot.trial.is_given_up = true;
                slot.trial.epoch = self.keep.change(JournalKey::Attempts);
            }
            self.note(
                now,
                Level::Error,
                format_args!("workload {}: component {component} rolled back after failures", workload.0),
            );
            self.assign();
        }
    }

    pub(crate) fn fetched(&mut self, digest: &Digest) {
        for slot in &mut self.slots {
            if let Some(stand_in) = slot.stand_in.as_mut().filter(|stand_in| stand_in.goal.artifact == *digest) {
                stand_in.fetch = Fetch::Present;
            }
            if slot.goal.is_some_and(|goal| goal.artifact == *digest) && slot.fetch != Fetch::Present {
                slot.fetch = Fetch::Present;
                slot.fetch_tries = 0;
                self.report.changed();
            }
        }
    }

    pub(crate) fn fetch_failed(&mut self, now: Instant, digest: &Digest, failure: FetchFailure) {
        for slot in &mut self.slots {
            if let Some(stand_in) = slot.stand_in.as_mut().filter(|stand_in| stand_in.goal.artifact == *digest) {
                stand_in.fetch = Fetch::Absent;
            }
            let Some(goal) = slot.goal else { continue };
            let Fetch::Asked { source, .. } = slot.fetch else { continue };
            if goal.artifact != *digest {
                continue;
            }
            match failure {
                FetchFailure::Absent if source == Source::Store => slot.fetch = Fetch::Absent,
                FetchFailure::Absent | FetchFailure::Unreachable => {
                    slot.fetch_failed(now, Reason::FETCH_FAILED, &mut self.config.random)
                }
                FetchFailure::HashMismatch => slot.fetch_failed(now, Reason::HASH_MISMATCH, &mut self.config.random),
                FetchFailure::NoSpace => slot.fetch_failed(now, Reason::NO_SPACE, &mut self.config.random),
            }
            self.report.changed();
        }
    }
}
