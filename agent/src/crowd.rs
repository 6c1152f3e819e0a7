//! Many agents on one thread, for fleets that are simulated with the real thing: each has its own keys, journal, state and
//! connection; threads for functions and the files of artifacts are shared.
//!
//! Must never change what an agent does: machine, shell and link are those of `fulmar-agent`.
use crate::agent::{AgentConfig, AgentError, ORDERS_MAX, Shared, at, farewell, open};
use crate::runtime::Pool;
use crate::shell::{self, Commons, Ending, Order};
use crate::store::{STORE_BYTES_MAX, Shelf, Spare};
use async_channel::Sender;
use std::path::Path;
use std::sync::Arc;
use tracing::Instrument;
use wire::DeviceId;

/// What the agents share. Everything happens while `run` is on the stack.
pub struct Crowd {
    commons: Commons,
    pool: Arc<Pool>,
    shelf: Arc<Shelf>,
}

/// An agent among others. Dropping it ends it as a crash would.
#[derive(Debug)]
pub struct Member {
    device: DeviceId,
    name: String,
    orders: Sender<Order>,
    task: smol::Task<Result<Ending, AgentError>>,
}

impl Crowd {
    /// `artifacts`: where the agents keep them together.
    pub fn new(artifacts: &Path) -> Result<Self, AgentError> {
        let shelf = Arc::new(Shelf::open(artifacts, STORE_BYTES_MAX, Spare::Delete).map_err(at(artifacts))?);
        let pool = Arc::new(Pool::of_this_machine().map_err(AgentError::System)?);
        Ok(Self { commons: Commons::new(), pool, shelf })
    }

    /// Starts the agent of a directory that has joined; it runs while `run` does.
    pub fn start(&self, config: &AgentConfig) -> Result<Member, AgentError> {
        let (orders, orders_of_others) = async_channel::bounded(ORDERS_MAX);
        let shared = Shared::With { pool: &self.pool, shelf: &self.shelf };
        let (parts, mut lock) = open(config, &shared, orders_of_others)?;
        let (device, name) = (parts.device, parts.membership.name.clone());
        let commons = self.commons.clone();
        let span = tracing::error_span!("device", name);
        let work = async move {
            let ending = shell::serve(parts, commons).await;
            farewell(&ending, &mut lock);
            ending
        };
        let task = self.commons.executor.spawn(work.instrument(span));
        Ok(Member { device, name, orders, task })
    }

    /// Something that goes on beside the agents.
    pub fn spawn<T: 'static>(&self, work: impl Future<Output = T> + 'static) -> smol::Task<T> {
        self.commons.executor.spawn(work)
    }

    /// Runs all agents on this thread, until `work` is done.
    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        smol::block_on(self.commons.executor.run(work))
    }
}

impl Member {
    pub fn device(&self) -> DeviceId {
        self.device
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks it to stop what runs and to say goodbye. Returns at once.
    pub fn request_stop(&self) {
        // A full channel holds the same request already.
        let _ = self.orders.try_send(Order::Stop);
    }

    /// Asks it to leave everything as it is, as a reset would; what is being written to the journal is written. Returns at once.
    pub fn request_abandon(&self) {
        let _ = self.orders.try_send(Order::Abandon);
    }

    /// Waits for its end.
    pub async fn ended(self) -> Result<(), AgentError> {
        self.task.await.map(|_| ())
    }
}
