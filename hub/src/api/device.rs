//! Devices beyond their document: join tokens, approval, cordon, drain, relocation, rejection, decommissioning.

use super::auth::Caller;
use super::object::unexpected;
use super::problem::{Refused, Result, invalid, problem};
use super::{Api, body};
use crate::engine::port::{Answer, DeviceChange, Request};
use crate::engine::refused;
use crate::model::{Span, read_relocation};
use crate::problem_code::ProblemCode;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Value, json};

async fn change(api: Api, caller: Caller, name: String, change: DeviceChange) -> Result {
    match api.handle.request(&caller.actor(), Request::DeviceChange { name, change }).await? {
        Answer::Object { resource_version, document, .. } => {
            Ok(super::object::document(StatusCode::OK, resource_version, &document))
        }
        _ => Err(unexpected()),
    }
}

pub(super) async fn approve(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result {
    change(api, caller, name, DeviceChange::Approve).await
}

pub(super) async fn cordon(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result {
    change(api, caller, name, DeviceChange::Cordon).await
}

pub(super) async fn uncordon(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result {
    change(api, caller, name, DeviceChange::Uncordon).await
}

pub(super) async fn drain(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result {
    change(api, caller, name, DeviceChange::Drain).await
}

pub(super) async fn undrain(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result {
    change(api, caller, name, DeviceChange::Undrain).await
}

pub(super) async fn release(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result {
    change(api, caller, name, DeviceChange::Release).await
}

/// Body: `{point: [longitude, latitude], uncertaintyM?}`, or `{reset: true}`.
pub(super) async fn relocate(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Body,
) -> Result {
    let wanted = body::json(body, api.limits.body_timeout).await?;
    let position = read_relocation(&wanted).map_err(|refusal| Refused(refused(refusal)))?;
    change(api, caller, name, DeviceChange::Relocate(position)).await
}

pub(super) async fn reject(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result {
    end(api, caller, name, DeviceChange::Reject).await
}

/// Body: `{force?: bool}`, or none.
pub(super) async fn decommission(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Body,
) -> Result {
    let wanted = body::json_if_any(body, api.limits.body_timeout).await?;
    let is_forced = match wanted.as_object().map(|fields| (fields.get("force"), fields.len())) {
        Some((None, 0)) => false,
        Some((Some(Value::Bool(force)), 1)) => *force,
        Some((Some(_), 1)) => return Err(Refused(invalid("/force", "force is true or false"))),
        Some(_) | None => return Err(Refused(invalid("", "the body is empty or {\"force\": true}"))),
    };
    if is_forced {
        end(api, caller, name, DeviceChange::DecommissionNow).await
    } else {
        change(api, caller, name, DeviceChange::Decommission).await
    }
}

async fn end(api: Api, caller: Caller, name: String, change: DeviceChange) -> Result {
    match api.handle.request(&caller.actor(), Request::DeviceChange { name, change }).await? {
        Answer::Deleted => Ok(StatusCode::NO_CONTENT.into_response()),
        _ => Err(unexpected()),
    }
}

/// Body: `{expiresIn?: "1h", approve?: bool, labels?: {}}`.
pub(super) async fn token_create(State(api): State<Api>, Extension(caller): Extension<Caller>, body: Body) -> Result {
    let wanted = body::json(body, api.limits.body_timeout).await?;
    let Value::Object(fields) = wanted else {
        return Err(Refused(invalid(
            "",
            "the body is a JSON object: {\"expiresIn\": \"1h\", \"approve\": true, \"labels\": {}}",
        )));
    };
    let (mut expires_in, mut approve, mut labels) = (None, false, json!({}));
    for (field, value) in fields {
        match (field.as_str(), value) {
            ("expiresIn", Value::String(text)) => {
                let span = Span::parse(&text).map_err(|error| invalid("/expiresIn", error.to_string()))?;
                expires_in = Some(span.duration());
            }
            ("approve", Value::Bool(value)) => approve = value,
            ("labels", value @ Value::Object(_)) => labels = value,
            ("expiresIn" | "approve" | "labels", _) => {
                return Err(Refused(invalid(&format!("/{field}"), "the value has the wrong type")));
            }
            (_, _) => {
                let detail = "unknown field; known are expiresIn, approve and labels";
                return Err(Refused(invalid(&format!("/{}", field.chars().take(60).collect::<String>()), detail)));
            }
        }
    }
    let mut entropy = [0; 32];
    getrandom::fill(&mut entropy).map_err(|error| problem(ProblemCode::NoEntropy, error.to_string(), &[]))?;
    let request = Request::TokenCreate { expires_in, approve, labels, entropy };
    match api.handle.request(&caller.actor(), request).await? {
        Answer::Token { text, id, expires_ms } => {
            let body = json!({"token": text, "id": id.to_string(), "expiresMs": expires_ms});
            Ok((StatusCode::CREATED, axum::Json(body)).into_response())
        }
        _ => Err(unexpected()),
    }
}
