//! Devices and regions as RFC 7946 features, for maps. It shows what the documents say and decides nothing.

use crate::model::{Kind, RegionSpec};
use serde_json::{Value, json};

/// Whether objects of the kind can be drawn.
pub(super) fn has_places(kind: Kind) -> bool {
    matches!(kind, Kind::Device | Kind::Region)
}

/// One object as a feature. What has no place has no geometry, as RFC 7946 (3.2) wants it.
pub(super) fn feature(kind: Kind, document: &Value) -> Value {
    let metadata = &document["metadata"];
    let mut properties = json!({"kind": kind.name(), "name": metadata["name"]});
    if metadata["labels"].is_object() {
        properties["labels"] = metadata["labels"].clone();
    }
    let geometry = match kind {
        Kind::Device => device(document, &mut properties),
        Kind::Region => region(&document["spec"], &mut properties),
        _ => Value::Null,
    };
    json!({"type": "Feature", "id": metadata["name"], "geometry": geometry, "properties": properties})
}

fn device(document: &Value, properties: &mut Value) -> Value {
    let (spec, status) = (&document["spec"], &document["status"]);
    properties["state"] = status["online"]["state"].clone();
    properties["approved"] = spec["approved"].clone();
    for (name, value) in [
        ("class", &status["class"]),
        ("site", &spec["site"]),
        ("positionSource", &status["positionSource"]),
        ("uncertaintyM", &status["position"]["uncertaintyM"]),
        ("cordoned", &spec["cordoned"]),
        ("draining", &spec["draining"]),
    ] {
        if !value.is_null() {
            properties[name] = value.clone();
        }
    }
    properties["workloads"] = json!(status["workloads"].as_array().map_or(0, Vec::len));
    match status["position"]["point"].as_array() {
        Some(point) => json!({"type": "Point", "coordinates": point}),
        None => Value::Null,
    }
}

fn region(spec: &Value, properties: &mut Value) -> Value {
    // A polygon of many corners is only a drawing of a circle: what it is stands beside it.
    if !spec["circle"].is_null() {
        properties["circle"] = spec["circle"].clone();
    }
    let Ok(region) = serde_json::from_value::<RegionSpec>(spec.clone()) else { return Value::Null };
    match region.shape.drawn().polygons.as_slice() {
        [] => Value::Null,
        [polygon] => json!({"type": "Polygon", "coordinates": polygon}),
        polygons => json!({"type": "MultiPolygon", "coordinates": polygons}),
    }
}
