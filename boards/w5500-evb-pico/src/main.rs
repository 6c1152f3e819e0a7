//! WIZnet's W5500-EVB-Pico. Everything but its table is in `common` and `drivers::rp`.
#![no_std]
#![no_main]

use common::Board;
use cortex_m_rt::entry;
use drivers::rp::{self, Dog, Frames, Set, Storage, Wire};
use drivers::{executor, record};
use embassy_executor::{SpawnError, SpawnToken, Spawner};
use embassy_net::Runner;

mod table {
    //! Made from `board.toml`.
    #![allow(dead_code)]
    include!(concat!(env!("OUT_DIR"), "/board.rs"));
}

#[entry]
fn main() -> ! {
    let set = rp::start(table::CLOCK_HZ, table::STORAGE_ORIGIN, table::STORAGE_BYTES);
    executor::run(|spawner| start(spawner, agent(spawner, set)))
}

fn start<S>(spawner: Spawner, task: Result<SpawnToken<S>, SpawnError>) {
    match task {
        Ok(task) => spawner.spawn(task),
        Err(error) => record::give_up(format_args!("no task: {error:?}")),
    }
}

#[embassy_executor::task]
async fn agent(spawner: Spawner, set: Set) {
    let Set { boot, watchdog, network, flash, entropy } = set;
    let (ethernet, frames) = rp::ethernet(network).await;
    start(spawner, chip(frames));
    let board: Board<Wire, Storage, Dog> = Board {
        name: table::NAME,
        architecture: table::ARCHITECTURE,
        link: ethernet,
        flash,
        partitions: &table::PARTITIONS,
        boot,
        entropy,
        watchdog,
        function_bytes: 0,
        erase_ms: table::ERASE_MS,
    };
    common::run(board, |runner| start(spawner, stack(runner))).await
}

#[embassy_executor::task]
async fn chip(frames: Frames) {
    frames.run().await
}

#[embassy_executor::task]
async fn stack(mut runner: Runner<'static, Wire>) {
    runner.run().await
}
