//! Reading of a placement: limits, forms, and the refusal of terms that are not built yet.
//!
//! Whether a workload names itself is not known here; the engine asks the scheduler at admission.

use super::device::read_point;
use super::placement::{
    AntiAffinity, AntiAffinityDomain, DevicesByLabel, LabelSelector, Near, NearestPer, OnShortfall, PlacementSpec,
    Spread, SpreadBy, TaintEffect, Toleration, TolerationOperator,
};
use super::read::{Reader, Shape, shown};
use super::selector::{Expression, Operator, SELECTOR_TERMS_MAX, SELECTOR_VALUES_MAX, Selector, is_key, is_value};
use super::workload_read::{REPLICAS_MAX, field};
use crate::geo::CELL_LEVEL_MAX;
use serde_json::Value;
use std::num::NonZeroU32;

/// Regions of one placement, to be within or to spread over.
pub const WITHIN_MAX: usize = 16;
/// Devices named by one placement.
pub const ON_MAX: usize = 256;
/// Tolerations of one placement, and taints of one device.
pub const TAINTS_MAX: usize = 16;
/// Workloads that one keeps away from.
pub const ANTI_AFFINITY_MAX: usize = 16;
/// Devices near each of the named ones.
pub const NEAREST_MAX: u64 = 100;
/// Beyond half the circumference of the Earth no two devices are apart.
pub const DISTANCE_KM_MAX: f64 = 20_015.0;

const PLACEMENT: Shape = Shape {
    known: &[
        "within",
        "near",
        "nearestPer",
        "labels",
        "selector",
        "class",
        "on",
        "tolerations",
        "minDistanceKm",
        "spread",
        "antiAffinity",
        "onShortfall",
    ],
    not_built: &["coverage", "follow", "residency", "prefer", "require", "stickiness"],
};
const NEAR: Shape = Shape { known: &["point", "maxKm"], not_built: &[] };
const NEAREST_PER: Shape = Shape { known: &["devices", "k"], not_built: &[] };
const DEVICES: Shape = Shape { known: &["labels", "selector"], not_built: &[] };
const SELECTOR: Shape = Shape { known: &["matchLabels", "matchExpressions"], not_built: &[] };
const EXPRESSION: Shape = Shape { known: &["key", "operator", "values"], not_built: &[] };
const TOLERATION: Shape = Shape { known: &["key", "operator", "value", "effect"], not_built: &["tolerationSeconds"] };
const SPREAD: Shape = Shape { known: &["by", "maxSkew"], not_built: &[] };
const SPREAD_BY: Shape = Shape { known: &["regions"], not_built: &[] };
const ANTI_AFFINITY: Shape = Shape { known: &["workloads", "domain"], not_built: &[] };

pub(super) const EFFECTS: [(&str, TaintEffect); 2] =
    [("NoSchedule", TaintEffect::NoSchedule), ("NoExecute", TaintEffect::NoExecute)];
const ANCHORS: [&str; 6] = ["within", "near", "nearestPer", "labels", "selector", "on"];

pub(super) fn read_placement(reader: &mut Reader, pointer: &str, value: &Value) -> Option<PlacementSpec> {
    let map = reader.object(pointer, value, &PLACEMENT)?;
    let within = field(reader, pointer, map, "within", |r, p, v| r.texts(p, v, WITHIN_MAX, Reader::label));
    let near = field(reader, pointer, map, "near", read_near);
    let nearest_per = field(reader, pointer, map, "nearestPer", read_nearest_per);
    if map.contains_key("near") && map.contains_key("nearestPer") {
        reader.error::<()>(&format!("{pointer}/nearestPer"), "either `near` or `nearestPer`: both order the devices");
    }
    let labels = field(reader, pointer, map, "labels", |r, p, v| Some(r.labels(p, v)));
    let selector = field(reader, pointer, map, "selector", read_selector);
    let class = field(reader, pointer, map, "class", |r, p, v| {
        let choices = [("mcu", "mcu"), ("gateway", "gateway")];
        let list = r.list(p, v, choices.len())?;
        let read: Vec<_> =
            list.iter().enumerate().map(|(i, item)| r.choice(&format!("{p}/{i}"), item, &choices)).collect();
        read.into_iter().map(|class| class.map(str::to_owned)).collect::<Option<Vec<_>>>()
    });
    let on = field(reader, pointer, map, "on", |r, p, v| r.texts(p, v, ON_MAX, Reader::label));
    let tolerations = field(reader, pointer, map, "tolerations", |r, p, v| items(r, p, v, TAINTS_MAX, read_toleration));
    let min_distance_km = field(reader, pointer, map, "minDistanceKm", read_min_distance);
    let spread = field(reader, pointer, map, "spread", read_spread);
    let anti_affinity = field(reader, pointer, map, "antiAffinity", read_anti_affinity);
    let shortfalls = [("partial", OnShortfall::Partial), ("wait", OnShortfall::Wait), ("fail", OnShortfall::Fail)];
    let on_shortfall = field(reader, pointer, map, "onShortfall", |r, p, v| r.choice(p, v, &shortfalls));
    let is_named = |name: &str| map.get(name).is_some_and(|value| !is_empty(value));
    if !ANCHORS.into_iter().any(is_named) {
        let names = ANCHORS.map(|name| format!("`{name}`")).join(", ");
        reader.error::<()>(pointer, format!("needs at least one of {names}: nothing is placed just anywhere"));
    }
    Some(PlacementSpec {
        within: within.unwrap_or_default(),
        near,
        nearest_per,
        labels: labels.unwrap_or_default(),
        selector,
        class: class.unwrap_or_default(),
        on: on.unwrap_or_default(),
        tolerations: tolerations.unwrap_or_default(),
        min_distance_km,
        spread,
        anti_affinity,
        on_shortfall: on_shortfall.unwrap_or_default(),
    })
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A list of objects, each read by itself.
pub(super) fn items<T>(
    reader: &mut Reader,
    pointer: &str,
    value: &Value,
    most: usize,
    read: fn(&mut Reader, &str, &Value) -> Option<T>,
) -> Option<Vec<T>> {
    let list = reader.list(pointer, value, most)?;
    let read: Vec<Option<T>> =
        list.iter().enumerate().map(|(i, item)| read(reader, &format!("{pointer}/{i}"), item)).collect();
    read.into_iter().collect()
}

fn read_near(reader: &mut Reader, pointer: &str, value: &Value) -> Option<Near> {
    let map = reader.object(pointer, value, &NEAR)?;
    let max_km = field(reader, pointer, map, "maxKm", Reader::number);
    if max_km.is_some_and(|km| km <= 0.0) {
        reader.error::<()>(&format!("{pointer}/maxKm"), "must be more than 0");
    }
    let place = format!("{pointer}/point");
    let point = match map.get("point") {
        Some(value) => read_point(reader, &place, value),
        None => reader.error(&place, "missing; write point: [longitude, latitude]"),
    };
    Some(Near { point: point?, max_km })
}

fn read_nearest_per(reader: &mut Reader, pointer: &str, value: &Value) -> Option<NearestPer> {
    let map = reader.object(pointer, value, &NEAREST_PER)?;
    let place = format!("{pointer}/devices");
    let devices = match map.get("devices") {
        Some(value) => read_devices(reader, &place, value),
        None => reader.error(&place, "missing; write devices: {labels: {key: value}}"),
    };
    let k = match map.get("k") {
        Some(value) => read_count(reader, &format!("{pointer}/k"), value, NEAREST_MAX),
        None => Some(NonZeroU32::MIN),
    };
    Some(NearestPer { devices: devices?, k: k? })
}

fn read_devices(reader: &mut Reader, pointer: &str, value: &Value) -> Option<DevicesByLabel> {
    let map = reader.object(pointer, value, &DEVICES)?;
    let labels = field(reader, pointer, map, "labels", |r, p, v| Some(r.labels(p, v)));
    let selector = field(reader, pointer, map, "selector", read_selector);
    if is_empty(value) {
        return reader.error(pointer, "needs `labels` or `selector`: which devices are meant?");
    }
    Some(DevicesByLabel { labels: labels.unwrap_or_default(), selector })
}

fn read_count(reader: &mut Reader, pointer: &str, value: &Value, most: u64) -> Option<NonZeroU32> {
    let count = reader.integer(pointer, value, 1..=most)?;
    u32::try_from(count).ok().and_then(NonZeroU32::new)
}

/// An object, or the text that lists take: `zone in (a,b),!old`.
fn read_selector(reader: &mut Reader, pointer: &str, value: &Value) -> Option<LabelSelector> {
    if let Value::String(text) = value {
        return match Selector::parse(text) {
            Ok(selector) => {
                Some(LabelSelector { match_expressions: selector.into_terms(), ..LabelSelector::default() })
            }
            Err(error) => reader.error(pointer, error.to_string()),
        };
    }
    let map = reader.object(pointer, value, &SELECTOR)?;
    let match_labels = field(reader, pointer, map, "matchLabels", |r, p, v| Some(r.labels(p, v)));
    let match_expressions =
        field(reader, pointer, map, "matchExpressions", |r, p, v| items(r, p, v, SELECTOR_TERMS_MAX, read_expression));
    Some(LabelSelector {
        match_labels: match_labels.unwrap_or_default(),
        match_expressions: match_expressions.unwrap_or_default(),
    })
}

fn read_expression(reader: &mut Reader, pointer: &str, value: &Value) -> Option<Expression> {
    let map = reader.object(pointer, value, &EXPRESSION)?;
    let key = read_key(reader, pointer, map.get("key"));
    let place = format!("{pointer}/operator");
    let operators = [
        ("In", Operator::In),
        ("NotIn", Operator::NotIn),
        ("Exists", Operator::Exists),
        ("DoesNotExist", Operator::DoesNotExist),
    ];
    let operator = match map.get("operator") {
        Some(value) => reader.choice(&place, value, &operators),
        None => reader.error(&place, "missing; one of In, NotIn, Exists, DoesNotExist"),
    };
    let place = format!("{pointer}/values");
    let values = match map.get("values") {
        Some(value) => reader.texts(&place, value, SELECTOR_VALUES_MAX, read_value)?,
        None => Vec::new(),
    };
    let operator = operator?;
    match (operator, values.is_empty()) {
        (Operator::In | Operator::NotIn, true) => {
            return reader.error(&place, "`In` and `NotIn` need at least one value");
        }
        (Operator::Exists | Operator::DoesNotExist, false) => {
            return reader.error(&place, "`Exists` and `DoesNotExist` take no values");
        }
        (Operator::In | Operator::NotIn, false) | (Operator::Exists | Operator::DoesNotExist, true) => {}
    }
    Some(Expression { key: key?, operator, values })
}

/// The `key` of an expression or a taint, which must be there.
pub(super) fn read_key(reader: &mut Reader, pointer: &str, value: Option<&Value>) -> Option<String> {
    let place = format!("{pointer}/key");
    let Some(value) = value else { return reader.error(&place, "missing") };
    let text = reader.text(&place, value)?;
    if is_key(text) {
        return Some(text.to_owned());
    }
    let shown = shown(text);
    reader.error(&place, format!("{shown:?} is not a key: letters, digits, `-`, `_`, `.`, `/`, at most 63 bytes"))
}

pub(super) fn read_value(reader: &mut Reader, pointer: &str, value: &Value) -> Option<String> {
    let text = reader.text(pointer, value)?;
    if is_value(text) {
        return Some(text.to_owned());
    }
    let shown = shown(text);
    reader.error(
        pointer,
        format!("{shown:?} is not allowed as a value: letters, digits, `-`, `_`, `.`, `/`, at most 63 bytes"),
    )
}

fn read_toleration(reader: &mut Reader, pointer: &str, value: &Value) -> Option<Toleration> {
    let map = reader.object(pointer, value, &TOLERATION)?;
    let key = map.get("key").and_then(|value| read_key(reader, pointer, Some(value)));
    let operators = [("Equal", TolerationOperator::Equal), ("Exists", TolerationOperator::Exists)];
    let operator = field(reader, pointer, map, "operator", |r, p, v| r.choice(p, v, &operators));
    let value = field(reader, pointer, map, "value", read_value);
    let effect = field(reader, pointer, map, "effect", |r, p, v| r.choice(p, v, &EFFECTS));
    let has = |name: &str| map.contains_key(name);
    let exists = Some(TolerationOperator::Exists);
    match (has("key"), has("value")) {
        (false, true) => {
            return reader.error(&format!("{pointer}/key"), "missing; a value belongs to a key");
        }
        // Otherwise a slip of the pen would tolerate everything.
        (false, false) if operator != exists => {
            return reader.error(&format!("{pointer}/key"), "missing; to tolerate all taints, write operator: Exists");
        }
        (true, true) if operator == exists => {
            return reader.error(&format!("{pointer}/value"), "`Exists` takes no value");
        }
        (true, false) if operator == Some(TolerationOperator::Equal) => {
            return reader.error(&format!("{pointer}/value"), "`Equal` needs a value; for any value, write Exists");
        }
        (true, true | false) | (false, false) => {}
    }
    let operator = if has("value") { TolerationOperator::Equal } else { TolerationOperator::Exists };
    Some(Toleration { key, operator, value, effect })
}

fn read_min_distance(reader: &mut Reader, pointer: &str, value: &Value) -> Option<f64> {
    let km = reader.number(pointer, value)?;
    if km > 0.0 && km <= DISTANCE_KM_MAX {
        return Some(km);
    }
    reader.error(pointer, format!("{km} is not more than 0 and at most {DISTANCE_KM_MAX} km"))
}

fn read_spread(reader: &mut Reader, pointer: &str, value: &Value) -> Option<Spread> {
    let map = reader.object(pointer, value, &SPREAD)?;
    let place = format!("{pointer}/by");
    let by = match map.get("by") {
        Some(value) => read_spread_by(reader, &place, value),
        None => reader.error(&place, "missing; one of site, {regions: [..]}, cell:7"),
    };
    let max_skew = match map.get("maxSkew") {
        Some(value) => read_count(reader, &format!("{pointer}/maxSkew"), value, REPLICAS_MAX),
        None => Some(NonZeroU32::MIN),
    };
    Some(Spread { by: by?, max_skew: max_skew? })
}

fn read_spread_by(reader: &mut Reader, pointer: &str, value: &Value) -> Option<SpreadBy> {
    if value.is_object() {
        let map = reader.object(pointer, value, &SPREAD_BY)?;
        let place = format!("{pointer}/regions");
        let Some(value) = map.get("regions") else {
            return reader.error(&place, "missing; name the regions to spread over");
        };
        let regions = reader.texts(&place, value, WITHIN_MAX, Reader::label)?;
        if regions.is_empty() {
            return reader.error(&place, "empty; name at least one region to spread over");
        }
        return Some(SpreadBy::Regions(regions));
    }
    let text = reader.text(pointer, value)?;
    match SpreadBy::parse(text) {
        Some(SpreadBy::Cell(level)) if level > CELL_LEVEL_MAX => {
            reader.error(pointer, format!("cell:{level} is not one of cell:0 to cell:{CELL_LEVEL_MAX}"))
        }
        Some(by) => Some(by),
        None if text == "region" => reader.error(pointer, "which regions? write by: {regions: [a, b]}"),
        None => reader.error(pointer, format!("{:?} is not one of site, {{regions: [..]}}, cell:7", shown(text))),
    }
}

fn read_anti_affinity(reader: &mut Reader, pointer: &str, value: &Value) -> Option<AntiAffinity> {
    let map = reader.object(pointer, value, &ANTI_AFFINITY)?;
    let place = format!("{pointer}/workloads");
    let workloads = match map.get("workloads") {
        Some(value) => reader.texts(&place, value, ANTI_AFFINITY_MAX, Reader::label),
        None => reader.error(&place, "missing; name the workloads to keep away from"),
    };
    let domains = [("device", AntiAffinityDomain::Device), ("site", AntiAffinityDomain::Site)];
    let domain = field(reader, pointer, map, "domain", |r, p, v| r.choice(p, v, &domains));
    let workloads = workloads?;
    if workloads.is_empty() {
        return reader.error(&place, "empty; name at least one workload");
    }
    Some(AntiAffinity { workloads, domain: domain.unwrap_or_default() })
}
