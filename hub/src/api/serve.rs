//! Accepts connections and serves the router over hyper on a smol executor; stops cleanly and in bounded time.

use super::{Api, ApiLimits, HEADER_BYTES_MAX, URL_BYTES_MAX, route};
use crate::tls::Door;
use async_channel::Receiver;
use axum::Router;
use axum::body::Body;
use futures_lite::{AsyncRead, AsyncWrite, FutureExt};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use smol::{Async, Executor};
use smol_hyper::rt::{FuturesIo, SmolTimer};
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tower::ServiceExt;

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub IpAddr);

/// Bytes of a request line and headers that are read at all; the exact limits are judged on what was read.
const HEAD_BYTES_MAX: usize = HEADER_BYTES_MAX + URL_BYTES_MAX + 4 * 1024;
/// Executor threads: requests wait for the engine, not for a processor.
const THREADS: usize = 2;
/// Open requests have so long to end at a stop.
const DRAIN: Duration = Duration::from_secs(2);
/// After a failed accept, so that a lack of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why the API does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("cannot serve the API: {0}. Check the address and the limit of open files")]
    Listener(#[from] std::io::Error),
}

/// Serves until `stop` is closed or says so, through TLS if there is a door for it. Blocks the calling thread.
///
/// # Errors
/// When the listener cannot be used at all.
pub fn serve(listener: TcpListener, door: Option<Door>, api: Api, stop: &Receiver<()>) -> Result<(), ApiError> {
    let listener = Async::new(listener)?;
    let limits = api.limits;
    let router = route::router(api);
    let executor = Arc::new(Executor::new());
    std::thread::scope(|scope| {
        let (ended, end) = async_channel::bounded::<()>(1);
        for number in 1..THREADS {
            let (executor, end) = (Arc::clone(&executor), end.clone());
            std::thread::Builder::new().name(format!("api/{number}")).spawn_scoped(scope, move || {
                smol::block_on(executor.run(async { while end.recv().await.is_ok() {} }))
            })?;
        }
        smol::block_on(executor.run(accept(&executor, &listener, door.as_ref(), &router, limits, stop)));
        ended.close();
        Ok(())
    })
}

/// A place among the connections; given back when dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn accept(
    executor: &Arc<Executor<'static>>,
    listener: &Async<TcpListener>,
    door: Option<&Door>,
    router: &Router,
    limits: ApiLimits,
    stop: &Receiver<()>,
) {
    let header_timeout = limits.header_timeout;
    let open = Arc::new(AtomicUsize::new(0));
    // Closed at the end: every connection listens to it.
    let (closing, closed) = async_channel::bounded::<()>(1);
    loop {
        let next = async { Some(listener.accept().await) };
        let stopped = async {
            let _ = stop.recv().await;
            None
        };
        match stopped.or(next).await {
            None => break,
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot accept an API connection");
                smol::Timer::after(ACCEPT_PAUSE).await;
            }
            // Over the limit the connection is closed at once: the client sees it and may try again.
            Some(Ok(_)) if open.load(Ordering::Relaxed) >= limits.connections_max => {}
            Some(Ok((stream, address))) => {
                let peer = Peer(address.ip());
                open.fetch_add(1, Ordering::Relaxed);
                let place = Place(Arc::clone(&open));
                let (door, router, closed) = (door.cloned(), router.clone(), closed.clone());
                executor
                    .spawn(async move {
                        let _ = stream.get_ref().set_nodelay(true);
                        match door {
                            None => connection(stream, peer, router, header_timeout, closed).await,
                            Some(door) => {
                                let passed = door.pass(stream, peer.0);
                                let stopped = async {
                                    let _ = closed.recv().await;
                                    None
                                };
                                if let Some(stream) = passed.or(stopped).await {
                                    connection(stream, peer, router, header_timeout, closed.clone()).await;
                                }
                            }
                        }
                        drop(place);
                    })
                    .detach();
            }
        }
    }
    closing.close();
    let deadline = std::time::Instant::now() + DRAIN;
    while open.load(Ordering::Relaxed) > 0 && std::time::Instant::now() < deadline {
        smol::Timer::after(Duration::from_millis(5)).await;
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    router: Router,
    header_timeout: Duration,
    closed: Receiver<()>,
) {
    let io = FuturesIo::new(stream);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request.map(Body::new))
    });
    let mut serving = std::pin::pin!(
        http1::Builder::new()
            .timer(SmolTimer::new())
            .header_read_timeout(header_timeout)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(io, service)
    );
    let ended = async {
        let _ = serving.as_mut().await;
        true
    };
    let closing = async {
        let _ = closed.recv().await;
        false
    };
    if !ended.or(closing).await {
        // Followers never end by themselves: they are cut when the drain time is over.
        serving.as_mut().graceful_shutdown();
        let drain = async {
            smol::Timer::after(DRAIN).await;
            Ok(())
        };
        let _ = serving.or(drain).await;
    }
}
