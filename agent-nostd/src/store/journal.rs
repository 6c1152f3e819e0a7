//! The journal on flash: two banks, in one of which records follow each other.
//!
//! A value is a record behind a seal of `crate::journal`; the valid one with the highest sequence is the truth. When the bank is
//! full, the other one is erased, gets the newest value of each key and, last of all, the mark that makes it the bank. So nothing
//! is ever erased that is the only copy of something, whatever a torn erase leaves behind, and the bank that was left still
//! holds the values of that moment should a bit of the new one rot. All sectors of a bank are erased together: its
//! generation is its wear.
//!
//! Bank: `mark | records | the same mark`. Mark: `magic 4 | generation u32 | salt 8 | zero 12 | crc u32`. Record: `tag 8 | seal 24 |
//! value`, padded to the programming unit. The tag follows from the salt and the place, so that bytes inside of a value, which
//! may be anybody's, are never taken for a record where a walk has lost its way.
//!
//! Must never erase the bank that holds the truth, nor trust a length before its record's check.
use super::flash::is_usable;
use super::limits::{BUFFER_BYTES, KEYS_MAX, WRITE_SIZE_MAX};
use crate::journal::{SEAL_BYTES, Seal, seal, seal_parts};
use crate::machine::port::{JournalKey, PersistFailure};
use embedded_storage::nor_flash::NorFlash;
use heapless::Vec;
use sha2::{Digest as _, Sha256};

const MARK_BYTES: u32 = 32;
const MARK_MAGIC: [u8; 4] = *b"FJB1";
const TAG_BYTES: usize = 8;
/// Tag and seal.
const FRAME_BYTES: u32 = (TAG_BYTES + SEAL_BYTES) as u32;
/// Makes the mark's check; no value has it.
const MARK_KEY: u8 = 0;

/// Names a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u8);

impl Key {
    /// Who the device is: keys, credential, addresses. Written once, at joining.
    pub const IDENTITY: Self = Self(64);
    /// What `boot::Seeds` keeps.
    pub const BOOT: Self = Self(65);
    /// How often the artifacts' sectors were erased.
    pub const WEAR: Self = Self(66);
    /// What became of the board's own firmware.
    pub const FIRMWARE: Self = Self(67);

    /// One of a shell's own; numbers below 64.
    pub const fn own(number: u8) -> Self {
        Self(128 | (number & 63))
    }
}

impl From<JournalKey> for Key {
    fn from(key: JournalKey) -> Self {
        Self(key as u8)
    }
}

impl From<Key> for u8 {
    fn from(key: Key) -> Self {
        key.0
    }
}

/// How worn the journal's flash is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalWear {
    /// Erases of each sector, of the bank that was erased more often.
    pub erases_per_sector: u32,
    /// Writes and erases that failed since this boot.
    pub failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bank {
    generation: u32,
    salt: u64,
}

/// Where the truth of a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    key: Key,
    bank: u8,
    /// Of the record within the bank.
    at: u32,
    length: u32,
    sequence: u64,
}

/// The journal of a device.
#[derive(Debug)]
pub struct Journal<F> {
    flash: F,
    bank_bytes: u32,
    banks: [Option<Bank>; 2],
    active: u8,
    /// Where the next record goes.
    end: u32,
    sequence: u64,
    entries: Vec<Entry, KEYS_MAX>,
    failures: u32,
}

/// Aligned, because some flash controllers read memory by words.
#[repr(align(32))]
struct Buffer([u8; BUFFER_BYTES]);

impl<F: NorFlash> Journal<F> {
    /// Reads what is there. A flash without a journal gets one at the first `persist`; one that cannot be used refuses every
    /// `persist`: whatever its state, a device boots.
    pub fn open(flash: F) -> Self {
        let sector = F::ERASE_SIZE.max(1);
        let sectors = if is_usable::<F>() { flash.capacity() / sector / 2 } else { 0 };
        let bank_bytes = u32::try_from(sectors * sector).unwrap_or(0);
        let mut journal = Self {
            flash,
            bank_bytes,
            banks: [None; 2],
            active: 0,
            end: Self::padded(MARK_BYTES),
            sequence: 0,
            entries: Vec::new(),
            failures: 0,
        };
        if bank_bytes == 0 {
            return journal;
        }
        journal.banks = [journal.mark_read(0), journal.mark_read(1)];
        let generation = |bank: Option<Bank>| bank.map_or(0, |bank| bank.generation);
        journal.active = u8::from(generation(journal.banks[1]) > generation(journal.banks[0]));
        // The older one first: what it alone has counts too.
        journal.walk(1 - journal.active);
        journal.end = journal.walk(journal.active);
        journal.heal();
        journal
    }

    /// Bytes of a value, if there is one.
    pub fn length(&self, key: impl Into<Key>) -> Option<usize> {
        self.entry(key.into()).map(|entry| entry.length as usize)
    }

    /// The newest durable value. `None`: there is none, it does not fit, or the flash does not give it back any more.
    pub fn load<'a>(&mut self, key: impl Into<Key>, into: &'a mut [u8]) -> Option<&'a [u8]> {
        self.load_parts(key, &mut [], into)
    }

    /// The same of a value whose first bytes go elsewhere.
    pub fn load_parts<'a>(&mut self, key: impl Into<Key>, head: &mut [u8], into: &'a mut [u8]) -> Option<&'a [u8]> {
        let entry = self.entry(key.into())?;
        let value = into.get_mut(..(entry.length as usize).checked_sub(head.len())?)?;
        let (mut seal, start) = self.seal_at(entry.bank, entry.at, entry.key)?;
        let mut buffer = Buffer([0; BUFFER_BYTES]);
        let mut done = 0;
        while done < entry.length as usize {
            let length = (entry.length as usize - done).min(BUFFER_BYTES);
            let bytes = self.bytes(start + done as u32, length, &mut buffer)?;
            seal.add(bytes);
            let to_head = bytes.len().min(head.len().saturating_sub(done));
            let (first, rest) = bytes.split_at(to_head);
            head.get_mut(done..done + to_head).unwrap_or_default().copy_from_slice(first);
            let from = (done + to_head).saturating_sub(head.len());
            value.get_mut(from..from + rest.len())?.copy_from_slice(rest);
            done += length;
        }
        seal.is_whole().then_some(value)
    }

    /// The first bytes of a value, as they are.
    pub fn peek(&mut self, key: impl Into<Key>, head: &mut [u8]) -> Option<()> {
        let entry = self.entry(key.into()).filter(|entry| entry.length as usize >= head.len())?;
        let mut buffer = Buffer([0; BUFFER_BYTES]);
        let start = self.address(entry.bank, entry.at) + FRAME_BYTES;
        head.copy_from_slice(self.bytes(start, head.len(), &mut buffer)?);
        Some(())
    }

    /// Durable on return. After a failure the former value is the truth. An empty value is none.
    pub fn persist(&mut self, key: impl Into<Key>, value: &[u8]) -> Result<(), PersistFailure> {
        self.persist_parts(key, [value, &[]])
    }

    /// There is no such value any more. Durable on return.
    pub fn remove(&mut self, key: impl Into<Key>) -> Result<(), PersistFailure> {
        let key = key.into();
        if self.entry(key).is_none() { Ok(()) } else { self.persist(key, &[]) }
    }

    /// `persist` for a value that lies in two parts.
    pub fn persist_parts(&mut self, key: impl Into<Key>, value: [&[u8]; 2]) -> Result<(), PersistFailure> {
        let key = key.into();
        if self.bank_bytes == 0 {
            return Err(PersistFailure::Storage);
        }
        let length = length(value).ok_or(PersistFailure::NoSpace)?;
        let is_new = !self.entries.iter().any(|entry| entry.key == key);
        if self.live_bytes(key).saturating_add(Self::frame(length)) > self.room() || is_new && self.entries.is_full() {
            return Err(PersistFailure::NoSpace);
        }
        let has_bank = self.banks[usize::from(self.active)].is_some();
        if has_bank && self.end + Self::frame(length) <= self.records_end() && self.append(key, value) {
            return Ok(());
        }
        if self.change_bank(key, value) { Ok(()) } else { Err(PersistFailure::Storage) }
    }

    pub fn wear(&self) -> JournalWear {
        let generation = self.banks.iter().flatten().map(|bank| bank.generation).max().unwrap_or(0);
        JournalWear { erases_per_sector: generation.div_ceil(2), failures: self.failures }
    }

    /// Bytes of values and their frames that fit at once.
    pub fn room(&self) -> u32 {
        self.records_end().saturating_sub(Self::padded(MARK_BYTES))
    }

    #[cfg(test)]
    pub(crate) fn flash(&self) -> &F {
        &self.flash
    }

    #[cfg(test)]
    pub(crate) fn flash_mut(&mut self) -> &mut F {
        &mut self.flash
    }

    /// Gives the flash back.
    pub fn into_flash(self) -> F {
        self.flash
    }

    const fn padded(bytes: u32) -> u32 {
        bytes.next_multiple_of(F::WRITE_SIZE as u32)
    }

    const fn frame(length: u32) -> u32 {
        Self::padded(FRAME_BYTES.saturating_add(length))
    }

    /// Offset of the second mark.
    fn records_end(&self) -> u32 {
        self.bank_bytes.saturating_sub(Self::padded(MARK_BYTES))
    }

    fn address(&self, bank: u8, at: u32) -> u32 {
        u32::from(bank) * self.bank_bytes + at
    }

    /// An empty value stays as the word that there is none: the other bank may still have an older one.
    fn entry(&self, key: Key) -> Option<Entry> {
        self.entries.iter().find(|entry| entry.key == key && entry.length > 0).copied()
    }

    /// Of all values but this one.
    fn live_bytes(&self, but: Key) -> u32 {
        self.entries.iter().filter(|entry| entry.key != but).map(|entry| Self::frame(entry.length)).sum()
    }

    /// Bytes of the flash at an address, whatever its reading unit is. `None` if it cannot be read.
    fn bytes<'b>(&mut self, address: u32, length: usize, buffer: &'b mut Buffer) -> Option<&'b [u8]> {
        let unit = F::READ_SIZE.max(1);
        let rounded = length.next_multiple_of(unit);
        self.flash.read(address, buffer.0.get_mut(..rounded)?).ok()?;
        buffer.0.get(..length)
    }

    fn mark_read(&mut self, bank: u8) -> Option<Bank> {
        let mut buffer = Buffer([0; BUFFER_BYTES]);
        for at in [0, self.records_end()] {
            let address = self.address(bank, at);
            let Some(mark) = self.bytes(address, MARK_BYTES as usize, &mut buffer) else { continue };
            let (head, check) = mark.split_at(MARK_BYTES as usize - 4);
            if head[..4] != MARK_MAGIC || check != mark_check(head) {
                continue;
            }
            let (Ok(generation), Ok(salt)) = (head[4..8].try_into(), head[8..16].try_into()) else { continue };
            return Some(Bank { generation: u32::from_le_bytes(generation), salt: u64::from_le_bytes(salt) });
        }
        None
    }

    /// The seal of a record, and the address of its value.
    fn seal_at(&mut self, bank: u8, at: u32, key: Key) -> Option<(Seal, u32)> {
        let salt = self.banks.get(usize::from(bank)).copied().flatten()?.salt;
        let mut buffer = Buffer([0; BUFFER_BYTES]);
        let address = self.address(bank, at);
        let head = self.bytes(address, FRAME_BYTES as usize, &mut buffer)?;
        let (tag_bytes, sealed) = head.split_at(TAG_BYTES);
        if tag_bytes != tag(salt, at) {
            return None;
        }
        Some((Seal::read(key, sealed)?, address + FRAME_BYTES))
    }

    /// Enters every valid record of a bank. Where the next one goes: behind everything that is not blank.
    fn walk(&mut self, bank: u8) -> u32 {
        let mut at = Self::padded(MARK_BYTES);
        let mut end = at;
        if self.banks[usize::from(bank)].is_none() {
            return end;
        }
        while at + FRAME_BYTES <= self.records_end() {
            match self.record(bank, at) {
                Some(entry) => {
                    at += Self::frame(entry.length);
                    end = at;
                    self.sequence = self.sequence.max(entry.sequence);
                    self.enter(entry);
                }
                // Torn, rotten, or nothing: the next one may begin at any unit.
                None => match self.next_used(bank, at) {
                    Some(used) => {
                        at = used.max(at + F::WRITE_SIZE as u32);
                        end = end.max(at);
                    }
                    None => break,
                },
            }
        }
        end.min(self.records_end())
    }

    /// Where the programming unit begins that is not blank, from here on; its end if it is this one.
    fn next_used(&mut self, bank: u8, from: u32) -> Option<u32> {
        let mut buffer = Buffer([0; BUFFER_BYTES]);
        let unit = F::WRITE_SIZE as u32;
        let mut at = from;
        while at < self.records_end() {
            let length = (BUFFER_BYTES as u32).min(self.records_end() - at);
            let address = self.address(bank, at);
            let found = match self.bytes(address, length as usize, &mut buffer) {
                Some(bytes) => bytes.iter().position(|byte| *byte != 0xff).and_then(|found| u32::try_from(found).ok()),
                // What cannot be read is not blank.
                None => Some(0),
            };
            if let Some(found) = found {
                let used = at + found / unit * unit;
                return Some(if used == from { from + unit } else { used });
            }
            at += length;
        }
        None
    }

    /// The valid record at a place.
    fn record(&mut self, bank: u8, at: u32) -> Option<Entry> {
        let mut buffer = Buffer([0; BUFFER_BYTES]);
        let address = self.address(bank, at);
        let head = self.bytes(address, FRAME_BYTES as usize, &mut buffer)?;
        let key = Key(*head.get(TAG_BYTES + 5)?);
        let (mut seal, start) = self.seal_at(bank, at, key)?;
        let end = at.checked_add(FRAME_BYTES)?.checked_add(seal.length)?;
        if end > self.records_end() {
            return None;
        }
        let mut left = seal.length;
        let mut from = start;
        while left > 0 {
            let length = left.min(BUFFER_BYTES as u32);
            seal.add(self.bytes(from, length as usize, &mut buffer)?);
            from += length;
            left -= length;
        }
        let entry = Entry { key, bank, at, length: seal.length, sequence: seal.sequence };
        seal.is_whole().then_some(entry)
    }

    fn enter(&mut self, entry: Entry) {
        match self.entries.iter_mut().find(|known| known.key == entry.key) {
            Some(known) if known.sequence <= entry.sequence => *known = entry,
            Some(_) => {}
            // Never more keys than were written.
            None => drop(self.entries.push(entry)),
        }
    }

    /// What only the older bank has, because the newer one has rotted, is copied before that bank is needed.
    fn heal(&mut self) {
        let active = self.active;
        let lost: Vec<Entry, KEYS_MAX> = self.entries.iter().filter(|entry| entry.bank != active).copied().collect();
        for entry in lost {
            let at = self.end;
            if at + Self::frame(entry.length) > self.records_end() {
                continue;
            }
            self.end += Self::frame(entry.length);
            if self.copy(entry, active, at).is_some()
                && let Some(copied) = self.record(active, at)
            {
                self.enter(copied);
            }
        }
    }

    /// False if the flash did not take it; its place is not used again.
    fn append(&mut self, key: Key, value: [&[u8]; 2]) -> bool {
        let at = self.end;
        let sequence = self.sequence.saturating_add(1);
        self.end += Self::frame(length(value).unwrap_or(0));
        let Some(entry) = self.put(self.active, at, key, sequence, value) else { return false };
        self.sequence = sequence;
        self.enter(entry);
        true
    }

    /// Writes a record and reads it back.
    fn put(&mut self, bank: u8, at: u32, key: Key, sequence: u64, value: [&[u8]; 2]) -> Option<Entry> {
        let salt = self.banks.get(usize::from(bank)).copied().flatten()?.salt;
        let mut stream = Stream::new(self.address(bank, at));
        let is_written = stream.write(&mut self.flash, &tag(salt, at))
            && stream.write(&mut self.flash, &seal_parts(key, sequence, value))
            && value.iter().all(|part| stream.write(&mut self.flash, part))
            && stream.finish(&mut self.flash);
        let entry = if is_written { self.record(bank, at) } else { None };
        if entry.is_none() {
            self.failures = self.failures.saturating_add(1);
        }
        entry.filter(|entry| (entry.key, entry.sequence) == (key, sequence))
    }

    /// Moves a record as it is, apart from its tag.
    fn copy(&mut self, entry: Entry, bank: u8, at: u32) -> Option<()> {
        let salt = self.banks.get(usize::from(bank)).copied().flatten()?.salt;
        let mut stream = Stream::new(self.address(bank, at));
        let mut is_written = stream.write(&mut self.flash, &tag(salt, at));
        let mut from = self.address(entry.bank, entry.at);
        let mut left = FRAME_BYTES + entry.length;
        let mut skipped = TAG_BYTES;
        let mut buffer = Buffer([0; BUFFER_BYTES]);
        while left > 0 && is_written {
            let length = left.min(BUFFER_BYTES as u32);
            let bytes = self.bytes(from, length as usize, &mut buffer)?.get(skipped..)?;
            is_written = stream.write(&mut self.flash, bytes);
            from += length;
            left -= length;
            skipped = 0;
        }
        let is_written = is_written && stream.finish(&mut self.flash);
        if !is_written {
            self.failures = self.failures.saturating_add(1);
        }
        is_written.then_some(())
    }

    /// Erases the other bank and goes on there with the newest value of each key, of which this is one.
    fn change_bank(&mut self, key: Key, value: [&[u8]; 2]) -> bool {
        let former = self.active;
        let next = 1 - former;
        let newest = self.banks.iter().flatten().map(|bank| bank.generation).max().unwrap_or(0);
        let salt = self.next_salt(newest);
        // What only that bank has is given up: there was no room for it here.
        self.entries.retain(|entry| entry.bank == former);
        self.banks[usize::from(next)] = None;
        let start = self.address(next, 0);
        if self.flash.erase(start, start + self.bank_bytes).is_err() {
            self.failures = self.failures.saturating_add(1);
            return false;
        }
        self.banks[usize::from(next)] = Some(Bank { generation: newest.saturating_add(1), salt });
        let moved = self.fill(next, key, value);
        let is_done = moved.is_some() && self.mark_write(next);
        match moved {
            Some((entries, end)) if is_done => {
                self.entries = entries;
                self.active = next;
                self.end = end;
                self.sequence = self.sequence.saturating_add(1);
            }
            Some(_) | None => self.banks[usize::from(next)] = None,
        }
        is_done
    }

    /// The records of a new bank, and their end.
    fn fill(&mut self, bank: u8, key: Key, value: [&[u8]; 2]) -> Option<(Vec<Entry, KEYS_MAX>, u32)> {
        let mut entries: Vec<Entry, KEYS_MAX> = Vec::new();
        let mut at = Self::padded(MARK_BYTES);
        for index in 0..self.entries.len() {
            let entry = *self.entries.get(index)?;
            if entry.key == key {
                continue;
            }
            // A value that has rotted away is not there any more; the others go on.
            if self.record(entry.bank, entry.at).is_none() {
                continue;
            }
            self.copy(entry, bank, at)?;
            entries.push(self.record(bank, at)?).ok()?;
            at += Self::frame(entry.length);
        }
        let sequence = self.sequence.saturating_add(1);
        entries.push(self.put(bank, at, key, sequence, value)?).ok()?;
        Some((entries, at + Self::frame(length(value)?)))
    }

    /// Makes a bank valid: at its start and, should that rot, at its end.
    fn mark_write(&mut self, bank: u8) -> bool {
        let Some(Bank { generation, salt }) = self.banks[usize::from(bank)] else { return false };
        let mut mark = [0; MARK_BYTES as usize];
        mark[..4].copy_from_slice(&MARK_MAGIC);
        mark[4..8].copy_from_slice(&generation.to_le_bytes());
        mark[8..16].copy_from_slice(&salt.to_le_bytes());
        let check = mark_check(&mark[..MARK_BYTES as usize - 4]);
        mark[MARK_BYTES as usize - 4..].copy_from_slice(&check);
        let mut written = 0;
        for at in [0, self.records_end()] {
            let mut stream = Stream::new(self.address(bank, at));
            written += usize::from(stream.write(&mut self.flash, &mark) && stream.finish(&mut self.flash));
        }
        let is_read = self.mark_read(bank).is_some();
        if written < 2 || !is_read {
            self.failures = self.failures.saturating_add(1);
        }
        is_read
    }

    /// Nobody who chooses values knows it: the identity's secrets go into it.
    fn next_salt(&mut self, generation: u32) -> u64 {
        let mut hash = Sha256::new();
        hash.update(generation.to_le_bytes());
        hash.update(self.banks[usize::from(self.active)].map_or(0, |bank| bank.salt).to_le_bytes());
        let mut buffer = Buffer([0; BUFFER_BYTES]);
        for index in 0..self.entries.len() {
            let Some(entry) = self.entries.get(index).copied() else { continue };
            let mut from = self.address(entry.bank, entry.at) + FRAME_BYTES;
            let mut left = entry.length;
            while left > 0 {
                let length = left.min(BUFFER_BYTES as u32);
                if let Some(bytes) = self.bytes(from, length as usize, &mut buffer) {
                    hash.update(bytes);
                }
                from += length;
                left -= length;
            }
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut salt = [0; 8];
        salt.copy_from_slice(&digest[..8]);
        u64::from_le_bytes(salt)
    }
}

fn length(value: [&[u8]; 2]) -> Option<u32> {
    let [first, second] = value;
    u32::try_from(first.len().checked_add(second.len())?).ok()
}

fn tag(salt: u64, at: u32) -> [u8; TAG_BYTES] {
    // A multiplier with well spread bits, so that neighbouring places share none of their tag.
    (salt ^ u64::from(at).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes()
}

fn mark_check(head: &[u8]) -> [u8; 4] {
    let sealed = seal(MARK_KEY, 0, head);
    let mut check = [0; 4];
    check.copy_from_slice(&sealed[SEAL_BYTES - 4..]);
    check
}

/// Bytes of any length on their way to a flash that takes whole units.
struct Stream {
    buffer: Buffer,
    filled: usize,
    address: u32,
}

impl Stream {
    fn new(address: u32) -> Self {
        Self { buffer: Buffer([0; BUFFER_BYTES]), filled: 0, address }
    }

    fn write<F: NorFlash>(&mut self, flash: &mut F, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let count = bytes.len().min(BUFFER_BYTES - self.filled);
            let (now, later) = bytes.split_at(count);
            self.buffer.0[self.filled..self.filled + count].copy_from_slice(now);
            self.filled += count;
            bytes = later;
            if self.filled == BUFFER_BYTES && !self.flush(flash) {
                return false;
            }
        }
        true
    }

    fn flush<F: NorFlash>(&mut self, flash: &mut F) -> bool {
        let length = self.filled.next_multiple_of(F::WRITE_SIZE);
        self.buffer.0[self.filled..length].fill(0);
        if flash.write(self.address, &self.buffer.0[..length]).is_err() {
            return false;
        }
        self.address += length as u32;
        self.filled = 0;
        true
    }

    fn finish<F: NorFlash>(mut self, flash: &mut F) -> bool {
        self.filled == 0 || self.flush(flash)
    }
}

const _: () =
    assert!(FRAME_BYTES.is_multiple_of(WRITE_SIZE_MAX as u32) && MARK_BYTES.is_multiple_of(WRITE_SIZE_MAX as u32));
