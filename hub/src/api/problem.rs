//! Answers other than success: `application/problem+json` (RFC 9457), always with what, why and what next.

use crate::engine::port::Problem;
use crate::model::FieldError;
use crate::problem_code::ProblemCode;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Makes the problem of an edge: the engine makes its own.
pub(super) fn problem(code: ProblemCode, detail: impl Into<String>, next: &[&str]) -> Problem {
    let next = next.iter().map(|text| (*text).to_owned()).collect();
    Problem { next, ..Problem::new(code, detail) }
}

/// A mistake in a query parameter or body, with its place.
pub(super) fn invalid(pointer: &str, detail: impl Into<String>) -> Problem {
    let detail = detail.into();
    Problem {
        errors: vec![FieldError { pointer: pointer.to_owned(), detail: detail.clone() }],
        ..Problem::new(ProblemCode::Invalid, detail)
    }
}

/// The problem as RFC 9457 writes it. What has neither places nor advice of its own gets that of its code.
pub(super) fn problem_body(problem: &Problem) -> Value {
    let row = problem.code.row();
    let mut body = json!({
        "type": format!("urn:fulmar:problem:{}", row.text),
        "title": row.title,
        "status": row.status,
        "detail": problem.detail,
        "code": row.text,
        "docs": problem.code.docs(),
    });
    if !problem.errors.is_empty() {
        body["errors"] = json!(problem.errors);
    }
    if !problem.next.is_empty() {
        body["next"] = json!(problem.next);
    } else if problem.errors.is_empty() {
        body["next"] = json!([row.next]);
    }
    body
}

/// The problem as a response.
pub(super) struct Refused(pub Problem);

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let problem = self.0;
        let status = StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = problem_body(&problem);
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            let challenge = header::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// What a handler returns.
pub(super) type Result<T = Response> = std::result::Result<T, Refused>;
