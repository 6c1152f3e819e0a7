//! What devices report: statuses in their order, heartbeats, wills. Observed, never stored, but for where a device is.
//!
//! Controllers are signalled here and told nothing.

use super::Engine;
use super::device::{Beside, Entry, Reported, Talk};
use super::event::Draft;
use super::object::Act;
use super::port::Now;
use super::stored::Spec;
use crate::geo::{Distance, Point};
use crate::model::{DevicePosition, ObjectKey};
use std::time::Duration;
use wire::event::Log;
use wire::frame::{live_body_unchecked, open_live};
use wire::hello::{Asks, Heartbeat, Will};
use wire::status::{Reason, State, Status};
use wire::{Kind, LiveContext};

/// A reported position is stored when it moved by more than this, or by more than its own uncertainty.
const MOVED_M: u32 = 50;
/// Pause between two stored positions of one device.
const POSITION_PAUSE: Duration = Duration::from_secs(60);

impl Engine {
    pub(super) fn on_status(&mut self, now: Now, index: u32, talk: Talk, body: &[u8]) {
        let Ok(status) = Status::decode(body) else {
            self.messages_refused += 1;
            return;
        };
        let Some(device) = self.state.devices.get_mut(index) else { return };
        if device.observed.sequence.is_some_and(|last| status.fixed.sequence <= last) {
            self.messages_refused += 1;
            return;
        }
        device.observed.sequence = Some(status.fixed.sequence);
        device.observed.lost = status.fixed.lost;
        device.observed.accepted = Some((status.fixed.revision, status.fixed.digest));
        device.observed.status_asked = None;
        let before = device.observed.reported.as_ref();
        let entries: Vec<Entry> = status.entries().map(|entry| observed(now, &entry, before)).collect();
        let reported = Reported {
            content: status.content_digest(),
            at: now.monotonic,
            boot: talk.boot,
            told: Some(Beside {
                uptime_s: status.fixed.uptime_s,
                memory_free_bytes: status.fixed.memory_free_bytes,
                storage_free_bytes: status.fixed.storage_free_bytes,
                refused: status.fixed.refused,
            }),
            entries,
        };
        let before = device.observed.reported.replace(reported);
        self.hear_losses(index, talk.boot, &status.fixed.lost);
        self.tell_transitions(now, index, before.as_ref());
        self.touch_device(now, index);
        self.touch_when_settled(now, index);
        self.reported_claim(now, index, (status.fixed.revision, status.fixed.digest));
        if let Some(position) = status.fixed.position {
            self.on_position(now, index, position);
        }
    }

    /// An event for each component whose state changed.
    pub(super) fn tell_transitions(&mut self, now: Now, index: u32, before: Option<&Reported>) {
        let Some(device) = self.state.devices.get(index) else { return };
        let name = device.keys.name.clone();
        let accepted = device.observed.accepted;
        let Some(after) = device.observed.reported.clone() else { return };
        for entry in &after.entries {
            let was = before.and_then(|before| {
                before.entries.iter().find(|old| (old.workload, old.component) == (entry.workload, entry.component))
            });
            let is_same = was.is_some_and(|was| {
                (was.state, was.reason, was.running, was.generation)
                    == (entry.state, entry.reason, entry.running, entry.generation)
            });
            let Some(key) = self.state.workloads.get(&entry.workload).cloned() else { continue };
            if let Some(draft) = transition(&key, entry).filter(|_| !is_same) {
                self.tell(now, draft.on(&name));
            }
        }
        // A device that was recognised had counted none, and a new boot counts anew.
        let counted = |reported: &Reported| reported.told.map_or(0, |told| told.refused.equivocation);
        let known = before.map(|before| if before.boot == after.boot { counted(before) } else { 0 });
        if counted(&after) > known.unwrap_or_default() {
            let text = "saw two different sets with one revision and kept the first";
            self.tell(now, Draft::warning("Equivocation", &ObjectKey::device(&name), text).on(&name));
            // What it counted before this hub heard of it may be settled long since.
            if known.is_some() {
                self.equivocated(now, accepted);
            }
        }
    }

    pub(super) fn on_heartbeat(&mut self, now: Now, index: u32, _talk: Talk, body: &[u8]) {
        let Ok(heartbeat) = wire::codec::decode::<Heartbeat>(body) else {
            self.messages_refused += 1;
            return;
        };
        let Some(device) = self.state.devices.get_mut(index) else { return };
        if device.observed.sequence.is_some_and(|last| heartbeat.sequence <= last) {
            self.messages_refused += 1;
            return;
        }
        device.observed.sequence = Some(heartbeat.sequence);
        if device.observed.reported.as_ref().is_none_or(|reported| reported.content != heartbeat.status) {
            return self.ask(now, index, Asks::STATUS);
        }
        if device.observed.position_heard_ms.is_some() {
            // Nothing has changed since the status, so it is where that said.
            self.state.position_heard(index, Some(now.wall_ms));
        }
        self.ask_for_the_rest(now, index);
    }

    pub(super) fn on_will(&mut self, now: Now, index: u32, payload: &[u8]) {
        let Some(device) = self.state.devices.get(index) else { return };
        let Some(pair) = device.pair.clone() else { return };
        let unchecked = live_body_unchecked(payload, Kind::Will).and_then(wire::codec::decode::<Will>);
        let authentic = unchecked.and_then(|will| {
            let context = LiveContext::outside(&self.state.fleet_name, device.id(), will.boot);
            open_live(payload, Kind::Will, &pair, &context).map(|_| will)
        });
        let Ok(will) = authentic else {
            self.messages_refused += 1;
            return;
        };
        // A reset fires the will of the boot before; it says nothing about this one.
        let talk = device.observed.offered.or(device.observed.current);
        if talk.is_none_or(|talk| talk.boot != will.boot) {
            return;
        }
        self.hung_up(now, index);
    }

    pub(super) fn on_log_frame(&mut self, now: Now, index: u32, talk: Talk, body: &[u8]) {
        match Log::decode(body) {
            Ok(log) => self.on_log(now, index, talk.boot, &log),
            Err(_) => self.messages_refused += 1,
        }
    }

    /// Keeps where a device is, so that a restarted hub places nothing anew before it hears of it.
    fn on_position(&mut self, now: Now, index: u32, position: wire::position::Position) {
        let Ok(point) = Point::from_e7(position.longitude_e7, position.latitude_e7) else { return };
        let reported = DevicePosition { point, uncertainty_m: position.uncertainty_m };
        let Some(device) = self.state.devices.get_mut(index) else { return };
        let key = ObjectKey::device(&device.keys.name);
        let Some(stored) = self.state.objects.get(&key).cloned() else { return };
        let mut body = stored.body.clone();
        let Spec::Device(spec) = &mut body.spec else { return };
        let is_moved = spec.reported.position.is_none_or(|old| {
            let slack = Distance::from_metres(MOVED_M.max(old.uncertainty_m));
            Distance::between(old.point, point) > slack || old.uncertainty_m.abs_diff(reported.uncertainty_m) > MOVED_M
        });
        let is_paused = device.observed.position_stored.is_some_and(|at| now.monotonic.since(at) < POSITION_PAUSE);
        if !is_moved {
            return self.state.position_heard(index, Some(now.wall_ms));
        }
        if is_paused || self.pipeline.is_full() {
            return self.state.position_heard(index, None);
        }
        device.observed.position_stored = Some(now.monotonic);
        device.observed.position_heard_ms = Some(now.wall_ms);
        spec.reported.position = Some(reported);
        spec.reported.position_ms = now.wall_ms;
        let mut writes = Vec::new();
        let actor = format!("device:{}", stored.key.name);
        let audit = self.put_writes(now, &Act { actor: &actor, action: "position" }, &key, body, &mut writes);
        self.commit(writes, vec![audit], Vec::new());
        self.placement.mark_all(self.state.workloads.keys());
    }
}

/// What is kept of an entry. Agents put the code of a failure before its words; it is kept apart from them here.
fn observed(now: Now, entry: &wire::status::Entry<'_>, before: Option<&Reported>) -> Entry {
    let detail = entry.detail.strip_prefix(entry.reason.code()).and_then(|rest| rest.strip_prefix(": "));
    let mut out = Entry {
        workload: entry.workload.0,
        component: entry.component,
        generation: entry.generation,
        running: entry.running,
        state: entry.state,
        reason: entry.reason,
        attempts: entry.attempts,
        restarts: entry.restarts,
        detail: detail.unwrap_or(entry.detail).into(),
        since: now.monotonic,
    };
    let run = |entry: &Entry| (entry.workload, entry.component, entry.state, entry.running, entry.restarts);
    let mut known = before.into_iter().flat_map(|before| &before.entries);
    if let Some(same) = known.find(|old| run(old) == run(&out)) {
        out.since = same.since;
    }
    out
}

/// The event of a component that entered a state; `None` for what is only on its way.
fn transition(key: &ObjectKey, entry: &Entry) -> Option<Draft> {
    let why = match (entry.reason, entry.detail.is_empty()) {
        (Reason::NONE, true) => String::new(),
        (Reason::NONE, false) => format!(": {}", entry.detail),
        (reason, true) => format!(": {}", reason.code()),
        (reason, false) => format!(": {}: {}", reason.code(), entry.detail),
    };
    if entry.reason == Reason::ROLLED_BACK {
        let text = format!("generation {} was given up, {} runs{why}", entry.generation, entry.running);
        return Some(Draft::warning("RolledBack", key, text));
    }
    let generation = entry.generation;
    match entry.state {
        State::Running => Some(Draft::normal("Started", key, format!("generation {} runs{why}", entry.running))),
        State::Completed => Some(Draft::normal("Completed", key, format!("generation {generation} is complete{why}"))),
        State::BackOff => Some(Draft::warning("BackOff", key, format!("restarted {} times{why}", entry.restarts))),
        State::Failed => Some(Draft::warning("Failed", key, format!("generation {generation} failed{why}"))),
        State::Refused => Some(Draft::warning("Refused", key, format!("generation {generation} was refused{why}"))),
        State::Waiting | State::Fetching | State::Starting | State::Stopping | State::Stopped => None,
    }
}
