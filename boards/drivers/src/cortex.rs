//! What Cortex-M boards without a vendor's library share: time from a counter of the chip, interrupts by number, and faults that leave a
//! record before they reset. One of the files that may be unsafe.

use crate::clock::counter::{Extended, microseconds};
use crate::clock::systick;
use crate::record::{self, Cause};
use crate::registers::{Mmio, Registers};
use core::cell::{Cell, RefCell};
use core::task::Waker;
use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::{NVIC, SCB};
use cortex_m_rt::exception;
use critical_section::{CriticalSection, Mutex};
use embassy_time_driver::Driver;
use embassy_time_queue_utils::Queue;

/// SAFETY: the system control space of every Cortex-M; of SysTick and the priorities of interrupts, and only from here.
const SYSTEM: Mmio = unsafe { Mmio::new(0xe000_e000) };

/// A chip's counter: how to read it, and its ticks per second.
#[derive(Clone, Copy)]
struct Source {
    count: fn() -> u32,
    hz: u32,
}

struct CounterClock {
    /// `None` until the board has started it: then time stands at zero.
    source: Mutex<Cell<Option<Source>>>,
    /// Not borrowed while it is counted: the watchdog's interrupt and faults come in between, and say the time too.
    counted: Mutex<Cell<Extended>>,
    /// When the next task wants to be woken, in microseconds.
    next: Mutex<Cell<u64>>,
    queue: Mutex<RefCell<Queue>>,
}

impl CounterClock {
    fn now(&self, cs: CriticalSection<'_>) -> u64 {
        let Some(source) = self.source.borrow(cs).get() else { return 0 };
        let (counted, ticks) = self.counted.borrow(cs).get().ticks((source.count)());
        self.counted.borrow(cs).set(counted);
        microseconds(ticks, source.hz)
    }

    fn wake_due(&self, cs: CriticalSection<'_>) {
        let now = self.now(cs);
        let next = self.queue.borrow_ref_mut(cs).next_expiration(now);
        self.next.borrow(cs).set(next);
    }
}

impl Driver for CounterClock {
    fn now(&self) -> u64 {
        critical_section::with(|cs| self.now(cs))
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| {
            if self.queue.borrow_ref_mut(cs).schedule_wake(at, waker) {
                self.wake_due(cs);
            }
        });
    }
}

embassy_time_driver::time_driver_impl!(static CLOCK: CounterClock = CounterClock {
    source: Mutex::new(Cell::new(None)),
    counted: Mutex::new(Cell::new(Extended::new())),
    next: Mutex::new(Cell::new(u64::MAX)),
    queue: Mutex::new(RefCell::new(Queue::new())),
});

/// Wakes what is due: for the handler of whatever interrupts every millisecond. Also asks the counter once per round, however long
/// nobody wants to know the time.
pub fn tick() {
    critical_section::with(|cs| {
        if CLOCK.now(cs) >= CLOCK.next.borrow(cs).get() {
            CLOCK.wake_due(cs);
        }
    });
}

#[exception]
fn SysTick() {
    tick();
}

/// Starts time, and says how to reset. First of all. `count` reads a counter of the chip that runs already, at the processor's
/// clock, and counts up through all 32 bits.
pub fn start(clock_hz: u32, count: fn() -> u32) {
    count_with(count, clock_hz);
    systick::start(&SYSTEM, clock_hz);
}

/// As `start`, for a chip without a counter of its own: SysTick counts, and the board calls `tick` every millisecond. For clocks up
/// to 16 MHz, of which a round takes a second.
pub fn start_counting(clock_hz: u32) {
    systick::start_counting(&SYSTEM);
    count_with(|| systick::count(&SYSTEM), clock_hz.saturating_mul(systick::PARTS));
}

fn count_with(count: fn() -> u32, hz: u32) {
    record::install_reset(|| SCB::sys_reset());
    critical_section::with(|cs| CLOCK.source.borrow(cs).set(Some(Source { count, hz })));
}

/// An interrupt by its number in the vector table.
#[derive(Clone, Copy)]
struct Interrupt(u16);

// SAFETY: the number is the chip's, from the board's table; the processor ignores those that it does not have.
unsafe impl InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self.0
    }
}

/// Priorities of the interrupt controller, a byte for each interrupt; the smaller comes first, and all are zero at first.
const PRIORITIES: usize = 0x400;
const LATER: u32 = 0x80;

/// Lets an interrupt of the chip come. It arrives at the board's `DefaultHandler` with this number.
pub fn enable(interrupt: u16) {
    let (word, byte) = (usize::from(interrupt) & !3, u32::from(interrupt) & 3);
    SYSTEM.modify(PRIORITIES + word, |priorities: u32| priorities | LATER << (8 * byte));
    enable_first(interrupt);
}

/// As `enable`, for one that also interrupts the handlers of the others.
pub fn enable_first(interrupt: u16) {
    // SAFETY: no critical section of ours rests on masking single interrupts.
    unsafe { NVIC::unmask(Interrupt(interrupt)) };
}

/// The watchdog's first zero: the place where the firmware hung is in the frame that the processor pushed.
///
/// # Safety
/// The processor enters it, or a handler that has not touched the stack.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn NonMaskableInt() {
    core::arch::naked_asm!("mov r0, sp", "ldr r0, [r0, #24]", "b {hung}", hung = sym hung)
}

extern "C" fn hung(program_counter: u32) -> ! {
    record::mark(Cause::Watchdog, program_counter, format_args!("the watchdog was not fed"));
    crate::log!("watchdog at {program_counter:#010x}");
    SCB::sys_reset()
}

/// The interrupt that is being handled.
pub fn interrupt() -> u16 {
    // SAFETY: reading the control block has no effect.
    let active = unsafe { (*SCB::PTR).icsr.read() } & 0x1ff;
    (active as u16).saturating_sub(16)
}

/// The handler of all interrupts, for a chip whose watchdog has an interrupt among them instead of the NMI.
#[macro_export]
macro_rules! interrupts {
    (watchdog: $watchdog:literal, others: $others:path) => {
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn DefaultHandler() {
            extern "C" fn others() {
                $others($crate::cortex::interrupt());
            }
            ::core::arch::naked_asm!(
                "mrs r0, ipsr",
                "cmp r0, #{watchdog}",
                "bne 1f",
                "b {hung}",
                "1:",
                "b {others}",
                watchdog = const 16 + $watchdog,
                hung = sym $crate::cortex::NonMaskableInt,
                others = sym others,
            )
        }
    };
}
