//! A microcontroller through everything, on this host: the shell of the firmware, byte for byte what a board runs, against a
//! real hub.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;
use std::time::Instant;
use tests::harness::{Agent, Hub, Mcu, Workload, wait_until};
use wire::hello::ResetCause;

const FRANKFURT: (f64, f64) = (8.6821, 50.1109);
const PARIS: (f64, f64) = (2.3522, 48.8566);
const HELLO: &[u8] = include_bytes!("../../functions/hello/hello.wasm");

#[test]
fn it_joins_from_a_token_and_is_online() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::start(directory.path());
    let mut mcu = Mcu::join(&hub, "mcu-1", FRANKFURT);
    let device = hub.get("/v1/devices/mcu-1");
    assert_eq!(device["status"]["class"], "mcu", "{device:#}");
    // The identity is in flash: nothing is asked of the hub but to be heard again.
    mcu.reset(ResetCause::Watchdog);
    mcu.wait_connected(2);
    hub.wait_online("mcu-1");
    assert!(!mcu.log().contains("not joined"), "{}", mcu.log());
}

fn hello() -> Workload {
    Workload::new("hello").every("200ms").config("the Rhine").limits(json!({"memory": "4KiB"})).on_every_device()
}

/// The number of the newest run that hello told of on a device.
fn last_run(hub: &Hub, device: &str) -> u64 {
    let lines = hub.lines_of("hello", device);
    lines.iter().rev().find_map(|line| line.rsplit("run ").next()?.parse().ok()).unwrap_or(0)
}

fn wait_run_above(hub: &Hub, device: &str, than: u64) -> u64 {
    wait_until(&format!("hello runs more than {than} times on {device}"), || {
        let last = last_run(hub, device);
        if last > than { Ok(last) } else { Err((last, hub.workload("hello"))) }
    })
}

fn region(hub: &Hub) {
    let spec = json!({"circle": {"center": [FRANKFURT.0, FRANKFURT.1], "radiusKm": 50}});
    let document =
        json!({"apiVersion": "fulmar/v1", "kind": "Region", "metadata": {"name": "rhine-main"}, "spec": spec});
    hub.put("/v1/regions/rhine-main", &document);
}

#[test]
fn a_function_comes_by_geography_to_a_microcontroller_and_linux_and_survives_hub_and_power() {
    let directory = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(directory.path());
    let mut here = Mcu::join(&hub, "mcu-fra", FRANKFURT);
    let there = Mcu::join(&hub, "mcu-par", PARIS);
    let linux = Agent::join(directory.path(), &hub, "gw-fra", FRANKFURT);
    region(&hub);
    hub.deploy(&hello().placed(json!({"within": ["rhine-main"]})), HELLO);
    let workload = hub.wait_running("hello");
    assert_eq!(workload["status"]["desired"], 2, "{workload:#}");
    let before = wait_run_above(&hub, "mcu-fra", 2);
    wait_run_above(&hub, "gw-fra", 2);
    assert!(hub.lines_of("hello", "mcu-par").is_empty(), "{}", there.log());
    // What runs does not need a hub, and neither does a boot: flash has set, artifact, and what the function remembers.
    hub.kill();
    here.reset(ResetCause::PowerOn);
    here.wait_log("1/0 starts");
    hub.run();
    hub.wait_online("mcu-fra");
    // The count went on where the flash left it, and nothing was fetched again.
    let after = wait_run_above(&hub, "mcu-fra", before);
    assert!(after > before, "{before} {after}");
    drop(linux);
}

#[test]
fn a_function_that_traps_never_takes_the_firmware_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::start(directory.path());
    let mcu = Mcu::join(&hub, "mcu-1", FRANKFURT);
    let trapping =
        wat::parse_str(r#"(module (func (export "fulmar_timer") unreachable) (@custom "fulmar.abi" "\01"))"#);
    let spinning =
        wat::parse_str(r#"(module (func (export "fulmar_timer") (loop (br 0))) (@custom "fulmar.abi" "\01"))"#);
    let limited = |name: &str| Workload::new(name).every("100ms").limits(json!({"memory": "4KiB"}));
    hub.deploy(&limited("trapping"), &trapping.unwrap());
    hub.deploy(&limited("spinning"), &spinning.unwrap());
    hub.deploy(&hello(), HELLO);
    let reason = |name: &str, code: &str| {
        wait_until(&format!("{name} is reported as {code}"), || {
            let workload = hub.workload(name);
            if workload.to_string().contains(code) { Ok(()) } else { Err(workload) }
        });
    };
    reason("trapping", "TRAPPED");
    reason("spinning", "OUT_OF_FUEL");
    wait_run_above(&hub, "mcu-1", 2);
    assert_eq!(mcu.log().matches("the agent starts").count(), 1, "{}", mcu.log());
}

/// Far above what a device needs that waits for the watchdog, its functions and an answer; a loop without rest makes thousands.
const WAITS_PER_SECOND_MAX: u64 = 40;

#[test]
fn a_hub_that_it_does_not_understand_costs_it_no_rest() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::start(directory.path());
    let mut mcu = Mcu::join(&hub, "mcu-1", FRANKFURT);
    hub.deploy(&hello(), HELLO);
    wait_run_above(&hub, "mcu-1", 2);
    mcu.cut_power();
    mcu.estrange();
    mcu.switch_on(ResetCause::PowerOn);
    let (begin, before) = (Instant::now(), mcu.waits());
    // Three greetings are three chances to go wild; what runs goes on meanwhile.
    wait_until("the hub hears nothing that it believes", || {
        let device = hub.get("/v1/devices/mcu-1");
        let conditions = device["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let said = conditions.iter().filter_map(|condition| condition["message"].as_str());
        let count = said.filter_map(|text| text.strip_suffix(" messages were not authentic since the hub started"));
        match count.filter_map(|count| count.parse::<u64>().ok()).max() {
            Some(count) if count >= 3 => Ok(()),
            _ => Err(device),
        }
    });
    let (waits, seconds) = (mcu.waits() - before, begin.elapsed().as_secs().max(1));
    assert!(waits <= seconds * WAITS_PER_SECOND_MAX, "{waits} waits in {seconds} s\n{}", mcu.log());
}
