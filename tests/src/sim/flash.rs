//! The flash of a device as a double: two slots per key, one write at a time, and every way in which power or cells can fail.
//!
//! What a slot holds is decided by the real record logic of the journal; nothing here may know what the values mean.
use super::random::Random;
use agent_nostd::journal::{Next, SEAL_BYTES, Slot, pick, seal};
use agent_nostd::machine::port::{JournalKey, Ticket};

const KEYS: usize = JournalKey::ALL.len();

#[derive(Clone, Debug)]
pub struct Write {
    pub ticket: Ticket,
    pub key: JournalKey,
    pub since_ms: u64,
    next: Next,
    bytes: Vec<u8>,
}

#[derive(Debug)]
pub struct Flash {
    slots: [[Vec<u8>; 2]; KEYS],
    next: [Next; KEYS],
    pub in_flight: Option<Write>,
}

fn at(key: JournalKey) -> usize {
    JournalKey::ALL.iter().position(|other| *other == key).unwrap_or(0)
}

fn side(slot: Slot) -> usize {
    match slot {
        Slot::A => 0,
        Slot::B => 1,
    }
}

impl Default for Flash {
    fn default() -> Self {
        Self { slots: Default::default(), next: [Next::after(None); KEYS], in_flight: None }
    }
}

impl Flash {
    /// The truth of a key, as it would be read after a cut at this moment.
    pub fn value(&self, key: JournalKey) -> Option<&[u8]> {
        let [a, b] = &self.slots[at(key)];
        pick(key, a, b).map(|picked| picked.value)
    }

    /// Reads everything, as at boot.
    pub fn mount(&mut self) {
        self.in_flight = None;
        for key in JournalKey::ALL {
            let [a, b] = &self.slots[at(key)];
            self.next[at(key)] = Next::after(pick(key, a, b).as_ref());
        }
    }

    pub fn begin(&mut self, now: u64, ticket: Ticket, key: JournalKey, value: &[u8]) {
        let next = self.next[at(key)];
        let mut bytes = seal(key, next.sequence, value).to_vec();
        bytes.extend_from_slice(value);
        self.in_flight = Some(Write { ticket, key, since_ms: now, next, bytes });
    }

    /// The write in flight is durable.
    pub fn finish(&mut self) -> Option<Write> {
        let write = self.in_flight.take()?;
        self.slots[at(write.key)][side(write.next.slot)] = write.bytes.clone();
        self.next[at(write.key)] = write.next.written();
        Some(write)
    }

    /// Nothing of the write in flight stays; the slot is torn as by a cut, and the device knows.
    pub fn fail(&mut self, random: &mut Random) -> Option<Ticket> {
        let ticket = self.in_flight.as_ref().map(|write| write.ticket);
        self.cut(random);
        ticket
    }

    /// Power is gone: of the write in flight there is nothing, a part, or all. True if it was torn.
    pub fn cut(&mut self, random: &mut Random) -> bool {
        let Some(write) = self.in_flight.take() else { return false };
        let slot = &mut self.slots[at(write.key)][side(write.next.slot)];
        let length = write.bytes.len();
        match random.below(4) {
            0 => return false,
            1 => *slot = write.bytes,
            2 => {
                // The erase was done, the programming was not.
                let written = random.index(length);
                *slot = write.bytes[..written].to_vec();
                slot.resize(length, 0xff);
            }
            _ => {
                // The new beginning over the old end.
                let written = SEAL_BYTES.min(length) + random.index(length.saturating_sub(SEAL_BYTES));
                slot.resize(slot.len().max(length), 0);
                slot[..written].copy_from_slice(&write.bytes[..written]);
            }
        }
        true
    }

    /// One bit of one slot changes. True if that slot held the truth.
    pub fn rot(&mut self, random: &mut Random) -> Option<(JournalKey, bool)> {
        let key = JournalKey::ALL[random.index(KEYS)];
        let [a, b] = &self.slots[at(key)];
        let truth = pick(key, a, b).map(|picked| side(picked.slot));
        let chosen = random.index(2);
        let slot = &mut self.slots[at(key)][chosen];
        let byte = random.index(slot.len());
        *slot.get_mut(byte)? ^= 1 << random.below(8);
        Some((key, truth == Some(chosen)))
    }
}
