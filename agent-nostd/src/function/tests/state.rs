//! Durable state: written at the end of an activation, all or nothing.

use super::super::abi::{ERR_INVALID, ERR_NOT_FOUND, ERR_QUOTA, ERR_TOO_LONG};
use super::super::{Activation, Limits, Outcome, TrapCause};
use super::common::{Probe, World, instance, instance_with, module, run};
use alloc::format;
use alloc::vec;

const IMPORTS: &str = "
    (import \"fulmar\" \"state_get\" (func $get (param i32 i32 i32 i32) (result i32)))
    (import \"fulmar\" \"state_set\" (func $set (param i32 i32 i32 i32) (result i32)))
    (import \"fulmar\" \"state_delete\" (func $delete (param i32 i32) (result i32)))
    (memory (export \"memory\") 1)
    (data (i32.const 0) \"ab12\")
    (func $expect (param i32 i32) (if (i32.ne (local.get 0) (local.get 1)) (then unreachable)))";

#[test]
fn an_activation_reads_what_it_wrote_and_all_becomes_durable_at_its_end() {
    let bytes = module(&format!(
        "{IMPORTS}
         (func (export \"fulmar_timer\")
           (call $expect (call $get (i32.const 0) (i32.const 1) (i32.const 16) (i32.const 8)) (i32.const {ERR_NOT_FOUND}))
           (call $expect (call $set (i32.const 0) (i32.const 1) (i32.const 2) (i32.const 2)) (i32.const 0))
           (call $expect (call $get (i32.const 0) (i32.const 1) (i32.const 16) (i32.const 8)) (i32.const 2))
           (call $expect (i32.load16_u (i32.const 16)) (i32.load16_u (i32.const 2)))
           (call $expect (call $set (i32.const 1) (i32.const 1) (i32.const 2) (i32.const 1)) (i32.const 0))
           (call $expect (call $delete (i32.const 1) (i32.const 1)) (i32.const 0))
           (call $expect (call $get (i32.const 1) (i32.const 1) (i32.const 16) (i32.const 8)) (i32.const {ERR_NOT_FOUND}))
           (call $expect (call $delete (i32.const 1) (i32.const 1)) (i32.const {ERR_NOT_FOUND})))"
    ));
    let mut world = World::default();
    let outcome = run(&mut instance(&bytes), Activation::Timer, &mut world);
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    assert_eq!(world.commits, 1);
    assert_eq!(world.state.into_iter().collect::<vec::Vec<_>>(), [(b"a".to_vec(), b"12".to_vec())]);
}

#[test]
fn a_trap_leaves_the_state_as_it_was() {
    let bytes = module(&format!(
        "{IMPORTS}
         (func (export \"fulmar_timer\")
           (call $expect (call $set (i32.const 0) (i32.const 1) (i32.const 2) (i32.const 2)) (i32.const 0))
           (loop br 0))"
    ));
    let mut world = World::default();
    world.state.insert(b"a".to_vec(), b"old".to_vec());
    let outcome = run(&mut instance(&bytes), Activation::Timer, &mut world);
    assert!(matches!(outcome, Outcome::Trapped { cause: TrapCause::OutOfFuel, .. }));
    assert_eq!(world.state[&b"a"[..]], b"old");
    assert_eq!(world.commits, 0);
}

#[test]
fn a_state_that_cannot_be_made_durable_stops_the_function() {
    let bytes = module(&format!(
        "{IMPORTS}
         (func (export \"fulmar_timer\")
           (call $expect (call $set (i32.const 0) (i32.const 1) (i32.const 2) (i32.const 2)) (i32.const 0)))"
    ));
    let mut instance = instance(&bytes);
    let mut world = World { commit_fails: true, ..World::default() };
    let outcome = run(&mut instance, Activation::Timer, &mut world);
    assert!(matches!(outcome, Outcome::Trapped { cause: TrapCause::StateCommit, .. }));
    assert!(instance.is_dead());
}

#[test]
fn an_activation_that_writes_nothing_commits_nothing() {
    let bytes = module(&format!("{IMPORTS} (func (export \"fulmar_timer\"))"));
    let mut world = World { commit_fails: true, ..World::default() };
    assert!(matches!(run(&mut instance(&bytes), Activation::Timer, &mut world), Outcome::Done { .. }));
}

#[test]
fn a_value_longer_than_the_buffer_is_cut_and_its_length_is_told() {
    let mut probe = Probe::new("state_get", 4);
    probe.world.state.insert(b"keyword".to_vec(), vec![7; 100]);
    assert_eq!(probe.call(&[0, 7, 100, 10]), 100);
    assert_eq!(probe.call(&[0, 7, 100, 0]), 100);
}

#[test]
fn keys_and_values_have_limits() {
    let mut probe = Probe::new("state_set", 4);
    assert_eq!(probe.call(&[0, 0, 0, 1]), ERR_INVALID);
    assert_eq!(probe.call(&[0, 64, 0, 1]), 0);
    assert_eq!(probe.call(&[0, 65, 0, 1]), ERR_TOO_LONG);
    assert_eq!(probe.call(&[0, 7, 0, 4096]), 0);
    assert_eq!(probe.call(&[0, 7, 0, 4097]), ERR_TOO_LONG);
    let mut probe = Probe::new("state_get", 4);
    assert_eq!(probe.call(&[0, 0, 0, 1]), ERR_INVALID);
    assert_eq!(probe.call(&[0, 65, 0, 1]), ERR_TOO_LONG);
}

#[test]
fn the_state_as_a_whole_has_a_limit_that_counts_what_it_replaces() {
    let limits = Limits { state_bytes: 100, ..Limits::LINUX };
    let mut probe = Probe::with_limits("state_set", 4, &limits);
    assert_eq!(probe.call(&[0, 7, 0, 93]), 0);
    assert_eq!(probe.call(&[0, 7, 0, 94]), ERR_QUOTA);
    assert_eq!(probe.call(&[1, 6, 0, 0]), ERR_QUOTA, "even an empty value counts for its key");
    assert_eq!(probe.call(&[0, 7, 0, 10]), 0, "shrinking is always possible");
    assert_eq!(probe.call(&[1, 6, 0, 70]), 0);
}

#[test]
fn a_state_above_a_lowered_limit_can_still_shrink() {
    let limits = Limits { state_bytes: 100, ..Limits::LINUX };
    let mut probe = Probe::with_limits("state_set", 4, &limits);
    probe.world.state.insert(b"keyword".to_vec(), vec![0; 5000]);
    assert_eq!(probe.call(&[0, 7, 0, 4000]), 0);
    assert_eq!(probe.call(&[0, 6, 0, 1]), ERR_QUOTA);
}

#[test]
fn one_activation_writes_a_bounded_number_of_keys() {
    let bytes = module(&format!(
        "{IMPORTS}
         (func (export \"fulmar_timer\") (local $i i32)
           (loop $again
             (i32.store (i32.const 100) (local.get $i))
             (call $expect
               (call $set (i32.const 100) (i32.const 4) (i32.const 0) (i32.const 1))
               (select (i32.const 0) (i32.const {ERR_QUOTA}) (i32.lt_u (local.get $i) (i32.const 5))))
             (local.set $i (i32.add (local.get $i) (i32.const 1)))
             (br_if $again (i32.lt_u (local.get $i) (i32.const 8)))))"
    ));
    let limits = Limits { state_writes_per_activation: 5, ..Limits::LINUX };
    let mut world = World::default();
    let outcome = run(&mut instance_with(&bytes, &limits), Activation::Timer, &mut world);
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    assert_eq!(world.state.len(), 5);
}
