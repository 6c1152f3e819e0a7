//! TLS of the client: which authority vouches for the hub, and what to say when it does not.
//!
//! With an authority's file (`--ca`, the context, or the data directory of a hub on this machine) that one is trusted and no other;
//! without, those that the system trusts. There is no way to leave the check out.

use crate::code::Code;
use crate::failure::Failure;
use rustls::{AlertDescription, CertificateError, Error};
use std::path::Path;
use std::sync::Arc;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Where systems keep the authorities that they trust: Debian and Alpine, Fedora, SUSE.
const SYSTEM_FILES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];
/// Says the same for many programs.
const SYSTEM_VARIABLE: &str = "SSL_CERT_FILE";
/// First words of what a TLS port of a hub answers to plain HTTP.
const PLAIN_TO_TLS: &str = "This port speaks TLS";

/// What a client of this address trusts.
pub fn config(server: &str, ca: Option<&Path>) -> Result<TlsConfig, Failure> {
    let roots = match ca {
        _ if !server.starts_with("https://") => Vec::new(),
        Some(path) => certificates(path)?,
        None => system(),
    };
    Ok(TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .build())
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
    let failure = |why: String| {
        Failure::new(Code::Ca, format!("cannot take the authority from {}", path.display()))
            .why(why)
            .next("copy run/ca.pem from the data directory of the hub, and name it with --ca FILE")
    };
    let text = std::fs::read(path).map_err(|error| failure(error.to_string()))?;
    let found = of_pem(&text);
    if found.is_empty() { Err(failure("it holds no certificate in PEM form".to_owned())) } else { Ok(found) }
}

fn of_pem(text: &[u8]) -> Vec<Certificate<'static>> {
    let items = parse_pem(text).filter_map(Result::ok);
    items
        .filter_map(|item| if let PemItem::Certificate(certificate) = item { Some(certificate) } else { None })
        .collect()
}

/// None at all, if the system has none: then nobody is trusted.
fn system() -> Vec<Certificate<'static>> {
    let named = std::env::var_os(SYSTEM_VARIABLE).map(Into::into);
    let files = named.into_iter().chain(SYSTEM_FILES.map(std::path::PathBuf::from));
    files
        .filter_map(|path| std::fs::read(path).ok())
        .map(|text| of_pem(&text))
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

/// The TLS error inside of an error of the HTTP client.
fn inner(error: &ureq::Error) -> Option<&Error> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// The library shows `DnsName("hub")` and `IpAddress(127.0.0.1)`.
fn names(shown: &[String]) -> String {
    let plain = |shown: &String| {
        shown.split_once('(').map_or(shown.as_str(), |(_, name)| name.trim_matches([')', '"'])).to_owned()
    };
    shown.iter().map(plain).collect::<Vec<_>>().join(", ")
}

/// What a failed handshake means and what to do; `None`: it is no matter of TLS.
pub fn explain(error: &ureq::Error, server: &str) -> Option<Failure> {
    let untrusted = |why: String| Failure::new(Code::Untrusted, format!("the hub at {server} is not trusted")).why(why);
    let ca = "name the file of the authority that vouches for the hub: --ca FILE (run/ca.pem in its data directory)";
    Some(match inner(error)? {
        Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                untrusted("its certificate is from an authority that is not known here".to_owned()).next(ca)
            }
            CertificateError::NotValidForNameContext { presented, .. } => {
                untrusted(format!("its certificate is for other names: {}", names(presented)))
                    .next("use one of these names in the address, or start the hub with --san NAME")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                untrusted("its certificate has ended".to_owned())
                    .next("renew the hub's certificate; if it is not old, check the clock of this machine: date -u")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                untrusted("its certificate is not valid yet".to_owned())
                    .next("check the clock of this machine: date -u")
            }
            other => untrusted(other.to_string()).next(ca),
        },
        Error::InvalidMessage(_) => Failure::new(Code::NotTls, format!("what listens at {server} does not speak TLS"))
            .why("it answered something else to the first message of a handshake")
            .next(format!("fulmar --server {} status", server.replacen("https://", "http://", 1))),
        Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            untrusted("it speaks no TLS 1.3".to_owned()).next("check the address: every hub speaks TLS 1.3")
        }
        other => untrusted(other.to_string()).next(ca),
    })
}

/// A refusal of plain HTTP by a port that speaks TLS.
pub fn explain_plain(answer: &str, server: &str) -> Option<Failure> {
    answer.starts_with(PLAIN_TO_TLS).then(|| {
        Failure::new(Code::NeedsTls, format!("the hub at {server} speaks TLS only"))
            .why("the address begins with http://, so nothing would be encrypted")
            .next(format!("fulmar --server {} status", server.replacen("http://", "https://", 1)))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let refused = || config("https://hub:7443", Some(&path)).unwrap_err();
        assert_eq!(refused().code, "CA");
        std::fs::write(&path, "-----BEGIN NOTHING-----\n").unwrap();
        assert!(refused().why[0].contains("no certificate"), "{:?}", refused().why);
        // Without TLS nobody needs it.
        assert!(config("http://127.0.0.1:7443", Some(&path)).is_ok());
    }

    #[test]
    fn errors_of_tls_say_what_to_do() {
        let error = ureq::Error::Rustls(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        let failure = explain(&error, "https://hub").unwrap();
        assert!(failure.code == "UNTRUSTED" && failure.next[0].contains("--ca"));
        assert!(explain(&ureq::Error::HostNotFound, "https://hub").is_none());
        let failure = explain_plain("This port speaks TLS: ...", "http://hub:1").unwrap();
        assert_eq!(failure.next, ["fulmar --server https://hub:1 status"]);
    }
}
