//! RISC-V's platform-level interrupt controller (PLIC specification 1.0), for one processor in machine mode: interrupts by number, all of
//! one priority.

use crate::registers::Registers;

/// Sources that the specification knows.
pub const SOURCES_MAX: u32 = 1024;
/// One word for each source.
const PRIORITY: usize = 0x0000_0000;
/// One bit for each source: of the first processor in machine mode, as everything below.
const ENABLE: usize = 0x0000_2000;
const THRESHOLD: usize = 0x0020_0000;
/// Read: which interrupt is to be served, 0 for none. Written: it was.
const CLAIM: usize = 0x0020_0004;
const PRIORITY_ON: u32 = 1;

/// Lets an interrupt come.
pub fn enable(registers: &impl Registers, source: u32) {
    if source == 0 || source >= SOURCES_MAX {
        return;
    }
    registers.write(THRESHOLD, 0);
    registers.write(PRIORITY + source as usize * 4, PRIORITY_ON);
    registers.modify(ENABLE + source as usize / 32 * 4, |bits| bits | 1 << (source % 32));
}

/// Serves all that wait.
pub fn serve(registers: &impl Registers, mut act: impl FnMut(u32)) {
    loop {
        let source = registers.read(CLAIM);
        if source == 0 {
            return;
        }
        act(source);
        registers.write(CLAIM, source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::fake::{Device, Fake};
    use std::vec::Vec;

    struct Chip {
        priorities: [u32; 64],
        enabled: [u32; 2],
        threshold: u32,
        pending: u64,
        claimed: u64,
        completed: Vec<u32>,
    }

    impl Chip {
        fn new() -> Self {
            Self { priorities: [0; 64], enabled: [0; 2], threshold: 7, pending: 0, claimed: 0, completed: Vec::new() }
        }

        fn claim(&mut self) -> u32 {
            let is_due = |source: &u32| {
                let bit = 1u64 << source;
                let is_enabled = self.enabled[*source as usize / 32] & 1 << (source % 32) != 0;
                is_enabled
                    && self.pending & !self.claimed & bit != 0
                    && self.priorities[*source as usize] > self.threshold
            };
            let source = (1..64).find(is_due).unwrap_or(0);
            self.pending &= !(1 << source);
            self.claimed |= u64::from(source != 0) << source;
            source
        }
    }

    impl Device for Chip {
        fn read(&mut self, offset: usize) -> u32 {
            match offset {
                ENABLE | 0x2004 => self.enabled[(offset - ENABLE) / 4],
                CLAIM => self.claim(),
                other => panic!("read of {other:#x}"),
            }
        }
        fn write(&mut self, offset: usize, value: u32) {
            match offset {
                4..=0xff => self.priorities[offset / 4] = value,
                ENABLE | 0x2004 => self.enabled[(offset - ENABLE) / 4] = value,
                THRESHOLD => self.threshold = value,
                CLAIM => {
                    assert!(self.claimed & 1 << value != 0, "{value} was not claimed");
                    self.claimed &= !(1 << value);
                    self.completed.push(value);
                }
                other => panic!("write of {other:#x}"),
            }
        }
    }

    #[test]
    fn what_is_enabled_is_served_once_and_completed() {
        let fake = Fake::new(Chip::new());
        enable(&fake, 1);
        enable(&fake, 33);
        fake.0.borrow_mut().pending = 1 << 1 | 1 << 2 | 1 << 33;
        let mut served = Vec::new();
        serve(&fake, |source| served.push(source));
        assert_eq!(served, [1, 33]);
        assert_eq!(fake.0.borrow().completed, [1, 33]);
        serve(&fake, |source| panic!("{source} was served twice"));
    }

    #[test]
    fn one_that_comes_while_others_are_served_is_served_too() {
        let fake = Fake::new(Chip::new());
        enable(&fake, 8);
        fake.0.borrow_mut().pending = 1 << 8;
        let mut served = 0;
        serve(&fake, |_| {
            served += 1;
            if served < 3 {
                fake.0.borrow_mut().pending = 1 << 8;
            }
        });
        // While it is being served it does not come again; the line is looked at when it is completed.
        assert_eq!(served, 3);
    }

    #[test]
    fn a_source_that_no_chip_has_touches_nothing() {
        let fake = Fake::new(Chip::new());
        enable(&fake, 0);
        enable(&fake, SOURCES_MAX);
        assert_eq!(fake.0.borrow().enabled, [0; 2]);
    }
}
