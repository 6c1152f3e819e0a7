//! JSON Schemas (2020-12) of the types that write themselves by hand; all others derive theirs.
//!
//! A schema describes the form. What the reader of manifests refuses beyond it, it refuses with a pointer.

use super::artifact::ArtifactReference;
use super::partition::{PartitionFields, PartitionSpec};
use super::placement::SpreadBy;
use super::quantity::{Size, Span};
use super::region::RegionSpec;
use crate::geo::{CIRCLE_RADIUS_KM_MAX, Point};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "pattern": "^[0-9]+(B|kB|MB|GB|KiB|MiB|GiB)?$", "examples": ["128KiB"],
            "description": "A whole number of bytes with a unit.",
        })
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$", "examples": ["30s"],
            "description": "A whole number of time units.",
        })
    }
}

impl JsonSchema for ArtifactReference {
    fn schema_name() -> Cow<'static, str> {
        "ArtifactReference".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "pattern": "^[a-z0-9-]{1,63}@sha256:[0-9a-f]{64}$",
            "description": "Name of an artifact in the same namespace, and the hash of one of its versions.",
        })
    }
}

impl JsonSchema for SpreadBy {
    fn schema_name() -> Cow<'static, str> {
        "SpreadBy".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "oneOf": [
                {"type": "string", "pattern": "^(site|cell:[0-9]{1,2})$"},
                {
                    "type": "object", "properties": {"regions": {"type": "array", "items": {"type": "string"}}},
                    "required": ["regions"], "additionalProperties": false,
                },
            ],
            "description": "`site`, `cell:` and a level, or a list of regions.",
        })
    }
}

impl JsonSchema for PartitionSpec {
    fn schema_name() -> Cow<'static, str> {
        "PartitionSpec".into()
    }

    /// The fields, and the word that stands for none of them.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut fields = PartitionFields::json_schema(generator).to_value();
        if let Some(map) = fields.as_object_mut() {
            map.remove("description");
        }
        json_schema!({
            "oneOf": [{"const": "autonomous"}, fields],
            "description": "What happens to the work while a device and the hub do not hear of each other. `autonomous`: it goes on.",
        })
    }
}

impl JsonSchema for Point {
    fn schema_name() -> Cow<'static, str> {
        "Point".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "prefixItems": [
                {"type": "number", "minimum": -180, "maximum": 180},
                {"type": "number", "minimum": -90, "maximum": 90},
            ],
            "items": false, "minItems": 2, "maxItems": 2,
            "description": "Longitude and latitude in degrees (WGS84), in this order.",
        })
    }
}

impl JsonSchema for RegionSpec {
    fn schema_name() -> Cow<'static, str> {
        "RegionSpec".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let point = generator.subschema_for::<Point>();
        let ring = json_schema!({
            "type": "array", "minItems": 4,
            "items": {"type": "array", "minItems": 2, "maxItems": 3, "items": {"type": "number"}},
        });
        json_schema!({
            "type": "object", "additionalProperties": false, "minProperties": 1, "maxProperties": 1,
            "properties": {
                "circle": {
                    "type": "object", "additionalProperties": false, "required": ["center", "radiusKm"],
                    "properties": {
                        "center": point,
                        "radiusKm": {"type": "number", "exclusiveMinimum": 0, "maximum": CIRCLE_RADIUS_KM_MAX},
                    },
                },
                "geometry": {
                    "description": "RFC 7946 Polygon or MultiPolygon.",
                    "oneOf": [
                        {
                            "type": "object", "required": ["type", "coordinates"], "additionalProperties": false,
                            "properties": {
                                "type": {"const": "Polygon"},
                                "coordinates": {"type": "array", "minItems": 1, "items": ring},
                                "bbox": {"type": "array", "items": {"type": "number"}},
                            },
                        },
                        {
                            "type": "object", "required": ["type", "coordinates"], "additionalProperties": false,
                            "properties": {
                                "type": {"const": "MultiPolygon"},
                                "coordinates": {
                                    "type": "array", "minItems": 1,
                                    "items": {"type": "array", "minItems": 1, "items": ring},
                                },
                                "bbox": {"type": "array", "items": {"type": "number"}},
                            },
                        },
                    ],
                },
            },
        })
    }
}
