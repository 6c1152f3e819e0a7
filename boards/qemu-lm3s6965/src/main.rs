//! QEMU's LM3S6965 board: addresses, interrupt numbers, and which driver is on them. Everything else is `common`.
#![no_std]
#![no_main]

use common::Board;
use cortex_m_rt::entry;
use drivers::clock::gptm::Gptm;
use drivers::ethernet::{Ethernet, Frames};
use drivers::lm3s;
use drivers::nor::file::FileFlash;
use drivers::registers::Mmio;
use drivers::semihosting::Debugger;
use drivers::stellaris::Stellaris;
use drivers::uart::Pl011;
use drivers::watchdog::CmsdkWatchdog;
use drivers::{cortex, executor, log, record};
use embassy_executor::{SpawnError, SpawnToken, Spawner};
use embassy_net::Runner;
use embassy_sync::waitqueue::AtomicWaker;
use static_cell::ConstStaticCell;

mod table {
    //! Made from `board.toml`.
    #![allow(dead_code)]
    include!(concat!(env!("OUT_DIR"), "/board.rs"));
}

// SAFETY: the addresses are those of the part's data sheet (LM3S6965, memory map), and of nothing that Rust manages.
const WATCHDOG: Mmio = unsafe { Mmio::new(0x4000_0000) };
const UART: Mmio = unsafe { Mmio::new(0x4000_c000) };
const TIMER: Mmio = unsafe { Mmio::new(0x4003_0000) };
const ETHERNET: Mmio = unsafe { Mmio::new(0x4004_8000) };
const SYSTEM: Mmio = unsafe { Mmio::new(0x400f_e000) };
const TIMER_INTERRUPT: u16 = 19;
const ETHERNET_INTERRUPT: u16 = 42;
const WATCHDOG_MS: u32 = 5_000;

static ETHERNET_WAKER: AtomicWaker = AtomicWaker::new();
static FRAMES: ConstStaticCell<Frames> = ConstStaticCell::new(Frames::new());

#[entry]
fn main() -> ! {
    let boot = record::take();
    lm3s::start(&SYSTEM);
    cortex::start_counting(table::CLOCK_HZ);
    Pl011::start(UART, table::CLOCK_HZ);
    log::install(|bytes| Pl011::attach(UART).write(bytes));
    // The processor's number of the watchdog's interrupt is in `interrupts!` below.
    let watchdog = CmsdkWatchdog::start(WATCHDOG, table::CLOCK_HZ, WATCHDOG_MS);
    cortex::enable_first(18);
    Gptm::start(&TIMER, table::CLOCK_HZ);
    cortex::enable(TIMER_INTERRUPT);
    let chip = Stellaris::start(ETHERNET);
    cortex::enable(ETHERNET_INTERRUPT);
    let flash = match FileFlash::open(Debugger, table::STORAGE_BYTES) {
        Ok(flash) => flash,
        Err(error) => record::give_up(format_args!("no flash: {error:?}")),
    };
    executor::run(|spawner| {
        let board = Board {
            name: table::NAME,
            architecture: table::ARCHITECTURE,
            link: Ethernet::new(chip, &ETHERNET_WAKER, FRAMES.take()),
            flash,
            partitions: &table::PARTITIONS,
            boot,
            entropy: None,
            watchdog,
            function_bytes: 0,
            erase_ms: table::ERASE_MS,
        };
        start(spawner, agent(spawner, board));
    })
}

type Wire = Ethernet<Stellaris<Mmio>>;

fn start<S>(spawner: Spawner, task: Result<SpawnToken<S>, SpawnError>) {
    match task {
        Ok(task) => spawner.spawn(task),
        Err(error) => record::give_up(format_args!("no task: {error:?}")),
    }
}

#[embassy_executor::task]
async fn agent(spawner: Spawner, board: Board<Wire, FileFlash<Debugger>, CmsdkWatchdog<Mmio>>) {
    common::run(board, |runner| start(spawner, network(runner))).await
}

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, Wire>) {
    runner.run().await
}

drivers::interrupts!(watchdog: 18, others: on_interrupt);

fn on_interrupt(interrupt: u16) {
    match interrupt {
        TIMER_INTERRUPT => {
            Gptm::quiet(&TIMER);
            cortex::tick();
        }
        ETHERNET_INTERRUPT => {
            Stellaris::quiet(&ETHERNET);
            ETHERNET_WAKER.wake();
        }
        _ => {}
    }
}
