//! What can be wrong, or merely odd, with a geometry that a person wrote, and where in the document.
//!
//! Text is for people; callers match on the kind. Nothing here decides anything.

use super::point::PointError;
use super::region::CircleError;
use super::ring::RingError;
use thiserror::Error;

/// One reason to refuse a geometry.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{pointer}: {kind}")]
pub struct Problem {
    /// JSON pointer (RFC 6901) from the geometry's own root, for example `/coordinates/0/3/1`.
    pub pointer: String,
    pub kind: ProblemKind,
}

#[derive(Debug, Clone, PartialEq, Error)]
pub enum ProblemKind {
    #[error("a region is either GeoJSON (`type` and `coordinates`) or a `circle`, not both")]
    BothForms,
    #[error("a region needs GeoJSON `type` and `coordinates`, or a `circle`")]
    NoForm,
    #[error("type is {0:?}; a region is a Polygon or a MultiPolygon (of a Feature, give its geometry)")]
    UnsupportedType(String),
    #[error("expected a list of {0}, found a number")]
    ExpectedList(&'static str),
    #[error("expected a number in degrees, found a list")]
    ExpectedNumber,
    #[error("a position is [longitude, latitude], with an altitude at most; found {0} numbers")]
    PositionLength(usize),
    #[error("a list of {0} is empty; a region must have an area")]
    Empty(&'static str),
    #[error("the region has {found} positions, more than the {max} that are allowed; simplify the outline")]
    TooManyVertices { found: usize, max: usize },
    #[error(transparent)]
    Point(#[from] PointError),
    #[error(transparent)]
    Ring(#[from] RingError),
    #[error(transparent)]
    Circle(#[from] CircleError),
}

/// Something that was accepted but is probably not what was meant.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{pointer}: {kind}")]
pub struct Warning {
    pub pointer: String,
    pub kind: WarningKind,
}

#[derive(Debug, Clone, PartialEq, Error)]
pub enum WarningKind {
    #[error("covers {percent} % of the globe; are longitude and latitude swapped?")]
    LargeShareOfGlobe { percent: u32 },
    #[error(
        "the edge from here spans {degrees} degrees and was taken the short way, across the antimeridian; add a position between to go the long way"
    )]
    CrossesAntimeridian { degrees: u32 },
    #[error("altitudes were ignored")]
    AltitudeIgnored,
}
