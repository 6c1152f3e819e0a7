//! The flash of a board as bytes: a partition's image, and for emulated boards the file that plays the whole flash.
//!
//! A flasher touches `config` and nothing else. What the device keeps for itself stays, unless everything is to be erased.

use super::image::Part;
use crate::code::Code;
use crate::failure::{Failure, system};
use board::{CONFIG, Partition, Qemu, Table};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use wire::limits::PROVISION_BYTES_MAX;

const ERASED: u8 = 0xff;
// Whatever a table says that passes its check, a record has room.
const _: () = assert!(PROVISION_BYTES_MAX as u64 <= board::CONFIG_BYTES_MIN);

/// A partition that holds `content` and is erased behind it. `None`: it has no room.
pub fn partition(partition: &Partition, content: &[u8]) -> Option<Vec<u8>> {
    let length = usize::try_from(partition.bytes).ok()?;
    let mut out = content.to_vec();
    (content.len() <= length).then(|| {
        out.resize(length, ERASED);
        out
    })
}

/// The partition `config` with a record, at its address on the board.
pub fn config(table: &Table, record: &[u8]) -> Result<Part, Failure> {
    let place = table.partition(CONFIG);
    let content = place.and_then(|place| Some((table.address(place), partition(place, record)?)));
    content.map(|(address, bytes)| Part { address, bytes }).ok_or_else(|| {
        // Only for a table that was not checked.
        Failure::new(Code::Board, format!("{} has no room for a provisioning record", table.name))
    })
}

/// Every other partition, erased.
pub fn erased(table: &Table) -> Vec<Part> {
    let others = table.storage.partitions.iter().filter(|partition| partition.name != CONFIG);
    others.filter_map(|place| Some(Part { address: table.address(place), bytes: partition(place, &[])? })).collect()
}

/// Puts a record into the flash file, which is made if there is none, or if everything is to be erased.
pub fn write(table: &Table, qemu: &Qemu, path: &Path, record: &[u8], erases: bool) -> Result<(), Failure> {
    let config = config(table, record)?;
    let cannot = |error: std::io::Error| system(format!("cannot write {}", path.display()), &error);
    if erases || !path.exists() {
        make(path, qemu.flash_file_bytes).map_err(cannot)?;
    }
    let mut file = OpenOptions::new().write(true).open(path).map_err(cannot)?;
    let length = file.metadata().map_err(cannot)?.len();
    if length != qemu.flash_file_bytes {
        return Err(Failure::new(Code::Board, format!("{} is not the flash of a {}", path.display(), table.name))
            .why(format!("it has {length} bytes, and that flash has {}", qemu.flash_file_bytes))
            .next("--erase    (makes it anew; what the device keeps is lost)"));
    }
    let at = qemu.flash_file_offset + (config.address - table.storage.origin);
    file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(&config.bytes)).map_err(cannot)?;
    file.sync_all().map_err(cannot)
}

/// Puts parts into a flash file that is there.
pub fn put(table: &Table, qemu: &Qemu, path: &Path, parts: &[Part]) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| system(format!("cannot write {}", path.display()), &error);
    let mut file = OpenOptions::new().write(true).open(path).map_err(cannot)?;
    for part in parts {
        let at = qemu.flash_file_offset + (part.address - table.storage.origin);
        file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(&part.bytes)).map_err(cannot)?;
    }
    file.sync_all().map_err(cannot)
}

/// An erased flash; whole or not at all.
fn make(path: &Path, length: u64) -> std::io::Result<()> {
    let aside = path.with_extension("new");
    let mut file = File::create(&aside)?;
    let copied = std::io::copy(&mut std::io::repeat(ERASED).take(length), &mut file)?;
    if copied != length {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    file.sync_all()?;
    std::fs::rename(aside, path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::image::tests::{EXAMPLE, table};
    use super::*;

    fn small() -> Table {
        Table::parse(&EXAMPLE.replace("flash_file_offset = 0 ", "flash_file_offset = 0x2000 ")).unwrap()
    }

    #[test]
    fn a_partition_is_its_content_and_erased_behind_it() {
        let place = Partition { name: "config".to_owned(), offset: 0, bytes: 8 };
        assert_eq!(partition(&place, b"abc").unwrap(), b"abc\xff\xff\xff\xff\xff");
        assert_eq!(partition(&place, b"12345678").unwrap(), b"12345678");
        assert_eq!(partition(&place, b"123456789"), None);
    }

    #[test]
    fn parts_are_where_the_board_has_its_partitions() {
        let part = config(&table(), b"record").unwrap();
        assert_eq!((part.address, part.bytes.len()), (0x2100_0000, 0x1000));
        assert!(part.bytes.starts_with(b"record\xff"));
        let others = erased(&table());
        let places: Vec<(u64, usize)> = others.iter().map(|part| (part.address, part.bytes.len())).collect();
        assert_eq!(places, [(0x2100_1000, 0x1_0000), (0x2101_1000, 0x8_0000)]);
        assert!(others.iter().flat_map(|part| &part.bytes).all(|byte| *byte == ERASED));
        let failure = config(&table(), &[0; 0x1001]).unwrap_err();
        assert_eq!(failure.code, "BOARD");
    }

    #[test]
    fn a_flash_file_is_made_erased_and_keeps_what_the_device_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flash.bin");
        let table = small();
        let qemu = table.qemu.as_ref().unwrap();
        write(&table, qemu, &path, b"first record", false).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 0x100_0000);
        let expected = |at: usize| if (0x2000..0x200c).contains(&at) { b"first record"[at - 0x2000] } else { ERASED };
        assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == expected(at)));
        // The device writes into its journal.
        let mut kept = bytes;
        kept[0x3000..0x3004].copy_from_slice(b"mine");
        std::fs::write(&path, &kept).unwrap();
        write(&table, qemu, &path, b"2nd", false).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(&bytes[0x2000..0x2010], b"2nd\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
        assert_eq!(&bytes[0x3000..0x3004], b"mine");
        write(&table, qemu, &path, b"3rd", true).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!((&bytes[0x2000..0x2003], &bytes[0x3000..0x3004]), (&b"3rd"[..], &b"\xff\xff\xff\xff"[..]));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left aside");
    }

    #[test]
    fn a_file_of_another_length_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flash.bin");
        std::fs::write(&path, b"short").unwrap();
        let table = small();
        let failure = write(&table, table.qemu.as_ref().unwrap(), &path, b"record", false).unwrap_err();
        assert_eq!((failure.code.as_str(), failure.next.len()), ("BOARD", 1));
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
    }

    #[test]
    fn whatever_was_written_is_a_record_that_the_device_reads() {
        let place = Partition { name: "config".to_owned(), offset: 0, bytes: 4096 };
        let bytes = partition(&place, b"").unwrap();
        assert_eq!(wire::provision::Provision::decode(&bytes), Err(wire::provision::ProvisionError::Absent));
    }
}
