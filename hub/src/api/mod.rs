//! The HTTP edge: routes, authentication, limits, and the translation between JSON and the engine's requests.
//!
//! It never decides about objects and never touches the store's tables: everything goes through the engine's `Handle`, and
//! artifact bytes through the blob directory.

mod artifact;
mod auth;
mod away;
mod body;
mod device;
mod geojson;
mod health;
mod hub;
mod idempotency;
mod list;
mod object;
mod openapi;
mod plan;
mod problem;
mod rate;
mod rejection;
mod rollout;
mod route;
mod serve;
mod stream;
mod token;

#[cfg(test)]
mod tests;

pub use hub::DEVICES_NAMED_MAX;
pub use idempotency::{Answers, IDEMPOTENCY_KEYS_MAX, IDEMPOTENCY_LIFE};
pub use openapi::text_of_document as openapi_text;
pub use rate::{Limiter, RATE_CALLERS_MAX, Rate, Rates};
pub use route::{Method, ROUTES, Right, Route};
pub use serve::{ApiError, serve};

use crate::broker::Access;
use crate::grants::Grants;
use crate::handle::Handle;
use crate::metrics::{BrokerMeasures, Metrics};
use crate::store::Artifacts;
use crate::tls::Tls;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a JSON body.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of the documents of a plan.
pub const PLAN_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a plan that is to be done.
pub const SAVED_PLAN_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Nested arrays and objects of a JSON body.
pub const BODY_DEPTH_MAX: usize = 32;
/// Bytes of all headers of a request, and of its request line.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Bytes of the path and query of a request.
pub const URL_BYTES_MAX: usize = 4 * 1024;
/// A client has so long to send its headers.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A client has so long between two pieces of a body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at once; more are closed before anything is read.
pub const CONNECTIONS_MAX: usize = 2048;
/// Objects of one page of a list, and what a request without `limit` gets.
pub const PAGE_MAX: usize = 500;
/// Lines of logs or events that a request may ask for at once.
pub const TAIL_MAX: usize = 2000;
/// Lines when a request does not say how many.
pub const TAIL_DEFAULT: usize = 100;

/// An upload may be slow for so long, and then has to come at `UPLOAD_BYTES_PER_SECOND_MIN` on the average.
pub const UPLOAD_GRACE: Duration = Duration::from_secs(10);
/// Slower uploads are cut.
pub const UPLOAD_BYTES_PER_SECOND_MIN: u64 = 1024;

/// What one client may do; a value, so that tests can have less patience.
#[derive(Clone, Copy, Debug)]
pub struct ApiLimits {
    /// For the headers of a request.
    pub header_timeout: Duration,
    /// Between two pieces of a body, and for the whole of a JSON body.
    pub body_timeout: Duration,
    pub artifact_bytes_max: u64,
    pub connections_max: usize,
    pub rates: Rates,
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            header_timeout: HEADER_TIMEOUT,
            body_timeout: BODY_TIMEOUT,
            artifact_bytes_max: crate::store::ARTIFACT_BYTES_MAX,
            connections_max: CONNECTIONS_MAX,
            rates: Rates::default(),
        }
    }
}

/// What the routes need; cheap to clone.
#[derive(Clone)]
pub struct Api {
    pub handle: Handle,
    pub artifacts: Artifacts,
    /// Knows the devices' credentials.
    pub access: Arc<dyn Access>,
    /// SHA-256 of the administrator's bearer token.
    pub admin_sha256: [u8; 32],
    /// Knows the other bearer tokens.
    pub grants: Arc<Grants>,
    pub limits: ApiLimits,
    pub metrics: Metrics,
    /// Of this API and the broker, if one of them speaks it.
    pub tls: Option<Arc<Tls>>,
    /// What the broker counts.
    pub broker: Arc<dyn Fn() -> BrokerMeasures + Send + Sync>,
    pub limiter: Arc<Limiter>,
    /// Answers that may be asked for again.
    pub answers: Arc<Answers>,
}
