//! One record of a desired set: a fixed core and its clauses. A record is one component of one workload.
use crate::clause::{Clause, Clauses, Stated, write_stated};
use crate::codec::{Reader, WireError, Writer};
use crate::digest::Digest;
use crate::id::WorkloadId;
use crate::limits::{CLAUSES_BYTES_MAX, COMPONENTS_MAX, RECORDS_MAX};
use serde::{Deserialize, Serialize};

/// What a component is to its workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Runs until stopped.
    Service,
    /// Runs to completion before the components that name it in `After`.
    Init,
    /// Runs to completion; that is its purpose.
    Job,
}

/// Which runtime executes a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Runtime {
    Function,
    Container,
    Process,
}

/// What a function may touch. Bits are for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CapabilitySet(pub u32);

impl CapabilitySet {
    pub const LOG: Self = Self(1);
    pub const EMIT: Self = Self(1 << 1);
    pub const STATE: Self = Self(1 << 2);
    pub const RANDOM: Self = Self(1 << 3);
    /// Alarms, states and metrics.
    pub const TELEMETRY: Self = Self(1 << 4);
    pub const GPIO: Self = Self(1 << 8);
    pub const ADC: Self = Self(1 << 9);
    pub const I2C: Self = Self(1 << 10);
    pub const PWM: Self = Self(1 << 11);

    /// As manifests call them.
    pub const NAMED: [(&'static str, Self); 9] = [
        ("log", Self::LOG),
        ("emit", Self::EMIT),
        ("state", Self::STATE),
        ("random", Self::RANDOM),
        ("telemetry", Self::TELEMETRY),
        ("gpio", Self::GPIO),
        ("adc", Self::ADC),
        ("i2c", Self::I2C),
        ("pwm", Self::PWM),
    ];

    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this one and not in the other.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What of it this build knows, by name.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMED.into_iter().filter(move |(_, one)| self.contains(*one)).map(|(name, _)| name)
    }
}

/// The fixed part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Core {
    pub workload: WorkloadId,
    /// Number of the component in its workload, from 0.
    pub component: u8,
    /// Of the workload's spec.
    pub generation: u32,
    pub role: Role,
    pub runtime: Runtime,
    pub artifact: Digest,
    pub artifact_bytes: u32,
    pub memory_bytes: u32,
    /// Fuel of one activation.
    pub fuel: u32,
    pub instances: u16,
    pub capabilities: CapabilitySet,
}

impl Core {
    fn check(&self) -> Result<(), WireError> {
        let fits = usize::from(self.component) < COMPONENTS_MAX;
        if fits { Ok(()) } else { Err(WireError::TooLarge { limit: COMPONENTS_MAX as u32 }) }
    }
}

/// A record as received: nothing is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub core: Core,
    pub clauses: Clauses<'a>,
}

impl<'a> Record<'a> {
    /// The next record of a body; for readers that remember where a record begins.
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let core: Core = reader.take()?;
        core.check()?;
        let clauses = Clauses::check(reader.prefixed(CLAUSES_BYTES_MAX)?)?;
        Ok(Self { core, clauses })
    }

    /// Workload and component: unique in a set.
    pub fn key(&self) -> (WorkloadId, u8) {
        (self.core.workload, self.core.component)
    }
}

/// The body of a desired set, checked whole: every record canonical, ascending by key, nothing after the last.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    count: u16,
    records: &'a [u8],
}

impl<'a> Body<'a> {
    pub const EMPTY: Body<'static> = Body { count: 0, records: &[] };

    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let count: u16 = reader.take()?;
        if usize::from(count) > RECORDS_MAX {
            return Err(WireError::TooLarge { limit: RECORDS_MAX as u32 });
        }
        let records = reader.rest();
        let mut last = None;
        for _ in 0..count {
            let key = Record::read(&mut reader)?.key();
            if last.is_some_and(|last| last >= key) {
                return Err(WireError::NotCanonical);
            }
            last = Some(key);
        }
        reader.end()?;
        Ok(Self { count, records })
    }

    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = Record<'a>> {
        let mut reader = Reader::new(self.records);
        (0..self.count).map_while(move |_| Record::read(&mut reader).ok())
    }
}

/// Writes the body of a desired set; records in ascending order of key, clauses in ascending order of number.
#[derive(Debug)]
pub struct BodyWriter<'b> {
    writer: Writer<'b>,
    left: u16,
    last: Option<(WorkloadId, u8)>,
}

impl<'b> BodyWriter<'b> {
    /// `count` records will follow.
    pub fn new(buffer: &'b mut [u8], count: u16) -> Result<Self, WireError> {
        if usize::from(count) > RECORDS_MAX {
            return Err(WireError::TooLarge { limit: RECORDS_MAX as u32 });
        }
        let mut writer = Writer::new(buffer);
        writer.value(&count)?;
        Ok(Self { writer, left: count, last: None })
    }

    /// Appends a record with each clause at its default criticality.
    pub fn record(&mut self, core: &Core, clauses: &[Clause<'_>]) -> Result<(), WireError> {
        let mut scratch = [0; CLAUSES_BYTES_MAX];
        let mut inner = Writer::new(&mut scratch);
        for clause in clauses {
            let stated = Stated { critical: clause.is_critical_by_default(), clause: *clause };
            write_stated(&mut inner, &stated)?;
        }
        self.record_raw(core, inner.written())
    }

    /// Appends a record with clauses that are encoded already (`Clauses::as_bytes`). What a decoder would refuse is
    /// refused here: one bad record in a signed set would stop the whole device.
    pub fn record_raw(&mut self, core: &Core, clauses: &[u8]) -> Result<(), WireError> {
        let key = (core.workload, core.component);
        core.check()?;
        Clauses::check(clauses)?;
        if self.last.is_some_and(|last| last >= key) {
            return Err(WireError::NotCanonical);
        }
        let left = self.left.checked_sub(1).ok_or(WireError::Trailing)?;
        self.writer.value(core)?;
        self.writer.prefixed(clauses, CLAUSES_BYTES_MAX)?;
        self.left = left;
        self.last = Some(key);
        Ok(())
    }

    /// Records that were announced and not yet written; the body is whole when this is zero.
    pub fn left(&self) -> u16 {
        self.left
    }

    pub fn finish(self) -> &'b mut [u8] {
        self.writer.finish()
    }
}

/// Encodes clauses into `buffer`, each with the criticality stated.
pub fn encode_clauses<'b>(buffer: &'b mut [u8], clauses: &[Stated<'_>]) -> Result<&'b mut [u8], WireError> {
    let mut writer = Writer::new(buffer);
    clauses.iter().try_for_each(|stated| write_stated(&mut writer, stated))?;
    Clauses::check(writer.written())?;
    Ok(writer.finish())
}
