//! The partition `boot`, as the loader keeps it: what is to be done, and how far it is. Read by boot code and firmware, marked by firmware.
//!
//! Words of the flash's programming unit: what is to be done, whether the progress counts, then one word for each page that was moved.

use embassy_boot::BlockingFirmwareState;
use embedded_storage::nor_flash::NorFlash;

/// The largest programming unit.
pub(crate) const WORD_BYTES_MAX: usize = 32;
/// embassy-boot's own, which it does not make public.
const SWAP: u8 = 0xf0;
const ERASED: u8 = 0xff;

/// What the loader has to do, or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    None,
    /// To be swapped; nothing was moved.
    Marked,
    /// In the middle of it.
    Moving,
    /// Swapped, and not confirmed: the next start takes it back.
    Trial,
}

/// What the state says; `pages`: of the slot that runs.
pub fn read<F: NorFlash>(state: &mut F, pages: u32) -> Mark {
    let mut word = [0; WORD_BYTES_MAX];
    let mut has = |index: u32, what: fn(u8) -> bool| {
        let Some(word) = word.get_mut(..F::WRITE_SIZE) else { return false };
        state.read(index * F::WRITE_SIZE as u32, word).is_ok() && word.iter().all(|byte| what(*byte))
    };
    if !has(0, |byte| byte == SWAP) {
        return Mark::None;
    }
    // A progress that does not count is one that is over.
    if !has(1, |byte| byte == ERASED) || has(2 + 2 * pages.saturating_sub(1) + 1, |byte| byte != ERASED) {
        return Mark::Trial;
    }
    if has(2, |byte| byte == ERASED) { Mark::Marked } else { Mark::Moving }
}

/// The other image is to run after the next reset.
pub fn mark<F: NorFlash>(state: F) -> bool {
    set(state, |state| state.mark_updated().is_ok())
}

/// The image that runs stays.
pub fn confirm<F: NorFlash>(state: F) -> bool {
    set(state, |state| state.mark_booted().is_ok())
}

fn set<F: NorFlash>(state: F, act: impl FnOnce(&mut BlockingFirmwareState<'_, F>) -> bool) -> bool {
    let mut word = [0; WORD_BYTES_MAX];
    match word.get_mut(..F::WRITE_SIZE) {
        Some(word) => act(&mut BlockingFirmwareState::new(state, word)),
        None => false,
    }
}
