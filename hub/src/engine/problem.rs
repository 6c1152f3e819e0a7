//! Refusals in the words of RFC 9457: what, why, what next. Codes are stable.

use super::port::Problem;
use crate::commit::CommitFailure;
use crate::model::{FieldError, Kind, NAMESPACE_DEFAULT, ObjectKey, Refusal};
use crate::problem_code::ProblemCode;
use wire::DeviceId;
use wire::limits::NAME_BYTES_MAX;
use wire::topic::is_label;

fn problem(code: ProblemCode, detail: String, next: Vec<String>) -> Problem {
    Problem { next, ..Problem::new(code, detail) }
}

pub(super) fn not_found(key: &ObjectKey) -> Problem {
    let next = match key.kind {
        Kind::Device => {
            vec!["fulmar get devices".to_owned(), "fulmar device join-token".to_owned()]
        }
        Kind::Namespace | Kind::Region | Kind::Artifact | Kind::Workload | Kind::Placement | Kind::Token => {
            vec![format!("fulmar get {}", key.kind.plural())]
        }
    };
    problem(ProblemCode::NotFound, format!("there is no {key}"), next)
}

pub(super) fn not_needed(detail: &str) -> Problem {
    problem(ProblemCode::NotNeeded, detail.to_owned(), vec!["fulmar status".to_owned()])
}

pub(super) fn not_rejected(device: DeviceId) -> Problem {
    problem(ProblemCode::NotFound, format!("no key {device} is rejected"), vec!["fulmar device rejected".to_owned()])
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

pub(super) fn no_rollout(name: &str) -> Problem {
    let detail = format!("there is no rollout {:?}", shown(name));
    problem(ProblemCode::NotFound, detail, vec!["fulmar firmware status".to_owned()])
}

pub(super) fn rollout_open(name: &str, board: &str) -> Problem {
    let detail =
        format!("the rollout {name} is under way on boards {board}: two at once would change the same devices");
    let next = vec![format!("fulmar firmware status {name}"), format!("fulmar firmware abort {name}")];
    problem(ProblemCode::Exists, detail, next)
}

pub(super) fn rollout_over(name: &str, phase: &str) -> Problem {
    let detail = format!("the rollout {name} is over ({phase})");
    problem(ProblemCode::NotNeeded, detail, vec![format!("fulmar firmware status {name}")])
}

pub(super) fn no_such_boards(board: &str, selector: &str) -> Problem {
    let with = if selector.is_empty() { String::new() } else { format!(" with the labels {:?}", shown(selector)) };
    let detail = format!("no device that is a {board}{with} has said since this hub's start which firmware it runs");
    problem(ProblemCode::NotNeeded, detail, vec!["fulmar get devices".to_owned()])
}

pub(super) fn not_queued(id: &str) -> Problem {
    let shown: String = id.chars().take(120).collect();
    let detail = format!("nothing waits under the id {shown:?}: the device may have come back meanwhile");
    problem(ProblemCode::NotFound, detail, vec!["fulmar queue".to_owned()])
}

pub(super) fn not_cancellable(id: &str, why: &str) -> Problem {
    let detail = format!("{id} cannot be taken back for this one device: {why}");
    problem(ProblemCode::NotCancellable, detail, vec!["fulmar queue".to_owned()])
}

pub(super) fn namespace_not_found(name: &str) -> Problem {
    let shown: String = name.chars().take(80).collect();
    let detail = format!("there is no namespace {shown:?}; make it first, or name another one");
    let mut next = vec!["fulmar get namespaces".to_owned()];
    // What somebody pastes into a shell holds nothing but a name.
    if is_label(name, NAME_BYTES_MAX) {
        next.push(format!(
            "echo '{{apiVersion: fulmar/v1, kind: Namespace, metadata: {{name: {name}}}}}' | fulmar apply -f -"
        ));
    }
    problem(ProblemCode::NamespaceNotFound, detail, next)
}

pub(super) fn namespace_default() -> Problem {
    let detail = format!("the namespace {NAMESPACE_DEFAULT} is where everything goes that names none; it stays");
    problem(ProblemCode::Protected, detail, vec![format!("fulmar get all -n {NAMESPACE_DEFAULT}")])
}

pub(super) fn body_not_found() -> Problem {
    let detail = "no device is to hold a set with this hash; it may have been replaced".to_owned();
    problem(ProblemCode::NotFound, detail, Vec::new())
}

pub(super) fn stale(key: &ObjectKey, expected: u64, found: Option<u64>) -> Problem {
    let detail = match found {
        Some(found) => format!("{key} has resource version {found}, not {expected}: somebody changed it meanwhile"),
        None => format!("{key} is not there, so it cannot have resource version {expected}"),
    };
    let next = vec![format!("fulmar get {}/{} -o yaml", key.kind.singular(), key.name)];
    problem(ProblemCode::Stale, detail, next)
}

pub(crate) fn refused(refusal: Refusal) -> Problem {
    let code = if refusal.not_built { ProblemCode::NotBuiltYet } else { ProblemCode::Invalid };
    let first = refusal.errors.first().map(|error| format!("{}: {}", error.pointer, error.detail));
    let more = refusal.errors.len().saturating_sub(1);
    let detail = match (first, more) {
        (Some(first), 0) => first,
        (Some(first), more) => format!("{first} (and {more} more)"),
        (None, _) => "the document is empty".to_owned(),
    };
    Problem { errors: refusal.errors, ..Problem::new(code, detail) }
}

pub(super) fn invalid(pointer: &str, detail: String) -> Problem {
    refused(Refusal { errors: vec![FieldError { pointer: pointer.to_owned(), detail }], not_built: false })
}

pub(super) fn in_use(key: &ObjectKey, users: &[ObjectKey]) -> Problem {
    let shown: Vec<String> = users.iter().take(5).map(ObjectKey::to_string).collect();
    let more = users.len().saturating_sub(shown.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let (detail, next) = match key.kind {
        Kind::Namespace => (
            format!("{key} holds {}{more}; delete these first", shown.join(", ")),
            // Workloads before the artifacts that they need.
            users
                .iter()
                .rev()
                .take(5)
                .map(|user| format!("fulmar delete {}/{} -n {}", user.kind.singular(), user.name, key.name))
                .collect(),
        ),
        Kind::Region | Kind::Device | Kind::Artifact | Kind::Workload | Kind::Placement | Kind::Token => (
            format!("{key} is used by {}{more}; delete or change these first", shown.join(", ")),
            vec!["fulmar get workloads".to_owned()],
        ),
    };
    problem(ProblemCode::InUse, detail, next)
}

pub(super) fn conflict(errors: Vec<FieldError>) -> Problem {
    let first = errors.first().map(|error| format!("{} is {}", error.pointer, error.detail)).unwrap_or_default();
    let more = errors.len().saturating_sub(1);
    let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
    let next = vec![
        "leave these fields out, or give them the value that they have".to_owned(),
        "apply with force=true to take them over".to_owned(),
    ];
    Problem { errors, ..problem(ProblemCode::FieldConflict, format!("{first}{more}"), next) }
}

pub(super) fn exists(key: &ObjectKey) -> Problem {
    let detail = format!("there is a {key} already; delete it first, or take another name");
    problem(ProblemCode::Exists, detail, vec![format!("fulmar get {}", key.kind.plural())])
}

/// Something that a plan was made from has moved.
pub(super) fn plan_stale(errors: Vec<FieldError>) -> Problem {
    let moved: Vec<&str> = errors.iter().take(5).map(|error| error.detail.as_str()).collect();
    let more = errors.len().saturating_sub(moved.len());
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let detail = format!("nothing was changed, because the plan is of another state: {}{more}", moved.join("; "));
    let next = vec!["make a new plan, and look at it".to_owned()];
    Problem { errors, ..problem(ProblemCode::PlanStale, detail, next) }
}

pub(super) fn approved(key: &ObjectKey) -> Problem {
    let detail = format!("{key} is approved: only a device that waits for its approval can be rejected");
    let next = vec![format!("fulmar device decommission {}", key.name)];
    problem(ProblemCode::Approved, detail, next)
}

pub(super) fn limit(detail: String) -> Problem {
    problem(ProblemCode::LimitReached, detail, Vec::new())
}

pub(super) fn busy(detail: &str) -> Problem {
    problem(ProblemCode::Busy, format!("{detail}; try again in a second"), Vec::new())
}

/// A position that a watch cannot go on from.
pub(super) fn watch_expired(why: &str) -> Problem {
    let detail = format!("the watch cannot go on from this position: {why}");
    let next = vec!["list again, and watch from the resourceVersion of that list".to_owned()];
    problem(ProblemCode::WatchExpired, detail, next)
}

/// A watcher that is cut; it may resume.
pub(super) fn watch_slow(why: &str) -> Problem {
    let detail = format!("the watch was ended by the hub: {why}");
    let next = vec!["watch again with the id of the last event as Last-Event-ID".to_owned()];
    problem(ProblemCode::WatchSlow, detail, next)
}

pub(super) fn commit_failed(reason: CommitFailure) -> Problem {
    match reason {
        CommitFailure::DiskFull => problem(
            ProblemCode::DiskFull,
            "nothing of this request was kept; free some space on the hub's disk and send it again".to_owned(),
            Vec::new(),
        ),
        CommitFailure::Io => problem(
            ProblemCode::StoreFailed,
            "nothing of this request was kept; see the hub's log, then send it again".to_owned(),
            Vec::new(),
        ),
    }
}
