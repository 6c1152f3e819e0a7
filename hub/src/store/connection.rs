//! Opens the database file the one way that keeps promises: write-ahead log, full synchronisation, checked, migrated.
//!
//! Migrations go forward only, each in its own transaction. A database of a later version or of another program must
//! never be written to, not even by accident of a pragma.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::StoreError;
use super::file::{self, FILE_MODE};

/// Marks a database as ours, in its header.
const APPLICATION_ID: i32 = 0x0046_554c;
/// Statements kept prepared: more than there are in the store.
const STATEMENTS_MAX: usize = 48;
/// Memory for pages.
const CACHE_KIBIBYTES: i64 = 16 * 1024;
/// How long to wait for a reader that holds up a checkpoint.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Findings of a check that are shown.
const FINDINGS_MAX: usize = 8;

pub(super) const MIGRATIONS: [&str; 5] = [
    include_str!("migration/0001_first.sql"),
    include_str!("migration/0002_rejection.sql"),
    include_str!("migration/0003_join_nonce.sql"),
    include_str!("migration/0004_lease.sql"),
    include_str!("migration/0005_recovery.sql"),
];

/// How thorough a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Pages and rows; at every start.
    Quick,
    /// Indexes against their tables too; on demand and after a restore.
    Full,
}

/// The log beside the database.
pub fn log_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

/// Opens for the writer. Makes the database when there is none.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    // Made by us, because the library would make it readable by others; its log inherits the mode.
    let made = OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(path);
    made.map_err(StoreError::file(path))?;
    if let Some(parent) = path.parent() {
        file::sync_directory(parent).map_err(StoreError::file(parent))?;
    }
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(StoreError::database("opening"))?;
    let version = check_origin(path, &connection)?;
    configure(path, &connection)?;
    migrate(&connection, version)?;
    Ok(connection)
}

/// Opens for reading beside a running writer.
pub(super) fn open_read_only(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(StoreError::database("opening"))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(StoreError::database("opening"))?;
    check_origin(path, &connection)?;
    Ok(connection)
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<T> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

/// Reads before anything is written: whose database it is, and its version.
fn check_origin(path: &Path, connection: &Connection) -> Result<usize, StoreError> {
    let read = || -> rusqlite::Result<(i32, i64, i64)> {
        let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok((pragma(connection, "application_id")?, pragma(connection, "user_version")?, tables))
    };
    let (application, version, tables) = read().map_err(|error| damaged_or(path, error))?;
    if application != APPLICATION_ID && (application != 0 || tables != 0) {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    let known = MIGRATIONS.len();
    match usize::try_from(version) {
        Ok(version) if version <= known => Ok(version),
        Ok(_) | Err(_) => {
            let known = i64::try_from(known).unwrap_or(i64::MAX);
            Err(StoreError::Newer { path: path.to_owned(), found: version, known })
        }
    }
}

fn configure(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let set = || -> rusqlite::Result<String> {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        let mode = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // The writer decides when: never between a commit and its acknowledgement.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIBIBYTES)?;
        connection.pragma_update(None, "temp_store", "memory")?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        Ok(mode)
    };
    let mode = set().map_err(|error| damaged_or(path, error))?;
    if mode == "wal" {
        Ok(())
    } else {
        let detail = format!("the file system supports no write-ahead log (journal mode {mode})");
        Err(StoreError::Damaged { path: path.to_owned(), detail })
    }
}

fn migrate(connection: &Connection, version: usize) -> Result<(), StoreError> {
    for (number, migration) in (1i64..).zip(MIGRATIONS).skip(version) {
        let text = format!(
            "BEGIN IMMEDIATE; {migration} PRAGMA user_version = {number}; PRAGMA application_id = {APPLICATION_ID}; COMMIT;"
        );
        connection.execute_batch(&text).map_err(StoreError::database("migrating"))?;
        tracing::info!(number, "migrated the database");
    }
    Ok(())
}

/// Fails with the first findings.
pub(super) fn check(path: &Path, connection: &Connection, check: Check) -> Result<(), StoreError> {
    let name = match check {
        Check::Quick => "quick_check",
        Check::Full => "integrity_check",
    };
    let mut findings: Vec<String> = Vec::new();
    let queried = connection.pragma_query(None, name, |row| {
        if findings.len() < FINDINGS_MAX {
            findings.push(row.get(0)?);
        }
        Ok(())
    });
    queried.map_err(|error| damaged_or(path, error))?;
    if findings.iter().map(String::as_str).eq(["ok"]) {
        Ok(())
    } else {
        Err(StoreError::Damaged { path: path.to_owned(), detail: findings.join("; ") })
    }
}

pub(super) fn damaged_or(path: &Path, error: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => {
            StoreError::Damaged { path: path.to_owned(), detail: error.to_string() }
        }
        Some(_) | None => StoreError::Database { doing: "reading", error },
    }
}
