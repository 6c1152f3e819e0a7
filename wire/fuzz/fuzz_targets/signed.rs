//! Desired headers and trust links, behind a verifier that believes everything.
#![no_main]
#[path = "../../tests/common/families.rs"]
mod families;

use families::{Credulous, SCRATCH_BYTES, World, signed};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = signed(&World::new(), &Credulous, bytes, &mut vec![0; SCRATCH_BYTES]);
});
