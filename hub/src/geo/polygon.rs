//! A polygon with holes, normalised as RFC 7946 asks: outer ring counter-clockwise, holes clockwise.
//!
//! Inside is: not outside the outer ring, and not strictly inside a hole; every boundary counts as inside. Holes may
//! overlap each other or lie outside: the rule still has one answer.

use super::point::Point;
use super::ring::{Ring, Side};

#[derive(Debug, Clone, PartialEq)]
pub struct Polygon {
    outer: Ring,
    holes: Vec<Ring>,
}

impl Polygon {
    pub fn new(outer: Ring, holes: Vec<Ring>) -> Self {
        let outer = if outer.doubled_area() < 0 { outer.reversed() } else { outer };
        let holes =
            holes.into_iter().map(|hole| if hole.doubled_area() > 0 { hole.reversed() } else { hole }).collect();
        Self { outer, holes }
    }

    pub fn outer(&self) -> &Ring {
        &self.outer
    }

    pub fn holes(&self) -> &[Ring] {
        &self.holes
    }

    /// Exact, boundary included. A pole is one place with every longitude, so it is inside when the polygon reaches it.
    pub fn contains(&self, point: Point) -> bool {
        if point.is_pole() {
            let latitude = point.latitude_e7();
            return self.outer.positions().iter().any(|p| p.latitude_e7() == latitude);
        }
        self.outer.side(point) != Side::Outside && self.holes.iter().all(|hole| hole.side(point) != Side::Inside)
    }
}
