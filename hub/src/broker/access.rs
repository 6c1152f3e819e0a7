//! What the broker asks before it lets anybody in, publish or subscribe.
//!
//! The trait keeps the rules apart from the library that enforces them. An implementation must never block and never
//! do I/O: it is called on the broker's only thread, once per packet.

use std::fmt;

/// User name of the hub's own connection.
pub const HUB_USER: &str = "hub";
/// What the user name of somebody who wants to join starts with; the token's id follows.
pub const JOIN_USER_PREFIX: &str = "join:";
/// Longest device id or token id that is taken for a name.
pub const NAME_BYTES_MAX: usize = 64;

/// Who a connection belongs to, read from its user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientName<'a> {
    /// The hub itself.
    Hub,
    /// A device, by its id.
    Device(&'a str),
    /// The holder of a join token, by the token's id.
    Join(&'a str),
}

impl<'a> ClientName<'a> {
    /// Reads a user name; `None` for anything that could be mistaken for a topic level of somebody else.
    #[must_use]
    pub fn parse(user: &'a str) -> Option<Self> {
        if user == HUB_USER {
            return Some(Self::Hub);
        }
        match user.strip_prefix(JOIN_USER_PREFIX) {
            Some(token) if is_name(token) => Some(Self::Join(token)),
            Some(_) => None,
            None if is_name(user) => Some(Self::Device(user)),
            None => None,
        }
    }
}

/// Letters and digits only: neither a wildcard nor a level separator can hide in a name.
#[must_use]
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The answer to a connection attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let in.
    Allowed,
    /// Refused; the client reads "not authorized" whatever the cause was, so that it learns nothing about other names.
    NotAuthorized,
}

/// The rules of who may do what.
pub trait Access: Send + Sync {
    /// May this client connect with this user name and password?
    fn connect(&self, client_id: &str, user: &str, password: &[u8]) -> Verdict;
    /// May this client publish (or leave as its will) a message on `topic`?
    fn publish(&self, client: &ClientName<'_>, topic: &str, retain: bool) -> bool;
    /// May this client subscribe to `filter`?
    fn subscribe(&self, client: &ClientName<'_>, filter: &str) -> bool;
}

/// A user name and its password. The password never reaches a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credential").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Credential {
    /// A credential for this process only: 256 random bits as the password.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn random(user: &str) -> Result<Self, getrandom::Error> {
        let mut secret = [0u8; 32];
        getrandom::fill(&mut secret)?;
        Ok(Self { user: user.to_owned(), password: data_encoding::HEXLOWER.encode(&secret) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_reach_other_topics_are_no_names() {
        for user in ["", "+", "#", "a/b", "a+", "join:", "join:a/b", "join:#", "$share", "a b", "ä"] {
            assert_eq!(ClientName::parse(user), None, "{user}");
        }
        assert_eq!(ClientName::parse(&"a".repeat(NAME_BYTES_MAX + 1)), None);
        assert_eq!(ClientName::parse("hub"), Some(ClientName::Hub));
        assert_eq!(ClientName::parse("join:t1"), Some(ClientName::Join("t1")));
        assert_eq!(ClientName::parse("mfrgg"), Some(ClientName::Device("mfrgg")));
    }

    #[test]
    fn a_credential_keeps_its_password_out_of_debug_output() {
        let credential =
            Credential::random("hub").unwrap_or(Credential { user: String::new(), password: String::new() });
        assert_eq!(credential.password.len(), 64);
        assert!(!format!("{credential:?}").contains(&credential.password));
    }
}
