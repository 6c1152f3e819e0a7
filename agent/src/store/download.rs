//! The HTTP side of the store: one request, one response, every wait bounded.
//!
//! Must never follow a redirect (the credential would go with it) nor read more than its caller takes.
use crate::tls::{self, Authority};
use agent_nostd::machine::port::FetchFailure;
use data_encoding::BASE64;
use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::{Response, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use wire::Digest;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two reads: a source that trickles is as good as gone.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// Where artifacts come from, and who asks.
#[derive(Clone)]
pub struct Account {
    /// `http://host:port` or `https://host:port`
    pub address: String,
    pub user: String,
    pub password: String,
    /// Vouches for a source with TLS.
    pub authority: Option<Authority>,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("address", &self.address).field("user", &self.user).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub struct Download {
    client: ureq::Agent,
    account: Account,
}

/// What part of an artifact a response carries, and the length that it promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// All of it, from the start.
    Whole { length: Option<u64> },
    /// From where it was asked for, of so many bytes in total.
    Rest { total: Option<u64> },
}

impl Download {
    pub fn new(mut account: Account) -> Self {
        account.address.truncate(account.address.trim_end_matches('/').len());
        let known = account.authority.as_ref().map(|authority| Certificate::from_der(authority.der()).to_owned());
        let trust = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(tls::provider())
            .root_certs(RootCerts::Specific(Arc::new(known.into_iter().collect())))
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(trust)
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(RESPONSE_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .timeout_per_write(Some(READ_TIMEOUT))
            .build();
        Self { client: config.new_agent(), account }
    }

    /// The artifact from `offset` on.
    pub fn artifact(&self, digest: &Digest, offset: u64) -> Result<(impl Read + use<>, Range), FetchFailure> {
        self.get(&format!("/v1/artifacts/sha256:{digest}/content"), offset)
    }

    /// The body of a desired set.
    pub fn body(&self, digest: &Digest) -> Result<(impl Read + use<>, Range), FetchFailure> {
        self.get(&format!("/v1/bodies/sha256:{digest}"), 0)
    }

    fn get(&self, path: &str, offset: u64) -> Result<(impl Read + use<>, Range), FetchFailure> {
        let address = format!("{}{path}", self.account.address);
        let account = format!("{}:{}", self.account.user, self.account.password);
        let mut request = self
            .client
            .get(&address)
            .header(header::AUTHORIZATION, format!("Basic {}", BASE64.encode(account.as_bytes())));
        if offset > 0 {
            request = request.header(header::RANGE, format!("bytes={offset}-"));
        }
        let response = request.call().map_err(|error| {
            tracing::warn!(address, %error, "no artifact source answers: is the hub running and reachable?");
            FetchFailure::Unreachable
        })?;
        let range = match response.status().as_u16() {
            200 => Range::Whole { length: content_length(&response) },
            206 if offset > 0 => rest(&response, offset)?,
            // What we have is longer than what they have, or all of it and not right.
            416 => return Err(FetchFailure::HashMismatch),
            status => {
                tracing::warn!(address, status, "the artifact source refuses");
                return Err(FetchFailure::Unreachable);
            }
        };
        Ok((response.into_body().into_reader(), range))
    }
}

fn content_length(response: &Response<ureq::Body>) -> Option<u64> {
    response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// `Content-Range: bytes <first>-<last>/<total>` (RFC 9110, section 14.4); another start than the one asked for is of no use.
fn rest(response: &Response<ureq::Body>, offset: u64) -> Result<Range, FetchFailure> {
    let value = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let parts = value.strip_prefix("bytes ").and_then(|value| value.split_once('/'));
    let first = parts.and_then(|(range, _)| range.split_once('-')).and_then(|(first, _)| first.parse::<u64>().ok());
    if first != Some(offset) {
        tracing::warn!(value, offset, "the artifact source answers another range than it was asked for");
        return Err(FetchFailure::Unreachable);
    }
    Ok(Range::Rest { total: parts.and_then(|(_, total)| total.parse().ok()) })
}
