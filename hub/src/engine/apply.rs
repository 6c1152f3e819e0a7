//! Server-side apply: a manager says what it wants of an object, owns that, and takes away what it no longer says.
//!
//! Who owns what is stored with the object and changes in the same batch. A field of another manager is not changed
//! without force.

use super::Engine;
use super::object::{Done, Judged};
use super::port::{Answer, Mode, Now, Outcome, Problem, Ticket};
use super::problem;
use super::stored::{Body, Stored};
use crate::model::managed::{self, MANAGER_BYTES_MAX, MANAGERS_MAX, Managed, ManagedBy};
use crate::model::{FieldError, Kind, ObjectKey};
use serde_json::{Map, Value, json};

/// The manager of whole documents.
const PUT_MANAGER: &str = "put";

/// Owns what an object had when it was applied for the first time and nobody was known to own anything.
const BEFORE_MANAGER: &str = "before-first-apply";

/// Who applies, and whether it takes what others own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applier {
    pub manager: String,
    pub force: bool,
}

/// How a document came, which decides who owns what.
pub(super) enum Manner<'a> {
    Put { written: &'a Value },
    Apply { applier: &'a Applier, wanted: Vec<String> },
}

/// The part of an object that has owners.
pub(super) fn owned(body: &Body) -> Value {
    json!({"metadata": {"labels": body.labels, "annotations": body.annotations}, "spec": body.spec_value()})
}

impl Engine {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn apply(
        &mut self,
        now: Now,
        ticket: Ticket,
        actor: &str,
        key: &ObjectKey,
        document: &Value,
        applier: &Applier,
        mode: Mode,
        if_match: Option<u64>,
    ) -> Done {
        if let Err(refused) = check_manager(applier) {
            return Some(Err(refused));
        }
        let wanted = managed::leaves(document);
        let merged = match self.state.objects.get(key) {
            Some(before) => merged(before, document, applier, &wanted),
            None => document.clone(),
        };
        self.put_as(now, ticket, actor, key, &merged, mode, if_match, &Manner::Apply { applier, wanted })
    }

    /// What a server-side apply would make of an object.
    pub(super) fn judge_apply(&self, key: &ObjectKey, document: &Value, applier: &Applier) -> Result<Judged, Problem> {
        check_manager(applier)?;
        let wanted = managed::leaves(document);
        let merged = match self.state.objects.get(key) {
            Some(before) => merged(before, document, applier, &wanted),
            None => document.clone(),
        };
        self.judge(key, &merged, None, &Manner::Apply { applier, wanted })
    }

    /// An object with the names of those who own its fields.
    pub(super) fn managed(&self, now: Now, key: &ObjectKey) -> Result<Answer, Problem> {
        let stored = self.state.objects.get(key).ok_or_else(|| self.missing(key))?;
        let mut document = self.document(now, stored);
        document["metadata"]["managedFields"] = json!(stored.body.managed);
        let (outcome, resource_version, warnings) = (Outcome::Read, stored.resource_version, Vec::new());
        Ok(Answer::Object { outcome, resource_version, document, warnings })
    }
}

fn check_manager(applier: &Applier) -> Result<(), Problem> {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    let name = applier.manager.as_bytes();
    if name.is_empty() || name.len() > MANAGER_BYTES_MAX || !name.iter().all(|b| is_name(*b)) {
        let detail = format!("fieldManager is 1 to {MANAGER_BYTES_MAX} letters, digits and -_./");
        return Err(problem::invalid("", detail));
    }
    Ok(())
}

/// What the object becomes: what others own, what nobody has to own, and what this manager wants.
fn merged(before: &Stored, document: &Value, applier: &Applier, wanted: &[String]) -> Value {
    let mut current = owned(&before.body);
    let managers = &before.body.managed;
    let is_kept = |pointer: &String| {
        let (own, others): (Vec<&Managed>, Vec<&Managed>) = managers
            .iter()
            .filter(|managed| managed.owns(pointer))
            .partition(|managed| managed.manager == applier.manager);
        // A spec's field that nobody owns is a default, and comes back by itself; a device's may be a command's.
        let is_default = !managers.is_empty() && pointer.starts_with("/spec/") && before.key.kind != Kind::Device;
        !others.is_empty() || own.is_empty() && !is_default
    };
    for pointer in managed::leaves(&current) {
        if !is_kept(&pointer) {
            managed::remove(&mut current, &pointer);
        }
    }
    for pointer in wanted {
        if let Some(leaf) = document.pointer(pointer) {
            managed::set(&mut current, pointer, leaf.clone());
        }
    }
    // Everything else is the manifest's, so that the reader judges it.
    let mut merged = document.clone();
    if let Value::Object(map) = &mut merged {
        map.insert("spec".to_owned(), current["spec"].take());
        if let Value::Object(metadata) = map.entry("metadata").or_insert_with(|| Value::Object(Map::new())) {
            for part in ["labels", "annotations"] {
                metadata.insert(
                    part.to_owned(),
                    match current["metadata"][part].take() {
                        Value::Null => json!({}),
                        value => value,
                    },
                );
            }
        }
    }
    merged
}

impl Manner<'_> {
    /// Who owns what afterwards, or who stands against it.
    pub(super) fn owners(&self, before: Option<&Stored>, body: &Body) -> Result<Vec<Managed>, Problem> {
        let old = before.map_or(Value::Null, |before| owned(&before.body));
        let new = owned(body);
        let mut managers = before.map(|before| before.body.managed.clone()).unwrap_or_default();
        for managed in &mut managers {
            managed.fields.retain(|pointer| new.pointer(pointer).is_some());
        }
        match self {
            Manner::Put { written } => {
                let written = managed::leaves(written).into_iter();
                let changed: Vec<String> = written.filter(|at| old.pointer(at) != new.pointer(at)).collect();
                take(&mut managers, PUT_MANAGER, &changed);
                let own = managers.iter_mut().find(|managed| managed.manager == PUT_MANAGER);
                add(own, &mut Vec::new(), changed.clone());
                if !changed.is_empty() && !managers.iter().any(|managed| managed.manager == PUT_MANAGER) {
                    let (manager, operation) = (PUT_MANAGER.to_owned(), ManagedBy::Update);
                    managers.push(Managed { manager, operation, fields: changed });
                }
            }
            Manner::Apply { applier, wanted } => {
                let errors = conflicts(&managers, applier, wanted, &old, &new);
                if !errors.is_empty() && !applier.force {
                    return Err(problem::conflict(errors));
                }
                // An object from before anybody applied: what it has stays until somebody says otherwise.
                if let Some(before) = before.filter(|before| before.body.managed.is_empty()) {
                    let fields = managed::leaves(&old).into_iter().filter(|at| new.pointer(at).is_some()).collect();
                    if before.key.kind != Kind::Device {
                        let (manager, operation) = (BEFORE_MANAGER.to_owned(), ManagedBy::Update);
                        managers.push(Managed { manager, operation, fields });
                    }
                }
                let won: Vec<String> = wanted.iter().filter(|at| old.pointer(at) != new.pointer(at)).cloned().collect();
                take(&mut managers, &applier.manager, &won);
                managers.retain(|managed| managed.manager != applier.manager);
                let fields = wanted.iter().filter(|at| new.pointer(at).is_some()).cloned().collect();
                managers.push(Managed { manager: applier.manager.clone(), operation: ManagedBy::Apply, fields });
            }
        }
        managers.retain(|managed| !managed.fields.is_empty());
        managers.sort_by(|a, b| a.manager.cmp(&b.manager));
        if managers.len() > MANAGERS_MAX {
            return Err(problem::limit(format!("an object has at most {MANAGERS_MAX} field managers")));
        }
        Ok(managers)
    }
}

/// Takes fields away from everybody else.
fn take(managers: &mut [Managed], manager: &str, fields: &[String]) {
    for managed in managers.iter_mut().filter(|managed| managed.manager != manager) {
        managed.fields.retain(|own| !fields.iter().any(|field| managed::meet(own, field)));
    }
}

fn add(managed: Option<&mut Managed>, none: &mut Vec<String>, fields: Vec<String>) {
    let own = managed.map_or(none, |managed| &mut managed.fields);
    own.extend(fields);
    own.sort();
    own.dedup();
}

fn conflicts(managers: &[Managed], applier: &Applier, wanted: &[String], old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for pointer in wanted.iter().filter(|at| old.pointer(at) != new.pointer(at)) {
        let others = managers.iter().filter(|managed| managed.manager != applier.manager);
        for other in others.filter(|other| other.fields.iter().any(|own| managed::meet(own, pointer))) {
            let detail = format!("owned by {:?} with another value", other.manager);
            errors.push(FieldError { pointer: pointer.clone(), detail });
        }
    }
    errors
}
