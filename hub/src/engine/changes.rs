//! Which objects changed, in a bounded ring: what watches are fed from and resume on.
//!
//! The ring names objects and holds no documents: those are made when they are delivered, so that many changes of one
//! object become one. Only what is durable enters it. Changes of status are collected for a moment first.

use super::Engine;
use super::port::{Instant, Now};
use crate::commit::Write;
use crate::model::{Kind, ObjectKey};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

/// Changes that are kept; a position older than the oldest is answered with 410.
pub const CHANGES_MAX: usize = 65_536;
/// Changes of status are collected for so long.
pub const STATUS_PAUSE: Duration = Duration::from_millis(250);
/// Objects whose status must be looked at again later; beyond it the next report of their device has to do.
const LATER_MAX: usize = 65_536;

/// One change. What it was is seen by looking at the object.
#[derive(Debug)]
pub(super) struct Change {
    pub key: ObjectKey,
    /// Of the object when it was deleted.
    pub uid: Option<String>,
}

/// What is known of an object that changed lately.
#[derive(Clone, Copy, Debug)]
struct Lately {
    newest: u64,
    /// The change that made it, if that is in the ring.
    born: u64,
}

/// The ring.
#[derive(Debug, Default)]
pub(super) struct Changes {
    ring: VecDeque<Change>,
    /// Sequence of the newest change.
    head: u64,
    lately: HashMap<ObjectKey, Lately>,
    /// Objects in batches on their way to the database.
    pending: HashMap<ObjectKey, u32>,
    dirty: BTreeSet<ObjectKey>,
    flush_at: Option<Instant>,
    later: BTreeSet<(Instant, ObjectKey)>,
}

/// What a batch did to an object.
#[derive(Clone, Debug)]
pub(super) enum Did {
    Created,
    Updated,
    Deleted { uid: String },
}

impl Changes {
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Everything after this sequence is still there.
    pub fn oldest(&self) -> u64 {
        self.head - self.ring.len() as u64
    }

    pub fn get(&self, sequence: u64) -> Option<&Change> {
        let at = sequence.checked_sub(self.oldest() + 1)?;
        self.ring.get(usize::try_from(at).ok()?)
    }

    /// Whether an object has changed again after this change.
    pub fn is_superseded(&self, key: &ObjectKey, sequence: u64) -> bool {
        self.lately.get(key).is_some_and(|lately| lately.newest > sequence)
    }

    /// The last change of an object; 0 when it is not in the ring.
    pub fn newest(&self, key: &ObjectKey) -> u64 {
        self.lately.get(key).map_or(0, |lately| lately.newest)
    }

    pub fn born(&self, key: &ObjectKey) -> u64 {
        self.lately.get(key).map_or(0, |lately| lately.born)
    }

    pub fn push(&mut self, key: ObjectKey, did: Did) {
        if self.ring.len() == CHANGES_MAX
            && let Some(oldest) = self.ring.pop_front()
        {
            let gone = self.head + 1 - CHANGES_MAX as u64;
            if self.lately.get(&oldest.key).is_some_and(|lately| lately.newest == gone) {
                self.lately.remove(&oldest.key);
            }
        }
        self.head += 1;
        let born = match did {
            Did::Created => self.head,
            Did::Updated | Did::Deleted { .. } => self.born(&key),
        };
        self.lately.insert(key.clone(), Lately { newest: self.head, born });
        let uid = match did {
            Did::Deleted { uid } => Some(uid),
            Did::Created | Did::Updated => None,
        };
        self.dirty.remove(&key);
        self.ring.push_back(Change { key, uid });
    }

    pub fn is_pending(&self, key: &ObjectKey) -> bool {
        self.pending.contains_key(key)
    }

    pub fn begin(&mut self, done: &[(ObjectKey, Did)]) {
        for (key, _) in done {
            *self.pending.entry(key.clone()).or_default() += 1;
        }
    }

    /// The batch is durable, or was taken back.
    pub fn end(&mut self, key: &ObjectKey) {
        if let Some(count) = self.pending.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.pending.remove(key);
            }
        }
    }

    pub fn timeout(&self) -> Option<Instant> {
        self.flush_at.into_iter().chain(self.later.first().map(|(at, _)| *at)).min()
    }
}

impl Engine {
    /// The status of an object may show something else now.
    pub(super) fn touch(&mut self, now: Now, key: ObjectKey) {
        self.changes.dirty.insert(key);
        self.changes.flush_at.get_or_insert(now.monotonic.after(STATUS_PAUSE));
    }

    /// The status of an object shows something else after some time, without a message.
    pub(super) fn touch_later(&mut self, at: Instant, key: ObjectKey) {
        if self.changes.later.len() < LATER_MAX {
            self.changes.later.insert((at, key));
        }
    }

    /// A device, and what it holds.
    pub(super) fn touch_device(&mut self, now: Now, index: u32) {
        let Some(device) = self.state.devices.get(index) else { return };
        self.leaving.insert(index);
        let mut keys = vec![ObjectKey::device(&device.keys.name)];
        for id in device.desired.iter().flat_map(|desired| desired.assigned.keys()) {
            keys.extend(self.state.workloads.get(id).cloned());
            keys.extend(self.state.placed.name((*id, index)).cloned());
        }
        for key in keys {
            self.touch(now, key);
        }
    }

    /// Puts what was collected into the ring.
    pub(super) fn changes_run(&mut self, now: Now) {
        while let Some((at, _)) = self.changes.later.first()
            && *at <= now.monotonic
        {
            if let Some((_, key)) = self.changes.later.pop_first() {
                self.touch(now, key);
            }
        }
        if self.changes.flush_at.is_none_or(|at| at > now.monotonic) {
            return;
        }
        self.changes.flush_at = None;
        for key in std::mem::take(&mut self.changes.dirty) {
            // What is gone has its own change.
            if self.shown(&key).is_some() {
                self.changes.push(key, Did::Updated);
            }
        }
    }

    /// What the writes of a batch do to objects; asked before they are applied.
    pub(super) fn done_by(&self, writes: &[Write]) -> Vec<(ObjectKey, Did)> {
        let object = |kind: &str, namespace: &str, name: &str| {
            let key = ObjectKey { kind: Kind::parse(kind)?, namespace: namespace.to_owned(), name: name.to_owned() };
            let before = self.state.objects.get(&key).map(|stored| stored.uid.clone());
            Some((key, before))
        };
        let mut done = Vec::new();
        for write in writes {
            match write {
                Write::ObjectPut(row) => {
                    let Some((key, before)) = object(&row.kind, &row.namespace, &row.name) else { continue };
                    done.push((key, if before.is_some() { Did::Updated } else { Did::Created }));
                }
                Write::ObjectDelete { kind, namespace, name } => {
                    let Some((key, Some(uid))) = object(kind, namespace, name) else { continue };
                    done.push((key, Did::Deleted { uid }));
                }
                Write::DesiredPut { device, body, .. } => done.extend(self.state.placements_done(*device, body)),
                Write::DesiredDelete { device } => done.extend(self.state.placements_done(*device, &[])),
                Write::DeviceKeysPut(_)
                | Write::DeviceKeysDelete { .. }
                | Write::TokenPut(_)
                | Write::TokenDelete { .. }
                | Write::RejectionPut(_)
                | Write::RejectionDelete { .. }
                | Write::CapabilitiesPut { .. }
                | Write::CapabilitiesDelete { .. }
                | Write::WorkloadIdNext { .. }
                | Write::LeasePut(_)
                | Write::LeaseDelete { .. }
                | Write::IncarnationRaise { .. }
                | Write::RecoveryPut(_)
                | Write::RecoveryDelete
                | Write::HoldPut { .. }
                | Write::HoldDelete { .. } => {}
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::device(name)
    }

    #[test]
    fn the_ring_is_bounded_and_knows_what_it_forgot() {
        let mut changes = Changes::default();
        for n in 0..=CHANGES_MAX {
            changes.push(key(&n.to_string()), Did::Created);
        }
        assert_eq!((changes.ring.len(), changes.lately.len()), (CHANGES_MAX, CHANGES_MAX));
        assert_eq!((changes.oldest(), changes.head()), (1, CHANGES_MAX as u64 + 1));
        assert!(changes.get(1).is_none());
        assert_eq!(changes.get(2).map(|change| change.key.name.as_str()), Some("1"));
        assert_eq!(changes.newest(&key("0")), 0);
    }

    #[test]
    fn an_older_change_is_superseded_by_a_newer_one_of_the_same_object() {
        let mut changes = Changes::default();
        changes.push(key("a"), Did::Created);
        changes.push(key("b"), Did::Created);
        changes.push(key("a"), Did::Updated);
        assert!(changes.is_superseded(&key("a"), 1) && !changes.is_superseded(&key("a"), 3));
        assert!(!changes.is_superseded(&key("b"), 2));
        assert_eq!((changes.born(&key("a")), changes.newest(&key("a"))), (1, 3));
    }
}
