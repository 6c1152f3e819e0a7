//! The agent of a microcontroller on this host: the very shell of the firmware, on real TCP and a flash in memory.
//!
//! A board without its hardware: the clock is this machine's, power goes when it is told to, and the flash stays.

use super::leaf::{Port, PortReader, PortWriter};
use super::{Hub, wait_until};
use agent_nostd::line::Line;
use agent_nostd::machine::time::Instant as BootInstant;
use agent_nostd::shell::dalek::Dalek;
use agent_nostd::shell::limits::{StandardMemory, standard};
use agent_nostd::shell::port::{
    Board, BootSeed, Clock, Crypto, Enrolment, Network, NoPeripherals, NoUpdates, PanicRecord, Parts, Platform, Socket,
};
use agent_nostd::shell::run;
use agent_nostd::shell::serial::{Connection, Half, Serial, SerialLine};
use agent_nostd::store::{Flash, RamFlash, Retained, Seed};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use embedded_storage::nor_flash::{self, NorFlash, NorFlashErrorKind, ReadNorFlash};
use smol::Async;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wire::event::Level;
use wire::hello::{Architecture, ResetCause};
use wire::join::{ExchangeKey, JoinToken, TOKEN_TEXT_BYTES_MAX};
use wire::position::Position;
use wire::sign::{PublicKey, Signature, Verify};
use wire::{DeviceId, Digest, PairKey};

/// For functions.
const FUNCTION_BYTES: u32 = 256 * 1024;
const PARTITION_BYTES: usize = 256 * 1024;
const STACK_BYTES: usize = 8 * 1024 * 1024;
/// As a board with a watchdog.
const ALIVE_EVERY: Duration = Duration::from_millis(500);

/// Counts how often anybody waits: a loop that never rests shows itself here.
#[derive(Debug)]
struct HostClock(Instant, Arc<AtomicU64>);

impl Clock for HostClock {
    fn now_us(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap()
    }

    async fn until(&self, at: BootInstant) {
        self.1.fetch_add(1, Ordering::Relaxed);
        match self.0.checked_add(Duration::from_millis(at.as_ms())) {
            Some(at) => smol::Timer::at(at).await,
            None => std::future::pending().await,
        };
    }
}

/// TCP, or a serial line.
#[derive(Debug)]
enum HostNetwork<'l> {
    Tcp,
    Line(Serial<'l, HostClock>),
}

enum HostSocket<'l> {
    Tcp(Async<TcpStream>),
    Line(Connection<'l, HostClock>),
}

/// One direction.
enum HostHalf<'h> {
    Tcp(&'h Async<TcpStream>),
    Line(Half<'h, HostClock>),
}

impl<'l> Network for HostNetwork<'l> {
    type Error = io::Error;
    type Socket<'s>
        = HostSocket<'l>
    where
        Self: 's;

    async fn connect(&mut self, host: &str, port: u16) -> io::Result<HostSocket<'l>> {
        if let Self::Line(line) = self {
            let connection = line.connect(host, port).await;
            return connection.map(HostSocket::Line).map_err(|end| io::Error::other(end.to_string()));
        }
        let address: SocketAddr = (host, port).to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
        let stream = Async::<TcpStream>::connect(address).await?;
        stream.get_ref().set_nodelay(true)?;
        Ok(HostSocket::Tcp(stream))
    }
}

impl Socket for HostSocket<'_> {
    type Reader<'h>
        = HostHalf<'h>
    where
        Self: 'h;
    type Writer<'h>
        = HostHalf<'h>
    where
        Self: 'h;

    fn split(&mut self) -> (HostHalf<'_>, HostHalf<'_>) {
        match self {
            Self::Tcp(stream) => (HostHalf::Tcp(stream), HostHalf::Tcp(stream)),
            Self::Line(connection) => {
                let (reader, writer) = connection.split();
                (HostHalf::Line(reader), HostHalf::Line(writer))
            }
        }
    }

    fn behind(&self) -> Option<DeviceId> {
        match self {
            Self::Tcp(_) => None,
            Self::Line(connection) => connection.behind(),
        }
    }
}

impl ErrorType for HostHalf<'_> {
    type Error = ErrorKind;
}

impl Read for HostHalf<'_> {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, ErrorKind> {
        match self {
            Self::Tcp(stream) => stream.read(into).await.map_err(|_| ErrorKind::Other),
            Self::Line(half) => half.read(into).await,
        }
    }
}

impl Write for HostHalf<'_> {
    async fn write(&mut self, out: &[u8]) -> Result<usize, ErrorKind> {
        match self {
            Self::Tcp(stream) => stream.write(out).await.map_err(|_| ErrorKind::Other),
            Self::Line(half) => half.write(out).await,
        }
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

#[derive(Debug)]
struct HostBoard {
    log: Arc<Mutex<Vec<String>>>,
    reset: ResetCause,
}

impl Board for HostBoard {
    fn log(&self, level: Level, text: fmt::Arguments<'_>) {
        self.log.lock().unwrap().push(format!("{level:?} {text}"));
    }

    fn alive(&self) {}

    fn alive_every(&self) -> Option<Duration> {
        Some(ALIVE_EVERY)
    }

    fn reset_cause(&self) -> ResetCause {
        self.reset
    }

    fn panic_record(&self) -> Option<PanicRecord<'_>> {
        None
    }

    fn has_boot_clock(&self) -> bool {
        true
    }

    fn architecture(&self) -> Architecture {
        Architecture::Thumbv7em
    }
}

/// NOR flash in memory that stays when the power goes: each partition is one of them.
#[derive(Clone)]
struct Nor(Arc<Mutex<Box<RamFlash<PARTITION_BYTES, 4, 4096>>>>);

impl Nor {
    fn erased() -> Self {
        Self(Arc::new(Mutex::new(Box::default())))
    }
}

impl fmt::Debug for Nor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nor(..)")
    }
}

impl nor_flash::ErrorType for Nor {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Nor {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        self.0.lock().unwrap().read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        PARTITION_BYTES
    }
}

impl NorFlash for Nor {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        self.0.lock().unwrap().erase(from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        self.0.lock().unwrap().write(offset, bytes)
    }
}

/// Dalek, and the keys of a device that its hub does not understand: nothing that either says is authentic to the other.
#[derive(Debug)]
struct HostCrypto {
    is_foreign: bool,
}

impl Verify for HostCrypto {
    fn verify(&self, key: &PublicKey, text: &[u8], signature: &Signature) -> bool {
        Dalek.verify(key, text, signature)
    }
}

impl Crypto for HostCrypto {
    type Signer = <Dalek as Crypto>::Signer;

    fn signer(&self, seed: &[u8; 32]) -> Self::Signer {
        Dalek.signer(seed)
    }

    fn exchange_key(&self, seed: &[u8; 32]) -> ExchangeKey {
        Dalek.exchange_key(seed)
    }

    fn pair_key(&self, seed: &[u8; 32], hub: &ExchangeKey, fleet: &str, device: DeviceId) -> Option<PairKey> {
        let PairKey(mut key) = Dalek.pair_key(seed, hub, fleet, device)?;
        key[0] ^= u8::from(self.is_foreign);
        Some(PairKey(key))
    }

    fn open(&self, seed: &[u8; 32], hub: &ExchangeKey, covered: &Digest, sealed: &[u8]) -> Option<[u8; 32]> {
        Dalek.open(seed, hub, covered, sealed)
    }
}

struct Host<'l>(PhantomData<&'l ()>);

impl<'l> Platform for Host<'l> {
    type Clock = HostClock;
    type Network = HostNetwork<'l>;
    type Board = HostBoard;
    type Store = Flash<Nor, Nor>;
    type Crypto = HostCrypto;
    type Peripherals = NoPeripherals;
    type Updates = NoUpdates;
}

/// A microcontroller of a fleet. Loses its power when dropped.
#[derive(Debug)]
pub struct Mcu {
    name: String,
    token: String,
    place: (f64, f64),
    seed: [u8; 32],
    /// Journal, artifacts.
    flash: [Nor; 2],
    log: Arc<Mutex<Vec<String>>>,
    waits: Arc<AtomicU64>,
    is_foreign: bool,
    /// Where its serial line ends, if it has no network.
    line: Option<PathBuf>,
    power: Option<(async_channel::Sender<()>, JoinHandle<()>)>,
}

impl Mcu {
    /// As it comes from the flasher: not switched on yet.
    pub fn flash(token: &str, name: &str, place: (f64, f64)) -> Self {
        let seed = Digest::of(name.as_bytes()).0;
        let flash = [Nor::erased(), Nor::erased()];
        let (name, token) = (name.to_owned(), token.to_owned());
        let (log, waits) = (Arc::default(), Arc::default());
        Self { name, token, place, seed, flash, log, waits, is_foreign: false, line: None, power: None }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Flashed with a token that approves, switched on, and seen by the hub.
    pub fn join(hub: &Hub, name: &str, place: (f64, f64)) -> Self {
        let mut mcu = Self::flash(&hub.join_token(true), name, place);
        mcu.switch_on(ResetCause::PowerOn);
        mcu.wait_connected(1);
        hub.wait_online(name);
        mcu
    }

    /// A board without a network, whose serial line ends at `line`. Not switched on yet.
    pub fn leaf(token: &str, name: &str, place: (f64, f64), line: &Path) -> Self {
        let mut leaf = Self::flash(token, name, place);
        leaf.line = Some(line.to_owned());
        leaf
    }

    /// Waits until it was connected to the broker so many times since it was flashed.
    pub fn wait_connected(&self, times: usize) {
        wait_until(&format!("{} is connected", self.name), || {
            let log = self.log();
            if log.matches("connected to the broker").count() >= times { Ok(()) } else { Err(log) }
        });
    }

    /// Waits until it said something since it was switched on last.
    pub fn wait_log(&self, part: &str) {
        wait_until(&format!("{} says {part:?}", self.name), || {
            let log = self.log();
            let boot = log.rsplit("the agent starts").next().unwrap_or_default();
            if boot.contains(part) { Ok(()) } else { Err(log) }
        });
    }

    pub fn switch_on(&mut self, reset: ResetCause) {
        assert!(self.power.is_none(), "it is on already");
        let (power, cut) = async_channel::bounded::<()>(1);
        let ([journal, artifacts], log, seed) = (self.flash.clone(), Arc::clone(&self.log), self.seed);
        let (name, token, (longitude, latitude)) = (self.name.clone(), self.token.clone(), self.place);
        let (waits, crypto) = (Arc::clone(&self.waits), HostCrypto { is_foreign: self.is_foreign });
        let port = self.line.clone();
        let degrees = |degrees: f64| (degrees * 1e7) as i32;
        let position = Position { longitude_e7: degrees(longitude), latitude_e7: degrees(latitude), uncertainty_m: 0 };
        let work = move || {
            let mut decoded = [0; TOKEN_TEXT_BYTES_MAX];
            let mut token = JoinToken::parse(&token, &mut decoded).unwrap();
            if port.is_some() {
                // Nobody behind a gateway looks at it: the gateway connects where it does for itself.
                token.broker = "mqtt://gateway";
            }
            let (clock, board) = (HostClock(Instant::now(), waits), HostBoard { log, reset });
            let mut peripherals = NoPeripherals;
            let mut store = Flash::open(journal, artifacts);
            let boot = Seed::draw(store.journal(), &mut Retained::EMPTY.clone(), &seed, &[]);
            let number = u32::from_le_bytes(*Digest::of(&boot.bytes).0.first_chunk().unwrap());
            let line = SerialLine::new(clock.now(), number);
            let port = port.as_deref().map(Port::listen);
            let mut network = match port {
                Some(_) => HostNetwork::Line(Serial { line: &line, clock: &clock }),
                None => HostNetwork::Tcp,
            };
            let mut memory = Box::new(StandardMemory::new());
            let parts = Parts::<Host<'_>> {
                clock: &clock,
                network: &mut network,
                board: &board,
                store: &mut store,
                crypto: &crypto,
                peripherals: &mut peripherals,
                updates: &mut NoUpdates,
                enrolment: Enrolment { token, name: &name, position: Some(position), seed: &seed },
                seed: BootSeed { bytes: boot.bytes, is_unique: boot.is_unique, is_own: true },
                function_bytes: FUNCTION_BYTES,
                erase: Duration::ZERO,
            };
            let running = async { match run::<Host<'_>, { standard::SLOTS }>(parts, memory.borrow()).await {} };
            let pump = async {
                let Some(port) = &port else { return std::future::pending().await };
                let told = |line: &Line| board.log(Level::Info, format_args!("line: {:?}", line.state()));
                match line.pump(&clock, &mut PortReader(port), &mut PortWriter(port), told).await {}
            };
            let running = smol::future::or(running, pump);
            let dark = async {
                let _ = cut.recv().await;
            };
            smol::block_on(smol::future::or(running, dark));
        };
        let thread = std::thread::Builder::new().name("mcu".to_owned()).stack_size(STACK_BYTES).spawn(work).unwrap();
        self.power = Some((power, thread));
    }

    /// Nothing is said and nothing is stopped; the flash stays.
    pub fn cut_power(&mut self) {
        if let Some((power, thread)) = self.power.take() {
            power.close();
            assert!(thread.join().is_ok(), "the firmware panicked:\n{}", self.log());
        }
    }

    /// From the next time that it is switched on, neither it nor its hub takes what the other says for authentic: as if their
    /// versions did not understand each other at all.
    pub fn estrange(&mut self) {
        self.is_foreign = true;
    }

    /// How often it waited for its clock, since it was flashed.
    pub fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    pub fn reset(&mut self, reset: ResetCause) {
        self.cut_power();
        self.switch_on(reset);
    }
}

impl Drop for Mcu {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} (console)\n{}", self.name, self.log());
        }
        if let Some((power, thread)) = self.power.take() {
            power.close();
            let _ = thread.join();
        }
    }
}
