//! The truth of the hub: objects, keys, desired sets and the audit chain in one SQLite database, artifacts as files.
//!
//! All SQL is here. One thread writes; everything else knows batches and what became of them. A store must never say
//! "durable" before the disk did, and never open what another process holds or what it does not understand.

mod artifact;
mod audit;
mod backup;
#[cfg(test)]
mod backup_tests;
mod column;
mod connection;
mod error;
pub(crate) mod file;
mod high_water;
mod load;
mod restore;
#[cfg(test)]
mod tests;
mod write;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::Connection;
use wire::dalek::Ed25519Key;
use wire::id::Order;
use wire::limits::TRUST_LINK_BYTES_MAX;
use wire::sign::{SIGNATURE_BYTES, Sign};
use wire::trust::Link;

pub use artifact::{ARTIFACT_BYTES_MAX, ArtifactError, ArtifactReader, Artifacts, StoredArtifact, UPLOADS_MAX, Upload};
pub use audit::{AuditError, Fault as AuditFault, Head as AuditHead};
pub use backup::{BackupContent, BackupError, Progress, backup};
pub use connection::{Check, log_path};
pub use error::StoreError;
pub use high_water::{HIGH_WATER_FILE, HighWaterError, LOST_FILE_JUMP};
pub use restore::{REPLACED_PREFIX, Restored, restore};
pub use writer::{Outcome, QUEUE_BATCHES_MAX, Report, StoreLimits, SubmitError, Writer};

use crate::commit::{AuditEntry, Loaded, RecoveryCause, RecoveryRow, WORKLOAD_IDS_SKIPPED};
use crate::keys::Keys;
use column::number;

/// The database, inside the data directory.
pub const DATABASE_FILE: &str = "hub.db";
/// Locked by the process that works on the data directory.
pub const LOCK_FILE: &str = "lock";
/// The fleet's name when the first start names none.
pub const FLEET_DEFAULT: &str = "default";
/// Version, kind, key id, signature, link.
const TRUST_FRAME_BYTES_MAX: usize = 6 + SIGNATURE_BYTES + TRUST_LINK_BYTES_MAX;

/// A data directory that belongs to this process alone.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    /// Shared with the writer thread, so that it is not free before that thread ended.
    lock: Arc<file::DirectoryLock>,
}

impl DataDirectory {
    /// Makes the directory if needed and locks it.
    ///
    /// # Errors
    /// When it cannot be made, or another process holds it.
    pub fn take(path: &Path) -> Result<Self, StoreError> {
        file::make_directory(path).map_err(StoreError::file(path))?;
        let path = path.canonicalize().map_err(StoreError::file(path))?;
        let lock = path.join(LOCK_FILE);
        match file::DirectoryLock::take(&lock) {
            Ok(Some(held)) => Ok(Self { path, lock: Arc::new(held) }),
            Ok(None) => Err(StoreError::InUse { path }),
            Err(error) => Err(StoreError::File { path: lock, error }),
        }
    }

    /// Where it is, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where its database is.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.path.join(DATABASE_FILE)
    }
}

/// What a start decides about its store.
#[derive(Clone, Debug, Default)]
pub struct StoreSettings {
    /// `None`: the one in the database, or `FLEET_DEFAULT` in a new one.
    pub fleet: Option<String>,
    /// SHA-256 of the administrator's token.
    pub admin_token_sha256: [u8; 32],
    /// Its limits.
    pub limits: StoreLimits,
}

/// A store that was opened and read, and does not write yet.
pub struct Store {
    state: writer::State,
    warnings: Vec<String>,
    trust: Vec<u8>,
}

impl Store {
    /// Opens or makes the database, checks it, raises the incarnation durably, and reads everything.
    ///
    /// # Errors
    /// When the database cannot be trusted or used; nothing was changed then, but for the incarnation.
    pub fn open(
        directory: &DataDirectory,
        keys: &Keys,
        settings: &StoreSettings,
    ) -> Result<(Self, Loaded), StoreError> {
        if let Some(fleet) = &settings.fleet {
            wire::topic::check_fleet(fleet).map_err(|_| StoreError::FleetName(fleet.clone()))?;
        }
        let path = directory.database();
        let connection = connection::open(&path)?;
        connection::check(&path, &connection, Check::Quick)?;
        establish(&connection, keys, settings)?;
        let warnings = raise_incarnation(directory.path(), &connection, now_ms())?;
        let loaded = load::load(&path, &connection, keys)?;
        let head = audit::head(&connection).map_err(StoreError::database("reading"))?;
        let trust = connection
            .query_row("SELECT frame FROM trust ORDER BY version DESC LIMIT 1", [], |row| row.get(0))
            .map_err(StoreError::database("reading"))?;
        let state = writer::State {
            path,
            connection,
            signing: Arc::clone(&keys.signing),
            fleet: loaded.fleet.clone(),
            sequence: loaded.sequence,
            head,
            limits: settings.limits,
            failed_era: None,
            suspect: false,
            _lock: Arc::clone(&directory.lock),
        };
        Ok((Self { state, warnings, trust }, loaded))
    }

    /// What a person should know about this start.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The last link of the chain of trust, as devices get it.
    #[must_use]
    pub fn trust(&self) -> &[u8] {
        &self.trust
    }

    /// Starts the writer thread.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(self, report: Report) -> std::io::Result<Writer> {
        Writer::start(self.state, report)
    }
}

/// Confirms the audit chain of a database, also beside a running writer, and returns its head.
///
/// # Errors
/// Names the first row that is wrong.
pub fn audit_verify(database: &Path) -> Result<AuditHead, AuditError> {
    let connection = connection::open_read_only(database)?;
    audit::verify(&connection)
}

/// Checks the pages of a database, also beside a running writer.
///
/// # Errors
/// Says what is damaged.
pub fn integrity_check(database: &Path, thoroughness: Check) -> Result<(), StoreError> {
    let connection = connection::open_read_only(database)?;
    connection::check(database, &connection, thoroughness)
}

/// At the first start: fleet, keys and the first link of trust. Later: that they are still the same.
fn establish(connection: &Connection, keys: &Keys, settings: &StoreSettings) -> Result<(), StoreError> {
    let failed = StoreError::database("reading who this hub is");
    let public = keys.public();
    let transaction = connection.unchecked_transaction().map_err(&failed)?;
    let known = transaction.query_row("SELECT fleet, hub_signing, hub_exchange FROM meta", [], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, [u8; 32]>(1)?, row.get::<_, [u8; 32]>(2)?))
    });
    match known {
        Ok((fleet, signing, exchange)) => {
            if let Some(asked) = settings.fleet.as_ref().filter(|asked| **asked != fleet) {
                return Err(StoreError::OtherFleet { found: fleet, asked: asked.clone() });
            }
            if signing != public.signing.0 || exchange != public.exchange.0 {
                return Err(StoreError::OtherKeys);
            }
            transaction
                .execute("UPDATE meta SET admin_token_sha256 = ?1", [settings.admin_token_sha256])
                .map_err(&failed)?;
        }
        Err(rusqlite::Error::QueryReturnedNoRows) => {
            let fleet = settings.fleet.as_deref().unwrap_or(FLEET_DEFAULT);
            let new = "INSERT INTO meta (id, fleet, incarnation, sequence, workload_id_next, hub_signing, hub_exchange,
                       admin_token_sha256, audit_sequence, audit_hash, repairs) VALUES (0, ?1, 0, 0, 1, ?2, ?3, ?4, 0, ?5, 0)";
            let values =
                rusqlite::params![fleet, public.signing.0, public.exchange.0, settings.admin_token_sha256, [0u8; 32]];
            transaction.execute(new, values).map_err(&failed)?;
            let link = first_link(&keys.signing, fleet).map_err(StoreError::Trust)?;
            transaction.execute("INSERT INTO trust (version, frame) VALUES (1, ?1)", [link]).map_err(&failed)?;
        }
        Err(error) => return Err(failed(error)),
    }
    transaction.commit().map_err(&failed)
}

/// Until there is an offline root, the hub's key is its own root: a chain of one self-signed link.
fn first_link(key: &Ed25519Key, fleet: &str) -> Result<Vec<u8>, wire::WireError> {
    let own = key.public_key();
    let hub_keys = std::iter::once(own).collect();
    let link = Link {
        version: 1,
        epoch: 1,
        root: own,
        hub_keys,
        publisher_keys: Default::default(),
        revoked: Default::default(),
    };
    let mut buffer = [0; TRUST_FRAME_BYTES_MAX];
    link.encode(&mut buffer, key, fleet).map(|frame| frame.to_vec())
}

/// First the database, then the file: a crash between them leaves the file lower, which is no alarm.
///
/// A database that is older than what was said in its name gets a note of the gap, in the same transaction.
fn raise_incarnation(data: &Path, connection: &Connection, now_ms: u64) -> Result<Vec<String>, StoreError> {
    let failed = StoreError::database("raising the incarnation");
    let transaction = connection.unchecked_transaction().map_err(&failed)?;
    let meta = "SELECT incarnation, sequence, restored_ms FROM meta";
    let (stored, sequence, restored): (i64, i64, Option<i64>) =
        transaction.query_row(meta, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).map_err(&failed)?;
    let stored = u32::try_from(number(stored)).unwrap_or(u32::MAX);
    let next = high_water::next(stored, high_water::read(data)?)?;
    transaction.execute("UPDATE meta SET incarnation = ?1, restored_ms = NULL", [next.incarnation]).map_err(&failed)?;
    let cause = match (restored, next.is_behind) {
        (Some(_), _) => Some(RecoveryCause::Restored),
        (None, true) => Some(RecoveryCause::Behind),
        (None, false) => None,
    };
    if let Some(cause) = cause {
        let remembered = Order::new(stored, number(sequence)).unwrap_or(Order::ZERO);
        recovery_begin(&transaction, cause, remembered, next.incarnation, now_ms).map_err(&failed)?;
    }
    transaction.commit().map_err(&failed)?;
    high_water::write(data, next.incarnation)?;
    if let Some(warning) = &next.warning {
        tracing::warn!("{warning}");
    }
    Ok(next.warning.into_iter().collect())
}

/// Notes the gap and who noted it. One that is open already grows.
fn recovery_begin(
    connection: &Connection,
    cause: RecoveryCause,
    remembered: Order,
    until_incarnation: u32,
    now_ms: u64,
) -> rusqlite::Result<()> {
    let before: Option<i64> = connection.query_row("SELECT min(remembered) FROM recovery", [], |row| row.get(0))?;
    let remembered = before.map_or(remembered, |before| remembered.min(Order::from_packed(number(before))));
    let row =
        RecoveryRow { cause, since_ms: now_ms, remembered, until_incarnation, is_overruled: false, holds_grants: true };
    write::recovery_put(connection, &row)?;
    // Numbers that were given to workloads since are not known: one that is given twice would find another's state on devices.
    connection.execute("UPDATE meta SET workload_id_next = workload_id_next + ?1", [WORKLOAD_IDS_SKIPPED])?;
    let entry = AuditEntry {
        time_ms: now_ms,
        actor: "system:start".to_owned(),
        action: "recover",
        object: "hub".to_owned(),
        before: None,
        after: None,
    };
    let sequence: i64 = connection.query_row("SELECT sequence FROM meta", [], |row| row.get(0))?;
    let head = audit::append(connection, audit::head(connection)?, number(sequence), &entry)?;
    let update = "UPDATE meta SET audit_sequence = ?1, audit_hash = ?2";
    connection.execute(update, rusqlite::params![column::integer(head.sequence), head.hash.0])?;
    Ok(())
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
