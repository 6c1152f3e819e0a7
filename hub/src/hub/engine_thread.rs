//! The engine's thread: feeds it what happened and the time, and carries out what it wants.
//!
//! It decides nothing. It never waits for the writer, the link or an edge: while the writer or the link has no room the
//! engine is not asked for more, so that inputs pile up in their bounded queue and new requests are refused there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{self, Duration, SystemTime};

use futures_lite::future;
use rustix::time::{ClockId, clock_gettime};
use wire::topic::Topic;

use super::contents::Contents;
use super::door::Door;
use super::held::{Held, Waiting};
use super::place::Place;
use crate::broker::AccessTable;
use crate::commit::{Batch, CommitFailure};
use crate::engine::Engine;
use crate::engine::port::{AccessChange, Answer, Effect, Input, Instant, Now, Problem, Publication, Ticket};
use crate::grants::Grants;
use crate::handle::{Inbox, Message, Switchboard};
use crate::metrics::Metrics;
use crate::mqtt::{self, Link, PublishError};
use crate::store::{SubmitError, Writer};

/// Inputs taken in before effects are carried out again.
const BURST_MAX: usize = 256;
/// Publications that wait for room in the link before the engine is not asked for more.
pub const PUBLICATIONS_WAITING_MAX: usize = 1_024;
/// How soon to look again when the writer or the link had no room.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(2);
/// How soon to look whether a broker elsewhere knows what it was told.
const HELD_PAUSE: Duration = Duration::from_millis(10);

/// Everything that the thread owns.
pub(super) struct EngineThread {
    pub(super) engine: Engine,
    pub(super) inbox: Inbox,
    pub(super) writer: Writer,
    pub(super) link: Link,
    pub(super) access: Arc<AccessTable>,
    pub(super) broker: Arc<Place>,
    pub(super) fleet: String,
    pub(super) metrics: Metrics,
    pub(super) grants: Arc<Grants>,
    /// After the inbox, whose end it may be waiting for.
    pub(super) contents: Contents,
    /// `None`: the broker is this process, whose end is seen otherwise.
    pub(super) door: Option<Door>,
}

struct Running {
    owned: EngineThread,
    board: Switchboard,
    /// The link was full: these go first.
    waiting: VecDeque<Publication>,
    /// What may leave when the broker knows the accounts that it speaks of.
    held: Held,
    began: Duration,
    /// Batches at the writer, and since when.
    submitted: VecDeque<(u64, time::Instant)>,
}

/// Time since the machine started. Counts suspend, as wall time does: a sleep must not look like a jump of the clock, and
/// nothing that was granted may last longer here than on a device that stayed awake.
fn boot_time() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What ended a wait. Made once for each and taken apart at once, so that its size costs nothing.
#[allow(clippy::large_enum_variant)]
enum Woken {
    By(Message),
    ByTime,
    /// All handles are gone.
    ByEnd,
}

impl EngineThread {
    pub(super) fn start(self) -> std::io::Result<thread::JoinHandle<()>> {
        thread::Builder::new().name("engine".to_owned()).spawn(move || {
            let running = Running {
                owned: self,
                board: Switchboard::default(),
                waiting: VecDeque::new(),
                held: Held::default(),
                began: boot_time(),
                submitted: VecDeque::new(),
            };
            running.run();
        })
    }
}

impl Running {
    fn run(mut self) {
        loop {
            self.perform();
            let woken = self.wait();
            if self.take_in(woken).is_none() {
                break;
            }
        }
        // Nobody must wait for room in a queue that is not emptied any more.
        self.owned.inbox.close();
        self.owned.link.stop();
        if !self.owned.writer.stop() {
            tracing::error!("changes that were not answered may be lost");
        }
    }

    fn now(&self) -> Now {
        let monotonic = u64::try_from(boot_time().saturating_sub(self.began).as_millis()).unwrap_or(u64::MAX);
        // Before 1970 the clock was never set: zero says so.
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now { monotonic: Instant(monotonic), wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) }
    }

    fn has_room(&self) -> bool {
        !self.owned.writer.is_full() && self.waiting.len() < PUBLICATIONS_WAITING_MAX
    }

    /// Carries out what the engine wants, until it wants nothing or there is no room.
    fn perform(&mut self) {
        self.release();
        while let Some(publication) = self.waiting.pop_front() {
            if let Some(back) = self.publish(publication) {
                self.waiting.push_front(back);
                break;
            }
        }
        while self.has_room() {
            let Some(effect) = self.poll() else { return };
            match effect {
                Effect::Commit(batch) => self.commit(batch),
                Effect::Publish(publication) => {
                    if let Some(publication) = self.hold_publication(publication) {
                        self.send(publication);
                    }
                }
                Effect::Answer { ticket, result } => {
                    if let Some(result) = self.hold_answer(ticket, result) {
                        self.board.answer(ticket, result);
                    }
                }
                Effect::Stream { ticket, item } => {
                    if let Some(input) = self.board.stream(ticket, item) {
                        self.owned.engine.handle(self.now(), input);
                    }
                }
                Effect::Access(change) => self.change_access(change),
                Effect::Probe => self.owned.door.iter().for_each(Door::look),
                Effect::Read(read) => {
                    if let Some(input) = self.owned.contents.read(read) {
                        self.handle(input);
                    }
                }
            }
        }
    }

    fn poll(&mut self) -> Option<Effect> {
        let (runs, began) = (self.owned.engine.scheduler_runs(), time::Instant::now());
        let effect = self.owned.engine.poll(self.now());
        if self.owned.engine.scheduler_runs() != runs {
            self.owned.metrics.scheduled(began.elapsed());
        }
        effect
    }

    /// Hands an input to the engine, and notes what it says about time.
    fn handle(&mut self, input: Input) {
        let metrics = &self.owned.metrics;
        match &input {
            Input::Up { .. } | Input::Join { .. } => metrics.message_in(),
            Input::Committed { sequence, .. } => {
                while let Some((_, since)) = self.submitted.pop_front_if(|(at, _)| *at <= *sequence) {
                    metrics.committed(since.elapsed());
                }
            }
            Input::Failed { .. } => {
                metrics.commit_failed();
                self.submitted.clear();
            }
            _ => {}
        }
        let now = self.now();
        self.owned.engine.handle(now, input);
    }

    fn commit(&mut self, batch: Batch) {
        let sequence = batch.sequence;
        self.submitted.push_back((sequence, time::Instant::now()));
        if let Err(error) = self.owned.writer.submit(batch) {
            // Room was checked and nobody else submits: only a writer that is gone comes here.
            let (SubmitError::Full(_) | SubmitError::Ended(_)) = error;
            tracing::error!(sequence, "the writer takes no batch");
            self.handle(Input::Failed { sequence, reason: CommitFailure::Io });
        }
    }

    /// Gives the publication back when the link has no room.
    fn publish(&mut self, publication: Publication) -> Option<Publication> {
        let Publication { publication: ticket, topic, payload, retain, qos1 } = publication;
        match self.owned.link.publish(mqtt::Publication { topic, payload, retain, qos1, ticket }) {
            Ok(()) => {
                self.owned.metrics.message_out();
                None
            }
            Err(PublishError::Full(back)) => {
                let mqtt::Publication { topic, payload, retain, qos1, ticket } = back;
                Some(Publication { publication: ticket, topic, payload, retain, qos1 })
            }
            // The engine hears of the lost connection by itself, and forgets everything under way.
            Err(PublishError::Offline(_)) => None,
            Err(error @ PublishError::Invalid(_)) => {
                tracing::error!(%error, "a publication was not sent");
                if qos1 {
                    self.owned.engine.handle(self.now(), Input::PublishRefused { publication: ticket });
                }
                None
            }
        }
    }

    /// In the order of the engine, behind those that found no room.
    fn send(&mut self, publication: Publication) {
        if !self.waiting.is_empty() {
            self.waiting.push_back(publication);
            return;
        }
        let back = self.publish(publication);
        self.waiting.extend(back);
    }

    /// Gives it back unless it tells a device of an account that the broker does not have yet.
    fn hold_publication(&mut self, publication: Publication) -> Option<Publication> {
        let is_join = |text: &str| matches!(Topic::parse(&self.owned.fleet, text), Some(Topic::JoinAnswer(_)));
        if !self.held.is_early(self.owned.broker.settled()) || !is_join(&publication.topic) {
            return Some(publication);
        }
        if !self.held.put(Waiting::Publication(publication)) {
            // The device asks again.
            tracing::warn!("too many joins wait for the broker; the answer to one is dropped");
        }
        None
    }

    /// Gives it back unless it is a join token that the broker does not know yet.
    fn hold_answer(&mut self, ticket: Ticket, result: Result<Answer, Problem>) -> Option<Result<Answer, Problem>> {
        let broker = &self.owned.broker;
        let is_token = matches!(result, Ok(Answer::Token { .. }));
        // Without a connection nobody could use it anyway, and whoever asked need not wait for that.
        if !is_token || !broker.is_connected() || !self.held.is_early(broker.settled()) || self.held.is_full() {
            return Some(result);
        }
        self.held.put(Waiting::Answer(ticket, Box::new(result)));
        None
    }

    fn release(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let (settled, is_connected) = (self.owned.broker.settled(), self.owned.broker.is_connected());
        while let Some(waiting) = self.held.take(settled, is_connected, self.owned.link.is_connected()) {
            match waiting {
                Waiting::Publication(publication) => self.send(publication),
                Waiting::Answer(ticket, result) => self.board.answer(ticket, *result),
            }
        }
    }

    fn change_access(&mut self, change: AccessChange) {
        let EngineThread { access, broker, grants, .. } = &self.owned;
        let entered = match change {
            AccessChange::DevicePut { id, credential_sha256, origin } => {
                let is_replaced = access.device_remove(&id.text());
                let entered = access.device_put(&id.text(), credential_sha256);
                entered.map(|()| self.held.expect(broker.device_put(id, &credential_sha256, origin, is_replaced)))
            }
            AccessChange::DeviceRemove { id } => {
                access.device_remove(&id.text());
                broker.device_remove(id);
                Ok(())
            }
            AccessChange::GrantPut { sha256, grant } => {
                grants.put(sha256, grant);
                Ok(())
            }
            AccessChange::GrantRemove { sha256 } => {
                grants.remove(&sha256);
                Ok(())
            }
            AccessChange::JoinPut { token, secret_sha256 } => {
                let entered = access.join_put(&token.to_string(), secret_sha256);
                entered.map(|()| self.held.expect(broker.join_put(token, &secret_sha256)))
            }
            AccessChange::HubPut => {
                broker.hub_put();
                Ok(())
            }
            AccessChange::JoinRemove { token } => {
                access.join_remove(&token.to_string());
                broker.join_remove(token);
                Ok(())
            }
        };
        if let Err(error) = entered {
            tracing::error!(%error, "a credential was not entered");
        }
    }

    fn wait(&mut self) -> Woken {
        if let Some(message) = self.owned.inbox.try_recv() {
            return Woken::By(message);
        }
        let pause = self.pause();
        let message = async { self.owned.inbox.recv().await.map_or(Woken::ByEnd, Woken::By) };
        let time = async {
            match pause {
                Some(pause) => drop(smol::Timer::after(pause).await),
                None => future::pending().await,
            }
            Woken::ByTime
        };
        smol::block_on(future::or(message, time))
    }

    /// How long to wait at most; `None`: for the next message.
    fn pause(&self) -> Option<Duration> {
        let due = self.owned.engine.poll_timeout().map(|due| due.since(self.now().monotonic));
        let longest = if !self.waiting.is_empty() || !self.has_room() {
            NO_ROOM_PAUSE
        } else if !self.held.is_empty() {
            HELD_PAUSE
        } else {
            return due;
        };
        Some(due.map_or(longest, |due| due.min(longest)))
    }

    /// `None` when it is time to end.
    fn take_in(&mut self, woken: Woken) -> Option<()> {
        let first = match woken {
            Woken::By(message) => message,
            Woken::ByTime => return Some(()),
            Woken::ByEnd => return None,
        };
        let mut next = Some(first);
        for _ in 0..BURST_MAX {
            let Some(message) = next else { return Some(()) };
            let input = self.board.accept(message)?;
            if matches!(input, Input::LinkDown) {
                // What the link did not take is forgotten like what it took.
                self.waiting.clear();
                self.owned.broker.link_lost();
            }
            self.handle(input);
            next = self.owned.inbox.try_recv();
        }
        match next {
            Some(message) => {
                let input = self.board.accept(message)?;
                self.handle(input);
                Some(())
            }
            None => Some(()),
        }
    }
}
