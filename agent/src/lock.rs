//! One agent per data directory: two would be two devices with one name, and would tear each other's files.
//!
//! The lock is the kernel's and ends with the process, however it ends. The file's content says how the last run ended.
//! Must never be decided by the presence of a file.
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const LOCK_FILE: &str = "lock";
/// Bytes of the content that are looked at.
const CONTENT_BYTES_MAX: u64 = 64;
const RUNNING: &str = "running";
const ENDED: &str = "ended";
const KERNEL_BOOT_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another agent works in {0}. Stop it first, or use --data with another directory")]
    Held(PathBuf),
    #[error("cannot lock {path}: {source}. Check that the directory is writable and belongs to this user")]
    Io { path: PathBuf, source: io::Error },
}

/// Held as long as it lives.
#[derive(Debug)]
pub struct DataLock {
    file: File,
}

/// How the last agent on this directory ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastRun {
    /// There was none since the machine started, or it said goodbye.
    Ended,
    /// It disappeared while the machine stayed up: a crash, or a kill without warning.
    Disappeared,
    /// The machine has started since.
    OtherBoot,
}

/// The kernel's name of this boot; empty where there is none.
fn kernel_boot() -> String {
    std::fs::read_to_string(KERNEL_BOOT_FILE).map(|text| text.trim().to_owned()).unwrap_or_default()
}

impl DataLock {
    pub fn take(data: &Path) -> Result<Self, LockError> {
        let path = data.join(LOCK_FILE);
        let io = |source| LockError::Io { path: path.clone(), source };
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held(data.to_owned())),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// Marks the directory as in use, and says how the last run ended.
    pub fn begin(&mut self) -> io::Result<LastRun> {
        self.begin_at(&kernel_boot())
    }

    fn begin_at(&mut self, boot: &str) -> io::Result<LastRun> {
        let mut content = String::new();
        self.file.rewind()?;
        (&self.file).take(CONTENT_BYTES_MAX).read_to_string(&mut content)?;
        let last = match content.trim_end().split_once(' ') {
            Some((_, last_boot)) if last_boot != boot => LastRun::OtherBoot,
            Some((RUNNING, _)) => LastRun::Disappeared,
            _ => LastRun::Ended,
        };
        self.write(RUNNING, boot)?;
        Ok(last)
    }

    /// Says goodbye.
    pub fn end(&mut self) -> io::Result<()> {
        self.write(ENDED, &kernel_boot())
    }

    /// Not synced: after a power cut the answer does not depend on it.
    fn write(&mut self, word: &str, boot: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(format!("{word} {boot}\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn two_agents_on_one_directory_refuse() {
        let data = tempfile::tempdir().unwrap();
        let lock = DataLock::take(data.path()).unwrap();
        assert!(matches!(DataLock::take(data.path()), Err(LockError::Held(_))));
        drop(lock);
        assert!(DataLock::take(data.path()).is_ok());
    }

    #[test]
    fn a_run_without_goodbye_is_noticed() {
        let data = tempfile::tempdir().unwrap();
        let begin = |boot: &str| DataLock::take(data.path()).unwrap().begin_at(boot).unwrap();
        assert_eq!(begin("one"), LastRun::Ended);
        assert_eq!(begin("one"), LastRun::Disappeared);
        assert_eq!(begin("two"), LastRun::OtherBoot);
        let mut lock = DataLock::take(data.path()).unwrap();
        lock.begin().unwrap();
        lock.end().unwrap();
        drop(lock);
        assert_eq!(begin(&kernel_boot()), LastRun::Ended);
        assert_eq!(begin("three"), LastRun::OtherBoot);
    }
}
