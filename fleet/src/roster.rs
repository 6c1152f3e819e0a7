//! Which devices there are: those that have joined, by their directories, and those that are still to join.
//!
//! A device that has joined stays, whatever number is asked for: a fleet never loses a member by being started again.
use crate::place::{Place, places};
use agent::identity::{Identity, IdentityError};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Below the data directory.
const DEVICES_DIRECTORY: &str = "devices";
/// Of the file with tokens: each line has a name and a token of a few hundred bytes.
pub const TOKENS_BYTES_MAX: u64 = 1024 * 1024;

/// Why the fleet is not known.
#[derive(Debug, thiserror::Error)]
pub enum RosterError {
    #[error("cannot read {path}: {source}. Check that it exists and belongs to this user")]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("line {line} of {path} is not `NAME TOKEN`, or its name is not one of `fulmar-fleet plan`")]
    Token { path: PathBuf, line: usize },
    #[error("{0} has more bytes than tokens of a whole fleet")]
    TokensTooLong(PathBuf),
}

/// One device of the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub place: Place,
    /// Its broker and its source of artifacts, if it has joined.
    pub joined: Option<(String, String)>,
}

/// All devices of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    pub entries: Vec<Entry>,
}

/// The directory of one device.
pub fn device_directory(data: &Path, name: &str) -> PathBuf {
    data.join(DEVICES_DIRECTORY).join(name)
}

impl Roster {
    /// Everything that has joined, and the first `count` places.
    pub fn read(data: &Path, count: usize) -> Result<Self, RosterError> {
        let mut entries = Vec::new();
        for (index, place) in places(usize::MAX).into_iter().enumerate() {
            let directory = device_directory(data, &place.name);
            let identity = Identity::load(&directory)?;
            let joined = identity.and_then(|identity| identity.membership);
            let joined = joined.map(|membership| (membership.broker, membership.artifacts));
            if joined.is_some() || index < count {
                entries.push(Entry { place, joined });
            }
        }
        Ok(Self { entries })
    }
}

/// Name and token of each line of a file; nothing if there is no file.
pub fn read_tokens(path: &Path) -> Result<BTreeMap<String, String>, RosterError> {
    let io = |source| RosterError::Io { path: path.to_owned(), source };
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > TOKENS_BYTES_MAX => return Err(RosterError::TokensTooLong(path.to_owned())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(io(error)),
    }
    let text = std::fs::read_to_string(path).map_err(io)?;
    let mut tokens = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let wrong = || RosterError::Token { path: path.to_owned(), line: index + 1 };
        let (name, token) = line.split_once(' ').ok_or_else(wrong)?;
        // The name becomes the name of a directory.
        let place = Place::of_name(name).ok_or_else(wrong)?;
        tokens.insert(place.name, token.trim().to_owned());
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_of_tokens_is_one_name_and_one_token_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        assert_eq!(read_tokens(&path).unwrap(), BTreeMap::new());
        std::fs::write(&path, "sim-fra-01 aaa\nsim-par-01 bbb\n").unwrap();
        let tokens = read_tokens(&path).unwrap();
        assert_eq!(tokens.get("sim-par-01").map(String::as_str), Some("bbb"));
        assert_eq!(tokens.len(), 2);
        for wrong in ["sim-fra-01", "sim-fra-01 a\n../../x b\n", "sim-nowhere-01 a"] {
            std::fs::write(&path, wrong).unwrap();
            assert!(matches!(read_tokens(&path), Err(RosterError::Token { .. })), "{wrong}");
        }
        std::fs::write(&path, vec![b'a'; 1 + TOKENS_BYTES_MAX as usize]).unwrap();
        assert!(matches!(read_tokens(&path), Err(RosterError::TokensTooLong(_))));
    }

    #[test]
    fn keys_without_membership_have_not_joined() {
        let data = tempfile::tempdir().unwrap();
        let directory = device_directory(data.path(), "sim-muc-01");
        Identity::generate().unwrap().save(&directory).unwrap();
        let roster = Roster::read(data.path(), 3).unwrap();
        assert_eq!(roster.entries.len(), 3);
        assert!(roster.entries.iter().all(|entry| entry.joined.is_none()));
        // Out of the asked range and not joined: not a member.
        assert_eq!(Roster::read(data.path(), 1).unwrap().entries.len(), 1);
    }
}
