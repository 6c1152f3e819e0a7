//! The loop: one thread owns the machine, hears what happened, and does what the machine says.
//!
//! It must never wait for anything but the next input, and never interpret what it carries: files, sockets and functions are
//! on other threads, and every answer comes back as an input.
mod effects;
mod inputs;

use crate::agent::AgentError;
use crate::clock::{BootTimer, boot_time};
use crate::identity::Membership;
use crate::journal::{Journal, Values};
use crate::link::{Endpoint, Link, Numbered, Settings};
use crate::runtime::{Losses, Report, Runtime, WallClock};
use crate::store::Store;
use agent_nostd::machine::Agent as Machine;
use agent_nostd::machine::port::{
    Buffers, Config, Content, FetchFailure, Input, JournalKey, KEEP_ALIVE, OUTGOING_BYTES_MIN, PersistFailure,
    Restored, SET_OVERHEAD_BYTES, Ticket,
};
use agent_nostd::machine::time::Instant;
use async_channel::{Receiver, Sender};
use futures_lite::FutureExt;
use smol::LocalExecutor;
use smol::lock::Semaphore;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use wire::dalek::Ed25519;
use wire::hello::{Architecture, Capabilities, Features, ResetCause};
use wire::limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX, MQTT_TOPIC_BYTES_MAX};
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
/// Messages on their way to functions.
const INPUTS_BYTES: usize = 64 * 1024;
/// Events of the link that wait for the loop; then the link reads no more.
const LINK_EVENTS_MAX: usize = 64;
/// Answers of files and fetches that wait for the loop; then the next answer waits.
const ANSWERS_MAX: usize = 64;
/// Artifacts that are fetched at the same time.
const FETCHES_MAX: usize = 4;
/// After this an agent that was asked to stop ends, whatever is left.
const STOP_DEADLINE: Duration = Duration::from_secs(60);
/// Inputs of one kind before the other kinds are looked at.
const BATCH_MAX: usize = 32;

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
}

/// The answer of a file or a fetch.
enum Answer {
    Persisted { ticket: Ticket, result: Result<(), PersistFailure> },
    Artifact { digest: Digest, result: Result<(), FetchFailure> },
    Body { digest: Digest, result: Result<Vec<u8>, FetchFailure> },
}

/// What the loop was woken by.
enum Wake {
    Link(Numbered),
    Answer(Answer),
    Report(Report),
    Order(Order),
    Timer,
}

/// The hands of the machine.
struct Shell {
    executor: Rc<LocalExecutor<'static>>,
    device: DeviceId,
    fleet: String,
    link: Link,
    runtime: Runtime,
    journal: Arc<Mutex<Journal>>,
    store: Arc<Store>,
    state: PathBuf,
    wall: Arc<WallClock>,
    answers: Sender<Answer>,
    fetch_permits: Arc<Semaphore>,
    /// What is being fetched from the network: asked for again, it is answered once.
    fetching: BTreeMap<Digest, Content>,
    /// Workload and component of what the accepted set lists; what functions remember beyond that is deleted.
    accepted: BTreeSet<(u32, u8)>,
    collect_due: bool,
    resources_due: bool,
    resources: Option<(u32, u64)>,
    wall_ms: Option<(u64, Instant)>,
    losses: Losses,
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
            .union(CapabilitySet::RANDOM),
        records: u16::try_from(SLOTS).unwrap_or(u16::MAX),
        body_bytes: u32::try_from(BODY_BYTES_MAX).unwrap_or(u32::MAX),
        memory_bytes: parts.memory_bytes,
        storage_bytes: parts.storage_bytes,
    }
}

/// Runs an agent on this thread until it is told to end.
pub fn run(parts: Parts) -> Result<Ending, AgentError> {
    let executor = Rc::new(LocalExecutor::new());
    let timer = BootTimer::new().map_err(AgentError::System)?;
    let packet_bytes_max = u32::try_from(PACKET_BYTES_MAX).unwrap_or(u32::MAX);
    let fleet = parts.membership.fleet.clone();
    let config = Config {
        fleet: &fleet,
        device: parts.device,
        pair_key: &parts.pair_key,
        hub_key: parts.membership.hub_signing,
        verifier: &Ed25519,
        capabilities: capabilities(&parts),
        packet_bytes_max,
        reset: parts.reset,
        keep_alive: KEEP_ALIVE,
        seed: parts.seed,
    };
    let [mut current, mut last_good, mut incoming] =
        std::array::from_fn(|_| vec![0; SET_OVERHEAD_BYTES + BODY_BYTES_MAX]);
    let mut outgoing = vec![0; FRAME_BYTES_MAX.max(OUTGOING_BYTES_MIN)];
    let (mut logs, mut events, mut inputs) = (vec![0; LOGS_BYTES], vec![0; EVENTS_BYTES], vec![0; INPUTS_BYTES]);
    let buffers = Buffers {
        current: &mut current,
        last_good: &mut last_good,
        incoming: &mut incoming,
        outgoing: &mut outgoing,
        logs: &mut logs,
        events: &mut events,
        inputs: &mut inputs,
    };
    let restored = Restored {
        accepted: parts.values.accepted.as_deref(),
        last_good: parts.values.last_good.as_deref(),
        boot: parts.values.boot.as_deref(),
        attempts: parts.values.attempts.as_deref(),
    };
    // On the heap: it has all slots inside, and is moved through more than one future otherwise.
    let mut machine = Box::new(Machine::<SLOTS>::new(now(), config, buffers, restored));
    let (link_events, link_events_of_link) = async_channel::bounded(LINK_EVENTS_MAX);
    let (answers, answers_of_others) = async_channel::bounded(ANSWERS_MAX);
    let settings = Settings {
        endpoint: parts.endpoint,
        client: parts.device.to_string(),
        user: parts.device.to_string(),
        password: parts.membership.credential.hex(),
        keep_alive: KEEP_ALIVE,
        packet_bytes_max,
        will: None,
    };
    tracing::info!(
        device = %parts.device, name = parts.membership.name, fleet = parts.membership.fleet,
        broker = %settings.endpoint, reset = ?parts.reset, "the agent starts"
    );
    let accepted = parts.values.accepted.as_deref().map(effects::listed).unwrap_or_default();
    let shell = Shell {
        link: Link::new(Rc::clone(&executor), settings, link_events),
        executor: Rc::clone(&executor),
        device: parts.device,
        fleet: parts.membership.fleet.clone(),
        runtime: parts.runtime,
        journal: Arc::new(Mutex::new(parts.journal)),
        store: parts.store,
        state: parts.state,
        wall: parts.wall,
        answers,
        fetch_permits: Arc::new(Semaphore::new(FETCHES_MAX)),
        fetching: BTreeMap::new(),
        accepted,
        collect_due: false,
        resources_due: true,
        resources: None,
        wall_ms: None,
        losses: Losses::default(),
    };
    let ears = Ears {
        link: link_events_of_link,
        answers: answers_of_others,
        reports: parts.reports,
        orders: parts.orders,
        timer,
    };
    let position = parts.membership.position;
    tracing::debug!(bytes = size_of::<Machine<'_, SLOTS>>(), "the machine");
    smol::block_on(executor.run(drive(&mut machine, shell, ears, position)))
}

/// Everything that can wake the loop.
struct Ears {
    link: Receiver<Numbered>,
    answers: Receiver<Answer>,
    reports: Receiver<Report>,
    orders: Receiver<Order>,
    timer: BootTimer,
}

impl Ears {
    /// The next thing that happens. Every part of it can be dropped without a loss.
    async fn next(&mut self, due: Option<Instant>) -> Result<Wake, AgentError> {
        let Self { link, answers, reports, orders, timer } = self;
        let due = due.map(|instant| Duration::from_millis(instant.as_ms()));
        let timer = async { timer.until(due).await.map(|()| Wake::Timer).map_err(AgentError::System) };
        // A closed channel has nothing to say any more: whoever closed it is the loop's own or the process.
        let link = async { next_of(link).await.map(Wake::Link) };
        let answers = async { next_of(answers).await.map(Wake::Answer) };
        let reports = async { next_of(reports).await.map(Wake::Report) };
        let orders =
            async { orders.recv().await.map_or(Ok(Wake::Order(Order::Abandon)), |order| Ok(Wake::Order(order))) };
        orders.or(link).or(answers).or(timer).or(reports).await
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
    position: Option<wire::position::Position>,
) -> Result<Ending, AgentError> {
    let mut stop_at: Option<Instant> = None;
    machine.handle(now(), Input::Position(position));
    shell.settle(machine);
    loop {
        if stop_at.is_some_and(|at| now() >= at) {
            tracing::warn!("not everything stopped in time; the agent ends all the same");
            return Ok(Ending::InOrder);
        }
        if machine.is_finished() {
            tracing::info!("the agent ends");
            return Ok(Ending::InOrder);
        }
        let due = [machine.poll_timeout(), stop_at].into_iter().flatten().min();
        let first = ears.next(due).await?;
        for wake in std::iter::once(first).chain(ears.batch()) {
            match wake {
                Wake::Link(numbered) => shell.hear_link(machine, numbered),
                Wake::Answer(answer) => shell.hear_answer(machine, answer),
                Wake::Report(report) => shell.hear_report(machine, &report),
                Wake::Order(Order::Abandon) => return Ok(Ending::Abandoned),
                Wake::Order(Order::Stop) if stop_at.is_none() => {
                    stop_at = Some(now().after(STOP_DEADLINE));
                    shell.store.stop();
                    machine.handle(now(), Input::Shutdown);
                }
                Wake::Timer => shell.tell_losses(machine),
                Wake::Order(Order::Stop) => {}
            }
            shell.settle(machine);
        }
    }
}

/// Whether a key of the journal is the accepted set.
const fn is_accepted(key: JournalKey) -> bool {
    match key {
        JournalKey::Accepted => true,
        JournalKey::LastGood | JournalKey::Boot | JournalKey::Attempts => false,
    }
}
