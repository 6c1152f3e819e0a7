//! Says when positions enter and leave a polygon.
//!
//! Trigger: a topic with positions, as `latitude,longitude` in degrees or as a JSON object with `latitude` and `longitude`.
//! Capabilities: `emit`, `state` (whether the last position was inside survives restarts). It must never decide otherwise than
//! the hub does for a region of the same corners: whole 1e-7 degrees, exact arithmetic, the boundary is inside, even-odd
//! where the outline crosses itself.
//!
//! Configuration, entries of `key=value` on lines or behind semicolons:
//!
//! | key | meaning | when absent |
//! |---|---|---|
//! | `fence` | 3 to 32 corners `latitude,longitude` with spaces between them | required |
//! | `topic` | where `enter` and `leave` are emitted | `geofence` |
//!
//! Before the first word the position is outside: a first position outside emits nothing. Edges take the short way round the
//! globe, so a fence may lie across the antimeridian. A fence that reaches half way round from its first corner is refused.

#![no_std]

use core::cmp::Ordering;
use fulmar_function::{
    Entries, LATITUDE_E7_MAX, LONGITUDE_E7_MAX, Level, Local, Position, Text, emit_or_log, log, log_failure, payload,
    settings, state_flag, state_set_flag,
};

/// Corners of the largest fence.
const CORNERS_MAX: usize = 32;
/// Bytes of the configuration.
const CONFIG_BYTES: usize = 1024;
/// Bytes of an event.
const PAYLOAD_BYTES: usize = 512;
/// Half way round the globe, and all the way.
const HALF_TURN_E7: i64 = LONGITUDE_E7_MAX as i64;
const TURN_E7: i64 = 2 * HALF_TURN_E7;
/// Where the last word is kept.
const IS_INSIDE: &[u8] = b"inside";

/// A point of the plane: longitude east of the first corner and latitude, in 1e-7 degrees.
#[derive(Clone, Copy, PartialEq)]
struct Flat {
    x: i64,
    y: i64,
}

/// The once it is read.
struct Settings {
    origin_e7: i64,
    corners: [Flat; CORNERS_MAX],
    count: usize,
    topic: Text<64>,
}

static SETTINGS: Local<Option<Settings>> = Local::new(None);

/// On which side of the line from `a` to `b` the point lies; `Equal` is on it.
///
/// Differences of x are below 2^32 and of y below 2^31, so the products fit; their difference might not, hence the comparison.
fn side(a: Flat, b: Flat, point: Flat) -> Ordering {
    ((b.x - a.x) * (point.y - a.y)).cmp(&((b.y - a.y) * (point.x - a.x)))
}

/// Where a place lies, seen from the meridian of the first corner: the short way round.
fn flat(place: Position, origin_e7: i64) -> Flat {
    let mut x = i64::from(place.longitude_e7) - origin_e7;
    if x >= HALF_TURN_E7 {
        x -= TURN_E7;
    } else if x < -HALF_TURN_E7 {
        x += TURN_E7;
    }
    Flat { x, y: i64::from(place.latitude_e7) }
}

impl Settings {
    fn read(entries: Entries<'_>) -> Result<Self, &'static str> {
        if entries.unknown(&[b"fence", b"topic"]).is_some() {
            return Err("an unknown setting: known are fence and topic");
        }
        let topic = Text::whole(entries.get(b"topic").unwrap_or(b"geofence")).ok_or("topic is longer than 64 bytes")?;
        let fence = entries.get(b"fence").ok_or("fence is missing: write fence=48.1,11.5 48.2,11.5 48.2,11.6")?;
        let mut settings = Self { origin_e7: 0, corners: [Flat { x: 0, y: 0 }; CORNERS_MAX], count: 0, topic };
        for corner in fence.split(u8::is_ascii_whitespace).filter(|corner| !corner.is_empty()) {
            let place = Position::parse(corner).ok_or("a corner is not latitude,longitude in degrees")?;
            if settings.count == 0 {
                settings.origin_e7 = i64::from(place.longitude_e7);
            }
            let slot = settings.corners.get_mut(settings.count).ok_or("a fence has at most 32 corners")?;
            *slot = flat(place, settings.origin_e7);
            settings.count += 1;
        }
        settings.check()?;
        Ok(settings)
    }

    fn corners(&self) -> &[Flat] {
        self.corners.get(..self.count).unwrap_or_default()
    }

    /// The edges, the closing one included.
    fn edges(&self) -> impl Iterator<Item = (Flat, Flat)> {
        let corners = self.corners().iter().copied();
        corners.clone().zip(corners.cycle().skip(1))
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.edges().any(|(a, b)| (a.x - b.x).abs() >= HALF_TURN_E7) {
            return Err("the fence reaches half way round the globe: use several");
        }
        let first = Flat { x: 0, y: self.corners().first().map_or(0, |first| first.y) };
        let second = self.corners().iter().copied().find(|corner| *corner != first);
        if second.is_none_or(|second| self.corners().iter().all(|corner| side(first, second, *corner).is_eq())) {
            return Err("the corners of the fence lie on one line: it needs at least 3 that do not");
        }
        Ok(())
    }

    /// Exact, boundary included.
    fn contains(&self, place: Position) -> bool {
        // A pole is one place with every longitude.
        if place.latitude_e7.abs() == LATITUDE_E7_MAX {
            return self.corners().iter().any(|corner| corner.y == i64::from(place.latitude_e7));
        }
        let point = flat(place, self.origin_e7);
        let mut inside = false;
        // A ray to the east: each edge that it crosses changes the side. A corner counts for the edge above it only.
        for (a, b) in self.edges() {
            if a.y.min(b.y) > point.y || a.y.max(b.y) < point.y || a.x.max(b.x) < point.x {
                continue;
            }
            let side = side(a, b, point);
            if side.is_eq() && a.x.min(b.x) <= point.x {
                return true;
            }
            if (a.y > point.y) != (b.y > point.y) && side.is_gt() == (b.y > a.y) {
                inside = !inside;
            }
        }
        inside
    }
}

/// Reads the configuration.
#[unsafe(no_mangle)]
pub extern "C" fn fulmar_start() {
    SETTINGS.set(settings::<CONFIG_BYTES, _>(Settings::read));
}

/// A position.
#[unsafe(no_mangle)]
pub extern "C" fn fulmar_event() {
    SETTINGS.with(|settings| {
        // Without a fence nothing can be decided; that was said at the start.
        let Some(settings) = settings else { return };
        let mut bytes = [0; PAYLOAD_BYTES];
        let Some(place) = payload(&mut bytes).and_then(Position::parse) else {
            return log(Level::Warn, "an event without a position was ignored");
        };
        let was_inside = state_flag(IS_INSIDE);
        let is_inside = settings.contains(place);
        // What could not be emitted is tried again with the next position.
        if is_inside != was_inside && emit_or_log(&settings.topic, if is_inside { "enter" } else { "leave" }) {
            if let Err(error) = state_set_flag(IS_INSIDE, is_inside) {
                log_failure("the change may be emitted again", error);
            }
        }
    });
}
