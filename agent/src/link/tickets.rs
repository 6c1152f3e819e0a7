//! Which answer belongs to which request. The client gives packet ids only after a request was taken, in the order of requests.
//!
//! Must never grow without bound: every entry is one request of a bounded queue, or one publication in flight.
use agent_nostd::machine::port::{Subscription, Ticket};
use std::collections::{BTreeMap, VecDeque};

/// What the client has just put on the wire, with its packet id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Zero: no answer will come.
    Publication(u16),
    Subscription(u16),
}

#[derive(Debug, Default)]
pub struct Tickets {
    publications_queued: VecDeque<Option<Ticket>>,
    subscriptions_queued: VecDeque<Subscription>,
    publications: BTreeMap<u16, Ticket>,
    subscriptions: BTreeMap<u16, Subscription>,
}

impl Tickets {
    /// A publication was given to the client.
    pub fn published(&mut self, ticket: Option<Ticket>) {
        self.publications_queued.push_back(ticket);
    }

    /// A subscription was given to the client.
    pub fn subscribed(&mut self, group: Subscription) {
        self.subscriptions_queued.push_back(group);
    }

    /// A request got its packet id. An error: the client did something else than it was asked for.
    pub fn sent(&mut self, sent: Sent) -> Result<(), String> {
        let surprise = || "the client sent what nobody asked for".to_owned();
        match sent {
            Sent::Publication(packet) => {
                let ticket = self.publications_queued.pop_front().ok_or_else(surprise)?;
                if let Some(ticket) = ticket {
                    self.publications.insert(packet, ticket);
                }
            }
            Sent::Subscription(packet) => {
                let group = self.subscriptions_queued.pop_front().ok_or_else(surprise)?;
                self.subscriptions.insert(packet, group);
            }
        }
        Ok(())
    }

    pub fn publication_answered(&mut self, packet: u16) -> Option<Ticket> {
        self.publications.remove(&packet)
    }

    pub fn subscription_answered(&mut self, packet: u16) -> Option<Subscription> {
        self.subscriptions.remove(&packet)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_answer_finds_its_ticket_in_any_order() {
        let mut tickets = Tickets::default();
        tickets.published(Some(Ticket(10)));
        tickets.published(None);
        tickets.subscribed(Subscription::Live);
        tickets.published(Some(Ticket(11)));
        tickets.sent(Sent::Publication(1)).unwrap();
        tickets.sent(Sent::Publication(0)).unwrap();
        tickets.sent(Sent::Subscription(2)).unwrap();
        tickets.sent(Sent::Publication(3)).unwrap();
        assert_eq!(tickets.publication_answered(3), Some(Ticket(11)));
        assert_eq!(tickets.publication_answered(1), Some(Ticket(10)));
        assert_eq!(tickets.publication_answered(1), None);
        assert_eq!(tickets.subscription_answered(2), Some(Subscription::Live));
        assert!(tickets.sent(Sent::Publication(4)).is_err());
    }
}
