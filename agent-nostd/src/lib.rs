//! The agent as a value, for every platform: the state machine, the journal's records, and the function engine.
//!
//! No platform is known here; a shell gives time, entropy, storage and bytes.
#![no_std]

#[cfg(feature = "wasm")]
extern crate alloc;
#[cfg(test)]
extern crate std;

#[cfg(feature = "wasm")]
pub mod function;
pub mod journal;
pub mod line;
pub mod machine;
#[cfg(feature = "mcu")]
pub mod shell;
#[cfg(feature = "flash")]
pub mod store;
pub mod transfer;
