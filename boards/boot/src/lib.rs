//! What runs before the firmware of a board with two slots. It finishes a swap that was begun, takes back an image that was started once
//! and not confirmed, and starts nothing that is not whole and for this board.
//!
//! The swap is that of `embassy-boot`: page by page, with its progress in the partition `boot`. Around it: a flash that feeds the watchdog,
//! believes what it reads back, and the hash of an image before and after it is moved. Nothing here decides about versions; the agent
//! did before it marked one. Must never start what it did not verify, nor leave a board without an image that it had.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

mod flash;
mod state;
#[cfg(test)]
mod tests;

pub use agent_nostd::store::slot::PROGRAM_OFFSET;
use agent_nostd::store::{Image, Partition as Part, Slot};
use core::cell::RefCell;
use drivers::nor::Partition;
use embassy_boot::{BootLoader, BootLoaderConfig, State};
use embedded_storage::nor_flash::NorFlash;
pub use flash::{Fed, Sure};
pub use state::{Mark, confirm, mark, read};

/// Where images are: the one that runs, the one that is to run, and how far the swap of both is.
pub const RUNNING: &str = "slot-a";
pub const OTHER: &str = "slot-b";
pub const STATE: &str = "boot";

/// Bytes that are copied at once; a part of every sector.
const BUFFER_BYTES: usize = 512;
#[repr(align(32))]
struct Buffer([u8; BUFFER_BYTES]);

/// What was done before the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Nothing,
    /// The other image is in its place now, for a trial: the next start takes it back unless it is confirmed.
    Swapped,
    /// The image that was on trial made place for the one before it.
    Reverted,
    /// What was to be swapped is not a whole image for this board, and was left alone.
    Refused,
}

/// An image that can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    pub image: Image,
    pub done: Done,
}

/// Why nothing can be started now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The table has not the three partitions, or their lengths do not fit together.
    Partitions,
    /// Reading or writing failed, and the image in its place is not whole.
    Flash,
    /// There is no image that is whole and for this board.
    NoImage,
}

/// Does what has to be done before the start. To be called again after any reset, at whichever operation that came. `moves` is told
/// what was found, before anything is moved.
pub fn prepare<F: NorFlash>(
    flash: &RefCell<F>,
    partitions: &[Partition],
    board: &str,
    moves: impl FnOnce(Mark),
) -> Result<Ready, Fault> {
    let parts = Parts::of(flash, partitions).ok_or(Fault::Partitions)?;
    let before = parts.state();
    let mut done = Done::Nothing;
    if before == Mark::Marked && parts.image(parts.other, board).is_none() {
        // Nothing was moved yet, so that taking back the mark is all.
        parts.forget()?;
        done = Done::Refused;
    } else if before != Mark::None {
        moves(before);
        let moved = parts.swap();
        done = match before {
            Mark::Marked | Mark::Moving => Done::Swapped,
            Mark::Trial | Mark::None => Done::Reverted,
        };
        if moved.is_err() && parts.image(parts.running, board).is_none() {
            return Err(Fault::Flash);
        }
    }
    if let Some(image) = parts.image(parts.running, board) {
        return Ok(Ready { image, done });
    }
    if done == Done::Swapped {
        // It was whole where it came from and is not where it runs. The next call of the loader takes it back.
        parts.swap().map_err(|()| Fault::Flash)?;
        let image = parts.image(parts.running, board).ok_or(Fault::NoImage)?;
        return Ok(Ready { image, done: Done::Reverted });
    }
    Err(Fault::NoImage)
}

struct Parts<'a, F> {
    flash: &'a RefCell<F>,
    running: Partition,
    other: Partition,
    state: Partition,
}

impl<'a, F: NorFlash> Parts<'a, F> {
    /// `None` for what the loader would panic about.
    fn of(flash: &'a RefCell<F>, partitions: &[Partition]) -> Option<Self> {
        let find = |name| {
            let partition = Partition::named(partitions, name)?;
            Part::new(flash, partition.offset, partition.bytes).map(|_| partition)
        };
        let (running, other, state) = (find(RUNNING)?, find(OTHER)?, find(STATE)?);
        let page = u32::try_from(F::ERASE_SIZE).ok()?;
        let words = state.bytes / u32::try_from(F::WRITE_SIZE).ok()?;
        let fits = F::ERASE_SIZE.is_multiple_of(BUFFER_BYTES)
            && BUFFER_BYTES.is_multiple_of(F::WRITE_SIZE)
            && other.bytes >= running.bytes + page
            && 2 + 4 * (running.bytes / page) <= words;
        fits.then_some(Self { flash, running, other, state })
    }

    fn part(&self, partition: Partition) -> Option<Sure<Part<'a, F>>> {
        Part::new(self.flash, partition.offset, partition.bytes).map(Sure)
    }

    fn image(&self, partition: Partition, board: &str) -> Option<Image> {
        Slot::open(self.part(partition)?).image(board)
    }

    fn state(&self) -> Mark {
        self.part(self.state).map_or(Mark::None, |mut part| read(&mut part, self.running.bytes / F::ERASE_SIZE as u32))
    }

    /// One call of the loader: swaps, goes on with a swap, or takes one back, as its state says.
    fn swap(&self) -> Result<(), ()> {
        let parts = (self.part(self.running), self.part(self.other), self.part(self.state));
        let (Some(active), Some(dfu), Some(state)) = parts else { return Err(()) };
        let mut buffer = Buffer([0; BUFFER_BYTES]);
        let mut loader = BootLoader::new(BootLoaderConfig { active, dfu, state });
        match loader.prepare_boot(&mut buffer.0) {
            Ok(State::Boot | State::Swap | State::Revert | State::DfuDetach) => Ok(()),
            Err(_) => Err(()),
        }
    }

    fn forget(&self) -> Result<(), Fault> {
        let part = self.part(self.state).ok_or(Fault::Partitions)?;
        if confirm(part) { Ok(()) } else { Err(Fault::Flash) }
    }
}
