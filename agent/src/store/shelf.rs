//! The directory of artifacts, and who needs what of it. One device has its own shelf; simulated ones in a process share one.
//!
//! Must never delete what some device holds, nor anything before every device has said what it holds.
use super::DISK_RESERVE_BYTES;
use crate::disk;
use agent_nostd::machine::port::FetchFailure;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use wire::Digest;

/// One of the devices that share a shelf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder(u32);

/// What is in use.
#[derive(Debug, Default)]
struct Ledger {
    holders: BTreeMap<Digest, BTreeSet<Holder>>,
    admitted: u32,
    introduced: BTreeSet<Holder>,
    /// Bytes that running fetches will need.
    reserved: BTreeMap<Digest, u64>,
    /// What is being fetched from the network.
    flights: BTreeSet<Digest>,
}

/// A directory of artifacts.
#[derive(Debug)]
pub struct Shelf {
    directory: PathBuf,
    bytes_max: u64,
    ledger: Mutex<Ledger>,
    landed: Condvar,
}

/// Frees the reservation of a fetch at its end.
pub struct Reservation<'a> {
    shelf: &'a Shelf,
    digest: Digest,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.shelf.ledger().reserved.remove(&self.digest);
    }
}

/// The only fetch of its artifact, until it is dropped.
pub struct Flight<'a> {
    shelf: &'a Shelf,
    digest: Digest,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.shelf.ledger().flights.remove(&self.digest);
        self.shelf.landed.notify_all();
    }
}

impl Shelf {
    pub fn open(directory: &Path, bytes_max: u64) -> io::Result<Self> {
        disk::directory_create(directory)?;
        let (ledger, landed) = (Mutex::default(), Condvar::new());
        Ok(Self { directory: directory.to_owned(), bytes_max, ledger, landed })
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Each change under this lock is whole by itself.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.text().as_str())
    }

    pub fn admit(&self) -> Holder {
        let mut ledger = self.ledger();
        ledger.admitted += 1;
        Holder(ledger.admitted)
    }

    /// Files with the artifact that they are, or will be; `None`: not ours.
    fn files(&self) -> io::Result<impl Iterator<Item = (PathBuf, Option<Digest>)> + use<>> {
        let entries = fs::read_dir(&self.directory)?.flatten();
        Ok(entries.map(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let digest = Digest::parse(name.strip_suffix(disk::PART_SUFFIX).unwrap_or(&name));
            (entry.path(), digest)
        }))
    }

    pub fn introduce(&self, holder: Holder, is_referenced: impl Fn(&Digest) -> bool) {
        let mut ledger = self.ledger();
        let files = match self.files() {
            Ok(files) => files,
            Err(error) => {
                // Without its word nothing is ever deleted, which is the safe side.
                tracing::error!(%error, "the stored artifacts cannot be listed; none will be deleted");
                return;
            }
        };
        for digest in files.filter_map(|(_, digest)| digest).filter(|digest| is_referenced(digest)) {
            ledger.holders.entry(digest).or_default().insert(holder);
        }
        ledger.introduced.insert(holder);
    }

    /// From now on until its next `collect` this device needs the artifact.
    pub fn hold(&self, holder: Holder, digest: &Digest) {
        self.ledger().holders.entry(*digest).or_default().insert(holder);
    }

    /// Waits until nobody else fetches the artifact.
    pub fn fly(&self, digest: &Digest) -> Flight<'_> {
        let mut ledger = self.ledger();
        while !ledger.flights.insert(*digest) {
            ledger = self.landed.wait(ledger).unwrap_or_else(PoisonError::into_inner);
        }
        Flight { shelf: self, digest: *digest }
    }

    /// Bytes that artifacts of all devices may still take.
    pub fn free_bytes(&self) -> u64 {
        let disk = disk::free_bytes(&self.directory).saturating_sub(DISK_RESERVE_BYTES);
        disk.min(self.bytes_max.saturating_sub(self.used_bytes()))
    }

    fn used_bytes(&self) -> u64 {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return 0;
        };
        entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
    }

    /// Bytes of what one device holds.
    pub fn held_bytes(&self, holder: Holder) -> u64 {
        let ledger = self.ledger();
        let held = ledger.holders.iter().filter(|(_, holders)| holders.contains(&holder));
        held.filter_map(|(digest, _)| fs::metadata(self.path(digest)).ok()).map(|metadata| metadata.len()).sum()
    }

    /// Room for the whole artifact, or a failure before a byte was moved.
    pub fn reserve(&self, digest: &Digest, bytes: u64, part: &Path) -> Result<Reservation<'_>, FetchFailure> {
        let here = fs::metadata(part).map_or(0, |metadata| metadata.len());
        let free = self.free_bytes();
        let mut ledger = self.ledger();
        let others: u64 = ledger.reserved.iter().filter(|(other, _)| *other != digest).map(|(_, bytes)| bytes).sum();
        let needed = bytes.saturating_sub(here);
        if needed.saturating_add(others) > free {
            tracing::warn!(%digest, needed, free, "no room for an artifact");
            return Err(FetchFailure::NoSpace);
        }
        ledger.reserved.insert(*digest, needed);
        Ok(Reservation { shelf: self, digest: *digest })
    }

    /// What one device needs, of all there is; what nobody needs any more is deleted, finished or not.
    pub fn collect(&self, holder: Holder, is_referenced: impl Fn(&Digest) -> bool) -> io::Result<usize> {
        // Held over the deletion, so that nobody takes up what is about to go.
        let mut ledger = self.ledger();
        ledger.holders.retain(|digest, holders| {
            if !is_referenced(digest) {
                holders.remove(&holder);
            }
            !holders.is_empty()
        });
        // Said about every file below.
        ledger.introduced.insert(holder);
        let all_introduced = u32::try_from(ledger.introduced.len()).is_ok_and(|count| count == ledger.admitted);
        let mut removed = 0;
        for (path, digest) in self.files()? {
            if let Some(digest) = digest
                && is_referenced(&digest)
            {
                ledger.holders.entry(digest).or_default().insert(holder);
                continue;
            }
            let is_held = digest.is_some_and(|digest| ledger.holders.contains_key(&digest));
            if all_introduced && !is_held {
                fs::remove_file(path)?;
                removed += 1;
            }
        }
        // Not synced: what comes back after a power cut is collected the next time.
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn put(shelf: &Shelf, content: &[u8]) -> Digest {
        let digest = Digest::of(content);
        fs::write(shelf.path(&digest), content).unwrap();
        digest
    }

    #[test]
    fn what_another_device_holds_stays() {
        let directory = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(directory.path(), 1 << 20).unwrap();
        let [one, two] = [shelf.admit(), shelf.admit()];
        let [shared, single] = [put(&shelf, b"shared"), put(&shelf, b"single")];
        shelf.introduce(one, |_| true);
        shelf.introduce(two, |digest| *digest == shared);
        assert_eq!((shelf.held_bytes(one), shelf.held_bytes(two)), (12, 6));
        assert_eq!(shelf.collect(one, |_| false).unwrap(), 1);
        assert!(shelf.path(&shared).exists() && !shelf.path(&single).exists());
        assert_eq!(shelf.collect(two, |_| false).unwrap(), 1);
        assert!(!shelf.path(&shared).exists());
    }

    #[test]
    fn nothing_is_deleted_before_all_devices_were_heard() {
        let directory = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(directory.path(), 1 << 20).unwrap();
        let [one, two] = [shelf.admit(), shelf.admit()];
        let digest = put(&shelf, b"code");
        shelf.introduce(one, |_| false);
        assert_eq!(shelf.collect(one, |_| false).unwrap(), 0);
        shelf.introduce(two, |_| true);
        assert_eq!(shelf.collect(one, |_| false).unwrap(), 0);
        assert!(shelf.path(&digest).exists());
    }

    #[test]
    fn a_fetch_under_way_holds_what_it_will_bring() {
        let directory = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(directory.path(), 1 << 20).unwrap();
        let [one, two] = [shelf.admit(), shelf.admit()];
        shelf.introduce(one, |_| false);
        shelf.introduce(two, |_| false);
        shelf.hold(two, &Digest::of(b"code"));
        let digest = put(&shelf, b"code");
        assert_eq!(shelf.collect(one, |_| false).unwrap(), 0);
        assert!(shelf.path(&digest).exists());
    }
}
