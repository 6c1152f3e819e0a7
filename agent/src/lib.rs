//! The Linux agent: a shell around the machine that all devices share. It translates, stores, runs and sends.
//!
//! It must never decide what runs, when to connect or what to report: that is the machine's, so that a microcontroller and
//! the simulator behave the same.
#![forbid(unsafe_code)]

mod agent;
mod clock;
pub mod config;
mod crowd;
mod disk;
mod faults;
mod gpsd;
pub mod identity;
mod install;
mod join;
mod journal;
mod link;
mod lock;
mod notify;
mod parent;
mod relay;
mod runtime;
mod shell;
pub mod status;
mod store;
pub mod tls;

pub use agent::{Agent, AgentConfig, AgentError, FUNCTION_MEMORY_BYTES};
pub use crowd::{Crowd, Member};
pub use faults::Faults;
pub use gpsd::Rules;
pub use install::{InstallError, UNIT, install};
pub use join::{JoinError, JoinOptions, Joined, join};
pub use notify::Notifier;
pub use parent::stop_at_end_of_input;
pub use relay::{LEAVES_MAX, LineAddress};
