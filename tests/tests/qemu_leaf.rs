//! A board without a network in QEMU: the firmware that ships on an emulated serial line, a real agent as its gateway, a real hub.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;
use std::path::Path;
use tests::harness::board::{Board, provision_for};
use tests::harness::{Agent, Hub, Workload, wait_until};
use wire::position::Position;

const LEAF: &str = "qemu-mps2-an386-leaf";
const FRANKFURT: (f64, f64) = (8.6821, 50.1109);
const AT_FRANKFURT: Position = Position { longitude_e7: 86_821_000, latitude_e7: 501_109_000, uncertainty_m: 10 };
const HELLO: &[u8] = include_bytes!("../../functions/hello/hello.wasm");

fn last_run(hub: &Hub) -> u64 {
    let lines = hub.lines_of("hello", "porch");
    lines.iter().rev().find_map(|line| line.rsplit("run ").next()?.parse().ok()).unwrap_or(0)
}

fn wait_run_above(hub: &Hub, than: u64) -> u64 {
    wait_until(&format!("hello runs more than {than} times"), || {
        let last = last_run(hub);
        if last > than { Ok(last) } else { Err((last, hub.workload("hello"))) }
    })
}

fn lines(flash: &Path) -> String {
    format!("unix:{}.line", flash.display())
}

#[test]
fn a_board_without_a_network_joins_and_works_behind_a_gateway_which_may_go_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path());
    let flash = folder.path().join("flash");
    provision_for(&hub, &flash, LEAF, Some(AT_FRANKFURT));
    let mut board = Board::start(LEAF, &flash);
    let mut gateway = Agent::enrol(folder.path(), &hub.join_token(true), "gw-1", FRANKFURT);
    gateway.run_with(&["--leaves", &lines(&flash)]);
    hub.wait_online("gw-1");
    board.wait_line("line: open, behind ");
    board.wait_line("connected to the broker");
    hub.wait_online("porch");
    let device = hub.get("/v1/devices/porch");
    let (status, name) = (&device["status"], &json!("gw-1"));
    assert_eq!((&status["class"], &status["behind"]), (&json!("mcu"), name), "{device:#}");
    let spec = json!({"circle": {"center": [FRANKFURT.0, FRANKFURT.1], "radiusKm": 50}});
    let region = json!({"apiVersion": "fulmar/v1", "kind": "Region", "metadata": {"name": "rhine-main"}, "spec": spec});
    hub.put("/v1/regions/rhine-main", &region);
    let hello = Workload::new("hello").every("200ms").config("the Rhine").limits(json!({"memory": "4KiB"}));
    // On the gateway, too: it stands in the same place.
    hub.deploy(&hello.on_every_device().placed(json!({"within": ["rhine-main"]})), HELLO);
    hub.wait_running("hello");
    let before = wait_run_above(&hub, 2);
    // The gateway goes as in a power cut. The leaf runs on, and is back by itself.
    gateway.kill();
    board.wait_line("what runs goes on");
    gateway.run_with(&["--leaves", &lines(&flash)]);
    hub.wait_online("porch");
    wait_run_above(&hub, before + 10);
    assert_eq!(board.seen().iter().filter(|line| line.contains("the agent starts")).count(), 1);
    // The board's power goes, and what it has in flash starts before anybody is asked.
    board.cut_power();
    let mut board = Board::power_up(LEAF, &flash);
    board.wait_line("1/0 starts");
    hub.wait_online("porch");
    wait_run_above(&hub, before + 12);
}
