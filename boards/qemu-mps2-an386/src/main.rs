//! QEMU's MPS2 AN386 board: addresses, interrupt numbers, and which driver is on them. Everything else is `common`.
#![no_std]
#![no_main]

use common::pins::{Chip, Pins};
use common::{Board, heap};
use cortex_m_rt::{entry, exception};
use drivers::clock::cmsdk;
use drivers::ethernet::{Ethernet, Frames};
use drivers::lan9118::Lan9118;
use drivers::nor::psram::Psram;
use drivers::pins::emulated::{Analog, Duty, Level};
use drivers::pins::fpgaio::Led;
use drivers::pins::sbcon::Sbcon;
use drivers::registers::Mmio;
use drivers::uart::CmsdkUart;
use drivers::watchdog::CmsdkWatchdog;
use drivers::{cortex, executor, log, record};
use embassy_executor::{SpawnError, SpawnToken, Spawner};
use embassy_net::Runner;
use embassy_sync::waitqueue::AtomicWaker;
use static_cell::ConstStaticCell;

mod table {
    //! Made from `board.toml`.
    include!(concat!(env!("OUT_DIR"), "/board.rs"));
}

// SAFETY: the addresses are those of the board's manual (ARM DAI0386, memory map), and of nothing that Rust manages.
const TIMER: Mmio = unsafe { Mmio::new(0x4000_0000) };
const UART: Mmio = unsafe { Mmio::new(0x4000_4000) };
const WATCHDOG: Mmio = unsafe { Mmio::new(0x4000_8000) };
const ETHERNET: Mmio = unsafe { Mmio::new(0x4020_0000) };
const PSRAM: Mmio = unsafe { Mmio::new(table::STORAGE_ORIGIN) };
const SHIELD_I2C: Mmio = unsafe { Mmio::new(0x4002_a000) };
const FPGAIO: Mmio = unsafe { Mmio::new(0x4002_8000) };
/// Behind the storage, in the same chip: pins that the emulator has no model of.
const PLAYED_PINS: Mmio = unsafe { Mmio::new(table::STORAGE_ORIGIN + table::STORAGE_BYTES) };
/// A quarter of a bit on the bus, in cycles of the processor.
const I2C_PAUSE: u32 = table::CLOCK_HZ / 400_000;
const ETHERNET_INTERRUPT: u16 = 13;
const WATCHDOG_MS: u32 = 5_000;

static ETHERNET_WAKER: AtomicWaker = AtomicWaker::new();
static FRAMES: ConstStaticCell<Frames> = ConstStaticCell::new(Frames::new());
static HEAP_MEMORY: ConstStaticCell<[u8; table::HEAP_BYTES]> = ConstStaticCell::new([0; table::HEAP_BYTES]);

#[entry]
fn main() -> ! {
    let boot = record::take();
    cmsdk::start(&TIMER);
    cortex::start(table::CLOCK_HZ, || cmsdk::count(&TIMER));
    record::install_safe(|| common::pins::rest(Mps2, &table::PINS));
    CmsdkUart::start(UART, table::CLOCK_HZ);
    log::install(|bytes| CmsdkUart::attach(UART).write(bytes));
    let watchdog = CmsdkWatchdog::start(WATCHDOG, table::CLOCK_HZ, WATCHDOG_MS);
    let chip = match Lan9118::start(ETHERNET) {
        Ok(chip) => chip,
        Err(error) => record::give_up(format_args!("no Ethernet: {error:?}")),
    };
    cortex::enable(ETHERNET_INTERRUPT);
    let function_bytes = heap::start(HEAP_MEMORY.take());
    executor::run(|spawner| {
        let board = Board {
            name: table::NAME,
            architecture: table::ARCHITECTURE,
            link: Ethernet::new(chip, &ETHERNET_WAKER, FRAMES.take()),
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

/// LEDs and one bus of the board; inputs, analogue inputs and duties are played by memory.
struct Mps2;

impl Chip for Mps2 {
    type Input<'a> = Level<Mmio>;
    type Output<'a> = Led<Mmio>;
    type Analog<'a> = Analog<Mmio>;
    type Pwm<'a> = Duty<Mmio>;
    type I2c<'a> = Sbcon<Mmio>;

    fn input(&mut self, line: u8) -> Option<Level<Mmio>> {
        Level::new(PLAYED_PINS, line)
    }

    fn output(&mut self, line: u8) -> Option<Led<Mmio>> {
        Led::new(FPGAIO, line)
    }

    fn analog(&mut self, line: u8) -> Option<Analog<Mmio>> {
        Analog::new(PLAYED_PINS, line)
    }

    fn pwm(&mut self, line: u8) -> Option<Duty<Mmio>> {
        Duty::new(PLAYED_PINS, line)
    }

    fn i2c(&mut self, line: u8) -> Option<Sbcon<Mmio>> {
        (line == 0).then_some(Sbcon::new(SHIELD_I2C, || cortex_m::asm::delay(I2C_PAUSE)))
    }
}

type Wire = Ethernet<Lan9118<Mmio>>;

fn start<S>(spawner: Spawner, task: Result<SpawnToken<S>, SpawnError>) {
    match task {
        Ok(task) => spawner.spawn(task),
        Err(error) => record::give_up(format_args!("no task: {error:?}")),
    }
}

#[embassy_executor::task]
async fn agent(spawner: Spawner, board: Board<Wire, Psram<Mmio>, CmsdkWatchdog<Mmio>>) {
    let pins = Pins { chip: Mps2, table: &table::PINS };
    common::run_with(board, pins, |runner| start(spawner, network(runner))).await
}

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, Wire>) {
    runner.run().await
}

#[exception]
unsafe fn DefaultHandler(interrupt: i16) {
    if interrupt == ETHERNET_INTERRUPT as i16 {
        Lan9118::quiet(&ETHERNET);
        ETHERNET_WAKER.wake();
    }
}
