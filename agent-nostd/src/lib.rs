#![no_std]

#[cfg(feature = "wasm")]
extern crate alloc;

#[cfg(feature = "wasm")]
pub mod function;
