//! What a broker must be able to do, read from its CONNACK on every connection.
//!
//! A broker that lacks something of this looks healthy while messages vanish, so that none is used at all. What CONNACK
//! does not say is there (MQTT 5, 3.2.2.3).

use std::fmt;

use rumqttc::v5::mqttbytes::v5::ConnAck;

use super::PACKET_BYTES_MAX;
use wire::limits::FRAME_BYTES_MAX;

/// Largest packet that hub and devices send each other: a frame, with room for topic and properties.
pub const BROKER_PACKET_BYTES_MIN: u32 = FRAME_BYTES_MAX as u32 + 1024;
/// Publications that the broker must take before it has acknowledged the first.
pub const BROKER_RECEIVE_MIN: u16 = 8;
/// A session must outlive its connection for so long, or the will of a device that vanished is never delayed.
pub const BROKER_SESSION_MIN_S: u32 = 1;

const _: () = assert!(BROKER_PACKET_BYTES_MIN <= PACKET_BYTES_MAX);

/// Something that a broker cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Keeps no retained messages.
    Retain,
    /// Delivers at most once.
    Qos1,
    /// Knows no wildcards in filters.
    Wildcards,
    /// Packets up to this many bytes only.
    PacketBytes(u32),
    /// So many unacknowledged publications only.
    Receive(u16),
    /// Ends sessions after so many seconds.
    SessionExpiry(u32),
}

impl fmt::Display for Lack {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retain => write!(
                formatter,
                "it keeps no retained messages (Retain Available 0), which carry what devices are to run"
            ),
            Self::Qos1 => write!(formatter, "it has no QoS 1 (Maximum QoS 0), so that nothing is acknowledged"),
            Self::Wildcards => {
                write!(
                    formatter,
                    "it has no wildcards (Wildcard Subscription Available 0), with which the hub hears all devices"
                )
            }
            Self::PacketBytes(bytes) => write!(
                formatter,
                "it takes packets of {bytes} bytes at most (Maximum Packet Size), and {BROKER_PACKET_BYTES_MIN} are needed"
            ),
            Self::Receive(messages) => write!(
                formatter,
                "it takes {messages} unacknowledged messages at most (Receive Maximum), and {BROKER_RECEIVE_MIN} are needed"
            ),
            Self::SessionExpiry(seconds) => write!(
                formatter,
                "it ends sessions after {seconds} s (Session Expiry Interval), and {BROKER_SESSION_MIN_S} s is needed for delayed wills"
            ),
        }
    }
}

/// Everything that this broker cannot do.
pub(super) fn lacking(ack: &ConnAck) -> Vec<Lack> {
    let Some(said) = &ack.properties else { return Vec::new() };
    let is_off = |flag: Option<u8>| flag == Some(0);
    [
        is_off(said.retain_available).then_some(Lack::Retain),
        is_off(said.max_qos).then_some(Lack::Qos1),
        is_off(said.wildcard_subscription_available).then_some(Lack::Wildcards),
        said.max_packet_size.filter(|bytes| *bytes < BROKER_PACKET_BYTES_MIN).map(Lack::PacketBytes),
        said.receive_max.filter(|messages| *messages < BROKER_RECEIVE_MIN).map(Lack::Receive),
        said.session_expiry_interval.filter(|seconds| *seconds < BROKER_SESSION_MIN_S).map(Lack::SessionExpiry),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::broker::Credential;
    use crate::mqtt::{ACKNOWLEDGE_TIMEOUT, Endpoint, Link, LinkConfig, LinkEvent, Refusal};

    /// What a link says of a broker whose CONNACK has these properties.
    fn judged(properties: &[u8]) -> LinkEvent {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::plain(listener.local_addr().unwrap());
        let length = u8::try_from(properties.len()).unwrap();
        let ack = [&[0x20, length + 3, 0, 0, length], properties].concat();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut connect = [0; 256];
            assert_ne!(stream.read(&mut connect).unwrap(), 0);
            stream.write_all(&ack).unwrap();
            // Until the client goes.
            while stream.read(&mut connect).is_ok_and(|count| count > 0) {}
        });
        let credential = Credential { user: "hub".to_owned(), password: "x".to_owned() };
        let (events, seen) = async_channel::bounded(1);
        let client_id = "hub".to_owned();
        let config = LinkConfig {
            endpoint,
            client_id,
            credential,
            subscriptions: Vec::new(),
            session_s: None,
            acknowledge_timeout: ACKNOWLEDGE_TIMEOUT,
        };
        let _link = Link::start(config, events).unwrap();
        seen.recv_blocking().unwrap()
    }

    #[test]
    fn a_broker_that_lacks_something_is_not_used_and_what_it_lacks_is_said() {
        let rows: [(&[u8], Lack, &str); 6] = [
            (&[0x25, 0], Lack::Retain, "Retain Available 0"),
            (&[0x24, 0], Lack::Qos1, "Maximum QoS 0"),
            (&[0x28, 0], Lack::Wildcards, "Wildcard Subscription Available 0"),
            (&[0x27, 0, 0, 4, 0], Lack::PacketBytes(1024), "1024 bytes"),
            (&[0x21, 0, 7], Lack::Receive(7), "7 unacknowledged"),
            (&[0x11, 0, 0, 0, 0], Lack::SessionExpiry(0), "after 0 s"),
        ];
        for (properties, lack, said) in rows {
            let LinkEvent::Disconnected { reason, refusal } = judged(properties) else {
                panic!("used without {lack:?}")
            };
            assert_eq!(refusal, Some(Refusal::Lacks(vec![lack])));
            assert!(reason.contains(said), "{reason}");
        }
        let two = judged(&[0x25, 0, 0x24, 0]);
        let all = Some(Refusal::Lacks(vec![Lack::Retain, Lack::Qos1]));
        assert!(matches!(&two, LinkEvent::Disconnected { refusal, .. } if *refusal == all), "{two:?}");
    }

    #[test]
    fn a_broker_that_just_has_everything_is_used() {
        let [_, a, b, c] = BROKER_PACKET_BYTES_MIN.to_be_bytes();
        let enough = [0x24, 1, 0x25, 1, 0x28, 1, 0x27, 0, a, b, c, 0x21, 0, 8, 0x11, 0, 0, 0, 1];
        for properties in [enough.as_slice(), &[]] {
            assert_eq!(judged(properties), LinkEvent::Connected { session_present: false });
        }
    }
}
