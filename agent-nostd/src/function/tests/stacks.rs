//! How much stack the samples need: what the default of a new function rests on, and the page says.

use super::super::{Activation, EmitError, Instance, Limits, Module, Outcome};
use super::common::{ALL, World, run};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

const BUILD: &str = include_str!("../../../../functions/build");
const PAGE: &str = include_str!("../../../../docs/functions.md");
const MARK: u8 = 0xa5;

/// Name on the page, module, and configurations that take it everywhere.
const SAMPLES: [(&str, &[u8], &[&str]); 9] = [
    ("hello", include_bytes!("../../../../functions/hello/hello.wasm"), &["", "a place"]),
    (
        "threshold",
        include_bytes!("../../../../functions/threshold/threshold.wasm"),
        &["", "high=1;low=2", "high=30;low=28;field=c;topic=house/hot", "high=30"],
    ),
    (
        "rolling",
        include_bytes!("../../../../functions/rolling/rolling.wasm"),
        &["window=0", "window=64;decimals=9;field=c;topic=house/stats", "window=3"],
    ),
    (
        "geofence",
        include_bytes!("../../../../functions/geofence/geofence.wasm"),
        &["", "fence=48,11 48,12 48.5,11.5 49,12 49,11;topic=gate", "fence=1,1 2,2 3,3"],
    ),
    ("counter", include_bytes!("../../../../functions/counter/counter.wasm"), &["", "x", "topic=door/total"]),
    (
        "threshold (C)",
        include_bytes!("../../../../functions/c/threshold/threshold.wasm"),
        &["", "high=1;low=2", "high=30;low=28;field=c;topic=house/hot", "high=30"],
    ),
    ("blink (C)", include_bytes!("../../../../functions/c/blink/blink.wasm"), &["", "lamp/1"]),
    ("frost (C)", include_bytes!("../../../../functions/c/frost/frost.wasm"), &["", "5 72 0 3", "9 72 0 3"]),
    ("gauge (C)", include_bytes!("../../../../functions/c/gauge/gauge.wasm"), &["", "21.5", "x"]),
];

/// Bytes of stack that `functions/build` gives: entries of `name:bytes`.
fn given(name: &str) -> usize {
    let (name, list) = match name.strip_suffix(" (C)") {
        Some(name) => (name, "FUNCTIONS_C=\""),
        None => (name, "FUNCTIONS_RUST=\""),
    };
    let line = BUILD.lines().find_map(|line| line.strip_prefix(list)).unwrap().trim_end_matches('"');
    let entry = line.split(' ').find_map(|entry| entry.strip_prefix(name)?.strip_prefix(':'));
    entry.unwrap().parse().unwrap()
}

/// The deepest that its stack has been over everything that takes it to its ends.
fn deepest(bytes: &[u8], config: &str, stack: usize) -> usize {
    let module = Module::load(bytes, &Limits::MCU, ALL).unwrap();
    let mut instance = Instance::load(&module).unwrap();
    assert!(instance.memory()[..stack].iter().all(|byte| *byte == 0), "the stack lies first");
    instance.memory_mut()[..stack].fill(MARK);
    let mut world =
        World { config: config.as_bytes().to_vec(), pins: [(0, 0), (5, 0)].into_iter().collect(), ..World::default() };
    let readings =
        ["", "warm", "31", "27.9999999e0", "-1e-9", "{\"c\":31.5,\"x\":[{}]}", "{\"c\":27}", "48.5,11.2", "0,0"];
    let mut activations = Vec::from([Activation::Start]);
    let long = String::from_utf8(alloc::vec![b'1'; 600]).unwrap();
    for payload in readings.into_iter().chain([&long[..512], &long]) {
        activations.push(Activation::Event { topic: "in", payload: payload.as_bytes() });
        activations.push(Activation::Timer);
    }
    for refuses in [None, Some(EmitError::Quota)] {
        world.emit_refuses = refuses;
        for activation in &activations {
            let outcome = run(&mut instance, *activation, &mut world);
            assert!(matches!(outcome, Outcome::Done { .. } | Outcome::Ignored), "{activation:?}: {outcome:?}");
        }
    }
    stack - instance.memory()[..stack].iter().take_while(|byte| **byte == MARK).count()
}

#[test]
fn the_page_has_what_the_stacks_of_the_samples_need() {
    let mut wrong = Vec::new();
    for (name, bytes, configs) in SAMPLES {
        let stack = given(name);
        let used = configs.iter().map(|config| deepest(bytes, config, stack)).max().unwrap();
        let stated = match name.strip_suffix(" (C)") {
            Some(name) => format!("| `{name}` (C) |"),
            None => format!("| `{name}` |"),
        };
        let row = PAGE.lines().find(|line| line.starts_with(&stated)).unwrap();
        if !row.ends_with(&format!("| {used} of {stack} |")) {
            wrong.push(format!("{name}: {used} of {stack}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
