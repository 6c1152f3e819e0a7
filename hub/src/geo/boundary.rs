//! Whether a point is farther from a region's outline than a given distance: the second half of "certainly inside".
//!
//! The outline is a set of straight edges in longitude and latitude, whose ground distance has no closed form, so each
//! edge is halved until a bound on its distance decides. Every doubt (rounding, the tolerance, the work limit) ends in
//! "not farther": this module may call a point uncertain that is not, never the other way round.

use super::distance::{EARTH_RADIUS_M, angle, unit_vector, unit_vector_degrees};
use super::point::{LONGITUDE_E7_MAX, Point};
use super::polygon::Polygon;
use super::ring::{Flat, Ring, is_on_pole};

/// Most halvings of one edge for one question.
const EDGE_SPLITS_MAX: u32 = 4096;
/// A stretch of edge shorter than this is not divided further, in metres.
const STRETCH_METRES_MIN: f64 = 0.01;
/// Stretches shorter than this share of the asked distance are not divided further.
const STRETCH_SHARE_MIN: f64 = 1.0 / 1024.0;
/// Covers every rounding error of the distances below, in metres.
const ROUNDING_METRES: f64 = 0.002;

/// The true outline of some polygons: without outer edges on a pole, and without outer cuts along the antimeridian whose
/// two sides both belong to the region. Holes keep all their edges, so that a cut hole is never called certainly inside.
pub(super) fn outline(polygons: &[Polygon]) -> Vec<(Flat, Flat)> {
    let holes = polygons.iter().flat_map(Polygon::holes);
    let mut outline: Vec<(Flat, Flat)> = holes.flat_map(Ring::edges).collect();
    let mut seam = Vec::new();
    for ring in polygons.iter().map(Polygon::outer) {
        let half = i64::from(LONGITUDE_E7_MAX);
        let (west, _, east, _) = ring.bounds();
        let is_cut = west >= -half && east <= half;
        for (a, b) in ring.edges() {
            if is_on_pole(a, b) {
                continue;
            }
            if is_cut && a.0 == b.0 && a.0.abs() == half {
                seam.push((a, b));
            } else {
                outline.push((a, b));
            }
        }
    }
    outline.extend(open_seam(&seam));
    outline
}

/// Parts of the antimeridian where only one side (an odd number of edges on one of them) belongs to the region.
fn open_seam(seam: &[(Flat, Flat)]) -> Vec<(Flat, Flat)> {
    let mut ends: Vec<i64> = seam.iter().flat_map(|(a, b)| [a.1, b.1]).collect();
    ends.sort_unstable();
    ends.dedup();
    let covers = |side: i64, low: i64, high: i64| {
        seam.iter().filter(|(a, b)| a.0.signum() == side && a.1.min(b.1) <= low && a.1.max(b.1) >= high).count() % 2
            == 1
    };
    ends.iter()
        .zip(ends.iter().skip(1))
        .filter(|(low, high)| covers(1, **low, **high) != covers(-1, **low, **high))
        .map(|(low, high)| {
            let longitude = i64::from(LONGITUDE_E7_MAX);
            ((longitude, *low), (longitude, *high))
        })
        .collect()
}

/// Whether every edge is certainly farther away than `metres`.
pub(super) fn all_farther(outline: &[(Flat, Flat)], point: Point, metres: f64) -> bool {
    let from = unit_vector(point);
    let degree_metres = EARTH_RADIUS_M.to_radians();
    // An edge whose latitudes are all farther away needs no trigonometry.
    let latitude_margin = metres / degree_metres * 1e7 + 1.0;
    outline.iter().all(|&(a, b)| {
        let latitude = i64::from(point.latitude_e7());
        let gap = (a.1.min(b.1) - latitude).max(latitude - a.1.max(b.1));
        gap as f64 > latitude_margin || edge_is_farther(from, a, b, metres)
    })
}

/// Branch and bound over the edge: a stretch is farther when its middle is farther by half its own length.
fn edge_is_farther(from: [f64; 3], a: Flat, b: Flat, metres: f64) -> bool {
    let degrees = |p: Flat| (p.0 as f64 * 1e-7, p.1 as f64 * 1e-7);
    let stretch_min = STRETCH_METRES_MIN.max(metres * STRETCH_SHARE_MIN);
    let mut stretches = vec![(degrees(a), degrees(b))];
    let mut splits = 0;
    while let Some((a, b)) = stretches.pop() {
        let middle = ((a.0 + b.0) / 2.0, (a.1 + b.1) / 2.0);
        let to_middle = angle(from, unit_vector_degrees(middle.0, middle.1)) * EARTH_RADIUS_M;
        let length = length_metres_max(a, b);
        if to_middle - length / 2.0 - ROUNDING_METRES > metres {
            continue;
        }
        if to_middle <= metres || length <= stretch_min || splits == EDGE_SPLITS_MAX {
            return false;
        }
        splits += 1;
        stretches.push((a, middle));
        stretches.push((middle, b));
    }
    true
}

/// Upper bound of a stretch's length on the ground: its longitudes at the latitude where they are widest.
fn length_metres_max(a: (f64, f64), b: (f64, f64)) -> f64 {
    let widest = if (a.1 > 0.0) == (b.1 > 0.0) { a.1.abs().min(b.1.abs()) } else { 0.0 };
    let east = (b.0 - a.0).to_radians() * widest.to_radians().cos();
    let north = (b.1 - a.1).to_radians();
    east.hypot(north) * EARTH_RADIUS_M
}
