//! Reading of request bodies: bounded in bytes, depth and time, before anything looks at the content.

use super::problem::{Refused, problem};
use super::{BODY_BYTES_MAX, BODY_DEPTH_MAX};
use crate::problem_code::ProblemCode;
use axum::body::{Body, Bytes, HttpBody as _};
use futures_lite::FutureExt;
use http_body_util::BodyExt;
use serde_json::Value;
use std::time::{Duration, Instant};

/// The next piece of a body, within the patience; `None` at its end.
pub(super) async fn next_piece(body: &mut Body, patience: Duration) -> Result<Option<Bytes>, Refused> {
    let read = async { Some(body.frame().await) };
    let wait = async {
        smol::Timer::after(patience).await;
        None
    };
    match read.or(wait).await {
        Some(None) => Ok(None),
        // Trailers carry nothing for us.
        Some(Some(Ok(frame))) => Ok(Some(frame.into_data().unwrap_or_default())),
        Some(Some(Err(error))) => Err(Refused(problem(
            ProblemCode::BodyCut,
            format!("the connection broke inside the body: {error}"),
            &["send the request again"],
        ))),
        None => Err(Refused(problem(
            ProblemCode::BodySlow,
            format!("nothing came for {} seconds, or too little all the time", patience.as_secs()),
            &["send the request again"],
        ))),
    }
}

/// A whole body of bounded size, which has the patience once: it is small, so that a slow one is meant to be slow.
pub(super) async fn whole(mut body: Body, patience: Duration, limit: usize) -> Result<Vec<u8>, Refused> {
    // What is declared too large is not read at all.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    let mut bytes = Vec::new();
    let deadline = Instant::now() + patience;
    while let Some(piece) = next_piece(&mut body, deadline.saturating_duration_since(Instant::now())).await? {
        if bytes.len() + piece.len() > limit {
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// A whole JSON body.
pub(super) async fn json(body: Body, patience: Duration) -> Result<Value, Refused> {
    json_up_to(body, patience, BODY_BYTES_MAX).await
}

/// A whole JSON body of a size of its own.
pub(super) async fn json_up_to(body: Body, patience: Duration, limit: usize) -> Result<Value, Refused> {
    let bytes = whole(body, patience, limit).await?;
    parse(&bytes).map_err(not_json)
}

/// A whole JSON body; an empty one is an empty object.
pub(super) async fn json_if_any(body: Body, patience: Duration) -> Result<Value, Refused> {
    let bytes = whole(body, patience, BODY_BYTES_MAX).await?;
    let bytes = if bytes.is_empty() { b"{}" } else { bytes.as_slice() };
    parse(bytes).map_err(not_json)
}

fn not_json(detail: String) -> Refused {
    Refused(problem(ProblemCode::NotJson, detail, &[]))
}

fn too_large(limit: usize) -> Refused {
    let detail = format!("this JSON body has at most {limit} bytes");
    Refused(problem(ProblemCode::BodyTooLarge, detail, &[]))
}

/// JSON of bounded depth. The depth is judged on the bytes, so that nothing recurses over foreign input.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))?;
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                if depth > BODY_DEPTH_MAX {
                    return Err(format!("nested deeper than {BODY_DEPTH_MAX}"));
                }
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    serde_json::from_str::<Strict>(text).map(|strict| strict.0).map_err(|error| error.to_string())
}

/// JSON without repeated keys: a second value for a key would be ignored in silence otherwise.
struct Strict(Value);

impl<'de> serde::Deserialize<'de> for Strict {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

struct StrictVisitor;

impl<'de> serde::de::Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Strict, E> {
        Ok(Strict(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Strict(Value::Array(list)))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut entries: A) -> Result<Strict, A::Error> {
        let mut map = serde_json::Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let Strict(value) = entries.next_value()?;
            if map.contains_key(&key) {
                return Err(serde::de::Error::custom(format!("the key {key:?} stands twice")));
            }
            map.insert(key, value);
        }
        Ok(Strict(Value::Object(map)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_bounded_before_anything_recurses() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(BODY_DEPTH_MAX).as_bytes()).is_ok());
        assert!(parse(nested(BODY_DEPTH_MAX + 1).as_bytes()).unwrap_err().contains("nested"));
        assert!(parse(nested(1_000_000).as_bytes()).is_err());
        assert!(parse(format!("{:?}", "[".repeat(100)).as_bytes()).is_ok(), "brackets in a text do not nest");
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in ["", "{", "NaN", "{\"a\":1,\"a\":2}", "\"\\ud800\"", "{\"a\":{\"b\":1,\"b\":1}}", "1 2"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(&[b'"', 0xff, b'"']).is_err());
    }
}
