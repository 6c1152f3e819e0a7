//! A checked and compiled module: everything that can be refused is refused here, before anything runs.
//!
//! Functions are compiled at load and not at their first call, so that a module too complex for the engine is refused
//! like any other, and so that an activation costs the same fuel the first time and the thousandth.

use super::abi::{ABI_VERSION, IMPORT_MODULE, ImportSpec, MEMORY_EXPORT};
use super::capability::Capabilities;
use super::error::{Export, LimitKind, LoadError, Name};
use super::limits::{Limits, VALUE_STACK_BYTES_MIN};
use super::preflight::{Facts, malformed, preflight};
use super::validate::validate;
use alloc::vec::Vec;
use wasmi::errors::{EnforcedLimitsError, ErrorKind, MemoryError};
use wasmi::{CompilationMode, Config, EnforcedLimits, Engine, ExternType};

/// The entry points, in the order of [`super::instance::Instance`]'s table.
pub(super) const ENTRY_NAMES: [&str; 4] = ["fulmar_start", "fulmar_event", "fulmar_timer", "fulmar_stop"];
/// Index of `fulmar_stop`, the one entry point that is not reason enough to run.
const STOP: usize = 3;
/// What is worth knowing about a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModuleInfo {
    /// Bytes of linear memory at start.
    pub memory_bytes: u32,
    /// Bytes to which the module wants to be able to grow, when it says so.
    pub memory_bytes_declared: Option<u64>,
    /// Bytes of one page of memory: 65536, or 1 with custom page sizes; 0 without memory.
    pub page_bytes: u32,
    /// Functions, imports included.
    pub functions: u32,
    /// Bytes of code.
    pub code_bytes: u32,
    /// What it needs to be granted.
    pub needs: Capabilities,
    /// Whether `fulmar_start`, `fulmar_event`, `fulmar_timer`, `fulmar_stop` are there.
    pub entries: [bool; 4],
    /// Whether it has a start function of its own, which runs while it is instantiated.
    pub start_function: bool,
}

/// A module that may run here.
#[derive(Debug)]
pub struct Module {
    compiled: wasmi::Module,
    imports: Vec<&'static ImportSpec>,
    limits: Limits,
    info: ModuleInfo,
}

impl Module {
    /// Whether `bytes` may run under `limits` with `granted`; what the hub's admission and `fulmar fn check` ask.
    pub fn check(bytes: &[u8], limits: &Limits, granted: Capabilities) -> Result<ModuleInfo, LoadError> {
        Self::load(bytes, limits, granted).map(|module| module.info)
    }

    /// Checks and compiles `bytes`.
    pub fn load(bytes: &[u8], limits: &Limits, granted: Capabilities) -> Result<Self, LoadError> {
        let facts = preflight(bytes, limits)?;
        validate(bytes, limits)?;
        if facts.abi != Some(ABI_VERSION) {
            return Err(LoadError::AbiVersion { found: facts.abi });
        }
        let engine = Engine::new(&config(limits));
        let compiled = wasmi::Module::new(&engine, bytes).map_err(|e| refusal(&e))?;
        let imports = imports(&compiled)?;
        for spec in &imports {
            if !granted.contains(spec.needs) {
                return Err(LoadError::CapabilityMissing { name: Name::new(spec.name), needs: spec.needs });
            }
        }
        let entries = entries(&compiled, &imports)?;
        let info = info(&facts, &imports, entries);
        Ok(Self { compiled, imports, limits: *limits, info })
    }

    /// What is worth knowing about it.
    #[must_use]
    pub fn info(&self) -> &ModuleInfo {
        &self.info
    }

    /// The limits it was loaded with.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// For instances.
    pub(super) fn compiled(&self) -> &wasmi::Module {
        &self.compiled
    }

    /// Its imports, in the order of the module.
    pub(super) fn imports(&self) -> &[&'static ImportSpec] {
        &self.imports
    }
}

/// The interpreter with every knob set: its own default is no limit at all.
fn config(limits: &Limits) -> Config {
    let stack_min = usize::try_from(VALUE_STACK_BYTES_MIN).unwrap_or(usize::MAX);
    let stack_max = usize::try_from(limits.value_stack_bytes.max(VALUE_STACK_BYTES_MIN)).unwrap_or(usize::MAX);
    let mut config = Config::default();
    config
        .consume_fuel(true)
        .compilation_mode(CompilationMode::Eager)
        .ignore_custom_sections(true)
        // The order matters: the minimum must not exceed the maximum at any moment.
        .set_min_stack_height(stack_min)
        .set_max_stack_height(stack_max)
        .set_max_recursion_depth(usize::try_from(limits.call_depth).unwrap_or(usize::MAX))
        .set_max_cached_stacks(1)
        // Second line of defence behind the preflight, which is stricter in all but the density of functions.
        .enforced_limits(EnforcedLimits::strict())
        .wasm_mutable_global(true)
        .wasm_sign_extension(true)
        .wasm_saturating_float_to_int(true)
        .wasm_multi_value(true)
        .wasm_bulk_memory(true)
        // Compilers encode indirect calls with it by default.
        .wasm_reference_types(true)
        .wasm_extended_const(true)
        .floats(true)
        // Lets a module live in less than a page of 64 KiB.
        .wasm_custom_page_sizes(true)
        .wasm_multi_memory(false)
        // A tail call to an import would leave no frame to resume.
        .wasm_tail_call(false)
        .wasm_wide_arithmetic(false);
    config
}

/// Why the interpreter refused a valid module.
fn refusal(error: &wasmi::Error) -> LoadError {
    match error.kind() {
        ErrorKind::Wasm(error) => malformed(error),
        ErrorKind::UserLimits(EnforcedLimitsError::MinAvgBytesPerFunction { limit, avg }) => {
            LoadError::LimitExceeded { kind: LimitKind::BytesPerFunction, found: u64::from(*avg), limit: *limit }
        }
        ErrorKind::Memory(MemoryError::OutOfSystemMemory) => LoadError::OutOfMemory,
        ErrorKind::Read(_) => LoadError::Malformed { offset: 0 },
        _ => LoadError::EngineLimit,
    }
}

/// The rows of the ABI table that the module imports.
fn imports(module: &wasmi::Module) -> Result<Vec<&'static ImportSpec>, LoadError> {
    let mut specs = Vec::new();
    for import in module.imports() {
        let known = if import.module() == IMPORT_MODULE { ImportSpec::by_name(import.name()) } else { None };
        let unknown =
            || LoadError::UnknownImport { module: Name::new(import.module()), name: Name::new(import.name()) };
        let spec = known.ok_or_else(unknown)?;
        let fits = match import.ty() {
            ExternType::Func(ty) => ty.params().iter().copied().eq(spec.param_types()) && ty.results() == [spec.result],
            ExternType::Global(_) | ExternType::Memory(_) | ExternType::Table(_) => false,
        };
        if !fits {
            return Err(LoadError::ImportSignature { name: Name::new(spec.name) });
        }
        specs.push(spec);
    }
    Ok(specs)
}

/// Which entry points the module has; refuses one that could never be called or never run.
fn entries(module: &wasmi::Module, imports: &[&ImportSpec]) -> Result<[bool; 4], LoadError> {
    let mut found = [false; 4];
    for (name, there) in ENTRY_NAMES.iter().zip(found.iter_mut()) {
        *there = match module.get_export(name) {
            None => false,
            Some(ExternType::Func(ty)) if ty.params().is_empty() && ty.results().is_empty() => true,
            Some(_) => return Err(LoadError::ExportSignature { name: Name::new(name) }),
        };
    }
    if !found.iter().take(STOP).any(|there| *there) {
        return Err(LoadError::MissingExport { export: Export::Entry });
    }
    match module.get_export(MEMORY_EXPORT) {
        Some(ExternType::Memory(_)) => {}
        None if imports.iter().any(|spec| spec.uses_memory) => {
            return Err(LoadError::MissingExport { export: Export::Memory });
        }
        None => {}
        Some(_) => return Err(LoadError::ExportSignature { name: Name::new(MEMORY_EXPORT) }),
    }
    Ok(found)
}

/// The summary.
fn info(facts: &Facts, imports: &[&ImportSpec], entries: [bool; 4]) -> ModuleInfo {
    let needs = imports.iter().fold(Capabilities::NONE, |all, spec| all | spec.needs);
    ModuleInfo {
        memory_bytes: facts.memory_bytes,
        memory_bytes_declared: facts.memory_bytes_declared,
        page_bytes: facts.page_bytes,
        functions: facts.functions,
        code_bytes: facts.code_bytes,
        needs,
        entries,
        start_function: facts.start_function,
    }
}
