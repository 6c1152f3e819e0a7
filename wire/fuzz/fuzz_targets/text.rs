//! Identifiers, join tokens and topics as text.
#![no_main]
#[path = "../../tests/common/families.rs"]
mod families;

use families::text;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    text(bytes);
});
