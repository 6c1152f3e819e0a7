//! Connects, serves one connection after the other, and pauses between them.
//!
//! Every connection gets a new client and a new event loop: nothing of an old one (stashed publications, a packet id
//! collision that never resolves) can reach the next. The event loop is polled by one future and nothing races it;
//! publications come in through a second future beside it, so that waiting for one never stops the other.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use async_compat::Compat;
use futures_lite::future;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Filter, Packet, PubAckReason, SubAck, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};
use rumqttc::{Outgoing, TlsConfiguration, Transport};

use super::capability::lacking;
use super::tickets::Tickets;
use super::{
    BACKOFF_MAX, BACKOFF_MIN, CONNECT_TIMEOUT, Endpoint, INFLIGHT_MAX, KEEP_ALIVE, LinkConfig, LinkEvent, Outbox,
    PACKET_BYTES_MAX, Publication, RECEIVE_MAX, Refusal,
};

/// Requests between our queue and the library's event loop; short, because ours is the one that is bounded and seen.
const HANDOVER_MAX: usize = 16;
/// A connection that lived this long was a good one: the next pause is short again.
const GOOD_AFTER: Duration = Duration::from_secs(10);

/// Why a connection is over.
enum End {
    /// The owner wants no more events or asked to stop.
    Stop,
    /// It was lost; for people.
    Lost(String),
    /// It cannot come to be; for people, and for whoever decides whether to go on.
    Refused(String, Refusal),
}

/// The life of the link's thread.
pub(super) async fn run(config: &LinkConfig, outbox: &Outbox, events: &Sender<LinkEvent>, stopped: &Receiver<()>) {
    let mut pause = BACKOFF_MIN;
    loop {
        let began = Instant::now();
        let stop = async {
            let _ = stopped.recv().await;
            End::Stop
        };
        let end = future::or(stop, serve(config, outbox, events)).await;
        outbox.close();
        let (reason, refusal) = match end {
            End::Stop => return,
            End::Lost(reason) => (reason, None),
            End::Refused(reason, refusal) => (reason, Some(refusal)),
        };
        tracing::warn!(broker = %config.endpoint, reason, "no connection to the broker");
        if began.elapsed() >= GOOD_AFTER {
            pause = BACKOFF_MIN;
        }
        let report_and_pause = async {
            if events.send(LinkEvent::Disconnected { reason, refusal }).await.is_err() {
                return End::Stop;
            }
            smol::Timer::after(jittered(pause)).await;
            End::Lost(String::new())
        };
        let stop = async {
            let _ = stopped.recv().await;
            End::Stop
        };
        if let End::Stop = future::or(stop, report_and_pause).await {
            return;
        }
        pause = (pause * 2).min(BACKOFF_MAX);
    }
}

/// Somewhere between half of it and all of it. Without random bytes the whole pause is a safe answer.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [u8::MAX];
    if getrandom::fill(&mut byte).is_err() {
        return pause;
    }
    pause / 2 + pause / 2 * u32::from(byte[0]) / u32::from(u8::MAX)
}

/// One connection, from the first packet to its end.
async fn serve(config: &LinkConfig, outbox: &Outbox, events: &Sender<LinkEvent>) -> End {
    let Endpoint { port, tls, .. } = &config.endpoint;
    let mut options = MqttOptions::new(&config.client_id, config.endpoint.library_host(), *port);
    if let Some(tls) = tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls.clone())));
    }
    options
        .set_credentials(&config.credential.user, &config.credential.password)
        .set_keep_alive(KEEP_ALIVE)
        .set_clean_start(true)
        .set_session_expiry_interval(config.session_s)
        // The default of 10 KiB would cut the connection at the first larger status.
        .set_max_packet_size(Some(PACKET_BYTES_MAX))
        .set_receive_maximum(Some(RECEIVE_MAX))
        // The default allocates a slot for each of 65,535 packet ids.
        .set_outgoing_inflight_upper_limit(INFLIGHT_MAX);
    let (client, event_loop) = AsyncClient::new(options, HANDOVER_MAX);
    let tickets = RefCell::new(Tickets::default());
    let heard = Heard::new();
    let receive =
        Incoming { config, outbox, events, tickets: &tickets, client: &client, heard: &heard }.run(event_loop);
    let send = forward(&outbox.waiting, &client, &tickets);
    future::or(future::or(receive, send), unanswered(&tickets, &heard, config.acknowledge_timeout)).await
}

/// Time on one connection, without the time in which its owner took no events: acknowledgements wait unread then, which
/// is not the broker's fault.
struct Heard {
    began: Instant,
    deaf: Cell<Duration>,
    deaf_since: Cell<Option<Instant>>,
}

impl Heard {
    fn new() -> Self {
        Self { began: Instant::now(), deaf: Cell::default(), deaf_since: Cell::default() }
    }

    fn time(&self) -> Duration {
        let now = self.deaf_since.get().unwrap_or_else(Instant::now);
        now.duration_since(self.began).saturating_sub(self.deaf.get())
    }

    async fn deaf_during<T>(&self, waiting: impl Future<Output = T>) -> T {
        let began = Instant::now();
        self.deaf_since.set(Some(began));
        let output = waiting.await;
        self.deaf_since.set(None);
        self.deaf.set(self.deaf.get() + began.elapsed());
        output
    }
}

/// Ends when a publication has waited too long: a broker that answers pings and acknowledges nothing would hold up
/// everything else for ever.
async fn unanswered(tickets: &RefCell<Tickets>, heard: &Heard, timeout: Duration) -> End {
    loop {
        let oldest = tickets.borrow().oldest();
        let left = oldest.map_or(timeout, |since| timeout.saturating_sub(heard.time().saturating_sub(since)));
        if left.is_zero() {
            return End::Lost(format!(
                "the broker did not acknowledge a publication within {} s",
                timeout.as_secs_f32()
            ));
        }
        smol::Timer::after(left).await;
    }
}

/// Moves publications from our queue to the library, in order.
async fn forward(waiting: &Receiver<Publication>, client: &AsyncClient, tickets: &RefCell<Tickets>) -> End {
    loop {
        let Ok(publication) = waiting.recv().await else { return End::Stop };
        let Publication { topic, payload, retain, qos1, ticket } = publication;
        tickets.borrow_mut().issue(qos1.then_some(ticket));
        let qos = if qos1 { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        if client.publish(topic, qos, retain, payload).await.is_err() {
            return End::Lost("the client took no publication".to_owned());
        }
    }
}

/// The receiving half of one connection.
struct Incoming<'a> {
    config: &'a LinkConfig,
    outbox: &'a Outbox,
    events: &'a Sender<LinkEvent>,
    tickets: &'a RefCell<Tickets>,
    client: &'a AsyncClient,
    heard: &'a Heard,
}

impl Incoming<'_> {
    async fn run(self, mut event_loop: EventLoop) -> End {
        let setup = async { self.set_up(&mut event_loop).await };
        let late = async {
            smol::Timer::after(CONNECT_TIMEOUT).await;
            Err(End::Lost(format!("not connected and subscribed within {} s", CONNECT_TIMEOUT.as_secs())))
        };
        let session_present = match future::or(setup, late).await {
            Ok(session_present) => session_present,
            Err(end) => return end,
        };
        self.outbox.open();
        if let Err(end) = self.report(LinkEvent::Connected { session_present }).await {
            return end;
        }
        loop {
            let outcome = match poll(&mut event_loop).await {
                Ok(event) => self.handle(event).await,
                Err(end) => Err(end),
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    /// Waits for CONNACK, subscribes, waits for all to be granted.
    async fn set_up(&self, event_loop: &mut EventLoop) -> Result<bool, End> {
        let mut present = false;
        loop {
            match poll(event_loop).await? {
                Event::Incoming(Packet::ConnAck(ack)) => {
                    let lacks = lacking(&ack);
                    if !lacks.is_empty() {
                        let said: Vec<String> = lacks.iter().map(ToString::to_string).collect();
                        return Err(End::Refused(said.join("; "), Refusal::Lacks(lacks)));
                    }
                    present = ack.session_present;
                    if self.config.subscriptions.is_empty() {
                        return Ok(present);
                    }
                    let filters = self.config.subscriptions.iter().map(|filter| Filter::new(filter, QoS::AtLeastOnce));
                    let asked = self.client.try_subscribe_many(filters);
                    asked.map_err(|error| End::Lost(format!("cannot subscribe: {error}")))?;
                }
                Event::Incoming(Packet::SubAck(ack)) => {
                    self.granted(&ack)?;
                    return Ok(present);
                }
                event => self.handle(event).await?,
            }
        }
    }

    fn granted(&self, ack: &SubAck) -> Result<(), End> {
        let refused = ack
            .return_codes
            .iter()
            .zip(&self.config.subscriptions)
            .find(|(code, _)| !matches!(code, SubscribeReasonCode::Success(_)));
        match refused {
            Some((code, filter)) => Err(End::Lost(format!("the subscription to {filter} was refused: {code:?}"))),
            None => Ok(()),
        }
    }

    async fn handle(&self, event: Event) -> Result<(), End> {
        match event {
            Event::Incoming(Packet::Publish(publish)) => {
                let Ok(topic) = String::from_utf8(publish.topic.to_vec()) else {
                    return Ok(());
                };
                self.report(LinkEvent::Message {
                    topic,
                    payload: publish.payload.to_vec(),
                    retained: publish.retain,
                    qos1: publish.qos == QoS::AtLeastOnce,
                })
                .await
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                let answered = self.tickets.borrow_mut().answered(ack.pkid);
                match (answered, ack.reason) {
                    (None, _) => Ok(()),
                    (Some(ticket), PubAckReason::Success | PubAckReason::NoMatchingSubscribers) => {
                        self.report(LinkEvent::Acknowledged { ticket }).await
                    }
                    (Some(ticket), reason) => {
                        self.report(LinkEvent::Refused { ticket, reason: format!("{reason:?}") }).await
                    }
                }
            }
            Event::Outgoing(Outgoing::Publish(packet_id)) => {
                self.tickets.borrow_mut().sent(packet_id, self.heard.time());
                Ok(())
            }
            Event::Outgoing(Outgoing::AwaitAck(packet_id)) => {
                self.tickets.borrow_mut().collision(packet_id);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn report(&self, event: LinkEvent) -> Result<(), End> {
        self.heard.deaf_during(self.events.send(event)).await.map_err(|_| End::Stop)
    }
}

async fn poll(event_loop: &mut EventLoop) -> Result<Event, End> {
    Compat::new(event_loop.poll()).await.map_err(end_of)
}

fn end_of(error: ConnectionError) -> End {
    if let Some(cause) = tls_error(&error) {
        return End::Refused(cause.to_string(), Refusal::NotTrusted);
    }
    match error {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized | ConnectReturnCode::Banned,
        ) => End::Refused("it does not accept this user and password".to_owned(), Refusal::NotAuthorized),
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::RefusedProtocolVersion | ConnectReturnCode::UnsupportedProtocolVersion,
        ) => End::Refused("it does not speak MQTT 5".to_owned(), Refusal::Protocol),
        other => End::Lost(other.to_string()),
    }
}

/// What TLS itself found wrong; a connection that only broke in a handshake may come to be the next time.
fn tls_error(error: &ConnectionError) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An I/O error hides what it wraps from the chain of causes.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = wrapped.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}
