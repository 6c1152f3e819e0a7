//! `fn push`: a module becomes an artifact of the hub. What no device would run is not uploaded.

use super::args::Push;
use super::{check, project};
use crate::args::{Global, Output};
use crate::artifact::{self, Upload};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{line, say, whole};
use hub::model::Kind;

pub fn run(global: &Global, args: &Push) -> Result<(), Failure> {
    let path = project::module(args.file.as_deref())?;
    check::demand(&path, &check::facts(&check::read(&path)?), &[])?;
    let mut pin = artifact::measure(&path, &global.namespace).map_err(Failure::usage)?;
    if let Some(name) = &args.name {
        pin.target = crate::target::Target::new(Kind::Artifact, &global.namespace, name);
    }
    let client = Client::connect(global)?;
    let upload = artifact::upload(&client, &pin)?;
    if !whole(global.output, &artifact::json(&pin, upload))? {
        match global.output {
            Output::GeoJson => return Err(crate::output::no_geojson()),
            _ => line(&pin.reference())?,
        }
    }
    match upload {
        Upload::Uploaded => say(&format!("uploaded {} bytes", pin.bytes)),
        Upload::Unchanged => say("the hub has it already"),
    }
    Ok(())
}
