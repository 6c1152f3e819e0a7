//! Records of one class until they are told: a bounded ring in memory that the caller gives, each record with its own sequence.
//!
//! Whatever becomes of a record, it is told, or lost and counted: never neither, never both. What is in flight is not recalled,
//! and what must be durable first is not sent before. Nothing here knows time or topics.
use super::outbox::Ring;
use super::port::Ticket;
use super::time::Instant;
use wire::codec::{Reader, WireError, Writer};
use wire::limits::{NAME_BYTES_MAX, SAMPLE_TEXT_BYTES_MAX, SAMPLES_MAX};

/// Frames of one class that may wait for their PUBACK.
pub const SAMPLE_FRAMES_IN_FLIGHT_MAX: usize = 2;
/// Workload 5, component 1, key, two times of 10, value: kind 1, length 2, text.
pub(crate) const RECORD_BYTES_MAX: usize = 5 + 1 + 1 + NAME_BYTES_MAX + 10 + 10 + 3 + SAMPLE_TEXT_BYTES_MAX;
/// Fate, sequence and length of the key before a record in the ring.
const HEAD_BYTES: usize = 6;
const KEY_AT: usize = 5;
const ENTRY_BYTES_MAX: usize = HEAD_BYTES + RECORD_BYTES_MAX;
/// Format, stream, next sequence, lost.
const SAVED_HEAD_BYTES: usize = 13;
/// Sequence and length of a saved record: what the ring spends on an entry, less the state.
const SAVED_RECORD_BYTES: usize = 6;
const FORMAT: u8 = 1;

/// What is to happen with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Waiting,
    /// To be written to the journal first.
    Unsaved,
    /// With the broker; the hub has not said that it took it.
    Sent,
    /// Told; kept to be told again to another hub.
    Held,
    Dead,
    /// Waiting after it was in flight on a link that is gone: it may have arrived, so that it is neither replaced nor dropped.
    Again,
    /// In the frame with this number.
    Flying(u8),
}

impl Fate {
    const fn byte(self) -> u8 {
        match self {
            Self::Waiting => 0,
            Self::Unsaved => 1,
            Self::Sent => 2,
            Self::Held => 3,
            Self::Dead => 4,
            Self::Again => 5,
            Self::Flying(frame) => 16 + frame,
        }
    }

    const fn of(byte: u8) -> Self {
        match byte {
            0 => Self::Waiting,
            1 => Self::Unsaved,
            2 => Self::Sent,
            3 => Self::Held,
            5 => Self::Again,
            16.. => Self::Flying(byte - 16),
            _ => Self::Dead,
        }
    }
}

/// What PUBACK means for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Forget,
    Hold,
    /// The hub's own word is waited for.
    Await,
}

#[derive(Debug)]
struct Frame {
    number: u8,
    ticket: Ticket,
    deadline: Instant,
}

/// The records of the next frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pick {
    offsets: heapless::Vec<usize, SAMPLES_MAX>,
    /// The lowest sequence that is still here.
    pub first: u32,
}

impl Pick {
    pub fn count(&self) -> u8 {
        self.offsets.len() as u8
    }
}

/// Whether the second is a later record's first, across the end of the numbers.
fn is_before(sequence: u32, other: u32) -> bool {
    other.wrapping_sub(sequence) as i32 > 0
}

#[derive(Debug)]
pub(crate) struct Shelf<'b> {
    ring: Ring<'b>,
    then: Then,
    pub next_sequence: u32,
    pub lost: u32,
    frames: heapless::Vec<Frame, SAMPLE_FRAMES_IN_FLIGHT_MAX>,
    /// What came from this sequence on is told before what waited longer.
    fresh_from: u32,
}

impl<'b> Shelf<'b> {
    pub fn new(bytes: &'b mut [u8], then: Then) -> Self {
        Self { ring: Ring::new(bytes), then, next_sequence: 1, lost: 0, frames: heapless::Vec::new(), fresh_from: 1 }
    }

    fn fate(&self, offset: usize) -> Option<Fate> {
        self.ring.length(offset).map(|_| Fate::of(self.ring.content_byte(offset, 0)))
    }

    fn set(&mut self, offset: usize, fate: Fate) {
        self.ring.set_content_byte(offset, 0, fate.byte());
    }

    fn sequence(&self, offset: usize) -> u32 {
        u32::from_le_bytes([1, 2, 3, 4].map(|at| self.ring.content_byte(offset, at)))
    }

    /// Changes the fate of every entry for which `then` has another one.
    fn change(&mut self, then: impl Fn(Fate, u32) -> Fate) {
        let mut offset = 0;
        while let Some(fate) = self.fate(offset) {
            let changed = then(fate, self.sequence(offset));
            if changed != fate {
                self.set(offset, changed);
            }
            offset = self.ring.next(offset).unwrap_or(usize::MAX);
        }
        self.trim();
    }

    fn trim(&mut self) {
        while self.fate(0) == Some(Fate::Dead) {
            self.drop_front();
        }
    }

    fn drop_front(&mut self) {
        if let Some(next) = self.ring.next(0) {
            self.ring.drop_front(next);
        }
    }

    /// Takes a sequence for a record that is lost before it could be queued.
    pub fn count_lost(&mut self) {
        self.next_sequence = self.next_sequence.wrapping_add(1);
        self.lost = self.lost.saturating_add(1);
    }

    fn append(&mut self, fate: Fate, sequence: u32, key_bytes: usize, record: &[u8]) -> bool {
        let head: [&[u8]; 3] = [&[fate.byte()], &sequence.to_le_bytes(), &[key_bytes as u8]];
        record.len() <= RECORD_BYTES_MAX && self.ring.push(&[head[0], head[1], head[2], record])
    }

    /// Refused and counted without room. What is taken is not sent before `saved`.
    pub fn push_or_refuse(&mut self, record: &[u8]) -> bool {
        self.trim();
        if !self.append(Fate::Unsaved, self.next_sequence, 0, record) {
            self.count_lost();
            return false;
        }
        self.next_sequence = self.next_sequence.wrapping_add(1);
        true
    }

    /// The oldest that was never sent gives way; if there is none, the new one does.
    pub fn push_or_drop_oldest(&mut self, record: &[u8]) {
        if self.make_room(record.len()) && self.append(Fate::Waiting, self.next_sequence, 0, record) {
            self.next_sequence = self.next_sequence.wrapping_add(1);
        } else {
            self.count_lost();
        }
    }

    /// In place of an earlier record that begins with the same `key_bytes`, fewer than 256. One that was not told yet leaves its sequence to the
    /// new one, so that a replaced value is no loss.
    pub fn push_latest(&mut self, record: &[u8], key_bytes: usize) {
        let mut offset = 0;
        let mut sequence = None;
        while let Some(fate) = self.fate(offset) {
            let is_same = || (0..key_bytes).all(|at| record.get(at) == self.record_byte(offset, at).as_ref());
            match fate {
                Fate::Waiting if is_same() => {
                    sequence = Some(self.sequence(offset));
                    self.set(offset, Fate::Dead);
                }
                Fate::Held if is_same() => self.set(offset, Fate::Dead),
                Fate::Flying(_)
                | Fate::Again
                | Fate::Waiting
                | Fate::Held
                | Fate::Unsaved
                | Fate::Sent
                | Fate::Dead => {}
            }
            offset = self.ring.next(offset).unwrap_or(usize::MAX);
        }
        if sequence.is_none() {
            self.next_sequence = self.next_sequence.wrapping_add(1);
        }
        let sequence = sequence.unwrap_or(self.next_sequence.wrapping_sub(1));
        if !(self.make_room(record.len()) && self.append(Fate::Waiting, sequence, key_bytes, record)) {
            self.lost = self.lost.saturating_add(1);
        }
    }

    fn record_byte(&self, offset: usize, at: usize) -> Option<u8> {
        let is_inside = self.ring.length(offset).is_some_and(|length| HEAD_BYTES + at < length);
        is_inside.then(|| self.ring.content_byte(offset, HEAD_BYTES + at))
    }

    /// Drops what is dead, then what is told, then the oldest; false if that cannot be enough.
    fn make_room(&mut self, record_bytes: usize) -> bool {
        let wanted = HEAD_BYTES + record_bytes;
        if !self.ring.fits_at_all(wanted) {
            return false;
        }
        self.trim();
        if self.ring.has_room(wanted) {
            return true;
        }
        self.compact(|fate| fate != Fate::Dead);
        if !self.ring.has_room(wanted) {
            self.compact(|fate| fate != Fate::Held);
        }
        let mut left = self.ring.used();
        while !self.ring.has_room(wanted) && left > 0 {
            let (Some(fate), Some(next)) = (self.fate(0), self.ring.next(0)) else { return false };
            left = left.saturating_sub(next);
            if fate == Fate::Waiting {
                self.lost = self.lost.saturating_add(1);
                self.drop_front();
            } else {
                self.turn();
            }
        }
        self.ring.has_room(wanted)
    }

    /// Moves the first entry to the end. It always finds the room that it had.
    fn turn(&mut self) {
        let Some(next) = self.ring.next(0) else { return };
        let mut buffer = [0; ENTRY_BYTES_MAX];
        let mut length = 0;
        if let Some((first, second)) = self.ring.content(0, 0) {
            for (to, from) in buffer.iter_mut().zip(first.iter().chain(second)) {
                *to = *from;
                length += 1;
            }
        }
        self.ring.drop_front(next);
        self.ring.push(&[&buffer[..length]]);
    }

    /// Turns the ring once and leaves out what is not kept. Mostly all is kept, and looking costs less than turning.
    fn compact(&mut self, is_kept: impl Fn(Fate) -> bool) {
        let mut offset = 0;
        while self.fate(offset).is_some_and(&is_kept) {
            offset = self.ring.next(offset).unwrap_or(usize::MAX);
        }
        if self.fate(offset).is_none() {
            return;
        }
        let mut left = self.ring.used();
        while left > 0 {
            let (Some(fate), Some(next)) = (self.fate(0), self.ring.next(0)) else { return };
            left = left.saturating_sub(next);
            if is_kept(fate) { self.turn() } else { self.ring.drop_front(next) }
        }
    }

    /// What may be told now, in at most `bytes_max` bytes. Fresh records first, then what waited, each in their order.
    pub fn pick(&self, records_max: usize, bytes_max: usize) -> Option<Pick> {
        if self.frames.is_full() {
            return None;
        }
        let mut pick = self.pick_where(records_max, bytes_max, |sequence| !is_before(sequence, self.fresh_from));
        if pick.offsets.is_empty() {
            pick = self.pick_where(records_max, bytes_max, |_| true);
        }
        (!pick.offsets.is_empty()).then_some(pick)
    }

    fn pick_where(&self, records_max: usize, bytes_max: usize, is_wanted: impl Fn(u32) -> bool) -> Pick {
        let mut pick = Pick { first: self.next_sequence, ..Pick::default() };
        let (mut offset, mut bytes) = (0, 0);
        while let (Some(fate), Some(length)) = (self.fate(offset), self.ring.length(offset)) {
            let sequence = self.sequence(offset);
            let is_here = !matches!(fate, Fate::Dead | Fate::Held);
            if is_here && is_before(sequence, pick.first) {
                pick.first = sequence;
            }
            if matches!(fate, Fate::Waiting | Fate::Again) && is_wanted(sequence) && pick.offsets.len() < records_max {
                // A sequence takes five bytes on the wire at most, four here.
                bytes += length + 1;
                if bytes > bytes_max || pick.offsets.push(offset).is_err() {
                    bytes = usize::MAX / 2;
                }
            }
            offset = self.ring.next(offset).unwrap_or(usize::MAX);
        }
        pick
    }

    /// The first of `pick` that belongs to this boot, when what is below `sequence` does not: frames do not mix boots.
    pub fn split(&self, pick: &mut Pick, sequence: u32) -> bool {
        let is_old = |offset: &usize| is_before(self.sequence(*offset), sequence);
        let is_first_old = pick.offsets.first().is_some_and(is_old);
        let same = pick.offsets.iter().take_while(|offset| is_old(offset) == is_first_old).count();
        pick.offsets.truncate(same);
        is_first_old
    }

    /// Appends the records of `pick` as the wire has them.
    pub fn copy(&self, pick: &Pick, writer: &mut Writer<'_>) -> Result<(), WireError> {
        for offset in &pick.offsets {
            writer.value(&self.sequence(*offset))?;
            let (first, second) = self.ring.content(*offset, HEAD_BYTES).ok_or(WireError::Truncated)?;
            writer.bytes(first)?;
            writer.bytes(second)?;
        }
        Ok(())
    }

    pub fn sent(&mut self, pick: &Pick, ticket: Ticket, deadline: Instant) {
        let free =
            (0..SAMPLE_FRAMES_IN_FLIGHT_MAX as u8).find(|number| self.frames.iter().all(|f| f.number != *number));
        let Some(number) = free else { return };
        if self.frames.push(Frame { number, ticket, deadline }).is_ok() {
            for offset in &pick.offsets {
                self.set(*offset, Fate::Flying(number));
            }
        }
    }

    /// Gives up the records of `pick`: they can never be encoded.
    pub fn abandon(&mut self, pick: &Pick) {
        for offset in &pick.offsets {
            self.set(*offset, Fate::Dead);
        }
        self.lost = self.lost.saturating_add(u32::from(pick.count()));
        self.trim();
    }

    pub fn acknowledged(&mut self, ticket: Ticket) {
        let Some(at) = self.frames.iter().position(|frame| frame.ticket == ticket) else { return };
        let frame = self.frames.swap_remove(at);
        let told = match self.then {
            Then::Forget => Fate::Dead,
            Then::Hold => Fate::Held,
            Then::Await => Fate::Sent,
        };
        self.change(|fate, _| if fate == Fate::Flying(frame.number) { told } else { fate });
    }

    /// The hub has taken everything up to this sequence. True if that was news.
    pub fn taken(&mut self, up_to: u32) -> bool {
        let before = self.ring.used();
        self.change(|fate, sequence| match fate {
            Fate::Sent | Fate::Flying(_) | Fate::Again | Fate::Waiting if !is_before(up_to, sequence) => Fate::Dead,
            other => other,
        });
        self.ring.used() != before
    }

    /// What the hub did not say that it took is told again.
    pub fn again(&mut self) {
        self.change(|fate, _| if fate == Fate::Sent { Fate::Again } else { fate });
    }

    /// Whether the hub's word is waited for.
    pub fn is_awaiting(&self) -> bool {
        self.any(|fate| fate == Fate::Sent)
    }

    fn any(&self, is_wanted: impl Fn(Fate) -> bool) -> bool {
        let mut offset = 0;
        while let Some(fate) = self.fate(offset) {
            if is_wanted(fate) {
                return true;
            }
            offset = self.ring.next(offset).unwrap_or(usize::MAX);
        }
        false
    }

    pub fn has_waiting(&self) -> bool {
        !self.frames.is_full() && self.any(|fate| matches!(fate, Fate::Waiting | Fate::Again))
    }

    /// What was in flight, or awaited the hub's word, is told again with the same sequences.
    pub fn link_lost(&mut self) {
        self.frames.clear();
        self.change(|fate, _| if matches!(fate, Fate::Flying(_) | Fate::Sent) { Fate::Again } else { fate });
    }

    /// From here on what comes is told before what waited.
    pub fn link_found(&mut self) {
        self.fresh_from = self.next_sequence;
    }

    /// Another hub knows none of the values: each that was told is told once more, as a new record.
    pub fn tell_held_again(&mut self) {
        let mut offset = 0;
        while let Some(fate) = self.fate(offset) {
            if fate == Fate::Held && self.is_superseded(offset) {
                self.set(offset, Fate::Dead);
            } else if fate == Fate::Held {
                for (at, byte) in self.next_sequence.to_le_bytes().into_iter().enumerate() {
                    self.ring.set_content_byte(offset, 1 + at, byte);
                }
                self.next_sequence = self.next_sequence.wrapping_add(1);
                self.set(offset, Fate::Waiting);
            }
            offset = self.ring.next(offset).unwrap_or(usize::MAX);
        }
    }

    /// Whether a later record of the same key is here.
    fn is_superseded(&self, offset: usize) -> bool {
        let (sequence, key_bytes) = (self.sequence(offset), usize::from(self.ring.content_byte(offset, KEY_AT)));
        let mut other = 0;
        while let Some(fate) = self.fate(other) {
            let is_same = || (0..key_bytes).all(|at| self.record_byte(offset, at) == self.record_byte(other, at));
            if fate != Fate::Dead && is_before(sequence, self.sequence(other)) && is_same() {
                return true;
            }
            other = self.ring.next(other).unwrap_or(usize::MAX);
        }
        false
    }

    /// Everything before `sequence` is durable.
    pub fn saved(&mut self, sequence: u32) {
        let is_saved = |fate, of| fate == Fate::Unsaved && is_before(of, sequence);
        self.change(|fate, of| if is_saved(fate, of) { Fate::Waiting } else { fate });
    }

    /// When the oldest frame in flight is overdue.
    pub fn deadline(&self) -> Option<Instant> {
        self.frames.iter().map(|frame| frame.deadline).min()
    }

    /// The ring as the journal keeps it.
    pub fn save(&self, stream: u32, writer: &mut Writer<'_>) -> Result<(), WireError> {
        writer.bytes(&[FORMAT])?;
        for number in [stream, self.next_sequence, self.lost] {
            writer.bytes(&number.to_le_bytes())?;
        }
        let mut offset = 0;
        while let Some(fate) = self.fate(offset) {
            if fate != Fate::Dead {
                let (first, second) = self.ring.content(offset, HEAD_BYTES).ok_or(WireError::Truncated)?;
                writer.bytes(&self.sequence(offset).to_le_bytes())?;
                writer.bytes(&((first.len() + second.len()) as u16).to_le_bytes())?;
                writer.bytes(first)?;
                writer.bytes(second)?;
            }
            offset = self.ring.next(offset).unwrap_or(usize::MAX);
        }
        Ok(())
    }

    /// Bytes that `save` needs at most for a ring of so many.
    pub const fn saved_bytes_max(ring_bytes: usize) -> usize {
        // In the ring an entry has a length of two and its head around its record.
        const { assert!(SAVED_RECORD_BYTES < HEAD_BYTES + 2) };
        SAVED_HEAD_BYTES + ring_bytes
    }

    /// Takes up what the journal held, and returns the stream. Total: it ends at the first thing that is no record.
    pub fn restore(&mut self, value: &[u8]) -> Option<u32> {
        let mut reader = Reader::new(value);
        if reader.byte() != Ok(FORMAT) {
            return None;
        }
        let mut number = || reader.array::<4>().ok().map(u32::from_le_bytes);
        let (stream, next_sequence, lost) = (number()?, number()?, number()?);
        (self.next_sequence, self.lost) = (next_sequence, lost);
        while let (Ok(sequence), Ok(length)) = (reader.array::<4>(), reader.array::<2>()) {
            let Ok(record) = reader.bytes(usize::from(u16::from_le_bytes(length))) else { break };
            if !self.append(Fate::Waiting, u32::from_le_bytes(sequence), 0, record) {
                // A ring that was made smaller since.
                self.lost = self.lost.saturating_add(1);
            }
        }
        Some(stream)
    }
}

#[cfg(test)]
#[path = "tests/shelf.rs"]
mod tests;
