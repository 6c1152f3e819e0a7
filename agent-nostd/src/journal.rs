//! The record logic of the device's journal: how a value is sealed, and which of two slots is the truth after any power cut.
//!
//! A key has two slots. A write goes to the slot that does not hold the truth, with the next sequence, so that a cut at any
//! point leaves the old value or the new one. Whoever stores the slots must make a write durable before it says so, and must
//! never write both slots of a key at once. This file does no I/O and trusts no byte that it reads. Keys are bytes: those of the
//! machine's `JournalKey`, and above them those of shells.
/// `magic 4 | format u8 | key u8 | zero u16 | sequence u64 | length u32 | crc u32`, little endian; then the value.
pub const SEAL_BYTES: usize = 24;
const MAGIC: [u8; 4] = *b"FJ1\n";
/// Until new firmware is confirmed it writes the format that the old firmware reads.
const FORMAT: u8 = 1;
const CRC_AT: usize = 20;

/// One of the two places of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    A,
    B,
}

impl Slot {
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// The truth of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picked<'a> {
    pub slot: Slot,
    pub sequence: u64,
    pub value: &'a [u8],
}

/// Where and with which sequence the next value of a key goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    pub slot: Slot,
    pub sequence: u64,
}

impl Next {
    /// After reading both slots.
    pub fn after(picked: Option<&Picked<'_>>) -> Self {
        match picked {
            Some(picked) => Self { slot: picked.slot.other(), sequence: picked.sequence.saturating_add(1) },
            None => Self { slot: Slot::A, sequence: 1 },
        }
    }

    /// After this write became durable. After a failed one the same place is used again: what it holds is not the truth.
    #[must_use]
    pub fn written(self) -> Self {
        Self { slot: self.slot.other(), sequence: self.sequence.saturating_add(1) }
    }
}

/// What goes before `value` in its slot.
pub fn seal(key: impl Into<u8>, sequence: u64, value: &[u8]) -> [u8; SEAL_BYTES] {
    seal_parts(key, sequence, [value, &[]])
}

/// What goes before a value that lies in two parts.
pub fn seal_parts(key: impl Into<u8>, sequence: u64, parts: [&[u8]; 2]) -> [u8; SEAL_BYTES] {
    let mut head = [0; SEAL_BYTES];
    head[..4].copy_from_slice(&MAGIC);
    head[4] = FORMAT;
    head[5] = key.into();
    head[8..16].copy_from_slice(&sequence.to_le_bytes());
    let [first, second] = parts;
    head[16..20].copy_from_slice(&((first.len() + second.len()) as u32).to_le_bytes());
    let crc = crc32(crc32(crc32(CRC_START, &head[..CRC_AT]), first), second) ^ CRC_START;
    head[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    head
}

/// What a seal says of the value that follows it. It is true only if the check over the whole value says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    pub sequence: u64,
    pub length: u32,
    crc: u32,
    running: u32,
}

impl Seal {
    /// From the first bytes of a slot; `None` if that is no seal of this key.
    pub fn read(key: impl Into<u8>, slot: &[u8]) -> Option<Self> {
        let head = slot.get(..SEAL_BYTES)?;
        if head[..4] != MAGIC || head[4] != FORMAT || head[5] != key.into() {
            return None;
        }
        Some(Self {
            sequence: u64::from_le_bytes(head[8..16].try_into().ok()?),
            length: u32::from_le_bytes(head[16..20].try_into().ok()?),
            crc: u32::from_le_bytes(head[CRC_AT..].try_into().ok()?),
            running: crc32(CRC_START, &head[..CRC_AT]),
        })
    }

    /// Takes the next bytes of the value, for whoever cannot hold all of it.
    pub fn add(&mut self, bytes: &[u8]) {
        self.running = crc32(self.running, bytes);
    }

    /// Whether what was added is the whole value as it was written.
    pub fn is_whole(&self) -> bool {
        self.running ^ CRC_START == self.crc
    }
}

/// Sequence and value of a slot; `None` if it is torn, rotten, of another key, or empty. Bytes after the value are ignored:
/// flash pages are longer than what was written.
pub fn open(key: impl Into<u8>, slot: &[u8]) -> Option<(u64, &[u8])> {
    let mut seal = Seal::read(key, slot)?;
    let value = slot.get(SEAL_BYTES..)?.get(..usize::try_from(seal.length).ok()?)?;
    seal.add(value);
    seal.is_whole().then_some((seal.sequence, value))
}

/// The valid slot with the highest sequence. Both bad: the device is as from the factory and waits for a signed Fresh.
pub fn pick<'a>(key: impl Into<u8>, a: &'a [u8], b: &'a [u8]) -> Option<Picked<'a>> {
    let key = key.into();
    let a = open(key, a).map(|(sequence, value)| Picked { slot: Slot::A, sequence, value });
    let b = open(key, b).map(|(sequence, value)| Picked { slot: Slot::B, sequence, value });
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.sequence > a.sequence { b } else { a }),
        (a, None) => a,
        (None, b) => b,
    }
}

const CRC_START: u32 = u32::MAX;

/// CRC-32 of IEEE 802.3, reflected; without a table, because the journal is short and flash is scarce.
fn crc32(mut crc: u32, bytes: &[u8]) -> u32 {
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1));
        }
    }
    crc
}

#[cfg(test)]
mod tests;
