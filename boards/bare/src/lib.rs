//! The agent machine for a part without an operating system: eight slots, buffers of the smallest class, nothing else.
//!
//! A library builds generic code only where somebody uses it, so this crate is the user. It holds no logic and runs nowhere.
#![no_std]
#![forbid(unsafe_code)]

pub mod shell;

use agent_nostd::machine::Agent;
use agent_nostd::machine::port::{
    Buffers, Config, Effect, Input, JournalKey, OUTGOING_BYTES_MIN, Restored, SET_OVERHEAD_BYTES,
};
use agent_nostd::machine::time::Instant;
use agent_nostd::shell::port::{Key, Store};
use agent_nostd::store::{Flash, RamFlash};
use agent_nostd::transfer::{Step, Transfer};
use embedded_storage::nor_flash::NorFlash;
use wire::limits::{BODY_BYTES_MAX_SMALL, EVENT_BYTES_MAX, TOPIC_BYTES_MAX};
use wire::transfer::Chunk;

/// Components at the same time.
pub const SLOTS: usize = 8;
/// One stored set of the smallest class.
pub const SET_BYTES: usize = SET_OVERHEAD_BYTES + BODY_BYTES_MAX_SMALL;
/// Records on their way out, or to functions: the longest event (`EVENT_BYTES_MAX`, `TOPIC_BYTES_MAX`) fits once.
pub const RING_BYTES: usize = 1280;
const _: () = assert!(RING_BYTES >= EVENT_BYTES_MAX + TOPIC_BYTES_MAX + 96);
/// Alarms, states and metrics until they are told: the longest record fits into each.
pub const TELEMETRY_BYTES: [usize; 3] = [512, 256, 512];
/// All memory of the agent, its own state included: the goal for the smallest class is 28 KB with stack and network.
pub const RAM_BYTES: usize = 3 * SET_BYTES + OUTGOING_BYTES_MIN + 3 * RING_BYTES + 1280 + size_of::<Agent<'_, SLOTS>>();
const _: () = assert!(TELEMETRY_BYTES[0] + TELEMETRY_BYTES[1] + TELEMETRY_BYTES[2] == 1280);
const _: () = assert!(RAM_BYTES < 24 * 1024);

/// Every buffer of the machine.
pub struct Memory {
    sets: [[u8; SET_BYTES]; 3],
    outgoing: [u8; OUTGOING_BYTES_MIN],
    rings: [[u8; RING_BYTES]; 3],
    alarms: [u8; TELEMETRY_BYTES[0]],
    states: [u8; TELEMETRY_BYTES[1]],
    metrics: [u8; TELEMETRY_BYTES[2]],
}

impl Memory {
    pub const fn new() -> Self {
        Self {
            sets: [[0; SET_BYTES]; 3],
            outgoing: [0; OUTGOING_BYTES_MIN],
            rings: [[0; RING_BYTES]; 3],
            alarms: [0; TELEMETRY_BYTES[0]],
            states: [0; TELEMETRY_BYTES[1]],
            metrics: [0; TELEMETRY_BYTES[2]],
        }
    }

    pub fn buffers(&mut self) -> Buffers<'_> {
        let [current, last_good, incoming] = &mut self.sets;
        let [logs, events, inputs] = &mut self.rings;
        let (alarms, states, metrics) = (&mut self.alarms, &mut self.states, &mut self.metrics);
        Buffers {
            current,
            last_good,
            incoming,
            outgoing: &mut self.outgoing,
            logs,
            events,
            alarms,
            states,
            metrics,
            inputs,
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// Builds the machine.
pub fn start<'b>(now: Instant, config: Config<'b>, buffers: Buffers<'b>, restored: Restored<'_>) -> Agent<'b, SLOTS> {
    Agent::new(now, config, buffers, restored)
}

/// One turn: an input, then every effect.
pub fn turn(
    agent: &mut Agent<'_, SLOTS>,
    now: Instant,
    input: Input<'_>,
    mut act: impl FnMut(Effect<'_>),
) -> Option<Instant> {
    agent.handle(now, input);
    while let Some(effect) = agent.poll(now) {
        act(effect);
    }
    agent.poll_timeout()
}

/// Journal and artifacts, on whatever flash a board has.
pub fn flash<J: NorFlash, A: NorFlash>(journal: J, artifacts: A) -> Flash<J, A> {
    Flash::open(journal, artifacts)
}

/// A flash of the usual sizes, so that the code of the store is built.
pub type Chip = RamFlash<{ 32 * 1024 }, 4, 4096>;

/// One value, and one turn of a transfer.
pub fn keep(
    flash: &mut Flash<Chip, Chip>,
    value: &[u8],
    transfer: &mut Transfer,
    chunk: &Chunk<'_>,
    now: Instant,
) -> bool {
    transfer.chunk(now, chunk, flash.artifacts());
    let is_done = transfer.poll(now, 0, flash.artifacts()) == Some(Step::Done);
    flash.save(Key::Journal(JournalKey::Accepted), value).is_ok() && is_done
}
