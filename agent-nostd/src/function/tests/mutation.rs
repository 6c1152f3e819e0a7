//! Hostile modules by the thousand: every truncation, every flipped bit, and seeded mutations (W7).
//!
//! What is shown: nothing panics, nothing runs longer than its fuel, nothing grows beyond its memory, whatever the bytes.

use super::super::{Activation, Instance, Limits, Module, Outcome};
use super::common::{ALL, World, module};
use super::hello::HELLO;
use alloc::vec::Vec;

/// Small enough that tens of thousands of modules are tried in seconds.
const LIMITS: Limits = Limits {
    memory_bytes: 128 * 1024,
    fuel_per_activation: 20_000,
    fuel_per_slice: 5_000,
    host_calls_per_activation: 100,
    ..Limits::MCU
};

/// A module with something in every section.
fn rich() -> Vec<u8> {
    module(
        "(type $binary (func (param i32 i32) (result i32)))
         (import \"fulmar\" \"log\" (func $log (param i32 i32 i32) (result i32)))
         (import \"fulmar\" \"state_set\" (func $set (param i32 i32 i32 i32) (result i32)))
         (table $t 4 8 funcref)
         (memory (export \"memory\") 512 4096 (pagesize 1))
         (global $g (mut i64) (i64.const 7))
         (elem (i32.const 1) $add $div)
         (data (i32.const 8) \"some data\")
         (func $add (type $binary) (i32.add (local.get 0) (local.get 1)))
         (func $div (type $binary) (i32.div_s (local.get 0) (local.get 1)))
         (func $init (global.set $g (i64.const 9)))
         (start $init)
         (func (export \"fulmar_timer\") (local $i i32) (local $x f64)
           (loop $again
             (drop (call_indirect $t (type $binary) (local.get $i) (i32.const 3) (i32.const 1)))
             (local.set $x (f64.sqrt (f64.convert_i32_s (local.get $i))))
             (drop (call $log (i32.const 1) (i32.const 8) (local.get $i)))
             (drop (call $set (i32.const 8) (i32.const 4) (i32.const 8) (local.get $i)))
             (drop (memory.grow (i32.const 64)))
             (memory.copy (i32.const 100) (i32.const 8) (local.get $i))
             (local.set $i (i32.add (local.get $i) (i32.const 1)))
             (br_if $again (i32.lt_u (local.get $i) (i32.const 9))))
           (block $a (block $b (br_table $a $b (local.get $i)))))",
    )
}

/// Loads and runs whatever the bytes are; true if they could be loaded.
fn survive(bytes: &[u8]) -> bool {
    let Ok(module) = Module::load(bytes, &LIMITS, ALL) else {
        return false;
    };
    let Ok(mut instance) = Instance::load(&module) else {
        return true;
    };
    let mut world = World::default();
    for activation in [Activation::Start, Activation::Timer, Activation::Stop] {
        let mut outcome = instance.activate(activation, &mut world);
        let mut slices = 1;
        while let Outcome::Yielded { fuel_used } = outcome {
            assert!(fuel_used <= LIMITS.fuel_per_activation);
            slices += 1;
            assert!(slices <= 40, "an activation must end");
            outcome = instance.resume(&mut world);
        }
    }
    assert!(instance.memory_bytes() <= LIMITS.memory_bytes);
    assert!(world.logs.len() <= 300);
    true
}

#[test]
fn w7_every_truncated_module_is_refused() {
    for end in 0..HELLO.len() {
        assert!(Module::load(&HELLO[..end], &LIMITS, ALL).is_err(), "the first {end} bytes");
    }
    let rich = rich();
    assert!(survive(HELLO) && survive(&rich));
    let accepted = (0..rich.len()).filter(|end| survive(&rich[..*end])).count();
    assert_eq!(accepted, 1, "only the cut before the trailing section of names leaves a whole module");
}

#[test]
fn w7_no_flipped_bit_does_harm() {
    for bytes in [HELLO.to_vec(), rich()] {
        let mut loaded = 0_usize;
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            loaded += usize::from(survive(&flipped));
        }
        assert!(loaded > bytes.len() / 4, "flips in constants must reach the interpreter: {loaded}");
    }
}

/// xorshift64*: a fixed seed names a run.
struct Seed(u64);

impl Seed {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(value).unwrap() % below.max(1)
    }
}

#[test]
fn w7_no_mutation_does_harm() {
    const MUTATIONS: usize = 30_000;
    const INTERESTING: [u8; 10] = [0x00, 0x01, 0x7f, 0x80, 0xff, 0x0b, 0x10, 0x41, 0xfc, 0xfd];
    let sources = [HELLO.to_vec(), rich()];
    let mut seed = Seed(0x0f01_3a12_77c5_0001);
    let mut loaded = 0_usize;
    for _ in 0..MUTATIONS {
        let mut bytes = sources[seed.next(sources.len())].clone();
        for _ in 0..=seed.next(3) {
            let at = seed.next(bytes.len());
            match seed.next(6) {
                0 => bytes[at] = u8::try_from(seed.next(256)).unwrap(),
                1 => bytes[at] = INTERESTING[seed.next(INTERESTING.len())],
                2 => bytes.insert(at, u8::try_from(seed.next(256)).unwrap()),
                3 => {
                    bytes.remove(at);
                }
                4 => bytes[at] = bytes[at].wrapping_add(1),
                _ => {
                    let end = (at + 1 + seed.next(16)).min(bytes.len());
                    let part = bytes[at..end].to_vec();
                    let to = seed.next(bytes.len());
                    bytes.splice(to..to, part);
                }
            }
        }
        loaded += usize::from(survive(&bytes));
    }
    assert!(loaded > MUTATIONS / 100, "mutations must reach the interpreter: {loaded}");
}
