//! STM32H743 with an Ethernet transceiver on its RMII: clocks, log, watchdog, flash, random numbers and Ethernet, over the library of
//! ST's chips. What a board adds is its table.

use crate::log;
use crate::nor::window::Window;
use crate::record::{self, Boot, Cause};
use crate::registers::{Mmio, Registers};
use crate::watchdog::Watchdog;
use core::cell::RefCell;
use critical_section::Mutex;
use embassy_stm32::eth::{self, Ethernet, GenericPhy, PacketQueue, Sma};
use embassy_stm32::flash::{Blocking, Flash};
use embassy_stm32::mode;
use embassy_stm32::peripherals::{ETH, ETH_SMA, IWDG1, RNG};
use embassy_stm32::rcc::{
    AHBPrescaler, APBPrescaler, HSIPrescaler, Hsi48Config, Pll, PllDiv, PllMul, PllPreDiv, PllSource, Sysclk,
    VoltageScale, clocks,
};
use embassy_stm32::rng::{self, Rng};
use embassy_stm32::usart::{self, UartTx};
use embassy_stm32::wdg::IndependentWatchdog;
use embassy_stm32::{Config, bind_interrupts, uid};
use static_cell::StaticCell;

/// The flash, as the processor sees it.
const FLASH_ORIGIN: u32 = 0x0800_0000;
/// SAFETY: why the chip was reset (RM0433, section 8.7.37), which the library of the chip neither reads nor clears.
const RESETS: Mmio = unsafe { Mmio::new(0x5802_44d0) };
const RESETS_WATCHDOG: u32 = 1 << 26;
const RESETS_FORGET: u32 = 1 << 16;
/// A sector of 128 KiB is erased within 4 s (datasheet, table 53), and nobody feeds the watchdog meanwhile.
const WATCHDOG_US: u32 = 10_000_000;
/// Frames on their way in each direction.
const FRAMES: usize = 4;

bind_interrupts!(struct Interrupts {
    ETH => eth::InterruptHandler;
    RNG => rng::InterruptHandler<RNG>;
});

/// The network of such a board.
pub type Wire = Ethernet<'static, ETH, GenericPhy<Sma<'static, ETH_SMA>>>;
/// Its storage.
pub type Storage = Window<Flash<'static, Blocking>>;

/// USART3, at 115200 baud on PD8: the probe of a Nucleo shows it as a serial port.
static LOG: Mutex<RefCell<Option<UartTx<'static, mode::Blocking>>>> = Mutex::new(RefCell::new(None));

/// The independent watchdog: it resets the chip, and a flag says so after it.
pub struct Dog(IndependentWatchdog<'static, IWDG1>);

impl Watchdog for Dog {
    fn feed(&mut self) {
        self.0.pet();
    }
}

/// A chip that is set up.
pub struct Set {
    pub boot: Boot,
    pub watchdog: Dog,
    pub ethernet: Wire,
    pub flash: Storage,
    pub entropy: [u8; 32],
}

/// Sets the chip up; `storage_origin` as the processor sees it. First of all, and once.
pub fn start(clock_hz: u32, storage_origin: usize, storage_bytes: usize) -> Set {
    let mut boot = record::take();
    record::install_reset(|| cortex_m::peripheral::SCB::sys_reset());
    let chip = embassy_stm32::init(config());
    match UartTx::new_blocking(chip.USART3, chip.PD8, usart::Config::default()) {
        Ok(uart) => critical_section::with(|cs| {
            if let Ok(mut log) = LOG.borrow(cs).try_borrow_mut() {
                log.replace(uart);
            }
        }),
        Err(error) => record::give_up(format_args!("no log: {error:?}")),
    }
    log::install(say);
    let runs_at = clocks(&chip.RCC).sys.to_hertz().map(|clock| clock.0);
    if runs_at != Some(clock_hz) {
        record::give_up(format_args!("the clock is {runs_at:?} and not {clock_hz} Hz"));
    }
    // The reset says nothing for itself; who hung left no word.
    let resets: u32 = RESETS.read(0);
    let has_bitten = resets & RESETS_WATCHDOG != 0;
    RESETS.write(0, RESETS_FORGET);
    if boot.cause == Cause::Pin && has_bitten {
        boot.cause = Cause::Watchdog;
    }
    let mut watchdog = IndependentWatchdog::new(chip.IWDG1, WATCHDOG_US);
    watchdog.unleash();
    let mut entropy = [0; 32];
    Rng::new(chip.RNG, Interrupts).fill_bytes(&mut entropy);
    static QUEUE: StaticCell<PacketQueue<FRAMES, FRAMES>> = StaticCell::new();
    // The pins that RMII has on every Nucleo-144 (UM2407, table 10).
    let ethernet = Ethernet::new(
        QUEUE.init_with(PacketQueue::new),
        chip.ETH,
        Interrupts,
        chip.PA1,
        chip.PA7,
        chip.PC4,
        chip.PC5,
        chip.PG13,
        chip.PB13,
        chip.PG11,
        address(),
        chip.ETH_SMA,
        chip.PA2,
        chip.PC1,
    );
    let from = u32::try_from(storage_origin).unwrap_or(u32::MAX).saturating_sub(FLASH_ORIGIN);
    let bytes = u32::try_from(storage_bytes).unwrap_or(u32::MAX);
    let flash = Window::new(Flash::new_blocking(chip.FLASH), from, bytes);
    Set { boot, watchdog: Dog(watchdog), ethernet, flash, entropy }
}

/// 400 MHz from the chip's own oscillator, and the 48 MHz that random numbers are made with.
fn config() -> Config {
    let mut config = Config::default();
    config.rcc.hsi = Some(HSIPrescaler::DIV1);
    config.rcc.hsi48 = Some(Hsi48Config::default());
    config.rcc.pll1 = Some(Pll {
        source: PllSource::HSI,
        prediv: PllPreDiv::DIV4,
        mul: PllMul::MUL50,
        fracn: None,
        divp: Some(PllDiv::DIV2),
        divq: None,
        divr: None,
    });
    config.rcc.sys = Sysclk::PLL1_P;
    config.rcc.ahb_pre = AHBPrescaler::DIV2;
    config.rcc.apb1_pre = APBPrescaler::DIV2;
    config.rcc.apb2_pre = APBPrescaler::DIV2;
    config.rcc.apb3_pre = APBPrescaler::DIV2;
    config.rcc.apb4_pre = APBPrescaler::DIV2;
    config.rcc.voltage_scale = VoltageScale::Scale1;
    config
}

/// A locally administered address from the 96 bits of the chip's number, so that no two boards of a network share one.
fn address() -> [u8; 6] {
    let number = uid::uid();
    let sum = number
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    let [a, b, c, d, e, ..] = sum.to_be_bytes();
    [0x02, a, b, c, d, e]
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
