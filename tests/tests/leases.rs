//! Exclusive work with the real programs: whatever happens to the device that holds the lease, no two run at the same time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use tests::harness::{Agent, Broker, Hub, Workload, wait_until};

const FRANKFURT: (f64, f64) = (8.6821, 50.1109);
/// The shortest there is.
const LEASE_MS: u64 = 15_000;
/// Beside the lease, what the hub waits.
const MARGIN_MS: u64 = 2_000;
/// A lease is renewed after a third: so old its last grant can be.
const RENEWED_MS: u64 = LEASE_MS / 3;
const PERIOD_MS: u64 = 100;

/// Says at every tick that it runs.
fn ticking() -> Vec<u8> {
    wat::parse_str(
        r#"(module
            (import "fulmar" "log" (func $log (param i32 i32 i32) (result i32)))
            (memory (export "memory") 1) (data (i32.const 0) "tick")
            (func (export "fulmar_timer") (drop (call $log (i32.const 2) (i32.const 0) (i32.const 4))))
            (@custom "fulmar.abi" "\01"))"#,
    )
    .unwrap()
}

/// A hub, and two agents; the first one runs the pump under a lease.
struct Site {
    directory: tempfile::TempDir,
    hub: Hub,
    first: Agent,
    second: Agent,
}

impl Site {
    fn new(broker: Broker) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let hub = Hub::start_on(directory.path(), broker);
        let first = Agent::join(directory.path(), &hub, "gw-1", FRANKFURT);
        let partition = json!({"exclusive": {"lease": format!("{LEASE_MS}ms")}});
        let workload = Workload::new("pump").every(&format!("{PERIOD_MS}ms")).partition(partition);
        hub.deploy(&workload, &ticking());
        hub.wait_running("pump");
        let second = Agent::join(directory.path(), &hub, "gw-2", FRANKFURT);
        let site = Self { directory, hub, first, second };
        site.wait_tick("gw-1", 0);
        site
    }

    /// When a device ticked, by the hub's clock.
    fn ticks(&self, device: &str) -> Vec<u64> {
        let logs = self.hub.get("/v1/namespaces/default/workloads/pump/logs?tail=2000");
        let lines = logs["items"].as_array().unwrap().iter();
        let own = lines.filter(|line| line["device"] == device && line["text"] == "tick");
        own.map(|line| line["timeMs"].as_u64().unwrap()).collect()
    }

    /// The first tick of a device after a time.
    fn wait_tick(&self, device: &str, after: u64) -> u64 {
        wait_until(&format!("{device} ticks"), || {
            let ticks = self.ticks(device);
            ticks.iter().copied().find(|at| *at > after).ok_or(ticks)
        })
    }

    fn lease(&self) -> Value {
        self.hub.workload("pump")["status"]["lease"].clone()
    }

    fn fence(&self) -> (u64, u64) {
        let lease = self.lease();
        let (incarnation, counter) = lease["fence"].as_str().unwrap().split_once('.').unwrap();
        (incarnation.parse().unwrap(), counter.parse().unwrap())
    }

    fn drain(&self, device: &str) {
        self.hub.post(&format!("/v1/devices/{device}/drain"), b"");
    }

    /// No tick of the first device is later than one of the second; the time between them.
    fn gap(&self) -> u64 {
        let (first, second) = (self.ticks("gw-1"), self.ticks("gw-2"));
        let (last, next) = (first.iter().max().unwrap(), second.iter().min().unwrap());
        assert!(last < next, "gw-1 ticked at {last}, gw-2 at {next} already");
        next - last
    }
}

tests::on_both_brokers!(
    c26_a_device_that_freezes_beyond_its_lease_never_runs_beside_the_next,
    what_a_drained_device_gives_back_runs_elsewhere_at_once,
);

fn c26_a_device_that_freezes_beyond_its_lease_never_runs_beside_the_next(broker: Broker) {
    let site = Site::new(broker);
    let before = site.fence();
    site.first.freeze();
    site.drain("gw-1");
    site.wait_tick("gw-2", 0);
    let gap = site.gap();
    assert!(gap >= LEASE_MS + MARGIN_MS - RENEWED_MS - 1_000, "gw-2 ran {gap} ms after gw-1");
    let lease = site.lease();
    assert_eq!((&lease["device"], &lease["state"]), (&json!("gw-2"), &json!("Held")), "{lease}");
    assert!(site.fence() > before);
    site.first.thaw();
    wait_until("gw-1 has heard that it runs nothing", || {
        let device = site.hub.get("/v1/devices/gw-1");
        let is_free = device["status"]["workloads"].as_array().is_some_and(Vec::is_empty);
        let synced = device["status"]["revision"]["synced"] == true;
        if is_free && synced { Ok(()) } else { Err(device) }
    });
    // What it said before is here, because the session in which it says that it is in sync came after it.
    site.gap();
    let newest = *site.ticks("gw-2").last().unwrap();
    site.wait_tick("gw-2", newest);
    site.gap();
}

fn what_a_drained_device_gives_back_runs_elsewhere_at_once(broker: Broker) {
    let mut site = Site::new(broker);
    let before = site.fence();
    site.drain("gw-1");
    site.wait_tick("gw-2", 0);
    let gap = site.gap();
    assert!(gap < LEASE_MS - RENEWED_MS, "gw-2 waited {gap} ms for what was given back");
    assert!(site.fence() > before);
    // An agent that is told to end gives back too, and begins anew under a higher fence.
    let held = site.fence();
    let last = *site.ticks("gw-2").last().unwrap();
    site.second.stop();
    wait_until("the lease has ended", || {
        let lease = site.lease();
        if lease["state"] == "Ended" { Ok(()) } else { Err(lease) }
    });
    site.second.run();
    site.wait_tick("gw-2", last + 1_000);
    assert!(site.fence() > held);
    let (_, described, _) = site.hub.cli(&["describe", "workload", "pump"]);
    assert!(described.contains("held by gw-2"), "{described}");
}

#[test]
fn c6_a_device_that_boots_waits_for_the_end_of_the_lease_before() {
    let mut site = Site::new(Broker::Embedded);
    let before = site.fence();
    let last = *site.ticks("gw-1").last().unwrap();
    site.first.kill();
    site.first.run();
    site.hub.wait_reason("pump", "WAITS_FOR_GRANT");
    // The log of the boot before ends somewhere here; the next line is of the new one.
    let next = site.wait_tick("gw-1", last + LEASE_MS / 2);
    assert!(next - last >= LEASE_MS + MARGIN_MS - RENEWED_MS - 1_000, "it ran again after {} ms", next - last);
    assert!(site.fence() > before);
    drop(site.directory);
}

#[test]
fn c1_a_hub_that_restarts_within_a_lease_disturbs_nothing() {
    let mut site = Site::new(Broker::Embedded);
    let before = site.fence();
    site.hub.kill();
    site.hub.run();
    site.hub.wait_online("gw-1");
    // The hub that was killed took with it what it had heard.
    let now = site.wait_tick("gw-1", 0);
    site.wait_tick("gw-1", now + LEASE_MS);
    assert_eq!(site.fence(), before, "it was renewed under the same right");
    let ticks = site.ticks("gw-1");
    let pause = ticks.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(pause < LEASE_MS / 2, "it stood still for {pause} ms");
}
