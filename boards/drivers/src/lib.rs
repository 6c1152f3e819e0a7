//! Drivers that boards share. A board is a table of facts; what needs a test is here.
//!
//! Register logic is generic over `Registers`, so that the tests run it on any machine against a fake. Nothing here knows a
//! board: addresses, clocks and interrupt numbers come in as arguments.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod clock;
#[cfg(all(feature = "cortex-m", target_arch = "arm"))]
pub mod cortex;
pub mod ethernet;
#[cfg(all(feature = "executor", target_os = "none"))]
pub mod executor;
#[cfg(all(feature = "cortex", target_arch = "arm"))]
mod fault;
pub mod i6300esb;
pub mod kept;
pub mod lan9118;
pub mod lm3s;
pub mod log;
pub mod nor;
pub mod ns16550;
pub mod pins;
pub mod plic;
pub mod record;
pub mod registers;
#[cfg(all(feature = "riscv", target_arch = "riscv32"))]
pub mod riscv;
#[cfg(all(feature = "rp", target_arch = "arm"))]
pub mod rp;
pub mod semihosting;
pub mod sifive_test;
pub mod stack;
pub mod stellaris;
#[cfg(all(feature = "stm32h7", target_arch = "arm"))]
pub mod stm32h7;
pub mod uart;
pub mod virtio;
pub mod watchdog;
