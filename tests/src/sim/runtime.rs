//! The runtime of a device as a double: what really runs, as opposed to what the machine believes.
//!
//! It obeys the port's contract and nothing more: it answers late, twice, or not at all when a fault says so.
use super::record::{Kept, Key};
use agent_nostd::machine::port::{LaunchId, Terms};
use std::collections::{BTreeMap, BTreeSet};
use wire::Digest;
use wire::record::Role;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Starting,
    Running,
    Stopping,
}

#[derive(Clone, Debug)]
pub struct Instance {
    pub kept: Kept,
    /// What it was told last.
    pub terms: Terms,
    pub phase: Phase,
    /// Answers no start and no activation.
    pub hangs: bool,
    pub is_activated: bool,
    pub since_ms: u64,
}

/// What comes next for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Started,
    StartFails,
    Completed,
    Trapped,
    Stopped,
    Activated,
}

#[derive(Debug, Default)]
pub struct Runtime {
    pub instances: BTreeMap<LaunchId, Instance>,
    /// Inits and jobs that came to their end in this boot, by version.
    pub completed: BTreeSet<(Key, Digest)>,
    /// Jobs over all boots.
    pub jobs_done: BTreeSet<(Key, Digest)>,
    /// Failures by component, over all boots.
    pub failures: BTreeMap<Key, u32>,
    pub launches: u64,
    pub lines: u64,
}

impl Runtime {
    /// Power is gone.
    pub fn clear(&mut self) {
        self.instances.clear();
        self.completed.clear();
    }

    pub fn of_key(&self, key: Key) -> impl Iterator<Item = (&LaunchId, &Instance)> {
        self.instances.iter().filter(move |(_, instance)| instance.kept.key() == key)
    }

    pub fn complete(&mut self, launch: LaunchId) {
        if let Some(instance) = self.instances.remove(&launch) {
            let done = (instance.kept.key(), instance.kept.version);
            self.completed.insert(done);
            if instance.kept.core.role == Role::Job {
                self.jobs_done.insert(done);
            }
        }
    }

    pub fn count_failure(&mut self, key: Key) {
        *self.failures.entry(key).or_default() += 1;
    }
}
