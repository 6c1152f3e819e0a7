//! Memory that survives a reset, because nobody initialises it. Without power it holds noise: what is kept has a check of its
//! own. One of the files that may be unsafe.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;

/// For a static in the section `.uninit`, of which every pattern of bits is a value.
pub struct Kept<T>(UnsafeCell<MaybeUninit<T>>);

// SAFETY: it is only touched within critical sections, by whole copies.
unsafe impl<T: Send> Sync for Kept<T> {}

impl<T> Kept<T> {
    /// # Safety
    /// Every pattern of bits is a valid `T`, and a `T` owns nothing.
    pub const unsafe fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// A copy of what is there.
    pub fn get(&self) -> T {
        // SAFETY: interrupts are off, the place is aligned and whatever it holds is a `T`; it is read as what is in memory.
        critical_section::with(|_| unsafe { self.0.get().cast::<T>().read_volatile() })
    }

    pub fn put(&self, value: T) {
        // SAFETY: as above.
        critical_section::with(|_| unsafe { self.0.get().cast::<T>().write_volatile(value) });
    }
}
