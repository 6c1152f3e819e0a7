//! Keeps an embedded broker running for as long as the hub lives.
//!
//! A broker that ended is replaced by a new one on the same address with the same table of credentials; it starts
//! empty, and the engine fills it again. Nothing that a broker forgets may matter here.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use futures_lite::future;

use super::place::Place;
use crate::broker::{AccessTable, Broker, BrokerConfig, BrokerError};

/// How often the broker is looked at, and how soon a failed start is tried again.
pub const SUPERVISION_PERIOD: Duration = Duration::from_secs(1);

/// The place of the running broker.
pub(super) struct BrokerSlot {
    config: BrokerConfig,
    access: Arc<AccessTable>,
    current: Mutex<Option<Broker>>,
    // Held through a whole restart, which takes as long as a self-test; `current` is held for moments only.
    restarting: Mutex<()>,
}

impl BrokerSlot {
    /// Starts the first broker with what the database knows; its real address stays the address of all that follow, which start
    /// empty, because by then the engine knows better.
    pub(super) fn start(
        config: BrokerConfig,
        access: Arc<AccessTable>,
        retained: Vec<(String, Vec<u8>)>,
    ) -> Result<Self, BrokerError> {
        let broker = Broker::start_with(config, access.clone(), retained)?;
        let config = BrokerConfig { listen: broker.address(), ..config };
        Ok(Self { config, access, current: Mutex::new(Some(broker)), restarting: Mutex::new(()) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.config.listen
    }

    /// Ends the session of a client, if it has one.
    pub(super) fn kick(&self, client_id: &str) {
        // Between two brokers there are no sessions.
        if let Some(broker) = self.current().as_ref() {
            broker.kick(client_id);
        }
    }

    /// Sessions now; none between two brokers.
    pub(super) fn sessions(&self) -> u64 {
        self.current().as_ref().map_or(0, |broker| broker.counters().sessions)
    }

    /// Ends the broker if it runs, and starts a new one.
    pub(super) fn restart(&self) -> Result<(), BrokerError> {
        let _restarting = self.restarting.lock().unwrap_or_else(PoisonError::into_inner);
        self.replace()
    }

    /// Ends the broker and starts none.
    pub(super) fn stop(&self) {
        let _restarting = self.restarting.lock().unwrap_or_else(PoisonError::into_inner);
        let broker = self.current().take();
        if let Some(Err(error)) = broker.map(Broker::stop) {
            tracing::error!(%error, "the broker did not end cleanly");
        }
    }

    fn replace(&self) -> Result<(), BrokerError> {
        let old = self.current().take();
        if let Some(Err(error)) = old.map(Broker::stop) {
            tracing::error!(%error, "the old broker did not end cleanly");
        }
        let broker = Broker::start(self.config, self.access.clone())?;
        *self.current() = Some(broker);
        Ok(())
    }

    pub(super) fn supervise(&self) {
        let _restarting = self.restarting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_running = self.current().as_ref().is_some_and(Broker::is_running);
        if is_running {
            return;
        }
        match self.replace() {
            Ok(()) => tracing::warn!(address = %self.config.listen, "the broker had ended and was started again"),
            Err(error) => tracing::error!(%error, "the broker ended and cannot be started again yet"),
        }
    }

    fn current(&self) -> MutexGuard<'_, Option<Broker>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that looks after a broker in this process, and after what else has to be looked after.
pub(super) struct Supervisor {
    stop: Sender<()>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Supervisor {
    pub(super) fn start(place: Arc<Place>, mut tend: impl FnMut() + Send + 'static) -> std::io::Result<Self> {
        let (stop, stopped) = async_channel::bounded(1);
        let thread = thread::Builder::new().name("supervisor".to_owned()).spawn(move || {
            while !is_stopped(&stopped) {
                place.supervise();
                tend();
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    pub(super) fn stop(&mut self) {
        self.stop.close();
        if let Some(Err(_)) = self.thread.take().map(thread::JoinHandle::join) {
            tracing::error!("the supervisor ended by a panic");
        }
    }
}

/// Waits for one period; true when it is time to end.
fn is_stopped(stopped: &Receiver<()>) -> bool {
    let stop = async {
        let _ = stopped.recv().await;
        true
    };
    let period = async {
        smol::Timer::after(SUPERVISION_PERIOD).await;
        false
    };
    smol::block_on(future::or(stop, period))
}
