//! The store against real files: what was written is read back, what is wrong is named, what failed leaves nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use rusqlite::Connection;
use wire::dalek::Ed25519;
use wire::desired::ClassLimits;
use wire::id::{Order, Revision};
use wire::sign::PublicKey;
use wire::topic::TokenId;
use wire::{BootId, DeviceId, Digest, Fence};

use super::*;
use crate::commit::{
    AuditEntry, Batch, CommitFailure, DeviceKeysRow, LeaseRow, ObjectRow, RejectionRow, TokenRow, Write,
};

const OUTCOME_DEADLINE: Duration = Duration::from_secs(20);
const LIMITS: ClassLimits = ClassLimits { records: 8, memory_bytes: 65_536 };

fn keys() -> Keys {
    Keys::from_seeds(&[1; 32], [2; 32])
}

fn open(data: &Path) -> Result<(Store, Loaded), StoreError> {
    Store::open(&DataDirectory::take(data)?, &keys(), &StoreSettings::default())
}

struct Running {
    writer: Writer,
    outcomes: mpsc::Receiver<Outcome>,
}

impl Running {
    fn start(data: &Path) -> (Self, Loaded) {
        let (store, loaded) = open(data).unwrap();
        let (report, outcomes) = mpsc::channel();
        let writer = store.start(Box::new(move |outcome| report.send(outcome).unwrap())).unwrap();
        (Self { writer, outcomes }, loaded)
    }

    fn submit(&self, batch: Batch) {
        assert!(self.writer.submit(batch).is_ok());
    }

    fn outcome(&self) -> Outcome {
        self.outcomes.recv_timeout(OUTCOME_DEADLINE).unwrap()
    }

    /// The sequence that became durable.
    fn committed(&self) -> u64 {
        match self.outcome() {
            Outcome::Committed { sequence, .. } => sequence,
            failed @ Outcome::Failed { .. } => panic!("{failed:?}"),
        }
    }
}

fn object(name: &str, sequence: u64, json: &[u8]) -> Write {
    Write::ObjectPut(ObjectRow {
        kind: "Workload".to_owned(),
        namespace: "default".to_owned(),
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        generation: sequence,
        resource_version: sequence,
        created_ms: 1,
        json: json.to_vec(),
    })
}

fn lease(workload: u32, counter: u64, ended: bool) -> LeaseRow {
    let fence = Fence(Order::new(Order::INCARNATION_MAX, counter).unwrap());
    LeaseRow {
        workload,
        name: "default/pump".to_owned(),
        device: DeviceId([3; 16]),
        boot: BootId([0xff; 8]),
        fence,
        ms: 3_600_000,
        ended,
    }
}

fn audit(object: &str, after: Option<Digest>) -> AuditEntry {
    AuditEntry { time_ms: 5, actor: "admin".to_owned(), action: "put", object: object.to_owned(), before: None, after }
}

fn batch(sequence: u64, era: u32, writes: Vec<Write>) -> Batch {
    Batch { sequence, era, writes, audit: vec![audit("workload/default/a", Some(Digest([7; 32])))] }
}

fn device_row(device: DeviceId) -> DeviceKeysRow {
    DeviceKeysRow {
        device,
        name: format!("dev-{device}"),
        identity: [3; 32],
        exchange: wire::dalek::ExchangeSecret::from_seed([9; 32]).public_key().0,
        credential_sha256: [4; 32],
        join_nonce: Some([8; 16]),
        joined_ms: u64::MAX,
    }
}

#[test]
fn everything_that_was_written_is_read_back() {
    let data = tempfile::tempdir().unwrap();
    let device = DeviceId([5; 16]);
    let row = device_row(device);
    let token = TokenRow {
        id: TokenId([1; 8]),
        secret_sha256: [6; 32],
        expires_ms: 77,
        approve: true,
        labels: "{\"a\":\"b\"}".to_owned(),
        used_by: Some(device),
    };
    let rejection = RejectionRow { device: DeviceId([6; 16]), name: "gw-6".to_owned(), rejected_ms: 8 };
    let lifted = RejectionRow { device: DeviceId([8; 16]), name: "gw-8".to_owned(), rejected_ms: 8 };
    let revision = Revision(Order::new(Order::INCARNATION_MAX, Order::COUNTER_MAX).unwrap());
    let (running, first) = Running::start(data.path());
    assert_eq!((first.sequence, first.workload_id_next, first.fleet.as_str()), (0, 1, FLEET_DEFAULT));
    running.submit(batch(
        1,
        0,
        vec![
            // Before its device: order within a batch is free.
            Write::DesiredPut { device, revision, limits: LIMITS, body: b"body".to_vec() },
            Write::DeviceKeysPut(row.clone()),
            Write::TokenPut(token.clone()),
            Write::CapabilitiesPut { device, bytes: vec![1, 2] },
            object("a", 1, b"{}"),
            object("b", 1, b"{}"),
            Write::WorkloadIdNext { next: 9 },
            Write::LeasePut(lease(3, 1, false)),
            Write::LeasePut(lease(4, 1, false)),
        ],
    ));
    let Outcome::Committed { sequence: 1, signed } = running.outcome() else { panic!("not durable") };
    assert_eq!(signed[0].1.header.revision, revision);
    assert!(signed[0].1.verify(&Ed25519, &first.hub_signing, FLEET_DEFAULT, device));
    running.submit(batch(
        2,
        0,
        vec![
            object("b", 2, b"{\"x\":1}"),
            Write::ObjectDelete { kind: "Workload", namespace: "default".to_owned(), name: "a".to_owned() },
            Write::WorkloadIdNext { next: 4 },
            Write::RejectionPut(rejection.clone()),
            Write::RejectionPut(lifted.clone()),
            Write::RejectionDelete { device: lifted.device },
            Write::LeasePut(lease(3, Order::COUNTER_MAX, true)),
            Write::LeaseDelete { workload: 4 },
        ],
    ));
    assert_eq!(running.committed(), 2);
    assert!(running.writer.stop());

    let (_, loaded) = open(data.path()).unwrap();
    assert_eq!((loaded.sequence, loaded.workload_id_next), (2, 9));
    assert_eq!(loaded.incarnation, first.incarnation + 1);
    let Write::ObjectPut(expected) = object("b", 2, b"{\"x\":1}") else { panic!("an object") };
    assert_eq!(loaded.objects, [expected]);
    assert_eq!(loaded.tokens, [token]);
    assert_eq!(loaded.rejections, [rejection]);
    assert_eq!(loaded.leases, [lease(3, Order::COUNTER_MAX, true)]);
    assert_eq!(loaded.capabilities, [(device, vec![1, 2])]);
    assert_eq!((loaded.desired[0].signed, loaded.desired[0].body.as_slice()), (signed[0].1, b"body".as_slice()));
    let other_side = wire::dalek::ExchangeSecret::from_seed([9; 32]);
    let pair = other_side.pair_key(&keys().public().exchange, FLEET_DEFAULT, device).unwrap();
    assert_eq!(loaded.devices[0].0, row);
    assert!(loaded.devices[0].1 == Some(pair));
}

#[test]
fn a_device_takes_its_set_and_capabilities_with_it() {
    let data = tempfile::tempdir().unwrap();
    let device = DeviceId([5; 16]);
    let (running, _) = Running::start(data.path());
    let put = |revision| Write::DesiredPut { device, revision, limits: LIMITS, body: Vec::new() };
    let capabilities = Write::CapabilitiesPut { device, bytes: vec![1] };
    running.submit(batch(1, 0, vec![Write::DeviceKeysPut(device_row(device)), put(Revision::default()), capabilities]));
    // Putting a device again is no deletion.
    running.submit(batch(2, 0, vec![Write::DeviceKeysPut(device_row(device))]));
    assert_eq!((running.committed(), running.committed()), (1, 2));
    let desired = || -> i64 {
        let connection = Connection::open(data.path().join(DATABASE_FILE)).unwrap();
        connection
            .query_row("SELECT count(*) FROM desired JOIN capabilities USING (device)", [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(desired(), 1);
    running.submit(batch(3, 0, vec![Write::DeviceKeysDelete { device }]));
    assert_eq!(running.committed(), 3);
    assert_eq!(desired(), 0);
    assert!(running.writer.stop());
    assert!(open(data.path()).unwrap().1.desired.is_empty());
}

#[test]
fn a_second_holder_of_a_data_directory_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let held = DataDirectory::take(data.path()).unwrap();
    let Err(error @ StoreError::InUse { .. }) = DataDirectory::take(data.path()) else { panic!("taken twice") };
    assert!(error.to_string().contains("another hub process"));
    drop(held);
    assert!(DataDirectory::take(data.path()).is_ok());
}

#[test]
fn every_start_has_a_higher_incarnation_also_after_a_restored_backup() {
    let data = tempfile::tempdir().unwrap();
    let database = data.path().join(DATABASE_FILE);
    let start = || {
        let (store, loaded) = open(data.path()).unwrap();
        let warnings = store.warnings().to_vec();
        // Started and stopped, so that the log is in the database and a copy of the file is a backup.
        assert!(store.start(Box::new(|_| ())).unwrap().stop());
        (loaded.incarnation, warnings)
    };
    assert_eq!(start(), (1, vec![]));
    let backup = std::fs::read(&database).unwrap();
    assert_eq!(start(), (2, vec![]));
    assert_eq!(start(), (3, vec![]));
    std::fs::write(&database, backup).unwrap();
    let (incarnation, warnings) = start();
    assert_eq!(incarnation, 4);
    assert!(warnings[0].contains("old copy"), "{warnings:?}");
    assert_eq!(start(), (5, vec![]));
    std::fs::remove_file(data.path().join(HIGH_WATER_FILE)).unwrap();
    let (incarnation, warnings) = start();
    assert_eq!((incarnation, warnings.len()), (5 + LOST_FILE_JUMP + 1, 1));
}

#[test]
fn a_database_that_is_not_understood_is_left_alone() {
    let data = tempfile::tempdir().unwrap();
    let database = data.path().join(DATABASE_FILE);
    open(data.path()).unwrap();
    let change = |sql: &str| Connection::open(&database).unwrap().execute_batch(sql).unwrap();
    change("PRAGMA user_version = 99");
    let Err(StoreError::Newer { found: 99, known, .. }) = open(data.path()) else { panic!("opened a newer one") };
    change(&format!("PRAGMA user_version = {known}; PRAGMA application_id = 5"));
    assert!(matches!(open(data.path()), Err(StoreError::Foreign { .. })));
    std::fs::remove_file(&database).unwrap();
    std::fs::write(&database, "not a database, but long enough to have a header of a hundred bytes ".repeat(20))
        .unwrap();
    assert!(matches!(open(data.path()), Err(StoreError::Damaged { .. })));
}

#[test]
fn a_damaged_page_stops_the_start() {
    let data = tempfile::tempdir().unwrap();
    let (running, _) = Running::start(data.path());
    for sequence in 1..=40 {
        running.submit(batch(sequence, 0, vec![object(&format!("o{sequence}"), sequence, &[b' '; 900])]));
    }
    assert!(running.writer.stop());
    let database = data.path().join(DATABASE_FILE);
    let mut bytes = std::fs::read(&database).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 64].fill(0xA5);
    std::fs::write(&database, bytes).unwrap();
    let Err(StoreError::Damaged { detail, .. }) = open(data.path()) else { panic!("opened a damaged one") };
    assert!(!detail.is_empty());
}

#[test]
fn another_fleet_and_other_keys_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let open_as = |fleet: Option<&str>, keys: &Keys| {
        let settings = StoreSettings { fleet: fleet.map(str::to_owned), ..StoreSettings::default() };
        Store::open(&DataDirectory::take(data.path()).unwrap(), keys, &settings).map(|(_, loaded)| loaded.fleet)
    };
    assert!(matches!(open_as(Some("a/b"), &keys()), Err(StoreError::FleetName(_))));
    assert_eq!(open_as(Some("north"), &keys()).unwrap(), "north");
    assert_eq!(open_as(None, &keys()).unwrap(), "north");
    assert!(matches!(open_as(Some("south"), &keys()), Err(StoreError::OtherFleet { .. })));
    assert!(matches!(open_as(None, &Keys::from_seeds(&[1; 32], [3; 32])), Err(StoreError::OtherKeys)));
    assert!(matches!(open_as(None, &Keys::from_seeds(&[3; 32], [2; 32])), Err(StoreError::OtherKeys)));
}

#[test]
fn the_first_link_of_trust_is_signed_by_the_hub_s_own_key() {
    let data = tempfile::tempdir().unwrap();
    let (store, loaded) = open(data.path()).unwrap();
    let root = loaded.hub_signing;
    let link = Link::decode(store.trust(), &Ed25519, &root, &loaded.fleet).unwrap();
    assert_eq!((link.version, link.epoch, link.root), (1, 1, root));
    assert_eq!(link.hub_keys, [root]);
    assert!(Link::decode(store.trust(), &Ed25519, &PublicKey([8; 32]), &loaded.fleet).is_err());
}

#[test]
fn a_failed_batch_takes_its_group_and_its_era_with_it() {
    let data = tempfile::tempdir().unwrap();
    let (running, _) = Running::start(data.path());
    // A set for a device that never joined: refused when the transaction ends.
    let orphan = Write::DesiredPut {
        device: DeviceId([8; 16]),
        revision: Revision::default(),
        limits: LIMITS,
        body: Vec::new(),
    };
    running.submit(batch(1, 0, vec![object("kept", 1, b"{}")]));
    assert_eq!(running.committed(), 1);
    running.submit(batch(2, 0, vec![object("lost", 2, b"{}"), orphan]));
    let Outcome::Failed { sequence: 2, reason: CommitFailure::Io } = running.outcome() else { panic!("stored") };
    running.submit(batch(3, 0, vec![object("built upon it", 3, b"{}")]));
    running.submit(batch(2, 1, vec![object("again", 2, b"{}")]));
    assert_eq!(running.committed(), 2);
    // A gap is never stored.
    running.submit(batch(4, 1, vec![object("gap", 4, b"{}")]));
    let Outcome::Failed { sequence: 4, reason: CommitFailure::Io } = running.outcome() else { panic!("stored") };
    assert!(running.writer.stop());
    let (_, loaded) = open(data.path()).unwrap();
    let mut names: Vec<&str> = loaded.objects.iter().map(|row| row.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!((loaded.sequence, names), (2, vec!["again", "kept"]));
    assert_eq!(audit_verify(&data.path().join(DATABASE_FILE)).unwrap().sequence, 2);
}

#[test]
fn a_full_disk_refuses_the_whole_group_and_nothing_after_space_returned() {
    let data = tempfile::tempdir().unwrap();
    let (running, _) = Running::start(data.path());
    let large = vec![b'x'; 300 * 1024];
    running.submit(batch(1, 0, vec![object("before", 1, b"{}")]));
    assert_eq!(running.committed(), 1);
    running.writer.set_database_bytes_max(256 * 1024);
    running.submit(batch(2, 0, vec![object("small part", 2, b"{}"), object("large part", 2, &large)]));
    let Outcome::Failed { sequence: 2, reason: CommitFailure::DiskFull } = running.outcome() else { panic!("stored") };
    // What fits is taken at once.
    running.submit(batch(2, 1, vec![object("small", 2, b"{}")]));
    assert_eq!(running.committed(), 2);
    running.submit(batch(3, 1, vec![object("large", 3, &large)]));
    let Outcome::Failed { sequence: 3, reason: CommitFailure::DiskFull } = running.outcome() else { panic!("stored") };
    running.writer.set_database_bytes_max(16 * 1024 * 1024);
    running.submit(batch(3, 2, vec![object("large", 3, &large)]));
    assert_eq!(running.committed(), 3);
    assert!(running.writer.stop());
    let (_, loaded) = open(data.path()).unwrap();
    let mut names: Vec<&str> = loaded.objects.iter().map(|row| row.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!((loaded.sequence, names), (3, vec!["before", "large", "small"]));
    assert_eq!(audit_verify(&data.path().join(DATABASE_FILE)).unwrap().sequence, 3);
}

#[test]
fn the_log_is_emptied_when_it_is_long() {
    let data = tempfile::tempdir().unwrap();
    let settings = StoreSettings {
        limits: StoreLimits { log_bytes_max: 100_000, ..StoreLimits::default() },
        ..StoreSettings::default()
    };
    let directory = DataDirectory::take(data.path()).unwrap();
    let (store, _) = Store::open(&directory, &keys(), &settings).unwrap();
    let (report, outcomes) = mpsc::channel();
    let log = log_path(&directory.database());
    let log_seen = log.clone();
    let report = move |_| report.send(std::fs::metadata(&log_seen).unwrap().len()).unwrap();
    let writer = store.start(Box::new(report)).unwrap();
    let mut lengths = Vec::new();
    for sequence in 1..=60 {
        assert!(writer.submit(batch(sequence, 0, vec![object("a", sequence, &[b' '; 9000])])).is_ok());
        lengths.push(outcomes.recv_timeout(OUTCOME_DEADLINE).unwrap());
    }
    assert!(lengths.iter().all(|length| *length < 200_000), "{lengths:?}");
    assert!(lengths.windows(2).any(|pair| pair[1] < pair[0]), "{lengths:?}");
    assert!(writer.stop());
}

/// Four audit rows, then `sql`, then the verdict.
fn tampered(sql: &str) -> Result<AuditHead, AuditError> {
    let data = tempfile::tempdir().unwrap();
    let (running, _) = Running::start(data.path());
    for sequence in 1..=4 {
        running.submit(batch(sequence, 0, Vec::new()));
    }
    assert!(running.writer.stop());
    let database = data.path().join(DATABASE_FILE);
    Connection::open(&database).unwrap().execute_batch(sql).unwrap();
    audit_verify(&database)
}

#[test]
fn a_changed_missing_or_added_audit_row_is_named() {
    assert_eq!(tampered("").unwrap().sequence, 4);
    for (sql, expected) in [
        ("UPDATE audit SET actor = 'somebody' WHERE sequence = 2", AuditFault::Changed { sequence: 2 }),
        ("UPDATE audit SET after = NULL WHERE sequence = 4", AuditFault::Changed { sequence: 4 }),
        ("UPDATE audit SET after = x'00' WHERE sequence = 4", AuditFault::Changed { sequence: 4 }),
        ("UPDATE audit SET before = after, after = before WHERE sequence = 1", AuditFault::Changed { sequence: 1 }),
        ("UPDATE audit SET hash = zeroblob(32) WHERE sequence = 3", AuditFault::Changed { sequence: 3 }),
        ("UPDATE audit SET hash_previous = zeroblob(32) WHERE sequence = 3", AuditFault::Unlinked { sequence: 3 }),
        ("DELETE FROM audit WHERE sequence = 1", AuditFault::Missing { sequence: 1 }),
        ("DELETE FROM audit WHERE sequence = 3", AuditFault::Missing { sequence: 3 }),
        ("DELETE FROM audit WHERE sequence = 4", AuditFault::Missing { sequence: 4 }),
        ("DELETE FROM audit", AuditFault::Missing { sequence: 1 }),
        (
            "INSERT INTO audit SELECT 5, resource_version, time_ms, actor, action, object, before, after, hash, hash
             FROM audit WHERE sequence = 4",
            AuditFault::Added { sequence: 5 },
        ),
        ("UPDATE meta SET audit_hash = zeroblob(32)", AuditFault::Rewritten { sequence: 4 }),
    ] {
        match tampered(sql) {
            Err(AuditError::Fault(fault)) => assert_eq!(fault, expected, "{sql}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[test]
fn the_chain_is_confirmed_beside_a_running_writer() {
    let data = tempfile::tempdir().unwrap();
    let (running, _) = Running::start(data.path());
    running.submit(batch(1, 0, Vec::new()));
    assert_eq!(running.committed(), 1);
    let database = data.path().join(DATABASE_FILE);
    assert_eq!(audit_verify(&database).unwrap().sequence, 1);
    integrity_check(&database, Check::Full).unwrap();
    running.submit(batch(2, 0, Vec::new()));
    assert_eq!(running.committed(), 2);
    assert!(running.writer.stop());
}
