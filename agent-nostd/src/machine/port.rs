//! The machine's whole boundary: what a shell tells it, what it asks of a shell, and what it is built from.
//!
//! A shell translates and never decides. It calls `handle(now, input)`, then `poll(now)` until `None`, then waits until
//! `poll_timeout()` or the next input. Each effect is consumed (bytes copied or written) before the next call. `now` never
//! goes back. A shell may answer an effect late or never: the machine keeps a deadline for each and ignores stale answers.
use super::random::Random;
use super::time::{Duration, Instant, earliest};
use wire::hello::{Capabilities, LastEnd, ResetCause, Wear};
use wire::id::WorkloadId;
use wire::position::Position;
use wire::record::Record;
use wire::sign::{PublicKey, Verify};
use wire::status::Reason;
use wire::topic::{Down, Up};
use wire::{DeviceId, Digest, Fence, PairKey};

/// Names one publish or persist until its answer. Unique within a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u32);

/// One run of one component, from `Start` to `Stopped` or `Exited`. Unique within a boot, so that an answer about an earlier
/// run of the same component is recognised and ignored. A shell uses it as the key of whatever it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaunchId(pub u32);

/// Where a message came from. The shell has parsed the topic and checked fleet and device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Inbound {
    Down(Down),
    HubState,
}

/// A group of topic filters that is subscribed together and acknowledged together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subscription {
    /// All of `down/` except `desired`, and `hub/state` (its retained message wanted: Retain Handling 0). QoS 1.
    Live,
    /// `down/desired` alone, QoS 1, with the given Retain Handling. Sent again although subscribed: that is its purpose.
    Desired(RetainHandling),
}

/// MQTT 5, 3.8.3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetainHandling {
    /// 0: the broker sends its retained copy.
    Send,
    /// 2: it does not; the hub answers the Hello instead.
    Skip,
}

/// Quality of service of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quality {
    /// QoS 0: no `Acknowledged` is expected.
    AtMostOnce,
    /// QoS 1: the shell reports the PUBACK as `Acknowledged` with the ticket.
    AtLeastOnce,
}

/// What the device's journal holds. The shell stores each key in two slots with `journal::seal` and `journal::pick`.
/// The identity (keys, credential, addresses) is the shell's own and never passes through the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum JournalKey {
    /// Signed header and body of the accepted set. Never deleted.
    Accepted = 1,
    /// The same of the last set that was wholly healthy. Never deleted.
    LastGood = 2,
    /// Crashes of the agent itself.
    Boot = 3,
    /// Versions of components that were started and are not proven yet.
    Attempts = 4,
    /// Time without the hub, and the wall time that it is at least.
    Clock = 5,
    /// Alarms that the hub has not taken yet.
    Alarms = 6,
}

impl JournalKey {
    pub const ALL: [Self; 6] = [Self::Accepted, Self::LastGood, Self::Boot, Self::Attempts, Self::Clock, Self::Alarms];
}

impl From<JournalKey> for u8 {
    fn from(key: JournalKey) -> Self {
        key as Self
    }
}

/// Why a value is not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PersistFailure {
    NoSpace,
    Storage,
}

/// What is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// Into the shell's content-addressed store; answered by `Fetched` once it is there, durable, and its hash was checked.
    Artifact,
    /// The body of a desired set; answered by `BodyFetched` with the bytes. The machine checks their hash.
    Body,
}

/// Where a fetch may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Only what the device has already. If it is not there, answer `FetchFailed { Absent }` at once.
    Store,
    /// The store first, then the network.
    Anywhere,
}

/// Why a fetch failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FetchFailure {
    /// Not in the store, and only the store was asked.
    Absent,
    /// No source answered.
    Unreachable,
    HashMismatch,
    NoSpace,
}

/// Why a run ended badly, or never began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The runtime refused the code: not valid, too large, imports what it was not given.
    LoadRefused,
    Trapped,
    OutOfFuel,
    OutOfMemory,
    /// It ended although it should run on, or with an error code.
    Exited,
    /// This device has no such runtime.
    RuntimeMissing,
}

impl Failure {
    pub const fn reason(self) -> Reason {
        match self {
            Self::LoadRefused => Reason::LOAD_REFUSED,
            Self::Trapped => Reason::TRAPPED,
            Self::OutOfFuel => Reason::OUT_OF_FUEL,
            Self::OutOfMemory => Reason::OUT_OF_MEMORY,
            Self::Exited => Reason::EXITED,
            Self::RuntimeMissing => Reason::RUNTIME_MISSING,
        }
    }
}

/// How a run ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Init and Job: the purpose. Service: counted as `Failure::Exited`.
    Completed,
    Failed(Failure),
}

/// Why a function is activated by the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// The period of an `Every` clause. At most one in flight per launch; a period that passes meanwhile is skipped.
    Timer,
}

/// The right to run exclusive work on this device, until it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// Given to the component, which shows it to whatever it acts on.
    pub fence: Fence,
    /// The component has come to its end by now, whatever it is doing.
    pub until: Instant,
}

/// Under which terms a component runs. A shell keeps the latest ones of each launch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Exclusive work only.
    pub grant: Option<Right>,
    /// Work that stops after a time without the hub has come to its end by now, unless the hub is heard before.
    pub stop_by: Option<Instant>,
    /// The device has not heard from the hub for so long that the component is to do less than usual.
    pub is_degraded: bool,
}

impl Terms {
    /// A shell checks this before each call of the component to the outside and after each slice of its work, and cuts it then.
    /// The machine says `Stop` too; but a shell that was suspended must not wait for that.
    pub fn until(&self) -> Option<Instant> {
        earliest(self.grant.map(|right| right.until), self.stop_by)
    }
}

/// What a function raises, reports or measures. Keys are `wire::sample::is_key`, texts at most `SAMPLE_TEXT_BYTES_MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling<'a> {
    /// Kept over resets until the hub has taken it.
    Alarm { key: &'a str, text: &'a str },
    /// The latest value of a key is what counts.
    State { key: &'a str, text: &'a str },
    /// `value * 10^scale`.
    Metric { key: &'a str, value: i64, scale: i8 },
}

/// Everything a shell can tell the machine. That time passes needs no input: call `poll` with a later `now`.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// CONNACK with success, answering `Connect`.
    LinkUp,
    /// The connection ended, or `Connect` failed. Also sent after `Disconnect` was executed (harmless twice).
    LinkDown,
    /// The broker ended the connection because another one uses the same name. Instead of `LinkDown`.
    LinkTaken,
    /// SUBACK with success for the last `Subscribe` of this group.
    Subscribed(Subscription),
    /// SUBACK with an error.
    SubscribeRefused(Subscription),
    /// Bytes as received; at most `Config::packet_bytes_max` are ever needed.
    Message {
        from: Inbound,
        payload: &'a [u8],
    },
    /// PUBACK. Means received by the broker, never durable.
    Acknowledged {
        ticket: Ticket,
    },
    /// The value is durable (written, synced, renamed, directory synced).
    Persisted {
        ticket: Ticket,
    },
    PersistFailed {
        ticket: Ticket,
        failure: PersistFailure,
    },
    /// The artifact is in the store.
    Fetched {
        digest: Digest,
    },
    /// The body of a desired set.
    BodyFetched {
        digest: Digest,
        bytes: &'a [u8],
    },
    FetchFailed {
        content: Content,
        digest: Digest,
        failure: FetchFailure,
    },
    /// The component runs (a function: loaded, instantiated and its `start` returned).
    Started {
        launch: LaunchId,
    },
    /// It never ran; nothing is left of it.
    StartFailed {
        launch: LaunchId,
        failure: Failure,
        detail: &'a str,
    },
    /// Answers `Stop`; nothing is left of it.
    Stopped {
        launch: LaunchId,
    },
    /// It ended by itself, nothing is left of it. A trap or exhausted fuel in an activation is reported like this.
    /// An Init or Job function: `Started`, then `Exited` with `Completed` when its work is done.
    Exited {
        launch: LaunchId,
        exit: Exit,
        detail: &'a str,
    },
    /// The activation asked for by `Activate` returned well. Not sent for `Deliver`.
    Activated {
        launch: LaunchId,
        trigger: Trigger,
    },
    /// A line from a component. Cut at `LOG_TEXT_BYTES_MAX`.
    Log {
        launch: LaunchId,
        level: wire::event::Level,
        text: &'a str,
    },
    /// A line from the agent's own shell.
    AgentLog {
        level: wire::event::Level,
        text: &'a str,
    },
    /// A component emitted. `local/` topics stay on the device, the others go to the hub.
    Emit {
        launch: LaunchId,
        topic: &'a str,
        payload: &'a [u8],
    },
    Tell {
        launch: LaunchId,
        telling: Telling<'a>,
    },
    /// Where the device is, from whatever source the shell has; `None`: not known any more.
    Position(Option<Position>),
    /// Free memory for functions and free storage for artifacts. Sent when they changed by more than a few percent.
    Resources {
        memory_free_bytes: u32,
        storage_free_bytes: u64,
    },
    /// How worn the flash is. Sent at the start and when it changed.
    Wear(Wear),
    /// Which gateway relays the connection that comes next; `None`: there is none.
    Behind(Option<DeviceId>),
    /// Stop everything, then disconnect. `Agent::is_finished` tells when that is done.
    Shutdown,
}

/// Everything the machine can ask of a shell.
#[derive(Clone, Copy, Debug)]
pub enum Effect<'a> {
    /// Open the connection: clean start, client id = user name = device id, the given payload as will on `up/will` with QoS 1,
    /// will delay `WILL_DELAY` and message expiry `WILL_EXPIRY`. Answer with `LinkUp` or `LinkDown`.
    Connect {
        will: &'a [u8],
    },
    /// Drop the connection without waiting for the peer. `LinkDown` may follow.
    Disconnect,
    Subscribe(Subscription),
    /// Never retained. `payload` is the complete frame.
    Publish {
        topic: Up,
        payload: &'a [u8],
        quality: Quality,
        ticket: Ticket,
    },
    /// Make the value durable in both-slots fashion, then answer. One is in flight at a time.
    Persist {
        ticket: Ticket,
        key: JournalKey,
        value: &'a [u8],
    },
    Fetch {
        content: Content,
        digest: Digest,
        bytes: u32,
        source: Source,
    },
    /// Run this record. Its artifact is in the store. Answer with `Started` or `StartFailed`.
    Start {
        launch: LaunchId,
        record: Record<'a>,
        terms: Terms,
    },
    /// New terms for what runs: a grant was renewed, the hub was heard, or was not. Nothing is answered.
    Extend {
        launch: LaunchId,
        terms: Terms,
    },
    /// Ask it to stop, cut it after `grace`. Answer with `Stopped`; also for a launch the shell does not know.
    Stop {
        launch: LaunchId,
        grace: Duration,
    },
    /// Call the function. Answer with `Activated` or `Exited`.
    Activate {
        launch: LaunchId,
        trigger: Trigger,
    },
    /// Hand a message to the function. The shell bounds the launch's mailbox and counts what it drops.
    Deliver {
        launch: LaunchId,
        topic: &'a str,
        payload: &'a [u8],
    },
    /// The referenced artifacts changed and are durable: delete every stored artifact for which `Agent::references` is false.
    Collect,
}

/// Will delay interval of the CONNECT.
pub const WILL_DELAY: Duration = Duration::from_secs(1);
/// Message expiry of the will.
pub const WILL_EXPIRY: Duration = Duration::from_secs(60);
/// Keep-alive that the shell puts into CONNECT.
pub const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Who this device is and what it can do; all of it known before the machine is built.
#[derive(Clone)]
pub struct Config<'b> {
    pub fleet: &'b str,
    pub device: DeviceId,
    /// Agreed with the hub at enrolment.
    pub pair_key: &'b PairKey,
    /// Signs desired sets; pinned at enrolment.
    pub hub_key: PublicKey,
    pub verifier: &'b (dyn Verify + Sync),
    /// `records` above `SLOTS` and `body_bytes` above the buffers are lowered to them; see `Agent::capabilities`.
    pub capabilities: Capabilities<'b>,
    /// Largest MQTT packet that the client accepts.
    pub packet_bytes_max: u32,
    /// Linux: `Panic` if the previous process of this boot ended neither by shutdown nor by a signal of the service manager.
    pub reset: ResetCause,
    /// What a firmware that ended itself left for this boot.
    pub last_end: Option<LastEnd<'b>>,
    /// The CONNECT keep-alive; `KEEP_ALIVE` unless the link is special.
    pub keep_alive: Duration,
    /// How wrong this device's clock may be, at most `wire::lease::DRIFT_PPM_MAX`.
    pub drift_ppm: u32,
    /// What passes between asking the shell to cut a component and the component's last effect on the world: the longest slice
    /// of work that is not interrupted, and the longest call to the outside.
    pub stop_latency: Duration,
    /// Of a seed that is unpredictable and new for each boot: boot id, nonces and jitter come from it.
    pub random: Random,
}

/// Memory for the machine, given by the caller so that a board can place it.
#[derive(Debug)]
pub struct Buffers<'b> {
    /// The accepted set, the last good one, and one being received: each `SET_OVERHEAD_BYTES` + the longest body.
    pub current: &'b mut [u8],
    pub last_good: &'b mut [u8],
    pub incoming: &'b mut [u8],
    /// The effect being built: the longest frame or attempts record (`OUTGOING_BYTES_MIN` at least). Below 256 bytes and 40 for
    /// each slot, the device announces fewer records.
    pub outgoing: &'b mut [u8],
    /// Log records not acknowledged yet.
    pub logs: &'b mut [u8],
    /// Events not acknowledged yet.
    pub events: &'b mut [u8],
    /// Alarms that the hub has not taken. What is longer than `outgoing` is not used.
    pub alarms: &'b mut [u8],
    /// The latest value of each key, told or not.
    pub states: &'b mut [u8],
    /// Measured values that are not told yet.
    pub metrics: &'b mut [u8],
    /// Inputs and local events on their way to functions.
    pub inputs: &'b mut [u8],
}

/// Bytes of a stored set around its body: key id 4, signature 64, header 64.
pub const SET_OVERHEAD_BYTES: usize = 132;
/// One event with its frame is the longest thing that must always fit.
pub const OUTGOING_BYTES_MIN: usize = 2048;

/// What the journal held at boot: each value as it was given to `Persist`, `None` if neither slot was valid.
#[derive(Clone, Copy, Debug, Default)]
pub struct Restored<'a> {
    pub accepted: Option<&'a [u8]>,
    pub last_good: Option<&'a [u8]>,
    pub boot: Option<&'a [u8]>,
    pub attempts: Option<&'a [u8]>,
    pub clock: Option<&'a [u8]>,
    pub alarms: Option<&'a [u8]>,
}

/// What a local tool wants to know about the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    Offline {
        retry_at: Instant,
    },
    Connecting,
    /// Connected to the broker, not answered by the hub yet.
    Linked,
    /// Fresh was received on this connection.
    Fresh,
}

/// The workload id under which the agent's own log lines travel.
pub const AGENT_WORKLOAD: WorkloadId = WorkloadId(0);
