//! Many real agents on one thread of the test, each with a road of its own if it needs one.

use super::{Hub, wait_until};
use agent::identity::Identity;
use agent::{AgentConfig, AgentError, Crowd as Agents, JoinOptions};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread::JoinHandle;
use wire::hello::DeviceClass;
use wire::position::Position;

/// Devices that join at the same time.
const JOINS: usize = 8;
/// The machines of the agents are built on it.
const STACK_BYTES: usize = 8 * 1024 * 1024;
const MEMORY_BYTES: u32 = 4 * 1024 * 1024;
const STORAGE_BYTES: u64 = 16 * 1024 * 1024;
const FRANKFURT: Position = Position { longitude_e7: 86_821_000, latitude_e7: 501_109_000, uncertainty_m: 25 };

/// Devices that have joined a hub, in a directory of their own.
pub struct Crowd {
    data: PathBuf,
    names: Vec<String>,
}

/// Running agents. Dropping it ends them as a power cut would.
pub struct RunningCrowd {
    stop: Option<async_channel::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// Joins devices `<name>-0`, `<name>-1`, ... with the label `case=<name>`.
    pub fn join(directory: &Path, hub: &Hub, name: &str, count: usize) -> Self {
        let crowd = Self {
            data: directory.join(format!("crowd-{name}")),
            names: (0..count).map(|number| format!("{name}-{number}")).collect(),
        };
        let waiting = Mutex::new(crowd.names.iter());
        std::thread::scope(|scope| {
            for _ in 0..JOINS.min(count) {
                scope.spawn(|| {
                    loop {
                        let Some(device) = waiting.lock().unwrap().next() else { return };
                        let options = JoinOptions {
                            token: hub.join_token_for(name),
                            name: Some(device.clone()),
                            position: Some(FRANKFURT),
                            class: DeviceClass::Mcu,
                            data: crowd.directory(device),
                        };
                        agent::join(&options).unwrap_or_else(|error| panic!("{device}: {error}"));
                    }
                });
            }
        });
        crowd
    }

    fn directory(&self, device: &str) -> PathBuf {
        self.data.join(device)
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// This device fetches its artifacts somewhere else from its next start on.
    pub fn fetch_from(&self, device: usize, address: &str) {
        let directory = self.directory(&self.names[device]);
        let mut identity = Identity::load(&directory).unwrap().unwrap();
        identity.membership.as_mut().unwrap().artifacts = address.to_owned();
        identity.save(&directory).unwrap();
    }

    /// Runs them; `broker` is told the number of each device, and says where it looks for its broker.
    pub fn run(&self, broker: impl Fn(usize) -> Option<String>) -> RunningCrowd {
        let configs: Vec<AgentConfig> = self
            .names
            .iter()
            .enumerate()
            .map(|(number, name)| AgentConfig {
                memory_bytes: MEMORY_BYTES,
                storage_bytes: STORAGE_BYTES,
                broker: broker(number),
                ..AgentConfig::new(self.directory(name))
            })
            .collect();
        let artifacts = self.data.join("artifacts");
        let (stop, stopped) = async_channel::bounded::<()>(1);
        let work = move || {
            let agents = Agents::new(&artifacts).unwrap();
            agents.run(async {
                let start = |config| {
                    // A process that another thread of this test is just starting has a copy of every open file for a
                    // moment, also of the lock that this device took while it joined.
                    wait_until("the device's directory is free", || match agents.start(config) {
                        Err(AgentError::Lock(error)) => Err(error),
                        started => Ok(started.unwrap()),
                    })
                };
                let _running: Vec<_> = configs.iter().map(start).collect();
                // Nothing is ever sent: the channel closes.
                let _ = stopped.recv().await;
            });
        };
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work).unwrap();
        RunningCrowd { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for RunningCrowd {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if let (Some(ended), false) = (ended, std::thread::panicking()) {
            ended.expect("the agents ended in order");
        }
    }
}
