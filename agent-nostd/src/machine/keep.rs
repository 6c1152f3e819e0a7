//! What must become durable, in which order, and what is known to be: one write in flight, each with a deadline and a retry.
//!
//! Nothing here reads a value; it only knows that one changed and when it was made durable.
use super::port::{JournalKey, Ticket};
use super::random::{Random, doubled};
use super::time::{Duration, Instant, earliest};

/// `Persist` must be answered within this.
pub const PERSIST_DEADLINE: Duration = Duration::from_secs(60);
const RETRY_BASE: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Stops and new sets first, then what a start waits for.
const ORDER: [JournalKey; KEYS] = [
    JournalKey::Accepted,
    JournalKey::Attempts,
    JournalKey::Clock,
    JournalKey::Boot,
    JournalKey::Alarms,
    JournalKey::LastGood,
];
const KEYS: usize = JournalKey::ALL.len();

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Grows with each change of the value.
    wanted: u32,
    durable: u32,
    tries: u32,
    retry_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    pub ticket: Ticket,
    pub key: JournalKey,
    pub epoch: u32,
    pub deadline: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Keep {
    entries: [Entry; KEYS],
    write: Option<Write>,
}

const fn at(key: JournalKey) -> usize {
    match key {
        JournalKey::Accepted => 0,
        JournalKey::LastGood => 1,
        JournalKey::Boot => 2,
        JournalKey::Attempts => 3,
        JournalKey::Clock => 4,
        JournalKey::Alarms => 5,
    }
}

impl Keep {
    /// The value changed; returns the epoch at which the change will be durable.
    pub fn change(&mut self, key: JournalKey) -> u32 {
        let entry = &mut self.entries[at(key)];
        entry.wanted = entry.wanted.wrapping_add(1);
        if entry.tries == 0 {
            entry.retry_at = None;
        }
        entry.wanted
    }

    /// What is not durable needs not become so.
    pub fn withdraw(&mut self, key: JournalKey) {
        let entry = &mut self.entries[at(key)];
        entry.durable = entry.wanted;
    }

    pub fn is_durable(&self, key: JournalKey, epoch: u32) -> bool {
        self.entries[at(key)].durable >= epoch
    }

    /// The last write of this key failed, and none has succeeded since.
    pub fn is_failing(&self, key: JournalKey) -> bool {
        self.entries[at(key)].tries > 0
    }

    /// The next key to write, if none is being written.
    pub fn next(&self, now: Instant) -> Option<JournalKey> {
        if self.write.is_some() {
            return None;
        }
        ORDER.into_iter().find(|key| {
            let entry = &self.entries[at(*key)];
            entry.wanted != entry.durable && entry.retry_at.is_none_or(|retry_at| retry_at <= now)
        })
    }

    pub fn begin(&mut self, now: Instant, key: JournalKey, ticket: Ticket) {
        let epoch = self.entries[at(key)].wanted;
        self.write = Some(Write { ticket, key, epoch, deadline: now.after(PERSIST_DEADLINE) });
    }

    /// The write that this ticket names, if it is the one in flight; then it no longer is.
    pub fn finish(&mut self, ticket: Ticket) -> Option<Write> {
        self.write.take_if(|write| write.ticket == ticket)
    }

    pub fn succeeded(&mut self, write: &Write) {
        let entry = &mut self.entries[at(write.key)];
        // It may have been withdrawn meanwhile.
        entry.durable = entry.durable.max(write.epoch);
        entry.tries = 0;
        entry.retry_at = None;
    }

    pub fn failed(&mut self, write: &Write, now: Instant, random: &mut Random) {
        let entry = &mut self.entries[at(write.key)];
        entry.retry_at = Some(now.after(random.about(doubled(RETRY_BASE, entry.tries, RETRY_MAX))));
        entry.tries = entry.tries.saturating_add(1);
    }

    /// The write in flight, if it is overdue; then it counts as failed.
    pub fn overdue(&mut self, now: Instant) -> Option<Write> {
        self.write.take_if(|write| write.deadline <= now)
    }

    pub fn deadline(&self) -> Option<Instant> {
        if let Some(write) = &self.write {
            return Some(write.deadline);
        }
        self.entries
            .iter()
            .filter(|entry| entry.wanted != entry.durable)
            .fold(None, |first, entry| earliest(first, entry.retry_at))
    }
}
