//! The operator: makes tokens, applies and deletes workloads, approves devices, reads; and remembers every answer it was given.
//!
//! It chooses what to do and when. The requests are made in `task`, the answers judged in `answer`.
use super::coverage::{Condition, Conditions, Verb};
use super::disk::ObjectId;
use super::random::Random;
use super::record::Set;
use super::task::{ARTIFACTS, Plan, Task, WORKLOADS, id_of, name_of};
use super::world::{Event, Phase, World};
use hub::engine::{DeviceChange, Input, Ticket};
use hub::model::Kind;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use wire::status::State;

/// Streams that are open at the same time, besides the one of events; the oldest makes room.
const STREAMS_MAX: usize = 3;

/// How often of a thousand times the operator acts on seeing a component in this state: more often would leave nothing time to
/// run. `None`: the state lasts long enough.
const fn glances(state: State) -> Option<u64> {
    match state {
        State::BackOff | State::Stopped => Some(200),
        State::Stopping | State::Fetching => Some(60),
        State::Starting => Some(15),
        _ => None,
    }
}

/// What the operator was told last about an object.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// Resource version of the last acknowledged write; `None`: acknowledged as deleted, or never written.
    pub version: Option<u64>,
    /// The hub crashed before it answered a later write: that may have happened or not.
    pub is_uncertain: bool,
}

pub struct Operator {
    pub random: Random,
    pub tasks: VecDeque<Task>,
    pub pending: BTreeMap<u64, Task>,
    pub next_ticket: u64,
    pub known: BTreeMap<ObjectId, Known>,
    pub plans: Vec<Option<Plan>>,
    pub devices: usize,
    pub is_long: bool,
    pub labels: u32,
    /// The stream of events that is open, and the last event on it.
    pub following: Option<(u64, u64)>,
    /// Other streams, by ticket, oldest first.
    pub streams: VecDeque<u64>,
    pub acknowledged: u64,
    pub refused: u64,
    /// The hub's status speaks of a second hub.
    pub sees_rival: bool,
    /// The last lists of devices and workloads, when they were asked for in the present phase.
    pub devices_seen: Vec<Value>,
    pub workloads_seen: Vec<Value>,
}

impl Operator {
    pub fn new(random: Random, devices: usize, is_long: bool) -> Self {
        let artifacts = (0..ARTIFACTS).map(Task::Artifact);
        let tasks = artifacts
            .chain([Task::Region(0), Task::Region(1), Task::Follow])
            .chain((0..devices).map(Task::Token))
            .chain((0..3).map(Task::Apply))
            .collect();
        Self {
            random,
            tasks,
            pending: BTreeMap::new(),
            next_ticket: 1,
            known: BTreeMap::new(),
            plans: vec![None; WORKLOADS],
            devices,
            is_long,
            labels: 0,
            following: None,
            streams: VecDeque::new(),
            acknowledged: 0,
            refused: 0,
            sees_rival: false,
            devices_seen: Vec::new(),
            workloads_seen: Vec::new(),
        }
    }

    pub fn wish(&mut self, task: Task) {
        self.tasks.push_back(task);
    }

    pub fn is_idle(&self) -> bool {
        self.tasks.is_empty() && self.pending.is_empty()
    }

    fn choose(&mut self) -> Task {
        let (workload, device) = (self.random.index(WORKLOADS), self.random.index(self.devices));
        self.choose_about(workload, device)
    }

    fn choose_about(&mut self, workload: usize, device: usize) -> Task {
        let random = &mut self.random;
        match random.below(46) {
            0..=9 => Task::Apply(workload),
            10 | 11 => Task::Delete(workload),
            12 => Task::Device(device, DeviceChange::Cordon),
            13 => Task::Device(device, DeviceChange::Uncordon),
            14 => Task::Device(device, DeviceChange::Approve),
            15 => Task::Device(device, DeviceChange::Drain),
            16 | 17 => Task::Device(device, DeviceChange::Undrain),
            18 => Task::Relocate(device),
            19 => Task::Label(device),
            20 => Task::Bad,
            21 => Task::List(Kind::Device),
            22 => Task::List(Kind::Workload),
            23 => Task::List(Kind::Placement),
            24 => Task::Annotate(workload),
            25 => Task::DryRun(workload),
            26 => Task::Managed(workload),
            27 => Task::Watch,
            28 => Task::Rejections,
            29 => Task::Explain(workload),
            30 | 31 => Task::Plan(workload),
            32 => Task::WhatIf(workload),
            33 => Task::Logs(workload),
            34 => Task::LogsFollow(workload),
            35 => Task::Events,
            36 => Task::EventsWatch,
            37 => Task::Status,
            38 => Task::Measure,
            39 if random.chance(500) => Task::ApiToken(workload),
            39 => Task::ApiTokenDelete(workload),
            41 => Task::HubApply,
            42 => Task::HubHold,
            43 => Task::Queue,
            44 => Task::HubTakeover,
            40 => Task::Artifact(u8::try_from(random.below(u64::from(ARTIFACTS))).unwrap_or(0)),
            _ => Task::Read(workload),
        }
    }
}

impl World<'_> {
    pub fn operator_turn(&mut self) {
        if let Some(task) = self.operator.tasks.pop_front() {
            self.undertake(task);
        } else if self.phase == Phase::Safety {
            let task = self.operator.choose();
            self.undertake(task);
        }
        let has_more = !self.operator.tasks.is_empty() || self.phase != Phase::Safety;
        let pause = if has_more {
            self.operator.random.between(200, 1_500)
        } else if self.options.is_long {
            self.operator.random.between(10_000, 1_800_000)
        } else {
            self.operator.random.between(3_000, 90_000)
        };
        self.after(pause, Event::Operator);
    }

    /// A state that lasts for moments is on its way to the hub: the operator sometimes acts just then, which it would hardly ever
    /// do by chance.
    pub fn glance_at(&mut self, device: usize) {
        if self.phase != Phase::Safety {
            return;
        }
        let Some(set) = self.hub.durable.sets.get(&self.devices[device].id) else { return };
        let states = &self.devices[device].seen.states;
        let brief = states.iter().filter_map(|(workload, state)| {
            let name =
                set.records.iter().find(|kept| kept.core.workload == *workload).map(|kept| kept.name.as_str())?;
            let workload = (0..WORKLOADS).find(|index| name_of(*index) == name)?;
            glances(*state).map(|chance| (workload, chance))
        });
        if let Some((workload, chance)) = brief.max_by_key(|(_, chance)| *chance)
            && self.operator.random.chance(chance)
        {
            self.after(0, Event::Glance { workload, device });
        }
    }

    /// An event of its own: nobody may call the engine while its effects are taken.
    pub fn glance(&mut self, workload: usize, device: usize) {
        if self.phase == Phase::Safety {
            let task = self.operator.choose_about(workload, device);
            // A write that cannot succeed now would be tried again and again until it does.
            if !(task.is_duty() && self.hub.disk_full > 0) {
                self.undertake(task);
            }
        }
    }

    pub fn undertake(&mut self, task: Task) {
        if !self.hub.is_up() {
            if task.is_duty() {
                self.operator.tasks.push_back(task);
            }
            return;
        }
        let (verb, conditions) = (task.verb(), self.conditions(&task));
        self.cover(verb, conditions);
        let request = self.request(&task);
        let ticket = self.operator.next_ticket;
        self.operator.next_ticket += 1;
        self.say(|_| match &task {
            Task::PlanApply(n, _) => format!("operator: PlanApply({n})"),
            task => format!("operator: {task:?}"),
        });
        let is_question = task.is_question() && self.phase == Phase::Safety;
        if task == Task::HubTakeover {
            // What follows from it may be said before its answer.
            self.contest.is_asked = true;
        }
        self.operator.pending.insert(ticket, task);
        let is_impatient = is_question && self.operator.random.chance(150);
        self.hub_tell(Input::Request { ticket: Ticket(ticket), actor: "operator".to_owned(), request });
        if is_impatient && self.operator.pending.remove(&ticket).is_some() {
            self.cover(Verb::Cancel, conditions);
            self.operator.streams.retain(|of| *of != ticket);
            self.hub_tell(Input::Cancel { ticket: Ticket(ticket) });
        }
    }

    fn cover(&mut self, verb: Verb, conditions: Conditions) {
        if self.phase != Phase::Safety {
            return;
        }
        let mut coverage = std::mem::take(&mut self.coverage);
        coverage.count(verb, conditions, self.faults_about());
        self.coverage = coverage;
    }

    /// What the workloads are like that a task is about, in the words of the devices that hold them.
    fn conditions(&self, task: &Task) -> Conditions {
        let mut out = Conditions::default();
        if self.phase != Phase::Safety {
            return out;
        }
        let workloads = match task.workload() {
            Some(workload) => workload..workload + 1,
            None => 0..WORKLOADS,
        };
        for workload in workloads {
            out.join(self.conditions_of(workload, task.device()));
        }
        if out.is_empty() {
            out.add(Condition::Unplaced);
        }
        out
    }

    fn conditions_of(&self, workload: usize, device: Option<usize>) -> Conditions {
        let mut out = Conditions::default();
        let name = name_of(workload);
        let key = hub::model::ObjectKey::workload("default", &name);
        if !self.hub.durable.objects.contains_key(&id_of(&key)) {
            if device.is_none() {
                out.add(Condition::Absent);
            }
            return out;
        }
        let nodes = self.devices.iter().enumerate().filter(|(index, _)| device.is_none_or(|device| device == *index));
        for (_, node) in nodes {
            let id = |set: &Set| set.records.iter().find(|kept| kept.name == name).map(|kept| kept.core.workload);
            let Some(id) = self.hub.durable.sets.get(&node.id).and_then(id) else { continue };
            let states = node.seen.states.iter().filter(|(of, _)| *of == id);
            let before = out;
            states.for_each(|(_, state)| out.add(Condition::of(*state)));
            if out == before && node.seen.states.iter().all(|(of, _)| *of != id) {
                out.add(Condition::Unreported);
            }
        }
        if out.is_empty() && device.is_none() {
            out.add(Condition::Unplaced);
        }
        out
    }

    /// A stream is open; if there are too many, the oldest is given up, and may speak until then.
    pub fn stream_opened(&mut self, ticket: u64) {
        self.operator.streams.push_back(ticket);
        let over = self.operator.streams.len().checked_sub(STREAMS_MAX + 1);
        if let Some(oldest) = over.and_then(|at| self.operator.streams.get(at).copied()) {
            let life = self.hub.life;
            self.after(0, Event::GiveUp { life, ticket: oldest });
        }
    }

    /// An event of its own: nobody may call the engine while its effects are taken.
    pub fn give_up(&mut self, life: u32, ticket: u64) {
        if self.hub.life == life {
            let mut conditions = Conditions::default();
            (0..WORKLOADS).for_each(|workload| conditions.join(self.conditions_of(workload, None)));
            self.cover(Verb::Cancel, conditions);
            self.operator.streams.retain(|of| *of != ticket);
            self.hub_tell(Input::Cancel { ticket: Ticket(ticket) });
        }
    }

    pub fn took(&mut self, life: u32, ticket: u64) {
        if self.hub.life == life {
            self.hub_tell(Input::Took { ticket: Ticket(ticket), items: 1 });
        }
    }
}
