//! Counts what a module asks for, section by section, before the interpreter sees it.
//!
//! It exists because the interpreter allocates by the numbers that a module claims. It must never allocate by such a number
//! itself, and it does not validate: whatever it lets through is validated by the interpreter.

use super::abi::ABI_SECTION;
use super::error::{LimitKind, LoadError};
use super::limits::Limits;
use wasmparser::{BinaryReaderError, Encoding, FunctionBody, MemoryType, Parser, Payload, TableInit, TypeRef};

/// Log2 of the usual page of 64 KiB; also the largest that a module can ask for.
const PAGE_LOG2_MAX: u32 = 16;

/// What the sections of a module say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Facts {
    pub memory_bytes: u32,
    pub memory_bytes_declared: Option<u64>,
    pub page_bytes: u32,
    pub functions: u32,
    pub code_bytes: u32,
    pub start_function: bool,
    /// The byte of the ABI section; 0 for a section that makes no sense.
    pub abi: Option<u8>,
}

/// Refuses a module that asks for more than `limits`.
pub(super) fn preflight(bytes: &[u8], limits: &Limits) -> Result<Facts, LoadError> {
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if length > u64::from(limits.module_bytes) {
        return Err(LoadError::TooLarge { bytes: length, limit: limits.module_bytes });
    }
    let mut facts = Facts::default();
    let mut tally = Tally::default();
    for payload in Parser::new(0).parse_all(bytes) {
        section(&payload.map_err(|e| malformed(&e))?, limits, &mut facts, &mut tally)?;
    }
    facts.functions = tally.functions;
    facts.abi = tally.abi;
    Ok(facts)
}

/// Running sums over all sections.
#[derive(Default)]
struct Tally {
    functions: u32,
    memories: u32,
    tables: u32,
    globals: u32,
    custom_bytes: u32,
    abi: Option<u8>,
}

/// The error of the parser as ours.
pub(super) fn malformed(error: &BinaryReaderError) -> LoadError {
    LoadError::Malformed { offset: u32::try_from(error.offset()).unwrap_or(u32::MAX) }
}

/// Refuses when `found` exceeds `limit`.
pub(super) fn at_most(kind: LimitKind, found: u64, limit: u32) -> Result<(), LoadError> {
    if found > u64::from(limit) {
        return Err(LoadError::LimitExceeded { kind, found, limit });
    }
    Ok(())
}

/// Adds to a running sum and refuses when it exceeds `limit`.
fn add(kind: LimitKind, sum: &mut u32, more: u32, limit: u32) -> Result<(), LoadError> {
    at_most(kind, u64::from(*sum) + u64::from(more), limit)?;
    *sum += more;
    Ok(())
}

/// One section. Long because it is one match over the kinds of sections; each arm is a check or two.
fn section(payload: &Payload<'_>, limits: &Limits, facts: &mut Facts, tally: &mut Tally) -> Result<(), LoadError> {
    match payload {
        Payload::Version { encoding: Encoding::Module, .. } | Payload::End(_) | Payload::DataCountSection { .. } => {}
        Payload::Version { encoding: Encoding::Component, .. } => {
            return Err(LoadError::UnsupportedFeature { offset: 0 });
        }
        Payload::TypeSection(types) => {
            at_most(LimitKind::Types, types.count().into(), limits.types)?;
            for ty in types.clone().into_iter_err_on_gc_types() {
                let ty = ty.map_err(|e| malformed(&e))?;
                at_most(LimitKind::Params, length(ty.params().len()), limits.params)?;
                at_most(LimitKind::Results, length(ty.results().len()), limits.results)?;
            }
        }
        Payload::ImportSection(imports) => {
            at_most(LimitKind::Imports, imports.count().into(), limits.imports)?;
            for import in imports.clone() {
                let import = import.map_err(|e| malformed(&e))?;
                if let TypeRef::Func(_) = import.ty {
                    add(LimitKind::Functions, &mut tally.functions, 1, limits.functions)?;
                }
            }
        }
        Payload::FunctionSection(functions) => {
            add(LimitKind::Functions, &mut tally.functions, functions.count(), limits.functions)?;
        }
        Payload::TableSection(tables) => {
            add(LimitKind::Tables, &mut tally.tables, tables.count(), limits.tables)?;
            for table in tables.clone() {
                let table = table.map_err(|e| malformed(&e))?;
                if table.ty.table64 || table.ty.shared || matches!(table.init, TableInit::Expr(_)) {
                    return Err(LoadError::UnsupportedFeature { offset: offset(tables.range().start) });
                }
                if table.ty.initial > u64::from(limits.table_elements) {
                    return Err(LoadError::TableTooLarge { asked: table.ty.initial, limit: limits.table_elements });
                }
            }
        }
        Payload::MemorySection(memories) => {
            add(LimitKind::Memories, &mut tally.memories, memories.count(), 1)?;
            for memory in memories.clone() {
                memory_type(&memory.map_err(|e| malformed(&e))?, offset(memories.range().start), limits, facts)?;
            }
        }
        Payload::GlobalSection(globals) => {
            add(LimitKind::Globals, &mut tally.globals, globals.count(), limits.globals)?;
        }
        Payload::ExportSection(exports) => at_most(LimitKind::Exports, exports.count().into(), limits.exports)?,
        Payload::ElementSection(elements) => {
            at_most(LimitKind::ElementSegments, elements.count().into(), limits.element_segments)?;
        }
        Payload::DataSection(data) => at_most(LimitKind::DataSegments, data.count().into(), limits.data_segments)?,
        Payload::StartSection { .. } => facts.start_function = true,
        Payload::CodeSectionStart { count, size, .. } => {
            at_most(LimitKind::Functions, (*count).into(), limits.functions)?;
            facts.code_bytes = *size;
        }
        Payload::CodeSectionEntry(body) => locals(body, limits)?,
        Payload::CustomSection(custom) => {
            let size = u32::try_from(custom.range().len()).unwrap_or(u32::MAX);
            add(LimitKind::CustomSectionBytes, &mut tally.custom_bytes, size, limits.custom_section_bytes)?;
            if custom.name() == ABI_SECTION {
                // Two sections, or one of another length, are as good as an unknown version.
                let version = match (custom.data(), tally.abi) {
                    ([version], None) => *version,
                    _ => 0,
                };
                tally.abi = Some(version);
            }
        }
        Payload::TagSection(tags) => {
            return Err(LoadError::UnsupportedFeature { offset: offset(tags.range().start) });
        }
        Payload::UnknownSection { range, .. } => {
            return Err(LoadError::Malformed { offset: offset(range.start) });
        }
        // The parser's enum is not ours and can grow: what is not named above is not for us.
        _ => return Err(LoadError::UnsupportedFeature { offset: 0 }),
    }
    Ok(())
}

/// The linear memory: its initial size must fit, a larger maximum is cut when the function grows.
fn memory_type(memory: &MemoryType, at: u32, limits: &Limits, facts: &mut Facts) -> Result<(), LoadError> {
    if memory.memory64 || memory.shared {
        return Err(LoadError::UnsupportedFeature { offset: at });
    }
    let page_log2 = memory.page_size_log2.unwrap_or(PAGE_LOG2_MAX);
    if page_log2 > PAGE_LOG2_MAX {
        return Err(LoadError::Malformed { offset: at });
    }
    let page_bytes = 1_u32 << page_log2;
    let asked = memory.initial.saturating_mul(page_bytes.into());
    match u32::try_from(asked) {
        Ok(bytes) if bytes <= limits.memory_bytes => facts.memory_bytes = bytes,
        _ => return Err(LoadError::MemoryTooLarge { asked, limit: limits.memory_bytes }),
    }
    facts.page_bytes = page_bytes;
    facts.memory_bytes_declared = memory.maximum.map(|pages| pages.saturating_mul(page_bytes.into()));
    Ok(())
}

/// The locals of one function: a few bytes can claim billions.
fn locals(body: &FunctionBody<'_>, limits: &Limits) -> Result<(), LoadError> {
    let mut sum = 0_u64;
    for group in body.get_locals_reader().map_err(|e| malformed(&e))? {
        let (count, _) = group.map_err(|e| malformed(&e))?;
        sum += u64::from(count);
        at_most(LimitKind::Locals, sum, limits.locals)?;
    }
    Ok(())
}

/// A length as a count.
fn length(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// An offset as the errors carry it.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
