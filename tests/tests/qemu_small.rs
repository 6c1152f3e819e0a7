//! The smallest class in QEMU with the firmware that ships: 256 KiB of flash, 64 KiB of RAM, no functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;
use tests::harness::board::{Board, provision_for};
use tests::harness::{Agent, Hub, Workload, wait_until};
use wire::limits::PROVISION_BYTES_MAX;
use wire::provision::Provision;

const LM3S6965: &str = "qemu-lm3s6965";
const AN386: &str = "qemu-mps2-an386";
/// Record and journal lie in the same places on both boards.
const RECORD_AND_JOURNAL_BYTES: usize = 0x1_1000;
/// What must be left of the stack, for the exceptions that did not happen while it was measured.
const STACK_MARGIN_BYTES: usize = 2048;
const HELLO: &[u8] = include_bytes!("../../functions/hello/hello.wasm");
const FRANKFURT: (f64, f64) = (8.6821, 50.1109);

/// The stack of this board: its lowest memory, painted before anything runs.
const STACK: (u32, u32) = (0x2000_0000, 0x4800);
const PAINT: u8 = 0xcc;
/// The number of the program counter in a debugger's view of a Cortex-M.
const PC: u32 = 15;

/// Of the stack, what nothing has touched since the board started.
fn stack_left(board: &Board) -> usize {
    let stack = board.memory(STACK.0, STACK.1);
    stack.iter().take_while(|byte| **byte == PAINT).count()
}

#[test]
fn a_board_of_64_kib_joins_gets_no_function_and_is_the_same_device_over_resets_cuts_and_a_dead_hub() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(folder.path());
    let flash = folder.path().join("flash");
    provision_for(&hub, &flash, LM3S6965, None);
    let mut board = Board::start(LM3S6965, &flash);
    board.wait_line("connected to the broker");
    hub.wait_online("porch");
    let joined = wait_until("the board says what it is", || {
        let device = hub.get("/v1/devices/porch");
        if device["status"]["architecture"] == "thumbv7m" { Ok(device) } else { Err(device) }
    });
    let status = &joined["status"];
    assert_eq!(status["class"], "mcu", "{joined:#}");
    let left_by_join = stack_left(&board);
    assert!((STACK_MARGIN_BYTES..STACK.1 as usize).contains(&left_by_join), "{left_by_join}");

    // What it cannot run is placed beside it, and the reason is told.
    let _linux = Agent::join(folder.path(), &hub, "gw-fra", FRANKFURT);
    hub.deploy(&Workload::new("hello").every("200ms").on_every_device(), HELLO);
    let workload = hub.wait_running("hello");
    assert_eq!(workload["status"]["desired"], 1, "{workload:#}");
    let (_, told, _) = hub.cli(&["explain", "placement", "hello", "--device", "porch"]);
    assert!(told.contains("no function runtime"), "{told}");

    // The reset line, then the power: the flash file has who it is. The token is good for one join, so a second one would fail.
    board.control("system_reset");
    board.wait_line("reset: Pin, 1 since power came");
    board.wait_line("connected to the broker");
    board.cut_power();
    let mut board = Board::start(LM3S6965, &flash);
    board.wait_line("connected to the broker");
    let again = hub.wait_online("porch");
    assert_eq!(status["id"], again["status"]["id"], "{again:#}");

    hub.kill();
    board.wait_line("what runs goes on");
    hub.run();
    board.wait_line("connected to the broker");
    let after = hub.wait_online("porch");
    assert_eq!(status["id"], after["status"]["id"], "{after:#}");
    assert!(!board.seen().iter().any(|line| line.contains("not joined")), "{:#?}", board.seen());
    let left = stack_left(&board);
    assert!((STACK_MARGIN_BYTES..STACK.1 as usize).contains(&left), "{left}");
}

/// The flash of a board that runs functions, under a firmware that does not: what somebody gets who flashes the wrong one, and a hub
/// that is one step behind.
#[test]
fn a_set_with_functions_on_a_board_without_their_engine_is_not_begun_and_another_one_taken() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(folder.path());
    let (large, small) = (folder.path().join("large"), folder.path().join("small"));
    provision_for(&hub, &large, AN386, None);
    let mut board = Board::start(AN386, &large);
    board.wait_line("connected to the broker");
    hub.wait_online("porch");
    hub.deploy(&Workload::new("hello").every("200ms").on_every_device(), HELLO);
    hub.wait_running("hello");
    board.cut_power();
    hub.kill();

    let mut board = Board::start(LM3S6965, &small);
    board.wait_line("there is no provisioning record");
    board.cut_power();
    let of_large = std::fs::read(&large).unwrap();
    let mut of_small = std::fs::read(&small).unwrap();
    of_small[..RECORD_AND_JOURNAL_BYTES].copy_from_slice(&of_large[..RECORD_AND_JOURNAL_BYTES]);
    let record = Provision { board: LM3S6965, ..Provision::decode(&of_large).unwrap() };
    let mut buffer = [0; PROVISION_BYTES_MAX];
    let bytes = record.encode(&mut buffer).unwrap();
    of_small[..bytes.len()].copy_from_slice(bytes);
    std::fs::write(&small, of_small).unwrap();

    let mut board = Board::start(LM3S6965, &small);
    board.wait_line("provisioned: porch");
    hub.run();
    board.wait_line("connected to the broker");
    hub.wait_online("porch");
    // The hub hears that there is no engine, and makes another set; this one was never begun.
    hub.wait_workload("hello", "it is taken away", |workload| workload["status"]["desired"] == 0);
    let device = wait_until("the board has taken the set without it", || {
        let device = hub.get("/v1/devices/porch");
        let revision = &device["status"]["revision"];
        let is_taken = revision["accepted"] != "" && revision["accepted"] == revision["desired"];
        if is_taken && device["status"]["architecture"] == "thumbv7m" { Ok(device) } else { Err(device) }
    });
    assert_eq!(device["status"]["workloads"], json!([]), "{device:#}");
    assert!(!board.seen().iter().any(|line| line.contains("starts as")), "{:#?}", board.seen());
    // The signature of a set is the deepest that this firmware goes.
    let left = stack_left(&board);
    assert!((STACK_MARGIN_BYTES..STACK.1 as usize).contains(&left), "{left}");
}

#[test]
fn a_hang_with_interrupts_off_is_reset_all_the_same_and_told_without_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let mut board = Board::start(LM3S6965, &folder.path().join("flash"));
    board.wait_line("network: ");
    // Thumb: interrupts off, then a branch to itself.
    board.jump(PC, STACK.0, &[0x72, 0xb6, 0xfe, 0xe7]);
    board.wait_line("reset: Pin, 1 since power came");
    board.wait_line("network: ");
}
