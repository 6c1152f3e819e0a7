//! Modules that mean harm, or are broken, on Linux and on emulated boards: one list, the same answers, and whatever runs beside
//! them never notices (W1 to W9 of the reliability matrix, all but the comparison with another engine).
//!
//! Each board is started once for all of it: at the end it has still not started a second time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;
use tests::harness::board::Board;
use tests::harness::mixed::{BOARDS, LINUX, Mixed, all_devices};
use tests::harness::{Workload, wait_until};

const HELLO: &[u8] = include_bytes!("../../functions/hello/hello.wasm");
/// As many at a time as the heap of a board holds beside the one that stays.
const AT_ONCE: usize = 4;
const MEMORY: &str = "8KiB";
const MEMORY_BYTES: u32 = 8 * 1024;
/// The tick of what runs beside them. Longer than a starved emulator takes for anything.
const TICK: &str = "500ms";
/// Runs in more than the ten seconds after which a set has proven itself.
const RUNS_TO_SETTLE: usize = 24;
/// Hours on a board.
const FUEL_WITHOUT_END: u32 = u32::MAX;

/// What a device makes of a module.
#[derive(Clone, Debug)]
enum End {
    /// It ends, or is never begun: the reason, and the engine's own code for it.
    Fails(&'static str, &'static str),
    /// It runs, and this is all that it says at each tick.
    Says(String),
}

use End::{Fails, Says};

struct Case {
    name: &'static str,
    module: Vec<u8>,
    linux: End,
    boards: End,
}

fn case(name: &'static str, module: Vec<u8>, end: End) -> Case {
    Case { name, module, linux: end.clone(), boards: end }
}

impl Case {
    fn end_on(&self, device: &str) -> &End {
        if device == LINUX { &self.linux } else { &self.boards }
    }
}

fn module(body: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {body} (@custom \"fulmar.abi\" \"\\01\"))")).unwrap()
}

const TIMER: &str = "(func (export \"fulmar_timer\"))";

/// Runs this at each tick.
fn ticking(code: &str) -> Vec<u8> {
    module(&format!("(func $f (export \"fulmar_timer\") {code})"))
}

/// At each tick says a number of 32 bits for each of these expressions, as one line of hexadecimal digits. They have 4 KiB of
/// memory that can grow, of which the last 256 bytes are not theirs.
fn saying(imports: &str, functions: &str, expressions: &[&str]) -> Vec<u8> {
    let puts: String = expressions.iter().map(|expression| format!("(call $put {expression})\n")).collect();
    module(&format!(
        r#"(import "fulmar" "log" (func $log (param i32 i32 i32) (result i32)))
        {imports}
        (memory (export "memory") 4096 1000000 (pagesize 0x1))
        (global $to (mut i32) (i32.const 3840))
        (func $put (param $value i32) (local $left i32) (local $digit i32)
            (local.set $left (i32.const 8))
            (loop $next
                (local.set $value (i32.rotl (local.get $value) (i32.const 4)))
                (local.set $digit (i32.and (local.get $value) (i32.const 15)))
                (i32.store8 (global.get $to) (i32.add (local.get $digit)
                    (select (i32.const 48) (i32.const 87) (i32.lt_u (local.get $digit) (i32.const 10)))))
                (global.set $to (i32.add (global.get $to) (i32.const 1)))
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                (br_if $next (local.get $left)))
            (i32.store8 (global.get $to) (i32.const 32))
            (global.set $to (i32.add (global.get $to) (i32.const 1))))
        {functions}
        (func (export "fulmar_timer")
            (global.set $to (i32.const 3840))
            {puts}
            (drop (call $log (i32.const 2) (i32.const 3840) (i32.sub (global.get $to) (i32.const 3841)))))"#,
    ))
}

fn words(numbers: &[i64]) -> String {
    let digits: Vec<String> = numbers.iter().map(|number| format!("{:08x}", *number as u32)).collect();
    digits.join(" ")
}

/// A section that says it has a million functions, and has none.
fn a_million_functions() -> Vec<u8> {
    let mut bytes = module(TIMER);
    bytes.splice(8..8, [3, 3, 0xc0, 0x84, 0x3d]);
    bytes
}

/// One bit makes an addition without operands of something that drops one.
fn flipped() -> Vec<u8> {
    let mut bytes = ticking("(drop (i32.const 77)) nop");
    let at = bytes.windows(4).position(|code| code == [0x41, 0xcd, 0x00, 0x1a]).unwrap();
    bytes[at + 3] ^= 0x1a ^ 0x6a;
    bytes
}

fn import(name: &str, types: &str) -> String {
    format!("(import \"fulmar\" \"{name}\" (func ${name} {types}))")
}

/// W1: what would never end.
fn endless() -> Vec<Case> {
    let locals = format!("(func $f (export \"fulmar_timer\") (local {}) (call $f))", "i64 ".repeat(120));
    vec![
        case("loops", ticking("(loop $l (br $l))"), Fails("OUT_OF_FUEL", "OUT_OF_FUEL")),
        case("recurses", ticking("(call $f) (call $f)"), Fails("TRAPPED", "STACK_OVERFLOW")),
        case("recurses-wide", module(&locals), Fails("TRAPPED", "STACK_OVERFLOW")),
    ]
}

/// W2: what asks for too much.
fn greedy() -> Vec<Case> {
    let grow = "(func $grow (result i32)
            (loop $l (br_if $l (i32.ne (memory.grow (i32.const 512)) (i32.const -1))))
            (memory.size))";
    let tables = "(table $t 1 funcref)
        (func $table (result i32) (table.grow $t (ref.null func) (i32.const 5000)))";
    let locals = format!("(func (export \"fulmar_timer\") (local {}))", "i64 ".repeat(50_000));
    vec![
        case("grows", saying("", grow, &["(call $grow)"]), Says(words(&[MEMORY_BYTES.into()]))),
        case("grows-a-table", saying("", tables, &["(call $table)"]), Says(words(&[-1]))),
        case("four-gib", module(&format!("(memory 65536) {TIMER}")), Fails("LOAD_REFUSED", "MEMORY_TOO_LARGE")),
        case(
            "much-table",
            module(&format!("(table 10000000 funcref) {TIMER}")),
            Fails("LOAD_REFUSED", "TABLE_TOO_LARGE"),
        ),
        case("a-million", a_million_functions(), Fails("LOAD_REFUSED", "MODULE_LIMIT")),
        case("many-locals", module(&locals), Fails("LOAD_REFUSED", "MODULE_LIMIT")),
    ]
}

/// W3: what wants to do more than it may. `emit` is not granted to anybody here.
fn unbidden() -> Vec<Case> {
    let of = |import: &str| module(&format!("{import} (memory (export \"memory\") 64 (pagesize 0x1)) {TIMER}"));
    let emit = import("emit", "(param i32 i32 i32 i32) (result i32)");
    vec![
        case("not-granted", of(&emit), Fails("LOAD_REFUSED", "CAPABILITY_MISSING")),
        case(
            "wrongly-typed",
            of(&import("log", "(param i32 i32) (result i32)")),
            Fails("LOAD_REFUSED", "IMPORT_SIGNATURE"),
        ),
        case("unknown", of(&import("launch_missiles", "")), Fails("LOAD_REFUSED", "IMPORT_UNKNOWN")),
        case(
            "of-a-stranger",
            of("(import \"wasi_snapshot_preview1\" \"fd_write\" (func))"),
            Fails("LOAD_REFUSED", "IMPORT_UNKNOWN"),
        ),
    ]
}

/// W4 and W6: what abuses the host. Pointers outside, around the end of 32 bits, and of buffers that overlap; quotas.
fn pushy() -> Vec<Case> {
    let state = import("state_get", "(param i32 i32 i32 i32) (result i32)")
        + &import("state_set", "(param i32 i32 i32 i32) (result i32)");
    let log = |at: &str, len: &str| format!("(call $log (i32.const 2) (i32.const {at}) (i32.const {len}))");
    let outside =
        [log("-8", "64"), log("4096", "1"), log("4000", "97"), log("8", "-1"), log("0x7fffffff", "0x7fffffff")];
    let set = "(call $state_set (i32.const 0) (i32.const 4) (i32.const 2) (i32.const 4))";
    let get = |at: &str, len: &str| {
        format!("(call $state_get (i32.const 0) (i32.const 4) (i32.const {at}) (i32.const {len}))")
    };
    let (beyond, wrapped, over) = (get("4090", "64"), get("-1", "2"), get("1", "64"));
    let pointers: Vec<&str> = outside.iter().map(String::as_str).chain([set, &beyond, &wrapped, &over]).collect();
    let flood = "(func $flood (result i32) (loop $l (drop (call $input_len)) (br $l)) (i32.const 0))";
    let input = import("input_len", "(result i32)");
    const BOUNDS: i64 = -2;
    const TOO_LONG: i64 = -5;
    let told = [BOUNDS, BOUNDS, BOUNDS, BOUNDS, BOUNDS, 0, BOUNDS, BOUNDS, 4];
    vec![
        case("points-outside", saying(&state, "", &pointers), Says(words(&told))),
        case("long-lines", saying("", "", &[&log("0", "257")]), Says(words(&[TOO_LONG]))),
        case("floods", saying(&input, flood, &["(call $flood)"]), Fails("TRAPPED", "HOST_QUOTA")),
    ]
}

/// W5: what fails whenever it begins, and each way to fail.
fn failing() -> Vec<Case> {
    let started = |code: &str| module(&format!("(func (export \"fulmar_start\") {code}) {TIMER}"));
    vec![
        case("panics-at-once", started("unreachable"), Fails("TRAPPED", "UNREACHABLE")),
        case("panics", ticking("unreachable"), Fails("TRAPPED", "UNREACHABLE")),
        case("divides", ticking("(drop (i32.div_u (i32.const 1) (i32.const 0)))"), Fails("TRAPPED", "DIVIDE_BY_ZERO")),
        case(
            "reads-outside",
            module("(memory 64 (pagesize 0x1)) (func (export \"fulmar_timer\") (drop (i32.load (i32.const 61))))"),
            Fails("TRAPPED", "MEMORY_OUT_OF_BOUNDS"),
        ),
        case(
            "calls-nothing",
            module(
                "(type $t (func)) (table 1 funcref) (func (export \"fulmar_timer\") (call_indirect (type $t) (i32.const 0)))",
            ),
            Fails("TRAPPED", "INDIRECT_CALL"),
        ),
    ]
}

/// W7: what is not a module, or is one in part.
fn broken() -> Vec<Case> {
    let padding = |bytes: usize| module(&format!("{TIMER} (@custom \"padding\" \"{}\")", "x".repeat(bytes)));
    vec![
        case("cut", HELLO[..HELLO.len() / 2].to_vec(), Fails("LOAD_REFUSED", "MODULE_MALFORMED")),
        case("longer", [HELLO, b"more"].concat(), Fails("LOAD_REFUSED", "MODULE_MALFORMED")),
        case("flipped", flipped(), Fails("LOAD_REFUSED", "MODULE_MALFORMED")),
        Case {
            // Names and debug data, more than a small device looks at.
            name: "padded",
            module: padding(2048),
            linux: Says(String::new()),
            boards: Fails("LOAD_REFUSED", "MODULE_LIMIT"),
        },
    ]
}

/// W8: what does its work where nothing meters it, it thinks.
fn early() -> Vec<Case> {
    let log = import("log", "(param i32 i32 i32) (result i32)");
    let calls = "(func $s (drop (call $log (i32.const 2) (i32.const 0) (i32.const 1)))) (start $s)";
    let begins = format!("{log} (memory (export \"memory\") 64 (pagesize 0x1)) {calls} {TIMER}");
    vec![
        case(
            "begins-for-ever",
            module(&format!("(func $s (loop $l (br $l))) (start $s) {TIMER}")),
            Fails("OUT_OF_FUEL", "START_TRAPPED"),
        ),
        case("begins-to-talk", module(&begins), Fails("TRAPPED", "START_TRAPPED")),
        case(
            "data-outside",
            module(&format!("(memory 64 (pagesize 0x1)) (data (i32.const 64) \"x\") {TIMER}")),
            Fails("TRAPPED", "START_TRAPPED"),
        ),
    ]
}

/// W9: what an engine may or may not have, and numbers that processors differ in.
fn exotic() -> Vec<Case> {
    let wide = "(memory 64 (pagesize 0x1)) (func (drop (v128.load (i32.const 0))))";
    let threads = "(memory 1 1 shared)";
    let nan = "(f32.store (i32.const 0) (f32.const -nan:0x200001))";
    let zero = "(f32.load (i32.const 64))";
    let floats = [
        format!("(i32.reinterpret_f32 (f32.div {zero} {zero}))"),
        format!("(i32.reinterpret_f32 (block (result f32) {nan} (f32.add (f32.load (i32.const 0)) (f32.const 1))))"),
        format!("(i32.reinterpret_f32 (f32.sqrt (f32.sub {zero} (f32.const 1))))"),
        format!("(i32.reinterpret_f32 (f32.min {zero} (f32.neg {zero})))"),
        format!("(i32.trunc_sat_f32_s (f32.div {zero} {zero}))"),
        format!("(i32.trunc_sat_f32_s (f32.div (f32.const 1) {zero}))"),
        "(i32.reinterpret_f32 (f32.demote_f64 (f64.div (f64.const 1) (f64.const 3))))".to_owned(),
        "(i32.reinterpret_f32 (f32.nearest (f32.const 2.5)))".to_owned(),
        "(i32.reinterpret_f32 (f32.demote_f64 (f64.const 1e-40)))".to_owned(),
    ];
    let floats: Vec<&str> = floats.iter().map(String::as_str).collect();
    let numbers =
        [0x7fc0_0000, 0x7fc0_0000, 0x7fc0_0000, 0x8000_0000, 0, 0x7fff_ffff, 0x3eaa_aaab, 0x4000_0000, 0x0001_16c2];
    vec![
        case("calculates", saying("", "", &floats), Says(words(&numbers))),
        case("wide", module(&format!("{TIMER} {wide}")), Fails("LOAD_REFUSED", "FEATURE_UNSUPPORTED")),
        case("threads", module(&format!("{TIMER} {threads}")), Fails("LOAD_REFUSED", "FEATURE_UNSUPPORTED")),
    ]
}

fn all_cases() -> Vec<Case> {
    [endless(), greedy(), unbidden(), pushy(), failing(), broken(), early(), exotic()].into_iter().flatten().collect()
}

fn workload(name: &str) -> Workload {
    let on = json!({"on": all_devices()});
    Workload::new(name)
        .every(TICK)
        .may(&["log", "state"])
        .limits(json!({"memory": MEMORY}))
        .placed(on)
        .on_every_device()
}

/// Waits until a device made of a module what it should.
fn wait_end(site: &Mixed, case: &Case, device: &str) {
    let name = case.name;
    match case.end_on(device) {
        Fails(reason, code) => {
            wait_until(&format!("{device} says {reason}, {code} of {name}"), || {
                let entry = site.entry(name, device);
                // The code is said where it tells more than the reason.
                let is_detailed =
                    entry["detail"].as_str().is_some_and(|detail| detail.starts_with(code) || code == reason);
                if entry["reason"] == *reason && is_detailed { Ok(()) } else { Err(entry) }
            });
        }
        Says(line) if line.is_empty() => {
            wait_until(&format!("{name} runs on {device}"), || {
                let entry = site.entry(name, device);
                if entry["state"] == "Running" { Ok(()) } else { Err(entry) }
            });
        }
        Says(line) => {
            wait_until(&format!("{name} speaks on {device}"), || {
                let lines = site.hub.lines_of(name, device);
                if lines.len() >= 2 { Ok(()) } else { Err((lines, site.entry(name, device))) }
            });
            let lines = site.hub.lines_of(name, device);
            assert!(lines.iter().all(|said| said == line), "{name} on {device}, not {line}: {lines:#?}");
        }
    }
}

fn said(site: &Mixed, name: &str, device: &str, line: &str) -> usize {
    site.hub.lines_of(name, device).iter().filter(|said| said.starts_with(line)).count()
}

/// Waits until something is said more often than so many times on every device.
fn wait_said(site: &Mixed, name: &str, line: &str, more_than: usize) {
    for device in all_devices() {
        wait_until(&format!("{name} says {line:?} more than {more_than} times on {device}"), || {
            let count = said(site, name, device, line);
            if count > more_than { Ok(()) } else { Err((count, site.entry(name, device))) }
        });
    }
}

/// Logs `line` when it starts and at each tick.
fn telling(line: &str, code: &str) -> Vec<u8> {
    let log = format!("(drop (call $log (i32.const 2) (i32.const 0) (i32.const {})))", line.len());
    module(&format!(
        r#"{} (memory (export "memory") 64 (pagesize 0x1)) (data (i32.const 0) "{line}")
        (func (export "fulmar_timer") {log} {code})"#,
        import("log", "(param i32 i32 i32) (result i32)")
    ))
}

/// W1: an activation that does not end holds nobody up; meanwhile the set proves itself.
fn neighbours_go_on_beside_an_activation_that_does_not_end(site: &Mixed) {
    let limits = json!({"memory": MEMORY, "fuel": FUEL_WITHOUT_END});
    site.hub.deploy(&workload("endless").limits(limits), &telling("begins", "(loop $l (br $l))"));
    wait_running(site, "endless");
    wait_said(site, "endless", "begins", 0);
    wait_said(site, "hello", "hello", RUNS_TO_SETTLE);
    for device in all_devices() {
        assert_eq!(said(site, "endless", device, "begins"), 1, "{device}: it is still in its first activation");
        assert_eq!(restarts(site, "endless", device), 0, "{device}");
    }
}

/// W3, W5: what does not start is tried, given up, and what ran before runs again.
fn bad_versions_are_rolled_back(site: &Mixed) {
    let bad = [
        ("keeps", module(&format!("(func (export \"fulmar_start\") unreachable) {TIMER}")), "UNREACHABLE"),
        ("stays", module(&format!("{} {TIMER}", import("launch_missiles", ""))), "IMPORT_UNKNOWN"),
    ];
    for (name, module, _) in &bad {
        site.hub.deploy(&workload(name), module);
    }
    for (name, _, code) in bad {
        for device in all_devices() {
            wait_until(&format!("{device} is back at the first version of {name}"), || {
                let entry = site.entry(name, device);
                let is_told = entry["detail"].as_str().is_some_and(|detail| detail.contains(code));
                let is_back = entry["reason"] == "ROLLED_BACK" && entry["running"] == 1 && entry["generation"] == 2;
                if is_back && is_told { Ok(()) } else { Err(entry) }
            });
        }
        let most = all_devices().into_iter().map(|device| said(site, name, device, "version one")).max();
        wait_said(site, name, "version one", most.unwrap());
    }
}

/// W7: what changed in the flash of a board is not run, and comes once more from the hub.
fn what_flash_has_lost_is_fetched_again(site: &mut Mixed) {
    for (at, (device, name)) in BOARDS.into_iter().enumerate() {
        let flash = site.flash(device);
        let content = std::fs::read(&flash).unwrap();
        let begin = content.windows(HELLO.len()).position(|bytes| bytes == HELLO).expect("the module is in flash");
        // In the middle of the code, a byte that has a bit to lose: a cell without its charge.
        let at_byte = (begin + HELLO.len() / 2..).find(|at| !matches!(content[*at], 0 | 0xff)).unwrap();
        let less = content[at_byte] & (content[at_byte] - 1);
        site.boards.remove(at).cut_power();
        let before = said(site, "hello", device, "hello");
        File::options().write(true).open(&flash).unwrap().write_all_at(&[less], at_byte as u64).unwrap();
        let mut board = Board::start(name, &flash);
        board.wait_line("connected to the broker");
        site.boards.insert(at, board);
        wait_until(&format!("{device} runs it again"), || {
            let count = said(site, "hello", device, "hello");
            if count > before { Ok(()) } else { Err((count, site.entry("hello", device))) }
        });
        let content = std::fs::read(&flash).unwrap();
        assert!(content.windows(HELLO.len()).any(|bytes| bytes == HELLO), "{device}: what runs is what was sent");
    }
}

fn restarts(site: &Mixed, name: &str, device: &str) -> u64 {
    site.entry(name, device)["restarts"].as_u64().unwrap_or(0)
}

fn wait_running(site: &Mixed, name: &str) {
    site.wait_running(name, all_devices().len());
}

#[test]
fn harmful_modules_end_alike_on_linux_and_on_boards_and_nothing_else_does() {
    let mut site = Mixed::new();
    let devices = all_devices();
    for name in ["keeps", "stays"] {
        site.hub.deploy(&workload(name), &telling("version one", ""));
    }
    site.hub.deploy(&workload("hello").config("beside them"), HELLO);
    for name in ["keeps", "stays", "hello"] {
        wait_running(&site, name);
    }
    neighbours_go_on_beside_an_activation_that_does_not_end(&site);
    site.remove(&["endless"]);
    bad_versions_are_rolled_back(&site);
    site.remove(&["keeps", "stays"]);
    let cases = all_cases();
    for some in cases.chunks(AT_ONCE) {
        let runs = devices.iter().map(|device| said(&site, "hello", device, "hello")).max().unwrap();
        for case in some {
            site.hub.deploy(&workload(case.name), &case.module);
        }
        for case in some {
            devices.iter().for_each(|device| wait_end(&site, case, device));
        }
        wait_said(&site, "hello", "hello", runs);
        site.remove(&some.iter().map(|case| case.name).collect::<Vec<_>>());
    }
    for device in &devices {
        assert_eq!(restarts(&site, "hello", device), 0, "{device}");
    }
    for board in &mut site.boards {
        board.pass_until(Instant::now());
        let starts = board.seen().iter().filter(|line| line.contains("fulmar on ")).count();
        assert_eq!(starts, 1, "nothing took the firmware with it:\n{}", board.seen().join("\n"));
    }
    what_flash_has_lost_is_fetched_again(&mut site);
}
