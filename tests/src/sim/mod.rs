//! The deterministic fleet simulator: the real hub engine and real agent machines on a virtual clock, with doubles of everything
//! that can fail around them.
//!
//! A run is a seed. First faults come at random, for an hour or for weeks of virtual time, while the oracles watch what must never
//! happen (`oracle`, `lease`, `answer`); then they stop, and everything has to become right within a bound (`liveness`). Nothing of a
//! run may read a clock, a thread or any source of chance but `random`. docs/simulator.md tells the rest.
pub mod adversary;
pub mod answer;
pub mod coverage;
pub mod device;
pub mod disk;
pub mod fault;
pub mod flash;
pub mod lease;
pub mod liveness;
pub mod network;
pub mod office;
pub mod operator;
pub mod oracle;
pub mod random;
pub mod record;
pub mod rival;
pub mod runtime;
pub mod sample;
pub mod secrets;
pub mod shell;
pub mod shrink;
pub mod signature;
pub mod strike;
pub mod suite;
pub mod task;
pub mod trace;
pub mod transport;
pub mod tries;
pub mod trouble;
pub mod world;

pub use coverage::Coverage;
pub use fault::{Allowed, Counts, FAULTS, Fault};
pub use shrink::shrink;
pub use trace::Story;
pub use world::{Ground, Options, Plant, Window};

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
    /// Starts and renewals of exclusive work, and moves of it to another device or boot.
    pub rights: u64,
    pub moves: u64,
    pub coverage: Coverage,
    pub lines: Vec<String>,
}

impl Outcome {
    /// The command that shows this run again.
    pub fn command(&self) -> String {
        let Options { seed, devices, minutes, allowed, window, is_long, .. } = self.options;
        let mut command = format!("scripts/sim --seed {seed} --devices {devices} --minutes {minutes} --trace");
        if is_long {
            command += " --long";
        }
        if window != Window::ALL {
            command += &format!(" --window {}..{}:{:x}", window.from, window.to, window.bits);
        }
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
    let mut memory = Ground::memory(&options);
    let heard = ground.is_real.then(secrets::Heard::default);
    let mut world = world::World::new(options, &ground, &mut memory, heard.clone());
    let panicked = catch_unwind(AssertUnwindSafe(|| match heard {
        Some(heard) => tracing::subscriber::with_default(secrets::Listener(heard), || world.run()),
        None => world.run(),
    }))
    .err();
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
        boots: options.boots_max() - world.memory.len(),
        counts: world.counts,
        coverage: std::mem::take(&mut world.coverage),
        violation: world.violation.take(),
        converged_after_ms: world.judge.converged_after_ms,
        reconnect_bytes: world.judge.reconnect_bytes,
        acknowledged: world.operator.acknowledged,
        rights: world.leases.rights,
        moves: world.leases.moves,
        lines: world.trace.lines(),
    }
}
