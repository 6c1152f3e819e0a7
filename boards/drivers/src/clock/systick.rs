//! SysTick (ARMv7-M architecture manual, B3.3) as a clock: it interrupts every millisecond, and its counter divides that.

use crate::registers::Registers;

/// Offsets within the system control space, at 0xE000E000.
const SYST_CSR: usize = 0x010;
const SYST_RVR: usize = 0x014;
const SYST_CVR: usize = 0x018;
const ICSR: usize = 0xd04;
/// Processor clock, interrupt, on.
const CSR_ON: u32 = 0b111;
/// The counter passed zero, and the interrupt has not run yet.
const ICSR_SYSTICK_PENDING: u32 = 1 << 26;
/// The counter has 24 bits.
const RELOAD_MAX: u32 = (1 << 24) - 1;

/// Starts counting. `clock_hz`: the processor's clock, at most 16 GHz / 1000.
pub fn start(registers: &impl Registers, clock_hz: u32) {
    registers.write(SYST_RVR, (clock_hz / 1000).clamp(2, RELOAD_MAX) - 1);
    registers.write(SYST_CVR, 0);
    registers.write(SYST_CSR, CSR_ON);
}

/// Microseconds since the start, given the interrupts that have run. Interrupts are off.
pub fn microseconds(registers: &impl Registers, interrupts: u64) -> u64 {
    let period = u64::from(registers.read(SYST_RVR)) + 1;
    let mut left = registers.read(SYST_CVR);
    let mut milliseconds = interrupts;
    if registers.read(ICSR) & ICSR_SYSTICK_PENDING != 0 {
        // It passed zero before or after it was read above; now it is after for sure.
        left = registers.read(SYST_CVR);
        milliseconds += 1;
    }
    // Right after a start the counter is 0 and not yet reloaded.
    let passed = if left == 0 { 0 } else { period - u64::from(left) };
    milliseconds * 1000 + passed * 1000 / period
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::fake::{Device, Fake};

    #[derive(Default)]
    struct Core {
        reload: u32,
        counter: u32,
        pending: bool,
        /// The counter passes zero right after it is read.
        wraps_after_read: bool,
    }

    impl Device for Core {
        fn read(&mut self, offset: usize) -> u32 {
            match offset {
                SYST_RVR => self.reload,
                SYST_CVR => {
                    let now = self.counter;
                    if self.wraps_after_read {
                        (self.wraps_after_read, self.counter, self.pending) = (false, self.reload, true);
                    }
                    now
                }
                ICSR => u32::from(self.pending) << 26,
                other => panic!("read of {other:#x}"),
            }
        }
        fn write(&mut self, offset: usize, value: u32) {
            match offset {
                SYST_RVR => self.reload = value,
                SYST_CVR => self.counter = 0,
                SYST_CSR => assert_eq!(value, CSR_ON),
                other => panic!("write of {other:#x}"),
            }
        }
    }

    fn started() -> Fake<Core> {
        let fake = Fake::new(Core::default());
        start(&fake, 25_000_000);
        fake
    }

    #[test]
    fn a_millisecond_is_divided_by_the_counter() {
        let fake = started();
        assert_eq!(fake.0.borrow().reload, 24_999);
        assert_eq!(microseconds(&fake, 0), 0);
        fake.0.borrow_mut().counter = 12_500;
        assert_eq!(microseconds(&fake, 7), 7_500);
        fake.0.borrow_mut().counter = 1;
        assert_eq!(microseconds(&fake, 7), 7_999);
    }

    #[test]
    fn time_does_not_go_back_when_the_counter_passes_zero_while_it_is_read() {
        let fake = started();
        fake.0.borrow_mut().counter = 1;
        let before = microseconds(&fake, 7);
        fake.0.borrow_mut().wraps_after_read = true;
        let during = microseconds(&fake, 7);
        let after = microseconds(&fake, 7);
        assert!(before <= during && during <= after, "{before} {during} {after}");
        assert_eq!(after, 8_000);
    }

    #[test]
    fn a_clock_too_fast_for_the_counter_is_cut_to_it() {
        let fake = Fake::new(Core::default());
        start(&fake, u32::MAX);
        assert_eq!(fake.0.borrow().reload, u32::MAX / 1000 - 1);
    }
}
