//! The agent on a microcontroller: one task around the machine, generic over a board's clock, network, flash and console.
//!
//! It translates and never decides, needs no allocator but for functions (feature `wasm`), and runs on a host over real TCP as it
//! does on a board. `port` is what a board gives; `limits` holds every buffer; `run` is the agent.
#[cfg(feature = "dalek")]
pub mod dalek;
mod fetch;
mod firmware;
#[cfg(feature = "wasm")]
mod functions;
#[cfg(not(feature = "wasm"))]
#[path = "functions_absent.rs"]
mod functions;
mod hands;
mod identity;
mod join;
pub mod limits;
pub mod mqtt;
pub mod port;
mod random;
mod run;
pub mod serial;
mod transport;
mod world;

pub use run::{Never, run};
