//! Which part of the Earth a map shows. Plate carrée, stretched so that a kilometre is as long either way at its middle.

/// Degrees that a map shows at least: a single device has surroundings.
const SPAN_LEAST: f64 = 0.5;
/// Empty space around what is shown, as a part of it.
const MARGIN: f64 = 0.08;
/// A character is about twice as high as wide.
const CHARACTER_RATIO: f64 = 2.0;

/// Bounds in degrees. `west` may be below -180 and `east` above 180, where the map crosses the antimeridian.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    pub west: f64,
    pub east: f64,
    pub south: f64,
    pub north: f64,
}

pub const WORLD: Frame = Frame { west: -180.0, east: 180.0, south: -60.0, north: 80.0 };

impl Frame {
    /// Around all points; the whole world without any.
    pub fn around(points: &[(f64, f64)]) -> Self {
        let Some((west, east)) = longitudes(points) else { return WORLD };
        let south = points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
        let north = points.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
        let grow = |low: f64, high: f64| {
            let margin = ((high - low) * MARGIN).max((SPAN_LEAST - (high - low)) / 2.0);
            (low - margin, high + margin)
        };
        let ((west, east), (south, north)) = (grow(west, east), grow(south, north));
        Self { west, east, south: south.max(-90.0), north: north.min(90.0) }
    }

    /// Widened where it has to be, so that it fills so many characters in its true proportions.
    pub fn fitted(self, columns: u16, rows: u16) -> Self {
        let shrink = f64::midpoint(self.south, self.north).to_radians().cos().max(0.1);
        let (width, height) = (f64::from(columns.max(1)), f64::from(rows.max(1)) * CHARACTER_RATIO);
        let (across, down) = ((self.east - self.west) * shrink, self.north - self.south);
        if across / width >= down / height {
            let more = (across / width * height - down) / 2.0;
            Self { south: (self.south - more).max(-90.0), north: (self.north + more).min(90.0), ..self }
        } else {
            let more = (down / height * width - across) / shrink / 2.0;
            let more = more.min((360.0 - (self.east - self.west)) / 2.0).max(0.0);
            Self { west: self.west - more, east: self.east + more, ..self }
        }
    }

    /// The same longitude, counted so that it may be inside.
    pub fn turned(&self, longitude: f64) -> f64 {
        let turns = ((longitude - self.west) / 360.0).floor();
        longitude - turns * 360.0
    }

    /// Column and row of a point; `None` outside.
    pub fn place(&self, (longitude, latitude): (f64, f64), columns: u16, rows: u16) -> Option<(u16, u16)> {
        let x = (self.turned(longitude) - self.west) / (self.east - self.west);
        let y = (self.north - latitude) / (self.north - self.south);
        if !(0.0..=1.0).contains(&x) || !(0.0..=1.0).contains(&y) {
            return None;
        }
        let index = |part: f64, count: u16| {
            // Within 0 and 65535 by the check above.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let index = (part * f64::from(count)) as u16;
            index.min(count.saturating_sub(1))
        };
        Some((index(x, columns), index(y, rows)))
    }

    /// Moved by parts of itself; the poles stay where they are.
    pub fn moved(self, right: f64, up: f64) -> Self {
        let (across, down) = ((self.east - self.west) * right, (self.north - self.south) * up);
        let down = down.clamp(-90.0 - self.south, 90.0 - self.north);
        let west = (self.west + across + 540.0).rem_euclid(360.0) - 180.0;
        Self { west, east: west + (self.east - self.west), south: self.south + down, north: self.north + down }
    }

    /// Larger or smaller around its middle.
    pub fn scaled(self, by: f64) -> Self {
        let (x, y) = (f64::midpoint(self.west, self.east), f64::midpoint(self.south, self.north));
        let across = ((self.east - self.west) * by / 2.0).clamp(SPAN_LEAST / 10.0, 180.0);
        let down = ((self.north - self.south) * by / 2.0).clamp(SPAN_LEAST / 20.0, 90.0);
        Self { west: x - across, east: x + across, south: (y - down).max(-90.0), north: (y + down).min(90.0) }
    }
}

/// The shortest range of longitudes that has all points: the largest gap between two of them is left out.
fn longitudes(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let mut sorted: Vec<f64> = points.iter().map(|point| point.0).collect();
    sorted.sort_by(f64::total_cmp);
    let (first, last) = (*sorted.first()?, *sorted.last()?);
    let gaps = sorted.iter().zip(sorted.iter().skip(1)).map(|(west, east)| (east - west, *west, *east));
    match gaps.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((gap, west, east)) if gap > 360.0 - (last - first) => Some((east, west + 360.0)),
        Some(_) | None => Some((first, last)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn points_on_both_sides_of_the_antimeridian_are_neighbours() {
        let frame = Frame::around(&[(179.0, -17.0), (-179.0, -18.0)]);
        assert!(frame.east - frame.west < 3.0 && frame.west < 179.0, "{frame:?}");
        for longitude in [179.0, -179.0, 181.0] {
            assert!(frame.place((longitude, -17.5), 80, 24).is_some(), "{longitude}");
        }
        assert_eq!(frame.place((0.0, -17.5), 80, 24), None);
    }

    #[test]
    fn a_single_point_has_surroundings_and_none_is_the_world() {
        let frame = Frame::around(&[(8.0, 50.0)]).fitted(80, 24);
        assert!(frame.east - frame.west >= SPAN_LEAST, "{frame:?}");
        assert_eq!(frame.place((8.0, 50.0), 80, 24), Some((40, 12)));
        assert_eq!(Frame::around(&[]), WORLD);
    }

    #[test]
    fn kilometres_are_as_long_either_way() {
        let frame = Frame::around(&[(0.0, 50.0), (20.0, 60.0)]).fitted(80, 24);
        let across = (frame.east - frame.west) * 55f64.to_radians().cos() / 80.0;
        let down = (frame.north - frame.south) / 48.0;
        assert!((across / down - 1.0).abs() < 0.05, "{frame:?}");
    }

    #[test]
    fn a_map_can_be_moved_and_scaled_and_stays_on_the_globe() {
        let frame = WORLD.scaled(0.1).moved(20.0, 20.0);
        assert!(frame.north <= 90.0 && frame.west >= -180.0 && frame.west < 180.0, "{frame:?}");
        let back = WORLD.scaled(100.0);
        assert!(back.east - back.west <= 360.0 && back.south >= -90.0, "{back:?}");
    }
}
