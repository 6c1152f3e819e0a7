//! Boards in QEMU with the firmware that ships: network, flash, and what a reset leaves behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use tests::harness::board::Board;
use tests::harness::{Agent, Hub, Workload, wait_until};
use wire::Digest;
use wire::join::{JoinToken, TOKEN_TEXT_BYTES_MAX};
use wire::limits::{JOIN_SECRET_BYTES, PROVISION_BYTES_MAX};
use wire::position::Position;
use wire::provision::{EntropySeed, MacAddress, Network, Provision, StaticAddress};
use wire::topic::TokenId;

const AN386: &str = "qemu-mps2-an386";
/// The number of the program counter in a debugger's view of a Cortex-M.
const PC: u32 = 15;
/// Memory behind everything that the firmware uses.
const UNUSED: u32 = 0x203f_fff0;
/// Thumb: a branch to itself, and an instruction that will never be one.
const SPIN: [u8; 2] = [0xfe, 0xe7];
const UNDEFINED: [u8; 2] = [0x00, 0xde];

/// The token of a hub that is not there.
fn token_of_nobody() -> JoinToken<'static> {
    JoinToken {
        id: TokenId([1; 8]),
        secret: [2; JOIN_SECRET_BYTES],
        fleet: "home",
        broker: "mqtt://192.0.2.2:1",
        certificate: None,
        hub: Digest([3; 32]),
    }
}

/// Writes what a flasher would.
fn provision(flash: &Path, board: &str, token: JoinToken<'_>, network: Network) {
    provision_at(flash, board, token, network, None);
}

fn provision_at(flash: &Path, board: &str, token: JoinToken<'_>, network: Network, position: Option<Position>) {
    let record = Provision {
        board,
        name: "porch",
        token,
        position,
        mac: MacAddress([2, 0, 0, 0, 0, 1]),
        network,
        wifi: None,
        seed: EntropySeed([7; 32]),
    };
    let mut buffer = [0; PROVISION_BYTES_MAX];
    let bytes = record.encode(&mut buffer).unwrap();
    OpenOptions::new().write(true).open(flash).unwrap().write_all_at(bytes, 0).unwrap();
}

#[test]
fn a_board_that_nobody_flashed_gets_an_address_and_says_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let mut board = Board::start(AN386, &folder.path().join("flash"));
    board.wait_line("fulmar on qemu-mps2-an386");
    board.wait_line("reset: PowerOn");
    board.wait_line("there is no provisioning record: flash the board");
    assert!(board.wait_line("network: ").contains("192.0.2.15/24"));
}

#[test]
fn a_flashed_board_takes_the_address_that_it_was_given_and_refuses_another_boards_record() {
    let folder = tempfile::tempdir().unwrap();
    let flash = folder.path().join("flash");
    let mut board = Board::start(AN386, &flash);
    board.wait_line("there is no provisioning record");
    board.cut_power();
    let fixed = StaticAddress { address: [192, 0, 2, 77], prefix: 24, gateway: Some([192, 0, 2, 2]), dns: None };
    provision(&flash, AN386, token_of_nobody(), Network::Static(fixed));
    let mut board = Board::start(AN386, &flash);
    board.wait_line("provisioned: porch");
    assert!(board.wait_line("network: ").contains("192.0.2.77/24"));
    board.cut_power();
    provision(&flash, "another-board", token_of_nobody(), Network::Static(fixed));
    let mut board = Board::start(AN386, &flash);
    board.wait_line("the provisioning record is for another-board");
    assert!(board.wait_line("network: ").contains("192.0.2.15/24"));
}

#[test]
fn the_reset_line_a_fault_and_a_hang_are_told_apart_by_the_next_boot() {
    let folder = tempfile::tempdir().unwrap();
    let mut board = Board::start(AN386, &folder.path().join("flash"));
    board.wait_line("network: ");
    board.control("system_reset");
    board.wait_line("reset: Pin, 1 since power came");
    board.wait_line("network: ");
    board.jump(PC, UNUSED, &UNDEFINED);
    board.wait_line("reset: Panic at 0x203ffff0, 2 since power came");
    board.wait_line("last words: fault, status 0x");
    board.wait_line("network: ");
    board.jump(PC, UNUSED, &SPIN);
    board.wait_line("watchdog at 0x203ffff0");
    board.wait_line("reset: Watchdog at 0x203ffff0, 3 since power came");
    board.wait_line("network: ");
}

#[test]
fn a_board_joins_a_hub_and_is_the_same_device_after_its_power_went() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path());
    let flash = folder.path().join("flash");
    let mut board = Board::start(AN386, &flash);
    board.wait_line("there is no provisioning record");
    board.cut_power();
    let text = hub.join_token(true);
    let mut buffer = [0; TOKEN_TEXT_BYTES_MAX];
    let token = JoinToken::parse(&text, &mut buffer).unwrap();
    // This machine's loopback, as the board sees it.
    let broker = format!("mqtt://192.0.2.2:{}", hub.broker_port());
    provision(&flash, AN386, JoinToken { broker: &broker, ..token }, Network::Dhcp);
    let mut board = Board::start(AN386, &flash);
    board.wait_line("connected to the broker");
    let joined = hub.wait_online("porch");
    board.cut_power();
    let mut board = Board::start(AN386, &flash);
    board.wait_line("connected to the broker");
    let again = hub.wait_online("porch");
    assert_eq!(joined["status"]["id"], again["status"]["id"], "{again:#}");
    board.control("system_reset");
    board.wait_line("reset: Pin, 1 since power came");
    board.wait_line("connected to the broker");
}

const HELLO: &[u8] = include_bytes!("../../functions/hello/hello.wasm");
const FRANKFURT: (f64, f64) = (8.6821, 50.1109);
const PARIS: (f64, f64) = (2.3522, 48.8566);
const FRANKFURT_E7: Position = Position { longitude_e7: 86_821_000, latitude_e7: 501_109_000, uncertainty_m: 0 };

/// Waits until hello told of a run above `than` on a device; its number.
fn wait_run_above(hub: &Hub, device: &str, than: u64) -> u64 {
    wait_until(&format!("hello runs more than {than} times on {device}"), || {
        let lines = hub.lines_of("hello", device);
        let last = lines.iter().rev().find_map(|line| line.rsplit("run ").next()?.parse::<u64>().ok());
        last.filter(|last| *last > than).ok_or_else(|| (last, hub.workload("hello")))
    })
}

#[test]
fn a_function_by_geography_runs_on_a_board_and_linux_and_goes_on_without_a_hub_and_over_resets() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(folder.path());
    let flash = folder.path().join("flash");
    let mut board = Board::start(AN386, &flash);
    board.wait_line("there is no provisioning record");
    board.cut_power();
    let text = hub.join_token(true);
    let mut buffer = [0; TOKEN_TEXT_BYTES_MAX];
    let token = JoinToken::parse(&text, &mut buffer).unwrap();
    let broker = format!("mqtt://192.0.2.2:{}", hub.broker_port());
    provision_at(&flash, AN386, JoinToken { broker: &broker, ..token }, Network::Dhcp, Some(FRANKFURT_E7));
    let mut board = Board::start(AN386, &flash);
    board.wait_line("connected to the broker");
    hub.wait_online("porch");
    let _here = Agent::join(folder.path(), &hub, "gw-fra", FRANKFURT);
    let _there = Agent::join(folder.path(), &hub, "gw-par", PARIS);
    let circle = json!({"circle": {"center": [FRANKFURT.0, FRANKFURT.1], "radiusKm": 50}});
    let region =
        json!({"apiVersion": "fulmar/v1", "kind": "Region", "metadata": {"name": "rhine-main"}, "spec": circle});
    hub.put("/v1/regions/rhine-main", &region);
    let workload = Workload::new("hello").every("200ms").config("the Rhine").limits(json!({"memory": "4KiB"}));
    hub.deploy(&workload.on_every_device().placed(json!({"within": ["rhine-main"]})), HELLO);
    let workload = hub.wait_running("hello");
    assert_eq!(workload["status"]["desired"], 2, "{workload:#}");
    // The same bytes on both, and nothing in Paris.
    wait_run_above(&hub, "gw-fra", 2);
    let before = wait_run_above(&hub, "porch", 2);
    assert!(hub.lines_of("hello", "gw-par").is_empty());
    // Neither a boot from cold nor a reset needs the hub: flash has the set, the module, and what it remembers.
    hub.kill();
    board.cut_power();
    let mut board = Board::start(AN386, &flash);
    board.wait_line("1/0 starts");
    board.control("system_reset");
    board.wait_line("reset: Pin");
    board.wait_line("1/0 starts");
    hub.run();
    board.wait_line("connected to the broker");
    hub.wait_online("porch");
    wait_run_above(&hub, "porch", before);
    wait_run_above(&hub, "gw-fra", 2);
}
