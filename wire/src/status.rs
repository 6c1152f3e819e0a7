//! What runs on a device, whole: a header and one entry per component.
use crate::codec::{Reader, WireError, Writer, bounded_text};
use crate::digest::{Digest, DigestPrefix};
use crate::hello::LossCounters;
use crate::id::{Revision, Session, WorkloadId};
use crate::limits::{COMPONENTS_MAX, DETAIL_BYTES_MAX, STATUS_ENTRIES_MAX};
use crate::position::Position;
use serde::{Deserialize, Serialize};

/// Where a component is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// For another component, for Fresh, or for a grant.
    Waiting,
    Fetching,
    Starting,
    Running,
    Stopping,
    Stopped,
    BackOff,
    Completed,
    Failed,
    /// The record asks for what this agent cannot do.
    Refused,
}

/// Why it is there. A number, so that an older hub can carry a newer agent's reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reason(pub u16);

impl Reason {
    pub const NONE: Self = Self(0);
    pub const WAITS_FOR_COMPONENT: Self = Self(1);
    pub const WAITS_FOR_FRESH: Self = Self(2);
    /// Exclusive work has not been granted to this device.
    pub const WAITS_FOR_GRANT: Self = Self(3);
    /// Exclusive work was stopped because its grant was not renewed in time.
    pub const LEASE_EXPIRED: Self = Self(4);
    /// It was stopped because the device has not heard from the hub for too long.
    pub const STALE: Self = Self(5);
    pub const FETCH_FAILED: Self = Self(10);
    pub const HASH_MISMATCH: Self = Self(11);
    pub const NO_SPACE: Self = Self(12);
    pub const LOAD_REFUSED: Self = Self(20);
    pub const TRAPPED: Self = Self(21);
    pub const OUT_OF_FUEL: Self = Self(22);
    pub const OUT_OF_MEMORY: Self = Self(23);
    pub const EXITED: Self = Self(24);
    pub const START_TIMED_OUT: Self = Self(25);
    pub const RUNTIME_MISSING: Self = Self(26);
    pub const UNKNOWN_CLAUSE: Self = Self(30);
    pub const NOT_SUPPORTED: Self = Self(31);
    pub const ROLLED_BACK: Self = Self(40);
    pub const SAFE_MODE: Self = Self(41);

    /// A stable code for people and machines.
    pub const fn code(self) -> &'static str {
        match self.0 {
            0 => "NONE",
            1 => "WAITS_FOR_COMPONENT",
            2 => "WAITS_FOR_FRESH",
            3 => "WAITS_FOR_GRANT",
            4 => "LEASE_EXPIRED",
            5 => "STALE",
            10 => "FETCH_FAILED",
            11 => "HASH_MISMATCH",
            12 => "NO_SPACE",
            20 => "LOAD_REFUSED",
            21 => "TRAPPED",
            22 => "OUT_OF_FUEL",
            23 => "OUT_OF_MEMORY",
            24 => "EXITED",
            25 => "START_TIMED_OUT",
            26 => "RUNTIME_MISSING",
            30 => "UNKNOWN_CLAUSE",
            31 => "NOT_SUPPORTED",
            40 => "ROLLED_BACK",
            41 => "SAFE_MODE",
            _ => "UNKNOWN",
        }
    }
}

/// One component. The detail is for people: at most `DETAIL_BYTES_MAX`, never parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<'a> {
    pub workload: WorkloadId,
    pub component: u8,
    /// Generation that the accepted set asks for.
    pub generation: u32,
    /// Generation that runs; 0: none. Lower than `generation` after a roll-back.
    pub running: u32,
    pub state: State,
    pub reason: Reason,
    /// Failures of this version that count towards giving it up.
    pub attempts: u16,
    /// Restarts since boot.
    pub restarts: u32,
    pub detail: &'a str,
}

impl Entry<'_> {
    /// Workload and component: unique in a status.
    pub fn key(&self) -> (WorkloadId, u8) {
        (self.workload, self.component)
    }

    /// Within its limits, and after the entry before it.
    fn check(&self, last: Option<(WorkloadId, u8)>) -> Result<(), WireError> {
        bounded_text(self.detail, DETAIL_BYTES_MAX)?;
        if usize::from(self.component) >= COMPONENTS_MAX {
            return Err(WireError::TooLarge { limit: COMPONENTS_MAX as u32 });
        }
        if last.is_some_and(|last| last >= self.key()) { Err(WireError::NotCanonical) } else { Ok(()) }
    }
}

/// Refusals of desired messages since boot, by what was wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub not_authentic: u32,
    pub wrong_device: u32,
    pub lower_revision: u32,
    pub equivocation: u32,
    pub malformed: u32,
    pub too_large: u32,
    pub unsupported_version: u32,
    pub unconfirmed: u32,
}

/// The fixed part of a status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusFixed {
    /// In the clear because a hub that restarted must find out which session a device speaks of.
    pub session: Session,
    pub sequence: u32,
    pub revision: Revision,
    pub digest: DigestPrefix,
    pub uptime_s: u32,
    /// Free memory for functions.
    pub memory_free_bytes: u32,
    pub storage_free_bytes: u64,
    pub position: Option<Position>,
    pub lost: LossCounters,
    pub refused: Refused,
}

impl StatusFixed {
    fn check(&self) -> Result<(), WireError> {
        let misplaced = self.position.is_some_and(|position| !position.is_valid());
        if misplaced { Err(WireError::Malformed) } else { Ok(()) }
    }
}

/// A received status: entries ascending by workload and component, one for each. Entries are read without a copy.
#[derive(Clone, Copy, Debug)]
pub struct Status<'a> {
    pub fixed: StatusFixed,
    count: u16,
    entries: &'a [u8],
}

impl<'a> Status<'a> {
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let fixed: StatusFixed = reader.take()?;
        fixed.check()?;
        let count: u16 = reader.take()?;
        if usize::from(count) > STATUS_ENTRIES_MAX {
            return Err(WireError::TooLarge { limit: STATUS_ENTRIES_MAX as u32 });
        }
        let entries = reader.rest();
        let mut last = None;
        for _ in 0..count {
            let entry: Entry<'a> = reader.take()?;
            entry.check(last)?;
            last = Some(entry.key());
        }
        reader.end()?;
        Ok(Self { fixed, count, entries })
    }

    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> {
        let mut reader = Reader::new(self.entries);
        (0..self.count).map_while(move |_| reader.take().ok())
    }

    /// What heartbeats refer to: everything that the hub acts upon, without what changes by itself or is only shown.
    pub fn content_digest(&self) -> DigestPrefix {
        content_digest(&self.fixed, self.entries)
    }
}

/// Revision 10, prefix 8, count 5, position 1 and three times 5, hash 32, at their longest.
const CONTENT_BYTES_MAX: usize = 71;

/// What is not in it may reach the hub as late as the next whole status: uptime, free memory and storage, what was lost (which
/// each Hello says too), and refusals of kinds that change nothing.
fn content_digest(fixed: &StatusFixed, entries: &[u8]) -> DigestPrefix {
    let entries = Digest::of(entries);
    let mut buffer = [0; CONTENT_BYTES_MAX];
    let mut writer = Writer::new(&mut buffer);
    // Always fits.
    let _ = writer.value(&(fixed.revision, fixed.digest, fixed.refused.equivocation, fixed.position, entries));
    Digest::of(writer.written()).prefix()
}

/// Appends a status body; entries in ascending order of workload and component.
#[derive(Debug)]
pub struct StatusWriter<'w, 'b> {
    writer: &'w mut Writer<'b>,
    fixed: StatusFixed,
    start: usize,
    left: u16,
    last: Option<(WorkloadId, u8)>,
}

impl<'w, 'b> StatusWriter<'w, 'b> {
    pub fn new(writer: &'w mut Writer<'b>, fixed: StatusFixed, count: u16) -> Result<Self, WireError> {
        if usize::from(count) > STATUS_ENTRIES_MAX {
            return Err(WireError::TooLarge { limit: STATUS_ENTRIES_MAX as u32 });
        }
        fixed.check()?;
        writer.value(&fixed)?;
        writer.value(&count)?;
        let start = writer.len();
        Ok(Self { writer, fixed, start, left: count, last: None })
    }

    /// Appends one entry; a detail over its limit is cut at a character border.
    pub fn entry(&mut self, entry: &Entry<'_>) -> Result<(), WireError> {
        let entry = Entry { detail: truncate(entry.detail, DETAIL_BYTES_MAX), ..*entry };
        entry.check(self.last)?;
        self.left = self.left.checked_sub(1).ok_or(WireError::Trailing)?;
        self.last = Some(entry.key());
        self.writer.value(&entry)
    }

    /// Entries that were announced and not yet written; the status is whole when this is zero.
    pub fn left(&self) -> u16 {
        self.left
    }

    /// The digest that heartbeats will carry.
    pub fn finish(self) -> DigestPrefix {
        content_digest(&self.fixed, &self.writer.written()[self.start..])
    }
}

/// The longest prefix of `text` that is at most `limit` bytes and ends between characters.
pub fn truncate(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
