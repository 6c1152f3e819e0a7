//! `delete`: objects by name, by selector, or as manifests describe them.

use crate::args::{Delete, Global, Output};
use crate::artifact;
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::list;
use crate::manifest;
use crate::output::{line, say};
use crate::show;
use crate::target::{Target, collection, parse_kind, parse_many};
use hub::model::Kind;
use serde_json::json;

pub fn run(global: &Global, args: &Delete) -> Result<(), Failure> {
    let client = &Client::connect(global)?;
    let mut missing = None;
    for target in targets(global, args, client)? {
        match client.delete(&target.path()) {
            Ok(()) => line(&removed(&target, global.output))?,
            Err(failure) if failure.exit == Exit::NotFound => {
                // A manifest does not say whether its artifact is there still.
                let is_implied = args.kind.is_none() && target.kind == Kind::Artifact;
                if !args.ignore_not_found && !is_implied {
                    missing = missing.or(Some(failure));
                }
            }
            Err(failure) => return Err(failure),
        }
    }
    // The others are gone all the same.
    missing.map_or(Ok(()), Err)
}

fn targets(global: &Global, args: &Delete, client: &Client) -> Result<Vec<Target>, Failure> {
    match (&args.kind, &args.selector) {
        (Some(kind), None) => parse_many(kind, &args.names, &global.namespace),
        (Some(kind), Some(selector)) => {
            let kind = parse_kind(kind)?;
            let selection = vec![("labelSelector", Some(selector.clone()))];
            let found = list::list(client, &collection(kind, Some(&global.namespace)), &selection, None, None)?;
            if found.items.is_empty() {
                say(&format!("no {} with {selector}", kind.plural()));
            }
            let names = found.items.iter().map(|item| show::text(item, "/metadata/name"));
            Ok(names.map(|name| Target::new(kind, &global.namespace, &name)).collect())
        }
        // The reverse of the order in which they are applied.
        (None, _) => {
            let documents = manifest::read(&args.source, &global.namespace)?;
            let namespaces: Vec<&Target> = documents
                .iter()
                .map(|document| &document.target)
                .filter(|target| target.kind == Kind::Namespace)
                .collect();
            // What `apply` uploaded into a namespace that goes would keep it.
            let leaves = |target: &Target| namespaces.iter().any(|namespace| namespace.name == target.namespace);
            let mut artifacts: Vec<Target> = documents.iter().flat_map(artifact::named).filter(leaves).collect();
            artifacts.sort_by_key(Target::key);
            artifacts.dedup();
            let (others, namespaces): (Vec<Target>, Vec<Target>) = documents
                .iter()
                .rev()
                .map(|document| document.target.clone())
                .partition(|target| target.kind != Kind::Namespace);
            Ok(others.into_iter().chain(artifacts).chain(namespaces).collect())
        }
    }
}

fn removed(target: &Target, output: Output) -> String {
    match output {
        Output::Name => target.to_string(),
        Output::Json => {
            json!({"kind": target.kind.name(), "namespace": target.namespace, "name": target.name, "outcome": "deleted"})
                .to_string()
        }
        Output::Table | Output::Wide | Output::Yaml | Output::GeoJson | Output::JsonPath(_) => {
            format!("{target} deleted")
        }
    }
}
