//! Sizes and durations as people write them: `128KiB`, `1500ms`, `2m`. Whole numbers only, so that nothing is rounded.
//!
//! Reading is total and says what is allowed; writing gives the largest unit that loses nothing.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::time::Duration;

/// A number of bytes. Text: a whole number with `B`, `KiB`, `MiB`, `GiB` (also `Ki`, `Mi`, `Gi`), or `kB`, `MB`, `GB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// A time span in milliseconds. Text: a whole number with `ms`, `s`, `m`, `h` or `d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub u64);

/// Why a text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error(
        "{text:?} is not a size: write a whole number and a unit, for example 128KiB (B, kB, MB, GB, KiB, MiB, GiB)"
    )]
    Size { text: String },
    #[error("{text:?} is not a duration: write a whole number and a unit, for example 30s (ms, s, m, h, d)")]
    Span { text: String },
    #[error("{text:?} is too large")]
    TooLarge { text: String },
}

const SIZES: [(&str, u64); 11] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
    ("", 1),
];
const SPANS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Longest text that is repeated in a message.
const SHOWN_CHARS_MAX: usize = 40;

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

/// Number and unit; `None` when it has no such form, an error when it has but the product does not fit.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<Result<u64, QuantityError>> {
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    if digits.is_empty() {
        return None;
    }
    let value = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    Some(value.ok_or_else(|| QuantityError::TooLarge { text: shown(text) }))
}

fn print(value: u64, units: &[(&str, u64)], smallest: &str, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    let fit = units.iter().find(|(name, factor)| !name.is_empty() && value != 0 && value.is_multiple_of(*factor));
    match fit {
        Some((name, factor)) => write!(f, "{}{name}", value / factor),
        None => write!(f, "{value}{smallest}"),
    }
}

impl Size {
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        parse(text, &SIZES).unwrap_or_else(|| Err(QuantityError::Size { text: shown(text) })).map(Self)
    }
}

impl Span {
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        parse(text, &SPANS).unwrap_or_else(|| Err(QuantityError::Span { text: shown(text) })).map(Self)
    }

    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        print(self.0, &SIZES[..3], "B", f)
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        print(self.0, &SPANS, "ms", f)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

/// `value * 10^scale` in digits, exact: -215 and -1 are `-21.5`. With a power of ten where the digits would be many.
pub fn decimal(value: i64, scale: i8) -> String {
    const DIGITS_MAX: i8 = 18;
    if value == 0 || scale == 0 {
        return value.to_string();
    }
    if !(-DIGITS_MAX..=DIGITS_MAX).contains(&scale) {
        return format!("{value}e{scale}");
    }
    let (sign, digits) = (if value < 0 { "-" } else { "" }, value.unsigned_abs().to_string());
    let places = usize::from(scale.unsigned_abs());
    if scale > 0 {
        return format!("{sign}{digits}{}", "0".repeat(places));
    }
    let digits = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_survives_its_text() {
        for bytes in [0, 1, 1023, 1024, 128 * 1024, 3 << 20, 1 << 30, 1000] {
            assert_eq!(Size::parse(&Size(bytes).to_string()), Ok(Size(bytes)));
        }
        for ms in [0, 1, 999, 1000, 90_000, 3_600_000, 86_400_000] {
            assert_eq!(Span::parse(&Span(ms).to_string()), Ok(Span(ms)));
        }
        assert_eq!(Size(128 * 1024).to_string(), "128KiB");
        assert_eq!(Span(90_000).to_string(), "90s");
    }

    #[test]
    fn what_is_no_quantity_is_refused_with_the_units() {
        for text in ["", "KiB", "1.5s", "-1s", "5 s", "5S", "1kib", "٣s"] {
            assert!(Size::parse(text).is_err(), "{text}");
            assert!(Span::parse(text).is_err(), "{text}");
        }
        assert!(matches!(Size::parse("99999999999999GiB"), Err(QuantityError::TooLarge { .. })));
        assert!(matches!(Span::parse("18446744073709551615d"), Err(QuantityError::TooLarge { .. })));
        assert_eq!(Span::parse("30"), Err(QuantityError::Span { text: "30".to_owned() }));
    }

    #[test]
    fn a_measured_value_is_written_exactly() {
        for (value, scale, text) in [
            (-215, -1, "-21.5"),
            (5, -3, "0.005"),
            (2100, -2, "21"),
            (7, 2, "700"),
            (0, 9, "0"),
            (i64::MIN, -18, "-9.223372036854775808"),
            (1, 19, "1e19"),
            (1, -128, "1e-128"),
        ] {
            assert_eq!(decimal(value, scale), text);
        }
    }
}
