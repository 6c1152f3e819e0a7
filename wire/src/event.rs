//! What workloads say: logs and emitted events; and what they are told: input. Each class has its own sequence.
use crate::codec::{Reader, WireError, Writer, bounded, bounded_text};
use crate::frame::{Body, Kind};
use crate::id::{Fence, Session, WorkloadId};
use crate::limits::{EVENT_BYTES_MAX, LOG_RECORDS_MAX, LOG_TEXT_BYTES_MAX, TOPIC_BYTES_MAX};
use serde::{Deserialize, Serialize};

/// Severity, as the field orders it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// One line. `uptime_ms` is the device's own clock since its boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord<'a> {
    pub workload: WorkloadId,
    pub component: u8,
    pub level: Level,
    pub uptime_ms: u64,
    pub text: &'a str,
}

/// Several lines; the sequence is that of the first, gaps are losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFixed {
    pub session: Session,
    pub sequence: u32,
    pub uptime_ms: u64,
    pub count: u8,
}

#[derive(Clone, Copy, Debug)]
pub struct Log<'a> {
    pub fixed: LogFixed,
    records: &'a [u8],
}

impl<'a> Log<'a> {
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let fixed: LogFixed = reader.take()?;
        if usize::from(fixed.count) > LOG_RECORDS_MAX {
            return Err(WireError::TooLarge { limit: LOG_RECORDS_MAX as u32 });
        }
        let records = reader.rest();
        for _ in 0..fixed.count {
            let record: LogRecord<'a> = reader.take()?;
            bounded_text(record.text, LOG_TEXT_BYTES_MAX)?;
        }
        reader.end()?;
        Ok(Self { fixed, records })
    }

    pub fn records(&self) -> impl Iterator<Item = LogRecord<'a>> {
        let mut reader = Reader::new(self.records);
        (0..self.fixed.count).map_while(move |_| reader.take().ok())
    }
}

/// Appends a log body.
pub fn write_log(writer: &mut Writer<'_>, fixed: LogFixed, records: &[LogRecord<'_>]) -> Result<(), WireError> {
    if records.len() > LOG_RECORDS_MAX || usize::from(fixed.count) != records.len() {
        return Err(WireError::TooLarge { limit: LOG_RECORDS_MAX as u32 });
    }
    writer.value(&fixed)?;
    for record in records {
        bounded_text(record.text, LOG_TEXT_BYTES_MAX)?;
        writer.value(record)?;
    }
    Ok(())
}

/// What a workload emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event<'a> {
    pub session: Session,
    pub sequence: u32,
    pub workload: WorkloadId,
    pub component: u8,
    pub fence: Option<Fence>,
    pub topic: &'a str,
    pub payload: &'a [u8],
}

impl Body for Event<'_> {
    const KIND: Kind = Kind::Event;

    fn check(&self) -> Result<(), WireError> {
        bounded_text(self.topic, TOPIC_BYTES_MAX)?;
        bounded(self.payload, EVENT_BYTES_MAX).map(|_| ())
    }
}

/// Whose fence it is: fences of two workloads are not comparable, so a receiver needs both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fenced {
    pub workload: WorkloadId,
    pub fence: Fence,
}

/// What the hub routed to a workload of this device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input<'a> {
    pub sequence: u32,
    pub workload: WorkloadId,
    /// The right under which it was emitted, of the workload that emitted it; none of work that needs no grant.
    pub fence: Option<Fenced>,
    pub topic: &'a str,
    pub payload: &'a [u8],
}

impl Body for Input<'_> {
    const KIND: Kind = Kind::Input;

    fn check(&self) -> Result<(), WireError> {
        bounded_text(self.topic, TOPIC_BYTES_MAX)?;
        bounded(self.payload, EVENT_BYTES_MAX).map(|_| ())
    }
}

/// Whether an event of `topic` reaches a subscription: exact, or a prefix that ends in `/#`.
pub fn topic_matches(filter: &str, topic: &str) -> bool {
    match filter.strip_suffix("/#") {
        Some(prefix) => topic == prefix || topic.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/')),
        None => filter == topic,
    }
}

/// Topics that never leave the device.
pub const LOCAL_PREFIX: &str = "local/";
