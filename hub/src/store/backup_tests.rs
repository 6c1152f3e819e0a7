//! Backups and restores against real files: S5, and what a cut, changed, newer or foreign file does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use rusqlite::Connection;
use wire::id::Order;

use super::backup::{SEAL_BYTES, seal};
use super::*;
use crate::commit::{AuditEntry, Batch, ObjectRow, RecoveryCause, Write};

const OUTCOME_DEADLINE: Duration = Duration::from_secs(20);
const NOW_MS: u64 = 1_700_000_000_000;

struct Rig {
    _directory: tempfile::TempDir,
    data: PathBuf,
    out: PathBuf,
}

struct Running {
    writer: Writer,
    outcomes: mpsc::Receiver<Outcome>,
}

fn batch(sequence: u64, fill: usize) -> Batch {
    let row = ObjectRow {
        kind: "Workload".to_owned(),
        namespace: "default".to_owned(),
        name: format!("w-{}", sequence % 16),
        uid: format!("uid-{sequence}"),
        generation: sequence,
        resource_version: sequence,
        created_ms: 1,
        json: vec![b'x'; fill],
    };
    let entry = AuditEntry {
        time_ms: 5,
        actor: "admin".to_owned(),
        action: "put",
        object: format!("workload/default/{}", row.name),
        before: None,
        after: None,
    };
    Batch { sequence, era: 0, writes: vec![Write::ObjectPut(row)], audit: vec![entry] }
}

impl Rig {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (data, out) = (directory.path().join("data"), directory.path().join("backup"));
        Self { _directory: directory, data, out }
    }

    fn open(&self) -> (Store, Loaded) {
        let directory = DataDirectory::take(&self.data).unwrap();
        let keys = Keys::open(&self.data, &directory.database()).unwrap();
        Store::open(&directory, &keys, &StoreSettings::default()).unwrap()
    }

    fn start(&self) -> (Running, Loaded) {
        let (store, loaded) = self.open();
        let (report, outcomes) = mpsc::channel();
        let writer = store.start(Box::new(move |outcome| report.send(outcome).unwrap())).unwrap();
        (Running { writer, outcomes }, loaded)
    }

    fn write(&self, from: u64, to: u64) {
        let (running, _) = self.start();
        (from..=to).for_each(|sequence| running.write(sequence, 100));
        assert!(running.writer.stop());
    }

    fn backup(&self, with_artifacts: bool) -> Result<BackupContent, BackupError> {
        backup(&self.data, &self.out, with_artifacts, NOW_MS, &mut |_| {})
    }

    fn restore(&self) -> Result<Restored, BackupError> {
        restore(&DataDirectory::take(&self.data)?, &self.out, NOW_MS + 1, &mut |_| {})
    }

    fn sequence(&self) -> u64 {
        let connection = Connection::open(self.data.join(DATABASE_FILE)).unwrap();
        number(connection.query_row("SELECT sequence FROM meta", [], |row| row.get(0)).unwrap())
    }
}

impl Running {
    fn write(&self, sequence: u64, fill: usize) {
        assert!(self.writer.submit(batch(sequence, fill)).is_ok());
        let outcome = self.outcomes.recv_timeout(OUTCOME_DEADLINE).unwrap();
        assert!(matches!(outcome, Outcome::Committed { sequence: of, .. } if of == sequence), "{outcome:?}");
    }
}

fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

#[test]
fn s5_a_restored_database_knows_that_it_has_forgotten_something() {
    let rig = Rig::new();
    rig.write(1, 3);
    let content = rig.backup(true).unwrap();
    assert_eq!((content.sequence, content.incarnation, content.artifacts), (3, 1, Some(0)));
    rig.write(4, 9);
    drop(rig.open());
    let restored = rig.restore().unwrap();
    assert_eq!(restored.content, content);
    let aside = restored.replaced.unwrap();
    assert_eq!(names(&aside), [DATABASE_FILE], "without a log: it is in the file");
    let (store, loaded) = rig.open();
    assert_eq!((loaded.sequence, loaded.incarnation), (3, 4), "above all three starts");
    let recovery = loaded.recovery.unwrap();
    assert_eq!((recovery.cause, recovery.remembered), (RecoveryCause::Restored, Order::new(1, 3).unwrap()));
    assert!(recovery.until_incarnation == 4 && recovery.holds_grants && !recovery.is_overruled);
    assert!(loaded.workload_id_next > 65_536, "numbers that were given since are not given again");
    drop(store);
    audit_verify(&rig.data.join(DATABASE_FILE)).unwrap();
    // The next start is no other restore: the gap stays what it is.
    let again = rig.open().1;
    assert_eq!(again.recovery.map(|row| row.until_incarnation), Some(4));
    // What was there can be looked at.
    let old = Connection::open(aside.join(DATABASE_FILE)).unwrap();
    let sequence: i64 = old.query_row("SELECT sequence FROM meta", [], |row| row.get(0)).unwrap();
    assert_eq!(sequence, 9);
}

#[test]
fn s5_an_old_copy_of_the_database_file_is_noticed_without_a_restore() {
    let rig = Rig::new();
    rig.write(1, 3);
    let database = rig.data.join(DATABASE_FILE);
    let copy = std::fs::read(&database).unwrap();
    rig.write(4, 5);
    std::fs::write(&database, copy).unwrap();
    let (store, loaded) = rig.open();
    assert_eq!((loaded.incarnation, loaded.recovery.unwrap().cause), (3, RecoveryCause::Behind));
    assert!(store.warnings()[0].contains("old copy"), "{:?}", store.warnings());
}

#[test]
fn a_backup_beside_a_writer_is_of_one_moment() {
    let rig = Rig::new();
    let (running, _) = rig.start();
    running.write(1, 200_000);
    let (go, gone) = mpsc::channel::<()>();
    let writing = std::thread::spawn(move || {
        let mut sequence = 1;
        while gone.try_recv().is_err() {
            sequence += 1;
            running.write(sequence, 20_000);
        }
        assert!(running.writer.stop());
        sequence
    });
    let mut steps = 0;
    let mut told = |_: Progress| steps += 1;
    let content = backup(&rig.data, &rig.out, true, NOW_MS, &mut told).unwrap();
    go.send(()).unwrap();
    let last = writing.join().unwrap();
    assert!((1..=last).contains(&content.sequence) && steps > 0, "{} of {last}", content.sequence);
    assert_eq!(names(rig.out.parent().unwrap()), ["backup", "data"]);
    let copy = Connection::open(&rig.out).unwrap();
    let rows: i64 = copy.query_row("SELECT count(*) FROM audit", [], |row| row.get(0)).unwrap();
    assert_eq!(number(rows), content.sequence, "rows and counters of the same moment");
}

#[test]
fn a_torn_or_changed_backup_is_refused_and_changes_nothing() {
    let rig = Rig::new();
    rig.write(1, 3);
    rig.backup(true).unwrap();
    rig.write(4, 5);
    let whole = std::fs::read(&rig.out).unwrap();
    let before = names(&rig.data);
    let refused = |bytes: &[u8]| {
        std::fs::write(&rig.out, bytes).unwrap();
        assert!(matches!(rig.restore(), Err(BackupError::Torn { .. })), "{} bytes", bytes.len());
        assert_eq!((rig.sequence(), names(&rig.data)), (5, before.clone()));
    };
    let seal_at = whole.len() - usize::try_from(SEAL_BYTES).unwrap();
    for length in [0, 1, 4_096, seal_at - 1, seal_at, seal_at + 1, whole.len() - 1] {
        refused(&whole[..length]);
    }
    for at in (0..whole.len()).step_by(whole.len() / 40 + 1) {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        refused(&changed);
    }
    refused(&[whole.as_slice(), b"x"].concat());
    std::fs::write(&rig.out, &whole).unwrap();
    assert_eq!(rig.restore().unwrap().content.sequence, 3);
}

#[test]
fn a_backup_of_a_newer_program_or_another_hub_is_refused() {
    let rig = Rig::new();
    rig.write(1, 3);
    rig.backup(false).unwrap();
    let change = |sql: &str| {
        let length = std::fs::metadata(&rig.out).unwrap().len() - SEAL_BYTES;
        std::fs::File::options().write(true).open(&rig.out).unwrap().set_len(length).unwrap();
        Connection::open(&rig.out).unwrap().execute_batch(sql).unwrap();
        seal(&rig.out).unwrap();
    };
    change("PRAGMA user_version = 99");
    let refused = rig.restore();
    assert!(matches!(refused, Err(BackupError::Store(StoreError::Newer { found: 99, .. }))), "{refused:?}");
    let version = i64::try_from(connection::MIGRATIONS.len()).unwrap();
    change(&format!("PRAGMA user_version = {version}; UPDATE meta SET hub_signing = zeroblob(32)"));
    assert!(matches!(rig.restore(), Err(BackupError::Store(StoreError::OtherKeys))));
    std::fs::rename(rig.data.join("keys"), rig.data.join("kept")).unwrap();
    assert!(matches!(rig.restore(), Err(BackupError::NoKeys { .. })), "none are made for a database that has some");
    change("UPDATE audit SET actor = 'somebody' WHERE sequence = 2");
    std::fs::rename(rig.data.join("kept"), rig.data.join("keys")).unwrap();
    assert_eq!(rig.sequence(), 3);
}

#[test]
fn a_broken_audit_chain_is_neither_backed_up_nor_restored() {
    let rig = Rig::new();
    rig.write(1, 3);
    let database = rig.data.join(DATABASE_FILE);
    Connection::open(&database).unwrap().execute("UPDATE audit SET actor = 'x' WHERE sequence = 2", []).unwrap();
    assert!(matches!(rig.backup(true), Err(BackupError::Audit { .. })));
    assert!(!rig.out.exists() && names(rig.out.parent().unwrap()) == ["data"], "nothing is left of it");
}

#[test]
fn a_restore_needs_the_directory_for_itself_and_a_backup_replaces_no_file() {
    let rig = Rig::new();
    rig.write(1, 1);
    rig.backup(true).unwrap();
    assert!(matches!(rig.backup(true), Err(BackupError::Exists { .. })));
    let held = rig.open();
    assert!(matches!(rig.restore(), Err(BackupError::Store(StoreError::InUse { .. }))));
    drop(held);
    assert!(rig.restore().is_ok());
    let empty = tempfile::tempdir().unwrap();
    let none = backup(empty.path(), &empty.path().join("b"), true, NOW_MS, &mut |_| {});
    assert!(matches!(none, Err(BackupError::NoDatabase { .. })));
}

#[test]
fn artifacts_go_with_a_backup_unless_it_is_made_without() {
    let rig = Rig::new();
    rig.write(1, 1);
    let put = |content: &[u8]| {
        let artifacts = Artifacts::open(&rig.data).unwrap();
        let mut upload = artifacts.upload(ARTIFACT_BYTES_MAX).unwrap();
        upload.write(content).unwrap();
        upload.finish(None, None).unwrap().digest
    };
    let large = vec![7; super::backup::PART_BYTES * 2 + 3];
    let digests = [put(b""), put(b"small"), put(&large), put(&vec![9; super::backup::PART_BYTES])];
    assert_eq!(rig.backup(true).unwrap().artifacts, Some(4));
    let artifacts = Artifacts::open(&rig.data).unwrap();
    for digest in &digests {
        artifacts.delete(digest).unwrap();
    }
    let restored = rig.restore().unwrap();
    assert_eq!(restored.artifacts_new, 4);
    assert_eq!(artifacts.bytes(&digests[2]), Some(large.len() as u64));
    assert_eq!(rig.restore().unwrap().artifacts_new, 0, "what is there is left alone");
    // A damaged one is no content of a backup.
    let path = rig.data.join("artifacts").join(digests[1].text().as_str());
    std::fs::write(&path, b"other").unwrap();
    std::fs::remove_file(&rig.out).unwrap();
    assert!(matches!(rig.backup(true), Err(BackupError::Artifact { .. })));
    assert_eq!(rig.backup(false).unwrap().artifacts, None);
    assert_eq!(rig.restore().unwrap().artifacts_new, 0);
    let tables = Connection::open(rig.data.join(DATABASE_FILE)).unwrap();
    let left: i64 =
        tables.query_row("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'backup%'", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0, "a restored database is like any other");
}

#[test]
fn a_damaged_database_is_replaced_too_and_kept_with_its_log() {
    let rig = Rig::new();
    rig.write(1, 3);
    rig.backup(true).unwrap();
    let database = rig.data.join(DATABASE_FILE);
    std::fs::write(&database, b"not a database at all").unwrap();
    std::fs::write(connection::log_path(&database), b"nor a log").unwrap();
    let aside = rig.restore().unwrap().replaced.unwrap();
    assert_eq!(names(&aside), ["hub.db", "hub.db-wal"]);
    assert_eq!(rig.open().1.sequence, 3);
}

#[test]
fn what_a_killed_restore_left_is_in_nobodys_way() {
    let rig = Rig::new();
    rig.write(1, 3);
    rig.backup(true).unwrap();
    rig.write(4, 5);
    for name in ["hub.db.restored", "hub.db.restored-wal", "hub.db.restored-shm"] {
        std::fs::write(rig.data.join(name), b"half").unwrap();
    }
    assert_eq!(rig.open().1.sequence, 5, "the old one is whole");
    assert_eq!(rig.restore().unwrap().content.sequence, 3);
    assert!(names(&rig.data).iter().all(|name| !name.contains("restored")));
}
