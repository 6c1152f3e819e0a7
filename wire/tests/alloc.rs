//! Decoding never allocates, whatever the bytes claim: shown by an allocator that counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]
#[path = "common/corpus.rs"]
mod corpus;
#[path = "common/families.rs"]
mod families;

use corpus::{Family, Item, corpus};
use families::{Credulous, SCRATCH_BYTES, World, body, frame, provision, set_body, signed, text};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    /// Per thread: the test harness allocates on its own. Const, so that reading it allocates nothing.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // After the thread's end there is nothing to count for.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call goes to the system allocator unchanged; counting does not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

fn decode(world: &World, item: &Item, bytes: &[u8], scratch: &mut [u8]) -> bool {
    match item.family {
        Family::Frame(wire::Kind::Desired | wire::Kind::Trust) => signed(world, &Credulous, bytes, scratch).is_ok(),
        Family::Frame(_) => frame(world, bytes, scratch).is_ok(),
        Family::Text => text(bytes),
        Family::Provision => provision(bytes).is_ok(),
        Family::Set | Family::Clauses | Family::Bytes => set_body(bytes, scratch).is_ok(),
    }
}

#[test]
fn the_allocator_counts() {
    let before = allocations();
    drop(std::hint::black_box(vec![0u8; 100]));
    assert_eq!(allocations(), before + 1);
}

#[test]
fn no_decoder_allocates_for_what_is_pinned() {
    let (world, mut scratch) = (World::new(), vec![0; SCRATCH_BYTES]);
    let mut accepted = 0;
    for item in corpus() {
        let before = allocations();
        accepted += usize::from(decode(&world, &item, &item.bytes, &mut scratch));
        if let Some((kind, inner)) = item.body() {
            let _ = body(kind, inner, &mut scratch);
        }
        assert_eq!(allocations(), before, "{} {}", item.group, item.name);
    }
    assert!(accepted > 50, "{accepted}");
}

#[test]
fn no_decoder_allocates_for_what_was_bent() {
    let (world, mut scratch) = (World::new(), vec![0; SCRATCH_BYTES]);
    let lengths: [&[u8]; 4] =
        [&[0xff, 0xff, 0xff, 0xff, 0x0f], &[0x80; 10], &[0xff; 10], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]];
    for item in corpus() {
        let mut room = Vec::with_capacity(item.bytes.len() + 16);
        for at in 0..item.bytes.len() {
            for length in lengths {
                room.clear();
                room.extend_from_slice(&item.bytes[..at]);
                room.extend_from_slice(length);
                room.extend_from_slice(&item.bytes[at + 1..]);
                let before = allocations();
                let _ = decode(&world, &item, &room, &mut scratch);
                let _ = decode(&world, &item, &room[..at], &mut scratch);
                let below = item.bytes.len() - item.body().map_or(0, |(_, inner)| inner.len());
                if let (Some((kind, _)), Some(inner)) = (item.body(), room.get(below..)) {
                    let _ = body(kind, inner, &mut scratch);
                }
                assert_eq!(allocations(), before, "{} {} at {at}", item.group, item.name);
            }
        }
    }
}
