//! Objects: read, list, put, delete; the hub's own status; why a workload is where it is.

use super::auth::Caller;
use super::problem::{Refused, Result, invalid, problem};
use super::{Api, body};
use crate::engine::Applier;
use crate::engine::port::{Answer, CertificateStatus, Mode, Outcome, Request};
use crate::model::{Kind, ObjectKey};
use crate::problem_code::ProblemCode;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};
use serde::Deserialize;
use serde_json::Value;

/// Query of a write.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PutQuery {
    dry_run: Option<String>,
}

/// Query of a server-side apply.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ApplyQuery {
    field_manager: String,
    #[serde(default)]
    force: bool,
    dry_run: Option<String>,
}

/// Query of a read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReadQuery {
    #[serde(default)]
    show_managed_fields: bool,
}

/// The media type of a server-side apply.
pub(super) const APPLY_PATCH: &str = "application/apply-patch+json";

/// Query of a placement.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlacementQuery {
    device: Option<String>,
}

pub(super) type Caught<T> = std::result::Result<Query<T>, axum::extract::rejection::QueryRejection>;

/// A query whose mistakes are problems like all others.
pub(super) fn query<T>(caught: Caught<T>) -> Result<T> {
    caught
        .map(|Query(value)| value)
        .map_err(|error| Refused(invalid("", format!("the query is not valid: {}", error.body_text()))))
}

/// An answer that no question of this kind has.
pub(super) fn unexpected() -> Refused {
    Refused(problem(
        ProblemCode::Internal,
        "the engine gave an answer of another kind than was asked for",
        &["report this with the hub's log"],
    ))
}

pub(super) async fn status(State(api): State<Api>, Extension(caller): Extension<Caller>) -> Result {
    match api.handle.request(&caller.actor(), Request::Status).await? {
        Answer::Status(mut status) => {
            status.certificate = api.tls.as_ref().map(|tls| CertificateStatus {
                authority: tls.authority().to_string(),
                is_own: tls.is_own(),
                expires: tls.expires(),
            });
            Ok(axum::Json(status).into_response())
        }
        _ => Err(unexpected()),
    }
}

/// A document with its ETag.
pub(super) fn document(status: StatusCode, resource_version: u64, document: &Value) -> Response {
    let mut response = (status, axum::Json(document)).into_response();
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{resource_version}\"")) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

fn if_match(headers: &HeaderMap) -> Result<Option<u64>> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    match text.trim_matches('"').parse() {
        Ok(version) => Ok(Some(version)),
        Err(_) if text == "*" => Ok(None),
        Err(_) => Err(Refused(problem(
            ProblemCode::BadIfMatch,
            "If-Match takes the ETag of an earlier answer, a number in double quotes",
            &["read the object again and use its ETag"],
        ))),
    }
}

/// What the path names.
#[derive(Debug, Deserialize)]
pub(super) struct Names {
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    name: String,
}

impl Names {
    /// What a path of a list names.
    pub fn namespace(self) -> Option<String> {
        self.namespace
    }

    fn key(self, kind: Kind) -> ObjectKey {
        ObjectKey { kind, namespace: self.namespace.unwrap_or_default(), name: self.name }
    }
}

/// GET of one object of a kind.
pub(super) fn read(kind: Kind) -> MethodRouter<Api> {
    routing::get(
        async move |State(api): State<Api>,
                    Extension(caller): Extension<Caller>,
                    Path(names): Path<Names>,
                    q: Caught<ReadQuery>|
                    -> Result {
            let key = names.key(kind);
            let is_stored = kind != Kind::Placement;
            let request = match query(q)?.show_managed_fields && is_stored {
                true => Request::Managed { key },
                false => Request::Get { key },
            };
            match api.handle.request(&caller.actor(), request).await? {
                Answer::Object { resource_version, document: body, .. } => {
                    let body = super::token::noted(&api, kind, body);
                    Ok(document(StatusCode::OK, resource_version, &body))
                }
                _ => Err(unexpected()),
            }
        },
    )
}

/// PUT of one object of a kind.
pub(super) fn write(kind: Kind) -> MethodRouter<Api> {
    routing::put(
        async move |State(api): State<Api>,
                    Extension(caller): Extension<Caller>,
                    Path(names): Path<Names>,
                    q: Caught<PutQuery>,
                    headers: HeaderMap,
                    body: Body| { put(api, caller, names.key(kind), query(q)?, &headers, body).await },
    )
}

/// PATCH of one object of a kind: server-side apply.
pub(super) fn apply(kind: Kind) -> MethodRouter<Api> {
    routing::patch(
        async move |State(api): State<Api>,
                    Extension(caller): Extension<Caller>,
                    Path(names): Path<Names>,
                    q: Caught<ApplyQuery>,
                    headers: HeaderMap,
                    body: Body| { patch(api, caller, names.key(kind), query(q)?, &headers, body).await },
    )
}

async fn patch(api: Api, caller: Caller, key: ObjectKey, query: ApplyQuery, headers: &HeaderMap, body: Body) -> Result {
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if media.split(';').next().map(str::trim) != Some(APPLY_PATCH) {
        let detail = format!("a patch is a partial manifest with Content-Type: {APPLY_PATCH}");
        return Err(Refused(problem(ProblemCode::UnsupportedPatch, detail, &[])));
    }
    let mode = mode(query.dry_run.as_deref())?;
    let if_match = if_match(headers)?;
    let document = body::json(body, api.limits.body_timeout).await?;
    let applier = Applier { manager: query.field_manager, force: query.force };
    let request = Request::Apply { key, document, applier, mode, if_match };
    written(api.handle.request(&caller.actor(), request).await?)
}

fn mode(dry_run: Option<&str>) -> Result<Mode> {
    match dry_run {
        None => Ok(Mode::Commit),
        Some("server") => Ok(Mode::DryRun),
        Some(_) => Err(Refused(invalid("", "dryRun takes `server`"))),
    }
}

/// DELETE of one object of a kind.
pub(super) fn remove(kind: Kind) -> MethodRouter<Api> {
    routing::delete(
        async move |State(api): State<Api>,
                    Extension(caller): Extension<Caller>,
                    Path(names): Path<Names>,
                    headers: HeaderMap|
                    -> Result {
            let if_match = if_match(&headers)?;
            match api.handle.request(&caller.actor(), Request::Delete { key: names.key(kind), if_match }).await? {
                Answer::Deleted => Ok(StatusCode::NO_CONTENT.into_response()),
                _ => Err(unexpected()),
            }
        },
    )
}

async fn put(api: Api, caller: Caller, key: ObjectKey, query: PutQuery, headers: &HeaderMap, body: Body) -> Result {
    let mode = mode(query.dry_run.as_deref())?;
    let if_match = if_match(headers)?;
    let manifest = body::json(body, api.limits.body_timeout).await?;
    let request = Request::Put { key, document: manifest, mode, if_match };
    written(api.handle.request(&caller.actor(), request).await?)
}

/// The answer to a write.
fn written(answer: Answer) -> Result {
    match answer {
        Answer::Object { outcome, resource_version, document: body, warnings } => {
            let status = if outcome == Outcome::Created { StatusCode::CREATED } else { StatusCode::OK };
            let mut response = document(status, resource_version, &body);
            let said = match outcome {
                Outcome::Created => "created",
                Outcome::Updated => "updated",
                Outcome::Unchanged | Outcome::Read => "unchanged",
            };
            response.headers_mut().insert("fulmar-outcome", HeaderValue::from_static(said));
            for warning in warnings {
                // RFC 9110 took `Warning` away; ours may repeat and is plain text.
                let printable: String = warning.chars().filter(|c| (' '..='~').contains(c)).collect();
                if let Ok(value) = HeaderValue::from_str(&printable) {
                    response.headers_mut().append("fulmar-warning", value);
                }
            }
            Ok(response)
        }
        _ => Err(unexpected()),
    }
}

/// Why a workload is where it is, or why it is not on one device.
pub(super) async fn placement(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((namespace, name)): Path<(String, String)>,
    q: Caught<PlacementQuery>,
) -> Result {
    let device = query(q)?.device;
    match api.handle.request(&caller.actor(), Request::Explain { namespace, name, device }).await? {
        Answer::Explanation(explanation) => Ok(axum::Json(explanation).into_response()),
        _ => Err(unexpected()),
    }
}
