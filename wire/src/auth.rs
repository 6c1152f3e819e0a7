//! The 16-byte tag of live messages: HMAC-SHA-256 (RFC 2104, truncated as in RFC 4868) under the key of one hub and one device.
//!
//! What the receiver knows anyway (fleet, device, boot, session) is covered and not sent.
use crate::frame::Kind;
use crate::id::{BootId, DeviceId, Session};
use crate::version::VERSION;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

pub const TAG_BYTES: usize = 16;
const DOMAIN: &[u8] = b"fulmar/v1/live\0";

/// What a live message belongs to. A message of another boot or session does not verify.
#[derive(Clone, Copy, Debug)]
pub struct LiveContext<'a> {
    pub fleet: &'a str,
    pub device: DeviceId,
    pub boot: BootId,
    /// Zero for Hello, Will, Fresh and Refusal: they make or break a session and are tied to a nonce or boot instead.
    pub session: Session,
}

impl<'a> LiveContext<'a> {
    /// The context of messages outside any session.
    pub fn outside(fleet: &'a str, device: DeviceId, boot: BootId) -> Self {
        Self { fleet, device, boot, session: Session(0) }
    }
}

/// The symmetric key of one pair of hub and device, agreed at enrolment.
#[derive(Clone, PartialEq, Eq)]
pub struct PairKey(pub [u8; 32]);

impl core::fmt::Debug for PairKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("PairKey(..)")
    }
}

impl PairKey {
    pub fn tag(&self, context: &LiveContext<'_>, kind: Kind, body: &[u8]) -> [u8; TAG_BYTES] {
        let full = self.state(context, kind, body).finalize().into_bytes();
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&full[..TAG_BYTES]);
        tag
    }

    /// In constant time.
    pub fn verify(&self, context: &LiveContext<'_>, kind: Kind, body: &[u8], tag: &[u8; TAG_BYTES]) -> bool {
        self.state(context, kind, body).verify_truncated_left(tag).is_ok()
    }

    fn state(&self, context: &LiveContext<'_>, kind: Kind, body: &[u8]) -> Hmac<Sha256> {
        // RFC 2104 pads a short key with zeros to the block of the hash; padded here, the constructor cannot fail.
        let mut block = [0; 64];
        block[..32].copy_from_slice(&self.0);
        let mut mac = Hmac::<Sha256>::new((&block).into());
        mac.update(DOMAIN);
        mac.update(&[VERSION, kind as u8, context.fleet.len() as u8]);
        mac.update(context.fleet.as_bytes());
        mac.update(&context.device.0);
        mac.update(&context.boot.0);
        mac.update(&context.session.0.to_le_bytes());
        mac.update(body);
        mac
    }
}
