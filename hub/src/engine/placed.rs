//! Placements as objects: an ordered index of which workload is on which device, and their documents.
//!
//! They are derived from the devices' sets and change with them; nobody writes them.

use super::Engine;
use super::changes::Did;
use super::port::Now;
use super::state::State;
use crate::model::{API_VERSION, Kind, ObjectKey, PlacedSpec, PlacedStatus};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use wire::DeviceId;

/// Workload number and device index.
type Pair = (u32, u32);

/// All placements by their names, `<workload>.<device>`.
#[derive(Debug, Default)]
pub(super) struct Placed {
    pub keys: BTreeMap<ObjectKey, Pair>,
    names: HashMap<Pair, ObjectKey>,
}

impl Placed {
    pub fn insert(&mut self, key: ObjectKey, pair: Pair) {
        self.names.insert(pair, key.clone());
        self.keys.insert(key, pair);
    }

    /// The workload may have lost its own name already.
    pub fn remove(&mut self, pair: Pair) {
        if let Some(key) = self.names.remove(&pair) {
            self.keys.remove(&key);
        }
    }

    pub fn name(&self, pair: Pair) -> Option<&ObjectKey> {
        self.names.get(&pair)
    }
}

pub(super) fn placement_key(workload: &ObjectKey, device: &str) -> ObjectKey {
    ObjectKey {
        kind: Kind::Placement,
        namespace: workload.namespace.clone(),
        name: format!("{}.{device}", workload.name),
    }
}

fn uid(workload: u32, device: DeviceId) -> String {
    format!("placement-{workload:x}-{}", device.text())
}

impl State {
    /// What a new set of a device does to its placements; an empty set takes all away.
    pub fn placements_done(&self, device: DeviceId, body: &[u8]) -> Vec<(ObjectKey, Did)> {
        let Some(index) = self.devices.index_of(device) else { return Vec::new() };
        let Some(known) = self.devices.get(index) else { return Vec::new() };
        let before = known.desired.as_ref().map(|desired| desired.assigned.clone()).unwrap_or_default();
        let after = super::desired::assigned(body);
        let gone = before.keys().filter(|id| !after.contains_key(id)).filter_map(|id| {
            let key = self.placed.name((*id, index))?.clone();
            Some((key, Did::Deleted { uid: uid(*id, device) }))
        });
        let changed = after.iter().filter(|(id, assigned)| before.get(id) != Some(assigned)).filter_map(|(id, _)| {
            let key = placement_key(self.workloads.get(id)?, &known.keys.name);
            Some((key, if before.contains_key(id) { Did::Updated } else { Did::Created }))
        });
        gone.chain(changed).collect()
    }
}

impl Engine {
    pub(super) fn placement_document(&self, now: Now, key: &ObjectKey) -> Option<Value> {
        let (id, index) = *self.state.placed.keys.get(key)?;
        let device = self.state.devices.get(index)?;
        let desired = device.desired.as_ref()?;
        let assigned = desired.assigned.get(&id)?;
        let workload = self.state.workloads.get(&id).and_then(|key| self.state.objects.get(key));
        let body = workload.and_then(|stored| stored.workload());
        let durable = device.durable.as_ref().map(|durable| (durable.revision(), durable.digest()));
        let is_durable = durable.is_some_and(|(revision, _)| revision == desired.revision);
        let components = body.map(|body| self.components(now, device, body)).unwrap_or_default();
        let worst = components.iter().min_by_key(|(health, _)| *health).map(|(_, shown)| shown.clone());
        let (state, reason, detail) = match &worst {
            Some(shown) => (shown.state.clone(), shown.reason.clone(), shown.detail.clone()),
            None => ("Stopping".to_owned(), "NONE".to_owned(), "the workload is gone".to_owned()),
        };
        let status = PlacedStatus {
            state,
            reason,
            detail,
            running: components.iter().map(|(_, shown)| shown.running).min().unwrap_or_default(),
            restarts: components.iter().map(|(_, shown)| shown.restarts).sum(),
            synced: is_durable && durable == device.observed.accepted,
            lease: self.lease_status(now, id).filter(|lease| lease.device == device.keys.name),
            components: components.into_iter().map(|(_, shown)| shown).collect(),
        };
        let name = key.name.strip_suffix(device.keys.name.as_str()).and_then(|name| name.strip_suffix('.'));
        let spec = PlacedSpec {
            workload: name.unwrap_or_default().to_owned(),
            device: device.keys.name.clone(),
            generation: u64::from(assigned.generation),
        };
        let mut metadata = json!({
            "name": key.name, "namespace": key.namespace, "uid": uid(id, device.id()),
            "generation": assigned.generation, "resourceVersion": self.placement_version(key).to_string(),
            "creationTimestamp": "",
        });
        if let Some(stored) = workload.filter(|stored| !stored.body.labels.is_empty()) {
            metadata["labels"] = json!(stored.body.labels);
        }
        Some(json!({
            "apiVersion": API_VERSION, "kind": Kind::Placement.name(), "metadata": metadata, "spec": spec, "status": status,
        }))
    }

    /// The commit that last changed the device's set.
    pub(super) fn placement_version(&self, key: &ObjectKey) -> u64 {
        let device = self.state.placed.keys.get(key).and_then(|(_, index)| self.state.devices.get(*index));
        let desired = device.and_then(|device| device.desired.as_ref());
        desired.map_or(0, |desired| desired.revision.0.counter())
    }

    /// A workload's labels are those of its placements.
    pub(super) fn touch_placements(&mut self, now: Now, workload: &ObjectKey) {
        let stored = self.state.objects.get(workload);
        let Some(id) = stored.and_then(|stored| stored.workload()).map(|body| body.id) else { return };
        let holders = self.state.holders.get(&id).into_iter().flatten();
        let keys: Vec<ObjectKey> = holders.filter_map(|index| self.state.placed.name((id, *index)).cloned()).collect();
        for key in keys {
            self.touch(now, key);
        }
    }
}
