//! The drive that an RP2xxx shows while its button is held: found by its INFO_UF2.TXT, written by one file.

use crate::code::Code;
use crate::failure::{Failure, system};
use board::{Table, Uf2};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

const MOUNTS: &str = "/proc/self/mounts";
const INFO_FILE: &str = "INFO_UF2.TXT";
const IMAGE_FILE: &str = "FULMAR.UF2";

/// Where the drive of a board is mounted: the place that was given, or the only one that is the board's.
pub fn find(given: Option<&Path>, uf2: &Uf2, table: &Table) -> Result<PathBuf, Failure> {
    if let Some(given) = given {
        return match board_id(given) {
            Some(id) if id == uf2.drive => Ok(given.to_owned()),
            Some(id) => Err(Failure::usage(format!("{} is the drive of a {id}", given.display()))
                .why(format!("{} shows itself as {}", table.name, uf2.drive))),
            None => Err(none(uf2, table).why(format!("{} has no {INFO_FILE}", given.display()))),
        };
    }
    let mounts = std::fs::read_to_string(MOUNTS).map_err(|error| system(format!("cannot read {MOUNTS}"), &error))?;
    let mut found = among(&mounts, uf2);
    match (found.pop(), found.len()) {
        (Some(drive), 0) => Ok(drive),
        (Some(_), _) => {
            Err(Failure::usage(format!("more than one {} waits in its loader", uf2.drive)).next("--drive DIRECTORY"))
        }
        (None, _) => Err(none(uf2, table)),
    }
}

fn none(uf2: &Uf2, table: &Table) -> Failure {
    Failure::new(Code::Flash, format!("no {} waits in its loader", uf2.drive))
        .next(format!("hold the button BOOTSEL of the {} while it is plugged in, and mount its drive", table.name))
        .next("or name where it is mounted: --drive DIRECTORY")
}

fn among(mounts: &str, uf2: &Uf2) -> Vec<PathBuf> {
    let places = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind) = (fields.next()?, fields.next()?);
        // A space is written as its octal number.
        (kind == "vfat").then(|| PathBuf::from(place.replace("\\040", " ")))
    });
    places.filter(|place| board_id(place).is_some_and(|id| id == uf2.drive)).collect()
}

fn board_id(drive: &Path) -> Option<String> {
    let text = std::fs::read_to_string(drive.join(INFO_FILE)).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Board-ID:")).map(|id| id.trim().to_owned())
}

/// Copies the file. The chip starts with its last block, and its drive goes away: that is no failure.
pub fn write(drive: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let path = drive.join(IMAGE_FILE);
    let cannot = |error: std::io::Error| system(format!("cannot write {}", path.display()), &error);
    let mut file = std::fs::File::create(&path).map_err(cannot)?;
    file.write_all(bytes).map_err(cannot)?;
    match file.sync_all() {
        Err(error) if path.exists() && error.kind() != ErrorKind::NotFound => Err(cannot(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::image::tests::table;
    use super::*;

    fn uf2() -> Uf2 {
        Uf2 { family: 1, drive: "RP2350".to_owned() }
    }

    fn drive(folder: &Path, name: &str, id: &str) -> PathBuf {
        let place = folder.join(name);
        std::fs::create_dir(&place).unwrap();
        let info = format!("UF2 Bootloader v1.0\nModel: Raspberry Pi\nBoard-ID: {id}\r\n");
        std::fs::write(place.join(INFO_FILE), info).unwrap();
        place
    }

    #[test]
    fn a_drive_is_found_by_what_it_says_of_itself() {
        let folder = tempfile::tempdir().unwrap();
        let right = drive(folder.path(), "with space", "RP2350");
        let other = drive(folder.path(), "other", "RPI-RP2");
        let plain = folder.path().join("plain");
        std::fs::create_dir(&plain).unwrap();
        let place = |path: &Path| path.display().to_string().replace(' ', "\\040");
        let mounts = format!(
            "/dev/sda1 {} vfat rw 0 0\n/dev/sdb1 {} vfat rw 0 0\n/dev/sdc1 {} vfat rw 0 0\n/dev/sdd1 {} ext4 rw 0 0\nshort\n",
            place(&other),
            place(&plain),
            place(&right),
            place(&right),
        );
        assert_eq!(among(&mounts, &uf2()), std::slice::from_ref(&right));
        assert_eq!(find(Some(&right), &uf2(), &table()).unwrap(), right);
        assert!(find(Some(&other), &uf2(), &table()).unwrap_err().what.contains("the drive of a RPI-RP2"));
        assert_eq!(find(Some(&plain), &uf2(), &table()).unwrap_err().code, "FLASH");
    }

    #[test]
    fn a_drive_gets_one_file() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), b"blocks").unwrap();
        assert_eq!(std::fs::read(folder.path().join(IMAGE_FILE)).unwrap(), b"blocks");
        assert_eq!(write(&folder.path().join("gone"), b"").unwrap_err().code, "SYSTEM");
    }
}
