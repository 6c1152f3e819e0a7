//! The loop: one thread owns the machine, hears what happened, and does what the machine says.
//!
//! It must never wait for anything but the next input, and never interpret what it carries: files, sockets and functions are
//! on other threads, and every answer comes back as an input.
mod effects;
mod inputs;
mod manager;
mod window;

use crate::agent::AgentError;
use crate::clock::{BootTimer, boot_time};
use crate::config::PositionSource;
use crate::gpsd::{Rules, Track, listen};
use crate::identity::Membership;
use crate::journal::{Journal, Values};
use crate::link::{Endpoint, Link, Numbered, Settings};
use crate::notify::Notifier;
use crate::relay::{LEAVES_MAX, LeafView, LineAddress, Notice, Relay};
use crate::runtime::{Losses, Report, Runtime, WallClock};
use crate::store::Store;
use agent_nostd::machine::Agent as Machine;
use agent_nostd::machine::port::{
    Buffers, Config, Content, FetchFailure, Input, JournalKey, KEEP_ALIVE, OUTGOING_BYTES_MIN, PersistFailure,
    Restored, SET_OVERHEAD_BYTES, Ticket,
};
use agent_nostd::machine::random::Random;
use agent_nostd::machine::time::Instant;
use async_channel::{Receiver, Sender};
use futures_lite::FutureExt;
use manager::Manager;
use rustls::ClientConfig;
use smol::LocalExecutor;
use smol::lock::Semaphore;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use window::Window;
use wire::dalek::Ed25519;
use wire::hello::{Architecture, Capabilities, Features, ResetCause};
use wire::lease::DRIFT_PPM_MAX;
use wire::limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX, MQTT_TOPIC_BYTES_MAX};
use wire::position::Position;
use wire::record::CapabilitySet;
use wire::{DeviceId, Digest, PairKey};

/// Components that run here at most.
pub const SLOTS: usize = 256;
/// The longest frame with its topic and what MQTT puts around it.
const PACKET_BYTES_MAX: usize = FRAME_BYTES_MAX + MQTT_TOPIC_BYTES_MAX + 64;
/// Log records until they are acknowledged.
const LOGS_BYTES: usize = 64 * 1024;
/// Events until they are acknowledged.
const EVENTS_BYTES: usize = 256 * 1024;
/// Alarms until the hub has taken them. The whole ring is written for each, so it is short.
const ALARMS_BYTES: usize = 16 * 1024;
/// The latest value of each key that functions report.
const STATES_BYTES: usize = 32 * 1024;
/// Measured values until they are told: hours of a connection that is away.
const METRICS_BYTES: usize = 256 * 1024;
/// Messages on their way to functions.
const INPUTS_BYTES: usize = 64 * 1024;
/// Events of the link that wait for the loop; then the link reads no more.
const LINK_EVENTS_MAX: usize = 64;
/// Answers of files and fetches that wait for the loop; then the next answer waits.
const ANSWERS_MAX: usize = 64;
/// Artifacts that are fetched from the network at the same time.
const DOWNLOADS_MAX: usize = 4;
/// Stored artifacts that are read and checked at the same time: each takes a thread and the disk.
const CHECKS_MAX: usize = 2;
/// Values of the journal that are written at the same time, of all devices that share a disk.
const WRITES_MAX: usize = 4;
/// Questions of `fulmar-agent status` that wait for the loop; then the next one waits.
const QUESTIONS_MAX: usize = 4;
/// Fixes that wait for the loop; further ones are dropped.
const FIXES_MAX: usize = 4;
/// What relays say that waits for the loop; further ones are dropped.
const NOTICES_MAX: usize = 4 * LEAVES_MAX;
/// Inputs of one kind before the other kinds are looked at.
const BATCH_MAX: usize = 32;

/// A slice of fuel and one call to the outside, on a busy machine.
const STOP_LATENCY: Duration = Duration::from_millis(500);

/// What the rest of the process asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Stop,
    Abandon,
}

/// How the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    InOrder,
    Abandoned,
}

/// Everything that was opened before the loop began.
pub struct Parts {
    pub device: DeviceId,
    pub membership: Membership,
    pub endpoint: Endpoint,
    /// For an endpoint with TLS.
    pub tls: Option<Arc<ClientConfig>>,
    pub pair_key: PairKey,
    pub journal: Journal,
    pub values: Values,
    pub store: Arc<Store>,
    pub state: PathBuf,
    pub runtime: Runtime,
    pub reports: Receiver<Report>,
    pub wall: Arc<WallClock>,
    pub orders: Receiver<Order>,
    pub reset: ResetCause,
    pub seed: [u8; 32],
    pub memory_bytes: u32,
    pub storage_bytes: u64,
    pub position: Option<Position>,
    pub position_source: PositionSource,
    pub gpsd: SocketAddr,
    pub position_rules: Rules,
    pub leaves: Vec<LineAddress>,
    /// Where questions of `fulmar-agent status` are heard.
    pub data: Option<PathBuf>,
    pub stop_timeout: Duration,
    pub notifier: Option<Notifier>,
}

/// What agents of one thread have in common.
#[derive(Clone)]
pub struct Commons {
    pub executor: Rc<LocalExecutor<'static>>,
    downloads: Arc<Semaphore>,
    checks: Arc<Semaphore>,
    writes: Arc<Semaphore>,
}

impl Commons {
    pub fn new() -> Self {
        let permits = |count| Arc::new(Semaphore::new(count));
        Self {
            executor: Rc::new(LocalExecutor::new()),
            downloads: permits(DOWNLOADS_MAX),
            checks: permits(CHECKS_MAX),
            writes: permits(WRITES_MAX),
        }
    }
}

/// The answer of a file or a fetch.
enum Answer {
    Persisted { ticket: Ticket, result: Result<(), PersistFailure> },
    Artifact { digest: Digest, result: Result<(), FetchFailure> },
    Body { digest: Digest, result: Result<Vec<u8>, FetchFailure> },
}

/// Where a question of `fulmar-agent status` is answered.
type Question = Sender<String>;

/// What the loop was woken by.
enum Wake {
    Link(Numbered),
    Answer(Answer),
    Report(Report),
    Order(Order),
    Fix(Position),
    Question(Question),
    Notice(Notice),
    Timer,
}

/// The hands of the machine.
struct Shell {
    commons: Commons,
    device: DeviceId,
    fleet: String,
    link: Link,
    runtime: Runtime,
    journal: Arc<Mutex<Journal>>,
    store: Arc<Store>,
    state: PathBuf,
    wall: Arc<WallClock>,
    answers: Sender<Answer>,
    /// What is being fetched from the network: asked for again, it is answered once.
    fetching: BTreeMap<Digest, Content>,
    /// Workload and component of what the accepted set lists; what functions remember beyond that is deleted.
    accepted: BTreeSet<(u32, u8)>,
    /// The same of the set that is being written.
    accepted_next: Option<(Ticket, BTreeSet<(u32, u8)>)>,
    collect_due: bool,
    resources_due: bool,
    resources: Option<(u32, u64)>,
    wall_ms: Option<(u64, Instant)>,
    losses: Losses,
    /// Journal writes that were begun and not answered.
    writes: u32,
    name: String,
    broker: String,
    started_at: Instant,
    link_since: Instant,
    link_last: &'static str,
    position: Option<Position>,
    position_source: PositionSource,
    track: Option<Track>,
    leaves: Vec<Rc<RefCell<LeafView>>>,
    stop_timeout: Duration,
    manager: Manager,
    /// People were told that there is no connection.
    is_down_known: bool,
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Architecture = Architecture::X86_64;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Architecture = Architecture::Aarch64;
#[cfg(target_arch = "arm")]
const ARCHITECTURE: Architecture = Architecture::Armv7;
#[cfg(target_arch = "riscv64")]
const ARCHITECTURE: Architecture = Architecture::Riscv64;

fn now() -> Instant {
    Instant::from_ms(u64::try_from(boot_time().as_millis()).unwrap_or(u64::MAX))
}

fn capabilities(parts: &Parts) -> Capabilities<'static> {
    let fetch = if parts.membership.artifacts.is_empty() { Features::default() } else { Features::FETCH_HTTP };
    Capabilities {
        class: parts.membership.class,
        architecture: ARCHITECTURE,
        agent_version: env!("CARGO_PKG_VERSION"),
        features: Features::FUNCTION.union(Features::FUNCTION_PAGE_SIZES).union(Features::BOOT_CLOCK).union(fetch),
        interfaces: CapabilitySet::LOG
            .union(CapabilitySet::EMIT)
            .union(CapabilitySet::STATE)
            .union(CapabilitySet::RANDOM)
            .union(CapabilitySet::TELEMETRY),
        records: u16::try_from(SLOTS).unwrap_or(u16::MAX),
        body_bytes: u32::try_from(BODY_BYTES_MAX).unwrap_or(u32::MAX),
        memory_bytes: parts.memory_bytes,
        storage_bytes: parts.storage_bytes,
    }
}

/// The memory of the machine.
struct Memory {
    sets: [Vec<u8>; 3],
    outgoing: Vec<u8>,
    logs: Vec<u8>,
    events: Vec<u8>,
    alarms: Vec<u8>,
    states: Vec<u8>,
    metrics: Vec<u8>,
    inputs: Vec<u8>,
}

impl Memory {
    fn new() -> Self {
        Self {
            sets: std::array::from_fn(|_| vec![0; SET_OVERHEAD_BYTES + BODY_BYTES_MAX]),
            outgoing: vec![0; FRAME_BYTES_MAX.max(OUTGOING_BYTES_MIN)],
            logs: vec![0; LOGS_BYTES],
            events: vec![0; EVENTS_BYTES],
            alarms: vec![0; ALARMS_BYTES],
            states: vec![0; STATES_BYTES],
            metrics: vec![0; METRICS_BYTES],
            inputs: vec![0; INPUTS_BYTES],
        }
    }

    fn buffers(&mut self) -> Buffers<'_> {
        let [current, last_good, incoming] = &mut self.sets;
        Buffers {
            current,
            last_good,
            incoming,
            outgoing: &mut self.outgoing,
            logs: &mut self.logs,
            events: &mut self.events,
            alarms: &mut self.alarms,
            states: &mut self.states,
            metrics: &mut self.metrics,
            inputs: &mut self.inputs,
        }
    }
}

fn restored(values: &Values) -> Restored<'_> {
    Restored {
        accepted: values.accepted.as_deref(),
        last_good: values.last_good.as_deref(),
        boot: values.boot.as_deref(),
        attempts: values.attempts.as_deref(),
        clock: values.clock.as_deref(),
        alarms: values.alarms.as_deref(),
    }
}

fn settings(parts: &Parts) -> Settings {
    Settings {
        endpoint: parts.endpoint.clone(),
        tls: parts.tls.clone(),
        client: parts.device.to_string(),
        user: parts.device.to_string(),
        password: parts.membership.credential.hex(),
        keep_alive: KEEP_ALIVE,
        packet_bytes_max: packet_bytes_max(),
        will: None,
    }
}

fn packet_bytes_max() -> u32 {
    u32::try_from(PACKET_BYTES_MAX).unwrap_or(u32::MAX)
}

/// Runs an agent on this thread until it is told to end.
pub fn run(parts: Parts) -> Result<Ending, AgentError> {
    let commons = Commons::new();
    let executor = Rc::clone(&commons.executor);
    smol::block_on(executor.run(serve(parts, commons)))
}

/// An agent until it is told to end. To be polled by the executor of `commons` only.
pub async fn serve(parts: Parts, commons: Commons) -> Result<Ending, AgentError> {
    let timer = BootTimer::new().map_err(AgentError::System)?;
    let fleet = parts.membership.fleet.clone();
    let pair_key = parts.pair_key.clone();
    let values = parts.values.clone();
    let config = Config {
        fleet: &fleet,
        device: parts.device,
        pair_key: &pair_key,
        hub_key: parts.membership.hub_signing,
        verifier: &Ed25519,
        capabilities: capabilities(&parts),
        packet_bytes_max: packet_bytes_max(),
        reset: parts.reset,
        last_end: None,
        keep_alive: KEEP_ALIVE,
        drift_ppm: DRIFT_PPM_MAX,
        stop_latency: STOP_LATENCY,
        random: Random::new(parts.seed),
    };
    let mut memory = Memory::new();
    // On the heap: it has all slots inside.
    let mut machine = Box::new(Machine::<SLOTS>::new(now(), config, memory.buffers(), restored(&values)));
    tracing::info!(
        device = %parts.device, name = parts.membership.name, fleet,
        broker = %parts.endpoint, reset = ?parts.reset, "the agent starts"
    );
    parts.store.introduce(|digest| machine.references(digest));
    let position = parts.position;
    let (shell, ears) = Shell::new(parts, commons, timer);
    drive(&mut machine, shell, ears, position).await
}

impl Shell {
    fn new(parts: Parts, commons: Commons, timer: BootTimer) -> (Self, Ears) {
        let (link_events, link) = async_channel::bounded(LINK_EVENTS_MAX);
        let (answers, answers_of_others) = async_channel::bounded(ANSWERS_MAX);
        let (questions, questions_of_others) = async_channel::bounded(QUESTIONS_MAX);
        let open = |data: &PathBuf| Window::open(data, &commons.executor, questions);
        let window = parts.data.as_ref().map(open).transpose().unwrap_or_else(|error| {
            tracing::warn!(%error, "`fulmar-agent status` will find nobody: its socket cannot be opened");
            None
        });
        let (fixes, fixes_of_others) = async_channel::bounded(FIXES_MAX);
        let gpsd = matches!(parts.position_source, PositionSource::Gpsd)
            .then(|| commons.executor.spawn(listen(parts.gpsd, fixes)));
        let track = gpsd.is_some().then(|| Track::new(parts.position_rules));
        let (notices, notices_of_others) = async_channel::bounded(NOTICES_MAX);
        let (leaves, relays) = relays(&parts, &commons, &notices);
        let shell = Self {
            link: Link::new(Rc::clone(&commons.executor), settings(&parts), link_events),
            accepted: parts.values.accepted.as_deref().map(effects::listed).unwrap_or_default(),
            commons,
            device: parts.device,
            fleet: parts.membership.fleet,
            runtime: parts.runtime,
            journal: Arc::new(Mutex::new(parts.journal)),
            store: parts.store,
            state: parts.state,
            wall: parts.wall,
            answers,
            fetching: BTreeMap::new(),
            accepted_next: None,
            collect_due: false,
            resources_due: true,
            resources: None,
            wall_ms: None,
            losses: Losses::default(),
            writes: 0,
            name: parts.membership.name,
            broker: parts.endpoint.to_string(),
            started_at: now(),
            link_since: now(),
            link_last: "",
            position: parts.position,
            track,
            leaves,
            position_source: parts.position_source,
            stop_timeout: parts.stop_timeout,
            manager: Manager::new(parts.notifier),
            is_down_known: false,
        };
        let ears = Ears {
            link,
            answers: answers_of_others,
            reports: parts.reports,
            orders: parts.orders,
            timer,
            questions: questions_of_others,
            fixes: fixes_of_others,
            notices: notices_of_others,
            _window: window,
            _gpsd: gpsd,
            _relays: relays,
        };
        (shell, ears)
    }
}

/// Starts a relay for each line of a leaf.
fn relays(
    parts: &Parts,
    commons: &Commons,
    notices: &Sender<Notice>,
) -> (Vec<Rc<RefCell<LeafView>>>, Vec<smol::Task<()>>) {
    let start = |address: &LineAddress| {
        let view = Relay::view_of(address);
        let relay = Relay {
            address: address.clone(),
            device: parts.device,
            endpoint: parts.endpoint.clone(),
            tls: parts.tls.clone(),
            notices: notices.clone(),
            view: Rc::clone(&view),
        };
        (view, commons.executor.spawn(relay.serve()))
    };
    parts.leaves.iter().take(LEAVES_MAX).map(start).unzip()
}

/// Everything that can wake the loop.
struct Ears {
    link: Receiver<Numbered>,
    answers: Receiver<Answer>,
    reports: Receiver<Report>,
    orders: Receiver<Order>,
    questions: Receiver<Question>,
    fixes: Receiver<Position>,
    notices: Receiver<Notice>,
    timer: BootTimer,
    _window: Option<Window>,
    _gpsd: Option<smol::Task<()>>,
    _relays: Vec<smol::Task<()>>,
}

impl Ears {
    /// The next thing that happens. Every part of it can be dropped without a loss.
    async fn next(&mut self, due: Option<Instant>) -> Result<Wake, AgentError> {
        let Self { link, answers, reports, orders, timer, questions, fixes, notices, .. } = self;
        let due = due.map(|instant| Duration::from_millis(instant.as_ms()));
        let timer = async { timer.until(due).await.map(|()| Wake::Timer).map_err(AgentError::System) };
        // A closed channel has nothing to say any more: whoever closed it is the loop's own or the process.
        let link = async { next_of(link).await.map(Wake::Link) };
        let answers = async { next_of(answers).await.map(Wake::Answer) };
        let questions = async { next_of(questions).await.map(Wake::Question) };
        let fixes = async { next_of(fixes).await.map(Wake::Fix) };
        let notices = async { next_of(notices).await.map(Wake::Notice) };
        let reports = async { next_of(reports).await.map(Wake::Report) };
        let orders =
            async { orders.recv().await.map_or(Ok(Wake::Order(Order::Abandon)), |order| Ok(Wake::Order(order))) };
        orders.or(link).or(answers).or(timer).or(questions).or(fixes).or(notices).or(reports).await
    }

    /// What is there already, of each kind at most a batch, so that no kind keeps the others waiting.
    fn batch(&self) -> Vec<Wake> {
        let mut batch: Vec<Wake> = Vec::new();
        batch.extend(std::iter::from_fn(|| self.link.try_recv().ok()).take(BATCH_MAX).map(Wake::Link));
        batch.extend(std::iter::from_fn(|| self.answers.try_recv().ok()).take(BATCH_MAX).map(Wake::Answer));
        batch.extend(std::iter::from_fn(|| self.reports.try_recv().ok()).take(BATCH_MAX).map(Wake::Report));
        batch
    }
}

async fn next_of<T>(channel: &Receiver<T>) -> Result<T, AgentError> {
    match channel.recv().await {
        Ok(item) => Ok(item),
        Err(_) => std::future::pending().await,
    }
}

async fn drive(
    machine: &mut Machine<'_, SLOTS>,
    mut shell: Shell,
    mut ears: Ears,
    position: Option<Position>,
) -> Result<Ending, AgentError> {
    machine.handle(now(), Input::Position(position));
    shell.settle(machine);
    shell.manager.ready();
    let ending = turn(machine, &mut shell, &mut ears).await;
    // The next agent on this directory, in this process or another, must not meet a write of this one.
    while shell.writes > 0 {
        match ears.answers.recv().await {
            Ok(Answer::Persisted { .. }) => shell.writes -= 1,
            Ok(Answer::Artifact { .. } | Answer::Body { .. }) => {}
            Err(_) => break,
        }
    }
    ending
}

/// Hears and does, until it is over.
async fn turn(machine: &mut Machine<'_, SLOTS>, shell: &mut Shell, ears: &mut Ears) -> Result<Ending, AgentError> {
    let mut stop_at: Option<Instant> = None;
    loop {
        if stop_at.is_some_and(|at| now() >= at) {
            tracing::warn!("not everything stopped in time; the agent ends all the same");
            return Ok(Ending::InOrder);
        }
        if machine.is_finished() {
            tracing::info!("the agent ends");
            return Ok(Ending::InOrder);
        }
        shell.manager.tell(now(), machine.link());
        let due = [machine.poll_timeout(), stop_at, shell.manager.due(), shell.track.as_ref().and_then(Track::due)]
            .into_iter()
            .flatten()
            .min();
        let first = ears.next(due).await?;
        for wake in std::iter::once(first).chain(ears.batch()) {
            match wake {
                Wake::Link(numbered) => shell.hear_link(machine, numbered),
                Wake::Answer(answer) => shell.hear_answer(machine, answer),
                Wake::Report(report) => shell.hear_report(machine, &report),
                Wake::Order(Order::Abandon) => return Ok(Ending::Abandoned),
                Wake::Order(Order::Stop) if stop_at.is_none() => {
                    stop_at = Some(now().after(shell.stop_timeout));
                    shell.manager.stopping();
                    shell.store.stop();
                    machine.handle(now(), Input::Shutdown);
                }
                Wake::Timer => shell.tell_losses(machine),
                Wake::Order(Order::Stop) => {}
                Wake::Question(reply) => shell.answer(machine, &reply),
                Wake::Fix(position) => shell.hear_fix(position),
                Wake::Notice(Notice { level, text }) => machine.handle(now(), Input::AgentLog { level, text: &text }),
            }
            shell.tell_position(machine);
            shell.settle(machine);
            shell.watch_link(machine.link());
        }
    }
}

/// Whether a key of the journal is the accepted set.
const fn is_accepted(key: JournalKey) -> bool {
    match key {
        JournalKey::Accepted => true,
        JournalKey::LastGood | JournalKey::Boot | JournalKey::Attempts | JournalKey::Clock | JournalKey::Alarms => {
            false
        }
    }
}
