//! The world of a function that runs on a desk: memory instead of a disk, a clock that only the script moves, bytes that
//! look random and are the same each time. It must never look at this machine.

use agent_nostd::function::{CommitError, EmitError, Host, Level, RandomError, StateChange, TellError};
use agent_nostd::machine::port::Telling;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::time::Duration;

/// What the wall clock says when a run begins: 2026-01-01T00:00:00Z.
const WALL_BEGIN: Duration = Duration::from_secs(1_767_225_600);
/// What the random bytes are drawn from.
const SEED: &[u8] = b"fulmar fn invoke";

/// A key of the state, and its new value; none: it was removed.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// What a function raised, reported or measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sample {
    Alarm { key: String, text: String },
    State { key: String, text: String },
    Metric { key: String, value: i64, scale: i8 },
}

/// What a function did since the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deeds {
    pub logs: Vec<(Level, Vec<u8>)>,
    pub emits: Vec<(String, Vec<u8>)>,
    pub samples: Vec<Sample>,
    pub changes: Vec<Change>,
}

/// Under which terms it runs, and how long the hub was not heard when the run began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    pub fence: u64,
    pub unheard: Duration,
    pub is_degraded: bool,
}

#[derive(Debug, Default)]
pub struct World {
    pub config: Vec<u8>,
    pub terms: Terms,
    /// Since the run began.
    pub now: Duration,
    /// When the device was started last.
    booted: Duration,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    drawn: u64,
    deeds: Deeds,
}

impl World {
    pub fn new(config: Vec<u8>, terms: Terms) -> Self {
        Self { config, terms, ..Self::default() }
    }

    /// The device starts again; what is durable stays.
    pub fn boot(&mut self) {
        self.booted = self.now;
    }

    pub fn take_deeds(&mut self) -> Deeds {
        std::mem::take(&mut self.deeds)
    }
}

impl Host for World {
    fn log(&mut self, level: Level, text: &[u8]) {
        self.deeds.logs.push((level, text.to_vec()));
    }

    fn emit(&mut self, topic: &str, payload: &[u8]) -> Result<(), EmitError> {
        self.deeds.emits.push((topic.to_owned(), payload.to_vec()));
        Ok(())
    }

    fn tell(&mut self, telling: &Telling<'_>) -> Result<(), TellError> {
        self.deeds.samples.push(match *telling {
            Telling::Alarm { key, text } => Sample::Alarm { key: key.to_owned(), text: text.to_owned() },
            Telling::State { key, text } => Sample::State { key: key.to_owned(), text: text.to_owned() },
            Telling::Metric { key, value, scale } => Sample::Metric { key: key.to_owned(), value, scale },
        });
        Ok(())
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn state_get(&mut self, key: &[u8], out: &mut [u8]) -> Option<u32> {
        let value = self.state.get(key)?;
        for (to, from) in out.iter_mut().zip(value) {
            *to = *from;
        }
        u32::try_from(value.len()).ok()
    }

    fn state_size(&self) -> u32 {
        let bytes: usize = self.state.iter().map(|(key, value)| key.len() + value.len()).sum();
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    fn state_commit(&mut self, changes: &[StateChange<'_>]) -> Result<(), CommitError> {
        for change in changes {
            let (key, value) = (change.key.to_vec(), change.value.map(<[u8]>::to_vec));
            match value.clone() {
                Some(value) => self.state.insert(key.clone(), value),
                None => self.state.remove(&key),
            };
            self.deeds.changes.push((key, value));
        }
        Ok(())
    }

    fn monotonic_us(&mut self) -> u64 {
        u64::try_from(self.now.saturating_sub(self.booted).as_micros()).unwrap_or(u64::MAX)
    }

    fn wall_ms(&mut self) -> Option<u64> {
        u64::try_from((WALL_BEGIN + self.now).as_millis()).ok()
    }

    fn fence(&mut self) -> u64 {
        self.terms.fence
    }

    fn freshness_ms(&mut self) -> Option<u64> {
        u64::try_from((self.terms.unheard + self.now).as_millis()).ok()
    }

    fn is_degraded(&mut self) -> bool {
        self.terms.is_degraded
    }

    /// A play has no end but that of its script.
    fn may_go_on(&mut self) -> bool {
        true
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), RandomError> {
        for piece in out.chunks_mut(32) {
            let block = Sha256::new().chain_update(SEED).chain_update(self.drawn.to_le_bytes()).finalize();
            self.drawn = self.drawn.wrapping_add(1);
            for (to, from) in piece.iter_mut().zip(block) {
                *to = from;
            }
        }
        Ok(())
    }
}
