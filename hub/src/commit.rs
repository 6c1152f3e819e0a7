//! What the engine asks the writer to make durable, and what the store gives back at start: the seam between the two.
//!
//! Plain data. Nothing here may know SQL, do I/O or decide; a batch is atomic, and batches are applied in the order of
//! their sequence without gaps.

use wire::desired::{ClassLimits, SignedHeader};
use wire::id::Order;
use wire::sign::PublicKey;
use wire::topic::TokenId;
use wire::{BootId, DeviceId, Digest, Fence, PairKey, Revision};

/// One atomic change. The writer stores all of it or nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The hub-wide resource version: the last durable one plus one, without gaps. Reused after a failure.
    pub sequence: u64,
    /// How many failures the engine knew of when it made this batch. After reporting `Failed` for era `n` the writer
    /// drops every batch of an era up to `n` silently: they build upon what failed, and the engine has undone them.
    pub era: u32,
    pub writes: Vec<Write>,
    /// One entry per state change, stored in the same transaction.
    pub audit: Vec<AuditEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    pub time_ms: u64,
    pub actor: String,
    pub action: &'static str,
    /// `kind/namespace/name`, or `kind/name` for what is hub-wide.
    pub object: String,
    /// Of the stored document before and after; `None`: it was not, or is not any more.
    pub before: Option<Digest>,
    pub after: Option<Digest>,
}

/// One row to put or delete.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    ObjectPut(ObjectRow),
    ObjectDelete {
        kind: &'static str,
        namespace: String,
        name: String,
    },
    DeviceKeysPut(DeviceKeysRow),
    DeviceKeysDelete {
        device: DeviceId,
    },
    TokenPut(TokenRow),
    TokenDelete {
        id: TokenId,
    },
    RejectionPut(RejectionRow),
    RejectionDelete {
        device: DeviceId,
    },
    /// The writer signs `Header::of(revision, body, limits)` for this device, stores header, signature and body, and
    /// returns the signed header with `Committed`.
    DesiredPut {
        device: DeviceId,
        revision: Revision,
        limits: ClassLimits,
        body: Vec<u8>,
    },
    DesiredDelete {
        device: DeviceId,
    },
    /// What the device last said it can do, as encoded `wire::hello::Capabilities` (postcard).
    CapabilitiesPut {
        device: DeviceId,
        bytes: Vec<u8>,
    },
    CapabilitiesDelete {
        device: DeviceId,
    },
    /// The next number for a workload; never goes back.
    WorkloadIdNext {
        next: u32,
    },
    LeasePut(LeaseRow),
    LeaseDelete {
        workload: u32,
    },
    /// This run goes on under a higher incarnation; never goes back.
    IncarnationRaise {
        incarnation: u32,
    },
    RecoveryPut(RecoveryRow),
    RecoveryDelete,
    /// An operator wants this device to keep what it runs, whatever is decided for the others.
    HoldPut {
        device: DeviceId,
    },
    HoldDelete {
        device: DeviceId,
    },
}

/// An API object. Key: kind, namespace (empty: hub-wide), name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRow {
    /// `Kind::name()`: `Region`, `Device`, `Workload`, `Artifact`.
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub generation: u64,
    pub resource_version: u64,
    pub created_ms: u64,
    /// The document without status and without the columns above.
    pub json: Vec<u8>,
}

/// Public keys and the credential's hash of a device that joined. Key: device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceKeysRow {
    pub device: DeviceId,
    pub name: String,
    /// ed25519.
    pub identity: [u8; 32],
    /// X25519.
    pub exchange: [u8; 32],
    /// SHA-256 over the password as it is sent: 64 lower-case hexadecimal digits of the 32-byte credential.
    pub credential_sha256: [u8; 32],
    /// Of the request that the credential was made for, so that it can be told again; `None`: it joined with a hub that
    /// did not keep it.
    pub join_nonce: Option<[u8; 16]>,
    pub joined_ms: u64,
}

/// A join token. Key: id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    pub id: TokenId,
    /// SHA-256 over the password as it is sent: 32 lower-case hexadecimal digits of the 16-byte secret.
    pub secret_sha256: [u8; 32],
    /// Wall clock.
    pub expires_ms: u64,
    /// Devices that join with it need no further approval.
    pub approve: bool,
    /// Labels for the new device, as a JSON object of texts.
    pub labels: String,
    pub used_by: Option<DeviceId>,
}

/// A key that may not join any more. Key: device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectionRow {
    pub device: DeviceId,
    /// That it had.
    pub name: String,
    pub rejected_ms: u64,
}

/// The right to run an exclusive workload as it was given last. Key: workload. Renewals change nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRow {
    /// Number on the wire; the workload itself may be gone.
    pub workload: u32,
    /// `namespace/name` that it has or had: another one of this name waits for the end of this lease.
    pub name: String,
    /// The device may be gone.
    pub device: DeviceId,
    pub boot: BootId,
    /// A later row of the same workload has a higher one.
    pub fence: Fence,
    /// The longest that was granted under this fence, in milliseconds.
    pub ms: u64,
    /// It was given back or has run out: nobody runs under it any more.
    pub ended: bool,
}

/// Why a database does not know everything that was said in its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveryCause {
    /// It was restored from a backup, and marked so.
    Restored,
    /// The file beside it knows a higher incarnation, or is gone.
    Behind,
    /// A device proved a set that it does not know.
    Ahead,
    /// Another hub ran on a copy of it.
    SecondHub,
}

impl RecoveryCause {
    /// By name.
    pub const ALL: [Self; 4] = [Self::Restored, Self::Behind, Self::Ahead, Self::SecondHub];

    /// As it is stored and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Restored => "Restored",
            Self::Behind => "Behind",
            Self::Ahead => "Ahead",
            Self::SecondHub => "SecondHub",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.name() == text)
    }
}

/// What was said in this database's name, and is not in it: there is one such gap or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryRow {
    pub cause: RecoveryCause,
    pub since_ms: u64,
    /// The last order before the gap.
    pub remembered: Order,
    /// The first incarnation after it: what it says is above everything that was forgotten.
    pub until_incarnation: u32,
    /// The operator decided: devices in the gap get this hub's sets.
    pub is_overruled: bool,
    /// Somebody may hold a grant that was forgotten.
    pub holds_grants: bool,
}

/// Why nothing of a batch (and of all later ones) is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFailure {
    DiskFull,
    Io,
}

/// The signed set of one device as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredRow {
    pub device: DeviceId,
    pub signed: SignedHeader,
    pub body: Vec<u8>,
}

/// Numbers of workloads that a recovery passes over: more than are given between a backup and its restore, or by a second hub.
pub const WORKLOAD_IDS_SKIPPED: u32 = 65_536;

/// Everything that the engine knows when it starts.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub fleet: String,
    /// Raised durably at this very start, before the engine exists.
    pub incarnation: u32,
    /// Of the last durable batch; 0 in a new database.
    pub sequence: u64,
    /// 1 in a new database.
    pub workload_id_next: u32,
    pub objects: Vec<ObjectRow>,
    /// With the pair key that `ExchangeSecret::pair_key` derives (`None` for a degenerate key: the device cannot talk).
    pub devices: Vec<(DeviceKeysRow, Option<PairKey>)>,
    pub tokens: Vec<TokenRow>,
    pub rejections: Vec<RejectionRow>,
    pub recovery: Option<RecoveryRow>,
    /// Devices that are to keep what they run.
    pub holds: Vec<DeviceId>,
    pub desired: Vec<DesiredRow>,
    pub capabilities: Vec<(DeviceId, Vec<u8>)>,
    pub leases: Vec<LeaseRow>,
    /// The hub's signing key, public half.
    pub hub_signing: PublicKey,
}
