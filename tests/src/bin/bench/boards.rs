//! What an emulated board of each kind costs that has nothing to do: the goal is 8 % of a core, so that a dozen of them fit beside a hub.
//!
//! It is the image that ships, flashed as an operator does it. The processor's time is that of QEMU, counted by the system.

use crate::process::{cpu_seconds, rss_kib};
use crate::table::Row;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tests::harness::{Hub, program, wait_until};

/// With what they are built for.
const BOARDS: [(&str, &str); 3] = [
    ("qemu-mps2-an386", "thumbv7em-none-eabihf"),
    ("qemu-lm3s6965", "thumbv7m-none-eabi"),
    ("qemu-riscv32-virt", "riscv32imac-unknown-none-elf"),
];
const NAME: &str = "bench-1";
/// Long against the ticks in which the system counts.
const COUNTED: Duration = Duration::from_secs(20);
/// Where images were built, if not by `scripts/firmware`.
const IMAGES: &str = "FULMAR_FIRMWARE";

pub fn measure(directory: &Path) -> Vec<Row> {
    let of = |(board, target): (&str, &str)| measure_one(&directory.join(board), board, target);
    BOARDS.into_iter().flat_map(of).collect()
}

fn measure_one(directory: &Path, board: &str, target: &str) -> Vec<Row> {
    std::fs::create_dir_all(directory).unwrap();
    let hub = Hub::start(directory);
    let fulmar = |arguments: &[&str]| {
        let output = Command::new(program("fulmar")).args(arguments).env("FULMAR_DATA", hub.data()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let images = std::env::var(IMAGES).unwrap_or_default();
    let image = format!("{images}/{target}/release/fulmar-{board}");
    let flash = ["flash", "--board", board, "--name", NAME, "--at", "8.68,50.11", "--no-wait"];
    let given = ["--image", image.as_str()];
    let begin = Instant::now();
    fulmar(&[&flash[..], if images.is_empty() { &[] } else { &given }].concat());
    wait_until("the board is connected to its broker", || {
        let said = fulmar(&["monitor", NAME, "--no-follow"]);
        if said.contains("connected to the broker") { Ok(()) } else { Err(said) }
    });
    let up = begin.elapsed();
    // The process around QEMU, then QEMU.
    let ids = std::fs::read_to_string(hub.data().join("boards").join(NAME).join("power")).unwrap();
    let emulator: u32 = ids.split_whitespace().nth(1).unwrap().parse().unwrap();
    let before = cpu_seconds(emulator);
    std::thread::sleep(COUNTED);
    let share = (cpu_seconds(emulator) - before) / COUNTED.as_secs_f64() * 100.0;
    let memory = rss_kib(emulator) / 1024.0;
    fulmar(&["boards", "stop", NAME]);
    vec![
        Row::new("-", format!("{board}, idle, of one core"), share, "%")
            .target(8.0)
            .anchor("82 % with an executor that waits for events, which QEMU does not"),
        Row::new("-", format!("{board}, RSS of its emulator"), memory, "MiB"),
        Row::new("-", format!("{board}, from flashing to its link"), up.as_secs_f64(), "s"),
    ]
}
