//! What is accepted, refused with which pointer, warned about, and how it is written back.

use super::super::*;
use super::{at, region};

fn problems(json: &str) -> Vec<String> {
    let text: GeometryText = serde_json::from_str(json).unwrap();
    let problems = text.check().unwrap_err();
    problems.iter().map(Problem::to_string).collect()
}

fn warnings(json: &str) -> Vec<WarningKind> {
    let text: GeometryText = serde_json::from_str(json).unwrap();
    let checked = text.check().unwrap();
    checked.warnings.into_iter().map(|w| w.kind).collect()
}

fn polygon_json(positions: usize) -> String {
    // Teeth along a parallel: every second position is higher.
    let mut ring: Vec<[f64; 2]> =
        (0..positions - 2).map(|i| [i as f64 * 0.01, if i % 2 == 0 { 1.0 } else { 2.0 }]).collect();
    ring.push([50.0, 0.0]);
    ring.push([0.0, 1.0]);
    serde_json::json!({"type": "Polygon", "coordinates": [ring]}).to_string()
}

#[test]
fn every_problem_is_reported_with_its_pointer() {
    let json = r#"{"type":"MultiPolygon","coordinates":[
        [[[0,0],[1,0],[1,1],[0,91],[0,0]], [[0,0],[1,0],[1,1],[0,1]]],
        [[[181,0],[1,0],[1,1,7,8],[0,"x",0]]]]}"#;
    assert!(serde_json::from_str::<GeometryText>(json).is_err(), "text is no coordinate");
    let json = json.replace("\"x\"", "[1]");
    assert_eq!(
        problems(&json),
        [
            "/coordinates/0/0/3: latitude 91 is outside -90..90 degrees; positions are [longitude, latitude], were they swapped?",
            "/coordinates/0/1: the ring is not closed; repeat its first position at the end",
            "/coordinates/1/0/0: longitude 181 is outside -180..180 degrees",
            "/coordinates/1/0/2: a position is [longitude, latitude], with an altitude at most; found 4 numbers",
            "/coordinates/1/0/3/1: expected a number in degrees, found a list",
        ]
    );
}

#[test]
fn shapes_without_area_or_form_are_refused() {
    for (json, expected) in [
        (r#"{}"#, ": a region needs"),
        (r#"{"type":"Polygon"}"#, ": a region needs"),
        (r#"{"type":"Point","coordinates":[1,2]}"#, "/type: type is \"Point\""),
        (r#"{"type":"Polygon","coordinates":[]}"#, "/coordinates: a list of rings is empty"),
        (r#"{"type":"Polygon","coordinates":7}"#, "/coordinates: expected a list of rings"),
        (r#"{"type":"Polygon","coordinates":[[[0,0],[1,1],[0,0]]]}"#, "/coordinates/0: a ring needs at least 4"),
        (
            r#"{"type":"Polygon","coordinates":[[[0,0],[1,1],[3,3],[0,0]]]}"#,
            "/coordinates/0: all positions of the ring lie on one line",
        ),
        (
            r#"{"type":"Polygon","coordinates":[[[0,-60],[90,-60],[180,-60],[-90,-60],[0,-60]]]}"#,
            "/coordinates/0: the ring runs around a pole",
        ),
        (r#"{"circle":{"center":[0,0],"radiusKm":0}}"#, "/circle/radiusKm: radiusKm is 0"),
        (r#"{"circle":{"center":[0,0],"radiusKm":30000}}"#, "/circle/radiusKm: radiusKm is 30000"),
        (r#"{"circle":{"center":[0,95],"radiusKm":1}}"#, "/circle/center: latitude 95"),
        (r#"{"type":"Polygon","coordinates":[],"circle":{"center":[0,0],"radiusKm":1}}"#, ": a region is either"),
    ] {
        let found = problems(json);
        assert_eq!(found.len(), 1, "{json} gave {found:?}");
        assert!(found[0].starts_with(expected), "{json} gave {found:?}");
    }
}

#[test]
fn unknown_members_and_deep_nesting_are_refused_while_reading() {
    for json in [
        r#"{"type":"Polygon","coordinates":[],"crs":{}}"#,
        r#"{"circle":{"center":[0,0],"radiusKm":1,"radius":2}}"#,
        r#"{"type":"Polygon","coordinates":[[[[[[0]]]]]]}"#,
    ] {
        assert!(serde_json::from_str::<GeometryText>(json).is_err(), "{json}");
    }
}

#[test]
fn vertices_are_limited_per_region() {
    assert!(serde_json::from_str::<GeometryText>(&polygon_json(REGION_VERTICES_MAX)).unwrap().check().is_ok());
    for positions in [REGION_VERTICES_MAX + 1, 100_000] {
        let found = problems(&polygon_json(positions));
        assert_eq!(
            found,
            [format!(
                "/coordinates/0: the region has {positions} positions, more than the 10000 that are allowed; simplify the outline"
            )]
        );
    }
}

#[test]
fn swapped_and_crossing_rings_are_accepted_with_a_warning() {
    assert_eq!(
        warnings(r#"{"type":"Polygon","coordinates":[[[-100,-30],[100,-30],[100,30],[-100,30],[-100,-30]]]}"#),
        [WarningKind::CrossesAntimeridian { degrees: 200 }]
    );
    assert_eq!(
        warnings(
            r#"{"type":"Polygon","coordinates":[[[-170,-40],[0,-40],[170,-40],[170,40],[0,40],[-170,40],[-170,-40]]]}"#
        ),
        [WarningKind::LargeShareOfGlobe { percent: 61 }]
    );
    assert_eq!(
        warnings(r#"{"circle":{"center":[8,50,100],"radiusKm":12000}}"#),
        [WarningKind::AltitudeIgnored, WarningKind::LargeShareOfGlobe { percent: 65 }]
    );
}

#[test]
fn winding_is_normalised_and_text_reads_back_equal() {
    let clockwise = r#"{"type":"Polygon","coordinates":[
        [[0,0],[0,4],[4,4],[4,0],[0,0]], [[1,1],[2,1],[2,2],[1,2],[1,1]]]}"#;
    let counter = r#"{"type":"Polygon","coordinates":[
        [[0,0],[4,0],[4,4],[0,4],[0,0]], [[1,1],[1,2],[2,2],[2,1],[1,1]]]}"#;
    assert_eq!(region(clockwise), region(counter));
    for json in [
        clockwise,
        r#"{"type":"MultiPolygon","coordinates":[[[[170,0],[-170,0],[-170,9.1234567],[170,9],[170,0]]],
            [[[0,0],[1,0],[1,1],[0,0]]]]}"#,
        r#"{"circle":{"center":[8.6821,50.1109],"radiusKm":12.5}}"#,
    ] {
        let first = region(json);
        let text = serde_json::to_string(&first).unwrap();
        assert_eq!(region(&text), first, "{text}");
    }
    assert_eq!(
        serde_json::to_string(&region(r#"{"circle":{"center":[8.6821,50.1109],"radiusKm":12.5}}"#)).unwrap(),
        r#"{"circle":{"center":[8.6821,50.1109],"radiusKm":12.5}}"#
    );
}

#[test]
fn a_bow_tie_has_its_even_odd_area() {
    let bow_tie = region(r#"{"type":"Polygon","coordinates":[[[0,0],[2,2],[2,0],[0,2],[0,0]]]}"#);
    assert!(bow_tie.contains(at(0.5, 1.0)));
    assert!(bow_tie.contains(at(1.5, 1.0)));
    assert!(bow_tie.contains(at(1.0, 1.0)));
    assert!(!bow_tie.contains(at(1.0, 0.5)));
    assert!(!bow_tie.contains(at(1.0, 1.5)));
}
