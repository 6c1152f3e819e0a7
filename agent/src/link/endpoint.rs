//! The address of a broker: `mqtt://host:port` or `mqtts://host:port`. Parsed once; must never be guessed or completed from elsewhere.
use std::fmt;

const SCHEME_PLAIN: &str = "mqtt://";
const SCHEME_TLS: &str = "mqtts://";
const PORT_PLAIN: u16 = 1883;
const PORT_TLS: u16 = 8883;

/// Whether a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    Plain,
    Tls,
}

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub security: Security,
    /// A name or an address; an IPv6 address keeps its brackets.
    pub host: String,
    pub port: u16,
}

/// Why an address is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    #[error(
        "{0:?} is not the address of a broker. It must read mqtts://host:port, or mqtt://host:port without encryption"
    )]
    Malformed(String),
}

impl Endpoint {
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let malformed = || EndpointError::Malformed(text.to_owned());
        let plain = text.strip_prefix(SCHEME_PLAIN).map(|rest| (rest, Security::Plain, PORT_PLAIN));
        let tls = text.strip_prefix(SCHEME_TLS).map(|rest| (rest, Security::Tls, PORT_TLS));
        let (authority, security, port_default) = plain.or(tls).ok_or_else(malformed)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = match authority.rsplit_once(':') {
            // A colon inside of brackets belongs to the address.
            Some((_, tail)) if tail.ends_with(']') => (authority, port_default),
            Some((host, port)) => (host, port.parse().map_err(|_| malformed())?),
            None => (authority, port_default),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let bracketed = bare.len() != host.len();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || (bracketed && c == ':');
        if bare.is_empty() || port == 0 || !bare.chars().all(plain) {
            return Err(malformed());
        }
        Ok(Self { security, host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.security {
            Security::Plain => SCHEME_PLAIN,
            Security::Tls => SCHEME_TLS,
        };
        write!(f, "{scheme}{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let cases = [
            ("mqtt://127.0.0.1:18830", Security::Plain, "127.0.0.1", 18830),
            ("mqtt://hub.example", Security::Plain, "hub.example", 1883),
            ("mqtt://[::1]:99", Security::Plain, "[::1]", 99),
            ("mqtt://[::1]", Security::Plain, "[::1]", 1883),
            ("mqtts://hub.example", Security::Tls, "hub.example", 8883),
            ("mqtts://[::1]:99", Security::Tls, "[::1]", 99),
        ];
        for (text, security, host, port) in cases {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(endpoint, Endpoint { security, host: host.to_owned(), port });
            assert_eq!(Endpoint::parse(&endpoint.to_string()).unwrap(), endpoint);
        }
        for text in
            ["", "mqtt://", "127.0.0.1:1883", "mqtt://h:x", "mqtt://h:0", "mqtt://a b", "mqtt://u@h", "mqtt://a:b:1"]
        {
            assert!(matches!(Endpoint::parse(text), Err(EndpointError::Malformed(_))), "{text}");
        }
    }
}
