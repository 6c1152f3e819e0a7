//! A place on Earth in whole 1e-7 degrees, as everywhere in Fulmar: about a centimetre, exact, the same on every device.
//!
//! It must never move a place: what is not on Earth is refused, not wrapped.

use crate::entries::split;
use crate::json::json_field;
use crate::number::parse_fixed;

/// Decimals of a degree that count.
const DEGREE_DECIMALS: u32 = 7;
/// The poles.
pub const LATITUDE_E7_MAX: i32 = 900_000_000;
/// The antimeridian.
pub const LONGITUDE_E7_MAX: i32 = 1_800_000_000;

/// A place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// North of the equator, in 1e-7 degrees.
    pub latitude_e7: i32,
    /// East of Greenwich, in 1e-7 degrees.
    pub longitude_e7: i32,
}

impl Position {
    /// Reads `latitude,longitude` in degrees, or a JSON object with the fields `latitude` and `longitude`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (latitude, longitude) = match text.trim_ascii_start() {
            [b'{', ..] => (json_field(text, b"latitude")?, json_field(text, b"longitude")?),
            _ => split(text, |byte| byte == b','),
        };
        Some(Self {
            latitude_e7: degrees(latitude, LATITUDE_E7_MAX)?,
            longitude_e7: degrees(longitude, LONGITUDE_E7_MAX)?,
        })
    }
}

/// Degrees between `-max` and `max`, in 1e-7 degrees.
fn degrees(text: &[u8], max: i32) -> Option<i32> {
    let value = i32::try_from(parse_fixed(text, DEGREE_DECIMALS)?).ok()?;
    (-max..=max).contains(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_from_text_and_json() {
        let munich = Some(Position { latitude_e7: 481_372_000, longitude_e7: -115_756_001 });
        assert_eq!(Position::parse(b"48.1372,-11.5756001"), munich);
        assert_eq!(Position::parse(b" 48.1372 , -11.57560014 \n"), munich);
        assert_eq!(Position::parse(br#" {"longitude":-11.5756001,"speed":3,"latitude":48.1372}"#), munich);
        let corner = Some(Position { latitude_e7: -LATITUDE_E7_MAX, longitude_e7: LONGITUDE_E7_MAX });
        assert_eq!(Position::parse(b"-90,180"), corner);
    }

    #[test]
    fn what_is_not_on_earth_is_refused() {
        for text in [
            "",
            "48.1",
            "48.1,",
            ",11.5",
            "48.1 11.5",
            "48.1,11.5,3",
            "90.0000001,0",
            "0,-180.0000001",
            "481372000,115756000",
            "1e300,0",
            "{}",
            r#"{"latitude":48.1}"#,
            r#"{"latitude":"48.1","longitude":11.5}"#,
        ] {
            assert_eq!(Position::parse(text.as_bytes()), None, "{text}");
        }
    }
}
