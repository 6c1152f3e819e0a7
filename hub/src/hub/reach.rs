//! How the hub is reached: which listeners speak TLS, and what devices, and programs on this machine, are told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{HubConfig, HubError, system};
use crate::keys::RUN_DIRECTORY;
use crate::metrics::Metrics;
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
    pub(super) fn new(config: &HubConfig, api: SocketAddr, broker: SocketAddr) -> Self {
        let text = |plain: &str, address: SocketAddr, host: &str| {
            let secure = if config.tls.when.covers(address.ip()) { "s" } else { "" };
            let host = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() };
            format!("{plain}{secure}://{host}:{}", address.port())
        };
        let anywhere = |address: SocketAddr| host_anywhere(config, address.ip());
        let here = |address: SocketAddr| host_here(config, address.ip());
        Self {
            api: text("http", api, &anywhere(api)),
            broker: text("mqtt", broker, &anywhere(broker)),
            api_here: text("http", api, &here(api)),
            broker_here: text("mqtt", broker, &here(broker)),
        }
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

/// The certificate, if any listener needs one.
pub(super) fn open_tls(config: &HubConfig, keys: &Path) -> Result<Option<Arc<Tls>>, TlsError> {
    let secure: Vec<SocketAddr> =
        [config.api, config.broker].into_iter().filter(|address| config.tls.when.covers(address.ip())).collect();
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
    for (what, address) in [("the API", config.api), ("the broker", config.broker)] {
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
