//! TLS of the hub's own listeners: which certificate is shown, and handshakes that are bounded in number and time.
//!
//! TLS 1.3 with ring, nothing older. The certificate comes from the development authority of the data directory or from the
//! operator's files, and is checked as a client would check it before anybody sees it. A private key must never be readable by
//! everybody, and a certificate that is of no use must never replace one that works.

mod authority;
mod door;
mod error;
mod material;
mod own;
#[cfg(test)]
mod tests;
mod trust;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use wire::Digest;

pub use authority::{AUTHORITY_YEARS, RENEW_BEFORE, SERVER_DAYS};
pub use door::{Door, HANDSHAKE_DEADLINE, HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX, Outcome};
pub use error::TlsError;
pub use own::OwnFiles;
pub use trust::trust;

use material::Material;

/// Copy of the certificate of the authority that clients have to trust, inside the run directory.
pub const AUTHORITY_FILE: &str = "ca.pem";
/// An own certificate that ends sooner is warned about.
pub const WARN_BEFORE: Duration = Duration::from_secs(21 * 24 * 3600);
const HOSTNAME_FILE: &str = "/proc/sys/kernel/hostname";

/// Which listeners speak TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// Those that other machines can reach.
    #[default]
    Auto,
    /// All.
    Always,
    /// None: tokens and credentials cross the network in the clear.
    Off,
}

impl When {
    /// Does a listener on this address speak TLS?
    #[must_use]
    pub fn covers(self, address: IpAddr) -> bool {
        match self {
            Self::Auto => !address.is_loopback(),
            Self::Always => true,
            Self::Off => false,
        }
    }
}

/// What an operator says about TLS.
#[derive(Clone, Debug, Default)]
pub struct TlsSettings {
    pub when: When,
    /// Names and addresses under which the hub is reached, besides those that it finds itself; the first is what devices are told.
    pub names: Vec<String>,
    /// `None`: the development authority.
    pub own: Option<OwnFiles>,
}

/// Where a certificate comes from.
#[derive(Clone, Debug)]
enum Source {
    Development { keys: PathBuf },
    Own(OwnFiles),
}

/// The certificate of now; replaced while connections are accepted.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// The TLS of a hub.
#[derive(Debug)]
pub struct Tls {
    source: Source,
    names: Vec<String>,
    shown: Arc<Shown>,
    server: Arc<ServerConfig>,
    authority: Digest,
    authority_pem: String,
    /// Seconds since 1970; 0: it never ends.
    ends: AtomicU64,
    /// Of the own files when they were last read.
    stamp: Mutex<Option<own::Stamp>>,
}

/// What clients and the hub agree on: ring.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The host that clients are told for a listener.
#[must_use]
pub fn advertised(settings: &TlsSettings, address: IpAddr) -> String {
    match settings.names.first() {
        Some(name) => name.clone(),
        None if address.is_unspecified() => host_name().unwrap_or_else(|| "localhost".to_owned()),
        None => address.to_string(),
    }
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string(HOSTNAME_FILE).ok()?.trim().to_ascii_lowercase();
    material::server_name(&name).is_some().then_some(name)
}

impl Tls {
    /// Makes or reads the certificate for these listeners.
    ///
    /// # Errors
    /// When there is no usable one.
    pub fn open(
        settings: &TlsSettings,
        keys: &Path,
        listeners: &[SocketAddr],
        now: SystemTime,
    ) -> Result<Self, TlsError> {
        if let Some(name) = settings.names.iter().find(|name| material::server_name(name).is_none()) {
            return Err(TlsError::Name(name.clone()));
        }
        let source = match &settings.own {
            Some(files) => Source::Own(files.clone()),
            None => Source::Development { keys: keys.to_owned() },
        };
        let mut names = settings.names.clone();
        names.extend(listeners.iter().map(|listener| advertised(settings, listener.ip())));
        if let Source::Development { .. } = source {
            names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
            names.extend(host_name());
        }
        names.sort();
        names.dedup();
        let stamp = source.stamp();
        let material = source.load(&names, now)?;
        let shown = Arc::new(Shown(RwLock::new(material.key)));
        let server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| TlsError::System(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(shown.clone());
        Ok(Self {
            source,
            names,
            shown,
            server: Arc::new(server),
            authority: Digest::of(&material.authority),
            authority_pem: material::pem_of(&material.authority),
            ends: AtomicU64::new(material.ends.unwrap_or(0)),
            stamp: Mutex::new(stamp),
        })
    }

    /// A guarded way in for one listener.
    #[must_use]
    pub fn door(&self, count: Arc<dyn Fn(Outcome) + Send + Sync>) -> Door {
        Door::new(self.server.clone(), count)
    }

    /// SHA-256 of the authority's certificate: what devices pin when they join.
    #[must_use]
    pub fn authority(&self) -> Digest {
        self.authority
    }

    /// The authority's certificate for clients.
    #[must_use]
    pub fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    /// End of the shown certificate, in seconds since 1970.
    #[must_use]
    pub fn ends(&self) -> Option<u64> {
        Some(self.ends.load(Ordering::Relaxed)).filter(|ends| *ends > 0)
    }

    /// The same for people (RFC 3339).
    #[must_use]
    pub fn expires(&self) -> Option<String> {
        self.ends().map(material::date)
    }

    #[must_use]
    pub fn is_own(&self) -> bool {
        matches!(self.source, Source::Own(_))
    }

    /// Reads the files again; new connections see the new certificate, open ones go on.
    ///
    /// # Errors
    /// When the new one is of no use; the old one stays.
    pub fn reload(&self, now: SystemTime) -> Result<(), TlsError> {
        let material = self.source.load(&self.names, now)?;
        if Digest::of(&material.authority) != self.authority {
            return Err(TlsError::AuthorityChanged);
        }
        *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = material.key;
        self.ends.store(material.ends.unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }

    /// Renews a development certificate that nears its end; says whether it did.
    ///
    /// # Errors
    /// When that fails; the old one stays.
    pub fn renew_if_due(&self, now: SystemTime) -> Result<bool, TlsError> {
        let is_due = self.ends_within(RENEW_BEFORE, now) && !self.is_own();
        if is_due {
            self.reload(now)?;
        }
        Ok(is_due)
    }

    /// Reads own files again if they have changed since they were read; says whether it did.
    ///
    /// # Errors
    /// When the new one is of no use; the old one stays, and the files are read again after their next change.
    pub fn reload_if_changed(&self, now: SystemTime) -> Result<bool, TlsError> {
        let stamp = self.source.stamp();
        let before = std::mem::replace(&mut *self.stamp.lock().unwrap_or_else(PoisonError::into_inner), stamp);
        // A file that is away for a moment is about to be replaced.
        let has_changed = stamp.is_some() && stamp != before;
        if has_changed {
            self.reload(now)?;
        }
        Ok(has_changed)
    }

    /// Does the shown certificate end so soon?
    #[must_use]
    pub fn ends_within(&self, time: Duration, now: SystemTime) -> bool {
        self.ends().is_some_and(|ends| ends <= material::seconds(now).saturating_add(time.as_secs()))
    }
}

impl Source {
    fn stamp(&self) -> Option<own::Stamp> {
        match self {
            Self::Development { .. } => None,
            Self::Own(files) => files.stamp(),
        }
    }

    fn load(&self, names: &[String], now: SystemTime) -> Result<Material, TlsError> {
        match self {
            Self::Development { keys } => authority::open(keys, names, now),
            Self::Own(files) => files.load(names, now),
        }
    }
}
