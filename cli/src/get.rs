//! `get`: objects of one kind or several, some of them or one, once or followed, in every form.

use crate::args::{Get, Global, Output};
use crate::client::Client;
use crate::columns::{self, Look};
use crate::failure::Failure;
use crate::follow;
use crate::list::{self, Listed};
use crate::output::{json, no_geojson, print, print_table, say, whole, yaml};
use crate::show;
use crate::table::Table;
use crate::target::{Target, collection, parse_kind, parse_many, with_query};
use hub::model::{API_VERSION, FieldSelector, Kind};
use serde_json::{Value, json};

/// What `all` means: what operators made, and what became of it.
const ALL: [Kind; 5] = [Kind::Region, Kind::Device, Kind::Artifact, Kind::Workload, Kind::Placement];
const EVENTS: [&str; 3] = ["events", "event", "ev"];
/// Events of a list without a limit.
const EVENTS_TAIL: u32 = 100;

pub fn run(global: &Global, args: &Get) -> Result<(), Failure> {
    if EVENTS.contains(&args.kind.as_str()) {
        return events(global, args);
    }
    if args.kind.contains('/') || !args.names.is_empty() {
        return named(global, args);
    }
    let kinds = kinds(args)?;
    let client = &Client::connect(global)?;
    if args.watch {
        let [kind] = kinds.as_slice() else { return Err(Failure::usage("one kind at a time can be watched")) };
        return follow::objects(global, args, client, *kind);
    }
    if kinds.len() > 1 && (args.limit.is_some() || args.sort_by.is_some()) {
        return Err(Failure::usage("--limit and --sort-by go with one kind"));
    }
    let mut lists = Vec::new();
    for kind in kinds {
        lists.push((kind, fetch(global, args, client, kind)?));
    }
    show(global, args, &lists)
}

fn kinds(args: &Get) -> Result<Vec<Kind>, Failure> {
    let is_placed = args.selection.within.is_some() || args.selection.near.is_some();
    if args.kind == "all" {
        let has_place = |kind: &Kind| matches!(kind, Kind::Device | Kind::Placement);
        return Ok(ALL.into_iter().filter(|kind| !is_placed || has_place(kind)).collect());
    }
    args.kind.split(',').map(parse_kind).collect()
}

fn namespace<'a>(global: &'a Global, args: &Get) -> Option<&'a str> {
    (!args.all_namespaces).then_some(global.namespace.as_str())
}

fn fetch(global: &Global, args: &Get, client: &Client, kind: Kind) -> Result<Listed, Failure> {
    let mut parameters = list::parameters(&args.selection);
    if global.output == Output::GeoJson {
        parameters.push(("format", Some("geojson".to_owned())));
    }
    let limit = args.limit.and_then(|limit| usize::try_from(limit).ok());
    // Which are the first is known only when all are there.
    let asked = if args.sort_by.is_some() { None } else { limit };
    let path = collection(kind, namespace(global, args));
    let mut listed = list::list(client, &path, &parameters, asked, args.after.as_deref())?;
    if let Some(order) = &args.sort_by {
        order.sort(&mut listed.items);
        listed.items.truncate(limit.unwrap_or(usize::MAX));
    }
    Ok(listed)
}

fn named(global: &Global, args: &Get) -> Result<(), Failure> {
    let selection = &args.selection;
    let is_selected = [&selection.selector, &selection.field_selector, &selection.within, &selection.near];
    if args.all_namespaces || is_selected.iter().any(|given| given.is_some()) || args.limit.is_some() {
        return Err(Failure::usage("names and selectors do not go together")
            .why("a name says which object is meant, and -l, -A, --within, --near and --limit choose among all"));
    }
    let targets = parse_many(&args.kind, &args.names, &global.namespace)?;
    let client = &Client::connect(global)?;
    if args.watch {
        let [target] = targets.as_slice() else { return Err(Failure::usage("one object at a time can be watched")) };
        return follow::object(global, args, client, target);
    }
    let mut items: Vec<(Kind, Value)> = Vec::new();
    for target in &targets {
        items.push((target.kind, read(client, target, args.show_managed_fields)?));
    }
    if let ([(_, item)], true) = (items.as_slice(), global.output != Output::GeoJson)
        && whole(global.output, item)?
    {
        return Ok(());
    }
    let mut lists: Vec<(Kind, Listed)> = Vec::new();
    for (kind, item) in items {
        let item = if global.output == Output::GeoJson { feature(client, kind, &item)? } else { item };
        match lists.last_mut().filter(|(last, _)| *last == kind) {
            Some((_, listed)) => listed.items.push(item),
            None => lists.push((kind, Listed { items: vec![item], next: None })),
        }
    }
    show(global, args, &lists)
}

pub fn read(client: &Client, target: &Target, shows_managers: bool) -> Result<Value, Failure> {
    client.get(&with_query(&target.path(), &[("showManagedFields", shows_managers.then(|| "true".to_owned()))]))
}

fn feature(client: &Client, kind: Kind, item: &Value) -> Result<Value, Failure> {
    let name = format!("metadata.name={}", show::text(item, "/metadata/name"));
    let parameters = vec![("fieldSelector", Some(name)), ("format", Some("geojson".to_owned()))];
    Ok(list::list(client, &collection(kind, None), &parameters, None, None)?.items.pop().unwrap_or_default())
}

fn show(global: &Global, args: &Get, lists: &[(Kind, Listed)]) -> Result<(), Failure> {
    let items = || lists.iter().flat_map(|(_, listed)| &listed.items);
    let next = lists.iter().find_map(|(_, listed)| listed.next.as_ref());
    match global.output {
        Output::Json | Output::JsonPath(_) => {
            let name = match lists {
                [(kind, _)] => format!("{}List", kind.name()),
                _ => "List".to_owned(),
            };
            let mut list = json!({"apiVersion": API_VERSION, "kind": name, "items": items().collect::<Vec<&Value>>()});
            if let Some(next) = next {
                list["metadata"] = json!({"continue": next});
            }
            whole(global.output, &list)?;
        }
        Output::GeoJson => {
            print(&json(&json!({"type": "FeatureCollection", "features": items().collect::<Vec<&Value>>()})))?
        }
        // A stream of documents, which `apply` takes back.
        Output::Yaml => print(&items().map(yaml).collect::<Result<Vec<String>, Failure>>()?.join("---\n"))?,
        Output::Name => print(&names(lists))?,
        Output::Table | Output::Wide => tables(global, args, lists)?,
    }
    if let Some(next) = next {
        say(&format!("there is more: --limit {} --continue {next}", args.limit.unwrap_or(1)));
    }
    Ok(())
}

fn names(lists: &[(Kind, Listed)]) -> String {
    let name = |kind: Kind, item: &Value| format!("{}/{}\n", kind.singular(), show::text(item, "/metadata/name"));
    lists.iter().flat_map(|(kind, listed)| listed.items.iter().map(|item| name(*kind, item))).collect()
}

fn tables(global: &Global, args: &Get, lists: &[(Kind, Listed)]) -> Result<(), Failure> {
    let look = Look {
        shows_namespace: args.all_namespaces,
        shows_kind: lists.len() > 1,
        ..Look::new(global.output, show::now_ms())
    };
    let texts: Vec<String> = lists
        .iter()
        .filter(|(_, listed)| !listed.items.is_empty())
        .map(|(kind, listed)| columns::table(*kind, &listed.items, look))
        .map(|table| if args.no_headers { table.bare() } else { table.text() })
        .collect();
    if texts.is_empty() {
        let is_namespaced = lists.iter().any(|(kind, _)| kind.is_namespaced());
        let place = match args.all_namespaces || !is_namespaced {
            true => String::new(),
            false => format!(" in namespace {}", global.namespace),
        };
        let plurals: Vec<&str> = lists.iter().map(|(kind, _)| kind.plural()).collect();
        say(&format!("no {}{place}", plurals.join(", ")));
    }
    print_table(global.output, &texts.join(if args.no_headers { "" } else { "\n" }))
}

fn events(global: &Global, args: &Get) -> Result<(), Failure> {
    let selection = &args.selection;
    if !args.names.is_empty() || selection.selector.is_some() || selection.within.is_some() || selection.near.is_some()
    {
        return Err(Failure::usage("events have no names, labels or places of their own")
            .next("fulmar events --object workload/hello")
            .next("fulmar get events --field-selector type=Warning"));
    }
    let fields = FieldSelector::parse(selection.field_selector.as_deref().unwrap_or_default())
        .map_err(|error| Failure::usage("--field-selector is not valid").why(error.to_string()))?;
    let client = &Client::connect(global)?;
    let tail = args.limit.unwrap_or(EVENTS_TAIL).to_string();
    if args.watch {
        return follow::events(global, args, client, &fields, tail);
    }
    let mut answer = client.get(&with_query("/v1/events", &[("tail", Some(tail))]))?;
    if let Some(Value::Array(items)) = answer.get_mut("items") {
        items.retain(|item| fields.matches(item));
        if let Some(order) = &args.sort_by {
            order.sort(items);
        }
    }
    if whole(global.output, &answer)? {
        return Ok(());
    }
    match global.output {
        Output::GeoJson => Err(no_geojson()),
        _ => {
            let mut table = Table::new(&columns::EVENT_HEADER);
            show::list(&answer, "/items").iter().for_each(|item| table.row(columns::event(item)));
            print_table(global.output, &if args.no_headers { table.bare() } else { table.text() })
        }
    }
}
