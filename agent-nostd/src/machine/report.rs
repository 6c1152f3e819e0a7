//! What the hub is told: status whole when it changed or was asked for, heartbeats in between, logs and events from their rings.
//!
//! Nothing is said outside a session, and no more is in flight than has a name here.
use super::port::{AGENT_WORKLOAD, LaunchId, Quality, Ticket};
use super::random::Random;
use super::slot::Slot;
use super::time::{Duration, Instant, earliest, millis};
use super::{Agent, Todo};
use core::fmt::Write as _;
use wire::clause::Clause;
use wire::codec::{WireError, Writer};
use wire::event::{LOCAL_PREFIX, Level, LogFixed, LogRecord};
use wire::frame::{LIVE_OVERHEAD_BYTES, encode_live, encode_live_with};
use wire::hello::{Fresh, Heartbeat};
use wire::limits::{EVENT_BYTES_MAX, LOG_RECORDS_MAX, LOG_TEXT_BYTES_MAX, TOPIC_BYTES_MAX};
use wire::position::Position;
use wire::status::{Entry, Reason, StatusFixed, StatusWriter, truncate};
use wire::topic::Up;
use wire::transfer::{CommandOutcome, CommandResult};
use wire::{CommandId, DigestPrefix, Fence, Kind, LiveContext, WorkloadId};

/// Changes are collected for this long before a status is sent: one turn of a shell makes several.
pub const STATUS_COALESCE: Duration = Duration::from_millis(10);
/// A device that moves says so at most this often.
pub const POSITION_PAUSE: Duration = Duration::from_secs(30);
/// Statuses are at least this far apart in the long run.
pub const STATUS_PAUSE: Duration = Duration::from_secs(1);
/// So many may follow each other without the pause: the steps of one change, told while somebody waits for them.
pub const STATUS_BURST: u32 = 5;
pub const HEARTBEAT_MIN: Duration = Duration::from_secs(5);
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(3600);
/// Bytes of an encoded log or event record before it is queued.
const RECORD_BYTES_MAX: usize = 64 + TOPIC_BYTES_MAX + EVENT_BYTES_MAX;
/// Bytes of a log body around its records.
const LOG_FIXED_BYTES: usize = 32;
/// Bytes of an event body before the workload.
const EVENT_FIXED_BYTES: usize = 16;
const AGENT_COMPONENT: u8 = 0;

#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Something that a status tells may have changed.
    changed: bool,
    /// A status is wanted whether or not it changed.
    asked: bool,
    status_at: Option<Instant>,
    /// Up to when the statuses that were sent have used up the long-run rate.
    status_paid_until: Instant,
    /// Content of the last status that was sent, and of the last that was acknowledged.
    sent: DigestPrefix,
    acknowledged: Option<DigestPrefix>,
    status_flight: Option<(Ticket, DigestPrefix, Instant)>,
    sequence: u32,
    heartbeat_every: Duration,
    heartbeat_at: Option<Instant>,
    heartbeat_flight: Option<(Ticket, Instant)>,
    /// A command that this agent cannot execute.
    pub unsupported: Option<CommandId>,
    position: Option<Position>,
    /// What statuses say until the next one may be told: heartbeats vouch for it.
    position_told: Option<Position>,
    position_at: Option<Instant>,
    position_told_at: Option<Instant>,
    pub memory_free_bytes: u32,
    pub storage_free_bytes: u64,
}

impl Report {
    pub fn changed(&mut self) {
        self.changed = true;
    }

    pub fn ask(&mut self) {
        self.asked = true;
    }

    pub fn set_position(&mut self, now: Instant, position: Option<Position>) {
        if self.position != position {
            self.position = position;
            let allowed_at = self.position_told_at.map_or(now, |at| at.after(POSITION_PAUSE));
            self.position_at.get_or_insert(allowed_at.max(now));
        }
    }

    pub fn link_lost(&mut self) {
        self.status_flight = None;
        self.heartbeat_flight = None;
        self.heartbeat_at = None;
        self.changed = true;
    }

    pub fn fresh(
        &mut self,
        now: Instant,
        fresh: &Fresh,
        is_first_here: bool,
        is_new_session: bool,
        random: &mut Random,
    ) {
        let every = match fresh.heartbeat_s {
            0 => Duration::from_secs(30),
            seconds => Duration::from_secs(u64::from(seconds)),
        };
        self.heartbeat_every = every.clamp(HEARTBEAT_MIN, HEARTBEAT_MAX);
        if is_first_here || is_new_session {
            // Staggered, so that devices that came back together do not speak together for ever.
            self.heartbeat_at = Some(now.after(random.up_to(self.heartbeat_every)));
        }
        self.changed = true;
    }

    pub fn acknowledged(&mut self, ticket: Ticket) {
        self.heartbeat_flight.take_if(|(of, _)| *of == ticket);
        if let Some((_, content, _)) = self.status_flight.take_if(|(of, ..)| *of == ticket) {
            self.acknowledged = Some(content);
            self.changed = true;
        }
    }

    /// Content of the last status that was sent in this boot; zero: none.
    pub fn sent(&self) -> DigestPrefix {
        self.sent
    }

    pub fn acknowledge_deadline(&self) -> Option<Instant> {
        earliest(self.status_flight.map(|(.., deadline)| deadline), self.heartbeat_flight.map(|(_, deadline)| deadline))
    }
}

fn entry(slot: &Slot) -> Entry<'_> {
    let (state, reason) = slot.state();
    Entry {
        workload: slot.workload,
        component: slot.component,
        generation: if slot.is_listed { slot.accepted_generation } else { 0 },
        running: slot.live.map_or(0, |live| live.generation),
        state,
        reason,
        attempts: u16::from(slot.streak.in_window),
        restarts: slot.restarts,
        detail: if reason == Reason::NONE { "" } else { slot.detail.as_str() },
    }
}

impl<'b, const SLOTS: usize> Agent<'b, SLOTS> {
    fn context(&self) -> Option<LiveContext<'b>> {
        let session = self.session.id.filter(|_| self.session.is_established())?;
        Some(LiveContext { fleet: self.config.fleet, device: self.config.device, boot: self.boot, session })
    }

    pub(crate) fn session_context(&self) -> Option<LiveContext<'b>> {
        self.context()
    }

    pub(crate) fn poll_report(&mut self, now: Instant) -> Option<Todo> {
        let context = self.context()?;
        self.poll_status(now, &context)
            .or_else(|| self.poll_heartbeat(now, &context))
            .or_else(|| self.poll_result(&context))
            .or_else(|| self.poll_events(now, &context))
            .or_else(|| self.poll_samples(now, &context))
            .or_else(|| self.poll_logs(now, &context))
    }

    pub(crate) fn report_deadline(&self) -> Option<Instant> {
        if !self.session.is_established() {
            return None;
        }
        let report = &self.report;
        let status = earliest(report.status_at, report.position_at).filter(|_| report.status_flight.is_none());
        let heartbeat = report.heartbeat_at.filter(|_| report.heartbeat_flight.is_none());
        let acknowledgements = [report.acknowledge_deadline(), self.logs.deadline(), self.events.deadline()];
        let samples = earliest(self.telemetry.deadline(), self.telemetry.acknowledge_deadline());
        acknowledgements.into_iter().chain([samples]).fold(earliest(status, heartbeat), earliest)
    }

    fn poll_status(&mut self, now: Instant, context: &LiveContext<'_>) -> Option<Todo> {
        let report = &mut self.report;
        if report.status_flight.is_some() {
            return None;
        }
        if report.position_at.is_some_and(|at| at <= now) {
            report.position_at = None;
            report.position_told_at = Some(now);
            report.position_told = report.position.filter(Position::is_valid);
            report.asked = true;
        }
        if (report.changed || report.asked) && report.status_at.is_none() {
            let ahead = report.status_paid_until.since(now);
            let pause = ahead.saturating_sub(STATUS_PAUSE * (STATUS_BURST - 1));
            report.status_at = Some(now.after(STATUS_COALESCE.max(pause)));
        }
        if report.status_at.is_none_or(|at| at > now) {
            return None;
        }
        report.status_at = None;
        report.changed = false;
        let (content, length) = self.write_status(now, context).ok()?;
        let report = &mut self.report;
        if !report.asked && report.acknowledged == Some(content) {
            return None;
        }
        report.asked = false;
        report.sent = content;
        report.status_paid_until = report.status_paid_until.max(now).after(STATUS_PAUSE);
        let ticket = self.ticket();
        self.report.status_flight = Some((ticket, content, now.after(self.acknowledge_within())));
        Some(Todo::Publish { topic: Up::Status, length, quality: Quality::AtLeastOnce, ticket })
    }

    /// For local tools: what a status says of each component.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.slots.iter().map(entry)
    }

    /// For local tools: the name of a workload of the accepted set.
    pub fn workload_name(&self, workload: WorkloadId) -> Option<&str> {
        let mut records = self.current.records().filter(|(_, record)| record.core.workload == workload);
        records.find_map(|(_, record)| {
            record.clauses.iter().find_map(|stated| match stated.clause {
                Clause::Name(name) => Some(name.name),
                _ => None,
            })
        })
    }

    /// With details if they fit, else without.
    fn write_status(&mut self, now: Instant, context: &LiveContext<'_>) -> Result<(DigestPrefix, usize), WireError> {
        self.report.sequence = self.report.sequence.wrapping_add(1);
        let signed = self.current.signed();
        let fixed = StatusFixed {
            session: context.session,
            sequence: self.report.sequence,
            revision: signed.map_or_else(Default::default, |signed| signed.header.revision),
            digest: signed.map_or_else(Default::default, |signed| signed.header.body.prefix()),
            uptime_s: u32::try_from(now.since(self.started_at).as_secs()).unwrap_or(u32::MAX),
            memory_free_bytes: self.report.memory_free_bytes,
            storage_free_bytes: self.report.storage_free_bytes,
            position: self.report.position_told,
            lost: self.lost(),
            refused: self.refused,
        };
        let mut last = Err(WireError::NoRoom);
        for detail_bytes in [usize::MAX, 0] {
            let mut content = DigestPrefix::default();
            let write = |writer: &mut Writer<'_>| {
                let mut status = StatusWriter::new(writer, fixed, self.slots.len() as u16)?;
                for slot in &self.slots {
                    let entry = entry(slot);
                    status.entry(&Entry { detail: truncate(entry.detail, detail_bytes), ..entry })?;
                }
                content = status.finish();
                Ok(())
            };
            let frame = encode_live_with(self.outgoing, Kind::Status, self.config.pair_key, context, write);
            last = frame.map(|frame| frame.len()).map(|length| (content, length));
            if last.is_ok() {
                break;
            }
        }
        last
    }

    fn poll_heartbeat(&mut self, now: Instant, context: &LiveContext<'_>) -> Option<Todo> {
        if self.report.heartbeat_flight.is_some() || self.report.heartbeat_at.is_none_or(|at| at > now) {
            return None;
        }
        self.report.heartbeat_at = Some(now.after(self.report.heartbeat_every));
        self.report.sequence = self.report.sequence.wrapping_add(1);
        let heartbeat = Heartbeat { sequence: self.report.sequence, status: self.report.sent };
        let length = encode_live(self.outgoing, self.config.pair_key, context, &heartbeat).ok()?.len();
        let ticket = self.ticket();
        self.report.heartbeat_flight = Some((ticket, now.after(self.acknowledge_within())));
        Some(Todo::Publish { topic: Up::Heartbeat, length, quality: Quality::AtLeastOnce, ticket })
    }

    fn poll_result(&mut self, context: &LiveContext<'_>) -> Option<Todo> {
        let id = self.report.unsupported.take()?;
        let outcome = CommandOutcome::NotSupported;
        let result =
            CommandResult { session: context.session, id, outcome, detail: "this agent executes no commands yet" };
        let length = encode_live(self.outgoing, self.config.pair_key, context, &result).ok()?.len();
        Some(Todo::Publish { topic: Up::Status, length, quality: Quality::AtMostOnce, ticket: self.ticket() })
    }

    fn poll_events(&mut self, now: Instant, context: &LiveContext<'_>) -> Option<Todo> {
        let room = self.frame_room().saturating_sub(EVENT_FIXED_BYTES);
        let plan = self.events.plan(1, room)?;
        let write = |writer: &mut Writer<'_>| {
            // The head of an `Event`; the ring holds the rest of its fields, encoded.
            writer.value(&(context.session, plan.sequence))?;
            self.events.copy(&plan, writer)
        };
        let frame = encode_live_with(self.outgoing, Kind::Event, self.config.pair_key, context, write);
        let Ok(length) = frame.map(|frame| frame.len()) else {
            self.events.abandon(&plan);
            return None;
        };
        let ticket = self.ticket();
        self.events.sent(&plan, ticket, now.after(self.acknowledge_within()));
        Some(Todo::Publish { topic: Up::Event, length, quality: Quality::AtLeastOnce, ticket })
    }

    fn poll_logs(&mut self, now: Instant, context: &LiveContext<'_>) -> Option<Todo> {
        let room = self.frame_room().saturating_sub(LOG_FIXED_BYTES);
        let plan = self.logs.plan(LOG_RECORDS_MAX, room)?;
        let uptime_ms = millis(now.since(self.started_at));
        let fixed = LogFixed { session: context.session, sequence: plan.sequence, uptime_ms, count: plan.count };
        let write = |writer: &mut Writer<'_>| {
            writer.value(&fixed)?;
            self.logs.copy(&plan, writer)
        };
        let frame = encode_live_with(self.outgoing, Kind::Log, self.config.pair_key, context, write);
        let Ok(length) = frame.map(|frame| frame.len()) else {
            self.logs.abandon(&plan);
            return None;
        };
        let ticket = self.ticket();
        self.logs.sent(&plan, ticket, now.after(self.acknowledge_within()));
        Some(Todo::Publish { topic: Up::Log, length, quality: Quality::AtLeastOnce, ticket })
    }

    /// Bytes of a body that fit into one frame, both here and for a broker with our own packet limit.
    pub(crate) fn frame_room(&self) -> usize {
        let packet = usize::try_from(self.config.packet_bytes_max).unwrap_or(usize::MAX).saturating_sub(128);
        self.outgoing.len().min(packet).saturating_sub(LIVE_OVERHEAD_BYTES)
    }

    pub(crate) fn log(&mut self, now: Instant, launch: LaunchId, level: Level, text: &str) {
        match self.slot_of(launch).and_then(|at| self.slots.get(at)).map(|slot| slot.key()) {
            Some((workload, component)) => self.push_log(now, workload, component, level, text),
            None => self.logs.count_lost(),
        }
    }

    pub(crate) fn push_log(&mut self, now: Instant, workload: WorkloadId, component: u8, level: Level, text: &str) {
        let uptime_ms = millis(now.since(self.started_at));
        let text = truncate(text, LOG_TEXT_BYTES_MAX);
        let mut buffer = [0; LOG_TEXT_BYTES_MAX + LOG_FIXED_BYTES];
        let mut writer = Writer::new(&mut buffer);
        match writer.value(&LogRecord { workload, component, level, uptime_ms, text }) {
            Ok(()) => self.logs.push(writer.written()),
            Err(_) => self.logs.count_lost(),
        }
    }

    /// A line of the agent itself.
    pub(crate) fn note(&mut self, now: Instant, level: Level, text: core::fmt::Arguments<'_>) {
        let mut line: heapless::String<LOG_TEXT_BYTES_MAX> = heapless::String::new();
        // What does not fit is cut between two pieces of the format.
        let _ = line.write_fmt(text);
        self.push_log(now, AGENT_WORKLOAD, AGENT_COMPONENT, level, &line);
    }

    pub(crate) fn emit(&mut self, now: Instant, launch: LaunchId, topic: &str, payload: &[u8]) {
        let Some(slot) = self.slot_of(launch).and_then(|at| self.slots.get(at)) else {
            return self.events.count_lost();
        };
        let (workload, component) = slot.key();
        if slot.live.and_then(|live| live.told.until()).is_some_and(|until| until <= now) {
            // It was said before the end and is heard after it, or by a shell that was suspended: nobody is to act on it.
            return self.events.count_lost();
        }
        let fence: Option<Fence> = slot.live.and_then(|live| live.told.grant).map(|right| right.fence);
        if topic.starts_with(LOCAL_PREFIX) {
            return self.publish_local(topic, payload);
        }
        if topic.len() > TOPIC_BYTES_MAX || payload.len() > EVENT_BYTES_MAX {
            return self.events.count_lost();
        }
        let mut buffer = [0; RECORD_BYTES_MAX];
        let mut writer = Writer::new(&mut buffer);
        match writer.value(&(workload, component, fence, topic, payload)) {
            Ok(()) => self.events.push(writer.written()),
            Err(_) => self.events.count_lost(),
        }
    }
}
