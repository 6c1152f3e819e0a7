//! Mean, least and greatest of the last values, after every value.
//!
//! Trigger: a topic with readings. Capability: `emit`. A reading is a number as text, or a field of a JSON object. The window is
//! kept in memory and starts empty after a restart: writing every reading to flash would wear it out. It must never use floats.
//!
//! Configuration, entries of `key=value` on lines or behind semicolons:
//!
//! | key | meaning | when absent |
//! |---|---|---|
//! | `window` | how many values, 1 to 64 | 10 |
//! | `decimals` | decimals that count, 0 to 9 | 3 |
//! | `field` | name of the JSON field with the reading | the whole payload is the number |
//! | `topic` | where the result is emitted | `rolling` |
//!
//! It emits `{"count":3,"mean":21.5,"min":20,"max":23}`. The mean is rounded to `decimals`, halves away from zero.

#![no_std]

use fulmar_function::{Entries, Level, Local, Text, emit_or_log, log, number_in, parse_integer, payload, settings};

/// Values in the largest window.
const WINDOW_MAX: usize = 64;
/// Values in the window when nothing is configured.
const WINDOW: usize = 10;
/// Decimals when nothing is configured.
const DECIMALS: u32 = 3;
/// Most decimals.
const DECIMALS_MAX: i64 = 9;
/// Greatest magnitude of a value, in its units: twice the sum of a full window of them is still a number, with room to round.
const VALUE_MAX: i64 = i64::MAX / (4 * WINDOW_MAX as i64);
/// Bytes of the configuration.
const CONFIG_BYTES: usize = 256;
/// Bytes of a reading.
const PAYLOAD_BYTES: usize = 512;
/// All keys of the configuration.
const KEYS: [&[u8]; 4] = [b"window", b"decimals", b"field", b"topic"];

/// The once it is read.
struct Settings {
    window: usize,
    decimals: u32,
    field: Option<Text<32>>,
    topic: Text<64>,
}

/// The last values; the oldest is overwritten.
struct Window {
    values: [i64; WINDOW_MAX],
    count: usize,
    next: usize,
}

static SETTINGS: Local<Option<Settings>> = Local::new(None);
static WINDOW_NOW: Local<Window> = Local::new(Window { values: [0; WINDOW_MAX], count: 0, next: 0 });

/// A whole number of the configuration in a range.
fn number(text: Option<&[u8]>, default: i64, range: core::ops::RangeInclusive<i64>) -> Option<i64> {
    text.map_or(Some(default), parse_integer).filter(|value| range.contains(value))
}

impl Settings {
    fn read(entries: Entries<'_>) -> Result<Self, &'static str> {
        if entries.unknown(&KEYS).is_some() {
            return Err("an unknown setting: known are window, decimals, field and topic");
        }
        let window = number(entries.get(b"window"), WINDOW as i64, 1..=WINDOW_MAX as i64)
            .and_then(|window| usize::try_from(window).ok())
            .ok_or("window must be a whole number from 1 to 64")?;
        let decimals = number(entries.get(b"decimals"), i64::from(DECIMALS), 0..=DECIMALS_MAX)
            .and_then(|decimals| u32::try_from(decimals).ok())
            .ok_or("decimals must be a whole number from 0 to 9")?;
        let field =
            entries.get(b"field").map(|name| Text::whole(name).ok_or("field is longer than 32 bytes")).transpose()?;
        let topic = Text::whole(entries.get(b"topic").unwrap_or(b"rolling")).ok_or("topic is longer than 64 bytes")?;
        Ok(Self { window, decimals, field, topic })
    }
}

impl Window {
    fn add(&mut self, value: i64, len: usize) {
        if let Some(slot) = self.values.get_mut(self.next) {
            *slot = value;
        }
        self.next = if self.next + 1 < len { self.next + 1 } else { 0 };
        self.count = len.min(self.count + 1);
    }

    fn values(&self) -> &[i64] {
        self.values.get(..self.count).unwrap_or_default()
    }

    /// The mean in the units of the values, halves away from zero.
    fn mean(&self) -> i64 {
        let count = (self.count as i64).max(1);
        let sum: i64 = self.values().iter().sum();
        (2 * sum + sum.signum() * count) / (2 * count)
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
        let decimals = settings.decimals;
        let mut bytes = [0; PAYLOAD_BYTES];
        let field = settings.field.as_ref().map(Text::as_bytes);
        let value = payload(&mut bytes)
            .and_then(|reading| number_in(reading, field, decimals))
            .filter(|value| (-VALUE_MAX..=VALUE_MAX).contains(value));
        let Some(value) = value else {
            return log(Level::Warn, "a reading without a number, or with too large a number, was ignored");
        };
        WINDOW_NOW.with(|window| {
            window.add(value, settings.window);
            let values = window.values();
            let (min, max) = values.iter().fold((value, value), |(min, max), v| (min.min(*v), max.max(*v)));
            let result = Text::<128>::new()
                .with(b"{\"count\":")
                .with_number(values.len() as u64)
                .with(b",\"mean\":")
                .with_fixed(window.mean(), decimals)
                .with(b",\"min\":")
                .with_fixed(min, decimals)
                .with(b",\"max\":")
                .with_fixed(max, decimals)
                .with(b"}");
            emit_or_log(&settings.topic, result);
        });
    });
}
