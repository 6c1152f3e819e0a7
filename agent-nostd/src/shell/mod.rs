//! The agent on a microcontroller: one task around the machine, generic over a board's clock, network, flash and console.
//!
//! It translates and never decides, needs no allocator but for functions (feature `wasm`), and runs on a host over real TCP as it
//! does on a board. `port` is what a board gives; `limits` holds every buffer.
pub mod limits;
pub mod port;
