//! Who this device is: keys from the seed that the flasher wrote and from the chip's own random source, and what the fleet gave it
//! when it joined.
//!
//! The keys are the same for every try of one provisioning, so that a join whose answer was lost is repeated as the same device.
//! A device that was flashed anew forgets everything first. Must never show a secret.
use super::limits::IDENTITY_BYTES;
use super::port::{Enrolment, Key, Store, StoreError};
use super::random::derive;
use crate::machine::port::JournalKey;
use serde::{Deserialize, Serialize};
use wire::Digest;
use wire::codec::{Writer, decode};
use wire::join::ExchangeKey;
use wire::limits::NAME_BYTES_MAX;
use wire::sign::PublicKey;
use wire::topic::TokenId;

/// Of the stored value. A changed field is a new format.
const FORMAT: u8 = 2;

/// 32 random bytes of the chip's own.
pub type OwnSeed = [u8; 32];

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
    /// `own`: what the chip drew for this provisioning. Without it, whoever knows the flasher's seed knows the keys.
    fn of(enrolment: &Enrolment<'_>, own: Option<&OwnSeed>) -> Self {
        let mixed = own.map(|own| Digest::of_parts(&[b"fulmar own seed.", enrolment.seed, own]).0);
        let seed = mixed.as_ref().unwrap_or(enrolment.seed);
        Self { identity: derive(seed, b"fulmar identity."), exchange: derive(seed, b"fulmar exchange.") }
    }
}

/// What is in flash of one provisioning.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: u8,
    token: TokenId,
    own: Option<OwnSeed>,
    /// `None`: it has not joined yet.
    identity: Option<Identity>,
}

/// One provisioning: what this device's keys are made of, and what came of it.
pub struct Provisioning {
    token: TokenId,
    own: Option<OwnSeed>,
    pub identity: Option<Identity>,
}

impl core::fmt::Debug for Provisioning {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Provisioning").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// What the fleet gave this device. Fleet and broker are those of the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
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
    pub fn new(credential: [u8; 32], hub_signing: PublicKey, hub_exchange: ExchangeKey, name: &str) -> Option<Self> {
        let name = name.try_into().ok()?;
        Some(Self { credential, hub_signing, hub_exchange, name })
    }
}

impl Provisioning {
    /// What is known of the provisioning of this token; a new one if nothing is. `draw`: 32 random bytes, on a chip that has a source
    /// of its own. They are in flash before they are used, so that every try to join is one device's.
    pub fn open<S: Store>(
        store: &mut S,
        token: TokenId,
        draw: impl FnOnce() -> Option<OwnSeed>,
    ) -> Result<Self, StoreError> {
        let mut buffer = [0; IDENTITY_BYTES];
        if let Some(length) = store.load(Key::Identity, &mut buffer)? {
            // What cannot be read is of another format, or rotten: joining again is the cure for both.
            let stored = buffer.get(..length).and_then(|value| decode::<Stored>(value).ok());
            if let Some(Stored { own, identity, .. }) = stored.filter(|it| it.format == FORMAT && it.token == token) {
                return Ok(Self { token, own, identity });
            }
        }
        forget(store)?;
        let provisioning = Self { token, own: draw(), identity: None };
        if provisioning.own.is_some() {
            provisioning.save(store, None)?;
        }
        Ok(provisioning)
    }

    pub fn seeds(&self, enrolment: &Enrolment<'_>) -> Seeds {
        Seeds::of(enrolment, self.own.as_ref())
    }

    /// Keeps what the fleet gave.
    pub fn save<S: Store>(&self, store: &mut S, identity: Option<&Identity>) -> Result<(), StoreError> {
        let stored = Stored { format: FORMAT, token: self.token, own: self.own, identity: identity.cloned() };
        let mut buffer = [0; IDENTITY_BYTES];
        let mut writer = Writer::new(&mut buffer);
        writer.value(&stored).map_err(|_| StoreError::TooLong)?;
        store.save(Key::Identity, writer.written())
    }
}

/// Before a device joins, nothing of an earlier one may be left. Harmless if the power goes in between: it is done again.
fn forget<S: Store>(store: &mut S) -> Result<(), StoreError> {
    for key in JournalKey::ALL {
        store.remove(Key::Journal(key))?;
    }
    store.retain_states(&mut |_, _| false)?;
    store.remove(Key::Identity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Flash;
    use crate::store::tests::mock::MockFlash;
    use wire::join::JoinToken;
    use wire::limits::JOIN_SECRET_BYTES;

    type Nor = MockFlash<4, 1024>;

    fn flash() -> Flash<Nor, Nor> {
        Flash::open(Nor::new(8), Nor::new(16))
    }

    fn enrolment() -> Enrolment<'static> {
        let (id, hub) = (TokenId([0; 8]), Digest([0; 32]));
        let token =
            JoinToken { id, secret: [0; JOIN_SECRET_BYTES], fleet: "f", broker: "mqtt://h:1", certificate: None, hub };
        Enrolment { token, name: "", position: None, seed: &[7; 32] }
    }

    fn keys(provisioning: &Provisioning) -> ([u8; 32], [u8; 32]) {
        let seeds = provisioning.seeds(&enrolment());
        (seeds.identity, seeds.exchange)
    }

    fn identity(name: &str) -> Option<Identity> {
        Identity::new([2; 32], PublicKey([255; 32]), ExchangeKey([255; 32]), name)
    }

    #[test]
    fn the_longest_identity_fits() {
        let name = "n".repeat(NAME_BYTES_MAX);
        let longest = identity(&name).unwrap();
        let mut store = flash();
        let provisioning = Provisioning::open(&mut store, TokenId([255; 8]), || Some([255; 32])).unwrap();
        provisioning.save(&mut store, Some(&longest)).unwrap();
        assert!(store.load(Key::Identity, &mut [0; IDENTITY_BYTES]).unwrap().is_some_and(|length| length > 200));
        let again = Provisioning::open(&mut store, TokenId([255; 8]), || panic!()).unwrap();
        assert_eq!(again.identity, Some(longest));
        assert_eq!(identity(&(name + "n")), None);
    }

    #[test]
    fn a_chip_draws_once_for_a_provisioning_and_before_it_joins() {
        let mut store = flash();
        let first = Provisioning::open(&mut store, TokenId([1; 8]), || Some([5; 32])).unwrap();
        // The power goes before the answer comes.
        let again = Provisioning::open(&mut store, TokenId([1; 8]), || panic!("drawn twice")).unwrap();
        assert_eq!((keys(&first), again.identity.is_none()), (keys(&again), true));
        again.save(&mut store, identity("n").as_ref()).unwrap();
        // Flashed anew: another token, other keys, nothing of the device before it.
        let other = Provisioning::open(&mut store, TokenId([2; 8]), || Some([6; 32])).unwrap();
        assert!(other.identity.is_none() && keys(&other) != keys(&first));
        // Another chip with the same record.
        let twin = Provisioning::open(&mut flash(), TokenId([1; 8]), || Some([8; 32])).unwrap();
        assert_ne!(keys(&twin), keys(&first));
    }

    #[test]
    fn without_a_random_source_the_flashers_seed_makes_the_keys_and_nothing_is_written_before_the_join() {
        let mut store = flash();
        let plain = Provisioning::open(&mut store, TokenId([1; 8]), || None).unwrap();
        assert_eq!(store.load(Key::Identity, &mut []), Ok(None));
        let twin = Provisioning::open(&mut flash(), TokenId([1; 8]), || None).unwrap();
        assert_eq!(keys(&plain), keys(&twin));
    }

    #[test]
    fn a_password_is_in_lower_case() {
        assert_eq!(&hex::<8>(&[0x00, 0xaf, 0x10, 0xff]), b"00af10ff");
    }
}
