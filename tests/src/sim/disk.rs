//! The hub's disk and writer as doubles: group commits with latency, one era per failure, signatures made outside the engine.
//!
//! What is in `Durable` is what a new hub finds after a crash at this moment; everything else in the hub is gone.
use super::record::Set;
use hub::commit::{
    Batch, DesiredRow, DeviceKeysRow, LeaseRow, Loaded, ObjectRow, RecoveryCause, RecoveryRow, RejectionRow, TokenRow,
    WORKLOAD_IDS_SKIPPED, Write,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use wire::dalek::ExchangeSecret;
use wire::desired::{Header, SignedHeader};
use wire::id::Order;
use wire::join::ExchangeKey;
use wire::sign::{PublicKey, Sign};
use wire::topic::TokenId;
use wire::{DeviceId, Digest, PairKey, Revision};

pub type ObjectId = (String, String, String);

#[derive(Clone)]
pub struct Durable {
    pub incarnation: u32,
    /// Beside the database, as the store keeps it: it survives when an old database is put in the place of this one.
    high_water: u32,
    /// A restore put this database here, and no hub has begun with it yet.
    is_restored: bool,
    pub sequence: u64,
    pub workload_id_next: u32,
    pub objects: BTreeMap<ObjectId, ObjectRow>,
    pub devices: BTreeMap<DeviceId, DeviceKeysRow>,
    pub tokens: BTreeMap<TokenId, TokenRow>,
    pub rejections: BTreeMap<DeviceId, RejectionRow>,
    pub desired: BTreeMap<DeviceId, DesiredRow>,
    pub capabilities: BTreeMap<DeviceId, Vec<u8>>,
    pub leases: BTreeMap<u32, LeaseRow>,
    pub recovery: Option<RecoveryRow>,
    pub holds: BTreeSet<DeviceId>,
    pub audit: u64,
    /// Every set that was ever signed, for the oracles: the body's hash by device and revision.
    pub signed: BTreeMap<(DeviceId, Revision), Digest>,
    /// What the device with this id should run now.
    pub sets: BTreeMap<DeviceId, Set>,
    pairs: BTreeMap<DeviceId, Option<PairKey>>,
}

impl Default for Durable {
    /// A new database.
    fn default() -> Self {
        Self {
            incarnation: 0,
            high_water: 0,
            is_restored: false,
            sequence: 0,
            workload_id_next: 1,
            objects: BTreeMap::new(),
            devices: BTreeMap::new(),
            tokens: BTreeMap::new(),
            rejections: BTreeMap::new(),
            desired: BTreeMap::new(),
            capabilities: BTreeMap::new(),
            leases: BTreeMap::new(),
            recovery: None,
            holds: BTreeSet::new(),
            audit: 0,
            signed: BTreeMap::new(),
            sets: BTreeMap::new(),
            pairs: BTreeMap::new(),
        }
    }
}

impl Durable {
    /// What a hub finds at its start. The incarnation is raised first, as the store does.
    pub fn load(&mut self, now_ms: u64, fleet: &str, signer: &dyn Sign, exchange: &ExchangeSecret) -> Loaded {
        let stored = self.incarnation;
        self.incarnation = stored.max(self.high_water) + 1;
        self.high_water = self.incarnation;
        if std::mem::take(&mut self.is_restored) {
            self.recovery_begins(now_ms, stored);
        }
        let signing: PublicKey = signer.public_key();
        let pairs = &mut self.pairs;
        let mut pair = |row: &DeviceKeysRow| {
            let derive = || exchange.pair_key(&ExchangeKey(row.exchange), fleet, row.device);
            pairs.entry(row.device).or_insert_with(derive).clone()
        };
        Loaded {
            fleet: fleet.to_owned(),
            incarnation: self.incarnation,
            sequence: self.sequence,
            workload_id_next: self.workload_id_next,
            objects: self.objects.values().cloned().collect(),
            devices: self.devices.values().map(|row| (row.clone(), pair(row))).collect(),
            tokens: self.tokens.values().cloned().collect(),
            rejections: self.rejections.values().cloned().collect(),
            recovery: self.recovery.clone(),
            holds: self.holds.iter().copied().collect(),
            desired: self.desired.values().cloned().collect(),
            capabilities: self.capabilities.iter().map(|(device, bytes)| (*device, bytes.clone())).collect(),
            leases: self.leases.values().cloned().collect(),
            hub_signing: signing,
        }
    }

    /// An old copy in the place of this database. What only the oracles know stays.
    pub fn restore(&mut self, backup: &Self) {
        let (signed, high_water) = (std::mem::take(&mut self.signed), self.high_water);
        *self = Self { signed, high_water, is_restored: true, ..backup.clone() };
    }

    /// As the store does at the start: the gap is noted, and numbers of workloads that may have been given are passed over.
    fn recovery_begins(&mut self, since_ms: u64, stored: u32) {
        let remembered = Order::new(stored, self.sequence).unwrap_or(Order::ZERO);
        let before = self.recovery.as_ref().map(|row| row.remembered);
        self.recovery = Some(RecoveryRow {
            cause: RecoveryCause::Restored,
            since_ms,
            remembered: before.map_or(remembered, |before| before.min(remembered)),
            until_incarnation: self.incarnation,
            is_overruled: false,
            holds_grants: true,
        });
        self.workload_id_next += WORKLOAD_IDS_SKIPPED;
        self.audit += 1;
    }

    /// Applies a batch as one transaction; returns the signed sets, or what is wrong with the batch.
    pub fn apply(
        &mut self,
        batch: Batch,
        fleet: &str,
        signer: &dyn Sign,
    ) -> Result<Vec<(DeviceId, SignedHeader)>, String> {
        if batch.sequence != self.sequence + 1 {
            return Err(format!("batch {} after {}: sequences are dense", batch.sequence, self.sequence));
        }
        if batch.writes.is_empty() {
            return Err(format!("batch {} writes nothing", batch.sequence));
        }
        let changes = |write: &Write| {
            !matches!(
                write,
                Write::CapabilitiesPut { .. } | Write::CapabilitiesDelete { .. } | Write::WorkloadIdNext { .. }
            )
        };
        if batch.audit.is_empty() && batch.writes.iter().any(changes) {
            return Err(format!("batch {} changes state without an audit entry", batch.sequence));
        }
        self.sequence = batch.sequence;
        self.audit += batch.audit.len() as u64;
        let mut signed = Vec::new();
        for write in batch.writes {
            self.write(write, fleet, signer, &mut signed)?;
        }
        Ok(signed)
    }

    fn write(
        &mut self,
        write: Write,
        fleet: &str,
        signer: &dyn Sign,
        out: &mut Vec<(DeviceId, SignedHeader)>,
    ) -> Result<(), String> {
        match write {
            Write::ObjectPut(row) => {
                self.objects.insert((row.kind.clone(), row.namespace.clone(), row.name.clone()), row);
            }
            Write::ObjectDelete { kind, namespace, name } => {
                self.objects.remove(&(kind.to_owned(), namespace, name));
            }
            Write::DeviceKeysPut(row) => {
                self.devices.insert(row.device, row);
            }
            Write::DeviceKeysDelete { device } => {
                self.devices.remove(&device);
            }
            Write::TokenPut(row) => {
                self.tokens.insert(row.id, row);
            }
            Write::TokenDelete { id } => {
                self.tokens.remove(&id);
            }
            Write::RejectionPut(row) => {
                self.rejections.insert(row.device, row);
            }
            Write::RejectionDelete { device } => {
                self.rejections.remove(&device);
            }
            Write::DesiredPut { device, revision, limits, body } => {
                let header =
                    Header::of(revision, &body, limits).map_err(|error| format!("a set too large: {error}"))?;
                let signed = header.sign(signer, fleet, device).map_err(|error| format!("signing: {error}"))?;
                let set = Set::of(&signed, &body).ok_or("a desired body that does not decode")?;
                if let Some(earlier) = self.desired.get(&device)
                    && earlier.signed.header.revision >= revision
                {
                    return Err(format!("revision {revision} of {device} after {}", earlier.signed.header.revision));
                }
                if self.signed.insert((device, revision), header.body).is_some() {
                    return Err(format!("revision {revision} of {device} was signed twice"));
                }
                self.sets.insert(device, set);
                self.desired.insert(device, DesiredRow { device, signed, body });
                out.push((device, signed));
            }
            Write::DesiredDelete { device } => {
                self.desired.remove(&device);
                self.sets.remove(&device);
            }
            Write::CapabilitiesPut { device, bytes } => {
                self.capabilities.insert(device, bytes);
            }
            Write::CapabilitiesDelete { device } => {
                self.capabilities.remove(&device);
            }
            Write::WorkloadIdNext { next } => {
                if next < self.workload_id_next {
                    return Err("the next workload number went back".to_owned());
                }
                self.workload_id_next = next;
            }
            Write::LeasePut(row) => {
                let (workload, fence) = (row.workload, row.fence);
                let before = self.leases.insert(workload, row);
                if let Some(before) = before.filter(|before| before.fence > fence) {
                    return Err(format!("workload {workload}: fence {} after {}", fence.0, before.fence.0));
                }
            }
            Write::LeaseDelete { workload } => {
                self.leases.remove(&workload);
            }
            Write::IncarnationRaise { incarnation } => {
                if incarnation <= self.incarnation {
                    return Err(format!("incarnation {} is not above {}", incarnation, self.incarnation));
                }
                self.incarnation = incarnation;
                self.high_water = self.high_water.max(incarnation);
            }
            Write::RecoveryPut(row) => self.recovery = Some(row),
            Write::RecoveryDelete => self.recovery = None,
            Write::HoldPut { device } => drop(self.holds.insert(device)),
            Write::HoldDelete { device } => drop(self.holds.remove(&device)),
        }
        Ok(())
    }
}

/// What waits for the disk.
#[derive(Debug, Default)]
pub struct Queue {
    pub waiting: VecDeque<Batch>,
    /// A group is being written.
    pub is_busy: bool,
    /// Batches of this era and before build upon what failed.
    pub failed_era: Option<u32>,
}
