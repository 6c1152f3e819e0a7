//! A relay between a leaf on one socket and a broker on another, in this process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::link::Security;
use futures_lite::FutureExt;
use smol::LocalExecutor;
use smol::net::unix::{UnixListener, UnixStream};
use smol::net::{TcpListener, TcpStream};
use std::path::Path;

/// Long enough for a loaded machine; a passing test never waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The leaf's end of a line.
struct Leaf {
    line: Line,
    stream: UnixStream,
}

impl Leaf {
    /// Lets bytes pass until something holds.
    async fn until(&mut self, what: &str, mut done: impl FnMut(&mut Line) -> bool) {
        let deadline = now().after(PATIENCE);
        let mut out = [0; LINE_WIRE_BYTES_MAX];
        loop {
            while let Some(length) = self.line.poll(now(), &mut out) {
                self.stream.write_all(&out[..length]).await.unwrap();
            }
            if done(&mut self.line) {
                return;
            }
            assert!(now() < deadline, "waited in vain: {what}; {:?}", self.line.state());
            let mut bytes = [0; 64];
            let read = async { Some(self.stream.read(&mut bytes).await.unwrap()) };
            let wait = async {
                smol::Timer::after(Duration::from_millis(20)).await;
                None
            };
            match read.or(wait).await {
                Some(0) => panic!("the gateway closed the line"),
                Some(count) => self.line.receive(now(), &bytes[..count]),
                None => {}
            }
        }
    }

    async fn open(&mut self, number: u32) {
        self.line.open(now(), number);
        self.until("open", |line| line.state() == LineState::Open).await;
    }
}

struct Rig {
    leaf: Leaf,
    broker: TcpListener,
    view: Rc<RefCell<LeafView>>,
    notices: async_channel::Receiver<Notice>,
    _relay: smol::Task<()>,
}

async fn rig(executor: &LocalExecutor<'static>, directory: &Path, is_broker_there: bool) -> Rig {
    let path = directory.join("line");
    let listener = UnixListener::bind(&path).unwrap();
    let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Nobody listens on port 1.
    let port = if is_broker_there { broker.local_addr().unwrap().port() } else { 1 };
    let address = LineAddress::Unix(path);
    let view = Relay::view_of(&address);
    let (sender, notices) = async_channel::bounded(16);
    let relay = Relay {
        address,
        device: DeviceId([3; 16]),
        endpoint: Endpoint { security: Security::Plain, host: "127.0.0.1".to_owned(), port },
        tls: None,
        notices: sender,
        view: Rc::clone(&view),
    };
    let relay = executor.spawn(relay.serve());
    let (stream, _) = listener.accept().await.unwrap();
    let leaf = Leaf { line: Line::leaf(now()), stream };
    Rig { leaf, broker, view, notices, _relay: relay }
}

fn run(is_broker_there: bool, test: impl AsyncFnOnce(Rig)) {
    let directory = tempfile::tempdir().unwrap();
    let executor = LocalExecutor::new();
    smol::block_on(executor.run(async {
        let rig = rig(&executor, directory.path(), is_broker_there).await;
        test(rig).await;
    }));
}

async fn accepted(leaf: &mut Leaf, broker: &TcpListener, number: u32) -> TcpStream {
    let connecting = async { broker.accept().await.unwrap().0 };
    let opening = async {
        leaf.open(number).await;
        future::pending().await
    };
    // The relay connects before it answers the leaf.
    let stream = connecting.or(opening).await;
    leaf.until("open", |line| line.state() == LineState::Open).await;
    stream
}

#[test]
fn bytes_pass_both_ways_and_what_a_broker_said_before_its_end_arrives() {
    run(true, async |mut rig| {
        let mut broker = accepted(&mut rig.leaf, &rig.broker, 1).await;
        assert_eq!(rig.leaf.line.peer(), Some(DeviceId([3; 16])));
        // A CONNECT of the client `leaf`, in MQTT 5, and as much again as a frame has.
        let mut sent = b"\x10\x11\0\x04MQTT\x05\x02\0\x1e\0\0\x04leaf".to_vec();
        sent.resize(1000, 7);
        let mut left = &sent[..];
        let mut received = vec![0; sent.len()];
        let writing = rig.leaf.until("sent", |line| {
            let count = line.write(now(), left);
            left = &left[count..];
            left.is_empty() && line.is_flushed()
        });
        future::zip(writing, async { broker.read_exact(&mut received).await.unwrap() }).await;
        assert_eq!(received, sent);
        let view = rig.view.borrow().clone();
        assert_eq!((view.client.as_str(), view.state, view.connections), ("leaf", "open", 1));
        let answer: Vec<u8> = (0..3000).map(|n: u32| n as u8).collect();
        broker.write_all(&answer).await.unwrap();
        drop(broker);
        let mut heard = Vec::new();
        rig.leaf
            .until("the end", |line| {
                let mut bytes = [0; 100];
                let count = line.read(&mut bytes);
                heard.extend_from_slice(&bytes[..count]);
                line.state() == LineState::Closed(LineEnd::Broker)
            })
            .await;
        assert_eq!(heard, answer);
    });
}

#[test]
fn a_broker_that_cannot_be_reached_is_told_to_the_leaf_and_to_people() {
    run(false, async |mut rig| {
        rig.leaf.line.open(now(), 1);
        rig.leaf.until("closed", |line| line.state() == LineState::Closed(LineEnd::Unreachable)).await;
        let opened = rig.notices.recv().await.unwrap();
        let closed = rig.notices.recv().await.unwrap();
        assert_eq!((opened.level, closed.level), (Level::Info, Level::Warn));
        assert!(closed.text.contains("does not reach the broker"), "{}", closed.text);
    });
}

#[test]
fn a_leaf_that_starts_anew_has_no_part_in_the_connection_before() {
    run(true, async |mut rig| {
        let mut first = accepted(&mut rig.leaf, &rig.broker, 1).await;
        // A reset, in the middle of everything.
        rig.leaf.line = Line::leaf(now());
        let second = accepted(&mut rig.leaf, &rig.broker, 2).await;
        assert_eq!(first.read(&mut [0; 8]).await.unwrap_or(0), 0, "the first one was cut");
        assert_eq!(rig.view.borrow().connections, 2);
        drop(second);
    });
}

#[test]
fn the_end_of_a_leaf_is_the_end_at_the_broker() {
    run(true, async |mut rig| {
        let mut broker = accepted(&mut rig.leaf, &rig.broker, 1).await;
        rig.leaf.line.close(LineEnd::Leaf);
        rig.leaf.until("said", |line| line.timeout().is_none()).await;
        assert_eq!(broker.read(&mut [0; 8]).await.unwrap_or(0), 0);
        assert_eq!(rig.view.borrow().state, "idle");
    });
}

#[test]
fn a_serial_port_that_is_not_there_is_an_error_with_words() {
    let line = LineAddress::Port { path: "/dev/no-such-port".into(), baud: 9600 };
    assert_eq!(smol::block_on(port::open(&line)).err().unwrap().kind(), io::ErrorKind::NotFound);
    // Nor is every file a serial port.
    let line = LineAddress::Port { path: "/dev/null".into(), baud: 9600 };
    assert!(smol::block_on(port::open(&line)).is_err());
}
