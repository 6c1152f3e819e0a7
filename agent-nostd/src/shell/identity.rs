//! Who this device is: keys from the seed that the flasher wrote, and what the fleet gave it when it joined.
//!
//! The keys are the same for every try of one provisioning, so that a join whose answer was lost is repeated as the same device.
//! A device that was flashed anew forgets everything first. Must never show a secret.
use super::limits::IDENTITY_BYTES;
use super::port::{Enrolment, Key, Store, StoreError};
use super::random::derive;
use crate::machine::port::JournalKey;
use serde::{Deserialize, Serialize};
use wire::codec::{Writer, decode};
use wire::join::ExchangeKey;
use wire::limits::NAME_BYTES_MAX;
use wire::sign::PublicKey;
use wire::topic::TokenId;

/// Of the stored value. A changed field is a new format.
const FORMAT: u8 = 1;

/// The seeds of both key pairs.
pub struct Seeds {
    pub identity: [u8; 32],
    pub exchange: [u8; 32],
}

impl core::fmt::Debug for Seeds {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Seeds(..)")
    }
}

impl Seeds {
    pub fn of(enrolment: &Enrolment<'_>) -> Self {
        let seed = enrolment.seed;
        Self { identity: derive(seed, b"fulmar identity."), exchange: derive(seed, b"fulmar exchange.") }
    }
}

/// What the fleet gave this device. Fleet and broker are those of the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    format: u8,
    /// With which it joined.
    pub token: TokenId,
    /// Password at the broker.
    pub credential: [u8; 32],
    pub hub_signing: PublicKey,
    pub hub_exchange: ExchangeKey,
    pub name: heapless::String<NAME_BYTES_MAX>,
}

impl core::fmt::Debug for Identity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Identity").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Lower-case hexadecimal: the form of a password.
pub fn hex<const OUT: usize>(bytes: &[u8]) -> [u8; OUT] {
    let mut out = [b'0'; OUT];
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[byte >> 4, byte & 15].map(|nibble| b"0123456789abcdef"[usize::from(nibble)]));
    }
    out
}

impl Identity {
    pub fn new(
        token: TokenId,
        credential: [u8; 32],
        hub_signing: PublicKey,
        hub_exchange: ExchangeKey,
        name: &str,
    ) -> Option<Self> {
        let name = name.try_into().ok()?;
        Some(Self { format: FORMAT, token, credential, hub_signing, hub_exchange, name })
    }

    /// The identity of this provisioning; `None`: the device has to join.
    pub fn load<S: Store>(store: &mut S, token: TokenId) -> Result<Option<Self>, StoreError> {
        let mut buffer = [0; IDENTITY_BYTES];
        let Some(length) = store.load(Key::Identity, &mut buffer)? else { return Ok(None) };
        // What cannot be read is of another format, or rotten: joining again is the cure for both.
        let stored = buffer.get(..length).and_then(|value| decode::<Self>(value).ok());
        Ok(stored.filter(|identity| identity.format == FORMAT && identity.token == token))
    }

    pub fn save<S: Store>(&self, store: &mut S) -> Result<(), StoreError> {
        let mut buffer = [0; IDENTITY_BYTES];
        let mut writer = Writer::new(&mut buffer);
        writer.value(self).map_err(|_| StoreError::TooLong)?;
        store.save(Key::Identity, writer.written())
    }

    /// Before a device joins, nothing of an earlier one may be left. Harmless if the power goes in between: it is done again.
    pub fn forget<S: Store>(store: &mut S) -> Result<(), StoreError> {
        for key in JournalKey::ALL {
            store.remove(Key::Journal(key))?;
        }
        store.retain_states(&mut |_, _| false)?;
        store.remove(Key::Identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_identity_fits() {
        let name = "n".repeat(NAME_BYTES_MAX);
        let identity = Identity::new(TokenId([1; 8]), [2; 32], PublicKey([255; 32]), ExchangeKey([255; 32]), &name);
        let mut buffer = [0; IDENTITY_BYTES];
        let mut writer = Writer::new(&mut buffer);
        writer.value(&identity.unwrap()).unwrap();
        assert!(writer.len() > 128);
        assert_eq!(
            Identity::new(TokenId([1; 8]), [2; 32], PublicKey([0; 32]), ExchangeKey([0; 32]), &(name + "n")),
            None
        );
    }

    #[test]
    fn a_password_is_in_lower_case() {
        assert_eq!(&hex::<8>(&[0x00, 0xaf, 0x10, 0xff]), b"00af10ff");
    }
}
