//! What the host does for a function, and what it refuses: W4, W6 of the reliability matrix.

use super::super::abi::{ERR_BOUNDS, ERR_CAPABILITY, ERR_INVALID, ERR_NOT_FOUND, ERR_QUOTA, ERR_TOO_LONG, ERR_UNKNOWN};
use super::super::{Activation, EmitError, Level, Limits, Outcome, TrapCause};
use super::common::{Probe, World, instance, instance_with, module, run, timer};
use alloc::format;
use alloc::vec::Vec;
use wire::limits::{NAME_BYTES_MAX, SAMPLE_TEXT_BYTES_MAX};

/// Pointers and lengths that do not lie in one page of memory.
const OUTSIDE: [(i32, i32); 9] =
    [(65_536, 1), (65_535, 2), (0, 65_537), (-1, 1), (-1, -1), (i32::MAX, 1), (i32::MIN, i32::MIN), (1, -1), (-4, 8)];

#[test]
fn w4_no_pointer_outside_the_memory_is_ever_used() {
    for (ptr, len) in OUTSIDE {
        for (name, params, args) in [
            ("log", 3, [2, ptr, len, 0]),
            ("emit", 4, [ptr, len, 0, 1]),
            ("emit", 4, [0, 1, ptr, len]),
            ("input_read", 3, [0, ptr, len, 0]),
            ("input_topic_read", 3, [0, ptr, len, 0]),
            ("config_read", 3, [0, ptr, len, 0]),
            ("state_get", 4, [ptr, len, 0, 8]),
            ("state_get", 4, [0, 7, ptr, len]),
            ("state_set", 4, [ptr, len, 0, 8]),
            ("state_set", 4, [0, 7, ptr, len]),
            ("state_delete", 2, [ptr, len, 0, 0]),
            ("random", 2, [ptr, len, 0, 0]),
            ("alarm", 4, [ptr, len, 0, 7]),
            ("alarm", 4, [0, 7, ptr, len]),
            ("report", 4, [ptr, len, 0, 7]),
            ("report", 4, [0, 7, ptr, len]),
            ("measure", 4, [ptr, len, 1, 0]),
        ] {
            let mut probe = Probe::new(name, params);
            assert_eq!(probe.call(&args), ERR_BOUNDS, "{name} {args:?}");
            assert!(probe.world.logs.is_empty() && probe.world.emits.len() == 1 && probe.world.commits == 0);
        }
    }
}

#[test]
fn w4_the_last_byte_and_the_empty_slice_at_the_end_are_inside() {
    let mut probe = Probe::new("log", 3);
    assert_eq!(probe.call(&[2, 65_535, 1]), 0);
    assert_eq!(probe.call(&[2, 65_536, 0]), 0);
    assert_eq!(probe.call(&[2, 65_537, 0]), ERR_BOUNDS);
    assert_eq!(probe.world.logs.len(), 2);
}

#[test]
fn w4_key_and_buffer_may_overlap() {
    let mut probe = Probe::new("state_get", 4);
    probe.world.state.insert(b"keyword".to_vec(), b"0123456789".to_vec());
    assert_eq!(probe.call(&[0, 7, 0, 10]), 10);
    assert_eq!(probe.call(&[0, 7, 0, 10]), ERR_NOT_FOUND, "the key in memory is overwritten by the value now");
}

#[test]
fn w4_a_module_without_memory_has_no_valid_pointer() {
    let bytes = module(
        "(import \"fulmar\" \"input_len\" (func $len (result i32)))
         (func (export \"fulmar_event\") (if (i32.ne (call $len) (i32.const 3)) (then unreachable)))",
    );
    let event = Activation::Event { topic: "t", payload: b"abc" };
    assert!(matches!(run(&mut instance(&bytes), event, &mut World::default()), Outcome::Done { .. }));
}

#[test]
fn log_lines_carry_their_level() {
    let mut probe = Probe::new("log", 3);
    for level in 0..4 {
        assert_eq!(probe.call(&[level, 0, 7]), 0);
    }
    let levels: Vec<Level> = probe.world.logs.iter().map(|(level, _)| *level).collect();
    assert_eq!(levels, [Level::Error, Level::Warn, Level::Info, Level::Debug]);
    assert_eq!(probe.call(&[4, 0, 7]), ERR_INVALID);
    assert_eq!(probe.call(&[-1, 0, 7]), ERR_INVALID);
    assert_eq!(probe.call(&[2, 0, 257]), ERR_TOO_LONG);
}

#[test]
fn input_and_topic_are_read_in_parts() {
    let bytes = module(
        "(import \"fulmar\" \"input_len\" (func $len (result i32)))
         (import \"fulmar\" \"input_read\" (func $read (param i32 i32 i32) (result i32)))
         (import \"fulmar\" \"input_topic_len\" (func $topic_len (result i32)))
         (import \"fulmar\" \"input_topic_read\" (func $topic (param i32 i32 i32) (result i32)))
         (import \"fulmar\" \"log\" (func $log (param i32 i32 i32) (result i32)))
         (memory (export \"memory\") 1)
         (func (export \"fulmar_event\")
           (drop (call $log (i32.const 2) (i32.const 0) (call $topic (i32.const 0) (i32.const 0) (call $topic_len))))
           (drop (call $log (i32.const 2) (i32.const 0) (call $read (i32.const 0) (i32.const 0) (i32.const 4))))
           (drop (call $log (i32.const 2) (i32.const 0) (call $read (i32.const 4) (i32.const 0) (call $len))))
           (drop (call $log (i32.const 2) (i32.const 0) (call $read (i32.const -9) (i32.const 0) (i32.const 8)))))",
    );
    let mut world = World::default();
    let event = Activation::Event { topic: "greenhouse/1", payload: b"21.5 C" };
    assert!(matches!(run(&mut instance(&bytes), event, &mut world), Outcome::Done { .. }));
    assert_eq!(world.lines(), ["greenhouse/1", "21.5", " C", ""]);
}

#[test]
fn emitting_checks_topic_and_payload() {
    let emit = |topic: &str, topic_len: i32, payload_len: i32, refuses: Option<EmitError>| {
        let bytes = module(&format!(
            "(import \"fulmar\" \"emit\" (func $emit (param i32 i32 i32 i32) (result i32)))
             (import \"fulmar\" \"log\" (func $log (param i32 i32 i32) (result i32)))
             (memory (export \"memory\") 1)
             (data (i32.const 0) \"{topic}\")
             (func (export \"fulmar_timer\")
               (i32.store (i32.const 1000)
                 (call $emit (i32.const 0) (i32.const {topic_len}) (i32.const 2000) (i32.const {payload_len})))
               (drop (call $log (i32.const 2) (i32.const 1000) (i32.const 4))))"
        ));
        let mut world = World { emit_refuses: refuses, ..World::default() };
        assert!(matches!(run(&mut instance(&bytes), Activation::Timer, &mut world), Outcome::Done { .. }));
        let code = i32::from_le_bytes(world.logs[0].1.as_slice().try_into().unwrap());
        assert_eq!(world.emits.len(), usize::from(code == 0));
        code
    };
    assert_eq!(emit("a/b", 3, 8192, None), 0);
    assert_eq!(emit("a/b", 3, 8193, None), ERR_TOO_LONG);
    assert_eq!(emit("a", 129, 0, None), ERR_TOO_LONG);
    for bad in ["/ab", "a//", "a/#", "+/a", "$sy", "a\\00b", "a\\ff"] {
        assert_eq!(emit(bad, 3, 0, None), ERR_INVALID, "{bad}");
    }
    assert_eq!(emit("", 0, 0, None), ERR_INVALID);
    assert_eq!(emit("abc", 3, 0, Some(EmitError::Topic)), ERR_CAPABILITY);
    assert_eq!(emit("abc", 3, 0, Some(EmitError::Quota)), ERR_QUOTA);
}

#[test]
fn configuration_is_read_by_copy() {
    let mut probe = Probe::new("config_len", 0);
    probe.world.config = b"north field".to_vec();
    assert_eq!(probe.call(&[]), 11);
    let mut probe = Probe::new("config_read", 3);
    probe.world.config = b"north field".to_vec();
    assert_eq!(probe.call(&[6, 0, 100]), 5);
    assert_eq!(probe.call(&[11, 0, 100]), 0);
    assert_eq!(probe.call(&[0, 0, 5]), 5);
}

#[test]
fn random_bytes_are_bounded_and_may_be_missing() {
    let mut probe = Probe::new("random", 2);
    assert_eq!(probe.call(&[0, 256]), 256);
    assert_eq!(probe.call(&[0, 257]), ERR_TOO_LONG);
    probe.world.no_entropy = true;
    assert_eq!(probe.call(&[0, 8]), ERR_UNKNOWN);
}

#[test]
fn the_monotonic_clock_runs_and_the_wall_clock_may_be_unknown() {
    let bytes = module(
        "(import \"fulmar\" \"time_monotonic_us\" (func $mono (result i64)))
         (import \"fulmar\" \"time_wall_ms\" (func $wall (result i64)))
         (import \"fulmar\" \"log\" (func $log (param i32 i32 i32) (result i32)))
         (memory (export \"memory\") 1)
         (func (export \"fulmar_timer\")
           (i64.store (i32.const 0) (call $mono))
           (i64.store (i32.const 8) (call $wall))
           (drop (call $log (i32.const 2) (i32.const 0) (i32.const 16))))",
    );
    let mut instance = instance(&bytes);
    for (wall, expected) in [(None, -1), (Some(1_750_000_000_000), 1_750_000_000_000), (Some(u64::MAX), i64::MAX)] {
        let mut world = World { now_us: 41, wall_ms: wall, ..World::default() };
        assert!(matches!(run(&mut instance, Activation::Timer, &mut world), Outcome::Done { .. }));
        let bytes = &world.logs[0].1;
        assert_eq!(i64::from_le_bytes(bytes[..8].try_into().unwrap()), 42);
        assert_eq!(i64::from_le_bytes(bytes[8..].try_into().unwrap()), expected);
    }
}

/// A module whose timer makes `times` calls and adds up how many of them were refused by quota.
fn flood(imports: &str, call: &str, times: u32) -> Vec<u8> {
    module(&format!(
        "{imports}
         (memory (export \"memory\") 1)
         (data (i32.const 0) \"topic\")
         (global $refused (export \"refused\") (mut i32) (i32.const 0))
         (func (export \"fulmar_timer\") (local $i i32)
           (local.set $i (i32.const {times}))
           (loop $again
             (global.set $refused (i32.add (global.get $refused) (i32.eq {call} (i32.const {ERR_QUOTA}))))
             (local.set $i (i32.sub (local.get $i) (i32.const 1)))
             (br_if $again (local.get $i)))
           (if (i32.eqz (global.get $refused)) (then unreachable)))"
    ))
}

const LOG: &str = "(import \"fulmar\" \"log\" (func $log (param i32 i32 i32) (result i32)))";
const LOG_CALL: &str = "(call $log (i32.const 2) (i32.const 0) (i32.const 1))";

#[test]
fn w6_calls_above_the_quota_are_answered_with_an_error() {
    let limits = Limits { host_calls_per_activation: 10, ..Limits::LINUX };
    let mut instance = instance_with(&flood(LOG, LOG_CALL, 40), &limits);
    let mut world = World::default();
    assert!(matches!(run(&mut instance, Activation::Timer, &mut world), Outcome::Done { .. }));
    assert_eq!(world.logs.len(), 10);
    assert!(matches!(run(&mut instance, Activation::Timer, &mut world), Outcome::Done { .. }));
    assert_eq!(world.logs.len(), 20, "each activation has its own quota");
}

#[test]
fn w6_a_flood_far_above_the_quota_is_stopped() {
    let limits = Limits { host_calls_per_activation: 10, ..Limits::LINUX };
    let mut instance = instance_with(&flood(LOG, LOG_CALL, 41), &limits);
    let mut world = World::default();
    let outcome = run(&mut instance, Activation::Timer, &mut world);
    assert!(matches!(outcome, Outcome::Trapped { cause: TrapCause::HostQuota, .. }), "{outcome:?}");
    assert_eq!(world.logs.len(), 10);
}

#[test]
fn w6_bytes_of_logs_and_events_have_a_budget() {
    let log = "(call $log (i32.const 2) (i32.const 0) (i32.const 250))";
    let mut world = World::default();
    assert!(matches!(run(&mut instance(&flood(LOG, log, 50)), Activation::Timer, &mut world), Outcome::Done { .. }));
    assert_eq!(world.logs.len(), 16, "4096 bytes hold 16 lines of 250");
    let import = "(import \"fulmar\" \"emit\" (func $emit (param i32 i32 i32 i32) (result i32)))";
    let emit = "(call $emit (i32.const 0) (i32.const 5) (i32.const 0) (i32.const 8000))";
    assert!(matches!(run(&mut instance(&flood(import, emit, 9)), Activation::Timer, &mut world), Outcome::Done { .. }));
    assert_eq!(world.emits.len(), 4, "32768 bytes hold 4 events of 8005");
}

#[test]
fn alarms_states_and_metrics_reach_the_host_within_their_limits() {
    // "keyword" lies at 0, seven bytes; from 8 on zeros, which are text and no key.
    let (mut alarm, mut report, mut measure) =
        (Probe::new("alarm", 4), Probe::new("report", 4), Probe::new("measure", 4));
    assert_eq!((alarm.call(&[0, 7, 0, 3]), report.call(&[0, 3, 0, 7]), measure.call(&[0, 7, -215, -1])), (0, 0, 0));
    let told = [&alarm, &report, &measure].map(|probe| probe.world.told[0].clone());
    let expected = [("alarm", "keyword", "key"), ("state", "key", "keyword"), ("metric", "keyword", "-215e-1")];
    assert_eq!(told, expected.map(|(class, key, value)| (class, key.into(), value.into())));
    for (length, answer) in [
        (SAMPLE_TEXT_BYTES_MAX as i32 - 1, 0),
        (SAMPLE_TEXT_BYTES_MAX as i32, 0),
        (SAMPLE_TEXT_BYTES_MAX as i32 + 1, ERR_TOO_LONG),
    ] {
        assert_eq!(alarm.call(&[0, 7, 100, length]), answer, "{length}");
        assert_eq!(report.call(&[0, 7, 100, length]), answer, "{length}");
    }
    for probe in [&mut alarm, &mut report] {
        assert_eq!(probe.call(&[0, 0, 0, 7]), ERR_INVALID, "a key is not empty");
        assert_eq!(probe.call(&[0, 8, 0, 7]), ERR_INVALID, "a zero is no letter of a key");
        assert_eq!(probe.call(&[0, 7, 0, 16]), ERR_INVALID, "a text is UTF-8");
        assert_eq!(probe.call(&[0, NAME_BYTES_MAX as i32 + 1, 0, 7]), ERR_TOO_LONG);
    }
    for (scale, answer) in [(-129, ERR_INVALID), (-128, 0), (127, 0), (128, ERR_INVALID)] {
        assert_eq!(measure.call(&[0, 7, 1, scale]), answer, "{scale}");
    }
    measure.world.tell_refuses = true;
    assert_eq!(measure.call(&[0, 7, 1, 0]), ERR_QUOTA);
}

#[test]
fn alarms_and_bytes_of_samples_have_a_budget() {
    let import =
        |name: &str| format!("(import \"fulmar\" \"{name}\" (func ${name} (param i32 i32 i32 i32) (result i32)))");
    let of = |name: &str, limits: &Limits| {
        let call = format!("(call ${name} (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 9))");
        let mut world = World::default();
        let bytes = flood(&import(name), &call, 60);
        assert!(matches!(run(&mut instance_with(&bytes, limits), Activation::Timer, &mut world), Outcome::Done { .. }));
        world.told.len()
    };
    for alarms in [1, 2, 9] {
        let limits = Limits { alarms_per_activation: alarms, ..Limits::LINUX };
        assert_eq!(of("alarm", &limits), alarms as usize);
    }
    for (bytes, told) in [(99, 9), (100, 10), (109, 10), (110, 11)] {
        let limits = Limits { sample_bytes_per_activation: bytes, ..Limits::LINUX };
        assert_eq!(of("report", &limits), told, "{bytes}");
    }
}

#[test]
fn w6_host_calls_cost_fuel() {
    let limits = Limits { fuel_per_activation: 5_000, ..Limits::LINUX };
    let mut instance = instance_with(&flood(LOG, LOG_CALL, 900), &limits);
    let mut world = World::default();
    let outcome = run(&mut instance, Activation::Timer, &mut world);
    assert!(matches!(outcome, Outcome::Trapped { cause: TrapCause::OutOfFuel, fuel_used: ..=5_000 }), "{outcome:?}");
    assert!(world.logs.len() < 50);
}

#[test]
fn the_terms_of_a_function_are_told_to_it() {
    let bytes = module(
        "(import \"fulmar\" \"emit\" (func $emit (param i32 i32 i32 i32) (result i32)))
         (import \"fulmar\" \"fence\" (func $fence (result i64)))
         (import \"fulmar\" \"freshness\" (func $freshness (result i64)))
         (import \"fulmar\" \"degraded\" (func $degraded (result i32)))
         (memory (export \"memory\") 1)
         (data (i32.const 0) \"t\")
         (func (export \"fulmar_timer\")
           (i64.store (i32.const 8) (call $fence))
           (i64.store (i32.const 16) (call $freshness))
           (i32.store (i32.const 24) (call $degraded))
           (drop (call $emit (i32.const 0) (i32.const 1) (i32.const 8) (i32.const 20))))",
    );
    let mut instance = instance(&bytes);
    let mut told = |world: &mut World| {
        assert!(matches!(run(&mut instance, Activation::Timer, world), Outcome::Done { .. }));
        let (_, payload) = world.emits.pop().unwrap();
        let wide = |at: usize| i64::from_le_bytes(payload[at..at + 8].try_into().unwrap());
        (wide(0), wide(8), payload[16])
    };
    assert_eq!(told(&mut World::default()), (0, -1, 0));
    let fence = wire::id::Order::new(3, 7).unwrap().packed();
    let mut world = World { fence, freshness_ms: Some(90_000), is_degraded: true, ..World::default() };
    assert_eq!(told(&mut world), ((3 << 40) + 7, 90_000, 1));
}

/// Asked once for the slice, once for each call, and once before its state is kept.
#[test]
fn a_function_whose_terms_are_over_calls_nothing_more_and_keeps_nothing() {
    let bytes = module(
        "(import \"fulmar\" \"emit\" (func $emit (param i32 i32 i32 i32) (result i32)))
         (import \"fulmar\" \"state_set\" (func $set (param i32 i32 i32 i32) (result i32)))
         (memory (export \"memory\") 1)
         (data (i32.const 0) \"t\")
         (func (export \"fulmar_timer\")
           (drop (call $set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1)))
           (drop (call $emit (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1)))
           (drop (call $emit (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1))))",
    );
    for (answers, emits) in [(0, 0), (1, 0), (2, 0), (3, 1), (4, 2)] {
        let mut world = World { goes_on_for: Some(answers), ..World::default() };
        let mut instance = instance(&bytes);
        assert!(matches!(run(&mut instance, Activation::Timer, &mut world), Outcome::Ended { .. }), "{answers}");
        assert!(instance.is_dead());
        assert_eq!((world.emits.len(), world.commits), (emits, 0), "{answers}");
    }
    let mut world = World { goes_on_for: Some(5), ..World::default() };
    assert!(matches!(run(&mut instance(&bytes), Activation::Timer, &mut world), Outcome::Done { .. }));
    assert_eq!(world.commits, 1);
}

#[test]
fn a_loop_whose_terms_are_over_ends_with_its_slice() {
    let bytes = timer("(loop $again (br $again))");
    let mut world = World { goes_on_for: Some(3), ..World::default() };
    let mut instance = instance(&bytes);
    let outcome = run(&mut instance, Activation::Timer, &mut world);
    let Outcome::Ended { fuel_used } = outcome else { panic!("{outcome:?}") };
    assert!(fuel_used <= 3 * Limits::LINUX.fuel_per_slice, "{fuel_used}");
}
