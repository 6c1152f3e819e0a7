//! The store on a flash that fails at every operation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)]
pub(crate) mod artifact;
mod boot;
#[cfg(feature = "mcu")]
mod device;
mod journal;
pub(crate) mod mock;
mod slot;
