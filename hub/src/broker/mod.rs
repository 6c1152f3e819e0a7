//! The embedded MQTT broker, so that one binary is a whole installation.
//!
//! The library (rmqtt) needs tokio; it gets a thread and a runtime of its own here, and nothing of either leaks out.
//! The hub talks to it over loopback like to any other broker, so that an external one can take its place. It is a
//! cache: everything in it is lost at a restart, and nothing may depend on it being durable.

mod access;
mod arrivals;
mod counters;
mod fitting;
mod front;
mod hooks;
mod kick;
mod retained;
mod selftest;
mod table;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use rmqtt::context::ServerContext;
use rmqtt::net::Builder as Listener;
use rmqtt::router::DefaultRouter;
use rmqtt::server::MqttServer;
use rmqtt::shared::DefaultShared;
use rmqtt::types::QoS;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

pub use access::{Access, ClientName, Credential, HUB_USER, JOIN_USER_PREFIX, NAME_BYTES_MAX, Verdict, is_name};
pub use arrivals::{ARRIVAL_PERIOD, ARRIVALS_AT_ONCE_MAX};
pub use counters::BrokerCounters;
pub use front::Front;
pub use retained::RetainedLimits;
pub use table::{AccessTable, NameRefused, SecretHash};

use arrivals::Arrivals;
use counters::Counters;
use hooks::Gate;
use retained::RetainedStore;

/// Largest packet accepted from any client.
pub const PACKET_BYTES_MAX: u32 = 1024 * 1024;
/// Sessions (connected or kept) at one time.
pub const CONNECTIONS_MAX: isize = 20_000;
/// Connections that the kernel may hold before they are accepted: a fleet comes back all at once.
pub const LISTEN_BACKLOG: i32 = 8_192;
/// Handshakes worked on at one time; more wait.
pub const HANDSHAKES_MAX: usize = 1_000;
/// Longest time for a client to say CONNECT.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest time a write to a client that does not read may take before it is cut.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages queued for one device, connected or away. More than all of its `down/` topics ever carry at once.
pub const CLIENT_QUEUE_MESSAGES_MAX: usize = 256;
/// Messages queued for the hub. A short queue drops acknowledged messages of the fleet in a burst.
pub const HUB_QUEUE_MESSAGES_MAX: usize = 1_000_000;
/// Unacknowledged messages on the way to one device.
pub const CLIENT_INFLIGHT_MAX: NonZeroU16 = NonZeroU16::MIN.saturating_add(15);
/// Unacknowledged messages on the way to the hub, and from it.
pub const HUB_INFLIGHT_MAX: NonZeroU16 = NonZeroU16::MIN.saturating_add(511);
/// Subscriptions of one client.
pub const SUBSCRIPTIONS_MAX: usize = 64;
/// Levels of a filter.
pub const TOPIC_LEVELS_MAX: usize = 16;
/// Longest time a session is kept for a client that is away; the database knows everything that matters.
pub const SESSION_EXPIRY_MAX: Duration = Duration::from_secs(3600);
/// Retained messages: a few for each device of a full fleet.
pub const RETAINED_MESSAGES_MAX: usize = 100_000;
/// Bytes of all retained messages.
pub const RETAINED_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Longest keep-alive; a client that asks for more, or for none, is told this one instead.
pub const KEEP_ALIVE_MAX_S: u16 = 1_200;
/// Longest time the broker may take to end.
pub const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// Longest time the broker may take to be ready: its self-test, and time to start the thread.
const START_DEADLINE: Duration = Duration::from_secs(15);
/// Name of the only listener in the library's tables.
const LISTENER_ID: u16 = 1;

/// The limits that differ between a test and a full fleet.
#[derive(Clone, Copy, Debug)]
pub struct BrokerLimits {
    /// Sessions at one time.
    pub connections_max: isize,
    /// Largest packet accepted from a client.
    pub packet_bytes_max: u32,
    /// Longest time for a client to say CONNECT.
    pub handshake_timeout: Duration,
    /// Queue of a device or of somebody who joins.
    pub client_queue_messages_max: usize,
    /// Unacknowledged messages to such a client.
    pub client_inflight_max: NonZeroU16,
    /// Queue of the hub.
    pub hub_queue_messages_max: usize,
    /// Unacknowledged messages to the hub.
    pub hub_inflight_max: NonZeroU16,
    /// What the retained store may hold.
    pub retained: RetainedLimits,
}

impl Default for BrokerLimits {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            packet_bytes_max: PACKET_BYTES_MAX,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            client_queue_messages_max: CLIENT_QUEUE_MESSAGES_MAX,
            client_inflight_max: CLIENT_INFLIGHT_MAX,
            hub_queue_messages_max: HUB_QUEUE_MESSAGES_MAX,
            hub_inflight_max: HUB_INFLIGHT_MAX,
            retained: RetainedLimits { messages_max: RETAINED_MESSAGES_MAX, bytes_max: RETAINED_BYTES_MAX },
        }
    }
}

/// How to start the broker.
#[derive(Clone, Copy, Debug)]
pub struct BrokerConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Its limits.
    pub limits: BrokerLimits,
}

impl BrokerConfig {
    /// The usual limits on this address.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self { listen, limits: BrokerLimits::default() }
    }
}

/// Why the broker did not start or did not end.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The address is taken, not local, or not permitted.
    #[error("the broker cannot listen on {address}: {reason}. Choose another address or stop what uses it")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// The operating system gave no thread, runtime or random bytes.
    #[error("the broker cannot start: {0}")]
    System(#[from] io::Error),
    /// The broker runs but does not keep retained messages: no device would get its desired state.
    #[error("the broker failed its self-test on {address}: {reason}. Look for another program on this address")]
    SelfTest {
        /// Where it listened.
        address: SocketAddr,
        /// What went wrong.
        reason: String,
    },
    /// The thread did not say that it is ready, or did not end, in its time.
    #[error("the broker did not {what} in time")]
    TooSlow {
        /// What it should have done.
        what: &'static str,
    },
}

/// A running broker. Dropping it stops it.
pub struct Broker {
    address: SocketAddr,
    handle: Handle,
    context: ServerContext,
    store: RetainedStore,
    counters: Arc<Counters>,
    stop: Option<oneshot::Sender<()>>,
    ended: mpsc::Receiver<()>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What the thread reports once it is ready.
struct Ready {
    address: SocketAddr,
    handle: Handle,
    context: ServerContext,
}

impl Broker {
    /// Starts the broker and returns when its self-test has passed.
    ///
    /// # Errors
    /// When it cannot listen, or when it runs but fails its self-test.
    pub fn start(config: BrokerConfig, access: Arc<dyn Access>) -> Result<Self, BrokerError> {
        Self::start_with(config, access, Vec::new())
    }

    /// As `start`, with these topics and payloads retained before anybody can connect, as far as there is room: in their order,
    /// and nothing after the first one that does not fit.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_with(
        config: BrokerConfig,
        access: Arc<dyn Access>,
        retained: Vec<(String, Vec<u8>)>,
    ) -> Result<Self, BrokerError> {
        let counters = Arc::new(Counters::default());
        let store = RetainedStore::new(config.limits.retained, counters.clone());
        store.fill(retained);
        let probe = random_probe()?;
        let gate = Arc::new(Gate {
            access,
            store: store.clone(),
            counters: counters.clone(),
            probe: Mutex::new(Some(probe.clone())),
            arrivals: Arrivals::default(),
        });
        let (ready, is_ready) = mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("broker".to_owned()).spawn(move || {
            run(config, &gate, &probe, &ready, stopped);
            // Nobody listens any more when the start failed.
            let _ = end.send(());
        })?;
        match is_ready.recv_timeout(START_DEADLINE) {
            Ok(Ok(Ready { address, handle, context })) => {
                Ok(Self { address, handle, context, store, counters, stop: Some(stop), ended, thread: Some(thread) })
            }
            Ok(Err(error)) => {
                let _ = thread.join();
                Err(error)
            }
            Err(_) => Err(BrokerError::TooSlow { what: "start" }),
        }
    }

    /// Where it listens, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Disconnects a client and forgets its session; for a credential that was removed or replaced. Returns at once.
    pub fn kick(&self, client_id: &str) {
        let kick = kick::kick_session(self.context.clone(), client_id.to_owned(), self.counters.clone());
        drop(self.handle.spawn(kick));
    }

    /// What it counted so far.
    #[must_use]
    pub fn counters(&self) -> BrokerCounters {
        let (retained, retained_bytes) = self.store.held();
        BrokerCounters {
            sessions: u64::try_from(self.context.sessions.count()).unwrap_or(0),
            retained: u64::try_from(retained).unwrap_or(u64::MAX),
            retained_bytes: u64::try_from(retained_bytes).unwrap_or(u64::MAX),
            ..self.counters.read()
        }
    }

    /// False when its thread has ended by itself.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Cuts every connection, forgets everything and frees the port.
    ///
    /// # Errors
    /// When the thread does not end in time; it is then left behind.
    pub fn stop(mut self) -> Result<(), BrokerError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), BrokerError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        drop(self.stop.take());
        if let Err(mpsc::RecvTimeoutError::Timeout) = self.ended.recv_timeout(STOP_DEADLINE) {
            return Err(BrokerError::TooSlow { what: "stop" });
        }
        if thread.join().is_err() {
            tracing::error!("the broker's thread ended by a panic");
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(%error, "broker left behind");
        }
    }
}

fn random_probe() -> Result<Credential, BrokerError> {
    let random = |error: getrandom::Error| BrokerError::System(io::Error::other(error.to_string()));
    let name = Credential::random("").map_err(random)?.password;
    // Neither a device nor a join token can have a name with a dot, so the probe shadows nobody.
    let user = format!("selftest.{}", name.get(..16).unwrap_or(&name));
    Credential::random(&user).map_err(random)
}

/// The whole life of the broker's thread.
fn run(
    config: BrokerConfig,
    gate: &Arc<Gate>,
    probe: &Credential,
    ready: &mpsc::SyncSender<Result<Ready, BrokerError>>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(BrokerError::System(error)));
            return;
        }
    };
    let handle = runtime.handle().clone();
    let context = runtime.block_on(async {
        let context = build_context(config, gate).await;
        match serve(config, &context, gate, probe).await {
            Ok(address) => {
                let report = Ready { address, handle: Handle::current(), context: context.clone() };
                if ready.send(Ok(report)).is_ok() {
                    // An error means that the broker was dropped, which is a request to stop as well.
                    let _ = stopped.await;
                }
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        }
        context
    });
    // Drops the listener and all connections.
    runtime.shutdown_timeout(STOP_DEADLINE / 2);
    // The library's context owns tables of sessions and routes that own the context: without this nothing would be freed. Its
    // sessions spawn a task when they are dropped, which needs a runtime, even an ended one.
    let _entered = handle.enter();
    match (context.extends.shared.try_write(), context.extends.router.try_write()) {
        (Ok(mut shared), Ok(mut router)) => {
            *shared = Box::new(DefaultShared::new(None));
            *router = Box::new(DefaultRouter::new(None));
        }
        _ => tracing::warn!("the sessions of the stopped broker stay in memory"),
    }
}

async fn build_context(config: BrokerConfig, gate: &Arc<Gate>) -> ServerContext {
    let context = ServerContext::new()
        .mqtt_max_sessions(config.limits.connections_max)
        // Its answer to a busy machine is to refuse connections, which makes a reconnect storm last longer.
        .busy_check_enable(false)
        .build()
        .await;
    *context.extends.retain_mut().await = Box::new(gate.store.clone());
    *context.extends.fitter_mgr_mut().await = Box::new(fitting::Fittings(config.limits));
    hooks::install(&context, gate).await;
    context
}

/// Listens, serves in the background and tests itself.
async fn serve(
    config: BrokerConfig,
    context: &ServerContext,
    gate: &Arc<Gate>,
    probe: &Credential,
) -> Result<SocketAddr, BrokerError> {
    let refused = |error: rmqtt::Error| BrokerError::Listen { address: config.listen, reason: format!("{error:#}") };
    let listener = Listener::new()
        .name("fulmar")
        .laddr(config.listen)
        .backlog(LISTEN_BACKLOG)
        .nodelay(true)
        // Without it a restart fails for as long as old connections linger.
        .reuseaddr(Some(true))
        .allow_anonymous(false)
        .max_connections(usize::try_from(config.limits.connections_max).unwrap_or(usize::MAX))
        .max_handshaking_limit(HANDSHAKES_MAX)
        .handshake_timeout(config.limits.handshake_timeout)
        .send_timeout(SEND_TIMEOUT)
        .max_packet_size(config.limits.packet_bytes_max)
        .max_mqueue_len(config.limits.client_queue_messages_max)
        .max_inflight(config.limits.client_inflight_max)
        .max_qos_allowed(QoS::AtLeastOnce)
        .max_subscriptions(SUBSCRIPTIONS_MAX)
        .max_topic_levels(TOPIC_LEVELS_MAX)
        .max_clientid_len(2 * NAME_BYTES_MAX)
        // The default is added to every message: queued commands and retained sets would vanish after five minutes.
        .message_expiry_interval(Duration::ZERO)
        .max_session_expiry_interval(SESSION_EXPIRY_MAX)
        .bind()
        .and_then(|listener| listener.tcp())
        .map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let server = MqttServer::new(context.clone()).listener_by_id(listener, LISTENER_ID).build();
    drop(tokio::spawn(server.run()));
    let tested = selftest::run(loopback_of(address), probe).await;
    *gate.probe.lock().unwrap_or_else(PoisonError::into_inner) = None;
    tested.map_err(|reason| BrokerError::SelfTest { address, reason })?;
    Ok(address)
}

/// Where to reach a listener that may be bound to "any address".
fn loopback_of(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], v4.port())),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], v6.port())),
        SocketAddr::V4(_) | SocketAddr::V6(_) => address,
    }
}
