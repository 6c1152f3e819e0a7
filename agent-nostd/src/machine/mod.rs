//! THE agent machine: what a device does, as a value. The same code runs on Linux, on microcontrollers and in the simulator.
//!
//! It has no clock, I/O, thread, allocation, global or random source: time, entropy and bytes are arguments. It reconciles from
//! state on every poll and starts or reports nothing before its revision is durable. Files by concern; `port` is the boundary.
pub mod accept;
mod assign;
pub mod boot;
mod content;
mod deliver;
pub mod keep;
pub mod lease;
mod outbox;
mod outcome;
pub mod port;
pub mod random;
pub mod reconcile;
pub mod report;
pub mod session;
mod set;
mod shelf;
pub mod slot;
pub mod stale;
pub mod telemetry;
pub mod time;

#[cfg(test)]
mod tests;

use self::accept::Intake;
use self::keep::Keep;
use self::lease::{Fences, Lease};
use self::outbox::{Outbox, Ring};
use self::outcome::End;
use self::port::{
    AGENT_WORKLOAD, Buffers, Config, Content, Effect, Inbound, Input, JournalKey, LaunchId, LinkState, Quality,
    Restored, Source, Subscription, Terms, Ticket, Trigger,
};
use self::report::Report;
use self::session::{Link, Session};
use self::set::SetBuffer;
use self::slot::{From, Slot};
use self::stale::Kept;
use self::telemetry::Telemetry;
use self::time::{Duration, Instant, earliest};
use core::mem::MaybeUninit;
use wire::hello::{Capabilities, Report as ReportRequest};
use wire::status::Refused;
use wire::topic::{Down, Up};
use wire::transfer::Command;
use wire::{BootId, Digest, Kind};

/// Unused artifacts are collected at most this often.
pub const COLLECT_EVERY: Duration = Duration::from_secs(10);
/// Bytes of a status entry without its detail, and of a status around its entries; rounded up.
const ENTRY_BYTES: usize = 40;
const STATUS_BYTES: usize = 256;
const _: () = assert!(boot::ATTEMPT_BYTES <= ENTRY_BYTES);

/// An effect before its bytes are looked up: the machine can go on deciding while it holds one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Todo {
    Connect { length: usize },
    Disconnect,
    Subscribe(Subscription),
    Publish { topic: Up, length: usize, quality: Quality, ticket: Ticket },
    Persist { ticket: Ticket, key: JournalKey, length: usize },
    Fetch { content: Content, digest: Digest, bytes: u32, source: Source },
    Start { launch: LaunchId, from: From, offset: u32, terms: Terms },
    Extend { launch: LaunchId, terms: Terms },
    Stop { launch: LaunchId, grace: Duration },
    Activate { launch: LaunchId, trigger: Trigger },
    Deliver { launch: LaunchId, topic: usize, length: usize },
    Collect,
}

/// The machine, for up to `SLOTS` components at the same time.
pub struct Agent<'b, const SLOTS: usize> {
    config: Config<'b>,
    boot: BootId,
    started_at: Instant,
    current: SetBuffer<'b>,
    last_good: SetBuffer<'b>,
    incoming: SetBuffer<'b>,
    intake: Intake,
    refused: Refused,
    applied_at: Instant,
    /// The accepted set is the last good one.
    is_promoted: bool,
    slots: heapless::Vec<Slot, SLOTS>,
    /// Records wait for slots that are still stopping.
    has_unassigned: bool,
    /// Something here runs, or is to run, under a right or for a limited time without the hub.
    has_terms: bool,
    leases: heapless::Vec<Lease, SLOTS>,
    fences: Fences,
    kept: Kept,
    /// The hub is to be heard at least this often.
    fresh_every: Duration,
    keep: Keep,
    crashes: u8,
    is_careful: bool,
    session: Session,
    wants_disconnect: bool,
    /// The link was given up within `handle`; the shell does not know yet.
    owes_disconnect: bool,
    report: Report,
    logs: Outbox<'b>,
    events: Outbox<'b>,
    telemetry: Telemetry<'b>,
    inputs: Ring<'b>,
    inputs_seen: u32,
    inputs_dropped: u32,
    outgoing: &'b mut [u8],
    next_ticket: u32,
    next_launch: u32,
    collect_at: Option<Instant>,
    collected_at: Option<Instant>,
    is_shutting_down: bool,
}

impl<const SLOTS: usize> core::fmt::Debug for Agent<'_, SLOTS> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Agent")
            .field("device", &self.config.device)
            .field("slots", &self.slots.len())
            .finish_non_exhaustive()
    }
}

impl<'b, const SLOTS: usize> Agent<'b, SLOTS> {
    /// Takes up where the journal left off. What was accepted starts with the next polls, with or without a hub.
    pub fn new(now: Instant, config: Config<'b>, buffers: Buffers<'b>, restored: Restored<'_>) -> Self {
        let mut agent = Self::blank(now, config, buffers, &restored);
        agent.restore(now, &restored);
        agent
    }

    /// As `new`, where the machine is to stay: parts with a small stack have no room for it on its way there.
    pub fn new_in<'p>(
        place: &'p mut MaybeUninit<Self>,
        now: Instant,
        config: Config<'b>,
        buffers: Buffers<'b>,
        restored: Restored<'_>,
    ) -> &'p mut Self {
        let agent = place.write(Self::blank(now, config, buffers, &restored));
        agent.restore(now, &restored);
        agent
    }

    /// Without what the journal has, but for the clock's value. Always inlined, because only then is it made in its place.
    #[inline(always)]
    fn blank(now: Instant, mut config: Config<'b>, buffers: Buffers<'b>, restored: &Restored<'_>) -> Self {
        let boot = BootId(config.random.bytes());
        let [a, b, c, d, ..] = config.random.bytes();
        let stream = u32::from_le_bytes([a, b, c, d]);
        let first_connect = config.random.up_to(session::CONNECT_BACK_OFF_BASE);
        let (current, last_good) = (SetBuffer::new(buffers.current), SetBuffer::new(buffers.last_good));
        let incoming = SetBuffer::new(buffers.incoming);
        let room = current.body_bytes_max().min(last_good.body_bytes_max()).min(incoming.body_bytes_max());
        let told = buffers.outgoing.len().saturating_sub(STATUS_BYTES) / ENTRY_BYTES;
        let records = SLOTS.min(told).min(usize::from(config.capabilities.records));
        config.capabilities.records = u16::try_from(records).unwrap_or(u16::MAX);
        config.capabilities.body_bytes = config.capabilities.body_bytes.min(u32::try_from(room).unwrap_or(u32::MAX));
        Self {
            config,
            boot,
            started_at: now,
            current,
            last_good,
            incoming,
            intake: Intake::default(),
            refused: Refused::default(),
            applied_at: now,
            is_promoted: false,
            slots: heapless::Vec::new(),
            has_unassigned: false,
            has_terms: false,
            leases: heapless::Vec::new(),
            fences: Fences::default(),
            kept: Kept::read(restored.clock),
            fresh_every: session::FRESH_EVERY_MAX,
            keep: Keep::default(),
            crashes: 0,
            is_careful: false,
            session: Session::new(now.after(first_connect)),
            wants_disconnect: false,
            owes_disconnect: false,
            report: Report::default(),
            logs: Outbox::new(buffers.logs),
            events: Outbox::new(buffers.events),
            telemetry: Telemetry::new(buffers.alarms, buffers.states, buffers.metrics, buffers.outgoing.len(), stream),
            inputs: Ring::new(buffers.inputs),
            inputs_seen: 0,
            inputs_dropped: 0,
            outgoing: buffers.outgoing,
            next_ticket: 1,
            next_launch: 1,
            // What an earlier boot left behind.
            collect_at: Some(now.after(COLLECT_EVERY)),
            collected_at: None,
            is_shutting_down: false,
        }
    }

    /// Takes one input. `now` never goes back. Never fails: what makes no sense changes nothing, or a counter.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::LinkUp => self.link_up(now),
            Input::LinkDown => self.link_down(now),
            Input::LinkTaken => self.link_taken(now),
            Input::Subscribed(subscription) => self.subscribed(subscription),
            Input::SubscribeRefused(subscription) => self.subscribe_refused(now, subscription),
            Input::Message { from, payload } => self.on_message(now, from, payload),
            Input::Acknowledged { ticket } => {
                self.hello_acknowledged(ticket);
                self.report.acknowledged(ticket);
                self.logs.acknowledged(ticket);
                self.events.acknowledged(ticket);
                self.release_acknowledged(ticket);
                self.telemetry.acknowledged(now, ticket);
            }
            Input::Persisted { ticket } => self.persisted(now, ticket),
            Input::PersistFailed { ticket, failure } => self.persist_failed(now, ticket, failure),
            Input::Fetched { digest } => self.fetched(&digest),
            Input::BodyFetched { digest, bytes } => self.on_body(now, &digest, bytes),
            Input::FetchFailed { content, digest, failure } => match content {
                Content::Artifact => self.fetch_failed(now, &digest, failure),
                Content::Body => self.body_failed(now, &digest, failure),
            },
            Input::Started { launch } => self.started(now, launch),
            Input::StartFailed { launch, failure, detail } => {
                self.ended(now, launch, End::StartFailed(failure), detail)
            }
            Input::Stopped { launch } => self.ended(now, launch, End::Stopped, ""),
            Input::Exited { launch, exit, detail } => self.ended(now, launch, End::Exited(exit), detail),
            Input::Activated { launch, trigger: Trigger::Timer } => self.activated(launch),
            Input::Log { launch, level, text } => self.log(now, launch, level, text),
            Input::AgentLog { level, text } => self.push_log(now, AGENT_WORKLOAD, 0, level, text),
            Input::Emit { launch, topic, payload } => self.emit(now, launch, topic, payload),
            Input::Tell { launch, telling } => self.tell(now, launch, &telling),
            Input::Position(position) => {
                self.report.set_position(now, position);
            }
            Input::Resources { memory_free_bytes, storage_free_bytes } => {
                self.report.memory_free_bytes = memory_free_bytes;
                self.report.storage_free_bytes = storage_free_bytes;
            }
            Input::Wear(wear) => self.session.wear = Some(wear),
            Input::Behind(gateway) => self.session.set_behind(gateway),
            Input::Shutdown => {
                self.is_shutting_down = true;
                self.telemetry.hurry(now);
            }
        }
    }

    fn on_message(&mut self, now: Instant, from: Inbound, payload: &[u8]) {
        match from {
            Inbound::HubState => self.on_hub_state(now, payload),
            Inbound::Down(Down::Desired) => self.on_desired(now, payload),
            Inbound::Down(Down::Input) => self.on_input(now, payload),
            Inbound::Down(Down::Grant) => self.on_grant(now, payload),
            Inbound::Down(Down::Fresh | Down::Command) => match wire::frame::peek(payload) {
                Ok(Kind::Fresh) => self.on_fresh(now, payload),
                Ok(Kind::Refusal) => self.on_refusal(now, payload),
                Ok(Kind::Report) => self.on_report(now, payload),
                Ok(Kind::Command) => self.on_command(payload),
                Ok(Kind::Taken) => self.on_taken(now, payload),
                Ok(_) | Err(_) => {}
            },
            // Not yet: a trust chain beyond the pinned key. Chunks are the business of the shell that asked for them (`chunk`).
            Inbound::Down(Down::Trust | Down::Chunk) => {}
        }
    }

    fn on_report(&mut self, now: Instant, payload: &[u8]) {
        let Some(context) = self.session_context() else { return };
        if let Ok(request) = wire::frame::decode_live::<ReportRequest>(payload, self.config.pair_key, &context) {
            self.on_asks(now, request.asks);
        }
    }

    /// Nothing is executed yet, so no id has to be persisted first.
    fn on_command(&mut self, payload: &[u8]) {
        let Some(context) = self.session_context() else { return };
        if let Ok(command) = wire::frame::decode_live::<Command>(payload, self.config.pair_key, &context) {
            self.report.unsupported = Some(command.id);
        }
    }

    /// The next thing to do; to be called until `None` after each input and each deadline.
    pub fn poll(&mut self, now: Instant) -> Option<Effect<'_>> {
        let todo = self.next(now)?;
        self.effect(todo)
    }

    fn next(&mut self, now: Instant) -> Option<Todo> {
        if core::mem::take(&mut self.owes_disconnect) {
            return Some(Todo::Disconnect);
        }
        self.poll_crashes(now);
        self.poll_alarms(now);
        self.poll_promotion(now);
        self.poll_cover(now);
        self.poll_ends(now)
            .or_else(|| self.poll_slots(now))
            .or_else(|| self.poll_inputs())
            .or_else(|| self.poll_keep(now))
            .or_else(|| self.poll_body(now))
            .or_else(|| self.poll_session(now))
            .or_else(|| self.poll_leases(now))
            .or_else(|| self.poll_report(now))
            .or_else(|| self.poll_collect(now))
            .or_else(|| self.poll_shutdown(now))
    }

    fn poll_collect(&mut self, now: Instant) -> Option<Todo> {
        if self.collect_due()? > now {
            return None;
        }
        self.collect_at = None;
        self.collected_at = Some(now);
        Some(Todo::Collect)
    }

    fn collect_due(&self) -> Option<Instant> {
        // A device whose journal was lost keeps its artifacts until it knows what it needs.
        self.current.header().filter(|_| !self.is_shutting_down)?;
        let at = self.collect_at?;
        Some(self.collected_at.map_or(at, |last| at.max(last.after(COLLECT_EVERY))))
    }

    fn poll_shutdown(&mut self, now: Instant) -> Option<Todo> {
        if !self.is_shutting_down || self.slots.iter().any(|slot| slot.live.is_some()) || self.is_releasing(now) {
            return None;
        }
        match core::mem::take(&mut self.session.link) {
            Link::Up | Link::Connecting { .. } => Some(Todo::Disconnect),
            Link::Offline { .. } | Link::Finished => None,
        }
    }

    fn effect(&self, todo: Todo) -> Option<Effect<'_>> {
        let outgoing = |length: usize| self.outgoing.get(..length);
        Some(match todo {
            Todo::Connect { length } => Effect::Connect { will: outgoing(length)? },
            Todo::Disconnect => Effect::Disconnect,
            Todo::Subscribe(subscription) => Effect::Subscribe(subscription),
            Todo::Publish { topic, length, quality, ticket } => {
                Effect::Publish { topic, payload: outgoing(length)?, quality, ticket }
            }
            Todo::Persist { ticket, key, length } => {
                let value = match key {
                    JournalKey::Accepted => self.incoming.value(),
                    JournalKey::LastGood => self.last_good.value(),
                    JournalKey::Boot | JournalKey::Attempts | JournalKey::Clock | JournalKey::Alarms => {
                        outgoing(length)?
                    }
                };
                Effect::Persist { ticket, key, value }
            }
            Todo::Fetch { content, digest, bytes, source } => Effect::Fetch { content, digest, bytes, source },
            Todo::Start { launch, from, offset, terms } => {
                Effect::Start { launch, record: self.record_of(from, offset)?, terms }
            }
            Todo::Extend { launch, terms } => Effect::Extend { launch, terms },
            Todo::Stop { launch, grace } => Effect::Stop { launch, grace },
            Todo::Activate { launch, trigger } => Effect::Activate { launch, trigger },
            Todo::Deliver { launch, topic, length } => {
                let (topic, payload) = outgoing(length)?.split_at_checked(topic)?;
                Effect::Deliver { launch, topic: core::str::from_utf8(topic).ok()?, payload }
            }
            Todo::Collect => Effect::Collect,
        })
    }

    /// When `poll` has to be called although no input came. May be early, never late.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let always = earliest(self.slots_deadline(), self.intake_deadline());
        let link = earliest(self.session_deadline(), self.report_deadline());
        let kept = earliest(self.crashes_deadline(), self.telemetry.save_deadline());
        let rest = earliest(kept, self.collect_due());
        let terms = earliest(self.leases_deadline(), self.cover_deadline());
        earliest(earliest(always, terms), earliest(link, rest))
    }

    /// After `Shutdown`: nothing runs and no connection is open.
    pub fn is_finished(&self) -> bool {
        let is_silent = !self.session.is_up() && !matches!(self.session.link, Link::Connecting { .. });
        self.is_shutting_down && is_silent && self.slots.iter().all(|slot| slot.live.is_none())
    }

    pub fn link(&self) -> LinkState {
        self.session.state()
    }

    pub fn boot(&self) -> BootId {
        self.boot
    }

    /// Wall time, once the hub has told it.
    pub fn unix_ms(&self, now: Instant) -> Option<u64> {
        self.session.unix_ms(now)
    }

    /// Messages for functions that found no room.
    pub fn inputs_dropped(&self) -> u32 {
        self.inputs_dropped
    }

    /// What this device says it can hold: the configuration, lowered to the memory that it was given.
    pub fn capabilities(&self) -> &Capabilities<'b> {
        &self.config.capabilities
    }

    fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket = self.next_ticket.wrapping_add(1);
        ticket
    }
}
