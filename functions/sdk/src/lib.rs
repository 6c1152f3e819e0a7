//! The guest SDK: what a function written in Rust uses of Fulmar.
//!
//! A function is a `cdylib` for `wasm32-unknown-unknown` that exports at least one of `fulmar_start`, `fulmar_event` and
//! `fulmar_timer`. The same bytes run on a microcontroller and on Linux. The SDK must never need an allocator, and only
//! what a function calls ends up among its imports, so that it is asked for no more capabilities than it uses.
//!
//! ```ignore
//! #[unsafe(no_mangle)]
//! pub extern "C" fn fulmar_timer() {
//!     fulmar_function::log(Level::Info, b"tick");
//! }
//! ```

#![no_std]
#![deny(unsafe_op_in_unsafe_fn)]

mod sys;
mod text;

pub use text::Text;

/// Why the host did not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Not known: no wall time, no entropy yet.
    Unknown,
    /// A pointer outside the memory; safe code cannot cause it.
    Bounds,
    /// A quota is used up.
    Quota,
    /// Not allowed for this function.
    Capability,
    /// Longer than the limit.
    TooLong,
    /// No such key.
    NotFound,
    /// An argument makes no sense.
    Invalid,
    /// A code of a later ABI.
    Other(i32),
}

impl Error {
    const fn from_code(code: i32) -> Self {
        match code {
            -1 => Self::Unknown,
            -2 => Self::Bounds,
            -3 => Self::Quota,
            -4 => Self::Capability,
            -5 => Self::TooLong,
            -6 => Self::NotFound,
            -7 => Self::Invalid,
            other => Self::Other(other),
        }
    }
}

/// How important a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Someone must act.
    Error = 0,
    /// Degraded.
    Warn = 1,
    /// A change of state.
    Info = 2,
    /// Detail.
    Debug = 3,
}

/// A code as a result.
fn done(code: i32) -> Result<(), Error> {
    if code < 0 { Err(Error::from_code(code)) } else { Ok(()) }
}

/// A code as a length.
fn length(code: i32) -> Result<usize, Error> {
    usize::try_from(code).map_err(|_| Error::from_code(code))
}

/// Writes a log line. What exceeds the quota of this activation is dropped.
pub fn log(level: Level, text: &[u8]) {
    let _dropped_when_over_quota = sys::log(level as i32, text);
}

/// Emits a message to a topic of this function.
pub fn emit(topic: &str, payload: &[u8]) -> Result<(), Error> {
    done(sys::emit(topic.as_bytes(), payload))
}

/// Bytes of the event's payload.
pub fn input_len() -> usize {
    length(sys::input_len()).unwrap_or(0)
}

/// Copies the event's payload from `offset` on and returns what was copied.
pub fn input(offset: usize, out: &mut [u8]) -> &[u8] {
    let copied = length(sys::input_read(offset, out)).unwrap_or(0);
    out.get(..copied).unwrap_or_default()
}

/// Bytes of the event's topic.
pub fn input_topic_len() -> usize {
    length(sys::input_topic_len()).unwrap_or(0)
}

/// Copies the event's topic and returns what was copied.
pub fn input_topic(out: &mut [u8]) -> &[u8] {
    let copied = length(sys::input_topic_read(0, out)).unwrap_or(0);
    out.get(..copied).unwrap_or_default()
}

/// Bytes of the configuration.
pub fn config_len() -> usize {
    length(sys::config_len()).unwrap_or(0)
}

/// Copies the configuration from `offset` on and returns what was copied.
pub fn config(offset: usize, out: &mut [u8]) -> &[u8] {
    let copied = length(sys::config_read(offset, out)).unwrap_or(0);
    out.get(..copied).unwrap_or_default()
}

/// Copies what fits of a value of the state, and returns the whole length of the value.
pub fn state_get(key: &[u8], out: &mut [u8]) -> Result<usize, Error> {
    length(sys::state_get(key, out))
}

/// Sets a value of the state; durable once this activation has ended well.
pub fn state_set(key: &[u8], value: &[u8]) -> Result<(), Error> {
    done(sys::state_set(key, value))
}

/// Removes a value of the state; durable once this activation has ended well.
pub fn state_delete(key: &[u8]) -> Result<(), Error> {
    done(sys::state_delete(key))
}

/// A number of the state; zero if there is none.
pub fn state_number(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    match state_get(key, &mut bytes) {
        Ok(8) => u64::from_le_bytes(bytes),
        _ => 0,
    }
}

/// Sets a number of the state.
pub fn state_set_number(key: &[u8], number: u64) -> Result<(), Error> {
    state_set(key, &number.to_le_bytes())
}

/// Microseconds since some moment of this boot.
pub fn monotonic_us() -> u64 {
    u64::try_from(sys::time_monotonic_us()).unwrap_or(0)
}

/// Milliseconds since 1970 in UTC, if the device knows.
pub fn wall_ms() -> Option<u64> {
    u64::try_from(sys::time_wall_ms()).ok()
}

/// Fills `out` with random bytes.
pub fn random(out: &mut [u8]) -> Result<(), Error> {
    done(sys::random(out))
}

/// A panic ends the activation: the device counts it and starts the function afresh.
#[cfg(all(feature = "panic-handler", target_arch = "wasm32"))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
