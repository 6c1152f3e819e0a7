//! Distances on the sphere of mean radius, in whole millimetres so that they can be ordered and compared exactly.
//!
//! The sphere is within 0.56 % of the WGS84 ellipsoid: the radius of curvature runs from 6335.4 km (meridian at the
//! equator) to 6399.6 km (poles), so the ratio to 6371.0088 km stays between 0.9944 and 1.0045. The great-circle angle
//! is the one of the haversine formula, taken as atan2(|a x b|, a . b), which stays exact near the antipode too.

use super::point::Point;
use serde::{Serialize, Serializer};
use std::f64::consts::PI;

/// Mean radius of the Earth, (2a + b) / 3 of WGS84, in metres.
pub const EARTH_RADIUS_M: f64 = 6_371_008.8;

/// A length in whole millimetres. JSON shows kilometres.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Distance {
    millimetres: u64,
}

impl Distance {
    pub const ZERO: Distance = Distance { millimetres: 0 };

    pub const fn from_millimetres(millimetres: u64) -> Self {
        Self { millimetres }
    }

    pub const fn from_metres(metres: u32) -> Self {
        Self { millimetres: metres as u64 * 1000 }
    }

    /// Negative and non-finite lengths are not lengths.
    pub fn from_km(km: f64) -> Option<Self> {
        // The cast saturates, which is far beyond any distance on Earth.
        (km.is_finite() && km >= 0.0).then(|| Self::from_millimetres((km * 1e6).round() as u64))
    }

    /// The great-circle distance between two points.
    pub fn between(a: Point, b: Point) -> Self {
        if a == b {
            return Self::ZERO;
        }
        Self::from_radians(angle(unit_vector(a), unit_vector(b)))
    }

    pub(crate) fn from_radians(radians: f64) -> Self {
        Self::from_millimetres((radians * EARTH_RADIUS_M * 1000.0).round() as u64)
    }

    pub fn millimetres(self) -> u64 {
        self.millimetres
    }

    pub fn metres(self) -> f64 {
        self.millimetres as f64 / 1e3
    }

    pub fn km(self) -> f64 {
        self.millimetres as f64 / 1e6
    }

    pub fn plus(self, other: Self) -> Self {
        Self::from_millimetres(self.millimetres.saturating_add(other.millimetres))
    }

    /// Squared straight-line distance through the unit sphere that belongs to this arc.
    pub(crate) fn chord_squared(self) -> f64 {
        let half = (self.metres() / EARTH_RADIUS_M / 2.0).min(PI / 2.0);
        4.0 * half.sin() * half.sin()
    }
}

impl Serialize for Distance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.km())
    }
}

/// The point as a vector of length one: x towards 0,0; y towards 90,0; z towards the north pole.
pub(crate) fn unit_vector(point: Point) -> [f64; 3] {
    if point.is_pole() {
        return [0.0, 0.0, f64::from(point.latitude_e7().signum())];
    }
    unit_vector_degrees(point.longitude(), point.latitude())
}

pub(crate) fn unit_vector_degrees(longitude: f64, latitude: f64) -> [f64; 3] {
    let (sin_lat, cos_lat) = latitude.to_radians().sin_cos();
    let (sin_lon, cos_lon) = longitude.to_radians().sin_cos();
    [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat]
}

/// Angle between two unit vectors, well-conditioned from zero to the antipode.
pub(crate) fn angle(a: [f64; 3], b: [f64; 3]) -> f64 {
    let [ax, ay, az] = a;
    let [bx, by, bz] = b;
    let cross = [ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx];
    let sine = cross.iter().map(|c| c * c).sum::<f64>().sqrt();
    sine.atan2(ax * bx + ay * by + az * bz)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn km(a: (f64, f64), b: (f64, f64)) -> f64 {
        Distance::between(Point::from_degrees(a.0, a.1).unwrap(), Point::from_degrees(b.0, b.1).unwrap()).km()
    }

    #[test]
    fn known_arcs_have_their_lengths() {
        let quarter = EARTH_RADIUS_M / 1000.0 * PI / 2.0;
        assert!((km((0.0, 0.0), (90.0, 0.0)) - quarter).abs() < 1e-6);
        assert!((km((17.0, 0.0), (-120.0, 90.0)) - quarter).abs() < 1e-6);
        assert!((km((0.0, 0.0), (180.0, 0.0)) - 2.0 * quarter).abs() < 1e-6);
        assert!((km((179.0, 0.0), (-179.0, 0.0)) - quarter / 45.0).abs() < 1e-6);
        // Frankfurt to Munich by the haversine formula.
        let (a, b) = ((8.6821_f64, 50.1109_f64), (11.5755_f64, 48.1372_f64));
        let (dlat, dlon) = ((b.1 - a.1).to_radians(), (b.0 - a.0).to_radians());
        let h =
            (dlat / 2.0).sin().powi(2) + a.1.to_radians().cos() * b.1.to_radians().cos() * (dlon / 2.0).sin().powi(2);
        assert!((km(a, b) - 2.0 * EARTH_RADIUS_M / 1000.0 * h.sqrt().asin()).abs() < 1e-5);
    }

    #[test]
    fn every_longitude_of_a_pole_is_the_same_place() {
        assert_eq!(km((0.0, 90.0), (137.0, 90.0)), 0.0);
        assert_eq!(km((-180.0, 12.0), (180.0, 12.0)), 0.0);
    }

    #[test]
    fn close_and_antipodal_points_keep_their_centimetres() {
        // One step of 1e-7 degrees along a meridian is 11.1 mm.
        let a = Point::from_e7(0, 0).unwrap();
        assert_eq!(Distance::between(a, Point::from_e7(0, 1).unwrap()).millimetres(), 11);
        let antipode = Point::from_e7(1_800_000_000, 0).unwrap();
        let beside = Point::from_e7(1_800_000_000, 10).unwrap();
        let gap = Distance::between(a, antipode).millimetres() - Distance::between(a, beside).millimetres();
        assert_eq!(gap, 111);
    }
}
