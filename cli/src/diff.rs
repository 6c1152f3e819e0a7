//! `diff`: what `apply` would change, field by field. The hub computes what the objects would become; nothing is stored.

use crate::apply::{FieldManager, dry_run};
use crate::args::{Diff, Global, Output};
use crate::artifact;
use crate::changes::{self, Change};
use crate::client::Client;
use crate::code::Code;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::manifest::{self, Document};
use crate::output::{line, no_geojson, print, warn, whole};
use crate::show::number;
use serde_json::{Value, json};

/// One object that would change.
struct Difference<'a> {
    document: &'a Document,
    is_new: bool,
    generations: (u64, u64),
    changes: Vec<Change>,
}

pub fn run(global: &Global, args: &Diff) -> Result<(), Failure> {
    let mut documents = manifest::read_judged(&args.source, &global.namespace)?;
    let file_pointers: Vec<Vec<String>> = documents.iter().map(artifact::file_pointers).collect();
    artifact::pin(&mut documents)?;
    let client = &Client::connect(global)?;
    let manager = FieldManager { name: &args.owner.field_manager, force: args.owner.force_conflicts };
    let judged = dry_run(client, &documents, &file_pointers, &manager)?;
    let mut differences = Vec::new();
    for (document, written) in documents.iter().zip(&judged) {
        let before = match client.get(&document.target.path()) {
            Ok(before) => before,
            Err(failure) if failure.exit == Exit::NotFound => Value::Null,
            Err(failure) => return Err(failure),
        };
        let (changes, after) = match written {
            Some(written) => (changes::between(&before, &written.document), &written.document),
            // An artifact has to be sent first; the hub cannot say more before that.
            None => (changes::wanted(&before, &document.value), &before),
        };
        let generation = |document: &Value| number(document, "/metadata/generation");
        if !changes.is_empty() || before.is_null() {
            let generations = (generation(&before), generation(after));
            differences.push(Difference { document, is_new: before.is_null(), generations, changes });
        }
    }
    show(global, &differences)?;
    if args.exit_code && !differences.is_empty() {
        return Err(Failure::new(Code::Changes, "there are differences"));
    }
    Ok(())
}

fn show(global: &Global, differences: &[Difference<'_>]) -> Result<(), Failure> {
    let items: Vec<Value> = differences
        .iter()
        .map(|difference| {
            let target = &difference.document.target;
            json!({
                "kind": target.kind.name(), "namespace": target.namespace, "name": target.name,
                "action": if difference.is_new { "create" } else { "update" },
                "generation": {"from": difference.generations.0, "to": difference.generations.1},
                "fields": changes::json(&difference.changes),
            })
        })
        .collect();
    if whole(global.output, &json!({"changes": items}))? {
        return Ok(());
    }
    match global.output {
        Output::GeoJson => return Err(no_geojson()),
        Output::Name => {
            return differences.iter().try_for_each(|difference| line(&difference.document.target.to_string()));
        }
        _ => {}
    }
    if differences.is_empty() {
        warn("no differences");
    }
    for difference in differences {
        let target = &difference.document.target;
        let (from, to) = difference.generations;
        let head = match (difference.is_new, from == to) {
            (true, _) => format!("+ {target}\n"),
            (false, true) => format!("~ {target}\n"),
            (false, false) => format!("~ {target}   generation {from} -> {to}\n"),
        };
        print(&format!("{head}{}", changes::lines(&difference.changes)))?;
    }
    Ok(())
}
