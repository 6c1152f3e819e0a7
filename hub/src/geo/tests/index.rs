//! The index against scans, wherever on the sphere, and after moves.

use super::super::*;
use super::{at, region};
use proptest::prelude::*;

/// Anywhere, with a liking for poles, the antimeridian and crowded places.
fn anywhere() -> impl Strategy<Value = Point> {
    prop_oneof![
        4 => (-1_800_000_000..=1_800_000_000_i32, -900_000_000..=900_000_000_i32),
        1 => (prop_oneof![Just(1_800_000_000), Just(-1_800_000_000), Just(1_799_999_999)], -900_000_000..=900_000_000_i32),
        1 => (-1_800_000_000..=1_800_000_000_i32, prop_oneof![Just(900_000_000), Just(-900_000_000), Just(899_999_990)]),
        2 => (86_000_000..86_000_003_i32, 500_000_000..500_000_003_i32),
    ]
    .prop_map(|(longitude, latitude)| Point::from_e7(longitude, latitude).unwrap())
}

fn by_scan(points: &[Point], from: Point) -> Vec<(Distance, u32)> {
    let mut all: Vec<(Distance, u32)> =
        (0..).zip(points).map(|(device, point)| (Distance::between(from, *point), device)).collect();
    all.sort_unstable();
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn distance_equals_the_haversine_formula(a in anywhere(), b in anywhere()) {
        let (lat_a, lat_b) = (a.latitude().to_radians(), b.latitude().to_radians());
        let lon = (b.longitude() - a.longitude()).to_radians();
        let h = ((lat_b - lat_a) / 2.0).sin().powi(2) + lat_a.cos() * lat_b.cos() * (lon / 2.0).sin().powi(2);
        let metres = 2.0 * EARTH_RADIUS_M * h.sqrt().min(1.0).asin();
        // The haversine form itself loses up to half a metre near the antipode.
        let tolerance = if metres < 19_000_000.0 { 0.001 } else { 0.5 };
        prop_assert!((Distance::between(a, b).metres() - metres).abs() <= tolerance);
        prop_assert_eq!(Distance::between(a, b), Distance::between(b, a));
    }

    #[test]
    fn nearest_and_within_equal_a_scan_after_moves(
        before in prop::collection::vec(anywhere(), 0..60),
        moves in prop::collection::vec((any::<prop::sample::Index>(), anywhere()), 0..20),
        from in anywhere(),
        km in prop_oneof![Just(0.0), 0.0..300.0_f64, 0.0..20_015.0_f64, Just(20_015.0)],
    ) {
        let mut points = before;
        let mut index = GeoIndex::from_points((0..).zip(points.iter().copied()));
        for (which, to) in moves {
            if !points.is_empty() {
                let device = which.index(points.len());
                points[device] = to;
                index.put(device as u32, to);
            }
        }
        let expected = by_scan(&points, from);
        prop_assert_eq!(index.nearest(from).collect::<Vec<_>>(), expected.clone());
        let radius = Distance::from_km(km).unwrap();
        let inside: Vec<_> = expected.into_iter().filter(|(d, _)| *d <= radius).collect();
        prop_assert_eq!(index.within(from, radius), inside);
    }

    #[test]
    fn inside_equals_a_scan(
        points in prop::collection::vec(anywhere(), 0..200),
        corners in prop::collection::vec(anywhere(), 3..9),
        center in anywhere(),
        km in 0.001..20_000.0_f64,
    ) {
        let index = GeoIndex::from_points((0..).zip(points.iter().copied()));
        let mut ring = corners;
        ring.push(ring[0]);
        let mut regions = vec![Region::circle(Circle::new(center, km).unwrap())];
        regions.extend(Ring::new(ring).map(|ring| Region::polygons(vec![Polygon::new(ring, Vec::new())])));
        for region in regions {
            let expected: Vec<u32> = (0..)
                .zip(&points)
                .filter(|(_, point)| region.contains(**point))
                .map(|(device, _)| device)
                .collect();
            prop_assert_eq!(index.inside(&region), expected);
        }
    }
}

#[test]
fn removed_devices_are_gone() {
    let mut index = GeoIndex::new();
    index.put(3, at(1.0, 1.0));
    index.put(9, at(1.0, 1.0));
    assert_eq!(index.remove(3), Some(at(1.0, 1.0)));
    assert_eq!(index.remove(3), None);
    assert_eq!(index.nearest(at(0.0, 0.0)).map(|(_, d)| d).collect::<Vec<_>>(), [9]);
    assert_eq!(index.inside(&region(r#"{"circle":{"center":[1,1],"radiusKm":1}}"#)), [9]);
    assert_eq!(index.len(), 1);
}
