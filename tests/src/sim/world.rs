//! The simulated world: one clock, one queue of events, one source of chance; the real hub engine and real agent machines in it.
//!
//! Nothing happens but by an event of the queue, and equal times are taken in the order in which they were asked for, so that
//! a seed is a run. The parts of the world are in the other files of this folder; here is only what they share.
use super::coverage::Coverage;
use super::device::{BOOT_BYTES, Device, Setting};
use super::disk::{Durable, Queue};
use super::fault::{Allowed, Counts, FAULTS, Fault};
use super::network::{Broker, Client, Connection, Link, Packet, Way};
use super::operator::Operator;
use super::random::Random;
use super::runtime::Step;
use super::secrets::Heard;
use super::signature::{HashSigner, HashVerifier};
use super::strike::Kill;
use super::trace::{Story, Trace};
use agent_nostd::machine::port::{Content, FetchFailure, LaunchId, Ticket};
use hub::engine::Engine;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use wire::dalek::{Ed25519, Ed25519Key, ExchangeSecret};
use wire::hello::ResetCause;
use wire::sign::{PublicKey, Sign, Verify};
use wire::topic::Topic;
use wire::{DeviceId, Digest, PairKey};

pub const FLEET: &str = "sim";
/// Boots of all devices in one run for which there is memory: so many at least, and so many per device and day.
const BOOTS_MIN: usize = 512;
const BOOTS_PER_DEVICE_DAY: usize = 40;
/// 2026-01-01.
pub const WALL_START_MS: u64 = 1_767_225_600_000;
/// Events of one run; more is a storm.
const EVENTS_MIN: u64 = 4_000_000;
const EVENTS_PER_DEVICE_DAY: u64 = 200_000;
const MINUTES_PER_DAY: u64 = 24 * 60;

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

/// Which faults come, by their number in the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub from: u64,
    /// Not included.
    pub to: u64,
    /// Of a window that is not longer than the bits: which of its faults.
    pub bits: u64,
}

impl Window {
    pub const ALL: Self = Self { from: 0, to: u64::MAX, bits: u64::MAX };

    pub fn contains(&self, number: u64) -> bool {
        let is_chosen = |bit: u64| self.to - self.from > u64::from(u64::BITS) || self.bits >> bit & 1 == 1;
        (self.from..self.to).contains(&number) && is_chosen(number - self.from)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub seed: u64,
    pub devices: usize,
    /// How long faults come.
    pub minutes: u64,
    pub allowed: Allowed,
    /// Days, not minutes: everything that is drawn at random comes less often, and lasts longer now and then.
    pub is_long: bool,
    /// Which of the faults that are drawn come.
    pub window: Window,
    pub story: Story,
    pub plant: Plant,
}

impl Options {
    /// A run of the suite: a fleet over a week.
    pub fn week(seed: u64) -> Self {
        Self { devices: 20, minutes: 7 * MINUTES_PER_DAY, is_long: true, ..Self::of_seed(seed) }
    }

    /// A run of a night: larger and longer, drawn from its seed.
    pub fn night(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x6e69_6768);
        let devices = 10 + random.index(41);
        Self { devices, minutes: random.between(5, 30) * MINUTES_PER_DAY, is_long: true, ..Self::of_seed(seed) }
    }

    /// Devices times days, and one more for each device.
    fn device_days(&self) -> u64 {
        self.devices as u64 * (1 + self.minutes / MINUTES_PER_DAY)
    }

    pub fn boots_max(&self) -> usize {
        let days = usize::try_from(self.device_days()).unwrap_or(usize::MAX);
        BOOTS_MIN.max(days.saturating_mul(BOOTS_PER_DEVICE_DAY))
    }

    pub fn events_max(&self) -> u64 {
        EVENTS_MIN.max(self.device_days() * EVENTS_PER_DEVICE_DAY)
    }

    /// Size and length of a short run, drawn from its seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5151);
        let devices = 3 + random.index(6);
        let minutes = random.between(30, 90);
        Self {
            seed,
            devices,
            minutes,
            allowed: Allowed::ALL,
            is_long: false,
            window: Window::ALL,
            story: Story::Off,
            plant: Plant::Nothing,
        }
    }
}

/// What the machines borrow for the length of a run.
pub struct Ground {
    pub pair_keys: Vec<PairKey>,
    pub verifier: Box<dyn Verify + Sync>,
    pub signer: Box<dyn Sign>,
    /// What the signer was made from, where signatures are real ones.
    pub signing_seed: [u8; 32],
    /// Signatures are real ones.
    pub is_real: bool,
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
        let is_real = options.seed % 20 == 3;
        let signing_seed = random.bytes();
        let (signer, verifier): (Box<dyn Sign>, Box<dyn Verify + Sync>) = if is_real {
            (Box::new(Ed25519Key::from_seed(&signing_seed)), Box::new(Ed25519))
        } else {
            (Box::new(HashSigner(PublicKey(signing_seed))), Box::new(HashVerifier))
        };
        Self { pair_keys, verifier, signer, signing_seed, is_real, hub_exchange_seed, identities }
    }

    /// Memory for the machines of all boots. The system gives only what is used.
    pub fn memory(options: &Options) -> Vec<u8> {
        vec![0; options.boots_max() * BOOT_BYTES]
    }
}

#[derive(Clone, Debug)]
pub enum Event {
    DeviceWake { device: usize, life: u32 },
    PowerOn { device: usize, reset: ResetCause },
    JoinTry { device: usize },
    Arrives { connection: u32, way: Way, packet: Packet },
    LinkLost { client: Client, connection: u32 },
    Late { client: Client, topic: Topic, payload: Vec<u8> },
    Silence { client: Client, since: u64 },
    FlashDone { device: usize, life: u32, ticket: Ticket, fails: bool },
    PowerFails { device: usize, life: u32 },
    Fetched { device: usize, life: u32, content: Content, digest: Digest, failure: Option<FetchFailure> },
    Runtime { device: usize, life: u32, launch: LaunchId, step: Step },
    Back { device: usize, life: u32, key: super::record::Key },
    HubWake { life: u32 },
    HubStart,
    HubConnect { life: u32 },
    HubSilence { connection: u32 },
    HubRefused { life: u32, publication: u64 },
    Written { life: u32 },
    AccountTaken { life: u32 },
    RivalOperator { life: u32 },
    BrokerStart,
    BrokerSaves,
    Operator,
    Glance { workload: usize, device: usize },
    Fault,
    Heal { number: u32 },
    Flap { device: usize, until: u64, is_down: bool },
    Clog { device: usize, ms: u64 },
    AgentDies { device: usize, life: u32 },
    ClockSet,
    BackUp,
    GiveUp { life: u32, ticket: u64 },
    Took { life: u32, ticket: u64 },
    Look,
}

/// What is to happen, by time. The events lie apart, so that sorting moves small things.
#[derive(Default)]
struct Agenda {
    due: BinaryHeap<Reverse<(u64, u64, u32)>>,
    events: Vec<Option<Event>>,
    free: Vec<u32>,
    next_number: u64,
}

impl Agenda {
    fn push(&mut self, at: u64, event: Event) {
        let place = match self.free.pop() {
            Some(place) => {
                self.events[place as usize] = Some(event);
                place
            }
            None => {
                self.events.push(Some(event));
                (self.events.len() - 1) as u32
            }
        };
        self.due.push(Reverse((at, self.next_number, place)));
        self.next_number += 1;
    }

    fn pop(&mut self) -> Option<(u64, Event)> {
        let Reverse((at, _, place)) = self.due.pop()?;
        self.free.push(place);
        self.events[place as usize].take().map(|event| (at, event))
    }
}

/// The hub's process.
pub struct HubNode {
    pub client: Client,
    pub engine: Option<Engine>,
    pub durable: Durable,
    pub queue: Queue,
    pub life: u32,
    pub connection: Option<u32>,
    pub is_linked: bool,
    pub wake_ms: Option<u64>,
    pub commit_slow: u32,
    pub disk_full: u32,
    /// Its process ends at a step of this kind.
    pub kill: Option<Kill>,
    /// Its process stands still, and this is what waits for it.
    pub paused: u32,
    pub held: Vec<Event>,
    pub wall_offset_ms: i64,
    /// When its clock jumped last.
    pub jumped_ms: Option<u64>,
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
    agenda: Agenda,
    /// Of the network.
    pub random: Random,
    pub fate: Random,
    /// When which fault comes; nothing else draws from it.
    pub weather: Random,
    pub trace: Trace,
    pub counts: Counts,
    pub coverage: Coverage,
    pub devices: Vec<Device<'g>>,
    pub ids: Vec<DeviceId>,
    pub hub: HubNode,
    /// A second one on a copy of the database, and what is known of the two.
    pub rival: Option<Box<HubNode>>,
    pub contest: super::rival::Contest,
    /// Of the hubs' processes, which have numbers of one row.
    pub hub_lives: u32,
    pub broker: Broker,
    pub connections: BTreeMap<u32, Connection>,
    pub next_connection: u32,
    /// Room for the numbers of who gets a message, used again and again.
    pub receivers: Vec<u32>,
    pub links: BTreeMap<Client, Link>,
    pub operator: Operator,
    pub phase: Phase,
    pub active: BTreeMap<u32, (Fault, usize)>,
    pub next_fault: u32,
    /// When each kind struck last.
    pub recent: [Option<u64>; FAULTS],
    /// Processes that stand still.
    pub paused: u32,
    /// Artifacts whose components trap soon, by fault.
    pub backup: Option<Box<Durable>>,
    pub has_restored: bool,
    pub leases: super::lease::Leases,
    pub crash_loops: Vec<(u32, Digest)>,
    pub secrets: super::secrets::Secrets,
    pub violation: Option<String>,
    pub judge: super::liveness::Judge,
}

impl<'g> World<'g> {
    /// `heard`: where lines of the logs are found, if somebody listens.
    pub fn new(options: Options, ground: &'g Ground, memory: &'g mut [u8], heard: Option<Heard>) -> Self {
        let mut random = Random::new(options.seed);
        let devices: Vec<Device<'g>> = ground
            .identities
            .iter()
            .enumerate()
            .map(|(index, (identity, exchange))| Device::new(index, identity, *exchange, random.fork()))
            .collect();
        let ids = devices.iter().map(|device| device.id).collect();
        let operator = Operator::new(random.fork(), options.devices, options.is_long);
        Self {
            hub_exchange: ExchangeSecret::from_seed(ground.hub_exchange_seed),
            memory: memory.chunks_exact_mut(BOOT_BYTES),
            now: 0,
            agenda: Agenda::default(),
            fate: random.fork(),
            weather: random.fork(),
            random,
            trace: Trace::new(options.story),
            counts: Counts::default(),
            coverage: Coverage::default(),
            devices,
            ids,
            hub: HubNode::new(Client::Hub, Durable::default()),
            rival: None,
            contest: super::rival::Contest::default(),
            hub_lives: 0,
            broker: Broker::new(),
            connections: BTreeMap::new(),
            next_connection: 1,
            receivers: Vec::new(),
            links: BTreeMap::new(),
            operator,
            phase: Phase::Safety,
            active: BTreeMap::new(),
            next_fault: 1,
            recent: [None; FAULTS],
            paused: 0,
            backup: None,
            has_restored: false,
            leases: super::lease::Leases::default(),
            crash_loops: Vec::new(),
            secrets: super::secrets::Secrets::of(ground, heard),
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
        self.agenda.push(at.max(self.now), event);
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
        self.schedule(3_600_000, Event::BackUp);
        self.schedule(30_000, Event::BrokerSaves);
        self.schedule(self.options.minutes * 60_000, Event::Look);
        while let Some((at, event)) = self.agenda.pop() {
            self.now = at;
            self.trace.events += 1;
            let most = self.options.events_max();
            if self.trace.events > most {
                self.fail(|| format!("a storm: more than {most} events"));
            }
            self.take(event);
            self.judge_logs();
            if self.violation.is_some() || self.judge.is_done {
                return;
            }
        }
    }

    /// What a process that stands still would have been told waits for it.
    pub fn hold(&mut self, event: Event) -> Option<Event> {
        if self.paused == 0 {
            return Some(event);
        }
        let client = match &event {
            Event::DeviceWake { device, .. }
            | Event::PowerOn { device, .. }
            | Event::FlashDone { device, .. }
            | Event::Fetched { device, .. }
            | Event::Runtime { device, .. } => Some(Client::Device(*device)),
            Event::LinkLost { client, .. } => Some(*client),
            Event::Arrives { connection, way: Way::Down, .. } => self.connections.get(connection).map(|c| c.client),
            Event::HubWake { .. }
            | Event::HubStart
            | Event::HubConnect { .. }
            | Event::HubSilence { .. }
            | Event::HubRefused { .. }
            | Event::GiveUp { .. }
            | Event::Took { .. }
            | Event::Written { .. }
            | Event::AccountTaken { .. }
            | Event::Operator
            | Event::Glance { .. } => Some(Client::Hub),
            _ => None,
        };
        match client {
            Some(Client::Device(device)) if self.devices[device].trouble.paused > 0 => {
                self.devices[device].held.push(event);
                None
            }
            Some(Client::Hub) if self.hub.paused > 0 && !self.is_of_rival(&event) => {
                self.hub.held.push(event);
                None
            }
            _ => Some(event),
        }
    }

    fn take(&mut self, event: Event) {
        let Some(event) = self.hold(event) else { return };
        if self.rival.is_some() && self.is_of_rival(&event) {
            return self.as_rival(|world| world.take_one(event));
        }
        self.take_one(event);
    }

    fn take_one(&mut self, event: Event) {
        match event {
            Event::DeviceWake { device, life } => self.device_wake(device, life),
            Event::PowerOn { device, reset } => self.device_power_on(device, reset),
            Event::JoinTry { device } => self.join_try(device),
            Event::Arrives { connection, way, packet } => self.arrives(connection, way, packet),
            Event::LinkLost { client, connection } => self.link_lost(connection, client),
            Event::Late { client, topic, payload } => self.arrives_late(client, topic, payload),
            Event::Silence { client, since } => self.silence(client, since),
            Event::FlashDone { device, life, ticket, fails } => self.flash_done(device, life, ticket, fails),
            Event::PowerFails { device, life } => self.power_fails(device, life),
            Event::Fetched { device, life, content, digest, failure } => {
                self.fetched(device, life, content, digest, failure)
            }
            Event::Runtime { device, life, launch, step } => self.runtime_step(device, life, launch, step),
            Event::Back { device, life, key } => self.judge_back(device, life, key),
            Event::HubWake { life } => self.hub_wake(life),
            Event::HubStart => self.hub_start(),
            Event::HubConnect { life } => self.hub_connect(life),
            Event::HubSilence { connection } => self.hub_silence(connection),
            Event::HubRefused { life, publication } => self.hub_refused(life, publication),
            Event::Written { life } => self.written(life),
            Event::AccountTaken { life } => self.account_taken(life),
            Event::RivalOperator { life } => self.rival_operator(life),
            Event::BrokerStart => self.broker_start(),
            Event::BrokerSaves => {
                self.broker.saved = self.broker.retained.clone();
                let pause = self.fate.between(30_000, 300_000);
                self.after(pause, Event::BrokerSaves);
            }
            Event::Operator => self.operator_turn(),
            Event::Glance { workload, device } => self.glance(workload, device),
            Event::Fault => self.fault_turn(),
            Event::Heal { number } => self.heal(number),
            Event::Flap { device, until, is_down } => self.flap(device, until, is_down),
            Event::Clog { device, ms } => self.clog(device, ms),
            Event::AgentDies { device, life } => self.agent_dies_soon(device, life),
            Event::ClockSet if self.phase == Phase::Safety => self.clock_shows(0),
            Event::ClockSet => {}
            Event::BackUp => self.back_up(),
            Event::GiveUp { life, ticket } => self.give_up(life, ticket),
            Event::Took { life, ticket } => self.took(life, ticket),
            Event::Look => self.look(),
        }
    }
}
