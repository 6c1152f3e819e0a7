//! A grid over the globe for spreading: cells of about equal area, found by integer arithmetic alone.
//!
//! Level N has 2^N rows of 180 / 2^N degrees of latitude each. A row is cut into as many columns as make its cells about
//! as wide as they are high: 2 * 2^N * cos(latitude of the row's middle), rounded up, with the cosine of Bhaskara I,
//! (1 - 4u^2) / (1 + u^2) for u = latitude / 180 degrees (error below 0.0017), because it needs integers only. Cells are
//! 20,015 / 2^N km high: level 7 is 156 km, 10 is 19.5 km, 13 is 2.4 km, 16 is 305 m. A pole is in one cell whatever its
//! longitude, up to the columns of its row, and so are both names of the antimeridian.
//!
//! Spreading needs equal cells that cover everything, not hexagons, so no geometry library is taken in for it.

use super::point::{LATITUDE_E7_MAX, LONGITUDE_E7_MAX, Point, TURN_E7};
use std::fmt;

/// The finest level, cells of 19 m.
pub const CELL_LEVEL_MAX: u8 = 20;

/// One cell of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cell {
    level: u8,
    row: u32,
    column: u32,
}

impl Cell {
    /// The cell of a point. Levels above `CELL_LEVEL_MAX` count as that one.
    pub fn of(point: Point, level: u8) -> Self {
        let level = level.min(CELL_LEVEL_MAX);
        let rows = 1_i64 << level;
        let half_turn = TURN_E7 / 2;
        let south = i64::from(point.latitude_e7()) + i64::from(LATITUDE_E7_MAX);
        let row = (south * rows / half_turn).min(rows - 1);
        let longitude = if point.is_pole() { 0 } else { i64::from(point.longitude_e7()) };
        let east = (longitude + i64::from(LONGITUDE_E7_MAX)).rem_euclid(TURN_E7);
        let column = east * columns(row, rows) / TURN_E7;
        // Both are at least 0 and below 2^22.
        Self { level, row: row as u32, column: column as u32 }
    }

    /// As one number, for keys.
    pub fn number(self) -> u64 {
        u64::from(self.level) << 56 | u64::from(self.row) << 28 | u64::from(self.column)
    }
}

/// With w = (2 row + 1 - rows) the row's middle is at u = w / (2 rows).
fn columns(row: i64, rows: i64) -> i64 {
    let w = i128::from(2 * row + 1 - rows);
    let rows = i128::from(rows);
    let square = 4 * rows * rows;
    let columns = (2 * rows * (square - 4 * w * w)).div_euclid(square + w * w) + 1;
    // At most 2 * 2^20 + 1.
    columns as i64
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cell:{}/{}/{}", self.level, self.row, self.column)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::geo::{Distance, EARTH_RADIUS_M};
    use proptest::prelude::*;

    #[test]
    fn both_names_of_the_antimeridian_and_all_of_a_pole_are_in_one_cell() {
        let cell = |longitude, latitude, level| Cell::of(Point::from_degrees(longitude, latitude).unwrap(), level);
        for level in 0..=CELL_LEVEL_MAX {
            assert_eq!(cell(180.0, 12.0, level), cell(-180.0, 12.0, level));
            assert_eq!(cell(17.0, 90.0, level), cell(-140.0, 90.0, level));
            assert_eq!(cell(17.0, -90.0, level), cell(-140.0, -90.0, level));
        }
        assert_eq!(cell(8.0, 50.0, CELL_LEVEL_MAX + 1), cell(8.0, 50.0, CELL_LEVEL_MAX));
        assert_eq!(cell(8.0, 50.0, 7).to_string(), "cell:7/99/86");
        assert_ne!(cell(8.0, 50.0, 7), cell(8.0, 52.0, 7));
    }

    proptest! {
        #[test]
        fn two_points_of_a_cell_are_no_farther_apart_than_its_diagonal(
            longitude in -1_800_000_000..=1_800_000_000_i32,
            latitude in -900_000_000..=900_000_000_i32,
            level in 3..=CELL_LEVEL_MAX,
            (east, north) in (-1.0..1.0_f64, -1.0..1.0_f64),
        ) {
            let point = Point::from_e7(longitude, latitude).unwrap();
            let height = 180.0 / f64::from(1_u32 << level);
            let widen = 1.0 / point.latitude().to_radians().cos().max(1e-6);
            let other = Point::from_degrees(
                (point.longitude() + east * height * widen).clamp(-180.0, 180.0),
                (point.latitude() + north * height).clamp(-90.0, 90.0),
            ).unwrap();
            let diagonal = height.to_radians() * EARTH_RADIUS_M / 1000.0 * 2.0_f64.sqrt() * 1.6;
            if Cell::of(point, level) == Cell::of(other, level) {
                prop_assert!(Distance::between(point, other).km() <= diagonal);
            }
        }
    }
}
