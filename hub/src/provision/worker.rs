//! The thread that speaks to the dynamic-security plugin: one request at a time, over a connection that renews itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use async_channel::Receiver;
use futures_lite::future;

use super::account::Owner;
use super::ledger::{Heard, Responses};
use super::{ANSWER_TIMEOUT, FIRST_ANSWER_TIMEOUT, ProvisionError, REACH_PATIENCE, Shared};
use crate::broker::Credential;
use crate::mqtt::{
    ACKNOWLEDGE_TIMEOUT, BROKER_SESSION_MIN_S, Endpoint, Link, LinkConfig, LinkEvent, Publication, PublishError,
};

const REQUEST_TOPIC: &str = "$CONTROL/dynamic-security/v1";
const ANSWER_TOPIC: &str = "$CONTROL/dynamic-security/v1/response";
/// Events of the connection that wait here.
const EVENTS_MAX: usize = 64;
/// How often nothing is waited for.
const IDLE: Duration = Duration::from_secs(60);

enum Woken {
    By(LinkEvent),
    /// The ledger changed, or time is over.
    Look,
    End,
}

pub(super) struct Worker {
    broker: String,
    user: String,
    shared: Arc<Shared>,
    link: Link,
    events: Receiver<LinkEvent>,
    woken: Receiver<()>,
    /// Whoever waits for the start; gone when it was told.
    first: Option<SyncSender<Result<(), ProvisionError>>>,
    began: Instant,
    /// When the answer to what was asked has to be here.
    due: Option<Instant>,
    has_answered: bool,
}

impl Worker {
    pub(super) fn new(
        endpoint: Endpoint,
        administrator: Credential,
        shared: Arc<Shared>,
        woken: Receiver<()>,
        first: SyncSender<Result<(), ProvisionError>>,
    ) -> std::io::Result<Self> {
        let (broker, user) = (endpoint.to_string(), administrator.user.clone());
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(std::io::Error::other)?;
        let config = LinkConfig {
            endpoint,
            // A constant name would let two hubs cut each other off for ever.
            client_id: format!("fulmar-admin-{}", data_encoding::HEXLOWER.encode(&random)),
            credential: administrator,
            subscriptions: vec![ANSWER_TOPIC.to_owned()],
            acknowledge_timeout: ACKNOWLEDGE_TIMEOUT,
            session_s: Some(BROKER_SESSION_MIN_S),
        };
        let (sender, events) = async_channel::bounded(EVENTS_MAX);
        let link = Link::start(config, sender)?;
        let (first, began) = (Some(first), Instant::now());
        Ok(Self { broker, user, shared, link, events, woken, first, began, due: None, has_answered: false })
    }

    pub(super) fn run(mut self) {
        loop {
            match self.wait() {
                Woken::End => return,
                Woken::By(event) => self.take(event),
                Woken::Look => {}
            }
            if self.due.is_some_and(|due| due <= Instant::now()) {
                self.overdue();
            }
            self.ask();
            if self.shared.ledger().is_in_order(Owner::Hub) {
                self.tell(Ok(()));
            }
        }
    }

    fn wait(&self) -> Woken {
        let event = async { self.events.recv().await.map_or(Woken::End, Woken::By) };
        let look = async { self.woken.recv().await.map_or(Woken::End, |()| Woken::Look) };
        let time = async {
            let now = Instant::now();
            smol::Timer::at(self.due.unwrap_or(now + IDLE)).await;
            Woken::Look
        };
        smol::block_on(future::or(event, future::or(look, time)))
    }

    fn tell(&mut self, outcome: Result<(), ProvisionError>) {
        if let Some(first) = self.first.take() {
            // Nobody waits any more: nothing to tell.
            let _ = first.send(outcome);
        }
    }

    fn take(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Connected { .. } => self.shared.is_connected.store(true, Ordering::Release),
            LinkEvent::Disconnected { reason, refusal } => {
                self.shared.is_connected.store(false, Ordering::Release);
                self.due = None;
                self.shared.ledger().forget();
                let broker = self.broker.clone();
                match refusal {
                    Some(refusal) => self.tell(Err(ProvisionError::refused(broker, &self.user, reason, &refusal))),
                    None if self.began.elapsed() > REACH_PATIENCE => {
                        self.tell(Err(ProvisionError::Unreachable { broker, reason }));
                    }
                    None => {}
                }
            }
            LinkEvent::Message { topic, payload, .. } if topic == ANSWER_TOPIC => self.answered(&payload),
            LinkEvent::Refused { reason, .. } => {
                tracing::error!(broker = self.broker, user = self.user, reason, "the broker takes no commands");
                self.pause();
                self.no_plugin();
            }
            LinkEvent::Message { .. } | LinkEvent::Acknowledged { .. } => {}
        }
    }

    fn answered(&mut self, payload: &[u8]) {
        let Ok(answer) = serde_json::from_slice::<Responses>(payload) else {
            tracing::warn!(broker = self.broker, bytes = payload.len(), "an answer of the broker is not understood");
            return;
        };
        let heard = self.shared.ledger().answer(&answer.responses);
        if heard == Heard::Nothing {
            return;
        }
        self.due = None;
        self.has_answered = true;
        if let Heard::Rejected { what, error } = heard {
            tracing::error!(broker = self.broker, account = what, error, "the broker did not carry out a command");
            if !self.shared.ledger().is_listed() {
                self.pause();
            }
            let broker = self.broker.clone();
            self.tell(Err(ProvisionError::Rejected { broker, what, error }));
        }
    }

    /// Nothing is known for certain any more: everything is read again after a pause.
    fn pause(&mut self) {
        self.due = Some(Instant::now() + ANSWER_TIMEOUT);
        self.shared.ledger().forget();
    }

    fn no_plugin(&mut self) {
        let (broker, user) = (self.broker.clone(), self.user.clone());
        self.tell(Err(ProvisionError::NoPlugin { broker, user }));
    }

    fn overdue(&mut self) {
        self.due = None;
        if self.shared.ledger().give_up() {
            tracing::error!(broker = self.broker, "the broker does not answer commands; is its plugin loaded?");
            self.no_plugin();
        }
    }

    fn ask(&mut self) {
        if self.due.is_some() || !self.shared.is_connected.load(Ordering::Acquire) {
            return;
        }
        let Some(request) = self.shared.ledger().next_request() else { return };
        let timeout = if self.has_answered { ANSWER_TIMEOUT } else { FIRST_ANSWER_TIMEOUT };
        let payload = request.to_string().into_bytes();
        let topic = REQUEST_TOPIC.to_owned();
        let publication = Publication { topic, payload, retain: false, qos1: true, ticket: 0 };
        self.due = Some(Instant::now() + timeout);
        match self.link.publish(publication) {
            // What was forgotten with a connection is asked again on the next.
            Ok(()) | Err(PublishError::Offline(_)) => {}
            Err(error) => tracing::error!(%error, "a command to the broker was not sent"),
        }
    }
}
