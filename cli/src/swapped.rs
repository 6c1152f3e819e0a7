//! Longitude and latitude in the wrong order are still a place on Earth. A place with no device anywhere near, whose mirror
//! image has some, was probably meant the other way round: that is said with the corrected numbers, and refused by nobody.

use crate::client::Client;
use crate::manifest::Document;
use crate::target::with_query;
use hub::model::Kind;
use serde_json::Value;

/// Kilometres within which somebody who places work there would have a device.
const NEAR_KM: u32 = 500;
/// Points that are asked about in one command.
const POINTS_MAX: usize = 32;

/// Warnings about all documents. A question that fails is no reason to complain: the hub answers the next one.
pub fn warnings(client: &Client, documents: &[Document]) -> Vec<String> {
    let points = documents.iter().flat_map(|document| points(document).into_iter().map(move |point| (document, point)));
    points.take(POINTS_MAX).filter_map(|(document, (pointer, at))| warning(client, document, &pointer, at)).collect()
}

fn warning(client: &Client, document: &Document, pointer: &str, (longitude, latitude): (f64, f64)) -> Option<String> {
    // Nothing to swap, or nothing that would be a place.
    if longitude.abs() > 90.0 || (longitude - latitude).abs() < 1e-9 {
        return None;
    }
    if has_devices(client, longitude, latitude)? || !has_devices(client, latitude, longitude)? {
        return None;
    }
    let place = document.source.place(pointer, "");
    Some(format!(
        "{}:{}:{}: no device is within {NEAR_KM} km of [{longitude}, {latitude}], but of [{latitude}, {longitude}]: \
         longitude comes first; were they swapped?",
        place.file, place.line, place.column
    ))
}

fn has_devices(client: &Client, longitude: f64, latitude: f64) -> Option<bool> {
    let near = Some(format!("{longitude},{latitude},{NEAR_KM}"));
    let page = client.get(&with_query("/v1/devices", &[("near", near), ("limit", Some("1".to_owned()))])).ok()?;
    Some(!page.get("items")?.as_array()?.is_empty())
}

/// The places that a document names, each with its pointer.
fn points(document: &Document) -> Vec<(String, (f64, f64))> {
    let single = |pointer: &str| Some((pointer.to_owned(), point(document.value.pointer(pointer)?)?));
    match document.target.kind {
        Kind::Workload => single("/spec/placement/near/point").into_iter().collect(),
        Kind::Device => single("/spec/position/point").into_iter().collect(),
        Kind::Region => single("/spec/circle/center").into_iter().chain(centre(&document.value)).collect(),
        Kind::Namespace | Kind::Artifact | Kind::Placement | Kind::Token => Vec::new(),
    }
}

fn point(value: &Value) -> Option<(f64, f64)> {
    match value.as_array()?.as_slice() {
        [longitude, latitude, ..] => Some((longitude.as_f64()?, latitude.as_f64()?)),
        _ => None,
    }
}

/// About the middle of the first ring of a polygon.
fn centre(document: &Value) -> Option<(String, (f64, f64))> {
    let coordinates = "/spec/geometry/coordinates";
    let ring = match document.pointer("/spec/geometry/type")?.as_str()? {
        "Polygon" => document.pointer(&format!("{coordinates}/0"))?,
        _ => document.pointer(&format!("{coordinates}/0/0"))?,
    };
    let corners: Vec<(f64, f64)> = ring.as_array()?.iter().filter_map(point).collect();
    let count = u32::try_from(corners.len()).ok().filter(|count| *count > 0)?;
    let (east, north) = corners.iter().fold((0.0, 0.0), |(east, north), corner| (east + corner.0, north + corner.1));
    let rounded = |sum: f64| (sum / f64::from(count) * 1e4).round() / 1e4;
    Some((coordinates.to_owned(), (rounded(east), rounded(north))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_middle_of_a_polygon_stands_for_it() {
        let ring = json!([[8.0, 49.0], [10.0, 49.0], [10.0, 51.0], [8.0, 51.0]]);
        let polygon = json!({"spec": {"geometry": {"type": "Polygon", "coordinates": [ring]}}});
        assert_eq!(centre(&polygon).map(|(_, at)| at), Some((9.0, 50.0)));
        let many = json!({"spec": {"geometry": {"type": "MultiPolygon", "coordinates": [[ring]]}}});
        assert_eq!(centre(&many).map(|(_, at)| at), Some((9.0, 50.0)));
        assert_eq!(centre(&json!({"spec": {"circle": {}}})), None);
    }
}
