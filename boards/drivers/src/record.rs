//! What survives a reset in memory: why the last run ended, where, and how often the board was reset since power came.
//!
//! The memory is not initialised by anybody. Without power it holds noise, which the check finds; then power had been away.
//! Writing it must work within a fault: no allocation, no lock, no formatting machinery of its own.

use core::fmt::{self, Write};

/// Text that a panic leaves, cut to this.
pub const TEXT_BYTES_MAX: usize = 120;
const MAGIC: u32 = 0x464c_4d52;

/// Why the board started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Power had been away, or the record was destroyed.
    PowerOn,
    /// The reset line, or a reset that nobody announced.
    Pin,
    /// The firmware asked for it.
    Software,
    /// The firmware hung.
    Watchdog,
    /// A panic or a fault of the processor.
    Panic,
}

impl Cause {
    const fn code(self) -> u32 {
        match self {
            Cause::PowerOn => 0,
            Cause::Pin => 1,
            Cause::Software => 2,
            Cause::Watchdog => 3,
            Cause::Panic => 4,
        }
    }

    const fn from_code(code: u32) -> Option<Self> {
        match code {
            1 => Some(Cause::Pin),
            2 => Some(Cause::Software),
            3 => Some(Cause::Watchdog),
            4 => Some(Cause::Panic),
            _ => None,
        }
    }
}

/// The memory of the record: plain words, so that any noise in it is a value.
#[repr(C)]
#[derive(Clone)]
pub struct Record {
    magic: u32,
    resets: u32,
    cause: u32,
    program_counter: u32,
    text_bytes: u32,
    text: [u8; TEXT_BYTES_MAX],
    check: u32,
}

/// How this run began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    pub cause: Cause,
    /// Resets since power came.
    pub resets: u32,
    /// Where it was when it ended, if known.
    pub program_counter: Option<u32>,
    pub text: heapless::String<TEXT_BYTES_MAX>,
}

impl Boot {
    /// With what a watchdog remembers by itself, that left no word in the record.
    pub fn bitten(self, has_bitten: bool) -> Self {
        match self.cause {
            Cause::Pin if has_bitten => {
                let text = heapless::String::try_from("the watchdog was not fed, and no interrupt came through");
                Self { cause: Cause::Watchdog, text: text.unwrap_or_default(), ..self }
            }
            Cause::PowerOn | Cause::Pin | Cause::Software | Cause::Watchdog | Cause::Panic => self,
        }
    }
}

impl Record {
    pub const fn empty() -> Self {
        Self { magic: 0, resets: 0, cause: 0, program_counter: 0, text_bytes: 0, text: [0; TEXT_BYTES_MAX], check: 0 }
    }

    /// Reads how the last run ended, and prepares the record for this one: a reset that nobody announces is the reset line.
    pub fn take(&mut self) -> Boot {
        let boot = match Cause::from_code(self.cause) {
            Some(cause) if self.magic == MAGIC && self.check == self.sum() => {
                let bytes = self.text.get(..self.text_bytes as usize).unwrap_or_default();
                let text = core::str::from_utf8(bytes).unwrap_or_default();
                Boot {
                    cause,
                    resets: self.resets.saturating_add(1),
                    program_counter: (self.program_counter != 0).then_some(self.program_counter),
                    text: heapless::String::try_from(text).unwrap_or_default(),
                }
            }
            _ => Boot { cause: Cause::PowerOn, resets: 0, program_counter: None, text: heapless::String::new() },
        };
        self.magic = MAGIC;
        self.resets = boot.resets;
        self.mark(Cause::Pin, 0, format_args!(""));
        boot
    }

    /// Says how this run ends. `program_counter` 0: not known.
    pub fn mark(&mut self, cause: Cause, program_counter: u32, text: fmt::Arguments<'_>) {
        self.cause = cause.code();
        self.program_counter = program_counter;
        self.text_bytes = 0;
        // A text that is too long is cut.
        let _ = self.write_fmt(text);
        self.check = self.sum();
    }

    /// FNV-1a over everything but itself: noise passes once in four milliards.
    fn sum(&self) -> u32 {
        let words = [self.magic, self.resets, self.cause, self.program_counter, self.text_bytes];
        let bytes = words.iter().flat_map(|word| word.to_le_bytes()).chain(self.text);
        bytes.fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    }
}

impl Write for Record {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let mut utf8 = [0; 4];
            let bytes = character.encode_utf8(&mut utf8).as_bytes();
            let start = self.text_bytes as usize;
            let place = self.text.get_mut(start..start + bytes.len()).ok_or(fmt::Error)?;
            place.copy_from_slice(bytes);
            self.text_bytes += bytes.len() as u32;
        }
        Ok(())
    }
}

#[cfg(target_os = "none")]
pub use kept::{give_up, install_reset, install_safe, mark, reset, take};

/// The record in the memory that nobody initialises, and the way into a reset.
#[cfg(target_os = "none")]
mod kept {
    use super::{Boot, Cause, Record};
    use crate::kept::Kept;
    use core::cell::Cell;
    use core::fmt;
    use critical_section::Mutex;

    #[unsafe(link_section = ".uninit.record")]
    // SAFETY: a record is plain words, so every pattern of bits is one.
    static KEPT: Kept<Record> = unsafe { Kept::new() };
    static RESET: Mutex<Cell<Option<fn() -> !>>> = Mutex::new(Cell::new(None));
    static SAFE: Mutex<Cell<Option<fn()>>> = Mutex::new(Cell::new(None));
    static GIVES_UP: Mutex<Cell<bool>> = Mutex::new(Cell::new(false));

    fn with<T>(act: impl FnOnce(&mut Record) -> T) -> T {
        let mut record = KEPT.get();
        let result = act(&mut record);
        KEPT.put(record);
        result
    }

    /// How this run began. Once, at the start.
    pub fn take() -> Boot {
        with(Record::take)
    }

    /// Leaves word for the next run.
    pub fn mark(cause: Cause, program_counter: u32, text: fmt::Arguments<'_>) {
        with(|record| record.mark(cause, program_counter, text));
    }

    /// How this board resets itself.
    pub fn install_reset(reset: fn() -> !) {
        critical_section::with(|cs| RESET.borrow(cs).set(Some(reset)));
    }

    /// What brings every output into its safe state, from within a fault too: registers alone, nothing of what was running.
    pub fn install_safe(safe: fn()) {
        critical_section::with(|cs| SAFE.borrow(cs).set(Some(safe)));
    }

    /// Brings the outputs into their safe states and resets the board; say why with `mark` first.
    pub fn reset() -> ! {
        // Once: a fault in there must not come back here.
        if let Some(safe) = critical_section::with(|cs| SAFE.borrow(cs).take()) {
            safe();
        }
        if let Some(reset) = critical_section::with(|cs| RESET.borrow(cs).get()) {
            reset();
        }
        // Before a board said how: the watchdog, if it runs, is what is left.
        loop {
            core::hint::spin_loop();
        }
    }

    /// A board that cannot go on says why, and tries again from the start.
    pub fn give_up(why: fmt::Arguments<'_>) -> ! {
        // Once: what goes wrong while that is said must not come back here, nor take the place of what is said.
        if !critical_section::with(|cs| GIVES_UP.borrow(cs).replace(true)) {
            mark(Cause::Panic, 0, why);
            crate::log!("giving up: {why}");
        }
        reset()
    }

    #[panic_handler]
    fn panic(panic: &core::panic::PanicInfo) -> ! {
        match panic.location() {
            Some(place) => give_up(format_args!("{}:{}: {}", place.file(), place.line(), panic.message())),
            None => give_up(format_args!("{}", panic.message())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise() -> Record {
        let mut record = Record::empty();
        record.magic = 0xdead_beef;
        record.text_bytes = u32::MAX;
        record
    }

    #[test]
    fn noise_is_the_coming_of_power() {
        let boot = noise().take();
        assert_eq!((boot.cause, boot.resets, boot.text.as_str()), (Cause::PowerOn, 0, ""));
    }

    #[test]
    fn an_unannounced_reset_is_the_reset_line_and_resets_are_counted() {
        let mut record = noise();
        record.take();
        let first = record.take();
        let second = record.take();
        assert_eq!((first.cause, first.resets), (Cause::Pin, 1));
        assert_eq!((second.cause, second.resets), (Cause::Pin, 2));
    }

    #[test]
    fn a_panic_is_told_once_with_its_text_and_place() {
        let mut record = noise();
        record.take();
        record.mark(Cause::Panic, 0x1234, format_args!("src/main.rs:{}: out of range", 17));
        let boot = record.take();
        assert_eq!((boot.cause, boot.program_counter), (Cause::Panic, Some(0x1234)));
        assert_eq!(boot.text, "src/main.rs:17: out of range");
        assert_eq!(record.take().cause, Cause::Pin);
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let mut record = noise();
        record.take();
        record.mark(Cause::Software, 0, format_args!("{}{}", "x".repeat(TEXT_BYTES_MAX - 1), "é and more"));
        assert_eq!(record.take().text.len(), TEXT_BYTES_MAX - 1);
    }

    #[test]
    fn one_changed_bit_is_noise() {
        let mut good = noise();
        good.take();
        good.mark(Cause::Watchdog, 8, format_args!("hung"));
        let mut bad = good.clone();
        bad.text[1] ^= 4;
        assert_eq!(good.take().cause, Cause::Watchdog);
        assert_eq!(bad.take().cause, Cause::PowerOn);
    }

    #[test]
    fn every_cause_comes_back_as_it_was() {
        for cause in [Cause::Pin, Cause::Software, Cause::Watchdog, Cause::Panic] {
            let mut record = noise();
            record.take();
            record.mark(cause, 0, format_args!(""));
            assert_eq!(record.take().cause, cause);
        }
    }

    #[test]
    fn what_a_watchdog_remembers_explains_only_what_nobody_announced() {
        let mut record = noise();
        assert_eq!(record.take().bitten(true).cause, Cause::PowerOn);
        assert_eq!(record.take().bitten(false).cause, Cause::Pin);
        let boot = record.take().bitten(true);
        assert_eq!((boot.cause, boot.resets), (Cause::Watchdog, 2));
        assert!(boot.text.contains("no interrupt"), "{}", boot.text);
        record.mark(Cause::Panic, 4, format_args!("fault"));
        assert_eq!(record.take().bitten(true).cause, Cause::Panic);
    }
}
