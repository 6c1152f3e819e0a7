//! A board as the agent wants it: clock, connections, console and watchdog over embassy's libraries. It translates and never
//! decides.

use agent_nostd::machine::time::Instant;
use agent_nostd::shell::port::{Board, Clock, Network, PanicRecord, Socket};
use core::cell::{Cell, RefCell};
use core::fmt;
use core::time::Duration;
use drivers::log;
use drivers::record::{Boot, Cause};
use drivers::watchdog::Watchdog;
use embassy_net::dns::{self, DnsQueryType};
use embassy_net::tcp::{self, TcpReader, TcpSocket, TcpWriter};
use embassy_net::{IpAddress, Ipv4Address, Stack};
use embassy_time::Timer;
use wire::event::Level;
use wire::hello::{Architecture, ResetCause};

/// What the broker may send before it is read: a segment and a half, so that it need not wait for each.
const RECEIVE_BYTES: usize = 2048;
/// What is sent and not acknowledged: as much, or on the smallest class less than a segment. The longest frame passes in parts.
const SEND_BYTES: usize = if cfg!(feature = "functions") { 2048 } else { 1024 };
/// Half of the shortest time that a board gives its watchdog.
const FEED_PERIOD: Duration = Duration::from_millis(1500);

/// Embassy's clock. No board sleeps deeper than until the next interrupt, so it counts always.
pub struct BoardClock;

impl Clock for BoardClock {
    fn now_us(&self) -> u64 {
        embassy_time::Instant::now().as_micros()
    }

    async fn until(&self, at: Instant) {
        Timer::at(embassy_time::Instant::from_millis(at.as_ms())).await;
    }
}

/// Memory of the one connection.
pub struct Buffers {
    receive: [u8; RECEIVE_BYTES],
    send: [u8; SEND_BYTES],
}

impl Buffers {
    pub const fn new() -> Self {
        Self { receive: [0; RECEIVE_BYTES], send: [0; SEND_BYTES] }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new()
    }
}

/// TCP over a stack that somebody else runs.
pub struct Tcp<'d> {
    pub stack: Stack<'d>,
    pub buffers: &'d mut Buffers,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum TcpError {
    /// The name server did not say where the host is.
    Name(dns::Error),
    /// It has no address of version 4.
    NoAddress,
    Connect(tcp::ConnectError),
}

impl Network for Tcp<'_> {
    type Error = TcpError;
    type Socket<'s>
        = Connection<'s>
    where
        Self: 's;

    async fn connect(&mut self, host: &str, port: u16) -> Result<Connection<'_>, TcpError> {
        self.stack.wait_config_up().await;
        let address = match host.parse::<Ipv4Address>() {
            Ok(address) => IpAddress::Ipv4(address),
            Err(_) => {
                let found = self.stack.dns_query(host, DnsQueryType::A).await.map_err(TcpError::Name)?;
                *found.first().ok_or(TcpError::NoAddress)?
            }
        };
        let mut socket = TcpSocket::new(self.stack, &mut self.buffers.receive, &mut self.buffers.send);
        // A small packet is one that somebody waits for.
        socket.set_nagle_enabled(false);
        socket.connect((address, port)).await.map_err(TcpError::Connect)?;
        Ok(Connection(socket))
    }
}

pub struct Connection<'s>(TcpSocket<'s>);

impl Socket for Connection<'_> {
    type Reader<'h>
        = TcpReader<'h>
    where
        Self: 'h;
    type Writer<'h>
        = TcpWriter<'h>
    where
        Self: 'h;

    fn split(&mut self) -> (TcpReader<'_>, TcpWriter<'_>) {
        self.0.split()
    }
}

/// Console, watchdog, and how this run began.
pub struct Console<W> {
    pub boot: Boot,
    pub architecture: Architecture,
    pub watchdog: RefCell<W>,
    /// Until when it is fed, if not for ever.
    fed_until: Cell<Option<Instant>>,
}

impl<W> Console<W> {
    pub fn new(boot: Boot, architecture: Architecture, watchdog: W) -> Self {
        Self { boot, architecture, watchdog: RefCell::new(watchdog), fed_until: Cell::new(None) }
    }
}

impl<W: Watchdog> Board for Console<W> {
    fn log(&self, level: Level, text: fmt::Arguments<'_>) {
        log!("{}: {text}", word(level));
    }

    fn alive(&self) {
        if self.fed_until.get().is_some_and(|until| until <= BoardClock.now()) {
            return;
        }
        // Nobody else borrows it for longer than a call.
        if let Ok(mut watchdog) = self.watchdog.try_borrow_mut() {
            watchdog.feed();
        }
    }

    fn alive_until(&self, until: Option<Instant>) {
        self.fed_until.set(until);
    }

    fn alive_every(&self) -> Option<Duration> {
        Some(FEED_PERIOD)
    }

    fn reset_cause(&self) -> ResetCause {
        match self.boot.cause {
            Cause::PowerOn => ResetCause::PowerOn,
            Cause::Pin => ResetCause::Pin,
            Cause::Software => ResetCause::Software,
            Cause::Watchdog => ResetCause::Watchdog,
            Cause::Panic => ResetCause::Panic,
        }
    }

    fn panic_record(&self) -> Option<PanicRecord<'_>> {
        match self.boot.cause {
            Cause::Watchdog | Cause::Panic => {
                Some(PanicRecord { address: self.boot.program_counter.unwrap_or(0), text: &self.boot.text })
            }
            Cause::PowerOn | Cause::Pin | Cause::Software => None,
        }
    }

    fn has_boot_clock(&self) -> bool {
        true
    }

    fn architecture(&self) -> Architecture {
        self.architecture
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}
