//! What one function sees of this device. Everything it says goes to the machine at once, so that nothing waits in between.
//!
//! Must answer at once: the one exception is the commit of state, which waits for the flash.
use super::World;
use super::state::State;
use crate::function::{CommitError, EmitError, HardwareError, Host, Level, RandomError, StateChange, TellError};
use crate::machine::port::{Input, LaunchId, Telling, Terms};
use crate::machine::time::Instant;
use crate::shell::limits::DRIVEN_MAX;
use crate::shell::port::{Board, Clock, Output, PeripheralError, Peripherals, Platform};
use wire::limits::LOG_TEXT_BYTES_MAX;
use wire::status::truncate;

/// What a function has set since it was started.
pub type Driven = heapless::Vec<Output, DRIVEN_MAX>;

/// Makes sure that an output goes to its safe state after the function.
fn note(driven: &mut Driven, output: Output) -> Result<(), HardwareError> {
    let is_noted = driven.contains(&output) || driven.push(output).is_ok();
    // What could not be taken back is not done.
    if is_noted { Ok(()) } else { Err(HardwareError::Failed) }
}

const fn hardware(error: PeripheralError) -> HardwareError {
    match error {
        PeripheralError::NoHandle => HardwareError::NoHandle,
        PeripheralError::Hardware => HardwareError::Failed,
    }
}

/// The world of one instance, for one slice.
pub struct FunctionHost<'h, 'w, 'b, P: Platform, const SLOTS: usize> {
    pub launch: LaunchId,
    pub configuration: &'h [u8],
    pub state: &'h mut State,
    pub terms: &'h Terms,
    pub driven: &'h mut Driven,
    pub world: &'h mut World<'w, 'b, P, SLOTS>,
}

/// Whether these terms are over, on the clock that goes on while the board sleeps.
pub fn are_over(terms: &Terms, now: Instant) -> bool {
    terms.until().is_some_and(|until| now >= until)
}

const fn level(level: Level) -> wire::event::Level {
    match level {
        Level::Error => wire::event::Level::Error,
        Level::Warn => wire::event::Level::Warn,
        Level::Info => wire::event::Level::Info,
        Level::Debug => wire::event::Level::Debug,
    }
}

/// As much of it as is text.
fn text_of(bytes: &[u8]) -> &str {
    match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => bytes.get(..error.valid_up_to()).and_then(|valid| core::str::from_utf8(valid).ok()).unwrap_or(""),
    }
}

impl<P: Platform, const SLOTS: usize> Host for FunctionHost<'_, '_, '_, P, SLOTS> {
    fn log(&mut self, severity: Level, text: &[u8]) {
        let text = truncate(text_of(text), LOG_TEXT_BYTES_MAX);
        self.world.tell(Input::Log { launch: self.launch, level: level(severity), text });
    }

    fn emit(&mut self, topic: &str, payload: &[u8]) -> Result<(), EmitError> {
        self.world.tell(Input::Emit { launch: self.launch, topic, payload });
        Ok(())
    }

    fn tell(&mut self, telling: &Telling<'_>) -> Result<(), TellError> {
        self.world.tell(Input::Tell { launch: self.launch, telling: *telling });
        Ok(())
    }

    fn config(&self) -> &[u8] {
        self.configuration
    }

    fn state_get(&mut self, key: &[u8], out: &mut [u8]) -> Option<u32> {
        let value = self.state.get(key)?;
        for (to, from) in out.iter_mut().zip(value) {
            *to = *from;
        }
        u32::try_from(value.len()).ok()
    }

    fn state_size(&self) -> u32 {
        self.state.size()
    }

    fn state_commit(&mut self, changes: &[StateChange<'_>]) -> Result<(), CommitError> {
        self.state.commit(self.world.store, changes).map_err(|error| {
            let launch = self.launch.0;
            let text = format_args!("what function {launch} remembers cannot be written: {error:?}");
            self.world.board.log(wire::event::Level::Error, text);
            CommitError
        })
    }

    fn monotonic_us(&mut self) -> u64 {
        self.world.clock.now_us()
    }

    fn wall_ms(&mut self) -> Option<u64> {
        self.world.machine.unix_ms(self.world.now())
    }

    fn fence(&mut self) -> u64 {
        self.terms.grant.map_or(0, |right| right.fence.0.packed())
    }

    fn freshness_ms(&mut self) -> Option<u64> {
        let heard = self.world.machine.fresh_at()?;
        Some(self.world.now().as_ms().saturating_sub(heard.as_ms()))
    }

    fn is_degraded(&mut self) -> bool {
        self.terms.is_degraded
    }

    fn may_go_on(&mut self) -> bool {
        !are_over(self.terms, self.world.now())
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), RandomError> {
        self.world.random.fill(out);
        Ok(())
    }

    fn gpio_read(&mut self, handle: u16) -> Result<bool, HardwareError> {
        self.world.peripherals.gpio_read(handle).map_err(hardware)
    }

    fn gpio_write(&mut self, handle: u16, is_high: bool) -> Result<(), HardwareError> {
        note(self.driven, Output::Gpio(handle))?;
        self.world.peripherals.gpio_write(handle, is_high).map_err(hardware)
    }

    fn adc_read(&mut self, handle: u16) -> Result<u16, HardwareError> {
        self.world.peripherals.adc_read(handle).map_err(hardware)
    }

    fn pwm_set(&mut self, handle: u16, duty: u16) -> Result<(), HardwareError> {
        note(self.driven, Output::Pwm(handle))?;
        self.world.peripherals.pwm_set(handle, duty).map_err(hardware)
    }

    fn i2c_write_read(&mut self, handle: u16, address: u8, out: &[u8], into: &mut [u8]) -> Result<(), HardwareError> {
        self.world.peripherals.i2c_transfer(handle, address, out, into).map_err(hardware)
    }
}

#[cfg(test)]
mod tests {
    use super::{DRIVEN_MAX, Driven, HardwareError, Output, note, text_of};

    #[test]
    fn an_output_is_noted_once_and_nothing_is_set_that_could_not_be_taken_back() {
        let mut driven = Driven::new();
        for _ in 0..2 {
            for handle in 0..u16::try_from(DRIVEN_MAX).unwrap() {
                assert_eq!(note(&mut driven, Output::Gpio(handle)), Ok(()));
            }
        }
        assert_eq!(driven.len(), DRIVEN_MAX);
        assert_eq!(note(&mut driven, Output::Pwm(0)), Err(HardwareError::Failed));
    }

    #[test]
    fn what_is_no_text_ends_a_line() {
        assert_eq!(text_of(b"warm"), "warm");
        assert_eq!(text_of(b"w\xffarm"), "w");
        assert_eq!(text_of(b"\xff"), "");
    }
}
