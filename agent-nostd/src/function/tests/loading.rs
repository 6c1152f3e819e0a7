//! What is refused before anything runs: W2, W3, W7, W8, W9 of the reliability matrix.

use super::super::{Capabilities, Export, Instance, LimitKind, Limits, LoadError, Module, Name, TrapCause};
use super::common::{ALL, instance, module, timer};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};

const ENTRY: &str = "(func (export \"fulmar_timer\"))";

fn check(body: &str) -> Result<(), LoadError> {
    Module::check(&module(body), &Limits::LINUX, ALL).map(|_| ())
}

#[test]
fn a_plain_module_is_accepted_and_described() {
    let bytes = module(
        "(import \"fulmar\" \"random\" (func (param i32 i32) (result i32)))
         (memory (export \"memory\") 1 3)
         (func (export \"fulmar_start\")) (func (export \"fulmar_stop\"))",
    );
    let info = Module::check(&bytes, &Limits::LINUX, ALL).unwrap();
    assert_eq!(info.memory_bytes, 65_536);
    assert_eq!(info.memory_bytes_declared, Some(3 * 65_536));
    assert_eq!(info.page_bytes, 65_536);
    assert_eq!(info.functions, 3);
    assert_eq!(info.needs, Capabilities::RANDOM);
    assert_eq!(info.entries, [true, false, false, true]);
    assert!(!info.start_function);
}

#[test]
fn w2_four_gibibytes_of_initial_memory_are_refused() {
    let error = check(&format!("(memory 65536) {ENTRY}")).unwrap_err();
    assert_eq!(error, LoadError::MemoryTooLarge { asked: 1 << 32, limit: Limits::LINUX.memory_bytes });
}

#[test]
fn w2_memory_in_small_pages_is_counted_in_bytes() {
    let error = check(&format!("(memory 3000000 (pagesize 1)) {ENTRY}")).unwrap_err();
    assert_eq!(error, LoadError::MemoryTooLarge { asked: 3_000_000, limit: Limits::LINUX.memory_bytes });
}

#[test]
fn w2_ten_million_table_elements_are_refused() {
    let error = check(&format!("(table 10000000 funcref) {ENTRY}")).unwrap_err();
    assert_eq!(error, LoadError::TableTooLarge { asked: 10_000_000, limit: Limits::LINUX.table_elements });
}

#[test]
fn w2_a_million_tiny_functions_are_refused() {
    let mut bytes = module(ENTRY);
    // A function section that claims a million functions of type 0, behind the others: the count alone refuses it.
    let mut section = vec![3, 0x83, 0x80, 0x40, 0xc0, 0x84, 0x3d];
    section.extend(vec![0; 1_048_576]);
    let limits = Limits { module_bytes: u32::MAX, ..Limits::LINUX };
    bytes.splice(8..8, section);
    let error = Module::check(&bytes, &limits, ALL).unwrap_err();
    assert_eq!(
        error,
        LoadError::LimitExceeded { kind: LimitKind::Functions, found: 1_000_000, limit: Limits::LINUX.functions }
    );
}

#[test]
fn w2_thousands_of_tiny_functions_are_refused_by_their_density() {
    let error = check(&format!("{ENTRY} {}", "(func)".repeat(3000))).unwrap_err();
    assert!(
        matches!(error, LoadError::LimitExceeded { kind: LimitKind::BytesPerFunction, found: 0..40, limit: 40 }),
        "{error:?}"
    );
}

#[test]
fn w2_fifty_thousand_locals_are_refused() {
    let locals = "i64 ".repeat(50_000);
    let error = check(&format!("(func (export \"fulmar_timer\") (local {locals}))")).unwrap_err();
    assert_eq!(error, LoadError::LimitExceeded { kind: LimitKind::Locals, found: 50_000, limit: Limits::LINUX.locals });
}

#[test]
fn every_count_has_a_limit() {
    let cases: Vec<(LimitKind, String)> = vec![
        (LimitKind::Globals, "(global i32 (i32.const 0))".repeat(65)),
        (LimitKind::Tables, "(table 1 funcref)".repeat(2)),
        (LimitKind::Memories, "(memory 1)".repeat(2)),
        (LimitKind::Types, (0..600).map(|i| format!("(type (func (param {})))", "i32 ".repeat(i % 16))).collect()),
        (LimitKind::Params, format!("(type (func (param {})))", "i32 ".repeat(17))),
        (LimitKind::Results, format!("(type (func (result {})))", "i32 ".repeat(5))),
        (LimitKind::Exports, (0..65).map(|i| format!("(func (export \"f{i}\"))")).collect()),
        (LimitKind::ElementSegments, "(elem func)".repeat(65)),
        (LimitKind::DataSegments, "(data \"\")".repeat(257)),
        (LimitKind::Functions, "(func)".repeat(5000)),
        (LimitKind::Instructions, format!("(func {})", "nop ".repeat(130_000)).repeat(4)),
        (LimitKind::Nesting, format!("(func {} {})", "block ".repeat(5000), "end ".repeat(5000))),
        (LimitKind::Operands, format!("(func {} unreachable)", "(i32.const 0) ".repeat(5000))),
        (LimitKind::CustomSectionBytes, format!("(@custom \"x\" \"{}\")", "a".repeat(70_000))),
    ];
    for (expected, body) in cases {
        match check(&format!("{body} {ENTRY}")) {
            Err(LoadError::LimitExceeded { kind, .. }) => assert_eq!(kind, expected),
            other => panic!("{expected:?}: {other:?}"),
        }
    }
    let imports = "(import \"fulmar\" \"input_len\" (func (result i32)))".repeat(65);
    assert!(matches!(
        check(&format!("{imports} {ENTRY}")),
        Err(LoadError::LimitExceeded { kind: LimitKind::Imports, found: 65, .. })
    ));
}

#[test]
fn w3_unknown_imports_are_refused_by_name() {
    let error = check(&format!("(import \"wasi_snapshot_preview1\" \"fd_write\" (func)) {ENTRY}")).unwrap_err();
    assert_eq!(
        error,
        LoadError::UnknownImport { module: Name::new("wasi_snapshot_preview1"), name: Name::new("fd_write") }
    );
    assert!(error.to_string().contains("wasi_snapshot_preview1.fd_write"));
    let error = check(&format!("(import \"fulmar\" \"reboot\" (func)) {ENTRY}")).unwrap_err();
    assert_eq!(error.code(), "IMPORT_UNKNOWN");
}

#[test]
fn w3_a_long_or_ugly_import_name_is_cut_and_cleaned() {
    let error = check(&format!("(import \"fulmar\" \"\\1b[2J{}\" (func)) {ENTRY}", "é".repeat(200))).unwrap_err();
    let LoadError::UnknownImport { name, .. } = error else { panic!("{error:?}") };
    assert!(name.as_str().len() <= 48);
    assert!(name.as_str().starts_with("?[2Jé"));
}

#[test]
fn w3_a_wrong_signature_is_refused() {
    for import in [
        "(import \"fulmar\" \"log\" (func (param i32 i32) (result i32)))",
        "(import \"fulmar\" \"log\" (func (param i32 i32 i64) (result i32)))",
        "(import \"fulmar\" \"log\" (func (param i32 i32 i32)))",
        "(import \"fulmar\" \"time_wall_ms\" (func (result i32)))",
        "(import \"fulmar\" \"log\" (global i32))",
        "(import \"fulmar\" \"log\" (memory 1))",
        "(import \"fulmar\" \"log\" (table 1 funcref))",
    ] {
        assert_eq!(check(&format!("{import} {ENTRY}")).unwrap_err().code(), "IMPORT_SIGNATURE", "{import}");
    }
}

#[test]
fn w3_an_import_without_its_capability_is_refused() {
    for (import, needs) in [
        ("\"emit\" (func (param i32 i32 i32 i32) (result i32))", Capabilities::EMIT),
        ("\"state_delete\" (func (param i32 i32) (result i32))", Capabilities::STATE),
        ("\"time_wall_ms\" (func (result i64))", Capabilities::WALL_TIME),
        ("\"random\" (func (param i32 i32) (result i32))", Capabilities::RANDOM),
    ] {
        let bytes = module(&format!("(import \"fulmar\" {import}) (memory (export \"memory\") 1) {ENTRY}"));
        let all_but_one = Capabilities::from_bits(ALL.bits() & !needs.bits());
        let error = Module::check(&bytes, &Limits::LINUX, all_but_one).unwrap_err();
        assert!(matches!(error, LoadError::CapabilityMissing { needs: found, .. } if found == needs), "{error:?}");
        assert!(Module::check(&bytes, &Limits::LINUX, needs).is_ok());
    }
}

#[test]
fn the_abi_version_must_be_there_once_and_be_known() {
    let with = |sections: &str| {
        let bytes = wat::parse_str(format!("(module {ENTRY} {sections})")).unwrap();
        Module::check(&bytes, &Limits::LINUX, ALL).map(|_| ())
    };
    assert_eq!(with(""), Err(LoadError::AbiVersion { found: None }));
    assert_eq!(with("(@custom \"fulmar.abi\" \"\\02\")"), Err(LoadError::AbiVersion { found: Some(2) }));
    assert_eq!(with("(@custom \"fulmar.abi\" \"\\01\\01\")"), Err(LoadError::AbiVersion { found: Some(0) }));
    let twice = "(@custom \"fulmar.abi\" \"\\01\")".repeat(2);
    assert_eq!(with(&twice), Err(LoadError::AbiVersion { found: Some(0) }));
}

#[test]
fn a_module_that_nothing_would_ever_run_is_refused() {
    let error = check("(func (export \"fulmar_stop\")) (func (export \"main\"))").unwrap_err();
    assert_eq!(error, LoadError::MissingExport { export: Export::Entry });
}

#[test]
fn entry_points_take_and_return_nothing() {
    for export in
        ["(func (export \"fulmar_start\") (param i32))", "(global (export \"fulmar_event\") i32 (i32.const 1))"]
    {
        assert_eq!(check(&format!("{export} {ENTRY}")).unwrap_err().code(), "EXPORT_SIGNATURE");
    }
    assert_eq!(check(&format!("(func (export \"memory\")) {ENTRY}")).unwrap_err().code(), "EXPORT_SIGNATURE");
}

#[test]
fn imports_with_pointers_need_an_exported_memory() {
    let log = "(import \"fulmar\" \"log\" (func (param i32 i32 i32) (result i32)))";
    assert_eq!(check(&format!("{log} (memory 1) {ENTRY}")), Err(LoadError::MissingExport { export: Export::Memory }));
    assert_eq!(check(&format!("{log} (memory (export \"memory\") 1) {ENTRY}")), Ok(()));
}

#[test]
fn w7_a_module_above_its_size_is_refused_unread() {
    let limits = Limits { module_bytes: 1000, ..Limits::LINUX };
    let error = Module::check(&[0xff; 1001], &limits, ALL).unwrap_err();
    assert_eq!(error, LoadError::TooLarge { bytes: 1001, limit: 1000 });
}

#[test]
fn w7_a_mebibyte_of_custom_sections_is_refused() {
    let body = format!("{ENTRY} (@custom \"padding\" \"{}\")", "x".repeat(1 << 20));
    let limits = Limits { module_bytes: u32::MAX, ..Limits::LINUX };
    let error = Module::check(&module(&body), &limits, ALL).unwrap_err();
    assert!(matches!(error, LoadError::LimitExceeded { kind: LimitKind::CustomSectionBytes, .. }), "{error:?}");
}

#[test]
fn w7_what_is_not_a_module_is_malformed() {
    for bytes in [&b""[..], b"\0asm", b"\x7fELF\x02\x01\x01\0", b"\0asm\x02\0\0\0"] {
        assert_eq!(Module::check(bytes, &Limits::LINUX, ALL).unwrap_err().code(), "MODULE_MALFORMED", "{bytes:?}");
    }
    let wrong_type = module("(func (export \"fulmar_timer\") (drop (i32.const 77)))");
    let at = wrong_type.windows(2).position(|two| two == [0x41, 0xcd]).unwrap();
    let mut broken = wrong_type;
    // `drop` of a constant becomes `i32.add` with one operand.
    let drop = broken.iter().skip(at).position(|byte| *byte == 0x1a).unwrap() + at;
    broken[drop] = 0x6a;
    assert_eq!(Module::check(&broken, &Limits::LINUX, ALL).unwrap_err().code(), "MODULE_MALFORMED");
}

#[test]
fn w8_fuel_applies_to_the_start_function_too() {
    let bytes = module(&format!("(func $s (loop br 0)) (start $s) {ENTRY}"));
    let module = Module::load(&bytes, &Limits::LINUX, ALL).unwrap();
    assert!(module.info().start_function);
    let error = Instance::load(&module).unwrap_err();
    assert_eq!(error, LoadError::StartTrapped { cause: TrapCause::OutOfFuel });
}

#[test]
fn w8_the_start_function_cannot_call_the_host() {
    let bytes = module(&format!(
        "(import \"fulmar\" \"input_len\" (func $f (result i32))) (func $s (drop (call $f))) (start $s) {ENTRY}"
    ));
    let error = Instance::load(&Module::load(&bytes, &Limits::LINUX, ALL).unwrap()).unwrap_err();
    assert_eq!(error, LoadError::StartTrapped { cause: TrapCause::HostCallInStart });
}

#[test]
fn data_and_elements_outside_their_bounds_fail_at_load() {
    let load = |body: &str| {
        let module = Module::load(&module(&format!("{body} {ENTRY}")), &Limits::LINUX, ALL).unwrap();
        Instance::load(&module).map(|_| ()).unwrap_err()
    };
    assert_eq!(
        load("(memory 1) (data (i32.const 65536) \"x\")"),
        LoadError::StartTrapped { cause: TrapCause::MemoryOutOfBounds }
    );
    assert_eq!(
        load("(table 1 funcref) (func $f) (elem (i32.const 1) $f)"),
        LoadError::StartTrapped { cause: TrapCause::TableOutOfBounds }
    );
}

#[test]
fn w9_features_that_functions_do_not_have_are_refused_as_such() {
    for body in [
        "(memory 1) (func (drop (v128.load (i32.const 0))))",
        "(func (param v128))",
        "(memory 1 1 shared)",
        "(memory 1) (func (drop (i32.atomic.load (i32.const 0))))",
        "(memory i64 1)",
        "(func $f return_call $f)",
        "(tag)",
        "(func (drop (i64.add128 (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0))) drop)",
    ] {
        let error = check(&format!("{ENTRY} {body}")).unwrap_err();
        assert_eq!(error.code(), "FEATURE_UNSUPPORTED", "{body}: {error:?}");
    }
    assert_eq!(Module::check(b"\0asm\x0d\0\x01\0", &Limits::LINUX, ALL).unwrap_err().code(), "FEATURE_UNSUPPORTED");
}

#[test]
fn a_module_with_pages_of_one_byte_lives_in_less_than_64_kib() {
    let bytes = module(&format!("(memory (export \"memory\") 2048 (pagesize 1)) {ENTRY}"));
    assert_eq!(instance(&bytes).memory_bytes(), 2048);
    let info = Module::check(&bytes, &Limits::MCU, ALL).unwrap();
    assert_eq!((info.memory_bytes, info.page_bytes), (2048, 1));
    assert_eq!(Module::check(&timer(""), &Limits::MCU, ALL).unwrap_err().code(), "MEMORY_TOO_LARGE");
}

#[test]
fn code_behind_the_end_of_a_function_is_malformed() {
    let mut bytes = module("(func (export \"fulmar_timer\") nop nop nop)");
    let at = bytes.windows(4).position(|code| code == [0x01, 0x01, 0x01, 0x0b]).unwrap();
    bytes.splice(at..at + 4, [0x0b, 0x02, 0x40, 0x0b]);
    assert_eq!(Module::check(&bytes, &Limits::LINUX, ALL).unwrap_err().code(), "MODULE_MALFORMED");
}

#[test]
fn every_refusal_says_something() {
    let errors = [
        LoadError::TooLarge { bytes: 2, limit: 1 },
        LoadError::CapabilityMissing { name: Name::new("emit"), needs: Capabilities::EMIT | Capabilities::GPIO },
        LoadError::AbiVersion { found: None },
        LoadError::StartTrapped { cause: TrapCause::OutOfFuel },
    ];
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts[1], "the module imports fulmar.emit without being granted emit, gpio");
    assert!(texts.iter().all(|text| text.len() > 20));
}
