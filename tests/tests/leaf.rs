//! A device without a network behind a gateway, on this host: the shell of the firmware on a serial line, a real agent as the
//! gateway, a real hub; and somebody on the line who changes what he hands on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;
use std::path::{Path, PathBuf};
use tests::harness::leaf::Middle;
use tests::harness::{Agent, Hub, Mcu, Workload, wait_until};
use wire::hello::ResetCause;

const FRANKFURT: (f64, f64) = (8.6821, 50.1109);
const HELLO: &[u8] = include_bytes!("../../functions/hello/hello.wasm");

fn port(directory: &Path) -> PathBuf {
    directory.join("leaf.line")
}

/// A gateway that relays for the line at `path`.
fn gateway(directory: &Path, hub: &Hub, path: &Path) -> Agent {
    let mut gateway = Agent::enrol(directory, &hub.join_token(true), "gw-1", FRANKFURT);
    gateway.run_with(&["--leaves", &format!("unix:{}", path.display())]);
    hub.wait_online("gw-1");
    gateway
}

fn leaf(directory: &Path, hub: &Hub) -> Mcu {
    let mut leaf = Mcu::leaf(&hub.join_token(true), "leaf-1", FRANKFURT, &port(directory));
    leaf.switch_on(ResetCause::PowerOn);
    leaf
}

fn condition(hub: &Hub, name: &str) -> Option<serde_json::Value> {
    let device = hub.get("/v1/devices/leaf-1");
    let all = device["status"]["conditions"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|condition| condition["type"] == name)
}

fn wait_condition(hub: &Hub, name: &str, reason: &str) {
    wait_until(&format!("leaf-1 is {name}: {reason}"), || {
        let found = condition(hub, name);
        if found.as_ref().is_some_and(|found| found["reason"] == reason) {
            Ok(())
        } else {
            Err(hub.get("/v1/devices/leaf-1"))
        }
    });
}

#[test]
fn a_leaf_joins_and_works_through_its_gateway_and_each_of_them_may_go() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::start(directory.path());
    let mut leaf = leaf(directory.path(), &hub);
    let mut gateway = gateway(directory.path(), &hub, &port(directory.path()));
    leaf.wait_connected(1);
    hub.wait_online("leaf-1");
    let device = hub.get("/v1/devices/leaf-1");
    assert_eq!(
        (&device["status"]["class"], &device["status"]["behind"]),
        (&json!("mcu"), &json!("gw-1")),
        "{device:#}"
    );
    hub.deploy(&Workload::new("hello").every("200ms").limits(json!({"memory": "4KiB"})).on_every_device(), HELLO);
    hub.wait_running("hello");
    let lines = |at_least: usize| {
        wait_until("hello speaks on the leaf", || {
            let count = hub.lines_of("hello", "leaf-1").len();
            if count >= at_least { Ok(count) } else { Err(count) }
        })
    };
    let before = lines(3);
    // The gateway goes as in a power cut: the hub tells that from a leaf whose line was lost.
    gateway.kill();
    wait_condition(&hub, "Relayed", "GatewayLost");
    gateway.run_with(&["--leaves", &format!("unix:{}", port(directory.path()).display())]);
    hub.wait_online("leaf-1");
    // It went on meanwhile, and what it said is told.
    lines(before + 10);
    assert_eq!(leaf.log().matches("the agent starts").count(), 1, "{}", leaf.log());
    // The leaf goes, and the gateway stays.
    leaf.cut_power();
    wait_condition(&hub, "Relayed", "LineLost");
    leaf.switch_on(ResetCause::PowerOn);
    hub.wait_online("leaf-1");
    assert!(condition(&hub, "Relayed").is_none());
}

#[test]
fn a_relay_that_changes_what_a_leaf_says_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::start(directory.path());
    let middle = Middle::before(&port(directory.path()));
    let mut leaf = leaf(directory.path(), &hub);
    let _gateway = gateway(directory.path(), &hub, &middle.path);
    leaf.wait_connected(1);
    hub.wait_online("leaf-1");
    assert_eq!(middle.up.done(), 0);
    assert!(condition(&hub, "NotAuthentic").is_none());
    // One bit of each message, behind a right checksum.
    middle.up.every_message();
    leaf.reset(ResetCause::PowerOn);
    wait_condition(&hub, "NotAuthentic", "BadTag");
    assert!(middle.up.done() > 0);
    assert_ne!(hub.get("/v1/devices/leaf-1")["status"]["online"]["state"], "Online");
    // Nothing of it stuck.
    middle.up.nothing();
    hub.wait_online("leaf-1");
}

#[test]
fn a_relay_that_changes_what_the_hub_says_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::start(directory.path());
    let middle = Middle::before(&port(directory.path()));
    let mut leaf = leaf(directory.path(), &hub);
    let _gateway = gateway(directory.path(), &hub, &middle.path);
    leaf.wait_connected(1);
    hub.wait_online("leaf-1");
    middle.down.every_message();
    hub.deploy(&Workload::new("hello").every("200ms").limits(json!({"memory": "4KiB"})).on_every_device(), HELLO);
    // The set reached the leaf, more than once, and was not taken.
    wait_until("the set was changed on its way", || {
        let changed = middle.down.done();
        if changed >= 3 { Ok(()) } else { Err(changed) }
    });
    let device = hub.get("/v1/devices/leaf-1");
    assert_eq!(device["status"]["revision"]["accepted"], "", "{device:#}");
    assert!(!leaf.log().contains("1/0 starts"), "{}", leaf.log());
    // To the leaf it was as if nothing had come; it asks again when it has a reason to.
    middle.down.nothing();
    leaf.reset(ResetCause::PowerOn);
    leaf.wait_log("1/0 starts");
    hub.wait_running("hello");
}
