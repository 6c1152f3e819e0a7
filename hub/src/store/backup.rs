//! A backup: one file with the database as it was at one moment, beside a running hub, and with the artifacts.
//!
//! The file is a database with a seal behind it: the hash of everything before. It appears under its name only when it is
//! complete, checked and durable. Keys are never in it: who has a backup can read a fleet, and not speak for it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use sha2::{Digest as _, Sha256};
use wire::Digest;

use super::artifact::ARTIFACTS_DIRECTORY;
use super::column::{integer, number};
use super::{AuditError, Check, DATABASE_FILE, StoreError, audit, connection, file};

/// Pages that are copied between two words about progress.
const PAGES_PER_STEP: i32 = 1_024;
/// Bytes of an artifact in one row.
pub(super) const PART_BYTES: usize = 1024 * 1024;
/// Before the hash at the end of the file.
const SEAL_TEXT: &[u8; 25] = b"\nfulmar backup v1 sha256 ";
pub(super) const SEAL_BYTES: u64 = 25 + 64 + 1;
const UNFINISHED: &str = "unfinished";

/// Tables that only a backup has.
const TABLES: &str = "
CREATE TABLE backup (
    id INTEGER PRIMARY KEY CHECK (id = 0),
    made_ms INTEGER NOT NULL,
    program TEXT NOT NULL,
    has_artifacts INTEGER NOT NULL CHECK (has_artifacts IN (0, 1))
) STRICT;
CREATE TABLE backup_artifact (
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    part INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (digest, part)
) STRICT;";

/// Why there is no backup, or why one cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Nothing to back up.
    #[error("{path} is not there, so there is no hub to back up. Name the data directory of one with --data")]
    NoDatabase {
        /// The database that would be.
        path: PathBuf,
    },
    /// There is a file already.
    #[error("{path} exists. A backup replaces no file: take another name, or remove it first")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file is cut, changed, or no backup at all.
    #[error("{path} is not a whole backup: {detail}. Nothing was changed. Take another backup")]
    Torn {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: &'static str,
    },
    /// An artifact is not what its name says.
    #[error("the artifact {digest} in {path} is damaged. Upload it again, or back up without artifacts")]
    Artifact {
        /// Which.
        digest: Digest,
        /// Where.
        path: PathBuf,
    },
    /// The database lacks its keys.
    #[error(
        "{path} is not there: a backup holds no keys, and devices believe no hub with others. Put the copy of the keys \
         directory there that was made when the hub was set up"
    )]
    NoKeys {
        /// The directory of keys.
        path: PathBuf,
    },
    /// The keys cannot be read.
    #[error(transparent)]
    Keys(#[from] crate::keys::KeysError),
    /// A database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit chain is broken.
    #[error("the audit chain of {path} is not whole: {error}")]
    Audit {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        error: AuditError,
    },
    /// Artifacts cannot be put back.
    #[error(transparent)]
    Artifacts(#[from] super::ArtifactError),
    /// A file cannot be read or written.
    #[error("cannot use {path}: {error}. Check who owns it and whether the disk has space")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> BackupError {
    let path = path.to_owned();
    move |error| BackupError::File { path: path.clone(), error }
}

/// How far it is; the unit differs from step to step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// For people.
    pub step: &'static str,
    /// So much of `all`.
    pub done: u64,
    /// Everything.
    pub all: u64,
}

/// Who is told of progress.
pub type Told<'a> = &'a mut dyn FnMut(Progress);

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupContent {
    /// When it was made, in Unix time.
    pub made_ms: u64,
    /// Name of the fleet.
    pub fleet: String,
    /// Of the hub's run.
    pub incarnation: u32,
    /// Of the last change.
    pub sequence: u64,
    /// How many.
    pub devices: u64,
    /// `None`: it was made without.
    pub artifacts: Option<u64>,
}

/// Makes a backup of the hub on `data`, which may be running.
///
/// # Errors
/// When it cannot be made; no file is left then.
pub fn backup(
    data: &Path,
    out: &Path,
    with_artifacts: bool,
    now_ms: u64,
    told: Told<'_>,
) -> Result<BackupContent, BackupError> {
    let database = data.join(DATABASE_FILE);
    if !database.exists() {
        return Err(BackupError::NoDatabase { path: database });
    }
    if out.exists() {
        return Err(BackupError::Exists { path: out.to_owned() });
    }
    let mut name = out.as_os_str().to_owned();
    name.push(".");
    name.push(UNFINISHED);
    let unfinished = PathBuf::from(name);
    drop(file::create_private(&unfinished).map_err(at(&unfinished))?);
    let made = make(data, &database, &unfinished, with_artifacts, now_ms, told).and_then(|content| {
        seal(&unfinished)?;
        std::fs::rename(&unfinished, out).map_err(at(out))?;
        let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        file::sync_directory(parent).map_err(at(parent))?;
        Ok(content)
    });
    if made.is_err() {
        // What is left of it is of no use; that it cannot be removed is no news beside the failure.
        let _ = std::fs::remove_file(&unfinished);
    }
    made
}

fn make(
    data: &Path,
    database: &Path,
    unfinished: &Path,
    with_artifacts: bool,
    now_ms: u64,
    told: Told<'_>,
) -> Result<BackupContent, BackupError> {
    let source = connection::open_read_only(database)?;
    let mut copy = Connection::open(unfinished).map_err(StoreError::database("writing the backup"))?;
    copy_pages(&source, &mut copy, told)?;
    drop(source);
    let write = || -> rusqlite::Result<()> {
        copy.query_row("PRAGMA journal_mode = delete", [], |_| Ok(()))?;
        copy.execute_batch(TABLES)?;
        let row = "INSERT INTO backup (id, made_ms, program, has_artifacts) VALUES (0, ?1, ?2, ?3)";
        copy.execute(row, rusqlite::params![integer(now_ms), env!("CARGO_PKG_VERSION"), with_artifacts])?;
        Ok(())
    };
    write().map_err(StoreError::database("writing the backup"))?;
    if with_artifacts {
        copy_artifacts(&data.join(ARTIFACTS_DIRECTORY), &copy, told)?;
    }
    check(unfinished, &copy)?;
    content(&copy).map_err(|error| StoreError::database("reading the backup")(error).into())
}

/// Copies a database as it is at one moment, whatever is written meanwhile.
pub(super) fn copy_pages(source: &Connection, copy: &mut Connection, told: Told<'_>) -> Result<(), StoreError> {
    let failed = StoreError::database("copying the database");
    // Held to the end, so that no step sees another moment.
    let snapshot = source.unchecked_transaction().map_err(&failed)?;
    snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(&failed)?;
    let pages = Backup::new(&snapshot, copy).map_err(&failed)?;
    loop {
        let step = pages.step(PAGES_PER_STEP).map_err(&failed)?;
        let progress = pages.progress();
        let narrow = |count: i32| u64::try_from(count).unwrap_or_default();
        let all = narrow(progress.pagecount);
        told(Progress { step: "pages of the database", done: all.saturating_sub(narrow(progress.remaining)), all });
        match step {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            // Nobody else knows the copy, and readers of the source wait for no writer.
            _ => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
    }
}

/// Everything that can be checked of a database that nobody uses.
pub(super) fn check(path: &Path, connection: &Connection) -> Result<(), BackupError> {
    connection::check(path, connection, Check::Full)?;
    let broken: i64 = connection
        .query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0))
        .map_err(StoreError::database("checking"))?;
    if broken > 0 {
        let detail = format!("{broken} rows belong to devices that are not there");
        return Err(StoreError::Damaged { path: path.to_owned(), detail }.into());
    }
    audit::verify(connection).map_err(|error| BackupError::Audit { path: path.to_owned(), error })?;
    Ok(())
}

fn copy_artifacts(directory: &Path, copy: &Connection, told: Told<'_>) -> Result<(), BackupError> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>().map_err(at(directory))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at(directory)(error)),
    };
    // Uploads that are under way have other names.
    let digests = entries.iter().filter_map(|entry| Digest::parse(entry.file_name().to_str()?));
    let digests: Vec<Digest> = digests.collect();
    let all = u64::try_from(digests.len()).unwrap_or(u64::MAX);
    for (done, digest) in (1..).zip(&digests) {
        let path = directory.join(digest.text().as_str());
        match File::open(&path) {
            Ok(file) => copy_artifact(file, *digest, &path, copy)?,
            // Deleted since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(&path)(error)),
        }
        told(Progress { step: "artifacts", done, all });
    }
    Ok(())
}

fn copy_artifact(mut file: File, digest: Digest, path: &Path, copy: &Connection) -> Result<(), BackupError> {
    let failed = StoreError::database("writing an artifact into the backup");
    let transaction = copy.unchecked_transaction().map_err(&failed)?;
    let (mut hasher, mut buffer, mut part) = (Sha256::new(), vec![0; PART_BYTES], 0_i64);
    loop {
        let length = fill(&mut file, &mut buffer).map_err(at(path))?;
        let bytes = buffer.get(..length).unwrap_or_default();
        if bytes.is_empty() && part > 0 {
            break;
        }
        hasher.update(bytes);
        transaction
            .prepare_cached("INSERT INTO backup_artifact (digest, part, bytes) VALUES (?1, ?2, ?3)")
            .and_then(|mut insert| insert.execute(rusqlite::params![digest.0, part, bytes]))
            .map_err(&failed)?;
        part += 1;
    }
    if Digest(hasher.finalize().into()) != digest {
        return Err(BackupError::Artifact { digest, path: path.to_owned() });
    }
    Ok(transaction.commit().map_err(&failed)?)
}

/// As many bytes as there are, up to the buffer's.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(room) = buffer.get_mut(length..).filter(|room| !room.is_empty()) {
        match file.read(room)? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

pub(super) fn content(connection: &Connection) -> rusqlite::Result<BackupContent> {
    let (made_ms, has_artifacts): (i64, bool) =
        connection.query_row("SELECT made_ms, has_artifacts FROM backup", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (fleet, incarnation, sequence): (String, u32, i64) =
        connection.query_row("SELECT fleet, incarnation, sequence FROM meta", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(number);
    Ok(BackupContent {
        made_ms: number(made_ms),
        fleet,
        incarnation,
        sequence: number(sequence),
        devices: count("SELECT count(*) FROM device_keys")?,
        artifacts: match has_artifacts {
            true => Some(count("SELECT count(DISTINCT digest) FROM backup_artifact")?),
            false => None,
        },
    })
}

/// Puts the hash of the file behind it and makes all of it durable.
pub(super) fn seal(path: &Path) -> Result<(), BackupError> {
    let write = || -> io::Result<()> {
        let mut file = File::options().read(true).write(true).open(path)?;
        let length = file.metadata()?.len();
        let hash = hash_of(&mut file, length)?;
        file.seek(SeekFrom::Start(length))?;
        file.write_all(SEAL_TEXT)?;
        file.write_all(hash.text().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    };
    write().map_err(at(path))
}

/// Confirms that a backup is what was sealed.
///
/// # Errors
/// When it is cut or changed, or no backup.
pub(super) fn check_seal(path: &Path) -> Result<(), BackupError> {
    let torn = |detail| BackupError::Torn { path: path.to_owned(), detail };
    let mut file = File::open(path).map_err(at(path))?;
    let length = file.metadata().map_err(at(path))?.len();
    let Some(sealed) = length.checked_sub(SEAL_BYTES) else { return Err(torn("it is too short")) };
    let mut seal = Vec::new();
    file.seek(SeekFrom::Start(sealed)).and_then(|_| file.read_to_end(&mut seal)).map_err(at(path))?;
    let hash = seal.strip_prefix(SEAL_TEXT.as_slice()).and_then(|rest| rest.strip_suffix(b"\n"));
    let hash = hash.and_then(|hash| Digest::parse(std::str::from_utf8(hash).ok()?));
    let Some(hash) = hash else { return Err(torn("its end is missing, or it was not made by fulmar hub backup")) };
    file.seek(SeekFrom::Start(0)).map_err(at(path))?;
    if hash_of(&mut file, sealed).map_err(at(path))? == hash {
        Ok(())
    } else {
        Err(torn("its content is not what was written"))
    }
}

fn hash_of(file: &mut File, length: u64) -> io::Result<Digest> {
    let (mut hasher, mut buffer, mut left) = (Sha256::new(), vec![0; PART_BYTES], length);
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(PART_BYTES).min(PART_BYTES);
        let read = file.read(buffer.get_mut(..room).unwrap_or_default())?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
        left -= u64::try_from(read).unwrap_or(left);
    }
    Ok(Digest(hasher.finalize().into()))
}
