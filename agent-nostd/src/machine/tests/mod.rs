//! Each rule of the machine by a named test, against a scripted shell and hub on virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod accepting;
mod content;
mod crashing;
mod leasing;
mod linking;
mod reporting;
mod rig;
mod seeded;
mod stale;
mod stepping;
mod telling;
