//! System control of TI's Stellaris LM3S parts (data sheet of the LM3S6965, chapter 6): its clock, and those of what a board uses.

use crate::registers::Registers;

const RAW_INTERRUPTS: usize = 0x050;
const RUN_CLOCK: usize = 0x060;
/// Clocks of watchdog, of UART and timer, of Ethernet.
const GATES: [(usize, u32); 3] = [(0x100, 1 << 3), (0x104, (1 << 16) | 1), (0x108, (1 << 30) | (1 << 28))];

const PLL_LOCKED: u32 = 1 << 6;
const USE_DIVIDER: u32 = 1 << 22;
const BYPASS: u32 = 1 << 11;
const POWER_DOWN: u32 = 1 << 13;
/// Crystal, source and divider of the clock.
const FIELDS: u32 = (0x1f << 6) | (3 << 4) | (0xf << 23);
/// A crystal of 8 MHz at the main oscillator, and the PLL's 200 MHz through 16.
const CRYSTAL_8_MHZ: u32 = 0xe << 6;
const THROUGH_16: u32 = 15 << 23;
/// The PLL locks in half a millisecond; a part that never does runs on its crystal alone.
const POLLS_MAX: u32 = 100_000;

/// The processor's clock after `start`. It is no faster, so that the processor's own counter takes more than a second per round.
pub const CLOCK_HZ: u32 = 12_500_000;

/// Sets the clock to `CLOCK_HZ`, and switches on watchdog, UART 0, timer 0 and Ethernet.
pub fn start(registers: &impl Registers) {
    registers.modify(RUN_CLOCK, |clock| (clock | BYPASS) & !USE_DIVIDER);
    registers.modify(RUN_CLOCK, |clock| (clock & !FIELDS & !POWER_DOWN) | CRYSTAL_8_MHZ | THROUGH_16);
    registers.modify(RUN_CLOCK, |clock| clock | USE_DIVIDER);
    if (0..POLLS_MAX).any(|_| registers.read(RAW_INTERRUPTS) & PLL_LOCKED != 0) {
        registers.modify(RUN_CLOCK, |clock| clock & !BYPASS);
    }
    for (gate, clocks) in GATES {
        registers.modify(gate, |on| on | clocks);
    }
    // The clock comes a few cycles after its gate; reading it back takes as long.
    registers.read(GATES[2].0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::fake::{Device, Fake};
    use std::collections::HashMap;

    /// After reset: internal oscillator, PLL off and bypassed.
    const RESET_VALUE: u32 = 0x078e_3ac0;

    #[derive(Default)]
    struct Chip {
        registers: HashMap<usize, u32>,
        locks_after: Option<u32>,
        used_unlocked: bool,
    }

    impl Device for Chip {
        fn read(&mut self, offset: usize) -> u32 {
            match offset {
                RAW_INTERRUPTS => match &mut self.locks_after {
                    Some(0) => PLL_LOCKED,
                    Some(left) => {
                        *left -= 1;
                        0
                    }
                    None => 0,
                },
                RUN_CLOCK => *self.registers.get(&RUN_CLOCK).unwrap_or(&RESET_VALUE),
                other => *self.registers.get(&other).unwrap_or(&0),
            }
        }
        fn write(&mut self, offset: usize, value: u32) {
            if offset == RUN_CLOCK {
                self.used_unlocked |= value & BYPASS == 0 && self.locks_after != Some(0);
            }
            self.registers.insert(offset, value);
        }
    }

    #[test]
    fn the_clock_is_taken_from_the_pll_only_once_that_is_steady() {
        let fake = Fake::new(Chip { locks_after: Some(5), ..Chip::default() });
        start(&fake);
        let chip = fake.0.borrow();
        assert!(!chip.used_unlocked);
        let clock = chip.registers[&RUN_CLOCK];
        assert_eq!(clock & (BYPASS | POWER_DOWN), 0);
        assert_eq!(200_000_000 / ((clock >> 23 & 0xf) + 1), CLOCK_HZ);
        assert_ne!(clock & USE_DIVIDER, 0);
        assert_eq!((clock >> 4 & 3, clock >> 6 & 0x1f), (0, 0xe), "the crystal");
        assert_eq!(
            (chip.registers[&0x100], chip.registers[&0x104], chip.registers[&0x108]),
            (8, 0x1_0001, 0x5000_0000)
        );
    }

    #[test]
    fn a_pll_that_never_locks_is_not_used_and_nobody_waits_for_ever() {
        let fake = Fake::new(Chip::default());
        start(&fake);
        assert!(!fake.0.borrow().used_unlocked);
        assert_ne!(fake.0.borrow().registers[&RUN_CLOCK] & BYPASS, 0);
    }
}
