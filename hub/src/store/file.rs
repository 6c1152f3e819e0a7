//! Small files that are either wholly there or not there at all, and the lock of a data directory.
//!
//! A file written here survives a power cut in its old or its new form, never in between. Nothing here may ever leave
//! a secret readable by others, not even for the moment between creating and restricting it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Mode of directories that may hold secrets.
pub const DIRECTORY_MODE: u32 = 0o700;
/// Mode of files that may hold secrets.
pub const FILE_MODE: u32 = 0o600;
/// Ending of a file that is not finished yet.
const UNFINISHED: &str = "new";

/// Makes a private directory; one that exists is left as it is.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)
}

/// Makes what was renamed into or removed from a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Creates a private file, replacing one that a crash left behind.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)
}

/// Replaces a file: written beside it, made durable, renamed over it.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension(UNFINISHED);
    let mut file = create_private(&unfinished)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&unfinished, path)?;
    match path.parent() {
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}

/// Keeps a second process off a data directory for as long as it lives. The operating system releases it when the
/// process ends, however it ends.
#[derive(Debug)]
pub struct DirectoryLock(#[allow(dead_code, reason = "the open file is the lock")] File);

impl DirectoryLock {
    /// Takes the lock; `None` when somebody else holds it.
    ///
    /// # Errors
    /// When the lock file cannot be made or locked.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_replaced_file_is_private_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("high-water");
        std::fs::write(path.with_extension(UNFINISHED), b"left by a crash").unwrap();
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, FILE_MODE);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_lock_is_held_once_and_free_after_its_holder() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = DirectoryLock::take(&path).unwrap();
        assert!(held.is_some());
        assert!(DirectoryLock::take(&path).unwrap().is_none());
        drop(held);
        assert!(DirectoryLock::take(&path).unwrap().is_some());
    }
}
