//! A play on standard output: paragraphs for people, one line of JSON per step for programs.
//!
//! The keys of the JSON are a promise: they are only ever added to.

use super::player::{Audience, Cause, End, Step, Sum};
use super::setup::{Setup, Triggers};
use super::world::Sample;
use crate::args::Output;
use crate::failure::Failure;
use crate::output::{line, print, yaml};
use agent_nostd::function::Level;
use hub::model::decimal;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::time::Duration;

/// Bytes of a payload or value that are shown to people; JSON has all.
const SHOWN_BYTES_MAX: usize = 200;

/// Prints each step as it comes.
pub struct Screen<'a> {
    pub setup: &'a Setup,
    pub output: Output,
    /// The first failure of the function, and the line that it happened at.
    pub failed: Option<Step>,
    pub has_left: &'a dyn Fn() -> bool,
}

impl Audience for Screen<'_> {
    fn step(&mut self, step: &Step) -> Result<(), Failure> {
        if self.failed.is_none() && matches!(step.end, End::Failed { .. }) {
            self.failed = Some(step.clone());
        }
        match self.output {
            Output::Json => line(&document(step).to_string()),
            Output::Yaml => print(&format!("---\n{}", yaml(&document(step))?)),
            Output::JsonPath(template) => print(&template.render(&document(step))),
            Output::Table | Output::Wide | Output::Name | Output::GeoJson => print(&paragraph(step, self.setup)),
        }
    }

    fn has_left(&self) -> bool {
        (self.has_left)()
    }
}

const fn level(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
    }
}

const fn verb(cause: &Cause) -> &'static str {
    match cause {
        Cause::Start => "start",
        Cause::Restart => "restart",
        Cause::Reload => "reload",
        Cause::Tick => "tick",
        Cause::Event { .. } => "event",
        Cause::Stop => "stop",
    }
}

const fn outcome(end: &End) -> &'static str {
    match end {
        End::Done => "DONE",
        End::NoEntry => "NO_ENTRY",
        End::NotDelivered => "NOT_DELIVERED",
        End::TooLong => "INPUT_TOO_LONG",
        End::Over => "OVER",
        End::Failed { .. } => "FAILED",
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Text that is worth reading as text.
fn readable(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n')))
}

/// `name`, or `nameHex` when the bytes are no text.
fn put(map: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match readable(bytes) {
        Some(text) => map.insert(name.to_owned(), json!(text)),
        None => map.insert(format!("{name}Hex"), json!(hexadecimal(bytes))),
    };
}

pub fn document(step: &Step) -> Value {
    let with = |name: &str, bytes: &[u8], mut map: Map<String, Value>| {
        put(&mut map, name, bytes);
        Value::Object(map)
    };
    let one = |name: &str, value: Value| Map::from_iter([(name.to_owned(), value)]);
    let deeds = &step.deeds;
    let logs = deeds.logs.iter().map(|(severity, text)| with("text", text, one("level", json!(level(*severity)))));
    let emits = deeds.emits.iter().map(|(topic, payload)| with("payload", payload, one("topic", json!(topic))));
    let state = deeds.changes.iter().map(|(key, value)| {
        let mut map = Map::new();
        put(&mut map, "key", key);
        match value {
            Some(value) => put(&mut map, "value", value),
            None => drop(map.insert("deleted".to_owned(), json!(true))),
        }
        Value::Object(map)
    });
    let samples = deeds.samples.iter().map(|sample| match sample {
        Sample::Alarm { key, text } => json!({"class": "alarm", "key": key, "text": text}),
        Sample::State { key, text } => json!({"class": "state", "key": key, "text": text}),
        Sample::Metric { key, value, scale } => {
            json!({"class": "metric", "key": key, "value": decimal(*value, *scale)})
        }
    });
    let mut map = Map::new();
    for (name, value) in [
        ("step", json!(step.number)),
        ("line", if step.line == 0 { Value::Null } else { json!(step.line) }),
        ("atMs", json!(u64::try_from(step.at.as_millis()).unwrap_or(u64::MAX))),
        ("do", json!(verb(&step.cause))),
        ("outcome", json!(outcome(&step.end))),
        ("fuel", json!(step.fuel)),
        ("slices", json!(step.slices)),
        ("memoryBytes", json!(step.memory_bytes)),
        ("stackBytes", json!(step.stack_bytes)),
        ("logs", Value::Array(logs.collect())),
        ("emits", Value::Array(emits.collect())),
        ("state", Value::Array(state.collect())),
        ("samples", Value::Array(samples.collect())),
    ] {
        map.insert(name.to_owned(), value);
    }
    if let Cause::Event { topic, payload } = &step.cause {
        map.insert("topic".to_owned(), json!(topic));
        put(&mut map, "payload", payload);
    }
    if let End::Failed { reason, detail } = &step.end {
        map.insert("reason".to_owned(), json!(reason.reason().code()));
        map.insert("detail".to_owned(), json!(detail));
    }
    Value::Object(map)
}

/// Bytes on one line: as text, or in hexadecimal with the number that they may be.
fn shown(bytes: &[u8]) -> String {
    let cut = bytes.get(..SHOWN_BYTES_MAX).unwrap_or(bytes);
    let more = match bytes.len() - cut.len() {
        0 => String::new(),
        more => format!(" ... {more} bytes more"),
    };
    // A text may be cut inside a letter.
    let text = String::from_utf8_lossy(cut);
    if readable(bytes).is_some() {
        return format!("{}{more}", text.replace(['\n', '\t'], " "));
    }
    let number = match bytes.len() {
        1 | 2 | 4 | 8 => {
            let value = bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
            format!(" ({value})")
        }
        _ => String::new(),
    };
    format!("0x{}{more}{number}", hexadecimal(cut))
}

/// `1.5s`: exact.
fn time(at: Duration) -> String {
    hub::model::Span(u64::try_from(at.as_millis()).unwrap_or(u64::MAX)).to_string()
}

fn paragraph(step: &Step, setup: &Setup) -> String {
    let mut out = format!("{}  {}", if step.at.is_zero() { "0s".to_owned() } else { time(step.at) }, verb(&step.cause));
    if let Cause::Event { topic, payload } = &step.cause {
        let _ = write!(out, " {topic}  {}", shown(payload));
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    let mut item = |name: &str, text: &str| {
        let _ = writeln!(out, "{}", format!("    {name:<6} {text}").trim_end());
    };
    for (severity, text) in &step.deeds.logs {
        item(level(*severity), &shown(text));
    }
    for (topic, payload) in &step.deeds.emits {
        item("emit", &format!("{topic}  {}", shown(payload)));
        if setup.triggers != Triggers::Any && setup.hears(topic) {
            item("note", "it listens to this topic: on a device it would hear itself");
        }
    }
    for sample in &step.deeds.samples {
        match sample {
            Sample::Alarm { key, text } => item("alarm", &format!("{key}  {}", shown(text.as_bytes()))),
            Sample::State { key, text } => item("report", &format!("{key} = {}", shown(text.as_bytes()))),
            Sample::Metric { key, value, scale } => item("metric", &format!("{key} = {}", decimal(*value, *scale))),
        }
    }
    for (key, value) in &step.deeds.changes {
        match value {
            Some(value) => item("state", &format!("{} = {}", shown(key), shown(value))),
            None => item("state", &format!("{} removed", shown(key))),
        }
    }
    match &step.end {
        End::Done => item("done", &format!("{} fuel", step.fuel)),
        // Most functions have nothing to do when they start.
        End::NoEntry if matches!(step.cause, Cause::Start | Cause::Restart | Cause::Reload) => {}
        End::NoEntry => item("-", "the module has no entry point for this"),
        End::NotDelivered => item("-", "not delivered: no trigger of workload.yaml asks for this topic"),
        End::TooLong => item("-", "not delivered: the payload or its topic is longer than a device takes"),
        End::Over => item("-", "an init or job is over when it has started"),
        End::Failed { reason, detail } => item("failed", &format!("{}: {detail}", reason.reason().code())),
    }
    out
}

/// The last line for people.
pub fn sum(sum: &Sum, setup: &Setup) -> String {
    let limits = &setup.limits;
    let stack = match (sum.stack_bytes_max, setup.stack_bytes) {
        (Some(deepest), Some(whole)) => format!(", {deepest} of {whole} bytes of stack"),
        (_, _) => String::new(),
    };
    let failures = match sum.failures {
        0 => String::new(),
        1 => ", 1 failure".to_owned(),
        more => format!(", {more} failures"),
    };
    format!(
        "{}: {} run{} as on {}{failures}; at most {} of {} fuel, {} of {} bytes of memory{stack}\n",
        setup.name,
        sum.runs,
        if sum.runs == 1 { "" } else { "s" },
        setup.class.name(),
        sum.fuel_max,
        limits.fuel_per_activation,
        sum.memory_bytes_max,
        limits.memory_bytes,
    )
}
