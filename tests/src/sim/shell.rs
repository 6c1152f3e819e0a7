//! The shell around each machine: carries out its effects on the doubles and tells it what came of them, as the port demands.
//!
//! It translates and lets faults happen; what is right or wrong is judged in `oracle`.
use super::device::{Action, Join};
use super::fault::Fault;
use super::lease::payload_of;
use super::network::{Client, Filter, Packet, User, Way, hexadecimal};
use super::oracle::Change;
use super::record::Kept;
use super::runtime::{Instance, Phase as RunPhase, Step};
use super::task::Task;
use super::world::{Event, FLEET, Phase, Plant, World};
use agent_nostd::machine::port::{
    Content, Exit, Failure, FetchFailure, Inbound, Input, JournalKey, LaunchId, PersistFailure, Quality, Source, Terms,
    Ticket, Trigger,
};
use wire::Digest;
use wire::event::Level;
use wire::frame::{decode_plain, encode_plain};
use wire::hello::{DeviceClass, ResetCause};
use wire::join::{JoinAnswer, JoinClaim, JoinRefusal, JoinRequest};
use wire::record::Role;
use wire::topic::Topic;

/// A joining device tries again after about this.
const JOIN_AGAIN_MS: u64 = 20_000;
/// So long at least the machine waits for its journal, on the fastest of clocks.
const PERSIST_WAITS_MS: u64 = 45_000;
/// Lines of a storm; the ring holds far fewer.
const STORM_LINES: u32 = 200;

impl World<'_> {
    // --- Joining ---

    pub fn join_try(&mut self, device: usize) {
        let nonce = self.devices[device].random.bytes();
        let Join::Token { id, password, nonce: slot } = &mut self.devices[device].join else { return };
        *slot = nonce;
        let user = User::Join { token: *id, password: password.clone() };
        let pause = JOIN_AGAIN_MS + self.random.below(JOIN_AGAIN_MS);
        self.dial(Client::Join(device), user, None);
        self.after(pause, Event::JoinTry { device });
    }

    pub fn join_receives(&mut self, device: usize, number: u32, packet: Packet) {
        let Join::Token { id, nonce, .. } = self.devices[device].join else { return };
        match packet {
            Packet::Accepted => self.send(number, Way::Up, Packet::Subscribe(Filter::Join(id))),
            Packet::Subscribed(_) => {
                let joining = &self.devices[device];
                let claim = JoinClaim {
                    identity: wire::sign::Sign::public_key(&joining.identity),
                    exchange: joining.exchange.public_key(),
                    nonce,
                    name: &joining.name,
                    class: DeviceClass::Gateway,
                    position: Some(joining.position),
                };
                let mut buffer = [0; 1024];
                let encoded = claim.sign(&joining.identity, FLEET, id).and_then(|signature| {
                    encode_plain(&mut buffer, &JoinRequest { claim, signature }).map(|frame| frame.to_vec())
                });
                let topic = Topic::JoinRequest(id);
                match encoded {
                    Ok(payload) => {
                        self.send(number, Way::Up, Packet::Publish { topic, payload, retain: false, ticket: Some(0) });
                    }
                    Err(error) => self.fail(|| format!("a join request does not encode: {error:?}")),
                }
            }
            Packet::Message { payload, .. } => self.join_answered(device, number, nonce, &payload),
            _ => {}
        }
    }

    fn join_answered(&mut self, device: usize, number: u32, nonce: [u8; 16], payload: &[u8]) {
        let answer = match decode_plain::<JoinAnswer<'_>>(payload) {
            Ok(answer) => answer,
            Err(error) => return self.fail(|| format!("a join answer does not decode: {error}")),
        };
        match answer {
            JoinAnswer::Refused { reason: JoinRefusal::Busy, .. } => {}
            // Its token is over before it joined: the hub's clock jumped.
            JoinAnswer::Refused { nonce: of, reason: JoinRefusal::TokenExpired } if of == nonce => {
                self.devices[device].join = Join::Outside;
                self.operator.wish(Task::Token(device));
            }
            JoinAnswer::Refused { nonce: of, reason } if of == nonce => {
                self.fail(|| format!("dev-{device} may not join: {reason:?}"));
            }
            JoinAnswer::Refused { .. } => {}
            JoinAnswer::Accepted(accepted) if accepted.nonce != nonce => {}
            JoinAnswer::Accepted(accepted) => {
                let joining = &self.devices[device];
                let covered = accepted.covered().ok();
                let credential = covered
                    .and_then(|covered| joining.exchange.open(&accepted.hub_exchange, &covered, accepted.sealed));
                let Some(credential) = credential.filter(|_| accepted.device == joining.id) else {
                    return self.fail(|| format!("the credential of dev-{device} does not open"));
                };
                if !self.hub.durable.devices.contains_key(&joining.id) {
                    return self.fail(|| format!("dev-{device} was accepted before that was durable"));
                }
                self.secrets.learn(&credential, || format!("the credential of dev-{device}"));
                self.devices[device].join = Join::Joined { password: hexadecimal(&credential) };
                self.say(|_| format!("dev-{device} joined as {}", accepted.name));
                self.hang_up(number);
                self.after(500, Event::PowerOn { device, reset: ResetCause::PowerOn });
            }
        }
    }

    // --- Power ---

    pub fn device_power_on(&mut self, device: usize, reset: ResetCause) {
        let is_joined = matches!(self.devices[device].join, Join::Joined { .. });
        if !is_joined || self.devices[device].agent.is_some() {
            return;
        }
        let Some(memory) = self.memory.next() else {
            return self.fail(|| "no memory for another boot: raise BOOTS_PER_DEVICE_DAY".to_owned());
        };
        let setting = self.setting(device);
        let (now, node) = (self.now, &mut self.devices[device]);
        node.power_on(now, setting, memory, reset);
        let position = node.position;
        self.judge_boot(device);
        self.say(|_| format!("dev-{device} boots ({reset:?})"));
        let node = &mut self.devices[device];
        if let Some(left) = node.trouble.crashes_to_come.checked_sub(1) {
            node.trouble.crashes_to_come = left;
            let life = node.life;
            let pause = self.fate.between(100, 90_000);
            self.after(pause, Event::AgentDies { device, life });
        }
        self.tell(device, Input::Position(Some(position)));
    }

    /// The process ends (the network notices) or power does (nobody does).
    pub fn device_power_off(&mut self, device: usize, is_power: bool) {
        let node = &mut self.devices[device];
        if node.agent.is_none() {
            return;
        }
        let mut random = node.random.fork();
        if node.flash.cut(&mut random) {
            self.counts.hit(Fault::PowerCutInWrite);
        }
        let connection = self.devices[device].connection;
        let now = self.now;
        self.devices[device].power_off(now);
        self.judge_flash(device, Change::PowerOff);
        if let Some(number) = connection {
            if is_power { self.vanish(number) } else { self.hang_up(number) }
        }
    }

    pub fn power_fails(&mut self, device: usize, life: u32) {
        if self.devices[device].life == life {
            self.say(|_| format!("dev-{device} loses power while it writes"));
            self.device_power_off(device, true);
            let pause = self.fate.between(1_000, 60_000);
            self.after(pause, Event::PowerOn { device, reset: ResetCause::PowerOn });
        }
    }

    // --- The machine's two doors ---

    pub fn tell(&mut self, device: usize, input: Input<'_>) {
        let now = self.now;
        let node = &mut self.devices[device];
        let local = node.local(now);
        if let Some(agent) = node.agent.as_mut() {
            agent.handle(local, input);
            self.drive(device);
        }
    }

    pub fn device_wake(&mut self, device: usize, life: u32) {
        let now = self.now;
        let node = &mut self.devices[device];
        // It may come late, when the process stood still.
        if node.life == life && node.wake_ms.is_some_and(|at| at <= now) {
            node.wake_ms = None;
            self.drive(device);
        }
    }

    /// Takes all effects, then sets the alarm.
    pub fn drive(&mut self, device: usize) {
        let now = self.now;
        let actions = match self.devices[device].poll(now) {
            Ok(actions) => actions,
            Err(what) => return self.fail(|| what),
        };
        let life = self.devices[device].life;
        for action in actions {
            if self.devices[device].life == life {
                self.act(device, action);
            }
        }
        let node = &mut self.devices[device];
        let Some(timeout) = node.agent.as_ref().and_then(|agent| agent.poll_timeout()) else { return };
        // A deadline in the past would make the machine spin; it is taken a moment later so that time goes on.
        let at = node.world_ms(timeout).max(now + 1);
        if node.wake_ms.is_none_or(|wake| wake > at || wake <= now) {
            node.wake_ms = Some(at);
            self.schedule(at, Event::DeviceWake { device, life });
        }
    }

    fn act(&mut self, device: usize, action: Action) {
        let life = self.devices[device].life;
        match action {
            Action::Connect { will } => {
                if let Some(number) = self.devices[device].connection.take() {
                    self.hang_up(number);
                }
                let Join::Joined { password } = &self.devices[device].join else { return };
                let user = User::Device { id: self.devices[device].id, password: password.clone() };
                let number = self.dial(Client::Device(device), user, Some(will));
                self.devices[device].connection = Some(number);
                self.devices[device].seen.connected();
            }
            Action::Disconnect => {
                if let Some(number) = self.devices[device].connection.take() {
                    self.hang_up(number);
                }
            }
            Action::Subscribe(subscription) => {
                if let Some(number) = self.devices[device].connection {
                    self.send(number, Way::Up, Packet::Subscribe(Filter::Device(subscription)));
                }
            }
            Action::Publish { topic, payload, quality, ticket } => {
                let Some(number) = self.devices[device].connection else { return };
                let ticket = (quality == Quality::AtLeastOnce).then_some(u64::from(ticket.0));
                self.judge_publish(device, ticket.is_some(), &payload);
                self.ledger_asks(device, topic, &payload);
                let topic = Topic::Up(self.devices[device].id, topic);
                self.send(number, Way::Up, Packet::Publish { topic, payload, retain: false, ticket });
            }
            Action::Persist { ticket, key, value } => self.persist(device, ticket, key, &value),
            Action::Fetch { content, digest, source } => self.fetch(device, content, digest, source),
            Action::Start { launch, kept, terms } => self.start(device, launch, kept, terms),
            Action::Extend { launch, terms } => {
                let node = &mut self.devices[device];
                if let Some(instance) = node.runtime.instances.get_mut(&launch) {
                    instance.terms = terms;
                    // The policy may have changed since it was started, in a set that the machine was just told of, or not yet.
                    let (key, own) = (instance.kept.key(), instance.kept.policy);
                    let held =
                        self.devices[device].seen.current().filter_map(|set| set.get(key)).map(|kept| kept.policy);
                    let policy = held.chain([own]).find(|policy| policy.fits(&terms));
                    let Some(instance) = self.devices[device].runtime.instances.get_mut(&launch) else { return };
                    instance.kept.policy = policy.unwrap_or(instance.kept.policy);
                    let kept = instance.kept.clone();
                    self.judge_terms(device, launch, &kept, &terms);
                }
            }
            Action::Stop { launch, grace } => {
                self.judge_stop(device, launch);
                if let Some(instance) = self.devices[device].runtime.instances.get_mut(&launch) {
                    instance.phase = RunPhase::Stopping;
                }
                let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(0);
                let runtime = &mut self.devices[device].runtime;
                let hanging = runtime.instances.get(&launch).filter(|i| i.hangs).map(|i| i.kept.key());
                hanging.into_iter().for_each(|key| runtime.count_failure(key));
                let now = self.now;
                hanging.into_iter().for_each(|key| self.devices[device].trials.is_unsure(now, key));
                let hangs = hanging.is_some();
                let pause = if hangs { grace_ms } else { self.random.between(5, 200) };
                self.after(pause, Event::Runtime { device, life, launch, step: Step::Stopped });
            }
            Action::Activate { launch } => self.activate(device, launch),
            Action::Deliver { launch, topic, payload } => {
                if !self.devices[device].runtime.instances.contains_key(&launch) {
                    return self.fail(|| format!("dev-{device} delivers {topic} ({} B) to nothing", payload.len()));
                }
                self.judge_fence_told(device, &payload);
            }
            Action::Collect => {
                let Some(agent) = self.devices[device].agent.as_ref() else { return };
                let kept = self.devices[device].store.iter().copied().filter(|digest| agent.references(digest));
                self.devices[device].store = kept.collect();
            }
        }
    }

    // --- Flash ---

    fn persist(&mut self, device: usize, ticket: Ticket, key: JournalKey, value: &[u8]) {
        let node = &mut self.devices[device];
        let life = node.life;
        if let Some(write) = &node.flash.in_flight {
            // The machine gives up waiting after a while, as it must; the write goes on, and the next one comes after it.
            if self.now - write.since_ms < PERSIST_WAITS_MS {
                return self.fail(|| format!("dev-{device} has two writes in flight"));
            }
            let is_truth = write.key == JournalKey::Accepted;
            node.flash.finish();
            if is_truth {
                self.judge_flash(device, Change::Failed);
            }
        }
        let (now, node) = (self.now, &mut self.devices[device]);
        node.flash.begin(now, ticket, key, value);
        if let Some(writes) = &mut node.trouble.cut_in_write {
            *writes = writes.saturating_sub(1);
        }
        if node.trouble.cut_in_write == Some(0) {
            let pause = self.fate.between(1, 40);
            self.after(pause, Event::PowerFails { device, life });
            return;
        }
        let fails = node.trouble.flash_full > 0;
        let pause = if self.random.chance(20) { self.random.between(500, 5_000) } else { self.random.between(2, 40) };
        self.after(pause, Event::FlashDone { device, life, ticket, fails });
    }

    pub fn flash_done(&mut self, device: usize, life: u32, ticket: Ticket, fails: bool) {
        let node = &mut self.devices[device];
        if node.life != life || node.flash.in_flight.as_ref().is_none_or(|write| write.ticket != ticket) {
            return;
        }
        if fails {
            let mut random = node.random.fork();
            let Some(ticket) = node.flash.fail(&mut random) else { return };
            node.ledger.loses_a_write(self.now);
            self.counts.hit(Fault::FlashFull);
            self.judge_flash(device, Change::Failed);
            return self.tell(device, Input::PersistFailed { ticket, failure: PersistFailure::NoSpace });
        }
        if self.options.plant == Plant::FlashLies
            && let Some(write) = node.flash.in_flight.take_if(|write| write.key == JournalKey::Accepted)
        {
            return self.tell(device, Input::Persisted { ticket: write.ticket });
        }
        let Some(write) = node.flash.finish() else { return };
        self.samples_written(device, write.key, None);
        if write.key == JournalKey::Accepted {
            self.judge_flash(device, Change::Written);
            self.judge_told(device);
        }
        self.tell(device, Input::Persisted { ticket: write.ticket });
    }

    // --- Artifacts ---

    fn fetch(&mut self, device: usize, content: Content, digest: Digest, source: Source) {
        let node = &self.devices[device];
        let life = node.life;
        let is_here = content == Content::Artifact && node.store.contains(&digest);
        let (pause, failure) = if is_here {
            (self.random.between(1, 10), None)
        } else if source == Source::Store {
            (1, Some(FetchFailure::Absent))
        } else if node.trouble.fetch_fails > 0 {
            self.counts.hit(Fault::FetchFails);
            (self.random.between(100, 20_000), Some(FetchFailure::Unreachable))
        } else if node.trouble.fetch_wrong > 0 {
            self.counts.hit(Fault::FetchWrong);
            (self.random.between(100, 3_000), Some(FetchFailure::HashMismatch))
        } else if self.hub.engine.is_none() || self.hub.paused > 0 {
            (self.random.between(10, 3_000), Some(FetchFailure::Unreachable))
        } else {
            (self.random.between(50, 5_000), None)
        };
        self.after(pause, Event::Fetched { device, life, content, digest, failure });
    }

    pub fn fetched(
        &mut self,
        device: usize,
        life: u32,
        content: Content,
        digest: Digest,
        failure: Option<FetchFailure>,
    ) {
        if self.devices[device].life != life {
            return;
        }
        if let Some(failure) = failure {
            return self.tell(device, Input::FetchFailed { content, digest, failure });
        }
        match content {
            Content::Artifact => {
                self.devices[device].store.insert(digest);
                self.tell(device, Input::Fetched { digest });
            }
            Content::Body => {
                let of_digest = |row: &&hub::commit::DesiredRow| row.signed.header.body == digest;
                match self.hub.durable.desired.values().find(of_digest).map(|row| row.body.clone()) {
                    Some(bytes) => self.tell(device, Input::BodyFetched { digest, bytes: &bytes }),
                    None => {
                        let failure = FetchFailure::Absent;
                        self.tell(device, Input::FetchFailed { content, digest, failure });
                    }
                }
            }
        }
    }

    // --- The runtime ---

    fn start(&mut self, device: usize, launch: LaunchId, kept: Kept, terms: Terms) {
        self.judge_start(device, launch, &kept);
        self.judge_terms(device, launch, &kept, &terms);
        let now = self.now;
        self.say(|_| format!("dev-{device} starts {} {:?} generation {}", kept.name, kept.key(), kept.core.generation));
        let node = &mut self.devices[device];
        let (life, trouble) = (node.life, node.trouble);
        node.runtime.launches += 1;
        let hangs = trouble.hang > 0 && self.fate.chance(500);
        let fails = trouble.start_fails > 0 && self.fate.chance(600);
        let instance = Instance { kept, terms, phase: RunPhase::Starting, hangs, is_activated: false, since_ms: now };
        node.runtime.instances.insert(launch, instance);
        if hangs {
            self.counts.hit(Fault::Hang);
            return;
        }
        let pause = if self.fate.chance(30) { self.fate.between(1_000, 30_000) } else { self.fate.between(5, 300) };
        let step = if fails { Step::StartFails } else { Step::Started };
        self.after(pause, Event::Runtime { device, life, launch, step });
    }

    fn activate(&mut self, device: usize, launch: LaunchId) {
        let node = &mut self.devices[device];
        let (life, trouble) = (node.life, node.trouble);
        let Some(instance) = node.runtime.instances.get_mut(&launch) else {
            return self.fail(|| format!("dev-{device} activates {launch:?}, which does not run"));
        };
        if instance.phase != RunPhase::Running || std::mem::replace(&mut instance.is_activated, true) {
            let phase = instance.phase;
            return self.fail(|| format!("dev-{device}: two steps in flight for {launch:?} ({phase:?})"));
        }
        if trouble.hang > 0 && self.fate.chance(200) {
            instance.hangs = true;
            return self.counts.hit(Fault::Hang);
        }
        let step = if trouble.trap > 0 && self.fate.chance(300) { Step::Trapped } else { Step::Activated };
        let pause = self.random.between(1, 30);
        self.after(pause, Event::Runtime { device, life, launch, step });
    }

    pub fn runtime_step(&mut self, device: usize, life: u32, launch: LaunchId, step: Step) {
        let node = &mut self.devices[device];
        if node.life != life {
            return;
        }
        let trouble = node.trouble;
        let Some(instance) = node.runtime.instances.get_mut(&launch) else {
            // A shell answers `Stop` for a launch it does not know, and late news of an ended one.
            if step == Step::Stopped {
                self.tell(device, Input::Stopped { launch });
            }
            return;
        };
        let key = instance.kept.key();
        match step {
            Step::Stopped => {
                node.runtime.instances.remove(&launch);
                self.tell(device, Input::Stopped { launch });
            }
            _ if instance.phase == RunPhase::Stopping => {}
            Step::Started => {
                instance.phase = RunPhase::Running;
                let is_looping = self.crash_loops.iter().any(|(_, digest)| *digest == instance.kept.core.artifact);
                if is_looping {
                    self.counts.hit(Fault::CrashLoop);
                }
                let pause = match instance.kept.core.role {
                    _ if is_looping => Some((Step::Trapped, self.fate.between(10, 2_000))),
                    Role::Init | Role::Job => Some((Step::Completed, self.fate.between(100, 5_000))),
                    Role::Service if trouble.trap > 0 => Some((Step::Trapped, self.fate.between(50, 20_000))),
                    Role::Service => None,
                };
                if let Some((step, pause)) = pause {
                    self.after(pause, Event::Runtime { device, life, launch, step });
                }
                self.tell(device, Input::Started { launch });
            }
            Step::StartFails => {
                self.counts.hit(Fault::StartFails);
                node.runtime.count_failure(key);
                let ended = node.runtime.instances.remove(&launch);
                ended.into_iter().for_each(|ended| self.trial_fails(device, &ended.kept));
                let failure = Failure::LoadRefused;
                self.tell(device, Input::StartFailed { launch, failure, detail: "made to fail" });
            }
            Step::Completed => {
                node.runtime.complete(launch);
                self.tell(device, Input::Exited { launch, exit: Exit::Completed, detail: "" });
            }
            Step::Trapped => {
                if trouble.trap > 0 {
                    self.counts.hit(Fault::Trap);
                }
                node.runtime.count_failure(key);
                let ended = node.runtime.instances.remove(&launch);
                ended.into_iter().for_each(|ended| self.trial_fails(device, &ended.kept));
                let exit = Exit::Failed(Failure::Trapped);
                self.tell(device, Input::Exited { launch, exit, detail: "made to trap" });
            }
            Step::Activated if self.options.plant == Plant::RuntimeForgets && self.phase != Phase::Safety => {
                node.runtime.instances.remove(&launch);
                self.tell(device, Input::Activated { launch, trigger: Trigger::Timer });
            }
            Step::Activated => {
                instance.is_activated = false;
                let speaks = self.random.chance(400);
                let emits = self.random.chance(if self.options.is_long { 500 } else { 100 });
                let said = emits.then(|| payload_of(instance.kept.core.workload, &instance.terms));
                if speaks {
                    self.log_line(device, launch);
                }
                self.tells(device, launch);
                if let Some(payload) = said {
                    self.tell(device, Input::Emit { launch, topic: "news/weather", payload: &payload });
                }
                self.tell(device, Input::Activated { launch, trigger: Trigger::Timer });
            }
        }
    }

    pub fn log_line(&mut self, device: usize, launch: LaunchId) {
        let node = &mut self.devices[device];
        node.runtime.lines += 1;
        let text = format!("line {} of {}", node.runtime.lines, node.name);
        self.tell(device, Input::Log { launch, level: Level::Info, text: &text });
    }

    pub fn log_storm(&mut self, device: usize) {
        let node = &self.devices[device];
        let Some(launch) = node.runtime.instances.keys().next().copied() else { return };
        if node.trouble.paused > 0 {
            return;
        }
        self.counts.hit(Fault::LogStorm);
        for _ in 0..STORM_LINES {
            self.log_line(device, launch);
        }
        self.sample_storm(device, launch);
    }

    // --- The link ---

    pub fn device_receives(&mut self, device: usize, number: u32, packet: Packet) {
        if self.devices[device].connection != Some(number) {
            return;
        }
        match packet {
            Packet::Accepted => self.tell(device, Input::LinkUp),
            Packet::Subscribed(Filter::Device(subscription)) => self.tell(device, Input::Subscribed(subscription)),
            Packet::Acknowledged { ticket } => {
                self.devices[device].seen.acknowledged();
                let ticket = Ticket(u32::try_from(ticket).unwrap_or(0));
                self.tell(device, Input::Acknowledged { ticket });
            }
            Packet::Message { topic, payload, .. } => {
                if let Topic::Down(_, down) = topic
                    && !down.is_retained()
                {
                    self.devices[device].tape.record(down, &payload);
                    self.ledger_hears(device, down, &payload);
                }
                self.device_takes(device, topic, &payload);
            }
            _ => {}
        }
    }

    /// A message as the client library hands it over.
    pub fn device_takes(&mut self, device: usize, topic: Topic, payload: &[u8]) {
        let from = match topic {
            Topic::Down(_, down) => Inbound::Down(down),
            Topic::HubState => Inbound::HubState,
            _ => return self.fail(|| format!("dev-{device} received {topic:?}")),
        };
        self.trace.mix_bytes(payload);
        self.devices[device].seen.received(from, payload.len());
        self.tell(device, Input::Message { from, payload });
    }

    pub fn device_link_lost(&mut self, device: usize, number: u32) {
        if self.devices[device].connection == Some(number) {
            self.devices[device].connection = None;
            self.tell(device, Input::LinkDown);
        }
    }
}
