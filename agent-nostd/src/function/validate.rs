//! Validates a whole module, and bounds what translating it will cost, before the interpreter translates any of it.
//!
//! The interpreter validates and translates in one pass, and its translation is not written for code that turns out to be
//! invalid a few bytes later: wasmi 2.0 panics on an operator behind the last `end` of a function. And one byte of code can
//! cost it a hundred bytes of memory. So it must never get code that did not pass here.

use super::error::{LimitKind, LoadError};
use super::limits::Limits;
use super::preflight::{at_most, malformed};
use wasmparser::{
    BinaryReaderError, FuncValidator, FuncValidatorAllocations, FunctionBody, Parser, ValidPayload, Validator,
    ValidatorResources, WasmFeatures,
};

/// What a module may use of WebAssembly; the configuration of the interpreter says the same.
const FEATURES: WasmFeatures = WasmFeatures::MUTABLE_GLOBAL
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::GC_TYPES)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::FLOATS)
    .union(WasmFeatures::CUSTOM_PAGE_SIZES);
/// First bytes of the instructions of SIMD and threads, which the parser does not know in this build.
const FEATURE_PREFIXES: [u8; 2] = [0xfd, 0xfe];

/// Why a walk over a module ended early.
enum Stop {
    Invalid(BinaryReaderError),
    Limit(LoadError),
}

impl From<BinaryReaderError> for Stop {
    fn from(error: BinaryReaderError) -> Self {
        Self::Invalid(error)
    }
}

/// Refuses a module that is not valid, or whose code exceeds `limits`.
pub(super) fn validate(bytes: &[u8], limits: &Limits) -> Result<(), LoadError> {
    match walk(bytes, limits, FEATURES) {
        Ok(()) => Ok(()),
        Err(Stop::Limit(error)) => Err(error),
        Err(Stop::Invalid(error)) => Err(feature_or_malformed(bytes, limits, &error)),
    }
}

/// Tells a broken module from one that is valid somewhere else, because what to do next differs.
fn feature_or_malformed(bytes: &[u8], limits: &Limits, error: &BinaryReaderError) -> LoadError {
    let is_prefix =
        |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(|byte| FEATURE_PREFIXES.contains(byte));
    let at = error.offset();
    let unknown_here = is_prefix(Some(at)) || is_prefix(at.checked_sub(1));
    if unknown_here || walk(bytes, limits, WasmFeatures::all()).is_ok() {
        LoadError::UnsupportedFeature { offset: u32::try_from(at).unwrap_or(u32::MAX) }
    } else {
        malformed(error)
    }
}

/// Validates section by section and function by function.
fn walk(bytes: &[u8], limits: &Limits, features: WasmFeatures) -> Result<(), Stop> {
    let mut parser = Parser::new(0);
    parser.set_features(features);
    let mut validator = Validator::new_with_features(features);
    let mut allocations = FuncValidatorAllocations::default();
    let mut instructions = 0_u32;
    for payload in parser.parse_all(bytes) {
        if let ValidPayload::Func(function, body) = validator.payload(&payload?)? {
            let mut function = function.into_validator(allocations);
            code(&mut function, &body, features, limits, &mut instructions)?;
            allocations = function.into_allocations();
        }
    }
    Ok(())
}

/// Validates one function, with a look at its heights after every instruction.
fn code(
    function: &mut FuncValidator<ValidatorResources>,
    body: &FunctionBody<'_>,
    features: WasmFeatures,
    limits: &Limits,
    instructions: &mut u32,
) -> Result<(), Stop> {
    let mut reader = body.get_binary_reader();
    function.read_locals(&mut reader)?;
    reader.set_features(features);
    while !reader.eof() {
        reader.visit_operator(&mut function.visitor(reader.original_position()))??;
        *instructions = instructions.saturating_add(1);
        at_most(LimitKind::Instructions, (*instructions).into(), limits.instructions).map_err(Stop::Limit)?;
        at_most(LimitKind::Nesting, function.control_stack_height().into(), limits.nesting).map_err(Stop::Limit)?;
        at_most(LimitKind::Operands, function.operand_stack_height().into(), limits.operands).map_err(Stop::Limit)?;
    }
    function.finish(reader.original_position())?;
    Ok(())
}
