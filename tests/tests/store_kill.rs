//! The store under kill -9, torn logs and failing disks: nothing acknowledged is lost, nothing is half there, and what
//! was reported as failed does not come back.
//!
//! The oracle is a model that knows every batch by its number; it is compared with every row of every table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use hub::commit::Loaded;
use hub::keys::Keys;
use hub::store::{
    DATABASE_FILE, DataDirectory, HIGH_WATER_FILE, Outcome, Store, StoreLimits, StoreSettings, audit_verify, log_path,
};
use tests::store_load::{Model, Random, batch};

const SEED: u64 = 20_260_727;
const KILLS: u64 = 50;
const CUTS: u64 = 1_000;
/// Longest time a level may take to be reached; never reached when all is well.
const DEADLINE: Duration = Duration::from_secs(60);

fn open(data: &Path) -> Loaded {
    let directory = DataDirectory::take(data).unwrap();
    let keys = Keys::open(directory.path(), &directory.database()).unwrap();
    Store::open(&directory, &keys, &StoreSettings::default()).unwrap().1
}

/// Opens what is left and compares all of it with the model at the sequence that the store claims.
fn check(data: &Path, model: &Model, loaded: &Loaded) {
    model.compare(loaded).unwrap();
    assert_eq!(audit_verify(&data.join(DATABASE_FILE)).unwrap().sequence, model.audit_rows());
}

/// A line of the writer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    Open { incarnation: u32 },
    Acknowledged { sequence: u64, era: u32 },
    Failed { sequence: u64, era: u32, reason: String },
}

impl Line {
    fn parse(text: &str) -> Self {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["open", _, incarnation] => Self::Open { incarnation: incarnation.parse().unwrap() },
            ["ack", sequence, era] => {
                Self::Acknowledged { sequence: sequence.parse().unwrap(), era: era.parse().unwrap() }
            }
            ["failed", sequence, era, reason] => Self::Failed {
                sequence: sequence.parse().unwrap(),
                era: era.parse().unwrap(),
                reason: (*reason).to_owned(),
            },
            _ => panic!("the writer said {text:?}"),
        }
    }
}

/// A writer process and what it said so far.
struct Writer {
    child: Child,
    lines: mpsc::Receiver<Line>,
    said: Vec<Line>,
}

impl Writer {
    fn start(data: &Path, mode: &str, environment: &[(&str, &Path)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_store_writer"));
        command.arg(data).arg(mode).stdout(Stdio::piped()).envs(environment.iter().copied());
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            // A line without its end was cut by the kill: it was not said.
            while output.read_line(&mut line).is_ok_and(|count| count > 0) && line.ends_with('\n') {
                send.send(Line::parse(&line)).unwrap();
                line.clear();
            }
        });
        Self { child, lines, said: Vec::new() }
    }

    /// Listens until `enough` says so.
    fn wait_until(&mut self, enough: impl Fn(&Line) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let line = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())).unwrap();
            self.said.push(line.clone());
            if enough(&line) {
                return;
            }
        }
    }

    /// Kills it once this time has passed from now, wherever it is then, and returns all that it ever said.
    fn kill_after(mut self, time: Duration) -> Vec<Line> {
        let end = Instant::now() + time;
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.said.push(line);
        }
        self.kill();
        self.said.extend(self.lines.iter());
        std::mem::take(&mut self.said)
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Writer {
    /// A test that failed leaves no process behind.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The era of every acknowledged batch, and the era that was current at the end.
fn eras(said: &[Line]) -> (BTreeMap<u64, u32>, u32) {
    let mut acknowledged = BTreeMap::new();
    let mut current = 0;
    for line in said {
        match line {
            Line::Open { .. } => {}
            Line::Acknowledged { sequence, era } => {
                let before = acknowledged.insert(*sequence, *era);
                assert_eq!(before, None, "batch {sequence} was acknowledged twice");
            }
            Line::Failed { era, .. } => current = era + 1,
        }
    }
    (acknowledged, current)
}

#[test]
fn c21_s1_a_writer_that_is_killed_at_any_moment_keeps_what_it_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    let mut random = Random(SEED);
    let mut model = Model::new();
    let mut incarnation = 0;
    let mut acknowledged_in_all = 0;
    for round in 0..KILLS {
        let mut writer = Writer::start(data.path(), "endless", &[]);
        // A third somewhere in the start, the rest under load.
        if round % 3 != 0 {
            writer.wait_until(|line| matches!(line, Line::Acknowledged { .. }));
        }
        let said = writer.kill_after(Duration::from_micros(random.below(60_000)));
        let (acknowledged, _) = eras(&said);
        let last = acknowledged.keys().next_back().copied().unwrap_or(0);
        assert!(!said.iter().any(|line| matches!(line, Line::Failed { .. })), "round {round}: {said:?}");
        for line in &said {
            if let Line::Open { incarnation: opened } = line {
                assert!(*opened > incarnation, "round {round}");
                incarnation = *opened;
            }
        }
        let loaded = open(data.path());
        assert!(loaded.incarnation > incarnation, "round {round}");
        incarnation = loaded.incarnation;
        assert!(loaded.sequence >= last.max(model.sequence), "round {round}: acknowledged and lost");
        while model.sequence < loaded.sequence {
            model.advance(0);
        }
        check(data.path(), &model, &loaded);
        acknowledged_in_all += acknowledged.len();
    }
    assert!(acknowledged_in_all > 500, "only {acknowledged_in_all} batches were acknowledged before the kills");
}

/// A log as it grew: how long it was when each batch became durable.
struct Recording {
    /// Files of the data directory besides database and log.
    others: Vec<(PathBuf, Vec<u8>)>,
    database: Vec<u8>,
    log: Vec<u8>,
    acknowledged: Vec<(u64, u64)>,
    incarnation: u32,
    /// By sequence.
    models: Vec<Model>,
}

const RECORDED_BEFORE: u64 = 20;
const RECORDED: u64 = 160;

fn record(data: &Path) -> Recording {
    let limits = StoreLimits { log_bytes_max: u64::MAX, group_batches_max: 4, ..StoreLimits::default() };
    let settings = StoreSettings { limits, ..StoreSettings::default() };
    let run = |from: u64, to: u64| {
        let directory = DataDirectory::take(data).unwrap();
        let keys = Keys::open(directory.path(), &directory.database()).unwrap();
        let (store, loaded) = Store::open(&directory, &keys, &settings).unwrap();
        let (send, acknowledged) = mpsc::channel();
        let log = log_path(&directory.database());
        let report = move |outcome| match outcome {
            Outcome::Committed { sequence, .. } => {
                send.send((sequence, fs::metadata(&log).unwrap().len())).unwrap();
            }
            failed @ Outcome::Failed { .. } => panic!("{failed:?}"),
        };
        let writer = store.start(Box::new(report)).unwrap();
        for sequence in from..=to {
            assert!(writer.submit(batch(sequence, 0)).is_ok());
        }
        let acknowledged: Vec<(u64, u64)> = (from..=to).map(|_| acknowledged.recv_timeout(DEADLINE).unwrap()).collect();
        let kept = read_all(directory.path());
        // A clean stop empties the log: what is recorded is what lay on the disk before it.
        assert!(writer.stop());
        (acknowledged, kept, loaded.incarnation)
    };
    run(1, RECORDED_BEFORE);
    let (acknowledged, mut kept, incarnation) = run(RECORDED_BEFORE + 1, RECORDED_BEFORE + RECORDED);
    let mut models = vec![Model::new()];
    for sequence in 1..=RECORDED_BEFORE + RECORDED {
        let mut next = models.last().unwrap().clone();
        next.advance(0);
        assert_eq!(next.sequence, sequence);
        models.push(next);
    }
    let mut take = |name: &str| kept.remove(Path::new(name)).unwrap();
    let database = take(DATABASE_FILE);
    let log = take(log_path(Path::new(DATABASE_FILE)).to_str().unwrap());
    kept.retain(|path, _| path.starts_with("keys") || path == Path::new(HIGH_WATER_FILE));
    Recording { others: kept.into_iter().collect(), database, log, acknowledged, incarnation, models }
}

fn read_all(data: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![data.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                files.insert(path.strip_prefix(data).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// How the end of the log looks after the cut.
#[derive(Clone, Copy, Debug)]
enum Tail {
    /// It ends there.
    Missing,
    /// A part of a page of rubbish follows.
    Rubbish,
    /// What was there before it was ever written: zeros up to the old length.
    Zeros,
    /// The rest is there, but for a damaged page at the cut: written out of order.
    OutOfOrder,
}

impl Recording {
    fn cut(&self, scratch: &Path, cut: usize, tail: Tail, random: &mut Random) -> Loaded {
        let mut log = self.log[..cut].to_vec();
        match tail {
            Tail::Missing => {}
            Tail::Rubbish => {
                let count = random.below(8_192);
                log.extend(random.bytes(count));
            }
            Tail::Zeros => log.resize(self.log.len(), 0),
            Tail::OutOfOrder => {
                log.extend_from_slice(&self.log[cut..]);
                let end = (cut + 4_096).min(log.len());
                for byte in &mut log[cut..end] {
                    *byte ^= 0xA5;
                }
            }
        }
        fs::create_dir_all(scratch.join("keys")).unwrap();
        for (path, content) in &self.others {
            write_private(&scratch.join(path), content);
        }
        write_private(&scratch.join(DATABASE_FILE), &self.database);
        write_private(&log_path(&scratch.join(DATABASE_FILE)), &log);
        open(scratch)
    }

    /// The last batch that was durable when the log had this length.
    fn acknowledged_at(&self, length: usize) -> u64 {
        let durable = self.acknowledged.iter().take_while(|(_, log)| *log <= u64::try_from(length).unwrap());
        durable.last().map_or(RECORDED_BEFORE, |(sequence, _)| *sequence)
    }
}

fn write_private(path: &Path, content: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// In memory where that is offered: the cuts are made by hand, so that real synchronisation would only cost time.
fn fast_directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap()
}

#[test]
fn a_log_that_is_cut_anywhere_holds_whole_batches_and_all_that_were_durable() {
    let recorded = tempfile::tempdir().unwrap();
    let recording = record(recorded.path());
    assert!(recording.log.len() > 500_000, "a short log: {}", recording.log.len());
    thread::scope(|scope| {
        for worker in 0..2 {
            let recording = &recording;
            scope.spawn(move || {
                let mut random = Random(SEED + worker);
                let mut reached = BTreeMap::new();
                for number in 0..CUTS / 2 {
                    let cut = usize::try_from(random.below(recording.log.len() as u64 + 1)).unwrap();
                    let tails = [Tail::Missing, Tail::Rubbish, Tail::Zeros, Tail::OutOfOrder];
                    let tail = tails[usize::try_from(random.below(4)).unwrap()];
                    let scratch = fast_directory();
                    let loaded = recording.cut(scratch.path(), cut, tail, &mut random);
                    let context = format!("cut {number} of worker {worker} at {cut}, {tail:?}");
                    assert!(loaded.sequence >= recording.acknowledged_at(cut), "{context}: lost");
                    assert!(loaded.incarnation > recording.incarnation, "{context}");
                    if loaded.recovery.is_some() {
                        // Cut before the start that the high-water mark beside it speaks of: no loss of power does that,
                        // only an old copy, which the hub takes it for.
                        assert_eq!(recording.acknowledged_at(cut), RECORDED_BEFORE, "{context}");
                        continue;
                    }
                    let model = &recording.models[usize::try_from(loaded.sequence).unwrap()];
                    check(scratch.path(), model, &loaded);
                    *reached.entry(loaded.sequence).or_insert(0) += 1;
                }
                assert!(reached.len() > 20, "the cuts reached only {reached:?}");
            });
        }
    });
}

/// The preloaded library with the faults, and the directory that switches them.
struct Faults {
    directory: tempfile::TempDir,
    library: PathBuf,
}

impl Faults {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let library = directory.path().join("libfault.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/disk_fault.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
        assert!(compiler.status().expect("a C compiler built the database, so there is one").success());
        Self { directory, library }
    }

    fn writer(&self, data: &Path, mode: &str) -> Writer {
        let environment = [("LD_PRELOAD", self.library.as_path()), ("FULMAR_FAULT_DIRECTORY", self.directory.path())];
        Writer::start(data, mode, &environment)
    }

    fn on(&self, fault: &str) {
        fs::write(self.directory.path().join(fault), b"").unwrap();
    }

    fn off(&self, fault: &str) {
        fs::remove_file(self.directory.path().join(fault)).unwrap();
    }
}

fn is_failure(line: &Line) -> bool {
    matches!(line, Line::Failed { .. })
}

/// After `said`, the store holds what was acknowledged, each batch from the era in which it was.
fn check_after_faults(data: &Path, said: &[Line]) -> Loaded {
    let (acknowledged, current) = eras(said);
    let last = acknowledged.keys().next_back().copied().unwrap_or(0);
    let loaded = open(data);
    assert!(loaded.sequence >= last, "acknowledged and lost");
    let mut model = Model::new();
    while model.sequence < loaded.sequence {
        model.advance(acknowledged.get(&(model.sequence + 1)).copied().unwrap_or(current));
    }
    check(data, &model, &loaded);
    loaded
}

fn reasons(said: &[Line]) -> Vec<&str> {
    let mut reasons: Vec<&str> = Vec::new();
    for line in said {
        if let Line::Failed { reason, .. } = line {
            reasons.push(reason);
        }
    }
    reasons.dedup();
    reasons
}

#[test]
fn a_commit_whose_synchronisation_failed_never_comes_back() {
    let faults = Faults::new();
    let data = tempfile::tempdir().unwrap();
    let mut writer = faults.writer(data.path(), "stop");
    writer.wait_until(|line| matches!(line, Line::Acknowledged { sequence: 30.., .. }));
    faults.on("sync-once");
    writer.wait_until(is_failure);
    let said = writer.kill_after(Duration::ZERO);
    let (acknowledged, _) = eras(&said);
    let loaded = check_after_faults(data.path(), &said);
    assert_eq!(Some(&loaded.sequence), acknowledged.keys().next_back(), "a failed batch became durable");
    assert_eq!(reasons(&said), ["Io"]);
}

#[test]
fn work_goes_on_after_one_failed_synchronisation() {
    let faults = Faults::new();
    let data = tempfile::tempdir().unwrap();
    let mut writer = faults.writer(data.path(), "endless");
    for era in 0..4 {
        writer.wait_until(|line| matches!(line, Line::Acknowledged { era: of, .. } if *of == era));
        faults.on("sync-once");
        writer.wait_until(is_failure);
    }
    writer.wait_until(|line| matches!(line, Line::Acknowledged { era: 4, .. }));
    let said = writer.kill_after(Duration::ZERO);
    check_after_faults(data.path(), &said);
    assert_eq!(reasons(&said), ["Io"]);
}

#[test]
fn nothing_is_acknowledged_while_the_disk_does_not_synchronise() {
    let faults = Faults::new();
    let data = tempfile::tempdir().unwrap();
    let mut writer = faults.writer(data.path(), "endless");
    writer.wait_until(|line| matches!(line, Line::Acknowledged { sequence: 20.., .. }));
    faults.on("sync-always");
    writer.wait_until(is_failure);
    for _ in 0..20 {
        writer.wait_until(|_| true);
        assert!(is_failure(writer.said.last().unwrap()), "{:?}", writer.said.last());
    }
    faults.off("sync-always");
    writer.wait_until(|line| matches!(line, Line::Acknowledged { .. }));
    let said = writer.kill_after(Duration::ZERO);
    check_after_faults(data.path(), &said);
    assert_eq!(reasons(&said), ["Io"]);
}

#[test]
fn c17_a_full_disk_refuses_changes_until_there_is_space() {
    let faults = Faults::new();
    let data = tempfile::tempdir().unwrap();
    let mut writer = faults.writer(data.path(), "endless");
    for _ in 0..3 {
        writer.wait_until(|line| matches!(line, Line::Acknowledged { .. }));
        faults.on("full");
        for _ in 0..5 {
            writer.wait_until(is_failure);
        }
        faults.off("full");
        writer.wait_until(|line| matches!(line, Line::Acknowledged { .. }));
    }
    let said = writer.kill_after(Duration::ZERO);
    check_after_faults(data.path(), &said);
    assert_eq!(reasons(&said), ["DiskFull"]);
}
