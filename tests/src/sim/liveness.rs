//! After the faults: everything has to become right within a bound, stay right, and cost nearly nothing at the next reconnect.
//!
//! Whether it is right is read from disk, flash and runtimes; what the hub shows has to agree with that, not the other way round.
use super::device::Join;
use super::fault::Fault;
use super::runtime::{Instance, Phase as RunPhase};
use super::task::Task;
use super::world::{Event, Phase, World};
use agent_nostd::machine::port::{Input, LinkState};
use hub::engine::DeviceChange;
use hub::model::Kind;
use serde_json::Value;
use std::collections::BTreeSet;
use wire::event::Level;
use wire::frame::decode_plain;
use wire::hello::HubState;
use wire::limits::RECONNECT_BYTES_MAX;
use wire::record::Role;
use wire::topic::{Down, Topic};

/// The longest pause that a device may take of itself is an hour (refused too often), and a version that failed too often is
/// tried again after half an hour; then connecting, fetching and starting.
pub const CONVERGES_WITHIN_MS: u64 = 75 * 60_000;
/// A hub whose clock jumped answers no Hello until the new time was steady for a quarter of an hour.
const CLOCK_BELIEVED_MS: u64 = 16 * 60_000;
/// Longer after a restore or a second hub: for the longest lease, nothing exclusive is granted.
const GRANTS_PAUSE_MS: u64 = 65 * 60_000;
/// How long it has to stay right.
const QUIET_MS: u64 = 180_000;
/// All links were cut at once: by then everybody is back.
const RECONNECT_MS: u64 = 120_000;
/// Time between two looks.
const LOOK_MS: u64 = 5_000;
/// Looks in a row that have to find everything right; longer than the answers to the hub's questions take.
const RIGHT_LOOKS: u32 = 5;
/// Looks between two questions to the hub.
const ASK_EVERY: u32 = 3;

#[derive(Debug, Default)]
pub struct Judge {
    since_ms: u64,
    looks: u32,
    right_looks: u32,
    pub converged_after_ms: Option<u64>,
    /// The most bytes of Hello and Fresh of an unchanged device.
    pub reconnect_bytes: usize,
    pub is_done: bool,
    has_asked_status: bool,
    launches: Vec<u64>,
}

impl World<'_> {
    pub fn look(&mut self) {
        match self.phase {
            Phase::Safety => self.begin_liveness(),
            Phase::Liveness => self.look_for_convergence(),
            Phase::Quiet | Phase::Reconnect => self.look_for_changes(),
        }
        if !self.judge.is_done {
            self.after(LOOK_MS, Event::Look);
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.judge.since_ms = self.now;
        self.say(|_| format!("== {phase:?}"));
    }

    fn begin_liveness(&mut self) {
        self.enter(Phase::Liveness);
        self.heal_all();
        self.operator.devices_seen.clear();
        self.operator.workloads_seen.clear();
        for device in 0..self.devices.len() {
            self.operator.wish(Task::Device(device, DeviceChange::Approve));
        }
        if self.has_gap() {
            self.operator.wish(Task::HubTakeover);
            self.operator.wish(Task::HubApply);
            for device in 0..self.devices.len() {
                self.operator.wish(Task::Device(device, DeviceChange::Release));
            }
        }
        // A version that failed too often is not tried again by itself: the operator applies another.
        let mut failed = BTreeSet::new();
        for node in &self.devices {
            for key in node.runtime.failures.keys() {
                let sets = self.hub.durable.sets.get(&node.id).into_iter().chain(node.seen.holds());
                failed.extend(sets.filter_map(|set| set.get(*key)).map(|kept| kept.name.clone()));
            }
            if node.seen.crashes > 0
                && let Some(set) = self.hub.durable.sets.get(&node.id)
            {
                failed.extend(set.records.iter().map(|kept| kept.name.clone()));
            }
        }
        for index in 0..self.operator.plans.len() {
            if failed.contains(&format!("work-{index}")) {
                self.operator.wish(Task::Apply(index));
            }
        }
    }

    /// A hub was restored, or was made to believe in a second one: it may have forgotten what was said in its name.
    fn has_gap(&self) -> bool {
        self.has_restored || self.counts.of(Fault::Equivocation) > 0 || self.counts.of(Fault::SecondHub) > 0
    }

    fn ask_the_hub(&mut self) {
        self.judge.looks += 1;
        if self.judge.looks % ASK_EVERY == 1 && self.operator.is_idle() {
            self.undertake(Task::List(Kind::Device));
            self.undertake(Task::List(Kind::Workload));
            self.undertake(Task::Status);
        }
    }

    fn look_for_convergence(&mut self) {
        self.ask_the_hub();
        let waited = self.now - self.judge.since_ms;
        let within_ms = CONVERGES_WITHIN_MS + if self.has_gap() { GRANTS_PAUSE_MS } else { 0 };
        match self.what_is_wrong() {
            // What follows from the last change may still be on its way.
            None if self.judge.right_looks < RIGHT_LOOKS => self.judge.right_looks += 1,
            None => {
                self.judge.converged_after_ms = Some(waited);
                self.say(|_| format!("everything is right after {} s", waited / 1000));
                self.remember_launches();
                self.enter(Phase::Quiet);
            }
            Some(what) if waited > within_ms => {
                self.fail(|| format!("[I4] after {} min without faults: {what}", waited / 60_000));
            }
            Some(what) => {
                self.judge.right_looks = 0;
                if self.judge.looks % 60 == 1 {
                    self.say(|_| format!("not yet: {what}"));
                }
            }
        }
    }

    fn remember_launches(&mut self) {
        self.judge.launches = self.devices.iter().map(|node| node.runtime.launches).collect();
    }

    fn look_for_changes(&mut self) {
        self.ask_the_hub();
        for device in 0..self.devices.len() {
            let (launches, before) = (self.devices[device].runtime.launches, self.judge.launches[device]);
            if launches != before {
                let phase = self.phase;
                return self.fail(|| format!("[I6] dev-{device} started {} things in {phase:?}", launches - before));
            }
        }
        let waited = self.now - self.judge.since_ms;
        if self.phase == Phase::Quiet {
            if let Some(what) = self.what_is_wrong() {
                return self.fail(|| format!("[I4] was right and is not any more: {what}"));
            }
            if waited >= QUIET_MS {
                self.begin_reconnect();
            }
        } else if waited >= RECONNECT_MS {
            self.end();
        } else if waited >= RECONNECT_MS / 2 && !std::mem::replace(&mut self.judge.has_asked_status, true) {
            // A position that differs by a metre makes every device send its status, with what it lost.
            for device in 0..self.devices.len() {
                self.devices[device].position.uncertainty_m += 1;
                let position = self.devices[device].position;
                self.tell(device, Input::Position(Some(position)));
            }
        }
    }

    fn begin_reconnect(&mut self) {
        self.enter(Phase::Reconnect);
        for device in 0..self.devices.len() {
            self.tell(device, Input::AgentLog { level: Level::Info, text: "the end" });
            self.devices[device].seen.begin_measuring();
            if let Some(number) = self.devices[device].connection {
                self.cut(number);
            }
        }
    }

    /// The last look at everything.
    fn end(&mut self) {
        if let Some(what) = self.what_is_wrong() {
            return self.fail(|| format!("[I4] not right after a reconnect: {what}"));
        }
        for device in 0..self.devices.len() {
            let node = &self.devices[device];
            if node.agent.is_none() {
                continue;
            }
            let seen = &node.seen;
            let (desired_bytes, missing) = (seen.desired_bytes, seen.logs_missing());
            let Some((hellos, bytes)) = seen.first_fresh else {
                return self.fail(|| format!("dev-{device} did not come back"));
            };
            if hellos != 1 || bytes > RECONNECT_BYTES_MAX {
                return self.fail(|| format!("dev-{device} came back with {hellos} Hellos and {bytes} bytes"));
            }
            if desired_bytes > 0 {
                return self.fail(|| format!("dev-{device} is unchanged and was sent a set of {desired_bytes} bytes"));
            }
            if missing > 0 {
                return self.fail(|| format!("[I7] {missing} log lines of dev-{device} are neither there nor counted"));
            }
            if let Some(what) = node.samples.wrong() {
                return self.fail(|| format!("[I7] dev-{device}: {what}"));
            }
            self.judge.reconnect_bytes = self.judge.reconnect_bytes.max(bytes);
        }
        self.judge_durable();
        for index in 0..self.operator.plans.len() {
            self.undertake(Task::Logs(index));
        }
        self.judge.is_done = true;
    }

    /// The first thing that is not as it should be.
    fn what_is_wrong(&self) -> Option<String> {
        if !self.operator.is_idle() {
            return Some("the operator is not done".to_owned());
        }
        if self.hub.jumped_ms.is_some_and(|at| self.now - at < CLOCK_BELIEVED_MS) {
            return Some("the hub does not believe its clock yet".to_owned());
        }
        if self.hub.durable.recovery.as_ref().is_some_and(|row| row.holds_grants) {
            return Some("the hub grants nothing yet".to_owned());
        }
        if self.operator.sees_rival {
            return Some("the hub speaks of a second one".to_owned());
        }
        if !self.hub.is_linked || !self.hub.queue.waiting.is_empty() {
            return Some("the hub is busy".to_owned());
        }
        (0..self.devices.len())
            .find_map(|device| self.device_wrong(device))
            .or_else(|| self.broker_wrong())
            .or_else(|| self.hub_view_wrong())
    }

    fn device_wrong(&self, device: usize) -> Option<String> {
        let node = &self.devices[device];
        if !matches!(node.join, Join::Joined { .. }) {
            return Some(format!("dev-{device} has not joined"));
        }
        let agent = node.agent.as_ref()?;
        if agent.link() != LinkState::Fresh {
            return Some(format!("dev-{device} is {:?}", agent.link()));
        }
        let wanted = self.hub.durable.sets.get(&node.id);
        let held = node.seen.holds();
        if wanted.is_some() && held != wanted {
            let revision = |set: Option<&super::record::Set>| set.map(|set| set.revision);
            return Some(format!("dev-{device} holds {:?}, not {:?}", revision(held), revision(wanted)));
        }
        let records = wanted.map_or(&[][..], |set| &set.records);
        for kept in records {
            let (key, done) = (kept.key(), (kept.key(), kept.version));
            let is_right = match kept.core.role {
                Role::Service => {
                    let mut of_key = node.runtime.of_key(key);
                    let first = of_key.next();
                    // What hangs is stopped yet.
                    let is_well = |i: &Instance| i.phase == RunPhase::Running && !i.hangs;
                    first.is_some_and(|(_, i)| is_well(i) && i.kept.version == kept.version) && of_key.next().is_none()
                }
                Role::Init => node.runtime.completed.contains(&done) && node.runtime.of_key(key).next().is_none(),
                Role::Job => node.runtime.jobs_done.contains(&done) && node.runtime.of_key(key).next().is_none(),
            };
            if !is_right {
                let found: Vec<_> = node.runtime.of_key(key).map(|(_, i)| (i.phase, i.kept.core.generation)).collect();
                let wanted = kept.core.generation;
                return Some(format!("dev-{device} {} {key:?} generation {wanted}: found {found:?}", kept.name));
            }
        }
        let is_extra = |key| records.iter().all(|kept| kept.key() != key);
        let extra = node.runtime.instances.values().map(|i| i.kept.key()).find(|key| is_extra(*key));
        extra.map(|key| format!("dev-{device} runs {key:?}, which is not wanted"))
    }

    /// The broker keeps exactly the sets that are durable, for devices that are away too.
    fn broker_wrong(&self) -> Option<String> {
        for (device, row) in &self.hub.durable.desired {
            let mut buffer = vec![0; row.body.len() + 256];
            let frame = row.signed.encode(&mut buffer, &row.body).ok()?;
            if self.broker.retained(&Topic::Down(*device, Down::Desired)) != Some(&*frame) {
                return Some(format!("the broker does not keep set {} of {device}", row.signed.header.revision));
            }
        }
        let state = self.broker.retained(&Topic::HubState).and_then(|state| decode_plain::<HubState>(state).ok());
        let is_ours = state.is_some_and(|state| state.incarnation == self.hub.durable.incarnation);
        (!is_ours).then(|| format!("the broker keeps another state of the hub: {state:?}"))
    }

    /// What the operator is shown agrees with the world.
    fn hub_view_wrong(&self) -> Option<String> {
        if self.operator.devices_seen.len() != self.devices.len() {
            return Some(format!("the hub shows {} devices", self.operator.devices_seen.len()));
        }
        for item in &self.operator.devices_seen {
            let name = &item["metadata"]["name"];
            if item["status"]["online"]["state"] != "Online" {
                return Some(format!("the hub shows {name} as {}", item["status"]["online"]["state"]));
            }
            let id = item["status"]["id"].as_str().and_then(|text| wire::DeviceId::parse(text).ok());
            let has_set = id.is_some_and(|id| self.hub.durable.sets.contains_key(&id));
            if has_set && item["status"]["revision"]["synced"] != true {
                return Some(format!("the hub shows {name} as not synced: {}", item["status"]["revision"]));
            }
        }
        for item in &self.operator.workloads_seen {
            let name = &item["metadata"]["name"];
            let status = &item["status"];
            let of_name = |kind: &str| {
                let conditions = status["conditions"].as_array()?;
                conditions.iter().find(|condition| condition["type"] == kind).map(|c| c["status"].clone())
            };
            if status["shortfall"] == Value::Null && of_name("Healthy") != Some("True".into()) {
                return Some(format!("the hub shows {name} as {status}"));
            }
            if status["placed"] != status["running"] {
                return Some(format!("the hub shows {name} as {status}"));
            }
        }
        self.placement_wrong()
    }

    /// Each workload is on as many devices as it was shown to be.
    fn placement_wrong(&self) -> Option<String> {
        for item in &self.operator.workloads_seen {
            let name = item["metadata"]["name"].as_str().unwrap_or_default();
            let has = |set: &super::record::Set| set.records.iter().any(|kept| kept.name == name);
            let count = self.hub.durable.sets.values().filter(|set| has(set)).count() as u64;
            if item["status"]["placed"].as_u64() != Some(count) {
                return Some(format!("{name} is on {count} devices, the hub shows {}", item["status"]["placed"]));
            }
        }
        None
    }
}
