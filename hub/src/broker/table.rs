//! The table of credentials and the topic rules of the fleet (protocol, section 3).
//!
//! It holds hashes only and lives in memory: the store is the truth and fills it before the broker starts. It must
//! never let one device read or write another one's topics, and never grant what it does not know.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use sha2::{Digest, Sha256};

use super::access::{Access, ClientName, Credential, HUB_USER, JOIN_USER_PREFIX, Verdict, is_name};

/// SHA-256 of a password.
pub type SecretHash = [u8; 32];

/// Why a name was not entered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} cannot be a broker user: names are up to 64 ASCII letters and digits, and not \"hub\"")]
pub struct NameRefused {
    /// The refused name.
    pub name: String,
}

/// Credentials of devices, of join tokens and of the hub, behind the fleet's topic rules.
#[derive(Debug)]
pub struct AccessTable {
    fleet: String,
    hub: Credential,
    secrets: RwLock<Secrets>,
}

#[derive(Debug, Default)]
struct Secrets {
    devices: HashMap<String, SecretHash>,
    joins: HashMap<String, SecretHash>,
}

impl AccessTable {
    /// An empty table for one fleet, with a new credential for the hub.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn new(fleet: &str) -> Result<Self, getrandom::Error> {
        Ok(Self { fleet: fleet.to_owned(), hub: Credential::random(HUB_USER)?, secrets: RwLock::default() })
    }

    /// What the hub connects with. New at every start of the process.
    #[must_use]
    pub fn hub_credential(&self) -> Credential {
        self.hub.clone()
    }

    /// Enters a device or replaces its credential. A replaced device keeps its live session until it is kicked.
    ///
    /// # Errors
    /// When the id is not a name that is safe inside a topic.
    pub fn device_put(&self, device: &str, secret: SecretHash) -> Result<(), NameRefused> {
        if !is_name(device) || device == HUB_USER {
            return Err(NameRefused { name: device.to_owned() });
        }
        self.write().devices.insert(device.to_owned(), secret);
        Ok(())
    }

    /// Forgets a device; `true` when it was there.
    pub fn device_remove(&self, device: &str) -> bool {
        self.write().devices.remove(device).is_some()
    }

    /// Enters the user of a join token.
    ///
    /// # Errors
    /// When the token's id is not a name that is safe inside a topic.
    pub fn join_put(&self, token: &str, secret: SecretHash) -> Result<(), NameRefused> {
        if !is_name(token) {
            return Err(NameRefused { name: token.to_owned() });
        }
        self.write().joins.insert(token.to_owned(), secret);
        Ok(())
    }

    /// Forgets the user of a join token; `true` when it was there.
    pub fn join_remove(&self, token: &str) -> bool {
        self.write().joins.remove(token).is_some()
    }

    // A poisoned lock means that a holder panicked between two single map operations: the maps are still whole.
    fn read(&self) -> RwLockReadGuard<'_, Secrets> {
        self.secrets.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Secrets> {
        self.secrets.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn fleet_topic<'t>(&self, topic: &'t str) -> Option<&'t str> {
        topic.strip_prefix("fulmar/v1/")?.strip_prefix(self.fleet.as_str())?.strip_prefix('/')
    }
}

impl Access for AccessTable {
    fn connect(&self, client_id: &str, user: &str, password: &[u8]) -> Verdict {
        let known = match ClientName::parse(user) {
            Some(ClientName::Hub) => starts_with_name(client_id, HUB_USER).then(|| hash(self.hub.password.as_bytes())),
            Some(ClientName::Device(device)) if client_id == device => self.read().devices.get(device).copied(),
            Some(ClientName::Device(_)) | None => None,
            Some(ClientName::Join(token)) => {
                let own = client_id.strip_prefix(JOIN_USER_PREFIX).is_some_and(|rest| starts_with_name(rest, token));
                if own { self.read().joins.get(token).copied() } else { None }
            }
        };
        match known {
            Some(expected) if same(&expected, &hash(password)) => Verdict::Allowed,
            Some(_) | None => Verdict::NotAuthorized,
        }
    }

    fn publish(&self, client: &ClientName<'_>, topic: &str, retain: bool) -> bool {
        if topic.is_empty() || topic.contains(['+', '#', '\0']) {
            return false;
        }
        match client {
            ClientName::Hub => true,
            ClientName::Device(device) => {
                !retain
                    && self.read().devices.contains_key(*device)
                    && self.fleet_topic(topic).and_then(|rest| below(rest, "d", device, "up")).is_some()
            }
            ClientName::Join(token) => {
                !retain
                    && self.read().joins.contains_key(*token)
                    && self.fleet_topic(topic).is_some_and(|rest| join_part(rest, token) == Some("req"))
            }
        }
    }

    fn subscribe(&self, client: &ClientName<'_>, filter: &str) -> bool {
        // A shared subscription would take messages away from others, and nothing here uses one.
        if filter.is_empty() || filter.contains('\0') || filter.starts_with("$share") {
            return false;
        }
        match client {
            ClientName::Hub => true,
            ClientName::Device(device) => {
                self.read().devices.contains_key(*device)
                    && self
                        .fleet_topic(filter)
                        .is_some_and(|rest| rest == "hub/state" || below(rest, "d", device, "down").is_some())
            }
            ClientName::Join(token) => {
                self.read().joins.contains_key(*token)
                    && self.fleet_topic(filter).is_some_and(|rest| join_part(rest, token) == Some("ans"))
            }
        }
    }
}

/// The part of `rest` below `<kind>/<name>/<branch>/`, when there is one.
fn below<'t>(rest: &'t str, kind: &str, name: &str, branch: &str) -> Option<&'t str> {
    let part = rest.strip_prefix(kind)?.strip_prefix('/')?.strip_prefix(name)?.strip_prefix('/')?;
    let part = part.strip_prefix(branch)?.strip_prefix('/')?;
    (!part.is_empty()).then_some(part)
}

fn join_part<'t>(rest: &'t str, token: &str) -> Option<&'t str> {
    rest.strip_prefix("join/")?.strip_prefix(token)?.strip_prefix('/')
}

/// `text` is `name`, or `name` followed by something that cannot continue a name: so that the holder of token `a`
/// cannot take over the connection of token `ab`.
fn starts_with_name(text: &str, name: &str) -> bool {
    text.strip_prefix(name).is_some_and(|rest| rest.bytes().next().is_none_or(|byte| !byte.is_ascii_alphanumeric()))
}

fn hash(secret: &[u8]) -> SecretHash {
    Sha256::digest(secret).into()
}

/// Compares without an early exit, so that the time taken says nothing about the stored hash.
fn same(left: &SecretHash, right: &SecretHash) -> bool {
    left.iter().zip(right).fold(0u8, |different, (a, b)| different | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn table() -> AccessTable {
        let table = AccessTable::new("home").unwrap();
        table.device_put("dev1", hash(b"secret1")).unwrap();
        table.device_put("dev12", hash(b"secret12")).unwrap();
        table.join_put("tok", hash(b"join secret")).unwrap();
        table
    }

    #[test]
    fn a_device_connects_only_under_its_own_client_id() {
        let table = table();
        assert_eq!(table.connect("dev1", "dev1", b"secret1"), Verdict::Allowed);
        assert_eq!(table.connect("dev1", "dev1", b"secret12"), Verdict::NotAuthorized);
        assert_eq!(table.connect("dev12", "dev1", b"secret1"), Verdict::NotAuthorized);
        assert_eq!(table.connect("dev3", "dev3", b"secret1"), Verdict::NotAuthorized);
        assert_eq!(table.connect("", "", b""), Verdict::NotAuthorized);
        assert!(table.device_remove("dev1"));
        assert_eq!(table.connect("dev1", "dev1", b"secret1"), Verdict::NotAuthorized);
    }

    #[test]
    fn a_join_client_cannot_take_the_id_of_another_token_or_device() {
        let table = table();
        table.join_put("toko", hash(b"other")).unwrap();
        assert_eq!(table.connect("join:tok", "join:tok", b"join secret"), Verdict::Allowed);
        assert_eq!(table.connect("join:tok-77", "join:tok", b"join secret"), Verdict::Allowed);
        assert_eq!(table.connect("join:toko", "join:tok", b"join secret"), Verdict::NotAuthorized);
        assert_eq!(table.connect("dev1", "join:tok", b"join secret"), Verdict::NotAuthorized);
        assert!(table.join_remove("tok"));
        assert_eq!(table.connect("join:tok", "join:tok", b"join secret"), Verdict::NotAuthorized);
    }

    #[test]
    fn only_the_hub_s_own_secret_opens_the_hub_s_user() {
        let table = table();
        let hub = table.hub_credential();
        assert_eq!(table.connect("hub", &hub.user, hub.password.as_bytes()), Verdict::Allowed);
        assert_eq!(table.connect("dev1", &hub.user, hub.password.as_bytes()), Verdict::NotAuthorized);
        assert_eq!(table.connect("hub", &hub.user, b"guess"), Verdict::NotAuthorized);
        assert!(table.device_put("hub", [0; 32]).is_err());
        assert!(table.device_put("+", [0; 32]).is_err());
        assert!(table.join_put("a/b", [0; 32]).is_err());
    }

    #[test]
    fn a_device_publishes_only_below_its_own_up_and_never_retained() {
        let table = table();
        let device = ClientName::Device("dev1");
        assert!(table.publish(&device, "fulmar/v1/home/d/dev1/up/status", false));
        for topic in [
            "fulmar/v1/home/d/dev1/up/",
            "fulmar/v1/home/d/dev1/up",
            "fulmar/v1/home/d/dev12/up/status",
            "fulmar/v1/home/d/dev1/down/desired",
            "fulmar/v1/other/d/dev1/up/status",
            "fulmar/v1/home/d/dev1/up/#",
            "fulmar/v1/home/hub/state",
            "fulmar/v1/home/join/tok/req",
            "$SYS/x",
            "",
        ] {
            assert!(!table.publish(&device, topic, false), "{topic}");
        }
        assert!(!table.publish(&device, "fulmar/v1/home/d/dev1/up/status", true));
        assert!(!table.publish(&ClientName::Device("gone"), "fulmar/v1/home/d/gone/up/status", false));
    }

    #[test]
    fn a_device_reads_only_its_own_down_and_the_hub_s_state() {
        let table = table();
        let device = ClientName::Device("dev1");
        for filter in [
            "fulmar/v1/home/d/dev1/down/#",
            "fulmar/v1/home/d/dev1/down/desired",
            "fulmar/v1/home/d/dev1/down/+",
            "fulmar/v1/home/hub/state",
        ] {
            assert!(table.subscribe(&device, filter), "{filter}");
        }
        for filter in [
            "#",
            "+/#",
            "fulmar/#",
            "fulmar/v1/home/#",
            "fulmar/v1/home/d/+/down/#",
            "fulmar/v1/home/d/dev12/down/#",
            "fulmar/v1/home/d/dev1/#",
            "fulmar/v1/home/d/dev1/up/#",
            "fulmar/v1/home/hub/#",
            "fulmar/v1/home/hub/+",
            "fulmar/v1/+/hub/state",
            "$SYS/#",
            "$share/g/fulmar/v1/home/d/dev1/down/#",
            "",
        ] {
            assert!(!table.subscribe(&device, filter), "{filter}");
        }
    }

    #[test]
    fn a_join_user_asks_and_hears_only_for_its_own_token() {
        let table = table();
        let join = ClientName::Join("tok");
        assert!(table.publish(&join, "fulmar/v1/home/join/tok/req", false));
        assert!(!table.publish(&join, "fulmar/v1/home/join/tok/req", true));
        assert!(!table.publish(&join, "fulmar/v1/home/join/tok/ans", false));
        assert!(!table.publish(&join, "fulmar/v1/home/join/toko/req", false));
        assert!(!table.publish(&join, "fulmar/v1/home/d/tok/up/hello", false));
        assert!(table.subscribe(&join, "fulmar/v1/home/join/tok/ans"));
        for filter in ["fulmar/v1/home/join/tok/#", "fulmar/v1/home/join/+/ans", "fulmar/v1/home/hub/state"] {
            assert!(!table.subscribe(&join, filter), "{filter}");
        }
    }
}
