//! Bearer tokens of the API: a name, a role, perhaps an end. The secret itself is shown once and never kept.

use super::quantity::Span;
use super::read::{Reader, Shape};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Shortest and longest life of a token that ends.
pub const TOKEN_LIFE_MS_MIN: u64 = 1_000;
pub const TOKEN_LIFE_MS_MAX: u64 = 366 * 24 * 3600 * 1000;

/// What the holder of a token may do; the route table says what each is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TokenRole {
    /// Reads.
    Viewer,
    /// Everything.
    Admin,
}

impl TokenRole {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Admin => "admin",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenSpec {
    pub role: TokenRole,
    /// RFC 3339; absent: it does not end by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenStatus {
    /// RFC 3339, to the minute; absent: not since this hub started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<String>,
    /// The token itself; only in the answer that makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// What a request for a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenManifest {
    pub role: TokenRole,
    pub expires_in: Option<Span>,
}

const SPEC: Shape = Shape { known: &["role", "expiresIn"], not_built: &["namespace", "scopes"] };

pub(super) fn read_token(reader: &mut Reader, pointer: &str, value: &Value) -> Option<TokenManifest> {
    let map = reader.object(pointer, value, &SPEC)?;
    let roles = [("admin", TokenRole::Admin), ("viewer", TokenRole::Viewer)];
    let role = match map.get("role") {
        Some(role) => reader.choice(&format!("{pointer}/role"), role, &roles),
        None => reader.error(&format!("{pointer}/role"), "missing; admin may do everything, viewer only reads"),
    };
    let range = TOKEN_LIFE_MS_MIN..=TOKEN_LIFE_MS_MAX;
    let expires_in = match map.get("expiresIn") {
        Some(value) => Some(reader.span(&format!("{pointer}/expiresIn"), value, range)?),
        None => None,
    };
    Some(TokenManifest { role: role?, expires_in })
}
