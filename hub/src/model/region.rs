//! Regions: named areas that placements refer to.
//!
//! The geometry itself is judged by `geo`; nothing here may decide what is inside.

use super::read::{Reader, Shape};
use crate::geo;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

/// `{geometry: <GeoJSON>}` or `{circle: {center, radiusKm}}`, kept in normalised form.
#[derive(Clone, Debug, PartialEq)]
pub struct RegionSpec {
    pub shape: geo::Region,
}

impl Serialize for RegionSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.shape.shape() {
            // The geometry of a circle writes `{circle: ..}` itself.
            geo::Shape::Circle(_) => self.shape.serialize(serializer),
            geo::Shape::Polygons(_) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("geometry", &self.shape)?;
                map.end()
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    #[serde(default)]
    geometry: Option<geo::GeometryText>,
    #[serde(default)]
    circle: Option<geo::CircleText>,
}

impl<'de> Deserialize<'de> for RegionSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        let text = match (stored.geometry, stored.circle) {
            (Some(text), None) => text,
            (None, circle @ Some(_)) => geo::GeometryText { circle, ..geo::GeometryText::default() },
            (Some(_), Some(_)) | (None, None) => {
                return Err(de::Error::custom("a region has either a geometry or a circle"));
            }
        };
        match text.check() {
            Ok(checked) => Ok(Self { shape: checked.region }),
            Err(problems) => {
                let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
                Err(de::Error::custom(texts.join("; ")))
            }
        }
    }
}

const SPEC: Shape = Shape { known: &["geometry", "circle"], not_built: &[] };

pub(super) fn read_region(reader: &mut Reader, pointer: &str, value: &Value) -> Option<RegionSpec> {
    let map = reader.object(pointer, value, &SPEC)?;
    let (text, base) = match (map.get("geometry"), map.get("circle")) {
        (Some(geometry), None) => {
            let place = format!("{pointer}/geometry");
            match geo::GeometryText::deserialize(geometry) {
                Ok(text) => (text, place),
                Err(error) => return reader.error(&place, format!("not a geometry: {error}")),
            }
        }
        (None, Some(circle)) => match geo::CircleText::deserialize(circle) {
            // Problems of a circle point at `/circle/..` already.
            Ok(circle) => (geo::GeometryText { circle: Some(circle), ..Default::default() }, pointer.to_owned()),
            Err(error) => return reader.error(&format!("{pointer}/circle"), format!("not a circle: {error}")),
        },
        (Some(_), Some(_)) | (None, None) => {
            return reader.error(pointer, "a region has either `geometry` (GeoJSON) or `circle: {center, radiusKm}`");
        }
    };
    match text.check() {
        Ok(checked) => {
            let warnings = checked.warnings.iter().map(|w| format!("{base}{}: {}", w.pointer, w.kind));
            reader.warnings.extend(warnings);
            Some(RegionSpec { shape: checked.region })
        }
        Err(problems) => {
            for problem in problems {
                reader.error::<()>(&format!("{base}{}", problem.pointer), problem.kind.to_string());
            }
            None
        }
    }
}
