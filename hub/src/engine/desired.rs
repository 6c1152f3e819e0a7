//! Desired bodies: what a workload puts into a device's set, and the set from its workloads.
//!
//! The same workloads give the same bytes, so that unchanged means untouched. Nothing that changes by itself may enter.

use super::device::Assigned;
use crate::model::{
    ArtifactReference, CAPABILITIES, OnExpire, PartitionMode, PartitionSpec, Role, Span, StaleAction, Unconfirmed,
    WorkloadSpec, config_bytes,
};
use crate::scheduler::Resources;
use std::collections::BTreeMap;
use wire::clause::{Clause, FunctionLimits, Name, OnStale, Retry, Stated, Topics};
use wire::codec::Writer;
use wire::limits::{BODY_BYTES_MAX, CLAUSE_BYTES_MAX, CLAUSES_BYTES_MAX};
use wire::record::{Body, BodyWriter, CapabilitySet, Core, Record, Runtime, encode_clauses};
use wire::{WireError, WorkloadId};

/// Bytes of the number of records before them, at most.
const COUNT_BYTES_MAX: u32 = 3;
/// Bytes of a core and a length prefix, at most.
const CORE_BYTES_MAX: usize = 128;

/// A workload's records, the same for every device.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Encoded {
    pub records: Vec<(Core, Vec<u8>)>,
    pub resources: Resources,
}

/// Who and which version.
pub(super) struct Identity<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub id: u32,
    pub generation: u32,
}

/// `bytes_of` gives an artifact's size; `Ok(None)` when one is not known.
pub(super) fn encode(
    identity: &Identity<'_>,
    spec: &WorkloadSpec,
    bytes_of: impl Fn(&ArtifactReference) -> Option<u32>,
) -> Result<Option<Encoded>, WireError> {
    let views = spec.views();
    let mut records = Vec::with_capacity(views.len());
    for (number, view) in (0..).zip(&views) {
        let Some(artifact_bytes) = bytes_of(view.artifact) else { return Ok(None) };
        let limits = &view.function.limits;
        let narrow = |value: u64| u32::try_from(value).map_err(|_| WireError::TooLarge { limit: u32::MAX });
        let core = Core {
            workload: WorkloadId(identity.id),
            component: number,
            generation: identity.generation,
            role: match view.role {
                Role::Service => wire::record::Role::Service,
                Role::Init => wire::record::Role::Init,
                Role::Job => wire::record::Role::Job,
            },
            runtime: Runtime::Function,
            artifact: view.artifact.digest,
            artifact_bytes,
            memory_bytes: narrow(limits.memory.0)?,
            fuel: limits.fuel,
            instances: 1,
            capabilities: capability_set(&view.function.capabilities),
        };
        let config = config_bytes(&view.function.config);
        let after: Vec<u8> = (0..)
            .zip(&views)
            .filter(|(_, other)| view.after.iter().any(|name| name == other.name))
            .map(|(number, _)| number)
            .collect();
        let mut topic_buffer = [0; CLAUSE_BYTES_MAX];
        let filters: Vec<&str> = view.function.triggers.topics.iter().map(String::as_str).collect();
        let topics = Topics::encode(&mut topic_buffer, &filters)?;
        let name = Name { namespace: identity.namespace, name: identity.name, component: view.name };
        let function_limits = FunctionLimits {
            host_calls: limits.host_calls,
            log_bytes: narrow(limits.log_bytes.0)?,
            emit_bytes: narrow(limits.emit_bytes.0)?,
            state_bytes: narrow(limits.state_bytes.0)?,
            sample_bytes: narrow(limits.sample_bytes.0)?,
        };
        let retry = Retry { attempts: spec.retry.attempts, window_s: narrow(spec.retry.window.0 / 1000)? };
        let every = view.function.triggers.every.map(|span| span.0);
        let (stop_after, lease, on_stale) = partition_clauses(&spec.partition);
        // In ascending order of the clause numbers, as decoding demands.
        let clauses: Vec<Stated<'_>> = [
            Some(Clause::Name(name)),
            (!config.is_empty()).then_some(Clause::Config(&config)),
            (!after.is_empty()).then_some(Clause::After(&after)),
            every.map(Clause::Every),
            (!filters.is_empty()).then_some(Clause::Topics(topics)),
            Some(Clause::Limits(function_limits)),
            Some(Clause::Retry(retry)),
            (spec.unconfirmed == Unconfirmed::Run).then_some(Clause::Unconfirmed),
            stop_after.map(Clause::StopAfter),
            lease.map(Clause::Lease),
            on_stale.map(Clause::OnStale),
        ]
        .into_iter()
        .flatten()
        .map(|clause| Stated { critical: clause.is_critical_by_default(), clause })
        .collect();
        let mut buffer = [0; CLAUSES_BYTES_MAX];
        records.push((core, encode_clauses(&mut buffer, &clauses)?.to_vec()));
    }
    let resources = records
        .iter()
        .map(|(core, clauses)| record_resources(core, clauses.len()))
        .fold(Resources::default(), Resources::plus);
    Ok(Some(Encoded { records, resources }))
}

/// Milliseconds of `StopAfter` and `Lease`, and `OnStale`. Both ends of `stopAfter` count from the last Fresh, as `onStale` does, so
/// that a device is told of one earliest end and one earliest change to degraded, whichever field they were written in.
fn partition_clauses(partition: &PartitionSpec) -> (Option<u64>, Option<u64>, Option<OnStale>) {
    let stale = partition.on_stale();
    let degraded = |after: Span| OnStale { after_ms: after.0, action: wire::clause::StaleAction::Degrade };
    let as_written = stale.and_then(|stale| {
        let action = match stale.action {
            // Nothing happens, so nothing is said.
            StaleAction::Continue => return None,
            StaleAction::Degrade => wire::clause::StaleAction::Degrade,
            StaleAction::Stop => wire::clause::StaleAction::Stop,
        };
        Some(OnStale { after_ms: stale.after.0, action })
    });
    match (partition.mode(), partition.on_expire()) {
        (PartitionMode::Exclusive { lease }, _) => (None, Some(lease.0), as_written),
        (PartitionMode::Autonomous, _) => (None, None, as_written),
        (PartitionMode::StopAfter(after), OnExpire::Stop) => (Some(after.0), None, as_written),
        (PartitionMode::StopAfter(after), OnExpire::Degrade) => match stale {
            Some(stale) if stale.action == StaleAction::Stop => (Some(stale.after.0), None, Some(degraded(after))),
            Some(stale) if stale.action == StaleAction::Degrade => {
                (None, None, Some(degraded(Span(stale.after.0.min(after.0)))))
            }
            Some(_) | None => (None, None, Some(degraded(after))),
        },
    }
}

impl Encoded {
    /// All that its functions may use.
    pub(super) fn interfaces(&self) -> CapabilitySet {
        self.records.iter().fold(CapabilitySet::default(), |set, (core, _)| set.union(core.capabilities))
    }
}

fn capability_set(names: &[String]) -> CapabilitySet {
    let chosen = CAPABILITIES.iter().filter(|(name, _)| names.iter().any(|wanted| wanted == name));
    chosen.fold(CapabilitySet::default(), |set, (_, bit)| set.union(*bit))
}

fn record_resources(core: &Core, clauses_bytes: usize) -> Resources {
    let mut buffer = [0; CORE_BYTES_MAX];
    let mut writer = Writer::new(&mut buffer);
    // A core is a few dozen bytes and a length at most three: always fits.
    let _ = writer.value(core).and_then(|()| writer.value(&u32::try_from(clauses_bytes).unwrap_or(u32::MAX)));
    Resources {
        ram_bytes: u64::from(core.memory_bytes).saturating_mul(u64::from(core.instances)),
        slots: 1,
        body_bytes: u32::try_from(writer.len() + clauses_bytes).unwrap_or(u32::MAX),
    }
}

/// What a device can hold; the count before the records is taken off.
pub(super) fn capacity(known: &super::device::Known) -> Resources {
    let body_bytes = known.body_bytes.min(u32::try_from(BODY_BYTES_MAX).unwrap_or(u32::MAX));
    Resources {
        ram_bytes: u64::from(known.memory_bytes),
        slots: u32::from(known.records),
        body_bytes: body_bytes.saturating_sub(COUNT_BYTES_MAX),
    }
}

/// The body from workloads in ascending order of their numbers.
pub(super) fn body<'a>(workloads: impl Iterator<Item = &'a Encoded> + Clone) -> Result<Vec<u8>, WireError> {
    let count: usize = workloads.clone().map(|encoded| encoded.records.len()).sum();
    let bytes: u32 = workloads.clone().map(|encoded| encoded.resources.body_bytes).fold(0, u32::saturating_add);
    let room = usize::try_from(bytes.saturating_add(COUNT_BYTES_MAX)).unwrap_or(BODY_BYTES_MAX).min(BODY_BYTES_MAX);
    let mut buffer = vec![0; room];
    let count = u16::try_from(count).map_err(|_| WireError::TooLarge { limit: u32::from(u16::MAX) })?;
    let mut writer = BodyWriter::new(&mut buffer, count)?;
    for (core, clauses) in workloads.flat_map(|encoded| &encoded.records) {
        writer.record_raw(core, clauses)?;
    }
    let length = writer.finish().len();
    buffer.truncate(length);
    Ok(buffer)
}

/// What a stored body assigns; empty for bytes that are no body.
pub(super) fn assigned(body: &[u8]) -> BTreeMap<u32, Assigned> {
    let mut out: BTreeMap<u32, Assigned> = BTreeMap::new();
    let Ok(body) = Body::decode(body) else { return out };
    for Record { core, clauses } in body.iter() {
        let holds = record_resources(&core, clauses.as_bytes().len());
        let entry =
            out.entry(core.workload.0).or_insert(Assigned { generation: core.generation, holds: Resources::default() });
        entry.holds = entry.holds.plus(holds);
    }
    out
}
