//! `fulmar-agent`: join a fleet, then run. Reads the command line, prints errors, turns signals into a stop; nothing else.
#![forbid(unsafe_code)]

use agent::{Agent, AgentConfig, JoinOptions};
use anyhow::{Context as _, bail};
use async_signal::{Signal, Signals};
use futures_lite::{FutureExt, StreamExt};
use lexopt::{Arg, Parser, ValueExt};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing::Level;
use wire::hello::DeviceClass;
use wire::position::Position;

const DATA_DEFAULT: &str = "/var/lib/fulmar-agent";
const LOG_VARIABLE: &str = "FULMAR_LOG";
/// Of a position given without one: a good receiver under an open sky.
const UNCERTAINTY_DEFAULT_M: u32 = 10;
const USAGE: &str = "\
The Fulmar agent: runs on a device what the hub decides.

Usage:
  fulmar-agent join <token> [--name NAME] [--at LAT,LON[,UNCERTAINTY_M]] [--class gateway|mcu] [--data DIR]
  fulmar-agent run [--data DIR] [--exit-with-stdin]
  fulmar-agent version

  --data DIR   where the device keeps its keys and state (default /var/lib/fulmar-agent)
  --at         where it stands, in degrees; the uncertainty in metres (default 10)
  --exit-with-stdin   stop when standard input ends: for a parent that must not be outlived
  FULMAR_LOG   error, warn, info (default), debug or trace

`fulmar device join-token` on the hub makes a token.
";

enum Command {
    Join(JoinOptions),
    Run { data: PathBuf, at_end_of_input: AtEndOfInput },
    Version,
    Help,
}

/// What the end of standard input means. A pipe from the parent ends however the parent does, even by SIGKILL.
#[derive(Clone, Copy)]
enum AtEndOfInput {
    GoOn,
    Stop,
}

fn main() -> ExitCode {
    match command().and_then(execute) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> anyhow::Result<Command> {
    let mut parser = Parser::from_env();
    let mut words: Vec<OsString> = Vec::new();
    let (mut name, mut position, mut class) = (None, None, DeviceClass::Gateway);
    let mut data = PathBuf::from(DATA_DEFAULT);
    let mut at_end_of_input = AtEndOfInput::GoOn;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("data") => data = PathBuf::from(parser.value()?),
            Arg::Long("name") => name = Some(parser.value()?.string()?),
            Arg::Long("at") => position = Some(position_parse(&parser.value()?.string()?)?),
            Arg::Long("class") => {
                let text = parser.value()?.string()?;
                class = agent::identity::class_parse(&text)
                    .with_context(|| format!("{text:?} is not a class. Use gateway or mcu"))?;
            }
            Arg::Long("exit-with-stdin") => at_end_of_input = AtEndOfInput::Stop,
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            Arg::Long("version") | Arg::Short('V') => return Ok(Command::Version),
            Arg::Value(word) if words.len() < 2 => words.push(word),
            Arg::Long(_) | Arg::Short(_) | Arg::Value(_) => {
                return Err(argument.unexpected()).context("see `fulmar-agent --help`");
            }
        }
    }
    let word = |at: usize| words.get(at).and_then(|word| word.to_str());
    match (word(0), word(1)) {
        (Some("join"), Some(token)) => {
            Ok(Command::Join(JoinOptions { token: token.to_owned(), name, position, class, data }))
        }
        (Some("join"), None) => bail!("join needs a token. Make one on the hub: `fulmar device join-token`"),
        (Some("run"), None) => Ok(Command::Run { data, at_end_of_input }),
        (Some("version"), None) => Ok(Command::Version),
        (Some("help"), None) | (None, None) => Ok(Command::Help),
        _ => bail!("not a command. See `fulmar-agent --help`"),
    }
}

/// Degrees with at most seven decimals, as an integer: no float decides where a device is.
fn degrees_e7(text: &str) -> Option<i32> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(decimals) || whole.len() > 3 || decimals.len() > 7 {
        return None;
    }
    let scaled: i64 = format!("{whole}{decimals:0<7}").parse().ok()?;
    i32::try_from(if negative { -scaled } else { scaled }).ok()
}

fn position_parse(text: &str) -> anyhow::Result<Position> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let read = || -> Option<Position> {
        let (latitude, longitude, uncertainty_m) = match parts.as_slice() {
            [latitude, longitude] => (latitude, longitude, UNCERTAINTY_DEFAULT_M),
            [latitude, longitude, uncertainty] => (latitude, longitude, uncertainty.parse().ok()?),
            _ => return None,
        };
        let position =
            Position { latitude_e7: degrees_e7(latitude)?, longitude_e7: degrees_e7(longitude)?, uncertainty_m };
        position.is_valid().then_some(position)
    };
    read().with_context(|| format!("{text:?} is not a position. Use --at 50.1109,8.6821 or --at 50.1109,8.6821,25"))
}

fn log_start() -> anyhow::Result<()> {
    let level = match std::env::var(LOG_VARIABLE) {
        Ok(text) => text
            .parse::<Level>()
            .ok()
            .with_context(|| format!("{LOG_VARIABLE}={text} is not a level. Use error, warn, info, debug or trace"))?,
        Err(_) => Level::INFO,
    };
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false).init();
    Ok(())
}

fn execute(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Help => {
            print!("{USAGE}");
            Ok(())
        }
        Command::Version => {
            println!("fulmar-agent {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Command::Join(options) => {
            log_start()?;
            let joined = agent::join(&options)?;
            println!("joined fleet {} as {} ({})", joined.fleet, joined.name, joined.device);
            if !joined.approved {
                println!("an operator has to approve it: fulmar device approve {}", joined.name);
            }
            println!("next: fulmar-agent run --data {}", options.data.display());
            Ok(())
        }
        Command::Run { data, at_end_of_input } => {
            log_start()?;
            run(data, at_end_of_input)
        }
    }
}

fn run(data: PathBuf, at_end_of_input: AtEndOfInput) -> anyhow::Result<()> {
    // Before the agent, so that no signal can come in between.
    let mut signals = Signals::new([Signal::Term, Signal::Int])
        .context("cannot listen for signals: check the limit of open files")?;
    if let AtEndOfInput::Stop = at_end_of_input {
        agent::stop_at_end_of_input().context("cannot start a thread: check the limit of processes")?;
    }
    let agent = Agent::start(AgentConfig::new(data))?;
    smol::block_on(async {
        let mut stopping = false;
        loop {
            let ended = async {
                agent.ended().await;
                false
            };
            let signalled = async { signals.next().await.is_some() };
            if !ended.or(signalled).await {
                return;
            }
            if std::mem::replace(&mut stopping, true) {
                agent.request_abandon();
            } else {
                tracing::info!("asked to stop; a second signal ends it at once");
                agent.request_stop();
            }
        }
    });
    agent.join()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_position_is_read_without_rounding() {
        let position = position_parse("-33.8688001, 151.2093,25").unwrap();
        assert_eq!((position.latitude_e7, position.longitude_e7), (-338_688_001, 1_512_093_000));
        assert_eq!(position.uncertainty_m, 25);
        assert_eq!(position_parse("90,-180").unwrap().longitude_e7, -1_800_000_000);
        for text in ["", "1", "91,0", "0,181", "1.00000001,2", "a,b", "1,2,-3", "1,2,3,4", "+1,2", "1.,2"] {
            assert!(position_parse(text).is_err(), "{text}");
        }
    }
}
