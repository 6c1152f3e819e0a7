//! `apply`: all documents are judged first, then namespaces are made, then the artifacts are sent, then regions, devices and
//! workloads are written.
//!
//! If one document is not valid nothing is changed at all; what is to be in a new namespace can only be judged when that is
//! there, and is judged whole before anything else is written.

use crate::args::{Apply, DryRun, Global, Output};
use crate::artifact::{self, Pin, Upload};
use crate::client::{Client, Written};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::judge;
use crate::manifest::{self, Document};
use crate::output::{line, say, warn, whole};
use crate::plan;
use crate::show::number;
use crate::swapped;
use crate::target::{Target, with_query};
use crate::wait;
use hub::model::Kind;
use serde_json::{Value, json};

/// Whose fields these are.
#[derive(Clone, Copy, Debug)]
pub struct FieldManager<'a> {
    pub name: &'a str,
    pub force: bool,
}

/// Whether the hub keeps what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    Store,
    Judge,
}

pub fn run(global: &Global, args: &Apply) -> Result<(), Failure> {
    let timeout = global.timeout.unwrap_or(wait::TIMEOUT_DEFAULT);
    if let Some(path) = &args.plan {
        let client = &Client::connect(global)?;
        let workloads = plan::apply(client, path, global.output)?;
        return match args.wait && !workloads.is_empty() {
            true => wait::until_running(client, &workloads, timeout, global.output),
            false => Ok(()),
        };
    }
    let mut documents = manifest::read_judged(&args.source, &global.namespace)?;
    let file_pointers: Vec<Vec<String>> = documents.iter().map(artifact::file_pointers).collect();
    let pins = artifact::pin(&mut documents)?;
    if args.dry_run == Some(DryRun::Client) {
        return judged_here(global.output, &documents);
    }
    let client = &Client::connect(global)?;
    let manager = FieldManager { name: &args.owner.field_manager, force: args.owner.force_conflicts };
    let judged = dry_run(client, &documents, &file_pointers, &manager)?;
    swapped::warnings(client, &documents).iter().for_each(|warning| warn(&format!("warning: {warning}")));
    let mut results = Vec::new();
    if args.dry_run == Some(DryRun::Server) {
        for pin in &pins {
            let upload = if artifact::is_known(client, pin)? { Upload::Unchanged } else { Upload::Uploaded };
            results.push(shown_artifact(pin, upload, global.output, " (dry run)")?);
        }
        for (document, written) in documents.iter().zip(&judged) {
            results.push(shown(&document.target, written.as_ref(), global.output, " (dry run)")?);
        }
        return finish(global.output, &results);
    }
    // Documents come in the order of their kinds.
    let (namespaces, others) = documents.split_at(documents.partition_point(is_namespace));
    for document in namespaces {
        results.push(store(client, document, &manager, global.output)?);
    }
    if judged.iter().any(Option::is_none) && !namespaces.is_empty() {
        let pointers = file_pointers.get(namespaces.len()..).unwrap_or_default();
        dry_run(client, others, pointers, &manager).map_err(|failure| failure.why("but for namespaces"))?;
    }
    for pin in &pins {
        let upload = artifact::upload(client, pin)?;
        results.push(shown_artifact(pin, upload, global.output, "")?);
    }
    for document in others {
        results.push(store(client, document, &manager, global.output)?);
    }
    finish(global.output, &results)?;
    if !args.wait {
        return Ok(());
    }
    let workloads: Vec<Target> = documents
        .iter()
        .map(|document| document.target.clone())
        .filter(|target| target.kind == Kind::Workload)
        .collect();
    if workloads.is_empty() {
        return Ok(());
    }
    wait::until_running(client, &workloads, timeout, global.output)
}

fn is_namespace(document: &Document) -> bool {
    document.target.kind == Kind::Namespace
}

/// Writes one document, and tells what became of it.
fn store(client: &Client, document: &Document, manager: &FieldManager<'_>, output: Output) -> Result<Value, Failure> {
    let written = send(client, document, manager, Keeping::Store);
    let written = written.map_err(|failure| document.source.locate(failure))?;
    for warning in &written.warnings {
        warn(&format!("warning: {}: {warning}", document.target));
    }
    shown(&document.target, Some(&written), output, "")
}

/// Makes the namespace that a module is to be in, if the documents have it and the hub has not.
pub fn make_namespace(
    client: &Client,
    documents: &[Document],
    name: &str,
    manager: &FieldManager<'_>,
) -> Result<(), Failure> {
    let Some(document) = documents.iter().find(|document| is_namespace(document) && document.target.name == name)
    else {
        return Ok(());
    };
    match client.get(&document.target.path()) {
        Err(failure) if failure.exit == Exit::NotFound => {}
        other => return other.map(|_| ()),
    }
    let written = send(client, document, manager, Keeping::Store);
    written.map_err(|failure| document.source.locate(failure))?;
    say(&format!("{} was made already: the modules of the plan are kept in it", document.target));
    Ok(())
}

/// Server-side apply: the hub merges what this manager says with what others own.
fn send(
    client: &Client,
    document: &Document,
    manager: &FieldManager<'_>,
    keeping: Keeping,
) -> Result<Written, Failure> {
    let parameters = [
        ("fieldManager", Some(manager.name.to_owned())),
        ("force", manager.force.then(|| "true".to_owned())),
        ("dryRun", (keeping == Keeping::Judge).then(|| "server".to_owned())),
    ];
    client.apply(&with_query(&document.target.path(), &parameters), &document.value).map_err(|mut failure| {
        if failure.code == "FIELD_CONFLICT" {
            failure.next = vec![
                format!("fulmar get {} --show-managed-fields -o yaml", document.target),
                "leave these fields out, or take them over: fulmar apply --force-conflicts -f ...".to_owned(),
            ];
        }
        failure
    })
}

/// Without any hub: what its reader finds is told, and what would be sent.
fn judged_here(output: Output, documents: &[Document]) -> Result<(), Failure> {
    let mut results = Vec::new();
    for document in documents {
        for warning in judge::judge(document).warnings {
            warn(&format!("warning: {}: {warning}", document.target));
        }
        results.push(shown(&document.target, None, output, " (dry run of the client)")?);
    }
    finish(output, &results)
}

/// Lets the hub judge every document without a change; all mistakes of all documents at once. `None` where only an
/// artifact is missing that has not been sent yet, or the namespace that one of the documents makes.
pub fn dry_run(
    client: &Client,
    documents: &[Document],
    file_pointers: &[Vec<String>],
    manager: &FieldManager<'_>,
) -> Result<Vec<Option<Written>>, Failure> {
    let mut judged = Vec::new();
    let mut refused: Option<Failure> = None;
    for (document, pinned) in documents.iter().zip(file_pointers) {
        match send(client, document, manager, Keeping::Judge) {
            Ok(written) => judged.push(Some(written)),
            Err(failure) if only_about(&failure, pinned) || is_made_here(&failure, document, documents) => {
                judged.push(None);
            }
            // No hub, no right, no space: the next document would fare the same.
            Err(failure) if failure.exit == Exit::Failure => return Err(failure),
            Err(failure) => {
                let failure = named(document.source.locate(failure), &document.target, documents.len());
                match &mut refused {
                    None => refused = Some(failure),
                    Some(first) => {
                        first.places.extend(failure.places);
                        first.why.extend(failure.why);
                        first.next.extend(failure.next);
                    }
                }
            }
        }
    }
    match refused {
        None => Ok(judged),
        Some(failure) => Err(failure.why("nothing was changed")),
    }
}

/// A refusal without a place says which document it is about.
fn named(mut failure: Failure, target: &Target, count: usize) -> Failure {
    if failure.places.is_empty() && count > 1 {
        for why in &mut failure.why {
            *why = format!("{target}: {why}");
        }
    }
    failure
}

fn only_about(failure: &Failure, pointers: &[String]) -> bool {
    !failure.places.is_empty() && failure.places.iter().all(|place| pointers.contains(&place.pointer))
}

fn is_made_here(failure: &Failure, document: &Document, documents: &[Document]) -> bool {
    let is_it = |other: &Document| is_namespace(other) && other.target.name == document.target.namespace;
    failure.code == "NAMESPACE_NOT_FOUND" && documents.iter().any(is_it)
}

/// What happened to one object, in words of the field: an update is "configured".
fn outcome_text(written: Option<&Written>) -> &str {
    match written.map(|written| written.outcome.as_str()) {
        Some("updated") => "configured",
        Some(other) => other,
        None => "accepted",
    }
}

fn shown(target: &Target, written: Option<&Written>, output: Output, note: &str) -> Result<Value, Failure> {
    let outcome = outcome_text(written);
    let generation = written.map_or(0, |written| number(&written.document, "/metadata/generation"));
    match output {
        Output::Table | Output::Wide if generation > 0 => {
            line(&format!("{target} {outcome} (generation {generation}){note}"))?
        }
        Output::Table | Output::Wide => line(&format!("{target} {outcome}{note}"))?,
        Output::Name => line(&target.to_string())?,
        Output::Json | Output::Yaml | Output::GeoJson | Output::JsonPath(_) => {}
    }
    Ok(json!({
        "kind": target.kind.name(),
        "namespace": target.namespace,
        "name": target.name,
        "outcome": outcome,
        "generation": generation,
        "warnings": written.map(|written| written.warnings.clone()).unwrap_or_default(),
    }))
}

fn shown_artifact(pin: &Pin, upload: Upload, output: Output, note: &str) -> Result<Value, Failure> {
    match output {
        Output::Table | Output::Wide => {
            line(&format!(
                "{} {}  {}  ({}){note}",
                pin.target,
                upload.text(),
                pin.reference(),
                crate::show::bytes(pin.bytes)
            ))?;
        }
        Output::Name => line(&pin.target.to_string())?,
        Output::Json | Output::Yaml | Output::GeoJson | Output::JsonPath(_) => {}
    }
    Ok(artifact::json(pin, upload))
}

fn finish(output: Output, results: &[Value]) -> Result<(), Failure> {
    whole(output, &json!({"results": results})).map(|_| ())
}
