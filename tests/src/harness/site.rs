//! A hub with a place to work, and commands that are run there as an operator runs them.

use super::{Agent, Hub, PATIENCE, program};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

pub const FRANKFURT: (f64, f64) = (8.6821, 50.1109);
pub const PARIS: (f64, f64) = (2.3522, 48.8566);

/// A hub in a directory of its own, and the command line as an operator of it.
pub struct Site {
    pub directory: tempfile::TempDir,
    pub hub: Hub,
}

/// What a command did.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Done {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The output of a command that succeeded and said nothing.
    pub fn only(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

impl Site {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let hub = Hub::start(directory.path());
        Self { directory, hub }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        name.to_owned()
    }

    /// Knows nothing but this site: no hub or context of the person at this machine.
    pub fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("fulmar"));
        command.args(arguments).current_dir(self.directory.path()).stdin(Stdio::null());
        for name in ["FULMAR_SERVER", "FULMAR_TOKEN", "FULMAR_DATA", "FULMAR_CONTEXT", "FULMAR_READONLY", "NO_COLOR"] {
            command.env_remove(name);
        }
        command.env("XDG_CONFIG_HOME", self.path("config")).env("XDG_STATE_HOME", self.path("state"));
        command
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare(arguments);
        command.env("FULMAR_DATA", self.hub.data());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Done {
        finish(self.command(arguments), "")
    }

    pub fn region(&self, name: &str, (longitude, latitude): (f64, f64)) {
        let spec = json!({"circle": {"center": [longitude, latitude], "radiusKm": 20}});
        let document = json!({"apiVersion": "fulmar/v1", "kind": "Region", "metadata": {"name": name, "labels": {"river": "yes"}}, "spec": spec});
        self.hub.put(&format!("/v1/regions/{name}"), &document);
    }
}

/// Runs it to its end with something on standard input.
pub fn finish(mut command: Command, input: &str) -> Done {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that reads nothing has closed it.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// A command that goes on, line by line. Killed when dropped.
pub struct Following {
    child: Child,
    lines: Receiver<String>,
}

impl Following {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    pub fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line comes")
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

pub fn agents(site: &Site) -> [Agent; 2] {
    let directory: &Path = site.directory.path();
    [Agent::join(directory, &site.hub, "gw-fra", FRANKFURT), Agent::join(directory, &site.hub, "gw-par", PARIS)]
}
