//! What one function sees of this device, and the time of day that all of them share.
//!
//! Must answer at once: the one exception is the commit of state, which waits for the disk.
use super::state::State;
use super::{Report, Surroundings, Told};
use crate::clock;
use agent_nostd::function::{CommitError, EmitError, Host, Level, RandomError, StateChange, TellError};
use agent_nostd::machine::port::{LaunchId, Telling, Terms};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use wire::limits::LOG_TEXT_BYTES_MAX;
use wire::status::truncate;

/// What the hub has told of time: the time of day as an offset to the device's own clock, and when it was heard.
#[derive(Debug)]
pub struct WallClock {
    offset_ms: AtomicI64,
    heard_ms: AtomicI64,
}

const UNKNOWN: i64 = i64::MIN;

impl Default for WallClock {
    fn default() -> Self {
        Self { offset_ms: AtomicI64::new(UNKNOWN), heard_ms: AtomicI64::new(UNKNOWN) }
    }
}

fn boot_ms() -> i64 {
    i64::try_from(clock::boot_time().as_millis()).unwrap_or(i64::MAX)
}

impl WallClock {
    /// Milliseconds since 1970 at a moment of the boot clock; `None`: not known.
    pub fn set(&self, wall_ms: Option<u64>, boot_ms: u64) {
        let both = wall_ms.and_then(|wall| Some((i64::try_from(wall).ok()?, i64::try_from(boot_ms).ok()?)));
        let offset = both.map_or(UNKNOWN, |(wall, boot)| wall.saturating_sub(boot));
        self.offset_ms.store(offset, Ordering::Relaxed);
    }

    /// When the question was sent that the hub answered last, on the boot clock; `None`: none in this boot.
    pub fn set_heard(&self, boot_ms: Option<u64>) {
        let heard = boot_ms.and_then(|ms| i64::try_from(ms).ok()).unwrap_or(UNKNOWN);
        self.heard_ms.store(heard, Ordering::Relaxed);
    }

    pub fn unheard_ms(&self) -> Option<u64> {
        match self.heard_ms.load(Ordering::Relaxed) {
            UNKNOWN => None,
            heard => u64::try_from(boot_ms().saturating_sub(heard)).ok(),
        }
    }

    pub fn now_ms(&self) -> Option<u64> {
        match self.offset_ms.load(Ordering::Relaxed) {
            UNKNOWN => None,
            offset => u64::try_from(offset.saturating_add(boot_ms())).ok(),
        }
    }
}

/// The world of one instance, for one slice.
pub struct FunctionHost<'a> {
    pub launch: LaunchId,
    pub configuration: &'a [u8],
    pub state: &'a mut State,
    pub surroundings: &'a Surroundings,
    pub terms: &'a Mutex<Terms>,
}

impl FunctionHost<'_> {
    fn terms(&self) -> Terms {
        *self.terms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether these terms are over, on the clock that goes on while the machine sleeps or a process is stopped.
pub fn are_over(terms: &Terms) -> bool {
    terms.until().is_some_and(|until| clock::boot_time() >= Duration::from_millis(until.as_ms()))
}

const fn level(level: Level) -> wire::event::Level {
    match level {
        Level::Error => wire::event::Level::Error,
        Level::Warn => wire::event::Level::Warn,
        Level::Info => wire::event::Level::Info,
        Level::Debug => wire::event::Level::Debug,
    }
}

impl Host for FunctionHost<'_> {
    fn log(&mut self, severity: Level, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        let text = truncate(&text, LOG_TEXT_BYTES_MAX).to_owned();
        if !self.surroundings.chatter(Report::Log { launch: self.launch, level: level(severity), text }) {
            self.surroundings.losses.lines.fetch_add(1, Relaxed);
        }
    }

    fn emit(&mut self, topic: &str, payload: &[u8]) -> Result<(), EmitError> {
        let report = Report::Emit { launch: self.launch, topic: topic.to_owned(), payload: payload.to_vec() };
        if self.surroundings.chatter(report) {
            Ok(())
        } else {
            self.surroundings.losses.events.fetch_add(1, Relaxed);
            Err(EmitError::Quota)
        }
    }

    fn tell(&mut self, telling: &Telling<'_>) -> Result<(), TellError> {
        if self.surroundings.chatter(Report::Tell { launch: self.launch, told: Told::of(telling) }) {
            Ok(())
        } else {
            self.surroundings.losses.samples.fetch_add(1, Relaxed);
            Err(TellError)
        }
    }

    fn config(&self) -> &[u8] {
        self.configuration
    }

    fn state_get(&mut self, key: &[u8], out: &mut [u8]) -> Option<u32> {
        let value = self.state.get(key)?;
        let count = value.len().min(out.len());
        out[..count].copy_from_slice(&value[..count]);
        u32::try_from(value.len()).ok()
    }

    fn state_size(&self) -> u32 {
        self.state.size()
    }

    fn state_commit(&mut self, changes: &[StateChange<'_>]) -> Result<(), CommitError> {
        let written = match self.surroundings.store.takes_nothing() {
            true => Err(std::io::ErrorKind::StorageFull.into()),
            false => self.state.commit(changes),
        };
        written.map_err(|error| {
            tracing::error!(launch = self.launch.0, %error, "what a function remembers cannot be written");
            CommitError
        })
    }

    fn monotonic_us(&mut self) -> u64 {
        u64::try_from(clock::boot_time().as_micros()).unwrap_or(u64::MAX)
    }

    fn wall_ms(&mut self) -> Option<u64> {
        self.surroundings.wall.now_ms()
    }

    fn fence(&mut self) -> u64 {
        self.terms().grant.map_or(0, |right| right.fence.0.packed())
    }

    fn freshness_ms(&mut self) -> Option<u64> {
        self.surroundings.wall.unheard_ms()
    }

    fn is_degraded(&mut self) -> bool {
        self.terms().is_degraded
    }

    fn may_go_on(&mut self) -> bool {
        !are_over(&self.terms())
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), RandomError> {
        getrandom::fill(out).map_err(|_| RandomError)
    }
}
