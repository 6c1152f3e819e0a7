//! Says when a value goes up to a limit and when it comes back below another, and nothing in between.
//!
//! Trigger: a topic with readings. Capabilities: `emit`, `state` (whether the last word was "on" survives restarts, so that
//! nothing is said twice). A reading is a number as text, or a field of a JSON object. It must never emit without a change.
//!
//! Configuration, entries of `key=value` on lines or behind semicolons:
//!
//! | key | meaning | when absent |
//! |---|---|---|
//! | `high` | at or above it: `on` | required |
//! | `low` | below it: `off`; at most `high` | as `high`: no hysteresis |
//! | `field` | name of the JSON field with the reading | the whole payload is the number |
//! | `topic` | where `on` and `off` are emitted | `threshold` |
//!
//! Numbers count to six decimals. Before the first word it is off: a first reading below `high` emits nothing.

#![no_std]

use fulmar_function::{
    Entries, Level, Local, Text, emit_or_log, log, log_failure, number_in, parse_fixed, payload, settings, state_flag,
    state_set_flag,
};

/// Decimals of a reading that count.
const DECIMALS: u32 = 6;
/// Bytes of the configuration.
const CONFIG_BYTES: usize = 256;
/// Bytes of a reading.
const PAYLOAD_BYTES: usize = 512;
/// Where the last word is kept.
const IS_ON: &[u8] = b"on";
/// All keys of the configuration.
const KEYS: [&[u8]; 4] = [b"high", b"low", b"field", b"topic"];

/// The once it is read.
struct Settings {
    high: i64,
    low: i64,
    field: Option<Text<32>>,
    topic: Text<64>,
}

static SETTINGS: Local<Option<Settings>> = Local::new(None);

impl Settings {
    fn read(entries: Entries<'_>) -> Result<Self, &'static str> {
        if entries.unknown(&KEYS).is_some() {
            return Err("an unknown setting: known are high, low, field and topic");
        }
        let number = |key| entries.get(key).map(|text| parse_fixed(text, DECIMALS));
        let high = number(b"high").flatten().ok_or("high must be a number: write for example high=30")?;
        let low = number(b"low").unwrap_or(Some(high)).ok_or("low must be a number: write for example low=28")?;
        if low > high {
            return Err("low must not be above high");
        }
        let field =
            entries.get(b"field").map(|name| Text::whole(name).ok_or("field is longer than 32 bytes")).transpose()?;
        let topic =
            Text::whole(entries.get(b"topic").unwrap_or(b"threshold")).ok_or("topic is longer than 64 bytes")?;
        Ok(Self { high, low, field, topic })
    }
}

/// Reads the configuration.
#[unsafe(no_mangle)]
pub extern "C" fn fulmar_start() {
    SETTINGS.set(settings::<CONFIG_BYTES, _>(Settings::read));
}

/// A reading.
#[unsafe(no_mangle)]
pub extern "C" fn fulmar_event() {
    SETTINGS.with(|settings| {
        // Without a configuration nothing can be decided; that was said at the start.
        let Some(settings) = settings else { return };
        let mut bytes = [0; PAYLOAD_BYTES];
        let field = settings.field.as_ref().map(Text::as_bytes);
        let Some(value) = payload(&mut bytes).and_then(|reading| number_in(reading, field, DECIMALS)) else {
            return log(Level::Warn, "a reading without a number was ignored");
        };
        let was_on = state_flag(IS_ON);
        let is_on = if was_on { value >= settings.low } else { value >= settings.high };
        // What could not be emitted is tried again with the next reading.
        if is_on != was_on && emit_or_log(&settings.topic, if is_on { "on" } else { "off" }) {
            if let Err(error) = state_set_flag(IS_ON, is_on) {
                log_failure("the change may be emitted again", error);
            }
        }
    });
}
