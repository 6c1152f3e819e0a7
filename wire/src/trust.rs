//! The chain of trust: each link is signed by the root and says which keys count from now on. Retained, at most 300 bytes.
//!
//! `version | kind | key id [4] | signature [64] | link`.
use crate::codec::{WireError, Writer, decode};
use crate::frame::{Kind, begin, open};
use crate::limits::{
    FLEET_BYTES_MAX, TRUST_HUB_KEYS_MAX, TRUST_LINK_BYTES_MAX, TRUST_PUBLISHER_KEYS_MAX, TRUST_REVOKED_MAX,
};
use crate::sign::{KeyId, PublicKey, SIGNATURE_BYTES, Sign, Signature, Verify};
use serde::{Deserialize, Serialize};

const DOMAIN: &[u8] = b"fulmar/v1/trust\0";
const TEXT_BYTES_MAX: usize = DOMAIN.len() + 2 + FLEET_BYTES_MAX + TRUST_LINK_BYTES_MAX;

/// One link. Version N+1 is signed by the root of version N.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub version: u32,
    /// Raised by the root alone; orders are scoped to it.
    pub epoch: u32,
    pub root: PublicKey,
    pub hub_keys: heapless::Vec<PublicKey, TRUST_HUB_KEYS_MAX>,
    pub publisher_keys: heapless::Vec<PublicKey, TRUST_PUBLISHER_KEYS_MAX>,
    pub revoked: heapless::Vec<KeyId, TRUST_REVOKED_MAX>,
}

fn with_text<T>(fleet: &str, link: &[u8], then: impl FnOnce(&[u8]) -> T) -> Result<T, WireError> {
    let mut buffer = [0; TEXT_BYTES_MAX];
    let mut writer = Writer::new(&mut buffer);
    writer.bytes(DOMAIN)?;
    writer.bytes(&[crate::version::VERSION, fleet.len() as u8])?;
    writer.bytes(fleet.as_bytes())?;
    writer.bytes(link)?;
    Ok(then(writer.written()))
}

impl Link {
    pub fn encode<'b>(&self, buffer: &'b mut [u8], signer: &dyn Sign, fleet: &str) -> Result<&'b mut [u8], WireError> {
        let mut body = [0; TRUST_LINK_BYTES_MAX];
        let mut inner = Writer::new(&mut body);
        inner.value(self).map_err(|_| WireError::TooLarge { limit: TRUST_LINK_BYTES_MAX as u32 })?;
        let signature = with_text(fleet, inner.written(), |text| signer.sign(text))?;
        let mut writer = begin(buffer, Kind::Trust)?;
        writer.bytes(&signer.public_key().id().0)?;
        writer.bytes(&signature.0)?;
        writer.bytes(inner.written())?;
        Ok(writer.finish())
    }

    /// The link of a frame that `root` signed.
    pub fn decode(frame: &[u8], verifier: &dyn Verify, root: &PublicKey, fleet: &str) -> Result<Self, WireError> {
        let mut reader = open(frame, Kind::Trust)?;
        let key = KeyId(reader.array()?);
        let signature = Signature(reader.array::<SIGNATURE_BYTES>()?);
        let body = crate::codec::bounded(reader.rest(), TRUST_LINK_BYTES_MAX)?;
        let authentic = key == root.id() && with_text(fleet, body, |text| verifier.verify(root, text, &signature))?;
        if authentic { decode(body) } else { Err(WireError::NotAuthentic) }
    }
}
