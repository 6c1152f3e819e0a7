//! The function engine: runs one WebAssembly function under limits, on microcontrollers, Linux and in the simulator.
//!
//! It exists so that a function behaves the same on every class of device. It must never have a clock, I/O, a random source or
//! a thread of its own: whatever a function sees of the world comes in through [`Host`], one call at a time, and whatever it may
//! use is bounded by a field of [`Limits`].
//!
//! How it is used, by whoever owns the function:
//!
//! 1. [`Module::load`] checks and compiles the bytes. Every import, limit and capability is settled here, never at a call.
//! 2. [`Instance::load`] makes a running copy of a module.
//! 3. [`Instance::activate`] runs one activation for at most one slice of fuel. While it answers [`Outcome::Yielded`], the owner
//!    does other work and calls [`Instance::resume`].
//! 4. After [`Outcome::Trapped`] the instance is dead: drop it and load another from the same module. When to try again is the
//!    owner's policy, not the engine's.
//!
//! The ABI that a function sees is written down in `docs/functions.md`; its names and codes are in [`abi`].

pub mod abi;
mod call;
mod capability;
mod error;
mod grant;
mod host;
mod instance;
mod limits;
mod module;
mod preflight;
mod spec;
mod state;
mod validate;

#[cfg(test)]
mod tests;

pub use capability::Capabilities;
pub use error::{Export, LimitKind, LoadError, Name, TrapCause};
pub use grant::Grant;
pub use host::{CommitError, EmitError, HardwareError, Host, Level, RandomError, StateChange, TellError};
pub use instance::{Activation, Instance, Outcome, Refusal};
pub use limits::{Limits, heap_bytes};
pub use module::{Module, ModuleInfo};
pub use spec::{Configuration, Spec};
