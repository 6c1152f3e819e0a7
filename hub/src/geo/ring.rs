//! A closed ring of straight longitude/latitude edges, and the exact answer to "which side of it is this point on".
//!
//! All decisions are made with integer arithmetic in i128, where no product can overflow. A ring may cross itself: what
//! is inside is then defined by the even-odd rule, so there is an answer for every ring and no quadratic check.
//!
//! A ring that crosses the antimeridian is unrolled: each edge continues from the last one by the short way round, so
//! the plane coordinates may leave -180..180 and a point is asked about once per turn. RFC 7946 wants such rings cut in
//! two, which works as well. An edge of exactly 360 degrees is one along a whole parallel, as in cut polar rings.

use super::point::{LATITUDE_E7_MAX, LONGITUDE_E7_MAX, Point, TURN_E7};
use thiserror::Error;

/// Edges are sorted into bands of latitude only above this number.
const BAND_EDGES_MIN: usize = 16;
/// Most entries in the band table, per edge; fewer and taller bands are used when long edges would exceed it.
const BAND_ENTRIES_PER_EDGE_MAX: usize = 8;

/// A point of the unrolled plane: longitude and latitude in 1e-7 degrees.
pub(super) type Flat = (i64, i64);

/// Where a point lies relative to a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Outside,
    Boundary,
    Inside,
}

/// Why a list of positions is not a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RingError {
    #[error("a ring needs at least 4 positions (a triangle and its first position again), found {0}")]
    TooFewPositions(usize),
    #[error("the ring is not closed; repeat its first position at the end")]
    NotClosed,
    #[error("all positions of the ring lie on one line, so it has no area")]
    NoArea,
    #[error(
        "the ring runs around a pole; cut it at the antimeridian and lead it to latitude 90 or -90 along longitude 180 and -180"
    )]
    AroundPole,
    #[error("the ring spans more than 360 degrees of longitude; cut it at the antimeridian")]
    WiderThanGlobe,
}

/// A valid closed ring: first and last position are equal.
#[derive(Debug, Clone, PartialEq)]
pub struct Ring {
    positions: Vec<Point>,
    flat: Vec<Flat>,
    west: i64,
    east: i64,
    south: i64,
    north: i64,
    bands: Option<Bands>,
}

/// Which edges touch which band of latitude.
#[derive(Debug, Clone, PartialEq)]
struct Bands {
    height: i64,
    /// Entries of band i are `edges[starts[i]..starts[i + 1]]`.
    starts: Vec<u32>,
    edges: Vec<u32>,
}

impl Ring {
    /// Checks and unrolls a closed list of positions, keeping their order.
    pub fn new(positions: Vec<Point>) -> Result<Self, RingError> {
        if positions.len() < 4 {
            return Err(RingError::TooFewPositions(positions.len()));
        }
        if positions.first() != positions.last() {
            return Err(RingError::NotClosed);
        }
        let flat = unroll(&positions);
        let (first, last) = match (flat.first(), flat.last()) {
            (Some(first), Some(last)) => (*first, *last),
            _ => return Err(RingError::TooFewPositions(0)),
        };
        if first != last {
            return Err(RingError::AroundPole);
        }
        let fold = |pick: fn(&Flat) -> i64| {
            flat.iter().map(pick).fold((i64::MAX, i64::MIN), |(low, high), value| (low.min(value), high.max(value)))
        };
        let (west, east) = fold(|p| p.0);
        let (south, north) = fold(|p| p.1);
        if east - west > TURN_E7 {
            return Err(RingError::WiderThanGlobe);
        }
        let second = flat.iter().copied().find(|p| *p != first);
        if second.is_none_or(|second| flat.iter().all(|p| cross(first, second, *p) == 0)) {
            return Err(RingError::NoArea);
        }
        let bands = Bands::new(&flat, south, north);
        Ok(Self { positions, flat, west, east, south, north, bands })
    }

    /// The closed list of positions.
    pub fn positions(&self) -> &[Point] {
        &self.positions
    }

    pub(super) fn edges(&self) -> impl Iterator<Item = (Flat, Flat)> + '_ {
        self.flat.iter().copied().zip(self.flat.iter().copied().skip(1))
    }

    /// West, south, east, north of the unrolled ring.
    pub(super) fn bounds(&self) -> (i64, i64, i64, i64) {
        (self.west, self.south, self.east, self.north)
    }

    /// The same ring the other way round.
    pub(super) fn reversed(mut self) -> Self {
        self.positions.reverse();
        self.flat = unroll(&self.positions);
        (self.west, self.east) = self.flat.iter().fold((i64::MAX, i64::MIN), |(w, e), p| (w.min(p.0), e.max(p.0)));
        self.bands = Bands::new(&self.flat, self.south, self.north);
        self
    }

    /// Twice the signed area in the plane; positive when the ring runs counter-clockwise.
    pub(super) fn doubled_area(&self) -> i128 {
        self.edges().map(|(a, b)| i128::from(a.0) * i128::from(b.1) - i128::from(b.0) * i128::from(a.1)).sum()
    }

    /// Share of the globe's surface, 0..1, from the integral of sin(latitude) over longitude along each straight edge.
    pub(super) fn globe_share(&self) -> f64 {
        let radians = |e7: i64| (e7 as f64 * 1e-7).to_radians();
        let steradians: f64 = self
            .edges()
            .map(|(a, b)| {
                let (south, north) = (radians(a.1), radians(b.1));
                let mean_sine = if a.1 == b.1 { south.sin() } else { (south.cos() - north.cos()) / (north - south) };
                radians(b.0 - a.0) * mean_sine
            })
            .sum();
        steradians.abs() / (4.0 * std::f64::consts::PI)
    }

    /// Which side of the ring the point is on, on whichever turn of the unrolled plane it meets the ring.
    pub(super) fn side(&self, point: Point) -> Side {
        let latitude = i64::from(point.latitude_e7());
        if latitude < self.south || latitude > self.north {
            return Side::Outside;
        }
        let mut longitude = i64::from(point.longitude_e7());
        longitude += (self.west - longitude).div_euclid(TURN_E7) * TURN_E7;
        let mut side = Side::Outside;
        while longitude <= self.east && side != Side::Inside {
            if longitude >= self.west {
                side = side.max(self.side_flat((longitude, latitude)));
            }
            longitude += TURN_E7;
        }
        side
    }

    fn side_flat(&self, point: Flat) -> Side {
        match &self.bands {
            Some(bands) => {
                let edges = bands.at(point.1 - self.south).iter().filter_map(|edge| self.edge(*edge));
                side_of(point, edges)
            }
            None => side_of(point, self.edges()),
        }
    }

    fn edge(&self, index: u32) -> Option<(Flat, Flat)> {
        let index = usize::try_from(index).ok()?;
        Some((*self.flat.get(index)?, *self.flat.get(index + 1)?))
    }
}

/// Even-odd rule over the edges that a ray to the east crosses; the half-open test of latitudes counts a vertex once.
fn side_of(point: Flat, edges: impl Iterator<Item = (Flat, Flat)>) -> Side {
    let mut inside = false;
    for (a, b) in edges {
        if a.1.min(b.1) > point.1 || a.1.max(b.1) < point.1 || a.0.max(b.0) < point.0 {
            continue;
        }
        let turn = cross(a, b, point);
        if turn == 0 && a.0.min(b.0) <= point.0 {
            return Side::Boundary;
        }
        let upward = b.1 > a.1;
        if (a.1 > point.1) != (b.1 > point.1) && (turn > 0) == upward {
            inside = !inside;
        }
    }
    if inside { Side::Inside } else { Side::Outside }
}

/// Positive when `p` is to the left of the line from `a` to `b`. Differences are below 2^34, products below 2^68.
pub(super) fn cross(a: Flat, b: Flat, p: Flat) -> i128 {
    i128::from(b.0 - a.0) * i128::from(p.1 - a.1) - i128::from(b.1 - a.1) * i128::from(p.0 - a.0)
}

/// Longitude step of an edge: the short way round, but a whole turn stays a whole turn.
pub(super) fn longitude_step(a: Point, b: Point) -> i64 {
    let step = i64::from(b.longitude_e7()) - i64::from(a.longitude_e7());
    let half = i64::from(LONGITUDE_E7_MAX);
    if step.abs() == TURN_E7 || step.abs() <= half { step } else { step - step.signum() * TURN_E7 }
}

fn unroll(positions: &[Point]) -> Vec<Flat> {
    let mut flat = Vec::with_capacity(positions.len());
    let mut previous: Option<(Point, i64)> = None;
    for &position in positions {
        let longitude = match previous {
            None => i64::from(position.longitude_e7()),
            Some((before, longitude)) => longitude + longitude_step(before, position),
        };
        flat.push((longitude, i64::from(position.latitude_e7())));
        previous = Some((position, longitude));
    }
    flat
}

/// Whether an edge lies wholly on a pole, where it has no length on the ground.
pub(super) fn is_on_pole(a: Flat, b: Flat) -> bool {
    a.1 == b.1 && a.1.abs() == i64::from(LATITUDE_E7_MAX)
}

impl Bands {
    fn new(flat: &[Flat], south: i64, north: i64) -> Option<Self> {
        let edges = flat.len().saturating_sub(1);
        if edges < BAND_EDGES_MIN {
            return None;
        }
        let mut count = edges;
        loop {
            let height = (north - south) / i64::try_from(count).ok()? + 1;
            let band = |latitude: i64| usize::try_from((latitude - south) / height).ok();
            let mut sizes = vec![0_u32; count];
            let mut entries = 0;
            for pair in flat.windows(2) {
                let [a, b] = pair else { continue };
                let (low, high) = (band(a.1.min(b.1))?, band(a.1.max(b.1))?);
                entries += high - low + 1;
                if entries > edges * BAND_ENTRIES_PER_EDGE_MAX {
                    break;
                }
                sizes.get_mut(low..=high)?.iter_mut().for_each(|s| *s += 1);
            }
            if entries <= edges * BAND_ENTRIES_PER_EDGE_MAX {
                return Self::fill(flat, height, &sizes, band);
            }
            count /= 2;
            if count < 2 {
                return None;
            }
        }
    }

    fn fill(flat: &[Flat], height: i64, sizes: &[u32], band: impl Fn(i64) -> Option<usize>) -> Option<Self> {
        let mut starts = Vec::with_capacity(sizes.len() + 1);
        let mut total = 0_u32;
        starts.push(0);
        for size in sizes {
            total += size;
            starts.push(total);
        }
        let mut next = starts.clone();
        let mut edges = vec![0_u32; usize::try_from(total).ok()?];
        for (index, pair) in (0_u32..).zip(flat.windows(2)) {
            let [a, b] = pair else { continue };
            for slot in next.get_mut(band(a.1.min(b.1))?..=band(a.1.max(b.1))?)? {
                *edges.get_mut(usize::try_from(*slot).ok()?)? = index;
                *slot += 1;
            }
        }
        Some(Self { height, starts, edges })
    }

    /// The edges that may touch the latitude at this height above the southern end.
    fn at(&self, above_south: i64) -> &[u32] {
        let find = || {
            let band = usize::try_from(above_south / self.height).ok()?;
            let from = usize::try_from(*self.starts.get(band)?).ok()?;
            let to = usize::try_from(*self.starts.get(band + 1)?).ok()?;
            self.edges.get(from..to)
        };
        find().unwrap_or(&[])
    }
}
