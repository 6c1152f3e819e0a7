//! Saved plans and questions of what if: bodies in, the engine's answers out.

use super::auth::Caller;
use super::object::{Caught, query, unexpected};
use super::problem::{Refused, Result, invalid};
use super::{Api, PLAN_BYTES_MAX, SAVED_PLAN_BYTES_MAX, body};
use crate::engine::Applier;
use crate::engine::port::{Answer, Request, WhatIf};
use crate::geo::{Distance, Point};
use crate::model::NAMESPACE_DEFAULT;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PlanQuery {
    field_manager: Option<String>,
    #[serde(default)]
    force: bool,
}

/// Body: `{documents: [manifest, ...]}`.
pub(super) async fn plan(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    q: Caught<PlanQuery>,
    body: Body,
) -> Result {
    let PlanQuery { field_manager, force } = query(q)?;
    let mut wanted = body::json_up_to(body, api.limits.body_timeout, PLAN_BYTES_MAX).await?;
    let is_plain = wanted.as_object().is_some_and(|fields| fields.len() == 1);
    let documents = match wanted.get_mut("documents").map(Value::take) {
        Some(Value::Array(documents)) if is_plain => documents,
        _ => return Err(Refused(invalid("/documents", "the body is {\"documents\": [manifest, ...]}"))),
    };
    let applier = Applier { manager: field_manager.unwrap_or_else(|| "fulmar".to_owned()), force };
    answered(api.handle.request(&caller.actor(), Request::Plan { documents, applier }).await?)
}

/// Body: a plan, whole.
pub(super) async fn apply(State(api): State<Api>, Extension(caller): Extension<Caller>, body: Body) -> Result {
    let plan = body::json_up_to(body, api.limits.body_timeout, SAVED_PLAN_BYTES_MAX).await?;
    answered(api.handle.request(&caller.actor(), Request::PlanApply { plan }).await?)
}

fn answered(answer: Answer) -> Result {
    match answer {
        Answer::Plan(plan) | Answer::Explanation(plan) => Ok(axum::Json(plan).into_response()),
        _ => Err(unexpected()),
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Asked {
    workload: Value,
    namespace: Option<String>,
    device: Option<String>,
    near: Option<[f64; 2]>,
    max_km: Option<f64>,
    #[serde(default)]
    overrides: Value,
}

/// Body: `{workload, namespace?, device?, near?, maxKm?, overrides?}`.
pub(super) async fn what_if(State(api): State<Api>, Extension(caller): Extension<Caller>, body: Body) -> Result {
    let wanted = body::json(body, api.limits.body_timeout).await?;
    let asked: Asked = serde_json::from_value(wanted).map_err(|error| invalid("", error.to_string()))?;
    if !asked.workload.is_string() && !asked.workload.is_object() {
        return Err(Refused(invalid("/workload", "a workload's name, or a manifest")));
    }
    let near = asked.near.map(|[longitude, latitude]| Point::from_degrees(longitude, latitude)).transpose();
    if asked.max_km.is_some() && asked.near.is_none() {
        return Err(Refused(invalid("/maxKm", "goes with `near`: it is the limit of the distance to that point")));
    }
    let distance_max = asked.max_km.map(|km| Distance::from_km(km).ok_or("a number of kilometres, 0 or more"));
    let what_if = WhatIf {
        workload: asked.workload,
        namespace: asked.namespace.unwrap_or_else(|| NAMESPACE_DEFAULT.to_owned()),
        device: asked.device,
        near: near.map_err(|error| invalid("/near", error.to_string()))?,
        distance_max: distance_max.transpose().map_err(|why| invalid("/maxKm", why))?,
        overrides: asked.overrides,
    };
    answered(api.handle.request(&caller.actor(), Request::WhatIf(Box::new(what_if))).await?)
}
