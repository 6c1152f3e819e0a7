//! The programs of others that a board needs: emulators, and those that write chips. None is installed from here; what is
//! missing is named, with the command that installs it.

use super::image::Part;
use crate::code::Code;
use crate::failure::{Failure, system};
use board::{Chip, Table};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub const PROBE_RS: &str = "probe-rs";
pub const ESPFLASH: &str = "espflash";

/// A program on the path.
pub fn find(name: &str, install: &str) -> Result<PathBuf, Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file());
    found.ok_or_else(|| {
        Failure::new(Code::NoTool, format!("{name} is not installed")).why("it is not on PATH").next(install)
    })
}

/// What is run, in order: the words behind the program. A file of a part is named by its place in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    Text(String),
    /// The ELF file.
    Image,
    /// The file with the bytes of a part.
    Part(usize),
}

fn words(texts: &[&str]) -> Vec<Word> {
    texts.iter().map(|text| Word::Text((*text).to_owned())).collect()
}

/// The runs of `probe-rs` that write image and parts, and start the chip.
pub fn probe_rs(chip: &Chip, parts: &[Part], erases: bool) -> Vec<Vec<Word>> {
    let chip = chip.chip.as_str();
    let mut runs = Vec::new();
    if erases {
        runs.push(words(&["erase", "--chip", chip]));
    }
    let mut image = words(&["download", "--chip", chip]);
    image.push(Word::Image);
    runs.push(image);
    for (number, part) in parts.iter().enumerate() {
        let address = format!("{:#x}", part.address);
        let mut run = words(&["download", "--chip", chip, "--binary-format", "bin", "--base-address", &address]);
        run.push(Word::Part(number));
        runs.push(run);
    }
    runs.push(words(&["reset", "--chip", chip]));
    runs
}

/// The runs of `espflash`; the image last, because it starts the chip.
pub fn espflash(chip: &Chip, port: Option<&Path>, parts: &[Part], erases: bool) -> Vec<Vec<Word>> {
    let mut place = words(&["--chip", &chip.chip]);
    if let Some(port) = port {
        place.extend(words(&["--port", &port.display().to_string()]));
    }
    let run = |verb: &str, more: Vec<Word>| [words(&[verb]), place.clone(), more].concat();
    let mut runs = Vec::new();
    if erases {
        runs.push(run("erase-flash", Vec::new()));
    }
    for (number, part) in parts.iter().enumerate() {
        let more = [words(&[&format!("{:#x}", part.address)]), vec![Word::Part(number)]].concat();
        runs.push(run("write-bin", more));
    }
    runs.push(run("flash", vec![Word::Image]));
    runs
}

/// Runs a program as often as it takes. Its words go to standard error.
pub fn write(program: &Path, runs: &[Vec<Word>], image: &Path, parts: &[Part], table: &Table) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| system("cannot write a temporary file", &error);
    let mut files = Vec::new();
    for part in parts {
        // Of this user alone: the record has the token and the seed.
        let mut file = tempfile::NamedTempFile::new().map_err(cannot)?;
        file.write_all(&part.bytes).and_then(|()| file.flush()).map_err(cannot)?;
        files.push(file);
    }
    for run in runs {
        let mut command = Command::new(program);
        for word in run {
            match word {
                Word::Text(text) => command.arg(text),
                Word::Image => command.arg(image),
                Word::Part(number) => command.args(files.get(*number).map(|file| file.path())),
            };
        }
        command.stdin(Stdio::null()).stdout(std::io::stderr());
        let status = command.status().map_err(|error| system(format!("cannot run {}", program.display()), &error))?;
        if !status.success() {
            let shown: Vec<String> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
            return Err(Failure::new(Code::Flash, format!("{} was not written", table.name))
                .why(format!("{} {} ended with {status}; its words are above", program.display(), shown.join(" ")))
                .next("connect the board and its probe or cable, then flash again"));
        }
    }
    Ok(())
}

/// Builds the firmware of a board in the source tree around this directory; gives the image.
pub fn build(table: &Table) -> Result<PathBuf, Failure> {
    const SCRIPT: &str = "scripts/firmware";
    let here = std::env::current_dir().map_err(|error| system("cannot find the current directory", &error))?;
    let tree = here.ancestors().find(|folder| folder.join(SCRIPT).is_file()).ok_or_else(|| {
        Failure::usage("there is no firmware to write")
            .why(format!("--image names none, and {} is in no source tree with {SCRIPT}", here.display()))
            .next("--image FILE    (firmware that was built already)")
            .next("or run it in the source tree of Fulmar, which builds it")
    })?;
    let mut command = Command::new(tree.join(SCRIPT));
    command.arg(&table.name).current_dir(tree).stdin(Stdio::null()).stdout(Stdio::piped());
    let output =
        command.stderr(Stdio::inherit()).output().map_err(|error| system(format!("cannot run {SCRIPT}"), &error))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().last().map(|line| tree.join(line.trim()));
    match last.filter(|path| output.status.success() && path.is_file()) {
        Some(image) => Ok(image),
        None => Err(Failure::new(Code::Build, format!("the firmware of {} was not built", table.name))
            .why(format!("{SCRIPT} {} ended with {}; its words are above", table.name, output.status))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::image::tests::table;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn parts() -> Vec<Part> {
        vec![Part { address: 0x810_0000, bytes: b"record".to_vec() }]
    }

    fn shown(runs: &[Vec<Word>]) -> Vec<String> {
        let word = |word: &Word| match word {
            Word::Text(text) => text.clone(),
            Word::Image => "IMAGE".to_owned(),
            Word::Part(number) => format!("PART{number}"),
        };
        runs.iter().map(|run| run.iter().map(word).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn a_probe_writes_image_and_record_and_starts_the_chip() {
        let chip = Chip { chip: "STM32H743ZITx".to_owned() };
        let expected = [
            "download --chip STM32H743ZITx IMAGE",
            "download --chip STM32H743ZITx --binary-format bin --base-address 0x8100000 PART0",
            "reset --chip STM32H743ZITx",
        ];
        assert_eq!(shown(&probe_rs(&chip, &parts(), false)), expected);
        assert_eq!(shown(&probe_rs(&chip, &parts(), true))[0], "erase --chip STM32H743ZITx");
    }

    #[test]
    fn espflash_writes_the_record_before_the_image_that_starts() {
        let chip = Chip { chip: "esp32c6".to_owned() };
        let expected = [
            "write-bin --chip esp32c6 --port /dev/ttyACM0 0x8100000 PART0",
            "flash --chip esp32c6 --port /dev/ttyACM0 IMAGE",
        ];
        assert_eq!(shown(&espflash(&chip, Some(Path::new("/dev/ttyACM0")), &parts(), false)), expected);
        assert_eq!(shown(&espflash(&chip, None, &parts(), true))[0], "erase-flash --chip esp32c6");
    }

    fn script(folder: &Path, text: &str) -> PathBuf {
        let path = folder.join("tool");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_tool_gets_the_bytes_of_each_part_in_a_file_that_is_gone_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let text =
            format!("echo \"$@\" >> {0}; for last; do :; done; cat \"$last\" >> {0}; echo >> {0}", log.display());
        let tool = script(folder.path(), &text);
        let image = folder.path().join("image");
        std::fs::write(&image, "the image").unwrap();
        let chip = Chip { chip: "esp32c6".to_owned() };
        write(&tool, &espflash(&chip, None, &parts(), false), &image, &parts(), &table()).unwrap();
        let said = std::fs::read_to_string(&log).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines[0].starts_with("write-bin --chip esp32c6 0x8100000 /") && lines[1] == "record", "{said}");
        assert_eq!(lines[2..], [format!("flash --chip esp32c6 {}", image.display()), "the image".to_owned()]);
        let file = lines[0].rsplit(' ').next().unwrap();
        assert!(!Path::new(file).exists());
    }

    #[test]
    fn a_tool_that_fails_or_is_missing_is_said_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let tool = script(folder.path(), "exit 3");
        let chip = Chip { chip: "a".to_owned() };
        let failure = write(&tool, &probe_rs(&chip, &[], false), &tool, &[], &table()).unwrap_err();
        assert!(failure.code == "FLASH" && failure.why[0].contains("exit status: 3"), "{failure:?}");
        let failure = find("probe-rs-nonexistent", "cargo install probe-rs-tools").unwrap_err();
        assert_eq!((failure.code.as_str(), failure.next[0].as_str()), ("NO_TOOL", "cargo install probe-rs-tools"));
    }
}
