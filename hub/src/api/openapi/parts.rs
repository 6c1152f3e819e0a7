//! The pieces that operations are made of.

use crate::model::Kind;
use serde_json::{Value, json};

/// A name as objects have it.
const NAME_PATTERN: &str = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";

pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

pub(super) fn text(least: usize, most: usize) -> Value {
    json!({"type": "string", "minLength": least, "maxLength": most})
}

pub(super) fn named() -> Value {
    json!({"type": "string", "pattern": NAME_PATTERN})
}

pub(super) fn query(name: &str, schema: Value, description: &str) -> Value {
    json!({"name": name, "in": "query", "schema": schema, "description": description})
}

pub(super) fn if_match() -> Value {
    json!({
        "name": "If-Match", "in": "header", "schema": {"type": "string", "pattern": "^(\\*|\"[0-9]{1,18}\")$"},
        "description": "The ETag of an earlier answer; 412 if the object has changed since",
    })
}

pub(super) fn idempotency_key() -> Value {
    json!({
        "name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
        "description": "The request is done once; later ones with this key and body get the same answer",
    })
}

/// The parameters that a path names.
pub(super) fn path_parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let parameter = |name: &str| {
        let schema = match name {
            "digest" => json!({"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}),
            "name" if path.contains("/placements/") => {
                json!({"type": "string", "pattern": "^[a-z0-9-]{1,63}\\.[a-z0-9-]{1,63}$"})
            }
            "id" => super::special::key_id(),
            _ => named(),
        };
        json!({"name": name, "in": "path", "required": true, "schema": schema})
    };
    names.map(parameter).collect()
}

pub(super) fn json_body(schema: Value) -> Value {
    json!({"required": true, "content": {"application/json": {"schema": schema}}})
}

pub(super) fn json_answer(description: &str, schema: Value) -> Value {
    json!({"description": description, "content": {"application/json": {"schema": schema}}})
}

/// Server-sent events; the data is JSON in text.
pub(super) fn events() -> Value {
    let text = || json!({"type": "string"});
    json!({"schema": {
        "type": "object", "properties": {"event": text(), "data": text(), "id": text()}, "description": "One event",
    }})
}

/// One object, with the headers that go with it.
pub(super) fn document_answer(description: &str, kind: Kind) -> Value {
    let mut answer = json_answer(description, reference(kind.name()));
    answer["headers"] = json!({
        "ETag": {"schema": {"type": "string"}, "description": "Resource version, for If-Match"},
        "Fulmar-Outcome": {"schema": {"enum": ["created", "updated", "unchanged"]}, "description": "Of a write"},
        "Fulmar-Warning": {"schema": {"type": "string"}, "description": "Repeats"},
    });
    answer
}

pub(super) fn problem_answer(status: &str) -> Value {
    let description = match status {
        "400" => "Not acceptable JSON, or a header or position that is not ours",
        "401" => "Credentials are missing or wrong",
        "403" => "The credentials do not allow this",
        "404" => "There is no such object",
        "408" => "The body came too slowly",
        "409" => "In use, or a limit is reached",
        "412" => "The object has changed",
        "413" => "The body is too large",
        "415" => "Not the media type of a patch",
        "422" => "The document or query has mistakes, each with a pointer",
        "429" => "Too many requests; Retry-After says when",
        "503" => "Busy or stopping; Retry-After says when",
        "507" => "The hub's disk is full",
        _ => "Any other refusal",
    };
    json!({
        "description": description,
        "content": {"application/problem+json": {"schema": reference("Problem")}},
    })
}
