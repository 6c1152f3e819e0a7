//! Artifact bytes: streamed in with a running hash, streamed out in ranges. Bodies of desired sets for devices that fetch
//! them. Nothing is held in memory beyond one piece.

use super::auth::Caller;
use super::body::next_piece;
use super::object::{query, unexpected};
use super::problem::{Refused, Result, invalid, problem};
use super::{Api, UPLOAD_BYTES_PER_SECOND_MIN, UPLOAD_GRACE};
use crate::engine::port::{Answer, Request, Selection};
use crate::model::Kind;
use crate::problem_code::ProblemCode;
use crate::store::{ArtifactError, ArtifactReader};
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use std::io::Read;
use std::time::{Duration, Instant};
use wire::Digest;
use wire::firmware::{IMAGE_HEAD_BYTES, IMAGE_MAGIC, ImageHead};

/// Bytes of one piece on the way out.
const PIECE_BYTES: usize = 64 * 1024;
/// WebAssembly core, version 1 (its specification, 5.5.16): magic and version.
const WASM_PREFIX: &[u8; 8] = b"\0asm\x01\0\0\0";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UploadQuery {
    /// What the client computed: `sha256:<hex>`.
    digest: Option<String>,
}

impl From<ArtifactError> for Refused {
    fn from(error: ArtifactError) -> Self {
        let code = match &error {
            ArtifactError::TooLarge { .. } => ProblemCode::ArtifactTooLarge,
            ArtifactError::WrongDigest { .. } => ProblemCode::WrongDigest,
            ArtifactError::WrongLength { .. } => ProblemCode::WrongLength,
            ArtifactError::Busy => ProblemCode::Busy,
            ArtifactError::DiskFull => ProblemCode::NoSpace,
            ArtifactError::Unknown(_) => ProblemCode::NotFound,
            ArtifactError::Range { .. } => ProblemCode::Range,
            ArtifactError::File { .. } => ProblemCode::Storage,
        };
        Refused(problem(code, error.to_string(), &[]))
    }
}

/// Stores the body as a new version of the artifact `name`.
pub(super) async fn upload(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((namespace, name)): Path<(String, String)>,
    q: std::result::Result<Query<UploadQuery>, QueryRejection>,
    headers: HeaderMap,
    mut body: Body,
) -> Result {
    let declared_digest = match query(q)?.digest {
        Some(text) => Some(parse_digest(&text)?),
        None => None,
    };
    let declared_bytes = declared_length(&headers, api.limits.artifact_bytes_max)?;
    // Before the first byte: content that is to go nowhere is not taken.
    let selection = Selection { namespace: Some(namespace.clone()), ..Selection::default() };
    let place = Request::List { kind: Kind::Artifact, selection, limit: 1, after: None };
    api.handle.request(&caller.actor(), place).await?;
    let (artifacts, limit) = (api.artifacts.clone(), api.limits.artifact_bytes_max);
    let mut upload = smol::unblock(move || artifacts.upload(limit)).await?;
    let (began, mut came) = (Instant::now(), 0_u64);
    let mut head = Vec::with_capacity(IMAGE_HEAD_BYTES);
    while let Some(piece) = next_piece(&mut body, api.limits.body_timeout).await? {
        came += piece.len() as u64;
        if is_too_slow(began.elapsed(), came) {
            return Err(too_slow());
        }
        head.extend_from_slice(&piece[..piece.len().min(IMAGE_HEAD_BYTES - head.len())]);
        if !is_wanted(&head) {
            return Err(not_wasm());
        }
        upload = smol::unblock(move || upload.write(&piece).map(|()| upload)).await?;
    }
    if !head.starts_with(WASM_PREFIX) && ImageHead::decode(&head).is_err() {
        return Err(not_wasm());
    }
    let stored = smol::unblock(move || upload.finish(declared_digest, declared_bytes)).await?;
    let request = Request::ArtifactPut { namespace, name: name.clone(), digest: stored.digest, bytes: stored.bytes };
    match api.handle.request(&caller.actor(), request).await? {
        Answer::Object { .. } => {
            let digest = format!("sha256:{}", stored.digest);
            let body = json!({"reference": format!("{name}@{digest}"), "digest": digest, "bytes": stored.bytes});
            Ok((StatusCode::CREATED, axum::Json(body)).into_response())
        }
        _ => Err(unexpected()),
    }
}

/// Whether a content that begins like this may be a module or an image of firmware.
fn is_wanted(head: &[u8]) -> bool {
    let begins = |prefix: &[u8]| head.iter().zip(prefix).all(|(byte, wanted)| byte == wanted);
    begins(WASM_PREFIX) || begins(&IMAGE_MAGIC)
}

/// Whether an upload that took so long should have brought more.
fn is_too_slow(elapsed: Duration, came: u64) -> bool {
    elapsed > UPLOAD_GRACE + Duration::from_secs(came / UPLOAD_BYTES_PER_SECOND_MIN)
}

/// The declared length, refused before the first byte is read.
fn declared_length(headers: &HeaderMap, limit: u64) -> Result<Option<u64>> {
    let Some(length) = headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length: u64 = length
        .to_str()
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| problem(ProblemCode::BadLength, "Content-Length is not a number", &[]))?;
    if length > limit {
        return Err(ArtifactError::TooLarge { limit }.into());
    }
    Ok(Some(length))
}

fn too_slow() -> Refused {
    Refused(problem(
        ProblemCode::BodySlow,
        format!("an upload has to come at {UPLOAD_BYTES_PER_SECOND_MIN} bytes a second or more"),
        &["send the request again"],
    ))
}

fn not_wasm() -> Refused {
    Refused(problem(
        ProblemCode::NotWasm,
        "the content does not start like a WebAssembly core module of version 1 (a component does not, nor does text format), and is no \
         image of firmware",
        &["build a core module: see docs/functions.md", "fulmar firmware push FILE --board BOARD --version N"],
    ))
}

/// `sha256:<64 hexadecimal digits>`.
fn parse_digest(text: &str) -> Result<Digest> {
    text.strip_prefix("sha256:")
        .and_then(Digest::parse)
        .ok_or_else(|| Refused(invalid("", "a digest is sha256: and 64 lower-case hexadecimal digits")))
}

/// `bytes=<start>-[<end>]` alone: what resuming clients send. Everything else is answered in full, as RFC 9110 allows.
fn range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (start, end) = headers.get(header::RANGE)?.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    let start = start.parse().ok()?;
    if end.is_empty() {
        return Some((start, None));
    }
    let end: u64 = end.parse().ok()?;
    (end >= start).then_some((start, Some(end)))
}

pub(super) async fn content(State(api): State<Api>, Path(digest): Path<String>, headers: HeaderMap) -> Result {
    let digest = parse_digest(&digest)?;
    let range = range(&headers);
    let (start, length) = match range {
        Some((start, end)) => (start, end.map(|end| end.saturating_sub(start).saturating_add(1))),
        None => (0, None),
    };
    let artifacts = api.artifacts.clone();
    let reader = smol::unblock(move || artifacts.read(&digest, start, length)).await?;
    let (whole, length) = (reader.bytes, reader.left());
    let response = Response::builder()
        .header(header::CONTENT_TYPE, "application/wasm")
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CONTENT_LENGTH, length);
    let response = match range {
        Some(_) => response
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {start}-{}/{whole}", (start + length).saturating_sub(1))),
        None => response.status(StatusCode::OK),
    };
    response.body(Body::from_stream(pieces(reader))).map_err(|_| unexpected())
}

fn pieces(reader: ArtifactReader) -> impl futures_lite::Stream<Item = std::io::Result<Bytes>> {
    futures_lite::stream::try_unfold(reader, |mut reader| async move {
        smol::unblock(move || {
            let mut piece = vec![0; PIECE_BYTES];
            let count = reader.read(&mut piece)?;
            piece.truncate(count);
            Ok((count > 0).then(|| (Bytes::from(piece), reader)))
        })
        .await
    })
}

/// The body of a desired set, for a device whose message could not hold it.
pub(super) async fn desired_body(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(digest): Path<String>,
) -> Result {
    let digest = parse_digest(&digest)?;
    match api.handle.request(&caller.actor(), Request::Body { digest }).await? {
        Answer::Body(bytes) => {
            let headers = [(header::CONTENT_TYPE, "application/octet-stream")];
            Ok((headers, Body::from(bytes.to_vec())).into_response())
        }
        _ => Err(unexpected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_may_be_slow_for_a_moment_and_then_has_to_come_at_its_rate() {
        let moment = Duration::from_nanos(1);
        assert!(!is_too_slow(UPLOAD_GRACE, 0) && is_too_slow(UPLOAD_GRACE + moment, 0));
        let minute = UPLOAD_GRACE + Duration::from_secs(60);
        let enough = 60 * UPLOAD_BYTES_PER_SECOND_MIN;
        assert!(!is_too_slow(minute, enough) && is_too_slow(minute + moment, enough));
        assert!(is_too_slow(minute, enough - 1));
    }
}
