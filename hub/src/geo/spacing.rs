//! Points that are to keep a distance from each other, answering "is anything closer than that?" at any number of points.
//!
//! Points lie in cubes as wide as the straight line that belongs to the distance, so that whatever is too close to a
//! point is in its own cube or in one of the 26 around it. The cubes only narrow down: what is too close is decided on
//! distances in whole millimetres.

use super::distance::{Distance, unit_vector};
use super::point::Point;
use std::collections::HashMap;

/// Up to this many points are asked one by one, which is faster than 27 cubes.
const FEW: usize = 32;
/// Rounding of squared chords, as in the position index: 6 mm near a point, 0.3 m near its antipode.
const CHORD_SQUARED_SLACK: f64 = 1e-14;

#[derive(Debug, Clone, Copy)]
struct Place {
    vector: [f64; 3],
    point: Point,
    id: u32,
}

/// Points by id, and the distance that they are asked for.
#[derive(Debug, Clone)]
pub struct Spacing {
    min: Distance,
    chord_squared: f64,
    /// Cubes per unit of length.
    scale: f64,
    places: Vec<Place>,
    /// Places by cube; filled when there are more than a few.
    cubes: HashMap<[i32; 3], Vec<u32>>,
}

impl Spacing {
    pub fn new(min: Distance) -> Self {
        let chord_squared = min.chord_squared();
        let chord = (chord_squared + CHORD_SQUARED_SLACK).sqrt() + 1e-9;
        Self { min, chord_squared, scale: 1.0 / chord, places: Vec::new(), cubes: HashMap::new() }
    }

    pub fn min(&self) -> Distance {
        self.min
    }

    /// Adds a point, however close it is to others.
    pub fn insert(&mut self, id: u32, point: Point) {
        self.places.push(Place { vector: unit_vector(point), point, id });
        if self.places.len() == FEW + 1 {
            for at in 0..self.places.len() {
                self.file_place(at);
            }
        } else if self.places.len() > FEW {
            self.file_place(self.places.len() - 1);
        }
    }

    /// Whether a point keeps the distance from all others.
    pub fn admits(&self, point: Point) -> bool {
        let mut is_free = true;
        self.each_near(unit_vector(point), &mut |place| {
            is_free = Distance::between(point, place.point) >= self.min;
            is_free
        });
        is_free
    }

    /// The points closer than the distance, nearest first, ties by id.
    pub fn too_close(&self, point: Point) -> Vec<(Distance, u32)> {
        let mut found = Vec::new();
        self.each_near(unit_vector(point), &mut |place| {
            let distance = Distance::between(point, place.point);
            if distance < self.min {
                found.push((distance, place.id));
            }
            true
        });
        found.sort_unstable();
        found
    }

    /// The nearest point but `except`, at any distance, ties by id. Asks every point.
    pub fn nearest(&self, point: Point, except: u32) -> Option<(Distance, u32)> {
        let others = self.places.iter().filter(|place| place.id != except);
        others.map(|place| (Distance::between(point, place.point), place.id)).min()
    }

    /// Shows every point that may be too close, until the visitor has seen enough.
    fn each_near(&self, from: [f64; 3], visit: &mut dyn FnMut(&Place) -> bool) {
        let may_be_close = |place: &Place| {
            let squared: f64 = from.iter().zip(place.vector).map(|(a, b)| (a - b) * (a - b)).sum();
            squared <= self.chord_squared + CHORD_SQUARED_SLACK
        };
        if self.places.len() <= FEW {
            for place in self.places.iter().filter(|place| may_be_close(place)) {
                if !visit(place) {
                    return;
                }
            }
            return;
        }
        let [x, y, z] = self.cube(from);
        for cube in
            (-1..=1).flat_map(|dx| (-1..=1).flat_map(move |dy| (-1..=1).map(move |dz| [x + dx, y + dy, z + dz])))
        {
            let inside = self.cubes.get(&cube).into_iter().flatten();
            let places = inside.filter_map(|at| self.places.get(usize::try_from(*at).ok()?));
            for place in places.filter(|place| may_be_close(place)) {
                if !visit(place) {
                    return;
                }
            }
        }
    }

    fn file_place(&mut self, at: usize) {
        let Some(place) = self.places.get(at) else { return };
        let cube = self.cube(place.vector);
        if let Ok(at) = u32::try_from(at) {
            self.cubes.entry(cube).or_default().push(at);
        }
    }

    fn cube(&self, vector: [f64; 3]) -> [i32; 3] {
        // At most 1e9 in size: the chord is at least 1e-9.
        vector.map(|length| (length * self.scale).floor() as i32)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_agrees_with_measuring_every_pair(
            base in (-1_800_000_000..=1_800_000_000_i32, prop_oneof![-900_000_000..=900_000_000_i32, Just(900_000_000)]),
            steps in prop::collection::vec((-40_000_000..40_000_000_i32, -40_000_000..40_000_000_i32), 0..80),
            km in prop_oneof![0.000_001..500.0_f64, 500.0..20_016.0],
        ) {
            let min = Distance::from_km(km).unwrap();
            let mut spacing = Spacing::new(min);
            let points: Vec<Point> = steps.iter().map(|(east, north)| Point::from_e7(
                (base.0 + east).clamp(-1_800_000_000, 1_800_000_000),
                (base.1 + north).clamp(-900_000_000, 900_000_000),
            ).unwrap()).collect();
            for (id, point) in (0..).zip(&points) {
                let mut expected: Vec<(Distance, u32)> = (0..id).zip(&points)
                    .map(|(other, place)| (Distance::between(*point, *place), other))
                    .collect();
                expected.sort_unstable();
                prop_assert_eq!(spacing.nearest(*point, id), expected.first().copied());
                expected.retain(|(distance, _)| *distance < min);
                prop_assert_eq!(spacing.admits(*point), expected.is_empty());
                prop_assert_eq!(spacing.too_close(*point), expected);
                spacing.insert(id, *point);
            }
        }
    }
}
