//! Where a running hub is reached, as a file for programs on the same machine.
//!
//! The file is there while the hub serves: written when it listens and before it answers, removed first at a stop. After a crash it
//! may be stale; the process id in it tells.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::keys::RUN_DIRECTORY;
use crate::store::file;

/// Name of the file, inside the run directory.
pub const ENDPOINTS_FILE: &str = "endpoints.json";

/// Where a running hub is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// `http://host:port` or `https://host:port`.
    pub api: String,
    /// `mqtt://host:port` or `mqtts://host:port`.
    pub broker: String,
    /// Of the hub's process.
    pub pid: u32,
    /// File with the administrator's bearer token.
    pub token_file: PathBuf,
    /// With TLS: PEM file of the authority that vouches for the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

impl Endpoints {
    /// Where the file of a data directory is.
    #[must_use]
    pub fn path(data: &Path) -> PathBuf {
        data.join(RUN_DIRECTORY).join(ENDPOINTS_FILE)
    }

    /// Reads the file of a data directory.
    ///
    /// # Errors
    /// When there is none (no hub runs there) or it is not ours.
    pub fn read(data: &Path) -> io::Result<Self> {
        let text = std::fs::read(Self::path(data))?;
        serde_json::from_slice(&text).map_err(io::Error::other)
    }

    pub(super) fn write(&self, data: &Path) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        file::replace(&Self::path(data), &text)
    }

    pub(super) fn remove(data: &Path) -> io::Result<()> {
        match std::fs::remove_file(Self::path(data)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
