//! SysTick (ARMv7-M architecture manual, B3.3): it interrupts every millisecond, so that tasks that are due are woken. It is no
//! clock: an interrupt that is late twice comes once.

use crate::registers::Registers;

/// Offsets within the system control space, at 0xE000E000.
const SYST_CSR: usize = 0x010;
const SYST_RVR: usize = 0x014;
const SYST_CVR: usize = 0x018;
/// Processor clock, interrupt, on.
const CSR_ON: u32 = 0b111;
/// The counter has 24 bits.
const RELOAD_MAX: u32 = (1 << 24) - 1;

/// Starts the interrupts. `clock_hz`: the processor's clock.
pub fn start(registers: &impl Registers, clock_hz: u32) {
    registers.write(SYST_RVR, (clock_hz / 1000).clamp(2, RELOAD_MAX) - 1);
    registers.write(SYST_CVR, 0);
    registers.write(SYST_CSR, CSR_ON);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::fake::{Device, Fake};

    #[derive(Default)]
    struct Core {
        reload: u32,
        on: bool,
    }

    impl Device for Core {
        fn read(&mut self, offset: usize) -> u32 {
            panic!("read of {offset:#x}")
        }
        fn write(&mut self, offset: usize, value: u32) {
            match offset {
                SYST_RVR => self.reload = value,
                SYST_CVR => assert_eq!(value, 0),
                SYST_CSR => self.on = value == CSR_ON,
                other => panic!("write of {other:#x}"),
            }
        }
    }

    #[test]
    fn it_interrupts_every_millisecond() {
        let fake = Fake::new(Core::default());
        start(&fake, 25_000_000);
        assert_eq!((fake.0.borrow().reload, fake.0.borrow().on), (24_999, true));
    }

    #[test]
    fn a_clock_too_fast_for_the_counter_is_cut_to_it() {
        let fake = Fake::new(Core::default());
        start(&fake, u32::MAX);
        assert_eq!(fake.0.borrow().reload, u32::MAX / 1000 - 1);
    }
}
