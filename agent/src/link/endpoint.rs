//! The address of a broker: `mqtt://host:port`. Parsed once; must never be guessed or completed from elsewhere.
use std::fmt;

const SCHEME_PLAIN: &str = "mqtt://";
const SCHEME_TLS: &str = "mqtts://";
const PORT_PLAIN: u16 = 1883;

/// Where a broker listens, without encryption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address; an IPv6 address keeps its brackets.
    pub host: String,
    pub port: u16,
}

/// Why an address is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    #[error(
        "the broker at {0} wants TLS, which this agent does not speak yet. Use the hub's plain listener on a loopback address or a trusted tunnel (mqtt://host:port)"
    )]
    Tls(String),
    #[error("{0:?} is not the address of a broker. It must read mqtt://host:port")]
    Malformed(String),
}

impl Endpoint {
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        if text.starts_with(SCHEME_TLS) {
            return Err(EndpointError::Tls(text.to_owned()));
        }
        let malformed = || EndpointError::Malformed(text.to_owned());
        let authority = text.strip_prefix(SCHEME_PLAIN).ok_or_else(malformed)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = match authority.rsplit_once(':') {
            // A colon inside of brackets belongs to the address.
            Some((_, tail)) if tail.ends_with(']') => (authority, PORT_PLAIN),
            Some((host, port)) => (host, port.parse().map_err(|_| malformed())?),
            None => (authority, PORT_PLAIN),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let bracketed = bare.len() != host.len();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || (bracketed && c == ':');
        if bare.is_empty() || port == 0 || !bare.chars().all(plain) {
            return Err(malformed());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME_PLAIN}{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let cases = [
            ("mqtt://127.0.0.1:18830", "127.0.0.1", 18830),
            ("mqtt://hub.example", "hub.example", 1883),
            ("mqtt://[::1]:99", "[::1]", 99),
            ("mqtt://[::1]", "[::1]", 1883),
        ];
        for (text, host, port) in cases {
            assert_eq!(Endpoint::parse(text).unwrap(), Endpoint { host: host.to_owned(), port });
        }
        for text in
            ["", "mqtt://", "127.0.0.1:1883", "mqtt://h:x", "mqtt://h:0", "mqtt://a b", "mqtt://u@h", "mqtt://a:b:1"]
        {
            assert!(matches!(Endpoint::parse(text), Err(EndpointError::Malformed(_))), "{text}");
        }
    }

    #[test]
    fn encryption_is_refused_with_a_reason_and_not_dropped() {
        let error = Endpoint::parse("mqtts://hub:8883").unwrap_err();
        assert!(matches!(error, EndpointError::Tls(_)));
        assert!(error.to_string().contains("TLS"));
    }
}
