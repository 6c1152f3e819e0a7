//! Signatures as an interface: dalek on hosts, a smaller library on small parts, a keyed hash in most simulated runs.

/// An ed25519 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct PublicKey(pub [u8; 32]);

/// The first four bytes of a key: says which key to try, proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct KeyId(pub [u8; 4]);

pub const SIGNATURE_BYTES: usize = 64;

/// An ed25519 signature, RFC 8032.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; SIGNATURE_BYTES]);

impl core::fmt::Debug for Signature {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Signature(..)")
    }
}

impl PublicKey {
    pub fn id(&self) -> KeyId {
        KeyId([self.0[0], self.0[1], self.0[2], self.0[3]])
    }
}

/// Checks a signature over the bytes as received. Implementations use strict verification.
pub trait Verify {
    fn verify(&self, key: &PublicKey, text: &[u8], signature: &Signature) -> bool;
}

/// Signs. The key stays inside.
pub trait Sign {
    fn public_key(&self) -> PublicKey;
    fn sign(&self, text: &[u8]) -> Signature;
}
