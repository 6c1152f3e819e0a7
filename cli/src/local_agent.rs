//! The one real agent that `fulmar up` runs on this machine: joined once, started, restarted when it dies, stopped.
//!
//! It is an ordinary device: it joins with a token and its own keys, and gets nothing that another device would not get. It
//! must never outlive `up`.

use crate::exit::Exit;
use crate::failure::{Failure, system};
use serde_json::Value;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = "fulmar-agent";
const IDENTITY_FILE: &str = "identity.json";
const LOG_FILE: &str = "agent.log";
/// A log that is larger when the agent starts is put aside, over the one put aside before.
const LOG_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Bytes of the log that a failure shows.
const LOG_SHOWN_LINES: usize = 3;
/// From SIGTERM to SIGKILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
const STOP_POLL: Duration = Duration::from_millis(20);
/// Waits between restarts; the last repeats.
const BACKOFF: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
];
/// An agent that ran so long starts at the first wait again.
const STEADY: Duration = Duration::from_secs(60);

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
    let path = match given {
        Some(path) => path.to_owned(),
        None => {
            let own = std::env::current_exe().map_err(|error| system("cannot find this program's own path", &error))?;
            own.with_file_name(PROGRAM)
        }
    };
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::new(Exit::Failure, "NO_AGENT", format!("there is no agent at {}", path.display()))
        .why("`up` runs a real agent, and looks for fulmar-agent beside fulmar")
        .next("cargo build -p fulmar-agent")
        .next("or name it with --agent PATH, or start without a device: --no-agent"))
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
    command.arg("join").arg(token).arg("--name").arg(name).arg(format!("--at={at}")).arg("--data").arg(data);
    let output = command
        .env("FULMAR_LOG", "warn")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| system(format!("cannot start {}", program.display()), &error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let mut failure = Failure::new(Exit::Failure, "JOIN_FAILED", "this machine could not join as a device");
    failure.why = said.lines().map(crate::output::plain).filter(|line| !line.is_empty()).collect();
    Err(failure.next("fulmar up --no-agent    (starts without a device)"))
}

/// A running agent, or one that is about to be started again. Dropping it stops it.
pub struct LocalAgent {
    program: PathBuf,
    data: PathBuf,
    state: State,
    failures: usize,
}

enum State {
    Running { child: Child, since: Instant },
    Waiting { until: Instant },
    Stopped,
}

impl LocalAgent {
    pub fn start(program: &Path, data: &Path) -> Result<Self, Failure> {
        let mut agent = Self { program: program.to_owned(), data: data.to_owned(), state: State::Stopped, failures: 0 };
        agent.spawn()?;
        Ok(agent)
    }

    pub fn log(&self) -> PathBuf {
        self.data.join(LOG_FILE)
    }

    /// The last lines of its log.
    pub fn last_words(&self) -> Vec<String> {
        let text = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LOG_SHOWN_LINES);
        lines.get(from..).unwrap_or_default().iter().map(|line| crate::output::plain(line)).collect()
    }

    fn spawn(&mut self) -> Result<(), Failure> {
        let log = open_log(&self.data).map_err(|error| system("cannot write the agent's log", &error))?;
        let errors = log.try_clone().map_err(|error| system("cannot write the agent's log", &error))?;
        let child = Command::new(&self.program)
            .arg("run")
            .arg("--data")
            .arg(&self.data)
            .arg("--exit-with-stdin")
            // The other end is ours: it closes however this process ends, and the agent stops.
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            // A Ctrl-C of the terminal is for us; we stop the agent in our own order.
            .process_group(0)
            .spawn()
            .map_err(|error| system(format!("cannot start {}", self.program.display()), &error))?;
        self.state = State::Running { child, since: Instant::now() };
        Ok(())
    }

    /// Looks after it; a message when something happened.
    pub fn tend(&mut self) -> Option<String> {
        match &mut self.state {
            State::Stopped => None,
            State::Running { child, since } => {
                let ended = match child.try_wait() {
                    Ok(None) => return None,
                    Ok(Some(status)) => text(status),
                    Err(error) => error.to_string(),
                };
                self.failures = if since.elapsed() >= STEADY { 0 } else { self.failures + 1 };
                let wait = BACKOFF.get(self.failures.saturating_sub(1)).or(BACKOFF.last()).copied().unwrap_or(STEADY);
                self.state = State::Waiting { until: Instant::now() + wait };
                let seconds = wait.as_secs();
                Some(format!(
                    "the agent ended ({ended}) and is started again in {seconds} s; its log: {}",
                    self.log().display()
                ))
            }
            State::Waiting { until } if Instant::now() < *until => None,
            State::Waiting { until } => {
                // Until it could be started, or has failed to, no new attempt.
                *until = Instant::now() + STEADY;
                self.spawn().err().map(|failure| failure.text())
            }
        }
    }

    /// Asks it to stop, then insists. Returns when its process is gone.
    pub fn stop(&mut self) {
        self.stop_within(STOP_TIMEOUT);
    }

    fn stop_within(&mut self, timeout: Duration) {
        let State::Running { mut child, .. } = std::mem::replace(&mut self.state, State::Stopped) else { return };
        let id = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
        // The child is not waited for yet, so that its id cannot belong to anybody else.
        let asked = matches!(child.try_wait(), Ok(None))
            && id.is_some_and(|id| rustix::process::kill_process(id, rustix::process::Signal::TERM).is_ok());
        let start = Instant::now();
        while asked && start.elapsed() < timeout {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(STOP_POLL);
        }
        // Both fail only if it is gone already.
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for LocalAgent {
    fn drop(&mut self) {
        self.stop();
    }
}

fn text(status: ExitStatus) -> String {
    status.to_string()
}

/// The directory of keys is nobody else's business.
pub fn create_directory(data: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(data)
}

fn open_log(data: &Path) -> std::io::Result<File> {
    create_directory(data)?;
    let path = data.join(LOG_FILE);
    if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
        std::fs::rename(&path, data.join(format!("{LOG_FILE}.1")))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
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

    fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_stopped_agent_has_been_asked_first_and_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let program = script(folder.path(), "trap 'echo asked; exit 0' TERM\necho ready\nwhile :; do sleep 0.02; done");
        let mut agent = LocalAgent::start(&program, &folder.path().join("data")).unwrap();
        let log = agent.log();
        wait_until("it is ready", || std::fs::read_to_string(&log).unwrap().contains("ready"));
        assert_eq!(agent.tend(), None);
        agent.stop();
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "ready\nasked\n");
        assert_eq!(agent.tend(), None);
    }

    #[test]
    fn an_agent_that_does_not_listen_is_ended_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let program = script(folder.path(), "trap '' TERM\necho $$\nwhile :; do sleep 0.02; done");
        let mut agent = LocalAgent::start(&program, &folder.path().join("data")).unwrap();
        let log = agent.log();
        wait_until("it is ready", || std::fs::read_to_string(&log).unwrap().ends_with('\n'));
        agent.stop_within(Duration::from_millis(100));
        let id = std::fs::read_to_string(&log).unwrap();
        assert!(!Path::new("/proc").join(id.trim()).exists());
    }

    #[test]
    fn an_agent_that_dies_is_said_and_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let program = script(folder.path(), "echo started\nexit 3");
        let mut agent = LocalAgent::start(&program, &folder.path().join("data")).unwrap();
        let mut message = None;
        wait_until("its end is noticed", || {
            message = agent.tend();
            message.is_some()
        });
        assert!(message.unwrap().contains("started again in 1 s"));
        let log = agent.log();
        wait_until("it is started again", || {
            let _ = agent.tend();
            std::fs::read_to_string(&log).unwrap() == "started\nstarted\n"
        });
        assert_eq!(agent.last_words(), ["started", "started"]);
    }

    #[test]
    fn a_join_that_fails_gives_the_words_of_the_agent() {
        let folder = tempfile::tempdir().unwrap();
        let program = script(folder.path(), "echo \"error: no $2\" >&2\nexit 1");
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
