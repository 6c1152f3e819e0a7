//! Changes of objects: admission, generation and resource version, one batch with its audit entry for each.
//!
//! A change that changes nothing makes no batch. `None` from these methods means that the answer waits for its batch.

use super::Engine;
use super::apply::Manner;
use super::event::Draft;
use super::pending::Release;
use super::port::{AccessChange, Answer, Mode, Now, Outcome, Problem, Ticket};
use super::problem;
use super::stored::{Body, DeviceBody, Spec, Stored, WorkloadBody};
use crate::commit::{AuditEntry, ObjectRow, Write};
use crate::model::{
    ARTIFACT_VERSIONS_MAX, ArtifactSpec, ArtifactVersion, DeviceManifest, DeviceSpec, Kind, Manifest, ManifestSpec,
    NAMESPACE_DEFAULT, ObjectKey, Refusal, WorkloadSpec,
};
use serde_json::Value;
use std::sync::Arc;
use wire::Digest;
use wire::topic::{Down, Topic};

/// Objects of all kinds together.
pub const OBJECTS_MAX: usize = 1_000_000;

pub(super) type Done = Option<Result<Answer, Problem>>;

/// What a document makes of an object.
pub(super) struct Judged {
    pub before: Option<Arc<Stored>>,
    pub body: Body,
    pub outcome: Outcome,
    pub warnings: Vec<String>,
}

/// Who did what, for the audit.
pub(super) struct Act<'a> {
    pub actor: &'a str,
    pub action: &'static str,
}

impl Engine {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn put(
        &mut self,
        now: Now,
        ticket: Ticket,
        actor: &str,
        key: &ObjectKey,
        document: &Value,
        mode: Mode,
        if_match: Option<u64>,
    ) -> Done {
        self.put_as(now, ticket, actor, key, document, mode, if_match, &Manner::Put { written: document })
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn put_as(
        &mut self,
        now: Now,
        ticket: Ticket,
        actor: &str,
        key: &ObjectKey,
        document: &Value,
        mode: Mode,
        if_match: Option<u64>,
        manner: &Manner<'_>,
    ) -> Done {
        let Judged { before, body, outcome, warnings } = match self.judge(key, document, if_match, manner) {
            Ok(judged) => judged,
            Err(refused) => return Some(Err(refused)),
        };
        if let (Outcome::Unchanged, Some(before)) = (outcome, &before) {
            return Some(Ok(Answer::Object {
                outcome,
                resource_version: before.resource_version,
                document: self.document(now, before),
                warnings,
            }));
        }
        if mode == Mode::DryRun {
            let stored = self.stored(now, key, body, before.as_deref(), 0);
            let document = stored.document(Value::Null);
            let resource_version = before.map_or(0, |before| before.resource_version);
            return Some(Ok(Answer::Object { outcome, resource_version, document, warnings }));
        }
        self.change(now, ticket, &Act { actor, action: "apply" }, key, body, outcome, warnings);
        None
    }

    /// Admission: what a document would make of an object. Changes nothing.
    pub(super) fn judge(
        &self,
        key: &ObjectKey,
        document: &Value,
        if_match: Option<u64>,
        manner: &Manner<'_>,
    ) -> Result<Judged, Problem> {
        let manifest = Manifest::read(key, document).map_err(problem::refused)?;
        self.check_namespace(key)?;
        let before = self.state.objects.get(key).cloned();
        self.check_version(key, if_match)?;
        let spec = match manifest.spec {
            ManifestSpec::Namespace(namespace) => Spec::Namespace(namespace),
            ManifestSpec::Region(region) => Spec::Region(region),
            ManifestSpec::Device(device) => match before.as_deref().and_then(Stored::device) {
                Some(body) => {
                    Spec::Device(DeviceBody { spec: merged(&body.spec, device), reported: body.reported.clone() })
                }
                None => return Err(self.missing(key)),
            },
            ManifestSpec::Workload(spec) => self.admit_workload(key, *spec, before.as_deref())?,
            ManifestSpec::Token(_) => {
                let text = "tokens are made with POST /v1/tokens and never changed".to_owned();
                return Err(problem::invalid("/kind", text));
            }
        };
        let (labels, annotations, managed) = (manifest.labels, manifest.annotations, Vec::new());
        let mut body = Body { labels, annotations, spec, managed };
        body.managed = manner.owners(before.as_deref(), &body)?;
        let outcome = match &before {
            Some(before) if before.body == body => Outcome::Unchanged,
            Some(_) => Outcome::Updated,
            None => Outcome::Created,
        };
        if outcome == Outcome::Created && self.state.objects.len() >= OBJECTS_MAX {
            return Err(problem::limit(format!("the hub holds {OBJECTS_MAX} objects, the most there can be")));
        }
        let mut warnings = manifest.warnings;
        warnings.extend(self.lease_warning(before.as_deref(), &body));
        Ok(Judged { before, body, outcome, warnings })
    }

    /// Commits a changed object and answers with it.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn change(
        &mut self,
        now: Now,
        ticket: Ticket,
        act: &Act<'_>,
        key: &ObjectKey,
        body: Body,
        outcome: Outcome,
        warnings: Vec<String>,
    ) {
        let mut writes = Vec::new();
        if let Spec::Workload(workload) = &body.spec
            && workload.id == self.state.workload_id_next
        {
            writes.push(Write::WorkloadIdNext { next: workload.id + 1 });
        }
        let audit = self.put_writes(now, act, key, body, &mut writes);
        // The answer shows the object as it is after the write.
        let resource_version = self.pipeline.next();
        self.commit(writes, vec![audit], Vec::new());
        self.changed(key);
        let document = match self.state.objects.get(key).cloned() {
            Some(stored) => self.document(now, &stored),
            None => Value::Null,
        };
        let answer = Answer::Object { outcome, resource_version, document, warnings };
        self.pipeline.release_last(Release::Answer(ticket, Ok(answer)));
    }

    /// Appends the write of one object; gives its audit entry.
    pub(super) fn put_writes(
        &self,
        now: Now,
        act: &Act<'_>,
        key: &ObjectKey,
        body: Body,
        writes: &mut Vec<Write>,
    ) -> AuditEntry {
        let before = self.state.objects.get(key).cloned();
        let made = writes.iter().filter(|write| matches!(write, Write::ObjectPut(_))).count();
        let stored = self.stored(now, key, body, before.as_deref(), made);
        let json = stored.body.json();
        let audit = AuditEntry {
            time_ms: now.wall_ms,
            actor: act.actor.to_owned(),
            action: act.action,
            object: key.to_string(),
            before: before.map(|before| before.body.digest()),
            after: Some(Digest::of(&json)),
        };
        writes.push(Write::ObjectPut(ObjectRow {
            kind: key.kind.name().to_owned(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            uid: stored.uid,
            generation: stored.generation,
            resource_version: stored.resource_version,
            created_ms: stored.created_ms,
            json,
        }));
        audit
    }

    /// The object as it will be: a changed spec raises the generation, anything the resource version.
    fn stored(&self, now: Now, key: &ObjectKey, body: Body, before: Option<&Stored>, place: usize) -> Stored {
        let sequence = self.pipeline.next();
        match before {
            Some(before) => Stored {
                key: key.clone(),
                uid: before.uid.clone(),
                generation: before.generation + u64::from(!is_same_spec(&before.body.spec, &body.spec)),
                resource_version: sequence,
                created_ms: before.created_ms,
                body,
            },
            None => Stored {
                key: key.clone(),
                // The batch and the place in it name it for ever.
                uid: match place {
                    0 => format!("{}-{:x}-{sequence:x}", key.kind.singular(), self.incarnation),
                    _ => format!("{}-{:x}-{sequence:x}-{place:x}", key.kind.singular(), self.incarnation),
                },
                generation: 1,
                resource_version: sequence,
                created_ms: now.wall_ms,
                body,
            },
        }
    }

    fn check_version(&self, key: &ObjectKey, if_match: Option<u64>) -> Result<(), Problem> {
        let found = self.state.objects.get(key).map(|stored| stored.resource_version);
        match if_match {
            Some(expected) if found != Some(expected) => Err(problem::stale(key, expected, found)),
            Some(_) | None => Ok(()),
        }
    }

    fn admit_workload(&self, key: &ObjectKey, spec: WorkloadSpec, before: Option<&Stored>) -> Result<Spec, Problem> {
        let is_short = spec.artifact.is_some();
        for (i, view) in spec.views().iter().enumerate() {
            if self.state.artifact_bytes(&key.namespace, view.artifact).is_none() {
                let pointer =
                    if is_short { "/spec/artifact".to_owned() } else { format!("/spec/components/{i}/artifact") };
                let detail = format!(
                    "there is no artifact {} in namespace {}; upload it first, or apply with artifact: file:<path>",
                    view.artifact, key.namespace
                );
                return Err(problem::invalid(&pointer, detail));
            }
        }
        let before = before.and_then(Stored::workload);
        let generation = match self.state.objects.get(key) {
            Some(stored) => stored.generation + 1,
            None => 1,
        };
        let generation = u32::try_from(generation)
            .map_err(|_| problem::limit("the workload was changed 2^32 times; make a new one".to_owned()))?;
        let id = before.map_or(self.state.workload_id_next, |before| before.id);
        let mut body = WorkloadBody { spec, id, record_generation: generation, encoded: None };
        if let Some(before) = before {
            // What devices get is compared under the old number: if it is the same, nothing restarts.
            body.record_generation = before.record_generation;
            body.encoded = self.state.encode(key, &body);
            if body.encoded != before.encoded {
                body.record_generation = generation;
            }
        }
        let mistakes = self.placement_mistakes(key, &body.spec.placement);
        if !mistakes.is_empty() {
            return Err(problem::refused(Refusal { errors: mistakes, not_built: false }));
        }
        body.encoded = self.state.encode(key, &body);
        if body.encoded.is_none() {
            let detail = "its records are larger than a device takes; shorten names, topics or configuration";
            return Err(problem::invalid("/spec", detail.to_owned()));
        }
        Ok(Spec::Workload(Box::new(body)))
    }

    pub(super) fn delete(
        &mut self,
        now: Now,
        ticket: Ticket,
        actor: &str,
        key: &ObjectKey,
        if_match: Option<u64>,
    ) -> Done {
        let Some(before) = self.state.objects.get(key).cloned() else {
            return Some(Err(self.missing(key)));
        };
        if let Err(stale) = self.check_version(key, if_match) {
            return Some(Err(stale));
        }
        if *key == ObjectKey::namespace(NAMESPACE_DEFAULT) {
            return Some(Err(problem::namespace_default()));
        }
        let users = self.users(key);
        if !users.is_empty() {
            return Some(Err(problem::in_use(key, &users)));
        }
        self.remove(now, &Act { actor, action: "delete" }, &before, Vec::new());
        self.pipeline.release_last(Release::Answer(ticket, Ok(Answer::Deleted)));
        let draft = Draft::normal("Deleted", key, format!("deleted by {actor}"));
        self.pipeline.release_last(Release::Event(draft));
        None
    }

    /// Commits the end of an object, with everything that goes with it.
    pub(super) fn remove(&mut self, now: Now, act: &Act<'_>, before: &Stored, mut writes: Vec<Write>) {
        let key = &before.key;
        writes.push(Write::ObjectDelete {
            kind: key.kind.name(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        });
        let mut releases = Vec::new();
        if key.kind == Kind::Device
            && let Some(index) = self.state.devices.index_named(&key.name)
            && let Some(device) = self.state.devices.get(index)
        {
            // The next device with this index asked for nothing.
            self.waiting.remove(&index);
            let id = device.id();
            writes.extend([
                Write::DesiredDelete { device: id },
                Write::CapabilitiesDelete { device: id },
                Write::DeviceKeysDelete { device: id },
            ]);
            releases.push(Release::Access(AccessChange::DeviceRemove { id }));
            for down in [Down::Desired, Down::Trust] {
                let Ok(topic) = Topic::Down(id, down).print(&self.state.fleet_name) else { continue };
                releases.push(Release::Publish { topic: topic.as_str().to_owned(), payload: Vec::new(), retain: true });
            }
        }
        if let Spec::Workload(workload) = &before.body.spec {
            writes.extend(self.lease_of_gone(workload.id));
        }
        if let Spec::Token(token) = &before.body.spec {
            releases.push(Release::Access(AccessChange::GrantRemove { sha256: token.sha256 }));
        }
        let audit = AuditEntry {
            time_ms: now.wall_ms,
            actor: act.actor.to_owned(),
            action: act.action,
            object: key.to_string(),
            before: Some(before.body.digest()),
            after: None,
        };
        self.commit(writes, vec![audit], releases);
        if let Some(workload) = before.workload() {
            self.placement.mark(workload.id);
            self.end_logs(workload.id);
            self.logs.forget(workload.id);
        }
        self.changed(key);
    }

    /// Workloads that need this object, or everything that is in this namespace.
    fn users(&self, key: &ObjectKey) -> Vec<ObjectKey> {
        let needs = |stored: &Stored| match (&key.kind, stored.workload()) {
            (Kind::Namespace, _) => stored.key.namespace == key.name,
            (Kind::Region, Some(workload)) => workload.spec.placement.regions().any(|name| *name == key.name),
            (Kind::Artifact, Some(workload)) => {
                stored.key.namespace == key.namespace
                    && workload.spec.views().iter().any(|view| view.artifact.name == key.name)
            }
            (Kind::Device | Kind::Workload | Kind::Placement | Kind::Token, _) | (_, None) => false,
        };
        let objects = self.state.objects.values();
        objects.filter(|stored| needs(stored)).map(|stored| stored.key.clone()).collect()
    }

    pub(super) fn artifact_put(
        &mut self,
        now: Now,
        ticket: Ticket,
        actor: &str,
        key: &ObjectKey,
        digest: Digest,
        bytes: u64,
    ) -> Done {
        for (pointer, text) in [("/metadata/name", &key.name), ("/metadata/namespace", &key.namespace)] {
            if !wire::topic::is_label(text, wire::limits::NAME_BYTES_MAX) {
                return Some(Err(problem::invalid(pointer, format!("{text:?} is not a name"))));
            }
        }
        if let Err(refused) = self.check_namespace(key) {
            return Some(Err(refused));
        }
        if bytes > u64::from(wire::limits::ARTIFACT_BYTES_MAX) {
            let limit = wire::limits::ARTIFACT_BYTES_MAX;
            return Some(Err(problem::invalid("/spec/bytes", format!("{bytes} bytes, at most {limit} are allowed"))));
        }
        let before = self.state.objects.get(key).cloned();
        let text = format!("sha256:{digest}");
        let newest = ArtifactVersion { digest: text.clone(), bytes };
        let mut versions = vec![newest];
        if let Some(spec) = before.as_deref().and_then(Stored::artifact) {
            versions.extend(spec.versions.iter().filter(|version| version.digest != text).cloned());
        }
        while versions.len() > ARTIFACT_VERSIONS_MAX {
            let unused = |version: &ArtifactVersion| !self.is_version_used(key, &version.digest);
            let Some(oldest) = versions.iter().skip(1).rposition(unused) else {
                let detail = format!("all {ARTIFACT_VERSIONS_MAX} versions of {key} are in use; delete some workloads");
                return Some(Err(problem::limit(detail)));
            };
            versions.remove(oldest + 1);
        }
        let (labels, annotations) =
            before.as_deref().map(|b| (b.body.labels.clone(), b.body.annotations.clone())).unwrap_or_default();
        let spec = Spec::Artifact(ArtifactSpec { digest: text, bytes, versions });
        let body = Body { labels, annotations, spec, managed: Vec::new() };
        if let Some(before) = &before
            && before.body == body
        {
            let document = self.document(now, before);
            let resource_version = before.resource_version;
            let (outcome, warnings) = (Outcome::Unchanged, Vec::new());
            return Some(Ok(Answer::Object { outcome, resource_version, document, warnings }));
        }
        let outcome = if before.is_some() { Outcome::Updated } else { Outcome::Created };
        self.change(now, ticket, &Act { actor, action: "upload" }, key, body, outcome, Vec::new());
        None
    }

    fn is_version_used(&self, key: &ObjectKey, digest: &str) -> bool {
        self.state.objects.values().filter(|stored| stored.key.namespace == key.namespace).any(|stored| {
            stored.workload().is_some_and(|workload| {
                let is_it = |view: &crate::model::ComponentView<'_>| {
                    view.artifact.name == key.name && format!("sha256:{}", view.artifact.digest) == digest
                };
                workload.spec.views().iter().any(is_it)
            })
        })
    }

    /// Signals whoever depends on an object.
    pub(super) fn changed(&mut self, key: &ObjectKey) {
        match key.kind {
            Kind::Workload => {
                let stored = self.state.objects.get(key);
                if let Some(id) = stored.and_then(|stored| stored.workload()).map(|body| body.id) {
                    self.placement.mark(id);
                }
            }
            Kind::Region | Kind::Device => {
                self.placement.mark_all(self.state.workloads.keys());
                if key.kind == Kind::Device {
                    self.pipeline.release_last(Release::DeviceChanged(key.name.clone()));
                }
            }
            Kind::Namespace | Kind::Artifact | Kind::Placement | Kind::Token => {}
        }
    }
}

/// What the manifest leaves out of the operators' switches stays as it is.
fn merged(before: &DeviceSpec, manifest: DeviceManifest) -> DeviceSpec {
    DeviceSpec {
        position: manifest.position,
        cordoned: manifest.cordoned.unwrap_or(before.cordoned),
        draining: manifest.draining.unwrap_or(before.draining),
        decommissioning: manifest.decommissioning.unwrap_or(before.decommissioning),
        approved: manifest.approved.unwrap_or(before.approved),
        site: manifest.site,
        pool: manifest.pool,
        taints: manifest.taints,
        withheld: manifest.withheld.unwrap_or_else(|| before.withheld.clone()),
    }
}

fn is_same_spec(a: &Spec, b: &Spec) -> bool {
    match (a, b) {
        (Spec::Workload(a), Spec::Workload(b)) => a.spec == b.spec,
        // What a device reports is no change of its spec.
        (Spec::Device(a), Spec::Device(b)) => a.spec == b.spec,
        (Spec::Namespace(a), Spec::Namespace(b)) => a == b,
        (Spec::Region(a), Spec::Region(b)) => a == b,
        (Spec::Artifact(a), Spec::Artifact(b)) => a == b,
        (Spec::Token(a), Spec::Token(b)) => a == b,
        (
            Spec::Namespace(_)
            | Spec::Region(_)
            | Spec::Device(_)
            | Spec::Workload(_)
            | Spec::Artifact(_)
            | Spec::Token(_),
            _,
        ) => false,
    }
}
