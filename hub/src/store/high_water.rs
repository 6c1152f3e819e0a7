//! The incarnation's high-water mark: a file beside the database that a restored backup does not take back.
//!
//! Every start of the hub issues orders under a new incarnation, and a device believes only rising orders. A database
//! that was restored from a backup has forgotten incarnations that devices have seen; this file has not. It must be
//! durable before anything is issued under the number in it, and is never written with a lower number.

use std::io;
use std::path::{Path, PathBuf};

use wire::id::Order;

use super::file;

/// Name of the file.
pub const HIGH_WATER_FILE: &str = "high-water";
/// How far to jump when the file is gone: more starts than anybody makes between a backup and its restore.
pub const LOST_FILE_JUMP: u32 = 4_096;
const PREFIX: &str = "incarnation ";

/// Why the next incarnation could not be found.
#[derive(Debug, thiserror::Error)]
pub enum HighWaterError {
    /// The file cannot be read or written.
    #[error("cannot use {path}: {error}. Check the rights and the space of the data directory")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{path} does not hold an incarnation, so it is unknown which orders devices have seen. Restore the file, or \
         remove it if this database was never restored from a backup: the hub then jumps ahead"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
    },
    /// No incarnation is left.
    #[error("all {} incarnations are used up. Devices must join a new fleet", Order::INCARNATION_MAX)]
    Exhausted,
}

/// The next incarnation, and what a person should know about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) incarnation: u32,
    /// The database does not know everything that was said in its name.
    pub(super) is_behind: bool,
    pub(super) warning: Option<String>,
}

pub(super) fn path(data: &Path) -> PathBuf {
    data.join(HIGH_WATER_FILE)
}

/// What the file says; `None` without a file.
pub(super) fn read(data: &Path) -> Result<Option<u32>, HighWaterError> {
    let path = path(data);
    let text = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(HighWaterError::File { path, error }),
    };
    let number = std::str::from_utf8(&text)
        .ok()
        .and_then(|text| text.strip_prefix(PREFIX)?.strip_suffix('\n')?.parse().ok())
        .filter(|number| *number <= Order::INCARNATION_MAX);
    number.map_or(Err(HighWaterError::Unreadable { path }), |number| Ok(Some(number)))
}

/// Makes the number durable.
pub(super) fn write(data: &Path, incarnation: u32) -> Result<(), HighWaterError> {
    let path = path(data);
    let text = format!("{PREFIX}{incarnation}\n");
    file::replace(&path, text.as_bytes()).map_err(|error| HighWaterError::File { path, error })
}

/// The number after both: what the database says (zero: it is new) and what the file says.
pub(super) fn next(database: u32, file: Option<u32>) -> Result<Next, HighWaterError> {
    let (base, warning) = match file {
        Some(file) if file > database => {
            let warning = format!(
                "the database is at incarnation {database} and the high-water file at {file}: this database is an old \
                 copy. Continuing above both; devices that hold newer sets keep them: fulmar status says which"
            );
            (file, Some(warning))
        }
        None if database > 0 => {
            let warning = format!(
                "the high-water file is gone while the database is at incarnation {database}. Jumping {LOST_FILE_JUMP} \
                 ahead, in case that this database is an old copy"
            );
            (database.saturating_add(LOST_FILE_JUMP), Some(warning))
        }
        Some(_) | None => (database, None),
    };
    let incarnation = base.saturating_add(1);
    if incarnation > Order::INCARNATION_MAX {
        Err(HighWaterError::Exhausted)
    } else {
        Ok(Next { incarnation, is_behind: warning.is_some(), warning })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_next_incarnation_is_above_the_database_and_the_file() {
        assert_eq!(next(0, None).unwrap(), Next { incarnation: 1, is_behind: false, warning: None });
        assert_eq!(next(7, Some(7)).unwrap(), Next { incarnation: 8, is_behind: false, warning: None });
        // A crash between the two writes of a start.
        assert_eq!(next(8, Some(7)).unwrap(), Next { incarnation: 9, is_behind: false, warning: None });
        let restored = next(3, Some(9)).unwrap();
        assert_eq!(restored.incarnation, 10);
        assert!(restored.warning.unwrap().contains("old copy"));
        let lost = next(3, None).unwrap();
        assert_eq!(lost.incarnation, 3 + LOST_FILE_JUMP + 1);
        assert!(lost.warning.is_some());
        assert!(matches!(next(Order::INCARNATION_MAX, Some(1)), Err(HighWaterError::Exhausted)));
    }

    #[test]
    fn a_file_that_is_not_ours_is_refused_and_not_taken_for_zero() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()).unwrap(), None);
        write(directory.path(), 41).unwrap();
        assert_eq!(read(directory.path()).unwrap(), Some(41));
        for bad in ["", "incarnation ", "incarnation 7", "incarnation -1\n", "incarnation 99999999\n", "\u{0}"] {
            std::fs::write(path(directory.path()), bad).unwrap();
            assert!(matches!(read(directory.path()), Err(HighWaterError::Unreadable { .. })), "{bad:?}");
        }
    }
}
