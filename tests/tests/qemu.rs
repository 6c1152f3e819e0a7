//! Boards in QEMU with the firmware that ships: network, flash, and what a reset leaves behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;
use tests::harness::board::{Board, provision, provision_for, token_of_nobody};
use tests::harness::{Agent, Hub, Workload, wait_until};
use wire::position::Position;
use wire::provision::{Network, StaticAddress};

/// What a test knows of a board.
struct Kind {
    name: &'static str,
    /// The number of the program counter in a debugger's view of the processor.
    counter: u32,
    /// Memory that can be executed and is behind everything that the firmware uses.
    unused: u32,
    /// Loops for ever, with interrupts; how far behind the beginning.
    spin: (&'static [u8], u32),
    /// An instruction that will never be one.
    undefined: &'static [u8],
}

const AN386: Kind = Kind {
    name: "qemu-mps2-an386",
    counter: 15,
    unused: 0x203f_fff0,
    // Thumb: a branch to itself.
    spin: (&[0xfe, 0xe7], 0),
    undefined: &[0x00, 0xde],
};

const RISCV32: Kind = Kind {
    name: "qemu-riscv32-virt",
    counter: 32,
    unused: 0x8013_ff00,
    // csrsi mstatus, 8; j .
    spin: (&[0x73, 0x60, 0x04, 0x30, 0x6f, 0x00, 0x00, 0x00], 4),
    undefined: &[0x00, 0x00],
};

/// Without functions; what only the smallest class can get wrong is in `qemu_small`.
const LM3S6965: Kind = Kind {
    name: "qemu-lm3s6965",
    counter: 15,
    // The end of the stack, far below what is used.
    unused: 0x2000_0000,
    // Thumb: interrupts on, then a branch to itself. This chip's watchdog is an interrupt like others.
    spin: (&[0x62, 0xb6, 0xfe, 0xe7], 2),
    undefined: &[0x00, 0xde],
};

/// Makes a test of each of these functions for each board, but for those behind `with functions` on one that has none.
macro_rules! on_each_board {
    ($($name:ident),* ; with functions: $($function:ident),* $(,)?) => {
        mod an386 { $(#[test] fn $name() { super::$name(&super::AN386); })* $(#[test] fn $function() { super::$function(&super::AN386); })* }
        mod lm3s6965 { $(#[test] fn $name() { super::$name(&super::LM3S6965); })* }
        mod riscv32 { $(#[test] fn $name() { super::$name(&super::RISCV32); })* $(#[test] fn $function() { super::$function(&super::RISCV32); })* }
    };
}

on_each_board!(
    a_board_that_nobody_flashed_gets_an_address_and_says_what_it_lacks,
    a_flashed_board_takes_the_address_that_it_was_given_and_refuses_another_boards_record,
    the_reset_line_a_fault_and_a_hang_are_told_apart_by_the_next_boot,
    a_board_joins_a_hub_and_is_the_same_device_after_its_power_went;
    with functions: a_function_by_geography_runs_on_a_board_and_linux_and_goes_on_without_a_hub_and_over_resets,
);

fn a_board_that_nobody_flashed_gets_an_address_and_says_what_it_lacks(kind: &Kind) {
    let folder = tempfile::tempdir().unwrap();
    let mut board = Board::start(kind.name, &folder.path().join("flash"));
    board.wait_line(&format!("fulmar on {}", kind.name));
    board.wait_line("reset: PowerOn");
    board.wait_line("there is no provisioning record: flash the board");
    assert!(board.wait_line("network: ").contains("192.0.2.15/24"));
}

fn a_flashed_board_takes_the_address_that_it_was_given_and_refuses_another_boards_record(kind: &Kind) {
    let folder = tempfile::tempdir().unwrap();
    let flash = folder.path().join("flash");
    let mut board = Board::start(kind.name, &flash);
    board.wait_line("there is no provisioning record");
    board.cut_power();
    let fixed = StaticAddress { address: [192, 0, 2, 77], prefix: 24, gateway: Some([192, 0, 2, 2]), dns: None };
    provision(&flash, kind.name, token_of_nobody(), Network::Static(fixed));
    let mut board = Board::start(kind.name, &flash);
    board.wait_line("provisioned: porch");
    assert!(board.wait_line("network: ").contains("192.0.2.77/24"));
    board.cut_power();
    provision(&flash, "another-board", token_of_nobody(), Network::Static(fixed));
    let mut board = Board::start(kind.name, &flash);
    board.wait_line("the provisioning record is for another-board");
    assert!(board.wait_line("network: ").contains("192.0.2.15/24"));
}

fn the_reset_line_a_fault_and_a_hang_are_told_apart_by_the_next_boot(kind: &Kind) {
    let folder = tempfile::tempdir().unwrap();
    let mut board = Board::start(kind.name, &folder.path().join("flash"));
    board.wait_line("network: ");
    board.control("system_reset");
    board.wait_line("reset: Pin, 1 since power came");
    board.wait_line("network: ");
    board.jump(kind.counter, kind.unused, kind.undefined);
    board.wait_line(&format!("reset: Panic at {:#010x}, 2 since power came", kind.unused));
    board.wait_line("last words: fault");
    board.wait_line("network: ");
    let (spin, at) = kind.spin;
    let hung = format!("{:#010x}", kind.unused + at);
    board.jump(kind.counter, kind.unused, spin);
    board.wait_line(&format!("watchdog at {hung}"));
    board.wait_line(&format!("reset: Watchdog at {hung}, 3 since power came"));
    board.wait_line("network: ");
}

fn a_board_joins_a_hub_and_is_the_same_device_after_its_power_went(kind: &Kind) {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path());
    let flash = folder.path().join("flash");
    provision_for(&hub, &flash, kind.name, None);
    let mut board = Board::start(kind.name, &flash);
    board.wait_line("connected to the broker");
    let joined = hub.wait_online("porch");
    board.cut_power();
    let mut board = Board::start(kind.name, &flash);
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

fn a_function_by_geography_runs_on_a_board_and_linux_and_goes_on_without_a_hub_and_over_resets(kind: &Kind) {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(folder.path());
    let flash = folder.path().join("flash");
    provision_for(&hub, &flash, kind.name, Some(FRANKFURT_E7));
    let mut board = Board::start(kind.name, &flash);
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
    let mut board = Board::start(kind.name, &flash);
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

/// A fault on RISC-V: what it runs, and how the next boot tells of it.
struct Mistake {
    what: &'static str,
    at: u32,
    code: &'static [u32],
    place: u32,
    words: &'static str,
}

#[test]
fn what_memory_protection_and_the_stack_of_traps_are_for_is_told_by_the_next_boot() {
    let (program, ram) = (RISCV32.unused, 0x8046_0000);
    let mistakes = [
        Mistake {
            what: "the program is written",
            at: program,
            // auipc t0, 0; sw zero, 0(t0)
            code: &[0x0000_0297, 0x0002_a023],
            place: program + 4,
            words: "store access, value 0x8013ff00",
        },
        Mistake {
            what: "RAM is executed",
            at: ram,
            code: &[0x0000_0013],
            place: ram,
            words: "instruction access, value 0x80460000",
        },
        Mistake {
            what: "the stack runs over",
            at: program,
            // addi sp, sp, -16; sw zero, 0(sp); j .-8
            code: &[0xff01_0113, 0x0001_2023, 0xff9f_f06f],
            place: program + 4,
            words: "store access, value 0x803ffff0",
        },
        Mistake {
            what: "nothing is read",
            at: program,
            // lw t0, 0(zero)
            code: &[0x0000_2283],
            place: program,
            words: "load access, value 0x00000000",
        },
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut board = Board::start(RISCV32.name, &folder.path().join("flash"));
    board.wait_line("network: ");
    for (resets, mistake) in (1..).zip(&mistakes) {
        let code: Vec<u8> = mistake.code.iter().flat_map(|word| word.to_le_bytes()).collect();
        board.jump(RISCV32.counter, mistake.at, &code);
        board.wait_line(&format!("reset: Panic at {:#010x}, {resets} since power came", mistake.place));
        let words = board.wait_line("last words: fault");
        assert!(words.contains(mistake.words), "{}: {words}", mistake.what);
        board.wait_line("network: ");
    }
}

#[test]
fn a_hang_that_no_interrupt_reaches_is_ended_by_the_watchdog_beside_the_processor() {
    let folder = tempfile::tempdir().unwrap();
    let mut board = Board::start(RISCV32.name, &folder.path().join("flash"));
    board.wait_line("network: ");
    // csrci mstatus, 8; j .
    board.jump(RISCV32.counter, RISCV32.unused, &[0x73, 0x70, 0x04, 0x30, 0x6f, 0x00, 0x00, 0x00]);
    board.wait_line("reset: Watchdog, 1 since power came");
    board.wait_line("last words: the watchdog was not fed, and no interrupt came through");
    board.wait_line("network: ");
    // It is told once.
    board.control("system_reset");
    board.wait_line("reset: Pin, 2 since power came");
}

#[test]
fn a_network_device_of_the_present_kind_carries_as_much_as_one_of_the_legacy_kind() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path());
    let flash = folder.path().join("flash");
    provision_for(&hub, &flash, RISCV32.name, None);
    let mut board = Board::start_on(RISCV32.name, &flash, &["-global", "virtio-mmio.force-legacy=false"]);
    board.wait_line("connected to the broker");
    hub.wait_online("porch");
}
