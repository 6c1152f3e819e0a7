//! The engine against a writer and devices on a virtual clock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod apply;
mod commit;
mod device;
mod dispatch;
mod join;
mod lease;
mod leaving;
mod limits;
mod liveness;
mod log;
mod namespace;
mod object;
mod partition;
mod placement;
mod plan;
mod quarantine;
mod queue;
mod replacement;
mod replay;
mod session;
mod terms;
mod token;
mod watch;
mod world;
mod writer;
