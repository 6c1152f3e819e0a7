//! `boards`, `flash` and `monitor`: from a board's table and the hub's token to a device that the hub has seen.
//!
//! Everything that can be refused is refused before the hub is asked for a token and before anything is written.

mod args;
pub mod beside;
mod drive;
pub mod emulator;
mod follow;
mod image;
mod monitor;
mod record;
mod serial;
mod slot;
mod storage;
mod tool;
mod uf2;

pub use args::{Boards, BoardsVerb, Flash, Monitor};
pub use monitor::run as monitor;

use crate::args::{Global, Output};
use crate::client::Client;
use crate::code::Code;
use crate::device::{join_token, labels_of};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{line, print, print_table, say, whole};
use crate::show::{bytes, text};
use crate::table::Table as Rows;
use crate::target::Target;
use crate::wait::seconds;
use board::{ARTIFACTS, JOURNAL, Network, PinKind, Shown, Table, Writer};
use emulator::{Emulator, Facts};
use follow::{Board, Seen};
use hub::model::Kind;
use image::{Image, Part};
use record::Lot;
use serde_json::{Value, json};
use serial::Port;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Of the token with which the board joins: it may be carried to where it will stand.
const TOKEN_LIFE: &str = "24h";
/// Numbers that are tried for a device without a name.
const NAMES_MAX: usize = 99;
const SERIAL_BAUD: u32 = 115_200;
const SERIAL_PATIENCE: Duration = Duration::from_millis(1);
/// Lines of a serial port that are kept for a failure.
const SERIAL_LINES_MAX: usize = 16;

/// A table that was found, and its text.
pub type Known = (Table, String);

/// A board by its name, or by the folder that has its table.
pub fn lookup(board: &str) -> Result<Known, Failure> {
    let wrong =
        |mistake: board::Mistake| Failure::new(Code::Board, "a board's table cannot be used").why(mistake.to_string());
    if let Some(text) = board::text(board) {
        return Ok((Table::parse(text).map_err(wrong)?, text.to_owned()));
    }
    let folder = Path::new(board);
    let file = folder.join(board::FILE);
    if file.is_file() {
        let table = Table::read(folder).map_err(wrong)?;
        let text = std::fs::read_to_string(&file).map_err(|error| wrong(board::Mistake(error.to_string())))?;
        return Ok((table, text));
    }
    let known = board::known().map_err(wrong)?;
    let names: Vec<&str> = known.iter().map(|table| table.name.as_str()).collect();
    Err(Failure::new(Code::NoBoard, format!("there is no board {board}"))
        .why(format!("boards of this version: {}; and no folder of that name has a {}", names.join(", "), board::FILE))
        .next("fulmar boards")
        .next("docs/howto/port-a-board.md"))
}

pub fn boards(global: &Global, args: &Boards) -> Result<(), Failure> {
    match &args.verb {
        None => show(global),
        Some(BoardsVerb::Emulated) => emulated(global),
        Some(BoardsVerb::Start { name }) => {
            Emulator::existing(&global.data, name)?.start()?;
            line(&format!("board {name} has power"))?;
            say(&format!("Next:  fulmar monitor {name}"));
            Ok(())
        }
        Some(BoardsVerb::Stop { name }) => {
            let had = Emulator::existing(&global.data, name)?.stop()?;
            line(&format!("board {name} {}", if had { "has no power any more" } else { "had no power" }))
        }
        Some(BoardsVerb::Run { directory, exit_with_stdin, detached }) => {
            emulator::run(directory, *exit_with_stdin, *detached)
        }
    }
}

fn writer_name(table: &Table) -> &'static str {
    match table.writer() {
        Some(Writer::Qemu(_)) => "qemu",
        Some(Writer::Uf2(_)) => "uf2",
        Some(Writer::ProbeRs(_)) => tool::PROBE_RS,
        Some(Writer::Espflash(_)) => tool::ESPFLASH,
        None => "",
    }
}

fn pin(pin: &board::Pin) -> Value {
    let kind = match pin.kind {
        PinKind::GpioIn => "gpio-in",
        PinKind::GpioOut => "gpio-out",
        PinKind::Adc => "adc",
        PinKind::Pwm => "pwm",
        PinKind::I2c => "i2c",
    };
    json!({"handle": pin.handle, "kind": kind, "name": pin.name, "capability": pin.kind.capability(), "safe": pin.safe})
}

fn document(table: &Table) -> Value {
    let partition = |name: &str| table.partition(name).map(|partition| partition.bytes);
    json!({
        "name": table.name,
        "title": table.title,
        "chip": table.chip,
        "target": table.triple,
        "clockHz": table.clock_hz,
        "shown": match table.shown { Shown::Run => "run", Shown::Built => "built" },
        "network": match table.network { Network::Ethernet => "ethernet", Network::Wifi => "wifi", Network::Serial => "serial" },
        "functions": table.functions,
        "tls": table.tls,
        "random": table.random,
        "updates": table.boot.is_some(),
        "peripherals": table.peripherals,
        "pins": table.pins.iter().map(pin).collect::<Vec<_>>(),
        "programBytes": table.program.bytes,
        "ramBytes": table.ram.bytes,
        "journalBytes": partition(JOURNAL),
        "artifactsBytes": partition(ARTIFACTS),
        "writer": writer_name(table),
    })
}

fn show(global: &Global) -> Result<(), Failure> {
    let known = board::known().map_err(|mistake| Failure::new(Code::Board, mistake.to_string()))?;
    let items: Vec<Value> = known.iter().map(document).collect();
    if whole(global.output, &json!({"items": items}))? {
        return Ok(());
    }
    if global.output == Output::Name {
        return known.iter().try_for_each(|table| line(&table.name));
    }
    let mut rows = match global.output {
        Output::Wide => Rows::new(&[
            "NAME",
            "CHIP",
            "FLASH",
            "RAM",
            "FUNCTIONS",
            "NETWORK",
            "WRITER",
            "SHOWN",
            "TARGET",
            "ARTIFACTS",
            "PERIPHERALS",
        ]),
        _ => Rows::new(&["NAME", "CHIP", "FLASH", "RAM", "FUNCTIONS", "NETWORK", "WRITER", "SHOWN"]),
    };
    for (table, item) in known.iter().zip(&items) {
        rows.row(vec![
            table.name.clone(),
            table.chip.clone(),
            bytes(table.program.bytes),
            bytes(table.ram.bytes),
            if table.functions { "yes" } else { "no" }.to_owned(),
            text(item, "/network"),
            writer_name(table).to_owned(),
            text(item, "/shown"),
            table.triple.clone(),
            table.partition(ARTIFACTS).map(|partition| bytes(partition.bytes)).unwrap_or_default(),
            table.peripherals.join(", "),
        ]);
    }
    print_table(global.output, &rows.text())
}

fn emulated(global: &Global) -> Result<(), Failure> {
    let all = emulator::all(&global.data);
    let power = |emulator: &Emulator| if emulator.has_power() { "on" } else { "off" };
    let item = |(facts, emulator): &(Facts, Emulator)| json!({"name": facts.name, "board": facts.board, "mac": facts.mac, "power": power(emulator), "directory": emulator.directory});
    if whole(global.output, &json!({"items": all.iter().map(item).collect::<Vec<_>>()}))? {
        return Ok(());
    }
    if global.output == Output::Name {
        return all.iter().try_for_each(|(facts, _)| line(&facts.name));
    }
    if all.is_empty() {
        say("no board was flashed here");
        return Ok(());
    }
    let mut rows = Rows::new(&["NAME", "BOARD", "POWER", "DIRECTORY"]);
    for (facts, emulator) in &all {
        let directory = emulator.directory.display().to_string();
        rows.row(vec![facts.name.clone(), facts.board.clone(), power(emulator).to_owned(), directory]);
    }
    print(&rows.text())
}

/// The name that the operator wants, if no device has it; otherwise the board's, with the first free number.
pub fn free_name(client: &Client, board: &str, wanted: Option<&str>) -> Result<String, Failure> {
    let is_free = |name: &str| match client.get(&Target::new(Kind::Device, "", name).path()) {
        Ok(_) => Ok(false),
        Err(failure) if failure.exit == Exit::NotFound => Ok(true),
        Err(failure) => Err(failure),
    };
    let taken = |what: String, name: &str| {
        Failure::new(Code::NameTaken, what)
            .why("a board that is flashed anew joins as a new device")
            .next(format!("fulmar device decommission {name} --force    (if it is this board as it was)"))
            .next("or another name: --name NAME")
    };
    if let Some(name) = wanted {
        return if is_free(name)? {
            Ok(name.to_owned())
        } else {
            Err(taken(format!("there is a device {name} already"), name))
        };
    }
    for number in 1..=NAMES_MAX {
        let name = format!("{}-{number}", board.chars().take(60).collect::<String>());
        if is_free(&name)? {
            return Ok(name);
        }
    }
    Err(taken(format!("there are {NAMES_MAX} devices of this board without a name of their own"), "NAME"))
}

/// What is needed to write, found before anything is asked for.
enum Way<'a> {
    Emulator,
    Drive(&'a board::Uf2, PathBuf),
    Tool(Writer<'a>, PathBuf),
}

fn way<'a>(args: &Flash, table: &'a Table) -> Result<Way<'a>, Failure> {
    match table.writer() {
        Some(Writer::Qemu(qemu)) => {
            tool::find(&qemu.program, &format!("sudo apt-get install {}", qemu.package))?;
            Ok(Way::Emulator)
        }
        Some(Writer::Uf2(uf2)) => Ok(Way::Drive(uf2, drive::find(args.drive.as_deref(), uf2, table)?)),
        Some(writer @ Writer::ProbeRs(_)) => {
            Ok(Way::Tool(writer, tool::find(tool::PROBE_RS, "cargo install --locked probe-rs-tools")?))
        }
        Some(writer @ Writer::Espflash(_)) => {
            Ok(Way::Tool(writer, tool::find(tool::ESPFLASH, "cargo install --locked espflash")?))
        }
        None => Err(Failure::new(Code::Board, format!("{} can be built and not written from here", table.name))
            .why("its board.toml names no writer: [qemu], [uf2], [probe_rs] or [espflash]")),
    }
}

pub fn flash(global: &Global, args: &Flash) -> Result<(), Failure> {
    let (table, table_text) = lookup(&args.board)?;
    record::check(args, &table)?;
    let labels = labels_of(&args.labels)?;
    let way = way(args, &table)?;
    let image_path = match &args.image {
        Some(path) => path.clone(),
        None => tool::build(&table)?,
    };
    let image = Image::read(&image_path, &table)?;
    let client = Client::connect(global)?;
    let name = free_name(&client, &table.name, args.name.as_deref())?;
    let answer = join_token(&client, TOKEN_LIFE, !args.unapproved, &labels)?;
    let lot = Lot::draw()?;
    let token = text(&answer, "/token");
    let record = record::record(args, &table, &name, &token, &lot)?;
    let mut board: Box<dyn Board> = match &way {
        Way::Emulator => {
            let emulator = Emulator::of(&global.data, &name)?;
            emulator.stop()?;
            let facts = Facts {
                name: name.clone(),
                board: table.name.clone(),
                mac: mac_text(&lot),
                broker: record::broker_of(&token)?,
                server: client.endpoint().server.clone(),
            };
            emulator.prepare((&table, &table_text), &facts, &image_path, &record, args.erase)?;
            emulator.start()?;
            Box::new(emulator)
        }
        Way::Drive(uf2, drive) => {
            let port = listen(args)?;
            drive::write(drive, &uf2_file(uf2, &table, &image, &record, args.erase)?)?;
            port
        }
        Way::Tool(writer, program) => {
            let parts = [storage::config(&table, &record)?];
            let port = args.port.as_deref();
            let runs = match writer {
                Writer::Espflash(chip) => tool::espflash(chip, port, &parts, args.erase),
                Writer::ProbeRs(chip) => tool::probe_rs(chip, &parts, args.erase),
                // Neither is a tool.
                Writer::Qemu(_) | Writer::Uf2(_) => Vec::new(),
            };
            tool::write(program, &runs, &image_path, &parts, &table)?;
            listen(args)?
        }
    };
    say(&format!(
        "{} is written: {} of firmware, and a record for device {name}",
        table.name,
        bytes(image.len() as u64)
    ));
    let seen = match args.no_wait {
        true => None,
        false => {
            let timeout = global.timeout.unwrap_or(follow::TIMEOUT_DEFAULT);
            Some(follow::until_seen(&client, &name, &mut *board, timeout)?)
        }
    };
    report(global, &table, &name, seen)
}

fn report(global: &Global, table: &Table, name: &str, seen: Option<(Seen, Duration)>) -> Result<(), Failure> {
    let after_ms = seen.map(|(_, after)| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    let state = match seen {
        Some((Seen::Online, _)) => "online",
        Some((Seen::Waiting, _)) => "waiting",
        None => "written",
    };
    if whole(global.output, &json!({"device": name, "board": table.name, "state": state, "afterMs": after_ms}))? {
        return Ok(());
    }
    if global.output == Output::Name {
        return line(&format!("device/{name}"));
    }
    match seen {
        Some((Seen::Online, after)) => {
            line(&format!("device/{name} is online.  {}", seconds(after)))?;
            say(&format!("Next:  fulmar describe device {name}"));
        }
        Some((Seen::Waiting, after)) => {
            line(&format!("device/{name} has joined and waits for its approval.  {}", seconds(after)))?;
            say(&format!("Next:  fulmar device approve {name}"));
        }
        None => {
            line(&format!("device/{name} is written"))?;
            say(&format!("Next:  fulmar wait --for online device/{name}"));
        }
    }
    Ok(())
}

/// An image of firmware to be sent to boards that take updates, and the board's name.
pub fn update_image(board: &str, file: &Path, version: u32) -> Result<(String, Vec<u8>), Failure> {
    let (table, _) = lookup(board)?;
    let image = slot::encode(&table, &Image::read(file, &table)?, version)?;
    // What would not fit into the slot is not sent to find that out.
    slot::parts(&table, &image)?;
    Ok((table.name, image))
}

fn mac_text(lot: &Lot) -> String {
    lot.mac.0.map(|byte| format!("{byte:02x}")).join(":")
}

fn uf2_file(uf2: &board::Uf2, table: &Table, image: &Image, record: &[u8], erases: bool) -> Result<Vec<u8>, Failure> {
    let mut parts: Vec<Part> = image.0.clone();
    parts.push(storage::config(table, record)?);
    if erases {
        parts.extend(storage::erased(table));
    }
    uf2::encode(uf2.family, &parts)
        .ok_or_else(|| Failure::new(Code::Image, format!("the image of {} lies beyond 32 bits", table.name)))
}

impl Board for Emulator {
    fn last_words(&mut self, count: usize) -> Vec<String> {
        Self::last_words(self, count)
    }

    fn end(&mut self) -> Option<Failure> {
        if self.has_power() {
            return None;
        }
        let mut failure = Failure::new(Code::Emulator, "the board lost its power");
        failure.why = self.reason(1);
        failure.why.extend(Self::last_words(self, follow::WORDS_SHOWN));
        Some(failure.next(format!("its log: {}", self.log().display())))
    }
}

/// A board at a serial port; without one nothing is heard of it.
struct Wired {
    port: Option<Port>,
    lines: Vec<String>,
}

fn listen(args: &Flash) -> Result<Box<dyn Board>, Failure> {
    let port = args.port.as_deref().map(|path| Port::open(path, SERIAL_BAUD)).transpose()?;
    Ok(Box::new(Wired { port, lines: Vec::new() }))
}

impl Board for Wired {
    fn last_words(&mut self, count: usize) -> Vec<String> {
        // A port that goes away is one that says nothing more: chips do that when they start.
        let more = self.port.as_mut().and_then(|port| port.lines(SERIAL_PATIENCE).ok().flatten()).unwrap_or_default();
        self.lines.extend(more.iter().map(|line| crate::output::plain(line)));
        self.lines.drain(..self.lines.len().saturating_sub(SERIAL_LINES_MAX));
        self.lines.iter().skip(self.lines.len().saturating_sub(count)).cloned().collect()
    }

    fn end(&mut self) -> Option<Failure> {
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::image::tests::{EXAMPLE, elf};
    use super::*;
    use wire::provision::Provision;

    #[test]
    fn a_board_is_found_by_its_folder_and_otherwise_the_known_ones_are_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(board::FILE), EXAMPLE).unwrap();
        let (table, text) = lookup(folder.path().to_str().unwrap()).unwrap();
        assert_eq!((table.name.as_str(), text.as_str()), ("example", EXAMPLE));
        std::fs::write(folder.path().join(board::FILE), "name = 1").unwrap();
        assert_eq!(lookup(folder.path().to_str().unwrap()).unwrap_err().code, "BOARD");
        let failure = lookup("toaster").unwrap_err();
        assert_eq!((failure.code.as_str(), failure.exit), ("NO_BOARD", Exit::NotFound));
    }

    /// The whole way of a chip with a drive, on bytes: image and record at their places, nothing else unless it is erased.
    #[test]
    fn a_uf2_file_has_the_image_and_the_record_and_leaves_the_journal_alone() {
        let end = EXAMPLE.find("[qemu]\n").unwrap();
        let text = format!("{}[uf2]\nfamily = 0xe48bff59\ndrive = \"RP2350\"\n", &EXAMPLE[..end]);
        let text = text.replace("origin = 0x0\n", "origin = 0x1000_0000\n");
        let table = Table::parse(&text.replace("origin = 0x2100_0000", "origin = 0x1020_0000")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        std::fs::write(&path, elf(40, &[(1, 0x1000_0000, &[0x11; 300], 300)])).unwrap();
        let image = Image::read(&path, &table).unwrap();
        let uf2 = table.uf2.as_ref().unwrap();
        let record = b"FLMRC and so on";
        let file = uf2_file(uf2, &table, &image, record, false).unwrap();
        let blocks: Vec<(u32, &[u8])> = file
            .chunks_exact(uf2::BLOCK_BYTES)
            .map(|block| (u32::from_le_bytes(block[12..16].try_into().unwrap()), &block[32..32 + uf2::PAGE_BYTES]))
            .collect();
        // 300 bytes are two pages, the partition `config` sixteen.
        assert_eq!(blocks.len(), 2 + 16);
        assert_eq!((blocks[0].0, blocks[1].0, blocks[2].0), (0x1000_0000, 0x1000_0100, 0x1020_0000));
        assert!(blocks[0].1.iter().all(|byte| *byte == 0x11) && blocks[2].1.starts_with(record));
        assert!(blocks[3..].iter().all(|(_, data)| data.iter().all(|byte| *byte == 0xff)));
        assert_eq!(blocks.last().unwrap().0, 0x1020_0f00, "the journal begins right behind");
        let all = uf2_file(uf2, &table, &image, record, true).unwrap();
        assert_eq!(all.len() / uf2::BLOCK_BYTES, 2 + 16 + (0x1_0000 + 0x8_0000) / 256);
        assert!(Provision::decode(blocks[2].1).is_err(), "these words are no record");
    }

    #[test]
    fn a_serial_board_that_is_not_heard_is_no_failure() {
        let mut board = Wired { port: None, lines: vec!["a".to_owned(); SERIAL_LINES_MAX + 5] };
        assert_eq!(board.last_words(2), ["a", "a"]);
        assert_eq!((board.lines.len(), board.end()), (SERIAL_LINES_MAX, None));
    }
}
