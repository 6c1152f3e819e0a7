//! What every board does once its chip is set up. A board's own code makes a `Board` and calls `run`; everything after that
//! is the same on all of them. It must not know a chip.
#![no_std]
#![forbid(unsafe_code)]

mod config;

use drivers::log;
use drivers::nor::Partition;
use drivers::record::Boot;
use drivers::watchdog::Watchdog;
use embassy_futures::join::join3;
use embassy_net::driver::Driver;
use embassy_net::{Stack, StackResources};
use embassy_time::{Duration, Timer};
use embedded_storage::nor_flash::NorFlash;
use static_cell::{ConstStaticCell, StaticCell};
use wire::limits::PROVISION_BYTES_MAX;
use wire::provision::Network;

/// Sockets at the same time: DHCP, the broker, and one to spare.
const SOCKETS: usize = 3;
/// The watchdog's time is a board's; it is fed this often.
const FEED_PERIOD: Duration = Duration::from_secs(1);
/// The stack is looked at this often, and told when it grew.
const STACK_PERIOD: Duration = Duration::from_secs(10);

/// A board whose chip is set up.
pub struct Board<D: Driver + 'static, F: NorFlash, W: Watchdog> {
    pub name: &'static str,
    pub ethernet: D,
    /// The storage of `board.toml`; offsets of partitions count from its start.
    pub flash: F,
    pub partitions: &'static [Partition],
    pub boot: Boot,
    /// Started by the board with a time of at least three seconds; `()` where there is none.
    pub watchdog: W,
}

/// Runs the board for ever, as its only task.
pub async fn run<D: Driver + 'static, F: NorFlash, W: Watchdog>(board: Board<D, F, W>) -> ! {
    static RESOURCES: StaticCell<StackResources<SOCKETS>> = StaticCell::new();
    static CONFIG: ConstStaticCell<[u8; PROVISION_BYTES_MAX]> = ConstStaticCell::new([0; PROVISION_BYTES_MAX]);
    let Board { name, ethernet, mut flash, partitions, boot, mut watchdog } = board;
    say_hello(name, &boot);
    say_storage(&flash, partitions);
    let provision = config::read(&mut flash, partitions, name, CONFIG.take());
    let network = provision.map_or(Network::Dhcp, |provision| provision.network);
    // No port number or sequence number may be the same after a reset; what is random on this board is mixed in by its time.
    let seed = embassy_time::Instant::now().as_ticks() ^ (u64::from(boot.resets) << 32);
    let (stack, mut runner) =
        embassy_net::new(ethernet, config::of(&network), RESOURCES.init(StackResources::new()), seed);
    let keep_alive = async {
        loop {
            watchdog.feed();
            Timer::after(FEED_PERIOD).await;
        }
    };
    let work = async { watch_network(stack).await };
    join3(runner.run(), keep_alive, work).await.0
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

fn say_storage<F: NorFlash>(flash: &F, partitions: &[Partition]) {
    log!("flash: {} bytes in sectors of {}, {} partitions", flash.capacity(), F::ERASE_SIZE, partitions.len());
}

/// Says when the network came and went, and how deep the stack was.
async fn watch_network(stack: Stack<'_>) -> ! {
    let mut deepest = 0;
    loop {
        stack.wait_config_up().await;
        if let Some(config) = stack.config_v4() {
            log!("network: {}, router {:?}", config.address, config.gateway);
        }
        while stack.is_config_up() {
            let (used, of) = measure();
            if used > deepest {
                deepest = used;
                log!("stack: {used} of {of} bytes used");
            }
            Timer::after(STACK_PERIOD).await;
        }
        log!("network: down");
    }
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
