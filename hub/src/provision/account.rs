//! Who has an account at an external broker, and what it may do there (protocol, section 3).
//!
//! The same rules as `broker/table.rs`, in the words of Mosquitto's dynamic-security plugin. Its version 2.0 knows no
//! patterns of users, so that every account has a role of its own, beside one that all devices share. A role is named
//! after its rules' version: rules that change get other roles, and nothing has to be compared.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use wire::DeviceId;
use wire::topic::{Down, TokenId, Topic, Up};

/// Raised when the rules of any role change.
const RULES_VERSION: u32 = 1;
/// Bytes of a fingerprint.
const FINGERPRINT_BYTES: usize = 16;

/// The holder of an account, in the order in which accounts are made: nobody can do anything without the hub, and who joins
/// waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The hub's own connection for messages.
    Hub,
    /// Whoever holds a join token.
    Join(TokenId),
    /// A device.
    Device(DeviceId),
}

/// User name of the hub's connection for messages. No name of a device has a hyphen.
#[must_use]
pub fn hub_user(fleet: &str) -> String {
    format!("fulmar-hub-{fleet}")
}

/// Below which the self-test of a start writes, where no device can.
pub(super) fn probe_topic(fleet: &str, probe: &str) -> String {
    format!("fulmar/v1/{fleet}/hub/self-test/{probe}")
}

/// What an account's `textname` says: that it is ours, and of this fleet.
pub(super) fn mark(fleet: &str) -> String {
    format!("fulmar fleet {fleet}")
}

/// Tells passwords apart without telling them: they have 128 bits of entropy at least. The broker keeps it as the
/// account's `textdescription`, because it never says which password an account has.
pub(super) fn fingerprint(password: &str) -> String {
    let text = format!("fulmar/v1/account\0{RULES_VERSION}\0{password}");
    let hash = Sha256::digest(text.as_bytes());
    data_encoding::HEXLOWER.encode(hash.get(..FINGERPRINT_BYTES).unwrap_or_default())
}

impl Owner {
    /// User name, and the only client id that goes with it.
    pub(super) fn user(self, fleet: &str) -> String {
        match self {
            Self::Hub => hub_user(fleet),
            Self::Join(token) => format!("{}{token}", crate::broker::JOIN_USER_PREFIX),
            Self::Device(device) => device.text().as_str().to_owned(),
        }
    }

    /// `None`: not a user of ours.
    pub(super) fn of_user(user: &str, fleet: &str) -> Option<Self> {
        if user == hub_user(fleet) {
            return Some(Self::Hub);
        }
        match user.strip_prefix(crate::broker::JOIN_USER_PREFIX) {
            Some(token) => TokenId::parse(token).map(Self::Join),
            None => DeviceId::parse(user).ok().map(Self::Device),
        }
    }

    /// The role that is this account's alone.
    pub(super) fn role(self, fleet: &str) -> String {
        // Two fleets on one broker never share a device or a token, but roles are easier to read with it.
        format!("fulmar-{RULES_VERSION}-{fleet}-{}", self.user(fleet))
    }

    /// Its roles with their rules, its own first. Without a rule nothing may be published or subscribed to.
    pub(super) fn roles(self, fleet: &str) -> Vec<(String, Value)> {
        let rule = |kind: &str, topic: &str| json!({"acltype": kind, "topic": topic, "allow": true});
        let (says, hears) = ("publishClientSend", "publishClientReceive");
        let own = match self {
            Self::Hub => {
                let all = format!("fulmar/v1/{fleet}/#");
                json!([rule("subscribePattern", &all), rule(hears, &all), rule(says, &all)])
            }
            Self::Join(token) => {
                let answer = printed(Topic::JoinAnswer(token), fleet);
                let request = printed(Topic::JoinRequest(token), fleet);
                json!([rule("subscribeLiteral", &answer), rule(hears, &answer), rule(says, &request)])
            }
            Self::Device(device) => {
                let down = below(Topic::Down(device, Down::Desired), fleet);
                let up = below(Topic::Up(device, Up::Status), fleet);
                json!([rule("subscribePattern", &down), rule(says, &up)])
            }
        };
        let shared = matches!(self, Self::Device(_)).then(|| {
            // What a device hears is what it could subscribe to. One rule for all, because a broker that is short of memory
            // keeps every rule of every device.
            let all = format!("fulmar/v1/{fleet}/#");
            let rules = json!([rule("subscribeLiteral", &printed(Topic::HubState, fleet)), rule(hears, &all)]);
            (format!("fulmar-{RULES_VERSION}-{fleet}-devices"), rules)
        });
        std::iter::once((self.role(fleet), own)).chain(shared).collect()
    }
}

fn printed(topic: Topic, fleet: &str) -> String {
    // The store has checked the fleet's name, and every topic of it has room.
    topic.print(fleet).map(|text| text.as_str().to_owned()).unwrap_or_default()
}

/// Everything beside this topic.
fn below(topic: Topic, fleet: &str) -> String {
    let text = printed(topic, fleet);
    text.rsplit_once('/').map(|(above, _)| format!("{above}/#")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn users_are_read_back_and_strangers_are_not_ours() {
        let (device, token) = (DeviceId([7; 16]), TokenId([3; 8]));
        for owner in [Owner::Hub, Owner::Join(token), Owner::Device(device)] {
            assert_eq!(Owner::of_user(&owner.user("north"), "north"), Some(owner));
        }
        for user in ["admin", "fulmar-hub-south", "join:", "join:xyz", ""] {
            assert_eq!(Owner::of_user(user, "north"), None, "{user}");
        }
    }

    #[test]
    fn a_device_may_say_what_is_up_and_hear_what_is_down() {
        let device = DeviceId([7; 16]);
        let base = format!("fulmar/v1/north/d/{device}");
        let own = json!([
            {"acltype": "subscribePattern", "topic": format!("{base}/down/#"), "allow": true},
            {"acltype": "publishClientSend", "topic": format!("{base}/up/#"), "allow": true},
        ]);
        let shared = json!([
            {"acltype": "subscribeLiteral", "topic": "fulmar/v1/north/hub/state", "allow": true},
            {"acltype": "publishClientReceive", "topic": "fulmar/v1/north/#", "allow": true},
        ]);
        let roles = Owner::Device(device).roles("north");
        assert_eq!(roles, [(format!("fulmar-1-north-{device}"), own), ("fulmar-1-north-devices".to_owned(), shared)]);
    }

    #[test]
    fn who_joins_asks_and_hears_for_its_own_token_alone() {
        let base = "fulmar/v1/north/join/0303030303030303";
        let own = json!([
            {"acltype": "subscribeLiteral", "topic": format!("{base}/ans"), "allow": true},
            {"acltype": "publishClientReceive", "topic": format!("{base}/ans"), "allow": true},
            {"acltype": "publishClientSend", "topic": format!("{base}/req"), "allow": true},
        ]);
        let roles = Owner::Join(TokenId([3; 8])).roles("north");
        assert_eq!(roles, [("fulmar-1-north-join:0303030303030303".to_owned(), own)]);
    }

    #[test]
    fn a_fingerprint_follows_the_password_and_is_not_its_hash() {
        assert_eq!(fingerprint("a"), fingerprint("a"));
        assert_ne!(fingerprint("a"), fingerprint("b"));
        let plain = data_encoding::HEXLOWER.encode(&Sha256::digest("a"));
        assert!(!plain.contains(&fingerprint("a")));
    }
}
