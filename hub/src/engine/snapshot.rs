//! The last word of a device, with its age: for one that is away, and for looking at what it really said.
//!
//! Soft state: a hub that started has none until the device speaks. Nothing is derived here.

use super::Engine;
use super::port::{Answer, Now, Problem};
use super::problem;
use super::status::state_name;
use super::stored::timestamp;
use crate::model::{DeviceSnapshot, ObjectKey, SnapshotEntry, SnapshotPosition};

impl Engine {
    pub(super) fn snapshot_of(&self, now: Now, name: &str) -> Result<Answer, Problem> {
        let key = ObjectKey::device(name);
        let index = self.state.devices.index_named(name).ok_or_else(|| problem::not_found(&key))?;
        let device = self.state.devices.get(index).ok_or_else(|| problem::not_found(&key))?;
        let stored = self.state.objects.get(&key).and_then(|stored| stored.device());
        let observed = &device.observed;
        let wall = |at: super::port::Instant| now.wall_ms.saturating_sub(now.monotonic.0.saturating_sub(at.0));
        let reported = observed.reported.as_ref();
        let told = reported.and_then(|reported| reported.told);
        let position = stored.and_then(|body| {
            let position = body.reported.position?;
            let heard = body.reported.position_ms.max(observed.position_heard_ms.unwrap_or_default());
            let age_ms = now.wall_ms.saturating_sub(heard);
            Some(SnapshotPosition { point: position.point, uncertainty_m: position.uncertainty_m, age_ms })
        });
        let entries = reported.iter().flat_map(|reported| &reported.entries).map(|entry| {
            let key = self.state.workloads.get(&entry.workload);
            SnapshotEntry {
                namespace: key.map(|key| key.namespace.clone()).unwrap_or_default(),
                name: key.map_or_else(|| format!("#{}", entry.workload), |key| key.name.clone()),
                component: entry.component,
                state: state_name(entry.state).to_owned(),
                reason: entry.reason.code().to_owned(),
                detail: entry.detail.to_string(),
                generation: u64::from(entry.generation),
                running: u64::from(entry.running),
                restarts: entry.restarts,
            }
        });
        let snapshot = DeviceSnapshot {
            device: name.to_owned(),
            online: self.online(now, device),
            taken_at: reported.map(|reported| timestamp(wall(reported.at))).unwrap_or_default(),
            age_ms: reported.map(|reported| now.monotonic.0.saturating_sub(reported.at.0)),
            accepted: observed.accepted.map(|(revision, _)| revision.to_string()).unwrap_or_default(),
            uptime_s: told.map(|told| u64::from(told.uptime_s)),
            memory_free_bytes: told.map(|told| u64::from(told.memory_free_bytes)),
            storage_free_bytes: told.map(|told| told.storage_free_bytes),
            position,
            entries: entries.collect(),
        };
        Ok(Answer::Report(serde_json::to_value(snapshot).unwrap_or_default()))
    }
}
