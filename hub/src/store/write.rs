//! One batch into SQL. Each write is one prepared statement; none of them may read or decide.

use rusqlite::{Connection, params};
use wire::DeviceId;
use wire::codec::Writer as Encoder;
use wire::dalek::Ed25519Key;
use wire::desired::{HEADER_BYTES_MAX, Header, SignedHeader};
use wire::sign::SIGNATURE_BYTES;

use super::column::integer;
use crate::commit::{Batch, DeviceKeysRow, LeaseRow, ObjectRow, RecoveryRow, TokenRow, Write};

/// Key id, signature and header at their longest.
const SIGNED_BYTES_MAX: usize = 4 + SIGNATURE_BYTES + HEADER_BYTES_MAX;

/// Signs the desired sets of a batch, in the order of its writes.
pub(super) fn sign(
    batch: &Batch,
    key: &Ed25519Key,
    fleet: &str,
) -> Result<Vec<(DeviceId, SignedHeader)>, wire::WireError> {
    let sets = batch.writes.iter().filter_map(|write| match write {
        Write::DesiredPut { device, revision, limits, body } => Some((*device, Header::of(*revision, body, *limits))),
        Write::ObjectPut(_)
        | Write::ObjectDelete { .. }
        | Write::DeviceKeysPut(_)
        | Write::DeviceKeysDelete { .. }
        | Write::TokenPut(_)
        | Write::TokenDelete { .. }
        | Write::RejectionPut(_)
        | Write::RejectionDelete { .. }
        | Write::DesiredDelete { .. }
        | Write::CapabilitiesPut { .. }
        | Write::CapabilitiesDelete { .. }
        | Write::WorkloadIdNext { .. }
        | Write::LeasePut(_)
        | Write::LeaseDelete { .. }
        | Write::IncarnationRaise { .. }
        | Write::RecoveryPut(_)
        | Write::RecoveryDelete
        | Write::HoldPut { .. }
        | Write::HoldDelete { .. } => None,
    });
    sets.map(|(device, header)| Ok((device, header?.sign(key, fleet, device)?))).collect()
}

/// Applies all writes of a batch; `signed` are the headers that `sign` made for it.
pub(super) fn apply(
    connection: &Connection,
    batch: &Batch,
    signed: &[(DeviceId, SignedHeader)],
) -> rusqlite::Result<()> {
    let mut signed = signed.iter();
    for write in &batch.writes {
        match write {
            Write::ObjectPut(row) => object_put(connection, row)?,
            Write::ObjectDelete { kind, namespace, name } => {
                let sql = "DELETE FROM object WHERE kind = ?1 AND namespace = ?2 AND name = ?3";
                connection.prepare_cached(sql)?.execute(params![kind, namespace, name])?;
            }
            Write::DeviceKeysPut(row) => device_keys_put(connection, row)?,
            Write::DeviceKeysDelete { device } => {
                delete(connection, "DELETE FROM device_keys WHERE device = ?1", &device.0)?
            }
            Write::TokenPut(row) => token_put(connection, row)?,
            Write::TokenDelete { id } => delete(connection, "DELETE FROM token WHERE id = ?1", &id.0)?,
            Write::RejectionPut(row) => {
                let sql = "INSERT INTO rejection (device, name, rejected_ms) VALUES (?1, ?2, ?3)
                           ON CONFLICT (device) DO UPDATE SET name = excluded.name, rejected_ms = excluded.rejected_ms";
                let values = params![row.device.0, row.name, integer(row.rejected_ms)];
                connection.prepare_cached(sql)?.execute(values)?;
            }
            Write::RejectionDelete { device } => {
                delete(connection, "DELETE FROM rejection WHERE device = ?1", &device.0)?;
            }
            Write::DesiredPut { device, body, .. } => {
                // `sign` made one for each; the column's type turns a missing one into an error, not into a wrong row.
                let header = signed.next().and_then(|(_, header)| encode(header));
                let sql = "INSERT INTO desired (device, signed, body) VALUES (?1, ?2, ?3)
                           ON CONFLICT (device) DO UPDATE SET signed = excluded.signed, body = excluded.body";
                connection.prepare_cached(sql)?.execute(params![device.0, header, body])?;
            }
            Write::DesiredDelete { device } => delete(connection, "DELETE FROM desired WHERE device = ?1", &device.0)?,
            Write::CapabilitiesPut { device, bytes } => {
                let sql = "INSERT INTO capabilities (device, bytes) VALUES (?1, ?2)
                           ON CONFLICT (device) DO UPDATE SET bytes = excluded.bytes";
                connection.prepare_cached(sql)?.execute(params![device.0, bytes])?;
            }
            Write::CapabilitiesDelete { device } => {
                delete(connection, "DELETE FROM capabilities WHERE device = ?1", &device.0)?;
            }
            Write::WorkloadIdNext { next } => {
                // A number that goes back would be given twice.
                let sql = "UPDATE meta SET workload_id_next = max(workload_id_next, ?1)";
                connection.prepare_cached(sql)?.execute([next])?;
            }
            Write::LeasePut(row) => lease_put(connection, row)?,
            Write::LeaseDelete { workload } => {
                connection.prepare_cached("DELETE FROM lease WHERE workload = ?1")?.execute([workload])?;
            }
            Write::IncarnationRaise { incarnation } => {
                let sql = "UPDATE meta SET incarnation = max(incarnation, ?1)";
                connection.prepare_cached(sql)?.execute([incarnation])?;
            }
            Write::RecoveryPut(row) => recovery_put(connection, row)?,
            Write::RecoveryDelete => {
                connection.prepare_cached("DELETE FROM recovery")?.execute([])?;
            }
            Write::HoldPut { device } => {
                let sql = "INSERT INTO hold (device) VALUES (?1) ON CONFLICT (device) DO NOTHING";
                connection.prepare_cached(sql)?.execute([device.0])?;
            }
            Write::HoldDelete { device } => delete(connection, "DELETE FROM hold WHERE device = ?1", &device.0)?,
        }
    }
    Ok(())
}

fn delete(connection: &Connection, sql: &str, key: &[u8]) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([key]).map(|_| ())
}

fn encode(header: &SignedHeader) -> Option<Vec<u8>> {
    let mut bytes = [0; SIGNED_BYTES_MAX];
    let mut encoder = Encoder::new(&mut bytes);
    header.write(&mut encoder).ok()?;
    Some(encoder.written().to_vec())
}

fn object_put(connection: &Connection, row: &ObjectRow) -> rusqlite::Result<()> {
    let sql = "INSERT INTO object (kind, namespace, name, uid, generation, resource_version, created_ms, json)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
               ON CONFLICT (kind, namespace, name) DO UPDATE SET uid = excluded.uid, generation = excluded.generation,
               resource_version = excluded.resource_version, created_ms = excluded.created_ms, json = excluded.json";
    connection.prepare_cached(sql)?.execute(params![
        row.kind,
        row.namespace,
        row.name,
        row.uid,
        integer(row.generation),
        integer(row.resource_version),
        integer(row.created_ms),
        row.json,
    ])?;
    Ok(())
}

pub(super) fn recovery_put(connection: &Connection, row: &RecoveryRow) -> rusqlite::Result<()> {
    let sql = "INSERT INTO recovery (id, cause, since_ms, remembered, until_incarnation, is_overruled, holds_grants)
               VALUES (0, ?1, ?2, ?3, ?4, ?5, ?6)
               ON CONFLICT (id) DO UPDATE SET cause = excluded.cause, since_ms = excluded.since_ms,
               remembered = excluded.remembered, until_incarnation = excluded.until_incarnation,
               is_overruled = excluded.is_overruled, holds_grants = excluded.holds_grants";
    connection.prepare_cached(sql)?.execute(params![
        row.cause.name(),
        integer(row.since_ms),
        integer(row.remembered.packed()),
        row.until_incarnation,
        row.is_overruled,
        row.holds_grants,
    ])?;
    Ok(())
}

fn device_keys_put(connection: &Connection, row: &DeviceKeysRow) -> rusqlite::Result<()> {
    let sql = "INSERT INTO device_keys (device, name, identity, exchange, credential_sha256, join_nonce, joined_ms)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
               ON CONFLICT (device) DO UPDATE SET name = excluded.name, identity = excluded.identity,
               exchange = excluded.exchange, credential_sha256 = excluded.credential_sha256,
               join_nonce = excluded.join_nonce, joined_ms = excluded.joined_ms";
    connection.prepare_cached(sql)?.execute(params![
        row.device.0,
        row.name,
        row.identity,
        row.exchange,
        row.credential_sha256,
        row.join_nonce,
        integer(row.joined_ms),
    ])?;
    Ok(())
}

fn token_put(connection: &Connection, row: &TokenRow) -> rusqlite::Result<()> {
    let sql =
        "INSERT INTO token (id, secret_sha256, expires_ms, approve, labels, used_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
               ON CONFLICT (id) DO UPDATE SET secret_sha256 = excluded.secret_sha256, expires_ms = excluded.expires_ms,
               approve = excluded.approve, labels = excluded.labels, used_by = excluded.used_by";
    connection.prepare_cached(sql)?.execute(params![
        row.id.0,
        row.secret_sha256,
        integer(row.expires_ms),
        row.approve,
        row.labels,
        row.used_by.map(|device| device.0),
    ])?;
    Ok(())
}

fn lease_put(connection: &Connection, row: &LeaseRow) -> rusqlite::Result<()> {
    let sql = "INSERT INTO lease (workload, name, device, boot, fence_incarnation, fence_counter, ms, ended)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
               ON CONFLICT (workload) DO UPDATE SET name = excluded.name, device = excluded.device, boot = excluded.boot,
               fence_incarnation = excluded.fence_incarnation, fence_counter = excluded.fence_counter, ms = excluded.ms,
               ended = excluded.ended";
    connection.prepare_cached(sql)?.execute(params![
        row.workload,
        row.name,
        row.device.0,
        row.boot.0,
        row.fence.0.incarnation(),
        integer(row.fence.0.counter()),
        integer(row.ms),
        row.ended,
    ])?;
    Ok(())
}
