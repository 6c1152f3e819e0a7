//! What `get` shows of each kind: one row for an object.

use crate::args::Output;
use crate::show::{age, bytes, condition, flag, labels, list, number, point, span_ms, text, time_ms};
use crate::table::Table;
use hub::model::Kind;
use serde_json::Value;

/// Characters of a hash that people can compare.
const DIGEST_CHARS: usize = 7 + 12;

/// How rows are made.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub is_wide: bool,
    pub shows_namespace: bool,
    /// Names with their kind, where several kinds are shown.
    pub shows_kind: bool,
    pub now_ms: i64,
}

impl Look {
    pub fn new(output: Output, now_ms: i64) -> Self {
        Self { is_wide: output == Output::Wide, shows_namespace: false, shows_kind: false, now_ms }
    }
}

/// A table of objects of one kind.
pub fn table(kind: Kind, items: &[Value], look: Look) -> Table {
    let mut table = Table::new(&header(kind, look));
    for item in items {
        table.row(row(kind, item, look));
    }
    table
}

pub fn header(kind: Kind, look: Look) -> Vec<&'static str> {
    let mut header = if look.shows_namespace && kind.is_namespaced() { vec!["NAMESPACE"] } else { Vec::new() };
    header.extend(narrow_header(kind));
    if look.is_wide {
        header.extend(wide_header(kind));
    }
    header
}

pub fn row(kind: Kind, item: &Value, look: Look) -> Vec<String> {
    let is_wide = look.is_wide;
    let mut cells = Vec::new();
    if look.shows_namespace && kind.is_namespaced() {
        cells.push(text(item, "/metadata/namespace"));
    }
    let name = text(item, "/metadata/name");
    cells.push(if look.shows_kind { format!("{}/{name}", kind.singular()) } else { name });
    cells.extend(match kind {
        Kind::Namespace => namespace(item, is_wide),
        Kind::Region => region(item, is_wide),
        Kind::Device => device(item, is_wide),
        Kind::Artifact => artifact(item, is_wide),
        Kind::Workload => workload(item, is_wide),
        Kind::Placement => placement(item, is_wide),
        Kind::Token => token(item, is_wide),
    });
    let place = if is_wide { cells.len() - wide_header(kind).len() } else { cells.len() };
    cells.insert(place, age(&text(item, "/metadata/creationTimestamp"), look.now_ms));
    cells
}

pub const EVENT_HEADER: [&str; 6] = ["TIME", "TYPE", "REASON", "OBJECT", "DEVICE", "MESSAGE"];

pub fn event(item: &Value) -> Vec<String> {
    let field = |name: &str| text(item, name);
    vec![
        time_ms(number(item, "/timeMs")),
        field("/type"),
        field("/reason"),
        field("/object"),
        field("/device"),
        field("/message"),
    ]
}

const fn narrow_header(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Namespace => &["NAME", "AGE"],
        Kind::Region => &["NAME", "SHAPE", "AGE"],
        Kind::Device => &["NAME", "STATE", "SEEN", "CLASS", "POSITION", "WORKLOADS", "SYNCED", "AGE"],
        Kind::Artifact => &["NAME", "DIGEST", "SIZE", "VERSIONS", "AGE"],
        Kind::Workload => &["NAME", "RUNNING", "SYNCED", "HEALTHY", "GENERATION", "DEVICES", "AGE"],
        Kind::Placement => &["NAME", "DEVICE", "STATE", "REASON", "GENERATION", "RUNNING", "AGE"],
        Kind::Token => &["NAME", "ROLE", "EXPIRES", "LAST USED", "AGE"],
    }
}

const fn wide_header(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Namespace | Kind::Region => &["LABELS"],
        Kind::Device => &["ID", "ARCHITECTURE", "AGENT", "REVISION", "WEAR", "BEHIND", "LABELS"],
        Kind::Artifact => &["REFERENCE"],
        Kind::Workload => &["ARTIFACT", "SHORTFALL", "LABELS"],
        Kind::Placement => &["DETAIL", "LABELS"],
        Kind::Token => &["LABELS"],
    }
}

fn namespace(item: &Value, is_wide: bool) -> Vec<String> {
    if is_wide { vec![labels(item)] } else { Vec::new() }
}

fn region(item: &Value, is_wide: bool) -> Vec<String> {
    let shape = if item.pointer("/spec/circle").is_some() {
        format!("circle {} km around {}", text(item, "/spec/circle/radiusKm"), point(item, "/spec/circle/center"))
    } else {
        text(item, "/spec/geometry/type").to_lowercase()
    };
    if is_wide { vec![shape, labels(item)] } else { vec![shape] }
}

/// State of a device in one word, the operator's decisions first.
pub fn device_state(item: &Value) -> String {
    let online = match (text(item, "/status/online/state"), text(item, "/status/online/verdict")) {
        (state, verdict) if state == "Unknown" && !verdict.is_empty() => format!("{state}({})", verdict.to_lowercase()),
        (state, _) => state,
    };
    if !flag(item, "/spec/approved") {
        return format!("{online},NotApproved");
    }
    if flag(item, "/spec/draining") {
        return format!("{online},Draining");
    }
    if flag(item, "/spec/cordoned") { format!("{online},Cordoned") } else { online }
}

fn device(item: &Value, is_wide: bool) -> Vec<String> {
    let seen = item.pointer("/status/online/lastSeenAgeMs").and_then(Value::as_u64).map(span_ms).unwrap_or_default();
    let workloads = list(item, "/status/workloads");
    let running = workloads.iter().filter(|workload| text(workload, "/state") == "Running").count();
    let mut cells = vec![
        device_state(item),
        seen,
        text(item, "/status/class"),
        point(item, "/status/position/point"),
        format!("{running}/{}", workloads.len()),
        text(item, "/status/revision/synced"),
    ];
    if is_wide {
        cells.extend([
            text(item, "/status/id"),
            text(item, "/status/architecture"),
            text(item, "/status/agentVersion"),
            text(item, "/status/revision/desired"),
            wear(item),
            text(item, "/status/behind"),
            labels(item),
        ]);
    }
    cells
}

/// How often the sector was erased that was erased most, for each partition of a flash that wears: `journal:12,artifacts:3`.
fn wear(item: &Value) -> String {
    let of = |wear: &Value| format!("{}:{}", text(wear, "/partition"), number(wear, "/erases"));
    list(item, "/status/wear").iter().map(of).collect::<Vec<_>>().join(",")
}

fn artifact(item: &Value, is_wide: bool) -> Vec<String> {
    let digest = text(item, "/spec/digest");
    let mut cells = vec![
        digest.chars().take(DIGEST_CHARS).collect(),
        bytes(number(item, "/spec/bytes")),
        list(item, "/spec/versions").len().to_string(),
    ];
    if is_wide {
        cells.push(format!("{}@{digest}", text(item, "/metadata/name")));
    }
    cells
}

fn token(item: &Value, is_wide: bool) -> Vec<String> {
    let mut cells = vec![text(item, "/spec/role"), text(item, "/spec/expiresAt"), text(item, "/status/lastUsed")];
    if is_wide {
        cells.push(labels(item));
    }
    cells
}

fn placement(item: &Value, is_wide: bool) -> Vec<String> {
    let mut cells = vec![
        text(item, "/spec/device"),
        text(item, "/status/state"),
        text(item, "/status/reason"),
        text(item, "/spec/generation"),
        text(item, "/status/running"),
    ];
    if is_wide {
        cells.extend([text(item, "/status/detail"), labels(item)]);
    }
    cells
}

fn workload(item: &Value, is_wide: bool) -> Vec<String> {
    let mut devices: Vec<String> = list(item, "/status/devices").iter().map(|device| text(device, "/device")).collect();
    devices.dedup();
    let omitted = number(item, "/status/devicesOmitted") + devices.len().saturating_sub(DEVICES_SHOWN) as u64;
    devices.truncate(DEVICES_SHOWN);
    if omitted > 0 {
        devices.push(format!("+{omitted}"));
    }
    let mut cells = vec![
        format!("{}/{}", number(item, "/status/running"), number(item, "/status/desired")),
        condition(item, "Synced"),
        condition(item, "Healthy"),
        text(item, "/metadata/generation"),
        devices.join(","),
    ];
    if is_wide {
        let artifact = text(item, "/spec/artifact");
        let short: String = match artifact.split_once('@') {
            Some((name, digest)) => format!("{name}@{}", digest.chars().take(DIGEST_CHARS).collect::<String>()),
            None => format!("{} components", list(item, "/spec/components").len()),
        };
        cells.extend([short, text(item, "/status/shortfall/reason"), labels(item)]);
    }
    cells
}

/// Devices that the table names; `describe` names more.
const DEVICES_SHOWN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// 2026-11-22T02:03:20Z
    const NOW: i64 = 1_795_313_000_000;

    fn devices() -> Vec<Value> {
        vec![
            json!({
                "metadata": {"name": "gw-fra-01", "creationTimestamp": "2026-11-22T01:03:20Z", "labels": {"demo": "true"}},
                "spec": {"approved": true, "cordoned": false},
                "status": {
                    "id": "abc", "class": "gateway", "architecture": "x86_64", "agentVersion": "0.1.0",
                    "online": {"state": "Online", "lastSeenAgeMs": 2100},
                    "revision": {"desired": "3.7", "accepted": "3.7", "synced": true},
                    "position": {"point": [8.6821, 50.1109]},
                    "workloads": [{"state": "Running"}, {"state": "BackOff"}]
                }
            }),
            json!({"metadata": {"name": "new"}, "spec": {}, "status": {"online": {"state": "Never"}}}),
        ]
    }

    fn look(output: Output, shows_namespace: bool) -> Look {
        Look { shows_namespace, ..Look::new(output, NOW) }
    }

    #[test]
    fn devices_in_a_table() {
        let expected = "\
NAME        STATE               SEEN   CLASS     POSITION         WORKLOADS   SYNCED   AGE
gw-fra-01   Online              2s     gateway   8.6821,50.1109   1/2         true     60m
new         Never,NotApproved   -      -         -                0/0         -        -
";
        assert_eq!(table(Kind::Device, &devices(), look(Output::Table, false)).text(), expected);
    }

    #[test]
    fn devices_in_a_wide_table() {
        let text = table(Kind::Device, &devices()[..1], look(Output::Wide, true)).text();
        let expected = "\
NAME        STATE    SEEN   CLASS     POSITION         WORKLOADS   SYNCED   AGE   ID    ARCHITECTURE   AGENT   REVISION   WEAR   BEHIND   LABELS
gw-fra-01   Online   2s     gateway   8.6821,50.1109   1/2         true     60m   abc   x86_64         0.1.0   3.7        -      -        demo=true
";
        assert_eq!(text, expected);
        let worn = json!({"status": {"wear": [{"partition": "journal", "erases": 12}, {"partition": "artifacts", "erases": 3}]}});
        let text = table(Kind::Device, &[worn], look(Output::Wide, true)).text();
        assert!(text.contains("   journal:12,artifacts:3   "), "{text}");
    }

    #[test]
    fn workloads_in_a_table_with_namespaces() {
        let devices: Vec<Value> = (0..5).map(|n| json!({"device": format!("d{n}")})).collect();
        let item = json!({
            "metadata": {"name": "hello", "namespace": "lab", "generation": 2, "creationTimestamp": "2026-11-22T02:03:00Z"},
            "spec": {"artifact": "hello@sha256:ba7816bf8f01cfea414140de5dae2223"},
            "status": {"desired": 5, "running": 4, "devices": devices, "devicesOmitted": 1, "conditions": [
                {"type": "Synced", "status": "True"}, {"type": "Healthy", "status": "False"}]}
        });
        let expected = "\
NAMESPACE   NAME    RUNNING   SYNCED   HEALTHY   GENERATION   DEVICES       AGE
lab         hello   4/5       True     False     2            d0,d1,d2,+3   20s
";
        assert_eq!(table(Kind::Workload, std::slice::from_ref(&item), look(Output::Table, true)).text(), expected);
        let wide = table(Kind::Workload, &[item], look(Output::Wide, false)).text();
        assert!(wide.contains("hello@sha256:ba7816bf8f01   -"), "{wide}");
    }

    #[test]
    fn regions_and_artifacts_in_tables() {
        let circle = json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {"circle": {"center": [8.5, 50.0], "radiusKm": 12.5}}});
        let polygon = json!({"metadata": {"name": "b"}, "spec": {"geometry": {"type": "Polygon"}}});
        let expected = "\
NAME   SHAPE                            AGE   LABELS
a      circle 12.5 km around 8.5,50.0   -     x=y
b      polygon                          -     -
";
        assert_eq!(table(Kind::Region, &[circle, polygon], look(Output::Wide, false)).text(), expected);
        let item = json!({"metadata": {"name": "hello"}, "spec": {"digest": "sha256:ba7816bf8f01cfea414140de", "bytes": 2048, "versions": [{}, {}]}});
        let expected = "\
NAME    DIGEST                SIZE    VERSIONS   AGE
hello   sha256:ba7816bf8f01   2 KiB   2          -
";
        assert_eq!(table(Kind::Artifact, &[item], look(Output::Table, false)).text(), expected);
    }
}
