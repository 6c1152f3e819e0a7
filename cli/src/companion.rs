//! A process beside `up`: started, restarted when it dies, stopped. The agent of this machine is one, the demo fleet another.
//!
//! It must never outlive `up`, however that ends, nor write anywhere but into its own log.

use crate::failure::{Failure, system};
use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A log that is larger when its process starts is put aside, over the one put aside before.
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
/// A process that ran so long starts at the first wait again.
const STEADY: Duration = Duration::from_secs(60);

/// Where a program is: as given, or beside this one. The inner error is where it should have been.
pub fn program(name: &str, given: Option<&Path>) -> Result<Result<PathBuf, PathBuf>, Failure> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => {
            let own = std::env::current_exe().map_err(|error| system("cannot find this program's own path", &error))?;
            own.with_file_name(name)
        }
    };
    Ok(if path.is_file() { Ok(path) } else { Err(path) })
}

/// A running process, or one that is about to be started again. Dropping it stops it.
pub struct Companion {
    what: &'static str,
    program: PathBuf,
    data: PathBuf,
    arguments: Vec<OsString>,
    state: State,
    failures: usize,
    /// A second request would end it at once.
    is_asked: bool,
}

enum State {
    Running { child: Child, since: Instant },
    Waiting { until: Instant },
    Stopped,
}

impl Companion {
    /// `what`: its name for people, and of its log in `data`. It must end when its standard input does.
    pub fn start(what: &'static str, program: &Path, data: &Path, arguments: &[OsString]) -> Result<Self, Failure> {
        let (program, data, arguments) = (program.to_owned(), data.to_owned(), arguments.to_vec());
        let mut companion =
            Self { what, program, data, arguments, state: State::Stopped, failures: 0, is_asked: false };
        companion.spawn()?;
        Ok(companion)
    }

    pub fn log(&self) -> PathBuf {
        self.data.join(format!("{}.log", self.what))
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
        let unwritable = |error| system(format!("cannot write {}", self.log().display()), &error);
        let log = open_log(&self.data, &self.log()).map_err(unwritable)?;
        let errors = log.try_clone().map_err(unwritable)?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            // The other end is ours: it closes however this process ends, and the companion stops.
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            // A Ctrl-C of the terminal is for us; we stop it in our own order.
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
                    "the {} ended ({ended}) and is started again in {seconds} s; its log: {}",
                    self.what,
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

    /// Asks it to stop. Returns at once; `stop` waits.
    pub fn ask(&mut self) {
        let State::Running { child, .. } = &mut self.state else { return };
        self.is_asked = self.is_asked || terminate(child);
    }

    /// Asks it to stop, then insists. Returns when its process is gone.
    pub fn stop(&mut self) {
        self.stop_within(STOP_TIMEOUT);
    }

    fn stop_within(&mut self, timeout: Duration) {
        let State::Running { mut child, .. } = std::mem::replace(&mut self.state, State::Stopped) else { return };
        let asked = self.is_asked || terminate(&mut child);
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

/// False: it is gone already.
fn terminate(child: &mut Child) -> bool {
    let id = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    // The child is not waited for yet, so that its id cannot belong to anybody else.
    matches!(child.try_wait(), Ok(None))
        && id.is_some_and(|id| rustix::process::kill_process(id, rustix::process::Signal::TERM).is_ok())
}

impl Drop for Companion {
    fn drop(&mut self) {
        self.stop();
    }
}

fn text(status: ExitStatus) -> String {
    status.to_string()
}

/// A directory of keys is nobody else's business.
pub fn create_directory(data: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(data)
}

fn open_log(data: &Path, path: &Path) -> std::io::Result<File> {
    create_directory(data)?;
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".1");
        std::fs::rename(path, aside)?;
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
        let mut agent = Companion::start("agent", &program, &folder.path().join("data"), &[]).unwrap();
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
        let mut agent = Companion::start("agent", &program, &folder.path().join("data"), &[]).unwrap();
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
        let mut agent = Companion::start("agent", &program, &folder.path().join("data"), &[]).unwrap();
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
}
