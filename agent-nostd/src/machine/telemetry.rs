//! What functions raise, report and measure, from the shell's input to the hub: alarms durable first, states the latest, metrics
//! as they come. Alarms go before states, states before metrics, at most one frame per `SAMPLES_PAUSE`.
//!
//! An alarm is told when the journal holds it, and is kept until the hub's own word: PUBACK means received, never taken.
use super::port::{JournalKey, LaunchId, Quality, Telling};
use super::shelf::{RECORD_BYTES_MAX, Shelf, Then};
use super::time::{Duration, Instant, earliest, millis};
use super::{Agent, Todo};
use wire::codec::{WireError, Writer};
use wire::event::Level;
use wire::frame::{decode_live, encode_live_with};
use wire::hello::LossCounters;
use wire::limits::{SAMPLE_TEXT_BYTES_MAX, SAMPLES_MAX};
use wire::sample::{Class, SamplesFixed, Taken, Value, is_key};
use wire::topic::Up;
use wire::{Kind, LiveContext, WorkloadId};

/// Frames of samples are at least so far apart.
pub const SAMPLES_PAUSE: Duration = Duration::from_millis(200);
/// Metrics and states wait so long for others that share their frame.
pub const SAMPLES_COALESCE: Duration = Duration::from_millis(1000);
/// After a connection the backlog begins at a random time within this.
pub const SAMPLES_SPREAD: Duration = Duration::from_secs(2);
/// Alarms that the hub did not take are told again.
pub const ALARM_AGAIN: Duration = Duration::from_secs(30);
/// The journal is written for alarms at most this often, because flash wears.
pub const ALARM_WRITE_PAUSE: Duration = Duration::from_secs(1);
/// That an alarm was taken, or one was refused, is written with the next alarm, or after this.
pub const ALARM_FORGET_PAUSE: Duration = Duration::from_secs(10);
/// People hear of refused alarms at most this often.
const REFUSED_TOLD_EVERY: Duration = Duration::from_secs(600);
/// Bytes of a samples body around its records.
const SAMPLES_FIXED_BYTES: usize = 48;

#[derive(Debug)]
pub(crate) struct Telemetry<'b> {
    alarms: Shelf<'b>,
    states: Shelf<'b>,
    metrics: Shelf<'b>,
    /// Made with the ring of alarms.
    stream: u32,
    /// Alarms below are of an earlier boot.
    boot_from: u32,
    /// Up to which sequence the write in flight makes alarms durable.
    saving: u32,
    /// When the ring of alarms is to be written.
    dirty_at: Option<Instant>,
    written_at: Option<Instant>,
    /// When the next frame may go, if there is one.
    due: Option<Instant>,
    sent_at: Option<Instant>,
    again_at: Option<Instant>,
    refused_told_at: Option<Instant>,
}

impl<'b> Telemetry<'b> {
    /// `saved_bytes_max`: the longest value that can be written for alarms.
    pub fn new(
        alarms: &'b mut [u8],
        states: &'b mut [u8],
        metrics: &'b mut [u8],
        saved_bytes_max: usize,
        stream: u32,
    ) -> Self {
        let head = Shelf::saved_bytes_max(0);
        let room = alarms.len().min(saved_bytes_max.saturating_sub(head));
        let (alarms, _) = alarms.split_at_mut(room);
        Self {
            alarms: Shelf::new(alarms, Then::Await),
            states: Shelf::new(states, Then::Hold),
            metrics: Shelf::new(metrics, Then::Forget),
            stream,
            boot_from: 1,
            saving: 1,
            dirty_at: None,
            written_at: None,
            due: None,
            sent_at: None,
            again_at: None,
            refused_told_at: None,
        }
    }

    pub fn restore(&mut self, value: &[u8]) {
        if let Some(stream) = self.alarms.restore(value) {
            self.stream = stream;
            self.boot_from = self.alarms.next_sequence;
        }
    }

    pub fn lost(&self) -> LossCounters {
        LossCounters {
            alarms: self.alarms.lost,
            states: self.states.lost,
            metrics: self.metrics.lost,
            ..LossCounters::default()
        }
    }

    pub fn acknowledged(&mut self, now: Instant, ticket: super::port::Ticket) {
        for shelf in [&mut self.alarms, &mut self.states, &mut self.metrics] {
            shelf.acknowledged(ticket);
        }
        if self.again_at.is_none() && self.alarms.is_awaiting() {
            self.again_at = Some(now.after(ALARM_AGAIN));
        }
        self.look(now, SAMPLES_PAUSE);
    }

    /// Something may have to be told, at the earliest in so long.
    fn look(&mut self, now: Instant, within: Duration) {
        let is_any = [&self.alarms, &self.states, &self.metrics].into_iter().any(Shelf::has_waiting);
        if is_any {
            let paced = self.sent_at.map_or(now, |at| at.after(SAMPLES_PAUSE));
            self.due = earliest(self.due, Some(now.after(within).max(paced)));
        }
    }

    pub fn link_lost(&mut self) {
        for shelf in [&mut self.alarms, &mut self.states, &mut self.metrics] {
            shelf.link_lost();
        }
        self.again_at = None;
    }

    /// Fresh came for the first time on a connection; `is_new_session`: the hub may know nothing of us.
    pub fn link_found(&mut self, now: Instant, is_new_session: bool, within: Duration) {
        for shelf in [&mut self.states, &mut self.metrics] {
            shelf.link_found();
        }
        if is_new_session {
            self.states.tell_held_again();
        }
        self.due = None;
        self.look(now, within);
    }

    /// When the oldest frame in flight is overdue.
    pub fn acknowledge_deadline(&self) -> Option<Instant> {
        let shelves = [&self.alarms, &self.states, &self.metrics];
        shelves.into_iter().filter_map(Shelf::deadline).min()
    }

    /// Of frames, in a session.
    pub fn deadline(&self) -> Option<Instant> {
        earliest(self.due, self.again_at)
    }

    /// Of the journal, always.
    pub fn save_deadline(&self) -> Option<Instant> {
        self.dirty_at
    }

    fn save_within(&mut self, now: Instant, within: Duration) {
        let paced = self.written_at.map_or(now, |at| at.after(ALARM_WRITE_PAUSE));
        self.dirty_at = earliest(self.dirty_at, Some(now.after(within).max(paced)));
    }

    /// What is to be written is written now: the end is near.
    pub fn hurry(&mut self, now: Instant) {
        self.dirty_at = self.dirty_at.map(|_| now);
    }

    /// True when the ring of alarms is to be written now.
    pub fn take_dirty(&mut self, now: Instant) -> bool {
        self.dirty_at.take_if(|at| *at <= now).is_some()
    }

    pub fn save(&mut self, now: Instant, writer: &mut Writer<'_>) -> Result<(), WireError> {
        self.saving = self.alarms.next_sequence;
        self.written_at = Some(now);
        self.alarms.save(self.stream, writer)
    }

    /// The value that was written last is durable.
    pub fn saved(&mut self, now: Instant) {
        self.alarms.saved(self.saving);
        self.look(now, Duration::ZERO);
    }

    const fn shelf(&mut self, class: Class) -> &mut Shelf<'b> {
        match class {
            Class::Alarm => &mut self.alarms,
            Class::State => &mut self.states,
            Class::Metric => &mut self.metrics,
        }
    }
}

impl<const SLOTS: usize> Agent<'_, SLOTS> {
    pub(crate) fn tell(&mut self, now: Instant, launch: LaunchId, telling: &Telling<'_>) {
        let (class, key, value) = match *telling {
            Telling::Alarm { key, text } => (Class::Alarm, key, Value::Text(text)),
            Telling::State { key, text } => (Class::State, key, Value::Text(text)),
            Telling::Metric { key, value, scale } => (Class::Metric, key, Value::Number { value, scale }),
        };
        let is_long = matches!(value, Value::Text(text) if text.len() > SAMPLE_TEXT_BYTES_MAX);
        let slot = self.slot_of(launch).and_then(|at| self.slots.get(at)).map(|slot| slot.key());
        let Some((workload, component)) = slot.filter(|_| is_key(key) && !is_long) else {
            return self.telemetry.shelf(class).count_lost();
        };
        let unix_ms = if class == Class::Alarm { self.session.unix_ms(now).unwrap_or(0) } else { 0 };
        let uptime_ms = millis(now.since(self.started_at));
        let mut buffer = [0; RECORD_BYTES_MAX];
        let mut writer = Writer::new(&mut buffer);
        let head: (WorkloadId, u8, &str) = (workload, component, key);
        let head_bytes = writer.value(&head).map(|()| writer.len());
        let written = head_bytes.and_then(|bytes| writer.value(&(uptime_ms, unix_ms, value)).map(|()| bytes));
        let telemetry = &mut self.telemetry;
        let Ok(head_bytes) = written else { return telemetry.shelf(class).count_lost() };
        let record = writer.written();
        match class {
            Class::Alarm => {
                let is_kept = telemetry.alarms.push_or_refuse(record);
                telemetry.save_within(now, if is_kept { Duration::ZERO } else { ALARM_FORGET_PAUSE });
                if !is_kept {
                    self.note_refused(now);
                }
            }
            Class::State => telemetry.states.push_latest(record, head_bytes),
            Class::Metric => telemetry.metrics.push_or_drop_oldest(record),
        }
        if class != Class::Alarm {
            self.telemetry.look(now, SAMPLES_COALESCE);
        }
    }

    fn note_refused(&mut self, now: Instant) {
        if self.telemetry.refused_told_at.is_some_and(|at| now.since(at) < REFUSED_TOLD_EVERY) {
            return;
        }
        self.telemetry.refused_told_at = Some(now);
        let lost = self.telemetry.alarms.lost;
        self.note(
            now,
            Level::Error,
            format_args!("alarms are refused, {lost} so far: the hub has not taken those before"),
        );
    }

    /// The ring of alarms changed some time ago, and the journal is to hold it.
    pub(crate) fn poll_alarms(&mut self, now: Instant) {
        if self.telemetry.take_dirty(now) {
            self.keep.change(JournalKey::Alarms);
        }
    }

    pub(crate) fn write_alarms(&mut self, now: Instant) -> Result<usize, WireError> {
        let mut writer = Writer::new(self.outgoing);
        self.telemetry.save(now, &mut writer)?;
        Ok(writer.len())
    }

    pub(crate) fn on_taken(&mut self, now: Instant, payload: &[u8]) {
        let Some(context) = self.session_context() else { return };
        let Ok(taken) = decode_live::<Taken>(payload, self.config.pair_key, &context) else { return };
        let telemetry = &mut self.telemetry;
        if taken.stream != telemetry.stream {
            return;
        }
        if telemetry.alarms.taken(taken.sequence) {
            telemetry.save_within(now, ALARM_FORGET_PAUSE);
        }
        if !telemetry.alarms.is_awaiting() {
            telemetry.again_at = None;
        }
    }

    pub(crate) fn poll_samples(&mut self, now: Instant, context: &LiveContext<'_>) -> Option<Todo> {
        let telemetry = &mut self.telemetry;
        if telemetry.again_at.take_if(|at| *at <= now).is_some() {
            telemetry.alarms.again();
            telemetry.look(now, Duration::ZERO);
        }
        telemetry.due.take_if(|at| *at <= now)?;
        let sent = Class::ALL.into_iter().find_map(|class| self.samples_of(now, context, class));
        self.telemetry.look(now, SAMPLES_PAUSE);
        sent
    }

    fn samples_of(&mut self, now: Instant, context: &LiveContext<'_>, class: Class) -> Option<Todo> {
        let room = self.frame_room().saturating_sub(SAMPLES_FIXED_BYTES);
        let (boot_from, stream) = (self.telemetry.boot_from, self.telemetry.stream);
        let shelf = self.telemetry.shelf(class);
        let mut pick = shelf.pick(SAMPLES_MAX, room)?;
        let is_old = class == Class::Alarm && shelf.split(&mut pick, boot_from);
        let uptime_ms = millis(now.since(self.started_at));
        let fixed = SamplesFixed {
            session: context.session,
            class,
            stream: if class == Class::Alarm { stream } else { 0 },
            first: pick.first,
            lost: shelf.lost,
            uptime_ms: (!is_old).then_some(uptime_ms),
            count: pick.count(),
        };
        let write = |writer: &mut Writer<'_>| {
            writer.value(&fixed)?;
            shelf.copy(&pick, writer)
        };
        let frame = encode_live_with(self.outgoing, Kind::Sample, self.config.pair_key, context, write);
        let Ok(length) = frame.map(|frame| frame.len()) else {
            shelf.abandon(&pick);
            return None;
        };
        let ticket = self.ticket();
        let deadline = now.after(self.acknowledge_within());
        self.telemetry.shelf(class).sent(&pick, ticket, deadline);
        self.telemetry.sent_at = Some(now);
        Some(Todo::Publish { topic: Up::Sample, length, quality: Quality::AtLeastOnce, ticket })
    }
}
