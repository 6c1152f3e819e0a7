//! Proves at start, through a real connection, that retained messages are kept and delivered.
//!
//! A broker that loses them silently looks healthy while every returning device waits in vain; two settings of the
//! library once had exactly that effect. It must never be skipped, and it leaves nothing behind.

use std::net::SocketAddr;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};

use super::access::Credential;

/// Longest time the whole test may take.
pub(super) const SELF_TEST_DEADLINE: Duration = Duration::from_secs(10);
/// Requests that may wait inside the test's client.
const REQUESTS_MAX: usize = 4;
/// The kept time between publishing and reading back: longer than a store that expires at once would hold it.
const SETTLE: Duration = Duration::from_millis(5);

/// Publishes a retained probe, reads it back over a second connection, clears it, and sees that it is gone.
pub(super) async fn run(address: SocketAddr, probe: &Credential) -> Result<(), String> {
    match tokio::time::timeout(SELF_TEST_DEADLINE, probe_retained(address, probe)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no answer within {} s", SELF_TEST_DEADLINE.as_secs())),
    }
}

async fn probe_retained(address: SocketAddr, probe: &Credential) -> Result<(), String> {
    let topic = format!("fulmar-self-test/{}", probe.user);
    let payload = probe.user.as_bytes().to_vec();
    let mut writer = Probe::connect(address, probe, "w").await?;
    writer.publish(&topic, payload.clone()).await?;
    tokio::time::sleep(SETTLE).await;
    let mut reader = Probe::connect(address, probe, "r").await?;
    let read = reader.first_retained(&topic).await?;
    if read != payload {
        return Err(format!("a retained message of {} bytes came back with {} bytes", payload.len(), read.len()));
    }
    writer.publish(&topic, Vec::new()).await
}

struct Probe {
    client: AsyncClient,
    events: EventLoop,
}

impl Probe {
    async fn connect(address: SocketAddr, probe: &Credential, suffix: &str) -> Result<Self, String> {
        let id = format!("{}-{suffix}", probe.user);
        let mut options = MqttOptions::new(id, crate::mqtt::bracketed(&address.ip().to_string()), address.port());
        options.set_credentials(&probe.user, &probe.password);
        let (client, events) = AsyncClient::new(options, REQUESTS_MAX);
        let mut connected = Self { client, events };
        loop {
            if let Packet::ConnAck(_) = connected.packet().await? {
                return Ok(connected);
            }
        }
    }

    async fn packet(&mut self) -> Result<Packet, String> {
        loop {
            match self.events.poll().await {
                Ok(Event::Incoming(packet)) => return Ok(packet),
                Ok(Event::Outgoing(_)) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    async fn publish(&mut self, topic: &str, payload: Vec<u8>) -> Result<(), String> {
        self.client.publish(topic, QoS::AtLeastOnce, true, payload).await.map_err(|error| error.to_string())?;
        loop {
            if let Packet::PubAck(ack) = self.packet().await? {
                return match ack.reason {
                    PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Ok(()),
                    refused => Err(format!("the probe was refused: {refused:?}")),
                };
            }
        }
    }

    async fn first_retained(&mut self, topic: &str) -> Result<Vec<u8>, String> {
        self.client.subscribe(topic, QoS::AtLeastOnce).await.map_err(|error| error.to_string())?;
        loop {
            match self.packet().await? {
                Packet::Publish(publish) if publish.retain => return Ok(publish.payload.to_vec()),
                Packet::SubAck(ack)
                    if !ack.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))) =>
                {
                    return Err(format!("the subscription was refused: {:?}", ack.return_codes));
                }
                _ => {}
            }
        }
    }
}
