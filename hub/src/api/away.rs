//! Devices that are away: their last word, what waits for them, and the word of an operator that they are lost.

use super::auth::Caller;
use super::object::{Caught, query, unexpected};
use super::problem::{Refused, Result, invalid};
use super::{Api, body};
use crate::engine::port::{Answer, QueueVerb, Request};
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QueueQuery {
    device: Option<String>,
}

async fn report(api: Api, caller: Caller, request: Request) -> Result {
    match api.handle.request(&caller.actor(), request).await? {
        Answer::Report(report) => Ok(axum::Json(report).into_response()),
        _ => Err(unexpected()),
    }
}

pub(super) async fn snapshot(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result {
    report(api, caller, Request::Snapshot { name }).await
}

pub(super) async fn queue(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    q: Caught<QueueQuery>,
) -> Result {
    let QueueQuery { device } = query(q)?;
    report(api, caller, Request::Queue { device }).await
}

pub(super) async fn confirm_loss(State(api): State<Api>, Extension(caller): Extension<Caller>) -> Result {
    report(api, caller, Request::LossConfirm).await
}

pub(super) async fn cancel(State(api): State<Api>, Extension(caller): Extension<Caller>, body: Body) -> Result {
    change(api, caller, body, QueueVerb::Cancel).await
}

pub(super) async fn restore(State(api): State<Api>, Extension(caller): Extension<Caller>, body: Body) -> Result {
    change(api, caller, body, QueueVerb::Restore).await
}

/// Body: `{id}`.
async fn change(api: Api, caller: Caller, body: Body, verb: QueueVerb) -> Result {
    let wanted = body::json(body, api.limits.body_timeout).await?;
    let id = match wanted.as_object().map(|fields| (fields.get("id"), fields.len())) {
        Some((Some(Value::String(id)), 1)) => id.clone(),
        Some((Some(_), 1)) => return Err(Refused(invalid("/id", "the id is a text, as the queue shows it"))),
        Some(_) | None => {
            return Err(Refused(invalid("", "the body is {\"id\": \"<device>:<namespace>/<workload>\"}")));
        }
    };
    match api.handle.request(&caller.actor(), Request::QueueChange { id, verb }).await? {
        Answer::Object { resource_version, document, .. } => {
            Ok(super::object::document(StatusCode::OK, resource_version, &document))
        }
        _ => Err(unexpected()),
    }
}
