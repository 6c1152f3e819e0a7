//! The watchdog of Intel's 6300ESB I/O controller hub (data sheet 300641, chapter 16), a PCI device. It counts by itself, in two stages,
//! and resets at the end of the second one, whatever the processor does. It remembers that it did.

use crate::registers::Registers;
use crate::watchdog::Watchdog;

/// Configuration space of a PCI device.
const ID: usize = 0x00;
const COMMAND: usize = 0x04;
const BAR0: usize = 0x10;
const CONFIG: usize = 0x60;
const LOCK: usize = 0x68;
/// Vendor Intel, device 6300ESB watchdog.
const ID_VALUE: u32 = 0x25ab_8086;
const COMMAND_MEMORY: u16 = 1 << 1;
/// No interrupt after the first stage, a clock of a kilohertz, reset after the second stage.
const CONFIG_VALUE: u16 = 0b11;
/// On, and not to be switched off until the next reset.
const LOCK_ON: u8 = 0b11;

/// Registers in memory.
const PRELOAD_1: usize = 0x00;
const PRELOAD_2: usize = 0x04;
const RELOAD: usize = 0x0c;
/// Both in this order unlock one write.
const UNLOCK: [u16; 2] = [0x80, 0x86];
const RELOAD_PING: u16 = 1 << 8;
/// Read: it has reset the machine. Written: forgotten.
const RELOAD_TIMEOUT: u16 = 1 << 9;
const PRELOAD_MAX: u32 = (1 << 20) - 1;
/// A tick of the slow clock is 32,768 ticks of PCI's 33 MHz.
const TICK_US: u64 = 32_768 / 33;
/// The second stage does not interrupt either: as short as it can be.
const PRELOAD_2_MIN: u32 = 1;

/// Why there is no watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The slot holds something else, or nothing (all ones).
    Missing(u32),
}

pub struct I6300Esb<R> {
    registers: R,
    has_bitten: bool,
}

impl<R: Registers<u16> + Registers<u32>> I6300Esb<R> {
    /// From now on `feed` is due within `timeout_ms`. `config` is the device's configuration space, `registers` the memory at `bus_address`
    /// where it shall be found. Times beyond the counter's are cut to it.
    pub fn start<C>(config: &C, registers: R, bus_address: u32, timeout_ms: u32) -> Result<Self, StartError>
    where
        C: Registers<u8> + Registers<u16> + Registers<u32>,
    {
        let found: u32 = config.read(ID);
        if found != ID_VALUE {
            return Err(StartError::Missing(found));
        }
        config.write(BAR0, bus_address);
        config.modify(COMMAND, |command: u16| command | COMMAND_MEMORY);
        config.write(CONFIG, CONFIG_VALUE);
        let status: u16 = registers.read(RELOAD);
        let mut watchdog = Self { registers, has_bitten: status & RELOAD_TIMEOUT != 0 };
        let ticks = u64::from(timeout_ms) * 1000 / TICK_US;
        watchdog.preload(PRELOAD_1, u32::try_from(ticks).unwrap_or(u32::MAX).clamp(1, PRELOAD_MAX));
        watchdog.preload(PRELOAD_2, PRELOAD_2_MIN);
        config.write(LOCK, LOCK_ON);
        watchdog.feed();
        Ok(watchdog)
    }

    /// Whether it has reset the machine before this start.
    pub const fn has_bitten(&self) -> bool {
        self.has_bitten
    }

    fn unlock(&self) {
        for word in UNLOCK {
            self.registers.write(RELOAD, word);
        }
    }

    fn preload(&mut self, offset: usize, ticks: u32) {
        self.unlock();
        self.registers.write(offset, ticks);
    }
}

impl<R: Registers<u16> + Registers<u32>> Watchdog for I6300Esb<R> {
    fn feed(&mut self) {
        self.unlock();
        self.registers.write(RELOAD, RELOAD_PING | RELOAD_TIMEOUT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::fake::{Device, Fake};

    /// Both of its register blocks; the configuration space is seen through `Config`.
    #[derive(Default)]
    struct Chip {
        is_absent: bool,
        bar0: u32,
        command: u16,
        config: u16,
        is_on: bool,
        is_locked: bool,
        unlocked: u8,
        preload: [u32; 2],
        count: u64,
        has_bitten: bool,
        resets: u32,
    }

    impl Chip {
        fn pass(&mut self, ticks: u64) {
            if !self.is_on {
                return;
            }
            self.count += ticks;
            if self.count >= u64::from(self.preload[0]) + u64::from(self.preload[1]) {
                assert_eq!(self.config >> 5 & 1, 0, "it is told not to reset");
                self.resets += 1;
                // A reset takes all but one thing.
                *self = Self { has_bitten: true, resets: self.resets, ..Self::default() };
            }
        }

        fn is_mapped(&self) {
            assert!(self.command & 2 != 0 && self.bar0 == 0x4000_0000, "nothing answers at the address");
        }
    }

    impl Device<u16> for Chip {
        fn read(&mut self, offset: usize) -> u16 {
            self.is_mapped();
            assert_eq!(offset, RELOAD);
            u16::from(self.has_bitten) << 9
        }
        fn write(&mut self, offset: usize, value: u16) {
            self.is_mapped();
            assert_eq!(offset, RELOAD);
            match (value, self.unlocked) {
                (0x80, _) => self.unlocked = 1,
                (0x86, 1) => self.unlocked = 2,
                (value, 2) => {
                    self.has_bitten &= value & RELOAD_TIMEOUT == 0;
                    if value & RELOAD_PING != 0 {
                        self.count = 0;
                    }
                    self.unlocked = 0;
                }
                (value, _) => panic!("{value:#x} was written to a locked register"),
            }
        }
    }

    impl Device<u32> for Chip {
        fn read(&mut self, offset: usize) -> u32 {
            panic!("read of {offset:#x}")
        }
        fn write(&mut self, offset: usize, value: u32) {
            self.is_mapped();
            assert_eq!(self.unlocked, 2, "a locked register was written");
            self.preload[offset / 4] = value;
            self.unlocked = 0;
        }
    }

    struct Config(Fake<Chip>);

    impl Device<u32> for Config {
        fn read(&mut self, offset: usize) -> u32 {
            assert_eq!(offset, ID);
            if self.0.0.borrow().is_absent { u32::MAX } else { ID_VALUE }
        }
        fn write(&mut self, offset: usize, value: u32) {
            assert_eq!(offset, BAR0);
            self.0.0.borrow_mut().bar0 = value;
        }
    }

    impl Device<u16> for Config {
        fn read(&mut self, offset: usize) -> u16 {
            assert_eq!(offset, COMMAND);
            self.0.0.borrow().command
        }
        fn write(&mut self, offset: usize, value: u16) {
            match offset {
                COMMAND => self.0.0.borrow_mut().command = value,
                CONFIG => self.0.0.borrow_mut().config = value,
                other => panic!("write of {other:#x}"),
            }
        }
    }

    impl Device<u8> for Config {
        fn read(&mut self, offset: usize) -> u8 {
            panic!("read of {offset:#x}")
        }
        fn write(&mut self, offset: usize, value: u8) {
            assert_eq!(offset, LOCK);
            let mut chip = self.0.0.borrow_mut();
            assert!(!chip.is_locked, "the lock holds until a reset");
            (chip.is_on, chip.is_locked) = (value & 2 != 0, value & 1 != 0);
        }
    }

    fn start(chip: &Fake<Chip>, timeout_ms: u32) -> Result<I6300Esb<Fake<Chip>>, StartError> {
        I6300Esb::start(&Fake::new(Config(chip.clone())), chip.clone(), 0x4000_0000, timeout_ms)
    }

    #[test]
    fn a_fed_one_never_bites_and_a_hungry_one_resets_and_is_remembered_once() {
        let chip = Fake::new(Chip::default());
        let mut watchdog = start(&chip, 10_000).expect("it is there");
        assert!(!watchdog.has_bitten());
        assert!(chip.0.borrow().is_locked);
        for _ in 0..10 {
            chip.0.borrow_mut().pass(10_000);
            watchdog.feed();
        }
        assert_eq!(chip.0.borrow().resets, 0);
        chip.0.borrow_mut().pass(10_100);
        assert_eq!(chip.0.borrow().resets, 1);
        assert!(start(&chip, 10_000).expect("it is there").has_bitten());
        let has_bitten = chip.0.borrow().has_bitten;
        *chip.0.borrow_mut() = Chip { has_bitten, ..Chip::default() };
        assert!(!start(&chip, 10_000).expect("it is there").has_bitten(), "told once");
    }

    #[test]
    fn a_tick_is_a_millisecond_but_for_one_part_in_a_hundred() {
        let chip = Fake::new(Chip::default());
        start(&chip, 10_000).expect("it is there");
        assert!((10_000..10_100).contains(&chip.0.borrow().preload[0]), "{:?}", chip.0.borrow().preload);
    }

    #[test]
    fn a_time_beyond_the_counter_is_cut() {
        let chip = Fake::new(Chip::default());
        start(&chip, u32::MAX).expect("it is there");
        assert_eq!(chip.0.borrow().preload[0], PRELOAD_MAX);
    }

    #[test]
    fn an_empty_slot_is_told() {
        let chip = Fake::new(Chip { is_absent: true, ..Chip::default() });
        assert_eq!(start(&chip, 10_000).err(), Some(StartError::Missing(u32::MAX)));
    }
}
