//! Which versions of the wire a side speaks. The hub speaks the device's: a device may have been away for a year.
use serde::{Deserialize, Serialize};

/// The version that this build writes.
pub const VERSION: u8 = 1;

/// Both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRange {
    pub oldest: u8,
    pub newest: u8,
}

impl VersionRange {
    /// What this build reads.
    pub const SPOKEN: Self = Self { oldest: VERSION, newest: VERSION };

    /// False for a range that ends before it starts.
    pub fn is_valid(&self) -> bool {
        self.oldest <= self.newest
    }

    pub fn contains(&self, version: u8) -> bool {
        (self.oldest..=self.newest).contains(&version)
    }

    /// The newest version that both speak.
    pub fn negotiate(self, other: Self) -> Option<u8> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_version_wins() {
        let hub = VersionRange { oldest: 2, newest: 4 };
        assert_eq!(hub.negotiate(VersionRange { oldest: 1, newest: 3 }), Some(3));
        assert_eq!(hub.negotiate(VersionRange { oldest: 4, newest: 9 }), Some(4));
        assert_eq!(hub.negotiate(VersionRange { oldest: 1, newest: 1 }), None);
        assert_eq!(hub.negotiate(VersionRange { oldest: 5, newest: 6 }), None);
    }
}
