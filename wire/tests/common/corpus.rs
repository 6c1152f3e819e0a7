//! One representative of every message, clause, header, record and text, with fixed keys: what the golden files pin, what the
//! hostile tests cut and bend, what the seeded mutations start from.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]
use super::families::{BOOT, FLEET, SESSION, TOKEN, World, device_key, hub_key, root_key};
use core::fmt::Debug;
use wire::clause::{
    Clause, FunctionLimits, Name, OnStale, Reference, Residency, Retry, Schedule, Secret, StaleAction, Stated, Topics,
};
use wire::dalek::{Ed25519Key, ExchangeSecret};
use wire::desired::{ClassLimits, Header, SignedHeader};
use wire::event::{Event, Fenced, Input, Level, LogFixed, LogRecord, write_log};
use wire::firmware::{Firmware, Obstacle, Offer, Phase, Statement};
use wire::frame::{Body, Kind, encode_live, encode_live_with, encode_plain};
use wire::grant::{Grant, Released};
use wire::hello::{
    Architecture, Asks, Capabilities, DeviceClass, Erases, Features, Fresh, Health, Heartbeat, Hello, HelloFixed,
    HubState, LastEnd, LossCounters, Refusal, RefusalReason, Report, ResetCause, Wear, Will,
};
use wire::id::{CommandId, Fence, Instance, Nonce, Order, Revision, WorkloadId};
use wire::join::{Accepted, JoinAnswer, JoinClaim, JoinRefusal, JoinRequest, JoinToken, hub_fingerprint};
use wire::limits::LINE_PAYLOAD_BYTES_MAX;
use wire::line::{LINE_WIRE_BYTES_MAX, LineBody, LineEnd, LineFrame, LineId};
use wire::position::Position;
use wire::provision::{EntropySeed, MacAddress, Network, Provision, StaticAddress, Wifi};
use wire::record::{BodyWriter, CapabilitySet, Core, Role, Runtime, encode_clauses};
use wire::sample::{Class, Sample, SamplesFixed, Taken, Value, write_samples};
use wire::sign::Sign;
use wire::status::{Entry, Reason, Refused, State, StatusFixed, StatusWriter};
use wire::topic::{Down, Topic, Up};
use wire::transfer::{Action, Chunk, Command, CommandOutcome, CommandResult, Need, Want};
use wire::trust::Link;
use wire::version::VersionRange;
use wire::{DeviceId, Digest, DigestPrefix};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// A whole frame.
    Frame(Kind),
    /// The body of a desired set, without header.
    Set,
    /// A list of clauses, as inside a record.
    Clauses,
    Text,
    /// A provisioning record, as it stands in flash.
    Provision,
    /// Pinned, but not decoded by itself.
    Bytes,
}

#[derive(Clone, Debug)]
pub struct Item {
    /// The golden file.
    pub group: &'static str,
    pub name: String,
    /// What it says, for people who review a change of the file.
    pub says: String,
    pub bytes: Vec<u8>,
    pub family: Family,
}

impl Item {
    /// The part below version, kind and tag.
    pub fn body(&self) -> Option<(Kind, &[u8])> {
        match self.family {
            Family::Frame(Kind::Desired | Kind::Trust) => None,
            Family::Frame(kind @ (Kind::HubState | Kind::JoinRequest | Kind::JoinAnswer)) => {
                Some((kind, &self.bytes[2..]))
            }
            Family::Frame(kind) => Some((kind, &self.bytes[18..])),
            Family::Set => Some((Kind::Desired, &self.bytes)),
            Family::Clauses | Family::Text | Family::Provision | Family::Bytes => None,
        }
    }
}

pub fn order(incarnation: u32, counter: u64) -> Order {
    Order::new(incarnation, counter).unwrap()
}

pub fn digest(seed: u8) -> Digest {
    Digest([seed; 32])
}

pub fn prefix(seed: u8) -> DigestPrefix {
    digest(seed).prefix()
}

pub const NONCE: Nonce = Nonce([0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7]);
pub const JOIN_NONCE: [u8; 16] = [0xd0; 16];
pub const POSITION: Position = Position { longitude_e7: 84_038_112, latitude_e7: -490_094_000, uncertainty_m: 25 };

pub fn core(workload: u32, component: u8) -> Core {
    Core {
        workload: WorkloadId(workload),
        component,
        generation: 3,
        role: Role::Service,
        runtime: Runtime::Function,
        artifact: digest(0x11),
        artifact_bytes: 4096,
        memory_bytes: 65_536,
        fuel: 1_000_000,
        instances: 1,
        capabilities: CapabilitySet::LOG.union(CapabilitySet::EMIT),
    }
}

pub const REFERENCE: Reference = Reference { digest: Digest([0x22; 32]), bytes: 70_000 };

pub fn capabilities() -> Capabilities<'static> {
    Capabilities {
        class: DeviceClass::Gateway,
        architecture: Architecture::Aarch64,
        agent_version: "0.1.0-abcdef",
        features: Features::FUNCTION.union(Features::BOOT_CLOCK).union(Features::FETCH_HTTP),
        interfaces: CapabilitySet::LOG.union(CapabilitySet::EMIT).union(CapabilitySet::STATE),
        records: 256,
        body_bytes: 131_072,
        memory_bytes: 268_435_456,
        storage_bytes: 8_589_934_592,
    }
}

pub fn health() -> Health<'static> {
    Health {
        is_new: true,
        uptime_s: 7,
        end: Some(LastEnd { address: 0x2000_1234, text: "src/main.rs:17: out of range" }),
        wear: Some(Wear { journal: Erases { all: 300, boot: 2 }, artifacts: Erases { all: 12, boot: 0 } }),
        behind: Some(DeviceId([7; 16])),
    }
}

pub fn hello_fixed() -> HelloFixed {
    HelloFixed {
        boot: BOOT,
        nonce: NONCE,
        versions: VersionRange::SPOKEN,
        revision: Revision(order(2, 300)),
        digest: prefix(0x33),
        status: prefix(0x55),
        capabilities: prefix(0x44),
        packet_bytes_max: 16_384,
        command: CommandId(order(2, 5)),
        trust: 1,
        lost: LossCounters { events: 1, logs: 300, alarms: 2, states: 3, metrics: 4_000 },
        reset: ResetCause::Watchdog,
    }
}

pub fn fresh() -> Fresh {
    Fresh {
        nonce: NONCE,
        revision: Revision(order(2, 300)),
        digest: prefix(0x33),
        time_ms: 1_767_225_600_000,
        session: SESSION,
        heartbeat_s: 30,
        asks: Asks::STATUS,
    }
}

pub fn signed_header() -> SignedHeader {
    let limits = ClassLimits { records: 256, memory_bytes: 268_435_456 };
    let header = Header::of(Revision(order(2, 300)), &set_of_one(), limits).unwrap();
    header.sign(&hub_key(), FLEET, World::new().device).unwrap()
}

/// Every clause once, in order, and what is in it.
pub fn with_every_clause<T>(then: impl FnOnce(&[Clause<'_>]) -> T) -> T {
    let mut room = [0; 256];
    let topics = Topics::encode(&mut room, &["sensors/door", "local/#"]).unwrap();
    then(&[
        Clause::Name(Name { namespace: "default", name: "doorbell", component: "main" }),
        Clause::Config(b"{\"chime\":2}"),
        Clause::ConfigReference(REFERENCE),
        Clause::After(&[0, 1]),
        Clause::Every(60_000),
        Clause::Topics(topics),
        Clause::Limits(FunctionLimits {
            host_calls: 500,
            log_bytes: 1024,
            emit_bytes: 2048,
            state_bytes: 16_384,
            sample_bytes: 512,
        }),
        Clause::Retry(Retry { attempts: 5, window_s: 600 }),
        Clause::StopGrace(5_000),
        Clause::Unconfirmed,
        Clause::StopAfter(86_400_000),
        Clause::Lease(30_000),
        Clause::OnStale(OnStale { after_ms: 3_600_000, action: StaleAction::Degrade }),
        Clause::Secret(Secret { name: "api-key", version: 4, sealed: REFERENCE }),
        Clause::Schedule(Schedule { cron: "0 6 * * 1-5", missed_runs_max: 1 }),
        Clause::Trace(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        Clause::Residency(Residency { region: REFERENCE, grace_ms: 120_000 }),
        Clause::ChunkRoot(digest(0x55)),
        Clause::PublisherSignature(REFERENCE),
        Clause::Unknown { number: 4000, bytes: b"later" },
    ])
}

pub fn stated<'a>(clause: &Clause<'a>) -> Stated<'a> {
    Stated { critical: clause.is_critical_by_default(), clause: *clause }
}

pub fn set_of_one() -> Vec<u8> {
    let mut buffer = [0; 512];
    let mut writer = BodyWriter::new(&mut buffer, 1).unwrap();
    let name = Name { namespace: "default", name: "doorbell", component: "" };
    writer.record(&core(12, 0), &[Clause::Name(name), Clause::Every(60_000)]).unwrap();
    writer.finish().to_vec()
}

pub fn set_of_all_clauses() -> Vec<u8> {
    let mut buffer = [0; 4096];
    let mut writer = BodyWriter::new(&mut buffer, 2).unwrap();
    writer.record(&core(300, 2), &[]).unwrap();
    with_every_clause(|clauses| writer.record(&core(300, 3), clauses)).unwrap();
    writer.finish().to_vec()
}

pub fn join_claim() -> JoinClaim<'static> {
    JoinClaim {
        identity: device_key().public_key(),
        exchange: ExchangeSecret::from_seed([4; 32]).public_key(),
        nonce: JOIN_NONCE,
        name: "porch",
        class: DeviceClass::Mcu,
        position: Some(POSITION),
    }
}

pub fn join_token() -> JoinToken<'static> {
    JoinToken {
        id: TOKEN,
        secret: [0x5e; 16],
        fleet: FLEET,
        broker: "mqtts://hub.example:8883",
        certificate: Some(digest(0x66)),
        hub: hub_fingerprint(&hub_key().public_key(), &ExchangeSecret::from_seed([5; 32]).public_key()),
    }
}

pub fn provision() -> Provision<'static> {
    Provision {
        board: "qemu-mps2-an386",
        name: "porch",
        token: JoinToken { certificate: None, broker: "mqtt://192.0.2.2:1883", ..join_token() },
        position: Some(POSITION),
        mac: MacAddress([0x02, 0xf1, 0, 0, 0, 1]),
        network: Network::Dhcp,
        wifi: None,
        seed: EntropySeed([0xe5; 32]),
    }
}

pub fn provision_static() -> Provision<'static> {
    let network = Network::Static(StaticAddress {
        address: [192, 0, 2, 15],
        prefix: 24,
        gateway: Some([192, 0, 2, 2]),
        dns: Some([192, 0, 2, 3]),
    });
    let wifi = Some(Wifi { name: "greenhouse", secret: "tomatoes and basil" });
    Provision { board: "esp32-c6", name: "", position: None, token: join_token(), network, wifi, ..provision() }
}

/// Every frame of a serial line.
pub fn line_frames() -> Vec<LineFrame<'static>> {
    let frame = |body| LineFrame { id: LineId { leaf: 0x0102_0304, gateway: 0xa0b0_00d0 }, body };
    let mut frames = vec![
        frame(LineBody::Open),
        frame(LineBody::Waiting),
        frame(LineBody::Opened { gateway: DeviceId([0; 16]) }),
        frame(LineBody::Data { sequence: 0, taken: 0, bytes: &[0] }),
        frame(LineBody::Data { sequence: 0xfffe, taken: 0x0100, bytes: &[0x5a; LINE_PAYLOAD_BYTES_MAX] }),
        frame(LineBody::Pulse { taken: 0xffff }),
    ];
    frames.extend(LineEnd::ALL.map(|end| frame(LineBody::Closed { end })));
    frames
}

pub fn link() -> Link {
    Link {
        version: 2,
        epoch: 1,
        root: root_key().public_key(),
        hub_keys: [hub_key().public_key()].into_iter().collect(),
        publisher_keys: [Ed25519Key::from_seed(&[6; 32]).public_key()].into_iter().collect(),
        revoked: [Ed25519Key::from_seed(&[7; 32]).public_key().id()].into_iter().collect(),
    }
}

pub fn status_fixed(position: Option<Position>) -> StatusFixed {
    StatusFixed {
        session: SESSION,
        sequence: 90,
        revision: Revision(order(2, 300)),
        digest: prefix(0x33),
        uptime_s: 86_400,
        memory_free_bytes: 1_000_000,
        storage_free_bytes: 5_000_000_000,
        position,
        lost: LossCounters::default(),
        refused: Refused { equivocation: 1, ..Refused::default() },
    }
}

pub fn entry(workload: u32, component: u8, state: State, reason: Reason, detail: &str) -> Entry<'_> {
    Entry {
        workload: WorkloadId(workload),
        component,
        generation: 4,
        running: 3,
        state,
        reason,
        attempts: 2,
        restarts: 200,
        detail,
    }
}

pub fn status_frame(world: &World, fixed: StatusFixed, entries: &[Entry<'_>]) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let context = world.context(Kind::Status);
    encode_live_with(&mut buffer, Kind::Status, &world.pair, &context, |writer| {
        let mut status = StatusWriter::new(writer, fixed, entries.len() as u16)?;
        entries.iter().try_for_each(|entry| status.entry(entry))
    })
    .unwrap()
    .to_vec()
}

struct Corpus {
    world: World,
    items: Vec<Item>,
}

impl Corpus {
    fn push(&mut self, group: &'static str, name: &str, says: String, bytes: Vec<u8>, family: Family) {
        self.items.push(Item { group, name: name.to_owned(), says, bytes, family });
    }

    fn live<T: Body + Debug>(&mut self, group: &'static str, name: &str, value: &T) {
        let mut buffer = [0; 4096];
        let context = self.world.context(T::KIND);
        let bytes = encode_live(&mut buffer, &self.world.pair, &context, value).unwrap().to_vec();
        self.push(group, name, format!("{value:?}"), bytes, Family::Frame(T::KIND));
    }

    fn hello(&mut self, name: &str, hello: &Hello<'_>) {
        let mut buffer = [0; 1024];
        let context = self.world.context(Kind::Hello);
        let bytes =
            encode_live_with(&mut buffer, Kind::Hello, &self.world.pair, &context, |writer| hello.write(writer));
        self.push("hello", name, format!("{hello:?}"), bytes.unwrap().to_vec(), Family::Frame(Kind::Hello));
    }

    fn plain<T: Body + Debug>(&mut self, group: &'static str, name: &str, value: &T) {
        let mut buffer = [0; 1024];
        let bytes = encode_plain(&mut buffer, value).unwrap().to_vec();
        self.push(group, name, format!("{value:?}"), bytes, Family::Frame(T::KIND));
    }

    fn desired(&mut self, name: &str, body: &[u8]) {
        let limits = ClassLimits { records: 256, memory_bytes: 268_435_456 };
        let header = Header::of(Revision(order(2, 300)), body, limits).unwrap();
        let signed = header.sign(&hub_key(), FLEET, self.world.device).unwrap();
        let mut buffer = vec![0; 16_384];
        let bytes = signed.encode(&mut buffer, body).unwrap().to_vec();
        self.push("desired", name, format!("{header:?}"), bytes, Family::Frame(Kind::Desired));
    }

    fn stored(&mut self) {
        let one = set_of_one();
        let all = set_of_all_clauses();
        self.desired("empty", &[0]);
        self.desired("one-record", &one);
        self.desired("every-clause", &all);
        self.desired("body-apart", &[0; 9000]);
        self.push("record", "one", format!("{:?}", core(12, 0)), one, Family::Set);
        self.push("record", "every-clause", format!("{:?}", core(300, 3)), all, Family::Set);
        let says = format!("{:?}", signed_header());
        let mut buffer = [0; 256];
        let mut writer = wire::codec::Writer::new(&mut buffer);
        signed_header().write(&mut writer).unwrap();
        let bytes = writer.written().to_vec();
        self.push("desired", "header-for-journal-and-proof", says, bytes, Family::Bytes);
        let mut buffer = [0; 512];
        let bytes = link().encode(&mut buffer, &root_key(), FLEET).unwrap().to_vec();
        self.push("trust", "link", format!("{:?}", link()), bytes, Family::Frame(Kind::Trust));
    }

    fn clauses(&mut self) {
        let lists: Vec<(String, String, Vec<u8>)> = with_every_clause(|clauses| {
            clauses
                .iter()
                .map(|clause| {
                    let mut buffer = [0; 512];
                    let bytes = encode_clauses(&mut buffer, &[stated(clause)]).unwrap().to_vec();
                    (format!("{}", clause.number()), format!("{clause:?}"), bytes)
                })
                .collect()
        });
        for (name, says, bytes) in lists {
            self.push("clause", &name, says, bytes, Family::Clauses);
        }
    }

    fn down(&mut self) {
        self.live("fresh", "status-asked", &fresh());
        for reason in [
            RefusalReason::Busy,
            RefusalReason::UnsupportedVersion,
            RefusalReason::Quarantined,
            RefusalReason::NotApproved,
        ] {
            self.live("refusal", &format!("{reason:?}"), &Refusal { nonce: NONCE, reason, retry_after_s: 120 });
        }
        self.live("report", "all", &Report { asks: Asks::STATUS.union(Asks::CAPABILITIES).union(Asks::PROOF) });
        let fence = Fence(order(2, 9));
        self.live("grant", "renewal", &Grant { nonce: NONCE, workload: WorkloadId(12), fence, ms: 30_000 });
        let input = Input { sequence: 3, workload: WorkloadId(12), fence: None, topic: "door/open", payload: b"yes" };
        self.live("input", "plain", &input);
        self.live("input", "fenced", &Input { fence: Some(Fenced { workload: WorkloadId(13), fence }), ..input });
        self.live("chunk", "first", &Chunk { content: prefix(0x11), offset: 1024, bytes: b"\0asm-and-more" });
        for (name, action) in [
            ("reboot", Action::Reboot),
            ("locate", Action::Locate),
            ("fetch-log", Action::FetchLog { from: 1000, records_max: 200 }),
            ("run-once", Action::RunOnce { workload: WorkloadId(12), component: 1 }),
        ] {
            self.live("command", name, &Command { id: CommandId(order(2, 6)), not_after_s: 600, action });
        }
        let statement = Statement { board: "qemu-mps2-an386", version: 7, bytes: 800_000, digest: digest(0x11) };
        let signature = statement.sign(&hub_key(), FLEET).unwrap().0;
        let Statement { version, bytes, digest, .. } = statement;
        self.live("offer", "usual", &Offer { version, bytes, digest, trial_s: 600, signature: &signature });
    }

    fn up(&mut self) {
        let fixed = hello_fixed();
        self.hello("unchanged", &Hello { fixed, capabilities: None, proof: None, health: None });
        let full =
            Hello { fixed, capabilities: Some(capabilities()), proof: Some(signed_header()), health: Some(health()) };
        self.hello("full", &full);
        self.live("heartbeat", "usual", &Heartbeat { sequence: 91, status: prefix(0x77) });
        self.live("will", "usual", &Will { boot: BOOT });
        let fence = Fence(order(2, 9));
        self.live("released", "usual", &Released { session: SESSION, workload: WorkloadId(12), fence });
        for (name, want) in [
            ("artifact", Want::Artifact { digest: digest(0x11), offset: 2048, count: 4 }),
            ("body", Want::Body { digest: digest(0x12), offset: 0, count: 1 }),
            ("lease", Want::Lease { workload: WorkloadId(12), nonce: NONCE }),
            ("trust", Want::Trust { from: 2 }),
        ] {
            self.live("need", name, &Need { session: SESSION, want });
        }
        let event = Event {
            session: SESSION,
            sequence: 8,
            workload: WorkloadId(12),
            component: 0,
            fence: Some(fence),
            topic: "door/open",
            payload: b"payload",
        };
        self.live("event", "fenced", &event);
        self.live("event", "empty", &Event { fence: None, payload: b"", ..event });
        self.live("taken", "usual", &Taken { stream: 77, sequence: 9 });
        for (name, outcome) in [
            ("done", CommandOutcome::Done),
            ("failed", CommandOutcome::Failed),
            ("interrupted", CommandOutcome::Interrupted),
            ("expired", CommandOutcome::Expired),
            ("not-supported", CommandOutcome::NotSupported),
        ] {
            let id = CommandId(order(2, 6));
            self.live("command-result", name, &CommandResult { session: SESSION, id, outcome, detail: "detail-text" });
        }
        let idle = Firmware {
            session: SESSION,
            board: "qemu-mps2-an386",
            running: 6,
            target: 0,
            phase: Phase::Idle,
            obstacle: Obstacle::None,
            done: 0,
        };
        self.live("firmware", "idle", &idle);
        self.live("firmware", "fetching", &Firmware { target: 7, phase: Phase::Fetching, done: 4096, ..idle });
        let failed = Firmware { target: 7, phase: Phase::Failed, obstacle: Obstacle::Watchdog, ..idle };
        self.live("firmware", "failed", &failed);
        self.status();
        self.log();
        self.samples();
    }

    fn status(&mut self) {
        let entries = [
            entry(12, 0, State::Running, Reason::NONE, ""),
            entry(12, 1, State::BackOff, Reason::TRAPPED, "unreachable at 0x1f"),
            entry(300, 0, State::Refused, Reason::UNKNOWN_CLAUSE, "clause 4000"),
        ];
        for (name, position, entries) in
            [("empty", None, &entries[..0]), ("three-components", Some(POSITION), &entries[..])]
        {
            let bytes = status_frame(&self.world, status_fixed(position), entries);
            let says = format!("{:?} {entries:?}", status_fixed(position));
            self.push("status", name, says, bytes, Family::Frame(Kind::Status));
        }
    }

    fn log(&mut self) {
        let record = |level, text| LogRecord { workload: WorkloadId(12), component: 0, level, uptime_ms: 1500, text };
        let records = [
            record(Level::Trace, "begin"),
            record(Level::Debug, "detail"),
            record(Level::Info, "ding"),
            record(Level::Warn, "battery low"),
            record(Level::Error, "gr\u{fc}\u{df}e"),
        ];
        let fixed = LogFixed { session: SESSION, sequence: 40, uptime_ms: 2000, count: 5 };
        let mut buffer = [0; 1024];
        let context = self.world.context(Kind::Log);
        let bytes = encode_live_with(&mut buffer, Kind::Log, &self.world.pair, &context, |writer| {
            write_log(writer, fixed, &records)
        });
        let says = format!("{fixed:?} {records:?}");
        self.push("log", "five-levels", says, bytes.unwrap().to_vec(), Family::Frame(Kind::Log));
    }

    fn samples(&mut self) {
        let sample = Sample {
            sequence: 4,
            workload: WorkloadId(12),
            component: 0,
            key: "temperature",
            uptime_ms: 123_456,
            unix_ms: 0,
            value: Value::Number { value: -2155, scale: -2 },
        };
        let metric = SamplesFixed {
            session: SESSION,
            class: Class::Metric,
            stream: 0,
            first: 4,
            lost: 3,
            uptime_ms: Some(124_000),
            count: 2,
        };
        let state = SamplesFixed { class: Class::State, lost: 0, count: 1, ..metric };
        let alarm = SamplesFixed { class: Class::Alarm, stream: 77, uptime_ms: None, count: 1, ..metric };
        let text = |text| Sample { value: Value::Text(text), key: "door", ..sample };
        for (name, fixed, records) in [
            ("metrics", metric, &[sample, Sample { sequence: 6, ..sample }][..]),
            ("state", state, &[text("open")][..]),
            ("alarm", alarm, &[Sample { unix_ms: 1_700_000_000_000, ..text("gr\u{fc}n") }][..]),
        ] {
            let mut buffer = [0; 1024];
            let context = self.world.context(Kind::Sample);
            let bytes = encode_live_with(&mut buffer, Kind::Sample, &self.world.pair, &context, |writer| {
                write_samples(writer, fixed, records)
            });
            let says = format!("{fixed:?} {records:?}");
            self.push("sample", name, says, bytes.unwrap().to_vec(), Family::Frame(Kind::Sample));
        }
    }

    fn plain_messages(&mut self) {
        let state = HubState {
            incarnation: 2,
            spread_ms: 60_000,
            watermark: 123_456,
            fence: Fence(order(2, 9)),
            instance: Instance([0x5a; 8]),
        };
        self.plain("hub-state", "usual", &state);
        let claim = join_claim();
        let signature = claim.sign(&device_key(), FLEET, TOKEN).unwrap();
        self.plain("join-request", "placed", &JoinRequest { claim, signature });
        let claim = JoinClaim { name: "", position: None, class: DeviceClass::Gateway, ..claim };
        let signature = claim.sign(&device_key(), FLEET, TOKEN).unwrap();
        self.plain("join-request", "nameless", &JoinRequest { claim, signature });
        let hub = ExchangeSecret::from_seed([5; 32]);
        let unsealed = Accepted {
            nonce: JOIN_NONCE,
            device: self.world.device,
            hub_signing: hub_key().public_key(),
            hub_exchange: hub.public_key(),
            sealed: &[],
            artifacts: "http://hub.example:7443",
            name: "porch",
            approved: true,
        };
        let sealed = hub.seal(&claim.exchange, &unsealed.covered().unwrap(), &[0xee; 32]).unwrap();
        let accepted = Accepted { sealed: &sealed, ..unsealed };
        self.plain("join-answer", "accepted", &JoinAnswer::Accepted(accepted));
        for reason in [
            JoinRefusal::TokenUsed,
            JoinRefusal::TokenExpired,
            JoinRefusal::NotAuthentic,
            JoinRefusal::NameTaken,
            JoinRefusal::Malformed,
            JoinRefusal::Busy,
        ] {
            self.plain("join-answer", &format!("{reason:?}"), &JoinAnswer::Refused { nonce: JOIN_NONCE, reason });
        }
    }

    fn texts(&mut self) {
        let device = self.world.device;
        let mut text = |group, name: &str, text: &str| {
            self.items.push(Item {
                group,
                name: name.to_owned(),
                says: text.to_owned(),
                bytes: text.as_bytes().to_vec(),
                family: Family::Text,
            });
        };
        text("text", "device-id", &device.text());
        text("text", "token-id", &TOKEN.to_string());
        text("text", "digest", &digest(0x9a).text());
        text("text", "join-token", &join_token().text().unwrap());
        let loopback = JoinToken { certificate: None, broker: "mqtt://127.0.0.1:1883", ..join_token() };
        text("text", "join-token-loopback", &loopback.text().unwrap());
        for down in Down::ALL {
            text("topic", down.name(), &Topic::Down(device, down).print(FLEET).unwrap());
        }
        for up in Up::ALL {
            text("topic", up.name(), &Topic::Up(device, up).print(FLEET).unwrap());
        }
        text("topic", "hub-state", &Topic::HubState.print(FLEET).unwrap());
        text("topic", "join-request", &Topic::JoinRequest(TOKEN).print(FLEET).unwrap());
        text("topic", "join-answer", &Topic::JoinAnswer(TOKEN).print(FLEET).unwrap());
    }

    fn flashed(&mut self) {
        for (name, record) in [("dhcp", provision()), ("static-wifi", provision_static())] {
            let mut buffer = [0; wire::limits::PROVISION_BYTES_MAX];
            let bytes = record.encode(&mut buffer).unwrap().to_vec();
            self.push("provision", name, format!("{record:?}"), bytes, Family::Provision);
        }
    }

    fn line(&mut self) {
        for (at, frame) in line_frames().into_iter().enumerate() {
            let mut buffer = [0; LINE_WIRE_BYTES_MAX];
            let length = frame.encode(&mut buffer);
            self.push("line", &format!("{at}"), format!("{frame:?}"), buffer[..length].to_vec(), Family::Bytes);
        }
    }

    fn derived(&mut self) {
        let device = ExchangeSecret::from_seed([4; 32]);
        let hub = ExchangeSecret::from_seed([5; 32]).public_key();
        let key = device.pair_key(&hub, FLEET, self.world.device).unwrap();
        let says = "HKDF-SHA-256 of X25519, salt fulmar/v1/pair, info fleet then device".to_owned();
        self.push("key", "pair", says, key.0.to_vec(), Family::Bytes);
        let says = format!("{:?}", capabilities());
        self.push("key", "capabilities-digest", says, capabilities().digest().0.to_vec(), Family::Bytes);
    }
}

pub fn corpus() -> Vec<Item> {
    let mut corpus = Corpus { world: World::new(), items: Vec::new() };
    corpus.stored();
    corpus.clauses();
    corpus.down();
    corpus.up();
    corpus.plain_messages();
    corpus.texts();
    corpus.flashed();
    corpus.line();
    corpus.derived();
    corpus.items
}
