//! `Idempotency-Key` of POST: the first request with a key is done, later ones with the same body get its answer again.
//!
//! A client whose connection broke cannot know whether its request was done; with a key it may simply ask again. What was
//! begun is finished even if nobody waits. The table is bounded, in answers and in bytes, and in memory: a restart of the hub
//! forgets it. An answer that is too large to keep is given to the first alone; the others are told that it was done.

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

/// Bytes of an answer that is kept.
pub const ANSWER_KEPT_BYTES_MAX: usize = 256 * 1024;
/// Bytes of all answers that are kept; the oldest give way.
pub const ANSWERS_KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;

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
    body: Kept,
}

/// The body of an answer, or how long it was.
#[derive(Clone)]
enum Kept {
    Whole(Bytes),
    Not { bytes: usize },
}

impl Kept {
    fn of(body: Bytes) -> Self {
        if body.len() > ANSWER_KEPT_BYTES_MAX { Self::Not { bytes: body.len() } } else { Self::Whole(body) }
    }

    /// What it takes.
    fn bytes(&self) -> usize {
        match self {
            Self::Whole(body) => body.len(),
            Self::Not { .. } => 0,
        }
    }
}

/// One that was done, with an answer that is not there any more.
fn not_kept(status: StatusCode, bytes: usize) -> Refused {
    let detail = format!(
        "the first request with this Idempotency-Key was done and answered with {}; its answer of {bytes} bytes was too large to be kept",
        status.as_u16()
    );
    Refused(problem(ProblemCode::AnswerNotKept, detail, &[]))
}

/// All answers that may be asked for again.
#[derive(Default)]
pub struct Answers(Mutex<HashMap<Asked, Slot>>);

enum Begun {
    First,
    Again(StatusCode, HeaderMap, Bytes),
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
            return match &slot.answer {
                Some(Recorded { status, headers, body: Kept::Whole(body) }) => {
                    Ok(Begun::Again(*status, headers.clone(), body.clone()))
                }
                Some(Recorded { status, body: Kept::Not { bytes }, .. }) => Err(not_kept(*status, *bytes)),
                None => {
                    let detail = "the first request with this Idempotency-Key is still under way";
                    Err(Refused(problem(ProblemCode::InProgress, detail, &[])))
                }
            };
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
        bound(&mut slots);
    }
}

/// The oldest answers are let go until the others fit.
fn bound(slots: &mut HashMap<Asked, Slot>) {
    let bytes = |slot: &Slot| slot.answer.as_ref().map_or(0, |recorded| recorded.body.bytes());
    let mut all: usize = slots.values().map(bytes).sum();
    while all > ANSWERS_KEPT_BYTES_MAX {
        let oldest = slots.values_mut().filter(|slot| bytes(slot) > 0).min_by_key(|slot| slot.since);
        let Some(recorded) = oldest.and_then(|slot| slot.answer.as_mut()) else { return };
        let gone = recorded.body.bytes();
        recorded.body = Kept::Not { bytes: gone };
        all -= gone;
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
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        let detail =
            format!("Idempotency-Key is 1 to {IDEMPOTENCY_KEY_BYTES_MAX} printable ASCII characters without spaces");
        return Err(Refused(problem(ProblemCode::BadKey, detail, &[])));
    }
    let bytes = body::whole(body, api.limits.body_timeout, body_bytes_max(head.uri.path())).await?;
    let asked = (actor, head.uri.to_string(), key);
    if let Begun::Again(status, headers, body) = api.answers.begin(&asked, wire::Digest::of(&bytes).0)? {
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
        let mut headers = head.headers;
        headers.remove(header::CONTENT_LENGTH);
        // Answers to POST are in memory already.
        let (status, body) = match body.collect().await {
            Ok(body) => (head.status, body.to_bytes()),
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, Bytes::new()),
        };
        api.answers.end(&asked, Recorded { status, headers: headers.clone(), body: Kept::of(body.clone()) });
        let _ = done.try_send((status, headers, body));
    })
    .detach();
    match answer.recv().await {
        Ok(answer) => Ok(answer.into_response()),
        Err(_) => Err(super::object::unexpected()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn asked(number: usize) -> Asked {
        ("ci".to_owned(), "/v1/plans/apply".to_owned(), number.to_string())
    }

    #[test]
    fn answers_are_kept_up_to_their_bytes_and_the_oldest_give_way() {
        let answers = Answers::default();
        let room = ANSWERS_KEPT_BYTES_MAX / ANSWER_KEPT_BYTES_MAX;
        let does = |number: usize| {
            assert!(matches!(answers.begin(&asked(number), [0; 32]), Ok(Begun::First)));
            let body = Kept::of(Bytes::from(vec![b'x'; ANSWER_KEPT_BYTES_MAX]));
            answers.end(&asked(number), Recorded { status: StatusCode::OK, headers: HeaderMap::new(), body });
        };
        let has = |number: usize| matches!(answers.begin(&asked(number), [0; 32]), Ok(Begun::Again(..)));
        (0..room).for_each(does);
        assert!((0..room).all(has));
        does(room);
        assert!(!has(0) && (1..=room).all(has), "the oldest alone");
        let refused = answers.begin(&asked(0), [0; 32]).err().unwrap().0;
        assert_eq!(refused.code, ProblemCode::AnswerNotKept, "and it is not done again");
    }
}
