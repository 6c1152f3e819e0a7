//! Simulated agents in a process of their own: the real agent, many on one thread, each with its keys and connection.
//!
//! The bench starts its own program again with the verb `crowd`.

use agent::{AgentConfig, Crowd, JoinOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use wire::hello::DeviceClass;
use wire::position::Position;

pub const VERB: &str = "crowd";
/// Members of one process: connections and files stay far below the limit of open files.
pub const MEMBERS_MAX: usize = 2_000;
/// Devices that join at the same time.
const JOINS: usize = 16;
const MEMORY_BYTES: u32 = 4 * 1024 * 1024;
const STORAGE_BYTES: u64 = 16 * 1024 * 1024;

/// Processes full of agents. Killed when dropped.
#[derive(Default)]
pub struct Crowds(Vec<Child>);

impl Crowds {
    /// Joins one device for each `name token` and runs them.
    pub fn add(&mut self, directory: &Path, members: &[(String, String)]) {
        for members in members.chunks(MEMBERS_MAX) {
            let data = directory.join(format!("crowd-{}", self.0.len()));
            std::fs::create_dir_all(&data).unwrap();
            let lines: String = members.iter().map(|(name, token)| format!("{name} {token}\n")).collect();
            std::fs::write(data.join("tokens"), lines).unwrap();
            let log = std::fs::File::create(data.join("log")).unwrap();
            let child = Command::new(std::env::current_exe().unwrap())
                .arg(VERB)
                .arg(&data)
                .stdin(Stdio::piped())
                .stderr(log)
                .spawn()
                .unwrap();
            self.0.push(child);
        }
    }

    /// As `kill` does, to every process.
    pub fn signal(&self, signal: &str) {
        for child in &self.0 {
            let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
            assert!(sent.success(), "kill {signal}");
        }
    }

    pub fn rss_kib(&self) -> f64 {
        self.0.iter().map(|child| crate::process::rss_kib(child.id())).sum()
    }
}

impl Drop for Crowds {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Spread over the inhabited latitudes, the same at every run.
fn position(number: usize) -> Position {
    let number = i32::try_from(number).unwrap();
    Position {
        longitude_e7: 80_000_000 + number * 1_000,
        latitude_e7: 440_000_000 + number * 7_919 % 1_200 * 100_000,
        uncertainty_m: 25,
    }
}

/// The crowd of `argv[2]`, until it is killed.
pub fn run_here() {
    let data = PathBuf::from(std::env::args().nth(2).unwrap());
    let tokens = std::fs::read_to_string(data.join("tokens")).unwrap();
    let members: Vec<(String, String)> =
        tokens.lines().filter_map(|line| line.split_once(' ')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
    let place = |name: &str| data.join("devices").join(name);
    let waiting = Mutex::new(members.iter().enumerate());
    std::thread::scope(|scope| {
        for _ in 0..JOINS {
            scope.spawn(|| {
                loop {
                    let Some((number, (name, token))) = waiting.lock().unwrap().next() else { return };
                    let options = JoinOptions {
                        token: token.clone(),
                        name: Some(name.clone()),
                        position: Some(position(number)),
                        class: DeviceClass::Mcu,
                        data: place(name),
                    };
                    while let Err(error) = agent::join(&options) {
                        eprintln!("{name}: {error}");
                        std::thread::sleep(std::time::Duration::from_millis(500));
                    }
                }
            });
        }
    });
    agent::stop_at_end_of_input().unwrap();
    let crowd = Crowd::new(&data.join("artifacts")).unwrap();
    crowd.run(async {
        let config = |name: &str| AgentConfig {
            memory_bytes: MEMORY_BYTES,
            storage_bytes: STORAGE_BYTES,
            ..AgentConfig::new(place(name))
        };
        let running: Vec<_> = members.iter().map(|(name, _)| crowd.start(&config(name)).unwrap()).collect();
        eprintln!("{} agents run", running.len());
        // The bench kills it, or ends with it.
        std::future::pending::<()>().await;
    });
}
