//! Bodies of desired sets: records and clauses.
#![no_main]
#[path = "../../tests/common/families.rs"]
mod families;

use families::{SCRATCH_BYTES, set_body};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = set_body(bytes, &mut vec![0; SCRATCH_BYTES]);
});
