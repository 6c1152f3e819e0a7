//! Regions as people and tools write them: RFC 7946 Polygon and MultiPolygon, or a circle of ours.
//!
//! Reading is total: any nesting of lists and numbers is taken in (to a fixed depth) and then judged, so that every
//! problem is reported at once with a pointer to its place, in JSON and in YAML alike. Writing gives the normalised
//! form, which reads back as the same region.

use super::error::{Problem, ProblemKind, Warning, WarningKind};
use super::point::{E7, Point};
use super::polygon::Polygon;
use super::region::{Circle, Region, Shape};
use super::ring::{Ring, longitude_step};
use super::{PROBLEMS_MAX, REGION_VERTICES_MAX, SUSPICIOUS_SHARE};
use serde::de::{self, DeserializeSeed, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Lists in lists in the deepest form we know (MultiPolygon: polygons, rings, positions, numbers), and one more, so that
/// the commonest mistakes get a pointer.
const DEPTH_MAX: usize = 5;

/// A geometry as written, not yet judged.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeometryText {
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    #[serde(default)]
    pub coordinates: Option<Nested>,
    /// Allowed by RFC 7946; the box is computed from the rings instead.
    #[serde(default)]
    pub bbox: Option<Nested>,
    #[serde(default)]
    pub circle: Option<CircleText>,
}

/// A circle as written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CircleText {
    pub center: Nested,
    pub radius_km: f64,
}

/// Numbers in lists in lists.
#[derive(Debug, Clone, PartialEq)]
pub enum Nested {
    Number(f64),
    List(Vec<Nested>),
}

/// An accepted region, and what looked odd about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    pub region: Region,
    pub warnings: Vec<Warning>,
}

impl GeometryText {
    /// Judges the geometry; all problems at once, at most `PROBLEMS_MAX`.
    pub fn check(&self) -> Result<Checked, Vec<Problem>> {
        let mut check = Check::default();
        let region = self.read(&mut check);
        match region {
            Some(region) if check.problems.is_empty() => Ok(Checked { region, warnings: check.warnings }),
            _ => Err(check.problems),
        }
    }

    fn read(&self, check: &mut Check) -> Option<Region> {
        match (&self.circle, &self.kind, &self.coordinates) {
            (Some(circle), None, None) => check.circle(circle).map(Region::circle),
            (Some(_), _, _) => check.problem("", ProblemKind::BothForms),
            (None, Some(kind), Some(coordinates)) => {
                let polygons = match kind.as_str() {
                    "Polygon" => vec![check.polygon("/coordinates", coordinates)],
                    "MultiPolygon" => check
                        .list("/coordinates", coordinates, "polygons")?
                        .iter()
                        .enumerate()
                        .map(|(i, p)| check.polygon(&format!("/coordinates/{i}"), p))
                        .collect(),
                    other => {
                        let kind = ProblemKind::UnsupportedType(other.chars().take(40).collect());
                        return check.problem("/type", kind);
                    }
                };
                let polygons: Option<Vec<Polygon>> = polygons.into_iter().collect();
                polygons.map(Region::polygons)
            }
            (None, _, _) => check.problem("", ProblemKind::NoForm),
        }
    }
}

/// One pass over a geometry: what was found wrong and odd so far.
#[derive(Default)]
struct Check {
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
    vertices: usize,
}

impl Check {
    /// Notes a problem and gives the absence of a result.
    fn problem<T>(&mut self, pointer: &str, kind: ProblemKind) -> Option<T> {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { pointer: pointer.to_owned(), kind });
        }
        None
    }

    /// Warnings are bounded like problems, and each kind is worth saying once.
    fn warn(&mut self, pointer: &str, kind: WarningKind) {
        let is_known = self.warnings.iter().any(|warning| warning.kind == kind);
        if !is_known && self.warnings.len() < PROBLEMS_MAX {
            self.warnings.push(Warning { pointer: pointer.to_owned(), kind });
        }
    }

    fn warn_of_share(&mut self, pointer: &str, share: f64) {
        if share > SUSPICIOUS_SHARE {
            let percent = (share * 100.0).round() as u32;
            self.warn(pointer, WarningKind::LargeShareOfGlobe { percent });
        }
    }

    fn list<'a>(&mut self, pointer: &str, nested: &'a Nested, of: &'static str) -> Option<&'a [Nested]> {
        match nested {
            Nested::Number(_) => self.problem(pointer, ProblemKind::ExpectedList(of)),
            Nested::List(list) if list.is_empty() => self.problem(pointer, ProblemKind::Empty(of)),
            Nested::List(list) => Some(list),
        }
    }

    fn circle(&mut self, text: &CircleText) -> Option<Circle> {
        let center = self.position("/circle/center", &text.center)?;
        match Circle::new(center, text.radius_km) {
            Ok(circle) => {
                self.warn_of_share("/circle/radiusKm", circle.globe_share());
                Some(circle)
            }
            Err(error) => self.problem("/circle/radiusKm", error.into()),
        }
    }

    fn polygon(&mut self, pointer: &str, nested: &Nested) -> Option<Polygon> {
        let rings: Option<Vec<Ring>> = self
            .list(pointer, nested, "rings")?
            .iter()
            .enumerate()
            .map(|(i, ring)| self.ring(&format!("{pointer}/{i}"), ring))
            // Collected before the option is taken, so that every ring is looked at.
            .collect::<Vec<_>>()
            .into_iter()
            .collect();
        let mut rings = rings?.into_iter();
        let outer = rings.next()?;
        self.warn_of_share(&format!("{pointer}/0"), outer.globe_share());
        Some(Polygon::new(outer, rings.collect()))
    }

    fn ring(&mut self, pointer: &str, nested: &Nested) -> Option<Ring> {
        let list = self.list(pointer, nested, "positions")?;
        let before = self.vertices;
        self.vertices += list.len();
        if self.vertices > REGION_VERTICES_MAX {
            // Said once; what lies beyond the limit is not looked at.
            if before > REGION_VERTICES_MAX {
                return None;
            }
            let kind = ProblemKind::TooManyVertices { found: self.vertices, max: REGION_VERTICES_MAX };
            return self.problem(pointer, kind);
        }
        let mut positions = Vec::with_capacity(list.len());
        for (i, position) in list.iter().enumerate() {
            positions.extend(self.position(&format!("{pointer}/{i}"), position));
        }
        if positions.len() < list.len() {
            return None;
        }
        for (i, pair) in positions.windows(2).enumerate() {
            let [a, b] = pair else { continue };
            let step = i64::from(b.longitude_e7()) - i64::from(a.longitude_e7());
            if step != longitude_step(*a, *b) {
                let degrees = u32::try_from(step.abs() / i64::from(E7)).unwrap_or(0);
                let kind = WarningKind::CrossesAntimeridian { degrees };
                self.warn(&format!("{pointer}/{i}"), kind);
            }
        }
        match Ring::new(positions) {
            Ok(ring) => Some(ring),
            Err(error) => self.problem(pointer, error.into()),
        }
    }

    fn position(&mut self, pointer: &str, nested: &Nested) -> Option<Point> {
        let list = self.list(pointer, nested, "numbers")?;
        let mut numbers = Vec::with_capacity(list.len().min(3));
        for (i, number) in list.iter().enumerate().take(3) {
            match number {
                Nested::Number(number) => numbers.push(*number),
                Nested::List(_) => {
                    return self.problem(&format!("{pointer}/{i}"), ProblemKind::ExpectedNumber);
                }
            }
        }
        let (longitude, latitude) = match (list.len(), numbers.as_slice()) {
            (2, [longitude, latitude]) => (*longitude, *latitude),
            (3, [longitude, latitude, _]) => {
                self.warn(pointer, WarningKind::AltitudeIgnored);
                (*longitude, *latitude)
            }
            (length, _) => return self.problem(pointer, ProblemKind::PositionLength(length)),
        };
        match Point::from_degrees(longitude, latitude) {
            Ok(point) => Some(point),
            Err(error) => self.problem(pointer, error.into()),
        }
    }
}

impl<'de> Deserialize<'de> for Nested {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        AtDepth(0).deserialize(deserializer)
    }
}

/// Reads one level of nesting; the depth bounds the recursion on foreign input.
struct AtDepth(usize);

impl<'de> DeserializeSeed<'de> for AtDepth {
    type Value = Nested;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Nested, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AtDepth {
    type Value = Nested;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a number in degrees, or a list")
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Nested, E> {
        Ok(Nested::Number(value))
    }

    // Beyond 2^53 an integer is rounded, which is out of range as a coordinate either way.
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Nested, E> {
        Ok(Nested::Number(value as f64))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Nested, E> {
        Ok(Nested::Number(value as f64))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Nested, A::Error> {
        if self.0 == DEPTH_MAX {
            return Err(de::Error::custom("lists are nested deeper than those of a MultiPolygon"));
        }
        let mut list = Vec::new();
        while let Some(item) = seq.next_element_seed(AtDepth(self.0 + 1))? {
            list.push(item);
        }
        Ok(Nested::List(list))
    }
}

/// The normalised geometry: `{type, coordinates}` or `{circle: {center, radiusKm}}`.
impl Serialize for Region {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.shape() {
            Shape::Circle(circle) => map.serialize_entry("circle", circle)?,
            Shape::Polygons(polygons) => match polygons.as_slice() {
                [polygon] => {
                    map.serialize_entry("type", "Polygon")?;
                    map.serialize_entry("coordinates", &rings(polygon))?;
                }
                many => {
                    map.serialize_entry("type", "MultiPolygon")?;
                    let coordinates: Vec<_> = many.iter().map(rings).collect();
                    map.serialize_entry("coordinates", &coordinates)?;
                }
            },
        }
        map.end()
    }
}

impl Serialize for Circle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("center", &self.center())?;
        map.serialize_entry("radiusKm", &self.radius())?;
        map.end()
    }
}

fn rings(polygon: &Polygon) -> Vec<&[Point]> {
    std::iter::once(polygon.outer()).chain(polygon.holes()).map(Ring::positions).collect()
}
