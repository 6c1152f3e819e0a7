//! QEMU's MPS2 AN386 board as a leaf: addresses, interrupt numbers, and which driver is on them. Everything else is `common`.
#![no_std]
#![no_main]

use common::{Board, heap, leaf};
use cortex_m_rt::{entry, exception};
use drivers::clock::cmsdk;
use drivers::nor::psram::Psram;
use drivers::registers::Mmio;
use drivers::uart::{CmsdkPort, CmsdkUart, PortMemory, PortReader, PortWriter};
use drivers::watchdog::CmsdkWatchdog;
use drivers::{cortex, executor, log, record};
use embassy_executor::{SpawnError, SpawnToken, Spawner};
use static_cell::ConstStaticCell;

mod table {
    //! Made from `board.toml`.
    #![allow(dead_code)]
    include!(concat!(env!("OUT_DIR"), "/board.rs"));
}

// SAFETY: the addresses are those of the board's manual (ARM DAI0386, memory map), and of nothing that Rust manages.
const TIMER: Mmio = unsafe { Mmio::new(0x4000_0000) };
const UART: Mmio = unsafe { Mmio::new(0x4000_4000) };
const LINE: Mmio = unsafe { Mmio::new(0x4000_5000) };
const WATCHDOG: Mmio = unsafe { Mmio::new(0x4000_8000) };
const PSRAM: Mmio = unsafe { Mmio::new(table::STORAGE_ORIGIN) };
/// Received, sent.
const LINE_INTERRUPTS: [u16; 2] = [2, 3];
const WATCHDOG_MS: u32 = 5_000;

static LINE_MEMORY: PortMemory = PortMemory::new();
static HEAP_MEMORY: ConstStaticCell<[u8; table::HEAP_BYTES]> = ConstStaticCell::new([0; table::HEAP_BYTES]);

#[entry]
fn main() -> ! {
    let boot = record::take();
    cmsdk::start(&TIMER);
    cortex::start(table::CLOCK_HZ, || cmsdk::count(&TIMER));
    CmsdkUart::start(UART, table::CLOCK_HZ);
    log::install(|bytes| CmsdkUart::attach(UART).write(bytes));
    let watchdog = CmsdkWatchdog::start(WATCHDOG, table::CLOCK_HZ, WATCHDOG_MS);
    let link = CmsdkPort::start(LINE, table::CLOCK_HZ, leaf::BAUD, &LINE_MEMORY).split();
    LINE_INTERRUPTS.iter().copied().for_each(cortex::enable);
    let function_bytes = heap::start(HEAP_MEMORY.take());
    executor::run(|spawner| {
        let board = Board {
            name: table::NAME,
            architecture: table::ARCHITECTURE,
            link,
            flash: Psram::new(PSRAM, table::STORAGE_BYTES),
            partitions: &table::PARTITIONS,
            boot,
            entropy: None,
            watchdog,
            function_bytes,
            erase_ms: table::ERASE_MS,
        };
        start(spawner, agent(spawner, board));
    })
}

type Port = (PortReader, PortWriter<Mmio>);

fn start<S>(spawner: Spawner, task: Result<SpawnToken<S>, SpawnError>) {
    match task {
        Ok(task) => spawner.spawn(task),
        Err(error) => record::give_up(format_args!("no task: {error:?}")),
    }
}

#[embassy_executor::task]
async fn agent(spawner: Spawner, board: Board<Port, Psram<Mmio>, CmsdkWatchdog<Mmio>>) {
    common::run_leaf(board, common::NoPeripherals, |pump| start(spawner, line(pump))).await
}

#[embassy_executor::task]
async fn line(pump: leaf::Pump<PortReader, PortWriter<Mmio>>) {
    pump.run().await
}

#[exception]
unsafe fn DefaultHandler(interrupt: i16) {
    if LINE_INTERRUPTS.iter().any(|line| *line as i16 == interrupt) {
        CmsdkPort::serve(&LINE, &LINE_MEMORY);
    }
}
