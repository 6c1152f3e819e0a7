//! What waits for devices that are away: how their newest set differs from what they said to hold, and taking it back.
//!
//! There is no list of actions anywhere: the difference is looked at when somebody asks. Only what a device has not heard of
//! can be taken back, and only as a statement about what it is to hold: an addition is withheld from this one device until the
//! workload changes. An update cannot be taken back here, because the older version is gone from the hub; nor a removal.

use super::Engine;
use super::device::{Device, Presence};
use super::event::Draft;
use super::object::{Act, Done};
use super::pending::Release;
use super::port::{Answer, Now, Outcome, Problem, QueueVerb, Ticket};
use super::problem;
use super::state::State;
use super::stored::{Spec, Stored, timestamp};
use crate::model::{ObjectKey, Queue, QueueAction, QueuedAction, WITHHELD_MAX, Withheld};
use crate::scheduler::DeviceIndex;
use std::collections::BTreeMap;

/// Entries of one answer.
pub const QUEUE_SHOWN_MAX: usize = 1_000;

/// `<device>:<namespace>/<workload>`; a device alone for what is not told apart.
fn id_of(device: &str, workload: Option<&ObjectKey>) -> String {
    match workload {
        Some(key) => format!("{device}:{}/{}", key.namespace, key.name),
        None => device.to_owned(),
    }
}

/// Generation by workload that a device said to hold.
fn held(device: &Device) -> Option<BTreeMap<u32, u32>> {
    let reported = device.observed.reported.as_ref()?;
    let mut held = BTreeMap::new();
    for entry in &reported.entries {
        let newest = held.entry(entry.workload).or_insert(entry.generation);
        *newest = entry.generation.max(*newest);
    }
    Some(held)
}

/// From which generation to which.
type Step = (Option<u32>, Option<u32>);

/// What a device does not hold as its newest set says, by workload: from and to which generation. `None`: not known.
fn difference(device: &Device) -> Option<BTreeMap<u32, Step>> {
    let held = held(device)?;
    let wanted = device.desired.iter().flat_map(|desired| desired.assigned.iter());
    let wanted: BTreeMap<u32, u32> = wanted.map(|(id, assigned)| (*id, assigned.generation)).collect();
    let both = held.keys().chain(wanted.keys()).map(|id| (*id, (held.get(id).copied(), wanted.get(id).copied())));
    Some(both.filter(|(_, (from, to))| from != to).collect())
}

fn is_away(device: &Device) -> bool {
    device.observed.presence != Presence::Online
}

fn is_behind(device: &Device) -> bool {
    let durable = device.durable.as_ref().map(|durable| (durable.revision(), durable.digest()));
    durable.is_some() && durable != device.observed.accepted
}

impl State {
    /// A set became durable: notes since when what of it waits for a device that is away.
    pub fn waits_note(&mut self, index: u32, wall_ms: u64) {
        let Some(device) = self.devices.get_mut(index) else { return };
        if !is_away(device) {
            device.observed.waits.clear();
            return;
        }
        let Some(difference) = difference(device) else { return };
        device.observed.waits.retain(|id, _| difference.contains_key(id));
        for id in difference.into_keys() {
            device.observed.waits.entry(id).or_insert(wall_ms);
        }
    }
}

impl Engine {
    pub(super) fn queue(&self, now: Now, device: Option<&str>) -> Result<Answer, Problem> {
        let indexes: Vec<u32> = match device {
            Some(name) => {
                let key = ObjectKey::device(name);
                vec![self.state.devices.index_named(name).ok_or_else(|| problem::not_found(&key))?]
            }
            None => self.state.devices.iter().map(|(index, _)| index).collect(),
        };
        let mut items = Vec::new();
        let mut omitted = 0;
        for device in indexes.into_iter().filter_map(|index| self.state.devices.get(index)) {
            for action in self.waiting_for(now, device) {
                if items.len() < QUEUE_SHOWN_MAX {
                    items.push(action);
                } else {
                    omitted += 1;
                }
            }
        }
        let queue = Queue { items, omitted };
        Ok(Answer::Report(serde_json::to_value(queue).unwrap_or_default()))
    }

    /// What waits for one device.
    fn waiting_for(&self, now: Now, device: &Device) -> Vec<QueuedAction> {
        let name = &device.keys.name;
        if !is_away(device) || !is_behind(device) {
            return Vec::new();
        }
        let Some(difference) = difference(device) else {
            let count = device.desired.as_ref().map_or(0, |desired| desired.assigned.len());
            if count == 0 {
                return Vec::new();
            }
            return vec![QueuedAction {
                id: id_of(name, None),
                device: name.clone(),
                action: QueueAction::Set,
                namespace: String::new(),
                workload: String::new(),
                from: None,
                to: None,
                since: String::new(),
                age_ms: None,
                can_cancel: false,
                detail: format!("{count} workloads; what of them it holds already is not known since this hub started"),
            }];
        };
        let shown = |(id, (from, to)): (u32, Step)| {
            let key = self.state.workloads.get(&id);
            let (action, detail) = match (from, to) {
                (None, _) => (QueueAction::Add, ""),
                (Some(_), Some(_)) => {
                    (QueueAction::Update, "the workload's own change; apply the earlier manifest to undo it")
                }
                (Some(_), None) if key.is_none() => (QueueAction::Remove, "the workload was deleted"),
                (Some(_), None) => (QueueAction::Remove, "placed elsewhere, or no longer wanted here"),
            };
            let since = device.observed.waits.get(&id).copied();
            QueuedAction {
                id: match key {
                    Some(key) => id_of(name, Some(key)),
                    None => format!("{name}:#{id}"),
                },
                device: name.clone(),
                action,
                namespace: key.map(|key| key.namespace.clone()).unwrap_or_default(),
                workload: key.map_or_else(|| format!("#{id}"), |key| key.name.clone()),
                from: from.map(u64::from),
                to: to.map(u64::from),
                since: since.map(timestamp).unwrap_or_default(),
                age_ms: since.map(|since| now.wall_ms.saturating_sub(since)),
                can_cancel: action == QueueAction::Add && key.is_some(),
                detail: detail.to_owned(),
            }
        };
        difference.into_iter().map(shown).collect()
    }

    /// Takes back what waits for a device that is away, or gives that up again.
    pub(super) fn queue_change(&mut self, now: Now, ticket: Ticket, actor: &str, id: &str, verb: QueueVerb) -> Done {
        match self.queue_body(now, id, verb) {
            Ok((key, workload, body)) => {
                let (action, reason, words) = match verb {
                    QueueVerb::Cancel => {
                        ("queue-cancel", "Withheld", "withheld from it until the workload changes, by")
                    }
                    QueueVerb::Restore => ("queue-restore", "WithheldNoMore", "no longer withheld from it, by"),
                };
                self.change(now, ticket, &Act { actor, action }, &key, body, Outcome::Updated, Vec::new());
                let text = format!("{} is {words} {actor}", workload.name);
                let draft = Draft::normal(reason, &workload, text).on(&key.name);
                self.pipeline.release_last(Release::Event(draft));
                None
            }
            Err(problem) => Some(Err(problem)),
        }
    }

    /// The device's object as it will be.
    fn queue_body(
        &self,
        now: Now,
        id: &str,
        verb: QueueVerb,
    ) -> Result<(ObjectKey, ObjectKey, super::stored::Body), Problem> {
        let missing = || problem::not_queued(id);
        let (device, workload) = id.split_once(':').ok_or_else(missing)?;
        let (namespace, name) = workload.split_once('/').ok_or_else(missing)?;
        let workload = ObjectKey::workload(namespace, name);
        let key = ObjectKey::device(device);
        let stored = self.state.objects.get(&key).ok_or_else(missing)?;
        let mut body = stored.body.clone();
        let Spec::Device(spec) = &mut body.spec else { return Err(missing()) };
        let withheld = &mut spec.spec.withheld;
        let is_of = |entry: &Withheld| entry.namespace == namespace && entry.workload == name;
        match verb {
            QueueVerb::Cancel => {
                let index = self.state.devices.index_named(device).ok_or_else(missing)?;
                let known = self.state.devices.get(index).ok_or_else(missing)?;
                let waiting = self.waiting_for(now, known);
                let action = waiting.into_iter().find(|action| action.id == id).ok_or_else(missing)?;
                if !action.can_cancel {
                    return Err(problem::not_cancellable(id, &action.detail));
                }
                let of = self.state.objects.get(&workload).ok_or_else(missing)?;
                // What is out of date holds nothing back any more.
                withheld.retain(|entry| !is_of(entry) && self.is_withheld_now(entry));
                if withheld.len() >= WITHHELD_MAX {
                    let text = format!("{WITHHELD_MAX} workloads are withheld from this device, the most there can be");
                    return Err(problem::limit(text));
                }
                withheld.push(Withheld {
                    namespace: namespace.to_owned(),
                    workload: name.to_owned(),
                    generation: of.generation,
                });
            }
            QueueVerb::Restore => {
                if !withheld.iter().any(is_of) {
                    return Err(missing());
                }
                withheld.retain(|entry| !is_of(entry));
            }
        }
        Ok((key, workload, body))
    }

    pub(super) fn is_withheld_now(&self, entry: &Withheld) -> bool {
        let workload = self.state.objects.get(&ObjectKey::workload(&entry.namespace, &entry.workload));
        workload.is_some_and(|stored| stored.generation == entry.generation)
    }

    /// Devices that a workload's present version is withheld from, sorted.
    pub(super) fn withheld(&self, workload: &ObjectKey, generation: u64) -> Vec<DeviceIndex> {
        let devices = self.state.withheld.get(workload).into_iter().flatten();
        let present = devices.filter(|(_, of)| **of == generation);
        let mut indexes: Vec<DeviceIndex> =
            present.filter_map(|(name, _)| self.state.devices.index_named(name)).map(DeviceIndex).collect();
        indexes.sort_unstable();
        indexes
    }
}

impl State {
    /// Keeps the index of what is withheld.
    pub(super) fn withheld_set(&mut self, name: &str, before: Option<&Stored>, after: Option<&Stored>) {
        let of = |stored: Option<&Stored>| {
            stored.and_then(Stored::device).map(|body| body.spec.withheld.clone()).unwrap_or_default()
        };
        for entry in of(before) {
            let key = ObjectKey::workload(&entry.namespace, &entry.workload);
            if let Some(devices) = self.withheld.get_mut(&key) {
                devices.remove(name);
                if devices.is_empty() {
                    self.withheld.remove(&key);
                }
            }
        }
        for entry in of(after) {
            let key = ObjectKey::workload(&entry.namespace, &entry.workload);
            self.withheld.entry(key).or_default().insert(name.to_owned(), entry.generation);
        }
    }
}
