//! One stored set in a caller-given buffer: its signed header and its body, which are also the value that the journal keeps.
//!
//! Nothing here decides whether a set is accepted; it only holds what was decided, and finds records in it without copies.
use super::port::SET_OVERHEAD_BYTES;
use super::time::{Duration, millis};
use wire::Digest;
use wire::clause::Clause;
use wire::codec::{Reader, WireError, Writer};
use wire::desired::{Header, SignedHeader, body_matches};
use wire::hello::{Capabilities, Features};
use wire::lease::is_holdable;
use wire::limits::CLAUSE_BYTES_MAX;
use wire::record::{Body, Core, Record, Runtime, encode_clauses};
use wire::status::Reason;

/// Tells versions of a component apart: the core without its generation, and the clauses that the running code depends on.
pub(crate) type Print = [u8; 16];

#[derive(Clone, Copy, Debug)]
struct Held {
    signed: SignedHeader,
    body_at: usize,
    end: usize,
}

#[derive(Debug)]
pub(crate) struct SetBuffer<'b> {
    bytes: &'b mut [u8],
    held: Option<Held>,
}

impl<'b> SetBuffer<'b> {
    pub fn new(bytes: &'b mut [u8]) -> Self {
        Self { bytes, held: None }
    }

    /// Longest body that certainly fits.
    pub fn body_bytes_max(&self) -> usize {
        self.bytes.len().saturating_sub(SET_OVERHEAD_BYTES)
    }

    pub fn clear(&mut self) {
        self.held = None;
    }

    /// The body must be the one that the header covers, and well formed.
    pub fn store(&mut self, signed: &SignedHeader, body: &[u8]) -> Result<usize, WireError> {
        self.held = None;
        if !body_matches(&signed.header, body) {
            return Err(WireError::NotAuthentic);
        }
        let records = Body::decode(body)?.len();
        let mut writer = Writer::new(self.bytes);
        signed.write(&mut writer)?;
        let body_at = writer.len();
        writer.bytes(body)?;
        let end = writer.len();
        self.held = Some(Held { signed: *signed, body_at, end });
        Ok(records)
    }

    /// A value from the journal. The signature was checked when it was accepted; the hash is checked again.
    pub fn load(&mut self, value: &[u8]) -> Result<usize, WireError> {
        let mut reader = Reader::new(value);
        let signed = SignedHeader::read(&mut reader)?;
        self.store(&signed, reader.rest())
    }

    pub fn copy_from(&mut self, other: &SetBuffer<'_>) {
        self.held = None;
        let value = other.value();
        if let (Some(room), Some(held)) = (self.bytes.get_mut(..value.len()), other.held) {
            room.copy_from_slice(value);
            self.held = Some(held);
        }
    }

    pub fn signed(&self) -> Option<&SignedHeader> {
        self.held.as_ref().map(|held| &held.signed)
    }

    pub fn header(&self) -> Option<&Header> {
        self.signed().map(|signed| &signed.header)
    }

    pub fn value(&self) -> &[u8] {
        self.held.map_or(&[], |held| self.bytes.get(..held.end).unwrap_or(&[]))
    }

    fn body(&self) -> &[u8] {
        self.held.map_or(&[], |held| self.bytes.get(held.body_at..held.end).unwrap_or(&[]))
    }

    /// Records with the offset at which each can be found again.
    pub fn records(&self) -> Records<'_> {
        let body = self.body();
        let mut reader = Reader::new(body);
        let _ = reader.take::<u16>();
        Records { length: body.len(), reader }
    }

    pub fn record_at(&self, offset: u32) -> Option<Record<'_>> {
        Record::read(&mut Reader::new(self.body().get(offset as usize..)?)).ok()
    }

    pub fn references(&self, digest: &Digest) -> bool {
        self.records().any(|(_, record)| record.core.artifact == *digest)
    }
}

#[derive(Clone)]
pub(crate) struct Records<'a> {
    length: usize,
    reader: Reader<'a>,
}

impl<'a> Iterator for Records<'a> {
    type Item = (u32, Record<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let offset = u32::try_from(self.length - self.reader.rest().len()).ok()?;
        Record::read(&mut self.reader).ok().map(|record| (offset, record))
    }
}

/// Clauses that only the machine reads change nothing in the code that runs: they apply without a restart.
fn is_policy(clause: &Clause<'_>) -> bool {
    match clause {
        Clause::After(_)
        | Clause::Retry(_)
        | Clause::StopGrace(_)
        | Clause::Unconfirmed
        | Clause::StopAfter(_)
        | Clause::Lease(_)
        | Clause::OnStale(_)
        | Clause::Trace(_) => true,
        Clause::Name(_)
        | Clause::Config(_)
        | Clause::ConfigReference(_)
        | Clause::Every(_)
        | Clause::Topics(_)
        | Clause::Limits(_)
        | Clause::Secret(_)
        | Clause::Schedule(_)
        | Clause::Residency(_)
        | Clause::ChunkRoot(_)
        | Clause::PublisherSignature(_)
        | Clause::Unknown { .. } => false,
    }
}

/// A chain of hashes, so that no buffer has to hold all clauses.
pub(crate) fn print_of(record: &Record<'_>) -> Print {
    const ROOM: usize = 32 + CLAUSE_BYTES_MAX + 8;
    let mut buffer = [0; ROOM];
    let mut writer = Writer::new(&mut buffer);
    // The core is well under 100 bytes.
    let _ = writer.value(&Core { generation: 0, ..record.core });
    let mut chain = Digest::of(writer.written());
    for stated in record.clauses.iter().filter(|stated| !is_policy(&stated.clause)) {
        buffer[..32].copy_from_slice(&chain.0);
        let used = encode_clauses(&mut buffer[32..], &[stated]).map_or(0, |written| written.len());
        chain = Digest::of(&buffer[..32 + used]);
    }
    let mut print = [0; 16];
    print.copy_from_slice(&chain.0[..16]);
    print
}

/// Why this agent cannot run a record, with the clause number if one is to blame.
pub(crate) fn refusal(
    record: &Record<'_>,
    capabilities: &Capabilities<'_>,
    stop_latency: Duration,
) -> Option<(Reason, Option<u16>)> {
    let can_hold =
        |ms: u64| capabilities.features.contains(Features::BOOT_CLOCK) && is_holdable(ms, millis(stop_latency));
    match record.core.runtime {
        Runtime::Function if capabilities.features.contains(Features::FUNCTION) => {}
        Runtime::Function => return Some((Reason::RUNTIME_MISSING, None)),
        Runtime::Container | Runtime::Process => return Some((Reason::NOT_SUPPORTED, None)),
    }
    if !capabilities.interfaces.contains(record.core.capabilities) {
        return Some((Reason::NOT_SUPPORTED, None));
    }
    record.clauses.iter().find_map(|stated| match stated.clause {
        Clause::Unknown { number, .. } if stated.critical => Some((Reason::UNKNOWN_CLAUSE, Some(number))),
        Clause::PublisherSignature(_) if stated.critical => Some((Reason::NOT_SUPPORTED, Some(stated.clause.number()))),
        Clause::Lease(ms) if !can_hold(ms) => Some((Reason::NOT_SUPPORTED, Some(stated.clause.number()))),
        Clause::ConfigReference(_) | Clause::Secret(_) | Clause::Schedule(_) | Clause::Residency(_) => {
            Some((Reason::NOT_SUPPORTED, Some(stated.clause.number())))
        }
        Clause::Name(_)
        | Clause::Config(_)
        | Clause::After(_)
        | Clause::Every(_)
        | Clause::Topics(_)
        | Clause::Limits(_)
        | Clause::Retry(_)
        | Clause::StopGrace(_)
        | Clause::Unconfirmed
        | Clause::StopAfter(_)
        | Clause::Lease(_)
        | Clause::OnStale(_)
        | Clause::Trace(_)
        | Clause::ChunkRoot(_)
        | Clause::PublisherSignature(_)
        | Clause::Unknown { .. } => None,
    })
}
