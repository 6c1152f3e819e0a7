//! The hub's own MQTT 5 client: the one way to an embedded and to an external broker alike.
//!
//! It carries messages and says what was acknowledged; it decides nothing and stores nothing. Whatever was not
//! acknowledged when a connection ends is forgotten here: the owner sends it again. Publishing never blocks, so an
//! owner that is slow to read events slows the broker down but can never wait for itself.

mod capability;
mod connection;
mod endpoint;
#[cfg(test)]
mod tests;
mod tickets;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::broker::Credential;

pub use capability::{BROKER_PACKET_BYTES_MIN, BROKER_RECEIVE_MIN, BROKER_SESSION_MIN_S, Lack};
pub(crate) use endpoint::bracketed;
pub use endpoint::{BrokerUrl, Endpoint, UrlError};

/// Publications that may wait for the connection; more are handed back.
pub const QUEUE_PUBLICATIONS_MAX: usize = 8_192;
/// Largest packet sent or accepted.
pub const PACKET_BYTES_MAX: u32 = 1024 * 1024;
/// Largest topic and payload of a publication: a packet minus its header.
pub const PUBLICATION_BYTES_MAX: usize = PACKET_BYTES_MAX as usize - 64;
/// Unacknowledged publications on the way to the broker.
pub const INFLIGHT_MAX: u16 = 512;
/// Unacknowledged messages that the broker may have on the way to the hub.
pub const RECEIVE_MAX: u16 = 512;
/// Keep-alive towards the broker.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Longest time until a connection is there, subscribed and usable.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time that the broker may take to acknowledge a publication; then the connection counts as lost.
pub const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(30);
/// First pause after a lost connection.
pub const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest pause between two attempts.
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Longest time `stop` waits for the thread.
pub const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// Whom to connect to, as whom, and what to hear.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// The broker.
    pub endpoint: Endpoint,
    /// MQTT client id.
    pub client_id: String,
    /// User name and password.
    pub credential: Credential,
    /// Topic filters, subscribed with QoS 1 on every connection before it is reported.
    pub subscriptions: Vec<String>,
    /// `ACKNOWLEDGE_TIMEOUT`, but for tests.
    pub acknowledge_timeout: Duration,
    /// The broker is to keep the session for so long after a connection, which is cleared at the next one: asked by whoever
    /// wants to know whether it can.
    pub session_s: Option<u32>,
}

/// One message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Topic, without wildcards.
    pub topic: String,
    /// Payload; empty and retained clears the topic.
    pub payload: Vec<u8>,
    /// Keep as the topic's retained message?
    pub retain: bool,
    /// QoS 1 (acknowledged by its ticket) rather than 0?
    pub qos1: bool,
    /// The owner's name for it; comes back when the broker acknowledges. Means nothing with QoS 0.
    pub ticket: u64,
}

/// A publication that was not taken, and why. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The queue is full: try again when something was acknowledged.
    #[error("{QUEUE_PUBLICATIONS_MAX} publications wait already: send this one again after an acknowledgement")]
    Full(Publication),
    /// There is no connection now; everything has to be sent again after the next `Connected` anyway.
    #[error("no connection to the broker: send this one again after the next connection")]
    Offline(Publication),
    /// It can never be sent: sending it would cut the connection.
    #[error("a publication on {:?} with {} bytes can never be sent: the limit is {PUBLICATION_BYTES_MAX} bytes \
             and a topic has no wildcards", .0.topic, .0.payload.len())]
    Invalid(Publication),
}

/// Why a broker and this client do not come together, although they reach each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It does not accept user and password.
    NotAuthorized,
    /// It does not speak MQTT 5.
    Protocol,
    /// It cannot do what is needed.
    Lacks(Vec<Lack>),
    /// Its certificate, or its TLS.
    NotTrusted,
}

/// What happened on the link. Events of one connection come in order; `Connected` is its first, `Disconnected` its
/// last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// Connected, and all subscriptions are in place. Messages may come before it: a subscription in place delivers.
    Connected {
        /// The broker remembered an earlier session. Always expected to be `false`: the link starts clean.
        session_present: bool,
    },
    /// The connection ended or an attempt failed; all tickets that are not acknowledged are forgotten. Comes once per
    /// attempt, so also without a `Connected` before it.
    Disconnected {
        /// For people.
        reason: String,
        /// Trying again will not help before somebody changes something.
        refusal: Option<Refusal>,
    },
    /// A message on one of the subscriptions.
    Message {
        /// Its topic.
        topic: String,
        /// Its payload.
        payload: Vec<u8>,
        /// It was stored before the subscription rather than sent now.
        retained: bool,
        /// It came with QoS 1.
        qos1: bool,
    },
    /// The broker has taken over a QoS 1 publication.
    Acknowledged {
        /// Its ticket.
        ticket: u64,
    },
    /// The broker has refused a QoS 1 publication (not authorized, store full); sending it again will not help now.
    Refused {
        /// Its ticket.
        ticket: u64,
        /// For people.
        reason: String,
    },
}

/// A connection to a broker that renews itself. Dropping it disconnects.
pub struct Link {
    outbox: Arc<Outbox>,
    stop: async_channel::Sender<()>,
    ended: async_channel::Receiver<()>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What the owner's threads and the link's thread share.
#[derive(Debug)]
pub(crate) struct Outbox {
    // The lock makes "still connected" and "put into the queue" one step, so that what is put in during a
    // disconnection is either sent on the next connection or handed back, never lost in silence.
    open: Mutex<bool>,
    queue: async_channel::Sender<Publication>,
    waiting: async_channel::Receiver<Publication>,
}

impl Outbox {
    fn new() -> Self {
        let (queue, waiting) = async_channel::bounded(QUEUE_PUBLICATIONS_MAX);
        Self { open: Mutex::new(false), queue, waiting }
    }

    fn put(&self, publication: Publication) -> Result<(), PublishError> {
        let bytes = publication.topic.len().saturating_add(publication.payload.len());
        let topic = &publication.topic;
        if bytes > PUBLICATION_BYTES_MAX
            || topic.is_empty()
            || topic.len() > usize::from(u16::MAX)
            || topic.contains(['+', '#', '\0'])
        {
            return Err(PublishError::Invalid(publication));
        }
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !*open {
            return Err(PublishError::Offline(publication));
        }
        self.queue.try_send(publication).map_err(|refused| PublishError::Full(refused.into_inner()))
    }

    fn open(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Forgets all that waits and takes no more.
    fn close(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        *open = false;
        while self.waiting.try_recv().is_ok() {}
    }
}

impl Link {
    /// Starts to connect and returns at once; everything else comes as events.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(config: LinkConfig, events: async_channel::Sender<LinkEvent>) -> std::io::Result<Self> {
        let outbox = Arc::new(Outbox::new());
        let (stop, stopped) = async_channel::bounded(1);
        let (end, ended) = async_channel::bounded(1);
        let shared = outbox.clone();
        let thread = thread::Builder::new().name("mqtt".to_owned()).spawn(move || {
            smol::block_on(connection::run(&config, &shared, &events, &stopped));
            shared.close();
            drop(end);
        })?;
        Ok(Self { outbox, stop, ended, thread: Some(thread) })
    }

    /// Queues a publication; never blocks.
    ///
    /// # Errors
    /// Hands the publication back when it cannot be taken.
    pub fn publish(&self, publication: Publication) -> Result<(), PublishError> {
        self.outbox.put(publication)
    }

    /// Publications are taken now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        *self.outbox.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Disconnects and ends the thread. Publications still on their way are forgotten.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.stop.close();
        let ended = async {
            // Nothing is ever sent: the channel closes when the thread is done.
            let _ = self.ended.recv().await;
            true
        };
        let late = async {
            smol::Timer::after(STOP_DEADLINE).await;
            false
        };
        if !smol::block_on(futures_lite::future::or(ended, late)) {
            tracing::error!("the MQTT link did not end in time and is left behind");
        } else if thread.join().is_err() {
            tracing::error!("the MQTT link's thread ended by a panic");
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.end();
    }
}
