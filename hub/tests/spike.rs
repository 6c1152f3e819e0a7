//! The riskiest joints in one process: a tokio broker on its own thread, an MQTT client that wants tokio, HTTP on
//! smol without tokio, and a database that blocks on fsync. If two of them cannot live together, this test says so
//! before anything is built on them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use hub::broker::{AccessTable, Broker, BrokerConfig};
use hub::mqtt::{ACKNOWLEDGE_TIMEOUT, Link, LinkConfig, LinkEvent, Publication};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use smol_hyper::rt::{FuturesIo, SmolTimer};
use tower::ServiceExt;

const MESSAGES: u64 = 50;
const DEADLINE: Duration = Duration::from_secs(30);

/// One row per message, each in a transaction of its own that is on the disk when it returns.
fn writer(path: std::path::PathBuf, payloads: async_channel::Receiver<Vec<u8>>, written: Arc<AtomicU64>) {
    let database = rusqlite::Connection::open(path).unwrap();
    database.pragma_update(None, "journal_mode", "WAL").unwrap();
    database.pragma_update(None, "synchronous", "FULL").unwrap();
    database.execute("CREATE TABLE message (id INTEGER PRIMARY KEY, payload BLOB NOT NULL)", ()).unwrap();
    while let Ok(payload) = payloads.recv_blocking() {
        database.execute("INSERT INTO message (payload) VALUES (?1)", [payload]).unwrap();
        written.fetch_add(1, Ordering::SeqCst);
    }
}

/// Serves one axum route over hyper on the smol executor until the test ends.
fn serve(written: Arc<AtomicU64>, executor: &smol::Executor<'static>) -> SocketAddr {
    let count = |State(written): State<Arc<AtomicU64>>| async move { written.load(Ordering::SeqCst).to_string() };
    let router = Router::new().route("/written", get(count)).with_state(written);
    let listener = smol::Async::<std::net::TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
    let address = listener.get_ref().local_addr().unwrap();
    let inner = Arc::new(smol::Executor::new());
    let connections = inner.clone();
    executor
        .spawn(async move {
            let accept = async {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let router = router.clone();
                    let connection = async move {
                        let service = service_fn(move |request| router.clone().oneshot(request));
                        let served = http1::Builder::new()
                            .timer(SmolTimer::new())
                            .header_read_timeout(DEADLINE)
                            .serve_connection(FuturesIo::new(stream), service);
                        let _ = served.await;
                    };
                    connections.spawn(connection).detach();
                }
            };
            inner.run(accept).await
        })
        .detach();
    address
}

fn http_get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.rsplit("\r\n\r\n").next().unwrap().to_owned()
}

#[test]
fn riskiest_joints_live_in_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spike.db");
    let written = Arc::new(AtomicU64::new(0));
    let (payloads, to_write) = async_channel::bounded(16);
    let writing = {
        let (path, written) = (path.clone(), written.clone());
        thread::spawn(move || writer(path, to_write, written))
    };

    let executor = Arc::new(smol::Executor::new());
    let address = serve(written.clone(), &executor);
    let (stop_http, http_stopped) = async_channel::bounded::<()>(1);
    let serving = thread::spawn(move || smol::block_on(executor.run(http_stopped.recv())));

    let table = Arc::new(AccessTable::new("spike").unwrap());
    let broker = Broker::start(BrokerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0))), table.clone()).unwrap();
    let (events, received) = async_channel::bounded(16);
    let config = LinkConfig {
        endpoint: hub::mqtt::Endpoint::plain(broker.address()),
        session_s: None,
        client_id: "hub".to_owned(),
        credential: table.hub_credential(),
        subscriptions: vec!["spike/#".to_owned()],
        acknowledge_timeout: ACKNOWLEDGE_TIMEOUT,
    };
    let link = Link::start(config, events).unwrap();

    let (mut acknowledged, mut forwarded) = (0, 0);
    while acknowledged < MESSAGES || forwarded < MESSAGES {
        let late = async {
            smol::Timer::after(DEADLINE).await;
            panic!("{acknowledged} acknowledged and {forwarded} forwarded in time")
        };
        match smol::block_on(smol::future::or(async { received.recv().await.unwrap() }, late)) {
            LinkEvent::Connected { .. } => {
                for ticket in 0..MESSAGES {
                    let (topic, payload) = ("spike/x".to_owned(), ticket.to_be_bytes().to_vec());
                    link.publish(Publication { topic, payload, retain: false, qos1: true, ticket }).unwrap();
                }
            }
            LinkEvent::Message { payload, .. } => {
                payloads.send_blocking(payload).unwrap();
                forwarded += 1;
                // HTTP answers while the broker, the link and the writer are at work.
                assert!(http_get(address, "/written").parse::<u64>().unwrap() <= MESSAGES);
            }
            LinkEvent::Acknowledged { .. } => acknowledged += 1,
            other => panic!("{other:?}"),
        }
    }
    payloads.close();
    writing.join().unwrap();
    assert_eq!(http_get(address, "/written"), MESSAGES.to_string());
    link.stop();
    broker.stop().unwrap();
    stop_http.close();
    let _ = serving.join().unwrap();

    let database = rusqlite::Connection::open(path).unwrap();
    let stored: i64 = database.query_row("SELECT count(DISTINCT payload) FROM message", (), |row| row.get(0)).unwrap();
    assert_eq!(u64::try_from(stored).unwrap(), MESSAGES);
}
