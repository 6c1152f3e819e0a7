//! Where the library asks and our rules answer: connect, publish, subscribe, deliver.
//!
//! Nobody bypasses the rules here, not even the hub's own user: the library skips every check for what it calls a
//! superuser, and with them the limits of the retained store.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use rmqtt::codec::types::Publish as PublishPacket;
use rmqtt::codec::v5::{PublishAckReason, SubscribeAckReason};
use rmqtt::context::ServerContext;
use rmqtt::hook::{Handler, HookResult, Parameter, ReturnType, Type};
use rmqtt::session::Session;
use rmqtt::types::{
    AuthResult, ConnectInfo, Publish, PublishAclResult, PublishResult, Reason, Subscribe, SubscribeAclResult,
};

use super::access::{Access, ClientName, Credential, Verdict};
use super::arrivals::Arrivals;
use super::counters::{Counters, raise};
use super::kick::kick_session;
use super::retained::RetainedStore;

/// Everything the hooks need; shared by all of them.
pub(super) struct Gate {
    pub(super) access: Arc<dyn Access>,
    pub(super) store: RetainedStore,
    pub(super) counters: Arc<Counters>,
    /// The user of the start-up self-test; set only while it runs.
    pub(super) probe: Mutex<Option<Credential>>,
    pub(super) arrivals: Arrivals,
}

impl Gate {
    fn is_probe(&self, user: &str) -> bool {
        let probe = self.probe.lock().unwrap_or_else(PoisonError::into_inner);
        probe.as_ref().is_some_and(|probe| probe.user == user)
    }

    fn probe_password_is(&self, password: &[u8]) -> bool {
        let probe = self.probe.lock().unwrap_or_else(PoisonError::into_inner);
        probe.as_ref().is_some_and(|probe| probe.password.as_bytes() == password)
    }

    /// May this connection be there at all, with the table as it is now?
    fn admits(&self, client_id: &str, user: Option<&str>, password: Option<&[u8]>) -> bool {
        let (Some(user), Some(password)) = (user, password) else { return false };
        if self.is_probe(user) {
            return self.probe_password_is(password);
        }
        self.access.connect(client_id, user, password) == Verdict::Allowed
    }

    fn may_publish(&self, user: Option<&str>, topic: &str, retain: bool) -> bool {
        match user {
            Some(user) if self.is_probe(user) => true,
            Some(user) => ClientName::parse(user).is_some_and(|name| self.access.publish(&name, topic, retain)),
            None => false,
        }
    }

    fn connect(&self, info: &ConnectInfo) -> AuthResult {
        // The will is checked here because the library publishes it later without asking anybody.
        let allowed = match info {
            ConnectInfo::V5(id, connect) => {
                let user = info.username().map(|user| user as &str);
                self.admits(&id.client_id, user, info.password().map(|password| password as &[u8]))
                    && connect.last_will.as_ref().is_none_or(|will| self.may_publish(user, &will.topic, will.retain))
            }
            // The protocol needs expiry, reason codes and retain handling: nobody in a fleet speaks MQTT 3.
            ConnectInfo::V3(..) => false,
        };
        let user = info.username().map(|user| user as &str).unwrap_or_default();
        if allowed && !self.arrivals.take(user, Instant::now()) {
            raise(&self.counters.connects_damped);
            AuthResult::NotAuthorized
        } else if allowed {
            AuthResult::Allow(false, None)
        } else {
            raise(&self.counters.connects_refused);
            AuthResult::NotAuthorized
        }
    }

    /// The table may have changed between the check of the password and the moment the session could be kicked.
    fn recheck(&self, session: &Session) {
        let user = session.username().map(|user| user as &str);
        let password = session.password().map(|password| password as &[u8]);
        if !self.admits(&session.id.client_id, user, password) {
            let context: &ServerContext = session.context();
            tokio::spawn(kick_session(context.clone(), session.id.client_id.to_string(), self.counters.clone()));
        }
    }

    fn publish(&self, session: &Session, publish: &Publish) -> PublishAclResult {
        // Malformed, which the library lets pass (MQTT 5, 1.5.4 and 4.7.1): the connection ends.
        if publish.topic.contains(['\0', '+', '#']) {
            raise(&self.counters.publishes_refused);
            return PublishAclResult::rejected(true, None);
        }
        if !self.may_publish(session.username().map(|user| user as &str), &publish.topic, publish.retain) {
            raise(&self.counters.publishes_refused);
            return PublishAclResult::rejected(false, None);
        }
        if publish.retain && !self.store.has_room(&publish.topic, publish.payload.len()) {
            raise(&self.counters.retained_refused);
            return PublishAclResult(PublishResult::reason_code(PublishAckReason::QuotaExceeded, None, false));
        }
        PublishAclResult::allow()
    }

    fn subscribe(&self, session: &Session, subscribe: &Subscribe) -> SubscribeAclResult {
        let allowed = match session.username().map(|user| user as &str) {
            Some(user) if self.is_probe(user) => true,
            Some(user) => {
                ClientName::parse(user).is_some_and(|name| self.access.subscribe(&name, &subscribe.topic_filter))
            }
            None => false,
        };
        if allowed {
            SubscribeAclResult::new_success(subscribe.opts.qos(), None)
        } else {
            raise(&self.counters.subscribes_refused);
            SubscribeAclResult::new_failure(SubscribeAckReason::NotAuthorized)
        }
    }

    /// Is this message larger than the receiving client accepts? The library would answer that by cutting the
    /// connection, again after every reconnect; the standard says to leave the message out (MQTT 5, 3.1.2.11.4).
    async fn is_oversize(&self, session: &Session, publish: &Publish) -> bool {
        let Ok(info) = session.connect_info().await else { return false };
        let limit = match info.as_ref() {
            ConnectInfo::V5(_, connect) => connect.max_packet_size.map_or(u64::MAX, |limit| u64::from(limit.get())),
            ConnectInfo::V3(..) => u64::MAX,
        };
        let oversize = packet_bytes(publish) > limit;
        if oversize {
            raise(&self.counters.oversize_dropped);
            tracing::warn!(client = %session.id.client_id, topic = %publish.topic, limit, "message too large for its client");
        }
        oversize
    }
}

/// Bytes that the library sets aside for the fixed header, however short it is.
const FIXED_HEADER_BYTES: usize = 5;

/// Size of a PUBLISH with this content as the library compares it with a client's limit (MQTT 5, section 3.3).
fn packet_bytes(publish: &PublishPacket) -> u64 {
    let text = |text: &str| 3 + text.len();
    let properties = publish.properties.as_ref().map_or(0, |properties| {
        let user: usize = properties.user_properties.iter().map(|(name, value)| 5 + name.len() + value.len()).sum();
        user + properties.correlation_data.as_ref().map_or(0, |data| 3 + data.len())
            + properties.content_type.as_ref().map_or(0, |content| text(content))
            + properties.response_topic.as_ref().map_or(0, |topic| text(topic))
            + properties.message_expiry_interval.map_or(0, |_| 5)
            + usize::from(properties.is_utf8_payload) * 2
            + properties.subscription_ids.len() * 5
    });
    let packet_id = if publish.qos == rmqtt::types::QoS::AtMostOnce { 0 } else { 2 };
    let rest = 2 + publish.topic.len() + packet_id + varint_bytes(properties) + properties + publish.payload.len();
    u64::try_from(FIXED_HEADER_BYTES + rest).unwrap_or(u64::MAX)
}

fn varint_bytes(value: usize) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

struct Hooks(Arc<Gate>);

#[async_trait]
impl Handler for Hooks {
    async fn hook(&self, parameter: &Parameter, before: Option<HookResult>) -> ReturnType {
        match parameter {
            Parameter::ClientAuthenticate(info) => (false, Some(HookResult::AuthResult(self.0.connect(info)))),
            Parameter::ClientConnected(session) => {
                self.0.recheck(session);
                (true, before)
            }
            Parameter::MessagePublishCheckAcl(session, publish) => {
                (false, Some(HookResult::PublishAclResult(self.0.publish(session, publish))))
            }
            Parameter::ClientSubscribeCheckAcl(session, subscribe) => {
                (false, Some(HookResult::SubscribeAclResult(self.0.subscribe(session, subscribe))))
            }
            Parameter::MessageExpiryCheck(session, _, publish) if self.0.is_oversize(session, publish).await => {
                (false, Some(HookResult::MessageExpiry))
            }
            Parameter::MessageDropped(_, _, _, Reason::MessageQueueFull) => {
                raise(&self.0.counters.queue_dropped);
                (true, before)
            }
            _ => (true, before),
        }
    }
}

/// Puts the gate in front of everything that matters.
pub(super) async fn install(context: &ServerContext, gate: &Arc<Gate>) {
    let register = context.extends.hook_mgr().register();
    for hook in [
        Type::ClientAuthenticate,
        Type::ClientConnected,
        Type::MessagePublishCheckAcl,
        Type::ClientSubscribeCheckAcl,
        Type::MessageExpiryCheck,
        Type::MessageDropped,
    ] {
        register.add(hook, Box::new(Hooks(gate.clone()))).await;
    }
    register.start().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_packet_counts_every_byte() {
        assert_eq!([varint_bytes(127), varint_bytes(128), varint_bytes(16_383), varint_bytes(16_384)], [1, 2, 2, 3]);
        let packet = PublishPacket {
            dup: false,
            retain: false,
            qos: rmqtt::types::QoS::AtLeastOnce,
            topic: "a/b".into(),
            packet_id: None,
            payload: vec![0; 200].into(),
            properties: None,
        };
        // Fixed header, topic with its length, packet id, empty properties, payload.
        assert_eq!(packet_bytes(&packet), 5 + 5 + 2 + 1 + 200);
    }
}
