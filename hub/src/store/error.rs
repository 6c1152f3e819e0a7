//! Why a store did not open: each variant is something that a person can act upon, and says how.

use std::io;
use std::path::PathBuf;

use super::high_water::HighWaterError;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process works on it.
    #[error("{path} is in use by another hub process. Stop that one first, or choose another data directory")]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// A file or directory cannot be made, read or written.
    #[error("cannot use {path}: {error}. Check who owns it and whether the disk has space")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A later version of this program made the database.
    #[error(
        "{path} has schema version {found}, and this program knows up to {known}. Start the newer program again, or \
         restore the backup that was made before the upgrade"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Our version.
        known: i64,
    },
    /// Another program made the database.
    #[error("{path} is not a database of this program. Move it away or choose another data directory")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The content is damaged.
    #[error("{path} is damaged: {detail}. Nothing was changed. Restore the last backup of the data directory")]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What the check found.
        detail: String,
    },
    /// The database belongs to another fleet.
    #[error(
        "this data directory belongs to fleet {found:?}, not {asked:?}. Leave the fleet out or choose another directory"
    )]
    OtherFleet {
        /// In the database.
        found: String,
        /// In the configuration.
        asked: String,
    },
    /// A fleet name that cannot be part of a topic.
    #[error("{0:?} cannot be a fleet name: use up to 32 lower-case letters, digits and inner dashes")]
    FleetName(String),
    /// The keys are not those that devices of this database know.
    #[error(
        "the keys in this data directory are not those its database was made with. Restore the keys that belong to it"
    )]
    OtherKeys,
    /// The next incarnation is unknown.
    #[error(transparent)]
    HighWater(#[from] HighWaterError),
    /// The database library failed.
    #[error("the database failed while {doing}: {error}")]
    Database {
        /// What was tried.
        doing: &'static str,
        /// What it said.
        error: rusqlite::Error,
    },
    /// The first link of trust cannot be made.
    #[error("the first link of trust cannot be made: {0:?}")]
    Trust(wire::WireError),
}

impl StoreError {
    pub(super) fn database(doing: &'static str) -> impl Fn(rusqlite::Error) -> Self {
        move |error| Self::Database { doing, error }
    }

    pub(super) fn file(path: &std::path::Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File { path: path.clone(), error }
    }
}
