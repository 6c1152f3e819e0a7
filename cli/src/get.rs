//! `get`, `describe`, `delete`: reading and removing objects.

use crate::args::{Delete, Get, Global, One, Output};
use crate::client::Client;
use crate::columns;
use crate::describe;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::manifest;
use crate::output::{json, line, print, say, yaml};
use crate::show;
use crate::target::{Target, collection, parse, parse_one, with_query};
use hub::model::Kind;
use serde_json::{Value, json};

/// Pages of one list: five hundred objects each.
const PAGES_MAX: usize = 2_000;
/// Events that `describe` shows.
const EVENTS_SHOWN: &str = "10";

pub fn get(global: &Global, args: &Get) -> Result<(), Failure> {
    let (kind, name) = parse(&args.kind, args.name.as_deref())?;
    let client = &Client::connect(global)?;
    let items = match name {
        Some(name) => {
            if args.selector.is_some() || args.all_namespaces {
                return Err(Failure::usage("a name and -l or -A do not go together"));
            }
            let item = client.get(&Target::new(kind, &global.namespace, &name).path())?;
            match global.output {
                Output::Json => return print(&json(&item)),
                Output::Yaml => return print(&yaml(&item)?),
                Output::Table | Output::Wide | Output::Name => vec![item],
            }
        }
        None => {
            let namespace = (!args.all_namespaces).then_some(global.namespace.as_str());
            list(client, kind, namespace, args.selector.as_deref())?
        }
    };
    match global.output {
        Output::Json => print(&json(
            &json!({"apiVersion": hub::model::API_VERSION, "kind": format!("{}List", kind.name()), "items": items}),
        )),
        // A stream of documents, which `apply` takes back.
        Output::Yaml => {
            let texts: Result<Vec<String>, Failure> = items.iter().map(yaml).collect();
            print(&texts?.join("---\n"))
        }
        Output::Name => {
            let names =
                items.iter().map(|item| format!("{}/{}\n", kind.singular(), show::text(item, "/metadata/name")));
            print(&names.collect::<String>())
        }
        Output::Table | Output::Wide if items.is_empty() => {
            let place = match args.all_namespaces || !kind.is_namespaced() {
                true => String::new(),
                false => format!(" in namespace {}", global.namespace),
            };
            say(&format!("no {}{place}", kind.plural()));
            Ok(())
        }
        Output::Table | Output::Wide => {
            print(&columns::table(kind, &items, global.output, args.all_namespaces, show::now_ms()).text())
        }
    }
}

/// All pages of a list.
pub fn list(
    client: &Client,
    kind: Kind,
    namespace: Option<&str>,
    selector: Option<&str>,
) -> Result<Vec<Value>, Failure> {
    let mut items = Vec::new();
    let mut after = None;
    for _ in 0..PAGES_MAX {
        let parameters = [("labelSelector", selector.map(str::to_owned)), ("continue", after.take())];
        let mut page = client.get(&with_query(&collection(kind, namespace), &parameters))?;
        if let Some(Value::Array(more)) = page.get_mut("items") {
            items.append(more);
        }
        after = page.pointer("/metadata/continue").and_then(Value::as_str).map(str::to_owned);
        if after.is_none() {
            return Ok(items);
        }
    }
    Err(Failure::new(Exit::Failure, "TOO_MANY", format!("there are more {} than can be listed", kind.plural()))
        .next("select fewer with -l"))
}

pub fn describe(global: &Global, args: &One) -> Result<(), Failure> {
    let target = parse_one(&args.kind, args.name.as_deref(), &global.namespace)?;
    let client = &Client::connect(global)?;
    let object = client.get(&target.path())?;
    let query = [("object", Some(target.key())), ("tail", Some(EVENTS_SHOWN.to_owned()))];
    let events = client.get(&with_query("/v1/events", &query))?;
    match global.output {
        Output::Json => print(&json(&json!({"object": object, "events": show::list(&events, "/items")}))),
        Output::Yaml => print(&yaml(&object)?),
        Output::Name => line(&target.to_string()),
        Output::Table | Output::Wide => {
            print(&describe::render(target.kind, &object, show::list(&events, "/items"), show::now_ms()))
        }
    }
}

pub fn delete(global: &Global, args: &Delete) -> Result<(), Failure> {
    let targets = match &args.kind {
        Some(kind) => vec![parse_one(kind, args.name.as_deref(), &global.namespace)?],
        // The reverse of the order in which they are applied.
        None => {
            let documents = manifest::read(&args.files, &global.namespace)?;
            documents.into_iter().rev().map(|document| document.target).collect()
        }
    };
    let client = &Client::connect(global)?;
    let mut missing = None;
    for target in targets {
        match client.delete(&target.path()) {
            Ok(()) => line(&removed(&target, global.output, "deleted"))?,
            Err(failure) if failure.exit == Exit::NotFound => {
                if !args.ignore_not_found {
                    missing = missing.or(Some(failure));
                }
            }
            Err(failure) => return Err(failure),
        }
    }
    // The others are gone all the same.
    missing.map_or(Ok(()), Err)
}

fn removed(target: &Target, output: Output, outcome: &str) -> String {
    match output {
        Output::Name => target.to_string(),
        Output::Json => {
            json!({"kind": target.kind.name(), "namespace": target.namespace, "name": target.name, "outcome": outcome})
                .to_string()
        }
        Output::Table | Output::Wide | Output::Yaml => format!("{target} {outcome}"),
    }
}
