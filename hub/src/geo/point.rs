//! A place on Earth as two integers of 1e-7 degrees (about 1.1 cm), the only form in which positions are kept.
//!
//! A `Point` in hand is valid by construction; nothing in here may build one without checking its range.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// Steps of 1e-7 degrees in one degree.
pub const E7: i32 = 10_000_000;
pub(crate) const LONGITUDE_E7_MAX: i32 = 180 * E7;
pub(crate) const LATITUDE_E7_MAX: i32 = 90 * E7;
/// One turn around the globe in 1e-7 degrees.
pub(crate) const TURN_E7: i64 = 360 * (E7 as i64);

/// Longitude and latitude (WGS84, in this order as in RFC 7946) in 1e-7 degrees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Point {
    longitude_e7: i32,
    latitude_e7: i32,
}

/// Why two numbers are not a place on Earth.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum PointError {
    #[error("longitude {0} is outside -180..180 degrees")]
    Longitude(f64),
    #[error("latitude {0} is outside -90..90 degrees; positions are [longitude, latitude], were they swapped?")]
    Latitude(f64),
    #[error("a coordinate is not a finite number")]
    NotFinite,
}

impl Point {
    /// A point from degrees, rounded to the nearest 1e-7 degree.
    pub fn from_degrees(longitude: f64, latitude: f64) -> Result<Self, PointError> {
        if !longitude.is_finite() || !latitude.is_finite() {
            return Err(PointError::NotFinite);
        }
        if !(-180.0..=180.0).contains(&longitude) {
            return Err(PointError::Longitude(longitude));
        }
        if !(-90.0..=90.0).contains(&latitude) {
            return Err(PointError::Latitude(latitude));
        }
        // In range, so the rounded products fit an i32.
        Ok(Self {
            longitude_e7: (longitude * f64::from(E7)).round() as i32,
            latitude_e7: (latitude * f64::from(E7)).round() as i32,
        })
    }

    /// A point from integers of 1e-7 degrees.
    pub fn from_e7(longitude_e7: i32, latitude_e7: i32) -> Result<Self, PointError> {
        if !(-LONGITUDE_E7_MAX..=LONGITUDE_E7_MAX).contains(&longitude_e7) {
            return Err(PointError::Longitude(degrees(longitude_e7)));
        }
        if !(-LATITUDE_E7_MAX..=LATITUDE_E7_MAX).contains(&latitude_e7) {
            return Err(PointError::Latitude(degrees(latitude_e7)));
        }
        Ok(Self { longitude_e7, latitude_e7 })
    }

    pub fn longitude_e7(self) -> i32 {
        self.longitude_e7
    }

    pub fn latitude_e7(self) -> i32 {
        self.latitude_e7
    }

    pub fn longitude(self) -> f64 {
        degrees(self.longitude_e7)
    }

    pub fn latitude(self) -> f64 {
        degrees(self.latitude_e7)
    }

    /// At a pole every longitude names the same place.
    pub(crate) fn is_pole(self) -> bool {
        self.latitude_e7.abs() == LATITUDE_E7_MAX
    }
}

/// Division by 1e7 gives the double nearest to the decimal, so text shows at most seven decimals and reads back equal.
pub(crate) fn degrees(value_e7: i32) -> f64 {
    f64::from(value_e7) / f64::from(E7)
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{},{}", self.longitude(), self.latitude())
    }
}

/// As `[longitude, latitude]` in degrees, the GeoJSON position.
impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [self.longitude(), self.latitude()].serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let [longitude, latitude] = <[f64; 2]>::deserialize(deserializer)?;
        Point::from_degrees(longitude, latitude).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn latitude_91_longitude_181_and_nan_are_refused() {
        assert_eq!(Point::from_degrees(0.0, 91.0), Err(PointError::Latitude(91.0)));
        assert_eq!(Point::from_degrees(181.0, 0.0), Err(PointError::Longitude(181.0)));
        assert_eq!(Point::from_degrees(f64::NAN, 0.0), Err(PointError::NotFinite));
        assert_eq!(Point::from_degrees(0.0, f64::INFINITY), Err(PointError::NotFinite));
        assert!(Point::from_e7(1_800_000_001, 0).is_err());
        assert!(Point::from_e7(0, i32::MIN).is_err());
    }

    #[test]
    fn text_reads_back_as_the_same_point() {
        for (longitude_e7, latitude_e7) in
            [(86_821_001, 501_109_003), (-1_800_000_000, -900_000_000), (1, -1), (1_799_999_999, 0)]
        {
            let point = Point::from_e7(longitude_e7, latitude_e7).unwrap();
            let text = serde_json::to_string(&point).unwrap();
            assert_eq!(serde_json::from_str::<Point>(&text).unwrap(), point, "{text}");
        }
    }
}
