//! Proves at start, through real connections, that the broker delivers and keeps messages for the hub's account.
//!
//! Mosquitto acknowledges a message that it drops, and some rules let it grant what it never delivers. So what counts is
//! what arrives: a message of the largest size that the hub sends, live on one connection and retained on the next.

use std::time::{Duration, Instant};

use async_channel::Receiver;
use futures_lite::future;
use wire::limits::FRAME_BYTES_MAX;

use super::account::probe_topic;
use crate::broker::Credential;
use crate::mqtt::{ACKNOWLEDGE_TIMEOUT, Endpoint, Link, LinkConfig, LinkEvent, Publication};

/// Longest time for the whole test.
pub const SELF_TEST_DEADLINE: Duration = Duration::from_secs(15);
/// Size of the probe: the largest frame.
pub const SELF_TEST_BYTES: usize = FRAME_BYTES_MAX;
const EVENTS_MAX: usize = 8;

/// One connection of the test, until when it may take, and what it has seen.
struct Probe {
    link: Link,
    events: Receiver<LinkEvent>,
    deadline: Instant,
    wanted: Vec<u8>,
    is_connected: bool,
    is_acknowledged: bool,
    has_heard: bool,
}

pub(super) fn run(endpoint: &Endpoint, hub: &Credential, fleet: &str) -> Result<(), String> {
    let name = Credential::random("").map_err(|error| error.to_string())?.password;
    let topic = probe_topic(fleet, name.get(..16).unwrap_or(&name));
    let deadline = Instant::now() + SELF_TEST_DEADLINE;
    let wanted: Vec<u8> = name.bytes().cycle().take(SELF_TEST_BYTES).collect();
    let mut first = Probe::connect(endpoint, hub, &topic, &wanted, deadline)?;
    first.publish(&topic, wanted.clone())?;
    first.until("a message did not come back to its subscriber", |seen| seen.has_heard)?;
    drop(first);
    let mut second = Probe::connect(endpoint, hub, &topic, &wanted, deadline)?;
    let kept = second.until("a retained message was not delivered on the next connection", |seen| seen.has_heard);
    // Also if it was not: nothing is to stay behind.
    second.deadline += SELF_TEST_DEADLINE;
    second.publish(&topic, Vec::new())?;
    kept
}

impl Probe {
    /// Returns when it is connected and subscribed.
    fn connect(
        endpoint: &Endpoint,
        hub: &Credential,
        topic: &str,
        wanted: &[u8],
        deadline: Instant,
    ) -> Result<Self, String> {
        let config = LinkConfig {
            endpoint: endpoint.clone(),
            client_id: hub.user.clone(),
            credential: hub.clone(),
            subscriptions: vec![topic.to_owned()],
            acknowledge_timeout: ACKNOWLEDGE_TIMEOUT,
            session_s: None,
        };
        let (sender, events) = async_channel::bounded(EVENTS_MAX);
        let link = Link::start(config, sender).map_err(|error| error.to_string())?;
        let (wanted, is_connected) = (wanted.to_vec(), false);
        let mut probe = Self { link, events, deadline, wanted, is_connected, is_acknowledged: false, has_heard: false };
        probe.until("no connection for messages came to be", |seen| seen.is_connected)?;
        Ok(probe)
    }

    fn publish(&mut self, topic: &str, payload: Vec<u8>) -> Result<(), String> {
        let publication = Publication { topic: topic.to_owned(), payload, retain: true, qos1: true, ticket: 1 };
        self.is_acknowledged = false;
        self.link.publish(publication).map_err(|error| error.to_string())?;
        self.until("a publication was not acknowledged", |seen| seen.is_acknowledged)
    }

    /// Takes events in until it is so.
    fn until(&mut self, otherwise: &str, is_so: impl Fn(&Self) -> bool) -> Result<(), String> {
        while !is_so(self) {
            let event = async { self.events.recv().await.map_err(|_| "the connection's thread ended".to_owned()) };
            let late = async {
                smol::Timer::at(self.deadline).await;
                Err(format!("{otherwise} within {} s", SELF_TEST_DEADLINE.as_secs()))
            };
            match smol::block_on(future::or(event, late))? {
                LinkEvent::Connected { .. } => self.is_connected = true,
                LinkEvent::Acknowledged { .. } => self.is_acknowledged = true,
                LinkEvent::Message { payload, .. } => self.has_heard |= payload == self.wanted,
                LinkEvent::Refused { reason, .. } => return Err(format!("a publication was refused: {reason}")),
                // Before the connection another attempt may help; afterwards a publication may be gone with it.
                LinkEvent::Disconnected { reason, refusal } if refusal.is_some() || self.is_connected => {
                    return Err(format!("the connection for messages was lost: {reason}"));
                }
                LinkEvent::Disconnected { .. } => {}
            }
        }
        Ok(())
    }
}
