//! How much heap a function takes, measured: a microcontroller counts with it before it starts one.
#![cfg(feature = "wasm")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

use agent_nostd::function::{
    Activation, Capabilities, CommitError, EmitError, Host, Instance, Level, Limits, Module, Outcome, RandomError,
    StateChange, TellError, heap_bytes,
};
use agent_nostd::machine::port::Telling;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    /// Bytes in use, and the most that were: per thread, because the test harness allocates on its own.
    static USED: Cell<(i64, i64)> = const { Cell::new((0, 0)) };
}

fn count(bytes: i64) {
    // After the thread's end there is nothing to count for.
    let _ = USED.try_with(|used| {
        let (now, peak) = used.get();
        used.set((now + bytes, peak.max(now + bytes)));
    });
}

fn size(layout: Layout) -> i64 {
    i64::try_from(layout.size()).unwrap_or(0)
}

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(size(layout));
        // SAFETY: the caller's contract is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-size(layout));
        // SAFETY: the caller's contract is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

/// A device that has nothing and takes everything.
struct Nobody;

impl Host for Nobody {
    fn log(&mut self, _: Level, _: &[u8]) {}

    fn emit(&mut self, _: &str, _: &[u8]) -> Result<(), EmitError> {
        Ok(())
    }

    fn tell(&mut self, _: &Telling<'_>) -> Result<(), TellError> {
        Ok(())
    }

    fn config(&self) -> &[u8] {
        b"{}"
    }

    fn state_get(&mut self, _: &[u8], _: &mut [u8]) -> Option<u32> {
        None
    }

    fn state_size(&self) -> u32 {
        0
    }

    fn state_commit(&mut self, _: &[StateChange<'_>]) -> Result<(), CommitError> {
        Ok(())
    }

    fn monotonic_us(&mut self) -> u64 {
        1
    }

    fn wall_ms(&mut self) -> Option<u64> {
        None
    }

    fn fence(&mut self) -> u64 {
        0
    }

    fn freshness_ms(&mut self) -> Option<u64> {
        None
    }

    fn is_degraded(&mut self) -> bool {
        false
    }

    fn may_go_on(&mut self) -> bool {
        true
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), RandomError> {
        out.fill(7);
        Ok(())
    }
}

const SAMPLES: [(&str, &[u8]); 5] = [
    ("hello", include_bytes!("../../functions/hello/hello.wasm")),
    ("counter", include_bytes!("../../functions/counter/counter.wasm")),
    ("geofence", include_bytes!("../../functions/geofence/geofence.wasm")),
    ("rolling", include_bytes!("../../functions/rolling/rolling.wasm")),
    ("threshold", include_bytes!("../../functions/threshold/threshold.wasm")),
];

/// From loading to the end of its activations, with the module's own bytes beside it while it is loaded.
fn peak_of(bytes: &[u8], limits: &Limits) -> u64 {
    USED.set((0, 0));
    let copy = bytes.to_vec();
    let module = Module::load(&copy, limits, Capabilities::DEFAULT).unwrap();
    drop(copy);
    let mut instance = Instance::load(&module).unwrap();
    for activation in [Activation::Start, Activation::Timer, Activation::Event { topic: "t", payload: b"1" }] {
        let mut outcome = instance.activate(activation, &mut Nobody);
        while matches!(outcome, Outcome::Yielded { .. }) {
            outcome = instance.resume(&mut Nobody);
        }
    }
    u64::try_from(USED.get().1).unwrap()
}

/// Pointers of 64 bits make it more than on a microcontroller.
#[test]
fn a_function_takes_no_more_heap_than_is_counted_for_it() {
    let limits = Limits { memory_bytes: 16 * 1024, ..Limits::MCU };
    for (name, bytes) in SAMPLES {
        let peak = peak_of(bytes, &limits);
        let counted = heap_bytes(u32::try_from(bytes.len()).unwrap(), limits.memory_bytes, 1);
        println!("{name}: {} bytes of module, {peak} of heap at most, {counted} counted", bytes.len());
        assert!(peak <= counted, "{name}: {peak} > {counted}");
        // Counted too high, less would run than could.
        assert!(counted <= peak * 4, "{name}: {peak} << {counted}");
    }
}
