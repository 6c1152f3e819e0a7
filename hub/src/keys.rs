//! The hub's own secrets: its signing key, its exchange key, and the administrator's token.
//!
//! Keys are made once, at the first start, and never again: devices believe only the keys they joined with. They live
//! in `<data>/keys`, apart from the database, so that a backup of the database is not a copy of the hub's identity.
//! No secret may ever reach a log, an error or a debug output.

use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use wire::dalek::{Ed25519Key, ExchangeSecret};
use wire::join::ExchangeKey;
use wire::sign::{PublicKey, Sign};

use crate::store::file;

/// Directory of the key files, inside the data directory.
pub const KEYS_DIRECTORY: &str = "keys";
const UNFINISHED_DIRECTORY: &str = "keys.new";
const SIGNING_FILE: &str = "hub-signing";
const EXCHANGE_FILE: &str = "hub-exchange";
/// Directory of what the running hub tells local programs, inside the data directory.
pub const RUN_DIRECTORY: &str = "run";
/// File with the administrator's token, inside the run directory.
pub const ADMIN_TOKEN_FILE: &str = "admin.token";
const ADMIN_TOKEN_PREFIX: &str = "fulmar-admin-";
const SECRET_BYTES: usize = 32;
/// Longest secret file that is read: prefix, hexadecimal digits, line end.
const SECRET_FILE_BYTES_MAX: u64 = 128;

/// Why the hub has no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file or directory cannot be read or written.
    #[error("cannot use {path}: {error}. Check who owns the data directory and whether it has space")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Others can read the file.
    #[error("{path} can be read by others (mode {mode:o}), so its secret may be known. Run: chmod 600 {path}")]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file holds something else.
    #[error("{path} does not hold 32 bytes in hexadecimal. Restore it from the copy made with the keys")]
    Unreadable {
        /// Which.
        path: PathBuf,
    },
    /// There is a database but the keys are gone.
    #[error(
        "{path} is missing but this data directory already has a database: devices would not believe a hub with new \
         keys. Restore the keys, or start with an empty data directory and let all devices join again"
    )]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

/// The hub's two key pairs.
#[derive(Debug)]
pub struct Keys {
    /// Signs what is stored and carried by others.
    pub signing: Arc<Ed25519Key>,
    /// Agrees on a key with each device.
    pub exchange: Arc<ExchangeSecret>,
}

/// The public halves of the hub's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKeys {
    /// Checks what the hub signed.
    pub signing: PublicKey,
    /// The hub's side of every pair key.
    pub exchange: ExchangeKey,
}

impl Keys {
    /// From two seeds of 32 random bytes.
    #[must_use]
    pub fn from_seeds(signing: &[u8; SECRET_BYTES], exchange: [u8; SECRET_BYTES]) -> Self {
        Self {
            signing: Arc::new(Ed25519Key::from_seed(signing)),
            exchange: Arc::new(ExchangeSecret::from_seed(exchange)),
        }
    }

    /// Reads the keys of a data directory; makes them when this is its first start (no database yet).
    ///
    /// # Errors
    /// When they cannot be read or made, others can read them, or they are gone.
    pub fn open(data: &Path, database: &Path) -> Result<Self, KeysError> {
        let directory = data.join(KEYS_DIRECTORY);
        if !directory.exists() {
            if database.exists() {
                return Err(KeysError::Missing { path: directory });
            }
            make_keys(data, &directory)?;
        }
        let signing = read_secret(&directory.join(SIGNING_FILE), "")?;
        let exchange = read_secret(&directory.join(EXCHANGE_FILE), "")?;
        Ok(Self::from_seeds(&signing, exchange))
    }

    /// What others may know.
    #[must_use]
    pub fn public(&self) -> PublicKeys {
        PublicKeys { signing: self.signing.public_key(), exchange: self.exchange.public_key() }
    }
}

/// The administrator's bearer token. Only its hash leaves this file's functions, besides the file itself.
#[derive(Debug)]
pub struct AdminToken {
    /// Where an administrator's programs read it.
    pub path: PathBuf,
    /// What is compared with.
    pub sha256: [u8; 32],
}

impl AdminToken {
    /// Reads the token of a data directory, or makes one. Removing the file and starting again makes a new token.
    ///
    /// # Errors
    /// When it cannot be read or made, or others can read it.
    pub fn open(data: &Path) -> Result<Self, KeysError> {
        let directory = data.join(RUN_DIRECTORY);
        file::make_directory(&directory).map_err(at(&directory))?;
        let path = directory.join(ADMIN_TOKEN_FILE);
        if !path.exists() {
            let text = format!("{ADMIN_TOKEN_PREFIX}{}\n", HEXLOWER.encode(&random()?));
            file::replace(&path, text.as_bytes()).map_err(at(&path))?;
        }
        let secret = read_secret(&path, ADMIN_TOKEN_PREFIX)?;
        let text = format!("{ADMIN_TOKEN_PREFIX}{}", HEXLOWER.encode(&secret));
        Ok(Self { path, sha256: secret_hash(text.as_bytes()) })
    }
}

/// SHA-256 of a bearer token or password as it is presented.
#[must_use]
pub fn secret_hash(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// Compares without an early exit, so that the time taken says nothing about the stored hash.
#[must_use]
pub fn hashes_match(left: &[u8; 32], right: &[u8; 32]) -> bool {
    left.iter().zip(right).fold(0u8, |different, (a, b)| different | (a ^ b)) == 0
}

/// Both keys in a directory that appears under its name only when it is complete.
fn make_keys(data: &Path, directory: &Path) -> Result<(), KeysError> {
    let unfinished = data.join(UNFINISHED_DIRECTORY);
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(at(&unfinished))?;
    }
    file::make_directory(&unfinished).map_err(at(&unfinished))?;
    for name in [SIGNING_FILE, EXCHANGE_FILE] {
        let path = unfinished.join(name);
        let text = format!("{}\n", HEXLOWER.encode(&random()?));
        let write = || {
            let mut key = file::create_private(&path)?;
            key.write_all(text.as_bytes())?;
            key.sync_all()
        };
        write().map_err(at(&path))?;
    }
    file::sync_directory(&unfinished).map_err(at(&unfinished))?;
    std::fs::rename(&unfinished, directory).map_err(at(directory))?;
    file::sync_directory(data).map_err(at(data))
}

fn random() -> Result<[u8; SECRET_BYTES], KeysError> {
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret).map_err(KeysError::Random)?;
    Ok(secret)
}

fn read_secret(path: &Path, prefix: &str) -> Result<[u8; SECRET_BYTES], KeysError> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(KeysError::Missing { path: path.to_owned() });
        }
        opened => opened.map_err(at(path))?,
    };
    let mode = file.metadata().map_err(at(path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeysError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    let read = file.take(SECRET_FILE_BYTES_MAX).read_to_string(&mut text);
    let unreadable = || KeysError::Unreadable { path: path.to_owned() };
    read.map_err(|_| unreadable())?;
    let digits = text.trim_end().strip_prefix(prefix).ok_or_else(unreadable)?;
    let bytes = HEXLOWER.decode(digits.as_bytes()).map_err(|_| unreadable())?;
    bytes.try_into().map_err(|_| unreadable())
}

fn at(path: &Path) -> impl Fn(io::Error) -> KeysError {
    let path = path.to_owned();
    move |error| KeysError::File { path: path.clone(), error }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn open(data: &Path) -> Result<Keys, KeysError> {
        Keys::open(data, &data.join("hub.db"))
    }

    #[test]
    fn keys_are_made_once_and_private() {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir(data.path().join(UNFINISHED_DIRECTORY)).unwrap();
        let first = open(data.path()).unwrap().public();
        assert_eq!(open(data.path()).unwrap().public(), first);
        assert!(!data.path().join(UNFINISHED_DIRECTORY).exists());
        let mode = |path: &str| std::fs::metadata(data.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("keys"), 0o700);
        assert_eq!(mode("keys/hub-signing"), 0o600);
        assert_eq!(mode("keys/hub-exchange"), 0o600);
        assert!(!format!("{:?}", open(data.path()).unwrap()).contains("["));
    }

    #[test]
    fn lost_exposed_and_damaged_keys_are_refused() {
        let data = tempfile::tempdir().unwrap();
        open(data.path()).unwrap();
        let signing = data.path().join("keys/hub-signing");
        std::fs::set_permissions(&signing, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(open(data.path()), Err(KeysError::Exposed { mode: 0o644, .. })));
        std::fs::set_permissions(&signing, std::fs::Permissions::from_mode(0o600)).unwrap();
        let whole = std::fs::read(&signing).unwrap();
        std::fs::write(&signing, &whole[..20]).unwrap();
        assert!(matches!(open(data.path()), Err(KeysError::Unreadable { .. })));
        std::fs::remove_file(&signing).unwrap();
        assert!(matches!(open(data.path()), Err(KeysError::Missing { .. })));
        std::fs::remove_dir_all(data.path().join("keys")).unwrap();
        std::fs::write(data.path().join("hub.db"), b"x").unwrap();
        assert!(matches!(open(data.path()), Err(KeysError::Missing { .. })));
    }

    #[test]
    fn the_token_in_the_file_is_the_one_that_is_known_by_its_hash() {
        let data = tempfile::tempdir().unwrap();
        let token = AdminToken::open(data.path()).unwrap();
        let text = std::fs::read_to_string(&token.path).unwrap();
        assert!(hashes_match(&secret_hash(text.trim_end().as_bytes()), &token.sha256));
        assert_eq!(AdminToken::open(data.path()).unwrap().sha256, token.sha256);
        std::fs::remove_file(&token.path).unwrap();
        assert_ne!(AdminToken::open(data.path()).unwrap().sha256, token.sha256);
    }
}
