//! What crosses the air between a hub and its devices, and nothing else: identifiers, topics, frames, signatures, limits.
//!
//! Every type here is a promise: bytes are pinned by golden files, growth is a new clause or a new kind, never a changed field.
//! This crate must never do I/O, read a clock, allocate, or decide anything: it only says what bytes mean.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod auth;
pub mod clause;
pub mod codec;
#[cfg(feature = "dalek")]
pub mod dalek;
pub mod desired;
pub mod digest;
pub mod event;
pub mod firmware;
pub mod frame;
pub mod grant;
pub mod hello;
pub mod id;
pub mod join;
pub mod lease;
pub mod limits;
pub mod line;
pub mod position;
pub mod provision;
pub mod record;
pub mod sample;
pub mod sign;
pub mod status;
pub mod topic;
pub mod transfer;
pub mod trust;
pub mod version;

pub use auth::{LiveContext, PairKey};
pub use codec::WireError;
pub use digest::{Digest, DigestPrefix};
pub use frame::Kind;
pub use id::{BootId, CommandId, DeviceId, Fence, Instance, Nonce, Order, Revision, Session, WorkloadId};
