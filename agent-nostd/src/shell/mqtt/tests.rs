//! The client against bytes as a broker sends them, and as the standard prints them.
use super::*;
use crate::machine::port::KEEP_ALIVE;
use std::vec::Vec;

const CONNECT: Connect<'static> =
    Connect { client: "c1", user: "u1", password: b"pw", keep_alive: KEEP_ALIVE, will: Some(("t/w", b"bye")) };
const CONNACK: [u8; 5] = [0x20, 3, 0, 0, 0];
const T0: Instant = Instant::ZERO;

struct Memory {
    receive: [u8; 128],
    send: [u8; 256],
}

impl Memory {
    fn new() -> Self {
        Self { receive: [0; 128], send: [0; 256] }
    }

    fn client(&mut self) -> Client<'_> {
        Client::open(T0, &mut self.receive, &mut self.send, &CONNECT).unwrap()
    }

    /// With CONNECT sent and CONNACK heard.
    fn open(&mut self) -> Client<'_> {
        let mut client = self.client();
        take(&mut client);
        give(&mut client, &CONNACK);
        assert_eq!(client.next(T0), Ok(Some(Event::Open)));
        client
    }
}

fn give(client: &mut Client<'_>, bytes: &[u8]) {
    let (into, _) = client.io();
    into[..bytes.len()].copy_from_slice(bytes);
    client.received(bytes.len());
}

fn take(client: &mut Client<'_>) -> Vec<u8> {
    let (_, out) = client.io();
    let bytes = out.to_vec();
    client.sent(T0, bytes.len());
    bytes
}

fn publish(topic: &str, payload: &[u8], id: Option<u16>) -> Vec<u8> {
    let mut rest = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
    rest.extend_from_slice(topic.as_bytes());
    rest.extend(id.iter().flat_map(|id| id.to_be_bytes()));
    rest.push(0);
    rest.extend_from_slice(payload);
    let mut packet = std::vec![if id.is_some() { 0x32 } else { 0x30 }, u8::try_from(rest.len()).unwrap()];
    packet.append(&mut rest);
    packet
}

#[test]
fn a_connect_is_what_the_standard_says() {
    let mut memory = Memory::new();
    let bytes = take(&mut memory.client());
    let mut expected = std::vec![0x10, 0];
    expected.extend_from_slice(b"\0\x04MQTT\x05\xce\0\x1e");
    // Session expiry 1 s, receive maximum, maximum packet size.
    expected.extend_from_slice(&[13, 0x11, 0, 0, 0, 1, 0x21, 0, 4, 0x27, 0, 0, 0, 128]);
    expected.extend_from_slice(b"\0\x02c1");
    // Will: delay 1 s, expiry 60 s, topic, payload.
    expected.extend_from_slice(&[10, 0x18, 0, 0, 0, 1, 0x02, 0, 0, 0, 60]);
    expected.extend_from_slice(b"\0\x03t/w\0\x03bye\0\x02u1\0\x02pw");
    expected[1] = u8::try_from(expected.len() - 2).unwrap();
    assert_eq!(bytes, expected);
}

#[test]
fn a_publication_is_acknowledged_by_its_ticket() {
    let mut memory = Memory::new();
    let mut client = memory.open();
    client.publish(T0, "a/b", b"x", Quality::AtLeastOnce, Ticket(7)).unwrap();
    client.publish(T0, "a/b", b"y", Quality::AtLeastOnce, Ticket(8)).unwrap();
    client.publish(T0, "a/b", b"z", Quality::AtMostOnce, Ticket(9)).unwrap();
    let expected = [publish("a/b", b"x", Some(1)), publish("a/b", b"y", Some(2)), publish("a/b", b"z", None)].concat();
    assert_eq!(take(&mut client), expected);
    // The second first, with "no matching subscribers"; then one that nobody waits for; then a refusal.
    give(&mut client, &[0x40, 3, 0, 2, 0x10, 0x40, 2, 0, 9, 0x40, 4, 0, 1, 0x97, 0]);
    assert_eq!(client.next(T0), Ok(Some(Event::Acknowledged(Ticket(8)))));
    assert_eq!(client.next(T0), Ok(Some(Event::Refused { code: 0x97 })));
    assert_eq!(client.next(T0), Ok(None));
}

#[test]
fn retain_handling_is_that_of_each_filter() {
    use RetainHandling::{Send, Skip};
    let mut memory = Memory::new();
    let mut client = memory.open();
    let groups = [
        (Subscription::Live, [(Skip, 0x21), (Send, 0x01)]),
        (Subscription::Desired(Skip), [(Skip, 0x21), (Skip, 0x21)]),
        (Subscription::Desired(Send), [(Send, 0x01), (Send, 0x01)]),
    ];
    for (at, (group, [(first, a), (second, b)])) in groups.into_iter().enumerate() {
        client.subscribe(T0, group, &[("a", first), ("b", second)]).unwrap();
        let id = u8::try_from(at + 1).unwrap();
        assert_eq!(take(&mut client), [0x82, 11, 0, id, 0, 0, 1, b'a', a, 0, 1, b'b', b]);
    }
    give(&mut client, &[0x90, 5, 0, 2, 0, 1, 1, 0x90, 5, 0, 1, 0, 1, 0x87]);
    assert_eq!(client.next(T0), Ok(Some(Event::Subscribed(Subscription::Desired(RetainHandling::Skip)))));
    assert_eq!(client.next(T0), Ok(Some(Event::SubscribeRefused(Subscription::Live))));
    assert_eq!(client.next(T0), Ok(None));
}

#[test]
fn a_message_is_heard_byte_by_byte_and_acknowledged() {
    let mut memory = Memory::new();
    let mut client = memory.open();
    let both = [publish("d/x", b"one", Some(0x1234)), publish("d/y", b"two", None)].concat();
    let mut heard = Vec::new();
    for byte in both {
        give(&mut client, &[byte]);
        if let Some(Event::Message { topic, payload }) = client.next(T0).unwrap() {
            heard.push((topic.as_bytes().to_vec(), payload.to_vec()));
        }
    }
    assert_eq!(heard, [(b"d/x".to_vec(), b"one".to_vec()), (b"d/y".to_vec(), b"two".to_vec())]);
    assert_eq!(take(&mut client), [0x40, 2, 0x12, 0x34]);
}

#[test]
fn without_room_for_its_answer_a_message_waits() {
    let mut memory = Memory::new();
    let mut client = memory.open();
    for size in (0..=20).rev() {
        while client.publish(T0, "t", &[0; 20][..size], Quality::AtMostOnce, Ticket(0)).is_ok() {}
    }
    give(&mut client, &publish("d/x", b"one", Some(5)));
    assert_eq!(client.next(T0), Ok(None));
    take(&mut client);
    assert!(matches!(client.next(T0), Ok(Some(Event::Message { payload: b"one", .. }))));
    assert_eq!(take(&mut client), [0x40, 2, 0, 5]);
}

#[test]
fn what_the_broker_wants_in_its_connack_is_obeyed() {
    let mut memory = Memory::new();
    let mut client = memory.client();
    take(&mut client);
    // Keep-alive 10 s, one publication at a time, packets of at most 40 bytes; a user property and a reason are passed over.
    let properties = [0x13, 0, 10, 0x21, 0, 1, 0x27, 0, 0, 0, 40, 0x26, 0, 1, b'k', 0, 1, b'v', 0x1f, 0, 1, b'r'];
    let mut connack = std::vec![0x20, u8::try_from(3 + properties.len()).unwrap(), 0, 0, 22];
    connack.extend_from_slice(&properties);
    give(&mut client, &connack);
    assert_eq!(client.next(T0), Ok(Some(Event::Open)));
    assert_eq!(client.publish(T0, "t", &[0; 60], Quality::AtMostOnce, Ticket(1)), Err(Full));
    client.publish(T0, "t", b"1", Quality::AtLeastOnce, Ticket(1)).unwrap();
    assert_eq!(client.publish(T0, "t", b"2", Quality::AtLeastOnce, Ticket(2)), Err(Full));
    take(&mut client);
    assert_eq!(client.timeout(), Some(Instant::from_ms(7500)));
}

#[test]
fn a_silent_broker_is_asked_and_given_up() {
    let mut memory = Memory::new();
    let mut client = memory.open();
    let asked_at = client.timeout().unwrap();
    assert_eq!(asked_at, T0.after(KEEP_ALIVE * 3 / 4));
    client.tick(asked_at.before(Duration::from_millis(1))).unwrap();
    assert!(take(&mut client).is_empty());
    client.tick(asked_at).unwrap();
    assert_eq!(client.io().1, [0xc0, 0]);
    client.sent(asked_at, 2);
    let dead_at = client.timeout().unwrap();
    assert_eq!(dead_at, asked_at.after(KEEP_ALIVE / 2));
    assert_eq!(client.tick(dead_at), Err(End::Silent));
    give(&mut client, &[0xd0, 0]);
    assert_eq!(client.next(dead_at), Ok(None));
    assert_eq!(client.tick(dead_at), Ok(()));
}

#[test]
fn a_blocked_write_ends_the_connection() {
    let mut memory = Memory::new();
    let mut client = memory.open();
    let later = T0.after(Duration::from_secs(5));
    client.publish(later, "t", b"1", Quality::AtMostOnce, Ticket(1)).unwrap();
    assert_eq!(client.timeout(), Some(later.after(WRITE_TIMEOUT)));
    client.sent(later.after(Duration::from_secs(1)), 1);
    assert_eq!(client.tick(later.after(WRITE_TIMEOUT)), Ok(()));
    assert_eq!(client.tick(later.after(Duration::from_secs(1)).after(WRITE_TIMEOUT)), Err(End::Blocked));
}

#[test]
fn nobody_is_woken_for_a_ping_while_a_write_waits() {
    let mut memory = Memory::new();
    let mut client = memory.client();
    take(&mut client);
    // The broker wants to hear something every four seconds.
    give(&mut client, &[0x20, 6, 0, 0, 3, 0x13, 0, 4]);
    assert_eq!(client.next(T0), Ok(Some(Event::Open)));
    assert_eq!(client.timeout(), Some(T0.after(Duration::from_secs(3))));
    client.publish(T0, "t", b"1", Quality::AtMostOnce, Ticket(1)).unwrap();
    assert_eq!(client.timeout(), Some(T0.after(WRITE_TIMEOUT)));
    take(&mut client);
    assert_eq!(client.timeout(), Some(T0.after(Duration::from_secs(3))));
}

#[test]
fn an_end_says_why() {
    let end = |bytes: &[u8], is_open: bool| {
        let mut memory = Memory::new();
        let mut client = if is_open { memory.open() } else { memory.client() };
        give(&mut client, bytes);
        client.next(T0).unwrap_err()
    };
    assert!(end(&[0x20, 3, 0, 0x87, 0], false).is_not_authorized());
    assert!(end(&[0xe0, 2, 0x8e, 0], true).is_taken());
    assert!(!end(&[0xe0, 0], true).is_taken());
    assert_eq!(end(&[0x30, 0xff, 0x7f], true), End::TooLong);
    // A publication before CONNACK, QoS 2, a length of five bytes, a CONNACK twice, a topic that is not text.
    assert_eq!(end(&publish("t", b"", None), false), End::Malformed);
    assert_eq!(end(&[0x34, 6, 0, 1, b't', 0, 1, 0], true), End::Malformed);
    assert_eq!(end(&[0x30, 0xff, 0xff, 0xff, 0xff, 1], true), End::Malformed);
    assert_eq!(end(&CONNACK, true), End::Malformed);
    assert_eq!(end(&[0x30, 4, 0, 1, 0xff, 0], true), End::Malformed);
}

#[test]
fn no_bytes_of_a_broker_do_harm() {
    proptest::proptest!(|(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..128), open: bool)| {
        let mut memory = Memory::new();
        let mut client = if open { memory.open() } else { memory.client() };
        give(&mut client, &bytes);
        while let Ok(Some(_)) = client.next(T0) {}
    });
}

#[test]
fn every_cut_of_a_conversation_is_the_same_conversation() {
    let whole = [publish("d/x", b"one", Some(3)), std::vec![0xd0, 0], publish("d/y", &[7; 60], None)].concat();
    for cut in 0..whole.len() {
        let mut memory = Memory::new();
        let mut client = memory.open();
        let mut heard = 0;
        for part in [&whole[..cut], &whole[cut..]] {
            give(&mut client, part);
            while client.next(T0).unwrap().is_some() {
                heard += 1;
            }
        }
        assert_eq!(heard, 2, "cut at {cut}");
    }
}
