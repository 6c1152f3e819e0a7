//! For `build.rs` of a board: the memory map for its linker and the constants for its code, from its table. The linker's
//! regions are as long as the budgets, so that an image over budget does not link.

use crate::{Mistake, Table};
use board::{Budget, Memory, PinKind};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What the startup code of an architecture expects of the linker's script.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// cortex-m-rt, which brings its own script.
    CortexM,
    /// `drivers::riscv`.
    RiscV,
    /// cortex-m-rt behind the loader of an RP2040, which reads 256 bytes of program that set its flash up.
    Rp2040,
    /// cortex-m-rt on an RP2350, whose loader looks for blocks that say what the image is.
    Rp2350,
}

/// The script for `drivers::riscv`.
const RISCV_X: &str = include_str!("riscv.x");
/// Memory protection of a processor takes pages where it is to cost nothing.
const PAGE_BYTES: u64 = 4096;
/// The second stage of an RP2040's loader, at the beginning of its flash.
const BOOT2_BYTES: u64 = 0x100;

/// The first block is within the first 4 KiB, behind the vectors; the last one ends the image (RP2350 datasheet, section 5.9.5).
const RP2350_BLOCKS: &str = "
SECTIONS {
  .start_block : ALIGN(4) { __start_block_addr = .; KEEP(*(.start_block)); KEEP(*(.boot_info)); } > FLASH
} INSERT AFTER .vector_table;
_stext = ADDR(.start_block) + SIZEOF(.start_block);
SECTIONS {
  .end_block : ALIGN(4) { __end_block_addr = .; KEEP(*(.end_block)); __flash_binary_end = .; } > FLASH
} INSERT AFTER .uninit;
PROVIDE(start_to_end = __end_block_addr - __start_block_addr);
PROVIDE(end_to_start = __start_block_addr - __end_block_addr);
";

/// What a cell takes besides the heap that it gives away once.
const CELL_BYTES: u64 = 8;
/// Of boot code: a record, and what its drivers need.
const BOOT_STATIC_BYTES: u64 = 0x1000;

/// Writes `memory.x` and `board.rs` into the build's folder, and tells cargo how to link.
pub fn emit(runtime: Runtime) -> Result<(), Mistake> {
    let folder = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(variable("OUT_DIR")?);
    let table = Table::read(&folder)?;
    save_map(&table, runtime, &out)?;
    save(&out.join("board.rs"), &constants(&table, architecture(&table.triple)?))?;
    println!("cargo::rerun-if-changed=board.toml");
    link(runtime, &out);
    Ok(())
}

/// The same for boot code; `folder`: where its board is, from that of the boot code.
pub fn emit_boot(runtime: Runtime, folder: &str) -> Result<(), Mistake> {
    let place = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join(folder);
    let out = PathBuf::from(variable("OUT_DIR")?);
    let table = Table::read(&place)?;
    let boot = table.boot.ok_or_else(|| Mistake(format!("{} has no [boot] in its table", table.name)))?;
    // As if it were a board of its own: all of the boot code's RAM is stack, but for what little is static.
    let own = Table {
        program: Memory { origin: boot.origin, bytes: boot.bytes },
        ram: Memory { origin: table.ram.origin + table.ram.bytes - boot.ram_bytes, bytes: boot.ram_bytes },
        budget: Budget {
            image_bytes: boot.bytes,
            static_bytes: BOOT_STATIC_BYTES,
            heap_bytes: 0,
            stack_bytes: boot.ram_bytes.saturating_sub(BOOT_STATIC_BYTES),
        },
        ..table
    };
    save_map(&own, runtime, &out)?;
    save(&out.join("board.rs"), &storage_constants(&own))?;
    println!("cargo::rerun-if-changed={}", place.join(board::FILE).display());
    link(runtime, &out);
    Ok(())
}

fn save_map(table: &Table, runtime: Runtime, out: &Path) -> Result<(), Mistake> {
    match runtime {
        Runtime::CortexM => save(&out.join("memory.x"), &memory_x(table, 0)),
        Runtime::Rp2040 => save(&out.join("memory.x"), &memory_x(table, BOOT2_BYTES)),
        Runtime::Rp2350 => save(&out.join("memory.x"), &format!("{}{RP2350_BLOCKS}", memory_x(table, 0))),
        Runtime::RiscV => {
            protectable(table)?;
            save(&out.join("link.x"), &format!("{}{RISCV_X}", memory_x(table, 0)))
        }
    }
}

fn link(runtime: Runtime, out: &Path) {
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rustc-link-arg=-Tlink.x");
    if runtime == Runtime::Rp2040 {
        println!("cargo::rustc-link-arg=-Tlink-rp.x");
    }
    println!("cargo::rustc-link-arg=--nmagic");
}

fn variable(name: &str) -> Result<String, Mistake> {
    std::env::var(name).map_err(|_| Mistake(format!("{name} is not set: only cargo runs this")))
}

fn save(path: &Path, text: &str) -> Result<(), Mistake> {
    std::fs::write(path, text).map_err(|error| Mistake(format!("{}: {error}", path.display())))
}

/// The linker's memory map. The stack is below everything else, so that one that grows too deep leaves the memory and faults
/// instead of writing over variables. `loader`: bytes at the beginning of the program that a loader's second stage takes.
fn memory_x(table: &Table, loader: u64) -> String {
    let (ram, budget) = (table.ram.origin, &table.budget);
    let mut text = String::from("/* Made from board.toml; each region is as long as its budget. */\nMEMORY\n{\n");
    let mut region = |name: &str, origin: u64, bytes: u64| {
        let _ = writeln!(text, "  {name} : ORIGIN = {origin:#x}, LENGTH = {bytes:#x}");
    };
    if loader > 0 {
        region("BOOT2", table.program.origin, loader);
    }
    region("FLASH", table.program.origin + loader, budget.image_bytes.saturating_sub(loader));
    region("STACK", ram, budget.stack_bytes);
    region("RAM", ram + budget.stack_bytes, budget.static_bytes + budget.heap_bytes);
    text.push_str("}\n_stack_end = ORIGIN(STACK);\n_stack_start = ORIGIN(STACK) + LENGTH(STACK);\n");
    text
}

/// Whether program and memory can be told apart by the page.
fn protectable(table: &Table) -> Result<(), Mistake> {
    let budget = &table.budget;
    let ends = [
        ("program.origin", table.program.origin),
        ("budget.image_bytes", budget.image_bytes),
        ("ram.origin", table.ram.origin),
        ("the budgets of RAM together", budget.stack_bytes + budget.static_bytes + budget.heap_bytes),
    ];
    match ends.iter().find(|(_, bytes)| !bytes.is_multiple_of(PAGE_BYTES)) {
        Some((what, bytes)) => Err(Mistake(format!("{what} = {bytes:#x} is no multiple of {PAGE_BYTES}"))),
        None if table.program.origin + budget.image_bytes > table.ram.origin => {
            Err(Mistake("memory protection wants the program below the RAM".into()))
        }
        None => Ok(()),
    }
}

/// A triple as the air calls it.
fn architecture(triple: &str) -> Result<&'static str, Mistake> {
    match triple.split('-').next().unwrap_or_default() {
        "thumbv6m" => Ok("Thumbv6m"),
        "thumbv7m" => Ok("Thumbv7m"),
        "thumbv7em" => Ok("Thumbv7em"),
        "thumbv8m.main" => Ok("Thumbv8m"),
        "riscv32imc" | "riscv32imac" => Ok("Riscv32"),
        _ => Err(Mistake(format!("triple = {triple}: hubs have no name for this architecture"))),
    }
}

fn constants(table: &Table, architecture: &str) -> String {
    let mut text = format!(
        "pub const ARCHITECTURE: common::Architecture = common::Architecture::{architecture};\n\
         pub const HEAP_BYTES: usize = {};\n\
         pub const ERASE_MS: u32 = {};\n{}",
        table.budget.heap_bytes.saturating_sub(CELL_BYTES),
        table.storage.erase_ms,
        storage_constants(table),
    );
    if !table.pins.is_empty() {
        let _ = writeln!(text, "pub const PINS: [common::pins::Pin; {}] = [", table.pins.len());
        for pin in &table.pins {
            let safe = pin.safe.unwrap_or(0);
            let kind = match pin.kind {
                PinKind::GpioIn => "Input".to_owned(),
                PinKind::GpioOut => format!("Output {{ safe: {} }}", safe > 0),
                PinKind::Adc => "Analog".to_owned(),
                PinKind::Pwm => format!("Pwm {{ safe: {safe} }}"),
                PinKind::I2c => "I2c".to_owned(),
            };
            let (handle, line) = (pin.handle, pin.line);
            let _ = writeln!(
                text,
                "    common::pins::Pin {{ handle: {handle}, kind: common::pins::Kind::{kind}, line: {line} }},"
            );
        }
        text.push_str("];\n");
    }
    text
}

fn storage_constants(table: &Table) -> String {
    let storage = &table.storage;
    let mut text = format!(
        "pub const NAME: &str = {:?};\n\
         pub const CLOCK_HZ: u32 = {};\n\
         pub const STORAGE_ORIGIN: usize = {:#x};\n\
         pub const STORAGE_BYTES: usize = {:#x};\n\
         pub const PARTITIONS: [drivers::nor::Partition; {}] = [\n",
        table.name,
        table.clock_hz,
        storage.origin,
        storage.bytes,
        storage.partitions.len(),
    );
    for partition in &storage.partitions {
        let _ = writeln!(
            text,
            "    drivers::nor::Partition {{ name: {:?}, offset: {:#x}, bytes: {:#x} }},",
            partition.name, partition.offset, partition.bytes
        );
    }
    text.push_str("];\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use board::Pin;

    fn table() -> Table {
        Table::parse(include_str!("../../qemu-mps2-an386/board.toml")).expect("a right table")
    }

    #[test]
    fn regions_are_as_long_as_budgets_and_the_stack_is_lowest() {
        let mut table = table();
        table.budget.image_bytes = 0x8000;
        table.budget.stack_bytes = 0x1000;
        table.budget.static_bytes = 0x2000;
        table.budget.heap_bytes = 0x300;
        let text = memory_x(&table, 0);
        assert!(text.contains("FLASH : ORIGIN = 0x21100400, LENGTH = 0x8000"), "{text}");
        assert!(text.contains("STACK : ORIGIN = 0x20000000, LENGTH = 0x1000"), "{text}");
        assert!(text.contains("RAM : ORIGIN = 0x20001000, LENGTH = 0x2300"), "{text}");
        let behind_loader = memory_x(&table, 0x100);
        assert!(behind_loader.contains("BOOT2 : ORIGIN = 0x21100400, LENGTH = 0x100"), "{behind_loader}");
        assert!(behind_loader.contains("FLASH : ORIGIN = 0x21100500, LENGTH = 0x7f00"), "{behind_loader}");
    }

    #[test]
    fn what_memory_protection_cannot_tell_apart_is_refused() {
        let mut table = Table::parse(include_str!("../../qemu-riscv32-virt/board.toml")).expect("a right table");
        assert_eq!(protectable(&table), Ok(()));
        table.budget.heap_bytes += 8;
        assert!(protectable(&table).is_err_and(|mistake| mistake.0.contains("no multiple of 4096")));
        table.budget.heap_bytes -= 8;
        table.ram.origin = table.program.origin;
        assert!(protectable(&table).is_err_and(|mistake| mistake.0.contains("below the RAM")));
    }

    #[test]
    fn every_triple_that_hubs_know_is_known_here() {
        assert_eq!(architecture("thumbv8m.main-none-eabihf").expect("known"), "Thumbv8m");
        assert_eq!(architecture("riscv32imac-unknown-none-elf").expect("known"), "Riscv32");
        assert!(architecture("x86_64-unknown-linux-gnu").is_err());
    }

    #[test]
    fn partitions_become_constants() {
        let text = constants(&table(), "Thumbv7em");
        assert!(text.contains("Partition { name: \"config\", offset: 0x0, bytes: 0x1000 },"), "{text}");
    }

    #[test]
    fn pins_become_constants_with_their_safe_states() {
        let mut table = table();
        let pin = |kind, safe| Pin { handle: 7, kind, line: 1, name: "one".to_owned(), safe };
        table.pins = vec![pin(PinKind::GpioOut, Some(1)), pin(PinKind::Pwm, Some(300)), pin(PinKind::Adc, None)];
        let text = constants(&table, "Thumbv7em");
        for row in ["Output { safe: true }", "Pwm { safe: 300 }", "Analog"] {
            assert!(text.contains(&format!("handle: 7, kind: common::pins::Kind::{row}, line: 1 }}")), "{text}");
        }
        // Boot code has none, whatever its board has.
        assert!(!storage_constants(&table).contains("PINS"));
        table.pins.clear();
        assert!(!constants(&table, "Thumbv7em").contains("PINS"));
    }
}
