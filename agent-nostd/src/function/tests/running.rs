//! How activations run, yield and are stopped: W1, W2, W5, W9 of the reliability matrix.

use super::super::{Activation, Instance, Limits, Module, Outcome, Refusal, TrapCause};
use super::common::{ALL, World, instance, instance_with, module, run, timer};
use alloc::format;
use alloc::vec::Vec;

fn cause(outcome: Outcome) -> TrapCause {
    match outcome {
        Outcome::Trapped { cause, .. } => cause,
        other => panic!("{other:?}"),
    }
}

#[test]
fn w1_an_endless_loop_yields_after_every_slice_and_is_stopped_at_its_fuel() {
    let limits = Limits { fuel_per_activation: 100_000, fuel_per_slice: 30_000, ..Limits::LINUX };
    let mut instance = instance_with(&timer("(loop br 0)"), &limits);
    let mut world = World::default();
    let mut spent = Vec::new();
    let mut outcome = instance.activate(Activation::Timer, &mut world);
    while let Outcome::Yielded { fuel_used } = outcome {
        spent.push(fuel_used);
        outcome = instance.resume(&mut world);
    }
    assert_eq!(spent.len(), 3, "{spent:?}");
    assert!(spent.windows(2).all(|pair| pair[1] - pair[0] <= 30_000), "{spent:?}");
    let Outcome::Trapped { cause: TrapCause::OutOfFuel, fuel_used } = outcome else { panic!("{outcome:?}") };
    assert!(fuel_used <= 100_000);
    assert!(instance.is_dead());
}

#[test]
fn w1_endless_recursion_overflows_the_stack_of_the_function_only() {
    let bytes = module("(func $f (export \"fulmar_timer\") (call $f) (call $f))");
    assert_eq!(cause(run(&mut instance(&bytes), Activation::Timer, &mut World::default())), TrapCause::StackOverflow);
    let wide = module(&format!("(func $f (export \"fulmar_timer\") (local {}) (call $f))", "i64 ".repeat(500)));
    assert_eq!(cause(run(&mut instance(&wide), Activation::Timer, &mut World::default())), TrapCause::StackOverflow);
}

#[test]
fn w1_the_next_function_is_not_touched_by_a_loop_beside_it() {
    let mut bad = instance(&timer("(loop br 0)"));
    let mut good = instance(&timer("nop"));
    let mut world = World::default();
    assert!(matches!(bad.activate(Activation::Timer, &mut world), Outcome::Yielded { .. }));
    assert!(matches!(good.activate(Activation::Timer, &mut world), Outcome::Done { fuel_used: 0..1000 }));
    assert!(matches!(bad.resume(&mut world), Outcome::Yielded { .. }));
}

#[test]
fn w2_growing_beyond_the_limit_fails_in_the_guest_and_the_function_lives_on() {
    let bytes = module(
        "(import \"fulmar\" \"emit\" (func $emit (param i32 i32 i32 i32) (result i32)))
         (memory (export \"memory\") 1)
         (data (i32.const 0) \"grown\")
         (func (export \"fulmar_timer\") (local $last i32)
           (loop $again
             (local.set $last (memory.grow (i32.const 1)))
             (br_if $again (i32.ne (local.get $last) (i32.const -1))))
           (i32.store (i32.const 8) (local.get $last))
           (drop (call $emit (i32.const 0) (i32.const 5) (i32.const 8) (i32.const 4))))",
    );
    let limits = Limits { memory_bytes: 5 * 65_536, ..Limits::LINUX };
    let mut instance = instance_with(&bytes, &limits);
    let mut world = World::default();
    assert!(matches!(run(&mut instance, Activation::Timer, &mut world), Outcome::Done { .. }));
    assert_eq!(world.answer(), -1);
    assert_eq!(instance.memory_bytes(), 5 * 65_536);
}

#[test]
fn w2_a_table_grows_to_its_limit_only() {
    let bytes = module(
        "(table $t 1 funcref)
         (func (export \"fulmar_timer\")
           (if (i32.ne (table.grow $t (ref.null func) (i32.const 5000)) (i32.const -1)) (then unreachable)))",
    );
    assert!(matches!(run(&mut instance(&bytes), Activation::Timer, &mut World::default()), Outcome::Done { .. }));
}

#[test]
fn a_large_copy_costs_fuel_by_its_bytes() {
    let fill = |len: u32| {
        let limits = Limits { fuel_per_slice: 1000, ..Limits::LINUX };
        let bytes = timer(&format!("(memory.fill (i32.const 0) (i32.const 1) (i32.const {len}))"));
        match run(&mut instance_with(&bytes, &limits), Activation::Timer, &mut World::default()) {
            Outcome::Done { fuel_used } => fuel_used,
            other => panic!("{other:?}"),
        }
    };
    assert!(fill(65_536) > fill(64) + 500);
}

#[test]
fn w5_a_trap_at_each_start_is_reported_each_time_and_changes_nothing() {
    let bytes = module(
        "(import \"fulmar\" \"state_set\" (func $set (param i32 i32 i32 i32) (result i32)))
         (memory (export \"memory\") 1)
         (func (export \"fulmar_start\")
           (drop (call $set (i32.const 0) (i32.const 4) (i32.const 8) (i32.const 4)))
           unreachable)",
    );
    let module = Module::load(&bytes, &Limits::LINUX, ALL).unwrap();
    let mut world = World::default();
    for _ in 0..3 {
        let mut instance = Instance::load(&module).unwrap();
        let outcome = run(&mut instance, Activation::Start, &mut world);
        assert_eq!(cause(outcome), TrapCause::Unreachable);
        assert!(instance.is_dead());
    }
    assert_eq!(world.commits, 0);
    assert!(world.state.is_empty());
}

#[test]
fn every_trap_has_its_cause() {
    let cases = [
        ("unreachable", TrapCause::Unreachable),
        ("(drop (i32.load (i32.const -1)))", TrapCause::MemoryOutOfBounds),
        ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", TrapCause::DivideByZero),
        ("(drop (i32.rem_u (i32.const 1) (i32.load (i32.const 0))))", TrapCause::DivideByZero),
        ("(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))", TrapCause::IntegerOverflow),
        ("(drop (i32.trunc_f32_s (f32.const nan)))", TrapCause::BadConversion),
        ("(call_indirect (i32.const 0))", TrapCause::IndirectCall),
        ("(call_indirect (i32.const 9))", TrapCause::TableOutOfBounds),
        ("(call_indirect (param i32) (i32.const 0) (i32.const 1))", TrapCause::IndirectCall),
    ];
    for (code, expected) in cases {
        let bytes = module(&format!(
            "(table 2 funcref) (elem (i32.const 1) $t) (memory 1) (func $t (export \"fulmar_timer\") {code})"
        ));
        assert_eq!(cause(run(&mut instance(&bytes), Activation::Timer, &mut World::default())), expected, "{code}");
    }
}

#[test]
fn slices_do_not_change_what_a_function_does() {
    let bytes = module(
        "(import \"fulmar\" \"log\" (func $log (param i32 i32 i32) (result i32)))
         (import \"fulmar\" \"state_set\" (func $set (param i32 i32 i32 i32) (result i32)))
         (memory (export \"memory\") 1)
         (data (i32.const 0) \"abcdefghijklmnopqrstuvwxyz\")
         (func (export \"fulmar_timer\") (local $i i32) (local $j i32)
           (loop $outer
             (local.set $j (i32.const 200))
             (loop $inner
               (local.set $j (i32.sub (local.get $j) (i32.const 1)))
               (br_if $inner (local.get $j)))
             (drop (call $log (i32.const 2) (i32.const 0) (local.get $i)))
             (drop (call $set (local.get $i) (i32.const 2) (i32.const 0) (local.get $i)))
             (local.set $i (i32.add (local.get $i) (i32.const 1)))
             (br_if $outer (i32.lt_u (local.get $i) (i32.const 20)))))",
    );
    let mut results = Vec::new();
    for slice in [300, 1000, 1_000_000] {
        let limits = Limits { fuel_per_slice: slice, ..Limits::LINUX };
        let mut world = World::default();
        let mut instance = instance_with(&bytes, &limits);
        let outcome = run(&mut instance, Activation::Timer, &mut world);
        let Outcome::Done { .. } = outcome else { panic!("{slice}: {outcome:?}") };
        assert_eq!(world.commits, 1);
        results.push((world.logs, world.state));
    }
    assert_eq!(results[0], results[2]);
    assert_eq!(results[1], results[2]);
    assert_eq!(results[0].0.len(), 20);
}

#[test]
fn an_activation_costs_the_same_fuel_every_time() {
    let mut instance = instance(&timer("(i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))"));
    let mut world = World::default();
    let first = run(&mut instance, Activation::Timer, &mut world);
    assert!(matches!(first, Outcome::Done { .. }));
    assert_eq!(run(&mut instance, Activation::Timer, &mut world), first);
}

#[test]
fn an_activation_without_an_entry_point_is_ignored() {
    let mut instance = instance(&timer("nop"));
    let mut world = World::default();
    assert_eq!(instance.activate(Activation::Start, &mut world), Outcome::Ignored);
    assert_eq!(instance.activate(Activation::Stop, &mut world), Outcome::Ignored);
    assert_eq!(instance.activate(Activation::Event { topic: "t", payload: b"" }, &mut world), Outcome::Ignored);
}

#[test]
fn one_activation_at_a_time() {
    let mut instance = instance(&timer("(loop br 0)"));
    let mut world = World::default();
    assert_eq!(instance.resume(&mut world), Outcome::Refused(Refusal::NotRunning));
    assert!(matches!(instance.activate(Activation::Timer, &mut world), Outcome::Yielded { .. }));
    assert_eq!(instance.activate(Activation::Timer, &mut world), Outcome::Refused(Refusal::Busy));
    assert!(matches!(instance.resume(&mut world), Outcome::Yielded { .. }));
}

#[test]
fn a_dead_instance_runs_nothing_more() {
    let mut instance = instance(&timer("unreachable"));
    let mut world = World::default();
    assert_eq!(cause(instance.activate(Activation::Timer, &mut world)), TrapCause::Unreachable);
    assert_eq!(instance.activate(Activation::Timer, &mut world), Outcome::Refused(Refusal::Dead));
    assert_eq!(instance.resume(&mut world), Outcome::Refused(Refusal::Dead));
}

#[test]
fn an_event_above_its_limits_is_refused_and_the_next_one_runs() {
    let mut instance = instance(&module("(func (export \"fulmar_event\"))"));
    let mut world = World::default();
    let long = [0; 64 * 1024 + 1];
    let refused = Outcome::Refused(Refusal::InputTooLong);
    assert_eq!(instance.activate(Activation::Event { topic: "t", payload: &long }, &mut world), refused);
    let topic = "t".repeat(129);
    assert_eq!(instance.activate(Activation::Event { topic: &topic, payload: b"" }, &mut world), refused);
    let fits = Activation::Event { topic: "t", payload: &long[1..] };
    assert!(matches!(instance.activate(fits, &mut world), Outcome::Done { .. }));
}

#[test]
fn w9_nan_bits_are_canonical() {
    let bytes = module(
        "(memory (export \"memory\") 1)
         (func (export \"fulmar_timer\")
           (f32.store (i32.const 0) (f32.const -nan:0x200001))
           (if (i32.ne
                 (i32.reinterpret_f32 (f32.add (f32.load (i32.const 0)) (f32.const 1)))
                 (i32.const 0x7fc00000))
             (then unreachable))
           (if (i64.ne
                 (i64.reinterpret_f64 (f64.div (f64.const 0) (f64.promote_f32 (f32.demote_f64 (f64.const 0)))))
                 (i64.const 0x7ff8000000000000))
             (then unreachable)))",
    );
    let outcome = run(&mut instance(&bytes), Activation::Timer, &mut World::default());
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
}

#[test]
fn an_instance_can_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Instance>();
    is_send::<Module>();
}
