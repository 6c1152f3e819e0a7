//! Where every device is, answering "who is nearest", "who is within" and "who may be in this region" without a scan.
//!
//! Devices are points on the unit sphere in three dimensions: the straight line through the sphere orders them as the
//! ground distance does, and neither poles nor the antimeridian are special. The tree works in floats; what leaves this
//! module is ordered by whole millimetres and then by device index, so equal distances have one order everywhere.

use super::distance::{Distance, unit_vector};
use super::point::{Point, TURN_E7};
use super::region::{LonLatBox, Region};
use rstar::iterators::NearestNeighborDistance2Iterator;
use rstar::primitives::GeomWithData;
use rstar::{AABB, RTree};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// By how much the tree's order can differ from the order of exact distances: near the antipode, where the chord hardly
/// grows, rounding is worth up to 0.3 m. Whatever is closer together than this is sorted again.
const ORDER_SLACK: Distance = Distance::from_metres(1);
/// Slack of boxes and chords against rounding, on the unit sphere (6 mm on the ground).
const VECTOR_SLACK: f64 = 1e-9;
/// Rounding of squared chords, which matters near the antipode.
const CHORD_SQUARED_SLACK: f64 = 1e-14;

type Leaf = GeomWithData<[f64; 3], (u32, Point)>;

/// The positions of devices by their dense index.
#[derive(Debug, Default, Clone)]
pub struct GeoIndex {
    tree: RTree<Leaf>,
    points: HashMap<u32, Point>,
}

impl GeoIndex {
    pub fn new() -> Self {
        Self::default()
    }

    /// Many devices at once, much faster than one by one. The last position of a device counts.
    pub fn from_points(devices: impl IntoIterator<Item = (u32, Point)>) -> Self {
        let points: HashMap<u32, Point> = devices.into_iter().collect();
        let leaves = points.iter().map(|(device, point)| leaf(*device, *point));
        Self { tree: RTree::bulk_load(leaves.collect()), points }
    }

    pub fn len(&self) -> usize {
        self.points.len()
    }

    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    pub fn point(&self, device: u32) -> Option<Point> {
        self.points.get(&device).copied()
    }

    /// Adds or moves a device.
    pub fn put(&mut self, device: u32, point: Point) {
        match self.points.insert(device, point) {
            Some(before) if before == point => return,
            Some(before) => {
                self.tree.remove(&leaf(device, before));
            }
            None => {}
        }
        self.tree.insert(leaf(device, point));
    }

    pub fn remove(&mut self, device: u32) -> Option<Point> {
        let point = self.points.remove(&device)?;
        self.tree.remove(&leaf(device, point));
        Some(point)
    }

    /// All devices, nearest first, ties by device index; as lazy as the tree allows.
    pub fn nearest(&self, point: Point) -> Nearest<'_> {
        Nearest {
            from: point,
            tree: self.tree.nearest_neighbor_iter_with_distance_2(unit_vector(point)),
            waiting: BinaryHeap::new(),
            reach: Some(Distance::ZERO),
        }
    }

    /// The devices at most `radius` away, nearest first, ties by device index.
    pub fn within(&self, point: Point, radius: Distance) -> Vec<(Distance, u32)> {
        let chord_squared = radius.plus(ORDER_SLACK).chord_squared() + CHORD_SQUARED_SLACK;
        let mut found: Vec<(Distance, u32)> = self
            .tree
            .locate_within_distance(unit_vector(point), chord_squared)
            .map(|leaf| (Distance::between(point, leaf.data.1), leaf.data.0))
            .filter(|(distance, _)| *distance <= radius)
            .collect();
        found.sort_unstable();
        found
    }

    /// The devices whose positions are inside the region (boundary included), by device index.
    pub fn inside(&self, region: &Region) -> Vec<u32> {
        let mut found = Vec::new();
        for lon_lat in region.boxes() {
            let vectors = vector_box(&lon_lat);
            let candidates = self.tree.locate_in_envelope_intersecting(vectors);
            found.extend(candidates.filter(|leaf| region.contains(leaf.data.1)).map(|leaf| leaf.data.0));
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn leaf(device: u32, point: Point) -> Leaf {
    GeomWithData::new(unit_vector(point), (device, point))
}

/// Devices by exact distance. Raw neighbours wait until nothing nearer can follow.
pub struct Nearest<'a> {
    from: Point,
    tree: NearestNeighborDistance2Iterator<'a, Leaf>,
    waiting: BinaryHeap<Reverse<(Distance, u32)>>,
    /// Distance of the last raw neighbour; none when the tree is exhausted.
    reach: Option<Distance>,
}

impl Iterator for Nearest<'_> {
    type Item = (Distance, u32);

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(reach) = self.reach {
            let is_settled =
                self.waiting.peek().is_some_and(|Reverse((distance, _))| distance.plus(ORDER_SLACK) < reach);
            if is_settled {
                break;
            }
            self.reach = self.tree.next().map(|(leaf, _)| {
                let distance = Distance::between(self.from, leaf.data.1);
                self.waiting.push(Reverse((distance, leaf.data.0)));
                distance
            });
        }
        self.waiting.pop().map(|Reverse(found)| found)
    }
}

/// A box in space around all points of a longitude/latitude box, by interval arithmetic on the unit vectors.
fn vector_box(lon_lat: &LonLatBox) -> AABB<[f64; 3]> {
    let radians = |e7: i64| (e7 as f64 * 1e-7).to_radians();
    let (south, north) = (radians(lon_lat.south_e7), radians(lon_lat.north_e7));
    // At a pole the cosine is 0, so that the axis, where all longitudes meet, is in the box.
    let cos_ends = (south.cos(), north.cos());
    let widest = if south <= 0.0 && north >= 0.0 { 1.0 } else { cos_ends.0.max(cos_ends.1) };
    let cos_lat = (cos_ends.0.min(cos_ends.1).max(0.0), widest);
    let quarter = TURN_E7 / 4;
    let x = cosine_range(lon_lat.west_e7, lon_lat.east_e7);
    let y = cosine_range(lon_lat.west_e7 - quarter, lon_lat.east_e7 - quarter);
    let scale = |range: (f64, f64)| {
        let products = [range.0 * cos_lat.0, range.0 * cos_lat.1, range.1 * cos_lat.0, range.1 * cos_lat.1];
        let low = products.iter().copied().fold(f64::INFINITY, f64::min);
        let high = products.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (low, high)
    };
    let (x, y) = (scale(x), scale(y));
    AABB::from_corners(
        [x.0, y.0, south.sin()].map(|low| low - VECTOR_SLACK),
        [x.1, y.1, north.sin()].map(|high| high + VECTOR_SLACK),
    )
}

/// Least and greatest cosine over an interval of angles in 1e-7 degrees.
fn cosine_range(from: i64, to: i64) -> (f64, f64) {
    let cosine = |e7: i64| (e7 as f64 * 1e-7).to_radians().cos();
    let passes = |angle: i64| (to - angle).div_euclid(TURN_E7) != (from - 1 - angle).div_euclid(TURN_E7);
    let low = if passes(TURN_E7 / 2) { -1.0 } else { cosine(from).min(cosine(to)) };
    let high = if passes(0) { 1.0 } else { cosine(from).max(cosine(to)) };
    (low, high)
}
