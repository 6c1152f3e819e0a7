//! What waits until a broker elsewhere knows an account: the answer that tells a device its credential, and the token that
//! somebody asked for. Sent earlier, the first connection would be refused.

use std::collections::VecDeque;

use crate::engine::port::{Answer, Problem, Publication, Ticket};

/// Answers that wait. Devices whose answer finds no room ask again.
pub const HELD_MAX: usize = 1_024;

/// Something that leaves later.
#[derive(Debug)]
pub(super) enum Waiting {
    Publication(Publication),
    Answer(Ticket, Box<Result<Answer, Problem>>),
}

/// The queue, in the order of the changes that it waits for.
#[derive(Debug, Default)]
pub(super) struct Held {
    queue: VecDeque<(u64, Waiting)>,
    /// The last change that was told.
    expected: u64,
}

impl Held {
    /// A change was told to the broker. What comes after it may speak of it.
    pub(super) fn expect(&mut self, number: u64) {
        self.expected = self.expected.max(number);
    }

    /// The broker has not done everything yet.
    pub(super) fn is_early(&self, settled: u64) -> bool {
        self.expected > settled || !self.queue.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= HELD_MAX
    }

    /// False: there is no room.
    pub(super) fn put(&mut self, waiting: Waiting) -> bool {
        if self.is_full() {
            return false;
        }
        self.queue.push_back((self.expected, waiting));
        true
    }

    /// The next that may leave. A token also leaves when the broker cannot be told anything: it will be told before it
    /// lets anybody in with it. A publication waits for the connection that carries it.
    pub(super) fn take(&mut self, settled: u64, is_connected: bool, has_link: bool) -> Option<Waiting> {
        let may_leave = |(number, waiting): &(u64, Waiting)| match waiting {
            Waiting::Publication(_) => *number <= settled && has_link,
            Waiting::Answer(..) => *number <= settled || !is_connected,
        };
        let at = self.queue.iter().position(may_leave)?;
        self.queue.remove(at).map(|(_, waiting)| waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(publication: u64) -> Waiting {
        let topic = String::new();
        Waiting::Publication(Publication { publication, topic, payload: Vec::new(), retain: false, qos1: true })
    }

    #[test]
    fn nothing_is_early_before_anything_was_told() {
        let mut held = Held::default();
        assert!(!held.is_early(0));
        held.expect(3);
        assert!(held.is_early(2) && !held.is_early(3));
    }

    #[test]
    fn an_answer_leaves_when_its_change_is_done_and_there_is_a_link() {
        let mut held = Held::default();
        held.expect(1);
        assert!(held.put(publication(10)));
        held.expect(2);
        assert!(held.put(publication(20)));
        assert!(held.take(0, true, true).is_none());
        assert!(held.take(1, true, false).is_none(), "it would be lost");
        assert!(matches!(held.take(1, true, true), Some(Waiting::Publication(Publication { publication: 10, .. }))));
        assert!(held.take(1, true, true).is_none());
        assert!(held.take(2, true, true).is_some() && held.is_empty());
    }

    #[test]
    fn a_token_does_not_wait_for_a_broker_that_is_away() {
        let mut held = Held::default();
        held.expect(1);
        let gone = Answer::Deleted;
        assert!(held.put(publication(10)));
        assert!(held.put(Waiting::Answer(Ticket(7), Box::new(Ok(gone)))));
        assert!(held.take(0, true, true).is_none());
        assert!(matches!(held.take(0, false, false), Some(Waiting::Answer(Ticket(7), _))));
        assert!(held.take(0, false, false).is_none());
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut held = Held::default();
        assert!((0..HELD_MAX).all(|_| held.put(publication(1))));
        assert!(held.is_full() && !held.put(publication(2)));
    }
}
