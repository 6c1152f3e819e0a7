//! The general-purpose timer of TI's Stellaris LM3S parts (data sheet of the LM3S6965, chapter 10): it interrupts every millisecond,
//! so that tasks that are due are woken. It is no clock, because an interrupt that is late twice comes once.

use crate::registers::Registers;

const CONFIGURATION: usize = 0x00;
const MODE: usize = 0x04;
const CONTROL: usize = 0x0c;
const MASK: usize = 0x18;
const CLEAR: usize = 0x24;
const LOAD: usize = 0x28;

/// One counter of 32 bits.
const WHOLE: u32 = 0;
const PERIODIC: u32 = 2;
const ON: u32 = 1;
const TIMED_OUT: u32 = 1;

pub struct Gptm;

impl Gptm {
    /// Starts the interrupts. Its clock, of `clock_hz`, runs already.
    pub fn start(registers: &impl Registers, clock_hz: u32) {
        registers.write(CONTROL, 0);
        registers.write(CONFIGURATION, WHOLE);
        registers.write(MODE, PERIODIC);
        registers.write(LOAD, (clock_hz / 1000).max(2) - 1);
        registers.write(MASK, TIMED_OUT);
        registers.write(CONTROL, ON);
    }

    /// Takes the interrupt back; for its handler.
    pub fn quiet(registers: &impl Registers) {
        registers.write(CLEAR, TIMED_OUT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::fake::{Device, Fake};

    #[derive(Default)]
    struct Chip {
        on: bool,
        mode: u32,
        load: u32,
        mask: u32,
        pending: u32,
    }

    impl Device for Chip {
        fn read(&mut self, offset: usize) -> u32 {
            panic!("read of {offset:#x}")
        }
        fn write(&mut self, offset: usize, value: u32) {
            match offset {
                CONTROL => self.on = value & ON != 0,
                CLEAR => self.pending &= !value,
                _ if self.on => panic!("{offset:#x} is written while it counts"),
                CONFIGURATION => assert_eq!(value, WHOLE),
                MODE => self.mode = value,
                LOAD => self.load = value,
                MASK => self.mask = value,
                other => panic!("write of {other:#x}"),
            }
        }
    }

    #[test]
    fn it_interrupts_every_millisecond_until_it_is_quieted() {
        let fake = Fake::new(Chip { on: true, ..Chip::default() });
        Gptm::start(&fake, 12_500_000);
        {
            let mut chip = fake.0.borrow_mut();
            assert_eq!((chip.on, chip.mode, chip.load, chip.mask), (true, PERIODIC, 12_499, TIMED_OUT));
            chip.pending = TIMED_OUT;
        }
        Gptm::quiet(&fake);
        assert_eq!(fake.0.borrow().pending, 0);
    }
}
