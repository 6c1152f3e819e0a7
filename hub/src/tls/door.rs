//! The way in through TLS: handshakes that have a deadline, and of which one address cannot take all.
//!
//! A handshake that waits costs memory only, so the deadline and the limits keep slow clients from harming others; what is over a
//! limit is closed at once and may come again.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt, FutureExt};
use futures_rustls::TlsAcceptor;
use futures_rustls::server::TlsStream;
use rustls::ServerConfig;
use smol::Async;

/// From the connection to the end of its handshake.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Handshakes of all clients of a listener at one time.
pub const HANDSHAKES_MAX: usize = 4_096;
/// Handshakes of one address at one time: a site behind one router comes back all at once.
pub const HANDSHAKES_PER_ADDRESS_MAX: usize = 1_024;
/// First byte of a TLS record with a handshake (RFC 8446, 5.1).
const RECORD_HANDSHAKE: u8 = 22;
/// For somebody who speaks HTTP to the door.
const PLAIN_HTTP_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
    This port speaks TLS: the address begins with https://, and the client trusts the authority of the hub.\n";

/// What became of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Not TLS, not TLS 1.3, or the client does not trust the certificate.
    Failed,
    /// Not finished at its deadline.
    Late,
    /// Over a limit.
    Refused,
}

impl Outcome {
    pub const ALL: [Self; 4] = [Self::Done, Self::Failed, Self::Late, Self::Refused];

    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Late => "late",
            Self::Refused => "refused",
        }
    }
}

/// The way in of one listener. Cheap to clone.
#[derive(Clone)]
pub struct Door {
    acceptor: TlsAcceptor,
    room: Arc<Room>,
    count: Arc<dyn Fn(Outcome) + Send + Sync>,
    deadline: Duration,
}

/// Handshakes that go on.
#[derive(Debug, Default)]
struct Open {
    all: usize,
    of: HashMap<IpAddr, usize>,
}

#[derive(Debug, Default)]
struct Room(Mutex<Open>);

impl Room {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut open = self.lock();
        let of_address = open.of.get(&address).copied().unwrap_or_default();
        if open.all >= HANDSHAKES_MAX || of_address >= HANDSHAKES_PER_ADDRESS_MAX {
            return None;
        }
        open.all += 1;
        open.of.insert(address, of_address + 1);
        Some(Place { room: Arc::clone(self), address })
    }
}

/// One handshake's place; given back when dropped.
struct Place {
    room: Arc<Room>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.room.lock();
        open.all -= 1;
        let left = open.of.get(&self.address).map_or(0, |of_address| of_address - 1);
        if left == 0 {
            open.of.remove(&self.address);
        } else {
            open.of.insert(self.address, left);
        }
    }
}

impl Door {
    pub(super) fn new(server: Arc<ServerConfig>, count: Arc<dyn Fn(Outcome) + Send + Sync>) -> Self {
        Self { acceptor: TlsAcceptor::from(server), room: Arc::default(), count, deadline: HANDSHAKE_DEADLINE }
    }

    /// The same with another deadline, for tests.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Does the handshake; `None`: there is no connection, and it is counted why.
    pub async fn pass(&self, stream: Async<TcpStream>, address: IpAddr) -> Option<TlsStream<Async<TcpStream>>> {
        let Some(_place) = self.room.enter(address) else {
            (self.count)(Outcome::Refused);
            return None;
        };
        let late = async {
            smol::Timer::after(self.deadline).await;
            Err(io::Error::from(io::ErrorKind::TimedOut))
        };
        let result = self.shake_hands(stream).or(late).await;
        let outcome = match &result {
            Ok(_) => Outcome::Done,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Outcome::Late,
            Err(error) => {
                tracing::debug!(%address, %error, "a TLS handshake failed");
                Outcome::Failed
            }
        };
        (self.count)(outcome);
        result.ok()
    }

    async fn shake_hands(&self, mut stream: Async<TcpStream>) -> io::Result<TlsStream<Async<TcpStream>>> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match first {
            [RECORD_HANDSHAKE] => self.acceptor.accept(stream).await,
            [letter] if letter.is_ascii_uppercase() => {
                // What is not read when a connection closes takes the answer with it.
                let _ = stream.read(&mut [0; 4096]).await?;
                stream.write_all(PLAIN_HTTP_ANSWER).await?;
                Err(io::Error::other("the client spoke plain HTTP"))
            }
            [_] => Err(io::Error::other("the client did not speak TLS")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn one_address_cannot_take_all_places_and_places_come_back() {
        let room = Arc::new(Room::default());
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        let mut held: Vec<Place> = (0..HANDSHAKES_PER_ADDRESS_MAX).map(|_| room.enter(address(1)).unwrap()).collect();
        assert!(room.enter(address(1)).is_none());
        for other in 2..=4 {
            held.extend((0..HANDSHAKES_PER_ADDRESS_MAX).map(|_| room.enter(address(other)).unwrap()));
        }
        assert_eq!(held.len(), HANDSHAKES_MAX);
        assert!(room.enter(address(9)).is_none(), "all of them are taken");
        held.remove(0);
        assert!(room.enter(address(9)).is_some());
        held.clear();
        let open = room.lock();
        assert!(open.all == 0 && open.of.is_empty());
    }
}
