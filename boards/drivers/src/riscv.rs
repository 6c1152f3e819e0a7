//! What boards with one RISC-V processor in machine mode share: startup, interrupts, time from the core-local interruptor, memory that is
//! protected from the firmware's own mistakes, and traps that leave a record before they reset. One of the files that may be unsafe.
//!
//! Every trap has a stack of its own, so that a stack that ran over still leaves its record.

use crate::clock::clint;
use crate::clock::counter::{microseconds, ticks_at};
use crate::record::{self, Cause};
use crate::registers::Mmio;
use crate::watchdog::Watchdog;
use core::arch::{asm, global_asm};
use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Waker;
use critical_section::{CriticalSection, Mutex, RawRestoreState};
use embassy_time_driver::Driver;
use embassy_time_queue_utils::Queue;

/// Bits of mstatus, mie and mcause.
const STATUS_INTERRUPTS: usize = 1 << 3;
const ENABLE_TIMER: usize = 1 << 7;
const ENABLE_EXTERNAL: usize = 1 << 11;
const CAUSE_INTERRUPT: usize = 1 << 31;
const CAUSE_TIMER: usize = CAUSE_INTERRUPT | 7;
const CAUSE_EXTERNAL: usize = CAUSE_INTERRUPT | 11;

// From the first instruction to the board's `fulmar_main`. Symbols are those of the linker's script, `boards/support/src/riscv.x`.
global_asm!(
    ".section .init, \"ax\"",
    ".global _start",
    "_start:",
    "csrw mie, zero",
    "csrci mstatus, 8",
    ".option push",
    ".option norelax",
    "la gp, __global_pointer$",
    ".option pop",
    "la t0, _trap",
    "csrw mtvec, t0",
    "la t0, _trap_stack",
    "csrw mscratch, t0",
    // Variables with a value, then those without one.
    "la t0, _sdata",
    "la t1, _edata",
    "la t2, _sidata",
    "1: bgeu t0, t1, 2f",
    "lw t3, 0(t2)",
    "sw t3, 0(t0)",
    "addi t0, t0, 4",
    "addi t2, t2, 4",
    "j 1b",
    "2: la t0, _sbss",
    "la t1, _ebss",
    "3: bgeu t0, t1, 4f",
    "sw zero, 0(t0)",
    "addi t0, t0, 4",
    "j 3b",
    // Paint, by which is seen how deep the stack was.
    "4: la t0, _stack_end",
    "la sp, _stack_start",
    "li t1, {paint}",
    "5: bgeu t0, sp, 6f",
    "sw t1, 0(t0)",
    "addi t0, t0, 4",
    "j 5b",
    "6: call fulmar_main",
    "7: j 7b",
    paint = const crate::stack::PAINT,
);

// Everything that a function may change is put on the stack of traps, with the stack pointer of what was interrupted. From then on a
// trap within the trap begins at the top again: that is a fault, from which nobody returns.
global_asm!(
    ".section .text._trap, \"ax\"",
    ".balign 4",
    "_trap:",
    "csrrw sp, mscratch, sp",
    "addi sp, sp, -80",
    "sw ra, 0(sp)",
    "sw t0, 4(sp)",
    "sw t1, 8(sp)",
    "sw t2, 12(sp)",
    "sw t3, 16(sp)",
    "sw t4, 20(sp)",
    "sw t5, 24(sp)",
    "sw t6, 28(sp)",
    "sw a0, 32(sp)",
    "sw a1, 36(sp)",
    "sw a2, 40(sp)",
    "sw a3, 44(sp)",
    "sw a4, 48(sp)",
    "sw a5, 52(sp)",
    "sw a6, 56(sp)",
    "sw a7, 60(sp)",
    "csrr t0, mscratch",
    "sw t0, 64(sp)",
    "addi t0, sp, 80",
    "csrw mscratch, t0",
    "csrr a0, mcause",
    "csrr a1, mepc",
    "csrr a2, mtval",
    "mv a3, ra",
    "call {trap}",
    "lw ra, 0(sp)",
    "lw t0, 4(sp)",
    "lw t1, 8(sp)",
    "lw t2, 12(sp)",
    "lw t3, 16(sp)",
    "lw t4, 20(sp)",
    "lw t5, 24(sp)",
    "lw t6, 28(sp)",
    "lw a0, 32(sp)",
    "lw a1, 36(sp)",
    "lw a2, 40(sp)",
    "lw a3, 44(sp)",
    "lw a4, 48(sp)",
    "lw a5, 52(sp)",
    "lw a6, 56(sp)",
    "lw a7, 60(sp)",
    "lw sp, 64(sp)",
    "mret",
    trap = sym trap,
);

extern "C" fn trap(cause: usize, program_counter: usize, value: usize, link: usize) {
    match cause {
        CAUSE_TIMER => tick(program_counter),
        CAUSE_EXTERNAL => {
            if let Some(serve) = critical_section::with(|cs| EXTERNAL.borrow(cs).get()) {
                serve();
            }
        }
        cause => fault(cause, program_counter, value, link),
    }
}

fn fault(cause: usize, program_counter: usize, value: usize, link: usize) -> ! {
    static HAS_FAULTED: AtomicBool = AtomicBool::new(false);
    // One that tells of a fault and faults: the record is that of the first, or of nothing, and either is better than none of this.
    if !HAS_FAULTED.load(Ordering::Relaxed) {
        HAS_FAULTED.store(true, Ordering::Relaxed);
        let place = u32::try_from(program_counter).unwrap_or(0);
        record::mark(
            Cause::Panic,
            place,
            format_args!("fault {cause}: {}, value {value:#010x}, link {link:#010x}", name(cause)),
        );
        crate::log!("fault {cause} at {program_counter:#010x}: {}, value {value:#010x}", name(cause));
    }
    record::reset()
}

/// The causes of the privileged architecture, table 3.6.
const fn name(cause: usize) -> &'static str {
    match cause {
        0 => "instruction address misaligned",
        1 => "instruction access",
        2 => "illegal instruction",
        3 => "breakpoint",
        4 => "load address misaligned",
        5 => "load access",
        6 => "store address misaligned",
        7 => "store access",
        _ => "not expected",
    }
}

struct SingleHart;
critical_section::set_impl!(SingleHart);

// SAFETY: there is one processor, and without interrupts nothing else runs on it.
unsafe impl critical_section::Impl for SingleHart {
    unsafe fn acquire() -> RawRestoreState {
        let status: usize;
        // SAFETY: takes the interrupts away, and keeps the compiler from moving memory accesses before that.
        unsafe { asm!("csrrci {}, mstatus, 8", out(reg) status) };
        status & STATUS_INTERRUPTS != 0
    }

    unsafe fn release(had_interrupts: RawRestoreState) {
        if had_interrupts {
            // SAFETY: gives them back as `acquire` found them.
            unsafe { asm!("csrsi mstatus, 8") };
        }
    }
}

/// Where time comes from.
#[derive(Clone, Copy)]
struct Source {
    registers: Mmio,
    hz: u32,
    /// Where the counter stood at boot.
    zero: u64,
}

impl Source {
    fn now(&self) -> u64 {
        microseconds(clint::count(&self.registers).saturating_sub(self.zero), self.hz)
    }
}

struct CounterClock {
    /// `None` until the board has started it: then time stands at zero.
    source: Mutex<Cell<Option<Source>>>,
    queue: Mutex<RefCell<Queue>>,
    /// When the watchdog was to be fed at the latest, in microseconds.
    deadline: Mutex<Cell<u64>>,
}

impl CounterClock {
    /// Wakes what is due, and interrupts when the next is.
    fn look(&self, cs: CriticalSection<'_>) {
        let Some(source) = self.source.borrow(cs).get() else { return };
        let next = self.queue.borrow_ref_mut(cs).next_expiration(source.now()).min(self.deadline.borrow(cs).get());
        clint::interrupt_at(&source.registers, ticks_at(next, source.hz).saturating_add(source.zero));
    }
}

impl Driver for CounterClock {
    fn now(&self) -> u64 {
        critical_section::with(|cs| self.source.borrow(cs).get()).map_or(0, |source| source.now())
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| {
            if self.queue.borrow_ref_mut(cs).schedule_wake(at, waker) {
                self.look(cs);
            }
        });
    }
}

embassy_time_driver::time_driver_impl!(static CLOCK: CounterClock = CounterClock {
    source: Mutex::new(Cell::new(None)),
    queue: Mutex::new(RefCell::new(Queue::new())),
    deadline: Mutex::new(Cell::new(u64::MAX)),
});

static EXTERNAL: Mutex<Cell<Option<fn()>>> = Mutex::new(Cell::new(None));

fn tick(program_counter: usize) {
    critical_section::with(|cs| {
        if CLOCK.now() >= CLOCK.deadline.borrow(cs).get() {
            hung(program_counter);
        }
        CLOCK.look(cs);
    });
}

fn hung(program_counter: usize) -> ! {
    record::mark(
        Cause::Watchdog,
        u32::try_from(program_counter).unwrap_or(0),
        format_args!("the watchdog was not fed"),
    );
    crate::log!("watchdog at {program_counter:#010x}");
    record::reset()
}

/// Starts time, and lets interrupts come. First of all, after `install_reset`. `clint` counts `hz` times a second; `external` serves the
/// chip's interrupts.
pub fn start(clint: Mmio, hz: u32, external: fn()) {
    protect();
    critical_section::with(|cs| {
        EXTERNAL.borrow(cs).set(Some(external));
        let source = Source { registers: clint, hz, zero: clint::count(&clint) };
        CLOCK.source.borrow(cs).set(Some(source));
        CLOCK.look(cs);
    });
    // SAFETY: who serves them is there.
    unsafe {
        asm!("csrs mie, {}", in(reg) ENABLE_TIMER | ENABLE_EXTERNAL);
        asm!("csrsi mstatus, 8");
    }
}

/// The memory protection of the processor, locked until its reset: the program is not written, RAM is not executed, and what lies between
/// both is not touched. The stack ends where RAM begins, so that one that runs over faults.
fn protect() {
    /// Up to this address from that of the entry before; locked, which also holds for machine mode.
    const UP_TO: usize = 0x80 | 0x08;
    const READ: usize = 1;
    const WRITE: usize = 2;
    const EXECUTE: usize = 4;
    unsafe extern "C" {
        static _program_start: u8;
        static _program_end: u8;
        static _ram_start: u8;
        static _ram_end: u8;
    }
    let entries = [&raw const _program_start, &raw const _program_end, &raw const _ram_start, &raw const _ram_end];
    let [program, program_end, ram, ram_end] = entries.map(|address| address.addr() >> 2);
    let modes = (UP_TO | READ | EXECUTE) << 8 | UP_TO << 16 | (UP_TO | READ | WRITE) << 24;
    // SAFETY: the ranges are those of the linker's script, which put program and memory there; everything else stays as it was.
    unsafe {
        asm!(
            "csrw pmpaddr0, {}", "csrw pmpaddr1, {}", "csrw pmpaddr2, {}", "csrw pmpaddr3, {}", "csrw pmpcfg0, {}",
            in(reg) program, in(reg) program_end, in(reg) ram, in(reg) ram_end, in(reg) modes,
        );
    }
}

/// A deadline that the clock's interrupt looks at: it says where the firmware hung. It sees nothing while interrupts are off; that is for
/// a watchdog of the chip.
pub struct Deadline {
    timeout_us: u64,
}

impl Deadline {
    /// From now on `feed` is due within `timeout_ms`. After `start`.
    pub fn start(timeout_ms: u32) -> Self {
        let mut deadline = Self { timeout_us: u64::from(timeout_ms) * 1000 };
        deadline.feed();
        critical_section::with(|cs| CLOCK.look(cs));
        deadline
    }
}

impl Watchdog for Deadline {
    fn feed(&mut self) {
        critical_section::with(|cs| {
            let until = CLOCK.now().saturating_add(self.timeout_us);
            CLOCK.deadline.borrow(cs).set(until);
        });
    }
}
