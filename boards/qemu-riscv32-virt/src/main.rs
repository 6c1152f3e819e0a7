//! QEMU's RISC-V machine `virt`, of 32 bits: addresses, interrupt numbers, and which driver is on them. Everything else is `common`.
#![no_std]
#![no_main]

use common::{Board, heap};
use drivers::ethernet::{Ethernet, Frames};
use drivers::i6300esb::I6300Esb;
use drivers::nor::cfi::CfiFlash;
use drivers::ns16550::Ns16550;
use drivers::registers::Mmio;
use drivers::riscv::{self, Deadline};
use drivers::virtio::net::{Memory, VirtioNet};
use drivers::{executor, log, plic, record, sifive_test, virtio};
use embassy_executor::{SpawnError, SpawnToken, Spawner};
use embassy_net::Runner;
use embassy_sync::waitqueue::AtomicWaker;
use static_cell::ConstStaticCell;

mod table {
    //! Made from `board.toml`.
    include!(concat!(env!("OUT_DIR"), "/board.rs"));
}

// SAFETY: the addresses are those of the machine's memory map (QEMU, hw/riscv/virt.c), and of nothing that Rust manages.
const FINISHER: Mmio = unsafe { Mmio::new(0x0010_0000) };
const CLINT: Mmio = unsafe { Mmio::new(0x0200_0000) };
const PLIC: Mmio = unsafe { Mmio::new(0x0c00_0000) };
const UART: Mmio = unsafe { Mmio::new(0x1000_0000) };
const NETWORK: Mmio = unsafe { Mmio::new(0x1000_1000) };
const FLASH: Mmio = unsafe { Mmio::new(table::STORAGE_ORIGIN) };
/// Bus 0, device 1, function 0; and the first address of the window for devices of PCI.
const WATCHDOG_CONFIG: Mmio = unsafe { Mmio::new(0x3000_8000) };
const WATCHDOG_AT: u32 = 0x4000_0000;
const WATCHDOG: Mmio = unsafe { Mmio::new(WATCHDOG_AT as usize) };
const UART_HZ: u32 = 3_686_400;
const NETWORK_INTERRUPT: u32 = 1;
/// The clock's interrupt says where it hung; the chip's watchdog comes later, and through everything.
const DEADLINE_MS: u32 = 5_000;
const WATCHDOG_MS: u32 = 8_000;

static NETWORK_WAKER: AtomicWaker = AtomicWaker::new();
static NETWORK_MEMORY: Memory = Memory::new();
static FRAMES: ConstStaticCell<Frames> = ConstStaticCell::new(Frames::new());
static HEAP_MEMORY: ConstStaticCell<[u8; table::HEAP_BYTES]> = ConstStaticCell::new([0; table::HEAP_BYTES]);

#[unsafe(export_name = "fulmar_main")]
extern "C" fn main() -> ! {
    let boot = record::take();
    record::install_reset(reset);
    Ns16550::start(UART, UART_HZ);
    log::install(|bytes| Ns16550::attach(UART).write(bytes));
    riscv::start(CLINT, table::CLOCK_HZ, || plic::serve(&PLIC, serve));
    let watchdog = started("watchdog", I6300Esb::start(&WATCHDOG_CONFIG, WATCHDOG, WATCHDOG_AT, WATCHDOG_MS));
    let network = started("network", VirtioNet::start(NETWORK, &NETWORK_MEMORY));
    let flash = started("flash", CfiFlash::start(FLASH, table::STORAGE_BYTES));
    plic::enable(&PLIC, NETWORK_INTERRUPT);
    let function_bytes = heap::start(HEAP_MEMORY.take());
    executor::run(|spawner| {
        let board = Board {
            name: table::NAME,
            architecture: table::ARCHITECTURE,
            link: Ethernet::new(network, &NETWORK_WAKER, FRAMES.take()),
            flash,
            partitions: &table::PARTITIONS,
            boot: boot.bitten(watchdog.has_bitten()),
            entropy: None,
            watchdog: (Deadline::start(DEADLINE_MS), watchdog),
            function_bytes,
            erase_ms: table::ERASE_MS,
        };
        start(spawner, agent(spawner, board));
    })
}

type Wire = Ethernet<VirtioNet<Mmio>>;
type Watchdogs = (Deadline, I6300Esb<Mmio>);

fn reset() -> ! {
    sifive_test::reset(&FINISHER);
    loop {
        core::hint::spin_loop();
    }
}

fn serve(interrupt: u32) {
    if interrupt == NETWORK_INTERRUPT {
        virtio::acknowledge(&NETWORK);
        NETWORK_WAKER.wake();
    }
}

fn started<T>(what: &str, result: Result<T, impl core::fmt::Debug>) -> T {
    match result {
        Ok(device) => device,
        Err(error) => record::give_up(format_args!("no {what}: {error:?}")),
    }
}

fn start<S>(spawner: Spawner, task: Result<SpawnToken<S>, SpawnError>) {
    match task {
        Ok(task) => spawner.spawn(task),
        Err(error) => record::give_up(format_args!("no task: {error:?}")),
    }
}

#[embassy_executor::task]
async fn agent(spawner: Spawner, board: Board<Wire, CfiFlash<Mmio>, Watchdogs>) {
    common::run(board, |runner| start(spawner, network(runner))).await
}

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, Wire>) {
    runner.run().await
}
