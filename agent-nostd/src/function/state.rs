//! What one activation wants to change in the durable state, kept aside until the activation ends well.
//!
//! It exists so that a function that is stopped in the middle leaves its state as it was. It must never write through to the
//! host before the end, and never hold more than the limits of the state allow.

use super::abi::{ERR_INVALID, ERR_NOT_FOUND, ERR_QUOTA, ERR_TOO_LONG};
use super::host::{CommitError, Host, StateChange};
use super::limits::{Limits, STATE_KEY_BYTES};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// The changes of one activation.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// By how many bytes the state would grow.
    grown: i64,
}

/// A key that fits.
fn check_key(key: &[u8]) -> Result<(), i32> {
    match key.len() {
        0 => Err(ERR_INVALID),
        1..=STATE_KEY_BYTES => Ok(()),
        _ => Err(ERR_TOO_LONG),
    }
}

/// Bytes that an entry counts for.
fn entry_bytes(key: &[u8], value_len: u32) -> i64 {
    i64::from(value_len) + i64::try_from(key.len()).unwrap_or(i64::MAX)
}

impl Overlay {
    /// Copies what fits of the value into `out` and returns the whole length.
    pub fn get(&self, key: &[u8], out: &mut [u8], host: &mut dyn Host) -> Result<u32, i32> {
        check_key(key)?;
        match self.changes.get(key) {
            Some(None) => Err(ERR_NOT_FOUND),
            Some(Some(value)) => {
                for (to, from) in out.iter_mut().zip(value) {
                    *to = *from;
                }
                u32::try_from(value.len()).map_err(|_| ERR_TOO_LONG)
            }
            None => host.state_get(key, out).ok_or(ERR_NOT_FOUND),
        }
    }

    /// Sets a key, as seen by the rest of this activation.
    pub fn set(&mut self, key: &[u8], value: &[u8], host: &mut dyn Host, limits: &Limits) -> Result<(), i32> {
        check_key(key)?;
        let value_len = u32::try_from(value.len()).map_err(|_| ERR_TOO_LONG)?;
        if value_len > limits.state_value_bytes {
            return Err(ERR_TOO_LONG);
        }
        let before = self.get(key, &mut [], host).map_or(0, |len| entry_bytes(key, len));
        let growth = entry_bytes(key, value_len) - before;
        let size = i64::from(host.state_size()) + self.grown + growth;
        // A state above a lowered limit can still shrink.
        if growth > 0 && size > i64::from(limits.state_bytes) {
            return Err(ERR_QUOTA);
        }
        self.put(key, Some(Vec::from(value)), growth, limits)
    }

    /// Removes a key, as seen by the rest of this activation.
    pub fn delete(&mut self, key: &[u8], host: &mut dyn Host, limits: &Limits) -> Result<(), i32> {
        let before = self.get(key, &mut [], host)?;
        self.put(key, None, -entry_bytes(key, before), limits)
    }

    fn put(&mut self, key: &[u8], value: Option<Vec<u8>>, growth: i64, limits: &Limits) -> Result<(), i32> {
        if let Some(slot) = self.changes.get_mut(key) {
            *slot = value;
        } else {
            if self.changes.len() >= usize::try_from(limits.state_writes_per_activation).unwrap_or(usize::MAX) {
                return Err(ERR_QUOTA);
            }
            self.changes.insert(Vec::from(key), value);
        }
        self.grown += growth;
        Ok(())
    }

    /// Hands all changes to the host at once.
    pub fn commit(self, host: &mut dyn Host) -> Result<(), CommitError> {
        if self.changes.is_empty() {
            return Ok(());
        }
        let changes: Vec<StateChange<'_>> =
            self.changes.iter().map(|(key, value)| StateChange { key, value: value.as_deref() }).collect();
        host.state_commit(&changes)
    }
}
