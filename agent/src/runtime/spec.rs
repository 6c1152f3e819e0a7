//! What a record says about a function, in the words of the engine. Must never give more than the record does.
use agent_nostd::function::{Capabilities, Limits};
use wire::Digest;
use wire::clause::{Clause, Reference};
use wire::limits::{EVENT_BYTES_MAX, TOPIC_BYTES_MAX};
use wire::record::{CapabilitySet, Record, Role};

/// Where the configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Configuration {
    Inline(Vec<u8>),
    Stored(Reference),
}

/// One component, as the runtime needs it.
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

/// Each pair: the bit of the record, the bit of the engine.
const CAPABILITIES: [(CapabilitySet, Capabilities); 6] = [
    (CapabilitySet::EMIT, Capabilities::EMIT),
    (CapabilitySet::STATE, Capabilities::STATE),
    (CapabilitySet::RANDOM, Capabilities::RANDOM),
    (CapabilitySet::GPIO, Capabilities::GPIO),
    (CapabilitySet::ADC, Capabilities::ADC),
    (CapabilitySet::I2C, Capabilities::I2C),
];

/// Logs and the time of day need no grant: they tell nothing about the device and change nothing.
fn granted(set: CapabilitySet) -> Capabilities {
    CAPABILITIES
        .into_iter()
        .filter(|(stated, _)| set.contains(*stated))
        .fold(Capabilities::WALL_TIME, |sum, (_, granted)| sum | granted)
}

impl Spec {
    pub fn of(record: &Record<'_>) -> Self {
        let core = &record.core;
        let mut limits = Limits {
            memory_bytes: core.memory_bytes,
            fuel_per_activation: u64::from(core.fuel),
            // What the wire does not carry, the function is told at once and not later.
            emit_payload_bytes: u32::try_from(EVENT_BYTES_MAX).unwrap_or(u32::MAX),
            topic_bytes: u32::try_from(TOPIC_BYTES_MAX).unwrap_or(u32::MAX),
            ..Limits::LINUX
        };
        let mut configuration = Configuration::Inline(Vec::new());
        for stated in record.clauses.iter() {
            match stated.clause {
                Clause::Config(bytes) => configuration = Configuration::Inline(bytes.to_vec()),
                Clause::ConfigReference(reference) => configuration = Configuration::Stored(reference),
                Clause::Limits(stated) => {
                    limits.host_calls_per_activation = stated.host_calls;
                    limits.log_bytes_per_activation = stated.log_bytes;
                    limits.emit_bytes_per_activation = stated.emit_bytes;
                    limits.state_bytes = stated.state_bytes;
                }
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
            limits,
            granted: granted(core.capabilities),
            configuration,
        }
    }

    /// Memory that all instances may take.
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.limits.memory_bytes) * u64::from(self.instances)
    }
}
