//! The gateway's side of leaf devices: for each line one task that keeps it open, and relays one connection at a time to the broker.
//!
//! A relay moves bytes and reads nothing of them but who they are for: what protects a leaf's messages stands in the messages, under
//! keys that a gateway does not have. Everything is bounded: a frame in each direction, and what the sockets of the system hold.
//! Must never keep a connection at the broker whose leaf is not heard, so that the hub learns of it, nor one byte of one connection
//! for another.
mod address;
mod peek;
mod port;
#[cfg(test)]
mod tests;
mod upstream;

pub use address::{LEAVES_MAX, LineAddress};

use crate::clock::boot_time;
use crate::link::Endpoint;
use agent_nostd::line::{Line, LineCounters, LineState};
use agent_nostd::machine::time::Instant;
use async_channel::Sender;
use futures_lite::io::split;
use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use peek::{PEEK_BYTES_MAX, client};
use port::Stream;
use rustls::ClientConfig;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use upstream::{Happened, Upstream};
use wire::DeviceId;
use wire::event::Level;
use wire::line::{LINE_WIRE_BYTES_MAX, LineEnd, LineId};

/// Between two tries to open a line; doubled up to the second one.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A line that was open for so long was a good one.
const GOOD_AFTER: Duration = Duration::from_secs(30);
/// Bytes that are read at once from a line or the broker.
const READ_BYTES: usize = 512;
/// What a leaf has sent is given to a broker that ends, and what a broker has sent to a leaf, for so long.
const DRAIN: Duration = Duration::from_secs(5);

/// How a line stands, for `fulmar-agent status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafView {
    pub line: String,
    pub state: &'static str,
    /// As the connection says of itself; empty: nobody spoke yet.
    pub client: String,
    pub since: Instant,
    pub connections: u64,
    pub counters: LineCounters,
}

/// What people of the hub hear of a line, in the log of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub level: Level,
    pub text: String,
}

/// What a relay is given.
pub struct Relay {
    pub address: LineAddress,
    /// The gateway's own.
    pub device: DeviceId,
    pub endpoint: Endpoint,
    pub tls: Option<Arc<ClientConfig>>,
    /// Dropped when full: the state is in the view.
    pub notices: Sender<Notice>,
    pub view: Rc<RefCell<LeafView>>,
}

fn now() -> Instant {
    Instant::from_ms(u64::try_from(boot_time().as_millis()).unwrap_or(u64::MAX))
}

/// A number that another run does not begin with.
fn number() -> u32 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u32::from_le_bytes(bytes),
        // Without entropy nothing of this agent starts; a clock that never stands still tells runs apart, too.
        Err(_) => boot_time().subsec_nanos(),
    }
}

impl Relay {
    /// How a line stands before it was opened.
    pub fn view_of(address: &LineAddress) -> Rc<RefCell<LeafView>> {
        Rc::new(RefCell::new(LeafView {
            line: address.to_string(),
            state: "closed",
            client: String::new(),
            since: now(),
            connections: 0,
            counters: LineCounters::default(),
        }))
    }

    /// Keeps the line open and relays, for ever.
    pub async fn serve(self) {
        let mut pause = PAUSE_MIN;
        let mut is_told = false;
        loop {
            let began = boot_time();
            let error = match port::open(&self.address).await {
                Ok(line) => {
                    is_told = false;
                    self.tell(Level::Info, format!("the line {} is open", self.address));
                    self.relay(line).await
                }
                Err(error) => error,
            };
            self.set("closed");
            if !std::mem::replace(&mut is_told, true) {
                self.tell(
                    Level::Warn,
                    format!(
                        "the line {} is closed: {error}; check that it is there and that this user may use it",
                        self.address
                    ),
                );
            }
            if boot_time().saturating_sub(began) >= GOOD_AFTER {
                pause = PAUSE_MIN;
            }
            smol::Timer::after(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn tell(&self, level: Level, text: String) {
        match level {
            Level::Warn | Level::Error => tracing::warn!("{text}"),
            Level::Trace | Level::Debug | Level::Info => tracing::info!("{text}"),
        }
        // Nobody waits for these.
        let _ = self.notices.try_send(Notice { level, text });
    }

    fn set(&self, state: &'static str) {
        let mut view = self.view.borrow_mut();
        if view.state != state {
            (view.state, view.since) = (state, now());
        }
    }

    /// One opened line, until it fails.
    async fn relay(&self, line: Box<dyn Stream>) -> io::Error {
        let (mut line_in, mut line_out) = split(line);
        let mut end = End::new(self);
        let (mut out, mut from, mut to) = ([0; LINE_WIRE_BYTES_MAX], 0, 0);
        let mut arrived = [0; READ_BYTES];
        loop {
            end.follow();
            end.carry();
            if from == to {
                (from, to) = (0, end.line.poll(now(), &mut out).unwrap_or(0));
                // Time alone may have ended a connection.
                end.follow();
            }
            self.view.borrow_mut().counters = end.line.counters();
            let due = end.due();
            let hear = async { Ok(Turn::Heard(line_in.read(&mut arrived).await?)) };
            let speak = async {
                match out.get(from..to).filter(|left| !left.is_empty()) {
                    Some(left) => Ok(Turn::Spoke(line_out.write(left).await?)),
                    None => future::pending().await,
                }
            };
            let wait = async {
                match due {
                    Some(at) => smol::Timer::after(at.since(now())).await,
                    None => future::pending().await,
                };
                Ok(Turn::Due)
            };
            let broker = async { Ok(Turn::Broker(end.upstream.turn().await)) };
            // Whoever is ready first, by chance: none keeps the others waiting.
            let turn = future::race(future::race(hear, speak), future::race(broker, wait)).await;
            match turn {
                Ok(Turn::Heard(0)) => return io::Error::new(io::ErrorKind::UnexpectedEof, "the other end closed it"),
                Ok(Turn::Heard(count)) => end.line.receive(now(), &arrived[..count]),
                Ok(Turn::Spoke(0)) => return io::ErrorKind::WriteZero.into(),
                Ok(Turn::Spoke(count)) => from += count,
                Ok(Turn::Due) => {}
                Ok(Turn::Broker(event)) => end.hear_broker(event),
                Err(error) => return error,
            }
        }
    }
}

/// What happened.
enum Turn {
    Heard(usize),
    Spoke(usize),
    Broker(Happened),
    Due,
}

/// The line's end here, and what belongs to its present connection.
struct End<'r> {
    relay: &'r Relay,
    line: Line,
    of: LineId,
    upstream: Upstream,
    /// The beginning of what the leaf sent, until it is known who it is.
    first: Option<Vec<u8>>,
}

impl<'r> End<'r> {
    fn new(relay: &'r Relay) -> Self {
        let line = Line::gateway(now(), relay.device, number());
        relay.set("idle");
        Self { relay, of: line.id(), line, upstream: Upstream::None, first: None }
    }

    /// Does what the state of the line asks for.
    fn follow(&mut self) {
        if self.line.id() != self.of {
            // The leaf began another one: what is left of the one before belongs to nobody.
            if !self.upstream.is_none() {
                self.over(LineEnd::Unknown);
            }
            self.of = self.line.id();
        }
        match self.line.state() {
            LineState::Opening if self.upstream.is_none() => {
                self.upstream = Upstream::connect(self.relay.endpoint.clone(), self.relay.tls.clone());
                self.first = Some(Vec::with_capacity(PEEK_BYTES_MAX));
                self.relay.set("connecting");
            }
            LineState::Closed(end) if !self.upstream.is_none() => self.over(end),
            LineState::Idle | LineState::Opening | LineState::Open | LineState::Closed(_) => {}
        }
    }

    /// The connection to the broker goes without a farewell, so that the broker says what the leaf has left for that.
    fn over(&mut self, end: LineEnd) {
        self.upstream = Upstream::None;
        self.relay.set("idle");
        let who = self.relay.view.borrow().client.clone();
        let who = if who.is_empty() { "a leaf" } else { &who };
        let level = match end {
            LineEnd::Leaf | LineEnd::Unknown => Level::Info,
            LineEnd::Silent | LineEnd::Stalled | LineEnd::Unreachable | LineEnd::Broker => Level::Warn,
        };
        self.relay.tell(level, format!("the connection of {who} over {} is over: {end}", self.relay.address));
    }

    /// Moves what can be moved without waiting.
    fn carry(&mut self) {
        let Upstream::Open { up, down, ended, .. } = &mut self.upstream else { return };
        if up.is_empty() {
            let line = &mut self.line;
            up.fill(|into| line.read(into));
            if let Some(first) = &mut self.first {
                let room = PEEK_BYTES_MAX - first.len();
                first.extend(up.left().iter().take(room));
                let found = client(first).map(str::to_owned);
                if found.is_some() || first.len() == PEEK_BYTES_MAX {
                    let found = found.unwrap_or_default();
                    tracing::info!(client = found, line = %self.relay.address, "relaying");
                    self.relay.view.borrow_mut().client = found;
                    self.first = None;
                }
            }
        }
        let taken = self.line.write(now(), down.left());
        down.took(taken);
        let is_through = down.is_empty() && self.line.is_flushed();
        if ended.is_some_and(|at| is_through || at.after(DRAIN) <= now()) {
            self.line.close(LineEnd::Broker);
            self.over(LineEnd::Broker);
        }
    }

    /// When there is something to do although nothing happens.
    fn due(&self) -> Option<Instant> {
        let drained = match &self.upstream {
            Upstream::Open { ended: Some(at), .. } => Some(at.after(DRAIN)),
            Upstream::Open { ended: None, .. } | Upstream::None | Upstream::Connecting(_) => None,
        };
        [self.line.timeout(), drained].into_iter().flatten().min()
    }

    fn hear_broker(&mut self, event: Happened) {
        match event {
            Happened::Connected(Ok(stream)) => {
                self.upstream = Upstream::open(stream);
                self.line.opened(now());
                self.relay.set("open");
                let mut view = self.relay.view.borrow_mut();
                view.connections = view.connections.saturating_add(1);
                view.client.clear();
            }
            Happened::Connected(Err(error)) => {
                tracing::warn!(%error, line = %self.relay.address, "no connection to the broker for a leaf");
                self.line.close(LineEnd::Unreachable);
                self.over(LineEnd::Unreachable);
            }
            Happened::Ended => self.upstream.ended(now()),
            Happened::Broken => {
                self.line.close(LineEnd::Broker);
                self.over(LineEnd::Broker);
            }
            Happened::Moved => {}
        }
    }
}
