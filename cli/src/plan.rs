//! `plan`: what applying manifests would change, in objects and in where workloads run; kept in a file that `apply` carries
//! out exactly or not at all.
//!
//! The hub decides and words everything. Only modules are sent beforehand, because a plan names them by their hashes, and the
//! namespaces are made that they are kept in.

use crate::apply::{FieldManager, make_namespace};
use crate::args::{Global, Output, Plan};
use crate::artifact;
use crate::changes::{self, Change};
use crate::client::Client;
use crate::code::Code;
use crate::failure::{Failure, system};
use crate::manifest::{self, Document};
use crate::output::{line, no_geojson, plain, print, say, whole};
use crate::show::number;
use crate::target::{Target, with_query};
use hub::model::Kind;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;

/// Bytes of a plan's file.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Names of devices in one line.
const NAMES_MAX: usize = 8;

pub fn run(global: &Global, args: &Plan) -> Result<(), Failure> {
    let mut documents = manifest::read_judged(&args.source, &global.namespace)?;
    let pins = artifact::pin(&mut documents)?;
    let client = &Client::connect(global)?;
    let manager = FieldManager { name: &args.owner.field_manager, force: args.owner.force_conflicts };
    for pin in &pins {
        if !artifact::is_known(client, pin)? {
            make_namespace(client, &documents, &pin.target.namespace, &manager)?;
            artifact::upload(client, pin)?;
        }
    }
    let parameters =
        [("fieldManager", Some(manager.name.to_owned())), ("force", manager.force.then(|| "true".to_owned()))];
    let values: Vec<&Value> = documents.iter().map(|document| &document.value).collect();
    let plan = client.post(&with_query("/v1/plans", &parameters), &json!({"documents": values}));
    let plan = plan.map_err(|failure| located(&documents, failure))?;
    if let Some(path) = &args.out {
        let text = serde_json::to_string_pretty(&plan).unwrap_or_default();
        std::fs::write(path, text + "\n")
            .map_err(|error| system(format!("cannot write {}", path.display()), &error))?;
    }
    if !whole(global.output, &plan)? {
        match global.output {
            Output::GeoJson => return Err(no_geojson()),
            _ => print(&shown(&plan))?,
        }
    }
    if let Some(path) = &args.out {
        say(&format!("Apply exactly this:  fulmar apply {}", path.display()));
    }
    if args.exit_code && has_changes(&plan) {
        return Err(Failure::new(Code::Changes, "there are changes"));
    }
    Ok(())
}

/// The hub counts documents; people have files with lines.
fn located(documents: &[Document], mut failure: Failure) -> Failure {
    for place in &mut failure.places {
        let Some(rest) = place.pointer.strip_prefix("/documents/") else { continue };
        let (number, pointer) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let document = number.parse().ok().and_then(|number: usize| documents.get(number));
        if let Some(document) = document {
            *place = document.source.place(pointer, &place.detail);
        }
    }
    failure
}

/// Carries out a plan that was kept; the workloads of it.
pub fn apply(client: &Client, path: &Path, output: Output) -> Result<Vec<Target>, Failure> {
    let plan = read(path)?;
    let applied = client.post("/v1/plans/apply", &plan).map_err(|failure| match failure.code.as_str() {
        "PLAN_STALE" => failure.next(format!("fulmar plan -f ... --out {}", path.display())),
        _ => failure,
    })?;
    if !whole(output, &applied)? {
        for change in list(&applied, "/status/changes") {
            let done = match text(change, "/action") {
                "create" => "created",
                "update" => "configured",
                other => other,
            };
            let Some(target) = target(text(change, "/object")) else { continue };
            match output {
                Output::Name => line(&target.to_string())?,
                _ => line(&format!("{target} {done} (generation {})", number(change, "/generation/to")))?,
            }
        }
    }
    let targets = list(&applied, "/status/changes").iter().filter_map(|change| target(text(change, "/object")));
    Ok(targets.filter(|target| target.kind == Kind::Workload).collect())
}

fn read(path: &Path) -> Result<Value, Failure> {
    let long = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > FILE_BYTES_MAX);
    if long {
        return Err(manifest::file_failure(path, &format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    let bytes = std::fs::read(path).map_err(|error| manifest::file_failure(path, &error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        manifest::file_failure(path, &format!("it is not a plan: {error}"))
            .next("fulmar plan -f MANIFEST --out FILE makes one")
            .next(format!("fulmar apply -f {}, if it is a manifest", path.display()))
    })
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// `workload/default/hello` or `region/alps`, as the hub writes it.
fn target(key: &str) -> Option<Target> {
    let parts: Vec<&str> = key.split('/').collect();
    let (kind, namespace, name) = match parts[..] {
        [kind, name] => (kind, "", name),
        [kind, namespace, name] => (kind, namespace, name),
        _ => return None,
    };
    let kind = Kind::ALL.into_iter().find(|known| known.singular() == kind)?;
    Some(Target { kind, namespace: namespace.to_owned(), name: name.to_owned() })
}

fn has_changes(plan: &Value) -> bool {
    list(plan, "/status/changes").iter().any(|change| text(change, "/action") != "unchanged")
}

fn name_of(key: &str) -> String {
    target(key).map_or_else(|| plain(key), |target| target.to_string())
}

/// `a, b and 3 more`; the hub may name fewer than it counts.
fn names(placement: &Value, what: &str) -> String {
    let count = number(placement, &format!("/counts/{what}"));
    let named: Vec<String> =
        list(placement, &format!("/{what}")).iter().take(NAMES_MAX).filter_map(Value::as_str).map(plain).collect();
    let more = count.saturating_sub(named.len() as u64);
    if more > 0 { format!("{} and {more} more", named.join(", ")) } else { named.join(", ") }
}

fn shown(plan: &Value) -> String {
    let mut out = String::new();
    for change in list(plan, "/status/changes") {
        let name = name_of(text(change, "/object"));
        let (from, to) = (number(change, "/generation/from"), number(change, "/generation/to"));
        let _ = match text(change, "/action") {
            "create" => writeln!(out, "+ {name}"),
            "update" if from != to => writeln!(out, "~ {name}   generation {from} -> {to}"),
            "update" => writeln!(out, "~ {name}"),
            _ => writeln!(out, "= {name}"),
        };
        let field = |field: &Value| Change {
            pointer: text(field, "/pointer").to_owned(),
            before: field.get("before").cloned(),
            after: field.get("after").cloned(),
        };
        out.push_str(&changes::lines(&list(change, "/fields").iter().map(field).collect::<Vec<_>>()));
        for warning in list(change, "/warnings").iter().filter_map(Value::as_str) {
            let _ = writeln!(out, "  ! {}", plain(warning));
        }
    }
    for placement in list(plan, "/status/placements") {
        let count = |what: &str| number(placement, &format!("/counts/{what}"));
        let _ = writeln!(
            out,
            "{} would run on {} devices",
            name_of(text(placement, "/workload")),
            count("gains") + count("updates") + count("stays")
        );
        for (sign, what, word) in [("+", "gains", "gain it"), ("~", "updates", "update"), ("-", "loses", "lose it")] {
            if count(what) > 0 {
                let _ = writeln!(out, "  {sign} {} {word}: {}", count(what), names(placement, what));
            }
        }
        if number(placement, "/short") > 0 {
            let _ = writeln!(out, "  ! {}", plain(text(placement, "/text")));
        }
    }
    let left_out = number(plan, "/status/workloadsLeftOut");
    if left_out > 0 {
        let _ = writeln!(out, "{left_out} more workloads were not looked at: they are too many for one plan");
    }
    let _ = writeln!(out, "{}", plain(text(plan, "/status/summary")));
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn plan() -> Value {
        json!({"status": {
            "changes": [
                {"object": "region/alps", "action": "unchanged", "generation": {"from": 1, "to": 1}, "fields": []},
                {"object": "workload/default/hello", "action": "update", "generation": {"from": 1, "to": 2},
                 "fields": [{"pointer": "/spec/replicas", "before": 1, "after": 3}], "warnings": ["look\u{1b}"]},
            ],
            "placements": [{"workload": "workload/default/hello", "gains": ["gw-2"], "updates": [], "loses": [],
                "counts": {"gains": 1, "updates": 0, "loses": 0, "stays": 1}, "short": 1, "text": "1 is missing"}],
            "workloadsLeftOut": 0, "summary": "0 to create, 1 to update"}})
    }

    #[test]
    fn a_plan_is_shown_line_by_line() {
        let expected = "\
= region/alps
~ workload/hello   generation 1 -> 2
  ~ spec.replicas   1  ->  3
  ! look\u{fffd}
workload/hello would run on 2 devices
  + 1 gain it: gw-2
  ! 1 is missing
0 to create, 1 to update
";
        assert_eq!(shown(&plan()), expected);
        assert!(has_changes(&plan()));
    }

    #[test]
    fn keys_of_the_hub_are_targets() {
        let hello = target("workload/default/hello").unwrap();
        assert_eq!((hello.kind, hello.namespace.as_str(), hello.name.as_str()), (Kind::Workload, "default", "hello"));
        assert_eq!(target("region/alps").unwrap().to_string(), "region/alps");
        assert_eq!((target("alps"), target("moon/x"), target("a/b/c/d")), (None, None, None));
    }
}
