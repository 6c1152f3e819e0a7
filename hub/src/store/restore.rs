//! A backup in place of a database. At every moment of it, the directory holds the old database or the new one, whole.
//!
//! What was there is kept aside, never removed. The new database is marked, so that the start after it knows that devices may
//! know more (`recovery`), and the file beside it keeps the highest incarnation that any of both has seen.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use wire::Digest;

use super::artifact::{ARTIFACT_BYTES_MAX, Artifacts};
use super::backup::{BackupContent, BackupError, Progress, Told, at, check, check_seal, content, copy_pages};
use super::column::{integer, number};
use super::{DataDirectory, StoreError, connection, file, high_water};
use crate::keys::{KEYS_DIRECTORY, Keys};

/// The new database, before it is in place.
const RESTORED_FILE: &str = "hub.db.restored";
/// Directory of a database that was replaced; the time of the restore follows.
pub const REPLACED_PREFIX: &str = "replaced-";

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What the backup holds.
    pub content: BackupContent,
    /// Artifacts that were not there before.
    pub artifacts_new: u64,
    /// Where the database is that was there before.
    pub replaced: Option<PathBuf>,
}

/// Puts a backup in place of the database of a directory that no hub uses.
///
/// # Errors
/// When the backup cannot be used or the disk fails; the database is the one of before then.
pub fn restore(directory: &DataDirectory, from: &Path, now_ms: u64, told: Told<'_>) -> Result<Restored, BackupError> {
    let data = directory.path();
    told(Progress { step: "seal", done: 0, all: 1 });
    check_seal(from)?;
    let source = connection::open_read_only(from)?;
    check_keys(data, &source)?;
    let new = data.join(RESTORED_FILE);
    for left in [new.clone(), connection::log_path(&new), with_ending(&new, "-shm")] {
        remove_if_there(&left)?;
    }
    let (content, artifacts_new) = prepare(data, &source, &new, now_ms, told)?;
    drop(source);
    let database = directory.database();
    let replaced = if database.exists() { Some(keep_aside(data, &database, now_ms)?) } else { None };
    std::fs::rename(&new, &database).map_err(at(&database))?;
    file::sync_directory(data).map_err(at(data))?;
    Ok(Restored { content, artifacts_new, replaced })
}

/// Devices believe the keys that this database was made with, and no others.
fn check_keys(data: &Path, source: &Connection) -> Result<(), BackupError> {
    let path = data.join(KEYS_DIRECTORY);
    if !path.exists() {
        return Err(BackupError::NoKeys { path });
    }
    let public = Keys::open(data, &data.join(super::DATABASE_FILE))?.public();
    let (signing, exchange): ([u8; 32], [u8; 32]) = source
        .query_row("SELECT hub_signing, hub_exchange FROM meta", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(StoreError::database("reading the backup"))?;
    if (signing, exchange) == (public.signing.0, public.exchange.0) {
        Ok(())
    } else {
        Err(StoreError::OtherKeys.into())
    }
}

/// The whole new database beside the old one: checked, of this version, marked, durable.
fn prepare(
    data: &Path,
    source: &Connection,
    new: &Path,
    now_ms: u64,
    told: Told<'_>,
) -> Result<(BackupContent, u64), BackupError> {
    drop(file::create_private(new).map_err(at(new))?);
    let failed = StoreError::database("writing the restored database");
    let mut copy = Connection::open(new).map_err(&failed)?;
    copy_pages(source, &mut copy, told)?;
    check(new, &copy)?;
    let content = content(&copy).map_err(&failed)?;
    let artifacts_new = if content.artifacts.is_some() { put_artifacts(data, &copy, told)? } else { 0 };
    copy.execute_batch("DROP TABLE backup_artifact; DROP TABLE backup; VACUUM;").map_err(&failed)?;
    drop(copy);
    let migrated = connection::open(new)?;
    migrated.execute("UPDATE meta SET restored_ms = ?1", [integer(now_ms)]).map_err(&failed)?;
    check(new, &migrated)?;
    // The last connection takes the log with it.
    migrated.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(&failed)?;
    migrated.close().map_err(|(_, error)| failed(error))?;
    remove_if_there(&connection::log_path(new))?;
    std::fs::File::open(new).and_then(|file| file.sync_all()).map_err(at(new))?;
    Ok((content, artifacts_new))
}

/// Artifacts that are missing; each is checked against its name.
fn put_artifacts(data: &Path, copy: &Connection, told: Told<'_>) -> Result<u64, BackupError> {
    let failed = StoreError::database("reading artifacts of the backup");
    let artifacts = Artifacts::open(data)?;
    let mut select = copy.prepare("SELECT DISTINCT digest FROM backup_artifact").map_err(&failed)?;
    let digests =
        select.query_map([], |row| row.get(0).map(Digest)).and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>);
    let digests = digests.map_err(&failed)?;
    let all = u64::try_from(digests.len()).unwrap_or(u64::MAX);
    let mut put = 0;
    for (done, digest) in (1..).zip(digests) {
        if artifacts.bytes(&digest).is_none() {
            let mut upload = artifacts.upload(ARTIFACT_BYTES_MAX)?;
            let mut parts = copy
                .prepare_cached("SELECT bytes FROM backup_artifact WHERE digest = ?1 ORDER BY part")
                .map_err(&failed)?;
            let mut rows = parts.query([digest.0]).map_err(&failed)?;
            while let Some(row) = rows.next().map_err(&failed)? {
                upload.write(&row.get::<_, Vec<u8>>(0).map_err(&failed)?)?;
            }
            upload.finish(Some(digest), None)?;
            put += 1;
        }
        told(Progress { step: "artifacts", done, all });
    }
    Ok(put)
}

/// Keeps the old database under another name, without a moment in which there is none.
fn keep_aside(data: &Path, database: &Path, now_ms: u64) -> Result<PathBuf, BackupError> {
    let mut names = (now_ms..).map(|time| data.join(format!("{REPLACED_PREFIX}{time}")));
    let aside = names.find(|path| !path.exists()).unwrap_or_else(|| data.join(REPLACED_PREFIX));
    file::make_directory(&aside).map_err(at(&aside))?;
    let log = connection::log_path(database);
    let link = |from: &Path| -> Result<(), BackupError> {
        let Some(name) = from.file_name() else { return Ok(()) };
        match std::fs::hard_link(from, aside.join(name)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            linked => linked.map_err(at(from)),
        }
    };
    // Before anything is opened: the library removes a log that it cannot read.
    link(database)?;
    link(&log)?;
    // What is in the log belongs into the file: a log that stays would be taken for the new database's. A database that is
    // too damaged for that is kept with its log.
    let known = settle(database);
    if known.is_some() {
        remove_if_there(&connection::log_path(&aside.join(super::DATABASE_FILE)))?;
    }
    file::sync_directory(&aside).map_err(at(&aside))?;
    if let Some(incarnation) = known {
        let noted = high_water::read(data).map_err(StoreError::from)?.unwrap_or_default();
        if incarnation > noted {
            high_water::write(data, incarnation).map_err(StoreError::from)?;
        }
    }
    remove_if_there(&log)?;
    remove_if_there(&with_ending(database, "-shm"))?;
    file::sync_directory(data).map_err(at(data))?;
    Ok(aside)
}

/// Moves the log into the database, and gives its incarnation; nothing when it cannot be read.
fn settle(database: &Path) -> Option<u32> {
    let old = Connection::open(database).ok()?;
    let busy: i64 = old.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).ok()?;
    let incarnation: i64 = old.query_row("SELECT incarnation FROM meta", [], |row| row.get(0)).ok()?;
    let closed = old.close().is_ok();
    (busy == 0 && closed).then(|| u32::try_from(number(incarnation)).ok()).flatten()
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn remove_if_there(path: &Path) -> Result<(), BackupError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
