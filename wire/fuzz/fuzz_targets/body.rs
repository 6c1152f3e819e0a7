//! Bodies below their tags; the first byte chooses the kind.
#![no_main]
#[path = "../../tests/common/families.rs"]
mod families;

use families::{SCRATCH_BYTES, body};
use wire::Kind;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some((first, rest)) = bytes.split_first() {
        let kind = Kind::ALL[usize::from(*first) % Kind::ALL.len()];
        let _ = body(kind, rest, &mut vec![0; SCRATCH_BYTES]);
    }
});
