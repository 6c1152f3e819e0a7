//! A device that says what the test wants, in real frames.
use super::world::World;
use super::writer::{FLEET, hub_exchange, hub_key};
use crate::engine::port::Input;
use std::collections::BTreeMap;
use wire::dalek::{Ed25519, Ed25519Key, ExchangeSecret};
use wire::desired::{Desired, SignedHeader, body_matches};
use wire::event::{Event, Fenced, Level, LogFixed, LogRecord, write_log};
use wire::frame::{decode_live, decode_plain, encode_live, encode_live_with, encode_plain};
use wire::grant::{Grant, Released};
use wire::hello::{
    Architecture, Asks, Capabilities, DeviceClass, Features, Fresh, Health, Heartbeat, Hello, HelloFixed, LossCounters,
    Refusal, ResetCause, Will,
};
use wire::join::{JoinAnswer, JoinClaim, JoinRequest, JoinToken, TOKEN_TEXT_BYTES_MAX};
use wire::position::Position;
use wire::record::CapabilitySet;
use wire::sample::{Class, Sample, SamplesFixed, Value, write_samples};
use wire::sign::Sign;
use wire::status::{Entry, Reason, State, StatusFixed, StatusWriter};
use wire::topic::{Down, Topic, Up};
use wire::transfer::{Need, Want};
use wire::version::VersionRange;
use wire::{
    BootId, CommandId, DeviceId, DigestPrefix, Fence, Kind, LiveContext, Nonce, PairKey, Revision, Session, WorkloadId,
};

pub struct Double {
    identity: Ed25519Key,
    exchange: ExchangeSecret,
    pub id: DeviceId,
    pub pair: PairKey,
    pub boot: BootId,
    pub session: Session,
    pub sequence: u32,
    pub accepted: (Revision, DigestPrefix),
    pub packet_bytes_max: u32,
    pub memory_bytes: u32,
    pub features: Features,
    /// What it gives functions.
    pub interfaces: CapabilitySet,
    pub class: DeviceClass,
    /// What its next Hello says of how it fares, and why it started.
    pub health: Option<Health<'static>>,
    pub reset: ResetCause,
    pub position: Option<Position>,
    /// Of the accepted set; shown in a Hello when it was asked for.
    pub signed: Option<SignedHeader>,
    pub shows: bool,
    pub equivocations: u32,
    nonces: u64,
    last_content: DigestPrefix,
}

pub const FRANKFURT: Position = Position { longitude_e7: 86_821_000, latitude_e7: 501_109_000, uncertainty_m: 10 };

impl Double {
    pub fn new(seed: u16) -> Self {
        let [high, low] = seed.to_be_bytes();
        let mut bytes = [low; 32];
        bytes[0] = high;
        let identity = Ed25519Key::from_seed(&bytes);
        let exchange = ExchangeSecret::from_seed(bytes.map(|byte| byte ^ 0x80));
        let id = DeviceId::of_key(&identity.public_key().0);
        let pair = exchange.pair_key(&hub_exchange().public_key(), FLEET, id).unwrap();
        Self {
            identity,
            exchange,
            id,
            pair,
            boot: BootId([low; 8]),
            session: Session(0),
            sequence: 0,
            accepted: (Revision::default(), DigestPrefix::default()),
            packet_bytes_max: 65_536,
            memory_bytes: 16 << 20,
            interfaces: CapabilitySet::LOG,
            class: DeviceClass::Gateway,
            health: None,
            reset: ResetCause::PowerOn,
            features: Features::FUNCTION.union(Features::FETCH_HTTP).union(Features::BOOT_CLOCK),
            position: Some(FRANKFURT),
            signed: None,
            shows: false,
            equivocations: 0,
            nonces: 0,
            last_content: DigestPrefix::default(),
        }
    }

    /// Joined, approved, in session, with known capabilities.
    pub fn online(world: &mut World, seed: u16, name: &str) -> Self {
        let mut device = Self::new(seed);
        let token = world.token(true);
        assert!(matches!(device.join(world, &token, name), Some(Ok(true))));
        device.hello(world, true).unwrap();
        device.status(world, &[]);
        device
    }

    pub fn context(&self, session: Session) -> LiveContext<'static> {
        LiveContext { fleet: FLEET, device: self.id, boot: self.boot, session }
    }

    pub fn up(&self, world: &mut World, topic: Up, payload: Vec<u8>) {
        world.input(Input::Up { device: self.id, topic, payload, retained: false });
    }

    /// The answer that was published: `Ok(approved)`.
    pub fn join(
        &mut self,
        world: &mut World,
        token: &str,
        name: &str,
    ) -> Option<Result<bool, wire::join::JoinRefusal>> {
        let mut buffer = [0; TOKEN_TEXT_BYTES_MAX];
        let token = JoinToken::parse(token, &mut buffer).unwrap();
        let (identity, exchange) = (self.identity.public_key(), self.exchange.public_key());
        let nonce = [9; 16];
        let claim = JoinClaim { identity, exchange, nonce, name, class: self.class, position: self.position };
        let signature = claim.sign(&self.identity, FLEET, token.id).unwrap();
        let mut frame = [0; 1024];
        let payload = encode_plain(&mut frame, &JoinRequest { claim, signature }).unwrap().to_vec();
        let from = world.sent.len();
        world.input(Input::Join { token: token.id, payload, retained: false });
        self.join_answer(world, token.id, from)
    }

    pub fn join_answer(
        &self,
        world: &World,
        token: wire::topic::TokenId,
        from: usize,
    ) -> Option<Result<bool, wire::join::JoinRefusal>> {
        let topic = Topic::JoinAnswer(token).print(FLEET).unwrap();
        let publication = world.sent[from..].iter().find(|p| p.topic == topic.as_str())?;
        match decode_plain::<JoinAnswer<'_>>(&publication.payload).unwrap() {
            JoinAnswer::Accepted(accepted) => {
                assert_eq!(accepted.device, self.id);
                let covered = accepted.covered().unwrap();
                assert!(self.exchange.open(&accepted.hub_exchange, &covered, accepted.sealed).is_some());
                Some(Ok(accepted.approved))
            }
            JoinAnswer::Refused { reason, .. } => Some(Err(reason)),
        }
    }

    pub fn capabilities(&self) -> Capabilities<'static> {
        Capabilities {
            class: self.class,
            architecture: Architecture::X86_64,
            agent_version: "0.1.0",
            features: self.features,
            interfaces: self.interfaces,
            records: 64,
            body_bytes: 64 * 1024,
            memory_bytes: self.memory_bytes,
            storage_bytes: 1 << 30,
        }
    }

    /// Says Hello and takes in the answer.
    pub fn hello(&mut self, world: &mut World, full: bool) -> Result<Fresh, Refusal> {
        self.try_hello(world, full).expect("a Hello is answered")
    }

    /// Says Hello and takes in the answer, if there is one.
    pub fn try_hello(&mut self, world: &mut World, full: bool) -> Option<Result<Fresh, Refusal>> {
        self.nonces += 1;
        let nonce = Nonce(self.nonces.to_be_bytes());
        let capabilities = self.capabilities();
        let fixed = HelloFixed {
            boot: self.boot,
            nonce,
            versions: VersionRange::SPOKEN,
            revision: self.accepted.0,
            digest: self.accepted.1,
            status: self.last_content,
            capabilities: capabilities.digest().prefix(),
            packet_bytes_max: self.packet_bytes_max,
            command: CommandId::default(),
            trust: 0,
            lost: LossCounters::default(),
            reset: self.reset,
        };
        let hello = Hello {
            fixed,
            capabilities: full.then_some(capabilities),
            proof: self.signed.filter(|_| self.shows),
            health: self.health,
        };
        let mut buffer = [0; 1024];
        let context = self.context(Session(0));
        let frame =
            encode_live_with(&mut buffer, Kind::Hello, &self.pair, &context, |writer| hello.write(writer)).unwrap();
        let payload = frame.to_vec();
        let from = world.sent.len();
        self.up(world, Up::Hello, payload);
        self.take_fresh(world, from)
    }

    /// As an agent does: a Hello, and another one with the proof if the answer asks for it.
    pub fn hello_and_prove(&mut self, world: &mut World) -> Result<Fresh, Refusal> {
        let first = self.hello(world, true);
        if self.shows { self.hello(world, true) } else { first }
    }

    pub fn take_fresh(&mut self, world: &World, from: usize) -> Option<Result<Fresh, Refusal>> {
        let topic = Topic::Down(self.id, Down::Fresh).print(FLEET).unwrap();
        let answer = world.sent[from..].iter().find(|p| p.topic == topic.as_str())?;
        let context = self.context(Session(0));
        if let Ok(fresh) = decode_live::<Fresh>(&answer.payload, &self.pair, &context) {
            self.session = fresh.session;
            self.shows = fresh.asks.contains(Asks::PROOF);
            return Some(Ok(fresh));
        }
        Some(Err(decode_live::<Refusal>(&answer.payload, &self.pair, &context).unwrap()))
    }

    /// Takes the retained set as an agent does: only if the hub signed exactly this.
    pub fn accept(&mut self, world: &World) -> BTreeMap<(u32, u8), u32> {
        let Some(frame) = world.retained_desired(self.id) else { return BTreeMap::new() };
        let desired = Desired::decode(frame).unwrap();
        assert!(desired.signed.verify(&Ed25519, &hub_key().public_key(), FLEET, self.id), "signed by the hub");
        let body = desired.body.unwrap();
        assert!(body_matches(&desired.signed.header, body));
        let header = desired.signed.header;
        assert!(header.revision >= self.accepted.0, "revisions never go back");
        self.accepted = (header.revision, header.body.prefix());
        self.signed = Some(desired.signed);
        let body = wire::record::Body::decode(body).unwrap();
        body.iter().map(|record| ((record.core.workload.0, record.core.component), record.core.generation)).collect()
    }

    pub fn entry(workload: u32, generation: u32, state: State, reason: Reason, detail: &'static str) -> Entry<'static> {
        let running = if state == State::Running { generation } else { 0 };
        Entry {
            workload: WorkloadId(workload),
            component: 0,
            generation,
            running,
            state,
            reason,
            attempts: 0,
            restarts: 0,
            detail,
        }
    }

    pub fn status(&mut self, world: &mut World, entries: &[Entry<'_>]) {
        self.sequence += 1;
        let refused = wire::status::Refused { equivocation: self.equivocations, ..Default::default() };
        let fixed = StatusFixed {
            session: self.session,
            sequence: self.sequence,
            revision: self.accepted.0,
            digest: self.accepted.1,
            uptime_s: 1,
            memory_free_bytes: 1,
            storage_free_bytes: 1,
            position: self.position,
            lost: LossCounters::default(),
            refused,
        };
        let mut buffer = [0; 4096];
        let context = self.context(self.session);
        let mut content = DigestPrefix::default();
        let count = u16::try_from(entries.len()).unwrap();
        let frame = encode_live_with(&mut buffer, Kind::Status, &self.pair, &context, |writer| {
            let mut status = StatusWriter::new(writer, fixed, count)?;
            entries.iter().try_for_each(|entry| status.entry(entry))?;
            content = status.finish();
            Ok(())
        });
        let payload = frame.unwrap().to_vec();
        self.last_content = content;
        self.up(world, Up::Status, payload);
    }

    /// As after a start: no status was sent yet.
    pub fn forget_status(&mut self) -> DigestPrefix {
        std::mem::take(&mut self.last_content)
    }

    pub fn remember_status(&mut self, content: DigestPrefix) {
        self.last_content = content;
    }

    /// Accepts what is retained and reports all of it as running.
    pub fn run_all(&mut self, world: &mut World) {
        let set = self.accept(world);
        let entries: Vec<Entry<'_>> = set
            .iter()
            .map(|((workload, component), generation)| Entry {
                component: *component,
                ..Self::entry(*workload, *generation, State::Running, Reason::NONE, "")
            })
            .collect();
        self.status(world, &entries);
    }

    pub fn heartbeat(&mut self, world: &mut World, is_known: bool) {
        self.sequence += 1;
        let status = if is_known { self.last_content } else { DigestPrefix([0xee; 8]) };
        let heartbeat = Heartbeat { sequence: self.sequence, status };
        let mut buffer = [0; 64];
        let payload = encode_live(&mut buffer, &self.pair, &self.context(self.session), &heartbeat).unwrap().to_vec();
        self.up(world, Up::Heartbeat, payload);
    }

    pub fn will(&self, world: &mut World, boot: BootId) {
        let context = LiveContext::outside(FLEET, self.id, boot);
        let mut buffer = [0; 64];
        let payload = encode_live(&mut buffer, &self.pair, &context, &Will { boot }).unwrap().to_vec();
        self.up(world, Up::Will, payload);
    }

    pub fn log(&self, world: &mut World, sequence: u32, workload: u32, lines: &[&str]) {
        self.log_at(world, Level::Info, sequence, workload, lines);
    }

    pub fn log_at(&self, world: &mut World, level: Level, sequence: u32, workload: u32, lines: &[&str]) {
        let records: Vec<LogRecord<'_>> = lines
            .iter()
            .map(|text| LogRecord { workload: WorkloadId(workload), component: 0, level, uptime_ms: 1, text })
            .collect();
        let count = u8::try_from(lines.len()).unwrap();
        let fixed = LogFixed { session: self.session, sequence, uptime_ms: 1, count };
        let mut buffer = [0; 4096];
        let context = self.context(self.session);
        let frame =
            encode_live_with(&mut buffer, Kind::Log, &self.pair, &context, |w| write_log(w, fixed, &records)).unwrap();
        let payload = frame.to_vec();
        self.up(world, Up::Log, payload);
    }

    /// Sends records of a class under these sequences; the keys are `k`, the values the sequences.
    pub fn tell(&self, world: &mut World, fixed: SamplesFixed, sequences: &[u32]) {
        let texts: Vec<String> = sequences.iter().map(u32::to_string).collect();
        let records: Vec<Sample<'_>> = sequences
            .iter()
            .zip(&texts)
            .map(|(sequence, text)| Sample {
                sequence: *sequence,
                workload: WorkloadId(1),
                component: 0,
                key: "k",
                uptime_ms: u64::from(*sequence),
                unix_ms: 0,
                value: match fixed.class {
                    Class::Metric => Value::Number { value: i64::from(*sequence), scale: -1 },
                    Class::Alarm | Class::State => Value::Text(text),
                },
            })
            .collect();
        let fixed = SamplesFixed { session: self.session, count: u8::try_from(records.len()).unwrap(), ..fixed };
        let mut buffer = [0; 4096];
        let context = self.context(self.session);
        let frame = encode_live_with(&mut buffer, Kind::Sample, &self.pair, &context, |writer| {
            write_samples(writer, fixed, &records)
        });
        let payload = frame.unwrap().to_vec();
        self.up(world, Up::Sample, payload);
    }

    pub fn emit(&self, world: &mut World, sequence: u32, topic: &str) {
        self.emit_as(world, sequence, topic, 1, None);
    }

    pub fn emit_as(&self, world: &mut World, sequence: u32, topic: &str, workload: u32, fence: Option<Fence>) {
        let event = Event {
            session: self.session,
            sequence,
            workload: WorkloadId(workload),
            component: 0,
            fence,
            topic,
            payload: b"x",
        };
        let mut buffer = [0; 2048];
        let payload = encode_live(&mut buffer, &self.pair, &self.context(self.session), &event).unwrap().to_vec();
        self.up(world, Up::Event, payload);
    }

    /// A question for the right to a workload, as it crosses the air.
    pub fn need_frame(&mut self, workload: u32) -> Vec<u8> {
        self.nonces += 1;
        let nonce = Nonce(self.nonces.to_be_bytes());
        let need = Need { session: self.session, want: Want::Lease { workload: WorkloadId(workload), nonce } };
        let mut buffer = [0; 256];
        encode_live(&mut buffer, &self.pair, &self.context(self.session), &need).unwrap().to_vec()
    }

    /// Asks, and takes in what comes at once.
    pub fn need(&mut self, world: &mut World, workload: u32) -> Option<Grant> {
        let payload = self.need_frame(workload);
        let from = world.sent.len();
        self.up(world, Up::Need, payload);
        self.grants(world, from).pop()
    }

    /// Grants to this boot among what was sent since then.
    pub fn grants(&self, world: &World, from: usize) -> Vec<Grant> {
        let topic = Topic::Down(self.id, Down::Grant).print(FLEET).unwrap();
        let sent = world.sent[from..].iter().filter(|publication| publication.topic == topic.as_str());
        let context = self.context(self.session);
        let grants = sent.filter_map(|publication| {
            assert!(!publication.retain && !publication.qos1, "a kept grant would start a second instance");
            decode_live::<Grant>(&publication.payload, &self.pair, &context).ok()
        });
        grants.collect()
    }

    pub fn released(&self, world: &mut World, workload: u32, fence: Fence) {
        let released = Released { session: self.session, workload: WorkloadId(workload), fence };
        let mut buffer = [0; 256];
        let payload = encode_live(&mut buffer, &self.pair, &self.context(self.session), &released).unwrap().to_vec();
        self.up(world, Up::Released, payload);
    }

    /// Starts anew: it knows nothing of what was granted before.
    pub fn reboot(&mut self, world: &mut World) {
        let boot = u64::from_be_bytes(self.boot.0).wrapping_mul(31).wrapping_add(7);
        self.boot = BootId(boot.to_be_bytes());
        self.sequence = 0;
        self.hello(world, false).unwrap();
        self.status(world, &[]);
    }

    /// What was routed to it since then.
    pub fn inputs(&self, world: &World, from: usize) -> Vec<(WorkloadId, Option<Fenced>)> {
        let topic = Topic::Down(self.id, Down::Input).print(FLEET).unwrap();
        let sent = world.sent[from..].iter().filter(|publication| publication.topic == topic.as_str());
        let context = self.context(self.session);
        let inputs = sent.filter_map(|publication| {
            let input = decode_live::<wire::event::Input<'_>>(&publication.payload, &self.pair, &context).ok()?;
            Some((input.workload, input.fence))
        });
        inputs.collect()
    }
}
