//! TLS of the agent: version 1.3 alone, and trust in the one authority that vouched for the hub when this device joined.
//!
//! A join token names the SHA-256 of that authority's certificate; the server shows the certificate itself, and from then on it is
//! kept with the membership. Nothing may ever be trusted because the system trusts it, nor a check be left out.
use crate::faults::Faults;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, Error, PeerIncompatible, RootCertStore, SignatureScheme,
};
use std::error::Error as StdError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wire::Digest;

/// Before this moment (2026-01-01) no clock is right: a board without a battery begins in 1970. The hub's fresh time is what
/// protects such a board from old orders, and it comes over this connection only.
const CLOCK_FLOOR_S: u64 = 1_767_225_600;

/// The certificate of the authority that vouches for the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority(CertificateDer<'static>);

impl Authority {
    pub fn from_der(der: Vec<u8>) -> Self {
        Self(CertificateDer::from(der))
    }

    pub fn der(&self) -> &[u8] {
        &self.0
    }
}

/// What is known of the authority before the first connection: its hash.
#[derive(Debug)]
pub struct Pin {
    digest: Digest,
    found: Mutex<Option<Authority>>,
}

impl Pin {
    pub fn new(digest: Digest) -> Arc<Self> {
        Arc::new(Self { digest, found: Mutex::new(None) })
    }

    /// The authority, after a handshake that succeeded.
    pub fn found(&self) -> Option<Authority> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whom a connection trusts.
#[derive(Clone, Debug)]
pub enum Trust {
    Pinned(Arc<Pin>),
    Kept(Authority),
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    /// What the clock shows, if somebody has set it wrong.
    faults: Option<Arc<Faults>>,
    provider: Arc<CryptoProvider>,
}

/// The cryptography of all connections.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What a connection with this trust does.
pub fn client(trust: Trust, faults: Option<Arc<Faults>>) -> Result<Arc<ClientConfig>, Error> {
    let provider = provider();
    let verifier = Arc::new(Verifier { trust, faults, provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let now = match &self.faults {
            Some(faults) => UnixTime::since_unix_epoch(faults.wall(Duration::from_secs(now.as_secs()))),
            None => now,
        };
        let authority = match &self.trust {
            Trust::Kept(authority) => authority.clone(),
            Trust::Pinned(pin) => {
                let shown = std::iter::once(server).chain(between).find(|shown| Digest::of(shown) == pin.digest);
                let missing = || Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
                Authority(shown.ok_or_else(missing)?.clone().into_owned())
            }
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.0.clone())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        let verify = |now| verifier.verify_server_cert(server, between, name, stapled, now);
        let verified = match verify(now) {
            Err(Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. }))
                if now.as_secs() < CLOCK_FLOOR_S =>
            {
                verify(not_before)
            }
            result => result,
        }?;
        if let Trust::Pinned(pin) = &self.trust {
            *pin.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(authority);
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        server: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, server, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The TLS error inside of another one, if it is one.
pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<Error>() {
            return Some(found);
        }
        // What an I/O error wraps is not its source.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}

/// Why a server was not believed, or did not answer as it should.
pub fn explain(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::ApplicationVerificationFailure => {
                "the server shows another authority than the one that the join token names".to_owned()
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the authority that this device trusts does not vouch for the server's certificate".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the server's certificate is not for this address".to_owned()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server's certificate has ended, or the clock of this device is ahead".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet, or the clock of this device is behind".to_owned()
            }
            other => format!("the server's certificate is refused: {other}"),
        },
        Error::InvalidMessage(_) => "what listens there does not speak TLS".to_owned(),
        Error::AlertReceived(AlertDescription::ProtocolVersion) | Error::PeerIncompatible(_) => {
            "the server speaks no TLS 1.3".to_owned()
        }
        other => format!("TLS failed: {other}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    /// An authority and a server's certificate for `hub.example`, valid for a year from 2026-06-01.
    struct House {
        authority: CertificateDer<'static>,
        server: CertificateDer<'static>,
    }

    const BEGINS_S: u64 = 1_780_272_000;
    const DAY_S: u64 = 24 * 3600;

    fn house() -> House {
        let at = |seconds: u64| std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let (key, server_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap().der().clone();
        let mut server = CertificateParams::new(vec!["hub.example".to_owned()]).unwrap();
        (server.not_before, server.not_after) = (at(BEGINS_S).into(), at(BEGINS_S + 365 * DAY_S).into());
        let server = server.signed_by(&server_key, &Issuer::from_params(&params, &key)).unwrap().der().clone();
        House { authority, server }
    }

    impl House {
        /// As in a handshake at this time, where the server shows both certificates.
        fn shown_to(&self, trust: Trust, name: &'static str, now_s: u64) -> Result<(), Error> {
            let verifier = Verifier { trust, faults: None, provider: provider() };
            let name = ServerName::try_from(name).unwrap();
            let now = UnixTime::since_unix_epoch(Duration::from_secs(now_s));
            let between = [self.authority.clone()];
            verifier.verify_server_cert(&self.server, &between, &name, &[], now).map(|_| ())
        }

        fn kept(&self) -> Trust {
            Trust::Kept(Authority::from_der(self.authority.to_vec()))
        }
    }

    fn said(result: Result<(), Error>) -> String {
        result.map_or_else(|error| explain(&error), |()| "trusted".to_owned())
    }

    #[test]
    fn the_pinned_authority_is_found_and_another_one_is_not_believed() {
        let (house, other) = (house(), house());
        let now = BEGINS_S + DAY_S;
        let pin = Pin::new(Digest::of(&house.authority));
        assert!(pin.found().is_none());
        assert_eq!(said(house.shown_to(Trust::Pinned(pin.clone()), "hub.example", now)), "trusted");
        assert_eq!(pin.found().unwrap().der(), &*house.authority);
        let pin = Pin::new(Digest::of(&house.authority));
        assert!(said(other.shown_to(Trust::Pinned(pin.clone()), "hub.example", now)).contains("another authority"));
        assert!(pin.found().is_none());
        // Showing the right authority beside a certificate of one's own is no way in.
        let forged = House { authority: house.authority.clone(), server: other.server.clone() };
        assert!(said(forged.shown_to(Trust::Pinned(pin.clone()), "hub.example", now)).contains("does not vouch"));
        assert!(pin.found().is_none());
        assert!(said(other.shown_to(house.kept(), "hub.example", now)).contains("does not vouch"));
    }

    #[test]
    fn names_and_dates_are_checked_unless_the_clock_cannot_be_right() {
        let house = house();
        let at = |name, now_s| said(house.shown_to(house.kept(), name, now_s));
        assert_eq!(at("hub.example", BEGINS_S + DAY_S), "trusted");
        assert!(at("other.example", BEGINS_S + DAY_S).contains("not for this address"));
        assert!(at("hub.example", BEGINS_S + 400 * DAY_S).contains("has ended"));
        assert!(at("hub.example", BEGINS_S - DAY_S).contains("not valid yet"), "after 2026-01-01 a clock is believed");
        assert_eq!(at("hub.example", 5 * DAY_S), "trusted", "in 1970 it is not");
        assert!(at("other.example", 5 * DAY_S).contains("not for this address"));
    }

    #[test]
    fn an_error_of_tls_is_found_inside_of_others() {
        let error = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let inside = std::io::Error::other(std::io::Error::other(error.clone()));
        assert_eq!(find(&inside), Some(&error));
        assert!(explain(&error).contains("does not vouch"));
        assert!(find(&std::io::Error::other("other")).is_none());
    }
}
