//! A certificate with its key, checked as a client would check it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use data_encoding::BASE64;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, InconsistentKeys, RootCertStore};

use super::provider;

/// The last second of the year 9999: the latest that a certificate can say (RFC 5280, 4.1.2.5).
const END_OF_TIME: Duration = Duration::from_secs(253_402_300_799);
const PEM_COLUMNS: usize = 64;

/// What a server shows.
#[derive(Debug)]
pub(super) struct Material {
    /// The chain with the authority's own certificate at its end: a device that joins knows only its hash.
    pub key: Arc<CertifiedKey>,
    pub authority: CertificateDer<'static>,
    /// Seconds since 1970; `None`: never.
    pub ends: Option<u64>,
}

/// Why a certificate is of no use.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    KeyMismatch,
    Expired { ended: u64 },
    NotYetValid { begins: u64 },
    WrongName { wanted: String, presented: Vec<String> },
    Untrusted,
    IsAuthority,
    Other(String),
}

impl Flaw {
    fn of(error: &Error, name: &str, now: UnixTime) -> Self {
        match error {
            Error::InvalidCertificate(certificate) => match certificate {
                CertificateError::Expired => Self::Expired { ended: now.as_secs() },
                CertificateError::ExpiredContext { not_after, .. } => Self::Expired { ended: not_after.as_secs() },
                CertificateError::NotValidYet => Self::NotYetValid { begins: now.as_secs() },
                CertificateError::NotValidYetContext { not_before, .. } => {
                    Self::NotYetValid { begins: not_before.as_secs() }
                }
                CertificateError::NotValidForName => Self::WrongName { wanted: name.to_owned(), presented: Vec::new() },
                CertificateError::NotValidForNameContext { presented, .. } => {
                    let presented = presented.iter().map(|shown| plain_name(shown).to_owned()).collect();
                    Self::WrongName { wanted: name.to_owned(), presented }
                }
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Untrusted,
                // The library has no variant of its own for it.
                other if format!("{other:?}").contains("CaUsedAsEndEntity") => Self::IsAuthority,
                other => Self::Other(other.to_string()),
            },
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Self::KeyMismatch,
            other => Self::Other(other.to_string()),
        }
    }
}

/// The library shows `DnsName("hub")` and `IpAddress(127.0.0.1)`.
fn plain_name(shown: &str) -> &str {
    shown.split_once('(').map_or(shown, |(_, name)| name.trim_matches([')', '"']))
}

pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A host name or an address, as certificates name servers.
pub(super) fn server_name(text: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(text.to_owned()).ok()
}

impl Material {
    /// Takes a chain (the server's certificate first) for a server that is reached under these names.
    pub(super) fn check(
        mut chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        authority: CertificateDer<'static>,
        names: &[String],
        now: SystemTime,
    ) -> Result<Self, Flaw> {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds(now)));
        let other = |error: Error| Flaw::of(&error, "", now);
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone()).map_err(other)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| Flaw::Other(error.to_string()))?;
        let (server, between) = chain.split_first().ok_or_else(|| Flaw::Other("the file is empty".to_owned()))?;
        let verify = |name: &str, now: UnixTime| {
            let server_name = server_name(name).ok_or_else(|| Flaw::Other(format!("{name:?} is not a name")))?;
            verifier
                .verify_server_cert(server, between, &server_name, &[], now)
                .map_err(|error| Flaw::of(&error, name, now))
        };
        for name in names {
            verify(name, now)?;
        }
        // The end of validity is not to be had without parsing the certificate, but from a refusal.
        let end = UnixTime::since_unix_epoch(END_OF_TIME);
        let ends = names.first().and_then(|name| match verify(name, end) {
            Err(Flaw::Expired { ended }) => Some(ended),
            Ok(_) | Err(_) => None,
        });
        if !chain.contains(&authority) {
            chain.push(authority.clone());
        }
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(other)?;
        Ok(Self { key: Arc::new(key), authority, ends })
    }
}

/// A certificate as text (RFC 7468).
pub(super) fn pem_of(certificate: &CertificateDer<'_>) -> String {
    let text = BASE64.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(PEM_COLUMNS) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// A moment for people.
pub(super) fn date(seconds: u64) -> String {
    let moment = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    moment.map_or_else(|| seconds.to_string(), |moment| moment.to_string())
}
