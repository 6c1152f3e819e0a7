//! What waits to be sent: a bounded ring of records in order, kept until the broker has acknowledged them.
//!
//! Every record takes a sequence number; one that is dropped leaves a gap and is counted, so that sent is always received plus
//! counted lost. Offline the oldest give way; with frames in flight the newest do, because what is under way cannot be recalled.
use super::port::Ticket;
use super::time::Instant;
use wire::codec::{WireError, Writer};

/// Frames of one class that may wait for their PUBACK.
pub const FRAMES_IN_FLIGHT_MAX: usize = 4;
const LENGTH_BYTES: usize = 2;
const SEQUENCE_BYTES: usize = 4;

/// A byte ring of length-prefixed entries over a caller-given buffer.
#[derive(Debug)]
pub(crate) struct Ring<'b> {
    bytes: &'b mut [u8],
    head: usize,
    used: usize,
}

impl<'b> Ring<'b> {
    pub fn new(bytes: &'b mut [u8]) -> Self {
        Self { bytes, head: 0, used: 0 }
    }

    pub fn fits_at_all(&self, length: usize) -> bool {
        length <= usize::from(u16::MAX) && LENGTH_BYTES + length <= self.bytes.len()
    }

    /// False, and nothing done, without room.
    pub fn push(&mut self, parts: &[&[u8]]) -> bool {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if !self.fits_at_all(length) || self.used + LENGTH_BYTES + length > self.bytes.len() {
            return false;
        }
        self.append(&(length as u16).to_le_bytes());
        parts.iter().for_each(|part| self.append(part));
        true
    }

    fn append(&mut self, part: &[u8]) {
        for &byte in part {
            let at = (self.head + self.used) % self.bytes.len();
            self.bytes[at] = byte;
            self.used += 1;
        }
    }

    pub fn used(&self) -> usize {
        self.used
    }

    pub fn has_room(&self, length: usize) -> bool {
        self.used + LENGTH_BYTES + length <= self.bytes.len()
    }

    /// A byte of the content of the entry at `offset`.
    pub fn content_byte(&self, offset: usize, at: usize) -> u8 {
        self.byte(offset + LENGTH_BYTES + at)
    }

    pub fn set_content_byte(&mut self, offset: usize, at: usize, byte: u8) {
        let at = (self.head + offset + LENGTH_BYTES + at) % self.bytes.len();
        self.bytes[at] = byte;
    }

    fn byte(&self, offset: usize) -> u8 {
        self.bytes[(self.head + offset) % self.bytes.len()]
    }

    /// Content length of the entry that begins at `offset`.
    pub fn length(&self, offset: usize) -> Option<usize> {
        (offset.saturating_add(LENGTH_BYTES) <= self.used)
            .then(|| usize::from(u16::from_le_bytes([self.byte(offset), self.byte(offset + 1)])))
    }

    pub fn next(&self, offset: usize) -> Option<usize> {
        self.length(offset).map(|length| offset + LENGTH_BYTES + length)
    }

    /// Part of the content of the entry at `offset`, in up to two pieces.
    pub fn content(&self, offset: usize, skip: usize) -> Option<(&[u8], &[u8])> {
        let length = self.length(offset)?.checked_sub(skip)?;
        let start = (self.head + offset + LENGTH_BYTES + skip) % self.bytes.len();
        let first = length.min(self.bytes.len() - start);
        Some((&self.bytes[start..start + first], &self.bytes[..length - first]))
    }

    /// Forgets `count` bytes from the front; whole entries by contract.
    pub fn drop_front(&mut self, count: usize) {
        if self.bytes.is_empty() {
            return;
        }
        let count = count.min(self.used);
        self.head = (self.head + count) % self.bytes.len();
        self.used -= count;
    }
}

#[derive(Debug)]
struct Frame {
    ticket: Ticket,
    bytes: usize,
    deadline: Instant,
    is_acknowledged: bool,
}

/// The next frame: records with consecutive sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub sequence: u32,
    pub count: u8,
    bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Outbox<'b> {
    ring: Ring<'b>,
    next_sequence: u32,
    lost: u32,
    /// Bytes of the ring that are in flight.
    sent: usize,
    frames: heapless::Deque<Frame, FRAMES_IN_FLIGHT_MAX>,
}

impl<'b> Outbox<'b> {
    pub fn new(bytes: &'b mut [u8]) -> Self {
        Self { ring: Ring::new(bytes), next_sequence: 1, lost: 0, sent: 0, frames: heapless::Deque::new() }
    }

    pub fn lost(&self) -> u32 {
        self.lost
    }

    /// Takes a sequence for something that is lost before it could be queued.
    pub fn count_lost(&mut self) {
        self.next_sequence = self.next_sequence.wrapping_add(1);
        self.lost = self.lost.saturating_add(1);
    }

    pub fn push(&mut self, record: &[u8]) {
        let sequence = self.next_sequence.to_le_bytes();
        if !self.ring.fits_at_all(SEQUENCE_BYTES + record.len()) {
            return self.count_lost();
        }
        while !self.ring.push(&[&sequence, record]) {
            if !self.frames.is_empty() {
                return self.count_lost();
            }
            let Some(oldest) = self.ring.next(0) else { return self.count_lost() };
            self.ring.drop_front(oldest);
            self.lost = self.lost.saturating_add(1);
        }
        self.next_sequence = self.next_sequence.wrapping_add(1);
    }

    fn sequence(&self, offset: usize) -> Option<u32> {
        self.ring.length(offset)?;
        let mut bytes = [0; SEQUENCE_BYTES];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = self.ring.byte(offset + LENGTH_BYTES + at);
        }
        Some(u32::from_le_bytes(bytes))
    }

    /// What may be sent now, in at most `bytes_max` bytes of records.
    pub fn plan(&self, records_max: usize, bytes_max: usize) -> Option<Plan> {
        if self.frames.is_full() {
            return None;
        }
        let sequence = self.sequence(self.sent)?;
        let (mut at, mut count, mut content) = (self.sent, 0, 0);
        while let (Some(length), Some(next), Some(found)) =
            (self.ring.length(at), self.ring.next(at), self.sequence(at))
        {
            content += length - SEQUENCE_BYTES;
            if count >= records_max || content > bytes_max || found != sequence.wrapping_add(count as u32) {
                break;
            }
            at = next;
            count += 1;
        }
        (count > 0).then_some(Plan { sequence, count: count as u8, bytes: at - self.sent })
    }

    /// Appends the records of `plan` as they were pushed.
    pub fn copy(&self, plan: &Plan, writer: &mut Writer<'_>) -> Result<(), WireError> {
        let mut at = self.sent;
        while at < self.sent + plan.bytes {
            let (first, second) = self.ring.content(at, SEQUENCE_BYTES).ok_or(WireError::Truncated)?;
            writer.bytes(first)?;
            writer.bytes(second)?;
            at = self.ring.next(at).ok_or(WireError::Truncated)?;
        }
        Ok(())
    }

    pub fn sent(&mut self, plan: &Plan, ticket: Ticket, deadline: Instant) {
        if self.frames.push_back(Frame { ticket, bytes: plan.bytes, deadline, is_acknowledged: false }).is_ok() {
            self.sent += plan.bytes;
        }
    }

    /// Gives up the frame of `plan`: it can never be encoded.
    pub fn abandon(&mut self, plan: &Plan) {
        if self.frames.is_empty() {
            self.ring.drop_front(plan.bytes);
            self.lost = self.lost.saturating_add(u32::from(plan.count));
        }
    }

    pub fn acknowledged(&mut self, ticket: Ticket) {
        if let Some(frame) = self.frames.iter_mut().find(|frame| frame.ticket == ticket) {
            frame.is_acknowledged = true;
        }
        while self.frames.front().is_some_and(|frame| frame.is_acknowledged) {
            if let Some(frame) = self.frames.pop_front() {
                self.ring.drop_front(frame.bytes);
                self.sent -= frame.bytes;
            }
        }
    }

    /// What was in flight is sent again, with the same sequences.
    pub fn link_lost(&mut self) {
        self.frames.clear();
        self.sent = 0;
    }

    /// When the oldest frame in flight is overdue.
    pub fn deadline(&self) -> Option<Instant> {
        self.frames.iter().filter(|frame| !frame.is_acknowledged).map(|frame| frame.deadline).min()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::vec::Vec;

    fn drain(outbox: &mut Outbox<'_>, received: &mut Vec<(u32, u8)>, acknowledge: bool) {
        while let Some(plan) = outbox.plan(3, 64) {
            let mut buffer = [0; 128];
            let mut writer = Writer::new(&mut buffer);
            outbox.copy(&plan, &mut writer).unwrap();
            for (at, &byte) in writer.written().iter().enumerate() {
                received.push((plan.sequence + at as u32, byte));
            }
            let ticket = Ticket(plan.sequence);
            outbox.sent(&plan, ticket, Instant::ZERO);
            if acknowledge {
                outbox.acknowledged(ticket);
            }
        }
    }

    #[test]
    fn sent_is_received_plus_counted_lost() {
        let mut bytes = [0; 50];
        let mut outbox = Outbox::new(&mut bytes);
        let mut received = Vec::new();
        for round in 0..40u8 {
            for item in 0..round % 13 {
                outbox.push(&[item]);
            }
            drain(&mut outbox, &mut received, true);
        }
        let pushed: u32 = (0..40u32).map(|round| round % 13).sum();
        assert_eq!(received.len() as u32 + outbox.lost(), pushed);
        assert!(outbox.lost() > 0);
        assert!(received.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn frames_in_flight_are_sent_again_after_a_lost_link() {
        let mut bytes = [0; 200];
        let mut outbox = Outbox::new(&mut bytes);
        (0..6).for_each(|item| outbox.push(&[item]));
        let mut first = Vec::new();
        drain(&mut outbox, &mut first, false);
        outbox.link_lost();
        let mut second = Vec::new();
        drain(&mut outbox, &mut second, true);
        assert_eq!(first, second);
        assert_eq!(outbox.lost(), 0);
    }

    #[test]
    fn while_frames_are_in_flight_the_newest_gives_way() {
        let mut bytes = [0; 24];
        let mut outbox = Outbox::new(&mut bytes);
        (0..3).for_each(|item| outbox.push(&[item]));
        let plan = outbox.plan(1, 64).unwrap();
        outbox.sent(&plan, Ticket(1), Instant::ZERO);
        outbox.push(&[9]);
        assert_eq!(outbox.lost(), 1);
        outbox.acknowledged(Ticket(1));
        assert_eq!(outbox.plan(9, 64).unwrap().sequence, 2);
    }

    #[test]
    fn a_record_longer_than_the_ring_is_lost_and_counted() {
        let mut outbox = Outbox::new(&mut []);
        outbox.push(&[1]);
        assert_eq!((outbox.lost(), outbox.plan(1, 64)), (1, None));
    }
}
