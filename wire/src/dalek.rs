//! ed25519 and X25519 for hosts, by dalek. Small parts bring their own `Verify`.
use crate::auth::PairKey;
use crate::digest::Digest;
use crate::id::DeviceId;
use crate::join::ExchangeKey;
use crate::limits::{JOIN_SECRET_BYTES, SEALED_CREDENTIAL_BYTES};
use crate::sign::{PublicKey, Sign, Signature, Verify};
use crate::topic::TokenId;
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use sha2::Sha256;
use x25519_dalek::{PublicKey as X25519Public, StaticSecret};

/// Strict verification: one signature, one message, one key.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ed25519;

impl Verify for Ed25519 {
    fn verify(&self, key: &PublicKey, text: &[u8], signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        VerifyingKey::from_bytes(&key.0).is_ok_and(|key| key.verify_strict(text, &signature).is_ok())
    }
}

/// An identity or hub key.
pub struct Ed25519Key(SigningKey);

impl Ed25519Key {
    /// From 32 bytes of entropy.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }
}

impl core::fmt::Debug for Ed25519Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Ed25519Key(..)")
    }
}

impl Sign for Ed25519Key {
    fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    fn sign(&self, text: &[u8]) -> Signature {
        Signature(self.0.sign(text).to_bytes())
    }
}

/// One side's X25519 secret.
pub struct ExchangeSecret(StaticSecret);

impl core::fmt::Debug for ExchangeSecret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ExchangeSecret(..)")
    }
}

impl ExchangeSecret {
    /// From 32 bytes of entropy.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(StaticSecret::from(seed))
    }

    pub fn public_key(&self) -> ExchangeKey {
        ExchangeKey(X25519Public::from(&self.0).to_bytes())
    }

    fn derive(&self, other: &ExchangeKey, salt: &[u8], info: &[&[u8]]) -> Option<[u8; 32]> {
        let shared = self.0.diffie_hellman(&X25519Public::from(other.0));
        // A key of small order gives a shared secret that everyone knows.
        if !shared.was_contributory() {
            return None;
        }
        let mut out = [0; 32];
        Hkdf::<Sha256>::new(Some(salt), shared.as_bytes()).expand_multi_info(info, &mut out).ok()?;
        Some(out)
    }

    /// `K = HKDF(X25519(device, hub), fleet, device)`: the same on both sides. `None` for a degenerate key.
    pub fn pair_key(&self, other: &ExchangeKey, fleet: &str, device: DeviceId) -> Option<PairKey> {
        self.derive(other, b"fulmar/v1/pair", &[fleet.as_bytes(), &device.0]).map(PairKey)
    }

    /// The secret of a join token, so that the hub can tell it again without storing it. Unlike everything else here it
    /// comes from the hub's own secret alone, which must have a full 32 bytes of entropy.
    pub fn join_secret(&self, fleet: &str, token: TokenId) -> Option<[u8; JOIN_SECRET_BYTES]> {
        let mut out = [0; JOIN_SECRET_BYTES];
        let hkdf = Hkdf::<Sha256>::new(Some(b"fulmar/v1/join-secret"), self.0.as_bytes());
        hkdf.expand_multi_info(&[fleet.as_bytes(), &token.0], &mut out).ok()?;
        Some(out)
    }

    /// Seals a credential into one answer. The key comes from everything else in the answer (`Accepted::covered`, which
    /// holds the nonce of the request), so that it is single-use and the credential opens only in the answer that the hub
    /// wrote. The same answer must always carry the same credential.
    pub fn seal(
        &self,
        other: &ExchangeKey,
        covered: &Digest,
        credential: &[u8; 32],
    ) -> Option<[u8; SEALED_CREDENTIAL_BYTES]> {
        let key = self.derive(other, b"fulmar/v1/credential", &[&covered.0])?;
        let mut out = [0; SEALED_CREDENTIAL_BYTES];
        out[..32].copy_from_slice(credential);
        let (text, tag_room) = out.split_at_mut(32);
        let cipher = ChaCha20Poly1305::new(&key.into());
        let tag = cipher.encrypt_inout_detached(&[0; 12].into(), &[], text.into()).ok()?;
        tag_room.copy_from_slice(&tag);
        Some(out)
    }

    /// Opens what `seal` made on the other side.
    pub fn open(&self, other: &ExchangeKey, covered: &Digest, sealed: &[u8]) -> Option<[u8; 32]> {
        let key = self.derive(other, b"fulmar/v1/credential", &[&covered.0])?;
        let (text, tag) = sealed.split_at_checked(32)?;
        let tag: [u8; 16] = tag.try_into().ok()?;
        let mut out = [0; 32];
        out.copy_from_slice(text);
        let cipher = ChaCha20Poly1305::new(&key.into());
        cipher.decrypt_inout_detached(&[0; 12].into(), &[], out.as_mut_slice().into(), &tag.into()).ok()?;
        Some(out)
    }
}
