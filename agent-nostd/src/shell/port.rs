//! What the shell is given: by a board (clock, network, log, watchdog, entropy, pins), by its flash (values and artifacts), and
//! by whoever flashed it (a token, a name, a place, a seed).
//!
//! Everything here is small enough to be written for a new board in an hour. An implementation carries out and reports; it
//! must never decide, retry or wait longer than a method's own words allow.
use crate::machine::port::{FetchFailure, JournalKey, PersistFailure};
use crate::machine::time::Instant;
use crate::transfer::{Sink, SinkError};
use core::fmt;
use core::future::Future;
use embedded_io_async::{Read, Write};
use wire::event::Level;
use wire::hello::{Architecture, ResetCause};
use wire::join::{ExchangeKey, JoinToken};
use wire::position::Position;
use wire::sign::{Sign, Verify};
use wire::{DeviceId, Digest, PairKey};

/// The monotonic clock of a board. It counts in every sleep mode that the board uses; one that does not must say so with
/// `Board::has_boot_clock`.
pub trait Clock {
    /// Milliseconds since some moment of this boot.
    fn now(&self) -> Instant {
        Instant::from_ms(self.now_us() / 1000)
    }

    /// Microseconds since the same moment.
    fn now_us(&self) -> u64;

    /// Waits until `at`; at once if that has passed. Dropping it is harmless.
    fn until(&self, at: Instant) -> impl Future<Output = ()>;
}

/// Opens connections; at most one at a time, which the borrow makes sure of.
pub trait Network {
    /// Somebody else has the connection to the broker, and knows where that is: the address of a token does not matter.
    const IS_RELAYED: bool = false;
    type Error: fmt::Debug;
    type Socket<'s>: Socket
    where
        Self: 's;

    /// Waits for the network to be up, then for the peer. The shell gives up by dropping it.
    fn connect(&mut self, host: &str, port: u16) -> impl Future<Output = Result<Self::Socket<'_>, Self::Error>>;
}

/// An open connection. Dropping it ends the connection at once, without a farewell of the transport where that would wait.
/// A `read` or `write` that is dropped before it is done has taken and given nothing.
pub trait Socket {
    type Reader<'h>: Read
    where
        Self: 'h;
    type Writer<'h>: Write
    where
        Self: 'h;

    /// Both directions, to be used at the same time. What was written goes out without a flush.
    fn split(&mut self) -> (Self::Reader<'_>, Self::Writer<'_>);

    /// The gateway that relays it, as that says itself; `None`: it goes to the broker without one.
    fn behind(&self) -> Option<DeviceId> {
        None
    }
}

/// What ended the last boot, if it was the firmware itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PanicRecord<'a> {
    /// The program counter.
    pub address: u32,
    pub text: &'a str,
}

/// The rest of a board.
pub trait Board {
    /// A line for whoever is at the board's console.
    fn log(&self, level: Level, text: fmt::Arguments<'_>);

    /// The loop has turned: everything that was due is done. The only reason to feed a watchdog.
    fn alive(&self);

    /// `alive` is called at least this often, so that a watchdog with twice the time is safe; `None`: there is no watchdog.
    fn alive_every(&self) -> Option<core::time::Duration>;

    /// Why this boot began.
    fn reset_cause(&self) -> ResetCause;

    /// Kept over the reset by the panic handler; `None`: the last boot ended in another way.
    fn panic_record(&self) -> Option<PanicRecord<'_>>;

    /// Whether `Clock` counts in every sleep mode. Without it no exclusive work is given to this device.
    fn has_boot_clock(&self) -> bool;

    /// From this moment on `alive` feeds nothing any more; `None`: it does. Firmware on trial does not run for ever.
    fn alive_until(&self, _until: Option<Instant>) {}

    fn architecture(&self) -> Architecture;
}

/// Names a value of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    Journal(JournalKey),
    /// What the fleet gave this device when it joined.
    Identity,
    /// What became of its firmware. Stays when the device joins anew.
    Firmware,
    /// What an instance of a function remembers.
    State {
        workload: u32,
        component: u8,
        instance: u16,
    },
}

/// Why flash gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The value is longer than the buffer.
    TooLong,
    /// Not there, or not what its hash says.
    Absent,
    NoSpace,
    /// The flash itself, or what it holds, is damaged.
    Storage,
}

impl From<StoreError> for PersistFailure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSpace | StoreError::TooLong => Self::NoSpace,
            StoreError::Absent | StoreError::Storage => Self::Storage,
        }
    }
}

/// Flash, as the shell needs it. Every method is done when it returns; none takes longer than an erase of what it needs.
pub trait Store {
    /// Copies the value of a key into `out`; its length, or `None` if there is none.
    fn load(&mut self, key: Key, out: &mut [u8]) -> Result<Option<usize>, StoreError>;

    /// The new value is durable, or the old one still is, at whichever moment the power goes.
    fn save(&mut self, key: Key, value: &[u8]) -> Result<(), StoreError>;

    fn remove(&mut self, key: Key) -> Result<(), StoreError>;

    /// Removes what functions remember, but for those that `keep` says yes to.
    fn retain_states(&mut self, keep: &mut dyn FnMut(u32, u8) -> bool) -> Result<(), StoreError>;

    /// Whether an artifact is whole and what its hash says; reads all of it.
    fn holds(&mut self, digest: &Digest, bytes: u32) -> bool;

    /// Copies a part of an artifact that is held.
    fn read(&mut self, digest: &Digest, offset: u32, out: &mut [u8]) -> Result<(), StoreError>;

    /// Where an artifact goes that is being fetched; what it finished is held from then on.
    fn sink(&mut self) -> &mut dyn Sink;

    /// Deletes every artifact for which `keep` says no.
    fn collect(&mut self, keep: &mut dyn FnMut(&Digest) -> bool) -> Result<u32, StoreError>;

    /// For artifacts, in all and free.
    fn artifact_bytes(&mut self) -> (u64, u64);

    /// Erases so far of the sector that was erased most: of the journal, and of the artifacts.
    fn erases(&self) -> (u32, u32);
}

/// ed25519, X25519 and the seal of a credential. A board takes the implementation that its core has the flash and speed for.
pub trait Crypto: Verify + Sync {
    type Signer: Sign;

    fn signer(&self, seed: &[u8; 32]) -> Self::Signer;
    fn exchange_key(&self, seed: &[u8; 32]) -> ExchangeKey;
    /// `None` for a key that everybody could agree with.
    fn pair_key(&self, seed: &[u8; 32], hub: &ExchangeKey, fleet: &str, device: DeviceId) -> Option<PairKey>;
    /// The credential of a join; `None`: not sealed by this hub for this device and answer.
    fn open(&self, seed: &[u8; 32], hub: &ExchangeKey, covered: &Digest, sealed: &[u8]) -> Option<[u8; 32]>;
}

/// What the flasher wrote for this device.
#[derive(Clone, Copy, Debug)]
pub struct Enrolment<'a> {
    pub token: JoinToken<'a>,
    /// Empty: the hub makes one.
    pub name: &'a str,
    pub position: Option<Position>,
    /// The keys of the device come from it, and from what its chip draws.
    pub seed: &'a [u8; 32],
}

/// The entropy of one boot.
#[derive(Clone)]
pub struct BootSeed {
    /// Unpredictable, and never given to two boots.
    pub bytes: [u8; 32],
    /// False: the flash could not make sure of that. Such a device runs what it has and does not connect.
    pub is_unique: bool,
    /// A random source of the chip's own is in it: whoever knows the provisioning record does not know it.
    pub is_own: bool,
}

impl fmt::Debug for BootSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BootSeed").field("is_unique", &self.is_unique).finish_non_exhaustive()
    }
}

/// Why a pin or bus did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeripheralError {
    /// The board has no such handle.
    NoHandle,
    /// The hardware did not answer as it should.
    Hardware,
}

/// What a function has set, and what goes to its safe state after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Gpio(u16),
    Pwm(u16),
}

/// Pins and buses by the number that board.toml gives them. Each call takes at most some tens of milliseconds.
pub trait Peripherals {
    fn gpio_read(&mut self, handle: u16) -> Result<bool, PeripheralError>;
    fn gpio_write(&mut self, handle: u16, is_high: bool) -> Result<(), PeripheralError>;
    fn adc_read(&mut self, handle: u16) -> Result<u16, PeripheralError>;
    /// `duty`: from 0 to `u16::MAX`.
    fn pwm_set(&mut self, handle: u16, duty: u16) -> Result<(), PeripheralError>;
    /// Writes `out` if it is not empty, then reads into `into` if that is not empty.
    fn i2c_transfer(&mut self, handle: u16, address: u8, out: &[u8], into: &mut [u8]) -> Result<(), PeripheralError>;
    /// Which of the interfaces exist here.
    fn interfaces(&self) -> wire::record::CapabilitySet;
    /// One output into its declared safe state: the functions that set it are gone.
    fn release(&mut self, output: Output);
    /// Every output into its declared safe state: the firmware begins, or gives up.
    fn rest(&mut self);
}

/// A board without anything for functions.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeripherals;

impl Peripherals for NoPeripherals {
    fn gpio_read(&mut self, _: u16) -> Result<bool, PeripheralError> {
        Err(PeripheralError::NoHandle)
    }

    fn gpio_write(&mut self, _: u16, _: bool) -> Result<(), PeripheralError> {
        Err(PeripheralError::NoHandle)
    }

    fn adc_read(&mut self, _: u16) -> Result<u16, PeripheralError> {
        Err(PeripheralError::NoHandle)
    }

    fn pwm_set(&mut self, _: u16, _: u16) -> Result<(), PeripheralError> {
        Err(PeripheralError::NoHandle)
    }

    fn i2c_transfer(&mut self, _: u16, _: u8, _: &[u8], _: &mut [u8]) -> Result<(), PeripheralError> {
        Err(PeripheralError::NoHandle)
    }

    fn interfaces(&self) -> wire::record::CapabilitySet {
        wire::record::CapabilitySet::default()
    }

    fn release(&mut self, _: Output) {}

    fn rest(&mut self) {}
}

/// The firmware that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    pub version: u32,
    /// It was swapped in and is not confirmed: the next reset takes it back.
    pub is_trial: bool,
}

/// The slots of a board's own firmware.
pub trait Updates {
    /// The board's name, as images have it.
    fn board(&self) -> &str;
    /// `None`: this board takes no updates. Then nothing else is called.
    fn running(&mut self) -> Option<Running>;
    /// The slot that does not run.
    fn sink(&mut self) -> &mut dyn Sink;
    /// Version and hash of the image there, if a whole one for this board is: reads all of it.
    fn fetched(&mut self) -> Option<(u32, Digest)>;
    /// The image there is to run after the next reset. Durable when it says true.
    fn mark(&mut self) -> bool;
    /// The image that runs stays. Durable when it says true.
    fn confirm(&mut self) -> bool;
    /// Resets the board; where nothing is to be reset it returns.
    fn reset(&mut self);
}

/// A board with one place for its firmware.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoUpdates;

impl Updates for NoUpdates {
    fn board(&self) -> &str {
        ""
    }

    fn running(&mut self) -> Option<Running> {
        None
    }

    fn sink(&mut self) -> &mut dyn Sink {
        self
    }

    fn fetched(&mut self) -> Option<(u32, Digest)> {
        None
    }

    fn mark(&mut self) -> bool {
        false
    }

    fn confirm(&mut self) -> bool {
        false
    }

    fn reset(&mut self) {}
}

impl Sink for NoUpdates {
    fn begin(&mut self, _: &Digest, _: u32) -> Result<u32, FetchFailure> {
        Err(FetchFailure::NoSpace)
    }

    fn read(&mut self, _: u32, _: &mut [u8]) -> Result<(), FetchFailure> {
        Err(FetchFailure::Absent)
    }

    fn append(&mut self, _: u32, _: &[u8]) -> Result<(), SinkError> {
        Err(SinkError::Failed(FetchFailure::NoSpace))
    }

    fn discard(&mut self) {}

    fn finish(&mut self) -> Result<(), FetchFailure> {
        Err(FetchFailure::Absent)
    }
}

/// All types of a board in one place.
pub trait Platform {
    type Clock: Clock;
    type Network: Network;
    type Board: Board;
    type Store: Store;
    type Crypto: Crypto;
    type Peripherals: Peripherals;
    type Updates: Updates;
}

/// All parts of a board, for `run`.
pub struct Parts<'a, P: Platform> {
    pub clock: &'a P::Clock,
    pub network: &'a mut P::Network,
    pub board: &'a P::Board,
    pub store: &'a mut P::Store,
    pub crypto: &'a P::Crypto,
    pub peripherals: &'a mut P::Peripherals,
    pub updates: &'a mut P::Updates,
    pub enrolment: Enrolment<'a>,
    pub seed: BootSeed,
    /// Heap that functions may take together with their engine (`function::heap_bytes` each); zero without the feature `wasm`.
    pub function_bytes: u32,
    /// How long the flash holds everything up at most: the erasure of one sector.
    pub erase: core::time::Duration,
}

impl<P: Platform> fmt::Debug for Parts<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("enrolment", &self.enrolment).finish_non_exhaustive()
    }
}
