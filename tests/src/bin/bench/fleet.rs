//! P8, P9, P12: one hub with its embedded broker, and ten thousand agents that are connected to it.

use crate::crowd::Crowds;
use crate::process::rss_kib;
use crate::single::HELLO;
use crate::table::{Row, quantile};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};
use tests::harness::{Hub, Workload};

/// The slope of memory is taken between this share of the fleet and all of it.
pub const FIRST_SHARE: usize = 4;
/// Time for a share of the fleet to join and come online.
const JOIN_DEADLINE: Duration = Duration::from_secs(1_200);
const ROLLOUT_DEADLINE: Duration = Duration::from_secs(120);
/// New generations of the workload on all devices.
const ROLLOUTS: usize = 5;
const POLL: Duration = Duration::from_millis(20);
/// Requests of each kind.
const REQUESTS: usize = 300;
/// Between two requests: an API that is used, not besieged.
const REQUEST_PACE: Duration = Duration::from_millis(10);
/// Heartbeats are counted over this time.
pub const COUNTED: Duration = Duration::from_secs(20);

/// The value of a series of the hub.
pub fn metric(hub: &Hub, series: &str) -> f64 {
    let text = hub.get("/metrics");
    let text = text.as_str().unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
}

pub fn wait_online(hub: &Hub, count: usize) -> f64 {
    let begin = Instant::now();
    let mut told = 0;
    loop {
        let online = metric(hub, "fulmar_hub_devices{state=\"online\"}") as usize;
        if online >= count {
            return begin.elapsed().as_secs_f64();
        }
        if online / 1_000 > told {
            told = online / 1_000;
            eprintln!("    {online} of {count} agents are online ({:.0} s)", begin.elapsed().as_secs_f64());
        }
        assert!(begin.elapsed() < JOIN_DEADLINE, "only {online} of {count} devices came online");
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// Seconds until the shares of the fleet run the new generation.
fn roll_out(hub: &Hub, run: usize, count: usize) -> [f64; 2] {
    let workload = Workload::new("wide").every("1h").config(&format!("run {run}")).on_every_device();
    let begin = Instant::now();
    hub.deploy(&workload, HELLO);
    let wanted = [count * 95 / 100, count];
    let mut reached = [f64::NAN; 2];
    while reached[1].is_nan() {
        // The hub says that it is busy rather than to let everybody wait.
        let (code, status) = hub.try_get("/v1/namespaces/default/workloads/wide");
        assert!(matches!(code, 200 | 503), "{code}: {status:#}");
        let running = running_newest(&status);
        let now = begin.elapsed();
        for (at, wanted) in reached.iter_mut().zip(wanted) {
            if at.is_nan() && running >= wanted {
                *at = now.as_secs_f64();
            }
        }
        assert!(now < ROLLOUT_DEADLINE, "{running} of {count} run after {ROLLOUT_DEADLINE:?}: {:#}", status["status"]);
        std::thread::sleep(POLL);
    }
    reached
}

/// Devices that run the newest generation.
fn running_newest(workload: &serde_json::Value) -> usize {
    let status = &workload["status"];
    match status["observedGeneration"] == workload["metadata"]["generation"] {
        true => usize::try_from(status["running"].as_u64().unwrap_or(0)).unwrap(),
        false => 0,
    }
}

fn milliseconds(mut request: impl FnMut(usize)) -> Vec<f64> {
    (0..REQUESTS)
        .map(|number| {
            std::thread::sleep(REQUEST_PACE);
            let begin = Instant::now();
            request(number);
            begin.elapsed().as_secs_f64() * 1000.0
        })
        .collect()
}

pub fn measure(directory: &Path, agents: usize) -> Vec<Row> {
    let hub = Hub::start(directory);
    let mut crowds = Crowds::default();
    let mut joined = 0;
    let mut memory = Vec::new();
    let mut joining = 0.0;
    for count in [agents / FIRST_SHARE, agents] {
        let members: Vec<(String, String)> =
            (joined..count).map(|number| (format!("load-{number:05}"), hub.join_token(true))).collect();
        crowds.add(directory, &members);
        joined = count;
        joining += wait_online(&hub, count);
        std::thread::sleep(COUNTED / 2);
        memory.push((count, rss_kib(hub.pid())));
    }
    let [(few, low), (many, high)] = memory[..] else { unreachable!("two shares") };
    let slope = (high - low) / (many - few) as f64;
    let before = metric(&hub, "fulmar_hub_messages_in_total");
    std::thread::sleep(COUNTED);
    let messages = (metric(&hub, "fulmar_hub_messages_in_total") - before) / COUNTED.as_secs_f64();
    let reads = milliseconds(|number| drop(hub.get(&format!("/v1/devices/load-{:05}", number % agents))));
    let writes = milliseconds(|number| {
        let spec = json!({"circle": {"center": [8.0, 50.0], "radiusKm": 1 + number % 2}});
        hub.put(
            "/v1/regions/bench",
            &json!({"apiVersion": "fulmar/v1", "kind": "Region", "metadata": {"name": "bench"}, "spec": spec}),
        );
    });
    // The first one brings the artifact.
    let rollouts: Vec<[f64; 2]> = (0..=ROLLOUTS).map(|run| roll_out(&hub, run, agents)).skip(1).collect();
    let column = |index: usize| quantile(&rollouts.iter().map(|run| run[index]).collect::<Vec<_>>(), 0.5);
    vec![
        Row::new(
            "P8",
            format!("API read p95, {agents} devices, {messages:.0} messages/s"),
            quantile(&reads, 0.95),
            "ms",
        )
        .target(1.0)
        .anchor("guide for orchestrators: p95 < 200 ms"),
        Row::new(
            "P8",
            format!("API durable write p95, {agents} devices, {messages:.0} messages/s"),
            quantile(&writes, 0.95),
            "ms",
        )
        .target(5.0)
        .anchor("Kubernetes SLO p99 1 s"),
        Row::new("P9", format!("hub with embedded broker, RSS per device, {few} to {many}"), slope, "KiB")
            .target(21.0)
            .anchor("k3s 11.7 MB per agent, Swarm 52 KB per task, RMQTT 33 KB per connection"),
        Row::new("P12", format!("apply -> 95 % of {agents} running"), column(0), "s")
            .target(1.5)
            .anchor("KubeEdge p99 4.1 s steady"),
        Row::new("P12", format!("apply -> all of {agents} running"), column(1), "s")
            .target(3.0)
            .anchor("AWS IoT Jobs 10 min"),
        Row::new("-", format!("{agents} agents: from tokens to online"), joining, "s"),
        Row::new("-", "simulated agent, RSS each", crowds.rss_kib() / agents as f64, "KiB"),
    ]
}
