//! The command line: words, flags of single commands, and the flags that stand for keys of the configuration.
//!
//! Must never judge a value of the configuration: that is its key's.
use agent::config::{File, KEYS, Sources, position_parse};
use agent::{JoinOptions, identity};
use anyhow::{Context as _, bail};
use lexopt::{Arg, Parser, ValueExt};
use std::ffi::OsString;
use std::path::PathBuf;
use wire::hello::DeviceClass;

pub const USAGE: &str = "\
The Fulmar agent: runs on a device what the hub decides.

Usage:
  fulmar-agent join <token> [--name NAME] [--at LAT,LON[,UNCERTAINTY_M]] [--class gateway|mcu]
  fulmar-agent run [--exit-with-stdin]
  fulmar-agent status [-o json]
  fulmar-agent config check|show
  fulmar-agent install [--root DIR]
  fulmar-agent version

  --config FILE  the configuration (default /etc/fulmar-agent/agent.toml, if it is there)
  --data DIR     where the device keeps its keys and state (default /var/lib/fulmar-agent)
  --log LEVEL    error, warn, info (default), debug or trace; also FULMAR_LOG
  --broker URL   the broker, if it is another one than when the device joined
  --position     joined (default), none, gpsd, or LAT,LON[,UNCERTAINTY_M]
  --leaves LINES serial lines of leaf devices behind this one, such as /dev/ttyUSB0 or unix:PATH
  --gpsd ADDR    where gpsd listens (default 127.0.0.1:2947)
  --at           join: where it stands, in degrees; the uncertainty in metres (default 10)
  --root DIR     install: below this directory; writes the systemd unit and a first configuration
  --exit-with-stdin   stop when standard input ends: for a parent that must not be outlived

`status` ends with 3 if no agent runs. `fulmar device join-token` on the hub makes a token. docs/reference/agent-config.md describes the configuration.
";

/// What the end of standard input means. A pipe from the parent ends however the parent does, even by SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEndOfInput {
    GoOn,
    Stop,
}

/// How a status is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Text,
    Json,
}

pub enum Command {
    /// The data directory is filled in from the configuration.
    Join(JoinOptions),
    Run(AtEndOfInput),
    ConfigCheck,
    ConfigShow,
    Status(Output),
    /// Below this directory.
    Install(PathBuf),
    Version,
    Help,
}

pub struct Arguments {
    pub command: Command,
    pub file: File,
    flags: Vec<(&'static str, String)>,
}

impl Arguments {
    /// The configuration that these arguments, the environment and the file give.
    pub fn sources(&self) -> anyhow::Result<Sources> {
        Ok(Sources::gather(&self.file, &self.flags, |name| std::env::var(name).ok())?)
    }

    pub fn read() -> anyhow::Result<Self> {
        let mut parser = Parser::from_env();
        let mut words: Vec<OsString> = Vec::new();
        let mut flags = Vec::new();
        let (mut name, mut at, mut class) = (None, None, DeviceClass::Gateway);
        let mut file = File::Default;
        let mut output = Output::Text;
        let mut root = PathBuf::from("/");
        let mut at_end_of_input = AtEndOfInput::GoOn;
        while let Some(argument) = parser.next()? {
            if let Arg::Long(long) = argument
                && let Some(flag) = key_flag(long)
            {
                let value = parser.value()?.string()?;
                if flag == "--at" {
                    at = Some(value.clone());
                }
                flags.push((flag, value));
                continue;
            }
            match argument {
                Arg::Long("config") => file = File::Given(PathBuf::from(parser.value()?)),
                Arg::Long("name") => name = Some(parser.value()?.string()?),
                Arg::Long("output") | Arg::Short('o') => {
                    output = match parser.value()?.string()?.as_str() {
                        "text" => Output::Text,
                        "json" => Output::Json,
                        other => bail!("{other:?} is not a format. Use -o text or -o json"),
                    };
                }
                Arg::Long("root") => root = PathBuf::from(parser.value()?),
                Arg::Long("class") => {
                    let text = parser.value()?.string()?;
                    class = identity::class_parse(&text)
                        .with_context(|| format!("{text:?} is not a class. Use gateway or mcu"))?;
                }
                Arg::Long("exit-with-stdin") => at_end_of_input = AtEndOfInput::Stop,
                Arg::Long("help") | Arg::Short('h') => {
                    return Ok(Self { command: Command::Help, file, flags });
                }
                Arg::Long("version") | Arg::Short('V') => {
                    return Ok(Self { command: Command::Version, file, flags });
                }
                Arg::Value(word) if words.len() < 2 => words.push(word),
                Arg::Long(_) | Arg::Short(_) | Arg::Value(_) => {
                    return Err(argument.unexpected()).context("see `fulmar-agent --help`");
                }
            }
        }
        let word = |at: usize| words.get(at).and_then(|word| word.to_str());
        let command = match (word(0), word(1)) {
            (Some("join"), Some(token)) => {
                let position = at.as_deref().map(joined_position).transpose()?;
                Command::Join(JoinOptions { token: token.to_owned(), name, position, class, data: PathBuf::new() })
            }
            (Some("join"), None) => bail!("join needs a token. Make one on the hub: `fulmar device join-token`"),
            (Some("run"), None) => Command::Run(at_end_of_input),
            (Some("config"), Some("check")) => Command::ConfigCheck,
            (Some("config"), Some("show")) => Command::ConfigShow,
            (Some("config"), _) => bail!("config needs `check` or `show`"),
            (Some("status"), None) => Command::Status(output),
            (Some("install"), None) => Command::Install(root),
            (Some("version"), None) => Command::Version,
            (Some("help"), None) | (None, None) => Command::Help,
            _ => bail!("not a command. See `fulmar-agent --help`"),
        };
        Ok(Self { command, file, flags })
    }
}

/// The flag of a key, with its hyphens.
fn key_flag(long: &str) -> Option<&'static str> {
    let flags = KEYS.iter().flat_map(|key| key.flags);
    flags.into_iter().copied().find(|flag| flag.strip_prefix("--") == Some(long))
}

fn joined_position(text: &str) -> anyhow::Result<wire::position::Position> {
    position_parse(text)
        .with_context(|| format!("{text:?} is not a position. Use --at 50.1109,8.6821 or --at 50.1109,8.6821,25"))
}
