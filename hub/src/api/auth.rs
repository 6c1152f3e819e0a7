//! Who asks: operators by bearer token, devices by their own id and credential.

use super::problem::{Refused, problem};
use super::{Api, Right};
use crate::broker::Verdict;
use crate::keys::{hashes_match, secret_hash};
use axum::http::{HeaderMap, StatusCode, header};
use wire::DeviceId;

/// The name under which the administrator's changes are recorded.
const ADMIN: &str = "admin";

/// Who asks; also the actor of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    Anyone,
    Operator(String),
    Device(DeviceId),
}

impl Caller {
    /// Holds the token of the data directory.
    pub fn is_admin(&self) -> bool {
        *self == Self::Operator(ADMIN.to_owned())
    }

    pub fn actor(&self) -> String {
        match self {
            Self::Anyone => "anonymous".to_owned(),
            Self::Operator(name) => name.clone(),
            Self::Device(id) => format!("device:{id}"),
        }
    }
}

/// Lets the request in if its credentials give the right that the route asks for.
pub(super) fn authorise(api: &Api, right: Right, headers: &HeaderMap) -> Result<Caller, Refused> {
    if right == Right::Anyone {
        return Ok(Caller::Anyone);
    }
    let caller =
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|text| identify(api, text));
    match (right, caller) {
        (_, Some(caller @ Caller::Operator(_))) => Ok(caller),
        (Right::Device, Some(caller @ Caller::Device(_))) => Ok(caller),
        (_, Some(Caller::Device(_))) => Err(Refused(problem(
            StatusCode::FORBIDDEN,
            "FORBIDDEN",
            "Not allowed",
            "a device's credential reads artifacts and nothing else",
            &[],
        ))),
        (_, Some(Caller::Anyone) | None) => Err(Refused(problem(
            StatusCode::UNAUTHORIZED,
            "UNAUTHENTICATED",
            "Credentials are missing or wrong",
            "this route needs `Authorization: Bearer <token>`, and the token must be the one of this hub",
            &["set FULMAR_TOKEN to the content of <data>/run/admin.token"],
        ))),
    }
}

fn identify(api: &Api, text: &str) -> Option<Caller> {
    let (scheme, credentials) = text.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        let is_admin = hashes_match(&secret_hash(credentials.trim().as_bytes()), &api.admin_sha256);
        return is_admin.then(|| Caller::Operator(ADMIN.to_owned()));
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = data_encoding::BASE64.decode(credentials.trim().as_bytes()).ok()?;
        let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
        let device = DeviceId::parse(user).ok()?;
        let verdict = api.access.connect(user, user, password.as_bytes());
        return (verdict == Verdict::Allowed).then_some(Caller::Device(device));
    }
    None
}
