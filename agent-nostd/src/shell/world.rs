//! The device as a function's run sees it. Must never hold anything longer than a slice lasts.
use super::port::Platform;
use super::random::Random;
use crate::machine::Agent as Machine;
#[cfg(feature = "wasm")]
use crate::machine::{port::Input, time::Instant};

/// What a run sees of the device for one slice.
#[cfg_attr(not(feature = "wasm"), expect(dead_code, reason = "nothing runs that could look"))]
pub struct World<'w, 'b, P: Platform, const SLOTS: usize> {
    pub machine: &'w mut Machine<'b, SLOTS>,
    pub clock: &'w P::Clock,
    pub board: &'w P::Board,
    pub store: &'w mut P::Store,
    pub peripherals: &'w mut P::Peripherals,
    pub random: &'w mut Random,
}

#[cfg(feature = "wasm")]
impl<P: Platform, const SLOTS: usize> World<'_, '_, P, SLOTS> {
    pub fn now(&self) -> Instant {
        use super::port::Clock;
        self.clock.now()
    }

    pub fn tell(&mut self, input: Input<'_>) {
        let now = self.now();
        self.machine.handle(now, input);
    }
}
