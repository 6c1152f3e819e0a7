//! What survives a reset besides the sets: versions under trial, and crashes of the agent itself.
//!
//! Only crashes count against a version: three brown-outs must not roll a healthy one back. A loop of crashes stops writing once
//! its count is at the limit.
use super::Agent;
use super::port::{JournalKey, Restored};
use super::set::{Print, SetBuffer};
use super::slot::{ATTEMPTS_MAX, HEALTHY_AFTER, Rest, Trial};
use super::time::Instant;
use wire::WorkloadId;
use wire::codec::{Reader, WireError, Writer};
use wire::event::Level;
use wire::hello::ResetCause;
use wire::record::Role;

/// Crashes in a row after which components start one by one and suspects stay out.
pub const CRASHES_MAX: u8 = 3;
/// Bytes of one entry of the attempts record: ids 6, print 16, failures and flags 2; rounded up.
pub(crate) const ATTEMPT_BYTES: usize = 28;
const FORMAT: u8 = 1;
const IS_OPEN: u8 = 1;
const IS_GIVEN_UP: u8 = 2;
const IS_COMPLETED: u8 = 4;

/// Workload, component, version, failures, flags.
type Entry = (WorkloadId, u8, Print, u8, u8);

/// Reads until the end or the first thing that is no entry.
struct Entries<'a>(Reader<'a>);

impl Iterator for Entries<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        self.0.take().ok()
    }
}

impl<const SLOTS: usize> Agent<'_, SLOTS> {
    /// Takes up what the journal held. Total: rotten values count as absent.
    pub(crate) fn restore(&mut self, now: Instant, restored: &Restored<'_>) {
        load(&mut self.current, restored.accepted, self.config.capabilities.records);
        load(&mut self.last_good, restored.last_good, self.config.capabilities.records);
        let has_crashed = match self.config.reset {
            ResetCause::Watchdog | ResetCause::Panic => true,
            ResetCause::Unknown
            | ResetCause::PowerOn
            | ResetCause::BrownOut
            | ResetCause::Software
            | ResetCause::Pin
            | ResetCause::ProcessStart => false,
        };
        self.crashes = restored.boot.and_then(read_boot).unwrap_or(0).min(CRASHES_MAX);
        if has_crashed && self.crashes < CRASHES_MAX {
            self.crashes += 1;
            self.keep.change(JournalKey::Boot);
        }
        if let Some(value) = restored.alarms {
            self.telemetry.restore(value);
        }
        self.is_careful = self.crashes >= CRASHES_MAX;
        self.assign();
        if let Some(value) = restored.attempts {
            self.restore_trials(now, value, has_crashed);
            self.assign();
        }
        if self.is_careful {
            self.note(
                now,
                Level::Error,
                format_args!("the agent crashed {CRASHES_MAX} times: components start one by one, suspects stay out"),
            );
        }
    }

    fn restore_trials(&mut self, now: Instant, value: &[u8], has_crashed: bool) {
        let mut reader = Reader::new(value);
        if reader.byte() != Ok(FORMAT) {
            return;
        }
        // Whoever was alone under trial is to blame; several are not, but start one by one until it is known who is.
        let mut entries = Entries(reader);
        let is_alone = entries.by_ref().filter(|entry| entry.4 & IS_OPEN != 0).take(2).count() == 1;
        self.is_careful |= has_crashed && !is_alone && Entries(reader).any(|entry| entry.4 & IS_OPEN != 0);
        let is_convicting = has_crashed && is_alone;
        for (workload, component, print, failures, flags) in Entries(reader) {
            let found = self.slots.iter_mut().find(|slot| slot.key() == (workload, component));
            let Some(slot) = found.filter(|slot| slot.trial.print == print) else { continue };
            let was_open = flags & IS_OPEN != 0;
            let failures = failures.saturating_add(u8::from(was_open && is_convicting));
            let is_blamed = was_open && is_convicting && (failures >= ATTEMPTS_MAX || self.is_careful);
            let is_completed = flags & IS_COMPLETED != 0 && slot.goal.is_some_and(|goal| goal.role == Role::Job);
            slot.trial = Trial {
                print,
                failures,
                is_open: false,
                is_given_up: flags & IS_GIVEN_UP != 0 || is_blamed,
                is_completed,
                epoch: 0,
            };
            slot.streak.in_window = failures;
            slot.streak.window_start = now;
            if is_completed {
                slot.rest = Rest::Completed { since: now };
            }
            if was_open && has_crashed {
                slot.trial.epoch = self.keep.change(JournalKey::Attempts);
            }
        }
    }

    /// A long enough run forgives the crashes before it.
    pub(crate) fn poll_crashes(&mut self, now: Instant) {
        if self.crashes > 0 && now.since(self.started_at) >= HEALTHY_AFTER {
            self.crashes = 0;
            self.is_careful = false;
            self.keep.change(JournalKey::Boot);
        }
    }

    pub(crate) fn crashes_deadline(&self) -> Option<Instant> {
        (self.crashes > 0).then(|| self.started_at.after(HEALTHY_AFTER))
    }

    pub(crate) fn write_attempts(&mut self) -> Result<usize, WireError> {
        let mut writer = Writer::new(self.outgoing);
        writer.bytes(&[FORMAT])?;
        for slot in self.slots.iter().filter(|slot| !slot.trial.is_empty()) {
            let trial = &slot.trial;
            let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
            let flags = flag(trial.is_open, IS_OPEN)
                | flag(trial.is_given_up, IS_GIVEN_UP)
                | flag(trial.is_completed, IS_COMPLETED);
            let entry: Entry = (slot.workload, slot.component, trial.print, trial.failures, flags);
            writer.value(&entry)?;
        }
        Ok(writer.len())
    }

    pub(crate) fn write_boot(&mut self) -> Result<usize, WireError> {
        let mut writer = Writer::new(self.outgoing);
        writer.bytes(&[FORMAT, self.crashes])?;
        Ok(writer.len())
    }
}

fn load(set: &mut SetBuffer<'_>, value: Option<&[u8]>, records_max: u16) {
    let fits = value.is_some_and(|value| set.load(value).is_ok_and(|records| records <= usize::from(records_max)));
    if !fits {
        set.clear();
    }
}

fn read_boot(value: &[u8]) -> Option<u8> {
    match value {
        [FORMAT, crashes] => Some(*crashes),
        _ => None,
    }
}
