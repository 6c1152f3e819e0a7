//! Geometry against independently written oracles, and the text forms.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod index;
pub(crate) mod membership;
mod outline;
mod text;

use super::{GeometryText, Point, Region};

/// A region from JSON text that must be accepted.
fn region(json: &str) -> Region {
    let text: GeometryText = serde_json::from_str(json).unwrap();
    text.check().unwrap().region
}

fn at(longitude: f64, latitude: f64) -> Point {
    Point::from_degrees(longitude, latitude).unwrap()
}
