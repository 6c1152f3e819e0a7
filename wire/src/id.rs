//! Identifiers and orders. Each is a newtype that is parsed once, at the edge.
//!
//! Revisions, command ids and fencing tokens are an incarnation of the hub and a counter within it, so that after a restore
//! nothing has to be guessed: a higher incarnation is above everything that was issued before.
use crate::codec::WireError;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest as _, Sha256};

/// `incarnation: u24 | counter: u40`, compared as one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order(u64);

impl Order {
    pub const INCARNATION_MAX: u32 = (1 << 24) - 1;
    pub const COUNTER_MAX: u64 = (1 << 40) - 1;
    pub const ZERO: Self = Self(0);

    pub fn new(incarnation: u32, counter: u64) -> Option<Self> {
        let fits = incarnation <= Self::INCARNATION_MAX && counter <= Self::COUNTER_MAX;
        fits.then_some(Self(u64::from(incarnation) << 40 | counter))
    }

    pub const fn incarnation(self) -> u32 {
        (self.0 >> 40) as u32
    }

    pub const fn counter(self) -> u64 {
        self.0 & Self::COUNTER_MAX
    }

    /// The next counter of the same incarnation; `None` after 2^40.
    pub fn next(self) -> Option<Self> {
        Self::new(self.incarnation(), self.counter() + 1)
    }

    pub const fn packed(self) -> u64 {
        self.0
    }

    pub const fn from_packed(packed: u64) -> Self {
        Self(packed)
    }
}

impl core::fmt::Display for Order {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{}", self.incarnation(), self.counter())
    }
}

// Two small integers are 3 to 4 bytes where the packed number would always be 6 or more.
impl Serialize for Order {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.incarnation(), self.counter()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Order {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (incarnation, counter) = <(u32, u64)>::deserialize(deserializer)?;
        Self::new(incarnation, counter).ok_or_else(|| D::Error::custom("order out of range"))
    }
}

/// Orders the desired sets of one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision(pub Order);

/// Orders the imperative commands of one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CommandId(pub Order);

/// Orders the grants of one exclusive workload; a sink refuses a lower one after a higher one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fence(pub Order);

impl core::fmt::Display for Revision {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

/// A device, for ever: the first 16 bytes of SHA-256 over its first ed25519 public key. Base32 in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceId(pub [u8; 16]);

/// RFC 4648 alphabet in lower case: valid in topics, host names and file names.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Letters of a device id in text.
pub const DEVICE_ID_TEXT_BYTES: usize = 26;

impl DeviceId {
    pub fn of_key(identity_key: &[u8; 32]) -> Self {
        let hash = Sha256::digest(identity_key);
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        Self(id)
    }

    pub fn text(&self) -> heapless::String<DEVICE_ID_TEXT_BYTES> {
        let mut out = heapless::String::new();
        let bits = u128::from_be_bytes(self.0);
        for letter in 0..DEVICE_ID_TEXT_BYTES {
            // 130 bits in 26 letters: the last two bits of the last letter are zero.
            let shift = 123 - 5 * letter as i32;
            let value = if shift >= 0 { bits >> shift } else { bits << -shift } & 31;
            let _ = out.push(char::from(BASE32[value as usize]));
        }
        out
    }

    pub fn parse(text: &str) -> Result<Self, WireError> {
        if text.len() != DEVICE_ID_TEXT_BYTES {
            return Err(WireError::Malformed);
        }
        let mut bits: u128 = 0;
        for (at, letter) in text.bytes().enumerate() {
            let value = BASE32.iter().position(|&b| b == letter).ok_or(WireError::Malformed)? as u128;
            let shift = 123 - 5 * at as i32;
            if shift >= 0 {
                bits |= value << shift;
            } else if value & ((1 << -shift) - 1) != 0 {
                return Err(WireError::NotCanonical);
            } else {
                bits |= value >> -shift;
            }
        }
        Ok(Self(bits.to_be_bytes()))
    }
}

impl core::fmt::Display for DeviceId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.text())
    }
}

impl core::fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.text())
    }
}

/// 64 random bits per boot. Not a count: a count repeats when flash is copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BootId(pub [u8; 8]);

/// 64 random bits per start of a hub: tells two hubs apart that run on copies of one database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Instance(pub [u8; 8]);

/// Chosen by the device for one question; the answer repeats it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Nonce(pub [u8; 8]);

/// Issued by the hub in Fresh; statuses are ordered by `(session, sequence)`. Zero: none yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Session(pub u32);

impl Session {
    /// The lower half of the hub's incarnation, then a number of the device's own.
    pub const fn of(incarnation: u32, number: u16) -> Self {
        Self(incarnation << 16 | number as u32)
    }

    /// Whether this incarnation may have issued it: of those that are not 65,536 apart, no other.
    pub const fn is_of(self, incarnation: u32) -> bool {
        self.0 >> 16 == incarnation & 0xffff
    }
}

/// A workload's number on the hub; never used again after it was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkloadId(pub u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_id_survives_its_text() {
        for seed in 0..=255u8 {
            let id = DeviceId([seed; 16]);
            assert_eq!(DeviceId::parse(&id.text()), Ok(id));
        }
        assert!(DeviceId::parse("aaaaaaaaaaaaaaaaaaaaaaaaab").is_err());
        assert!(DeviceId::parse("AAAAAAAAAAAAAAAAAAAAAAAAAA").is_err());
    }

    #[test]
    fn a_higher_incarnation_is_above_every_counter() {
        let old = Order::new(1, Order::COUNTER_MAX);
        let new = Order::new(2, 0);
        assert!(old < new);
        assert_eq!(old.and_then(Order::next), None);
        assert_eq!(Order::new(Order::INCARNATION_MAX + 1, 0), None);
    }
}
