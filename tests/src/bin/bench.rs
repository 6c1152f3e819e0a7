//! Measures what the goals are about, on real processes, and prints a table with anchors; `--json` prints the same as JSON.
//!
//! Figures are medians of several runs in one go. Nothing passes or fails here: tests judge answers, this judges costs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tests::harness::{Agent, Hub, Workload, program};

const HELLO: &[u8] = include_bytes!("../../../functions/hello/hello.wasm");
/// Runs of what takes milliseconds.
const RUNS: usize = 12;
/// Between two runs: an operator's pace, in which the device's allowance of quick reports fills up again.
const PACE: Duration = Duration::from_secs(5);
/// Let the allocators and the connection settle before memory is read.
const SETTLE: Duration = Duration::from_secs(3);

struct Row {
    goal: &'static str,
    what: &'static str,
    value: f64,
    unit: &'static str,
    target: f64,
    anchor: &'static str,
}

fn bytes(name: &str) -> f64 {
    std::fs::metadata(program(name)).unwrap().len() as f64
}

/// Proportional set size in KiB (proc(5), smaps_rollup).
fn pss_kib(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

/// Milliseconds from the request to the hub knowing that the new generation runs.
fn apply_to_running(hub: &Hub, run: usize) -> f64 {
    std::thread::sleep(PACE);
    let workload = Workload::new("bench").every("1h").config(&format!("run {run}"));
    let begin = Instant::now();
    hub.deploy(&workload, HELLO);
    loop {
        let now = hub.workload("bench");
        if now["status"]["devices"][0]["running"] == now["metadata"]["generation"] {
            return begin.elapsed().as_secs_f64() * 1000.0;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    let hub = Hub::start(directory.path());
    let hub_ready = begin.elapsed().as_secs_f64() * 1000.0;
    let agent = Agent::join(directory.path(), &hub, "bench-1", (8.6821, 50.1109));
    std::thread::sleep(SETTLE);
    let (hub_pss, agent_pss) = (pss_kib(hub.pid()), pss_kib(agent.pid()));
    let mut times: Vec<f64> = (0..RUNS).map(|run| apply_to_running(&hub, run)).collect();
    // The first run fetches the artifact as well.
    times.remove(0);
    let mib = |kib: f64| kib / 1024.0;
    let rows = [
        Row {
            goal: "P11",
            what: "apply -> running, function, p50",
            value: quantile(&mut times, 0.5),
            unit: "ms",
            target: 20.0,
            anchor: "Ankaios 184 ms, k3s 2,306 ms, Swarm 920 ms (containers)",
        },
        Row {
            goal: "P11",
            what: "apply -> running, function, p95",
            value: quantile(&mut times, 0.95),
            unit: "ms",
            target: 20.0,
            anchor: "the same",
        },
        Row {
            goal: "P15",
            what: "agent, idle PSS",
            value: mib(agent_pss),
            unit: "MiB",
            target: 3.0,
            anchor: "Ankaios 6.5 MB, Greengrass lite 12.4 MB, edgecore 70 MB",
        },
        Row {
            goal: "P15",
            what: "agent, stripped binary (without TLS)",
            value: mib(bytes("fulmar-agent") / 1024.0),
            unit: "MiB",
            target: 3.0,
            anchor: "Ankaios 11.8 MB",
        },
        Row {
            goal: "-",
            what: "hub, idle PSS with embedded broker",
            value: mib(hub_pss),
            unit: "MiB",
            target: f64::NAN,
            anchor: "-",
        },
        Row {
            goal: "-",
            what: "fulmar, binary with hub and broker",
            value: mib(bytes("fulmar") / 1024.0),
            unit: "MiB",
            target: f64::NAN,
            anchor: "-",
        },
        Row {
            goal: "-",
            what: "hub start -> ready, empty database",
            value: hub_ready,
            unit: "ms",
            target: f64::NAN,
            anchor: "-",
        },
    ];
    if std::env::args().any(|argument| argument == "--json") {
        let rows: Vec<Value> = rows
            .iter()
            .map(|row| json!({"goal": row.goal, "what": row.what, "value": row.value, "unit": row.unit, "target": row.target, "anchor": row.anchor}))
            .collect();
        println!("{}", json!({ "rows": rows }));
        return;
    }
    println!("{:<5} {:<38} {:>9} {:<4} {:>7} {:>6}  anchor", "goal", "what", "measured", "", "goal", "ratio");
    for row in rows {
        let (target, ratio) = match row.target.is_nan() {
            true => ("-".to_owned(), "-".to_owned()),
            false => (format!("{:.1}", row.target), format!("{:.2}", row.value / row.target)),
        };
        println!(
            "{:<5} {:<38} {:>9.2} {:<4} {target:>7} {ratio:>6}  {}",
            row.goal, row.what, row.value, row.unit, row.anchor
        );
    }
}
