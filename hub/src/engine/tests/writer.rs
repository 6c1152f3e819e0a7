//! A writer in memory: signs like the real one, and can hold, fail or crash. It keeps a database of plain tables.
use crate::commit::{
    Batch, CommitFailure, DesiredRow, DeviceKeysRow, LeaseRow, Loaded, ObjectRow, RecoveryRow, RejectionRow, TokenRow,
    Write,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use wire::DeviceId;
use wire::dalek::{Ed25519Key, ExchangeSecret};
use wire::desired::{Header, SignedHeader};
use wire::join::ExchangeKey;
use wire::sign::Sign;
use wire::topic::TokenId;

pub const FLEET: &str = "test";

pub fn hub_key() -> Ed25519Key {
    Ed25519Key::from_seed(&[7; 32])
}

pub fn hub_exchange() -> ExchangeSecret {
    ExchangeSecret::from_seed([8; 32])
}

#[derive(Clone, Default)]
pub struct Database {
    pub sequence: u64,
    pub incarnation: u32,
    pub workload_id_next: u32,
    pub objects: BTreeMap<(String, String, String), ObjectRow>,
    pub devices: BTreeMap<DeviceId, DeviceKeysRow>,
    pub tokens: BTreeMap<TokenId, TokenRow>,
    pub rejections: BTreeMap<DeviceId, RejectionRow>,
    pub desired: BTreeMap<DeviceId, DesiredRow>,
    pub capabilities: BTreeMap<DeviceId, Vec<u8>>,
    pub leases: BTreeMap<u32, LeaseRow>,
    pub recovery: Option<RecoveryRow>,
    pub holds: BTreeSet<DeviceId>,
}

impl Database {
    /// As a hub from before there were field managers wrote it.
    pub fn forget_owners(&mut self) {
        for row in self.objects.values_mut() {
            let mut stored: serde_json::Value = serde_json::from_slice(&row.json).unwrap();
            stored.as_object_mut().unwrap().remove("managed");
            row.json = serde_json::to_vec(&stored).unwrap();
        }
    }

    /// As a hub from before there were namespaces as objects wrote it.
    pub fn forget_namespaces(&mut self) {
        self.objects.retain(|(kind, _, _), _| kind != "Namespace");
    }

    pub fn apply(&mut self, batch: &Batch) -> Vec<(DeviceId, SignedHeader)> {
        assert_eq!(batch.sequence, self.sequence + 1, "sequences are dense");
        self.sequence = batch.sequence;
        let mut signed = Vec::new();
        for write in batch.writes.clone() {
            match write {
                Write::ObjectPut(row) => {
                    let key = (row.kind.clone(), row.namespace.clone(), row.name.clone());
                    self.objects.insert(key, row);
                }
                Write::ObjectDelete { kind, namespace, name } => {
                    assert!(self.objects.remove(&(kind.to_owned(), namespace, name)).is_some());
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
                    assert!(self.rejections.remove(&device).is_some());
                }
                Write::DesiredPut { device, revision, limits, body } => {
                    let before = self.desired.get(&device).map(|row| row.signed.header.revision);
                    assert!(before < Some(revision), "revisions only grow");
                    let header = Header::of(revision, &body, limits).unwrap();
                    let header = header.sign(&hub_key(), FLEET, device).unwrap();
                    signed.push((device, header));
                    self.desired.insert(device, DesiredRow { device, signed: header, body });
                }
                Write::DesiredDelete { device } => {
                    self.desired.remove(&device);
                }
                Write::CapabilitiesPut { device, bytes } => {
                    self.capabilities.insert(device, bytes);
                }
                Write::CapabilitiesDelete { device } => {
                    self.capabilities.remove(&device);
                }
                Write::WorkloadIdNext { next } => {
                    assert!(next > self.workload_id_next);
                    self.workload_id_next = next;
                }
                Write::LeasePut(row) => {
                    let fence = row.fence;
                    let before = self.leases.insert(row.workload, row).map_or(fence, |before| before.fence);
                    assert!(before <= fence, "fences only grow");
                }
                Write::LeaseDelete { workload } => {
                    assert!(self.leases.remove(&workload).is_some());
                }
                Write::IncarnationRaise { incarnation } => {
                    assert!(incarnation > self.incarnation);
                    self.incarnation = incarnation;
                }
                Write::RecoveryPut(row) => self.recovery = Some(row),
                Write::RecoveryDelete => self.recovery = None,
                Write::HoldPut { device } => drop(self.holds.insert(device)),
                Write::HoldDelete { device } => drop(self.holds.remove(&device)),
            }
        }
        signed
    }

    /// As the store gives it at the next start.
    pub fn load(&mut self) -> Loaded {
        self.incarnation += 1;
        let pair = |row: &DeviceKeysRow| hub_exchange().pair_key(&ExchangeKey(row.exchange), FLEET, row.device);
        Loaded {
            fleet: FLEET.to_owned(),
            incarnation: self.incarnation,
            sequence: self.sequence,
            workload_id_next: self.workload_id_next.max(1),
            objects: self.objects.values().cloned().collect(),
            devices: self.devices.values().map(|row| (row.clone(), pair(row))).collect(),
            tokens: self.tokens.values().cloned().collect(),
            rejections: self.rejections.values().cloned().collect(),
            recovery: self.recovery.clone(),
            holds: self.holds.iter().copied().collect(),
            desired: self.desired.values().cloned().collect(),
            capabilities: self.capabilities.iter().map(|(id, bytes)| (*id, bytes.clone())).collect(),
            leases: self.leases.values().cloned().collect(),
            hub_signing: hub_key().public_key(),
        }
    }
}

#[derive(Default)]
pub struct Writer {
    pub database: Database,
    pub queue: VecDeque<Batch>,
    /// Batches wait until `World::write`.
    pub holds: bool,
    /// The next group fails.
    pub fails: Option<CommitFailure>,
    pub era: Option<u32>,
}

/// What the writer says to the engine.
pub enum Said {
    Committed(u64, Vec<(DeviceId, SignedHeader)>),
    Failed(u64, CommitFailure),
}

impl Writer {
    /// Takes the next batch, as the contract says.
    pub fn step(&mut self) -> Option<Said> {
        let batch = self.queue.pop_front()?;
        if self.era.is_some_and(|failed| batch.era <= failed) {
            return self.step();
        }
        if let Some(reason) = self.fails.take() {
            self.era = Some(batch.era);
            return Some(Said::Failed(batch.sequence, reason));
        }
        let signed = self.database.apply(&batch);
        Some(Said::Committed(batch.sequence, signed))
    }
}
