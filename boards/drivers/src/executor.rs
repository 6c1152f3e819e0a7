//! Embassy's raw executor with a wait for interrupts. The stock one waits for events, which an emulator treats as a yield and
//! burns a core with.

use core::sync::atomic::{AtomicBool, Ordering};
use embassy_executor::{Spawner, raw};
use static_cell::StaticCell;

/// Some task has something to do.
static AWAKE: AtomicBool = AtomicBool::new(true);

#[unsafe(export_name = "__pender")]
fn pender(_context: *mut ()) {
    AWAKE.store(true, Ordering::Release);
}

/// Runs tasks for ever; `start` spawns the first ones.
pub fn run(start: impl FnOnce(Spawner)) -> ! {
    static EXECUTOR: StaticCell<raw::Executor> = StaticCell::new();
    let executor: &'static raw::Executor = EXECUTOR.init(raw::Executor::new(core::ptr::null_mut()));
    start(executor.spawner());
    loop {
        AWAKE.store(false, Ordering::Release);
        // SAFETY: only this loop polls, and it is not entered twice, because the cell above can be taken once.
        unsafe { executor.poll() };
        wait();
    }
}

/// Waits for an interrupt, unless a task was woken since it was polled. Interrupts are off between look and wait, so that no
/// waking falls in between; one that is pending ends the wait all the same and runs afterwards.
fn wait() {
    critical_section::with(|_| {
        if !AWAKE.load(Ordering::Acquire) {
            #[cfg(target_arch = "arm")]
            // SAFETY: the instruction waits and touches no memory.
            unsafe {
                core::arch::asm!("dsb", "wfi")
            };
            #[cfg(target_arch = "riscv32")]
            // SAFETY: as above.
            unsafe {
                core::arch::asm!("wfi")
            };
        }
    });
}
