//! Bearer tokens, and what the one in use is good for. The secret is made here, shown once, and given on as a hash only.

use super::auth::Caller;
use super::object::{Caught, document, query, unexpected};
use super::problem::{Result, problem};
use super::route::ROUTES;
use super::{Api, body};
use crate::engine::port::{Answer, Request};
use crate::grants::token_text;
use crate::keys::secret_hash;
use crate::model::Kind;
use crate::problem_code::ProblemCode;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

/// Body: a Token document; the answer is the only one that holds the token.
pub(super) async fn create(State(api): State<Api>, Extension(caller): Extension<Caller>, body: Body) -> Result {
    let wanted = body::json(body, api.limits.body_timeout).await?;
    let mut entropy = [0; 32];
    getrandom::fill(&mut entropy).map_err(|error| problem(ProblemCode::NoEntropy, error.to_string(), &[]))?;
    let text = token_text(&entropy);
    let request = Request::ApiTokenCreate { document: wanted, sha256: secret_hash(text.as_bytes()) };
    match api.handle.request(&caller.actor(), request).await? {
        Answer::Object { resource_version, document: mut shown, .. } => {
            shown["status"] = json!({"token": text});
            Ok(document(StatusCode::CREATED, resource_version, &shown))
        }
        _ => Err(unexpected()),
    }
}

/// Adds what only the edge knows of a token.
pub(super) fn noted(api: &Api, kind: Kind, mut shown: Value) -> Value {
    if kind == Kind::Token {
        let name = shown["metadata"]["name"].as_str().unwrap_or_default();
        if let Some(at) = api.grants.last_used_ms(name) {
            // To the minute: how often somebody asks is nobody's business.
            shown["status"] = json!({"lastUsed": crate::engine::timestamp(at / 60_000 * 60_000)});
        }
    }
    shown
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhoQuery {
    can: Option<String>,
    kind: Option<String>,
}

/// Who asks, and whether they could do something.
pub(super) async fn whoami(Extension(caller): Extension<Caller>, q: Caught<WhoQuery>) -> Result {
    let q = query(q)?;
    let (name, role) = match &caller {
        Caller::Operator { name, role } => (name.clone(), role.name()),
        Caller::Device(id) => (format!("device/{id}"), "device"),
        Caller::Anyone => return Err(unexpected()),
    };
    let mut answer = json!({"name": name, "role": role, "namespace": null});
    match (q.can, q.kind) {
        (None, None) => {}
        (Some(verb), Some(kind)) => answer["allowed"] = Value::Bool(can(&caller, &verb, &kind)?),
        (Some(_), None) | (None, Some(_)) => {
            return Err(super::problem::Refused(super::problem::invalid("", "can and kind go together")));
        }
    }
    Ok(axum::Json(answer).into_response())
}

/// Whether the table has a route for it that this caller may use.
fn can(caller: &Caller, verb: &str, kind: &str) -> Result<bool> {
    let methods: &[&str] = match verb {
        "get" | "list" | "watch" => &["GET"],
        "create" | "update" | "apply" | "upload" => &["PUT", "PATCH", "POST"],
        "delete" => &["DELETE"],
        "approve" | "cordon" | "uncordon" | "drain" | "undrain" | "relocate" | "reject" | "decommission" => &["POST"],
        _ => {
            let known = "get, list, watch, create, update, apply, upload, delete, approve, cordon, uncordon, drain, \
                         undrain, relocate, reject, decommission";
            let detail = format!("can takes one of {known}");
            return Err(super::problem::Refused(super::problem::invalid("", detail)));
        }
    };
    let wanted = kind.to_ascii_lowercase();
    let Some(kind) = Kind::ALL.into_iter().find(|kind| [kind.singular(), kind.plural()].contains(&wanted.as_str()))
    else {
        let known = Kind::ALL.map(Kind::singular).join(", ");
        return Err(super::problem::Refused(super::problem::invalid("", format!("kind takes one of {known}"))));
    };
    let is_action = !matches!(verb, "get" | "list" | "watch" | "create" | "update" | "apply" | "upload" | "delete");
    let is_about = |path: &str| {
        let segments: Vec<&str> = path.split('/').collect();
        match (is_action, segments.as_slice()) {
            (true, [.., plural, "{name}", action]) => *plural == kind.plural() && *action == verb,
            (true, _) => false,
            (false, [.., plural, "{name}"] | [.., plural]) => *plural == kind.plural(),
            (false, []) => false,
        }
    };
    let routes = ROUTES.iter().filter(|route| methods.contains(&route.method.name()) && is_about(route.path));
    Ok(routes.into_iter().any(|route| caller.may(route.right)))
}
