//! What every board does once its chip is set up. A board's own code makes a `Board` and calls `run`; everything after that
//! is the same on all of them. It must not know a chip.
#![no_std]
#![deny(unsafe_code)]

mod agent;
mod config;
#[cfg(feature = "functions")]
pub mod heap;
mod kept;
pub mod leaf;
pub mod pins;
pub mod port;
#[cfg(feature = "updates")]
mod update;
#[cfg(not(feature = "updates"))]
#[path = "update_absent.rs"]
mod update;
mod wired;

use agent_nostd::shell::Never;
use agent_nostd::shell::port as shell;
pub use agent_nostd::shell::port::NoPeripherals;
use agent_nostd::shell::port::{Peripherals, Updates as _};
use core::cell::RefCell;
use core::pin::pin;
use drivers::log;
use drivers::nor::Partition;
use drivers::record::Boot;
use drivers::watchdog::Watchdog;
use embassy_futures::join::join;
use embassy_net::Runner;
use embassy_net::driver::Driver;
use embassy_time::{Duration, Timer};
use embedded_io_async::{Read, Write};
use embedded_storage::nor_flash::NorFlash;
use port::Console;
use static_cell::ConstStaticCell;
use update::Update;
pub use wire::hello::Architecture;
use wire::limits::PROVISION_BYTES_MAX;
use wire::provision::Network;

/// How often a board without an agent feeds its watchdog, and how often the stack is looked at.
const IDLE_PERIOD: Duration = Duration::from_secs(1);
const STACK_PERIOD: Duration = Duration::from_secs(5);

/// A board whose chip is set up.
pub struct Board<L, F: NorFlash, W: Watchdog> {
    pub name: &'static str,
    pub architecture: Architecture,
    /// What reaches out: a driver for Ethernet, or the port of a serial line.
    pub link: L,
    /// The storage of `board.toml`; offsets of partitions count from its start.
    pub flash: F,
    pub partitions: &'static [Partition],
    pub boot: Boot,
    /// From the chip's random source, of this boot; `None` where there is none.
    pub entropy: Option<[u8; 32]>,
    /// Started by the board with a time of at least three seconds; `()` where there is none.
    pub watchdog: W,
    /// What `heap::start` answered; 0 on a board without functions.
    pub function_bytes: u32,
    /// The longest time that the erasure of a sector takes, in milliseconds. Of 32 bits: aligned to eight bytes, a board is moved
    /// through the stack together with everything that its agent will need, which small parts have no room for.
    pub erase_ms: u32,
}

/// Runs a board without pins for functions. See `run_with`.
pub async fn run<D: Driver + 'static, F: NorFlash, W: Watchdog>(
    board: Board<D, F, W>,
    start: impl FnOnce(Runner<'static, D>),
) -> ! {
    run_with(board, NoPeripherals, start).await
}

/// Runs the board for ever. `start` makes a task of its own of the network: each look at a socket wakes it, and in one task with
/// the agent, who looks whenever it is woken, neither would ever sleep.
pub async fn run_with<D: Driver + 'static, F: NorFlash, W: Watchdog, P: Peripherals>(
    board: Board<D, F, W>,
    peripherals: P,
    start: impl FnOnce(Runner<'static, D>),
) -> ! {
    operate(board, peripherals, |ethernet, network, seed| {
        let (stack, runner) = wired::connect(ethernet, network, seed);
        start(runner);
        (wired::network(stack), wired::watch(stack))
    })
    .await
}

/// As `run_with`, for a board without a network of its own: a serial line leads to its gateway. `start` makes a task of its own of
/// the line, for the same reason, and so that the gateway hears of the board whatever the agent does.
pub async fn run_leaf<R: Read + 'static, T: Write + 'static, F: NorFlash, W: Watchdog, P: Peripherals>(
    board: Board<(R, T), F, W>,
    peripherals: P,
    start: impl FnOnce(leaf::Pump<R, T>),
) -> ! {
    operate(board, peripherals, |port, _, seed| {
        let (network, pump) = leaf::connect(port, seed);
        start(pump);
        (network, watch_stack())
    })
    .await
}

/// What every board does, whatever reaches out. `connect` is called once, with the network that the flasher wrote and a number of
/// this boot; it gives the network and what watches it.
async fn operate<L, N: shell::Network, F: NorFlash, W: Watchdog, P: Peripherals, V: Future<Output = Never>>(
    board: Board<L, F, W>,
    mut peripherals: P,
    connect: impl FnOnce(L, &Network, u64) -> (N, V),
) -> ! {
    static CONFIG: ConstStaticCell<[u8; PROVISION_BYTES_MAX]> = ConstStaticCell::new([0; PROVISION_BYTES_MAX]);
    let Board { name, architecture, link, mut flash, partitions, boot, entropy, watchdog, function_bytes, erase_ms } =
        board;
    // Whatever a reset left behind.
    peripherals.rest();
    say_hello(name, &boot);
    log!("flash: {} bytes in sectors of {}, {} partitions", flash.capacity(), F::ERASE_SIZE, partitions.len());
    let provision = config::read(&mut flash, partitions, name, CONFIG.take());
    let console = Console::new(boot, architecture, watchdog);
    let flash = RefCell::new(flash);
    let mut updates = Update::of(name, &flash, partitions, &console.watchdog);
    let is_on_trial = updates.is_on_trial();
    match updates.running() {
        Some(running) => log!("firmware: version {}{}", running.version, if is_on_trial { ", on trial" } else { "" }),
        None if is_on_trial => log!("firmware: on trial, and for another board than {name}"),
        None => {}
    }
    let mut store = None;
    agent::open(&mut store, &flash, partitions);
    // Without a record nothing is secret, and no connection is opened.
    let mut network_seed = embassy_time::Instant::now().as_ticks();
    let ready = match (&provision, &mut store) {
        (Some(provision), Some(store)) => {
            let mut retained = kept::SEED.get();
            let (seed, number) =
                agent::seed(store, &mut retained, provision, entropy.as_ref().map_or(&[], <[u8; 32]>::as_slice));
            kept::SEED.put(retained);
            network_seed = number;
            Some((provision, store, seed))
        }
        (None, _) | (_, None) => None,
    };
    let network = ready.as_ref().map_or(Network::Dhcp, |(provision, ..)| provision.network);
    let (mut network, watching) = connect(link, &network, network_seed);
    // Pinned where they are: handed over as values, both would pass through the stack, with room for the agent at its largest.
    let work = pin!(async {
        match ready {
            Some((provision, store, seed)) => {
                match agent::run(
                    &mut network,
                    &console,
                    store,
                    (&mut peripherals, &mut updates),
                    provision,
                    seed,
                    (function_bytes, erase_ms),
                )
                .await {}
            }
            // Firmware that finds no hub to ask, on trial, is not what there was before it.
            None => wait_for_flasher(&console, is_on_trial).await,
        }
    });
    match join(pin!(watching), work).await.0 {}
}

fn say_hello(name: &str, boot: &Boot) {
    log!("fulmar on {name}");
    match boot.program_counter {
        Some(at) => log!("reset: {:?} at {at:#010x}, {} since power came", boot.cause, boot.resets),
        None => log!("reset: {:?}, {} since power came", boot.cause, boot.resets),
    }
    if !boot.text.is_empty() {
        log!("last words: {}", boot.text);
    }
}

/// A board that does not know its hub has its network only, so that whoever looks sees that the hardware works.
async fn wait_for_flasher<W: Watchdog>(console: &Console<W>, is_on_trial: bool) -> ! {
    loop {
        if !is_on_trial {
            agent_nostd::shell::port::Board::alive(console);
        }
        Timer::after(IDLE_PERIOD).await;
    }
}

/// Says how deep the stack was.
async fn watch_stack() -> Never {
    let mut deepest = 0;
    loop {
        deepest = tell_stack(deepest);
        Timer::after(STACK_PERIOD).await;
    }
}

/// Says how deep the stack was if that is deeper than before, and how deep that was.
fn tell_stack(deepest: usize) -> usize {
    let (used, of) = measure();
    if used > deepest {
        log!("stack: {used} of {of} bytes used");
    }
    used.max(deepest)
}

#[cfg(target_os = "none")]
fn measure() -> (usize, usize) {
    drivers::stack::measure()
}

/// No board runs on a machine with an operating system.
#[cfg(not(target_os = "none"))]
fn measure() -> (usize, usize) {
    (0, 0)
}
