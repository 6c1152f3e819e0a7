//! A hub and its broker in a few lines: enough MQTT 5 and HTTP for one device at a time to join, be told what to run, and report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use wire::auth::LiveContext;
use wire::dalek::{Ed25519, Ed25519Key, ExchangeSecret};
use wire::desired::{ClassLimits, Header};
use wire::event::{Level, Log};
use wire::frame::{decode_plain, encode_live, encode_plain, live_body_unchecked, open_live};
use wire::hello::{Asks, Fresh, Hello, ResetCause};
use wire::join::{Accepted, JoinAnswer, JoinRefusal, JoinRequest, JoinToken, hub_fingerprint};
use wire::sign::Sign;
use wire::status::{State, Status};
use wire::topic::{Down, Topic, Up};
use wire::{BootId, DeviceId, Digest, Kind, Order, PairKey, Revision, Session};

pub const FLEET: &str = "north";
const DEADLINE: Duration = Duration::from_secs(60);
const SESSION: Session = Session(7);

/// What the device said, as far as the tests look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Hello { revision: Revision, reset: ResetCause },
    Status { revision: Revision, entries: Vec<(u32, State)> },
    Log { level: Level, text: String },
    Lost,
}

struct Inner {
    signing: Ed25519Key,
    exchange: ExchangeSecret,
    token_secret: [u8; 16],
    http: SocketAddr,
    broker: SocketAddr,
    /// Counter and body of the set that the device should have.
    desired: Option<(u64, Vec<u8>)>,
    artifact: Vec<u8>,
    answers_to_lose: u32,
    pair: Option<(DeviceId, PairKey)>,
}

pub struct Hub {
    inner: Arc<Mutex<Inner>>,
    said: Receiver<Said>,
}

/// One packet: first byte and what follows the length.
fn read_packet(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut byte = [0; 1];
    stream.read_exact(&mut byte).ok()?;
    let first = byte[0];
    let (mut length, mut shift) = (0usize, 0);
    loop {
        stream.read_exact(&mut byte).ok()?;
        length |= usize::from(byte[0] & 127) << shift;
        shift += 7;
        if byte[0] & 128 == 0 {
            break;
        }
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).ok()?;
    Some((first, rest))
}

fn publish(stream: &mut TcpStream, topic: &str, payload: &[u8]) {
    let mut length = 2 + topic.len() + 1 + payload.len();
    let mut packet = vec![0x30];
    loop {
        let byte = (length & 127) as u8;
        length >>= 7;
        packet.push(if length > 0 { byte | 128 } else { byte });
        if length == 0 {
            break;
        }
    }
    packet.extend((topic.len() as u16).to_be_bytes());
    packet.extend(topic.as_bytes());
    packet.push(0);
    packet.extend(payload);
    stream.write_all(&packet).unwrap();
}

fn serve_http(listener: &TcpListener, inner: &Mutex<Inner>) {
    while let Ok((mut stream, _)) = listener.accept() {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let path = lines.next().unwrap().unwrap();
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        let artifact = inner.lock().unwrap().artifact.clone();
        assert!(path.contains(Digest::of(&artifact).text().as_str()), "{path}");
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", artifact.len()).unwrap();
        stream.write_all(&artifact).unwrap();
    }
}

impl Hub {
    pub fn start() -> Self {
        let [mqtt, http] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let inner = Inner {
            signing: Ed25519Key::from_seed(&[1; 32]),
            exchange: ExchangeSecret::from_seed([2; 32]),
            token_secret: [3; 16],
            http: http.local_addr().unwrap(),
            broker: mqtt.local_addr().unwrap(),
            desired: None,
            artifact: Vec::new(),
            answers_to_lose: 0,
            pair: None,
        };
        let inner = Arc::new(Mutex::new(inner));
        let (sender, said) = channel();
        let (of_mqtt, of_http) = (Arc::clone(&inner), Arc::clone(&inner));
        // Both end with the process of the test.
        std::thread::spawn(move || serve_http(&http, &of_http));
        std::thread::spawn(move || {
            while let Ok((stream, _)) = mqtt.accept() {
                Connection { stream, inner: Arc::clone(&of_mqtt), said: sender.clone() }.serve();
            }
        });
        Self { inner, said }
    }

    pub fn token(&self) -> String {
        let inner = self.inner.lock().unwrap();
        let broker = format!("mqtt://{}", inner.broker);
        let token = JoinToken {
            id: wire::topic::TokenId([4; 8]),
            secret: inner.token_secret,
            fleet: FLEET,
            broker: &broker,
            certificate: None,
            hub: hub_fingerprint(&inner.signing.public_key(), &inner.exchange.public_key()),
        };
        token.text().unwrap().to_string()
    }

    /// What the device gets at its next Hello.
    pub fn desire(&self, counter: u64, body: Vec<u8>, artifact: Vec<u8>) {
        let mut inner = self.inner.lock().unwrap();
        inner.desired = Some((counter, body));
        inner.artifact = artifact;
    }

    /// The next answers to a join are made and then lost.
    pub fn lose_answers(&self, count: u32) {
        self.inner.lock().unwrap().answers_to_lose = count;
    }

    /// Waits for something that the device says; what it says before is passed over.
    pub fn wait<T>(&self, what: &str, mut pick: impl FnMut(&Said) -> Option<T>) -> T {
        loop {
            let said = self.said.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("never: {what}"));
            if let Some(picked) = pick(&said) {
                return picked;
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    inner: Arc<Mutex<Inner>>,
    said: Sender<Said>,
}

impl Connection {
    fn serve(mut self) {
        let mut boot = BootId([0; 8]);
        while let Some((first, rest)) = read_packet(&mut self.stream) {
            let answer: Vec<u8> = match first >> 4 {
                1 => {
                    self.check_connect(&rest);
                    vec![0x20, 3, 0, 0, 0]
                }
                3 => {
                    let topic_end = 2 + usize::from(u16::from_be_bytes([rest[0], rest[1]]));
                    let topic = String::from_utf8(rest[2..topic_end].to_vec()).unwrap();
                    let qos1 = first & 0b110 != 0;
                    let payload = &rest[topic_end + if qos1 { 3 } else { 1 }..];
                    if qos1 {
                        self.stream.write_all(&[0x40, 2, rest[topic_end], rest[topic_end + 1]]).unwrap();
                    }
                    match Topic::parse(FLEET, &topic).unwrap() {
                        Topic::JoinRequest(token) => self.join(token, payload),
                        Topic::Up(device, up) => self.hear(device, up, payload, &mut boot),
                        other => panic!("not a device's topic: {other:?}"),
                    }
                    continue;
                }
                8 => {
                    // Packet id, no properties, then filters of one byte of options each.
                    let (mut at, mut granted) = (3, Vec::new());
                    while at < rest.len() {
                        at += 3 + usize::from(u16::from_be_bytes([rest[at], rest[at + 1]]));
                        granted.push(1);
                    }
                    let head = [0x90, 3 + granted.len() as u8, rest[0], rest[1], 0];
                    [&head[..], &granted].concat()
                }
                12 => vec![0xd0, 0],
                _ => break,
            };
            if self.stream.write_all(&answer).is_err() {
                break;
            }
        }
        let _ = self.said.send(Said::Lost);
    }

    /// A device connects as itself, with a will; somebody who joins, as the token.
    fn check_connect(&self, rest: &[u8]) {
        let count = |text: &str| rest.windows(text.len()).filter(|part| *part == text.as_bytes()).count();
        if count("join:") > 0 {
            assert_eq!((count("join:0404040404040404"), count(&"03".repeat(16))), (2, 1));
            return;
        }
        let (device, _) = self.inner.lock().unwrap().pair.clone().unwrap();
        // Client id, user, and in the topic of the will.
        let will = Topic::Up(device, Up::Will).print(FLEET).unwrap();
        assert_eq!((count(&device.to_string()), count(&will), count(&"06".repeat(32))), (3, 1, 1));
    }

    fn join(&mut self, token: wire::topic::TokenId, payload: &[u8]) {
        let request: JoinRequest<'_> = decode_plain(payload).unwrap();
        let nonce = request.claim.nonce;
        let mut inner = self.inner.lock().unwrap();
        let mut buffer = [0; 1024];
        let artifacts = format!("http://{}", inner.http);
        let frame = match request.verify(&Ed25519, FLEET, token) {
            Ok(device) => {
                let again = inner.pair.as_ref().is_none_or(|(joined, _)| *joined == device);
                let pair = inner.exchange.pair_key(&request.claim.exchange, FLEET, device).unwrap();
                let unsealed = Accepted {
                    nonce,
                    device,
                    hub_signing: inner.signing.public_key(),
                    hub_exchange: inner.exchange.public_key(),
                    sealed: &[],
                    artifacts: &artifacts,
                    name: request.claim.name,
                    approved: true,
                };
                let covered = unsealed.covered().unwrap();
                let sealed = inner.exchange.seal(&request.claim.exchange, &covered, &[6; 32]).unwrap();
                let accepted = Accepted { sealed: &sealed, ..unsealed };
                let refused = JoinAnswer::Refused { nonce, reason: JoinRefusal::TokenUsed };
                let answer = if again { JoinAnswer::Accepted(accepted) } else { refused };
                let frame = encode_plain(&mut buffer, &answer).unwrap().to_vec();
                if again {
                    inner.pair = Some((device, pair));
                }
                frame
            }
            Err(error) => panic!("{error}"),
        };
        if inner.answers_to_lose > 0 {
            inner.answers_to_lose -= 1;
            // As if the hub had died: the device learns that the link is gone.
            self.stream.shutdown(std::net::Shutdown::Both).unwrap();
            return;
        }
        drop(inner);
        publish(&mut self.stream, &Topic::JoinAnswer(token).print(FLEET).unwrap(), &frame);
    }

    fn hear(&mut self, device: DeviceId, up: Up, frame: &[u8], boot: &mut BootId) {
        let inner = Arc::clone(&self.inner);
        let inner = inner.lock().unwrap();
        let (joined, key) = inner.pair.as_ref().unwrap();
        assert_eq!(*joined, device);
        let said = match up {
            Up::Hello => {
                let hello = Hello::decode(live_body_unchecked(frame, Kind::Hello).unwrap()).unwrap();
                *boot = hello.fixed.boot;
                let context = LiveContext::outside(FLEET, device, *boot);
                open_live(frame, Kind::Hello, key, &context).unwrap();
                let said = Said::Hello { revision: hello.fixed.revision, reset: hello.fixed.reset };
                self.answer_hello(&inner, key, device, &hello);
                said
            }
            Up::Status => {
                let context = LiveContext { fleet: FLEET, device, boot: *boot, session: SESSION };
                let status = Status::decode(open_live(frame, Kind::Status, key, &context).unwrap()).unwrap();
                let entries = status.entries().map(|entry| (entry.workload.0, entry.state)).collect();
                Said::Status { revision: status.fixed.revision, entries }
            }
            Up::Log => {
                let context = LiveContext { fleet: FLEET, device, boot: *boot, session: SESSION };
                let log = Log::decode(open_live(frame, Kind::Log, key, &context).unwrap()).unwrap();
                for record in log.records() {
                    let said = Said::Log { level: record.level, text: record.text.to_owned() };
                    let _ = self.said.send(said);
                }
                return;
            }
            Up::Heartbeat | Up::Need | Up::Released | Up::Event | Up::Sample | Up::Will => return,
        };
        let _ = self.said.send(said);
    }

    fn answer_hello(&mut self, inner: &Inner, key: &PairKey, device: DeviceId, hello: &Hello<'_>) {
        let signed = inner.desired.as_ref().map(|(counter, body)| {
            let revision = Revision(Order::new(1, *counter).unwrap());
            let limits = ClassLimits { records: 256, memory_bytes: 64 << 20 };
            let header = Header::of(revision, body, limits).unwrap();
            (header.sign(&inner.signing, FLEET, device).unwrap(), body)
        });
        let fresh = Fresh {
            nonce: hello.fixed.nonce,
            revision: signed.map_or(Revision::default(), |(signed, _)| signed.header.revision),
            digest: signed.map_or_else(Default::default, |(signed, _)| signed.header.body.prefix()),
            time_ms: 1_800_000_000_000,
            session: SESSION,
            heartbeat_s: 30,
            asks: Asks::STATUS,
        };
        let mut buffer = vec![0; 16 * 1024];
        let context = LiveContext::outside(FLEET, device, hello.fixed.boot);
        let frame = encode_live(&mut buffer, key, &context, &fresh).unwrap().to_vec();
        publish(&mut self.stream, &Topic::Down(device, Down::Fresh).print(FLEET).unwrap(), &frame);
        if let Some((signed, body)) = signed
            && signed.header.revision != hello.fixed.revision
        {
            let frame = signed.encode(&mut buffer, body).unwrap().to_vec();
            publish(&mut self.stream, &Topic::Down(device, Down::Desired).print(FLEET).unwrap(), &frame);
        }
    }
}
