//! An agent in this process: started, and stopped in order or at once. What `fulmar-agent run` and the tests use.
//!
//! Must never start on a directory that another agent has, nor before everything that can fail at once has been tried.
use crate::config::{Config, PositionSource};
use crate::disk;
use crate::faults::Faults;
use crate::gpsd::Rules;
use crate::identity::{Identity, IdentityError};
use crate::journal::Journal;
use crate::link::{Endpoint, EndpointError, Security};
use crate::lock::{DataLock, LastRun, LockError};
use crate::notify::Notifier;
use crate::relay::LineAddress;
use crate::runtime::REPORTS_MAX;
use crate::runtime::{Pool, Runtime};
use crate::shell::{self, Ending, Order, Parts};
use crate::store::{Account, STORE_BYTES_MAX, Shelf, Store};
use crate::tls::{self, Trust};
use async_channel::{Receiver, Sender};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use wire::DeviceId;
use wire::hello::ResetCause;

/// Memory for all functions together.
pub const FUNCTION_MEMORY_BYTES: u32 = 64 * 1024 * 1024;
/// Of the loop's thread: the machine is built on it before it moves to the heap. Pages that are not touched cost nothing.
const STACK_BYTES: usize = 8 * 1024 * 1024;
const GPSD_PORT: u16 = 2947;
/// After this an agent that was asked to stop ends, whatever is left.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// Orders to a running agent: one to stop, one to hurry.
pub const ORDERS_MAX: usize = 4;

/// What an agent is started with.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Where it joined.
    pub data: PathBuf,
    pub memory_bytes: u32,
    pub storage_bytes: u64,
    /// In place of the broker that was learnt at the join.
    pub broker: Option<String>,
    pub position: PositionSource,
    pub stop_timeout: Duration,
    pub notifier: Option<Notifier>,
    pub gpsd: SocketAddr,
    pub position_rules: Rules,
    /// Lines of leaf devices behind this one.
    pub leaves: Vec<LineAddress>,
    /// Whether `fulmar-agent status` is answered.
    pub is_visible: bool,
    /// What whoever runs the agent in its own process can make go wrong; `fulmar-agent` has none.
    pub faults: Option<Arc<Faults>>,
}

impl AgentConfig {
    pub fn new(data: PathBuf) -> Self {
        Self {
            data,
            memory_bytes: FUNCTION_MEMORY_BYTES,
            storage_bytes: STORE_BYTES_MAX,
            broker: None,
            position: PositionSource::Joined,
            stop_timeout: STOP_TIMEOUT,
            notifier: None,
            gpsd: SocketAddr::from((Ipv4Addr::LOCALHOST, GPSD_PORT)),
            position_rules: Rules {
                moved_m: 50,
                pause: Duration::from_secs(10),
                stale_after: Duration::from_secs(300),
            },
            leaves: Vec::new(),
            is_visible: false,
            faults: None,
        }
    }

    /// As an operator configured it.
    pub fn of(config: &Config) -> Self {
        Self {
            memory_bytes: config.function_memory_bytes,
            storage_bytes: config.artifact_bytes_max,
            broker: config.broker.clone(),
            position: config.position.clone(),
            stop_timeout: config.stop_timeout,
            gpsd: config.gpsd,
            position_rules: Rules {
                moved_m: config.position_moved_m,
                pause: config.position_pause,
                stale_after: config.position_stale_after,
            },
            leaves: config.leaves.clone(),
            is_visible: true,
            ..Self::new(config.data.clone())
        }
    }
}

/// Why an agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error("the broker cannot be trusted: {0}. Remove the data directory and join again")]
    Tls(String),
    #[error("the hub's key in the identity is of no use. Remove the data directory and join again")]
    HubKey,
    #[error(
        "cannot use {path}: {source}. Check that it is writable, belongs to this user, and that the disk is not full"
    )]
    Io { path: PathBuf, source: io::Error },
    #[error("the system refuses what the agent needs to run: {0}. Check the limits of threads and open files")]
    System(io::Error),
    #[error("the agent broke down. Its log says where; what it ran is started again with the next start")]
    Crashed,
}

/// A running agent. Dropping it stops it at once.
#[derive(Debug)]
pub struct Agent {
    device: DeviceId,
    orders: Sender<Order>,
    ended: Receiver<()>,
    thread: Option<JoinHandle<Result<Ending, AgentError>>>,
}

const fn reset_cause(last: LastRun) -> ResetCause {
    match last {
        LastRun::Ended => ResetCause::ProcessStart,
        LastRun::Disappeared => ResetCause::Panic,
        LastRun::OtherBoot => ResetCause::PowerOn,
    }
}

pub fn at(path: &Path) -> impl FnOnce(io::Error) -> AgentError + use<> {
    let path = path.to_owned();
    move |source| AgentError::Io { path, source }
}

/// What may be shared by several agents of a process; `Own`: nothing is.
pub enum Shared<'a> {
    Own,
    With { pool: &'a Arc<Pool>, shelf: &'a Arc<Shelf> },
}

/// Opens everything that can fail at once.
pub fn open(
    config: &AgentConfig,
    shared: &Shared<'_>,
    orders: Receiver<Order>,
) -> Result<(Parts, DataLock), AgentError> {
    let data = &config.data;
    let (identity, membership) = Identity::load_member(data)?;
    let endpoint = Endpoint::parse(config.broker.as_ref().unwrap_or(&membership.broker))?;
    let tls = match (endpoint.security, &membership.authority) {
        (Security::Plain, _) => None,
        (Security::Tls, Some(authority)) => Some(
            tls::client(Trust::Kept(authority.clone()), config.faults.clone())
                .map_err(|error| AgentError::Tls(tls::explain(&error)))?,
        ),
        (Security::Tls, None) => return Err(AgentError::Tls("the identity holds no authority".to_owned())),
    };
    let pair_key = identity.pair_key().ok_or(AgentError::HubKey)?;
    let device = identity.device();
    let mut lock = DataLock::take(data)?;
    let last = lock.begin().map_err(at(data))?;
    let [journal, artifacts, state] = ["journal", "artifacts", "state"].map(|name| data.join(name));
    let (journal, values) = Journal::open(&journal).map_err(at(&journal))?;
    let account = (!membership.artifacts.is_empty()).then(|| Account {
        address: membership.artifacts.clone(),
        user: device.to_string(),
        password: membership.credential.hex(),
        authority: membership.authority.clone(),
    });
    let (pool, store) = match shared {
        Shared::Own => {
            let store = Store::open(&artifacts, config.storage_bytes, account).map_err(at(&artifacts))?;
            (Arc::new(Pool::of_this_machine().map_err(AgentError::System)?), store)
        }
        Shared::With { pool, shelf } => (Arc::clone(pool), Store::on(shelf, config.storage_bytes, account)),
    };
    let store = Arc::new(store.with_faults(config.faults.clone()));
    disk::directory_create(&state).map_err(at(&state))?;
    let wall = Arc::default();
    let (sender, reports) = async_channel::bounded(REPORTS_MAX);
    let memory = u64::from(config.memory_bytes);
    let runtime = Runtime::start(pool, Arc::clone(&store), state.clone(), memory, Arc::clone(&wall), sender)
        .map_err(AgentError::System)?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(IdentityError::Entropy)?;
    let (memory_bytes, storage_bytes, reset) = (config.memory_bytes, config.storage_bytes, reset_cause(last));
    let position = match config.position {
        PositionSource::Joined => membership.position,
        PositionSource::Static(position) => Some(position),
        PositionSource::None | PositionSource::Gpsd => None,
    };
    let parts = Parts {
        device,
        membership,
        endpoint,
        tls,
        pair_key,
        journal,
        values,
        store,
        state,
        runtime,
        reports,
        wall,
        orders,
        reset,
        seed,
        memory_bytes,
        storage_bytes,
        position,
        position_source: config.position.clone(),
        gpsd: config.gpsd,
        position_rules: config.position_rules,
        leaves: config.leaves.clone(),
        data: config.is_visible.then(|| data.clone()),
        stop_timeout: config.stop_timeout,
        notifier: config.notifier.clone(),
    };
    Ok((parts, lock))
}

/// An agent that ended in order leaves word of it.
pub fn farewell(ending: &Result<Ending, AgentError>, lock: &mut DataLock) {
    if matches!(ending, Ok(Ending::InOrder))
        && let Err(error) = lock.end()
    {
        tracing::warn!(%error, "the goodbye could not be written: the next start will look like one after a crash");
    }
}

impl Agent {
    /// Starts the agent of a directory that has joined. Everything else happens on its own thread.
    pub fn start(config: AgentConfig) -> Result<Self, AgentError> {
        let (orders, orders_of_others) = async_channel::bounded(ORDERS_MAX);
        let (ends, ended) = async_channel::bounded(1);
        let (parts, mut lock) = open(&config, &Shared::Own, orders_of_others)?;
        let device = parts.device;
        let work = move || {
            // Closes when the thread ends, however it does.
            let _ends: Sender<()> = ends;
            let ending = shell::run(parts);
            farewell(&ending, &mut lock);
            ending
        };
        let builder = std::thread::Builder::new().name("agent".to_owned()).stack_size(STACK_BYTES);
        let thread = builder.spawn(work).map_err(AgentError::System)?;
        Ok(Self { device, orders, ended, thread: Some(thread) })
    }

    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// Asks it to stop what runs and to say goodbye. Returns at once.
    pub fn request_stop(&self) {
        // A full channel holds the same request already.
        let _ = self.orders.try_send(Order::Stop);
    }

    /// Asks it to leave everything as it is. Returns at once.
    pub fn request_abandon(&self) {
        let _ = self.orders.try_send(Order::Abandon);
    }

    /// Waits until it has ended, for whatever reason.
    pub async fn ended(&self) {
        // Nothing is ever sent: the channel closes.
        let _ = self.ended.recv().await;
    }

    /// Stops in order; blocks until everything is stopped, or the machine's deadline for that has passed.
    pub fn stop(self) -> Result<(), AgentError> {
        self.request_stop();
        self.join()
    }

    /// Ends as a crash would, with nothing said and nothing stopped; blocks until the threads are gone.
    pub fn abandon(self) -> Result<(), AgentError> {
        self.request_abandon();
        self.join()
    }

    /// Waits for the end.
    pub fn join(mut self) -> Result<(), AgentError> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ending)) => ending.map(|_| ()),
            Some(Err(_)) => Err(AgentError::Crashed),
            None => Ok(()),
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.request_abandon();
            if thread.join().is_err() {
                tracing::error!("the agent broke down");
            }
        }
    }
}
