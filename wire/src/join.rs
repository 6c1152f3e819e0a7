//! Joining: a single-use token out of band, one request with proof of the new key, one answer with a sealed credential.
//!
//! The token says where the broker is and which key the hub must have, so that the first contact is already authenticated.
use crate::codec::{WireError, Writer, bounded_text, decode};
use crate::digest::Digest;
use crate::frame::{Body, Kind};
use crate::hello::DeviceClass;
use crate::id::DeviceId;
use crate::limits::{ADDRESS_BYTES_MAX, FLEET_BYTES_MAX, JOIN_SECRET_BYTES, NAME_BYTES_MAX, SEALED_CREDENTIAL_BYTES};
use crate::position::Position;
use crate::sign::{PublicKey, Signature, Verify};
use crate::topic::{TokenId, check_fleet};
use serde::{Deserialize, Serialize};

const DOMAIN: &[u8] = b"fulmar/v1/join\0";
const TEXT_PREFIX: &str = "fulmar-join-";
const TOKEN_BYTES_MAX: usize = 8 + JOIN_SECRET_BYTES + 32 + 33 + ADDRESS_BYTES_MAX + FLEET_BYTES_MAX + 8;
/// Letters of the longest token text.
pub const TOKEN_TEXT_BYTES_MAX: usize = TEXT_PREFIX.len() + 2 * TOKEN_BYTES_MAX;
const REQUEST_TEXT_BYTES_MAX: usize = 512;
/// Nonce 16, device 16, two keys 64, an address and a name with their lengths, a length and a flag.
const COVERED_BYTES_MAX: usize = 16 + 16 + 64 + ADDRESS_BYTES_MAX + NAME_BYTES_MAX + 8;

/// An X25519 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExchangeKey(pub [u8; 32]);

/// What an operator hands to a device, as text.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken<'a> {
    pub id: TokenId,
    /// Password of the MQTT user `join:<id>`.
    pub secret: [u8; JOIN_SECRET_BYTES],
    pub fleet: &'a str,
    /// `mqtt://host:port` or `mqtts://host:port`.
    pub broker: &'a str,
    /// SHA-256 of the broker's certificate or its authority; `None` on plain loopback.
    pub certificate: Option<Digest>,
    /// SHA-256 over the hub's signing key, then its exchange key.
    pub hub: Digest,
}

impl core::fmt::Debug for JoinToken<'_> {
    /// Without the secret: tokens get into error messages and logs.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("JoinToken")
            .field("id", &self.id)
            .field("fleet", &self.fleet)
            .field("broker", &self.broker)
            .finish_non_exhaustive()
    }
}

/// What a token says of the hub's keys.
pub fn hub_fingerprint(signing: &PublicKey, exchange: &ExchangeKey) -> Digest {
    let mut both = [0; 64];
    both[..32].copy_from_slice(&signing.0);
    both[32..].copy_from_slice(&exchange.0);
    Digest::of(&both)
}

impl<'a> JoinToken<'a> {
    pub(crate) fn check(&self) -> Result<(), WireError> {
        bounded_text(self.broker, ADDRESS_BYTES_MAX)?;
        check_fleet(self.fleet)
    }

    /// `fulmar-join-<hexadecimal>`.
    pub fn text(&self) -> Result<heapless::String<TOKEN_TEXT_BYTES_MAX>, WireError> {
        self.check()?;
        let mut bytes = [0; TOKEN_BYTES_MAX];
        let mut writer = Writer::new(&mut bytes);
        writer.value(self)?;
        let mut out = heapless::String::new();
        out.push_str(TEXT_PREFIX).map_err(|_| WireError::NoRoom)?;
        for byte in writer.written() {
            for nibble in [byte >> 4, byte & 15] {
                out.push(char::from(b"0123456789abcdef"[usize::from(nibble)])).map_err(|_| WireError::NoRoom)?;
            }
        }
        Ok(out)
    }

    /// Reads a token text; `buffer` holds the decoded bytes that the result borrows.
    pub fn parse(text: &str, buffer: &'a mut [u8; TOKEN_TEXT_BYTES_MAX]) -> Result<Self, WireError> {
        let digits = text.trim().strip_prefix(TEXT_PREFIX).ok_or(WireError::Malformed)?.as_bytes();
        if !digits.len().is_multiple_of(2) || digits.len() / 2 > TOKEN_BYTES_MAX {
            return Err(WireError::Malformed);
        }
        let length = digits.len() / 2;
        for (byte, pair) in buffer.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        let token: JoinToken<'a> = decode(&buffer[..length])?;
        token.check()?;
        Ok(token)
    }
}

/// The value of a lower-case hexadecimal digit: a token has one spelling.
fn digit(letter: u8) -> Result<u8, WireError> {
    match letter {
        b'0'..=b'9' => Ok(letter - b'0'),
        b'a'..=b'f' => Ok(letter - b'a' + 10),
        _ => Err(WireError::Malformed),
    }
}

/// What the new device says of itself. `name` may be empty: the hub then makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinClaim<'a> {
    pub identity: PublicKey,
    pub exchange: ExchangeKey,
    pub nonce: [u8; 16],
    pub name: &'a str,
    pub class: DeviceClass,
    pub position: Option<Position>,
}

/// The claim with a signature by the identity key over fleet, token and claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest<'a> {
    #[serde(borrow)]
    pub claim: JoinClaim<'a>,
    pub signature: SignatureBytes,
}

/// serde has no arrays of 64: two halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureBytes(pub [u8; 32], pub [u8; 32]);

impl From<Signature> for SignatureBytes {
    fn from(signature: Signature) -> Self {
        let mut halves = Self([0; 32], [0; 32]);
        halves.0.copy_from_slice(&signature.0[..32]);
        halves.1.copy_from_slice(&signature.0[32..]);
        halves
    }
}

impl From<SignatureBytes> for Signature {
    fn from(halves: SignatureBytes) -> Self {
        let mut whole = [0; 64];
        whole[..32].copy_from_slice(&halves.0);
        whole[32..].copy_from_slice(&halves.1);
        Self(whole)
    }
}

impl JoinClaim<'_> {
    fn check(&self) -> Result<(), WireError> {
        bounded_text(self.name, NAME_BYTES_MAX)?;
        let misplaced = self.position.is_some_and(|position| !position.is_valid());
        if misplaced { Err(WireError::Malformed) } else { Ok(()) }
    }

    fn with_text<T>(&self, fleet: &str, token: TokenId, then: impl FnOnce(&[u8]) -> T) -> Result<T, WireError> {
        self.check()?;
        let mut buffer = [0; REQUEST_TEXT_BYTES_MAX];
        let mut writer = Writer::new(&mut buffer);
        writer.bytes(DOMAIN)?;
        writer.bytes(&[crate::version::VERSION, fleet.len() as u8])?;
        writer.bytes(fleet.as_bytes())?;
        writer.bytes(&token.0)?;
        writer.value(self)?;
        Ok(then(writer.written()))
    }

    /// The request, signed by the identity key.
    pub fn sign(
        self,
        signer: &dyn crate::sign::Sign,
        fleet: &str,
        token: TokenId,
    ) -> Result<SignatureBytes, WireError> {
        self.with_text(fleet, token, |text| signer.sign(text).into())
    }
}

impl JoinRequest<'_> {
    /// Proof of possession of the identity key, and sane content.
    pub fn verify(&self, verifier: &dyn Verify, fleet: &str, token: TokenId) -> Result<DeviceId, WireError> {
        let signature = self.signature.into();
        let authentic =
            self.claim.with_text(fleet, token, |text| verifier.verify(&self.claim.identity, text, &signature))?;
        if authentic { Ok(DeviceId::of_key(&self.claim.identity.0)) } else { Err(WireError::NotAuthentic) }
    }
}

impl Body for JoinRequest<'_> {
    const KIND: Kind = Kind::JoinRequest;

    fn check(&self) -> Result<(), WireError> {
        self.claim.check()
    }
}

/// Why a join was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinRefusal {
    TokenUsed,
    TokenExpired,
    NotAuthentic,
    NameTaken,
    Malformed,
    Busy,
}

/// What a device needs from then on. The credential is sealed to the device under a key agreed with `exchange`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted<'a> {
    pub nonce: [u8; 16],
    pub device: DeviceId,
    pub hub_signing: PublicKey,
    pub hub_exchange: ExchangeKey,
    #[serde(borrow)]
    pub sealed: &'a [u8],
    /// Where artifacts are fetched over HTTP; empty: over MQTT only.
    pub artifacts: &'a str,
    pub name: &'a str,
    pub approved: bool,
}

impl Accepted<'_> {
    /// Of everything but the sealed credential. The seal's key comes from it, so that nobody on the way can change what
    /// stands beside the credential.
    pub fn covered(&self) -> Result<Digest, WireError> {
        let mut buffer = [0; COVERED_BYTES_MAX];
        let mut writer = Writer::new(&mut buffer);
        writer.value(&Self { sealed: &[], ..*self })?;
        Ok(Digest::of(writer.written()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinAnswer<'a> {
    #[serde(borrow)]
    Accepted(Accepted<'a>),
    Refused {
        nonce: [u8; 16],
        reason: JoinRefusal,
    },
}

impl Body for JoinAnswer<'_> {
    const KIND: Kind = Kind::JoinAnswer;

    fn check(&self) -> Result<(), WireError> {
        match self {
            Self::Accepted(accepted) => {
                bounded_text(accepted.artifacts, ADDRESS_BYTES_MAX)?;
                bounded_text(accepted.name, NAME_BYTES_MAX)?;
                let sealed = accepted.sealed.len() == SEALED_CREDENTIAL_BYTES;
                if sealed { Ok(()) } else { Err(WireError::Malformed) }
            }
            Self::Refused { .. } => Ok(()),
        }
    }
}
