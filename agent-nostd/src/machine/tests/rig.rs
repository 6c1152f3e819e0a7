//! A device's shell and a tiny hub, scripted, on virtual time: executes effects, answers them, and looks at the world.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use crate::journal::{self, Next};
use crate::machine::Agent;
use crate::machine::port::*;
use crate::machine::random::Random;
use crate::machine::time::{Duration, Instant};
use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::string::{String, ToString};
use std::vec::Vec;
use wire::clause::Clause;
use wire::dalek::{Ed25519, Ed25519Key};
use wire::desired::{ClassLimits, Header};
use wire::event::{Fenced, Log};
use wire::frame::{decode_live, encode_live, open_live};
use wire::grant::{Grant, Released};
use wire::hello::*;
use wire::id::{Nonce, Order, Revision, Session, WorkloadId};
use wire::record::{BodyWriter, CapabilitySet, Core, Role, Runtime};
use wire::sample::{Class, Samples, SamplesFixed, Taken};
use wire::sign::Sign;
use wire::status::{Entry, Reason, State, Status, StatusFixed};
use wire::topic::{Down, Up};
use wire::transfer::{Need, Want};
use wire::{BootId, DeviceId, Digest, Fence, Kind, LiveContext, PairKey};

pub const FLEET: &str = "north";
pub const DEVICE: DeviceId = DeviceId([7; 16]);
pub const SLOTS: usize = 8;
const BODY: usize = 16 * 1024;
pub static PAIR_KEY: PairKey = PairKey([9; 32]);
static VERIFIER: Ed25519 = Ed25519;

pub type Machine = Agent<'static, SLOTS>;

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub fn revision(counter: u64) -> Revision {
    Revision(Order::new(1, counter).unwrap())
}

/// What an artifact does when it runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Behaviour {
    Runs,
    FailsToStart,
    TrapsAfter(u64),
    CompletesAfter(u64),
    /// Never answers `Start`.
    Silent,
    /// Never answers `Activate`.
    Sleeps,
    /// Takes the agent down with it as soon as it starts.
    CrashesTheAgent,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Disk {
    Good,
    Full,
    Silent,
}

#[derive(Clone)]
pub struct Component {
    pub core: Core,
    pub clauses: Vec<Clause<'static>>,
}

pub fn artifact(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

pub fn service(workload: u32, component: u8, code: &str) -> Component {
    Component {
        core: Core {
            workload: WorkloadId(workload),
            component,
            generation: 1,
            role: Role::Service,
            runtime: Runtime::Function,
            artifact: artifact(code),
            artifact_bytes: 100,
            memory_bytes: 1000,
            fuel: 1000,
            instances: 1,
            capabilities: CapabilitySet::LOG,
        },
        clauses: Vec::new(),
    }
}

impl Component {
    pub fn role(mut self, role: Role) -> Self {
        self.core.role = role;
        self
    }

    pub fn generation(mut self, generation: u32) -> Self {
        self.core.generation = generation;
        self
    }

    pub fn with(mut self, clause: Clause<'static>) -> Self {
        self.clauses.push(clause);
        self
    }
}

pub fn body(components: &[Component]) -> Vec<u8> {
    let mut buffer = std::vec![0; 128 * 1024];
    let mut writer = BodyWriter::new(&mut buffer, components.len() as u16).unwrap();
    components.iter().for_each(|component| writer.record(&component.core, &component.clauses).unwrap());
    writer.finish().to_vec()
}

/// A signed set, as the hub would publish it.
#[derive(Clone)]
pub struct Set {
    pub header: Header,
    pub frame: Vec<u8>,
    pub body: Vec<u8>,
}

pub fn hub_key() -> Ed25519Key {
    Ed25519Key::from_seed(&[3; 32])
}

pub fn set_of_body(counter: u64, body: Vec<u8>) -> Set {
    signed_set(counter, body, ClassLimits { records: 8, memory_bytes: 1 << 20 }, DEVICE, &hub_key())
}

pub fn signed_set(counter: u64, body: Vec<u8>, limits: ClassLimits, device: DeviceId, key: &Ed25519Key) -> Set {
    let header = Header::of(revision(counter), &body, limits).unwrap();
    let signed = header.sign(key, FLEET, device).unwrap();
    let mut buffer = std::vec![0; 130 * 1024];
    let frame = signed.encode(&mut buffer, &body).unwrap().to_vec();
    Set { header, frame, body }
}

pub fn set(counter: u64, components: &[Component]) -> Set {
    set_of_body(counter, body(components))
}

/// One slot file pair per key, as `journal` wants it.
#[derive(Clone, Default)]
pub struct Store {
    pub slots: BTreeMap<u8, [Vec<u8>; 2]>,
}

impl Store {
    pub fn value(&self, key: JournalKey) -> Option<&[u8]> {
        let [a, b] = self.slots.get(&(key as u8))?;
        journal::pick(key, a, b).map(|picked| picked.value)
    }

    /// What was written of this key since `earlier` is half there.
    pub fn tear(&mut self, earlier: &Store, key: JournalKey) {
        let old = earlier.slots.get(&(key as u8)).cloned().unwrap_or_default();
        let Some(slots) = self.slots.get_mut(&(key as u8)) else { return };
        for (slot, old) in slots.iter_mut().zip(old) {
            if *slot != old {
                let keep = slot.len() / 2;
                slot.truncate(keep);
                slot.extend(old.iter().skip(keep));
            }
        }
    }

    /// Where the next value goes, and the bytes that will be there.
    pub fn prepare(&self, key: JournalKey, value: &[u8]) -> (usize, Vec<u8>) {
        let empty = [Vec::new(), Vec::new()];
        let [a, b] = self.slots.get(&(key as u8)).unwrap_or(&empty);
        let next = Next::after(journal::pick(key, a, b).as_ref());
        let mut bytes = journal::seal(key, next.sequence, value).to_vec();
        bytes.extend_from_slice(value);
        (next.slot as usize, bytes)
    }

    pub fn write(&mut self, key: JournalKey, value: &[u8]) {
        let (slot, bytes) = self.prepare(key, value);
        self.slots.entry(key as u8).or_default()[slot] = bytes;
    }

    pub fn restored(&self) -> Restored<'_> {
        Restored {
            accepted: self.value(JournalKey::Accepted),
            last_good: self.value(JournalKey::LastGood),
            boot: self.value(JournalKey::Boot),
            attempts: self.value(JournalKey::Attempts),
            clock: self.value(JournalKey::Clock),
            alarms: self.value(JournalKey::Alarms),
        }
    }
}

/// A memory in place of the rig's own, which may lose its power.
pub trait Keeper {
    fn persist(&mut self, key: JournalKey, value: &[u8]) -> Result<(), PersistFailure>;
    fn fetch(&mut self, digest: &Digest, source: Source) -> Result<(), FetchFailure>;
    fn collect(&mut self, is_kept: &mut dyn FnMut(&Digest) -> bool);
    fn is_off(&self) -> bool;
    /// What is there after a start.
    fn restored(&mut self) -> (Store, BTreeSet<Digest>);
}

/// An input with its bytes, due later.
#[derive(Clone, Debug)]
pub enum Answer {
    LinkUp,
    LinkDown,
    Subscribed(Subscription),
    Message(Inbound, Vec<u8>),
    Acknowledged(Ticket),
    Persisted(Ticket),
    PersistFailed(Ticket),
    Fetched(Digest),
    BodyFetched(Digest, Vec<u8>),
    FetchFailed(Content, Digest, FetchFailure),
    Started(LaunchId),
    StartFailed(LaunchId),
    Stopped(LaunchId),
    Exited(LaunchId, Exit),
    Activated(LaunchId),
    Crash,
}

/// What the shell did, for the tests to look at.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    Connect,
    Disconnect,
    Subscribe(Subscription),
    Hello(HelloFixed, bool, bool),
    Status,
    Heartbeat,
    Persist(JournalKey),
    Fetch(Digest, Source),
    Start(u32, u8, Digest),
    Stop(u32, u8),
    Activate(u32, u8),
    Deliver(u32, u8, String, Vec<u8>),
    Need(u32),
    Released(u32, u64),
    Collect,
}

/// What the hub granted last.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    pub boot: BootId,
    pub counter: u64,
    pub at: Instant,
    pub is_given_back: bool,
}

#[derive(Clone, Debug)]
pub struct Run {
    pub workload: u32,
    pub component: u8,
    pub artifact: Digest,
}

#[derive(Clone, Debug)]
pub struct SeenEntry {
    pub workload: u32,
    pub component: u8,
    pub generation: u32,
    pub running: u32,
    pub state: State,
    pub reason: Reason,
    pub detail: String,
}

pub struct Rig {
    pub agent: Machine,
    pub now: Instant,
    boots: u8,
    pub reset: ResetCause,
    pub answers: Vec<(Instant, Answer)>,
    pub store: Store,
    pub disk: Disk,
    pub keeper: Option<Box<dyn Keeper>>,
    pub artifacts: BTreeSet<Digest>,
    /// What the network serves; everything if `None`.
    pub served: Option<BTreeSet<Digest>>,
    pub bodies: BTreeMap<Digest, Vec<u8>>,
    pub behaviours: BTreeMap<Digest, Behaviour>,
    pub running: BTreeMap<LaunchId, Run>,
    /// What each launch was told last.
    pub terms: BTreeMap<LaunchId, Terms>,
    pub done: Vec<(Instant, Done)>,
    /// What each Hello said of a gateway.
    pub gateways: Vec<Option<DeviceId>>,
    /// Each start: the revision that was accepted then, workload, component.
    pub starts: Vec<(u64, u32, u8)>,
    pub collects: bool,
    // The broker.
    pub broker_up: bool,
    pub acknowledges: bool,
    pub retained: Option<Vec<u8>>,
    pub cuts_after_desired: bool,
    is_desired_subscribed: bool,
    link: u32,
    // The hub.
    pub hub_up: bool,
    pub set: Option<Set>,
    pub publishes: bool,
    pub refuses: Option<(RefusalReason, u32)>,
    pub session: u32,
    pub asks: Asks,
    pub heartbeat_s: u16,
    pub status: Option<(StatusFixed, Vec<SeenEntry>)>,
    pub logs: Vec<(u32, String)>,
    pub events: Vec<(u32, String, Vec<u8>)>,
    /// The fence that each event carried.
    pub event_fences: Vec<Option<Fence>>,
    /// By workload; a right is for so long, and asks that come too early are not answered.
    pub granted: BTreeMap<u32, Granted>,
    pub lease_ms: u32,
    pub grants: bool,
    pub grant_delay: Duration,
    /// Every grant that was sent.
    pub grants_sent: Vec<Vec<u8>>,
    /// Every question for a right, with when it was sent.
    pub nonces: Vec<(Instant, Nonce)>,
    /// Milliseconds that each workload existed, by the world's clock.
    pub ran_ms: BTreeMap<u32, u64>,
    pub wall_ms: u64,
    /// Frames of samples, and their records: class, sequence, key, value.
    pub frames: Vec<(Instant, SamplesFixed)>,
    pub samples: Vec<(Class, u32, String, String)>,
    /// The hub says which alarms it took.
    pub takes: bool,
    pub boot: BootId,
    pub polls: u64,
}

fn buffer(bytes: usize) -> &'static mut [u8] {
    Box::leak(std::vec![0; bytes].into_boxed_slice())
}

pub fn capabilities() -> Capabilities<'static> {
    Capabilities {
        class: DeviceClass::Gateway,
        architecture: Architecture::X86_64,
        agent_version: "test",
        features: Features::FUNCTION.union(Features::BOOT_CLOCK),
        interfaces: CapabilitySet::LOG.union(CapabilitySet::EMIT),
        records: 64,
        body_bytes: 1 << 20,
        memory_bytes: 1 << 20,
        storage_bytes: 1 << 30,
    }
}

pub fn machine(now: Instant, seed: u8, reset: ResetCause, restored: Restored<'_>) -> Machine {
    let (config, buffers) = parts(seed, reset);
    Agent::new(now, config, buffers, restored)
}

pub fn parts(seed: u8, reset: ResetCause) -> (Config<'static>, Buffers<'static>) {
    let config = Config {
        fleet: FLEET,
        device: DEVICE,
        pair_key: &PAIR_KEY,
        hub_key: hub_key().public_key(),
        verifier: &VERIFIER,
        capabilities: capabilities(),
        packet_bytes_max: 64 * 1024,
        reset,
        last_end: None,
        keep_alive: KEEP_ALIVE,
        drift_ppm: wire::lease::DRIFT_PPM_MAX,
        stop_latency: ms(100),
        random: Random::new([seed; 32]),
    };
    let buffers = Buffers {
        current: buffer(BODY + SET_OVERHEAD_BYTES),
        last_good: buffer(BODY + SET_OVERHEAD_BYTES),
        incoming: buffer(BODY + SET_OVERHEAD_BYTES),
        outgoing: buffer(4096),
        logs: buffer(2048),
        events: buffer(2048),
        alarms: buffer(1024),
        states: buffer(1024),
        metrics: buffer(2048),
        inputs: buffer(2048),
    };
    (config, buffers)
}

impl Rig {
    pub fn new() -> Self {
        Self::with_store(Store::default(), BTreeSet::new())
    }

    /// A microcontroller without anything in its flash.
    pub fn of_microcontroller() -> Self {
        let mut rig = Self::new();
        let (mut config, buffers) = parts(1, ResetCause::PowerOn);
        config.capabilities.class = DeviceClass::Mcu;
        rig.agent = Agent::new(rig.now, config, buffers, Restored::default());
        rig.boot = rig.agent.boot();
        rig
    }

    pub fn with_store(store: Store, artifacts: BTreeSet<Digest>) -> Self {
        let now = Instant::from_ms(1000);
        let agent = machine(now, 1, ResetCause::PowerOn, store.restored());
        let boot = agent.boot();
        Self {
            agent,
            now,
            boots: 1,
            reset: ResetCause::Panic,
            answers: Vec::new(),
            store,
            disk: Disk::Good,
            keeper: None,
            artifacts,
            served: None,
            bodies: BTreeMap::new(),
            behaviours: BTreeMap::new(),
            running: BTreeMap::new(),
            terms: BTreeMap::new(),
            gateways: Vec::new(),
            done: Vec::new(),
            starts: Vec::new(),
            collects: true,
            broker_up: true,
            acknowledges: true,
            retained: None,
            cuts_after_desired: false,
            is_desired_subscribed: false,
            link: 0,
            hub_up: true,
            set: None,
            publishes: true,
            refuses: None,
            session: 1,
            asks: Asks::default(),
            heartbeat_s: 30,
            status: None,
            logs: Vec::new(),
            events: Vec::new(),
            event_fences: Vec::new(),
            granted: BTreeMap::new(),
            lease_ms: 60_000,
            grants: true,
            grant_delay: ms(2),
            grants_sent: Vec::new(),
            nonces: Vec::new(),
            ran_ms: BTreeMap::new(),
            wall_ms: 1_700_000_000_000,
            frames: Vec::new(),
            samples: Vec::new(),
            takes: true,
            boot,
            polls: 0,
        }
    }

    /// A reset: the journal and the artifacts stay, nothing else does.
    pub fn reboot(&mut self, reset: ResetCause) {
        self.boots += 1;
        self.now = self.now.after(ms(100));
        self.answers.clear();
        self.running.clear();
        self.is_desired_subscribed = false;
        if let Some(keeper) = self.keeper.as_mut() {
            (self.store, self.artifacts) = keeper.restored();
        }
        self.agent = machine(self.now, self.boots, reset, self.store.restored());
        self.boot = self.agent.boot();
    }

    pub fn artifact_does(&mut self, code: &str, behaviour: Behaviour) {
        self.behaviours.insert(artifact(code), behaviour);
    }

    fn outside(&self) -> LiveContext<'static> {
        LiveContext::outside(FLEET, DEVICE, self.boot)
    }

    pub fn inside(&self) -> LiveContext<'static> {
        LiveContext { session: Session(self.session), ..self.outside() }
    }

    pub fn later(&mut self, delay: Duration, answer: Answer) {
        self.answers.push((self.now.after(delay), answer));
    }

    pub fn down(&mut self, down: Down, payload: Vec<u8>) {
        self.later(ms(2), Answer::Message(Inbound::Down(down), payload));
    }

    /// The hub changes its mind, and says so if it can.
    pub fn publish(&mut self, set: Set) {
        self.bodies.insert(set.header.body, set.body.clone());
        self.retained = Some(set.frame.clone());
        if self.is_desired_subscribed && self.broker_up && self.hub_up {
            self.down(Down::Desired, set.frame.clone());
        }
        self.set = Some(set);
    }

    pub fn live<T: wire::frame::Body>(&self, context: &LiveContext<'_>, value: &T) -> Vec<u8> {
        let mut buffer = [0; 2048];
        encode_live(&mut buffer, &PAIR_KEY, context, value).unwrap().to_vec()
    }

    pub fn fresh(&self, nonce: Nonce) -> Vec<u8> {
        let header = self.set.as_ref().map(|set| set.header);
        let fresh = Fresh {
            nonce,
            revision: header.map_or(Revision::default(), |header| header.revision),
            digest: header.map_or_else(Default::default, |header| header.body.prefix()),
            time_ms: self.wall_ms,
            session: Session(self.session),
            heartbeat_s: self.heartbeat_s,
            asks: self.asks,
        };
        self.live(&self.outside(), &fresh)
    }

    pub fn input(&mut self, sequence: u32, workload: u32, topic: &str, payload: &[u8]) {
        let input = wire::event::Input { sequence, workload: WorkloadId(workload), fence: None, topic, payload };
        let frame = self.live(&self.inside(), &input);
        self.down(Down::Input, frame);
    }

    pub fn fenced_input(&mut self, sequence: u32, workload: u32, of: u32, counter: u64) {
        let fence = Some(Fenced { workload: WorkloadId(of), fence: Fence(Order::new(1, counter).unwrap()) });
        let (topic, payload) = ("a", &b"x"[..]);
        let input = wire::event::Input { sequence, workload: WorkloadId(workload), fence, topic, payload };
        let frame = self.live(&self.inside(), &input);
        self.down(Down::Input, frame);
    }

    /// The hub's part: the same boot keeps its fence, another one waits until nobody can be running it.
    fn on_need(&mut self, workload: u32, nonce: Nonce) {
        let wait = ms(wire::lease::regrant_ms(u64::from(self.lease_ms)));
        let next = self.granted.get(&workload).map_or(1, |last| last.counter + 1);
        let counter = match self.granted.get(&workload) {
            Some(last) if last.is_given_back => next,
            Some(last) if last.boot == self.boot => last.counter,
            Some(last) if self.now < last.at.after(wait) => return,
            Some(_) | None => next,
        };
        if !self.grants || !self.hub_up {
            return;
        }
        self.granted.insert(workload, Granted { boot: self.boot, counter, at: self.now, is_given_back: false });
        let fence = Fence(Order::new(1, counter).unwrap());
        let grant = Grant { nonce, workload: WorkloadId(workload), fence, ms: self.lease_ms };
        let frame = self.live(&self.inside(), &grant);
        self.grants_sent.push(frame.clone());
        self.later(self.grant_delay, Answer::Message(Inbound::Down(Down::Grant), frame));
    }

    pub fn grant(&mut self, nonce: Nonce, workload: u32, counter: u64) {
        let fence = Fence(Order::new(1, counter).unwrap());
        let grant = Grant { nonce, workload: WorkloadId(workload), fence, ms: self.lease_ms };
        let frame = self.live(&self.inside(), &grant);
        self.down(Down::Grant, frame);
    }

    /// The clock goes on, and what exists meanwhile is counted.
    pub fn pass(&mut self, to: Instant) {
        let passed = u64::try_from(to.since(self.now).as_millis()).unwrap();
        for run in self.running.values() {
            *self.ran_ms.entry(run.workload).or_default() += passed;
        }
        self.now = self.now.max(to);
    }

    pub fn ran(&self, workload: u32) -> Duration {
        ms(self.ran_ms.get(&workload).copied().unwrap_or(0))
    }

    pub fn report(&mut self, asks: Asks) {
        let frame = self.live(&self.inside(), &Report { asks });
        self.down(Down::Command, frame);
    }

    pub fn hub_state(&mut self, incarnation: u32, spread_ms: u32) {
        let state =
            HubState { incarnation, spread_ms, watermark: 1, fence: Default::default(), instance: Default::default() };
        let mut buffer = [0; 64];
        let frame = wire::frame::encode_plain(&mut buffer, &state).unwrap().to_vec();
        self.later(ms(2), Answer::Message(Inbound::HubState, frame));
    }

    pub fn give(&mut self, answer: Answer) {
        let now = self.now;
        let agent = &mut self.agent;
        match answer {
            Answer::LinkUp => agent.handle(now, Input::LinkUp),
            Answer::LinkDown => agent.handle(now, Input::LinkDown),
            Answer::Subscribed(subscription) => agent.handle(now, Input::Subscribed(subscription)),
            Answer::Message(from, payload) => agent.handle(now, Input::Message { from, payload: &payload }),
            Answer::Acknowledged(ticket) => agent.handle(now, Input::Acknowledged { ticket }),
            Answer::Persisted(ticket) => agent.handle(now, Input::Persisted { ticket }),
            Answer::PersistFailed(ticket) => {
                agent.handle(now, Input::PersistFailed { ticket, failure: PersistFailure::NoSpace });
            }
            Answer::Fetched(digest) => {
                self.artifacts.insert(digest);
                agent.handle(now, Input::Fetched { digest });
            }
            Answer::BodyFetched(digest, bytes) => agent.handle(now, Input::BodyFetched { digest, bytes: &bytes }),
            Answer::FetchFailed(content, digest, failure) => {
                agent.handle(now, Input::FetchFailed { content, digest, failure });
            }
            Answer::Started(launch) => agent.handle(now, Input::Started { launch }),
            Answer::StartFailed(launch) => {
                self.running.remove(&launch);
                agent.handle(now, Input::StartFailed { launch, failure: Failure::LoadRefused, detail: "not wasm" });
            }
            Answer::Stopped(launch) => {
                self.running.remove(&launch);
                agent.handle(now, Input::Stopped { launch });
            }
            Answer::Exited(launch, exit) => {
                if self.running.remove(&launch).is_some() {
                    agent.handle(now, Input::Exited { launch, exit, detail: "it said so" });
                }
            }
            Answer::Activated(launch) => agent.handle(now, Input::Activated { launch, trigger: Trigger::Timer }),
            Answer::Crash => {
                let reset = self.reset;
                self.reboot(reset);
            }
        }
    }

    /// Drains the machine; then its next deadline must be in the future, or it would spin.
    pub fn drain(&mut self) {
        loop {
            self.polls += 1;
            let now = self.now;
            // The effect borrows the machine, so that executing it is split in two: note it down, then answer.
            let Some(effect) = self.agent.poll(now) else { break };
            let noted = Noted::of(effect);
            self.execute(noted);
            if self.is_off() {
                return;
            }
        }
        if let Some(at) = self.agent.poll_timeout() {
            assert!(at > self.now, "the machine would spin: deadline {at:?}, now {:?}", self.now);
        }
    }

    /// The power is gone: nothing happens any more.
    pub fn is_off(&self) -> bool {
        self.keeper.as_ref().is_some_and(|keeper| keeper.is_off())
    }

    fn execute(&mut self, noted: Noted) {
        let now = self.now;
        let mut push = |done: Done| self.done.push((now, done));
        match noted {
            Noted::Connect => {
                push(Done::Connect);
                self.link += 1;
                let answer = if self.broker_up { Answer::LinkUp } else { Answer::LinkDown };
                self.later(ms(5), answer);
            }
            Noted::Disconnect => {
                push(Done::Disconnect);
                self.cut_quietly();
            }
            Noted::Subscribe(subscription) => {
                push(Done::Subscribe(subscription));
                self.later(ms(3), Answer::Subscribed(subscription));
                if let Subscription::Desired(handling) = subscription {
                    self.is_desired_subscribed = true;
                    if self.cuts_after_desired {
                        self.later(ms(500), Answer::LinkDown);
                    }
                    if let (RetainHandling::Send, Some(frame)) = (handling, self.retained.clone()) {
                        self.down(Down::Desired, frame);
                    }
                }
            }
            Noted::Publish { topic, payload, quality, ticket } => {
                if quality == Quality::AtLeastOnce && self.acknowledges {
                    self.later(ms(4), Answer::Acknowledged(ticket));
                }
                self.receive(topic, &payload);
            }
            Noted::Persist { ticket, key, value } => {
                push(Done::Persist(key));
                if let Some(keeper) = self.keeper.as_mut() {
                    let is_kept = keeper.persist(key, &value).is_ok();
                    let answer = if is_kept { Answer::Persisted(ticket) } else { Answer::PersistFailed(ticket) };
                    return self.later(ms(10), answer);
                }
                match self.disk {
                    Disk::Good => {
                        self.store.write(key, &value);
                        self.later(ms(10), Answer::Persisted(ticket));
                    }
                    Disk::Full => self.later(ms(10), Answer::PersistFailed(ticket)),
                    Disk::Silent => {}
                }
            }
            Noted::Fetch { content: Content::Artifact, digest, source } => {
                push(Done::Fetch(digest, source));
                let is_served = self.broker_up && self.served.as_ref().is_none_or(|served| served.contains(&digest));
                let failed = |failure| Answer::FetchFailed(Content::Artifact, digest, failure);
                let kept = self.keeper.as_mut().map(|keeper| keeper.fetch(&digest, source));
                let answer = match source {
                    _ if kept == Some(Ok(())) => Answer::Fetched(digest),
                    _ if kept.is_some() => failed(kept.and_then(Result::err).unwrap_or(FetchFailure::Absent)),
                    _ if self.artifacts.contains(&digest) => Answer::Fetched(digest),
                    Source::Store => failed(FetchFailure::Absent),
                    Source::Anywhere if is_served => Answer::Fetched(digest),
                    Source::Anywhere => failed(FetchFailure::Unreachable),
                };
                self.later(ms(20), answer);
            }
            Noted::Fetch { content: Content::Body, digest, .. } => {
                let answer = match self.bodies.get(&digest) {
                    Some(body) => Answer::BodyFetched(digest, body.clone()),
                    None => Answer::FetchFailed(Content::Body, digest, FetchFailure::Unreachable),
                };
                self.later(ms(20), answer);
            }
            Noted::Extend { launch, terms } => {
                self.terms.insert(launch, terms);
            }
            Noted::Start { launch, run, terms } => {
                self.terms.insert(launch, terms);
                push(Done::Start(run.workload, run.component, run.artifact));
                self.starts.push((self.accepted(), run.workload, run.component));
                assert!(self.artifacts.contains(&run.artifact), "started without its artifact");
                let digest = run.artifact;
                let twin = self.running.values().find(|r| (r.workload, r.component) == (run.workload, run.component));
                assert!(twin.is_none(), "two of the same at once: {twin:?}");
                self.running.insert(launch, run);
                match self.behaviours.get(&digest).copied().unwrap_or(Behaviour::Runs) {
                    Behaviour::Runs | Behaviour::Sleeps => self.later(ms(5), Answer::Started(launch)),
                    Behaviour::FailsToStart => self.later(ms(5), Answer::StartFailed(launch)),
                    Behaviour::TrapsAfter(after) => {
                        self.later(ms(5), Answer::Started(launch));
                        self.later(ms(5 + after), Answer::Exited(launch, Exit::Failed(Failure::Trapped)));
                    }
                    Behaviour::CompletesAfter(after) => {
                        self.later(ms(5), Answer::Started(launch));
                        self.later(ms(5 + after), Answer::Exited(launch, Exit::Completed));
                    }
                    Behaviour::Silent => {}
                    Behaviour::CrashesTheAgent => self.later(ms(1), Answer::Crash),
                }
            }
            Noted::Stop { launch } => {
                if let Some(run) = self.running.get(&launch) {
                    push(Done::Stop(run.workload, run.component));
                }
                self.later(ms(15), Answer::Stopped(launch));
            }
            Noted::Activate { launch } => {
                let run = self.running.get(&launch).cloned().expect("activates what runs");
                push(Done::Activate(run.workload, run.component));
                if self.behaviours.get(&run.artifact) != Some(&Behaviour::Sleeps) {
                    self.later(ms(1), Answer::Activated(launch));
                }
            }
            Noted::Deliver { launch, topic, payload } => {
                let run = self.running.get(&launch).cloned().expect("delivers to what runs");
                push(Done::Deliver(run.workload, run.component, topic, payload));
            }
            Noted::Collect => {
                push(Done::Collect);
                if self.collects {
                    let agent = &self.agent;
                    self.artifacts.retain(|digest| agent.references(digest));
                    if let Some(keeper) = self.keeper.as_mut() {
                        keeper.collect(&mut |digest| agent.references(digest));
                    }
                }
            }
        }
    }

    fn cut_quietly(&mut self) {
        self.is_desired_subscribed = false;
        // What was under way on the connection is gone with it.
        self.answers.retain(|(_, answer)| {
            !matches!(
                answer,
                Answer::Message(..)
                    | Answer::Acknowledged(_)
                    | Answer::Subscribed(_)
                    | Answer::LinkUp
                    | Answer::LinkDown
            )
        });
    }

    /// The connection is lost, now.
    pub fn cut(&mut self) {
        self.cut_quietly();
        self.give(Answer::LinkDown);
        self.drain();
    }

    /// The broker ends the connection for another one with the same name, now.
    pub fn take(&mut self) {
        self.cut_quietly();
        let now = self.now;
        self.agent.handle(now, Input::LinkTaken);
        self.drain();
    }

    fn receive(&mut self, topic: Up, payload: &[u8]) {
        let now = self.now;
        match topic {
            Up::Hello => {
                let body = open_live(payload, Kind::Hello, &PAIR_KEY, &self.outside()).unwrap();
                let hello = Hello::decode(body).unwrap();
                self.done.push((now, Done::Hello(hello.fixed, hello.capabilities.is_some(), hello.proof.is_some())));
                self.gateways.push(hello.health.and_then(|health| health.behind));
                if !self.hub_up {
                    return;
                }
                if let Some((reason, retry_after_s)) = self.refuses {
                    let refusal = Refusal { nonce: hello.fixed.nonce, reason, retry_after_s };
                    let frame = self.live(&self.outside(), &refusal);
                    return self.down(Down::Fresh, frame);
                }
                let frame = self.fresh(hello.fixed.nonce);
                self.down(Down::Fresh, frame);
                let behind = self.set.clone().filter(|set| set.header.body.prefix() != hello.fixed.digest);
                if let (Some(set), true) = (behind, self.publishes) {
                    // By now the device has subscribed, or will ask for the retained copy.
                    self.later(ms(30), Answer::Message(Inbound::Down(Down::Desired), set.frame));
                }
            }
            Up::Status => {
                let Ok(body) = open_live(payload, Kind::Status, &PAIR_KEY, &self.inside()) else { return };
                let status = Status::decode(body).unwrap();
                self.done.push((now, Done::Status));
                let seen = |entry: Entry<'_>| SeenEntry {
                    workload: entry.workload.0,
                    component: entry.component,
                    generation: entry.generation,
                    running: entry.running,
                    state: entry.state,
                    reason: entry.reason,
                    detail: entry.detail.to_string(),
                };
                self.status = Some((status.fixed, status.entries().map(seen).collect()));
            }
            Up::Heartbeat => {
                decode_live::<Heartbeat>(payload, &PAIR_KEY, &self.inside()).unwrap();
                assert!(payload.len() <= wire::limits::HEARTBEAT_BYTES_MAX);
                self.done.push((now, Done::Heartbeat));
            }
            Up::Log => {
                let body = open_live(payload, Kind::Log, &PAIR_KEY, &self.inside()).unwrap();
                let log = Log::decode(body).unwrap();
                for (at, record) in log.records().enumerate() {
                    self.logs.push((log.fixed.sequence + at as u32, record.text.to_string()));
                }
            }
            Up::Event => {
                let event = decode_live::<wire::event::Event<'_>>(payload, &PAIR_KEY, &self.inside()).unwrap();
                self.events.push((event.sequence, event.topic.to_string(), event.payload.to_vec()));
                self.event_fences.push(event.fence);
            }
            Up::Need => {
                let need = decode_live::<Need>(payload, &PAIR_KEY, &self.inside()).unwrap();
                let Want::Lease { workload, nonce } = need.want else { panic!("unexpected {need:?}") };
                self.done.push((now, Done::Need(workload.0)));
                self.nonces.push((now, nonce));
                self.on_need(workload.0, nonce);
            }
            Up::Released => {
                let released = decode_live::<Released>(payload, &PAIR_KEY, &self.inside()).unwrap();
                let counter = released.fence.0.counter();
                self.done.push((now, Done::Released(released.workload.0, counter)));
                if self.hub_up && self.granted.get(&released.workload.0).is_some_and(|last| last.counter == counter) {
                    // Free at once, and the next fence is above.
                    if let Some(last) = self.granted.get_mut(&released.workload.0) {
                        last.is_given_back = true;
                    }
                }
            }
            Up::Sample => {
                let body = open_live(payload, Kind::Sample, &PAIR_KEY, &self.inside()).unwrap();
                let samples = Samples::decode(body).unwrap();
                let fixed = samples.fixed;
                self.frames.push((now, fixed));
                let mut last = 0;
                for record in samples.records() {
                    let value = std::format!("{:?}", record.value);
                    last = last.max(record.sequence);
                    self.samples.push((fixed.class, record.sequence, record.key.to_string(), value));
                }
                if fixed.class == Class::Alarm && self.takes {
                    let frame = self.live(&self.inside(), &Taken { stream: fixed.stream, sequence: last });
                    self.down(Down::Command, frame);
                }
            }
            Up::Will => panic!("unexpected {topic:?}"),
        }
    }

    /// Lets time pass, stopping at every deadline and answer.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now.after(duration);
        self.drain();
        loop {
            if self.is_off() {
                return;
            }
            let answer = self.answers.iter().map(|(at, _)| *at).min();
            let next = [answer, self.agent.poll_timeout()].into_iter().flatten().min();
            match next {
                Some(at) if at <= end => {
                    self.pass(at);
                    if answer.is_some_and(|answer| answer <= self.now) {
                        // Equal times in the order in which they were asked for.
                        let first = (0..self.answers.len()).min_by_key(|&i| (self.answers[i].0, i)).unwrap();
                        let (_, answer) = self.answers.remove(first);
                        self.give(answer);
                    }
                    self.drain();
                }
                Some(_) | None => {
                    self.pass(end);
                    return self.drain();
                }
            }
        }
    }

    pub fn count(&self, wanted: impl Fn(&Done) -> bool) -> usize {
        self.done.iter().filter(|(_, done)| wanted(done)).count()
    }

    pub fn starts_of(&self, code: &str) -> usize {
        let digest = artifact(code);
        self.count(|done| matches!(done, Done::Start(_, _, of) if *of == digest))
    }

    pub fn runs(&self, code: &str) -> bool {
        self.running.values().any(|run| run.artifact == artifact(code))
    }

    pub fn accepted(&self) -> u64 {
        self.agent.accepted().map_or(0, |(revision, _)| revision.0.counter())
    }

    pub fn entry(&self, workload: u32, component: u8) -> SeenEntry {
        let (_, entries) = self.status.as_ref().expect("a status came");
        entries.iter().find(|e| (e.workload, e.component) == (workload, component)).expect("listed").clone()
    }

    pub fn refused(&self) -> wire::status::Refused {
        self.status.as_ref().expect("a status came").0.refused
    }

    /// Sees a status for certain, then says what it was.
    pub fn ask_status(&mut self) {
        self.report(Asks::STATUS);
        self.run(secs(3));
    }

    pub fn launch_of(&self, workload: u32, component: u8) -> LaunchId {
        let found = self.running.iter().find(|(_, run)| (run.workload, run.component) == (workload, component));
        *found.expect("it runs").0
    }
}

/// An effect with its bytes copied.
enum Noted {
    Connect,
    Disconnect,
    Subscribe(Subscription),
    Publish { topic: Up, payload: Vec<u8>, quality: Quality, ticket: Ticket },
    Persist { ticket: Ticket, key: JournalKey, value: Vec<u8> },
    Fetch { content: Content, digest: Digest, source: Source },
    Start { launch: LaunchId, run: Run, terms: Terms },
    Extend { launch: LaunchId, terms: Terms },
    Stop { launch: LaunchId },
    Activate { launch: LaunchId },
    Deliver { launch: LaunchId, topic: String, payload: Vec<u8> },
    Collect,
}

impl Noted {
    fn of(effect: Effect<'_>) -> Self {
        match effect {
            Effect::Connect { will } => {
                assert!(!will.is_empty());
                Self::Connect
            }
            Effect::Disconnect => Self::Disconnect,
            Effect::Subscribe(subscription) => Self::Subscribe(subscription),
            Effect::Publish { topic, payload, quality, ticket } => {
                Self::Publish { topic, payload: payload.to_vec(), quality, ticket }
            }
            Effect::Persist { ticket, key, value } => Self::Persist { ticket, key, value: value.to_vec() },
            Effect::Fetch { content, digest, source, .. } => Self::Fetch { content, digest, source },
            Effect::Start { launch, record, terms } => Self::Start {
                launch,
                terms,
                run: Run {
                    workload: record.core.workload.0,
                    component: record.core.component,
                    artifact: record.core.artifact,
                },
            },
            Effect::Extend { launch, terms } => Self::Extend { launch, terms },
            Effect::Stop { launch, .. } => Self::Stop { launch },
            Effect::Activate { launch, .. } => Self::Activate { launch },
            Effect::Deliver { launch, topic, payload } => {
                Self::Deliver { launch, topic: topic.to_string(), payload: payload.to_vec() }
            }
            Effect::Collect => Self::Collect,
        }
    }
}
