//! One device through everything, with the real programs: joined, placed, run, killed, cut off, and back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use tests::harness::{Agent, Broker, Hub, Mosquitto, PATIENCE, Workload, free_port, wait_until};

const FRANKFURT: (f64, f64) = (8.6821, 50.1109);
const PARIS: (f64, f64) = (2.3522, 48.8566);
const HELLO: &[u8] = include_bytes!("../../functions/hello/hello.wasm");

/// A module of the function interface from its text.
fn module(body: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {body} (@custom \"fulmar.abi\" \"\\01\"))")).unwrap()
}

/// Logs a text at every tick.
fn ticking(text: &str) -> Vec<u8> {
    module(&format!(
        r#"(import "fulmar" "log" (func $log (param i32 i32 i32) (result i32)))
           (memory (export "memory") 1) (data (i32.const 0) "{text}")
           (func (export "fulmar_timer") (drop (call $log (i32.const 2) (i32.const 0) (i32.const {}))))"#,
        text.len()
    ))
}

/// The number of the newest run that hello told of.
fn runs(hub: &Hub, name: &str) -> Vec<u64> {
    let number = |line: &String| line.rsplit("run ").next().and_then(|text| text.parse().ok());
    hub.lines(name).iter().filter(|line| line.starts_with("hello from")).filter_map(number).collect()
}

/// Waits until hello told of a run above `than`.
fn wait_run_above(hub: &Hub, name: &str, than: u64) -> u64 {
    wait_until(&format!("{name} runs more than {than} times"), || {
        let all = runs(hub, name);
        all.last().copied().filter(|last| *last > than).ok_or(all)
    })
}

fn restarts(workload: &Value) -> u64 {
    workload["status"]["devices"][0]["restarts"].as_u64().unwrap()
}

tests::on_both_brokers!(
    a_function_is_placed_by_geography_runs_and_logs,
    an_unapproved_device_gets_nothing_until_it_is_approved,
    a_token_joins_one_device_only,
    a_killed_hub_disturbs_nothing,
    a_broker_that_lost_everything_is_filled_again,
    an_acknowledged_write_survives_a_kill,
    a_killed_agent_comes_back_with_its_state,
    a_device_that_boots_offline_runs_what_it_knew,
    changes_wait_for_a_device_that_is_away,
    c14_a_bad_version_is_rolled_back_with_its_reason,
    hostile_modules_are_contained_and_explained,
    a_growing_guest_stays_inside_its_limit,
    emitted_events_reach_subscribed_functions,
    logs_can_be_followed,
    what_is_not_built_is_refused_and_named,
    the_example_of_the_placement_page_is_accepted,
);

struct Site {
    directory: tempfile::TempDir,
    hub: Hub,
}

impl Site {
    fn new(broker: Broker) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let hub = Hub::start_on(directory.path(), broker);
        Self { directory, hub }
    }

    fn agent(&self, name: &str, place: (f64, f64)) -> Agent {
        Agent::join(self.directory.path(), &self.hub, name, place)
    }

    /// One agent in Frankfurt with hello running on it.
    fn with_hello(broker: Broker) -> (Self, Agent) {
        let site = Self::new(broker);
        let agent = site.agent("gw-1", FRANKFURT);
        site.hub.deploy(&Workload::new("hello").every("100ms").config("the test"), HELLO);
        site.hub.wait_running("hello");
        wait_run_above(&site.hub, "hello", 1);
        (site, agent)
    }
}

fn a_function_is_placed_by_geography_runs_and_logs(broker: Broker) {
    let site = Site::new(broker);
    let _frankfurt = site.agent("gw-fra", FRANKFURT);
    let _paris = site.agent("gw-par", PARIS);
    let ring = json!([[[8.0, 49.8], [9.2, 49.8], [9.2, 50.4], [8.0, 50.4], [8.0, 49.8]]]);
    let region = json!({"apiVersion": "fulmar/v1", "kind": "Region", "metadata": {"name": "rhine-main"},
        "spec": {"geometry": {"type": "Polygon", "coordinates": ring}}});
    site.hub.put("/v1/regions/rhine-main", &region);
    let placed = json!({"within": ["rhine-main"], "near": {"point": [8.7, 50.1], "maxKm": 100}});
    site.hub.deploy(&Workload::new("hello").every("100ms").config("the Rhine").placed(placed), HELLO);
    let workload = site.hub.wait_running("hello");
    let devices = workload["status"]["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 1, "{workload:#}");
    assert_eq!(devices[0]["device"], "gw-fra");
    assert_eq!(site.hub.wait_line("hello", "run 1"), "hello from the Rhine, run 1");
    // Counts of the explanation sum to the whole fleet, and Paris is out for its place.
    let (code, text, _) = site.hub.cli(&["explain", "placement", "hello"]);
    assert_eq!(code, 0);
    assert!(text.contains("gw-fra") && text.contains("2 devices considered"), "{text}");
    let (_, text, _) = site.hub.cli(&["explain", "placement", "hello", "--device", "gw-par"]);
    assert!(text.contains("OUTSIDE_REGION") || text.contains("rhine-main"), "{text}");
    // Away with it: the device stops it and says so.
    site.hub.remove("hello");
    wait_until("no device holds hello", || {
        let device = site.hub.get("/v1/devices/gw-fra");
        let held = device["status"]["workloads"].as_array().is_some_and(|workloads| !workloads.is_empty());
        if held { Err(device) } else { Ok(()) }
    });
}

fn an_unapproved_device_gets_nothing_until_it_is_approved(broker: Broker) {
    let site = Site::new(broker);
    let token = site.hub.join_token(false);
    let mut agent = Agent::enrol(site.directory.path(), &token, "gw-1", FRANKFURT);
    agent.run();
    site.hub.deploy(&Workload::new("hello").every("100ms"), HELLO);
    site.hub.wait_workload("hello", "is judged", |workload| {
        workload["status"]["observedGeneration"] == 1 && workload["status"]["placed"] == 0
    });
    let (_, text, _) = site.hub.cli(&["explain", "placement", "hello", "--device", "gw-1"]);
    assert!(text.contains("approve"), "{text}");
    let (code, _, error) = site.hub.cli(&["devices", "approve", "gw-1"]);
    assert_eq!(code, 0, "{error}");
    // A refused device comes back after the hint of the refusal; a new start does not wait for it.
    agent.kill();
    agent.run();
    site.hub.wait_running("hello");
}

fn a_token_joins_one_device_only(broker: Broker) {
    let site = Site::new(broker);
    let token = site.hub.join_token(true);
    let _first = Agent::enrol(site.directory.path(), &token, "gw-1", FRANKFURT);
    let refused = std::process::Command::new(tests::harness::program("fulmar-agent"))
        .args(["join", &token, "--name", "gw-2", "--at", "50.1,8.6", "--data"])
        .arg(site.directory.path().join("gw-2"))
        .output()
        .unwrap();
    assert!(!refused.status.success());
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("token"), "{text}");
}

/// C1: the hub is gone; what runs, runs on, and nothing is restarted when it comes back.
fn a_killed_hub_disturbs_nothing(broker: Broker) {
    let (mut site, agent) = Site::with_hello(broker);
    let before = *runs(&site.hub, "hello").last().unwrap();
    site.hub.kill();
    let then = agent.state();
    wait_until("the function counts on without the hub", || {
        if agent.state() == then { Err("same state") } else { Ok(()) }
    });
    site.hub.run();
    site.hub.wait_online("gw-1");
    let after = wait_run_above(&site.hub, "hello", before);
    assert!(after > before);
    let workload = site.hub.wait_running("hello");
    assert_eq!(restarts(&workload), 0, "{workload:#}");
    // One start in the life of the agent: the count never began again, and none of the runs since is missing or told twice.
    let told = runs(&site.hub, "hello");
    assert!(told.windows(2).all(|two| two[0] < two[1]), "{told:?}");
}

/// C2: the broker comes back with nothing in its memory; devices return by jitter, and nothing is restarted.
fn a_broker_that_lost_everything_is_filled_again(broker: Broker) {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("hub");
    let (api, port) = (free_port(), free_port());
    let mut config = hub::hub::HubConfig::new(&data);
    config.api = ([127, 0, 0, 1], api).into();
    config.broker = ([127, 0, 0, 1], port).into();
    let mut mosquitto = (broker == Broker::Mosquitto).then(|| Mosquitto::start(directory.path()));
    config.external = mosquitto.as_ref().map(Mosquitto::external);
    let running = hub::hub::Hub::start(config).unwrap();
    let mut lose = || match &mut mosquitto {
        Some(mosquitto) => mosquitto.lose_everything(),
        None => running.restart_broker().unwrap(),
    };
    let hub = Hub::attach(&data, api, port);
    let mut agent = Agent::join(directory.path(), &hub, "gw-1", FRANKFURT);
    hub.deploy(&Workload::new("hello").every("100ms"), HELLO);
    hub.wait_running("hello");
    let before = wait_run_above(&hub, "hello", 1);
    lose();
    hub.wait_workload("hello", "is on its way back", |_| true);
    wait_until("lines come again over the new broker", || {
        let all = runs(&hub, "hello");
        all.last().filter(|last| **last > before + 20).map(|_| ()).ok_or(all)
    });
    assert_eq!(restarts(&hub.wait_running("hello")), 0);
    // The retained set is there again: a device that boots now gets it from the broker alone.
    agent.kill();
    hub.deploy(&Workload::new("other").every("100ms"), &ticking("other ticks"));
    lose();
    agent.run();
    hub.wait_running("other");
    drop(agent);
    running.stop();
}

/// An acknowledged write is there after the hub was killed at once.
fn an_acknowledged_write_survives_a_kill(broker: Broker) {
    let mut site = Site::new(broker);
    for number in 0..5 {
        let name = format!("region-{number}");
        let region = json!({"apiVersion": "fulmar/v1", "kind": "Region", "metadata": {"name": name},
            "spec": {"circle": {"center": [8.0, 50.0], "radiusKm": 5}}});
        let version = site.hub.put(&format!("/v1/regions/{name}"), &region)["metadata"]["resourceVersion"].clone();
        site.hub.kill();
        site.hub.run();
        assert_eq!(site.hub.get(&format!("/v1/regions/{name}"))["metadata"]["resourceVersion"], version);
    }
}

/// The agent is killed: it starts again from its journal and the function goes on with its state.
fn a_killed_agent_comes_back_with_its_state(broker: Broker) {
    let (site, mut agent) = Site::with_hello(broker);
    let before = *runs(&site.hub, "hello").last().unwrap();
    agent.kill();
    agent.run();
    wait_run_above(&site.hub, "hello", before);
    let told = runs(&site.hub, "hello");
    assert!(told.windows(2).all(|two| two[0] < two[1]), "the count began again: {told:?}");
    site.hub.wait_running("hello");
}

/// The machine reboots while it is offline: no hub, no broker, and the function runs.
fn a_device_that_boots_offline_runs_what_it_knew(broker: Broker) {
    let (mut site, mut agent) = Site::with_hello(broker);
    agent.kill();
    site.hub.kill();
    let then = agent.state();
    assert!(!then.is_empty());
    agent.run();
    wait_until("the function counts offline", || if agent.state() == then { Err("same state") } else { Ok(()) });
    site.hub.run();
    site.hub.wait_online("gw-1");
    let workload = site.hub.wait_running("hello");
    assert_eq!(restarts(&workload), 0, "{workload:#}");
    wait_run_above(&site.hub, "hello", 0);
}

/// What was changed while a device was away is applied when it returns.
fn changes_wait_for_a_device_that_is_away(broker: Broker) {
    let (site, mut agent) = Site::with_hello(broker);
    agent.kill();
    site.hub.remove("hello");
    site.hub.deploy(&Workload::new("other").every("100ms"), &ticking("other ticks"));
    agent.run();
    site.hub.wait_running("other");
    site.hub.wait_line("other", "other ticks");
    wait_until("hello is gone from the device", || {
        let device = site.hub.get("/v1/devices/gw-1");
        if device["status"]["workloads"].to_string().contains("hello") { Err(device) } else { Ok(()) }
    });
}

/// A new version replaces the old one; a bad one is taken back, and the operator reads why (W5, C14).
fn c14_a_bad_version_is_rolled_back_with_its_reason(broker: Broker) {
    let site = Site::new(broker);
    let _agent = site.agent("gw-1", FRANKFURT);
    site.hub.deploy(&Workload::new("app").every("100ms"), &ticking("version one"));
    site.hub.wait_running("app");
    site.hub.wait_line("app", "version one");
    site.hub.deploy(&Workload::new("app").every("100ms"), &ticking("version two"));
    site.hub.wait_running("app");
    site.hub.wait_line("app", "version two");
    // The second version has to prove itself before it is what a bad one falls back to.
    wait_until("version two is the last good one", || {
        let device = site.hub.get("/v1/devices/gw-1");
        let settled = device["status"]["uptimeS"].as_u64().unwrap_or(0);
        if settled >= 15 { Ok(()) } else { Err(device) }
    });
    site.hub.deploy(&Workload::new("app").every("100ms"), &module(r#"(func (export "fulmar_start") unreachable)"#));
    let device = site.hub.wait_reason("app", "ROLLED_BACK");
    assert_eq!((device["generation"].as_u64(), device["running"].as_u64()), (Some(3), Some(2)), "{device:#}");
    let count = site.hub.lines("app").iter().filter(|line| *line == "version two").count();
    wait_until("version two runs again", || {
        let now = site.hub.lines("app").iter().filter(|line| *line == "version two").count();
        if now > count { Ok(()) } else { Err(now) }
    });
}

/// W1-W4, W8: whatever a module does, its neighbour runs on and the operator reads the reason.
fn hostile_modules_are_contained_and_explained(broker: Broker) {
    let (site, _agent) = Site::with_hello(broker);
    let import = |what: &str| module(&format!(r#"(import "fulmar" "{what}" (func)) (func (export "fulmar_timer"))"#));
    let hostile: [(&str, Vec<u8>, &[&str]); 7] = [
        ("loops", module(r#"(func (export "fulmar_timer") (loop $l (br $l)))"#), &["OUT_OF_FUEL"]),
        (
            "starts-for-ever",
            module(r#"(func $s (loop $l (br $l))) (start $s) (func (export "fulmar_timer"))"#),
            &["OUT_OF_FUEL", "LOAD_REFUSED"],
        ),
        ("recurses", module(r#"(func $f (export "fulmar_timer") (call $f))"#), &["TRAPPED", "OUT_OF_FUEL"]),
        ("traps", module(r#"(func (export "fulmar_timer") unreachable)"#), &["TRAPPED"]),
        ("imports", import("launch_missiles"), &["LOAD_REFUSED"]),
        (
            "lies",
            module(r#"(memory (export "memory") 65536) (func (export "fulmar_timer"))"#),
            &["LOAD_REFUSED", "OUT_OF_MEMORY"],
        ),
        (
            "reads-beyond",
            module(
                r#"(import "fulmar" "log" (func $log (param i32 i32 i32) (result i32))) (memory (export "memory") 1)
                   (func (export "fulmar_timer") (if (i32.ne (call $log (i32.const 2) (i32.const -8) (i32.const 64)) (i32.const -2)) (then unreachable))
                     (drop (call $log (i32.const 2) (i32.const 0) (i32.const 1))))"#,
            ),
            &["NONE"],
        ),
    ];
    for (name, module, _) in &hostile {
        site.hub.deploy(&Workload::new(name).every("200ms"), module);
    }
    for (name, _, reasons) in &hostile {
        if reasons == &["NONE"] {
            site.hub.wait_running(name);
            continue;
        }
        let device = wait_until(&format!("{name} is explained"), || {
            let workload = site.hub.workload(name);
            let device = workload["status"]["devices"][0].clone();
            let reason = device["reason"].as_str().unwrap_or_default().to_owned();
            if reasons.contains(&reason.as_str()) { Ok(device) } else { Err(workload) }
        });
        assert!(device["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{name}: {device:#}");
    }
    let device = site.hub.wait_reason("imports", "LOAD_REFUSED");
    assert!(device["detail"].as_str().unwrap().contains("launch_missiles"), "{device:#}");
    let (_, events, _) = site.hub.cli(&["events", "--tail", "200"]);
    assert!(events.contains("launch_missiles"), "the operator reads why in the events:\n{events}");
    // The neighbour never noticed.
    let last = *runs(&site.hub, "hello").last().unwrap();
    wait_run_above(&site.hub, "hello", last);
    assert_eq!(restarts(&site.hub.workload("hello")), 0);
}

/// W2: a guest that grows for ever stays inside its limit, and the agent's memory stays small.
fn a_growing_guest_stays_inside_its_limit(broker: Broker) {
    let site = Site::new(broker);
    let agent = site.agent("gw-1", FRANKFURT);
    let grows = module(
        r#"(import "fulmar" "log" (func $log (param i32 i32 i32) (result i32)))
           (memory (export "memory") 1) (data (i32.const 0) "grew to the limit")
           (func (export "fulmar_timer")
             (loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
             (drop (call $log (i32.const 2) (i32.const 0) (i32.const 17))))"#,
    );
    let limits = json!({"memory": "1MiB"});
    site.hub.deploy(&Workload::new("grows").every("100ms").limits(limits), &grows);
    site.hub.wait_line("grows", "grew to the limit");
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let resident: u64 =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok()).unwrap();
    assert!(resident < 64 * 1024, "the agent took {resident} KiB");
}

/// An emitted event reaches the functions that subscribed to its topic, on this device and on others.
fn emitted_events_reach_subscribed_functions(broker: Broker) {
    let site = Site::new(broker);
    let _one = site.agent("gw-1", FRANKFURT);
    let _two = site.agent("gw-2", PARIS);
    let emits = module(
        r#"(import "fulmar" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
           (memory (export "memory") 1) (data (i32.const 0) "site/doorbell") (data (i32.const 32) "ding")
           (func (export "fulmar_timer") (drop (call $emit (i32.const 0) (i32.const 13) (i32.const 32) (i32.const 4))))"#,
    );
    let hears = module(
        r#"(import "fulmar" "log" (func $log (param i32 i32 i32) (result i32)))
           (import "fulmar" "input_read" (func $read (param i32 i32 i32) (result i32)))
           (memory (export "memory") 1) (data (i32.const 0) "heard ")
           (func (export "fulmar_event") (local $n i32)
             (local.set $n (call $read (i32.const 0) (i32.const 6) (i32.const 64)))
             (drop (call $log (i32.const 2) (i32.const 0) (i32.add (i32.const 6) (local.get $n)))))"#,
    );
    site.hub.deploy(&Workload::new("ear").topics(&["site/doorbell"]).placed(json!({"on": ["gw-2"]})), &hears);
    site.hub.deploy(&Workload::new("near-ear").topics(&["site/#"]).placed(json!({"on": ["gw-1"]})), &hears);
    site.hub.wait_running("ear");
    site.hub.wait_running("near-ear");
    site.hub.deploy(&Workload::new("bell").every("200ms").placed(json!({"on": ["gw-1"]})), &emits);
    site.hub.wait_line("ear", "heard ding");
    site.hub.wait_line("near-ear", "heard ding");
}

/// Followed logs arrive while they are made.
fn logs_can_be_followed(broker: Broker) {
    let (site, _agent) = Site::with_hello(broker);
    let mut child = std::process::Command::new(tests::harness::program("fulmar"))
        .args(["logs", "-f", "--tail", "1", "wl/hello"])
        .env("FULMAR_DATA", site.hub.data())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    let output = std::io::BufReader::new(child.stdout.take().unwrap());
    let lines: Vec<String> = std::io::BufRead::lines(output).take(5).map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        std::time::Instant::now() < deadline && lines.iter().all(|line| line.contains("hello from the test, run")),
        "{lines:?}"
    );
}

/// A manifest that asks for what is not built is refused with its place; nothing is stored.
fn what_is_not_built_is_refused_and_named(broker: Broker) {
    let site = Site::new(broker);
    let document = json!({"apiVersion": "fulmar/v1", "kind": "Workload", "metadata": {"name": "w"}, "spec": {
        "type": "function", "artifact": format!("a@sha256:{}", "0".repeat(64)), "function": {}, "replicas": 1,
        "placement": {"labels": {"a": "b"}, "coverage": {"region": "city", "withinKm": 2}, "witin": ["x"]}}});
    let (status, problem) = site.hub.try_put("/v1/namespaces/default/workloads/w", &document);
    assert_eq!(status, 422, "{problem:#}");
    let text = problem.to_string();
    assert!(text.contains("/spec/placement/coverage") && text.contains("/spec/placement/witin"), "{problem:#}");
    assert!(text.contains("within"), "a misspelt field gets a suggestion: {problem:#}");
    let (code, _, error) = site.hub.cli(&["get", "workload", "w"]);
    assert_eq!(code, 8, "{error}");
}

/// The example of docs/placement.md, word for word, in a manifest.
fn the_example_of_the_placement_page_is_accepted(broker: Broker) {
    let site = Site::new(broker);
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = std::fs::read_to_string(root.join("docs/placement.md")).unwrap();
    let example = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let spec: String = example.lines().map(|line| format!("  {line}\n")).collect();
    let module = root.join("functions/hello/hello.wasm");
    let manifest = format!(
        "apiVersion: fulmar/v1\nkind: Region\nmetadata: {{name: vineyard-north}}\nspec:\n  circle: {{center: [8.0, 50.0], radiusKm: 9}}\n\
         ---\napiVersion: fulmar/v1\nkind: Workload\nmetadata: {{name: page}}\nspec:\n  type: function\n  artifact: file:{}\n  \
         function: {{triggers: {{every: 1s}}, capabilities: [state]}}\n{spec}",
        module.display()
    );
    let path = site.directory.path().join("page.yaml");
    std::fs::write(&path, &manifest).unwrap();
    let (code, out, error) = site.hub.cli(&["apply", "-f", path.to_str().unwrap()]);
    assert_eq!(code, 0, "{out}{error}\n{manifest}");
    let page = site.hub.wait_workload("page", "is judged", |workload| workload["status"]["observedGeneration"] == 1);
    assert_eq!((&page["status"]["fulfilment"], &page["status"]["desired"]), (&json!("waiting"), &json!(3)), "{page:#}");
}
