//! Limited work with the real programs: it goes on for so long without the hub and no longer, over a restart of the agent too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use tests::harness::{Agent, Hub, Workload, program, wait_until};

const FRANKFURT: (f64, f64) = (8.6821, 50.1109);
/// The shortest there is.
const LIMIT: Duration = Duration::from_secs(15);

/// Remembers at every tick that it ran.
fn counting() -> Vec<u8> {
    wat::parse_str(
        r#"(module
            (import "fulmar" "state_get" (func $get (param i32 i32 i32 i32) (result i32)))
            (import "fulmar" "state_set" (func $set (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1) (data (i32.const 0) "n")
            (func (export "fulmar_timer")
              (drop (call $get (i32.const 0) (i32.const 1) (i32.const 8) (i32.const 4)))
              (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.const 1)))
              (drop (call $set (i32.const 0) (i32.const 1) (i32.const 8) (i32.const 4))))
            (@custom "fulmar.abi" "\01"))"#,
    )
    .unwrap()
}

fn wait_status(agent: &Agent, what: &str, good: impl Fn(&Value) -> bool) -> Value {
    wait_until(what, || {
        let output = Command::new(program("fulmar-agent"))
            .args(["status", "-o", "json", "--data"])
            .arg(agent.data())
            .output()
            .unwrap();
        let seen: Value = serde_json::from_slice(&output.stdout).map_err(|_| format!("{output:?}"))?;
        if good(&seen) { Ok(seen) } else { Err(seen.to_string()) }
    })
}

fn wait_ticks(agent: &Agent) {
    let before: Vec<(PathBuf, Vec<u8>)> = agent.state();
    wait_until("it ticks", || if agent.state() == before { Err("what it remembers stays the same") } else { Ok(()) });
}

#[test]
fn work_with_a_limit_stops_without_the_hub_also_over_a_restart_and_goes_on_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(directory.path());
    let mut agent = Agent::join(directory.path(), &hub, "gw-1", FRANKFURT);
    let workload = Workload::new("pump").every("100ms").partition(json!({"stopAfter": "15s"}));
    hub.deploy(&workload, &counting());
    hub.wait_running("pump");
    wait_ticks(&agent);
    let status = wait_status(&agent, "the time that is left is told", |status| {
        status["workloads"][0]["stopsInS"].as_u64().is_some_and(|left| (1..15).contains(&left))
    });
    assert!(status["unheardS"].as_u64().unwrap() < LIMIT.as_secs(), "{status}");

    hub.kill();
    let alone = Instant::now();
    wait_ticks(&agent);
    let is_stale =
        |status: &Value| status["workloads"][0]["reason"] == "STALE" && status["workloads"][0]["running"] == 0;
    wait_status(&agent, "it has stopped", is_stale);
    let ran = alone.elapsed();
    // The last question was at most a quarter of the time old.
    assert!(ran < LIMIT && ran > LIMIT / 3, "{ran:?}");

    let state = agent.state();
    agent.kill();
    agent.run();
    let status = wait_status(&agent, "nothing is left after a restart", is_stale);
    // It may also say that it does not know for how long.
    assert!(status["unheardS"].as_u64().is_none_or(|seconds| seconds >= 10), "{status}");
    assert_eq!(agent.state(), state, "it has not run in between");

    hub.run();
    hub.wait_running("pump");
    wait_ticks(&agent);
    wait_status(&agent, "it runs again", |status| status["workloads"][0]["reason"] == "NONE");
}
