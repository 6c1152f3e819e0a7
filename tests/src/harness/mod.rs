//! System tests with real parts: the `fulmar` and `fulmar-agent` programs as processes, on loopback, in a temporary directory.
//!
//! Nothing here sleeps to be safe: `wait_until` polls a fact with a deadline, and tells the last state it saw when it fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod agent;
mod hub;

pub use agent::Agent;
pub use hub::{Hub, Workload};

use std::fmt::Debug;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Long enough for a loaded machine; a passing test never waits for it.
pub const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(25);

/// Polls `fact` until it is `Ok`; fails with the last `Err` after `PATIENCE`.
pub fn wait_until<T, E: Debug>(what: &str, mut fact: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match fact() {
            Ok(value) => return value,
            Err(state) if Instant::now() > deadline => panic!("waited in vain until {what}; last seen: {state:#?}"),
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// A program: in one of the folders that `FULMAR_PROGRAMS` names (joined by `:`), beside the running one, or one folder up
/// from a test.
pub fn program(name: &str) -> PathBuf {
    let named = std::env::var_os("FULMAR_PROGRAMS").unwrap_or_default();
    let running = std::env::current_exe().unwrap();
    let folder = running.parent().unwrap();
    let folders = std::env::split_paths(&named).chain([folder.to_owned(), folder.parent().unwrap().to_owned()]);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not built; run: cargo build --workspace"))
}

/// A port that was free a moment ago, for programs that must find it again after a restart.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
