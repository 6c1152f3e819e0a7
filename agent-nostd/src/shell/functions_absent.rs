//! In place of functions on a part without room for their engine: every start is refused, with the reason.
use super::port::Platform;
use super::world::World;
use crate::machine::port::{Failure, LaunchId, Terms};
use crate::machine::time::Instant;
use wire::record::Record;

/// None.
#[derive(Debug)]
pub struct Functions;

impl Functions {
    pub fn new(_: u32) -> Self {
        Self
    }

    pub fn memory_free_bytes(&self) -> u32 {
        0
    }

    pub fn inputs_lost(&self) -> u32 {
        0
    }

    pub fn start(&mut self, _: LaunchId, _: &Record<'_>, _: Terms) -> Result<(), (Failure, &'static str)> {
        Err((Failure::RuntimeMissing, "this device has no room for functions"))
    }

    pub fn extend(&mut self, _: LaunchId, _: Terms) {}

    pub fn stop(&mut self, _: LaunchId, _: Instant) -> bool {
        false
    }

    pub fn timer(&mut self, _: LaunchId) {}

    pub fn deliver(&mut self, _: LaunchId, _: &str, _: &[u8]) {}

    pub fn is_running(&self, _: u32, _: u8) -> bool {
        false
    }

    pub fn has_work(&self, _: Instant) -> bool {
        false
    }

    pub fn step<P: Platform, const SLOTS: usize>(&mut self, _: &mut World<'_, '_, P, SLOTS>) -> bool {
        false
    }
}
