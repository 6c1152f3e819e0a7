//! Firmware for a board with two slots: the image that is sent over the air, and the slot that a flasher writes it into.

use super::image::{Image, Part};
use super::storage;
use crate::code::Code;
use crate::failure::Failure;
use agent_nostd::store::slot::slot_head;
use board::{SLOT_A, STATE, Table};
use wire::Digest;
use wire::firmware::ImageHead;

/// What a flasher writes; updates count up from it.
pub const FIRST_VERSION: u32 = 1;

/// An image with its head, as devices keep it; gaps in the program are filled with ones.
pub fn encode(table: &Table, image: &Image, version: u32) -> Result<Vec<u8>, Failure> {
    let wrong = |why: String| Failure::new(Code::Image, format!("there is no such image for {}", table.name)).why(why);
    if table.boot.is_none() {
        return Err(wrong("it has one place for firmware, so that a cable is the only way to another one".to_owned())
            .next(format!("fulmar flash --board {}", table.name)));
    }
    let head = ImageHead { board: &table.name, version }.encode();
    let mut out = head.map_err(|error| wrong(format!("its version is {version}: {error}")))?.to_vec();
    let begin = out.len();
    for part in &image.0 {
        // Checked when the image was read: all of it lies in the program's memory.
        let at = usize::try_from(part.address.saturating_sub(table.program.origin)).unwrap_or(usize::MAX);
        out.resize(out.len().max(begin.saturating_add(at)), 0xff);
        out.truncate(begin.saturating_add(at));
        out.extend(&part.bytes);
    }
    Ok(out)
}

/// The slot that runs with an image in it, and no swap under way: what a flasher writes besides the record.
pub fn parts(table: &Table, image: &[u8]) -> Result<Vec<Part>, Failure> {
    let length = u32::try_from(image.len()).unwrap_or(u32::MAX);
    let content = [&slot_head(&Digest::of(image), length)[..], image].concat();
    let part = |name, content: &[u8]| {
        let place = table.partition(name)?;
        Some(Part { address: table.address(place), bytes: storage::partition(place, content)? })
    };
    let parts = part(SLOT_A, &content).zip(part(STATE, &[]));
    parts.map(|(slot, state)| vec![slot, state]).ok_or_else(|| {
        Failure::new(Code::Image, format!("{} bytes do not fit into {SLOT_A} of {}", content.len(), table.name))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::image::tests::table;
    use super::*;

    fn board() -> Table {
        Table::parse(board::text("qemu-mps2-an386").unwrap()).unwrap()
    }

    #[test]
    fn an_image_is_its_head_and_its_program_without_gaps() {
        let table = board();
        let part = |at: u64, bytes: &[u8]| Part { address: table.program.origin + at, bytes: bytes.to_vec() };
        let image = encode(&table, &Image(vec![part(0, b"code"), part(6, b"data")]), 7).unwrap();
        assert_eq!(&image[768..], b"code\xff\xffdata");
        let head = ImageHead::decode(&image).unwrap();
        assert_eq!((head.board, head.version), ("qemu-mps2-an386", 7));
        let parts = parts(&table, &image).unwrap();
        assert_eq!(parts[0].address + 1024, table.program.origin);
        assert_eq!(&parts[0].bytes[1024..1035], b"code\xff\xffdata\xff");
        assert!(parts[1].bytes.iter().all(|byte| *byte == 0xff) && parts[1].address == 0x2130_1000);
    }

    #[test]
    fn a_board_with_one_place_takes_none_and_zero_is_no_version() {
        let failure = encode(&table(), &Image(Vec::new()), 1).unwrap_err();
        assert!(failure.next[0].contains("fulmar flash"), "{failure:?}");
        assert_eq!(encode(&board(), &Image(Vec::new()), 0).unwrap_err().code, "IMAGE");
        let long = vec![0; 0x10_0000];
        assert_eq!(parts(&board(), &long).unwrap_err().code, "IMAGE");
    }
}
