//! Rollouts of firmware: made from an image that was uploaded, looked at, paused, resumed and ended.

use super::auth::Caller;
use super::object::unexpected;
use super::problem::{Refused, Result, invalid};
use super::{Api, body};
use crate::engine::port::{Answer, FirmwareImage, Request, RolloutVerb};
use crate::model::{ArtifactReference, RolloutRequest};
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use std::io::Read;
use wire::Digest;
use wire::firmware::{IMAGE_HEAD_BYTES, ImageHead};

async fn report(api: Api, caller: Caller, request: Request, status: StatusCode) -> Result {
    match api.handle.request(&caller.actor(), request).await? {
        Answer::Report(report) => Ok((status, axum::Json(report)).into_response()),
        _ => Err(unexpected()),
    }
}

pub(super) async fn list(State(api): State<Api>, Extension(caller): Extension<Caller>) -> Result {
    report(api, caller, Request::Rollouts, StatusCode::OK).await
}

pub(super) async fn read(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result {
    report(api, caller, Request::Rollout { name }, StatusCode::OK).await
}

/// Body: a `RolloutRequest`.
pub(super) async fn create(State(api): State<Api>, Extension(caller): Extension<Caller>, body: Body) -> Result {
    let wanted = body::json(body, api.limits.body_timeout).await?;
    let wanted: RolloutRequest = serde_json::from_value(wanted)
        .map_err(|error| Refused(invalid("", format!("the body is no rollout: {error}"))))?;
    let reference = ArtifactReference::parse(&wanted.artifact)
        .ok_or_else(|| Refused(invalid("/artifact", "it is NAME@sha256:HASH, as the upload of the image answered")))?;
    let image = image(&api, reference.digest).await?;
    report(api, caller, Request::RolloutCreate { wanted: Box::new(wanted), image }, StatusCode::CREATED).await
}

/// What the image in the store says of itself.
async fn image(api: &Api, digest: Digest) -> std::result::Result<FirmwareImage, Refused> {
    let artifacts = api.artifacts.clone();
    let (bytes, head) = smol::unblock(move || {
        let mut reader = artifacts.read(&digest, 0, Some(IMAGE_HEAD_BYTES as u64))?;
        let mut head = Vec::with_capacity(IMAGE_HEAD_BYTES);
        let is_read = reader.read_to_end(&mut head).is_ok();
        Ok::<_, crate::store::ArtifactError>((reader.bytes, if is_read { head } else { Vec::new() }))
    })
    .await?;
    let none = || {
        let detail = "this artifact is no firmware image: it does not say for which board and version it is";
        Refused(invalid("/artifact", detail))
    };
    let head = ImageHead::decode(&head).map_err(|_| none())?;
    let bytes = u32::try_from(bytes).map_err(|_| none())?;
    Ok(FirmwareImage { board: head.board.to_owned(), version: head.version, bytes, digest })
}

async fn change(api: Api, caller: Caller, name: String, verb: RolloutVerb) -> Result {
    report(api, caller, Request::RolloutChange { name, verb }, StatusCode::OK).await
}

pub(super) async fn pause(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result {
    change(api, caller, name, RolloutVerb::Pause).await
}

pub(super) async fn resume(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result {
    change(api, caller, name, RolloutVerb::Resume).await
}

pub(super) async fn abort(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result {
    change(api, caller, name, RolloutVerb::Abort).await
}
