//! A list that is followed: what is there, then every change, over broken connections and restarts of the hub.
//!
//! After a break it resumes at its last position; where the hub cannot go on from there it lists again and tells only what is
//! different. Whoever uses it sees one unbroken history of changes.

use crate::client::Client;
use crate::failure::Failure;
use crate::list::Parameters;
use crate::output::say;
use crate::show::text;
use crate::sse::{Item, Items};
use crate::target::with_query;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Between two attempts to connect again; doubled up to the most.
const RETRY_LEAST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(5);

/// One step of the history.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Added(Value),
    Modified(Value),
    /// As it was last seen, or its names only.
    Deleted(Value),
    /// What was there at the start has been told.
    Settled,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    GoOn,
    Stop,
}

/// Whether objects are remembered: events are not, they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    Objects,
    Nothing,
}

pub struct Watch<'c> {
    client: &'c Client,
    path: String,
    parameters: Parameters,
    end: Option<Instant>,
    history: History,
}

/// What was told; no connection and no clock.
struct History {
    memory: Memory,
    known: BTreeMap<(String, String), Value>,
    position: Option<String>,
    /// Names that were seen while listing; `None`: not listing.
    seen: Option<BTreeSet<(String, String)>>,
    is_settled: bool,
}

/// Why a stream is over.
enum Cut {
    /// Connect again, from the position if there is one.
    Again,
    Stop,
}

fn name(document: &Value) -> (String, String) {
    (text(document, "/metadata/namespace"), text(document, "/metadata/name"))
}

impl History {
    fn new(memory: Memory) -> Self {
        Self { memory, known: BTreeMap::new(), position: None, seen: None, is_settled: false }
    }

    /// A stream is about to begin.
    fn begin(&mut self) {
        self.seen = (self.memory == Memory::Objects && self.position.is_none()).then(BTreeSet::new);
    }

    /// The position is of no use any more.
    fn forget(&mut self) {
        self.position = None;
    }

    /// What an item of the stream means; nothing if it was known.
    fn take(&mut self, item: &Item) -> Vec<Change> {
        let document: Value = serde_json::from_str(&item.data).unwrap_or_default();
        let mut changes = Vec::new();
        match item.kind.as_str() {
            "ADDED" | "MODIFIED" if self.memory == Memory::Nothing => changes.push(Change::Added(document)),
            "ADDED" | "MODIFIED" => {
                let name = name(&document);
                if let Some(seen) = &mut self.seen {
                    seen.insert(name.clone());
                }
                match self.known.insert(name, document.clone()) {
                    None => changes.push(Change::Added(document)),
                    Some(before) if before == document => {}
                    Some(_) => changes.push(Change::Modified(document)),
                }
            }
            "DELETED" => changes.push(Change::Deleted(self.known.remove(&name(&document)).unwrap_or(document))),
            "BOOKMARK" => {
                if let Some(seen) = self.seen.take() {
                    let gone: Vec<_> = self.known.keys().filter(|name| !seen.contains(*name)).cloned().collect();
                    changes.extend(gone.iter().filter_map(|name| self.known.remove(name)).map(Change::Deleted));
                }
                if !self.is_settled {
                    self.is_settled = true;
                    changes.push(Change::Settled);
                }
            }
            // A kind that a newer hub knows.
            _ => {}
        }
        // Before the list is whole there is nothing to resume.
        if self.seen.is_none() && item.id.is_some() {
            self.position.clone_from(&item.id);
        }
        changes
    }
}

impl<'c> Watch<'c> {
    pub fn new(client: &'c Client, path: &str, parameters: Parameters, memory: Memory) -> Self {
        Self { client, path: path.to_owned(), parameters, end: None, history: History::new(memory) }
    }

    /// Ends by itself after this time.
    pub fn for_at_most(mut self, time: Option<Duration>) -> Self {
        self.end = time.map(|time| Instant::now() + time);
        self
    }

    /// Until `each` says so, the time is over, or the hub refuses. A hub that is away is waited for, once it has answered.
    pub fn run(mut self, each: &mut dyn FnMut(Change) -> Result<Flow, Failure>) -> Result<(), Failure> {
        let (mut pause, mut has_answered) = (RETRY_LEAST, false);
        loop {
            let left = self.end.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(());
            }
            let mut parameters = self.parameters.clone();
            parameters.push(("watch", Some("true".to_owned())));
            parameters.push(("resourceVersion", self.history.position.clone()));
            self.history.begin();
            match self.client.follow(&with_query(&self.path, &parameters), left) {
                Ok(stream) => {
                    (pause, has_answered) = (RETRY_LEAST, true);
                    match self.read(Items::new(stream), each)? {
                        Cut::Stop => return Ok(()),
                        Cut::Again => {}
                    }
                }
                Err(failure) if failure.code == "WATCH_EXPIRED" && self.history.position.is_some() => {
                    self.history.forget();
                    continue;
                }
                Err(failure) if has_answered && is_passing(&failure) => {}
                Err(failure) => return Err(failure),
            }
            let left = self.end.map_or(pause, |end| end.saturating_duration_since(Instant::now()));
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(RETRY_MOST);
        }
    }

    fn read(
        &mut self,
        mut items: Items<crate::client::Stream>,
        each: &mut dyn FnMut(Change) -> Result<Flow, Failure>,
    ) -> Result<Cut, Failure> {
        loop {
            let item = match items.next() {
                Ok(Some(item)) => item,
                _ if self.end.is_some_and(|end| Instant::now() >= end) => return Ok(Cut::Stop),
                Ok(None) | Err(_) => {
                    say("the connection to the hub is gone; trying again");
                    return Ok(Cut::Again);
                }
            };
            if item.kind == "END" {
                let problem: Value = serde_json::from_str(&item.data).unwrap_or_default();
                if text(&problem, "/code") == "WATCH_EXPIRED" {
                    self.history.forget();
                }
                return Ok(Cut::Again);
            }
            for change in self.history.take(&item) {
                if each(change)? == Flow::Stop {
                    return Ok(Cut::Stop);
                }
            }
        }
    }
}

/// A refusal that is over when the hub is back or has time.
fn is_passing(failure: &Failure) -> bool {
    matches!(failure.code.as_str(), "UNREACHABLE" | "BUSY" | "WATCH_SLOW" | "RATE_LIMITED" | "NOT_A_HUB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn item(kind: &str, id: Option<&str>, name: &str, value: u64) -> Item {
        let data = json!({"metadata": {"name": name}, "spec": value}).to_string();
        Item { kind: kind.to_owned(), data, id: id.map(str::to_owned) }
    }

    fn object(name: &str, value: u64) -> Value {
        json!({"metadata": {"name": name}, "spec": value})
    }

    #[test]
    fn what_is_there_is_told_first_and_changes_after_it() {
        let mut history = History::new(Memory::Objects);
        history.begin();
        assert_eq!(history.take(&item("ADDED", None, "a", 1)), [Change::Added(object("a", 1))]);
        assert_eq!(history.position, None, "a list that is not whole cannot be resumed");
        assert_eq!(history.take(&item("BOOKMARK", Some("1.7"), "", 0)), [Change::Settled]);
        assert_eq!(history.position.as_deref(), Some("1.7"));
        assert_eq!(history.take(&item("MODIFIED", Some("1.8"), "a", 2)), [Change::Modified(object("a", 2))]);
        assert_eq!(history.take(&item("DELETED", Some("1.9"), "a", 0)), [Change::Deleted(object("a", 2))]);
        assert_eq!(history.position.as_deref(), Some("1.9"));
    }

    #[test]
    fn after_listing_again_only_differences_are_told() {
        let mut history = History::new(Memory::Objects);
        history.begin();
        for name in ["same", "changed", "gone"] {
            history.take(&item("ADDED", None, name, 1));
        }
        history.take(&item("BOOKMARK", Some("1.1"), "", 0));
        history.forget();
        history.begin();
        assert_eq!(history.take(&item("ADDED", None, "same", 1)), []);
        assert_eq!(history.take(&item("ADDED", None, "changed", 2)), [Change::Modified(object("changed", 2))]);
        assert_eq!(history.take(&item("ADDED", None, "new", 1)), [Change::Added(object("new", 1))]);
        assert_eq!(history.take(&item("BOOKMARK", Some("2.1"), "", 0)), [Change::Deleted(object("gone", 1))]);
    }

    #[test]
    fn a_resumed_stream_does_not_take_the_rest_for_gone() {
        let mut history = History::new(Memory::Objects);
        history.begin();
        history.take(&item("ADDED", None, "a", 1));
        history.take(&item("BOOKMARK", Some("1.1"), "", 0));
        history.begin();
        assert_eq!(history.take(&item("BOOKMARK", Some("1.5"), "", 0)), []);
        assert_eq!(history.position.as_deref(), Some("1.5"));
    }

    #[test]
    fn events_are_not_remembered() {
        let mut history = History::new(Memory::Nothing);
        history.begin();
        history.take(&item("ADDED", Some("1.1"), "", 1));
        assert!(history.known.is_empty());
        assert_eq!(history.position.as_deref(), Some("1.1"));
    }
}
