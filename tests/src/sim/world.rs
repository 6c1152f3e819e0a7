//! The simulated world: one clock, one queue of events, one source of chance; the real hub engine and real agent machines in it.
//!
//! Nothing happens but by an event of the queue, and equal times are taken in the order in which they were asked for, so that
//! a seed is a run. The parts of the world are in the other files of this folder; here is only what they share.
use super::device::{BOOT_BYTES, Device, Join, Setting};
use super::disk::{Durable, Queue};
use super::fault::{Allowed, Counts, Fault};
use super::flash::Flash;
use super::network::{Broker, Client, Connection, Link, Packet};
use super::operator::Operator;
use super::oracle::Seen;
use super::random::Random;
use super::runtime::{Runtime, Step};
use super::signature::{HashSigner, HashVerifier};
use super::trace::{Story, Trace};
use agent_nostd::machine::port::{Content, FetchFailure, LaunchId};
use hub::engine::Engine;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use wire::dalek::{Ed25519, Ed25519Key, ExchangeSecret};
use wire::hello::ResetCause;
use wire::position::Position;
use wire::sign::{PublicKey, Sign, Verify};
use wire::{DeviceId, Digest, PairKey};

pub const FLEET: &str = "sim";
/// Boots of all devices in one run; after them no device loses power any more.
pub const BOOTS_MAX: usize = 512;
/// 2026-01-01.
pub const WALL_START_MS: u64 = 1_767_225_600_000;
/// Events of one run; more is a storm.
const EVENTS_MAX: u64 = 4_000_000;

/// A double that breaks its contract on purpose: shows that the oracles look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    Nothing,
    /// The flash says that a set is durable and does not hold it.
    FlashLies,
    /// The hub's disk says that a batch is durable and does not hold it.
    DiskLies,
    /// A device's runtime stops what runs well.
    RuntimeForgets,
}

#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub seed: u64,
    pub devices: usize,
    /// How long faults come.
    pub minutes: u64,
    pub allowed: Allowed,
    pub story: Story,
    pub plant: Plant,
}

impl Options {
    /// Size and length of a run, drawn from its seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5151);
        let devices = 3 + random.index(6);
        let minutes = random.between(30, 90);
        Self { seed, devices, minutes, allowed: Allowed::ALL, story: Story::Off, plant: Plant::Nothing }
    }
}

/// What the machines borrow for the length of a run.
pub struct Ground {
    pub pair_keys: Vec<PairKey>,
    pub verifier: Box<dyn Verify + Sync>,
    pub signer: Box<dyn Sign>,
    pub hub_exchange_seed: [u8; 32],
    pub identities: Vec<([u8; 32], [u8; 32])>,
}

impl Ground {
    pub fn new(options: &Options) -> Self {
        let mut random = Random::new(options.seed ^ 0x6b65_7973);
        let hub_exchange_seed = random.bytes();
        let hub = ExchangeSecret::from_seed(hub_exchange_seed);
        let identities: Vec<([u8; 32], [u8; 32])> =
            (0..options.devices).map(|_| (random.bytes(), random.bytes())).collect();
        let pair = |(identity, exchange): &([u8; 32], [u8; 32])| {
            let id = DeviceId::of_key(&Ed25519Key::from_seed(identity).public_key().0);
            ExchangeSecret::from_seed(*exchange).pair_key(&hub.public_key(), FLEET, id).unwrap_or(PairKey([0; 32]))
        };
        let pair_keys = identities.iter().map(pair).collect();
        let (signer, verifier): (Box<dyn Sign>, Box<dyn Verify + Sync>) = if options.seed % 10 == 3 {
            (Box::new(Ed25519Key::from_seed(&random.bytes())), Box::new(Ed25519))
        } else {
            (Box::new(HashSigner(PublicKey(random.bytes()))), Box::new(HashVerifier))
        };
        Self { pair_keys, verifier, signer, hub_exchange_seed, identities }
    }

    /// Memory for the machines of all boots.
    pub fn memory() -> Vec<u8> {
        vec![0; BOOTS_MAX * BOOT_BYTES]
    }
}

#[derive(Clone, Debug)]
pub enum Event {
    DeviceWake { device: usize, life: u32 },
    PowerOn { device: usize, reset: ResetCause },
    JoinTry { device: usize },
    Arrives { connection: u32, way: super::network::Way, packet: Packet },
    Silence { client: Client, since: u64 },
    FlashDone { device: usize, life: u32, fails: bool },
    PowerFails { device: usize, life: u32 },
    Fetched { device: usize, life: u32, content: Content, digest: Digest, failure: Option<FetchFailure> },
    Runtime { device: usize, life: u32, launch: LaunchId, step: Step },
    HubWake { life: u32 },
    HubStart,
    HubConnect { life: u32 },
    HubSilence { connection: u32 },
    HubRefused { life: u32, publication: u64 },
    Written { life: u32 },
    BrokerStart,
    BrokerSaves,
    Operator,
    Fault,
    Heal { number: u32 },
    Look,
}

pub struct Scheduled {
    at: u64,
    number: u64,
    pub event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// The hub's process.
pub struct HubNode {
    pub engine: Option<Engine>,
    pub durable: Durable,
    pub queue: Queue,
    pub life: u32,
    pub connection: Option<u32>,
    pub is_linked: bool,
    pub wake_ms: Option<u64>,
    pub commit_slow: u32,
    pub disk_full: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Faults come.
    Safety,
    /// No faults; everything has to become right within a bound.
    Liveness,
    /// Everything is right and has to stay so.
    Quiet,
    /// Links were cut once more: coming back must cost nearly nothing.
    Reconnect,
}

pub struct World<'g> {
    pub options: Options,
    pub ground: &'g Ground,
    pub hub_exchange: ExchangeSecret,
    pub memory: std::slice::ChunksExactMut<'g, u8>,
    pub now: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    next_number: u64,
    /// Of the network.
    pub random: Random,
    pub fate: Random,
    pub trace: Trace,
    pub counts: Counts,
    pub devices: Vec<Device<'g>>,
    pub ids: Vec<DeviceId>,
    pub hub: HubNode,
    pub broker: Broker,
    pub connections: BTreeMap<u32, Connection>,
    pub next_connection: u32,
    pub links: BTreeMap<Client, Link>,
    pub operator: Operator,
    pub phase: Phase,
    pub active: BTreeMap<u32, (Fault, usize)>,
    pub next_fault: u32,
    pub violation: Option<String>,
    pub judge: super::liveness::Judge,
}

impl<'g> World<'g> {
    pub fn new(options: Options, ground: &'g Ground, memory: &'g mut [u8]) -> Self {
        let mut random = Random::new(options.seed);
        let devices: Vec<Device<'g>> = ground
            .identities
            .iter()
            .enumerate()
            .map(|(index, (identity, exchange))| new_device(index, identity, *exchange, random.fork()))
            .collect();
        let ids = devices.iter().map(|device| device.id).collect();
        let operator = Operator::new(random.fork(), options.devices);
        Self {
            hub_exchange: ExchangeSecret::from_seed(ground.hub_exchange_seed),
            memory: memory.chunks_exact_mut(BOOT_BYTES),
            now: 0,
            queue: BinaryHeap::new(),
            next_number: 0,
            fate: random.fork(),
            random,
            trace: Trace::new(options.story),
            counts: Counts::default(),
            devices,
            ids,
            hub: HubNode {
                engine: None,
                durable: Durable::default(),
                queue: Queue::default(),
                life: 0,
                connection: None,
                is_linked: false,
                wake_ms: None,
                commit_slow: 0,
                disk_full: 0,
            },
            broker: Broker::new(),
            connections: BTreeMap::new(),
            next_connection: 1,
            links: BTreeMap::new(),
            operator,
            phase: Phase::Safety,
            active: BTreeMap::new(),
            next_fault: 1,
            violation: None,
            judge: super::liveness::Judge::default(),
            options,
            ground,
        }
    }

    pub fn setting(&self, device: usize) -> Setting<'g> {
        Setting {
            fleet: FLEET,
            pair_key: &self.ground.pair_keys[device],
            hub_key: self.ground.signer.public_key(),
            verifier: &*self.ground.verifier,
        }
    }

    pub fn schedule(&mut self, at: u64, event: Event) {
        let number = self.next_number;
        self.next_number += 1;
        self.queue.push(Reverse(Scheduled { at: at.max(self.now), number, event }));
    }

    pub fn after(&mut self, ms: u64, event: Event) {
        self.schedule(self.now.saturating_add(ms), event);
    }

    /// The first violation ends the run.
    pub fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            let text = what();
            self.trace.say(self.now, || format!("VIOLATION {text}"));
            self.violation = Some(text);
        }
    }

    pub fn say(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.trace.is_told() {
            let text = line(self);
            self.trace.say(self.now, || text);
        }
    }

    /// Until the end of all phases, or the first violation.
    pub fn run(&mut self) {
        self.schedule(0, Event::HubStart);
        self.schedule(1_000, Event::Operator);
        self.schedule(120_000, Event::Fault);
        self.schedule(30_000, Event::BrokerSaves);
        self.schedule(self.options.minutes * 60_000, Event::Look);
        while let Some(Reverse(scheduled)) = self.queue.pop() {
            self.now = scheduled.at;
            self.trace.events += 1;
            if self.trace.events > EVENTS_MAX {
                self.fail(|| format!("a storm: more than {EVENTS_MAX} events"));
            }
            self.take(scheduled.event);
            if self.violation.is_some() || self.judge.is_done {
                return;
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::DeviceWake { device, life } => self.device_wake(device, life),
            Event::PowerOn { device, reset } => self.device_power_on(device, reset),
            Event::JoinTry { device } => self.join_try(device),
            Event::Arrives { connection, way, packet } => self.arrives(connection, way, packet),
            Event::Silence { client, since } => self.silence(client, since),
            Event::FlashDone { device, life, fails } => self.flash_done(device, life, fails),
            Event::PowerFails { device, life } => self.power_fails(device, life),
            Event::Fetched { device, life, content, digest, failure } => {
                self.fetched(device, life, content, digest, failure)
            }
            Event::Runtime { device, life, launch, step } => self.runtime_step(device, life, launch, step),
            Event::HubWake { life } => self.hub_wake(life),
            Event::HubStart => self.hub_start(),
            Event::HubConnect { life } => self.hub_connect(life),
            Event::HubSilence { connection } => self.hub_silence(connection),
            Event::HubRefused { life, publication } => self.hub_refused(life, publication),
            Event::Written { life } => self.written(life),
            Event::BrokerStart => self.broker_start(),
            Event::BrokerSaves => {
                self.broker.saved = self.broker.retained.clone();
                let pause = self.fate.between(30_000, 300_000);
                self.after(pause, Event::BrokerSaves);
            }
            Event::Operator => self.operator_turn(),
            Event::Fault => self.fault_turn(),
            Event::Heal { number } => self.heal(number),
            Event::Look => self.look(),
        }
    }
}

fn new_device<'g>(index: usize, identity: &[u8; 32], exchange: [u8; 32], mut random: Random) -> Device<'g> {
    let identity = Ed25519Key::from_seed(identity);
    let id = DeviceId::of_key(&identity.public_key().0);
    let longitude_e7 = i32::try_from(random.below(400_000_000)).unwrap_or(0);
    let latitude_e7 = 400_000_000 + i32::try_from(random.below(200_000_000)).unwrap_or(0);
    Device {
        name: format!("dev-{index}"),
        id,
        identity,
        exchange: ExchangeSecret::from_seed(exchange),
        drift_ppm: i64::try_from(random.below(400)).unwrap_or(0) - 200,
        position: Position { longitude_e7, latitude_e7, uncertainty_m: 50 },
        join: Join::Outside,
        agent: None,
        life: 0,
        boot_ms: 0,
        wake_ms: None,
        flash: Flash::default(),
        store: BTreeSet::new(),
        runtime: Runtime::default(),
        connection: None,
        trouble: Default::default(),
        random,
        seen: Seen::default(),
    }
}
