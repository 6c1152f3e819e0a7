//! The operator: makes tokens, applies and deletes workloads, approves devices, reads; and remembers every answer it was given.
//!
//! It is the oracle for durability: what was answered with success must be on disk at that moment and after every crash.
use super::device::Join;
use super::disk::ObjectId;
use super::fault::Allowed;
use super::network::hexadecimal;
use super::random::Random;
use super::world::{Event, FLEET, Phase, World};
use hub::engine::{
    Answer, DeviceChange, Follow, Input, Mode, Outcome, Problem, Request, Selection, StreamItem, Ticket,
};
use hub::model::{Kind, ObjectKey};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use wire::Digest;
use wire::join::{JoinToken, TOKEN_TEXT_BYTES_MAX};

const ARTIFACTS: u8 = 6;
const WORKLOADS: usize = 5;
const NAMESPACE: &str = "default";

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    Artifact(u8),
    Token(usize),
    Region(usize),
    Apply(usize),
    Delete(usize),
    Device(usize, DeviceChange),
    Label(usize),
    Bad,
    Read(usize),
    List(Kind),
    Logs(usize),
    /// Events as they come.
    Follow,
}

/// What a workload is like now, in the operator's files.
#[derive(Clone, Debug)]
pub struct Plan {
    pub version: u32,
    artifact: u8,
    shape: u64,
    replicas: u64,
    is_composed: bool,
}

/// What the operator was told last about an object.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Resource version of the last acknowledged write; `None`: acknowledged as deleted, or never written.
    version: Option<u64>,
    /// The hub crashed before it answered a later write: that may have happened or not.
    is_uncertain: bool,
}

pub struct Operator {
    random: Random,
    tasks: VecDeque<Task>,
    pending: BTreeMap<u64, Task>,
    next_ticket: u64,
    known: BTreeMap<ObjectId, Known>,
    pub plans: Vec<Option<Plan>>,
    devices: usize,
    labels: u32,
    /// The stream of events that is open, and the last event on it.
    following: Option<(u64, u64)>,
    pub acknowledged: u64,
    pub refused: u64,
    /// The last lists of devices and workloads, when they were asked for in the present phase.
    pub devices_seen: Vec<Value>,
    pub workloads_seen: Vec<Value>,
}

impl Operator {
    pub fn new(random: Random, devices: usize) -> Self {
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
            labels: 0,
            following: None,
            acknowledged: 0,
            refused: 0,
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

    fn change_plan(&mut self, index: usize) {
        let random = &mut self.random;
        match &mut self.plans[index] {
            Some(plan) => {
                plan.version += 1;
                match random.below(4) {
                    0 => plan.artifact = (plan.artifact + 1) % ARTIFACTS,
                    1 => plan.replicas = random.between(1, 4),
                    _ => {}
                }
            }
            plan => {
                *plan = Some(Plan {
                    version: 1,
                    artifact: u8::try_from(random.below(u64::from(ARTIFACTS))).unwrap_or(0),
                    shape: random.below(5),
                    replicas: random.between(1, 4),
                    is_composed: random.chance(350),
                });
            }
        }
    }

    fn document(&self, index: usize) -> Value {
        let Some(plan) = &self.plans[index] else { return Value::Null };
        let reference = |n: u8| format!("art-{n}@sha256:{}", digest_of(n));
        let period = format!("{}s", 20 + 10 * index);
        let function = |every: bool| {
            let triggers = if every { json!({"every": period, "topics": ["news/#"]}) } else { json!({}) };
            json!({
                "triggers": triggers,
                "config": format!("version {}", plan.version),
                "limits": {"memory": "64KiB"},
                "capabilities": ["log", "emit"],
            })
        };
        let placement = match plan.shape {
            0 => json!({"labels": {"tier": "edge"}}),
            1 => json!({"labels": {"site": "a"}}),
            2 => json!({"within": ["north"]}),
            3 => json!({"near": {"point": [20.0, 50.0], "maxKm": 3000.0}}),
            _ => json!({"on": (0..self.devices).step_by(2).map(|n| format!("dev-{n}")).collect::<Vec<_>>()}),
        };
        let mut spec = json!({"type": "function", "placement": placement});
        if plan.shape == 1 || plan.shape == 4 {
            spec["every"] = json!(true);
        } else {
            spec["replicas"] = json!(plan.replicas);
        }
        if plan.is_composed {
            let next = (plan.artifact + 1) % ARTIFACTS;
            spec["components"] = json!([
                {"name": "prepare", "role": "init", "artifact": reference(plan.artifact), "function": function(false)},
                {"name": "serve", "after": ["prepare"], "artifact": reference(next), "function": function(true)},
                {"name": "count", "role": "job", "artifact": reference(plan.artifact), "function": function(false)},
            ]);
        } else {
            spec["artifact"] = json!(reference(plan.artifact));
            spec["function"] = function(true);
        }
        json!({"apiVersion": "fulmar/v1", "kind": "Workload", "metadata": {"name": name_of(index)}, "spec": spec})
    }
}

fn name_of(index: usize) -> String {
    format!("work-{index}")
}

fn digest_of(artifact: u8) -> Digest {
    Digest::of(&[artifact])
}

fn id_of(key: &ObjectKey) -> ObjectId {
    (key.kind.name().to_owned(), key.namespace.clone(), key.name.clone())
}

fn region(index: usize) -> Value {
    let (name, latitude) = if index == 0 { ("north", 55.0) } else { ("south", 45.0) };
    json!({
        "apiVersion": "fulmar/v1", "kind": "Region", "metadata": {"name": name},
        "spec": {"circle": {"center": [20.0, latitude], "radiusKm": 1500.0}},
    })
}

impl Task {
    /// The object that it changes.
    fn object(&self) -> Option<ObjectKey> {
        match self {
            Self::Artifact(n) => Some(ObjectKey::artifact(NAMESPACE, &format!("art-{n}"))),
            Self::Region(n) => Some(ObjectKey::region(if *n == 0 { "north" } else { "south" })),
            Self::Apply(n) | Self::Delete(n) => Some(ObjectKey::workload(NAMESPACE, &name_of(*n))),
            Self::Device(n, _) | Self::Label(n) => Some(ObjectKey::device(&format!("dev-{n}"))),
            Self::Token(_) | Self::Bad | Self::Read(_) | Self::List(_) | Self::Logs(_) | Self::Follow => None,
        }
    }

    /// To be done again if it was not.
    fn is_duty(&self) -> bool {
        !matches!(self, Self::Bad | Self::Read(_) | Self::List(_) | Self::Logs(_))
    }
}

impl World<'_> {
    pub fn operator_turn(&mut self) {
        if let Some(task) = self.operator.tasks.pop_front() {
            self.undertake(task);
        } else if self.phase == Phase::Safety {
            let task = self.next_task();
            self.undertake(task);
        }
        let has_more = !self.operator.tasks.is_empty() || self.phase != Phase::Safety;
        let pause = if has_more {
            self.operator.random.between(200, 1_500)
        } else {
            self.operator.random.between(3_000, 90_000)
        };
        self.after(pause, Event::Operator);
    }

    fn next_task(&mut self) -> Task {
        let random = &mut self.operator.random;
        let (workload, device) = (random.index(WORKLOADS), random.index(self.devices.len()));
        match random.below(20) {
            0..=7 => Task::Apply(workload),
            8 => Task::Delete(workload),
            9 => Task::Device(device, DeviceChange::Cordon),
            10 => Task::Device(device, DeviceChange::Uncordon),
            11 => Task::Device(device, DeviceChange::Approve),
            12 => Task::Label(device),
            13 => Task::Bad,
            14 => Task::List(Kind::Device),
            15 => Task::List(Kind::Workload),
            16 => Task::Logs(workload),
            _ => Task::Read(workload),
        }
    }

    pub fn undertake(&mut self, task: Task) {
        if !self.hub.is_up() {
            if task.is_duty() {
                self.operator.tasks.push_back(task);
            }
            return;
        }
        let request = self.request(&task);
        let ticket = self.operator.next_ticket;
        self.operator.next_ticket += 1;
        self.say(|_| format!("operator: {task:?}"));
        let is_question = matches!(task, Task::Read(_) | Task::Logs(_)) && self.phase == Phase::Safety;
        self.operator.pending.insert(ticket, task);
        let is_impatient = is_question && self.operator.random.chance(150);
        self.hub_tell(Input::Request { ticket: Ticket(ticket), actor: "operator".to_owned(), request });
        if is_impatient && self.operator.pending.remove(&ticket).is_some() {
            self.hub_tell(Input::Cancel { ticket: Ticket(ticket) });
        }
    }

    fn request(&mut self, task: &Task) -> Request {
        let put = |key, document| Request::Put { key, document, mode: Mode::Commit, if_match: None };
        let operator = &mut self.operator;
        match task {
            Task::Artifact(n) => Request::ArtifactPut {
                namespace: NAMESPACE.to_owned(),
                name: format!("art-{n}"),
                digest: digest_of(*n),
                bytes: 1_000 + u64::from(*n),
            },
            Task::Token(n) => Request::TokenCreate {
                expires_in: Some(Duration::from_secs(24 * 3600)),
                approve: operator.random.chance(750),
                labels: json!({"tier": if n % 3 == 2 { "core" } else { "edge" }, "site": if n % 2 == 0 { "a" } else { "b" }}),
                entropy: operator.random.bytes(),
            },
            Task::Region(n) => put(ObjectKey::region(if *n == 0 { "north" } else { "south" }), region(*n)),
            Task::Apply(n) => {
                operator.change_plan(*n);
                put(ObjectKey::workload(NAMESPACE, &name_of(*n)), operator.document(*n))
            }
            Task::Delete(n) => {
                operator.plans[*n] = None;
                Request::Delete { key: ObjectKey::workload(NAMESPACE, &name_of(*n)), if_match: None }
            }
            Task::Device(n, change) => Request::DeviceChange { name: format!("dev-{n}"), change: *change },
            Task::Label(n) => {
                operator.labels += 1;
                let name = format!("dev-{n}");
                let labels = json!({"tier": "edge", "site": if operator.random.chance(500) { "a" } else { "b" },
                    "turn": operator.labels.to_string()});
                let document = json!({"apiVersion": "fulmar/v1", "kind": "Device",
                    "metadata": {"name": name, "labels": labels}, "spec": {}});
                put(ObjectKey::device(&name), document)
            }
            Task::Bad => put(
                ObjectKey::workload(NAMESPACE, "bad"),
                json!({"apiVersion": "fulmar/v1", "kind": "Workload", "metadata": {"name": "bad"},
                    "spec": {"type": "function", "partition": "exclusive", "surprise": 1}}),
            ),
            Task::Read(n) => Request::Get { key: ObjectKey::workload(NAMESPACE, &name_of(*n)) },
            Task::List(kind) => Request::List { kind: *kind, selection: Selection::default(), limit: 100, after: None },
            Task::Follow => Request::Events { object: None, tail: 10, follow: Follow::Follow },
            Task::Logs(n) => Request::Logs {
                namespace: NAMESPACE.to_owned(),
                name: name_of(*n),
                device: None,
                tail: 5_000,
                follow: Follow::Once,
            },
        }
    }

    pub fn answered(&mut self, ticket: Ticket, result: Result<Answer, Problem>) {
        if self.operator.pending.get(&ticket.0) == Some(&Task::Follow) {
            self.operator.following = Some((ticket.0, 0));
        }
        let Some(task) = self.operator.pending.remove(&ticket.0) else {
            return self.fail(|| format!("an answer to {ticket:?}, which nobody waits for"));
        };
        self.trace.mix(ticket.0 << 1 | u64::from(result.is_ok()));
        match result {
            Ok(answer) => self.succeeded(task, answer),
            Err(problem) => self.failed(task, &problem),
        }
    }

    fn failed(&mut self, task: Task, problem: &Problem) {
        self.operator.refused += 1;
        self.say(|_| format!("operator: {task:?} refused: {} {}", problem.status(), problem.detail));
        let is_expected = matches!(
            (&task, problem.status()),
            (Task::Bad, 400..=499)
                | (_, 500..=599)
                | (Task::Delete(_) | Task::Read(_) | Task::Device(..) | Task::Label(_) | Task::Logs(_), 404)
        );
        if !is_expected {
            let errors = &problem.errors;
            return self.fail(|| format!("{task:?}: {} {} {errors:?}", problem.status(), problem.detail));
        }
        if problem.status() >= 500 && task.is_duty() {
            self.operator.tasks.push_back(task);
        }
    }

    fn succeeded(&mut self, task: Task, answer: Answer) {
        self.operator.acknowledged += 1;
        let durable = &self.hub.durable;
        let key = task.object();
        if task == Task::Bad {
            return self.fail(|| "a manifest with mistakes was accepted".to_owned());
        }
        match answer {
            Answer::Object { resource_version, outcome, .. } => {
                if resource_version > durable.sequence {
                    return self
                        .fail(|| format!("[I5] {task:?} answered with version {resource_version}, not durable"));
                }
                let Some(key) = key.filter(|_| outcome != Outcome::Read) else { return };
                let row = durable.objects.get(&id_of(&key)).map(|row| row.resource_version);
                if row.is_none_or(|version| version < resource_version) {
                    return self.fail(|| format!("[I5] {task:?} was answered, {key} on disk is {row:?}"));
                }
                let known = Known { version: Some(resource_version), is_uncertain: false };
                self.operator.known.insert(id_of(&key), known);
            }
            Answer::Deleted => {
                let Some(key) = key else { return };
                if durable.objects.contains_key(&id_of(&key)) {
                    return self.fail(|| format!("[I5] {key} was answered as deleted and is on disk"));
                }
                self.operator.known.insert(id_of(&key), Known::default());
            }
            Answer::Token { text, id, .. } => {
                if !durable.tokens.contains_key(&id) {
                    return self.fail(|| format!("[I5] token {id:?} was answered and is not on disk"));
                }
                self.hand_out(&task, &text);
            }
            Answer::List { items, resource_version, .. } => {
                if resource_version > durable.sequence {
                    return self.fail(|| format!("[I5] a list of version {resource_version}, not durable"));
                }
                match task {
                    Task::List(Kind::Device) => self.operator.devices_seen = items,
                    Task::List(Kind::Workload) => self.operator.workloads_seen = items,
                    _ => {}
                }
            }
            Answer::Logs(lines) => {
                let mut texts: Vec<&str> =
                    lines.iter().filter(|line| line.text.starts_with("line ")).map(|line| line.text.as_str()).collect();
                texts.sort_unstable();
                if let Some(pair) = texts.windows(2).find(|pair| pair[0] == pair[1]) {
                    let text = pair[0].to_owned();
                    self.fail(|| format!("[I7] the hub shows {text:?} twice"));
                }
            }
            Answer::Events(lines) => lines.into_iter().for_each(|line| self.event_told(line.sequence)),
            Answer::Explanation(_)
            | Answer::Plan(_)
            | Answer::Report(_)
            | Answer::Body(_)
            | Answer::Status(_)
            | Answer::Watching
            | Answer::WatchingEvents { .. }
            | Answer::Measures(_) => {}
        }
    }

    fn hand_out(&mut self, task: &Task, text: &str) {
        let Task::Token(device) = *task else { return };
        let mut buffer = [0; TOKEN_TEXT_BYTES_MAX];
        let signing = self.ground.signer.public_key();
        let hub = wire::join::hub_fingerprint(&signing, &self.hub_exchange.public_key());
        match JoinToken::parse(text, &mut buffer) {
            Ok(token) if token.fleet == FLEET && token.hub == hub => {
                let password = hexadecimal(&token.secret);
                self.devices[device].join = Join::Token { id: token.id, password, nonce: [0; 16] };
                self.after(1_000, Event::JoinTry { device });
            }
            other => self.fail(|| format!("the hub's token does not fit: {other:?}")),
        }
    }

    /// Each event comes once, in order, and only to who asked for it.
    fn event_told(&mut self, sequence: u64) {
        let Some((_, last)) = &mut self.operator.following else { return };
        let before = std::mem::replace(last, sequence);
        if sequence <= before {
            self.fail(|| format!("[I7] event {sequence} is told after {before}"));
        }
    }

    pub fn streamed(&mut self, ticket: Ticket, item: &StreamItem) {
        if self.operator.following.is_none_or(|(of, _)| of != ticket.0) {
            return self.fail(|| format!("{item:?} for {ticket:?}, which nobody follows"));
        }
        match item {
            StreamItem::Event(line) => {
                self.trace.mix(line.sequence);
                self.say(|_| format!("event: {} {} {}", line.reason, line.object, line.message));
                self.event_told(line.sequence);
                // In a world without faults nobody is lost.
                if matches!(line.reason.as_str(), "Suspect" | "Lost")
                    && self.options.allowed == Allowed::NONE
                    && self.phase == Phase::Safety
                {
                    self.fail(|| format!("{} is called lost: {}", line.object, line.message));
                }
            }
            StreamItem::Dropped(_) => {}
            StreamItem::Log(_) | StreamItem::End | StreamItem::Change { .. } | StreamItem::Ended(_) => {
                self.fail(|| format!("{item:?} among events"))
            }
        }
    }

    /// Nobody will answer what waits.
    pub fn operator_lost_hub(&mut self) {
        if self.operator.following.take().is_some() {
            self.operator.tasks.push_back(Task::Follow);
        }
        for (_, task) in std::mem::take(&mut self.operator.pending) {
            if let Some(key) = task.object() {
                self.operator.known.entry(id_of(&key)).or_default().is_uncertain = true;
            }
            if task.is_duty() {
                self.operator.tasks.push_back(task);
            }
        }
    }

    /// What was acknowledged is on disk (I5).
    pub fn judge_durable(&mut self) {
        for (id, known) in &self.operator.known {
            let row = self.hub.durable.objects.get(id).map(|row| row.resource_version);
            let is_right = known.is_uncertain
                || match known.version {
                    Some(version) => row.is_some_and(|row| row >= version),
                    None => row.is_none(),
                };
            if !is_right {
                let text = format!("[I5] {id:?} was acknowledged as {known:?} and is on disk as {row:?}");
                return self.fail(|| text);
            }
        }
    }
}
