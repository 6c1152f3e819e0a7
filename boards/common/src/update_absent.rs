//! In place of updates on a board with one place for its firmware: nothing is taken.

use agent_nostd::shell::port::{NoUpdates, Running, Updates};
use agent_nostd::transfer::Sink;
use core::cell::RefCell;
use core::marker::PhantomData;
use drivers::nor::Partition;
use wire::Digest;

/// No slots.
pub struct Update<'a, F, W>(NoUpdates, PhantomData<(&'a F, &'a W)>);

impl<'a, F, W> Update<'a, F, W> {
    pub fn of(_: &str, _: &'a RefCell<F>, _: &[Partition], _: &'a RefCell<W>) -> Self {
        Self(NoUpdates, PhantomData)
    }

    pub fn is_on_trial(&self) -> bool {
        false
    }
}

impl<F, W> Updates for Update<'_, F, W> {
    fn board(&self) -> &str {
        self.0.board()
    }

    fn running(&mut self) -> Option<Running> {
        self.0.running()
    }

    fn sink(&mut self) -> &mut dyn Sink {
        self.0.sink()
    }

    fn fetched(&mut self) -> Option<(u32, Digest)> {
        self.0.fetched()
    }

    fn mark(&mut self) -> bool {
        self.0.mark()
    }

    fn confirm(&mut self) -> bool {
        self.0.confirm()
    }

    fn reset(&mut self) {
        self.0.reset();
    }
}
