//! What one function sees of this device. Everything it says goes to the machine at once, so that nothing waits in between.
//!
//! Must answer at once: the one exception is the commit of state, which waits for the flash.
use super::World;
use super::state::State;
use crate::function::{CommitError, EmitError, Host, Level, RandomError, StateChange, TellError};
use crate::machine::port::{Input, LaunchId, Telling, Terms};
use crate::machine::time::Instant;
use crate::shell::port::{Board, Clock, Platform};
use wire::limits::LOG_TEXT_BYTES_MAX;
use wire::status::truncate;

/// The world of one instance, for one slice.
pub struct FunctionHost<'h, 'w, 'b, P: Platform, const SLOTS: usize> {
    pub launch: LaunchId,
    pub configuration: &'h [u8],
    pub state: &'h mut State,
    pub terms: &'h Terms,
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
}

#[cfg(test)]
mod tests {
    use super::text_of;

    #[test]
    fn what_is_no_text_ends_a_line() {
        assert_eq!(text_of(b"warm"), "warm");
        assert_eq!(text_of(b"w\xffarm"), "w");
        assert_eq!(text_of(b"\xff"), "");
    }
}
