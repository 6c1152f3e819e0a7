//! Whole frames as a receiver reads them, tags and signatures included.
#![no_main]
#[path = "../../tests/common/families.rs"]
mod families;

use families::{SCRATCH_BYTES, World, frame};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = frame(&World::new(), bytes, &mut vec![0; SCRATCH_BYTES]);
});
