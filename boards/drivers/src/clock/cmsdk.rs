//! The timer of ARM's CMSDK (TRM section 4.4) as a counter that runs by itself.

use crate::registers::Registers;

const CTRL: usize = 0x00;
const VALUE: usize = 0x04;
const RELOAD: usize = 0x08;
/// On, from the bus clock, without an interrupt.
const CTRL_ON: u32 = 1;

/// Starts it at zero.
pub fn start(registers: &impl Registers) {
    registers.write(RELOAD, u32::MAX);
    registers.write(VALUE, u32::MAX);
    registers.write(CTRL, CTRL_ON);
}

/// Where it stands. The chip counts down, time counts up.
pub fn count(registers: &impl Registers) -> u32 {
    !registers.read(VALUE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::fake::{Device, Fake};

    #[derive(Default)]
    struct Chip {
        on: bool,
        value: u32,
        reload: u32,
    }

    impl Device for Chip {
        fn read(&mut self, offset: usize) -> u32 {
            assert_eq!(offset, VALUE);
            assert!(self.on);
            self.value
        }
        fn write(&mut self, offset: usize, value: u32) {
            match offset {
                CTRL => self.on = value == CTRL_ON,
                VALUE => self.value = value,
                RELOAD => self.reload = value,
                other => panic!("write of {other:#x}"),
            }
        }
    }

    #[test]
    fn it_starts_at_zero_and_counts_up_over_a_whole_round() {
        let fake = Fake::new(Chip::default());
        start(&fake);
        assert_eq!(count(&fake), 0);
        fake.0.borrow_mut().value -= 25;
        assert_eq!(count(&fake), 25);
        fake.0.borrow_mut().value = 0;
        assert_eq!(count(&fake), u32::MAX);
        assert_eq!(fake.0.borrow().reload, u32::MAX);
    }
}
