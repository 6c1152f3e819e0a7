//! The example is a table with every field; each of its facts, bent once, is refused in its own words.
#![allow(clippy::unwrap_used)]
use crate::{ARTIFACTS, CONFIG, Chip, JOURNAL, Network, PINS_MAX, PinKind, Shown, Table, Uf2, Writer, known};

const EXAMPLE: &str = include_str!("../example.toml");

fn bent(from: &str, to: &str) -> Result<Table, String> {
    assert!(EXAMPLE.contains(from), "{from}");
    Table::parse(&EXAMPLE.replacen(from, to, 1)).map_err(|mistake| mistake.to_string())
}

/// The example with another way in.
fn written_by(writer: &str) -> String {
    let end = EXAMPLE.find("[qemu]\n").unwrap();
    format!("{}{writer}\n", &EXAMPLE[..end])
}

#[test]
fn the_example_is_read_as_it_says() {
    let table = Table::parse(EXAMPLE).unwrap();
    assert_eq!((table.name.as_str(), table.image_name().as_str()), ("example", "fulmar-example"));
    assert_eq!((table.shown, table.network, table.random), (Shown::Run, Network::Ethernet, false));
    assert_eq!(table.address(table.partition(CONFIG).unwrap()), 0x2100_0000);
    assert_eq!(table.address(table.partition(JOURNAL).unwrap()), 0x2100_1000);
    assert_eq!(table.partition(ARTIFACTS).unwrap().bytes, 512 * 1024);
    assert_eq!(table.partition("slot-a"), None);
    let pins: Vec<_> = table.pins.iter().map(|pin| (pin.handle, pin.kind, pin.line, pin.safe)).collect();
    assert_eq!(pins, [(0, PinKind::GpioOut, 0, Some(0)), (1, PinKind::Adc, 3, None)]);
    assert!(matches!(table.writer(), Some(Writer::Qemu(qemu)) if qemu.host == "192.0.2.2"));
}

#[test]
fn every_writer_has_a_table_and_a_board_has_one_writer() {
    let read = |text: &str| Table::parse(&written_by(text)).unwrap();
    let chip = |chip: &str| Chip { chip: chip.to_owned() };
    let uf2 = Uf2 { family: 0xe48b_ff59, drive: "RP2350".to_owned() };
    let table = read("[uf2]\nfamily = 0xe48bff59\ndrive = \"RP2350\"");
    assert_eq!(table.writer(), Some(Writer::Uf2(&uf2)));
    assert_eq!(read("[probe_rs]\nchip = \"a\"").writer(), Some(Writer::ProbeRs(&chip("a"))));
    assert_eq!(read("[espflash]\nchip = \"b\"").writer(), Some(Writer::Espflash(&chip("b"))));
    assert_eq!(read("").writer(), None);
    assert!(Table::parse(&written_by("[floppy]")).unwrap_err().0.contains("floppy"));
    let two = Table::parse(&written_by("[probe_rs]\nchip = \"a\"\n[espflash]\nchip = \"b\""));
    assert!(two.unwrap_err().0.contains("more than one of"));
}

#[test]
fn what_is_not_given_is_the_weaker_claim() {
    let short: String = EXAMPLE
        .lines()
        .filter(|line| !["shown", "network", "tls", "random", "host"].iter().any(|name| line.starts_with(name)))
        .map(|line| format!("{line}\n"))
        .collect();
    let table = Table::parse(&short).unwrap();
    assert_eq!((table.shown, table.tls, table.random), (Shown::Built, false, false));
    assert!(matches!(table.writer(), Some(Writer::Qemu(qemu)) if qemu.host == "192.0.2.2"));
}

#[test]
fn a_table_that_contradicts_itself_is_refused_in_its_own_words() {
    for (from, to, why) in [
        ("name = \"example\"", "name = \"Example\"", "is not a label"),
        ("name = \"example\"", "name = \"\"", "is not a label"),
        ("tls = false", "ssl = false", "unknown field `ssl`"),
        ("shown = \"run\"", "shown = \"maybe\"", "maybe"),
        ("bytes = 0x40_0000", "bytes = 0", "[program] is empty"),
        ("origin = 0x2000_0000", "origin = 0xffff_ffff", "[ram] is empty, or ends behind the last address"),
        ("origin = 0x2100_0000", "origin = 0x7fff_ffff_ffff_ffff", "[storage] is empty, or ends behind"),
        ("erase_bytes = 4096", "erase_bytes = 4098", "are powers of two"),
        ("write_bytes = 4 ", "write_bytes = 0 ", "are powers of two"),
        ("erase_ms = 400 ", "erase_ms = 5001 ", "erase_ms is above"),
        ("write_bytes = 4 ", "write_bytes = 8192 ", "is not the smaller"),
        ("name = \"config\"", "name = \"configuration\"", "partition configuration is unknown; there are config,"),
        ("name = \"config\"", "name = \"slot-a\"", "there must be one partition config"),
        ("name = \"journal\"", "name = \"config\"", "there must be one partition config"),
        ("name = \"journal\"", "name = \"boot\"", "there must be one partition journal"),
        ("offset = 0x1000\n", "offset = 0x0\n", "partition journal begins before the one above it ends"),
        ("offset = 0x1000\n", "offset = 0x1010\n", "partition journal is not made of whole sectors of 4096"),
        ("bytes = 0x1_0000\n", "bytes = 0x1_0010\n", "partition journal is not made of whole sectors"),
        ("bytes = 0x1_0000\n", "bytes = 0\n", "partition journal is not made of whole sectors"),
        ("bytes = 0x8_0000", "bytes = 0x7fff_ffff_ffff_f000", "partition artifacts is not made of whole sectors"),
        ("bytes = 0x8_0000", "bytes = 0xff_0000", "partition artifacts ends beyond storage.bytes"),
        ("handle = 1\n", "handle = 0\n", "handle 0 is there twice"),
        ("kind = \"adc\"", "kind = \"dac\"", "dac"),
        ("safe = 0 ", "safe = 2 ", "pin 0: safe is for outputs, which must have it"),
        ("kind = \"adc\"", "kind = \"pwm\"", "pin 1: safe is for outputs, which must have it"),
        ("kind = \"gpio-out\"", "kind = \"gpio-in\"", "pin 0: safe is for outputs"),
        ("image_bytes = 0x10_0000", "image_bytes = 0x40_0001", "is none, or over program.bytes 4194304"),
        ("image_bytes = 0x10_0000", "image_bytes = 0", "is none, or over program.bytes"),
        ("static_bytes = 0x2_0000", "static_bytes = 0x7fff_ffff_ffff_ffff", "over ram.bytes"),
        ("stack_bytes = 0x4000", "stack_bytes = 0", "no multiple of 8"),
        ("stack_bytes = 0x4000", "stack_bytes = 0x4004", "no multiple of 8"),
        ("functions = true", "functions = false", "only functions have a heap"),
        ("flash_file_bytes = 0x100_0000", "flash_file_bytes = 0x9_0fff", "ends before the partitions do"),
        ("\"{image}\"", "\"image\"", "do not say where the {image} goes"),
        ("mac={mac}", "mac={mca}", "have braces that are not"),
        ("host = \"192.0.2.2\"", "host = \"here\"", "host is not an IPv4 address"),
    ] {
        let got = bent(from, to).unwrap_err();
        assert!(got.contains(why), "{to}: {got}");
    }
    assert!(bent("flash_file_bytes = 0x100_0000", "flash_file_bytes = 0x9_1000").is_ok(), "to the last byte");
    assert!(bent("stack_bytes = 0x4000", "stack_bytes = 0x3a_0000").is_ok(), "all of the memory");
    assert!(bent("stack_bytes = 0x4000", "stack_bytes = 0x3a_0008").is_err());
}

#[test]
fn a_partition_for_the_record_must_hold_one() {
    let small = EXAMPLE.replace("erase_bytes = 4096", "erase_bytes = 512");
    let at = |bytes: &str| Table::parse(&small.replacen("bytes = 0x1000\n", bytes, 1)).map_err(|mistake| mistake.0);
    assert!(at("bytes = 0x400\n").is_ok());
    assert_eq!(at("bytes = 0x200\n").unwrap_err(), "board.toml of example: partition config is shorter than 1024");
}

#[test]
fn an_image_may_not_lie_on_partitions_of_the_same_chip() {
    let shared = EXAMPLE.replace("origin = 0x2100_0000", "origin = 0x0");
    // In a file of its own there is nothing that it could lie on.
    assert!(Table::parse(&shared).is_ok());
    let chip = |origin: &str| {
        let text = written_by("[probe_rs]\nchip = \"a\"");
        Table::parse(&text.replace("origin = 0x2100_0000", origin)).map_err(|mistake| mistake.0)
    };
    assert!(chip("origin = 0x10_0000").is_ok(), "right behind the budget");
    let why = "board.toml of example: an image of budget.image_bytes would lie on partition config";
    assert_eq!(chip("origin = 0xf_f000").unwrap_err(), why);
}

#[test]
fn the_loader_of_uf2_writes_whole_pages() {
    let text = written_by("[uf2]\nfamily = 1\ndrive = \"D\"").replace("erase_bytes = 4096", "erase_bytes = 128");
    assert!(Table::parse(&text).unwrap_err().0.contains("pages of UF2"));
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
        assert!(manifest.contains(&format!("name = \"{}\"", board.image_name())), "{} in its own folder", board.name);
        assert_eq!(Table::read(&folder).as_ref(), Ok(board));
    }
}

/// The example as a board that takes updates.
fn slotted() -> String {
    let parts = "[[storage.partitions]]\nname = \"slot-a\"\noffset = 0x10_0000\nbytes = 0x10_0000\n\n\
                 [[storage.partitions]]\nname = \"slot-b\"\noffset = 0x20_0000\nbytes = 0x10_1000\n\n\
                 [[storage.partitions]]\nname = \"boot\"\noffset = 0x30_1000\nbytes = 0x2000\n\n\
                 [boot]\norigin = 0x0\nbytes = 0x1_0000\nram_bytes = 0x1_0000\n\n[budget]";
    EXAMPLE
        .replacen(
            "[program]                           # where the program is\norigin = 0x0\nbytes = 0x40_0000",
            "[program]\norigin = 0x2110_0400\nbytes = 0xf_fc00",
            1,
        )
        .replacen("[budget]", parts, 1)
        .replacen("image_bytes = 0x10_0000", "image_bytes = 0xf_fc00", 1)
}

#[test]
fn a_board_that_takes_updates_has_all_of_what_that_needs() {
    let text = slotted();
    let table = Table::parse(&text).unwrap();
    assert_eq!(table.boot_name().as_deref(), Some("fulmar-example-boot"));
    assert_eq!(Table::parse(EXAMPLE).unwrap().boot_name(), None);
    for (from, to, why) in [
        ("[boot]\norigin = 0x0\nbytes = 0x1_0000\nram_bytes = 0x1_0000\n", "", "all there, or none of them"),
        ("name = \"slot-b\"", "name = \"artifacts\"", "all there, or none of them"),
        ("origin = 0x2110_0400", "origin = 0x2110_0000", "[program] is not what slot-a has behind its head"),
        ("bytes = 0x10_1000", "bytes = 0x10_0000", "slot-b is not longer than slot-a by a sector of 4096"),
        ("bytes = 0x2000", "bytes = 0x1000", "shorter than the 4104 bytes that a swap notes"),
        ("ram_bytes = 0x1_0000", "ram_bytes = 0x40_0000", "on that of the firmware"),
        ("ram_bytes = 0x1_0000", "ram_bytes = 0", "is none"),
    ] {
        assert!(text.contains(from), "{from}");
        let mistake = Table::parse(&text.replacen(from, to, 1)).unwrap_err().0;
        assert!(mistake.contains(why), "{why}: {mistake}");
    }
    let end = text.find("[qemu]\n").unwrap();
    let silicon = Table::parse(&format!("{}[probe_rs]\nchip = \"a\"\n", &text[..end]));
    assert!(silicon.unwrap_err().0.contains("[boot] goes with [qemu]"));
}

#[test]
fn a_board_has_at_most_as_many_pins_as_a_function_can_drive() {
    let with = |count: usize| {
        let pins: String = (0..count)
            .map(|at| format!("[[pins]]\nhandle = {}\nkind = \"adc\"\nline = 0\nname = \"x\"\n\n", at + 2))
            .collect();
        Table::parse(&EXAMPLE.replacen("[budget]", &format!("{pins}[budget]"), 1))
    };
    assert!(with(PINS_MAX - 2).is_ok());
    assert!(with(PINS_MAX - 1).unwrap_err().0.contains("more than 32 pins"));
}
