//! Logs and events: a JSON list, or server-sent events when followed.

use super::auth::Caller;
use super::list::resumed;
use super::object::{query, unexpected};
use super::problem::{Refused, Result, invalid, problem_body};
use super::{Api, TAIL_DEFAULT, TAIL_MAX};
use crate::engine::port::{Answer, ChangeKind, EventLine, Follow, LogLine, Position, Request, SampleLine, StreamItem};
use crate::handle::Following;
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_lite::{FutureExt, Stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

/// A comment is sent when nothing else was for so long: it keeps middle boxes from closing the stream, and finds a client
/// that has gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogsQuery {
    device: Option<String>,
    tail: Option<usize>,
    #[serde(default)]
    follow: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EventsQuery {
    object: Option<String>,
    tail: Option<usize>,
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    watch: bool,
    resource_version: Option<String>,
}

fn tail(wanted: Option<usize>) -> Result<usize> {
    let tail = wanted.unwrap_or(TAIL_DEFAULT);
    if tail > TAIL_MAX {
        return Err(Refused(invalid("", format!("tail is {tail}, but at most {TAIL_MAX} lines are given at once"))));
    }
    Ok(tail)
}

fn follow(wanted: bool) -> Follow {
    if wanted { Follow::Follow } else { Follow::Once }
}

pub(super) async fn logs(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((namespace, name)): Path<(String, String)>,
    q: std::result::Result<Query<LogsQuery>, QueryRejection>,
) -> Result {
    let q = query(q)?;
    let request = Request::Logs { namespace, name, device: q.device, tail: tail(q.tail)?, follow: follow(q.follow) };
    match api.handle.ask(&caller.actor(), request).await? {
        (Answer::Logs(lines), None) => Ok(axum::Json(json!({"items": lines})).into_response()),
        (Answer::Logs(lines), Some(following)) => Ok(sse(lines.iter().map(log).collect(), following, Style::Lines)),
        _ => Err(unexpected()),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SamplesQuery {
    key: Option<String>,
    tail: Option<usize>,
    #[serde(default)]
    follow: bool,
}

pub(super) async fn samples(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(device): Path<String>,
    q: std::result::Result<Query<SamplesQuery>, QueryRejection>,
) -> Result {
    let q = query(q)?;
    let request = Request::Samples { device, key: q.key, tail: tail(q.tail)?, follow: follow(q.follow) };
    match api.handle.ask(&caller.actor(), request).await? {
        (Answer::Samples { lines, accounts }, None) => {
            Ok(axum::Json(json!({"items": lines, "classes": accounts})).into_response())
        }
        (Answer::Samples { lines, .. }, Some(following)) => {
            Ok(sse(lines.iter().map(sample).collect(), following, Style::Lines))
        }
        _ => Err(unexpected()),
    }
}

pub(super) async fn events(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    q: std::result::Result<Query<EventsQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result {
    let q = query(q)?;
    let is_position = q.resource_version.as_deref().is_none_or(|text| Position::parse(text).is_some());
    if !q.watch && q.resource_version.is_some() || !is_position {
        return Err(Refused(invalid("", "resourceVersion is <incarnation>.<sequence>, and goes with watch=true")));
    }
    if q.watch {
        return events_watch(api, caller, q, &headers).await;
    }
    let request = Request::Events { object: q.object, tail: tail(q.tail)?, follow: follow(q.follow) };
    match api.handle.ask(&caller.actor(), request).await? {
        (Answer::Events(lines), None) => Ok(axum::Json(json!({"items": lines})).into_response()),
        (Answer::Events(lines), Some(following)) => Ok(sse(lines.iter().map(event).collect(), following, Style::Lines)),
        _ => Err(unexpected()),
    }
}

async fn events_watch(api: Api, caller: Caller, q: EventsQuery, headers: &HeaderMap) -> Result {
    let from = resumed(headers, q.resource_version.as_deref())?;
    let request = Request::EventsWatch { object: q.object, tail: tail(q.tail)?, from };
    match api.handle.ask(&caller.actor(), request).await? {
        (Answer::WatchingEvents { lines, incarnation }, Some(following)) => {
            let first = lines.iter().map(|line| watched_event(incarnation, line)).collect();
            Ok(sse(first, following, Style::Watch(incarnation)))
        }
        _ => Err(unexpected()),
    }
}

/// A started watch as a response.
pub(super) fn watching(following: Following) -> Response {
    sse(VecDeque::new(), following, Style::Watch(0))
}

/// How events are written: as lines, or as changes with their position in an incarnation.
#[derive(Clone, Copy)]
enum Style {
    Lines,
    Watch(u32),
}

fn watched(position: Option<Position>, kind: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_default();
    let id = position.map(|position| format!("id: {position}\n")).unwrap_or_default();
    Bytes::from(format!("{id}event: {kind}\ndata: {data}\n\n"))
}

fn watched_event(incarnation: u32, line: &EventLine) -> Bytes {
    watched(Some(Position { incarnation, sequence: line.sequence }), "ADDED", line)
}

fn change_name(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Added => "ADDED",
        ChangeKind::Modified => "MODIFIED",
        ChangeKind::Deleted => "DELETED",
        ChangeKind::Bookmark => "BOOKMARK",
    }
}

fn frame(kind: &str, data: &impl Serialize) -> Bytes {
    // Our own types have text keys only, so that they always are JSON; and JSON has no bare line ends.
    let data = serde_json::to_string(data).unwrap_or_default();
    Bytes::from(format!("event: {kind}\ndata: {data}\n\n"))
}

fn log(line: &LogLine) -> Bytes {
    frame("log", line)
}

fn sample(line: &SampleLine) -> Bytes {
    frame("sample", line)
}

fn event(line: &EventLine) -> Bytes {
    frame("event", line)
}

fn item(item: &StreamItem, style: Style) -> Bytes {
    match item {
        StreamItem::Log(line) => log(line),
        StreamItem::Sample(line) => sample(line),
        StreamItem::Event(line) => match style {
            Style::Lines => event(line),
            Style::Watch(incarnation) => watched_event(incarnation, line),
        },
        StreamItem::Change { position, kind, document } => watched(*position, change_name(*kind), document),
        StreamItem::Ended(problem) => frame("END", &problem_body(problem)),
        StreamItem::Dropped(count) => frame("dropped", &json!({"count": count})),
        StreamItem::End => frame("end", &json!({})),
    }
}

fn sse(first: VecDeque<Bytes>, following: Following, style: Style) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(frames(first, following, style))).into_response()
}

enum Turn {
    Item(Option<StreamItem>),
    Quiet,
}

fn frames(
    first: VecDeque<Bytes>,
    following: Following,
    style: Style,
) -> impl Stream<Item = std::result::Result<Bytes, Infallible>> {
    futures_lite::stream::unfold((first, Some(following)), move |(mut first, following)| async move {
        if let Some(ready) = first.pop_front() {
            return Some((Ok(ready), (first, following)));
        }
        let mut following = following?;
        let next = async { Turn::Item(following.next().await) };
        let quiet = async {
            smol::Timer::after(KEEP_ALIVE).await;
            Turn::Quiet
        };
        match next.or(quiet).await {
            Turn::Quiet => Some((Ok(Bytes::from_static(b": still here\n\n")), (first, Some(following)))),
            Turn::Item(Some(last @ (StreamItem::End | StreamItem::Ended(_)))) => {
                Some((Ok(item(&last, style)), (first, None)))
            }
            Turn::Item(Some(other)) => Some((Ok(item(&other, style)), (first, Some(following)))),
            Turn::Item(None) => None,
        }
    })
}
