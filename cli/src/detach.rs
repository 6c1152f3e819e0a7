//! `up --detach`: the same program once more in the background; this one waits until it is ready and leaves. `down` ends it.
//!
//! A process is ended only if it is the hub of the data directory, held by a handle that no other process can take over.

use crate::args::Global;
use crate::code::Code;
use crate::endpoint;
use crate::exit::Exit;
use crate::failure::{Failure, system};
use crate::output::{line, say};
use crate::stop::{Order, Stop};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

const LOG_FILE: &str = "up.log";
/// Of the log of a start that failed.
const LOG_SHOWN_BYTES_MAX: u64 = 16 * 1024;
const NEXT: &str = "Next:";
const POLL_PERIOD: Duration = Duration::from_millis(50);
/// From SIGTERM to the end: the agent, the fleet and the hub each have some seconds.
const DOWN_TIMEOUT: Duration = Duration::from_secs(60);
/// Name of this program's file.
const PROGRAM: &str = "fulmar";

/// Starts this command line in the background and shows what it says until it is ready.
pub fn detach(data: &Path, is_temporary: bool, stop: &Stop) -> Result<(), Failure> {
    crate::companion::create_directory(data).map_err(|error| system("cannot make the data directory", &error))?;
    let path = data.join(LOG_FILE);
    let unwritable = |error| system(format!("cannot write {}", path.display()), &error);
    let mut options = OpenOptions::new();
    let log = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(unwritable)?;
    let errors = log.try_clone().map_err(unwritable)?;
    let own = std::env::current_exe().map_err(|error| system("cannot find this program's own path", &error))?;
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).filter(|word| word != "--detach").collect();
    arguments.push("--detached".into());
    if is_temporary {
        arguments.extend(["--temporary".into(), "--data".into(), data.into()]);
    }
    let mut child = Command::new(own)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .map_err(|error| system("cannot start this program again", &error))?;
    let (sender, lines) = channel();
    if let Some(out) = child.stdout.take() {
        let read = move || {
            for text in BufReader::new(out).lines().map_while(Result::ok) {
                let last = text.starts_with(NEXT);
                if sender.send(text).is_err() || last {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("ready".to_owned())
            .spawn(read)
            .map_err(|error| system("cannot start a thread", &error))?;
    }
    loop {
        match lines.recv_timeout(POLL_PERIOD) {
            Ok(text) if text.starts_with(NEXT) => {
                let place = if is_temporary { format!(" --data {}", data.display()) } else { String::new() };
                say(&text);
                say(&format!("it runs in the background (process {}); to end it:  fulmar down{place}", child.id()));
                return Ok(());
            }
            // Whoever reads this or not, it is started.
            Ok(text) => drop(line(&text)),
            Err(RecvTimeoutError::Timeout) if stop.wait(Duration::ZERO) == Order::Stop => {
                if let Some(id) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                    // Not waited for yet, so that the id is its own; an error means that it has ended.
                    let _ = rustix::process::kill_process(id, Signal::TERM);
                }
                let _ = child.wait();
                return Err(Failure::new(Code::Stopped, "stopped before everything ran"));
            }
            Err(RecvTimeoutError::Timeout) => {}
            // It closed its output without the last line.
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.wait().map_err(|error| system("cannot wait for the hub", &error))?;
    let exit =
        Exit::ALL.into_iter().find(|exit| status.code() == Some(i32::from(exit.code()))).unwrap_or(Exit::Failure);
    let mut failure = Failure::new(Code::NotStarted, format!("it did not start ({status})")).exit(exit);
    // By the handle: the file may be gone with a temporary directory.
    let mut said = String::new();
    let _ = (&log).rewind().and_then(|()| (&log).take(LOG_SHOWN_BYTES_MAX).read_to_string(&mut said));
    failure.why = said.lines().map(crate::output::plain).collect();
    Err(failure)
}

/// Leaves the terminal, so that closing it does not end the hub.
pub fn begin_session() -> Result<(), Failure> {
    rustix::process::setsid().map(|_| ()).map_err(|error| system("cannot leave the terminal", &error.into()))
}

/// Ends the hub that runs on the data directory, and waits until it has.
pub fn down(global: &Global) -> Result<(), Failure> {
    let data = &global.data;
    let Some(endpoints) = endpoint::read_file(data)? else {
        say(&format!("nothing runs on {}", data.display()));
        return Ok(());
    };
    let missing = || say(&format!("process {} has ended already; what was accepted is stored", endpoints.pid));
    let Some(id) = i32::try_from(endpoints.pid).ok().and_then(Pid::from_raw) else {
        missing();
        return Ok(());
    };
    let process = match pidfd_open(id, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(rustix::io::Errno::SRCH) => {
            missing();
            return Ok(());
        }
        Err(error) => return Err(system(format!("cannot look at process {}", endpoints.pid), &error.into())),
    };
    // Read with the handle open: it is this process, or it has ended.
    let program = std::fs::read_link(format!("/proc/{}/exe", endpoints.pid)).unwrap_or_default();
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if name.split(' ').next() != Some(PROGRAM) {
        missing();
        return Ok(());
    }
    match pidfd_send_signal(&process, Signal::TERM) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => {
            return Err(system(format!("cannot stop process {}", endpoints.pid), &error.into())
                .next("run it as the user who started the hub"));
        }
    }
    let timeout = Timespec { tv_sec: i64::try_from(DOWN_TIMEOUT.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
    let mut ends = [PollFd::new(&process, PollFlags::IN)];
    match poll(&mut ends, Some(&timeout)) {
        Ok(0) => Err(Failure::new(
            Code::StillRunning,
            format!("process {} has not ended after {} s", endpoints.pid, DOWN_TIMEOUT.as_secs()),
        )
        .next("fulmar down    (asks again)")),
        Ok(_) => line(&format!("the hub on {} and its devices have ended", data.display())),
        Err(error) => Err(system("cannot wait for the end", &error.into())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_a_hub_is_ended() {
        let data = tempfile::tempdir().unwrap();
        let global = Global::of(data.path());
        down(&global).unwrap();
        // Another program has the id now: the one of this test, which goes on.
        std::fs::create_dir_all(data.path().join("run")).unwrap();
        let file = hub::hub::Endpoints::path(data.path());
        let text = format!(
            r#"{{"api": "http://127.0.0.1:1", "broker": "mqtt://127.0.0.1:2", "pid": {}, "token_file": "t"}}"#,
            std::process::id()
        );
        std::fs::write(file, text).unwrap();
        down(&global).unwrap();
    }
}
