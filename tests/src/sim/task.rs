//! What the operator can do, and the request that it becomes.
//!
//! Documents are made here as a person would write them; what comes of them is judged in `answer`.
use super::coverage::Verb;
use super::disk::ObjectId;
use super::operator::Operator;
use super::random::Random;
use super::world::World;
use hub::engine::{Applier, DeviceChange, Follow, Mode, Request, Selection, WhatIf};
use hub::geo::Point;
use hub::model::{DevicePosition, Kind, ObjectKey};
use serde_json::{Value, json};
use std::time::Duration;
use wire::Digest;

pub const ARTIFACTS: u8 = 6;
pub const WORKLOADS: usize = 5;
/// Names of bearer tokens that are made and deleted.
const TOKENS: usize = 4;
const NAMESPACE: &str = "default";
/// Longer than any run: joining is not about tokens that end.
const TOKEN_LASTS: Duration = Duration::from_secs(60 * 24 * 3600);

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    Artifact(u8),
    Token(usize),
    Region(usize),
    Apply(usize),
    /// Server-side, and only a label.
    Annotate(usize),
    DryRun(usize),
    Delete(usize),
    Device(usize, DeviceChange),
    Relocate(usize),
    Label(usize),
    ApiToken(usize),
    ApiTokenDelete(usize),
    Bad,
    Read(usize),
    Managed(usize),
    List(Kind),
    Watch,
    Rejections,
    Explain(usize),
    Plan(usize),
    PlanApply(usize, Value),
    WhatIf(usize),
    Logs(usize),
    LogsFollow(usize),
    Events,
    /// Events as they come.
    Follow,
    EventsWatch,
    /// After a restore: devices get this hub's sets, or keep what they run.
    HubApply,
    HubHold,
    /// After a second hub: this one is the one.
    HubTakeover,
    Queue,
    Status,
    Measure,
}

/// What a workload is like now, in the operator's files.
#[derive(Clone, Debug)]
pub struct Plan {
    pub version: u32,
    /// Not zero in a document that is only proposed, so that applying it is a change of its own.
    proposal: u32,
    artifact: u8,
    shape: u64,
    replicas: u64,
    is_composed: bool,
    /// The composed ones have a last component, which comes and goes: what a version added does not run when it is rolled back.
    is_counted: bool,
    policy: Option<Value>,
}

impl Plan {
    fn is_exclusive(&self) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.get("exclusive").is_some())
    }
}

/// One workload in ten is exclusive, one in ten ends without the hub.
fn policy(random: &mut Random) -> Option<Value> {
    let on_return = ["keepOriginal", "keepReplacement", "best"][random.index(3)];
    let lease = ["60s", "5m", "20m"][random.index(3)];
    let after = ["2m", "10m", "1h"][random.index(3)];
    match random.below(30) {
        0..=2 => Some(json!({"exclusive": {"lease": lease}, "replace": "afterLease", "onReturn": on_return})),
        3 => Some(json!({"exclusive": {"lease": lease}, "replace": "never"})),
        4 => Some(json!({"stopAfter": after, "replace": "never"})),
        5 | 6 => Some(json!({"stopAfter": after, "replace": "afterLease", "onReturn": on_return})),
        7 => Some(json!({"stopAfter": after, "replace": "afterGrace", "grace": "5m", "onReturn": on_return})),
        8 => Some(json!({"replace": "afterGrace", "grace": "2m", "onReturn": on_return})),
        9 => Some(json!({"onStale": {"after": "10m", "action": "degrade"}})),
        _ => None,
    }
}

pub fn name_of(index: usize) -> String {
    format!("work-{index}")
}

pub fn digest_of(artifact: u8) -> Digest {
    Digest::of(&[artifact])
}

pub fn id_of(key: &ObjectKey) -> ObjectId {
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
    pub fn object(&self) -> Option<ObjectKey> {
        match self {
            Self::Artifact(n) => Some(ObjectKey::artifact(NAMESPACE, &format!("art-{n}"))),
            Self::Region(n) => Some(ObjectKey::region(if *n == 0 { "north" } else { "south" })),
            Self::Apply(n) | Self::Annotate(n) | Self::Delete(n) | Self::PlanApply(n, _) => {
                Some(ObjectKey::workload(NAMESPACE, &name_of(*n)))
            }
            Self::Device(n, _) | Self::Relocate(n) | Self::Label(n) => Some(ObjectKey::device(&format!("dev-{n}"))),
            Self::ApiToken(n) | Self::ApiTokenDelete(n) => {
                Some(ObjectKey { kind: Kind::Token, namespace: String::new(), name: format!("token-{}", n % TOKENS) })
            }
            Self::Token(_)
            | Self::DryRun(_)
            | Self::Bad
            | Self::Read(_)
            | Self::Managed(_)
            | Self::List(_)
            | Self::Watch
            | Self::Rejections
            | Self::Explain(_)
            | Self::Plan(_)
            | Self::WhatIf(_)
            | Self::Logs(_)
            | Self::LogsFollow(_)
            | Self::Events
            | Self::Follow
            | Self::EventsWatch
            | Self::HubApply
            | Self::HubHold
            | Self::HubTakeover
            | Self::Queue
            | Self::Status
            | Self::Measure => None,
        }
    }

    /// To be done again if it was not.
    pub fn is_duty(&self) -> bool {
        matches!(
            self,
            Self::Artifact(_)
                | Self::Token(_)
                | Self::Region(_)
                | Self::Apply(_)
                | Self::Delete(_)
                | Self::Device(..)
                | Self::Label(_)
                | Self::HubApply
                | Self::HubTakeover
                | Self::Follow
        )
    }

    /// Changes nothing, so that nobody minds when it is given up.
    pub fn is_question(&self) -> bool {
        self.object().is_none() && !self.is_duty() && !matches!(self, Self::Bad | Self::HubApply | Self::HubHold)
    }

    pub fn verb(&self) -> Verb {
        match self {
            Self::Artifact(_) => Verb::ArtifactPut,
            Self::Token(_) => Verb::TokenCreate,
            Self::Region(_) | Self::Apply(_) | Self::Label(_) | Self::Bad => Verb::Put,
            Self::Annotate(_) => Verb::Apply,
            Self::DryRun(_) => Verb::PutDryRun,
            Self::Delete(_) | Self::ApiTokenDelete(_) => Verb::Delete,
            Self::Device(_, DeviceChange::Cordon) => Verb::Cordon,
            Self::Device(_, DeviceChange::Uncordon) => Verb::Uncordon,
            Self::Device(_, DeviceChange::Drain) => Verb::Drain,
            Self::Device(_, DeviceChange::Undrain) => Verb::Undrain,
            Self::Device(..) => Verb::Approve,
            Self::Relocate(_) => Verb::Relocate,
            Self::ApiToken(_) => Verb::ApiTokenCreate,
            Self::Read(_) => Verb::Get,
            Self::Managed(_) => Verb::Managed,
            Self::List(_) => Verb::List,
            Self::Watch => Verb::Watch,
            Self::Rejections => Verb::Rejections,
            Self::Explain(_) => Verb::Explain,
            Self::Plan(_) => Verb::Plan,
            Self::PlanApply(..) => Verb::PlanApply,
            Self::WhatIf(_) => Verb::WhatIf,
            Self::Logs(_) => Verb::Logs,
            Self::LogsFollow(_) => Verb::LogsFollow,
            Self::Events => Verb::Events,
            Self::Follow => Verb::EventsFollow,
            Self::EventsWatch => Verb::EventsWatch,
            Self::HubApply => Verb::HubApply,
            Self::HubHold => Verb::HubHold,
            Self::HubTakeover => Verb::HubTakeover,
            Self::Queue => Verb::Queue,
            Self::Status => Verb::Status,
            Self::Measure => Verb::Measure,
        }
    }

    /// The workload that it is about, if it is about one.
    pub fn workload(&self) -> Option<usize> {
        match self {
            Self::Apply(n)
            | Self::Annotate(n)
            | Self::DryRun(n)
            | Self::Delete(n)
            | Self::Read(n)
            | Self::Managed(n)
            | Self::Explain(n)
            | Self::Plan(n)
            | Self::PlanApply(n, _)
            | Self::WhatIf(n)
            | Self::Logs(n)
            | Self::LogsFollow(n) => Some(*n),
            _ => None,
        }
    }

    /// The device that it is about.
    pub fn device(&self) -> Option<usize> {
        match self {
            Self::Device(n, _) | Self::Relocate(n) | Self::Label(n) => Some(*n),
            _ => None,
        }
    }
}

impl Operator {
    fn change_plan(&mut self, index: usize) {
        let random = &mut self.random;
        match &mut self.plans[index] {
            Some(plan) => {
                plan.version += 1;
                match random.below(4) {
                    0 => plan.artifact = (plan.artifact + 1) % ARTIFACTS,
                    1 if !plan.is_exclusive() => plan.replicas = random.between(1, 4),
                    2 => plan.is_counted = !plan.is_counted,
                    _ => {}
                }
            }
            slot => {
                let policy = policy(random);
                let is_exclusive = policy.as_ref().is_some_and(|policy| policy.get("exclusive").is_some());
                let plan = Plan {
                    version: 1,
                    proposal: 0,
                    artifact: u8::try_from(random.below(u64::from(ARTIFACTS))).unwrap_or(0),
                    shape: random.below(5),
                    replicas: random.between(1, 4),
                    is_composed: random.chance(350),
                    is_counted: true,
                    policy,
                };
                *slot = Some(if is_exclusive { Plan { replicas: 1, is_composed: false, ..plan } } else { plan });
            }
        }
    }

    pub fn document(&self, index: usize) -> Value {
        let Some(plan) = &self.plans[index] else { return Value::Null };
        let reference = |n: u8| format!("art-{n}@sha256:{}", digest_of(n));
        let seconds = if self.is_long { 300 + 300 * index } else { 20 + 10 * index };
        let function = |every: bool| {
            let triggers =
                if every { json!({"every": format!("{seconds}s"), "topics": ["news/#"]}) } else { json!({}) };
            json!({
                "triggers": triggers,
                "config": format!("version {} {}", plan.version, plan.proposal),
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
        if let Some(policy) = &plan.policy {
            spec["partition"] = policy.clone();
        }
        if (plan.shape == 1 || plan.shape == 4) && !plan.is_exclusive() {
            spec["every"] = json!(true);
        } else {
            spec["replicas"] = json!(plan.replicas);
        }
        if plan.is_composed {
            let next = (plan.artifact + 1) % ARTIFACTS;
            let mut components = vec![
                json!({"name": "prepare", "role": "init", "artifact": reference(plan.artifact), "function": function(false)}),
                json!({"name": "serve", "after": ["prepare"], "artifact": reference(next), "function": function(true)}),
            ];
            if plan.is_counted {
                let artifact = reference(plan.artifact);
                components
                    .push(json!({"name": "count", "role": "job", "artifact": artifact, "function": function(false)}));
            }
            spec["components"] = json!(components);
        } else {
            spec["artifact"] = json!(reference(plan.artifact));
            spec["function"] = function(true);
        }
        json!({"apiVersion": "fulmar/v1", "kind": "Workload", "metadata": {"name": name_of(index)}, "spec": spec})
    }

    /// The document that would be applied next, without becoming the operator's.
    pub fn proposal(&mut self, index: usize) -> Value {
        let before = self.plans[index].clone();
        self.change_plan(index);
        self.labels += 1;
        let proposal = self.labels;
        if let Some(plan) = &mut self.plans[index] {
            plan.proposal = proposal;
        }
        let document = self.document(index);
        self.plans[index] = before;
        document
    }
}

impl World<'_> {
    pub(super) fn request(&mut self, task: &Task) -> Request {
        let put = |key, document, mode| Request::Put { key, document, mode, if_match: None };
        let workload = |n: usize| ObjectKey::workload(NAMESPACE, &name_of(n));
        let applier = || Applier { manager: "planner".to_owned(), force: true };
        let operator = &mut self.operator;
        match task {
            Task::Artifact(n) => Request::ArtifactPut {
                namespace: NAMESPACE.to_owned(),
                name: format!("art-{n}"),
                digest: digest_of(*n),
                bytes: 1_000 + u64::from(*n),
            },
            Task::Token(n) => {
                let approve = operator.random.chance(750);
                let entropy = operator.random.bytes();
                self.learn_token(*n, &entropy);
                Request::TokenCreate {
                    expires_in: Some(TOKEN_LASTS),
                    approve,
                    labels: json!({"tier": if n % 3 == 2 { "core" } else { "edge" }, "site": if n % 2 == 0 { "a" } else { "b" }}),
                    entropy,
                }
            }
            Task::Region(n) => {
                put(ObjectKey::region(if *n == 0 { "north" } else { "south" }), region(*n), Mode::Commit)
            }
            Task::Apply(n) => {
                operator.change_plan(*n);
                put(workload(*n), operator.document(*n), Mode::Commit)
            }
            Task::DryRun(n) => put(workload(*n), operator.proposal(*n), Mode::DryRun),
            Task::Annotate(n) => {
                operator.labels += 1;
                let labels = json!({"turn": operator.labels.to_string()});
                let document = json!({"apiVersion": "fulmar/v1", "kind": "Workload",
                    "metadata": {"name": name_of(*n), "labels": labels}});
                let applier = Applier { manager: "labels".to_owned(), force: true };
                Request::Apply { key: workload(*n), document, applier, mode: Mode::Commit, if_match: None }
            }
            Task::Delete(n) => {
                operator.plans[*n] = None;
                Request::Delete { key: workload(*n), if_match: None }
            }
            Task::Device(n, change) => Request::DeviceChange { name: format!("dev-{n}"), change: *change },
            Task::Relocate(n) => {
                let longitude_e7 = i32::try_from(operator.random.below(400_000_000)).unwrap_or(0);
                let latitude_e7 = 400_000_000 + i32::try_from(operator.random.below(200_000_000)).unwrap_or(0);
                let point = Point::from_e7(longitude_e7, latitude_e7).ok().filter(|_| operator.random.chance(500));
                let position = point.map(|point| DevicePosition { point, uncertainty_m: 10 });
                Request::DeviceChange { name: format!("dev-{n}"), change: DeviceChange::Relocate(position) }
            }
            Task::Label(n) => {
                operator.labels += 1;
                let name = format!("dev-{n}");
                let labels = json!({"tier": "edge", "site": if operator.random.chance(500) { "a" } else { "b" },
                    "turn": operator.labels.to_string()});
                let document = json!({"apiVersion": "fulmar/v1", "kind": "Device",
                    "metadata": {"name": name, "labels": labels}, "spec": {}});
                put(ObjectKey::device(&name), document, Mode::Commit)
            }
            Task::ApiToken(n) => Request::ApiTokenCreate {
                document: json!({"apiVersion": "fulmar/v1", "kind": "Token",
                    "metadata": {"name": format!("token-{}", n % TOKENS)}, "spec": {"role": "viewer"}}),
                sha256: operator.random.bytes(),
            },
            Task::ApiTokenDelete(n) => Request::Delete {
                key: ObjectKey { kind: Kind::Token, namespace: String::new(), name: format!("token-{}", n % TOKENS) },
                if_match: None,
            },
            Task::Bad => put(
                ObjectKey::workload(NAMESPACE, "bad"),
                json!({"apiVersion": "fulmar/v1", "kind": "Workload", "metadata": {"name": "bad"},
                    "spec": {"type": "function", "partition": "exclusive", "surprise": 1}}),
                Mode::Commit,
            ),
            Task::Read(n) => Request::Get { key: workload(*n) },
            Task::Managed(n) => Request::Managed { key: workload(*n) },
            Task::List(kind) => Request::List { kind: *kind, selection: Selection::default(), limit: 100, after: None },
            Task::Watch => Request::Watch { kind: Kind::Workload, selection: Selection::default(), from: None },
            Task::Rejections => Request::Rejections { limit: 10, after: None },
            Task::Explain(n) => Request::Explain {
                namespace: NAMESPACE.to_owned(),
                name: name_of(*n),
                device: operator.random.chance(500).then(|| "dev-0".to_owned()),
            },
            Task::Plan(n) => Request::Plan { documents: vec![operator.proposal(*n)], applier: applier() },
            Task::PlanApply(_, plan) => Request::PlanApply { plan: plan.clone() },
            Task::WhatIf(n) => Request::WhatIf(Box::new(WhatIf {
                workload: json!(name_of(*n)),
                namespace: NAMESPACE.to_owned(),
                device: None,
                near: None,
                distance_max: None,
                overrides: Value::Null,
            })),
            Task::Events => Request::Events { object: None, tail: 20, follow: Follow::Once },
            Task::Follow => Request::Events { object: None, tail: 10, follow: Follow::Follow },
            Task::EventsWatch => Request::EventsWatch { object: None, tail: 5, from: None },
            Task::Logs(n) | Task::LogsFollow(n) => Request::Logs {
                namespace: NAMESPACE.to_owned(),
                name: name_of(*n),
                device: None,
                tail: 5_000,
                follow: if matches!(task, Task::Logs(_)) { Follow::Once } else { Follow::Follow },
            },
            Task::HubApply => Request::HubApply { devices: Vec::new() },
            Task::HubHold => Request::HubHold { devices: Vec::new() },
            Task::HubTakeover => Request::HubTakeover,
            Task::Queue => Request::Queue { device: None },
            Task::Status => Request::Status,
            Task::Measure => Request::Measure,
        }
    }
}
