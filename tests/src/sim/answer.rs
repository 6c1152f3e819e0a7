//! Answers of the hub, judged: the oracle for durability.
//!
//! What was answered with success must be on disk at that moment and after every crash.
use super::device::Join;
use super::fault::Allowed;
use super::network::hexadecimal;
use super::operator::Known;
use super::task::{Task, id_of};
use super::world::{Event, FLEET, Phase, World};
use hub::engine::{Answer, DeviceChange, Outcome, Problem, StreamItem, Ticket};
use hub::model::Kind;
use wire::join::{JoinToken, TOKEN_TEXT_BYTES_MAX};

impl World<'_> {
    pub fn answered(&mut self, ticket: Ticket, result: Result<Answer, Problem>) {
        if self.rival_asked(ticket) {
            return self.rival_answered(result);
        }
        if self.operator.pending.get(&ticket.0) == Some(&Task::Follow) {
            self.operator.following = Some((ticket.0, 0));
        }
        let Some(task) = self.operator.pending.remove(&ticket.0) else {
            return self.fail(|| format!("an answer to {ticket:?}, which nobody waits for"));
        };
        self.trace.mix(ticket.0 << 1 | u64::from(result.is_ok()));
        if result.is_ok() && matches!(task, Task::Watch | Task::EventsWatch | Task::LogsFollow(_)) {
            self.stream_opened(ticket.0);
        }
        match result {
            Ok(answer) => self.succeeded(task, answer),
            Err(problem) => self.failed(task, &problem),
        }
    }

    fn failed(&mut self, task: Task, problem: &Problem) {
        self.operator.refused += 1;
        if task == Task::HubTakeover {
            self.contest.is_asked = false;
        }
        let status = problem.status();
        self.say(|_| format!("operator: {:?} refused: {status} {}", task.verb(), problem.detail));
        let is_of_workload = task.workload().is_some() && !matches!(task, Task::Apply(_) | Task::DryRun(_));
        let is_expected = match (&task, status) {
            (_, 500..=599) => true,
            (Task::Bad, 400..=499) => true,
            // Nothing was forgotten, nobody was refused, or there is no second hub.
            (
                Task::HubApply | Task::HubHold | Task::HubTakeover | Task::Device(_, DeviceChange::Release),
                400..=499,
            ) => true,
            // It is not there, or not any more.
            (Task::Device(..) | Task::Relocate(_) | Task::Label(_) | Task::ApiTokenDelete(_), 404) => true,
            (_, 404) => is_of_workload,
            // A label alone makes no workload; what a plan was made from has moved; the name is taken; of a hub before.
            (Task::Annotate(_), 400..=499) => true,
            (Task::PlanApply(..) | Task::ApiToken(_), 409 | 412) => true,
            // What it proposes does not go with what another manager's fields say.
            (Task::Plan(_), 422) => true,
            _ => false,
        };
        if !is_expected {
            let errors = &problem.errors;
            return self.fail(|| format!("{:?}: {status} {} {errors:?}", task.verb(), problem.detail));
        }
        if status >= 500 && task.is_duty() {
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
            // Those of the stream come in order; a list that was asked for aside is not part of it.
            Answer::Events(lines) if task == Task::Follow => {
                lines.into_iter().for_each(|line| self.event_told(line.sequence));
            }
            Answer::Plan(plan) => self.planned(task, plan),
            Answer::Status(status) => {
                if task == Task::HubTakeover {
                    self.contest.is_decided = true;
                }
                self.operator.sees_rival = status.conditions.iter().any(|condition| condition.name == "SecondHub");
                if status.incarnation > durable.incarnation {
                    self.fail(|| format!("the hub says incarnation {}", status.incarnation));
                }
            }
            Answer::Events(_)
            | Answer::Explanation(_)
            | Answer::Report(_)
            | Answer::Samples { .. }
            | Answer::Body(_)
            | Answer::Watching
            | Answer::WatchingEvents { .. }
            | Answer::Measures(_) => {}
        }
    }

    /// A plan is done now, a little later, or never; after it was done, its workload is there.
    fn planned(&mut self, task: Task, plan: serde_json::Value) {
        match task {
            Task::Plan(n) if self.phase == Phase::Safety && self.operator.random.chance(600) => {
                self.operator.wish(Task::PlanApply(n, plan));
            }
            Task::PlanApply(..) => {
                let Some(key) = task.object() else { return };
                let row = self.hub.durable.objects.get(&id_of(&key)).map(|row| row.resource_version);
                let Some(version) = row else {
                    return self.fail(|| format!("[I5] a plan was done, and {key} is not on disk"));
                };
                self.operator.known.insert(id_of(&key), Known { version: Some(version), is_uncertain: false });
            }
            _ => {}
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
        if self.operator.streams.contains(&ticket.0) {
            return self.watched(ticket.0, item);
        }
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
            StreamItem::Log(_)
            | StreamItem::Sample(_)
            | StreamItem::End
            | StreamItem::Change { .. }
            | StreamItem::Ended(_) => self.fail(|| format!("{item:?} among events")),
        }
    }

    /// Streams besides that of events. Some are never taken from, and the hub may end those.
    fn watched(&mut self, ticket: u64, item: &StreamItem) {
        match item {
            StreamItem::Change { .. } | StreamItem::Event(_) if ticket.is_multiple_of(2) => {
                let life = self.hub.life;
                self.after(5, Event::Took { life, ticket });
            }
            StreamItem::End | StreamItem::Ended(_) => self.operator.streams.retain(|of| *of != ticket),
            StreamItem::Change { .. }
            | StreamItem::Event(_)
            | StreamItem::Log(_)
            | StreamItem::Sample(_)
            | StreamItem::Dropped(_) => {}
        }
    }

    /// Nobody will answer what waits.
    pub fn operator_lost_hub(&mut self) {
        self.operator.streams.clear();
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
