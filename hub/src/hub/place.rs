//! Where the broker is: in this process, or elsewhere with accounts that follow the database. No decision is made here.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use wire::dalek::ExchangeSecret;
use wire::topic::TokenId;
use wire::{DeviceId, Digest, PairKey};

use super::broker_slot::BrokerSlot;
use super::{HubConfig, HubError, loopback, now_ms, reach};
use crate::broker::{AccessTable, BrokerConfig, BrokerError, Credential, Front};
use crate::commit::Loaded;
use crate::engine::port::CredentialOrigin;
use crate::engine::{credential, device_password, join_password};
use crate::keys::Keys;
use crate::metrics::BrokerMeasures;
use crate::mqtt::Endpoint;
use crate::provision::{self, ExternalBroker, Owner, ProvisionError, Provisioner};
use crate::tls::{Door, Tls};

/// Devices that are named in a warning.
const NAMED_MAX: usize = 5;

/// The broker of this hub.
pub(super) enum Place {
    Embedded(BrokerSlot),
    External(External),
}

/// What is needed to tell a broker elsewhere passwords of which the database has hashes.
pub(super) struct External {
    pub(super) provisioner: Provisioner,
    pub(super) exchange: Arc<ExchangeSecret>,
    pub(super) fleet: String,
    /// Of the connection for messages.
    pub(super) hub_password: String,
}

/// A broker that can be used, and how the hub's connection for messages gets there.
pub(super) struct Started {
    pub(super) place: Place,
    pub(super) front: Option<Front>,
    /// Where this process listens for MQTT, if it does.
    pub(super) address: SocketAddr,
    pub(super) endpoint: Endpoint,
    pub(super) credential: Credential,
    /// Of the external broker, for devices.
    pub(super) authority: Option<Digest>,
    pub(super) warnings: Vec<String>,
}

pub(super) fn start_embedded(
    config: &HubConfig,
    door: Option<Door>,
    access: &Arc<AccessTable>,
    retained: Vec<(String, Vec<u8>)>,
) -> Result<Started, HubError> {
    // Behind TLS the broker itself is for this process alone.
    let listen = if door.is_some() { loopback(0) } else { config.broker };
    let slot = BrokerSlot::start(BrokerConfig { listen, limits: config.broker_limits }, access.clone(), retained)?;
    let front = door.map(|door| Front::start(config.broker, slot.address(), door)).transpose()?;
    Ok(Started {
        address: front.as_ref().map_or(slot.address(), Front::address),
        front,
        endpoint: Endpoint::plain(slot.address()),
        credential: access.hub_credential(),
        authority: None,
        warnings: Vec::new(),
        place: Place::Embedded(slot),
    })
}

pub(super) fn start_external(
    external: &ExternalBroker,
    tls: Option<&Tls>,
    keys: &Keys,
    loaded: &Loaded,
) -> Result<Started, HubError> {
    let (endpoint, administrator, authority) = external.open()?;
    match (tls, authority) {
        (Some(tls), Some(authority)) if tls.authority() != authority => {
            return Err(ProvisionError::TwoAuthorities.into());
        }
        (Some(_), None) => return Err(ProvisionError::ApiOnly { broker: external.advertised().to_string() }.into()),
        (Some(_) | None, _) => {}
    }
    let random = |error: getrandom::Error| HubError::System { what: "random bytes", error: io::Error::other(error) };
    // New at every start, as with the embedded broker.
    let credential = Credential::random(&provision::hub_user(&loaded.fleet)).map_err(random)?;
    let (mut list, warning) = accounts(loaded, &keys.exchange, now_ms());
    list.push((Owner::Hub, credential.password.clone()));
    let provisioner = Provisioner::start(&endpoint, &administrator, &loaded.fleet, list)?;
    provision::self_test(&endpoint, &credential, &loaded.fleet)?;
    let (exchange, fleet) = (Arc::clone(&keys.exchange), loaded.fleet.clone());
    Ok(Started {
        place: Place::External(External { provisioner, exchange, fleet, hub_password: credential.password.clone() }),
        front: None,
        address: loopback(0),
        endpoint,
        credential,
        authority,
        warnings: warning.into_iter().chain(reach::external_warning(external)).collect(),
    })
}

impl Place {
    /// Returns what `settled` has to reach until the device can connect. Whoever is connected with an older credential is
    /// cut off.
    pub(super) fn device_put(
        &self,
        id: DeviceId,
        sha256: &[u8; 32],
        origin: Option<CredentialOrigin>,
        is_replaced: bool,
    ) -> u64 {
        match self {
            Self::Embedded(slot) => {
                // A new device is not connected, because nobody can be.
                if is_replaced {
                    slot.kick(&id.text());
                }
                0
            }
            Self::External(External { provisioner, exchange, fleet, .. }) => {
                let pair = origin.as_ref().and_then(|origin| exchange.pair_key(&origin.exchange, fleet, id));
                match device_account(pair.as_ref(), origin.map(|origin| origin.nonce), sha256) {
                    Some(password) => provisioner.put(Owner::Device(id), password),
                    None => provisioner.remove(Owner::Device(id)),
                }
            }
        }
    }

    pub(super) fn device_remove(&self, id: DeviceId) {
        match self {
            Self::Embedded(slot) => slot.kick(&id.text()),
            Self::External(external) => drop(external.provisioner.remove(Owner::Device(id))),
        }
    }

    /// This hub's own account counts, whoever changed it.
    pub(super) fn hub_put(&self) {
        match self {
            Self::Embedded(_) => {}
            Self::External(External { provisioner, hub_password, .. }) => {
                provisioner.put(Owner::Hub, hub_password.clone());
            }
        }
    }

    pub(super) fn join_put(&self, token: TokenId, sha256: &[u8; 32]) -> u64 {
        match self {
            Self::Embedded(_) => 0,
            Self::External(External { provisioner, exchange, fleet, .. }) => {
                let password = join_account(exchange, fleet, token, sha256);
                password.map_or(0, |password| provisioner.put(Owner::Join(token), password))
            }
        }
    }

    pub(super) fn join_remove(&self, token: TokenId) {
        match self {
            // A session without its entry can neither publish nor hear more.
            Self::Embedded(_) => {}
            Self::External(external) => drop(external.provisioner.remove(Owner::Join(token))),
        }
    }

    /// All changes up to this number count at the broker.
    pub(super) fn settled(&self) -> u64 {
        match self {
            Self::Embedded(_) => u64::MAX,
            Self::External(external) => external.provisioner.settled(),
        }
    }

    /// Changes can be told to the broker now.
    pub(super) fn is_connected(&self) -> bool {
        match self {
            Self::Embedded(_) => true,
            Self::External(external) => external.provisioner.is_connected(),
        }
    }

    pub(super) fn measures(&self) -> BrokerMeasures {
        match self {
            Self::Embedded(slot) => BrokerMeasures { sessions: slot.sessions(), accounts_behind: 0 },
            Self::External(external) => {
                let behind = u64::try_from(external.provisioner.behind()).unwrap_or(u64::MAX);
                BrokerMeasures { sessions: 0, accounts_behind: behind }
            }
        }
    }

    /// Begins anew with an empty embedded broker; another one is not ours to restart.
    pub(super) fn restart(&self) -> Result<(), BrokerError> {
        match self {
            Self::Embedded(slot) => slot.restart(),
            Self::External(_) => Ok(()),
        }
    }

    /// The connection for messages has ended: another hub may have taken the account.
    pub(super) fn link_lost(&self) {
        match self {
            Self::Embedded(_) => {}
            Self::External(external) => external.provisioner.look(),
        }
    }

    /// Another hub runs with this hub's account. The embedded broker has one hub.
    pub(super) fn is_taken(&self) -> bool {
        match self {
            Self::Embedded(_) => false,
            Self::External(external) => external.provisioner.is_taken(),
        }
    }

    pub(super) fn supervise(&self) {
        match self {
            Self::Embedded(slot) => slot.supervise(),
            Self::External(_) => {}
        }
    }

    /// False when a part that cannot be restarted has ended.
    pub(super) fn is_running(&self) -> bool {
        match self {
            // Replaced by its supervisor.
            Self::Embedded(_) => true,
            Self::External(external) => external.provisioner.is_running(),
        }
    }

    pub(super) fn stop(&self) {
        match self {
            Self::Embedded(slot) => slot.stop(),
            Self::External(external) => external.provisioner.stop(),
        }
    }
}

/// The password of a device, if it can still be told and is the one that the database knows.
fn device_account(pair: Option<&PairKey>, nonce: Option<[u8; 16]>, sha256: &[u8; 32]) -> Option<String> {
    let password = device_password(&credential(pair?, &nonce?));
    (Digest::of(password.as_bytes()).0 == *sha256).then_some(password)
}

fn join_account(exchange: &ExchangeSecret, fleet: &str, token: TokenId, sha256: &[u8; 32]) -> Option<String> {
    let password = join_password(&exchange.join_secret(fleet, token)?);
    (Digest::of(password.as_bytes()).0 == *sha256).then_some(password)
}

/// The accounts of a database, and what an operator should know about those that cannot be told.
pub(super) fn accounts(
    loaded: &Loaded,
    exchange: &ExchangeSecret,
    now_ms: u128,
) -> (Vec<(Owner, String)>, Option<String>) {
    let mut accounts = Vec::with_capacity(loaded.devices.len() + loaded.tokens.len());
    let mut lost = Vec::new();
    for (device, pair) in &loaded.devices {
        match device_account(pair.as_ref(), device.join_nonce, &device.credential_sha256) {
            Some(password) => accounts.push((Owner::Device(device.device), password)),
            None => lost.push(device.name.as_str()),
        }
    }
    // A used token stays: its device may not have heard the answer and asks again.
    for token in loaded.tokens.iter().filter(|token| u128::from(token.expires_ms) > now_ms) {
        // One of before tokens could be told again is made anew by whoever needs it.
        let password = join_account(exchange, &loaded.fleet, token.id, &token.secret_sha256);
        accounts.extend(password.map(|password| (Owner::Join(token.id), password)));
    }
    let warning = (!lost.is_empty()).then(|| {
        let named = lost.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
        let more = if lost.len() > NAMED_MAX { ", ..." } else { "" };
        format!(
            "{} of the devices cannot use this broker before they join again: they joined with an earlier version of the hub, which did \
             not keep what their credentials are made from ({named}{more}). For each: fulmar delete device NAME, remove the data \
             directory of its agent, and let it join with a new token",
            lost.len()
        )
    });
    (accounts, warning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_password_that_the_database_knows_is_told() {
        let exchange = ExchangeSecret::from_seed([7; 32]);
        let (pair, nonce) = (PairKey([3; 32]), [5; 16]);
        let password = device_password(&credential(&pair, &nonce));
        let known = Digest::of(password.as_bytes()).0;
        assert_eq!(device_account(Some(&pair), Some(nonce), &known), Some(password));
        assert_eq!(device_account(Some(&pair), Some([6; 16]), &known), None, "of another join");
        assert_eq!(device_account(Some(&pair), None, &known), None, "of a hub that kept no nonce");
        assert_eq!(device_account(None, Some(nonce), &known), None);
        // A token whose secret was random, as tokens were.
        let token = TokenId([1; 8]);
        assert_eq!(join_account(&exchange, "north", token, &[9; 32]), None);
        let secret = exchange.join_secret("north", token).map(|secret| join_password(&secret));
        let known = Digest::of(secret.as_deref().unwrap_or_default().as_bytes()).0;
        assert_eq!(join_account(&exchange, "north", token, &known), secret);
        assert_eq!(join_account(&exchange, "south", token, &known), None, "of another fleet");
    }
}
