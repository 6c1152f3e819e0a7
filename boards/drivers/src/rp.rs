//! RP2040 and RP2350 with a W5500 on their SPI: clocks, log, watchdog, flash, random numbers and Ethernet, over Raspberry Pi's
//! chips' library. What a board adds is which pins it has soldered.

use crate::log;
use crate::nor::window::Window;
use crate::record::{self, Boot, Cause};
use crate::watchdog::Watchdog;
use core::cell::RefCell;
use critical_section::Mutex;
use embassy_net_wiznet::chip::W5500;
use embassy_net_wiznet::{Device, Runner, State};
use embassy_rp::bind_interrupts;
use embassy_rp::clocks::ClockConfig;
use embassy_rp::config::Config;
use embassy_rp::dma;
use embassy_rp::flash::{self, Flash};
use embassy_rp::gpio::{Input, Level, Output, Pull};
use embassy_rp::peripherals::{DMA_CH0, DMA_CH1, FLASH, SPI0};
use embassy_rp::spi::{self, Spi};
#[cfg(feature = "rp235x")]
use embassy_rp::trng::{self, Trng};
use embassy_rp::uart::{self, UartTx};
use embassy_rp::watchdog::{ResetReason, Watchdog as Chip};
use embassy_time::{Delay, Duration};
use embedded_hal_bus::spi::ExclusiveDevice;
use static_cell::ConstStaticCell;

/// The largest flash that either chip addresses; windows cut it to what the board has.
const FLASH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The flash, as the processor sees it.
const FLASH_ORIGIN: u32 = 0x1000_0000;
/// A sector's erasure takes up to 400 ms, and holds everything up.
const WATCHDOG_MS: u64 = 5_000;
/// The W5500 takes 80 MHz; boards' traces and level shifters take less.
const SPI_HZ: u32 = 30_000_000;
/// Frames on their way in each direction.
const FRAMES: usize = 2;

bind_interrupts!(struct Interrupts {
    DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>, dma::InterruptHandler<DMA_CH1>;
    #[cfg(feature = "rp235x")]
    TRNG_IRQ => trng::InterruptHandler<embassy_rp::peripherals::TRNG>;
});

type Bus = ExclusiveDevice<Spi<'static, SPI0, spi::Async>, Output<'static>, Delay>;
/// What moves frames between the chip and embassy-net; a task of its own.
pub type Frames = Runner<'static, W5500, Bus, Input<'static>, Output<'static>>;
/// The network of such a board.
pub type Wire = Device<'static>;
/// Its storage.
pub type Storage = Window<Flash<'static, FLASH, flash::Blocking, FLASH_BYTES_MAX>>;

/// UART0, at 115200 baud on GPIO 0.
static LOG: Mutex<RefCell<Option<UartTx<'static, uart::Blocking>>>> = Mutex::new(RefCell::new(None));

/// The watchdog: it resets the chip, and its reason register says so after it.
pub struct Dog(Chip);

impl Watchdog for Dog {
    fn feed(&mut self) {
        self.0.feed(Duration::from_millis(WATCHDOG_MS));
    }
}

/// The pins of a W5500 on SPI0, which WIZnet's boards have all in one place.
pub struct Network {
    spi: Spi<'static, SPI0, spi::Async>,
    select: Output<'static>,
    interrupt: Input<'static>,
    reset: Output<'static>,
    address: [u8; 6],
}

/// A chip that is set up.
pub struct Set {
    pub boot: Boot,
    pub watchdog: Dog,
    pub network: Network,
    pub flash: Storage,
    /// `None` on the RP2040, whose ring oscillator is no source to make keys of.
    pub entropy: Option<[u8; 32]>,
}

/// Sets the chip up; `storage_origin` as the processor sees it. First of all, and once.
pub fn start(clock_hz: u32, storage_origin: usize, storage_bytes: usize) -> Set {
    let mut boot = record::take();
    record::install_reset(|| cortex_m::peripheral::SCB::sys_reset());
    let chip = match ClockConfig::system_freq(clock_hz) {
        Ok(clocks) => embassy_rp::init(Config::new(clocks)),
        Err(error) => record::give_up(format_args!("no clock of {clock_hz} Hz: {error:?}")),
    };
    let uart = UartTx::new_blocking(chip.UART0, chip.PIN_0, uart::Config::default());
    critical_section::with(|cs| LOG.borrow_ref_mut(cs).replace(uart));
    log::install(say);
    let mut watchdog = Chip::new(chip.WATCHDOG);
    // The reset says nothing for itself; who hung left no word.
    if boot.cause == Cause::Pin && matches!(watchdog.reset_reason(), Some(ResetReason::TimedOut)) {
        boot.cause = Cause::Watchdog;
    }
    watchdog.start(Duration::from_millis(WATCHDOG_MS));
    let mut config = spi::Config::default();
    config.frequency = SPI_HZ;
    let spi =
        Spi::new(chip.SPI0, chip.PIN_18, chip.PIN_19, chip.PIN_16, chip.DMA_CH0, chip.DMA_CH1, Interrupts, config);
    let mut flash = Flash::<_, _, FLASH_BYTES_MAX>::new_blocking(chip.FLASH);
    let address = address(&mut flash);
    let network = Network {
        spi,
        select: Output::new(chip.PIN_17, Level::High),
        interrupt: Input::new(chip.PIN_21, Pull::Up),
        reset: Output::new(chip.PIN_20, Level::High),
        address,
    };
    let from = u32::try_from(storage_origin).unwrap_or(u32::MAX).saturating_sub(FLASH_ORIGIN);
    let flash = Window::new(flash, from, u32::try_from(storage_bytes).unwrap_or(u32::MAX));
    #[cfg(feature = "rp235x")]
    let entropy = {
        let mut bytes = [0; 32];
        Trng::new(chip.TRNG, Interrupts, trng::Config::default()).blocking_fill_bytes(&mut bytes);
        Some(bytes)
    };
    #[cfg(feature = "rp2040")]
    let entropy = None;
    Set { boot, watchdog: Dog(watchdog), network, flash, entropy }
}

/// A locally administered address from what the maker wrote into chip or flash, so that no two boards of a network share one.
fn address(flash: &mut Flash<'static, FLASH, flash::Blocking, FLASH_BYTES_MAX>) -> [u8; 6] {
    let mut unique = [0; 8];
    #[cfg(feature = "rp2040")]
    let is_known = flash.blocking_unique_id(&mut unique).is_ok();
    #[cfg(feature = "rp235x")]
    let is_known = {
        let _ = flash;
        embassy_rp::otp::get_chipid().map(|id| unique = id.to_be_bytes()).is_ok()
    };
    if !is_known {
        record::give_up(format_args!("the chip does not say its number"));
    }
    let [_, _, _, a, b, c, d, e] = unique;
    [0x02, a, b, c, d, e]
}

/// Brings up the W5500. One that does not answer ends this run: there is no other way to a hub.
pub async fn ethernet(network: Network) -> (Wire, Frames) {
    static STATE: ConstStaticCell<State<FRAMES, FRAMES>> = ConstStaticCell::new(State::new());
    let bus = match ExclusiveDevice::new(network.spi, network.select, Delay) {
        Ok(bus) => bus,
        Err(error) => record::give_up(format_args!("no Ethernet: {error:?}")),
    };
    match embassy_net_wiznet::new(network.address, STATE.take(), bus, network.interrupt, network.reset).await {
        Ok(parts) => parts,
        Err(error) => record::give_up(format_args!("no Ethernet: {error:?}")),
    }
}

fn say(bytes: &[u8]) {
    critical_section::with(|cs| {
        // A line that cannot be sent is lost, and so is that of a fault in the middle of another line, of which the record tells.
        if let Ok(mut uart) = LOG.borrow(cs).try_borrow_mut()
            && let Some(uart) = uart.as_mut()
        {
            let _ = uart.blocking_write(bytes);
        }
    });
}
