//! The agent of a microcontroller on this host: the very shell of the firmware, on real TCP and a flash in memory.
//!
//! A board without its hardware: the clock is this machine's, power goes when it is told to, and the flash stays.

use super::{Hub, wait_until};
use agent_nostd::machine::port::FetchFailure;
use agent_nostd::machine::time::Instant as BootInstant;
use agent_nostd::shell::dalek::Dalek;
use agent_nostd::shell::limits::{StandardMemory, standard};
use agent_nostd::shell::port::{
    Board, BootSeed, Clock, Enrolment, Key, Network, NoPeripherals, PanicRecord, Parts, Platform, Socket, Store,
    StoreError,
};
use agent_nostd::shell::run;
use agent_nostd::transfer::{Sink, SinkError};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use smol::Async;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use std::collections::HashMap;
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
const ARTIFACT_BYTES: u64 = 256 * 1024;
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

/// Flash in memory: values and artifacts, whole or not there.
#[derive(Debug, Default)]
struct Contents {
    values: HashMap<Key, Vec<u8>>,
    artifacts: HashMap<Digest, Vec<u8>>,
    part: Option<(Digest, Vec<u8>)>,
}

/// Stays when the power goes.
#[derive(Clone, Debug, Default)]
pub struct HostFlash(Arc<Mutex<Contents>>);

impl Store for HostFlash {
    fn load(&mut self, key: Key, out: &mut [u8]) -> Result<Option<usize>, StoreError> {
        let contents = self.0.lock().unwrap();
        let Some(value) = contents.values.get(&key) else { return Ok(None) };
        out.get_mut(..value.len()).ok_or(StoreError::TooLong)?.copy_from_slice(value);
        Ok(Some(value.len()))
    }

    fn save(&mut self, key: Key, value: &[u8]) -> Result<(), StoreError> {
        self.0.lock().unwrap().values.insert(key, value.to_vec());
        Ok(())
    }

    fn remove(&mut self, key: Key) -> Result<(), StoreError> {
        self.0.lock().unwrap().values.remove(&key);
        Ok(())
    }

    fn retain_states(&mut self, keep: &mut dyn FnMut(u32, u8) -> bool) -> Result<(), StoreError> {
        self.0.lock().unwrap().values.retain(|key, _| match key {
            Key::State { workload, component, .. } => keep(*workload, *component),
            Key::Journal(_) | Key::Identity => true,
        });
        Ok(())
    }

    fn holds(&mut self, digest: &Digest, bytes: u32) -> bool {
        let contents = self.0.lock().unwrap();
        contents.artifacts.get(digest).is_some_and(|content| content.len() == bytes as usize)
    }

    fn read(&mut self, digest: &Digest, offset: u32, out: &mut [u8]) -> Result<(), StoreError> {
        let contents = self.0.lock().unwrap();
        let content = contents.artifacts.get(digest).ok_or(StoreError::Absent)?;
        let part = content.get(offset as usize..).and_then(|rest| rest.get(..out.len())).ok_or(StoreError::Absent)?;
        out.copy_from_slice(part);
        Ok(())
    }

    fn sink(&mut self) -> &mut dyn Sink {
        self
    }

    fn collect(&mut self, keep: &mut dyn FnMut(&Digest) -> bool) -> Result<u32, StoreError> {
        let mut contents = self.0.lock().unwrap();
        let before = contents.artifacts.len();
        contents.artifacts.retain(|digest, _| keep(digest));
        Ok(u32::try_from(before - contents.artifacts.len()).unwrap())
    }

    fn artifact_bytes(&mut self) -> (u64, u64) {
        let used: usize = self.0.lock().unwrap().artifacts.values().map(Vec::len).sum();
        (ARTIFACT_BYTES, ARTIFACT_BYTES - used as u64)
    }
}

impl Sink for HostFlash {
    fn begin(&mut self, digest: &Digest, bytes: u32) -> Result<u32, FetchFailure> {
        let mut contents = self.0.lock().unwrap();
        if u64::from(bytes) > ARTIFACT_BYTES {
            return Err(FetchFailure::NoSpace);
        }
        if contents.part.as_ref().is_none_or(|(of, _)| of != digest) {
            contents.part = Some((*digest, Vec::new()));
        }
        Ok(contents.part.as_ref().map_or(0, |(_, content)| u32::try_from(content.len()).unwrap()))
    }

    fn read(&mut self, offset: u32, into: &mut [u8]) -> Result<(), FetchFailure> {
        let contents = self.0.lock().unwrap();
        let part = contents.part.as_ref().and_then(|(_, part)| part.get(offset as usize..)?.get(..into.len()));
        into.copy_from_slice(part.ok_or(FetchFailure::Absent)?);
        Ok(())
    }

    fn append(&mut self, offset: u32, bytes: &[u8]) -> Result<(), SinkError> {
        match &mut self.0.lock().unwrap().part {
            Some((_, content)) if content.len() == offset as usize => {
                content.extend_from_slice(bytes);
                Ok(())
            }
            Some(_) | None => Err(SinkError::Torn),
        }
    }

    fn discard(&mut self) {
        self.0.lock().unwrap().part = None;
    }

    fn finish(&mut self) -> Result<(), FetchFailure> {
        let mut contents = self.0.lock().unwrap();
        let (digest, content) = contents.part.take().ok_or(FetchFailure::Absent)?;
        if Digest::of(&content) != digest {
            return Err(FetchFailure::HashMismatch);
        }
        contents.artifacts.insert(digest, content);
        Ok(())
    }
}

enum Host {}

impl Platform for Host {
    type Clock = HostClock;
    type Network = HostNetwork;
    type Board = HostBoard;
    type Store = HostFlash;
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
    boots: u8,
    flash: HostFlash,
    log: Arc<Mutex<Vec<String>>>,
    power: Option<(async_channel::Sender<()>, JoinHandle<()>)>,
}

impl Mcu {
    /// As it comes from the flasher: not switched on yet.
    pub fn flash(token: &str, name: &str, place: (f64, f64)) -> Self {
        let seed = Digest::of(name.as_bytes()).0;
        let (flash, log) = (HostFlash::default(), Arc::default());
        Self { name: name.to_owned(), token: token.to_owned(), place, seed, boots: 0, flash, log, power: None }
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

    pub fn switch_on(&mut self, reset: ResetCause) {
        assert!(self.power.is_none(), "it is on already");
        self.boots += 1;
        let (power, cut) = async_channel::bounded::<()>(1);
        let (flash, log, seed) = (self.flash.clone(), Arc::clone(&self.log), self.seed);
        let (name, token, (longitude, latitude)) = (self.name.clone(), self.token.clone(), self.place);
        let degrees = |degrees: f64| (degrees * 1e7) as i32;
        let position = Position { longitude_e7: degrees(longitude), latitude_e7: degrees(latitude), uncertainty_m: 0 };
        let boot = Digest::of(&[&seed[..], &[self.boots]].concat()).0;
        let work = move || {
            let mut decoded = [0; TOKEN_TEXT_BYTES_MAX];
            let token = JoinToken::parse(&token, &mut decoded).unwrap();
            let (clock, board) = (HostClock(Instant::now()), HostBoard { log, reset });
            let (mut network, mut store, mut peripherals) = (HostNetwork, flash, NoPeripherals);
            let mut memory = Box::new(StandardMemory::new());
            let parts = Parts::<Host> {
                clock: &clock,
                network: &mut network,
                board: &board,
                store: &mut store,
                crypto: &Dalek,
                peripherals: &mut peripherals,
                enrolment: Enrolment { token, name: &name, position: Some(position), seed: &seed },
                seed: BootSeed { bytes: boot, is_unique: true },
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
