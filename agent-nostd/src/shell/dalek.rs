//! Cryptography by dalek, for parts with some 60 KB of flash for it: constant in time, and fast on every core.
use super::port::Crypto;
use wire::dalek::{Ed25519, Ed25519Key, ExchangeSecret};
use wire::join::ExchangeKey;
use wire::sign::{PublicKey, Signature, Verify};
use wire::{DeviceId, Digest, PairKey};

/// The library.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dalek;

impl Verify for Dalek {
    fn verify(&self, key: &PublicKey, text: &[u8], signature: &Signature) -> bool {
        Ed25519.verify(key, text, signature)
    }
}

impl Crypto for Dalek {
    type Signer = Ed25519Key;

    fn signer(&self, seed: &[u8; 32]) -> Ed25519Key {
        Ed25519Key::from_seed(seed)
    }

    fn exchange_key(&self, seed: &[u8; 32]) -> ExchangeKey {
        ExchangeSecret::from_seed(*seed).public_key()
    }

    fn pair_key(&self, seed: &[u8; 32], hub: &ExchangeKey, fleet: &str, device: DeviceId) -> Option<PairKey> {
        ExchangeSecret::from_seed(*seed).pair_key(hub, fleet, device)
    }

    fn open(&self, seed: &[u8; 32], hub: &ExchangeKey, covered: &Digest, sealed: &[u8]) -> Option<[u8; 32]> {
        ExchangeSecret::from_seed(*seed).open(hub, covered, sealed)
    }
}
