//! `fulmar chaos` with a real demonstration fleet: what each fault does, that it ends, and who is left alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use std::process::{Command, Stdio};
use tests::harness::{Hub, Workload, free_port, program, wait_until};

const HELLO: &[u8] = include_bytes!("../../functions/hello/hello.wasm");
const DEVICES: usize = 6;

/// A demonstration in the background. Ended when dropped.
struct Demo {
    directory: tempfile::TempDir,
    hub: Hub,
}

impl Demo {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ports = [free_port(), free_port()];
        let hub = Hub::attach(&directory.path().join("data"), ports[0], ports[1]);
        let demo = Self { directory, hub };
        let [api, broker] = ports.map(|port| format!("127.0.0.1:{port}"));
        let devices = DEVICES.to_string();
        let up = ["up", "--demo", "--no-agent", "--detach", "--devices", &devices, "--api", &api, "--broker", &broker];
        let (code, out, err) = demo.run(&up);
        assert!(code == 0 && out.contains("6/6 online"), "{out}{err}");
        demo.hub.deploy(&pulse(1), HELLO);
        demo.hub.wait_running("pulse");
        demo
    }

    /// As its operator.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(program("fulmar"))
            .args(arguments)
            .env("FULMAR_DATA", self.hub.data())
            .env("XDG_STATE_HOME", self.directory.path().join("state"))
            .env("XDG_CONFIG_HOME", self.directory.path().join("config"))
            .env_remove("FULMAR_CONTEXT")
            .env_remove("FULMAR_SERVER")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    fn chaos(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.run(&[&["chaos"], arguments].concat());
        assert_eq!(code, 0, "{arguments:?}: {out}{err}");
        out
    }

    fn is_online(&self, device: &str) -> bool {
        self.hub.get(&format!("/v1/devices/{device}"))["status"]["online"]["state"] == "Online"
    }

    fn wait_gone(&self, device: &str) {
        wait_until(&format!("{device} is missed"), || if self.is_online(device) { Err("online") } else { Ok(()) });
    }

    /// Numbers of the runs that a device told of.
    fn runs(&self, device: &str) -> Vec<u64> {
        let number = |line: &String| line.rsplit("run ").next().and_then(|text| text.parse().ok());
        self.hub.lines_of("pulse", device).iter().filter_map(number).collect()
    }

    fn wait_run_above(&self, device: &str, than: u64) -> Vec<u64> {
        wait_until(&format!("{device} runs more than {than} times"), || {
            let runs = self.runs(device);
            if runs.last().is_some_and(|last| *last > than) { Ok(runs) } else { Err(runs) }
        })
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.hub.data().join("fleet/fleet.log")).unwrap_or_default();
            eprintln!("--- fleet.log\n{log}");
        }
        let (_, out, err) = self.run(&["down"]);
        if !std::thread::panicking() {
            assert!(out.contains("ended"), "{out}{err}");
        }
    }
}

fn pulse(version: u32) -> Workload {
    let workload = Workload::new("pulse").every("1s").config(&format!("version {version}")).on_every_device();
    workload.placed(json!({"labels": {"simulated": "true"}}))
}

fn last(runs: &[u64]) -> u64 {
    runs.last().copied().unwrap_or(0)
}

#[test]
fn every_fault_does_what_it_says_ends_by_itself_and_leaves_the_others_alone() {
    let demo = Demo::start();
    let before = last(&demo.wait_run_above("sim-ber-01", 2));

    // Two names, one with its kind; the rest is not touched.
    let out = demo.chaos(&["partition", "--on", "sim-ber-01,device/sim-ham-01", "--for", "15s"]);
    assert!(out.contains("chaos 1: partition on 2 devices (sim-ber-01, sim-ham-01) for 15s"), "{out}");
    demo.wait_gone("sim-ber-01");
    demo.wait_gone("sim-ham-01");
    assert!(demo.is_online("sim-fra-01") && demo.is_online("sim-mnz-01"));
    let listed: Value = serde_json::from_str(&demo.chaos(&["list", "-o", "json"])).unwrap();
    assert_eq!((&listed["items"][0]["fault"], &listed["items"][0]["id"]), (&json!("partition"), &json!(1)));
    // By itself: nobody ends it.
    demo.hub.wait_online("sim-ber-01");
    demo.hub.wait_online("sim-ham-01");
    let told = demo.wait_run_above("sim-ber-01", before + 10);
    assert!(told.windows(2).all(|two| two[0] + 1 == two[1]), "it ran on, and told all of it: {told:?}");
    assert_eq!(demo.chaos(&["list"]), "", "nothing goes on");

    // Without power; what it remembers is there when it is back.
    let before = last(&demo.wait_run_above("sim-fra-01", 2));
    demo.chaos(&["kill", "--on", "site=fra", "--for", "4s"]);
    demo.wait_gone("sim-fra-01");
    demo.hub.wait_online("sim-fra-01");
    let told = demo.wait_run_above("sim-fra-01", before);
    assert!(told.windows(2).all(|two| two[0] < two[1]), "the count began again: {told:?}");

    // Its clock is ten hours behind and its link is slow: nothing changes.
    let restarts = || demo.hub.workload("pulse")["status"]["devices"].to_string();
    let before = last(&demo.runs("sim-cgn-01"));
    demo.chaos(&["clock-skew", "--by", "-10h", "--on", "sim-cgn-01"]);
    demo.chaos(&["latency", "--by", "300ms", "--on", "sim-cgn-01"]);
    let out = demo.chaos(&["list"]);
    assert!(out.contains("clock-skew of 10h behind") && out.contains("latency of 300ms each way"), "{out}");
    demo.wait_run_above("sim-cgn-01", before + 5);
    assert!(demo.is_online("sim-cgn-01"), "{}", restarts());
    assert_eq!(demo.chaos(&["stop"]).lines().count(), 2);

    // A disk that takes nothing: the new version waits, the old one goes on, and it comes when there is room.
    demo.chaos(&["disk-full", "--on", "sim-muc-01"]);
    demo.hub.deploy(&pulse(2), HELLO);
    let versions = |workload: &Value| {
        let devices = workload["status"]["devices"].as_array().unwrap();
        let running = |name: &str| devices.iter().find(|it| it["device"] == name).map(|it| it["running"].clone());
        (devices.iter().filter(|it| it["running"] == 2).count(), running("sim-muc-01"))
    };
    demo.hub.wait_workload("pulse", "is new everywhere but on the full disk", |workload| {
        versions(workload) == (DEVICES - 1, Some(json!(1)))
    });
    demo.chaos(&["stop"]);
    demo.hub.wait_workload("pulse", "is new on every device", |workload| versions(workload).0 == DEVICES);

    // Resets in a row.
    let before = last(&demo.runs("sim-mnz-01"));
    demo.chaos(&["kill", "--every", "3s", "--on", "sim-mnz-01", "--for", "8s"]);
    wait_until("the fault is over", || {
        let out = demo.chaos(&["list"]);
        if out.is_empty() { Ok(()) } else { Err(out) }
    });
    demo.hub.wait_online("sim-mnz-01");
    demo.wait_run_above("sim-mnz-01", before);
}

#[test]
fn what_is_no_simulated_device_is_refused_and_nothing_happens() {
    let demo = Demo::start();
    let refused = |arguments: &[&str], exit: i32, code: &str| {
        let (got, out, err) = demo.run(&[&["chaos"], arguments].concat());
        assert!(
            got == exit && err.contains(&format!("error[{code}]")) && out.is_empty(),
            "{arguments:?}: {got} {out}{err}"
        );
    };
    refused(&["partition", "--on", "dev/gw-1"], 8, "NO_SIMULATED");
    refused(&["partition", "--on", "site=nowhere"], 8, "NO_SIMULATED");
    refused(&["partition", "--on", "sim-fra-01", "--for", "2h"], 2, "USAGE");
    refused(&["latency", "--by", "2m", "--on", "all"], 2, "USAGE");
    refused(&["stop", "7"], 8, "NO_FAULT");
    refused(&["partition", "--on", "all", "--readonly"], 9, "READONLY");
    refused(&["partition", "--on", "all", "--server", "http://127.0.0.1:1"], 1, "NO_DEMO");
    let (code, _, err) = demo.run(&["chaos", "partition"]);
    assert!(code == 2 && err.contains("--on"), "{code} {err}");
    assert_eq!(demo.chaos(&["list"]), "");
    for device in ["sim-fra-01", "sim-ber-01"] {
        assert!(demo.is_online(device));
    }
}

#[test]
fn a_hub_with_real_devices_has_no_door_for_faults() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::start(directory.path());
    let _agent = tests::harness::Agent::join(directory.path(), &hub, "gw-1", (8.6821, 50.1109));
    let (code, out, err) = hub.cli(&["chaos", "partition", "--on", "gw-1"]);
    assert!(code == 1 && out.is_empty() && err.contains("error[NO_DEMO]"), "{out}{err}");
    assert!(err.contains("on purpose") && err.contains("fulmar up --demo"), "{err}");
    hub.wait_online("gw-1");
}
