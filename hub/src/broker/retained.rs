//! The retained messages of the embedded broker, in memory and within limits of our own.
//!
//! The library's default store drops retained messages and its expiry loses them; a device that comes back after a
//! year must still find its desired state. So this store never expires anything, not even a message that carries an
//! expiry, and it never evicts: when it is full, the publisher is told.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use rmqtt::codec::types::Publish as PublishPacket;
use rmqtt::retain::RetainStorage;
use rmqtt::types::{ClientId, From, Id, Publish, QoS, Retain, TopicFilter, TopicName};
use rmqtt::utils::timestamp_millis;

use super::counters::{Counters, raise};

/// Who sent what was there before anybody connected; no client can have a name with a dot.
const SENDER: &str = "hub.start";

/// How much the store may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetainedLimits {
    /// Number of messages.
    pub messages_max: usize,
    /// Sum of topic and payload bytes.
    pub bytes_max: usize,
}

/// A map from topic to retained message; generic so that its rules can be tested with plain values.
#[derive(Debug)]
struct Shelf<M> {
    limits: RetainedLimits,
    bytes: usize,
    messages: BTreeMap<String, (usize, M)>,
}

impl<M: Clone> Shelf<M> {
    fn new(limits: RetainedLimits) -> Self {
        Self { limits, bytes: 0, messages: BTreeMap::new() }
    }

    /// Whether a message of this size may replace what its topic holds now.
    fn has_room(&self, topic: &str, payload_bytes: usize) -> bool {
        if payload_bytes == 0 {
            return true;
        }
        let held = self.messages.get(topic).map_or(0, |(bytes, _)| *bytes);
        let wanted = topic.len().saturating_add(payload_bytes);
        let bytes_ok = (self.bytes - held).saturating_add(wanted) <= self.limits.bytes_max;
        let count_ok = held > 0 || self.messages.len() < self.limits.messages_max;
        bytes_ok && count_ok
    }

    /// Stores, replaces or (empty payload) clears; `false` when there is no room.
    fn put(&mut self, topic: &str, payload_bytes: usize, message: M) -> bool {
        if !self.has_room(topic, payload_bytes) {
            return false;
        }
        if let Some((bytes, _)) = self.messages.remove(topic) {
            self.bytes -= bytes;
        }
        if payload_bytes > 0 {
            let bytes = topic.len() + payload_bytes;
            self.bytes += bytes;
            self.messages.insert(topic.to_owned(), (bytes, message));
        }
        true
    }

    fn matching(&self, filter: &str) -> Vec<(String, M)> {
        let Some((literal, _)) = filter.split_once(['+', '#']) else {
            let exact = self.messages.get(filter).map(|(_, message)| (filter.to_owned(), message.clone()));
            return exact.into_iter().collect();
        };
        // `a/#` also means `a`: the separator before the wildcard is not part of the common prefix.
        let literal = literal.strip_suffix('/').unwrap_or(literal);
        self.messages
            .range(literal.to_owned()..)
            .take_while(|(topic, _)| topic.starts_with(literal))
            .filter(|(topic, _)| filter_matches(filter, topic))
            .map(|(topic, (_, message))| (topic.clone(), message.clone()))
            .collect()
    }
}

/// MQTT 5, section 4.7: does `filter` select `topic`?
fn filter_matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for part in filter.split('/') {
        match (part, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (literal, Some(level)) if literal == level => {}
            (_, Some(_) | None) => return false,
        }
    }
    levels.next().is_none()
}

/// The store behind the library's trait. Clones share the same shelf.
#[derive(Clone)]
pub(super) struct RetainedStore {
    shelf: Arc<RwLock<Shelf<Retain>>>,
    counters: Arc<Counters>,
}

impl RetainedStore {
    pub(super) fn new(limits: RetainedLimits, counters: Arc<Counters>) -> Self {
        Self { shelf: Arc::new(RwLock::new(Shelf::new(limits))), counters }
    }

    /// Asked before a retained publish is accepted, so that its sender gets "quota exceeded".
    pub(super) fn has_room(&self, topic: &str, payload_bytes: usize) -> bool {
        self.shelf.read().unwrap_or_else(PoisonError::into_inner).has_room(topic, payload_bytes)
    }

    /// Stores these in their order, up to the first that has no room.
    pub(super) fn fill(&self, messages: Vec<(String, Vec<u8>)>) {
        let mut shelf = self.shelf.write().unwrap_or_else(PoisonError::into_inner);
        let now_ms = timestamp_millis();
        for (topic, payload) in messages {
            let payload_bytes = payload.len();
            let packet = PublishPacket {
                dup: false,
                retain: true,
                qos: QoS::AtLeastOnce,
                topic: topic.as_str().into(),
                packet_id: None,
                payload: payload.into(),
                properties: None,
            };
            let from = From::from_system(Id::from(0, ClientId::from_static(SENDER)));
            let publish = Publish::from(packet).create_time(now_ms);
            if !shelf.put(&topic, payload_bytes, Retain { msg_id: None, from, publish }) {
                tracing::warn!(topic, "what the database would have the broker hold does not fit into it");
                return;
            }
        }
    }

    /// Number of messages and of bytes held.
    pub(super) fn held(&self) -> (usize, usize) {
        let shelf = self.shelf.read().unwrap_or_else(PoisonError::into_inner);
        (shelf.messages.len(), shelf.bytes)
    }
}

#[async_trait]
impl RetainStorage for RetainedStore {
    fn enable(&self) -> bool {
        true
    }

    fn need_sync(&self) -> bool {
        false
    }

    async fn set(&self, topic: &TopicName, retain: Retain, _expiry: Option<Duration>) -> rmqtt::Result<()> {
        let payload_bytes = retain.publish.payload.len();
        let stored = self.shelf.write().unwrap_or_else(PoisonError::into_inner).put(topic, payload_bytes, retain);
        if !stored {
            // Only a race of two publishers gets here; an error would cut the publisher's connection.
            raise(&self.counters.retained_refused);
        }
        Ok(())
    }

    async fn get(&self, filter: &TopicFilter) -> rmqtt::Result<Vec<(TopicName, Retain)>> {
        let found = self.shelf.read().unwrap_or_else(PoisonError::into_inner).matching(filter);
        Ok(found.into_iter().map(|(topic, retain)| (TopicName::from(topic), retain)).collect())
    }

    async fn count(&self) -> isize {
        isize::try_from(self.held().0).unwrap_or(isize::MAX)
    }

    async fn max(&self) -> isize {
        self.count().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf(messages_max: usize, bytes_max: usize) -> Shelf<u32> {
        Shelf::new(RetainedLimits { messages_max, bytes_max })
    }

    fn topics(shelf: &Shelf<u32>, filter: &str) -> Vec<String> {
        shelf.matching(filter).into_iter().map(|(topic, _)| topic).collect()
    }

    #[test]
    fn a_filter_selects_what_the_standard_says() {
        for (filter, topic, selected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/", true),
            ("a/+/c", "a/b/c", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/#", "ab", false),
            ("#", "a/b", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("+", "/a", false),
            ("+/+", "/a", true),
            ("", "", true),
        ] {
            assert_eq!(filter_matches(filter, topic), selected, "{filter} {topic}");
        }
    }

    #[test]
    fn wildcards_find_all_their_topics_and_no_neighbours() {
        let mut shelf = shelf(10, 1000);
        for (value, topic) in
            [(1, "f/d/1/down/desired"), (2, "f/d/1/down/trust"), (3, "f/d/10/down/desired"), (4, "f/d")]
        {
            assert!(shelf.put(topic, 1, value));
        }
        assert_eq!(topics(&shelf, "f/d/1/down/#"), ["f/d/1/down/desired", "f/d/1/down/trust"]);
        assert_eq!(topics(&shelf, "f/d/+/down/desired"), ["f/d/1/down/desired", "f/d/10/down/desired"]);
        assert_eq!(topics(&shelf, "f/d/#").len(), 4);
        assert_eq!(topics(&shelf, "f/d/1/down/trust"), ["f/d/1/down/trust"]);
        assert!(topics(&shelf, "f/d/2/#").is_empty());
    }

    #[test]
    fn limits_refuse_growth_but_never_a_replacement_that_fits_nor_a_clear() {
        let mut shelf = shelf(2, 20);
        assert!(shelf.put("a", 9, 1));
        assert!(shelf.put("b", 8, 2));
        assert!(!shelf.put("c", 1, 3), "third message");
        assert!(shelf.put("a", 10, 4), "replacement up to the last byte");
        assert!(!shelf.put("a", 11, 5), "one byte too many");
        assert_eq!(shelf.matching("a"), [("a".to_owned(), 4)]);
        assert!(shelf.put("b", 0, 6));
        assert!(topics(&shelf, "b").is_empty());
        assert!(shelf.put("zz", 0, 7), "clearing what is not there");
        assert_eq!(shelf.bytes, 11);
    }
}
