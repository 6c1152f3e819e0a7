//! The only place that speaks MQTT. A `Link` carries out what the machine decides and reports what happened, nothing more.
//!
//! It must never decide when to connect, wait longer than a named bound, or retry anything: the machine owns deadlines and
//! back-off. Each connection is a new client with new state, so that nothing of an old one can block a new one.
mod endpoint;
pub mod exchange;
mod tickets;

pub use endpoint::{Endpoint, EndpointError, Security};

use crate::tls;
use agent_nostd::machine::port::{RetainHandling, Subscription, Ticket, WILL_DELAY, WILL_EXPIRY};
use async_channel::Sender;
use async_compat::Compat;
use futures_lite::FutureExt;
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectReturnCode, DisconnectReasonCode, Filter, LastWill, LastWillProperties, Packet, PubAckReason,
    RetainForwardRule, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError};
use rumqttc::{TlsConfiguration, Transport};
use rustls::ClientConfig;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tickets::{Sent, Tickets};

/// Requests that wait for the client. Above this a publication is refused to the machine.
const REQUESTS_MAX: usize = 512;
/// Publications without an answer. Packet ids are taken from this range too.
const IN_FLIGHT_MAX: u16 = 256;
/// From the start of a connection to its CONNACK.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How much longer than a keep-alive the client may be silent: then a write is blocked.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// The shortest keep-alive that the client accepts.
const KEEP_ALIVE_MIN: Duration = Duration::from_secs(5);
/// Bytes of a reason that is kept for the log.
const REASON_BYTES_MAX: usize = 200;

/// What the broker says for this device when the link dies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    pub topic: String,
    pub payload: Vec<u8>,
}

/// How to connect.
#[derive(Clone, Debug)]
pub struct Settings {
    pub endpoint: Endpoint,
    /// How to encrypt, for an endpoint with TLS.
    pub tls: Option<Arc<ClientConfig>>,
    pub client: String,
    pub user: String,
    pub password: String,
    pub keep_alive: Duration,
    /// The largest packet that is received; the hub is told the same number.
    pub packet_bytes_max: u32,
    pub will: Option<Will>,
}

/// Delivery of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    AtMostOnce,
    /// The answer is reported with this ticket.
    AtLeastOnce {
        ticket: Ticket,
    },
}

/// What happened on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    Up,
    /// The end of this connection; the text is for the log.
    Down {
        reason: String,
    },
    /// The end of this connection, because the broker prefers another one under the same name.
    Taken {
        reason: String,
    },
    /// All filters of the group were granted.
    Subscribed(Subscription),
    SubscribeRefused(Subscription),
    Message {
        topic: String,
        payload: Vec<u8>,
    },
    Acknowledged {
        ticket: Ticket,
    },
}

/// An event with the connection that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    connection: u64,
    event: LinkEvent,
}

/// A request that could not be taken: there is no connection, or too many wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the link takes no more requests")]
pub struct LinkFull;

struct Connection {
    client: AsyncClient,
    tickets: Arc<Mutex<Tickets>>,
    /// Dropping it ends the connection without a farewell.
    _task: smol::Task<()>,
}

/// The link of one device to its broker: at most one connection at a time.
pub struct Link {
    executor: Rc<smol::LocalExecutor<'static>>,
    events: Sender<Numbered>,
    settings: Settings,
    connection: Option<Connection>,
    number: u64,
}

fn lock(tickets: &Mutex<Tickets>) -> MutexGuard<'_, Tickets> {
    // A panic elsewhere leaves plain queues, which are valid at every moment.
    tickets.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The text of a reason, bounded.
fn bounded(reason: &dyn std::fmt::Display) -> String {
    let text = reason.to_string();
    wire::status::truncate(&text, REASON_BYTES_MAX).to_owned()
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

fn options(settings: &Settings) -> MqttOptions {
    let Endpoint { security, host, port } = &settings.endpoint;
    // The name in a certificate has no brackets; without TLS the library needs them.
    let host = match security {
        Security::Plain => host,
        Security::Tls => host.trim_matches(['[', ']']),
    };
    let mut options = MqttOptions::new(&settings.client, host, *port);
    if let (Security::Tls, Some(tls)) = (security, &settings.tls) {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(tls))));
    }
    let mut network = rumqttc::NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options
        .set_credentials(&settings.user, &settings.password)
        .set_keep_alive(settings.keep_alive.max(KEEP_ALIVE_MIN))
        .set_clean_start(true)
        .set_max_packet_size(Some(settings.packet_bytes_max))
        .set_outgoing_inflight_upper_limit(IN_FLIGHT_MAX)
        .set_connection_timeout(CONNECT_TIMEOUT.as_secs());
    options.set_network_options(network);
    if let Some(will) = &settings.will {
        let properties = LastWillProperties {
            delay_interval: Some(seconds(WILL_DELAY)),
            payload_format_indicator: None,
            message_expiry_interval: Some(seconds(WILL_EXPIRY)),
            content_type: None,
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        };
        let payload = will.payload.clone();
        options.set_last_will(LastWill::new(&will.topic, payload, QoS::AtLeastOnce, false, Some(properties)));
        // The will is sent at its delay or at the end of the session, whichever is first: the session must not end before.
        options.set_session_expiry_interval(Some(seconds(WILL_DELAY)));
    }
    options
}

impl Link {
    pub fn new(executor: Rc<smol::LocalExecutor<'static>>, settings: Settings, events: Sender<Numbered>) -> Self {
        Self { executor, events, settings, connection: None, number: 0 }
    }

    /// Starts a connection with this will; an earlier one ends. The outcome is an event.
    pub fn connect(&mut self, will: Will) {
        self.disconnect();
        self.settings.will = Some(will);
        self.number += 1;
        let (client, client_loop) = AsyncClient::new(options(&self.settings), REQUESTS_MAX);
        let tickets = Arc::new(Mutex::new(Tickets::default()));
        let drive = Drive {
            connection: self.number,
            events: self.events.clone(),
            tickets: Arc::clone(&tickets),
            silence_max: self.settings.keep_alive.max(KEEP_ALIVE_MIN) + WRITE_TIMEOUT,
        };
        let task = self.executor.spawn(Compat::new(drive.run(client_loop)));
        self.connection = Some(Connection { client, tickets, _task: task });
    }

    /// Ends the connection without a farewell, so that the broker sends the will. Later events of it are not accepted.
    pub fn disconnect(&mut self) {
        self.connection = None;
    }

    /// The event, if it belongs to the connection of now.
    pub fn accept(&mut self, numbered: Numbered) -> Option<LinkEvent> {
        if self.connection.is_none() || numbered.connection != self.number {
            return None;
        }
        if matches!(numbered.event, LinkEvent::Down { .. } | LinkEvent::Taken { .. }) {
            self.connection = None;
        }
        Some(numbered.event)
    }

    /// Never waits. With each filter: whether what the broker keeps there is wanted.
    pub fn subscribe(&mut self, group: Subscription, filters: &[(&str, RetainHandling)]) -> Result<(), LinkFull> {
        let connection = self.connection.as_ref().ok_or(LinkFull)?;
        let requests = filters.iter().map(|(filter, handling)| {
            let mut request = Filter::new(*filter, QoS::AtLeastOnce);
            request.retain_forward_rule = match handling {
                RetainHandling::Send => RetainForwardRule::OnEverySubscribe,
                RetainHandling::Skip => RetainForwardRule::Never,
            };
            request
        });
        // The lock is held over both, so that the queue has the order of the requests.
        let mut tickets = lock(&connection.tickets);
        connection.client.try_subscribe_many(requests).map_err(|_| LinkFull)?;
        tickets.subscribed(group);
        Ok(())
    }

    /// Never waits.
    pub fn publish(&mut self, topic: &str, payload: Vec<u8>, delivery: Delivery) -> Result<(), LinkFull> {
        let connection = self.connection.as_ref().ok_or(LinkFull)?;
        let (qos, ticket) = match delivery {
            Delivery::AtMostOnce => (QoS::AtMostOnce, None),
            Delivery::AtLeastOnce { ticket } => (QoS::AtLeastOnce, Some(ticket)),
        };
        let mut tickets = lock(&connection.tickets);
        connection.client.try_publish(topic, qos, false, payload).map_err(|_| LinkFull)?;
        tickets.published(ticket);
        Ok(())
    }
}

/// Why a connection ended.
enum End {
    Lost(String),
    Taken(String),
}

impl End {
    /// The embedded broker says `NotAuthorized` to whom it throws out for a newer connection.
    fn of(code: DisconnectReasonCode) -> Self {
        match code {
            DisconnectReasonCode::SessionTakenOver | DisconnectReasonCode::NotAuthorized => {
                Self::Taken(format!("another connection uses this device's name ({code:?})"))
            }
            other => Self::Lost(format!("the broker ended it: {other:?}")),
        }
    }
}

/// The task of one connection.
struct Drive {
    connection: u64,
    events: Sender<Numbered>,
    tickets: Arc<Mutex<Tickets>>,
    silence_max: Duration,
}

impl Drive {
    async fn run(self, client_loop: EventLoop) {
        let end = match self.poll(client_loop).await {
            End::Lost(reason) => LinkEvent::Down { reason },
            End::Taken(reason) => LinkEvent::Taken { reason },
        };
        // The receiver may be gone: then nobody wants to know.
        let _ = self.send(end).await;
    }

    async fn send(&self, event: LinkEvent) -> Result<(), End> {
        let numbered = Numbered { connection: self.connection, event };
        self.events.send(numbered).await.map_err(|_| End::Lost("the agent stopped".to_owned()))
    }

    /// Polls until the connection ends, and says why it did.
    async fn poll(&self, mut client_loop: EventLoop) -> End {
        let mut bound = CONNECT_TIMEOUT + WRITE_TIMEOUT;
        loop {
            let expired = async {
                smol::Timer::after(bound).await;
                None
            };
            let event = match async { Some(client_loop.poll().await) }.or(expired).await {
                Some(Ok(event)) => event,
                Some(Err(ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }))) => {
                    return End::of(reason_code);
                }
                Some(Err(error)) => return End::Lost(bounded(&describe(error))),
                None => return End::Lost(format!("the connection was blocked for {} s", bound.as_secs())),
            };
            bound = self.silence_max;
            if let Err(end) = self.handle(event).await {
                return end;
            }
        }
    }

    async fn handle(&self, event: Event) -> Result<(), End> {
        match event {
            Event::Incoming(packet) => self.incoming(packet).await,
            Event::Outgoing(outgoing) => match outgoing {
                Outgoing::Publish(packet) => lock(&self.tickets).sent(Sent::Publication(packet)).map_err(End::Lost),
                Outgoing::Subscribe(packet) => lock(&self.tickets).sent(Sent::Subscription(packet)).map_err(End::Lost),
                // The publication waits for an older one with its packet id, and all others wait behind it; it is reported as
                // sent when that is over. If that takes too long, the machine drops the link.
                Outgoing::AwaitAck(_)
                | Outgoing::Unsubscribe(_)
                | Outgoing::PubAck(_)
                | Outgoing::PubRec(_)
                | Outgoing::PubRel(_)
                | Outgoing::PubComp(_)
                | Outgoing::PingReq
                | Outgoing::PingResp
                | Outgoing::Disconnect => Ok(()),
            },
        }
    }

    async fn incoming(&self, packet: Packet) -> Result<(), End> {
        match packet {
            Packet::ConnAck(_) => self.send(LinkEvent::Up).await,
            Packet::Publish(publish) => {
                let Ok(topic) = String::from_utf8(publish.topic.to_vec()) else {
                    return Err(End::Lost("a topic was not UTF-8".to_owned()));
                };
                let payload = publish.payload.to_vec();
                self.send(LinkEvent::Message { topic, payload }).await
            }
            Packet::SubAck(answer) => {
                let group = lock(&self.tickets).subscription_answered(answer.pkid);
                let granted = answer.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_)));
                match group {
                    Some(group) if granted => self.send(LinkEvent::Subscribed(group)).await,
                    Some(group) => self.send(LinkEvent::SubscribeRefused(group)).await,
                    None => Ok(()),
                }
            }
            Packet::PubAck(answer) => {
                let ticket = lock(&self.tickets).publication_answered(answer.pkid);
                let received = matches!(answer.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers);
                match ticket {
                    Some(ticket) if received => self.send(LinkEvent::Acknowledged { ticket }).await,
                    // Not received is not acknowledged; the machine's deadline deals with it.
                    Some(_) => {
                        tracing::warn!(reason = ?answer.reason, "the broker refused a publication");
                        Ok(())
                    }
                    None => Ok(()),
                }
            }
            Packet::Disconnect(farewell) => Err(End::of(farewell.reason_code)),
            Packet::Auth(_)
            | Packet::Connect(..)
            | Packet::PubRec(_)
            | Packet::PubRel(_)
            | Packet::PubComp(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::UnsubAck(_)
            | Packet::PingReq(_)
            | Packet::PingResp(_) => Ok(()),
        }
    }
}

/// A reason for people.
fn describe(error: ConnectionError) -> String {
    if let Some(error) = tls::find(&error) {
        return tls::explain(error);
    }
    match error {
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
                "the broker does not accept this user and password".to_owned()
            }
            other => format!("the broker refuses the connection: {other:?}"),
        },
        ConnectionError::Timeout(_) => "the broker did not answer in time".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
