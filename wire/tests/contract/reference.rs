//! `docs/reference/wire.md` says what the code does: its tables are made here from the code and its sources.
use crate::corpus::with_every_clause;
use crate::families::World;
use crate::{crate_dir, pinned};
use std::collections::BTreeMap;
use wire::clause::Clause;
use wire::frame::Kind;
use wire::status::Reason;
use wire::topic::{Down, Topic, Up};

const CLAUSE_RS: &str = include_str!("../../src/clause.rs");
const EVENT_RS: &str = include_str!("../../src/event.rs");
const HELLO_RS: &str = include_str!("../../src/hello.rs");
const JOIN_RS: &str = include_str!("../../src/join.rs");
const LIMITS_RS: &str = include_str!("../../src/limits.rs");
const RECORD_RS: &str = include_str!("../../src/record.rs");
const SAMPLE_RS: &str = include_str!("../../src/sample.rs");
const STATUS_RS: &str = include_str!("../../src/status.rs");
const TRANSFER_RS: &str = include_str!("../../src/transfer.rs");

/// Where a kind travels and what makes it true. No `_`: a new kind must be placed here.
fn travels(kind: Kind) -> (&'static str, &'static str) {
    const SIGNED: &str = "ed25519 signature";
    const TAG: &str = "tag, in the session";
    const OUTSIDE: &str = "tag, outside any session";
    match kind {
        Kind::Desired => ("down/desired", SIGNED),
        Kind::Trust => ("down/trust", SIGNED),
        Kind::Fresh | Kind::Refusal => ("down/fresh", OUTSIDE),
        Kind::Grant => ("down/grant", TAG),
        Kind::Input => ("down/input", TAG),
        Kind::Chunk => ("down/chunk", TAG),
        Kind::Command | Kind::Report | Kind::Taken | Kind::Offer => ("down/cmd", TAG),
        Kind::Hello => ("up/hello", OUTSIDE),
        Kind::Heartbeat => ("up/heartbeat", TAG),
        Kind::Status | Kind::CommandResult | Kind::Firmware => ("up/status", TAG),
        Kind::Need => ("up/need", TAG),
        Kind::Released => ("up/released", TAG),
        Kind::Event => ("up/event", TAG),
        Kind::Sample => ("up/sample", TAG),
        Kind::Log => ("up/log", TAG),
        Kind::Will => ("up/will", OUTSIDE),
        Kind::HubState => ("hub/state", "none: a hint"),
        Kind::JoinRequest => ("join/<token-id>/req", "ed25519 signature by the new device"),
        Kind::JoinAnswer => ("join/<token-id>/ans", "fingerprint in the token, sealed credential"),
    }
}

fn kinds() -> String {
    let mut out = String::from("| number | kind | topic | authentic by |\n|---|---|---|---|\n");
    for kind in Kind::ALL {
        let (topic, proof) = travels(kind);
        out.push_str(&format!("| {} | {kind:?} | `{topic}` | {proof} |\n", kind as u8));
    }
    out
}

fn topics() -> String {
    let device = World::new().device;
    let mut out = String::from("| topic | from | retained |\n|---|---|---|\n");
    let mut row = |topic: Topic, from, retained| {
        let text = topic.print("fleet").unwrap();
        let text = text.replace("/fleet/", "/<fleet>/").replace(device.text().as_str(), "<device>");
        let text = text.replace("a0a1a2a3a4a5a6a7", "<token-id>");
        out.push_str(&format!("| `{text}` | {from} | {} |\n", if retained { "yes" } else { "no" }));
    };
    Down::ALL.into_iter().for_each(|down| row(Topic::Down(device, down), "hub", down.is_retained()));
    Up::ALL.into_iter().for_each(|up| row(Topic::Up(device, up), "device", false));
    row(Topic::HubState, "hub", true);
    row(Topic::JoinRequest(crate::families::TOKEN), "joining device", false);
    row(Topic::JoinAnswer(crate::families::TOKEN), "hub", false);
    out
}

fn clause_content(clause: &Clause<'_>) -> (&'static str, &'static str) {
    match clause {
        Clause::Name(_) => ("Name", "namespace, name and component, for people"),
        Clause::Config(_) => ("Config", "configuration, inline"),
        Clause::ConfigReference(_) => ("ConfigReference", "configuration, by digest"),
        Clause::After(_) => ("After", "components that must be ready or complete before this one"),
        Clause::Every(_) => ("Every", "activation period in ms"),
        Clause::Topics(_) => ("Topics", "topic filters that activate it"),
        Clause::Limits(_) => ("Limits", "host calls, log, emit, state and sample bytes"),
        Clause::Retry(_) => ("Retry", "failures in a window after which the version counts as bad"),
        Clause::StopGrace(_) => ("StopGrace", "ms between asking to stop and cutting"),
        Clause::Unconfirmed => ("Unconfirmed", "may start new code after a boot without Fresh"),
        Clause::StopAfter(_) => ("StopAfter", "stops itself after ms without Fresh"),
        Clause::Lease(_) => ("Lease", "runs only under a grant of ms"),
        Clause::OnStale(_) => ("OnStale", "what to do after ms without Fresh"),
        Clause::Secret(_) => ("Secret", "name, version and digest of a sealed secret; repeats, ascending by name"),
        Clause::Schedule(_) => ("Schedule", "calendar expression, missed runs to catch up"),
        Clause::Trace(_) => ("Trace", "W3C trace parent, echoed"),
        Clause::Residency(_) => ("Residency", "region outside of which it must not run, grace in ms"),
        Clause::ChunkRoot(_) => ("ChunkRoot", "root over the chunk hashes of the artifact"),
        Clause::PublisherSignature(_) => ("PublisherSignature", "the publisher's signature, by digest"),
        Clause::Unknown { .. } => ("(any other)", "of a later version"),
    }
}

fn clauses() -> String {
    let mut out = String::from("| number | clause | critical by default | content |\n|---|---|---|---|\n");
    with_every_clause(|clauses| {
        for clause in clauses.iter().filter(|clause| !matches!(clause, Clause::Unknown { .. })) {
            let (name, content) = clause_content(clause);
            let critical = if clause.is_critical_by_default() { "yes" } else { "no" };
            out.push_str(&format!("| {} | {name} | {critical} | {content} |\n", clause.number()));
        }
    });
    out
}

/// The value of a product of numbers and earlier constants.
fn product(text: &str, known: &BTreeMap<String, u64>) -> u64 {
    text.split('*')
        .map(|factor| factor.trim())
        .map(|factor| factor.parse().unwrap_or_else(|_| *known.get(factor).expect("a known constant")))
        .product()
}

fn limits() -> String {
    let mut out = String::from("| limit | value | of |\n|---|---|---|\n");
    let (mut known, mut meaning) = (BTreeMap::new(), String::new());
    for line in LIMITS_RS.lines() {
        if let Some(comment) = line.strip_prefix("/// ") {
            meaning = if meaning.is_empty() { comment.to_owned() } else { format!("{meaning} {comment}") };
        } else if let Some(rest) = line.strip_prefix("pub const ") {
            let (name, rest) = rest.split_once(':').unwrap();
            let (_, value) = rest.split_once('=').unwrap();
            let value = product(value.trim_end_matches(';'), &known);
            out.push_str(&format!("| `{name}` | {value} | {} |\n", meaning.trim_end_matches('.')));
            known.insert(name.to_owned(), value);
            meaning.clear();
        }
    }
    assert_eq!(known["FRAME_BYTES_MAX"], wire::limits::FRAME_BYTES_MAX as u64);
    assert_eq!(known.len(), LIMITS_RS.matches("pub const ").count());
    out
}

fn reasons() -> String {
    let mut out = String::from("| number | reason |\n|---|---|\n");
    let all = (0..=u16::MAX).map(Reason).filter(|reason| reason.code() != "UNKNOWN");
    all.for_each(|reason| out.push_str(&format!("| {} | {} |\n", reason.0, reason.code())));
    // One that was named but got no code would be missing above.
    let named = block(STATUS_RS, "impl Reason {").matches("pub const ").count() - 1;
    assert_eq!(out.lines().count() - 2, named, "a reason without a code");
    out
}

/// The lines of a block that starts with `head`, up to the brace in the first column.
fn block<'a>(source: &'a str, head: &str) -> &'a str {
    let rest = source.split_once(head).expect("the block is there").1;
    rest.split_once("\n}").unwrap().0
}

fn bits() -> String {
    let mut out = String::from("| set | bit | name |\n|---|---|---|\n");
    for (set, source, head) in [
        ("features of a device", HELLO_RS, "impl Features {"),
        ("interfaces of a function", RECORD_RS, "impl CapabilitySet {"),
        ("asks of Fresh and Report", HELLO_RS, "impl Asks {"),
    ] {
        for line in block(source, head).lines() {
            let Some((name, value)) =
                line.trim().strip_prefix("pub const ").and_then(|rest| rest.split_once(": Self = Self("))
            else {
                continue;
            };
            let value = value.trim_end_matches(");");
            let value = value
                .strip_prefix("1 << ")
                .map_or_else(|| value.parse::<u32>().unwrap(), |bit| 1 << bit.parse::<u32>().unwrap());
            assert!(value.is_power_of_two());
            out.push_str(&format!("| {set} | {} | {name} |\n", value.trailing_zeros()));
        }
    }
    out
}

fn variants() -> String {
    let mut out = String::from("| enumeration | values from 0 |\n|---|---|\n");
    for (name, source) in [
        ("Role", RECORD_RS),
        ("Runtime", RECORD_RS),
        ("StaleAction", CLAUSE_RS),
        ("DeviceClass", HELLO_RS),
        ("Architecture", HELLO_RS),
        ("ResetCause", HELLO_RS),
        ("RefusalReason", HELLO_RS),
        ("JoinRefusal", JOIN_RS),
        ("JoinAnswer<'a>", JOIN_RS),
        ("State", STATUS_RS),
        ("Level", EVENT_RS),
        ("Class", SAMPLE_RS),
        ("Value<'a>", SAMPLE_RS),
        ("Want", TRANSFER_RS),
        ("Action", TRANSFER_RS),
        ("CommandOutcome", TRANSFER_RS),
    ] {
        let names: Vec<String> = block(source, &format!("pub enum {name} {{"))
            .lines()
            .filter_map(|line| line.strip_prefix("    ").filter(|line| line.starts_with(char::is_uppercase)))
            .map(|line| line.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect())
            .collect();
        assert!(names.len() > 1, "{name}");
        out.push_str(&format!("| {} | {} |\n", name.trim_end_matches("<'a>"), names.join(", ")));
    }
    out
}

#[test]
fn the_reference_says_what_the_code_does() {
    let path = crate_dir().join("../docs/reference/wire.md");
    let mut text = std::fs::read_to_string(&path).unwrap();
    for (name, table) in [
        ("kinds", kinds()),
        ("topics", topics()),
        ("clauses", clauses()),
        ("limits", limits()),
        ("reasons", reasons()),
        ("bits", bits()),
        ("enumerations", variants()),
    ] {
        let begin = format!("<!-- begin {name}: from the code -->\n");
        let end = format!("<!-- end {name} -->");
        let start = text.find(&begin).unwrap_or_else(|| panic!("no table of {name}")) + begin.len();
        let stop = start + text[start..].find(&end).unwrap_or_else(|| panic!("the table of {name} does not end"));
        text.replace_range(start..stop, &table);
    }
    pinned(&path, &text).unwrap_or_else(|problem| panic!("{problem}"));
}
