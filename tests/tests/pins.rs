//! Pins and buses of a board in QEMU, from a function to the registers: what it reads and sets, and where outputs rest after it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use tests::harness::board::{Board, provision_for};
use tests::harness::{Agent, Hub, Workload, wait_until};

const AN386: &str = "qemu-mps2-an386";
const FRANKFURT: (f64, f64) = (8.6821, 50.1109);
/// The LEDs of the board, and of them those that are handles 0 and 1. The second rests on.
const LEDS: u32 = 0x4002_8000;
const LED_0: u32 = 1;
const LED_1: u32 = 2;
/// Pins that the last page of the flash file plays.
const LEVELS: u64 = 0xff_f000;
const ANALOG: u64 = 0xff_f040;
const DUTIES: u64 = 0xff_f080;
const PC: u32 = 15;
const UNUSED: u32 = 0x203f_fff0;
const UNDEFINED: [u8; 2] = [0x00, 0xde];

/// Sets the outputs when it first runs in its life; tells at each tick what the inputs say, each as one letter from A on.
fn module() -> Vec<u8> {
    wat::parse_str(
        r#"(module
            (import "fulmar" "log" (func $log (param i32 i32 i32) (result i32)))
            (import "fulmar" "state_get" (func $get (param i32 i32 i32 i32) (result i32)))
            (import "fulmar" "state_set" (func $set (param i32 i32 i32 i32) (result i32)))
            (import "fulmar" "gpio_read" (func $read (param i32) (result i32)))
            (import "fulmar" "gpio_write" (func $write (param i32 i32) (result i32)))
            (import "fulmar" "adc_read" (func $adc (param i32) (result i32)))
            (import "fulmar" "pwm_set" (func $pwm (param i32 i32) (result i32)))
            (import "fulmar" "i2c_write_read" (func $i2c (param i32 i32 i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 4096 4096 (pagesize 0x1))
            (data (i32.const 0) "reads ...")
            (data (i32.const 32) "ran")
            (func (export "fulmar_start")
                (if (i32.lt_s (call $get (i32.const 32) (i32.const 3) (i32.const 64) (i32.const 1)) (i32.const 0)) (then
                    (drop (call $write (i32.const 0) (i32.const 1)))
                    (drop (call $write (i32.const 1) (i32.const 0)))
                    (drop (call $pwm (i32.const 4) (i32.const 40000)))
                    (drop (call $set (i32.const 32) (i32.const 3) (i32.const 32) (i32.const 1))))))
            (func (export "fulmar_timer")
                (i32.store8 (i32.const 6) (i32.add (i32.const 65) (call $read (i32.const 2))))
                (i32.store8 (i32.const 7) (i32.add (i32.const 65) (i32.shr_u (call $adc (i32.const 3)) (i32.const 12))))
                (i32.store8 (i32.const 48) (i32.const 0))
                (drop (call $i2c (i32.const 5) (i32.const 0x48) (i32.const 48) (i32.const 1) (i32.const 56) (i32.const 2)))
                (i32.store8 (i32.const 8) (i32.add (i32.const 65) (i32.load8_u (i32.const 56))))
                (drop (call $log (i32.const 2) (i32.const 0) (i32.const 9))))
            (@custom "fulmar.abi" "\01"))"#,
    )
    .unwrap()
}

fn pins(name: &str) -> Workload {
    let workload = Workload::new(name).every("200ms").limits(json!({"memory": "4KiB"}));
    workload.may(&["log", "state", "gpio", "adc", "pwm", "i2c"]).on_every_device()
}

fn put(flash: &Path, offset: u64, word: u32) {
    File::options().write(true).open(flash).unwrap().write_all_at(&word.to_le_bytes(), offset).unwrap();
}

fn outputs(board: &Board, flash: &Path) -> (u32, u32) {
    let mut word = [0; 4];
    File::open(flash).unwrap().read_exact_at(&mut word, DUTIES).unwrap();
    (board.word(LEDS) & (LED_0 | LED_1), u32::from_le_bytes(word))
}

fn wait_outputs(board: &Board, flash: &Path, what: &str, expected: (u32, u32)) {
    wait_until(what, || {
        let found = outputs(board, flash);
        if found == expected { Ok(()) } else { Err(found) }
    });
}

#[test]
fn a_function_reads_and_drives_the_pins_of_its_board_and_outputs_rest_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path());
    let _linux = Agent::join(folder.path(), &hub, "gw-1", FRANKFURT);
    let flash = folder.path().join("flash");
    provision_for(&hub, &flash, AN386, None);
    let mut board = Board::start(AN386, &flash);
    board.wait_line("connected to the broker");
    hub.wait_online("porch");
    let rest = (LED_1, 0);
    assert_eq!(outputs(&board, &flash), rest, "at the start");
    let interfaces = json!(["log", "emit", "state", "random", "telemetry", "gpio", "adc", "i2c", "pwm"]);
    wait_until("it says what it gives functions", || {
        let device = hub.get("/v1/devices/porch");
        if device["status"]["interfaces"] == interfaces { Ok(()) } else { Err(device) }
    });
    // Every device gets it that has pins: the one beside it has none.
    hub.deploy(&pins("pins"), &module());
    let workload = hub.wait_running("pins");
    assert_eq!(workload["status"]["placed"], 1, "{workload:#}");
    assert_eq!(workload["status"]["devices"][0]["device"], "porch", "{workload:#}");
    let driven = (LED_0, 40_000);
    wait_outputs(&board, &flash, "it drives its outputs", driven);
    // A switch, a level and a thermometer of 25 degrees.
    put(&flash, LEVELS, 1);
    put(&flash, ANALOG, 0x8000);
    let to = json!({"path": "/machine/peripheral/thermometer", "property": "temperature", "value": 25_000});
    board.ask("qom-set", &to);
    hub.wait_line("pins", "reads BIZ");
    put(&flash, LEVELS, 0);
    hub.wait_line("pins", "reads AIZ");
    // Stopped: what it set rests.
    hub.remove("pins");
    wait_outputs(&board, &flash, "its outputs rest after it", rest);
    // A fault of the firmware: the function runs again, and sets nothing any more.
    hub.deploy(&pins("again"), &module());
    hub.wait_running("again");
    wait_outputs(&board, &flash, "it drives its outputs again", driven);
    hub.wait_line("again", "reads AIZ");
    board.jump(PC, UNUSED, &UNDEFINED);
    board.wait_line("reset: Panic at 0x203ffff0");
    board.wait_line("starts as");
    assert_eq!(outputs(&board, &flash), rest, "after a fault");
    // Whoever looks after the fleet hears of it, and of the flash.
    wait_until("the hub tells how the firmware ended", || {
        let device = hub.get("/v1/devices/porch");
        let (last, wear) = (&device["status"]["lastReset"], &device["status"]["wear"]);
        let is_told = last["cause"] == "panic"
            && last["address"] == "0x203ffff0"
            && last["text"].as_str().is_some_and(|text| text.starts_with("fault, status 0x"))
            && wear[0]["partition"] == "journal"
            && wear[0]["erases"].as_u64() > Some(0);
        if is_told { Ok(()) } else { Err(device) }
    });
    let (_, shown, _) = hub.cli(&["describe", "device", "porch"]);
    assert!(shown.contains("panic at 0x203ffff0: fault, status 0x"), "{shown}");
    assert!(shown.contains("journal") && shown.contains(" erases"), "{shown}");
}

#[test]
fn the_frost_guard_heats_by_the_thermometer_of_its_board_as_its_manifest_says() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path());
    let _linux = Agent::join(folder.path(), &hub, "gw-1", FRANKFURT);
    let flash = folder.path().join("flash");
    provision_for(&hub, &flash, AN386, None);
    let mut board = Board::start(AN386, &flash);
    board.wait_line("connected to the broker");
    hub.wait_online("porch");
    let thermometer = |degrees: f64| {
        let to = json!({"path": "/machine/peripheral/thermometer", "property": "temperature", "value": (degrees * 1000.0) as i32});
        board.ask("qom-set", &to);
    };
    thermometer(1.5);
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../functions/c/frost/workload.yaml");
    let (code, out, err) = hub.cli(&["apply", "-f", manifest, "--wait"]);
    assert_eq!(code, 0, "{out}{err}");
    // LED 1 rests on and is nobody's.
    wait_outputs(&board, &flash, "it heats below three degrees", (LED_0 | LED_1, 0));
    thermometer(4.0);
    wait_until("it has read four degrees", || {
        let told = hub.get("/v1/devices/porch/samples?tail=10&key=temperature");
        if told.to_string().contains("\"4\"") { Ok(()) } else { Err(told) }
    });
    assert_eq!(outputs(&board, &flash).0, LED_0 | LED_1, "between both it stays as it was");
    thermometer(5.0);
    wait_outputs(&board, &flash, "two degrees above it stops", (LED_1, 0));
}
