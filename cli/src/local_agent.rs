//! The one real agent that `fulmar up` runs on this machine: found, joined once, and then a companion like the others.
//!
//! It is an ordinary device: it joins with a token and its own keys, and gets nothing that another device would not get.

use crate::code::Code;
use crate::companion::{self, Companion};
use crate::failure::{Failure, system};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PROGRAM: &str = "fulmar-agent";
const IDENTITY_FILE: &str = "identity.json";
/// The agent that is installed on this machine is another one.
const NO_CONFIGURATION: &str = "/dev/null";

/// What an earlier join has left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    pub name: String,
    /// `mqtt://host:port`.
    pub broker: String,
    /// `http://host:port`.
    pub artifacts: String,
}

/// Where the agent's program is.
pub fn program(given: Option<&Path>) -> Result<PathBuf, Failure> {
    companion::program(PROGRAM, given)?.map_err(|path| {
        Failure::new(Code::NoAgent, format!("there is no agent at {}", path.display()))
            .why("`up` runs a real agent, and looks for fulmar-agent beside fulmar")
            .next("cargo build -p fulmar-agent")
            .next("or name it with --agent PATH, or start without a device: --no-agent")
    })
}

/// `None`: this device has not joined yet.
pub fn membership(data: &Path) -> Option<Membership> {
    let text = std::fs::read_to_string(data.join(IDENTITY_FILE)).ok()?;
    let identity: Value = serde_json::from_str(&text).ok()?;
    let field = |name: &str| identity.pointer(&format!("/membership/{name}"))?.as_str().map(str::to_owned);
    Some(Membership {
        name: field("name")?,
        broker: field("broker")?,
        artifacts: field("artifacts").unwrap_or_default(),
    })
}

/// Makes this machine a device. The agent's own words are given when it fails.
pub fn join(program: &Path, data: &Path, token: &str, name: &str, at: &str) -> Result<(), Failure> {
    let mut command = Command::new(program);
    command
        .args(["join", "--config", NO_CONFIGURATION])
        .arg(token)
        .arg("--name")
        .arg(name)
        .arg(format!("--at={at}"))
        .arg("--data")
        .arg(data);
    let output = command
        .env("FULMAR_LOG", "warn")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| system(format!("cannot start {}", program.display()), &error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let mut failure = Failure::new(Code::JoinFailed, "this machine could not join as a device");
    failure.why = said.lines().map(crate::output::plain).filter(|line| !line.is_empty()).collect();
    Err(failure.next("fulmar up --no-agent    (starts without a device)"))
}

/// Runs the device of a directory that has joined.
pub fn start(program: &Path, data: &Path) -> Result<Companion, Failure> {
    let [run, config] = ["run", "--config"].map(Into::into);
    let arguments = [run, config, NO_CONFIGURATION.into(), "--data".into(), data.into(), "--exit-with-stdin".into()];
    Companion::start("agent", program, data, &arguments)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn script(folder: &Path, text: &str) -> PathBuf {
        let path = folder.join("agent");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_join_that_fails_gives_the_words_of_the_agent() {
        let folder = tempfile::tempdir().unwrap();
        let program = script(folder.path(), "echo \"error: no $4\" >&2\nexit 1");
        let failure = join(&program, folder.path(), "tok", "me", "1,2").unwrap_err();
        assert_eq!((failure.code.as_str(), failure.why), ("JOIN_FAILED", vec!["error: no tok".to_owned()]));
    }

    #[test]
    fn a_device_has_joined_only_with_a_membership() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(membership(folder.path()), None);
        let write = |text: &str| std::fs::write(folder.path().join(IDENTITY_FILE), text).unwrap();
        write("{\"device\": \"x\", \"membership\": null}");
        assert_eq!(membership(folder.path()), None);
        write("{\"membership\": {\"name\": \"a\", \"broker\": \"mqtt://127.0.0.1:1883\", \"artifacts\": \"\"}}");
        let expected =
            Membership { name: "a".to_owned(), broker: "mqtt://127.0.0.1:1883".to_owned(), artifacts: String::new() };
        assert_eq!(membership(folder.path()), Some(expected));
    }

    #[test]
    fn a_missing_program_is_named_before_anything_starts() {
        let failure = program(Some(Path::new("/nonexistent/agent"))).unwrap_err();
        assert!(failure.code == "NO_AGENT" && failure.what.contains("/nonexistent/agent"));
    }
}
