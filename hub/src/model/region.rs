//! Regions: named areas that placements refer to.
//!
//! The geometry itself is judged by `geo`; nothing here may decide what is inside.

use crate::geo;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

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
