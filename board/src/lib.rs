//! What is known about a board, in one table that people review: `boards/<name>/board.toml`.
//!
//! Firmware takes its memory map and budgets from here, the flasher its partitions and how they are written. Nothing here
//! reads or writes a board. A table that is read is a table that is right: one that contradicts itself is refused as a whole.
#![forbid(unsafe_code)]

mod check;
#[cfg(test)]
mod tests;

use serde::Deserialize;
use std::fmt;
use std::path::Path;

/// What the flasher writes for the device. At least `CONFIG_BYTES_MIN` long.
pub const CONFIG: &str = "config";
/// The device's own: sets, keys, counters.
pub const JOURNAL: &str = "journal";
/// The device's own: modules.
pub const ARTIFACTS: &str = "artifacts";
/// The firmware that runs, on a board that takes updates.
pub const SLOT_A: &str = "slot-a";
/// The firmware that is to run, or ran before. Longer than the first by one sector at least.
pub const SLOT_B: &str = "slot-b";
/// How far the swap of both is.
pub const STATE: &str = "boot";
/// All that a partition may be called. The last three belong to updates: all of them are there, or none.
pub const PARTITIONS: [&str; 6] = [CONFIG, JOURNAL, ARTIFACTS, SLOT_A, SLOT_B, STATE];
/// The program begins so far into its slot.
pub const SLOT_HEAD_BYTES: u64 = 1024;
/// Room for a provisioning record.
pub const CONFIG_BYTES_MIN: u64 = 1024;
/// Pins and buses of one board: a function can drive as many.
pub const PINS_MAX: usize = 32;
/// The file in a board's folder.
pub const FILE: &str = "board.toml";

/// The tables of this source tree, as text.
const KNOWN: &[&str] = include!(concat!(env!("OUT_DIR"), "/known.rs"));

/// Every board of this version, by name.
pub fn known() -> Result<Vec<Table>, Mistake> {
    KNOWN.iter().map(|text| Table::parse(text)).collect()
}

/// The table of a known board as it is written.
pub fn text(name: &str) -> Option<&'static str> {
    KNOWN.iter().find(|text| Table::parse(text).is_ok_and(|table| table.name == name)).copied()
}

/// One board.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// As its folder is called.
    pub name: String,
    pub title: String,
    pub chip: String,
    /// What the compiler builds for.
    pub triple: String,
    /// Clock of the processor.
    pub clock_hz: u32,
    #[serde(default)]
    pub shown: Shown,
    #[serde(default)]
    pub network: Network,
    /// Runs functions: the engine is in the image.
    pub functions: bool,
    /// Speaks TLS to its broker.
    #[serde(default)]
    pub tls: bool,
    /// There is a random source on the chip. Without one, the flasher knows all that the first key is made of.
    #[serde(default)]
    pub random: bool,
    /// Where the program is, and where it may be.
    pub program: Memory,
    pub ram: Memory,
    pub storage: Storage,
    /// Boot code, on a board that takes updates.
    pub boot: Option<Boot>,
    pub budget: Budget,
    /// What of the chip is used, in words, for people.
    pub peripherals: Vec<String>,
    /// What functions may use of it, by handle.
    #[serde(default)]
    pub pins: Vec<Pin>,
    /// Emulated boards: the flash is a file, and the board a process.
    pub qemu: Option<Qemu>,
    /// Files that are copied to the drive that the chip shows while its button is held.
    pub uf2: Option<Uf2>,
    /// A debug probe.
    pub probe_rs: Option<Chip>,
    /// The loader of Espressif's chips.
    pub espflash: Option<Chip>,
}

/// How far the firmware was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
    /// Tests start it and use it.
    Run,
    /// It is linked, and nobody has seen it run.
    #[default]
    Built,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    #[default]
    Ethernet,
    Wifi,
    /// A line to a gateway, which has the connection to the broker.
    Serial,
}

/// As the processor addresses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    pub origin: u64,
    pub bytes: u64,
}

/// The flash that keeps what the device knows; may lie within that of the program.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// Where the processor or the flasher finds its first byte.
    pub origin: u64,
    pub bytes: u64,
    pub write_bytes: u64,
    pub erase_bytes: u64,
    /// How often a sector can be erased.
    pub cycles: u64,
    /// How long the erasure of a sector takes at most, during which the processor does nothing else. Work that has to stop in time,
    /// because its lease ends, is stopped earlier by as much.
    pub erase_ms: u64,
    pub partitions: Vec<Partition>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    pub name: String,
    /// From the start of the storage.
    pub offset: u64,
    pub bytes: u64,
}

/// What runs before the firmware, and never changes: it swaps the two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// Where the processor begins.
    pub origin: u64,
    pub bytes: u64,
    /// At the end of the RAM, where the firmware has nothing.
    pub ram_bytes: u64,
}

/// A pin or bus that functions name by its handle.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    pub handle: u16,
    pub kind: PinKind,
    /// As the board's chip counts those of this kind.
    pub line: u8,
    /// For people.
    pub name: String,
    /// Where an output rests: 0 or 1 for `gpio-out`, 0 to 65535 for `pwm`.
    pub safe: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinKind {
    GpioIn,
    GpioOut,
    Adc,
    Pwm,
    I2c,
}

impl PinKind {
    /// The capability that a function needs for it.
    pub const fn capability(self) -> &'static str {
        match self {
            Self::GpioIn | Self::GpioOut => "gpio",
            Self::Adc => "adc",
            Self::Pwm => "pwm",
            Self::I2c => "i2c",
        }
    }
}

/// What the image may take; its build holds it to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Program in flash.
    pub image_bytes: u64,
    /// Static memory without the heap.
    pub static_bytes: u64,
    /// Of the function engine alone.
    pub heap_bytes: u64,
    pub stack_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qemu {
    /// `qemu-system-arm`.
    pub program: String,
    /// Debian's package that has it.
    pub package: String,
    /// `{flash}`, `{mac}` and `{image}` are filled in: the image is the boot code where there is one. Standard output is the board's log.
    pub args: Vec<String>,
    /// Length of the file that plays the storage.
    pub flash_file_bytes: u64,
    /// Where the storage begins in it.
    pub flash_file_offset: u64,
    /// The address under which the board reaches this machine's own loopback.
    #[serde(default = "gateway")]
    pub host: String,
}

/// The gateway of the network that every emulated board has to itself.
fn gateway() -> String {
    "192.0.2.2".to_owned()
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uf2 {
    /// The number of the chip's family, which its loader compares.
    pub family: u32,
    /// What `Board-ID` says in INFO_UF2.TXT of the drive.
    pub drive: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chip {
    /// As the writing tool calls it.
    pub chip: String,
}

/// Who writes image and partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer<'a> {
    Qemu(&'a Qemu),
    Uf2(&'a Uf2),
    ProbeRs(&'a Chip),
    Espflash(&'a Chip),
}

/// Why a table is not one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake(pub String);

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Mistake {}

impl Table {
    /// Reads a table and insists that it makes sense.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let table: Self = toml::from_str(text).map_err(|error| Mistake(error.to_string().trim_end().to_owned()))?;
        check::check(&table).map_err(|why| Mistake(format!("{FILE} of {}: {why}", table.name)))?;
        Ok(table)
    }

    /// Reads the table of the board in `folder`.
    pub fn read(folder: &Path) -> Result<Self, Mistake> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(|error| Mistake(format!("{}: {error}", path.display())))?;
        Self::parse(&text).map_err(|mistake| Mistake(format!("{}: {mistake}", path.display())))
    }

    pub fn partition(&self, name: &str) -> Option<&Partition> {
        self.storage.partitions.iter().find(|partition| partition.name == name)
    }

    /// Where the partition begins, as whoever programs the board addresses it.
    pub fn address(&self, partition: &Partition) -> u64 {
        // Checked when the table was read.
        self.storage.origin.saturating_add(partition.offset)
    }

    /// Name of the crate, and of the file that it builds.
    pub fn image_name(&self) -> String {
        format!("fulmar-{}", self.name)
    }

    /// Of the boot code, on a board that takes updates. It lies beside the image.
    pub fn boot_name(&self) -> Option<String> {
        self.boot.map(|_| format!("{}-boot", self.image_name()))
    }

    /// Nobody: the board can be built and not flashed.
    pub fn writer(&self) -> Option<Writer<'_>> {
        let qemu = self.qemu.as_ref().map(Writer::Qemu);
        let uf2 = self.uf2.as_ref().map(Writer::Uf2);
        let probe_rs = self.probe_rs.as_ref().map(Writer::ProbeRs);
        qemu.or(uf2).or(probe_rs).or(self.espflash.as_ref().map(Writer::Espflash))
    }
}
