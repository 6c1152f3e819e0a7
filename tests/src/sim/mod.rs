//! The deterministic fleet simulator: the real hub engine and real agent machines on a virtual clock, with doubles of everything
//! that can fail around them.
//!
//! A run is a seed. First faults come at random for half an hour to an hour and a half of virtual time while the oracles watch
//! what must never happen (`oracle`); then they stop, and everything has to become right within a bound (`liveness`). Nothing in
//! here may read a clock, a thread or any source of chance but `random`.
pub mod device;
pub mod disk;
pub mod fault;
pub mod flash;
pub mod liveness;
pub mod network;
pub mod office;
pub mod operator;
pub mod oracle;
pub mod random;
pub mod record;
pub mod runtime;
pub mod shell;
pub mod signature;
pub mod trace;
pub mod transport;
pub mod trouble;
pub mod world;

pub use fault::{Allowed, Counts, FAULTS, Fault};
pub use trace::Story;
pub use world::{Ground, Options, Plant};

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub options: Options,
    /// Equal for equal runs.
    pub hash: u64,
    pub events: u64,
    pub virtual_ms: u64,
    pub boots: usize,
    pub counts: Counts,
    pub violation: Option<String>,
    pub converged_after_ms: Option<u64>,
    pub reconnect_bytes: usize,
    pub acknowledged: u64,
    pub lines: Vec<String>,
}

impl Outcome {
    /// The command that shows this run again.
    pub fn command(&self) -> String {
        let Options { seed, devices, minutes, allowed, .. } = self.options;
        let mut command = format!(
            "cargo run -p fulmar-tests --bin fleet-sim -- --seed {seed} --devices {devices} --minutes {minutes} --trace"
        );
        if allowed != Allowed::ALL {
            let names: Vec<String> = allowed.list().iter().map(|fault| format!("{fault:?}")).collect();
            command += &format!(" --faults {}", if names.is_empty() { "none".to_owned() } else { names.join(",") });
        }
        command
    }
}

/// One run from its beginning to its end, or to the first violation. A panic is a violation.
pub fn run(options: Options) -> Outcome {
    let ground = Ground::new(&options);
    let mut memory = Ground::memory();
    let mut world = world::World::new(options, &ground, &mut memory);
    let panicked = catch_unwind(AssertUnwindSafe(|| world.run())).err();
    if let Some(payload) = panicked {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        world.violation = Some(format!("panic: {}", text.unwrap_or_default()));
    }
    Outcome {
        options,
        hash: world.trace.hash(),
        events: world.trace.events,
        virtual_ms: world.now,
        boots: world::BOOTS_MAX - world.memory.len(),
        counts: world.counts,
        violation: world.violation.take(),
        converged_after_ms: world.judge.converged_after_ms,
        reconnect_bytes: world.judge.reconnect_bytes,
        acknowledged: world.operator.acknowledged,
        lines: world.trace.lines(),
    }
}

/// What is the same in two violations of one kind: the text without numbers, and not all of it.
fn kind(violation: &str) -> String {
    violation.chars().filter(|letter| !letter.is_ascii_digit()).take(24).collect()
}

/// A smaller run that still fails: without kinds of faults that are not needed, then shorter, then with fewer devices.
pub fn shrink(failed: &Outcome) -> Outcome {
    let mut best = failed.clone();
    let attempt = |best: &mut Outcome, options: Options| {
        let outcome = run(Options { story: Story::Keep, ..options });
        if outcome.violation.as_deref().map(kind) == best.violation.as_deref().map(kind) {
            *best = outcome;
            return true;
        }
        false
    };
    for fault in Fault::ALL {
        let options = Options { allowed: best.options.allowed.without(fault), ..best.options };
        attempt(&mut best, options);
    }
    while best.options.minutes > 5 {
        let options = Options { minutes: best.options.minutes / 2, ..best.options };
        if !attempt(&mut best, options) {
            break;
        }
    }
    while best.options.devices > 1 {
        let options = Options { devices: best.options.devices - 1, ..best.options };
        if !attempt(&mut best, options) {
            break;
        }
    }
    best
}
