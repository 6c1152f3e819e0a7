//! A made-up load for the hub's store, and the model that says what must be in it.
//!
//! Every batch is a function of its sequence and era, so that a reader needs no memory of what a killed writer sent: the
//! state at a sequence is known by heart. The model must never look at the store to find out what it should hold.

use std::collections::BTreeMap;

use hub::commit::{AuditEntry, Batch, DeviceKeysRow, Loaded, ObjectRow, Write};
use wire::dalek::{Ed25519, ExchangeSecret};
use wire::desired::ClassLimits;
use wire::id::{Order, Revision};
use wire::{DeviceId, Digest};

/// Devices that come, get sets, and go.
const DEVICES: u64 = 5;
/// Objects that are put and deleted in turn.
const OBJECTS: u64 = 12;
/// Longest made-up document or body.
const CONTENT_BYTES_MAX: u64 = 3_000;
/// Audit rows of each batch.
pub const AUDIT_ROWS_PER_BATCH: u64 = 2;

/// A small seeded generator (splitmix64 by Sebastiano Vigna): the same seed, the same run.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end.max(1)
    }

    pub fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count).map(|_| self.number().to_le_bytes()[0]).collect()
    }
}

fn device(number: u64) -> DeviceId {
    DeviceId([u8::try_from(number).unwrap_or(u8::MAX); 16])
}

fn object(name: String, sequence: u64, json: Vec<u8>) -> Write {
    Write::ObjectPut(ObjectRow {
        kind: "Workload".to_owned(),
        namespace: "default".to_owned(),
        uid: format!("{name}-{sequence}"),
        name,
        generation: sequence,
        resource_version: sequence,
        created_ms: sequence,
        json,
    })
}

/// What is written under this sequence in this era: several rows in several tables, and audit rows.
pub fn batch(sequence: u64, era: u32) -> Batch {
    let mut random = Random(sequence ^ u64::from(era) << 48);
    let length = random.below(CONTENT_BYTES_MAX);
    let mut writes = vec![
        object(format!("w-{}", sequence % OBJECTS), sequence, random.bytes(length)),
        object("last".to_owned(), sequence, format!("{sequence} {era}").into_bytes()),
        Write::WorkloadIdNext { next: u32::try_from(sequence).unwrap_or(u32::MAX) },
    ];
    if sequence.is_multiple_of(5) {
        let name = format!("w-{}", (sequence + OBJECTS / 2) % OBJECTS);
        writes.push(Write::ObjectDelete { kind: "Workload", namespace: "default".to_owned(), name });
    }
    let device = device(sequence % DEVICES);
    if sequence.is_multiple_of(3) {
        let limits = ClassLimits { records: 8, memory_bytes: 65_536 };
        let length = random.below(CONTENT_BYTES_MAX);
        let revision = Revision(Order::new(era, sequence).unwrap_or_default());
        writes.push(Write::DesiredPut { device, revision, limits, body: random.bytes(length) });
        writes.push(Write::CapabilitiesPut { device, bytes: sequence.to_le_bytes().to_vec() });
        writes.push(Write::DeviceKeysPut(DeviceKeysRow {
            device,
            name: format!("device-{}", sequence % DEVICES),
            identity: [1; 32],
            exchange: ExchangeSecret::from_seed([7; 32]).public_key().0,
            credential_sha256: Digest::of(&sequence.to_le_bytes()).0,
            join_nonce: Some([8; 16]),
            joined_ms: sequence,
        }));
    } else if sequence.is_multiple_of(7) {
        writes.push(Write::DeviceKeysDelete { device });
    }
    let audit = (0..AUDIT_ROWS_PER_BATCH).map(|row| AuditEntry {
        time_ms: sequence,
        actor: "load".to_owned(),
        action: "put",
        object: format!("batch/{sequence}/{row}"),
        before: None,
        after: Some(Digest::of(&sequence.to_le_bytes())),
    });
    Batch { sequence, era, writes, audit: audit.collect() }
}

/// What must be stored after the batches so far.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub sequence: u64,
    workload_id_next: u32,
    objects: BTreeMap<String, ObjectRow>,
    devices: BTreeMap<DeviceId, DeviceKeysRow>,
    sets: BTreeMap<DeviceId, (Revision, Vec<u8>)>,
    capabilities: BTreeMap<DeviceId, Vec<u8>>,
}

impl Model {
    /// Before the first batch.
    pub fn new() -> Self {
        Self { workload_id_next: 1, ..Self::default() }
    }

    /// Adds the next batch, as it was made in this era.
    pub fn advance(&mut self, era: u32) {
        self.sequence += 1;
        for write in batch(self.sequence, era).writes {
            match write {
                Write::ObjectPut(row) => drop(self.objects.insert(row.name.clone(), row)),
                Write::ObjectDelete { name, .. } => drop(self.objects.remove(&name)),
                Write::DeviceKeysPut(row) => drop(self.devices.insert(row.device, row)),
                Write::DeviceKeysDelete { device } => {
                    self.devices.remove(&device);
                    self.sets.remove(&device);
                    self.capabilities.remove(&device);
                }
                Write::DesiredPut { device, revision, body, .. } => drop(self.sets.insert(device, (revision, body))),
                Write::DesiredDelete { device } => drop(self.sets.remove(&device)),
                Write::CapabilitiesPut { device, bytes } => drop(self.capabilities.insert(device, bytes)),
                Write::CapabilitiesDelete { device } => drop(self.capabilities.remove(&device)),
                Write::WorkloadIdNext { next } => self.workload_id_next = self.workload_id_next.max(next),
                // The load makes no tokens and grants nothing.
                Write::TokenPut(_)
                | Write::TokenDelete { .. }
                | Write::RejectionPut(_)
                | Write::RejectionDelete { .. }
                | Write::LeasePut(_)
                | Write::LeaseDelete { .. } => {}
                // Nor is its database ever older than what was said in its name.
                Write::IncarnationRaise { .. }
                | Write::RecoveryPut(_)
                | Write::RecoveryDelete
                | Write::HoldPut { .. }
                | Write::HoldDelete { .. } => {}
            }
        }
    }

    pub fn audit_rows(&self) -> u64 {
        self.sequence * AUDIT_ROWS_PER_BATCH
    }

    /// Compares every row of every table.
    ///
    /// # Errors
    /// Says what differs first.
    pub fn compare(&self, loaded: &Loaded) -> Result<(), String> {
        let differs = |what: &str| Err(format!("{what} differ at sequence {}", self.sequence));
        if (loaded.sequence, loaded.workload_id_next) != (self.sequence, self.workload_id_next) {
            return differs(&format!("counters ({}, {})", loaded.sequence, loaded.workload_id_next));
        }
        let objects: BTreeMap<_, _> = loaded.objects.iter().map(|row| (row.name.clone(), row.clone())).collect();
        if objects != self.objects || loaded.objects.len() != objects.len() {
            return differs("objects");
        }
        let devices: BTreeMap<_, _> = loaded.devices.iter().map(|(row, _)| (row.device, row.clone())).collect();
        if devices != self.devices {
            return differs("devices");
        }
        let sets: BTreeMap<_, _> =
            loaded.desired.iter().map(|row| (row.device, (row.signed.header.revision, row.body.clone()))).collect();
        if sets != self.sets {
            return differs("desired sets");
        }
        let is_signed =
            |row: &hub::commit::DesiredRow| row.signed.verify(&Ed25519, &loaded.hub_signing, &loaded.fleet, row.device);
        if !loaded.desired.iter().all(is_signed) {
            return differs("signatures");
        }
        let capabilities: BTreeMap<_, _> = loaded.capabilities.iter().cloned().collect();
        if capabilities != self.capabilities { differs("capabilities") } else { Ok(()) }
    }
}
