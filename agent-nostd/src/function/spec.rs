//! What a record says about a function, in the words of the engine. Must never give more than the record does.
use super::{Capabilities, Grant, Limits, heap_bytes};
use alloc::vec::Vec;
use wire::Digest;
use wire::clause::{Clause, Reference};
use wire::record::{Record, Role};

/// Where the configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Configuration {
    Inline(Vec<u8>),
    Stored(Reference),
}

/// One component, as it is run here.
#[derive(Clone, Debug)]
pub struct Spec {
    pub workload: u32,
    pub component: u8,
    pub role: Role,
    pub artifact: Digest,
    pub artifact_bytes: u32,
    pub instances: u16,
    pub limits: Limits,
    pub granted: Capabilities,
    pub configuration: Configuration,
}

impl Spec {
    /// `most` is what a device of this class gives at the most.
    pub fn of(record: &Record<'_>, most: &Limits) -> Self {
        let core = &record.core;
        let mut grant =
            Grant { memory_bytes: core.memory_bytes, fuel: core.fuel, quotas: None, capabilities: core.capabilities };
        let mut configuration = Configuration::Inline(Vec::new());
        for stated in record.clauses.iter() {
            match stated.clause {
                Clause::Config(bytes) => configuration = Configuration::Inline(bytes.to_vec()),
                Clause::ConfigReference(reference) => configuration = Configuration::Stored(reference),
                Clause::Limits(stated) => grant.quotas = Some(stated),
                // The machine's.
                Clause::Name(_)
                | Clause::After(_)
                | Clause::Every(_)
                | Clause::Topics(_)
                | Clause::Retry(_)
                | Clause::StopGrace(_)
                | Clause::Unconfirmed
                | Clause::StopAfter(_)
                | Clause::Lease(_)
                | Clause::OnStale(_)
                | Clause::Secret(_)
                | Clause::Schedule(_)
                | Clause::Trace(_)
                | Clause::Residency(_)
                | Clause::ChunkRoot(_)
                | Clause::PublisherSignature(_)
                | Clause::Unknown { .. } => {}
            }
        }
        Self {
            workload: core.workload.0,
            component: core.component,
            role: core.role,
            artifact: core.artifact,
            artifact_bytes: core.artifact_bytes,
            instances: core.instances.max(1),
            limits: grant.limits(most),
            granted: grant.capabilities(),
            configuration,
        }
    }

    /// Memory of all instances.
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.limits.memory_bytes) * u64::from(self.instances)
    }

    /// Heap that all of it may take, the engine's own included.
    pub fn heap_bytes(&self) -> u64 {
        heap_bytes(self.artifact_bytes, self.limits.memory_bytes, self.instances)
    }
}
