//! The whole hub: store, engine, broker, link and API wired together, started in order and stopped in order.
//!
//! No decision is made here. What one part must have before another begins is the order in `start`: the data directory
//! is ours before anything is read, the incarnation is durable before the engine exists, and the table of credentials
//! is filled before the broker listens.

mod broker_slot;
mod contents;
mod door;
mod endpoints;
mod engine_thread;
mod held;
mod link_events;
mod place;
mod reach;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use async_channel::{Receiver, Sender};
use wire::dalek::ExchangeSecret;
use wire::join::ExchangeKey;
use wire::limits::JOIN_SECRET_BYTES;
use wire::topic::{TokenId, Topic};
use wire::{DeviceId, Digest, PairKey};

pub use broker_slot::SUPERVISION_PERIOD;
pub use contents::READS_WAITING_MAX;
pub use endpoints::{ENDPOINTS_FILE, Endpoints};
pub use engine_thread::PUBLICATIONS_WAITING_MAX;
pub use held::HELD_MAX;
pub use link_events::LINK_EVENTS_MAX;

use crate::api::{self, Api, ApiLimits};
use crate::broker::{AccessTable, BrokerError, BrokerLimits, Credential, Front, NameRefused};
use crate::commit::Loaded;
use crate::engine::port::{EngineConfig, Exchange, Input};
use crate::engine::{Engine, loaded_grants, retained};
use crate::grants::Grants;
use crate::handle::{Handle, Message};
use crate::keys::{AdminToken, KEYS_DIRECTORY, Keys, KeysError};
use crate::metrics::Metrics;
use crate::mqtt::{ACKNOWLEDGE_TIMEOUT, Endpoint, Link, LinkConfig, LinkEvent};
use crate::provision::{ExternalBroker, ProvisionError};
use crate::store::{
    ArtifactError, Artifacts, DataDirectory, Outcome, Report, Store, StoreError, StoreLimits, StoreSettings, Writer,
};
use crate::tls::{Tls, TlsError, TlsSettings};
use broker_slot::Supervisor;
use contents::Contents;
use door::Door;
use engine_thread::EngineThread;
use place::{Place, Started};
use reach::Reach;

/// Where the API listens unless told otherwise.
pub const API_ADDRESS_DEFAULT: SocketAddr = loopback(7443);
/// Where the broker listens unless told otherwise.
pub const BROKER_ADDRESS_DEFAULT: SocketAddr = loopback(1883);

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

/// What to start.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// Everything that the hub keeps is below this directory.
    pub data: PathBuf,
    /// Port 0 takes a free one.
    pub api: SocketAddr,
    /// Port 0 takes a free one. Without meaning with an external broker.
    pub broker: SocketAddr,
    /// A broker elsewhere, instead of the embedded one.
    pub external: Option<ExternalBroker>,
    /// Encryption of both.
    pub tls: TlsSettings,
    /// Name of the fleet; counts at the first start only.
    pub fleet: Option<String>,
    /// Limits of the database.
    pub store: StoreLimits,
    /// Limits of the broker.
    pub broker_limits: BrokerLimits,
    /// What one client of the API may do.
    pub api_limits: ApiLimits,
    /// Changes the engine's durations and rates; for tests.
    pub tune: fn(&mut EngineConfig),
}

impl HubConfig {
    /// The usual addresses and limits.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            api: API_ADDRESS_DEFAULT,
            broker: BROKER_ADDRESS_DEFAULT,
            external: None,
            tls: TlsSettings::default(),
            fleet: None,
            store: StoreLimits::default(),
            broker_limits: BrokerLimits::default(),
            api_limits: ApiLimits::default(),
            tune: |_| (),
        }
    }
}

/// Why a hub did not start.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The API cannot listen.
    #[error("the API cannot listen on {address}: {error}. Choose another address or stop what uses it")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// No keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// No database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No artifacts.
    #[error(transparent)]
    Artifacts(#[from] ArtifactError),
    /// No broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// No broker elsewhere.
    #[error(transparent)]
    External(#[from] ProvisionError),
    /// No certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A stored device or token has a name that no broker user can have.
    #[error("the database holds an impossible name: {0}. Restore the last backup of the data directory")]
    Name(#[from] NameRefused),
    /// The operating system gave no thread, random bytes or file.
    #[error("the hub cannot start: {what}: {error}")]
    System {
        /// What was wanted.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

fn system(what: &'static str) -> impl Fn(io::Error) -> HubError {
    move |error| HubError::System { what, error }
}

/// A running hub. Dropping it stops it.
pub struct Hub {
    data: PathBuf,
    endpoints: Endpoints,
    warnings: Vec<String>,
    handle: Handle,
    broker: Arc<Place>,
    tls: Option<Arc<Tls>>,
    /// TLS in front of the broker.
    front: Option<Front>,
    supervisor: Option<Supervisor>,
    api_stop: Sender<()>,
    api: Option<thread::JoinHandle<()>>,
    engine: Option<thread::JoinHandle<()>>,
    link_events: Option<thread::JoinHandle<()>>,
    /// Closed at a stop, so that the thread which reads it ends even if the link's thread does not.
    seen: Receiver<LinkEvent>,
    /// Held to the end: nobody else may open the directory before.
    _directory: DataDirectory,
}

impl Hub {
    /// Starts everything and returns when the API and the broker can be used.
    ///
    /// # Errors
    /// When a part cannot start; the parts that did are stopped again.
    pub fn start(config: HubConfig) -> Result<Self, HubError> {
        let directory = DataDirectory::take(&config.data)?;
        let data = directory.path().to_owned();
        let keys = Keys::open(&data, &directory.database())?;
        let token = AdminToken::open(&data)?;
        let settings =
            StoreSettings { fleet: config.fleet.clone(), admin_token_sha256: token.sha256, limits: config.store };
        let (store, loaded) = Store::open(&directory, &keys, &settings)?;
        let artifacts = Artifacts::open(&data)?;
        let tls = reach::open_tls(&config, &data.join(KEYS_DIRECTORY))?;
        let mut warnings = store.warnings().to_vec();
        warnings.extend(reach::warnings(&config, tls.as_deref()));
        let metrics = Metrics::new();

        let listener = TcpListener::bind(config.api).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (api_address, listener) = listener.map_err(|error| HubError::Listen { address: config.api, error })?;
        let access = Arc::new(access_table(&loaded)?);
        let mut instance = wire::Instance::default();
        getrandom::fill(&mut instance.0)
            .map_err(|error| HubError::System { what: "random bytes", error: io::Error::other(error) })?;
        let doors = reach::doors(&config, tls.as_ref(), &metrics);
        let started = match &config.external {
            Some(external) => place::start_external(external, tls.as_deref(), &keys, &loaded)?,
            None => place::start_embedded(&config, doors.broker, &access, retained(&loaded, store.trust(), instance))?,
        };
        let Started { place, front, address, endpoint, credential, authority, warnings: more } = started;
        warnings.extend(more);
        let broker = Arc::new(place);

        let reach = Reach::new(&config, api_address, address);
        let ca_file = tls.as_ref().map(|tls| reach::write_authority(&data, tls)).transpose()?;
        let endpoints = Endpoints {
            api: reach.api_here,
            broker: reach.broker_here,
            pid: std::process::id(),
            token_file: token.path,
            ca_file,
        };
        let exchange = Box::new(SharedExchange(Arc::clone(&keys.exchange)));
        let for_devices = reach.broker.clone();
        let mut engine_config = EngineConfig::new(reach.broker, reach.api, exchange);
        engine_config.certificate = authority.or_else(|| front.as_ref().and(tls.as_ref()).map(|tls| tls.authority()));
        engine_config.trust = store.trust().to_vec();
        engine_config.instance = instance;
        engine_config.signer = Some(keys.signing.clone());
        (config.tune)(&mut engine_config);

        let (handle, inbox) = Handle::new();
        let fleet = loaded.fleet.clone();
        let writer = start_writer(store, &handle).map_err(system("a thread for the writer"))?;
        let (events, seen) = async_channel::bounded(link_events::LINK_EVENTS_MAX);
        let link =
            Link::start(link_config(&fleet, endpoint, credential)?, events).map_err(system("a thread for the link"))?;
        let link_events = link_events::start(fleet.clone(), seen.clone(), handle.queue())
            .map_err(system("a thread for link events"))?;
        let grants = Arc::new(Grants::default());
        for (sha256, grant) in loaded_grants(&loaded) {
            grants.put(sha256, grant);
        }
        let contents = Contents::start(artifacts.clone(), handle.queue()).map_err(system("a thread for artifacts"))?;
        let door = config.external.is_some().then(|| Door::start(&for_devices, handle.queue())).transpose();
        let door = door.map_err(system("a thread for the broker's listener"))?;
        let engine = EngineThread {
            engine: Engine::new(engine_config, loaded),
            inbox,
            writer,
            link,
            access: access.clone(),
            broker: broker.clone(),
            fleet,
            metrics: metrics.clone(),
            grants: grants.clone(),
            contents,
            door,
        };
        let engine = engine.start().map_err(system("a thread for the engine"))?;
        let counted = broker.clone();
        let api = Api {
            handle: handle.clone(),
            artifacts,
            access,
            admin_sha256: token.sha256,
            grants,
            limits: config.api_limits,
            metrics,
            tls: tls.clone(),
            broker: Arc::new(move || counted.measures()),
            limiter: Arc::default(),
            answers: Arc::default(),
        };
        let (api_stop, api_stopped) = async_channel::bounded(1);
        // From here on dropping the hub stops what was started.
        let mut hub = Self {
            data,
            endpoints,
            warnings,
            handle,
            broker,
            tls,
            front,
            supervisor: None,
            api_stop,
            api: None,
            engine: Some(engine),
            link_events: Some(link_events),
            seen,
            _directory: directory,
        };
        let tend = reach::tend(hub.tls.clone());
        let tend = watch_account(tend, hub.broker.clone(), hub.handle.queue());
        let supervisor = Supervisor::start(hub.broker.clone(), tend);
        hub.supervisor = Some(supervisor.map_err(system("a thread for the supervisor"))?);
        // Before anybody can be told that the hub is ready: who hears it looks for this file.
        hub.endpoints.write(&hub.data).map_err(system("the file with the endpoints"))?;
        let serve = move || {
            if let Err(error) = api::serve(listener, doors.api, api, &api_stopped) {
                tracing::error!(%error, "the API ended");
            }
        };
        let api = thread::Builder::new().name("api".to_owned()).spawn(serve);
        hub.api = Some(api.map_err(system("a thread for the API"))?);
        tracing::info!(api = hub.endpoints.api, broker = hub.endpoints.broker, data = %hub.data.display(), "hub started");
        Ok(hub)
    }

    /// Where it is reached, with the real ports.
    #[must_use]
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// The data directory, absolute.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// What a person should know about this start, for example that the database is an old copy.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Asks the engine from within the process.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// False when a part that cannot be restarted has ended: the process should end too and be started again.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let runs =
            |thread: &Option<thread::JoinHandle<()>>| thread.as_ref().is_some_and(|thread| !thread.is_finished());
        let front = self.front.as_ref().is_none_or(Front::is_running);
        runs(&self.engine) && runs(&self.link_events) && runs(&self.api) && front && self.broker.is_running()
    }

    /// Ends the embedded broker with everything that it remembers, and starts a new one on the same address.
    ///
    /// # Errors
    /// When the new one does not start; it is tried again in the background.
    pub fn restart_broker(&self) -> Result<(), BrokerError> {
        self.broker.restart()
    }

    /// Stops everything, in bounded time: what was accepted is written first.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Err(error) = Endpoints::remove(&self.data) {
            tracing::warn!(%error, "the file with the endpoints stays");
        }
        // First the edge, so that nobody new is promised anything.
        self.api_stop.close();
        join("the API", self.api.take());
        if let Some(engine) = self.engine.take() {
            // An error means that the engine is gone already.
            let _ = self.handle.queue().send_blocking(Message::Stop);
            join("the engine", Some(engine));
            self.seen.close();
            join("the link's events", self.link_events.take());
        }
        if let Some(mut supervisor) = self.supervisor.take() {
            supervisor.stop();
        }
        drop(self.front.take());
        self.broker.stop();
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.end();
    }
}

fn join(what: &'static str, thread: Option<thread::JoinHandle<()>>) {
    if let Some(Err(_)) = thread.map(thread::JoinHandle::join) {
        tracing::error!(what, "a thread ended by a panic");
    }
}

/// Who may connect to the broker, as the database knows it.
fn access_table(loaded: &Loaded) -> Result<AccessTable, HubError> {
    let random = |error: getrandom::Error| HubError::System { what: "random bytes", error: io::Error::other(error) };
    let access = AccessTable::new(&loaded.fleet).map_err(random)?;
    for (device, _) in &loaded.devices {
        access.device_put(&device.device.text(), device.credential_sha256)?;
    }
    let now = now_ms();
    // A used token stays: its device may not have heard the answer and asks again.
    for token in loaded.tokens.iter().filter(|token| u128::from(token.expires_ms) > now) {
        access.join_put(&token.id.to_string(), token.secret_sha256)?;
    }
    Ok(access)
}

/// Tells the engine once that another hub has taken the account at the broker.
fn watch_account(
    mut tend: impl FnMut() + Send + 'static,
    broker: Arc<Place>,
    queue: Sender<Message>,
) -> impl FnMut() + Send + 'static {
    let mut was_taken = false;
    move || {
        tend();
        let is_taken = broker.is_taken();
        // A queue that is full now has room a second later.
        was_taken = is_taken && (was_taken || queue.try_send(Message::Input(Input::AccountTaken)).is_ok());
    }
}

fn now_ms() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis()
}

fn link_config(fleet: &str, endpoint: Endpoint, credential: Credential) -> Result<LinkConfig, HubError> {
    // The store has checked the fleet's name already.
    let filters = Topic::hub_filters(fleet).map_err(|_| StoreError::FleetName(fleet.to_owned()))?;
    Ok(LinkConfig {
        endpoint,
        client_id: credential.user.clone(),
        credential,
        subscriptions: filters.iter().map(ToString::to_string).collect(),
        acknowledge_timeout: ACKNOWLEDGE_TIMEOUT,
        session_s: None,
    })
}

/// Outcomes go into the engine's queue; the engine's thread never waits for the writer, so this may wait for it.
fn start_writer(store: Store, handle: &Handle) -> io::Result<Writer> {
    store.start(writer_report(handle.queue()))
}

fn writer_report(queue: Sender<Message>) -> Report {
    let queue = WriterQueue(queue);
    Box::new(move |outcome| {
        let input = match outcome {
            Outcome::Committed { sequence, signed } => Input::Committed { sequence, signed },
            Outcome::Failed { sequence, reason } => Input::Failed { sequence, reason },
        };
        // At a stop nobody waits for it: the change is durable all the same, and the next start finds it.
        let _ = queue.0.send_blocking(Message::Input(input));
    })
}

/// Dropped with the writer's thread. A writer that ends before it was told to leaves a hub that can promise nothing: the
/// engine stops, so that the process ends and whatever looks after it starts it again.
struct WriterQueue(Sender<Message>);

impl Drop for WriterQueue {
    fn drop(&mut self) {
        // At an ordinary stop the engine has closed its queue already.
        if self.0.send_blocking(Message::Stop).is_ok() {
            tracing::error!("the database writer is gone: the hub ends");
        }
    }
}

/// The hub's exchange key, for the engine.
struct SharedExchange(Arc<ExchangeSecret>);

impl Exchange for SharedExchange {
    fn public_key(&self) -> ExchangeKey {
        self.0.public_key()
    }

    fn pair_key(&self, other: &ExchangeKey, fleet: &str, device: DeviceId) -> Option<PairKey> {
        self.0.pair_key(other, fleet, device)
    }

    fn seal(&self, other: &ExchangeKey, covered: &Digest, credential: &[u8; 32]) -> Option<[u8; 48]> {
        self.0.seal(other, covered, credential)
    }

    fn join_secret(&self, fleet: &str, token: TokenId) -> Option<[u8; JOIN_SECRET_BYTES]> {
        self.0.join_secret(fleet, token)
    }
}
