//! `monitor`: what a board says, line by line: the log of an emulated one, or a serial port.

use super::args::Monitor;
use super::emulator::Emulator;
use super::serial::Port;
use crate::args::Global;
use crate::failure::{Failure, system};
use crate::output::{line, plain, say};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const POLL_PERIOD: Duration = Duration::from_millis(100);
const CHUNK_BYTES_MAX: u64 = 64 * 1024;

/// New lines of a log that another process writes, across its being put aside.
pub struct Lines {
    path: PathBuf,
    file: Option<File>,
    rest: Vec<u8>,
}

impl Lines {
    /// From its end on.
    pub fn from_end(path: &Path) -> Self {
        use std::io::{Seek, SeekFrom};
        let mut lines = Self { path: path.to_owned(), file: File::open(path).ok(), rest: Vec::new() };
        if let Some(file) = &mut lines.file {
            // A file that cannot be positioned is read from its beginning.
            let _ = file.seek(SeekFrom::End(0));
        }
        lines
    }

    /// What was added since.
    pub fn more(&mut self) -> Result<Vec<String>, Failure> {
        let mut lines = self.read()?;
        let aside = |file: &File, path: &Path| {
            let (held, there) =
                (file.metadata().map(|data| data.ino()), std::fs::metadata(path).map(|data| data.ino()));
            matches!((held, there), (Ok(held), Ok(there)) if held != there)
        };
        // Put aside, after everything was read; or not there until now.
        if lines.is_empty() && self.file.as_ref().is_none_or(|file| aside(file, &self.path)) {
            self.file = File::open(&self.path).ok();
            lines = self.read()?;
        }
        Ok(lines)
    }

    fn read(&mut self) -> Result<Vec<String>, Failure> {
        let Some(file) = &mut self.file else { return Ok(Vec::new()) };
        let unreadable = |error| system(format!("cannot read {}", self.path.display()), &error);
        file.take(CHUNK_BYTES_MAX).read_to_end(&mut self.rest).map_err(unreadable)?;
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let whole: Vec<u8> = self.rest.drain(..end).collect();
        Ok(String::from_utf8_lossy(&whole).lines().map(plain).collect())
    }
}

pub fn run(global: &Global, args: &Monitor) -> Result<(), Failure> {
    let begin = Instant::now();
    let is_over = || global.timeout.is_some_and(|timeout| begin.elapsed() >= timeout);
    if let Some(path) = &args.port {
        let mut port = Port::open(path, args.baud)?;
        while !is_over() {
            let Some(lines) = port.lines(POLL_PERIOD)? else {
                say("the port is gone");
                return Ok(());
            };
            lines.iter().try_for_each(|text| line(&plain(text)))?;
        }
        return Ok(());
    }
    let emulator = Emulator::existing(&global.data, args.name.as_deref().unwrap_or_default())?;
    // Opened before the end is shown: a line may come twice, none is missed.
    let mut lines = Lines::from_end(&emulator.log());
    emulator.last_words(args.tail).iter().try_for_each(|text| line(text))?;
    while !args.no_follow && !is_over() {
        let has_power = emulator.has_power();
        let more = lines.more()?;
        more.iter().try_for_each(|text| line(text))?;
        if more.is_empty() && !has_power {
            say("the board has no power");
            return Ok(());
        }
        std::thread::sleep(POLL_PERIOD);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    #[test]
    fn a_log_is_followed_across_its_being_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("board.log");
        let mut lines = Lines::from_end(&path);
        assert_eq!(lines.more().unwrap(), Vec::<String>::new());
        std::fs::write(&path, "one\ntw").unwrap();
        assert_eq!(lines.more().unwrap(), ["one"]);
        let mut log = File::options().append(true).open(&path).unwrap();
        log.write_all(b"o\nthree\n").unwrap();
        std::fs::rename(&path, folder.path().join("board.log.1")).unwrap();
        std::fs::write(&path, "four \x1b[2J\n").unwrap();
        assert_eq!(lines.more().unwrap(), ["two", "three"]);
        assert_eq!(lines.more().unwrap(), ["four \u{fffd}[2J"]);
        assert_eq!(lines.more().unwrap(), Vec::<String>::new());
        assert_eq!(Lines::from_end(&path).more().unwrap(), Vec::<String>::new());
    }
}
