//! Reading of a workload's `partition`: every combination that could not be kept is refused where it is written, with the reason.
//!
//! Nothing here may be lenient: what is promised for the time without connection cannot be corrected during it.

use super::partition::{
    ExclusiveSpec, OnExpire, OnReturn, OnStaleSpec, PartitionFields, PartitionMode, PartitionSpec, Replace, StaleAction,
};
use super::placement::PlacementSpec;
use super::quantity::Span;
use super::read::{Reader, Shape};
use super::workload_read::field;
use serde_json::Value;
use std::ops::RangeInclusive;
use wire::lease::{LEASE_MS_MAX, LEASE_MS_MIN};

/// Of a lease: what both sides can keep.
pub const LEASE_MS: RangeInclusive<u64> = LEASE_MS_MIN..=LEASE_MS_MAX;
/// Of `stopAfter` and `onStale.after`: a device asks for freshness in a quarter of it, and must get several answers within.
pub const STOP_AFTER_MS: RangeInclusive<u64> = LEASE_MS_MIN..=30 * 24 * 3_600_000;
/// Of `grace`.
pub const GRACE_MS: RangeInclusive<u64> = 0..=24 * 3_600_000;

const PARTITION: Shape =
    Shape { known: &["stopAfter", "exclusive", "onExpire", "replace", "grace", "onReturn", "onStale"], not_built: &[] };
const EXCLUSIVE: Shape = Shape { known: &["lease"], not_built: &[] };
const ON_STALE: Shape = Shape { known: &["after", "action"], not_built: &[] };

pub(super) fn read_partition(reader: &mut Reader, pointer: &str, value: &Value) -> Option<PartitionSpec> {
    match value {
        Value::String(word) if word == "autonomous" => Some(PartitionSpec::default()),
        Value::String(word) if word == "exclusive" => {
            reader.error(pointer, "exclusive work needs a lease: write partition: {exclusive: {lease: 60s}}")
        }
        Value::String(word) if word == "stopAfter" => {
            reader.error(pointer, "after how long? write partition: {stopAfter: 10m}")
        }
        Value::String(_) => {
            reader.choice::<()>(pointer, value, &[("autonomous", ())]).map(|()| PartitionSpec::default())
        }
        _ => {
            let fields = read_fields(reader, pointer, value)?;
            let spec = PartitionSpec { fields };
            check(reader, pointer, &spec);
            Some(spec)
        }
    }
}

fn read_fields(reader: &mut Reader, pointer: &str, value: &Value) -> Option<PartitionFields> {
    let map = reader.object(pointer, value, &PARTITION)?;
    let expires = [("stop", OnExpire::Stop), ("degrade", OnExpire::Degrade)];
    let replaces =
        [("never", Replace::Never), ("afterLease", Replace::AfterLease), ("afterGrace", Replace::AfterGrace)];
    let returns = [
        ("keepOriginal", OnReturn::KeepOriginal),
        ("keepReplacement", OnReturn::KeepReplacement),
        ("best", OnReturn::Best),
    ];
    let stop_after = field(reader, pointer, map, "stopAfter", |r, p, v| r.span(p, v, STOP_AFTER_MS));
    let exclusive = field(reader, pointer, map, "exclusive", read_exclusive);
    // What could not be read was still meant: the rest is not judged against a mode that nobody wrote.
    let is_unread =
        map.contains_key("stopAfter") && stop_after.is_none() || map.contains_key("exclusive") && exclusive.is_none();
    let fields = PartitionFields {
        stop_after,
        exclusive,
        on_expire: field(reader, pointer, map, "onExpire", |r, p, v| r.choice(p, v, &expires)),
        replace: field(reader, pointer, map, "replace", |r, p, v| r.choice(p, v, &replaces)),
        grace: field(reader, pointer, map, "grace", |r, p, v| r.span(p, v, GRACE_MS)),
        on_return: field(reader, pointer, map, "onReturn", |r, p, v| r.choice(p, v, &returns)),
        on_stale: field(reader, pointer, map, "onStale", read_on_stale),
    };
    (!is_unread).then_some(fields)
}

fn read_exclusive(reader: &mut Reader, pointer: &str, value: &Value) -> Option<ExclusiveSpec> {
    let map = reader.object(pointer, value, &EXCLUSIVE)?;
    let place = format!("{pointer}/lease");
    let lease = match map.get("lease") {
        Some(value) => reader.span(&place, value, LEASE_MS),
        None => reader.error(&place, "missing; write exclusive: {lease: 60s}"),
    };
    Some(ExclusiveSpec { lease: lease? })
}

fn read_on_stale(reader: &mut Reader, pointer: &str, value: &Value) -> Option<OnStaleSpec> {
    let map = reader.object(pointer, value, &ON_STALE)?;
    let actions = [("continue", StaleAction::Continue), ("degrade", StaleAction::Degrade), ("stop", StaleAction::Stop)];
    let place = format!("{pointer}/after");
    let after = match map.get("after") {
        Some(value) => reader.span(&place, value, STOP_AFTER_MS),
        None => reader.error(&place, "missing; write onStale: {after: 1h, action: stop}"),
    };
    let place = format!("{pointer}/action");
    let action = match map.get("action") {
        Some(value) => reader.choice(&place, value, &actions),
        None => reader.error(&place, "missing; one of continue, degrade, stop"),
    };
    Some(OnStaleSpec { after: after?, action: action? })
}

/// What contradicts itself, whatever the rest of the workload says.
fn check(reader: &mut Reader, pointer: &str, spec: &PartitionSpec) {
    let mut refuse = |name: &str, why: &str| {
        reader.error::<()>(&format!("{pointer}/{name}"), why);
    };
    let PartitionFields { stop_after, exclusive, on_expire, replace, grace, on_return, on_stale } = spec.fields;
    if exclusive.is_some() && stop_after.is_some() {
        refuse(
            "stopAfter",
            "either `exclusive` or `stopAfter`: exclusive work stops when its lease runs out, and not later",
        );
    }
    match (spec.mode(), on_expire) {
        (PartitionMode::Exclusive { .. }, Some(OnExpire::Degrade)) => refuse(
            "onExpire",
            "exclusive work must stop when its lease runs out: going on would be a second instance beside its replacement",
        ),
        (PartitionMode::Autonomous, Some(_)) => {
            refuse(
                "onExpire",
                "autonomous work has nothing that expires; write `stopAfter`, or `onStale` with an action",
            );
        }
        (PartitionMode::Exclusive { .. } | PartitionMode::StopAfter(_) | PartitionMode::Autonomous, _) => {}
    }
    if replace == Some(Replace::AfterLease) {
        match (spec.mode(), spec.on_expire()) {
            (PartitionMode::Autonomous, _) => refuse(
                "replace",
                "autonomous work never ends by itself, so there is no lease to wait for; write afterGrace, and then two may run",
            ),
            (PartitionMode::StopAfter(_), OnExpire::Degrade) => refuse(
                "replace",
                "with `onExpire: degrade` the lost device goes on, so it has never certainly stopped; write afterGrace or never",
            ),
            (PartitionMode::StopAfter(_), OnExpire::Stop) | (PartitionMode::Exclusive { .. }, _) => {}
        }
    }
    if grace.is_some() && spec.replace() != Replace::AfterGrace {
        refuse("grace", "belongs to `replace: afterGrace`; without it nothing waits for it");
    }
    if on_return.is_some() && spec.replace() == Replace::Never {
        refuse(
            "onReturn",
            "this work is never replaced, so there is nothing to choose from; write `replace`, or leave it out",
        );
    }
    if let (PartitionMode::StopAfter(after), Some(stale)) = (spec.mode(), on_stale) {
        check_stale(reader, &format!("{pointer}/onStale/after"), after, spec.on_expire(), stale);
    }
}

/// `stopAfter` and `onStale` count from the same moment: the later one of two ends must be able to come.
fn check_stale(reader: &mut Reader, pointer: &str, after: Span, on_expire: OnExpire, stale: OnStaleSpec) {
    let is_late = stale.after.0 >= after.0;
    let why = match (on_expire, stale.action) {
        (OnExpire::Stop, _) if is_late => format!("the work stops after {after} already; `onStale` must come before"),
        (OnExpire::Degrade, StaleAction::Stop) if !is_late => {
            format!("the work would be stopped before it degrades after {after}; `onStale` must come later")
        }
        (OnExpire::Stop | OnExpire::Degrade, _) => return,
    };
    reader.error::<()>(pointer, why);
}

/// What exclusive work cannot be: one at most means one wanted.
pub(super) fn check_single(
    reader: &mut Reader,
    pointer: &str,
    partition: &PartitionSpec,
    replicas: Option<u64>,
    every: bool,
    placement: Option<&PlacementSpec>,
) {
    if partition.lease().is_none() {
        return;
    }
    let mut refuse = |name: &str, why: &str| {
        reader.error::<()>(&format!("{pointer}/{name}"), why);
    };
    if replicas.is_some_and(|replicas| replicas > 1) {
        refuse("replicas", "exclusive work runs once: replicas must be 1 (or 0); make one workload for each instance");
    }
    if every {
        refuse("every", "exclusive work runs once, `every` runs it on each device that fits");
    }
    if placement.is_some_and(|placement| placement.nearest_per.is_some()) {
        refuse(
            "placement/nearestPer",
            "exclusive work runs once, `nearestPer` runs it once for each of several devices; write `near`",
        );
    }
}
