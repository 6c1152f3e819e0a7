//! The hub's engine: all decisions, on one thread, without I/O, clock or randomness of its own.
//!
//! `handle(now, input)`, then `poll(now)` until `None`, then `poll_timeout()`. Answers and publications that a change
//! causes leave only when the change is durable.

pub mod port;

pub use port::{
    AccessChange, Answer, DeviceChange, Effect, EngineConfig, EventLine, Exchange, Follow, HubStatus, Input, Instant,
    LogLine, Mode, Now, Outcome, Problem, Publication, Request, Severity, StreamItem, Ticket,
};

use crate::commit::Loaded;

/// The engine. Its parts are in the files of this folder, one concern each.
pub struct Engine {
    config: EngineConfig,
    loaded: Loaded,
}

impl Engine {
    /// From what is durable; nothing is sent before `LinkUp`.
    pub fn new(config: EngineConfig, loaded: Loaded) -> Self {
        Self { config, loaded }
    }

    /// Takes in one thing that happened.
    pub fn handle(&mut self, now: Now, input: Input) {
        let _ = (now, input);
    }

    /// The next effect; `None` when there is nothing to do before the next input or the time of `poll_timeout`.
    pub fn poll(&mut self, now: Now) -> Option<Effect> {
        let _ = now;
        None
    }

    /// When `poll` must be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let _ = (&self.config, &self.loaded);
        None
    }
}
