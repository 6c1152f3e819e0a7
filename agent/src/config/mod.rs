//! How an agent is set up: one table of keys, read from flags, the environment, a file and defaults, in this order.
//!
//! Every value is text until the one reader of its key has judged it, wherever it came from. Must never ignore a key that it
//! does not know, nor stop at the first mistake.
mod key;
mod read;

pub use key::{KEYS, Key, position_parse};

use crate::relay::LineAddress;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::Level;
use wire::position::Position;

/// Where the configuration is unless told otherwise.
pub const CONFIG_DEFAULT: &str = "/etc/fulmar-agent/agent.toml";
/// Bytes of the file; ours has less than a thousand.
pub const CONFIG_BYTES_MAX: u64 = 64 * 1024;
/// Of the environment variables that name a key.
const VARIABLE_PREFIX: &str = "FULMAR_AGENT_";

/// Where a device learns its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PositionSource {
    /// What was said when it joined.
    Joined,
    /// It tells none.
    None,
    Static(Position),
    Gpsd,
}

/// All of it, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub data: PathBuf,
    pub log: Level,
    /// In place of the address that was learnt at the join.
    pub broker: Option<String>,
    pub function_memory_bytes: u32,
    pub artifact_bytes_max: u64,
    pub stop_timeout: Duration,
    pub position: PositionSource,
    pub gpsd: SocketAddr,
    pub position_stale_after: Duration,
    pub position_moved_m: u32,
    pub position_pause: Duration,
    /// Lines of leaf devices behind this one.
    pub leaves: Vec<LineAddress>,
}

/// One mistake: what, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `FILE:LINE:COLUMN`, a flag or a variable.
    pub place: String,
    pub what: String,
    pub next: String,
}

/// All mistakes at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError(pub Vec<Problem>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "the configuration has {count} mistake{}", if count == 1 { "" } else { "s" })?;
        for Problem { place, what, next } in &self.0 {
            write!(f, "\n  {place}: {what}\n    next: {next}")?;
        }
        Ok(())
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// `FILE:LINE:COLUMN`
    File(String),
    Variable(String),
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(place) => f.write_str(place),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Texts and where they came from, by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources(BTreeMap<&'static str, (String, Origin)>);

/// Which file is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum File {
    /// The default one, if it is there.
    Default,
    /// It has to be there.
    Given(PathBuf),
}

/// The variable of a key: `position.gpsd` is `FULMAR_AGENT_POSITION_GPSD`.
pub fn variable(key: &Key) -> String {
    match key.variable {
        Some(name) => name.to_owned(),
        None => format!("{VARIABLE_PREFIX}{}", key.name.replace('.', "_").to_ascii_uppercase()),
    }
}

impl Sources {
    /// Nothing but the defaults.
    pub fn defaults() -> Self {
        let default = |key: &'static Key| Some((key.name, (key.default?.to_owned(), Origin::Default)));
        Self(KEYS.iter().filter_map(default).collect())
    }

    /// `flags`: name and value of those that were given. `environment`: the value of a variable.
    pub fn gather(
        file: &File,
        flags: &[(&'static str, String)],
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let Self(mut sources) = Self::defaults();
        let mut problems = Vec::new();
        let path = match file {
            File::Default => Path::new(CONFIG_DEFAULT),
            File::Given(path) => path,
        };
        match (read::text(path), file) {
            (Ok(Some(text)), _) => {
                let (values, mistakes) = read::values(&path.display().to_string(), &text);
                problems.extend(mistakes);
                sources.extend(values.into_iter().map(|(key, value, place)| (key.name, (value, Origin::File(place)))));
            }
            (Ok(None), File::Default) => {}
            (Ok(None), File::Given(path)) => problems.push(Problem {
                place: path.display().to_string(),
                what: "there is no such file".to_owned(),
                next: "name a file with --config, or leave it out".to_owned(),
            }),
            (Err(error), _) => problems.push(Problem {
                place: path.display().to_string(),
                what: format!("it cannot be read: {error}"),
                next: "make it readable for the agent's user, as UTF-8".to_owned(),
            }),
        }
        for key in KEYS {
            let name = variable(key);
            if let Some(value) = environment(&name) {
                sources.insert(key.name, (value, Origin::Variable(name)));
            }
        }
        for (flag, value) in flags {
            if let Some(key) = KEYS.iter().find(|key| key.flags.contains(flag)) {
                sources.insert(key.name, (value.clone(), Origin::Flag(flag)));
            }
        }
        if problems.is_empty() { Ok(Self(sources)) } else { Err(Self(sources).judge(problems)) }
    }

    /// The mistakes of the values behind those that are known already.
    fn judge(&self, mut problems: Vec<Problem>) -> ConfigError {
        if let Err(ConfigError(more)) = self.check() {
            problems.extend(more);
        }
        ConfigError(problems)
    }

    /// Judges every value.
    pub fn check(&self) -> Result<Config, ConfigError> {
        let mut config = key::empty();
        let mut problems = Vec::new();
        for key in KEYS {
            let Some((text, origin)) = self.0.get(key.name) else { continue };
            if let Err(what) = (key.set)(&mut config, text) {
                let next = format!("{} takes {}", key.name, key.form);
                problems.push(Problem {
                    place: origin.to_string(),
                    what: format!("{} = {text:?}: {what}", key.name),
                    next,
                });
            }
        }
        if problems.is_empty() { Ok(config) } else { Err(ConfigError(problems)) }
    }

    /// What is in force, as a file that could be used as it is.
    pub fn show(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for key in KEYS {
            let (of, name) = key.name.split_once('.').unwrap_or(("", key.name));
            if of != section {
                section = of;
                text.push_str(&format!("\n[{section}]\n"));
            }
            match self.0.get(key.name) {
                Some((value, origin)) => text.push_str(&format!("{name} = {}  # {origin}\n", key.toml(value))),
                None => text.push_str(&format!("# {name}: not set\n")),
            }
        }
        text
    }
}

#[cfg(test)]
mod tests;
