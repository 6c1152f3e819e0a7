//! Many runs on all cores, and what they came to together.
//!
//! A run knows nothing of the others, so that their order does not matter and each can be done again alone.
use super::coverage::Coverage;
use super::fault::{Counts, Fault};
use super::{Options, Outcome, Story, run, shrink};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Seeds of the suite that are run twice, at most: both times have to leave the same trace.
pub const TWICE: u64 = 20;
/// Failed runs that are kept; more are only counted.
const FAILED_MAX: usize = 100;
/// Lines of the story that a failure shows.
const LINES_SHOWN: usize = 60;

/// What many runs came to.
#[derive(Default)]
pub struct Total {
    pub runs: u64,
    pub device_ms: u64,
    pub events: u64,
    pub boots: u64,
    pub acknowledged: u64,
    pub rights: u64,
    pub moves: u64,
    pub counts: Counts,
    pub coverage: Coverage,
    pub converged_after_ms_max: u64,
    pub reconnect_bytes_max: usize,
    pub failed: Vec<Outcome>,
    pub failures: u64,
    pub seconds: f64,
}

impl Total {
    pub fn add(&mut self, outcome: Outcome) {
        self.runs += 1;
        self.device_ms += outcome.virtual_ms * outcome.options.devices as u64;
        self.events += outcome.events;
        self.boots += outcome.boots as u64;
        self.acknowledged += outcome.acknowledged;
        self.rights += outcome.rights;
        self.moves += outcome.moves;
        self.counts.add(&outcome.counts);
        self.coverage.add(&outcome.coverage);
        self.converged_after_ms_max = self.converged_after_ms_max.max(outcome.converged_after_ms.unwrap_or(0));
        self.reconnect_bytes_max = self.reconnect_bytes_max.max(outcome.reconnect_bytes);
        if outcome.violation.is_some() {
            self.failures += 1;
            if self.failed.len() < FAILED_MAX {
                self.failed.push(outcome);
            }
        }
    }

    pub fn device_days(&self) -> f64 {
        self.device_ms as f64 / 86_400_000.0
    }

    /// The first lines of a report.
    pub fn summary(&self) -> String {
        let (days, seconds) = (self.device_days(), self.seconds.max(0.001));
        format!(
            "{} runs, {days:.0} device-days ({:.1} device-years) in {seconds:.0} s: {:.1} device-days a second\n\
             {} events, {} boots, {} faults ({:.1} a device-day), {} hits, {} writes acknowledged\n\
             {} rights to run exclusive work, {} moves of it to another boot or device\n\
             slowest to become right: {} s; most bytes to come back: {}",
            self.runs,
            days / 365.25,
            days / seconds,
            self.events,
            self.boots,
            self.counts.strikes,
            self.counts.strikes as f64 / days.max(0.001),
            self.counts.total(),
            self.acknowledged,
            self.rights,
            self.moves,
            self.converged_after_ms_max / 1000,
            self.reconnect_bytes_max
        )
    }

    /// How often each kind of fault hit something.
    pub fn faults(&self) -> String {
        let parts: Vec<String> =
            Fault::ALL.iter().map(|fault| format!("{fault:?} {}", self.counts.of(*fault))).collect();
        parts.chunks(6).map(|row| format!("  {}\n", row.join(", "))).collect()
    }

    /// Kinds that hit fewer than this.
    pub fn seldom(&self, least: u64) -> Vec<Fault> {
        Fault::ALL.into_iter().filter(|fault| self.counts.of(*fault) < least).collect()
    }

    /// What a person needs to begin: the seeds that failed, the smallest run found of the first, and its last lines.
    pub fn report(&mut self) -> Option<String> {
        self.failed.sort_by_key(|outcome| outcome.options.seed);
        let first = self.failed.first()?;
        let list: Vec<String> = self
            .failed
            .iter()
            .map(|of| {
                format!("seed {}: {}\n  {}", of.options.seed, of.violation.as_deref().unwrap_or(""), of.command())
            })
            .collect();
        Some(format!("{} of {} runs failed\n{}\n{}", self.failures, self.runs, list.join("\n"), smaller(first)))
    }
}

/// The smallest run found that still fails like this one.
pub fn smaller(failed: &Outcome) -> String {
    let small = shrink(failed);
    let begin = small.lines.len().saturating_sub(LINES_SHOWN);
    format!(
        "smaller: {}\n  {}\n{}",
        small.violation.as_deref().unwrap_or_default(),
        small.command(),
        small.lines[begin..].join("\n")
    )
}

/// Runs seeds from `first` on while `options_of` gives one, on all cores; `done` hears of each as it ends.
pub fn run_all(
    first: u64,
    options_of: impl Fn(u64) -> Option<Options> + Sync,
    twice: u64,
    done: impl Fn(&Outcome) + Sync,
) -> Total {
    let began = Instant::now();
    let next = AtomicU64::new(first);
    let total = Mutex::new(Total::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let Some(options) = options_of(seed) else { break };
                    let mut outcome = run(options);
                    if seed - first < twice {
                        compare(&mut outcome, &run(Options { story: Story::Off, ..options }));
                    }
                    done(&outcome);
                    if let Ok(mut total) = total.lock() {
                        total.add(outcome);
                    }
                }
            });
        }
    });
    let mut total = total.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    total.seconds = began.elapsed().as_secs_f64();
    total
}

/// The same seed twice is the same run.
fn compare(outcome: &mut Outcome, again: &Outcome) {
    if (outcome.hash, outcome.events) != (again.hash, again.events) && outcome.violation.is_none() {
        outcome.violation = Some(format!(
            "the same seed ran twice differently: trace {:016x} of {} events, then {:016x} of {}",
            outcome.hash, outcome.events, again.hash, again.events
        ));
    }
}
