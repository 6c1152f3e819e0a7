//! One `fulmar-agent` process.

use super::netns::Network;
use super::{Hub, program, wait_until};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::SystemTime;

/// A joined agent on its own data directory. Killed when dropped.
pub struct Agent {
    name: String,
    data: PathBuf,
    process: Option<Child>,
    /// Where it runs, if not here: the number of its network.
    network: Option<(Arc<Network>, usize)>,
}

impl Agent {
    /// Joins by a token that approves, at a place, and runs.
    pub fn join(directory: &Path, hub: &Hub, name: &str, place: (f64, f64)) -> Self {
        let mut agent = Self::enrol(directory, &hub.join_token(true), name, place);
        agent.run();
        hub.wait_online(name);
        agent
    }

    /// Joins without running.
    pub fn enrol(directory: &Path, token: &str, name: &str, place: (f64, f64)) -> Self {
        Self::enrol_from(None, directory, token, name, place)
    }

    /// Joins and runs in the network of this number, with the label `case=<case>`.
    pub fn join_in(network: (&Arc<Network>, usize), directory: &Path, hub: &Hub, name: &str, case: &str) -> Self {
        let network = Some((Arc::clone(network.0), network.1));
        let mut agent = Self::enrol_from(network, directory, &hub.join_token_for(case), name, (8.6821, 50.1109));
        agent.run();
        hub.wait_online(name);
        agent
    }

    fn command(network: Option<&(Arc<Network>, usize)>) -> Command {
        match network {
            Some((network, number)) => network.device(*number).command(program("fulmar-agent")),
            None => Command::new(program("fulmar-agent")),
        }
    }

    fn enrol_from(
        network: Option<(Arc<Network>, usize)>,
        directory: &Path,
        token: &str,
        name: &str,
        (longitude, latitude): (f64, f64),
    ) -> Self {
        let data = directory.join(name);
        let output = Self::command(network.as_ref())
            .args(["join", token, "--name", name, "--at", &format!("{latitude},{longitude}"), "--data"])
            .arg(&data)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "join failed: {}", String::from_utf8_lossy(&output.stderr));
        Self { name: name.to_owned(), data, process: None, network }
    }

    /// On a directory that holds an identity already.
    pub fn on(name: &str, data: &Path) -> Self {
        Self { name: name.to_owned(), data: data.to_owned(), process: None, network: None }
    }

    pub fn run(&mut self) {
        self.run_with(&[]);
    }

    /// With more options.
    pub fn run_with(&mut self, options: &[&str]) {
        assert!(self.process.is_none(), "the agent runs already");
        let log = std::fs::File::options().create(true).append(true).open(self.data.join("agent.log")).unwrap();
        let process = Self::command(self.network.as_ref())
            .args(["run", "--data"])
            .arg(&self.data)
            .args(options)
            .env("FULMAR_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
    }

    /// As a power cut.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Lets it do nothing, as a machine that hangs, and wakes it again.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.pid().to_string()]).status().unwrap().success());
    }

    /// Asks it to stop and waits for a clean end.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let pid = process.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
            let status = wait_until("the agent stops", || process.try_wait().unwrap().ok_or("it runs"));
            assert!(status.success(), "the agent ended with {status}:\n{}", self.log());
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Child::id)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.join("agent.log")).unwrap_or_default()
    }

    /// When a function of this device has last written what it remembers, by the clock of this machine.
    pub fn state_written_at(&self) -> Option<SystemTime> {
        let files = self.state().into_iter();
        files.filter_map(|(path, _)| std::fs::metadata(path).ok()?.modified().ok()).max()
    }

    /// Every file of the durable state of functions, with its bytes: changes when a function's state does.
    pub fn state(&self) -> Vec<(PathBuf, Vec<u8>)> {
        fn walk(directory: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    walk(&path, found);
                } else if let Ok(bytes) = std::fs::read(&path) {
                    found.push((path, bytes));
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.data.join("state"), &mut found);
        found.sort();
        found
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.lines().rev().take(60).collect::<Vec<_>>();
            eprintln!("--- {}/agent.log (last lines)", self.name);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        self.kill();
    }
}
