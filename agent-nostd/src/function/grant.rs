//! What an assignment grants to a function, in the words of the engine. One translation for every device, and for whoever plays
//! one on a desk; it must never give more than the assignment does.

use super::capability::Capabilities;
use super::limits::Limits;
use wire::clause::FunctionLimits;
use wire::limits::{EVENT_BYTES_MAX, TOPIC_BYTES_MAX};
use wire::record::CapabilitySet;

/// What a signed record says about what a function may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Most bytes of linear memory.
    pub memory_bytes: u32,
    /// Fuel of one activation.
    pub fuel: u32,
    /// Quotas of one activation and of the state; without them those of the class count.
    pub quotas: Option<FunctionLimits>,
    /// Interfaces that it may use.
    pub capabilities: CapabilitySet,
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

impl Grant {
    /// Logs and the time of day need no grant: they tell nothing about the device and change nothing.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        CAPABILITIES
            .into_iter()
            .filter(|(stated, _)| self.capabilities.contains(*stated))
            .fold(Capabilities::WALL_TIME, |sum, (_, granted)| sum | granted)
    }

    /// The limits on a device of this class.
    #[must_use]
    pub fn limits(&self, class: &Limits) -> Limits {
        let mut limits = Limits {
            memory_bytes: self.memory_bytes,
            fuel_per_activation: u64::from(self.fuel),
            // What the wire does not carry, the function is told at once and not later.
            emit_payload_bytes: u32::try_from(EVENT_BYTES_MAX).unwrap_or(u32::MAX).min(class.emit_payload_bytes),
            topic_bytes: u32::try_from(TOPIC_BYTES_MAX).unwrap_or(u32::MAX).min(class.topic_bytes),
            ..*class
        };
        if let Some(quotas) = self.quotas {
            limits.host_calls_per_activation = quotas.host_calls;
            limits.log_bytes_per_activation = quotas.log_bytes;
            limits.emit_bytes_per_activation = quotas.emit_bytes;
            limits.state_bytes = quotas.state_bytes;
        }
        limits
    }
}
