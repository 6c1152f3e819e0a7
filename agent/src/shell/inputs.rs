//! What happened is told to the machine here, in its own words; what does not concern this device is dropped.
use super::manager::link_text;
use super::{Answer, SLOTS, Shell, now};
use crate::link::{LinkEvent, Numbered};
use crate::runtime::Report;
use agent_nostd::machine::Agent as Machine;
use agent_nostd::machine::port::{Content, FetchFailure, Inbound, Input, LinkState};
use wire::Digest;
use wire::position::Position;
use wire::topic::Topic;

impl Shell {
    pub fn hear_link(&mut self, machine: &mut Machine<'_, SLOTS>, numbered: Numbered) {
        let Some(event) = self.link.accept(numbered) else { return };
        match event {
            LinkEvent::Up => {
                tracing::info!("connected to the broker");
                self.is_down_known = false;
                machine.handle(now(), Input::LinkUp);
            }
            LinkEvent::Down { reason } => {
                self.tell_down(&reason);
                machine.handle(now(), Input::LinkDown);
            }
            LinkEvent::Taken { reason } => {
                self.tell_down(&reason);
                machine.handle(now(), Input::LinkTaken);
            }
            LinkEvent::Subscribed(group) => machine.handle(now(), Input::Subscribed(group)),
            LinkEvent::SubscribeRefused(group) => {
                tracing::warn!(?group, "the broker refuses a subscription: check its access rules");
                machine.handle(now(), Input::SubscribeRefused(group));
            }
            LinkEvent::Message { topic, payload } => {
                tracing::debug!(topic, bytes = payload.len(), "received");
                if let Some(from) = self.inbound(&topic) {
                    machine.handle(now(), Input::Message { from, payload: &payload });
                }
            }
            LinkEvent::Acknowledged { ticket } => machine.handle(now(), Input::Acknowledged { ticket }),
        }
    }

    /// Said once; a device may be without a hub for months.
    fn tell_down(&mut self, reason: &str) {
        if std::mem::replace(&mut self.is_down_known, true) {
            tracing::debug!(reason, "still no connection to the broker");
        } else {
            tracing::warn!(reason, "no connection to the broker; what runs goes on");
        }
    }

    /// Where a message came from; `None`: it is not for us.
    fn inbound(&self, topic: &str) -> Option<Inbound> {
        match Topic::parse(&self.fleet, topic) {
            Some(Topic::Down(device, down)) if device == self.device => Some(Inbound::Down(down)),
            Some(Topic::HubState) => Some(Inbound::HubState),
            Some(Topic::Down(..) | Topic::Up(..) | Topic::JoinRequest(_) | Topic::JoinAnswer(_)) | None => {
                tracing::debug!(topic, "a message on a topic that is not ours");
                None
            }
        }
    }

    pub fn hear_answer(&mut self, machine: &mut Machine<'_, SLOTS>, answer: Answer) {
        match answer {
            Answer::Persisted { ticket, result } => {
                self.writes = self.writes.saturating_sub(1);
                let listed = self.accepted_next.take_if(|(of, _)| *of == ticket);
                if let (Some((_, listed)), Ok(())) = (listed, result) {
                    self.accepted = listed;
                }
                let input = match result {
                    Ok(()) => Input::Persisted { ticket },
                    Err(failure) => Input::PersistFailed { ticket, failure },
                };
                machine.handle(now(), input);
            }
            Answer::Artifact { digest, result } => {
                self.resources_due = true;
                match result {
                    Ok(()) => {
                        self.fetching.remove(&digest);
                        machine.handle(now(), Input::Fetched { digest });
                    }
                    Err(failure) => self.fetch_failed(machine, Content::Artifact, digest, failure),
                }
            }
            Answer::Body { digest, result } => match result {
                Ok(bytes) => {
                    self.fetching.remove(&digest);
                    machine.handle(now(), Input::BodyFetched { digest, bytes: &bytes });
                }
                Err(failure) => self.fetch_failed(machine, Content::Body, digest, failure),
            },
        }
    }

    pub fn hear_fix(&mut self, position: Position) {
        if let Some(track) = &mut self.track {
            track.hear(now(), position);
        }
    }

    /// Tells what a moving device has to tell.
    pub fn tell_position(&mut self, machine: &mut Machine<'_, SLOTS>) {
        if let Some(position) = self.track.as_mut().and_then(|track| track.poll(now())) {
            tracing::info!(is_known = position.is_some(), "the position changed");
            self.position = position;
            machine.handle(now(), Input::Position(position));
        }
    }

    /// Since when the link is as it is.
    pub fn watch_link(&mut self, link: LinkState) {
        let text = link_text(link);
        if std::mem::replace(&mut self.link_last, text) != text {
            self.link_since = now();
        }
    }

    fn fetch_failed(
        &mut self,
        machine: &mut Machine<'_, SLOTS>,
        content: Content,
        digest: Digest,
        failure: FetchFailure,
    ) {
        match failure {
            // The answer of the store alone: a fetch from the network may be under way.
            FetchFailure::Absent => {}
            FetchFailure::Unreachable | FetchFailure::HashMismatch | FetchFailure::NoSpace => {
                self.fetching.remove(&digest);
                tracing::warn!(%digest, ?content, reason = Self::fetch_failure_text(failure), "a fetch failed");
            }
        }
        machine.handle(now(), Input::FetchFailed { content, digest, failure });
    }

    pub fn hear_report(&mut self, machine: &mut Machine<'_, SLOTS>, report: &Report) {
        self.runtime.observe(report);
        match report {
            Report::Started { launch } => {
                self.resources_due = true;
                machine.handle(now(), Input::Started { launch: *launch });
            }
            Report::StartFailed { launch, failure, detail } => {
                self.resources_due = true;
                tracing::warn!(launch = launch.0, ?failure, detail, "a component did not start");
                machine.handle(now(), Input::StartFailed { launch: *launch, failure: *failure, detail });
            }
            Report::Stopped { launch } => {
                self.resources_due = true;
                machine.handle(now(), Input::Stopped { launch: *launch });
            }
            Report::Exited { launch, exit, detail } => {
                self.resources_due = true;
                tracing::info!(launch = launch.0, ?exit, detail, "a component ended");
                machine.handle(now(), Input::Exited { launch: *launch, exit: *exit, detail });
            }
            Report::Activated { launch, trigger } => {
                machine.handle(now(), Input::Activated { launch: *launch, trigger: *trigger });
            }
            Report::Log { launch, level, text } => {
                machine.handle(now(), Input::Log { launch: *launch, level: *level, text });
            }
            Report::Emit { launch, topic, payload } => {
                machine.handle(now(), Input::Emit { launch: *launch, topic, payload });
            }
            Report::Tell { launch, told } => {
                machine.handle(now(), Input::Tell { launch: *launch, telling: told.telling() });
            }
        }
    }
}
