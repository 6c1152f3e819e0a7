//! `Idempotency-Key` of POST: the first request with a key is done, later ones with the same body get its answer again.
//!
//! A client whose connection broke cannot know whether its request was done; with a key it may simply ask again. What was
//! begun is finished even if nobody waits. The table is bounded and in memory: a restart of the hub forgets it.

use super::problem::{Refused, problem};
use super::route::PLANS_APPLY;
use super::{Api, BODY_BYTES_MAX, SAVED_PLAN_BYTES_MAX, body};
use crate::problem_code::ProblemCode;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The header.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Keys that are remembered; the oldest answers go first.
pub const IDEMPOTENCY_KEYS_MAX: usize = 1_024;
/// For so long.
pub const IDEMPOTENCY_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Bytes of a key.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;

/// Who asked, where, and under which key.
type Asked = (String, String, String);

struct Slot {
    body_sha256: [u8; 32],
    since: Instant,
    /// `None`: it is under way.
    answer: Option<Recorded>,
}

#[derive(Clone)]
struct Recorded {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// All answers that may be asked for again.
#[derive(Default)]
pub struct Answers(Mutex<HashMap<Asked, Slot>>);

enum Begun {
    First,
    Again(Recorded),
}

impl Answers {
    fn begin(&self, asked: &Asked, body_sha256: [u8; 32]) -> Result<Begun, Refused> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|_, slot| slot.answer.is_none() || slot.since.elapsed() < IDEMPOTENCY_LIFE);
        if let Some(slot) = slots.get(asked) {
            if slot.body_sha256 != body_sha256 {
                let detail = "this Idempotency-Key came with another body before";
                return Err(Refused(problem(ProblemCode::KeyReused, detail, &["take a new key"])));
            }
            return slot.answer.clone().map(Begun::Again).ok_or_else(|| {
                let detail = "the first request with this Idempotency-Key is still under way";
                Refused(problem(ProblemCode::InProgress, detail, &["ask again in a second"]))
            });
        }
        if slots.len() >= IDEMPOTENCY_KEYS_MAX {
            let done = slots.iter().filter(|(_, slot)| slot.answer.is_some());
            let oldest = done.min_by_key(|(_, slot)| slot.since).map(|(asked, _)| asked.clone());
            let Some(oldest) = oldest else {
                let detail = format!("{IDEMPOTENCY_KEYS_MAX} requests with a key are under way");
                return Err(Refused(problem(ProblemCode::Busy, detail, &[])));
            };
            slots.remove(&oldest);
        }
        slots.insert(asked.clone(), Slot { body_sha256, since: Instant::now(), answer: None });
        Ok(Begun::First)
    }

    /// What the hub could not do may be tried again under the same key.
    fn end(&self, asked: &Asked, recorded: Recorded) {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded.status.is_server_error() {
            slots.remove(asked);
        } else if let Some(slot) = slots.get_mut(asked) {
            slot.answer = Some(recorded);
        }
    }
}

/// As the route itself takes it.
fn body_bytes_max(path: &str) -> usize {
    if path == PLANS_APPLY { SAVED_PLAN_BYTES_MAX } else { BODY_BYTES_MAX }
}

/// Does a request once.
pub(super) async fn once(api: Api, actor: String, request: Request, next: Next) -> Response {
    match try_once(api, actor, request, next).await {
        Ok(response) => response,
        Err(refused) => refused.into_response(),
    }
}

async fn try_once(api: Api, actor: String, request: Request, next: Next) -> Result<Response, Refused> {
    let (head, body) = request.into_parts();
    let key = head.headers.get(IDEMPOTENCY_KEY).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
        let detail = format!("Idempotency-Key is 1 to {IDEMPOTENCY_KEY_BYTES_MAX} printable characters");
        return Err(Refused(problem(ProblemCode::BadKey, detail, &[])));
    }
    let bytes = body::whole(body, api.limits.body_timeout, body_bytes_max(head.uri.path())).await?;
    let asked = (actor, head.uri.to_string(), key);
    if let Begun::Again(Recorded { status, headers, body }) = api.answers.begin(&asked, wire::Digest::of(&bytes).0)? {
        let mut response = (status, headers, body).into_response();
        let replayed = HeaderName::from_static("idempotency-replayed");
        response.headers_mut().insert(replayed, HeaderValue::from_static("true"));
        return Ok(response);
    }
    let (done, answer) = async_channel::bounded(1);
    let request = Request::from_parts(head, Body::from(bytes));
    // It goes on when the client goes away: the answer is what it will ask for. Its end is in the table.
    smol::spawn(async move {
        let (head, body) = next.run(request).await.into_parts();
        let body = match http_body_util::Limited::new(body, 4 * BODY_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => Bytes::new(),
        };
        let mut headers = head.headers;
        headers.remove(header::CONTENT_LENGTH);
        let recorded = Recorded { status: head.status, headers, body };
        api.answers.end(&asked, recorded.clone());
        let _ = done.try_send(recorded);
    })
    .detach();
    match answer.recv().await {
        Ok(Recorded { status, headers, body }) => Ok((status, headers, body).into_response()),
        Err(_) => Err(super::object::unexpected()),
    }
}
