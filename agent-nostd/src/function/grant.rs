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
const CAPABILITIES: [(CapabilitySet, Capabilities); 8] = [
    (CapabilitySet::EMIT, Capabilities::EMIT),
    (CapabilitySet::STATE, Capabilities::STATE),
    (CapabilitySet::RANDOM, Capabilities::RANDOM),
    (CapabilitySet::TELEMETRY, Capabilities::TELEMETRY),
    (CapabilitySet::GPIO, Capabilities::GPIO),
    (CapabilitySet::ADC, Capabilities::ADC),
    (CapabilitySet::I2C, Capabilities::I2C),
    (CapabilitySet::PWM, Capabilities::PWM),
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
            limits.sample_bytes_per_activation = quotas.sample_bytes;
        }
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANT: Grant = Grant { memory_bytes: 4096, fuel: 700, quotas: None, capabilities: CapabilitySet(0) };

    #[test]
    fn nothing_is_granted_that_the_record_does_not_name() {
        assert_eq!(GRANT.capabilities(), Capabilities::WALL_TIME);
        for bit in 0..32 {
            let granted = Grant { capabilities: CapabilitySet(1 << bit), ..GRANT }.capabilities();
            let named = CAPABILITIES.iter().find(|(stated, _)| stated.0 == 1 << bit).map(|(_, granted)| *granted);
            assert_eq!(granted, Capabilities::WALL_TIME | named.unwrap_or(Capabilities::NONE), "bit {bit}");
        }
    }

    #[test]
    fn what_the_record_leaves_out_is_that_of_the_class() {
        for class in [Limits::LINUX, Limits::MCU] {
            let limits = GRANT.limits(&class);
            assert_eq!((limits.memory_bytes, limits.fuel_per_activation), (4096, 700));
            assert_eq!(
                (limits.host_calls_per_activation, limits.state_bytes),
                (class.host_calls_per_activation, class.state_bytes)
            );
            assert!(limits.emit_payload_bytes <= class.emit_payload_bytes && limits.topic_bytes <= class.topic_bytes);
            assert!(
                limits.emit_payload_bytes as usize <= EVENT_BYTES_MAX && limits.topic_bytes as usize <= TOPIC_BYTES_MAX
            );
        }
        let quotas = FunctionLimits { host_calls: 1, log_bytes: 2, emit_bytes: 3, state_bytes: 4, sample_bytes: 5 };
        let limits = Grant { quotas: Some(quotas), ..GRANT }.limits(&Limits::MCU);
        let stated =
            [limits.host_calls_per_activation, limits.log_bytes_per_activation, limits.emit_bytes_per_activation];
        assert_eq!((stated, limits.state_bytes, limits.sample_bytes_per_activation), ([1, 2, 3], 4, 5));
    }
}
