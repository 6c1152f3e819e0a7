//! Plans: what documents would change and where workloads would go, and doing exactly that later, or nothing.
//!
//! A plan is tried on the state itself and taken back within one call; nothing of it is stored or told. It is done as one
//! batch, and only if the objects, regions and devices that it was made from are as they were.

use super::Engine;
use super::apply::{Applier, owned};
use super::object::{Act, Done, Judged};
use super::pending::Release;
use super::port::{Answer, Now, Outcome, Problem, Ticket};
use super::problem;
use super::state::Undo;
use super::stored::{Body, Spec};
use crate::commit::{AuditEntry, Write};
use crate::model::{API_VERSION, FieldError, Kind, NAMESPACE_DEFAULT, ObjectKey, managed, pointer_at};
use crate::scheduler::{self, Decision};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use wire::Digest;

/// Documents of one plan.
pub const PLAN_DOCUMENTS_MAX: usize = 256;
/// Workloads whose placement a plan looks at; it says how many it left out.
const WORKLOADS_MAX: usize = 1_000;
/// Devices that are named per list; the counts are whole.
const DEVICES_NAMED_MAX: usize = 500;
/// Bytes of a value that is shown as it is.
const VALUE_BYTES_MAX: usize = 2_048;

/// What one document does.
struct Step {
    key: ObjectKey,
    outcome: Outcome,
    generation_before: Option<u64>,
    before: Option<Value>,
    after: Value,
    warnings: Vec<String>,
}

/// All documents, tried in order.
#[derive(Default)]
struct Trial {
    steps: Vec<Step>,
    writes: Vec<Write>,
    audit: Vec<AuditEntry>,
    undo: Vec<Undo>,
}

impl Engine {
    pub(super) fn plan_of(
        &mut self,
        now: Now,
        actor: &str,
        documents: &[Value],
        applier: &Applier,
    ) -> Result<Answer, Problem> {
        let mut trial = Trial::default();
        let tried = self.try_documents(now, actor, documents, applier, &mut trial);
        // The basis is of the state before; regions are not changed by what only reads them.
        let placements = tried.map(|()| (self.planned_regions(&trial), self.plan_placements(now, &mut trial)));
        self.take_back(&mut trial.undo);
        let (regions, (placements, left_out)) = placements?;
        let mut objects: BTreeSet<ObjectKey> = trial.steps.iter().map(|step| step.key.clone()).collect();
        objects.extend(regions);
        let basis: Vec<Value> = objects
            .iter()
            .map(|key| json!({"object": key.to_string(), "resourceVersion": self.version_text(key)}))
            .collect();
        let changes: Vec<Value> = trial.steps.iter().map(|step| self.change_shown(step)).collect();
        let count = |outcome| trial.steps.iter().filter(|step| step.outcome == outcome).count();
        let summary = format!(
            "{} to create, {} to update, {} unchanged; {} workloads change where they run",
            count(Outcome::Created),
            count(Outcome::Updated),
            count(Outcome::Unchanged),
            placements.iter().filter(|placement| placement["moves"] != 0).count(),
        );
        let spec = json!({
            "manager": applier.manager, "force": applier.force, "documents": documents, "basis": basis,
            "fleetRevision": self.fleet_revision(), "devices": self.state.devices.len(),
            "resourceVersion": (self.pipeline.next() - 1).to_string(),
        });
        let digest = digest_of(&spec);
        let status = json!({
            "changes": changes, "placements": placements, "workloadsLeftOut": left_out, "summary": summary,
        });
        Ok(Answer::Plan(json!({
            "apiVersion": API_VERSION, "kind": "Plan", "spec": spec, "status": status, "digest": digest,
        })))
    }

    pub(super) fn plan_apply(&mut self, now: Now, ticket: Ticket, actor: &str, plan: &Value) -> Done {
        let read = match read_plan(plan) {
            Ok(read) => read,
            Err(refused) => return Some(Err(refused)),
        };
        let moved = self.moved(plan);
        if !moved.is_empty() {
            return Some(Err(problem::plan_stale(moved)));
        }
        let mut trial = Trial::default();
        let tried = self.try_documents(now, actor, &read.documents, &read.applier, &mut trial);
        self.take_back(&mut trial.undo);
        if let Err(refused) = tried {
            return Some(Err(refused));
        }
        let changes: Vec<Value> = trial.steps.iter().map(|step| self.change_shown(step)).collect();
        let answer = Answer::Plan(json!({
            "apiVersion": API_VERSION, "kind": "AppliedPlan", "status": {"changes": changes}, "digest": plan["digest"],
        }));
        if trial.writes.is_empty() {
            return Some(Ok(answer));
        }
        self.commit(trial.writes, trial.audit, vec![Release::Answer(ticket, Ok(answer))]);
        for step in trial.steps.iter().filter(|step| step.outcome != Outcome::Unchanged) {
            self.changed(&step.key);
        }
        None
    }

    /// Applies the documents to the state, each upon those before it. The caller takes it back.
    fn try_documents(
        &mut self,
        now: Now,
        actor: &str,
        documents: &[Value],
        applier: &Applier,
        trial: &mut Trial,
    ) -> Result<(), Problem> {
        if documents.is_empty() || documents.len() > PLAN_DOCUMENTS_MAX {
            let text = format!("{} documents; a plan has 1 to {PLAN_DOCUMENTS_MAX}", documents.len());
            return Err(problem::invalid("/documents", text));
        }
        let mut keys = Vec::new();
        for (place, document) in documents.iter().enumerate() {
            let key = key_of(document, place)?;
            if keys.iter().any(|(_, other, _)| *other == key) {
                return Err(problem::invalid(&format!("/documents/{place}"), format!("{key} is here twice")));
            }
            keys.push((place, key, document));
        }
        // What others refer to comes first.
        keys.sort_by_key(|(place, key, _)| (key.kind, *place));
        for (place, key, document) in keys {
            let judged =
                self.judge_apply(&key, document, applier).map_err(|refused| at_document(refused, place, &key))?;
            let Judged { before, body, outcome, warnings } = judged;
            let shown = |body: &Body| owned(body);
            let step = Step {
                generation_before: before.as_ref().map(|before| before.generation),
                before: before.as_ref().map(|before| shown(&before.body)),
                after: shown(&body),
                key: key.clone(),
                outcome,
                warnings,
            };
            if outcome != Outcome::Unchanged {
                let from = trial.writes.len();
                if let Spec::Workload(workload) = &body.spec
                    && workload.id == self.state.workload_id_next
                {
                    trial.writes.push(Write::WorkloadIdNext { next: workload.id + 1 });
                }
                let act = Act { actor, action: "apply" };
                let audit = self.put_writes(now, &act, &key, body, &mut trial.writes);
                trial.audit.push(audit);
                for write in trial.writes.iter().skip(from) {
                    trial.undo.push(self.state.apply(write));
                }
            }
            trial.steps.push(step);
        }
        Ok(())
    }

    pub(super) fn take_back(&mut self, undo: &mut Vec<Undo>) {
        while let Some(undo) = undo.pop() {
            self.state.undo(undo);
        }
    }

    /// The regions that the planned workloads name.
    fn planned_regions(&self, trial: &Trial) -> Vec<ObjectKey> {
        let stored = trial.steps.iter().filter_map(|step| self.state.objects.get(&step.key));
        let workloads = stored.filter_map(|stored| stored.workload());
        workloads.flat_map(|body| body.spec.placement.regions()).map(|name| ObjectKey::region(name)).collect()
    }

    /// Where workloads would go, one after another as placement does it; and how many were not looked at.
    fn plan_placements(&mut self, now: Now, trial: &mut Trial) -> (Vec<Value>, usize) {
        let changed = || trial.steps.iter().filter(|step| step.outcome != Outcome::Unchanged);
        let own: BTreeSet<u32> = trial
            .steps
            .iter()
            .filter_map(|step| self.state.objects.get(&step.key)?.workload().map(|body| body.id))
            .collect();
        let mut ids = own.clone();
        if changed().any(|step| matches!(step.key.kind, Kind::Region | Kind::Device)) {
            ids.extend(self.state.workloads.keys());
        }
        for step in changed() {
            ids.extend(self.state.avoided_by.get(&step.key).into_iter().flatten());
        }
        let left_out = ids.len().saturating_sub(WORKLOADS_MAX);
        let mut out = Vec::new();
        for id in ids.into_iter().take(WORKLOADS_MAX) {
            out.extend(self.plan_one(now, id, own.contains(&id), &mut trial.undo));
        }
        (out, left_out)
    }

    fn plan_one(&mut self, now: Now, id: u32, is_own: bool, undo: &mut Vec<Undo>) -> Option<Value> {
        let key = self.state.workloads.get(&id)?.clone();
        let stored = self.state.objects.get(&key)?.clone();
        let body = stored.workload()?;
        let (view, current) = self.asked(now, &key, &stored, body)?;
        let decision = scheduler::place(&self.snapshot(now), &view, &current);
        let held = |index: u32| self.held(index, id);
        let Decision { chosen, removed, shortfall, .. } = &decision;
        let fresh = |chosen: &&scheduler::Chosen| held(chosen.device.0).is_none();
        let stale = |chosen: &&scheduler::Chosen| {
            held(chosen.device.0).is_some_and(|held| held.generation != body.record_generation)
        };
        let gains: Vec<&scheduler::Chosen> = chosen.iter().filter(fresh).collect();
        let updates: Vec<&scheduler::Chosen> = chosen.iter().filter(stale).collect();
        let moves = gains.len() + updates.len() + removed.len();
        if moves == 0 && !is_own {
            return None;
        }
        let names = |chosen: &[&scheduler::Chosen]| -> Vec<String> {
            chosen.iter().take(DEVICES_NAMED_MAX).map(|chosen| chosen.name.clone()).collect()
        };
        let loses: Vec<String> =
            removed.iter().take(DEVICES_NAMED_MAX).filter_map(|removed| removed.name.clone()).collect();
        let mut shown = json!({
            "workload": key.to_string(), "gains": names(&gains), "updates": names(&updates), "loses": loses,
            "counts": {"gains": gains.len(), "updates": updates.len(), "loses": removed.len(), "stays": chosen.len() - gains.len() - updates.len()},
            "moves": moves, "short": shortfall,
        });
        if *shortfall > 0 {
            let plan = scheduler::plan(&self.snapshot(now), &view, &current);
            let reasons = plan.tally.failed.iter().map(|line| json!({"code": line.code, "devices": line.count}));
            shown["reasons"] = reasons.collect();
            shown["text"] = Value::String(scheduler::text::shortfall_line(&view, &plan));
        }
        // The workloads after it find the devices as this one leaves them.
        let takes = gains.iter().chain(&updates).map(|chosen| (chosen.device.0, true));
        let leaves = removed.iter().map(|removed| (removed.device.0, false));
        let sets: Vec<(u32, bool)> = leaves.chain(takes).collect();
        for (index, has) in sets {
            let mut set = self.set_without(index, id);
            if has {
                set.insert(id);
            }
            if let Some(write) = self.desired_write(index, &set) {
                undo.push(self.state.apply(&write));
            }
        }
        Some(shown)
    }

    fn version_text(&self, key: &ObjectKey) -> Option<String> {
        self.state.objects.get(key).map(|stored| stored.resource_version.to_string())
    }

    /// Stands for all devices and what operators say of them; not for what devices report.
    fn fleet_revision(&self) -> String {
        let mut hashed = Vec::new();
        for stored in self.keys_after(Kind::Device, None).filter_map(|key| self.state.objects.get(key)) {
            if let Some(body) = stored.device() {
                let facts = (&stored.key.name, &stored.uid, &stored.body.labels, &body.spec, &body.reported.class);
                hashed.extend(Digest::of(&serde_json::to_vec(&facts).unwrap_or_default()).0);
            }
        }
        Digest::of(&hashed).to_string()
    }

    /// What a plan was made from and is otherwise now.
    fn moved(&self, plan: &Value) -> Vec<FieldError> {
        let mut moved = Vec::new();
        for (place, entry) in plan["spec"]["basis"].as_array().into_iter().flatten().enumerate() {
            let object = entry["object"].as_str().unwrap_or_default();
            let was = entry["resourceVersion"].as_str();
            let now = parse_key(object).and_then(|key| self.version_text(&key));
            if now.as_deref() != was {
                let said = |version: Option<&str>| {
                    version.map_or("not there".to_owned(), |v| format!("at resource version {v}"))
                };
                let detail = format!("{object} is {} and was {}", said(now.as_deref()), said(was));
                moved.push(FieldError { pointer: format!("/spec/basis/{place}"), detail });
            }
        }
        if plan["spec"]["fleetRevision"].as_str() != Some(&self.fleet_revision()) {
            moved.push(FieldError { pointer: "/spec/fleetRevision".to_owned(), detail: self.fleet_moved(plan) });
        }
        moved
    }

    fn fleet_moved(&self, plan: &Value) -> String {
        let version = plan["spec"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0_u64);
        let devices = self.keys_after(Kind::Device, None).filter_map(|key| self.state.objects.get(key));
        let newer: Vec<&str> = devices
            .filter(|stored| stored.resource_version > version)
            .map(|stored| stored.key.name.as_str())
            .take(10)
            .collect();
        let (was, are) = (plan["spec"]["devices"].as_u64().unwrap_or_default(), self.state.devices.len());
        let changed = if newer.is_empty() { String::new() } else { format!("; changed: {}", newer.join(", ")) };
        format!("the devices are not the same: {was} then, {are} now{changed}")
    }

    fn change_shown(&self, step: &Step) -> Value {
        let before = step.before.clone().unwrap_or(Value::Null);
        let pointers: BTreeSet<String> =
            managed::leaves(&before).into_iter().chain(managed::leaves(&step.after)).collect();
        let differs = |pointer: &&String| before.pointer(pointer) != step.after.pointer(pointer);
        let fields: Vec<Value> = pointers
            .iter()
            .filter(differs)
            .map(|pointer| {
                let mut field = Map::from_iter([("pointer".to_owned(), json!(pointer))]);
                for (name, value) in [("before", before.pointer(pointer)), ("after", step.after.pointer(pointer))] {
                    field.extend(value.map(|value| (name.to_owned(), clipped(value))));
                }
                Value::Object(field)
            })
            .collect();
        let is_spec_changed =
            fields.iter().any(|field| field["pointer"].as_str().is_some_and(|at| at.starts_with("/spec/")));
        let from = step.generation_before;
        let to = from.map_or(1, |from| from + u64::from(is_spec_changed));
        let action = match step.outcome {
            Outcome::Created => "create",
            Outcome::Updated => "update",
            Outcome::Unchanged | Outcome::Read => "unchanged",
        };
        json!({
            "object": step.key.to_string(), "action": action, "generation": {"from": from, "to": to},
            "fields": fields, "warnings": step.warnings,
        })
    }
}

/// What a plan orders.
struct ReadPlan {
    documents: Vec<Value>,
    applier: Applier,
}

fn read_plan(plan: &Value) -> Result<ReadPlan, Problem> {
    let spec = &plan["spec"];
    if plan["kind"] != "Plan" || plan["apiVersion"] != API_VERSION || !spec.is_object() {
        return Err(problem::invalid("/kind", "not a plan; POST /v1/plans makes one".to_owned()));
    }
    if plan["digest"].as_str() != Some(&digest_of(spec)) {
        let text = "the plan was changed after it was made; make a new one".to_owned();
        return Err(problem::invalid("/digest", text));
    }
    let documents = spec["documents"].as_array().cloned().unwrap_or_default();
    let manager = spec["manager"].as_str().unwrap_or_default().to_owned();
    Ok(ReadPlan { documents, applier: Applier { manager, force: spec["force"] == true } })
}

/// Over the same bytes, however the members are ordered.
fn digest_of(spec: &Value) -> String {
    let mut spec = spec.clone();
    spec.sort_all_objects();
    format!("sha256:{}", Digest::of(&serde_json::to_vec(&spec).unwrap_or_default()))
}

fn key_of(document: &Value, place: usize) -> Result<ObjectKey, Problem> {
    let wrong = |field: &str, text: &str| {
        let pointer = pointer_at("/documents", &place.to_string());
        problem::invalid(&format!("{pointer}/{field}"), text.to_owned())
    };
    let kind = document["kind"].as_str().and_then(Kind::parse).ok_or_else(|| wrong("kind", "missing, or no kind"))?;
    match kind {
        Kind::Namespace | Kind::Region | Kind::Device | Kind::Workload => {}
        Kind::Artifact | Kind::Placement | Kind::Token => {
            return Err(wrong(
                "kind",
                "a plan is of documents that are applied: namespaces, regions, devices, workloads",
            ));
        }
    }
    let name = document["metadata"]["name"].as_str().ok_or_else(|| wrong("metadata/name", "missing"))?.to_owned();
    let namespace = match kind.is_namespaced() {
        true => document["metadata"]["namespace"].as_str().unwrap_or(NAMESPACE_DEFAULT).to_owned(),
        false => String::new(),
    };
    Ok(ObjectKey { kind, namespace, name })
}

fn parse_key(text: &str) -> Option<ObjectKey> {
    let (kind, rest) = text.split_once('/')?;
    let kind = Kind::ALL.into_iter().find(|known| known.singular() == kind)?;
    let (namespace, name) = rest.split_once('/').unwrap_or(("", rest));
    Some(ObjectKey { kind, namespace: namespace.to_owned(), name: name.to_owned() })
}

/// A refusal of one document, with the place of the document before its own pointers.
fn at_document(mut refused: Problem, place: usize, key: &ObjectKey) -> Problem {
    for error in &mut refused.errors {
        error.pointer = format!("/documents/{place}{}", error.pointer);
    }
    refused.detail = format!("{key}: {}", refused.detail);
    refused
}

fn clipped(value: &Value) -> Value {
    let bytes = value.to_string().len();
    if bytes <= VALUE_BYTES_MAX { value.clone() } else { Value::String(format!("({bytes} bytes)")) }
}

impl Engine {
    /// Tries one whole document, for asking what if. The caller takes it back.
    pub(super) fn try_workload(
        &mut self,
        now: Now,
        document: &Value,
        undo: &mut Vec<Undo>,
    ) -> Result<ObjectKey, Problem> {
        let mut trial = Trial::default();
        let applier = Applier { manager: "what-if".to_owned(), force: true };
        let tried = self.try_documents(now, "what-if", std::slice::from_ref(document), &applier, &mut trial);
        undo.append(&mut trial.undo);
        tried?;
        let key = trial.steps.into_iter().map(|step| step.key).find(|key| key.kind == Kind::Workload);
        key.ok_or_else(|| problem::invalid("/workload/kind", "only workloads are placed".to_owned()))
    }
}
