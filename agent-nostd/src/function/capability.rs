//! What a function is allowed to touch, as a set that travels in the signed assignment and is checked when a module is loaded.
//!
//! Logging, input, configuration and the monotonic clock need no capability. Bits are a promise: never reuse one.

use core::ops::BitOr;

/// A set of capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(u32);

/// Names by bit, for texts.
const NAMES: [(Capabilities, &str); 9] = [
    (Capabilities::EMIT, "emit"),
    (Capabilities::STATE, "state"),
    (Capabilities::WALL_TIME, "wall-time"),
    (Capabilities::RANDOM, "random"),
    (Capabilities::TELEMETRY, "telemetry"),
    (Capabilities::GPIO, "gpio"),
    (Capabilities::ADC, "adc"),
    (Capabilities::I2C, "i2c"),
    (Capabilities::PWM, "pwm"),
];

impl Capabilities {
    /// Nothing but logging, input, configuration and the monotonic clock.
    pub const NONE: Self = Self(0);
    /// May emit to topics.
    pub const EMIT: Self = Self(1);
    /// May keep durable state.
    pub const STATE: Self = Self(1 << 1);
    /// May read the wall clock.
    pub const WALL_TIME: Self = Self(1 << 2);
    /// May draw random bytes.
    pub const RANDOM: Self = Self(1 << 3);
    /// May raise alarms, report states and measure.
    pub const TELEMETRY: Self = Self(1 << 4);
    /// May use digital pins.
    pub const GPIO: Self = Self(1 << 8);
    /// May read analogue inputs.
    pub const ADC: Self = Self(1 << 9);
    /// May talk to devices on I2C buses.
    pub const I2C: Self = Self(1 << 10);
    /// May set outputs that are on for a part of the time.
    pub const PWM: Self = Self(1 << 11);
    /// Everything that does not touch hardware: the default of a function that names no capabilities.
    pub const DEFAULT: Self =
        Self(Self::EMIT.0 | Self::STATE.0 | Self::WALL_TIME.0 | Self::RANDOM.0 | Self::TELEMETRY.0);

    /// The set with these bits; unknown bits are kept, they grant nothing.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The bits of this set.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether everything in `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Names of the known capabilities in this set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().filter(move |(one, _)| self.contains(*one)).map(|(_, name)| name)
    }
}

impl BitOr for Capabilities {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
