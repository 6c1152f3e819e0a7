//! The durable state, raw and by type. What is set is durable once the activation has ended well.
//!
//! A value of the wrong length counts as none: a function that changed its mind about a key starts afresh, it does not trap.

use crate::{Error, done, length, sys};

/// Copies what fits of a value of the state, and returns the whole length of the value.
pub fn state_get(key: &[u8], out: &mut [u8]) -> Result<usize, Error> {
    length(sys::state_get(key, out))
}

/// Sets a value of the state.
pub fn state_set(key: &[u8], value: &[u8]) -> Result<(), Error> {
    done(sys::state_set(key, value))
}

/// Removes a value of the state.
pub fn state_delete(key: &[u8]) -> Result<(), Error> {
    done(sys::state_delete(key))
}

/// A number of the state; zero if there is none.
pub fn state_number(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    match state_get(key, &mut bytes) {
        Ok(8) => u64::from_le_bytes(bytes),
        _ => 0,
    }
}

/// Sets a number of the state: eight bytes, the lowest first.
pub fn state_set_number(key: &[u8], number: u64) -> Result<(), Error> {
    state_set(key, &number.to_le_bytes())
}

/// Yes or no, of the state; no if there is none.
pub fn state_flag(key: &[u8]) -> bool {
    let mut byte = [0];
    matches!((state_get(key, &mut byte), byte), (Ok(1), [1]))
}

/// Sets yes or no in the state: one byte, 1 or 0.
pub fn state_set_flag(key: &[u8], flag: bool) -> Result<(), Error> {
    state_set(key, &[u8::from(flag)])
}
