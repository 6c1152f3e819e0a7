//! The store on a flash that fails at every operation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)]
mod boot;
mod journal;
mod mock;
