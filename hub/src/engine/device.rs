//! Devices by dense index: keys and desired set (durable), observed state (soft), and the way of sets to the device.
//!
//! An index is stable while its device is known and is reused afterwards. Observed state is never stored.

use super::port::Instant;
use crate::commit::DeviceKeysRow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use wire::desired::{ClassLimits, SignedHeader};
use wire::hello::{Architecture, Capabilities, DeviceClass, Features, LossCounters};
use wire::record::CapabilitySet;
use wire::status::{Reason, Refused, State};
use wire::{BootId, DeviceId, Digest, DigestPrefix, Nonce, PairKey, Revision, Session};

use crate::scheduler::Resources;

/// Capabilities, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub class: DeviceClass,
    pub architecture: Architecture,
    pub agent_version: String,
    pub features: Features,
    pub interfaces: CapabilitySet,
    pub records: u16,
    pub body_bytes: u32,
    pub memory_bytes: u32,
    pub storage_bytes: u64,
    /// As stored.
    pub bytes: Vec<u8>,
    pub prefix: DigestPrefix,
}

impl Known {
    pub fn of(capabilities: &Capabilities<'_>) -> Option<Self> {
        let mut buffer = [0; Capabilities::BYTES_MAX];
        let mut writer = wire::codec::Writer::new(&mut buffer);
        writer.value(capabilities).ok()?;
        Some(Self {
            class: capabilities.class,
            architecture: capabilities.architecture,
            agent_version: capabilities.agent_version.to_owned(),
            features: capabilities.features,
            interfaces: capabilities.interfaces,
            records: capabilities.records,
            body_bytes: capabilities.body_bytes,
            memory_bytes: capabilities.memory_bytes,
            storage_bytes: capabilities.storage_bytes,
            bytes: writer.written().to_vec(),
            prefix: capabilities.digest().prefix(),
        })
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        Self::of(&wire::codec::decode::<Capabilities<'_>>(bytes).ok()?)
    }

    pub fn limits(&self) -> ClassLimits {
        ClassLimits { records: self.records, memory_bytes: self.memory_bytes }
    }
}

pub(super) fn class_name(class: DeviceClass) -> &'static str {
    match class {
        DeviceClass::Mcu => "mcu",
        DeviceClass::Gateway => "gateway",
    }
}

/// What one workload has in a device's set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Assigned {
    pub generation: u32,
    pub holds: Resources,
}

/// The set that the device is to hold, as decided; not necessarily durable.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Desired {
    pub revision: Revision,
    pub body: Arc<[u8]>,
    /// By workload number; derived from the body.
    pub assigned: Arc<BTreeMap<u32, Assigned>>,
}

/// The set as last made durable: the only thing that is ever published.
#[derive(Clone, Debug)]
pub(super) struct Durable {
    pub signed: SignedHeader,
    pub body: Arc<[u8]>,
}

impl Durable {
    pub fn revision(&self) -> Revision {
        self.signed.header.revision
    }

    pub fn digest(&self) -> DigestPrefix {
        self.signed.header.body.prefix()
    }
}

/// One component as last reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub workload: u32,
    pub component: u8,
    pub generation: u32,
    pub running: u32,
    pub state: State,
    pub reason: Reason,
    /// Failures in the component's present window.
    pub attempts: u16,
    pub restarts: u32,
    /// Without the reason's code.
    pub detail: Box<str>,
    /// Since when the hub has seen it in this state, without a restart in between.
    pub since: Instant,
}

/// What runs: the last whole status, or what a device was recognised by.
#[derive(Clone, Debug)]
pub(super) struct Reported {
    pub content: DigestPrefix,
    pub at: Instant,
    pub boot: BootId,
    /// `None`: it was recognised, and has said nothing more yet.
    pub told: Option<Beside>,
    pub entries: Vec<Entry>,
}

/// What a status says beside its entries. Only the equivocations among the refused are of its content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beside {
    pub uptime_s: u32,
    pub memory_free_bytes: u32,
    pub storage_free_bytes: u64,
    pub refused: Refused,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Presence {
    /// Not heard of since this hub started.
    #[default]
    Never,
    Online,
    /// Its connection ended, or its heartbeats stopped.
    Suspect,
    /// It stayed away: placement may move what it has.
    Lost,
}

/// A session and the boot that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Talk {
    pub boot: BootId,
    pub session: Session,
}

/// How a device that claims more than the hub has given it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ahead {
    /// It was asked for the signed header, so many times.
    Claimed { asked: u8 },
    /// The hub's own key signed what it holds.
    Proven { revision: Revision, digest: DigestPrefix },
    /// It showed nothing, or something else.
    Unproven,
}

/// Soft state: everything is learned again after a restart.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub presence: Presence,
    pub last_seen: Option<Instant>,
    pub last_seen_wall_ms: u64,
    /// When liveness looks at it next; an entry of another time is void.
    pub watched_at: Option<Instant>,
    /// The session in use, and one that was offered and not used yet; both are valid until then.
    pub current: Option<Talk>,
    pub offered: Option<Talk>,
    pub hello_nonce: Option<Nonce>,
    pub sessions_issued: u16,
    /// Of Status and Heartbeat in the current session.
    pub sequence: Option<u32>,
    pub packet_bytes_max: Option<u32>,
    pub reported: Option<Reported>,
    /// Revision and digest of the last Hello or Status.
    pub accepted: Option<(Revision, DigestPrefix)>,
    pub lost: LossCounters,
    /// How its firmware and its flash fare.
    pub fare: Option<super::fare::Fare>,
    /// What its functions raised, reported and measured.
    pub told: Option<Box<super::sample::Told>>,
    pub status_asked: Option<Instant>,
    pub fresh_asked: Option<Instant>,
    pub log: Option<(BootId, u32)>,
    pub event: Option<(BootId, u32)>,
    /// Gaps in the sequence of its events, since the hub started. A new boot leaves the tail of the old one unknown.
    pub events_missing: u32,
    pub input_sequence: u32,
    pub bad_tags: u32,
    pub bad_tags_told: Option<Instant>,
    /// It says that it holds a set which is not in this database.
    pub ahead: Option<Ahead>,
    pub position_stored: Option<Instant>,
    /// When the device was last heard to be where the stored position says; `None`: it has moved, or not said so yet.
    pub position_heard_ms: Option<u64>,
    pub emits: Bucket,
    /// Its questions about leases, and what it gave back.
    pub needs: Bucket,
    /// Its questions about content.
    pub content_needs: Bucket,
    /// Its messages that did not count.
    pub refusals: Bucket,
    pub quarantined: bool,
    /// Boots of the last two Hellos that differed, newest first.
    pub boots: [Option<BootId>; 2],
    pub is_cloned: bool,
    /// When it became suspect last, and how many times in a row, each soon after the one before.
    pub suspected_at: Option<Instant>,
    pub losses: u32,
    /// Since when it counts as lost.
    pub lost_since: Option<Instant>,
    /// When work was last moved away from it, and in which loss.
    pub replaced: Option<(Instant, Instant)>,
    /// When the hub last vouched for freshness.
    pub fresh_at: Option<Instant>,
    /// What its newest set changes that it has not accepted, by workload: since when.
    pub waits: BTreeMap<u32, u64>,
    /// What it said of its own firmware.
    pub firmware: Option<super::firmware::Seen>,
    /// Its agent's own warnings that became events.
    pub warnings: Bucket,
}

/// A token bucket on the engine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    spent: u64,
    since: Instant,
}

impl Bucket {
    /// True while fewer than `burst` were taken beyond what `per_second` gives back.
    pub fn take(&mut self, now: Instant, per_second: u64, burst: u64) -> bool {
        let elapsed = now.0.saturating_sub(self.since.0);
        let back = elapsed.saturating_mul(per_second) / 1000;
        if back > 0 {
            self.spent = self.spent.saturating_sub(back);
            self.since = now;
        }
        let has_room = self.spent < burst;
        self.spent += u64::from(has_room);
        has_room
    }

    /// When something is given back.
    pub fn free_at(&self, per_second: u64) -> Instant {
        self.since.after(Duration::from_secs(1) / u32::try_from(per_second.max(1)).unwrap_or(u32::MAX))
    }
}

/// Where a device waits for its set to be published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Queued {
    #[default]
    No,
    /// What was sent before, or is for a device that is away.
    Again,
    News,
}

/// The way of the durable set to the broker.
#[derive(Debug, Default)]
pub(super) struct Dispatch {
    pub queued: Queued,
    /// On its way: publication and revision.
    pub sent: Option<(u64, Revision)>,
    /// Sent at least once, by this hub or a former one.
    pub tried: Option<Revision>,
    /// Taken over by the broker.
    pub acknowledged: Option<Revision>,
    /// The chain of trust was published since the link came up.
    pub is_trust_sent: bool,
    /// Larger than the device's packet, even without its body: never sent, the retained one is cleared.
    pub too_large: bool,
    /// The body would go with the header, but for the device's packet: it takes the header alone and asks for the body.
    pub is_apart: bool,
}

#[derive(Debug)]
pub(super) struct Device {
    pub keys: DeviceKeysRow,
    pub pair: Option<PairKey>,
    pub known: Option<Known>,
    pub desired: Option<Desired>,
    pub durable: Option<Durable>,
    pub observed: Observed,
    pub dispatch: Dispatch,
}

impl Device {
    pub fn new(keys: DeviceKeysRow, pair: Option<PairKey>) -> Self {
        Self {
            keys,
            pair,
            known: None,
            desired: None,
            durable: None,
            observed: Observed::default(),
            dispatch: Dispatch::default(),
        }
    }

    pub fn id(&self) -> DeviceId {
        self.keys.device
    }

    /// What is to be acknowledged by the broker: the durable set, unless it may not be sent.
    pub fn is_dispatched(&self) -> bool {
        match &self.durable {
            Some(durable) => self.dispatch.too_large || self.dispatch.acknowledged == Some(durable.revision()),
            None => true,
        }
    }
}

/// All devices.
#[derive(Debug, Default)]
pub(super) struct Devices {
    slots: Vec<Option<Box<Device>>>,
    free: Vec<u32>,
    by_id: HashMap<DeviceId, u32>,
    by_name: HashMap<String, u32>,
}

impl Devices {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn get(&self, index: u32) -> Option<&Device> {
        self.slots.get(usize::try_from(index).ok()?)?.as_deref()
    }

    pub fn get_mut(&mut self, index: u32) -> Option<&mut Device> {
        self.slots.get_mut(usize::try_from(index).ok()?)?.as_deref_mut()
    }

    pub fn index_of(&self, id: DeviceId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    pub fn index_named(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Device)> {
        (0..).zip(&self.slots).filter_map(|(index, slot)| slot.as_deref().map(|device| (index, device)))
    }

    /// The index is the lowest that was freed last, so that taking back a removal restores it.
    pub fn insert(&mut self, device: Box<Device>) -> u32 {
        let (id, name) = (device.keys.device, device.keys.name.clone());
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(None);
                // Bounded by FLEET_DEVICES_MAX at admission.
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        if let Some(slot) = usize::try_from(index).ok().and_then(|at| self.slots.get_mut(at)) {
            *slot = Some(device);
        }
        self.by_id.insert(id, index);
        self.by_name.insert(name, index);
        index
    }

    pub fn remove(&mut self, index: u32) -> Option<Box<Device>> {
        let device = self.slots.get_mut(usize::try_from(index).ok()?)?.take()?;
        self.by_id.remove(&device.keys.device);
        if self.by_name.get(&device.keys.name) == Some(&index) {
            self.by_name.remove(&device.keys.name);
        }
        self.free.push(index);
        Some(device)
    }

    /// Replaces the keys of a known device.
    pub fn rekey(
        &mut self,
        index: u32,
        keys: DeviceKeysRow,
        pair: Option<PairKey>,
    ) -> Option<(DeviceKeysRow, Option<PairKey>)> {
        let name = keys.name.clone();
        let device = self.get_mut(index)?;
        let old = (std::mem::replace(&mut device.keys, keys), std::mem::replace(&mut device.pair, pair));
        if old.0.name != name {
            self.by_name.remove(&old.0.name);
            self.by_name.insert(name, index);
        }
        Some(old)
    }

    /// A stored body by its hash.
    pub fn body(&self, digest: Digest) -> Option<Arc<[u8]>> {
        let all = self.iter().filter_map(|(_, device)| device.durable.as_ref());
        let mut found = all.filter(|durable| durable.signed.header.body == digest);
        found.next().map(|durable| durable.body.clone())
    }
}
