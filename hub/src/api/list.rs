//! Lists of objects, and watches on them: selectors, pages, positions, GeoJSON.
//!
//! It translates queries; what a selection takes is decided by the engine.

use super::auth::Caller;
use super::object::{Caught, Names, query, unexpected};
use super::problem::{Refused, Result, invalid, problem};
use super::{Api, PAGE_MAX, geojson, stream, token};
use crate::engine::port::{Answer, Place, Position, Request, Selection};
use crate::geo::{Distance, Point};
use crate::model::{API_VERSION, FieldSelector, Kind, Selector};
use crate::problem_code::ProblemCode;
use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};
use serde::Deserialize;
use serde_json::{Value, json};

/// The media type of RFC 7946.
const GEOJSON: &str = "application/geo+json";
/// Resumes a stream of server-sent events (HTML standard, 9.2.4).
pub(super) const LAST_EVENT_ID: &str = "last-event-id";

/// Query of a list or a watch.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ListQuery {
    label_selector: Option<String>,
    field_selector: Option<String>,
    within: Option<String>,
    near: Option<String>,
    limit: Option<usize>,
    r#continue: Option<String>,
    format: Option<String>,
    #[serde(default)]
    watch: bool,
    resource_version: Option<String>,
}

/// GET of the objects of a kind: of one namespace if the path names it, of all otherwise.
pub(super) fn all(kind: Kind) -> MethodRouter<Api> {
    routing::get(
        async move |State(api): State<Api>,
                    Extension(caller): Extension<Caller>,
                    Path(names): Path<Names>,
                    q: Caught<ListQuery>,
                    headers: HeaderMap| {
            let q = query(q)?;
            let selection = selection(&q, names.namespace())?;
            if q.watch {
                watch(api, caller, kind, selection, &q, &headers).await
            } else {
                list(api, caller, kind, selection, q, &headers).await
            }
        },
    )
}

fn selection(query: &ListQuery, namespace: Option<String>) -> Result<Selection> {
    let labels = match &query.label_selector {
        Some(text) => Selector::parse(text).map_err(|error| invalid("", format!("labelSelector: {error}")))?,
        None => Selector::default(),
    };
    let fields = match &query.field_selector {
        Some(text) => FieldSelector::parse(text).map_err(|error| invalid("", format!("fieldSelector: {error}")))?,
        None => FieldSelector::default(),
    };
    if let Some(name) = &namespace
        && !wire::topic::is_label(name, wire::limits::NAME_BYTES_MAX)
    {
        let shown: String = name.chars().take(80).collect();
        return Err(Refused(invalid("/metadata/namespace", format!("{shown:?} is not a name"))));
    }
    let near = query.near.as_deref().map(near).transpose()?;
    let place = (query.within.is_some() || near.is_some()).then(|| Place { within: query.within.clone(), near });
    Ok(Selection { namespace, labels, fields, place })
}

/// `<longitude>,<latitude>,<kilometres>`.
fn near(text: &str) -> Result<(Point, Distance)> {
    let wrong = |why: String| Refused(invalid("", format!("near: {why}; write near=<longitude>,<latitude>,<km>")));
    let numbers: Vec<f64> = text.split(',').filter_map(|number| number.trim().parse().ok()).collect();
    let [longitude, latitude, km] = numbers.as_slice() else {
        return Err(wrong(format!("{:?} is not three numbers", text.chars().take(80).collect::<String>())));
    };
    let point = Point::from_degrees(*longitude, *latitude).map_err(|error| wrong(error.to_string()))?;
    let reach = Distance::from_km(*km).ok_or_else(|| wrong(format!("{km} km is no distance")))?;
    Ok((point, reach))
}

/// Whether the client wants RFC 7946, and whether the kind has it.
fn wants_geojson(kind: Kind, query: &ListQuery, headers: &HeaderMap) -> Result<bool> {
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let wanted = match query.format.as_deref() {
        Some("geojson") => true,
        Some("json") => false,
        Some(_) => return Err(Refused(invalid("", "format takes `json` or `geojson`"))),
        None => accepts.is_some_and(|text| text.contains(GEOJSON)),
    };
    if wanted && !geojson::has_places(kind) {
        if query.format.is_none() {
            return Ok(false);
        }
        let detail = format!("{} have no place on a map; devices and regions do", kind.plural());
        return Err(Refused(invalid("", detail)));
    }
    Ok(wanted)
}

async fn list(
    api: Api,
    caller: Caller,
    kind: Kind,
    selection: Selection,
    query: ListQuery,
    headers: &HeaderMap,
) -> Result {
    let limit = query.limit.unwrap_or(PAGE_MAX);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Refused(invalid("", format!("limit is {limit}, but a page has 1 to {PAGE_MAX} objects"))));
    }
    if query.resource_version.is_some() {
        return Err(Refused(invalid("", "resourceVersion goes with watch=true; a list always shows the present")));
    }
    let is_geojson = wants_geojson(kind, &query, headers)?;
    let request = Request::List { kind, selection, limit, after: query.r#continue };
    match api.handle.request(&caller.actor(), request).await? {
        Answer::List { items, next, resource_version: _, position } => {
            let mut metadata = json!({"resourceVersion": position.to_string()});
            if let Some(next) = next {
                metadata["continue"] = Value::String(next);
            }
            if is_geojson {
                let features: Vec<Value> = items.iter().map(|item| geojson::feature(kind, item)).collect();
                let body = json!({"type": "FeatureCollection", "features": features, "metadata": metadata});
                return Ok(([(header::CONTENT_TYPE, GEOJSON)], body.to_string()).into_response());
            }
            let items: Vec<Value> = items.into_iter().map(|item| token::noted(&api, kind, item)).collect();
            let name = format!("{}List", kind.name());
            let body = json!({"apiVersion": API_VERSION, "kind": name, "metadata": metadata, "items": items});
            Ok(axum::Json(body).into_response())
        }
        _ => Err(unexpected()),
    }
}

/// The position that a client resumes from: the header of a reconnecting stream, else the query.
pub(super) fn resumed(headers: &HeaderMap, query: Option<&str>) -> Result<Option<Position>> {
    let header = headers.get(LAST_EVENT_ID).map(|value| value.to_str().unwrap_or("?"));
    let Some(text) = header.filter(|text| !text.is_empty()).or(query) else { return Ok(None) };
    match Position::parse(text) {
        Some(position) => Ok(Some(position)),
        None => {
            let shown: String = text.chars().take(60).collect();
            let detail =
                format!("{shown:?} is not a position: it is the metadata.resourceVersion of a list, or an event's id");
            Err(Refused(problem(ProblemCode::BadPosition, detail, &["list again"])))
        }
    }
}

async fn watch(
    api: Api,
    caller: Caller,
    kind: Kind,
    selection: Selection,
    query: &ListQuery,
    headers: &HeaderMap,
) -> Result<Response> {
    if query.limit.is_some() || query.r#continue.is_some() || query.format.is_some() {
        return Err(Refused(invalid("", "a watch has no pages and no format: leave out limit, continue and format")));
    }
    let from = resumed(headers, query.resource_version.as_deref())?;
    match api.handle.ask(&caller.actor(), Request::Watch { kind, selection, from }).await? {
        (Answer::Watching, Some(following)) => Ok(stream::watching(following)),
        _ => Err(unexpected()),
    }
}
