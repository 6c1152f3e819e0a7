//! The function runtime: many instances on few threads. An instance is a value; a thread runs one slice of it at a time.
//!
//! It must never decide what runs or when to try again, never let one function keep a thread for longer than a slice of fuel,
//! and never answer an order twice. Nothing here waits for a function: the caller is the loop of the shell.
mod component;
mod host;
mod pool;
mod state;

pub use host::WallClock;
pub use pool::Pool;
pub use state::collect as state_collect;

use crate::store::Store;
use agent_nostd::function::{Limits, Spec};
use agent_nostd::machine::port::{Exit, Failure, LaunchId, Telling, Terms, Trigger};
use async_channel::Sender;
use component::{Component, Event};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wire::event::Level;
use wire::record::{Record, Runtime as Kind};

/// Reports on their way to the loop.
pub const REPORTS_MAX: usize = 1024;
/// Of these, only so many may be lines and events of functions: outcomes always find room.
const CHATTER_MAX: usize = 768;
/// What functions tell the loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    Started { launch: LaunchId },
    StartFailed { launch: LaunchId, failure: Failure, detail: String },
    Stopped { launch: LaunchId },
    Exited { launch: LaunchId, exit: Exit, detail: String },
    Activated { launch: LaunchId, trigger: Trigger },
    Log { launch: LaunchId, level: Level, text: String },
    Emit { launch: LaunchId, topic: String, payload: Vec<u8> },
    Tell { launch: LaunchId, told: Told },
}

/// `Telling`, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Alarm { key: String, text: String },
    State { key: String, text: String },
    Metric { key: String, value: i64, scale: i8 },
}

impl Told {
    fn of(telling: &Telling<'_>) -> Self {
        match *telling {
            Telling::Alarm { key, text } => Self::Alarm { key: key.to_owned(), text: text.to_owned() },
            Telling::State { key, text } => Self::State { key: key.to_owned(), text: text.to_owned() },
            Telling::Metric { key, value, scale } => Self::Metric { key: key.to_owned(), value, scale },
        }
    }

    pub fn telling(&self) -> Telling<'_> {
        match self {
            Self::Alarm { key, text } => Telling::Alarm { key, text },
            Self::State { key, text } => Telling::State { key, text },
            Self::Metric { key, value, scale } => Telling::Metric { key, value: *value, scale: *scale },
        }
    }
}

/// What was thrown away because a limit was reached, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Messages for functions whose inbox was full.
    pub inputs: u64,
    /// Lines that found no room.
    pub lines: u64,
    /// Events that found no room; the function was told.
    pub events: u64,
    /// Alarms, states and metrics that found no room; the function was told.
    pub samples: u64,
}

/// `Losses`, counted on many threads.
#[derive(Debug, Default)]
struct LossCounters {
    inputs: AtomicU64,
    lines: AtomicU64,
    events: AtomicU64,
    samples: AtomicU64,
}

/// Bytes of memory that functions share.
#[derive(Debug)]
struct Memory {
    limit: u64,
    used: AtomicU64,
}

impl Memory {
    fn take(&self, bytes: u64) -> bool {
        let add = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn free(&self) -> u64 {
        self.limit.saturating_sub(self.used.load(Ordering::Relaxed))
    }
}

/// What all functions of a device have in common.
#[derive(Debug)]
struct Surroundings {
    store: Arc<Store>,
    state: PathBuf,
    wall: Arc<WallClock>,
    reports: Sender<Report>,
    losses: LossCounters,
    memory: Memory,
}

impl Surroundings {
    /// An outcome: waits for room, which the loop always makes.
    fn report(&self, report: Report) {
        // Without a loop nobody waits for an outcome.
        let _ = self.reports.send_blocking(report);
    }

    /// A line or an event: never waits.
    fn chatter(&self, report: Report) -> bool {
        self.reports.len() < CHATTER_MAX && self.reports.try_send(report).is_ok()
    }
}

/// The functions of one device.
#[derive(Debug)]
pub struct Runtime {
    surroundings: Arc<Surroundings>,
    pool: Arc<Pool>,
    components: BTreeMap<LaunchId, Arc<Component>>,
}

impl Runtime {
    /// `state`: directory of what functions remember. `memory_bytes`: for all of them together. The threads of `pool` may run
    /// the functions of other devices too.
    pub fn start(
        pool: Arc<Pool>,
        store: Arc<Store>,
        state: PathBuf,
        memory_bytes: u64,
        wall: Arc<WallClock>,
        reports: Sender<Report>,
    ) -> io::Result<Self> {
        crate::disk::directory_create(&state)?;
        let memory = Memory { limit: memory_bytes, used: AtomicU64::new(0) };
        let losses = LossCounters::default();
        let surroundings = Arc::new(Surroundings { store, state, wall, reports, losses, memory });
        Ok(Self { surroundings, pool, components: BTreeMap::new() })
    }

    /// Runs a record. Answered by a report.
    pub fn launch(&mut self, launch: LaunchId, record: &Record<'_>, terms: Terms) {
        match record.core.runtime {
            Kind::Function => {
                let component =
                    Component::new(launch, Spec::of(record, &Limits::LINUX), terms, Arc::clone(&self.surroundings));
                let component = Arc::new(component);
                self.components.insert(launch, Arc::clone(&component));
                self.pool.load(component);
            }
            Kind::Container | Kind::Process => {
                let detail = "this agent runs functions only".to_owned();
                self.answer(Report::StartFailed { launch, failure: Failure::RuntimeMissing, detail });
            }
        }
    }

    /// Answered by `Stopped`, at the latest one slice after `grace`.
    pub fn stop(&mut self, launch: LaunchId, grace: Duration) {
        match self.components.get(&launch) {
            Some(component) => component.stop(crate::clock::boot_time().saturating_add(grace), &self.pool),
            None => self.answer(Report::Stopped { launch }),
        }
    }

    /// New terms for what runs.
    pub fn extend(&mut self, launch: LaunchId, terms: Terms) {
        if let Some(component) = self.components.get(&launch) {
            component.extend(terms);
        }
    }

    pub fn activate(&mut self, launch: LaunchId, trigger: Trigger) {
        match trigger {
            Trigger::Timer => {
                if let Some(component) = self.components.get(&launch) {
                    component.timer(&self.pool);
                }
            }
        }
    }

    /// To every instance; an instance whose inbox is full does not get it.
    pub fn deliver(&mut self, launch: LaunchId, topic: &str, payload: &[u8]) {
        if let Some(component) = self.components.get(&launch) {
            component.deliver(&Arc::new(Event { topic: topic.to_owned(), payload: payload.to_vec() }), &self.pool);
        }
    }

    /// To be called with each report, before the machine hears of it.
    pub fn observe(&mut self, report: &Report) {
        match report {
            Report::StartFailed { launch, .. } | Report::Stopped { launch } | Report::Exited { launch, .. } => {
                self.components.remove(launch);
            }
            Report::Started { .. }
            | Report::Activated { .. }
            | Report::Log { .. }
            | Report::Emit { .. }
            | Report::Tell { .. } => {}
        }
    }

    /// Workload and component of everything that is not over.
    pub fn running(&self) -> impl Iterator<Item = (u32, u8)> {
        self.components.values().map(|component| component.key())
    }

    pub fn memory_free_bytes(&self) -> u32 {
        u32::try_from(self.surroundings.memory.free()).unwrap_or(u32::MAX)
    }

    pub fn losses(&self) -> Losses {
        let LossCounters { inputs, lines, events, samples } = &self.surroundings.losses;
        let all = [inputs, lines, events, samples];
        let [inputs, lines, events, samples] = all.map(|count| count.load(Ordering::Relaxed));
        Losses { inputs, lines, events, samples }
    }

    /// An answer of the loop to itself. There is always room for one more than functions may take.
    fn answer(&self, report: Report) {
        if self.surroundings.reports.try_send(report).is_err() {
            // The machine's own deadline answers in its place.
            tracing::error!("no room for the outcome of an order");
        }
    }
}

impl Drop for Runtime {
    /// What is left is cut: a shared pool goes on without it.
    fn drop(&mut self) {
        for component in self.components.values() {
            component.stop(Duration::ZERO, &self.pool);
        }
    }
}

#[cfg(test)]
mod tests;
