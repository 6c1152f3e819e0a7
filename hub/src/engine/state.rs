//! Everything durable, in memory, with the indexes that are derived from it.
//!
//! It changes by writes only, each of which gives what takes it back; that the engine after a restart equals the living
//! one follows from it. Nothing here may send, answer or decide.

use super::desired::{self, Identity};
use super::device::{Desired, Device, Devices, Durable, Known, class_name};
use super::firmware::ROW_KIND;
use super::placed::{Placed, placement_key};
use super::port::Exchange;
use super::stored::{Body, DeviceBody, Spec, Stored, WorkloadBody};
use super::terms::taint;
use crate::commit::{DeviceKeysRow, LeaseRow, ObjectRow, RecoveryRow, RejectionRow, TokenRow, Write};
use crate::geo::{Distance, Region};
use crate::model::{ArtifactReference, DevicePosition, Kind, ObjectKey, Rollout};
use crate::scheduler::{
    Admittance, DeviceFacts, DeviceIndex, Fleet, Position, PositionSource, Regions, Resources, Runtimes, WireRange,
    WorkloadNumber,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use wire::hello::Features;
use wire::join::ExchangeKey;
use wire::topic::TokenId;
use wire::{DeviceId, PairKey};

/// Takes one write back.
#[derive(Debug)]
pub(super) enum Undo {
    Object(ObjectKey, Option<Arc<Stored>>),
    DeviceAdded(DeviceId),
    DeviceRemoved(Box<Device>),
    DeviceRekeyed(Box<(DeviceKeysRow, Option<PairKey>)>),
    Token(TokenId, Option<TokenRow>),
    Rejection(DeviceId, Option<RejectionRow>),
    Desired(DeviceId, Option<Desired>),
    Capabilities(DeviceId, Option<Box<Known>>),
    WorkloadIdNext(u32),
    Lease(u32, Option<LeaseRow>),
    Incarnation(u32),
    Recovery(Option<RecoveryRow>),
    Hold(DeviceId, bool),
    Rollout(String, Option<Arc<Rollout>>),
    Nothing,
}

pub(super) struct State {
    pub fleet_name: String,
    pub exchange: Box<dyn Exchange>,
    pub objects: BTreeMap<ObjectKey, Arc<Stored>>,
    pub tokens: HashMap<TokenId, TokenRow>,
    /// Keys that may not join.
    pub rejections: BTreeMap<DeviceId, RejectionRow>,
    pub devices: Devices,
    pub fleet: Fleet,
    pub regions: Regions,
    /// Workloads by their number on the wire.
    pub workloads: BTreeMap<u32, ObjectKey>,
    /// Devices whose set holds a workload.
    pub holders: HashMap<u32, BTreeSet<u32>>,
    /// The same, as objects.
    pub placed: Placed,
    /// Workloads by the one that they keep away from, which need not exist.
    pub avoided_by: BTreeMap<ObjectKey, BTreeSet<u32>>,
    /// Names of devices by the workload that was moved away from them while they were lost.
    pub displaced: BTreeMap<u32, BTreeSet<String>>,
    /// Names of devices, and the generation, by the workload that is withheld from them.
    pub withheld: BTreeMap<ObjectKey, BTreeMap<String, u64>>,
    pub workload_id_next: u32,
    /// The last right to each exclusive workload, also of those that are gone and may still run.
    pub leases: BTreeMap<u32, LeaseRow>,
    /// Under which everything is said.
    pub incarnation: u32,
    /// What was said in this database's name and is not in it.
    pub recovery: Option<RecoveryRow>,
    /// Devices that are to keep what they run.
    pub holds: BTreeSet<DeviceId>,
    /// Of firmware, by name.
    pub rollouts: BTreeMap<String, Arc<Rollout>>,
}

impl State {
    pub fn new(fleet_name: String, exchange: Box<dyn Exchange>) -> Self {
        Self {
            fleet_name,
            exchange,
            objects: BTreeMap::new(),
            tokens: HashMap::new(),
            rejections: BTreeMap::new(),
            devices: Devices::default(),
            fleet: Fleet::new(),
            regions: Regions::new(),
            workloads: BTreeMap::new(),
            holders: HashMap::new(),
            placed: Placed::default(),
            avoided_by: BTreeMap::new(),
            displaced: BTreeMap::new(),
            withheld: BTreeMap::new(),
            workload_id_next: 1,
            leases: BTreeMap::new(),
            incarnation: 0,
            recovery: None,
            holds: BTreeSet::new(),
            rollouts: BTreeMap::new(),
        }
    }

    pub fn apply(&mut self, write: &Write) -> Undo {
        match write {
            Write::ObjectPut(row) if row.kind == ROW_KIND => self.rollout_put(row),
            Write::ObjectDelete { kind, name, .. } if *kind == ROW_KIND => {
                Undo::Rollout(name.clone(), self.rollouts.remove(name))
            }
            Write::ObjectPut(row) => self.object_put(row),
            Write::ObjectDelete { kind, namespace, name } => {
                let Some(kind) = Kind::parse(kind) else { return Undo::Nothing };
                let key = ObjectKey { kind, namespace: namespace.clone(), name: name.clone() };
                let before = self.object_set(&key, None);
                Undo::Object(key, before)
            }
            Write::DeviceKeysPut(row) => self.device_keys_put(row),
            Write::DeviceKeysDelete { device } => match self.devices.index_of(*device) {
                Some(index) => self.device_remove(index),
                None => Undo::Nothing,
            },
            Write::TokenPut(row) => Undo::Token(row.id, self.tokens.insert(row.id, row.clone())),
            Write::TokenDelete { id } => Undo::Token(*id, self.tokens.remove(id)),
            Write::RejectionPut(row) => Undo::Rejection(row.device, self.rejections.insert(row.device, row.clone())),
            Write::RejectionDelete { device } => Undo::Rejection(*device, self.rejections.remove(device)),
            Write::DesiredPut { device, revision, limits: _, body } => {
                let assigned = Arc::new(desired::assigned(body));
                let desired = Desired { revision: *revision, body: Arc::from(body.as_slice()), assigned };
                Undo::Desired(*device, self.desired_set(*device, Some(desired)))
            }
            Write::DesiredDelete { device } => Undo::Desired(*device, self.desired_set(*device, None)),
            Write::CapabilitiesPut { device, bytes } => {
                Undo::Capabilities(*device, self.known_set(*device, Known::decode(bytes).map(Box::new)))
            }
            Write::CapabilitiesDelete { device } => Undo::Capabilities(*device, self.known_set(*device, None)),
            Write::WorkloadIdNext { next } => {
                Undo::WorkloadIdNext(std::mem::replace(&mut self.workload_id_next, *next))
            }
            Write::LeasePut(row) => Undo::Lease(row.workload, self.leases.insert(row.workload, row.clone())),
            Write::LeaseDelete { workload } => Undo::Lease(*workload, self.leases.remove(workload)),
            Write::IncarnationRaise { incarnation } => {
                let raised = self.incarnation.max(*incarnation);
                Undo::Incarnation(std::mem::replace(&mut self.incarnation, raised))
            }
            Write::RecoveryPut(row) => Undo::Recovery(self.recovery.replace(row.clone())),
            Write::RecoveryDelete => Undo::Recovery(self.recovery.take()),
            Write::HoldPut { device } => Undo::Hold(*device, !self.holds.insert(*device)),
            Write::HoldDelete { device } => Undo::Hold(*device, self.holds.remove(device)),
        }
    }

    pub fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Object(key, before) => {
                self.object_set(&key, before);
            }
            Undo::DeviceAdded(id) => {
                if let Some(index) = self.devices.index_of(id) {
                    self.device_remove(index);
                }
            }
            Undo::DeviceRemoved(device) => {
                let desired = device.desired.clone();
                let id = device.id();
                let index = self.devices.insert(device);
                // Put back through the setter, so that holders and the fleet follow.
                if let Some(device) = self.devices.get_mut(index) {
                    device.desired = None;
                }
                self.desired_set(id, desired);
                self.refresh(index);
            }
            Undo::DeviceRekeyed(before) => {
                let (keys, pair) = *before;
                if let Some(index) = self.devices.index_of(keys.device) {
                    self.devices.rekey(index, keys, pair);
                    self.refresh(index);
                }
            }
            Undo::Token(id, before) => {
                match before {
                    Some(row) => self.tokens.insert(id, row),
                    None => self.tokens.remove(&id),
                };
            }
            Undo::Rejection(id, before) => {
                match before {
                    Some(row) => self.rejections.insert(id, row),
                    None => self.rejections.remove(&id),
                };
            }
            Undo::Desired(id, before) => {
                self.desired_set(id, before);
            }
            Undo::Capabilities(id, before) => {
                self.known_set(id, before);
            }
            Undo::WorkloadIdNext(next) => self.workload_id_next = next,
            Undo::Lease(workload, before) => {
                match before {
                    Some(row) => self.leases.insert(workload, row),
                    None => self.leases.remove(&workload),
                };
            }
            Undo::Incarnation(incarnation) => self.incarnation = incarnation,
            Undo::Recovery(before) => self.recovery = before,
            Undo::Hold(device, true) => drop(self.holds.insert(device)),
            Undo::Hold(device, false) => drop(self.holds.remove(&device)),
            Undo::Rollout(name, before) => {
                match before {
                    Some(rollout) => self.rollouts.insert(name, rollout),
                    None => self.rollouts.remove(&name),
                };
            }
            Undo::Nothing => {}
        }
    }

    fn rollout_put(&mut self, row: &ObjectRow) -> Undo {
        let Ok(rollout) = serde_json::from_slice::<Rollout>(&row.json) else {
            tracing::error!(name = row.name, "a stored rollout cannot be read and is left out");
            return Undo::Nothing;
        };
        Undo::Rollout(row.name.clone(), self.rollouts.insert(row.name.clone(), Arc::new(rollout)))
    }

    fn object_put(&mut self, row: &ObjectRow) -> Undo {
        let Some(stored) = Stored::from_row(row) else {
            tracing::error!(kind = row.kind, name = row.name, "a stored object cannot be read and is left out");
            return Undo::Nothing;
        };
        let key = stored.key.clone();
        let before = self.object_set(&key, Some(Arc::new(stored)));
        Undo::Object(key, before)
    }

    /// Replaces an object and brings everything derived from it up to date.
    fn object_set(&mut self, key: &ObjectKey, stored: Option<Arc<Stored>>) -> Option<Arc<Stored>> {
        let stored = stored.map(|stored| self.with_encoding(stored));
        let after = stored.clone();
        let before = match stored {
            Some(stored) => self.objects.insert(key.clone(), stored),
            None => self.objects.remove(key),
        };
        match key.kind {
            Kind::Region => {
                match after.as_deref().map(|stored| &stored.body.spec) {
                    Some(Spec::Region(region)) => self.regions.insert(key.name.clone(), Region::clone(&region.shape)),
                    _ => self.regions.remove(&key.name),
                };
            }
            Kind::Device => {
                self.displaced_set(&key.name, before.as_deref(), after.as_deref());
                self.withheld_set(&key.name, before.as_deref(), after.as_deref());
                if let Some(index) = self.devices.index_named(&key.name) {
                    self.refresh(index);
                }
            }
            Kind::Workload => {
                if let Some(body) = before.as_deref().and_then(Stored::workload) {
                    self.workloads.remove(&body.id);
                    for other in avoided(key, body) {
                        if let Some(avoiding) = self.avoided_by.get_mut(&other) {
                            avoiding.remove(&body.id);
                            if avoiding.is_empty() {
                                self.avoided_by.remove(&other);
                            }
                        }
                    }
                }
                if let Some(body) = after.as_deref().and_then(Stored::workload) {
                    self.workloads.insert(body.id, key.clone());
                    for other in avoided(key, body) {
                        self.avoided_by.entry(other).or_default().insert(body.id);
                    }
                }
            }
            Kind::Namespace | Kind::Artifact | Kind::Placement | Kind::Token => {}
        }
        before
    }

    fn displaced_set(&mut self, name: &str, before: Option<&Stored>, after: Option<&Stored>) {
        let of = |stored: Option<&Stored>| {
            let body = stored.and_then(Stored::device);
            body.map(|body| body.reported.displaced.clone()).unwrap_or_default()
        };
        for id in of(before) {
            if let Some(names) = self.displaced.get_mut(&id) {
                names.remove(name);
                if names.is_empty() {
                    self.displaced.remove(&id);
                }
            }
        }
        for id in of(after) {
            self.displaced.entry(id).or_default().insert(name.to_owned());
        }
    }

    fn with_encoding(&self, stored: Arc<Stored>) -> Arc<Stored> {
        let Some(body) = stored.workload().filter(|body| body.encoded.is_none()) else {
            return stored;
        };
        let mut body = body.clone();
        body.encoded = self.encode(&stored.key, &body);
        if body.encoded.is_none() {
            tracing::error!(workload = %stored.key, "an artifact of this workload is missing; it is not placed");
        }
        Arc::new(Stored {
            key: stored.key.clone(),
            uid: stored.uid.clone(),
            generation: stored.generation,
            resource_version: stored.resource_version,
            created_ms: stored.created_ms,
            body: Body {
                labels: stored.body.labels.clone(),
                annotations: stored.body.annotations.clone(),
                spec: Spec::Workload(Box::new(body)),
                managed: stored.body.managed.clone(),
            },
        })
    }

    /// A workload's records; `None` when an artifact is missing or the records cannot be written.
    pub fn encode(&self, key: &ObjectKey, body: &super::stored::WorkloadBody) -> Option<desired::Encoded> {
        let identity =
            Identity { namespace: &key.namespace, name: &key.name, id: body.id, generation: body.record_generation };
        let bytes_of = |reference: &ArtifactReference| self.artifact_bytes(&key.namespace, reference);
        desired::encode(&identity, &body.spec, bytes_of).ok().flatten()
    }

    pub fn artifact_bytes(&self, namespace: &str, reference: &ArtifactReference) -> Option<u32> {
        let stored = self.objects.get(&ObjectKey::artifact(namespace, &reference.name))?;
        let digest = format!("sha256:{}", reference.digest);
        let version = stored.artifact()?.versions.iter().find(|version| version.digest == digest)?;
        u32::try_from(version.bytes).ok()
    }

    fn device_keys_put(&mut self, row: &DeviceKeysRow) -> Undo {
        let exchange = ExchangeKey(row.exchange);
        let pair = self.exchange.pair_key(&exchange, &self.fleet_name, row.device);
        self.device_put(row.clone(), pair)
    }

    pub fn device_put(&mut self, row: DeviceKeysRow, pair: Option<PairKey>) -> Undo {
        let id = row.device;
        let known = self.devices.index_of(id);
        match known {
            Some(index) => {
                let before = self.devices.rekey(index, row, pair);
                self.refresh(index);
                before.map_or(Undo::Nothing, |before| Undo::DeviceRekeyed(Box::new(before)))
            }
            None => {
                let index = self.devices.insert(Box::new(Device::new(row, pair)));
                self.refresh(index);
                Undo::DeviceAdded(id)
            }
        }
    }

    fn device_remove(&mut self, index: u32) -> Undo {
        let id = self.devices.get(index).map(Device::id);
        let desired = id.and_then(|id| self.desired_set(id, None));
        self.fleet.remove(DeviceIndex(index));
        match self.devices.remove(index) {
            Some(mut device) => {
                device.desired = desired;
                Undo::DeviceRemoved(device)
            }
            None => Undo::Nothing,
        }
    }

    fn known_set(&mut self, id: DeviceId, known: Option<Box<Known>>) -> Option<Box<Known>> {
        let index = self.devices.index_of(id)?;
        let device = self.devices.get_mut(index)?;
        let before = std::mem::replace(&mut device.known, known.map(|known| *known));
        self.refresh(index);
        before.map(Box::new)
    }

    pub fn desired_set(&mut self, id: DeviceId, desired: Option<Desired>) -> Option<Desired> {
        let index = self.devices.index_of(id)?;
        let device = self.devices.get_mut(index)?;
        let name = device.keys.name.clone();
        let after = desired.as_ref().map(|desired| desired.assigned.clone()).unwrap_or_default();
        let old = std::mem::replace(&mut device.desired, desired);
        let before = old.as_ref().map(|desired| desired.assigned.clone()).unwrap_or_default();
        let place = DeviceIndex(index);
        for (workload, assigned) in before.iter().filter(|(workload, assigned)| after.get(workload) != Some(assigned)) {
            self.fleet.release_for(place, WorkloadNumber(*workload), assigned.holds);
            if !after.contains_key(workload) {
                self.placed.remove((*workload, index));
            }
            if !after.contains_key(workload)
                && let Some(holders) = self.holders.get_mut(workload)
            {
                holders.remove(&index);
                if holders.is_empty() {
                    self.holders.remove(workload);
                }
            }
        }
        for (workload, assigned) in after.iter().filter(|(workload, assigned)| before.get(workload) != Some(assigned)) {
            self.fleet.hold_for(place, WorkloadNumber(*workload), assigned.holds);
            self.holders.entry(*workload).or_default().insert(index);
            if let Some(key) = self.workloads.get(workload) {
                self.placed.insert(placement_key(key, &name), (*workload, index));
            }
        }
        old
    }

    /// From the database at start: signed and durable.
    pub fn desired_load(&mut self, row: crate::commit::DesiredRow) {
        let assigned = Arc::new(desired::assigned(&row.body));
        let body: Arc<[u8]> = Arc::from(row.body);
        let revision = row.signed.header.revision;
        self.desired_set(row.device, Some(Desired { revision, body: body.clone(), assigned }));
        if let Some(device) = self.devices.index_of(row.device).and_then(|index| self.devices.get_mut(index)) {
            device.dispatch.tried = Some(revision);
            device.durable = Some(Durable { signed: row.signed, body });
        }
    }

    /// Where a device is: the operator's word, else its own.
    pub fn position(&self, name: &str) -> Option<(DevicePosition, PositionSource)> {
        let stored = self.objects.get(&ObjectKey::device(name))?;
        let body = stored.device()?;
        let operator = body.spec.position.map(|position| (position, PositionSource::Operator));
        operator.or_else(|| body.reported.position.map(|position| (position, PositionSource::Reported)))
    }

    /// Notes when a device was last where its stored position says, or that it is not.
    pub fn position_heard(&mut self, index: u32, wall_ms: Option<u64>) {
        let Some(device) = self.devices.get_mut(index) else { return };
        device.observed.position_heard_ms = wall_ms;
        let Some(device) = self.devices.get(index) else { return };
        let stored = self.objects.get(&ObjectKey::device(&device.keys.name));
        let body = stored.and_then(|stored| stored.device());
        let place = DeviceIndex(index);
        if let Some(position) = self.fleet.get(place).and_then(|device| device.position) {
            let known_at = known_at(position.source, body, device);
            self.fleet.relocate(place, Some(Position { known_at, ..position }));
        }
    }

    /// Whether a device keeps what it runs, because it holds a set that is not in this database, or may hold one. Its own set
    /// is neither changed nor published then.
    pub fn is_held(&self, index: u32) -> bool {
        let Some(device) = self.devices.get(index) else { return false };
        if device.observed.ahead.is_some() {
            return true;
        }
        let Some(recovery) = &self.recovery else { return false };
        let is_heard = device.observed.accepted.is_some();
        !is_heard && (!recovery.is_overruled || self.holds.contains(&device.id()))
    }

    /// Gives the scheduler the present facts of a device.
    pub fn refresh(&mut self, index: u32) {
        let Some(device) = self.devices.get(index) else { return };
        let name = &device.keys.name;
        let stored = self.objects.get(&ObjectKey::device(name)).cloned();
        let body = stored.as_deref().and_then(Stored::device);
        let position = self.position(name).map(|(position, source)| Position {
            point: position.point,
            uncertainty: Distance::from_metres(position.uncertainty_m),
            source,
            known_at: known_at(source, body, device),
        });
        let admittance = match body.map(|body| (body.spec.approved, body.spec.is_leaving(), body.spec.cordoned)) {
            // It runs what this hub does not know, or may: nothing is added to a set that is not to be changed.
            Some((true, false, false)) if self.is_held(index) => Admittance::Held,
            Some((true, false, false)) => Admittance::Open,
            Some((true, false, true)) => Admittance::Cordoned,
            Some((true, true, _)) => Admittance::Draining,
            Some((false, _, _)) | None => Admittance::Pending,
        };
        let reported_class = body.map(|body| body.reported.class.as_str()).unwrap_or_default();
        let class = device.known.as_ref().map_or(reported_class, |known| class_name(known.class));
        let assigned = device.desired.as_ref().map(|desired| desired.assigned.clone()).unwrap_or_default();
        let used = assigned.values().map(|assigned| assigned.holds).fold(Resources::default(), Resources::plus);
        let version = u16::from(wire::version::VERSION);
        let facts = DeviceFacts {
            id: device.id().text().as_str().into(),
            name: name.as_str().into(),
            class: class.into(),
            labels: stored.as_deref().map(|stored| stored.body.labels.clone()).unwrap_or_default(),
            position,
            admittance,
            wire: WireRange { min: version, max: version },
            runtimes: device.known.as_ref().map_or_else(Runtimes::default, |known| Runtimes {
                function: known.features.contains(Features::FUNCTION),
                container: known.features.contains(Features::CONTAINER),
            }),
            interfaces: device.known.as_ref().map(|known| known.interfaces).unwrap_or_default(),
            has_boot_clock: device.known.as_ref().is_some_and(|known| known.features.contains(Features::BOOT_CLOCK)),
            total: device.known.as_ref().map(desired::capacity).unwrap_or_default(),
            used,
            placements: u32::try_from(assigned.len()).unwrap_or(u32::MAX),
            site: body.and_then(|body| body.spec.site.as_deref()).map(Into::into),
            taints: body.map(|body| body.spec.taints.iter().map(taint).collect()).unwrap_or_default(),
            runs: assigned.keys().copied().map(WorkloadNumber).collect(),
            is_lost: device.observed.lost_since.is_some(),
        };
        if let Err(error) = self.fleet.put(DeviceIndex(index), facts) {
            tracing::error!(%error, "a device is beyond the fleet's limit and gets no work");
        }
    }
}

/// When a position was last true, as far as the hub knows, on the scale of `Engine::snapshot`.
fn known_at(source: PositionSource, body: Option<&DeviceBody>, device: &Device) -> Duration {
    match source {
        // The operator's word holds until it is changed.
        PositionSource::Operator | PositionSource::Static => Duration::MAX,
        PositionSource::Reported => {
            let stored = body.map_or(0, |body| body.reported.position_ms);
            Duration::from_millis(stored.max(device.observed.position_heard_ms.unwrap_or_default()))
        }
    }
}

/// The workloads that this one keeps away from.
fn avoided<'a>(key: &'a ObjectKey, body: &'a WorkloadBody) -> impl Iterator<Item = ObjectKey> {
    let names = body.spec.placement.anti_affinity.iter().flat_map(|term| &term.workloads);
    names.map(|name| ObjectKey::workload(&key.namespace, name))
}
