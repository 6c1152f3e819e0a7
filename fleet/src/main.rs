//! `fulmar-fleet`: says which simulated devices there are, and runs them. Reads the command line and signals; nothing else.
#![forbid(unsafe_code)]

use anyhow::{Context as _, bail};
use async_signal::{Signal, Signals};
use fleet::{Crew, DEVICES_MAX, Roster};
use lexopt::{Arg, Parser, ValueExt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tracing::Level;

const LOG_VARIABLE: &str = "FULMAR_LOG";
const DATA_DEFAULT: &str = "./fulmar-fleet-data";
const USAGE: &str = "\
Simulated devices for demonstrations: real agents in one process, in real places.

Usage:
  fulmar-fleet plan [--devices N] [--data DIR]
  fulmar-fleet run [--tokens FILE] [--data DIR] [--exit-with-stdin]
  fulmar-fleet version

  plan               the devices as lines of JSON: those that have joined, and the first N
  run                run those that have joined, and those that have a token in FILE
  --tokens FILE      a line `NAME TOKEN` for each device that is to join; the file is removed when all have
  --devices N        default 50, at most 250
  --data DIR         where the devices keep their keys and state (default ./fulmar-fleet-data)
  --exit-with-stdin  stop when standard input ends: for a parent that must not be outlived
  FULMAR_LOG         error, warn, info (default), debug or trace

`fulmar up --demo` does all of this.
";
const DEVICES_DEFAULT: usize = 50;

struct Options {
    words: Vec<String>,
    data: PathBuf,
    devices: usize,
    tokens: Option<PathBuf>,
    stop_at_end_of_input: bool,
}

fn main() -> ExitCode {
    match options().and_then(|options| execute(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> anyhow::Result<Options> {
    let mut parser = Parser::from_env();
    let mut options = Options {
        words: Vec::new(),
        data: PathBuf::from(DATA_DEFAULT),
        devices: DEVICES_DEFAULT,
        tokens: None,
        stop_at_end_of_input: false,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("data") => options.data = PathBuf::from(parser.value()?),
            Arg::Long("tokens") => options.tokens = Some(PathBuf::from(parser.value()?)),
            Arg::Long("devices") => options.devices = parser.value()?.parse()?,
            Arg::Long("exit-with-stdin") => options.stop_at_end_of_input = true,
            Arg::Long("help") | Arg::Short('h') => options.words = vec!["help".to_owned()],
            Arg::Long("version") | Arg::Short('V') => options.words = vec!["version".to_owned()],
            Arg::Value(word) => options.words.push(word.string()?),
            Arg::Long(_) | Arg::Short(_) => return Err(argument.unexpected()).context("see `fulmar-fleet --help`"),
        }
    }
    if options.devices > DEVICES_MAX {
        bail!("{} devices are more than one process runs. Use at most {DEVICES_MAX}", options.devices);
    }
    Ok(options)
}

fn execute(options: &Options) -> anyhow::Result<()> {
    let words: Vec<&str> = options.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["help"] => print!("{USAGE}"),
        ["version"] => println!("fulmar-fleet {}", env!("CARGO_PKG_VERSION")),
        ["plan"] => plan(&options.data, options.devices)?,
        ["run"] => run(options)?,
        _ => bail!("not a command. See `fulmar-fleet --help`"),
    }
    Ok(())
}

/// One line of JSON for each device.
fn plan(data: &Path, devices: usize) -> anyhow::Result<()> {
    for entry in Roster::read(data, devices)?.entries {
        let labels: Map<String, Value> =
            entry.place.labels().into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect();
        let joined = entry.joined.map(|(broker, artifacts)| json!({"broker": broker, "artifacts": artifacts}));
        let city = entry.place.city.name;
        println!("{}", json!({"name": entry.place.name, "city": city, "labels": labels, "joined": joined}));
    }
    Ok(())
}

/// A device takes about ten descriptors, those of its relay included, and the usual soft limit is 1,024: as many as this user
/// may have are taken.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        tracing::warn!(%error, current = limit.current, "the limit of open files stays: it bounds how many devices can run");
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let level = match std::env::var(LOG_VARIABLE) {
        Ok(text) => text
            .parse::<Level>()
            .ok()
            .with_context(|| format!("{LOG_VARIABLE}={text} is not a level. Use error, warn, info, debug or trace"))?,
        Err(_) => Level::INFO,
    };
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false).init();
    // Before the devices, so that no signal can come in between.
    let signals = Signals::new([Signal::Term, Signal::Int])
        .context("cannot listen for signals: check the limit of open files")?;
    if options.stop_at_end_of_input {
        agent::stop_at_end_of_input().context("cannot start a thread: check the limit of processes")?;
    }
    raise_open_files();
    let crew = Crew::new(&options.data)?;
    crew.run(options.tokens.as_deref(), signals)?;
    Ok(())
}
