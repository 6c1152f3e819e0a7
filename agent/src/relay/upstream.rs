//! A leaf's connection to the broker: one buffer in each direction, and an end that lets through what was said before it.
use super::READ_BYTES;
use super::port::{self, Stream};
use crate::link::Endpoint;
use agent_nostd::machine::time::Instant;
use futures_lite::io::{ReadHalf, WriteHalf, split};
use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use rustls::ClientConfig;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

/// What the broker's side did.
pub enum Happened {
    Connected(io::Result<Box<dyn Stream>>),
    Moved,
    /// The broker says no more.
    Ended,
    /// The broker takes no more.
    Broken,
}

/// Bytes on their way in one direction.
pub struct Carry {
    bytes: Box<[u8; READ_BYTES]>,
    from: usize,
    to: usize,
}

impl Carry {
    fn new() -> Self {
        Self { bytes: Box::new([0; READ_BYTES]), from: 0, to: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }

    pub fn left(&self) -> &[u8] {
        self.bytes.get(self.from..self.to).unwrap_or_default()
    }

    pub fn took(&mut self, count: usize) {
        self.from = self.from.saturating_add(count).min(self.to);
    }

    /// Of an empty one.
    pub fn fill(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) {
        (self.from, self.to) = (0, fill(&mut self.bytes[..]).min(READ_BYTES));
    }
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>>>>;

/// The connection.
pub enum Upstream {
    None,
    Connecting(Connecting),
    Open {
        reader: ReadHalf<Box<dyn Stream>>,
        writer: WriteHalf<Box<dyn Stream>>,
        up: Carry,
        down: Carry,
        /// The broker says no more; what it said last is still on its way.
        ended: Option<Instant>,
        /// A stream that encrypts keeps bytes until it is told.
        is_flushed: bool,
    },
}

impl Upstream {
    pub fn connect(endpoint: Endpoint, tls: Option<Arc<ClientConfig>>) -> Self {
        Self::Connecting(Box::pin(async move { port::broker(&endpoint, tls).await }))
    }

    pub fn open(stream: Box<dyn Stream>) -> Self {
        let (reader, writer) = split(stream);
        Self::Open { reader, writer, up: Carry::new(), down: Carry::new(), ended: None, is_flushed: true }
    }

    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    pub fn ended(&mut self, now: Instant) {
        if let Self::Open { ended, .. } = self {
            ended.get_or_insert(now);
        }
    }

    /// Waits for the next thing that happens. Nothing is lost if it is dropped.
    pub async fn turn(&mut self) -> Happened {
        match self {
            Self::None => future::pending().await,
            Self::Connecting(connecting) => Happened::Connected(connecting.await),
            Self::Open { reader, writer, up, down, ended, is_flushed } => {
                let read = async {
                    if !down.is_empty() || ended.is_some() {
                        return future::pending().await;
                    }
                    match reader.read(&mut down.bytes[..]).await {
                        Ok(0) | Err(_) => Happened::Ended,
                        Ok(count) => {
                            (down.from, down.to) = (0, count);
                            Happened::Moved
                        }
                    }
                };
                let write = async {
                    if up.is_empty() && *is_flushed {
                        return future::pending().await;
                    }
                    if up.is_empty() {
                        let flushed = writer.flush().await;
                        *is_flushed = true;
                        return if flushed.is_ok() { Happened::Moved } else { Happened::Broken };
                    }
                    match writer.write(up.left()).await {
                        Ok(0) | Err(_) => Happened::Broken,
                        Ok(count) => {
                            up.took(count);
                            *is_flushed = false;
                            Happened::Moved
                        }
                    }
                };
                future::race(read, write).await
            }
        }
    }
}
