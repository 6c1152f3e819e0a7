//! Regions as RFC 7946 draws them: rings counter-clockwise, holes clockwise, everything cut at the antimeridian, circles
//! as polygons of many corners.
//!
//! For people and maps only: what is inside is decided by the region itself, never by its outline.

use super::EARTH_RADIUS_M;
use super::point::{LATITUDE_E7_MAX, TURN_E7, degrees};
use super::polygon::Polygon;
use super::region::{Circle, Region, Shape};
use super::ring::{Flat, Ring};
use std::f64::consts::{FRAC_PI_2, PI};

/// Corners of a circle.
pub const CIRCLE_CORNERS: u32 = 72;

/// Positions in degrees; the first is repeated at the end.
pub type Line = Vec<[f64; 2]>;

/// Polygons as lists of rings, the outer one first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outline {
    pub polygons: Vec<Vec<Line>>,
}

impl Region {
    /// The region's outline, ready for GeoJSON.
    pub fn drawn(&self) -> Outline {
        let polygons = match self.shape() {
            Shape::Polygons(polygons) => polygons.iter().flat_map(drawn_polygon).collect(),
            Shape::Circle(circle) => drawn_circle(circle),
        };
        Outline { polygons }
    }
}

fn flat(ring: &Ring) -> Vec<Flat> {
    ring.edges().map(|(from, _)| from).collect()
}

fn drawn_polygon(polygon: &Polygon) -> Vec<Vec<Line>> {
    cut(&flat(polygon.outer()), &polygon.holes().iter().map(flat).collect::<Vec<_>>())
}

/// One polygon per turn of the globe that the outer ring touches. Rings are open here: the last position is not the first.
fn cut(outer: &[Flat], holes: &[Vec<Flat>]) -> Vec<Vec<Line>> {
    let mut polygons = Vec::new();
    for turn in -2..=2 {
        let west = -TURN_E7 / 2 + turn * TURN_E7;
        let Some(piece) = between(outer, west, west + TURN_E7) else { continue };
        let bounds = bounds(&piece);
        let mut rings = vec![line(&piece, turn, Turning::Left)];
        // A hole is known modulo whole turns.
        for (hole, shift) in holes.iter().flat_map(|hole| (-2..=2).map(move |shift| (hole, shift * TURN_E7))) {
            let moved: Vec<Flat> = hole.iter().map(|(x, y)| (x + shift, *y)).collect();
            let cut_hole = between(&moved, west, west + TURN_E7).filter(|hole| touches(bounds, self::bounds(hole)));
            rings.extend(cut_hole.map(|hole| line(&hole, turn, Turning::Right)));
        }
        polygons.push(rings);
    }
    polygons
}

type Bounds = (i64, i64, i64, i64);

fn bounds(ring: &[Flat]) -> Bounds {
    ring.iter().fold((i64::MAX, i64::MAX, i64::MIN, i64::MIN), |(w, s, e, n), (x, y)| {
        (w.min(*x), s.min(*y), e.max(*x), n.max(*y))
    })
}

fn touches(a: Bounds, b: Bounds) -> bool {
    a.0 < b.2 && b.0 < a.2 && a.1 < b.3 && b.1 < a.3
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turning {
    Left,
    Right,
}

fn doubled_area(ring: &[Flat]) -> i128 {
    let next = ring.iter().cycle().skip(1);
    ring.iter().zip(next).map(|(a, b)| i128::from(a.0) * i128::from(b.1) - i128::from(b.0) * i128::from(a.1)).sum()
}

fn line(ring: &[Flat], turn: i64, turning: Turning) -> Line {
    let e7 = |value: i64| degrees(i32::try_from(value).unwrap_or(i32::MAX));
    let mut line: Line = ring.iter().map(|(x, y)| [e7(x - turn * TURN_E7), e7(*y)]).collect();
    if (doubled_area(ring) > 0) != (turning == Turning::Left) {
        line.reverse();
    }
    line.extend(line.first().copied());
    line
}

/// The part of a ring between two meridians (Sutherland and Hodgman, 1974); `None` when it has no area.
fn between(ring: &[Flat], west: i64, east: i64) -> Option<Vec<Flat>> {
    let kept = clip(&clip(ring, west, |x, edge| x >= edge), east, |x, edge| x <= edge);
    (kept.len() >= 3 && doubled_area(&kept) != 0).then_some(kept)
}

fn clip(ring: &[Flat], edge: i64, is_inside: fn(i64, i64) -> bool) -> Vec<Flat> {
    let mut out: Vec<Flat> = Vec::with_capacity(ring.len() + 4);
    for (from, to) in ring.iter().zip(ring.iter().cycle().skip(1)) {
        let (starts_in, ends_in) = (is_inside(from.0, edge), is_inside(to.0, edge));
        if starts_in {
            out.push(*from);
        }
        if starts_in != ends_in {
            out.push((edge, latitude_at(*from, *to, edge)));
        }
    }
    out.dedup();
    if out.len() > 1 && out.first() == out.last() {
        out.pop();
    }
    out
}

fn latitude_at(from: Flat, to: Flat, longitude: i64) -> i64 {
    let (run, rise) = (i128::from(to.0 - from.0), i128::from(to.1 - from.1));
    if run == 0 {
        return from.1;
    }
    // Between two latitudes, so it fits.
    from.1 + i64::try_from(rise * i128::from(longitude - from.0) / run).unwrap_or(0)
}

fn drawn_circle(circle: &Circle) -> Vec<Vec<Line>> {
    let angle = circle.radius().metres() / EARTH_RADIUS_M;
    let (longitude, latitude) = (circle.center().longitude().to_radians(), circle.center().latitude().to_radians());
    let (north, south) = (latitude + angle >= FRAC_PI_2, latitude - angle <= -FRAC_PI_2);
    if angle >= PI {
        return cut(&globe(), &[]);
    }
    if north && south {
        // Everything but a circle around the other end of the world.
        return cut(&globe(), &[corners(longitude + PI, -latitude, PI - angle)]);
    }
    let mut ring = corners(longitude, latitude, angle);
    if (north || south)
        && let (Some(first), Some(last)) = (ring.first().copied(), ring.last().copied())
    {
        // Around a pole the corners go once around the globe; the ring is led to the pole and back.
        let pole = if north { i64::from(LATITUDE_E7_MAX) } else { -i64::from(LATITUDE_E7_MAX) };
        let turned = first.0 + if last.0 > first.0 { TURN_E7 } else { -TURN_E7 };
        ring.extend([(turned, first.1), (turned, pole), (first.0, pole)]);
    }
    cut(&ring, &[])
}

fn globe() -> Vec<Flat> {
    let (x, y) = (TURN_E7 / 2, i64::from(LATITUDE_E7_MAX));
    vec![(-x, -y), (x, -y), (x, y), (-x, y)]
}

/// Corners on a circle in unrolled longitude, counter-clockwise (great-circle destination from a centre by bearing).
fn corners(longitude: f64, latitude: f64, angle: f64) -> Vec<Flat> {
    let mut ring: Vec<Flat> = Vec::new();
    for corner in 0..CIRCLE_CORNERS {
        // Half a step off, so that no corner is at a pole or on a meridian of the centre.
        let bearing = -(f64::from(corner) + 0.5) * 2.0 * PI / f64::from(CIRCLE_CORNERS);
        let sine = latitude.sin() * angle.cos() + latitude.cos() * angle.sin() * bearing.cos();
        let y = sine.clamp(-1.0, 1.0).asin();
        let east = (bearing.sin() * angle.sin() * latitude.cos()).atan2(angle.cos() - latitude.sin() * y.sin());
        let mut x = ((longitude + east).to_degrees() * 1e7).round() as i64;
        if let Some((before, _)) = ring.last() {
            while x - before > TURN_E7 / 2 {
                x -= TURN_E7;
            }
            while before - x > TURN_E7 / 2 {
                x += TURN_E7;
            }
        } else {
            x = (x + TURN_E7 / 2).rem_euclid(TURN_E7) - TURN_E7 / 2;
        }
        ring.push((x, (y.to_degrees() * 1e7).round() as i64));
    }
    ring
}
