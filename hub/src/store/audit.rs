//! The audit chain: one row for each change, bound to the row before it by a hash, in the change's own transaction.
//!
//! Rows are only ever added. A changed, removed or inserted row breaks the chain at a place that can be named; the head
//! of the chain is kept apart, so that rows missing at the end are noticed too. Who can rewrite the whole database can
//! rewrite the whole chain: the head must also be kept elsewhere to notice that.

use rusqlite::Connection;
use sha2::{Digest as _, Sha256};
use wire::Digest;

use super::StoreError;
use super::column::{integer, number};
use crate::commit::AuditEntry;

const DOMAIN: &[u8] = b"fulmar/v1/audit\0";

/// The last link of a chain; all zero before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Number of rows.
    pub sequence: u64,
    /// Hash of the last row.
    pub hash: Digest,
}

/// What is wrong with a chain, at the first wrong row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A row is not there.
    #[error("audit row {sequence} is missing")]
    Missing {
        /// Its number.
        sequence: u64,
    },
    /// The content of a row is not what was written.
    #[error("audit row {sequence} was changed after it was written")]
    Changed {
        /// Its number.
        sequence: u64,
    },
    /// A row does not follow the one before it.
    #[error("audit row {sequence} does not follow the row before it")]
    Unlinked {
        /// Its number.
        sequence: u64,
    },
    /// A row was added after the end.
    #[error("audit row {sequence} was added by somebody else: the chain ends before it")]
    Added {
        /// Its number.
        sequence: u64,
    },
    /// The rows are consistent but end in another hash than the head.
    #[error("the audit chain was rewritten: row {sequence} is not the one that was written last")]
    Rewritten {
        /// Number of the last row.
        sequence: u64,
    },
}

/// Why a chain was not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// It is broken.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// It could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Every part with its length: two different rows never hash the same bytes.
fn link(head: &Head, sequence: u64, resource_version: u64, row: &Row<'_>) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(DOMAIN);
    hasher.update(head.hash.0);
    for value in [sequence, resource_version, row.time_ms] {
        hasher.update(value.to_be_bytes());
    }
    for text in [row.actor, row.action, row.object] {
        hasher.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(text);
    }
    for digest in [row.before, row.after] {
        match digest {
            Some(digest) => {
                hasher.update([1]);
                hasher.update(digest.0);
            }
            None => hasher.update([0]),
        }
    }
    Digest(hasher.finalize().into())
}

struct Row<'a> {
    time_ms: u64,
    actor: &'a str,
    action: &'a str,
    object: &'a str,
    before: Option<Digest>,
    after: Option<Digest>,
}

/// Adds one row inside the caller's transaction and returns the new head.
pub(super) fn append(
    connection: &Connection,
    head: Head,
    resource_version: u64,
    entry: &AuditEntry,
) -> rusqlite::Result<Head> {
    let sequence = head.sequence.saturating_add(1);
    let row = Row {
        time_ms: entry.time_ms,
        actor: &entry.actor,
        action: entry.action,
        object: &entry.object,
        before: entry.before,
        after: entry.after,
    };
    let hash = link(&head, sequence, resource_version, &row);
    let mut insert = connection.prepare_cached(
        "INSERT INTO audit (sequence, resource_version, time_ms, actor, action, object, before, after, hash_previous, hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    insert.execute(rusqlite::params![
        integer(sequence),
        integer(resource_version),
        integer(entry.time_ms),
        entry.actor,
        entry.action,
        entry.object,
        entry.before.map(|digest| digest.0),
        entry.after.map(|digest| digest.0),
        head.hash.0,
        hash.0,
    ])?;
    Ok(Head { sequence, hash })
}

pub(super) fn head(connection: &Connection) -> rusqlite::Result<Head> {
    connection.query_row("SELECT audit_sequence, audit_hash FROM meta", [], |row| {
        Ok(Head { sequence: number(row.get(0)?), hash: Digest(row.get(1)?) })
    })
}

/// Walks the whole chain, oldest first, and returns its head.
pub(super) fn verify(connection: &Connection) -> Result<Head, AuditError> {
    let failed = StoreError::database("reading the audit chain");
    // One transaction, so that rows and head are of the same moment beside a running writer.
    let snapshot = connection.unchecked_transaction().map_err(&failed)?;
    let expected = head(&snapshot).map_err(&failed)?;
    let mut select = snapshot
        .prepare(
            "SELECT sequence, resource_version, time_ms, actor, action, object, before, after, hash_previous, hash
             FROM audit ORDER BY sequence",
        )
        .map_err(&failed)?;
    let mut rows = select.query([]).map_err(&failed)?;
    let mut at = Head::default();
    while let Some(row) = rows.next().map_err(&failed)? {
        let sequence = number(row.get(0).map_err(&failed)?);
        let wanted = at.sequence.saturating_add(1);
        if sequence != wanted {
            return Err(Fault::Missing { sequence: wanted }.into());
        }
        if sequence > expected.sequence {
            return Err(Fault::Added { sequence }.into());
        }
        at = match follow(&at, sequence, row) {
            Ok(followed) => followed?,
            // A value that cannot be read as what it was written as.
            Err(error) if error.sqlite_error().is_none() => return Err(Fault::Changed { sequence }.into()),
            Err(error) => return Err(failed(error).into()),
        };
    }
    if at.sequence < expected.sequence {
        return Err(Fault::Missing { sequence: at.sequence.saturating_add(1) }.into());
    }
    if at.hash == expected.hash { Ok(at) } else { Err(Fault::Rewritten { sequence: at.sequence }.into()) }
}

fn follow(at: &Head, sequence: u64, row: &rusqlite::Row<'_>) -> rusqlite::Result<Result<Head, Fault>> {
    let text = |index: usize| -> rusqlite::Result<String> { row.get(index) };
    let (actor, action, object) = (text(3)?, text(4)?, text(5)?);
    let digest = |index: usize| -> rusqlite::Result<Option<Digest>> {
        row.get::<_, Option<Vec<u8>>>(index)
            .map(|bytes| bytes.map(|bytes| Digest(bytes.try_into().unwrap_or_default())))
    };
    let content = Row {
        time_ms: number(row.get(2)?),
        actor: &actor,
        action: &action,
        object: &object,
        before: digest(6)?,
        after: digest(7)?,
    };
    if Digest(row.get(8)?) != at.hash {
        return Ok(Err(Fault::Unlinked { sequence }));
    }
    let hash = link(at, sequence, number(row.get(1)?), &content);
    if hash != Digest(row.get(9)?) {
        return Ok(Err(Fault::Changed { sequence }));
    }
    Ok(Ok(Head { sequence, hash }))
}
