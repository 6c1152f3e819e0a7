//! The functions of a device: values that are run one slice at a time, in turns, between two looks at everything else.
//!
//! The same phases as on Linux, without its threads. Must never decide what runs or when to try again, keep the processor for
//! longer than a slice of fuel, nor answer an order twice.
mod host;
mod pace;
mod run;
mod state;

use super::limits::{INBOX_MAX, MODULES_MAX};
use super::port::Platform;
use super::world::World;
use crate::function::{Limits, Spec};
use crate::machine::port::{Failure, LaunchId, Terms};
use crate::machine::time::Instant;
use alloc::rc::Rc;
use alloc::vec::Vec;
use run::{Event, Run};
use wire::record::{Record, Runtime as Kind};

/// All runs of a device.
#[derive(Debug)]
pub struct Functions {
    runs: Vec<Run>,
    /// Of heap, for all of them.
    heap_bytes: u64,
    /// Whose turn it is.
    turn: usize,
    /// Messages that found no room.
    inputs_lost: u32,
}

impl Functions {
    pub fn new(heap_bytes: u32) -> Self {
        Self { runs: Vec::new(), heap_bytes: u64::from(heap_bytes), turn: 0, inputs_lost: 0 }
    }

    fn run(&mut self, launch: LaunchId) -> Option<&mut Run> {
        self.runs.iter_mut().find(|run| run.launch() == launch)
    }

    fn heap_free(&self) -> u64 {
        self.heap_bytes.saturating_sub(self.runs.iter().map(Run::heap_bytes).sum())
    }

    pub fn memory_free_bytes(&self) -> u32 {
        u32::try_from(self.heap_free()).unwrap_or(u32::MAX)
    }

    pub fn inputs_lost(&self) -> u32 {
        self.inputs_lost
    }

    /// `Err`: nothing of it is left. Otherwise it is loaded at its turn.
    pub fn start(
        &mut self,
        launch: LaunchId,
        record: &Record<'_>,
        terms: Terms,
    ) -> Result<(), (Failure, &'static str)> {
        match record.core.runtime {
            Kind::Function => {}
            Kind::Container | Kind::Process => {
                return Err((Failure::RuntimeMissing, "a microcontroller runs functions only"));
            }
        }
        let spec = Spec::of(record, &Limits::MCU);
        if self.runs.len() >= MODULES_MAX {
            return Err((Failure::OutOfMemory, "as many functions run already as this device holds"));
        }
        // An allocation that fails would take the firmware with it.
        if spec.heap_bytes() > self.heap_free() {
            return Err((Failure::OutOfMemory, "what it takes with its engine is more than functions have left here"));
        }
        self.runs.push(Run::new(launch, spec, terms));
        Ok(())
    }

    pub fn extend(&mut self, launch: LaunchId, terms: Terms) {
        if let Some(run) = self.run(launch) {
            run.extend(terms);
        }
    }

    /// False: there is no such run, so it is stopped already.
    pub fn stop(&mut self, launch: LaunchId, cut_at: Instant) -> bool {
        self.run(launch).is_some_and(|run| {
            run.stop(cut_at);
            true
        })
    }

    pub fn timer(&mut self, launch: LaunchId) {
        if let Some(run) = self.run(launch) {
            run.timer();
        }
    }

    /// To every instance; an instance whose inbox is full does not get it.
    pub fn deliver(&mut self, launch: LaunchId, topic: &str, payload: &[u8]) {
        let Some(run) = self.run(launch) else { return };
        let event = Rc::new(Event { topic: topic.into(), payload: payload.into() });
        let lost = run.deliver(&event, INBOX_MAX);
        self.inputs_lost = self.inputs_lost.saturating_add(lost);
    }

    pub fn is_running(&self, workload: u32, component: u8) -> bool {
        self.runs.iter().any(|run| run.key() == (workload, component))
    }

    /// Whether a slice can be run now.
    pub fn has_work(&self, now: Instant) -> bool {
        self.runs.iter().any(|run| run.ready(now).is_some())
    }

    /// Runs one slice of whoever is next. True: something ended, so that there is more room.
    pub fn step<P: Platform, const SLOTS: usize>(&mut self, world: &mut World<'_, '_, P, SLOTS>) -> bool {
        let now = world.now();
        let count = self.runs.len();
        for offset in 0..count {
            let at = (self.turn + offset) % count;
            let Some(run) = self.runs.get_mut(at) else { continue };
            let Some(cell) = run.ready(now) else { continue };
            self.turn = at + 1;
            run.step(cell, world);
            if !run.is_over() {
                return false;
            }
            let run = self.runs.swap_remove(at);
            self.leave(&run, world);
            return true;
        }
        false
    }

    /// What it has set goes to its safe state, unless another function has set it, too.
    fn leave<P: Platform, const SLOTS: usize>(&self, run: &Run, world: &mut World<'_, '_, P, SLOTS>) {
        use super::port::Peripherals;
        for output in run.driven() {
            if !self.runs.iter().any(|other| other.driven().contains(output)) {
                world.peripherals.release(*output);
            }
        }
    }
}
