//! QEMU's command line for an emulated board, and the file that plays its flash.

use crate::elf::Elf;
use crate::{Mistake, Table};
use agent_nostd::store::slot::slot_head;
use board::Qemu;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use wire::Digest;
use wire::firmware::ImageHead;
use wire::join::JoinToken;
use wire::limits::{JOIN_SECRET_BYTES, PROVISION_BYTES_MAX};
use wire::provision::{EntropySeed, MacAddress, Network, Provision};
use wire::topic::TokenId;

/// A locally administered address. Every emulated board is alone in its network, so one is enough.
pub const MAC: &str = "02:00:00:00:00:01";
const FLASH_CHUNK_BYTES: usize = 64 * 1024;

/// Program and arguments that run `image` with the storage in `flash`.
pub fn command(table: &Table, image: &Path, flash: &Path, mac: &str) -> Result<(String, Vec<String>), Mistake> {
    let qemu = emulated(table)?;
    let (image, flash) = (image.display().to_string(), flash.display().to_string());
    // QEMU takes a doubled comma in a value for one.
    if let Some(path) = [&image, &flash].into_iter().find(|path| path.contains(',')) {
        return Err(Mistake(format!("QEMU takes no comma in a path: {path}")));
    }
    let fill = |arg: &String| arg.replace("{flash}", &flash).replace("{image}", &image).replace("{mac}", mac);
    Ok((qemu.program.clone(), qemu.args.iter().map(fill).collect()))
}

/// Makes the file of an erased flash, unless there is one; says whether it made one.
pub fn make_flash(table: &Table, flash: &Path) -> Result<bool, Mistake> {
    let bytes = emulated(table)?.flash_file_bytes;
    let told = |error: std::io::Error| Mistake(format!("{}: {error}", flash.display()));
    if let Ok(there) = flash.metadata() {
        if there.len() != bytes {
            return Err(Mistake(format!(
                "{} has {} bytes, a flash of {} has {bytes}: give another file, or remove this one",
                flash.display(),
                there.len(),
                table.name
            )));
        }
        return Ok(false);
    }
    // Under another name first: a file that is there is a whole one.
    let unfinished = flash.with_extension("unfinished");
    let mut file = File::create(&unfinished).map_err(told)?;
    let erased = vec![0xff; FLASH_CHUNK_BYTES];
    let mut left = bytes;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(erased.len());
        file.write_all(&erased[..now]).map_err(told)?;
        left -= now as u64;
    }
    std::fs::rename(&unfinished, flash).map_err(told)?;
    Ok(true)
}

/// The version of firmware that a flasher writes first.
pub const FIRST_VERSION: u32 = 1;

/// Puts an image into the slot that runs, as a flasher does, and forgets a swap that was under way. A board without slots has
/// its image elsewhere.
pub fn write_slot(table: &Table, image: &[u8], version: u32, flash: &Path) -> Result<(), Mistake> {
    let (Some(slot), Some(state)) = (table.partition(board::SLOT_A), table.partition(board::STATE)) else {
        return Ok(());
    };
    let program = Elf::parse(image)?.program(table.program.origin)?;
    let head = ImageHead { board: &table.name, version }.encode();
    let head = head.map_err(|error| Mistake(format!("the head of the image: {error}")))?;
    let image = [&head[..], &program].concat();
    let length = u32::try_from(image.len()).unwrap_or(u32::MAX);
    let content = [&slot_head(&Digest::of(&image), length)[..], &image].concat();
    let (slot_bytes, state_bytes) = (usize::try_from(slot.bytes), usize::try_from(state.bytes));
    let (Ok(slot_bytes), Ok(state_bytes)) = (slot_bytes, state_bytes) else {
        return Err(Mistake("the slots are longer than memory".into()));
    };
    if content.len() > slot_bytes {
        return Err(Mistake(format!("the image has {} bytes, and its slot {slot_bytes}", content.len())));
    }
    let told = |error: std::io::Error| Mistake(format!("{}: {error}", flash.display()));
    let file = File::options().write(true).open(flash).map_err(told)?;
    let begin = emulated(table)?.flash_file_offset;
    let mut content = content;
    content.resize(slot_bytes, 0xff);
    file.write_all_at(&content, begin + slot.offset).map_err(told)?;
    file.write_all_at(&vec![0xff; state_bytes], begin + state.offset).map_err(told)
}

/// Writes a record into the flash whose hub does not exist: the agent starts, and finds nobody.
pub fn provision_for_nobody(table: &Table, flash: &Path) -> Result<(), Mistake> {
    let qemu = emulated(table)?;
    let config = table.partition(board::CONFIG).ok_or_else(|| Mistake("there is no partition config".into()))?;
    // Nobody listens on port 1.
    let broker = format!("mqtt://{}:1", qemu.host);
    let record = Provision {
        board: &table.name,
        name: "measured",
        token: JoinToken {
            id: TokenId([0; 8]),
            secret: [0; JOIN_SECRET_BYTES],
            fleet: "nobody",
            broker: &broker,
            certificate: None,
            hub: Digest([0; 32]),
        },
        position: None,
        mac: MacAddress([2, 0, 0, 0, 0, 1]),
        network: Network::Dhcp,
        wifi: None,
        seed: EntropySeed([1; 32]),
    };
    let mut buffer = [0; PROVISION_BYTES_MAX];
    let bytes = record.encode(&mut buffer).map_err(|error| Mistake(format!("the record: {error}")))?;
    let told = |error: std::io::Error| Mistake(format!("{}: {error}", flash.display()));
    let file = File::options().write(true).open(flash).map_err(told)?;
    file.write_all_at(bytes, qemu.flash_file_offset + config.offset).map_err(told)
}

/// How QEMU plays this board.
pub fn emulated(table: &Table) -> Result<&Qemu, Mistake> {
    table.qemu.as_ref().ok_or_else(|| Mistake(format!("{} is no emulated board", table.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::parse(include_str!("../../qemu-mps2-an386/board.toml")).expect("a right table")
    }

    #[test]
    fn every_place_is_filled_in() {
        let (program, args) = command(&table(), Path::new("/i.elf"), Path::new("/f.bin"), MAC).expect("emulated");
        assert_eq!(program, "qemu-system-arm");
        assert!(args.iter().any(|arg| arg.contains("/f.bin")) && args.iter().any(|arg| arg == "/i.elf"), "{args:?}");
        assert!(args.iter().any(|arg| arg.contains(MAC)) && !args.iter().any(|arg| arg.contains('{')), "{args:?}");
    }

    #[test]
    fn a_path_that_would_add_options_is_refused() {
        assert!(command(&table(), Path::new("/i.elf"), Path::new("/a,share=off"), MAC).is_err());
    }

    #[test]
    fn a_board_of_silicon_is_not_emulated() {
        let table = Table { qemu: None, ..table() };
        assert!(command(&table, Path::new("i"), Path::new("f"), MAC).is_err());
    }

    #[test]
    fn a_flash_is_made_once_and_one_of_another_size_is_refused() {
        let mut table = table();
        if let Some(qemu) = &mut table.qemu {
            qemu.flash_file_bytes = 70_000;
        }
        let path = std::env::temp_dir().join(format!("fulmar-flash-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        assert!(make_flash(&table, &path).expect("made"));
        assert_eq!(std::fs::read(&path).expect("there"), vec![0xff; 70_000]);
        std::fs::write(&path, vec![1; 70_000]).expect("written");
        assert!(!make_flash(&table, &path).expect("kept"));
        assert_eq!(std::fs::read(&path).expect("there"), vec![1; 70_000]);
        std::fs::write(&path, [1; 3]).expect("written");
        assert!(make_flash(&table, &path).is_err());
        std::fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn a_record_for_nobody_is_one_that_a_board_takes() {
        let mut table = table();
        if let Some(qemu) = &mut table.qemu {
            (qemu.flash_file_bytes, qemu.flash_file_offset) = (16_384, 4096);
        }
        let path = std::env::temp_dir().join(format!("fulmar-record-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        make_flash(&table, &path).expect("made");
        provision_for_nobody(&table, &path).expect("written");
        let bytes = std::fs::read(&path).expect("there");
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(bytes[..4096], [0xff; 4096]);
        assert_eq!(Provision::decode(&bytes[4096..]).expect("a record").board, table.name);
    }
}
