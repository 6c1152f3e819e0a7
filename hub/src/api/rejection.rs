//! Rejected keys: read, and let in again.

use super::auth::Caller;
use super::object::{Caught, query, unexpected};
use super::problem::{Refused, Result, invalid};
use super::{Api, PAGE_MAX};
use crate::engine::port::{Answer, Request};
use crate::model::API_VERSION;
use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};
use wire::DeviceId;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    limit: Option<usize>,
    r#continue: Option<String>,
}

fn id_of(text: &str) -> Result<DeviceId> {
    DeviceId::parse(text).map_err(|_| {
        let shown: String = text.chars().take(60).collect();
        Refused(invalid("", format!("{shown:?} is not the id of a key: 26 letters and digits, as the list shows it")))
    })
}

pub(super) async fn list(State(api): State<Api>, Extension(caller): Extension<Caller>, q: Caught<PageQuery>) -> Result {
    let PageQuery { limit, r#continue } = query(q)?;
    let limit = limit.unwrap_or(PAGE_MAX);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Refused(invalid("", format!("limit is {limit}, but a page has 1 to {PAGE_MAX} keys"))));
    }
    let after = r#continue.as_deref().map(id_of).transpose()?;
    match api.handle.request(&caller.actor(), Request::Rejections { limit, after }).await? {
        Answer::List { items, next, position, resource_version: _ } => {
            let mut metadata = json!({"resourceVersion": position.to_string()});
            if let Some(next) = next {
                metadata["continue"] = Value::String(next);
            }
            let body =
                json!({"apiVersion": API_VERSION, "kind": "RejectionList", "metadata": metadata, "items": items});
            Ok(axum::Json(body).into_response())
        }
        _ => Err(unexpected()),
    }
}

pub(super) async fn lift(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result {
    let device = id_of(&id)?;
    match api.handle.request(&caller.actor(), Request::RejectionLift { device }).await? {
        Answer::Deleted => Ok(StatusCode::NO_CONTENT.into_response()),
        _ => Err(unexpected()),
    }
}
