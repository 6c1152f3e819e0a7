//! What workloads raise, report and measure: three classes, each with its own sequence, several records to a frame.
//!
//! A sequence is taken once for each record that a device accepted. What never comes was lost, and the device says how many of
//! those it knows of; `first` says which can still come, so that the hub can settle the account of everything before it.
use crate::codec::{Reader, WireError, Writer, bounded_text};
use crate::frame::{Body, Kind};
use crate::id::{Session, WorkloadId};
use crate::limits::{NAME_BYTES_MAX, SAMPLE_TEXT_BYTES_MAX, SAMPLES_MAX};
use serde::{Deserialize, Serialize};

/// What becomes of a record that finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Class {
    /// Durable on the device until the hub has taken it; a new one is refused when there is no room.
    Alarm,
    /// The latest value of a key.
    State,
    /// A measured value; the oldest gives way.
    Metric,
}

impl Class {
    pub const ALL: [Self; 3] = [Self::Alarm, Self::State, Self::Metric];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Alarm => "alarm",
            Self::State => "state",
            Self::Metric => "metric",
        }
    }
}

/// Floats never cross the wire: a number is `value * 10^scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value<'a> {
    Number { value: i64, scale: i8 },
    Text(&'a str),
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample<'a> {
    pub sequence: u32,
    pub workload: WorkloadId,
    pub component: u8,
    pub key: &'a str,
    /// The device's own clock when it was taken.
    pub uptime_ms: u64,
    /// Wall time when it was taken, zero where the device did not know: of an alarm, which may outlive its boot.
    pub unix_ms: u64,
    pub value: Value<'a>,
}

impl Sample<'_> {
    fn check(&self, class: Class) -> Result<(), WireError> {
        bounded_text(self.key, NAME_BYTES_MAX)?;
        match (class, self.value) {
            (Class::Alarm | Class::State, Value::Text(text)) => bounded_text(text, SAMPLE_TEXT_BYTES_MAX)?,
            (Class::Metric, Value::Number { .. }) => "",
            (Class::Alarm | Class::State, Value::Number { .. }) | (Class::Metric, Value::Text(_)) => {
                return Err(WireError::Malformed);
            }
        };
        if is_key(self.key) { Ok(()) } else { Err(WireError::Malformed) }
    }
}

/// A name for people and for queries: letters, digits, `.`, `_`, `-` and `/`.
pub fn is_key(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NAME_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/'))
}

/// Several records of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamplesFixed {
    pub session: Session,
    pub class: Class,
    /// Of alarms: made with the ring on the device, so that one that was wiped begins anew. Others belong to the boot: zero.
    pub stream: u32,
    /// The lowest sequence that can still come, from this frame on.
    pub first: u32,
    /// Records of this class that the device lost: of alarms since its ring was made, of others since boot.
    pub lost: u32,
    /// The device's clock now; `None`: the records are of an earlier boot, whose clock says nothing any more.
    pub uptime_ms: Option<u64>,
    pub count: u8,
}

#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    pub fixed: SamplesFixed,
    records: &'a [u8],
}

impl<'a> Samples<'a> {
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let fixed: SamplesFixed = reader.take()?;
        if usize::from(fixed.count) > SAMPLES_MAX {
            return Err(WireError::TooLarge { limit: SAMPLES_MAX as u32 });
        }
        let records = reader.rest();
        for _ in 0..fixed.count {
            let record: Sample<'a> = reader.take()?;
            record.check(fixed.class)?;
        }
        reader.end()?;
        Ok(Self { fixed, records })
    }

    pub fn records(&self) -> impl Iterator<Item = Sample<'a>> {
        let mut reader = Reader::new(self.records);
        (0..self.fixed.count).map_while(move |_| reader.take().ok())
    }
}

/// Appends a body of samples.
pub fn write_samples(writer: &mut Writer<'_>, fixed: SamplesFixed, records: &[Sample<'_>]) -> Result<(), WireError> {
    if records.len() > SAMPLES_MAX || usize::from(fixed.count) != records.len() {
        return Err(WireError::TooLarge { limit: SAMPLES_MAX as u32 });
    }
    writer.value(&fixed)?;
    for record in records {
        record.check(fixed.class)?;
        writer.value(record)?;
    }
    Ok(())
}

/// The hub has taken every alarm of this stream up to this sequence: the device may forget them. On `down/cmd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    pub stream: u32,
    pub sequence: u32,
}

impl Body for Taken {
    const KIND: Kind = Kind::Taken;
}
