//! What an operator decides about the hub itself: what devices get that hold more than it knows, and which of two hubs it is.

use super::auth::Caller;
use super::object::unexpected;
use super::problem::{Refused, Result, invalid};
use super::{Api, body};
use crate::engine::port::{Answer, Request};
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use serde_json::Value;

/// Devices that one request may name.
pub const DEVICES_NAMED_MAX: usize = 500;

async fn decide(api: Api, caller: Caller, request: Request) -> Result {
    match api.handle.request(&caller.actor(), request).await? {
        Answer::Status(status) => Ok(axum::Json(status).into_response()),
        _ => Err(unexpected()),
    }
}

/// Body: `{devices?: [NAME, ...]}`, or none for all.
async fn devices(api: &Api, body: Body) -> std::result::Result<Vec<String>, Refused> {
    let wanted = body::json_if_any(body, api.limits.body_timeout).await?;
    let shape = || Refused(invalid("", "the body is empty or {\"devices\": [NAME, ...]}"));
    let fields = wanted.as_object().ok_or_else(shape)?;
    let Some(named) = fields.get("devices") else {
        return if fields.is_empty() { Ok(Vec::new()) } else { Err(shape()) };
    };
    let names = named.as_array().filter(|names| fields.len() == 1 && !names.is_empty()).ok_or_else(shape)?;
    if names.len() > DEVICES_NAMED_MAX {
        let detail = format!("{} devices are named, the most are {DEVICES_NAMED_MAX}", names.len());
        return Err(Refused(invalid("/devices", detail)));
    }
    names.iter().map(|name| name.as_str().map(str::to_owned).ok_or_else(shape)).collect()
}

pub(super) async fn hold(State(api): State<Api>, Extension(caller): Extension<Caller>, body: Body) -> Result {
    let devices = devices(&api, body).await?;
    decide(api, caller, Request::HubHold { devices }).await
}

pub(super) async fn apply(State(api): State<Api>, Extension(caller): Extension<Caller>, body: Body) -> Result {
    let devices = devices(&api, body).await?;
    decide(api, caller, Request::HubApply { devices }).await
}

/// Body: `{confirm: true}`: it was made sure that the other hub is ended, or is to stay silent.
pub(super) async fn takeover(State(api): State<Api>, Extension(caller): Extension<Caller>, body: Body) -> Result {
    let wanted = body::json(body, api.limits.body_timeout).await?;
    let is_confirmed =
        wanted.as_object().is_some_and(|fields| fields.len() == 1) && wanted.get("confirm") == Some(&Value::Bool(true));
    if !is_confirmed {
        return Err(Refused(invalid("/confirm", "the body is {\"confirm\": true}, so that nobody does it by mistake")));
    }
    decide(api, caller, Request::HubTakeover).await
}
