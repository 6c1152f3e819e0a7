//! What QEMU's MPS2 AN386 board runs first: addresses, and which driver is on them. Everything else is `boot`.
#![no_std]
#![no_main]

use boot::{Done, Fault, Fed, Mark, prepare};
use core::cell::RefCell;
use cortex_m::peripheral::SCB;
use cortex_m_rt::entry;
use drivers::nor::{Partition, psram::Psram};
use drivers::registers::Mmio;
use drivers::uart::CmsdkUart;
use drivers::watchdog::CmsdkWatchdog;
use drivers::{log, record};

mod table {
    //! Made from `board.toml`.
    include!(concat!(env!("OUT_DIR"), "/board.rs"));
}

// SAFETY: the addresses are those of the board's manual (ARM DAI0386, memory map), and of nothing that Rust manages.
const UART: Mmio = unsafe { Mmio::new(0x4000_4000) };
const WATCHDOG: Mmio = unsafe { Mmio::new(0x4000_8000) };
const PSRAM: Mmio = unsafe { Mmio::new(table::STORAGE_ORIGIN) };
/// The firmware starts its own when it has got so far; one that hangs before is reset by this one.
const WATCHDOG_MS: u32 = 5_000;

#[entry]
fn main() -> ! {
    record::install_reset(|| SCB::sys_reset());
    CmsdkUart::start(UART, table::CLOCK_HZ);
    log::install(|bytes| CmsdkUart::attach(UART).write(bytes));
    let watchdog = CmsdkWatchdog::start(WATCHDOG, table::CLOCK_HZ, WATCHDOG_MS);
    let flash = RefCell::new(Fed { flash: Psram::new(PSRAM, table::STORAGE_BYTES), watchdog });
    let moves = |mark| log!("boot: {}", if mark == Mark::Trial { "taking back" } else { "swapping" });
    match prepare(&flash, &table::PARTITIONS, table::NAME, moves) {
        Ok(ready) => {
            let what = match ready.done {
                Done::Nothing => "",
                Done::Swapped => ", for a trial",
                Done::Reverted => ", after one that was not confirmed",
                Done::Refused => ", what was to replace it is not whole",
            };
            log!("boot: version {}{what}", ready.image.version);
            start()
        }
        Err(fault @ (Fault::Partitions | Fault::Flash | Fault::NoImage)) => {
            log!("boot: nothing to start: {fault:?}; flash the board");
            // Until the watchdog resets: flash may answer the next time.
            loop {
                cortex_m::asm::wfi();
            }
        }
    }
}

/// Into the firmware where it lies.
fn start() -> ! {
    let program = Partition::named(&table::PARTITIONS, boot::RUNNING).map_or(0, |slot| slot.offset);
    let vectors = table::STORAGE_ORIGIN as u32 + program + boot::PROGRAM_OFFSET;
    // SAFETY: the vector table of a firmware whose hash was right begins there; nothing of this program is used after the jump, no
    // interrupt of the chip is on, and nobody else has the processor.
    unsafe {
        (*SCB::PTR).vtor.write(vectors);
        cortex_m::asm::bootload(core::ptr::with_exposed_provenance(vectors as usize))
    }
}
