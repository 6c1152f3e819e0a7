//! The example is a table with every field; each of its facts, bent once, is refused in its own words.
#![allow(clippy::unwrap_used)]
use crate::{ARTIFACTS, Board, CONFIG, Chip, JOURNAL, Network, Shown, Uf2, Writer, known};

const EXAMPLE: &str = include_str!("../example.toml");

fn bent(from: &str, to: &str) -> Result<Board, String> {
    assert!(EXAMPLE.contains(from), "{from}");
    Board::parse(&EXAMPLE.replacen(from, to, 1)).map_err(|wrong| wrong.why)
}

/// The example with another writer.
fn written_by(writer: &str) -> String {
    let end = EXAMPLE.find("[writer]").unwrap();
    format!("{}[writer]\n{writer}\n", &EXAMPLE[..end])
}

#[test]
fn the_example_is_read_as_it_says() {
    let board = Board::parse(EXAMPLE).unwrap();
    assert_eq!((board.name.as_str(), board.package().as_str()), ("example", "fulmar-example"));
    assert_eq!((board.shown, board.network, board.random), (Shown::Run, Network::Ethernet, false));
    assert_eq!(board.address(board.partition(CONFIG).unwrap()), 0x2100_0000);
    assert_eq!(board.address(board.partition(JOURNAL).unwrap()), 0x2100_1000);
    assert_eq!(board.partition(ARTIFACTS).unwrap().size, 512 * 1024);
    assert_eq!(board.partition("slot-a"), None);
    assert!(matches!(board.writer, Writer::Qemu(qemu) if qemu.host == "192.0.2.2"));
}

#[test]
fn every_writer_has_a_table() {
    let writer = |text: &str| Board::parse(&written_by(text)).unwrap().writer;
    let chip = |chip: &str| Chip { chip: chip.to_owned() };
    let uf2 = Uf2 { family: 0xe48b_ff59, drive: "RP2350".to_owned() };
    assert_eq!(writer("by = \"uf2\"\nfamily = 0xe48bff59\ndrive = \"RP2350\""), Writer::Uf2(uf2));
    assert_eq!(writer("by = \"probe-rs\"\nchip = \"a\""), Writer::ProbeRs(chip("a")));
    assert_eq!(writer("by = \"espflash\"\nchip = \"b\""), Writer::Espflash(chip("b")));
    assert!(Board::parse(&written_by("by = \"floppy\"")).unwrap_err().why.contains("floppy"));
}

#[test]
fn a_table_that_contradicts_itself_is_refused_in_its_own_words() {
    for (from, to, why) in [
        ("name = \"example\"", "name = \"Example\"", "is not a label"),
        ("name = \"example\"", "name = \"\"", "is not a label"),
        ("tls = false", "ssl = false", "unknown field `ssl`"),
        ("shown = \"run\"", "shown = \"maybe\"", "maybe"),
        ("size = 0x40_0000", "size = 0", "[flash] has no size"),
        ("origin = 0x0", "origin = 0xffff_ffff", "[flash] ends behind the last address"),
        ("erase = 4096", "erase = 4098", "erase is not a multiple of write"),
        ("write = 4 ", "write = 0 ", "erase is not a multiple of write"),
        ("size = 0x100_0000", "size = 0x100_0004", "size is not a multiple of erase"),
        ("config = {", "configuration = {", "has no config"),
        ("journal = {", "diary = {", "has no journal"),
        ("artifacts = {", "pictures = {", "partition pictures is unknown"),
        ("offset = 0x1000,", "offset = 0x1010,", "partition journal does not begin and end"),
        ("size = 0x1_0000", "size = 0x1_0010", "partition journal does not begin and end"),
        ("size = 0x1_0000", "size = 0", "partition journal does not begin and end"),
        ("offset = 0x1_1000", "offset = 0x1_0000", "partitions artifacts and journal overlap"),
        ("size = 0x8_0000", "size = 0xffff_f000", "partition artifacts ends behind [storage]"),
        ("flash = 0x10_0000", "flash = 0x40_0001", "[budget] flash is none, or more than there is"),
        ("stack = 0x4000", "stack = 0x3e_0001", "[budget] ram and stack are none, or more"),
        ("stack = 0x4000", "stack = 0", "[budget] ram and stack are none, or more"),
        ("\"{image}\"", "\"image\"", "do not say where the {image} goes"),
        ("mac={mac}", "mac={mca}", "have braces that are not"),
        ("host = \"192.0.2.2\"", "host = \"here\"", "host is not an IPv4 address"),
    ] {
        let got = bent(from, to).unwrap_err();
        assert!(got.contains(why), "{to}: {got}");
    }
    assert!(bent("stack = 0x4000", "stack = 0x3e_0000").is_ok(), "all of the memory");
}

#[test]
fn a_partition_for_the_record_must_hold_one() {
    let small = EXAMPLE
        .replace("erase = 4096", "erase = 512")
        .replace("offset = 0x0, size = 0x1000", "offset = 0x0, size = 0x200");
    let why = Board::parse(&small).unwrap_err().why;
    assert_eq!(why, "partition config has 512 bytes and needs 1024");
}

#[test]
fn an_image_may_not_lie_on_partitions_of_the_same_chip() {
    let shared = EXAMPLE.replace("origin = 0x2100_0000", "origin = 0x0_0000_0");
    // In a file of its own there is nothing that it could lie on.
    assert!(Board::parse(&shared).is_ok());
    let chip = |offset: &str| {
        let text = written_by("by = \"probe-rs\"\nchip = \"a\"").replace("origin = 0x2100_0000", "origin = 0x0");
        let text = text.replace("offset = 0x0,", &format!("offset = {offset},"));
        let text = text.replace("offset = 0x1000,", "offset = 0x20_1000,");
        Board::parse(&text.replace("offset = 0x1_1000,", "offset = 0x30_0000,")).map_err(|wrong| wrong.to_string())
    };
    assert!(chip("0x10_0000").is_ok());
    assert_eq!(
        chip("0xf_f000").unwrap_err(),
        "board.toml of example: an image as large as [budget] flash would lie on partition config"
    );
}

#[test]
fn the_loader_of_uf2_writes_whole_pages() {
    let text = written_by("by = \"uf2\"\nfamily = 1\ndrive = \"D\"").replace("erase = 4096", "erase = 128");
    assert!(Board::parse(&text).unwrap_err().why.contains("pages of UF2"));
}

#[test]
fn every_board_of_this_tree_has_a_table_that_makes_sense() {
    let boards = known().unwrap();
    let mut names: Vec<&str> = boards.iter().map(|board| board.name.as_str()).collect();
    names.dedup();
    assert_eq!(names.len(), boards.len());
    for board in &boards {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../boards").join(&board.name);
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        assert!(manifest.contains(&format!("name = \"{}\"", board.package())), "{} in its own folder", board.name);
    }
}
