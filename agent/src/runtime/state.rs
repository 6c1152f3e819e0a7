//! What one instance remembers: a small map, whole in memory, whole in one file, replaced at the end of each activation.
//!
//! `magic 4 | sha256 of the rest 32 | count u32 | (key length u16, key, value length u32, value)*`, little endian. Must never
//! hold what is not on disk.
use crate::disk;
use agent_nostd::function::StateChange;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use wire::Digest;
use wire::codec::{Reader, WireError};

const MAGIC: [u8; 4] = *b"FS1\n";
/// Bytes of one file: the largest state that an assignment can grant here, with what surrounds it.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// End of the name of a file that could not be read, kept for whoever wants to look.
const DAMAGED_SUFFIX: &str = ".damaged";

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug)]
pub struct State {
    path: PathBuf,
    entries: Entries,
}

/// `<directory>/<workload>-<component>`
fn directory_of(directory: &Path, workload: u32, component: u8) -> PathBuf {
    directory.join(format!("{workload}-{component}"))
}

fn decode(content: &[u8]) -> Result<Entries, WireError> {
    let mut reader = Reader::new(content);
    let sound = reader.array()? == MAGIC && reader.array()? == Digest::of(reader.rest()).0;
    if !sound {
        return Err(WireError::NotAuthentic);
    }
    let count = u32::from_le_bytes(reader.array()?);
    let mut entries = Entries::new();
    for _ in 0..count {
        let length = usize::from(u16::from_le_bytes(reader.array()?));
        let key = reader.bytes(length)?.to_vec();
        let length = usize::try_from(u32::from_le_bytes(reader.array()?)).map_err(|_| WireError::Malformed)?;
        entries.insert(key, reader.bytes(length)?.to_vec());
    }
    reader.end()?;
    Ok(entries)
}

fn encode<'a>(entries: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> io::Result<Vec<u8>> {
    let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, "too long");
    let mut rest = vec![0; 4];
    let mut count = 0u32;
    for (key, value) in entries {
        rest.extend_from_slice(&u16::try_from(key.len()).map_err(too_long)?.to_le_bytes());
        rest.extend_from_slice(key);
        rest.extend_from_slice(&u32::try_from(value.len()).map_err(too_long)?.to_le_bytes());
        rest.extend_from_slice(value);
        count += 1;
    }
    rest[..4].copy_from_slice(&count.to_le_bytes());
    let mut content = MAGIC.to_vec();
    content.extend_from_slice(&Digest::of(&rest).0);
    content.append(&mut rest);
    Ok(content)
}

impl State {
    /// Reads what an instance remembered. A damaged file is put aside, loudly: forgetting is better than never running again.
    pub fn open(directory: &Path, workload: u32, component: u8, instance: u16) -> io::Result<Self> {
        let path = directory_of(directory, workload, component).join(instance.to_string());
        let entries = match disk::read_bounded(&path, FILE_BYTES_MAX)? {
            None => Entries::new(),
            Some(content) => decode(&content).or_else(|error| {
                let mut aside = path.clone().into_os_string();
                aside.push(DAMAGED_SUFFIX);
                tracing::error!(path = %path.display(), %error, "what a function remembered is damaged; it starts anew");
                fs::rename(&path, aside).map(|()| Entries::new())
            })?,
        };
        Ok(Self { path, entries })
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
    pub fn commit(&mut self, changes: &[StateChange<'_>]) -> io::Result<()> {
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
        let content = encode(next.into_iter())?;
        if content.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more state than a file may hold"));
        }
        if let Some(parent) = self.path.parent() {
            disk::directory_create(parent)?;
        }
        disk::replace(&self.path, &content)?;
        for change in changes {
            match change.value {
                Some(value) => self.entries.insert(change.key.to_vec(), value.to_vec()),
                None => self.entries.remove(change.key),
            };
        }
        Ok(())
    }
}

/// Deletes what components remembered that are not in `kept` any more.
pub fn collect(directory: &Path, kept: &BTreeSet<(u32, u8)>) -> io::Result<usize> {
    let kept: BTreeSet<PathBuf> =
        kept.iter().map(|(workload, component)| directory_of(directory, *workload, *component)).collect();
    let mut removed = 0;
    for entry in fs::read_dir(directory)?.flatten() {
        let path = entry.path();
        if path.is_dir() && !kept.contains(&path) {
            fs::remove_dir_all(&path)?;
            removed += 1;
        }
    }
    // Not synced: what comes back after a power cut is collected the next time.
    Ok(removed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set<'a>(key: &'a [u8], value: &'a [u8]) -> StateChange<'a> {
        StateChange { key, value: Some(value) }
    }

    #[test]
    fn what_was_committed_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let open = || State::open(directory.path(), 7, 1, 0).unwrap();
        let mut state = open();
        state.commit(&[set(b"a", b"1"), set(b"b", &[9; 5000])]).unwrap();
        state.commit(&[set(b"a", b"22"), StateChange { key: b"b", value: None }]).unwrap();
        assert_eq!(state.size(), 3);
        assert_eq!(open().get(b"a"), Some(&b"22"[..]));
        assert_eq!(open().get(b"b"), None);
        assert_eq!(State::open(directory.path(), 7, 1, 1).unwrap().size(), 0);
    }

    #[test]
    fn every_damage_is_noticed_and_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        State::open(directory.path(), 7, 1, 0).unwrap().commit(&[set(b"key", b"value")]).unwrap();
        let path = directory.path().join("7-1").join("0");
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            assert!(decode(&whole[..cut]).is_err(), "cut at {cut}");
            let mut rotten = whole.clone();
            rotten[cut] ^= 0x10;
            assert!(decode(&rotten).is_err(), "rot at {cut}");
        }
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(State::open(directory.path(), 7, 1, 0).unwrap().size(), 0);
        assert!(path.with_extension("damaged").exists());
    }

    #[test]
    fn a_commit_that_fails_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut state = State::open(directory.path(), 7, 1, 0).unwrap();
        state.commit(&[set(b"a", b"1")]).unwrap();
        fs::create_dir(disk::part_path(&state.path)).unwrap();
        assert!(state.commit(&[set(b"a", b"2")]).is_err());
        assert_eq!(state.get(b"a"), Some(&b"1"[..]));
    }

    #[test]
    fn state_of_what_left_the_set_is_deleted() {
        let directory = tempfile::tempdir().unwrap();
        for (workload, component) in [(1, 0), (1, 1), (2, 0)] {
            let mut state = State::open(directory.path(), workload, component, 0).unwrap();
            state.commit(&[set(b"a", b"1")]).unwrap();
        }
        assert_eq!(collect(directory.path(), &BTreeSet::from([(1, 1)])).unwrap(), 2);
        assert_eq!(State::open(directory.path(), 1, 1, 0).unwrap().size(), 2);
        assert_eq!(State::open(directory.path(), 1, 0, 0).unwrap().size(), 0);
    }
}
