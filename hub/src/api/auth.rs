//! Who asks: operators by bearer token, devices by their own id and credential.

use super::problem::{Refused, problem};
use super::{Api, Right};
use crate::broker::Verdict;
use crate::keys::{hashes_match, secret_hash};
use crate::model::TokenRole;
use crate::problem_code::ProblemCode;
use axum::http::{HeaderMap, header};
use std::time::SystemTime;
use wire::DeviceId;

/// The name under which the administrator's changes are recorded.
const ADMIN: &str = "admin";

/// Who asks; also the actor of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    Anyone,
    Operator { name: String, role: TokenRole },
    Device(DeviceId),
}

impl Caller {
    /// Holds the token of the data directory.
    pub fn is_admin(&self) -> bool {
        matches!(self, Self::Operator { name, .. } if name == ADMIN)
    }

    /// Whether the caller has a right: the one place that knows which role is good for what.
    pub fn may(&self, right: Right) -> bool {
        match (right, self) {
            (Right::Anyone, _) => true,
            (Right::Device, Self::Device(_) | Self::Operator { .. }) | (Right::Viewer, Self::Operator { .. }) => true,
            (Right::Admin, Self::Operator { role, .. }) => *role == TokenRole::Admin,
            (Right::Device | Right::Viewer | Right::Admin, Self::Anyone | Self::Device(_)) => false,
        }
    }

    pub fn actor(&self) -> String {
        match self {
            Self::Anyone => "anonymous".to_owned(),
            Self::Operator { name, .. } => name.clone(),
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
    match caller {
        Some(caller) if caller.may(right) => Ok(caller),
        Some(Caller::Device(_)) => Err(forbidden("a device's credential reads artifacts and nothing else")),
        Some(Caller::Operator { .. }) => Err(forbidden("the role of this token is viewer, which only reads")),
        Some(Caller::Anyone) | None => Err(Refused(problem(
            ProblemCode::Unauthenticated,
            "this route needs `Authorization: Bearer <token>`, and the token must be one of this hub that has not ended",
            &["set FULMAR_TOKEN to the content of <data>/run/admin.token"],
        ))),
    }
}

fn forbidden(why: &str) -> Refused {
    Refused(problem(ProblemCode::Forbidden, why, &["GET /v1/whoami tells the role of a token"]))
}

fn identify(api: &Api, text: &str) -> Option<Caller> {
    let (scheme, credentials) = text.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        let token = credentials.trim();
        if hashes_match(&secret_hash(token.as_bytes()), &api.admin_sha256) {
            return Some(Caller::Operator { name: ADMIN.to_owned(), role: TokenRole::Admin });
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let grant = api.grants.check(token, u64::try_from(now.as_millis()).unwrap_or(u64::MAX))?;
        // No name of a token can be the administrator's.
        return Some(Caller::Operator { name: format!("token/{}", grant.name), role: grant.role });
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
