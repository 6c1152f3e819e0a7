//! The imports of module `fulmar`, ABI version 1, as they are; `docs/functions.md` is their reference.
//!
//! With `local.rs` the only file with `unsafe`: everything else goes through the safe wrappers here, which pass nothing but the pointer and
//! length of a slice that outlives the call. The host copies and keeps no pointer.

/// The ABI version, read by the device before it runs anything.
#[used]
#[unsafe(link_section = "fulmar.abi")]
static ABI_VERSION: [u8; 1] = [1];

mod raw {
    #[link(wasm_import_module = "fulmar")]
    unsafe extern "C" {
        pub fn log(level: i32, ptr: *const u8, len: usize) -> i32;
        pub fn emit(topic: *const u8, topic_len: usize, ptr: *const u8, len: usize) -> i32;
        pub fn input_len() -> i32;
        pub fn input_read(offset: usize, ptr: *mut u8, cap: usize) -> i32;
        pub fn input_topic_len() -> i32;
        pub fn input_topic_read(offset: usize, ptr: *mut u8, cap: usize) -> i32;
        pub fn config_len() -> i32;
        pub fn config_read(offset: usize, ptr: *mut u8, cap: usize) -> i32;
        pub fn state_get(key: *const u8, key_len: usize, out: *mut u8, cap: usize) -> i32;
        pub fn state_set(key: *const u8, key_len: usize, ptr: *const u8, len: usize) -> i32;
        pub fn state_delete(key: *const u8, key_len: usize) -> i32;
        pub fn time_monotonic_us() -> i64;
        pub fn time_wall_ms() -> i64;
        pub fn random(ptr: *mut u8, len: usize) -> i32;
        pub fn fence() -> i64;
        pub fn freshness() -> i64;
        pub fn degraded() -> i32;
        pub fn alarm(key: *const u8, key_len: usize, ptr: *const u8, len: usize) -> i32;
        pub fn report(key: *const u8, key_len: usize, ptr: *const u8, len: usize) -> i32;
        pub fn measure(key: *const u8, key_len: usize, value: i64, scale: i32) -> i32;
        pub fn gpio_read(handle: u32) -> i32;
        pub fn gpio_write(handle: u32, level: i32) -> i32;
        pub fn adc_read(handle: u32) -> i32;
        pub fn pwm_set(handle: u32, duty: u32) -> i32;
        pub fn i2c_write_read(handle: u32, address: u32, out: *const u8, out_len: usize, into: *mut u8, cap: usize) -> i32;
    }
}

/// Ends the activation as a trap.
pub(crate) fn abort() -> ! {
    core::arch::wasm32::unreachable()
}

pub(crate) fn log(level: i32, text: &[u8]) -> i32 {
    // SAFETY: pointer and length of one live slice, read during the call only.
    unsafe { raw::log(level, text.as_ptr(), text.len()) }
}

pub(crate) fn emit(topic: &[u8], payload: &[u8]) -> i32 {
    // SAFETY: pointers and lengths of two live slices, read during the call only.
    unsafe { raw::emit(topic.as_ptr(), topic.len(), payload.as_ptr(), payload.len()) }
}

pub(crate) fn input_len() -> i32 {
    // SAFETY: no arguments.
    unsafe { raw::input_len() }
}

pub(crate) fn input_read(offset: usize, out: &mut [u8]) -> i32 {
    // SAFETY: pointer and length of one live exclusive slice, written during the call only.
    unsafe { raw::input_read(offset, out.as_mut_ptr(), out.len()) }
}

pub(crate) fn input_topic_len() -> i32 {
    // SAFETY: no arguments.
    unsafe { raw::input_topic_len() }
}

pub(crate) fn input_topic_read(offset: usize, out: &mut [u8]) -> i32 {
    // SAFETY: pointer and length of one live exclusive slice, written during the call only.
    unsafe { raw::input_topic_read(offset, out.as_mut_ptr(), out.len()) }
}

pub(crate) fn config_len() -> i32 {
    // SAFETY: no arguments.
    unsafe { raw::config_len() }
}

pub(crate) fn config_read(offset: usize, out: &mut [u8]) -> i32 {
    // SAFETY: pointer and length of one live exclusive slice, written during the call only.
    unsafe { raw::config_read(offset, out.as_mut_ptr(), out.len()) }
}

pub(crate) fn state_get(key: &[u8], out: &mut [u8]) -> i32 {
    // SAFETY: a live slice to read and a live exclusive slice to write, during the call only.
    unsafe { raw::state_get(key.as_ptr(), key.len(), out.as_mut_ptr(), out.len()) }
}

pub(crate) fn state_set(key: &[u8], value: &[u8]) -> i32 {
    // SAFETY: pointers and lengths of two live slices, read during the call only.
    unsafe { raw::state_set(key.as_ptr(), key.len(), value.as_ptr(), value.len()) }
}

pub(crate) fn state_delete(key: &[u8]) -> i32 {
    // SAFETY: pointer and length of one live slice, read during the call only.
    unsafe { raw::state_delete(key.as_ptr(), key.len()) }
}

pub(crate) fn time_monotonic_us() -> i64 {
    // SAFETY: no arguments.
    unsafe { raw::time_monotonic_us() }
}

pub(crate) fn time_wall_ms() -> i64 {
    // SAFETY: no arguments.
    unsafe { raw::time_wall_ms() }
}

pub(crate) fn random(out: &mut [u8]) -> i32 {
    // SAFETY: pointer and length of one live exclusive slice, written during the call only.
    unsafe { raw::random(out.as_mut_ptr(), out.len()) }
}

pub(crate) fn fence() -> i64 {
    // SAFETY: no arguments.
    unsafe { raw::fence() }
}

pub(crate) fn freshness() -> i64 {
    // SAFETY: no arguments.
    unsafe { raw::freshness() }
}

pub(crate) fn degraded() -> i32 {
    // SAFETY: no arguments.
    unsafe { raw::degraded() }
}

pub(crate) fn alarm(key: &[u8], text: &[u8]) -> i32 {
    // SAFETY: pointers and lengths of two live slices, read during the call only.
    unsafe { raw::alarm(key.as_ptr(), key.len(), text.as_ptr(), text.len()) }
}

pub(crate) fn report(key: &[u8], text: &[u8]) -> i32 {
    // SAFETY: pointers and lengths of two live slices, read during the call only.
    unsafe { raw::report(key.as_ptr(), key.len(), text.as_ptr(), text.len()) }
}

pub(crate) fn measure(key: &[u8], value: i64, scale: i32) -> i32 {
    // SAFETY: pointer and length of one live slice, read during the call only.
    unsafe { raw::measure(key.as_ptr(), key.len(), value, scale) }
}

pub(crate) fn gpio_read(handle: u16) -> i32 {
    // SAFETY: numbers alone.
    unsafe { raw::gpio_read(u32::from(handle)) }
}

pub(crate) fn gpio_write(handle: u16, level: i32) -> i32 {
    // SAFETY: numbers alone.
    unsafe { raw::gpio_write(u32::from(handle), level) }
}

pub(crate) fn adc_read(handle: u16) -> i32 {
    // SAFETY: numbers alone.
    unsafe { raw::adc_read(u32::from(handle)) }
}

pub(crate) fn pwm_set(handle: u16, duty: u16) -> i32 {
    // SAFETY: numbers alone.
    unsafe { raw::pwm_set(u32::from(handle), u32::from(duty)) }
}

pub(crate) fn i2c_write_read(handle: u16, address: u8, out: &[u8], into: &mut [u8]) -> i32 {
    let (handle, address) = (u32::from(handle), u32::from(address));
    // SAFETY: a live slice to read and a live exclusive slice to write, during the call only.
    unsafe { raw::i2c_write_read(handle, address, out.as_ptr(), out.len(), into.as_mut_ptr(), into.len()) }
}
