//! The OpenAPI 3.1 document: made from the route table and the model's own types, committed, and compared by a test.
//!
//! What a route does by its form (a list, one object of a kind) follows from its path; what is special is said in `special`.

mod parts;
mod schemas;
mod special;

use super::route::{Method, ROUTES, Right, Route};
use crate::model::Kind;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use parts::{json_answer, named, path_parameters, problem_answer, query, reference, text};
use serde_json::{Map, Value, json};
use std::sync::OnceLock;

/// One operation in the making.
pub(super) struct Operation {
    pub summary: String,
    pub parameters: Vec<Value>,
    pub body: Option<Value>,
    /// Status and answer; problems are added to all.
    pub answers: Vec<(&'static str, Value)>,
}

impl Operation {
    fn new(summary: impl Into<String>) -> Self {
        Self { summary: summary.into(), parameters: Vec::new(), body: None, answers: Vec::new() }
    }

    fn parameter(mut self, parameter: Value) -> Self {
        self.parameters.push(parameter);
        self
    }

    fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    fn answer(mut self, status: &'static str, answer: Value) -> Self {
        self.answers.push((status, answer));
        self
    }
}

/// What a path says by its form.
enum Form {
    List(Kind),
    One(Kind),
    Other,
}

fn form(path: &str) -> Form {
    let segments: Vec<&str> = path.split('/').collect();
    let kind = |plural: &str| Kind::ALL.into_iter().find(|kind| kind.plural() == plural);
    match segments.as_slice() {
        [.., plural, "{name}"] => kind(plural).map_or(Form::Other, Form::One),
        [.., plural] => kind(plural).map_or(Form::Other, Form::List),
        [] => Form::Other,
    }
}

fn operation(route: &Route) -> Operation {
    if let Some(special) = special::operation(route.method, route.path) {
        return special;
    }
    match (form(route.path), route.method.name()) {
        (Form::List(kind), "GET") => list(kind),
        (Form::One(kind), "GET") => Operation::new(format!("Reads one {}", kind.singular()))
            .parameter(query("showManagedFields", json!({"type": "boolean"}), "Show who owns which fields"))
            .answer("200", parts::document_answer("The object; the header ETag is its resource version", kind)),
        (Form::One(kind), "PUT") => Operation::new(format!("Creates or replaces a {}", kind.singular()))
            .parameter(parts::if_match())
            .parameter(query("dryRun", json!({"enum": ["server"]}), "Judge only, store nothing"))
            .body(parts::json_body(reference(&format!("{}Manifest", kind.name()))))
            .answer("200", parts::document_answer("Replaced, or the same already", kind))
            .answer("201", parts::document_answer("Created", kind)),
        (Form::One(kind), "PATCH") => Operation::new(format!("Applies a partial {} as a field manager", kind.singular()))
            .parameter(parts::if_match())
            .parameter(json!({
                "name": "fieldManager", "in": "query", "required": true, "description": "Who owns the fields of this document",
                "schema": {"type": "string", "pattern": "^[A-Za-z0-9._/-]{1,63}$"},
            }))
            .parameter(query("force", json!({"type": "boolean"}), "Take fields over that others own"))
            .parameter(query("dryRun", json!({"enum": ["server"]}), "Judge only, store nothing"))
            .body(json!({
                "required": true,
                "content": {super::object::APPLY_PATCH: {"schema": reference(&format!("{}Manifest", kind.name()))}},
            }))
            .answer("200", parts::document_answer("Applied, or the same already", kind))
            .answer("201", parts::document_answer("Created", kind))
            .answer("415", problem_answer("415")),
        (Form::One(kind), "DELETE") => Operation::new(format!("Deletes a {}", kind.singular()))
            .parameter(parts::if_match())
            .answer("204", json!({"description": "Deleted"})),
        (_, method) => {
            let operation = Operation::new(format!("{method} {}", route.path));
            let operation = if method == "GET" { operation } else { operation.body(parts::json_body(json!({}))) };
            operation.answer("200", json_answer("Done", json!({})))
        }
    }
}

fn list(kind: Kind) -> Operation {
    let mut operation = Operation::new(format!("Lists or watches {}", kind.plural()))
        .parameter(query("labelSelector", text(0, 1024), "Such as `a=b,c!=d,e,!f,g in (x,y)`"))
        .parameter(query(
            "fieldSelector",
            text(0, 1024),
            "Such as `status.online.state=Online`, over the shown document",
        ))
        .parameter(query(
            "limit",
            json!({"type": "integer", "minimum": 1, "maximum": super::PAGE_MAX}),
            "Objects of a page",
        ))
        .parameter(query("continue", text(1, 256), "The metadata.continue of the page before"))
        .parameter(query("watch", json!({"type": "boolean"}), "Answer server-sent events instead of a list"))
        .parameter(query(
            "resourceVersion",
            json!({"type": "string", "pattern": "^[0-9]+\\.[0-9]+$"}),
            "With watch: the position to go on from",
        ))
        .parameter(json!({
            "name": "Last-Event-ID", "in": "header", "schema": {"type": "string"},
            "description": "With watch: the id of the last event; wins over resourceVersion",
        }));
    if matches!(kind, Kind::Device | Kind::Placement) {
        operation =
            operation.parameter(query("within", named(), "Name of a region that the device is in")).parameter(query(
                "near",
                json!({"type": "string", "pattern": "^-?[0-9.]+,-?[0-9.]+,[0-9.]+$"}),
                "`<longitude>,<latitude>,<km>`",
            ));
    }
    let mut content = Map::from_iter([
        ("application/json".to_owned(), json!({"schema": reference(&format!("{}List", kind.name()))})),
        ("text/event-stream".to_owned(), parts::events()),
    ]);
    if super::geojson::has_places(kind) {
        let formats = json!({"enum": ["json", "geojson"]});
        operation = operation.parameter(query("format", formats, "`geojson`: a FeatureCollection (RFC 7946)"));
        content.insert("application/geo+json".to_owned(), json!({"schema": reference("FeatureCollection")}));
    }
    operation.answer("200", json!({"description": "A page, or with watch=true the changes", "content": content}))
}

fn operation_id(route: &Route) -> String {
    let mut id = route.method.name().to_ascii_lowercase();
    for word in route.path.split(['/', '-', '{', '}', '.']).filter(|word| !word.is_empty() && *word != "v1") {
        let (first, rest) = word.split_at(1);
        id.push_str(&first.to_ascii_uppercase());
        id.push_str(rest);
    }
    id
}

fn described(route: &Route) -> Value {
    let Operation { summary, mut parameters, body, answers } = operation(route);
    let mut all = path_parameters(route.path);
    all.append(&mut parameters);
    if route.method == Method::Post && !route.is_repeatable() {
        all.push(parts::idempotency_key());
    }
    let mut responses = Map::new();
    for (status, answer) in answers {
        responses.insert(status.to_owned(), answer);
    }
    let problems: &[&str] = match (route.right, route.method) {
        (Right::Anyone, _) => &["429"],
        (_, Method::Get) => &["400", "401", "403", "404", "422", "429", "503"],
        (_, _) => &["400", "401", "403", "404", "408", "409", "412", "413", "422", "429", "503", "507"],
    };
    for status in problems {
        responses.entry((*status).to_owned()).or_insert_with(|| problem_answer(status));
    }
    responses.insert("default".to_owned(), problem_answer("default"));
    let security = match route.right {
        Right::Anyone => json!([]),
        Right::Device => json!([{"bearer": []}, {"device": []}]),
        Right::Viewer | Right::Admin => json!([{"bearer": []}]),
    };
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": summary,
        "parameters": all,
        "responses": responses,
        "security": security,
    });
    if let Some(body) = body {
        operation["requestBody"] = body;
    }
    operation
}

/// The whole document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path.to_owned()).or_insert_with(|| json!({}));
        path[route.method.name().to_ascii_lowercase()] = described(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Fulmar",
            "version": "v1",
            "summary": "The API of a Fulmar hub.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "device": {"type": "http", "scheme": "basic", "description": "A device's id and credential"},
            },
        },
    })
}

/// As it is committed and served.
#[must_use]
pub fn text_of_document() -> String {
    let mut text = serde_json::to_string_pretty(&document()).unwrap_or_default();
    text.push('\n');
    text
}

pub(super) async fn openapi() -> Response {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(text_of_document).clone();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// `docs/reference/openapi.json` is made from the table and the types; `UPDATE_GOLDEN=1` rewrites it.
    #[test]
    fn the_committed_openapi_is_the_table() {
        let text = text_of_document();
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/openapi.json");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == text, "run with UPDATE_GOLDEN=1 and read the difference of docs/reference/openapi.json");
    }

    #[test]
    fn every_route_is_in_it_with_its_parameters_and_answers() {
        let document = document();
        let mut ids = std::collections::BTreeSet::new();
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method.name().to_ascii_lowercase()];
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{}", route.path);
            let parameters = operation["parameters"].as_array().unwrap();
            for segment in route.path.split('/').filter_map(|segment| segment.strip_prefix('{')) {
                let name = segment.trim_end_matches('}');
                assert!(parameters.iter().any(|p| p["in"] == "path" && p["name"] == name), "{} {name}", route.path);
            }
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.starts_with('2')), "{}", route.path);
            assert!(responses["default"]["content"]["application/problem+json"].is_object());
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(map) => {
                    found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    map.values().for_each(|value| walk(value, found));
                }
                Value::Array(list) => list.iter().for_each(|value| walk(value, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = Vec::new();
        walk(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}
