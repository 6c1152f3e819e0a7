//! P13, P22: a fleet that comes back at once. Times and memory from real agents and a hub that was killed and started again; bytes
//! and starts from the real engine and machines on a virtual clock, where every message can be counted.

use crate::crowd::Crowds;
use crate::fleet::wait_online;
use crate::process::{rss_kib, rss_peak_kib};
use crate::single::HELLO;
use crate::table::Row;
use std::path::Path;
use std::time::{Duration, Instant};
use tests::harness::{Hub, Workload};
use tests::storm::{ALL, Fleet, TWENTIETH, Traffic};

const SETTLE: Duration = Duration::from_secs(20);
const RUNNING_DEADLINE: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(50);
/// One device in so many changes while the fleet is away, as the label `TWENTIETH` says.
const CHANGED_EVERY: usize = 20;

fn wait_running(hub: &Hub, count: u64) -> f64 {
    let begin = Instant::now();
    loop {
        let (code, status) = hub.try_get("/v1/namespaces/default/workloads/wide");
        if code == 200 && status["status"]["running"].as_u64() == Some(count) {
            return begin.elapsed().as_secs_f64();
        }
        assert!(begin.elapsed() < RUNNING_DEADLINE, "{code}: {:#}", status["status"]);
        std::thread::sleep(POLL);
    }
}

pub fn measure(directory: &Path, agents: usize) -> Vec<Row> {
    let mut hub = Hub::start(directory);
    let mut crowds = Crowds::default();
    let members: Vec<(String, String)> =
        (0..agents).map(|number| (format!("load-{number:05}"), hub.join_token(true))).collect();
    crowds.add(directory, &members);
    wait_online(&hub, agents);
    hub.deploy(&Workload::new("wide").every("1h").on_every_device(), HELLO);
    wait_running(&hub, agents as u64);
    std::thread::sleep(SETTLE);
    let before = rss_kib(hub.pid());
    hub.kill();
    let begin = Instant::now();
    hub.run();
    let ready = begin.elapsed().as_secs_f64();
    let online = wait_online(&hub, agents);
    let running = online + wait_running(&hub, agents as u64);
    let peak = rss_peak_kib(hub.pid()) / before;
    drop((crowds, hub));
    let mut rows = vec![
        Row::new("P13", format!("{agents} agents reconnect after a hub restart: all reconciled"), running, "s")
            .target(5.0)
            .anchor("Azure IoT Hub S1 100 connects/s; KubeEdge left it untested"),
        Row::new("P13", "memory of the hub: peak against before", peak, "x").target(1.3),
        Row::new("-", "of that, until the hub answered", ready, "s"),
    ];
    rows.extend(counted(agents));
    rows
}

fn sum(fleet: &Fleet, of: impl Fn(&Traffic) -> usize) -> usize {
    fleet.traffic().map(of).sum()
}

/// What every message says.
fn counted(devices: usize) -> Vec<Row> {
    let mut fleet = Fleet::new(devices, None);
    fleet.run("wide", 1, ALL);
    let changed: Vec<usize> = (0..devices).step_by(CHANGED_EVERY).collect();
    fleet.run("some", 1, TWENTIETH);
    fleet.pass(Duration::from_secs(300));
    assert_eq!(fleet.in_sync(), devices, "the fleet holds what it should");
    fleet.begin_counting();
    fleet.restart_hub();
    fleet.pass(Duration::from_secs(30));
    let most = |fleet: &Fleet, of: fn(&Traffic) -> usize| fleet.traffic().map(of).max().unwrap_or(0) as f64;
    let greeting = most(&fleet, |traffic| traffic.hello_bytes);
    let status = most(&fleet, |traffic| traffic.status_bytes);
    let set = most(&fleet, |traffic| traffic.set_bytes);
    let starts = sum(&fleet, |traffic| traffic.starts as usize) as f64;
    fleet.is_broker_up = false;
    fleet.cut_all();
    fleet.pass(Duration::from_secs(1_800));
    fleet.run("some", 2, TWENTIETH);
    fleet.pass(Duration::from_secs(1_800));
    fleet.begin_counting();
    fleet.is_broker_up = true;
    fleet.pass(Duration::from_secs(120));
    assert_eq!(fleet.in_sync(), devices, "the fleet holds what it should");
    let spent = sum(&fleet, |traffic| traffic.hello_bytes + traffic.set_bytes) as f64;
    let allowed = (fleet.set_bytes(&changed) + devices * wire::limits::RECONNECT_BYTES_MAX) as f64;
    let share = 100 / CHANGED_EVERY;
    vec![
        Row::new("P13", "application bytes of an unchanged device: Hello and Fresh", greeting, "B").target(150.0),
        Row::new("-", "its status, which a hub that started again asks for", status, "B"),
        Row::new("-", "its set, which a broker that forgot it is given again", set, "B"),
        Row::new("P13", "components started again", starts, "").target(0.0),
        Row::new("P22", format!("an hour apart, {share} % changed: bytes for {devices} devices"), spent, "B")
            .target(allowed)
            .anchor("KubeEdge: incremental, no figure"),
    ]
}
