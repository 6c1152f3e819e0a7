//! Where on Earth things are: points, distances, regions, and an index over device positions.
//!
//! Placement rests on these answers, so they are reproducible: coordinates are integers of 1e-7 degrees, point in
//! polygon is decided by integer arithmetic, and distances are rounded to whole millimetres before anything is ordered
//! by them. This module must never read a clock, do I/O, or let the last bit of a float break a tie.

mod boundary;
mod cell;
mod distance;
mod error;
mod geojson;
mod index;
mod outline;
mod point;
mod polygon;
mod region;
mod ring;
mod spacing;
#[cfg(test)]
pub(crate) mod tests;

pub use cell::{CELL_LEVEL_MAX, Cell};
pub use distance::{Distance, EARTH_RADIUS_M};
pub use error::{Problem, ProblemKind, Warning, WarningKind};
pub use geojson::{Checked, CircleText, GeometryText, Nested};
pub use index::{GeoIndex, Nearest};
pub use outline::{CIRCLE_CORNERS, Line, Outline};
pub use point::{Point, PointError};
pub use polygon::Polygon;
pub use region::{Circle, CircleError, LonLatBox, Membership, Region, Shape};
pub use ring::{Ring, RingError};
pub use spacing::Spacing;

/// Most positions that one region may have, over all its rings. Keeps every geometric answer far below 50 ms.
pub const REGION_VERTICES_MAX: usize = 10_000;
/// Most problems reported for one geometry; the rest would not help anyone.
pub const PROBLEMS_MAX: usize = 20;
/// Share of the globe above which a ring or circle is reported as suspicious (typically swapped lon and lat).
pub const SUSPICIOUS_SHARE: f64 = 0.25;
/// Largest radius of a circle: half the circumference of the sphere, beyond which a circle is everything.
pub const CIRCLE_RADIUS_KM_MAX: f64 = 20_015.0;
