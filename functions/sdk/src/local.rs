//! Memory that lives as long as the instance: what a function read at its start, a window of the last values.
//!
//! It must never stand in for the state: it is gone when the function is replaced, traps, or the device restarts.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// A value in a `static`, used by one at a time.
#[derive(Debug)]
pub struct Local<T> {
    in_use: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `with` hands out the value to one caller at a time, whichever thread that is; so it needs to be `Send` only. In a
// function there is one thread, and atomics are plain loads and stores.
unsafe impl<T: Send> Sync for Local<T> {}

/// Gives the value back, after a panic as well.
struct Use<'a>(&'a AtomicBool);

impl Drop for Use<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl<T> Local<T> {
    /// Holds this value at first.
    pub const fn new(value: T) -> Self {
        Self { in_use: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Works with the value. Inside, the same value must not be asked for again: that ends the activation.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        if self.in_use.swap(true, Ordering::Acquire) {
            crate::sys::abort();
        }
        let _use = Use(&self.in_use);
        // SAFETY: `in_use` was false and is true until `_use` is dropped, so this is the only reference.
        work(unsafe { &mut *self.value.get() })
    }

    /// Replaces the value.
    pub fn set(&self, value: T) {
        self.with(|slot| *slot = value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_stays_between_uses() {
        static LOCAL: Local<u32> = Local::new(1);
        LOCAL.with(|value| *value += 1);
        assert_eq!(LOCAL.with(|value| *value), 2);
        LOCAL.set(7);
        assert_eq!(LOCAL.with(|value| *value), 7);
    }

    #[test]
    #[should_panic(expected = "would trap")]
    fn the_value_is_not_handed_out_twice() {
        let local = Local::new(1);
        local.with(|_| local.set(2));
    }
}
