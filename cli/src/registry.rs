//! Which hubs of this user run on this machine, so that a command in another terminal finds the one started last.
//!
//! One file per running hub, below the user's state directory (XDG Base Directory Specification). A file is a hint: it counts only
//! while its process lives and its data directory says the same. Must never keep a hub from starting.

use crate::endpoint;
use crate::output::say;
use hub::hub::Endpoints;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const STATE_VARIABLE: &str = "XDG_STATE_HOME";
/// Below the home directory, without the variable.
const STATE_DIRECTORY: &str = ".local/state";
/// Below the state directory.
const RUNNING_DIRECTORY: &str = "fulmar/running";
/// Files that are looked at; more are left alone.
const FILES_MAX: usize = 256;

/// What a file says.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    data: PathBuf,
    pid: u32,
}

/// A running hub's file; removed when dropped.
#[derive(Debug)]
pub struct Registration(PathBuf);

impl Drop for Registration {
    fn drop(&mut self) {
        // An error means that it is gone, or that the next reader removes it.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn directory() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute(STATE_VARIABLE).or_else(|| Some(absolute("HOME")?.join(STATE_DIRECTORY)))?;
    Some(state.join(RUNNING_DIRECTORY))
}

/// Notes that this process is the hub of `data`, an absolute path.
pub fn register(data: &Path) -> Option<Registration> {
    let directory = directory()?;
    let entry = Entry { data: data.to_owned(), pid: std::process::id() };
    match write(&directory, &entry) {
        Ok(path) => Some(Registration(path)),
        Err(error) => {
            say(&format!(
                "other commands need --data {}: cannot write in {}: {error}",
                data.display(),
                directory.display()
            ));
            None
        }
    }
}

fn write(directory: &Path, entry: &Entry) -> std::io::Result<PathBuf> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let path = directory.join(format!("{}.json", entry.pid));
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    serde_json::to_writer(file, entry)?;
    Ok(path)
}

/// The data directory of the hub that was started last and still runs.
pub fn newest() -> Option<PathBuf> {
    newest_of(&directory()?)
}

fn newest_of(directory: &Path) -> Option<PathBuf> {
    let mut found: Vec<(SystemTime, OsString, PathBuf)> = Vec::new();
    for file in std::fs::read_dir(directory).ok()?.flatten().take(FILES_MAX) {
        let path = file.path();
        let entry = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Entry>(&text).ok());
        match entry.filter(is_alive) {
            Some(entry) => {
                let written =
                    file.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
                found.push((written, file.file_name(), entry.data));
            }
            // Of a hub that was killed. Somebody else may have removed it already.
            None => drop(std::fs::remove_file(&path)),
        }
    }
    found.into_iter().max().map(|(_, _, data)| data)
}

fn is_alive(entry: &Entry) -> bool {
    let process = i32::try_from(entry.pid).ok().and_then(Pid::from_raw);
    let lives = process.is_some_and(|process| test_kill_process(process).is_ok());
    let says = |endpoints: &Endpoints| endpoints.pid == entry.pid;
    lives && endpoint::read_file(&entry.data).ok().flatten().as_ref().is_some_and(says)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hub(data: &Path, pid: u32) {
        std::fs::create_dir_all(data.join("run")).unwrap();
        let file = serde_json::json!({"api": "http://127.0.0.1:1", "broker": "mqtt://127.0.0.1:2", "pid": pid, "token_file": "t"});
        std::fs::write(Endpoints::path(data), file.to_string()).unwrap();
    }

    #[test]
    fn only_a_hub_that_runs_is_found_and_the_files_of_others_go() {
        let own = std::process::id();
        let place = tempfile::tempdir().unwrap();
        let (running, ended) = (place.path().join("running"), place.path().join("ended"));
        let files = place.path().join("files");
        assert_eq!(newest_of(&files), None);
        hub(&running, own);
        hub(&ended, 1);
        // The process lives, but it is not the hub of that directory.
        write(&files, &Entry { data: ended.clone(), pid: own }).unwrap();
        assert_eq!(newest_of(&files), None);
        assert_eq!(std::fs::read_dir(&files).unwrap().count(), 0);
        let path = write(&files, &Entry { data: running.clone(), pid: own }).unwrap();
        assert_eq!(newest_of(&files), Some(running));
        drop(Registration(path));
        assert_eq!(newest_of(&files), None);
    }
}
