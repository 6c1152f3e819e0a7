//! Stands in for an emulator where the way to a board is tested without firmware: reads the provisioning record from the flash
//! file as firmware does, and becomes a Linux agent that joins with it.
//!
//! `board-double <flash file> <image> <agent>`. It keeps its device in the folder where it runs, and a count of its starts in
//! the partition `journal`. It must know nothing that is not in the flash.

use anyhow::{Context, bail, ensure};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use wire::limits::PROVISION_BYTES_MAX;
use wire::provision::Provision;

/// Of the table in tests/tests/boards.rs.
const JOURNAL_AT: u64 = 0x1000;
const DATA: &str = "device";
const E7: f64 = 10_000_000.0;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [flash, image, agent] = arguments.as_slice() else { bail!("a flash file, an image and an agent") };
    ensure!(std::fs::read(image)?.starts_with(b"\x7fELF"), "the image is an ELF file");
    let file = OpenOptions::new().read(true).write(true).open(flash)?;
    let mut record = [0; PROVISION_BYTES_MAX];
    file.read_exact_at(&mut record, 0)?;
    let record = Provision::decode(&record)?;
    let mut count = [0; 1];
    file.read_exact_at(&mut count, JOURNAL_AT)?;
    // From erased flash on.
    let starts = count[0].wrapping_add(1);
    file.write_all_at(&[starts], JOURNAL_AT)?;
    println!("double: {} as {} for {}, start {starts}", record.board, record.name, record.token.broker);
    let stamp = Path::new(DATA).join("token");
    let token = record.token.text().ok().context("a token has a text")?;
    let mut command = Command::new(agent);
    if std::fs::read_to_string(&stamp).unwrap_or_default() != token.as_str() {
        // Another token than that of its membership: flashed anew.
        let _ = std::fs::remove_dir_all(DATA);
        let position = record.position.context("it was told where it stands")?;
        let [latitude, longitude] = [position.latitude_e7, position.longitude_e7].map(|e7| f64::from(e7) / E7);
        let at = format!("--at={latitude},{longitude},{}", position.uncertainty_m);
        let joined = Command::new(agent)
            .args(["join", "--config", "/dev/null", &token, "--name", record.name, &at, "--data", DATA])
            .stdin(Stdio::null())
            .status()?;
        ensure!(joined.success(), "the agent could not join");
        std::fs::write(stamp, token.as_str())?;
    }
    Err(command.args(["run", "--config", "/dev/null", "--data", DATA]).exec().into())
}
