//! The firmware of this board: takes an offer of the hub's into the other slot, lets boot code swap both, and confirms what it runs in.
//!
//! What was begun is in the journal before the reset, so that the image which runs afterwards, the new one or the old one again, can
//! say what became of it. A new image confirms itself when it has heard the hub, or has run well for as long as the offer said; until then
//! the watchdog is fed for a bounded time alone. Must never mark an image that it did not verify, nor touch the other slot while it
//! holds the way back.
use super::limits::{FIRMWARE_BYTES, FIRMWARE_REPEAT, MARKED_PAUSE, TRIAL_DEFAULT, TRIAL_GRACE};
use super::port::{Key, Store, StoreError, Updates};
use crate::machine::Agent as Machine;
use crate::machine::port::FetchFailure;
use crate::machine::port::{Content, LinkState};
use crate::machine::time::{Duration, Instant, earliest};
use crate::transfer::{Step, Transfer};
use serde::{Deserialize, Serialize};
use wire::Digest;
use wire::Session;
use wire::codec::{Writer, decode};
use wire::firmware::{Firmware as Report, Obstacle, Offer, Phase, Statement};
use wire::hello::ResetCause;
use wire::transfer::{Chunk, Want};

/// Of the stored value. A changed field is a new format.
const FORMAT: u8 = 1;

/// An image that boot code was told to swap in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pending {
    version: u32,
    trial_s: u16,
}

/// What is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    format: u8,
    /// The highest version that was ever confirmed here: nothing below it is taken from the hub.
    floor: u32,
    pending: Option<Pending>,
    /// What was tried last and does not run.
    failed: Option<(u32, Obstacle)>,
}

const NEW: Kept = Kept { format: FORMAT, floor: 0, pending: None, failed: None };

impl Kept {
    fn load<S: Store>(store: &mut S) -> Self {
        let mut buffer = [0; FIRMWARE_BYTES];
        let stored = store.load(Key::Firmware, &mut buffer).ok().flatten();
        let value = stored.and_then(|length| decode::<Self>(buffer.get(..length)?).ok());
        value.filter(|value| value.format == FORMAT).unwrap_or(NEW)
    }

    /// It is there, and is read back as it was written: also the self-test of the flash.
    fn save<S: Store>(&self, store: &mut S) -> bool {
        let mut buffer = [0; FIRMWARE_BYTES];
        let mut writer = Writer::new(&mut buffer);
        let written = writer.value(self).map_err(|_| StoreError::TooLong);
        written.and_then(|()| store.save(Key::Firmware, writer.written())).is_ok() && Self::load(store) == *self
    }
}

/// What is offered, once it was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    version: u32,
    bytes: u32,
    digest: Digest,
    trial_s: u16,
}

/// What the caller does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Publish this question, QoS 0.
    Ask(Want),
    /// Publish a report.
    Tell,
    /// The image was confirmed.
    Confirmed,
    /// Reset the board.
    Reset,
}

/// The state of this board's firmware.
#[derive(Debug)]
pub struct Firmware {
    /// `None`: the board takes no updates.
    running: Option<u32>,
    /// When the trial of the image that runs ends.
    trial: Option<Instant>,
    kept: Kept,
    target: Option<Target>,
    phase: Phase,
    obstacle: Obstacle,
    transfer: Option<Transfer>,
    reset_at: Option<Instant>,
    /// A report is due.
    is_news: bool,
    told: Option<(Session, Instant)>,
}

impl Firmware {
    /// At boot, before anything else that may fail.
    pub fn new<U: Updates, S: Store>(now: Instant, updates: &mut U, store: &mut S, reset: ResetCause) -> Self {
        let running = updates.running();
        let mut kept = Kept::load(store);
        let mut firmware = Self {
            running: running.map(|running| running.version),
            trial: None,
            kept,
            target: None,
            phase: Phase::Idle,
            obstacle: Obstacle::None,
            transfer: None,
            reset_at: None,
            is_news: true,
            told: None,
        };
        let Some(running) = running else { return firmware };
        let pending = kept.pending;
        if running.is_trial {
            let trial = pending.map_or(TRIAL_DEFAULT, |pending| Duration::from_secs(pending.trial_s.into()));
            firmware.trial = Some(now.after(trial));
            firmware.phase = Phase::Trial;
            return firmware;
        }
        if let Some(pending) = pending {
            kept.pending = None;
            if pending.version == running.version {
                // It was confirmed, and the power went before that was written down.
                kept.floor = kept.floor.max(running.version);
                kept.failed = None;
                firmware.phase = Phase::Done;
            } else {
                kept.failed = Some((pending.version, obstacle_of(reset)));
            }
        }
        kept.floor = if kept.floor == 0 { running.version } else { kept.floor };
        if kept != firmware.kept {
            // If it cannot be written now, the next boot says the same.
            kept.save(store);
            firmware.kept = kept;
        }
        if let Some((_, obstacle)) = kept.failed {
            (firmware.phase, firmware.obstacle) = (Phase::Failed, obstacle);
        }
        firmware
    }

    /// From then on the watchdog is not fed any more: whatever an image on trial does, it does not do it for ever.
    pub fn fed_until(&self) -> Option<Instant> {
        self.trial.map(|trial| trial.after(TRIAL_GRACE))
    }

    /// What to say of it.
    pub fn report<'a>(&self, session: Session, board: &'a str) -> Option<Report<'a>> {
        let running = self.running?;
        let tried = self.kept.failed.map_or(0, |(version, _)| version);
        let target = match self.phase {
            Phase::Idle => 0,
            Phase::Trial | Phase::Done => running,
            Phase::Fetching | Phase::Installing | Phase::Failed => self.target.map_or(tried, |target| target.version),
        };
        let done = self.transfer.as_ref().map_or(0, Transfer::done);
        Some(Report { session, board, running, target, phase: self.phase, obstacle: self.obstacle, done })
    }

    /// An offer of the hub's came, its tag checked; `is_signed` says whether the statement is the hub's.
    pub fn offered(&mut self, offer: &Offer<'_>, board: &str, is_signed: impl FnOnce(&Statement<'_>) -> bool) {
        self.is_news = true;
        let Some(running) = self.running else { return };
        let Offer { version, bytes, digest, trial_s, .. } = *offer;
        let target = Target { version, bytes, digest, trial_s };
        // What runs, what is under way or on trial is answered by the report alone.
        if version == running || self.trial.is_some() || self.reset_at.is_some() || self.transfer.is_some() {
            return;
        }
        self.target = Some(target);
        if version < running || version < self.kept.floor {
            return self.fail(Obstacle::Downgrade);
        }
        if !is_signed(&Statement { board, version, bytes, digest }) {
            return self.fail(Obstacle::Signature);
        }
        (self.phase, self.obstacle) = (Phase::Fetching, Obstacle::None);
    }

    fn fail(&mut self, obstacle: Obstacle) {
        (self.phase, self.obstacle) = (Phase::Failed, obstacle);
        self.transfer = None;
        self.is_news = true;
    }

    pub fn chunk<U: Updates>(&mut self, now: Instant, chunk: &Chunk<'_>, updates: &mut U) {
        if let Some(transfer) = &mut self.transfer {
            transfer.chunk(now, chunk, updates.sink());
        }
    }

    /// The connection is new.
    pub fn link_up(&mut self, now: Instant) {
        if let Some(transfer) = &mut self.transfer {
            transfer.link_up(now);
        }
    }

    /// When `step` has something to do.
    pub fn due(&self, link: LinkState) -> Option<Instant> {
        let is_fresh = link == LinkState::Fresh;
        let fetch = match &self.transfer {
            Some(transfer) if is_fresh => transfer.poll_timeout(),
            None if is_fresh && self.phase == Phase::Fetching => Some(Instant::ZERO),
            Some(_) | None => None,
        };
        let report = match self.told {
            _ if !is_fresh || self.running.is_none() => None,
            _ if self.is_news => Some(Instant::ZERO),
            Some((_, at)) if self.phase == Phase::Fetching => Some(at.after(FIRMWARE_REPEAT)),
            Some(_) | None => None,
        };
        [self.trial, self.reset_at, fetch, report].into_iter().fold(None, earliest)
    }

    /// The next thing to do; to be called until `None`. `may_fetch`: nothing else is being fetched.
    pub fn step<U: Updates, S: Store, const SLOTS: usize>(
        &mut self,
        now: Instant,
        random: u32,
        may_fetch: bool,
        machine: &Machine<'_, SLOTS>,
        updates: &mut U,
        store: &mut S,
    ) -> Option<Act> {
        let running = self.running?;
        if self.reset_at.is_some_and(|at| at <= now) {
            self.reset_at = None;
            return Some(Act::Reset);
        }
        let is_fresh = machine.link() == LinkState::Fresh;
        if self.trial.is_some_and(|until| is_fresh || until <= now) && self.confirm(running, updates, store) {
            return Some(Act::Confirmed);
        }
        if let Some(session) = machine.session().filter(|_| is_fresh) {
            let is_due = match self.told {
                Some((told, at)) if told == session => {
                    self.is_news || (self.phase == Phase::Fetching && at.after(FIRMWARE_REPEAT) <= now)
                }
                Some(_) | None => true,
            };
            if is_due {
                (self.is_news, self.told) = (false, Some((session, now)));
                return Some(Act::Tell);
            }
        }
        if is_fresh && may_fetch { self.fetch(now, random, updates, store) } else { None }
    }

    fn confirm<U: Updates, S: Store>(&mut self, running: u32, updates: &mut U, store: &mut S) -> bool {
        // Flash that takes nothing, and slots that cannot be marked, leave the trial as it is: the watchdog ends it.
        if !self.kept.save(store) || !updates.confirm() {
            return false;
        }
        self.kept = Kept { floor: self.kept.floor.max(running), pending: None, failed: None, ..self.kept };
        self.kept.save(store);
        self.trial = None;
        (self.phase, self.obstacle, self.is_news) = (Phase::Done, Obstacle::None, true);
        true
    }

    fn fetch<U: Updates, S: Store>(
        &mut self,
        now: Instant,
        random: u32,
        updates: &mut U,
        store: &mut S,
    ) -> Option<Act> {
        let target = self.target.filter(|_| self.phase == Phase::Fetching)?;
        if self.transfer.is_none() {
            match Transfer::begin(now, Content::Artifact, target.digest, target.bytes, updates.sink()) {
                Ok(transfer) => self.transfer = Some(transfer),
                Err(failure) => {
                    self.fail(obstacle_of_fetch(failure));
                    return None;
                }
            }
        }
        match self.transfer.as_mut()?.poll(now, random, updates.sink())? {
            Step::Ask(want) => Some(Act::Ask(want)),
            Step::Done => {
                self.transfer = None;
                self.install(now, target, updates, store);
                None
            }
            Step::Failed(failure) => {
                self.fail(obstacle_of_fetch(failure));
                None
            }
        }
    }

    /// The image is here: it is verified where it lies, written down, and marked.
    fn install<U: Updates, S: Store>(&mut self, now: Instant, target: Target, updates: &mut U, store: &mut S) {
        let image = updates.fetched();
        if image.is_none_or(|image| image != (target.version, target.digest)) {
            return self.fail(Obstacle::Content);
        }
        let pending = Some(Pending { version: target.version, trial_s: target.trial_s });
        let kept = Kept { pending, failed: None, ..self.kept };
        if !kept.save(store) || !updates.mark() {
            return self.fail(Obstacle::Flash);
        }
        self.kept = kept;
        (self.phase, self.is_news) = (Phase::Installing, true);
        // Time for the report to leave.
        self.reset_at = Some(now.after(MARKED_PAUSE));
    }
}

/// Why an image that was marked does not run, from how its run ended.
fn obstacle_of(reset: ResetCause) -> Obstacle {
    match reset {
        ResetCause::Panic => Obstacle::Panic,
        ResetCause::Watchdog => Obstacle::Watchdog,
        // The reset that was to start it: boot code went on with the old one.
        ResetCause::Software => Obstacle::NotStarted,
        ResetCause::PowerOn
        | ResetCause::BrownOut
        | ResetCause::Pin
        | ResetCause::Unknown
        | ResetCause::ProcessStart => Obstacle::Interrupted,
    }
}

fn obstacle_of_fetch(failure: FetchFailure) -> Obstacle {
    match failure {
        FetchFailure::NoSpace => Obstacle::NoSpace,
        FetchFailure::HashMismatch => Obstacle::Content,
        FetchFailure::Unreachable | FetchFailure::Absent => Obstacle::Unreachable,
    }
}

#[cfg(test)]
mod tests;
