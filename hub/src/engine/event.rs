//! What operators may want to know: a bounded ring of events, and those who follow it or a workload's lines.
//!
//! Events are not durable and are never a reason for a decision.

use super::Engine;
use super::port::{Answer, EventLine, LogLine, Now, Position, Problem, Severity, StreamItem, Ticket};
use super::problem;
use crate::model::ObjectKey;
use std::collections::VecDeque;

/// Events that are kept; the oldest go first.
pub const EVENTS_MAX: usize = 10_000;
/// Items that wait for one follower; the newest are dropped and counted.
pub const FOLLOWER_ITEMS_MAX: usize = 1_024;
/// Followers at one time.
pub const FOLLOWERS_MAX: usize = 256;

/// An event before it has its number.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub severity: Severity,
    pub reason: &'static str,
    pub object: String,
    pub device: Option<String>,
    pub message: String,
}

impl Draft {
    pub fn hub(reason: &'static str, message: impl Into<String>) -> Self {
        let object = "hub".to_owned();
        Self { severity: Severity::Warning, reason, object, device: None, message: message.into() }
    }

    /// About what is no object, or none any more.
    pub fn about(reason: &'static str, object: String, message: String) -> Self {
        Self { severity: Severity::Normal, reason, object, device: None, message }
    }

    pub fn normal(reason: &'static str, key: &ObjectKey, message: impl Into<String>) -> Self {
        Self { severity: Severity::Normal, reason, object: key.to_string(), device: None, message: message.into() }
    }

    pub fn warning(reason: &'static str, key: &ObjectKey, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::normal(reason, key, message) }
    }

    pub fn on(self, device: &str) -> Self {
        Self { device: Some(device.to_owned()), ..self }
    }
}

#[derive(Debug, Default)]
pub(super) struct Events {
    ring: VecDeque<EventLine>,
    next: u64,
}

impl Events {
    fn push(&mut self, now: Now, draft: Draft) -> EventLine {
        self.next += 1;
        let line = EventLine {
            sequence: self.next,
            time_ms: now.wall_ms,
            severity: draft.severity,
            reason: draft.reason.to_owned(),
            object: draft.object,
            device: draft.device,
            message: draft.message,
        };
        if self.ring.len() == EVENTS_MAX {
            self.ring.pop_front();
        }
        self.ring.push_back(line.clone());
        line
    }

    /// Those about an object after a sequence, oldest first; `None` when some may be gone already.
    fn since(&self, object: Option<&str>, sequence: u64) -> Option<Vec<EventLine>> {
        let oldest = self.ring.front().map_or(self.next, |line| line.sequence - 1);
        if !(oldest..=self.next).contains(&sequence) {
            return None;
        }
        let later = self.ring.iter().filter(|line| line.sequence > sequence && is_about(line, object));
        Some(later.cloned().collect())
    }

    /// The last `tail` about an object, oldest first.
    pub fn tail(&self, object: Option<&str>, tail: usize) -> Vec<EventLine> {
        let matching = self.ring.iter().rev().filter(|line| is_about(line, object));
        let mut lines: Vec<EventLine> = matching.take(tail).cloned().collect();
        lines.reverse();
        lines
    }
}

/// `object` is `kind/namespace/name`, `kind/name`, or a bare name of an object or device.
fn is_about(line: &EventLine, object: Option<&str>) -> bool {
    let Some(wanted) = object else { return true };
    let is_object = |text: &str| text == wanted || text.rsplit('/').next() == Some(wanted) || short(text) == wanted;
    let is_device =
        line.device.as_deref().is_some_and(|device| device == wanted || format!("device/{device}") == wanted);
    is_object(&line.object) || is_device
}

/// `workload/default/hello` as `workload/hello`.
fn short(object: &str) -> String {
    let mut parts = object.split('/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(kind), Some(_), Some(name)) => format!("{kind}/{name}"),
        _ => object.to_owned(),
    }
}

/// What a follower asked for.
#[derive(Clone, Debug)]
pub(super) enum Interest {
    Events { object: Option<String> },
    Logs { workload: u32, device: Option<String> },
    Samples { device: String },
}

/// Somebody who follows, and what waits for them.
#[derive(Debug)]
pub(super) struct Follower {
    pub interest: Interest,
    queue: VecDeque<StreamItem>,
    dropped: u64,
}

impl Follower {
    pub fn new(interest: Interest) -> Self {
        Self { interest, queue: VecDeque::new(), dropped: 0 }
    }

    pub fn push(&mut self, item: StreamItem) {
        if self.queue.len() < FOLLOWER_ITEMS_MAX {
            self.queue.push_back(item);
        } else {
            self.dropped += 1;
        }
    }

    pub fn next(&mut self) -> Option<StreamItem> {
        let item = self.queue.pop_front();
        if item.is_none() && self.dropped > 0 {
            return Some(StreamItem::Dropped(std::mem::take(&mut self.dropped)));
        }
        item
    }
}

impl Engine {
    pub(super) fn tell(&mut self, now: Now, draft: Draft) {
        let line = self.events.push(now, draft);
        for follower in self.followers.values_mut() {
            if let Interest::Events { object } = &follower.interest
                && is_about(&line, object.as_deref())
            {
                follower.push(StreamItem::Event(line.clone()));
            }
        }
    }

    pub(super) fn events_watch(
        &mut self,
        ticket: Ticket,
        object: Option<String>,
        tail: usize,
        from: Option<Position>,
    ) -> Result<Answer, Problem> {
        if self.followers.len() >= FOLLOWERS_MAX {
            return Err(problem::busy(&format!("{FOLLOWERS_MAX} streams are followed already, the most at one time")));
        }
        let lines = match from {
            None => self.events.tail(object.as_deref(), tail.min(super::request::TAIL_MAX)),
            Some(from) if from.incarnation != self.incarnation => {
                return Err(problem::watch_expired("the hub was started again since"));
            }
            Some(from) => {
                let lines = self.events.since(object.as_deref(), from.sequence);
                lines.ok_or_else(|| problem::watch_expired("more has happened since than the hub remembers"))?
            }
        };
        self.followers.insert(ticket, Follower::new(Interest::Events { object }));
        Ok(Answer::WatchingEvents { lines, incarnation: self.incarnation })
    }

    pub(super) fn tell_log(&mut self, workload: u32, line: &LogLine) {
        for follower in self.followers.values_mut() {
            if let Interest::Logs { workload: wanted, device } = &follower.interest
                && *wanted == workload
                && device.as_ref().is_none_or(|device| *device == line.device)
            {
                follower.push(StreamItem::Log(line.clone()));
            }
        }
    }

    /// Ends the streams of a workload that is gone.
    pub(super) fn end_logs(&mut self, gone: u32) {
        for follower in self.followers.values_mut() {
            if matches!(follower.interest, Interest::Logs { workload, .. } if workload == gone) {
                follower.push(StreamItem::End);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_bounded_and_a_tail_is_oldest_first() {
        let mut events = Events::default();
        for n in 0..=EVENTS_MAX {
            events.push(Now::default(), Draft::hub("Test", n.to_string()));
        }
        assert_eq!(events.ring.len(), EVENTS_MAX);
        let messages: Vec<String> = events.tail(None, 2).into_iter().map(|line| line.message).collect();
        assert_eq!(messages, [(EVENTS_MAX - 1).to_string(), EVENTS_MAX.to_string()]);
    }

    #[test]
    fn a_slow_follower_loses_the_newest_and_is_told_how_many() {
        let mut follower = Follower::new(Interest::Events { object: None });
        for _ in 0..FOLLOWER_ITEMS_MAX + 3 {
            follower.push(StreamItem::End);
        }
        let items: Vec<StreamItem> = std::iter::from_fn(|| follower.next()).collect();
        assert_eq!(items.len(), FOLLOWER_ITEMS_MAX + 1);
        assert_eq!(items.last(), Some(&StreamItem::Dropped(3)));
    }

    #[test]
    fn an_object_is_found_by_its_short_names() {
        let draft = Draft::hub("Test", "").on("gw-1");
        let line =
            Events::default().push(Now::default(), Draft { object: "workload/default/hello".to_owned(), ..draft });
        for name in ["workload/default/hello", "workload/hello", "hello", "gw-1", "device/gw-1"] {
            assert!(is_about(&line, Some(name)), "{name}");
        }
        assert!(!is_about(&line, Some("default")));
    }
}
