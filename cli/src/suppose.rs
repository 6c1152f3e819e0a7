//! `--what-if`: what an explanation is to suppose. `device/NAME.FIELD=VALUE` of devices, or a manifest in place of the workload.
//!
//! The hub knows which fields there are and judges their values; here they only get the shape that JSON wants.

use crate::args::Files;
use crate::artifact;
use crate::client::Client;
use crate::failure::{Failure, Place};
use crate::manifest::{self, Document};
use crate::target::{Target, parse_kind};
use hub::model::Kind;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Takes a value away: `position=null`.
const NOTHING: &str = "null";
const EXPRESSION: &str = "--what-if 'device/NAME.free.memory=256MiB'";

/// All that is to be supposed.
#[derive(Debug, Default)]
pub struct Supposed {
    /// As they were written, for the answer.
    pub texts: Vec<String>,
    overrides: Map<String, Value>,
    document: Option<Document>,
}

pub fn read(texts: &[String], namespace: &str) -> Result<Supposed, Failure> {
    let mut supposed = Supposed { texts: texts.to_vec(), ..Supposed::default() };
    for text in texts {
        match expression(text)? {
            Some((device, field, value)) => {
                let fields = supposed.overrides.entry(device.clone()).or_insert_with(|| json!({}));
                if let Value::Object(fields) = fields
                    && fields.insert(field.clone(), value).is_some()
                {
                    return Err(Failure::usage(format!("{device}.{field} is supposed twice")));
                }
            }
            None if supposed.document.is_some() => {
                return Err(Failure::usage("one manifest can stand for the workload, not two"));
            }
            None => supposed.document = Some(manifest(text, namespace)?),
        }
    }
    Ok(supposed)
}

/// Device, field and value; nothing if it must be a file.
fn expression(text: &str) -> Result<Option<(String, String, Value)>, Failure> {
    let Some((kind, rest)) = text.split_once('/') else { return Ok(None) };
    let (true, Some((place, value))) = (matches!(parse_kind(kind), Ok(Kind::Device)), rest.split_once('=')) else {
        return Ok(None);
    };
    match place.split_once('.') {
        Some((name, field)) if !name.is_empty() && !field.is_empty() => {
            Ok(Some((format!("device/{name}"), field.to_owned(), shaped(field, value))))
        }
        Some(_) | None => Err(Failure::usage(format!("{text:?} names no field of a device")).next(EXPRESSION)),
    }
}

/// What cannot be read as it should be stays text, which the hub refuses with its reason.
fn shaped(field: &str, value: &str) -> Value {
    let text = || Value::String(value.to_owned());
    match field {
        _ if value == NOTHING => Value::Null,
        "approved" | "cordoned" | "draining" => value.parse::<bool>().map_or_else(|_| text(), Value::from),
        "free.slots" | "uncertaintyM" => value.parse::<u64>().map_or_else(|_| text(), Value::from),
        "position" => {
            let numbers: Result<Vec<f64>, _> = value.split(',').map(|number| number.trim().parse::<f64>()).collect();
            numbers.map_or_else(|_| text(), Value::from)
        }
        "taints" => value.split(',').filter(|taint| !taint.is_empty()).map(taint).collect(),
        _ => text(),
    }
}

/// `key=value:Effect` as a Device's manifest has it.
fn taint(text: &str) -> Value {
    let (mark, effect) = text.rsplit_once(':').unwrap_or((text, ""));
    let (key, value) = mark.split_once('=').unwrap_or((mark, ""));
    let mut taint = json!({"key": key});
    for (name, part) in [("value", value), ("effect", effect)] {
        if !part.is_empty() {
            taint[name] = json!(part);
        }
    }
    taint
}

fn manifest(path: &str, namespace: &str) -> Result<Document, Failure> {
    let mut documents = manifest::read_judged(&Files::of(&PathBuf::from(path)), namespace)?;
    let count = documents.len();
    match documents.pop() {
        Some(document) if count == 1 && document.target.kind == Kind::Workload => Ok(document),
        Some(_) | None => Err(Failure::usage(format!("{path} does not describe one workload and nothing else"))
            .why("a manifest of --what-if stands for the workload that is explained")),
    }
}

impl Supposed {
    /// The workload of the manifest, if there is one.
    pub fn workload(&self) -> Option<&Target> {
        self.document.as_ref().map(|document| &document.target)
    }

    /// Sends the modules that the manifest names, as a plan does: the hub judges whole manifests only.
    pub fn send_modules(&mut self, client: &Client) -> Result<(), Failure> {
        let Some(document) = &mut self.document else { return Ok(()) };
        for pin in artifact::pin(std::slice::from_mut(document))? {
            if !artifact::is_known(client, &pin)? {
                artifact::upload(client, &pin)?;
            }
        }
        Ok(())
    }

    /// The question to the hub.
    pub fn question(&self, workload: &Target) -> Value {
        let asked = self.document.as_ref().map_or_else(|| json!(workload.name), |document| document.value.clone());
        json!({"workload": asked, "namespace": workload.namespace, "overrides": self.overrides})
    }

    /// A refusal with its pointers turned into what was written.
    pub fn locate(&self, mut failure: Failure) -> Failure {
        for place in &mut failure.places {
            let pointer = std::mem::take(&mut place.pointer);
            let written = self.texts.iter().find(|text| is_about(text, &pointer));
            *place = match (&self.document, written, pointer.strip_prefix("/workload")) {
                (_, Some(text), _) => {
                    Place { file: format!("--what-if '{text}'"), detail: place.detail.clone(), ..Place::default() }
                }
                (Some(document), None, Some(inside)) => document.source.place(inside, &place.detail),
                (_, None, _) => Place { pointer, ..place.clone() },
            };
        }
        failure
    }
}

/// True if the pointer leads into what this expression supposes.
fn is_about(text: &str, pointer: &str) -> bool {
    let Ok(Some((device, field, _))) = expression(text) else { return false };
    let escaped = |text: &str| text.replace('~', "~0").replace('/', "~1");
    let of_device = format!("/overrides/{}", escaped(&device));
    let of_field = format!("{of_device}/{}", escaped(&field));
    pointer == of_device || pointer == of_field || pointer.strip_prefix(&of_field).is_some_and(|s| s.starts_with('/'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn supposed(texts: &[&str]) -> Result<Supposed, Failure> {
        read(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>(), "default")
    }

    #[test]
    fn expressions_get_the_shape_that_the_hub_wants() {
        let texts = [
            "device/gw-1.free.memory=256Mi",
            "d/gw-1.free.slots=3",
            "dev/gw-1.cordoned=false",
            "device/gw-1.position=8.5,-50",
            "device/gw-2.position=null",
            "device/gw-2.labels.example.com/zone=a=b",
            "device/gw-2.taints=gpu=yes:NoSchedule,wet:NoExecute",
            "device/gw-3.taints=",
            "device/gw-3.approved=perhaps",
        ];
        let question = supposed(&texts).unwrap().question(&Target::new(Kind::Workload, "lab", "w"));
        assert_eq!(
            question,
            json!({"workload": "w", "namespace": "lab", "overrides": {
                "device/gw-1": {"free.memory": "256Mi", "free.slots": 3, "cordoned": false, "position": [8.5, -50.0]},
                "device/gw-2": {"position": null, "labels.example.com/zone": "a=b", "taints": [
                    {"key": "gpu", "value": "yes", "effect": "NoSchedule"}, {"key": "wet", "effect": "NoExecute"}]},
                "device/gw-3": {"taints": [], "approved": "perhaps"},
            }})
        );
    }

    #[test]
    fn what_is_no_expression_is_a_manifest_of_one_workload() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name).display().to_string()
        };
        let region = "apiVersion: fulmar/v1\nkind: Region\nmetadata: {name: r}\nspec: {circle: {center: [8, 50], radiusKm: 1}}\n";
        let workload = "apiVersion: fulmar/v1\nkind: Workload\nmetadata: {name: w}\nspec: {replicas: 3}\n";
        let (region, workload) = (write("r.yaml", region), write("w.yaml", workload));
        let read = supposed(&[&workload]).unwrap();
        assert_eq!(read.workload().map(|target| target.name.as_str()), Some("w"));
        assert_eq!(read.question(read.workload().unwrap())["workload"]["spec"]["replicas"], 3);
        for wrong in [vec![region.as_str()], vec![&workload, &workload], vec!["device/gw-1"], vec!["device/=x"]] {
            assert_eq!(supposed(&wrong).unwrap_err().exit.code(), 2, "{wrong:?}");
        }
        assert_eq!(supposed(&["device/a.class=x", "d/a.class=y"]).unwrap_err().exit.code(), 2, "twice");
    }

    #[test]
    fn a_refusal_names_what_was_written() {
        let supposed = supposed(&["device/a.labels.x/y=1", "device/a.colour=red"]).unwrap();
        let mut failure = Failure::usage("no");
        for pointer in ["/overrides/device~1a/labels.x~1y", "/overrides/device~1a/colour", "/near"] {
            failure.places.push(Place { pointer: pointer.to_owned(), detail: "why".to_owned(), ..Place::default() });
        }
        let places = supposed.locate(failure).places;
        assert_eq!(places[0].file, "--what-if 'device/a.labels.x/y=1'");
        assert_eq!(places[1].file, "--what-if 'device/a.colour=red'");
        assert_eq!(places[2].pointer, "/near");
    }
}
