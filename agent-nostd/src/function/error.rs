//! Why a module was refused and why a function was stopped: values with a stable code and a text for people.
//!
//! Codes are a promise (they reach the hub, alerts and scripts): never reuse or rename one. No strings of foreign origin are
//! kept beyond the bound of [`Name`].

use super::capability::Capabilities;
use crate::machine::port::Failure;
use core::fmt;
use heapless::String;
use wasmi::{Error, TrapCode, errors::ErrorKind};

/// Bytes that are kept of a name found in a module.
pub const NAME_BYTES: usize = 48;

/// A name found in a module, cut to [`NAME_BYTES`] with control characters replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String<NAME_BYTES>);

impl Name {
    /// Keeps what fits of `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut kept = String::new();
        for c in text.chars() {
            let c = if c.is_control() { '?' } else { c };
            if kept.push(c).is_err() {
                break;
            }
        }
        Self(kept)
    }

    /// The kept text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A count that a module may not exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// Bytes of custom sections.
    CustomSectionBytes,
    /// Tables.
    Tables,
    /// Linear memories.
    Memories,
    /// Global variables.
    Globals,
    /// Functions.
    Functions,
    /// Function types.
    Types,
    /// Parameters of a function type.
    Params,
    /// Results of a function type.
    Results,
    /// Local variables of a function.
    Locals,
    /// Instructions of all functions together.
    Instructions,
    /// Blocks inside blocks.
    Nesting,
    /// Values on the operand stack.
    Operands,
    /// Imports.
    Imports,
    /// Exports.
    Exports,
    /// Element segments.
    ElementSegments,
    /// Data segments.
    DataSegments,
    /// Bytes per function on average (a lower limit: many tiny functions are an attack on the compiler).
    BytesPerFunction,
}

impl LimitKind {
    /// Words for a text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CustomSectionBytes => "bytes of custom sections",
            Self::Tables => "tables",
            Self::Memories => "memories",
            Self::Globals => "globals",
            Self::Functions => "functions",
            Self::Types => "types",
            Self::Params => "parameters of a function",
            Self::Results => "results of a function",
            Self::Locals => "locals of a function",
            Self::Instructions => "instructions",
            Self::Nesting => "blocks inside each other",
            Self::Operands => "operands on the stack",
            Self::Imports => "imports",
            Self::Exports => "exports",
            Self::ElementSegments => "element segments",
            Self::DataSegments => "data segments",
            Self::BytesPerFunction => "bytes per function",
        }
    }
}

/// An export that a module lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Export {
    /// The linear memory, needed by the imports that take pointers.
    Memory,
    /// At least one of `fulmar_start`, `fulmar_event`, `fulmar_timer`.
    Entry,
}

/// Why a module cannot run here. Everything is found at load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadError {
    /// More bytes than the limit.
    TooLarge { bytes: u64, limit: u32 },
    /// Not a valid WebAssembly core module; the first wrong byte.
    Malformed { offset: u32 },
    /// A valid module that uses a feature which functions do not have (threads, SIMD, 64-bit memory, tail calls, ...).
    UnsupportedFeature { offset: u32 },
    /// No ABI version section, or a version that this device does not speak.
    AbiVersion { found: Option<u8> },
    /// Something that no device of this version offers.
    UnknownImport { module: Name, name: Name },
    /// A known import with other parameters or results.
    ImportSignature { name: Name },
    /// A known import that the assignment does not allow.
    CapabilityMissing { name: Name, needs: Capabilities },
    /// More memory than the limit, before the function has even run.
    MemoryTooLarge { asked: u64, limit: u32 },
    /// A larger table than the limit.
    TableTooLarge { asked: u64, limit: u32 },
    /// Too many of something.
    LimitExceeded { kind: LimitKind, found: u64, limit: u32 },
    /// Something every function must export.
    MissingExport { export: Export },
    /// An entry point with parameters or results, or that is no function.
    ExportSignature { name: Name },
    /// A limit inside the engine: a function too large or too deeply nested to be translated.
    EngineLimit,
    /// Setting up memory and tables or running the module's own start function failed.
    StartTrapped { cause: TrapCause },
    /// The device has no memory left.
    OutOfMemory,
}

impl LoadError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "MODULE_TOO_LARGE",
            Self::Malformed { .. } => "MODULE_MALFORMED",
            Self::UnsupportedFeature { .. } => "FEATURE_UNSUPPORTED",
            Self::AbiVersion { .. } => "ABI_VERSION",
            Self::UnknownImport { .. } => "IMPORT_UNKNOWN",
            Self::ImportSignature { .. } => "IMPORT_SIGNATURE",
            Self::CapabilityMissing { .. } => "CAPABILITY_MISSING",
            Self::MemoryTooLarge { .. } => "MEMORY_TOO_LARGE",
            Self::TableTooLarge { .. } => "TABLE_TOO_LARGE",
            Self::LimitExceeded { .. } => "MODULE_LIMIT",
            Self::MissingExport { .. } => "EXPORT_MISSING",
            Self::ExportSignature { .. } => "EXPORT_SIGNATURE",
            Self::EngineLimit => "ENGINE_LIMIT",
            Self::StartTrapped { .. } => "START_TRAPPED",
            Self::OutOfMemory => "DEVICE_OUT_OF_MEMORY",
        }
    }

    /// As what a device reports it.
    #[must_use]
    pub const fn failure(&self) -> Failure {
        match self {
            Self::OutOfMemory => Failure::OutOfMemory,
            Self::StartTrapped { cause } => cause.failure(),
            Self::TooLarge { .. }
            | Self::Malformed { .. }
            | Self::UnsupportedFeature { .. }
            | Self::AbiVersion { .. }
            | Self::UnknownImport { .. }
            | Self::ImportSignature { .. }
            | Self::CapabilityMissing { .. }
            | Self::MemoryTooLarge { .. }
            | Self::TableTooLarge { .. }
            | Self::LimitExceeded { .. }
            | Self::MissingExport { .. }
            | Self::ExportSignature { .. }
            | Self::EngineLimit => Failure::LoadRefused,
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes, limit } => {
                write!(f, "the module has {bytes} bytes, the limit is {limit}: build it for size and strip it")
            }
            Self::Malformed { offset } => {
                write!(f, "not a valid WebAssembly core module (byte {offset}): build it again")
            }
            Self::UnsupportedFeature { offset } => write!(
                f,
                "the module uses a WebAssembly feature that functions do not have (byte {offset}): build it without threads, SIMD, 64-bit memory, exceptions and tail calls"
            ),
            Self::AbiVersion { found: None } => {
                f.write_str("the module has no section fulmar.abi: build it with the function SDK")
            }
            Self::AbiVersion { found: Some(found) } => {
                write!(f, "the module speaks ABI version {found}, this device speaks 1: use a matching SDK")
            }
            Self::UnknownImport { module, name } => {
                write!(f, "the module imports {module}.{name}, which this device does not offer")
            }
            Self::ImportSignature { name } => {
                write!(f, "the module imports fulmar.{name} with a wrong signature: use a matching SDK")
            }
            Self::CapabilityMissing { name, needs } => {
                write!(f, "the module imports fulmar.{name} without being granted")?;
                for (i, one) in needs.names().enumerate() {
                    write!(f, "{} {one}", if i == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            Self::MemoryTooLarge { asked, limit } => {
                write!(
                    f,
                    "the module starts with {asked} bytes of memory, the limit is {limit}: link it with a smaller stack and memory, or raise the limit"
                )
            }
            Self::TableTooLarge { asked, limit } => {
                write!(f, "the module has a table of {asked} elements, the limit is {limit}")
            }
            Self::LimitExceeded { kind: kind @ LimitKind::BytesPerFunction, found, limit } => {
                write!(f, "the module has {found} {}, the least is {limit}", kind.as_str())
            }
            Self::LimitExceeded { kind, found, limit } => {
                write!(f, "the module has {found} {}, the limit is {limit}", kind.as_str())
            }
            Self::MissingExport { export: Export::Memory } => {
                f.write_str("the module does not export its memory as \"memory\"")
            }
            Self::MissingExport { export: Export::Entry } => f.write_str(
                "the module exports none of fulmar_start, fulmar_event, fulmar_timer: nothing would ever run",
            ),
            Self::ExportSignature { name } => {
                write!(f, "the export {name} is not what the ABI says: entry points take and return nothing")
            }
            Self::EngineLimit => {
                f.write_str("a function of the module is too large or too deeply nested for the engine: split it")
            }
            Self::StartTrapped { cause } => write!(f, "the module failed while starting: {cause}"),
            Self::OutOfMemory => f.write_str("the device has no memory left for the module"),
        }
    }
}

impl core::error::Error for LoadError {}

/// Why a function was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrapCause {
    /// Burned all the fuel of the activation, or of the start function.
    OutOfFuel,
    /// Reached `unreachable`: what a panic compiles to.
    Unreachable,
    /// Read or wrote outside its memory.
    MemoryOutOfBounds,
    /// Used a table outside its bounds.
    TableOutOfBounds,
    /// Called through a null or wrongly typed pointer.
    IndirectCall,
    /// Divided by zero.
    DivideByZero,
    /// An integer division overflowed.
    IntegerOverflow,
    /// Converted a float that does not fit an integer.
    BadConversion,
    /// Called too deeply or used too much stack.
    StackOverflow,
    /// The device had no memory left.
    OutOfMemory,
    /// Went on calling the host long after its quota was refused.
    HostQuota,
    /// Its state could not be made durable.
    StateCommit,
    /// Called the host from the module's own start function, where there is none.
    HostCallInStart,
    /// The engine failed in a way that it should not.
    Engine,
}

impl TrapCause {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::OutOfFuel => "OUT_OF_FUEL",
            Self::Unreachable => "UNREACHABLE",
            Self::MemoryOutOfBounds => "MEMORY_OUT_OF_BOUNDS",
            Self::TableOutOfBounds => "TABLE_OUT_OF_BOUNDS",
            Self::IndirectCall => "INDIRECT_CALL",
            Self::DivideByZero => "DIVIDE_BY_ZERO",
            Self::IntegerOverflow => "INTEGER_OVERFLOW",
            Self::BadConversion => "BAD_CONVERSION",
            Self::StackOverflow => "STACK_OVERFLOW",
            Self::OutOfMemory => "OUT_OF_MEMORY",
            Self::HostQuota => "HOST_QUOTA",
            Self::StateCommit => "STATE_COMMIT",
            Self::HostCallInStart => "HOST_CALL_IN_START",
            Self::Engine => "ENGINE",
        }
    }

    /// As what a device reports it.
    #[must_use]
    pub const fn failure(self) -> Failure {
        match self {
            Self::OutOfFuel => Failure::OutOfFuel,
            Self::OutOfMemory => Failure::OutOfMemory,
            Self::Unreachable
            | Self::MemoryOutOfBounds
            | Self::TableOutOfBounds
            | Self::IndirectCall
            | Self::DivideByZero
            | Self::IntegerOverflow
            | Self::BadConversion
            | Self::StackOverflow
            | Self::HostQuota
            | Self::StateCommit
            | Self::HostCallInStart
            | Self::Engine => Failure::Trapped,
        }
    }

    /// The cause behind an error of the interpreter.
    pub(super) fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Instantiation(wasmi::errors::InstantiationError::ElementSegmentDoesNotFit { .. }) => {
                return Self::TableOutOfBounds;
            }
            ErrorKind::Memory(wasmi::errors::MemoryError::OutOfSystemMemory)
            | ErrorKind::Table(wasmi::errors::TableError::OutOfSystemMemory) => return Self::OutOfMemory,
            ErrorKind::Host(_) => return Self::HostCallInStart,
            _ => {}
        }
        let Some(code) = error.as_trap_code() else {
            return Self::Engine;
        };
        match code {
            TrapCode::UnreachableCodeReached => Self::Unreachable,
            TrapCode::MemoryOutOfBounds => Self::MemoryOutOfBounds,
            TrapCode::TableOutOfBounds => Self::TableOutOfBounds,
            TrapCode::IndirectCallToNull | TrapCode::BadSignature => Self::IndirectCall,
            TrapCode::IntegerDivisionByZero => Self::DivideByZero,
            TrapCode::IntegerOverflow => Self::IntegerOverflow,
            TrapCode::BadConversionToInteger => Self::BadConversion,
            TrapCode::StackOverflow => Self::StackOverflow,
            TrapCode::OutOfFuel => Self::OutOfFuel,
            TrapCode::GrowthOperationLimited | TrapCode::OutOfSystemMemory => Self::OutOfMemory,
        }
    }
}

impl fmt::Display for TrapCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfFuel => "out of fuel: an endless loop, or raise the fuel per activation",
            Self::Unreachable => "it panicked (reached `unreachable`)",
            Self::MemoryOutOfBounds => "it used memory outside its bounds",
            Self::TableOutOfBounds => "it used a table outside its bounds",
            Self::IndirectCall => "it called through a null or wrongly typed function pointer",
            Self::DivideByZero => "it divided by zero",
            Self::IntegerOverflow => "an integer division overflowed",
            Self::BadConversion => "it converted a float that does not fit an integer",
            Self::StackOverflow => "it called too deeply",
            Self::OutOfMemory => "the device had no memory left",
            Self::HostQuota => "it went on calling the host far beyond its quota",
            Self::StateCommit => "its state could not be made durable",
            Self::HostCallInStart => "it called the host from the module's start function: use fulmar_start instead",
            Self::Engine => "the engine failed",
        })
    }
}
