//! What one instance remembers: a small map, whole in memory, whole in one value of the store, replaced at the end of each
//! activation that changed it.
//!
//! `count u16 | (key length u16, key, value length u16, value)*`, little endian; the store vouches for the bytes. Must never hold
//! what is not durable.
use crate::function::StateChange;
use crate::shell::limits::STATE_VALUE_BYTES;
use crate::shell::port::{Key, Store, StoreError};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use wire::codec::{Reader, WireError, Writer};

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug)]
pub struct State {
    key: Key,
    entries: Entries,
}

fn decode(value: &[u8]) -> Result<Entries, WireError> {
    let mut reader = Reader::new(value);
    let count = u16::from_le_bytes(reader.array()?);
    let mut entries = Entries::new();
    for _ in 0..count {
        let length = usize::from(u16::from_le_bytes(reader.array()?));
        let key = reader.bytes(length)?.to_vec();
        let length = usize::from(u16::from_le_bytes(reader.array()?));
        entries.insert(key, reader.bytes(length)?.to_vec());
    }
    reader.end()?;
    Ok(entries)
}

fn encode<'v>(entries: impl Iterator<Item = (&'v [u8], &'v [u8])>, buffer: &mut [u8]) -> Result<usize, WireError> {
    let length = |bytes: &[u8]| u16::try_from(bytes.len()).map(u16::to_le_bytes).map_err(|_| WireError::NoRoom);
    let mut writer = Writer::new(buffer);
    writer.bytes(&[0; 2])?;
    let mut count = 0u16;
    for (key, value) in entries {
        writer.bytes(&length(key)?)?;
        writer.bytes(key)?;
        writer.bytes(&length(value)?)?;
        writer.bytes(value)?;
        count = count.checked_add(1).ok_or(WireError::NoRoom)?;
    }
    writer.patch(0, &count.to_le_bytes())?;
    Ok(writer.len())
}

impl State {
    /// What an instance remembered. What cannot be read is forgotten: that is better than never running again.
    pub fn open<S: Store>(store: &mut S, workload: u32, component: u8, instance: u16) -> Result<Self, StoreError> {
        let key = Key::State { workload, component, instance };
        let mut buffer = [0; STATE_VALUE_BYTES];
        let entries = match store.load(key, &mut buffer)? {
            Some(length) => buffer.get(..length).and_then(|value| decode(value).ok()).unwrap_or_default(),
            None => Entries::new(),
        };
        Ok(Self { key, entries })
    }

    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.entries.get(key).map(Vec::as_slice)
    }

    /// Bytes of all keys and values.
    pub fn size(&self) -> u32 {
        let bytes: usize = self.entries.iter().map(|(key, value)| key.len() + value.len()).sum();
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// All changes or none; durable on return.
    pub fn commit<S: Store>(&mut self, store: &mut S, changes: &[StateChange<'_>]) -> Result<(), StoreError> {
        if changes.iter().all(|change| self.get(change.key) == change.value) {
            return Ok(());
        }
        let mut next: BTreeMap<&[u8], &[u8]> =
            self.entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice())).collect();
        for change in changes {
            match change.value {
                Some(value) => next.insert(change.key, value),
                None => next.remove(change.key),
            };
        }
        let mut buffer = [0; STATE_VALUE_BYTES];
        let length = encode(next.into_iter(), &mut buffer).map_err(|_| StoreError::TooLong)?;
        store.save(self.key, buffer.get(..length).unwrap_or_default())?;
        for change in changes {
            match change.value {
                Some(value) => self.entries.insert(change.key.to_vec(), value.to_vec()),
                None => self.entries.remove(change.key),
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_survives_its_bytes_and_no_cut_is_taken_for_one() {
        let entries: Entries = [(b"a".to_vec(), b"1".to_vec()), (b"key".to_vec(), Vec::new())].into();
        let mut buffer = [0; 64];
        let length = encode(entries.iter().map(|(key, value)| (&**key, &**value)), &mut buffer).unwrap();
        assert_eq!(decode(&buffer[..length]), Ok(entries));
        for cut in 0..length {
            assert!(decode(&buffer[..cut]).is_err(), "cut at {cut}");
        }
        assert!(decode(&buffer[..=length]).is_err());
    }

    #[test]
    fn the_state_of_a_microcontroller_fits() {
        use crate::function::Limits;
        let limits = Limits::MCU;
        // Keys of one byte make the most of the lengths around them.
        let entries: Entries = (0..=u8::MAX).map(|key| (std::vec![key], std::vec![0; 3])).collect();
        let bytes: usize = entries.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!(bytes >= usize::try_from(limits.state_bytes).unwrap());
        let mut buffer = [0; STATE_VALUE_BYTES];
        assert!(encode(entries.iter().map(|(key, value)| (&**key, &**value)), &mut buffer).unwrap() > bytes);
    }
}
