//! SysTick (ARMv7-M architecture manual, B3.3), in one of two uses. It interrupts every millisecond, so that tasks that are due are
//! woken: then it is no clock, because an interrupt that is late twice comes once. Or it counts, and something else wakes.

use crate::registers::Registers;

/// Offsets within the system control space, at 0xE000E000.
const SYST_CSR: usize = 0x010;
const SYST_RVR: usize = 0x014;
const SYST_CVR: usize = 0x018;
/// Processor clock, interrupt, on.
const CSR_ON: u32 = 0b111;
/// Processor clock, on.
const CSR_COUNTING: u32 = 0b101;
/// The counter has 24 bits.
const RELOAD_MAX: u32 = (1 << 24) - 1;
/// `count` answers in these parts of a tick, so that it passes zero after all 32 bits.
pub const PARTS: u32 = 1 << 8;

/// Starts the interrupts. `clock_hz`: the processor's clock.
pub fn start(registers: &impl Registers, clock_hz: u32) {
    registers.write(SYST_RVR, (clock_hz / 1000).clamp(2, RELOAD_MAX) - 1);
    registers.write(SYST_CVR, 0);
    registers.write(SYST_CSR, CSR_ON);
}

/// Lets it count from zero through all of its bits, without interrupts.
pub fn start_counting(registers: &impl Registers) {
    registers.write(SYST_RVR, RELOAD_MAX);
    registers.write(SYST_CVR, 0);
    registers.write(SYST_CSR, CSR_COUNTING);
}

/// Where it stands after `start_counting`, in parts of a tick. The counter counts down, time counts up.
pub fn count(registers: &impl Registers) -> u32 {
    registers.read(SYST_CVR).wrapping_neg().wrapping_mul(PARTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::fake::{Device, Fake};

    #[derive(Default)]
    struct Core {
        reload: u32,
        value: u32,
        on: bool,
        counting: bool,
    }

    impl Device for Core {
        fn read(&mut self, offset: usize) -> u32 {
            assert_eq!(offset, SYST_CVR);
            self.value
        }
        fn write(&mut self, offset: usize, value: u32) {
            match offset {
                SYST_RVR => self.reload = value,
                SYST_CVR => assert_eq!(value, 0),
                SYST_CSR => (self.on, self.counting) = (value == CSR_ON, value == CSR_COUNTING),
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

    #[test]
    fn it_counts_up_from_zero_and_passes_zero_with_all_bits() {
        let fake = Fake::new(Core::default());
        start_counting(&fake);
        assert_eq!((fake.0.borrow().reload, fake.0.borrow().counting), (RELOAD_MAX, true));
        let at = |value| {
            fake.0.borrow_mut().value = value;
            count(&fake)
        };
        assert_eq!([at(0), at(RELOAD_MAX), at(RELOAD_MAX - 1)], [0, PARTS, 2 * PARTS]);
        assert_eq!(at(1).wrapping_add(PARTS), 0, "a whole round");
    }
}
