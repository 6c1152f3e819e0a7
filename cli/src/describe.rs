//! `describe`: one object with its conditions, its devices or workloads, and its last events, as text for people.

use crate::args::{Global, One, Output};
use crate::client::Client;
use crate::columns::device_state;
use crate::failure::Failure;
use crate::output::{json, line, no_geojson, print, whole};
use crate::show::{age, bytes, detail, flag, labels, list, number, point, span_ms, text, time_ms};
use crate::table::Table;
use crate::target::{parse_one, with_query};
use hub::model::Kind;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Column at which values start.
const WIDTH: usize = 13;

/// Events that are shown.
const EVENTS_SHOWN: &str = "10";

pub fn run(global: &Global, args: &One) -> Result<(), Failure> {
    let target = parse_one(&args.kind, args.name.as_deref(), &global.namespace)?;
    let client = &Client::connect(global)?;
    let object = client.get(&target.path())?;
    let query = [("object", Some(target.key())), ("tail", Some(EVENTS_SHOWN.to_owned()))];
    let events = client.get(&with_query("/v1/events", &query))?;
    match global.output {
        Output::Json => print(&json(&json!({"object": object, "events": list(&events, "/items")}))),
        Output::Yaml | Output::JsonPath(_) => whole(global.output, &object).map(|_| ()),
        Output::Name => line(&target.to_string()),
        Output::GeoJson => Err(no_geojson()),
        Output::Table | Output::Wide => {
            print(&render(target.kind, &object, list(&events, "/items"), crate::show::now_ms()))
        }
    }
}

fn entry(out: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        let _ = writeln!(out, "{:WIDTH$}{value}", format!("{name}:"));
    }
}

fn block(out: &mut String, name: &str, lines: &str) {
    for (number, line) in (0usize..).zip(lines.lines()) {
        let lead = if number == 0 { format!("{name}:") } else { String::new() };
        let _ = writeln!(out, "{}", format!("{lead:WIDTH$}{line}").trim_end());
    }
}

pub fn render(kind: Kind, object: &Value, events: &[Value], now_ms: i64) -> String {
    let mut out = String::new();
    entry(&mut out, "Name", &text(object, "/metadata/name"));
    entry(&mut out, "Namespace", &text(object, "/metadata/namespace"));
    entry(&mut out, "Labels", &labels(object));
    let created = text(object, "/metadata/creationTimestamp");
    if !created.is_empty() {
        entry(&mut out, "Created", &format!("{created} ({} ago)", age(&created, now_ms)));
    }
    entry(&mut out, "Generation", &text(object, "/metadata/generation"));
    match kind {
        Kind::Device => device(&mut out, object),
        Kind::Workload => workload(&mut out, object),
        Kind::Namespace => {}
        Kind::Region | Kind::Artifact | Kind::Placement | Kind::Token => spec(&mut out, object),
    }
    let shown: Vec<String> = events.iter().map(event_line).collect();
    let shown = if shown.is_empty() { "none since the hub started".to_owned() } else { shown.join("\n") };
    block(&mut out, "Events", &shown);
    out
}

/// One event in one line.
pub fn event_line(event: &Value) -> String {
    let device = text(event, "/device");
    let mut line = format!(
        "{}  {:7}  {}  {}",
        time_ms(number(event, "/timeMs")),
        text(event, "/type"),
        text(event, "/reason"),
        text(event, "/object"),
    );
    if !device.is_empty() {
        let _ = write!(line, "  on {device}");
    }
    let _ = write!(line, "  {}", text(event, "/message"));
    line
}

fn spec(out: &mut String, object: &Value) {
    let spec = object.get("spec").map(crate::output::yaml);
    if let Some(Ok(text)) = spec {
        block(out, "Spec", &text);
    }
}

fn conditions(out: &mut String, object: &Value) {
    let lines: Vec<String> = list(object, "/status/conditions")
        .iter()
        .map(|condition| {
            let field = |name: &str| text(condition, &format!("/{name}"));
            let reason = [field("reason"), field("message")].join("  ");
            format!("{}={}  {}", field("type"), field("status"), reason.trim())
        })
        .collect();
    block(out, "Conditions", &lines.join("\n"));
}

/// The latest states and metrics, and the account of each class.
fn samples(out: &mut String, object: &Value) {
    let accounts = list(object, "/status/samples");
    if accounts.is_empty() {
        return;
    }
    let mut table = Table::new(&["CLASS", "RECEIVED", "LOST", "MISSING", "ENDS UNKNOWN"]);
    for account in accounts {
        let field = |name: &str| text(account, &format!("/{name}"));
        table.row(["class", "received", "lost", "missing", "endsUnknown"].map(field).to_vec());
    }
    block(out, "Samples", &table.text());
    let latest = list(object, "/status/latest").iter().map(|sample| {
        let field = |name: &str| text(sample, &format!("/{name}"));
        format!("{}  {} = {}", field("workload"), field("key"), field("value"))
    });
    let lines: Vec<String> = latest.collect();
    if !lines.is_empty() {
        block(out, "Latest", &lines.join("\n"));
    }
}

/// Which version runs, and what became of the one that was offered last; empty for a device that says nothing of it.
fn firmware(object: &Value) -> String {
    let Some(firmware) = object.pointer("/status/firmware") else { return String::new() };
    let mut line = format!("version {} of {}", number(firmware, "/version"), text(firmware, "/board"));
    if let Some(target) = firmware.get("target").and_then(Value::as_u64) {
        let _ = write!(line, "   version {target}: {}", text(firmware, "/phase"));
    }
    let reason = text(firmware, "/reason");
    if !reason.is_empty() {
        let _ = write!(line, "  {reason}");
    }
    line
}

fn device(out: &mut String, object: &Value) {
    let field = |pointer: &str| text(object, pointer);
    entry(out, "Id", &field("/status/id"));
    entry(
        out,
        "Class",
        &format!(
            "{}   {}   agent {}",
            field("/status/class"),
            field("/status/architecture"),
            field("/status/agentVersion")
        ),
    );
    let mut place = point(object, "/status/position/point");
    if !place.is_empty() {
        let _ = write!(
            place,
            "  +-{} m  said by the {}",
            number(object, "/status/position/uncertaintyM"),
            field("/status/positionSource")
        );
    }
    entry(out, "Where", if place.is_empty() { "not known" } else { &place });
    let mut link = device_state(object);
    if let Some(age) = object.pointer("/status/online/lastSeenAgeMs").and_then(Value::as_u64) {
        let _ = write!(link, "  last seen {} ago", span_ms(age));
    }
    entry(out, "Link", &link);
    let synced = if flag(object, "/status/revision/synced") { "in sync" } else { "not in sync" };
    let (desired, accepted) = (field("/status/revision/desired"), field("/status/revision/accepted"));
    entry(out, "Revision", &format!("desired {}   accepted {}   {synced}", or_dash(&desired), or_dash(&accepted)));
    if object.pointer("/status/capacity").is_some() {
        let amount = |free: &str, total: &str| match object.pointer(free).and_then(Value::as_u64) {
            Some(free) => format!("{} free of {}", bytes(free), bytes(number(object, total))),
            None => bytes(number(object, total)),
        };
        let memory = amount("/status/capacity/memoryFreeBytes", "/status/capacity/memoryBytes");
        let storage = amount("/status/capacity/storageFreeBytes", "/status/capacity/storageBytes");
        entry(out, "Resources", &format!("memory {memory}   storage {storage}"));
    }
    let firmware = firmware(object);
    if !firmware.is_empty() {
        entry(out, "Firmware", &firmware);
    }
    let interfaces: Vec<&str> = list(object, "/status/interfaces").iter().filter_map(Value::as_str).collect();
    if !interfaces.is_empty() {
        entry(out, "Functions", &format!("may be given {}", interfaces.join(", ")));
    }
    if object.pointer("/status/lastReset").is_some() {
        let [cause, address, said] =
            ["cause", "address", "text"].map(|name| field(&format!("/status/lastReset/{name}")));
        let at = if address.is_empty() { String::new() } else { format!(" at {address}") };
        let said = if said.is_empty() { said } else { format!(": {said}") };
        entry(out, "Last reset", &format!("{cause}{at}{said}"));
    }
    let wear: Vec<String> = list(object, "/status/wear").iter().map(wear).collect();
    if !wear.is_empty() {
        entry(out, "Flash", &wear.join("   "));
    }
    let behind = field("/status/behind");
    if !behind.is_empty() {
        entry(out, "Behind", &behind);
    }
    conditions(out, object);
    samples(out, object);
    let mut table =
        Table::new(&["NAMESPACE", "NAME", "COMPONENT", "STATE", "REASON", "GENERATION", "RESTARTS", "DETAIL"]);
    for workload in list(object, "/status/workloads") {
        let field = |name: &str| text(workload, &format!("/{name}"));
        table.row(vec![
            field("namespace"),
            field("name"),
            field("component"),
            field("state"),
            reason(workload),
            generation(workload),
            field("restarts"),
            detail(workload),
        ]);
    }
    let shown = if list(object, "/status/workloads").is_empty() { "none".to_owned() } else { table.text() };
    block(out, "Workloads", &shown);
}

/// `journal 12 erases, 3 a day`
fn wear(of: &Value) -> String {
    let erases = format!("{} {} erases", text(of, "/partition"), number(of, "/erases"));
    match of.pointer("/erasesPerDay").and_then(Value::as_u64) {
        Some(rate) => format!("{erases}, {rate} a day"),
        None => erases,
    }
}

fn workload(out: &mut String, object: &Value) {
    let field = |pointer: &str| text(object, pointer);
    entry(out, "Artifact", &field("/spec/artifact"));
    if let Some(Ok(text)) = object.pointer("/spec/placement").map(crate::output::yaml) {
        block(out, "Placement", &text);
    }
    let status = |name: &str| number(object, &format!("/status/{name}"));
    let (desired, placed, running) = (status("desired"), status("placed"), status("running"));
    entry(out, "Replicas", &format!("{desired} wanted   {placed} placed   {running} running"));
    entry(out, "Lease", &lease(object));
    if object.pointer("/status/shortfall").is_some() {
        let (missing, why) = (field("/status/shortfall/missing"), field("/status/shortfall/reason"));
        entry(out, "Shortfall", &format!("{missing} missing: {why}"));
    }
    conditions(out, object);
    let mut table = Table::new(&["DEVICE", "COMPONENT", "STATE", "REASON", "GENERATION", "RESTARTS", "DETAIL"]);
    for device in list(object, "/status/devices") {
        let field = |name: &str| text(device, &format!("/{name}"));
        table.row(vec![
            field("device"),
            field("component"),
            field("state"),
            reason(device),
            generation(device),
            field("restarts"),
            detail(device),
        ]);
    }
    let shown = if list(object, "/status/devices").is_empty() { "none".to_owned() } else { table.text() };
    block(out, "Devices", &shown);
    let omitted = number(object, "/status/devicesOmitted");
    if omitted > 0 {
        entry(out, "", &format!("and {omitted} more"));
    }
}

/// `held by gw-1   fence 3.17   55 s left   gw-2 waits`
fn lease(object: &Value) -> String {
    let field = |name: &str| text(object, &format!("/status/lease/{name}"));
    let (device, mut line) = (field("device"), String::new());
    let _ = match field("state").as_str() {
        "Held" => write!(line, "held by {device}   fence {}   {} s left", field("fence"), field("secondsLeft")),
        "Issued" => write!(line, "on its way to {device}   fence {}", field("fence")),
        "Ended" => write!(line, "nobody   {device} had it last   fence {}", field("fence")),
        _ => Ok(()),
    };
    if !field("waiting").is_empty() {
        let _ = write!(line, "   {} waits", field("waiting"));
    }
    line
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

fn reason(entry: &Value) -> String {
    let reason = text(entry, "/reason");
    if reason == "NONE" { String::new() } else { reason }
}

/// `2`, or `1>2` while generation 1 still runs.
fn generation(entry: &Value) -> String {
    let (wanted, running) = (number(entry, "/generation"), number(entry, "/running"));
    if running == 0 || running == wanted { wanted.to_string() } else { format!("{running}>{wanted}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_workload_with_a_failing_device() {
        let object = json!({
            "metadata": {"name": "hello", "namespace": "default", "generation": 2, "creationTimestamp": "2026-11-22T02:03:00Z"},
            "spec": {"artifact": "hello@sha256:ab", "placement": {"within": ["rhine-main"]}},
            "status": {
                "desired": 2, "placed": 1, "running": 0, "shortfall": {"missing": 1, "reason": "1 outside region/rhine-main"},
                "conditions": [{"type": "Healthy", "status": "False", "reason": "Failing", "message": "1 of 1 fails"}],
                "devices": [{"device": "gw-1", "state": "BackOff", "reason": "TRAPPED", "detail": "unreachable", "generation": 2, "running": 1, "restarts": 3}]
            }
        });
        let events = [
            json!({"timeMs": 1_795_313_000_000u64, "type": "Warning", "reason": "BackOff", "object": "workload/default/hello", "device": "gw-1", "message": "trapped"}),
        ];
        let expected = "\
Name:        hello
Namespace:   default
Created:     2026-11-22T02:03:00Z (20s ago)
Generation:  2
Artifact:    hello@sha256:ab
Placement:   within:
             - rhine-main
Replicas:    2 wanted   1 placed   0 running
Shortfall:   1 missing: 1 outside region/rhine-main
Conditions:  Healthy=False  Failing  1 of 1 fails
Devices:     DEVICE   COMPONENT   STATE     REASON    GENERATION   RESTARTS   DETAIL
             gw-1     -           BackOff   TRAPPED   1>2          3          unreachable
Events:      2026-11-22T02:03:20.000Z  Warning  BackOff  workload/default/hello  on gw-1  trapped
";
        assert_eq!(render(Kind::Workload, &object, &events, 1_795_313_000_000), expected);
    }

    #[test]
    fn who_holds_a_lease_and_who_waits() {
        let of = |status: Value| lease(&json!({"status": status}));
        let held = json!({"lease": {"state": "Held", "device": "gw-1", "fence": "3.17", "secondsLeft": 55, "waiting": "gw-2"}});
        assert_eq!(of(held), "held by gw-1   fence 3.17   55 s left   gw-2 waits");
        let ended = json!({"lease": {"state": "Ended", "device": "gw-1", "fence": "3.17"}});
        assert_eq!(of(ended), "nobody   gw-1 had it last   fence 3.17");
        assert_eq!(of(json!({})), "");
    }

    #[test]
    fn the_firmware_of_a_board_and_what_it_gave_back() {
        let of = |said: Value| firmware(&json!({"status": {"firmware": said}}));
        assert_eq!(of(json!({"board": "b", "version": 1, "phase": "Idle"})), "version 1 of b");
        let failed = json!({"board": "b", "version": 1, "phase": "Failed", "target": 2, "reason": "WATCHDOG"});
        assert_eq!(of(failed), "version 1 of b   version 2: Failed  WATCHDOG");
        assert_eq!(firmware(&json!({"status": {}})), "");
    }

    #[test]
    fn a_device_that_has_said_nothing_yet() {
        let object = json!({
            "metadata": {"name": "gw-1"}, "spec": {"approved": true},
            "status": {"id": "abc", "class": "gateway", "online": {"state": "Never"}, "revision": {}, "workloads": []}
        });
        let shown = render(Kind::Device, &object, &[], 0);
        assert!(
            shown.contains(
                "Where:       not known\nLink:        Never\nRevision:    desired -   accepted -   not in sync\n"
            ),
            "{shown}"
        );
        assert!(shown.ends_with("Workloads:   none\nEvents:      none since the hub started\n"), "{shown}");
    }
}
