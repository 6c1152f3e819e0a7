//! Faults M11 to M15 at the broker: foreign topics, foreign names, packets too large for their reader, and malformed ones.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;

/// Bytes of an MQTT 5 CONNECT (3.1) of a device.
pub(super) fn connect(device: &str, flags: u8) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 5, flags, 0, 60, 0];
    for text in [device, device, &secret(device)] {
        body.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        body.extend(text.as_bytes());
    }
    packet(0x10, &body)
}

pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 128);
    [&[first, u8::try_from(body.len()).unwrap()], body].concat()
}

/// A PUBLISH without properties.
fn publish(first: u8, topic: &[u8], packet_id: Option<u16>) -> Vec<u8> {
    let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
    body.extend(topic);
    body.extend(packet_id.into_iter().flat_map(u16::to_be_bytes));
    body.push(0);
    body.extend(b"x");
    packet(first, &body)
}

pub(super) const CLEAN_WITH_PASSWORD: u8 = 0b1100_0010;

pub(super) struct Raw(pub(super) TcpStream);

impl Raw {
    pub(super) fn open(site: &Site) -> Self {
        let stream = TcpStream::connect(site.broker.address()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(stream)
    }

    pub(super) fn connected(site: &Site, device: &str) -> Self {
        let mut raw = Self::open(site);
        raw.0.write_all(&connect(device, CLEAN_WITH_PASSWORD)).unwrap();
        let (first, body) = raw.packet();
        assert_eq!((first, body[1]), (0x20, 0), "CONNACK with success");
        raw
    }

    /// First byte and body of the next packet.
    pub(super) fn packet(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).unwrap();
        assert!(head[1] < 128, "a short packet");
        let mut body = vec![0; usize::from(head[1])];
        self.0.read_exact(&mut body).unwrap();
        (head[0], body)
    }

    /// Everything until the broker closes; `None`: it does not.
    pub(super) fn rest(mut self) -> Option<Vec<u8>> {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
            Ok(_) | Err(_) => Some(rest),
        }
    }
}

#[test]
fn m11_foreign_topics_system_topics_and_retained_desired_are_refused_and_reach_nobody() {
    let site = site();
    let (hub, device, other) = (site.hub(), site.device("a"), site.device("b"));
    hub.subscribe("fulmar/v1/home/d/+/up/#");
    other.subscribe("fulmar/v1/home/d/b/down/#");
    for topic in [
        "fulmar/v1/home/d/b/up/status",
        "fulmar/v1/home/d/b/down/desired",
        "fulmar/v1/home/d/a/down/desired",
        "fulmar/v1/other/d/a/up/status",
        "fulmar/v1/home/hub/state",
        "$SYS/brokers/0/stats",
        "$share/x/fulmar/v1/home/d/a/up/status",
    ] {
        assert_eq!(device.publish(topic, "forged"), PubAckReason::NotAuthorized, "{topic}");
        assert_eq!(device.retain(topic, "forged"), PubAckReason::NotAuthorized, "{topic} retained");
    }
    // Even under its own topics nothing may be kept.
    assert_eq!(device.retain("fulmar/v1/home/d/a/up/status", "kept"), PubAckReason::NotAuthorized);
    for filter in
        ["fulmar/v1/home/d/b/down/#", "fulmar/v1/home/d/+/down/desired", "#", "$SYS/#", "fulmar/v1/home/d/b/up/#"]
    {
        assert_eq!(device.subscribe(filter), SubscribeReasonCode::NotAuthorized, "{filter}");
    }
    device.publish("fulmar/v1/home/d/a/up/status", "own");
    assert_eq!(
        hub.read(),
        ("fulmar/v1/home/d/a/up/status".to_owned(), "own".to_owned(), false),
        "and nothing before it"
    );
    hub.publish("fulmar/v1/home/d/b/down/cmd", "right");
    assert_eq!(other.read().1, "right");
    assert_eq!(site.broker.counters().publishes_refused, 15);
}

#[test]
fn m12_a_client_id_is_its_user_name_and_a_clone_is_damped() {
    let site = site();
    let victim = site.device("b");
    // A valid device cannot throw another one out by its client id.
    let reason = Peer::open(site.options("b", "a", &secret("a"))).lost();
    assert!(reason.contains("NotAuthorized"), "{reason}");
    assert_eq!(victim.publish("fulmar/v1/home/d/b/up/status", "still here"), PubAckReason::Success);
    // Two with one identity: each takes over from the other, until that is enough.
    let mut last = site.device("a");
    let mut taken = 1;
    let refused = loop {
        let next = Peer::open(site.device_options("a"));
        match next.next() {
            Ok(Packet::ConnAck(_)) => {
                let reason = last.lost();
                assert!(reason.contains("SessionTakenOver") || !reason.is_empty(), "{reason}");
                last = next;
                taken += 1;
            }
            Ok(packet) => panic!("{packet:?}"),
            Err(reason) => break reason,
        }
        assert!(taken <= ARRIVALS_AT_ONCE_MAX * 2, "never damped");
    };
    assert!(refused.contains("NotAuthorized"), "{refused}");
    assert!(taken >= ARRIVALS_AT_ONCE_MAX);
    assert_eq!(site.broker.counters().connects_damped, 1);
    // The one that is in stays in.
    assert_eq!(last.publish("fulmar/v1/home/d/a/up/status", "in"), PubAckReason::Success);
}

#[test]
fn m14_what_is_too_large_for_a_client_of_512_bytes_is_never_sent_to_it() {
    let site = site();
    let hub = site.hub();
    let mut options = site.device_options("a");
    options.set_max_packet_size(Some(512));
    let device = Peer::open(options).connected();
    device.subscribe("fulmar/v1/home/d/a/down/#");
    for bytes in [513, 1_000, 60_000] {
        hub.send("fulmar/v1/home/d/a/down/cmd", vec![b'x'; bytes], false);
    }
    hub.publish("fulmar/v1/home/d/a/down/cmd", "small");
    assert_eq!(device.read().1, "small", "the connection is the same");
    assert_eq!(site.broker.counters().oversize_dropped, 3);
}

#[test]
fn m15_malformed_packets_end_their_own_connection_and_no_other() {
    let site = site();
    let (hub, neighbour) = (site.hub(), site.device("b"));
    hub.subscribe("fulmar/v1/home/d/+/up/#");
    let own = b"fulmar/v1/home/d/a/up/log";
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a remaining length of five bytes (2.1.4)", vec![0x30, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ("QoS 3 (3.3.1.2)", publish(0x36, own, Some(1))),
        ("a topic that is not UTF-8 (1.5.4)", publish(0x30, b"fulmar/v1/home/d/a/up/\xff\xfe", None)),
        ("a topic with a null character (1.5.4)", publish(0x30, b"fulmar/v1/home/d/a/up/l\0g", None)),
        ("a wildcard in a topic (3.3.2.1)", publish(0x30, b"fulmar/v1/home/d/+/up/log", None)),
        ("all wildcards in a topic with an answer", publish(0x32, b"#", Some(1))),
        ("a packet of type 0 (2.1.2)", vec![0x00, 0x00]),
        ("SUBSCRIBE with wrong flags (3.8.1)", packet(0x80, &[0, 1, 0, 0, 1, b'x', 1])),
        ("SUBSCRIBE without a filter (3.8.3)", packet(0x82, &[0, 1, 0])),
        ("a packet id of 0 (2.2.1)", publish(0x32, own, Some(0))),
        ("a second CONNECT (3.1)", connect("a", CLEAN_WITH_PASSWORD)),
        ("a topic longer than its packet", packet(0x30, &[0xff, 0xff, b'x'])),
    ];
    for (what, bytes) in cases {
        let mut raw = Raw::connected(&site, "a");
        raw.0.write_all(&bytes).unwrap();
        let rest = raw.rest().unwrap_or_else(|| panic!("{what}: the connection stays open"));
        // At most a PUBACK or DISCONNECT that says why.
        assert!(rest.is_empty() || matches!(rest[0], 0x40 | 0xe0), "{what}: {rest:?}");
    }
    for (what, bytes) in [
        ("a reserved flag of CONNECT (3.1.2.3)", connect("a", CLEAN_WITH_PASSWORD | 1)),
        ("a protocol of another name (3.1.2.1)", packet(0x10, b"\0\x04MQTX\x05\x02\0\x3c\0\0\x01a")),
        ("no CONNECT first (3.1)", publish(0x30, own, None)),
        ("noise", vec![0xff; 64]),
    ] {
        let mut raw = Raw::open(&site);
        raw.0.write_all(&bytes).unwrap();
        let rest = raw.rest().unwrap_or_else(|| panic!("{what}: the connection stays open"));
        assert!(rest.is_empty() || matches!(rest[0], 0x20 | 0xe0), "{what}: {rest:?}");
        assert!(rest.first() != Some(&0x20) || rest.get(3) != Some(&0), "{what} was let in");
    }
    neighbour.publish("fulmar/v1/home/d/b/up/status", "still here");
    assert_eq!(hub.read().1, "still here", "nothing malformed was delivered");
}
