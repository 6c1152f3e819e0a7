//! The link against a scripted broker on a socket: just enough MQTT 5 to answer, refuse, stall and cut.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

const DEADLINE: Duration = Duration::from_secs(20);

/// One packet of a client: first byte and the rest after the remaining length.
fn read_packet(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut first = [0; 1];
    stream.read_exact(&mut first).ok()?;
    let (mut length, mut shift) = (0usize, 0);
    loop {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).ok()?;
        length |= usize::from(byte[0] & 127) << shift;
        shift += 7;
        if byte[0] & 128 == 0 {
            break;
        }
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).ok()?;
    Some((first[0], rest))
}

fn packet_id_of_publish(rest: &[u8]) -> [u8; 2] {
    let topic = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
    [rest[2 + topic], rest[3 + topic]]
}

/// Serves one connection: CONNACK with `code`, grants and acknowledges everything, and echoes nothing.
fn serve(listener: &TcpListener, code: u8, grant: u8) {
    let (mut stream, _) = listener.accept().unwrap();
    while let Some((first, rest)) = read_packet(&mut stream) {
        let answer: Vec<u8> = match first >> 4 {
            1 => vec![0x20, 3, 0, code, 0],
            8 => {
                let filters = rest[3..].split(|byte| *byte == b'!').count() - 1;
                let mut answer = vec![0x90, 3 + filters as u8, rest[0], rest[1], 0];
                answer.extend(std::iter::repeat_n(grant, filters));
                answer
            }
            3 if first & 0b110 == 0 => continue,
            3 => {
                let id = packet_id_of_publish(&rest);
                // A message of the broker's own, then the answer.
                let message = [0x30, 8, 0, 1, b't', 0, b'h', b'e', b'y', b'!'];
                [&message[..], &[0x40, 2, id[0], id[1]]].concat()
            }
            12 => vec![0xd0, 0],
            _ => break,
        };
        if stream.write_all(&answer).is_err() || code != 0 {
            break;
        }
    }
}

struct World {
    executor: Rc<smol::LocalExecutor<'static>>,
    link: Link,
    events: async_channel::Receiver<Numbered>,
}

fn will() -> Will {
    Will { topic: "w".to_owned(), payload: vec![1] }
}

fn world(port: u16) -> World {
    let executor = Rc::new(smol::LocalExecutor::new());
    let (sender, events) = async_channel::bounded(8);
    let settings = Settings {
        endpoint: Endpoint::parse(&format!("mqtt://127.0.0.1:{port}")).unwrap(),
        tls: None,
        client: "c".to_owned(),
        user: "c".to_owned(),
        password: "p".to_owned(),
        keep_alive: Duration::from_secs(30),
        packet_bytes_max: 10_000,
        will: None,
    };
    World { link: Link::new(Rc::clone(&executor), settings, sender), executor, events }
}

impl World {
    fn next(&mut self) -> LinkEvent {
        let (executor, events) = (Rc::clone(&self.executor), self.events.clone());
        loop {
            let expired = async {
                smol::Timer::after(DEADLINE).await;
                panic!("no event of the link");
            };
            let event = smol::block_on(executor.run(async { events.recv().await.unwrap() }.or(expired)));
            if let Some(event) = self.link.accept(event) {
                return event;
            }
        }
    }
}

#[test]
fn requests_are_answered_with_their_own_names() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut world = world(listener.local_addr().unwrap().port());
    let server = std::thread::spawn(move || serve(&listener, 0, 1));
    assert_eq!(world.link.publish("t", vec![1], Delivery::AtMostOnce), Err(LinkFull));
    world.link.connect(will());
    assert_eq!(world.next(), LinkEvent::Up);
    world.link.subscribe(Subscription::Live, &[("a!", RetainHandling::Send), ("b!", RetainHandling::Skip)]).unwrap();
    world.link.subscribe(Subscription::Desired(RetainHandling::Skip), &[("c!", RetainHandling::Skip)]).unwrap();
    assert_eq!(world.next(), LinkEvent::Subscribed(Subscription::Live));
    assert_eq!(world.next(), LinkEvent::Subscribed(Subscription::Desired(RetainHandling::Skip)));
    world.link.publish("t", vec![1], Delivery::AtMostOnce).unwrap();
    world.link.publish("t", vec![2], Delivery::AtLeastOnce { ticket: Ticket(77) }).unwrap();
    let payload = b"hey!".to_vec();
    assert_eq!(world.next(), LinkEvent::Message { topic: "t".to_owned(), payload });
    assert_eq!(world.next(), LinkEvent::Acknowledged { ticket: Ticket(77) });
    world.link.disconnect();
    // The socket closes when the task is dropped; no event of it is accepted any more.
    while world.executor.try_tick() {}
    server.join().unwrap();
    assert_eq!(world.link.subscribe(Subscription::Live, &[("a!", RetainHandling::Send)]), Err(LinkFull));
}

#[test]
fn a_refused_subscription_is_not_a_granted_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut world = world(listener.local_addr().unwrap().port());
    std::thread::spawn(move || serve(&listener, 0, 0x87));
    world.link.connect(will());
    assert_eq!(world.next(), LinkEvent::Up);
    world.link.subscribe(Subscription::Live, &[("a!", RetainHandling::Send)]).unwrap();
    assert_eq!(world.next(), LinkEvent::SubscribeRefused(Subscription::Live));
}

#[test]
fn a_refused_connection_is_down_with_a_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut world = world(listener.local_addr().unwrap().port());
    std::thread::spawn(move || serve(&listener, 0x87, 0));
    world.link.connect(will());
    let LinkEvent::Down { reason } = world.next() else { panic!("not down") };
    assert!(reason.contains("user and password"), "{reason}");
}

#[test]
fn c10_a_broker_that_prefers_another_connection_is_told_apart_from_a_lost_link() {
    for (code, is_taken) in [(0x8e, true), (0x87, true), (0x98, false), (0x8b, false)] {
        let (port, server) = broker_that_says(vec![0x20, 3, 0, 0, 0, 0xe0, 2, code, 0], HangUp::Never);
        let mut world = world(port);
        world.link.connect(will());
        assert_eq!(world.next(), LinkEvent::Up);
        assert_eq!(matches!(world.next(), LinkEvent::Taken { .. }), is_taken, "{code:#x}");
        while world.executor.try_tick() {}
        server.join().unwrap();
    }
}

#[test]
fn a_dead_address_is_down() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut world = world(port);
    world.link.connect(will());
    assert!(matches!(world.next(), LinkEvent::Down { .. }));
}

#[test]
fn requests_to_a_broker_that_does_not_read_never_wait() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut world = world(listener.local_addr().unwrap().port());
    world.link.connect(will());
    // Nobody polls the task: the queue fills, and the caller is told.
    let refused = (0..REQUESTS_MAX * 2).find(|_| world.link.publish("t", vec![0; 64], Delivery::AtMostOnce).is_err());
    assert_eq!(refused, Some(REQUESTS_MAX));
}

#[test]
fn m15_malformed_packets_of_a_broker_end_the_connection_and_nothing_else() {
    let cases: [(&str, &[u8]); 9] = [
        ("a remaining length of five bytes (2.1.4)", &[0x30, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ("QoS 3 (3.3.1.2)", &[0x36, 7, 0, 1, b't', 0, 1, 0, b'x']),
        ("a topic that is not UTF-8 (1.5.4)", &[0x30, 5, 0, 1, 0xff, 0, b'x']),
        ("a packet of type 0 (2.1.2)", &[0, 0]),
        ("a CONNECT from a broker (3.1)", &[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 0, 0, 0]),
        ("a topic longer than its packet", &[0x30, 3, 0xff, 0xff, b'x']),
        ("an unknown property (2.2.2.2)", &[0x30, 6, 0, 1, b't', 1, 0x7f, b'x']),
        ("a packet larger than this client takes (3.1.2.11.4)", &[0x30, 0xff, 0xff, 0x7f]),
        ("noise", &[0xff; 64]),
    ];
    for (what, bytes) in cases {
        let (port, server) = broker_that_says([&[0x20, 3, 0, 0, 0], bytes].concat(), HangUp::Never);
        let mut world = world(port);
        world.link.connect(will());
        assert_eq!(world.next(), LinkEvent::Up, "{what}");
        let next = world.next();
        assert!(matches!(next, LinkEvent::Down { .. }), "{what}: {next:?}");
        while world.executor.try_tick() {}
        server.join().unwrap();
        assert!(connects_again(&mut world), "{what}");
    }
}

enum HangUp {
    Never,
    /// A broker that says half a packet would be waited for until the keep-alive ends.
    AfterTheLastByte,
}

/// Takes one connection on the port, says this to it and reads until the client leaves.
fn broker_that_says(bytes: Vec<u8>, hang_up: HangUp) -> (u16, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(read_packet(&mut stream).is_some());
        stream.write_all(&bytes).unwrap();
        if matches!(hang_up, HangUp::AfterTheLastByte) {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        while read_packet(&mut stream).is_some() {}
    });
    (port, server)
}

/// Whether the next connection, to a proper broker, is as good as a first one.
fn connects_again(world: &mut World) -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    world.link.settings.endpoint.port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || serve(&listener, 0, 1));
    world.link.connect(will());
    world.next() == LinkEvent::Up
}

/// What a broker says in a session of a device, packet by packet.
const SESSION: [&[u8]; 7] = [
    // CONNACK: session expiry, receive maximum, maximum packet size, topic alias maximum, server keep-alive.
    &[0x20, 22, 0, 0, 19, 0x11, 0, 0, 0, 5, 0x21, 0, 64, 0x27, 0, 1, 0, 0, 0x22, 0, 10, 0x13, 0, 30],
    // SUBACK of two filters, with a reason.
    &[0x90, 11, 0, 1, 6, 0x1f, 0, 3, b'y', b'e', b's', 1, 1],
    // A retained PUBLISH with QoS 1: payload format, expiry, content type, correlation data, user property.
    &[
        0x33, 36, 0, 3, b'a', b'/', b'b', 0, 9, 26, 0x01, 1, 0x02, 0, 0, 0, 60, 0x03, 0, 1, b't', 0x09, 0, 2, 1, 2,
        0x26, 0, 1, b'k', 0, 2, b'v', b'w', b'h', b'e', b'y', b'!',
    ],
    &[0x30, 8, 0, 1, b't', 0, b'h', b'e', b'y', b'!'],
    // PUBACK with a reason, PINGRESP, DISCONNECT with a reason.
    &[0x40, 10, 0, 9, 0x10, 6, 0x1f, 0, 3, b'n', b'o', b'e'],
    &[0xd0, 0],
    &[0xe0, 8, 0x8b, 6, 0x1f, 0, 3, b'e', b'n', b'd'],
];
const MUTATIONS: u64 = 1_000_000;
/// Of them through a socket, the client behind it and a second connection.
const SESSIONS: u64 = 150;

/// xorshift64*: a mutation is its seed.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.roll(3) {
            let at = self.roll(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
            match self.roll(6) {
                _ if bytes.is_empty() => bytes.push(0x30),
                0 => bytes[at] ^= 1 << self.roll(8),
                1 => bytes[at] = self.roll(256) as u8,
                2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.roll(5)],
                3 => bytes.truncate(at),
                4 => bytes.insert(at, self.roll(256) as u8),
                _ => drop(bytes.remove(at)),
            }
        }
    }
}

#[test]
fn m16_no_mutation_of_what_a_broker_says_does_harm() {
    use rumqttc::v5::mqttbytes::v5::Packet;
    let mut taken = 0;
    for seed in 0..MUTATIONS {
        let mut dice = Dice::new(seed);
        let mut packet = SESSION[dice.roll(SESSION.len())].to_vec();
        dice.mutate(&mut packet);
        // With a length that is right, more than the header is looked at.
        if dice.roll(2) == 0 && (2..128).contains(&packet.len()) {
            packet[1] = (packet.len() - 2) as u8;
        }
        let mut stream = bytes::BytesMut::from(&packet[..]);
        while !stream.is_empty() && Packet::read(&mut stream, Some(10_000)).is_ok() {
            taken += 1;
        }
    }
    assert!(taken > MUTATIONS / 10, "mutations must reach the parts behind the header: {taken}");
}

#[test]
fn m16_after_a_mutated_session_the_link_connects_again() {
    for seed in 0..SESSIONS {
        let mut dice = Dice::new(seed);
        let mut said: Vec<Vec<u8>> = SESSION.iter().map(|packet| packet.to_vec()).collect();
        let at = dice.roll(said.len());
        dice.mutate(&mut said[at]);
        let (port, server) = broker_that_says(said.concat(), HangUp::AfterTheLastByte);
        let mut world = world(port);
        world.link.connect(will());
        while !matches!(world.next(), LinkEvent::Down { .. }) {}
        while world.executor.try_tick() {}
        server.join().unwrap();
        assert!(connects_again(&mut world), "seed {seed}");
    }
}
