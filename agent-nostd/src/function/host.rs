//! What a function sees of the world: the one trait that the owner of a function implements.
//!
//! Implementations must answer at once and must never call back into the instance. Sizes and quotas are already checked
//! when a method here is called; a host may still refuse for reasons of its own, such as a full queue.

use crate::machine::port::Telling;

/// How important a log line is. The numbers are the guest's ABI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Someone must act.
    Error = 0,
    /// Degraded.
    Warn = 1,
    /// A change of state.
    Info = 2,
    /// Detail.
    Debug = 3,
}

impl Level {
    /// The level with this number in the ABI.
    #[must_use]
    pub const fn from_abi(number: i32) -> Option<Self> {
        match number {
            0 => Some(Self::Error),
            1 => Some(Self::Warn),
            2 => Some(Self::Info),
            3 => Some(Self::Debug),
            _ => None,
        }
    }
}

/// Why an emitted message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmitError {
    /// The function's share of the outgoing queue is used up; the loss is counted by the host.
    Quota,
    /// The function may not emit to this topic.
    Topic,
}

/// An alarm, a state or a metric was not taken; the loss is counted by the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TellError;

/// The state could not be made durable; nothing of the batch was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitError;

/// There is no entropy to give yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RandomError;

/// Why a pin or bus did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HardwareError {
    /// The board has no such handle, or not of this kind.
    NoHandle,
    /// The hardware did not answer as it should.
    Failed,
}

/// One change of a function's durable state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateChange<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its new value; `None` removes the key.
    pub value: Option<&'a [u8]>,
}

/// The world of one function. Whoever has no pins and buses leaves the last five as they are.
pub trait Host {
    /// A log line. The bytes are the guest's: not necessarily UTF-8, never with more bytes than the limit of a line.
    fn log(&mut self, level: Level, text: &[u8]);

    /// Emit `payload` to `topic`, a non-empty relative topic without wildcards.
    fn emit(&mut self, topic: &str, payload: &[u8]) -> Result<(), EmitError>;

    /// Raise an alarm, report a state or a measured value. Key and text are valid.
    fn tell(&mut self, telling: &Telling<'_>) -> Result<(), TellError>;

    /// The function's configuration.
    fn config(&self) -> &[u8];

    /// Copies as much of the value of `key` as fits into `out`, and returns the whole length; `None` if there is no such key.
    /// Shows what was last committed.
    fn state_get(&mut self, key: &[u8], out: &mut [u8]) -> Option<u32>;

    /// The sum of the bytes of all committed keys and values.
    fn state_size(&self) -> u32;

    /// Makes all changes of one activation durable, all or nothing. Keys are distinct and sorted.
    fn state_commit(&mut self, changes: &[StateChange<'_>]) -> Result<(), CommitError>;

    /// Microseconds since some moment of this boot; never runs backwards.
    fn monotonic_us(&mut self) -> u64;

    /// Milliseconds since 1970 in UTC, when the device knows.
    fn wall_ms(&mut self) -> Option<u64>;

    /// The fence of the right under which the function runs, as `wire::Order` packs it; zero: it needs none.
    fn fence(&mut self) -> u64;

    /// Milliseconds since the hub was last asked with success; `None`: not in this boot.
    fn freshness_ms(&mut self) -> Option<u64>;

    /// Whether the hub was not heard for so long that the function is to do less than usual.
    fn is_degraded(&mut self) -> bool;

    /// Whether the function may go on. Asked before each call to the host and before each slice; false ends it there, and what
    /// it remembered in this activation is lost.
    fn may_go_on(&mut self) -> bool;

    /// Fills `out` with random bytes.
    fn random(&mut self, out: &mut [u8]) -> Result<(), RandomError>;

    /// Whether a digital pin is high: an input as it is, an output as it was set.
    fn gpio_read(&mut self, _handle: u16) -> Result<bool, HardwareError> {
        Err(HardwareError::NoHandle)
    }

    /// Sets a digital output.
    fn gpio_write(&mut self, _handle: u16, _is_high: bool) -> Result<(), HardwareError> {
        Err(HardwareError::NoHandle)
    }

    /// An analogue input: from 0 to `u16::MAX`, its whole range.
    fn adc_read(&mut self, _handle: u16) -> Result<u16, HardwareError> {
        Err(HardwareError::NoHandle)
    }

    /// How much of the time an output is on: from 0 to `u16::MAX`, always.
    fn pwm_set(&mut self, _handle: u16, _duty: u16) -> Result<(), HardwareError> {
        Err(HardwareError::NoHandle)
    }

    /// Writes `out` to the device with this address of seven bits, then fills `into` from it; what is empty is left out.
    fn i2c_write_read(
        &mut self,
        _handle: u16,
        _address: u8,
        _out: &[u8],
        _into: &mut [u8],
    ) -> Result<(), HardwareError> {
        Err(HardwareError::NoHandle)
    }
}
