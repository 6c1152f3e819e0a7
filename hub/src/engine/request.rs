//! What the edges ask: sorts requests to whoever answers them.
//!
//! Reads see what is decided, and are answered when it is durable.

use super::Engine;
use super::event::{FOLLOWERS_MAX, Follower, Interest};
use super::port::{Answer, Effect, Follow, HubStatus, Now, Request, Ticket};
use super::problem;
use crate::model::{Kind, ObjectKey};

/// Lines of one answer.
pub const TAIL_MAX: usize = 10_000;

impl Engine {
    pub(super) fn request(&mut self, now: Now, ticket: Ticket, actor: &str, request: Request) {
        let result = match &request {
            Request::Put { .. }
            | Request::Apply { .. }
            | Request::Delete { .. }
            | Request::ArtifactPut { .. }
            | Request::DeviceChange { .. }
            | Request::TokenCreate { .. }
            | Request::RejectionLift { .. }
            | Request::LossConfirm
            | Request::QueueChange { .. }
            | Request::PlanApply { .. }
            | Request::HubHold { .. }
            | Request::HubApply { .. }
            | Request::HubTakeover
            | Request::RolloutCreate { .. }
            | Request::RolloutChange { .. }
            | Request::ApiTokenCreate { .. } => return self.write_request(now, ticket, actor, request),
            Request::Get { key } => self.get(now, key),
            Request::Managed { key } => self.managed(now, key),
            Request::List { kind, selection, limit, after } => {
                self.list(now, *kind, selection, *limit, after.as_deref())
            }
            Request::Watch { kind, selection, from } => {
                let result = self.watch(ticket, *kind, selection.clone(), *from);
                self.effects.push_back(Effect::Answer { ticket, result });
                return;
            }
            Request::EventsWatch { object, tail, from } => {
                let result = self.events_watch(ticket, object.clone(), *tail, *from);
                self.effects.push_back(Effect::Answer { ticket, result });
                return;
            }
            Request::Explain { namespace, name, device } => self.explain(now, namespace, name, device.as_deref()),
            Request::Plan { documents, applier } => self.plan_of(now, actor, documents, applier),
            Request::WhatIf(what_if) => self.what_if(now, what_if),
            Request::Logs { namespace, name, device, tail, follow } => {
                return self.logs_request(
                    ticket,
                    &ObjectKey::workload(namespace, name),
                    device.clone(),
                    *tail,
                    *follow,
                );
            }
            Request::Samples { device, key, tail, follow } => {
                return self.samples_request(ticket, device, key.as_deref(), *tail, *follow);
            }
            Request::Events { object, tail, follow } => {
                let lines = self.events.tail(object.as_deref(), (*tail).min(TAIL_MAX));
                let interest = Interest::Events { object: object.clone() };
                return self.answer_lines(ticket, Answer::Events(lines), *follow, interest);
            }
            Request::Body { digest } => match self.state.devices.body(*digest) {
                Some(body) => Ok(Answer::Body(body)),
                None => Err(problem::body_not_found()),
            },
            Request::Rejections { limit, after } => Ok(self.rejections(*limit, *after)),
            Request::Queue { device } => self.queue(now, device.as_deref()),
            Request::Rollouts => Ok(self.rollout_list()),
            Request::Rollout { name } => self.rollout_get(name),
            Request::Snapshot { name } => self.snapshot_of(now, name),
            Request::Status => Ok(Answer::Status(self.hub_status(now))),
            Request::Measure => Ok(Answer::Measures(Box::new(self.measures(now)))),
        };
        self.respond(ticket, actor, request, result);
    }

    fn write_request(&mut self, now: Now, ticket: Ticket, actor: &str, request: Request) {
        if self.pipeline.is_full() {
            let result = Err(problem::busy("too many changes wait for the database"));
            self.effects.push_back(Effect::Answer { ticket, result });
            return;
        }
        let done = match &request {
            Request::Put { key, document, mode, if_match } => {
                self.put(now, ticket, actor, key, document, *mode, *if_match)
            }
            Request::Apply { key, document, applier, mode, if_match } => {
                self.apply(now, ticket, actor, key, document, applier, *mode, *if_match)
            }
            Request::Delete { key, if_match } => self.delete(now, ticket, actor, key, *if_match),
            Request::ArtifactPut { namespace, name, digest, bytes } => {
                self.artifact_put(now, ticket, actor, &ObjectKey::artifact(namespace, name), *digest, *bytes)
            }
            Request::DeviceChange { name, change } => self.device_change(now, ticket, actor, name, *change),
            Request::TokenCreate { expires_in, approve, labels, entropy } => {
                self.token_create(now, ticket, actor, *expires_in, *approve, labels, entropy)
            }
            Request::ApiTokenCreate { document, sha256 } => {
                self.api_token_create(now, ticket, actor, document, *sha256)
            }
            Request::RejectionLift { device } => self.rejection_lift(now, ticket, actor, *device),
            Request::LossConfirm => self.loss_confirm(now, ticket, actor),
            Request::QueueChange { id, verb } => self.queue_change(now, ticket, actor, id, *verb),
            Request::PlanApply { plan } => self.plan_apply(now, ticket, actor, plan),
            Request::HubHold { devices } => self.hub_hold(now, ticket, actor, devices),
            Request::HubApply { devices } => self.hub_apply(now, ticket, actor, devices),
            Request::HubTakeover => self.takeover(now, ticket, actor),
            Request::RolloutCreate { wanted, image } => self.rollout_create(now, ticket, actor, wanted, image),
            Request::RolloutChange { name, verb } => self.rollout_change(now, ticket, actor, name, *verb),
            Request::Get { .. }
            | Request::Plan { .. }
            | Request::WhatIf(_)
            | Request::Managed { .. }
            | Request::List { .. }
            | Request::Watch { .. }
            | Request::EventsWatch { .. }
            | Request::Explain { .. }
            | Request::Logs { .. }
            | Request::Samples { .. }
            | Request::Events { .. }
            | Request::Body { .. }
            | Request::Rejections { .. }
            | Request::Queue { .. }
            | Request::Rollouts
            | Request::Rollout { .. }
            | Request::Snapshot { .. }
            | Request::Status
            | Request::Measure => return,
        };
        // What changed nothing is answered like a read.
        if let Some(result) = done {
            self.respond(ticket, actor, request, result);
        }
    }

    fn logs_request(&mut self, ticket: Ticket, key: &ObjectKey, device: Option<String>, tail: usize, follow: Follow) {
        let stored = self.state.objects.get(key);
        let Some(id) = stored.and_then(|stored| stored.workload()).map(|body| body.id) else {
            let result = Err(self.missing(key));
            self.effects.push_back(Effect::Answer { ticket, result });
            return;
        };
        let lines = self.logs.tail(id, device.as_deref(), tail.min(TAIL_MAX));
        self.answer_lines(ticket, Answer::Logs(lines), follow, Interest::Logs { workload: id, device });
    }

    fn answer_lines(&mut self, ticket: Ticket, answer: Answer, follow: Follow, interest: Interest) {
        let result = match follow {
            Follow::Once => Ok(answer),
            Follow::Follow if self.followers.len() >= FOLLOWERS_MAX => {
                Err(problem::busy(&format!("{FOLLOWERS_MAX} streams are followed already, the most at one time")))
            }
            Follow::Follow => {
                self.followers.insert(ticket, Follower::new(interest));
                Ok(answer)
            }
        };
        self.effects.push_back(Effect::Answer { ticket, result });
    }

    pub(super) fn hub_status(&self, now: Now) -> HubStatus {
        let count = |kind: Kind| self.state.objects.keys().filter(|key| key.kind == kind).count();
        let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let devices = self.state.objects.values().filter_map(|stored| stored.device());
        HubStatus {
            fleet: self.state.fleet_name.clone(),
            incarnation: self.incarnation,
            resource_version: self.pipeline.durable(),
            link: self.link.is_up,
            devices: narrow(self.state.devices.len()),
            devices_online: narrow(
                self.state.devices.iter().filter(|(_, device)| super::status::is_online(device)).count(),
            ),
            devices_unapproved: narrow(devices.filter(|body| !body.spec.approved).count()),
            regions: narrow(count(Kind::Region)),
            workloads: narrow(count(Kind::Workload)),
            artifacts: narrow(count(Kind::Artifact)),
            messages_refused: self.messages_refused,
            commits_pending: narrow(self.pipeline.len()),
            writable: self.pipeline.is_writable(),
            may_grant: self.may_grant(now),
            recovery: self.recovery_status(now),
            conditions: [
                self.rival_condition(),
                self.recovery_condition(now),
                self.clock_condition(),
                self.guard_condition(),
            ]
            .into_iter()
            .flatten()
            .collect(),
            // The edge knows.
            certificate: None,
        }
    }
}
