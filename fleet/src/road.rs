//! The way of one simulated device to its broker: a relay on loopback, so that the link can be cut and slowed while agent and
//! broker stay what they are.
//!
//! Must never read what passes, nor be open to another machine.
use smol::channel::bounded;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Connections of one device: one, and one that is being given up.
const CONNECTIONS_MAX: usize = 4;
const CHUNK_BYTES: usize = 4096;
/// Chunks on the way, each way and connection; then the sender waits.
const CHUNKS_MAX: usize = 64;
/// After an error of `accept`, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
struct State {
    is_cut: bool,
    delay: Duration,
    open: BTreeMap<u64, Vec<TcpStream>>,
    next: u64,
}

#[derive(Debug)]
struct Shared {
    /// `host:port`
    target: String,
    state: Mutex<State>,
}

/// A relay. Closed when dropped.
#[derive(Debug)]
pub struct Road {
    url: String,
    shared: Arc<Shared>,
    _task: smol::Task<()>,
}

/// Scheme, host and port of a broker's address.
fn parts(broker: &str) -> Option<(&str, &str, u16)> {
    let (scheme, rest) = broker.split_once("://")?;
    let (host, port) = rest.rsplit_once(':')?;
    Some((scheme, host, port.parse().ok()?))
}

/// Where a relay listens, and the host under which the device finds it there. `None`: the certificate of the broker is for
/// another name, which nothing on loopback has.
fn stand_in<'a>(scheme: &str, host: &'a str) -> Option<(IpAddr, &'a str)> {
    let bare = host.trim_matches(['[', ']']);
    let is_here = bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match (scheme, is_here) {
        ("mqtts", true) if bare == "::1" => Some((Ipv6Addr::LOCALHOST.into(), host)),
        ("mqtts", true) => Some((bare.parse().unwrap_or(Ipv4Addr::LOCALHOST.into()), host)),
        ("mqtts", false) => None,
        _ => Some((Ipv4Addr::LOCALHOST.into(), "127.0.0.1")),
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain numbers and sockets, which are valid at every moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a connection, if it may be.
    fn admit(&self, near: &TcpStream) -> Option<u64> {
        let mut state = self.lock();
        if state.is_cut || state.open.len() >= CONNECTIONS_MAX {
            return None;
        }
        state.next += 1;
        let number = state.next;
        state.open.insert(number, vec![near.clone()]);
        Some(number)
    }
}

fn close(streams: &[TcpStream]) {
    for stream in streams {
        // It may be closed already.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

impl Road {
    /// To the broker of a membership; `None` where a relay cannot stand in for it.
    pub async fn open(broker: &str) -> io::Result<Option<Self>> {
        let Some((scheme, host, port)) = parts(broker) else { return Ok(None) };
        let Some((address, name)) = stand_in(scheme, host) else { return Ok(None) };
        let listener = TcpListener::bind((address, 0)).await?;
        let url = format!("{scheme}://{name}:{}", listener.local_addr()?.port());
        let shared = Arc::new(Shared { target: format!("{host}:{port}"), state: Mutex::default() });
        let task = smol::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Some(Self { url, shared, _task: task }))
    }

    /// In place of the broker's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn set(&self, is_cut: bool, delay: Duration) {
        let mut state = self.shared.lock();
        (state.is_cut, state.delay) = (is_cut, delay);
        if is_cut {
            std::mem::take(&mut state.open).values().for_each(|streams| close(streams));
        }
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        self.set(true, Duration::ZERO);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            // Bounded by the number of connections; each ends when either side does.
            Ok((near, _)) => smol::spawn(serve(Arc::clone(&shared), near)).detach(),
            Err(_) => drop(smol::Timer::after(ACCEPT_PAUSE).await),
        }
    }
}

async fn serve(shared: Arc<Shared>, near: TcpStream) {
    let Some(number) = shared.admit(&near) else { return };
    if let Ok(far) = TcpStream::connect(shared.target.as_str()).await {
        // Small packets are what this is about.
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let is_open = match shared.lock().open.get_mut(&number) {
            Some(streams) => {
                streams.push(far.clone());
                true
            }
            // Cut in the meantime.
            None => false,
        };
        if is_open {
            let up = pump(near.clone(), far.clone(), &shared);
            let down = pump(far, near, &shared);
            smol::future::zip(up, down).await;
        }
    }
    let streams = shared.lock().open.remove(&number).unwrap_or_default();
    close(&streams);
}

/// One way, until it ends.
async fn pump(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let (chunks, coming) = bounded::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    let read = async move {
        let mut buffer = [0; CHUNK_BYTES];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let chunk = buffer.get(..count).unwrap_or_default().to_vec();
            if chunks.send((Instant::now(), chunk)).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Ok((came, chunk)) = coming.recv().await {
            let due = came + shared.lock().delay;
            if due > Instant::now() {
                smol::Timer::at(due).await;
            }
            if to.write_all(&chunk).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    };
    smol::future::zip(read, write).await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures_lite::FutureExt;

    const DEADLINE: Duration = Duration::from_secs(20);

    /// A broker that sends everything back.
    async fn echo() -> (String, smol::Task<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("mqtt://{}", listener.local_addr().unwrap());
        let task = smol::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                smol::spawn(smol::io::copy(stream.clone(), stream)).detach();
            }
        });
        (url, task)
    }

    async fn connect(road: &Road) -> TcpStream {
        TcpStream::connect(road.url().strip_prefix("mqtt://").unwrap()).await.unwrap()
    }

    async fn says(stream: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
        stream.write_all(text).await?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    fn within(test: impl Future<Output = ()>) {
        let expired = async {
            smol::Timer::after(DEADLINE).await;
            Err("it takes too long")
        };
        let in_time = async {
            test.await;
            Ok(())
        };
        smol::block_on(in_time.or(expired)).unwrap();
    }

    #[test]
    fn a_cut_ends_what_is_open_and_refuses_what_comes_until_it_is_over() {
        within(async {
            let (broker, _task) = echo().await;
            let road = Road::open(&broker).await.unwrap().unwrap();
            let mut stream = connect(&road).await;
            assert_eq!(says(&mut stream, b"hello").await.unwrap(), b"hello");
            road.set(true, Duration::ZERO);
            assert!(says(&mut stream, b"hello").await.is_err());
            assert!(says(&mut connect(&road).await, b"hello").await.is_err());
            road.set(false, Duration::ZERO);
            assert_eq!(says(&mut connect(&road).await, b"again").await.unwrap(), b"again");
        });
    }

    #[test]
    fn a_delay_counts_each_way_and_for_connections_that_are_there() {
        within(async {
            let (broker, _task) = echo().await;
            let road = Road::open(&broker).await.unwrap().unwrap();
            let mut stream = connect(&road).await;
            says(&mut stream, b"fast").await.unwrap();
            road.set(false, Duration::from_millis(60));
            let begin = Instant::now();
            assert_eq!(says(&mut stream, b"slow").await.unwrap(), b"slow");
            assert!(begin.elapsed() >= Duration::from_millis(120));
        });
    }

    #[test]
    fn no_more_connections_are_held_than_a_device_needs() {
        within(async {
            let (broker, _task) = echo().await;
            let road = Road::open(&broker).await.unwrap().unwrap();
            let mut held = Vec::new();
            for _ in 0..CONNECTIONS_MAX {
                let mut stream = connect(&road).await;
                says(&mut stream, b"in").await.unwrap();
                held.push(stream);
            }
            assert!(says(&mut connect(&road).await, b"out").await.is_err());
        });
    }

    #[test]
    fn a_relay_stands_in_only_where_the_certificate_still_fits() {
        let v4 = IpAddr::from(Ipv4Addr::LOCALHOST);
        assert_eq!(stand_in("mqtt", "broker.example"), Some((v4, "127.0.0.1")));
        assert_eq!(stand_in("mqtts", "127.0.0.1"), Some((v4, "127.0.0.1")));
        assert_eq!(stand_in("mqtts", "localhost"), Some((v4, "localhost")));
        assert_eq!(stand_in("mqtts", "[::1]"), Some((Ipv6Addr::LOCALHOST.into(), "[::1]")));
        assert_eq!(stand_in("mqtts", "broker.example"), None);
        assert_eq!(parts("mqtts://[::1]:8883"), Some(("mqtts", "[::1]", 8883)));
        assert_eq!(parts("nonsense"), None);
    }
}
