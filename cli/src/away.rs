//! Devices that are away: what waits for them, their last word, and saying that they are lost.

use crate::args::{Global, Output, Queue, QueueVerb};
use crate::client::Client;
use crate::columns::device_state;
use crate::device::target;
use crate::failure::Failure;
use crate::output::{line, print, say, whole};
use crate::show::{bytes, list, number, point, span_ms, text};
use crate::table::Table;
use crate::target::with_query;
use serde_json::{Value, json};
use std::fmt::Write as _;

pub fn confirm_loss(global: &Global) -> Result<(), Failure> {
    let answer = Client::connect(global)?.post("/v1/hub/confirm-loss", &json!({}))?;
    if whole(global.output, &answer)? {
        return Ok(());
    }
    match answer["confirmed"].as_bool() {
        Some(true) => line(&format!("{} devices count as lost", number(&answer, "/devices"))),
        Some(false) | None => line("nothing to confirm: no verdict is held back"),
    }
}

pub fn queue(global: &Global, args: &Queue) -> Result<(), Failure> {
    match &args.verb {
        None => show(global, args.on.as_deref()),
        Some(QueueVerb::Cancel { id }) => change(global, id, "cancel", "is withheld until the workload changes"),
        Some(QueueVerb::Restore { id }) => change(global, id, "restore", "is no longer withheld"),
    }
}

fn show(global: &Global, device: Option<&str>) -> Result<(), Failure> {
    let device = device.map(|name| target(name).name);
    let answer = Client::connect(global)?.get(&with_query("/v1/queue", &[("device", device)]))?;
    if whole(global.output, &answer)? {
        return Ok(());
    }
    let items = list(&answer, "/items");
    if global.output == Output::Name {
        return items.iter().try_for_each(|item| line(&text(item, "/id")));
    }
    if items.is_empty() {
        say("nothing waits for a device that is away");
        return Ok(());
    }
    print(&table(items).text())?;
    let omitted = number(&answer, "/omitted");
    if omitted > 0 {
        say(&format!("and {omitted} more; ask for one device with --on"));
    }
    Ok(())
}

fn table(items: &[Value]) -> Table {
    let mut table = Table::new(&["ID", "ACTION", "GENERATION", "AGE", "CANCEL", "DETAIL"]);
    for item in items {
        let age = item["ageMs"].as_u64().map(span_ms).unwrap_or_default();
        let can_cancel = if item["canCancel"].as_bool() == Some(true) { "yes" } else { "no" };
        table.row(vec![
            text(item, "/id"),
            text(item, "/action"),
            generations(item),
            age,
            can_cancel.to_owned(),
            text(item, "/detail"),
        ]);
    }
    table
}

/// `2`, `1>2`, or `2>` for what goes.
fn generations(item: &Value) -> String {
    match (item["from"].as_u64(), item["to"].as_u64()) {
        (Some(from), Some(to)) => format!("{from}>{to}"),
        (Some(from), None) => format!("{from}>"),
        (None, Some(to)) => to.to_string(),
        (None, None) => String::new(),
    }
}

fn change(global: &Global, id: &str, verb: &str, done: &str) -> Result<(), Failure> {
    let document = Client::connect(global)?.post(&format!("/v1/queue/{verb}"), &json!({"id": id}))?;
    match global.output {
        Output::Json | Output::JsonPath(_) => whole(global.output, &document).map(|_| ()),
        Output::Name => line(id),
        Output::Table | Output::Wide | Output::Yaml | Output::GeoJson => {
            line(&format!("{id} {done}"))?;
            if verb == "cancel" {
                say(&format!("Next:  fulmar queue restore {id}    (to give it after all)"));
            }
            Ok(())
        }
    }
}

pub fn snapshot(global: &Global, name: &str) -> Result<(), Failure> {
    let target = target(name);
    let answer = Client::connect(global)?.get(&format!("{}/snapshot", target.path()))?;
    if whole(global.output, &answer)? {
        return Ok(());
    }
    match global.output {
        Output::Name => line(&target.to_string()),
        _ => print(&page(&answer)),
    }
}

fn page(answer: &Value) -> String {
    let mut out = String::new();
    let mut add = |name: &str, value: String| {
        let _ = writeln!(out, "{:13}{value}", format!("{name}:"));
    };
    // In the form of a device's document, which says its state.
    let state = device_state(&json!({"spec": {"approved": true}, "status": {"online": answer["online"]}}));
    let seen = answer["online"]["lastSeenAgeMs"].as_u64();
    let seen = seen.map(|age| format!("  last seen {} ago", span_ms(age))).unwrap_or_default();
    add("Device", text(answer, "/device"));
    add("Link", format!("{state}{seen}"));
    let Some(age) = answer["ageMs"].as_u64() else {
        add("Taken", "never: it has not spoken since the hub started".to_owned());
        return out;
    };
    add("Taken", format!("{} ({} ago)", text(answer, "/takenAt"), span_ms(age)));
    add("Accepted", text(answer, "/accepted"));
    add("Uptime", span_ms(number(answer, "/uptimeS").saturating_mul(1000)));
    let free = |name: &str| bytes(number(answer, name));
    add("Free", format!("memory {}   storage {}", free("/memoryFreeBytes"), free("/storageFreeBytes")));
    if answer["position"].is_object() {
        let at = point(answer, "/position/point");
        let (metres, age) = (number(answer, "/position/uncertaintyM"), number(answer, "/position/ageMs"));
        add("Where", format!("{at}  +-{metres} m  {} ago", span_ms(age)));
    }
    let mut table = Table::new(&["NAMESPACE", "NAME", "COMPONENT", "STATE", "REASON", "GENERATION", "DETAIL"]);
    for entry in list(answer, "/entries") {
        let field = |name: &str| text(entry, name);
        let reason = field("/reason");
        table.row(vec![
            field("/namespace"),
            field("/name"),
            field("/component"),
            field("/state"),
            if reason == "NONE" { String::new() } else { reason },
            field("/generation"),
            field("/detail"),
        ]);
    }
    let shown = if list(answer, "/entries").is_empty() { "none\n".to_owned() } else { table.text() };
    for (number, row) in (0usize..).zip(shown.lines()) {
        let lead = if number == 0 { "Workloads:" } else { "" };
        let _ = writeln!(out, "{}", format!("{lead:13}{row}").trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_in_a_table() {
        let items = [
            json!({"id": "gw-1:default/hello", "action": "add", "to": 2, "ageMs": 240_000, "canCancel": true}),
            json!({"id": "gw-1:default/old", "action": "remove", "from": 7, "canCancel": false, "detail": "the workload was deleted"}),
            json!({"id": "gw-1:default/air", "action": "update", "from": 1, "to": 3, "ageMs": 0, "canCancel": false}),
            json!({"id": "gw-2", "action": "set", "canCancel": false, "detail": "3 workloads"}),
        ];
        let expected = "\
ID                   ACTION   GENERATION   AGE   CANCEL   DETAIL
gw-1:default/hello   add      2            4m    yes      -
gw-1:default/old     remove   7>           -     no       the workload was deleted
gw-1:default/air     update   1>3          0s    no       -
gw-2                 set      -            -     no       3 workloads
";
        assert_eq!(table(&items).text(), expected);
    }

    #[test]
    fn a_last_word_says_how_old_it_is() {
        let answer = json!({
            "device": "gw-1", "online": {"state": "Unknown", "verdict": "Lost", "lastSeenAgeMs": 240_000},
            "takenAt": "2026-11-26T05:00:00Z", "ageMs": 300_000, "accepted": "3.7", "uptimeS": 7200,
            "memoryFreeBytes": 1_048_576, "storageFreeBytes": 2_097_152,
            "position": {"point": [8.6, 50.1], "uncertaintyM": 12, "ageMs": 300_000},
            "entries": [{"namespace": "default", "name": "hello", "component": 0, "state": "Running", "reason": "NONE", "generation": 2, "running": 2, "restarts": 0}]
        });
        let expected = "\
Device:      gw-1
Link:        Unknown(lost)  last seen 4m ago
Taken:       2026-11-26T05:00:00Z (5m ago)
Accepted:    3.7
Uptime:      2h
Free:        memory 1 MiB   storage 2 MiB
Where:       8.6,50.1  +-12 m  5m ago
Workloads:   NAMESPACE   NAME    COMPONENT   STATE     REASON   GENERATION   DETAIL
             default     hello   0           Running   -        2            -
";
        assert_eq!(page(&answer), expected);
        let silent = json!({"device": "gw-1", "online": {"state": "Never"}, "entries": []});
        assert_eq!(
            page(&silent),
            "Device:      gw-1\nLink:        Never\nTaken:       never: it has not spoken since the hub started\n"
        );
    }
}
