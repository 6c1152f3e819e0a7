//! One connection at a time over a serial line, as a value: bytes of the line in, bytes for the line out, no port of its own.
//!
//! The leaf opens a connection, the gateway answers it once it has one to the broker, and bytes pass in both directions in
//! order and whole: each side has one frame on the line at a time, and sends it again until the other side says that it took it.
//! Taken means handed on, so nobody is sent more than they read. A side that started anew is found out by the
//! connection's numbers, of which each side gives one. Must never lose a byte of a connection silently: a connection with a gap is over.
#[cfg(test)]
mod tests;

use crate::machine::time::{Duration, Instant, earliest};
use wire::DeviceId;
use wire::limits::LINE_PAYLOAD_BYTES_MAX;
use wire::line::{LINE_WIRE_BYTES_MAX, LineBody, LineEnd, LineError, LineFrame, LineId, LineReader};

/// How often a leaf asks for a connection until it hears something.
pub const OPEN_EVERY: Duration = Duration::from_millis(500);
/// A frame that was not taken is sent again after this, then after twice as long, up to the second one. At 9600 baud the longest
/// frame takes a quarter of a second in each direction.
pub const RESEND_AFTER: Duration = Duration::from_millis(400);
pub const RESEND_AFTER_MAX: Duration = Duration::from_millis(1600);
/// Each side is heard at least this often while there is a connection.
pub const PULSE_EVERY: Duration = Duration::from_secs(1);
/// After this without a frame a connection is over. Some erasures of flash, during which a leaf says nothing, fit in.
pub const SILENCE: Duration = Duration::from_secs(6);
/// After this without a frame being taken a connection is over.
pub const STALL: Duration = Duration::from_secs(20);
const _: () = assert!(RESEND_AFTER_MAX.as_millis() * 3 < SILENCE.as_millis());
const _: () = assert!(PULSE_EVERY.as_millis() * 3 < SILENCE.as_millis() && SILENCE.as_millis() < STALL.as_millis());

type Bytes = heapless::Vec<u8, LINE_PAYLOAD_BYTES_MAX>;

/// Which end this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Leaf,
    Gateway { device: DeviceId },
}

/// How the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineState {
    /// There has been none yet.
    Idle,
    /// The leaf wants it. At the gateway: `opened` or `close` is waited for.
    Opening,
    Open,
    Closed(LineEnd),
}

/// What happened on the line since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineCounters {
    pub sent: u32,
    pub received: u32,
    /// Frames that were sent again.
    pub resent: u32,
    /// What was no frame: noise, or one that was cut or bent.
    pub spoilt: u32,
}

/// One end of a line.
#[derive(Debug)]
pub struct Line {
    role: Role,
    state: LineState,
    id: LineId,
    /// The gateway's number of its next connection.
    next_number: u32,
    /// As the gateway says.
    gateway: Option<DeviceId>,
    reader: LineReader,
    counters: LineCounters,
    /// Taken from the caller: on the line until it is taken, and behind it.
    flight: Bytes,
    waiting: Bytes,
    /// Of `flight`, or of the next one.
    sequence: u16,
    flight_since: Instant,
    is_flight_sent: bool,
    resend_at: Option<Instant>,
    resend_after: Duration,
    /// Received and not all read.
    arrived: Bytes,
    read: usize,
    /// The number of the next frame that is expected.
    expected: u16,
    /// One of each that is owed to the other side.
    owes_opened: bool,
    owes_waiting: bool,
    owes_pulse: bool,
    owes_closed: Option<(LineId, LineEnd)>,
    /// When this side speaks at the latest.
    speak_at: Instant,
    heard_at: Instant,
}

impl Line {
    /// The end that opens connections.
    pub fn leaf(now: Instant) -> Self {
        Self::new(now, Role::Leaf, 0)
    }

    /// The end that has the broker; `device` is what it says of itself. `number`, of its first connection, must be another one
    /// in each run.
    pub fn gateway(now: Instant, device: DeviceId, number: u32) -> Self {
        Self::new(now, Role::Gateway { device }, number)
    }

    fn new(now: Instant, role: Role, next_number: u32) -> Self {
        Self {
            role,
            state: LineState::Idle,
            id: LineId::default(),
            next_number,
            gateway: None,
            reader: LineReader::new(),
            counters: LineCounters::default(),
            flight: Bytes::new(),
            waiting: Bytes::new(),
            sequence: 0,
            flight_since: now,
            is_flight_sent: false,
            resend_at: None,
            resend_after: RESEND_AFTER,
            arrived: Bytes::new(),
            read: 0,
            expected: 0,
            owes_opened: false,
            owes_waiting: false,
            owes_pulse: false,
            owes_closed: None,
            speak_at: now,
            heard_at: now,
        }
    }

    pub fn state(&self) -> LineState {
        self.state
    }

    /// Of the present connection. At the gateway another one means: drop what belonged to the one before.
    pub fn id(&self) -> LineId {
        self.id
    }

    /// Which device the gateway says it is, once it has answered.
    pub fn peer(&self) -> Option<DeviceId> {
        self.gateway
    }

    pub fn counters(&self) -> LineCounters {
        self.counters
    }

    /// Leaf: asks for a connection; an earlier one is over. `number` must be another one each time, also after a reset.
    pub fn open(&mut self, now: Instant, number: u32) {
        self.begin(now, LineId { leaf: number, gateway: 0 });
        self.speak_at = now;
    }

    /// Gateway: there is a connection to the broker for the one that is opening.
    pub fn opened(&mut self, now: Instant) {
        if self.state == LineState::Opening {
            self.state = LineState::Open;
            self.owes_opened = true;
            self.heard_at = now;
        }
    }

    /// Ends the connection; what was not taken yet is lost, which the end says.
    pub fn close(&mut self, end: LineEnd) {
        match self.state {
            LineState::Opening | LineState::Open => {
                self.owes_closed = Some((self.id, end));
                self.end(end);
            }
            LineState::Idle | LineState::Closed(_) => {}
        }
    }

    fn begin(&mut self, now: Instant, id: LineId) {
        self.end(LineEnd::Unknown);
        self.state = LineState::Opening;
        self.id = id;
        (self.sequence, self.expected) = (0, 0);
        (self.owes_opened, self.owes_waiting, self.owes_pulse, self.owes_closed) = (false, false, false, None);
        self.heard_at = now;
    }

    fn end(&mut self, end: LineEnd) {
        self.state = LineState::Closed(end);
        self.flight.clear();
        self.waiting.clear();
        self.arrived.clear();
        self.read = 0;
        self.resend_at = None;
    }

    // ---- bytes of the connection

    /// Takes bytes of the connection to be sent; how many. None while it is not open, or the line is behind.
    pub fn write(&mut self, now: Instant, bytes: &[u8]) -> usize {
        if self.state != LineState::Open {
            return 0;
        }
        let into = if self.flight.is_empty() { &mut self.flight } else { &mut self.waiting };
        let count = bytes.len().min(into.capacity() - into.len());
        // As many as there is room for.
        let _ = into.extend_from_slice(&bytes[..count]);
        if count > 0 && self.waiting.is_empty() && self.resend_at.is_none() {
            self.launch(now);
        }
        count
    }

    /// Whether `write` would take something.
    pub fn has_room(&self) -> bool {
        self.state == LineState::Open && (self.flight.is_empty() || !self.waiting.is_full())
    }

    /// Whether everything that was written has been taken by the other side.
    pub fn is_flushed(&self) -> bool {
        self.flight.is_empty()
    }

    /// Gives bytes of the connection that have come; how many. What came before the end of a connection and was not read is lost
    /// with it.
    pub fn read(&mut self, into: &mut [u8]) -> usize {
        let left = self.arrived.get(self.read..).unwrap_or_default();
        let count = left.len().min(into.len());
        into[..count].copy_from_slice(&left[..count]);
        self.read += count;
        if count > 0 && self.read == self.arrived.len() {
            self.arrived.clear();
            self.read = 0;
            self.expected = self.expected.wrapping_add(1);
            self.owes_pulse = true;
        }
        count
    }

    pub fn has_bytes(&self) -> bool {
        self.read < self.arrived.len()
    }

    fn launch(&mut self, now: Instant) {
        self.flight_since = now;
        self.is_flight_sent = false;
        self.resend_after = RESEND_AFTER;
        self.resend_at = Some(now);
    }

    // ---- the line

    /// Takes bytes from the line.
    pub fn receive(&mut self, now: Instant, bytes: &[u8]) {
        // The reader's frame borrows its buffer, and hearing it changes everything else.
        let mut reader = core::mem::take(&mut self.reader);
        for byte in bytes {
            match reader.push(*byte) {
                Some(Ok(frame)) => {
                    self.counters.received = self.counters.received.saturating_add(1);
                    self.hear(now, &frame);
                }
                Some(Err(LineError::TooLong | LineError::Stuffing | LineError::Checksum | LineError::Malformed)) => {
                    self.counters.spoilt = self.counters.spoilt.saturating_add(1);
                }
                None => {}
            }
        }
        self.reader = reader;
    }

    fn hear(&mut self, now: Instant, frame: &LineFrame<'_>) {
        let is_wanted = self.state != LineState::Idle && frame.id.leaf == self.id.leaf;
        let is_present = is_wanted && frame.id.gateway == self.id.gateway;
        if is_present {
            self.heard_at = now;
        }
        match (frame.body, self.role) {
            (LineBody::Open, Role::Gateway { .. }) => match self.state {
                LineState::Opening if is_wanted => {
                    self.heard_at = now;
                    self.owes_waiting = true;
                }
                LineState::Open if is_wanted => self.owes_opened = true,
                LineState::Closed(end) if is_wanted => self.owes_closed = Some((self.id, end)),
                LineState::Idle | LineState::Opening | LineState::Open | LineState::Closed(_) => {
                    // Zero is what a leaf says that has heard of none.
                    let number = self.next_number.max(1);
                    self.next_number = number.wrapping_add(1);
                    self.begin(now, LineId { leaf: frame.id.leaf, gateway: number });
                    self.owes_waiting = true;
                }
            },
            (LineBody::Opened { gateway }, Role::Leaf) if is_wanted => match self.state {
                LineState::Opening => {
                    self.state = LineState::Open;
                    self.id = frame.id;
                    self.gateway = Some(gateway);
                    self.heard_at = now;
                    self.owes_pulse = true;
                }
                LineState::Open if is_present => {}
                // An `Open` that was late began another one at a gateway that started anew: there is nothing to go on with.
                LineState::Open => {
                    self.end(LineEnd::Unknown);
                    self.owes_closed = Some((frame.id, LineEnd::Unknown));
                }
                LineState::Closed(end) => self.owes_closed = Some((frame.id, end)),
                LineState::Idle => {}
            },
            (LineBody::Closed { end }, Role::Leaf) if is_wanted && self.state == LineState::Opening => self.end(end),
            (LineBody::Closed { end }, _) if is_present => match self.state {
                LineState::Opening | LineState::Open => self.end(end),
                LineState::Idle | LineState::Closed(_) => {}
            },
            (LineBody::Data { sequence, taken, bytes }, _) if is_present => {
                self.hear_taken(now, taken);
                self.hear_data(sequence, bytes);
            }
            (LineBody::Pulse { taken }, _) if is_present => {
                self.hear_taken(now, taken);
                if let LineState::Closed(end) = self.state {
                    self.owes_closed = Some((self.id, end));
                }
            }
            // `Opened` was lost, and is asked for again.
            (LineBody::Data { .. } | LineBody::Pulse { .. }, Role::Leaf)
                if is_wanted && self.state == LineState::Opening => {}
            // Of a connection that this side knows nothing of: it, or the other one, started anew.
            (LineBody::Data { .. } | LineBody::Pulse { .. } | LineBody::Opened { .. }, _) => {
                self.owes_closed = Some((frame.id, LineEnd::Unknown));
            }
            (LineBody::Open | LineBody::Waiting | LineBody::Closed { .. }, _) => {}
        }
    }

    fn hear_taken(&mut self, now: Instant, taken: u16) {
        if self.state == LineState::Open && !self.flight.is_empty() && taken == self.sequence.wrapping_add(1) {
            self.sequence = taken;
            self.flight = core::mem::take(&mut self.waiting);
            self.resend_at = None;
            if !self.flight.is_empty() {
                self.launch(now);
            }
        }
    }

    fn hear_data(&mut self, sequence: u16, bytes: &[u8]) {
        match self.state {
            LineState::Closed(end) => self.owes_closed = Some((self.id, end)),
            LineState::Idle | LineState::Opening => {}
            LineState::Open if sequence != self.expected => {
                // Sent again because our word of it was lost. Anything else belongs to no order, and is never taken.
                self.owes_pulse |= sequence.wrapping_add(1) == self.expected;
            }
            // Still being read.
            LineState::Open if !self.arrived.is_empty() => {}
            LineState::Open => {
                // A frame has no more than fits.
                let _ = self.arrived.extend_from_slice(bytes);
            }
        }
    }

    /// What is to be sent next, in `out`: its length. Also notices that a connection is over.
    pub fn poll(&mut self, now: Instant, out: &mut [u8; LINE_WIRE_BYTES_MAX]) -> Option<usize> {
        self.watch(now);
        let (id, body) = self.next(now)?;
        let length = LineFrame { id, body }.encode(out);
        self.counters.sent = self.counters.sent.saturating_add(1);
        Some(length)
    }

    fn watch(&mut self, now: Instant) {
        let is_silent = self.heard_at.after(SILENCE) <= now;
        match (self.state, self.role) {
            (LineState::Open, _) if is_silent => self.close(LineEnd::Silent),
            // A leaf asks until its caller gives up.
            (LineState::Opening, Role::Gateway { .. }) if is_silent => self.close(LineEnd::Silent),
            (LineState::Open, _) if !self.flight.is_empty() && self.flight_since.after(STALL) <= now => {
                self.close(LineEnd::Stalled);
            }
            (LineState::Idle | LineState::Opening | LineState::Open | LineState::Closed(_), _) => {}
        }
    }

    fn next(&mut self, now: Instant) -> Option<(LineId, LineBody<'_>)> {
        if let Some((id, end)) = self.owes_closed.take() {
            return Some((id, LineBody::Closed { end }));
        }
        match (self.state, self.role) {
            (LineState::Idle | LineState::Closed(_), _) => None,
            (LineState::Opening, Role::Leaf) => {
                if self.speak_at > now {
                    return None;
                }
                self.speak_at = now.after(OPEN_EVERY);
                Some((self.id, LineBody::Open))
            }
            (LineState::Opening, Role::Gateway { .. }) => {
                core::mem::take(&mut self.owes_waiting).then_some((self.id, LineBody::Waiting))
            }
            (LineState::Open, role) => self.next_open(now, role),
        }
    }

    fn next_open(&mut self, now: Instant, role: Role) -> Option<(LineId, LineBody<'_>)> {
        if let Role::Gateway { device } = role
            && core::mem::take(&mut self.owes_opened)
        {
            self.speak_at = now.after(PULSE_EVERY);
            return Some((self.id, LineBody::Opened { gateway: device }));
        }
        let taken = self.expected;
        if self.resend_at.is_some_and(|at| at <= now) {
            let again = u32::from(core::mem::replace(&mut self.is_flight_sent, true));
            self.counters.resent = self.counters.resent.saturating_add(again);
            self.resend_at = Some(now.after(self.resend_after));
            self.resend_after = (self.resend_after * 2).min(RESEND_AFTER_MAX);
        } else if self.owes_pulse || self.speak_at <= now {
            self.speak_at = now.after(PULSE_EVERY);
            self.owes_pulse = false;
            return Some((self.id, LineBody::Pulse { taken }));
        } else {
            return None;
        }
        self.speak_at = now.after(PULSE_EVERY);
        self.owes_pulse = false;
        Some((self.id, LineBody::Data { sequence: self.sequence, taken, bytes: &self.flight }))
    }

    /// When `poll` has something to do although nothing happens.
    pub fn timeout(&self) -> Option<Instant> {
        let silent = self.heard_at.after(SILENCE);
        match (self.state, self.role) {
            (LineState::Idle | LineState::Closed(_), _) => None,
            (LineState::Opening, Role::Leaf) => Some(self.speak_at),
            (LineState::Opening, Role::Gateway { .. }) => Some(silent),
            (LineState::Open, _) => {
                let stalled = (!self.flight.is_empty()).then(|| self.flight_since.after(STALL));
                earliest(earliest(self.resend_at, stalled), Some(self.speak_at.min(silent)))
            }
        }
    }
}
