//! The one table of routes: method, path, the right that it needs. A route that is not in it does not exist.

use super::auth::{Caller, authorise};
use super::idempotency::{IDEMPOTENCY_KEY, once};
use super::problem::{Refused, problem};
use super::rate::{Bucket, too_often};
use super::serve::Peer;
use super::{
    Api, HEADER_BYTES_MAX, URL_BYTES_MAX, artifact, away, device, health, hub, list, object, openapi, plan, rejection,
    rollout, stream, token,
};
use crate::model::Kind;
use crate::problem_code::ProblemCode;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

/// The right that a route needs; each holder of a later one has the earlier ones, but devices have theirs alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    Anyone,
    Device,
    /// Reads everything but secrets.
    Viewer,
    Admin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Put,
    Post,
    Patch,
    Delete,
}

impl Method {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// One line of the table.
#[derive(Clone, Copy)]
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    pub right: Right,
    handler: fn() -> MethodRouter<Api>,
}

impl Route {
    /// A POST that is the same however often it is done: an upload is named by its hash, a loss that is confirmed again stays
    /// so, the others change nothing.
    pub(super) fn is_repeatable(&self) -> bool {
        [ARTIFACT, CONFIRM_LOSS, PLANS, WHAT_IF].contains(&self.path)
    }
}

const fn route(method: Method, path: &'static str, right: Right, handler: fn() -> MethodRouter<Api>) -> Route {
    Route { method, path, right, handler }
}

const NAMESPACE: &str = "/v1/namespaces/{name}";
const REGION: &str = "/v1/regions/{name}";
const DEVICE: &str = "/v1/devices/{name}";
const TOKEN: &str = "/v1/tokens/{name}";
const WORKLOAD: &str = "/v1/namespaces/{namespace}/workloads/{name}";
const PLANS: &str = "/v1/plans";
pub(super) const PLANS_APPLY: &str = "/v1/plans/apply";
const CONFIRM_LOSS: &str = "/v1/hub/confirm-loss";
pub(super) const HUB_HOLD: &str = "/v1/hub/hold";
pub(super) const HUB_APPLY: &str = "/v1/hub/apply";
pub(super) const HUB_TAKEOVER: &str = "/v1/hub/takeover";
const WHAT_IF: &str = "/v1/explain/placement";
const ARTIFACT: &str = "/v1/namespaces/{namespace}/artifacts/{name}";

/// Every route there is.
pub const ROUTES: &[Route] = &[
    route(Method::Get, "/healthz", Right::Anyone, || routing::get(health::healthz)),
    route(Method::Get, "/readyz", Right::Anyone, || routing::get(health::readyz)),
    route(Method::Get, "/openapi.json", Right::Anyone, || routing::get(openapi::openapi)),
    route(Method::Get, "/metrics", Right::Viewer, || routing::get(health::metrics)),
    route(Method::Get, "/v1/status", Right::Viewer, || routing::get(object::status)),
    route(Method::Get, "/v1/namespaces", Right::Viewer, || list::all(Kind::Namespace)),
    route(Method::Get, NAMESPACE, Right::Viewer, || object::read(Kind::Namespace)),
    route(Method::Put, NAMESPACE, Right::Admin, || object::write(Kind::Namespace)),
    route(Method::Patch, NAMESPACE, Right::Admin, || object::apply(Kind::Namespace)),
    route(Method::Delete, NAMESPACE, Right::Admin, || object::remove(Kind::Namespace)),
    route(Method::Get, "/v1/regions", Right::Viewer, || list::all(Kind::Region)),
    route(Method::Get, REGION, Right::Viewer, || object::read(Kind::Region)),
    route(Method::Put, REGION, Right::Admin, || object::write(Kind::Region)),
    route(Method::Patch, REGION, Right::Admin, || object::apply(Kind::Region)),
    route(Method::Delete, REGION, Right::Admin, || object::remove(Kind::Region)),
    route(Method::Get, "/v1/devices", Right::Viewer, || list::all(Kind::Device)),
    route(Method::Get, DEVICE, Right::Viewer, || object::read(Kind::Device)),
    route(Method::Put, DEVICE, Right::Admin, || object::write(Kind::Device)),
    route(Method::Patch, DEVICE, Right::Admin, || object::apply(Kind::Device)),
    route(Method::Delete, DEVICE, Right::Admin, || object::remove(Kind::Device)),
    route(Method::Post, "/v1/devices/{name}/approve", Right::Admin, || routing::post(device::approve)),
    route(Method::Post, "/v1/devices/{name}/cordon", Right::Admin, || routing::post(device::cordon)),
    route(Method::Post, "/v1/devices/{name}/uncordon", Right::Admin, || routing::post(device::uncordon)),
    route(Method::Post, "/v1/devices/{name}/drain", Right::Admin, || routing::post(device::drain)),
    route(Method::Post, "/v1/devices/{name}/undrain", Right::Admin, || routing::post(device::undrain)),
    route(Method::Post, "/v1/devices/{name}/relocate", Right::Admin, || routing::post(device::relocate)),
    route(Method::Post, "/v1/devices/{name}/reject", Right::Admin, || routing::post(device::reject)),
    route(Method::Post, "/v1/devices/{name}/decommission", Right::Admin, || routing::post(device::decommission)),
    route(Method::Get, "/v1/devices/{name}/snapshot", Right::Viewer, || routing::get(away::snapshot)),
    route(Method::Get, "/v1/queue", Right::Viewer, || routing::get(away::queue)),
    route(Method::Post, "/v1/queue/cancel", Right::Admin, || routing::post(away::cancel)),
    route(Method::Post, "/v1/queue/restore", Right::Admin, || routing::post(away::restore)),
    route(Method::Post, CONFIRM_LOSS, Right::Admin, || routing::post(away::confirm_loss)),
    route(Method::Post, "/v1/devices/{name}/release", Right::Admin, || routing::post(device::release)),
    route(Method::Post, HUB_HOLD, Right::Admin, || routing::post(hub::hold)),
    route(Method::Post, HUB_APPLY, Right::Admin, || routing::post(hub::apply)),
    route(Method::Post, HUB_TAKEOVER, Right::Admin, || routing::post(hub::takeover)),
    route(Method::Get, "/v1/devices/{name}/samples", Right::Viewer, || routing::get(stream::samples)),
    route(Method::Get, "/v1/rejections", Right::Viewer, || routing::get(rejection::list)),
    route(Method::Delete, "/v1/rejections/{id}", Right::Admin, || routing::delete(rejection::lift)),
    route(Method::Post, "/v1/join-tokens", Right::Admin, || routing::post(device::token_create)),
    route(Method::Get, "/v1/whoami", Right::Viewer, || routing::get(token::whoami)),
    route(Method::Get, "/v1/tokens", Right::Viewer, || list::all(Kind::Token)),
    route(Method::Post, "/v1/tokens", Right::Admin, || routing::post(token::create)),
    route(Method::Get, TOKEN, Right::Viewer, || object::read(Kind::Token)),
    route(Method::Delete, TOKEN, Right::Admin, || object::remove(Kind::Token)),
    route(Method::Get, "/v1/workloads", Right::Viewer, || list::all(Kind::Workload)),
    route(Method::Get, "/v1/namespaces/{namespace}/workloads", Right::Viewer, || list::all(Kind::Workload)),
    route(Method::Get, WORKLOAD, Right::Viewer, || object::read(Kind::Workload)),
    route(Method::Put, WORKLOAD, Right::Admin, || object::write(Kind::Workload)),
    route(Method::Patch, WORKLOAD, Right::Admin, || object::apply(Kind::Workload)),
    route(Method::Delete, WORKLOAD, Right::Admin, || object::remove(Kind::Workload)),
    route(Method::Get, "/v1/namespaces/{namespace}/workloads/{name}/placement", Right::Viewer, || {
        routing::get(object::placement)
    }),
    route(Method::Get, "/v1/namespaces/{namespace}/workloads/{name}/logs", Right::Viewer, || {
        routing::get(stream::logs)
    }),
    route(Method::Post, WHAT_IF, Right::Viewer, || routing::post(plan::what_if)),
    route(Method::Post, PLANS, Right::Viewer, || routing::post(plan::plan)),
    route(Method::Post, PLANS_APPLY, Right::Admin, || routing::post(plan::apply)),
    route(Method::Get, "/v1/placements", Right::Viewer, || list::all(Kind::Placement)),
    route(Method::Get, "/v1/namespaces/{namespace}/placements", Right::Viewer, || list::all(Kind::Placement)),
    route(Method::Get, "/v1/namespaces/{namespace}/placements/{name}", Right::Viewer, || object::read(Kind::Placement)),
    route(Method::Get, "/v1/artifacts", Right::Viewer, || list::all(Kind::Artifact)),
    route(Method::Get, "/v1/namespaces/{namespace}/artifacts", Right::Viewer, || list::all(Kind::Artifact)),
    route(Method::Get, ARTIFACT, Right::Viewer, || object::read(Kind::Artifact)),
    route(Method::Post, ARTIFACT, Right::Admin, || routing::post(artifact::upload)),
    route(Method::Delete, ARTIFACT, Right::Admin, || object::remove(Kind::Artifact)),
    route(Method::Get, "/v1/artifacts/{digest}/content", Right::Device, || routing::get(artifact::content)),
    route(Method::Get, "/v1/bodies/{digest}", Right::Device, || routing::get(artifact::desired_body)),
    route(Method::Get, "/v1/events", Right::Viewer, || routing::get(stream::events)),
    route(Method::Get, "/v1/rollouts", Right::Viewer, || routing::get(rollout::list)),
    route(Method::Post, "/v1/rollouts", Right::Admin, || routing::post(rollout::create)),
    route(Method::Get, "/v1/rollouts/{name}", Right::Viewer, || routing::get(rollout::read)),
    route(Method::Post, "/v1/rollouts/{name}/pause", Right::Admin, || routing::post(rollout::pause)),
    route(Method::Post, "/v1/rollouts/{name}/resume", Right::Admin, || routing::post(rollout::resume)),
    route(Method::Post, "/v1/rollouts/{name}/abort", Right::Admin, || routing::post(rollout::abort)),
];

/// The router of the table; each route checks its right before anything else is read.
pub(super) fn router(api: Api) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let guard = api.clone();
        let guarded = (route.handler)().layer(from_fn(move |request: Request, next: Next| {
            let guard = guard.clone();
            async move { measured(guard, route, request, next).await }
        }));
        router = router.route(route.path, guarded);
    }
    router.fallback(unknown).method_not_allowed_fallback(wrong_method).layer(from_fn(bounded_head)).with_state(api)
}

async fn measured(api: Api, route: &'static Route, request: Request, next: Next) -> Response {
    let (metrics, began) = (api.metrics.clone(), Instant::now());
    let response = guarded(api, route, request, next).await;
    metrics.answered(route.path, route.method.name(), response.status().as_u16(), began.elapsed());
    response
}

async fn guarded(api: Api, route: &'static Route, mut request: Request, next: Next) -> Response {
    let authorised = authorise(&api, route.right, request.headers());
    let peer = request.extensions().get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0);
    let bucket = match &authorised {
        Ok(Caller::Anyone) | Err(_) => Bucket::Stranger(peer),
        Ok(caller) if caller.is_admin() => Bucket::Admin,
        Ok(caller) if route.method == Method::Get => Bucket::Reads(caller.actor()),
        Ok(caller) => Bucket::Writes(caller.actor()),
    };
    let is_stranger = matches!(bucket, Bucket::Stranger(_));
    if let Err(wait) = api.limiter.take(Instant::now(), bucket, &api.limits.rates) {
        api.metrics.rate_limited(if is_stranger { "address" } else { "token" });
        let mut response = too_often(wait).into_response();
        let seconds = HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
        return response;
    }
    match authorised {
        Ok(caller) => {
            let has_key = request.headers().contains_key(IDEMPOTENCY_KEY);
            let actor = caller.actor();
            request.extensions_mut().insert(caller);
            if has_key && route.method == Method::Post && !route.is_repeatable() {
                return once(api, actor, request, next).await;
            }
            next.run(request).await
        }
        Err(refused) => refused.into_response(),
    }
}

async fn bounded_head(request: Request, next: Next) -> Response {
    // Name, colon, space, value, line end, as the client wrote it.
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>();
    if headers > HEADER_BYTES_MAX {
        let detail = format!("the headers are {headers} bytes, the limit is {HEADER_BYTES_MAX}");
        return Refused(problem(ProblemCode::HeadersTooLarge, detail, &[])).into_response();
    }
    let length = request.uri().path_and_query().map_or(0, |text| text.as_str().len());
    if length > URL_BYTES_MAX {
        let detail = format!("path and query are {length} bytes, the limit is {URL_BYTES_MAX}");
        return Refused(problem(ProblemCode::UrlTooLong, detail, &[])).into_response();
    }
    next.run(request).await
}

async fn unknown(State(_): State<Api>, request: Request) -> Response {
    let detail = format!("there is no {}", shown(request.uri().path()));
    Refused(problem(ProblemCode::NoSuchRoute, detail, &["see docs/reference/api.md"])).into_response()
}

async fn wrong_method(State(_): State<Api>, request: Request) -> Response {
    let detail = format!("{} does not take {}", shown(request.uri().path()), request.method());
    let next = ["see docs/reference/api.md"];
    Refused(problem(ProblemCode::WrongMethod, detail, &next)).into_response()
}

fn shown(text: &str) -> String {
    text.chars().take(120).collect()
}
