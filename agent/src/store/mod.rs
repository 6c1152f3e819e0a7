//! Artifacts on disk, each under its own hash, and how they come here.
//!
//! A file has its final name only after what the disk reads back had the right hash. Blocking: call it off the loop. Must never
//! retry by itself, and never hold more bytes than it was given. Several devices in one process may share one shelf of files.
mod download;
mod shelf;

pub use download::Account;
pub use shelf::{Shelf, Spare, Usage};

use crate::disk;
use crate::faults::Faults;
use agent_nostd::machine::port::{FetchFailure, Source};
use download::{Download, Range};
use sha2::{Digest as _, Sha256};
use shelf::Holder;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use wire::Digest;

/// Bytes of all artifacts together.
pub const STORE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Bytes of the disk that artifacts must leave for journal and state.
pub const DISK_RESERVE_BYTES: u64 = 4 * 1024 * 1024;
const BUFFER_BYTES: usize = 64 * 1024;

/// The artifacts of one device.
#[derive(Debug)]
pub struct Store {
    shelf: Arc<Shelf>,
    /// Who this device is among those that share the shelf.
    holder: Holder,
    bytes_max: u64,
    download: Option<Download>,
    stopped: AtomicBool,
    faults: Option<Arc<Faults>>,
}

/// Why a fetch ended early.
enum Cut {
    Failure(FetchFailure),
    Disk(io::Error),
}

impl From<io::Error> for Cut {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<FetchFailure> for Cut {
    fn from(failure: FetchFailure) -> Self {
        Self::Failure(failure)
    }
}

/// A file that grows, and the hash of what is in it.
struct Part {
    file: File,
    hash: Sha256,
    length: u64,
}

impl Part {
    /// Takes up what an earlier fetch left behind; the hash is rebuilt from the disk.
    fn resume(path: &Path, bytes: u64) -> io::Result<Self> {
        let mut hash = Sha256::new();
        let mut length = 0;
        if path.exists() {
            let (found, count) = hash_of(path, bytes)?;
            if count > bytes {
                fs::remove_file(path)?;
            } else {
                (hash, length) = (found, count);
            }
        }
        Ok(Self { file: disk::append(path)?, hash, length })
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.hash = Sha256::new();
        self.length = 0;
        Ok(())
    }

    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// Hash and length of a file, of which at most one byte more than `bytes` is read.
fn hash_of(path: &Path, bytes: u64) -> io::Result<(Sha256, u64)> {
    let mut file = File::open(path)?.take(bytes.saturating_add(1));
    let mut hash = Sha256::new();
    let mut length = 0;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((hash, length));
        }
        hash.update(&buffer[..count]);
        length += count as u64;
    }
}

fn finish(hash: Sha256) -> Digest {
    Digest(hash.finalize().into())
}

impl Store {
    /// `account`: where and as whom artifacts are fetched; `None`: nowhere.
    pub fn open(directory: &Path, bytes_max: u64, account: Option<Account>) -> io::Result<Self> {
        Ok(Self::on(&Arc::new(Shelf::open(directory, bytes_max, Spare::Keep)?), bytes_max, account))
    }

    /// On a shelf that other devices may use too. Nothing is deleted from it before `introduce` was called.
    pub fn on(shelf: &Arc<Shelf>, bytes_max: u64, account: Option<Account>) -> Self {
        Self {
            shelf: Arc::clone(shelf),
            holder: shelf.admit(),
            bytes_max,
            download: account.map(Download::new),
            stopped: AtomicBool::new(false),
            faults: None,
        }
    }

    pub fn with_faults(self, faults: Option<Arc<Faults>>) -> Self {
        Self { faults, ..self }
    }

    /// Whether the disk is said to be full. What is stored stays readable.
    pub fn takes_nothing(&self) -> bool {
        self.faults.as_ref().is_some_and(|faults| faults.is_disk_full())
    }

    fn source(&self) -> Result<&Download, FetchFailure> {
        match &self.faults {
            Some(faults) if faults.is_cut_off() => Err(FetchFailure::Unreachable),
            Some(_) | None => self.download.as_ref().ok_or(FetchFailure::Unreachable),
        }
    }

    /// Says once, before anything else, what this device needs of what is stored.
    pub fn introduce(&self, is_referenced: impl Fn(&Digest) -> bool) {
        self.shelf.introduce(self.holder, is_referenced);
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.shelf.path(digest)
    }

    /// Running fetches end soon, as unreachable.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub fn usage(&self) -> Usage {
        self.shelf.usage()
    }

    /// Bytes that artifacts of this device may still take.
    pub fn free_bytes(&self) -> u64 {
        self.shelf.free_bytes().min(self.bytes_max.saturating_sub(self.shelf.held_bytes(self.holder)))
    }

    /// The whole artifact as the disk reads it back, if it still has its hash.
    pub fn read(&self, digest: &Digest, bytes: u32) -> io::Result<Vec<u8>> {
        let content = disk::read_bounded(&self.path(digest), u64::from(bytes))?;
        let content = content.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the artifact is not stored"))?;
        if Digest::of(&content) == *digest {
            Ok(content)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the stored artifact is damaged"))
        }
    }

    /// Brings an artifact of exactly `bytes` into the store.
    pub fn fetch(&self, digest: &Digest, bytes: u32, source: Source) -> Result<(), FetchFailure> {
        self.settle(digest, self.fetch_inner(digest, u64::from(bytes), source))
    }

    /// The body of a desired set: into memory, never stored.
    pub fn fetch_body(&self, digest: &Digest, bytes: u32, source: Source) -> Result<Vec<u8>, FetchFailure> {
        let download = match source {
            Source::Store => return Err(FetchFailure::Absent),
            Source::Anywhere => self.source()?,
        };
        let bytes = u64::from(bytes);
        let (mut reader, _) = download.body(digest)?;
        let mut content = Vec::new();
        self.copy(&mut reader, |chunk| {
            if (content.len() + chunk.len()) as u64 > bytes {
                return Err(FetchFailure::HashMismatch.into());
            }
            content.extend_from_slice(chunk);
            Ok(())
        })
        .or_else(|cut| self.settle(digest, Err(cut)))?;
        if Digest::of(&content) == *digest { Ok(content) } else { Err(FetchFailure::HashMismatch) }
    }

    fn settle(&self, digest: &Digest, result: Result<(), Cut>) -> Result<(), FetchFailure> {
        result.map_err(|cut| match cut {
            Cut::Failure(failure) => failure,
            Cut::Disk(error) => {
                tracing::error!(%digest, %error, "an artifact cannot be stored");
                // The machine knows no other failure of the disk; to people both say: look at the disk.
                FetchFailure::NoSpace
            }
        })
    }

    fn fetch_inner(&self, digest: &Digest, bytes: u64, source: Source) -> Result<(), Cut> {
        // On a shelf that is shared it may be there already, and this device's own disk would not have it.
        if self.takes_nothing() && !self.shelf.is_held_by(self.holder, digest) {
            return Err(FetchFailure::NoSpace.into());
        }
        self.shelf.hold(self.holder, digest);
        let path = self.path(digest);
        if self.is_whole(&path, digest, bytes)? {
            self.shelf.touch(digest);
            return Ok(());
        }
        let download = match source {
            Source::Store => return Err(FetchFailure::Absent.into()),
            Source::Anywhere if self.takes_nothing() => return Err(FetchFailure::NoSpace.into()),
            Source::Anywhere => self.source()?,
        };
        // One fetch at a time: who waited finds what the other one brought.
        let _flight = self.shelf.fly(digest);
        if self.is_whole(&path, digest, bytes)? {
            return Ok(());
        }
        let part_path = disk::part_path(&path);
        let _reservation = self.shelf.reserve(digest, bytes, &part_path)?;
        let mut part = Part::resume(&part_path, bytes)?;
        if part.length < bytes {
            self.receive(download, digest, bytes, &mut part).inspect_err(|cut| match cut {
                // What is in the part does not lead to the artifact.
                Cut::Failure(FetchFailure::HashMismatch) => drop(fs::remove_file(&part_path)),
                // What is there stays for the next try.
                Cut::Failure(_) | Cut::Disk(_) => {}
            })?;
        }
        part.file.sync_all()?;
        let running = finish(part.hash);
        drop(part.file);
        // The running hash speaks of what was received, the second one of what the disk gives back.
        let (stored, _) = hash_of(&part_path, bytes)?;
        if running != *digest || finish(stored) != *digest {
            fs::remove_file(&part_path)?;
            return Err(FetchFailure::HashMismatch.into());
        }
        disk::publish(&part_path, &path)?;
        tracing::info!(%digest, bytes, "an artifact was fetched");
        Ok(())
    }

    /// Whether the artifact is there with its hash; what is there with another one is removed.
    fn is_whole(&self, path: &Path, digest: &Digest, bytes: u64) -> io::Result<bool> {
        if !path.exists() {
            return Ok(false);
        }
        let (hash, length) = hash_of(path, bytes)?;
        if length == bytes && finish(hash) == *digest {
            return Ok(true);
        }
        tracing::error!(%digest, "a stored artifact is damaged and is fetched again");
        disk::remove(path)?;
        Ok(false)
    }

    /// Receives what is missing. On success the part has exactly `bytes`.
    fn receive(&self, download: &Download, digest: &Digest, bytes: u64, part: &mut Part) -> Result<(), Cut> {
        let (mut reader, range) = download.artifact(digest, part.length)?;
        let promised = match range {
            Range::Whole { length } => {
                part.restart()?;
                length
            }
            Range::Rest { total } => total,
        };
        if promised.is_some_and(|promised| promised != bytes) {
            tracing::warn!(%digest, bytes, promised, "the source has an artifact of another length");
            return Err(FetchFailure::HashMismatch.into());
        }
        let received = self.copy(&mut reader, |chunk| {
            if part.length + chunk.len() as u64 > bytes {
                return Err(FetchFailure::HashMismatch.into());
            }
            part.add(chunk).map_err(Cut::Disk)
        });
        // What came before a cut is worth keeping, even over a power cut.
        received.inspect_err(|_| drop(part.file.sync_data()))?;
        match (part.length == bytes, promised) {
            (true, _) => Ok(()),
            // It ended in order, but it was not all.
            (false, None) => Err(FetchFailure::HashMismatch.into()),
            (false, Some(_)) => Err(FetchFailure::Unreachable.into()),
        }
    }

    fn copy(&self, reader: &mut dyn Read, mut take: impl FnMut(&[u8]) -> Result<(), Cut>) -> Result<(), Cut> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            if self.stopped.load(Ordering::Relaxed) {
                return Err(FetchFailure::Unreachable.into());
            }
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => take(&buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::debug!(%error, "a fetch was cut");
                    return Err(FetchFailure::Unreachable.into());
                }
            }
        }
    }

    /// Deletes every artifact, finished or not, for which `is_referenced` is false and that no other device holds.
    pub fn collect(&self, is_referenced: impl Fn(&Digest) -> bool) -> io::Result<usize> {
        self.shelf.collect(self.holder, is_referenced)
    }
}

#[cfg(test)]
mod tests;
