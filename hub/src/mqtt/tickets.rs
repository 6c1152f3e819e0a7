//! Matches the broker's acknowledgements to the owner's tickets.
//!
//! The client library hands out packet ids itself and says so in its events, in the order in which it took the
//! requests. This table must be told of every request and every event of one connection, and dies with it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// The tickets of one connection.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    /// Handed to the library, packet id not known yet; `None` for QoS 0, which has no acknowledgement.
    issued: VecDeque<Option<u64>>,
    /// Waiting for the acknowledgement of the older publication that holds their packet id.
    collided: HashMap<u16, u64>,
    /// On the way, by packet id, and since when on the connection's clock.
    sent: HashMap<u16, (u64, Duration)>,
}

impl Tickets {
    /// A publication goes to the library. Must be called before the library can take it.
    pub(super) fn issue(&mut self, ticket: Option<u64>) {
        self.issued.push_back(ticket);
    }

    /// The library took the oldest issued publication but its packet id is still in use: it is sent later.
    pub(super) fn collision(&mut self, packet_id: u16) {
        if let Some(Some(ticket)) = self.issued.pop_front() {
            self.collided.insert(packet_id, ticket);
        }
    }

    /// The library sent a publication; packet id 0 stands for QoS 0.
    pub(super) fn sent(&mut self, packet_id: u16, at: Duration) {
        if let Some(ticket) = self.collided.remove(&packet_id) {
            self.sent.insert(packet_id, (ticket, at));
        } else if let Some(Some(ticket)) = self.issued.pop_front() {
            self.sent.insert(packet_id, (ticket, at));
        }
    }

    /// When the publication was sent that waits longest for its acknowledgement.
    pub(super) fn oldest(&self) -> Option<Duration> {
        self.sent.values().map(|(_, since)| *since).min()
    }

    /// The broker answered for this packet id.
    pub(super) fn answered(&mut self, packet_id: u16) -> Option<u64> {
        self.sent.remove(&packet_id).map(|(ticket, _)| ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_follow_the_order_of_the_requests_across_both_qualities() {
        let mut tickets = Tickets::default();
        for ticket in [Some(70), None, Some(71)] {
            tickets.issue(ticket);
        }
        for packet_id in [1, 0, 2] {
            tickets.sent(packet_id, Duration::ZERO);
        }
        assert_eq!(tickets.answered(2), Some(71));
        assert_eq!(tickets.answered(2), None, "acknowledged twice");
        assert_eq!(tickets.answered(1), Some(70));
        assert_eq!(tickets.answered(0), None);
    }

    #[test]
    fn a_collision_delays_only_its_own_ticket() {
        let mut tickets = Tickets::default();
        tickets.issue(Some(1));
        tickets.sent(5, Duration::ZERO);
        tickets.issue(Some(2));
        tickets.collision(5);
        assert_eq!(tickets.answered(5), Some(1));
        tickets.issue(Some(3));
        tickets.sent(5, Duration::ZERO);
        tickets.sent(6, Duration::ZERO);
        assert_eq!(tickets.answered(6), Some(3));
        assert_eq!(tickets.answered(5), Some(2));
    }

    #[test]
    fn the_oldest_is_the_one_that_waits_longest_now() {
        let mut tickets = Tickets::default();
        assert_eq!(tickets.oldest(), None);
        for (ticket, packet_id) in [(1, 7), (2, 8)] {
            tickets.issue(Some(ticket));
            tickets.sent(packet_id, Duration::from_secs(ticket));
        }
        assert_eq!(tickets.oldest(), Some(Duration::from_secs(1)));
        tickets.answered(7);
        assert_eq!(tickets.oldest(), Some(Duration::from_secs(2)));
    }
}
