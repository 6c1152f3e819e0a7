//! Faults of a Cortex-M, on boards with and without a vendor's library: they leave a record, and reset.

use crate::record::{self, Cause};
use crate::registers::{Mmio, Registers};
use cortex_m::peripheral::SCB;
use cortex_m_rt::{ExceptionFrame, exception};

/// SAFETY: the fault's status in the system control space, which reading does not change. The smallest cores have none and read
/// as zero.
const STATUS: Mmio = unsafe { Mmio::new(0xe000_ed28) };

#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    let status: u32 = STATUS.read(0);
    record::mark(Cause::Panic, frame.pc(), format_args!("fault, status {status:#010x}, link {:#010x}", frame.lr()));
    crate::log!("fault at {:#010x}, status {status:#010x}", frame.pc());
    // Also before the board has said how it resets.
    SCB::sys_reset()
}
