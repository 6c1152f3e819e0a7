//! Serves one host call of a function: checks pointers and quotas, then asks the [`Host`].
//!
//! A guest's numbers are hostile. Every pointer goes through [`span`] before it touches memory, every length is compared with
//! its limit before anything is copied, and a wrong call is an error code for the guest, never a fault of the engine.

use super::abi::{
    ERR_BOUNDS, ERR_CAPABILITY, ERR_INVALID, ERR_NOT_FOUND, ERR_QUOTA, ERR_TOO_LONG, ERR_UNKNOWN, Import, PARAMS_MAX,
};
use super::error::TrapCause;
use super::host::{EmitError, HardwareError, Host, Level, TellError};
use super::limits::{HOST_CALLS_GROSS_FACTOR, I2C_BYTES_MAX, Limits, STATE_KEY_BYTES};
use super::state::Overlay;
use crate::machine::port::Telling;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use wasmi::Val;
use wasmi::errors::HostError;
use wire::limits::{NAME_BYTES_MAX, SAMPLE_TEXT_BYTES_MAX};
use wire::sample::is_key;

/// A call of the guest to the host, on its way out of the interpreter.
///
/// The interpreter suspends at every import and hands this out as an error; the instance serves it and resumes. So the host
/// can be borrowed for one activation only, and no import ever runs inside the interpreter.
#[derive(Debug, Clone, Copy)]
pub(super) struct HostCall {
    pub import: Import,
    pub args: [i32; PARAMS_MAX],
    /// The parameter of 64 bits, of an import that has one.
    pub long: i64,
    pub wide: bool,
}

impl fmt::Display for HostCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host call {:?}", self.import)
    }
}

impl HostError for HostCall {}

/// What one activation got and has used up.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub topic: String,
    pub input: Vec<u8>,
    pub state: Overlay,
    calls: u32,
    log_bytes: u32,
    emit_bytes: u32,
    sample_bytes: u32,
    alarms: u32,
}

/// The part of memory that a guest means, if it lies inside.
fn span(ptr: i32, len: i32, memory: &[u8]) -> Result<Range<usize>, i32> {
    let start = usize::try_from(ptr.cast_unsigned()).map_err(|_| ERR_BOUNDS)?;
    let len = usize::try_from(len.cast_unsigned()).map_err(|_| ERR_BOUNDS)?;
    let end = start.checked_add(len).ok_or(ERR_BOUNDS)?;
    if end > memory.len() {
        return Err(ERR_BOUNDS);
    }
    Ok(start..end)
}

/// The bytes that a guest means.
fn bytes(ptr: i32, len: i32, memory: &[u8]) -> Result<&[u8], i32> {
    memory.get(span(ptr, len, memory)?).ok_or(ERR_BOUNDS)
}

/// The bytes that a guest means, to be written.
fn bytes_mut(ptr: i32, len: i32, memory: &mut [u8]) -> Result<&mut [u8], i32> {
    let span = span(ptr, len, memory)?;
    memory.get_mut(span).ok_or(ERR_BOUNDS)
}

/// A length as the guest sees it.
fn answer(len: usize) -> Result<i32, i32> {
    i32::try_from(len).map_err(|_| ERR_TOO_LONG)
}

/// Copies `source` from `offset` on into the guest's buffer and returns how many bytes there were.
fn copy_out(source: &[u8], offset: i32, ptr: i32, cap: i32, memory: &mut [u8]) -> Result<i32, i32> {
    let out = bytes_mut(ptr, cap, memory)?;
    let offset = usize::try_from(offset.cast_unsigned()).map_err(|_| ERR_BOUNDS)?;
    let rest = source.get(offset..).unwrap_or_default();
    for (to, from) in out.iter_mut().zip(rest) {
        *to = *from;
    }
    answer(out.len().min(rest.len()))
}

/// Takes `len` bytes out of a budget; `one_max` bounds a single use.
fn spend(used: &mut u32, len: usize, one_max: u32, budget: u32) -> Result<(), i32> {
    let len = u32::try_from(len).map_err(|_| ERR_TOO_LONG)?;
    if len > one_max {
        return Err(ERR_TOO_LONG);
    }
    let sum = used.checked_add(len).filter(|sum| *sum <= budget).ok_or(ERR_QUOTA)?;
    *used = sum;
    Ok(())
}

/// A topic that a function may name: relative, of non-empty levels, without wildcards or control characters.
fn topic_is_valid(topic: &str) -> bool {
    topic.split('/').all(|level| !level.is_empty())
        && !topic.starts_with('$')
        && !topic.chars().any(|c| matches!(c, '+' | '#') || c.is_control())
}

impl Ledger {
    /// The ledger of an activation with this input.
    pub fn new(topic: &str, input: &[u8]) -> Self {
        Self { topic: String::from(topic), input: Vec::from(input), ..Self::default() }
    }

    /// Serves one call; what it returns is the guest's result.
    ///
    /// Fails only for a guest that goes on calling far above its quota: error codes do not stop a loop.
    pub fn serve(
        &mut self,
        call: &HostCall,
        memory: &mut [u8],
        host: &mut dyn Host,
        limits: &Limits,
    ) -> Result<Val, TrapCause> {
        self.calls = self.calls.saturating_add(1);
        let quota = limits.host_calls_per_activation;
        if self.calls > quota.saturating_mul(HOST_CALLS_GROSS_FACTOR) {
            return Err(TrapCause::HostQuota);
        }
        let result = if self.calls > quota {
            i64::from(ERR_QUOTA)
        } else {
            self.dispatch(call, memory, host, limits).unwrap_or_else(i64::from)
        };
        if call.wide {
            return Ok(Val::I64(result));
        }
        Ok(Val::I32(i32::try_from(result).unwrap_or(ERR_UNKNOWN)))
    }

    /// The import itself.
    fn dispatch(
        &mut self,
        call: &HostCall,
        memory: &mut [u8],
        host: &mut dyn Host,
        limits: &Limits,
    ) -> Result<i64, i32> {
        let [a, b, c, d, e, f] = call.args;
        let result = match call.import {
            Import::Log => self.log(a, bytes(b, c, memory)?, host, limits)?,
            Import::Emit => self.emit(bytes(a, b, memory)?, bytes(c, d, memory)?, host, limits)?,
            Import::InputLen => answer(self.input.len())?,
            Import::InputRead => copy_out(&self.input, a, b, c, memory)?,
            Import::InputTopicLen => answer(self.topic.len())?,
            Import::InputTopicRead => copy_out(self.topic.as_bytes(), a, b, c, memory)?,
            Import::ConfigLen => answer(host.config().len())?,
            Import::ConfigRead => copy_out(host.config(), a, b, c, memory)?,
            Import::StateGet => {
                // The key is copied because the guest may let key and buffer overlap.
                let mut key = [0; STATE_KEY_BYTES];
                let from = bytes(a, b, memory)?;
                let key = key.get_mut(..from.len()).ok_or(ERR_TOO_LONG)?;
                key.copy_from_slice(from);
                let len = self.state.get(key, bytes_mut(c, d, memory)?, host)?;
                i32::try_from(len).map_err(|_| ERR_TOO_LONG)?
            }
            Import::StateSet => {
                self.state.set(bytes(a, b, memory)?, bytes(c, d, memory)?, host, limits)?;
                0
            }
            Import::StateDelete => {
                self.state.delete(bytes(a, b, memory)?, host, limits)?;
                0
            }
            Import::TimeMonotonicUs => return Ok(i64::try_from(host.monotonic_us()).unwrap_or(i64::MAX)),
            Import::TimeWallMs => {
                let now = host.wall_ms().ok_or(ERR_UNKNOWN)?;
                return Ok(i64::try_from(now).unwrap_or(i64::MAX));
            }
            Import::Fence => return Ok(i64::try_from(host.fence()).unwrap_or(i64::MAX)),
            Import::Freshness => {
                let ms = host.freshness_ms().ok_or(ERR_UNKNOWN)?;
                return Ok(i64::try_from(ms).unwrap_or(i64::MAX));
            }
            Import::Degraded => i32::from(host.is_degraded()),
            Import::Random => {
                let out = bytes_mut(a, b, memory)?;
                spend(&mut 0, out.len(), limits.random_bytes, limits.random_bytes)?;
                host.random(out).map_err(|_| ERR_UNKNOWN)?;
                answer(out.len())?
            }
            Import::Alarm => {
                let (key, text) = (key(bytes(a, b, memory)?)?, text(bytes(c, d, memory)?)?);
                self.tell(&Telling::Alarm { key, text }, host, limits)?
            }
            Import::Report => {
                let (key, text) = (key(bytes(a, b, memory)?)?, text(bytes(c, d, memory)?)?);
                self.tell(&Telling::State { key, text }, host, limits)?
            }
            Import::Measure => {
                let scale = i8::try_from(d).map_err(|_| ERR_INVALID)?;
                let key = key(bytes(a, b, memory)?)?;
                self.tell(&Telling::Metric { key, value: call.long, scale }, host, limits)?
            }
            Import::GpioRead => i32::from(host.gpio_read(handle(a)?).map_err(hardware)?),
            Import::GpioWrite => {
                let is_high = match b {
                    0 => false,
                    1 => true,
                    _ => return Err(ERR_INVALID),
                };
                host.gpio_write(handle(a)?, is_high).map(|()| 0).map_err(hardware)?
            }
            Import::AdcRead => i32::from(host.adc_read(handle(a)?).map_err(hardware)?),
            Import::PwmSet => {
                let duty = u16::try_from(b).map_err(|_| ERR_INVALID)?;
                host.pwm_set(handle(a)?, duty).map(|()| 0).map_err(hardware)?
            }
            Import::I2cWriteRead => i2c(a, b, (c, d), (e, f), memory, host)?,
        };
        Ok(i64::from(result))
    }

    fn log(&mut self, level: i32, text: &[u8], host: &mut dyn Host, limits: &Limits) -> Result<i32, i32> {
        let level = Level::from_abi(level).ok_or(ERR_INVALID)?;
        spend(&mut self.log_bytes, text.len(), limits.log_line_bytes, limits.log_bytes_per_activation)?;
        host.log(level, text);
        Ok(0)
    }

    fn tell(&mut self, telling: &Telling<'_>, host: &mut dyn Host, limits: &Limits) -> Result<i32, i32> {
        let len = match *telling {
            Telling::Alarm { key, text } | Telling::State { key, text } => key.len() + text.len(),
            Telling::Metric { key, .. } => key.len() + size_of::<i64>(),
        };
        if matches!(telling, Telling::Alarm { .. }) {
            spend(&mut self.alarms, 1, 1, limits.alarms_per_activation)?;
        }
        spend(&mut self.sample_bytes, len, limits.sample_bytes_per_activation, limits.sample_bytes_per_activation)?;
        host.tell(telling).map(|()| 0).map_err(|TellError| ERR_QUOTA)
    }

    fn emit(&mut self, topic: &[u8], payload: &[u8], host: &mut dyn Host, limits: &Limits) -> Result<i32, i32> {
        if length_exceeds(topic, limits.topic_bytes) || length_exceeds(payload, limits.emit_payload_bytes) {
            return Err(ERR_TOO_LONG);
        }
        let topic = core::str::from_utf8(topic).map_err(|_| ERR_INVALID)?;
        if !topic_is_valid(topic) {
            return Err(ERR_INVALID);
        }
        let len = topic.len().saturating_add(payload.len());
        spend(&mut self.emit_bytes, len, limits.emit_bytes_per_activation, limits.emit_bytes_per_activation)?;
        match host.emit(topic, payload) {
            Ok(()) => Ok(0),
            Err(EmitError::Quota) => Err(ERR_QUOTA),
            Err(EmitError::Topic) => Err(ERR_CAPABILITY),
        }
    }
}

/// The number of a pin or bus.
fn handle(number: i32) -> Result<u16, i32> {
    u16::try_from(number).map_err(|_| ERR_NOT_FOUND)
}

const fn hardware(error: HardwareError) -> i32 {
    match error {
        HardwareError::NoHandle => ERR_NOT_FOUND,
        HardwareError::Failed => ERR_UNKNOWN,
    }
}

/// One transfer on a bus: pointer and length of what goes out, and of where the answer goes.
fn i2c(
    bus: i32,
    address: i32,
    out: (i32, i32),
    into: (i32, i32),
    memory: &mut [u8],
    host: &mut dyn Host,
) -> Result<i32, i32> {
    let address = u8::try_from(address).ok().filter(|address| *address <= I2C_ADDRESS_MAX).ok_or(ERR_INVALID)?;
    // Copied because the guest may let both overlap.
    let mut copy = [0; I2C_BYTES_MAX];
    let from = bytes(out.0, out.1, memory)?;
    let out = copy.get_mut(..from.len()).ok_or(ERR_TOO_LONG)?;
    out.copy_from_slice(from);
    let into = bytes_mut(into.0, into.1, memory)?;
    if into.len() > I2C_BYTES_MAX {
        return Err(ERR_TOO_LONG);
    }
    host.i2c_write_read(handle(bus)?, address, out, into).map_err(hardware)?;
    answer(into.len())
}

/// Of seven bits; what is reserved among them is the bus's affair.
const I2C_ADDRESS_MAX: u8 = 0x7f;

/// A key of an alarm, a state or a metric.
fn key(bytes: &[u8]) -> Result<&str, i32> {
    if bytes.len() > NAME_BYTES_MAX {
        return Err(ERR_TOO_LONG);
    }
    core::str::from_utf8(bytes).ok().filter(|key| is_key(key)).ok_or(ERR_INVALID)
}

/// The text of an alarm or a state.
fn text(bytes: &[u8]) -> Result<&str, i32> {
    if bytes.len() > SAMPLE_TEXT_BYTES_MAX {
        return Err(ERR_TOO_LONG);
    }
    core::str::from_utf8(bytes).map_err(|_| ERR_INVALID)
}

/// Whether there are more bytes than `limit`.
fn length_exceeds(bytes: &[u8], limit: u32) -> bool {
    u32::try_from(bytes.len()).map_or(true, |len| len > limit)
}
