//! An emulated board: a directory with its flash, image, log and table, and while it has power a process around QEMU.
//!
//! The process holds a lock that QEMU inherits, so that "it has power" is true exactly as long as one of the two lives. It ends
//! QEMU whatever ends it, and bounds the log. Nothing else may write the flash meanwhile.

use super::image::Image;
use super::{slot, storage, tool};
use crate::code::Code;
use crate::companion::{self, Companion};
use crate::detach;
use crate::failure::{Failure, system};
use crate::output::plain;
use crate::stop::{Order, Stop};
use board::{Qemu, Table};
use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Below the data directory of the hub.
const DIRECTORY: &str = "boards";
const FLASH_FILE: &str = "flash.bin";
const IMAGE_FILE: &str = "image.elf";
const FACTS_FILE: &str = "device.json";
const LOCK_FILE: &str = "power";
pub const LOG_FILE: &str = "board.log";
/// What the process around QEMU says about itself: `emulator.log`.
const WHAT: &str = "emulator";
/// A log that is longer is put aside, over the one put aside before.
const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;
const CHUNK_BYTES: usize = 8 * 1024;
/// Of what a reader is shown at once.
const TAIL_BYTES_MAX: u64 = 64 * 1024;
const POLL_PERIOD: Duration = Duration::from_millis(20);
/// A board that was asked about holds its lock for a moment.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// From SIGTERM to SIGKILL.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// For the process around QEMU, which waits for that itself.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// What was flashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub name: String,
    pub board: String,
    /// `02:00:00:00:00:01`.
    pub mac: String,
    /// Where the hub said that its broker is.
    pub broker: String,
    /// The hub's own address.
    pub server: String,
}

/// The directory of one emulated board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emulator {
    pub directory: PathBuf,
}

impl Emulator {
    /// Where the board of that name is, or will be.
    pub fn of(data: &Path, name: &str) -> Result<Self, Failure> {
        let directory = data.join(DIRECTORY).join(name);
        std::path::absolute(directory)
            .map(|directory| Self { directory })
            .map_err(|error| system("cannot find the data directory", &error))
    }

    /// One that was flashed.
    pub fn existing(data: &Path, name: &str) -> Result<Self, Failure> {
        let emulator = Self::of(data, name)?;
        if emulator.directory.join(FACTS_FILE).is_file() {
            return Ok(emulator);
        }
        let known: Vec<String> = all(data).into_iter().map(|(facts, _)| facts.name).collect();
        let failure = Failure::new(Code::NoBoard, format!("there is no emulated board {name}"));
        Err(match known.is_empty() {
            true => failure.why(format!("there is none in {}", data.join(DIRECTORY).display())),
            false => failure.why(format!("there are {}", known.join(", "))),
        }
        .next("fulmar boards emulated")
        .next("fulmar flash --board BOARD --name NAME"))
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    pub fn flash(&self) -> PathBuf {
        self.path(FLASH_FILE)
    }

    pub fn log(&self) -> PathBuf {
        self.path(LOG_FILE)
    }

    pub fn facts(&self) -> Result<Facts, Failure> {
        let path = self.path(FACTS_FILE);
        let text = std::fs::read(&path).map_err(|error| system(format!("cannot read {}", path.display()), &error))?;
        serde_json::from_slice(&text).map_err(|error| {
            Failure::new(Code::Board, format!("{} does not say what the board is", path.display()))
                .why(error.to_string())
        })
    }

    /// Puts everything in place that a start needs. Must not have power.
    pub fn prepare(
        &self,
        (table, text): (&Table, &str),
        facts: &Facts,
        image: &Path,
        record: &[u8],
        erases: bool,
    ) -> Result<(), Failure> {
        let qemu = qemu(table)?;
        let cannot = |error: std::io::Error| system(format!("cannot write {}", self.directory.display()), &error);
        companion::create_directory(&self.directory).map_err(cannot)?;
        storage::write(table, qemu, &self.flash(), record, erases)?;
        let mut started = image.to_owned();
        if let Some(boot) = table.boot_name() {
            // QEMU starts the boot code; the firmware lies in flash, where an update finds it.
            let image = slot::encode(table, &Image::read(image, table)?, slot::FIRST_VERSION)?;
            storage::put(table, qemu, &self.flash(), &slot::parts(table, &image)?)?;
            started.set_file_name(boot);
        }
        let missing = |error| system(format!("cannot read {}", started.display()), &error);
        std::fs::copy(&started, self.path(IMAGE_FILE)).map_err(missing)?;
        std::fs::write(self.path(board::FILE), text).map_err(cannot)?;
        // Last: with it the board is one.
        let facts = serde_json::to_vec(facts).unwrap_or_default();
        std::fs::write(self.path(FACTS_FILE), facts).map_err(cannot)
    }

    fn open_lock(&self) -> std::io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.path(LOCK_FILE))
    }

    pub fn has_power(&self) -> bool {
        // A lock file that cannot be opened is held by nobody.
        let Ok(lock) = self.open_lock() else { return false };
        matches!(flock(&lock, FlockOperation::NonBlockingLockShared), Err(Errno::WOULDBLOCK))
    }

    /// The process around QEMU, then QEMU.
    fn processes(&self) -> [Option<Pid>; 2] {
        let text = std::fs::read_to_string(self.path(LOCK_FILE)).unwrap_or_default();
        let mut ids = text.split_whitespace().map(|id| id.parse().ok().and_then(Pid::from_raw));
        [ids.next().flatten(), ids.next().flatten()]
    }

    /// As a child of `up`, which it never outlives.
    pub fn start_beside(&self) -> Result<Companion, Failure> {
        let own = std::env::current_exe().map_err(|error| system("cannot find this program's own path", &error))?;
        let arguments = ["boards", "run", "--exit-with-stdin"].map(Into::into);
        let arguments: Vec<_> = arguments.into_iter().chain([self.directory.clone().into()]).collect();
        Companion::start(WHAT, &own, &self.directory, &arguments)
    }

    /// In the background, until `stop`.
    pub fn start(&self) -> Result<(), Failure> {
        if self.has_power() {
            return Err(has_power(&self.directory));
        }
        let path = self.path(&format!("{WHAT}.log"));
        let unwritable = |error| system(format!("cannot write {}", path.display()), &error);
        let log = File::create(&path).map_err(unwritable)?;
        let errors = log.try_clone().map_err(unwritable)?;
        let own = std::env::current_exe().map_err(|error| system("cannot find this program's own path", &error))?;
        let mut child = Command::new(own)
            .args(["boards", "run", "--detached"])
            .arg(&self.directory)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|error| system("cannot start this program again", &error))?;
        let begin = Instant::now();
        // What an earlier start has left there is not of this one.
        let own = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(self.ended(status, &path));
            }
            let [around, inside] = self.processes();
            if around == own && inside.is_some() && self.has_power() {
                return Ok(());
            }
            if begin.elapsed() > START_TIMEOUT {
                terminate(&mut child);
                return Err(Failure::new(Code::TimedOut, "the emulator did not start in time")
                    .why(format!("its log: {}", path.display())));
            }
            std::thread::sleep(POLL_PERIOD);
        }
    }

    fn ended(&self, status: ExitStatus, log: &Path) -> Failure {
        let said = std::fs::read_to_string(log).unwrap_or_default();
        let mut failure = Failure::new(Code::Emulator, format!("the emulator did not run ({status})"));
        failure.why = said.lines().map(plain).filter(|line| !line.is_empty()).collect();
        failure
    }

    /// Takes the power away; false if it had none.
    pub fn stop(&self) -> Result<bool, Failure> {
        if !self.has_power() {
            return Ok(false);
        }
        let [around, inside] = self.processes();
        for (id, name, signal, timeout) in
            [(around, "fulmar", Signal::TERM, STOP_TIMEOUT), (inside, "qemu", Signal::KILL, STOP_TIMEOUT)]
        {
            // By a handle that no other process can take over, and only if it is what it should be.
            let process = id.and_then(|id| pidfd_open(id, PidfdFlags::empty()).ok().map(|process| (id, process)));
            if let Some((id, process)) = process
                && runs(id, name)
            {
                // Gone already is just as good.
                let _ = pidfd_send_signal(&process, signal);
                let begin = Instant::now();
                while begin.elapsed() < timeout {
                    if !self.has_power() {
                        return Ok(true);
                    }
                    std::thread::sleep(POLL_PERIOD);
                }
            }
        }
        Err(Failure::new(Code::Emulator, format!("the emulator in {} did not end", self.directory.display()))
            .why(format!("its processes are in {}", self.path(LOCK_FILE).display())))
    }

    /// What the emulator itself said when it ended: QEMU's reason comes first, registers follow.
    pub fn reason(&self, count: usize) -> Vec<String> {
        let text = std::fs::read_to_string(self.path(&format!("{WHAT}.log"))).unwrap_or_default();
        text.lines().filter(|line| !line.trim().is_empty()).take(count).map(plain).collect()
    }

    /// The last lines of the board's log.
    pub fn last_words(&self, count: usize) -> Vec<String> {
        let text = tail(&self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(count)).map(|line| plain(line)).collect()
    }
}

/// The end of a file.
fn tail(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES_MAX)))?;
    let mut out = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut out)?;
    Ok(out)
}

fn runs(id: Pid, name: &str) -> bool {
    let program = std::fs::read_link(format!("/proc/{}/exe", id.as_raw_nonzero())).unwrap_or_default();
    program.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name))
}

fn has_power(directory: &Path) -> Failure {
    Failure::new(Code::BoardRuns, format!("the board in {} has power already", directory.display()))
        .next("fulmar boards emulated")
}

fn qemu(table: &Table) -> Result<&Qemu, Failure> {
    table.qemu.as_ref().ok_or_else(|| {
        Failure::new(Code::Board, format!("{} is not emulated", table.name)).why("its board.toml has no [qemu]")
    })
}

/// Every emulated board of a data directory, by name.
pub fn all(data: &Path) -> Vec<(Facts, Emulator)> {
    let entries = std::fs::read_dir(data.join(DIRECTORY)).into_iter().flatten().flatten();
    let emulators = entries.filter_map(|entry| Emulator::of(data, &entry.file_name().to_string_lossy()).ok());
    let mut known: Vec<_> = emulators.filter_map(|emulator| Some((emulator.facts().ok()?, emulator))).collect();
    known.sort_by(|one, other| one.0.name.cmp(&other.0.name));
    known
}

/// QEMU's command line for a board.
fn command(qemu: &Qemu, emulator: &Emulator, mac: &str) -> Result<Command, Failure> {
    let program = tool::find(&qemu.program, &format!("sudo apt-get install {}", qemu.package))?;
    let (flash, image) = (emulator.flash(), emulator.path(IMAGE_FILE));
    let (flash, image) = (flash.display().to_string(), image.display().to_string());
    // QEMU takes a comma in a value for the beginning of the next option.
    if let Some(path) = [&flash, &image].into_iter().find(|path| path.contains(',')) {
        return Err(Failure::usage(format!("{path} has a comma, which QEMU does not take")).next("--data DIR"));
    }
    let fill = |arg: &String| arg.replace("{flash}", &flash).replace("{image}", &image).replace("{mac}", mac);
    let mut command = Command::new(program);
    command.args(qemu.args.iter().map(fill)).current_dir(&emulator.directory);
    Ok(command)
}

/// The process around QEMU: until it ends by itself, a signal, or the end of standard input.
pub fn run(directory: &Path, exit_with_stdin: bool, detached: bool) -> Result<(), Failure> {
    if detached {
        detach::begin_session()?;
    }
    let stop = Stop::listen()?;
    let emulator = Emulator { directory: directory.to_owned() };
    let facts = emulator.facts()?;
    let table = Table::read(directory).map_err(|mistake| Failure::new(Code::Board, mistake.to_string()))?;
    let mut lock = take_lock(&emulator)?;
    let mut command = command(qemu(&table)?, &emulator, &facts.mac)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| system(format!("cannot start {}", command.get_program().display()), &error))?;
    let status = attend(&emulator, &mut lock, &mut child, &stop, exit_with_stdin);
    terminate(&mut child);
    match status? {
        None => Ok(()),
        Some(status) => Err(Failure::new(Code::Emulator, format!("the emulator ended by itself ({status})"))),
    }
}

fn take_lock(emulator: &Emulator) -> Result<File, Failure> {
    let cannot = |error: std::io::Error| system(format!("cannot lock {}", emulator.directory.display()), &error);
    let lock = emulator.open_lock().map_err(cannot)?;
    let begin = Instant::now();
    loop {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK) if begin.elapsed() < LOCK_TIMEOUT => std::thread::sleep(POLL_PERIOD),
            Err(Errno::WOULDBLOCK) => return Err(has_power(&emulator.directory)),
            Err(error) => return Err(cannot(error.into())),
        }
    }
    // QEMU inherits it: as long as it lives, nobody writes the flash, whatever became of this process.
    fcntl_setfd(&lock, FdFlags::empty()).map_err(|error| cannot(error.into()))?;
    Ok(lock)
}

/// `None`: it is to end. Otherwise QEMU has.
fn attend(
    emulator: &Emulator,
    lock: &mut File,
    child: &mut Child,
    stop: &Stop,
    exit_with_stdin: bool,
) -> Result<Option<ExitStatus>, Failure> {
    let cannot = |error: std::io::Error| system(format!("cannot write {}", emulator.directory.display()), &error);
    let ids = format!("{} {}\n", std::process::id(), child.id());
    lock.set_len(0).and_then(|()| lock.write_all(ids.as_bytes())).map_err(cannot)?;
    let mut log = Log::open(&emulator.log()).map_err(cannot)?;
    let is_over = Arc::new(AtomicBool::new(false));
    let thread = |name: &str, work: Box<dyn FnOnce() + Send>| {
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(work).map_err(|error| system("cannot start a thread", &error))
    };
    if let Some(mut out) = child.stdout.take() {
        thread("log", Box::new(move || log.take(&mut out)))?;
    }
    if exit_with_stdin {
        let is_over = is_over.clone();
        let wait = move || {
            // Nobody writes there: it ends, or fails, when whoever started this is gone.
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            is_over.store(true, Ordering::Relaxed);
        };
        thread("parent", Box::new(wait))?;
    }
    while stop.wait(POLL_PERIOD) == Order::GoOn && !is_over.load(Ordering::Relaxed) {
        if let Some(status) = child.try_wait().map_err(cannot)? {
            return Ok(Some(status));
        }
    }
    Ok(None)
}

/// Asks it to end, then insists. Returns when it is gone.
fn terminate(child: &mut Child) {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // Not waited for yet, so that the id is its own.
    if matches!(child.try_wait(), Ok(None))
        && id.is_some_and(|id| rustix::process::kill_process(id, Signal::TERM).is_ok())
    {
        let begin = Instant::now();
        while begin.elapsed() < END_TIMEOUT && matches!(child.try_wait(), Ok(None)) {
            std::thread::sleep(POLL_PERIOD);
        }
    }
    // Both fail only if it is gone already.
    let _ = child.kill();
    let _ = child.wait();
}

/// What a board says, up to a length.
struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Log {
    fn open(path: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, bytes })
    }

    /// Until the other side closes. A disk that is full costs lines, not the board: it must never wait for its log.
    fn take(&mut self, from: &mut impl Read) {
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            match from.read(&mut chunk) {
                Ok(0) => return,
                Ok(count) => drop(self.write(chunk.get(..count).unwrap_or_default())),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.bytes > LOG_BYTES_MAX {
            let mut aside = self.path.as_os_str().to_owned();
            aside.push(".1");
            std::fs::rename(&self.path, aside)?;
            *self = Self::open(&self.path)?;
        }
        self.file.write_all(bytes)?;
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::image::tests::{EXAMPLE, table};
    use super::*;

    #[test]
    fn a_command_line_has_the_paths_and_the_address_in_it() {
        let data = tempfile::tempdir().unwrap();
        let emulator = Emulator::of(data.path(), "mcu-1").unwrap();
        let mut table = table();
        table.qemu.as_mut().unwrap().program = "true".to_owned();
        let command = command(table.qemu.as_ref().unwrap(), &emulator, "02:00:00:00:00:07").unwrap();
        let args: Vec<String> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        assert!(args.iter().any(|arg| arg.contains("boards/mcu-1/flash.bin,share=on")), "{args:?}");
        assert!(args.iter().any(|arg| arg.ends_with("mac=02:00:00:00:00:07")), "{args:?}");
        assert!(args.last().unwrap().ends_with("boards/mcu-1/image.elf"), "{args:?}");
        assert_eq!(command.get_current_dir(), Some(emulator.directory.as_path()));
    }

    #[test]
    fn a_missing_emulator_and_a_comma_in_a_path_are_said_before_anything_starts() {
        let data = tempfile::tempdir().unwrap();
        let mut table = table();
        table.qemu.as_mut().unwrap().program = "qemu-system-nonexistent".to_owned();
        let emulator = Emulator::of(data.path(), "mcu-1").unwrap();
        let failure = command(table.qemu.as_ref().unwrap(), &emulator, "").unwrap_err();
        assert_eq!(
            (failure.code.as_str(), failure.next[0].as_str()),
            ("NO_TOOL", "sudo apt-get install qemu-system-arm")
        );
        table.qemu.as_mut().unwrap().program = "true".to_owned();
        let emulator = Emulator::of(&data.path().join("a,readonly=on"), "mcu-1").unwrap();
        assert_eq!(command(table.qemu.as_ref().unwrap(), &emulator, "").unwrap_err().code, "USAGE");
    }

    #[test]
    fn a_board_is_there_once_everything_is_in_place() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(Emulator::existing(data.path(), "mcu-1").unwrap_err().code, "NO_BOARD");
        let emulator = Emulator::of(data.path(), "mcu-1").unwrap();
        let facts = Facts {
            name: "mcu-1".to_owned(),
            board: "example".to_owned(),
            mac: "02:00:00:00:00:07".to_owned(),
            broker: "mqtt://127.0.0.1:1".to_owned(),
            server: "http://127.0.0.1:2".to_owned(),
        };
        let image = data.path().join("image");
        std::fs::write(&image, b"elf").unwrap();
        emulator.prepare((&table(), EXAMPLE), &facts, &image, b"record", false).unwrap();
        let existing = Emulator::existing(data.path(), "mcu-1").unwrap();
        assert_eq!((existing.facts().unwrap(), existing.has_power()), (facts.clone(), false));
        assert_eq!(all(data.path()), [(facts, existing)]);
        assert_eq!(std::fs::metadata(emulator.flash()).unwrap().len(), 0x100_0000);
        assert_eq!(Table::read(&emulator.directory), Ok(table()));
        assert_eq!(emulator.stop(), Ok(false));
        assert!(Emulator::existing(data.path(), "mcu-2").unwrap_err().why[0].contains("mcu-1"));
    }

    #[test]
    fn a_lock_says_that_a_board_has_power_and_only_one_has_it() {
        let data = tempfile::tempdir().unwrap();
        let emulator = Emulator { directory: data.path().to_owned() };
        let lock = take_lock(&emulator).unwrap();
        assert!(emulator.has_power());
        assert_eq!(emulator.start().unwrap_err().code, "BOARD_RUNS");
        drop(lock);
        assert!(!emulator.has_power());
    }

    #[test]
    fn a_log_is_bounded_and_its_end_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let emulator = Emulator { directory: folder.path().to_owned() };
        let mut log = Log::open(&emulator.log()).unwrap();
        let line = b"[    1.234] network: up\n";
        let lines = usize::try_from(LOG_BYTES_MAX).unwrap() / line.len() + CHUNK_BYTES;
        log.take(&mut line.repeat(lines).as_slice());
        log.take(&mut &b"one\ntwo \x1b[2J\nthree\n"[..]);
        assert_eq!(emulator.last_words(2), ["two \u{fffd}[2J", "three"]);
        let aside = folder.path().join("board.log.1");
        let lengths = [emulator.log(), aside].map(|path| std::fs::metadata(path).unwrap().len());
        assert!(lengths.iter().all(|length| *length <= LOG_BYTES_MAX + CHUNK_BYTES as u64), "{lengths:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
