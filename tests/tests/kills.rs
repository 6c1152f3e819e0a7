//! The power of a board goes at random moments, again and again: its flash file stays, and it always comes back with at least
//! what it had. Exhaustive cuts of every flash operation are tested on the flash of the tests; this is the firmware that ships.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;
use std::time::{Duration, Instant};
use tests::harness::board::{Board, provision_for};
use tests::harness::{Hub, Workload, wait_until};
use tests::store_load::Random;

const AN386: &str = "qemu-mps2-an386";
const HELLO: &[u8] = include_bytes!("../../functions/hello/hello.wasm");
/// Another number with FULMAR_KILLS, for example 200.
const KILLS: u32 = 40;
/// From the power to the cut, at most: a start, a connection, a new set and some runs take less.
const ALIVE_MS_MAX: u64 = 1500;
/// The set changes as often as this, so that cuts meet the journal at work.
const CHANGE_EVERY: u32 = 4;

fn workload(round: u32) -> Workload {
    let workload = Workload::new("hello").every("100ms").config(&format!("round {round}"));
    workload.limits(json!({"memory": "4KiB"})).on_every_device()
}

/// The number of the newest run that hello told of.
fn last_run(hub: &Hub) -> u64 {
    let lines = hub.lines_of("hello", "porch");
    lines.iter().rev().find_map(|line| line.rsplit("run ").next()?.parse().ok()).unwrap_or(0)
}

/// `incarnation.counter` of the set that the device says to hold.
fn accepted(hub: &Hub) -> (u64, u64) {
    let device = hub.get("/v1/devices/porch");
    let text = device["status"]["revision"]["accepted"].as_str().unwrap_or_default();
    let (incarnation, counter) = text.split_once('.').unwrap_or(("0", "0"));
    (incarnation.parse().unwrap_or(0), counter.parse().unwrap_or(0))
}

#[test]
fn no_cut_of_its_power_bricks_a_board_or_takes_it_back() {
    let kills = std::env::var("FULMAR_KILLS").map_or(KILLS, |count| count.parse().expect("FULMAR_KILLS is a number"));
    let seed = std::env::var("FULMAR_SEED").map_or(386, |seed| seed.parse().expect("FULMAR_SEED is a number"));
    let mut random = Random(seed);
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path());
    let flash = folder.path().join("flash");
    provision_for(&hub, &flash, AN386, None);
    let mut board = Board::start(AN386, &flash);
    board.wait_line("connected to the broker");
    hub.wait_online("porch");
    hub.deploy(&workload(0), HELLO);
    hub.wait_running("hello");
    wait_until("hello has run", || if last_run(&hub) > 2 { Ok(()) } else { Err(hub.workload("hello")) });
    let (mut revision, mut run) = (accepted(&hub), last_run(&hub));
    for kill in 1..=kills {
        if kill % CHANGE_EVERY == 0 {
            hub.deploy(&workload(kill), HELLO);
        }
        let at = Instant::now() + Duration::from_millis(random.below(ALIVE_MS_MAX));
        // Whatever it says until then, it is not asked.
        board.pass_until(at);
        board.cut_power();
        board = Board::power_up(AN386, &flash);
        // It knows who it is and what it runs, without anybody's help.
        board.wait_line(" of fleet ");
        board.wait_line("1/0 starts");
        let now = accepted(&hub);
        assert!(now >= revision, "kill {kill} of seed {seed}: {now:?} after {revision:?}");
        revision = now;
    }
    // And it goes on: the newest set, and a count that flash has kept all along.
    board.wait_line("connected to the broker");
    wait_until("it holds what is wanted and runs on", || {
        let device = hub.get("/v1/devices/porch");
        let now = accepted(&hub);
        assert!(now >= revision, "{now:?} after {revision:?}");
        revision = now;
        let is_synced = device["status"]["revision"]["synced"] == true;
        if is_synced && last_run(&hub) > run { Ok(()) } else { Err(device) }
    });
    run = last_run(&hub);
    assert!(run > u64::from(kills), "{run}");
}
