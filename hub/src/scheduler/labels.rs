//! Labels interned as small numbers, and for each label the devices that carry it.
//!
//! A label that no device carries any more gives its number back, so the table is bounded by the labels in use.

use super::snapshot::DeviceIndex;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// An interned `key=value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LabelId(u32);

impl LabelId {
    /// For keys.
    pub(super) fn number(self) -> u32 {
        self.0
    }
}

#[derive(Debug, Default, Clone)]
pub(super) struct Labels {
    ids: HashMap<(String, String), LabelId>,
    entries: Vec<Entry>,
    free: Vec<LabelId>,
}

#[derive(Debug, Clone)]
struct Entry {
    key: String,
    value: String,
    devices: BTreeSet<DeviceIndex>,
}

impl Labels {
    /// Notes a device's labels and returns their sorted ids.
    pub(super) fn put(&mut self, device: DeviceIndex, labels: &BTreeMap<String, String>) -> Box<[LabelId]> {
        let mut ids: Vec<LabelId> = labels
            .iter()
            .filter_map(|(key, value)| {
                let id = self.intern(key, value)?;
                self.entry_mut(id)?.devices.insert(device);
                Some(id)
            })
            .collect();
        ids.sort_unstable();
        ids.into_boxed_slice()
    }

    pub(super) fn remove(&mut self, device: DeviceIndex, labels: &[LabelId]) {
        for id in labels {
            let Some(entry) = self.entry_mut(*id) else {
                continue;
            };
            entry.devices.remove(&device);
            if entry.devices.is_empty() {
                let name = (std::mem::take(&mut entry.key), std::mem::take(&mut entry.value));
                self.ids.remove(&name);
                self.free.push(*id);
            }
        }
    }

    /// The id of a label that at least one device carries.
    pub(super) fn find(&self, key: &str, value: &str) -> Option<LabelId> {
        self.ids.get(&(key.to_owned(), value.to_owned())).copied()
    }

    pub(super) fn text(&self, id: LabelId) -> Option<(&str, &str)> {
        let entry = self.entries.get(usize::try_from(id.0).ok()?)?;
        Some((&entry.key, &entry.value))
    }

    pub(super) fn devices(&self, id: LabelId) -> Option<&BTreeSet<DeviceIndex>> {
        let entry = self.entries.get(usize::try_from(id.0).ok()?)?;
        Some(&entry.devices)
    }

    fn entry_mut(&mut self, id: LabelId) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(id.0).ok()?)
    }

    fn intern(&mut self, key: &str, value: &str) -> Option<LabelId> {
        if let Some(id) = self.find(key, value) {
            return Some(id);
        }
        let entry = Entry { key: key.to_owned(), value: value.to_owned(), devices: BTreeSet::new() };
        let id = match self.free.pop() {
            Some(id) => {
                *self.entry_mut(id)? = entry;
                id
            }
            None => {
                let id = LabelId(u32::try_from(self.entries.len()).ok()?);
                self.entries.push(entry);
                id
            }
        };
        self.ids.insert((key.to_owned(), value.to_owned()), id);
        Some(id)
    }
}
