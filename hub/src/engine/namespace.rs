//! Namespaces: nothing is in one that is not there, and `default` always is.
//!
//! A new database has none, and an old one holds objects in namespaces that nobody made: those are made good at the start
//! of the engine, as a change like any other.

use super::Engine;
use super::object::Act;
use super::port::{Instant, Now, Problem};
use super::problem;
use super::state::State;
use super::stored::{Body, Spec};
use crate::model::{Kind, NAMESPACE_DEFAULT, NamespaceSpec, ObjectKey};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// After a failed commit.
const RETRY: Duration = Duration::from_secs(5);
const ACTOR: &str = "system:start";

/// What has to be made good.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    /// Count as being there; empty once they are durable.
    owed: BTreeSet<ObjectKey>,
    /// The batch that makes them.
    batch: Option<u64>,
    again_at: Option<Instant>,
}

impl Namespaces {
    /// From what is durable.
    pub fn of(state: &State) -> Self {
        let used = state.objects.keys().filter(|key| key.kind.is_namespaced()).map(|key| key.namespace.as_str());
        let named = used.chain([NAMESPACE_DEFAULT]).map(ObjectKey::namespace);
        let owed = named.filter(|key| !state.objects.contains_key(key)).collect();
        Self { owed, ..Self::default() }
    }

    pub fn timeout(&self) -> Option<Instant> {
        self.again_at
    }

    /// A batch and those after it were taken back.
    pub fn failed(&mut self, sequence: u64, now: Instant) {
        if self.batch.is_some_and(|batch| batch >= sequence) {
            (self.batch, self.again_at) = (None, Some(now.after(RETRY)));
        }
    }
}

impl Engine {
    /// Makes what is owed.
    pub(super) fn namespaces_run(&mut self, now: Now) {
        if self.namespaces.owed.is_empty() {
            return;
        }
        if let Some(batch) = self.namespaces.batch {
            if self.pipeline.durable() >= batch {
                self.namespaces = Namespaces::default();
            }
            return;
        }
        if self.namespaces.again_at.is_some_and(|at| at > now.monotonic) || self.pipeline.is_full() {
            return;
        }
        let act = Act { actor: ACTOR, action: "create" };
        let (mut writes, mut audit) = (Vec::new(), Vec::new());
        // Somebody may have made one meanwhile.
        let missing = self.namespaces.owed.iter().filter(|key| !self.state.objects.contains_key(key));
        for key in missing {
            let (labels, annotations, managed) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
            let body = Body { labels, annotations, spec: Spec::Namespace(NamespaceSpec {}), managed };
            audit.push(self.put_writes(now, &act, key, body, &mut writes));
        }
        if writes.is_empty() {
            self.namespaces = Namespaces::default();
            return;
        }
        (self.namespaces.batch, self.namespaces.again_at) = (Some(self.pipeline.next()), None);
        self.commit(writes, audit, Vec::new());
    }

    /// Whether a namespace is there, or will be before anything that comes now.
    pub(super) fn has_namespace(&self, name: &str) -> bool {
        let key = ObjectKey::namespace(name);
        self.state.objects.contains_key(&key) || self.namespaces.owed.contains(&key)
    }

    /// The namespace that an object is to be in.
    pub(super) fn check_namespace(&self, key: &ObjectKey) -> Result<(), Problem> {
        if key.kind.is_namespaced() && !self.has_namespace(&key.namespace) {
            return Err(problem::namespace_not_found(&key.namespace));
        }
        Ok(())
    }

    /// Why there is no such object: perhaps there is no such namespace.
    pub(super) fn missing(&self, key: &ObjectKey) -> Problem {
        self.check_namespace(key).err().unwrap_or_else(|| problem::not_found(key))
    }

    /// The namespace that a list or a watch is about.
    pub(super) fn check_namespace_of(&self, kind: Kind, namespace: Option<&String>) -> Result<(), Problem> {
        match namespace {
            Some(name) if kind.is_namespaced() && !self.has_namespace(name) => Err(problem::namespace_not_found(name)),
            Some(_) | None => Ok(()),
        }
    }
}
