//! The hub's process: the real engine between doubles of disk and link.
//!
//! What the engine says after a crash of its process is lost with it; what is durable is not.
use super::disk::{Durable, Queue};
use super::fault::Fault;
use super::network::{Client, Filter, Packet, User, Way};
use super::world::{Event, FLEET, HubNode, Plant, WALL_START_MS, World};
use hub::commit::CommitFailure;
use hub::engine::{AccessChange, Effect, Engine, EngineConfig, Input, Instant, Now, Publication};
use std::time::Duration;
use wire::Instance;
use wire::dalek::ExchangeSecret;
use wire::topic::Topic;

/// Effects of one drain until nothing is left.
const EFFECTS_MAX: usize = 20_000;
/// Batches that wait for the writer, as in the store.
const BATCHES_MAX: usize = 1_024;

impl HubNode {
    pub fn new(client: Client, durable: Durable) -> Self {
        Self {
            client,
            engine: None,
            durable,
            queue: Queue::default(),
            life: 0,
            connection: None,
            is_linked: false,
            wake_ms: None,
            commit_slow: 0,
            disk_full: 0,
            kill: None,
            paused: 0,
            held: Vec::new(),
            wall_offset_ms: 0,
            jumped_ms: None,
        }
    }

    pub fn is_rival(&self) -> bool {
        self.client == Client::Rival
    }

    pub fn is_up(&self) -> bool {
        self.engine.is_some()
    }
}

impl World<'_> {
    pub fn hub_now(&self) -> Now {
        let wall_ms = (WALL_START_MS + self.now).saturating_add_signed(self.hub.wall_offset_ms);
        Now { monotonic: Instant(self.now + 1_000), wall_ms }
    }

    pub fn hub_start(&mut self) {
        if self.hub.is_up() {
            return;
        }
        let life = self.hub_life_next();
        if !self.hub.is_rival() {
            self.judge_durable();
        }
        let now_ms = self.hub_now().wall_ms;
        let loaded = self.hub.durable.load(now_ms, FLEET, &*self.ground.signer, &self.hub_exchange);
        self.say(|world| {
            let client = world.hub.client;
            format!("{client:?} starts, incarnation {}, commit {}", loaded.incarnation, loaded.sequence)
        });
        if !self.hub.is_rival() {
            // As the shell does: the table of users is filled from what is durable. A copy knows the same ones.
            self.broker.forget_users();
            for row in self.hub.durable.devices.values() {
                self.broker.device_put(row.device, row.credential_sha256);
            }
            for row in self.hub.durable.tokens.values() {
                self.broker.token_put(row.id, row.secret_sha256);
            }
        }
        self.account_take();
        let exchange = Box::new(ExchangeSecret::from_seed(self.ground.hub_exchange_seed));
        let mut config = EngineConfig::new("mqtt://127.0.0.1:1883".into(), "http://127.0.0.1:7443".into(), exchange);
        config.sweep = Duration::from_secs(600);
        config.instance = Instance(u64::from(life).to_be_bytes());
        self.hub.engine = Some(Engine::new(config, loaded));
        self.hub.wake_ms = None;
        self.after(200, Event::HubConnect { life });
        self.hub_drive();
    }

    /// Whether the process ends at this moment of a step: before it is 0, 1 and 2 are within, after it is 3.
    fn is_killed(&mut self, fault: Fault, moment: u64) -> bool {
        let Some(kill) = self.hub.kill.as_mut().filter(|kill| kill.fault == fault && kill.moment == moment) else {
            return false;
        };
        match kill.after.checked_sub(1) {
            Some(left) => {
                kill.after = left;
                false
            }
            None => {
                self.hub_crash(fault);
                true
            }
        }
    }

    /// The process ends. Of the group that is being written, all, some or nothing became durable.
    pub fn hub_crash(&mut self, fault: Fault) {
        if !self.hub.is_up() {
            return;
        }
        self.counts.hit(fault);
        self.hub.kill = None;
        let pause = self.duration_ms();
        self.after(pause, Event::HubStart);
        let Queue { mut waiting, is_busy, failed_era } = std::mem::take(&mut self.hub.queue);
        let count = if is_busy { self.fate.index(waiting.len() + 1) } else { 0 };
        let mut written = 0;
        for batch in waiting.drain(..).take(count) {
            if self.hub.disk_full > 0 || failed_era.is_some_and(|era| era >= batch.era) {
                break;
            }
            written += 1;
            if let Err(what) = self.hub.durable.apply(batch, FLEET, &*self.ground.signer) {
                self.fail(|| what);
            }
        }
        self.say(|_| format!("-- {fault:?}; {written} batches became durable unseen"));
        self.hub.engine = None;
        self.hub_life_next();
        self.hub.is_linked = false;
        self.hub.wake_ms = None;
        if let Some(number) = self.hub.connection.take() {
            self.hang_up(number);
        }
        self.operator_lost_hub();
    }

    pub fn hub_connect(&mut self, life: u32) {
        if self.hub.life == life && self.hub.is_up() && self.hub.connection.is_none() {
            let number = self.dial(self.hub.client, User::Hub, None);
            self.hub.connection = Some(number);
            self.after(10_000, Event::HubSilence { connection: number });
        }
    }

    /// The client library gives up: no answer to the connect, or to its pings.
    pub fn hub_silence(&mut self, number: u32) {
        if self.hub.connection != Some(number) {
            return;
        }
        let link = self.links.entry(self.hub.client).or_default();
        if !self.hub.is_linked || link.stalled != [0, 0] {
            self.hang_up(number);
            self.hub_link_lost(number);
        }
    }

    pub fn hub_receives(&mut self, number: u32, packet: Packet) {
        if self.hub.connection != Some(number) {
            return;
        }
        match packet {
            Packet::Accepted => self.send(number, Way::Up, Packet::Subscribe(Filter::Hub)),
            Packet::Subscribed(_) => {
                self.hub.is_linked = true;
                self.contest_begins_anew();
                self.say(|world| format!("{:?} is connected", world.hub.client));
                self.hub_tell(Input::LinkUp);
            }
            Packet::Acknowledged { ticket } => self.hub_tell(Input::Acknowledged { publication: ticket }),
            Packet::Message { topic, payload, retained } => {
                self.trace.mix_bytes(&payload);
                match topic {
                    Topic::Up(device, topic) => self.hub_tell(Input::Up { device, topic, payload, retained }),
                    Topic::JoinRequest(token) => self.hub_tell(Input::Join { token, payload, retained }),
                    Topic::HubState => self.hub_tell(Input::HubStateSeen { payload, retained }),
                    Topic::Down(..) | Topic::JoinAnswer(_) => self.fail(|| format!("the hub received {topic:?}")),
                }
            }
            _ => {}
        }
    }

    pub fn hub_link_lost(&mut self, number: u32) {
        if self.hub.connection != Some(number) {
            return;
        }
        self.hub.connection = None;
        if std::mem::take(&mut self.hub.is_linked) {
            self.say(|world| format!("{:?} lost its connection", world.hub.client));
            self.hub_tell(Input::LinkDown);
        }
        let (life, pause) = (self.hub.life, self.random.between(50, 5_000));
        self.after(pause, Event::HubConnect { life });
    }

    pub fn hub_tell(&mut self, input: Input) {
        let now = self.hub_now();
        if let Some(engine) = self.hub.engine.as_mut() {
            engine.handle(now, input);
            self.hub_drive();
        }
    }

    pub fn hub_wake(&mut self, life: u32) {
        if self.hub.life == life && self.hub.wake_ms.is_some_and(|at| at <= self.now) {
            self.hub.wake_ms = None;
            self.hub_drive();
        }
    }

    pub fn hub_drive(&mut self) {
        let now = self.hub_now();
        let mut count = 0;
        while let Some(effect) = self.hub.engine.as_mut().and_then(|engine| engine.poll(now)) {
            self.hub_act(effect);
            count += 1;
            if count > EFFECTS_MAX {
                return self.fail(|| "the engine does not come to rest".to_owned());
            }
        }
        let Some(timeout) = self.hub.engine.as_ref().and_then(Engine::poll_timeout) else { return };
        let at = timeout.0.saturating_sub(1_000).max(self.now + 1);
        if self.hub.wake_ms.is_none_or(|wake| wake > at || wake <= self.now) {
            self.hub.wake_ms = Some(at);
            let life = self.hub.life;
            self.schedule(at, Event::HubWake { life });
        }
    }

    /// Of a new process of the hub, or of none.
    fn hub_life_next(&mut self) -> u32 {
        self.hub_lives += 1;
        self.hub.life = self.hub_lives;
        self.hub_lives
    }

    fn hub_act(&mut self, effect: Effect) {
        match effect {
            Effect::Commit(batch) => {
                self.trace.mix(batch.sequence);
                self.judge_batch(&batch);
                if self.is_killed(Fault::HubKilledAtCommit, 0) {
                    return;
                }
                self.hub.queue.waiting.push_back(batch);
                if self.hub.queue.waiting.len() > BATCHES_MAX {
                    self.fail(|| format!("more than {BATCHES_MAX} batches wait for the writer"));
                }
                self.write_next();
            }
            Effect::Publish(publication) => {
                if self.is_killed(Fault::HubKilledAtPublish, 0) || self.is_killed(Fault::HubKilledAtPublish, 1) {
                    return;
                }
                self.hub_publish(publication);
                // What was sent is on its way; what follows never leaves.
                let _ = self.is_killed(Fault::HubKilledAtPublish, 2) || self.is_killed(Fault::HubKilledAtPublish, 3);
            }
            Effect::Answer { ticket, result } => {
                if self.is_killed(Fault::HubKilledAtAnswer, 0) || self.is_killed(Fault::HubKilledAtAnswer, 1) {
                    return;
                }
                self.judge_answer(&result);
                self.answered(ticket, result);
                let _ = self.is_killed(Fault::HubKilledAtAnswer, 2) || self.is_killed(Fault::HubKilledAtAnswer, 3);
            }
            Effect::Stream { ticket, item } => {
                self.judge_item(&item);
                self.streamed(ticket, &item);
            }
            // Simulated devices fetch in one piece.
            Effect::Probe => self.hub_tell(Input::Door { is_open: self.broker.is_up }),
            Effect::Read(read) => self.hub_tell(Input::ContentRead { read: read.read, content: None }),
            Effect::Access(change) => match change {
                AccessChange::DevicePut { id, credential_sha256, .. } => self.broker.device_put(id, credential_sha256),
                AccessChange::DeviceRemove { id } => self.broker.device_remove(id),
                AccessChange::JoinPut { token, secret_sha256 } => self.broker.token_put(token, secret_sha256),
                AccessChange::JoinRemove { token } => self.broker.token_remove(token),
                AccessChange::HubPut => self.account_take(),
                AccessChange::GrantPut { .. } | AccessChange::GrantRemove { .. } => {}
            },
        }
    }

    fn hub_publish(&mut self, publication: Publication) {
        let Some(topic) = Topic::parse(FLEET, &publication.topic) else {
            return self.fail(|| format!("the hub publishes on {}", publication.topic));
        };
        self.judge_publication(topic, &publication);
        let Publication { publication: ticket, topic: _, payload, retain, qos1 } = publication;
        match self.hub.connection.filter(|_| self.hub.is_linked) {
            Some(number) => {
                self.send(number, Way::Up, Packet::Publish { topic, payload, retain, ticket: qos1.then_some(ticket) });
            }
            // The link takes nothing without a connection.
            None if qos1 => {
                let life = self.hub.life;
                self.after(0, Event::HubRefused { life, publication: ticket });
            }
            None => {}
        }
    }

    pub fn hub_refused(&mut self, life: u32, publication: u64) {
        if self.hub.life == life {
            self.hub_tell(Input::PublishRefused { publication });
        }
    }

    fn write_next(&mut self) {
        if self.hub.queue.is_busy || self.hub.queue.waiting.is_empty() {
            return;
        }
        self.hub.queue.is_busy = true;
        let pause = if self.hub.commit_slow > 0 {
            self.counts.hit(Fault::CommitSlow);
            self.fate.between(1_000, 15_000)
        } else {
            self.random.between(2, 40)
        };
        let life = self.hub.life;
        self.after(pause, Event::Written { life });
    }

    /// One group is done.
    pub fn written(&mut self, life: u32) {
        if self.hub.life != life {
            return;
        }
        if self.is_killed(Fault::HubKilledAtCommit, 1) {
            return;
        }
        self.hub.queue.is_busy = false;
        let group: Vec<_> = self.hub.queue.waiting.drain(..).collect();
        for batch in group {
            // It may have been killed while it was told of the one before.
            if self.hub.life != life {
                return;
            }
            if self.hub.queue.failed_era.is_some_and(|era| era >= batch.era) {
                continue;
            }
            let sequence = batch.sequence;
            if self.hub.disk_full > 0 {
                self.counts.hit(Fault::DiskFull);
                self.hub.queue.failed_era = Some(batch.era);
                self.say(|_| format!("commit {sequence} fails: the disk is full"));
                self.hub_tell(Input::Failed { sequence, reason: CommitFailure::DiskFull });
                continue;
            }
            if self.options.plant == Plant::DiskLies && sequence % 7 == 6 {
                self.hub.durable.sequence = sequence;
                self.hub_tell(Input::Committed { sequence, signed: Vec::new() });
                continue;
            }
            match self.hub.durable.apply(batch, FLEET, &*self.ground.signer) {
                Ok(signed) => {
                    // Durable, and nobody knows.
                    if self.is_killed(Fault::HubKilledAtCommit, 2) {
                        return;
                    }
                    self.hub_tell(Input::Committed { sequence, signed });
                }
                Err(what) => return self.fail(|| what),
            }
            let _ = self.is_killed(Fault::HubKilledAtCommit, 3);
        }
        if self.hub.life == life {
            self.write_next();
        }
    }
}
