//! Clauses: how a record grows without a new version. Each has a number, a critical bit and its own frozen postcard bytes.
//!
//! An agent refuses just the workload whose *critical* clause it does not know, and ignores every other unknown one.
use crate::codec::{Reader, WireError, Writer, bounded, bounded_text, decode};
use crate::digest::Digest;
use crate::limits::{
    CLAUSE_BYTES_MAX, CLAUSES_MAX, COMPONENTS_MAX, CONFIG_INLINE_BYTES_MAX, CRON_BYTES_MAX, NAME_BYTES_MAX,
    TOPIC_BYTES_MAX, TOPIC_FILTERS_MAX, TRACE_BYTES_MAX,
};
use serde::{Deserialize, Serialize};

/// Who is meant, for people: `namespace/name`, and the component where a workload has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub component: &'a str,
}

/// Bytes that live elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    pub digest: Digest,
    pub bytes: u32,
}

/// Limits of a function beyond memory and fuel, which are in the core. Zero never means unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionLimits {
    pub host_calls: u32,
    pub log_bytes: u32,
    pub emit_bytes: u32,
    pub state_bytes: u32,
    /// Of alarms, states and metrics in one activation, keys included.
    pub sample_bytes: u32,
}

/// How often, and how, a failing component is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Failures in the window after which the version counts as bad.
    pub attempts: u8,
    pub window_s: u32,
}

/// What happens when freshness has not been shown for `after_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnStale {
    pub after_ms: u64,
    pub action: StaleAction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StaleAction {
    Continue,
    Degrade,
    Stop,
}

/// A secret sealed to this device; the ciphertext is fetched by digest, so that the signature covers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret<'a> {
    pub name: &'a str,
    pub version: u32,
    pub sealed: Reference,
}

/// A calendar trigger in the device's own time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule<'a> {
    pub cron: &'a str,
    pub missed_runs_max: u8,
}

/// A region outside of which the workload must not run; the geometry is fetched by digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residency {
    pub region: Reference,
    pub grace_ms: u64,
}

/// One clause. Numbers are for ever; the critical bit is the sender's choice, the constant is the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clause<'a> {
    /// 1
    Name(Name<'a>),
    /// 2: at most `CONFIG_INLINE_BYTES_MAX`.
    Config(&'a [u8]),
    /// 3: configuration too long to be carried inside.
    ConfigReference(Reference),
    /// 4: components of the same workload, by number, that must be ready or complete before this one starts.
    After(&'a [u8]),
    /// 5: activate on this period, in milliseconds.
    Every(u64),
    /// 6: activate on messages of these topics; each is a length-prefixed text.
    Topics(Topics<'a>),
    /// 7
    Limits(FunctionLimits),
    /// 8
    Retry(Retry),
    /// 9: time between asking a component to stop and cutting it, in milliseconds.
    StopGrace(u64),
    /// 10: may start new code after a boot without Fresh.
    Unconfirmed,
    /// 11: stops itself after so many milliseconds without Fresh.
    StopAfter(u64),
    /// 12: runs only under a grant of so many milliseconds.
    Lease(u64),
    /// 13
    OnStale(OnStale),
    /// 14
    Secret(Secret<'a>),
    /// 15
    Schedule(Schedule<'a>),
    /// 16: a W3C trace parent, echoed verbatim; at most `TRACE_BYTES_MAX`.
    Trace(&'a [u8]),
    /// 17
    Residency(Residency),
    /// 18: root over the chunk hashes of the artifact.
    ChunkRoot(Digest),
    /// 19: digest of the publisher's signature over the artifact.
    PublisherSignature(Reference),
    /// A clause of a later version.
    Unknown { number: u16, bytes: &'a [u8] },
}

/// A list of topic filters, read without a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topics<'a>(&'a [u8]);

impl<'a> Topics<'a> {
    /// Encodes into `buffer`; at most `TOPIC_FILTERS_MAX`.
    pub fn encode<'b>(buffer: &'b mut [u8], filters: &[&str]) -> Result<Topics<'b>, WireError> {
        if filters.len() > TOPIC_FILTERS_MAX {
            return Err(WireError::TooLarge { limit: TOPIC_FILTERS_MAX as u32 });
        }
        let mut writer = Writer::new(buffer);
        for filter in filters {
            writer.prefixed(filter.as_bytes(), TOPIC_BYTES_MAX)?;
        }
        Ok(Topics(writer.finish()))
    }

    fn check(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let mut count = 0;
        while !reader.is_empty() {
            core::str::from_utf8(reader.prefixed(TOPIC_BYTES_MAX)?).map_err(|_| WireError::Malformed)?;
            count += 1;
            if count > TOPIC_FILTERS_MAX {
                return Err(WireError::TooLarge { limit: TOPIC_FILTERS_MAX as u32 });
            }
        }
        Ok(Self(bytes))
    }

    pub fn iter(&self) -> impl Iterator<Item = &'a str> {
        let mut reader = Reader::new(self.0);
        core::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            reader.prefixed(TOPIC_BYTES_MAX).ok().and_then(|bytes| core::str::from_utf8(bytes).ok())
        })
    }
}

impl<'a> Clause<'a> {
    pub const fn number(&self) -> u16 {
        match self {
            Self::Name(_) => 1,
            Self::Config(_) => 2,
            Self::ConfigReference(_) => 3,
            Self::After(_) => 4,
            Self::Every(_) => 5,
            Self::Topics(_) => 6,
            Self::Limits(_) => 7,
            Self::Retry(_) => 8,
            Self::StopGrace(_) => 9,
            Self::Unconfirmed => 10,
            Self::StopAfter(_) => 11,
            Self::Lease(_) => 12,
            Self::OnStale(_) => 13,
            Self::Secret(_) => 14,
            Self::Schedule(_) => 15,
            Self::Trace(_) => 16,
            Self::Residency(_) => 17,
            Self::ChunkRoot(_) => 18,
            Self::PublisherSignature(_) => 19,
            Self::Unknown { number, .. } => *number,
        }
    }

    /// Whether an agent that does not know this clause must refuse the workload.
    pub const fn is_critical_by_default(&self) -> bool {
        match self {
            Self::Name(_)
            | Self::Retry(_)
            | Self::StopGrace(_)
            | Self::Unconfirmed
            | Self::Trace(_)
            | Self::ChunkRoot(_) => false,
            Self::Config(_)
            | Self::ConfigReference(_)
            | Self::After(_)
            | Self::Every(_)
            | Self::Topics(_)
            | Self::Limits(_)
            | Self::StopAfter(_)
            | Self::Lease(_)
            | Self::OnStale(_)
            | Self::Secret(_)
            | Self::Schedule(_)
            | Self::Residency(_)
            | Self::PublisherSignature(_) => true,
            Self::Unknown { .. } => true,
        }
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), WireError> {
        match self {
            Self::Name(name) => writer.value(name),
            Self::Config(bytes) => writer.bytes(bounded(bytes, CONFIG_INLINE_BYTES_MAX)?),
            Self::After(components) => writer.bytes(bounded(components, COMPONENTS_MAX)?),
            Self::Topics(topics) => writer.bytes(topics.0),
            Self::Limits(limits) => writer.value(limits),
            Self::Retry(retry) => writer.value(retry),
            Self::Unconfirmed => Ok(()),
            Self::Every(ms) | Self::StopGrace(ms) | Self::StopAfter(ms) | Self::Lease(ms) => writer.value(ms),
            Self::OnStale(on_stale) => writer.value(on_stale),
            Self::Secret(secret) => writer.value(secret),
            Self::Schedule(schedule) => writer.value(schedule),
            Self::Trace(bytes) => writer.bytes(bytes),
            Self::Residency(residency) => writer.value(residency),
            Self::ChunkRoot(digest) => writer.value(digest),
            Self::ConfigReference(reference) | Self::PublisherSignature(reference) => writer.value(reference),
            Self::Unknown { bytes, .. } => writer.bytes(bytes),
        }
    }

    fn read(number: u16, bytes: &'a [u8]) -> Result<Self, WireError> {
        Ok(match number {
            1 => {
                let name: Name<'a> = decode(bytes)?;
                bounded_text(name.namespace, NAME_BYTES_MAX)?;
                bounded_text(name.name, NAME_BYTES_MAX)?;
                bounded_text(name.component, NAME_BYTES_MAX)?;
                Self::Name(name)
            }
            2 => Self::Config(bounded(bytes, CONFIG_INLINE_BYTES_MAX)?),
            3 => Self::ConfigReference(decode(bytes)?),
            4 => Self::After(bounded(bytes, COMPONENTS_MAX)?),
            5 => Self::Every(decode(bytes)?),
            6 => Self::Topics(Topics::check(bytes)?),
            7 => Self::Limits(decode(bytes)?),
            8 => Self::Retry(decode(bytes)?),
            9 => Self::StopGrace(decode(bytes)?),
            10 if bytes.is_empty() => Self::Unconfirmed,
            10 => return Err(WireError::Trailing),
            11 => Self::StopAfter(decode(bytes)?),
            12 => Self::Lease(decode(bytes)?),
            13 => Self::OnStale(decode(bytes)?),
            14 => {
                let secret: Secret<'a> = decode(bytes)?;
                bounded_text(secret.name, NAME_BYTES_MAX)?;
                Self::Secret(secret)
            }
            15 => {
                let schedule: Schedule<'a> = decode(bytes)?;
                bounded_text(schedule.cron, CRON_BYTES_MAX)?;
                Self::Schedule(schedule)
            }
            16 => Self::Trace(bounded(bytes, TRACE_BYTES_MAX)?),
            17 => Self::Residency(decode(bytes)?),
            18 => Self::ChunkRoot(decode(bytes)?),
            19 => Self::PublisherSignature(decode(bytes)?),
            _ => Self::Unknown { number, bytes },
        })
    }
}

/// A clause and whether its sender insists on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stated<'a> {
    pub critical: bool,
    pub clause: Clause<'a>,
}

/// The clauses of one record, checked when the record was decoded. Ascending by number; only Secret
/// repeats, ascending by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clauses<'a>(&'a [u8]);

impl<'a> Clauses<'a> {
    pub const EMPTY: Clauses<'static> = Clauses(&[]);

    pub(crate) fn check(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let mut count = 0;
        let mut last = 0;
        let mut last_secret = None;
        while !reader.is_empty() {
            let stated = read_stated(&mut reader)?;
            let number = stated.clause.number();
            let repeats = match stated.clause {
                Clause::Secret(secret) => {
                    let before = last_secret.replace(secret.name);
                    before.is_some_and(|before| before < secret.name)
                }
                _ => false,
            };
            // `last` starts at zero, so a clause numbered zero is refused here too.
            if number <= last && !repeats {
                return Err(WireError::NotCanonical);
            }
            last = number;
            count += 1;
            if count > CLAUSES_MAX {
                return Err(WireError::TooLarge { limit: CLAUSES_MAX as u32 });
            }
        }
        Ok(Self(bytes))
    }

    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    pub fn iter(&self) -> impl Iterator<Item = Stated<'a>> {
        let mut reader = Reader::new(self.0);
        core::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            read_stated(&mut reader).ok()
        })
    }

    /// The number of the first clause that must be understood and is not.
    pub fn unknown_critical(&self) -> Option<u16> {
        self.iter().find_map(|stated| match stated.clause {
            Clause::Unknown { number, .. } if stated.critical => Some(number),
            _ => None,
        })
    }
}

fn read_stated<'a>(reader: &mut Reader<'a>) -> Result<Stated<'a>, WireError> {
    let tag: u16 = reader.take()?;
    let bytes = reader.prefixed(CLAUSE_BYTES_MAX)?;
    Ok(Stated { critical: tag & 1 == 1, clause: Clause::read(tag >> 1, bytes)? })
}

/// The highest number of a clause: its 16-bit tag has room for the critical bit below it.
pub const NUMBER_MAX: u16 = u16::MAX >> 1;

/// Appends one clause; the caller appends in ascending order (decoding refuses any other).
pub(crate) fn write_stated(writer: &mut Writer<'_>, stated: &Stated<'_>) -> Result<(), WireError> {
    let mut scratch = [0; CLAUSE_BYTES_MAX];
    let mut inner = Writer::new(&mut scratch);
    stated.clause.write(&mut inner).map_err(|error| match error {
        WireError::NoRoom => WireError::TooLarge { limit: CLAUSE_BYTES_MAX as u32 },
        other => other,
    })?;
    let number = stated.clause.number();
    if number == 0 || number > NUMBER_MAX {
        return Err(WireError::Malformed);
    }
    // What every decoder would refuse must fail at the sender: a signed set with a bad clause stops a whole device.
    Clause::read(number, inner.written())?;
    writer.value(&(number << 1 | u16::from(stated.critical)))?;
    writer.prefixed(inner.written(), CLAUSE_BYTES_MAX)
}
