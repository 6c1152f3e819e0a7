//! Who is not heard of: online, suspect, lost.
//!
//! A device is suspect when its connection ended or its heartbeats stopped, and lost when it stayed so for a moment; placement
//! asks for the lost alone. While the hub's own link is down, and shortly after, nobody is called lost: the silence may be the
//! hub's. Nor when a large part of the fleet vanishes at once (see `mass_loss`).

use super::Engine;
use super::device::{Bucket, Device, Presence};
use super::event::Draft;
use super::mass_loss::Guard;
use super::port::{Instant, Now};
use super::session::NOT_APPROVED_RETRY_S;
use crate::model::ObjectKey;
use crate::scheduler::DeviceIndex;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

/// A device that never spoke in a session waits for its approval and sends no heartbeats: it asks again after the time it
/// was told, and at most a minute of jitter.
const WAITING_PATIENCE: Duration = Duration::from_secs(NOT_APPROVED_RETRY_S as u64 * 3 / 2 + 60);
/// A device that is suspect again within this time flaps.
pub(super) const FLAPPING_PAUSE: Duration = Duration::from_secs(600);
/// The broker says that a connection ended only after this: who is back sooner was never away.
pub const WILL_DELAY: Duration = Duration::from_secs(1);
/// Losses in a row that are told one by one.
pub(super) const LOSSES_TOLD: u32 = 3;
/// Pause between two rounds of verdicts: a site that vanishes is looked at once, not a thousand times.
pub const VERDICT_PAUSE: Duration = Duration::from_millis(250);
/// Events about the presence of devices, per second and at once: beyond it a sum is told.
const TOLD_PER_SECOND: u64 = 4;
const TOLD_BURST: u64 = 64;

/// When to look at whom.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// One entry for each online device.
    due: BinaryHeap<Reverse<(Instant, u32)>>,
    /// Since when who is suspect; an entry of another time than the device's is void.
    pub suspects: BTreeSet<(Instant, u32)>,
    /// No verdicts before.
    pub grace_until: Instant,
    /// When this hub's link came up first: what a former hub said was said before.
    pub started: Option<Instant>,
    /// Those who have not spoken since the start were looked at.
    has_looked: bool,
    pub round_at: Instant,
    pub guard: Option<Guard>,
    /// When an operator said that who was missing is lost.
    pub confirmed_at: Option<Instant>,
    told: Bucket,
    untold: u32,
}

#[cfg(test)]
impl Watch {
    pub fn len(&self) -> usize {
        self.due.len()
    }
}

impl Engine {
    pub(super) fn patience(&self) -> Duration {
        // One and a half heartbeats.
        Duration::from_millis(u64::from(self.heartbeat_s()) * 1_500)
    }

    pub(super) fn watch_presence(&mut self, now: Now, index: u32) {
        let due = now.monotonic.after(self.patience());
        if let Some(device) = self.state.devices.get_mut(index)
            && device.observed.watched_at.is_none()
        {
            device.observed.watched_at = Some(due);
            self.watch.due.push(Reverse((due, index)));
        }
    }

    pub(super) fn presence_grace(&mut self, now: Now) {
        self.watch.started.get_or_insert(now.monotonic);
        self.watch.grace_until = now.monotonic.after(self.spread()).after(self.patience());
    }

    /// How long a device has been lost, for who places; `None` also while the guard holds the verdict back.
    pub(super) fn is_lost_for(&self, now: Now, index: u32) -> Option<Duration> {
        let since = self.state.devices.get(index)?.observed.lost_since?;
        let is_held = self.watch.guard.as_ref().is_some_and(|guard| guard.holds(since));
        (!is_held).then(|| now.monotonic.since(since))
    }

    pub(super) fn presence_run(&mut self, now: Now) {
        // Who says nothing hears nothing either: the silence is this hub's own.
        if !self.link.is_up || self.rivals.is_stopped() {
            return;
        }
        self.silence_run(now);
        self.first_look(now);
        self.guard_run(now);
        self.verdicts_run(now);
        if self.watch.untold > 0 && self.watch.told.take(now.monotonic, TOLD_PER_SECOND, TOLD_BURST) {
            let count = std::mem::take(&mut self.watch.untold);
            let text = format!("{count} more devices came or went; they are not told one by one");
            self.tell(now, Draft::hub("ManyChanges", text));
        }
    }

    /// Online devices whose heartbeats stopped.
    fn silence_run(&mut self, now: Now) {
        let patience = self.patience();
        while let Some(Reverse((due, index))) = self.watch.due.peek().copied()
            && due <= now.monotonic
        {
            self.watch.due.pop();
            let Some(device) = self.state.devices.get_mut(index) else { continue };
            // Of a device that had this index before.
            if device.observed.watched_at.take_if(|at| *at == due).is_none() {
                continue;
            }
            if device.observed.presence != Presence::Online {
                continue;
            }
            let patience = if device.observed.current.is_some() { patience } else { WAITING_PATIENCE };
            let quiet_until = device.observed.last_seen.unwrap_or_default().after(patience).max(self.watch.grace_until);
            if quiet_until > now.monotonic {
                device.observed.watched_at = Some(quiet_until);
                self.watch.due.push(Reverse((quiet_until, index)));
            } else {
                self.suspected(now, index, "no heartbeat in time");
            }
        }
    }

    /// Who holds work and has not spoken since the hub started is suspect from the end of the grace on.
    fn first_look(&mut self, now: Now) {
        if self.watch.has_looked || self.watch.started.is_none() || self.watch.grace_until > now.monotonic {
            return;
        }
        self.watch.has_looked = true;
        let silent = |(index, device): (u32, &Device)| {
            let holds = device.desired.as_ref().is_some_and(|desired| !desired.assigned.is_empty());
            (device.observed.presence == Presence::Never && holds).then_some(index)
        };
        let silent: Vec<u32> = self.state.devices.iter().filter_map(silent).collect();
        for index in silent {
            if let Some(device) = self.state.devices.get_mut(index) {
                device.observed.presence = Presence::Suspect;
                device.observed.suspected_at = Some(now.monotonic);
                self.watch.suspects.insert((now.monotonic, index));
            }
        }
    }

    /// Its connection ended a while ago, which counts. What is left is for others that went with it: a fleet vanishes over some
    /// hundreds of milliseconds, and is to be judged as one.
    pub(super) fn hung_up(&mut self, now: Now, index: u32) {
        let passed = WILL_DELAY.min(self.config.lost_after / 2);
        let since = now.monotonic.0.saturating_sub(u64::try_from(passed.as_millis()).unwrap_or(0));
        self.suspected_since(now, Instant(since), index, "its connection ended");
    }

    /// Marks a device as not heard of. Nothing moves yet.
    pub(super) fn suspected(&mut self, now: Now, index: u32, why: &str) {
        self.suspected_since(now, now.monotonic, index, why);
    }

    fn suspected_since(&mut self, now: Now, since: Instant, index: u32, why: &str) {
        let Some(device) = self.state.devices.get_mut(index) else { return };
        if device.observed.presence != Presence::Online {
            return;
        }
        device.observed.presence = Presence::Suspect;
        let before = device.observed.suspected_at.replace(since);
        let is_again = before.is_some_and(|before| now.monotonic.since(before) < FLAPPING_PAUSE);
        device.observed.losses = if is_again { device.observed.losses.saturating_add(1) } else { 1 };
        let (losses, name) = (device.observed.losses, device.keys.name.clone());
        self.watch.suspects.insert((since, index));
        self.door_look(now);
        self.touch_device(now, index);
        let key = ObjectKey::device(&name);
        if losses <= LOSSES_TOLD {
            let text = format!("{why}; what it runs goes on running, nothing is moved yet");
            self.tell_presence(now, Draft::warning("Suspect", &key, text).on(&name));
        } else if losses == LOSSES_TOLD + 1 {
            let minutes = FLAPPING_PAUSE.as_secs() / 60;
            let text = format!(
                "it comes and goes: more is not told until it has stayed for {minutes} minutes, and its work is moved at most once in that \
                 time. Look at its power and its radio"
            );
            self.tell_presence(now, Draft::warning("Flapping", &key, text).on(&name));
        }
    }

    /// Suspects that stayed away are lost, all of a round together.
    fn verdicts_run(&mut self, now: Now) {
        if self.watch.round_at > now.monotonic || self.watch.guard.is_some() {
            return;
        }
        let mut ripe = Vec::new();
        while let Some((since, index)) = self.watch.suspects.first().copied()
            && self.ripe_at(since) <= now.monotonic
        {
            self.watch.suspects.pop_first();
            if self.is_suspect_since(since, index) {
                ripe.push((since, index));
            }
        }
        if ripe.is_empty() {
            return;
        }
        self.watch.round_at = now.monotonic.after(VERDICT_PAUSE);
        if self.guard_trips(now) {
            self.watch.suspects.extend(ripe);
            return;
        }
        for (_, index) in ripe {
            self.verdict(now, index);
        }
    }

    pub(super) fn is_suspect_since(&self, since: Instant, index: u32) -> bool {
        let device = self.state.devices.get(index).map(|device| &device.observed);
        device.is_some_and(|it| it.presence == Presence::Suspect && it.suspected_at == Some(since))
    }

    fn ripe_at(&self, since: Instant) -> Instant {
        since.after(self.config.lost_after).max(self.watch.grace_until)
    }

    /// From now on placement may move what it has, as each workload says.
    pub(super) fn verdict(&mut self, now: Now, index: u32) {
        let Some(device) = self.state.devices.get_mut(index) else { return };
        device.observed.presence = Presence::Lost;
        device.observed.lost_since = Some(now.monotonic);
        let (losses, name) = (device.observed.losses, device.keys.name.clone());
        let text = match device.observed.last_seen {
            Some(at) => format!("not heard of for {} s", now.monotonic.since(at).as_secs()),
            None => "not heard of since this hub started".to_owned(),
        };
        self.state.fleet.lose(DeviceIndex(index), true);
        self.touch_device(now, index);
        self.replacement_mark(now, index);
        if losses <= LOSSES_TOLD {
            let text = format!("{text}: its work is moved where `partition.replace` says so, the rest waits for it");
            self.tell_presence(now, Draft::warning("Lost", &ObjectKey::device(&name), text).on(&name));
        }
    }

    /// Something authentic came: it is online.
    pub(super) fn seen(&mut self, now: Now, index: u32) {
        let Some(device) = self.state.devices.get_mut(index) else { return };
        let away = device.observed.last_seen.replace(now.monotonic).map(|at| now.monotonic.since(at));
        device.observed.last_seen_wall_ms = now.wall_ms;
        if device.observed.presence == Presence::Online {
            return;
        }
        let before = std::mem::replace(&mut device.observed.presence, Presence::Online);
        device.observed.lost_since = None;
        let (name, losses) = (device.keys.name.clone(), device.observed.losses);
        if let Some(since) = device.observed.suspected_at {
            self.watch.suspects.remove(&(since, index));
        }
        self.watch_presence(now, index);
        self.touch_device(now, index);
        let draft = match (before, away) {
            (Presence::Lost, Some(away)) => {
                Draft::normal("Returned", &ObjectKey::device(&name), format!("is back after {} s", away.as_secs()))
            }
            (Presence::Lost | Presence::Never | Presence::Suspect | Presence::Online, _) => {
                Draft::normal("Online", &ObjectKey::device(&name), "is online")
            }
        };
        if losses <= LOSSES_TOLD {
            self.tell_presence(now, draft.on(&name));
        }
        if before == Presence::Lost || before == Presence::Never {
            self.state.fleet.lose(DeviceIndex(index), false);
            self.returned(now, index);
        }
    }

    /// One of many events of their kind.
    fn tell_presence(&mut self, now: Now, draft: Draft) {
        if self.watch.told.take(now.monotonic, TOLD_PER_SECOND, TOLD_BURST) {
            self.tell(now, draft);
        } else {
            self.watch.untold = self.watch.untold.saturating_add(1);
        }
    }

    pub(super) fn presence_timeout(&self) -> Option<Instant> {
        if !self.link.is_up || self.rivals.is_stopped() {
            return None;
        }
        let due = self.watch.due.peek().map(|Reverse((due, _))| *due);
        let first = (!self.watch.has_looked && self.watch.started.is_some()).then_some(self.watch.grace_until);
        let round = match &self.watch.guard {
            Some(guard) => Some(guard.look_at),
            None => self.watch.suspects.first().map(|(since, _)| self.ripe_at(*since).max(self.watch.round_at)),
        };
        let sum = (self.watch.untold > 0).then(|| self.watch.told.free_at(TOLD_PER_SECOND));
        [due, first, round, sum].into_iter().flatten().min()
    }
}
