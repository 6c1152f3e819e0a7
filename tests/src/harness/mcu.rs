//! The agent of a microcontroller on this host: the very shell of the firmware, on real TCP and a flash in memory.
//!
//! A board without its hardware: the clock is this machine's, power goes when it is told to, and the flash stays.

use super::{Hub, wait_until};
use agent_nostd::machine::time::Instant as BootInstant;
use agent_nostd::shell::dalek::Dalek;
use agent_nostd::shell::limits::{StandardMemory, standard};
use agent_nostd::shell::port::{
    Board, BootSeed, Clock, Enrolment, Network, NoPeripherals, PanicRecord, Parts, Platform, Socket,
};
use agent_nostd::shell::run;
use agent_nostd::store::{Flash, RamFlash, Retained, Seed};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use embedded_storage::nor_flash::{self, NorFlash, NorFlashErrorKind, ReadNorFlash};
use smol::Async;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wire::Digest;
use wire::event::Level;
use wire::hello::{Architecture, ResetCause};
use wire::join::{JoinToken, TOKEN_TEXT_BYTES_MAX};
use wire::position::Position;

/// For functions.
const FUNCTION_BYTES: u32 = 256 * 1024;
const PARTITION_BYTES: usize = 256 * 1024;
const STACK_BYTES: usize = 8 * 1024 * 1024;
/// As a board with a watchdog.
const ALIVE_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct HostClock(Instant);

impl Clock for HostClock {
    fn now_us(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap()
    }

    async fn until(&self, at: BootInstant) {
        match self.0.checked_add(Duration::from_millis(at.as_ms())) {
            Some(at) => smol::Timer::at(at).await,
            None => std::future::pending().await,
        };
    }
}

#[derive(Debug)]
struct HostNetwork;

struct HostSocket(Async<TcpStream>);
struct HostReader<'h>(&'h Async<TcpStream>);
struct HostWriter<'h>(&'h Async<TcpStream>);

impl Network for HostNetwork {
    type Error = io::Error;
    type Socket<'s> = HostSocket;

    async fn connect(&mut self, host: &str, port: u16) -> io::Result<HostSocket> {
        let address: SocketAddr = (host, port).to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
        let stream = Async::<TcpStream>::connect(address).await?;
        stream.get_ref().set_nodelay(true)?;
        Ok(HostSocket(stream))
    }
}

impl Socket for HostSocket {
    type Reader<'h> = HostReader<'h>;
    type Writer<'h> = HostWriter<'h>;

    fn split(&mut self) -> (HostReader<'_>, HostWriter<'_>) {
        (HostReader(&self.0), HostWriter(&self.0))
    }
}

impl ErrorType for HostReader<'_> {
    type Error = ErrorKind;
}

impl Read for HostReader<'_> {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, ErrorKind> {
        self.0.read(into).await.map_err(|_| ErrorKind::Other)
    }
}

impl ErrorType for HostWriter<'_> {
    type Error = ErrorKind;
}

impl Write for HostWriter<'_> {
    async fn write(&mut self, out: &[u8]) -> Result<usize, ErrorKind> {
        self.0.write(out).await.map_err(|_| ErrorKind::Other)
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

enum Host {}

impl Platform for Host {
    type Clock = HostClock;
    type Network = HostNetwork;
    type Board = HostBoard;
    type Store = Flash<Nor, Nor>;
    type Crypto = Dalek;
    type Peripherals = NoPeripherals;
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
    power: Option<(async_channel::Sender<()>, JoinHandle<()>)>,
}

impl Mcu {
    /// As it comes from the flasher: not switched on yet.
    pub fn flash(token: &str, name: &str, place: (f64, f64)) -> Self {
        let seed = Digest::of(name.as_bytes()).0;
        let flash = [Nor::erased(), Nor::erased()];
        Self { name: name.to_owned(), token: token.to_owned(), place, seed, flash, log: Arc::default(), power: None }
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
        let degrees = |degrees: f64| (degrees * 1e7) as i32;
        let position = Position { longitude_e7: degrees(longitude), latitude_e7: degrees(latitude), uncertainty_m: 0 };
        let work = move || {
            let mut decoded = [0; TOKEN_TEXT_BYTES_MAX];
            let token = JoinToken::parse(&token, &mut decoded).unwrap();
            let (clock, board) = (HostClock(Instant::now()), HostBoard { log, reset });
            let (mut network, mut peripherals) = (HostNetwork, NoPeripherals);
            let mut store = Flash::open(journal, artifacts);
            let boot = Seed::draw(store.journal(), &mut Retained::EMPTY.clone(), &seed, &[]);
            let mut memory = Box::new(StandardMemory::new());
            let parts = Parts::<Host> {
                clock: &clock,
                network: &mut network,
                board: &board,
                store: &mut store,
                crypto: &Dalek,
                peripherals: &mut peripherals,
                enrolment: Enrolment { token, name: &name, position: Some(position), seed: &seed },
                seed: BootSeed { bytes: boot.bytes, is_unique: boot.is_unique },
                function_bytes: FUNCTION_BYTES,
            };
            let running = async { match run::<Host, { standard::SLOTS }>(parts, memory.borrow()).await {} };
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
