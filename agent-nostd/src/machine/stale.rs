//! How long the hub has not been heard, over resets; and what follows for work that is to stop or to do less then.
//!
//! Within a boot that is measured from when the answered Hello was sent. Over resets it is bounded from above: before time is used,
//! the journal says that it may have been used. So a device that starts again and again never gets more than what was allowed.
use super::Agent;
use super::lease::STOP_BEFORE;
use super::port::{JournalKey, Terms};
use super::slot::{Goal, Live, Slot, Stage};
use super::time::{Duration, Instant, earliest, millis};
use core::num::NonZeroU32;
use wire::WorkloadId;
use wire::codec::{Reader, WireError, Writer};
use wire::event::Level;
use wire::hello::Fresh;
use wire::lease::{DRIFT_PPM_MAX, RENEWALS_PER_LEASE, hold_ms};
use wire::status::Reason;

/// The journal is written so often while the time of some work runs down.
pub const STEPS: u32 = 8;
/// The next step is written when this part of one is left: flash may be slow.
const STEPS_LEFT: u32 = 4;
/// Never more often than this.
pub const STEP_MIN: Duration = Duration::from_secs(1);
/// Right after the hub was heard so many steps are written down at once: until the next Fresh, a quarter of the time later,
/// nothing has to be written then.
pub const STEPS_AHEAD: u32 = 3;
/// The wall time that is kept over resets may be so old: flash wears.
pub const FLOOR_EVERY: Duration = Duration::from_secs(3600);
/// A hub whose time is off by so much from what the device expects is worth a line.
pub const JUMP: Duration = Duration::from_secs(300);
/// While nothing runs down nobody counts, and so any time may have passed before the next boot.
const UNCOUNTED: Duration = Duration::from_millis(u64::MAX);
const FORMAT: u8 = 1;

/// What is kept over resets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// Time without the hub that may have passed before this boot; `None`: not known, so it may be anything.
    before: Option<Duration>,
    /// The bound as it is in memory; durable with `epoch`.
    covered: Duration,
    epoch: u32,
    /// As of the last write that is durable; it counts until the next one is.
    durable: Duration,
    /// How far ahead of the time that is used the bound is kept; `None`: nothing runs down.
    step: Option<Duration>,
    /// Milliseconds since 1970 that it is at least; zero: not known.
    floor_ms: u64,
}

impl Default for Kept {
    fn default() -> Self {
        Self { before: None, covered: UNCOUNTED, epoch: 0, durable: UNCOUNTED, step: None, floor_ms: 0 }
    }
}

impl Kept {
    pub fn read(value: Option<&[u8]>) -> Self {
        let read = |value: &[u8]| {
            let mut reader = Reader::new(value);
            if reader.byte() != Ok(FORMAT) {
                return None;
            }
            reader.take::<(u64, u64)>().ok()
        };
        let Some((floor_ms, covered_ms)) = value.and_then(read) else { return Self::default() };
        let covered = Duration::from_millis(covered_ms);
        let before = Some(covered).filter(|covered| *covered != UNCOUNTED);
        Self { before, covered, durable: covered, floor_ms, ..Self::default() }
    }
}

/// Milliseconds as a record states them, in four bytes: there are several in each slot. Forty-nine days at most, which is sooner
/// than what was asked for, and never later.
type Span = Option<NonZeroU32>;

fn span(ms: u64) -> NonZeroU32 {
    NonZeroU32::new(u32::try_from(ms).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN)
}

fn duration(span: Span) -> Option<Duration> {
    span.map(|ms| Duration::from_millis(u64::from(ms.get())))
}

/// The limits of work: in time without a right, and without the hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    lease: Span,
    stop: Span,
    degrade: Span,
}

impl Limits {
    pub fn lease_of(&mut self, ms: u64) {
        self.lease = Some(span(ms));
    }

    pub fn stop_after(&mut self, ms: u64) {
        self.stop = Some(self.stop.map_or(span(ms), |other| other.min(span(ms))));
    }

    /// A newer set says for how long the version that runs may go without the hub: at once, and not only when the new version is
    /// there. The right to run is a version's own; where the newer one needs it, what held until then goes on to hold.
    pub fn follow(&mut self, newer: &Self) {
        if newer.lease.is_none() {
            (self.stop, self.degrade) = (newer.stop, newer.degrade);
        }
    }

    pub fn degrade_after(&mut self, ms: u64) {
        self.degrade = Some(span(ms));
    }

    /// Runs only under a right, of this duration.
    pub fn lease(&self) -> Option<Duration> {
        duration(self.lease)
    }

    /// It has to have stopped when the hub was not heard for so long.
    pub fn stop(&self) -> Option<Duration> {
        duration(self.stop)
    }

    /// It is told so when the hub was not heard for so long.
    pub fn degrade(&self) -> Option<Duration> {
        duration(self.degrade)
    }

    /// How often the hub is to be heard so that nothing here comes to its end by accident.
    pub fn ask_every(&self) -> Option<Duration> {
        let lease = self.lease().map(|lease| lease / RENEWALS_PER_LEASE);
        let rest = [self.stop(), self.degrade()].map(|limit| limit.map(|limit| limit / 4));
        lease.into_iter().chain(rest.into_iter().flatten()).min()
    }
}

impl<const SLOTS: usize> Agent<'_, SLOTS> {
    /// Time since the hub was last asked with success; `None`: not known, so it may be anything.
    pub fn unheard_for(&self, now: Instant) -> Option<Duration> {
        match self.session.fresh_at() {
            Some(at) => Some(now.since(at)),
            None => Some(self.kept.before? + now.since(self.started_at)),
        }
    }

    /// For local tools: under which terms a component runs; `None`: it does not.
    pub fn terms(&self, workload: WorkloadId, component: u8) -> Option<Terms> {
        let slot = self.slots.iter().find(|slot| slot.key() == (workload, component))?;
        slot.live.map(|live| live.told)
    }

    /// When the question was sent that the hub answered last in this boot.
    pub fn fresh_at(&self) -> Option<Instant> {
        self.session.fresh_at()
    }

    /// Wall time that it is at least, before the hub has told it: what the last boot knew, and the time since.
    pub fn unix_ms_floor(&self, now: Instant) -> Option<u64> {
        let slowest = 1_000_000 - u64::from(self.config.drift_ppm.min(DRIFT_PPM_MAX));
        let passed = millis(now.since(self.started_at)).saturating_mul(slowest) / 1_000_000;
        let kept = Some(self.kept.floor_ms).filter(|floor_ms| *floor_ms > 0);
        self.unix_ms(now).or_else(|| kept.map(|floor_ms| floor_ms.saturating_add(passed)))
    }

    /// The time after which work with this limit has come to its end, on a clock as wrong as this one may be.
    fn held(&self, limit: Duration) -> Duration {
        Duration::from_millis(hold_ms(millis(limit), self.config.drift_ppm, millis(self.config.stop_latency)))
    }

    /// The moment at which the hub will not have been heard for `age`.
    fn moment(&self, age: Duration) -> Option<Instant> {
        match self.session.fresh_at() {
            Some(at) => Some(at.after(age)),
            None => Some(self.started_at.after(age.saturating_sub(self.kept.before?))),
        }
    }

    /// When work with these limits must have ended. Long ago, if nobody knows for how long the hub was not heard.
    pub(crate) fn stop_by(&self, limits: &Limits) -> Option<Instant> {
        let limit = limits.stop()?;
        Some(self.moment(self.held(limit)).unwrap_or(self.started_at))
    }

    /// How far the time that is used is in the journal.
    fn covered(&self) -> Duration {
        if self.keep.is_durable(JournalKey::Clock, self.kept.epoch) { self.kept.covered } else { self.kept.durable }
    }

    /// Whether what is written down covers this moment.
    fn is_covered(&self, now: Instant) -> bool {
        self.unheard_for(now).is_some_and(|age| age < self.covered())
    }

    /// Why something must not run now. `NONE`: it only waits for the journal.
    pub(crate) fn hindrance(&self, workload: WorkloadId, limits: &Limits, now: Instant) -> Option<Reason> {
        if let Some(stop_by) = self.stop_by(limits) {
            if stop_by <= now.after(STOP_BEFORE) {
                return Some(Reason::STALE);
            }
            if !self.is_covered(now) {
                return Some(if self.keep.is_failing(JournalKey::Clock) { Reason::STALE } else { Reason::NONE });
            }
        }
        limits.lease().and_then(|_| self.without_right(workload, now))
    }

    /// Why what runs here must end now.
    pub(crate) fn must_end(&self, slot: &Slot, now: Instant) -> Option<Reason> {
        let live = slot.live.as_ref()?;
        let reason = self.hindrance(slot.workload, &live.limits, now)?;
        Some(if reason == Reason::NONE { Reason::STALE } else { reason })
    }

    /// When that will be, if nothing changes.
    fn ends_at(&self, slot: &Slot, live: &Live) -> Option<Instant> {
        let right = live.limits.lease().and_then(|_| self.right_of(slot.workload)).map(|right| right.until);
        let stop_by = self.stop_by(&live.limits);
        let uncovered = stop_by.and_then(|_| self.moment(self.covered()));
        let ends = earliest(right, stop_by).map(|at| at.before(STOP_BEFORE));
        earliest(ends, uncovered)
    }

    /// Under which terms this component runs; `None`: none that it was not told, because it has to end.
    pub(crate) fn terms_of(&self, workload: WorkloadId, limits: &Limits, now: Instant) -> Option<Terms> {
        let grant = match limits.lease() {
            Some(_) => Some(self.right_of(workload)?),
            None => None,
        };
        let is_degraded = limits.degrade().is_some_and(|after| self.unheard_for(now).is_none_or(|age| age >= after));
        Some(Terms { grant, stop_by: self.stop_by(limits), is_degraded })
    }

    /// When the terms of what runs end or change by themselves.
    pub(crate) fn terms_deadline(&self, slot: &Slot) -> Option<Instant> {
        let live = slot.live.as_ref()?;
        match live.stage {
            Stage::Stopping { .. } => None,
            Stage::Starting { .. } | Stage::Running { .. } => {
                let degrade =
                    live.limits.degrade().filter(|_| !live.told.is_degraded).and_then(|after| self.moment(after));
                earliest(self.ends_at(slot, live), degrade)
            }
        }
    }

    /// The shortest time that may still run down, of what is to run here.
    fn running_down(&self, now: Instant) -> Option<Duration> {
        let limits =
            |slot: &Slot| slot.live.map(|live| live.limits).or(slot.goal.as_ref().map(|goal: &Goal| goal.limits));
        let stops = self
            .slots
            .iter()
            .filter_map(limits)
            .filter(|limits| self.stop_by(limits).is_some_and(|stop_by| stop_by > now.after(STOP_BEFORE)));
        stops.filter_map(|limits| limits.stop()).min()
    }

    /// The bound that the journal is to hold now: a step ahead of the time that is used.
    fn wanted_cover(&self, step: Duration, now: Instant) -> Option<Duration> {
        let age = self.unheard_for(now)?;
        let covered = self.kept.covered;
        let runs_out = covered == UNCOUNTED || covered <= age + step / STEPS_LEFT;
        if self.session.is_fresh_this_boot() && age < step {
            let ahead = step * STEPS_AHEAD;
            // Heard again: what was written in silence would count against the next boot.
            return (runs_out || covered > ahead).then_some(ahead);
        }
        runs_out.then_some(age + step)
    }

    pub(crate) fn poll_cover(&mut self, now: Instant) {
        // So that a quarter of it is a moment of the clock.
        let whole = |stop: Duration| {
            Duration::from_millis(millis(stop) / u64::from(STEPS * STEPS_LEFT) * u64::from(STEPS_LEFT))
        };
        let running_down = if self.has_terms { self.running_down(now) } else { None };
        self.kept.step = running_down.map(|stop| whole(stop).max(STEP_MIN));
        let wanted = match self.kept.step {
            Some(step) => self.wanted_cover(step, now),
            // What was written for work that is gone would be believed by the next work after a reset.
            None => Some(UNCOUNTED),
        };
        let Some(wanted) = wanted.filter(|wanted| *wanted != self.kept.covered) else { return };
        self.change_clock();
        self.kept.durable = self.kept.durable.min(wanted);
        self.kept.covered = wanted;
    }

    /// The record will change; until that is durable, what is durable now counts.
    fn change_clock(&mut self) {
        self.kept.durable = self.covered();
        self.kept.epoch = self.keep.change(JournalKey::Clock);
    }

    pub(crate) fn cover_deadline(&self) -> Option<Instant> {
        self.moment(self.kept.covered.saturating_sub(self.kept.step? / STEPS_LEFT))
    }

    /// The hub was heard: its time counts, whatever was believed before.
    pub(crate) fn hear_time(&mut self, now: Instant, fresh: &Fresh) {
        if let Some(expected) = self.unix_ms_floor(now) {
            let is_back = fresh.time_ms.saturating_add(millis(JUMP)) < expected;
            let is_ahead = self.session.is_fresh_this_boot() && expected.saturating_add(millis(JUMP)) < fresh.time_ms;
            if is_back || is_ahead {
                let seconds = expected.abs_diff(fresh.time_ms) / 1000;
                let way = if is_back { "before" } else { "after" };
                self.note(
                    now,
                    Level::Warn,
                    format_args!("the hub's time is {seconds} s {way} what this device expected; it is taken"),
                );
            }
        }
        if self.kept.floor_ms.abs_diff(fresh.time_ms) >= millis(FLOOR_EVERY) {
            self.change_clock();
            self.kept.floor_ms = fresh.time_ms;
        }
    }

    pub(crate) fn write_clock(&mut self) -> Result<usize, WireError> {
        let mut writer = Writer::new(self.outgoing);
        writer.bytes(&[FORMAT])?;
        writer.value(&(self.kept.floor_ms, millis(self.kept.covered)))?;
        Ok(writer.len())
    }
}
