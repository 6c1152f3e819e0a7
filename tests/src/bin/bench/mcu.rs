//! P17 and P18 on microcontrollers, emulated: what an image takes, and what a function takes to begin and to be called.
//!
//! Instructions are counted by a clock that QEMU moves by one step for each of them, so that a busy machine changes nothing. They
//! are no cycles: a chip that waits for its flash takes more.

use crate::boards;
use crate::table::{Row, quantile};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tests::harness::board::{Board, provision_for_as};
use tests::harness::{Hub, Workload};
use wire::position::Position;

/// Those with an engine.
const ENGINES: [&str; 2] = ["qemu-mps2-an386", "qemu-riscv32-virt"];
const SMALLEST: &str = "qemu-lm3s6965";
const HELLO: &[u8] = include_bytes!("../../../../functions/hello/hello.wasm");
/// Does nothing whenever it is called.
const EMPTY: &str = r#"(module (func (export "fulmar_timer")) (@custom "fulmar.abi" "\01"))"#;
/// An instruction takes so long: two to the power of this, in nanoseconds.
const SHIFT: u32 = 6;
/// Boots of which the median counts.
const RUNS: usize = 3;
/// Some tens of calls.
const CALLED: Duration = Duration::from_secs(5);
/// Clock of the goal's chip, and the time that it has for a function to begin and to be called first.
const GOAL_HZ: f64 = 64e6;
const GOAL_S: f64 = 0.005;

pub fn measure(directory: &Path) -> Vec<Row> {
    let of = |board: &&str| functions(&directory.join(board), board);
    let mut rows = sizes();
    rows.extend(ENGINES.iter().flat_map(of));
    rows.extend(boards::measure(&directory.join("idle")));
    rows
}

/// What `scripts/size` says, which is what fails a build.
fn sizes() -> Vec<Row> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = Command::new(root.join("scripts/size")).args(["--built", SMALLEST]).args(ENGINES).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let kib = |board: &str, what: &str| {
        let row = text.lines().find_map(|line| line.strip_prefix(board)?.trim_start().strip_prefix(what));
        let bytes = row.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        bytes.unwrap_or_else(|| panic!("{board}, {what}: {text}")) / 1024.0
    };
    let mut rows = Vec::new();
    for board in [SMALLEST].into_iter().chain(ENGINES) {
        let (ram, heap) = (kib(board, "static RAM") + kib(board, "worst stack"), kib(board, "heap"));
        let flash = Row::new("P17", format!("{board}, image"), kib(board, "flash"), "KiB");
        let ram = Row::new("P17", format!("{board}, static RAM and deepest stack"), ram, "KiB");
        if board == SMALLEST {
            rows.push(
                flash
                    .target(128.0)
                    .anchor("MQTT and DHCP alone 68 KB; MicroPython 256 KB; with TLS-PSK the goal is 184 KB"),
            );
            rows.push(ram.target(28.0).anchor("MQTT and DHCP alone 17 KB; MicroPython 16 KB"));
        } else {
            // The goal is for Cortex-M; instructions of RISC-V take more room.
            rows.push(flash.target(192.0).anchor("with the engine, for which the goal has 64 KB; wasmi is 494 KB"));
            rows.push(ram.target(30.0).anchor("Ocre 16 KB for its runtime alone"));
            rows.push(Row::new("-", format!("{board}, heap for functions"), heap, "KiB"));
        }
    }
    rows
}

/// What a board says of a function that began, in instructions.
#[derive(Clone, Copy)]
struct Begun {
    read: f64,
    compiled: f64,
    begun: f64,
}

fn functions(directory: &Path, board: &str) -> Vec<Row> {
    std::fs::create_dir_all(directory).unwrap();
    let hub = Hub::start(directory);
    let flash = directory.join("flash");
    let place = Position { longitude_e7: 86_821_000, latitude_e7: 501_109_000, uncertainty_m: 0 };
    provision_for_as("bench-1", &hub, &flash, board, Some(place));
    let empty = wat::parse_str(EMPTY).unwrap();
    let mut rows = Vec::new();
    for (name, module) in [("hello", HELLO), ("empty", &empty)] {
        let (begun, [first, shortest]) = one(&hub, &flash, board, name, module);
        let Begun { read, compiled, begun } = begun;
        let row = |what: &str, value: f64| Row::new("P18", format!("{board}, {name}: {what}"), value, "insns");
        let goal = GOAL_HZ * GOAL_S;
        rows.push(row("read from flash, hash", read));
        rows.push(row("checked and compiled", compiled));
        rows.push(row("instance and start", begun));
        let whole = row("load and first call", read + compiled + begun + first);
        rows.push(whole.target(goal).anchor("5 ms at 64 MHz; a container takes 515 ms"));
        rows.push(row("one call, host calls in it", shortest));
    }
    rows
}

/// Deploys a function, and starts the board again with the module in its flash, by the counted clock.
fn one(hub: &Hub, flash: &Path, board: &str, name: &str, module: &[u8]) -> (Begun, [f64; 2]) {
    let workload = Workload::new(name).every("100ms").config("the bench").on_every_device();
    let mut running = Board::start(board, flash);
    running.wait_line("connected to the broker");
    hub.deploy(&workload.limits(serde_json::json!({"memory": "4KiB"})), module);
    hub.wait_running(name);
    running.cut_power();
    let icount = format!("shift={SHIFT}");
    let mut all = Vec::new();
    let mut boot = || {
        let mut running = Board::start_on(board, flash, &["-icount", &icount]);
        let [read, compiled, begun] = instructions(&running.wait_line(" runs: read in "));
        all.push(Begun { read, compiled, begun });
        running
    };
    (1..RUNS).for_each(|_| boot().cut_power());
    let mut running = boot();
    running.wait_line("connected to the broker");
    running.pass_until(Instant::now() + CALLED);
    hub.remove(name);
    let [_, shortest, longest] = numbers(&running.wait_line(" calls, of "));
    running.cut_power();
    let median = |of: fn(&Begun) -> f64| quantile(&all.iter().map(of).collect::<Vec<_>>(), 0.5);
    let begun = Begun {
        read: median(|begun| begun.read),
        compiled: median(|begun| begun.compiled),
        begun: median(|begun| begun.begun),
    };
    (begun, [longest, shortest].map(per_us))
}

/// The last three numbers of a line that stand alone.
fn numbers(line: &str) -> [f64; 3] {
    let all: Vec<f64> = line.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    all.last_chunk().copied().unwrap_or_else(|| panic!("{line}"))
}

fn instructions(line: &str) -> [f64; 3] {
    numbers(line).map(per_us)
}

fn per_us(us: f64) -> f64 {
    us * 1000.0 / f64::from(1_u32 << SHIFT)
}
