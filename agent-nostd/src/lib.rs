#![no_std]

#[cfg(feature = "wasm")]
extern crate alloc;
#[cfg(test)]
extern crate std;

#[cfg(feature = "wasm")]
pub mod function;
pub mod journal;
pub mod machine;
