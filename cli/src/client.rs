//! HTTP to the hub: requests with the token, answers as JSON, refusals as failures with what, why and next.
//!
//! Nothing here may retry a write or interpret an object.

use crate::args::Global;
use crate::code::Code;
use crate::endpoint::{self, Endpoint};
use crate::exit::Exit;
use crate::failure::{Failure, Place};
use crate::output::warn;
use crate::tls;
use serde_json::Value;
use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::time::{Duration, Instant};
use ureq::http::{Request, Response};
use ureq::middleware::MiddlewareNext;
use ureq::{Agent, Body, SendBody};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the request to the last byte of the answer. A commit may wait for a busy disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// For an artifact at its largest.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(300);
/// A follower gets a comment every 15 s; three in a row missing means that the hub is gone.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(45);
/// Bytes of one answer: a page of 500 objects fits many times.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of a refusal.
const PROBLEM_BYTES_MAX: u64 = 1024 * 1024;

/// Server-side apply.
const APPLY_PATCH: &str = "application/apply-patch+json";
/// POST routes that change nothing.
const QUESTIONS: [&str; 2] = ["/v1/plans", "/v1/explain/placement"];

/// A hub to talk to.
pub struct Client {
    plain: Agent,
    upload: Agent,
    follow: Agent,
    endpoint: Endpoint,
    is_readonly: bool,
}

/// Whether the exchange with the hub is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Talk {
    Quiet,
    Told,
}

/// Tells a request and what became of it; of the headers nothing, because one is a secret.
fn tell(request: Request<SendBody<'_>>, next: MiddlewareNext<'_>) -> Result<Response<Body>, ureq::Error> {
    let (asked, start) = (format!("{} {}", request.method(), request.uri()), Instant::now());
    let result = next.handle(request);
    let outcome = match &result {
        Ok(response) => response.status().to_string(),
        Err(error) => error.to_string(),
    };
    warn(&format!("{asked}   {outcome}   {:.1} ms", start.elapsed().as_secs_f64() * 1e3));
    result
}

/// What became of a written object.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// `created`, `updated` or `unchanged`.
    pub outcome: String,
    pub warnings: Vec<String>,
    pub document: Value,
}

/// The lines of a followed list.
pub type Stream = BufReader<ureq::BodyReader<'static>>;

impl Client {
    /// Finds the hub. Nothing is sent yet.
    pub fn connect(global: &Global) -> Result<Self, Failure> {
        let talk = if global.verbose { Talk::Told } else { Talk::Quiet };
        let client = Self::with_timeout(endpoint::find(global)?, global.timeout.unwrap_or(ANSWER_TIMEOUT), talk)?;
        Ok(Self { is_readonly: global.readonly, ..client })
    }

    pub fn new(endpoint: Endpoint) -> Result<Self, Failure> {
        Self::with_timeout(endpoint, ANSWER_TIMEOUT, Talk::Quiet)
    }

    fn with_timeout(endpoint: Endpoint, answer: Duration, talk: Talk) -> Result<Self, Failure> {
        let tls = tls::config(&endpoint.server, endpoint.ca.as_deref())?;
        // No proxy: a token for the hub must not pass through another machine. Nor to where another machine points.
        let base = || {
            let builder = Agent::config_builder();
            let builder = match talk {
                Talk::Quiet => builder,
                Talk::Told => builder.middleware(tell),
            };
            builder
                .http_status_as_error(false)
                .proxy(None)
                .max_redirects(0)
                .tls_config(tls.clone())
                .timeout_connect(Some(CONNECT_TIMEOUT))
        };
        Ok(Self {
            plain: base().timeout_global(Some(answer)).build().into(),
            upload: base().timeout_global(Some(UPLOAD_TIMEOUT)).build().into(),
            follow: base().timeout_per_read(Some(SILENCE_TIMEOUT)).max_idle_connections(0).build().into(),
            endpoint,
            is_readonly: false,
        })
    }

    /// Nothing that changes something leaves this process with `--readonly`.
    fn allow_change(&self, path: &str) -> Result<(), Failure> {
        let route = path.split('?').next().unwrap_or(path);
        let changes_nothing = QUESTIONS.contains(&route) || path.contains("dryRun=server");
        if !self.is_readonly || changes_nothing {
            return Ok(());
        }
        Err(Failure::new(Code::Readonly, "this would change something")
            .why("--readonly, FULMAR_READONLY or the context says that nothing may be changed")
            .next("leave it out, or take another context: fulmar ctx list"))
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        self.answer(self.plain.get(self.url(path)).header("authorization", self.bearer()).call())
    }

    /// Asks without looking at the answer; gives the time that the hub says it has.
    pub fn probe(&self, path: &str) -> Result<Option<String>, Failure> {
        let response = self.checked(self.plain.get(self.url(path)).call())?;
        Ok(response.headers().get("date").and_then(|value| value.to_str().ok()).map(str::to_owned))
    }

    /// The version of the hub's program, from its metrics; `None` if they do not say.
    pub fn hub_version(&self) -> Result<Option<String>, Failure> {
        let request = self.plain.get(self.url("/metrics")).header("authorization", self.bearer());
        let body =
            self.checked(request.call())?.into_body().into_with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let text = body.map_err(|error| self.unreachable("the hub's answer cannot be read", &error))?;
        let line = text.lines().find_map(|line| line.strip_prefix("fulmar_hub_build_info{version=\""));
        Ok(line.and_then(|rest| rest.split_once('"')).map(|(version, _)| version.to_owned()))
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.allow_change(path)?;
        let request = self.plain.post(self.url(path)).header("authorization", self.bearer());
        self.answer(request.content_type("application/json").send(body.to_string()))
    }

    /// Asks for something that leaves nothing to show.
    pub fn post_end(&self, path: &str, body: &Value) -> Result<(), Failure> {
        self.allow_change(path)?;
        let request = self.plain.post(self.url(path)).header("authorization", self.bearer());
        self.checked(request.content_type("application/json").send(body.to_string())).map(|_| ())
    }

    /// Replaces an object; only this very version of it, if one is given.
    pub fn put(&self, path: &str, body: &Value, version: Option<&str>) -> Result<Written, Failure> {
        self.allow_change(path)?;
        let request = self.plain.put(self.url(path)).header("authorization", self.bearer());
        let request = match version {
            Some(version) => request.header("if-match", format!("\"{version}\"")),
            None => request,
        };
        let response = self.checked(request.content_type("application/json").send(body.to_string()))?;
        self.written(response)
    }

    /// Applies a part of an object as a field manager.
    pub fn apply(&self, path: &str, body: &Value) -> Result<Written, Failure> {
        self.allow_change(path)?;
        let request = self.plain.patch(self.url(path)).header("authorization", self.bearer());
        let response = self.checked(request.content_type(APPLY_PATCH).send(body.to_string()))?;
        self.written(response)
    }

    fn written(&self, response: Response<Body>) -> Result<Written, Failure> {
        let text = |name: &str| -> Vec<String> {
            let values = response.headers().get_all(name).iter();
            values.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
        };
        let outcome = text("fulmar-outcome").pop().unwrap_or_else(|| "written".to_owned());
        let warnings = text("fulmar-warning");
        Ok(Written { outcome, warnings, document: self.value(response)? })
    }

    pub fn delete(&self, path: &str) -> Result<(), Failure> {
        self.allow_change(path)?;
        self.checked(self.plain.delete(self.url(path)).header("authorization", self.bearer()).call()).map(|_| ())
    }

    /// Sends the content of a file.
    pub fn upload(&self, path: &str, file: File) -> Result<Value, Failure> {
        self.allow_change(path)?;
        let request = self.upload.post(self.url(path)).header("authorization", self.bearer());
        let request = match file.metadata() {
            Ok(metadata) => request.header("content-length", metadata.len().to_string()),
            Err(_) => request,
        };
        self.answer(request.content_type("application/wasm").send(SendBody::from_owned_reader(file)))
    }

    /// Opens a followed list; cut after `time`, if there is one.
    pub fn follow(&self, path: &str, time: Option<Duration>) -> Result<Stream, Failure> {
        let request = self.follow.get(self.url(path)).header("authorization", self.bearer());
        let request = request.config().timeout_global(time).build();
        let response = self.checked(request.header("accept", "text/event-stream").call())?;
        Ok(BufReader::new(response.into_body().into_with_config().limit(u64::MAX).reader()))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.endpoint.server)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.endpoint.token.as_deref().unwrap_or_default())
    }

    fn answer(&self, result: Result<Response<Body>, ureq::Error>) -> Result<Value, Failure> {
        let response = self.checked(result)?;
        self.value(response)
    }

    fn value(&self, response: Response<Body>) -> Result<Value, Failure> {
        response
            .into_body()
            .into_with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_json()
            .map_err(|error| self.unreachable("the hub's answer cannot be read", &error))
    }

    /// The response, if it is a success.
    fn checked(&self, result: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Failure> {
        let response = result.map_err(|error| self.unreachable("cannot reach the hub", &error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.into_body().into_with_config().limit(PROBLEM_BYTES_MAX).lossy_utf8(true).read_to_string();
        let text = text.unwrap_or_default();
        let failure = match serde_json::from_str(&text) {
            Ok(problem) => refused(status.as_u16(), &problem),
            Err(_) => tls::explain_plain(&text, &self.endpoint.server).unwrap_or_else(|| {
                Failure::new(Code::NotAHub, format!("{} does not answer like a hub", self.endpoint.server))
                    .why(format!("it answered {status}, without a problem description"))
                    .next("check --server, FULMAR_SERVER or --data")
            }),
        };
        Err(match (status.as_u16(), &self.endpoint.token) {
            (401, None) => failure.next("this hub's token is not known here: set FULMAR_TOKEN, or name its --data"),
            (_, _) => failure,
        })
    }

    fn unreachable(&self, what: &str, error: &ureq::Error) -> Failure {
        let Endpoint { server, origin, .. } = &self.endpoint;
        if let Some(failure) = tls::explain(error, server) {
            return failure;
        }
        let refused = matches!(error, ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused);
        let why = if refused { "nothing listens there".to_owned() } else { error.to_string() };
        Failure::new(Code::Unreachable, format!("{what} at {server}"))
            .why(format!("{why}; the address is from {origin}"))
            .next("fulmar up")
    }
}

/// A refusal of the hub (RFC 9457) as a failure. The places have pointers only: the manifest's reader knows the lines.
fn refused(status: u16, problem: &Value) -> Failure {
    let text = |name: &str| problem.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let code = match text("code") {
        code if code.is_empty() => format!("HTTP_{status}"),
        code => code,
    };
    let title = match text("title") {
        title if title.is_empty() => format!("the hub answered {status}"),
        title => lower_first(&title),
    };
    let mut failure = Failure::named(Exit::of_problem(status, &code), &code, title);
    if let Some(Value::Array(next)) = problem.get("next") {
        failure.next.extend(next.iter().filter_map(Value::as_str).map(str::to_owned));
    }
    if let Some(Value::Array(errors)) = problem.get("errors") {
        failure.places = errors.iter().map(place).collect();
    }
    // With places, the detail repeats the first of them.
    if failure.places.is_empty() {
        failure.why.extend(Some(text("detail")).filter(|detail| !detail.is_empty()));
    }
    failure
}

fn place(error: &Value) -> Place {
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    Place { pointer: text("pointer"), detail: text("detail"), file: "request".to_owned(), ..Place::default() }
}

/// Lines of messages start with a small letter, but for names in capitals.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        (_, _) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
