//! Reads everything back at a start: one pass over each table, pair keys derived on all cores.
//!
//! A row that does not read as what it was written as stops the start: a hub that forgot a device or a set without
//! saying so would be worse than one that does not run.

use std::path::Path;
use std::thread;

use rusqlite::{Connection, Row};
use wire::codec::Reader;
use wire::dalek::ExchangeSecret;
use wire::desired::{SignedHeader, body_matches};
use wire::join::ExchangeKey;
use wire::topic::TokenId;
use wire::{BootId, DeviceId, Fence, Order, PairKey};

use super::StoreError;
use super::column::number;
use super::connection::damaged_or;
use crate::commit::{
    DesiredRow, DeviceKeysRow, LeaseRow, Loaded, ObjectRow, RecoveryCause, RecoveryRow, RejectionRow, TokenRow,
};
use crate::keys::Keys;

/// Fewer devices than this for each core are not worth a thread.
const DEVICES_PER_THREAD_MIN: usize = 64;

/// The whole database, after its incarnation was raised.
pub(super) fn load(path: &Path, connection: &Connection, keys: &Keys) -> Result<Loaded, StoreError> {
    let failed = |error| damaged_or(path, error);
    let meta = "SELECT fleet, incarnation, sequence, workload_id_next FROM meta";
    let (fleet, incarnation, sequence, workload_id_next): (String, u32, i64, u32) = connection
        .query_row(meta, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .map_err(failed)?;
    let objects = all(
        connection,
        "SELECT kind, namespace, name, uid, generation, resource_version, created_ms, json FROM object",
        object,
    );
    let devices = all(
        connection,
        "SELECT device, name, identity, exchange, credential_sha256, join_nonce, joined_ms FROM device_keys",
        device_keys,
    );
    let tokens = all(connection, "SELECT id, secret_sha256, expires_ms, approve, labels, used_by FROM token", token);
    let rejections = all(connection, "SELECT device, name, rejected_ms FROM rejection", |row| {
        Ok(RejectionRow { device: DeviceId(row.get(0)?), name: row.get(1)?, rejected_ms: number(row.get(2)?) })
    });
    let recovery = all(
        connection,
        "SELECT cause, since_ms, remembered, until_incarnation, is_overruled, holds_grants FROM recovery",
        recovery,
    );
    let holds = all(connection, "SELECT device FROM hold ORDER BY device", |row| Ok(DeviceId(row.get(0)?)));
    let recovery = recovery.map_err(failed)?.pop().transpose().map_err(|cause| StoreError::Damaged {
        path: path.to_owned(),
        detail: format!("nothing is known of a recovery for the cause {cause:?}"),
    })?;
    let desired = all(connection, "SELECT device, signed, body FROM desired", |row| {
        Ok((DeviceId(row.get(0)?), row.get::<_, Vec<u8>>(1)?, row.get::<_, Vec<u8>>(2)?))
    });
    let capabilities =
        all(connection, "SELECT device, bytes FROM capabilities", |row| Ok((DeviceId(row.get(0)?), row.get(1)?)));
    let leases = all(
        connection,
        "SELECT workload, name, device, boot, fence_incarnation, fence_counter, ms, ended FROM lease",
        lease,
    );
    let leases = leases.map_err(failed)?.into_iter().collect::<Option<Vec<_>>>().ok_or_else(|| {
        StoreError::Damaged { path: path.to_owned(), detail: "a lease has a fence that was never issued".to_owned() }
    })?;
    let desired = desired.map_err(failed)?.into_iter().map(|(device, signed, body)| {
        signed_set(device, &signed, body).ok_or_else(|| StoreError::Damaged {
            path: path.to_owned(),
            detail: format!("the desired set of device {device} does not match its signed header"),
        })
    });
    Ok(Loaded {
        devices: with_pair_keys(devices.map_err(failed)?, &keys.exchange, &fleet),
        fleet,
        incarnation,
        sequence: number(sequence),
        workload_id_next,
        objects: objects.map_err(failed)?,
        tokens: tokens.map_err(failed)?,
        rejections: rejections.map_err(failed)?,
        recovery,
        holds: holds.map_err(failed)?,
        desired: desired.collect::<Result<_, _>>()?,
        capabilities: capabilities.map_err(failed)?,
        leases,
        hub_signing: keys.public().signing,
    })
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare(sql)?.query_map([], read)?.collect()
}

fn object(row: &Row<'_>) -> rusqlite::Result<ObjectRow> {
    Ok(ObjectRow {
        kind: row.get(0)?,
        namespace: row.get(1)?,
        name: row.get(2)?,
        uid: row.get(3)?,
        generation: number(row.get(4)?),
        resource_version: number(row.get(5)?),
        created_ms: number(row.get(6)?),
        json: row.get(7)?,
    })
}

fn device_keys(row: &Row<'_>) -> rusqlite::Result<DeviceKeysRow> {
    Ok(DeviceKeysRow {
        device: DeviceId(row.get(0)?),
        name: row.get(1)?,
        identity: row.get(2)?,
        exchange: row.get(3)?,
        credential_sha256: row.get(4)?,
        join_nonce: row.get(5)?,
        joined_ms: number(row.get(6)?),
    })
}

fn token(row: &Row<'_>) -> rusqlite::Result<TokenRow> {
    Ok(TokenRow {
        id: TokenId(row.get(0)?),
        secret_sha256: row.get(1)?,
        expires_ms: number(row.get(2)?),
        approve: row.get(3)?,
        labels: row.get(4)?,
        used_by: row.get::<_, Option<[u8; 16]>>(5)?.map(DeviceId),
    })
}

fn lease(row: &Row<'_>) -> rusqlite::Result<Option<LeaseRow>> {
    let Some(fence) = Order::new(row.get(4)?, number(row.get(5)?)) else { return Ok(None) };
    Ok(Some(LeaseRow {
        workload: row.get(0)?,
        name: row.get(1)?,
        device: DeviceId(row.get(2)?),
        boot: BootId(row.get(3)?),
        fence: Fence(fence),
        ms: number(row.get(6)?),
        ended: row.get(7)?,
    }))
}

/// `Err`: the text of a cause that is none.
fn recovery(row: &Row<'_>) -> rusqlite::Result<Result<RecoveryRow, String>> {
    let cause: String = row.get(0)?;
    let Some(cause) = RecoveryCause::parse(&cause) else { return Ok(Err(cause)) };
    Ok(Ok(RecoveryRow {
        cause,
        since_ms: number(row.get(1)?),
        remembered: Order::from_packed(number(row.get(2)?)),
        until_incarnation: row.get(3)?,
        is_overruled: row.get(4)?,
        holds_grants: row.get(5)?,
    }))
}

fn signed_set(device: DeviceId, signed: &[u8], body: Vec<u8>) -> Option<DesiredRow> {
    let mut reader = Reader::new(signed);
    let signed = SignedHeader::read(&mut reader).ok()?;
    reader.end().ok()?;
    body_matches(&signed.header, &body).then_some(DesiredRow { device, signed, body })
}

/// About 50 us for each device, so that ten thousand devices are worth all cores.
fn with_pair_keys(
    rows: Vec<DeviceKeysRow>,
    exchange: &ExchangeSecret,
    fleet: &str,
) -> Vec<(DeviceKeysRow, Option<PairKey>)> {
    let derive = |row: &DeviceKeysRow| exchange.pair_key(&ExchangeKey(row.exchange), fleet, row.device);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let part = rows.len().div_ceil(cores).max(DEVICES_PER_THREAD_MIN);
    let derived: Vec<Option<PairKey>> = thread::scope(|scope| {
        let parts: Vec<_> = rows
            .chunks(part)
            .map(|rows| (rows, scope.spawn(move || rows.iter().map(derive).collect::<Vec<_>>())))
            .collect();
        // A thread that panicked is done again here, where the panic has a caller.
        parts
            .into_iter()
            .flat_map(|(rows, part)| part.join().unwrap_or_else(|_| rows.iter().map(derive).collect()))
            .collect()
    });
    rows.into_iter().zip(derived).collect()
}
