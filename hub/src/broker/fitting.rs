//! Per-client limits: the hub hears the whole fleet and needs a long queue, a device needs a short one.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rmqtt::codec::types::Publish as PublishPacket;
use rmqtt::fitter::{DefaultFitter, Fitter, FitterManager};
use rmqtt::types::{ConnectInfo, Disconnect, FitterType, Id, ListenerConfig};

use super::access::HUB_USER;
use super::{BrokerLimits, KEEP_ALIVE_MAX_S};

pub(super) struct Fittings(pub(super) BrokerLimits);

impl FitterManager for Fittings {
    fn create(&self, info: Arc<ConnectInfo>, id: Id, listener: ListenerConfig) -> FitterType {
        let is_hub = info.username().is_some_and(|user| *user == *HUB_USER);
        let (queue_max, inflight_max) = if is_hub {
            (self.0.hub_queue_messages_max, self.0.hub_inflight_max)
        } else {
            (self.0.client_queue_messages_max, self.0.client_inflight_max)
        };
        let receive_max = match info.as_ref() {
            ConnectInfo::V5(_, connect) => connect.receive_max,
            ConnectInfo::V3(..) => None,
        };
        let inflight_max = receive_max.map_or(inflight_max, |asked| asked.min(inflight_max));
        Arc::new(ClientFitting { rest: DefaultFitter::new(info, id, listener), queue_max, inflight_max })
    }
}

struct ClientFitting {
    rest: DefaultFitter,
    queue_max: usize,
    inflight_max: NonZeroU16,
}

#[async_trait]
impl Fitter for ClientFitting {
    fn keep_alive(&self, keep_alive: &mut u16) -> rmqtt::Result<u16> {
        // What is written here goes into CONNACK, and the client has to follow it (MQTT 5, 3.2.2.3.14).
        if *keep_alive == 0 || *keep_alive > KEEP_ALIVE_MAX_S {
            *keep_alive = KEEP_ALIVE_MAX_S;
        }
        self.rest.keep_alive(keep_alive)
    }

    fn max_mqueue_len(&self) -> usize {
        self.queue_max
    }

    fn mqueue_rate_limit(&self) -> (NonZeroU32, Duration) {
        self.rest.mqueue_rate_limit()
    }

    fn max_inflight(&self) -> NonZeroU16 {
        self.inflight_max
    }

    fn session_expiry_interval(&self, disconnect: Option<&Disconnect>) -> Duration {
        self.rest.session_expiry_interval(disconnect)
    }

    fn message_expiry_interval(&self, publish: &PublishPacket) -> Duration {
        self.rest.message_expiry_interval(publish)
    }

    fn max_client_topic_aliases(&self) -> u16 {
        self.rest.max_client_topic_aliases()
    }

    fn max_server_topic_aliases(&self) -> u16 {
        self.rest.max_server_topic_aliases()
    }
}
