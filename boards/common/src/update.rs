//! The two slots of a board that takes updates, as the agent wants them. It translates and never decides.

use agent_nostd::shell::port::{NoUpdates, Running, Updates};
use agent_nostd::store::{Partition as Part, Slot};
use agent_nostd::transfer::Sink;
use boot::{Fed, Mark, Sure};
use core::cell::RefCell;
use drivers::nor::Partition;
use drivers::watchdog::Watchdog;
use embedded_storage::nor_flash::NorFlash;
use wire::Digest;

/// Feeds a watchdog that others feed, too. A slot is erased in more time than a watchdog waits.
pub struct Feeder<'a, W>(&'a RefCell<W>);

impl<W: Watchdog> Watchdog for Feeder<'_, W> {
    fn feed(&mut self) {
        if let Ok(mut watchdog) = self.0.try_borrow_mut() {
            watchdog.feed();
        }
    }
}

type Flash<'a, F, W> = Fed<Sure<Part<'a, F>>, Feeder<'a, W>>;

/// Both slots, and the state of their swap.
struct Slots<'a, F, W> {
    board: &'static str,
    flash: &'a RefCell<F>,
    watchdog: &'a RefCell<W>,
    running: Partition,
    state: Partition,
    other: Slot<Flash<'a, F, W>>,
}

impl<'a, F: NorFlash, W: Watchdog> Slots<'a, F, W> {
    /// `None`: the table has not all of what an update needs.
    fn of(
        board: &'static str,
        flash: &'a RefCell<F>,
        partitions: &[Partition],
        watchdog: &'a RefCell<W>,
    ) -> Option<Self> {
        let find = |name| Partition::named(partitions, name);
        let (running, other, state) = (find(boot::RUNNING)?, find(boot::OTHER)?, find(boot::STATE)?);
        let other = Slot::open(open(flash, other, watchdog)?);
        Some(Self { board, flash, watchdog, running, state, other })
    }
}

fn open<'a, F: NorFlash, W>(flash: &'a RefCell<F>, at: Partition, watchdog: &'a RefCell<W>) -> Option<Flash<'a, F, W>> {
    let part = Part::new(flash, at.offset, at.bytes)?;
    Some(Fed { flash: Sure(part), watchdog: Feeder(watchdog) })
}

/// A board's slots; none on a board with one place for its firmware.
pub struct Update<'a, F, W>(Option<Slots<'a, F, W>>, NoUpdates);

impl<'a, F: NorFlash, W: Watchdog> Update<'a, F, W> {
    pub fn of(board: &'static str, flash: &'a RefCell<F>, partitions: &[Partition], watchdog: &'a RefCell<W>) -> Self {
        Self(Slots::of(board, flash, partitions, watchdog), NoUpdates)
    }

    fn state(&self) -> Option<Flash<'_, F, W>> {
        let slots = self.0.as_ref()?;
        open(slots.flash, slots.state, slots.watchdog)
    }

    /// What runs was swapped in and is not confirmed; whatever it takes itself for.
    pub fn is_on_trial(&self) -> bool {
        let pages = self.0.as_ref().map_or(0, |slots| slots.running.bytes / F::ERASE_SIZE as u32);
        self.state().is_some_and(|mut state| boot::read(&mut state, pages) == Mark::Trial)
    }
}

impl<F: NorFlash, W: Watchdog> Updates for Update<'_, F, W> {
    fn board(&self) -> &str {
        self.0.as_ref().map_or("", |slots| slots.board)
    }

    fn running(&mut self) -> Option<Running> {
        let slots = self.0.as_ref()?;
        let image = Slot::open(open(slots.flash, slots.running, slots.watchdog)?).named(slots.board)?;
        Some(Running { version: image.version, is_trial: self.is_on_trial() })
    }

    fn sink(&mut self) -> &mut dyn Sink {
        match &mut self.0 {
            Some(slots) => &mut slots.other,
            None => &mut self.1,
        }
    }

    fn fetched(&mut self) -> Option<(u32, Digest)> {
        let slots = self.0.as_mut()?;
        slots.other.image(slots.board).map(|image| (image.version, image.digest))
    }

    fn mark(&mut self) -> bool {
        self.state().is_some_and(boot::mark)
    }

    fn confirm(&mut self) -> bool {
        self.state().is_some_and(boot::confirm)
    }

    #[cfg(target_os = "none")]
    fn reset(&mut self) {
        use drivers::record::{self, Cause};
        record::mark(Cause::Software, 0, format_args!("into other firmware"));
        record::reset()
    }

    /// No board runs on a machine with an operating system.
    #[cfg(not(target_os = "none"))]
    fn reset(&mut self) {}
}
