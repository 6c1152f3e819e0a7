//! The broker's limits at their value and one beyond.

use std::io::Write;

use super::faults::{CLEAN_WITH_PASSWORD, Raw, connect, packet};
use super::*;

/// A PUBLISH (MQTT 5, 3.3) of QoS 0 that has exactly so many bytes after its fixed header.
fn publish_of(topic: &str, bytes: usize) -> Vec<u8> {
    let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
    body.extend(topic.as_bytes());
    body.push(0);
    body.resize(bytes, b'x');
    assert!((128..16_384).contains(&bytes), "a length of two bytes");
    let length = [u8::try_from(bytes % 128).unwrap() | 0x80, u8::try_from(bytes / 128).unwrap()];
    [&[0x30], &length[..], &body].concat()
}

/// A SUBSCRIBE (MQTT 5, 3.8) to one filter with QoS 1.
fn subscribe_to(filter: &str) -> Vec<u8> {
    let mut body = vec![0, 1, 0];
    body.extend(u16::try_from(filter.len()).unwrap().to_be_bytes());
    body.extend(filter.as_bytes());
    body.push(1);
    packet(0x82, &body)
}

#[test]
fn a_packet_of_the_largest_size_is_taken_and_one_byte_more_ends_its_sender() {
    let mut config = config();
    config.limits.packet_bytes_max = 2_000;
    let site = site_with(config);
    let hub = site.hub();
    hub.subscribe("fulmar/v1/home/d/+/up/#");
    let topic = "fulmar/v1/home/d/a/up/status";
    let mut raw = Raw::connected(&site, "a");
    raw.0.write_all(&publish_of(topic, 2_000)).unwrap();
    assert_eq!(hub.message().payload.len(), 2_000 - topic.len() - 3);
    raw.0.write_all(&publish_of(topic, 2_001)).unwrap();
    assert!(raw.rest().is_some(), "its connection ends");
    site.device("b").publish("fulmar/v1/home/d/b/up/status", "b");
    assert_eq!(hub.read().1, "b", "and nothing came before it");
    assert_eq!(BrokerLimits::default().packet_bytes_max, PACKET_BYTES_MAX);
}

#[test]
fn a_device_that_acknowledges_nothing_is_sent_so_many_messages() {
    let site = site();
    let hub = site.hub();
    let mut raw = Raw::connected(&site, "a");
    raw.0.write_all(&subscribe_to("fulmar/v1/home/d/a/down/#")).unwrap();
    assert_eq!(raw.packet().0, 0x90, "SUBACK");
    let count = CLIENT_INFLIGHT_MAX.get();
    for number in 0..=count {
        hub.publish("fulmar/v1/home/d/a/down/cmd", &number.to_string());
    }
    let mut ids = Vec::new();
    for _ in 0..count {
        let (first, body) = raw.packet();
        assert_eq!(first & 0xf0, 0x30);
        let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
        ids.push([body[2 + topic], body[3 + topic]]);
    }
    raw.0.write_all(&[0xc0, 0]).unwrap();
    assert_eq!(raw.packet().0, 0xd0, "PINGRESP, and no message before it");
    raw.0.write_all(&[&[0x40, 2], &ids[0][..]].concat()).unwrap();
    assert_eq!(raw.packet().0 & 0xf0, 0x30, "one acknowledged, one sent");
    assert_eq!(BrokerLimits::default().client_inflight_max, CLIENT_INFLIGHT_MAX);
}

#[test]
fn a_queue_holds_exactly_its_limit_and_the_oldest_goes() {
    for (sent, first, dropped) in [(10, "0", 0), (11, "1", 1)] {
        let mut config = config();
        config.limits.client_queue_messages_max = 10;
        let site = site_with(config);
        let hub = site.hub();
        // The hub hears by the will that the broker knows of the end.
        hub.subscribe("fulmar/v1/home/d/a/up/will");
        let mut options = with_will(&site, "a", 0);
        options.set_session_expiry_interval(Some(60)).set_clean_start(false);
        let device = Peer::open(options.clone()).connected();
        device.subscribe("fulmar/v1/home/d/a/down/#");
        device.cut();
        hub.message();
        for number in 0..sent {
            hub.publish("fulmar/v1/home/d/a/down/cmd", &number.to_string());
        }
        let device = Peer::open(options);
        assert!(device.connack().session_present);
        assert_eq!((device.read().1.as_str(), site.broker.counters().queue_dropped), (first, dropped), "{sent} sent");
    }
    assert_eq!(BrokerLimits::default().client_queue_messages_max, CLIENT_QUEUE_MESSAGES_MAX);
}

/// How the library refuses a subscription that is one too many, or too deep (MQTT 5, 3.9.3).
const REFUSED: SubscribeReasonCode = SubscribeReasonCode::Unspecified;

#[test]
fn a_client_has_so_many_subscriptions() {
    let site = site();
    let device = site.device("a");
    for number in 0..SUBSCRIPTIONS_MAX {
        assert_eq!(device.subscribe(&format!("fulmar/v1/home/d/a/down/{number}")), granted(), "{number}");
    }
    assert_eq!(device.subscribe("fulmar/v1/home/d/a/down/more"), REFUSED);
    assert_eq!(device.publish("fulmar/v1/home/d/a/up/status", "still here"), PubAckReason::Success);
}

#[test]
fn a_filter_has_so_many_levels() {
    let site = site();
    let device = site.device("a");
    let filter = |levels: usize| format!("fulmar/v1/home/d/a/down{}", "/x".repeat(levels - 6));
    let levels = [TOPIC_LEVELS_MAX - 1, TOPIC_LEVELS_MAX, TOPIC_LEVELS_MAX + 1];
    assert_eq!(levels.map(|levels| device.subscribe(&filter(levels))), [granted(), granted(), REFUSED]);
    assert_eq!(device.publish("fulmar/v1/home/d/a/up/status", "still here"), PubAckReason::Success);
}

#[test]
fn a_session_is_kept_for_no_longer_than_the_limit() {
    let site = site();
    let limit = u32::try_from(SESSION_EXPIRY_MAX.as_secs()).unwrap();
    for (asked, expected) in [(limit - 1, limit - 1), (limit, limit), (limit + 1, limit), (u32::MAX, limit)] {
        let mut options = site.device_options("a");
        options.set_session_expiry_interval(Some(asked));
        let given = Peer::open(options).connack().properties.and_then(|given| given.session_expiry_interval);
        assert_eq!(given.unwrap_or(asked), expected, "{asked}");
    }
}

#[test]
fn who_does_not_finish_its_connect_in_time_is_cut_and_holds_up_nobody() {
    let mut config = config();
    config.limits.handshake_timeout = Duration::from_secs(1);
    let site = site_with(config);
    let slow = |_| {
        let mut raw = Raw::open(&site);
        // All but the last byte.
        let whole = connect("b", CLEAN_WITH_PASSWORD);
        raw.0.write_all(&whole[..whole.len() - 1]).unwrap();
        raw
    };
    let slow: Vec<Raw> = (0..50).map(slow).collect();
    let hub = site.hub();
    hub.subscribe("fulmar/v1/home/d/a/up/status");
    site.device("a").publish("fulmar/v1/home/d/a/up/status", "served");
    assert_eq!(hub.read().1, "served");
    for raw in slow {
        assert!(raw.rest().is_some(), "still connected");
    }
    assert_eq!(BrokerLimits::default().handshake_timeout, HANDSHAKE_TIMEOUT);
}
