//! Where a device is, in integers: no float crosses the wire, so that hub and device never disagree about a border.
use serde::{Deserialize, Serialize};

/// WGS84 in 1e-7 degrees, with the radius that certainly contains the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    pub longitude_e7: i32,
    pub latitude_e7: i32,
    pub uncertainty_m: u32,
}

impl Position {
    pub const LONGITUDE_E7_MAX: i32 = 1_800_000_000;
    pub const LATITUDE_E7_MAX: i32 = 900_000_000;

    /// False for coordinates that are not on Earth.
    pub fn is_valid(&self) -> bool {
        (-Self::LONGITUDE_E7_MAX..=Self::LONGITUDE_E7_MAX).contains(&self.longitude_e7)
            && (-Self::LATITUDE_E7_MAX..=Self::LATITUDE_E7_MAX).contains(&self.latitude_e7)
    }
}
