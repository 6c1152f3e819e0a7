//! Coming back: Hello up, Fresh or Refusal down; Heartbeat and Will; the retained state of the hub.
use crate::codec::{Reader, WireError, Writer, bounded_text};
use crate::desired::SignedHeader;
use crate::digest::{Digest, DigestPrefix};
use crate::frame::{Body, Kind};
use crate::id::{BootId, CommandId, DeviceId, Fence, Instance, Nonce, Order, Revision, Session};
use crate::limits::{AGENT_VERSION_BYTES_MAX, END_TEXT_BYTES_MAX};
use crate::version::VersionRange;
use serde::{Deserialize, Serialize};

/// Why the device started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResetCause {
    Unknown,
    PowerOn,
    BrownOut,
    Watchdog,
    Panic,
    Software,
    Pin,
    ProcessStart,
}

/// What was lost on the device, by class of message: since boot, but for alarms, which are counted since their ring was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossCounters {
    pub events: u32,
    pub logs: u32,
    pub alarms: u32,
    pub states: u32,
    pub metrics: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceClass {
    Mcu,
    Gateway,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Architecture {
    X86_64,
    Aarch64,
    Armv7,
    Thumbv6m,
    Thumbv7m,
    Thumbv7em,
    Thumbv8m,
    Riscv32,
    Riscv64,
}

/// Which runtimes and features a device offers. Bits are for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features(pub u32);

impl Features {
    pub const FUNCTION: Self = Self(1);
    pub const FUNCTION_PAGE_SIZES: Self = Self(1 << 1);
    pub const CONTAINER: Self = Self(1 << 2);
    pub const PROCESS: Self = Self(1 << 3);
    /// A clock that counts suspend: without it no exclusive work.
    pub const BOOT_CLOCK: Self = Self(1 << 4);
    pub const FETCH_HTTP: Self = Self(1 << 5);
    pub const FETCH_CHUNKS: Self = Self(1 << 6);

    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What a device is and can hold. Sent in full when the hub does not know its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities<'a> {
    pub class: DeviceClass,
    pub architecture: Architecture,
    pub agent_version: &'a str,
    pub features: Features,
    /// Host interfaces that functions may be given.
    pub interfaces: crate::record::CapabilitySet,
    /// Records of a desired set.
    pub records: u16,
    pub body_bytes: u32,
    /// For all functions together.
    pub memory_bytes: u32,
    /// For artifacts.
    pub storage_bytes: u64,
}

impl Capabilities<'_> {
    /// Bytes of the longest encoding.
    pub const BYTES_MAX: usize = 64 + AGENT_VERSION_BYTES_MAX;

    pub fn digest(&self) -> Digest {
        let mut buffer = [0; Self::BYTES_MAX];
        let mut writer = Writer::new(&mut buffer);
        // A version text over its limit cannot be built by `encode`, so the writer has room for everything it is given.
        let _ = writer.value(self);
        Digest::of(writer.written())
    }
}

/// How the last run of a firmware ended, if it ended itself: by a panic, a fault, or a watchdog that was not fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastEnd<'a> {
    /// The program counter; zero: not known.
    pub address: u32,
    pub text: &'a str,
}

/// Erases of the sector of a partition that was erased most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erases {
    /// Since the flash was new, or since they are counted.
    pub all: u32,
    /// Of those in this boot.
    pub boot: u32,
}

/// How worn the flash of a microcontroller is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wear {
    pub journal: Erases,
    pub artifacts: Erases,
}

/// How a microcontroller fares. It says so until the first Fresh of a boot, after a change of its gateway, and when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health<'a> {
    /// Fresh has not come in this boot: all of it is news.
    pub is_new: bool,
    pub uptime_s: u32,
    #[serde(borrow)]
    pub end: Option<LastEnd<'a>>,
    pub wear: Option<Wear>,
    /// The gateway that relays for it, as that says itself.
    pub behind: Option<DeviceId>,
}

/// The first message of a connection, repeated with a new nonce until Fresh comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloFixed {
    pub boot: BootId,
    pub nonce: Nonce,
    pub versions: VersionRange,
    /// Of the accepted set; zero with a zero digest: none.
    pub revision: Revision,
    pub digest: DigestPrefix,
    /// Of the last status that was sent in this boot, as in `Heartbeat`; zero: none. A hub that expects just that need not ask for it.
    pub status: DigestPrefix,
    pub capabilities: DigestPrefix,
    /// Largest MQTT packet that the device receives.
    pub packet_bytes_max: u32,
    /// Highest command id that was persisted.
    pub command: CommandId,
    /// Version of the trust chain that the device follows.
    pub trust: u32,
    pub lost: LossCounters,
    pub reset: ResetCause,
}

/// Hello with the parts that are only sent when asked for. The tag covers `LiveContext::outside` with its boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    pub fixed: HelloFixed,
    pub capabilities: Option<Capabilities<'a>>,
    /// The signed header of the accepted set: proof after a restore.
    pub proof: Option<SignedHeader>,
    pub health: Option<Health<'a>>,
}

const HAS_CAPABILITIES: u8 = 1;
const HAS_PROOF: u8 = 2;
const HAS_HEALTH: u8 = 4;

impl<'a> Hello<'a> {
    /// Appends the body, for `frame::encode_live_with(.., Kind::Hello, ..)`.
    pub fn write(&self, writer: &mut Writer<'_>) -> Result<(), WireError> {
        if !self.fixed.versions.is_valid() {
            return Err(WireError::Malformed);
        }
        writer.value(&self.fixed)?;
        let flags = if self.capabilities.is_some() { HAS_CAPABILITIES } else { 0 }
            | if self.proof.is_some() { HAS_PROOF } else { 0 }
            | if self.health.is_some() { HAS_HEALTH } else { 0 };
        writer.value(&flags)?;
        if let Some(capabilities) = &self.capabilities {
            bounded_text(capabilities.agent_version, AGENT_VERSION_BYTES_MAX)?;
            writer.value(capabilities)?;
        }
        if let Some(proof) = &self.proof {
            proof.write(writer)?;
        }
        if let Some(health) = &self.health {
            bounded_text(health.end.map_or("", |end| end.text), END_TEXT_BYTES_MAX)?;
            writer.value(health)?;
        }
        Ok(())
    }

    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let fixed: HelloFixed = reader.take()?;
        if !fixed.versions.is_valid() {
            return Err(WireError::Malformed);
        }
        let flags: u8 = reader.take()?;
        if flags & !(HAS_CAPABILITIES | HAS_PROOF | HAS_HEALTH) != 0 {
            return Err(WireError::Malformed);
        }
        let capabilities = if flags & HAS_CAPABILITIES != 0 {
            let capabilities: Capabilities<'a> = reader.take()?;
            bounded_text(capabilities.agent_version, AGENT_VERSION_BYTES_MAX)?;
            Some(capabilities)
        } else {
            None
        };
        let proof = if flags & HAS_PROOF != 0 { Some(SignedHeader::read(&mut reader)?) } else { None };
        let health = if flags & HAS_HEALTH != 0 {
            let health: Health<'a> = reader.take()?;
            bounded_text(health.end.map_or("", |end| end.text), END_TEXT_BYTES_MAX)?;
            Some(health)
        } else {
            None
        };
        reader.end()?;
        Ok(Self { fixed, capabilities, proof, health })
    }
}

/// What the hub wants with the next Hello or Status. Bits are for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asks(pub u8);

impl Asks {
    pub const STATUS: Self = Self(1);
    pub const CAPABILITIES: Self = Self(2);
    pub const PROOF: Self = Self(4);
    pub const HEALTH: Self = Self(8);

    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The answer to a Hello. The tag covers `LiveContext::outside` with the boot of the Hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fresh {
    pub nonce: Nonce,
    /// What the device should hold; zero: the hub has no set for it.
    pub revision: Revision,
    pub digest: DigestPrefix,
    /// Unix time in milliseconds.
    pub time_ms: u64,
    pub session: Session,
    pub heartbeat_s: u16,
    pub asks: Asks,
}

impl Body for Fresh {
    const KIND: Kind = Kind::Fresh;
}

/// Why a Hello was not answered with Fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalReason {
    /// Too many at once; try after the hint.
    Busy,
    UnsupportedVersion,
    Quarantined,
    NotApproved,
}

/// Sent instead of Fresh, on its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub nonce: Nonce,
    pub reason: RefusalReason,
    /// A hint, capped by the device.
    pub retry_after_s: u32,
}

impl Body for Refusal {
    const KIND: Kind = Kind::Refusal;
}

/// Asks for a full Hello or Status outside of a Hello, rate-limited by the hub. Travels on `down/cmd`, in the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub asks: Asks,
}

impl Body for Report {
    const KIND: Kind = Kind::Report;
}

/// Alive, and unchanged since the status with this digest. Session and boot are covered, not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Shares its sequence with Status.
    pub sequence: u32,
    pub status: DigestPrefix,
}

impl Body for Heartbeat {
    const KIND: Kind = Kind::Heartbeat;
}

/// Left with the broker at CONNECT. A will of another boot is ignored: a reset fires the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Will {
    pub boot: BootId,
}

impl Body for Will {
    const KIND: Kind = Kind::Will;
}

/// Retained for all devices, unsigned: a hint, obeyed at most once in five minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubState {
    pub incarnation: u32,
    /// Devices send Hello and Status at a random time within so many milliseconds of a new incarnation.
    pub spread_ms: u32,
    /// The highest commit whose desired sets were all published: shows what a broker lost.
    pub watermark: u64,
    /// Highest fence ever issued: a witness against an older database.
    pub fence: Fence,
    /// Who says so: two hubs on copies of one database may have the same incarnation.
    pub instance: Instance,
}

impl Body for HubState {
    const KIND: Kind = Kind::HubState;

    fn check(&self) -> Result<(), WireError> {
        if self.incarnation > Order::INCARNATION_MAX { Err(WireError::Malformed) } else { Ok(()) }
    }
}

impl HubState {
    /// The witness as an order, for comparison with the database.
    pub fn witness(&self) -> Order {
        self.fence.0
    }
}

const _: () = assert!(crate::frame::LIVE_OVERHEAD_BYTES + 5 + 8 <= crate::limits::HEARTBEAT_BYTES_MAX);
