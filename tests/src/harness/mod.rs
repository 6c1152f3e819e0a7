//! System tests with real parts: the `fulmar` and `fulmar-agent` programs as processes, on loopback, in a temporary directory.
//!
//! Nothing here sleeps to be safe: `wait_until` polls a fact with a deadline, and tells the last state it saw when it fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod agent;
pub mod board;
mod crowd;
pub mod guide;
mod hub;
pub mod leaf;
mod mcu;
pub mod mixed;
mod mosquitto;
pub mod narrow;
pub mod netns;
pub mod proxy;
pub mod site;
pub mod slots;

pub use agent::Agent;
pub use crowd::{Crowd, RunningCrowd};
pub use hub::{Hub, Workload};
pub use mcu::Mcu;
pub use mosquitto::{Broker, Mosquitto};

use std::fmt::Debug;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
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

/// A port that was free a moment ago, for programs that must find it again after a restart. Below those that the system gives
/// to outgoing connections, which would take it in between; each is tried once in this process.
pub fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static TRIED: AtomicU32 = AtomicU32::new(0);
    // Test programs that run side by side begin far from each other.
    let begin = std::process::id().wrapping_mul(997);
    for _ in 0..COUNT {
        let tried = TRIED.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + begin.wrapping_add(tried) % COUNT).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}
