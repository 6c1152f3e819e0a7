//! `fulmar up --demo` with the real programs: a simulated fleet comes up, does what it is told, leaves nothing, comes back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tests::harness::{Hub, Workload, free_port, program, wait_until};

const HELLO: &[u8] = include_bytes!("../../functions/hello/hello.wasm");
const DEVICES: usize = 12;
/// West, south, east, north.
const REGION: [f64; 4] = [5.8, 47.2, 15.1, 55.1];

/// Every process that names the directory.
fn processes_of(directory: &Path) -> String {
    let listed = Command::new("ps").args(["-eo", "pid,args"]).output().unwrap();
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let ours = directory.display().to_string();
    text.lines().filter(|line| line.contains(&ours)).collect::<Vec<_>>().join("\n")
}

/// A running `fulmar up`. Killed when dropped; its devices go with it.
struct Up(Child);

impl Up {
    /// Starts the fleet and waits until it says that it is ready; gives what it said.
    fn start(directory: &Path, log: &str, ports: [u16; 2]) -> (Self, String) {
        let path = directory.join(log);
        let log = std::fs::File::create(&path).unwrap();
        let [api, broker] = ports.map(|port| format!("127.0.0.1:{port}"));
        let process = Command::new(program("fulmar"))
            .args(["up", "--demo", "--devices", &DEVICES.to_string(), "--api", &api, "--broker", &broker, "--data"])
            .arg(directory.join("data"))
            .env("XDG_STATE_HOME", directory.join("state"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let up = Self(process);
        let said = wait_until("up prints the next command", || {
            let said = std::fs::read_to_string(&path).unwrap();
            if said.contains("Next:") { Ok(said) } else { Err(said) }
        });
        (up, said)
    }

    /// Ctrl-C, and the end in order.
    fn interrupt(mut self) {
        assert!(Command::new("kill").args(["-INT", &self.0.id().to_string()]).status().unwrap().success());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Id and revision of every device by its name.
fn identities(hub: &Hub) -> BTreeMap<String, (Value, Value)> {
    let list = hub.get("/v1/devices?limit=500");
    let devices = list["items"].as_array().unwrap();
    let entry = |device: &Value| {
        let name = device["metadata"]["name"].as_str().unwrap().to_owned();
        (name, (device["status"]["id"].clone(), device["status"]["revision"].clone()))
    };
    devices.iter().map(entry).collect()
}

/// Simulated devices with a sensor whose reported position is inside the region.
fn matching(hub: &Hub) -> BTreeSet<String> {
    let list = hub.get("/v1/devices?limit=500&labelSelector=sensor%3Dpm25");
    let inside = |device: &&Value| {
        let point = &device["status"]["position"]["point"];
        let [longitude, latitude] = [0, 1].map(|index| point[index].as_f64().unwrap());
        let [west, south, east, north] = REGION;
        (west..east).contains(&longitude) && (south..north).contains(&latitude)
    };
    let devices = list["items"].as_array().unwrap().iter().filter(inside);
    devices.map(|device| device["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// Name and count of restarts of every device that runs the workload.
fn placed(workload: &Value) -> BTreeMap<String, u64> {
    let devices = workload["status"]["devices"].as_array().unwrap();
    let entry = |device: &Value| (device["device"].as_str().unwrap().to_owned(), device["restarts"].as_u64().unwrap());
    devices.iter().map(entry).collect()
}

/// The highest number of runs that hello told of.
fn last_run(hub: &Hub) -> u64 {
    let lines = hub.lines("dust");
    lines.iter().filter_map(|line| line.rsplit("run ").next()?.parse().ok()).max().unwrap_or(0)
}

#[test]
fn a_simulated_fleet_comes_up_works_leaves_nothing_and_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let ports = [free_port(), free_port()];
    let (up, said) = Up::start(directory, "first.log", ports);
    assert!(said.contains("12 simulated   1 linux (this machine)   13/13 online"), "{said}");
    assert!(!directory.join("data/fleet/tokens").exists(), "tokens are removed when all have joined");

    let hub = Hub::attach(&directory.join("data"), ports[0], ports[1]);
    let [west, south, east, north] = REGION;
    let ring = [[west, south], [east, south], [east, north], [west, north], [west, south]];
    let geometry = json!({"type": "Polygon", "coordinates": [ring]});
    hub.put(
        "/v1/regions/middle",
        &json!({"apiVersion": "fulmar/v1", "kind": "Region", "metadata": {"name": "middle"}, "spec": {"geometry": geometry}}),
    );
    let workload = Workload::new("dust").every("1s").on_every_device();
    let workload = workload.placed(json!({"within": ["middle"], "labels": {"sensor": "pm25"}}));
    hub.deploy(&workload, HELLO);
    let wanted = matching(&hub);
    assert!(wanted.len() >= 4 && wanted.len() < DEVICES, "{wanted:?}");
    let first = hub.wait_workload("dust", "runs on every match", |workload| {
        placed(workload).len() == wanted.len() && workload["status"]["running"] == json!(wanted.len())
    });
    assert_eq!(placed(&first).into_keys().collect::<BTreeSet<_>>(), wanted);
    hub.wait_line("dust", "run 2");
    let log = std::fs::read_to_string(directory.join("data/fleet/fleet.log")).unwrap();
    assert_eq!(log.matches("an artifact was fetched").count(), 1, "one copy for all devices");

    let before = identities(&hub);
    assert_eq!(before.len(), DEVICES + 1);
    let runs = last_run(&hub);
    up.interrupt();
    assert_eq!(processes_of(directory), "", "Ctrl-C leaves nothing behind");

    // The same devices, the same work, and what functions remember.
    let (up, said) = Up::start(directory, "second.log", ports);
    assert!(said.contains("13/13 online"), "{said}");
    let second = hub.wait_workload("dust", "runs on", |workload| {
        placed(workload) == placed(&first) && workload["status"]["running"] == json!(wanted.len())
    });
    assert_eq!(second["metadata"]["generation"], first["metadata"]["generation"]);
    assert_eq!(identities(&hub), before, "the same ids, and no new revision");
    wait_until("functions count on", || if last_run(&hub) > runs { Ok(()) } else { Err(hub.lines("dust")) });
    up.interrupt();
    assert_eq!(processes_of(directory), "");
}

#[test]
fn a_fleet_in_the_background_is_ended_by_down_and_its_temporary_data_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let temporary = directory.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let fulmar = |arguments: &[&str]| {
        let output = Command::new(program("fulmar"))
            .args(arguments)
            .env("TMPDIR", directory.path().join("tmp"))
            .env("XDG_STATE_HOME", directory.path().join("state"))
            .env_remove("FULMAR_DATA")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let texts = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(output.status.success(), "{arguments:?}: {texts:?}");
        texts
    };
    let ports = ["--api", "127.0.0.1:0", "--broker", "127.0.0.1:0"];
    let [out, said] = fulmar(&[&["up", "--demo", "--devices", "2", "--no-agent", "--detach"], &ports[..]].concat());
    assert!(out.contains("2 simulated   2/2 online"), "{out}{said}");
    let data = std::fs::read_dir(&temporary).unwrap().next().unwrap().unwrap().path();
    assert!(said.contains(&format!("fulmar down --data {}", data.display())), "{said}");
    assert_eq!(processes_of(directory.path()).lines().count(), 2, "the hub and the fleet");
    let data = data.display().to_string();
    let [out, _] = fulmar(&["status"]);
    assert!(out.contains("2 online of 2"), "a hub that runs on this machine is found without being named: {out}");
    let [out, _] = fulmar(&["down"]);
    assert!(out.contains("have ended"), "{out}");
    assert_eq!(processes_of(directory.path()), "");
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "the temporary directory is gone");
    let [_, said] = fulmar(&["down", "--data", &data]);
    assert!(said.contains("nothing runs"), "{said}");
}
