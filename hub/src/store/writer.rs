//! The writer thread: the only place that changes the database.
//!
//! What waits is put into one transaction, so that one synchronisation of the disk serves many batches. A batch is
//! reported as durable only after the commit of its group returned, and never after any part of that commit failed.
//! After a failure nothing that builds upon it may be written: batches of the failed era are dropped.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_channel::{Receiver, Sender, TrySendError};
use rusqlite::{Connection, Transaction, TransactionBehavior, ffi};
use wire::DeviceId;
use wire::dalek::Ed25519Key;
use wire::desired::SignedHeader;

use super::audit::{self, Head};
use super::column::{integer, number};
use super::file::DirectoryLock;
use super::{StoreError, connection, high_water, write};
use crate::commit::{Batch, CommitFailure, Write};

/// Batches that wait for the writer; the engine makes no more until there is room.
pub const QUEUE_BATCHES_MAX: usize = 1_024;
/// Longest time the writer may take to end: what waits is written first.
pub const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Limits of the database and of its writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// Batches in one transaction.
    pub group_batches_max: usize,
    /// Bytes of bodies and documents after which a transaction takes no further batch.
    pub group_bytes_max: usize,
    /// Size of the log after which it is moved into the database and emptied.
    pub log_bytes_max: u64,
    /// Size of the database; writes beyond are refused like on a full disk.
    pub database_bytes_max: u64,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            group_batches_max: 512,
            group_bytes_max: 16 * 1024 * 1024,
            log_bytes_max: 4 * 1024 * 1024,
            database_bytes_max: 16 * 1024 * 1024 * 1024,
        }
    }
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable, and so are all before it.
    Committed {
        /// Of the batch.
        sequence: u64,
        /// The desired sets in it, signed.
        signed: Vec<(DeviceId, SignedHeader)>,
    },
    /// Neither it nor any later one of its era is durable.
    Failed {
        /// Of the first batch that failed.
        sequence: u64,
        /// Why.
        reason: CommitFailure,
    },
}

/// Where outcomes go, in the order of the batches. Called on the writer thread, which waits for it.
pub type Report = Box<dyn FnMut(Outcome) + Send>;

/// Why a batch was not taken.
#[derive(Debug)]
pub enum SubmitError {
    /// Too many wait: once more after the next outcome.
    Full(Box<Batch>),
    /// The thread is gone; nothing will be written any more.
    Ended(Box<Batch>),
}

enum Order {
    Batch(Box<Batch>),
    DatabaseBytesMax(u64),
}

/// A running writer. Dropping it writes what waits and ends it.
pub struct Writer {
    orders: Sender<Order>,
    ended: Receiver<()>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Everything that the thread owns.
pub(super) struct State {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    pub(super) signing: Arc<Ed25519Key>,
    pub(super) fleet: String,
    pub(super) sequence: u64,
    pub(super) head: Head,
    pub(super) limits: StoreLimits,
    /// Batches of this era and before build upon something that failed.
    pub(super) failed_era: Option<u32>,
    /// The log may hold a commit that was reported as failed.
    pub(super) suspect: bool,
    /// Nobody else may open the database while this thread lives.
    pub(super) _lock: Arc<DirectoryLock>,
}

impl Writer {
    pub(super) fn start(state: State, report: Report) -> std::io::Result<Self> {
        let (orders, waiting) = async_channel::bounded(QUEUE_BATCHES_MAX);
        let (end, ended) = async_channel::bounded(1);
        let thread = thread::Builder::new().name("writer".to_owned()).spawn(move || {
            run(state, &waiting, report);
            drop(end);
        })?;
        Ok(Self { orders, ended, thread: Some(thread) })
    }

    /// Queues a batch; never blocks. Batches must come in the order of their sequence.
    ///
    /// # Errors
    /// Hands the batch back when it cannot be taken.
    pub fn submit(&self, batch: Batch) -> Result<(), SubmitError> {
        let back = |order| match order {
            Order::Batch(batch) => batch,
            // Not what was sent; an empty batch harms nobody.
            Order::DatabaseBytesMax(_) => {
                Box::new(Batch { sequence: 0, era: 0, writes: Vec::new(), audit: Vec::new() })
            }
        };
        self.orders.try_send(Order::Batch(Box::new(batch))).map_err(|error| match error {
            TrySendError::Full(order) => SubmitError::Full(back(order)),
            TrySendError::Closed(order) => SubmitError::Ended(back(order)),
        })
    }

    /// True while `submit` would hand a batch back.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.orders.is_full()
    }

    /// Changes the largest size of the database, after the batches that wait already. Waits for room in the queue.
    pub fn set_database_bytes_max(&self, bytes: u64) {
        if self.orders.send_blocking(Order::DatabaseBytesMax(bytes)).is_err() {
            tracing::error!("the writer is gone: the database's size limit stays as it was");
        }
    }

    /// Writes what waits, closes the database and ends the thread. `false` when that took too long: it is left behind.
    #[must_use]
    pub fn stop(mut self) -> bool {
        self.end()
    }

    fn end(&mut self) -> bool {
        let Some(thread) = self.thread.take() else { return true };
        self.orders.close();
        let ended = async {
            // Nothing is ever sent: the channel closes when the thread is done.
            let _ = self.ended.recv().await;
            true
        };
        let late = async {
            smol::Timer::after(STOP_DEADLINE).await;
            false
        };
        if !smol::block_on(futures_lite::future::or(ended, late)) {
            tracing::error!("the database writer did not end in time and is left behind");
            return false;
        }
        if thread.join().is_err() {
            tracing::error!("the database writer ended by a panic");
        }
        true
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

/// A group that is not durable.
struct Failure {
    reason: CommitFailure,
    detail: String,
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let code = error.sqlite_error().map(|error| error.extended_code);
        // The shared index of the log grows by allocating: that it cannot is a full disk under another name.
        let full = matches!(code, Some(ffi::SQLITE_FULL | ffi::SQLITE_IOERR_SHMSIZE));
        let reason = if full { CommitFailure::DiskFull } else { CommitFailure::Io };
        Self { reason, detail: error.to_string() }
    }
}

impl Failure {
    fn io(detail: String) -> Self {
        Self { reason: CommitFailure::Io, detail }
    }
}

fn run(mut state: State, waiting: &Receiver<Order>, mut report: Report) {
    state.limit_database(state.limits.database_bytes_max);
    let mut next = waiting.recv_blocking().ok();
    while let Some(order) = next.take() {
        match order {
            Order::DatabaseBytesMax(bytes) => state.limit_database(bytes),
            Order::Batch(first) => {
                let group;
                (group, next) = gather(first, waiting, &state.limits);
                state.write_group(group, &mut report);
                state.empty_log_above(state.limits.log_bytes_max);
            }
        }
        if next.is_none() {
            next = waiting.recv_blocking().ok();
        }
    }
    state.empty_log_above(0);
}

/// The first batch and what waits behind it, up to the limits; and the order that stopped it, if any.
fn gather(first: Box<Batch>, waiting: &Receiver<Order>, limits: &StoreLimits) -> (Vec<Batch>, Option<Order>) {
    let mut bytes = weight(&first);
    let mut group = vec![*first];
    while group.len() < limits.group_batches_max && bytes < limits.group_bytes_max {
        match waiting.try_recv() {
            Ok(Order::Batch(batch)) => {
                bytes = bytes.saturating_add(weight(&batch));
                group.push(*batch);
            }
            Ok(order @ Order::DatabaseBytesMax(_)) => return (group, Some(order)),
            Err(_) => break,
        }
    }
    (group, None)
}

/// The bytes that make a batch large.
fn weight(batch: &Batch) -> usize {
    batch.writes.iter().fold(0, |sum, write| {
        sum.saturating_add(match write {
            Write::ObjectPut(row) => row.json.len(),
            Write::DesiredPut { body, .. } => body.len(),
            Write::CapabilitiesPut { bytes, .. } => bytes.len(),
            Write::ObjectDelete { .. }
            | Write::DeviceKeysPut(_)
            | Write::DeviceKeysDelete { .. }
            | Write::TokenPut(_)
            | Write::TokenDelete { .. }
            | Write::RejectionPut(_)
            | Write::RejectionDelete { .. }
            | Write::DesiredDelete { .. }
            | Write::CapabilitiesDelete { .. }
            | Write::WorkloadIdNext { .. }
            | Write::LeasePut(_)
            | Write::LeaseDelete { .. }
            | Write::IncarnationRaise { .. }
            | Write::RecoveryPut(_)
            | Write::RecoveryDelete
            | Write::HoldPut { .. }
            | Write::HoldDelete { .. } => 0,
        })
    })
}

type Signed = Vec<(DeviceId, SignedHeader)>;

impl State {
    fn write_group(&mut self, mut group: Vec<Batch>, report: &mut Report) {
        group.retain(|batch| self.failed_era.is_none_or(|failed| batch.era > failed));
        let Some(first) = group.first() else { return };
        let (sequence, era) = (first.sequence, first.era);
        let written = if self.suspect { self.repair() } else { Ok(()) }.and_then(|()| self.commit(&group));
        match written {
            Ok((signed, head)) => {
                self.sequence = group.last().map_or(self.sequence, |last| last.sequence);
                self.head = head;
                for (batch, signed) in group.into_iter().zip(signed) {
                    report(Outcome::Committed { sequence: batch.sequence, signed });
                }
            }
            Err(Failure { reason, detail }) => {
                tracing::error!(sequence, batches = group.len(), ?reason, detail, "a group of changes was not stored");
                self.failed_era = Some(era);
                self.suspect = true;
                if let Err(Failure { detail, .. }) = self.repair() {
                    tracing::error!(detail, "the log cannot be repaired yet: changes are refused until it can");
                }
                report(Outcome::Failed { sequence, reason });
            }
        }
    }

    /// One transaction for the whole group: all of it becomes durable, or nothing.
    fn commit(&mut self, group: &[Batch]) -> Result<(Vec<Signed>, Head), Failure> {
        for (batch, wanted) in group.iter().zip(self.sequence.saturating_add(1)..) {
            if batch.sequence != wanted {
                return Err(Failure::io(format!("batch {} came where {wanted} was due", batch.sequence)));
            }
        }
        // Before the transaction: signing takes longer than writing.
        let sign = |batch| write::sign(batch, &self.signing, &self.fleet);
        let signed: Result<Vec<Signed>, _> = group.iter().map(sign).collect();
        let signed = signed.map_err(|error| Failure::io(format!("a set cannot be signed: {error:?}")))?;
        let mut head = self.head;
        let mut sequence = self.sequence;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (batch, signed) in group.iter().zip(&signed) {
            write::apply(&transaction, batch, signed)?;
            for entry in &batch.audit {
                head = audit::append(&transaction, head, batch.sequence, entry)?;
            }
            sequence = batch.sequence;
        }
        transaction
            .prepare_cached("UPDATE meta SET sequence = ?1, audit_sequence = ?2, audit_hash = ?3")?
            .execute(rusqlite::params![integer(sequence), integer(head.sequence), head.hash.0])?;
        transaction.commit()?;
        self.note_incarnation(group);
        Ok((signed, head))
    }

    /// The file beside the database follows a raised incarnation before anybody hears of it. The commit stands also if it
    /// cannot be written: the next start writes it, and until then a backup that is restored knows less.
    fn note_incarnation(&self, group: &[Batch]) {
        let writes = group.iter().flat_map(|batch| &batch.writes);
        let raised = writes.filter_map(|write| match write {
            Write::IncarnationRaise { incarnation } => Some(*incarnation),
            _ => None,
        });
        let (Some(incarnation), Some(data)) = (raised.max(), self.path.parent()) else { return };
        if let Err(error) = high_water::write(data, incarnation) {
            tracing::error!(%error, incarnation, "the raised incarnation is in the database alone until the next start");
        }
    }

    /// Makes sure that a commit that was reported as failed can never come back.
    ///
    /// A commit can fail after its pages are in the log (an error of the synchronisation): the connection ignores them,
    /// but the next start would find them. A small transaction overwrites their beginning, which ends the log there;
    /// then everything is moved into the database, and only if the result is what was acknowledged, work goes on. The
    /// connection is kept until then: opening a new one would read the failed pages back.
    fn repair(&mut self) -> Result<(), Failure> {
        let transaction: Transaction<'_> = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute("UPDATE meta SET repairs = repairs + 1", [])?;
        transaction.commit()?;
        self.checkpoint()?;
        let reopened = connection::open(&self.path).map_err(|error: StoreError| Failure::io(error.to_string()))?;
        let stored: i64 = reopened.query_row("SELECT sequence FROM meta", [], |row| row.get(0))?;
        if number(stored) != self.sequence || audit::head(&reopened)? != self.head {
            return Err(Failure::io(format!("the database is at {stored} and not at {}", self.sequence)));
        }
        self.connection = reopened;
        self.limit_database(self.limits.database_bytes_max);
        self.suspect = false;
        tracing::warn!(sequence = self.sequence, "the database was repaired after a failed write");
        Ok(())
    }

    fn checkpoint(&self) -> Result<(), Failure> {
        let busy: i64 = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if busy == 0 { Ok(()) } else { Err(Failure::io("a reader holds up the checkpoint".to_owned())) }
    }

    fn empty_log_above(&mut self, bytes: u64) {
        let length = std::fs::metadata(connection::log_path(&self.path)).map_or(0, |metadata| metadata.len());
        if length <= bytes || self.suspect {
            return;
        }
        if let Err(Failure { detail, .. }) = self.checkpoint() {
            // Nothing is lost: the log is longer until the next attempt.
            tracing::warn!(detail, log_bytes = length, "the log could not be emptied");
        }
    }

    fn limit_database(&mut self, bytes: u64) {
        self.limits.database_bytes_max = bytes;
        let set = || -> rusqlite::Result<i64> {
            let page: i64 = self.connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
            let pages = i64::try_from(bytes).unwrap_or(i64::MAX).checked_div(page).unwrap_or(1).max(1);
            self.connection.pragma_update_and_check(None, "max_page_count", pages, |row| row.get(0))
        };
        if let Err(error) = set() {
            tracing::error!(%error, "the database's size could not be limited");
        }
    }
}
