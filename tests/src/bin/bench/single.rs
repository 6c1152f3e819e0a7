//! P11, P14, P15: one hub and one agent, as they ship.

use crate::process::{pss_kib, tcp_bytes};
use crate::table::{Row, quantile};
use std::path::Path;
use std::time::{Duration, Instant};
use tests::harness::{Agent, Hub, Workload, program};
use wire::frame::encode_live;
use wire::hello::Heartbeat;
use wire::limits::HEARTBEAT_BYTES_MAX;
use wire::{BootId, DeviceId, DigestPrefix, LiveContext, PairKey};

pub const HELLO: &[u8] = include_bytes!("../../../../functions/hello/hello.wasm");
/// Runs of what takes milliseconds.
const RUNS: usize = 12;
/// Between two runs: an operator's pace, in which the device's allowance of quick reports fills up again.
const PACE: Duration = Duration::from_secs(5);
/// Let the allocators and the connection settle before memory is read.
const SETTLE: Duration = Duration::from_secs(3);
/// What an idle device says is counted over this time.
const IDLE: Duration = Duration::from_secs(120);

fn megabytes(name: &str) -> f64 {
    std::fs::metadata(program(name)).unwrap().len() as f64 / 1024.0 / 1024.0
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

/// Of the largest numbers, tag included.
fn heartbeat_bytes() -> f64 {
    let mut buffer = [0; HEARTBEAT_BYTES_MAX];
    let body = Heartbeat { sequence: u32::MAX, status: DigestPrefix([u8::MAX; 8]) };
    let context = LiveContext::outside("default", DeviceId([1; 16]), BootId([1; 8]));
    encode_live(&mut buffer, &PairKey([1; 32]), &context, &body).unwrap().len() as f64
}

pub fn measure(directory: &Path) -> Vec<Row> {
    let begin = Instant::now();
    let hub = Hub::start(directory);
    let hub_ready = begin.elapsed().as_secs_f64() * 1000.0;
    let agent = Agent::join(directory, &hub, "bench-1", (8.6821, 50.1109));
    std::thread::sleep(SETTLE);
    let (hub_pss, agent_pss) = (pss_kib(hub.pid()), pss_kib(agent.pid()));
    let before = tcp_bytes(agent.pid());
    std::thread::sleep(IDLE);
    let after = tcp_bytes(agent.pid());
    let minutes = IDLE.as_secs_f64() / 60.0;
    let [up, down] = [0, 1].map(|way| (after[way] - before[way]) / minutes);
    let times: Vec<f64> = (0..RUNS).map(|run| apply_to_running(&hub, run)).collect();
    // The first run fetches the artifact as well.
    let times = &times[1..];
    const RIVALS: &str = "Ankaios 184 ms, k3s 2,306 ms, Swarm 920 ms (containers)";
    vec![
        Row::new("P11", "apply -> running, function, p50", quantile(times, 0.5), "ms").target(20.0).anchor(RIVALS),
        Row::new("P11", "apply -> running, function, p95", quantile(times, 0.95), "ms").target(20.0).anchor(RIVALS),
        Row::new("P14", "heartbeat, payload with its tag", heartbeat_bytes(), "B").target(32.0),
        Row::new("P14", "idle device, bytes of its TCP stream per minute, up", up, "B").anchor("KubeEdge 1.9 KB/min"),
        Row::new("P14", "idle device, bytes of its TCP stream per minute, down", down, "B"),
        Row::new("P15", "agent, idle PSS", agent_pss / 1024.0, "MiB")
            .target(3.0)
            .anchor("Ankaios 6.5 MB, Greengrass lite 12.4 MB, edgecore 70 MB"),
        Row::new("P15", "agent, stripped binary", megabytes("fulmar-agent"), "MiB")
            .target(3.0)
            .anchor("Ankaios 11.8 MB"),
        Row::new("-", "hub, idle PSS with embedded broker", hub_pss / 1024.0, "MiB"),
        Row::new("-", "fulmar, binary with hub and broker", megabytes("fulmar"), "MiB"),
        Row::new("-", "hub start -> ready, empty database", hub_ready, "ms"),
    ]
}
