//! `explain KIND.FIELD`: what a kind or a field means, from the OpenAPI document of this program's own version.

use crate::args::Output;
use crate::failure::Failure;
use crate::output::{print, whole};
use crate::table::Table;
use crate::target::parse_kind;
use hub::model::{Kind, nearest};
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// References that are followed from one field.
const REFERENCES_MAX: usize = 8;

pub fn run(output: Output, topic: &str) -> Result<(), Failure> {
    let document: Value = serde_json::from_str(&hub::api::openapi_text()).unwrap_or_default();
    let mut steps = topic.split('.').filter(|step| !step.is_empty());
    let kind = parse_kind(steps.next().unwrap_or_default())?;
    let steps: Vec<&str> = steps.collect();
    let schemas = Schemas(&document);
    let found = schemas.find(kind, &steps)?;
    if whole(output, &found.schema)? {
        return Ok(());
    }
    print(&schemas.text(kind, &steps, &found))
}

struct Schemas<'d>(&'d Value);

/// A field: how it is described where it is used, and its schema.
struct Found {
    description: String,
    schema: Value,
    type_name: String,
}

impl Schemas<'_> {
    /// What manifests say of a kind, or what is shown of it.
    fn root(&self, kind: Kind, steps: &[&str]) -> Value {
        let named = |name: String| self.0.pointer(&format!("/components/schemas/{name}")).cloned();
        let shown = named(kind.name().to_owned());
        let manifest = named(format!("{}Manifest", kind.name()));
        match steps.first() {
            Some(&"status") => shown,
            Some(_) | None => manifest.or(shown),
        }
        .unwrap_or_default()
    }

    fn find(&self, kind: Kind, steps: &[&str]) -> Result<Found, Failure> {
        let mut found = self.resolved(&self.root(kind, steps));
        let mut path = kind.singular().to_owned();
        for step in steps {
            let fields = self.fields(&found.schema);
            let Some(field) = fields.get(*step) else {
                let names: Vec<&str> = fields.keys().map(String::as_str).collect();
                let failure = Failure::usage(format!("{path} has no field {step:?}"));
                return Err(match nearest(step, &names) {
                    Some(near) => failure.next(format!("fulmar explain {path}.{near}")),
                    None if names.is_empty() => {
                        failure.why(format!("{path} is a {}, which has no fields", found.type_name))
                    }
                    None => failure.why(format!("it has {}", names.join(", "))).next(format!("fulmar explain {path}")),
                });
            };
            let _ = write!(path, ".{step}");
            found = self.resolved(field);
        }
        Ok(found)
    }

    /// Follows references, and what may also be left out.
    fn resolved(&self, field: &Value) -> Found {
        let (mut schema, mut description) = (field.clone(), String::new());
        let default = field.get("default").cloned();
        for _ in 0..REFERENCES_MAX {
            if description.is_empty() {
                description = schema.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
            }
            let next = match (schema.get("$ref").and_then(Value::as_str), schema.get("anyOf").and_then(Value::as_array))
            {
                (Some(reference), _) => self.0.pointer(reference.trim_start_matches('#')).cloned(),
                (None, Some(choices)) => {
                    choices.iter().find(|choice| choice.get("type") != Some(&"null".into())).cloned()
                }
                (None, None) => None,
            };
            let Some(next) = next else { break };
            schema = next;
        }
        // A default stands where the field is used, not where its type is described.
        if let (Some(default), Value::Object(map)) = (default, &mut schema) {
            map.insert("default".to_owned(), default);
        }
        let type_name = self.type_name(&schema, 0);
        Found { description, schema, type_name }
    }

    /// Fields of an object, or of the entries of a list.
    fn fields(&self, schema: &Value) -> Map<String, Value> {
        let of = |schema: &Value| schema.get("properties").and_then(Value::as_object).cloned();
        if let Some(fields) = of(schema) {
            return fields;
        }
        if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
            return self.fields(&self.resolved(items).schema);
        }
        let choices = schema.get("oneOf").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        choices.iter().filter_map(of).flatten().collect()
    }

    fn type_name(&self, schema: &Value, depth: usize) -> String {
        if depth > REFERENCES_MAX {
            return "...".to_owned();
        }
        if let Some(values) = choices(schema) {
            return values;
        }
        let names: Vec<&str> = match schema.get("type") {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => {
                names.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect()
            }
            Some(_) | None => Vec::new(),
        };
        match names.as_slice() {
            ["array"] => match schema.get("items").filter(|items| items.is_object()) {
                Some(items) => format!("list of {}", self.type_name(&self.resolved(items).schema, depth + 1)),
                None => "list".to_owned(),
            },
            ["object"] => match schema.get("additionalProperties").filter(|values| values.is_object()) {
                Some(values) => format!("map of {}", self.type_name(&self.resolved(values).schema, depth + 1)),
                None => "object".to_owned(),
            },
            [] if schema.get("oneOf").is_some() => "one of several forms".to_owned(),
            [] => "any".to_owned(),
            names => names.join(" or "),
        }
    }

    fn text(&self, kind: Kind, steps: &[&str], found: &Found) -> String {
        let mut out = format!("KIND:    {}\n", kind.name());
        let field = if steps.is_empty() { "(the whole document)".to_owned() } else { steps.join(".") };
        let _ = writeln!(out, "FIELD:   {field}   {}", found.type_name);
        let mut add = |name: &str, value: Option<&Value>| {
            if let Some(value) = value.filter(|value| !value.is_null()) {
                let _ = writeln!(out, "{name:9}{}", crate::changes::shown(value));
            }
        };
        add("DEFAULT:", found.schema.get("default"));
        add("LEAST:", found.schema.get("minimum"));
        add("MOST:", found.schema.get("maximum"));
        add("PATTERN:", found.schema.get("pattern"));
        if !found.description.is_empty() {
            let _ = writeln!(out, "\n{}", found.description);
        }
        let fields = self.fields(&found.schema);
        if !fields.is_empty() {
            let mut table = Table::new(&["FIELD", "TYPE", "MEANING"]);
            for (name, field) in &fields {
                let field = self.resolved(field);
                table.row(vec![name.clone(), field.type_name, field.description.replace('\n', " ")]);
            }
            let _ = write!(out, "\n{}", table.text());
        }
        out
    }
}

/// The words that a field takes, if they are few.
fn choices(schema: &Value) -> Option<String> {
    if let Some(value) = schema.get("const") {
        return Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    let word = |value: &Value| value.as_str().map(str::to_owned);
    let listed = |form: &Value| -> Option<Vec<String>> {
        match (form.get("const"), form.get("enum").and_then(Value::as_array)) {
            (Some(value), _) => Some(vec![word(value)?]),
            (None, Some(values)) => values.iter().map(word).collect(),
            (None, None) => None,
        }
    };
    let words: Option<Vec<String>> = match schema.get("oneOf").and_then(Value::as_array) {
        // Words with a meaning of their own stand apart from the others.
        Some(forms) => forms.iter().map(listed).collect::<Option<Vec<_>>>().map(|words| words.concat()),
        None => listed(schema),
    };
    words.map(|words| words.join(" | "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn explained(topic: &str) -> Result<String, Failure> {
        let document: Value = serde_json::from_str(&hub::api::openapi_text()).unwrap();
        let mut steps = topic.split('.');
        let kind = parse_kind(steps.next().unwrap())?;
        let (steps, schemas) = (steps.collect::<Vec<&str>>(), Schemas(&document));
        schemas.find(kind, &steps).map(|found| schemas.text(kind, &steps, &found))
    }

    #[test]
    fn every_field_of_a_manifest_can_be_asked_for() {
        let text = explained("workload.spec.placement").unwrap();
        assert!(text.starts_with("KIND:    Workload\nFIELD:   spec.placement   object\n"), "{text}");
        assert!(text.contains("\nwithin ") && text.contains("list of string"), "{text}");
        assert!(explained("wl.spec.placement.near.point").unwrap().contains("degrees"));
        let text = explained("workload.spec.placement.onShortfall").unwrap();
        assert!(text.contains("partial | ") && text.contains("DEFAULT: partial"), "{text}");
        assert!(explained("device.status.online.state").unwrap().contains("Online"));
        assert!(explained("workload.spec.components.name").is_ok(), "fields of the entries of a list");
    }

    #[test]
    fn a_misspelt_field_leads_to_the_right_one() {
        let failure = explained("workload.spec.placment").unwrap_err();
        assert_eq!(failure.next, ["fulmar explain workload.spec.placement"]);
        assert!(explained("pod.spec").is_err());
        assert!(explained("workload.metadata.name.x").unwrap_err().why[0].contains("no fields"));
    }

    #[test]
    fn every_kind_is_explained() {
        for kind in Kind::ALL {
            assert!(explained(kind.singular()).unwrap().contains("metadata"), "{kind:?}");
        }
    }
}
