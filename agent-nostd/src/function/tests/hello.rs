//! The committed sample function does what its source says, with the limits of every class.

use super::super::{Activation, Capabilities, Instance, Limits, Module, Outcome};
use super::common::{World, run};

/// The module as it is committed and shipped.
pub const HELLO: &[u8] = include_bytes!("../../../../functions/hello/hello.wasm");

#[test]
fn hello_says_where_it_is_and_counts_its_runs() {
    for limits in [Limits::LINUX, Limits::MCU] {
        let module = Module::load(HELLO, &limits, Capabilities::STATE).unwrap();
        let mut instance = Instance::load(&module).unwrap();
        let mut world = World::default();
        assert!(matches!(run(&mut instance, Activation::Timer, &mut world), Outcome::Done { .. }));
        world.config = b"vineyard-north\n".to_vec();
        assert!(matches!(run(&mut instance, Activation::Timer, &mut world), Outcome::Done { .. }));
        assert_eq!(world.lines(), ["hello from somewhere, run 1", "hello from vineyard-north, run 2"]);
    }
}

#[test]
fn hello_goes_on_counting_after_a_restart() {
    let module = Module::load(HELLO, &Limits::MCU, Capabilities::STATE).unwrap();
    let mut world = World::default();
    world.state.insert(b"runs".to_vec(), 4_294_967_295_u64.to_le_bytes().to_vec());
    for _ in 0..2 {
        let mut instance = Instance::load(&module).unwrap();
        assert!(matches!(run(&mut instance, Activation::Timer, &mut world), Outcome::Done { .. }));
    }
    assert_eq!(world.lines(), ["hello from somewhere, run 4294967296", "hello from somewhere, run 4294967297"]);
    assert_eq!(world.commits, 2);
}

#[test]
fn hello_is_small_and_asks_for_nothing_but_state() {
    let info = Module::check(HELLO, &Limits::MCU, Capabilities::STATE).unwrap();
    assert_eq!(info.needs, Capabilities::STATE);
    assert_eq!(info.page_bytes, 1);
    assert!(info.memory_bytes <= 2048, "{info:?}");
    assert_eq!(info.entries, [false, false, true, false]);
    assert!(HELLO.len() <= 2048);
}
