//! What the flasher writes for a device before its first start: where its hub is, what it is called, and how it gets on the
//! network. It stands at the beginning of the partition `config`; a device only ever reads it.
//!
//! Layout: `MAGIC`, a format byte, the body's length in two bytes (little endian), SHA-256 over those eight bytes and the
//! body, the body in canonical postcard. What lies behind the body is not looked at: erased flash, as a rule. Labels are not
//! here: the hub has them with the token.
use crate::codec::{WireError, Writer, bounded_text, decode};
use crate::digest::Digest;
use crate::join::JoinToken;
use crate::limits::{NAME_BYTES_MAX, PROVISION_BYTES_MAX, WIFI_NAME_BYTES_MAX, WIFI_SECRET_BYTES_MAX};
use crate::position::Position;
use serde::{Deserialize, Serialize};

/// How a record begins. Erased flash and foreign content do not.
pub const MAGIC: [u8; 5] = *b"FLMRC";
/// The only layout so far. A changed field is a new format.
pub const FORMAT: u8 = 1;
/// Magic, format, length, digest.
pub const HEADER_BYTES: usize = COVERED_BYTES + 32;
/// The part of the header that the digest covers.
const COVERED_BYTES: usize = MAGIC.len() + 1 + 2;

/// Why there is no record to start from. Each is told differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProvisionError {
    /// Nothing was ever written: the board has to be flashed.
    Absent,
    /// Of a later flasher than this firmware.
    UnknownFormat { format: u8 },
    /// Written, and not what was written any more: digest, length or content.
    Damaged(WireError),
}

impl core::fmt::Display for ProvisionError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Absent => f.write_str("there is no provisioning record: flash the board"),
            Self::UnknownFormat { format } => {
                write!(f, "the provisioning record has format {format}, and this firmware reads {FORMAT}")
            }
            Self::Damaged(error) => write!(f, "the provisioning record is damaged: {error}"),
        }
    }
}

impl core::error::Error for ProvisionError {}

/// An Ethernet address, for boards that have none of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// One station, and not the address of nobody.
    pub fn is_valid(&self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

/// An address that is given rather than asked for. IPv4: the boards' stack has no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticAddress {
    pub address: [u8; 4],
    /// Bits of the network, 1 to 30: below there is no room for a neighbour.
    pub prefix: u8,
    pub gateway: Option<[u8; 4]>,
    /// Who resolves the broker's name, if it is one.
    pub dns: Option<[u8; 4]>,
}

impl StaticAddress {
    /// A host's address in a network that has others, and a gateway that can be reached.
    pub fn is_valid(&self) -> bool {
        if !(1..=30).contains(&self.prefix) {
            return false;
        }
        let mask = u32::MAX << (32 - self.prefix);
        let own = u32::from_be_bytes(self.address);
        let is_host = |address: u32| address & !mask != 0 && address & !mask != !mask;
        let gateway = self.gateway.map(u32::from_be_bytes);
        // 0/8 is nobody, 127/8 the machine itself, from 224 on are groups and the future.
        let is_unicast = (1..224).contains(&self.address[0]) && self.address[0] != 127;
        is_unicast
            && is_host(own)
            && gateway.is_none_or(|gateway| gateway & mask == own & mask && is_host(gateway) && gateway != own)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    Dhcp,
    Static(StaticAddress),
}

/// The wireless network to join, on boards with a radio.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wifi<'a> {
    pub name: &'a str,
    /// A WPA passphrase; empty: an open network.
    pub secret: &'a str,
}

impl core::fmt::Debug for Wifi<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Wifi").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Of which the first generator is made. Known to the flasher: a board with a random source of its own mixes that in.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntropySeed(pub [u8; 32]);

impl core::fmt::Debug for EntropySeed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("EntropySeed")
    }
}

/// The record. A board that was joined already and finds another token's id here was flashed anew, and joins again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provision<'a> {
    /// The board it was made for, as in `boards/`: another board's record is refused before its network is brought up.
    pub board: &'a str,
    /// Empty: the hub makes one.
    pub name: &'a str,
    #[serde(borrow)]
    pub token: JoinToken<'a>,
    pub position: Option<Position>,
    pub mac: MacAddress,
    pub network: Network,
    #[serde(borrow)]
    pub wifi: Option<Wifi<'a>>,
    pub seed: EntropySeed,
}

impl<'a> Provision<'a> {
    fn check(&self) -> Result<(), WireError> {
        bounded_text(self.board, NAME_BYTES_MAX)?;
        bounded_text(self.name, NAME_BYTES_MAX)?;
        self.token.check()?;
        if let Some(wifi) = &self.wifi {
            bounded_text(wifi.name, WIFI_NAME_BYTES_MAX)?;
            bounded_text(wifi.secret, WIFI_SECRET_BYTES_MAX)?;
        }
        let is_placed = self.position.is_none_or(|position| position.is_valid());
        let is_connected = match &self.network {
            Network::Dhcp => true,
            Network::Static(address) => address.is_valid(),
        };
        let is_sound = is_placed && is_connected && self.mac.is_valid() && !self.board.is_empty();
        if is_sound { Ok(()) } else { Err(WireError::Malformed) }
    }

    /// The bytes for the beginning of the partition.
    pub fn encode<'b>(&self, buffer: &'b mut [u8; PROVISION_BYTES_MAX]) -> Result<&'b [u8], WireError> {
        self.check()?;
        let (header, body) = buffer.split_at_mut(HEADER_BYTES);
        let mut writer = Writer::new(body);
        writer.value(self)?;
        let length = writer.len();
        let [low, high] = u16::try_from(length).map_err(|_| WireError::NoRoom)?.to_le_bytes();
        header[..MAGIC.len()].copy_from_slice(&MAGIC);
        header[MAGIC.len()..COVERED_BYTES].copy_from_slice(&[FORMAT, low, high]);
        let digest = Digest::of_parts(&[&header[..COVERED_BYTES], writer.written()]);
        header[COVERED_BYTES..].copy_from_slice(&digest.0);
        Ok(&buffer[..HEADER_BYTES + length])
    }

    /// Reads the beginning of a partition; the first `PROVISION_BYTES_MAX` bytes are enough.
    pub fn decode(flash: &'a [u8]) -> Result<Self, ProvisionError> {
        let rest = flash.strip_prefix(&MAGIC).ok_or(ProvisionError::Absent)?;
        let damaged = ProvisionError::Damaged;
        let (&[format, low, high], rest) = rest.split_first_chunk::<3>().ok_or(damaged(WireError::Truncated))?;
        if format != FORMAT {
            return Err(ProvisionError::UnknownFormat { format });
        }
        let length = usize::from(u16::from_le_bytes([low, high]));
        if length > PROVISION_BYTES_MAX - HEADER_BYTES {
            return Err(damaged(WireError::TooLarge { limit: PROVISION_BYTES_MAX as u32 }));
        }
        let (digest, rest) = rest.split_first_chunk::<32>().ok_or(damaged(WireError::Truncated))?;
        let body = rest.get(..length).ok_or(damaged(WireError::Truncated))?;
        if Digest::of_parts(&[&flash[..COVERED_BYTES], body]).0 != *digest {
            return Err(damaged(WireError::NotAuthentic));
        }
        let record: Self = decode(body).map_err(damaged)?;
        record.check().map_err(damaged)?;
        Ok(record)
    }
}
