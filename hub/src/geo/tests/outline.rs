//! Outlines against the regions that they draw.

use super::super::outline::Line;
use super::super::*;
use super::{at, region};

/// Even-odd over all rings of all polygons, in the plane of degrees.
fn is_drawn(outline: &Outline, longitude: f64, latitude: f64) -> bool {
    let crosses = |ring: &Line| {
        ring.windows(2)
            .filter(|pair| {
                let ([x1, y1], [x2, y2]) = (pair[0], pair[1]);
                (y1 > latitude) != (y2 > latitude) && longitude < (x2 - x1) * (latitude - y1) / (y2 - y1) + x1
            })
            .count()
    };
    outline.polygons.iter().flatten().map(crosses).sum::<usize>() % 2 == 1
}

fn area(ring: &Line) -> f64 {
    ring.windows(2).map(|pair| pair[0][0] * pair[1][1] - pair[1][0] * pair[0][1]).sum()
}

fn check(region: &Region, slack_m: f64) {
    let outline = region.drawn();
    for polygon in &outline.polygons {
        for (at, ring) in polygon.iter().enumerate() {
            assert_eq!(ring.first(), ring.last(), "closed");
            assert!((area(ring) > 0.0) == (at == 0), "outer rings counter-clockwise, holes clockwise");
            for [x, y] in ring {
                assert!((-180.0..=180.0).contains(x) && (-90.0..=90.0).contains(y), "{x} {y}");
            }
        }
    }
    let mut looked = 0;
    for step in 0..4_000_u32 {
        // A low-discrepancy walk over the globe.
        let longitude = (f64::from(step) * 0.618_033_988_7).fract() * 359.9 - 179.95;
        let latitude = (f64::from(step) * 0.754_877_666_2).fract() * 179.0 - 89.5;
        let point = at(longitude, latitude);
        if let Shape::Circle(circle) = region.shape() {
            let off = Distance::between(circle.center(), point).metres() - circle.radius().metres();
            if off.abs() < slack_m {
                continue;
            }
        }
        looked += 1;
        assert_eq!(is_drawn(&outline, longitude, latitude), region.contains(point), "{longitude} {latitude}");
    }
    assert!(looked > 1_000);
}

fn circle(longitude: f64, latitude: f64, radius_km: f64) -> Region {
    Region::circle(Circle::new(at(longitude, latitude), radius_km).unwrap())
}

#[test]
fn polygons_with_holes_across_the_antimeridian_are_cut_in_two() {
    let crossing = region(
        r#"{"type":"Polygon","coordinates":[[[160,-20],[-160,-20],[-160,20],[160,20],[160,-20]],
            [[170,-10],[170,10],[-170,10],[-170,-10],[170,-10]]]}"#,
    );
    check(&crossing, 0.0);
    assert_eq!(crossing.drawn().polygons.len(), 2);
    let plain = region(r#"{"type":"Polygon","coordinates":[[[0,0],[0,10],[10,10],[10,0],[0,0]]]}"#);
    check(&plain, 0.0);
    assert_eq!(plain.drawn().polygons.len(), 1);
}

#[test]
fn circles_are_drawn_wherever_they_are() {
    for (longitude, latitude, km) in [
        (8.6, 50.1, 500.0),
        (179.5, 0.0, 1_000.0),
        (-179.9, -60.0, 2_000.0),
        (0.0, 90.0, 1_500.0),
        (40.0, 80.0, 3_000.0),
        (-70.0, -85.0, 2_500.0),
        (10.0, 5.0, 9_000.0),
        (10.0, 5.0, 12_000.0),
        (170.0, -40.0, 17_000.0),
        (0.0, 0.0, 20_015.0),
    ] {
        // The cord of a corner lies inside the circle by r (1 - cos(pi / corners)), and straight lines in degrees bend near poles.
        check(&circle(longitude, latitude, km), 120_000.0);
    }
}
