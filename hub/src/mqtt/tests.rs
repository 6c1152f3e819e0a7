//! The link against a real broker: order, acknowledgements, loss and back-pressure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Instant;

use async_compat::Compat;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use sha2::{Digest, Sha256};

use super::*;
use crate::broker::{AccessTable, Broker, BrokerConfig, RetainedLimits};

const DEADLINE: Duration = Duration::from_secs(30);
const UP: &str = "fulmar/v1/home/d/+/up/#";

struct Site {
    broker: Broker,
    table: Arc<AccessTable>,
}

fn site() -> Site {
    site_with(BrokerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0))))
}

fn site_with(config: BrokerConfig) -> Site {
    let table = Arc::new(AccessTable::new("home").unwrap());
    Site { broker: Broker::start(config, table.clone()).unwrap(), table }
}

impl Site {
    fn config(&self, subscriptions: &[&str]) -> LinkConfig {
        LinkConfig {
            endpoint: Endpoint::plain(self.broker.address()),
            client_id: "hub".to_owned(),
            credential: self.table.hub_credential(),
            subscriptions: subscriptions.iter().map(|&filter| filter.to_owned()).collect(),
            acknowledge_timeout: ACKNOWLEDGE_TIMEOUT,
            session_s: None,
        }
    }

    fn link(&self, subscriptions: &[&str], events_max: usize) -> (Link, Events) {
        let (events, received) = async_channel::bounded(events_max);
        (Link::start(self.config(subscriptions), events).unwrap(), Events(received))
    }

    /// A device that publishes `count` messages with QoS 1 and ends when all are acknowledged.
    fn burst(&self, device: &str, count: u32) -> thread::JoinHandle<()> {
        self.table.device_put(device, Sha256::digest("pw").into()).unwrap();
        let mut options = MqttOptions::new(device, "127.0.0.1", self.broker.address().port());
        options.set_credentials(device, "pw");
        let topic = format!("fulmar/v1/home/d/{device}/up/event");
        thread::spawn(move || {
            let (client, mut event_loop) = AsyncClient::new(options, usize::try_from(count).unwrap() + 1);
            for number in 0..count {
                client.try_publish(&topic, QoS::AtLeastOnce, false, number.to_string()).unwrap();
            }
            let acknowledged = async {
                let mut left = count;
                while left > 0 {
                    if let Event::Incoming(Packet::PubAck(_)) = event_loop.poll().await.unwrap() {
                        left -= 1;
                    }
                }
            };
            smol::block_on(Compat::new(acknowledged));
        })
    }
}

struct Events(async_channel::Receiver<LinkEvent>);

impl Events {
    fn next(&self) -> LinkEvent {
        let received = async { self.0.recv().await.expect("the link ended") };
        let late = async {
            smol::Timer::after(DEADLINE).await;
            panic!("no event in time")
        };
        smol::block_on(futures_lite::future::or(received, late))
    }

    fn until<T>(&self, mut wanted: impl FnMut(LinkEvent) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = wanted(self.next()) {
                return found;
            }
            assert!(Instant::now() < deadline, "not seen in time");
        }
    }

    fn connected(&self) -> bool {
        self.until(
            |event| if let LinkEvent::Connected { session_present } = event { Some(session_present) } else { None },
        )
    }

    fn disconnected(&self) -> String {
        self.until(|event| if let LinkEvent::Disconnected { reason, .. } = event { Some(reason) } else { None })
    }
}

fn publication(topic: &str, payload: &[u8], ticket: u64) -> Publication {
    Publication { topic: topic.to_owned(), payload: payload.to_vec(), retain: false, qos1: true, ticket }
}

#[test]
fn every_ticket_is_acknowledged_once_and_its_message_delivered_in_order() {
    let site = site();
    let (link, events) = site.link(&["echo/#"], 64);
    assert!(!events.connected());
    let mut tickets: HashSet<u64> = (0..2_000).collect();
    for ticket in 0..2_000 {
        let mut publication = publication("echo/x", ticket.to_string().as_bytes(), ticket);
        // Every third without an acknowledgement: they must not shift the tickets of the others.
        publication.qos1 = !ticket.is_multiple_of(3);
        if !publication.qos1 {
            tickets.remove(&ticket);
        }
        link.publish(publication).unwrap();
    }
    let mut received = 0u64;
    while !tickets.is_empty() || received < 2_000 {
        match events.next() {
            LinkEvent::Acknowledged { ticket } => assert!(tickets.remove(&ticket), "{ticket} twice or never sent"),
            LinkEvent::Message { payload, qos1, retained, .. } => {
                assert_eq!(payload, received.to_string().as_bytes());
                assert_eq!((qos1, retained), (!received.is_multiple_of(3), false));
                received += 1;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_burst_of_the_fleet_arrives_whole_through_a_narrow_channel() {
    let site = site();
    let (_link, events) = site.link(&[UP], 4);
    events.connected();
    let devices: Vec<_> = (0..20).map(|device| site.burst(&format!("d{device}"), 100)).collect();
    let mut seen = HashSet::new();
    while seen.len() < 2_000 {
        if let LinkEvent::Message { topic, payload, .. } = events.next() {
            assert!(seen.insert((topic, payload)), "twice");
        }
    }
    for device in devices {
        device.join().unwrap();
    }
    assert_eq!(site.broker.counters().queue_dropped, 0);
}

#[test]
fn an_owner_that_publishes_without_reading_gets_its_publications_back_and_nothing_hangs() {
    let site = site();
    let (link, events) = site.link(&["echo"], 1);
    events.connected();
    // Nobody reads events: the queue must fill up instead of blocking the publisher.
    let mut accepted = 0u64;
    let refused = loop {
        match link.publish(publication("echo", &[0; 64], accepted)) {
            Ok(()) => accepted += 1,
            Err(refused) => break refused,
        }
        assert!(accepted < 1_000_000, "the queue has no end");
    };
    assert!(matches!(refused, PublishError::Full(publication) if publication.ticket == accepted));
    let (mut acknowledged, mut echoed) = (0, 0);
    while acknowledged < accepted || echoed < accepted {
        match events.next() {
            LinkEvent::Acknowledged { .. } => acknowledged += 1,
            LinkEvent::Message { .. } => echoed += 1,
            other => panic!("{other:?}"),
        }
    }
}

/// Publishes to the link's own subscription and waits for both the message and its acknowledgement.
fn echo(link: &Link, events: &Events, ticket: u64) {
    link.publish(publication("echo", &ticket.to_be_bytes(), ticket)).unwrap();
    let (mut acknowledged, mut echoed) = (false, false);
    while !acknowledged || !echoed {
        match events.next() {
            LinkEvent::Acknowledged { ticket: seen } => acknowledged |= seen == ticket,
            LinkEvent::Message { payload, .. } => echoed |= payload == ticket.to_be_bytes(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_link_that_was_cut_comes_back_subscribed() {
    let site = site();
    let (link, events) = site.link(&[UP, "echo"], 64);
    for round in 0..3 {
        assert!(!events.connected());
        echo(&link, &events, round);
        site.broker.kick("hub");
        events.disconnected();
    }
}

#[test]
fn after_a_restart_of_the_broker_the_link_is_back_and_subscribed() {
    let site = site();
    let address = site.broker.address();
    let (link, events) = site.link(&[UP, "echo"], 64);
    events.connected();
    echo(&link, &events, 1);
    let Site { broker, table } = site;
    broker.stop().unwrap();
    events.disconnected();
    assert!(matches!(link.publish(publication("echo", b"x", 9)), Err(PublishError::Offline(_))));
    let _broker = Broker::start(BrokerConfig::new(address), table).unwrap();
    assert!(!events.connected());
    echo(&link, &events, 2);
}

#[test]
fn a_ticket_lost_with_its_connection_is_never_acknowledged_later() {
    let site = site();
    let address = site.broker.address();
    let (link, events) = site.link(&[], 1);
    events.connected();
    // Nobody reads: the acknowledgements stay unread in the connection that is about to be cut.
    for ticket in 0..4_000 {
        link.publish(publication("x", &[0; 512], ticket)).unwrap();
    }
    let Site { broker, table } = site;
    broker.stop().unwrap();
    let _broker = Broker::start(BrokerConfig::new(address), table).unwrap();
    let mut acknowledged = HashSet::new();
    let mut next = || loop {
        match events.next() {
            LinkEvent::Acknowledged { ticket } => assert!(acknowledged.insert(ticket)),
            other => return other,
        }
    };
    assert!(matches!(next(), LinkEvent::Disconnected { .. }));
    loop {
        match next() {
            LinkEvent::Disconnected { .. } => {}
            LinkEvent::Connected { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    link.publish(publication("x", b"new", 9_999)).unwrap();
    assert_eq!(events.next(), LinkEvent::Acknowledged { ticket: 9_999 }, "nothing of the old connection");
}

#[test]
fn large_messages_pass_and_impossible_ones_are_handed_back() {
    let site = site();
    let (link, events) = site.link(&["echo/#"], 8);
    events.connected();
    let payload_max = PUBLICATION_BYTES_MAX - "echo/x".len();
    link.publish(publication("echo/x", &vec![7; payload_max], 1)).unwrap();
    let length =
        events.until(|event| if let LinkEvent::Message { payload, .. } = event { Some(payload.len()) } else { None });
    assert_eq!(length, payload_max);
    for (topic, bytes) in [("echo/x", payload_max + 1), ("echo/#", 1), ("echo/+/x", 1), ("", 1), ("a\0b", 1)] {
        let refused = link.publish(publication(topic, &vec![0; bytes], 2)).unwrap_err();
        assert!(matches!(refused, PublishError::Invalid(_)), "{topic:?}");
    }
    link.publish(publication("echo/x", b"still connected", 3)).unwrap();
    events.until(|event| matches!(event, LinkEvent::Acknowledged { ticket: 3 }).then_some(()));
}

#[test]
fn a_refused_publication_names_its_ticket_and_is_not_acknowledged() {
    let mut config = BrokerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.limits.retained = RetainedLimits { messages_max: 1, bytes_max: 100 };
    let site = site_with(config);
    let (link, events) = site.link(&[], 8);
    events.connected();
    for (ticket, topic) in [(1, "a"), (2, "b"), (3, "a")] {
        link.publish(Publication { retain: true, ..publication(topic, b"x", ticket) }).unwrap();
    }
    assert_eq!(events.next(), LinkEvent::Acknowledged { ticket: 1 });
    assert_eq!(events.next(), LinkEvent::Refused { ticket: 2, reason: "QuotaExceeded".to_owned() });
    assert_eq!(events.next(), LinkEvent::Acknowledged { ticket: 3 });
}

#[test]
fn retained_messages_are_told_apart_from_live_ones() {
    let site = site();
    let (link, events) = site.link(&[], 8);
    events.connected();
    link.publish(Publication { retain: true, ..publication("state", b"stored", 1) }).unwrap();
    events.until(|event| matches!(event, LinkEvent::Acknowledged { .. }).then_some(()));
    link.stop();
    let (link, events) = site.link(&["state"], 8);
    let mut message = None;
    let mut connected = false;
    while message.is_none() || !connected {
        match events.next() {
            LinkEvent::Connected { .. } => connected = true,
            LinkEvent::Message { payload, retained, .. } => message = Some((payload, retained)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(message, Some((b"stored".to_vec(), true)));
    link.publish(publication("state", b"live", 2)).unwrap();
    let live = events.until(|event| {
        if let LinkEvent::Message { payload, retained, .. } = event { Some((payload, retained)) } else { None }
    });
    assert_eq!(live, (b"live".to_vec(), false));
}

#[test]
fn a_link_that_is_not_let_in_says_why_and_goes_on_trying() {
    let site = site();
    let mut config = site.config(&[]);
    config.credential.password = "wrong".to_owned();
    let (events, received) = async_channel::bounded(1);
    let link = Link::start(config, events).unwrap();
    let events = Events(received);
    for _ in 0..2 {
        let event = events.next();
        assert!(matches!(&event, LinkEvent::Disconnected { refusal: Some(Refusal::NotAuthorized), .. }), "{event:?}");
    }
    assert!(matches!(link.publish(publication("x", b"", 1)), Err(PublishError::Offline(_))));
    let began = Instant::now();
    link.stop();
    assert!(began.elapsed() < STOP_DEADLINE, "stopping does not wait for the pause or for a reader");
}

#[test]
fn a_refused_subscription_is_not_reported_as_connected() {
    let site = site();
    site.table.device_put("a", Sha256::digest("pw").into()).unwrap();
    let mut config = site.config(&["fulmar/v1/home/d/a/down/#", "fulmar/v1/home/d/b/down/#"]);
    config.client_id = "a".to_owned();
    config.credential = Credential { user: "a".to_owned(), password: "pw".to_owned() };
    let (events, received) = async_channel::bounded(8);
    let _link = Link::start(config, events).unwrap();
    match Events(received).next() {
        LinkEvent::Disconnected { reason, .. } => assert!(reason.contains("d/b/down/#"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

/// Takes one connection, lets the client in, and then reads without ever answering.
fn deaf_broker() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut bytes) = (stream.unwrap(), [0; 4096]);
            if stream.read(&mut bytes).is_ok_and(|read| read > 0) {
                let connack = [0x20, 3, 0, 0, 0];
                stream.write_all(&connack).unwrap();
            }
            while stream.read(&mut bytes).is_ok_and(|read| read > 0) {}
        }
    });
    address
}

#[test]
fn a_broker_that_acknowledges_nothing_is_left() {
    let site = site();
    let mut config = site.config(&[]);
    config.endpoint = Endpoint::plain(deaf_broker());
    config.acknowledge_timeout = Duration::from_millis(200);
    let (events, received) = async_channel::bounded(8);
    let link = Link::start(config, events).unwrap();
    let events = Events(received);
    events.connected();
    link.publish(publication("x", b"", 1)).unwrap();
    let reason = events.disconnected();
    assert!(reason.contains("did not acknowledge"), "{reason}");
}

#[test]
fn acknowledgements_that_the_owner_does_not_take_are_not_the_broker_s_fault() {
    let site = site();
    let mut config = site.config(&[]);
    config.acknowledge_timeout = Duration::from_millis(200);
    let (events, received) = async_channel::bounded(1);
    let link = Link::start(config, events).unwrap();
    let events = Events(received);
    events.connected();
    for ticket in 0..20 {
        link.publish(publication("x", b"", ticket)).unwrap();
    }
    // Longer than the broker may take: the first acknowledgement fills the channel, the others stay unread.
    let long = Instant::now() + Duration::from_millis(600);
    wait_until(long);
    for ticket in 0..20 {
        assert_eq!(events.next(), LinkEvent::Acknowledged { ticket });
    }
}

/// Time itself is what the test is about.
fn wait_until(at: Instant) {
    smol::block_on(smol::Timer::at(at));
}
