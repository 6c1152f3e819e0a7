//! Reading of a workload's spec: limits, references between components, and the refusal of what is not built yet.
//!
//! Whether an artifact exists is not known here; the engine checks it at admission.

use super::artifact::ArtifactReference;
use super::partition_read::{check_single, read_partition};
use super::placement_read::read_placement;
use super::read::{Reader, Shape, shown};
use super::workload::{
    ComponentSpec, ComponentType, FunctionLimitsSpec, FunctionSpec, RetrySpec, Role, Triggers, Unconfirmed,
    WorkloadSpec,
};
use serde_json::{Map, Value};
use wire::limits::{
    CLAUSE_BYTES_MAX, COMPONENTS_MAX, CONFIG_INLINE_BYTES_MAX, NAME_BYTES_MAX, TOPIC_BYTES_MAX, TOPIC_FILTERS_MAX,
};
use wire::record::CapabilitySet;

pub const REPLICAS_MAX: u64 = 100_000;
/// Shortest and longest period of a timer trigger, in milliseconds.
pub const EVERY_MS: std::ops::RangeInclusive<u64> = 10..=30 * 24 * 3_600_000;
const U32: u64 = u32::MAX as u64;
const MEMORY_BYTES: std::ops::RangeInclusive<u64> = 1024..=U32;

/// The host interfaces that a function may be given.
pub const CAPABILITIES: [(&str, CapabilitySet); 9] = CapabilitySet::NAMED;

const SPEC: Shape = Shape {
    known: &[
        "type",
        "artifact",
        "function",
        "components",
        "placement",
        "replicas",
        "every",
        "partition",
        "retry",
        "unconfirmed",
    ],
    not_built: &[
        "container",
        "resources",
        "rollout",
        "secrets",
        "volumes",
        "schedule",
        "offline",
        "env",
        "ports",
        "variants",
        "health",
        "priority",
        "egress",
        "stopGrace",
    ],
};
const COMPONENT: Shape = Shape {
    known: &["name", "role", "after", "type", "artifact", "function"],
    not_built: &["container", "resources", "secrets", "volumes", "env", "ports"],
};
const FUNCTION: Shape =
    Shape { known: &["triggers", "config", "limits", "capabilities"], not_built: &["entry", "secrets"] };
const TRIGGERS: Shape = Shape { known: &["every", "topics"], not_built: &["schedule", "cron", "pins"] };
const LIMITS: Shape = Shape {
    known: &["memory", "fuel", "hostCalls", "stateBytes", "logBytes", "emitBytes", "sampleBytes"],
    not_built: &["timeout", "flash"],
};
const RETRY: Shape = Shape { known: &["attempts", "window"], not_built: &["base", "max", "jitter"] };

type Fields = Map<String, Value>;

/// Reads one field if it is there; a mistake counts as its default, since the document is refused anyway.
pub(super) fn field<T>(
    reader: &mut Reader,
    pointer: &str,
    map: &Fields,
    name: &str,
    read: impl FnOnce(&mut Reader, &str, &Value) -> Option<T>,
) -> Option<T> {
    map.get(name).and_then(|value| read(reader, &format!("{pointer}/{name}"), value))
}

pub(super) fn read_workload(reader: &mut Reader, pointer: &str, value: &Value) -> Option<WorkloadSpec> {
    let map = reader.object(pointer, value, &SPEC)?;
    let component_type = field(reader, pointer, map, "type", read_type).unwrap_or_default();
    let artifact = field(reader, pointer, map, "artifact", read_reference);
    let function = field(reader, pointer, map, "function", read_function);
    let components = field(reader, pointer, map, "components", read_components).unwrap_or_default();
    let function = match (map.contains_key("components"), map.contains_key("artifact")) {
        (true, false) if function.is_some() => {
            reader.error(&format!("{pointer}/function"), "with `components`, each component has its own `function`")
        }
        (true, false) => None,
        (false, true) => Some(function.unwrap_or_default()),
        (true, true) => reader.error(&format!("{pointer}/components"), "either `artifact` or `components`, not both"),
        (false, false) => reader.error(&format!("{pointer}/artifact"), "missing; write artifact: name@sha256:<digest>"),
    };
    let replicas = field(reader, pointer, map, "replicas", |r, p, v| r.integer(p, v, 0..=REPLICAS_MAX));
    let every = field(reader, pointer, map, "every", Reader::boolean).unwrap_or_default();
    if every && replicas.is_some() {
        reader.error::<()>(&format!("{pointer}/replicas"), "either `replicas` or `every: true`, not both");
    }
    let placement = match map.get("placement") {
        Some(value) => read_placement(reader, &format!("{pointer}/placement"), value),
        None => reader.error(&format!("{pointer}/placement"), "missing; one of within, near, labels, on says where"),
    };
    // How many `nearestPer` makes follows from the devices that it counts from; a number is only their limit.
    let follows = placement.as_ref().is_some_and(|placement| placement.nearest_per.is_some());
    let replicas = if every { None } else { replicas.or((!follows).then_some(1)) };
    let partition = field(reader, pointer, map, "partition", read_partition).unwrap_or_default();
    check_single(reader, pointer, &partition, replicas, every, placement.as_ref());
    let retry = field(reader, pointer, map, "retry", read_retry).unwrap_or_default();
    let choices = [("wait", Unconfirmed::Wait), ("run", Unconfirmed::Run)];
    let unconfirmed = field(reader, pointer, map, "unconfirmed", |r, p, v| r.choice(p, v, &choices));
    Some(WorkloadSpec {
        component_type,
        artifact,
        function,
        components,
        placement: placement?,
        replicas: replicas.and_then(|replicas| u32::try_from(replicas).ok()),
        every,
        partition,
        retry,
        unconfirmed: unconfirmed.unwrap_or_default(),
    })
}

fn read_type(reader: &mut Reader, pointer: &str, value: &Value) -> Option<ComponentType> {
    match value.as_str() {
        Some("container") => reader.not_built(pointer, "`type: container`"),
        _ => reader.choice(pointer, value, &[("function", ComponentType::Function)]),
    }
}

fn read_reference(reader: &mut Reader, pointer: &str, value: &Value) -> Option<ArtifactReference> {
    let text = reader.text(pointer, value)?;
    if let Some(reference) = ArtifactReference::parse(text) {
        return Some(reference);
    }
    if text.starts_with("oci://") {
        return reader.not_built(pointer, "`oci://`");
    }
    let shown = shown(text);
    if text.starts_with("file:") {
        return reader.error(
            pointer,
            format!("{shown:?} is a file of yours: `fulmar apply` uploads it and pins its digest; over HTTP, upload it first"),
        );
    }
    reader.error(pointer, format!("{shown:?} is not an artifact: write name@sha256:<64 lower-case hexadecimal digits>"))
}

fn read_components(reader: &mut Reader, pointer: &str, value: &Value) -> Option<Vec<ComponentSpec>> {
    let list = reader.list(pointer, value, COMPONENTS_MAX)?;
    if list.is_empty() {
        return reader.error(pointer, "empty; a workload has at least one component");
    }
    let read: Vec<Option<ComponentSpec>> =
        list.iter().enumerate().map(|(i, item)| read_component(reader, &format!("{pointer}/{i}"), item)).collect();
    let components: Vec<ComponentSpec> = read.into_iter().collect::<Option<_>>()?;
    check_order(reader, pointer, &components);
    Some(components)
}

fn read_component(reader: &mut Reader, pointer: &str, value: &Value) -> Option<ComponentSpec> {
    let map = reader.object(pointer, value, &COMPONENT)?;
    let name = match map.get("name") {
        Some(value) => reader.label(&format!("{pointer}/name"), value),
        None => reader.error(&format!("{pointer}/name"), "missing; a component needs a name"),
    };
    let roles = [("service", Role::Service), ("init", Role::Init), ("job", Role::Job)];
    let role = field(reader, pointer, map, "role", |r, p, v| r.choice(p, v, &roles)).unwrap_or_default();
    let after = field(reader, pointer, map, "after", |r, p, v| r.texts(p, v, COMPONENTS_MAX, Reader::label))
        .unwrap_or_default();
    let component_type = field(reader, pointer, map, "type", read_type).unwrap_or_default();
    let artifact = match map.get("artifact") {
        Some(value) => read_reference(reader, &format!("{pointer}/artifact"), value),
        None => reader.error(&format!("{pointer}/artifact"), "missing; write artifact: name@sha256:<digest>"),
    };
    let function = field(reader, pointer, map, "function", read_function).unwrap_or_default();
    Some(ComponentSpec { name: name?, role, after, component_type, artifact: artifact?, function })
}

/// Names are unique, `after` names others, and there is an order that satisfies all of it.
fn check_order(reader: &mut Reader, pointer: &str, components: &[ComponentSpec]) {
    for (i, component) in components.iter().enumerate() {
        if components.iter().take(i).any(|earlier| earlier.name == component.name) {
            reader.error::<()>(&format!("{pointer}/{i}/name"), format!("{:?} is taken already", component.name));
        }
        for (j, name) in component.after.iter().enumerate() {
            if !components.iter().any(|other| other.name == *name) {
                reader.error::<()>(&format!("{pointer}/{i}/after/{j}"), format!("there is no component {name:?}"));
            }
        }
    }
    let mut waiting: Vec<&ComponentSpec> = components.iter().collect();
    loop {
        let is_blocked = |c: &ComponentSpec| c.after.iter().any(|name| waiting.iter().any(|other| other.name == *name));
        let blocked: Vec<&ComponentSpec> = waiting.iter().copied().filter(|c| is_blocked(c)).collect();
        if blocked.is_empty() {
            return;
        }
        if blocked.len() == waiting.len() {
            let names: Vec<&str> = blocked.iter().map(|c| c.name.as_str()).collect();
            reader.error::<()>(pointer, format!("`after` goes in a circle: {}", names.join(", ")));
            return;
        }
        waiting = blocked;
    }
}

fn read_function(reader: &mut Reader, pointer: &str, value: &Value) -> Option<FunctionSpec> {
    let map = reader.object(pointer, value, &FUNCTION)?;
    let triggers = field(reader, pointer, map, "triggers", read_triggers).unwrap_or_default();
    let config = map.get("config").cloned().unwrap_or(Value::Null);
    let length = super::workload::config_bytes(&config).len();
    if length > CONFIG_INLINE_BYTES_MAX {
        let detail = format!("{length} bytes, at most {CONFIG_INLINE_BYTES_MAX} are carried with a workload");
        reader.error::<()>(&format!("{pointer}/config"), detail);
    }
    let limits = field(reader, pointer, map, "limits", read_limits).unwrap_or_default();
    let capabilities = field(reader, pointer, map, "capabilities", |r, p, v| {
        r.texts(p, v, CAPABILITIES.len(), |r, p, v| {
            r.choice(p, v, &CAPABILITIES.map(|(name, _)| (name, name))).map(str::to_owned)
        })
    });
    Some(FunctionSpec { triggers, config, limits, capabilities: capabilities.unwrap_or_default() })
}

fn read_triggers(reader: &mut Reader, pointer: &str, value: &Value) -> Option<Triggers> {
    let map = reader.object(pointer, value, &TRIGGERS)?;
    let every = field(reader, pointer, map, "every", |r, p, v| r.span(p, v, EVERY_MS));
    let topics = field(reader, pointer, map, "topics", |r, p, v| r.texts(p, v, TOPIC_FILTERS_MAX, read_topic))
        .unwrap_or_default();
    // Each filter is stored with a length of one byte, or two from 128 on, which the limit of one excludes.
    let bytes: usize = topics.iter().map(|topic| topic.len() + 1).sum();
    if bytes > CLAUSE_BYTES_MAX {
        let detail = format!("{bytes} bytes together, at most {CLAUSE_BYTES_MAX} fit into one record");
        reader.error::<()>(&format!("{pointer}/topics"), detail);
    }
    Some(Triggers { every, topics })
}

/// A topic, or a prefix that ends in `/#`.
fn read_topic(reader: &mut Reader, pointer: &str, value: &Value) -> Option<String> {
    let text = reader.text(pointer, value)?;
    let body = text.strip_suffix("/#").unwrap_or(text);
    if !body.is_empty() && text.len() <= TOPIC_BYTES_MAX && !body.contains(['#', '+', '\0']) {
        return Some(text.to_owned());
    }
    let shown = shown(text);
    reader.error(
        pointer,
        format!("{shown:?} is not a topic: at most {TOPIC_BYTES_MAX} bytes, no `+`, and `#` only as a last `/#`"),
    )
}

fn read_limits(reader: &mut Reader, pointer: &str, value: &Value) -> Option<FunctionLimitsSpec> {
    let map = reader.object(pointer, value, &LIMITS)?;
    let default = FunctionLimitsSpec::default();
    let whole = |reader: &mut Reader, name: &str, default: u32| {
        let read = field(reader, pointer, map, name, |r, p, v| r.integer(p, v, 1..=U32));
        read.and_then(|value| u32::try_from(value).ok()).unwrap_or(default)
    };
    let fuel = whole(reader, "fuel", default.fuel);
    let host_calls = whole(reader, "hostCalls", default.host_calls);
    let size = |reader: &mut Reader, name: &str, default, range| {
        field(reader, pointer, map, name, |r, p, v| r.size(p, v, range)).unwrap_or(default)
    };
    Some(FunctionLimitsSpec {
        memory: size(reader, "memory", default.memory, MEMORY_BYTES),
        fuel,
        host_calls,
        state_bytes: size(reader, "stateBytes", default.state_bytes, 0..=U32),
        log_bytes: size(reader, "logBytes", default.log_bytes, 0..=U32),
        emit_bytes: size(reader, "emitBytes", default.emit_bytes, 0..=U32),
        sample_bytes: size(reader, "sampleBytes", default.sample_bytes, 0..=U32),
    })
}

fn read_retry(reader: &mut Reader, pointer: &str, value: &Value) -> Option<RetrySpec> {
    let map = reader.object(pointer, value, &RETRY)?;
    let default = RetrySpec::default();
    let attempts = field(reader, pointer, map, "attempts", |r, p, v| r.integer(p, v, 1..=255));
    let window = field(reader, pointer, map, "window", |r, p, v| r.span(p, v, 1_000..=U32 * 1_000));
    Some(RetrySpec {
        attempts: attempts.and_then(|attempts| u8::try_from(attempts).ok()).unwrap_or(default.attempts),
        window: window.unwrap_or(default.window),
    })
}

const _: () = assert!(TOPIC_BYTES_MAX < 128 && NAME_BYTES_MAX < 128);
