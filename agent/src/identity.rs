//! Who this device is: its two keys, made once, and what the fleet gave it when it joined. One file, `identity.json`.
//!
//! The keys are on disk before they are ever used, so that a join whose answer was lost can be repeated as the same device.
//! Must never print a secret, and never replace a key.
use crate::disk;
use crate::tls::Authority;
use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use wire::dalek::{Ed25519Key, ExchangeSecret};
use wire::hello::DeviceClass;
use wire::join::ExchangeKey;
use wire::position::Position;
use wire::sign::{PublicKey, Sign};
use wire::{DeviceId, PairKey};

/// Name of the file in the data directory.
pub const IDENTITY_FILE: &str = "identity.json";
/// Bytes of the file; ours has less than a thousand.
const IDENTITY_BYTES_MAX: u64 = 16 * 1024;
/// Of the file.
const FORMAT_VERSION: u32 = 1;

/// Why an identity could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot use {path}: {source}. Check that the directory exists, is writable and belongs to this user")]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{path} is damaged ({why}). Restore it from a copy; without one, remove the data directory and join again as a new device"
    )]
    Damaged { path: PathBuf, why: String },
    #[error("this device has not joined a fleet: {path} holds no membership. Run `fulmar-agent join <token>` first")]
    NotJoined { path: PathBuf },
    #[error(
        "the system gives no random bytes ({0}), so no key can be made. Try again when the system has started fully"
    )]
    Entropy(getrandom::Error),
}

/// Secret bytes that are written to disk and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    pub fn random() -> Result<Self, IdentityError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(IdentityError::Entropy)?;
        Ok(Self(bytes))
    }

    /// Lower-case hexadecimal: the form of a password.
    pub fn hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }
}

/// What the fleet gave this device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    pub fleet: String,
    pub name: String,
    /// Password at the broker and for artifacts.
    pub credential: Secret,
    pub hub_signing: PublicKey,
    pub hub_exchange: ExchangeKey,
    /// `mqtt://host:port` or `mqtts://host:port`
    pub broker: String,
    /// Vouches for the broker and the source of artifacts; `None` without encryption.
    pub authority: Option<Authority>,
    /// Base of the addresses of artifacts; empty: there is none.
    pub artifacts: String,
    pub class: DeviceClass,
    pub position: Option<Position>,
}

/// The keys of this device and its membership, if it has joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub identity_seed: Secret,
    pub exchange_seed: Secret,
    pub membership: Option<Membership>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityText {
    version: u32,
    /// For people; the truth is the key.
    device: String,
    identity_seed: String,
    exchange_seed: String,
    membership: Option<MembershipText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MembershipText {
    fleet: String,
    name: String,
    credential: String,
    hub_signing: String,
    hub_exchange: String,
    broker: String,
    artifacts: String,
    class: String,
    position: Option<Position>,
    /// Base64 of a certificate in DER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    authority: Option<String>,
}

/// The name of a class in files and on the command line.
pub const fn class_text(class: DeviceClass) -> &'static str {
    match class {
        DeviceClass::Mcu => "mcu",
        DeviceClass::Gateway => "gateway",
    }
}

/// The class of that name.
pub fn class_parse(text: &str) -> Option<DeviceClass> {
    [DeviceClass::Mcu, DeviceClass::Gateway].into_iter().find(|class| class_text(*class) == text)
}

fn bytes_32(text: &str, what: &str) -> Result<[u8; 32], String> {
    let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| format!("{what} is not hexadecimal"))?;
    bytes.try_into().map_err(|_| format!("{what} has not 32 bytes"))
}

fn authority_read(text: &str) -> Result<Authority, String> {
    let der = BASE64.decode(text.as_bytes()).map_err(|_| "the authority is not base64".to_owned())?;
    Ok(Authority::from_der(der))
}

impl IdentityText {
    fn of(identity: &Identity) -> Self {
        Self {
            version: FORMAT_VERSION,
            device: identity.device().to_string(),
            identity_seed: identity.identity_seed.hex(),
            exchange_seed: identity.exchange_seed.hex(),
            membership: identity.membership.as_ref().map(|membership| MembershipText {
                fleet: membership.fleet.clone(),
                name: membership.name.clone(),
                credential: membership.credential.hex(),
                hub_signing: HEXLOWER.encode(&membership.hub_signing.0),
                hub_exchange: HEXLOWER.encode(&membership.hub_exchange.0),
                broker: membership.broker.clone(),
                artifacts: membership.artifacts.clone(),
                class: class_text(membership.class).to_owned(),
                position: membership.position,
                authority: membership.authority.as_ref().map(|authority| BASE64.encode(authority.der())),
            }),
        }
    }

    fn read(self) -> Result<Identity, String> {
        if self.version != FORMAT_VERSION {
            return Err(format!("version {} is not read by this agent", self.version));
        }
        let membership = match self.membership {
            Some(text) => Some(Membership {
                authority: text.authority.as_deref().map(authority_read).transpose()?,
                credential: Secret(bytes_32(&text.credential, "the credential")?),
                hub_signing: PublicKey(bytes_32(&text.hub_signing, "the hub's signing key")?),
                hub_exchange: ExchangeKey(bytes_32(&text.hub_exchange, "the hub's exchange key")?),
                class: class_parse(&text.class).ok_or_else(|| format!("class {:?} is unknown", text.class))?,
                fleet: text.fleet,
                name: text.name,
                broker: text.broker,
                artifacts: text.artifacts,
                position: text.position,
            }),
            None => None,
        };
        let identity = Identity {
            identity_seed: Secret(bytes_32(&self.identity_seed, "the identity seed")?),
            exchange_seed: Secret(bytes_32(&self.exchange_seed, "the exchange seed")?),
            membership,
        };
        if identity.device().to_string() != self.device {
            return Err("the device id does not belong to the key".to_owned());
        }
        Ok(identity)
    }
}

impl Identity {
    /// New keys.
    pub fn generate() -> Result<Self, IdentityError> {
        Ok(Self { identity_seed: Secret::random()?, exchange_seed: Secret::random()?, membership: None })
    }

    pub fn signing_key(&self) -> Ed25519Key {
        Ed25519Key::from_seed(&self.identity_seed.0)
    }

    pub fn exchange_secret(&self) -> ExchangeSecret {
        ExchangeSecret::from_seed(self.exchange_seed.0)
    }

    pub fn device(&self) -> DeviceId {
        DeviceId::of_key(&self.signing_key().public_key().0)
    }

    /// The key of the pair of this device and its hub; `None` if it has not joined or the hub's key is degenerate.
    pub fn pair_key(&self) -> Option<PairKey> {
        let membership = self.membership.as_ref()?;
        self.exchange_secret().pair_key(&membership.hub_exchange, &membership.fleet, self.device())
    }

    /// The identity in a data directory; `None` if there is none yet.
    pub fn load(data: &Path) -> Result<Option<Self>, IdentityError> {
        let path = data.join(IDENTITY_FILE);
        let content = disk::read_bounded(&path, IDENTITY_BYTES_MAX)
            .map_err(|source| IdentityError::Io { path: path.clone(), source })?;
        let Some(content) = content else {
            return Ok(None);
        };
        let damaged = |why: String| IdentityError::Damaged { path: path.clone(), why };
        let text: IdentityText = serde_json::from_slice(&content).map_err(|error| damaged(error.to_string()))?;
        text.read().map(Some).map_err(damaged)
    }

    /// Durable on return.
    pub fn save(&self, data: &Path) -> Result<(), IdentityError> {
        let path = data.join(IDENTITY_FILE);
        let write = || -> io::Result<()> {
            disk::directory_create(data)?;
            let mut content = serde_json::to_vec_pretty(&IdentityText::of(self))?;
            content.push(b'\n');
            disk::replace(&path, &content)
        };
        write().map_err(|source| IdentityError::Io { path: path.clone(), source })
    }

    /// The identity of a device that has joined.
    pub fn load_member(data: &Path) -> Result<(Self, Membership), IdentityError> {
        let not_joined = || IdentityError::NotJoined { path: data.join(IDENTITY_FILE) };
        let identity = Self::load(data)?.ok_or_else(not_joined)?;
        let membership = identity.membership.clone().ok_or_else(not_joined)?;
        Ok((identity, membership))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn joined() -> Identity {
        let mut identity = Identity::generate().unwrap();
        identity.membership = Some(Membership {
            fleet: "north".to_owned(),
            name: "gate-1".to_owned(),
            credential: Secret([7; 32]),
            hub_signing: PublicKey([1; 32]),
            hub_exchange: ExchangeSecret::from_seed([2; 32]).public_key(),
            broker: "mqtt://127.0.0.1:1883".to_owned(),
            artifacts: "http://127.0.0.1:7443".to_owned(),
            authority: Some(Authority::from_der(vec![1, 2, 3])),
            class: DeviceClass::Gateway,
            position: Some(Position { longitude_e7: 1, latitude_e7: -2, uncertainty_m: 3 }),
        });
        identity
    }

    #[test]
    fn an_identity_survives_its_file() {
        let data = tempfile::tempdir().unwrap();
        let data = data.path().join("new");
        assert_eq!(Identity::load(&data).unwrap(), None);
        let identity = joined();
        identity.save(&data).unwrap();
        assert_eq!(Identity::load(&data).unwrap(), Some(identity));
    }

    #[test]
    fn keys_without_membership_are_not_a_member() {
        let data = tempfile::tempdir().unwrap();
        Identity::generate().unwrap().save(data.path()).unwrap();
        assert!(matches!(Identity::load_member(data.path()), Err(IdentityError::NotJoined { .. })));
    }

    #[test]
    fn a_file_with_another_devices_id_is_damaged() {
        let data = tempfile::tempdir().unwrap();
        joined().save(data.path()).unwrap();
        let path = data.path().join(IDENTITY_FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        let id = joined().device().to_string();
        let own = Identity::load(data.path()).unwrap().unwrap().device().to_string();
        std::fs::write(&path, text.replace(&own, &id)).unwrap();
        assert!(matches!(Identity::load(data.path()), Err(IdentityError::Damaged { .. })));
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(Identity::load(data.path()), Err(IdentityError::Damaged { .. })));
    }

    #[test]
    fn a_secret_is_never_shown() {
        let shown = format!("{:?}", joined());
        assert!(!shown.contains("[7, 7"), "{shown}");
        assert!(!shown.contains("0707"), "{shown}");
    }
}
