//! Lists: every page of a selection, or the first of them.

use crate::args::Selection;
use crate::client::Client;
use crate::code::Code;
use crate::failure::Failure;
use crate::target::with_query;
use serde_json::Value;

/// Pages of one list: five hundred objects each.
const PAGES_MAX: usize = 2_000;
/// Objects that the hub gives at once.
const PAGE_OBJECTS: usize = 500;

/// Query parameters.
pub type Parameters = Vec<(&'static str, Option<String>)>;

/// A list as far as it was asked for.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    pub items: Vec<Value>,
    /// Where it goes on, if it does.
    pub next: Option<String>,
}

/// What a selection says to the hub.
pub fn parameters(selection: &Selection) -> Parameters {
    vec![
        ("labelSelector", selection.selector.clone()),
        ("fieldSelector", selection.field_selector.clone()),
        ("within", selection.within.clone()),
        ("near", selection.near.clone()),
    ]
}

/// Objects (or features) of a list, at most `limit`, behind `after`.
pub fn list(
    client: &Client,
    path: &str,
    parameters: &Parameters,
    limit: Option<usize>,
    after: Option<&str>,
) -> Result<Listed, Failure> {
    let mut listed = Listed { items: Vec::new(), next: after.map(str::to_owned) };
    for _ in 0..PAGES_MAX {
        let missing = limit.map(|limit| limit - listed.items.len().min(limit));
        let mut all = parameters.clone();
        all.push(("limit", missing.map(|missing| missing.min(PAGE_OBJECTS).to_string())));
        all.push(("continue", listed.next.take()));
        let mut page = client.get(&with_query(path, &all))?;
        let name = if page.get("features").is_some() { "features" } else { "items" };
        if let Some(Value::Array(more)) = page.get_mut(name) {
            listed.items.append(more);
        }
        listed.next = page.pointer("/metadata/continue").and_then(Value::as_str).map(str::to_owned);
        if listed.next.is_none() || limit.is_some_and(|limit| listed.items.len() >= limit) {
            return Ok(listed);
        }
    }
    Err(Failure::new(Code::TooMany, "there is more than can be listed at once")
        .next("select fewer with -l or --field-selector, or --limit 500"))
}

/// All of them.
pub fn all(client: &Client, path: &str) -> Result<Vec<Value>, Failure> {
    list(client, path, &Vec::new(), None, None).map(|listed| listed.items)
}
