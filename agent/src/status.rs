//! What `fulmar-agent status` shows: the snapshot that a running agent gives, the question for it, and the text for people.
//!
//! Must never hold a secret, nor take longer or read more than its bounds when the agent is unwell.
use crate::clock::boot_time;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the socket in the data directory.
pub const STATUS_SOCKET: &str = "status.sock";
/// Bytes of a snapshot; with all components there are about a hundred thousand.
pub const STATUS_BYTES_MAX: usize = 1024 * 1024;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    pub name: String,
    pub device: String,
    pub fleet: String,
    pub broker: String,
    pub connection: Connection,
    /// Of the accepted set; `None`: the hub has not sent one yet.
    pub revision: Option<String>,
    pub uptime_s: u64,
    /// Since the hub was last asked with success, over restarts of the agent; `None`: not known.
    pub unheard_s: Option<u64>,
    pub agent: About,
    pub memory: Room,
    pub artifacts: Cache,
    pub position: Option<Place>,
    pub workloads: Vec<Component>,
    pub losses: Lost,
    /// Lines of leaf devices behind this one.
    #[serde(default)]
    pub leaves: Vec<Leaf>,
}

/// One line of a leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leaf {
    pub line: String,
    /// `closed`, `idle`, `connecting` or `open`.
    pub state: String,
    pub since_s: u64,
    /// As whom the leaf connected last; empty: not yet.
    pub client: String,
    /// To the broker, since the start.
    pub connections: u64,
    pub frames_received: u32,
    pub frames_sent: u32,
    pub frames_resent: u32,
    /// What was no frame: noise, or cut or bent ones.
    pub frames_spoilt: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// `offline`, `connecting`, `linked` or `connected`.
    pub state: String,
    pub since_s: u64,
}

/// What this device is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    pub version: String,
    pub class: String,
    pub architecture: String,
    pub kernel: String,
    pub features: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    pub limit_bytes: u64,
    pub free_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cache {
    pub limit_bytes: u64,
    pub used_bytes: u64,
    /// Of these, not needed by the present or the last good state.
    pub spare_bytes: u64,
    pub free_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    pub latitude: String,
    pub longitude: String,
    pub uncertainty_m: u32,
    /// `joined`, `static` or `gpsd`.
    pub source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Component {
    pub workload: String,
    pub component: u8,
    pub generation: u32,
    pub running: u32,
    pub state: String,
    pub reason: String,
    pub restarts: u32,
    pub detail: String,
    /// Of exclusive work that runs.
    pub lease: Option<Lease>,
    /// Until it has to stop if the hub is not heard; `None`: it runs on.
    pub stops_in_s: Option<u64>,
    pub is_degraded: bool,
}

/// The right under which exclusive work runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    pub fence: String,
    /// Unless it is renewed.
    pub left_s: u64,
}

/// Thrown away because a limit was reached, since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lost {
    pub events: u64,
    pub lines: u64,
    pub inputs: u64,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    #[error("no agent runs on {0}. Start it: `fulmar-agent run`, or `systemctl start fulmar-agent`")]
    NotRunning(PathBuf),
    #[error("cannot ask the agent at {path}: {source}. Ask as the agent's user or as root")]
    Io { path: PathBuf, source: io::Error },
    #[error("the agent at {0} runs and does not answer: it may hang. Look at its log; systemd restarts it")]
    NoAnswer(PathBuf),
    #[error("the agent gave an answer that cannot be read ({0}): it has another version than this program")]
    Answer(String),
}

/// Asks the agent of a data directory.
pub fn query(data: &Path) -> Result<Snapshot, StatusError> {
    let path = data.join(STATUS_SOCKET);
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => StatusError::NotRunning(data.to_owned()),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => StatusError::NoAnswer(data.to_owned()),
        _ => StatusError::Io { path: path.clone(), source },
    };
    let deadline = boot_time() + ANSWER_TIMEOUT;
    let mut stream = UnixStream::connect(&path).map_err(io)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let left = deadline.saturating_sub(boot_time()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left)).map_err(io)?;
        match stream.read(&mut buffer).map_err(io)? {
            0 => break,
            count => answer.extend_from_slice(&buffer[..count]),
        }
        if answer.len() > STATUS_BYTES_MAX {
            return Err(StatusError::Answer("it is too long".to_owned()));
        }
    }
    if answer.is_empty() {
        return Err(StatusError::NoAnswer(data.to_owned()));
    }
    serde_json::from_slice(&answer).map_err(|error| StatusError::Answer(error.to_string()))
}

fn bytes(count: u64) -> String {
    match count {
        0..=1023 => format!("{count} B"),
        1024..=1_048_575 => format!("{} KiB", count / 1024),
        _ => format!("{} MiB", count / 1_048_576),
    }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How long it may go on, and as what.
fn terms(component: &Component) -> String {
    let lease =
        component.lease.as_ref().map(|Lease { fence, left_s }| format!(", granted for {left_s} s with fence {fence}"));
    let stops = component.stops_in_s.map(|left| format!(", stops in {} without the hub", span(left)));
    let degraded = component.is_degraded.then(|| ", degraded".to_owned());
    [lease, stops, degraded].into_iter().flatten().collect()
}

/// For people; what it prints holds no control characters.
pub fn text(snapshot: &Snapshot) -> String {
    let Snapshot { connection, agent, memory, artifacts, losses, .. } = snapshot;
    let mut out = String::new();
    let mut line = |what: &str, value: String| {
        let plain: String = value.chars().filter(|c| !c.is_control()).collect();
        // Writing to a text cannot fail.
        let _ = writeln!(out, "{what:<11} {plain}");
    };
    line("device", format!("{} ({}) of fleet {}", snapshot.name, snapshot.device, snapshot.fleet));
    line("broker", snapshot.broker.clone());
    line("connection", format!("{} for {}", connection.state, span(connection.since_s)));
    line(
        "hub",
        snapshot
            .unheard_s
            .map_or_else(|| "not heard since the start".to_owned(), |age| format!("heard {} ago", span(age))),
    );
    line("revision", snapshot.revision.clone().unwrap_or_else(|| "none yet".to_owned()));
    let position = snapshot.position.as_ref().map_or_else(
        || "not known".to_owned(),
        |place| format!("{},{} within {} m ({})", place.latitude, place.longitude, place.uncertainty_m, place.source),
    );
    line("position", position);
    line("memory", format!("{} free of {}", bytes(memory.free_bytes), bytes(memory.limit_bytes)));
    let (used, limit) = (bytes(artifacts.used_bytes), bytes(artifacts.limit_bytes));
    line("artifacts", format!("{used} of {limit}, {} of it not needed now", bytes(artifacts.spare_bytes)));
    line("lost", format!("{} events, {} lines, {} inputs", losses.events, losses.lines, losses.inputs));
    let About { version, class, architecture, kernel, features } = agent;
    line("agent", format!("{version}, {class}, {architecture}, Linux {kernel}, up {}", span(snapshot.uptime_s)));
    line("features", features.join(", "));
    for leaf in &snapshot.leaves {
        let who = if leaf.client.is_empty() { "nobody yet" } else { &leaf.client };
        let (state, since) = (&leaf.state, span(leaf.since_s));
        let counts = format!(
            "{} frames in, {} out, {} again, {} spoilt",
            leaf.frames_received, leaf.frames_sent, leaf.frames_resent, leaf.frames_spoilt
        );
        line("leaf", format!("{} {state} for {since}, {who}, {counts}", leaf.line));
    }
    line("workloads", snapshot.workloads.len().to_string());
    for component in &snapshot.workloads {
        let Component { workload, component: part, running, generation, state, reason, restarts, detail, .. } =
            component;
        let reason = if reason == "NONE" { String::new() } else { format!(" {reason}") };
        let detail = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
        let text = format!(
            "{workload}/{part} {state}{reason} generation {running} of {generation}, {restarts} restarts{detail}{}",
            terms(component)
        );
        line("", text);
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_terms_of_a_component_are_told_in_words() {
        let plain = Component {
            workload: "w".to_owned(),
            component: 0,
            generation: 1,
            running: 1,
            state: "Running".to_owned(),
            reason: "NONE".to_owned(),
            restarts: 0,
            detail: String::new(),
            lease: None,
            stops_in_s: None,
            is_degraded: false,
        };
        assert_eq!(terms(&plain), "");
        let lease = Some(Lease { fence: "1.7".to_owned(), left_s: 40 });
        let all = Component { lease, stops_in_s: Some(600), is_degraded: true, ..plain };
        assert_eq!(terms(&all), ", granted for 40 s with fence 1.7, stops in 10 min without the hub, degraded");
    }

    #[test]
    fn an_agent_that_does_not_run_is_told_from_one_that_cannot_be_asked() {
        let data = tempfile::tempdir().unwrap();
        assert!(matches!(query(data.path()), Err(StatusError::NotRunning(_))));
        // What a killed agent leaves behind.
        drop(UnixListener::bind(data.path().join(STATUS_SOCKET)).unwrap());
        assert!(matches!(query(data.path()), Err(StatusError::NotRunning(_))));
    }

    #[test]
    fn hostile_answers_are_bounded_and_refused() {
        for answer in [b"{".to_vec(), Vec::new(), vec![b'['; STATUS_BYTES_MAX + 1]] {
            let data = tempfile::tempdir().unwrap();
            let listener = UnixListener::bind(data.path().join(STATUS_SOCKET)).unwrap();
            let server = std::thread::spawn(move || {
                // The asker may hang up first.
                let _ = listener.accept().unwrap().0.write_all(&answer);
            });
            assert!(matches!(query(data.path()), Err(StatusError::Answer(_) | StatusError::NoAnswer(_))));
            server.join().unwrap();
        }
    }
}
