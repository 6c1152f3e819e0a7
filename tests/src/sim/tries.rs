//! A version that fails is tried a few times on each device, and then what was good before comes back (I8).
//!
//! Counted by what really ended and what really starts. Windows that the device may count otherwise, because of its own clock or of
//! ends that the world cannot tell from others, are not judged.
use super::fault::Fault;
use super::record::{Kept, Key, Policy, Set};
use super::world::{Event, World};
use agent_nostd::machine::port::JournalKey;
use std::collections::BTreeMap;
use wire::Digest;
use wire::record::Role;

/// Failures that are no further apart are in one window of ten minutes on every clock.
const WINDOW_SURE_MS: u64 = 480_000;
/// And those that are further apart are not.
const WINDOW_PAST_MS: u64 = 750_000;
/// A bad version with nothing to go back to is tried again after half an hour; on the fastest of clocks not before this.
const TRIED_AGAIN_MS: u64 = 1_440_000;
/// By then the last good version was started.
const BACK_WITHIN_MS: u64 = 300_000;
/// Trouble that may delay that.
const DELAYS: [Fault; 6] =
    [Fault::DevicePause, Fault::FlashFull, Fault::FlashRot, Fault::StoreLoss, Fault::FetchFails, Fault::FetchWrong];
const DELAYS_WITHIN_MS: u64 = 3_600_000;

#[derive(Clone, Copy, Debug)]
struct Trial {
    version: Digest,
    since_ms: u64,
    last_ms: u64,
    failures: u32,
    /// The device counts the same window.
    is_exact: bool,
    given_up_ms: Option<u64>,
}

/// Of one device, since it booted or accepted its set.
#[derive(Debug, Default)]
pub struct Trials {
    of: BTreeMap<Key, Trial>,
    /// What each component was started in last, and when.
    started: BTreeMap<Key, (Digest, u64)>,
}

impl Trials {
    pub fn clear(&mut self) {
        self.of.clear();
    }

    /// It ended in a way that the device may count or not.
    pub fn is_unsure(&mut self, now: u64, key: Key) {
        if let Some(trial) = self.of.get_mut(&key) {
            (trial.is_exact, trial.last_ms) = (false, now);
        }
    }

    /// Returns true when this version counts as bad from now on.
    fn fails(&mut self, now: u64, key: Key, version: Digest, tries: u32) -> bool {
        let fresh = Trial { version, since_ms: now, last_ms: now, failures: 0, is_exact: true, given_up_ms: None };
        let trial = self.of.entry(key).or_insert(fresh);
        let is_past = if trial.is_exact { now - trial.since_ms } else { now - trial.last_ms } > WINDOW_PAST_MS;
        if trial.version != version || is_past {
            *trial = fresh;
        } else if now - trial.since_ms > WINDOW_SURE_MS {
            trial.is_exact = false;
        }
        trial.failures += 1;
        trial.last_ms = now;
        let is_bad = trial.is_exact && trial.failures == tries;
        if is_bad {
            trial.given_up_ms = Some(now);
        }
        is_bad
    }
}

impl World<'_> {
    /// A component ended badly, and its device is told so now.
    pub fn trial_fails(&mut self, device: usize, kept: &Kept) {
        let (now, node) = (self.now, &mut self.devices[device]);
        let (key, version) = (kept.key(), kept.version);
        let Some(newest) = node.seen.newest() else { return };
        let is_wanted = newest.get(key).is_some_and(|wanted| wanted.version == version);
        // What has to end without the hub may have ended for that.
        if !is_wanted || kept.policy != Policy::Autonomous {
            return;
        }
        let is_alone = newest.records.iter().filter(|other| other.core.workload == key.0).count() == 1;
        if !node.trials.fails(now, key, version, kept.tries) {
            return;
        }
        let good = node.flash.value(JournalKey::LastGood).and_then(Set::of_journal);
        let good = good.as_ref().and_then(|(_, set)| set.get(key));
        let comes_back = good.is_some_and(|good| {
            good.version != version
                && (good.core.role, good.policy) == (Role::Service, Policy::Autonomous)
                && node.store.contains(&good.core.artifact)
        });
        if comes_back && is_alone {
            let life = node.life;
            self.after(BACK_WITHIN_MS, Event::Back { device, life, key });
        }
    }

    pub fn trial_starts(&mut self, device: usize, kept: &Kept) {
        let (now, node) = (self.now, &mut self.devices[device]);
        node.trials.started.insert(kept.key(), (kept.version, now));
        let trial = node.trials.of.get(&kept.key()).filter(|trial| trial.version == kept.version);
        if let Some(at) = trial.and_then(|trial| trial.given_up_ms)
            && now - at < TRIED_AGAIN_MS
        {
            let (seconds, name, tries) = ((now - at) / 1000, &kept.name, kept.tries);
            self.fail(|| format!("[I8] dev-{device} starts {name} again {seconds} s after it failed {tries} times"));
        }
    }

    /// The version that is wanted is bad: the one before it was started meanwhile.
    pub fn judge_back(&mut self, device: usize, life: u32, key: Key) {
        let node = &self.devices[device];
        let given_up = node.trials.of.get(&key).and_then(|trial| Some((trial.version, trial.given_up_ms?)));
        // It was reset or has another set, or the version is another one.
        let Some((version, at)) = given_up.filter(|_| node.life == life) else { return };
        let is_delayed = DELAYS.into_iter().any(|fault| {
            let is_recent = self.recent[fault as usize].is_some_and(|struck| self.now - struck < DELAYS_WITHIN_MS);
            is_recent || self.active.values().any(|(active, of)| (*active, *of) == (fault, device))
        });
        let is_back = node.trials.started.get(&key).is_some_and(|(other, since)| *other != version && *since >= at);
        if !is_back && !is_delayed {
            self.fail(|| format!("[I8] dev-{device} does not go back from {key:?}, which failed too often"));
        }
    }
}
