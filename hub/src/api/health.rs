//! Whether the hub lives and can work, and its measurements.

use super::Api;
use super::auth::Caller;
use super::object::unexpected;
use super::problem::{Refused, Result, problem};
use crate::engine::port::{Answer, Request};
use crate::metrics::OPENMETRICS;
use crate::problem_code::ProblemCode;
use axum::Extension;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

/// Alive: a request is answered.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Ready: the engine answers, the link is up, and the store takes changes.
pub(super) async fn readyz(State(api): State<Api>) -> Result {
    let Answer::Status(status) = api.handle.request("anonymous", Request::Status).await? else {
        return Err(unexpected());
    };
    let mut missing = Vec::new();
    if !status.link {
        missing.push("the hub is not connected to its broker");
    }
    if !status.writable {
        missing.push("the database took no change when it was last asked; see the hub's disk and log");
    }
    if missing.is_empty() {
        return Ok("ok\n".into_response());
    }
    Err(Refused(problem(ProblemCode::NotReady, missing.join("; "), &["fulmar status"])))
}

pub(super) async fn metrics(State(api): State<Api>, Extension(caller): Extension<Caller>) -> Result {
    match api.handle.request(&caller.actor(), Request::Measure).await? {
        Answer::Measures(measures) => {
            if let Some(ends) = api.tls.as_ref().and_then(|tls| tls.ends()) {
                api.metrics.certificate_ends(ends);
            }
            let text = api.metrics.text(&measures, (api.broker)());
            Ok(([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response())
        }
        _ => Err(unexpected()),
    }
}
