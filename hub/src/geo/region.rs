//! A named area's shape: polygons with holes, or a circle. Answers "inside?" exactly and "certainly inside?" safely.

use super::boundary;
use super::distance::Distance;
use super::point::{Point, TURN_E7};
use super::polygon::Polygon;
use super::ring::Flat;
use super::{CIRCLE_RADIUS_KM_MAX, EARTH_RADIUS_M};
use thiserror::Error;

/// What a position's uncertainty leaves of the question whether it is in a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// Inside and farther from the boundary than the uncertainty radius; with no uncertainty the boundary counts.
    Certain,
    /// Inside, but the true place may be outside.
    Uncertain,
    Outside,
}

/// All places within a distance of a centre, boundary included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circle {
    center: Point,
    radius: Distance,
}

#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum CircleError {
    #[error("radiusKm is {0}; it must be more than 0 and at most {CIRCLE_RADIUS_KM_MAX}")]
    Radius(f64),
}

impl Circle {
    pub fn new(center: Point, radius_km: f64) -> Result<Self, CircleError> {
        match Distance::from_km(radius_km) {
            Some(radius) if radius > Distance::ZERO && radius_km <= CIRCLE_RADIUS_KM_MAX => Ok(Self { center, radius }),
            _ => Err(CircleError::Radius(radius_km)),
        }
    }

    pub fn center(&self) -> Point {
        self.center
    }

    pub fn radius(&self) -> Distance {
        self.radius
    }

    pub(super) fn globe_share(&self) -> f64 {
        (1.0 - (self.radius.metres() / EARTH_RADIUS_M).cos()) / 2.0
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    Polygons(Vec<Polygon>),
    Circle(Circle),
}

/// A box of longitudes and latitudes in 1e-7 degrees; `west` may exceed `east` by whole turns, never the other way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LonLatBox {
    pub west_e7: i64,
    pub south_e7: i64,
    pub east_e7: i64,
    pub north_e7: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    shape: Shape,
    /// The outline that uncertainty is measured against; empty for circles.
    outline: Vec<(Flat, Flat)>,
}

impl Region {
    pub fn polygons(polygons: Vec<Polygon>) -> Self {
        let outline = boundary::outline(&polygons);
        Self { shape: Shape::Polygons(polygons), outline }
    }

    pub fn circle(circle: Circle) -> Self {
        Self { shape: Shape::Circle(circle), outline: Vec::new() }
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Exact for polygons; for circles exact on distances in whole millimetres. The boundary counts as inside.
    pub fn contains(&self, point: Point) -> bool {
        match &self.shape {
            Shape::Polygons(polygons) => polygons.iter().any(|polygon| polygon.contains(point)),
            Shape::Circle(circle) => Distance::between(circle.center, point) <= circle.radius,
        }
    }

    /// Where a position known to within `uncertainty` is. Never `Certain` for a place that might be outside.
    pub fn membership(&self, point: Point, uncertainty: Distance) -> Membership {
        if !self.contains(point) {
            return Membership::Outside;
        }
        if uncertainty == Distance::ZERO {
            return Membership::Certain;
        }
        let certain = match &self.shape {
            Shape::Polygons(_) => boundary::all_farther(&self.outline, point, uncertainty.metres()),
            Shape::Circle(circle) => {
                let reach = Distance::between(circle.center, point).plus(uncertainty);
                // A circle of half the circumference has no boundary.
                reach < circle.radius || circle.radius >= half_circumference()
            }
        };
        if certain { Membership::Certain } else { Membership::Uncertain }
    }

    /// Boxes that together cover the region; a circle's box is taken from its centre and radius with room to spare.
    pub fn boxes(&self) -> Vec<LonLatBox> {
        match &self.shape {
            Shape::Polygons(polygons) => polygons.iter().map(polygon_box).collect(),
            Shape::Circle(circle) => vec![circle_box(circle)],
        }
    }
}

fn half_circumference() -> Distance {
    Distance::from_radians(std::f64::consts::PI)
}

fn polygon_box(polygon: &Polygon) -> LonLatBox {
    let (west_e7, south_e7, east_e7, north_e7) = polygon.outer().bounds();
    LonLatBox { west_e7, south_e7, east_e7, north_e7 }
}

fn circle_box(circle: &Circle) -> LonLatBox {
    let reach = circle.radius.metres() / EARTH_RADIUS_M * 1.000_001 + 1e-9;
    let latitude = circle.center.latitude().to_radians();
    let quarter = std::f64::consts::FRAC_PI_2;
    let e7 = |radians: f64| (radians.to_degrees() * 1e7) as i64;
    let (south, north) = (latitude - reach, latitude + reach);
    let longitude = i64::from(circle.center.longitude_e7());
    // A circle over a pole has every longitude; otherwise its meridians touch at asin(sin r / cos latitude).
    let half_width = if south <= -quarter || north >= quarter {
        TURN_E7 / 2
    } else {
        e7((reach.sin() / latitude.cos()).clamp(-1.0, 1.0).asin()) + 1
    };
    LonLatBox {
        west_e7: longitude - half_width,
        south_e7: e7(south.max(-quarter)) - 1,
        east_e7: longitude + half_width,
        north_e7: e7(north.min(quarter)) + 1,
    }
}
