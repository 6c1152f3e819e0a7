//! P19: a site of a thousand devices with ten thousand placements vanishes; how long until the hub knows, and until everything
//! runs elsewhere. Once with cut connections, once in silence.

use crate::crowd::Crowds;
use crate::fleet::{metric, wait_online};
use crate::single::HELLO;
use crate::table::Row;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tests::harness::{Hub, Workload};

/// Of each site.
const DEVICES: usize = 1_000;
const WORKLOADS: usize = 100;
const REPLICAS: usize = 100;
/// From the loss until everything runs elsewhere. Silence alone is heard after one and a half heartbeats of 30 s.
const DEADLINE: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(100);
const LIST_POLL: Duration = Duration::from_secs(1);

/// A crowd of its own at a site of this name.
fn site(directory: &Path, hub: &Hub, name: &str, online: usize) -> Crowds {
    let directory = directory.join(name);
    std::fs::create_dir_all(&directory).unwrap();
    let members: Vec<(String, String)> =
        (0..DEVICES).map(|number| (format!("{name}-{number:04}"), hub.join_token(true))).collect();
    let mut crowd = Crowds::default();
    crowd.add(&directory, &members);
    wait_online(hub, online);
    for (device, _) in members {
        let metadata = json!({"name": device, "labels": {"fleet": "test"}});
        let document =
            json!({"apiVersion": "fulmar/v1", "kind": "Device", "metadata": metadata, "spec": {"site": name}});
        hub.put(&format!("/v1/devices/{device}"), &document);
    }
    crowd
}

/// Placements at the site of this name, and how many of them run.
fn placements(hub: &Hub, site: &str) -> (usize, usize) {
    let (code, list) = hub.try_get("/v1/namespaces/default/workloads?limit=500");
    // The hub may say that it is busy rather than to let everybody wait.
    assert!(matches!(code, 200 | 503), "{code}: {list:#}");
    let workloads = list["items"].as_array().cloned().unwrap_or_default();
    let devices = workloads.iter().flat_map(|workload| workload["status"]["devices"].as_array().into_iter().flatten());
    let here: Vec<&Value> =
        devices.filter(|entry| entry["device"].as_str().is_some_and(|name| name.starts_with(site))).collect();
    (here.len(), here.iter().filter(|entry| entry["running"] == 1).count())
}

/// Seconds since `begin` until it is so.
fn seconds_until(begin: Instant, poll: Duration, what: &str, mut is_so: impl FnMut() -> bool) -> f64 {
    while !is_so() {
        assert!(begin.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(poll);
    }
    begin.elapsed().as_secs_f64()
}

/// Seconds until the loss of the first site is known, everything is placed at the second, and runs there.
fn lose(directory: &Path, signal: &str) -> [f64; 3] {
    let hub = Hub::start(directory);
    let lost = site(directory, &hub, "first", DEVICES);
    for number in 0..WORKLOADS {
        let partition = json!({"replace": "afterGrace", "grace": "0s"});
        let workload = Workload::new(&format!("work-{number:03}")).every("1h").replicas(REPLICAS).partition(partition);
        hub.deploy(&workload, HELLO);
    }
    let all = WORKLOADS * REPLICAS;
    seconds_until(Instant::now(), LIST_POLL, "everything runs", || placements(&hub, "first") == (all, all));
    let _kept = site(directory, &hub, "second", 2 * DEVICES);
    assert_eq!(placements(&hub, "first"), (all, all), "everything runs at the site that is to be lost");
    // A hub that has only just reached its broker calls nobody lost; what is measured is one that runs.
    let grace = || metric(&hub, "fulmar_hub_loss_grace_seconds");
    seconds_until(Instant::now(), LIST_POLL, "the hub's first grace is over", || grace() == 0.0);
    let decided = || metric(&hub, "fulmar_hub_placements_decided_total{change=\"placed\"}") as usize;
    let decided_before = decided();
    let begin = Instant::now();
    lost.signal(signal);
    let unknown = || metric(&hub, "fulmar_hub_devices{state=\"unknown\"}") as usize;
    let known = seconds_until(begin, POLL, "the loss is known", || unknown() >= DEVICES);
    // The metric, and not the list: answering with ten thousand entries would be a part of what is measured.
    let placed = seconds_until(begin, POLL, "everything is placed elsewhere", || decided() >= decided_before + all);
    let running = seconds_until(begin, LIST_POLL, "everything runs elsewhere", || placements(&hub, "second").1 == all);
    eprintln!("    {signal}: known {known:.1} s, placed {placed:.1} s, running {running:.1} s");
    [known, placed, running]
}

pub fn measure(directory: &Path) -> Vec<Row> {
    // A fleet of its own for each: a third of one that is missing already would be a mass loss.
    let of = |signal: &str| {
        let directory = directory.join(signal);
        std::fs::create_dir_all(&directory).unwrap();
        lose(&directory, signal)
    };
    let (cut, silent) = (of("-KILL"), of("-STOP"));
    let all = WORKLOADS * REPLICAS;
    let row = |how: &str, what: &str, value: f64| {
        Row::new("P19", format!("site of {DEVICES} devices, {all} placements, {how}: {what}"), value, "s")
    };
    vec![
        row("connections cut", "known", cut[0]).anchor("Kubernetes 40 s"),
        row("connections cut", "all placed elsewhere", cut[1]).target(2.0).anchor("Kubernetes 340 s by default"),
        row("connections cut", "all running elsewhere", cut[2]),
        row("silent", "known", silent[0]),
        row("silent", "all placed elsewhere", silent[1]).target(47.0),
        row("silent", "all running elsewhere", silent[2]),
    ]
}
