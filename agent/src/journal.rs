//! The journal's files: two slots per key, by the logic that all devices share.
//!
//! A write never touches the slot that holds the truth. Blocking: call it off the loop. Must never say that a value is durable
//! before file and directory are synced.
use crate::disk;
use agent_nostd::journal::{Next, Slot, pick, seal};
use agent_nostd::machine::port::{JournalKey, PersistFailure};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes of a slot: the longest set with its header and seal, with room for what later versions add.
const SLOT_BYTES_MAX: u64 = 256 * 1024;

/// The journal of one device.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    next: BTreeMap<u8, Next>,
}

/// What the journal held when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    pub accepted: Option<Vec<u8>>,
    pub last_good: Option<Vec<u8>>,
    pub boot: Option<Vec<u8>>,
    pub attempts: Option<Vec<u8>>,
    pub clock: Option<Vec<u8>>,
    pub alarms: Option<Vec<u8>>,
}

const fn key_name(key: JournalKey) -> &'static str {
    match key {
        JournalKey::Accepted => "accepted",
        JournalKey::LastGood => "last-good",
        JournalKey::Boot => "boot",
        JournalKey::Attempts => "attempts",
        JournalKey::Clock => "clock",
        JournalKey::Alarms => "alarms",
    }
}

const fn slot_name(slot: Slot) -> &'static str {
    match slot {
        Slot::A => "a",
        Slot::B => "b",
    }
}

/// An unreadable slot counts as torn: the other one may be whole.
fn read_slot(path: &Path) -> Vec<u8> {
    match disk::read_bounded(path, SLOT_BYTES_MAX) {
        Ok(content) => content.unwrap_or_default(),
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "a slot of the journal cannot be read");
            Vec::new()
        }
    }
}

impl Journal {
    /// Reads every key.
    pub fn open(directory: &Path) -> io::Result<(Self, Values)> {
        disk::directory_create(directory)?;
        let mut journal = Self { directory: directory.to_owned(), next: BTreeMap::new() };
        let mut values = Values::default();
        for key in JournalKey::ALL {
            let [a, b] = [Slot::A, Slot::B].map(|slot| read_slot(&journal.path(key, slot)));
            let picked = pick(key, &a, &b);
            journal.next.insert(key as u8, Next::after(picked.as_ref()));
            let value = picked.map(|picked| picked.value.to_vec());
            match key {
                JournalKey::Accepted => values.accepted = value,
                JournalKey::LastGood => values.last_good = value,
                JournalKey::Boot => values.boot = value,
                JournalKey::Attempts => values.attempts = value,
                JournalKey::Clock => values.clock = value,
                JournalKey::Alarms => values.alarms = value,
            }
        }
        Ok((journal, values))
    }

    fn path(&self, key: JournalKey, slot: Slot) -> PathBuf {
        self.directory.join(format!("{}.{}", key_name(key), slot_name(slot)))
    }

    /// Durable on return.
    pub fn persist(&mut self, key: JournalKey, value: &[u8]) -> Result<(), PersistFailure> {
        let next = self.next.get(&(key as u8)).copied().unwrap_or_else(|| Next::after(None));
        let path = self.path(key, next.slot);
        let mut content = seal(key, next.sequence, value).to_vec();
        content.extend_from_slice(value);
        match disk::replace(&path, &content) {
            Ok(()) => {
                self.next.insert(key as u8, next.written());
                Ok(())
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the journal cannot be written");
                Err(if disk::is_no_space(&error) { PersistFailure::NoSpace } else { PersistFailure::Storage })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    fn accepted(directory: &Path) -> Option<Vec<u8>> {
        Journal::open(directory).unwrap().1.accepted
    }

    #[test]
    fn the_last_value_of_each_key_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, values) = Journal::open(directory.path()).unwrap();
        assert_eq!(values, Values::default());
        for round in 0..5u8 {
            journal.persist(JournalKey::Accepted, &[round; 300]).unwrap();
            journal.persist(JournalKey::Boot, &[round + 100]).unwrap();
        }
        let (mut journal, values) = Journal::open(directory.path()).unwrap();
        assert_eq!(values.accepted, Some(vec![4; 300]));
        assert_eq!(values.boot, Some(vec![104]));
        assert_eq!(values.attempts, None);
        journal.persist(JournalKey::Accepted, b"after a restart").unwrap();
        assert_eq!(accepted(directory.path()), Some(b"after a restart".to_vec()));
    }

    #[test]
    fn c20_a_write_torn_at_any_byte_leaves_the_old_value() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(directory.path()).unwrap();
        journal.persist(JournalKey::Accepted, b"old").unwrap();
        journal.persist(JournalKey::Accepted, b"new value").unwrap();
        let newest = directory.path().join("accepted.b");
        let whole = fs::read(&newest).unwrap();
        for cut in 0..whole.len() {
            fs::write(&newest, &whole[..cut]).unwrap();
            assert_eq!(accepted(directory.path()), Some(b"old".to_vec()), "cut at {cut}");
        }
        // The next write replaces the torn slot, not the truth.
        let (mut journal, _) = Journal::open(directory.path()).unwrap();
        journal.persist(JournalKey::Accepted, b"third").unwrap();
        assert_eq!(fs::read(directory.path().join("accepted.a")).unwrap().len(), 24 + 3);
        assert_eq!(accepted(directory.path()), Some(b"third".to_vec()));
    }

    #[test]
    fn a_write_that_fails_is_said_and_keeps_the_value() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(directory.path()).unwrap();
        journal.persist(JournalKey::Accepted, b"old").unwrap();
        // A directory in the place of the file that is written next.
        let part = disk::part_path(&directory.path().join("accepted.b"));
        fs::create_dir(&part).unwrap();
        assert_eq!(journal.persist(JournalKey::Accepted, b"new"), Err(PersistFailure::Storage));
        fs::remove_dir(&part).unwrap();
        assert_eq!(accepted(directory.path()), Some(b"old".to_vec()));
        journal.persist(JournalKey::Accepted, b"new").unwrap();
        assert_eq!(accepted(directory.path()), Some(b"new".to_vec()));
    }
}
