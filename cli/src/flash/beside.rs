//! The emulated boards of `fulmar up --demo --qemu N`: flashed at the first start, given power at every one, ended with the hub.

use super::args::Flash;
use super::emulator::{Emulator, Facts};
use super::image::Image;
use super::record::{self, Lot};
use super::{Known as Found, Way, lookup, mac_text, tool, way};
use crate::client::Client;
use crate::companion::Companion;
use crate::device::join_token;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::say;
use crate::running::Known;
use crate::show::text;
use crate::target::Target;
use hub::model::Kind;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A loaded machine needs some time to start several.
const TOKEN_LIFE: &str = "10m";
/// Where they stand, longitude and latitude: as many as there can be.
const PLACES: [&str; 8] = [
    "11.5755,48.1372",
    "9.9937,53.5511",
    "16.3738,48.2082",
    "8.5417,47.3769",
    "9.1900,45.4642",
    "14.4378,50.0755",
    "21.0122,52.2297",
    "-3.7038,40.4168",
];
pub const BOARDS_MAX: usize = PLACES.len();

/// Boards that will be started, with everything that can be missing found.
pub struct Plan {
    found: Found,
    image: PathBuf,
    boards: Vec<(String, Emulator)>,
}

/// Looks for emulator and firmware, before anything starts.
pub fn plan(data: &Path, count: usize, board: &str, image: Option<&Path>) -> Result<Plan, Failure> {
    let found = lookup(board)?;
    let table = &found.0;
    if !matches!(way(&Flash::of(board), table)?, Way::Emulator) {
        return Err(Failure::usage(format!("{board} is not emulated")).next("fulmar boards"));
    }
    let image = match image {
        Some(image) => image.to_owned(),
        None => tool::build(table)?,
    };
    Image::read(&image, table)?;
    let names = (1..=count).map(|number| format!("{}-{number}", table.name));
    let boards: Result<Vec<_>, Failure> = names.map(|name| Ok((name.clone(), Emulator::of(data, &name)?))).collect();
    Ok(Plan { image, boards: boards?, found })
}

impl Plan {
    /// Where those that were flashed look for the hub.
    pub fn known(&self) -> Option<Known> {
        let facts = self.boards.iter().find_map(|(_, emulator)| emulator.facts().ok())?;
        Some(Known { broker: facts.broker, artifacts: facts.server })
    }

    /// Gives all of them power; they end with what is given back.
    pub fn start(&self, client: &Client) -> Result<(Vec<Companion>, BTreeSet<String>), Failure> {
        let mut companions = Vec::new();
        for ((name, emulator), place) in self.boards.iter().zip(PLACES) {
            // One that `fulmar boards start` left behind.
            emulator.stop()?;
            if !is_device(client, name)? || emulator.facts().is_err() {
                self.flash(client, name, emulator, place)?;
            }
            companions.push(emulator.start_beside()?);
        }
        Ok((companions, self.boards.iter().map(|(name, _)| name.clone()).collect()))
    }

    fn flash(&self, client: &Client, name: &str, emulator: &Emulator, place: &str) -> Result<(), Failure> {
        let (table, table_text) = &self.found;
        let was_flashed = emulator.facts().is_ok();
        if was_flashed {
            say(&format!("{name} is no longer a device of this hub, and is flashed anew"));
        }
        let args = Flash { at: Some(place.to_owned()), ..Flash::of(&table.name) };
        let answer = join_token(client, TOKEN_LIFE, true, &json!({"demo": "true", "board": table.name}))?;
        let token = text(&answer, "/token");
        let lot = Lot::draw()?;
        let bytes = record::record(&args, table, name, &token, &lot)?;
        let facts = Facts {
            name: name.to_owned(),
            board: table.name.clone(),
            mac: mac_text(&lot),
            broker: record::broker_of(&token)?,
            server: client.endpoint().server.clone(),
        };
        // What such a device has kept is of no use to the one that it becomes.
        emulator.prepare((table, table_text), &facts, &self.image, &bytes, was_flashed)
    }
}

fn is_device(client: &Client, name: &str) -> Result<bool, Failure> {
    match client.get(&Target::new(Kind::Device, "", name).path()) {
        Ok(_) => Ok(true),
        Err(failure) if failure.exit == Exit::NotFound => Ok(false),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_missing_is_said_before_anything_starts() {
        let data = tempfile::tempdir().unwrap();
        let failure = plan(data.path(), 1, "toaster", None).err().unwrap();
        assert_eq!(failure.code, "NO_BOARD");
        let folder = data.path().join("silicon");
        std::fs::create_dir(&folder).unwrap();
        let example = super::super::image::tests::EXAMPLE;
        let missing = example.replace("program = \"qemu-system-arm\"", "program = \"qemu-system-nonexistent\"");
        std::fs::write(folder.join(board::FILE), missing).unwrap();
        let failure = plan(data.path(), 1, folder.to_str().unwrap(), None).err().unwrap();
        assert_eq!(failure.code, "NO_TOOL");
    }

    #[test]
    fn every_board_has_a_place_of_its_own() {
        let places: BTreeSet<&str> = PLACES.into_iter().collect();
        assert_eq!(places.len(), BOARDS_MAX);
    }
}
