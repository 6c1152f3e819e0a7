//! Where a broker is: on this machine, or at a URL that an operator gave.
//!
//! A host is kept without brackets; whoever needs them puts them on.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use rustls::ClientConfig;

/// The port of `mqtt://`, as registered.
const PORT_PLAIN: u16 = 1883;
/// The port of `mqtts://`, as registered.
const PORT_TLS: u16 = 8883;
/// Longest name of a host (RFC 1035, 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// A broker's address as text: `mqtt://host:port` or `mqtts://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerUrl {
    /// Speaks TLS.
    pub is_secure: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Why a text is no broker's address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the address of a broker: {why}. It looks like mqtts://broker.example:8883")]
pub struct UrlError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl BrokerUrl {
    /// Reads a URL. User and password have no place in it: everybody on the machine reads command lines.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let wrong = |why| UrlError { text: text.to_owned(), why };
        let (is_secure, rest) = match text.split_once("://") {
            Some(("mqtt", rest)) => (false, rest),
            Some(("mqtts", rest)) => (true, rest),
            Some(_) | None => return Err(wrong("it begins with neither mqtt:// nor mqtts://")),
        };
        if rest.contains('@') {
            // Not repeated: what stands there is a password.
            let why = "user and password do not belong into it, but into --broker-user and --broker-password-file";
            return Err(UrlError { text: "…@…".to_owned(), why });
        }
        if rest.contains(['/', '?', '#']) {
            return Err(wrong("nothing may follow the port"));
        }
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, behind) = rest.split_once(']').ok_or_else(|| wrong("the bracket is not closed"))?;
                host.parse::<Ipv6Addr>().map_err(|_| wrong("brackets are for IPv6 addresses"))?;
                (host, behind.strip_prefix(':').or(if behind.is_empty() { None } else { Some(behind) }))
            }
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
        if host.is_empty() || host.len() > HOST_BYTES_MAX || !host.bytes().all(is_host) {
            return Err(wrong("the host is no name and no address"));
        }
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(|| wrong("the port is no port"))?,
            None if is_secure => PORT_TLS,
            None => PORT_PLAIN,
        };
        Ok(Self { is_secure, host: host.to_owned(), port })
    }

    /// Only programs on this machine get there.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secure = if self.is_secure { "s" } else { "" };
        write!(formatter, "mqtt{secure}://{}:{}", bracketed(&self.host), self.port)
    }
}

/// A broker to connect to.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How to encrypt; `None`: not at all.
    pub tls: Option<Arc<ClientConfig>>,
}

impl Endpoint {
    /// In the clear.
    #[must_use]
    pub fn plain(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port(), tls: None }
    }

    /// The host as the client library wants it: without TLS it puts a colon and the port behind, with TLS it looks for
    /// this name in the certificate.
    pub(super) fn library_host(&self) -> String {
        if self.tls.is_some() { self.host.clone() } else { bracketed(&self.host) }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        BrokerUrl { is_secure: self.tls.is_some(), host: self.host.clone(), port: self.port }.fmt(formatter)
    }
}

/// An IPv6 address in the brackets that tell its colons from the port's.
pub(crate) fn bracketed(host: &str) -> String {
    if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn urls_are_read_and_printed_alike() {
        for (text, printed) in [
            ("mqtt://broker.example", "mqtt://broker.example:1883"),
            ("mqtts://broker.example", "mqtts://broker.example:8883"),
            ("mqtts://10.0.0.7:4711", "mqtts://10.0.0.7:4711"),
            ("mqtt://[fd00::1]:4711", "mqtt://[fd00::1]:4711"),
            ("mqtt://[::1]", "mqtt://[::1]:1883"),
        ] {
            assert_eq!(BrokerUrl::parse(text).unwrap().to_string(), printed);
        }
        assert!(BrokerUrl::parse("mqtt://[::1]").unwrap().is_loopback());
        assert!(BrokerUrl::parse("mqtt://localhost").unwrap().is_loopback());
        assert!(!BrokerUrl::parse("mqtt://broker.example").unwrap().is_loopback());
    }

    #[test]
    fn what_is_no_url_is_refused_and_a_password_is_not_repeated() {
        for text in [
            "broker.example:1883",
            "http://broker.example",
            "mqtt://",
            "mqtt://a b",
            "mqtt://a:0",
            "mqtt://a:70000",
            "mqtt://a:1/topic",
            "mqtt://[::1",
            "mqtt://[::1]x",
            "mqtt://[a]:1",
        ] {
            let error = BrokerUrl::parse(text).unwrap_err();
            assert_eq!(error.text, text);
        }
        let error = BrokerUrl::parse("mqtt://admin:hunter2@broker.example").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn an_ipv6_address_has_brackets_for_the_library_unless_it_is_a_name_in_a_certificate() {
        let endpoint = |text: &str| Endpoint::plain(text.parse().unwrap());
        assert_eq!(endpoint("127.0.0.1:1").library_host(), "127.0.0.1");
        assert_eq!(endpoint("[::1]:1").library_host(), "[::1]");
        assert_eq!(endpoint("[::1]:1").to_string(), "mqtt://[::1]:1");
    }
}
