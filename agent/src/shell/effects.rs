//! What the machine says is done here: each effect is handed to whoever does it, and nobody is waited for.
use super::{Answer, SLOTS, Shell, is_accepted, now};
use crate::link::{Delivery, Will};
use crate::runtime::{Losses, state_collect};
use agent_nostd::machine::Agent as Machine;
use agent_nostd::machine::port::{
    Content, Effect, FetchFailure, Input, JournalKey, PersistFailure, Quality, RetainHandling, Source, Subscription,
    Ticket,
};
use agent_nostd::machine::time::Instant;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, PoisonError};
use wire::Digest;
use wire::codec::Reader;
use wire::desired::SignedHeader;
use wire::event::Level;
use wire::record::Body;
use wire::topic::{Down, Topic, TopicText, Up};

/// How much of it must have changed before the machine hears of it.
const RESOURCE_CHANGE_PERCENT: u64 = 5;

/// Workload and component of each record of a stored set; empty if it cannot be read (then the machine does not use it either).
pub fn listed(value: &[u8]) -> BTreeSet<(u32, u8)> {
    let mut reader = Reader::new(value);
    let body = SignedHeader::read(&mut reader).and_then(|_| Body::decode(reader.rest()));
    match body {
        Ok(body) => body.iter().map(|record| (record.core.workload.0, record.core.component)).collect(),
        Err(_) => BTreeSet::new(),
    }
}

fn changed(old: u64, new: u64) -> bool {
    old.abs_diff(new).saturating_mul(100) > old.max(1).saturating_mul(RESOURCE_CHANGE_PERCENT)
}

impl Shell {
    /// Does everything that the machine wants, until it wants nothing.
    pub fn settle(&mut self, machine: &mut Machine<'_, SLOTS>) {
        loop {
            while let Some(effect) = machine.poll(now()) {
                self.perform(effect);
            }
            self.tell_time(machine);
            if std::mem::take(&mut self.collect_due) {
                self.collect(machine);
            }
            if !std::mem::take(&mut self.resources_due) || !self.tell_resources(machine) {
                return;
            }
        }
    }

    fn perform(&mut self, effect: Effect<'_>) {
        match effect {
            Effect::Connect { will } => {
                if let Some(topic) = self.topic(Topic::Up(self.device, Up::Will)) {
                    self.link.connect(Will { topic: topic.as_str().to_owned(), payload: will.to_vec() });
                }
            }
            Effect::Disconnect => self.link.disconnect(),
            Effect::Subscribe(group) => self.subscribe(group),
            Effect::Publish { topic, payload, quality, ticket } => self.publish(topic, payload, quality, ticket),
            Effect::Persist { ticket, key, value } => self.persist(ticket, key, value),
            Effect::Fetch { content, digest, bytes, source } => self.fetch(content, digest, bytes, source),
            Effect::Start { launch, record, terms } => {
                tracing::info!(
                    launch = launch.0, workload = record.core.workload.0, component = record.core.component,
                    generation = record.core.generation, artifact = %record.core.artifact, "a component starts"
                );
                self.runtime.launch(launch, &record, terms);
            }
            Effect::Extend { launch, terms } => self.runtime.extend(launch, terms),
            Effect::Stop { launch, grace } => {
                tracing::info!(launch = launch.0, "a component is stopped");
                self.runtime.stop(launch, grace);
            }
            Effect::Activate { launch, trigger } => self.runtime.activate(launch, trigger),
            Effect::Deliver { launch, topic, payload } => self.runtime.deliver(launch, topic, payload),
            Effect::Collect => self.collect_due = true,
        }
    }

    /// A topic of this fleet. The fleet's name was checked when the device joined.
    fn topic(&self, topic: Topic) -> Option<TopicText> {
        match topic.print(&self.fleet) {
            Ok(text) => Some(text),
            Err(error) => {
                tracing::error!(%error, fleet = self.fleet, "the fleet's name makes no topics");
                None
            }
        }
    }

    fn subscribe(&mut self, group: Subscription) {
        let topics: Vec<(Topic, RetainHandling)> = match group {
            Subscription::Live => {
                let live = Down::ALL.into_iter().filter(|down| !matches!(down, Down::Desired));
                let live = live.map(|down| {
                    // The hub's key is known since the join, and nothing follows the chain yet: hundreds of bytes for each connection.
                    let is_used = !matches!(down, Down::Trust);
                    let handling = if is_used { RetainHandling::Send } else { RetainHandling::Skip };
                    (Topic::Down(self.device, down), handling)
                });
                live.chain([(Topic::HubState, RetainHandling::Send)]).collect()
            }
            Subscription::Desired(handling) => vec![(Topic::Down(self.device, Down::Desired), handling)],
        };
        let texts: Vec<(TopicText, RetainHandling)> =
            topics.into_iter().filter_map(|(topic, handling)| Some((self.topic(topic)?, handling))).collect();
        let filters: Vec<(&str, RetainHandling)> =
            texts.iter().map(|(text, handling)| (text.as_str(), *handling)).collect();
        if self.link.subscribe(group, &filters).is_err() {
            tracing::debug!(?group, "the link took no subscription");
        }
    }

    fn publish(&mut self, topic: Up, payload: &[u8], quality: Quality, ticket: Ticket) {
        let Some(text) = self.topic(Topic::Up(self.device, topic)) else { return };
        let delivery = match quality {
            Quality::AtMostOnce => Delivery::AtMostOnce,
            Quality::AtLeastOnce => Delivery::AtLeastOnce { ticket },
        };
        tracing::debug!(topic = topic.name(), bytes = payload.len(), "sent");
        if self.link.publish(&text, payload.to_vec(), delivery).is_err() {
            // The machine's deadline for the answer deals with it.
            tracing::debug!(topic = topic.name(), "the link took no publication");
        }
    }

    /// Runs `work` on a thread that may block, and brings its answer to the loop.
    fn background<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + 'static,
        answer: impl FnOnce(T) -> Answer + 'static,
    ) {
        let answers = self.answers.clone();
        let task = async move {
            // The loop is gone: nobody wants to know.
            let _ = answers.send(answer(work.await)).await;
        };
        // Owned by the executor, which ends with the loop.
        self.commons.executor.spawn(task).detach();
    }

    fn persist(&mut self, ticket: Ticket, key: JournalKey, value: &[u8]) {
        if is_accepted(key) {
            self.accepted_next = Some((ticket, listed(value)));
        }
        self.writes += 1;
        let (journal, value) = (Arc::clone(&self.journal), value.to_vec());
        let is_full = self.store.takes_nothing();
        let write = move || match is_full {
            true => Err(PersistFailure::NoSpace),
            false => journal.lock().unwrap_or_else(PoisonError::into_inner).persist(key, &value),
        };
        let permits = Arc::clone(&self.commons.writes);
        let work = async move {
            let _permit = permits.acquire_arc().await;
            smol::unblock(write).await
        };
        self.background(work, move |result| Answer::Persisted { ticket, result });
    }

    fn fetch(&mut self, content: Content, digest: Digest, bytes: u32, source: Source) {
        let permits = match source {
            // Nothing that is here already waits for what is not.
            Source::Store => Arc::clone(&self.commons.checks),
            Source::Anywhere if self.fetching.insert(digest, content) == Some(content) => return,
            Source::Anywhere => Arc::clone(&self.commons.downloads),
        };
        let store = Arc::clone(&self.store);
        match content {
            Content::Artifact => {
                let work = async move {
                    let _permit = permits.acquire_arc().await;
                    smol::unblock(move || store.fetch(&digest, bytes, source)).await
                };
                self.background(work, move |result| Answer::Artifact { digest, result });
            }
            Content::Body => {
                // Few, small, and what everything else waits for: they do not queue behind artifacts.
                let work = smol::unblock(move || store.fetch_body(&digest, bytes, source));
                self.background(work, move |result| Answer::Body { digest, result });
            }
        }
    }

    /// The time of day for functions. Differences of a tick are the rounding of two clocks.
    fn tell_time(&mut self, machine: &Machine<'_, SLOTS>) {
        let now = now();
        self.wall.set_heard(machine.fresh_at().map(Instant::as_ms));
        let Some(unix_ms) = machine.unix_ms(now) else { return };
        let expected = self.wall_ms.map(|(wall, at)| wall.saturating_add(now.as_ms().saturating_sub(at.as_ms())));
        if expected.is_none_or(|expected| expected.abs_diff(unix_ms) > 1) {
            self.wall_ms = Some((unix_ms, now));
            self.wall.set(Some(unix_ms), now.as_ms());
        }
    }

    /// True if the machine was told something.
    fn tell_resources(&mut self, machine: &mut Machine<'_, SLOTS>) -> bool {
        let (memory_free_bytes, storage_free_bytes) = (self.runtime.memory_free_bytes(), self.store.free_bytes());
        let news = self.resources.is_none_or(|(memory, storage)| {
            changed(u64::from(memory), u64::from(memory_free_bytes)) || changed(storage, storage_free_bytes)
        });
        if news {
            self.resources = Some((memory_free_bytes, storage_free_bytes));
            machine.handle(now(), Input::Resources { memory_free_bytes, storage_free_bytes });
        }
        news
    }

    /// Says to people and to the hub that functions lost something; at most once per tick of the machine.
    pub fn tell_losses(&mut self, machine: &mut Machine<'_, SLOTS>) {
        let losses = self.runtime.losses();
        if losses == std::mem::replace(&mut self.losses, losses) {
            return;
        }
        let Losses { inputs, lines, events, samples } = losses;
        tracing::warn!(
            inputs,
            lines,
            events,
            samples,
            "functions ask for more than their limits; this much was dropped so far"
        );
        let text = format!(
            "dropped so far: {inputs} messages to functions, {lines} of their lines, {events} events, {samples} samples"
        );
        machine.handle(now(), Input::AgentLog { level: Level::Warn, text: &text });
    }

    /// Deletes what nothing refers to. On this thread, so that nothing can be asked for in between.
    fn collect(&mut self, machine: &Machine<'_, SLOTS>) {
        let wanted = |digest: &Digest| machine.references(digest) || self.fetching.contains_key(digest);
        match self.store.collect(wanted) {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "artifacts that nothing needs were deleted"),
            Err(error) => tracing::warn!(%error, "artifacts that nothing needs could not be deleted"),
        }
        let kept: BTreeSet<(u32, u8)> = self.accepted.iter().copied().chain(self.runtime.running()).collect();
        match state_collect(&self.state, &kept) {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "what removed functions remembered was deleted"),
            Err(error) => tracing::warn!(%error, "what removed functions remembered could not be deleted"),
        }
        self.resources_due = true;
    }

    /// The failure of a fetch in words.
    pub const fn fetch_failure_text(failure: FetchFailure) -> &'static str {
        match failure {
            FetchFailure::Absent => "not stored here",
            FetchFailure::Unreachable => "no source answered in full",
            FetchFailure::HashMismatch => "the source has other bytes",
            FetchFailure::NoSpace => "no room",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use wire::codec::Writer;
    use wire::dalek::Ed25519Key;
    use wire::desired::{ClassLimits, Header};
    use wire::record::{BodyWriter, CapabilitySet, Core, Role, Runtime};
    use wire::{DeviceId, Revision, WorkloadId};

    #[test]
    fn a_set_that_cannot_be_read_lists_nothing() {
        assert_eq!(listed(b""), BTreeSet::new());
        assert_eq!(listed(&[0; 300]), BTreeSet::new());
    }

    #[test]
    fn a_stored_set_lists_its_components() {
        let core = |workload, component| Core {
            workload: WorkloadId(workload),
            component,
            generation: 1,
            role: Role::Service,
            runtime: Runtime::Function,
            artifact: Digest::of(b""),
            artifact_bytes: 0,
            memory_bytes: 0,
            fuel: 0,
            instances: 1,
            capabilities: CapabilitySet::default(),
        };
        let mut buffer = [0; 512];
        let mut writer = BodyWriter::new(&mut buffer, 2).unwrap();
        writer.record(&core(7, 0), &[]).unwrap();
        writer.record(&core(7, 2), &[]).unwrap();
        let body = writer.finish().to_vec();
        let header = Header::of(Revision::default(), &body, ClassLimits { records: 9, memory_bytes: 9 }).unwrap();
        let signed = header.sign(&Ed25519Key::from_seed(&[1; 32]), "north", DeviceId([0; 16])).unwrap();
        let mut buffer = [0; 1024];
        let mut writer = Writer::new(&mut buffer);
        signed.write(&mut writer).unwrap();
        writer.bytes(&body).unwrap();
        assert_eq!(listed(writer.written()), BTreeSet::from([(7, 0), (7, 2)]));
    }

    #[test]
    fn small_changes_are_no_news() {
        assert!(!changed(1000, 1050));
        assert!(changed(1000, 1051));
        assert!(changed(0, 1));
        assert!(!changed(0, 0));
    }
}
