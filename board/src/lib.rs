//! What is known about a board, in one table that people review: `boards/<name>/board.toml`.
//!
//! Firmware takes its memory map and budgets from here, the flasher its partitions and how they are written. Nothing here
//! reads or writes a board; a table that contradicts itself is refused as a whole.
#![forbid(unsafe_code)]

mod check;
#[cfg(test)]
mod tests;

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;

/// What the flasher writes for the device. At least `CONFIG_BYTES_MIN` long.
pub const CONFIG: &str = "config";
/// The device's own: sets, keys, counters.
pub const JOURNAL: &str = "journal";
/// The device's own: modules.
pub const ARTIFACTS: &str = "artifacts";
/// All that a partition may be called. Slots and the loader belong to updates.
pub const PARTITIONS: [&str; 6] = [CONFIG, JOURNAL, ARTIFACTS, "slot-a", "slot-b", "boot"];
/// Room for a provisioning record.
pub const CONFIG_BYTES_MIN: u32 = 1024;

/// The tables of this source tree, as text.
const KNOWN: &[&str] = include!(concat!(env!("OUT_DIR"), "/known.rs"));

/// Every board of this version, by name.
pub fn known() -> Result<Vec<Board>, Wrong> {
    KNOWN.iter().map(|text| Board::parse(text)).collect()
}

/// One board.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Board {
    /// Its folder in `boards/`, its crate is `fulmar-<name>`.
    pub name: String,
    /// For people.
    pub title: String,
    pub shown: Shown,
    /// Processor, for people.
    pub chip: String,
    /// Rust's name of what is built for.
    pub target: String,
    pub network: Network,
    /// The firmware has the function engine.
    pub functions: bool,
    /// The firmware speaks TLS to its broker.
    #[serde(default)]
    pub tls: bool,
    /// There is a random source on the chip. Without one, the flasher knows all that the first key is made of.
    pub random: bool,
    /// What functions may be given, in words of the board.
    #[serde(default)]
    pub peripherals: Vec<String>,
    /// Where code is.
    pub flash: Region,
    pub ram: Region,
    /// The flash that keeps partitions; may lie within that of the code.
    pub storage: Storage,
    /// Offsets are from the beginning of `storage`.
    pub partitions: BTreeMap<String, Partition>,
    pub budget: Budget,
    pub writer: Writer,
}

/// How far the firmware was taken, with the network of the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
    /// Tests start it and use it.
    Run,
    /// It is linked, and nobody has seen it run.
    Built,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    Ethernet,
    Wifi,
}

/// Memory as the processor addresses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    pub origin: u32,
    pub size: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// As the processor, or what programs it, addresses it; 0 for a file.
    pub origin: u32,
    pub size: u32,
    /// The smallest part that can be erased.
    pub erase: u32,
    /// The smallest part that can be written.
    pub write: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    pub offset: u32,
    pub size: u32,
}

/// What the firmware may take; the build fails above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Code and constants, with what is copied to memory.
    pub flash: u32,
    /// Static data, the stack not included.
    pub ram: u32,
    /// The deepest stack, painted.
    pub stack: u32,
}

/// Who writes image and partitions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "by", deny_unknown_fields, rename_all = "kebab-case")]
pub enum Writer {
    /// The flash is a file, and the board a process.
    Qemu(Qemu),
    /// Files that are copied to the drive that the chip shows while its button is held.
    Uf2(Uf2),
    /// A debug probe.
    ProbeRs(Chip),
    /// The boot loader of Espressif's chips.
    Espflash(Chip),
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qemu {
    /// `qemu-system-arm`.
    pub program: String,
    /// Where `{flash}` stands for the flash file, `{mac}` for the Ethernet address, `{image}` for the firmware. The process
    /// runs in the folder of the flash file; its standard output is the board's log.
    pub arguments: Vec<String>,
    /// The address under which the board reaches this machine's own loopback.
    pub host: String,
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

/// A table that cannot be used: what it says, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Empty when not even a name could be read.
    pub board: String,
    pub why: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.board.as_str() {
            "" => write!(f, "{}", self.why),
            board => write!(f, "board.toml of {board}: {}", self.why),
        }
    }
}

impl std::error::Error for Wrong {}

impl Board {
    /// Reads a table and insists that it makes sense.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let board: Self = toml::from_str(text)
            .map_err(|error| Wrong { board: String::new(), why: error.to_string().trim_end().to_owned() })?;
        check::check(&board).map_err(|why| Wrong { board: board.name.clone(), why })?;
        Ok(board)
    }

    pub fn partition(&self, name: &str) -> Option<Partition> {
        self.partitions.get(name).copied()
    }

    /// Where the partition begins, as whoever programs the board addresses it.
    pub fn address(&self, partition: Partition) -> u32 {
        // Checked when the table was read.
        self.storage.origin.saturating_add(partition.offset)
    }

    /// What cargo calls its crate.
    pub fn package(&self) -> String {
        format!("fulmar-{}", self.name)
    }
}
