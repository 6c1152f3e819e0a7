//! The desired set of one device: a small signed header that covers the hash of the body, then the body.
//!
//! `version | kind | key id [4] | signature [64] | header | body`. Fleet and device are covered and not sent. Because only the
//! header is signed, a body can stream to flash while it is hashed, and above a limit it is fetched apart.
use crate::codec::{Reader, WireError, Writer};
use crate::digest::Digest;
use crate::frame::{Kind, begin, open};
use crate::id::{DeviceId, Revision};
use crate::limits::{BODY_BYTES_MAX, BODY_INLINE_BYTES_MAX, FLEET_BYTES_MAX};
use crate::sign::{KeyId, PublicKey, SIGNATURE_BYTES, Sign, Signature, Verify};
use serde::{Deserialize, Serialize};

const DOMAIN: &[u8] = b"fulmar/v1/desired\0";
/// Revision 10, length 5, hash 32, limits 8, each at its longest.
pub const HEADER_BYTES_MAX: usize = 64;
/// The covered text: domain, version, fleet, device, header.
const TEXT_BYTES_MAX: usize = DOMAIN.len() + 2 + FLEET_BYTES_MAX + 16 + HEADER_BYTES_MAX;

/// What the hub believed the device's class to allow when it made the set: a device of another class refuses it unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassLimits {
    pub records: u16,
    pub memory_bytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub revision: Revision,
    pub body_bytes: u32,
    pub body: Digest,
    pub limits: ClassLimits,
}

/// A header with the signature that makes it true: what is stored, and shown as proof after a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedHeader {
    pub key: KeyId,
    pub signature: Signature,
    pub header: Header,
}

struct Text {
    bytes: [u8; TEXT_BYTES_MAX],
    length: usize,
}

impl Text {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Header {
    /// Of the body bytes as they will be sent.
    pub fn of(revision: Revision, body: &[u8], limits: ClassLimits) -> Result<Self, WireError> {
        if body.len() > BODY_BYTES_MAX {
            return Err(WireError::TooLarge { limit: BODY_BYTES_MAX as u32 });
        }
        Ok(Self { revision, body_bytes: body.len() as u32, body: Digest::of(body), limits })
    }

    fn text(&self, fleet: &str, device: DeviceId) -> Result<Text, WireError> {
        let mut bytes = [0; TEXT_BYTES_MAX];
        let mut writer = Writer::new(&mut bytes);
        writer.bytes(DOMAIN)?;
        writer.bytes(&[crate::version::VERSION, fleet.len() as u8])?;
        writer.bytes(fleet.as_bytes())?;
        writer.bytes(&device.0)?;
        writer.value(self)?;
        let length = writer.len();
        Ok(Text { bytes, length })
    }

    pub fn sign(self, signer: &dyn Sign, fleet: &str, device: DeviceId) -> Result<SignedHeader, WireError> {
        let text = self.text(fleet, device)?;
        let key = signer.public_key().id();
        Ok(SignedHeader { key, signature: signer.sign(text.as_bytes()), header: self })
    }
}

impl SignedHeader {
    /// True if `key` signed exactly this header for this device of this fleet.
    pub fn verify(&self, verifier: &dyn Verify, key: &PublicKey, fleet: &str, device: DeviceId) -> bool {
        // The key id is not under the signature: unchecked, one header would have many spellings.
        match self.header.text(fleet, device) {
            Ok(text) => self.key == key.id() && verifier.verify(key, text.as_bytes(), &self.signature),
            Err(_) => false,
        }
    }

    /// Without version and kind: for journals and proofs.
    pub fn write(&self, writer: &mut Writer<'_>) -> Result<(), WireError> {
        writer.bytes(&self.key.0)?;
        writer.bytes(&self.signature.0)?;
        writer.value(&self.header)
    }

    pub fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let key = KeyId(reader.array()?);
        let signature = Signature(reader.array::<SIGNATURE_BYTES>()?);
        let header: Header = reader.take()?;
        if header.body_bytes as usize > BODY_BYTES_MAX {
            return Err(WireError::TooLarge { limit: BODY_BYTES_MAX as u32 });
        }
        Ok(Self { key, signature, header })
    }

    /// The retained message of a device that asks for the body: the header alone.
    pub fn encode_apart<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b mut [u8], WireError> {
        let mut writer = begin(buffer, Kind::Desired)?;
        self.write(&mut writer)?;
        Ok(writer.finish())
    }

    /// The retained message: the body follows unless it is over `BODY_INLINE_BYTES_MAX`.
    pub fn encode<'b>(&self, buffer: &'b mut [u8], body: &[u8]) -> Result<&'b mut [u8], WireError> {
        let length = self.header.body_bytes as usize;
        if body.len() != length {
            return Err(WireError::Malformed);
        }
        let mut writer = begin(buffer, Kind::Desired)?;
        self.write(&mut writer)?;
        if length <= BODY_INLINE_BYTES_MAX {
            writer.bytes(body)?;
        }
        Ok(writer.finish())
    }
}

/// A received desired message; nothing in it is trusted before `SignedHeader::verify` and `body_matches`.
#[derive(Clone, Copy, Debug)]
pub struct Desired<'a> {
    pub signed: SignedHeader,
    /// `None`: too long for the message or for the device's packet, to be fetched by its hash.
    pub body: Option<&'a [u8]>,
}

impl<'a> Desired<'a> {
    pub fn decode(frame: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = open(frame, Kind::Desired)?;
        let signed = SignedHeader::read(&mut reader)?;
        let length = signed.header.body_bytes as usize;
        if length > BODY_INLINE_BYTES_MAX || (length > 0 && reader.is_empty()) {
            reader.end()?;
            return Ok(Self { signed, body: None });
        }
        let body = reader.bytes(length)?;
        reader.end()?;
        Ok(Self { signed, body: Some(body) })
    }
}

/// True if `body` is what the header covers.
pub fn body_matches(header: &Header, body: &[u8]) -> bool {
    header.body_bytes as usize == body.len() && header.body == Digest::of(body)
}
