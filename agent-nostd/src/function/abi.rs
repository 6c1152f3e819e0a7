//! The ABI between a function and the engine: names, signatures, codes. `docs/functions.md` is its reference for authors.
//!
//! It is a promise: names, parameters and numbers are only ever added. What a device does not know, it refuses at load.
//!
//! Pins and buses have handles: small numbers that the board's table gives them. Reserved is the export
//! `fulmar_interrupt(handle)`.

use super::capability::Capabilities;
use wasmi::ValType;

/// The module name of all imports.
pub const IMPORT_MODULE: &str = "fulmar";
/// The custom section that carries the ABI version in one byte.
pub const ABI_SECTION: &str = "fulmar.abi";
/// The version that this engine speaks.
pub const ABI_VERSION: u8 = 1;
/// The export name of the linear memory.
pub const MEMORY_EXPORT: &str = "memory";

/// No more is known, for example the wall time; or the hardware does not answer.
pub const ERR_UNKNOWN: i32 = -1;
/// A pointer and length do not lie inside the memory.
pub const ERR_BOUNDS: i32 = -2;
/// A quota of this activation, of the state or of the host's queue is used up.
pub const ERR_QUOTA: i32 = -3;
/// Not allowed here: the topic is not the function's.
pub const ERR_CAPABILITY: i32 = -4;
/// A key, value, line, topic or payload is longer than its limit.
pub const ERR_TOO_LONG: i32 = -5;
/// There is no such key, or no such pin or bus on this board.
pub const ERR_NOT_FOUND: i32 = -6;
/// An argument makes no sense: an unknown level, a topic with wildcards or not in UTF-8, an empty key, a duty beyond its range.
pub const ERR_INVALID: i32 = -7;

/// Every function that a module can import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Import {
    /// `log(level, ptr, len)`
    Log,
    /// `emit(topic_ptr, topic_len, ptr, len)`
    Emit,
    /// `input_len()`
    InputLen,
    /// `input_read(offset, ptr, cap)`
    InputRead,
    /// `input_topic_len()`
    InputTopicLen,
    /// `input_topic_read(offset, ptr, cap)`
    InputTopicRead,
    /// `config_len()`
    ConfigLen,
    /// `config_read(offset, ptr, cap)`
    ConfigRead,
    /// `state_get(key_ptr, key_len, out_ptr, out_cap)`
    StateGet,
    /// `state_set(key_ptr, key_len, ptr, len)`
    StateSet,
    /// `state_delete(key_ptr, key_len)`
    StateDelete,
    /// `time_monotonic_us() -> i64`
    TimeMonotonicUs,
    /// `time_wall_ms() -> i64`
    TimeWallMs,
    /// `random(ptr, len)`
    Random,
    /// `fence() -> i64`
    Fence,
    /// `freshness() -> i64`
    Freshness,
    /// `degraded()`
    Degraded,
    /// `alarm(key_ptr, key_len, ptr, len)`
    Alarm,
    /// `report(key_ptr, key_len, ptr, len)`
    Report,
    /// `measure(key_ptr, key_len, value: i64, scale)`
    Measure,
    /// `gpio_read(handle)`
    GpioRead,
    /// `gpio_write(handle, level)`
    GpioWrite,
    /// `adc_read(handle)`
    AdcRead,
    /// `pwm_set(handle, duty)`
    PwmSet,
    /// `i2c_write_read(handle, address, out_ptr, out_len, in_ptr, in_cap)`
    I2cWriteRead,
}

/// Most parameters that an import has.
pub(super) const PARAMS_MAX: usize = 6;

/// The facts of one import. All parameters are `i32`, but one of 64 bits where `long` says so.
#[derive(Debug, Clone, Copy)]
pub(super) struct ImportSpec {
    pub import: Import,
    pub name: &'static str,
    pub params: usize,
    /// The parameter that is an `i64`.
    pub long: Option<usize>,
    pub result: ValType,
    pub needs: Capabilities,
    pub uses_memory: bool,
}

/// One row of the table.
const fn spec(import: Import, name: &'static str, params: usize, needs: Capabilities, uses_memory: bool) -> ImportSpec {
    ImportSpec { import, name, params, long: None, result: ValType::I32, needs, uses_memory }
}

/// One row of the table for a number of 64 bits that takes no arguments.
const fn wide(import: Import, name: &'static str, needs: Capabilities) -> ImportSpec {
    ImportSpec { import, name, params: 0, long: None, result: ValType::I64, needs, uses_memory: false }
}

/// The whole import surface.
pub(super) const IMPORTS: [ImportSpec; 25] = [
    spec(Import::Log, "log", 3, Capabilities::NONE, true),
    spec(Import::Emit, "emit", 4, Capabilities::EMIT, true),
    spec(Import::InputLen, "input_len", 0, Capabilities::NONE, false),
    spec(Import::InputRead, "input_read", 3, Capabilities::NONE, true),
    spec(Import::InputTopicLen, "input_topic_len", 0, Capabilities::NONE, false),
    spec(Import::InputTopicRead, "input_topic_read", 3, Capabilities::NONE, true),
    spec(Import::ConfigLen, "config_len", 0, Capabilities::NONE, false),
    spec(Import::ConfigRead, "config_read", 3, Capabilities::NONE, true),
    spec(Import::StateGet, "state_get", 4, Capabilities::STATE, true),
    spec(Import::StateSet, "state_set", 4, Capabilities::STATE, true),
    spec(Import::StateDelete, "state_delete", 2, Capabilities::STATE, true),
    wide(Import::TimeMonotonicUs, "time_monotonic_us", Capabilities::NONE),
    wide(Import::TimeWallMs, "time_wall_ms", Capabilities::WALL_TIME),
    spec(Import::Random, "random", 2, Capabilities::RANDOM, true),
    wide(Import::Fence, "fence", Capabilities::NONE),
    wide(Import::Freshness, "freshness", Capabilities::NONE),
    spec(Import::Degraded, "degraded", 0, Capabilities::NONE, false),
    spec(Import::Alarm, "alarm", 4, Capabilities::TELEMETRY, true),
    spec(Import::Report, "report", 4, Capabilities::TELEMETRY, true),
    ImportSpec { long: Some(2), ..spec(Import::Measure, "measure", 4, Capabilities::TELEMETRY, true) },
    spec(Import::GpioRead, "gpio_read", 1, Capabilities::GPIO, false),
    spec(Import::GpioWrite, "gpio_write", 2, Capabilities::GPIO, false),
    spec(Import::AdcRead, "adc_read", 1, Capabilities::ADC, false),
    spec(Import::PwmSet, "pwm_set", 2, Capabilities::PWM, false),
    spec(Import::I2cWriteRead, "i2c_write_read", 6, Capabilities::I2C, true),
];

impl ImportSpec {
    /// Types of its parameters.
    pub fn param_types(&self) -> impl ExactSizeIterator<Item = ValType> + use<> {
        let long = self.long;
        (0..self.params).map(move |at| if long == Some(at) { ValType::I64 } else { ValType::I32 })
    }

    /// The row of the import with this name.
    pub fn by_name(name: &str) -> Option<&'static ImportSpec> {
        IMPORTS.iter().find(|spec| spec.name == name)
    }
}
