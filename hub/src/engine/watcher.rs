//! Those who watch: each has a place in the ring of changes and a credit, and gets documents as they are when it takes them.
//!
//! A watcher has no queue here: one that does not take what it is owed falls behind in the ring, and is cut when it is too
//! far behind. It may resume where it stopped while the ring reaches back so far.

use super::Engine;
use super::port::{Answer, ChangeKind, Effect, Now, Position, Problem, Selection, StreamItem, Ticket};
use super::problem;
use crate::model::{API_VERSION, Kind, ObjectKey};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// Watches at one time.
pub const WATCHERS_MAX: usize = 128;
/// Items on their way to one watcher.
pub const WATCHER_CREDIT_MAX: u32 = 256;
/// A watcher that takes nothing is cut when so many changes have passed it by.
pub const WATCHER_LAG_MAX: u64 = super::changes::CHANGES_MAX as u64 / 2;
/// After so many changes that were none of its business, a watcher is told the position.
pub const BOOKMARK_EVERY: u64 = 1_024;

pub(super) struct Watcher {
    kind: Kind,
    selection: Selection,
    /// Everything up to here was given or is none of its business.
    cursor: u64,
    /// The position that it was told last.
    told: u64,
    /// Where it began.
    from: u64,
    /// Objects that are there at the start are given first; after this one.
    first: Option<First>,
    /// What it has, by hash: sixty-four bits for some thousand names do not meet.
    has: HashSet<u64>,
    /// What it is known not to have; only for one that resumed, of which nothing else is known.
    lacks: Option<HashSet<u64>>,
    credit: u32,
}

struct First {
    after: Option<ObjectKey>,
}

fn hash(key: &ObjectKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

impl Watcher {
    /// `None`: nobody knows.
    fn had(&self, key: u64) -> Option<bool> {
        match (&self.lacks, self.has.contains(&key)) {
            (_, true) => Some(true),
            (None, false) => Some(false),
            (Some(lacks), false) => lacks.contains(&key).then_some(false),
        }
    }

    fn note(&mut self, key: u64, has: bool) {
        if has {
            self.has.insert(key);
        } else {
            self.has.remove(&key);
        }
        if let Some(lacks) = &mut self.lacks {
            if has {
                lacks.remove(&key);
            } else {
                lacks.insert(key);
            }
        }
    }
}

impl Engine {
    pub(super) fn watch(
        &mut self,
        ticket: Ticket,
        kind: Kind,
        selection: Selection,
        from: Option<Position>,
    ) -> Result<Answer, Problem> {
        self.check_selection(kind, &selection)?;
        if self.watchers.len() >= WATCHERS_MAX {
            return Err(problem::busy(&format!("{WATCHERS_MAX} watches are open already, the most at one time")));
        }
        if let Some(from) = from {
            self.check_position(from)?;
            let within = selection.place.as_ref().and_then(|place| place.within.as_ref());
            if within.is_some_and(|name| self.changes.newest(&ObjectKey::region(name)) > from.sequence) {
                return Err(problem::watch_expired("the region of this selection has changed since"));
            }
        }
        let head = self.changes.head();
        let cursor = from.map_or(head, |from| from.sequence);
        let watcher = Watcher {
            kind,
            selection,
            cursor,
            told: cursor,
            from: cursor,
            first: from.is_none().then_some(First { after: None }),
            has: HashSet::new(),
            lacks: from.is_some().then(HashSet::new),
            credit: WATCHER_CREDIT_MAX,
        };
        self.watchers.insert(ticket, watcher);
        Ok(Answer::Watching)
    }

    /// A position that a watch can go on from.
    fn check_position(&self, from: Position) -> Result<(), Problem> {
        let (oldest, head) = (self.changes.oldest(), self.changes.head());
        if from.incarnation != self.incarnation {
            return Err(problem::watch_expired("the hub was started again since"));
        }
        if from.sequence < oldest {
            return Err(problem::watch_expired("more has changed since than the hub remembers"));
        }
        if from.sequence > head {
            return Err(problem::watch_expired("it is not one that this hub gave"));
        }
        Ok(())
    }

    /// The watcher took some items.
    pub(super) fn watcher_took(&mut self, ticket: Ticket, items: u32) {
        if let Some(watcher) = self.watchers.get_mut(&ticket) {
            watcher.credit = watcher.credit.saturating_add(items).min(WATCHER_CREDIT_MAX);
        }
    }

    /// The next item for any watcher.
    pub(super) fn watchers_run(&mut self, now: Now) -> Option<Effect> {
        let head = self.changes.head();
        let is_owed = |watcher: &Watcher| {
            watcher.first.is_some() && watcher.credit > 0
                || watcher.cursor < head && (watcher.credit > 0 || head - watcher.cursor > WATCHER_LAG_MAX)
        };
        let owed: Vec<Ticket> =
            self.watchers.iter().filter(|(_, watcher)| is_owed(watcher)).map(|(ticket, _)| *ticket).collect();
        for ticket in owed {
            let Some(mut watcher) = self.watchers.remove(&ticket) else { continue };
            let item = self.look(now, &mut watcher);
            watcher.credit = watcher.credit.saturating_sub(u32::from(item.is_some()));
            if !matches!(item, Some(StreamItem::Ended(_))) {
                self.watchers.insert(ticket, watcher);
            }
            if let Some(item) = item {
                return Some(Effect::Stream { ticket, item });
            }
        }
        None
    }

    fn look(&self, now: Now, watcher: &mut Watcher) -> Option<StreamItem> {
        let head = self.changes.head();
        if watcher.cursor < self.changes.oldest() || watcher.credit == 0 && head - watcher.cursor > WATCHER_LAG_MAX {
            let why = "the client does not take its events as fast as objects change";
            return Some(StreamItem::Ended(problem::watch_slow(why)));
        }
        if let Some(first) = watcher.first.take() {
            return Some(self.look_first(now, watcher, first));
        }
        while watcher.cursor < head {
            watcher.cursor += 1;
            let item = self.item_at(now, watcher, watcher.cursor);
            if item.is_some() {
                return item;
            }
        }
        None
    }

    /// One object of those that are there at the start, or the note that these were all.
    fn look_first(&self, now: Now, watcher: &mut Watcher, first: First) -> StreamItem {
        // What is not durable comes as a change.
        let settled = self.keys_after(watcher.kind, first.after.as_ref()).filter(|key| !self.changes.is_pending(key));
        let found = settled.filter_map(|key| Some((key, self.selected(now, key, &watcher.selection)?))).next();
        match found {
            Some((key, document)) => {
                watcher.note(hash(key), true);
                watcher.first = Some(First { after: Some(key.clone()) });
                // Without a position: who breaks off here has not seen all and begins again.
                StreamItem::Change { position: None, kind: ChangeKind::Added, document }
            }
            None => self.bookmark(watcher),
        }
    }

    fn bookmark(&self, watcher: &Watcher) -> StreamItem {
        let position = Position { incarnation: self.incarnation, sequence: watcher.cursor };
        let document = json!({
            "apiVersion": API_VERSION, "kind": watcher.kind.name(), "metadata": {"resourceVersion": position.to_string()},
        });
        StreamItem::Change { position: Some(position), kind: ChangeKind::Bookmark, document }
    }

    fn item_at(&self, now: Now, watcher: &mut Watcher, sequence: u64) -> Option<StreamItem> {
        let change = self.changes.get(sequence)?;
        let key = &change.key;
        let place = watcher.selection.place.as_ref();
        if key.kind == Kind::Region && place.is_some_and(|place| place.within.as_ref() == Some(&key.name)) {
            let why = "the region of this selection has changed";
            return Some(StreamItem::Ended(problem::watch_expired(why)));
        }
        let position = Some(Position { incarnation: self.incarnation, sequence });
        if key.kind != watcher.kind || self.changes.is_superseded(key, sequence) || self.changes.is_pending(key) {
            if sequence - watcher.told < BOOKMARK_EVERY {
                return None;
            }
            watcher.told = sequence;
            return Some(self.bookmark(watcher));
        }
        let hash = hash(key);
        let had = watcher.had(hash);
        let document = self.selected(now, key, &watcher.selection);
        watcher.note(hash, document.is_some());
        let (kind, document) = match (had, document) {
            (Some(false), None) => return None,
            // It was made and deleted between two looks.
            (None, None) if self.changes.born(key) > watcher.from => return None,
            (Some(true) | None, None) => (ChangeKind::Deleted, self.farewell(key, change.uid.as_deref())),
            (Some(true), Some(document)) => (ChangeKind::Modified, document),
            (Some(false), Some(document)) => (ChangeKind::Added, document),
            (None, Some(document)) if self.changes.born(key) > watcher.from => (ChangeKind::Added, document),
            (None, Some(document)) => (ChangeKind::Modified, document),
        };
        watcher.told = sequence;
        Some(StreamItem::Change { position, kind, document })
    }

    /// Names what is gone, or what left the selection.
    fn farewell(&self, key: &ObjectKey, uid: Option<&str>) -> Value {
        let mut metadata = json!({"name": key.name});
        if !key.namespace.is_empty() {
            metadata["namespace"] = Value::String(key.namespace.clone());
        }
        let uid = uid.map(str::to_owned).or_else(|| self.state.objects.get(key).map(|stored| stored.uid.clone()));
        if let Some(uid) = uid {
            metadata["uid"] = Value::String(uid);
        }
        json!({"apiVersion": API_VERSION, "kind": key.kind.name(), "metadata": metadata})
    }
}
