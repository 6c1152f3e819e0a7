//! The simulated fleet that `fulmar up --demo` runs: planned by its own program, given one token for each device, started.
//!
//! Its devices join like any others. A token is written into one file that only this user can read, and is good once.

use crate::client::Client;
use crate::code::Code;
use crate::companion::{self, Companion};
use crate::device::join_token;
use crate::failure::{Failure, system};
use crate::list;
use crate::running::Known;
use crate::show::text;
use crate::target::collection;
use hub::model::Kind;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PROGRAM: &str = "fulmar-fleet";
const TOKENS_FILE: &str = "tokens";
/// A loaded machine needs some time for a large fleet.
const TOKEN_LIFE: &str = "10m";
/// Tokens that are asked for at the same time: the hub writes them to disk together.
const ASKING_MAX: usize = 16;

/// What the fleet's program says about its devices.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan(Vec<Value>);

pub fn program() -> Result<PathBuf, Failure> {
    companion::program(PROGRAM, None)?.map_err(|path| {
        Failure::new(Code::NoFleet, format!("there is no fleet program at {}", path.display()))
            .why("`up --demo` runs simulated devices, and looks for fulmar-fleet beside fulmar")
            .next("cargo build -p fulmar-fleet")
            .next("or start without them: fulmar up")
    })
}

/// Which devices there are and will be.
pub fn plan(program: &Path, data: &Path, devices: u16) -> Result<Plan, Failure> {
    let output = Command::new(program)
        .args(["plan", "--devices", &devices.to_string(), "--data"])
        .arg(data)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| system(format!("cannot start {}", program.display()), &error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let mut failure = Failure::new(Code::Fleet, "the simulated devices cannot be planned");
        failure.why = said.lines().map(crate::output::plain).filter(|line| !line.is_empty()).collect();
        return Err(failure);
    }
    Plan::parse(&output.stdout).ok_or_else(|| {
        Failure::new(Code::Fleet, format!("{} does not answer as expected", program.display()))
            .why("it is of another version than this program")
            .next("cargo build -p fulmar-fleet")
    })
}

impl Plan {
    fn parse(lines: &[u8]) -> Option<Self> {
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let devices: Vec<Value> = lines.map(serde_json::from_slice).collect::<Result<_, _>>().ok()?;
        devices.iter().all(|device| !text(device, "/name").is_empty()).then_some(Self(devices))
    }

    pub fn names(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|device| text(device, "/name"))
    }

    fn joined(&self) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(|device| device["joined"].is_object())
    }

    /// Where those that have joined look for the hub.
    pub fn known(&self) -> Option<Known> {
        let first = self.joined().next()?;
        Some(Known { broker: text(first, "/joined/broker"), artifacts: text(first, "/joined/artifacts") })
    }

    /// Devices that have joined and were deleted at the hub since.
    pub fn gone(&self, client: &Client) -> Result<Vec<String>, Failure> {
        if self.joined().next().is_none() {
            return Ok(Vec::new());
        }
        let devices = list::all(client, &collection(Kind::Device, None))?;
        let there: BTreeSet<String> = devices.iter().map(|device| text(device, "/metadata/name")).collect();
        Ok(self.joined().map(|device| text(device, "/name")).filter(|name| !there.contains(name)).collect())
    }
}

/// Asks for a token for each device that has not joined, and leaves them where the fleet finds them.
pub fn write_tokens(client: &Client, plan: &Plan, data: &Path) -> Result<PathBuf, Failure> {
    let path = data.join(TOKENS_FILE);
    let waiting: Vec<&Value> = plan.0.iter().filter(|device| device["joined"].is_null()).collect();
    let ask = |devices: &[&Value]| -> Result<String, Failure> {
        let mut lines = String::new();
        for device in devices {
            let answer = join_token(client, TOKEN_LIFE, true, &device["labels"])?;
            lines.push_str(&format!("{} {}\n", text(device, "/name"), text(&answer, "/token")));
        }
        Ok(lines)
    };
    let share = waiting.len().div_ceil(ASKING_MAX).max(1);
    let asked: Vec<Result<String, Failure>> = std::thread::scope(|scope| {
        let threads: Vec<_> = waiting.chunks(share).map(|devices| scope.spawn(move || ask(devices))).collect();
        let ended = |thread: std::thread::ScopedJoinHandle<'_, Result<String, Failure>>| {
            thread.join().unwrap_or_else(|_| Err(Failure::new(Code::Tokens, "asking for tokens broke down")))
        };
        threads.into_iter().map(ended).collect()
    });
    let lines = asked.into_iter().collect::<Result<String, Failure>>()?;
    // What an earlier start has left is void or used.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(system(format!("cannot replace {}", path.display()), &error));
        }
        Ok(()) | Err(_) => {}
    }
    if !lines.is_empty() {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(lines.as_bytes()))
            .map_err(|error| system(format!("cannot write {}", path.display()), &error))?;
    }
    Ok(path)
}

pub fn start(program: &Path, data: &Path, tokens: &Path) -> Result<Companion, Failure> {
    let arguments =
        ["run".into(), "--data".into(), data.into(), "--tokens".into(), tokens.into(), "--exit-with-stdin".into()];
    Companion::start("fleet", program, data, &arguments)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_plan_is_a_line_of_json_for_each_device() {
        let lines = b"{\"name\":\"a\",\"labels\":{},\"joined\":null}\n{\"name\":\"b\",\"joined\":{\"broker\":\"mqtt://127.0.0.1:1\",\"artifacts\":\"\"}}\n";
        let plan = Plan::parse(lines).unwrap();
        assert_eq!(plan.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(plan.known().unwrap().broker, "mqtt://127.0.0.1:1");
        assert_eq!(Plan::parse(b"").unwrap().known(), None);
        assert!(Plan::parse(b"{}\n").is_none() && Plan::parse(b"fulmar-fleet 0.1").is_none());
    }
}
