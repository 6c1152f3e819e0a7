//! ST's Nucleo-H743ZI. Everything but its table is in `common` and `drivers::stm32h7`.
#![no_std]
#![no_main]

use common::{Board, heap};
use cortex_m_rt::entry;
use drivers::stm32h7::{self, Set, Wire};
use drivers::{executor, record};
use embassy_executor::{SpawnError, SpawnToken, Spawner};
use embassy_net::Runner;
use static_cell::ConstStaticCell;

mod table {
    //! Made from `board.toml`.
    include!(concat!(env!("OUT_DIR"), "/board.rs"));
}

static HEAP_MEMORY: ConstStaticCell<[u8; table::HEAP_BYTES]> = ConstStaticCell::new([0; table::HEAP_BYTES]);

#[entry]
fn main() -> ! {
    let set = stm32h7::start(table::CLOCK_HZ, table::STORAGE_ORIGIN, table::STORAGE_BYTES);
    let function_bytes = heap::start(HEAP_MEMORY.take());
    executor::run(|spawner| start(spawner, agent(spawner, set, function_bytes)))
}

fn start<S>(spawner: Spawner, task: Result<SpawnToken<S>, SpawnError>) {
    match task {
        Ok(task) => spawner.spawn(task),
        Err(error) => record::give_up(format_args!("no task: {error:?}")),
    }
}

#[embassy_executor::task]
async fn agent(spawner: Spawner, set: Set, function_bytes: u32) {
    let Set { boot, watchdog, ethernet, flash, entropy } = set;
    let board = Board {
        name: table::NAME,
        architecture: table::ARCHITECTURE,
        link: ethernet,
        flash,
        partitions: &table::PARTITIONS,
        boot,
        entropy: Some(entropy),
        watchdog,
        function_bytes,
        erase_ms: table::ERASE_MS,
    };
    common::run(board, |runner| start(spawner, stack(runner))).await
}

#[embassy_executor::task]
async fn stack(mut runner: Runner<'static, Wire>) {
    runner.run().await
}
