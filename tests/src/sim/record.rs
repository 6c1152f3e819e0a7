//! Desired sets as the oracles see them: decoded from the bytes that were signed, stored or sent, by nothing but `wire`.
//!
//! The judgement of what makes two versions of a component the same is made here again, apart from the agent's.
use agent_nostd::machine::port::Terms;
use wire::clause::Clause;
use wire::codec::Reader;
use wire::desired::SignedHeader;
use wire::record::{Body, Core, Record, encode_clauses};
use wire::{Digest, Revision, WorkloadId};

pub type Key = (WorkloadId, u8);

/// A record that outlives the buffer that it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub core: Core,
    pub clauses: Vec<u8>,
    /// Everything that running code depends on.
    pub version: Digest,
    /// Of the workload, without its namespace.
    pub name: String,
    /// Components that come first.
    pub after: Vec<u8>,
    pub policy: Policy,
    /// Failures within ten minutes after which this version counts as bad.
    pub tries: u32,
}

/// What ends a component without the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Autonomous,
    /// So many milliseconds after the hub was heard.
    StopAfter(u64),
    /// As it was written for stale orders; not judged here.
    Stale,
    /// The end of a lease of so many milliseconds.
    Exclusive(u64),
}

impl Kept {
    pub fn of(record: &Record<'_>) -> Self {
        let mut bytes = format!("{:?}", Core { generation: 0, ..record.core }).into_bytes();
        let mut buffer = [0; 600];
        let mut name = String::new();
        let mut after = Vec::new();
        let mut policy = Policy::Autonomous;
        let mut tries = 3;
        for stated in record.clauses.iter() {
            if let Clause::Name(stated) = stated.clause {
                name = stated.name.to_owned();
            }
            if let Clause::After(components) = stated.clause {
                after = components.to_vec();
            }
            if let Clause::Retry(retry) = stated.clause {
                tries = u32::from(retry.attempts);
            }
            policy = match (stated.clause, policy) {
                (Clause::Lease(ms), _) => Policy::Exclusive(ms),
                (Clause::StopAfter(ms), Policy::Autonomous) => Policy::StopAfter(ms),
                (Clause::OnStale(_), Policy::Autonomous) => Policy::Stale,
                (_, policy) => policy,
            };
            // What only the machine reads may change without a restart.
            let is_policy = matches!(
                stated.clause,
                Clause::After(_)
                    | Clause::Retry(_)
                    | Clause::StopGrace(_)
                    | Clause::Unconfirmed
                    | Clause::Trace(_)
                    | Clause::StopAfter(_)
                    | Clause::Lease(_)
                    | Clause::OnStale(_)
            );
            if !is_policy && let Ok(encoded) = encode_clauses(&mut buffer, &[stated]) {
                bytes.extend_from_slice(encoded);
            }
        }
        Self {
            core: record.core,
            clauses: record.clauses.as_bytes().to_vec(),
            version: Digest::of(&bytes),
            name,
            after,
            policy,
            tries,
        }
    }

    pub fn key(&self) -> Key {
        (self.core.workload, self.core.component)
    }
}

impl Policy {
    /// Whether a machine that follows this policy gives such terms.
    pub fn fits(self, terms: &Terms) -> bool {
        match self {
            Self::Exclusive(_) => terms.grant.is_some(),
            Self::StopAfter(_) => terms.grant.is_none() && terms.stop_by.is_some(),
            Self::Autonomous => terms.until().is_none(),
            Self::Stale => terms.grant.is_none(),
        }
    }
}

/// A whole set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub revision: Revision,
    pub digest: Digest,
    pub records: Vec<Kept>,
}

impl Set {
    /// From a header and the body that it covers.
    pub fn of(signed: &SignedHeader, body: &[u8]) -> Option<Self> {
        if !wire::desired::body_matches(&signed.header, body) {
            return None;
        }
        let records = Body::decode(body).ok()?.iter().map(|record| Kept::of(&record)).collect();
        Some(Self { revision: signed.header.revision, digest: signed.header.body, records })
    }

    /// From what the agent keeps in its journal: signed header, then body.
    pub fn of_journal(value: &[u8]) -> Option<(SignedHeader, Self)> {
        let mut reader = Reader::new(value);
        let signed = SignedHeader::read(&mut reader).ok()?;
        Self::of(&signed, reader.rest()).map(|set| (signed, set))
    }

    pub fn get(&self, key: Key) -> Option<&Kept> {
        self.records.iter().find(|record| record.key() == key)
    }
}
