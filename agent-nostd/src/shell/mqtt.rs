//! MQTT 5 (OASIS standard, 2019) as far as a device needs it, as a value: bytes in, bytes out, no connection of its own.
//!
//! A publication with QoS 1 is not kept: the machine asks for it again, because each connection is a clean start. That is why
//! there is no session to resume and no buffer per message. Must never decide when to connect, or wait for anything.
use super::limits::{IN_FLIGHT_MAX, PACKET_OVERHEAD_BYTES, RECEIVE_MAX, SUBSCRIPTIONS_MAX, WRITE_TIMEOUT};
use crate::machine::port::{Quality, RetainHandling, Subscription, Ticket, WILL_DELAY, WILL_EXPIRY};
use crate::machine::time::{Duration, Instant, earliest};
use wire::codec::{Reader, WireError, Writer};
use wire::limits::MQTT_TOPIC_BYTES_MAX;

mod packet {
    //! The first byte of each packet.
    pub const CONNECT: u8 = 0x10;
    pub const CONNACK: u8 = 0x20;
    pub const PUBLISH: u8 = 0x30;
    pub const PUBACK: u8 = 0x40;
    pub const SUBSCRIBE: u8 = 0x82;
    pub const SUBACK: u8 = 0x90;
    pub const PINGREQ: u8 = 0xc0;
    pub const PINGRESP: u8 = 0xd0;
    pub const DISCONNECT: u8 = 0xe0;
}

mod property {
    //! MQTT 5, 2.2.2.2.
    pub const MESSAGE_EXPIRY: u8 = 0x02;
    pub const SESSION_EXPIRY: u8 = 0x11;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const WILL_DELAY: u8 = 0x18;
    pub const RECEIVE_MAX: u8 = 0x21;
    pub const PACKET_MAX: u8 = 0x27;
}

const QOS_1: u8 = 1;
const PUBACK_BYTES: usize = 4;
/// Reason codes from here on are failures.
const FAILURE: u8 = 0x80;
const NOT_AUTHORIZED: u8 = 0x87;
const BAD_USER: u8 = 0x86;
const SESSION_TAKEN_OVER: u8 = 0x8e;
/// A PINGREQ is answered within this, or half the keep-alive if that is shorter.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How to connect.
#[derive(Clone, Copy, Debug)]
pub struct Connect<'a> {
    pub client: &'a str,
    pub user: &'a str,
    pub password: &'a [u8],
    pub keep_alive: Duration,
    /// Topic and payload of what the broker says when the link dies.
    pub will: Option<(&'a str, &'a [u8])>,
}

/// What the broker said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'e> {
    Open,
    Message {
        topic: &'e str,
        payload: &'e [u8],
    },
    /// Every filter of the group was granted.
    Subscribed(Subscription),
    SubscribeRefused(Subscription),
    Acknowledged(Ticket),
    /// The broker did not take the publication.
    Refused {
        code: u8,
    },
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// CONNACK with a reason.
    Refused(u8),
    /// DISCONNECT with a reason.
    Ended(u8),
    /// Longer than the buffer, although its size was announced.
    TooLong,
    /// Not MQTT 5, or not in its place.
    Malformed,
    /// No answer to a PINGREQ.
    Silent,
    /// Nothing could be written for `WRITE_TIMEOUT`.
    Blocked,
}

impl End {
    /// The broker prefers another connection with this name. The embedded one says "not authorized" to whom it throws out.
    pub fn is_taken(self) -> bool {
        matches!(self, Self::Ended(SESSION_TAKEN_OVER | NOT_AUTHORIZED))
    }

    /// The broker does not accept user and password.
    pub fn is_not_authorized(self) -> bool {
        matches!(self, Self::Refused(BAD_USER | NOT_AUTHORIZED))
    }
}

impl core::fmt::Display for End {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Refused(BAD_USER | NOT_AUTHORIZED) => {
                f.write_str("the broker does not accept this user and password")
            }
            Self::Refused(code) => write!(f, "the broker refuses the connection (reason {code:#04x})"),
            Self::Ended(SESSION_TAKEN_OVER) => f.write_str("another connection uses this device's name"),
            Self::Ended(code) => write!(f, "the broker ended it (reason {code:#04x})"),
            Self::TooLong => f.write_str("the broker sent a packet over the announced size"),
            Self::Malformed => f.write_str("the broker does not speak MQTT 5 as it should"),
            Self::Silent => f.write_str("the broker does not answer"),
            Self::Blocked => f.write_str("nothing can be written"),
        }
    }
}

/// There is no room for a packet, or too many wait for their answer, or the broker takes none of that size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl From<WireError> for Full {
    fn from(_: WireError) -> Self {
        Self
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    Open,
}

/// One connection, from its CONNECT to its end.
pub struct Client<'m> {
    receive: &'m mut [u8],
    filled: usize,
    /// Bytes of the packet that was handed out last.
    taken: usize,
    send: &'m mut [u8],
    from: usize,
    to: usize,
    /// When the last byte was written, or could first have been.
    progress_at: Instant,
    phase: Phase,
    id: u16,
    publications: heapless::Vec<(u16, Ticket), IN_FLIGHT_MAX>,
    subscriptions: heapless::Vec<(u16, Subscription), SUBSCRIPTIONS_MAX>,
    keep_alive: Duration,
    ping_deadline: Option<Instant>,
    packet_bytes_max: u32,
    receive_max: usize,
}

impl core::fmt::Debug for Client<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Client")
            .field("phase", &self.phase)
            .field("waiting", &(self.to - self.from))
            .finish_non_exhaustive()
    }
}

/// Bytes of a variable byte integer.
const fn varint_bytes(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

fn put_varint(writer: &mut Writer<'_>, mut value: usize) -> Result<(), WireError> {
    loop {
        let digit = (value & 0x7f) as u8;
        value >>= 7;
        writer.bytes(&[if value > 0 { digit | 0x80 } else { digit }])?;
        if value == 0 {
            return Ok(());
        }
    }
}

/// `None`: not there yet.
fn take_varint(bytes: &[u8]) -> Result<Option<(usize, usize)>, End> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() >= 4 { Err(End::Malformed) } else { Ok(None) }
}

fn put_prefixed(writer: &mut Writer<'_>, bytes: &[u8]) -> Result<(), WireError> {
    let length = u16::try_from(bytes.len()).map_err(|_| WireError::NoRoom)?;
    writer.bytes(&length.to_be_bytes())?;
    writer.bytes(bytes)
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// The part of a packet that is left.
struct Body<'a>(Reader<'a>);

impl<'a> Body<'a> {
    fn byte(&mut self) -> Result<u8, End> {
        self.0.byte().map_err(|_| End::Malformed)
    }

    fn two(&mut self) -> Result<u16, End> {
        self.0.array().map(u16::from_be_bytes).map_err(|_| End::Malformed)
    }

    fn four(&mut self) -> Result<u32, End> {
        self.0.array().map(u32::from_be_bytes).map_err(|_| End::Malformed)
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], End> {
        self.0.bytes(count).map_err(|_| End::Malformed)
    }

    fn prefixed(&mut self) -> Result<&'a [u8], End> {
        let length = self.two()?;
        self.bytes(usize::from(length))
    }

    fn varint(&mut self) -> Result<usize, End> {
        let (value, used) = take_varint(self.0.rest())?.ok_or(End::Malformed)?;
        self.bytes(used)?;
        Ok(value)
    }

    fn properties(&mut self) -> Result<Body<'a>, End> {
        let length = self.varint()?;
        self.bytes(length).map(|bytes| Body(Reader::new(bytes)))
    }

    /// The number of the next property, with its value if it is a number.
    fn property(&mut self) -> Result<Option<(u8, u32)>, End> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let id = self.byte()?;
        let value = match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => u32::from(self.byte()?),
            property::SERVER_KEEP_ALIVE | property::RECEIVE_MAX | 0x22 | 0x23 => u32::from(self.two()?),
            property::MESSAGE_EXPIRY | property::SESSION_EXPIRY | property::WILL_DELAY | property::PACKET_MAX => {
                self.four()?
            }
            0x0b => u32::try_from(self.varint()?).unwrap_or(u32::MAX),
            0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => {
                self.prefixed()?;
                0
            }
            // A pair of texts.
            0x26 => {
                self.prefixed()?;
                self.prefixed()?;
                0
            }
            _ => return Err(End::Malformed),
        };
        Ok(Some((id, value)))
    }
}

impl<'m> Client<'m> {
    /// A connection that has just been opened; its CONNECT is the first thing to send.
    pub fn open(now: Instant, receive: &'m mut [u8], send: &'m mut [u8], connect: &Connect<'_>) -> Result<Self, Full> {
        let mut client = Self {
            receive,
            filled: 0,
            taken: 0,
            send,
            from: 0,
            to: 0,
            progress_at: now,
            phase: Phase::Opening,
            id: 0,
            publications: heapless::Vec::new(),
            subscriptions: heapless::Vec::new(),
            keep_alive: connect.keep_alive,
            ping_deadline: None,
            packet_bytes_max: u32::MAX,
            receive_max: IN_FLIGHT_MAX,
        };
        client.connect(now, connect)?;
        Ok(client)
    }

    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Where received bytes go (empty: read nothing now), and what is to be sent (empty: nothing).
    pub fn io(&mut self) -> (&mut [u8], &[u8]) {
        self.release();
        let into = self.receive.get_mut(self.filled..).unwrap_or_default();
        (into, self.send.get(self.from..self.to).unwrap_or_default())
    }

    pub fn received(&mut self, count: usize) {
        self.filled = self.filled.saturating_add(count).min(self.receive.len());
    }

    pub fn sent(&mut self, now: Instant, count: usize) {
        self.from = self.from.saturating_add(count).min(self.to);
        self.progress_at = now;
    }

    /// Whether a publication with a payload of so many bytes can be taken now.
    pub fn has_room(&self, payload: usize) -> bool {
        let used = self.to - self.from;
        self.send.len() - used >= payload + MQTT_TOPIC_BYTES_MAX + PACKET_OVERHEAD_BYTES
            && self.publications.len() < self.receive_max
    }

    /// Whether something waits to be sent.
    pub fn is_sending(&self) -> bool {
        self.from < self.to
    }

    /// When `tick` has something to do.
    pub fn timeout(&self) -> Option<Instant> {
        let blocked = self.is_sending().then(|| self.progress_at.after(WRITE_TIMEOUT));
        let ping = match (self.ping_deadline, self.phase) {
            (Some(deadline), _) => Some(deadline),
            // While something waits to be sent, a PINGREQ is of no use, and whoever is woken for it would be woken for ever.
            (None, Phase::Open) if !self.is_sending() => Some(self.ping_at()),
            (None, Phase::Open | Phase::Opening) => None,
        };
        earliest(blocked, ping)
    }

    /// Keeps the connection alive, and says when it is dead.
    pub fn tick(&mut self, now: Instant) -> Result<(), End> {
        if self.is_sending() && self.progress_at.after(WRITE_TIMEOUT) <= now {
            return Err(End::Blocked);
        }
        match self.ping_deadline {
            Some(deadline) if deadline <= now => return Err(End::Silent),
            None if self.is_open() && !self.is_sending() && self.ping_at() <= now => {
                if self.packet(now, packet::PINGREQ, 0, |_| Ok(())).is_ok() {
                    self.ping_deadline = Some(now.after(PING_TIMEOUT.min(self.keep_alive / 2)));
                }
            }
            Some(_) | None => {}
        }
        Ok(())
    }

    /// A quarter before the broker may become impatient.
    fn ping_at(&self) -> Instant {
        self.progress_at.after(self.keep_alive * 3 / 4)
    }

    // ---- what is sent

    /// Appends a packet whose variable part has exactly `length` bytes.
    fn packet(
        &mut self,
        now: Instant,
        first: u8,
        length: usize,
        write: impl FnOnce(&mut Writer<'_>) -> Result<(), WireError>,
    ) -> Result<(), Full> {
        let bytes = 1 + varint_bytes(length) + length;
        if u32::try_from(bytes).map_err(|_| Full)? > self.packet_bytes_max {
            return Err(Full);
        }
        if self.send.len() - self.to < bytes {
            self.send.copy_within(self.from..self.to, 0);
            self.to -= self.from;
            self.from = 0;
        }
        let is_first = !self.is_sending();
        let mut writer = Writer::new(self.send.get_mut(self.to..).unwrap_or_default());
        writer.bytes(&[first])?;
        put_varint(&mut writer, length)?;
        write(&mut writer)?;
        // A packet that lies about its length would take the next one with it.
        if writer.len() != bytes {
            return Err(Full);
        }
        self.to += bytes;
        if is_first {
            self.progress_at = now;
        }
        Ok(())
    }

    fn connect(&mut self, now: Instant, connect: &Connect<'_>) -> Result<(), Full> {
        const PROPERTIES: usize = 5 + 3 + 5;
        const WILL_PROPERTIES: usize = 5 + 5;
        let packet_bytes_max = u32::try_from(self.receive.len()).unwrap_or(u32::MAX);
        let keep_alive = u16::try_from(connect.keep_alive.as_secs()).unwrap_or(u16::MAX);
        let will = connect.will.map_or(0, |(topic, payload)| 1 + WILL_PROPERTIES + 2 + topic.len() + 2 + payload.len());
        let credentials = 2 + connect.user.len() + 2 + connect.password.len();
        let length = 10 + 1 + PROPERTIES + 2 + connect.client.len() + will + credentials;
        // User, password, clean start; a will with QoS 1 that is not retained.
        let flags = 0xc2 | connect.will.map_or(0, |_| 0x04 | QOS_1 << 3);
        self.packet(now, packet::CONNECT, length, |writer| {
            put_prefixed(writer, b"MQTT")?;
            writer.bytes(&[5, flags])?;
            writer.bytes(&keep_alive.to_be_bytes())?;
            writer.bytes(&[PROPERTIES as u8, property::SESSION_EXPIRY])?;
            // The will is sent at its delay or at the end of the session, whichever is first: the session must not end before.
            writer.bytes(&seconds(WILL_DELAY).to_be_bytes())?;
            writer.bytes(&[property::RECEIVE_MAX])?;
            writer.bytes(&RECEIVE_MAX.to_be_bytes())?;
            writer.bytes(&[property::PACKET_MAX])?;
            writer.bytes(&packet_bytes_max.to_be_bytes())?;
            put_prefixed(writer, connect.client.as_bytes())?;
            if let Some((topic, payload)) = connect.will {
                writer.bytes(&[WILL_PROPERTIES as u8, property::WILL_DELAY])?;
                writer.bytes(&seconds(WILL_DELAY).to_be_bytes())?;
                writer.bytes(&[property::MESSAGE_EXPIRY])?;
                writer.bytes(&seconds(WILL_EXPIRY).to_be_bytes())?;
                put_prefixed(writer, topic.as_bytes())?;
                put_prefixed(writer, payload)?;
            }
            put_prefixed(writer, connect.user.as_bytes())?;
            put_prefixed(writer, connect.password)
        })
    }

    /// Packet ids are reused after 65535 packets; none of those is still waiting then.
    fn next_id(&mut self) -> u16 {
        self.id = self.id.checked_add(1).unwrap_or(1);
        self.id
    }

    /// Never retained. With QoS 1 the answer is reported with the ticket.
    pub fn publish(
        &mut self,
        now: Instant,
        topic: &str,
        payload: &[u8],
        quality: Quality,
        ticket: Ticket,
    ) -> Result<(), Full> {
        let acknowledged = match quality {
            Quality::AtMostOnce => None,
            Quality::AtLeastOnce if self.publications.len() < self.receive_max => Some(self.next_id()),
            Quality::AtLeastOnce => return Err(Full),
        };
        let first = packet::PUBLISH | acknowledged.map_or(0, |_| QOS_1 << 1);
        let length = 2 + topic.len() + acknowledged.map_or(0, |_| 2) + 1 + payload.len();
        self.packet(now, first, length, |writer| {
            put_prefixed(writer, topic.as_bytes())?;
            if let Some(id) = acknowledged {
                writer.bytes(&id.to_be_bytes())?;
            }
            writer.bytes(&[0])?;
            writer.bytes(payload)
        })?;
        match acknowledged {
            Some(id) => self.publications.push((id, ticket)).map_err(|_| Full),
            None => Ok(()),
        }
    }

    /// One packet for all filters of a group, each with QoS 1 and whether what the broker keeps there is wanted.
    pub fn subscribe(
        &mut self,
        now: Instant,
        group: Subscription,
        filters: &[(&str, RetainHandling)],
    ) -> Result<(), Full> {
        if self.subscriptions.is_full() {
            return Err(Full);
        }
        let id = self.next_id();
        let length = 2 + 1 + filters.iter().map(|(filter, _)| 2 + filter.len() + 1).sum::<usize>();
        self.packet(now, packet::SUBSCRIBE, length, |writer| {
            writer.bytes(&id.to_be_bytes())?;
            writer.bytes(&[0])?;
            filters.iter().try_for_each(|(filter, handling)| {
                let handling = match handling {
                    RetainHandling::Send => 0,
                    RetainHandling::Skip => 2,
                };
                put_prefixed(writer, filter.as_bytes())?;
                writer.bytes(&[handling << 4 | QOS_1])
            })
        })?;
        self.subscriptions.push((id, group)).map_err(|_| Full)
    }

    // ---- what is received

    /// Gives up the packet that was handed out last.
    fn release(&mut self) {
        let taken = core::mem::take(&mut self.taken);
        if taken > 0 {
            self.receive.copy_within(taken..self.filled, 0);
            self.filled -= taken;
        }
    }

    /// Where the variable part of the first packet begins and ends, if all of it is there.
    fn bounds(&self) -> Result<Option<(usize, usize)>, End> {
        let Some((_, rest)) = self.receive[..self.filled].split_first() else { return Ok(None) };
        let Some((length, used)) = take_varint(rest)? else { return Ok(None) };
        let (begin, end) = (1 + used, 1 + used + length);
        if end > self.receive.len() {
            return Err(End::TooLong);
        }
        Ok((end <= self.filled).then_some((begin, end)))
    }

    /// The next thing that the broker said; to be called until `None`. What it lends is valid until the next call.
    pub fn next(&mut self, now: Instant) -> Result<Option<Event<'_>>, End> {
        loop {
            self.release();
            let Some((begin, end)) = self.bounds()? else { return Ok(None) };
            let first = self.receive[0];
            let kind = first & 0xf0;
            match (kind, self.phase) {
                (packet::CONNACK, Phase::Opening) => {
                    self.taken = end;
                    return self.on_connack(begin, end).map(Some);
                }
                // A broker that refuses may say it either way.
                (packet::DISCONNECT, _) => {
                    return Err(End::Ended(if begin < end { self.receive[begin] } else { 0 }));
                }
                (_, Phase::Opening) => return Err(End::Malformed),
                (packet::PUBLISH, Phase::Open) => {
                    if first & 0x06 != 0 && self.send.len() - (self.to - self.from) < PUBACK_BYTES {
                        // Taken once something was sent.
                        return Ok(None);
                    }
                    self.taken = end;
                    return self.on_publish(now, first, begin, end).map(Some);
                }
                (packet::PUBACK, Phase::Open) => {
                    self.taken = end;
                    if let Some(event) = self.on_puback(begin, end)? {
                        return Ok(Some(event));
                    }
                }
                (packet::SUBACK, Phase::Open) => {
                    self.taken = end;
                    if let Some(event) = self.on_suback(begin, end)? {
                        return Ok(Some(event));
                    }
                }
                (packet::PINGRESP, Phase::Open) => {
                    self.taken = end;
                    self.ping_deadline = None;
                }
                (_, Phase::Open) => return Err(End::Malformed),
            }
        }
    }

    fn body(&self, begin: usize, end: usize) -> Body<'_> {
        Body(Reader::new(self.receive.get(begin..end).unwrap_or_default()))
    }

    fn on_connack(&mut self, begin: usize, end: usize) -> Result<Event<'static>, End> {
        let mut body = self.body(begin, end);
        body.byte()?;
        let code = body.byte()?;
        if code != 0 {
            return Err(End::Refused(code));
        }
        let mut properties = body.properties()?;
        let (mut keep_alive, mut receive_max, mut packet_bytes_max) = (self.keep_alive, IN_FLIGHT_MAX, u32::MAX);
        while let Some((id, value)) = properties.property()? {
            match id {
                property::SERVER_KEEP_ALIVE => keep_alive = Duration::from_secs(u64::from(value)),
                property::RECEIVE_MAX => receive_max = receive_max.min(usize::try_from(value).unwrap_or(usize::MAX)),
                property::PACKET_MAX => packet_bytes_max = value,
                _ => {}
            }
        }
        // Zero switches it off at the broker; the machine's own deadlines stay.
        self.keep_alive = if keep_alive.is_zero() { self.keep_alive } else { keep_alive };
        self.receive_max = receive_max;
        self.packet_bytes_max = packet_bytes_max;
        self.phase = Phase::Open;
        Ok(Event::Open)
    }

    fn on_publish(&mut self, now: Instant, first: u8, begin: usize, end: usize) -> Result<Event<'_>, End> {
        let id = match first >> 1 & 3 {
            0 => None,
            QOS_1 => {
                let mut body = self.body(begin, end);
                body.prefixed()?;
                Some(body.two()?)
            }
            // Nothing was subscribed with more.
            _ => return Err(End::Malformed),
        };
        if let Some(id) = id {
            let put = |writer: &mut Writer<'_>| writer.bytes(&id.to_be_bytes());
            self.packet(now, packet::PUBACK, 2, put).map_err(|Full| End::Blocked)?;
        }
        let mut body = self.body(begin, end);
        let topic = core::str::from_utf8(body.prefixed()?).map_err(|_| End::Malformed)?;
        if id.is_some() {
            body.two()?;
        }
        body.properties()?;
        Ok(Event::Message { topic, payload: body.0.rest() })
    }

    fn on_puback(&mut self, begin: usize, end: usize) -> Result<Option<Event<'static>>, End> {
        let mut body = self.body(begin, end);
        let id = body.two()?;
        let code = if body.0.is_empty() { 0 } else { body.byte()? };
        let Some(at) = self.publications.iter().position(|(of, _)| *of == id) else { return Ok(None) };
        let (_, ticket) = self.publications.swap_remove(at);
        Ok(Some(if code < FAILURE { Event::Acknowledged(ticket) } else { Event::Refused { code } }))
    }

    fn on_suback(&mut self, begin: usize, end: usize) -> Result<Option<Event<'static>>, End> {
        let mut body = self.body(begin, end);
        let id = body.two()?;
        body.properties()?;
        let codes = body.0.rest();
        let is_granted = !codes.is_empty() && codes.iter().all(|code| *code < FAILURE);
        let Some(at) = self.subscriptions.iter().position(|(of, _)| *of == id) else { return Ok(None) };
        let (_, group) = self.subscriptions.swap_remove(at);
        Ok(Some(if is_granted { Event::Subscribed(group) } else { Event::SubscribeRefused(group) }))
    }
}

#[cfg(test)]
mod tests;
