//! Logs and events: a JSON list, or server-sent events when followed.

use super::auth::Caller;
use super::object::{query, unexpected};
use super::problem::{Refused, Result, invalid};
use super::{Api, TAIL_DEFAULT, TAIL_MAX};
use crate::engine::port::{Answer, EventLine, Follow, LogLine, Request, StreamItem};
use crate::handle::Following;
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header;
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
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    object: Option<String>,
    tail: Option<usize>,
    #[serde(default)]
    follow: bool,
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
        (Answer::Logs(lines), Some(following)) => Ok(sse(lines.iter().map(log).collect(), following)),
        _ => Err(unexpected()),
    }
}

pub(super) async fn events(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    q: std::result::Result<Query<EventsQuery>, QueryRejection>,
) -> Result {
    let q = query(q)?;
    let request = Request::Events { object: q.object, tail: tail(q.tail)?, follow: follow(q.follow) };
    match api.handle.ask(&caller.actor(), request).await? {
        (Answer::Events(lines), None) => Ok(axum::Json(json!({"items": lines})).into_response()),
        (Answer::Events(lines), Some(following)) => Ok(sse(lines.iter().map(event).collect(), following)),
        _ => Err(unexpected()),
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

fn event(line: &EventLine) -> Bytes {
    frame("event", line)
}

fn item(item: &StreamItem) -> Bytes {
    match item {
        StreamItem::Log(line) => log(line),
        StreamItem::Event(line) => event(line),
        StreamItem::Dropped(count) => frame("dropped", &json!({"count": count})),
        StreamItem::End => frame("end", &json!({})),
    }
}

fn sse(first: VecDeque<Bytes>, following: Following) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(frames(first, following))).into_response()
}

enum Turn {
    Item(Option<StreamItem>),
    Quiet,
}

fn frames(first: VecDeque<Bytes>, following: Following) -> impl Stream<Item = std::result::Result<Bytes, Infallible>> {
    futures_lite::stream::unfold((first, Some(following)), |(mut first, following)| async move {
        if let Some(ready) = first.pop_front() {
            return Some((Ok(ready), (first, following)));
        }
        let following = following?;
        let next = async { Turn::Item(following.next().await) };
        let quiet = async {
            smol::Timer::after(KEEP_ALIVE).await;
            Turn::Quiet
        };
        match next.or(quiet).await {
            Turn::Quiet => Some((Ok(Bytes::from_static(b": still here\n\n")), (first, Some(following)))),
            Turn::Item(Some(StreamItem::End)) => Some((Ok(item(&StreamItem::End)), (first, None))),
            Turn::Item(Some(other)) => Some((Ok(item(&other)), (first, Some(following)))),
            Turn::Item(None) => None,
        }
    })
}
