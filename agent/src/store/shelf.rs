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
use std::time::SystemTime;
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

/// What becomes of an artifact that nobody needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spare {
    Delete,
    /// It stays as long as there is room; what was not used for longest goes first.
    Keep,
}

/// Bytes of the directory: of everything, and of what nobody needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub used: u64,
    pub spare: u64,
}

/// A finished artifact that nobody needs.
struct Idle {
    used_at: SystemTime,
    bytes: u64,
    path: PathBuf,
}

/// A directory of artifacts.
#[derive(Debug)]
pub struct Shelf {
    directory: PathBuf,
    bytes_max: u64,
    spare: Spare,
    ledger: Mutex<Ledger>,
    landed: Condvar,
}

impl Ledger {
    /// Every device has said what it needs.
    fn is_complete(&self) -> bool {
        u32::try_from(self.introduced.len()).is_ok_and(|count| count == self.admitted)
    }
}

fn is_part(path: &Path) -> bool {
    path.to_string_lossy().ends_with(disk::PART_SUFFIX)
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
    pub fn open(directory: &Path, bytes_max: u64, spare: Spare) -> io::Result<Self> {
        disk::directory_create(directory)?;
        let (ledger, landed) = (Mutex::default(), Condvar::new());
        Ok(Self { directory: directory.to_owned(), bytes_max, spare, ledger, landed })
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

    pub fn is_held_by(&self, holder: Holder, digest: &Digest) -> bool {
        self.ledger().holders.get(digest).is_some_and(|holders| holders.contains(&holder))
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
        self.free_with(self.usage())
    }

    /// What nobody needs makes room when it is asked for.
    fn free_with(&self, Usage { used, spare }: Usage) -> u64 {
        let disk = disk::free_bytes(&self.directory).saturating_add(spare).saturating_sub(DISK_RESERVE_BYTES);
        disk.min(self.bytes_max.saturating_sub(used.saturating_sub(spare)))
    }

    pub fn usage(&self) -> Usage {
        let spare = self.idle(&self.ledger()).iter().map(|idle| idle.bytes).sum();
        Usage { used: self.used_bytes(), spare }
    }

    /// Finished artifacts that nobody needs, what was used last at the end. None before every device was heard.
    fn idle(&self, ledger: &Ledger) -> Vec<Idle> {
        let Ok(files) = self.files() else { return Vec::new() };
        if !ledger.is_complete() {
            return Vec::new();
        }
        let is_idle = |(path, digest): &(PathBuf, Option<Digest>)| {
            let is_held = digest.is_some_and(|digest| ledger.holders.contains_key(&digest));
            digest.is_some() && !is_held && !is_part(path)
        };
        let mut idle: Vec<Idle> = files
            .filter(is_idle)
            .filter_map(|(path, _)| {
                let metadata = fs::metadata(&path).ok()?;
                Some(Idle { used_at: metadata.modified().ok()?, bytes: metadata.len(), path })
            })
            .collect();
        idle.sort_by(|a, b| (a.used_at, &a.path).cmp(&(b.used_at, &b.path)));
        idle
    }

    /// Deletes what was not used for longest, until so many bytes are free without it.
    fn evict(&self, ledger: &Ledger, needed: u64) -> io::Result<usize> {
        let mut removed = 0;
        for Idle { path, .. } in self.idle(ledger) {
            let used = self.used_bytes().saturating_add(needed);
            if used <= self.bytes_max && disk::free_bytes(&self.directory) >= DISK_RESERVE_BYTES.saturating_add(needed)
            {
                break;
            }
            fs::remove_file(path)?;
            removed += 1;
        }
        Ok(removed)
    }

    /// It is used now: of what nobody needs, it goes last.
    pub fn touch(&self, digest: &Digest) {
        let touched = fs::File::open(self.path(digest)).and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = touched {
            tracing::debug!(%digest, %error, "the time of use of an artifact is not known");
        }
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
        let mut ledger = self.ledger();
        let spare = self.idle(&ledger).iter().map(|idle| idle.bytes).sum();
        let free = self.free_with(Usage { used: self.used_bytes(), spare });
        let others: u64 = ledger.reserved.iter().filter(|(other, _)| *other != digest).map(|(_, bytes)| bytes).sum();
        let needed = bytes.saturating_sub(here);
        if needed.saturating_add(others) > free {
            tracing::warn!(%digest, needed, free, "no room for an artifact");
            return Err(FetchFailure::NoSpace);
        }
        match self.evict(&ledger, needed.saturating_add(others)) {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "artifacts that nothing needs made room"),
            Err(error) => tracing::warn!(%error, "artifacts that nothing needs could not be deleted"),
        }
        ledger.reserved.insert(*digest, needed);
        Ok(Reservation { shelf: self, digest: *digest })
    }

    /// What one device needs, of all there is; what nobody needs any more is deleted, finished or not.
    pub fn collect(&self, holder: Holder, is_referenced: impl Fn(&Digest) -> bool) -> io::Result<usize> {
        // Held over the deletion, so that nobody takes up what is about to go.
        let mut ledger = self.ledger();
        ledger.holders.retain(|digest, holders| {
            if !is_referenced(digest) && holders.remove(&holder) && holders.is_empty() {
                self.touch(digest);
            }
            !holders.is_empty()
        });
        // Said about every file below.
        ledger.introduced.insert(holder);
        let all_introduced = ledger.is_complete();
        let mut removed = 0;
        for (path, digest) in self.files()? {
            if let Some(digest) = digest
                && is_referenced(&digest)
            {
                ledger.holders.entry(digest).or_default().insert(holder);
                continue;
            }
            let is_held = digest.is_some_and(|digest| ledger.holders.contains_key(&digest));
            let is_kept = self.spare == Spare::Keep && digest.is_some() && !is_part(&path);
            if all_introduced && !is_held && !is_kept {
                fs::remove_file(path)?;
                removed += 1;
            }
        }
        // Over the limit, or the disk has become narrow.
        removed += self.evict(&ledger, 0)?;
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
        let shelf = Shelf::open(directory.path(), 1 << 20, Spare::Delete).unwrap();
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
        let shelf = Shelf::open(directory.path(), 1 << 20, Spare::Delete).unwrap();
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
        let shelf = Shelf::open(directory.path(), 1 << 20, Spare::Delete).unwrap();
        let [one, two] = [shelf.admit(), shelf.admit()];
        shelf.introduce(one, |_| false);
        shelf.introduce(two, |_| false);
        shelf.hold(two, &Digest::of(b"code"));
        let digest = put(&shelf, b"code");
        assert_eq!(shelf.collect(one, |_| false).unwrap(), 0);
        assert!(shelf.path(&digest).exists());
    }

    #[test]
    fn what_nobody_needs_makes_room_oldest_first_and_what_is_needed_never() {
        let directory = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(directory.path(), 40, Spare::Keep).unwrap();
        let holder = shelf.admit();
        let [needed, old, young] = [put(&shelf, &[1; 10]), put(&shelf, &[2; 10]), put(&shelf, &[3; 10])];
        for (digest, seconds) in [(needed, 1), (old, 2), (young, 3)] {
            let file = fs::File::open(shelf.path(&digest)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
        }
        shelf.introduce(holder, |digest| *digest == needed);
        assert_eq!(shelf.collect(holder, |digest| *digest == needed).unwrap(), 0);
        assert_eq!((shelf.usage(), shelf.free_bytes()), (Usage { used: 30, spare: 20 }, 30));
        let new = Digest::of(b"new");
        drop(shelf.reserve(&new, 20, Path::new("none")).unwrap());
        assert_eq!([needed, old, young].map(|digest| shelf.path(&digest).exists()), [true, false, true]);
        assert!(matches!(shelf.reserve(&new, 31, Path::new("none")), Err(FetchFailure::NoSpace)));
        assert!(shelf.path(&young).exists(), "a refusal deletes nothing");
        drop(shelf.reserve(&new, 30, Path::new("none")).unwrap());
        assert_eq!([needed, young].map(|digest| shelf.path(&digest).exists()), [true, false]);
    }

    #[test]
    fn what_is_over_the_limit_goes_at_the_next_collection() {
        let directory = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(directory.path(), 15, Spare::Keep).unwrap();
        let holder = shelf.admit();
        let [needed, spare] = [put(&shelf, &[1; 10]), put(&shelf, &[2; 10])];
        fs::write(disk::part_path(&shelf.path(&spare)), b"half").unwrap();
        shelf.introduce(holder, |digest| *digest == needed);
        assert_eq!(shelf.collect(holder, |digest| *digest == needed).unwrap(), 2);
        assert!(shelf.path(&needed).exists() && !shelf.path(&spare).exists());
    }
}
