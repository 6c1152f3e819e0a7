//! The operator's own file: contexts, that is hubs by name with what is needed to use them.
//!
//! `$XDG_CONFIG_HOME/fulmar/config.toml`, readable by its owner only, because tokens are in it. Written whole or not at all.

use crate::code::Code;
use crate::failure::{Failure, system};
use crate::output::warn;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

const DIRECTORY_VARIABLE: &str = "XDG_CONFIG_HOME";
const FILE: &str = "fulmar/config.toml";
/// Bytes of the file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Means the hub on this machine; no context can have this name.
pub const LOCAL: &str = "local";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Taken when nothing else is said; `None`: the hub on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub contexts: BTreeMap<String, Context>,
}

/// A hub: by its address, or by its data directory on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Context {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// PEM file of the authority that vouches for the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub readonly: bool,
}

impl Context {
    /// Where the hub is, for people.
    pub fn place(&self) -> String {
        let data = || self.data.as_ref().map(|data| data.display().to_string());
        self.server.clone().or_else(data).unwrap_or_default()
    }
}

/// Where the file is, if this user has a home.
pub fn path() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let directory = absolute(DIRECTORY_VARIABLE).or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(directory.join(FILE))
}

fn known_path() -> Result<PathBuf, Failure> {
    path().ok_or_else(|| {
        Failure::new(Code::Config, "there is no place for the configuration")
            .why(format!("neither HOME nor {DIRECTORY_VARIABLE} is an absolute path"))
    })
}

/// Nothing, if there is no file.
pub fn load() -> Result<Config, Failure> {
    path().map_or_else(|| Ok(Config::default()), |path| load_from(&path))
}

fn load_from(path: &Path) -> Result<Config, Failure> {
    let failure = |why: String| {
        Failure::new(Code::Config, format!("cannot read {}", path.display()))
            .why(why)
            .next("correct or remove the file; `fulmar login` writes a new one")
    };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Config::default());
        }
        Err(error) => return Err(failure(error.to_string())),
    };
    if metadata.len() > FILE_BYTES_MAX {
        return Err(failure(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        warn(&format!("warning: others can read the tokens in it: chmod 600 {}", path.display()));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failure(error.to_string()))?;
    toml::from_str(&text).map_err(|error| failure(error.to_string().trim_end().to_owned()))
}

/// Replaces the file.
pub fn store(config: &Config) -> Result<PathBuf, Failure> {
    let path = known_path()?;
    store_to(config, &path).map_err(|error| system(format!("cannot write {}", path.display()), &error))?;
    Ok(path)
}

fn store_to(config: &Config, path: &Path) -> std::io::Result<()> {
    let text = toml::to_string(config).map_err(std::io::Error::other)?;
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // Temporary files are for their owner only, and stay so under their new name.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// A context that must be there.
pub fn find(config: &Config, name: &str) -> Result<Context, Failure> {
    config.contexts.get(name).cloned().ok_or_else(|| {
        Failure::new(Code::NoContext, format!("there is no context {name:?}"))
            .why(match config.contexts.is_empty() {
                true => "there is none at all yet".to_owned(),
                false => format!("known: {}", config.contexts.keys().cloned().collect::<Vec<_>>().join(", ")),
            })
            .next("fulmar ctx list")
            .next("fulmar login URL --name NAME")
    })
}

/// A name that can stand on a command line.
pub fn check_name(name: &str) -> Result<(), Failure> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match name {
        LOCAL => Err(Failure::usage(format!("{LOCAL:?} is the hub on this machine, take another name"))),
        "" => Err(Failure::usage("a context needs a name")),
        name if name.len() > 63 || !name.chars().all(is_plain) => {
            Err(Failure::usage(format!("{name:?} is not a name: letters, digits and -_., at most 63")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::exit::Exit;

    fn config() -> Config {
        let context = Context {
            server: Some("https://hub:7443".to_owned()),
            token: Some("secret \"x\"\n".to_owned()),
            ca: Some("/ca.pem".into()),
            readonly: true,
            ..Context::default()
        };
        Config { current: Some("lab".to_owned()), contexts: BTreeMap::from([("lab".to_owned(), context)]) }
    }

    #[test]
    fn what_is_stored_is_read_again_and_is_for_its_owner_only() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/fulmar/config.toml");
        assert_eq!(load_from(&path).unwrap(), Config::default());
        store_to(&config(), &path).unwrap();
        assert_eq!(load_from(&path).unwrap(), config());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        store_to(&Config::default(), &path).unwrap();
        assert_eq!(load_from(&path).unwrap(), Config::default());
    }

    #[test]
    fn a_file_with_a_mistake_is_refused_with_its_line() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("config.toml");
        std::fs::write(&path, "current = \"a\"\n[contexts.a]\nservre = \"x\"\n").unwrap();
        let failure = load_from(&path).unwrap_err();
        assert!(failure.why[0].contains("line 3") && failure.why[0].contains("servre"), "{failure:?}");
    }

    #[test]
    fn a_context_that_is_not_there_names_those_that_are() {
        assert_eq!(find(&config(), "lab").unwrap().place(), "https://hub:7443");
        let failure = find(&config(), "x").unwrap_err();
        assert_eq!((failure.exit, failure.why[0].as_str()), (Exit::NotFound, "known: lab"));
        assert!(check_name("local").is_err() && check_name("a b").is_err() && check_name("a-b.c_1").is_ok());
    }
}
