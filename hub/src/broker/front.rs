//! TLS in front of the broker: accepts, does the handshake, and relays to the broker's plain listener on loopback.
//!
//! The broker library's own listener speaks TLS 1.2 too, and with another provider than the rest of the tree. The front knows no
//! MQTT: limits of the protocol stay with the broker. It must never let one client hold up another.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use futures_lite::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use futures_lite::{FutureExt, future};
use smol::{Async, LocalExecutor};

use super::{BrokerError, CONNECTIONS_MAX, HANDSHAKE_TIMEOUT, SEND_TIMEOUT};
use crate::tls::Door;

/// Bytes on the way in one direction of one connection.
const BUFFER_BYTES: usize = 4 * 1024;
/// No CONNECT is shorter (MQTT 5, 3.1). The broker library tells the version by these, and waits for them without end.
const CONNECT_BYTES_MIN: usize = 12;
/// After a failed accept, so that a lack of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// For the last words of a connection.
const FAREWELL: Duration = Duration::from_secs(1);

/// A running front. Dropping it cuts its connections and frees the port.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    stop: Sender<()>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Front {
    /// Listens, and relays to `broker`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start(listen: SocketAddr, broker: SocketAddr, door: Door) -> Result<Self, BrokerError> {
        let refused = |error: io::Error| BrokerError::Listen { address: listen, reason: error.to_string() };
        let listener = TcpListener::bind(listen).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let listener = Async::new(listener)?;
        let (stop, stopped) = async_channel::bounded(1);
        let thread = thread::Builder::new().name("broker/tls".to_owned()).spawn(move || {
            // Its connections end with the executor.
            let executor = LocalExecutor::new();
            future::block_on(executor.run(accept(&executor, &listener, broker, &door, &stopped)));
        })?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Where it listens, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// False when its thread has ended by itself.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stop.close();
        if let Some(Err(_)) = self.thread.take().map(thread::JoinHandle::join) {
            tracing::error!("the TLS front of the broker ended by a panic");
        }
    }
}

async fn accept(
    executor: &LocalExecutor<'_>,
    listener: &Async<TcpListener>,
    broker: SocketAddr,
    door: &Door,
    stopped: &Receiver<()>,
) {
    // Each connection holds one.
    let places = Arc::new(());
    let max = usize::try_from(CONNECTIONS_MAX).unwrap_or(usize::MAX);
    loop {
        let next = async { Some(listener.accept().await) };
        let stop = async {
            let _ = stopped.recv().await;
            None
        };
        match stop.or(next).await {
            None => return,
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot accept a TLS connection for the broker");
                smol::Timer::after(ACCEPT_PAUSE).await;
            }
            // Over the limit it is closed at once: the client sees it and may try again.
            Some(Ok(_)) if Arc::strong_count(&places) > max => {}
            Some(Ok((stream, address))) => {
                let (door, place) = (door.clone(), Arc::clone(&places));
                executor
                    .spawn(async move {
                        if let Err(error) = serve(stream, address, broker, &door).await {
                            tracing::debug!(%address, %error, "a TLS connection to the broker ended");
                        }
                        drop(place);
                    })
                    .detach();
            }
        }
    }
}

/// One connection, from its handshake to its end.
async fn serve(stream: Async<TcpStream>, address: SocketAddr, broker: SocketAddr, door: &Door) -> io::Result<()> {
    stream.get_ref().set_nodelay(true)?;
    let Some(mut client) = door.pass(stream, address.ip()).await else { return Ok(()) };
    let words = first_words(&mut client, HANDSHAKE_TIMEOUT).await?;
    let mut inner = Async::<TcpStream>::connect(broker).await?;
    inner.get_ref().set_nodelay(true)?;
    inner.write_all(&words).await?;
    let (mut from_client, mut to_client) = split(client);
    let (mut from_broker, mut to_broker) = split(inner);
    // Whichever side ends first has said all that it had to say.
    let end = relay(&mut from_client, &mut to_broker).or(relay(&mut from_broker, &mut to_client)).await;
    let farewell = async {
        let _ = to_broker.close().await;
        let _ = to_client.close().await;
    };
    let patience = async {
        smol::Timer::after(FAREWELL).await;
    };
    farewell.or(patience).await;
    end
}

/// What a client says first: enough to be a CONNECT, in its time. One that is silent is not worth a connection to the broker.
async fn first_words(client: &mut (impl AsyncRead + Unpin), patience: Duration) -> io::Result<Vec<u8>> {
    let read = async {
        let mut words = vec![0; BUFFER_BYTES];
        let mut length = 0;
        while length < CONNECT_BYTES_MIN {
            match client.read(words.get_mut(length..).unwrap_or_default()).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => length += more,
            }
        }
        words.truncate(length);
        Ok(words)
    };
    let late = async {
        smol::Timer::after(patience).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    read.or(late).await
}

/// Copies until the end of the source. A destination that takes nothing for too long ends it: the broker would wait for ever behind
/// us for a client that does not read.
async fn relay(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let piece = buffer.get(..length).unwrap_or_default();
        let write = async {
            to.write_all(piece).await?;
            to.flush().await
        };
        let stuck = async {
            smol::Timer::after(SEND_TIMEOUT).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        write.or(stuck).await?;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    /// What the front hears of a client that says so much, and then nothing more or its end.
    fn heard(said: &[u8], ends: bool) -> Result<Vec<u8>, io::ErrorKind> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(said).unwrap();
        if ends {
            client.shutdown(std::net::Shutdown::Write).unwrap();
        }
        let mut stream = Async::new(listener.accept().unwrap().0).unwrap();
        smol::block_on(first_words(&mut stream, Duration::from_millis(200))).map_err(|error| error.kind())
    }

    #[test]
    fn who_says_too_little_for_a_connect_in_time_is_cut() {
        let words = [b'x'; CONNECT_BYTES_MIN];
        assert_eq!(heard(&[], false), Err(io::ErrorKind::TimedOut));
        assert_eq!(heard(&words[1..], false), Err(io::ErrorKind::TimedOut));
        assert_eq!(heard(&words[1..], true), Err(io::ErrorKind::UnexpectedEof));
        assert_eq!(heard(&words, false), Ok(words.to_vec()));
        assert_eq!(heard(&[b'x'; 100], false), Ok(vec![b'x'; 100]));
    }
}
