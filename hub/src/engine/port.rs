//! The engine's doors: every input and every effect, as closed enums of plain data.
//!
//! Nothing here may decide. Edges translate HTTP, MQTT and the store into these and back.

mod about;

pub use about::*;

use super::apply::Applier;
pub use super::measure::Measures;
use crate::commit::{Batch, CommitFailure};
use crate::geo::{Distance, Point};
use crate::grants::Grant;
use crate::model::{DevicePosition, FieldError, FieldSelector, Kind, ObjectKey, RolloutRequest, Selector};
use crate::problem_code::ProblemCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use wire::desired::SignedHeader;
use wire::join::ExchangeKey;
use wire::limits::JOIN_SECRET_BYTES;
use wire::topic::{TokenId, Up};
use wire::{DeviceId, Digest, PairKey};

/// Milliseconds of a clock that never goes back; its zero means nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Both clocks, read by the shell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    pub monotonic: Instant,
    /// Unix time.
    pub wall_ms: u64,
}

/// Names a question of an edge; the answer carries it back. Unique while in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Key agreement with a device that joins. Pure computation; the secret stays inside.
pub trait Exchange: Send {
    fn public_key(&self) -> ExchangeKey;
    fn pair_key(&self, other: &ExchangeKey, fleet: &str, device: DeviceId) -> Option<PairKey>;
    fn seal(&self, other: &ExchangeKey, covered: &Digest, credential: &[u8; 32]) -> Option<[u8; 48]>;
    fn join_secret(&self, fleet: &str, token: TokenId) -> Option<[u8; JOIN_SECRET_BYTES]>;
}

impl Exchange for wire::dalek::ExchangeSecret {
    fn public_key(&self) -> ExchangeKey {
        self.public_key()
    }

    fn pair_key(&self, other: &ExchangeKey, fleet: &str, device: DeviceId) -> Option<PairKey> {
        self.pair_key(other, fleet, device)
    }

    fn seal(&self, other: &ExchangeKey, covered: &Digest, credential: &[u8; 32]) -> Option<[u8; 48]> {
        self.seal(other, covered, credential)
    }

    fn join_secret(&self, fleet: &str, token: TokenId) -> Option<[u8; JOIN_SECRET_BYTES]> {
        self.join_secret(fleet, token)
    }
}

/// What the shell decides once. Durations are values so that tests can shorten them.
pub struct EngineConfig {
    /// Written into join tokens: `mqtt://host:port`.
    pub broker: String,
    /// Where devices fetch artifacts, `http://host:port`; empty: over MQTT only.
    pub artifacts: String,
    /// SHA-256 of the broker's certificate; `None` on plain loopback.
    pub certificate: Option<Digest>,
    pub exchange: Box<dyn Exchange>,
    /// The chain of trust as devices get it; empty: none is published.
    pub trust: Vec<u8>,
    pub heartbeat: Duration,
    /// Devices spread their Hello over this time after a new incarnation.
    pub spread: Duration,
    /// Period of the comparison of what devices report with what they should hold.
    pub sweep: Duration,
    /// Publications of retained sets per second after a reconnect.
    pub republish_per_second: u32,
    /// A device that was suspect for so long is lost.
    pub lost_after: Duration,
    /// Random bits of this start, so that it knows its own words on `hub/state`.
    pub instance: wire::Instance,
    /// Hellos that are answered per second; further ones are told to come again.
    pub hellos_per_second: u32,
    /// The hub's signing key, for what an operator rolls out; `None`: nothing can be.
    pub signer: Option<Signer>,
}

/// Signs on the engine's thread, once for a rollout.
pub type Signer = std::sync::Arc<dyn wire::sign::Sign + Send + Sync>;

impl EngineConfig {
    /// Production values around what only the shell knows.
    pub fn new(broker: String, artifacts: String, exchange: Box<dyn Exchange>) -> Self {
        Self {
            broker,
            artifacts,
            certificate: None,
            exchange,
            trust: Vec::new(),
            heartbeat: Duration::from_secs(30),
            spread: super::admission::SPREAD,
            sweep: Duration::from_secs(3600),
            republish_per_second: 500,
            lost_after: Duration::from_secs(1),
            instance: wire::Instance::default(),
            hellos_per_second: super::admission::HELLOS_PER_SECOND,
            signer: None,
        }
    }
}

/// Everything that can happen to the engine.
#[derive(Debug)]
pub enum Input {
    Request {
        ticket: Ticket,
        actor: String,
        request: Request,
    },
    /// Nobody waits for this ticket any more: its answer is dropped, its stream ends without `End`.
    Cancel {
        ticket: Ticket,
    },
    /// A watcher has taken so many items.
    Took {
        ticket: Ticket,
        items: u32,
    },
    /// A message of a device; the broker has checked that the device may publish on this topic.
    Up {
        device: DeviceId,
        topic: Up,
        payload: Vec<u8>,
        retained: bool,
    },
    /// A message on `join/<token>/req`. It needs no entropy: a credential is derived from the pair's key and the
    /// request's nonce, so that a repeated request gets the same bytes under the same seal.
    Join {
        token: TokenId,
        payload: Vec<u8>,
        retained: bool,
    },
    LinkUp,
    LinkDown,
    /// A QoS 1 publication was taken over by the broker.
    Acknowledged {
        publication: u64,
    },
    /// A QoS 1 publication was refused by broker or link.
    PublishRefused {
        publication: u64,
    },
    /// All writes of this batch are durable. Comes in the order of the sequences.
    Committed {
        sequence: u64,
        signed: Vec<(DeviceId, SignedHeader)>,
    },
    /// The batch with this sequence, and everything after it, is not durable. At most once per era.
    Failed {
        sequence: u64,
        reason: CommitFailure,
    },
    /// A hub/state: retained as the broker holds it, read at each connect before `LinkUp` or soon after; otherwise as a
    /// hub, this one or another, has just said it.
    HubStateSeen {
        payload: Vec<u8>,
        retained: bool,
    },
    /// The broker's account of this hub was given to another hub.
    AccountTaken,
    /// Answers `Effect::Probe`, where the shell can look: whether the listener for devices takes a connection.
    Door {
        is_open: bool,
    },
    /// Answers `Effect::Read`; `None`: it cannot be read.
    ContentRead {
        read: u64,
        content: Option<Vec<u8>>,
    },
}

/// Everything that the engine can want.
#[derive(Debug)]
pub enum Effect {
    Commit(Batch),
    Publish(Publication),
    Answer {
        ticket: Ticket,
        result: Result<Answer, Problem>,
    },
    /// Only for tickets that were answered with lines or `Answer::Watching` and asked to follow.
    Stream {
        ticket: Ticket,
        item: StreamItem,
    },
    Access(AccessChange),
    /// Whether the broker's listener for devices takes a connection. Answered by `Input::Door`, if anybody can look.
    Probe,
    /// Answered by `Input::ContentRead`, soon and in any case.
    Read(ContentRead),
}

/// A part of an artifact: so many bytes from an offset, or as many as there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRead {
    pub read: u64,
    pub digest: Digest,
    pub offset: u64,
    pub length: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Comes back as `Acknowledged` or `PublishRefused`; means nothing with QoS 0.
    pub publication: u64,
    pub topic: String,
    /// Empty and retained clears the topic.
    pub payload: Vec<u8>,
    pub retain: bool,
    pub qos1: bool,
}

/// Who may connect to the broker, and who may use the API. Durable before it is said; at start the shell fills the table from `Loaded`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessChange {
    /// What the credential was made from goes with its hash: a broker elsewhere is told the credential itself.
    DevicePut {
        id: DeviceId,
        credential_sha256: [u8; 32],
        origin: Option<CredentialOrigin>,
    },
    DeviceRemove {
        id: DeviceId,
    },
    JoinPut {
        token: TokenId,
        secret_sha256: [u8; 32],
    },
    JoinRemove {
        token: TokenId,
    },
    GrantPut {
        sha256: [u8; 32],
        grant: Grant,
    },
    GrantRemove {
        sha256: [u8; 32],
    },
    /// This hub's own account at the broker, in place of another hub's.
    HubPut,
}

/// What a device's credential follows from, together with the hub's own key. Nothing of it is secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialOrigin {
    pub exchange: ExchangeKey,
    pub nonce: [u8; 16],
}

/// Whether a write is only judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Commit,
    DryRun,
}

/// Whether a list of lines goes on as a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    Once,
    Follow,
}

/// An image of firmware that is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirmwareImage {
    pub board: String,
    pub version: u32,
    pub bytes: u32,
    pub digest: Digest,
}

/// What an operator does with a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutVerb {
    /// Nobody else is offered the image; who has begun goes on.
    Pause,
    Resume,
    /// For good. What runs stays.
    Abort,
}

/// What becomes of something that waits for a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueVerb {
    /// Withheld from the device until the workload changes.
    Cancel,
    /// No longer withheld.
    Restore,
}

/// Changes of a device by an operator, apart from its document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChange {
    Approve,
    Cordon,
    Uncordon,
    Drain,
    /// Ends a decommissioning too.
    Undrain,
    /// The operator's position; `None`: the device's own counts again.
    Relocate(Option<DevicePosition>),
    /// Drained, and deleted when it holds nothing any more.
    Decommission,
    /// Deleted at once, whatever it holds.
    DecommissionNow,
    /// Deleted before it was approved; its key may not join again.
    Reject,
    /// Out of quarantine, for another try.
    Release,
}

/// A question or an order of an edge.
#[derive(Clone, Debug)]
pub enum Request {
    /// Create or replace. `document` is the whole manifest; name and namespace in it must agree with the key if given.
    /// `if_match`: the resource version that the object must have (412 otherwise).
    Put {
        key: ObjectKey,
        document: Value,
        mode: Mode,
        if_match: Option<u64>,
    },
    /// Server-side apply of a partial document.
    Apply {
        key: ObjectKey,
        document: Value,
        applier: Applier,
        mode: Mode,
        if_match: Option<u64>,
    },
    Get {
        key: ObjectKey,
    },
    /// As `Get`, with the owners of the fields.
    Managed {
        key: ObjectKey,
    },
    /// `after`: the `next` of the page before.
    List {
        kind: Kind,
        selection: Selection,
        limit: usize,
        after: Option<String>,
    },
    /// Changes of a kind as `StreamItem::Change`, from a position on; `None`: the present objects first.
    Watch {
        kind: Kind,
        selection: Selection,
        from: Option<Position>,
    },
    Delete {
        key: ObjectKey,
        if_match: Option<u64>,
    },
    /// The content is stored and durable already.
    ArtifactPut {
        namespace: String,
        name: String,
        digest: Digest,
        bytes: u64,
    },
    DeviceChange {
        name: String,
        change: DeviceChange,
    },
    /// What waits for devices that are away; `None`: for all of them.
    Queue {
        device: Option<String>,
    },
    /// Takes back what waits, or gives that up again.
    QueueChange {
        id: String,
        verb: QueueVerb,
    },
    /// The last word of a device.
    Snapshot {
        name: String,
    },
    /// Who went missing when so many did is lost: the guard against mass loss goes.
    LossConfirm,
    /// One page of the keys that may not join; `after`: the last of the page before.
    Rejections {
        limit: usize,
        after: Option<DeviceId>,
    },
    /// The key may join again.
    RejectionLift {
        device: DeviceId,
    },
    TokenCreate {
        expires_in: Option<Duration>,
        approve: bool,
        labels: Value,
        entropy: [u8; 32],
    },
    /// A bearer token of the API; its text is known to the edge alone.
    ApiTokenCreate {
        document: Value,
        sha256: [u8; 32],
    },
    /// `device` `None`: the summary of the whole placement.
    Explain {
        namespace: String,
        name: String,
        device: Option<String>,
    },
    /// What server-side applies of these documents would change, and where workloads would go. Stores nothing.
    Plan {
        documents: Vec<Value>,
        applier: Applier,
    },
    /// Does what a plan says, all of it, if nothing that it was made from has moved.
    PlanApply {
        plan: Value,
    },
    /// As `Explain`, as if something were otherwise.
    WhatIf(Box<WhatIf>),
    Logs {
        namespace: String,
        name: String,
        device: Option<String>,
        tail: usize,
        follow: Follow,
    },
    /// What functions of a device raised, reported and measured. `key`: of this one alone.
    Samples {
        device: String,
        key: Option<String>,
        tail: usize,
        follow: Follow,
    },
    /// `object`: `kind/name` or a name; `None`: all.
    Events {
        object: Option<String>,
        tail: usize,
        follow: Follow,
    },
    /// Events as a watch: those after a position first, or the last `tail`; then what comes.
    EventsWatch {
        object: Option<String>,
        tail: usize,
        from: Option<Position>,
    },
    /// A desired body by its hash, for devices that fetch it over HTTP.
    Body {
        digest: Digest,
    },
    /// Devices in recovery keep what they run: the named ones, or all until it is decided otherwise.
    HubHold {
        devices: Vec<String>,
    },
    /// They get this hub's sets: the named ones, or all, also those that are still to come.
    HubApply {
        devices: Vec<String>,
    },
    /// This hub is the one; a second one is or will be ended.
    HubTakeover,
    /// Brings firmware to devices, in waves. `image`: what the artifact says of itself.
    RolloutCreate {
        wanted: Box<RolloutRequest>,
        image: FirmwareImage,
    },
    RolloutChange {
        name: String,
        verb: RolloutVerb,
    },
    Rollout {
        name: String,
    },
    Rollouts,
    Status,
    /// The engine's counts, for `/metrics`.
    Measure,
}

/// What is supposed, and what is asked of it.
#[derive(Clone, Debug)]
pub struct WhatIf {
    /// A name, or a whole manifest.
    pub workload: Value,
    pub namespace: String,
    pub device: Option<String>,
    /// In place of the workload's own point.
    pub near: Option<Point>,
    /// In place of the workload's own limit, to that point.
    pub distance_max: Option<Distance>,
    /// `device/<name>` to fields and values.
    pub overrides: Value,
}

/// Which objects of a kind are meant. The default: all.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// `None`: all.
    pub namespace: Option<String>,
    pub labels: Selector,
    pub fields: FieldSelector,
    pub place: Option<Place>,
}

/// Where objects must be.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Name of a region.
    pub within: Option<String>,
    /// A point, and the greatest distance from it.
    pub near: Option<(Point, Distance)>,
}

/// A place in the stream of changes; in text `<incarnation>.<sequence>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub incarnation: u32,
    pub sequence: u64,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.sequence)
    }
}

impl Position {
    pub fn parse(text: &str) -> Option<Self> {
        let (incarnation, sequence) = text.split_once('.')?;
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let position = Self { incarnation: incarnation.parse().ok()?, sequence: sequence.parse().ok()? };
        (is_number(incarnation) && is_number(sequence)).then_some(position)
    }
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Read,
    Created,
    Updated,
    /// The document was the same already.
    Unchanged,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The whole document with status. The ETag is the resource version.
    Object {
        outcome: Outcome,
        resource_version: u64,
        document: Value,
        warnings: Vec<String>,
    },
    /// One page; `next`: where the following one starts, `None` at the end.
    List {
        items: Vec<Value>,
        next: Option<String>,
        resource_version: u64,
        /// Where a watch goes on from this list.
        position: Position,
    },
    /// The changes come as `Effect::Stream`.
    Watching,
    /// The answer to `EventsWatch`; the rest comes as `Effect::Stream`. Positions are of this incarnation.
    WatchingEvents {
        lines: Vec<EventLine>,
        incarnation: u32,
    },
    Deleted,
    Token {
        text: String,
        id: TokenId,
        expires_ms: u64,
    },
    Explanation(Value),
    /// A plan, or what became of one.
    Plan(Value),
    /// A document that is no object.
    Report(Value),
    /// Oldest first; if the request asked to follow, the rest comes as `Effect::Stream`.
    Logs(Vec<LogLine>),
    Samples {
        lines: Vec<SampleLine>,
        accounts: Vec<ClassAccount>,
    },
    Events(Vec<EventLine>),
    Body(Arc<[u8]>),
    Status(HubStatus),
    Measures(Box<Measures>),
}

/// Why a request was not done; becomes `application/problem+json` (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub code: ProblemCode,
    /// What is wrong with this very request, and why.
    pub detail: String,
    pub errors: Vec<FieldError>,
    /// Commands that can be pasted.
    pub next: Vec<String>,
}

impl Problem {
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), errors: Vec::new(), next: Vec::new() }
    }

    /// HTTP status.
    pub const fn status(&self) -> u16 {
        self.code.status()
    }
}

/// One item of a followed list.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamItem {
    Log(LogLine),
    Sample(SampleLine),
    Event(EventLine),
    /// `position`: where to go on after it; `None` while the objects of the start are given.
    Change {
        position: Option<Position>,
        kind: ChangeKind,
        document: Value,
    },
    /// The last item of a watch that the hub ends, and why.
    Ended(Problem),
    /// The follower was too slow: so many items are missing here.
    Dropped(u64),
    /// The last item: the followed object is gone.
    End,
}

/// What became of a watched object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// New in the selection.
    Added,
    Modified,
    /// Gone, or no longer in the selection. The document holds names only.
    Deleted,
    /// Nothing; the position has moved on.
    Bookmark,
}

/// A line of a workload, or the note that some are missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// Unix time at which the hub received it, moved back by the age that the device stated.
    pub time_ms: u64,
    pub device: String,
    /// Empty where the workload has one component only.
    pub component: String,
    /// `trace`, `debug`, `info`, `warn`, `error`; `lost` for a gap.
    pub level: String,
    pub text: String,
    /// Lines of this device that never arrived, before this one. Only with level `lost`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u32,
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// What a function raised, reported or measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SampleLine {
    /// Unix time at which it was taken, by the hub's clock.
    pub time_ms: u64,
    pub device: String,
    /// `namespace/name`.
    pub workload: String,
    /// Empty where the workload has one component only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub component: String,
    /// `alarm`, `state`, `metric`.
    pub class: String,
    pub key: String,
    /// Text; of a metric an exact decimal number.
    pub value: String,
}

/// What became of the samples of one class of a device, since the hub started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClassAccount {
    /// `alarm`, `state`, `metric`.
    pub class: String,
    pub received: u64,
    /// Counted by the device: since its boots began, and of alarms since its store was made.
    pub lost: u64,
    /// Sent by the device and lost on the way.
    pub missing: u64,
    /// Boots that ended with what was in memory: how much that was is not known.
    pub ends_unknown: u32,
}

/// Something that an operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventLine {
    /// Of this hub's run; not durable.
    pub sequence: u64,
    pub time_ms: u64,
    #[serde(rename = "type")]
    pub severity: Severity,
    /// Stable, in CamelCase.
    pub reason: String,
    /// `workload/default/hello`, `device/gw-1`.
    pub object: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Severity {
    Normal,
    Warning,
}
