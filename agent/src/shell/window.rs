//! The socket at which `fulmar-agent status` asks, and the answers of the loop.
//!
//! Must never make the loop wait: a question is one input among others, and a client that does not read is cut.
use super::{Question, SLOTS, Shell, now};
use crate::config::PositionSource;
use crate::identity::class_text;
use crate::relay::LeafView;
use crate::status::{
    About, Cache, Component, Connection, Leaf, Lease, Lost, Place, Room, STATUS_BYTES_MAX, STATUS_SOCKET, Snapshot,
};
use agent_nostd::machine::Agent as Machine;
use agent_nostd::machine::port::{LinkState, Right};
use agent_nostd::machine::time::Instant;
use async_channel::Sender;
use futures_lite::{AsyncWriteExt, FutureExt};
use smol::LocalExecutor;
use smol::lock::Semaphore;
use smol::net::unix::UnixListener;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use wire::hello::{Architecture, Features};
use wire::position::Position;

/// Clients that are served at the same time; others wait in the kernel's queue.
const CLIENTS_MAX: usize = 4;
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);
const SOCKET_MODE: u32 = 0o600;
/// After an error of `accept`, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Open as long as it lives.
pub struct Window {
    path: PathBuf,
    _task: smol::Task<()>,
}

impl Drop for Window {
    fn drop(&mut self) {
        // A socket that stays is answered by nobody, and replaced by the next agent.
        let _ = fs::remove_file(&self.path);
    }
}

impl Window {
    /// The caller holds the lock of the directory, so that a socket that is there belongs to nobody.
    pub fn open(data: &Path, executor: &Rc<LocalExecutor<'static>>, questions: Sender<Question>) -> io::Result<Self> {
        let path = data.join(STATUS_SOCKET);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(SOCKET_MODE))?;
        let task = executor.spawn(serve(listener, Rc::downgrade(executor), questions));
        Ok(Self { path, _task: task })
    }
}

async fn serve(listener: UnixListener, executor: std::rc::Weak<LocalExecutor<'static>>, questions: Sender<Question>) {
    let clients = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let permit = clients.acquire_arc().await;
        let Ok((mut stream, _)) = listener.accept().await else {
            smol::Timer::after(ACCEPT_PAUSE).await;
            continue;
        };
        let Some(executor) = executor.upgrade() else { return };
        let questions = questions.clone();
        let answer = async move {
            let (reply, answer) = async_channel::bounded(1);
            questions.send(reply).await.ok()?;
            let text = answer.recv().await.ok()?;
            stream.write_all(text.as_bytes()).await.ok()
        };
        let expired = async {
            smol::Timer::after(CLIENT_TIMEOUT).await;
            None
        };
        let client = async move {
            // Who was not served asks again.
            let _: Option<()> = answer.or(expired).await;
            drop(permit);
        };
        // Owned by the executor, bounded by its deadline.
        executor.spawn(client).detach();
    }
}

const fn state_text(link: LinkState) -> &'static str {
    match link {
        LinkState::Offline { .. } => "offline",
        LinkState::Connecting => "connecting",
        LinkState::Linked => "linked",
        LinkState::Fresh => "connected",
    }
}

const fn architecture_text(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "x86_64",
        Architecture::Aarch64 => "aarch64",
        Architecture::Armv7 => "armv7",
        Architecture::Thumbv6m => "thumbv6m",
        Architecture::Thumbv7m => "thumbv7m",
        Architecture::Thumbv7em => "thumbv7em",
        Architecture::Thumbv8m => "thumbv8m",
        Architecture::Riscv32 => "riscv32",
        Architecture::Riscv64 => "riscv64",
    }
}

fn feature_texts(features: Features) -> Vec<String> {
    let known = [
        (Features::FUNCTION, "function"),
        (Features::FUNCTION_PAGE_SIZES, "function-page-sizes"),
        (Features::CONTAINER, "container"),
        (Features::PROCESS, "process"),
        (Features::BOOT_CLOCK, "boot-clock"),
        (Features::FETCH_HTTP, "fetch-http"),
        (Features::FETCH_CHUNKS, "fetch-chunks"),
    ];
    known.into_iter().filter(|(feature, _)| features.contains(*feature)).map(|(_, name)| name.to_owned()).collect()
}

fn degrees(e7: i32) -> String {
    let sign = if e7 < 0 { "-" } else { "" };
    format!("{sign}{}.{:07}", e7.unsigned_abs() / 10_000_000, e7.unsigned_abs() % 10_000_000)
}

fn place(position: Position, source: &PositionSource) -> Place {
    let source = match source {
        PositionSource::Joined | PositionSource::None => "joined",
        PositionSource::Static(_) => "static",
        PositionSource::Gpsd => "gpsd",
    };
    Place {
        latitude: degrees(position.latitude_e7),
        longitude: degrees(position.longitude_e7),
        uncertainty_m: position.uncertainty_m,
        source: source.to_owned(),
    }
}

impl Shell {
    /// Answers one question with what is true now.
    pub fn answer(&self, machine: &Machine<'_, SLOTS>, reply: &Question) {
        let mut text = match serde_json::to_string(&self.snapshot(machine)) {
            Ok(text) => text,
            Err(error) => {
                tracing::error!(%error, "the status cannot be written");
                return;
            }
        };
        text.push('\n');
        if text.len() <= STATUS_BYTES_MAX {
            // The client has gone.
            let _ = reply.try_send(text);
        }
    }

    fn snapshot(&self, machine: &Machine<'_, SLOTS>) -> Snapshot {
        let (now, capabilities, usage) = (now(), machine.capabilities(), self.store.usage());
        let (lost, dropped) = (machine.lost(), self.runtime.losses());
        let name = |entry: &wire::status::Entry<'_>| {
            machine.workload_name(entry.workload).map_or_else(|| format!("#{}", entry.workload.0), str::to_owned)
        };
        let terms =
            |entry: &wire::status::Entry<'_>| machine.terms(entry.workload, entry.component).unwrap_or_default();
        let workloads = machine.entries().map(|entry| Component {
            lease: terms(&entry)
                .grant
                .map(|Right { fence, until }| Lease { fence: fence.0.to_string(), left_s: until.since(now).as_secs() }),
            stops_in_s: terms(&entry).stop_by.map(|at| at.since(now).as_secs()),
            is_degraded: terms(&entry).is_degraded,
            workload: name(&entry),
            component: entry.component,
            generation: entry.generation,
            running: entry.running,
            state: format!("{:?}", entry.state),
            reason: entry.reason.code().to_owned(),
            restarts: entry.restarts,
            detail: entry.detail.to_owned(),
        });
        let uname = rustix::system::uname();
        Snapshot {
            name: self.name.clone(),
            device: self.device.to_string(),
            fleet: self.fleet.clone(),
            broker: self.broker.clone(),
            connection: Connection {
                state: state_text(machine.link()).to_owned(),
                since_s: now.since(self.link_since).as_secs(),
            },
            revision: machine.accepted().map(|(revision, _)| revision.to_string()),
            uptime_s: now.since(self.started_at).as_secs(),
            unheard_s: machine.unheard_for(now).map(|age| age.as_secs()),
            agent: About {
                version: capabilities.agent_version.to_owned(),
                class: class_text(capabilities.class).to_owned(),
                architecture: architecture_text(capabilities.architecture).to_owned(),
                kernel: uname.release().to_string_lossy().into_owned(),
                features: feature_texts(capabilities.features),
            },
            memory: Room {
                limit_bytes: u64::from(capabilities.memory_bytes),
                free_bytes: u64::from(self.runtime.memory_free_bytes()),
            },
            artifacts: Cache {
                limit_bytes: capabilities.storage_bytes,
                used_bytes: usage.used,
                spare_bytes: usage.spare,
                free_bytes: self.store.free_bytes(),
            },
            position: self.position.map(|position| place(position, &self.position_source)),
            workloads: workloads.collect(),
            losses: Lost {
                events: u64::from(lost.events).saturating_add(dropped.events),
                lines: u64::from(lost.logs).saturating_add(dropped.lines),
                inputs: u64::from(machine.inputs_dropped()).saturating_add(dropped.inputs),
            },
            leaves: self.leaves.iter().map(|view| leaf(&view.borrow(), now)).collect(),
        }
    }
}

fn leaf(view: &LeafView, now: Instant) -> Leaf {
    Leaf {
        line: view.line.clone(),
        state: view.state.to_owned(),
        since_s: now.since(view.since).as_secs(),
        client: view.client.clone(),
        connections: view.connections,
        frames_received: view.counters.received,
        frames_sent: view.counters.sent,
        frames_resent: view.counters.resent,
        frames_spoilt: view.counters.spoilt,
    }
}

#[cfg(test)]
mod tests {
    use super::degrees;

    #[test]
    fn degrees_are_written_without_a_float() {
        assert_eq!(degrees(-338_688_001), "-33.8688001");
        assert_eq!(degrees(-1), "-0.0000001");
        assert_eq!(degrees(0), "0.0000000");
    }
}
