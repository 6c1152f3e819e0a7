//! The interface is written down four times, for the engine, for C, for Rust and for people: they must say the same.

use super::super::abi::{
    ERR_BOUNDS, ERR_CAPABILITY, ERR_INVALID, ERR_NOT_FOUND, ERR_QUOTA, ERR_TOO_LONG, ERR_UNKNOWN, IMPORTS, ImportSpec,
};
use super::super::limits::{Limits, STATE_KEY_BYTES};
use super::super::{Capabilities, Level};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use wasmi::ValType;
use wire::limits::{EVENT_BYTES_MAX, TOPIC_BYTES_MAX};

const HEADER: &str = include_str!("../../../../functions/c/fulmar.h");
const SDK: &str = include_str!("../../../../functions/sdk/src/sys.rs");
const PAGE: &str = include_str!("../../../../docs/functions.md");
const CODES: [(&str, i32); 7] = [
    ("UNKNOWN", ERR_UNKNOWN),
    ("BOUNDS", ERR_BOUNDS),
    ("QUOTA", ERR_QUOTA),
    ("CAPABILITY", ERR_CAPABILITY),
    ("TOO_LONG", ERR_TOO_LONG),
    ("NOT_FOUND", ERR_NOT_FOUND),
    ("INVALID", ERR_INVALID),
];

/// Name, number of parameters, which of them has 64 bits, whether the result has.
type Signature = (String, usize, Option<usize>, bool);

fn of_engine(spec: &ImportSpec) -> Signature {
    (spec.name.to_string(), spec.params, spec.long, spec.result == ValType::I64)
}

/// `FULMAR_IMPORT(name) int32_t fulmar_name(const void *a, uint32_t b);`
fn of_header(line: &str) -> Option<Signature> {
    let (name, rest) = line.strip_prefix("FULMAR_IMPORT(")?.split_once(") ")?;
    let (result, rest) = rest.split_once(' ')?;
    let params = rest.strip_prefix(&format!("fulmar_{name}("))?.strip_suffix(");")?;
    let count = if params == "void" { 0 } else { params.split(", ").count() };
    assert!(matches!(result, "int32_t" | "int64_t"), "{line}");
    assert!(
        params
            .split(", ")
            .all(|one| one == "void" || one.contains('*') || one.contains("int32_t ") || one.starts_with("int64_t ")),
        "{line}"
    );
    let long = params.split(", ").position(|one| one.contains("int64_t "));
    Some((name.to_string(), count, long, result == "int64_t"))
}

/// `pub fn name(a: *const u8, b: usize) -> i32;` among the raw imports of the SDK.
fn of_sdk(line: &str) -> Option<Signature> {
    let (name, rest) = line.trim_start().strip_prefix("pub fn ")?.split_once('(')?;
    let (params, result) = rest.strip_suffix(';')?.split_once(") -> ")?;
    assert!(matches!(result, "i32" | "i64"), "{line}");
    let long = params.split(", ").position(|one| one.ends_with(": i64"));
    Some((name.to_string(), params.split(", ").filter(|param| !param.is_empty()).count(), long, result == "i64"))
}

/// Rows of the table under a heading, by cells.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let section = PAGE.split(&format!("\n## {heading}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'));
    rows.map(|row| row.split(" | ").map(|cell| cell.trim().to_string()).collect()).collect()
}

/// One row of the page may have several imports: `` `a()`, `b(offset, ptr, cap)` ``.
fn of_page(cell: &str) -> Vec<Signature> {
    let calls = cell.split('`').skip(1).step_by(2);
    calls
        .map(|call| {
            let (name, rest) = call.split_once('(').unwrap();
            let (params, result) = rest.split_once(')').unwrap();
            let count = params.split(", ").filter(|param| !param.is_empty()).count();
            let long = params.split(", ").position(|param| param.ends_with(": i64"));
            (name.to_string(), count, long, result == " -> i64")
        })
        .collect()
}

#[test]
fn engine_header_sdk_and_page_have_the_same_imports() {
    let engine: Vec<Signature> = IMPORTS.iter().map(of_engine).collect();
    assert_eq!(HEADER.lines().filter_map(of_header).collect::<Vec<_>>(), engine);
    assert_eq!(SDK.lines().filter_map(of_sdk).collect::<Vec<_>>(), engine);
    let rows = rows("Imports");
    let page: Vec<(Signature, String)> = rows
        .iter()
        .filter(|cells| cells.len() == 3 && cells[0].starts_with('`'))
        .flat_map(|cells| of_page(&cells[0]).into_iter().map(|signature| (signature, cells[2].clone())))
        .collect();
    assert_eq!(page.iter().map(|(signature, _)| signature.clone()).collect::<Vec<_>>(), engine);
    for (spec, (_, needs)) in IMPORTS.iter().zip(&page) {
        let named: Vec<String> = spec.needs.names().map(|name| format!("`{name}`")).collect();
        assert_eq!(*needs, named.join(", "), "{}", spec.name);
    }
}

#[test]
fn engine_header_and_page_have_the_same_codes_and_levels() {
    let rows = rows("Imports");
    for (name, code) in CODES {
        let stated = format!("FULMAR_ERR_{name} = {code}");
        let is_stated = [",", " "].iter().any(|end| HEADER.contains(&format!("{stated}{end}")));
        assert!(is_stated, "{name}");
        assert!(rows.iter().any(|cells| cells[0] == code.to_string() && cells[1] == format!("`ERR_{name}`")), "{name}");
    }
    let is_code = |line: &&str| line.trim_start().starts_with("FULMAR_ERR_");
    assert_eq!(HEADER.lines().filter(is_code).count(), CODES.len());
    assert_eq!(rows.iter().filter(|cells| cells.len() > 1 && cells[1].starts_with("`ERR_")).count(), CODES.len());
    for (name, level) in
        [("ERROR", Level::Error), ("WARN", Level::Warn), ("INFO", Level::Info), ("DEBUG", Level::Debug)]
    {
        let code = (0..4).find(|code| Level::from_abi(*code) == Some(level)).unwrap();
        assert!(HEADER.contains(&format!("FULMAR_{name} = {code}")), "{name}");
        assert!(PAGE.contains(&format!("{code} {}", name.to_ascii_lowercase())), "{name}");
    }
}

/// A number as the page writes it: `10 M`, `400,000`, `64 KiB`, `8,192`.
fn written(value: u64) -> Vec<String> {
    let mut forms = vec![value.to_string()];
    let mut grouped = value.to_string();
    let mut at = grouped.len();
    while at > 3 {
        at -= 3;
        grouped.insert(at, ',');
    }
    forms.push(grouped);
    for (unit, size) in [("MiB", 1 << 20), ("KiB", 1 << 10), ("M", 1_000_000), ("k", 1_000)] {
        if value >= size && value.is_multiple_of(size) {
            forms.push(format!("{} {unit}", value / size));
        }
    }
    forms
}

#[test]
fn the_page_has_the_limits_of_the_engine() {
    let rows = rows("Limits");
    let row = |name: &str| rows.iter().find(|cells| cells[0].starts_with(name)).unwrap_or_else(|| panic!("{name}"));
    type Pick = fn(&Limits) -> Vec<u64>;
    let picks: [(&str, Pick); 12] = [
        ("module", |l| vec![l.module_bytes.into()]),
        ("instructions", |l| vec![l.instructions.into()]),
        ("memory", |l| vec![l.memory_bytes.into()]),
        ("value stack", |l| vec![l.value_stack_bytes.into(), l.call_depth.into()]),
        ("fuel per activation", |l| vec![l.fuel_per_activation, l.fuel_per_slice]),
        ("host calls", |l| vec![l.host_calls_per_activation.into()]),
        ("log line", |l| vec![l.log_line_bytes.into(), l.log_bytes_per_activation.into()]),
        ("event payload", |l| vec![l.emit_payload_bytes.into(), l.emit_bytes_per_activation.into()]),
        ("alarms per", |l| vec![l.alarms_per_activation.into(), l.sample_bytes_per_activation.into()]),
        ("state", |l| vec![l.state_bytes.into(), l.state_value_bytes.into(), STATE_KEY_BYTES as u64]),
        ("keys written", |l| vec![l.state_writes_per_activation.into()]),
        ("input payload", |l| vec![l.input_bytes.into(), l.topic_bytes.into()]),
    ];
    for (name, pick) in picks {
        for (at, limits) in [(1, Limits::LINUX), (2, Limits::MCU)] {
            let cell = row(name)[at].replace(['(', ')'], ", ").replace(",,", ",");
            let stated: Vec<String> = cell
                .split(", ")
                .map(|part| part.trim().trim_end_matches(',').to_string())
                .filter(|part| !part.is_empty())
                .collect();
            let values = pick(&limits);
            assert_eq!(stated.len(), values.len(), "{name}: {stated:?}");
            for (stated, value) in stated.iter().zip(values) {
                assert!(written(value).contains(stated), "{name}: {stated} is not {value}");
            }
        }
    }
    assert!(PAGE.contains(&format!("{EVENT_BYTES_MAX} bytes of payload and {TOPIC_BYTES_MAX} of topic")));
    assert_eq!(Capabilities::DEFAULT.names().count(), 5);
}
