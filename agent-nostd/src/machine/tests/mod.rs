//! Each rule of the machine by a named test, against a scripted shell and hub on virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod accepting;
mod content;
mod crashing;
#[cfg(feature = "flash")]
mod flash;
mod leasing;
mod linking;
mod reporting;
pub(crate) mod rig;
mod seeded;
mod stale;
mod stepping;
mod telling;
