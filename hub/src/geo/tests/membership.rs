//! Inside, on the boundary and certainly inside, against a winding-number oracle and sampled boundaries.

use super::super::*;
use super::{at, region};
use proptest::prelude::*;

/// Winding number of a closed ring around a point by quadrants, or none when the point is on an edge. Its parity is the
/// even-odd rule; nothing is shared with the code under test.
pub(crate) fn winding(ring: &[(i64, i64)], point: (i64, i64)) -> Option<i64> {
    let quadrant = |(x, y): (i64, i64)| -> i64 {
        match (x > 0, y > 0, x < 0, y < 0) {
            (true, _, _, false) => 0,
            (false, true, _, _) => 1,
            (_, false, true, _) => 2,
            _ => 3,
        }
    };
    let mut quarters = 0;
    for pair in ring.windows(2) {
        let a = (pair[0].0 - point.0, pair[0].1 - point.1);
        let b = (pair[1].0 - point.0, pair[1].1 - point.1);
        let turn = i128::from(a.0) * i128::from(b.1) - i128::from(a.1) * i128::from(b.0);
        let dot = i128::from(a.0) * i128::from(b.0) + i128::from(a.1) * i128::from(b.1);
        if turn == 0 && dot <= 0 {
            return None;
        }
        quarters += match (quadrant(b) - quadrant(a)).rem_euclid(4) {
            1 => 1,
            3 => -1,
            2 if turn > 0 => 2,
            2 => -2,
            _ => 0,
        };
    }
    assert_eq!(quarters % 4, 0);
    Some(quarters / 4)
}

fn wrap(longitude_e7: i64) -> i32 {
    ((longitude_e7 + 1_800_000_000).rem_euclid(3_600_000_000) - 1_800_000_000) as i32
}

fn on_globe(plane: (i64, i64), base: (i64, i64)) -> Point {
    Point::from_e7(wrap(plane.0 + base.0), (plane.1 + base.1) as i32).unwrap()
}

fn plane_point(size: i64) -> impl Strategy<Value = (i64, i64)> {
    (-size..=size, -size..=size)
}

/// Points of the plane, before they are put on the globe.
type Plane = Vec<(i64, i64)>;

/// Small grids put points on edges and vertices all the time; large ones exercise the arithmetic.
fn ring_and_points() -> impl Strategy<Value = (Plane, Plane)> {
    prop_oneof![Just(4_i64), Just(12), Just(890_000_000)].prop_flat_map(|size| {
        (prop::collection::vec(plane_point(size), 3..40), prop::collection::vec(plane_point(size), 30))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn point_in_polygon_equals_the_winding_oracle(
        (mut outer, points) in ring_and_points(),
        (mut hole, _) in ring_and_points(),
        longitude in prop_oneof![Just(0_i64), Just(1_799_999_997), Just(-1_800_000_000), -1_800_000_000..1_800_000_000_i64],
        latitude in prop_oneof![Just(0_i64), -9_000_000..9_000_000_i64],
    ) {
        outer.push(outer[0]);
        hole.push(hole[0]);
        let base = (longitude, latitude);
        let to_ring = |flat: &[(i64, i64)]| Ring::new(flat.iter().map(|p| on_globe(*p, base)).collect());
        // Steps of more than half a turn unroll differently, and lines have no area; both are tested elsewhere.
        let is_plain = |flat: &[(i64, i64)]| flat.windows(2).all(|w| (w[0].0 - w[1].0).abs() <= 1_800_000_000);
        prop_assume!(is_plain(&outer) && is_plain(&hole));
        let (Ok(outer_ring), Ok(hole_ring)) = (to_ring(&outer), to_ring(&hole)) else {
            return Err(TestCaseError::reject("no area"));
        };
        let polygon = Polygon::new(outer_ring, vec![hole_ring]);
        let vertices = outer.clone();
        for point in points.into_iter().chain(vertices) {
            let in_outer = winding(&outer, point).is_none_or(|n| n % 2 != 0);
            let in_hole = winding(&hole, point).is_some_and(|n| n % 2 != 0);
            prop_assert_eq!(polygon.contains(on_globe(point, base)), in_outer && !in_hole, "{:?}", point);
        }
    }

    #[test]
    fn certain_means_farther_than_every_sampled_boundary_point(
        corners in prop::collection::vec((-20.0..20.0_f64, -15.0..15.0_f64), 3..8),
        base in (-180.0..180.0_f64, prop_oneof![-74.0..74.0_f64, Just(74.9)]),
        point in (-20.0..20.0_f64, -15.0..15.0_f64),
        metres in prop_oneof![1_u32..100, 1_u32..2_000_000],
    ) {
        let place = |p: (f64, f64)| {
            on_globe(((p.0 * 1e7) as i64, (p.1 * 1e7) as i64), ((base.0 * 1e7) as i64, (base.1 * 1e7) as i64))
        };
        let mut ring: Vec<(f64, f64)> = corners;
        ring.push(ring[0]);
        let Ok(checked) = Ring::new(ring.iter().map(|p| place(*p)).collect()) else {
            return Err(TestCaseError::reject("no area"));
        };
        let region = Region::polygons(vec![Polygon::new(checked, Vec::new())]);
        let here = place(point);
        let samples = 400;
        let mut nearest = f64::INFINITY;
        let mut spacing = 0.0_f64;
        for pair in ring.windows(2) {
            let mut before: Option<Point> = None;
            for i in 0..=samples {
                let t = f64::from(i) / f64::from(samples);
                let on_edge = place((
                    pair[0].0 + (pair[1].0 - pair[0].0) * t,
                    pair[0].1 + (pair[1].1 - pair[0].1) * t,
                ));
                nearest = nearest.min(Distance::between(here, on_edge).metres());
                if let Some(before) = before {
                    spacing = spacing.max(Distance::between(before, on_edge).metres());
                }
                before = Some(on_edge);
            }
        }
        let uncertainty = Distance::from_metres(metres);
        match region.membership(here, uncertainty) {
            Membership::Certain => prop_assert!(nearest > f64::from(metres) - 0.1),
            Membership::Uncertain => prop_assert!(nearest - spacing <= f64::from(metres) * 1.01 + 1.0),
            Membership::Outside => prop_assert!(!region.contains(here)),
        }
    }
}

#[test]
fn the_boundary_is_inside_but_not_certain() {
    let square =
        region(r#"{"type":"Polygon","coordinates":[[[0,0],[4,0],[4,4],[0,4],[0,0]],[[1,1],[2,1],[2,2],[1,2],[1,1]]]}"#);
    for (point, zero, ten_metres) in [
        (at(0.0, 0.0), Membership::Certain, Membership::Uncertain),
        (at(4.0, 2.0), Membership::Certain, Membership::Uncertain),
        (at(1.0, 1.5), Membership::Certain, Membership::Uncertain),
        (at(3.0, 3.0), Membership::Certain, Membership::Certain),
        (at(3.99995, 2.0), Membership::Certain, Membership::Uncertain),
        (at(3.9999, 2.0), Membership::Certain, Membership::Certain),
        (at(4.0000001, 2.0), Membership::Outside, Membership::Outside),
        (at(1.5, 1.5), Membership::Outside, Membership::Outside),
    ] {
        assert_eq!(square.membership(point, Distance::ZERO), zero, "{point}");
        assert_eq!(square.membership(point, Distance::from_metres(10)), ten_metres, "{point}");
    }
}

#[test]
fn a_ring_across_the_antimeridian_is_the_same_as_its_two_halves() {
    let crossing = region(r#"{"type":"Polygon","coordinates":[[[170,-5],[-170,-5],[-170,5],[170,5],[170,-5]]]}"#);
    let halves = region(
        r#"{"type":"MultiPolygon","coordinates":[
            [[[170,-5],[180,-5],[180,5],[170,5],[170,-5]]],
            [[[-180,-5],[-170,-5],[-170,5],[-180,5],[-180,-5]]]]}"#,
    );
    for longitude in [169.9, 170.0, 175.0, 179.9999, 180.0, -180.0, -179.9999, -175.0, -170.0, -169.9, 0.0] {
        for latitude in [-5.1, -5.0, 0.0, 4.99, 5.0, 5.01] {
            let point = at(longitude, latitude);
            assert_eq!(crossing.contains(point), halves.contains(point), "{point}");
            for metres in [1, 1_000, 50_000] {
                let uncertainty = Distance::from_metres(metres);
                assert_eq!(
                    crossing.membership(point, uncertainty),
                    halves.membership(point, uncertainty),
                    "{point} +-{metres} m"
                );
            }
        }
    }
    let kilometre = Distance::from_metres(1_000);
    assert_eq!(halves.membership(at(180.0, 0.0), kilometre), Membership::Certain);
    // With one half only, the antimeridian is a real boundary.
    let half = region(r#"{"type":"Polygon","coordinates":[[[170,-5],[180,-5],[180,5],[170,5],[170,-5]]]}"#);
    assert_eq!(half.membership(at(-180.0, 0.0), kilometre), Membership::Uncertain);
}

#[test]
fn a_polar_region_cut_as_the_rfc_asks_contains_its_pole_certainly() {
    let polar = region(
        r#"{"type":"Polygon","coordinates":[[[-180,-90],[180,-90],[180,-60],[90,-62],[0,-61],[-90,-60],[-180,-60],[-180,-90]]]}"#,
    );
    let wide = Distance::from_metres(1_000_000);
    for longitude in [-180.0, -77.0, 0.0, 180.0] {
        assert_eq!(polar.membership(at(longitude, -90.0), wide), Membership::Certain);
    }
    assert_eq!(polar.membership(at(180.0, -75.0), wide), Membership::Certain);
    assert_eq!(polar.membership(at(10.0, -59.0), wide), Membership::Outside);
    // A wedge that reaches the pole contains it, on its boundary.
    let wedge = region(r#"{"type":"Polygon","coordinates":[[[0,80],[90,80],[90,90],[0,90],[0,80]]]}"#);
    assert!(wedge.contains(at(-120.0, 90.0)));
    assert_eq!(wedge.membership(at(45.0, 90.0), Distance::from_metres(1)), Membership::Uncertain);
}

#[test]
fn a_hole_cut_at_the_antimeridian_is_never_certainly_inside() {
    let world = region(
        r#"{"type":"Polygon","coordinates":[
            [[-180,-90],[0,-90],[180,-90],[180,90],[0,90],[-180,90],[-180,-90]],
            [[170,-5],[180,-5],[180,5],[170,5],[170,-5]],
            [[-180,-5],[-170,-5],[-170,5],[-180,5],[-180,-5]]]}"#,
    );
    assert_eq!(world.membership(at(175.0, 0.0), Distance::ZERO), Membership::Outside);
    assert_eq!(world.membership(at(180.0, 0.0), Distance::from_metres(1)), Membership::Uncertain);
    assert_eq!(world.membership(at(180.0, 60.0), Distance::from_metres(1)), Membership::Certain);
    assert_eq!(world.membership(at(0.0, 90.0), Distance::from_metres(1)), Membership::Certain);
}

#[test]
fn a_circle_counts_its_boundary_and_subtracts_uncertainty() {
    let circle = region(r#"{"circle":{"center":[179.99,0],"radiusKm":10}}"#);
    assert_eq!(circle.membership(at(-179.95, 0.0), Distance::ZERO), Membership::Certain);
    assert_eq!(circle.membership(at(-179.95, 0.0), Distance::from_metres(3_000)), Membership::Certain);
    assert_eq!(circle.membership(at(-179.95, 0.0), Distance::from_metres(4_000)), Membership::Uncertain);
    assert_eq!(circle.membership(at(-179.9, 0.0), Distance::ZERO), Membership::Outside);
}

#[test]
fn an_edge_around_the_pole_is_everywhere_equally_far() {
    let ring = region(r#"{"type":"Polygon","coordinates":[[[-180,80],[180,80],[180,90],[-180,90],[-180,80]]]}"#);
    let boundary = Distance::between(at(0.0, 90.0), at(0.0, 80.0));
    let metres = (boundary.millimetres() / 1000) as u32;
    for (metres, expected) in [(metres + 1, Membership::Uncertain), (metres - 1, Membership::Certain)] {
        let uncertainty = Distance::from_metres(metres);
        assert_eq!(ring.membership(at(0.0, 90.0), uncertainty), expected);
    }
}
