//! An engine with its writer and a broker that remembers, on a virtual clock.
use super::writer::{FLEET, Said, Writer, hub_exchange, hub_key};
use crate::commit::{Batch, CommitFailure};
use crate::engine::Engine;
use crate::engine::port::*;
use crate::model::{Kind, ObjectKey};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use wire::topic::{Down, Topic};
use wire::{DeviceId, Digest};

/// The engine does not look into it.
pub const TRUST: &[u8] = b"chain";

pub struct World {
    pub engine: Engine,
    pub writer: Writer,
    pub now: Now,
    pub answers: BTreeMap<Ticket, Result<Answer, Problem>>,
    pub streams: Vec<(Ticket, StreamItem)>,
    pub access: Vec<AccessChange>,
    /// Parts of artifacts that are to be read.
    pub reads: Vec<ContentRead>,
    /// What somebody who looks at the listener for devices sees; `None`: nobody looks.
    pub listener: Option<bool>,
    /// Everything published, in order.
    pub sent: Vec<Publication>,
    pub retained: BTreeMap<String, Vec<u8>>,
    pub batches: Vec<Batch>,
    /// The broker acknowledges.
    pub acknowledges: bool,
    /// The shell has no room: nothing is taken from the engine.
    pub stalled: bool,
    tickets: u64,
}

pub fn engine(writer: &mut Writer) -> Engine {
    let mut config = EngineConfig::new(
        "mqtt://127.0.0.1:1883".to_owned(),
        "http://127.0.0.1:7443".to_owned(),
        Box::new(hub_exchange()),
    );
    config.trust = TRUST.to_vec();
    config.signer = Some(std::sync::Arc::new(hub_key()));
    Engine::new(config, writer.database.load())
}

impl World {
    /// A new hub whose link is up.
    pub fn new() -> Self {
        let mut writer = Writer::default();
        let engine = engine(&mut writer);
        let now = Now { monotonic: Instant(1_000_000), wall_ms: 1_700_000_000_000 };
        let mut world = Self {
            engine,
            writer,
            now,
            answers: BTreeMap::new(),
            streams: Vec::new(),
            access: Vec::new(),
            reads: Vec::new(),
            listener: None,
            sent: Vec::new(),
            retained: BTreeMap::new(),
            batches: Vec::new(),
            acknowledges: true,
            stalled: false,
            tickets: 0,
        };
        world.connect();
        // The namespace that the start makes.
        world.batches.clear();
        world
    }

    /// The process dies; what the writer has not confirmed is lost.
    pub fn restart(&mut self) {
        self.writer.queue.clear();
        let database = self.writer.database.clone();
        self.writer = Writer { database, ..Writer::default() };
        self.engine = engine(&mut self.writer);
        self.connect();
    }

    /// As the shell does it: the retained hub/state comes with the subscription.
    pub fn connect(&mut self) {
        let topic = Topic::HubState.print(FLEET).unwrap();
        if let Some(payload) = self.retained.get(topic.as_str()).cloned() {
            self.input(Input::HubStateSeen { payload, retained: true });
        }
        self.input(Input::LinkUp);
        self.pass(Duration::from_secs(3));
    }

    pub fn input(&mut self, input: Input) {
        self.engine.handle(self.now, input);
        self.settle();
    }

    pub fn pass(&mut self, time: Duration) {
        let end = self.now.monotonic.after(time);
        loop {
            let next = self.engine.poll_timeout().map_or(end, |at| at.min(end)).max(self.now.monotonic);
            // A timeout in the past is due now; time moves on all the same.
            let next = if next == self.now.monotonic { next.after(Duration::from_millis(1)).min(end) } else { next };
            self.now.wall_ms += next.0 - self.now.monotonic.0;
            self.now.monotonic = next;
            self.settle();
            if next >= end {
                return;
            }
        }
    }

    pub fn settle(&mut self) {
        if self.stalled {
            return;
        }
        for _ in 0..100_000 {
            if let Some(effect) = self.engine.poll(self.now) {
                self.perform(effect);
            } else if self.writer.holds || !self.write_one() {
                return;
            }
        }
        panic!("the engine does not come to rest");
    }

    /// Lets the writer do what it holds.
    pub fn write(&mut self) {
        while self.write_one() {
            self.settle();
        }
        self.settle();
    }

    fn write_one(&mut self) -> bool {
        match self.writer.step() {
            Some(Said::Committed(sequence, signed)) => {
                self.engine.handle(self.now, Input::Committed { sequence, signed });
                true
            }
            Some(Said::Failed(sequence, reason)) => {
                self.engine.handle(self.now, Input::Failed { sequence, reason });
                true
            }
            None => false,
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Commit(batch) => {
                self.batches.push(batch.clone());
                self.writer.queue.push_back(batch);
            }
            Effect::Publish(publication) => {
                if publication.retain {
                    if publication.payload.is_empty() {
                        self.retained.remove(&publication.topic);
                    } else {
                        self.retained.insert(publication.topic.clone(), publication.payload.clone());
                    }
                }
                let id = publication.publication;
                self.sent.push(publication);
                if self.acknowledges {
                    self.engine.handle(self.now, Input::Acknowledged { publication: id });
                }
            }
            Effect::Answer { ticket, result } => {
                assert!(self.answers.insert(ticket, result).is_none(), "one answer for each question");
            }
            Effect::Stream { ticket, item } => self.streams.push((ticket, item)),
            Effect::Access(change) => self.access.push(change),
            Effect::Read(read) => self.reads.push(read),
            Effect::Probe => {
                if let Some(is_open) = self.listener {
                    self.engine.handle(self.now, Input::Door { is_open });
                }
            }
        }
    }

    pub fn ask(&mut self, request: Request) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.input(Input::Request { ticket, actor: "admin".to_owned(), request });
        ticket
    }

    pub fn answer(&mut self, request: Request) -> Result<Answer, Problem> {
        let ticket = self.ask(request);
        self.answers.remove(&ticket).expect("answered")
    }

    pub fn fail_next(&mut self, reason: CommitFailure) {
        self.writer.fails = Some(reason);
    }

    pub fn put(&mut self, key: &ObjectKey, document: Value) -> Result<Answer, Problem> {
        self.answer(put_request(key, document))
    }

    pub fn get(&mut self, key: &ObjectKey) -> Value {
        match self.answer(Request::Get { key: key.clone() }) {
            Ok(Answer::Object { document, .. }) => document,
            other => panic!("no {key}: {other:?}"),
        }
    }

    pub fn upload(&mut self, name: &str, fill: u8) -> String {
        let digest = Digest([fill; 32]);
        let request =
            Request::ArtifactPut { namespace: "default".to_owned(), name: name.to_owned(), digest, bytes: 1234 };
        assert!(self.answer(request).is_ok());
        format!("{name}@sha256:{digest}")
    }

    /// A workload of one function on the devices of a placement.
    pub fn run(&mut self, name: &str, placement: Value) -> Result<Answer, Problem> {
        let artifact = self.upload("app", 0x11);
        self.put(&ObjectKey::workload("default", name), workload(name, &artifact, placement))
    }

    pub fn token(&mut self, approve: bool) -> String {
        self.tickets += 1;
        let mut entropy = [0; 32];
        entropy[..8].copy_from_slice(&self.tickets.to_be_bytes());
        let request = Request::TokenCreate { expires_in: None, approve, labels: json!({"zone": "a"}), entropy };
        match self.answer(request) {
            Ok(Answer::Token { text, .. }) => text,
            other => panic!("no token: {other:?}"),
        }
    }

    pub fn list(&mut self, kind: Kind) -> Vec<Value> {
        match self.answer(Request::List { kind, selection: Selection::default(), limit: 500, after: None }) {
            Ok(Answer::List { items, .. }) => items,
            other => panic!("no list: {other:?}"),
        }
    }

    pub fn events(&mut self, reason: &str) -> Vec<EventLine> {
        match self.answer(Request::Events { object: None, tail: 1000, follow: Follow::Once }) {
            Ok(Answer::Events(lines)) => lines.into_iter().filter(|line| line.reason == reason).collect(),
            other => panic!("no events: {other:?}"),
        }
    }

    pub fn retained_desired(&self, device: DeviceId) -> Option<&Vec<u8>> {
        self.retained.get(Topic::Down(device, Down::Desired).print(FLEET).unwrap().as_str())
    }

    /// Publications to a device since the last call of `sent.clear()`.
    pub fn sent_to(&self, device: DeviceId, down: Down) -> Vec<&Publication> {
        let topic = Topic::Down(device, down).print(FLEET).unwrap();
        self.sent.iter().filter(|publication| publication.topic == topic.as_str()).collect()
    }
}

pub fn put_request(key: &ObjectKey, document: Value) -> Request {
    Request::Put { key: key.clone(), document, mode: Mode::Commit, if_match: None }
}

pub fn workload(name: &str, artifact: &str, placement: Value) -> Value {
    json!({
        "apiVersion": "fulmar/v1", "kind": "Workload", "metadata": {"name": name},
        "spec": {"type": "function", "artifact": artifact, "placement": placement,
            "function": {"triggers": {"every": "5s", "topics": ["alarm/#"]}, "config": {"a": 1}, "capabilities": ["log"]}}
    })
}

pub fn region(name: &str, center: [f64; 2], radius_km: f64) -> Value {
    json!({
        "apiVersion": "fulmar/v1", "kind": "Region", "metadata": {"name": name},
        "spec": {"circle": {"center": center, "radiusKm": radius_km}}
    })
}
