//! The guest SDK: what a function written in Rust uses of Fulmar.
//!
//! A function is a `cdylib` for `wasm32-unknown-unknown` that exports at least one of `fulmar_start`, `fulmar_event` and
//! `fulmar_timer`. The same bytes run on a microcontroller and on Linux. The SDK must never need an allocator, and only
//! what a function calls ends up among its imports, so that it is asked for no more capabilities than it uses.
//!
//! ```
//! use fulmar_function::Level;
//!
//! #[unsafe(no_mangle)]
//! pub extern "C" fn fulmar_timer() {
//!     fulmar_function::log(Level::Info, b"tick");
//! }
//! ```

#![no_std]
#![deny(unsafe_op_in_unsafe_fn)]

mod entries;
pub mod hardware;
mod json;
mod local;
mod number;
mod position;
mod state;
#[cfg(target_arch = "wasm32")]
mod sys;
#[cfg(not(target_arch = "wasm32"))]
#[path = "sys_none.rs"]
mod sys;
mod text;

pub use entries::Entries;
pub use json::json_field;
pub use local::Local;
pub use number::{parse_fixed, parse_integer};
pub use position::{LATITUDE_E7_MAX, LONGITUDE_E7_MAX, Position};
pub use state::{state_delete, state_flag, state_get, state_number, state_set, state_set_flag, state_set_number};
pub use text::Text;

/// Why the host did not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Not known: no wall time, no entropy yet; the hardware does not answer.
    Unknown,
    /// A pointer outside the memory; safe code cannot cause it.
    Bounds,
    /// A quota is used up.
    Quota,
    /// Not allowed for this function.
    Capability,
    /// Longer than the limit.
    TooLong,
    /// No such key; no such pin or bus on this board.
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

    /// The error in words, for a log line.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::Unknown => "not known",
            Self::Bounds => "outside the memory",
            Self::Quota => "a quota is used up",
            Self::Capability => "not allowed here",
            Self::TooLong => "too long",
            Self::NotFound => "not found",
            Self::Invalid => "not valid",
            Self::Other(_) => "an error of a later version",
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
pub fn log(level: Level, text: impl AsRef<[u8]>) {
    let _dropped_when_over_quota = sys::log(level as i32, text.as_ref());
}

/// Logs that something did not work, and why.
pub fn log_failure(what: &str, error: Error) {
    log(Level::Warn, Text::<96>::new().with(what.as_bytes()).with(b": ").with(error.why().as_bytes()));
}

/// Emits a message to a topic of this function.
pub fn emit(topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> Result<(), Error> {
    done(sys::emit(topic.as_ref(), payload.as_ref()))
}

/// Emits a message, and logs why when that does not work. Returns whether it went out.
pub fn emit_or_log(topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> bool {
    emit(topic, payload).inspect_err(|error| log_failure("nothing was emitted", *error)).is_ok()
}

/// Raises an alarm: kept on the device, over resets, until the hub has taken it. When there is no room for it, it is refused and
/// counted.
pub fn alarm(key: impl AsRef<[u8]>, text: impl AsRef<[u8]>) -> Result<(), Error> {
    done(sys::alarm(key.as_ref(), text.as_ref()))
}

/// Reports a state: the latest text of a key is what the hub gets.
pub fn report(key: impl AsRef<[u8]>, text: impl AsRef<[u8]>) -> Result<(), Error> {
    done(sys::report(key.as_ref(), text.as_ref()))
}

/// Keeps a measured value, `value * 10^scale`, until the hub can be told; the oldest give way.
pub fn measure(key: impl AsRef<[u8]>, value: i64, scale: i8) -> Result<(), Error> {
    done(sys::measure(key.as_ref(), value, i32::from(scale)))
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

/// The whole payload of the event, or none when it is longer than `out`: half a payload is worse than none.
pub fn payload(out: &mut [u8]) -> Option<&[u8]> {
    if input_len() > out.len() { None } else { Some(input(0, out)) }
}

/// The number that a payload means, in units of 10^-`decimals`: the whole payload as text, or `field` of a JSON object.
pub fn number_in(payload: &[u8], field: Option<&[u8]>, decimals: u32) -> Option<i64> {
    match field {
        None => parse_fixed(payload, decimals),
        Some(field) => parse_fixed(json_field(payload, field)?, decimals),
    }
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

/// Reads the configuration, of at most `N` bytes, as entries. When it is no good, that is logged and there are no settings.
///
/// Call it in `fulmar_start`: an operator then sees what is wrong when the function starts, and only once.
pub fn settings<const N: usize, T>(read: impl FnOnce(Entries<'_>) -> Result<T, &'static str>) -> Option<T> {
    let mut bytes = [0; N];
    let result = if config_len() > N {
        Err("it is longer than this function reads")
    } else {
        read(Entries::new(config(0, &mut bytes)))
    };
    match result {
        Ok(settings) => Some(settings),
        Err(why) => {
            log(Level::Error, Text::<160>::new().with(b"the configuration is refused: ").with(why.as_bytes()));
            None
        }
    }
}

/// Microseconds since some moment of this boot.
pub fn monotonic_us() -> u64 {
    u64::try_from(sys::time_monotonic_us()).unwrap_or(0)
}

/// Milliseconds since 1970 in UTC, if the device knows.
pub fn wall_ms() -> Option<u64> {
    u64::try_from(sys::time_wall_ms()).ok()
}

/// The fence of the right under which exclusive work runs; `None`: the work is not exclusive.
///
/// Whatever the function acts on should keep the highest fence that it has seen and refuse a lower one: that is what keeps an
/// instance out that has lost its right and does not know it yet. Fences compare as numbers.
pub fn fence() -> Option<u64> {
    u64::try_from(sys::fence()).ok().filter(|fence| *fence > 0)
}

/// Milliseconds since the hub was last asked with success; `None`: not since the device started.
pub fn freshness_ms() -> Option<u64> {
    u64::try_from(sys::freshness()).ok()
}

/// Whether the hub was not heard for so long that the function is to do less than usual.
pub fn is_degraded() -> bool {
    sys::degraded() > 0
}

/// Fills `out` with random bytes.
pub fn random(out: &mut [u8]) -> Result<(), Error> {
    done(sys::random(out))
}

/// A panic ends the activation: the device counts it and starts the function afresh.
#[cfg(all(feature = "panic-handler", target_arch = "wasm32"))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    sys::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_a_number_or_has_one() {
        assert_eq!(number_in(b" 21.5\n", None, 3), Some(21_500));
        assert_eq!(number_in(br#"{"id":7,"value":21.5}"#, Some(b"value"), 3), Some(21_500));
        assert_eq!(number_in(br#"{"value":"21.5"}"#, Some(b"value"), 3), None);
        assert_eq!(number_in(b"21.5", Some(b"value"), 3), None);
        assert_eq!(number_in(br#"{"value":21.5}"#, None, 3), None);
        assert_eq!(number_in(b"", None, 3), None);
    }

    #[test]
    fn every_code_of_the_abi_has_its_error() {
        let errors = [-1, -2, -3, -4, -5, -6, -7, -8].map(Error::from_code);
        let expected = [
            Error::Unknown,
            Error::Bounds,
            Error::Quota,
            Error::Capability,
            Error::TooLong,
            Error::NotFound,
            Error::Invalid,
            Error::Other(-8),
        ];
        assert_eq!(errors, expected);
        assert_eq!((done(0), done(-3), length(5)), (Ok(()), Err(Error::Quota), Ok(5)));
    }
}
