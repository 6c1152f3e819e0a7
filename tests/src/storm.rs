//! A whole fleet at once: the real engine and thousands of real machines on a virtual clock, with a broker that is a delay and a
//! retained store. It counts application bytes by topic, and what is started.
//!
//! No faults of its own: it shows what a come-back costs when nothing else goes wrong. The simulator is where things go wrong.
use crate::sim::disk::Durable;
use crate::sim::signature::{HashSigner, HashVerifier};
use agent_nostd::machine::Agent;
use agent_nostd::machine::port::{
    Buffers, Config, Effect as Want, Inbound, Input as Told, KEEP_ALIVE, LinkState, OUTGOING_BYTES_MIN, Quality,
    Restored, RetainHandling, SET_OVERHEAD_BYTES, Subscription, Ticket,
};
use agent_nostd::machine::random::Random;
use agent_nostd::machine::time::Instant;
use hub::engine::{
    Answer, Effect, Engine, EngineConfig, Input, Instant as HubInstant, Mode, Now, Request, Ticket as Question,
    retained,
};
use hub::model::ObjectKey;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use wire::dalek::{Ed25519Key, ExchangeSecret};
use wire::frame::encode_plain;
use wire::hello::{Architecture, Capabilities, DeviceClass, Features, ResetCause};
use wire::join::{JoinClaim, JoinRequest};
use wire::limits::TRUST_LINK_BYTES_MAX;
use wire::record::CapabilitySet;
use wire::sign::{PublicKey, Sign};
use wire::topic::{Down, Topic, Up};
use wire::{DeviceId, Digest};

pub const FLEET: &str = "storm";
/// Labels: of every device, and of those whose number is a multiple of twenty.
pub const ALL: (&str, &str) = ("tier", "edge");
pub const TWENTIETH: (&str, &str) = ("share", "twentieth");
const SLOTS: usize = 4;
const BODY_BYTES: usize = 1024;
const RING_BYTES: usize = 512;
/// One way between a device or the hub and the broker.
const WAY_MS: u64 = 10;
const DISK_MS: u64 = 5;
/// The engine lets in so many joins a second.
const JOINS_PER_SECOND: usize = 200;
/// As long as a chain of one link may be; nobody here looks into it.
const CHAIN: &[u8] = &[7; TRUST_LINK_BYTES_MAX];
const WALL_START_MS: u64 = 1_790_000_000_000;

type Machine = Agent<'static, SLOTS>;
type Later = Box<dyn FnOnce(&mut Fleet)>;

/// Application bytes of one device by what they were for, and how many messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub hellos: u32,
    /// Hello and its answers.
    pub hello_bytes: usize,
    pub sets: u32,
    pub set_bytes: usize,
    pub statuses: u32,
    pub status_bytes: usize,
    pub heartbeat_bytes: usize,
    /// What the hub says to all.
    pub state_bytes: usize,
    pub other_bytes: usize,
    /// Components that were started.
    pub starts: u32,
    /// When the first Fresh was received.
    pub fresh_ms: Option<u64>,
}

impl Traffic {
    /// Everything but heartbeats, which are sent in any case.
    pub fn bytes(&self) -> usize {
        self.hello_bytes + self.set_bytes + self.status_bytes + self.state_bytes + self.other_bytes
    }
}

struct Node {
    id: DeviceId,
    agent: Machine,
    wake_ms: Option<u64>,
    /// Of the connection, so that what is under way on an earlier one is lost.
    link: u32,
    is_up: bool,
    hears_desired: bool,
    traffic: Traffic,
}

pub struct Fleet {
    pub now: u64,
    later: BTreeMap<(u64, u64), Later>,
    order: u64,
    engine: Engine,
    /// Of the hub, so that what is under way for an earlier one is lost.
    life: u32,
    hub_wake_ms: Option<u64>,
    durable: Durable,
    signer: HashSigner,
    exchange_seed: [u8; 32],
    nodes: Vec<Node>,
    by_id: HashMap<DeviceId, usize>,
    retained: BTreeMap<String, Vec<u8>>,
    answers: BTreeMap<Question, Answer>,
    questions: u64,
    pub is_broker_up: bool,
    hellos_per_second: Option<u32>,
}

fn leaked(bytes: usize) -> &'static mut [u8] {
    Box::leak(vec![0; bytes].into_boxed_slice())
}

fn seed(index: usize) -> [u8; 32] {
    Digest::of(&index.to_le_bytes()).0
}

fn config(exchange_seed: [u8; 32], hellos_per_second: Option<u32>) -> EngineConfig {
    let exchange = Box::new(ExchangeSecret::from_seed(exchange_seed));
    let mut config = EngineConfig::new("mqtt://127.0.0.1:1883".into(), "http://127.0.0.1:7443".into(), exchange);
    config.hellos_per_second = hellos_per_second.unwrap_or(config.hellos_per_second);
    config.trust = CHAIN.to_vec();
    config
}

fn machine(now: u64, index: usize, id: DeviceId, pair: wire::PairKey, hub_key: PublicKey) -> Machine {
    let set = || leaked(BODY_BYTES + SET_OVERHEAD_BYTES);
    let buffers = Buffers {
        current: set(),
        last_good: set(),
        incoming: set(),
        outgoing: leaked(OUTGOING_BYTES_MIN),
        logs: leaked(RING_BYTES),
        events: leaked(RING_BYTES),
        alarms: leaked(RING_BYTES),
        states: leaked(RING_BYTES),
        metrics: leaked(RING_BYTES),
        inputs: leaked(RING_BYTES),
    };
    let config = Config {
        fleet: FLEET,
        device: id,
        pair_key: Box::leak(Box::new(pair)),
        hub_key,
        verifier: &HashVerifier,
        capabilities: Capabilities {
            class: DeviceClass::Gateway,
            architecture: Architecture::X86_64,
            agent_version: "storm",
            features: Features::FUNCTION.union(Features::FETCH_HTTP).union(Features::BOOT_CLOCK),
            interfaces: CapabilitySet(u32::MAX),
            records: SLOTS as u16,
            body_bytes: BODY_BYTES as u32,
            memory_bytes: 1 << 20,
            storage_bytes: 1 << 30,
        },
        packet_bytes_max: 64 * 1024,
        reset: ResetCause::PowerOn,
        last_end: None,
        keep_alive: KEEP_ALIVE,
        drift_ppm: wire::lease::DRIFT_PPM_MAX,
        stop_latency: Duration::from_millis(20),
        random: Random::new(seed(index + 1_000_000)),
    };
    Agent::new(Instant::from_ms(now), config, buffers, Restored::default())
}

impl Fleet {
    /// So many devices that have joined and hold nothing.
    pub fn new(devices: usize, hellos_per_second: Option<u32>) -> Self {
        let exchange_seed = seed(7_000_000);
        let signer = HashSigner(PublicKey([5; 32]));
        let mut durable = Durable::default();
        let loaded = durable.load(WALL_START_MS, FLEET, &signer, &ExchangeSecret::from_seed(exchange_seed));
        let engine = Engine::new(config(exchange_seed, hellos_per_second), loaded);
        let mut fleet = Self {
            now: 1_000,
            later: BTreeMap::new(),
            order: 0,
            engine,
            life: 1,
            hub_wake_ms: None,
            durable,
            signer,
            exchange_seed,
            nodes: Vec::new(),
            by_id: HashMap::new(),
            retained: BTreeMap::new(),
            answers: BTreeMap::new(),
            questions: 0,
            is_broker_up: true,
            hellos_per_second,
        };
        fleet.hub_connect();
        fleet.pass(Duration::from_secs(5));
        for index in 0..devices {
            fleet.join(index);
            if (index + 1) % (JOINS_PER_SECOND / 2) == 0 {
                fleet.pass(Duration::from_secs(1));
            }
        }
        fleet.pass(Duration::from_secs(5));
        for index in 0..devices {
            fleet.drive(index);
        }
        fleet
    }

    fn join(&mut self, index: usize) {
        let labels = match index % 20 {
            0 => json!({ALL.0: ALL.1, TWENTIETH.0: TWENTIETH.1}),
            _ => json!({ALL.0: ALL.1}),
        };
        let request = Request::TokenCreate { expires_in: None, approve: true, labels, entropy: seed(index) };
        let Answer::Token { id: token, .. } = self.ask(request) else { panic!("a token is made") };
        let identity = Ed25519Key::from_seed(&seed(index + 2_000_000));
        let exchange = ExchangeSecret::from_seed(seed(index + 3_000_000));
        let name = name(index);
        let claim = JoinClaim {
            identity: identity.public_key(),
            exchange: exchange.public_key(),
            nonce: [1; 16],
            name: &name,
            class: DeviceClass::Gateway,
            position: None,
        };
        let signature = claim.sign(&identity, FLEET, token).expect("a claim is signed");
        let mut buffer = [0; 1024];
        let payload = encode_plain(&mut buffer, &JoinRequest { claim, signature }).expect("it fits").to_vec();
        self.tell_hub(Input::Join { token, payload, retained: false });
        let id = DeviceId::of_key(&identity.public_key().0);
        let hub = ExchangeSecret::from_seed(self.exchange_seed).public_key();
        let pair = exchange.pair_key(&hub, FLEET, id).expect("a pair has a key");
        assert!(self.durable.devices.contains_key(&id), "{name} joined");
        let agent = machine(self.now, index, id, pair, self.signer.public_key());
        self.by_id.insert(id, self.nodes.len());
        let traffic = Traffic::default();
        self.nodes.push(Node { id, agent, wake_ms: None, link: 0, is_up: false, hears_desired: false, traffic });
    }

    /// Asks the hub; the answer is there when it is durable.
    pub fn ask(&mut self, request: Request) -> Answer {
        self.questions += 1;
        let ticket = Question(self.questions);
        self.tell_hub(Input::Request { ticket, actor: "storm".to_owned(), request });
        self.answers.remove(&ticket).expect("the hub does what it is asked")
    }

    /// A workload on every device with this label: `ALL` or `TWENTIETH`.
    pub fn run(&mut self, workload: &str, version: u32, label: (&str, &str)) {
        let digest = Digest::of(b"module");
        let key = ObjectKey::artifact("default", "module");
        let (namespace, name) = (key.namespace.clone(), key.name);
        self.ask(Request::ArtifactPut { namespace, name, digest, bytes: 1_000 });
        let placement = json!({"labels": {label.0: label.1}});
        let document: Value = json!({
            "apiVersion": "fulmar/v1", "kind": "Workload", "metadata": {"name": workload},
            "spec": {
                "type": "function", "every": true, "placement": placement, "artifact": format!("module@sha256:{digest}"),
                "function": {"config": format!("version {version}"), "limits": {"memory": "16KiB"}, "capabilities": ["log"]},
            },
        });
        let key = ObjectKey::workload("default", workload);
        self.ask(Request::Put { key, document, mode: Mode::Commit, if_match: None });
    }

    fn at(&mut self, in_ms: u64, then: impl FnOnce(&mut Self) + 'static) {
        self.order += 1;
        self.later.insert((self.now + in_ms, self.order), Box::new(then));
    }

    pub fn pass(&mut self, time: Duration) {
        let end = self.now + u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= end) {
            self.now = self.now.max(entry.key().0);
            let then = entry.remove();
            then(self);
        }
        self.now = end;
    }

    // --- The hub ---

    fn hub_now(&self) -> Now {
        Now { monotonic: HubInstant(self.now), wall_ms: WALL_START_MS + self.now }
    }

    fn hub_connect(&mut self) {
        if let Some(payload) =
            Topic::HubState.print(FLEET).ok().and_then(|topic| self.retained.get(topic.as_str()).cloned())
        {
            self.tell_hub(Input::HubStateSeen { payload, retained: true });
        }
        self.tell_hub(Input::LinkUp);
    }

    fn tell_hub(&mut self, input: Input) {
        let now = self.hub_now();
        self.engine.handle(now, input);
        self.drive_hub();
    }

    fn drive_hub(&mut self) {
        let now = self.hub_now();
        while let Some(effect) = self.engine.poll(now) {
            match effect {
                Effect::Commit(batch) => {
                    let sequence = batch.sequence;
                    let signed = self.durable.apply(batch, FLEET, &self.signer).expect("a batch is in order");
                    self.engine.handle(now, Input::Committed { sequence, signed });
                }
                Effect::Publish(publication) => {
                    self.publish(&publication.topic, &publication.payload, publication.retain);
                    let (life, publication, qos1) = (self.life, publication.publication, publication.qos1);
                    if qos1 {
                        self.at(2 * WAY_MS, move |fleet| {
                            if fleet.life == life {
                                fleet.tell_hub(Input::Acknowledged { publication });
                            }
                        });
                    }
                }
                Effect::Answer { ticket, result } => {
                    self.answers.insert(ticket, result.unwrap_or_else(|problem| panic!("{problem:?}")));
                }
                Effect::Stream { .. } | Effect::Access(_) | Effect::Read(_) | Effect::Probe => {}
            }
        }
        let Some(timeout) = self.engine.poll_timeout() else { return };
        let at = timeout.0.max(self.now + 1);
        if self.hub_wake_ms.is_none_or(|wake| wake > at || wake <= self.now) {
            self.hub_wake_ms = Some(at);
            let life = self.life;
            self.at(at - self.now, move |fleet| {
                if fleet.life == life && fleet.hub_wake_ms == Some(fleet.now) {
                    fleet.hub_wake_ms = None;
                    fleet.drive_hub();
                }
            });
        }
    }

    /// The process ends and starts again, with the broker inside it: that keeps what the database knows, and all connections
    /// are gone.
    pub fn restart_hub(&mut self) {
        self.life += 1;
        self.hub_wake_ms = None;
        let exchange = ExchangeSecret::from_seed(self.exchange_seed);
        let loaded = self.durable.load(WALL_START_MS + self.now, FLEET, &self.signer, &exchange);
        let config = config(self.exchange_seed, self.hellos_per_second);
        self.retained = retained(&loaded, &config.trust, config.instance).into_iter().collect();
        self.engine = Engine::new(config, loaded);
        self.cut_all();
        self.at(WAY_MS, Self::hub_connect);
    }

    // --- The broker ---

    fn publish(&mut self, topic: &str, payload: &[u8], is_retained: bool) {
        if is_retained {
            match payload.is_empty() {
                true => drop(self.retained.remove(topic)),
                false => drop(self.retained.insert(topic.to_owned(), payload.to_vec())),
            }
        }
        match Topic::parse(FLEET, topic) {
            Some(Topic::Down(id, down)) => {
                if let Some(index) = self.by_id.get(&id).copied() {
                    self.down(index, down, payload.to_vec());
                }
            }
            Some(Topic::HubState) => {
                for index in 0..self.nodes.len() {
                    self.deliver(index, Inbound::HubState, payload.to_vec());
                }
            }
            Some(Topic::Up(..) | Topic::JoinRequest(_) | Topic::JoinAnswer(_)) | None => {}
        }
    }

    fn down(&mut self, index: usize, down: Down, payload: Vec<u8>) {
        let node = &mut self.nodes[index];
        if !node.is_up || (down == Down::Desired && !node.hears_desired) {
            return;
        }
        let traffic = &mut node.traffic;
        match down {
            Down::Fresh => traffic.hello_bytes += payload.len(),
            Down::Desired => {
                traffic.sets += 1;
                traffic.set_bytes += payload.len();
            }
            Down::Trust | Down::Grant | Down::Input | Down::Chunk | Down::Command => {
                traffic.other_bytes += payload.len()
            }
        }
        self.deliver(index, Inbound::Down(down), payload);
    }

    fn deliver(&mut self, index: usize, from: Inbound, payload: Vec<u8>) {
        let node = &mut self.nodes[index];
        if !node.is_up {
            return;
        }
        if from == Inbound::HubState {
            node.traffic.state_bytes += payload.len();
        }
        let link = node.link;
        self.at(WAY_MS, move |fleet| {
            if fleet.nodes[index].link == link {
                fleet.tell(index, Told::Message { from, payload: &payload });
            }
        });
    }

    /// Every connection of a device ends.
    pub fn cut_all(&mut self) {
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            node.link += 1;
            node.hears_desired = false;
            if std::mem::take(&mut node.is_up) {
                self.tell(index, Told::LinkDown);
            }
        }
    }

    // --- Devices ---

    fn tell(&mut self, index: usize, input: Told<'_>) {
        self.nodes[index].agent.handle(Instant::from_ms(self.now), input);
        self.drive(index);
    }

    fn later_tell(&mut self, index: usize, in_ms: u64, input: Told<'static>) {
        let link = self.nodes[index].link;
        self.at(in_ms, move |fleet| {
            let is_of_link = matches!(
                input,
                Told::LinkUp
                    | Told::LinkDown
                    | Told::Subscribed(_)
                    | Told::SubscribeRefused(_)
                    | Told::Acknowledged { .. }
            );
            if is_of_link && fleet.nodes[index].link != link {
                return;
            }
            fleet.nodes[index].is_up |= matches!(input, Told::LinkUp);
            fleet.tell(index, input);
        });
    }

    fn drive(&mut self, index: usize) {
        let now = Instant::from_ms(self.now);
        loop {
            let node = &mut self.nodes[index];
            let Some(want) = node.agent.poll(now) else { break };
            match want {
                Want::Connect { .. } => {
                    node.link += 1;
                    let told = if self.is_broker_up { Told::LinkUp } else { Told::LinkDown };
                    self.later_tell(index, 2 * WAY_MS, told);
                }
                Want::Disconnect => {
                    node.link += 1;
                    (node.is_up, node.hears_desired) = (false, false);
                }
                Want::Subscribe(subscription) => self.subscribe(index, subscription),
                Want::Publish { topic, payload, quality, ticket } => {
                    let payload = payload.to_vec();
                    self.up(index, topic, payload, quality, ticket);
                }
                Want::Persist { ticket, .. } => self.later_tell(index, DISK_MS, Told::Persisted { ticket }),
                Want::Fetch { digest, .. } => self.later_tell(index, DISK_MS, Told::Fetched { digest }),
                Want::Start { launch, .. } => {
                    node.traffic.starts += 1;
                    self.later_tell(index, DISK_MS, Told::Started { launch });
                }
                Want::Stop { launch, .. } => self.later_tell(index, DISK_MS, Told::Stopped { launch }),
                Want::Extend { .. } | Want::Activate { .. } | Want::Deliver { .. } | Want::Collect => {}
            }
        }
        let node = &mut self.nodes[index];
        if node.traffic.fresh_ms.is_none() && node.agent.link() == LinkState::Fresh {
            node.traffic.fresh_ms = Some(self.now);
        }
        let Some(timeout) = node.agent.poll_timeout() else { return };
        let at = timeout.as_ms().max(self.now + 1);
        if node.wake_ms.is_none_or(|wake| wake > at || wake <= self.now) {
            node.wake_ms = Some(at);
            self.at(at - self.now, move |fleet| {
                if fleet.nodes[index].wake_ms == Some(fleet.now) {
                    fleet.nodes[index].wake_ms = None;
                    fleet.drive(index);
                }
            });
        }
    }

    fn subscribe(&mut self, index: usize, subscription: Subscription) {
        self.later_tell(index, 2 * WAY_MS, Told::Subscribed(subscription));
        let (topic, from) = match subscription {
            Subscription::Live => (Topic::HubState, Inbound::HubState),
            Subscription::Desired(handling) => {
                self.nodes[index].hears_desired = true;
                if handling == RetainHandling::Skip {
                    return;
                }
                (Topic::Down(self.nodes[index].id, Down::Desired), Inbound::Down(Down::Desired))
            }
        };
        let Some(payload) = topic.print(FLEET).ok().and_then(|topic| self.retained.get(topic.as_str()).cloned()) else {
            return;
        };
        match from {
            Inbound::Down(down) => self.down(index, down, payload),
            Inbound::HubState => self.deliver(index, from, payload),
        }
    }

    fn up(&mut self, index: usize, topic: Up, payload: Vec<u8>, quality: Quality, ticket: Ticket) {
        let node = &mut self.nodes[index];
        let traffic = &mut node.traffic;
        match topic {
            Up::Hello => {
                traffic.hellos += 1;
                traffic.hello_bytes += payload.len();
            }
            Up::Status => {
                traffic.statuses += 1;
                traffic.status_bytes += payload.len();
            }
            Up::Heartbeat => traffic.heartbeat_bytes += payload.len(),
            Up::Need | Up::Released | Up::Event | Up::Sample | Up::Log | Up::Will => {
                traffic.other_bytes += payload.len()
            }
        }
        let (device, life, link) = (node.id, self.life, node.link);
        self.at(2 * WAY_MS, move |fleet| {
            if fleet.life == life && fleet.nodes[index].link == link {
                fleet.tell_hub(Input::Up { device, topic, payload, retained: false });
            }
        });
        if quality == Quality::AtLeastOnce {
            self.later_tell(index, 2 * WAY_MS, Told::Acknowledged { ticket });
        }
    }

    // --- What tests look at ---

    pub fn devices(&self) -> usize {
        self.nodes.len()
    }

    pub fn begin_counting(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.traffic = Traffic::default());
    }

    pub fn traffic(&self) -> impl Iterator<Item = &Traffic> {
        self.nodes.iter().map(|node| &node.traffic)
    }

    /// Devices that hold what the hub last signed for them.
    pub fn in_sync(&self) -> usize {
        let is_in_sync = |node: &&Node| {
            let signed = self.durable.desired.get(&node.id).map(|row| row.signed.header.revision);
            node.agent.accepted().map(|(revision, _)| revision) == signed
        };
        self.nodes.iter().filter(is_in_sync).count()
    }

    /// Devices on which a workload runs, as the hub knows it.
    pub fn running(&mut self, workload: &str) -> usize {
        let key = ObjectKey::workload("default", workload);
        let Answer::Object { document, .. } = self.ask(Request::Get { key }) else { panic!("an object is asked for") };
        document["status"]["running"].as_u64().and_then(|running| usize::try_from(running).ok()).unwrap_or(0)
    }

    /// Milliseconds since `since_ms` at which the last device was greeted; `None`: one is not.
    pub fn all_fresh_after(&self, since_ms: u64) -> Option<u64> {
        let times: Option<Vec<u64>> = self.traffic().map(|traffic| traffic.fresh_ms).collect();
        times?.into_iter().max().map(|last| last.saturating_sub(since_ms))
    }

    /// Bytes of the set that each of these devices holds, as it is published.
    pub fn set_bytes(&self, devices: &[usize]) -> usize {
        let mut buffer = vec![0; 64 * 1024];
        let mut bytes = |index: &usize| {
            let row = &self.durable.desired[&self.nodes[*index].id];
            row.signed.encode(&mut buffer, &row.body).map_or(0, |frame| frame.len())
        };
        devices.iter().map(&mut bytes).sum()
    }
}

fn name(index: usize) -> String {
    format!("dev-{index:05}")
}
