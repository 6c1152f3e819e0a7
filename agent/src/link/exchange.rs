//! One question and one answer over a connection of their own: what joining needs before there is a device to speak for.
//!
//! Must never outlive its deadline, and never ask twice: the caller decides whether to try again.
use super::{Settings, bounded, describe, options};
use crate::tls;
use async_compat::Compat;
use futures_lite::FutureExt;
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Packet, PubAckReason, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, ConnectionError, Event};
use std::time::Duration;

/// Requests of one exchange: subscribe, publish, disconnect.
const REQUESTS_MAX: usize = 4;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExchangeError {
    /// The broker does not accept user and password.
    NotAuthorized,
    /// The connection failed or broke.
    Link(String),
    /// The broker is not the one that the token names, or does not speak TLS as it should.
    NotTrusted(String),
    /// Asked, and not answered in time.
    NoAnswer,
    /// The broker did not let the question or the answer pass.
    Refused,
}

/// Subscribes to `answer_topic`, publishes `question`, and returns the first answer that `accept` takes.
pub async fn exchange<T>(
    settings: &Settings,
    answer_topic: &str,
    question_topic: &str,
    question: Vec<u8>,
    deadline: Duration,
    accept: impl FnMut(&[u8]) -> Option<T>,
) -> Result<T, ExchangeError> {
    let expired = async {
        smol::Timer::after(deadline).await;
        Err(ExchangeError::NoAnswer)
    };
    let asking = ask(settings, answer_topic, question_topic, question, accept);
    Compat::new(asking).or(expired).await
}

async fn ask<T>(
    settings: &Settings,
    answer_topic: &str,
    question_topic: &str,
    question: Vec<u8>,
    mut accept: impl FnMut(&[u8]) -> Option<T>,
) -> Result<T, ExchangeError> {
    let (client, mut client_loop) = AsyncClient::new(options(settings), REQUESTS_MAX);
    let full = || ExchangeError::Link("the client takes no requests".to_owned());
    let mut question = Some(question);
    loop {
        let event = match client_loop.poll().await {
            Ok(event) => event,
            Err(ConnectionError::ConnectionRefused(
                ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
            )) => return Err(ExchangeError::NotAuthorized),
            Err(error) => {
                let is_tls = tls::find(&error).is_some();
                let reason = bounded(&describe(error));
                return Err(if is_tls { ExchangeError::NotTrusted(reason) } else { ExchangeError::Link(reason) });
            }
        };
        let Event::Incoming(packet) = event else {
            continue;
        };
        match packet {
            Packet::ConnAck(_) => {
                client.try_subscribe(answer_topic, QoS::AtLeastOnce).map_err(|_| full())?;
            }
            Packet::SubAck(answer) => {
                if !matches!(answer.return_codes.as_slice(), [SubscribeReasonCode::Success(_)]) {
                    return Err(ExchangeError::Refused);
                }
                if let Some(question) = question.take() {
                    client.try_publish(question_topic, QoS::AtLeastOnce, false, question).map_err(|_| full())?;
                }
            }
            Packet::PubAck(answer) if answer.reason == PubAckReason::NotAuthorized => {
                return Err(ExchangeError::Refused);
            }
            Packet::Publish(message) if message.topic == answer_topic.as_bytes() => {
                if let Some(answer) = accept(&message.payload) {
                    farewell(&client, &mut client_loop).await;
                    return Ok(answer);
                }
            }
            Packet::Disconnect(farewell) => {
                return Err(ExchangeError::Link(format!("the broker ended it: {:?}", farewell.reason_code)));
            }
            _ => {}
        }
    }
}

/// Ends the connection in order, for a moment at most: what was asked for is here.
async fn farewell(client: &AsyncClient, client_loop: &mut rumqttc::v5::EventLoop) {
    const FAREWELL_TIMEOUT: Duration = Duration::from_millis(500);
    if client.try_disconnect().is_err() {
        return;
    }
    // What is reported as sent has been flushed.
    let polling =
        async { while !matches!(client_loop.poll().await, Err(_) | Ok(Event::Outgoing(Outgoing::Disconnect))) {} };
    let expired = async {
        smol::Timer::after(FAREWELL_TIMEOUT).await;
    };
    polling.or(expired).await;
}
