//! The shell for a part without anything: the smallest class, and a platform of which only the types matter.
use agent_nostd::machine::port::FetchFailure;
use agent_nostd::machine::time::{Duration, Instant};
use agent_nostd::shell::dalek::Dalek;
use agent_nostd::shell::limits::{SmallMemory, small};
use agent_nostd::shell::port::{
    Board, Clock, Key, Network, NoPeripherals, NoUpdates, PanicRecord, Parts, Platform, Socket, Store, StoreError,
};
use agent_nostd::shell::{Never, run};
use agent_nostd::transfer::{Sink, SinkError};
use core::fmt;
use core::future::pending;
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use wire::Digest;
use wire::event::Level;
use wire::hello::{Architecture, ResetCause};

/// No hardware at all: time stands still, nobody answers, and flash holds nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

impl Clock for Nothing {
    fn now_us(&self) -> u64 {
        0
    }

    async fn until(&self, _: Instant) {
        pending().await
    }
}

impl Network for Nothing {
    type Error = ErrorKind;
    type Socket<'s> = Nothing;

    async fn connect(&mut self, _: &str, _: u16) -> Result<Nothing, ErrorKind> {
        pending().await
    }
}

impl Socket for Nothing {
    type Reader<'h> = Nothing;
    type Writer<'h> = Nothing;

    fn split(&mut self) -> (Nothing, Nothing) {
        (Nothing, Nothing)
    }
}

impl ErrorType for Nothing {
    type Error = ErrorKind;
}

impl Read for Nothing {
    async fn read(&mut self, _: &mut [u8]) -> Result<usize, ErrorKind> {
        pending().await
    }
}

impl Write for Nothing {
    async fn write(&mut self, out: &[u8]) -> Result<usize, ErrorKind> {
        Ok(out.len())
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

impl Board for Nothing {
    fn log(&self, _: Level, _: fmt::Arguments<'_>) {}

    fn alive(&self) {}

    fn alive_every(&self) -> Option<Duration> {
        None
    }

    fn reset_cause(&self) -> ResetCause {
        ResetCause::PowerOn
    }

    fn panic_record(&self) -> Option<PanicRecord<'_>> {
        None
    }

    fn has_boot_clock(&self) -> bool {
        false
    }

    fn architecture(&self) -> Architecture {
        Architecture::Thumbv7em
    }
}

impl Store for Nothing {
    fn load(&mut self, _: Key, _: &mut [u8]) -> Result<Option<usize>, StoreError> {
        Ok(None)
    }

    fn save(&mut self, _: Key, _: &[u8]) -> Result<(), StoreError> {
        Err(StoreError::Storage)
    }

    fn remove(&mut self, _: Key) -> Result<(), StoreError> {
        Ok(())
    }

    fn retain_states(&mut self, _: &mut dyn FnMut(u32, u8) -> bool) -> Result<(), StoreError> {
        Ok(())
    }

    fn holds(&mut self, _: &Digest, _: u32) -> bool {
        false
    }

    fn read(&mut self, _: &Digest, _: u32, _: &mut [u8]) -> Result<(), StoreError> {
        Err(StoreError::Absent)
    }

    fn sink(&mut self) -> &mut dyn Sink {
        self
    }

    fn collect(&mut self, _: &mut dyn FnMut(&Digest) -> bool) -> Result<u32, StoreError> {
        Ok(0)
    }

    fn erases(&self) -> (u32, u32) {
        (0, 0)
    }

    fn artifact_bytes(&mut self) -> (u64, u64) {
        (0, 0)
    }
}

impl Sink for Nothing {
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

impl Platform for Nothing {
    type Clock = Self;
    type Network = Self;
    type Board = Self;
    type Store = Self;
    type Crypto = Dalek;
    type Peripherals = NoPeripherals;
    type Updates = NoUpdates;
}

/// The agent of such a part.
pub async fn agent(parts: Parts<'_, Nothing>, memory: &mut SmallMemory) -> Never {
    run::<Nothing, { small::SLOTS }>(parts, memory.borrow()).await
}
