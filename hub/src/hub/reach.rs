//! How the hub is reached: which listeners speak TLS, and what devices, and programs on this machine, are told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{HubConfig, HubError, system};
use crate::keys::RUN_DIRECTORY;
use crate::metrics::Metrics;
use crate::mqtt::bracketed;
use crate::provision::ExternalBroker;
use crate::store::file;
use crate::tls::{self, AUTHORITY_FILE, Door, Tls, TlsError, WARN_BEFORE};

/// How often the end of the certificate is thought of.
const RENEWAL_PERIOD: Duration = Duration::from_secs(3600);

/// Addresses as text.
pub(super) struct Reach {
    /// For devices and operators anywhere.
    pub(super) api: String,
    pub(super) broker: String,
    /// For programs on this machine.
    pub(super) api_here: String,
    pub(super) broker_here: String,
}

impl Reach {
    /// `listener`: of the embedded broker.
    pub(super) fn new(config: &HubConfig, api: SocketAddr, listener: SocketAddr) -> Self {
        let (broker, broker_here) = match &config.external {
            Some(external) => (external.advertised().to_string(), external.url.to_string()),
            None => Self::listener(config, "mqtt", listener),
        };
        let (api, api_here) = Self::listener(config, "http", api);
        Self { api, broker, api_here, broker_here }
    }

    /// As it is reached from anywhere, and from this machine.
    fn listener(config: &HubConfig, plain: &str, address: SocketAddr) -> (String, String) {
        let secure = if config.tls.when.covers(address.ip()) { "s" } else { "" };
        let text = |host: String| format!("{plain}{secure}://{}:{}", bracketed(&host), address.port());
        (text(host_anywhere(config, address.ip())), text(host_here(config, address.ip())))
    }
}

fn host_anywhere(config: &HubConfig, address: IpAddr) -> String {
    // Nobody else gets to a loopback address, whatever the names are.
    let is_plain_here = address.is_loopback() && !config.tls.when.covers(address);
    if is_plain_here { address.to_string() } else { tls::advertised(&config.tls, address) }
}

fn host_here(config: &HubConfig, address: IpAddr) -> String {
    match address {
        // An own certificate need not be for an address.
        _ if config.tls.own.is_some() && config.tls.when.covers(address) => host_anywhere(config, address),
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.to_string(),
        address => address.to_string(),
    }
}

/// What this process listens on.
fn listeners(config: &HubConfig) -> impl Iterator<Item = (&'static str, SocketAddr)> {
    let broker = config.external.is_none().then_some(("the broker", config.broker));
    std::iter::once(("the API", config.api)).chain(broker)
}

/// What an operator should know about the way to a broker elsewhere.
pub(super) fn external_warning(external: &ExternalBroker) -> Option<String> {
    let open = [&external.url, external.advertised()].into_iter().find(|url| !url.is_secure && !url.is_loopback())?;
    Some(format!(
        "the way to the broker at {open} is WITHOUT encryption: everybody on it can read credentials, the administrator's too, and \
         use them. Use mqtts:// with --broker-ca, unless the network itself is encrypted"
    ))
}

/// The certificate, if any listener needs one.
pub(super) fn open_tls(config: &HubConfig, keys: &Path) -> Result<Option<Arc<Tls>>, TlsError> {
    let listeners = listeners(config).map(|(_, address)| address);
    let secure: Vec<SocketAddr> = listeners.filter(|address| config.tls.when.covers(address.ip())).collect();
    if secure.is_empty() {
        return Ok(None);
    }
    Tls::open(&config.tls, keys, &secure, SystemTime::now()).map(|tls| Some(Arc::new(tls)))
}

/// The ways in that speak TLS.
pub(super) struct Doors {
    pub(super) api: Option<Door>,
    pub(super) broker: Option<Door>,
}

pub(super) fn doors(config: &HubConfig, tls: Option<&Arc<Tls>>, metrics: &Metrics) -> Doors {
    let door = |listener: &'static str, address: SocketAddr| {
        let metrics = metrics.clone();
        let tls = tls.filter(|_| config.tls.when.covers(address.ip()))?;
        Some(tls.door(Arc::new(move |outcome| metrics.handshake(listener, outcome.text()))))
    };
    Doors { api: door("api", config.api), broker: door("broker", config.broker) }
}

/// What an operator should know about how the hub is reached.
pub(super) fn warnings(config: &HubConfig, tls: Option<&Tls>) -> Vec<String> {
    let mut warnings = Vec::new();
    for (what, address) in listeners(config) {
        if !address.ip().is_loopback() && !config.tls.when.covers(address.ip()) {
            warnings.push(format!(
                "{what} listens on {address} WITHOUT encryption, as --tls off asks for: everybody on the way can read tokens and \
                 credentials and use them. Leave --tls out, unless the network itself is encrypted"
            ));
        }
    }
    if let Some(tls) = tls.filter(|tls| tls.ends_within(WARN_BEFORE, SystemTime::now())) {
        let days = WARN_BEFORE.as_secs() / (24 * 3600);
        let kind = if tls.is_own() {
            "replace its files by renewed ones; the hub reads them again"
        } else {
            "see the hub's log for why it is not renewed"
        };
        warnings.push(format!("the hub's certificate ends in less than {days} days: {kind}"));
    }
    warnings
}

/// Leaves the authority's certificate where programs on this machine find it.
pub(super) fn write_authority(data: &Path, tls: &Tls) -> Result<PathBuf, HubError> {
    let path = data.join(RUN_DIRECTORY).join(AUTHORITY_FILE);
    file::replace(&path, tls.authority_pem().as_bytes())
        .map_err(system("the file with the authority's certificate"))?;
    Ok(path)
}

/// What the supervisor does about the certificate in each period.
pub(super) fn tend(tls: Option<Arc<Tls>>) -> impl FnMut() + Send + 'static {
    let mut last = Instant::now();
    move || {
        let Some(tls) = &tls else { return };
        let now = SystemTime::now();
        match tls.reload_if_changed(now) {
            Ok(true) => tracing::warn!(expires = tls.expires(), "the hub shows the changed certificate from now on"),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the changed certificate is not used, the old one stays"),
        }
        if last.elapsed() < RENEWAL_PERIOD {
            return;
        }
        last = Instant::now();
        match tls.renew_if_due(now) {
            Ok(true) => tracing::info!(expires = tls.expires(), "the hub's certificate was renewed"),
            Ok(false) if tls.ends_within(WARN_BEFORE, now) => {
                tracing::warn!(
                    expires = tls.expires(),
                    "the hub's certificate ends soon: replace its files by renewed ones"
                );
            }
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the hub's certificate cannot be renewed"),
        }
    }
}
