//! Translates what the MQTT link saw into inputs of the engine, on a thread of its own.
//!
//! When the engine is busy this thread waits, the link waits for it, and so the broker holds the fleet's messages
//! back. It decides nothing; messages on topics that are not ours are dropped.

use std::thread;

use async_channel::{Receiver, Sender};
use wire::topic::Topic;

use crate::engine::port::Input;
use crate::handle::Message;
use crate::mqtt::LinkEvent;

/// Events that wait between the link and this thread.
pub const LINK_EVENTS_MAX: usize = 1_024;

/// Runs until the link is gone or the engine is.
pub(super) fn start(
    fleet: String,
    events: Receiver<LinkEvent>,
    queue: Sender<Message>,
) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("link-events".to_owned()).spawn(move || {
        let mut translator = Translator { fleet, is_up: false };
        while let Ok(event) = events.recv_blocking() {
            if let Some(input) = translator.translate(event)
                && queue.send_blocking(Message::Input(input)).is_err()
            {
                return;
            }
        }
    })
}

struct Translator {
    fleet: String,
    is_up: bool,
}

impl Translator {
    fn translate(&mut self, event: LinkEvent) -> Option<Input> {
        match event {
            LinkEvent::Connected { .. } => {
                self.is_up = true;
                Some(Input::LinkUp)
            }
            // Also reported for an attempt that failed: only the end of a connection means something to the engine.
            LinkEvent::Disconnected { .. } => std::mem::take(&mut self.is_up).then_some(Input::LinkDown),
            LinkEvent::Acknowledged { ticket } => Some(Input::Acknowledged { publication: ticket }),
            LinkEvent::Refused { ticket, reason } => {
                tracing::warn!(publication = ticket, reason, "the broker refused a publication");
                Some(Input::PublishRefused { publication: ticket })
            }
            LinkEvent::Message { topic, payload, retained, .. } => self.message(&topic, payload, retained),
        }
    }

    fn message(&self, topic: &str, payload: Vec<u8>, retained: bool) -> Option<Input> {
        match Topic::parse(&self.fleet, topic)? {
            Topic::Up(device, topic) => Some(Input::Up { device, topic, payload, retained }),
            Topic::JoinRequest(token) => Some(Input::Join { token, payload, retained }),
            // The hub hears its own announcement too, and the engine knows it by its instance.
            Topic::HubState => Some(Input::HubStateSeen { payload, retained }),
            Topic::Down(..) | Topic::JoinAnswer(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use wire::DeviceId;
    use wire::topic::{TokenId, Up};

    fn translate(translator: &mut Translator, topic: Topic, retained: bool) -> Option<Input> {
        let topic = topic.print("north").unwrap().to_string();
        translator.translate(LinkEvent::Message { topic, payload: vec![1], retained, qos1: true })
    }

    #[test]
    fn only_the_end_of_a_connection_is_a_link_down() {
        let mut translator = Translator { fleet: "north".to_owned(), is_up: false };
        let lost = || LinkEvent::Disconnected { reason: String::new(), refusal: None };
        assert!(translator.translate(lost()).is_none());
        let connected = LinkEvent::Connected { session_present: false };
        assert!(matches!(translator.translate(connected), Some(Input::LinkUp)));
        assert!(matches!(translator.translate(lost()), Some(Input::LinkDown)));
        assert!(translator.translate(lost()).is_none());
    }

    #[test]
    fn messages_become_inputs_by_their_topic() {
        let mut translator = Translator { fleet: "north".to_owned(), is_up: true };
        let device = DeviceId([3; 16]);
        let up = translate(&mut translator, Topic::Up(device, Up::Status), true);
        assert!(matches!(up, Some(Input::Up { device: d, topic: Up::Status, retained: true, .. }) if d == device));
        let join = translate(&mut translator, Topic::JoinRequest(TokenId([4; 8])), false);
        assert!(matches!(join, Some(Input::Join { token: TokenId([4, ..]), retained: false, .. })));
        for kept in [true, false] {
            let seen = translate(&mut translator, Topic::HubState, kept);
            assert!(matches!(seen, Some(Input::HubStateSeen { retained, .. }) if retained == kept));
        }
        let mut other = Translator { fleet: "south".to_owned(), is_up: true };
        assert!(translate(&mut other, Topic::HubState, true).is_none());
    }
}
