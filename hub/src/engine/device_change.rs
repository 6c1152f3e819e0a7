//! What operators do to devices apart from their documents: approve, cordon, drain, relocate, reject, decommission.
//!
//! A device that is to go is deleted when it says that it holds nothing any more; nothing here believes that of a device
//! that is silent.

use super::Engine;
use super::event::Draft;
use super::object::{Act, Done};
use super::pending::Release;
use super::port::{Answer, DeviceChange, Now, Outcome, Ticket};
use super::problem;
use super::stored::{Spec, Stored};
use crate::commit::{RejectionRow, Write};
use crate::model::{DeviceSpec, Kind, ObjectKey};
use std::sync::Arc;

/// Keys that are refused for good.
pub const REJECTIONS_MAX: usize = 10_000;
const ACTOR: &str = "system:decommission";

/// Action of the audit, reason of the event, and its words.
fn named(change: DeviceChange) -> (&'static str, &'static str, &'static str) {
    match change {
        DeviceChange::Approve => ("approve", "Approved", "approved"),
        DeviceChange::Cordon => ("cordon", "Cordoned", "cordoned"),
        DeviceChange::Uncordon => ("uncordon", "Uncordoned", "uncordoned"),
        DeviceChange::Drain => ("drain", "Drained", "drained"),
        DeviceChange::Undrain => ("undrain", "Undrained", "undrained"),
        DeviceChange::Relocate(Some(_)) => ("relocate", "Relocated", "put elsewhere"),
        DeviceChange::Relocate(None) => ("relocate", "Relocated", "left to its own word of where it is"),
        DeviceChange::Decommission => ("decommission", "Decommissioning", "to be deleted when it holds nothing"),
        DeviceChange::DecommissionNow => ("decommission", "Decommissioned", "deleted with what it held"),
        DeviceChange::Release => ("release", "Released", "let out of quarantine"),
        DeviceChange::Reject => ("reject", "Rejected", "rejected, and its key with it"),
    }
}

impl Engine {
    pub(super) fn device_change(
        &mut self,
        now: Now,
        ticket: Ticket,
        actor: &str,
        name: &str,
        change: DeviceChange,
    ) -> Done {
        let key = ObjectKey::device(name);
        let Some(before) = self.state.objects.get(&key).cloned() else {
            return Some(Err(problem::not_found(&key)));
        };
        let mut body = before.body.clone();
        let Spec::Device(device) = &mut body.spec else { return Some(Err(problem::not_found(&key))) };
        let DeviceSpec { position, cordoned, draining, decommissioning, approved, .. } = &mut device.spec;
        match change {
            DeviceChange::Approve => *approved = true,
            DeviceChange::Cordon => *cordoned = true,
            DeviceChange::Uncordon => *cordoned = false,
            DeviceChange::Drain => *draining = true,
            DeviceChange::Undrain => (*draining, *decommissioning) = (false, false),
            DeviceChange::Relocate(to) => *position = to,
            DeviceChange::Decommission => (*draining, *decommissioning) = (true, true),
            DeviceChange::Reject if *approved => return Some(Err(problem::approved(&key))),
            DeviceChange::Release => {
                if let Some(refused) = self.release(now, name, actor) {
                    return Some(Err(refused));
                }
            }
            DeviceChange::Reject | DeviceChange::DecommissionNow => {
                return self.device_end(now, ticket, actor, &before, change);
            }
        }
        if body == before.body {
            let document = self.document(now, &before);
            let resource_version = before.resource_version;
            let (outcome, warnings) = (Outcome::Unchanged, Vec::new());
            return Some(Ok(Answer::Object { outcome, resource_version, document, warnings }));
        }
        let (action, reason, words) = named(change);
        self.change(now, ticket, &Act { actor, action }, &key, body, Outcome::Updated, Vec::new());
        let draft = Draft::normal(reason, &key, format!("{words} by {actor}"));
        self.pipeline.release_last(Release::Event(draft));
        None
    }

    /// Deletes a device by a word of its own.
    fn device_end(
        &mut self,
        now: Now,
        ticket: Ticket,
        actor: &str,
        before: &Arc<Stored>,
        change: DeviceChange,
    ) -> Done {
        let mut writes = Vec::new();
        let index = self.state.devices.index_named(&before.key.name);
        if change == DeviceChange::Reject
            && let Some(device) = index.and_then(|index| self.state.devices.get(index))
        {
            if self.state.rejections.len() >= REJECTIONS_MAX {
                let text =
                    format!("{REJECTIONS_MAX} keys are rejected, the most there can be; delete the device instead");
                return Some(Err(problem::limit(text)));
            }
            let row = RejectionRow { device: device.id(), name: device.keys.name.clone(), rejected_ms: now.wall_ms };
            writes.push(Write::RejectionPut(row));
        }
        let (action, reason, words) = named(change);
        self.remove(now, &Act { actor, action }, before, writes);
        self.pipeline.release_last(Release::Answer(ticket, Ok(Answer::Deleted)));
        let draft = Draft::normal(reason, &before.key, format!("{words} by {actor}"));
        self.pipeline.release_last(Release::Event(draft));
        None
    }

    /// All devices that are to go are looked at again.
    pub(super) fn leaving_mark_all(&mut self) {
        let goes = |stored: &&Arc<Stored>| stored.device().is_some_and(|body| body.spec.decommissioning);
        let keys = self.keys_after(Kind::Device, None).filter_map(|key| self.state.objects.get(key)).filter(goes);
        let indexes = keys.filter_map(|stored| self.state.devices.index_named(&stored.key.name));
        let indexes: Vec<u32> = indexes.collect();
        self.leaving.extend(indexes);
    }

    /// Deletes the devices that are to go and hold nothing any more.
    pub(super) fn leaving_run(&mut self, now: Now) {
        while !self.pipeline.is_full()
            && let Some(index) = self.leaving.pop_first()
        {
            let Some(device) = self.state.devices.get(index) else { continue };
            let key = ObjectKey::device(&device.keys.name);
            let Some(stored) = self.state.objects.get(&key).cloned() else { continue };
            if !stored.device().is_some_and(|body| body.spec.decommissioning) || !self.is_empty_handed(index) {
                continue;
            }
            self.remove(now, &Act { actor: ACTOR, action: "decommission" }, &stored, Vec::new());
            let draft = Draft::normal("Decommissioned", &key, "it holds nothing any more and was deleted");
            self.pipeline.release_last(Release::Event(draft));
        }
    }

    /// Whether a device has nothing, and has said so if it ever had something.
    fn is_empty_handed(&self, index: u32) -> bool {
        let Some(device) = self.state.devices.get(index) else { return false };
        let is_free = device.desired.as_ref().is_none_or(|desired| desired.assigned.is_empty());
        let newest = device.desired.as_ref().map(|desired| desired.revision);
        let durable = device.durable.as_ref().map(|durable| (durable.revision(), durable.digest()));
        let is_durable = newest == durable.map(|(revision, _)| revision);
        let reports_nothing = device.observed.reported.as_ref().is_none_or(|reported| reported.entries.is_empty());
        let has_said_so = durable.is_none() || durable == device.observed.accepted && reports_nothing;
        is_free && is_durable && has_said_so
    }
}
